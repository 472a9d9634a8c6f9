"""The networks of Shi et al. 2021, Tables 3c, 3d and 4b, for features of images and for captions of any size.

At ``width=1``, 2,048 features, 32 words and an embedding of 128 they are the layers of the tables: of features a
perceptron of three ELU layers; of captions a matrix of word vectors, 32 x 128, that convolutions read like an image.
Rows are halved until four are left, columns five times; an embedding of another power of two is halved until four
columns are left. (Joy et al. 2022, Table 8d, prints 256, of which a head of 4x4 leaves five columns; Table 4b prints
such a head where the map is 4x6: see the errata.) In the released code the first layer of the decoder is normalised
too, and the last matrix is that of the encoder's embedding; here, as printed, the first is not, and the decoder has a
matrix of its own.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, per_name, whole
from mmlib.modality import Batch, Shape
from mmlib.nets.choice import described
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled
from mmlib.nets.joint import check_complete
from mmlib.nets.plain import PlainDecoder, SymbolEncoder

UNITS = (1024, 512, 256)  # of the hidden layers between features and code
EMBEDDING = 128


def elu_layers(sizes: list[int]) -> nn.Sequential:
    """Linear layers of these sizes, an ELU after each."""
    layers = [layer for i, o in pairwise(sizes) for layer in (nn.Linear(i, o), nn.ELU())]
    return nn.Sequential(*layers)


class FeatureEncoder(Encoder):
    """Three hidden ELU layers of 1024, 512 and 256 units, two linear heads (Table 3c)."""

    def __init__(self, shape: Shape = (2048,), latent_dim: int = 64, width: float = 1.0):
        super().__init__(latent_dim)
        (inputs,) = self.shape = vector(shape)
        units = [scaled(n, width) for n in UNITS]
        self.feature_dim = units[-1]
        self.hidden = elu_layers([inputs, *units])
        self.loc, self.raw_scale = (nn.Linear(units[-1], self.latent_dim) for _ in range(2))

    def features(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer, [B, feature_dim], of features [B, F]."""
        return self.hidden(check_items(x, self.shape))


class FeatureDecoder(Decoder):
    """Three hidden ELU layers of 256, 512 and 1024 units, and a number for each feature (Table 3c)."""

    def __init__(
        self, shape: Shape = (2048,), latent_dim: int = 64, width: float = 1.0, sigmoid: bool = False
    ):
        super().__init__(vector(shape), latent_dim, sigmoid)
        units = [scaled(n, width) for n in reversed(UNITS)]
        self.hidden = elu_layers([self.latent_dim, *units])
        self.output = nn.Linear(units[-1], *self.shape)

    def pixels(self, z: Tensor) -> Tensor:
        """Features [N, F] of codes [N, D]."""
        return self.output(self.hidden(z))


class CaptionEncoder(Encoder):
    """Word vectors as an image, convolutions that halve it down to a map of 4x4, two heads of its size (Table 3d).

    Args:
        shape: (L,), a length of 4, 8, 16, ... words.
        latent_dim: size of the code.
        width: factor on the channels.
        symbols: size of the vocabulary.
        embedding: numbers of a word: a power of two, at least L.
        norm: normalise by the batch, as printed: then a model has to be in training mode while it is trained, and in
            evaluation mode after.
    """

    def __init__(
        self,
        shape: Shape = (32,),
        latent_dim: int = 64,
        width: float = 1.0,
        symbols: int = 1590,
        embedding: int = EMBEDDING,
        norm: bool = True,
    ):
        super().__init__(latent_dim)
        self.shape = check_shape(shape)
        embedding = whole("embedding", embedding)
        plan = halvings(self.shape, embedding)
        self.embedding = nn.Embedding(whole("symbols", symbols), embedding)
        self.convolutions, channels = halving_convolutions(plan, width, norm)
        self.feature_dim = 16 * channels
        self.loc, self.raw_scale = (nn.Conv2d(channels, self.latent_dim, 4) for _ in range(2))

    def features(self, x: Tensor) -> Tensor:
        """The last map, [B, channels, 4, 4], of symbols, int64 [B, L]."""
        return self.convolutions(self.embedding(check_items(x, self.shape))[:, None])


class CaptionDecoder(Decoder):
    """The encoder's way back: a map of 4x4, doubled up to a vector for each word, a linear layer to logits (Table 3d).

    ``shape`` is that of the logits, (L, size of the vocabulary); ``embedding`` and ``norm`` are as in `CaptionEncoder`.
    """

    def __init__(
        self,
        shape: Shape = (32, 1590),
        latent_dim: int = 64,
        width: float = 1.0,
        sigmoid: bool = False,
        embedding: int = EMBEDDING,
        norm: bool = True,
    ):
        super().__init__(shape, latent_dim, sigmoid)
        *length, symbols = self.shape
        embedding = whole("embedding", embedding)
        plan = halvings(tuple(length), embedding)[::-1]
        channels = [*(scaled(32 * 2**i, width) for i in reversed(range(len(plan)))), 1]
        one_of("norm", norm, (True, False))
        layers: list[nn.Module] = [nn.ConvTranspose2d(self.latent_dim, channels[0], 4), nn.ReLU()]
        for level, both in enumerate(plan, start=1):
            before, after = channels[level - 1 : level + 1]
            kernel = {"kernel_size": 4, "stride": 2, "padding": 1}
            if not both:
                kernel = {"kernel_size": (1, 4), "stride": (1, 2), "padding": (0, 1)}
            layers.append(nn.ConvTranspose2d(before, after, **kernel))
            layers += [nn.BatchNorm2d(after)] if norm and level < len(plan) else []
            layers.append(nn.ReLU())
        self.convolutions = nn.Sequential(*layers)
        self.output = nn.Linear(embedding, symbols)

    def pixels(self, z: Tensor) -> Tensor:
        """Logits of symbols, [N, L, symbols], of codes [N, D]."""
        return self.output(self.convolutions(z[:, :, None, None])[:, 0])


class CaptionJointEncoder(Encoder):
    """Word vectors and features side by side through one stack of convolutions (Table 4b).

    F features become a matrix of as many rows as the caption has words, at the right of the word vectors: 32 x 64
    beside 32 x 128. Both heads have the size of the last map, 4x6.

    Args:
        data: a data set with one vector and one modality of symbols.
        latent_dim, width, embedding, norm: as in `CaptionEncoder`.

    Raises:
        ValueError: if it has others, or the features do not fill whole columns.
    """

    def __init__(
        self,
        data,
        latent_dim: int = 64,
        width: float = 1.0,
        embedding: int = EMBEDDING,
        norm: bool = True,
    ):
        super().__init__(latent_dim)
        self.shapes, symbols = described(data)
        vectors = [name for name, shape in self.shapes.items() if name not in symbols and len(shape) == 1]
        if len(self.shapes) != 2 or len(vectors) != 1 or len(symbols) != 1:
            raise ValueError(f"data has {self.shapes}; expected one vector of features and one caption")
        (self.vector,), (self.caption,) = vectors, symbols
        (features,), (length,) = self.shapes[self.vector], self.shapes[self.caption]
        if features % length:
            raise ValueError(
                f"data has {features} features; expected a multiple of the {length} words of a caption"
            )
        embedding = whole("embedding", embedding)
        plan = halvings((length,), embedding)
        self.embedding = nn.Embedding(symbols[self.caption], embedding)
        self.convolutions, channels = halving_convolutions(plan, width, norm)
        last = (4, (embedding + features // length) >> len(plan))
        self.loc, self.raw_scale = (nn.Conv2d(channels, self.latent_dim, last) for _ in range(2))

    def features(self, batch: Batch) -> Tensor:
        """The last map, [B, channels, 4, 6] or so, of both."""
        checked = check_complete(batch, self.shapes)
        words = self.embedding(checked[self.caption])
        canvas = torch.cat([words, checked[self.vector].unflatten(1, (words.shape[1], -1))], dim=2)
        return self.convolutions(canvas[:, None])


def vector(shape: Shape) -> Shape:
    """The shape of a vector of features, (F,); ValueError if it is none."""
    shape = check_shape(shape)
    if len(shape) != 1:
        raise ValueError(f"shape is {shape}; expected (features,)")
    return shape


def halvings(shape: Shape, embedding: int) -> list[bool]:
    """For every convolution whether it halves rows and columns, True, or columns only.

    Raises:
        ValueError: if the length is no power of two, at least 4, or the embedding none that is at least the length.
    """
    powers = len(shape) == 1 and shape[0] >= 4 and not shape[0] & (shape[0] - 1)
    if not powers:
        raise ValueError(f"shape is {shape}; expected (length,), a length that is a power of two, at least 4")
    if embedding < shape[0] or embedding & (embedding - 1):
        raise ValueError(
            f"embedding is {embedding}; expected a power of two, at least the length, {shape[0]}"
        )
    rows, columns = shape[0].bit_length() - 3, embedding.bit_length() - 3
    return [True] * rows + [False] * (columns - rows)


def halving_convolutions(plan: list[bool], width: float, norm: bool) -> tuple[nn.Sequential, int]:
    """A convolution, normalisation and ReLU for each entry of a plan, from one channel; and the last one's channels."""
    one_of("norm", norm, (True, False))
    layers, before = [], 1
    for level, both in enumerate(plan):
        channels = scaled(32 * 2**level, width)
        kernel = {"kernel_size": 4, "stride": 2, "padding": 1}
        if not both:
            kernel = {"kernel_size": (1, 4), "stride": (1, 2), "padding": (0, 1)}
        layers += [nn.Conv2d(before, channels, **kernel), *[nn.BatchNorm2d(channels)] * norm, nn.ReLU()]
        before = channels
    return nn.Sequential(*layers), before


def cub_networks(
    data,
    latent_dim: int | Mapping[str, int],
    width: float = 1.0,
    embedding: int = EMBEDDING,
    norm: bool = True,
    hidden: Sequence[int] | None = None,
) -> dict[str, tuple[Encoder, Decoder]]:
    """Encoder and decoder of Tables 3c and 3d for each modality: the argument ``networks`` of `mmlib.nets.modalities`.

    Args:
        data: a data set of vectors and captions.
        latent_dim: size of the code, one for all or by name.
        width: factor on units and channels.
        embedding: numbers of a word.
        norm: normalise captions by the batch, as printed.
        hidden: units, whatever the width, of perceptrons that read and write captions in place of convolutions, with
            the `SymbolEncoder` and `PlainDecoder` of `mmlib.nets.plain`; None: convolutions.

    Raises:
        ValueError: for a modality of another shape.
    """
    shapes, symbols = described(data)
    codes = per_name("latent_dim", latent_dim, shapes)
    words, found = {"embedding": embedding, "norm": norm}, {}
    for name, shape in shapes.items():
        sizes = codes[name], width
        if name in symbols and hidden is not None:
            logits = (*shape, symbols[name])
            encoder = SymbolEncoder(shape, symbols[name], codes[name], hidden=hidden)
            found[name] = encoder, PlainDecoder(logits, codes[name], hidden=tuple(hidden)[::-1])
        elif name in symbols:
            encoder = CaptionEncoder(shape, *sizes, symbols[name], **words)
            found[name] = encoder, CaptionDecoder((*shape, symbols[name]), *sizes, **words)
        else:
            found[name] = FeatureEncoder(shape, *sizes), FeatureDecoder(shape, *sizes)
    return found
