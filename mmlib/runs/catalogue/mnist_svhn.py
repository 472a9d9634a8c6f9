"""Recipes on MNIST-SVHN: every row that the papers report of the methods here, and what two cores can show of it."""

from mmlib.runs.catalogue.settings import HELD_OUT, MULTIWAY, PAPER, QUICK, RELEASED
from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []

# Shi et al. 2021, Table 1. 30 epochs over 56,068 x 30 pairs in batches of 128: 13,140 complete batches an epoch; with a
# fifth of each unimodal set, 11,213 x 30 pairs and 2,628 batches. What that paper leaves open is as in Shi et al. 2019.

SHI = {"dataset": "mnist-svhn", "reduced": HELD_OUT, "faithful": True, "amsgrad": True}
LOOSER_30 = {"objective": "iwae_looser", "estimator": "normalised", "k": 30}
JMVAE = {"joint_encoder": "images", "alpha": 0.1}
SHI_ROWS = {
    "mmvae": ("MMVAE", LOOSER_30, "the released code's gradient"),
    "mvae": ("MVAE", {}, "sum of the ELBOs; its K is not stated for MVAE"),
    "jmvae": ("JMVAE", JMVAE, "alpha 0.1 and one draw: not stated there"),
}
for _model, (_row, _options, _open) in SHI_ROWS.items():
    for _share, _suffix, _steps in ((100, "", 30 * 13_140), (20, "-20", 30 * 2_628)):
        RECIPES.append(
            Recipe(
                name=f"mnist-svhn{_suffix}-{_model}",
                model=_model,
                source=f"Shi et al. 2021, Table 1, {_row}, {_share} % of the data, as Shi et al. 2019; {_open}",
                model_options=_options,
                data_options={"svhn": "official", "dm": 30} | ({} if _share == 100 else {"fraction": 0.2}),
                steps=_steps,
                **SHI,
            )
        )

# What one seed on two CPU cores allows. Real MNIST; SVHN digits from the first 10,000 of its test part (svhn10k).

SVHN10K = "svhn10k (7,000 SVHN digits for training)"
REDUCED = {"dataset": "mnist-svhn", "steps": 6_000, "likelihood_rows": 100}
for _model, _options in {"mmvae": {"objective": "elbo"}, "mvae": {}, "jmvae": JMVAE}.items():
    RECIPES.append(
        Recipe(
            name=f"svhn10k-{_model}",
            model=_model,
            source=f"Shi et al. 2021, Table 1, {_model.upper()}, 20 % of the data, as a direction",
            reduced=f"{SVHN10K}, K = 1, 6,000 steps in place of 78,840",
            model_options=_options,
            data_options={"svhn": "subset", "dm": 30},
            amsgrad=True,
            **REDUCED,
        )
    )

# Joy et al. 2022, Tables 3, 4, 6 and 7: MEME's baselines. 100 epochs over 56,068 pairs, one to one, in batches of 128.
# Laplace likelihoods of scale 1 without weights, 64 codes and one-to-one pairs are those of MEME's released code; for
# its baselines nothing is released, and the text names neither objective nor K: the ELBO with one draw here. Rows that
# show one modality only stand in every batch, where the released code of MEME takes batches of one kind in turn.

JOY = {
    "dataset": "mnist-svhn",
    "latent_dim": 64,
    "likelihood_scale": 1.0,
    "weights": None,
    "learning_rate": 5e-4,
}
JOY_SOURCE = (
    "Joy et al. 2022, {}, {}; likelihood, codes and pairs as MEME's released code, objective not stated"
)
GAUSSIAN = {"posterior": "normal", "scale": "softplus", "learn_prior": False}
FRACTIONS = (0.5, 0.25, 0.125, 0.0625)


def _joy(name: str, model: str, table: str, row: str, options: dict, data: dict) -> None:
    source = JOY_SOURCE.format(table, row)
    official = {"svhn": "official", "dm": 1, **data}
    RECIPES.append(
        Recipe(
            name=f"mnist-svhn-meme-{name}",
            model=model,
            source=source,
            reduced=HELD_OUT,
            faithful=True,
            model_options=options,
            data_options=official,
            steps=100 * 438,
            **JOY,
        )
    )
    RECIPES.append(
        Recipe(
            name=f"svhn10k-meme-{name}",
            model=model,
            source=f"{source}; as a direction",
            reduced=f"{SVHN10K}, 6,000 steps in place of 43,800",
            model_options=options,
            data_options={**official, "svhn": "subset"},
            **JOY,
            **{key: value for key, value in REDUCED.items() if key != "dataset"},
        )
    )


_joy("mvae", "mvae", "Tables 3, 4 and 6", "MVAE, f = 1", {}, {})
_joy("mmvae", "mmvae", "Tables 3, 4 and 6", "MMVAE", GAUSSIAN, {})
_joy("mmvae-laplace", "mmvae", "Table 7", "MMVAE with Laplace posterior and prior", {}, {})
for _always in ("svhn", "mnist", "split"):
    for _paired in FRACTIONS:
        _joy(
            f"mvae-{_always}-{_paired}",
            "mvae",
            "Tables 3, 4 and 6",
            f"MVAE, {'each modality in turn' if _always == 'split' else _always.upper()} always present, f = {_paired}",
            {},
            {"paired": _paired, "always": None if _always == "split" else _always},
        )

# Chen and Zhu 2022, Tables 2 and 3: MMALI.

CYCLES = {"reconstruction": 0.05, "content_cycle": 0.05, "style_cycle": 0.05, "joint_reconstruction": True}
MNIST_SVHN = {**MULTIWAY, **CYCLES, "dependence": "inner"}
for _share, _suffix, _of in ((100, "", ""), (20, "-20", " (there of each class)")):
    RECIPES.append(
        Recipe(
            name=f"mnist-svhn{_suffix}-mmali",
            model="mmali",
            dataset="mnist-svhn",
            source=f"Chen and Zhu 2022, Tables 2 and 3, MMALI, {_share} % of the data{_of}, as released",
            model_options={**RELEASED, **MNIST_SVHN},
            data_options={"svhn": "official", "dm": 30} | ({} if _share == 100 else {"fraction": 0.2}),
            minibatches=2,
            **PAPER,
        )
    )

RECIPES.append(
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
