"""Two to four modalities that are rotations of one set of digits: *multi-hand* (embedded), *multi-mnist* (files).

Modality k is the image turned counter-clockwise by k times 90 degrees (Chen and Zhu 2022, MultiMNIST). All modalities
hold the same originals; what a row shows together are independent draws from one class.
"""

from __future__ import annotations

import hashlib
import os

import torch
import torch.nn.functional as F

from mmlib.checks import one_of, whole

from . import hand
from .batches import derived_generator
from .cache import cache_root
from .core import SPLITS, DataSet, Items, PairedSplit
from .mnist_svhn import advice, digests, fetch, mnist_splits
from .pairing import pairing_options, three_splits

SIZES = (8, 16)
ANGLES = (0, 90, 180, 270)
RESTS = ("drop", "unpaired")


def load_multi_hand(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    modalities: int = 2,
    rest: str = "drop",
    seed: int = 0,
    **pairing,
) -> DataSet:
    """Handwritten digits and their rotations: ``hand0``, ``hand90``, ``hand180``, ``hand270``, ``[1, size, size]``.

    scikit-learn's 1,797 real digits, split 60 / 20 / 20 by original before anything else. ``original`` is the number of
    the source digit in every modality.

    Args:
        size: 8 (default), as they come, or 16, enlarged smoothly.
        cache: unused, since nothing is stored: the data is made in milliseconds.
        modalities: how many, 2 to 4.
        rest: what becomes of the originals that ``fraction`` leaves out: "drop", or "unpaired": each is shown ``dm``
            times in every modality, alone.
        seed: of the split and of the pairing.
        **pairing: ``dm`` (default 30, as in the paper), ``max_d``, ``fraction``, ``paired``, ``always`` and
            ``unpaired`` of the training split, see `mmlib.data.pairing.paired_split`; validation and test are whole and
            pair one to one.

    Raises:
        ValueError: for an impossible option.
    """
    size = one_of("size", 8 if size is None else whole("size", size), SIZES)
    (names, options), seed = _options("hand", modalities, rest, pairing), whole("seed", seed, 0)
    images, labels = hand.digits()
    images = images[:, None]
    if size != 8:
        images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)
    images = (images.clamp(0, 1) * 255).round().byte()
    parts = hand.split_originals(labels, hand.SHARES, derived_generator(seed, 0))
    whole_set = Items(images, labels, torch.arange(len(labels)))
    originals = {split: whole_set.select(rows) for split, rows in zip(SPLITS, parts, strict=True)}
    sha256 = hashlib.sha256(b"".join(item.values.numpy().tobytes() for item in originals.values()))
    provenance = {"generator": "multi-hand", "size": size, "modalities": len(names), "seed": seed}
    provenance |= {"pairing": options, "sha256": sha256.hexdigest()}
    return DataSet("multi-hand", **_splits(originals, names, options, seed), provenance=provenance)


def load_multi_mnist(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    modalities: int = 2,
    rest: str = "drop",
    seed: int = 0,
    verify: bool = True,
    download: bool = False,
    **pairing,
) -> DataSet:
    """MNIST and its rotations: ``mnist0``, ``mnist90``, ``mnist180``, ``mnist270``, ``[1, 28, 28]``.

    Validation is the last sixth of the training part, so that test stays unread. ``size`` is None or 28: the images
    keep their official size. The other options are those of `load_multi_hand`, and for the files ``verify`` and
    ``download`` of `mmlib.data.mnist_svhn.load_mnist_svhn`.

    Raises:
        ValueError: for an impossible option.
        DataFileError: when a file is missing or damaged; says what to put where.
    """
    if size not in (None, 28):
        raise ValueError(f"size is {size!r}; expected 28 (or None): multi-mnist keeps its official size")
    (names, options), seed = _options("mnist", modalities, rest, pairing), whole("seed", seed, 0)
    root = cache_root(cache)
    with advice("multi-mnist", root):
        if one_of("download", download, (True, False)):
            fetch(root, svhn=None)
        originals, paths = mnist_splits(root, verify)
    provenance = {"modalities": len(names), "seed": seed, "pairing": options, "sha256": digests(root, paths)}
    return DataSet("multi-mnist", **_splits(originals, names, options, seed), provenance=provenance)


def rotated(items: Items, quarter_turns: int) -> Items:
    """The same images, turned counter-clockwise by so many quarter turns."""
    return Items(torch.rot90(items.values, quarter_turns, (-2, -1)), items.labels, items.original)


def _splits(originals: dict, names: list[str], options: dict, seed: int) -> dict[str, PairedSplit]:
    def turned(item: Items) -> dict[str, Items]:
        return {name: rotated(item, k) for k, name in enumerate(names)}

    return three_splits({split: turned(item) for split, item in originals.items()}, options, seed)


def _options(stem: str, modalities: int, rest: str, pairing: dict) -> tuple[list[str], dict]:
    """Names of the modalities, and how they are paired."""
    names = [f"{stem}{angle}" for angle in ANGLES[: whole("modalities", modalities, 2, len(ANGLES))]]
    options = pairing_options(names, **{"dm": 30, **pairing}) | {"rest": one_of("rest", rest, RESTS)}
    if rest == "unpaired" and (options["fraction"] == 1.0 or "paired" in options):
        expected = "a fraction below 1 that leaves some originals out; paired and always at their defaults"
        raise ValueError(f"rest is 'unpaired'; expected {expected}")
    return names, options
