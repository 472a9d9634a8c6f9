"""The recipes: for every row that the papers report of the methods here, the paper's values and a reduced budget.

Numbers here are meant to be edited. A recipe that changes gets another hash, and its old runs are set aside.
"""

from mmlib.reproduce.recipes import Recipe, register

# --- hand-street: embedded data, minutes on one thread --------------------------------------------------------------

HAND_STREET = {
    "dataset": "hand-street",
    "source": "the book's own, embedded data",
    "reduced": "embedded digits of 16x16 pixels, networks of half width",
    "width": 0.5,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "steps": 4_000,
}


def _hand_street(name: str, model: str, **changes) -> None:
    register(Recipe(**{**HAND_STREET, "name": f"hand-street-{name}", "model": model, **changes}))


_hand_street("jmvae", "jmvae", model_options={"joint_encoder": "features"})
_hand_street("mvae", "mvae")
_hand_street("mmvae-elbo", "mmvae", model_options={"objective": "elbo"})
for _objective in ("iwae", "iwae_looser"):
    for _estimator in ("plain", "squared", "normalised"):
        _hand_street(
            f"mmvae-{_objective.replace('_', '-')}-{_estimator}",
            "mmvae",
            model_options={"objective": _objective, "estimator": _estimator, "k": 4},
            steps=2_000,
        )


# --- MNIST-SVHN: the papers' data -----------------------------------------------------------------------------------
# Shi et al. 2021, Table 1. 30 epochs over 56,068 x 30 pairs in batches of 128: 13,140 complete batches an epoch; with a
# fifth of each unimodal set, 11,213 x 30 pairs and 2,628 batches. What that paper leaves open is as in Shi et al. 2019.

HELD_OUT = "a sixth of MNIST's and a tenth of SVHN's training part are held out for validation"
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
        register(
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
    register(
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
    register(
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
    register(
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
