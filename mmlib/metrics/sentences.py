"""Captions as vectors: FastText for the words, a weighted mean for the caption, its main direction taken out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmlib.checks import positive, whole
from mmlib.data.vocabulary import END, PADDING, SPECIAL, Vocabulary

WINDOW = 3  # words at either side that predict one
BUCKETS = 100_000  # of FastText's parts of words; a caption's vocabulary does not fill the usual two millions


def word_vectors(
    captions: Sequence[Sequence[str]],
    vocabulary: Vocabulary,
    size: int = 300,
    epochs: int = 10,
    seed: int = 0,
) -> Tensor:
    """FastText vectors of a vocabulary, float32 ``[V, size]``, learned from training captions by gensim.

    As in the released code of Shi et al. 2019: continuous bags of words; the symbols for an unknown word, padding and
    the end have the vectors -1, 0 and +1 throughout. One thread, so that the same seed gives the same vectors.

    Args:
        captions: each a list of words.
        vocabulary: which words; one that was not seen in the captions has the vector of its parts.
        size: numbers of a word.
        epochs: passes over the captions.
        seed: of the initial vectors and of what is drawn.

    Raises:
        ModuleNotFoundError: if gensim is not installed, saying how to.
    """
    try:
        from gensim.models import FastText
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("word vectors need gensim: pip install 'mmlib[captions]'") from error
    size, epochs = whole("size", size), whole("epochs", epochs)
    options = {"vector_size": size, "window": WINDOW, "min_count": 3, "bucket": BUCKETS, "workers": 1}
    model = FastText(list(captions), epochs=epochs, seed=whole("seed", seed, 0), **options)
    vectors = torch.stack([torch.from_numpy(model.wv.get_vector(word).copy()) for word in vocabulary.words])
    special = torch.tensor([[-1.0], [0.0], [1.0]]).expand(len(SPECIAL), size)  # unknown, padding, end
    return torch.cat([special, vectors])


def sif_weights(symbols: Tensor, classes: int, a: float = 1e-3) -> Tensor:
    """Weights of words that count less the more frequent they are: float64 ``[classes]``, 0 for padding and end.

    Equation: ``eq-sif``. Source: Arora, Liang and Ma 2017, "A simple but tough-to-beat baseline for sentence
    embeddings", Section 3.

    .. code-block:: text

        weight(w) = a / (a + p(w)),   p(w) the share of w among the words of the training captions

    Args:
        symbols: int64 ``[N, L]``, training captions.
        classes: size of the vocabulary.
        a: at this share a word counts half.
    """
    counts = torch.bincount(symbols.flatten(), minlength=classes).double()
    counts[[PADDING, END]] = 0
    a = positive("a", a)
    weights = a / (a + counts / counts.sum())
    weights[[PADDING, END]] = 0
    return weights


def sentence_vectors(symbols: Tensor, vectors: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the vectors of a caption's symbols up to its end, float64 ``[N, size]``.

    As in the released code of Shi et al. 2019 the end counts for the length, although its weight is 0. A caption
    without an end is taken whole.

    Args:
        symbols: int64 ``[N, L]``.
        vectors: ``[V, size]`` of the symbols.
        weights: ``[V]`` of the symbols.
    """
    ended = (symbols == END).long().cumsum(1)
    inside = (ended == 0) | ((symbols == END) & (ended == 1))
    each = weights.double()[symbols] * inside
    return torch.einsum("nl,nld->nd", each, vectors.double()[symbols]) / inside.sum(1, keepdim=True)


def plain_weights(classes: int) -> Tensor:
    """Weights of a plain mean (Joy et al. 2022, Appendix G): 1 for every word, 0 for padding and end."""
    weights = torch.ones(classes, dtype=torch.float64)
    weights[[PADDING, END]] = 0
    return weights


def main_direction(sentences: Tensor) -> Tensor:
    """First principal component of vectors ``[N, size]``, of length 1: what all captions have in common."""
    _, _, axes = torch.linalg.svd(sentences - sentences.mean(0), full_matrices=False)
    return axes[0].clone()


def without(sentences: Tensor, direction: Tensor) -> Tensor:
    """Vectors ``[N, size]`` less their parts along a direction of length 1."""
    return sentences - (sentences @ direction)[:, None] * direction
