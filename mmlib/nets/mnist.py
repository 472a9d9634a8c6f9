"""The multilayer perceptrons of Shi et al. 2021, Table 3a, for items of any shape.

At ``width=1`` and shape (1, 28, 28) they are the layers of the table: one hidden layer of 400 ReLU units on
either side. The book's 16x16 handwriting uses them as well.
"""

import math

import torch
from torch import Tensor, nn

from mmlib.modality import Shape
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled


class MnistEncoder(Encoder):
    """Flattened item, one hidden ReLU layer of 400 units, two linear heads."""

    def __init__(self, shape: Shape = (1, 28, 28), latent_dim: int = 20, width: float = 1.0):
        super().__init__(latent_dim)
        self.shape = check_shape(shape)
        self.feature_dim = scaled(400, width)
        self.hidden = nn.Linear(math.prod(self.shape), self.feature_dim)
        self.loc = nn.Linear(self.feature_dim, self.latent_dim)
        self.raw_scale = nn.Linear(self.feature_dim, self.latent_dim)

    def features(self, x: Tensor) -> Tensor:
        """Hidden activations [B, feature_dim] of a batch [B, *shape]."""
        return torch.relu(self.hidden(check_items(x, self.shape).flatten(1)))


class MnistDecoder(Decoder):
    """Latent code, one hidden ReLU layer of 400 units, one unit a pixel."""

    def __init__(
        self, shape: Shape = (1, 28, 28), latent_dim: int = 20, width: float = 1.0, sigmoid: bool = True
    ):
        super().__init__(shape, latent_dim, sigmoid)
        self.hidden = nn.Linear(self.latent_dim, scaled(400, width))
        self.output = nn.Linear(self.hidden.out_features, math.prod(self.shape))

    def pixels(self, z: Tensor) -> Tensor:
        """Pixels or their logits [N, *shape] of codes [N, D]."""
        return self.output(torch.relu(self.hidden(z))).unflatten(1, self.shape)
