"""Recipes on multi-hand and multi-mnist, digits and their rotations: Table 1 of Chen and Zhu 2022."""

from mmlib.runs.catalogue.settings import BINARY, JOINT, MULTIWAY, PAPER, QUICK, RELEASED, SHORT
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []

# --- multi-hand: embedded data, minutes on one thread --------------------------------------------------------------
SMALL = {"layers": "small", "multiplier": 2.0}


def _add(name: str, row: str, options: dict, modalities: int = 2, note: str = "", **changes) -> None:
    settings = {"width": 0.32, "steps": 5_500, **QUICK, **changes, "model_options": {**SMALL, **options}}
    settings["data_options"] = {"modalities": modalities} | changes.get("data_options", {})
    settings["reduced"] = SHORT.format(8, 8, f"{settings['steps']:,}")
    name = f"multi-hand{'' if modalities == 2 else f'-{modalities}'}-mmali-{name}"
    source = f"Chen and Zhu 2022, Table 1, {row}, {modalities} modalities, as a direction{note}"
    RECIPES.append(Recipe(name=name, model="mmali", dataset="multi-hand", source=source, **settings))


for _modalities in (2, 3, 4):
    _add("factorised", "factorised", BINARY, _modalities)
    _add("factorised-multiway", "factorised", MULTIWAY, _modalities, "; D0 as released")
    _add("joint", "joint", JOINT, _modalities)

# The unimodal term is one more thing that the joint one does not have: take it from one, give it to the other.
_add("factorised-alone", "factorised", {**BINARY, "unimodal": 0.0}, note="; the joint game alone")
_add("joint-unimodal", "joint", {**JOINT, **BINARY}, note="; with D0s beside it for a unimodal term")

# Three times as long, or with the released number of power iterations: does the order of the two stay what it is?
for _name, _options in (("factorised", BINARY), ("joint", JOINT)):
    _add(f"{_name}-long", _name, _options, steps=16_500)
    _iterated = {**_options, "power_iterations": "released"}
    _add(f"{_name}-iterated", _name, _iterated, note="; power iterations as released")

# A fair rival for the factorised discriminator: as many parameters (110,841 against 110,213), and as steep. For M = 2,
# log r_1 = T + D0_1 + D0_2 - D1_2: four layers in T and two in each other factor. With a largest singular value of k
# everywhere their slopes add up to at most k^4 + 3 k^2, while four joint layers give sqrt(2) k^4: 28 at k = 2 and at
# k = 2.11 (starred section of the chapter on MMALI).
MATCHED = {**JOINT, "width": 147 / 128}
for _multiplier in (1.0, 4.0):
    _note = f"; singular values up to {_multiplier:g}"
    _add(f"factorised-{_multiplier:g}", "factorised", {**BINARY, "multiplier": _multiplier}, note=_note)
for _multiplier, _name in ((1.0, "1"), (2.0, "2"), (4.0, "4"), (2.11, "fair")):
    _note = f"; parameters of the factorised one, singular values up to {_multiplier:g}"
    _add(f"joint-matched-{_name}", "joint", {**MATCHED, "multiplier": _multiplier}, note=_note)

# A fifth of the originals in pairs: alone, and beside the other originals, each shown alone. Of those rows a ninth is
# paired: 576 rows hold as many pairs as 64 did.
FIFTH = {"fraction": 0.2}
_add("20", "factorised", BINARY, note="; a fifth of the originals", data_options=FIFTH)
for _rows in (64, 576):
    _note, _data = "; a fifth of the originals in pairs, the others unpaired", {**FIFTH, "rest": "unpaired"}
    _add(f"20-unpaired-{_rows}", "factorised", BINARY, note=_note, data_options=_data, batch_size=_rows)

# --- multi-mnist: the paper's data and budget -----------------------------------------------------------------------
PAPER_MNIST = {**PAPER, "model": "mmali", "dataset": "multi-mnist"}
PAPER_MNIST["reduced"] = "a sixth of MNIST's training part is held out for validation"
for _modalities in (2, 3, 4):
    for _name, _options, _minibatches in (("joint", JOINT, 1), ("factorised", MULTIWAY, 2)):
        _source = f"Chen and Zhu 2022, Table 1, {_name}, {_modalities} modalities, as released"
        _settings = {"model_options": RELEASED | _options, "data_options": {"modalities": _modalities}}
        _names = {"name": f"multi-mnist-{_modalities}-mmali-{_name}", "source": _source}
        RECIPES.append(Recipe(minibatches=_minibatches, **_names, **_settings, **PAPER_MNIST))
