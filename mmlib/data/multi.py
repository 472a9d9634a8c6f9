"""Two to four modalities that are rotations of one set of digits: *multi-hand* (embedded), *multi-mnist* (files).

Modality k is the image turned counter-clockwise by k times 90 degrees (Chen and Zhu 2022, MultiMNIST). All modalities
hold the same originals; what a row shows together are independent draws from one class.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

import torch
import torch.nn.functional as F

from . import hand
from .batches import derived_generator
from .cache import cache_root, digest
from .core import DataSet, Items, PairedSplit
from .mnist_svhn import fetch, mnist_splits
from .pairing import paired_split, partial
from .readers import DataFileError

SPLITS = ("train", "validation", "test")
SHARES = (0.6, 0.2, 0.2)  # of the 1,797 handwritten originals
SIZES = (8, 16)
ANGLES = (0, 90, 180, 270)
ADVICE = """\
multi-mnist reads the four official MNIST files, packed (.gz) or unpacked, below {root}/MNIST/raw
(another folder: the argument cache, or the variable MMLIB_DATA):
  train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte
Put them there, or, where the network allows, let download=True fetch them."""


def load_multi_hand(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    modalities: int = 2,
    dm: int = 30,
    max_d: int = 10_000,
    fraction: float = 1.0,
    rest: str = "drop",
    paired: float = 1.0,
    always: str | None = None,
    seed: int = 0,
) -> DataSet:
    """Handwritten digits and their rotations: ``hand0``, ``hand90``, ``hand180``, ``hand270``, ``[1, size, size]``.

    scikit-learn's 1,797 real digits, split 60 / 20 / 20 by original before anything else. ``original`` is the number of
    the source digit in every modality.

    Args:
        size: 8 (default), as they come, or 16, enlarged smoothly.
        cache: unused, since nothing is stored: the data is made in milliseconds.
        modalities: how many, 2 to 4.
        dm: random partners of each training item (30 in the paper); validation and test always pair one to one.
        max_d: most training items of one class.
        fraction: share of the originals that is kept for training, taken before pairing.
        rest: what becomes of the other originals: "drop", or "unpaired": each is shown ``dm`` times in every modality,
            alone.
        paired: share of the training rows that stay whole; the others show one modality only.
        always: the modality that those others show; None: as many rows for each.
        seed: of the split and of the pairing.

    Raises:
        ValueError: for an impossible option.
    """
    size = 8 if size is None else size
    if size not in SIZES:
        raise ValueError(f"size is {size!r}; expected one of {list(SIZES)} for multi-hand")
    names = _names("hand", modalities)
    _check_seed(seed)
    pairing = {"dm": dm, "max_d": max_d, "fraction": fraction, "rest": rest, **partial(paired, always)}
    images, labels = hand.digits()
    images = images[:, None]
    if size != 8:
        images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False)
    images = (images.clamp(0, 1) * 255).round().byte()
    parts = hand.split_originals(labels, SHARES, derived_generator(seed, 0))
    whole = Items(images, labels, torch.arange(len(labels)))
    originals = {split: whole.select(rows) for split, rows in zip(SPLITS, parts, strict=True)}
    facts = {"generator": "multi-hand", "size": size, "modalities": modalities, "seed": seed}
    sha256 = hashlib.sha256(b"".join(item.images.numpy().tobytes() for item in originals.values()))
    provenance = {**facts, "pairing": pairing, "sha256": sha256.hexdigest()}
    return _paired("multi-hand", names, originals, pairing, seed, provenance)


def load_multi_mnist(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    modalities: int = 2,
    dm: int = 30,
    max_d: int = 10_000,
    fraction: float = 1.0,
    rest: str = "drop",
    paired: float = 1.0,
    always: str | None = None,
    seed: int = 0,
    verify: bool = True,
    download: bool = False,
) -> DataSet:
    """MNIST and its rotations: ``mnist0``, ``mnist90``, ``mnist180``, ``mnist270``, ``[1, 28, 28]``.

    Validation is the last sixth of the training part, so that test stays unread.

    Args:
        size: None or 28; the images keep their official size.
        cache: data folder; default as in `mmlib.data.cache.cache_root`.
        modalities: as in `load_multi_hand`; so are the options down to ``always``.
        dm: random partners of each training item.
        max_d: most training items of one class.
        fraction: share of the originals that is kept for training.
        rest: "drop" or "unpaired".
        paired: share of the training rows that stay whole.
        always: the modality that the others show.
        seed: of the pairing.
        verify: check the official files' MD5; False accepts other files of the same format.
        download: let torchvision fetch missing files first.

    Raises:
        ValueError: for an impossible option.
        DataFileError: when a file is missing or damaged; says what to put where.
    """
    if size not in (None, 28):
        raise ValueError(f"size is {size!r}; expected 28 (or None): multi-mnist keeps its official size")
    names = _names("mnist", modalities)
    _check_seed(seed)
    pairing = {"dm": dm, "max_d": max_d, "fraction": fraction, "rest": rest, **partial(paired, always)}
    root = cache_root(cache)
    try:
        if download:
            fetch(root, svhn=None)
        originals, paths = mnist_splits(root, verify)
    except DataFileError as error:
        raise DataFileError(f"{error}\n{ADVICE.format(root=root)}") from error
    files = {str(path.relative_to(root)): digest(path) for path in paths}
    provenance = {"modalities": modalities, "seed": seed, "pairing": pairing, "sha256": files}
    return _paired("multi-mnist", names, originals, pairing, seed, provenance)


def rotated(items: Items, quarter_turns: int) -> Items:
    """The same items, their images turned counter-clockwise by so many quarter turns."""
    return Items(torch.rot90(items.images, quarter_turns, (-2, -1)), items.labels, items.original)


def with_rest(
    split: PairedSplit, items: Mapping[str, Items], dm: int, generator: torch.Generator
) -> PairedSplit:
    """Adds rows of one modality only for the originals that a split was paired without.

    Every original left out appears ``dm`` times in each modality, as often as the paired ones do, and never beside a
    partner. Rows of the split keep their partners; all rows are shuffled.

    Args:
        split: pairs of the first part of every set, complete.
        items: the whole sets, aligned: item p of every modality shows the same original.
        dm: how often each is shown.
        generator: of the order of the rows.
    """
    alone = [torch.arange(len(split.items[name]), len(item)).repeat(dm) for name, item in items.items()]
    rows = torch.cat(
        alone
    )  # the hidden partners of a row are its own original's: of the right class, and never seen
    shown = torch.cat([torch.full_like(part, m) for m, part in enumerate(alone)])
    order = torch.randperm(len(split) + len(rows), generator=generator)
    index = {name: torch.cat([paired, rows])[order] for name, paired in split.index.items()}
    whole = torch.ones(len(split), dtype=torch.bool)
    observed = {name: torch.cat([whole, shown == m])[order] for m, name in enumerate(items)}
    labels = next(iter(items.values())).labels[next(iter(index.values()))]
    return PairedSplit(items, index, labels, observed)


def _paired(
    name: str, names: list[str], originals: Mapping[str, Items], pairing: dict, seed: int, provenance: dict
) -> DataSet:
    options = {key: value for key, value in pairing.items() if key != "rest"}
    rest = pairing["rest"]
    if rest not in ("drop", "unpaired"):
        raise ValueError(f"rest is {rest!r}; expected 'drop' or 'unpaired'")
    if rest == "unpaired" and (not 0 < options["fraction"] < 1 or options.keys() & {"paired", "always"}):
        raise ValueError(
            "rest is 'unpaired'; expected a fraction below 1 that leaves some originals out, and paired and always "
            "at their defaults"
        )
    splits = {}
    for s, split in enumerate(SPLITS):
        generator = derived_generator(seed, 2, s)
        items = {modality: rotated(originals[split], k) for k, modality in enumerate(names)}
        splits[split] = paired_split(items, **options if split == "train" else {}, generator=generator)
        if split == "train" and rest == "unpaired":
            splits[split] = with_rest(splits[split], items, options["dm"], generator)
    return DataSet(name=name, **splits, provenance=provenance)


def _names(stem: str, modalities: int) -> list[str]:
    if isinstance(modalities, bool) or not isinstance(modalities, int) or not 2 <= modalities <= len(ANGLES):
        raise ValueError(f"modalities is {modalities!r}; expected 2, 3 or 4 rotations")
    return [f"{stem}{angle}" for angle in ANGLES[:modalities]]


def _check_seed(seed: int) -> None:
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed is {seed!r}; expected a whole number of at least 0")
