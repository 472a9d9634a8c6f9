"""The networks of features and captions are the tables', as far as those fit, and scale to other sizes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmlib.data.vocabulary import PADDING
from mmlib.likelihoods import CategoricalLikelihood
from mmlib.nets import (
    CaptionDecoder,
    CaptionEncoder,
    CaptionJointEncoder,
    FeatureDecoder,
    FeatureEncoder,
    cub_networks,
    modalities,
)

CUB = SimpleNamespace(shapes={"image": (2048,), "caption": (32,)}, symbols={"caption": 1590})
BIRDS = SimpleNamespace(
    shapes={"image": (128,), "caption": (32,)}, symbols={"caption": 79}, padding={"caption": PADDING}
)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def convolutions(module, kind):
    return [
        (m.in_channels, m.out_channels, m.kernel_size, m.stride, m.padding)
        for m in module.modules()
        if isinstance(m, kind)
    ]


def kinds(sequence):
    return [type(m).__name__ for m in sequence]


HALF, FLAT = ((4, 4), (2, 2), (1, 1)), ((1, 4), (1, 2), (0, 1))
HEAD = ((4, 4), (1, 1), (0, 0))
DOWN = [(1, 32, *HALF), (32, 64, *HALF), (64, 128, *HALF), (128, 256, *FLAT), (256, 512, *FLAT)]


def test_feature_networks_are_table_3c():
    encoder, decoder = FeatureEncoder(latent_dim=20), FeatureDecoder(latent_dim=20)
    sizes = 2048 * 1024 + 1024 + 1024 * 512 + 512 + 512 * 256 + 256
    assert parameters(encoder) == sizes + 2 * (256 * 20 + 20)
    assert kinds(encoder.hidden) == kinds(decoder.hidden) == ["Linear", "ELU"] * 3
    assert [m.out_features for m in decoder.modules() if isinstance(m, nn.Linear)] == [256, 512, 1024, 2048]
    x = torch.randn(3, 2048)
    assert (
        encoder(x)[0].shape == (3, 20) and decoder(torch.randn(3, 20)).min() < 0
    )  # features may have any sign


def test_caption_encoder_is_table_3d():
    encoder = CaptionEncoder(latent_dim=20)
    assert convolutions(encoder, nn.Conv2d) == [*DOWN, *[(512, 20, *HEAD)] * 2]
    assert kinds(encoder.convolutions) == ["Conv2d", "BatchNorm2d", "ReLU"] * 5
    assert encoder.embedding.weight.shape == (1590, 128)
    captions = torch.randint(1590, (2, 32), generator=torch.Generator().manual_seed(0))
    assert encoder.features(captions).shape == (2, 512, 4, 4) and encoder(captions)[1].shape == (2, 20)


def test_caption_decoder_is_table_3d():
    decoder = CaptionDecoder(latent_dim=20)
    up = [(out, channels, *how) for channels, out, *how in DOWN[::-1]]
    assert convolutions(decoder, nn.ConvTranspose2d) == [(20, 512, *HEAD), *up]
    assert kinds(decoder.convolutions) == [
        "ConvTranspose2d", "ReLU", *["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 4, "ConvTranspose2d", "ReLU"
    ]  # fmt: skip
    assert decoder(torch.randn(2, 20)).shape == (2, 32, 1590)


def test_joint_encoder_is_table_4b_with_a_head_that_fits():
    """rbc-8: the map is 4x6, so both heads are."""
    encoder = CaptionJointEncoder(CUB, latent_dim=20)
    assert convolutions(encoder, nn.Conv2d) == [*DOWN, *[(512, 20, (4, 6), (1, 1), (0, 0))] * 2]
    batch = {"image": torch.randn(2, 2048), "caption": torch.randint(1590, (2, 32))}
    assert encoder.features(batch).shape == (2, 512, 4, 6) and encoder(batch)[0].shape == (2, 20)


def test_an_embedding_of_256_leaves_a_map_that_the_printed_head_does_not_cover():
    """meme-13: five halvings of 256 columns leave 8; here a sixth halving makes them fit."""
    assert 256 >> 5 == 8 and len(convolutions(CaptionEncoder(embedding=256, width=0.1), nn.Conv2d)) == 6 + 2


@pytest.mark.parametrize(("length", "embedding"), [(8, 8), (32, 32), (16, 64), (32, 128)])
def test_captions_and_embeddings_of_other_sizes(length, embedding):
    some = {"embedding": embedding, "norm": False}
    encoder = CaptionEncoder((length,), 3, 0.1, 11, **some)
    decoder = CaptionDecoder((length, 11), 3, 0.1, **some)
    captions = torch.randint(11, (4, length), generator=torch.Generator().manual_seed(0))
    loc, _ = encoder(captions)
    assert loc.shape == (4, 3) and decoder(torch.randn(4, 3)).shape == (4, length, 11)
    assert not torch.allclose(encoder(captions.roll(1, 1))[0], loc)  # order matters
    assert not any(isinstance(m, nn.BatchNorm2d) for net in (encoder, decoder) for m in net.modules())


def test_a_data_set_gets_the_networks_by_name_and_a_likelihood_that_leaves_padding_out():
    parts = modalities(BIRDS, 8, networks=cub_networks(BIRDS, 8, 0.1, embedding=32, norm=False))
    image, caption = parts
    assert isinstance(image.encoder, FeatureEncoder) and isinstance(caption.decoder, CaptionDecoder)
    assert isinstance(caption.likelihood, CategoricalLikelihood) and caption.likelihood.padding == PADDING
    joint = CaptionJointEncoder(BIRDS, 8, 0.1, embedding=32, norm=False)
    batch = {"image": torch.randn(3, 128), "caption": torch.randint(79, (3, 32))}
    assert joint(batch)[0].shape == (3, 8)
    logits = caption.decode(torch.randn(3, 8))
    assert caption.likelihood.log_prob(logits, batch["caption"]).shape == (3,)
    whole = batch["caption"].clone()
    whole[:, 10:] = PADDING
    other = logits.clone()
    other[:, 10:] = 7.0  # what is said where nothing stands
    assert torch.equal(caption.likelihood.log_prob(logits, whole), caption.likelihood.log_prob(other, whole))


def test_networks_say_what_they_cannot_take():
    with pytest.raises(ValueError, match=r"shape is \(12,\); expected \(length,\)"):
        CaptionEncoder((12,))
    with pytest.raises(ValueError, match="embedding is 16; expected a power of two, at least the length, 32"):
        CaptionEncoder(embedding=16)
    with pytest.raises(ValueError, match="embedding is 100"):
        CaptionDecoder(embedding=100)
    with pytest.raises(ValueError, match=r"shape is \(1, 28, 28\); expected \(features,\)"):
        FeatureEncoder((1, 28, 28))
    with pytest.raises(ValueError, match="expected one vector of features and one caption"):
        CaptionJointEncoder({"a": (32,), "b": (32,)})
    with pytest.raises(ValueError, match="data has 100 features; expected a multiple of the 32 words"):
        CaptionJointEncoder(
            SimpleNamespace(shapes={"image": (100,), "caption": (32,)}, symbols={"caption": 5})
        )
