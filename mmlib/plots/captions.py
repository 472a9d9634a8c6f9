"""Pictures beside what is said of them."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmlib.files import write_atomically
from mmlib.plots.grids import pixels

SIDE, TEXT, LETTERS = (
    96,
    220,
    34,
)  # pixels of a picture and of the text beside it; letters in a line of the text


def captioned(pictures: Tensor | None, captions: Sequence[str], columns: int = 3) -> Tensor:
    """Pictures with their captions at the right, ``columns`` of them in a row: one picture [H, W, 3] in [0, 1].

    Args:
        pictures: [N, 3, H, W] in [0, 1] or as bytes; None: captions alone.
        captions: N of them.
        columns: pairs in a row.

    Raises:
        ValueError: if there are not as many pictures as captions, or none.
    """
    if not len(captions) or (pictures is not None and len(pictures) != len(captions)):
        found = "no" if pictures is None else len(pictures)
        raise ValueError(
            f"there are {found} pictures and {len(captions)} captions; expected as many, one or more"
        )
    wide, rows = SIDE + TEXT, -(-len(captions) // columns)
    page = Image.new("RGB", (columns * wide, rows * (SIDE + 4)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for n, caption in enumerate(captions):
        left, top = n % columns * wide, n // columns * (SIDE + 4)
        if pictures is not None:
            shown = (pixels("pictures", pictures[n]).permute(1, 2, 0).numpy() * 255).round().astype("uint8")
            page.paste(Image.fromarray(shown).resize((SIDE, SIDE), Image.Resampling.NEAREST), (left, top))
        text = "\n".join(textwrap.wrap(caption.replace(" ,", ","), LETTERS))
        draw.multiline_text((left + SIDE + 6, top + 4), text, fill="black", font=font)
    return torch.from_numpy(np.asarray(page).copy()).float() / 255


def save_captioned(model, judges, path: Path | str, n: int = 12, seed: int = 0, device: str = "cpu") -> Path:
    """Write samples from the prior as a small PNG: captions beside the training pictures nearest to the features."""
    from mmlib.metrics.captions import generated_pair
    from mmlib.seeding import generator

    made = generated_pair(model, n, (), generator(seed, device))
    pictures = None if judges.pictures is None else judges.pictures[judges.nearest(made["image"]).cpu()]
    page = captioned(pictures, judges.read(made["caption"]))
    Image.fromarray((page.numpy() * 255).round().astype("uint8")).save(data := io.BytesIO(), "png")
    return write_atomically(path, data.getvalue())


def save_described(model, path: Path | str, n: int = 12, seed: int = 0, device: str = "cpu") -> Path:
    """Write samples from the prior as a small PNG: faces beside their strings, both as they are generated."""
    from mmlib.data.attributes import FILL
    from mmlib.data.text import decode
    from mmlib.seeding import generator

    made = model.sample(n, generator(seed, device))
    texts = [text.rstrip(FILL) for text in decode(made["text"].argmax(-1).cpu())]
    page = captioned(made["image"].clamp(0, 1), texts)
    Image.fromarray((page.numpy() * 255).round().astype("uint8")).save(data := io.BytesIO(), "png")
    return write_atomically(path, data.getvalue())
