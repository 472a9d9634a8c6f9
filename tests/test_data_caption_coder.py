"""Captions as vectors: the coder reads back what it wrote, is the same every time, and refuses what is no caption."""

import pytest
import torch

from mmlib.data import CaptionCoder, fit_caption_coder, grammar, load
from mmlib.data.caption_coder import ROWS
from mmlib.data.vocabulary import END, PADDING

SMALL = {"train": 400, "validation": 40, "test": 40, "captions": 3}
QUICK = {"units": 64, "steps": 40, "code": 8}


@pytest.fixture(scope="module")
def words(cache):
    return load("birds", cache=cache, **SMALL)


@pytest.fixture(scope="module")
def codes(cache):
    return load("birds", cache=cache, caption_view="codes", **SMALL)


def round_trip(data, coder, split="validation"):
    """Shares of words up to the end, and of whole captions, that come back; and of those that parse."""
    said = data.splits[split].items["caption"].values
    back = coder.decode(coder.encode(said))
    known, texts = said != PADDING, [data.vocabulary.decode(x) for x in (said, back)]
    whole = sum(a == b for a, b in zip(*texts, strict=True)) / len(said)
    return (
        float((said == back)[known].float().mean()),
        whole,
        sum(grammar.read(t).parsed for t in texts[1]) / len(said),
    )


def test_captions_of_new_birds_come_back(words, codes):
    """An untrained coder brings back no caption whole; training on 1,200 is enough for nearly all words."""
    each, whole, parsed = round_trip(words, codes.coder)
    assert each > 0.97 and whole > 0.7 and parsed > 0.95
    said = words.train.items["caption"].values
    untrained = fit_caption_coder(said, len(words.vocabulary), steps=1)
    each, whole, _ = round_trip(words, untrained)
    assert each < 0.5 and whole == 0


def test_neighbours_of_a_code_read_alike(words, codes):
    said = words.validation.items["caption"].values
    z = codes.coder.encode(said)
    near = z + 0.3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    known = said != PADDING
    assert (codes.coder.decode(near) == said)[known].float().mean() > 0.95


def test_codes_are_standardised_and_stand_for_the_same_rows(words, codes):
    assert codes.shapes == {"image": (128,), "caption": (64,)} and not codes.symbols and not codes.padding
    values = codes.train.items["caption"].values
    assert torch.allclose(values.mean(0), torch.zeros(64), atol=1e-3)
    assert torch.allclose(values.std(0), torch.ones(64), atol=1e-2)
    for name, split in codes.splits.items():
        other = words.splits[name]
        rows = torch.arange(len(split))[:20]
        said = other.batch(rows)["caption"]
        assert torch.equal(split.batch(rows)["caption"], codes.coder.encode(said))
        assert torch.equal(split.original("caption"), other.original("caption"))
    assert codes.words.provenance == words.provenance
    assert codes.provenance == {**words.provenance, "caption_view": "codes"}


def test_a_fraction_has_the_coder_of_all(codes, cache):
    part = load("birds", cache=cache, caption_view="codes", fraction=0.5, **SMALL)
    assert len(part.train) < len(codes.train)
    own, all_of_it = (found.coder.state_dict() for found in (part, codes))
    assert all(torch.equal(own[name], x) for name, x in all_of_it.items())


def test_the_same_seed_gives_the_same_coder_cached_or_not(words, tmp_path):
    said, size = words.train.items["caption"].values, len(words.vocabulary)
    before = torch.random.get_rng_state()
    first, again, other = (fit_caption_coder(said, size, seed=seed, **QUICK) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    kept = [fit_caption_coder(said, size, {"captions": "these"}, tmp_path, **QUICK) for _ in range(2)]
    z = first.encode(said)
    assert all(torch.equal(z, coder.encode(said)) for coder in (again, *kept))
    assert not torch.equal(z, other.encode(said))
    assert len(list(tmp_path.iterdir())) == 1
    fit_caption_coder(said, size, {"captions": "others"}, tmp_path, **QUICK)
    assert len(list(tmp_path.iterdir())) == 2
    assert not first.training and not any(p.requires_grad for p in first.parameters())


def test_padding_is_never_read_and_what_follows_the_end_does_not_count():
    coder = CaptionCoder(4, 6, code=3, units=5).eval()
    assert not (coder.decode(torch.randn(50, 3)) == PADDING).any()
    said = torch.tensor([[3, END, PADDING, PADDING]]).repeat(ROWS, 1)
    assert torch.equal(
        fit_caption_coder(said, 6, code=3, units=8, steps=600).decode(torch.zeros(1, 3))[0, :2], said[0, :2]
    )


def test_bad_input_is_refused(words):
    coder, said = CaptionCoder(4, 6, code=3, units=5).eval(), torch.zeros(ROWS, 4, dtype=torch.int64)
    for wrong in (said.float(), said[0], said[:, :3], [[1, 2, 3, 4]]):
        with pytest.raises(ValueError, match=r"expected symbols, int64 of shape \(N, 4\)"):
            coder.encode(wrong)
    with pytest.raises(ValueError, match="symbols go from 0 to 6; expected 0 to 5"):
        coder.encode(torch.tensor([[0, 1, 2, 6]]))
    for wrong in (torch.zeros(2, 4), torch.zeros(3), torch.zeros(2, 3, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"expected floating point of shape \(N, 3\)"):
            coder.logits(wrong)
    for wrong in (said[:3], said.float(), None):
        with pytest.raises(ValueError, match=rf"expected int64 of shape \(N, L\), N >= {ROWS}"):
            fit_caption_coder(wrong, 6)
    for name, value in {"noise": -1.0, "steps": 0, "seed": -1, "code": 0, "units": 0}.items():
        with pytest.raises(ValueError, match=f"{name} is {value}"):
            fit_caption_coder(said, 6, **{name: value})
    with pytest.raises(ValueError, match="caption_view is 'letters'; expected one of words, codes"):
        load("birds", caption_view="letters")
