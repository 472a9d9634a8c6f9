"""Networks for faces and attribute strings: the layers of the tables, mended where they do not fit, and blocks."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmlib.nets import AttributeClassifier, ResidualDecoder, ResidualEncoder, modalities, residual_networks
from mmlib.nets.residual import BRANCH, HALVE, SKIP, Block

FACES = SimpleNamespace(shapes={"image": (3, 64, 64), "text": (256,)}, symbols={"text": 71})
# In and out channels, kernel, stride and padding, as printed but for what mmjsd-6 and mmjsd-x3 of the errata mend.
HALF, LAST, UP = (4, 2, 1), (4, 2, 0), (4, 1, 0)
TABLES = {
    "13 encoder": [(3, 128, 3, 2, 1), (128, 256, *HALF), (256, 384, *HALF), (384, 512, *HALF), (512, 640, *LAST)],
    "13 decoder": [(640, 512, *UP), (512, 384, *HALF), (384, 256, *HALF), (256, 128, *HALF), (128, 3, 3, 2, 1)],
    "14 encoder": [(71, 128, 3, 2, 1), (128, 256, *HALF), (256, 384, *HALF), (384, 512, *HALF), (512, 640, *HALF),
                   (640, 640, *HALF), (640, 640, *LAST)],
    "14 decoder": [(640, 640, *UP), (640, 640, *HALF), (640, 512, *HALF), (512, 384, *HALF), (384, 256, *HALF),
                   (256, 128, *HALF), (128, 71, *HALF)],
}  # fmt: skip


def layers(network):
    """The convolutions of a network that change sides, those of skip paths for whole blocks."""
    found = network.features if isinstance(network, ResidualEncoder) else network.convolutions
    found = [
        part.skip[0] if isinstance(part, Block) else part
        for part in found
        if not isinstance(part, nn.Flatten)
    ]
    return [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.padding[0]) for c in found]


@pytest.fixture(scope="module")
def printed():
    with torch.device("meta"):  # shapes are the point, not weights
        return residual_networks(FACES, 64)


def test_layers_are_those_of_tables_13_and_14(printed):
    for table, name in (("13", "image"), ("14", "text")):
        encoder, decoder = printed[name]
        assert layers(encoder) == TABLES[f"{table} encoder"]
        assert layers(decoder) == TABLES[f"{table} decoder"]
        for head in (encoder.loc, encoder.raw_scale):  # 32 of the private code and 32 of the shared one
            assert (head.in_features, head.out_features) == (640, 2 * 32)
        assert (decoder.hidden.in_features, decoder.hidden.out_features) == (64, 640)


def test_the_classifier_has_the_encoders_layers_and_a_logit_for_each_attribute():
    with torch.device("meta"):
        judge = AttributeClassifier()
    assert (judge.head.in_features, judge.head.out_features) == (640, 40)
    small = AttributeClassifier((3, 16, 16), 5, width=0.02).eval()
    images = torch.rand(3, 3, 16, 16)
    assert small(images).shape == (3, 5) and small.features(images).shape == (3, small.head.in_features)
    with pytest.raises(ValueError, match=r"x has shape \(3, 3, 8, 8\); expected \(B >= 1, 3, 16, 16\)"):
        small(images[..., :8, :8])


@pytest.mark.parametrize("side", [8, 16, 64])
def test_sides_come_back_as_they_went_in(side):
    for shape, symbols in (((3, side, side), None), ((2 * side,), 7)):
        encoder = ResidualEncoder(shape, 6, 0.05, symbols)
        decoder = ResidualDecoder(shape if symbols is None else (*shape, symbols), 6, 0.05, symbols is None)
        x = torch.rand(4, *shape) if symbols is None else torch.randint(symbols, (4, *shape))
        loc, raw = encoder(x)
        assert loc.shape == raw.shape == (4, 6)
        made = decoder(loc)
        assert made.shape == (x.shape if symbols is None else (*x.shape, symbols))
        if symbols is None:
            assert 0 < made.min() and made.max() < 1


def test_a_block_is_twice_its_skip_path_and_three_tenths_of_its_branch():
    """mmjsd-silent-3."""
    torch.manual_seed(0)
    block, x = Block(2, 3, 5, HALVE, False, True, 0.5), torch.randn(4, 3, 8, 8)
    block.eval()
    mix, grow = (part for part in block.branch if isinstance(part, nn.Conv2d))
    still = 1 / (1 + block.branch[0].eps) ** 0.5  # batch norm at rest, before it has seen anything
    branch = grow(torch.relu(still * mix(torch.relu(still * x))))
    torch.testing.assert_close(block(x), 2.0 * still * block.skip[0](x) + 0.3 * branch)
    assert (SKIP, BRANCH) == (2.0, 0.3)


def test_batch_norm_and_dropout_are_as_asked():
    def count(network):
        kinds = (nn.BatchNorm1d, nn.BatchNorm2d), nn.Dropout
        return [sum(isinstance(part, kind) for part in network.modules()) for kind in kinds]

    with torch.device("meta"):
        assert count(ResidualEncoder()) == [4 * 3, 4]  # one module serves both places of a block
        assert count(ResidualEncoder(norm=False, dropout=0.0)) == [0, 0]
        assert count(ResidualDecoder(norm=False)) == [0, 4]
    training = ResidualEncoder((3, 8, 8), 2, 0.05, norm=False)
    x = torch.rand(2, 3, 8, 8)
    assert not torch.equal(training(x)[0], training(x)[0])
    training.eval()
    assert torch.equal(training(x)[0], training(x)[0])


def test_networks_become_modalities_with_codes_of_two_parts():
    codes = {"image": 6, "text": 5}
    made = residual_networks(FACES, codes, 0.02, norm=False, dropout=0.0)
    image, text = modalities(FACES, codes, networks=made, weights="pixels")
    assert (image.weight, text.weight) == (1.0, 48.0)  # mmjsd-code-4: size of the image by that of the text
    assert image.encode(torch.rand(2, 3, 64, 64), 6)[0].shape == (2, 6)
    assert text.decode(torch.zeros(2, 5)).shape == (2, 256, 71)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualEncoder((3, 48, 48)), r"shape is \(3, 48, 48\); expected"),
        (lambda: ResidualEncoder((3, 64, 32)), "expected .*side, side"),
        (lambda: ResidualEncoder((3, 4, 4)), "at least 8"),
        (lambda: ResidualEncoder((3, 64, 64), symbols=71), "expected three axes of images, one of texts"),
        (lambda: ResidualEncoder((256,)), "expected three axes of images, one of texts"),
        (lambda: ResidualDecoder((100, 71)), r"shape is \(100,\)"),
        (lambda: ResidualEncoder(norm=2), "norm is 2"),
        (lambda: ResidualEncoder(dropout=1.0), "dropout is 1.0; expected a number from 0 to 0.9"),
        (lambda: residual_networks({"table": (5,)}, 4), r"shape is \(5,\)"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
