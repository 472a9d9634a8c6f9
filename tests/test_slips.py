"""The numbers beside the slips of released code: what is meant is right, what is coded is what the errata say."""

import math

import pytest
import torch

from mmlib.book import errata
from mmlib.book.slips import SLIPS, expected_slope, norm_left, share_of_other
from mmlib.distributions import Diagonal, mixture_of_experts
from mmlib.lab import LinearGaussian, quadrature
from mmlib.models.meme import log_predictive, log_supervision_weight, paired_bound

SHOWN = {slip.values.__name__: slip for slip in SLIPS}


@pytest.mark.parametrize(
    ("name", "meant", "coded"),
    [
        ("coherence_of_guesses", "0.01", "0.82"),  # 1 / 100; and P((m = s) = (m = t)) = 0.01 + 0.81
        ("likelihood_too_high", "0.0", "30.5"),
        ("gap_for_certainty", "9", "29,438"),
        ("best_of_many", "0.850", "0.859"),
        ("slope_without_hook", "0.125", "0.277"),
        ("slope_of_mixture", "0.196", "0.151"),
        ("share_of_other", "1.0", "10.0"),
        ("norm_left", "1.0", "1.4"),
        ("last_kl_weight", "1.00", "0.25"),
        ("least_variance", "0.00", "1.00"),
        ("weight_of_faces", "48", "16"),
        ("score_of_views", "0.25", "0.39"),
    ],
)
def test_a_slip_changes_its_number_as_the_errata_say(name, meant, coded):
    assert SHOWN[name].shown() == (meant, coded)


def test_every_number_belongs_to_an_entry_about_code_and_every_number_is_tested():
    entries = errata.load()
    assert all("code" in (entries[s.erratum].kind, *entries[s.erratum].correct.split()) for s in SLIPS)
    assert len(SHOWN) == 12


def two_experts(given):
    """The model behind `expected_slope`, its item, and its experts' mixture with a leaf as their means."""
    lab = LinearGaussian.make({"a": 3, "b": 4})
    batch = lab.sample(1, torch.Generator().manual_seed(0))[1]
    experts = [lab.diagonal_posterior(batch, [name]) for name in given]
    loc = torch.stack([q.loc for q in experts]).requires_grad_()  # [R, 1, 1]
    scale = torch.stack([q.scale for q in experts])
    return lab, batch, loc, mixture_of_experts(Diagonal(loc, scale), torch.ones(loc.shape[:2]).bool())


@pytest.mark.parametrize(("given", "unbiased"), [(("a",), ("plain", "squared")), (("a", "b"), ("plain",))])
def test_unbiased_slopes_are_those_of_the_expected_bound(given, unbiased):
    lab, batch, loc, q = two_experts(given)
    on = quadrature.grid(-12, 12)
    bound = quadrature.iwae(lambda z: lab.log_joint(z, batch), q, 2, on, looser=True)
    true = torch.autograd.grad(bound.sum(), loc)[0][0].item()
    for estimator in ("plain", "squared", "normalised"):
        right = math.isclose(expected_slope(given, estimator), true, abs_tol=1e-4)
        assert right == (estimator in unbiased), estimator


def test_biased_slopes_are_double_integrals_over_both_draws():
    """Of the power of the normalised weight times d/dz [log p(x, z) - log q(z)]; a mean moves z one to one."""
    for given, estimator, power in ((("a",), "normalised", 1), (("a", "b"), "squared", 2)):
        lab, batch, _, q = two_experts(given)
        on = quadrature.grid(-8, 8, panels=60)
        z = on.z(1).detach().clone().requires_grad_()
        log_w = lab.log_joint(z, batch) - q.detach().log_prob(z)  # [N, 1]
        slope = torch.autograd.grad(log_w.sum(), z)[0].flatten()
        mass = (q.components.log_prob(z[:, None])[:, 0, 0] + on.log_weights).exp().detach()
        log_w = log_w.detach().flatten()
        share = torch.sigmoid(log_w[:, None] - log_w) ** power  # [N, N], of the first draw beside the second
        expected = 2 * (mass * slope * (share @ mass)).sum() / len(given)
        assert expected_slope(given, estimator) == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("k", [2, 10])
def test_a_sum_of_k_codes_is_a_mean_with_the_other_modality_k_times(k):
    """Of the slopes of the bound with respect to log p(s | z) and to the estimate, by K equations of K codes."""
    log_t = torch.randn(k, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for kind in ("mean", "sum"):
        log_s = torch.zeros_like(log_t, requires_grad=True)
        predictive = log_predictive(log_t, kind).requires_grad_()
        log_weight = log_supervision_weight(log_t, predictive).detach()
        bound = paired_bound(log_s, log_t, 0 * log_t, log_weight, predictive.expand(k, -1))
        own, other = torch.autograd.grad(bound.sum(), [log_s, predictive])
        found.append(other.sum().item() / own.sum().item())
    assert found == pytest.approx([1, k])
    assert share_of_other(k) == pytest.approx([1, k])


def test_norms_left_by_power_iteration_are_those_of_a_large_random_matrix():
    """A step and a half from a random start finds the root of a ratio of moments of Marchenko and Pastur."""

    def moment(j, rows=400, columns=804):  # of W'W, with entries of variance 1: sums of Narayana's numbers
        narayana = (math.comb(j, r) * math.comb(j, r - 1) // j for r in range(1, j + 1))
        return sum(n * rows**r * columns ** (j - r) for r, n in enumerate(narayana, 1))

    largest = math.sqrt(400) + math.sqrt(804)
    expected = [largest / math.sqrt(moment(2 * n) / moment(2 * n - 1)) for n in (9, 1)]
    assert norm_left() == pytest.approx(expected, rel=0.03)


def test_scores_of_components_that_do_not_correlate_hide_the_one_that_does():
    """Of one shared component with two that are noise the score is near that of a third of the numbers."""
    from mmlib.book.slips import score_of_views

    one = [score_of_views(k=k) for k in (1, 2, 3)]
    assert one[0][0] == pytest.approx(one[0][1])  # with one direction a cosine is a sign, whatever its length
    assert [unit < length for unit, length in one[1:]] == [True, True]
