"""Convolutions computed another way are those of PyTorch: parameters, values, gradients."""

import pytest
import torch
from torch import nn

from mmlib.nets import SvhnDecoder
from mmlib.nets.convolutions import FromCode, ToCode, ToImage

ROUNDING = 1e-12  # of double precision, relative: sums of up to a thousand numbers in another order
LAYERS = {
    "code to map": (FromCode(5, 6, 4), nn.ConvTranspose2d(5, 6, 4), (5, 1, 1)),
    "map to code": (ToCode(6, 5, 4), nn.Conv2d(6, 5, 4), (6, 4, 4)),
    "map to image": (ToImage(6, 3), nn.ConvTranspose2d(6, 3, 4, stride=2, padding=1), (6, 8, 8)),
    "map to a flat image": (ToImage(6, 1), nn.ConvTranspose2d(6, 1, 4, stride=2, padding=1), (6, 3, 5)),
}


def close(found, expected, relative=ROUNDING):
    torch.testing.assert_close(found, expected, rtol=0, atol=relative * float(expected.detach().abs().max()))


@pytest.mark.parametrize("layer, plain, shape", LAYERS.values(), ids=LAYERS)
def test_values_and_gradients_are_the_plain_layer_s(layer, plain, shape):
    layer, plain = layer.double(), plain.double()
    plain.load_state_dict(layer.state_dict())
    source = torch.Generator().manual_seed(0)
    x = torch.randn(7, *shape, generator=source, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), plain(x)
    close(found, expected)
    direction = torch.randn(expected.shape, generator=source, dtype=torch.float64)
    gradients = [torch.autograd.grad(y, [x, *net.parameters()], direction, create_graph=True)
                 for y, net in ((found, layer), (expected, plain))]  # fmt: skip
    for one, other in zip(*gradients, strict=True):
        close(one, other)
    curvature = [torch.autograd.grad(g[0].square().sum(), net.weight)[0]
                 for g, net in zip(gradients, (layer, plain), strict=True)]  # fmt: skip
    close(*curvature)


def test_an_image_layer_that_does_not_learn_still_passes_gradients_on():
    layer, x = ToImage(4, 3).requires_grad_(False), torch.rand(2, 4, 4, 4, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.abs().max() > 0 and layer.weight.grad is None


def test_an_image_layer_under_autocast_is_the_plain_one():
    layer, plain = ToImage(4, 3), nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)
    plain.load_state_dict(layer.state_dict())
    x = torch.rand(2, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one, other = layer(x), plain(x)
    assert one.dtype == torch.bfloat16 and torch.equal(one, other)
    one.float().sum().backward()
    assert layer.weight.grad.isfinite().all()


def test_a_decoder_says_the_same_whether_or_not_gradients_are_kept():
    decoder = SvhnDecoder((3, 16, 16), 5).double()
    z = torch.randn(9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        alone = decoder(z)
    assert alone.is_contiguous() and decoder(z).is_contiguous()
    close(alone, decoder(z))
