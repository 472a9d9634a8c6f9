"""The embedded faces: drawn portraits whose attributes are as frequent as CelebA's and go together as they do there."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from mmlib.checks import one_of, whole

from . import portraits
from .attributes import CELEBA, NAMES, PLACES, AttributedSet, attributed_split
from .batches import derived_generator
from .cache import cache_root, generated
from .core import SPLITS
from .pairing import partial_options
from .plumage import reduced

GENERATOR_VERSION = 1  # raise it whenever pictures or attributes change
SIZES = (32, 64)
# One is a judgement, and five are shading and fine shape that a drawing of 64 pixels does not have.
NOT_DRAWN = ("Attractive", "Double_Chin", "Heavy_Makeup", "High_Cheekbones", "Oval_Face", "Pointy_Nose")
ATTRIBUTES = tuple(name for name in CELEBA if name not in NOT_DRAWN)

# Shares of women who are not young, young women, men who are not young and young men among CelebA's 202,599 faces, and
# per cent of each of the four that have an attribute: counted in its list of attributes, rounded.
GROUPS = (0.073, 0.510, 0.153, 0.264)
RATES = {
    "Arched_Eyebrows": (38, 42, 4, 6), "Bags_Under_Eyes": (19, 9, 47, 28), "Big_Lips": (26, 31, 11, 18),
    "Big_Nose": (21, 9, 58, 33), "Blurry": (9, 4, 7, 5), "Bushy_Eyebrows": (2, 8, 12, 32), "Chubby": (5, 1, 25, 5),
    "Eyeglasses": (7, 2, 22, 7), "Narrow_Eyes": (13, 11, 14, 11), "Pale_Skin": (5, 6, 2, 3),
    "Rosy_Cheeks": (13, 11, 1, 0), "Smiling": (68, 52, 43, 38), "Wearing_Earrings": (50, 29, 1, 2),
    "Wearing_Hat": (2, 2, 8, 8), "Wearing_Lipstick": (74, 81, 0, 1), "Wearing_Necklace": (33, 18, 1, 2),
    "Wearing_Necktie": (0, 0, 29, 11), "No_Beard": (100, 100, 64, 59),
}  # fmt: skip
# Of those without a hat exactly one colour is named, or none; of those who are not bald either, one texture or none.
HAIR = {
    "Bald": (0, 0, 11, 2), "Black_Hair": (11, 21, 16, 38), "Blond_Hair": (31, 23, 2, 2), "Brown_Hair": (21, 25, 9, 19),
    "Gray_Hair": (8, 0, 23, 0),
}  # fmt: skip
TEXTURES = {"Straight_Hair": (10, 20, 20, 27), "Wavy_Hair": (51, 44, 11, 16)}
FRINGES = {"Bangs": (37, 18, 3, 11), "Receding_Hairline": (5, 5, 24, 5)}
BEARDS = {
    "5_o_Clock_Shadow": (0, 0, 28, 59), "Goatee": (0, 0, 44, 34), "Mustache": (0, 0, 36, 18),
    "Sideburns": (0, 0, 38, 32),
}  # of those with a beard  # fmt: skip
OPEN = (0.22, 0.76)  # how often the mouth of one who does not smile is open, and of one who does


def load_faces(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    place: str = "start",
    train: int = 4_000,
    validation: int = 1_000,
    test: int = 1_000,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
    seed: int = 0,
) -> AttributedSet:
    """Drawn faces, *image* ``[3, size, size]``, each beside its attributes as a string, *text* ``[256]``.

    34 of CelebA's 40 attributes can be drawn. They are about as frequent as there, and go together through sex and age
    (lipstick, beards, grey hair) and by rules: one colour of hair, a beard where "no beard" is not said, nothing to be
    seen of the hair's colour beneath a hat, open mouths that smile. What no string speaks of (place, tilt, light,
    complexion, clothes) is drawn anew for each face. The class of a face, where one is asked for, is whether it smiles.

    Args:
        size: 64 (default) or 32 pixels a side.
        cache: folder for the generated file; default as in `mmlib.data.cache.cache_root`.
        place: of the string among its 256 characters, see `mmlib.data.attributes.write_strings`.
        train: faces of the training split.
        validation: the same for validation.
        test: the same for test.
        fraction: share of the training faces that is kept.
        paired: share of the training faces that are seen beside their strings.
        always: the modality that the other faces' rows show; None: as many rows for each.
        seed: of all that is drawn.

    Raises:
        ValueError: for an impossible option.
    """
    size = one_of("size", 64 if size is None else whole("size", size), SIZES)
    one_of("place", place, PLACES)
    counts = {"train": train, "validation": validation, "test": test}
    counts, seed = {split: whole(split, n) for split, n in counts.items()}, whole("seed", seed, 0)
    options = partial_options(NAMES, fraction, paired, always)
    facts = {"generator": "faces", "generator_version": GENERATOR_VERSION, "seed": seed, **counts}
    key = f"v{GENERATOR_VERSION}-{'-'.join(map(str, counts.values()))}-seed{seed}"
    tensors, record = generated(cache_root(cache) / "faces" / key, facts, lambda: make(counts, seed))
    splits, attributes, first = {}, {}, 0
    for s, split in enumerate(SPLITS):
        attributes[split] = tensors[f"{split}.attributes"]
        number = first + torch.arange(counts[split])
        about = reduced(tensors[f"{split}.pictures"], size), attributes[split], number, ATTRIBUTES, place
        some = options if split == "train" else {}
        splits[split] = attributed_split(*about, derived_generator(seed, 5, s), **some)
        first += counts[split]
    provenance = {**record, "size": size, "place": place, "pairing": options}
    return AttributedSet(
        "faces", **splits, provenance=provenance, attributes=attributes, attribute_names=ATTRIBUTES
    )


def make(counts: dict[str, int], seed: int) -> dict[str, Tensor]:
    """Makes every face of every split: ``"<split>.pictures|attributes"`` to tensor."""
    tensors = {}
    for s, split in enumerate(SPLITS):
        has = draw_attributes(counts[split], derived_generator(seed, 1, s))
        tensors[f"{split}.attributes"] = has
        facts = dict(zip(ATTRIBUTES, has.unbind(1), strict=True))
        tensors[f"{split}.pictures"] = portraits.render(facts, derived_generator(seed, 2, s))
    return tensors


def draw_attributes(n: int, generator: torch.Generator) -> Tensor:
    """Attributes of ``n`` faces, bool ``[n, 34]`` in the order of ``ATTRIBUTES``.

    Sex and age are drawn together, all else given these two: most attributes independently of each other, and those of
    the hair, the beard and the mouth by the rules that `load_faces` names.
    """
    group = torch.multinomial(torch.tensor(GROUPS), n, replacement=True, generator=generator)

    def chance(per_cent: tuple[float, ...]) -> Tensor:
        return torch.tensor(per_cent)[group] / 100

    def drawn(probability: Tensor) -> Tensor:
        return torch.rand(n, generator=generator) < probability

    def one_at_most(rates: dict[str, tuple], allowed: Tensor, among: Tensor) -> dict[str, Tensor]:
        """One of several or none, for those ``allowed``; they are a share ``among`` of all."""
        point, upper, found = torch.rand(n, generator=generator), torch.zeros(n), {}
        for name, rate in rates.items():
            lower, upper = upper, upper + chance(rate) / among
            found[name] = allowed & (lower <= point) & (point < upper)
        return found

    has = {name: drawn(chance(rate)) for name, rate in RATES.items()}
    has["Male"], has["Young"] = group >= 2, group % 2 == 1
    has["Bushy_Eyebrows"] &= ~has["Arched_Eyebrows"]
    bare = 1 - chance(RATES["Wearing_Hat"])
    has |= one_at_most(HAIR, ~has["Wearing_Hat"], bare)
    seen, haired = ~has["Wearing_Hat"] & ~has["Bald"], bare - chance(HAIR["Bald"])
    has |= one_at_most(TEXTURES, seen, haired) | one_at_most(FRINGES, seen, haired)
    for name, rate in BEARDS.items():
        has[name] = drawn(chance(rate)) & ~has["No_Beard"]
    has["Mouth_Slightly_Open"] = drawn(torch.tensor(OPEN)[has["Smiling"].long()])
    return torch.stack([has[name] for name in ATTRIBUTES], 1)
