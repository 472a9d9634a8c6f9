"""Figures of the chapter on style and content: who gives which code, shared codes, translations, swaps, probes."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from mmlib.plots.grids import tile
from mmlib.plots.style import MODALITIES, colour, look
from mmlib.summary import Summary

# What decodes what: title, source of the style, source of the content, whose decoder. 0 and 1 are modalities.
WAYS = (
    ("reconstruction", 0, 0, 0),
    ("translation,\nstyle of an item", 1, 0, 1),
    ("translation,\nrandom style", "prior", 0, 1),
    ("translation,\nsource's style", 0, 0, 1),
)
CODES = {  # label, colour, marker, line
    "keep": ("tell all of the own item", "#d55e00", "^", "--"),
    "best": ("best compromise", "black", "o", "-"),
    "drop": ("tell the class only", "#56b4e9", "s", ":"),
    "styles": ("content and styles", "#029e73", "D", "-."),
}


def code_paths(names: Sequence[str] = ("hand", "street")) -> list[Axes]:
    """Which encoder gives what to which decoder: one panel for each way of `WAYS`, for two modalities."""
    _, axes = plt.subplots(1, len(WAYS), figsize=(2.45 * len(WAYS), 2.35))
    sources = {0: (0.0, 2.0), 1: (0.0, 1.0), "prior": (0.0, 0.0)}
    codes = {"style": (1.5, 1.6), "content": (1.5, 0.4)}
    for ax, (title, style, content, decoder) in zip(axes, WAYS, strict=True):
        used = {style, content}
        for source, place in sources.items():
            text = "prior" if source == "prior" else f"encoder\n{names[source]}"
            tone = "0.35" if source == "prior" else colour(names[source])
            _box(ax, place, text, tone if source in used else "0.88", faint=source not in used)
        for code, source in (("style", style), ("content", content)):
            tone = "0.35" if source == "prior" else colour(names[source])
            _box(ax, codes[code], code, tone)
            _arrow(ax, sources[source], codes[code], tone)
            _arrow(ax, codes[code], (3.0, 1.0), tone)
        _box(ax, (3.0, 1.0), f"decoder\n{names[decoder]}", colour(names[decoder]))
        ax.set_title(title, fontsize=9.5)
        ax.set_xlim(-0.6, 3.6)
        ax.set_ylim(-0.4, 2.4)
        ax.axis("off")
    return list(axes)


def _box(ax: Axes, place: tuple, text: str, tone: str, faint: bool = False) -> None:
    x, y = place
    ax.add_patch(
        FancyBboxPatch(
            (x - 0.46, y - 0.26), 0.92, 0.52, boxstyle="round,pad=0.06", fc="white", ec=tone, lw=1.5, zorder=2
        )
    )
    ax.text(x, y, text, ha="center", va="center", fontsize=7.5, color="0.75" if faint else "black", zorder=3)


def _arrow(ax: Axes, start: tuple, end: tuple, tone: str) -> None:
    (x0, y0), (x1, y1) = start, end
    ax.add_patch(
        FancyArrowPatch(
            (x0 + 0.52, y0),
            (x1 - 0.52, y1),
            arrowstyle="-|>",
            mutation_scale=10,
            color=tone,
            lw=1.4,
            zorder=1,
        )
    )


def shared_code(
    values: Sequence[int],
    cost: Mapping[str, Sequence[float]],
    told: Mapping[str, Sequence[float]],
    there: Sequence[float],
    ceiling: float,
) -> list[Axes]:
    """What one shared code costs, and what it says of the item it was encoded from, against what there is to say.

    Args:
        values: private values of each modality.
        cost: key of `CODES` -> divergence of the distributions in nats, one for each number of values.
        told: the same -> what the content says of its own modality, nats.
        there: what there is to say, nats.
        ceiling: largest divergence possible, nats.
    """
    _, axes = plt.subplots(1, 2, figsize=(7.6, 2.8), sharex=True)
    for ax, curves in zip(axes, (cost, told), strict=True):
        for key, numbers in curves.items():
            label, tone, marker, line = CODES[key]
            ax.plot(values, numbers, color=tone, marker=marker, linestyle=line, label=label)
        ax.set_xlabel("private values of each modality")
        ax.set_xticks(values)
    axes[0].axhline(ceiling, color="0.6", linestyle=":", label="largest possible")
    axes[0].set_ylabel("divergence (nats)")
    axes[0].set_ylim(-0.05, 1.65 * ceiling)
    axes[0].legend(fontsize=8, ncols=2, loc="upper left")
    axes[1].plot(values, there, color="0.6", linewidth=4, alpha=0.6, zorder=0, label="all there is")
    axes[1].set_ylabel("said of the own item (nats)")
    axes[1].legend(fontsize=8)
    return list(axes)


@torch.no_grad()
def translations(
    model, batch: Mapping[str, Tensor], name: str, to: str, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """The five rows of Chen and Zhu 2022, Figure 4, for items of one modality: label -> images.

    Originals; reconstruction; reconstruction with a random style; translation with the source's style; translation with
    a random style. Contents and styles are drawn.

    Args:
        model: has ``generate`` with ``style``.
        batch: tensors [N, *shape] by modality name.
        name: modality that is given.
        to: modality that it is translated to.
        generator: source of the draws.
    """
    given = {name: batch[name]}

    def made(target: str, style: str) -> Tensor:
        return model.generate(given, [name], [target], generator, style=style)[target]

    return {
        "original": batch[name],
        "reconstruction": made(name, "own"),
        "with a\nrandom style": made(name, "random"),
        "translation,\nsource's style": made(to, "source"),
        "translation,\nrandom style": made(to, "random"),
    }


def swap_grid(
    images: Tensor, contents: Tensor, styles: Tensor, title: str = "", ax: Axes | None = None
) -> Axes:
    """Contents down the left, styles along the top, and every image made of the two.

    Args:
        images: [R, C, channels, side, side], as from ``mmlib.metrics.swaps.swap``.
        contents: [R, channels, side, side], the items that gave the contents.
        styles: [C, channels, side, side], the items that gave the styles.
        title: of the plot.
        ax: where to draw; default: a new figure.

    Raises:
        ValueError: if the numbers of items do not fit the images.
    """
    if images.shape[:2] != (len(contents), len(styles)):
        raise ValueError(
            f"images have shape {tuple(images.shape)} for {len(contents)} contents and {len(styles)} styles"
        )

    def coloured(x: Tensor) -> Tensor:
        return x.detach().cpu().float().expand(-1, 3, -1, -1)

    corner = torch.ones(1, 3, *styles.shape[-2:])
    rows = [torch.cat([corner, coloured(styles)])]
    rows += [
        torch.cat([coloured(c[None]), coloured(row)])
        for c, row in zip(contents, images.unbind(0), strict=True)
    ]
    if ax is None:
        _, ax = plt.subplots(figsize=(0.5 * (len(styles) + 1) + 0.5, 0.5 * (len(contents) + 1) + 0.4))
    picture = tile(rows)
    ax.imshow(picture.numpy(), interpolation="nearest")
    height, width = picture.shape[0] / len(rows), picture.shape[1] / (len(styles) + 1)
    ax.axhline(height, color="black", linewidth=0.8)
    ax.axvline(width, color="black", linewidth=0.8)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_ylabel("content of", fontsize=9)
    ax.set_xlabel("style of", fontsize=9)
    ax.xaxis.set_label_position("top")
    if title:
        ax.set_title(title)
    return ax


def style_followed(own: Tensor, made: Tensor, label: str, ax: Axes | None = None) -> Axes:
    """A statistic of swapped images against that of the images that gave their styles.

    Args:
        own: [C], of the styles' own images.
        made: [R, C], of the swapped images.
        label: name of the statistic.
        ax: where to draw; default: a new figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(3.0, 2.8))
    ax.plot(
        own.expand_as(made).flatten(), made.flatten(), ".", color="0.75", markersize=2, label="each content"
    )
    ax.plot(own, made.mean(0), "o", color=colour("mmali"), markersize=4, label="mean over contents")
    ends = [float(own.min()), float(own.max())]
    ax.plot(ends, ends, color="black", linestyle=":", linewidth=1, label="equal")
    ax.set_xlabel(f"{label} of the style's image")
    ax.set_ylabel(f"{label} of what is made")
    return ax


def probes(
    rows: Mapping[str, Mapping[str, Summary]],
    paper: Mapping[str, float] | None = None,
    chance: float = 0.1,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Accuracy of linear probes, one line a row: full markers for samples of a code, hollow ones for its mean.

    Args:
        rows: label -> {"sample": over seeds, "mean": over seeds}.
        paper: label -> the paper's value, as a share, drawn as a star.
        chance: where guessing gets.
        title: of the plot.
        ax: where to draw; default: a new figure.

    Raises:
        ValueError: if ``paper`` names a row that is not there.
    """
    unknown = set(paper or {}) - set(rows)
    if unknown:
        raise ValueError(f"paper has {', '.join(sorted(unknown))}; expected some of {', '.join(rows)}")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.4, 0.34 * len(rows) + 1.1))
    ax.axvline(chance, color=look("chance")["color"], linestyle=":", label="chance")
    for y, (label, kinds) in enumerate(rows.items()):
        tone = next((colour(word) for word in label.replace(",", "").split() if word in MODALITIES), "0.2")
        for kind, summary in kinds.items():
            place = y + (0.14 if kind == "mean" else -0.14)
            if summary.low is not None:
                ax.plot([summary.low, summary.high], [place, place], color=tone, linewidth=2.5, alpha=0.4)
            face = tone if kind == "sample" else "white"
            ax.plot([summary.mean], [place], "o", color=tone, markerfacecolor=face, markersize=6)
        if label in (paper or {}):
            ax.plot([paper[label]], [y - 0.14], "*", color=colour("paper"), markersize=10)
    ax.plot([], [], "o", color="0.2", label="on samples")
    ax.plot([], [], "o", color="0.2", markerfacecolor="white", label="on means")
    if paper:
        ax.plot([], [], "*", color=colour("paper"), markersize=9, label="paper (MNIST, SVHN)")
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("accuracy of a linear probe")
    handles, labels = ax.get_legend_handles_labels()
    ax.figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)
    if title:
        ax.set_title(title)
    return ax


def weighted_experts(
    weights: Sequence[float], curves: Mapping[str, Sequence[float]], ylabel: str, ax: Axes | None = None
) -> Axes:
    """Curves against the weight of one expert, one for each modality that is generated.

    Args:
        weights: in [0, 1].
        curves: modality -> numbers.
        ylabel: of the vertical axis.
        ax: where to draw; default: a new figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 2.8))
    for name, numbers in curves.items():
        ax.plot(weights, numbers, label=f"generated: {name}", **look(name))
    ax.set_ylabel(ylabel)
    ax.legend()
    return ax
