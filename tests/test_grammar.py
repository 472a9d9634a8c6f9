"""Captions of birds: what is written is understood and true, and what is not grammar is refused."""

import random

import pytest
import torch

from mmlib.data import grammar
from mmlib.data.vocabulary import END, PADDING, UNKNOWN, Vocabulary, tokens

BIRD = {
    "crown": "red", "back": "black", "wing": "black", "belly": "white", "beak_colour": "yellow", "beak_shape": "hooked",
    "beak_length": "long", "size": "small", "pose": "flying", "background": "water",
}  # fmt: skip


def numbers(bird):
    return [values.index(bird[name]) for name, values in grammar.ATTRIBUTES.items()]


@pytest.fixture(scope="module")
def birds():
    draw = torch.Generator().manual_seed(0)
    columns = [torch.randint(len(v), (400,), generator=draw) for v in grammar.ATTRIBUTES.values()]
    return torch.stack(columns, 1)


@pytest.fixture(scope="module")
def captions(birds):
    draw = random.Random(0)
    return [grammar.write(grammar.described(row), draw) for row in birds.tolist()]


def test_the_main_colour_is_that_of_two_parts_or_more_if_just_one_is():
    assert grammar.described(numbers(BIRD)) == {**BIRD, "main": "black"}
    assert "main" not in grammar.described(numbers({**BIRD, "wing": "blue"}))  # four colours
    assert "main" not in grammar.described(numbers({**BIRD, "belly": "red"}))  # two of one, two of another


@pytest.mark.parametrize(
    ("caption", "stated"),
    {
        "this bird has a red crown": "crown red",
        "a little black bird with a curved yellow bill": "size small main black beak_shape hooked beak_colour yellow",
        "the bird has a red head and wings that are gray": "crown red wing grey",
        "this bird has a black back and wings , a white chest and a bill that is long and curved": (
            "back black wing black belly white beak_length long beak_shape hooked"
        ),
        "this bird has a white head , flying near the water": "crown white pose flying background water",
        "this big bird is mostly brownish with an orange belly": "size large main brown belly orange",
    }.items(),
)
def test_captions_are_understood(caption, stated):
    words = stated.split()
    assert grammar.read(caption) == grammar.Reading(True, dict(zip(words[::2], words[1::2], strict=True)))


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "this bird has",
        "bird red a",
        "this bird has a red crown and",
        "this bird has a orange crown",  # an
        "this bird has an red crown",
        "this bird has a red crown and a blue crown",  # twice
        "this bird has a red crown and belly and a white breast",  # twice, by another name
        "this bird has a red crown ,  flying",
        "this bird has a red crown <unknown>",
        "this bird has a purple crown",
    ],
)
def test_what_is_no_caption_is_refused(caption):
    assert grammar.read(caption) == grammar.Reading(False, {})


def test_what_is_written_is_understood_and_true(birds, captions):
    parsed, agreed = grammar.agreement(captions, birds)
    assert parsed.min() == agreed.min() == 1
    assert max(len(caption.split()) for caption in captions) < grammar.LENGTH
    assert len(set(captions)) > 0.95 * len(captions)


def test_plain_captions_have_one_way_of_saying_things():
    facts, draw = grammar.described(numbers(BIRD)), random.Random(0)
    captions = {grammar.write(facts, draw, freedom=0.0) for _ in range(200)}
    assert len(captions) == 10  # three of five parts
    assert (
        "this small bird has a red crown , a black back and a long hooked bill".replace("bill", "beak")
        in captions
    )
    assert all(grammar.read(caption).parsed for caption in captions)
    mixed = {grammar.write(facts, draw, freedom=0.2) for _ in range(200)}
    assert 10 < len(mixed) < 200


def test_everything_is_said_now_and_then(captions):
    assert {attribute for caption in captions for attribute in grammar.read(caption).stated} == {
        *grammar.ATTRIBUTES,
        "main",
    }
    assert set(grammar.vocabulary()) == {word for caption in captions for word in caption.split()}


def test_agreement_is_the_share_of_what_is_stated_that_is_true():
    captions = [
        "this bird has a red crown and a blue belly",
        "the bird has a white chest",
        "bird bird",
        "this bird has a long beak",
    ]
    parsed, agreed = grammar.agreement(captions, torch.tensor([numbers(BIRD)] * 4))
    assert parsed.tolist() == [1, 1, 0, 1]
    assert agreed.tolist() == [0.5, 1, 0, 1]


def test_a_main_colour_that_a_bird_has_not_is_not_true():
    _, agreed = grammar.agreement(
        ["a red bird with a red crown"], torch.tensor([numbers({**BIRD, "wing": "blue"})])
    )
    assert agreed.tolist() == [0.5]


def test_captions_of_other_birds_are_less_true(birds, captions):
    _, agreed = grammar.agreement(captions, birds.roll(1, 0))
    assert 0.1 < agreed.mean() < 0.35  # chance of a colour: 1 of 9; of other attributes: 1 of 2 to 4


def test_birds_and_captions_must_be_as_many(birds):
    with pytest.raises(ValueError, match=r"attributes have shape \(400, 10\); expected \(1, 10\)"):
        grammar.agreement(["this bird has a red crown"], birds)


# --- vocabularies ---------------------------------------------------------------------------------------------------


def test_captions_become_symbols_and_words_again():
    words = Vocabulary(("a", "red", "bird"))
    symbols = words.encode([["a", "red", "bird"], ["a", "big", "bird"], ["a"] * 9], length=5)
    assert symbols.tolist() == [[3, 4, 5, END, PADDING], [3, UNKNOWN, 5, END, PADDING], [3, 3, 3, 3, END]]
    assert words.decode(symbols) == ["a red bird", "a <unknown> bird", "a a a a"]
    assert words.decode(torch.tensor([[3, 4, PADDING, 5]])) == ["a red bird"]  # no end: all of it
    assert len(words) == 6


def test_a_vocabulary_has_the_words_that_are_frequent():
    captions = [["a", "b"], ["a", "c"], ["b", "a"], ["a", "c"]]
    assert Vocabulary.of(captions, more_than=1).words == ("a", "b", "c")
    assert Vocabulary.of(captions, more_than=3).words == ("a",)
    assert Vocabulary.of(captions).words == ("a",)  # more than three times, as in the paper's code


def test_texts_fall_into_words_and_signs():
    assert tokens("It's a Red-billed bird.") == ["it", "'", "s", "a", "red", "-", "billed", "bird", "."]


@pytest.mark.parametrize("words", [(), ("a", "a"), ("a b",), ("",), ("<end>",)])
def test_impossible_words_are_refused(words):
    with pytest.raises(ValueError, match="expected different words without blanks"):
        Vocabulary(words)


def test_impossible_captions_are_refused():
    words = Vocabulary(("a",))
    for captions in ([], ["a a"]):
        with pytest.raises(ValueError, match="captions are empty or not split into words"):
            words.encode(captions)
    with pytest.raises(ValueError, match="symbols go from 0 to 4; expected 0 to 3"):
        words.decode(torch.tensor([[0, 4]]))
