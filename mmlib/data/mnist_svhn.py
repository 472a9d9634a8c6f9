"""MNIST paired with SVHN, from files: the official ones, or a documented subset of SVHN."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from mmlib.checks import one_of, whole

from .cache import cache_root, digest
from .core import SPLITS, DataSet, Items
from .pairing import pairing_options, three_splits
from .readers import MNIST_MD5, SVHN_MD5, DataFileError, read_idx, read_subset, read_svhn_mat

ADVICE = """\
{name} reads these files below {root} (another folder: the argument cache, or the variable MMLIB_DATA):
  MNIST/raw/train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz
      the four official MNIST files, packed or unpacked{more}
Put the right file there, or, where the network allows, let download=True fetch the official ones."""
SVHN_ADVICE = """
  SVHN/train_32x32.mat, SVHN/test_32x32.mat      the official SVHN "cropped digits", or instead
  SVHN/subset.npz                                x_train uint8 [N, 32, 32, 3], y_train [N], x_test, y_test; digit 0 is 0"""  # noqa: E501


def load_mnist_svhn(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    svhn: str = "auto",
    seed: int = 0,
    verify: bool = True,
    download: bool = False,
    **pairing,
) -> DataSet:
    """MNIST ``[1, 28, 28]`` paired with SVHN ``[3, 32, 32]`` of the same class.

    Validation is the end of each training part, so that test stays unread: the last sixth of MNIST (10,000), the last
    tenth of the official SVHN, or the last eighth of the subset (1,000 of 8,000; by position, because neighbours are
    often digits of one house number). ``original`` is an image's own number: its place in train, then in test.

    Args:
        size: None or 32; the images keep their official sizes.
        cache: data folder; default as in `mmlib.data.cache.cache_root`.
        svhn: "official", "subset", or "auto" (official where both official files are there).
        seed: of the pairing.
        verify: check the official files' MD5; False accepts other files of the same format.
        download: let torchvision fetch missing official files first (252 MB); off by default so that nothing ever waits
            for a network unasked.
        **pairing: ``dm`` (default 30, as in Shi et al. 2021), ``max_d``, ``fraction``, ``paired``, ``always`` and
            ``unpaired`` of the training split, see `mmlib.data.pairing.paired_split`; validation and test are whole and
            pair one to one.

    Raises:
        ValueError: for an impossible option.
        DataFileError: when a file is missing or damaged; says what to put where.
    """
    if size not in (None, 32):
        expected = "32 (or None): mnist-svhn keeps its official sizes, 28 and 32"
        raise ValueError(f"size is {size!r}; expected {expected}")
    one_of("svhn", svhn, ("auto", "official", "subset"))
    options = pairing_options(("mnist", "svhn"), **{"dm": 30, **pairing})
    seed = whole("seed", seed, 0)
    root = cache_root(cache)
    with advice("mnist-svhn", root, SVHN_ADVICE):
        if one_of("download", download, (True, False)):
            fetch(root, svhn)
        mnist, mnist_files = mnist_splits(root, verify)
        svhn_splits, svhn_files, kind = _svhn(root, svhn, verify)
    items = {split: {"mnist": mnist[split], "svhn": svhn_splits[split]} for split in SPLITS}
    files = digests(root, [*mnist_files, *svhn_files])
    provenance = {"svhn": kind, "seed": seed, "pairing": options, "sha256": files}
    return DataSet("mnist-svhn", **three_splits(items, options, seed), provenance=provenance)


@contextlib.contextmanager
def advice(name: str, root: Path, more: str = "") -> Iterator[None]:
    """Say of a missing or damaged file which files the data set reads, and from where."""
    try:
        yield
    except DataFileError as error:
        raise DataFileError(f"{error}\n{ADVICE.format(name=name, root=root, more=more)}") from error


def digests(root: Path, paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their place below ``root``."""
    return {str(path.relative_to(root)): digest(path) for path in paths}


def mnist_splits(root: Path, verify: bool) -> tuple[dict[str, Items], list[Path]]:
    """MNIST's train, validation (the last sixth of the training part) and test, and the files that they come from.

    Raises:
        DataFileError: when a file is missing or damaged.
    """
    one_of("verify", verify, (True, False))
    folder, arrays, files = root / "MNIST" / "raw", {}, []
    for name, md5 in MNIST_MD5.items():
        path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
        if path is None:
            raise DataFileError(f"MNIST/raw/{name}.gz is missing")
        arrays[name] = read_idx(path, md5 if verify else None)
        files.append(path)
    parts = []
    for part in ("train", "t10k"):
        x, y = arrays[f"{part}-images-idx3-ubyte"], arrays[f"{part}-labels-idx1-ubyte"]
        if x.ndim != 3 or x.shape[1:] != (28, 28) or y.shape != x.shape[:1] or (y > 9).any():
            found = f"images {x.shape}, labels {y.shape}; expected (N, 28, 28) and (N,), digits 0-9"
            raise DataFileError(f"MNIST/raw/{part}-*: {found}")
        parts += [x[:, None], y.astype(np.int64)]
    return _three(*parts, validation=len(parts[1]) // 6), files


def _svhn(root: Path, kind: str, verify: bool) -> tuple[dict[str, Items], list[Path], str]:
    official = [root / "SVHN" / name for name in SVHN_MD5]
    subset = root / "SVHN" / "subset.npz"
    if kind == "auto":
        kind = "official" if all(path.is_file() for path in official) else "subset"
    if kind == "official":
        parts = []
        for path in official:
            if not path.is_file():
                raise DataFileError(f"SVHN/{path.name} is missing")
            parts += read_svhn_mat(path, SVHN_MD5[path.name] if verify else None)
        return _three(*parts, validation=len(parts[1]) // 10), official, "svhn"
    if not subset.is_file():
        raise DataFileError("SVHN/train_32x32.mat or test_32x32.mat is missing, and so is SVHN/subset.npz")
    arrays = read_subset(subset)
    n = len(arrays["y_train"]) + len(arrays["y_test"])
    kind = "svhn10k" if n == 10_000 else f"svhn-subset-{n}"
    return _three(*arrays.values(), validation=len(arrays["y_train"]) // 8), [subset], kind


def _three(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, validation: int
) -> dict[str, Items]:
    """Train, validation (the last ``validation`` images of the training part) and test."""
    images, labels = (torch.from_numpy(np.concatenate(parts)) for parts in ((x, x_test), (y, y_test)))
    number = torch.arange(len(labels))
    rows = slice(len(y) - validation), slice(len(y) - validation, len(y)), slice(len(y), None)
    return {
        split: Items(images[part], labels[part], number[part])
        for split, part in zip(SPLITS, rows, strict=True)
    }


def fetch(root: Path, svhn: str | None) -> None:
    """Lets torchvision fetch the official files that are not there yet; no answer is awaited longer than 20 seconds.

    ``svhn`` is as in `load_mnist_svhn`; None fetches MNIST alone.

    Raises:
        DataFileError: when the download fails.
    """
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20.0)
    try:
        datasets.MNIST(root, download=True)
        if svhn == "official" or (svhn == "auto" and not (root / "SVHN" / "subset.npz").is_file()):
            for split in ("train", "test"):
                datasets.SVHN(root / "SVHN", split=split, download=True)
    except (OSError, RuntimeError) as error:
        raise DataFileError(f"the download failed ({error})") from error
    finally:
        socket.setdefaulttimeout(before)
