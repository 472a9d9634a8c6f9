"""Rows of a split as a training step wants them: checked once, and zeros for what is hidden."""

import torch
from torch import Tensor, nn

from mmlib.data.core import PairedSplit
from mmlib.metrics.split import cast
from mmlib.modality import along_rows, check_batch

CHUNK = 1000  # rows looked at at once


def ready(
    batch: dict[str, Tensor], mask: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checked batch as ``loss(..., validate=False)`` wants it: a mask for each modality, zeros where hidden."""
    seen = {name: torch.ones(len(x), dtype=torch.bool, device=x.device) for name, x in batch.items()}
    for name in (mask or {}).keys() & batch.keys():
        seen[name], x = mask[name], batch[name]
        batch[name] = x.masked_fill(~along_rows(seen[name], x), 0)
    return batch, seen


def classes(model: nn.Module, split, rows: Tensor) -> dict[str, Tensor | None]:
    """The classes of some rows as the keyword ``labels`` of ``loss``, where the model asks for them."""
    if not getattr(model, "needs_labels", False):
        return {}
    return {"labels": None if split.labels is None else split.labels[rows]}


def check_rows(model: nn.Module, split, dtype: torch.dtype | None) -> None:
    """Check every row of a split against the model, once, before training.

    Images kept as uint8 are pixels in [0, 1] whatever they hold, so a few rows tell all there is to know of them.

    Raises:
        ValueError: as ``check_batch``: unknown modality, wrong shape, pixels outside [0, 1], NaN, a row without data.
    """
    few = isinstance(split, PairedSplit) and split.observed is None
    for rows in torch.arange(min(CHUNK, len(split)) if few else len(split)).split(CHUNK):
        check_batch(model.modalities, cast(split.batch(rows, None), dtype), split.mask(rows))
