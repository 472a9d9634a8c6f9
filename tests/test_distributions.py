"""Distributions: densities, draws, products, mixtures and divergences, against torch.distributions and quadrature."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as reference
from torch.autograd import gradcheck

from mmlib import distributions
from mmlib.distributions import (
    Diagonal,
    Mixture,
    geometric_mean,
    kl_divergence,
    mixture_of_experts,
    product_of_experts,
    product_of_subsets,
    scale_from,
    single,
    softmax_budget,
    systematic,
)
from mmlib.lab import quadrature

SUBSETS = [[m in s for m in range(3)] for size in (1, 2, 3) for s in itertools.combinations(range(3), size)]
EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64, a handful of operations
FAMILIES = {"normal": reference.Normal, "laplace": reference.Laplace}


def numbers(*shape, seed=0, positive=False, grad=False):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x.abs() + 0.4 if positive else x).requires_grad_(grad)


def diagonal(*shape, seed=0, family="normal", grad=False):
    return Diagonal(
        numbers(*shape, seed=seed, grad=grad),
        numbers(*shape, seed=seed + 1, positive=True, grad=grad),
        family,
    )


def log_weights_of(*shape, seed=0):
    return numbers(*shape, seed=seed).log_softmax(0)


# --- one factorised distribution ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_sums_the_density_of_every_dimension(family):
    q = diagonal(3, 2, family=family)
    z = numbers(5, 3, 2, seed=7)
    expected = reference.Independent(FAMILIES[family](q.loc, q.scale), 1).log_prob(z)
    torch.testing.assert_close(q.log_prob(z), expected, **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_have_the_right_moments_and_carry_gradients(family):
    q = diagonal(2, 3, family=family, grad=True)
    n = 100_000
    draws = q.rsample(n, torch.Generator().manual_seed(0))
    assert draws.shape == (n, 2, 3)
    standard = (draws - q.loc) / q.stddev
    fourth = {"normal": 3.0, "laplace": 6.0}[family]  # kurtosis
    assert (standard.mean(0).abs() < 4.5 / math.sqrt(n)).all()
    assert ((standard.square().mean(0) - 1).abs() < 4.5 * math.sqrt((fourth - 1) / n)).all()
    assert ((standard.pow(4).mean(0) - fourth).abs() < 0.5).all()  # tells the families apart
    by_loc, by_scale = torch.autograd.grad(draws.mean(0).sum(), [q.loc, q.scale])
    torch.testing.assert_close(by_loc, torch.ones_like(by_loc), **EXACT)
    torch.testing.assert_close(by_scale, ((draws - q.loc) / q.scale).mean(0).detach(), **EXACT)


def test_a_generator_makes_draws_repeatable_and_leaves_the_global_one_alone():
    q, before = diagonal(2, 3), torch.get_rng_state()
    first, second = (q.rsample(4, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())


def test_laplace_draws_are_finite_in_single_precision():
    q = Diagonal(torch.zeros(1000), torch.ones(1000), "laplace")
    assert torch.isfinite(q.rsample(1000, torch.Generator().manual_seed(0))).all()


def test_detach_cuts_the_graph():
    q = diagonal(2, 3, grad=True)
    assert not q.detach().loc.requires_grad
    assert not q.detach().scale.requires_grad
    mixture = Mixture(diagonal(2, 3, 1, grad=True), log_weights_of(2, 3).requires_grad_())
    assert not mixture.detach().log_prob(torch.zeros(3, 1)).requires_grad


# --- scales ----------------------------------------------------------------------------------------------------------


def test_scale_rules():
    raw = torch.tensor([-800.0, -1.0, 0.0, 3.0, 800.0], dtype=torch.float64)
    assert torch.allclose(scale_from(raw, "softplus")[1:4], torch.log1p(raw[1:4].exp()) + 1e-6, **EXACT)
    assert torch.allclose(scale_from(raw, "log_variance")[1:4] ** 2, raw[1:4].exp(), **EXACT)
    assert torch.allclose(scale_from(raw, "softmax_budget"), softmax_budget(raw))
    for kind in ("softplus", "log_variance", "softmax_budget"):
        assert torch.isfinite(scale_from(raw, kind)).all()
        assert (scale_from(raw, kind) > 0).all()


@pytest.mark.equation("eq-softmax-budget")
def test_a_softmax_budget_adds_up_to_the_dimension():
    raw = numbers(3, 4, seed=1, grad=True)
    scales = softmax_budget(raw)
    torch.testing.assert_close(scales.sum(-1), torch.full((3,), 4 * (1 + 1e-6), dtype=torch.float64), **EXACT)
    ratio = scales - 1e-6
    torch.testing.assert_close(ratio[:, 1:] / ratio[:, :1], (raw[:, 1:] - raw[:, :1]).exp(), **EXACT)
    assert gradcheck(softmax_budget, raw)


# --- products --------------------------------------------------------------------------------------------------------


def moments(log_density, on):
    """Mean and standard deviation of an unnormalised density on a grid: [B], [B]."""
    mass = (log_density + on.log_weights[:, None]).softmax(0)
    mean = (mass * on.nodes[:, None]).sum(0)
    return mean, (mass * (on.nodes[:, None] - mean) ** 2).sum(0).sqrt()


@pytest.mark.equation("eq-product-of-experts")
@pytest.mark.parametrize("with_prior", [True, False])
def test_product_of_experts_is_the_normalised_product_of_the_observed_densities(with_prior):
    experts, on = diagonal(3, 4, 1), quadrature.grid(-12, 12)
    prior = Diagonal(torch.tensor([0.3]).double(), torch.tensor([0.8]).double()) if with_prior else None
    observed = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    z = on.z(4)
    log_density = (experts.log_prob(z.unsqueeze(1)) * observed).sum(1)
    if prior is not None:
        log_density = log_density + prior.log_prob(z)
    mean, sd = moments(log_density, on)
    product = product_of_experts(experts, observed, prior)
    torch.testing.assert_close(product.loc.squeeze(-1), mean, **EXACT)
    torch.testing.assert_close(product.scale.squeeze(-1), sd, **EXACT)


@pytest.mark.equation("eq-product-of-experts")
def test_product_of_experts_has_the_right_gradient():
    observed = torch.tensor([[True, False], [True, True]])

    def product(loc, scale, prior_loc, prior_scale):
        q = product_of_experts(Diagonal(loc, scale), observed, Diagonal(prior_loc, prior_scale))
        return q.loc, q.scale

    experts, prior = diagonal(2, 2, 3, grad=True), diagonal(3, seed=5, grad=True)
    assert gradcheck(product, (experts.loc, experts.scale, prior.loc, prior.scale))


def test_a_row_that_observes_nothing_has_the_prior():
    prior = diagonal(3, seed=5)
    q = product_of_experts(diagonal(2, 2, 3), torch.tensor([[True, False], [True, False]]), prior)
    torch.testing.assert_close(q.loc[1], prior.loc, **EXACT)
    torch.testing.assert_close(q.scale[1], prior.scale, **EXACT)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.05, 20), min_size=1, max_size=6))
def test_a_product_is_sharper_than_every_factor(scales):
    scale = torch.tensor(scales, dtype=torch.float64).reshape(-1, 1, 1)
    experts = Diagonal(torch.zeros_like(scale), scale)
    q = product_of_experts(
        experts,
        torch.ones(len(scales), 1, dtype=torch.bool),
        Diagonal(*torch.tensor([[0.0], [1.0]]).double()),
    )
    assert (q.scale <= scale.min() + 1e-12).all()
    assert (q.scale <= 1).all()


@pytest.mark.parametrize("prior", [None, diagonal(2, seed=5)], ids=["no prior", "prior"])
def test_products_of_subsets_are_the_products_of_the_members_that_a_row_observes(prior):
    experts, members = diagonal(3, 4, 2, grad=True), torch.tensor(SUBSETS)
    observed = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    with_prior = None if prior is None else torch.tensor(SUBSETS).all(1)[:, None]
    q = product_of_subsets(experts, observed, members, prior, with_prior)
    assert q.loc.shape == (7, 4, 2)
    for s, b in itertools.product(range(7), range(4)):
        seen = members[s] & observed[:, b]
        share = prior is not None and s == 6
        here = Diagonal(experts.loc[seen, b][:, None], experts.scale[seen, b][:, None])
        expected = Diagonal(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
        if seen.any() or share:
            expected = product_of_experts(here, torch.ones(len(here.loc), 1).bool(), prior if share else None)
        torch.testing.assert_close(q.loc[s, b], expected.loc[0], **EXACT)
        torch.testing.assert_close(q.scale[s, b], expected.scale[0], **EXACT)
    gradients = torch.autograd.grad((q.loc + q.scale).sum(), [experts.loc, experts.scale])
    assert all(g.isfinite().all() and (g[~observed] == 0).all() for g in gradients)


def test_products_of_subsets_are_as_exact_under_autocast():
    experts, observed = diagonal(3, 4, 2), torch.ones(3, 4).bool()
    experts = Diagonal(experts.loc.float(), experts.scale.float())
    plain = product_of_subsets(experts, observed, torch.tensor(SUBSETS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(product_of_subsets(experts, observed, torch.tensor(SUBSETS)).loc, plain.loc)


# --- mixtures --------------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-mixture-of-experts")
@pytest.mark.parametrize("family", FAMILIES)
def test_mixture_density(family):
    q = Mixture(diagonal(3, 4, 2, family=family), log_weights_of(3, 4, seed=2))
    components = reference.Independent(
        FAMILIES[family](q.components.loc.movedim(0, 1), q.components.scale.movedim(0, 1)), 1
    )
    expected = reference.MixtureSameFamily(reference.Categorical(q.log_mixture.exp().T), components)
    z = numbers(5, 4, 2, seed=9)
    torch.testing.assert_close(q.log_prob(z), expected.log_prob(z), **EXACT)
    assert q.log_prob(z.expand(3, 5, 4, 2)).shape == (3, 5, 4)


@pytest.mark.equation("eq-mixture-of-experts")
def test_mixture_density_has_the_right_gradient():
    components = diagonal(2, 3, 2, grad=True)
    log_mixture = log_weights_of(2, 3).requires_grad_()

    def density(loc, scale, log_mixture, z):
        return Mixture(Diagonal(loc, scale), log_mixture).log_prob(z)

    assert gradcheck(
        density, (components.loc, components.scale, log_mixture, numbers(2, 3, 2, seed=4, grad=True))
    )


def test_mixture_of_experts_weighs_observed_experts_equally():
    observed = torch.tensor([[True, True, False], [True, False, True]])
    q = mixture_of_experts(diagonal(2, 3, 2), observed)
    torch.testing.assert_close(
        q.log_mixture.exp(), torch.tensor([[0.5, 1, 0], [0.5, 0, 1]]).double(), **EXACT
    )
    z = numbers(3, 2, seed=3)
    alone = Diagonal(q.components.loc[0], q.components.scale[0]).log_prob(z)
    torch.testing.assert_close(q.log_prob(z)[1], alone[1], **EXACT)
    mean = torch.stack([q.components.loc[:, 0].mean(0), q.components.loc[0, 1], q.components.loc[1, 2]])
    torch.testing.assert_close(q.mean, mean, **EXACT)


def test_absent_experts_send_no_gradient():
    experts = diagonal(2, 3, 2, grad=True)
    q = mixture_of_experts(experts, torch.tensor([[True, True, False], [True, False, True]]))
    by_loc, by_scale = torch.autograd.grad(q.log_prob(numbers(4, 3, 2)).sum(), [experts.loc, experts.scale])
    for gradient in (by_loc, by_scale):
        assert torch.isfinite(gradient).all()
        assert (gradient[1, 1] == 0).all()
        assert (gradient[0, 2] == 0).all()


def test_stratified_draws_come_from_every_component():
    components = Diagonal(torch.tensor([[[-50.0]], [[50.0]]]), torch.ones(2, 1, 1))
    draws = Mixture(components, torch.full((2, 1), 0.5).log()).rsample_stratified(
        100, torch.Generator().manual_seed(0)
    )
    assert draws.shape == (2, 100, 1, 1)
    assert (draws[0] < 0).all()
    assert (draws[1] > 0).all()


def test_plain_draws_choose_components_by_weight():
    n = 20_000
    components = Diagonal(torch.tensor([-50.0, 50.0]).reshape(2, 1, 1).expand(2, n, 1), torch.ones(2, n, 1))
    q = Mixture(components, torch.tensor([0.2, 0.8]).log()[:, None].expand(2, n))
    share = (q.sample(torch.Generator().manual_seed(0)) > 0).double().mean()
    assert abs(share - 0.8) < 4 * math.sqrt(0.16 / n)


@pytest.mark.parametrize(("n", "components"), [(256, 3), (256, 7), (5, 7), (1, 2)])
def test_equal_components_are_shared_out_evenly_over_the_rows(n, components):
    loc = torch.arange(components).double()[:, None, None].expand(-1, n, 1)
    mixture = Mixture(Diagonal(loc, torch.ones_like(loc)), torch.full((components, n), -math.log(components)))
    for seed in range(20):
        chosen = mixture.choose(torch.Generator().manual_seed(seed)).loc[:, 0]
        counts = torch.bincount(chosen.long(), minlength=components)
        assert counts.sum() == n and counts.max() - counts.min() <= 1


def test_every_row_has_every_component_with_its_own_weight_and_never_one_that_it_lacks():
    weights = torch.tensor([[0.2, 0.0, 1.0, 0.5], [0.5, 0.9, 0.0, 0.0], [0.3, 0.1, 0.0, 0.5]]).double()
    loc, n = (
        torch.arange(1, 4).double()[:, None, None].expand(-1, 4, 1),
        8000,
    )  # one that is lacking has loc 0
    mixture, draw = Mixture(Diagonal(loc, torch.ones_like(loc)), weights.log()), torch.Generator()
    draw.manual_seed(0)
    chosen = torch.stack([mixture.choose(draw).loc[:, 0] for _ in range(n)])  # [n, 4]
    shares = torch.stack([(chosen == r).double().mean(0) for r in (1, 2, 3)])
    assert ((shares - weights).abs() <= 4.5 * (weights * (1 - weights) / n).sqrt() + 1e-6).all()


@pytest.mark.parametrize("u", [0.0, 1 - 2**-23])
def test_the_outermost_numbers_choose_no_component_that_a_row_lacks(u, monkeypatch):
    monkeypatch.setattr(distributions, "systematic", lambda n, *_: torch.full((n,), u))
    loc = torch.tensor([7.0, 1.0, 2.0, 7.0])[:, None, None].expand(-1, 3, 1)
    weights = torch.tensor([[0.0, 0.7, 0.3, 0.0]]).T.expand(-1, 3)
    chosen = Mixture(Diagonal(loc, torch.ones_like(loc)), weights.log()).choose()
    assert (chosen.loc == (1 if u == 0 else 2)).all()
    for components in range(2, 128):  # whose weights, rounded, add up to less than 1 at times
        loc = torch.arange(components).float()[:, None, None].expand(-1, 3, 1)
        equal = torch.full((components, 3), -math.log(components))
        chosen = Mixture(Diagonal(loc, torch.ones_like(loc)), equal).choose()
        assert (chosen.loc == (0 if u == 0 else components - 1)).all()


def test_numbers_of_a_systematic_draw_are_one_in_every_part_and_in_random_order():
    draw = torch.Generator().manual_seed(0)
    drawn = torch.stack([systematic(6, torch.device("cpu"), draw) for _ in range(3000)])
    assert (drawn.sort(1).values * 6).floor().eq(torch.arange(6)).all() and (drawn < 1).all()
    assert ((drawn.mean(0) - 0.5).abs() < 4.5 / math.sqrt(12 * 3000)).all()  # uniform in every place
    assert torch.equal(*(systematic(9, torch.device("cpu"), draw.manual_seed(3)) for _ in range(2)))


def test_the_chosen_component_alone_learns():
    components = diagonal(3, 4, 2, grad=True)
    chosen = Mixture(components, log_weights_of(3, 4)).choose(torch.Generator().manual_seed(0))
    by_loc, by_scale = torch.autograd.grad(
        (chosen.loc + 2 * chosen.scale).sum(), [components.loc, components.scale]
    )
    taken = (components.loc == chosen.loc).to(by_loc)
    assert torch.equal(by_loc, taken) and torch.equal(by_scale, 2 * taken) and taken.sum() == 8


@pytest.mark.parametrize("weights", [[0.2, 0.3, 0.5], [2.0, 3.0, 5.0]])
def test_weights_of_a_mixture_and_of_a_geometric_mean_are_shares_of_what_a_row_observes(weights):
    experts, weights = diagonal(3, 3, 1), torch.tensor(weights, dtype=torch.float64)
    observed = torch.tensor([[True, True, False], [True, False, True], [True, True, False]])
    q = mixture_of_experts(experts, observed, weights)
    expected = torch.tensor([[0.2, 2 / 7, 0], [0.3, 0, 1], [0.5, 5 / 7, 0]], dtype=torch.float64)
    torch.testing.assert_close(q.log_mixture.exp(), expected, **EXACT)
    on = quadrature.grid(-12, 12)
    log_product = (expected * experts.where(observed).log_prob(on.z(3).unsqueeze(1))).sum(1)
    mean, sd = moments(log_product, on)
    centre = geometric_mean(experts, observed, weights)
    torch.testing.assert_close(centre.loc[:, 0], mean, **EXACT)
    torch.testing.assert_close(centre.scale[:, 0], sd, **EXACT)


def test_a_single_posterior_is_a_mixture_of_one():
    q, z = diagonal(3, 2), numbers(5, 3, 2)
    torch.testing.assert_close(single(q).log_prob(z), q.log_prob(z), **EXACT)
    generator = torch.Generator().manual_seed(1)
    draws = single(q).rsample_stratified(5, generator)[0]
    assert torch.equal(draws, q.rsample(5, torch.Generator().manual_seed(1)))


# --- divergence ------------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-kl")
@pytest.mark.parametrize("family", FAMILIES)
def test_kl_divergence_is_the_integral(family):
    q, p = diagonal(2, 3, family=family), diagonal(2, 3, seed=5, family=family)
    on = quadrature.grid(-60, 60, breaks=torch.cat([q.loc, p.loc]).flatten().tolist(), panels=400)
    by_dimension = []
    for d in range(3):
        q_d, p_d = (Diagonal(x.loc[:, d : d + 1], x.scale[:, d : d + 1], family) for x in (q, p))
        by_dimension.append(-quadrature.elbo(p_d.log_prob, single(q_d), on))
    torch.testing.assert_close(kl_divergence(q, p), sum(by_dimension), **EXACT)
    torch.testing.assert_close(kl_divergence(q, q), torch.zeros(2, dtype=torch.float64), **EXACT)


@pytest.mark.equation("eq-kl")
@pytest.mark.parametrize("family", FAMILIES)
def test_kl_divergence_has_the_right_gradient(family):
    q, p = diagonal(2, 2, grad=True), diagonal(2, 2, seed=5, grad=True)

    def divergence(*parameters):
        return kl_divergence(Diagonal(*parameters[:2], family), Diagonal(*parameters[2:], family))

    assert gradcheck(divergence, (q.loc, q.scale, p.loc, p.scale))


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    ones, row = torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="family is 'cauchy'"):
        Diagonal(ones, ones, "cauchy")
    with pytest.raises(ValueError, match=r"scale has shape \(2, 4\); expected \(2, 3\)"):
        Diagonal(ones, torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"components.loc has shape \(2, 3\)"):
        Mixture(Diagonal(ones, ones), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"log_mixture has shape \(1, 3\); expected \(2, 4\)"):
        Mixture(diagonal(2, 4, 1), torch.zeros(1, 3))
    with pytest.raises(ValueError, match="scale is 'exp'"):
        scale_from(ones, "exp")
    with pytest.raises(ValueError, match="q is normal and p is laplace"):
        kl_divergence(Diagonal(ones, ones), Diagonal(ones, ones, "laplace"))
    with pytest.raises(ValueError, match="experts are laplace"):
        product_of_experts(diagonal(2, 4, 1, family="laplace"), row)
    with pytest.raises(ValueError, match="prior are laplace"):
        product_of_experts(diagonal(2, 4, 1), row, Diagonal(ones[0], ones[0], "laplace"))
    with pytest.raises(ValueError, match=r"weights have shape \(3,\); expected \(2,\) or \(2, 4\)"):
        mixture_of_experts(diagonal(2, 4, 1), row, torch.ones(3))
    with pytest.raises(ValueError, match="weights are .*expected positive numbers"):
        mixture_of_experts(diagonal(2, 4, 1), row, torch.tensor([1.0, 0.0]))
    for combine in (product_of_experts, mixture_of_experts):
        with pytest.raises(ValueError, match="row without any modality"):
            combine(diagonal(2, 4, 1), torch.zeros(2, 4, dtype=torch.bool))
        with pytest.raises(ValueError, match=r"expected bool of shape \(2, 4\)"):
            combine(diagonal(2, 4, 1), torch.ones(2, 4))
