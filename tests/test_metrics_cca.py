"""Canonical correlations against their closed form; captions as vectors by hand."""

import builtins
import math

import pytest
import torch

from mmlib.data.vocabulary import END, PADDING, UNKNOWN, Vocabulary
from mmlib.metrics import (
    Projection,
    cca_score,
    fit_cca,
    main_direction,
    plain_weights,
    sentence_vectors,
    sif_weights,
    without,
    word_vectors,
)

RHO = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
ROUNDING = 1e-8  # of an eigenproblem in double precision


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def views():
    """Two views [500, 3] and [500, 4] whose sample covariances are known to the last digit: correlations RHO."""
    x = normal(500, 7)
    x = x - x.mean(0)
    x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x))).T  # covariance 1
    first, noise, alone = x.split([3, 3, 1], 1)
    return first, torch.cat([RHO * first + (1 - RHO**2).sqrt() * noise, alone], 1)


@pytest.mark.equation("eq-cca")
@pytest.mark.parametrize("convention", ["whitened", "official"])
def test_canonical_correlations_are_the_known_ones(views, convention):
    found = fit_cca(*views, k=3, ridge=0, convention=convention)
    torch.testing.assert_close(found.correlations, RHO, rtol=0, atol=ROUNDING)
    for view, directions in zip(views, found.directions, strict=True):  # each component is its own direction
        turned = directions[:3] / directions[:3].norm(dim=0)
        torch.testing.assert_close(turned, torch.eye(3).double() * turned.diag().sign(), rtol=0, atol=1e-7)
        assert view.shape[1] == len(directions)


def test_correlated_normal_draws_have_the_correlations_of_their_distribution():
    """Four standard errors, (1 - rho^2) / sqrt(N), of 40,000 draws."""
    x, noise = normal(40_000, 3), normal(40_000, 3, seed=1)
    found = fit_cca(x, RHO * x + (1 - RHO**2).sqrt() * noise, k=3, ridge=0).correlations
    assert ((found - RHO).abs() < 4 * (1 - RHO**2) / math.sqrt(40_000)).all()


@pytest.mark.equation("eq-cca")
def test_whitened_projections_have_covariance_one_and_the_right_correlation(views):
    found = fit_cca(*views, k=3, ridge=0)
    a, b = (view @ directions for view, directions in zip(views, found.directions, strict=True))
    for one, other, expected in ((a, a, torch.eye(3)), (b, b, torch.eye(3)), (a, b, RHO.diag())):
        torch.testing.assert_close(one.T @ other / len(a), expected.double(), rtol=0, atol=ROUNDING)


@pytest.mark.equation("eq-cca")
def test_official_directions_have_length_one_together_and_are_those_of_the_released_program(views):
    """Written out as a general eigenproblem: inverse of the right side times the left, the 3 largest eigenvalues."""
    x, y = views[0], views[1] * 3 + 1
    found = fit_cca(x, y, k=3, ridge=0, convention="official")
    stacked = torch.cat(found.directions)
    torch.testing.assert_close(stacked.norm(dim=0), torch.ones(3).double(), rtol=0, atol=ROUNDING)
    both = torch.cat([x, y], 1)
    covariance = torch.cov(both.T)
    within = torch.block_diag(covariance[:3, :3], covariance[3:, 3:])
    values, vectors = torch.linalg.eig(torch.linalg.inv(within) @ (covariance - within))
    best = values.real.argsort(descending=True)[:3]
    assert torch.allclose((vectors.real[:, best] * stacked).sum(0).abs(), torch.ones(3).double(), atol=1e-6)


def test_whitened_scores_do_not_change_under_invertible_linear_maps_and_official_ones_do(views):
    x, y = views
    maps = normal(3, 3, seed=2), normal(4, 4, seed=3)
    moved = x @ maps[0] + 5, y @ maps[1] - 2
    for convention, same in (("whitened", True), ("official", False)):
        one, other = (fit_cca(*pair, k=3, ridge=0, convention=convention) for pair in ((x, y), moved))
        torch.testing.assert_close(one.correlations, other.correlations, rtol=0, atol=1e-7)
        assert torch.allclose(cca_score(one, x, y), cca_score(other, *moved), atol=1e-6) is same


@pytest.mark.equation("eq-cca-score")
def test_scores_by_hand():
    eye = torch.eye(2).double()
    projection = Projection(
        (torch.tensor([1.0, 0.0]).double(), torch.zeros(2).double()), (eye, 2 * eye), torch.ones(2)
    )
    x, y = (
        torch.tensor([[2.0, 1.0], [2.0, 0.0], [1.0, -3.0]]),
        torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]]),
    )
    torch.testing.assert_close(cca_score(projection, x, y), torch.tensor([0.5**0.5, 1.0, -1.0]).double())


def test_a_projection_is_kept_and_read_again(views):
    found = fit_cca(*views, k=2)
    again = Projection.of(found.tensors())
    assert torch.equal(cca_score(again, *views), cca_score(found, *views))
    assert cca_score(found.to("cpu"), views[0].float(), views[1]).dtype == torch.float64


def test_numbers_that_never_vary_need_a_ridge(views):
    x = torch.cat([views[0], torch.zeros(500, 1).double()], 1)
    torch.testing.assert_close(fit_cca(x, views[1], k=3).correlations, RHO, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="ridge is 0; expected more"):
        fit_cca(x, views[1], k=3, ridge=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 4}, "k is 4; expected an integer from 1 to 3"),
        ({"ridge": -1}, "ridge is -1"),
        ({"convention": "both"}, "convention is 'both'; expected one of whitened, official"),
        ({"y": torch.zeros(3, 4)}, r"x and y have shapes x \(500, 3\), y \(3, 4\)"),
    ],
)
def test_impossible_fits_are_refused(views, options, message):
    with pytest.raises(ValueError, match=message):
        fit_cca(**{"x": views[0], "y": views[1], "k": 2, **options})


# --- captions as vectors --------------------------------------------------------------------------------------------

SYMBOLS = torch.tensor([[3, 3, 4, END, PADDING], [UNKNOWN, END, PADDING, PADDING, PADDING], [4, 4, 4, 4, 3]])


@pytest.mark.equation("eq-sif")
def test_weights_of_words_by_hand():
    """3 occurs 3 times, 4 5 times and an unknown word once: of 9."""
    weights = sif_weights(SYMBOLS, 6, a=0.1)
    expected = [0.1 / (0.1 + n / 9) for n in (1, 3, 5, 0)]
    assert weights[[UNKNOWN, 3, 4, 5]].tolist() == pytest.approx(expected)
    assert weights[[PADDING, END]].tolist() == [0, 0]
    assert plain_weights(6).tolist() == [1, 0, 0, 1, 1, 1]


def test_sentences_by_hand():
    """The end counts for the length; what comes after it does not."""
    vectors = torch.tensor([[-1.0, -1], [0, 0], [1, 1], [1, 0], [0, 10], [7, 7]])
    weights = torch.tensor([0.5, 0, 0, 1, 0.1, 1])
    found = sentence_vectors(SYMBOLS, vectors, weights)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.25], [-0.25, -0.25], [0.2, 0.8]]).double())
    after = SYMBOLS.clone()
    after[0, 4], after[1, 2:] = 5, END
    torch.testing.assert_close(sentence_vectors(after, vectors, weights), found)


def test_the_main_direction_is_taken_out():
    sentences = normal(200, 5) * torch.tensor([1.0, 1, 9, 1, 1]) + 3
    direction = main_direction(sentences)
    assert direction[2].abs() > 0.99 and direction.norm() == pytest.approx(1)
    torch.testing.assert_close(without(sentences, direction) @ direction, torch.zeros(200).double())
    aside = torch.linalg.qr(torch.stack([direction, normal(5, seed=1)], 1))[0][:, 1]
    torch.testing.assert_close(without(sentences, direction) @ aside, sentences @ aside)


def test_word_vectors_are_reproducible_and_know_which_words_stand_alike():
    pytest.importorskip("gensim")
    captions = [f"the {bird} {verb} a {colour} {part}".split() for bird in ("bird", "wren") for verb in ("has", "shows")
                for colour in ("red", "blue") for part in ("crown", "belly")] * 20  # fmt: skip
    words = Vocabulary(("the", "red", "blue", "crown", "has", "redder"))
    found = word_vectors(captions, words, size=20)
    assert torch.equal(found, word_vectors(captions, words, size=20))
    assert not torch.equal(found, word_vectors(captions, words, size=20, seed=1))
    assert found.shape == (9, 20) and found[:3].mean(1).tolist() == [-1, 0, 1]
    assert found[8].isfinite().all() and found[8].norm() > 0  # a word that was never seen, of parts that were


def test_without_gensim_an_error_says_what_to_install(monkeypatch):
    before = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("gensim"):
            raise ModuleNotFoundError(name)
        return before(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        ModuleNotFoundError, match=r"word vectors need gensim: pip install 'mmlib\[captions\]'"
    ):
        word_vectors([["a"]], Vocabulary(("a",)))
