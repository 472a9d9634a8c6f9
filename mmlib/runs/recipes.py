"""All recipes of the catalogue, by name."""

from mmlib.runs.catalogue import hand_street, mnist_svhn, multi
from mmlib.runs.recipe import Recipe

CATALOGUE = [*hand_street.RECIPES, *multi.RECIPES, *mnist_svhn.RECIPES]
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in CATALOGUE}
if len(RECIPES) < len(CATALOGUE):
    raise ValueError("two recipes of the catalogue have one name; expected one recipe a name")


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: if there is none; lists the known ones.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe is {name!r}; expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
