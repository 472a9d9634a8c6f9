"""The embedded data set: real handwriting (*hand*) and rendered house numbers (*street*), made in seconds."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.checks import one_of, whole

from . import hand, street
from .batches import derived_generator
from .cache import cache_root, generated
from .core import SPLITS, DataSet, Items
from .pairing import pairing_options, three_splits

GENERATOR_VERSION = 1  # raise it whenever the pixels change
SIZES = (16, 32)


def load_hand_street(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    style: str | float = "easy",
    train: int = 10_000,
    validation: int = 2_000,
    test: int = 2_000,
    seed: int = 0,
    **pairing,
) -> DataSet:
    """Handwritten digits paired with house numbers of the same class.

    *hand* ``[1, size, size]``: scikit-learn's 1,797 real digits, split 60 / 20 / 20 *before* they are warped, so that
    no original is in two splits. ``original`` is the number of the source digit: its warped copies are not independent.

    *street* ``[3, size, size]``: rendered digits. Each image draws its font (one of 18) and its style anew, so given
    the list of fonts the images are independent: ``original`` is the image's own number, and no draw is shared between
    splits. All splits use the same fonts: what is measured is how a model does on new draws, not on new fonts.

    Args:
        size: 16 (default) or 32 pixels a side; 16 is the average of 2x2 blocks of 32.
        cache: folder for the generated file; default as in `mmlib.data.cache.cache_root`.
        style: how free *street*'s colours are: "easy" (default: light digits on darker walls), "medium", "hard"
            (colours and polarity free), or a number in [0, 1].
        train: images of each modality in the training split.
        validation: the same for validation.
        test: the same for test.
        seed: of the generated images and of the pairing.
        **pairing: ``dm`` (default 1), ``max_d``, ``fraction``, ``paired``, ``always`` and ``unpaired`` of the
            training split, see `mmlib.data.pairing.paired_split`; validation and test are whole and pair one to one.

    Raises:
        ValueError: for an impossible option.
    """
    size = one_of("size", 16 if size is None else whole("size", size), SIZES)
    freedom = street.style_freedom(style)
    counts = {"train": train, "validation": validation, "test": test}
    counts = {split: whole(split, count, 10) for split, count in counts.items()}
    options, seed = pairing_options(("hand", "street"), **pairing), whole("seed", seed, 0)
    facts = {"generator": "hand-street", "generator_version": GENERATOR_VERSION, "seed": seed}
    facts |= {"size": size, "freedom": freedom, **counts}
    key = "-".join(map(str, counts.values()))
    key = f"v{GENERATOR_VERSION}-{size}px-freedom{freedom:g}-{key}-seed{seed}"
    folder = cache_root(cache) / "hand-street" / key
    tensors, record = generated(folder, facts, lambda: make(size, freedom, counts, seed))

    def items(name: str) -> Items:
        return Items(*(tensors[f"{name}.{part}"] for part in ("images", "labels", "original")))

    sets = {split: {name: items(f"{split}.{name}") for name in ("hand", "street")} for split in SPLITS}
    provenance = {**record, "pairing": options}
    return DataSet("hand-street", **three_splits(sets, options, seed), provenance=provenance)


def make(size: int, freedom: float, counts: dict[str, int], seed: int) -> dict[str, Tensor]:
    """Makes every image of every split; ``counts`` are images of each modality, by split.

    Returns:
        ``"<split>.<modality>.images|labels|original"`` to tensor, as in `Items`.
    """
    images, labels = hand.digits()
    originals = hand.split_originals(labels, hand.SHARES, derived_generator(seed, 0))
    tensors, first = {}, 0
    for s, split in enumerate(SPLITS):
        n = counts[split]
        source = originals[s][hand.balanced_draw(labels[originals[s]], n)]
        warped = hand.warp(images[source], derived_generator(seed, 1, s, 0))
        tensors[f"{split}.hand.images"] = _shrink(warped, size)
        tensors[f"{split}.hand.labels"] = labels[source]
        tensors[f"{split}.hand.original"] = source
        numbers = torch.arange(n)
        rendered = street.render(numbers % 10, freedom, derived_generator(seed, 1, s, 1))
        tensors[f"{split}.street.images"] = _shrink(rendered, size)
        tensors[f"{split}.street.labels"] = numbers % 10
        tensors[f"{split}.street.original"] = first + numbers
        first += n
    return tensors


def _shrink(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    block = images.shape[-1] // size
    return torch.cat([F.avg_pool2d(part.float(), block).round().byte() for part in images.split(2_000)])
