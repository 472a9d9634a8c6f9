"""All recipes of the catalogue, by name."""

from mmlib.checks import look_up
from mmlib.runs.catalogue import hand_street, mnist_svhn, multi
from mmlib.runs.recipe import Recipe

CATALOGUE = [*hand_street.RECIPES, *multi.RECIPES, *mnist_svhn.RECIPES]
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in CATALOGUE}
if len(RECIPES) < len(CATALOGUE):
    raise ValueError("two recipes of the catalogue have one name; expected one recipe a name")


def get(recipe: Recipe | str) -> Recipe:
    """The recipe of that name; a recipe itself is given back.

    Raises:
        ValueError: if there is none; says the nearest names.
    """
    if isinstance(recipe, Recipe):
        return recipe
    return look_up("recipe", recipe, RECIPES, "python -m mmlib recipes")
