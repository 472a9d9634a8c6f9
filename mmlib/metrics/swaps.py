"""Content of one item, style of another: what the image takes from which, as numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mmlib.checks import whole
from mmlib.metrics.classifiers import Classifiers, check_judges
from mmlib.metrics.split import device_of, whole_rows


@torch.no_grad()
def swap(
    model,
    contents: Tensor,
    styles: Tensor,
    content_of: str,
    to: str,
    mean: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Every content with every style: images [R, C, *shape] of the modality ``to``.

    ``model`` has ``encode(name, x)``, a normal over [style, content], whose styles have the sizes ``style_dims`` by
    name. The contents [R, *shape], a row each, are items of the modality ``content_of``, the same as ``to`` or another;
    the styles [C, *shape], a column each, of ``to``. Codes are posterior means, with ``mean=False`` draws.
    """
    found = [model.encode(content_of, contents), model.encode(to, styles)]
    content, style = (q.loc if mean else q.rsample(1, generator)[0] for q in found)
    content, style = content[:, model.style_dims[content_of] :], style[:, : model.style_dims[to]]
    rows, columns = len(content), len(style)
    code = torch.cat([style.expand(rows, -1, -1), content[:, None].expand(-1, columns, -1)], -1)
    modality = model.modalities[to]
    return modality.likelihood.mean(modality.decode(code))


def shares(values: Tensor) -> dict[str, float]:
    """How much of the variance of a table [R, C] belongs to its rows, to its columns, and to neither: sums to 1.

    The usual two-way split: variance of the row means, of the column means, and of what is left of each entry.

    Raises:
        ValueError: if the table has fewer than two rows or columns, or does not vary.
    """
    if values.ndim != 2 or min(values.shape) < 2:
        raise ValueError(f"values has shape {tuple(values.shape)}; expected [R, C], at least two of each")
    away = values.double() - values.double().mean()
    total = away.square().mean()
    if not total > 0:
        raise ValueError("values are all the same; expected a table that varies")
    rows, columns = away.mean(1, keepdim=True), away.mean(0, keepdim=True)
    parts = {"rows": rows, "columns": columns, "rest": away - rows - columns}
    return {name: float(part.square().mean() / total) for name, part in parts.items()}


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson correlation of two lists of numbers [N]; NaN where one does not vary."""
    return float(torch.stack([first, second]).double().corrcoef()[0, 1])


def brightness(images: Tensor) -> Tensor:
    """Mean of all pixels and channels of images [..., C, H, W]: [...]."""
    return images.mean((-3, -2, -1))


def warmth(images: Tensor) -> Tensor:
    """Mean red minus mean blue of colour images [..., 3, H, W]: [...]."""
    return (images[..., 0, :, :] - images[..., 2, :, :]).mean((-2, -1))


def slant(images: Tensor) -> Tensor:
    """How far the ink of bright digits leans to the right, columns for each row upwards: [..., C, H, W] to [...].

    The slope of the regression of the ink's horizontal on its vertical position.
    """
    ink = images.mean(-3)
    height, width = ink.shape[-2:]
    y = torch.arange(height, 0, -1, dtype=ink.dtype, device=ink.device)[:, None].expand(height, width)
    x = torch.arange(width, dtype=ink.dtype, device=ink.device).expand(height, width)
    total = ink.sum((-2, -1)).clamp_min(1e-9)
    middle = [(ink * position).sum((-2, -1)) / total for position in (x, y)]
    dx, dy = (position - at[..., None, None] for position, at in zip((x, y), middle, strict=True))
    return (ink * dx * dy).sum((-2, -1)) / (ink * dy.square()).sum((-2, -1)).clamp_min(1e-9)


@torch.no_grad()
def swap_scores(
    model,
    split,
    classifiers: Classifiers,
    content_of: str,
    to: str,
    statistics: Mapping[str, Callable[[Tensor], Tensor]],
    rows: int = 100,
    columns: int = 100,
) -> dict:
    """What decides about an image, the content of one item or the style of another, on the first whole rows of a split.

    The contents of ``rows`` items meet the styles of the ``columns`` next ones, as in :func:`swap`, so that no item
    meets itself. ``statistics`` are name -> function of images: what of the look is measured.

    Returns:
        ``{"class": {"content", "style"}, name: {"rows", "columns", "rest", "correlation"}}``. For the class: the share
        of images whose class is that of the content's item, and that of the style's item, where the two differ. For a
        statistic: :func:`shares` of its variance, and its Pearson correlation with that of the style's own image.

    Raises:
        ValueError: if there are too few rows, or no judge.
    """
    device, _ = device_of(model), check_judges(classifiers, [to])
    rows, columns = whole("rows", rows), whole("columns", columns)
    among = whole_rows(split, [content_of, to])[: rows + columns]
    if len(among) < rows + columns:
        expected = f"at most {len(among)}, the rows that observe {content_of} and {to}"
        raise ValueError(f"rows and columns are {rows + columns} together; expected {expected}")
    first, then = among.tensor_split([rows])
    donors = split.batch(then, device)[to]
    images = swap(model, split.batch(first, device)[content_of], donors, content_of, to)
    seen = classifiers.predict(to, images.flatten(0, 1)).unflatten(0, (rows, columns)).cpu()
    of_content, of_style = split.labels[first].cpu()[:, None], split.labels[then].cpu()[None]
    differ = of_content != of_style
    scores: dict = {
        "class": {
            "content": float((seen == of_content)[differ].double().mean()),
            "style": float((seen == of_style)[differ].double().mean()),
        }
    }
    for name, measure in statistics.items():
        table = measure(images).cpu()
        own = measure(donors).cpu().expand_as(table)
        scores[name] = {**shares(table), "correlation": correlation(table.flatten(), own.flatten())}
    return scores
