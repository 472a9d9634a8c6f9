"""Files that are either complete under their name or not there, and YAML that is read or refused with its name."""

import contextlib
import errno
import os
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "choose a folder that can be written to"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the place of a folder: move it away"),
    errno.EISDIR: "a folder is in the place of this file: move it away",
    **dict.fromkeys(
        (errno.ENOLCK, errno.EOPNOTSUPP),
        "files cannot be locked here, so a run could be made twice at once; use a folder on another file system",
    ),
}


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write a file beside its place, flush it to the disk, rename it: whatever is killed when, no half of it is seen.

    Raises:
        OSError: if the disk refuses, with a word on what to do; nothing is left behind, and a file that was there
            before still is.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise advised(error, path) from error
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)
    return path


def advised(error: OSError, path: str | Path, note: str = "") -> OSError:
    """The error with what to do about it, once, and a note, if anything can be done; else as it is."""
    advice = ADVICE.get(error.errno)
    if advice is None:
        return error
    text = error.strerror if advice in error.strerror else f"{error.strerror}: {advice}"
    return OSError(error.errno, f"{text}{note}", error.filename or str(path))


def check_folder(argument: str, path: str | os.PathLike) -> Path:
    """The path of a folder that is there or can be made.

    Raises:
        ValueError: if it is no path, or a file stands in its place or above it; names the argument.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"{argument} is {path!r}; expected the path of a folder")
    path = Path(path).expanduser()
    place = next((place for place in (path, *path.parents) if place.exists()), Path("."))
    if not place.is_dir():
        raise ValueError(f"{argument} is {str(path)!r}, but {place} is a file; expected a folder")
    return path


def recorded(path: str | Path) -> Path:
    """The path of what comes with the repository and not with the library alone, such as ``data/results``.

    Raises:
        FileNotFoundError: if it is not there; says where it would be.
    """
    path = Path(path)
    if path.is_relative_to(REPOSITORY) and not path.exists():
        advice = "it comes with the repository: clone that and install it in place, with pip install -e"
        raise FileNotFoundError(f"{path} is not there: {advice}")
    return path


def read_yaml(path: str | Path):
    """What a YAML file holds; None if it is empty.

    Raises:
        ValueError: if it is no text in UTF-8, or no YAML: names the file and the place.
        FileNotFoundError: as :func:`recorded`.
    """
    path = recorded(path)
    try:
        return parse_yaml(path.read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error


def parse_yaml(text: str):
    """What a text says in YAML; ``1e-3`` is a number, as in YAML 1.2, which PyYAML takes for text.

    Raises:
        ValueError: if it is no YAML; says where.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        pass

    number = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
