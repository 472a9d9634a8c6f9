"""The folder of one run: what is in it, whether the run is finished, and who may write to it."""

import contextlib
import fcntl
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mmlib.files import write_atomically
from mmlib.reproduce.recipes import Recipe
from mmlib.reproduce.results import ResultError, seal, verify


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

    @property
    def path(self) -> Path:
        """The folder itself."""
        return Path(self.root) / self.recipe.name / f"seed-{self.seed}"

    @property
    def result(self) -> Path:
        """The last file to be written: a run that has it is finished."""
        return self.path / "result.json"

    @property
    def metrics(self) -> Path:
        """The history, one JSON object a line."""
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
        """Whether this run is done, with an intact result of this very recipe."""
        try:
            return verify(self.result)["recipe"]["hash"] == self.recipe.hash
        except (FileNotFoundError, ResultError):
            return False

    def open(self, begun: dict) -> dict:
        """Make the folder ready to run in, and note how the run was begun.

        What is in the way is renamed, never deleted: a run of a former recipe of this name, or a damaged result.

        Args:
            begun: JSON-able facts about this start, such as the commit.

        Returns:
            The facts of the first start, if the run was begun before; else ``begun``.
        """
        note = self.path / "recipe.json"
        if note.exists():
            former = json.loads(note.read_text())["recipe"]["hash"]
            if former != self.recipe.hash:
                aside = _free(self.path.with_name(f"{self.path.name}.{former}"))
                self.path.rename(aside)
                _say(f"recipe {self.recipe.name} has changed: the former run is now {aside}")
        if self.result.exists() and not self.finished():
            aside = _free(self.result.with_suffix(".damaged"))
            self.result.rename(aside)
            _say(f"{self.result} is damaged: set aside as {aside.name}")
        if not note.exists():
            write_atomically(note, dump({"recipe": self.recipe.as_dict(), "begun": begun}))
        return json.loads(note.read_text())["begun"]

    def write_result(self, result: dict) -> Path:
        """Write the result, sealed with its checksum."""
        return write_atomically(self.result, dump(seal(result)))

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
                    f"{self.recipe.name}, seed {self.seed}, is being run already by process {owner} "
                    f"({self.path}); wait for it, or stop it and start again to continue"
                ) from None
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield


def dump(values: dict) -> bytes:
    """JSON as it is written everywhere here: readable, and without NaN."""
    return (json.dumps(values, indent=1, allow_nan=False) + "\n").encode()


def _free(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}{'' if n == 0 else f'-{n}'}") for n in range(10_000))
    return next(candidate for candidate in candidates if not candidate.exists())


def _say(text: str) -> None:
    print(text, file=sys.stderr)
