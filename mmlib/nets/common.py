"""What the networks share: layer widths, a frame for encoders and decoders, and checks that name what is wrong."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, positive, sizes, whole


def scaled(units: int, width: float) -> int:
    """Number of units of a layer after the width factor: ``round(units * width)``, at least one.

    Raises:
        ValueError: if ``width`` is not positive.
    """
    return max(1, round(units * positive("width", width)))


def check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one item as a tuple of positive integers, else raise ValueError."""
    return sizes("shape", shape, least=1)


def check_square(shape: tuple[int, ...]) -> int:
    """Side of a square image whose side is a power of two of at least 8.

    Args:
        shape: (channels, side, side).

    Raises:
        ValueError: if the image is not square or its side is not 8, 16, 32, ...
    """
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"shape is {shape}; expected a square image (channels, side, side)")
    side = shape[1]
    if side < 8 or side & (side - 1):
        raise ValueError(f"shape is {shape}; expected a side that is a power of two, at least 8")
    return side


def halvings(side: int) -> int:
    """Number of stride-2 convolutions between a power-of-two ``side`` and a 4x4 map: log2(side) - 2."""
    return int(math.log2(side)) - 2


def check_items(x: Tensor, shape: tuple[int, ...], argument: str = "x") -> Tensor:
    """Return ``x`` if it is a batch [B, *shape] with B >= 1, else raise ValueError."""
    if x.ndim != len(shape) + 1 or tuple(x.shape[1:]) != tuple(shape) or x.shape[0] == 0:
        expected = ", ".join(["B >= 1", *map(str, shape)])
        raise ValueError(f"{argument} has shape {tuple(x.shape)}; expected ({expected})")
    return x


class Encoder(nn.Module):
    """Frame of an encoder; a subclass makes ``features`` and the two heads on them, ``loc`` and ``raw_scale``.

    Args:
        latent_dim: D.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = whole("latent_dim", latent_dim)

    def forward(self, x: Tensor | Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Location and unconstrained scale of the posterior, [B, D] each, of a batch of items [B, *shape].

        Raises:
            ValueError: if the items have another shape, or one of several modalities is missing.
        """
        features = self.features(x)
        return self.loc(features).flatten(1), self.raw_scale(features).flatten(1)


class Decoder(nn.Module):
    """Frame of a decoder; a subclass makes ``pixels``, or their logits, of codes [N, D].

    Args:
        shape: shape of one item.
        latent_dim: D.
        sigmoid: squash pixels to (0, 1).
    """

    def __init__(self, shape: tuple[int, ...], latent_dim: int, sigmoid: bool) -> None:
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
