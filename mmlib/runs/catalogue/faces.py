"""Recipes on faces with attributes, drawn ones and CelebA: the models of the mmJSD supplement with private codes."""

from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []
SOURCE = "Sutter et al. 2020, supplement, Figures 5 to 7 and Table 15, {}"
# 32 + 32 numbers of private and shared code, beta 2.5, of private codes twice that. A text weighs 12,288 / 256 = 48, as
# the sizes of image and text. (The released code leaves the three colours out, and has 16.)
CODES = {"scale": "log_variance", "beta": 2.5, "style_dim": 32, "style_beta": 2.0}
SETTINGS = {"latent_dim": 64, "learning_rate": 1e-3}
# Weights of the divergence as in the released code; what is left, 0.30, is the prior's. The paper's MMVAE draws one
# code a row, from one of the experts, and has the mean of their KLs: MoPoE whose subsets are the single modalities.
MODELS = {
    "mvae": ("mvae", {}),
    "mmvae": ("mopoe", {"subsets": [["image"], ["text"]]}),
    "mopoe": ("mopoe", {}),
    "mmjsd": ("mmjsd", {"weights": 0.35}),
}
# MoPoE is not in these figures: it stands beside the others.
OWN = "the book's own: MoPoE beside the rows of Sutter et al. 2020, supplement, Figures 6 and 7"
SMALL = {"networks": "faces-small", "batch_size": 64, "likelihood_rows": 50, "likelihood_k": 100}
DRAWN = "drawn faces, networks an eighth as wide without batch norm and dropout, 3,000 steps"
TENK = "celeba10k (8,000 half-size pictures for training), networks a quarter as wide without batch norm and dropout"


def _add(name: str, model: str, source: str, options: dict, **settings) -> None:
    RECIPES.append(Recipe(name, model, source=source, model_options=CODES | options, **SETTINGS | settings))


for _name, (_model, _options) in MODELS.items():
    _source = OWN if _name == "mopoe" else SOURCE.format(f"{_name.upper()} (MS)")
    _drawn = {"dataset": "faces", "width": 0.125, "steps": 3_000, "reduced": DRAWN}
    _add(f"faces-{_name}-styles", _model, f"{_source}; as a direction", _options, **SMALL | _drawn)
    if _name == "mmjsd":  # all 64 numbers are shared: what private codes cost
        _none = {"style_dim": 0, "style_beta": 1.0}
        _ours = "the book's own: mmJSD without private codes"
        _add(f"faces-{_name}", _model, _ours, _options | _none, **SMALL | _drawn)
    # 100 epochs over 162,770 faces in batches of 256: 635 complete batches an epoch. MVAE's unimodal terms are not
    # weighted there. The small networks follow all other settings, too, but for the length of training.
    _paper = _options | ({"weigh_partial_terms": False} if _name == "mvae" else {})
    _tenk = {"dataset": "celeba", "data_options": {"pictures": "subset"}, "width": 0.25, "steps": 3_000}
    _less = f"{TENK}, 3,000 steps of 64 rows in place of 63,500 of 256"
    _add(
        f"celeba10k-{_name}-styles",
        _model,
        f"{_source}; as a direction",
        _paper,
        reduced=_less,
        **SMALL | _tenk,
    )
    _whole = {
        "dataset": "celeba",
        "data_options": {"pictures": "official"},
        "networks": "faces",
        "batch_size": 256,
    }
    _more = {"steps": 63_500, "faithful": _name != "mopoe", "likelihood_rows": 100}
    _add(f"celeba-{_name}-styles", _model, f"{_source}; released code where silent", _paper, **_whole | _more)
