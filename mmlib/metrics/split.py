"""What every metric needs of a model and a split: batches on the right device, and networks that keep still."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mmlib.checks import check_has, whole
from mmlib.data.core import check_split

RESTLESS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's first parameter; the CPU if it has none."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def precision_of(model: nn.Module) -> torch.dtype | None:
    """The one floating-point type of a model's parameters; None where they have several, or none."""
    found = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    return found.pop() if len(found) == 1 else None


def cast(batch: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """A batch with its floating-point tensors in ``dtype``, unless that is None."""
    return {name: x.to(dtype) if dtype and x.is_floating_point() else x for name, x in batch.items()}


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
    model: nn.Module, split, batch_size: int = 500, max_rows: int | None = None, argument: str = "split"
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Row numbers and batches of a split in order, on the model's device and in its precision.

    ``max_rows`` stops after so many rows: those of a split are shuffled once and for all. ``argument`` is what the
    caller's caller calls the split.

    Raises:
        ValueError: at once, if an argument is wrong, rows miss modalities, or as :func:`check_mode`.
    """
    check_has("model", model, ("modalities", "named_modules"), "a model")
    check_mode(model)
    check_split(argument, split, ("batch", "original"))
    if getattr(split, "observed", None) is not None:
        expected = "a complete one, as metrics choose what is given"
        raise ValueError(f"{argument} has missing modalities; expected {expected}")
    batch_size = whole("batch_size", batch_size)
    n = len(split) if max_rows is None else min(whole("max_rows", max_rows), len(split))
    device, dtype = device_of(model), precision_of(model)
    return ((rows, cast(split.batch(rows, device), dtype)) for rows in torch.arange(n).split(batch_size))


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
    return split.select(rows)
