"""Items matched at random, of which few belong together, and pairs that somebody found among them.

The steps of label propagation (Shi et al. 2021, Section 4.5): a split of few related pairs; `left_out`, all other
items; `matched`, random partners for these and, to place a threshold, for the few; `with_found`, what was found beside
the few.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import whole

from .core import Items, PairedSplit, checked
from .tensors import TensorSplit


@dataclass(frozen=True)
class Matched:
    """Items of two modalities in G random groups of g each: in its group every item meets g partners.

    Whoever scores pairs decodes an item once for all g. ``g = 1`` is a random matching, one to one.

    Args:
        items: what each modality shows.
        index: int64 ``[G, g]`` for each modality, numbers of items.
    """

    items: Mapping[str, Items]
    index: Mapping[str, Tensor]

    @property
    def related(self) -> Tensor:
        """Whether two items of a group show the same class: bool ``[G, g, g]``, first modality by second."""
        first, second = (self.items[name].labels[rows] for name, rows in self.index.items())
        return first[:, :, None] == second[:, None, :]

    def batches(self, device=None) -> Iterator[dict[str, Tensor]]:
        """The items of each group, as models take them: ``[g, *shape]`` by modality."""
        for group in range(len(next(iter(self.index.values())))):
            yield {n: item.batch(self.index[n][group], device) for n, item in self.items.items()}


def left_out(items: Mapping[str, Items], kept: Mapping[str, Items]) -> dict[str, Items]:
    """The items that share no original with those ``kept``, by modality.

    Raises:
        ValueError: if a modality has none.
    """
    found = {n: x.select(~torch.isin(x.original, kept[n].original)) for n, x in items.items()}
    if empty := [name for name, x in found.items() if not len(x)]:
        raise ValueError(f"kept has every original of {empty[0]!r}; expected some to be left out")
    return found


def matched(
    items: Mapping[str, Items], partners: int = 1, generator: torch.Generator | None = None
) -> Matched:
    """Items matched at random, whatever their class: each meets so many ``partners``.

    Of the larger modality a random part is used, so that both have as many items; so are complete groups only.

    Raises:
        ValueError: for another number of modalities than two, or fewer items than partners.
    """
    if len(items) != 2:
        raise ValueError(f"items has modalities {', '.join(items) or 'none'}; expected two")
    least = min(len(item) for item in items.values())
    partners = whole("partners", partners, 1, least)
    groups = least // partners
    drawn = {name: torch.randperm(len(item), generator=generator) for name, item in items.items()}
    return Matched(items, {n: rows[: groups * partners].view(groups, partners) for n, rows in drawn.items()})


def with_found(split: PairedSplit, matches: Matched, found: Tensor) -> TensorSplit:
    """The pairs of a split, complete and related, and beside them those ``found`` among the matched ones.

    Args:
        split: of the same two modalities.
        matches: what was searched.
        found: bool ``[G, g, g]``, which pairs are taken to be related; none is no error.

    Returns:
        Rows without labels, since nobody knows them of what was found.

    Raises:
        ValueError: for other modalities, a split that misses some, or another shape.
    """
    if list(split.names) != list(matches.items) or split.observed is not None:
        raise ValueError(
            f"split has modalities {split.names}; expected {list(matches.items)}, in complete rows"
        )
    shape = tuple(matches.related.shape)
    group, *places = checked("found", found, torch.bool, shape).nonzero().unbind(-1)
    tensors = {}
    for (name, item), place in zip(matches.items.items(), places, strict=True):
        rows = matches.index[name][group, place]
        tensors[name] = torch.cat([split.items[name].values[split.index[name]], item.values[rows]])
    symbols = {name: item.symbols for name, item in split.items.items() if item.symbols is not None}
    return TensorSplit(tensors, symbols=symbols)
