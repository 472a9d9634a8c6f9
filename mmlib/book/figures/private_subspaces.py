"""Figures of the chapter on private subspaces: precision and recall, of toys and of models."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.metrics.prd import Curve, precision_recall_curve
from mmlib.plots.style import LINES, colour, look, panels


def toy_curves(real: Tensor, generated: Mapping[str, Tensor]) -> list[Axes]:
    """Histograms on the left, their precision and recall on the right.

    Args:
        real: [C], shares of the data, grey.
        generated: label -> [C].
    """
    _, axes = panels(2, height=2.8)
    width, places = 0.8 / (1 + len(generated)), torch.arange(len(real))
    axes[0].bar(places, real, width, color=colour("chance"), label="data")
    for i, (label, shares) in enumerate(generated.items(), start=1):
        bars = axes[0].bar(places + i * width, shares, width, label=label)
        curve = precision_recall_curve(real, shares)
        axes[1].plot(curve.recall, curve.precision, LINES[i % 4], color=bars[0].get_facecolor(), label=label)
    axes[0].set(xlabel="cluster", ylabel="share", xticks=places.tolist())
    axes[0].legend(fontsize="small")
    _frame(axes[1])
    return list(axes)


def model_curves(curves: Mapping[str, Mapping[str, Curve]]) -> list[Axes]:
    """Precision and recall of generated modalities: one panel per modality, one line per model.

    Args:
        curves: model -> modality -> curve.
    """
    names = list(next(iter(curves.values())))
    _, axes = panels(len(names), height=2.8, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        for i, (label, found) in enumerate(curves.items()):
            shade = look(name)["color"] if i else colour("chance")
            ax.plot(found[name].recall, found[name].precision, LINES[i % 4], color=shade, label=label)
        ax.set_title(name)
        _frame(ax)
    return list(axes[0])


def _frame(ax: Axes) -> None:
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    ax.legend(fontsize="small")
