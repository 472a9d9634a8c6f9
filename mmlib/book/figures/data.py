"""Figures of the data chapter: who is paired with whom, what is missing, what noise hides, what intervals are worth."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.plots.style import colour


def pairing_lines(labels: Mapping[str, Tensor], index: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Two rows of items, and a line for each pair; items without a line were left out.

    Args:
        labels: int64 [N_m] for each of two modalities.
        index: int64 [P] for each, as from :func:`mmlib.data.pairing.pair_by_class`.
        ax: where to draw; default: a new figure.

    Raises:
        ValueError: if there are not exactly two modalities.
    """
    if len(labels) != 2:
        raise ValueError(f"labels has {len(labels)} modalities; expected two, one above the other")
    ax = ax or plt.subplots(figsize=(5.2, 2.3))[1]
    widest = max(len(value) for value in labels.values())
    place = {name: np.linspace(0, widest - 1, len(value)) for name, value in labels.items()}
    top, bottom = labels
    for a, b in zip(index[top].tolist(), index[bottom].tolist(), strict=True):
        ax.plot([place[top][a], place[bottom][b]], [1, 0], color="0.55", linewidth=1.0, zorder=1)
    for height, name in ((1, top), (0, bottom)):
        kept = np.isin(np.arange(len(labels[name])), index[name].numpy())
        faces = [colour(name) if k else "white" for k in kept]
        spots = place[name]
        ax.scatter(spots, [height] * len(spots), s=330, c=faces, edgecolors=colour(name), zorder=2)
        for x, digit, k in zip(spots, labels[name].tolist(), kept, strict=True):
            ink = "white" if k else "0.4"
            ax.text(x, height, str(digit), color=ink, ha="center", va="center", weight="bold")
    ax.set_yticks([0, 1], [bottom, top])
    ax.set_ylim(-0.35, 1.35)
    return _bare(ax)


def observed_rows(observed: Mapping[str, Tensor], rows: int = 40, ax: Axes | None = None) -> Axes:
    """Which modalities the first rows of a split observe: a full square is seen, an empty one is missing.

    Args:
        observed: bool [P] for each modality.
        rows: how many rows of the split to show.
        ax: where to draw; default: a new figure.
    """
    ax = ax or plt.subplots(figsize=(0.17 * rows + 0.8, 0.3 * len(observed) + 0.5))[1]
    for height, (name, seen) in enumerate(reversed(observed.items())):
        seen = seen[:rows].cpu().numpy()
        faces = [colour(name) if s else "white" for s in seen]
        ax.scatter(range(len(seen)), [height] * len(seen), s=60, marker="s", c=faces, edgecolors=colour(name))
    ax.set_yticks(range(len(observed)), list(reversed(observed)))
    ax.set_ylim(-0.6, len(observed) - 0.4)
    ax.set_xlabel("row of the split")
    return _bare(ax)


def class_gain(
    freedoms: Sequence[float], gains: Sequence[float], costs: Sequence[float], name: str = "street"
) -> list[Axes]:
    """What the class explains of an image, and what it leaves, as style becomes freer.

    Args:
        freedoms: style freedom, 0 to 1.
        gains: nats an image that knowing the class wins.
        costs: nats an image that the best constant guess is short.
        name: the modality, for its colour.
    """
    _, axes = plt.subplots(1, 2, figsize=(7.6, 2.7))
    axes[0].plot(freedoms, gains, "o-", color=colour(name))
    axes[0].axhline(np.log(10), color="0.35", linestyle=":")
    axes[0].annotate(
        "log 10: what the name of a digit is worth",
        (0, np.log(10)),
        ha="left",
        va="bottom",
        color="0.35",
        fontsize=8,
    )
    axes[0].set(xlabel="style freedom", ylabel="won by knowing the class\n(nats an image)")
    axes[1].fill_between(freedoms, costs, color=colour(name), alpha=0.25, label="private to the image")
    axes[1].fill_between(freedoms, gains, color=colour(name), label="explained by the class")
    axes[1].set(xlabel="style freedom", ylabel="short of a perfect guess\n(nats an image)")
    axes[1].legend(loc="center right")
    return list(axes)


def intervals(
    centres: Mapping[str, Sequence[float]], errors: Mapping[str, Sequence[float]], truth: float
) -> list[Axes]:
    """Confidence intervals of repeated experiments; those that miss the truth stand out.

    Args:
        centres: estimates, by the way in which the error was computed.
        errors: standard errors, by the same names.
        truth: what is estimated.
    """
    _, axes = plt.subplots(1, len(centres), figsize=(7.6, 2.6), sharey=True, squeeze=False)
    for ax, (name, centre) in zip(axes[0], centres.items(), strict=True):
        centre, half = np.asarray(centre), 1.96 * np.asarray(errors[name])
        hit = np.abs(centre - truth) <= half
        for shown, shade, style in ((hit, "0.6", "o"), (~hit, colour("street"), "x")):
            where = np.flatnonzero(shown)
            ax.errorbar(where, centre[shown], half[shown], fmt=style, color=shade, markersize=3, linewidth=1)
        ax.axhline(truth, color="black", linewidth=1)
        ax.set_title(f"{name}: {hit.mean():.0%} of {len(hit)} contain the truth")
        ax.set_xlabel("experiment")
    axes[0, 0].set_ylabel("accuracy")
    return list(axes[0])


def _bare(ax: Axes) -> Axes:
    """No grid, ticks or frame: the marks speak for themselves."""
    ax.grid(False)
    ax.set_xticks([])
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
