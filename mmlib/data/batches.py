"""Which rows a training step sees: a pure function of seed and step, so that resuming needs no iterator state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import whole

SCHEDULES = ("shuffled", "alternating")


def derived_generator(*parts: int) -> torch.Generator:
    """A CPU generator with a well-mixed seed from several non-negative integers, such as (seed, epoch)."""
    seed = np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return torch.Generator().manual_seed(int(seed))


@lru_cache(maxsize=8)
def _epoch_order(n: int, seed: int, *epoch: int) -> Tensor:
    return torch.randperm(n, generator=derived_generator(seed, *epoch))


def rows_at(step: int, n: int, batch_size: int, seed: int) -> Tensor:
    """The rows of training step ``step``: int64 ``[batch_size]``.

    Each epoch is a fresh permutation of all ``n`` rows, cut into ``n // batch_size`` batches; the incomplete rest is
    dropped, another rest in each epoch.

    Args:
        step: number of the step, from 0.
        n: number of rows of the split.
        batch_size: rows in a batch, at most ``n``.
        seed: the run's seed.

    Raises:
        ValueError: when one of them is no integer in its range.
    """
    step, seed, batch_size = whole("step", step, 0), whole("seed", seed, 0), whole("batch_size", batch_size)
    if batch_size > n:
        raise ValueError(f"batch_size is {batch_size}; expected 1 to n = {n}, the number of rows")
    epoch, position = divmod(step, n // batch_size)
    start = position * batch_size
    return _epoch_order(n, seed, epoch)[start : start + batch_size].clone()


def rows_by_kind(observed: Mapping[str, Tensor] | None, batch_size: int) -> list[Tensor]:
    """Rows that show the same modalities, int64 each: complete ones first, then the other kinds.

    Those follow in the order of the modalities that they show.

    Args:
        observed: bool ``[N]`` by modality, as of a split.
        batch_size: rows in a batch, at most as many as there are of any kind.

    Raises:
        ValueError: where alternating between kinds makes no sense: every row is complete, or none is, or a kind has
            fewer rows than a batch.
    """
    needs = "schedule is 'alternating', which takes turns between complete rows and others"
    if observed is None:
        raise ValueError(
            f"{needs}; every row is complete: expected 'shuffled', or a split with missing modalities"
        )
    seen = torch.stack(list(observed.values()), 1).cpu()  # [N, M]
    patterns = sorted(
        seen.unique(dim=0).tolist(), key=lambda shown: (sum(shown) < len(shown), [not s for s in shown])
    )
    if not all(patterns[0]):
        raise ValueError(f"{needs}; no row is complete: expected 'shuffled'")
    kinds = [(seen == torch.tensor(shown)).all(1).nonzero()[:, 0] for shown in patterns]
    for shown, rows in zip(patterns, kinds, strict=True):
        if len(rows) < batch_size:
            names = ", ".join(name for name, there in zip(observed, shown, strict=True) if there)
            raise ValueError(
                f"{needs}; only {len(rows)} rows show just {names}, fewer than batch_size = {batch_size}"
            )
    return kinds


@lru_cache(maxsize=4)
def alternating_order(paired: int, *others: int) -> tuple[tuple[int, int], ...]:
    """The batches of an epoch in which each shows one kind of row, as (kind, number): kind 0 is complete.

    Every ``period``-th batch is a complete one, ``period`` being the number of all batches over that of complete ones,
    rounded down, until these are used up. The other kinds take strict turns in between, and then to the end.

    Args:
        paired: number of complete batches.
        others: of each of the other kinds.

    Source: Joy et al. 2022, Section 4.1; the period as in the released code.
    """
    turns = [(kind, i) for i in range(max(others)) for kind, n in enumerate(others, 1) if i < n]
    period, order = (paired + len(turns)) // paired, []
    complete, incomplete = iter([(0, i) for i in range(paired)]), iter(turns)
    for position in range(paired + len(turns)):
        first, then = (complete, incomplete) if position % period == 0 else (incomplete, complete)
        order.append(next(first, None) or next(then))
    return tuple(order)


def alternating_rows_at(step: int, kinds: Sequence[Tensor], batch_size: int, seed: int) -> Tensor:
    """As `rows_at`, of batches that each show one kind of row only: int64 ``[batch_size]``.

    Args:
        step: number of the step, from 0.
        kinds: from `rows_by_kind`.
        batch_size: rows in a batch.
        seed: the run's seed.
    """
    order = alternating_order(*(len(rows) // batch_size for rows in kinds))
    epoch, position = divmod(whole("step", step, 0), len(order))
    kind, number = order[position]
    shuffled = _epoch_order(len(kinds[kind]), seed, epoch, kind)
    return kinds[kind][shuffled[number * batch_size : (number + 1) * batch_size]]
