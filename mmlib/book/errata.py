"""Errata: what the papers print and what is right, what their released code does, what they leave open.

The entries are rows of ``data/errata.yaml``. Each has a reason, and where a number of ours can show it, the tests and
the places of the book that do.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmlib.book import entries

ERRATA = entries.DATA / "errata.yaml"
PAPERS = {
    "mmali": "Multimodal Adversarially Learned Inference with Factorized Discriminators",
    "mmjsd": "Multimodal Generative Learning Utilizing Jensen-Shannon-Divergence (supplement)",
    "rbc": "Relating by Contrasting",
    "meme": "Learning Multimodal VAEs through Mutual Supervision",
    "mmvae": "Variational Mixture-of-Experts Autoencoders",
    "mvae": "Multimodal Generative Models for Scalable Weakly-Supervised Learning",
    "jmvae": "Joint Multimodal Learning with Deep Generative Models",
    "mopoe": "Generalized Multimodal ELBO",
    "cub": "Birds with captions, in several papers",
}
KINDS = {
    "error": "mathematics or a number that cannot be right as it stands",
    "misprint": "a slip of the pen: what is meant is clear, or another line of the same paper says it",
    "inconsistency": "two places of the paper do not agree with each other",
    "claim": "a sentence says more than the paper's own numbers do",
    "code": "paper and released code differ",
    "silent": "the paper does not say, and a choice had to be made",
}


@dataclass(frozen=True)
class Erratum:
    """One row of ``data/errata.yaml``."""

    id: str  #: unique, ``<paper>-<rest>``.
    paper: Literal[*PAPERS]  #: a key of `PAPERS`.
    kind: Literal[*KINDS]  #: a key of `KINDS`.
    place: str  #: where in the paper or in its code.
    title: str  #: one line.
    printed: str  #: what the paper says.
    correct: str  #: what is right, or what the code does, or what we choose where both are silent.
    reason: str  #: why, in a few plain sentences.
    #: tests (``tests/test_x.py::test_name``) and places of the book (``page.ipynb#anchor``, the anchor a label or the
    #: slug of a heading) where a number shows it.
    shown_by: tuple[str, ...]
    equations: tuple[str, ...]  #: ids in ``data/equations.yaml``.
    exhibits: tuple[str, ...]  #: ids of tables and figures in ``data/ledger``.

    def __post_init__(self):
        """Refuse an id that does not begin with the paper."""
        if not re.fullmatch(rf"{self.paper}-[a-z0-9-]+", self.id):
            raise ValueError(f"id is {self.id!r}; expected {self.paper}-<rest> in lower case")


def load(path: Path | str = ERRATA) -> dict[str, Erratum]:
    """All entries by id, in the order of the file.

    Raises:
        ValueError: if an entry is not as an `Erratum`; names file, entry and field.
    """
    return entries.load(path, Erratum)
