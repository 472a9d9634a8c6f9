"""What is said of a bird: attributes, a grammar of captions that writes and reads, and how much of a caption is true.

The grammar is written down once, as nested rules. :func:`write` goes through them with the attributes of a bird and
draws among what is true of it, more or less freely; :func:`read` turns the same rules into one regular expression,
whose groups are what a caption states. So nothing can be written that is not understood.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

COLOURS = ("black", "white", "grey", "brown", "red", "orange", "yellow", "green", "blue")
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "crown": COLOURS,
    "back": COLOURS,
    "wing": COLOURS,
    "belly": COLOURS,
    "beak_colour": ("black", "grey", "yellow", "orange"),
    "beak_shape": ("pointed", "hooked", "rounded"),
    "beak_length": ("short", "long"),
    "size": ("small", "medium", "large"),
    "pose": ("perched", "standing", "flying"),
    "background": ("sky", "leaves", "water"),
}
PLUMAGE = ("crown", "back", "wing", "belly")
MAIN = "main"  # the colour that two parts of the plumage or more have, if just one is so: said, never drawn
SYNONYMS = {  # what else a value may be called
    "grey": ("grey", "gray"),
    "brown": ("brown", "brownish"),
    "yellow": ("yellow", "yellowish"),
    "small": ("small", "little", "tiny"),
    "medium": ("medium sized",),
    "large": ("large", "big"),
    "pointed": ("pointed", "sharp"),
    "hooked": ("hooked", "curved"),
    "rounded": ("rounded", "stubby"),
    "perched": ("sitting on a branch", "perched on a branch"),
    "standing": ("standing upright", "standing still"),
    "flying": ("flying", "in full flight"),
    "sky": ("against the sky", "high in the air"),
    "leaves": ("among leaves", "in front of green leaves"),
    "water": ("near the water", "by a lake"),
}
LENGTH = 32  # places of a caption: words and the end of it
FEATURES, PLAIN = 4, 3  # that a caption lists at most, and in plain wording


@dataclass(frozen=True)
class Say:
    """The value that the named attributes share, in one of its words."""

    attributes: tuple[str, ...]


@dataclass(frozen=True)
class Any:
    """One of several rules."""

    options: tuple


def say(*attributes: str) -> Say:
    """The rule that states these attributes."""
    return Say(attributes)


def one(*options) -> Any:
    """The rule that is one of these; ``""`` says nothing."""
    return Any(options)


SIZE, COLOUR = say("size"), say(MAIN)
KIND = one("bird", [SIZE, "bird"], [COLOUR, "bird"], [SIZE, COLOUR, "bird"])
OPENING = one(  # the first of several ways is the plain one
    ["this", one(SIZE, ""), "bird has"],
    ["the", one("", SIZE), "bird has"],
    ["a", KIND, "with"],
    ["this is a", KIND, "with"],
    ["this", one("", SIZE), "bird is", one("", "mostly"), COLOUR, "with"],
)
NOUNS = {
    "crown": one("crown", "head", "cap"),
    "back": one("back", "mantle"),
    "wing": one("wings", "wing feathers"),
    "belly": one("belly", "breast", "chest"),
}
BEAK = one("beak", "bill")
_LONG, _SHAPED, _COLOURED = say("beak_length"), say("beak_shape"), say("beak_colour")
FEATURE = {
    "crown": ["a", say("crown"), NOUNS["crown"]],
    "back": ["a", say("back"), NOUNS["back"]],
    "wing": one([say("wing"), NOUNS["wing"]], ["wings that are", say("wing")]),
    "belly": ["a", say("belly"), NOUNS["belly"]],
    "beak": one(
        ["a", _LONG, _SHAPED, BEAK],
        ["a", _LONG, BEAK],
        ["a", one("", _LONG), _COLOURED, BEAK],
        ["a", _SHAPED, one("", _COLOURED), BEAK],
        ["a", BEAK, "that is", _LONG, "and", _SHAPED],
    ),
}
for _first, _second in (
    ("crown", "back"),
    ("crown", "belly"),
    ("back", "belly"),
    ("back", "wing"),
    ("belly", "wing"),
):
    FEATURE[f"{_first} {_second}"] = ["a", say(_first, _second), NOUNS[_first], "and", NOUNS[_second]]
ENDING = one("", [",", say("pose")], [",", say("background")], [",", say("pose"), say("background")])


@dataclass(frozen=True)
class Reading:
    """What was understood of a caption: whether it follows the grammar, and what it states, attribute to value."""

    parsed: bool
    stated: Mapping[str, str]


def words_of(value: str) -> tuple[str, ...]:
    """What a value may be called."""
    return SYNONYMS.get(value, (value,))


def values_of(attribute: str) -> tuple[str, ...]:
    """The values of an attribute, ``"main"`` among them."""
    return COLOURS if attribute == MAIN else ATTRIBUTES[attribute]


def described(row: Sequence[int]) -> dict[str, str]:
    """Attribute to value of one bird, from its numbers in the order of ``ATTRIBUTES``; ``"main"`` if there is one."""
    facts = {name: values[i] for (name, values), i in zip(ATTRIBUTES.items(), row, strict=True)}
    shown = [facts[part] for part in PLUMAGE]
    often = [colour for colour in dict.fromkeys(shown) if shown.count(colour) >= 2]
    return facts | ({MAIN: often[0]} if len(often) == 1 else {})


def write(facts: Mapping[str, str], draw: random.Random, freedom: float = 1.0) -> str:
    """A caption of at most 31 words, joined by blanks, that says only what is true of a bird.

    Args:
        facts: of the bird, as :func:`described` gives them.
        draw: source of randomness.
        freedom: chance of each decision about wording (which words, how many parts, in which order, how it begins and
            ends) to be drawn; else it is the plain one. Which parts are spoken of is always drawn.
    """

    def free() -> bool:
        return draw.random() < freedom

    def choose(options: Sequence):
        return draw.choice(options) if free() else options[0]

    def spoken(rule) -> str:
        if isinstance(rule, str):
            return rule
        if isinstance(rule, Say):
            return choose(words_of(facts[rule.attributes[0]]))
        if isinstance(rule, Any):
            return spoken(choose([option for option in rule.options if _possible(option, facts)]))
        return " ".join(filter(None, map(spoken, rule)))

    while True:
        count = draw.choices((1, 2, 3, 4), (1, 4, 4, 1))[0] if free() else PLAIN
        names = list(FEATURE) if free() else [name for name in FEATURE if " " not in name]
        chosen, said = [], set()
        for name in draw.sample(names, len(names)):
            if len(chosen) < count and not set(name.split()) & said and _possible(FEATURE[name], facts):
                chosen.append(name)
                said |= set(name.split())
        chosen = chosen if free() else sorted(chosen, key=list(FEATURE).index)
        features = [spoken(FEATURE[name]) for name in chosen]
        listed = " and ".join([" , ".join(features[:-1]), features[-1]] if features[1:] else features)
        ending = spoken(ENDING) if free() and draw.random() < 0.4 else ""
        words = _article(" ".join(filter(None, [spoken(OPENING), listed, ending])).split())
        if len(words) < LENGTH:
            return " ".join(words)


def read(caption: str) -> Reading:
    """What a caption, words joined by blanks, states, if it follows the grammar and states nothing twice."""
    found = _pattern().fullmatch(f" {caption}")  # each word of the pattern has a blank before it
    if found is None:
        return Reading(False, {})
    stated: dict[str, str] = {}
    for group, word in found.groupdict().items():
        for attribute in [] if word is None else group.rpartition("_")[0].split("__"):
            if attribute in stated:
                return Reading(False, {})
            stated[attribute] = next(v for v in values_of(attribute) if word in words_of(v))
    return Reading(True, stated)


def agreement(captions: Sequence[str], attributes: Tensor) -> tuple[Tensor, Tensor]:
    """Whether captions follow the grammar, and how much of what they state is true of birds.

    A caption that does not follow the grammar states nothing that could be true: its agreement is 0.

    Args:
        captions: N of them, words joined by blanks.
        attributes: int64 ``[N, 10]`` of the birds, as in ``ATTRIBUTES``.

    Returns:
        Float64 ``[N]`` each: 1 where a caption parsed, else 0; and the share of its statements that are true.

    Raises:
        ValueError: if there are not as many birds as captions.
    """
    if attributes.ndim != 2 or attributes.shape != (len(captions), len(ATTRIBUTES)):
        expected = f"({len(captions)}, {len(ATTRIBUTES)}), a row for each caption"
        raise ValueError(f"attributes have shape {tuple(attributes.shape)}; expected {expected}")
    parsed, agreed = torch.zeros(2, len(captions), dtype=torch.float64)
    for n, (caption, row) in enumerate(zip(captions, attributes.tolist(), strict=True)):
        reading, facts = read(caption), described(row)
        parsed[n] = reading.parsed
        true = [facts.get(attribute) == value for attribute, value in reading.stated.items()]
        agreed[n] = sum(true) / len(true) if true else 0.0
    return parsed, agreed


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """All words that the grammar can say, in alphabetical order."""
    rules, words = [OPENING, *FEATURE.values(), ENDING, "and , an"], set()
    while rules:
        rule = rules.pop()
        if isinstance(rule, str):
            words |= set(rule.split())
        elif isinstance(rule, Say):
            rules += [word for a in rule.attributes for value in values_of(a) for word in words_of(value)]
        else:
            rules += rule.options if isinstance(rule, Any) else rule
    return tuple(sorted(words))


def _possible(rule, facts: Mapping[str, str]) -> bool:
    """Whether something true of a bird can be said by a rule."""
    if isinstance(rule, Say):
        return rule.attributes[0] in facts and len({facts.get(a) for a in rule.attributes}) == 1
    if isinstance(rule, Any):
        return any(_possible(option, facts) for option in rule.options)
    return isinstance(rule, str) or all(_possible(part, facts) for part in rule)


def _article(words: list[str]) -> list[str]:
    """The same words, "an" before a vowel."""
    after = [*words[1:], ""]
    return [
        "an" if w == "a" and then[:1] in tuple("aeiou") else w for w, then in zip(words, after, strict=True)
    ]


@lru_cache(maxsize=1)
def _pattern() -> re.Pattern:
    """The grammar as one regular expression; a group is named after what it states, and numbered."""
    count = iter(range(10_000))

    def expression(rule) -> str:
        if isinstance(rule, str):
            words = (r"(?:an(?= [aeiou])|a(?! [aeiou]))" if w == "a" else re.escape(w) for w in rule.split())
            return "".join(f" {word}" for word in words)
        if isinstance(rule, Say):
            words = (word for value in values_of(rule.attributes[0]) for word in words_of(value))
            return f" (?P<{'__'.join(rule.attributes)}_{next(count)}>{'|'.join(map(re.escape, words))})"
        if isinstance(rule, Any):
            return f"(?:{'|'.join(map(expression, rule.options))})"
        return "".join(map(expression, rule))

    def feature() -> str:
        return f"(?:{'|'.join(map(expression, FEATURE.values()))})"

    between = "".join(f"(?: ,{feature()})?" for _ in range(FEATURES - 2))
    whole = expression(OPENING) + feature() + f"(?:{between} and{feature()})?" + expression(ENDING)
    return re.compile(whole)
