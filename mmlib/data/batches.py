"""Which rows a training step sees: a pure function of seed and step, so that resuming needs no iterator state."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import whole


def derived_generator(*parts: int) -> torch.Generator:
    """A CPU generator with a well-mixed seed from several non-negative integers, such as (seed, epoch)."""
    seed = np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1)
    return torch.Generator().manual_seed(int(seed))


@lru_cache(maxsize=4)
def _epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=derived_generator(seed, epoch))


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
