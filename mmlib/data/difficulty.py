"""How much of an image its class can explain: what makes one modality hard to generate from another."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmlib.checks import positive

from .core import Items


class Guesses(NamedTuple):
    """Nats that an average image is short of a perfect guess, for guesses that know more and more."""

    constant: float  # the best single image for all
    given_class: float  # the best image for each class

    @property
    def gain(self) -> float:
        """What knowing the class wins, in nats for one image."""
        return self.constant - self.given_class


def median_images(items: Items) -> tuple[Tensor, Tensor]:
    """The best guesses under a Laplace likelihood: the median of every pixel.

    Returns:
        float32 ``[C, H, W]`` in [0, 1], the median of all images; ``[classes, C, H, W]``, of each class.
    """
    images = items.batch()
    classes = torch.stack([images[items.labels == digit].median(0).values for digit in items.labels.unique()])
    return images.median(0).values, classes


def guesses(train: Items, test: Items, scale: float = 0.75) -> Guesses:
    """Scores the best constant guesses of ``train`` on the images of ``test``.

    A Laplace likelihood with scale b charges |x - guess| / b nats a pixel on top of its constant log 2b. The median is
    the cheapest guess. An image's cost under one median for all, less its cost under the median of its class, is what
    a decoder can win at most by drawing one image a class; the rest is private to the image. ``test`` shows the classes
    of ``train``.

    Raises:
        ValueError: when ``scale`` is not positive or the classes differ.
    """
    scale = positive("scale", scale)
    classes = train.labels.unique()
    if not torch.equal(classes, test.labels.unique()):
        found = test.labels.unique().tolist()
        raise ValueError(f"test has classes {found}; expected {classes.tolist()} as in train")
    overall, by_class = median_images(train)
    images = test.batch()
    own = by_class[torch.searchsorted(classes, test.labels)]
    cost = [float((images - guess).abs().flatten(1).sum(1).mean()) / scale for guess in (overall, own)]
    return Guesses(*cost)
