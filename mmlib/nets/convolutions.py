"""Convolutions at the ends of a stack, computed another way than PyTorch would: same parameters, names and values.

On a processor the general routines waste most of their work there: on a map of one pixel, on a kernel as large as its
map, and on an image of few channels. Sums come in another order, so values agree to rounding, not to the bit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FromCode(nn.ConvTranspose2d):
    """A transposed convolution of codes [N, D, 1, 1], which is a matrix product: [N, channels, *kernel]."""

    def __init__(self, code_dim: int, channels: int, kernel: int | tuple[int, int]) -> None:
        super().__init__(code_dim, channels, kernel)

    def forward(self, z: Tensor) -> Tensor:
        """Maps [N, channels, *kernel] of codes [N, D, 1, 1]."""
        _, *shape = self.weight.shape
        bias = self.bias.repeat_interleave(self.weight[0, 0].numel())
        return torch.addmm(bias, z.flatten(1), self.weight.flatten(1)).unflatten(1, shape)


class ToCode(nn.Conv2d):
    """A convolution of maps as large as its kernel, which is a matrix product."""

    def __init__(self, channels: int, code_dim: int, kernel: int | tuple[int, int]) -> None:
        super().__init__(channels, code_dim, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Codes [N, D, 1, 1] of maps [N, channels, *kernel]."""
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class ToImage(nn.ConvTranspose2d):
    """A transposed convolution that doubles the sides and gives few channels: 4x4, stride 2, padding 1.

    ``odd`` rows and columns beside the doubled ones, none or one of each, are PyTorch's affair.
    """

    def __init__(self, before: int, channels: int, odd: tuple[int, int] = (0, 0)) -> None:
        super().__init__(before, channels, 4, stride=2, padding=1, output_padding=odd)

    def forward(self, x: Tensor) -> Tensor:
        """Images [N, channels, 2 H, 2 W], or a row or column more, of maps [N, before, H, W]."""
        if any(self.output_padding) or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        return _Doubled.apply(x, self.weight, self.bias)


class _Doubled(torch.autograd.Function):
    """Values by an ordinary convolution, gradients as of the transposed one.

    Padded by a pixel on either side, the output consists of blocks of 2x2 pixels, each of which depends on 2x2 pixels
    of the input. So four pixels of a channel are four channels of a convolution with a kernel of 2x2: routines that
    work on sixteen channels at once have less to throw away.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        before, channels = weight.shape[:2]
        blocks = weight.view(before, channels, 2, 2, 2, 2).flip(2, 4).permute(1, 3, 5, 0, 2, 4)
        y = F.conv2d(x, blocks.reshape(4 * channels, before, 2, 2), bias.repeat_interleave(4), padding=1)
        return F.pixel_shuffle(y, 2)[..., 1:-1, 1:-1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        sizes = [weight.shape[1]], [2, 2], [1, 1], [1, 1], True, [0, 0], 1
        return torch.ops.aten.convolution_backward(
            gradient.contiguous(), x, weight, *sizes, list(ctx.needs_input_grad)
        )
