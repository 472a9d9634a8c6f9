"""Pictures with several captions each: rows, and what a data set of them knows besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .caption_coder import CaptionCoder
from .core import DataSet, Items, PairedSplit
from .pairing import first_fraction, partially_paired
from .vocabulary import PADDING, Vocabulary

NAMES = ("image", "caption")


@dataclass(frozen=True)
class CaptionedSet(DataSet):
    """A data set of the modalities *image* and *caption*, and what is known of both besides.

    Args:
        vocabulary: what the symbols of captions stand for.
        pictures: uint8 ``[N, 3, H, W]`` by split, picture i that of item i of *image*; None: there are none to show.
        attributes: int64 ``[N, 10]`` by split, of the same items, as in `mmlib.data.grammar.ATTRIBUTES`; None: unknown.
        coder: what reads captions that are codes; None: they are symbols.
        words: the same set with captions as symbols, where they are codes.
    """

    vocabulary: Vocabulary
    pictures: Mapping[str, Tensor] | None = None
    attributes: Mapping[str, Tensor] | None = None
    coder: CaptionCoder | None = None
    words: CaptionedSet | None = None

    @property
    def padding(self) -> dict[str, int]:
        """The symbol that fills captions up: a likelihood over words does not count it."""
        return {"caption": PADDING} if self.coder is None else {}

    def coded(self, coder: CaptionCoder) -> CaptionedSet:
        """The same set with codes, float32 ``[C]``, in the place of captions: for models that take no symbols."""

        def of_codes(split: PairedSplit) -> PairedSplit:
            said = split.items["caption"]
            codes = Items(coder.encode(said.values), said.labels, said.original)
            return replace(split, items={**split.items, "caption": codes})

        splits = {name: of_codes(split) for name, split in self.splits.items()}
        provenance = {**self.provenance, "caption_view": "codes"}
        return replace(self, **splits, provenance=provenance, coder=coder, words=self)


def captioned_split(
    images: Items,
    captions: Items,
    generator: torch.Generator,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
) -> PairedSplit:
    """A row for each caption, beside its picture, in random order.

    Args:
        images: one for each picture; ``original`` is the picture's number.
        captions: as many for each picture, in the pictures' order; ``original`` and labels are those of the picture.
        generator: source of the order, and of what is hidden.
        fraction: share of the pictures that are kept, the first ones.
        paired: share of the pictures that are seen beside their captions. Of every other one either the picture or its
            captions are hidden, in all of its rows: whatever is seen alone is never seen beside its partner.
        always: the modality that those others show; None: as many pictures for each.
    """
    kept = {"image": first_fraction(images, fraction), "caption": first_fraction(captions, fraction)}
    picture = torch.arange(len(kept["image"])).repeat_interleave(len(captions) // len(images))
    order = torch.randperm(len(picture), generator=generator)
    picture = picture[order]
    observed = None
    if paired != 1.0:
        one_each = torch.arange(len(kept["image"]))
        each = PairedSplit(
            kept,
            {"image": one_each, "caption": one_each * (len(captions) // len(images))},
            kept["image"].labels,
        )
        hidden = partially_paired(each, paired, always, generator).observed
        observed = {name: seen[picture] for name, seen in hidden.items()}
    return PairedSplit(kept, {"image": picture, "caption": order}, kept["image"].labels[picture], observed)
