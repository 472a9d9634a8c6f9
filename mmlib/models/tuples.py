"""Which items of a batch make a tuple: items of different rows do not belong together."""

from typing import NamedTuple

import torch
from torch import Tensor


class Tuples(NamedTuple):
    """N tuples for each of B rows, made of items of several rows."""

    groups: tuple[int, ...]  # M: modalities of one number come from one row
    shifts: Tensor  # int64 [M, N], how many rows further each modality comes from
    rows: Tensor  # int64 [M, N, B], the row that it comes from; the row itself where the tuple is not usable
    usable: Tensor  # bool [N, B], whether the tuple observes items of more than one row

    def observed(self, observed: Tensor) -> Tensor:
        """Which modalities each tuple observes, of what rows observe, bool [M, B]: [M, N, B]."""
        return torch.stack([seen[rows] for seen, rows in zip(observed, self.rows, strict=True)])

    def of_several_classes(self, labels: Tensor, observed: Tensor) -> "Tuples":
        """The same, with those alone usable that observe items of more than one class; ``labels`` int64 [B]."""
        classes, seen = labels[self.rows], self.observed(observed)
        lowest, highest = classes.where(seen, labels.max()).amin(0), classes.where(seen, labels.min()).amax(0)
        usable, own = self.usable & (lowest < highest), torch.arange(len(labels), device=labels.device)
        return self._replace(rows=self.rows.where(usable, own), usable=usable)


def shifted(observed: Tensor, groups: tuple[int, ...], shifts: Tensor) -> Tuples:
    """The tuples of rows that observe bool [M, B] whose modalities come from ``shifts`` [M, N] rows further on."""
    b = observed.shape[1]
    own = torch.arange(b, device=observed.device)
    rows = (own + shifts[..., None]) % b  # [M, N, B]
    seen = Tuples(groups, shifts, rows, rows).observed(observed)
    first, last = rows.masked_fill(~seen, b).amin(0), rows.masked_fill(~seen, -1).amax(0)
    usable = first < last
    return Tuples(groups, shifts, rows.where(usable, own), usable)


def exchanged(observed: Tensor, m: int, shifts: Tensor) -> Tuples:
    """Every row's items with those of modality ``m`` exchanged for those ``shifts`` [N] rows further on."""
    moved = [torch.zeros_like(shifts)] * len(observed)
    moved[m] = shifts
    return shifted(observed, tuple(int(i == m) for i in range(len(observed))), torch.stack(moved))


def distinct_shifts(b: int, n: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """``n`` different shifts from 1 to ``b`` - 1 in random order, so that a row meets ``n`` different others: [n]."""
    return torch.empty(b - 1, device=device).uniform_(generator=generator).argsort()[:n] + 1


def random_tuples(observed: Tensor, n: int, generator: torch.Generator | None = None) -> Tuples:
    """``n`` different tuples for each row with an item of a random row for each modality.

    The first and the last are never of one row, so that no tuple is a related one.
    """
    m, b = observed.shape
    drawn = torch.empty(m, n, device=observed.device).uniform_(generator=generator)
    shifts = (drawn * b).long().clamp(max=b - 1)
    shifts[-1] = shifts[0] + distinct_shifts(b, n, observed.device, generator)
    return shifted(observed, tuple(range(m)), shifts)
