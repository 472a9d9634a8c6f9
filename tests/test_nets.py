"""The networks are the papers' tables: layer by layer, parameter by parameter, at any size."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmlib.modality import BernoulliLikelihood, CategoricalLikelihood, LaplaceLikelihood
from mmlib.nets import (
    DigitClassifier,
    ImageJointEncoder,
    JointEncoder,
    MnistDecoder,
    MnistEncoder,
    SvhnDecoder,
    SvhnEncoder,
    TextClassifier,
    TextDecoder,
    TextEncoder,
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
        (SvhnEncoder, SvhnDecoder, (3, 28, 28)),  # a 7x7 head
        (SvhnEncoder, SvhnDecoder, (3, 45, 60)),  # both sides are rounded off on the way
        (SvhnEncoder, SvhnDecoder, (2, 8, 31)),
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
@pytest.mark.parametrize("shapes", [HAND_STREET, MNIST_SVHN, {"grey": (1, 9, 9), "colour": (3, 25, 18)}])
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
    for shape in ((3, 7, 32), (3, 32, 7), (32, 32)):
        for network in (SvhnEncoder, SvhnDecoder):
            with pytest.raises(
                ValueError, match=r"expected \(channels, height, width\), sides of at least 8"
            ):
                network(shape)
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


def test_text_networks_are_table_7():
    """Of eight characters; the heads are linear and logits come out (mmjsd-code-5)."""
    L = 20
    encoder, decoder = TextEncoder(latent_dim=L), TextDecoder(latent_dim=L)
    narrow, wide = ((4,), (2,), (1,)), ((4,), (2,), (0,))
    down = [(71, 128, (1,), (1,), (0,)), (128, 128, *narrow), (128, 128, *wide)]
    assert layers(encoder, nn.Conv1d) == down
    up = [(128, 128, (4,), (1,), (0,)), (128, 128, *narrow), (128, 71, (1,), (1,), (0,))]
    assert layers(decoder, nn.ConvTranspose1d) == up
    hidden = conv(71, 128, (1, 1)) + 2 * conv(128, 128, (4, 1))
    assert parameters(encoder) == hidden + 2 * dense(128, L) == 145_704
    assert parameters(decoder) == dense(L, 128) + 2 * conv(128, 128, (4, 1)) + conv(128, 71, (1, 1))
    assert [type(m) for m in encoder.features].count(nn.ReLU) == 3
    assert type(decoder.convolutions[-1]) is nn.ConvTranspose1d and decoder(torch.zeros(3, L)).shape == (
        3,
        8,
        71,
    )
    loc, raw_scale = encoder(torch.randint(71, (64, 8), generator=torch.Generator().manual_seed(0)))
    assert loc.shape == raw_scale.shape == (64, L) and loc.min() < 0 and raw_scale.min() < 0


@pytest.mark.parametrize("length", [4, 8, 32])
def test_texts_of_other_lengths_are_halved_until_four_places_are_left(length):
    encoder, decoder = TextEncoder((length,), 3, 0.1, 5), TextDecoder((length, 5), 3, 0.1)
    assert (
        len(layers(encoder, nn.Conv1d)) == len(layers(decoder, nn.ConvTranspose1d)) == int(math.log2(length))
    )
    assert encoder.feature_dim == 13
    text = torch.arange(2 * length).view(2, length) % 5
    assert encoder(text)[0].shape == (2, 3) and decoder(torch.zeros(2, 3)).shape == (2, length, 5)
    certain = nn.functional.one_hot(text, 5).float()
    torch.testing.assert_close(encoder.features(text), encoder.features(certain))
    shifted = encoder.features(text.roll(1, 1))
    assert not torch.allclose(shifted, encoder.features(text))  # order matters


def test_text_networks_say_what_they_cannot_take():
    for network in (TextEncoder, TextDecoder, TextClassifier):
        more = (5,) if network is TextDecoder else ()
        for shape in ((6,), (2,), (8, 2), (8.0,)):
            with pytest.raises(ValueError, match="shape is"):
                network((*shape, *more))
    with pytest.raises(ValueError, match=r"x has shape \(2, 7\); expected \(B >= 1, 8\)"):
        TextEncoder()(torch.zeros(2, 7).long())
    with pytest.raises(ValueError, match=r"x has shape \(2, 8\); expected \(B >= 1, 8, 71\)"):
        TextEncoder()(torch.zeros(2, 8))
    with pytest.raises(ValueError, match=r"z has shape \(2, 3\); expected \(B >= 1, 20\)"):
        TextDecoder()(torch.zeros(2, 3))


def test_logits_of_texts_are_probabilities_over_the_alphabet_that_grow_with_them():
    """At one place, the others held: the 71 strings' probabilities add up to that of the rest."""
    decoder, likelihood = TextDecoder(latent_dim=2, width=0.25).double(), CategoricalLikelihood(71)
    logits = decoder(torch.ones(1, 2).double())
    strings = torch.zeros(71, 8).long().index_copy(1, torch.tensor([3]), torch.arange(71)[:, None])
    each = torch.stack([likelihood.log_prob(logits, string[None])[0] for string in strings])
    rest = logits.log_softmax(-1)[0, [0, 1, 2, 4, 5, 6, 7], 0].sum()
    torch.testing.assert_close(each.logsumexp(0), rest, atol=1e-12, rtol=0)  # float64
    with torch.no_grad():
        decoder.convolutions[-1].bias[5] += 1  # the bias of one symbol at all places
        raised = decoder(torch.ones(1, 2).double())
    assert likelihood.log_prob(raised, strings[5:6]) > each[5]
    assert likelihood.log_prob(raised, strings[:1]) < each[0] and logits.min() < 0 < logits.max()


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
    data = SimpleNamespace(shapes=MNIST_SVHN | {"text": (8,)}, symbols={"text": 71})
    *images, text = modalities(data, 20, 0.1, likelihood=LaplaceLikelihood(0.5))
    assert type(text.encoder) is TextEncoder and type(text.decoder) is TextDecoder
    assert text.weight == 384 and text.likelihood.classes == 71  # 3072 / 8
    assert [m.likelihood.scale for m in images] == [0.5, 0.5]
    own = {"mnist": LaplaceLikelihood(), "svhn": LaplaceLikelihood(), "text": CategoricalLikelihood(71)}
    assert [m.likelihood for m in modalities(data, 20, 0.1, own)] == list(own.values())
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
