"""Figures of the relatedness chapter: plans that move mass, distances of many models, classes, trees and maps."""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from scipy import stats
from scipy.cluster.hierarchy import cophenet
from scipy.spatial.distance import squareform
from torch import Tensor

from mmlib.book.figures.recorded import recorded
from mmlib.distributions import Diagonal
from mmlib.metrics import tree
from mmlib.plots import class_matrix, class_tree, code_map, distance_histograms, panels
from mmlib.plots.results import Table, table
from mmlib.plots.style import look

FAMILIES = {"normal": stats.norm, "laplace": stats.laplace}
NEARER = "relatedness/hand,street"
QUARTER = "hand-street-{}-split-0.25".format
OVER_SEEDS = {  # model -> recipe of all pairs, and of a quarter of them, every other row showing one modality
    "MEME": ("hand-street-meme", QUARTER("meme")),
    "MMVAE": ("hand-street-mmvae-elbo-judged", QUARTER("mmvae")),
    "MMVAE, normal codes": ("hand-street-mmvae-normal", None),
    "MVAE": ("hand-street-mvae-judged", QUARTER("mvae")),
}


def plans(pairs: Mapping[str, tuple[Diagonal, Diagonal]]) -> Sequence[Axes]:
    """Level by level, where the cheapest plan moves the mass of one posterior: a straight line within one family.

    ``pairs`` are title -> two posteriors of one number; their quantiles stand against each other, marked at tenths.
    """
    _, axes = panels(len(pairs), height=2.5)
    levels, tenths = np.linspace(0.005, 0.995, 400), np.arange(1, 10) / 10
    for ax, (title, (p, q)) in zip(axes, pairs.items(), strict=True):
        first, second = (FAMILIES[r.family](float(r.loc), float(r.scale)) for r in (p, q))
        ax.plot(first.ppf(levels), second.ppf(levels), color="0.3")
        ax.plot(first.ppf(tenths), second.ppf(tenths), "o", color="0.3", markersize=4)
        ax.axline((0, 0), slope=1, color="0.7", linestyle=":", linewidth=1)
        ax.set(title=title, xlabel=f"{p.family}, from", ylabel=f"{q.family}, to")
    return axes


def histograms(told: Mapping[str, tuple[Tensor, Tensor, float]], columns: int = 4) -> Sequence[Axes]:
    """As :func:`mmlib.plots.distance_histograms`, of any number of models, in rows."""
    rows = -(-len(told) // columns)
    _, axes = panels(columns, rows, height=1.7)
    used, rest = axes.flatten()[: len(told)], axes.flatten()[len(told) :]
    distance_histograms(told, axes=used)
    for ax in rest:
        ax.set_axis_off()
    for i, ax in enumerate(used):
        ax.set_ylabel("density" if i % columns == 0 else "")
        ax.set_xlabel("$W_2$" if i + columns >= len(told) else "")
    handles, names = used[0].get_legend_handles_labels()
    used[0].get_legend().remove()
    used[0].figure.legend(handles, names, loc="outside lower center", ncols=2)
    return used


def classes(found: Mapping[str, Tensor], names: tuple[str, str]) -> Sequence[Axes]:
    """Class distances of several models, title -> [C, C], each in its own unit, and beside each the tree of classes."""
    _, axes = panels(2, len(found), height=2.3, squeeze=False)
    for (left, right), (title, distances) in zip(axes, found.items(), strict=True):
        numbers = range(len(distances))
        class_matrix(distances, numbers, names, title, left)
        class_tree(tree(distances), [("both", c) for c in numbers], title, right)
        right.get_legend().remove()
        for text in right.get_xticklabels():
            text.set_color("0.2")
    return axes.flatten()


def cluster_of(distances: Tensor, members: Collection[int], kind: str = "average") -> set[int]:
    """The smallest cluster in the tree of some classes, [C, C], that holds all the given ones."""
    found = [{c} for c in range(len(distances))]
    for first, second, *_ in tree(distances, kind):
        found.append(found[int(first)] | found[int(second)])
    return min((cluster for cluster in found if cluster >= set(members)), key=len)


def maps(found: Mapping[str, Mapping[str, Tensor]], labels: Tensor) -> Sequence[Axes]:
    """A row for each model, title -> places as for :func:`mmlib.plots.code_map`; ``labels``, int64 [N], are digits."""
    _, axes = panels(2, len(found), height=3.1, squeeze=False)
    for row, (title, places) in zip(axes, found.items(), strict=True):
        for ax in code_map(places, labels, row):
            ax.set_title(f"{title}, {ax.get_title()}")
    for ax in axes[:-1, 1]:
        ax.get_legend().remove()
    return axes.flatten()


def kept(distances: Tensor, kind: str) -> float:
    """Cophenetic correlation: of the distances of classes and the heights at which a linkage joins them; 1 is best."""
    symmetric = ((distances + distances.T) / 2).fill_diagonal_(0)
    return float(cophenet(tree(distances, kind), squareform(symmetric.numpy(), checks=False))[0])


def scatters(
    columns: Mapping[str, Sequence[float]], labels: Sequence[str], models: Mapping[str, str]
) -> Sequence[Axes]:
    """One point a run, the last column against each of the others; ``models`` says whose look each label has."""
    *across, (up, height) = columns.items()
    _, axes = panels(len(across), height=2.9, sharey=True)
    for ax, (name, values) in zip(axes, across, strict=True):
        for label, x, y in zip(labels, values, height, strict=True):
            ax.plot([x], [y], **look(models[label]) | {"linestyle": ""}, markersize=7, label=label)
        ax.set_xlabel(name)
    axes[0].set_ylabel(up)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return axes


def over_seeds() -> Table:
    """How often the related pair is nearer, of the models that the paper compares, over recorded seeds."""
    body = [
        [label, *(name and recorded(name, NEARER) for name in names)] for label, names in OVER_SEEDS.items()
    ]
    caption = "Related pair nearer, test split, per cent, mean ± sd (seeds); a dash: not recorded"
    return table(["", "all pairs", "a quarter of the pairs"], body, caption=caption)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's, from -1 to 1."""
    return float(stats.spearmanr(first, second).statistic)


def in_words(columns: Mapping[str, Sequence[float]], level: float = 0.05) -> str:
    """What the rank correlations of the first column with each of the others say, as a sentence."""
    (head, first), *others = columns.items()
    parts = []
    for name, values in others:
        found = stats.spearmanr(first, values)
        verdict = "told apart from 0" if found.pvalue < level else "not told apart from 0"
        parts.append(f"{found.statistic:+.2f} with {name} ({verdict})")
    return f"Rank correlation of {head} over {len(first)} models: {'; '.join(parts)}."


def every_pair(p: Diagonal, q: Diagonal) -> tuple[Diagonal, Diagonal]:
    """Posteriors [P, D] and [Q, D] laid out so that functions of two meet every pair: [P, 1, D] and [1, Q, D]."""
    first = Diagonal(p.loc[:, None], p.scale[:, None], p.family)
    return first, Diagonal(q.loc[None], q.scale[None], q.family)


def toy(labels: Tensor, private: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Codes of two modalities, title -> ([N, 6], [N, 6]), both with the digit as a place on a circle, in two numbers.

    ``private``, [2, N], is what only one modality knows.
    """
    angle = 2 * math.pi * labels.double() / 10
    told, none = (
        2 * torch.stack([angle.cos(), angle.sin()], -1),
        torch.zeros(len(labels), 2, dtype=torch.float64),
    )

    def code(m: int, gap: float = 0.0, loud: float = 1.0, other: bool = False) -> Tensor:
        own = torch.stack([loud * private[m], torch.full_like(private[m], gap)], -1)
        return torch.cat([none, told, own] if other else [told, none, own], -1)

    return {
        "the same numbers": (code(0), code(1)),
        "the same, far away": (code(0), code(1, gap=50.0)),
        "the same, private one four times": (code(0, loud=4.0), code(1, loud=4.0)),
        "other numbers": (code(0), code(1, other=True)),
    }
