"""All recipes of the catalogue by name, the same with other settings, and recipes of one's own from files."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote, unquote

from mmlib.checks import look_up
from mmlib.files import parse_yaml, read_yaml
from mmlib.runs.catalogue import (
    birds,
    faces,
    hand_street,
    hand_street_text,
    mnist_svhn,
    mnist_svhn_text,
    multi,
)
from mmlib.runs.recipe import PROSE, Recipe, from_dict

CATALOGUE = [
    recipe
    for module in (hand_street, hand_street_text, multi, birds, faces, mnist_svhn, mnist_svhn_text)
    for recipe in module.RECIPES
]
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in CATALOGUE}
if len(RECIPES) < len(CATALOGUE):
    raise ValueError("two recipes of the catalogue have one name; expected one recipe a name")
LISTED = "python -m mmlib recipes"


def get(recipe: Recipe | str) -> Recipe:
    """The recipe of that name, of a file ``*.yaml``, or one of both varied; a recipe itself is given back.

    Raises:
        ValueError: if there is none, saying the nearest names; else as :func:`read` and :func:`vary`.
    """
    if isinstance(recipe, Recipe):
        return recipe
    base, *settings = re.split(r"\+(?=[\w.]+=)", recipe) if isinstance(recipe, str) else [recipe]
    own = isinstance(base, str) and base.endswith((".yaml", ".yml"))
    found = read(base) if own else look_up("recipe", base, RECIPES, LISTED)
    pairs = (setting.split("=", 1) for setting in settings)
    return vary(found, {key: parse_yaml(unquote(text)) for key, text in pairs}) if settings else found


def vary(recipe: Recipe, changes: Mapping[str, object]) -> Recipe:
    """The recipe with other values in some fields, or in options such as ``model_options.k``; its name says which.

    Raises:
        ValueError: for a field that there is not or that decides no number, or a value that does not fit.
    """
    values, texts = recipe.as_dict(), {key: _text(changes[key]) for key in sorted(changes)}
    settable = {entry.name: entry for entry in fields(Recipe) if entry.name not in PROSE}
    for key in texts:
        field, dot, option = key.partition(".")
        look_up("set", field, settable, f"{LISTED} {recipe.name}")
        place, entry = (values[field], option) if dot else (values, field)
        if not entry or not isinstance(place, dict):
            raise ValueError(
                f"set is {key!r}; expected a field, or an option of model_options or data_options"
            )
        place[entry] = changes[key]
    name = "".join([recipe.name, *(f"+{key}={quote(text, safe=',')}" for key, text in texts.items())])
    source = ", ".join([f"{recipe.name}, varied", *(f"{key} = {text}" for key, text in texts.items())])
    return _checked({**values, "name": name, "source": source, "faithful": False})


def read(path: Path | str) -> Recipe:
    """A recipe of one's own: a YAML file that maps fields of a recipe to values.

    Raises:
        ValueError: for whatever is damaged, unknown or does not fit: names file, field and reason.
        FileNotFoundError: if there is no such file.
    """
    values = read_yaml(path)
    try:
        if not isinstance(values, dict):
            raise ValueError(f"it holds {type(values).__name__}; expected one mapping of fields to values")
        recipe = _checked({"source": "one's own", **values})
        if recipe.name in RECIPES or not re.fullmatch(r"\w[\w.-]*", recipe.name):
            expected = "letters, digits, dots and hyphens, and none of the catalogue"
            raise ValueError(f"name is {recipe.name!r}; expected {expected}")
        return recipe
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def check_listed(recipe: Recipe) -> None:
    """Refuse, by ValueError, to publish what a recipe made that is varied, one's own, or a former one of its name."""
    if recipe.name not in RECIPES or RECIPES[recipe.name].hash != recipe.hash:
        raise ValueError(f"{recipe.name} is no recipe of the catalogue; only results of those are published")


def _checked(values: dict) -> Recipe:
    from mmlib.runs.build import check

    plain = json.dumps(values, default=repr)  # what JSON lacks, such as dates, becomes text
    return check(from_dict(json.loads(plain)))


def _text(value) -> str:
    """The shortest text that stands for a value in YAML."""
    plain = isinstance(value, str) and re.fullmatch("[a-z_]+", value) and parse_yaml(value) == value
    return value if plain else json.dumps(value, separators=(",", ":"), default=repr)
