"""Recorded results: one JSON file for each recipe and seed, sealed, and what several seeds say together."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

from mmlib import files
from mmlib.checks import look_up, unknown
from mmlib.runs.recipe import from_dict
from mmlib.runs.recipes import check_listed
from mmlib.summary import Summary, summarise

RESULTS = files.REPOSITORY / "data" / "results"
_NAME = re.compile(r"seed-(0|[1-9]\d*)\.json")


class ResultError(ValueError):
    """A result file is damaged, was edited by hand, or is not where it belongs."""


def load(recipe: str, root: Path | str = RESULTS) -> list[dict]:
    """All recorded results of a recipe, if any, in order of seed; ResultError if one is damaged or in a wrong place."""
    found = sorted(_results(Path(root) / recipe))
    results = [verify(path) for _, path in found]
    for (seed, path), result in zip(found, results, strict=True):
        if (place := f"{result['recipe']['name']}, seed {result['seed']}") != f"{recipe}, seed {seed}":
            raise ResultError(f"{path} is the result of {place}; expected {recipe}, seed {seed}")
    return results


def recorded(root: Path | str = RESULTS) -> list[str]:
    """Names of the recipes that have recorded results; files of other names are nobody's."""
    return sorted(path.name for path in files.recorded(root).glob("*") if _results(path))


def value(result: dict, metric: str) -> float:
    """A number of a result by its path, such as ``"test/cross_coherence/hand/street"``; ValueError says the nearest."""
    return look_up("metric", metric, dict(flatten(result.get("metrics", {}))))


def summary(recipe: str, metric: str, root: Path | str = RESULTS) -> Summary:
    """One metric of a recipe over its recorded seeds; ValueError if the recipe has none, or they lack the metric."""
    if results := load(recipe, root):
        return summarise([value(result, metric) for result in results])
    raise unknown("recipe", recipe, recorded(root), "python -m mmlib results")


def publish(run: Path | str, root: Path | str = RESULTS) -> Path:
    """Copy the result of a finished run to the recorded results; gives the path there.

    ``run`` is its folder, or its ``result.json``.

    Raises:
        ValueError: as :func:`verify`, or if the recipe is not of the catalogue, where the repository's results are.
        FileNotFoundError: if the run is not finished.
    """
    run = Path(run)
    run = run.parent if run.suffix == ".json" else run
    result = verify(run / "result.json")
    if Path(root) == RESULTS:
        check_listed(from_dict(result["recipe"]))
    target = Path(root) / result["recipe"]["name"] / f"seed-{result['seed']}.json"
    return files.write_atomically(target, (run / "result.json").read_bytes())


def seal(result: dict) -> dict:
    """The result with the SHA-256 of its content: a digit changed by hand does not go unseen."""
    content = {key: entry for key, entry in result.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**result, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def verify(path: Path | str) -> dict:
    """Read a sealed result.

    Raises:
        FileNotFoundError: if it is not there.
        ResultError: if it is not whole, or not as it was written.
    """
    try:
        result = json.loads(Path(path).read_text())
        intact = seal(result)["sha256"] == result["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultError(f"{path} is not a whole result file ({type(error).__name__}: {error})") from error
    if not intact:
        raise ResultError(f"{path} was changed after it was written: its content does not match its SHA-256")
    return result


def estimates(metrics: dict, prefix: str = "") -> Iterator[tuple[str, float, float | None]]:
    """Path, value and standard error (None without one) of every number in a nested report."""
    for key, entry in metrics.items():
        number = entry.get("value", entry) if isinstance(entry, dict) else entry
        if isinstance(number, dict):
            yield from estimates(number, f"{prefix}{key}/")
        elif isinstance(number, int | float) and not isinstance(number, bool):
            yield f"{prefix}{key}", number, None if number is entry else entry.get("se")


def flatten(metrics: dict) -> Iterator[tuple[str, float]]:
    """Path and value of every number in a nested report."""
    return ((path, number) for path, number, _ in estimates(metrics))


def _results(folder: Path) -> list[tuple[int, Path]]:
    found = ((_NAME.fullmatch(path.name), path) for path in folder.glob("seed-*.json") if path.is_file())
    return [(int(match[1]), path) for match, path in found if match]
