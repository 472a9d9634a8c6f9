"""The papers' networks, and one call that puts them together as modalities."""

import math
from collections.abc import Mapping

from mmlib.checks import per_name, sizes
from mmlib.modality import BernoulliLikelihood, CategoricalLikelihood, LaplaceLikelihood, Modality, Shapes
from mmlib.nets.classifiers import DigitClassifier
from mmlib.nets.joint import ImageJointEncoder, JointEncoder, encoder_for
from mmlib.nets.mnist import MnistDecoder, MnistEncoder
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
    data, latent_dim: int | Mapping[str, int], width: float = 1.0, likelihood=None, weights="pixels"
) -> list[Modality]:
    """The papers' encoder, decoder and likelihood for every modality of a data set.

    Colour images get the convolutional networks of SVHN, texts those of `mmlib.nets.text` and a categorical likelihood,
    everything else the perceptrons of MNIST.

    Args:
        data: a data set (anything with ``shapes``, and ``symbols`` if it has texts) or a mapping name -> shape.
        latent_dim: size of the code, of [style, shared code] where there are styles: one for all, or a mapping
            name -> size.
        width: factor on the layer widths; 1 is the paper.
        likelihood: one for all but texts, or a mapping name -> likelihood; default ``LaplaceLikelihood(0.75)``. With a
            Bernoulli likelihood the decoder gives logits instead of passing through the sigmoid.
        weights: ``"pixels"`` (see :func:`pixel_weights`), a mapping name -> weight, or None for 1 everywhere.

    Raises:
        ValueError: if a mapping misses a modality or names an unknown one, or ``weights`` is another string.
    """
    shapes = getattr(data, "shapes", data)
    if not isinstance(shapes, Mapping):
        raise ValueError(f"data is {data!r}; expected a data set or a mapping from names to shapes")
    shapes = {name: sizes(f"shape of {name!r}", shape, 1) for name, shape in shapes.items()}
    symbols = getattr(data, "symbols", {})
    likelihoods = per_name("likelihood", likelihood or LaplaceLikelihood(0.75), shapes)
    if not isinstance(likelihood, Mapping):
        likelihoods |= {name: CategoricalLikelihood(classes) for name, classes in symbols.items()}
    if isinstance(weights, str):
        if weights != "pixels":
            raise ValueError(f"weights is {weights!r}; expected 'pixels', a mapping or None")
        weights = pixel_weights(shapes)
    weights = per_name("weights", 1.0 if weights is None else weights, shapes)
    codes = per_name("latent_dim", latent_dim, shapes)
    built = []
    for name, shape in shapes.items():
        if name in symbols:
            encoder = TextEncoder(shape, codes[name], width, symbols[name])
            networks = encoder, TextDecoder((*shape, symbols[name]), codes[name], width)
        else:
            sigmoid = not isinstance(likelihoods[name], BernoulliLikelihood)
            encoder = encoder_for(shape)(shape, codes[name], width)
            decoder = SvhnDecoder if isinstance(encoder, SvhnEncoder) else MnistDecoder
            networks = encoder, decoder(shape, codes[name], width, sigmoid)
        built.append(Modality(name, shape, *networks, likelihoods[name], weights[name]))
    return built
