"""Recipes on birds, embedded pictures with captions: the models of Shi et al. 2021, Table 2, in feature space."""

from mmlib.runs.recipe import Recipe

RECIPES: list[Recipe] = []
REDUCED = "drawn birds, 128 features, plain captions, small networks, 2,000 steps, K = 200 for likelihoods"
SOURCE = "Shi et al. 2021, Table 2, {}, {} % of the data, on the book's own, embedded data"
# A normal likelihood of features whose variance is 1; its scale, of 0.5 and 1, was chosen on validation with JMVAE,
# seed 0, after 1,000 steps. A caption weighs 128 / 32 = 4.
SETTINGS = {"dataset": "birds", "networks": "cub-small", "latent_dim": 32, "width": 0.5}
SETTINGS |= {"likelihood": "normal", "likelihood_scale": 0.5}
SETTINGS |= {
    "steps": 2_000,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "likelihood_rows": 100,
    "likelihood_k": 200,
}
NORMAL = {"posterior": "normal", "scale": "softplus", "learn_prior": False}
MODELS = {
    "mvae": ("mvae", {}),
    "mmvae-iwae": ("mmvae", {**NORMAL, "objective": "iwae", "k": 2}),
    "jmvae": ("jmvae", {"joint_encoder": "features"}),
    "ci-mmvae": ("contrastive_mmvae", {**NORMAL, "objective": "iwae", "k": 2, "contrast": "iwae"}),
    "cc-mmvae": ("contrastive_mmvae", {**NORMAL, "objective": "iwae", "k": 2, "contrast": "cubo"}),
}


def _add(name: str, share: int, model: str, options: dict) -> None:
    part = {} if share == 100 else {"data_options": {"fraction": share / 100}}
    title = f"birds-{name}" if share == 100 else f"birds-{share}-{name}"
    settings = {**SETTINGS, **part, "model_options": options, "reduced": REDUCED}
    RECIPES.append(Recipe(title, model, source=SOURCE.format(name, share), **settings))


for _share in (100, 20):
    for _name, (_model, _options) in MODELS.items():
        _add(_name, _share, _model, _options)
