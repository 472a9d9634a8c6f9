"""What the chapter on mmJSD says of its divergence: pairs, the weight that makes a bound, and its figures."""

import math

import pytest
import torch

from mmlib.book.figures import mmjsd as figures
from mmlib.distributions import Diagonal, kl_divergence, standard
from mmlib.divergences import geometric_jensen_shannon, jensen_shannon_upper, mixture_with_prior

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64, closed forms


def with_prior(loc, scale, weights=None):
    """Of experts [M, B, D] and the standard normal."""
    observed = torch.ones(loc.shape[:2], dtype=torch.bool)
    return mixture_with_prior(Diagonal(loc, scale), observed, standard(loc.shape[-1], loc), weights)


def shares(prior_weight, experts):
    each = torch.full((experts + 1,), (1 - prior_weight) / experts, dtype=torch.float64)
    each[-1] = prior_weight
    return each


@pytest.mark.parametrize("prior_weight", [0.05, 0.25, 0.5, 0.9])
def test_agreeing_experts_no_wider_than_the_prior_pay_at_least_a_share_of_their_kl(prior_weight):
    draw = torch.Generator().manual_seed(0)
    loc = 5 * torch.randn(4000, 3, generator=draw, dtype=torch.float64)
    scale = torch.rand(4000, 3, generator=draw, dtype=torch.float64).clamp_min(1e-3)
    loc[0], scale[0] = 1.0, 1 - 1e-6  # nearly as wide as the prior: the share is what is paid
    q = with_prior(loc.expand(2, -1, -1), scale.expand(2, -1, -1), shares(prior_weight, 2))
    least, kl = prior_weight * (1 - prior_weight), kl_divergence(Diagonal(loc, scale), standard(3, loc))
    paid = geometric_jensen_shannon(q)
    assert (paid >= least * kl - 1e-12).all()
    assert paid[0] / kl[0] == pytest.approx(least, rel=1e-4)
    wider = with_prior(loc.expand(2, -1, -1) * 0, 1 / scale.expand(2, -1, -1), shares(prior_weight, 2))
    kl = kl_divergence(Diagonal(0 * loc, 1 / scale), standard(3, loc))
    assert (geometric_jensen_shannon(wider)[1:] < least * kl[1:]).all()  # why the proposition excludes them


def test_with_the_mixture_as_prior_no_weight_of_the_divergence_makes_a_bound():
    scale = torch.logspace(-1, -60, 60, dtype=torch.float64)[:, None]
    q = with_prior(torch.zeros(2, 60, 1).double(), scale.expand(2, -1, -1))
    kl = kl_divergence(Diagonal(0 * scale, scale), standard(1, scale))
    for beta in (1, 10, 100):  # exact posteriors: the objective less log p(x) is the KL less beta times this
        assert (kl - beta * jensen_shannon_upper(q)).max() > 0


def test_both_priors_are_drawn_among_experts_in_the_colours_of_their_modalities():
    q = with_prior(torch.tensor([[[-1.0]], [[1.0]]]).double(), torch.ones(2, 1, 1).double())
    left, right = figures.dynamic_priors({"a": q, "b": q}, ("hand", "street"))
    labels = [line.get_label() for line in left.lines]
    assert labels == ["expert: hand", "expert: street", "prior", figures.ARITHMETIC[0], figures.GEOMETRIC[0]]
    assert left.lines[0].get_color() == figures.colour("hand") and right.get_title() == "b"
    density = left.lines[-1].get_ydata()  # of the normal of mean 0 and variance 1
    assert max(density) == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-3)


def test_lemma_1_is_drawn_with_the_line_that_no_point_exceeds():
    parts = {"random": torch.tensor([1.0, 3.0]), "equal": torch.tensor([2.0])}
    ax = figures.kl_of_mixtures(parts, {"random": torch.tensor([0.5, 2.0]), "equal": torch.tensor([2.0])})
    assert [c.get_label() for c in ax.collections[1:]] == ["random", "equal"]
    assert ax.collections[1].get_offsets().tolist() == [[1.0, 0.5], [3.0, 2.0]]
    assert list(ax.lines[0].get_xdata()) == list(ax.lines[0].get_ydata()) == [0, 3.0]


def test_divergences_and_objectives_are_drawn_beside_what_bounds_them():
    curve = torch.tensor([0.1, 0.5])
    curves = {"geometric": 2 * curve, "arithmetic": curve, "upper": curve + 0.1, "lower": curve - 0.1}
    ax = figures.divergences([0, 1], curves, math.log(3))
    assert (
        ax.lines[-1].get_ydata()[0] == math.log(3)
        and list(ax.lines[0].get_ydata()) == curves["geometric"].tolist()
    )
    case = ([0, 1], {"product": [0.1, 0.2], "mixture": [0.3, 0.2], "ELBO": [-0.1, -0.2]})
    axes = figures.above_log_p({"noise": case, "weight": case}, (0.2, 0.8))
    for ax, place in zip(axes, (0.2, 0.8), strict=True):
        assert [list(line.get_ydata()) for line in ax.lines[:2]] == [[0, 0], [0.1, 0.2]]
        assert ax.lines[-1].get_xdata()[0] == place
    assert [ax.get_xlabel() for ax in axes] == ["noise", "weight"]
