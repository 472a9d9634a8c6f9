"""Class-wise pairing of unimodal sets, many to many, and n %-of-data subsets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .core import Items, PairedSplit


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
        ValueError: when ``dm`` or ``max_d`` is less than 1, or no class occurs in every modality.
    """
    for name, value in (("dm", dm), ("max_d", max_d)):
        if int(value) != value or value < 1:
            raise ValueError(f"{name} is {value}; expected a whole number of at least 1")
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
    original, the copies stay together: n % of the data means n % of the sources, not n % of their copies. (The released
    code of Chen and Zhu 2022 takes n % of every class, which keeps nearly the same items.)

    Args:
        items: one unimodal set.
        fraction: share of the originals to keep, in (0, 1]; at least one original is kept.

    Raises:
        ValueError: when ``fraction`` leaves (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise ValueError(f"fraction is {fraction}; expected a share in (0, 1]")
    if fraction == 1.0:
        return items
    distinct, inverse = torch.unique(items.original, return_inverse=True)
    position = torch.arange(len(items))
    first = torch.full((len(distinct),), len(items)).scatter_reduce_(0, inverse, position, "amin")
    rank = torch.empty_like(first)
    rank[first.argsort()] = torch.arange(len(first))  # rank of each original by first appearance
    keep = max(1, int(fraction * len(distinct) + 1e-9))
    return items.select(torch.nonzero(rank[inverse] < keep).flatten())


def paired_split(
    items: Mapping[str, Items],
    dm: int = 1,
    max_d: int = 10_000,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
    generator: torch.Generator | None = None,
) -> PairedSplit:
    """Takes the first ``fraction`` of each unimodal set, pairs what is left, then hides partners of some rows.

    Args:
        items: one unimodal set for each modality.
        dm: as in `pair_by_class`.
        max_d: as in `pair_by_class`.
        fraction: as in `first_fraction`, taken *before* pairing.
        paired: as in `partially_paired`.
        always: as in `partially_paired`.
        generator: source of randomness.

    Raises:
        ValueError: as in `pair_by_class`, `first_fraction` and `partially_paired`.
    """
    items = {name: first_fraction(item, fraction) for name, item in items.items()}
    index = pair_by_class({name: item.labels for name, item in items.items()}, dm, max_d, generator)
    first = next(iter(items))
    split = PairedSplit(items, index, items[first].labels[index[first]])
    if paired == 1.0 and always is None:
        return split
    return partially_paired(split, paired, always, generator)


def partial(paired: float, always: str | None) -> dict:
    """The options of `partially_paired` as a data set states them: nothing where every row is whole."""
    return {} if paired == 1.0 and always is None else {"paired": paired, "always": always}


def partially_paired(
    split: PairedSplit, paired: float, always: str | None = None, generator: torch.Generator | None = None
) -> PairedSplit:
    """Keeps a share of the rows whole; each of the others shows one modality only (Joy et al. 2022, Section 4.1).

    Args:
        split: complete rows.
        paired: share of the rows that stay whole, in (0, 1].
        always: the modality that every row shows; None deals the other rows out evenly, so that with one-to-one pairs
            every item that has lost its partner stands alone, and none of their partners is seen.
        generator: source of randomness.

    Raises:
        ValueError: when ``paired`` leaves (0, 1], ``always`` names no modality, or the split already misses some.
    """
    if not 0.0 < paired <= 1.0:
        raise ValueError(f"paired is {paired}; expected a share of rows in (0, 1]")
    if always is not None and always not in split.names:
        raise ValueError(f"always is {always!r}; expected None or one of {split.names}")
    if split.observed is not None:
        raise ValueError("split already misses modalities; expected complete rows")
    whole = round(paired * len(split))
    order = torch.randperm(len(split), generator=generator)
    shown = torch.full((len(split),), -1)  # number of the only modality that a row shows, -1: all
    dealt = torch.arange(len(split) - whole) % len(split.names)
    shown[order[whole:]] = dealt if always is None else split.names.index(always)
    observed = {name: (shown == -1) | (shown == m) for m, name in enumerate(split.names)}
    return replace(split, observed=observed)
