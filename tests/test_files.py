"""Files are whole or not there, what the disk refuses is said with advice, YAML that cannot be read is named."""

import os

import pytest

from mmlib import files
from mmlib.files import read_yaml, write_atomically


@pytest.mark.parametrize("number", files.ADVICE)
def test_what_the_disk_refuses_is_said_with_advice_and_leaves_nothing(tmp_path, monkeypatch, number):
    path = write_atomically(tmp_path / "new" / "a", b"before")
    full = lambda *_: (_ for _ in ()).throw(OSError(number, os.strerror(number)))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=f"{os.strerror(number)}: {files.ADVICE[number]}.*new/a") as caught:
            write_atomically(path, b"after")
    assert caught.value.errno == number
    assert path.read_bytes() == b"before" and os.listdir(path.parent) == ["a"]


def test_a_folder_in_the_place_of_a_file_and_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        IsADirectoryError, match="a folder is in the place of this file: move it away.*folder"
    ):
        write_atomically(tmp_path / "folder", b"")
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b"):
        with pytest.raises(OSError, match="a file is in the place of a folder: move it away.*file"):
            write_atomically(path, b"")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_what_comes_with_the_repository_is_said_to(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
    with pytest.raises(
        FileNotFoundError, match="it comes with the repository: clone that and install it in place"
    ):
        read_yaml(tmp_path / "data" / "queue.yaml")
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_yaml("/nowhere/queue.yaml")


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_are_as_readable_as_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        path = write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    "data", [b"- [", b"\t- x: [\n", b"\xff\xfe[\x001\x00]\x00", b"\xff", b"- 2021-13-45", b"[" * 9999]
)
def test_yaml_that_cannot_be_read_is_named(tmp_path, data):
    path = tmp_path / "rows.yaml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"rows.yaml cannot be read as YAML: ."):
        read_yaml(path)


def test_yaml_that_can_be_read(tmp_path):
    path = tmp_path / "rows.yaml"
    for data, content in ((b"", None), (b"\xef\xbb\xbf- {a: 1}", [{"a": 1}]), ("- ä".encode(), ["ä"])):
        path.write_bytes(data)
        assert read_yaml(path) == content


def test_a_number_without_a_point_is_a_number(tmp_path):
    """YAML 1.1, which PyYAML reads, takes it for text."""
    (tmp_path / "a.yaml").write_text("[1e-3, -2E5, 1.5e+2, 1e, e3, '1e3', 0x1e3, 12]")
    assert read_yaml(tmp_path / "a.yaml") == [1e-3, -2e5, 150.0, "1e", "e3", "1e3", 0x1E3, 12]
