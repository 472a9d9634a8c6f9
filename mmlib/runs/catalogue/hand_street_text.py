"""Recipes on hand-street-text, three embedded modalities: one protocol for all models, and sweeps of mmJSD."""

from mmlib.runs.catalogue.hand_street import SETTINGS
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []
REDUCED = "embedded digits of 16x16 pixels, networks of half width, 3,000 steps, K = 200 for likelihoods"
PROTOCOL = {**SETTINGS, "dataset": "hand-street-text", "reduced": REDUCED, "width": 0.5, "steps": 3_000}
PROTOCOL |= {"likelihood_rows": 100, "likelihood_k": 200}
SOURCE = "Sutter et al. 2020, supplement, {}, on the book's own, embedded data"
TABLES = "Tables 9 to 11"


def _add(name: str, model: str, shows: str = TABLES, **options) -> None:
    source = SOURCE.format(shows)
    RECIPES.append(
        Recipe(f"hand-street-text-{name}", model, source=source, model_options=options, **PROTOCOL)
    )


# Normal posteriors and a fixed prior throughout, so that models differ in what they combine and nothing else.
MODELS = {
    "mvae": {},
    "mmvae": {"posterior": "normal", "scale": "softplus", "learn_prior": False},
    "mopoe": {},
    "mmjsd": {},
}
for _model, _options in MODELS.items():
    _add(_model, _model, **_options)
    _add(f"{_model}-styles", _model, **_options, style_dim=4)  # the paper's sizes: 4 and 16 of 20 numbers

# A contrast added to each, by no paper. JMVAE and tELBO have no encoder for two of three, MMALI decodes no symbols.
CONTRASTED = {
    "mvae": {"contrast_k": 2},  # with one draw of one component CUBO and IWAE are the same number
    "mmvae": MODELS["mmvae"] | {"objective": "iwae"},
    "mopoe": {},
    "mmjsd": {"gamma": 9.0},  # as on two modalities
}
for _model, _options in CONTRASTED.items():
    RECIPES.append(
        Recipe(
            f"hand-street-text-ci-{_model}",
            f"contrastive_{_model}",
            source="the book's own: beside Sutter et al. 2020, supplement, Tables 9 to 11, on embedded data",
            model_options=_options,
            **PROTOCOL,
        )
    )

# MEME, which nobody has tried on three modalities: one facing a mixture or a product of the others. Three fresh codes
# where the released code takes ten: a step makes 45 decodes a row, with ten it would make 108.
JOY = "Joy et al. 2022, Eq. 11, with a {} of the others, on the book's own, embedded data"
for _kind in ("mixture", "product"):
    _options = {"k": 3, "alpha": 10.0, "kl": "analytic", "combination": _kind}
    RECIPES.append(
        Recipe(
            f"hand-street-text-meme-{_kind}",
            "meme",
            source=JOY.format(_kind),
            model_options=_options,
            **PROTOCOL | {"reduced": f"{REDUCED}, K = 3 in training"},
        )
    )

for _beta in (0.5, 2.0, 5.0):
    _add(f"mmjsd-beta-{_beta:g}", "mmjsd", "Figure 1", beta=_beta)
for _style in (2, 8):
    _add(f"mmjsd-styles-{_style}", "mmjsd", "Figure 3", style_dim=_style)
for _weight in (5.0, 15.0):  # of the styles' KL: the paper's is 15, of which its beta is 5
    _add(f"mmjsd-styles-beta-{_weight:g}", "mmjsd", "Section C.3.2", style_dim=4, style_beta=_weight)
for _prior in (0.1, 0.4, 0.7):
    _add(f"mmjsd-prior-{_prior:g}", "mmjsd", "Figure 4", weights=round((1 - _prior) / 3, 4))
