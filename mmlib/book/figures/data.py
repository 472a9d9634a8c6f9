"""Figures of the data chapter: who is paired with whom, what intervals are worth, what the class explains."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.plots.style import colour, panels


def pairing_lines(labels: Mapping[str, Tensor], index: Mapping[str, Tensor]) -> Axes:
    """Two rows of items, and a line for each pair; items without a line were left out.

    Args:
        labels: int64 [N_m] for each of two modalities.
        index: int64 [P] for each, as from :func:`mmlib.data.pairing.pair_by_class`.
    """
    _, ax = panels(height=2.3)
    top, bottom = labels
    widest = max(len(value) for value in labels.values())
    place = {name: np.linspace(0, widest - 1, len(value)) for name, value in labels.items()}
    for a, b in zip(index[top], index[bottom], strict=True):
        ax.plot([place[top][a], place[bottom][b]], [1, 0], color="0.55", linewidth=1.0, zorder=1)
    for height, name in ((1, top), (0, bottom)):
        kept = np.isin(np.arange(len(labels[name])), index[name].numpy())
        faces = [colour(name) if k else "white" for k in kept]
        spots = place[name]
        ax.scatter(spots, [height] * len(spots), s=330, c=faces, edgecolors=colour(name), zorder=2)
        for x, digit, k in zip(spots, labels[name].tolist(), kept, strict=True):
            ax.text(x, height, digit, color="white" if k else "0.4", ha="center", va="center", weight="bold")
    ax.set_yticks([0, 1], [bottom, top])
    ax.set(xticks=[], ylim=(-0.35, 1.35))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax


def class_gain(
    freedoms: Sequence[float], gains: Sequence[float], costs: Sequence[float], name: str = "street"
) -> Sequence[Axes]:
    """What the class explains of an image, and what it leaves, as style becomes freer.

    Args:
        freedoms: style freedom, 0 to 1.
        gains: nats per image that knowing the class wins.
        costs: nats per image that the best constant guess is short.
        name: the modality, for its colour.
    """
    _, axes = panels(2)
    axes[0].plot(freedoms, gains, "o-", color=colour(name))
    axes[0].axhline(np.log(10), color="0.35", linestyle=":")
    axes[0].annotate("log 10", (1, np.log(10)), ha="right", va="bottom", color="0.35")
    axes[0].set(xlabel="style freedom", ylabel="won by knowing the class\n(nats per image)")
    axes[1].fill_between(freedoms, costs, color=colour(name), alpha=0.25, label="private to the image")
    axes[1].fill_between(freedoms, gains, color=colour(name), label="explained by the class")
    axes[1].set(xlabel="style freedom", ylabel="short of a perfect guess\n(nats per image)")
    axes[1].legend(loc="center right")
    return axes


def intervals(
    centres: Mapping[str, Sequence[float]], errors: Mapping[str, Sequence[float]], truth: float
) -> Sequence[Axes]:
    """Confidence intervals of repeated experiments; those that miss the truth stand out.

    Args:
        centres: estimates, by the way in which the error was computed; two ways.
        errors: standard errors, by the same names.
        truth: what is estimated.
    """
    _, axes = panels(2, sharey=True)
    for ax, (name, centre) in zip(axes, centres.items(), strict=True):
        centre, half = np.asarray(centre), 1.96 * np.asarray(errors[name])
        hit = np.abs(centre - truth) <= half
        for shown, shade, style in ((hit, "0.7", "o"), (~hit, "black", "x")):
            where = np.flatnonzero(shown)
            ax.errorbar(where, centre[shown], half[shown], fmt=style, color=shade, markersize=3, linewidth=1)
        ax.axhline(truth, color="0.35", linewidth=1)
        ax.set(title=f"{name}: {hit.mean():.0%} of {len(hit)} contain the truth", xlabel="experiment")
    axes[0].set_ylabel("accuracy")
    return axes
