"""What the codes look like: a map of all modalities, distances of related and unrelated items, trees of classes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from torch import Tensor

from mmlib.plots.style import DIGITS, WIDTH, colour, look, panels


def code_map(
    places: Mapping[str, Tensor], labels: Tensor, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """One map twice: coloured by digit, with the digit written where each modality's items are, and by modality.

    ``places`` are name -> [N, 2], as from ``mmlib.metrics.joint_map``, where scales mean nothing, so none is drawn;
    ``labels`` are int64 [N], digits, of every modality. There are two axes.
    """
    if axes is None:
        _, axes = panels(2, height=3.5)
    for name, points in places.items():
        style = look(name, modality=True)
        shade, dots = style["color"], {"marker": style["marker"], "s": 9, "linewidths": 0, "alpha": 0.5}
        axes[0].scatter(*points.T, c=[DIGITS[digit % len(DIGITS)] for digit in labels], **dots)
        axes[1].scatter(*points.T, color=shade, label=name, **dots)
        for digit in labels.unique().tolist():
            middle = points[labels == digit].median(0).values
            text = axes[0].text(*middle, digit, color=shade, weight="bold", ha="center", va="center")
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    for ax, told in zip(axes, ("digit", "modality"), strict=True):
        ax.set(xticks=[], yticks=[], aspect="equal", title=f"colour: {told}")
        ax.spines[:].set_visible(False)
    axes[1].legend(markerscale=2, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(places))
    return axes


def distance_histograms(
    distances: Mapping[str, tuple[Tensor, Tensor, float]], axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Distances of related and of unrelated items, each as a density; one panel a model, with its own unit.

    ``distances`` are model -> what ``mmlib.metrics.relatedness`` returns.
    """
    if axes is None:
        _, axes = panels(len(distances), height=2.4, squeeze=False)
        axes = axes[0]
    for ax, (name, (related, unrelated, nearer)) in zip(axes, distances.items(), strict=True):
        bins = np.linspace(0, max(float(related.max()), float(unrelated.max())), 50)
        ax.hist(unrelated.numpy(), bins, density=True, color="0.6", alpha=0.6, label="two digits")
        ax.hist(related.numpy(), bins, density=True, histtype="step", color="black", label="one digit")
        ax.set_title(f"{name}: nearer {nearer:.0%}")
        ax.set_xlabel("$W_2$, units of the code")
        ax.set_yticks([])
    axes[0].set_ylabel("density")
    axes[0].legend(fontsize="small")
    return axes


def class_tree(
    tree: np.ndarray, groups: Sequence[tuple[str, int]], title: str = "", ax: Axes | None = None
) -> Axes:
    """A dendrogram of classes: the height of a fork is the mean distance of what it joins; it does not begin at 0.

    ``tree`` is as from ``mmlib.metrics.tree``, ``groups`` are (name, class) of every leaf; the class is written in the
    colour of the modality.
    """
    from scipy.cluster.hierarchy import dendrogram

    if ax is None:
        _, ax = plt.subplots(figsize=(min(WIDTH, 0.22 * len(groups) + 2.2), 2.4))
    with plt.rc_context({"lines.linewidth": 1.2}):
        leaves = dendrogram(tree, color_threshold=0, above_threshold_color="0.3", ax=ax)["leaves"]
    ax.set_xticks(ax.get_xticks(), [groups[leaf][1] for leaf in leaves], rotation=0, weight="bold")
    for text, leaf in zip(ax.get_xticklabels(), leaves, strict=True):
        text.set_color(colour(groups[leaf][0], modality=True))
    ax.set(ylim=(0.9 * tree[0, 2], 1.02 * tree[-1, 2]), ylabel="mean $W_2$", title=title)
    ax.grid(False)
    names = dict.fromkeys(name for name, _ in groups)
    handles = [Patch(color=colour(name, modality=True), label=name) for name in names]
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), handlelength=1)
    return ax


def class_matrix(
    distances: Tensor,
    classes: Sequence[int],
    names: tuple[str, str],
    title: str,
    ax: Axes,
) -> Axes:
    """Mean distances of classes, rows of the first modality and columns of the second; dark is near.

    A dot marks the nearest class of each row; all on the diagonal is best. ``distances`` are [C, C], a block of those
    of ``mmlib.metrics.class_distances``; ``names`` are of the rows and of the columns.
    """
    drawn = ax.imshow(distances.numpy(), cmap="cividis")
    for row, column in enumerate(distances.argmin(1).tolist()):
        ax.plot(column, row, "o", color="white", markersize=3)
    for axis, name in ((ax.yaxis, names[0]), (ax.xaxis, names[1])):
        axis.set_ticks(range(len(classes)), classes)
        axis.set_label_text(name, color=colour(name, modality=True), weight="bold")
    ax.grid(False)
    ax.set_title(title)
    ax.figure.colorbar(drawn, ax=ax, shrink=0.8)
    return ax
