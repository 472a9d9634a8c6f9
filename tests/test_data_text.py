"""Digits' names as a modality: strings, where they start, and the data sets that hold them beside images."""

import math

import pytest
import torch
from test_data_files import write_mnist, write_subset

from mmlib import data
from mmlib.data.text import ALPHABET, LENGTH, WORDS, decode, digit_words, encode
from mmlib.metrics import train_classifiers
from mmlib.plots import grids

SMALL = {"train": 200, "validation": 100, "test": 100}


def words(n=30_000, seed=0):
    """Strings of all digits in turn, and their labels."""
    labels = torch.arange(n) % 10
    return decode(digit_words(labels, torch.Generator().manual_seed(seed))), labels


# --- strings --------------------------------------------------------------------------------------------------------


def test_the_alphabet_has_71_symbols_of_which_one_is_dead():
    assert len(ALPHABET) == 71 and sorted(set(ALPHABET)) == sorted(ALPHABET[:70])
    assert {" ", "\n", "-", *"abcxyz0189"} <= set(ALPHABET)
    assert encode([ALPHABET]).unique().tolist() == list(range(70))  # no string has the last symbol
    assert decode(torch.tensor([[70]])) == ["-"]


def test_strings_come_back_as_they_were():
    texts = ["  three ", "eight   ", "a,b|0\n~-"]
    assert decode(encode(texts)) == texts
    symbols = torch.randint(70, (50, 13), generator=torch.Generator().manual_seed(0))
    assert torch.equal(encode(decode(symbols)), symbols)


@pytest.mark.parametrize("wrong", [[], ["one", "three"], ["Three"], ["ö"]])
def test_strings_that_cannot_be_encoded_are_refused(wrong):
    with pytest.raises(ValueError, match="texts h"):
        encode(wrong)


@pytest.mark.parametrize("wrong", [torch.rand(2, 8), torch.zeros(8).long(), torch.tensor([[71]])])
def test_symbols_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=r"symbols (is|go)"):
        decode(wrong)


def test_every_string_is_the_digits_name_between_blanks():
    texts, labels = words(1000)
    assert {len(text) for text in texts} == {LENGTH}
    assert [text.strip() for text in texts] == [WORDS[label] for label in labels.tolist()]
    assert " ".join(WORDS) == "zero one two three four five six seven eight nine"


def test_every_start_that_fits_is_equally_frequent():
    """Each of the fifty strings: 3,000 words a digit, frequencies within five standard errors."""
    texts, labels = words()
    assert len(set(texts)) == 50 == sum(LENGTH - len(word) + 1 for word in WORDS)
    for digit, word in enumerate(WORDS):
        start = torch.tensor([text.index(word) for text in texts[digit::10]])
        n, places = len(start), LENGTH - len(word) + 1
        assert labels[digit::10].unique().tolist() == [digit]
        share = torch.bincount(start, minlength=places).double() / n
        assert len(share) == places  # the right-most one is among them
        assert (share - 1 / places).abs().max() < 5 * math.sqrt((1 - 1 / places) / places / n)


def test_the_place_says_of_the_digit_no_more_than_its_length():
    """Digits of one length start alike, and a string's start tells nothing of the next one's."""
    texts, labels = words()
    start = torch.tensor([len(text) - len(text.lstrip()) for text in texts]).double()
    for length in (3, 4, 5):
        means = [start[labels == digit].mean() for digit, word in enumerate(WORDS) if len(word) == length]
        spread = math.sqrt(((LENGTH - length + 1) ** 2 - 1) / 12)  # of one start
        assert max(means) - min(means) < 5 * spread * math.sqrt(2 / 3000)
    centred = start - torch.stack([start[labels == digit].mean() for digit in range(10)])[labels]
    assert (centred[1:] * centred[:-1]).mean().abs() < 5 * centred.var() / math.sqrt(len(texts))


# --- data sets ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three(cache):
    return data.load("hand-street-text", cache=cache, **SMALL)


def test_images_are_those_of_the_data_set_without_text(three, cache):
    two = data.load("hand-street", cache=cache, **SMALL)
    assert three.name == "hand-street-text" and list(three.shapes) == ["hand", "street", "text"]
    assert three.shapes["text"] == (8,) and three.symbols == {"text": 71} and two.symbols == {}
    for name, split in two.splits.items():
        for modality, items in split.items.items():
            same = three.splits[name].items[modality]
            assert torch.equal(same.values, items.values) and torch.equal(same.original, items.original)
            assert torch.equal(same.labels, items.labels)


def test_rows_show_one_digit_three_times(three):
    for name, split in three.splits.items():
        assert len(split) == SMALL[name] == len(split.items["text"])
        batch = split.batch(torch.arange(len(split)))
        assert batch["text"].dtype == torch.int64 and batch["hand"].dtype == torch.float32
        spelled = [WORDS.index(text.strip()) for text in decode(batch["text"])]
        assert spelled == split.labels.tolist()


def test_splits_share_no_string_and_seeds_make_others(three, cache):
    original = [split.items["text"].original for split in three.splits.values()]
    assert len(torch.cat(original).unique()) == sum(SMALL.values())
    values = {name: split.items["text"].values for name, split in three.splits.items()}
    assert not torch.equal(values["train"][:100], values["test"])
    assert not torch.equal(values["validation"], values["test"])
    again = data.load("hand-street-text", cache=cache, **SMALL)
    assert torch.equal(again.test.items["text"].values, values["test"])
    other = data.load("hand-street-text", cache=cache, seed=1, **SMALL)
    assert not torch.equal(other.test.items["text"].values, values["test"])


def test_options_are_those_of_the_images(cache):
    made = data.load("hand-street-text", cache=cache, dm=3, fraction=0.5, paired=0.5, always="text", **SMALL)
    half = len(made.train.items["text"])
    assert half == 100 and len(made.train) % 3 == 0
    assert made.provenance["pairing"]["dm"] == 3 and made.provenance["pairing"]["always"] == "text"
    seen = made.train.observed
    assert seen["text"].all() and seen["hand"].double().mean() == pytest.approx(0.5, abs=0.01)
    assert made.validation.observed is None
    with pytest.raises(ValueError, match="hand-street-text has no option 'word'"):
        data.load("hand-street-text", word=1)
    with pytest.raises(ValueError, match="always is 'svhn'; expected one of hand, street, text"):
        data.load("hand-street-text", always="svhn")


def test_mnist_svhn_text_reads_the_files_of_mnist_svhn(tmp_path):
    write_mnist(tmp_path)
    write_subset(tmp_path)
    two = data.load("mnist-svhn", cache=tmp_path, verify=False)
    three = data.load("mnist-svhn-text", cache=tmp_path, verify=False)
    assert three.shapes == {"mnist": (1, 28, 28), "svhn": (3, 32, 32), "text": (8,)}
    assert three.provenance["pairing"]["dm"] == 20 and two.provenance["pairing"]["dm"] == 30
    assert three.provenance["sha256"] == two.provenance["sha256"]
    assert len(three.train) * 30 == len(two.train) * 20
    assert len(three.train.items["text"]) == len(two.train.items["mnist"])
    with pytest.raises(data.DataFileError, match="is missing"):
        data.load("mnist-svhn-text", cache=tmp_path / "elsewhere")


# --- judges ---------------------------------------------------------------------------------------------------------


def test_judges_of_text_leave_those_of_the_images_alone(tmp_path):
    quick = {"steps": 20, "batch_size": 32, "width": 0.15, "learning_rate": 0.01, "cache": tmp_path}
    three, two = (data.load(name, cache=tmp_path, **SMALL) for name in ("hand-street-text", "hand-street"))
    judges = train_classifiers(three, **quick)
    assert list(judges.networks) == list(judges.accuracy) == ["hand", "street", "text"]
    folders = sorted(path.name for path in tmp_path.glob("classifiers-*"))
    stored = {path: path.read_bytes() for path in tmp_path.glob("classifiers-*/data.safetensors")}
    alone = train_classifiers(two, **quick)
    assert sorted(path.name for path in tmp_path.glob("classifiers-*")) == folders and len(folders) == 2
    assert stored == {path: path.read_bytes() for path in stored}
    assert alone.accuracy == {name: judges.accuracy[name] for name in ("hand", "street")}
    for name, network in train_classifiers(two, **quick | {"cache": False}).networks.items():
        for key, value in network.state_dict().items():
            assert torch.equal(judges.networks[name].state_dict()[key], value)

    text = three.validation.items["text"]
    certain = torch.nn.functional.one_hot(text.values, 71).double()  # what a decoder that is sure generates
    right = judges.predict("text", text.values) == text.labels
    assert right.double().mean() == judges.accuracy["text"]["validation"]["value"]
    assert torch.equal(judges.predict("text", certain) == text.labels, right)
    with pytest.raises(ValueError, match=r"x has shape \(100, 7\)"):
        judges.predict("text", text.values[:, :7])


# --- pictures -------------------------------------------------------------------------------------------------------


def test_texts_are_drawn_beside_images():
    text = encode(["three   ", "        ", "   three"])
    page = grids.written(text)
    assert page.shape == (3, 1, 128, 128) and page[1].unique().tolist() == pytest.approx([0.9])
    ink = 0.9 - page[:, 0]
    torch.testing.assert_close(ink[0, :, :80], ink[2, :, 48:])  # three characters of sixteen pixels further
    assert ink[0, :, :80].max() > 0.8 and ink[0, :, 80:].max() == 0
    picture = grids.tile([torch.rand(3, 3, 16, 16), text])
    assert picture.shape == (2 * 130 + 2, 3 * 130 + 2, 3)
    assert grids.tile([torch.rand(3, 3, 16, 16), text], side=64).shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    assert grids.written(torch.zeros(2, 256).long()).shape == (
        2,
        1,
        128,
        128,
    )  # long ones have smaller letters


def test_an_unsure_text_is_drawn_as_the_mean_of_what_it_may_be():
    both = torch.nn.functional.one_hot(encode(["three   ", "   three"]), 71).float()
    mean = grids.written(both.mean(0, keepdim=True))
    torch.testing.assert_close(mean, grids.written(both).mean(0, keepdim=True))


def test_what_is_no_text_is_not_drawn_as_one():
    for row in (torch.full((2, 8), 71), torch.rand(2, 8, 70), torch.rand(2, 8)):
        assert not grids.is_text(row)
        with pytest.raises(ValueError, match="row 0 is"):
            grids.tile([row])
