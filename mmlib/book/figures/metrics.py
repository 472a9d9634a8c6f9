"""Figures of the metrics: the coherence matrix, the classes generated, likelihoods against the number of samples."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from mmlib.plots.style import colour, look, panels


def coherence_matrix(report: Mapping, title: str, ax: Axes) -> Axes:
    """Coherence as a matrix: rows are what is given, columns what is generated; per cent, standard errors below.

    Args:
        report: from ``mmlib.metrics.evaluate``; the last row shows synergy.
        title: of the plot.
        ax: where to draw.
    """
    table = {**report["cross_coherence"], "all": report["synergy_coherence"]}
    names = list(report["cross_coherence"])
    values = np.array([[table[given][name]["value"] for name in names] for given in table])
    ax.imshow(values, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for i, given in enumerate(table):
        for j, name in enumerate(names):
            text = f"{100 * values[i, j]:.1f}\n± {100 * table[given][name]['se']:.1f}"
            ink = "white" if values[i, j] < 0.55 else "black"
            ax.text(j, i, text, ha="center", va="center", color=ink)
    ax.set_xticks(range(len(names)), names)
    ax.set_yticks(range(len(table)), list(table))
    ax.set(xlabel="generated", ylabel="given", title=title)
    ax.grid(False)
    return ax


def class_shares(classes: Mapping[str, Mapping], title: str, ax: Axes) -> Axes:
    """Share of each class among draws from the prior: one bar per modality, and the share shown by all jointly.

    Args:
        classes: ``report["classes_generated"]``.
        title: of the plot.
        ax: where to draw.
    """
    width = 0.8 / len(classes)
    for i, (name, entry) in enumerate(classes.items()):
        shade = colour("joint" if name == "jointly" else name)
        places = np.arange(len(entry["shares"])) + (i - (len(classes) - 1) / 2) * width
        ax.bar(places, entry["shares"], width, color=shade, label=f"{name}: {entry['count']} classes")
    threshold = next(iter(classes.values()))["threshold"]
    ax.axhline(threshold, color=colour("chance"), linestyle=":", label=f"counts from {threshold:.0%}")
    ax.set_xticks(range(len(next(iter(classes.values()))["shares"])))
    ax.set(xlabel="class", ylabel="share of draws", title=title)
    ax.legend()
    return ax


def likelihood_convergence(
    tries: Sequence[int], estimates: Mapping[str, Sequence[tuple[float, float]]], exact: float
) -> Axes:
    """Importance-sampled log-likelihood against the number of samples, and the truth.

    Args:
        tries: numbers of samples.
        estimates: modality that the proposal saw -> (mean, spread) for each of ``tries``, in nats.
        exact: the truth, in nats.
    """
    _, ax = panels()
    ax.axhline(exact, color=colour("exact"), label="exact")
    for i, (given, found) in enumerate(estimates.items()):
        place = np.asarray(tries) * 1.04**i  # side by side, not on top of one another
        ax.errorbar(
            place, *zip(*found, strict=True), **look(given), capsize=2, label=f"proposal q(z | {given})"
        )
    ax.set(xscale="log", xlabel="samples $K$", ylabel="log-likelihood (nats)")
    ax.legend()
    return ax
