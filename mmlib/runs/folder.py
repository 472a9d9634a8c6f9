"""The folder of one run: what is in it, whether the run is finished, and who may write to it.

Whatever is damaged, half-written or in the way is renamed and said, never trusted and never deleted.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mmlib.files import write_atomically
from mmlib.runs.recipe import Recipe, from_dict
from mmlib.runs.results import ResultError, seal, verify

_CHECKPOINT = re.compile(r"step-(\d+)-[0-9a-f]+\.safetensors")


class RunLockedError(RuntimeError):
    """The same run is being made by another process at this moment."""


@dataclass(frozen=True)
class RunFolder:
    """``<root>/<recipe>/seed-<n>/``.

    Attributes:
        recipe: what is run.
        seed: of the run.
        root: folder of all runs.
    """

    recipe: Recipe
    seed: int
    root: Path

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}; expected an integer of at least 0")

    def __str__(self) -> str:
        return f"{self.recipe.name}, seed {self.seed}"

    @property
    def path(self) -> Path:
        """The folder itself."""
        return Path(self.root) / self.recipe.name / f"seed-{self.seed}"

    @property
    def result(self) -> Path:
        """The last file to be written: a run that has it is finished."""
        return self.path / "result.json"

    @property
    def note(self) -> Path:
        """The recipe, and how the run was begun."""
        return self.path / "recipe.json"

    @property
    def journal(self) -> Path:
        """When the run was started, stopped, killed (a start without an end) and finished; one JSON object a line."""
        return self.path / "journal.jsonl"

    @property
    def metrics(self) -> Path:
        """The history, one JSON object a line: evaluations while the run lasts, everything when it is done."""
        return self.path / "metrics.jsonl"

    @property
    def samples(self) -> Path:
        """A picture of samples from the model."""
        return self.path / "samples.png"

    @property
    def weights(self) -> Path:
        """The trained weights."""
        return self.path / "weights.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, while the run lasts."""
        return self.path / "checkpoints"

    def finished(self) -> bool:
        """Whether this run is done, with an intact result of this very recipe and seed."""
        try:
            result = verify(self.result)
            return (result["recipe"]["hash"], result["seed"]) == (self.recipe.hash, self.seed)
        except (FileNotFoundError, NotADirectoryError, ResultError, KeyError, TypeError):
            return False

    def step(self) -> int:
        """Steps done, by the name of the newest checkpoint."""
        found = (_CHECKPOINT.fullmatch(path.name) for path in self.checkpoints.glob("step-*"))
        return max((int(match[1]) for match in found if match), default=0)

    def open(self, begun: dict) -> dict:
        """Make the folder ready to run in, and note how the run was begun. Only while it is :meth:`locked`.

        What is in the way is renamed, never deleted: a run of a former recipe of this name, or a damaged file.

        Args:
            begun: JSON-able facts about this start, such as the commit.

        Returns:
            The facts of the start that the run goes on from, if it has a checkpoint; else ``begun``.
        """
        known = self._read_note()
        if known is not None and known["recipe"]["hash"] != self.recipe.hash:
            aside = _free(self.path.with_name(f"{self.path.name}.{known['recipe']['hash']}"))
            self.path.rename(aside)
            _say(f"recipe {self.recipe.name} has changed: the former run is now {aside}")
            known = None
        for partial in self.path.glob(
            "*.partial"
        ):  # what a kill interrupted; its file is still to be written
            partial.unlink()
        if self.result.exists() and not self.finished():
            self._set_aside(self.result, self.result.with_suffix(".damaged"))
        if self.weights.exists() and not _is_safetensors(self.weights):
            self._set_aside(self.weights)
        self._keep_rows(self.step())
        if known is not None and self.step():
            return known["begun"]
        write_atomically(self.note, dump({"recipe": self.recipe.as_dict(), "begun": begun}))
        return begun

    def add_row(self, row: dict) -> None:
        """Add a row to ``metrics.jsonl``; rows of its step or later ones, of an interrupted start, make way for it."""
        self._keep_rows(row["step"] - 1, row)

    def log(self, event: str, **facts) -> None:
        """Add a line to the journal: ``{"time", "event", "process", "step", ...}``."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"time": time, "event": event, "process": os.getpid(), "step": self.step(), **facts}
        self.path.mkdir(parents=True, exist_ok=True)
        with open(
            self.journal, "ab"
        ) as file:  # a line that a kill cut short ends here, and is skipped by events()
            cut = file.tell() > 0 and not self.journal.read_bytes().endswith(b"\n")
            file.write(b"\n" * cut + json.dumps(line).encode() + b"\n")

    def events(self) -> list[dict]:
        """Lines of the journal; an empty list if there is none."""
        return _rows(self.journal.read_bytes())[0] if self.journal.exists() else []

    def write_result(self, result: dict) -> Path:
        """Write the result, sealed with its checksum and those of the other files: the run is finished."""
        files = {
            path.name: _sha256(path) for path in (self.metrics, self.weights, self.samples) if path.exists()
        }
        return write_atomically(self.result, dump(seal({**result, "files": files})))

    def check_files(self) -> None:
        """Set aside what is no longer as it was when the run was finished. Its result stands."""
        for name, checksum in verify(self.result).get("files", {}).items():
            path = self.path / name
            if path.exists() and _sha256(path) != checksum:
                self._set_aside(path)
                _say(
                    f"the result of {self} stands; to make {name} again, move {self.path} away and run it anew"
                )

    def drop_checkpoints(self) -> None:
        """Delete the checkpoints of a finished run; a damaged one that was set aside stays."""
        for path in [*self.checkpoints.glob("step-*.safetensors"), *self.checkpoints.glob("*.partial")]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.checkpoints.rmdir()

    @contextlib.contextmanager
    def locked(self):
        """Hold the run; the lock goes when the process does, however it ends.

        Raises:
            RunLockedError: if another process holds it.
        """
        lock = self.path.with_name(f".{self.path.name}.lock")
        lock.parent.mkdir(parents=True, exist_ok=True)
        with open(lock, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise RunLockedError(
                    f"{self}, is being run already by process {owner} "
                    f"({self.path}); wait for it, or stop it and start again to continue"
                ) from None
            except OSError as error:
                reason = (
                    f"files cannot be locked here ({error.strerror}), so a run could be made twice at once"
                )
                raise OSError(
                    error.errno, f"{reason}: use a folder on another file system", str(lock)
                ) from error
            file.seek(0)
            file.truncate()
            file.write(f"{os.getpid()} on {platform.node()}")
            file.flush()
            yield

    def _read_note(self) -> dict | None:
        """The note of how the run was begun, or None if there is none, or a damaged one: the recipe's hash tells."""
        if not self.note.exists():
            return None
        try:
            note = json.loads(self.note.read_text())
            if from_dict(note["recipe"]).hash == note["recipe"]["hash"] and isinstance(note["begun"], dict):
                return note
        except (ValueError, KeyError, TypeError):
            pass
        self._set_aside(self.note)
        return None

    def _keep_rows(self, last: int, *more: dict) -> None:
        """Cut ``metrics.jsonl`` after step ``last``, then add rows."""
        rows, whole = _rows(self.metrics.read_bytes()) if self.metrics.exists() else ([], True)
        if not whole:
            self._set_aside(self.metrics)
            rows = []
        kept = [row for row in rows if row["step"] <= last]
        if more or len(kept) < len(rows):
            write_atomically(self.metrics, lines([*kept, *more]))

    def _set_aside(self, path: Path, name: Path | None = None) -> None:
        aside = _free(name or path.with_name(f"{path.name}.damaged"))
        path.rename(aside)
        _say(f"{path} is damaged: set aside as {aside.name}")


def dump(values: dict) -> bytes:
    """JSON as it is written everywhere here: readable, and without NaN."""
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def lines(rows: list[dict]) -> bytes:
    """Rows as JSON, one a line."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def disk_is_full(error: OSError) -> bool:
    """Whether that is what an error says."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _rows(data: bytes) -> tuple[list[dict], bool]:
    """Rows of a file of JSON lines, and whether all of it could be read."""
    rows = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    rows = [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]
    return rows, len(rows) == data.count(b"\n") and data[-1:] in (b"", b"\n")


def _is_safetensors(path: Path) -> bool:
    """Whether the header of a safetensors file fits its length: it does not when the file was cut."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            return True
    except (SafetensorError, OSError):
        return False


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _free(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}{'' if n == 0 else f'-{n}'}") for n in range(10_000))
    return next(candidate for candidate in candidates if not candidate.exists())


def _say(text: str) -> None:
    print(text, file=sys.stderr)
