"""What chapters say and draw of recorded runs: means over seeds, leads and their claims, lines against a setting."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes

from mmlib.book import claims
from mmlib.book.ledger_rule import SEEDS
from mmlib.runs import results
from mmlib.summary import Summary, summarise


def recorded(recipe: str, *paths: str, split: str = "test/") -> Summary | None:
    """The mean of some metrics (paths after ``split``), over a recipe's seeds; None where no seed is recorded."""
    found = [[results.value(run, split + path) for path in paths] for run in results.load(recipe)]
    return summarise([sum(values) / len(values) for values in found]) if found else None


def state(recipes: Iterable[str]) -> str:
    """How many of some recipes have a recorded seed, as a sentence."""
    recipes = list(recipes)
    found = sum(bool(results.load(name)) for name in recipes)
    if not found:
        return f"Recorded: none of {len(recipes)} recipes yet."
    rest = "" if found == len(recipes) else "; the others have a dash, or no line, until they are"
    return f"Recorded: {found} of {len(recipes)} recipes{rest}."


def unconverged(recipes: Iterable[str]) -> tuple[int, int]:
    """How many recorded runs of some recipes still moved at the end of training, and of how many."""
    runs = [run for name in recipes for run in results.load(name)]
    return sum(not run["convergence"]["converged"] for run in runs), len(runs)


def lead(better: str, worse: str, paths: Sequence[str], split: str = "test/") -> Summary | None:
    """How far one recipe is ahead of another in the mean of some metrics (paths after ``split``), seed by seed.

    None where fewer than three seeds are recorded of both.
    """
    runs = [{run["seed"]: run for run in results.load(name)} for name in (better, worse)]
    seeds = sorted(runs[0].keys() & runs[1].keys())
    if len(seeds) < SEEDS:
        return None
    means = [
        [sum(results.value(found[seed], split + path) for path in paths) / len(paths) for seed in seeds]
        for found in runs
    ]
    return summarise([a - b for a, b in zip(*means, strict=True)])


def check(claim: str, measured: Summary | None) -> None:
    """As `claims.check`; where too little is recorded, it says so."""
    if measured is None:
        claims.say("NOT RECORDED YET", claims.load()[claim])
    else:
        claims.check(claim, measured)


def draw_line(ax: Axes, label: str, found: dict[float, Summary | None], style: dict) -> None:
    """A line through the means of what is recorded, and a dot for each seed."""
    found = {x: summary for x, summary in found.items() if summary is not None}
    ax.plot(list(found), [summary.mean for summary in found.values()], label=label, **style)
    for x, summary in found.items():
        ax.plot([x] * summary.n, summary.values, ".", color=style["color"], alpha=0.5)


def finish(axes: Sequence[Axes], ticks: Sequence[float], xlabel: str) -> list[Axes]:
    """Axis of the settings, a note where nothing is recorded, and a legend."""
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.set(xlabel=xlabel, xlim=(0.85 * ticks[0], 1.15 * ticks[-1]))
        if not ax.lines or not any(len(line.get_xdata()) for line in ax.lines):
            ax.text(0.5, 0.5, "not recorded yet", transform=ax.transAxes, ha="center", color="0.4")
    axes[0].legend(fontsize="small")
    return list(axes)
