"""Plain networks, for data that no paper has a table for: perceptrons of any depth for numbers and for symbols.

In both ``hidden`` holds the units of the hidden ReLU layers, before the width factor: as many layers as it has entries,
none too. A decoder of symbols is a `PlainDecoder` of their logits, of shape (*shape, classes).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.checks import sizes, whole
from mmlib.modality import Shape
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled


def hidden_layers(inputs: int, hidden: Sequence[int], width: float) -> tuple[nn.Sequential, int]:
    """Linear layers with a ReLU after each, [N, inputs] to [N, units of the last], and these units."""
    units = [inputs, *(scaled(layer, width) for layer in sizes("hidden", hidden))]
    layers = [layer for before, after in pairwise(units) for layer in (nn.Linear(before, after), nn.ReLU())]
    return nn.Sequential(*layers), units[-1]


class PlainEncoder(Encoder):
    """Flattened item, hidden layers, two linear heads: for vectors, and whatever else is made of numbers."""

    def __init__(
        self, shape: Shape, latent_dim: int = 20, width: float = 1.0, hidden: Sequence[int] = (400,)
    ):
        super().__init__(latent_dim)
        self.shape = check_shape(shape)
        self.hidden, self.feature_dim = hidden_layers(math.prod(self.shape), hidden, width)
        self.loc = nn.Linear(self.feature_dim, self.latent_dim)
        self.raw_scale = nn.Linear(self.feature_dim, self.latent_dim)

    def features(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer, [B, feature_dim], of a batch [B, *shape]; integers may be counts."""
        return self.hidden(check_items(x, self.shape).flatten(1).to(next(self.parameters()).dtype))


class SymbolEncoder(PlainEncoder):
    """As `PlainEncoder`, of the one-hot vectors of symbols 0 .. classes - 1: one (shape ()) or any number of them.

    The first layer of a perceptron that sees one-hot vectors is an embedding for each place.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        latent_dim: int = 20,
        width: float = 1.0,
        hidden: Sequence[int] = (400,),
    ):
        super().__init__((*sizes("shape", shape), whole("classes", classes)), latent_dim, width, hidden)

    def features(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer, [B, feature_dim], of symbols, int64 [B, *shape]."""
        *shape, classes = self.shape
        return super().features(F.one_hot(check_items(x, tuple(shape)), classes))


class PlainDecoder(Decoder):
    """Latent code, hidden layers, one number for each of the item's: any number, unless there is a sigmoid."""

    def __init__(
        self,
        shape: Shape,
        latent_dim: int = 20,
        width: float = 1.0,
        sigmoid: bool = False,
        hidden: Sequence[int] = (400,),
    ):
        super().__init__(shape, latent_dim, sigmoid)
        self.hidden, units = hidden_layers(self.latent_dim, hidden, width)
        self.output = nn.Linear(units, math.prod(self.shape))

    def pixels(self, z: Tensor) -> Tensor:
        """Numbers, or the logits of pixels or symbols, [N, *shape], of codes [N, D]."""
        return self.output(self.hidden(z)).unflatten(1, self.shape)
