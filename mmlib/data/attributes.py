"""Faces with attributes: CelebA's names, strings made of them, and a data set of pictures beside such strings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import one_of

from .core import DataSet, Items, PairedSplit, checked
from .pairing import first_fraction, partially_paired
from .text import ALPHABET, decode, encode

CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
LABEL = (
    "Smiling"  # the attribute that stands in for a class where one is asked for; nearest to half of all faces
)
LENGTH = 256  # characters of a string
FILL = "*"
PLACES = ("start", "random")
NAMES = ("image", "text")


@dataclass(frozen=True)
class AttributedSet(DataSet):
    """A data set of the modalities *image* and *text*, faces and their attributes as a string.

    Args:
        attributes: bool ``[N, A]`` by split, of the faces by their place among the items.
        attribute_names: A names, in the order of the columns, spelled as CelebA does.
        showable: False where the faces are those of real people, of which nothing may be drawn or passed on.
    """

    attributes: Mapping[str, Tensor]
    attribute_names: tuple[str, ...] = CELEBA
    showable: bool = True


def spoken(name: str) -> str:
    """An attribute as strings say it: ``"Black_Hair"`` is ``"black hair"``."""
    return name.replace("_", " ").lower()


def write_strings(
    attributes: Tensor,
    names: Sequence[str],
    place: str = "start",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The attributes that each face has, a comma and a blank between them, filled up with asterisks: int64 [N, 256].

    What is longer than 256 characters is cut. (The paper has no string for that; all 40 attributes make 502, and 22 of
    CelebA's 202,599 faces have too many, see mmjsd-x21 of the errata.)

    Source: Sutter et al. 2020, supplement, Section C.4.1 and Table 12; for ``"random"`` the released code.

    Args:
        attributes: bool ``[N, A]``.
        names: of the A attributes, as CelebA spells them.
        place: where a string begins, ``"start"`` of the 256 characters as the paper says, or ``"random"``: every start
            from which it fits is equally likely.
        generator: source of the starts.

    Raises:
        ValueError: when the attributes are no booleans of that shape, or for another place.
    """
    attributes = checked("attributes", attributes, torch.bool, (len(attributes), len(names)))
    one_of("place", place, PLACES)
    words = [spoken(name) for name in names]
    texts = [", ".join(w for w, has in zip(words, row, strict=True) if has) for row in attributes.tolist()]
    texts = [text[:LENGTH] for text in texts]
    if place == "random":
        room = torch.tensor([LENGTH - len(text) + 1 for text in texts])
        starts = (torch.rand(len(texts), generator=generator) * room).long().tolist()
        texts = [FILL * start + text for start, text in zip(starts, texts, strict=True)]
    return encode([text.ljust(LENGTH, FILL) for text in texts])


def read_strings(symbols: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What strings state, bool ``[N, A]``, and which of them are well formed, bool ``[N]``.

    Asterisks around a string are taken off; what stands between commas counts for an attribute if it is its name to the
    letter. A string is well formed if there is nothing else, and the names stand in their order, each once.

    Args:
        symbols: int64 ``[N, L]``, places in `mmlib.data.text.ALPHABET`.
        names: of the A attributes, as CelebA spells them.

    Raises:
        ValueError: when symbols are of another type or leave the alphabet.
    """
    place = {spoken(name): i for i, name in enumerate(names)}
    stated, formed = torch.zeros(len(symbols), len(names), dtype=torch.bool), []
    for row, text in enumerate(decode(symbols)):
        text = text.strip(FILL)
        found = [place.get(part, -1) for part in text.split(", ")] if text else []
        formed.append(-1 not in found and found == sorted(set(found)))
        stated[row, [i for i in found if i >= 0]] = True
    return stated, torch.tensor(formed, dtype=torch.bool)


def attributed_split(
    pictures: Tensor,
    attributes: Tensor,
    number: Tensor,
    names: Sequence[str],
    place: str,
    generator: torch.Generator,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
) -> PairedSplit:
    """A row for each face: its picture beside its string.

    Args:
        pictures: uint8 ``[N, 3, H, W]``.
        attributes: bool ``[N, A]``.
        number: int64 ``[N]``, the faces' own; ``original`` in both modalities.
        names: of the attributes.
        place: as of `write_strings`.
        generator: source of the strings' places, and of what is hidden.
        fraction: share of the faces that are kept, the first ones.
        paired: share of the rows that show both modalities.
        always: the modality that the other rows show; None: as many rows for each.
    """
    label = attributes[:, list(names).index(LABEL)].long()
    text = write_strings(attributes, names, place, generator)
    items = {"image": Items(pictures, label, number), "text": Items(text, label, number, len(ALPHABET))}
    items = {name: first_fraction(item, fraction) for name, item in items.items()}
    rows = torch.arange(len(items["image"]))
    split = PairedSplit(items, dict.fromkeys(items, rows), items["image"].labels)
    return split if paired == 1.0 else partially_paired(split, paired, always, generator)
