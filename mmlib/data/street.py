"""The *street* modality: digits on house walls, rendered with the fonts that come with matplotlib."""

from __future__ import annotations

from functools import lru_cache
from numbers import Real
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CANVAS = 32  # pixels a side of the finished image
_MARGIN = 2  # drawn around the canvas so that blur has something to look at, then cut off
_GLYPH = 48  # pixels a side of a glyph's square in the atlas
_HEIGHT = 30  # height of a digit in the atlas, pixels
_CHUNK = 1_000

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono",
    "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic",
    "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip
STYLES = {"easy": 0.0, "medium": 0.5, "hard": 1.0}


def style_freedom(style: str | float) -> float:
    """The style knob as a number in [0, 1]; "easy", "medium" and "hard" stand for 0, 0.5 and 1.

    Raises:
        ValueError: for another name or a number outside [0, 1].
    """
    if isinstance(style, str) and style in STYLES:
        return STYLES[style]
    if isinstance(style, Real) and not isinstance(style, bool) and 0.0 <= style <= 1.0:
        return float(style)
    raise ValueError(f"style is {style!r}; expected one of {list(STYLES)} or a number in [0, 1]")


@lru_cache(maxsize=1)
def glyphs() -> tuple[Tensor, Tensor]:
    """Every digit in every font: a soft atlas and the width of each digit.

    Returns:
        float32 ``[fonts, 10, 48, 48]``, ink in [0, 1], slightly blurred so that a level of it is an outline
        (the level sets the weight of the stroke); float32 ``[fonts, 10]``, widths in atlas pixels.
    """
    import matplotlib
    from PIL import Image, ImageDraw, ImageFilter, ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    atlas = np.zeros((len(FONTS), 10, _GLYPH, _GLYPH), np.float32)
    widths = np.zeros((len(FONTS), 10), np.float32)
    scale = 4  # drawn large and reduced, so that outlines are smooth
    for f, name in enumerate(FONTS):
        path = folder / f"{name}.ttf"
        trial = ImageFont.truetype(str(path), 100)
        top, bottom = (trial.getbbox("8")[i] for i in (1, 3))
        font = ImageFont.truetype(str(path), round(100 * scale * _HEIGHT / (bottom - top)))
        for digit in range(10):
            left, top, right, bottom = font.getbbox(str(digit))
            picture = Image.new("L", (_GLYPH * scale, _GLYPH * scale))
            corner = ((_GLYPH * scale - left - right) / 2, (_GLYPH * scale - top - bottom) / 2)
            ImageDraw.Draw(picture).text(corner, str(digit), fill=255, font=font)
            picture = picture.filter(ImageFilter.GaussianBlur(0.9 * scale))
            picture = picture.resize((_GLYPH, _GLYPH), Image.BOX)
            atlas[f, digit] = np.asarray(picture, np.float32) / 255
            widths[f, digit] = (right - left) / scale
    return torch.from_numpy(atlas), torch.from_numpy(widths)


def render(labels: Tensor, freedom: float, generator: torch.Generator) -> Tensor:
    """Renders one house-number image for each label; every image is an independent draw of font and style.

    Drawn at 36x36, cropped to 32x32. What varies at every freedom: font, weight, size, rotation, slant, position,
    neighbours, hues, gradient, plate, shadow, blur, noise. What ``freedom`` (0 to 1) adds: polarity (the share of
    dark-on-light images grows from 0 to 1/2), overlapping ranges of brightness, stronger colours.

    Returns:
        uint8 ``[N, 3, 32, 32]``, with the digits of ``labels`` (int64 ``[N]``) in the middle.
    """
    return torch.cat([_render(part, freedom, generator) for part in labels.split(_CHUNK)])


def _render(labels: Tensor, freedom: float, generator: torch.Generator) -> Tensor:
    n = len(labels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, 1, 1, generator=generator)

    def chance(probability: float) -> Tensor:
        return (torch.rand(n, 1, 1, generator=generator) < probability).float()

    side = torch.arange(CANVAS + 2 * _MARGIN) - (CANVAS + 2 * _MARGIN - 1) / 2
    x, y = side[None, None, :], side[None, :, None]  # pixels from the middle of the canvas
    ink = _number(labels, x, y, uniform, generator)  # [N, 36, 36]

    # Two brightnesses and two hues: wall and digit.
    dark, light = uniform(0.06, 0.40 + 0.15 * freedom), uniform(0.70 - 0.10 * freedom, 1.0)
    swap = chance(0.5 * freedom)
    wall = _colour(dark + swap * (light - dark), uniform(0.0, 0.22 + 0.25 * freedom), uniform(0.0, 6.2832))
    paint = _colour(light + swap * (dark - light), uniform(0.0, 0.12 + 0.35 * freedom), uniform(0.0, 6.2832))

    # The wall: a gradient, and for one image in three the edges of a plate, above and below the number.
    heading, slope = uniform(0.0, 6.2832), uniform(0.0, 0.14)
    gradient = slope * (heading.cos() * x + heading.sin() * y) / (CANVAS / 2)
    edge, tilt = uniform(13.0, 19.0), uniform(-0.1, 0.1)
    outside = chance(0.35) * torch.sigmoid(((y + tilt * x).abs() - edge) * 3.0)
    plate = outside * uniform(-0.18, 0.12)
    shadow = chance(0.5) * uniform(0.2, 0.7) * F.pad(ink, (2, -2, 2, -2))  # right and below
    ground = (wall + (gradient + plate)[:, None]) * (1 - shadow * (1 - ink))[:, None]
    image = ground * (1 - ink[:, None]) + (paint + 0.5 * gradient[:, None]) * ink[:, None]

    # The camera: focus, exposure, grain.
    image = _blur(image, uniform(0.0, 1.0, 1))
    grain = uniform(0.005, 0.05, 1) * torch.randn(image.shape, generator=generator)
    return (image + grain).mul(255).round().clamp(0, 255).byte()


def _number(labels: Tensor, x: Tensor, y: Tensor, uniform, generator: torch.Generator) -> Tensor:
    """The digit and its neighbours, one font and one transform for all: ink in [0, 1], ``[N, 36, 36]``."""
    n = len(labels)
    atlas, widths = glyphs()
    font = torch.randint(len(FONTS), (n,), generator=generator)
    angle, slant, size = uniform(-0.17, 0.17), uniform(-0.15, 0.15), uniform(18.0, 25.0) / _HEIGHT
    stretch = uniform(0.85, 1.15)
    px, py = x - uniform(-2.0, 2.0), y - uniform(-2.0, 2.0)
    u = (angle.cos() * px + angle.sin() * py) / (size * stretch)
    v = (angle.cos() * py - angle.sin() * px) / size
    u = u + slant * v  # [N, 36, 36], atlas pixels from the middle of the digit
    ink = _look_up(atlas, font, labels, u, v)
    gap = uniform(2.0, 7.0)
    for side in (-1.0, 1.0):
        neighbour = torch.randint(10, (n,), generator=generator)
        present = (torch.rand(n, 1, 1, generator=generator) < 0.6).float()
        step = (widths[font, labels] + widths[font, neighbour])[:, None, None] / 2 + gap
        ink = torch.maximum(ink, present * _look_up(atlas, font, neighbour, u - side * step, v))
    # The level that counts as outline sets the stroke's weight; thin fonts are never cut thinner.
    return torch.sigmoid((ink - uniform(0.25, 0.45)) * 10.0)


def _look_up(atlas: Tensor, font: Tensor, digit: Tensor, u: Tensor, v: Tensor) -> Tensor:
    grid = torch.stack([u, v], dim=-1) / (_GLYPH / 2)
    return F.grid_sample(atlas[font, digit][:, None], grid, mode="bilinear", align_corners=False)[:, 0]


def _colour(brightness: Tensor, strength: Tensor, hue: Tensor) -> Tensor:
    """RGB ``[N, 3, 1, 1]`` of the given brightness: three cosines that sum to zero carry the hue."""
    thirds = torch.arange(3)[None, :, None, None] * 2.0944
    return brightness[:, None] + strength[:, None] * (hue[:, None] + thirds).cos()


def _blur(image: Tensor, amount: Tensor) -> Tensor:
    """Mixes each image with its blurred self ([1, 4, 6, 4, 1] / 16 both ways), cutting off 2 pixels at each side.

    ``amount`` 0 keeps the image, 1 blurs it.
    """
    soft = image
    # sums of neighbours, four times each way: the binomial kernel, far faster than a convolution
    for _ in range(4):
        soft = soft[..., :-1] + soft[..., 1:]
    for _ in range(4):
        soft = soft[..., :-1, :] + soft[..., 1:, :]
    return torch.lerp(image[..., 2:-2, 2:-2], soft / 256, amount)
