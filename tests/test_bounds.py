"""Bounds in the laboratory: values, gradients, ordering, tightness, limits, bias of estimators, missing data."""

import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from mmlib import bounds
from mmlib.distributions import Diagonal, Mixture, mixture_of_experts, single
from mmlib.lab import LinearGaussian, joint_encoder, modalities, quadrature
from mmlib.modality import CategoricalLikelihood, LaplaceLikelihood, Modality
from mmlib.models import JMVAE, MMVAE, MVAE

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64, a handful of operations
ON = quadrature.grid(-12, 12)


def example(r=2, k=3, b=4, grad=False):
    """Log-weights [R, K, B] and unequal log mixture weights [R, B]."""
    generator = torch.Generator().manual_seed(0)
    log_weights = torch.randn(r, k, b, generator=generator, dtype=torch.float64) - 1
    log_mixture = torch.randn(r, b, generator=generator, dtype=torch.float64).log_softmax(0)
    return log_weights.requires_grad_(grad), log_mixture.requires_grad_(grad)


def averages(log_weights, log_mixture):
    """Mean weight and mean squared weight over strata, out of log space: [B], [B]."""
    share = log_mixture.exp()[:, None] / log_weights.shape[1]
    return (share * log_weights.exp()).sum((0, 1)), (share * log_weights.exp() ** 2).sum((0, 1))


def plain_lab(rows=3, seed=3):
    lab = LinearGaussian.make({"a": 2, "b": 3}, 1, {"a": 0.6, "b": 1.0}, seed=seed)
    batch = lab.sample(rows, torch.Generator().manual_seed(seed))[1]
    return lab, batch, lab.diagonal_posterior(batch)


def off(q, shift=0.4, widen=1.3):
    return Diagonal(q.loc + shift, q.scale * widen)


def two_experts(p):
    """A poor mixture: one component to the left and wide, one far to the right and narrow."""
    loc, scale = torch.stack([p.loc - 0.4, p.loc + 1.0]), torch.stack([p.scale * 1.4, p.scale * 0.9])
    return mixture_of_experts(Diagonal(loc, scale), torch.ones(loc.shape[:2], dtype=torch.bool))


# --- value and gradient of every equation ---------------------------------------------------------------------------


@pytest.mark.equation("eq-log-weights")
def test_log_weights_are_the_log_ratio():
    a, b, prior, posterior = (example(2, 3, 4, grad=True)[0] * scale for scale in (1.0, 0.5, 0.7, 1.3))
    ratio = a.exp() * b.exp() * prior.exp() / posterior.exp()
    torch.testing.assert_close(bounds.log_weights([a, b], prior, posterior), ratio.log(), **EXACT)
    leaves = [x.detach().requires_grad_() for x in (a, b, prior, posterior)]
    assert gradcheck(lambda a, b, prior, posterior: bounds.log_weights([a, b], prior, posterior), leaves)


@pytest.mark.equation("eq-elbo")
def test_elbo_is_the_mean_over_strata():
    log_weights, log_mixture = example(grad=True)
    expected = (log_mixture.exp() * log_weights.mean(1)).sum(0)
    torch.testing.assert_close(bounds.elbo(log_weights, log_mixture), expected, **EXACT)
    torch.testing.assert_close(bounds.elbo(log_weights), log_weights.mean((0, 1)), **EXACT)
    assert gradcheck(bounds.elbo, (log_weights, log_mixture))


@pytest.mark.equation("eq-iwae")
def test_iwae_is_the_log_of_the_mean_weight():
    log_weights, log_mixture = example(grad=True)
    expected = averages(log_weights, log_mixture)[0].log()
    torch.testing.assert_close(bounds.iwae(log_weights, log_mixture), expected, **EXACT)
    torch.testing.assert_close(bounds.iwae(log_weights), log_weights.exp().mean((0, 1)).log(), **EXACT)
    assert gradcheck(bounds.iwae, (log_weights, log_mixture))


@pytest.mark.equation("eq-iwae-looser")
def test_looser_iwae_is_the_mean_of_the_components_logs():
    log_weights, log_mixture = example(grad=True)
    by_component = log_weights.exp().mean(1).log()
    expected = (log_mixture.exp() * by_component).sum(0)
    torch.testing.assert_close(bounds.iwae_looser(log_weights, log_mixture), expected, **EXACT)
    torch.testing.assert_close(bounds.iwae_looser(log_weights), by_component.mean(0), **EXACT)
    assert gradcheck(bounds.iwae_looser, (log_weights, log_mixture))


@pytest.mark.equation("eq-cubo")
def test_cubo_is_half_the_log_of_the_mean_squared_weight():
    log_weights, log_mixture = example(grad=True)
    expected = 0.5 * averages(log_weights, log_mixture)[1].log()
    torch.testing.assert_close(bounds.cubo(log_weights, log_mixture), expected, **EXACT)
    assert gradcheck(bounds.cubo, (log_weights, log_mixture))


@pytest.mark.equation("eq-normalised-weights")
def test_normalised_weights_sum_to_one():
    log_weights, log_mixture = example(grad=True)
    weighted = log_weights.exp() * log_mixture.exp()[:, None]
    torch.testing.assert_close(
        bounds.normalised_weights(log_weights, log_mixture), weighted / weighted.sum((0, 1)), **EXACT
    )
    by_component = log_weights.exp() / log_weights.exp().sum(1, keepdim=True)
    torch.testing.assert_close(
        bounds.normalised_weights(log_weights, log_mixture, looser=True), by_component, **EXACT
    )
    assert gradcheck(bounds.normalised_weights, (log_weights, log_mixture))
    assert gradcheck(lambda x: bounds.normalised_weights(x, looser=True), log_weights)


@pytest.mark.equation("eq-effective-sample-size")
def test_effective_sample_size():
    log_weights, log_mixture = example(grad=True)
    weights = (log_weights + log_mixture[:, None]).exp()
    expected = weights.sum((0, 1)) ** 2 / (weights**2).sum((0, 1))
    torch.testing.assert_close(bounds.effective_sample_size(log_weights, log_mixture), expected, **EXACT)
    torch.testing.assert_close(bounds.effective_sample_size(torch.zeros(2, 5, 3)), torch.full((3,), 10.0))
    assert gradcheck(bounds.effective_sample_size, (log_weights, log_mixture))


@pytest.mark.equation("eq-dreg")
@pytest.mark.parametrize("looser", [False, True])
def test_dreg_weighs_samples_in_parts_as_it_weighs_the_whole(looser):
    generator = torch.Generator().manual_seed(0)
    loc = torch.randn(2, 1, 4, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64)
    gradients = []
    for parts in (1, 2, 3):
        leaf = loc.clone().requires_grad_()
        samples = (leaf + noise).tensor_split(parts, -1)  # of different sizes
        log_weights = (torch.cat(samples, -1) ** 3).sum(-1).neg().tanh()
        value = bounds.dreg(log_weights, samples[0] if parts == 1 else samples, looser=looser)
        gradients.append(torch.autograd.grad(value.sum(), leaf)[0])
    assert all(torch.allclose(gradients[0], other, rtol=1e-12, atol=0) for other in gradients)
    assert gradients[0].abs().min() > 0


@pytest.mark.equation("eq-dreg")
@pytest.mark.parametrize("looser", [False, True])
def test_dreg_squares_the_weights_of_the_posterior_and_of_nothing_else(looser):
    lab, batch, p = plain_lab()
    loc, scale = (
        two_experts(p).components.loc.clone().requires_grad_(),
        two_experts(p).components.scale.clone().requires_grad_(),
    )
    log_mixture = (
        torch.tensor([[0.3], [0.7]], dtype=torch.float64).log().expand(2, 3).clone().requires_grad_()
    )
    theta = torch.zeros(
        3, dtype=torch.float64, requires_grad=True
    )  # a generative parameter: a factor p(x | theta)
    q = Mixture(Diagonal(loc, scale), log_mixture)
    z = q.rsample_stratified(5, torch.Generator().manual_seed(0))
    log_weights = lab.log_joint(z, batch) + theta * z.squeeze(-1) - q.detach().log_prob(z)
    value = bounds.dreg(log_weights, z, log_mixture, looser)
    bound = bounds.iwae_looser if looser else bounds.iwae
    torch.testing.assert_close(value, bound(log_weights, log_mixture), **EXACT)
    by_loc, by_scale, by_theta, by_mixture = torch.autograd.grad(
        value.sum(), [loc, scale, theta, log_mixture]
    )

    # by hand: d log w / dz of a linear-Gaussian model, the density of the mixture held fixed
    z, loc, scale, share = (x.detach() for x in (z, loc, scale, log_mixture.exp()))
    weights = log_weights.detach().exp() * (1.0 if looser else share[:, None])
    weights = weights / weights.sum((1,) if looser else (0, 1), keepdim=True)  # normalised
    responsibility = (
        q.components.log_prob(z.unsqueeze(2)).movedim(2, 0) + log_mixture[:, None, None]
    )  # [R', R, K, B]
    responsibility = responsibility.softmax(0).detach()
    score = -(responsibility[..., None] * (z - loc[:, None, None]) / scale[:, None, None] ** 2).sum(0)
    slope = -(z - p.loc) / p.scale**2 - score  # [R, K, B, D]
    outer = share[:, None] if looser else torch.ones(1, dtype=torch.float64)
    squared = (outer * weights**2)[..., None] * slope
    torch.testing.assert_close(by_loc, squared.sum(1), **EXACT)
    torch.testing.assert_close(by_scale, (squared * (z - loc[:, None]) / scale[:, None]).sum(1), **EXACT)
    torch.testing.assert_close(
        by_theta, (outer * weights * z.squeeze(-1)).sum((0, 1)), **EXACT
    )  # not squared
    again = log_mixture.detach().requires_grad_()
    expected = torch.autograd.grad(bound(log_weights.detach(), again).sum(), again)[0]
    torch.testing.assert_close(by_mixture, expected, **EXACT)


# --- ordering, tightness and limits ----------------------------------------------------------------------------------


@pytest.mark.parametrize("q", ["single", "mixture"])
def test_expected_bounds_are_ordered(q):
    lab, batch, p = plain_lab()
    q = single(off(p)) if q == "single" else two_experts(p)

    def log_joint(z):
        return lab.log_joint(z, batch)

    ladder = [quadrature.elbo(log_joint, q, ON)]
    ladder += [quadrature.iwae(log_joint, q, k, ON) for k in (2, 8, 64)]
    ladder.append(lab.log_marginal(batch))
    for lower, higher in zip(ladder, ladder[1:], strict=False):
        assert (lower < higher - 1e-4).all()


def test_iwae_approaches_the_evidence_at_the_rate_of_the_weights_variance():
    lab, batch, p = plain_lab()
    q, k = off(p), 2000
    gap = lab.log_marginal(batch) - quadrature.iwae(lambda z: lab.log_joint(z, batch), single(q), k, ON)
    variance = torch.expm1(2 * (lab.cubo(q, batch) - lab.log_marginal(batch)))  # of w / p(x)
    torch.testing.assert_close(
        gap * 2 * k, variance, atol=0, rtol=0.01
    )  # the next term is of relative order 1 / k


def test_drawn_bounds_are_ordered_row_by_row():
    log_weights, log_mixture = example()
    elbo, iwae = bounds.elbo(log_weights, log_mixture), bounds.iwae(log_weights, log_mixture)
    looser, cubo = bounds.iwae_looser(log_weights, log_mixture), bounds.cubo(log_weights, log_mixture)
    assert (elbo < looser).all()
    assert (looser < iwae).all()
    assert (iwae < cubo).all()


def test_every_bound_is_exact_for_every_draw_at_the_true_posterior():
    lab, batch, p = plain_lab()
    z, log_weights = lab.log_weights(single(p), batch, 4, generator=torch.Generator().manual_seed(0))
    truth = lab.log_marginal(batch)
    torch.testing.assert_close(log_weights.values, truth.expand(1, 4, 3), **EXACT)
    for bound in (bounds.elbo, bounds.iwae, bounds.iwae_looser, bounds.cubo):
        torch.testing.assert_close(bound(log_weights), truth, **EXACT)
    torch.testing.assert_close(bounds.dreg(log_weights, z), truth, **EXACT)


def test_drawn_bounds_have_the_expectations_that_quadrature_says():
    lab, batch, p = plain_lab(rows=1)
    n, k, q = 40_000, 3, two_experts(p)
    many = Mixture(
        Diagonal(q.components.loc.expand(2, n, 1), q.components.scale.expand(2, n, 1)),
        q.log_mixture.expand(2, n),
    )
    repeated = {name: x.expand(n, -1) for name, x in batch.items()}
    _, log_weights = lab.log_weights(many, repeated, k, generator=torch.Generator().manual_seed(1))

    def log_joint(z):
        return lab.log_joint(z, batch)

    for drawn, expected in [
        (bounds.elbo(log_weights), quadrature.elbo(log_joint, q, ON)),
        (bounds.iwae(log_weights), quadrature.iwae(log_joint, q, k, ON)),
        (bounds.iwae_looser(log_weights), quadrature.iwae(log_joint, q, k, ON, looser=True)),
        (bounds.cubo(log_weights), quadrature.cubo(log_joint, q, k, ON)),
    ]:
        assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(n)


def test_the_looser_bound_tends_to_its_own_limit_strictly_below_the_evidence():
    lab, batch, p = plain_lab()
    q, truth = two_experts(p), lab.log_marginal(batch)

    def log_joint(z):
        return lab.log_joint(z, batch)

    limit = quadrature.looser_limit(log_joint, q, ON)
    assert (limit < truth - 0.1).all()
    torch.testing.assert_close(quadrature.iwae(log_joint, q, 3000, ON, looser=True), limit, atol=1e-3, rtol=0)
    torch.testing.assert_close(quadrature.iwae(log_joint, q, 3000, ON), truth, atol=1e-3, rtol=0)


def test_the_looser_bound_loses_nothing_when_the_components_agree():
    lab, batch, p = plain_lab()
    same = off(p)
    q = mixture_of_experts(
        Diagonal(torch.stack([same.loc] * 2), torch.stack([same.scale] * 2)),
        torch.ones(2, 3, dtype=torch.bool),
    )
    limit = quadrature.looser_limit(lambda z: lab.log_joint(z, batch), q, ON)
    torch.testing.assert_close(limit, lab.log_marginal(batch), **EXACT)


def test_the_cubo_estimate_is_on_either_side_and_tends_to_its_closed_form():
    lab, batch, p = plain_lab()
    q, truth = off(p), lab.log_marginal(batch)

    def expected(k):
        return quadrature.cubo(lambda z: lab.log_joint(z, batch), single(q), k, ON)

    torch.testing.assert_close(
        expected(1), lab.elbo(q, batch), atol=1e-9, rtol=0
    )  # K = 1: the ELBO, a *lower* bound
    assert (expected(1) < truth).all()
    assert (expected(50) > truth).all()
    assert (lab.cubo(q, batch) > truth).all()
    torch.testing.assert_close(expected(50_000), lab.cubo(q, batch), atol=1e-3, rtol=0)
    log_weights, _ = example(1, 1)
    torch.testing.assert_close(bounds.cubo(log_weights), bounds.elbo(log_weights), **EXACT)


def test_the_cubo_estimate_grows_without_limit_when_tails_are_thin():
    lab, batch, p = plain_lab()
    thin = single(off(p, 0.0, 0.5))
    values = [quadrature.cubo(lambda z: lab.log_joint(z, batch), thin, 10**i, ON) for i in range(2, 7)]
    for lower, higher in zip(values, values[1:], strict=False):
        assert (higher > lower + 0.3).all()


def test_nothing_underflows_at_the_size_of_images():
    log_weights, log_mixture = example()
    log_weights = log_weights.float() - 4000  # exp underflows far above this
    for bound in (bounds.elbo, bounds.iwae, bounds.iwae_looser, bounds.cubo):
        moved = bound(log_weights, log_mixture.float())
        assert torch.isfinite(moved).all()
        torch.testing.assert_close(
            moved + 4000, bound(example()[0].float(), log_mixture.float()), atol=2e-3, rtol=0
        )


def test_rows_do_not_mix():
    log_weights, log_mixture = example()
    order = torch.tensor([2, 0, 3, 1])
    for bound in (bounds.elbo, bounds.iwae, bounds.iwae_looser, bounds.cubo, bounds.effective_sample_size):
        permuted = bound(log_weights[..., order], log_mixture[:, order])
        assert torch.equal(permuted, bound(log_weights, log_mixture)[order])


def test_an_absent_component_counts_for_nothing_even_if_it_holds_nan():
    log_weights, _ = example()
    absent = torch.tensor([[0.0], [-math.inf]], dtype=torch.float64).expand(2, 4)
    for bound in (bounds.elbo, bounds.iwae, bounds.iwae_looser, bounds.cubo):
        torch.testing.assert_close(bound(log_weights, absent), bound(log_weights[:1]), **EXACT)
    log_weights[1] = math.nan
    for bound in (bounds.elbo, bounds.iwae_looser):
        torch.testing.assert_close(bound(log_weights, absent), bound(log_weights[:1]), **EXACT)


# --- gradient estimators ---------------------------------------------------------------------------------------------


def gradients(lab, batch, q, k, n, estimator, looser=False):
    """Mean and standard error of n gradient estimates with respect to every component's (loc, scale): [2, R] each."""
    components = q.components
    loc = components.loc.expand(-1, n, 1).clone().requires_grad_()
    scale = components.scale.expand(-1, n, 1).clone().requires_grad_()
    many = Mixture(Diagonal(loc, scale), q.log_mixture.expand(-1, n))
    repeated = {name: x.expand(n, -1) for name, x in batch.items()}
    z = many.rsample_stratified(k, torch.Generator().manual_seed(7))
    density = many if estimator == "plain" else many.detach()
    log_weights = lab.log_joint(z, repeated) - density.log_prob(z)
    if estimator == "squared":
        value = bounds.dreg(log_weights, z, many.log_mixture, looser)
    else:
        value = (bounds.iwae_looser if looser else bounds.iwae)(log_weights, many.log_mixture)
    estimates = torch.stack(torch.autograd.grad(value.sum(), [loc, scale])).squeeze(-1)  # [2, R, n]
    return estimates.mean(-1), estimates.std(-1) / math.sqrt(n)


def exact_gradient(lab, batch, q, k, looser=False):
    """The gradient of the *expected* bound, by quadrature: [2, R]."""
    loc = q.components.loc.clone().requires_grad_()
    scale = q.components.scale.clone().requires_grad_()
    mixture = Mixture(Diagonal(loc, scale), q.log_mixture)
    value = quadrature.iwae(lambda z: lab.log_joint(z, batch), mixture, k, ON, looser)
    return torch.stack(torch.autograd.grad(value.sum(), [loc, scale])).reshape(2, -1)


def deviations(lab, batch, q, k, n, estimator, looser=False):
    """Bias of an estimator in standard errors, [2, R]."""
    mean, error = gradients(lab, batch, q, k, n, estimator, looser)
    return (mean - exact_gradient(lab, batch, q, k, looser)) / error


def test_squared_weights_are_unbiased_for_one_reparameterised_posterior():
    lab, batch, p = plain_lab(rows=1)
    q = single(off(p))
    assert deviations(lab, batch, q, 5, 100_000, "squared").abs().max() < 4
    assert deviations(lab, batch, q, 5, 100_000, "plain").abs().max() < 4
    assert deviations(lab, batch, q, 5, 100_000, "normalised").abs().max() > 10  # what squaring is for


@pytest.mark.parametrize("looser", [False, True])
def test_for_a_mixture_only_the_plain_gradient_is_unbiased(looser):
    lab, batch, p = plain_lab(rows=1)
    q = two_experts(p)
    assert deviations(lab, batch, q, 4, 50_000, "plain", looser).abs().max() < 4
    assert deviations(lab, batch, q, 4, 50_000, "squared", looser).abs().max() > 10
    assert deviations(lab, batch, q, 4, 50_000, "normalised", looser).abs().max() > 10


def test_squared_weights_vanish_at_the_true_posterior_and_plain_ones_do_not():
    lab, batch, p = plain_lab(rows=1)
    q = single(p)
    mean, error = gradients(lab, batch, q, 5, 1000, "squared")
    torch.testing.assert_close(mean, torch.zeros_like(mean), **EXACT)
    torch.testing.assert_close(error, torch.zeros_like(error), **EXACT)
    assert (gradients(lab, batch, q, 5, 1000, "plain")[1] > 1e-3).all()


# --- the library's models in the laboratory --------------------------------------------------------------------------


def three_views():
    lab = LinearGaussian.make({"a": 3, "b": 4, "c": 3}, 2, {"a": 0.5, "b": 1.0, "c": 0.8}, seed=5)
    return lab, lab.sample(4, torch.Generator().manual_seed(0))[1]


@pytest.mark.parametrize("given", [("a",), ("b", "c"), ("a", "b", "c")])
def test_mvae_is_exact_for_every_subset(given):
    lab, batch = three_views()
    model = MVAE(modalities(lab, experts="likelihood"), 2).double()
    weights = model.log_weights(
        batch, 3, given=given, target=given, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(weights.values, lab.log_marginal(batch, given).expand(1, 3, 4), **EXACT)


def test_jmvae_is_exact_given_all_and_given_one():
    lab, batch = three_views()
    model = JMVAE(modalities(lab), 2, joint_encoder(lab)).double()
    for given in [("a", "b", "c"), ("b",)]:
        weights = model.log_weights(
            batch, 3, given=given, target=given, generator=torch.Generator().manual_seed(0)
        )
        torch.testing.assert_close(weights.values, lab.log_marginal(batch, given).expand(1, 3, 4), **EXACT)


def test_mmvae_has_the_mixture_of_the_exact_unimodal_posteriors():
    lab, batch = three_views()
    options = {"posterior": "normal", "scale": "softplus", "learn_prior": False}
    model = MMVAE(modalities(lab), 2, **options).double()
    draws = model.draw(batch, 2, generator=torch.Generator().manual_seed(0))
    experts = [lab.diagonal_posterior(batch, [name]) for name in lab.names]
    stacked = Diagonal(torch.stack([q.loc for q in experts]), torch.stack([q.scale for q in experts]))
    q = mixture_of_experts(stacked, torch.ones(3, 4, dtype=torch.bool))
    torch.testing.assert_close(
        draws.log_weights.values, lab.log_joint(draws.z, batch) - q.log_prob(draws.z), **EXACT
    )
    one = model.log_weights({"b": batch["b"]}, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(one.values, lab.log_marginal(batch, ["b"]).expand(1, 2, 4), **EXACT)


@pytest.mark.parametrize("name", ["mvae", "mmvae"])
def test_a_row_mask_is_the_same_as_dropping_the_modality(name):
    lab, batch = three_views()
    options = {"posterior": "normal", "scale": "softplus", "learn_prior": False}
    model = (MVAE(modalities(lab), 2) if name == "mvae" else MMVAE(modalities(lab), 2, **options)).double()
    mask = {"b": torch.tensor([True, False, True, False]), "c": torch.tensor([True, True, False, False])}
    poisoned = {m: torch.where(mask[m][:, None], x, math.nan) if m in mask else x for m, x in batch.items()}
    # the draws of a row with a mask: use its own code, the same in both calls, to compare every density
    draws = model.draw(poisoned, 2, mask=mask, generator=torch.Generator().manual_seed(0))
    for row, names in enumerate([("a", "b", "c"), ("a", "c"), ("a", "b"), ("a",)]):
        dropped = {m: batch[m][row : row + 1] for m in names}
        posterior = model.posterior(dropped)
        z = draws.z[:, :, row : row + 1]
        expected = lab.log_joint(z, dropped) - posterior.log_prob(z)
        present = draws.log_mixture[:, row] > -math.inf
        torch.testing.assert_close(
            draws.log_weights.values[present, :, row], expected[present].squeeze(-1), **EXACT
        )
        assert int(present.sum()) == len(posterior.log_mixture)


def laplace_and_symbols():
    """A Laplace view and a categorical view, Laplace posteriors and prior: nothing has a closed form."""

    class Linear(nn.Module):
        def __init__(self, weight, bias):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.tensor(weight)), nn.Parameter(torch.tensor(bias))

        def forward(self, z):
            return z @ self.weight.T + self.bias

    class Encoder(nn.Module):
        def __init__(self, loc, raw):
            super().__init__()
            self.loc, self.raw = nn.Parameter(torch.tensor(loc)), nn.Parameter(torch.tensor(raw))

        def forward(self, x):
            return self.loc.expand(len(x), 1), self.raw.expand(len(x), 1)

    views = [
        Modality("x", (2,), Encoder(0.5, 0.2), Linear([[1.0], [-0.4]], [0.2, 0.5]), LaplaceLikelihood(0.3)),
        Modality(
            "s",
            (),
            Encoder(-0.3, 0.9),
            Linear([[1.5], [0.0], [-1.0]], [0.0, 0.3, 0.1]),
            CategoricalLikelihood(3),
        ),
    ]
    batch = {"x": torch.tensor([[0.9, 0.2]], dtype=torch.float64), "s": torch.tensor([0])}
    options = {"posterior": "laplace", "scale": "softplus", "learn_prior": False}
    return MMVAE(views, 1, **options).double(), batch


@pytest.mark.parametrize("bound", ["elbo", "iwae", "iwae_looser", "cubo"])
def test_laplace_posteriors_with_laplace_and_categorical_views_match_quadrature(bound):
    model, batch = laplace_and_symbols()

    @torch.no_grad()
    def log_joint(z):  # written out, not the library's likelihoods
        location = torch.cat([z * 1.0 + 0.2, z * -0.4 + 0.5], -1)
        image = -(batch["x"] - location).abs().sum(-1) / 0.3 - 2 * math.log(0.6)
        logits = torch.cat([z * 1.5, z * 0 + 0.3, z * -1.0 + 0.1], -1)
        prior = -z.abs().squeeze(-1) - math.log(2)
        return image + logits.log_softmax(-1)[..., 0] + prior

    n, k = 30_000, 3
    with torch.no_grad():
        q = model.posterior(batch)
        kinks = [0.0, 0.7, 0.75, *q.components.loc.flatten().tolist()]
        on = quadrature.grid(-40, 40, kinks)
        many = {"x": batch["x"].expand(n, -1), "s": batch["s"].expand(n)}
        log_weights = model.log_weights(many, k, generator=torch.Generator().manual_seed(2))
        expected = {
            "elbo": quadrature.elbo(log_joint, q, on),
            "iwae": quadrature.iwae(log_joint, q, k, on),
            "iwae_looser": quadrature.iwae(log_joint, q, k, on, looser=True),
            "cubo": quadrature.cubo(log_joint, q, k, on),
        }[bound]
    drawn = getattr(bounds, bound)(log_weights)
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(n)
    assert quadrature.elbo(log_joint, q, on) < quadrature.log_evidence(log_joint, 1, on) - 0.01


# --- bad input -------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_named():
    good = torch.zeros(2, 3, 4)
    for bound in (bounds.elbo, bounds.iwae, bounds.iwae_looser, bounds.cubo, bounds.effective_sample_size):
        with pytest.raises(
            ValueError, match=r"log_weights is of type Tensor of shape \(3, 4\); expected \[R, K, B\]"
        ):
            bound(torch.zeros(3, 4))
        with pytest.raises(ValueError, match="no axis empty"):
            bound(torch.zeros(2, 0, 4))
        with pytest.raises(ValueError, match=r"log_mixture has shape \(3, 4\); expected \(2, 4\)"):
            bound(good, torch.zeros(3, 4))
    with pytest.raises(ValueError, match=r"z has shape \(2, 5, 4, 1\); expected \(2, 3, 4\)"):
        bounds.dreg(good, torch.zeros(2, 5, 4, 1))
    with pytest.raises(ValueError, match=r"z has shape \(2, 5, 4, 1\); expected \(2, 3, 4\)"):
        bounds.dreg(good, [torch.zeros(2, 3, 4, 2), torch.zeros(2, 5, 4, 1)])
