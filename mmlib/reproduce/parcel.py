"""A run as it travels between machines: collected from its folder, checked, and put back into one."""

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass

from mmlib.files import write_atomically
from mmlib.reproduce.folder import RunFolder
from mmlib.reproduce.results import seal

WEIGHTS = "weights.safetensors"
_SMALL = ("recipe.json", "journal.jsonl", "metrics.jsonl", "samples.png", "result.json")
_CHECKPOINT = re.compile(r"checkpoints/step-(\d{9})-([0-9a-f]{16})\.safetensors")
FILE = re.compile("|".join([*map(re.escape, (*_SMALL, WEIGHTS)), _CHECKPOINT.pattern]))  # all that may travel


@dataclass(frozen=True)
class Parcel:
    """A run as it travels.

    Attributes:
        recipe: name of its recipe.
        seed: of the run.
        hash: of the recipe.
        step: steps done, or None once the run is finished.
        files: name below the run's folder -> content. A finished run has its results and, where there was room, its
            weights; an unfinished one has its newest checkpoint.
    """

    recipe: str
    seed: int
    hash: str
    step: int | None
    files: dict[str, bytes]

    def __str__(self) -> str:
        return f"{self.recipe}, seed {self.seed}"

    @property
    def run(self) -> tuple[str, int, str]:
        """What tells runs apart: recipe, seed and the recipe's hash."""
        return self.recipe, self.seed, self.hash

    @property
    def progress(self) -> float:
        """Larger is further."""
        return float("inf") if self.step is None else self.step

    @property
    def size(self) -> int:
        """Bytes that it must have in the archives: all but the weights of a finished run."""
        return sum(len(data) for name, data in self.files.items() if name != WEIGHTS)

    @property
    def identity(self) -> dict:
        """The identity of an unfinished run, such as its device, from the header of its checkpoint."""
        data = next(data for name, data in self.files.items() if name.startswith("checkpoints/"))
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        return json.loads(header["__metadata__"]["state"])["identity"]


def collect(folder: RunFolder) -> Parcel | None:
    """What there is of a run on disk, or None if there is nothing that could be continued.

    May be called while the run is being made: then it has the newest intact checkpoint.
    """
    run = folder.recipe.name, folder.seed, folder.recipe.hash
    if folder.finished():
        return Parcel(*run, None, _read(folder, *_SMALL, WEIGHTS))
    small = _read(folder, *(name for name in _SMALL if name != "result.json"))
    for path in sorted(folder.checkpoints.glob("step-*.safetensors"), reverse=True):
        name = f"checkpoints/{path.name}"
        with contextlib.suppress(KeyError, TypeError, ValueError):
            parcel = Parcel(*run, int(path.name[5:14]), small | _read(folder, name))
            check(parcel)
            return parcel
    return None


def unpack(parcel: Parcel, folder: RunFolder) -> bool:
    """Put a run where it is made, unless what is there is as far.

    Returns:
        Whether anything was written.

    Raises:
        ValueError: if the parcel is of another run, or of another version of its recipe.
        RunLockedError: if the run is being made at this moment.
    """
    expected = (folder.recipe.name, folder.seed, folder.recipe.hash)
    if parcel.run != expected:
        raise ValueError(f"parcel is {parcel.run}; expected {expected}")
    with folder.locked():
        there = collect(folder)
        if there is not None and there.progress >= parcel.progress:
            return False
        folder.open(json.loads(parcel.files.get("recipe.json", '{"begun": {}}'))["begun"])  # clears the way
        for name in sorted(parcel.files, key="result.json".__eq__):  # the result last
            write_atomically(folder.path / name, parcel.files[name])
        if parcel.step is None:
            folder.drop_checkpoints()
    return True


def check(parcel: Parcel) -> None:
    """ValueError, KeyError or TypeError unless the files are those of this run, whole."""
    if parcel.step is None:
        content = json.loads(parcel.files["result.json"])
        if content != seal({key: value for key, value in content.items() if key != "sha256"}):
            raise ValueError("result.json does not match its SHA-256")
        seed = content["seed"]
    else:
        content, seed = json.loads(parcel.files["recipe.json"]), parcel.seed
        if not isinstance(content["begun"], dict):
            raise ValueError("recipe.json does not say how the run was begun")
        (name,) = [name for name in parcel.files if name not in _SMALL]
        match = _CHECKPOINT.fullmatch(name)
        if not match or match.groups() != (f"{parcel.step:09d}", sha256(parcel.files[name])[:16]):
            raise ValueError(f"{name} does not match its name")
        if not isinstance(parcel.identity, dict):
            raise ValueError(f"{name} does not say whose state it is")
    whose = content["recipe"]["name"], seed, content["recipe"]["hash"]
    if whose != parcel.run:
        raise ValueError(f"its files are those of {whose}")


def _read(folder: RunFolder, *names: str) -> dict[str, bytes]:
    files = {}
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            files[name] = (folder.path / name).read_bytes()
    return files


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()
