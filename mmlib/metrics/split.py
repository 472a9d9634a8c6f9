"""What every metric needs of a model and a split: batches on the right device, and networks that keep still.

Rows may observe different modalities. What is given to a model comes from the rows that observe it, and only from them;
what is generated need not be observed.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator

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


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode inside, and every part of it in the mode that it had outside."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield model.eval()
    finally:
        for module, training in modes:
            module.training = training


def check_mode(model: nn.Module, what: str = "model") -> None:
    """Refuse networks whose answers depend on the batch or on chance: batch norm or dropout in training mode.

    Nothing here switches modes behind the caller's back; `at_rest` does so within one block.

    Raises:
        ValueError: if such a layer is in training mode.
    """
    for name, module in model.named_modules():
        if isinstance(module, RESTLESS) and module.training:
            layer = f"{type(module).__name__} {name!r}"
            raise ValueError(f"{what} has {layer} in training mode; call {what}.eval() before measuring")


def batches_of(
    model: nn.Module,
    split,
    batch_size: int = 500,
    max_rows: int | None = None,
    argument: str = "split",
    among: Tensor | None = None,
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Row numbers and batches of a split in order, on the model's device and in its precision.

    What a row does not observe is in the batch, too: :func:`observing` takes it out.

    Args:
        model: has ``modalities``.
        split: has ``batch`` and ``original``.
        batch_size: rows at once.
        max_rows: stop after so many rows: those of a split are shuffled once and for all.
        argument: what the caller's caller calls the split.
        among: int64, numbers of the rows to go through; default: all.

    Raises:
        ValueError: at once, if an argument is wrong, or as :func:`check_mode`.
    """
    check_has("model", model, ("modalities", "named_modules"), "a model")
    check_mode(model)
    check_split(argument, split, ("batch", "original"))
    having, names = getattr(split, "names", model.modalities), ", ".join(model.modalities)
    if not set(model.modalities) <= set(having):
        raise ValueError(
            f"{argument} has modalities {', '.join(having)}; expected those of the model, {names}"
        )
    batch_size = whole("batch_size", batch_size)
    among = torch.arange(len(split)) if among is None else among
    among = among if max_rows is None else among[: whole("max_rows", max_rows)]
    device, dtype = device_of(model), precision_of(model)
    parts = among.split(batch_size) if len(among) else ()
    return ((rows, cast(split.batch(rows, device), dtype)) for rows in parts)


def observed(split, rows: Tensor, names: Collection[str]) -> Tensor:
    """Which of the named modalities each of these ``rows`` [B] observes: bool [len(names), B], on the CPU."""
    mask = split.mask(rows) if hasattr(split, "mask") else None
    everything = torch.ones(len(rows), dtype=torch.bool)
    return torch.stack([everything if mask is None else mask.get(n, everything).cpu() for n in names])


def observing(
    split, rows: Tensor, batch: dict[str, Tensor], names: Collection[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Those ``rows`` [B] that observe all of ``names``, perhaps none, and of their ``batch`` these modalities."""
    seen, shown = observed(split, rows, names).all(0), {name: batch[name] for name in names}
    if bool(seen.all()):
        return rows, shown
    return rows[seen], {name: x[seen.to(x.device)] for name, x in shown.items()}


def showing(
    split, batches: Iterable[tuple[Tensor, dict[str, Tensor]]], names: Collection[str]
) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Of row numbers and batches of a split what :func:`observing` leaves of each, without those that it empties."""
    pairs = (observing(split, rows, batch, names) for rows, batch in batches)
    return [(rows, batch) for rows, batch in pairs if len(rows)]


def whole_rows(split, names: Collection[str]) -> Tensor:
    """Numbers of the rows of a split that observe all of ``names``, int64, perhaps none."""
    rows = torch.arange(len(split))
    return rows[observed(split, rows, names).all(0)]
