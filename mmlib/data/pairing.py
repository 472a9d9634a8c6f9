"""Class-wise pairing of unimodal sets, many to many, and n %-of-data subsets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import one_of, whole

from .batches import derived_generator
from .core import SPLITS, Items, PairedSplit

UNPAIRED = ("kept", "dropped")


def pair_by_class(
    labels: Mapping[str, Tensor], dm: int = 1, max_d: int = 10_000, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Pairs items of the same class: an index tensor int64 ``[P]`` for each modality.

    For each class, ``n = min(number of items over modalities, max_d)``; the *first* ``n`` items of every modality are
    kept, permuted ``dm`` times independently for each modality, and laid side by side. Every kept item appears in
    exactly ``dm`` rows, always with random partners of its class (Shi et al. 2021, Section 4.1; the details are
    those of their released code). The rows are shuffled at the end, so that any first few rows mix the classes.

    Args:
        labels: int64 ``[N_m]`` for each modality.
        dm: how many random partners each item gets.
        max_d: most items of one class and modality that are kept.
        generator: source of randomness.

    Raises:
        ValueError: when ``dm`` or ``max_d`` is no integer of at least 1, or no class occurs in every modality.
    """
    dm, max_d = whole("dm", dm), whole("max_d", max_d)
    for name, value in labels.items():
        if not isinstance(value, Tensor) or value.ndim != 1 or value.dtype != torch.int64:
            raise ValueError(f"labels[{name!r}] is not a torch.int64 tensor of shape (N,)")
    classes = sorted(set.intersection(*(set(value.tolist()) for value in labels.values()))) if labels else []
    if not classes:
        raise ValueError("labels: no class occurs in every modality, so nothing can be paired")
    columns: dict[str, list[Tensor]] = {name: [] for name in labels}
    for digit in classes:
        places = {name: torch.nonzero(value == digit).flatten() for name, value in labels.items()}
        n = min(max_d, *(len(place) for place in places.values()))
        for _ in range(dm):
            for name, place in places.items():
                columns[name].append(place[torch.randperm(n, generator=generator)])
    index = {name: torch.cat(parts) for name, parts in columns.items()}
    order = torch.randperm(len(next(iter(index.values()))), generator=generator)
    return {name: rows[order] for name, rows in index.items()}


def first_fraction(items: Items, fraction: float) -> Items:
    """The items made from the first ``fraction`` of the originals, in order of first appearance.

    Where each image is its own original this is the first n % of the set. Where several images are warped copies of one
    original, the copies stay together: n % of the data means n % of the sources, not n % of their copies.

    The code released with Chen and Zhu 2022 takes n % of every class instead: in each set the first min(int(0.2 n1),
    int(0.2 n2)) items of a class that has n1 items in one set and n2 in the other. Nearly the same items are kept.

    Raises:
        ValueError: when ``fraction``, the share of the originals to keep (at least one is), leaves (0, 1].
    """
    if share("fraction", fraction) == 1.0:
        return items
    _, first = np.unique(items.original.numpy(), return_index=True)  # where each original appears first
    keep = max(1, int(fraction * len(first) + 1e-9))
    kept = items.original[np.sort(first)[:keep]]
    return items.select(torch.isin(items.original, kept))


def paired_split(
    items: Mapping[str, Items],
    dm: int = 1,
    max_d: int = 10_000,
    fraction: float = 1.0,
    rest: str = "drop",
    paired: float = 1.0,
    always: str | None = None,
    unpaired: str = "kept",
    generator: torch.Generator | None = None,
) -> PairedSplit:
    """Takes the first ``fraction`` of each unimodal set, pairs what is left, then hides partners of some rows.

    Args:
        items: one unimodal set for each modality.
        dm: random partners of each item, see `pair_by_class`.
        max_d: most items of one class.
        fraction: share of the originals of each modality that is kept, taken *before* pairing, see `first_fraction`.
        rest: what becomes of the other items: "drop" or, as in `with_rest`, "unpaired".
        paired: share of the rows that stay whole; the others show one modality only, see `partially_paired`.
        always: the modality that those others show; None: as many rows for each.
        unpaired: whether those others are "kept" or "dropped", so that the same pairs are all there is.
        generator: source of randomness.

    Raises:
        ValueError: as in those functions.
    """
    kept = {name: first_fraction(item, fraction) for name, item in items.items()}
    index = pair_by_class({name: item.labels for name, item in kept.items()}, dm, max_d, generator)
    first = next(iter(kept))
    split = PairedSplit(kept, index, kept[first].labels[index[first]])
    if rest == "unpaired":
        return with_rest(split, items, dm, generator)
    if paired == 1.0 and always is None:
        return split
    partial = partially_paired(split, paired, always, generator)
    if unpaired == "kept":
        return partial
    return partial.select(torch.stack(list(partial.observed.values())).all(0))


def pairing_options(
    names: Collection[str],
    dm: int = 1,
    max_d: int = 10_000,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
    unpaired: str = "kept",
) -> dict:
    """Options of `paired_split`, checked, as a data set states them, the last three only where they matter.

    Raises:
        ValueError: naming the option.
    """
    options = {"dm": whole("dm", dm), "max_d": whole("max_d", max_d), "fraction": share("fraction", fraction)}
    if always is not None:
        one_of("always", always, names)
    if share("paired", paired) != 1.0 or always is not None:
        options |= {"paired": float(paired), "always": always}
    if one_of("unpaired", unpaired, UNPAIRED) != "kept":
        if options.get("paired", 1.0) == 1.0:
            raise ValueError(
                f"unpaired is {unpaired!r}, but every row is paired; expected 'kept', or paired below 1"
            )
        options["unpaired"] = unpaired
    return options


def partial_options(names: Collection[str], fraction: float, paired: float, always: str | None) -> dict:
    """Options of pictures beside their texts, checked; ``paired`` and ``always`` only where they matter.

    Raises:
        ValueError: naming the option.
    """
    options = {"fraction": share("fraction", fraction)}
    if always is not None:
        one_of("always", always, names)
    return options | ({"paired": paired, "always": always} if share("paired", paired) != 1.0 else {})


def three_splits(
    items: Mapping[str, Mapping[str, Items]], options: dict, seed: int
) -> dict[str, PairedSplit]:
    """Train, validation and test, from the unimodal sets of each: ``options`` are for train alone.

    Validation and test are whole, and pair every item once.
    """
    noise = {split: derived_generator(seed, 2, s) for s, split in enumerate(SPLITS)}
    whole_splits = {split: paired_split(items[split], generator=noise[split]) for split in SPLITS[1:]}
    return {"train": paired_split(items["train"], **options, generator=noise["train"])} | whole_splits


def share(name: str, value: float) -> float:
    """``value`` as a share in (0, 1]; anything else is a ValueError that names it."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value <= 1:
        raise ValueError(f"{name} is {value!r}; expected a share in (0, 1]")
    return float(value)


def partially_paired(
    split: PairedSplit, paired: float, always: str | None = None, generator: torch.Generator | None = None
) -> PairedSplit:
    """Keeps a share of the rows whole; each of the others shows one modality only (Joy et al. 2022, Section 4.1).

    That is the modality ``always``; None deals these rows out evenly, so that with one-to-one pairs every item that has
    lost its partner stands alone, and none of their partners is seen.

    Raises:
        ValueError: when ``paired`` leaves (0, 1], ``always`` names no modality, or the split already misses some.
    """
    whole_rows = round(share("paired", paired) * len(split))
    if always is not None:
        one_of("always", always, split.names)
    if split.observed is not None:
        raise ValueError("split already misses modalities; expected complete rows")
    order = torch.randperm(len(split), generator=generator)
    shown = torch.full((len(split),), -1)  # number of the only modality that a row shows, -1: all
    dealt = torch.arange(len(split) - whole_rows) % len(split.names)
    shown[order[whole_rows:]] = dealt if always is None else split.names.index(always)
    observed = {name: (shown == -1) | (shown == m) for m, name in enumerate(split.names)}
    return replace(split, observed=observed)


def with_rest(
    split: PairedSplit, items: Mapping[str, Items], dm: int, generator: torch.Generator
) -> PairedSplit:
    """Adds rows of one modality only for the originals that a split was paired without.

    Every original left out appears ``dm`` times in each modality, as often as the paired ones do, and never beside a
    partner. Rows of the split keep their partners; all rows are shuffled. ``items`` are the whole sets, aligned (item p
    of every modality shows the same original), and the split is made of complete pairs of the first part of each.
    """
    alone = [torch.arange(len(split.items[name]), len(item)).repeat(dm) for name, item in items.items()]
    rows = torch.cat(alone)  # hidden partners are the row's own original: of the right class, and never seen
    shown = torch.cat([torch.full_like(part, m) for m, part in enumerate(alone)])
    order = torch.randperm(len(split) + len(rows), generator=generator)
    index = {name: torch.cat([paired, rows])[order] for name, paired in split.index.items()}
    whole = torch.ones(len(split), dtype=torch.bool)
    observed = {name: torch.cat([whole, shown == m])[order] for m, name in enumerate(items)}
    labels = next(iter(items.values())).labels[next(iter(index.values()))]
    return PairedSplit(items, index, labels, observed)
