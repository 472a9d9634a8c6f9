"""What the networks share: layer widths, a frame for encoders and decoders, and checks that name what is wrong."""

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, positive, sizes, whole
from mmlib.modality import Batch, Shape


def scaled(units: int, width: float) -> int:
    """Number of units of a layer after the width factor: ``round(units * width)``, at least one.

    Raises:
        ValueError: if ``width`` is not positive.
    """
    return max(1, round(units * positive("width", width)))


def check_shape(shape: Shape) -> Shape:
    """Return the shape of one item as a tuple of positive integers, else raise ValueError."""
    return sizes("shape", shape, least=1)


def check_items(x: Tensor, shape: Shape, argument: str = "x") -> Tensor:
    """Return ``x`` if it is a batch [B, *shape] with B >= 1, else raise ValueError."""
    if tuple(x.shape[1:]) != shape or not len(x):
        expected = ", ".join(["B >= 1", *map(str, shape)])
        raise ValueError(f"{argument} has shape {tuple(x.shape)}; expected ({expected})")
    return x


class Encoder(nn.Module):
    """Frame of an encoder; a subclass makes ``features`` and the two heads on them, ``loc`` and ``raw_scale``, [B, D].

    The arguments of all encoders: ``shape``, of one item (the default is the paper's); ``latent_dim``, D; ``width``,
    factor on the units or channels of hidden layers.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = whole("latent_dim", latent_dim)

    def forward(self, x: Tensor | Batch) -> tuple[Tensor, Tensor]:
        """Location and unconstrained scale of the posterior, [B, D] each, of a batch of items [B, *shape].

        Raises:
            ValueError: if the items have another shape, or one of several modalities is missing.
        """
        features = self.features(x)
        return self.loc(features).flatten(1), self.raw_scale(features).flatten(1)


class Decoder(nn.Module):
    """Frame of a decoder; a subclass makes ``pixels``, or their logits, of codes [N, D].

    The arguments of all decoders: those of encoders, and ``sigmoid``: squash the output to (0, 1) as the papers' tables
    do; False leaves logits (Bernoulli).
    """

    def __init__(self, shape: Shape, latent_dim: int, sigmoid: bool) -> None:
        super().__init__()
        self.shape, self.latent_dim = check_shape(shape), whole("latent_dim", latent_dim)
        self.sigmoid = one_of("sigmoid", sigmoid, (True, False))

    def forward(self, z: Tensor) -> Tensor:
        """Likelihood parameters [N, *shape] of codes [N, D].

        Raises:
            ValueError: if ``z`` is not [N, D].
        """
        pixels = self.pixels(check_items(z, (self.latent_dim,), "z"))
        return torch.sigmoid(pixels) if self.sigmoid else pixels
