"""A new run of a recipe held against the recorded ones: is every number where another seed could have put it?

A metric is *off* where it leaves the prediction interval of one more seed, mean ± t sd sqrt(1 + 1/n) over n recorded
ones. t is such that all metrics of a run like those stay inside in 99 % of cases, however they depend on one another
(Bonferroni: each at 1 - 0.01 / number of metrics); with few seeds that is wide. Where seeds cannot tell (there are less
than 3, or all gave the same number), standard errors over items are the measure, with the normal quantile; these do not
hold the noise of seeds. A number that has neither is shown, not judged; one that is missing is off.
"""

import math
from statistics import fmean, stdev

from scipy.stats import norm, t

from mmlib.runs.recipe import PROSE, from_dict
from mmlib.runs.results import estimates

CONFIDENCE = 0.99
SEEDS = 3
TOO_FEW = ", too few to show the noise of seeds: held by standard errors alone"


def compare(new: dict, recorded: list[dict]) -> dict:
    """Hold a result against those recorded, one or more: of its recipe, or of the one from which that is varied.

    Returns:
        JSON-able: ``summary``, in one line; recorded ``seeds``; ``weights``, whether their bits are the same, None if
        that is unknown; ``differs``, of recipe, machine, threads, versions and commit what is recorded and what
        is new; ``off``, names of metrics; ``metrics``, for each what is ``recorded`` (of this seed, or the mean over
        seeds) and ``new``, their difference in standard ``errors`` of both, the distance from the mean over seeds in
        ``spreads`` of sd sqrt(1 + 1/n), and whether it is ``off``.
    """
    same = [result for result in recorded if result["seed"] == new["seed"]] or recorded
    now, before, seeds = (_table(results) for results in ([new], same, recorded))
    level = 1 - (1 - CONFIDENCE) / (2 * len(before))
    metrics = {name: _held(now.get(name), found, seeds[name], level) for name, found in before.items()}
    facts, differs = [_facts(result) for result in same], {}
    for key, value in _facts(new).items():
        if (known := {each[key] for each in facts if key in each}) and value not in known:
            differs[key] = {"recorded": " or ".join(sorted(known)), "new": value}
    sums = [result.get("files", {}).get("weights.safetensors") for result in (new, *same)]
    known = all(sums) and "hash" not in differs  # the file names its recipe
    weights = sums[0] in sums[1:] if known else None
    off = [name for name, metric in metrics.items() if metric["off"]]
    moved = sum(metric["new"] != metric["recorded"] for metric in metrics.values())
    bits = {True: "the same weights", False: "other weights", None: "bits of weights unknown"}[weights]
    summary = f"{new['recipe']['name']}, seed {new['seed']}: {bits}, {moved} of {len(metrics)} metrics moved"
    summary += f", {len(off)} off; recorded seeds: {len(recorded)}{'' if len(recorded) >= SEEDS else TOO_FEW}"
    numbers = [result["seed"] for result in recorded]
    return dict(summary=summary, seeds=numbers, weights=weights, differs=differs, off=off, metrics=metrics)


def _held(new: list[tuple] | None, found: list[tuple], seeds: list[tuple], level: float) -> dict:
    """One metric: values with standard errors of the new run, of those beside which it stands, and of all seeds."""
    values, n, recorded = [value for value, _ in seeds], len(seeds), fmean(value for value, _ in found)
    if new is None:
        return dict(recorded=recorded, new=None, errors=None, spreads=None, off=True)
    [(value, se)] = new
    error = math.hypot(se or 0.0, math.sqrt(fmean((other or 0.0) ** 2 for _, other in found)))
    errors = (value - recorded) / error if error else None
    spread = stdev(values) * math.sqrt(1 + 1 / n) if n >= SEEDS else 0.0
    spreads = (value - fmean(values)) / spread if spread else None
    far = abs(spreads) > t.ppf(level, n - 1) if spread else abs(errors or 0.0) > norm.ppf(level)
    return dict(
        recorded=recorded, new=value, errors=errors, spreads=spreads, off=bool(far) and value != recorded
    )


def _table(results: list[dict]) -> dict[str, list[tuple]]:
    """By metric, value and standard error in those results that have it."""
    table = {}
    for name, *estimate in (entry for result in results for entry in estimates(result["metrics"])):
        table.setdefault(name, []).append(tuple(estimate))
    return table


def _facts(result: dict) -> dict[str, str]:
    """What a result says of its recipe and of where it was made."""
    origin = {
        "portable": False,
        **result.get("provenance", {}),
    }  # older results do not say what they were not
    origin.pop("begun", None)
    recipe = {key: value for key, value in from_dict(result["recipe"]).as_dict().items() if key not in PROSE}
    return {key: str(value) for key, value in {**origin.pop("packages", {}), **origin, **recipe}.items()}
