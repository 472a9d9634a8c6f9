"""The residual networks of Sutter et al. 2020, Tables 3, 13 and 14, for faces and for strings of their attributes.

At ``width=1``, images of 64x64 pixels and texts of 256 symbols they are the layers of the tables, mended where these do
not fit (mmjsd-6 and mmjsd-x3 of the errata): a convolution and residual blocks that halve the sides down to four, and
one that makes 4x4 a single place; the decoder mirrors them. Other sides that are powers of two have more blocks or
fewer. What is inside a block is not printed. Here, as far as it is known of the released code (mmjsd-silent-3), it is
twice the skip path plus 0.3 times the branch, which activates before it convolves; both end in the printed convolution,
and the branch begins with one of 1x1, a choice of this book.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.checks import one_of, per_name, real, whole
from mmlib.modality import Shape
from mmlib.nets.choice import described
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled

CHANNELS = 128  # of the first layer, of the second twice as many, and so on
MOST = 5  # times as many, and no more
SKIP, BRANCH = 2.0, 0.3
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
HALVE = {"kernel_size": 4, "stride": 2, "padding": 1}  # or, transposed, double
LAST = {"kernel_size": 4, "stride": 2, "padding": 0}  # from four places to one
FIRST = {"kernel_size": 4, "stride": 1, "padding": 0}  # transposed, from one place to four


class Block(nn.Module):
    """A residual block that changes channels and sides.

    Args:
        axes: 1 for texts, 2 for images.
        before, after: channels.
        change: kernel, stride and padding of the convolution.
        up: whether it is transposed.
        norm: normalise by the batch: before each activation, and the skip path.
        dropout: share of the activations that each of the branch's two convolutions loses in training.
    """

    def __init__(
        self, axes: int, before: int, after: int, change: Mapping, up: bool, norm: bool, dropout: float
    ):
        super().__init__()
        convolution, normal = (TRANSPOSED if up else CONVOLUTIONS)[axes], NORMS[axes]
        lose = [nn.Dropout(dropout)] * (dropout > 0)
        activate = [[normal(before)] * norm + [nn.ReLU()] for normal in (normal, normal)]
        mix = CONVOLUTIONS[axes](before, before, 1, bias=not norm)
        grow = [convolution(before, after, **change, bias=not norm) for _ in range(2)]
        self.branch = nn.Sequential(*activate[0], mix, *lose, *activate[1], grow[0], *lose)
        self.skip = nn.Sequential(grow[1], *[normal(after)] * norm)

    def forward(self, x: Tensor) -> Tensor:
        """[N, before, ...] to [N, after, ...]."""
        return SKIP * self.skip(x) + BRANCH * self.branch(x)


def channel_plan(shape: Shape, width: float) -> list[int]:
    """Channels after the first convolution and after each block, the last of which leaves one place.

    Raises:
        ValueError: if the shape is neither (channels, side, side) nor (length,), or the side is no power of two from 8.
    """
    side = shape[-1]
    if not (len(shape) in (1, 3) and side == shape[len(shape) // 2] and side >= 8 and not side & (side - 1)):
        found = f"shape is {shape}"
        raise ValueError(f"{found}; expected (channels, side, side) or (length,), a power of two, at least 8")
    return [scaled(CHANNELS * min(level, MOST), width) for level in range(1, side.bit_length() - 1)]


class Trunk(nn.Sequential):
    """Images, or texts, to features [B, F] of a single place.

    Args:
        shape: of one item.
        symbols: size of the alphabet of texts; None: images.
        width: factor on the channels.
        norm, dropout: as of `Block`.

    Raises:
        ValueError: if the shape does not fit: images have three axes, texts one.
    """

    def __init__(self, shape: Shape, symbols: int | None, width: float, norm: bool, dropout: float):
        self.shape = shape = check_shape(shape)
        self.symbols = None if symbols is None else whole("symbols", symbols)
        channels = channel_plan(shape, width)
        if len(shape) != (3 if symbols is None else 1):
            raise ValueError(f"shape is {shape}; expected three axes of images, one of texts (symbols)")
        options = _checked(norm, dropout)
        axes, inputs = max(1, len(shape) - 1), symbols or shape[0]
        layers = [CONVOLUTIONS[axes](inputs, channels[0], 3, stride=2, padding=1)]
        for level, (before, after) in enumerate(zip(channels, channels[1:], strict=False), start=2):
            change = LAST if level == len(channels) else HALVE
            layers.append(Block(axes, before, after, change, False, **options))
        super().__init__(*layers, nn.Flatten())
        self.feature_dim = channels[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Features [B, F] of items [B, *shape].

        Raises:
            ValueError: if they have another shape.
        """
        x = check_items(x, self.shape)
        if self.symbols is not None:
            x = F.one_hot(x, self.symbols).to(self[0].weight.dtype).transpose(1, 2)
        return super().forward(x)


class ResidualEncoder(Encoder):
    """A convolution, residual blocks down to a single place, and two linear heads (Tables 13 and 14).

    Args:
        shape: (C, S, S) of images, (L,) of texts; S or L a power of two, at least 8.
        latent_dim: size of the code.
        width: factor on the channels.
        symbols: size of the alphabet of texts; None: images.
        norm: normalise by the batch: then a model has to be in training mode while it is trained, and in evaluation
            mode after.
        dropout: share of the activations that is lost in training, twice in each block.
    """

    def __init__(
        self,
        shape: Shape = (3, 64, 64),
        latent_dim: int = 64,
        width: float = 1.0,
        symbols: int | None = None,
        norm: bool = True,
        dropout: float = 0.5,
    ):
        super().__init__(latent_dim)
        self.features = Trunk(shape, symbols, width, norm, dropout)
        self.shape, self.feature_dim = self.features.shape, self.features.feature_dim
        self.loc, self.raw_scale = (nn.Linear(self.feature_dim, self.latent_dim) for _ in range(2))


class ResidualDecoder(Decoder):
    """A linear layer, residual blocks up from a single place, and a transposed convolution (Tables 13 and 14).

    The last layer has kernel 3 and an output padding of 1 for images, and kernel 4 for texts, as in the released code.

    Args:
        shape: (C, S, S) of images; of texts that of the logits, (L, size of the alphabet).
        latent_dim, width, norm, dropout: as of `ResidualEncoder`.
        sigmoid: of images; texts have logits.
    """

    def __init__(
        self,
        shape: Shape = (3, 64, 64),
        latent_dim: int = 64,
        width: float = 1.0,
        sigmoid: bool = True,
        norm: bool = True,
        dropout: float = 0.5,
    ):
        super().__init__(shape, latent_dim, sigmoid)
        self.text = len(self.shape) == 2
        channels = channel_plan(self.shape[:1] if self.text else self.shape, width)[::-1]
        options, axes = _checked(norm, dropout), 1 if self.text else 2
        self.hidden, self.axes = nn.Linear(self.latent_dim, channels[0]), axes
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
            layers.append(Block(axes, before, after, HALVE if level else FIRST, True, **options))
        last = HALVE if self.text else {**HALVE, "kernel_size": 3, "output_padding": 1}
        layers.append(TRANSPOSED[axes](channels[-1], self.shape[-1 if self.text else 0], **last))
        self.convolutions = nn.Sequential(*layers)

    def pixels(self, z: Tensor) -> Tensor:
        """Pixels or their logits [N, C, S, S], or logits of symbols [N, L, symbols], of codes [N, D]."""
        found = self.convolutions(self.hidden(z)[(..., *[None] * self.axes)])
        return found.transpose(1, 2) if self.text else found


class AttributeClassifier(nn.Module):
    """The judge of faces: the encoder's layers with batch norm, and a logit for each attribute (Table 3, image).

    Args:
        shape: (C, S, S).
        classes: number of attributes.
        width: factor on the channels.
    """

    def __init__(self, shape: Shape = (3, 64, 64), classes: int = 40, width: float = 1.0):
        super().__init__()
        self.features = Trunk(shape, None, width, norm=True, dropout=0.0)
        self.classes = whole("classes", classes)
        self.head = nn.Linear(self.features.feature_dim, self.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, classes], each of having an attribute, of images [B, C, S, S] in [0, 1].

        Raises:
            ValueError: if they have another shape.
        """
        return self.head(self.features(x))


def residual_networks(
    data,
    latent_dim: int | Mapping[str, int],
    width: float = 1.0,
    norm: bool = True,
    dropout: float = 0.5,
) -> dict[str, tuple[Encoder, Decoder]]:
    """Encoder and decoder of Tables 13 and 14 for each modality: the argument ``networks`` of `mmlib.nets.modalities`.

    Args:
        data: a data set of images and texts whose sides are powers of two.
        latent_dim: size of the code, one for all or by name.
        width: factor on the channels.
        norm: as of `ResidualEncoder`.
        dropout: as of `ResidualEncoder`.

    Raises:
        ValueError: for a modality of another shape.
    """
    shapes, symbols = described(data)
    codes, options, found = per_name("latent_dim", latent_dim, shapes), _checked(norm, dropout), {}
    for name, shape in shapes.items():
        alphabet = symbols.get(name)
        encoder = ResidualEncoder(shape, codes[name], width, alphabet, **options)
        logits = shape if alphabet is None else (*shape, alphabet)
        found[name] = encoder, ResidualDecoder(logits, codes[name], width, alphabet is None, **options)
    return found


def _checked(norm: bool, dropout: float) -> dict:
    return {"norm": one_of("norm", norm, (True, False)), "dropout": real("dropout", dropout, 0.0, 0.9)}
