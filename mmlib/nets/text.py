"""The convolutional networks of Sutter et al. 2020, Table 7, for texts of 4, 8, 16, ... symbols; and a judge of texts.

At ``width=1``, 8 symbols and an alphabet of 71 they are the layers of the table. Another length L has log2(L) - 2
convolutions with stride 2, so that the last one always sees four places.

The table says that a ReLU follows every layer. Here, as in the released code, none follows the two heads, whose means
may be negative, nor the last layer of the decoder. That code takes its log-softmax for probabilities, which turns their
order round; this decoder ends in logits, for :class:`mmlib.likelihoods.CategoricalLikelihood`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.checks import whole
from mmlib.modality import Shape
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled

CHANNELS = 128  # of every hidden layer


def fits(shape: Shape) -> bool:
    """Whether these networks take texts of this shape: (length,), and a length of 4, 8, 16, ..."""
    return len(shape) == 1 and shape[0] >= 4 and not shape[0] & (shape[0] - 1)


def halvings(shape: Shape) -> int:
    """How often a text is halved until four places are left.

    Raises:
        ValueError: if it does not fit.
    """
    shape = check_shape(shape)
    if not fits(shape):
        raise ValueError(f"shape is {shape}; expected (length,), a length that is a power of two, at least 4")
    return shape[0].bit_length() - 3


class Trunk(nn.Sequential):
    """Layers 1 to 3 of the encoder: texts, or probabilities of their symbols, to features [B, channels].

    Args:
        shape: (L,).
        symbols: size of the alphabet.
        width: factor on the channels.
    """

    def __init__(self, shape: Shape, symbols: int, width: float):
        channels = scaled(CHANNELS, width)
        layers = [nn.Conv1d(whole("symbols", symbols), channels, 1), nn.ReLU()]
        for _ in range(halvings(shape)):
            layers += [nn.Conv1d(channels, channels, 4, stride=2, padding=1), nn.ReLU()]
        layers += [nn.Conv1d(channels, channels, 4, stride=2), nn.ReLU()]
        super().__init__(*layers, nn.Flatten())
        self.shape, self.symbols = check_shape(shape), whole("symbols", symbols)

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, channels] of texts, int64 [B, L], or of probabilities [B, L, symbols].

        Raises:
            ValueError: if they have another shape.
        """
        if not x.is_floating_point():
            x = F.one_hot(check_items(x, self.shape), self.symbols).to(self[0].weight.dtype)
        return super().forward(check_items(x, (*self.shape, self.symbols)).transpose(1, 2))


class TextEncoder(Encoder):
    """One-hot symbols, a 1-wide convolution, 4-wide ones with stride 2 down to a single place, two linear heads.

    ``symbols`` is the size of the alphabet.
    """

    def __init__(self, shape: Shape = (8,), latent_dim: int = 20, width: float = 1.0, symbols: int = 71):
        super().__init__(latent_dim)
        self.features = Trunk(shape, symbols, width)
        self.shape, self.feature_dim = self.features.shape, scaled(CHANNELS, width)
        self.loc = nn.Linear(self.feature_dim, self.latent_dim)
        self.raw_scale = nn.Linear(self.feature_dim, self.latent_dim)


class TextDecoder(Decoder):
    """A linear layer, transposed convolutions up to the length, and a 1-wide one to a logit for every symbol.

    ``shape`` is that of the logits, (length, size of the alphabet).
    """

    def __init__(
        self, shape: Shape = (8, 71), latent_dim: int = 20, width: float = 1.0, sigmoid: bool = False
    ):
        super().__init__(shape, latent_dim, sigmoid)
        *length, symbols = self.shape
        channels = scaled(CHANNELS, width)
        self.hidden = nn.Linear(self.latent_dim, channels)
        layers = [nn.ConvTranspose1d(channels, channels, 4), nn.ReLU()]
        for _ in range(halvings(length)):
            layers += [nn.ConvTranspose1d(channels, channels, 4, stride=2, padding=1), nn.ReLU()]
        layers.append(nn.ConvTranspose1d(channels, symbols, 1))
        self.convolutions = nn.Sequential(*layers)

    def pixels(self, z: Tensor) -> Tensor:
        """Logits of symbols, [N, L, symbols], of codes [N, D]."""
        hidden = torch.relu(self.hidden(z))[:, :, None]  # [N, channels, 1]
        return self.convolutions(hidden).transpose(1, 2)  # [N, symbols, L] -> [N, L, symbols]


class TextClassifier(nn.Module):
    """The judge of texts: the encoder's layers and one linear head.

    The paper's judge (Table 2) has four residual layers with stride 2, for which eight characters are too few; the
    released code has two. Digits' names at eight places ask for no more than this.

    Args:
        shape: (L,).
        symbols: size of the alphabet.
        classes: number of classes.
        width: factor on the channels.
    """

    def __init__(self, shape: Shape = (8,), symbols: int = 71, classes: int = 10, width: float = 1.0):
        super().__init__()
        self.body = Trunk(shape, symbols, width)
        self.classes = whole("classes", classes)
        self.head = nn.Linear(scaled(CHANNELS, width), self.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits [B, classes] of texts, int64 [B, L], or of the probabilities of their symbols [B, L, symbols].

        Raises:
            ValueError: if they have another shape.
        """
        return self.head(self.body(x))
