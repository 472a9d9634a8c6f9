"""Recipes on MNIST-SVHN-Text, the data of the mmJSD supplement, and what two cores can show of them."""

from mmlib.runs.catalogue.settings import HELD_OUT
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []
SOURCE = "Sutter et al. 2020, supplement, Tables 8 to 11, {}; released code where the text is silent"

# 50 epochs, with styles 100, over 56,068 x 20 triples in batches of 256: 4,380 complete batches an epoch. Variances are
# exponentials there; beta is 5, and a style's KL weighs 3 times that, of the text 15 times. Not faithful: networks of
# SVHN are those of Shi et al. 2021, not Table 6's, and the text has a likelihood that rises with its logits.
NETWORKS = "networks of SVHN as in Shi et al. 2021"
WHOLE = {"reduced": f"{HELD_OUT}; {NETWORKS}", "data_options": {"svhn": "official", "dm": 20}}
LESS = {"data_options": {"svhn": "subset", "dm": 20}, "steps": 6_000, "likelihood_rows": 100}
SMALL = "svhn10k (7,000 SVHN digits for training), 6,000 steps in place of {:,}"
BETA = {"scale": "log_variance", "beta": 5.0}
STYLES = {"style_dim": 4, "style_beta": {"mnist": 3.0, "svhn": 3.0, "text": 15.0}}
# The paper's MMVAE draws one code a row, from one of the experts, and has the mean of their KLs: that is MoPoE whose
# subsets are the single modalities. The importance-weighted one is MMVAE as it is here.
SINGLE = {"subsets": [["mnist"], ["svhn"], ["text"]]}
IWAE = {"posterior": "normal", "scale": "log_variance", "learn_prior": False, "objective": "iwae", "k": 30}


def _add(name: str, model: str, epochs: int, options: dict, small: bool = False) -> None:
    row = SOURCE.format(name.upper())
    settings = {"dataset": "mnist-svhn-text", "batch_size": 256, "model_options": options}
    steps = epochs * 4_380
    RECIPES.append(Recipe(f"mnist-svhn-text-{name}", model, source=row, steps=steps, **settings, **WHOLE))
    if small:
        less = {"source": f"{row}; as a direction", "reduced": SMALL.format(steps), **settings, **LESS}
        RECIPES.append(Recipe(f"svhn10k-text-{name}", model, **less))


_models = {"mvae": {"weigh_partial_terms": False}, "mmvae": SINGLE, "mmjsd": {}}
for _name, _options in _models.items():
    _model = "mopoe" if _name == "mmvae" else _name
    _add(_name, _model, 50, BETA | _options, small=True)
    _add(f"{_name}-styles", _model, 100, BETA | _options | STYLES, small=True)
_add("mmvae-i30", "mmvae", 30, IWAE)
