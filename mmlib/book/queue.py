"""The queue: which runs are wanted, and in which order."""

import reprlib
from pathlib import Path

from mmlib.checks import whole
from mmlib.files import REPOSITORY, read_yaml
from mmlib.runs.folder import RunFolder
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.results import RESULTS

QUEUE = REPOSITORY / "data" / "queue.yaml"
FIELDS = ["priority", "recipe", "seeds", "why"]
Row = tuple[int, Recipe, list[int]]


def load(path: Path | str = QUEUE) -> list[Row]:
    """Priority, recipe and seeds of each row of a queue, in the order of the file.

    Raises:
        ValueError: for whatever is damaged, unknown or asked for twice: names file, row and reason.
    """
    content, rows, seen = read_yaml(path) or [], [], set()
    if not isinstance(content, list):
        raise ValueError(f"{path} holds {type(content).__name__}; expected a list of rows")
    for number, entry in enumerate(content, 1):
        try:
            rows.append(_row(entry, seen))
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return rows


def wanted(rows: list[Row], root: Path | str = "runs", recorded: Path | str = RESULTS) -> list[RunFolder]:
    """The runs of a queue that are not recorded: those that were begun, then by priority, position and seed."""
    order = sorted(rows, key=lambda row: -row[0])
    runs = [RunFolder(recipe, seed, Path(root)) for _, recipe, seeds in order for seed in sorted(seeds)]
    todo = [run for run in runs if not (Path(recorded) / run.recipe.name / f"seed-{run.seed}.json").is_file()]
    return sorted(todo, key=lambda run: run.step() == 0)


def _row(entry, seen: set[tuple[str, int]]) -> Row:
    if not isinstance(entry, dict) or sorted(map(str, entry)) != FIELDS:
        raise ValueError(f"it is {reprlib.repr(entry)}; expected the fields {', '.join(FIELDS)}")
    recipe, seeds = get(entry["recipe"]), entry["seeds"]
    if not isinstance(seeds, list) or not seeds:
        raise ValueError(f"seeds is {reprlib.repr(seeds)}; expected a list of integers of at least 0")
    for seed in seeds:
        if (run := (recipe.name, whole("seed", seed, 0))) in seen:
            raise ValueError(f"{recipe.name}, seed {seed}, is in the queue twice; expected once")
        seen.add(run)
    return whole("priority", entry["priority"], 0), recipe, seeds
