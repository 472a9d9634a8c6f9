"""The folder of one run: what is in it, whether the run is finished, and who may write to it.

Whatever is damaged, half-written or in the way is renamed and said, never trusted and never deleted.
"""

import contextlib
import hashlib
import itertools
import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mmlib.checks import whole
from mmlib.files import write_atomically
from mmlib.runs.recipe import Recipe, from_dict
from mmlib.runs.results import ResultError, seal, verify

_CHECKPOINT = re.compile(r"step-(\d+)-[0-9a-f]+\.safetensors")


class RunLockedError(RuntimeError):
    """The same run is being made by another process at this moment."""


def _inside(name: str, doc: str) -> property:
    return property(lambda run: run.root / run.recipe.name / f"seed-{run.seed}" / name, doc=doc)


@dataclass(frozen=True)
class RunFolder:
    """``<root>/<recipe>/seed-<n>/``."""

    recipe: Recipe  #: what is run
    seed: int
    root: Path  #: folder of all runs

    path = _inside("", "The folder itself.")
    result = _inside("result.json", "The last file to be written: a run that has it is finished.")
    note = _inside("recipe.json", "The recipe, and how the run was begun.")
    journal = _inside("journal.jsonl", "Each start and end, one JSON object a line; no end: it was killed.")
    metrics = _inside("metrics.jsonl", "The history; while the run lasts, its evaluations.")
    samples = _inside("samples.png", "A picture of samples from the model.")
    weights = _inside("weights.safetensors", "The trained weights.")
    checkpoints = _inside("checkpoints", "Checkpoints, while the run lasts.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole("seed", self.seed, 0))
        object.__setattr__(self, "root", Path(self.root))

    def __str__(self) -> str:
        return f"{self.recipe.name}, seed {self.seed}"

    def finished(self) -> bool:
        """Whether this run is done, with an intact result of this very recipe and seed."""
        try:
            result = verify(self.result)
            return (result["recipe"]["hash"], result["seed"]) == (self.recipe.hash, self.seed)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ResultError, KeyError, TypeError):
            return False

    def step(self) -> int:
        """Steps done, by the name of the newest checkpoint."""
        files = (path.name for path in self.checkpoints.glob("step-*") if path.is_file())
        return max((int(match[1]) for match in map(_CHECKPOINT.fullmatch, files) if match), default=0)

    def begun(self) -> dict | None:
        """How the run was begun that a checkpoint here goes on with; None if there is none."""
        recipe, begun = self._read_note()
        return begun if recipe == self.recipe.hash and self.step() else None

    def open(self, begun: dict) -> None:
        """Make the folder ready to run in, and note how the run was begun. Only while it is :meth:`locked`.

        What is in the way is renamed, never deleted: a run of a former recipe of this name, or a damaged file.
        """
        if (former := self._read_note()[0]) not in (None, self.recipe.hash):
            aside = _rename(self.path, former)
            print(f"recipe {self.recipe.name} has changed: the former run is now {aside}", file=sys.stderr)
        for partial in self.path.glob("*.partial"):  # of a file that is still to be written
            partial.unlink()
        if self.result.exists() and not self.finished():
            self._set_aside(self.result)
        if self.weights.exists() and not _is_safetensors(self.weights):
            self._set_aside(self.weights)
        _write_json(self.note, {"recipe": self.recipe.as_dict(), "begun": begun})

    def rows(self) -> list[dict]:
        """The evaluations that ``metrics.jsonl`` holds, up to the newest checkpoint."""
        try:
            rows = [json.loads(line) for line in self.metrics.read_bytes().splitlines()]
            return [row for row in rows if row["step"] <= self.step()]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            self._set_aside(self.metrics)
            return []

    def write_rows(self, rows: list[dict]) -> None:
        """Write ``metrics.jsonl``."""
        write_atomically(self.metrics, b"".join(json.dumps(row).encode() + b"\n" for row in rows))

    def log(self, event: str, **facts) -> None:
        """Add a line to the journal: ``{"time", "event", "process", "step", ...}``."""
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event}
        line |= {"process": os.getpid(), "step": self.step(), **facts}
        self.path.mkdir(parents=True, exist_ok=True)
        cut = self.journal.exists() and self.journal.read_bytes()[-1:] not in (b"", b"\n")  # by a kill
        with open(self.journal, "ab") as file:
            file.write(b"\n" * cut + json.dumps(line).encode() + b"\n")

    def write_result(self, result: dict) -> None:
        """Write the result, sealed with its checksum and those of the other files: the run is finished."""
        files = [path for path in (self.metrics, self.weights, self.samples) if path.exists()]
        plain = json.dumps({**result, "files": {path.name: sha256(path) for path in files}})
        _write_json(self.result, seal(json.loads(plain, parse_constant=lambda _: None)))  # NaN is no JSON

    def check_files(self) -> None:
        """Set aside what is no longer as it was when the run was finished. Its result stands."""
        stands, anew = f"the result of {self} stands", f"move {self.path} away and run anew"
        for name, checksum in verify(self.result).get("files", {}).items():
            if (path := self.path / name).exists() and sha256(path) != checksum:
                self._set_aside(path)
                print(f"{stands}; to make {name} again, {anew}", file=sys.stderr)

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints of a finished run; a damaged one that was set aside stays."""
        for path in self.checkpoints.glob("step-*.safetensors"):
            path.unlink()
        with contextlib.suppress(OSError):
            self.checkpoints.rmdir()

    @contextlib.contextmanager
    def locked(self):
        """Hold the run; the lock goes when the process does, however it ends.

        Raises:
            RunLockedError: if another process holds it.
            OSError: if files cannot be locked where the folder is.
        """
        path, new = self.path.with_name(f".{self.path.name}.lock"), not self.root.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            owner = f"{self}, is being run already by process {path.read_text() or 'unknown'} ({self.path})"
            raise RunLockedError(f"{owner}; wait for it, or stop it and start again to continue") from None
        path.write_text(f"{os.getpid()} on {platform.node()}")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                if not self.path.exists():  # refused before anything was made
                    path.unlink()
                    for parent in (path.parent, self.root)[: 1 + new]:
                        parent.rmdir()
            lock.release()

    def _read_note(self) -> tuple[str | None, dict | None]:
        """The hash of the recipe that was begun here and how it was; None if there is no note, or a damaged one."""
        with contextlib.suppress(ValueError, KeyError, TypeError, FileNotFoundError):
            note = json.loads(self.note.read_text())
            made = note["recipe"]["hash"]
            if from_dict(note["recipe"]).hash == made and isinstance(note["begun"], dict):
                return made, note["begun"]
        if self.note.exists():
            self._set_aside(self.note)
        return None, None

    def _set_aside(self, path: Path) -> None:
        print(f"{path} is damaged: set aside as {_rename(path, 'damaged').name}", file=sys.stderr)


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: Path, values: dict) -> None:
    write_atomically(path, (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())


def _is_safetensors(path: Path) -> bool:
    """Whether the header of a safetensors file fits its length: it does not when the file was cut."""
    from safetensors import SafetensorError, safe_open

    with contextlib.suppress(SafetensorError, OSError), safe_open(path, framework="np"):
        return True
    return False


def _rename(path: Path, ending: str) -> Path:
    """Add an ending to a name, with a number if there is such a file already."""
    names = (f"{path.name}.{ending}{f'-{n}' if n else ''}" for n in itertools.count())
    return path.rename(next(path.with_name(name) for name in names if not path.with_name(name).exists()))
