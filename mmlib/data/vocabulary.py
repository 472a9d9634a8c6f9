"""Captions as symbols: a fixed list of words, an end, and padding up to one length."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import whole

from .core import checked

# The first three symbols, as in the released code of Shi et al. 2019.
UNKNOWN, PADDING, END = 0, 1, 2
SPECIAL = ("<unknown>", "<padding>", "<end>")


def tokens(caption: str) -> list[str]:
    """Words in lower case and signs of punctuation, one by one: ``"It's red."`` gives it, ', s, red and a full stop.

    Our choice: the released code of Shi et al. 2019 takes the tokens of NLTK, "it" and "'s", in upper and lower case.
    """
    return re.findall(r"\w+|[^\w\s]", caption.lower())


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model can say, behind the three special symbols.

    Args:
        words: no word twice, none of them special.

    Raises:
        ValueError: if there is none, or one is not a word or there twice.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        bad = [
            w
            for w, n in Counter(self.words).items()
            if n > 1 or w in SPECIAL or not w or w != "".join(w.split())
        ]
        if bad or not self.words:
            found = repr(bad[0]) if bad else "nothing"
            raise ValueError(f"words hold {found}; expected different words without blanks, one or more")

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]], more_than: int = 3) -> Vocabulary:
        """The words that occur ``more_than`` so often in captions, each a list of words, in order of appearance.

        Source: Shi et al. 2019, released code: more than three times in the training captions.
        """
        counts = Counter(word for caption in captions for word in caption)
        return cls(tuple(word for word, n in counts.items() if n > whole("more_than", more_than, 0)))

    def __len__(self) -> int:
        return len(self.words) + len(SPECIAL)

    def encode(self, captions: Sequence[Sequence[str]], length: int = 32) -> Tensor:
        """Captions, each a list of words, as symbols int64 ``[N, length]``.

        The first ``length - 1`` words, those that are not known as one and the same symbol, then the end, then padding.

        Raises:
            ValueError: if there is no caption, or one is not split into words.
        """
        places = {word: i for i, word in enumerate((*SPECIAL, *self.words))}
        if not len(captions) or any(isinstance(caption, str) for caption in captions):
            raise ValueError(
                "captions are empty or not split into words; expected lists of words, one or more"
            )
        symbols = torch.full((len(captions), whole("length", length, 2)), PADDING)
        for row, caption in zip(symbols, captions, strict=True):
            known = [places.get(word, UNKNOWN) for word in caption[: length - 1]]
            row[: len(known) + 1] = torch.tensor([*known, END])
        return symbols

    def decode(self, symbols: Tensor) -> list[str]:
        """Captions, words joined by blanks, that symbols int64 ``[N, L]`` stand for: what comes before the end.

        Raises:
            ValueError: if they have another type, or leave the vocabulary.
        """
        symbols = checked("symbols", symbols, torch.int64, "NC")
        if symbols.numel() and not 0 <= int(symbols.min()) <= int(symbols.max()) < len(self):
            found = f"symbols go from {int(symbols.min())} to {int(symbols.max())}"
            raise ValueError(f"{found}; expected 0 to {len(self) - 1}")
        names, captions = (*SPECIAL, *self.words), []
        for row in symbols.tolist():
            said = row[: row.index(END)] if END in row else row
            captions.append(" ".join(names[symbol] for symbol in said if symbol != PADDING))
        return captions
