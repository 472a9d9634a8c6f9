"""Figures of the chapter on style and content: who gives which code, shared codes, translations, swaps."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from mmlib.plots.grids import tile
from mmlib.plots.style import colour, panels

# What decodes what: title, source of the style, source of the content, whose decoder. 0 and 1 are modalities.
WAYS = (
    ("reconstruction", 0, 0, 0),
    ("translation, style of an item", 1, 0, 1),
    ("translation, random style", "prior", 0, 1),
    ("translation, source's style", 0, 0, 1),
)
CODES = {  # label, colour, marker, line
    "keep": ("tell all of the own item", "#d55e00", "^", "--"),
    "best": ("best compromise", "black", "o", "-"),
    "drop": ("tell the class only", "#56b4e9", "s", ":"),
    "styles": ("content and styles", "#029e73", "D", "-."),
}


def code_paths(names: Sequence[str] = ("hand", "street")) -> list[Axes]:
    """Which encoder gives what to which decoder: one panel for each way of `WAYS`, for two modalities."""
    _, axes = panels(2, 2, height=1.9)
    sources = {0: (0.0, 2.0), 1: (0.0, 1.0), "prior": (0.0, 0.0)}
    codes = {"style": (1.5, 1.6), "content": (1.5, 0.4)}
    for ax, (title, style, content, decoder) in zip(axes.flat, WAYS, strict=True):
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
        ax.set(title=title, xlim=(-0.6, 3.6), ylim=(-0.4, 2.4))
        ax.axis("off")
    return list(axes.flat)


def _box(ax: Axes, place: tuple, text: str, tone: str, faint: bool = False) -> None:
    x, y = place
    style = {"boxstyle": "round,pad=0.06", "facecolor": "white", "edgecolor": tone, "linewidth": 1.5}
    ax.add_patch(FancyBboxPatch((x - 0.46, y - 0.26), 0.92, 0.52, zorder=2, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=8, color="0.75" if faint else "black", zorder=3)


def _arrow(ax: Axes, start: tuple, end: tuple, tone: str) -> None:
    (x0, y0), (x1, y1) = start, end
    style = {"arrowstyle": "-|>", "mutation_scale": 10, "color": tone, "linewidth": 1.4, "zorder": 1}
    ax.add_patch(FancyArrowPatch((x0 + 0.52, y0), (x1 - 0.52, y1), **style))


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
    _, axes = panels(2, height=2.8, sharex=True)
    for ax, curves in zip(axes, (cost, told), strict=True):
        for key, numbers in curves.items():
            label, tone, marker, line = CODES[key]
            ax.plot(values, numbers, color=tone, marker=marker, linestyle=line, label=label)
        ax.set(xlabel="private values of each modality", xticks=values)
    axes[0].axhline(ceiling, color="0.6", linestyle=":", label="largest possible")
    axes[0].set_ylabel("divergence (nats)")
    most = axes[1].plot(values, there, color="0.6", linewidth=4, alpha=0.6, zorder=0, label="all there is")
    axes[1].set_ylabel("said of the own item (nats)")
    axes[0].figure.legend(handles=[*axes[0].lines, *most], loc="outside lower center", ncols=3)
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


def swap_grid(images: Tensor, contents: Tensor, styles: Tensor, title: str, ax: Axes) -> Axes:
    """Contents down the left, styles along the top, and every image made of the two.

    Args:
        images: [R, C, channels, side, side], as from ``mmlib.metrics.swaps.swap``.
        contents: [R, channels, side, side], the items that gave the contents.
        styles: [C, channels, side, side], the items that gave the styles.
        title: of the plot.
        ax: where to draw.

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
    picture = tile(rows)
    ax.imshow(picture.numpy(), interpolation="nearest")
    height, width = picture.shape[0] / len(rows), picture.shape[1] / (len(styles) + 1)
    ax.axhline(height, color="black", linewidth=0.8)
    ax.axvline(width, color="black", linewidth=0.8)
    ax.set(xticks=[], yticks=[], title=title)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_ylabel("content of", fontsize=9)
    ax.set_xlabel("style of", fontsize=9)
    ax.xaxis.set_label_position("top")
    return ax
