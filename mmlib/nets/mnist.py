"""The multilayer perceptrons of Shi et al. 2021, Table 3a, for items of any shape.

At ``width=1`` and shape (1, 28, 28) they are the layers of the table: one hidden layer of 400 ReLU units on
either side. The book's 16x16 handwriting uses them as well.
"""

import math

import torch
from torch import Tensor, nn

from mmlib.nets.common import check_items, check_latent_dim, check_shape, scaled


class MnistEncoder(nn.Module):
    """Flattened item, one hidden ReLU layer, two linear heads.

    Args:
        shape: shape of one item; (1, 28, 28) in the paper.
        latent_dim: D.
        width: factor on the 400 hidden units.
    """

    def __init__(self, shape: tuple[int, ...] = (1, 28, 28), latent_dim: int = 20, width: float = 1.0):
        super().__init__()
        self.shape = check_shape(shape)
        self.feature_dim = scaled(400, width)
        self.hidden = nn.Linear(math.prod(self.shape), self.feature_dim)
        self.loc = nn.Linear(self.feature_dim, check_latent_dim(latent_dim))
        self.raw_scale = nn.Linear(self.feature_dim, latent_dim)

    def features(self, x: Tensor) -> Tensor:
        """Hidden activations [B, feature_dim] of a batch [B, *shape].

        Raises:
            ValueError: if the items have another shape.
        """
        return torch.relu(self.hidden(check_items(x, self.shape).flatten(1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Location and unconstrained scale of the posterior, [B, D] each."""
        features = self.features(x)
        return self.loc(features), self.raw_scale(features)


class MnistDecoder(nn.Module):
    """Latent code, one hidden ReLU layer, one unit a pixel.

    Args:
        shape: shape of one item; (1, 28, 28) in the paper.
        latent_dim: D.
        width: factor on the 400 hidden units.
        sigmoid: squash the output to (0, 1) as the table does; False leaves logits (Bernoulli).
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (1, 28, 28),
        latent_dim: int = 20,
        width: float = 1.0,
        sigmoid: bool = True,
    ):
        super().__init__()
        self.shape = check_shape(shape)
        self.latent_dim = check_latent_dim(latent_dim)
        self.sigmoid = sigmoid
        self.hidden = nn.Linear(latent_dim, scaled(400, width))
        self.output = nn.Linear(self.hidden.out_features, math.prod(self.shape))

    def forward(self, z: Tensor) -> Tensor:
        """Likelihood parameters [N, *shape] of codes [N, D].

        Raises:
            ValueError: if ``z`` is not [N, D].
        """
        check_items(z, (self.latent_dim,), "z")
        pixels = self.output(torch.relu(self.hidden(z))).unflatten(1, self.shape)
        return torch.sigmoid(pixels) if self.sigmoid else pixels
