"""The papers' networks and plain ones, and one call that puts them together as modalities."""

import copy
import math
from collections.abc import Mapping

from torch import nn

from mmlib.checks import for_some, kind, per_name
from mmlib.modality import Likelihood, Modality, Shapes, check_likelihood
from mmlib.nets.choice import described, fitting_networks, likelihood_for
from mmlib.nets.classifiers import DigitClassifier
from mmlib.nets.cub import (
    CaptionDecoder,
    CaptionEncoder,
    CaptionJointEncoder,
    FeatureDecoder,
    FeatureEncoder,
    cub_networks,
)
from mmlib.nets.joint import ImageJointEncoder, JointEncoder
from mmlib.nets.mnist import MnistDecoder, MnistEncoder
from mmlib.nets.plain import PlainDecoder, PlainEncoder, SymbolEncoder
from mmlib.nets.residual import (
    AttributeClassifier,
    ResidualDecoder,
    ResidualEncoder,
    residual_networks,
)
from mmlib.nets.svhn import SvhnDecoder, SvhnEncoder
from mmlib.nets.text import TextClassifier, TextDecoder, TextEncoder


def pixel_weights(shapes: Shapes) -> dict[str, float]:
    """Likelihood weights that give every modality the say of the largest: largest dimension / own dimension.

    For MNIST-SVHN: 3072 / 784 = 3.918 and 1 (Shi et al. 2019, released code). A text counts as its length, so that
    eight characters beside SVHN weigh 384 (Sutter et al. 2020, released code).
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    return {name: max(sizes.values()) / size for name, size in sizes.items()}


def modalities(
    data,
    latent_dim: int | Mapping[str, int],
    width: float = 1.0,
    likelihood: Likelihood | Mapping[str, Likelihood] | None = None,
    weights="pixels",
    networks: Mapping[str, tuple[nn.Module, nn.Module]] | None = None,
) -> list[Modality]:
    """An encoder, a decoder and a likelihood for every modality of a data set.

    Images get the papers' networks, convolutions in colour and perceptrons in grey, and so do texts of 4, 8, 16, ...
    symbols; other symbols and vectors get perceptrons, see `mmlib.nets.plain`. Numbers should be of the order of 1:
    standardise a table first.

    Args:
        data: a data set (anything with ``shapes`` and, if there are symbols, ``symbols``, numbers of classes by name;
            ``padding``, of captions, the symbol that fills them up, is not counted) or a mapping name -> shape.
        latent_dim: size of the code, of [style, shared code] where there are styles: one for all, or a mapping
            name -> size.
        width: factor on the layer widths; 1 is the paper.
        likelihood: one for all, of which each gets a copy (symbols only if it is for integers), or a mapping
            name -> likelihood for some. Default: ``LaplaceLikelihood(0.75)`` for images, ``CategoricalLikelihood``
            for symbols, ``NormalLikelihood`` with a learned scale for each number of a vector. The decoder gives what
            the likelihood asks for; where that is the mean of an image it lies in (0, 1).
        weights: ``"pixels"`` (see :func:`pixel_weights`), a mapping name -> weight, or None for 1 everywhere.
        networks: a mapping name -> (encoder, decoder), see `Modality`, for some modalities.

    Raises:
        ValueError: if a mapping names an unknown modality or ``weights`` misses one, ``weights`` is another string, or
            a likelihood or pair of networks is none.
    """
    (shapes, symbols), padding = described(data), getattr(data, "padding", {})
    one = None if isinstance(likelihood, Mapping) else likelihood
    named = {} if one is likelihood else for_some("likelihood", likelihood, shapes)
    networks = for_some("networks", networks or {}, shapes)
    if isinstance(weights, str):
        if weights != "pixels":
            raise ValueError(f"weights is {weights!r}; expected 'pixels', a mapping or None")
        weights = pixel_weights(shapes)
    weights = per_name("weights", 1.0 if weights is None else weights, shapes)
    codes = per_name("latent_dim", latent_dim, shapes)
    built = []
    for name, shape in shapes.items():
        classes = symbols.get(name)
        if name in named:
            chosen = check_likelihood(name, named[name])
        elif one is None or (classes is not None and not check_likelihood(name, one).discrete):
            chosen = likelihood_for(shape, classes, padding.get(name))
        else:
            chosen = copy.deepcopy(check_likelihood(name, one))
        pair = networks[name] if name in networks else fitting_networks(shape, chosen, codes[name], width)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"networks[{name!r}] is {kind(pair)}; expected an encoder and a decoder")
        built.append(Modality(name, shape, *pair, chosen, weights[name]))
    return built
