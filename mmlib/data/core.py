"""What a data set is: images as bytes, symbols as integers, features as numbers; pairs as index tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import check_has, kind, real, whole

SPLITS = ("train", "validation", "test")
ITEMS = ("N", "...")  # shape of so many items, each of any shape


@dataclass(frozen=True)
class Items:
    """What one modality shows in one split: images, features of images, or symbols such as the letters of a text.

    Args:
        values: images, uint8 ``[N, C, H, W]``, pixel values 0 to 255; features, float32 ``[N, *shape]``; or symbols,
            int64 ``[N, *shape]``.
        labels: int64 ``[N]``, the class shown, such as a digit.
        original: int64 ``[N]``, the source each item was made from. Two items with the same number are not
            independent, so standard errors are clustered by it. Where every item is its own source the numbers differ.
        symbols: how many different symbols there are, 0 to ``symbols - 1``; None: the values are images or
            features.

    Raises:
        ValueError: when a type or a length does not fit, a symbol is out of range, or a feature is not finite.
    """

    values: Tensor
    labels: Tensor
    original: Tensor
    symbols: int | None = None

    def __post_init__(self):
        kept = (torch.uint8, "NCHW") if self.symbols is None else (torch.int64, ITEMS)
        features = self.symbols is None and getattr(self.values, "dtype", None) == torch.float32
        values = checked("values", self.values, *((torch.float32, ITEMS) if features else kept))
        object.__setattr__(self, "values", values)
        if features and not bool(values.isfinite().all()):
            raise ValueError("values have NaN or infinity; expected finite features")
        if self.symbols is not None:
            object.__setattr__(self, "symbols", whole("symbols", self.symbols))
            if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < self.symbols:
                found = f"values are symbols {int(values.min())} to {int(values.max())}"
                raise ValueError(f"{found}; expected 0 to {self.symbols - 1}")
        for name in ("labels", "original"):
            value = checked(name, getattr(self, name), torch.int64, (len(values),))
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one item, ``(C, H, W)`` of an image."""
        return tuple(self.values.shape[1:])

    def batch(self, rows: Tensor | slice = slice(None), device=None) -> Tensor:
        """The items at ``rows`` as models take them: images float32 in [0, 1], features as they are, symbols int64.

        They are on ``device``, by default where the items are.
        """
        values = self.values[rows].to(device or self.values.device)  # images still uint8: cheap to move
        return values.float().div_(255.0) if values.dtype == torch.uint8 else values

    def select(self, rows: Tensor) -> Items:
        """The items at ``rows`` (int64 or bool ``[n]``), as a copy."""
        return Items(self.values[rows], self.labels[rows], self.original[rows], self.symbols)

    def to(self, device) -> Items:
        """The same items on ``device``."""
        moved = (x.to(device) for x in (self.values, self.labels, self.original))
        return Items(*moved, self.symbols)


class Split:
    """What training and metrics ask of a split, whatever its rows are made of: `PairedSplit` or `TensorSplit`.

    Each kind has ``shapes`` and ``symbols`` of its modalities, ``labels`` int64 ``[N]`` (or None), ``observed`` (bool
    ``[N]`` by name, or None when every row is complete), a ``device``, and the methods ``gather``, ``original``,
    ``select`` and ``to``.
    """

    @property
    def names(self) -> list[str]:
        """Names of the modalities, in order."""
        return list(self.shapes)

    def batch(self, rows: Tensor | None = None, device=None) -> dict[str, Tensor]:
        """What ``rows`` show (int64 ``[B]``, None: all): images float32 ``[B, C, H, W]`` in [0, 1], symbols int64.

        Modalities that ``mask`` hides are included; the model drops them. The batch is on ``device``, by default where
        the split is.

        Raises:
            ValueError: when ``rows`` is empty, of another type, or leaves the split.
        """
        return self.gather(self._checked(rows), device)

    def mask(self, rows: Tensor | None = None) -> dict[str, Tensor] | None:
        """What ``rows`` (None: all) observe, bool ``[B]`` each (True = observed); None if the split is complete.

        Raises:
            ValueError: as in `batch`.
        """
        if self.observed is None:
            return None
        rows = self._checked(rows)
        return {name: seen[rows] for name, seen in self.observed.items()}

    def with_missing(
        self, fraction: float, generator: torch.Generator | None = None, may_miss: Sequence[str] | None = None
    ) -> Split:
        """A split in which a fraction of the rows is only partly observed.

        ``round(fraction * P)`` rows, drawn without replacement, lose modalities: each of them keeps a non-empty proper
        subset of its modalities, all such subsets being equally likely. No row loses everything.
        Hiding is a property of the row: an item hidden in one row may be visible in another row that shows it too.
        ``may_miss`` names the modalities that may be hidden; default: all.

        Raises:
            ValueError: when ``fraction`` leaves [0, 1], ``may_miss`` is empty or names no modality of the split, or
                some rows already miss modalities.
        """
        fraction = real("fraction", fraction, 0, 1)
        may_miss = self.names if may_miss is None else may_miss
        may_miss = [may_miss] if isinstance(may_miss, str) else list(may_miss)
        unknown = [name for name in may_miss if name not in self.names]
        if unknown or not may_miss:
            raise ValueError(f"may_miss is {may_miss}; expected one or more of {self.names}")
        if self.observed is not None:
            raise ValueError("split already misses modalities; expected complete rows")
        p, everything = len(self), 2 ** len(self.names) - 1
        # Every pattern as the bits of an integer: bit i set = modality i observed.
        always = sum(1 << i for i, name in enumerate(self.names) if name not in may_miss)
        patterns = [bits for bits in range(1, everything) if bits & always == always]
        if not patterns:
            raise ValueError("with_missing needs at least two modalities: a row must keep one of them")
        losers = torch.randperm(p, generator=generator)[: round(fraction * p)]
        bits = torch.full((p,), everything)
        bits[losers] = torch.tensor(patterns)[torch.randint(len(patterns), losers.shape, generator=generator)]
        bits = bits.to(self.device)
        return self._with(observed={name: (bits >> i) % 2 == 1 for i, name in enumerate(self.names)})

    def _checked(self, rows: Tensor | None) -> Tensor:
        if rows is None:
            return torch.arange(len(self), device=self.device)
        rows = checked("rows", rows, torch.int64, "N")
        if len(rows) == 0:
            raise ValueError("rows is empty; expected at least one row number")
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= len(self):
            raise ValueError(f"rows spans {low} to {high}; expected row numbers from 0 to {len(self) - 1}")
        return rows.to(self.device)

    def _with(self, **changes) -> Split:
        return replace(self, **changes)


@dataclass(frozen=True)
class PairedSplit(Split):
    """Rows of a split: row ``p`` shows one item of every modality, all of the same class.

    Pairing is an index, not a copy: ``index[name][p]`` says which item of modality ``name`` row ``p`` shows.

    Args:
        items: what each modality shows.
        index: int64 ``[P]`` for each modality.
        labels: int64 ``[P]``, the class all modalities of a row share.
        observed: bool ``[P]`` for each modality (True = observed), or None when every row is complete.

    Raises:
        ValueError: when names, lengths or classes do not fit together.
    """

    items: Mapping[str, Items]
    index: Mapping[str, Tensor]
    labels: Tensor
    observed: Mapping[str, Tensor] | None = None

    def __post_init__(self):
        object.__setattr__(self, "labels", checked("labels", self.labels, torch.int64, "N"))
        for what, dtype in (("index", torch.int64), ("observed", torch.bool)):
            given = getattr(self, what)
            if given is None and what == "observed":
                continue
            if not isinstance(given, Mapping) or list(given) != list(self.items):
                found = list(given) if isinstance(given, Mapping) else kind(given)
                raise ValueError(f"{what} has modalities {found}; expected {list(self.items)} as in items")
            shape = tuple(self.labels.shape)
            tensors = {n: checked(f"{what}[{n!r}]", x, dtype, shape) for n, x in given.items()}
            object.__setattr__(self, what, tensors)
        for name, item in self.items.items():
            rows = self.index[name]
            if len(rows) and not (0 <= int(rows.min()) and int(rows.max()) < len(item)):
                raise ValueError(f"index[{name!r}] leaves the range of its {len(item)} items")
            if not torch.equal(item.labels[rows], self.labels):
                raise ValueError(f"index[{name!r}] pairs items whose class is not the class of the row")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one item of each modality, ``(C, H, W)`` of an image."""
        return {name: item.shape for name, item in self.items.items()}

    @property
    def symbols(self) -> dict[str, int]:
        """How many different symbols there are, for each modality that is made of symbols."""
        return {name: item.symbols for name, item in self.items.items() if item.symbols is not None}

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.labels.device

    def gather(self, rows: Tensor, device=None) -> dict[str, Tensor]:
        """As `batch`, for row numbers that are known to be right and lie where the items do; nothing is checked."""
        return {name: item.batch(self.index[name][rows], device) for name, item in self.items.items()}

    def original(self, name: str, rows: Tensor | None = None) -> Tensor:
        """Source numbers int64 ``[B]`` of what ``rows`` (None: all) show of modality ``name``, for clustered errors."""
        return self.items[name].original[self.index[name][self._checked(rows)]]

    def select(self, rows: Tensor) -> PairedSplit:
        """The rows at ``rows`` (int64 or bool ``[n]``) alone, of the same items."""
        index = {name: items[rows] for name, items in self.index.items()}
        return replace(self, index=index, labels=self.labels[rows], observed=observed_at(self.observed, rows))

    def to(self, device) -> PairedSplit:
        """The same split with every tensor on ``device``."""

        def move(given):
            return None if given is None else {name: value.to(device) for name, value in given.items()}

        return PairedSplit(move(self.items), move(self.index), self.labels.to(device), move(self.observed))


@dataclass(frozen=True)
class DataSet:
    """Three splits and where they come from.

    Every choice is made on ``validation``; ``test`` is read once for each recorded run.

    Args:
        name: as given to `mmlib.data.load`.
        train, validation, test: the splits; no original is in two of them.
        provenance: JSON-able: generator version or files, seed, options, SHA-256.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    provenance: dict

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one item of each modality, ``(C, H, W)`` of an image."""
        return self.train.shapes

    @property
    def symbols(self) -> dict[str, int]:
        """How many different symbols there are, for each modality that is made of symbols."""
        return self.train.symbols

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def to(self, device) -> DataSet:
        """The same data set with every tensor on ``device``."""
        return replace(self, **{name: split.to(device) for name, split in self.splits.items()})


def observed_at(observed: Mapping[str, Tensor] | None, rows: Tensor) -> dict[str, Tensor] | None:
    """What ``rows`` observe, bool ``[n]`` by modality, or None where that is everything."""
    at = {name: seen[rows] for name, seen in (observed or {}).items()}
    return None if all(bool(seen.all()) for seen in at.values()) else at


def check_split(argument: str, split: object, needs: tuple[str, ...] = ("batch", "mask", "to")) -> None:
    """Refuse what is no split, before any work is done with it: a whole data set, a loader, a dictionary, nothing.

    Raises:
        ValueError: saying what was given and what is expected.
    """
    if isinstance(split, DataSet):
        raise ValueError(f"{argument} is a whole data set; expected one of its splits, such as data.train")
    check_has(argument, split, ("__len__", *needs), f"a split, such as data.train, with {', '.join(needs)}")
    if len(split) == 0:
        raise ValueError(f"{argument} has no rows; expected at least one")


def checked(name: str, value: object, dtype: torch.dtype, shape: str | tuple[int | str, ...]) -> Tensor:
    """An array or a list as a tensor of this type and of this shape.

    The shape is sizes, or a letter for each axis of any size, or `ITEMS`.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, np.ndarray | list):
        value = torch.as_tensor(value)
    given = kind(value)
    if isinstance(value, Tensor):
        given = f"{value.dtype} of shape {tuple(value.shape)}"
        fits = shape in (tuple(value.shape), "NCHW"[: value.ndim]) or (shape == ITEMS and value.ndim > 0)
        if value.dtype == dtype and fits:
            return value
    raise ValueError(f"{name} is {given}; expected {dtype} of shape ({', '.join(map(str, shape))})")
