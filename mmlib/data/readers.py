"""Readers of the official MNIST and SVHN files, of ``subset.npz`` and of lists: whole arrays or one clear error."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

# MD5 of the unpacked official files: MNIST/raw/<name>, or <name>.gz, whose packed MD5s torchvision also knows.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
SVHN_MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
SUBSET_KEYS = ("x_train", "y_train", "x_test", "y_test")


class DataFileError(ValueError):
    """A data file is missing or damaged; the message says which, what was found and what to put where."""


def read_lines(path: Path, told: str) -> list[str]:
    """The lines of a text file; where there is none of that name, of the same packed, with ``.xz`` at its end.

    Args:
        path: of the file, plain or packed (``.xz``, ``.gz``).
        told: what errors call it.

    Raises:
        DataFileError: when it is missing or cannot be unpacked.
    """
    packed = path.with_name(f"{path.name}.xz")
    path = packed if not path.is_file() and packed.is_file() else path
    if not path.is_file():
        raise DataFileError(f"{told} is missing")
    try:
        with {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)(
            path, "rt", encoding="utf-8"
        ) as file:
            return file.read().splitlines()
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error) as error:
        raise DataFileError(f"{told} cannot be read ({error}): the file is damaged") from error


def read_idx(path: Path, md5: str | None = None) -> np.ndarray:
    """Reads an idx file of bytes, plain or packed (``.gz``): a uint8 array of the shape that the file states.

    ``md5`` is the expected one of the unpacked bytes; None accepts any.

    Raises:
        DataFileError: when the file cannot be unpacked, is not idx of unsigned bytes, has the wrong length or MD5.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{path}: cannot be unpacked ({error}): the file is damaged") from error
    begin = 4 + 4 * raw[3] if len(raw) > 3 else 4
    if raw[:3] != b"\0\0\x08" or len(raw) < begin:
        expected = "an idx file of unsigned bytes (0, 0, 8, dimensions)"
        raise DataFileError(f"{path}: starts with {raw[:4]!r}; expected {expected}")
    shape = tuple(np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist())
    found, expected = len(raw) - begin, math.prod(shape)
    if found != expected:
        problem = f"holds {found} bytes of data; expected {expected} for shape {shape}: it is damaged"
        raise DataFileError(f"{path}: {problem}")
    _check_md5(path, raw, md5)
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape).copy()


def read_svhn_mat(path: Path, md5: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Reads an SVHN "cropped digits" file: ``X [32, 32, 3, N]``, ``y [N, 1]`` with digit 0 stored as 10.

    ``md5`` is the expected one of the file; None accepts any.

    Returns:
        uint8 ``[N, 3, 32, 32]`` and int64 ``[N]`` with labels 0 to 9.

    Raises:
        DataFileError: when the file is no such file or has the wrong MD5.
    """
    from scipy.io import loadmat

    raw = path.read_bytes()
    _check_md5(path, raw, md5)
    try:
        content = loadmat(io.BytesIO(raw))
        x, y = content["X"], content["y"]
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DataFileError(f"{path}: not a readable .mat file with X and y ({error})") from error
    return _images(path, "X", x, (3, 2, 0, 1)), _labels(path, "y", y.reshape(-1), x.shape[-1])


def read_subset(path: Path) -> dict[str, np.ndarray]:
    """Reads ``subset.npz``: ``x_train [N, 32, 32, 3]`` uint8, ``y_train [N]``, ``x_test``, ``y_test``; digit 0 is 0.

    Returns:
        The same keys; images uint8 ``[N, 3, 32, 32]``, labels int64 ``[N]``.

    Raises:
        DataFileError: when the file is damaged, a key is missing, or a shape or type is another.
    """
    try:
        with np.load(path) as content:
            found = content.files
            arrays = {key: content[key] for key in SUBSET_KEYS if key in found}
    except (
        OSError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
        zlib.error,
        TypeError,
        AttributeError,
    ) as error:
        raise DataFileError(f"{path}: cannot be read ({error}): the file is damaged") from error
    if len(arrays) < len(SUBSET_KEYS):
        raise DataFileError(f"{path}: has keys {found}; expected {list(SUBSET_KEYS)}")
    for part in ("train", "test"):
        x, y = f"x_{part}", f"y_{part}"
        arrays[x] = _images(path, x, arrays[x], (0, 3, 1, 2))
        arrays[y] = _labels(path, y, arrays[y], len(arrays[x]))
    return arrays


def _images(path: Path, key: str, x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Images whose axes are brought into the order N, C, H, W, checked."""
    if x.dtype != np.uint8 or x.ndim != 4 or x.transpose(axes).shape[1:] != (3, 32, 32):
        problem = f"{key} is {x.dtype} with images of another shape; expected uint8 of 32 x 32 x 3"
        raise DataFileError(f"{path}: {problem}")
    return np.ascontiguousarray(x.transpose(axes))


def _labels(path: Path, key: str, y: np.ndarray, n: int) -> np.ndarray:
    if y.shape != (n,) or y.dtype.kind not in "ui" or (n and not (y.min() >= 0 and y.max() <= 10)):
        problem = f"{key} is {y.dtype} of shape {y.shape}; expected {n} whole numbers from 0 to 10"
        raise DataFileError(f"{path}: {problem}")
    return y.astype(np.int64) % 10


def _check_md5(path: Path, content: bytes, expected: str | None) -> None:
    if expected is not None and (found := hashlib.md5(content).hexdigest()) != expected:
        problem = f"MD5 is {found}; the official file has {expected}: the file is damaged or another"
        raise DataFileError(f"{path}: {problem}")
