"""The register of equations, and gradients of arguments that training leaves alone but an equation has."""

import re
from pathlib import Path

import pytest
import torch
from torch.autograd import gradcheck

from mmlib import bounds
from mmlib.book.equations import registered
from mmlib.distributions import Diagonal, kl_divergence
from mmlib.modality import LaplaceLikelihood
from mmlib.models.jmvae import jmvae_penalty
from mmlib.models.mmvae import elbo_own_decodes

TESTS = Path(__file__).parent
BOOK = TESTS.parent / "book"


def test_every_label_has_one_function():
    labels = [equation.label for equation in registered()]
    assert len(labels) == len(set(labels)), sorted(label for label in set(labels) if labels.count(label) > 1)
    assert "eq-iwae" in labels
    assert "eq-mixture-of-experts" in labels  # a method


def test_every_label_has_a_test_and_every_marked_label_has_a_function():
    marked = set()
    for path in TESTS.glob("test_*.py"):
        marked |= set(re.findall(r"mark\.equation\(\"(eq-[a-z0-9-]+)\"\)", path.read_text()))
    assert marked == {equation.label for equation in registered()}


def test_every_label_stands_beside_one_equation_of_the_book():
    pages = [*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")]
    places = [label for page in pages for label in re.findall(r"\$\$ *\((eq-[a-z0-9-]+)\)", page.read_text())]
    assert sorted(places) == sorted(equation.label for equation in registered())


def test_an_equation_knows_its_function():
    (equation,) = (equation for equation in registered() if equation.label == "eq-iwae")
    assert equation.function is bounds.iwae
    assert equation.where == "mmlib.bounds.iwae"


def numbers(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.mark.equation("eq-laplace-likelihood")
def test_laplace_likelihood_has_a_gradient_in_the_data_too():
    assert gradcheck(LaplaceLikelihood(0.75).log_prob, (numbers(2, 3, 4, seed=0), numbers(3, 4, seed=1)))


@pytest.mark.equation("eq-mmvae-own-decodes")
def test_own_decodes_have_a_gradient_in_the_mixture_weights_too():
    arguments = (
        numbers(2, 3, seed=0),
        numbers(2, 2, 3, seed=1),
        numbers(2, 3, seed=2),
        numbers(2, 3, seed=3),
    )
    assert gradcheck(elbo_own_decodes, arguments)


@pytest.mark.equation("eq-jmvae-penalty")
def test_penalty_of_laplace_posteriors_is_the_sum_of_their_divergences():
    joint = Diagonal(numbers(3, 2, seed=0), numbers(3, 2, seed=1).exp(), "laplace")
    unimodal = Diagonal(numbers(2, 3, 2, seed=2), numbers(2, 3, 2, seed=3).exp(), "laplace")
    each = [kl_divergence(joint, Diagonal(unimodal.loc[m], unimodal.scale[m], "laplace")) for m in range(2)]
    torch.testing.assert_close(jmvae_penalty(joint, unimodal), each[0] + each[1], atol=1e-12, rtol=1e-12)
