"""Recorded results: one JSON file for each recipe and seed, sealed, and what several seeds say together."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from mmlib.summary import Summary, summarise

RESULTS = Path(__file__).resolve().parents[2] / "data" / "results"


class ResultError(ValueError):
    """A result file is damaged, was edited by hand, or is not where it belongs."""


def load(recipe: str, root: Path | str = RESULTS) -> list[dict]:
    """All recorded results of a recipe, in order of seed; an empty list if there are none.

    Raises:
        ResultError: if a file is damaged, was edited, or lies in the folder of another recipe or seed.
    """
    results = []
    for path in sorted(
        (Path(root) / recipe).glob("seed-*.json"), key=lambda path: int(path.stem.split("-")[1])
    ):
        result = verify(path)
        place = (result["recipe"]["name"], f"seed-{result['seed']}")
        if place != (recipe, path.stem):
            raise ResultError(
                f"{path} is the result of {place[0]}, {place[1]}; expected {recipe}, {path.stem}"
            )
        results.append(result)
    return results


def recorded(root: Path | str = RESULTS) -> list[str]:
    """Names of the recipes that have recorded results."""
    return sorted({path.parent.name for path in Path(root).glob("*/seed-*.json")})


def value(result: dict, metric: str) -> float:
    """A number of a result by its path, for example ``value(result, "test/cross_coherence/hand/street")``.

    Raises:
        ValueError: if there is no such number; lists what there is.
    """
    numbers = dict(flatten(result.get("metrics", {})))
    if metric not in numbers:
        raise ValueError(f"metric is {metric!r}; expected one of {', '.join(numbers)}")
    return numbers[metric]


def metrics_of(result: dict) -> list[str]:
    """Paths of all numbers of a result, as :func:`value` takes them."""
    return [name for name, _ in flatten(result.get("metrics", {}))]


def summary(recipe: str, metric: str, root: Path | str = RESULTS) -> Summary:
    """One metric of a recipe over its recorded seeds.

    Raises:
        ValueError: if the recipe has no recorded result, or the results do not have the metric.
    """
    results = load(recipe, root)
    if not results:
        raise ValueError(f"recipe is {recipe!r}; recorded are {', '.join(recorded(root)) or 'none'}")
    return summarise([value(result, metric) for result in results])


def publish(run: Path | str, root: Path | str = RESULTS) -> Path:
    """Copy a finished run's result, and its picture of samples, to the recorded results.

    Args:
        run: folder of the run, or its ``result.json``.
        root: folder of the recorded results.

    Returns:
        Path of the recorded result.

    Raises:
        ResultError: if the result is damaged.
        FileNotFoundError: if the run is not finished.
    """
    run = Path(run)
    run = run.parent if run.suffix == ".json" else run
    result = verify(run / "result.json")
    target = Path(root) / result["recipe"]["name"] / f"seed-{result['seed']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "result.json", target)
    if (run / "samples.png").exists():
        shutil.copyfile(run / "samples.png", target.with_suffix(".png"))
    return target


def seal(result: dict) -> dict:
    """The result with the SHA-256 of its content: a digit changed by hand does not go unseen."""
    return {**result, "sha256": _digest(result)}


def verify(path: Path | str) -> dict:
    """Read a sealed result.

    Raises:
        FileNotFoundError: if it is not there.
        ResultError: if it is not whole, or not as it was written.
    """
    try:
        result = json.loads(Path(path).read_text())
        stored = result["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{path} is not a whole result file ({type(error).__name__}: {error})") from error
    if _digest(result) != stored:
        raise ResultError(f"{path} was changed after it was written: its content does not match its SHA-256")
    return result


def flatten(metrics: dict, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers of a nested report by path; of an entry ``{"value": v, "se": s, ...}`` the value."""
    for key, entry in metrics.items():
        path = f"{prefix}{key}"
        if isinstance(entry, dict) and "value" in entry:
            entry = entry["value"]
        if isinstance(entry, dict):
            yield from flatten(entry, f"{path}/")
        elif isinstance(entry, int | float) and not isinstance(entry, bool):
            yield path, entry


def _digest(result: dict) -> str:
    content = {key: entry for key, entry in result.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
