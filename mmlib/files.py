"""Files that are either complete under their name or not there."""

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
