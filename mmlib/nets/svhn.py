"""The convolutional networks of Shi et al. 2021, Table 3b, for images of any size from 8x8.

At ``width=1`` and shape (3, 32, 32) they are the layers of the table: three 4x4 convolutions with stride 2 (32,
64 and 128 channels) and a 4x4 head; the decoder mirrors them. Images of another size are halved, rounding down, until
the shorter side is below 8, and the head sees what is left: 4x4 of a square whose side is a power of two.
"""

import math

import torch
from torch import Tensor, nn

from mmlib.modality import Shape
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled
from mmlib.nets.convolutions import FromCode, ToCode, ToImage


def map_sizes(shape: Shape) -> list[tuple[int, int]]:
    """Height and width of an image, and after each stride-2 convolution.

    Raises:
        ValueError: if the shape is not (channels, height, width) with sides of at least 8.
    """
    if len(shape) != 3 or min(shape[1:]) < 8:
        raise ValueError(f"shape is {shape}; expected (channels, height, width), sides of at least 8")
    sizes = [shape[1:]]
    while min(sizes[-1]) >= 8:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


def channel_plan(shape: Shape, width: float) -> list[int]:
    """Channels of the stride-2 convolutions of an image of this shape: 32, 64, 128, ... times ``width``.

    Raises:
        ValueError: as `map_sizes`.
    """
    return [scaled(32 * 2**level, width) for level in range(len(map_sizes(shape)) - 1)]


def downsampler(in_channels: int, channels: list[int]) -> nn.Sequential:
    """A 4x4 convolution with stride 2 and a ReLU for every entry of ``channels``; each halves the side."""
    layers: list[nn.Module] = []
    for out_channels in channels:
        layers += [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU()]
        in_channels = out_channels
    return nn.Sequential(*layers)


class SvhnEncoder(Encoder):
    """Stride-2 convolutions down to a 4x4 map, or so, then two convolutions of its size as heads."""

    def __init__(self, shape: Shape = (3, 32, 32), latent_dim: int = 20, width: float = 1.0):
        super().__init__(latent_dim)
        self.shape = check_shape(shape)
        channels, last = channel_plan(self.shape, width), map_sizes(self.shape)[-1]
        self.feature_dim = channels[-1] * math.prod(last)
        self.convolutions = downsampler(self.shape[0], channels)
        self.loc = ToCode(channels[-1], self.latent_dim, last)
        self.raw_scale = ToCode(channels[-1], self.latent_dim, last)

    def features(self, x: Tensor) -> Tensor:
        """The last map, [B, channels, 4, 4] or so, of a batch [B, *shape]; ``feature_dim`` numbers for each item."""
        return self.convolutions(check_items(x, self.shape))


class SvhnDecoder(Decoder):
    """A transposed convolution of the code to a 4x4 map, or so, then stride-2 ones up to the image."""

    def __init__(
        self, shape: Shape = (3, 32, 32), latent_dim: int = 20, width: float = 1.0, sigmoid: bool = True
    ):
        super().__init__(shape, latent_dim, sigmoid)
        sizes = map_sizes(self.shape)[::-1]  # from the smallest
        channels = [*channel_plan(self.shape, width)[::-1], self.shape[0]]
        layers: list[nn.Module] = [FromCode(self.latent_dim, channels[0], sizes[0])]
        odd = [(rows % 2, columns % 2) for rows, columns in sizes[1:]]  # what halving rounded off
        for before, after, rest in zip(channels[:-2], channels[1:-1], odd[:-1], strict=True):
            grow = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=rest)
            layers += [nn.ReLU(), grow]
        layers += [nn.ReLU(), ToImage(*channels[-2:], odd[-1])]
        self.convolutions = nn.Sequential(*layers)

    def pixels(self, z: Tensor) -> Tensor:
        """Pixels or their logits [N, *shape] of codes [N, D]."""
        maps = self.convolutions[0](z[:, :, None, None])  # [N, D, 1, 1] -> [N, channels, 4, 4]
        if not torch.is_grad_enabled():  # the way there is faster in this layout, the way back slower
            maps = maps.contiguous(memory_format=torch.channels_last)
        return self.convolutions[1:](maps).contiguous()
