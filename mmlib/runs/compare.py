"""A new run of a recipe held against the recorded ones: is every number where another seed could have put it?

A metric is *off* where it leaves the prediction interval of one more seed, mean ± t sd sqrt(1 + 1/n) over n recorded
ones. t is such that all metrics of a run like those stay inside in 99 % of cases, however they depend on one another
(Bonferroni: each at 1 - 0.01 / number of metrics); with few seeds that is wide. Where seeds cannot tell (there are less
than 3, or all gave the same number), standard errors over items are the measure, with the normal quantile; these do not
hold the noise of seeds. A number that has neither is shown, not judged; one that is missing is off.
"""

import math
from dataclasses import dataclass
from statistics import fmean, stdev

from mmlib.runs.recipe import PROSE, from_dict
from mmlib.runs.results import estimates

CONFIDENCE = 0.99
SEEDS = 3
Estimate = tuple[float, float | None]  # value, standard error


@dataclass(frozen=True)
class Metric:
    """One number, new beside recorded: the same seed's, or the mean over seeds if that one is not recorded."""

    name: str
    recorded: float
    new: float | None = None  #: None if it is missing
    errors: float | None = None  #: the difference in standard errors of both, over items
    spreads: float | None = None  #: the distance from the mean over seeds in units of sd sqrt(1 + 1/n)
    off: bool = True


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` finds."""

    summary: str  #: all of it in one line
    seeds: list[int]  #: that are recorded
    weights: bool | None  #: whether they are the same bits; None if a SHA-256 is not recorded
    off: list[str]  #: names of the metrics that are off
    differs: dict[str, tuple[str, str]]  #: of recipe, machine, threads, versions and commit: recorded, new
    metrics: list[Metric]


def compare(new: dict, recorded: list[dict]) -> Comparison:
    """Hold a result against those recorded, one or more: of its recipe, or of the one from which that is varied."""
    same = [result for result in recorded if result["seed"] == new["seed"]] or recorded
    now, before, seeds = (_table(results) for results in ([new], same, recorded))
    level = 1 - (1 - CONFIDENCE) / (2 * len(before))
    metrics = [_held(name, now.get(name), found, seeds[name], level) for name, found in before.items()]
    off, moved = [m.name for m in metrics if m.off], sum(m.new != m.recorded for m in metrics)
    sums = [result.get("files", {}).get("weights.safetensors") for result in (new, *same)]
    weights = sums[0] in sums[1:] if all(sums) else None
    bits = {True: "the same weights", False: "other weights", None: "weights not recorded"}[weights]
    noise = (
        ""
        if len(recorded) >= SEEDS
        else ", too few to show the noise of seeds: held by standard errors alone"
    )
    held = f"{moved} of {len(metrics)} metrics moved, {len(off)} off (recorded seeds: {len(recorded)}{noise})"
    title, facts, differs = f"{new['recipe']['name']}, seed {new['seed']}", [_facts(r) for r in same], {}
    for key, value in _facts(new).items():
        if (known := {each[key] for each in facts if key in each}) and value not in known:
            differs[key] = (" or ".join(sorted(known)), value)
    seeds = [result["seed"] for result in recorded]
    return Comparison(f"{title}: {bits}, {held}", seeds, weights, off, differs, metrics)


def _held(
    name: str, new: list[Estimate] | None, found: list[Estimate], seeds: list[Estimate], level: float
) -> Metric:
    from scipy.stats import norm, t

    values, n, recorded = [value for value, _ in seeds], len(seeds), fmean(value for value, _ in found)
    if new is None:
        return Metric(name, recorded)
    [(value, se)] = new
    error = math.hypot(se or 0.0, math.sqrt(fmean((other or 0.0) ** 2 for _, other in found)))
    errors = (value - recorded) / error if error else None
    spread = stdev(values) * math.sqrt(1 + 1 / n) if n >= SEEDS else 0.0
    spreads = (value - fmean(values)) / spread if spread else None
    far = abs(spreads) > t.ppf(level, n - 1) if spread else abs(errors or 0.0) > norm.ppf(level)
    return Metric(name, recorded, value, errors, spreads, bool(far and value != recorded))


def _table(results: list[dict]) -> dict[str, list[Estimate]]:
    """By metric, value and standard error in those results that have it."""
    table = {}
    for result in results:
        for name, value, error in estimates(result["metrics"]):
            table.setdefault(name, []).append((value, error))
    return table


def _facts(result: dict) -> dict[str, str]:
    """What a result says of its recipe and of where it was made."""
    origin = {key: value for key, value in result.get("provenance", {}).items() if key != "begun"}
    recipe = {key: value for key, value in from_dict(result["recipe"]).as_dict().items() if key not in PROSE}
    return {key: str(value) for key, value in {**origin, **origin.pop("packages", {}), **recipe}.items()}
