"""Jensen-Shannon divergences of several distributions, and the lemmas about dynamic priors, against quadrature."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from mmlib.distributions import Diagonal, Mixture, geometric_mean, kl_divergence, mixture_of_experts
from mmlib.divergences import (
    geometric_jensen_shannon,
    jensen_shannon,
    jensen_shannon_lower,
    jensen_shannon_upper,
    mixture_with_prior,
)
from mmlib.lab import quadrature

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64; quadrature is as good
ON = quadrature.grid(-40, 40, panels=200)
STANDARD = Diagonal(torch.zeros(1).double(), torch.ones(1).double())


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mixture(components=3, rows=40, dims=1, seed=0, family="normal"):
    """Every row another mixture; in the first a component is missing."""
    loc, scale = (
        2 * numbers(components, rows, dims, seed=seed),
        numbers(components, rows, dims, seed=seed + 1),
    )
    log_mixture = numbers(components, rows, seed=seed + 2)
    log_mixture[0, 0] = -torch.inf
    return Mixture(Diagonal(loc, 0.3 + scale.abs(), family), log_mixture.log_softmax(0))


def integral(values):
    """Of values [N, ...] on the grid."""
    return (values * ON.log_weights.exp().reshape(-1, *[1] * (values.ndim - 1))).sum(0)


def log_densities(q):
    """Of every component [N, R, B] and of the mixture [N, B] on the grid."""
    z = ON.z(q.log_mixture.shape[1])
    return q.components.log_prob(z.unsqueeze(1)), q.log_prob(z)


def divergence_from(q, log_reference):
    """sum_nu pi_nu KL(q_nu || reference) by quadrature; log density of the reference [N, B] on the grid."""
    own, _ = log_densities(q)
    kl = integral(own.exp() * (own - log_reference.unsqueeze(1)))
    return (q.log_mixture.exp() * kl).sum(0)


# --- the lemmas -----------------------------------------------------------------------------------------------------


def test_the_kl_of_a_mixture_is_at_most_that_of_its_components_and_their_divergence_is_the_difference():
    """Lemma 1."""
    q, prior = (
        random_mixture(),
        Diagonal(torch.tensor([0.4], dtype=torch.float64), torch.tensor([1.3], dtype=torch.float64)),
    )
    _, log_mixture = log_densities(q)
    whole = integral(log_mixture.exp() * (log_mixture - prior.log_prob(ON.z(40))))
    parts = (q.log_mixture.exp() * kl_divergence(q.components, prior)).sum(0)
    assert (whole <= parts + 1e-12).all() and (parts - whole).max() > 0.5
    torch.testing.assert_close(parts - whole, divergence_from(q, log_mixture), **EXACT)
    same = Mixture(
        Diagonal(*(x[:1].expand(3, -1, -1) for x in (q.components.loc, q.components.scale))), q.log_mixture
    )
    same = Mixture(same.components, same.log_mixture[:, 1:2].expand(-1, 40))
    _, log_mixture = log_densities(same)
    whole = integral(log_mixture.exp() * (log_mixture - prior.log_prob(ON.z(40))))
    torch.testing.assert_close(whole, kl_divergence(same.components, prior)[0], **EXACT)


OBSERVED = torch.tensor([[True, True, False, False], [True, False, True, False]])
WEIGHTS = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)  # the prior's is the last
SHARES = torch.tensor([[0.2, 2 / 7, 0, 0], [0.3, 0, 3 / 8, 0], [0.5, 5 / 7, 5 / 8, 1]], dtype=torch.float64)


@pytest.mark.equation("eq-mixture-with-prior")
def test_a_mixture_with_the_prior_is_a_density_with_shares_of_what_a_row_observes():
    """Definition 1 and Lemma 2."""
    experts = Diagonal(numbers(2, 4, 1), 0.4 + numbers(2, 4, 1, seed=1).abs())
    prior = Diagonal(torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64))
    q = mixture_with_prior(experts, OBSERVED, prior, WEIGHTS)
    torch.testing.assert_close(q.log_mixture.exp(), SHARES, **EXACT)
    z = ON.z(4)
    parts = torch.cat([experts.log_prob(z.unsqueeze(1)), prior.log_prob(z).unsqueeze(1)], 1)
    density = (SHARES * parts.exp()).sum(1)
    torch.testing.assert_close(q.log_prob(z).exp(), density, **EXACT)
    torch.testing.assert_close(integral(density), torch.ones(4).double(), **EXACT)
    equal = mixture_with_prior(experts, OBSERVED, prior).log_mixture.exp()
    torch.testing.assert_close(
        equal.amax(0), torch.tensor([1 / 3, 1 / 2, 1 / 2, 1], dtype=torch.float64), **EXACT
    )


@pytest.mark.equation("eq-mixture-with-prior")
def test_a_mixture_with_the_prior_teaches_experts_prior_and_weights():
    def density(loc, scale, prior_loc, prior_scale, weights):
        prior = Diagonal(prior_loc, prior_scale)
        return mixture_with_prior(Diagonal(loc, scale), OBSERVED[:, :3], prior, weights).log_prob(z)

    z, inputs = (
        numbers(3, 2, seed=9),
        [numbers(2, 3, 2), numbers(2, 3, 2).exp(), numbers(2), numbers(2).exp()],
    )
    assert gradcheck(density, [x.requires_grad_() for x in [*inputs, WEIGHTS.clone()]])


@pytest.mark.equation("eq-geometric-mean")
def test_the_product_of_powers_of_posteriors_and_prior_is_normal():
    """Lemma 3: a normal density with the moments of the normalised product, so a density."""
    experts = Diagonal(numbers(2, 4, 1), 0.4 + numbers(2, 4, 1, seed=1).abs())
    q = mixture_with_prior(experts, OBSERVED, STANDARD, WEIGHTS)
    own, _ = log_densities(q)
    log_product = (SHARES * own).sum(1)
    log_product = log_product - integral(log_product.exp()).log()
    centre = geometric_mean(q.components, SHARES > 0, SHARES)
    torch.testing.assert_close(centre.log_prob(ON.z(4)), log_product, atol=1e-8, rtol=1e-10)
    torch.testing.assert_close(centre.loc[3], STANDARD.loc, **EXACT)  # nothing observed: the prior


# --- the divergences ------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-geometric-jsd")
def test_the_geometric_divergence_is_the_sum_of_integrals():
    q = random_mixture()
    own, _ = log_densities(q)
    log_product = (q.log_mixture.exp() * own).sum(1)
    expected = divergence_from(q, log_product - integral(log_product.exp()).log())
    torch.testing.assert_close(geometric_jensen_shannon(q), expected, **EXACT)


@pytest.mark.equation("eq-geometric-jsd")
def test_the_geometric_divergence_adds_up_over_dimensions_and_teaches_every_part():
    q = random_mixture(rows=3, dims=2)
    alone = [
        Mixture(Diagonal(q.components.loc[..., [d]], q.components.scale[..., [d]]), q.log_mixture)
        for d in (0, 1)
    ]
    torch.testing.assert_close(
        geometric_jensen_shannon(q), sum(geometric_jensen_shannon(each) for each in alone), **EXACT
    )

    def divergence(loc, scale, weights):
        return geometric_jensen_shannon(Mixture(Diagonal(loc, scale), weights.log_softmax(0)))

    inputs = [numbers(3, 2, 2), numbers(3, 2, 2, seed=1).exp(), numbers(3, 2, seed=2)]
    assert gradcheck(divergence, [x.requires_grad_() for x in inputs])


@pytest.mark.equation("eq-jsd")
@pytest.mark.parametrize("family", ["normal", "laplace"])
def test_the_estimate_of_the_divergence_from_the_mixture_is_unbiased(family):
    q, n = random_mixture(rows=5, family=family), 40_000
    on = quadrature.grid(-60, 60, breaks=q.components.loc.flatten().tolist(), panels=200)
    z = on.z(5)
    own = q.components.log_prob(z.unsqueeze(1))
    kl = ((own + on.log_weights[:, None, None]).exp() * (own - q.log_prob(z).unsqueeze(1))).sum(0)
    exact = (q.log_mixture.exp() * kl).sum(0)
    draws = q.rsample_stratified(n, torch.Generator().manual_seed(0))
    each = torch.stack([jensen_shannon(q, draws[:, [k]]) for k in range(0, n, 40)])
    error = each.std(0) / math.sqrt(n)
    assert ((jensen_shannon(q, draws) - exact).abs() < 4.5 * error).all()


@pytest.mark.equation("eq-jsd")
def test_the_divergence_from_the_mixture_at_given_draws_and_its_gradient():
    q = random_mixture(rows=2, dims=2)
    z = numbers(3, 4, 2, 2, seed=7)
    expected = torch.zeros(2).double()
    for r in range(3):
        own = Diagonal(q.components.loc[r], q.components.scale[r]).log_prob(z[r]) - q.log_prob(z[r])
        expected += q.log_mixture[r].exp() * own.mean(0)
    torch.testing.assert_close(jensen_shannon(q, z), expected, **EXACT)

    def divergence(loc, scale, weights, z):
        return jensen_shannon(Mixture(Diagonal(loc, scale), weights.log_softmax(0)), z)

    inputs = [numbers(3, 2, 2), numbers(3, 2, 2, seed=1).exp(), numbers(3, 2, seed=2), z]
    assert gradcheck(divergence, [x.requires_grad_() for x in inputs])


@pytest.mark.equation("eq-jsd-upper")
@pytest.mark.equation("eq-jsd-lower")
def test_the_divergence_from_the_mixture_lies_between_its_bounds_and_below_the_entropy_of_the_weights():
    q = random_mixture(rows=200)
    exact = divergence_from(q, log_densities(q)[1])
    entropy = -torch.xlogy(q.log_mixture.exp(), q.log_mixture.exp()).sum(0)
    lower, upper = jensen_shannon_lower(q), jensen_shannon_upper(q)
    assert (lower >= -1e-12).all() and (lower <= exact + 1e-10).all()
    assert (exact <= upper + 1e-10).all() and (upper <= entropy + 1e-12).all() and (exact < math.log(3)).all()
    far = Mixture(Diagonal(1e4 * q.components.loc, q.components.scale), q.log_mixture)  # nothing overflows
    for bound in (jensen_shannon_lower, jensen_shannon_upper):
        torch.testing.assert_close(bound(far), entropy, atol=1e-6, rtol=0)


@pytest.mark.equation("eq-jsd-upper")
def test_the_upper_bound_is_made_of_the_kls_of_pairs():
    check_bound(lambda q: jensen_shannon_upper(q), lambda q, p: integral(q.exp() * (q - p)))


@pytest.mark.equation("eq-jsd-lower")
def test_the_lower_bound_is_made_of_the_overlaps_of_pairs():
    check_bound(lambda q: jensen_shannon_lower(q), lambda q, p: -integral(((q + p) / 2).exp()).log())


def check_bound(bound, distance):
    """Its value, with distances from log densities [N, nu, mu, B] on the grid, and its gradient."""
    q = random_mixture(rows=6)
    own, _ = log_densities(q)
    weights = q.log_mixture.exp()
    inner = (weights * (-distance(own.unsqueeze(2), own.unsqueeze(1))).exp()).sum(1)
    torch.testing.assert_close(bound(q), -(weights * inner.log()).sum(0), atol=1e-8, rtol=1e-8)

    def value(loc, scale, weights):
        return bound(Mixture(Diagonal(loc, scale), weights.log_softmax(0)))

    inputs = [numbers(3, 2, 2), numbers(3, 2, 2, seed=1).exp(), numbers(3, 2, seed=2)]
    assert gradcheck(value, [x.requires_grad_() for x in inputs])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=2, max_size=5),
    st.floats(0.2, 3),
    st.floats(-0.5, 0.5).filter(lambda x: abs(x) > 1e-3),
    st.booleans(),
)
def test_divergences_are_positive_and_zero_for_equal_distributions_only(locs, scale, change, of_scale):
    """The last distribution is like the first but for one number."""
    weights = torch.arange(1, len(locs) + 2).double()
    equal = Diagonal(
        torch.full((len(locs) + 1, 1, 1), locs[0]).double(), torch.full((len(locs) + 1, 1, 1), scale).double()
    )
    observed = torch.ones(len(locs) + 1, 1, dtype=torch.bool)
    q = mixture_of_experts(equal, observed, weights)
    for divergence in (geometric_jensen_shannon, jensen_shannon_lower, jensen_shannon_upper):
        assert divergence(q).abs() < 1e-9
    loc, spread = equal.loc.clone(), equal.scale.clone()
    loc[-1] += 0 if of_scale else change * scale
    spread[-1] *= 1 + (change if of_scale else 0)
    other = mixture_of_experts(Diagonal(loc, spread), observed, weights)
    mixed = mixture_of_experts(
        Diagonal(torch.tensor([*locs, 0.0]).double()[:, None, None], spread), observed, weights
    )
    for divergence in (geometric_jensen_shannon, jensen_shannon_lower, jensen_shannon_upper):
        assert divergence(other) > 1e-9 and divergence(mixed) > -1e-12


@pytest.mark.parametrize("form", ["geometric", "mixture"])
def test_where_the_divergence_vanishes_so_do_all_pairwise_ones(form):
    """Steps down the divergence of three posteriors and the prior bring all of them together, at the prior."""
    loc, raw = (2 * numbers(3, 1, 1)).requires_grad_(), numbers(3, 1, 1, seed=1).requires_grad_()
    optimiser = torch.optim.LBFGS([loc, raw], max_iter=200, line_search_fn="strong_wolfe", tolerance_change=0)

    def divergence():
        q = mixture_with_prior(Diagonal(loc, raw.exp()), torch.ones(3, 1, dtype=torch.bool), STANDARD)
        if form == "geometric":
            return geometric_jensen_shannon(q).sum()
        return divergence_from(q, log_densities(q)[1]).sum()

    def closure():
        optimiser.zero_grad()
        value = divergence()
        value.backward()
        return value

    assert divergence() > 0.1
    optimiser.step(closure)
    assert divergence() < 1e-9
    ends = Diagonal(torch.cat([loc, torch.zeros(1, 1, 1)]), torch.cat([raw.exp(), torch.ones(1, 1, 1)]))
    pairs = kl_divergence(
        Diagonal(ends.loc[:, None], ends.scale[:, None]), Diagonal(ends.loc[None], ends.scale[None])
    )
    assert pairs.max() < 1e-7


def test_bad_arguments_are_named():
    q = random_mixture(family="laplace")
    for divergence in (geometric_jensen_shannon, jensen_shannon_lower):
        with pytest.raises(ValueError, match="laplace"):
            divergence(q)
    with pytest.raises(ValueError, match=r"weights have shape \(2,\)"):
        mixture_with_prior(
            Diagonal(numbers(2, 4, 1), numbers(2, 4, 1).exp()), OBSERVED, STANDARD, WEIGHTS[:2]
        )
