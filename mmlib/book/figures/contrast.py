"""Figures of the contrastive chapter: scores of pairs, estimates of a contrast, decoder passes, terms in training."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.plots.grids import image_grid, to_image
from mmlib.plots.style import DIGITS, MODELS, look, panels
from mmlib.train.history import History

PAIRS = {"related": ("black", "-", "o"), "unrelated": ("#cc6677", "--", "s")}  # colour, line, marker
BOUNDS = {"cI": ("#029e73", "-", "o"), "cC": ("#d55e00", "--", "v")}


def pair_histograms(scores: Mapping[str, tuple[Tensor, Tensor]]) -> Sequence[Axes]:
    """How a score lies over related and over unrelated pairs, two vectors each: a panel a title, on one axis."""
    _, axes = panels(len(scores), height=2.5, squeeze=False)
    for ax, (title, both) in zip(axes[0], scores.items(), strict=True):
        # a few pairs far out would leave the rest no room
        low, high = np.quantile(torch.cat(both).numpy(), (0.005, 1))
        bins = np.linspace(low, high, 50)
        for (label, (colour, line, _)), values in zip(PAIRS.items(), both, strict=True):
            seen = values.clamp(min=low).numpy()
            ax.hist(seen, bins, density=True, histtype="step", color=colour, linestyle=line, label=label)
        ax.set(title=title, xlabel="nats", yticks=[])
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(loc="upper left")
    return list(axes[0])


def estimates_against_k(
    ks: Sequence[int], curves: Mapping[str, Mapping[str, Sequence[float]]], limits: Mapping[str, float]
) -> Sequence[Axes]:
    """Estimates of a contrast's unrelated term against K, less the exact term, which is the line at zero.

    Args:
        ks: draws from each component.
        curves: a panel's title -> "cI" or "cC" -> the estimate less the exact term, nats.
        limits: a panel's title -> where CUBO goes, if that is known.
    """
    _, axes = panels(len(curves), height=2.7, sharey=True, squeeze=False)
    for ax, (title, lines) in zip(axes[0], curves.items(), strict=True):
        ax.axhline(0, color="black", linewidth=2, label="exact")
        for name, values in lines.items():
            colour, line, marker = BOUNDS[name]
            label = {"cI": "cI, from IWAE", "cC": "cC, from CUBO"}[name]
            ax.plot(ks, values, color=colour, linestyle=line, marker=marker, label=label)
        if title in limits:
            ax.axhline(limits[title], color=BOUNDS["cC"][0], linestyle=":", label="CUBO in closed form")
        ax.set_xscale("log", base=4)
        ax.set_xticks(ks, [str(k) for k in ks])
        ax.set(title=title, xlabel="draws K from each component")
    axes[0, 0].set_ylabel("nats above the exact term")
    axes[0, -1].legend()
    return list(axes[0])


def passes_against_n(ns: Sequence[int], passes: Mapping[str, Sequence[float]]) -> Axes:
    """Passes through decoders in a training step, for each row, against the number of negatives N.

    ``passes`` are by model, such as "MoPoE"; any other name is a line of reference.
    """
    _, ax = panels(height=2.9)
    for name, values in passes.items():
        known = name.lower() in MODELS
        ax.plot(ns, values, label=name, **look(f"contrastive_{name.lower()}" if known else "exact"))
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=10)
    ax.set_xticks(ns, [str(n) for n in ns])
    ax.set_xlabel("negatives N")
    ax.set_ylabel("decoder passes a row")
    ax.legend(ncols=2)
    return ax


def training_terms(histories: Mapping[str, History]) -> Sequence[Axes]:
    """The likelihoods of related and unrelated tuples while a model learns, and below their contrast: a column a title.

    Returns:
        The axes, [2, titles].
    """
    _, axes = panels(len(histories), 2, height=2.0, sharex=True, squeeze=False)
    for column, (title, history) in zip(axes.T, histories.items(), strict=True):
        steps, terms = history.steps("related"), {name: history.column(name) for name in PAIRS}
        for name, (colour, line, _) in PAIRS.items():
            column[0].plot(steps, terms[name], color=colour, linestyle=line, label=name)
        contrast = terms["unrelated"] - terms["related"]
        column[1].plot(steps, contrast, color="#117733", label="contrast")
        column[1].axhline(np.log(5), color="0.5", linestyle=":", label="log 5")
        column[0].set_title(title)
        column[1].set(xlabel="training step", ylim=(0, None))
    axes[0, 0].set_ylabel("term (nats)")
    axes[1, 0].set_ylabel(r"$\mathcal{L}_C$ (nats)")
    for row in axes:
        row[0].legend()
    return axes


def scored_pairs(pairs: Mapping[str, tuple[Tensor, Tensor]], scores: Mapping[str, float]) -> Sequence[Axes]:
    """Pairs of images, one below the other, and above each what one fixed density says of it: a column a label."""
    _, axes = panels(len(pairs), 2, height=1.35)
    for column, (label, images) in zip(axes.T, pairs.items(), strict=True):
        for ax, image in zip(column, images, strict=True):
            ax.imshow(to_image(image).numpy(), vmin=0, vmax=1)
            ax.axis("off")
        column[0].set_title(f"{label}\n{scores[label]:.0f}")
    return axes


def class_counts(shares: Mapping[str, Tensor]) -> Sequence[Axes]:
    """The share of each digit among what is drawn from the prior, [10] a title; the line is one in ten."""
    _, axes = panels(len(shares), height=1.9, sharey=True, squeeze=False)
    for ax, (title, values) in zip(axes[0], shares.items(), strict=True):
        ax.bar(range(10), values.tolist(), color=DIGITS)
        ax.axhline(0.1, color="black", linestyle=":", linewidth=1)
        ax.set(title=title, xlabel="digit", xticks=range(10))
    axes[0, 0].set_ylabel("share of draws")
    return list(axes[0])


def made_of(batch: Mapping[str, Tensor], models: Mapping[str, object], generator: torch.Generator) -> Axes:
    """What each model, by its label, makes of every modality when it sees one: itself first, then the others."""
    rows: dict[str, Tensor] = {}
    for given, seen in batch.items():
        rows[f"given: {given}"] = seen
        for to in sorted(batch, key=lambda name: name != given):
            for label, model in models.items():
                made = model.generate({given: seen}, given=[given], to=[to], generator=generator)
                rows[f"{to} from {given}, {label}"] = made[to]
    return image_grid(rows)
