"""Where data lives on disk, and generated data that is kept there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from mmlib.files import advised, check_folder, write_atomically


def cache_root(cache: str | os.PathLike | None = None) -> Path:
    """The folder for data: ``cache``, else ``$MMLIB_DATA``, else ``data/cache`` of the repository.

    Where the library was installed without its repository the last is ``~/.cache/mmlib``.

    Raises:
        ValueError: if it is no path, or a file.
    """
    if cache is not None:
        return check_folder("cache", cache)
    if os.environ.get("MMLIB_DATA"):
        return check_folder("MMLIB_DATA", os.environ["MMLIB_DATA"])
    repository = Path(__file__).resolve().parents[2]
    return (
        repository / "data" / "cache" if (repository / "book").is_dir() else Path.home() / ".cache" / "mmlib"
    )


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def generated(
    folder: Path, facts: dict, make: Callable[[], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], dict]:
    """Tensors from ``folder`` if they are there and whole; else makes and stores them.

    The folder holds ``data.safetensors`` and ``data.json``: ``facts`` (what the data was made from) and the SHA-256 of
    the data file as it was written. The digest detects a damaged file; another machine may round a pixel otherwise, so
    it does not identify the data set. Whatever fails the check is made again, with one warning that says what was
    wrong: generated data is never lost. The folder appears under its name only when complete, so that programs running
    side by side never see half of it.

    ``facts`` are JSON-able and must equal what is stored; the folder's name should tell apart whatever they tell apart.

    Returns:
        The tensors, and ``facts`` with ``sha256`` added.

    Raises:
        OSError: if the disk refuses, before anything is made; says what to do.
    """
    from safetensors.torch import load_file, save

    data, note = folder / "data.safetensors", folder / "data.json"
    if folder.exists():
        problem = _problem(data, note, facts)
        if problem is None:
            return load_file(data), json.loads(note.read_text())
        warnings.warn(f"{folder} is unusable ({problem}); making the data again", stacklevel=2)
    work = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        work.mkdir(parents=True)  # before the data is made: a disk that refuses says so at once
        tensors = make()
        content = save(tensors)
        record = {**facts, "sha256": hashlib.sha256(content).hexdigest()}
        write_atomically(work / data.name, content)
        write_atomically(work / note.name, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
        if folder.exists() and _problem(data, note, facts) is not None:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            work.rename(folder)
        except OSError:  # another program was faster: its copy is as good
            if _problem(data, note, facts) is not None:
                raise
            return load_file(data), json.loads(note.read_text())
        return tensors, record
    except OSError as error:
        raise advised(
            error, folder, "; another place: the argument cache or the variable MMLIB_DATA"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _problem(data: Path, note: Path, facts: dict) -> str | None:
    """Why the stored data cannot be used, or None."""
    try:
        record = json.loads(note.read_text())
        stored = record.pop("sha256")
        found = digest(data)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    if found != stored:
        return f"{data.name} is damaged: its SHA-256 is {found[:12]}..., {note.name} says {stored[:12]}..."
    if record != facts:
        return f"{note.name} describes other data"
    return None
