"""The *hand* modality: real handwriting from scikit-learn's digits, warped and up-sampled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CANVAS = 32  # pixels a side
SHARES = (0.6, 0.2, 0.2)  # of the 1,797 originals, in train, validation and test
_CHUNK = 2_000  # images warped at a time: small enough to stay in the processor's cache


def digits() -> tuple[Tensor, Tensor]:
    """The 1,797 handwritten digits of scikit-learn: float32 ``[1797, 8, 8]`` in [0, 1], and labels int64 ``[1797]``."""
    from sklearn.datasets import load_digits  # slow to import, and needed only when the cache is empty

    bunch = load_digits()
    return torch.from_numpy(bunch.images).float() / 16.0, torch.from_numpy(bunch.target).long()


def split_originals(
    labels: Tensor, shares: tuple[float, float, float], generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Splits original images into train, validation and test, class by class (stratified), by shares that sum to 1.

    Returns:
        Three disjoint int64 tensors of positions in ``labels`` (int64 ``[N]``), in random order.
    """
    classes = []
    for digit in labels.unique():
        place = torch.nonzero(labels == digit).flatten()
        n = len(place)
        cuts = [round(shares[0] * n), round((shares[0] + shares[1]) * n)]
        classes.append(place[torch.randperm(n, generator=generator)].tensor_split(cuts))
    joined = (torch.cat(part) for part in zip(*classes, strict=True))
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

    From float32 ``[N, 8, 8]`` in [0, 1] to uint8 ``[N, 1, 32, 32]``.
    """
    # A smooth enlargement, 4-fold and with a margin: its level sets are strokes, and the level sets the pen's width.
    padded = F.pad(images[:, None], (2, 2, 2, 2))
    field = F.interpolate(padded, scale_factor=4, mode="bicubic", align_corners=False)  # [N, 1, 48, 48]
    return torch.cat([_warp(part, generator) for part in field.split(_CHUNK)])


def _warp(field: Tensor, generator: torch.Generator) -> Tensor:
    n = len(field)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle, shear = uniform(-0.2, 0.2), uniform(-0.25, 0.25)  # radians; tangent of the slant
    width, height = uniform(0.75, 1.05), uniform(0.85, 1.05)  # size relative to the original
    right, down = uniform(-0.1, 0.1), uniform(-0.06, 0.06)  # shift, in half fields
    cos, sin = angle.cos(), angle.sin()
    # The affine map from output to field coordinates, both in [-1, 1]; a sixth of the field is margin on each side.
    zoom = CANVAS / 48
    x_row = [zoom * (cos + shear * sin) / width, zoom * (shear * cos - sin) / width, right]
    y_row = [zoom * sin / height, zoom * cos / height, down]
    theta = torch.stack([*x_row, *y_row], dim=-1).unflatten(-1, (2, 3))
    grid = F.affine_grid(theta, (n, 1, CANVAS, CANVAS), align_corners=False)
    wobble = 0.045 * torch.randn(n, 2, 4, 4, generator=generator)
    wobble = F.interpolate(wobble, size=(CANVAS, CANVAS), mode="bicubic", align_corners=False)
    inked = F.grid_sample(field, grid + wobble.permute(0, 2, 3, 1), mode="bilinear", align_corners=False)
    # The pen: the level at which the field is cut (width of the stroke), the steepness of the cut, the darkness.
    spans = ((0.32, 0.55), (7, 12), (0.85, 1))
    level, edge, strength = (uniform(*span)[:, None, None, None] for span in spans)
    ink = torch.sigmoid((inked - level) * edge)
    blank = torch.sigmoid(-level * edge)  # what blank paper gives, brought to exactly 0
    return ((ink - blank) / (1 - blank) * (strength * 255)).round().clamp(0, 255).byte()
