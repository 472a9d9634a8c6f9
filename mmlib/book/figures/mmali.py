"""Figures of the chapter on factorised discriminators: who sees what, training against two clocks, many recipes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from mmlib.book.figures.ali import FITS
from mmlib.plots import panels
from mmlib.summary import Summary

# Inputs and networks of the drawing, by what they are.
INPUT, DEPENDENCE, UNIMODAL, POSTERIOR, EVERYTHING = "0.93", "#fbe3c4", "#cfe3f5", "#d8efd9", "#e0e0e0"


def networks() -> list[Axes]:
    """What each of the five networks of the factorised discriminator is fed for M = 2, and what becomes of it.

    Beside it the joint discriminator.
    """
    _, axes = panels(2, height=3.2, width_ratios=[2.1, 1])
    left, right = axes
    inputs = {"$x_1$": 0.4, "$s_1$": 1.4, "$c$": 3.5, "$s_2$": 5.6, "$x_2$": 6.6}
    x1, s1, c, s2, x2 = inputs
    factors = {
        "$D^0_1$": (0.4, UNIMODAL, (x1, s1, c)),
        "$D^1_1$": (1.9, POSTERIOR, (x1, s1, c)),
        "$T$": (3.5, DEPENDENCE, (x1, x2)),
        "$D^1_2$": (5.1, POSTERIOR, (x2, s2, c)),
        "$D^0_2$": (6.6, UNIMODAL, (x2, s2, c)),
    }
    terms = {
        r"$l_1 = D^1_1$": (0.6, 1.4, {"$D^1_1$"}),
        r"$l_3 = -(T + \sum_j (D^0_j - D^1_j))$": (3.5, 3.6, set(factors)),
        r"$l_2 = D^1_2$": (6.4, 1.4, {"$D^1_2$"}),
    }
    for name, place in inputs.items():
        _box(left, place, 3.0, name, INPUT, 0.7)
    for name, (place, colour, seen) in factors.items():
        _box(left, place, 1.6, name, colour, 1.0)
        for given in seen:
            _arrow(left, (inputs[given], 2.78), (place, 1.86), "0.55")
    for name, (place, width, used) in terms.items():
        _box(left, place, 0.2, name, "white", width)
        for factor in used:
            _arrow(left, (factors[factor][0], 1.34), (place, 0.44), "0.3")
    left.set_title("factorised: five small networks, added up")
    everything = {x1: 0.4, s1: 1.2, c: 2.0, s2: 2.8, x2: 3.6}
    for name, place in everything.items():
        _box(right, place, 3.0, name, INPUT, 0.6)
        _arrow(right, (place, 2.78), (place, 1.86), "0.55")
    _box(right, 2.0, 1.6, "one network", EVERYTHING, 4.0)
    for number, place in enumerate((0.6, 2.0, 3.4), 1):
        _box(right, place, 0.2, f"$l_{number}$", "white", 0.7)
        _arrow(right, (place, 1.34), (place, 0.44), "0.3")
    right.set_title("joint")
    for ax, reach in ((left, 7.3), (right, 4.3)):
        ax.set(xlim=(-0.4, reach), ylim=(-0.25, 3.4))
        ax.axis("off")
    return list(axes)


def _box(ax: Axes, x: float, y: float, text: str, colour: str, width: float) -> None:
    corner, round_ = (x - width / 2, y - 0.22), "round,pad=0.02"
    ax.add_patch(
        FancyBboxPatch(corner, width, 0.44, round_, facecolor=colour, edgecolor="0.4", linewidth=0.8)
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=8.5)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 0.8})


def course(result: dict) -> dict[str, np.ndarray]:
    """A recorded run along the way, on the validation split: step, processor seconds, cross-coherence, fewest classes.

    Every step counts as an equal share of the seconds of training.
    """
    rows = [row for row in result["history"] if "validation/cross_coherence/hand0/hand90" in row]

    def column(start: str, take) -> np.ndarray:
        return np.array([take([row[key] for key in row if key.startswith(start)]) for row in rows])

    step = column("step", min)
    return {
        "step": step,
        "seconds": step * result["seconds"]["training_cpu"] / result["steps"],
        "cross": column("validation/cross_coherence/", np.mean),
        "classes": column("classes/hand", min),
    }


def two_clocks(courses: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> list[list[Axes]]:
    """What was measured along the way, on the left against processor seconds of training, on the right against steps.

    Args:
        courses: "joint" and "factorised" -> what `course` gives, for every seed.
    """
    clocks = {"seconds": "CPU seconds of training", "step": "training step"}
    measures = {"cross": "cross-coherence", "classes": "classes generated"}
    _, axes = panels(2, 2, height=2.1, sharey="row", sharex="col")
    for row, (measure, title) in zip(axes, measures.items(), strict=True):
        for ax, (clock, label) in zip(row, clocks.items(), strict=True):
            for name, seeds in courses.items():
                colour, marker, line = FITS[name]
                style = {
                    "color": colour,
                    "marker": marker,
                    "linestyle": line,
                    "markersize": 3,
                    "linewidth": 1,
                }
                for k, seed in enumerate(seeds):
                    ax.plot(seed[clock], seed[measure], alpha=0.8, label=None if k else name, **style)
            if measure == "classes":
                ax.set_xlabel(label)
        row[0].set_ylabel(title)
    axes[0, 0].set(ylim=(0, 1), xlim=(0, None))
    axes[1, 0].set_ylim(0, 10.5)
    axes[0, 1].set_xlim(0, None)
    axes[0, 0].legend(loc="lower right")
    return [list(row) for row in axes]


def posterior_widths(widths: Mapping[str, Mapping[str, Tensor]]) -> list[Axes]:
    """How wide posteriors are: standard deviations of single coordinates, the smallest first.

    Args:
        widths: "content" or "style" -> "joint" and "factorised" -> mean standard deviation of each coordinate.
    """
    _, axes = panels(len(widths), height=2.3, sharey=True, squeeze=False)
    for ax, (part, models) in zip(axes[0], widths.items(), strict=True):
        ax.axhline(1, color="0.6", linestyle=":", label="prior")
        for name, values in models.items():
            colour, marker, line = FITS[name]
            places = np.arange(1, len(values) + 1)
            ax.plot(places, values.sort().values, color=colour, marker=marker, linestyle=line, label=name)
        ax.set(title=part, xlabel="coordinate, in order of width")
    axes[0, 0].set(ylim=(0, 1.25), ylabel="posterior standard deviation")
    axes[0, -1].legend(loc="lower left")
    return list(axes[0])


def forest(rows: Mapping[str, Mapping[str, Summary]]) -> list[Axes]:
    """Several metrics of several recipes: every seed a dot, the mean a larger one, the 95 % t-interval a bar.

    Args:
        rows: label -> metric -> summary over seeds; all with the same metrics. A label that begins with "joint" has the
            look of the joint discriminator, any other that of the factorised one.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("rows is empty; expected at least one recipe")
    metrics = list(next(iter(rows.values())))
    _, axes = panels(len(metrics), height=0.24 * len(rows) + 0.8, sharey=True, squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        for y, (label, found) in enumerate(rows.items()):
            colour, marker, _ = FITS["joint" if label.startswith("joint") else "factorised"]
            summary = found[metric]
            if summary.low is not None:
                ax.plot([summary.low, summary.high], [y, y], color=colour, linewidth=2.5, alpha=0.5)
            ax.plot(summary.values, [y] * summary.n, ".", color=colour, alpha=0.7, markersize=4)
            ax.plot([summary.mean], [y], marker, color=colour, markersize=6)
        low, high = ax.get_xlim()
        ax.set(title=metric, xlabel="share", xlim=(max(0, low), min(1.02, high)))
    counts = [next(iter(found.values())).n for found in rows.values()]
    named = [f"{label} (n = {n})" for label, n in zip(rows, counts, strict=True)]
    axes[0, 0].set_yticks(range(len(rows)), named, fontsize=8)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    return list(axes[0])
