"""Rows of a split as a training step wants them: checked once, and zeros for what is hidden."""

import torch
from torch import Tensor, nn

from mmlib.data.core import PairedSplit
from mmlib.metrics.split import cast
from mmlib.modality import check_batch

CHUNK = 1000  # rows looked at at once


def ready(
    batch: dict[str, Tensor], mask: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checked batch as ``loss(..., validate=False)`` wants it: a mask for each modality, zeros where hidden."""
    mask = mask or {}
    for name in mask.keys() & batch.keys():
        x = batch[name]
        batch[name] = torch.where(mask[name].view(-1, *[1] * (x.ndim - 1)), x, torch.zeros_like(x))
    return batch, {name: mask[name] if name in mask else _all(len(x), x.device) for name, x in batch.items()}


def check_rows(model: nn.Module, split, dtype: torch.dtype | None) -> None:
    """Check every row of a split against the model, once, before training.

    Images kept as uint8 are pixels in [0, 1] whatever they hold, so a few rows tell all there is to know of them.

    Raises:
        ValueError: as ``check_batch``: unknown modality, wrong shape, pixels outside [0, 1], NaN, a row without data.
    """
    few = isinstance(split, PairedSplit) and split.observed is None
    for rows in torch.arange(min(CHUNK, len(split)) if few else len(split)).split(CHUNK):
        check_batch(model.modalities, cast(split.batch(rows, None), dtype), split.mask(rows))


def _all(n: int, device: torch.device) -> Tensor:
    return torch.ones(n, dtype=torch.bool, device=device)
