"""What every metric needs of a model and a split: batches on the right device, and networks that keep still."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

RESTLESS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def check_mode(model: nn.Module, what: str = "model") -> None:
    """Refuse networks whose answers depend on the batch or on chance: batch norm or dropout in training mode.

    Nothing here switches modes behind the caller's back. The models of the book have neither layer.

    Raises:
        ValueError: if such a layer is in training mode.
    """
    for name, module in model.named_modules():
        if isinstance(module, RESTLESS) and module.training:
            layer = f"{type(module).__name__} {name!r}"
            raise ValueError(f"{what} has {layer} in training mode; call {what}.eval() before measuring")


def batches_of(
    model: nn.Module, split, batch_size: int = 500, max_rows: int | None = None
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Row numbers and batches of a split in order, on the model's device.

    Args:
        model: decides the device.
        split: a paired split without missing modalities.
        batch_size: rows at once.
        max_rows: stop after so many rows (the rows of a split are shuffled once and for all); default: all.

    Raises:
        ValueError: if rows miss modalities, or ``max_rows`` or ``batch_size`` is less than 1.
    """
    if getattr(split, "observed", None) is not None:
        raise ValueError(
            "split has missing modalities; expected a complete one, as metrics choose what is given"
        )
    if batch_size < 1 or (max_rows is not None and max_rows < 1):
        raise ValueError(f"batch_size is {batch_size} and max_rows {max_rows}; expected at least 1")
    rows = torch.arange(len(split) if max_rows is None else min(max_rows, len(split)))
    for chosen in rows.split(batch_size):
        yield chosen, split.batch(chosen, device_of(model))


def whole_rows(split):
    """The rows of a split that show every modality: what a probe is fitted on where others hide something.

    Raises:
        ValueError: if there is none.
    """
    if getattr(split, "observed", None) is None:
        return split
    rows = torch.stack(list(split.observed.values())).all(0).nonzero().flatten()
    if not len(rows):
        raise ValueError("split has no row that shows all modalities; expected at least one")
    index = {name: items[rows] for name, items in split.index.items()}
    return replace(split, index=index, labels=split.labels[rows], observed=None)
