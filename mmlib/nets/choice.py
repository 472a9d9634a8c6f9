"""What networks and what likelihood a modality gets, by the shape of its items and by whether they are symbols."""

from collections.abc import Callable, Mapping
from functools import partial

from mmlib.checks import sizes
from mmlib.modality import (
    CategoricalLikelihood,
    LaplaceLikelihood,
    Likelihood,
    NormalLikelihood,
    Shape,
)
from mmlib.nets.common import Decoder, Encoder
from mmlib.nets.mnist import MnistDecoder, MnistEncoder
from mmlib.nets.plain import PlainDecoder, PlainEncoder, SymbolEncoder
from mmlib.nets.svhn import SvhnDecoder, SvhnEncoder
from mmlib.nets.text import TextDecoder, TextEncoder, fits


def described(data) -> tuple[dict[str, Shape], dict[str, int]]:
    """Shapes of the items by name, and the number of classes of those modalities that are symbols.

    Args:
        data: a data set (anything with ``shapes`` and, if there are symbols, ``symbols``) or a mapping name -> shape.

    Raises:
        ValueError: for anything else, or a shape that is none.
    """
    shapes, symbols = getattr(data, "shapes", data), dict(getattr(data, "symbols", {}))
    if not isinstance(shapes, Mapping):
        raise ValueError(f"data is {data!r}; expected a data set or a mapping from names to shapes")
    least = {name: 0 if name in symbols else 1 for name in shapes}
    return {name: sizes(f"shape of {name!r}", shape, least[name]) for name, shape in shapes.items()}, symbols


def networks_for(
    shape: Shape, classes: int | None = None
) -> tuple[Callable[..., Encoder], Callable[..., Decoder]]:
    """What makes the encoder and the decoder for items of this shape, symbols if there are ``classes``.

    Colour images get the convolutions of SVHN, other images the perceptron of MNIST, texts of 4, 8, 16, ... symbols
    those of `mmlib.nets.text`, all else a plain perceptron. Both take the arguments of `Encoder` and `Decoder`; of
    symbols the decoder's shape is that of their logits.
    """
    if classes is not None and fits(shape):
        return partial(TextEncoder, symbols=classes), TextDecoder
    if classes is not None:
        return partial(SymbolEncoder, classes=classes), PlainDecoder
    if len(shape) == 3:
        colour = shape[0] > 1 and min(shape[1:]) >= 8
        return (SvhnEncoder, SvhnDecoder) if colour else (MnistEncoder, MnistDecoder)
    return PlainEncoder, PlainDecoder


def likelihood_for(shape: Shape, classes: int | None = None, padding: int | None = None) -> Likelihood:
    """Categorical for symbols, Laplace of scale 0.75 for images, for all else normal, each number's scale learned."""
    if classes is not None:
        return CategoricalLikelihood(classes, padding)
    return LaplaceLikelihood(0.75) if len(shape) == 3 else NormalLikelihood(learn_scale=shape)


def fitting_networks(
    shape: Shape, likelihood: Likelihood, latent_dim: int, width: float = 1.0
) -> tuple[Encoder, Decoder]:
    """Encoder and decoder for items of this shape; the decoder gives the parameters of their likelihood.

    Where these are the mean of an image itself, they lie in (0, 1).
    """
    classes = likelihood.classes if isinstance(likelihood, CategoricalLikelihood) else None
    encoder, decoder = networks_for(shape, classes)
    params = likelihood.params_shape(shape)
    if classes is None and params != shape:
        decoder = PlainDecoder
    pixels = len(shape) == 3 and type(likelihood).mean is Likelihood.mean
    return encoder(shape, latent_dim=latent_dim, width=width), decoder(params, latent_dim, width, pixels)
