"""From a recipe to the data and the model that it names."""

import torch

from mmlib.checks import look_up
from mmlib.data import DataSet, load
from mmlib.metrics import Classifiers, train_classifiers
from mmlib.modality import BernoulliLikelihood, LaplaceLikelihood, NormalLikelihood
from mmlib.models import MMALI, MultimodalVAE, get_model
from mmlib.nets import ImageJointEncoder, JointEncoder, modalities
from mmlib.runs.recipe import Recipe
from mmlib.seeding import child

LIKELIHOODS = {
    "laplace": LaplaceLikelihood,
    "normal": NormalLikelihood,
    "bernoulli": lambda scale: BernoulliLikelihood(),
}
JOINT_ENCODERS = {"features": JointEncoder, "images": ImageJointEncoder}


def build_data(recipe: Recipe, cache=None) -> DataSet:
    """The recipe's data set."""
    return load(recipe.dataset, cache=cache, **recipe.data_options)


def build_model(recipe: Recipe, data: DataSet, seed: int) -> MultimodalVAE | MMALI:
    """The recipe's model with the initial weights of ``seed``; the caller's global random state is left alone.

    ``data`` may also be a mapping of modality names to shapes.

    Raises:
        ValueError: if the recipe names an unknown model, likelihood or joint encoder.
    """
    shapes = getattr(data, "shapes", data)
    likelihood = look_up("likelihood", recipe.likelihood, LIKELIHOODS)(recipe.likelihood_scale)
    options = dict(recipe.model_options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child(seed, "weights"))
        parts = modalities(shapes, recipe.latent_dim, recipe.width, likelihood, recipe.weights)
        if "joint_encoder" in options:
            joint = look_up("joint_encoder", options["joint_encoder"], JOINT_ENCODERS)
            options["joint_encoder"] = joint(shapes, recipe.latent_dim, recipe.width)
        shared = recipe.latent_dim - options.get("style_dim", 0)
        return get_model(recipe.model)(parts, shared, **options)


def judges_data(recipe: Recipe, data: DataSet, cache=None) -> DataSet:
    """What the recipe's judges are trained on: its data set, but never a fraction of it.

    So a model that saw a fifth of the data answers to the same judges as one that saw all.
    """
    if "fraction" not in recipe.data_options:
        return data
    whole = {key: value for key, value in recipe.data_options.items() if key not in ("fraction", "rest")}
    return load(recipe.dataset, cache=cache, **whole)


def build_classifiers(data: DataSet, cache=None) -> Classifiers:
    """The digit classifiers that judge coherence on this data set: the same for every recipe and seed."""
    return train_classifiers(data, cache=cache)
