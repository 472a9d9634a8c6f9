"""Grids of images: samples, and what a model makes of one modality when it is shown another."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mmlib.plots.style import WIDTH


def to_image(x: Tensor) -> Tensor:
    """Pixels of one item, [C, H, W] or [H, W] in [0, 1], as [H, W, 3] for matplotlib.

    Raises:
        ValueError: if the shape is not that of a grey or colour image.
    """
    x = x.detach().cpu().float().clamp(0, 1)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[0] not in (1, 3):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (1, H, W), (3, H, W) or (H, W)")
    return x.expand(3, -1, -1).permute(1, 2, 0)


def tile(rows: Sequence[Tensor], gap: int = 2, side: int | None = None) -> Tensor:
    """Rows of images, each [N, C, H, W] in [0, 1], as one picture [H', W', 3].

    Args:
        rows: the images.
        gap: white pixels between them.
        side: pixels a side of every image in the picture; default: as many as the largest has.

    Raises:
        ValueError: if there is no row, or rows differ in length.
    """
    counts = {len(row) for row in rows}
    if len(counts) != 1:
        raise ValueError(
            f"rows have {[len(row) for row in rows]} images; expected at least one row, all of one length"
        )
    side = side or max(max(row.shape[-2:]) for row in rows)
    drawn = []
    for row in rows:
        images = row.detach().cpu().float().clamp(0, 1).expand(-1, 3, -1, -1)
        images = torch.nn.functional.interpolate(images, size=(side, side), mode="nearest")
        images = torch.nn.functional.pad(images, (gap, 0, gap, 0), value=1.0)
        drawn.append(torch.cat(list(images), dim=2))
    picture = torch.cat(drawn, dim=1)
    return torch.nn.functional.pad(picture, (0, gap, 0, gap), value=1.0).permute(1, 2, 0)


def image_grid(
    rows: Mapping[str, Tensor] | Sequence[Tensor],
    columns: Sequence[str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Rows of images with their labels.

    Args:
        rows: label -> images [N, C, H, W] in [0, 1]; or only the images. A label is shown once for the rows that
            share it, up to blanks.
        columns: labels above the columns, N of them.
        title: of the whole grid.
        ax: where to draw; default: a new figure.
    """
    labels = [label.strip() for label in rows] if isinstance(rows, Mapping) else [""] * len(rows)
    labels = [label if label != above else "" for above, label in zip([None, *labels], labels, strict=False)]
    images = list(rows.values()) if isinstance(rows, Mapping) else list(rows)
    picture = tile(images)
    n, height, width = len(images[0]), picture.shape[0], picture.shape[1]
    if ax is None:
        ax = _axes(len(images), n, margin=max(1.1, 0.075 * max(map(len, labels))))
    ax.imshow(picture.numpy(), interpolation="nearest")
    cell_height, cell_width = height / len(images), width / n
    ax.set_yticks([(i + 0.5) * cell_height for i in range(len(images))], labels)
    ax.set_xticks(
        [(i + 0.5) * cell_width for i in range(n)] if columns else [], list(columns) if columns else []
    )
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    ax.set_anchor("W")
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title:
        ax.set_title(title, loc="left")
    return ax


def _axes(rows: int, columns: int, margin: float) -> Axes:
    """Axes of a new figure whose images have one size and begin at one place, whatever their labels."""
    import matplotlib.pyplot as plt

    cell = min(0.52, (WIDTH - margin) / columns)
    width, height = margin + cell * columns, cell * rows + 0.45
    figure = plt.figure(figsize=(width, height))
    figure.set_layout_engine("none")
    return figure.add_axes((margin / width, 0.05 / height, 1 - margin / width, cell * rows / height))


def sample_grid(
    model, n: int = 12, generator: torch.Generator | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draws from the prior: one column a code, one row a modality; the columns of a coherent model agree."""
    return image_grid(model.sample(n, generator), title=title, ax=ax)


def generation_grid(
    model,
    batch: Mapping[str, Tensor],
    given: str,
    n_draws: int = 3,
    generator: torch.Generator | None = None,
    show_given: bool = True,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """What the model generates when it sees one modality: the items given above, draws of every other modality below.

    Args:
        model: any model with ``modalities`` and ``generate``.
        batch: tensors [N, C, H, W] by modality name, the items in the order shown.
        given: modality that the model sees.
        n_draws: rows of draws for each other modality.
        generator: source of the draws.
        show_given: draw the items given; False for data that must not be shown.
        title: of the grid.
        ax: where to draw.
    """
    others = [name for name in model.modalities if name != given]
    rows = {f"given: {given}": batch[given]} if show_given else {}
    draws = [
        model.generate({given: batch[given]}, given=[given], to=others, generator=generator)
        for _ in range(n_draws)
    ]
    rows |= {f"{name}{' ' * i}": draw[name] for name in others for i, draw in enumerate(draws)}
    return image_grid(rows, title=title, ax=ax)


def save_samples(model, path: Path | str, n: int = 12, seed: int = 0, device: str = "cpu") -> Path:
    """Write samples from the prior as a small PNG: what a recorded run shows of itself."""
    from mmlib.seeding import generator

    picture = tile(list(model.sample(n, generator(seed, device)).values()), side=64)
    figure = Figure(figsize=(picture.shape[1] / 100, picture.shape[0] / 100), dpi=100)
    figure.figimage((picture.numpy() * 255).round().astype("uint8"), resize=True)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return Path(path)
