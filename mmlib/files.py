"""Files that are either complete under their name or not there, and YAML that is read or refused with its name."""

import os
from pathlib import Path


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Write a file beside its place, flush it to the disk, rename it: whatever is killed when, no half of it is seen.

    Raises:
        OSError: if the disk refuses; nothing is left behind, and a file that was there before still is.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)
    return path


def read_yaml(path: str | Path):
    """What a YAML file holds; None if it is empty.

    Raises:
        ValueError: if it is no text in UTF-8, or no YAML: names the file and the place.
    """
    import yaml

    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
