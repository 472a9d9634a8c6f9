"""The convolutional networks of Shi et al. 2021, Table 3b, for square colour images of side 8, 16, 32, ...

At ``width=1`` and shape (3, 32, 32) they are the layers of the table: three 4x4 convolutions with stride 2 (32,
64 and 128 channels) and a 4x4 head; the decoder mirrors them. Another side s has log2(s) - 2 such convolutions, so
that the head always sees a 4x4 map.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mmlib.modality import Shape
from mmlib.nets.common import Decoder, Encoder, check_items, check_shape, scaled
from mmlib.nets.convolutions import FromCode, ToCode, ToImage


def channel_plan(shape: Shape, width: float) -> list[int]:
    """Channels of the stride-2 convolutions between a square image and a 4x4 map: 32, 64, 128, ... times ``width``.

    Raises:
        ValueError: if the shape is not (channels, side, side) with a side of 8, 16, 32, ...
    """
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ValueError(f"shape is {shape}; expected a square image (channels, side, side)")
    side = shape[1]
    if side < 8 or side & (side - 1):
        raise ValueError(f"shape is {shape}; expected a side that is a power of two, at least 8")
    return [scaled(32 * 2**level, width) for level in range(side.bit_length() - 3)]


def downsampler(in_channels: int, channels: list[int]) -> nn.Sequential:
    """A 4x4 convolution with stride 2 and a ReLU for every entry of ``channels``; each halves the side."""
    layers: list[nn.Module] = []
    for out_channels in channels:
        layers += [nn.Conv2d(in_channels, out_channels, 4, stride=2, padding=1), nn.ReLU()]
        in_channels = out_channels
    return nn.Sequential(*layers)


class SvhnEncoder(Encoder):
    """Stride-2 convolutions down to a 4x4 map, then two 4x4 convolutions as heads."""

    def __init__(self, shape: Shape = (3, 32, 32), latent_dim: int = 20, width: float = 1.0):
        super().__init__(latent_dim)
        self.shape = check_shape(shape)
        channels = channel_plan(self.shape, width)
        self.feature_dim = channels[-1] * 4 * 4
        self.convolutions = downsampler(self.shape[0], channels)
        self.loc = ToCode(channels[-1], self.latent_dim, 4)
        self.raw_scale = ToCode(channels[-1], self.latent_dim, 4)

    def features(self, x: Tensor) -> Tensor:
        """The 4x4 map [B, channels, 4, 4] of a batch [B, *shape]; ``feature_dim`` numbers for each item."""
        return self.convolutions(check_items(x, self.shape))


class SvhnDecoder(Decoder):
    """A 4x4 transposed convolution on the code, then stride-2 transposed convolutions up to the image."""

    def __init__(
        self, shape: Shape = (3, 32, 32), latent_dim: int = 20, width: float = 1.0, sigmoid: bool = True
    ):
        super().__init__(shape, latent_dim, sigmoid)
        channels = channel_plan(self.shape, width)[::-1]
        layers: list[nn.Module] = [FromCode(self.latent_dim, channels[0], 4), nn.ReLU()]
        for before, after in pairwise(channels):
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        layers.append(ToImage(channels[-1], self.shape[0]))
        self.convolutions = nn.Sequential(*layers)

    def pixels(self, z: Tensor) -> Tensor:
        """Pixels or their logits [N, *shape] of codes [N, D]."""
        maps = self.convolutions[0](z[:, :, None, None])  # [N, D, 1, 1] -> [N, channels, 4, 4]
        if not torch.is_grad_enabled():  # the way there is faster in this layout, the way back slower
            maps = maps.contiguous(memory_format=torch.channels_last)
        return self.convolutions[1:](maps).contiguous()
