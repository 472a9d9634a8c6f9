"""What the networks share: layer widths, and input checks that name what is wrong."""

import math

from torch import Tensor


def scaled(units: int, width: float) -> int:
    """Number of units of a layer after the width factor: ``round(units * width)``, at least one.

    Raises:
        ValueError: if ``width`` is not positive.
    """
    if not width > 0:
        raise ValueError(f"width is {width}; expected a positive number")
    return max(1, round(units * width))


def check_latent_dim(latent_dim: int) -> int:
    """Return ``latent_dim`` if it is a positive whole number, else raise ValueError."""
    if isinstance(latent_dim, bool) or not isinstance(latent_dim, int) or latent_dim < 1:
        raise ValueError(f"latent_dim is {latent_dim!r}; expected a positive integer")
    return latent_dim


def check_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of one item as a tuple of positive integers, else raise ValueError."""
    shape = tuple(int(size) for size in shape)
    if not shape or min(shape) < 1:
        raise ValueError(f"shape is {shape}; expected positive sizes, for example (1, 28, 28)")
    return shape


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
