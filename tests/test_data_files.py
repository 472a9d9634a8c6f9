"""Readers of MNIST and SVHN files, and the data set made from them, on small files of each format."""

import gzip
import inspect
import re
import socket
import urllib.error

import numpy as np
import pytest
import torch
from scipy.io import savemat

from mmlib import data
from mmlib.data import DataFileError, mnist_svhn
from mmlib.data.cache import cache_root
from mmlib.data.readers import MNIST_MD5, SVHN_MD5, read_idx, read_subset, read_svhn_mat

DRAW = np.random.default_rng(0)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def digits(n):
    return np.arange(n) % 10


def write_mnist(root, train=120, test=40, packed=True):
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, n in (("train", train), ("t10k", test)):
        for kind, array in (
            ("images-idx3", DRAW.integers(0, 256, (n, 28, 28))),
            ("labels-idx1", digits(n)),
        ):
            raw = idx(array)
            path = folder / f"{name}-{kind}-ubyte"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(raw))
            else:
                path.write_bytes(raw)


def write_subset(root, train=80, test=20, **changes):
    arrays = {
        "x_train": DRAW.integers(0, 256, (train, 32, 32, 3)).astype(np.uint8),
        "y_train": digits(train).astype(np.uint8),
        "x_test": DRAW.integers(0, 256, (test, 32, 32, 3)).astype(np.uint8),
        "y_test": digits(test).astype(np.uint8),
    }
    arrays = {key: value for key, value in {**arrays, **changes}.items() if value is not None}
    path = root / "SVHN" / "subset.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path, arrays


def write_mat(root, name, n):
    x = DRAW.integers(0, 256, (32, 32, 3, n)).astype(np.uint8)
    y = np.where(digits(n) == 0, 10, digits(n))[:, None].astype(np.uint8)
    path = root / "SVHN" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"X": x, "y": y})
    return path, x


# --- options of every data set --------------------------------------------------------------------------------------

PAIRING = ["dm", "max_d", "fraction", "paired", "always"]
OPTIONS = [
    (name, option)
    for name, loader in data.LOADERS.items()
    for takes in [inspect.signature(data.TAKES_OPTIONS_OF.get(loader, loader)).parameters]
    for option in [*takes, *(PAIRING if "pairing" in takes else [])]
    if option not in ("cache", "pairing")
]


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_refuses_what_it_is_not_before_any_file_is_read(tmp_path, name, option):
    for wrong in ("x", "3", [1], float("nan"), float("inf"), -1, 2.5, {}):
        with pytest.raises(ValueError, match=f"^{option} is {re.escape(repr(wrong))}; expected"):
            data.load(name, cache=tmp_path, **{option: wrong})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", data.LOADERS)
def test_a_data_folder_is_a_folder(tmp_path, monkeypatch, name):
    file = tmp_path / "file"
    file.touch()
    if name != "multi-hand":  # it stores nothing
        with pytest.raises(
            ValueError, match="cache is '.*file/below', but .*file is a file; expected a folder"
        ):
            data.load(name, cache=file / "below")
        with pytest.raises(ValueError, match="cache is 3; expected the path of a folder"):
            data.load(name, cache=3)
        monkeypatch.setenv("MMLIB_DATA", str(file))
        with pytest.raises(ValueError, match="MMLIB_DATA is '.*file', but"):
            data.load(name)


# --- readers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_packed_and_plain(tmp_path, suffix):
    array = DRAW.integers(0, 256, (3, 4, 5)).astype(np.uint8)
    path = tmp_path / f"some-idx3-ubyte{suffix}"
    path.write_bytes(gzip.compress(idx(array)) if suffix else idx(array))
    assert np.array_equal(read_idx(path), array)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: gzip.compress(raw)[:-20], "cannot be unpacked .* the file is damaged"),
        (lambda raw: gzip.compress(raw)[:40] + b"\xff" * 9 + gzip.compress(raw)[49:], "cannot be unpacked"),
        (lambda raw: b"<html>not found</html>", "cannot be unpacked"),
        (lambda raw: b"", "expected an idx file"),
        (lambda raw: gzip.compress(raw[:-3]), "holds 57 bytes of data; expected 60"),
        (lambda raw: gzip.compress(b"\0\0\x0d\3" + raw[4:]), "expected an idx file of unsigned bytes"),
    ],
)
def test_a_damaged_idx_file_is_one_clear_error(tmp_path, damage, message):
    path = tmp_path / "some.gz"
    path.write_bytes(damage(idx(DRAW.integers(0, 256, (3, 4, 5)))))
    with pytest.raises(DataFileError, match=message) as caught:
        read_idx(path)
    assert "some.gz" in str(caught.value)


def test_idx_files_are_held_against_an_md5(tmp_path):
    path = tmp_path / "some-idx1-ubyte"
    path.write_bytes(idx(digits(5)))
    with pytest.raises(
        DataFileError, match="MD5 is .*; the official file has 0000: the file is damaged or another"
    ):
        read_idx(path, md5="0000")


def test_svhn_mat_files_put_images_first_and_call_10_zero(tmp_path):
    path, x = write_mat(tmp_path, "train_32x32.mat", 12)
    images, labels = read_svhn_mat(path)
    assert images.shape == (12, 3, 32, 32) and labels.dtype == np.int64
    assert images[7, 2, 3, 4] == x[3, 4, 2, 7]  # [row, column, channel, item] in the file
    assert labels.tolist() == digits(12).tolist()


def test_a_damaged_mat_file_is_one_clear_error(tmp_path):
    path, x = write_mat(tmp_path, "train_32x32.mat", 5)
    with pytest.raises(DataFileError, match="MD5 is"):
        read_svhn_mat(path, md5="0000")
    savemat(path, {"X": x})
    with pytest.raises(DataFileError, match="not a readable .mat file with X and y"):
        read_svhn_mat(path)
    savemat(path, {"X": x[:16], "y": np.ones((5, 1))})
    with pytest.raises(DataFileError, match="X is uint8 with images of another shape"):
        read_svhn_mat(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataFileError, match="not a readable .mat file"):
        read_svhn_mat(path)


def test_subset_files_hold_the_four_documented_arrays(tmp_path):
    path, arrays = write_subset(tmp_path)
    content = read_subset(path)
    assert list(content) == ["x_train", "y_train", "x_test", "y_test"]
    assert np.array_equal(content["x_train"], arrays["x_train"].transpose(0, 3, 1, 2))
    assert content["y_test"].dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_test": None, "labels": digits(3)},
            r"has keys \['x_train', .*'labels'\]; expected \['x_train', 'y_train'",
        ),
        ({"x_train": np.zeros((80, 32, 32, 3))}, "x_train is float64"),
        ({"x_test": np.zeros((20, 3, 32, 32), np.uint8)}, "x_test is uint8 with images of another shape"),
        (
            {"y_train": digits(79)},
            r"y_train is int64 of shape \(79,\); expected 80 whole numbers from 0 to 10",
        ),
        ({"y_train": digits(80) + 5}, "expected 80 whole numbers from 0 to 10"),
    ],
)
def test_a_subset_with_other_arrays_is_one_clear_error(tmp_path, changes, message):
    path, _ = write_subset(tmp_path, **changes)
    with pytest.raises(DataFileError, match=message):
        read_subset(path)


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"x" * 500]
)
def test_a_damaged_subset_is_one_clear_error(tmp_path, damage):
    path, _ = write_subset(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFileError, match="subset.npz: cannot be read"):
        read_subset(path)


def test_the_official_checksums_are_those_that_torchvision_knows():
    from torchvision.datasets import MNIST, SVHN

    assert {f"{name}.gz" for name in MNIST_MD5} == {name for name, _ in MNIST.resources}
    known = {entry[1]: entry[2] for entry in SVHN.split_list.values()}
    assert all(known[name] == md5 for name, md5 in SVHN_MD5.items())


# --- the data set ---------------------------------------------------------------------------------------------------


def test_a_subset_says_what_it_is_and_holds_out_its_tail(tmp_path):
    write_mnist(tmp_path)
    _, arrays = write_subset(tmp_path)
    loaded = data.load("mnist-svhn", cache=tmp_path, verify=False, dm=4)
    assert loaded.shapes == {"mnist": (1, 28, 28), "svhn": (3, 32, 32)}
    sizes = {s: {n: len(i) for n, i in split.items.items()} for s, split in loaded.splits.items()}
    assert sizes == {
        "train": {"mnist": 100, "svhn": 70},
        "validation": {"mnist": 20, "svhn": 10},
        "test": {"mnist": 40, "svhn": 20},
    }
    assert [len(split) for split in loaded.splits.values()] == [4 * 70, 10, 20]
    tail = torch.from_numpy(arrays["x_train"][70:]).permute(0, 3, 1, 2)
    assert torch.equal(loaded.validation.items["svhn"].values, tail)
    assert loaded.provenance["svhn"] == "svhn-subset-100"
    assert set(loaded.provenance["sha256"]) == {f"MNIST/raw/{name}.gz" for name in MNIST_MD5} | {
        "SVHN/subset.npz"
    }


def test_no_original_is_in_two_splits(tmp_path):
    write_mnist(tmp_path)
    write_subset(tmp_path)
    loaded = data.load("mnist-svhn", cache=tmp_path, verify=False)
    for name, total in (("mnist", 160), ("svhn", 100)):
        numbers = torch.cat([split.items[name].original for split in loaded.splits.values()])
        assert sorted(numbers.tolist()) == list(range(total))


def test_ten_thousand_svhn_images_are_called_svhn10k(tmp_path):
    blank = {f"{k}": np.zeros((n, 32, 32, 3), np.uint8) for k, n in (("x_train", 8000), ("x_test", 2000))}
    write_subset(tmp_path, train=1, test=1, y_train=digits(8000), y_test=digits(2000), **blank)
    splits, _, kind = mnist_svhn._svhn(tmp_path, "auto", verify=True)
    assert kind == "svhn10k"
    assert [len(items) for items in splits.values()] == [7000, 1000, 2000]


def test_official_files_come_first_and_hold_out_a_tenth(tmp_path):
    write_mnist(tmp_path, packed=False)
    write_subset(tmp_path)
    write_mat(tmp_path, "train_32x32.mat", 50)
    assert data.load("mnist-svhn", cache=tmp_path, verify=False).provenance["svhn"] == "svhn-subset-100"
    write_mat(tmp_path, "test_32x32.mat", 30)
    loaded = data.load("mnist-svhn", cache=tmp_path, verify=False)
    assert loaded.provenance["svhn"] == "svhn"
    assert [len(split.items["svhn"]) for split in loaded.splits.values()] == [45, 5, 30]
    subset = data.load("mnist-svhn", cache=tmp_path, verify=False, svhn="subset", fraction=0.5)
    assert subset.provenance["svhn"] == "svhn-subset-100" and len(subset.train.items["svhn"]) == 35


def expect(message, **options):
    with pytest.raises(ValueError, match=message) as caught:
        data.load("mnist-svhn", **options)
    return str(caught.value)


def test_missing_files_give_one_error_that_says_what_to_put_where(tmp_path):
    message = expect(r"MNIST/raw/train-images-idx3-ubyte.gz is missing", cache=tmp_path)
    assert str(tmp_path) in message and "MMLIB_DATA" in message and "SVHN/subset.npz" in message
    assert "download=True" in message
    write_mnist(tmp_path)
    expect("and so is SVHN/subset.npz", cache=tmp_path, verify=False)
    expect("SVHN/train_32x32.mat is missing", cache=tmp_path, verify=False, svhn="official")


def test_other_than_official_files_are_refused_unless_asked_for(tmp_path):
    write_mnist(tmp_path)
    write_subset(tmp_path)
    message = expect("train-images-idx3-ubyte.gz: MD5 is", cache=tmp_path)
    assert "Put the right file there" in message


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_mnist(tmp_path)
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(digits(39))))
    expect(r"t10k-\*: images \(40, 28, 28\), labels \(39,\)", cache=tmp_path, verify=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16}, r"size is 16; expected 32 \(or None\)"),
        ({"svhn": "half"}, "svhn is 'half'; expected one of auto, official, subset"),
        ({"seed": -1}, "seed is -1"),
        ({"style": "easy"}, r"mnist-svhn has no option 'style'; expected some of \['svhn', 'seed'"),
    ],
)
def test_impossible_options_are_refused_by_name(tmp_path, options, message):
    expect(message, cache=tmp_path, **options)


def test_a_failed_download_is_the_same_clear_error_and_leaves_the_timeout_alone(tmp_path, monkeypatch):
    from torchvision import datasets

    waits = []

    def refuse(*args, **kwargs):
        waits.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(datasets, "MNIST", refuse)
    before = socket.getdefaulttimeout()
    message = expect("the download failed .*no route to host", cache=tmp_path, download=True)
    assert waits == [20.0] and socket.getdefaulttimeout() == before
    assert "Put the right file there" in message


@pytest.mark.skipif(
    not (cache_root() / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").is_file()
    or not (cache_root() / "SVHN").is_dir(),
    reason="the official files are not at hand",
)
def test_the_official_files_where_they_are_at_hand():
    loaded = data.load("mnist-svhn")
    numbers = [len(split.items["mnist"]) for split in loaded.splits.values()]
    assert numbers == [50_000, 10_000, 10_000]
    both = torch.cat([loaded.train.items["mnist"].labels, loaded.validation.items["mnist"].labels])
    assert torch.bincount(both).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
