"""Grids of images and texts: samples, and what a model makes of one modality when it is shown another."""

import io
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from mmlib.checks import kind, whole
from mmlib.data.text import ALPHABET
from mmlib.files import write_atomically
from mmlib.plots.style import WIDTH

PAGE = 128  # pixels a side of a text beside images


def pixels(name: str, images: Tensor) -> Tensor:
    """Images [..., C, H, W] as three colours in [0, 1], float32 [..., 3, H, W] on the CPU; bytes count from 0 to 255.

    Raises:
        ValueError: if they are no grey or colour images, or a number is not within [0, 1].
    """
    if isinstance(images, Tensor | np.ndarray):
        images = torch.as_tensor(images).detach().cpu()
    known = isinstance(images, Tensor) and images.ndim >= 3 and images.numel()
    if not known or images.shape[-3] not in (1, 3):
        raise ValueError(f"{name} is {kind(images)}; expected images [..., C, H, W], C = 1 or 3, to draw")
    if images.dtype == torch.uint8:
        images = images / 255
    images = images.float()
    low, high = images.aminmax()
    if not -1e-3 <= low <= high <= 1 + 1e-3:  # or NaN
        expected = "pixels in [0, 1], or bytes (torch.uint8)"
        raise ValueError(f"{name} goes from {low:g} to {high:g}; expected {expected}")
    return images.clamp(0, 1).expand(*images.shape[:-3], 3, -1, -1)


def to_image(x: Tensor) -> Tensor:
    """Pixels of one item, [C, H, W] or [H, W] in [0, 1] or as bytes, as [H, W, 3] for matplotlib.

    Raises:
        ValueError: as :func:`pixels`.
    """
    x = pixels("x", x[None] if getattr(x, "ndim", None) == 2 else x)
    if x.ndim != 3:
        raise ValueError(f"x is {kind(x)}; expected one image, (1, H, W), (3, H, W) or (H, W)")
    return x.permute(1, 2, 0)


def is_text(row: object) -> bool:
    """Whether a row holds texts of `mmlib.data.text`: symbols, int64 [N, L], or their probabilities [N, L, 71]."""
    if not isinstance(row, Tensor) or not row.numel():
        return False
    if row.is_floating_point():
        return row.ndim == 3 and row.shape[-1] == len(ALPHABET)
    return (
        row.ndim == 2 and row.dtype == torch.int64 and 0 <= int(row.min()) <= int(row.max()) < len(ALPHABET)
    )


@lru_cache(maxsize=4)
def _glyphs(width: int) -> Tensor:
    """Every character of the alphabet, ``width`` pixels wide and twice as high: ink in [0, 1], [71, 2 width, width]."""
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSansMono.ttf")
    font = ImageFont.truetype(str(path), width / 0.602)  # that share of its size is a character wide
    drawn = []
    for character in ALPHABET:
        picture = Image.new("L", (width, 2 * width))
        ImageDraw.Draw(picture).text((0, width), character.strip(), fill=255, font=font, anchor="lm")
        drawn.append(np.asarray(picture, np.float32) / 255)
    return torch.from_numpy(np.stack(drawn))


def written(text: Tensor, side: int = PAGE) -> Tensor:
    """Texts as images [N, 1, side, side], at least eight characters a line, dark on a light page.

    Probabilities, such as a decoder's likelihood has for its mean, are drawn as the mean of what they may mean: where a
    decoder is unsure, letters are faint and lie on top of each other.

    Args:
        text: symbols, int64 [N, L], or their probabilities [N, L, 71].
        side: pixels a side.
    """
    text = text.detach().cpu()
    text = text.float() if text.is_floating_point() else F.one_hot(text, len(ALPHABET)).float()
    n, length, _ = text.shape
    columns = 8
    while math.ceil(length / columns) * 2 * (side // columns) > side:  # too many lines
        columns *= 2
    width, lines = max(1, side // columns), math.ceil(length / columns)
    ink = torch.einsum("nls,shw->nlhw", text, _glyphs(width))
    ink = F.pad(ink, (0, 0, 0, 0, 0, lines * columns - length)).unflatten(1, (lines, columns))
    page = torch.zeros(n, side, side)
    top, left = (side - lines * 2 * width) // 2, (side - columns * width) // 2
    block = ink.permute(0, 1, 3, 2, 4).reshape(n, lines * 2 * width, columns * width)
    page[:, top : top + block.shape[1], left : left + block.shape[2]] = block
    return 0.9 * (1 - page.clamp(0, 1))[:, None]


def tile(rows: Mapping[str, Tensor] | Sequence[Tensor], gap: int = 2, side: int | None = None) -> Tensor:
    """Rows of images, each [N, C, H, W] in [0, 1] or as bytes, or of texts, as one picture [H', W', 3].

    Messages use their labels.

    Between them are ``gap`` white pixels; every item gets ``side`` pixels a side, default as many as the largest image
    has, or 128 where a row holds texts (see :func:`written`).

    Raises:
        ValueError: as :func:`pixels`; if there is no row, or rows differ in length.
    """
    named = rows if isinstance(rows, Mapping) else {f"row {i}": row for i, row in enumerate(rows)}
    if side is not None or any(map(is_text, named.values())):
        side = PAGE if side is None else whole("side", side)
    drawn = {name: written(row, side) if is_text(row) else row for name, row in named.items()}
    rows = [pixels(name, row) for name, row in drawn.items()]
    if len({len(row) for row in rows}) != 1 or any(row.ndim != 4 for row in rows):
        shapes = ", ".join(str(tuple(row.shape)) for row in rows) or "none"
        raise ValueError(f"rows have shapes {shapes}; expected one or more, all [N, C, H, W] of the same N")
    gap = whole("gap", gap, 0)
    side = max(max(row.shape[-2:]) for row in rows) if side is None else side
    drawn = []
    for row in rows:
        images = F.interpolate(row, size=(side, side), mode="nearest")
        images = F.pad(images, (gap, 0, gap, 0), value=1.0)
        drawn.append(torch.cat(list(images), dim=2))
    picture = torch.cat(drawn, dim=1)
    return F.pad(picture, (0, gap, 0, gap), value=1.0).permute(1, 2, 0)


def image_grid(
    rows: Mapping[str, Tensor] | Sequence[Tensor],
    columns: Sequence[str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Rows of images with their labels: label -> images [N, C, H, W] in [0, 1] or as bytes; or only the images.

    A row may hold texts instead, see :func:`written`.
    A label is shown once for the rows that share it, up to blanks; ``columns`` are N labels above.
    """
    labels = [label.strip() for label in rows] if isinstance(rows, Mapping) else [""] * len(rows)
    labels = [label if label != above else "" for above, label in zip([None, *labels], labels, strict=False)]
    images = list(rows.values()) if isinstance(rows, Mapping) else list(rows)
    picture = tile(rows)
    n, height, width = len(images[0]), picture.shape[0], picture.shape[1]
    if ax is None:
        ax = _axes(len(images), n, margin=max(1.1, 0.075 * max(map(len, labels))))
    ax.imshow(picture.numpy(), interpolation="antialiased" if any(map(is_text, images)) else "nearest")
    cell_height, cell_width = height / len(images), width / n
    ax.set_yticks([(i + 0.5) * cell_height for i in range(len(images))], labels)
    columns = list(columns or [])
    ax.set_xticks([(i + 0.5) * cell_width for i in range(n if columns else 0)], columns)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    ax.set_anchor("W")
    ax.spines[:].set_visible(False)
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


def sample_grid(model, n: int, generator: torch.Generator | None = None) -> Axes:
    """Draws from the prior: one column a code, one row a modality; the columns of a coherent model agree."""
    return image_grid(model.sample(n, generator))


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

    ``batch`` holds tensors [N, *shape] by modality name, of which the model sees ``given``; each other modality gets
    ``n_draws`` rows. ``show_given=False`` leaves out the items given, for data that must not be shown.
    """
    others = [name for name in model.modalities if name != given]
    seen = {given: batch[given]}
    rows = {f"given: {given}": batch[given]} if show_given else {}
    draws = [model.generate(seen, given=[given], to=others, generator=generator) for _ in range(n_draws)]
    rows |= {f"{name}{' ' * i}": draw[name] for name in others for i, draw in enumerate(draws)}
    return image_grid(rows, title=title, ax=ax)


def save_samples(model, path: Path | str, n: int = 12, seed: int = 0, device: str = "cpu") -> Path:
    """Write samples from the prior as a small PNG: what a recorded run shows of itself."""
    from mmlib.seeding import generator

    picture = tile(model.sample(n, generator(seed, device)), side=64)
    Image.fromarray((picture.numpy() * 255).round().astype("uint8")).save(data := io.BytesIO(), "png")
    return write_atomically(path, data.getvalue())
