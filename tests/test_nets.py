"""The networks are the papers' tables: layer by layer, parameter by parameter, at any size."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from mmlib.modality import BernoulliLikelihood, LaplaceLikelihood
from mmlib.nets import (
    DigitClassifier,
    ImageJointEncoder,
    JointEncoder,
    MnistDecoder,
    MnistEncoder,
    SvhnDecoder,
    SvhnEncoder,
    modalities,
    pixel_weights,
)

MNIST_SVHN = {"mnist": (1, 28, 28), "svhn": (3, 32, 32)}
HAND_STREET = {"hand": (1, 16, 16), "street": (3, 16, 16)}


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def dense(*sizes):
    """Parameters of fully connected layers through these sizes, written out from the table."""
    return sum(a * b + b for a, b in pairwise(sizes))


def conv(before, after, kernel=(4, 4)):
    return before * after * kernel[0] * kernel[1] + after


def layers(module, kind):
    return [
        (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding)
        for m in module.modules()
        if isinstance(m, kind)
    ]


def batch_of(shapes, n, seed=0):
    source = torch.Generator().manual_seed(seed)
    return {name: torch.rand(n, *shape, generator=source) for name, shape in shapes.items()}


def test_mnist_networks_are_table_3a():
    L = 20
    encoder, decoder = MnistEncoder((1, 28, 28), L), MnistDecoder((1, 28, 28), L)
    assert parameters(encoder) == dense(784, 400) + 2 * dense(400, L) == 330_040
    assert parameters(decoder) == dense(L, 400, 784) == 322_784


def test_svhn_networks_are_table_3b():
    L = 20
    encoder, decoder = SvhnEncoder((3, 32, 32), L), SvhnDecoder((3, 32, 32), L)
    half = ((4, 4), (2, 2), (1, 1))
    whole = ((4, 4), (1, 1), (0, 0))
    assert layers(encoder, nn.Conv2d) == [
        (3, 32, *half),
        (32, 64, *half),
        (64, 128, *half),
        (128, L, *whole),
        (128, L, *whole),
    ]
    assert layers(decoder, nn.ConvTranspose2d) == [
        (L, 128, *whole),
        (128, 64, *half),
        (64, 32, *half),
        (32, 3, *half),
    ]
    assert parameters(encoder) == conv(3, 32) + conv(32, 64) + conv(64, 128) + 2 * conv(128, L)
    assert parameters(decoder) == conv(L, 128) + conv(128, 64) + conv(64, 32) + conv(32, 3)


def test_image_joint_encoder_is_table_4a():
    L = 20
    encoder = ImageJointEncoder(MNIST_SVHN, L)
    half = ((4, 4), (2, 2), (1, 1))
    whole = ((4, 4), (1, 1), (0, 0))
    assert layers(encoder, nn.Conv2d) == [
        (3, 32, *half),
        (32, 64, *half),
        (64, 128, *half),
        (128, 128, (1, 4), (1, 2), (0, 1)),
        (128, L, *whole),
        (128, L, *whole),
    ]
    canvas = encoder.canvas(batch_of(MNIST_SVHN, 2))
    assert canvas.shape == (2, 3, 32, 64)
    assert encoder.convolutions(canvas).shape == (2, 128, 4, 4)


def test_canvas_keeps_the_larger_image_and_repeats_the_grey_channel():
    batch = batch_of(MNIST_SVHN, 3)
    canvas = ImageJointEncoder(MNIST_SVHN, 5).canvas(batch)
    torch.testing.assert_close(canvas[..., 32:], batch["svhn"], rtol=0, atol=0)
    torch.testing.assert_close(canvas[:, 0, :, :32], canvas[:, 2, :, :32], rtol=0, atol=0)
    grey = {"mnist": torch.full((3, 1, 28, 28), 0.25), "svhn": batch["svhn"]}
    resized = ImageJointEncoder(MNIST_SVHN, 5).canvas(grey)[..., :32]
    torch.testing.assert_close(resized, torch.full((3, 3, 32, 32), 0.25))  # resizing keeps a constant


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("width", [0.25, 1.0])
@pytest.mark.parametrize(
    ("encoder", "decoder", "shape"),
    [
        (MnistEncoder, MnistDecoder, (1, 28, 28)),
        (MnistEncoder, MnistDecoder, (1, 16, 16)),
        (MnistEncoder, MnistDecoder, (7,)),
        (SvhnEncoder, SvhnDecoder, (3, 8, 8)),
        (SvhnEncoder, SvhnDecoder, (3, 16, 16)),
        (SvhnEncoder, SvhnDecoder, (3, 32, 32)),
        (SvhnEncoder, SvhnDecoder, (1, 64, 64)),
    ],
)
def test_shapes_survive_every_size_and_a_batch_of_one(encoder, decoder, shape, width, rows):
    encode, decode = encoder(shape, 1, width), decoder(shape, 1, width)  # D = 1: nothing may be squeezed away
    loc, raw_scale = encode(torch.rand(rows, *shape))
    assert loc.shape == raw_scale.shape == (rows, 1)
    pixels = decode(loc)
    assert pixels.shape == (rows, *shape)
    assert pixels.min() > 0 and pixels.max() < 1


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", [JointEncoder, ImageJointEncoder])
@pytest.mark.parametrize("shapes", [HAND_STREET, MNIST_SVHN])
def test_joint_encoders_see_every_modality(kind, shapes, rows):
    encoder = kind(shapes, 4, width=0.25)
    batch = {name: x.requires_grad_() for name, x in batch_of(shapes, rows).items()}
    loc, raw_scale = encoder(batch)
    assert loc.shape == raw_scale.shape == (rows, 4)
    (loc.sum() + raw_scale.sum()).backward()
    assert all(x.grad.abs().sum() > 0 for x in batch.values())
    reversed_batch = dict(reversed(batch.items()))
    torch.testing.assert_close(encoder(reversed_batch)[0], loc)  # the order of the keys does not matter


def test_joint_encoder_takes_any_number_of_modalities():
    shapes = {"a": (5,), "b": (1, 9, 9), "c": (3, 8, 8)}
    for count in (1, 2, 3):
        chosen = dict(list(shapes.items())[:count])
        assert JointEncoder(chosen, 2, width=0.1)(batch_of(chosen, 2))[0].shape == (2, 2)
    full = JointEncoder({"a": (10,), "b": (6,)}, 20)
    assert parameters(full) == dense(10, 400) + dense(6, 400) + dense(800, 512) + 2 * dense(512, 20)


def test_rows_are_independent_of_one_another():
    batch = batch_of(HAND_STREET, 4)
    for encoder in (JointEncoder(HAND_STREET, 3, 0.2), ImageJointEncoder(HAND_STREET, 3, 0.2)):
        whole = encoder(batch)[0]
        alone = torch.cat([encoder({name: x[i : i + 1] for name, x in batch.items()})[0] for i in range(4)])
        torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-4)  # float32, another batch size


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match=r"x has shape \(2, 1, 28, 27\); expected \(B >= 1, 1, 28, 28\)"):
        MnistEncoder()(torch.rand(2, 1, 28, 27))
    with pytest.raises(ValueError, match="x has shape"):
        SvhnEncoder()(torch.rand(3, 32, 32))  # no batch axis
    with pytest.raises(ValueError, match="x has shape"):
        SvhnEncoder()(torch.rand(0, 3, 32, 32))  # an empty batch
    with pytest.raises(ValueError, match="z has shape"):
        SvhnDecoder(latent_dim=20)(torch.rand(2, 19))
    with pytest.raises(ValueError, match="z has shape"):
        MnistDecoder(latent_dim=20)(torch.rand(20))
    with pytest.raises(ValueError, match="power of two"):
        SvhnEncoder((3, 28, 28))
    with pytest.raises(ValueError, match="square"):
        SvhnDecoder((3, 32, 16))
    with pytest.raises(ValueError, match="width is 0"):
        MnistEncoder(width=0)
    with pytest.raises(ValueError, match="latent_dim is 2.5"):
        MnistEncoder(latent_dim=2.5)
    with pytest.raises(ValueError, match=r"lacks \['street'\]"):
        JointEncoder(HAND_STREET)({"hand": torch.rand(2, 1, 16, 16)})
    with pytest.raises(ValueError, match="rows"):
        JointEncoder(HAND_STREET)({"hand": torch.rand(2, 1, 16, 16), "street": torch.rand(3, 3, 16, 16)})
    with pytest.raises(ValueError, match="exactly two images"):
        ImageJointEncoder({"hand": (1, 16, 16)})
    with pytest.raises(ValueError, match=r"expected 1 or 3 channels"):
        ImageJointEncoder({"a": (2, 16, 16), "b": (3, 16, 16)})
    with pytest.raises(ValueError, match="empty"):
        JointEncoder({})
    with pytest.raises(ValueError, match="sides of at least 4"):
        DigitClassifier((1, 3, 3))


def test_modalities_choose_networks_likelihoods_and_weights():
    mnist, svhn = modalities(MNIST_SVHN, latent_dim=20)
    assert (mnist.name, svhn.name) == ("mnist", "svhn")
    assert type(mnist.encoder) is MnistEncoder and type(svhn.decoder) is SvhnDecoder
    assert mnist.weight == pytest.approx(3072 / 784) and svhn.weight == 1
    assert isinstance(svhn.likelihood, LaplaceLikelihood) and svhn.likelihood.scale == 0.75
    assert pixel_weights(HAND_STREET) == {"hand": 3.0, "street": 1.0}
    plain = modalities(HAND_STREET, 4, 0.5, likelihood=BernoulliLikelihood(), weights=None)
    assert [m.weight for m in plain] == [1, 1]
    assert (
        not plain[0].decoder.sigmoid and not plain[1].decoder.sigmoid
    )  # a Bernoulli likelihood takes logits
    own = modalities(HAND_STREET, 4, weights={"hand": 2.0, "street": 0.5})
    assert [m.weight for m in own] == [2.0, 0.5]
    with pytest.raises(ValueError, match="weights names"):
        modalities(HAND_STREET, 4, weights={"hand": 2.0})
    with pytest.raises(ValueError, match="expected 'pixels'"):
        modalities(HAND_STREET, 4, weights="bytes")


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 16, 16), (1, 28, 28), (3, 32, 32)])
def test_classifier_shapes(shape):
    classifier = DigitClassifier(shape, width=0.25).eval()
    assert classifier(torch.rand(1, *shape)).shape == (1, 10)
    with pytest.raises(ValueError, match="x has shape"):
        classifier(torch.rand(2, shape[0], shape[1], shape[2] + 1))


def test_initialisation_is_pytorchs_own():
    torch.manual_seed(0)
    encoder = MnistEncoder()
    bound = 1 / math.sqrt(784)  # uniform(-1/sqrt(fan in), 1/sqrt(fan in))
    assert encoder.hidden.weight.abs().max() <= bound
    assert encoder.hidden.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
