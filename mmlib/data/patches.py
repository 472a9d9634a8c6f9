"""Features of pictures without training: how much of a picture, and where, looks like patches of other pictures.

The extractor of the embedded birds, in the place of a network that was trained on a million photographs. Its filters
are 64 patches of 4x4 pixels, cut at random from training pictures and whitened, so that they answer to colours and
edges in place of brightness; a ReLU; the maximum over each of 4x4 fields; the mean over the picture and its mirror
image, since which side a bird faces is not to matter; principal components, each scaled to a variance of 1.

Source: Coates, Ng and Lee 2011, "An analysis of single-layer networks in unsupervised feature learning": filters drawn
from the data do nearly as well as learned ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FILTERS, PATCH, FIELDS = 64, 4, 4
SIDE = 32  # pixels a side of what the filters see
PICTURES, SEEN = (
    400,
    4_000,
)  # the first so many pictures give so many patches, from which whitening is learned
RIDGE = 0.003  # added to the variances, in squares of pixels in [0, 1]: noise is not whitened


@dataclass(frozen=True)
class PatchFeatures:
    """Filters, what they are compared with, and the rotation of what they answer.

    Args:
        filters: ``[64, 3, 4, 4]``.
        bias: ``[64]``.
        mean: ``[1024]``, of the answers.
        components: ``[1024, F]``: principal directions; of training pictures each feature has variance 1.
    """

    filters: Tensor
    bias: Tensor
    mean: Tensor
    components: Tensor

    @classmethod
    def fit(cls, pictures: Tensor, features: int, generator: torch.Generator) -> PatchFeatures:
        """Everything from training pictures, uint8 ``[N, 3, 32, 32]``."""
        patches = F.unfold(pictures[:PICTURES].float() / 255, PATCH).transpose(1, 2).flatten(0, 1)
        patches = patches[torch.randperm(len(patches), generator=generator)[:SEEN]]
        mean = patches.mean(0)
        variances, axes = torch.linalg.eigh(torch.cov(patches.T))
        whitening = axes * (variances + RIDGE).rsqrt() @ axes.T
        chosen = F.normalize((patches - mean)[:FILTERS] @ whitening, dim=1) @ whitening
        filters, bias = chosen.unflatten(1, (3, PATCH, PATCH)), -(chosen @ mean)
        answers = _answers(pictures, filters, bias)
        centre = answers.mean(0)
        variances, axes = torch.linalg.eigh(torch.cov(answers.T))
        components = axes[:, -features:] * variances[-features:].rsqrt()
        largest = components.gather(0, components.abs().argmax(0, keepdim=True))
        return cls(
            filters, bias, centre, (components * largest.sign()).flip(1)
        )  # an axis has no sign of its own

    def __call__(self, pictures: Tensor) -> Tensor:
        """Features float32 ``[N, F]`` of pictures, uint8 ``[N, 3, 32, 32]``."""
        return (_answers(pictures, self.filters, self.bias) - self.mean) @ self.components


def _answers(pictures: Tensor, filters: Tensor, bias: Tensor) -> Tensor:
    """What the filters answer, [N, 1024], over a picture and its mirror image."""

    def once(x: Tensor) -> Tensor:
        return F.adaptive_max_pool2d(torch.relu(F.conv2d(x, filters, bias)), FIELDS).flatten(1)

    parts = (part.float() / 255 for part in pictures.split(250))
    return torch.cat([(once(x) + once(x.flip(-1))) / 2 for x in parts])
