"""The recipes of adversarial models: the runs of Chen and Zhu 2022, and what minutes on one thread can show of them.

Codes are 10 numbers of style and 10 of content throughout, as in the paper.
"""

from mmlib.reproduce.catalogue import HELD_OUT, SVHN10K
from mmlib.reproduce.recipes import Recipe, register

ADAM = {"batch_size": 64, "betas": (0.5, 0.999)}
JOINT = {"style_dim": 10, "discriminator": "joint"}
FACTORISED = {"style_dim": 10, "unimodal": 0.1}  # a term of the released code
BINARY = {**FACTORISED, "factors": "binary"}
MULTIWAY = {**FACTORISED, "factors": "multiway"}

# --- embedded data: minutes on one thread ---------------------------------------------------------------------------
# With the paper's learning rate small networks learn too slowly, and with its largest singular value of 1 they drift.
# Every update of either discriminator sees one minibatch, so that both are given the same data.

SMALL = {"layers": "small", "multiplier": 2.0}
QUICK = {**ADAM, "learning_rate": 1e-3, "ema": 0.999, "ema_ramp": True}
SHORT = "embedded digits of {}x{} pixels, small networks, {} steps in place of 250,000"


def _multi_hand(name: str, row: str, options: dict, modalities: int = 2, note: str = "", **changes) -> None:
    data = {"modalities": modalities} | changes.pop("data_options", {})
    settings = {"width": 0.32, "steps": 5_500, **QUICK, **changes}
    register(
        Recipe(
            name=f"multi-hand{'' if modalities == 2 else f'-{modalities}'}-mmali-{name}",
            model="mmali",
            dataset="multi-hand",
            source=f"Chen and Zhu 2022, Table 1, {row}, {modalities} modalities, as a direction{note}",
            reduced=SHORT.format(8, 8, f"{settings['steps']:,}"),
            model_options={**SMALL, **options},
            data_options=data,
            **settings,
        )
    )


for _modalities in (2, 3, 4):
    _multi_hand("factorised", "factorised", BINARY, _modalities)
    _multi_hand("factorised-multiway", "factorised", MULTIWAY, _modalities, "; D0 as released")
    _multi_hand("joint", "joint", JOINT, _modalities)

# The unimodal term is one more thing that the joint one does not have: take it from one, give it to the other.

_multi_hand("factorised-alone", "factorised", {**BINARY, "unimodal": 0.0}, note="; the joint game alone")
_multi_hand("joint-unimodal", "joint", {**JOINT, **BINARY}, note="; with D0s beside it for a unimodal term")

# Three times as long: does the order of the two stay what it is?

for _name, _options in (("factorised", BINARY), ("joint", JOINT)):
    _multi_hand(f"{_name}-long", _name, _options, steps=16_500)

# A fair rival for the factorised discriminator: as many parameters (110,841 against 110,213), and as steep. For M = 2,
# log r_1 = T + D0_1 + D0_2 - D1_2: four layers in T and two in each other factor. With a largest singular value of k
# everywhere their slopes add up to at most k^4 + 3 k^2, while four joint layers give sqrt(2) k^4: 28 at k = 2 and at
# k = 2.11 (mmlib.models.mmali_slopes).

MATCHED = {**JOINT, "width": 147 / 128}
for _multiplier in (1.0, 4.0):
    _slope = {"multiplier": _multiplier}
    _note = f"; singular values up to {_multiplier:g}"
    _multi_hand(f"factorised-{_multiplier:g}", "factorised", {**BINARY, **_slope}, note=_note)
for _multiplier, _name in ((1.0, "1"), (2.0, "2"), (4.0, "4"), (2.11, "fair")):
    _slope = {"multiplier": _multiplier}
    _note = f"; parameters of the factorised one, singular values up to {_multiplier:g}"
    _multi_hand(f"joint-matched-{_name}", "joint", {**MATCHED, **_slope}, note=_note)

# A fifth of the originals in pairs: alone, and beside the other originals, each shown alone. Of those rows a ninth is
# paired: 576 rows hold as many pairs as 64 did.

FIFTH = {"fraction": 0.2}
_multi_hand("20", "factorised", BINARY, note="; a fifth of the originals", data_options=FIFTH)
for _rows in (64, 576):
    _multi_hand(
        f"20-unpaired-{_rows}",
        "factorised",
        BINARY,
        note="; a fifth of the originals in pairs, the others unpaired",
        data_options={**FIFTH, "rest": "unpaired"},
        batch_size=_rows,
    )

# Colour images as vectors and a smaller singular value: convolutions learn more slowly here at twice the cost, and
# with 2 the model forgets a class. Without styles the content has all 20 numbers.

FLAT = {"layers": "flat", "width": 0.5, "multiplier": 1.5}
for _suffix, _style, _note in (
    ("", {}, ""),
    ("-shared", {"style_dim": 0}, ", one shared code and no styles"),
):
    register(
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

# --- the paper's data -----------------------------------------------------------------------------------------------
# 250,000 steps of 64 rows; the average of the weights is a copy of them for 50,000 steps. What the paper leaves open is
# as in the released code: (M+1)-way D0, initial weights, and two minibatches an update of the factorised
# discriminator, of which the joint one uses one.

PAPER = {
    **ADAM,
    "reduced": HELD_OUT,
    "faithful": True,
    "learning_rate": 2e-4,
    "ema": 0.9999,
    "ema_start": 50_000,
    "steps": 250_000,
}
RELEASED = {"init_std": 0.02}

for _modalities in (2, 3, 4):
    for _name, _options, _minibatches in (("joint", JOINT, 1), ("factorised", MULTIWAY, 2)):
        register(
            Recipe(
                name=f"multi-mnist-{_modalities}-mmali-{_name}",
                model="mmali",
                dataset="multi-mnist",
                source=f"Chen and Zhu 2022, Table 1, {_name}, {_modalities} modalities, as released",
                model_options={**RELEASED, **_options},
                data_options={"modalities": _modalities},
                minibatches=_minibatches,
                **PAPER | {"reduced": "a sixth of MNIST's training part is held out for validation"},
            )
        )

CYCLES = {"reconstruction": 0.05, "content_cycle": 0.05, "style_cycle": 0.05, "joint_reconstruction": True}
MNIST_SVHN = {**MULTIWAY, **CYCLES, "dependence": "inner"}
for _share, _suffix in ((100, ""), (20, "-20")):
    register(
        Recipe(
            name=f"mnist-svhn{_suffix}-mmali",
            model="mmali",
            dataset="mnist-svhn",
            source=f"Chen and Zhu 2022, Tables 2 and 3, MMALI, {_share} % of the data, as released",
            model_options={**RELEASED, **MNIST_SVHN},
            data_options={"svhn": "official", "dm": 30} | ({} if _share == 100 else {"fraction": 0.2}),
            minibatches=2,
            **PAPER,
        )
    )

register(
    Recipe(
        name="svhn10k-mmali",
        model="mmali",
        dataset="mnist-svhn",
        source="Chen and Zhu 2022, Tables 2 and 3, MMALI, 20 % of the data, as a direction",
        reduced=f"{SVHN10K}, small discriminators with singular values up to 1.5, 6,000 steps in place of 250,000",
        model_options={"layers": "flat", "multiplier": 1.5, **MNIST_SVHN},
        data_options={"svhn": "subset", "dm": 30},
        steps=6_000,
        **QUICK,
    )
)
