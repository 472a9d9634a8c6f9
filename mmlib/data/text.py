"""The *text* modality: the English name of a digit somewhere in a string of eight characters, and data sets with it."""

from __future__ import annotations

import inspect
import os
import string
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import whole

from .batches import derived_generator
from .core import SPLITS, DataSet, Items, checked
from .hand_street import load_hand_street
from .mnist_svhn import load_mnist_svhn
from .pairing import pairing_options, three_splits

GENERATOR_VERSION = 1  # raise it whenever the strings change
LENGTH = 8  # characters of a string
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Seventy different characters. The alphabet of the released code has the minus sign twice, so one symbol is never used;
# it is kept, as the last one, because networks and likelihood are made for 71.
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation + " \n" + "-"
_SYMBOL = np.array([max(ALPHABET.find(chr(code)), 0) for code in range(128)])  # by the character's code


def encode(texts: Sequence[str]) -> Tensor:
    """Strings of one length as symbols: int64 ``[N, L]``, places in `ALPHABET`.

    Raises:
        ValueError: when there is none, lengths differ, or a character is not in the alphabet.
    """
    lengths = {len(text) for text in texts}
    if len(lengths) != 1:
        raise ValueError(f"texts have lengths {sorted(lengths)}; expected one or more strings of one length")
    strange = sorted(set("".join(texts)) - set(ALPHABET))
    if strange:
        raise ValueError(f"texts hold {strange[0]!r}; expected characters of {ALPHABET!r}")
    codes = np.frombuffer("".join(texts).encode("ascii"), np.uint8).reshape(len(texts), *lengths)
    return torch.from_numpy(_SYMBOL[codes])


def decode(symbols: Tensor) -> list[str]:
    """The strings that symbols, int64 ``[N, L]``, stand for.

    Raises:
        ValueError: when they are of another type, or leave the alphabet.
    """
    symbols = checked("symbols", symbols, torch.int64, "NC")
    if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < len(ALPHABET):
        found = f"symbols go from {int(symbols.min())} to {int(symbols.max())}"
        raise ValueError(f"{found}; expected 0 to {len(ALPHABET) - 1}")
    return ["".join(ALPHABET[symbol] for symbol in row) for row in symbols.tolist()]


def digit_words(labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The name of each digit, in lower case, at a random place between blanks: int64 ``[N, 8]``.

    Every start from which the word fits is equally likely. (The code released with Sutter et al. 2020 never uses the
    right-most one, and draws a string anew whenever it is read.) There are fifty such strings in all, so that every
    string of a test set occurs in training too: text tells how well modalities agree, and nothing of new texts.

    Args:
        labels: int64 ``[N]``, digits from 0 to 9.
        generator: source of the places.
    """
    at_left = encode([word.ljust(LENGTH) for word in WORDS])
    places = torch.tensor([LENGTH - len(word) + 1 for word in WORDS])[labels]
    start = (torch.rand(len(labels), generator=generator) * places).long()
    # what leaves at the right comes back at the left: blanks
    return at_left[labels].gather(1, (torch.arange(LENGTH) - start[:, None]) % LENGTH)


def load_hand_street_text(
    size: int | None = None, cache: str | os.PathLike | None = None, **options
) -> DataSet:
    """Handwritten digits, house numbers and the name of the digit, three modalities of the same class.

    *hand* and *street* are those of `mmlib.data.hand_street.load_hand_street`, item by item. *text* ``[8]``, symbols
    from 71, has as many strings as *hand* has images, see `digit_words`; ``original`` is a string's own number, and no
    draw is shared between splits. Rows pair items of the three at random within a class.

    Args:
        size: 16 (default) or 32 pixels a side.
        cache: folder for the generated file; default as in `mmlib.data.cache.cache_root`.
        **options: those of `mmlib.data.hand_street.load_hand_street`.

    Raises:
        ValueError: for an impossible option.
    """
    return _with_text("hand-street-text", load_hand_street, ("hand", "street"), size, cache, options)


def load_mnist_svhn_text(
    size: int | None = None, cache: str | os.PathLike | None = None, **options
) -> DataSet:
    """MNIST, SVHN and the name of the digit, three modalities of the same class.

    *mnist* and *svhn* are those of `mmlib.data.mnist_svhn.load_mnist_svhn`, item by item. *text* is as in
    `load_hand_street_text`, with as many strings as *mnist* has images.

    Args:
        size: None or 32; the images keep their official sizes.
        cache: data folder; default as in `mmlib.data.cache.cache_root`.
        **options: those of `mmlib.data.mnist_svhn.load_mnist_svhn`; ``dm`` is 20 by default, as in Sutter et al. 2020.

    Raises:
        ValueError: for an impossible option.
        DataFileError: when a file is missing or damaged; says what to put where.
    """
    options = {"dm": 20, **options}
    return _with_text("mnist-svhn-text", load_mnist_svhn, ("mnist", "svhn"), size, cache, options)


def _with_text(
    name: str, load: Callable, images: tuple[str, str], size: int | None, cache: object, options: dict
) -> DataSet:
    """The two modalities of a data set of images, paired anew with text as the third."""
    asked = {key: options.pop(key) for key in inspect.signature(pairing_options).parameters if key in options}
    pairing = pairing_options((*images, "text"), **asked)
    seed = whole("seed", options.get("seed", 0), 0)
    pictures = load(size, cache, **options, dm=1)  # its items are whole; its pairs are not used
    sets, first = {}, 0
    for s, split in enumerate(SPLITS):
        items = pictures.splits[split].items
        labels = items[images[0]].labels
        words = digit_words(labels, derived_generator(seed, 3, s))
        text = Items(words, labels, first + torch.arange(len(labels)), len(ALPHABET))
        sets[split], first = {**items, "text": text}, first + len(labels)
    about = {"beside": pictures.name, "generator_version": GENERATOR_VERSION}
    provenance = {**pictures.provenance, "pairing": pairing, "text": about}
    return DataSet(name, **three_splits(sets, pairing, seed), provenance=provenance)
