"""From a recipe to the data and the model that it names."""

import inspect
from functools import partial

import torch

from mmlib.checks import look_up, one_of, per_name, whole
from mmlib.data import LOADERS, AttributedSet, CaptionedSet, DataSet, load
from mmlib.data.batches import SCHEDULES
from mmlib.metrics import (
    AttributeJudges,
    CaptionJudges,
    Classifiers,
    fit_attribute_judges,
    fit_caption_judges,
    train_classifiers,
    with_processes,
)
from mmlib.modality import BernoulliLikelihood, LaplaceLikelihood, NormalLikelihood
from mmlib.models import MMALI, MultimodalVAE, get_model
from mmlib.nets import (
    CaptionJointEncoder,
    ImageJointEncoder,
    JointEncoder,
    cub_networks,
    modalities,
    residual_networks,
)
from mmlib.runs.recipe import Recipe
from mmlib.seeding import child

LIKELIHOODS = {"laplace": LaplaceLikelihood, "normal": NormalLikelihood}
LIKELIHOODS["bernoulli"] = lambda scale: BernoulliLikelihood()  # has none
SMALL = {"embedding": 32, "norm": False}  # networks of captions at the embedded scale
NETWORKS = {"": lambda *_: None, "cub": cub_networks, "cub-small": partial(cub_networks, **SMALL)}
NETWORKS["cub-perceptron"] = partial(cub_networks, hidden=(400,))
NETWORKS |= {"faces": residual_networks, "faces-small": partial(residual_networks, norm=False, dropout=0.0)}
JOINT_ENCODERS = {"features": JointEncoder, "images": ImageJointEncoder, "captions": CaptionJointEncoder}
JOINT_ENCODERS["captions-small"] = partial(CaptionJointEncoder, **SMALL)
JOINT_ENCODERS["cub-perceptron"] = lambda *sizes: JointEncoder(
    *sizes, {name: encoder for name, (encoder, _) in NETWORKS["cub-perceptron"](*sizes).items()}
)
JUDGES = ("classifiers", "processes")
ATTRIBUTE_JUDGES = {"celeba": {"width": 0.25}}  # options where the usual judge of attributes is too small
DIRECTIONS = {"birds": 10}  # canonical ones that are compared; default: as many as the papers'


def check(recipe: Recipe) -> Recipe:
    """The recipe, if all that it names exists, from data set to joint encoder; else a ValueError says what does not."""
    look_up("dataset", recipe.dataset, LOADERS)
    look_up("likelihood", recipe.likelihood, LIKELIHOODS)
    one_of("schedule", recipe.schedule, SCHEDULES)
    look_up("networks", recipe.networks, NETWORKS)
    one_of("judges", recipe.judges, JUDGES)
    look_up("joint_encoder", recipe.model_options.get("joint_encoder", "features"), JOINT_ENCODERS)
    takes = inspect.signature(get_model(recipe.model))
    try:
        takes.bind(None, None, **recipe.model_options)
    except TypeError as error:
        expected = ", ".join([*takes.parameters][2:])
        raise ValueError(f"model_options of {recipe.model}: {error}; expected some of {expected}") from error
    return recipe


def build_data(recipe: Recipe, cache=None) -> DataSet:
    """The recipe's data set."""
    return load(recipe.dataset, cache=cache, **recipe.data_options)


def build_model(recipe: Recipe, data: DataSet, seed: int) -> MultimodalVAE | MMALI:
    """The recipe's model with the initial weights of ``seed``; the caller's global random state is left alone.

    ``data`` may also be a mapping of modality names to shapes, none of symbols. Raises as :func:`check`, and for an
    impossible option.
    """
    shapes, options = getattr(data, "shapes", data), dict(check(recipe).model_options)
    likelihood = LIKELIHOODS[recipe.likelihood](recipe.likelihood_scale)
    styles = per_name("style_dim", options.get("style_dim", 0), shapes, whole, 0)
    shared = recipe.latent_dim - max(styles.values())
    codes = {name: size + shared for name, size in styles.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child(seed, "weights"))
        networks = NETWORKS[recipe.networks](data, codes, recipe.width)
        parts = modalities(data, codes, recipe.width, likelihood, recipe.weights, networks)
        if "joint_encoder" in options:
            joint = JOINT_ENCODERS[options["joint_encoder"]]
            options["joint_encoder"] = joint(data, shared, recipe.width)
        return get_model(recipe.model)(parts, shared, **options)


def judges_data(recipe: Recipe, data: DataSet, cache=None) -> DataSet:
    """What the recipe's judges are trained on: its data set, never a fraction, so that all answer to the same ones."""
    whole = {key: value for key, value in recipe.data_options.items() if key not in ("fraction", "rest")}
    return load(recipe.dataset, cache=cache, **whole) if "fraction" in recipe.data_options else data


def build_classifiers(data: DataSet, cache=None) -> Classifiers | CaptionJudges | AttributeJudges:
    """What judges coherence on this data set, the same for every recipe and seed: classifiers, or of captions CCA."""
    if isinstance(data, AttributedSet):
        return fit_attribute_judges(data, cache=cache, **ATTRIBUTE_JUDGES.get(data.name, {}))
    if isinstance(data, CaptionedSet):
        more = {"k": DIRECTIONS[data.name]} if data.name in DIRECTIONS else {}
        return fit_caption_judges(data, cache=cache, **more)
    return train_classifiers(data, cache=cache)


def build_judges(recipe: Recipe, data: DataSet, cache=None) -> Classifiers | CaptionJudges | AttributeJudges:
    """What judges the recipe's model: :func:`build_classifiers`, with processes beside them if it asks for these."""
    whole = judges_data(recipe, data, cache)
    judges = build_classifiers(whole, cache)
    return with_processes(judges, whole, cache) if recipe.judges == "processes" else judges
