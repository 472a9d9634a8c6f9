"""Figures of the chapter on factorised discriminators: who sees what, training against two clocks, many recipes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from mmlib.book.figures.ali import FITS
from mmlib.summary import Summary
from mmlib.train.history import History

# Inputs and networks of the drawing, by what they are.
INPUT, DEPENDENCE, UNIMODAL, POSTERIOR, EVERYTHING = "0.93", "#fbe3c4", "#cfe3f5", "#d8efd9", "#e0e0e0"
PROBES = {"on samples": "-", "on means": "--"}


def networks() -> list[Axes]:
    """What each of the five networks of the factorised discriminator is fed for M = 2, and what becomes of it.

    Beside it the joint discriminator.
    """
    _, axes = plt.subplots(1, 2, figsize=(9.6, 3.7), width_ratios=[2.1, 1])
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
        r"$l_1 = D^1_1$": (0.7, 1.4, {"$D^1_1$"}),
        r"$l_3 = -(T + \sum_j (D^0_j - D^1_j))$": (3.5, 3.3, set(factors)),
        r"$l_2 = D^1_2$": (6.3, 1.4, {"$D^1_2$"}),
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
        ax.set_xlim(-0.4, reach)
        ax.set_ylim(-0.25, 3.4)
        ax.axis("off")
    return list(axes)


def _box(ax: Axes, x: float, y: float, text: str, colour: str, width: float) -> None:
    corner = (x - width / 2, y - 0.22)
    ax.add_patch(
        FancyBboxPatch(
            corner, width, 0.44, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="0.4", linewidth=0.8
        )
    )
    ax.text(x, y, text, ha="center", va="center")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 0.8})


def two_clocks(histories: Mapping[str, History]) -> list[list[Axes]]:
    """What was measured along the way, above against processor seconds of training and below against steps.

    Args:
        histories: "joint" and "factorised" -> history with the columns ``seconds``, ``probe/sample``, ``probe/mean``,
            ``cross``, ``joint`` and ``classes``.
    """
    panels = {
        "probe": {"on samples": "probe/sample", "on means": "probe/mean"},
        "cross-coherence": {"": "cross"},
        "joint coherence": {"": "joint"},
        "classes generated": {"": "classes"},
    }
    figure, axes = plt.subplots(2, 4, figsize=(10.6, 4.8), sharey="col")
    for row, clock in zip(axes, ("seconds", "step"), strict=True):
        for ax, (title, columns) in zip(row, panels.items(), strict=True):
            for name, history in histories.items():
                colour, marker, _ = FITS[name]
                for what, column in columns.items():
                    ax.plot(
                        history.steps(column) if clock == "step" else history.column("seconds"),
                        history.column(column),
                        color=colour,
                        marker=marker,
                        markersize=3.5,
                        linestyle=PROBES.get(what, "-"),
                        label=", ".join(filter(None, (name, what))),
                    )
            ax.set_xlim(0, None)
            ax.set_xlabel("training step" if clock == "step" else "CPU seconds of training")
            ax.set_title(title if clock == "seconds" else "")
            ax.set_ylim((0, 10.5) if title.startswith("classes") else (0, 1.02))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return [list(row) for row in axes]


def posterior_widths(widths: Mapping[str, Mapping[str, Tensor]]) -> list[Axes]:
    """How wide posteriors are: standard deviations of single coordinates, the smallest first.

    Args:
        widths: "content" or "style" -> "joint" and "factorised" -> mean standard deviation of each coordinate.
    """
    _, axes = plt.subplots(1, len(widths), figsize=(3.6 * len(widths), 2.7), sharey=True, squeeze=False)
    for ax, (part, models) in zip(axes[0], widths.items(), strict=True):
        ax.axhline(1, color="0.6", linestyle=":", label="prior")
        for name, values in models.items():
            colour, marker, line = FITS[name]
            ax.plot(
                np.arange(1, len(values) + 1),
                values.sort().values,
                color=colour,
                marker=marker,
                linestyle=line,
                label=name,
            )
        ax.set_title(part)
        ax.set_xlabel("coordinate, in order of width")
    axes[0, 0].set_ylim(0, 1.25)
    axes[0, 0].set_ylabel("posterior standard deviation")
    axes[0, 0].legend(fontsize=8)
    return list(axes[0])


def forest(rows: Mapping[str, Mapping[str, Summary]], groups: Sequence[str] = ()) -> list[Axes]:
    """Several metrics of several recipes: every seed a dot, the mean a larger one, the 95 % t-interval a bar.

    Args:
        rows: label -> metric -> summary over seeds; all with the same metrics. A label that begins with "joint" has the
            look of the joint discriminator, any other that of the factorised one.
        groups: labels below which a thin line is drawn.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("rows is empty; expected at least one recipe")
    metrics = list(next(iter(rows.values())))
    size = (2.3 * len(metrics) + 2.2, 0.3 * len(rows) + 1.0)
    _, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False)
    for ax, metric in zip(axes[0], metrics, strict=True):
        for y, (label, found) in enumerate(rows.items()):
            colour, marker, _ = FITS["joint" if label.startswith("joint") else "factorised"]
            summary = found[metric]
            if summary.low is not None:
                ax.plot([summary.low, summary.high], [y, y], color=colour, linewidth=2.5, alpha=0.5)
            ax.plot(summary.values, [y] * summary.n, ".", color=colour, alpha=0.7)
            ax.plot([summary.mean], [y], marker, color=colour, markersize=7)
            if label in groups:
                ax.axhline(y + 0.5, color="0.7", linewidth=0.8)
        ax.set_title(metric)
        ax.set_xlabel("share")
    counts = [next(iter(found.values())).n for found in rows.values()]
    axes[0, 0].set_yticks(
        range(len(rows)), [f"{label} (n = {n})" for label, n in zip(rows, counts, strict=True)]
    )
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    return list(axes[0])


def steepness(used: Mapping[str, Tensor], bounds: Mapping[str, float]) -> Axes:
    """How steep the log-ratios of trained discriminators are, beside how steep they may be.

    Args:
        used: "joint" and "factorised" -> slopes at many points, any shape, in nats for a unit step.
        bounds: the same names -> the bound on each.
    """
    _, ax = plt.subplots(figsize=(5.4, 2.7))
    top = max(bounds.values())
    for name, values in used.items():
        colour, _, line = FITS[name]
        ax.hist(values.flatten().numpy(), bins=np.linspace(0, top, 61), color=colour, alpha=0.55, label=name)
        ax.axvline(bounds[name], color=colour, linestyle=line, label=f"{name}, bound")
    ax.set_xlabel("slope of the log-ratio (nats for a unit step)")
    ax.set_ylabel("points")
    ax.legend(fontsize=8)
    return ax
