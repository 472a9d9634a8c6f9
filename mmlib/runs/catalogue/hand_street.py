"""Recipes on hand-street, the embedded pair: minutes on one thread."""

from mmlib.runs.catalogue.settings import BINARY, QUICK, SHORT
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []
SETTINGS = {
    "dataset": "hand-street",
    "source": "the book's own, embedded data",
    "reduced": "embedded digits of 16x16 pixels, networks of half width",
    "width": 0.5,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "steps": 4_000,
}


def _add(name: str, model: str, **changes) -> None:
    RECIPES.append(Recipe(**{**SETTINGS, "name": f"hand-street-{name}", "model": model, **changes}))


_add("jmvae", "jmvae", model_options={"joint_encoder": "features"})
_add("mvae", "mvae")
_add("mmvae-elbo", "mmvae", model_options={"objective": "elbo"})
for _objective in ("iwae", "iwae_looser"):
    for _estimator in ("plain", "squared", "normalised"):
        _add(
            f"mmvae-{_objective.replace('_', '-')}-{_estimator}",
            "mmvae",
            model_options={"objective": _objective, "estimator": _estimator, "k": 4},
            steps=2_000,
        )


# --- MMALI -----------------------------------------------------------------------------------------------------------
# Colour images as vectors and a smaller singular value: convolutions learn more slowly here at twice the cost, and
# with 2 the model forgets a class. Without styles the content has all 20 numbers.

FLAT = {"layers": "flat", "width": 0.5, "multiplier": 1.5}
for _suffix, _style, _note in (
    ("", {}, ""),
    ("-shared", {"style_dim": 0}, ", one shared code and no styles"),
):
    RECIPES.append(
        Recipe(
            name=f"hand-street-mmali{_suffix}",
            model="mmali",
            dataset="hand-street",
            source=f"Chen and Zhu 2022, Tables 2 and 3{_note}, on the book's own, embedded data",
            reduced=SHORT.format(16, 16, "5,000"),
            model_options={**FLAT, **BINARY, **_style},
            width=0.5,
            steps=5_000,
            **QUICK,
        )
    )
