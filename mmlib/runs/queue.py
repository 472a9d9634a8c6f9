"""The queue: which runs are wanted, and in which order."""

import re
from dataclasses import dataclass
from pathlib import Path

from mmlib.runs.folder import RunFolder
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get

QUEUE = Path(__file__).resolve().parents[2] / "data" / "queue.yaml"
_FIELDS = {"recipe", "seeds", "priority", "why"}


@dataclass(frozen=True)
class Row:
    """Runs that are wanted.

    Attributes:
        recipe: of all of them.
        seeds: one run each.
        priority: rows of a larger number come first.
        why: what they are wanted for.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    priority: int
    why: str


def load(path: Path | str = QUEUE) -> list[Row]:
    """The rows of a queue, as they stand in the file.

    Raises:
        ValueError: for an unknown recipe or field, a bad seed or priority, or a run that is asked for twice.
    """
    import yaml

    rows, seen = [], set()
    for entry in yaml.safe_load(Path(path).read_text()) or []:
        if not isinstance(entry, dict) or set(entry) != _FIELDS:
            raise ValueError(
                f"a row of {path} is {entry!r}; expected the fields {', '.join(sorted(_FIELDS))}"
            )
        recipe, seeds, priority = get(entry["recipe"]), entry["seeds"], entry["priority"]
        if not isinstance(seeds, list) or not seeds or not all(_whole(seed) and seed >= 0 for seed in seeds):
            raise ValueError(
                f"seeds of {recipe.name} is {seeds!r}; expected a list of integers of at least 0"
            )
        if not _whole(priority):
            raise ValueError(f"priority of {recipe.name} is {priority!r}; expected an integer")
        for seed in seeds:
            if (recipe.name, seed) in seen:
                raise ValueError(f"{recipe.name}, seed {seed}, is in the queue twice; expected once")
            seen.add((recipe.name, seed))
        rows.append(Row(recipe, tuple(seeds), priority, str(entry["why"])))
    return rows


def wanted(rows: list[Row], root: Path | str = "runs") -> list[RunFolder]:
    """The folders of all runs of a queue, by priority, then by position and seed."""
    order = sorted(rows, key=lambda row: -row.priority)
    return [RunFolder(row.recipe, seed, Path(root)) for row in order for seed in sorted(row.seeds)]


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``"9m"``, ``"90s"`` or ``"1h30m"``.

    Raises:
        ValueError: for anything else, and for no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not hours + minutes + seconds:
        raise ValueError(f"duration is {text!r}; expected for example 9m, 90s or 1h30m")
    return 3600.0 * hours + 60 * minutes + seconds


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
