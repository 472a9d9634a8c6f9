"""Recipes on MNIST-SVHN: every row that the papers report of the methods here, and what two cores can show of it."""

from mmlib.runs.catalogue.settings import GAUSSIAN, HELD_OUT, MULTIWAY, PAPER, QUICK, RELEASED
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []
OFFICIAL, SUBSET = {"svhn": "official", "dm": 30}, {"svhn": "subset", "dm": 30}
SHARES = {100: ("", {}), 20: ("-20", {"fraction": 0.2})}


def _add(name: str, model: str, source: str, **settings) -> None:
    RECIPES.append(Recipe(name=name, model=model, dataset="mnist-svhn", source=source, **settings))


# Shi et al. 2021, Table 1. 30 epochs over 56,068 x 30 pairs in batches of 128: 13,140 complete batches an epoch; with a
# fifth of each unimodal set, 11,213 x 30 pairs and 2,628 batches. What that paper leaves open is as in Shi et al. 2019.
SHI = {"reduced": HELD_OUT, "faithful": True, "amsgrad": True}
SHI_ROW = "Shi et al. 2021, Table 1, {}, {} % of the data, as {}"
LOOSER_30 = {"objective": "iwae_looser", "estimator": "normalised", "k": 30}
JMVAE = {"joint_encoder": "images", "alpha": 0.1}
SHI_MODELS = {
    "mmvae": (LOOSER_30, "the released code's gradient"),
    "mvae": ({}, "sum of the ELBOs; its K is not stated for MVAE"),
    "jmvae": (JMVAE, "alpha 0.1 and one draw: not stated there"),
}
for _model, (_options, _open) in SHI_MODELS.items():
    for _share, (_suffix, _part) in SHARES.items():
        _source = SHI_ROW.format(_model.upper(), _share, f"Shi et al. 2019; {_open}")
        _settings = {"data_options": OFFICIAL | _part, "steps": 30 * (2_628 if _part else 13_140), **SHI}
        _add(f"mnist-svhn{_suffix}-{_model}", _model, _source, model_options=_options, **_settings)

# Their contrastive forms, cI and cC: N = 5, gamma = 2, K = 30. Which bound MMVAE has is not stated: all draws in one
# logarithm, as its likelihoods are estimated. MVAE keeps its unimodal terms, JMVAE its penalty: not stated either.
# JMVAE's joint encoder learns from related pairs alone; from others it learns to propose codes that explain nothing.
HELD = {"hold_proposal": True}
TIGHT_30 = {"mmvae": {"objective": "iwae", "k": 30}, "mvae": {"k": 30}, "jmvae": {**JMVAE, **HELD, "k": 30}}
CONTRASTS = {"ci": "iwae", "cc": "cubo"}
for _model, _options in TIGHT_30.items():
    for _share, (_suffix, _part) in SHARES.items():
        for _name, _contrast in CONTRASTS.items():
            _source = SHI_ROW.format(
                f"{_name[0]}{_name[1].upper()}-{_model.upper()}", _share, "far as it is stated"
            )
            _settings = {"data_options": OFFICIAL | _part, "steps": 30 * (2_628 if _part else 13_140), **SHI}
            _settings["model_options"] = {**_options, "contrast": _contrast}
            _add(f"mnist-svhn{_suffix}-{_name}-{_model}", f"contrastive_{_model}", _source, **_settings)

# What one seed on two CPU cores allows. Real MNIST; SVHN digits from the first 10,000 of its test part (svhn10k).
# Contrastive MVAE and JMVAE decode every wrong pair: a step costs more than four times as much, so they get a quarter
# of the steps. CUBO and IWAE of one draw of one component are the same number, so those two draw twice.
SVHN10K = "svhn10k (7,000 SVHN digits for training)"
REDUCED = {"steps": 6_000, "likelihood_rows": 100}
TWICE = {"mmvae": {}, "mvae": {"contrast_k": 2}, "jmvae": {"contrast_k": 2, **HELD}}
for _model, _options in {"mmvae": {"objective": "elbo"}, "mvae": {}, "jmvae": JMVAE}.items():
    for _name, _contrast in {"": None, **CONTRASTS}.items():
        _steps = 1_500 if _contrast and _model != "mmvae" else 6_000
        _settings = {"data_options": SUBSET, "amsgrad": True, **REDUCED, "steps": _steps}
        _settings["model_options"] = _options | (
            {"contrast": _contrast, **TWICE[_model]} if _contrast else {}
        )
        _settings["reduced"] = f"{SVHN10K}, K = 1, {_steps:,} steps in place of 394,200"
        _label = f"{_name[0]}{_name[1].upper()}-{_model.upper()}" if _name else _model.upper()
        _kind, _whole = (f"contrastive_{_model}", f"{_name}-{_model}") if _name else (_model, _model)
        _add(f"svhn10k-{_whole}", _kind, SHI_ROW.format(_label, 20, "a direction"), **_settings)
BESIDE = {  # no table has them on this pair: beside the three above; steps, fewer where each costs more
    "mopoe": ("mopoe", 6_000, {}),
    "mmjsd": ("mmjsd", 6_000, {}),
    "telbo": ("telbo", 6_000, {"joint_encoder": "images"}),
    "ci-mopoe": ("contrastive_mopoe", 1_500, {}),
    "ci-mmjsd": ("contrastive_mmjsd", 3_000, {"gamma": 9.0}),  # as on hand-street
}
for _name, (_model, _steps, _options) in BESIDE.items():
    _settings = REDUCED | {
        "steps": _steps,
        "model_options": _options,
        "data_options": SUBSET,
        "amsgrad": True,
    }
    _settings["reduced"] = f"{SVHN10K}, K = 1, {_steps:,} steps"
    _text = "the book's own: beside the rows of Shi et al. 2021, Table 1"
    _add(f"svhn10k-{_name}", _model, _text, **_settings)

# Joy et al. 2022, Tables 3, 4, 6 and 7: MEME's baselines. 100 epochs over 56,068 pairs, one to one, in batches of 128.
# Laplace likelihoods of scale 1 without weights, 64 codes and one-to-one pairs are those of MEME's released code; for
# its baselines nothing is released, and the text names neither objective nor K: the ELBO with one draw here. Rows that
# show one modality only stand in every batch, where the released code of MEME takes batches of one kind in turn.
JOY = {"latent_dim": 64, "likelihood_scale": 1.0, "weights": None, "learning_rate": 5e-4}
RELEASE = "likelihood, codes and pairs as MEME's released code, objective not stated"
ROWS = "Tables 3, 4 and 6"


def _joy(
    name: str, model: str, table: str, row: str, options: dict, data: dict, k: int | None = None, **settings
) -> None:
    settings |= JOY
    source, data = f"Joy et al. 2022, {table}, {row}; {RELEASE}", {"dm": 1, **data}
    whole = {"reduced": HELD_OUT, "faithful": True, "steps": 100 * 438, "data_options": OFFICIAL | data}
    _add(f"mnist-svhn-{name}", model, source, model_options=options, **settings, **whole)
    text, options = f"{SVHN10K}, 6,000 steps in place of 43,800", options | ({"k": k} if k else {})
    less = {"reduced": text + f", K = {k}" * bool(k), "data_options": SUBSET | data, **REDUCED}
    _add(f"svhn10k-{name}", model, f"{source}; as a direction", model_options=options, **settings, **less)


_joy("meme-mvae", "mvae", ROWS, "MVAE, f = 1", {}, {})
_joy("meme-mmvae", "mmvae", ROWS, "MMVAE", GAUSSIAN, {})
_joy("meme-mmvae-laplace", "mmvae", "Table 7", "MMVAE with Laplace posterior and prior", {}, {})
ALWAYS = {"svhn": "SVHN", "mnist": "MNIST", "split": "each modality in turn"}
for _always, _text in ALWAYS.items():
    for _paired in (0.5, 0.25, 0.125, 0.0625):
        _row = f"MVAE, {_text} always present, f = {_paired}"
        _data = {"paired": _paired, "always": None if _always == "split" else _always}
        _joy(f"meme-mvae-{_always}-{_paired}", "mvae", ROWS, _row, {}, _data)

# MEME itself as its code does it, with K = 10; what two cores can show has fewer fresh codes. Partial rows come in
# batches of one kind there, in turn.
RELEASED_MEME = {"alpha": 10.0, "kl": "analytic", "k": 10}
_joy("meme", "meme", ROWS, "MEME, f = 1", RELEASED_MEME, {}, k=3)
for _always, _text in ALWAYS.items():
    for _paired in (0.5, 0.25, 0.125, 0.0625):
        _row = f"MEME, {_text} always present, f = {_paired}"
        _data = {"paired": _paired, "always": None if _always == "split" else _always}
        _name = f"meme-{_always}-{_paired}"
        _joy(_name, "meme", ROWS, _row, RELEASED_MEME, _data, k=3, schedule="alternating")

# Chen and Zhu 2022, Tables 2 and 3: MMALI.
CHEN = "Chen and Zhu 2022, Tables 2 and 3, MMALI, {} % of the data{}, as {}"
CYCLES = {"reconstruction": 0.05, "content_cycle": 0.05, "style_cycle": 0.05, "joint_reconstruction": True}
GAME = {**MULTIWAY, **CYCLES, "dependence": "inner"}
for _share, (_suffix, _part) in SHARES.items():
    _source = CHEN.format(_share, " (there of each class)" if _part else "", "released")
    _options = {"model_options": RELEASED | GAME, "data_options": OFFICIAL | _part, "minibatches": 2}
    _add(f"mnist-svhn{_suffix}-mmali", "mmali", _source, **_options, **PAPER)

_options = {"model_options": {"layers": "flat", "multiplier": 1.5, **GAME}, "data_options": SUBSET, **QUICK}
_less = f"{SVHN10K}, small discriminators with singular values up to 1.5, 6,000 steps in place of 250,000"
_add("svhn10k-mmali", "mmali", CHEN.format(20, "", "a direction"), steps=6_000, reduced=_less, **_options)
