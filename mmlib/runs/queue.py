"""The queue: which runs are wanted, and in which order."""

import reprlib
from dataclasses import dataclass
from pathlib import Path

from mmlib.checks import whole
from mmlib.files import REPOSITORY, read_yaml
from mmlib.runs.folder import RunFolder
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.results import RESULTS

QUEUE = REPOSITORY / "data" / "queue.yaml"
FIELDS = {"recipe", "seeds", "priority", "why"}


@dataclass(frozen=True)
class Row:
    """Runs that are wanted: one for each seed; rows of a larger priority come first."""

    recipe: Recipe
    seeds: tuple[int, ...]
    priority: int


def load(path: Path | str = QUEUE) -> list[Row]:
    """The rows of a queue, as they stand in the file.

    Raises:
        ValueError: for whatever is damaged, unknown or asked for twice: names file, row and reason.
    """
    content = read_yaml(path) or []
    if not isinstance(content, list):
        raise ValueError(f"{path} holds {type(content).__name__}; expected a list of rows")
    rows: list[Row] = []
    for number, entry in enumerate(content, 1):
        try:
            rows.append(_row(entry, {(row.recipe.name, seed) for row in rows for seed in row.seeds}))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return rows


def wanted(rows: list[Row], root: Path | str = "runs", recorded: Path | str = RESULTS) -> list[RunFolder]:
    """The runs of a queue that are not recorded: those that were begun, then by priority, position and seed."""
    order = sorted(rows, key=lambda row: -row.priority)
    runs = [RunFolder(row.recipe, seed, Path(root)) for row in order for seed in sorted(row.seeds)]
    todo = [run for run in runs if not (Path(recorded) / run.recipe.name / f"seed-{run.seed}.json").is_file()]
    return sorted(todo, key=lambda run: run.step() == 0)


def _row(entry, before: set[tuple[str, int]]) -> Row:
    if not isinstance(entry, dict) or set(entry) != FIELDS:
        raise ValueError(f"it is {reprlib.repr(entry)}; expected the fields {', '.join(sorted(FIELDS))}")
    recipe, seeds = get(entry["recipe"]), entry["seeds"]
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"seeds is {seeds!r}; expected a list of integers of at least 0")
    seeds = tuple(whole("seed", seed, 0) for seed in seeds)
    for k, seed in enumerate(seeds):
        if (recipe.name, seed) in before or seed in seeds[:k]:
            raise ValueError(f"{recipe.name}, seed {seed}, is in the queue twice; expected once")
    return Row(recipe, seeds, whole("priority", entry["priority"], 0))
