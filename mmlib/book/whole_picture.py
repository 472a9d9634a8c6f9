"""The whole picture: every model of the library on one data set, all that is recorded of it, and what differs.

Which recipe stands for a model is written here; everything else is read: numbers, seconds and machines from recorded
results, settings from the recipes and the defaults of the models. What is recorded later appears by itself.
"""

import inspect
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from scipy.stats import ttest_ind

from mmlib.book import speed
from mmlib.checks import look_up
from mmlib.models import MODELS
from mmlib.runs import results
from mmlib.runs.catalogue.settings import KNOBS, RATES
from mmlib.runs.recipe import PROSE, Recipe
from mmlib.runs.recipes import RECIPES
from mmlib.summary import Summary, summarise

NAME = "whole-picture"
MODALITIES = {  # by the head of the names of recipes
    "hand-street": ("hand", "street"),
    "hand-street-text": ("hand", "street", "text"),
    "svhn10k": ("mnist", "svhn"),
}
ENDINGS = {  # of the names of recipes that stand for a model: those of them that there are on a data set
    "jmvae": ("jmvae",),
    "telbo": ("telbo",),
    "mvae": ("mvae", "mvae-styles"),
    "mmvae": ("mmvae", "mmvae-elbo", "mmvae-iwae", "mmvae-iwae-looser-normalised", "mmvae-styles"),
    "mopoe": ("mopoe", "mopoe-styles"),
    "mmjsd": ("mmjsd", "mmjsd-styles"),
    "contrastive_jmvae": ("ci-jmvae", "cc-jmvae"),
    "contrastive_mvae": ("ci-mvae", "cc-mvae"),
    "contrastive_mmvae": ("ci-mmvae", "cc-mmvae"),
    "contrastive_mopoe": ("ci-mopoe",),
    "contrastive_mmjsd": ("ci-mmjsd",),
    "meme": ("meme", "meme-mixture", "meme-product"),
    "mmali": ("mmali", "mmali-shared"),
}
NO_METRICS = {"rows", "n", "k", "threshold"}  # numbers beside the metrics that say how they were measured
# arguments of models that a recipe gives
SINGLE = ("modalities", "latent_dim", "content_dim", "joint_encoder")
SEEDS = 3  # fewer cannot say how far another seed lies


@dataclass(frozen=True)
class Row:
    """One recipe of the table, recorded or not; or a model that has none on a data set."""

    data: str  #: one of `MODALITIES`.
    label: str  #: the ending of the recipe's name, or the model's name.
    model: str  #: name in ``MODELS``.
    recipe: Recipe | None  #: None if there is none.

    @cached_property
    def runs(self) -> list[dict]:
        """The recorded results, in order of seed."""
        return results.load(self.recipe.name) if self.recipe else []

    @cached_property
    def judged(self) -> list[dict]:
        """Results of the same training that were measured in more ways: read for metrics that no one of `runs` has."""
        name = f"{self.recipe.name}-judged" if self.recipe else None
        return results.load(name) if name in RECIPES else []

    @cached_property
    def metrics(self) -> dict[str, Summary]:
        """Every metric on the test split, by path: over the seeds that have it."""
        metrics: dict[str, Summary] = {}
        for runs in (self.judged, self.runs):
            found: dict[str, list[float]] = defaultdict(list)
            for run in runs:
                for path, number in results.flatten(run["metrics"]["test"]):
                    if path.rsplit("/", 1)[-1] not in {*NO_METRICS, "validation"}:
                        found[path].append(number)
            metrics |= {path: summarise(numbers) for path, numbers in found.items()}
        return metrics

    def mean(self, paths: Iterable[str], split: str = "test") -> Summary | None:
        """The mean of some metrics, over the seeds that have all of them; None where none has."""
        paths = list(paths)
        for runs in (self.runs, self.judged):
            found = [dict(results.flatten(run["metrics"][split])) for run in runs]
            means = [sum(run[p] for p in paths) / len(paths) for run in found if all(p in run for p in paths)]
            if means:
                return summarise(means)
        return None

    def state(self) -> str:
        """What is on record, in words: the seeds, and how many of them had converged; or that there is nothing."""
        if not self.runs:
            return "not recorded" if self.recipe else "no recipe"
        settled = sum(run["convergence"]["converged"] for run in self.runs)
        return f"seeds {', '.join(str(run['seed']) for run in self.runs)}; converged: {settled}"

    def parameters(self) -> int | None:
        """Numbers that are learned, a discriminator's included."""
        return self.runs[0]["parameters"] if self.runs else None

    def seconds(self) -> Summary | None:
        """Processor seconds of the training, over the seeds."""
        return summarise([run["seconds"]["training_cpu"] for run in self.runs]) if self.runs else None

    def milliseconds(self) -> Summary | None:
        """Processor milliseconds of a step, evaluations along the way included, over the seeds."""
        found = [1000 * run["seconds"]["training_cpu"] / run["steps"] for run in self.runs]
        return summarise(found) if found else None


def rows(data: str) -> list[Row]:
    """Every model of the library on a data set, in the order of `ENDINGS`; each model has at least one row.

    Raises:
        ValueError: if ``data`` is none of `MODALITIES`.
    """
    look_up("data", data, MODALITIES)
    made = []
    for model, endings in ENDINGS.items():
        known = [ending for ending in endings if f"{data}-{ending}" in RECIPES]
        made += [Row(data, ending, model, RECIPES[f"{data}-{ending}"]) for ending in known]
        made += [] if known else [Row(data, model, model, None)]
    return made


def cross(data: str) -> list[str]:
    """Paths of all cross-coherences of different modalities."""
    names = MODALITIES[data]
    return [f"cross_coherence/{a}/{b}" for a in names for b in names if a != b]


# --- what differs ---------------------------------------------------------------------------------------------------


def settings(recipe: Recipe) -> dict[str, str]:
    """All that decides the numbers of a recipe but its seed, as text: its fields, and every option of its model."""
    values = {key: value for key, value in recipe.as_dict().items() if key not in (*PROSE, "hash")}
    arguments = inspect.signature(MODELS[recipe.model]).parameters.values()
    standard = {each.name: each.default for each in arguments if each.name not in SINGLE}
    options = values.pop("model_options")
    found = {f"model.{key}": value for key, value in {**standard, **options}.items()}
    found |= {f"data.{key}": value for key, value in values.pop("data_options").items()}
    return {key: _text(value) for key, value in {**values, **found}.items()}


def origin(runs: Sequence[dict]) -> dict[str, str]:
    """Where runs were made: what differs between their seeds is joined by "or"; commits are left out."""
    facts: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        made = {"portable": False, **run["provenance"]}
        for key, value in {**made.pop("packages"), **made}.items():
            if key not in ("begun", "commit", "uncommitted_changes", "instructions", "captured"):
                facts[key].add(str(value))
    return {key: " or ".join(sorted(values)) for key, values in facts.items()}


def differences(table: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What is the same in all, or usual; and for each label what is said of it alone.

    ``table`` is label -> setting -> value. A value that more than half of the labels have, of a setting that all have,
    is usual; everything else stands at the label. Nothing is lost: what a label does not say is as usual.
    """
    usual = {}
    for key in dict.fromkeys(key for found in table.values() for key in found):
        counted = Counter(found.get(key) for found in table.values())
        value, count = counted.most_common(1)[0]
        if None not in counted and 2 * count > len(table):
            usual[key] = value
    own = {
        label: {key: value for key, value in found.items() if usual.get(key) != value}
        for label, found in table.items()
    }
    return usual, own


def settings_apart(rows: Iterable[Row]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """`differences` between the recipes of rows, and between where their runs were made, together."""
    rows = list(rows)
    usual, own = differences({row.label: settings(row.recipe) for row in rows if row.recipe})
    where, made = differences({row.label: origin(row.runs) for row in rows if row.runs})
    return usual | where, {label: said | made.get(label, {}) for label, said in own.items()}


def _text(value) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


# --- costs ----------------------------------------------------------------------------------------------------------


def bench() -> tuple[dict[str, dict], str]:
    """By recipe, milliseconds and megabytes of a step on an idle core; and where and when that was measured."""
    rows, where = speed.measured("models")
    return {row["recipe"]: row for row in rows}, where


def idle(known: Sequence[Row]) -> dict[str, float]:
    """By label, milliseconds of a step on an idle core; nothing unless all recorded rows were measured there."""
    fast, _ = bench()
    names = {row.label: row.recipe.name for row in known if row.runs}
    return {label: fast[name]["ms"] for label, name in names.items()} if {*names.values()} <= {*fast} else {}


def seconds(known: Sequence[Row]) -> dict[str, Summary]:
    """By label, processor seconds of a training: steps on an idle core; of the recorded runs where `idle` is empty."""
    ms = idle(known)
    each = {row.label: [_step(run, ms.get(row.label)) * run["steps"] for run in row.runs] for row in known}
    return {label: summarise(found) for label, found in each.items() if found}


def at_equal_seconds(known: Sequence[Row]) -> tuple[float, dict[str, Summary]]:
    """Cross-coherence on the validation split when every model has had the same processor seconds.

    The seconds are those of the cheapest complete training, see `seconds`. Of every run the last evaluation within them
    counts, as its history has it; a row with a seed that was not evaluated by then is left out.

    Returns:
        The seconds; and label -> the mean over all directions, over the seeds.
    """
    known = [row for row in known if row.runs]
    if not known:
        return math.nan, {}
    limit, ms = min(each.mean for each in seconds(known).values()), idle(known)
    reached = {
        row.label: [_reached(run, cross(row.data), limit / _step(run, ms.get(row.label))) for run in row.runs]
        for row in known
    }
    return limit, {label: summarise(found) for label, found in reached.items() if None not in found}


def _step(run: dict, ms: float | None) -> float:
    """Seconds of a step: as measured, else of the run itself, evaluations along the way included."""
    return run["seconds"]["training_cpu"] / run["steps"] if ms is None else ms / 1000


def _reached(run: dict, paths: Sequence[str], steps: float) -> float | None:
    """The mean of the last evaluation of a run within some steps; None if there is none."""
    keys = [f"validation/{path}" for path in paths]
    within = [entry for entry in run["history"] if entry["step"] <= steps * (1 + 1e-9)]
    known = [[entry[key] for key in keys] for entry in within if entry.keys() >= {*keys}]
    return sum(known[-1]) / len(keys) if known else None


# --- what intervals allow to say ------------------------------------------------------------------------------------


def interval(summary: Summary | None, unit: float = 100.0, digits: int = 1) -> str:
    """Mean, [interval] and (number of seeds) as text; empty if there is nothing."""
    if summary is None:
        return ""
    low, high = summary.low, summary.high
    ends = "" if low is None else f" [{unit * low:.{digits}f}, {unit * high:.{digits}f}]"
    return f"{unit * summary.mean:.{digits}f}{ends} ({summary.n})"


def difference(better: Summary, worse: Summary, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a difference of two means over seeds that are not paired, with unequal variances (Welch).

    Raises:
        ValueError: if either has a single seed.
    """
    if better.sd is None or worse.sd is None:
        raise ValueError("better or worse has n = 1; expected two seeds at least")
    if better.sd == worse.sd == 0:  # to SciPy an interval of nothing
        return (better.mean - worse.mean,) * 2
    found = ttest_ind(better.values, worse.values, equal_var=False).confidence_interval(confidence)
    return float(found.low), float(found.high)


def leaders(found: Mapping[str, Summary | None], low: bool = False) -> tuple[str, list[str], list[str]]:
    """Who has the highest mean, who is not told apart from it, and of whom too few seeds are recorded to say.

    Told apart is what a 95 % interval of the difference excludes 0 for, all comparisons with the leader together
    (Bonferroni). With ``low`` the lowest mean leads. The label is empty where nothing has `SEEDS` seeds.
    """
    known = {label: s for label, s in found.items() if s is not None and s.n >= SEEDS}
    few = [label for label, s in found.items() if s is not None and s.n < SEEDS]
    if not known:
        return "", [], few
    first = (min if low else max)(known, key=lambda label: known[label].mean)
    level = 1 - 0.05 / max(1, len(known) - 1)
    apart = {label: difference(known[first], s, level) for label, s in known.items() if label != first}
    return first, [label for label, (below, above) in apart.items() if below <= 0 <= above], few


# --- what validation chooses ----------------------------------------------------------------------------------------

AS_IT_IS = "as it is"


def tried(row: Row) -> dict[str, Row]:
    """A row's grid: its recipe, and each with one setting changed, by that setting; nothing if it has no grid.

    Changed are the learning rate (`mmlib.runs.catalogue.settings.RATES`) and the one option that the method is known to
    need (``KNOBS``).
    """
    if row.recipe is None:
        return {}
    name, (option, values) = row.recipe.name, KNOBS.get(row.label, ("", ()))
    found = {f"lr {rate:g}": f"{name}-lr-{rate:g}" for rate in (row.recipe.learning_rate * f for f in RATES)}
    found |= {f"{option} {value:g}": f"{name}-{option}-{value:g}" for value in values}
    made = {key: replace(row, recipe=RECIPES[each]) for key, each in found.items() if each in RECIPES}
    return {AS_IT_IS: row} | made if made else {}


def validated(row: Row) -> dict[str, Summary | None]:
    """Cross-coherence on the validation split, by setting of a row's grid; None where nothing is recorded."""
    return {setting: each.mean(cross(row.data), "validation") for setting, each in tried(row).items()}


def chosen(row: Row) -> str | None:
    """The setting of a row's grid with the highest mean on the validation split; None before all are recorded."""
    found = validated(row)
    if not found or any(summary is None or summary.n < SEEDS for summary in found.values()):
        return None
    return max(found, key=lambda setting: found[setting].mean)


def with_chosen(known: Iterable[Row]) -> list[Row]:
    """The rows, and below each of which validation prefers another setting that one, with the setting in its label."""
    made = []
    for row in known:
        made.append(row)
        if (best := chosen(row)) not in (None, AS_IT_IS):
            made.append(replace(tried(row)[best], label=f"{row.label}, {best}"))
    return made


def grid_state(data: str = "hand-street") -> str:
    """What is known of the settings that were chosen, in sentences."""
    rates = {row.label: row.recipe.learning_rate for row in rows(data) if row.recipe}
    usual, count = Counter(rates.values()).most_common(1)[0]
    own = [f"{label} ({rate:g})" for label, rate in rates.items() if rate != usual]
    said = f"{count} of {len(rates)} recipes share one learning rate, {usual:g}"
    said += f"; others: {', '.join(own)}." if own else "."
    grids = [row for row in rows(data) if tried(row)]
    if not grids:
        return f"{said} There is no grid of settings here."
    done = [f"{row.label} ({best})" for row in grids if (best := chosen(row))]
    cells = [summary is not None for row in grids for summary in validated(row).values()]
    said += f" Grids of settings: {len(grids)} rows, {sum(cells)} of {len(cells)} settings recorded."
    return f"{said} Chosen on validation: {', '.join(done) or 'none; every row has its default settings'}."


# --- all of it ------------------------------------------------------------------------------------------------------


def content(data: str) -> dict[str, dict]:
    """All that the table has of a data set, JSON-able, by label."""
    found, known, (fast, _) = {}, rows(data), bench()
    _, equal = at_equal_seconds(known)
    for row in known:
        name = row.recipe.name if row.recipe else None
        found[row.label] = {
            "model": row.model,
            "recipe": name,
            "hash": row.recipe.hash if row.recipe else None,
            "seeds": [run["seed"] for run in row.runs],
            "commits": sorted({run["provenance"]["commit"] for run in row.runs}),
            "settings": settings(row.recipe) if row.recipe else {},
            "origin": origin(row.runs),
            "parameters": row.parameters(),
            "cpu_seconds": _plain(row.seconds()),
            "cpu_ms_a_step": _plain(row.milliseconds()),
            "chosen": chosen(row),
            "idle_ms_a_step": fast.get(name, {}).get("ms"),
            "peak_mb": fast.get(name, {}).get("mb"),
            "validation_at_equal_seconds": _plain(equal.get(row.label)),
            "metrics": {path: _plain(summary) for path, summary in row.metrics.items()},
        }
    return found


def _plain(summary: Summary | None) -> dict | None:
    return None if summary is None else asdict(summary)
