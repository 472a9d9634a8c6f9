"""Figures of the metrics: the coherence matrix, the classes generated, likelihoods and their ceilings."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from mmlib.plots.style import look


def coherence_matrix(report: Mapping, title: str = "", ax: Axes | None = None) -> Axes:
    """Coherence as a matrix: rows are what is given, columns what is generated; per cent, standard errors below.

    Args:
        report: from ``mmlib.metrics.evaluate``; a last row shows synergy where the report has it.
        title: of the plot.
        ax: where to draw; default: a new figure.
    """
    table = dict(report["cross_coherence"])
    names = list(table)
    if "synergy_coherence" in report:
        table["all"] = report["synergy_coherence"]
    if ax is None:
        _, ax = plt.subplots(figsize=(1.15 * len(names) + 1.1, 0.75 * len(table) + 0.9))
    values = np.array([[table[given][name]["value"] for name in names] for given in table])
    ax.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for i, given in enumerate(table):
        for j, name in enumerate(names):
            entry = table[given][name]
            text = f"{100 * entry['value']:.1f}"
            if entry["se"] is not None:
                text += f"\n± {100 * entry['se']:.1f}"
            dark = values[i, j] < 0.55
            ax.text(j, i, text, ha="center", va="center", color="white" if dark else "black")
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(table)), list(table))
    ax.set_xlabel("generated")
    ax.set_ylabel("given")
    ax.grid(False)
    if title:
        ax.set_title(title)
    return ax


def class_shares(classes: Mapping[str, Mapping], title: str = "", ax: Axes | None = None) -> Axes:
    """Share of each class among draws from the prior, one bar a modality, and the share shown by all jointly.

    Args:
        classes: ``report["classes_generated"]``.
        title: of the plot.
        ax: where to draw; default: a new figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 2.4))
    width = 0.8 / len(classes)
    hatches = ["", "//", "..", "xx"]
    for i, (name, entry) in enumerate(classes.items()):
        places = np.arange(len(entry["shares"])) + (i - (len(classes) - 1) / 2) * width
        colour = "0.35" if name == "jointly" else look(name)["color"]
        label = f"{name}: {entry['count']} classes"
        bars = {"color": colour, "edgecolor": "white", "hatch": hatches[i % len(hatches)], "linewidth": 0}
        ax.bar(places, entry["shares"], width, label=label, **bars)
    threshold = next(iter(classes.values()))["threshold"]
    ax.axhline(threshold, color=look("chance")["color"], linestyle=":", label=f"counts from {threshold:.0%}")
    ax.set_xticks(range(len(next(iter(classes.values()))["shares"])))
    ax.set_xlabel("class")
    ax.set_ylabel("share of draws")
    ax.legend(fontsize="small")
    if title:
        ax.set_title(title)
    return ax


def likelihood_convergence(
    k: Sequence[int],
    estimates: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    exact: float,
    ax: Axes | None = None,
) -> Axes:
    """Importance-sampled log-likelihood against the number of samples, with its own Monte Carlo error, and the truth.

    Args:
        k: numbers of samples.
        estimates: label -> (values, errors), one for each k, in nats.
        exact: the truth, in nats.
        ax: where to draw; default: a new figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 2.8))
    styles = [("#0173b2", "o", "-"), ("#de8f05", "s", "--"), ("#029e73", "^", "-.")]
    ax.axhline(exact, color="black", label="exact")
    for i, (label, (values, errors)) in enumerate(estimates.items()):
        colour, marker, line = styles[i % len(styles)]
        place = np.asarray(k) * 1.04**i  # side by side, not on top of one another
        ax.errorbar(
            place, values, errors, color=colour, marker=marker, linestyle=line, capsize=2, label=label
        )
    ax.set_xscale("log")
    ax.set_xlabel("samples $K$")
    ax.set_ylabel("log-likelihood (nats)")
    ax.legend()
    return ax


def against_ceilings(
    published: Mapping[str, tuple[float, float]], xlabel: str = "nats", ax: Axes | None = None
) -> Axes:
    """Published log-likelihoods, each beside the largest value that it could have.

    Args:
        published: label -> (value, ceiling), in nats. Impossible values, above their ceiling, are crossed.
        xlabel: of the horizontal axis.
        ax: where to draw; default: a new figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.4, 0.34 * len(published) + 0.9))
    for y, (value, ceiling) in enumerate(published.values()):
        possible = value <= ceiling
        ax.plot([ceiling, ceiling], [y - 0.38, y + 0.38], color="black", linewidth=2)
        ax.plot([value, ceiling], [y, y], color="0.6", linewidth=1, linestyle="-" if possible else ":")
        colour, marker = ("#029e73", "o") if possible else ("#d55e00", "X")
        ax.plot([value], [y], linestyle="", marker=marker, color=colour, markersize=7)
    for label, marker, colour in (("possible", "o", "#029e73"), ("above its ceiling", "X", "#d55e00")):
        ax.plot([], [], linestyle="", marker=marker, color=colour, label=label)
    ax.plot(
        [], [], linestyle="", marker="|", markersize=12, markeredgewidth=2, color="black", label="ceiling"
    )
    ax.set_yticks(range(len(published)), list(published))
    ax.set_ylim(len(published) - 0.5, -0.5)
    ax.set_xlabel(xlabel)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax
