"""The *hand* modality: real handwriting from scikit-learn's digits, warped and up-sampled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CANVAS = 32  # pixels a side
_CHUNK = 2_000  # images warped at a time: small enough to stay in the processor's cache


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 handwritten digits of scikit-learn: float32 ``[1797, 8, 8]`` in [0, 1], and labels int64 ``[1797]``."""
    from sklearn.datasets import load_digits  # slow to import, and needed only when the cache is empty

    bunch = load_digits()
    return torch.from_numpy(bunch.images).float() / 16.0, torch.from_numpy(bunch.target).long()


def split_originals(
    labels: Tensor, shares: tuple[float, float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Splits original images into train, validation and test, class by class (stratified).

    Args:
        labels: int64 ``[N]``.
        shares: share of each split, sum 1.
        generator: source of randomness.

    Returns:
        Three disjoint int64 tensors of positions in ``labels``, in random order.
    """
    parts: list[list[Tensor]] = [[], [], []]
    for digit in labels.unique():
        place = torch.nonzero(labels == digit).flatten()
        place = place[torch.randperm(len(place), generator=generator)]
        first, second = round(shares[0] * len(place)), round((shares[0] + shares[1]) * len(place))
        for part, chosen in zip(parts, (place[:first], place[first:second], place[second:]), strict=True):
            part.append(chosen)
    joined = (torch.cat(part) for part in parts)
    return tuple(part[torch.randperm(len(part), generator=generator)] for part in joined)


def balanced_draw(labels: Tensor, n: int) -> Tensor:
    """``n`` positions in ``labels``: classes in turn, and within a class its members in turn.

    Class sizes differ by at most one, and so do the numbers of copies of the members of one class.

    Returns:
        int64 ``[n]``.
    """
    classes = labels.unique()
    members = [torch.nonzero(labels == digit).flatten() for digit in classes]
    turn, which = torch.arange(n) // len(classes), torch.arange(n) % len(classes)
    out = torch.empty(n, dtype=torch.int64)
    for c, member in enumerate(members):
        rows = which == c
        out[rows] = member[turn[rows] % len(member)]
    return out


def warp(images: Tensor, generator: torch.Generator) -> Tensor:
    """Redraws 8x8 digits at 32x32, each with its own slant, size, position, wobble and pen width.

    Args:
        images: float32 ``[N, 8, 8]`` in [0, 1].
        generator: source of randomness.

    Returns:
        uint8 ``[N, 1, 32, 32]``.
    """
    # A smooth 8-fold enlargement whose level sets are strokes: the pen width is the level at which we cut it.
    field = F.interpolate(
        F.pad(images[:, None], (2, 2, 2, 2)), scale_factor=4, mode="bicubic", align_corners=False
    )
    return torch.cat([_warp(part, generator) for part in field.split(_CHUNK)])


def _warp(field: Tensor, generator: torch.Generator) -> Tensor:
    n = len(field)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, shear = uniform(-0.2, 0.2), uniform(-0.25, 0.25)  # radians; tangent of the slant
    width, height = uniform(0.75, 1.05), uniform(0.85, 1.05)  # size relative to the original
    cos, sin = angle.cos(), angle.sin()
    # theta maps output coordinates to field coordinates, both in [-1, 1]; the field has a margin of a sixth on each side.
    zoom = CANVAS / 48
    rows = torch.stack(
        [
            torch.stack(
                [zoom * (cos + shear * sin) / width, zoom * (shear * cos - sin) / width, uniform(-0.1, 0.1)],
                -1,
            ),
            torch.stack([zoom * sin / height, zoom * cos / height, uniform(-0.06, 0.06)], -1),
        ],
        dim=1,
    )  # [N, 2, 3]
    grid = F.affine_grid(rows, (n, 1, CANVAS, CANVAS), align_corners=False)
    wobble = 0.045 * torch.randn(n, 2, 4, 4, generator=generator)
    wobble = F.interpolate(wobble, size=(CANVAS, CANVAS), mode="bicubic", align_corners=False)
    inked = F.grid_sample(field, grid + wobble.permute(0, 2, 3, 1), mode="bilinear", align_corners=False)
    level, edge = uniform(0.32, 0.55), uniform(7.0, 12.0)  # pen width; crispness of its edge
    ink = torch.sigmoid((inked - level[:, None, None, None]) * edge[:, None, None, None])
    paper = torch.sigmoid(-level * edge)[
        :, None, None, None
    ]  # the value of blank paper, brought to exactly 0
    return (
        ((ink - paper) / (1 - paper))
        .mul(uniform(0.85, 1.0)[:, None, None, None] * 255)
        .round()
        .clamp(0, 255)
        .byte()
    )
