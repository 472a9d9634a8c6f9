"""Data of one's own as a split: tensors by modality, whose rows may miss some of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import kind, one_of, whole

from .core import Items, Split, checked, observed_at


class TensorSplit(Split):
    """Rows of tensors: row ``p`` of every modality belongs together.

    Three kinds of modality, told apart by their type:

    * numbers, in floating point, ``[N, *shape]``: kept as they are;
    * symbols 0, 1, ..., in any other integer type or as truth values, ``[N, *shape]``: kept as int64;
    * images, uint8 ``[N, C, H, W]``, pixel values 0 to 255: in a batch float32 in [0, 1].

    What a row does not observe is said by ``observed``, or by NaN with ``missing="nan"``: then a row with *any* NaN in
    a modality does not observe that modality, and its other numbers there are not used. Columns that go missing apart
    belong into modalities of their own. What is hidden may hold anything; a hidden NaN reads 0.

    Args:
        tensors: tensors or arrays ``[N, *shape]`` by modality.
        observed: bool ``[N]`` by modality, True = observed; names left out are observed in every row.
        labels: int64 ``[N]``, a class for each row; None: there are none, and what needs them says so.
        original: int64 ``[N]``, rows with the same number are not independent (several of one patient), so standard
            errors are clustered by it; None: every row is its own.
        symbols: how many different symbols a modality can have, by name; default: those seen, 1 + the largest.
        missing: ``"nan"``: NaN says that a row does not observe the modality; None: an observed NaN is refused.

    Raises:
        ValueError: naming the argument: rows of different number, a type that is no number, an observed NaN, infinity
            or symbol out of range, a name that is no modality, or a row that observes none.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor | np.ndarray],
        observed: Mapping[str, Tensor | np.ndarray] | None = None,
        labels: Tensor | np.ndarray | None = None,
        original: Tensor | np.ndarray | None = None,
        symbols: Mapping[str, int] | None = None,
        missing: str | None = None,
    ) -> None:
        if missing is not None:
            one_of("missing", missing, ("nan",))
        if not isinstance(tensors, Mapping) or not tensors:
            raise ValueError(f"tensors is {kind(tensors)}; expected tensors [N, *shape] by modality name")
        self.tensors = {name: as_tensor(f"tensors[{name!r}]", x) for name, x in tensors.items()}
        first, rows = next((name, len(x)) for name, x in self.tensors.items())
        for name, x in self.tensors.items():
            if len(x) != rows or not rows:
                expected = f"{rows} as tensors[{first!r}]" if rows else "at least one"
                raise ValueError(f"tensors[{name!r}] has {len(x)} rows; expected {expected}")
        for argument, given in (("observed", observed), ("symbols", symbols)):
            unknown = [name for name in given or {} if name not in self.tensors]
            if unknown:
                known = ", ".join(self.tensors)
                raise ValueError(f"{argument} names {unknown[0]!r}; the modalities are {known}")
        seen, self.symbols = {}, {}
        for name, x in self.tensors.items():
            seen[name] = torch.ones(rows, dtype=torch.bool, device=x.device)
            if observed is not None and name in observed:
                seen[name] = checked(f"observed[{name!r}]", observed[name], torch.bool, (rows,))
            if x.is_floating_point():
                self.tensors[name], seen[name] = _numbers(name, x, seen[name], missing)
            if name in (symbols or {}) or x.dtype == torch.int64:
                self.symbols[name] = _symbols(name, x[seen[name]], (symbols or {}).get(name))
        lost = (~torch.stack(list(seen.values())).any(0)).nonzero().flatten().tolist()
        if lost:
            found = f"{len(lost)} rows of tensors observe no modality, the first is row {lost[0]}"
            raise ValueError(f"{found}; expected every row to observe one: leave out the others")
        self.observed = observed_at(seen, torch.arange(rows, device=self.device))
        self.labels = labels if labels is None else checked("labels", labels, torch.int64, (rows,))
        self.groups = original if original is None else checked("original", original, torch.int64, (rows,))

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __repr__(self) -> str:
        lines = []
        for name, x in self.tensors.items():
            what = "images" if x.dtype == torch.uint8 else "numbers"
            what = f"{self.symbols[name]} symbols" if name in self.symbols else what
            seen = len(self) if self.observed is None else int(self.observed[name].sum())
            lines.append(f"{name}: {what} {self.shapes[name]}, {seen} observed")
        return "\n  ".join([f"TensorSplit of {len(self)} rows", *lines])

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one item of each modality, without the axis of the rows."""
        return {name: tuple(x.shape[1:]) for name, x in self.tensors.items()}

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next(iter(self.tensors.values())).device

    @property
    def items(self) -> dict[str, Items]:
        """The images that are observed, by modality: what `mmlib.metrics.train_classifiers` makes judges of.

        Raises:
            ValueError: if a modality is no image, or rows have no labels.
        """
        other = [name for name, x in self.tensors.items() if x.dtype != torch.uint8]
        if other or self.labels is None:
            found = f"modality {other[0]!r} is no image" if other else "the rows have no labels"
            raise ValueError(f"{found}; judges are trained on images with labels: bring judges of your own")
        rows = torch.arange(len(self), device=self.device)
        seen = self.observed or dict.fromkeys(self.names, slice(None))
        sources = self.original(self.names[0], rows)
        return {n: Items(x[seen[n]], self.labels[seen[n]], sources[seen[n]]) for n, x in self.tensors.items()}

    def gather(self, rows: Tensor, device=None) -> dict[str, Tensor]:
        """As `batch`, for row numbers that are known to be right and lie where the tensors do; nothing is checked."""
        found = {name: x[rows].to(device or x.device) for name, x in self.tensors.items()}
        return {name: x.float().div_(255.0) if x.dtype == torch.uint8 else x for name, x in found.items()}

    def original(self, name: str, rows: Tensor | None = None) -> Tensor:
        """Source numbers int64 ``[B]`` of ``rows`` (None: all), for clustered errors: the same for every ``name``."""
        one_of("name", name, self.tensors)
        rows = self._checked(rows)
        return rows if self.groups is None else self.groups[rows]

    def select(self, rows: Tensor) -> TensorSplit:
        """The rows at ``rows`` (int64 or bool ``[n]``) alone, as a copy."""
        return self._map(lambda x: x[rows])

    def to(self, device) -> TensorSplit:
        """The same split with every tensor on ``device``."""
        return self._map(lambda x: x.to(device))

    def _map(self, change) -> TensorSplit:
        changed = {"tensors": {name: change(x) for name, x in self.tensors.items()}}
        if self.observed is not None:
            changed["observed"] = {name: change(x) for name, x in self.observed.items()}
        for argument, x in (("labels", self.labels), ("original", self.groups)):
            changed[argument] = None if x is None else change(x)
        return self._with(**changed)

    def _with(self, **changes) -> TensorSplit:
        same = {"observed": self.observed, "labels": self.labels, "original": self.groups}
        return TensorSplit(**{"tensors": self.tensors, **same, "symbols": self.symbols, **changes})


def as_tensor(what: str, value: object) -> Tensor:
    """Numbers as they are, images as uint8, anything else that counts as int64: ``[N, *shape]``.

    Raises:
        ValueError: for anything that holds no real numbers, or bytes that are no images.
    """
    if isinstance(value, np.ndarray | list):
        try:
            value = torch.from_numpy(np.array(value))  # a copy: an array may be read-only, or change later
        except (TypeError, ValueError):
            found = f"of dtype {value.dtype}" if isinstance(value, np.ndarray) else "a list"
            raise ValueError(f"{what} is {found}; expected numbers: text as symbols 0, 1, ...") from None
    if not isinstance(value, Tensor) or not value.ndim or value.is_complex():
        given = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else kind(value)
        raise ValueError(f"{what} is {given}; expected a tensor of real numbers [N, *shape]")
    if value.dtype == torch.uint8 and (value.ndim != 4 or value.shape[1] > 4 >= value.shape[3]):
        advice = ", or .float() for numbers and .long() for symbols"
        advice = ": .permute(0, 3, 1, 2) puts the colours first" if value.ndim == 4 else advice
        expected = f"images [N, C, H, W]{advice}"
        raise ValueError(f"{what} is torch.uint8 of shape {tuple(value.shape)}; expected {expected}")
    value = value.detach()
    return value if value.is_floating_point() or value.dtype == torch.uint8 else value.long()


def _numbers(name: str, x: Tensor, seen: Tensor, missing: str | None) -> tuple[Tensor, Tensor]:
    """Numbers without NaN, and the rows that observe them."""
    nan = x.isnan()
    if missing == "nan":
        seen = seen & ~nan.flatten(1).any(1) if x.ndim > 1 else seen & ~nan
    bad = ~x[seen].isfinite()
    if bool(bad.any()):
        row = int(seen.nonzero()[bad.nonzero()[0, 0], 0])
        advice = "observed= or missing='nan' says what is not observed"
        raise ValueError(f"tensors[{name!r}] has NaN or infinity in row {row}; expected numbers: {advice}")
    return (x.masked_fill(nan, 0) if bool(nan.any()) else x), seen


def _symbols(name: str, x: Tensor, classes: int | None) -> int:
    """How many different symbols there are, if those observed, ``x``, are among them."""
    if x.dtype != torch.int64:
        raise ValueError(f"symbols names {name!r}, which is {x.dtype}; expected int64 symbols")
    low, high = (int(x.min()), int(x.max())) if x.numel() else (0, 0)
    classes = high + 1 if classes is None else whole(f"symbols[{name!r}]", classes)
    if low < 0 or high >= classes:
        expected = f"0 to {classes - 1}" if high >= classes else "symbols from 0"
        raise ValueError(f"tensors[{name!r}] has symbols {low} to {high}; expected {expected}")
    return classes
