"""Recipes on hand-street, the embedded pair: minutes on one thread."""

from mmlib.runs.catalogue.settings import BINARY, QUICK, SHORT
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []


def _add(name: str, model: str, source: str, reduced: str, **settings) -> None:
    settings |= {"dataset": "hand-street", "source": source, "reduced": reduced, "width": 0.5}
    RECIPES.append(Recipe(f"hand-street-{name}", model, **settings))


OWN = ("the book's own, embedded data", "embedded digits of 16x16 pixels, networks of half width")
SETTINGS = {"batch_size": 64, "learning_rate": 2e-3}
for _name in ("jmvae", "telbo"):
    _add(_name, _name, *OWN, steps=4_000, model_options={"joint_encoder": "features"}, **SETTINGS)
for _name in ("mvae", "mopoe", "mmjsd"):
    _add(_name, _name, *OWN, steps=4_000, **SETTINGS)
_add("mmvae-elbo", "mmvae", *OWN, steps=4_000, model_options={"objective": "elbo"}, **SETTINGS)
for _objective in ("iwae", "iwae_looser"):
    for _estimator in ("plain", "squared", "normalised"):
        _name = f"mmvae-{_objective.replace('_', '-')}-{_estimator}"
        _options = {"objective": _objective, "estimator": _estimator, "k": 4}
        _add(_name, "mmvae", *OWN, steps=2_000, model_options=_options, **SETTINGS)

# MMALI: colour images as vectors and a smaller singular value: convolutions learn more slowly here at twice the cost,
# and with 2 the model forgets a class. Without styles the content has all 20 numbers.
FLAT = {"layers": "flat", "width": 0.5, "multiplier": 1.5, **BINARY}
SOURCE = "Chen and Zhu 2022, Tables 2 and 3{}, on the book's own, embedded data"
for _name, _style, _text in (("", {}, ""), ("-shared", {"style_dim": 0}, ", one shared code and no styles")):
    _prose = (SOURCE.format(_text), SHORT.format(16, 16, "5,000"))
    _add(f"mmali{_name}", "mmali", *_prose, steps=5_000, model_options=FLAT | _style, **QUICK)
