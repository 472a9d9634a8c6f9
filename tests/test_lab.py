"""The laboratory itself: its closed forms against quadrature, against sampling and against each other."""

import math

import pytest
import torch
from torch.distributions import Laplace, MultivariateNormal

from mmlib import bounds
from mmlib.distributions import (
    Diagonal,
    EqualMixture,
    mixture_of_experts,
    product_of_experts,
    scale_from,
    single,
)
from mmlib.lab import LinearGaussian, joint_encoder, modalities, quadrature

EXACT = {"atol": 1e-9, "rtol": 0}  # float64, sums of tens of terms


def make(latent_dim=1, orthogonal=True, rows=4, seed=3):
    lab = LinearGaussian.make(
        {"a": 3, "b": 4, "c": 3}, latent_dim, {"a": 0.5, "b": 1.0, "c": 0.8}, orthogonal, seed
    )
    return lab, lab.sample(rows, torch.Generator().manual_seed(seed))[1]


def off(q, shift=0.3, widen=1.4):
    return Diagonal(q.loc + shift, q.scale * widen, q.family)


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("names", [("a",), ("b", "c"), ("a", "b", "c")])
def test_bayes_rule_holds_at_any_z(orthogonal, names):
    lab, batch = make(3, orthogonal)
    mean, covariance = lab.posterior(batch, names)
    z = torch.randn(5, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    evidence = lab.log_joint(z, batch, names) - MultivariateNormal(mean, covariance).log_prob(z)
    torch.testing.assert_close(evidence, lab.log_marginal(batch, names).expand(5, 4), **EXACT)


def test_quadrature_agrees_with_the_closed_forms():
    lab, batch = make()
    on, q = quadrature.grid(-14, 14), off(lab.diagonal_posterior(batch))

    def log_joint(z):
        return lab.log_joint(z, batch)

    torch.testing.assert_close(quadrature.log_evidence(log_joint, 4, on), lab.log_marginal(batch), **EXACT)
    torch.testing.assert_close(quadrature.elbo(log_joint, single(q), on), lab.elbo(q, batch), **EXACT)
    torch.testing.assert_close(quadrature.cubo_limit(log_joint, single(q), on), lab.cubo(q, batch), **EXACT)
    torch.testing.assert_close(quadrature.iwae(log_joint, single(q), 1, on), lab.elbo(q, batch), **EXACT)


@pytest.mark.parametrize("orthogonal", [True, False])
def test_elbo_and_gap_add_up_to_the_evidence(orthogonal):
    lab, batch = make(3, orthogonal)
    q = off(lab.diagonal_posterior(batch))
    for names in [("b",), ("a", "c"), None]:
        torch.testing.assert_close(
            lab.elbo(q, batch, names) + lab.gap(q, batch, names), lab.log_marginal(batch, names), **EXACT
        )


def test_the_exact_diagonal_posterior_closes_every_gap():
    lab, batch = make(3)
    for given in [("a",), ("b", "c"), ("a", "b", "c")]:
        q, truth = lab.diagonal_posterior(batch, given), lab.log_marginal(batch, given)
        torch.testing.assert_close(lab.gap(q, batch, given), torch.zeros(4, dtype=torch.float64), **EXACT)
        torch.testing.assert_close(lab.cubo(q, batch, given), truth, **EXACT)


def test_without_orthogonal_columns_the_diagonal_is_the_closest():
    lab, batch = make(3, orthogonal=False)
    q = lab.diagonal_posterior(batch)
    loc, log_scale = q.loc.clone().requires_grad_(), q.scale.log().requires_grad_()
    gap = lab.gap(Diagonal(loc, log_scale.exp()), batch)
    assert (gap > 1e-3).all()
    for gradient in torch.autograd.grad(gap.sum(), [loc, log_scale]):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


def test_cubo_is_infinite_exactly_where_the_tails_are_too_thin():
    lab, batch = make()
    p = lab.diagonal_posterior(batch)
    assert torch.isinf(lab.cubo(Diagonal(p.loc, p.scale * math.sqrt(0.499)), batch)).all()
    assert torch.isfinite(lab.cubo(Diagonal(p.loc, p.scale * math.sqrt(0.501)), batch)).all()


def test_cubo_in_three_dimensions_matches_sampling():
    lab, batch = make(3, orthogonal=False, rows=1)
    q = off(lab.diagonal_posterior(batch), 0.1, 1.5)
    _, log_w = lab.log_weights(single(q), batch, 200_000, generator=torch.Generator().manual_seed(1))
    squares = (2 * (log_w.values - lab.cubo(q, batch))).exp().flatten()  # mean 1 if the closed form is right
    assert abs(squares.mean() - 1) < 4 * squares.std() / math.sqrt(len(squares))


def test_conditional_is_the_predictive_density():
    lab, batch = make(2, orthogonal=False)
    mean, covariance = lab.posterior(batch, ["b"])
    view = lab.views["a"]
    predicted = MultivariateNormal(
        mean @ view.weight.T + view.bias,
        view.weight @ covariance @ view.weight.T + view.noise**2 * torch.eye(3, dtype=torch.float64),
    )
    torch.testing.assert_close(
        lab.log_conditional(batch, ["a"], ["b"]), predicted.log_prob(batch["a"]), **EXACT
    )


def test_samples_have_the_models_covariance():
    lab, _ = make(2)
    _, batch = lab.sample(100_000, torch.Generator().manual_seed(0))
    x = torch.cat([batch["a"], batch["b"]], -1)
    weight = torch.cat([lab.views["a"].weight, lab.views["b"].weight])
    expected = weight @ weight.T + torch.tensor([0.25] * 3 + [1.0] * 4, dtype=torch.float64).diag()
    torch.testing.assert_close(
        x.T.cov(), expected, atol=0.04, rtol=0
    )  # about 6 standard errors of a covariance


@pytest.mark.parametrize("k", [1, 2, 7, 50])
def test_expected_iwae_and_cubo_at_any_k_match_sampling(k):
    lab, batch = make(rows=1)
    q = off(lab.diagonal_posterior(batch), 0.4, 1.3)
    n = 20_000
    many = single(Diagonal(q.loc.expand(n, 1), q.scale.expand(n, 1)))
    repeated = {name: x.expand(n, -1) for name, x in batch.items()}
    _, log_w = lab.log_weights(many, repeated, k, generator=torch.Generator().manual_seed(k))

    def log_joint(z):
        return lab.log_joint(z, batch)

    on = quadrature.grid(-12, 12)
    for expected, drawn in [
        (quadrature.iwae(log_joint, single(q), k, on), bounds.iwae(log_w)),
        (quadrature.cubo(log_joint, single(q), k, on), bounds.cubo(log_w)),
    ]:
        assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(n)


@pytest.mark.parametrize("looser", [False, True])
def test_expected_mixture_bounds_match_sampling(looser):
    lab, batch = make(rows=1)
    p = lab.diagonal_posterior(batch)
    n, k = 20_000, 4
    experts = Diagonal(torch.stack([p.loc - 0.5, p.loc + 1.0]), torch.stack([p.scale * 1.3, p.scale * 0.9]))
    q = mixture_of_experts(experts, torch.ones(2, 1, dtype=torch.bool))
    many = mixture_of_experts(
        Diagonal(experts.loc.expand(2, n, 1), experts.scale.expand(2, n, 1)),
        torch.ones(2, n, dtype=torch.bool),
    )
    repeated = {name: x.expand(n, -1) for name, x in batch.items()}
    _, log_w = lab.log_weights(many, repeated, k, generator=torch.Generator().manual_seed(5))
    drawn = (bounds.iwae_looser if looser else bounds.iwae)(log_w)
    expected = quadrature.iwae(lambda z: lab.log_joint(z, batch), q, k, quadrature.grid(-12, 12), looser)
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / math.sqrt(n)


def test_quadrature_of_a_laplace_model_matches_its_closed_form():
    # x = z + noise, both standard Laplace: the density of a sum of two is (1 + |x|) exp(-|x|) / 4
    x = torch.tensor([[-1.5], [0.0], [0.7]], dtype=torch.float64)

    def log_joint(z):
        unit = Laplace(torch.zeros((), dtype=torch.float64), 1.0)
        return (unit.log_prob(z) + unit.log_prob(x - z)).sum(-1)

    on = quadrature.grid(-40, 40, breaks=[0.0, *x.flatten().tolist()])
    expected = (torch.log1p(x.abs()) - x.abs() - math.log(4)).squeeze(-1)
    torch.testing.assert_close(quadrature.log_evidence(log_joint, 3, on), expected, **EXACT)


def test_quadrature_gradient_of_iwae_matches_finite_differences():
    lab, batch = make(rows=2)
    p, on = lab.diagonal_posterior(batch), quadrature.grid(-10, 10, panels=60)

    def value(shift, widen):
        return quadrature.iwae(lambda z: lab.log_joint(z, batch), single(off(p, shift, widen)), 3, on).sum()

    at = (
        torch.tensor(0.4, dtype=torch.float64, requires_grad=True),
        torch.tensor(1.2, dtype=torch.float64, requires_grad=True),
    )
    assert torch.autograd.gradcheck(value, at, eps=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", ["softplus", "log_variance"])
def test_modalities_hold_the_exact_experts(scale):
    lab, batch = make(2)
    everything = lab.diagonal_posterior(batch)
    likelihoods = []
    for posterior, likelihood in zip(
        modalities(lab, scale), modalities(lab, scale, "likelihood"), strict=True
    ):
        loc, raw = posterior.encoder(batch[posterior.name])
        exact = lab.diagonal_posterior(batch, [posterior.name])
        torch.testing.assert_close(loc, exact.loc, **EXACT)
        torch.testing.assert_close(scale_from(raw, scale), exact.scale, **EXACT)
        loc, raw = likelihood.encoder(batch[likelihood.name])
        likelihoods.append(Diagonal(loc, scale_from(raw, scale)))
        z = torch.randn(4, 2, dtype=torch.float64)
        view = lab.views[posterior.name]
        torch.testing.assert_close(posterior.decode(z), z @ view.weight.T + view.bias, **EXACT)
    experts = Diagonal(torch.stack([q.loc for q in likelihoods]), torch.stack([q.scale for q in likelihoods]))
    zeros = torch.zeros(2, dtype=torch.float64)
    product = product_of_experts(experts, torch.ones(3, 4, dtype=torch.bool), Diagonal(zeros, zeros + 1))
    loc, raw = joint_encoder(lab, scale)(batch)
    for q in (product, Diagonal(loc, scale_from(raw, scale))):
        torch.testing.assert_close(q.loc, everything.loc, **EXACT)
        torch.testing.assert_close(q.scale, everything.scale, **EXACT)


def test_perturbed_modalities_are_off_by_the_stated_amount():
    lab, batch = make(2)
    for modality in modalities(lab, shift=0.3, widen=1.5):
        exact = lab.diagonal_posterior(batch, [modality.name])
        loc, raw = modality.encoder(batch[modality.name])
        torch.testing.assert_close(loc, exact.loc + 0.3, **EXACT)
        torch.testing.assert_close(scale_from(raw, "softplus"), exact.scale * 1.5, **EXACT)


def test_bad_arguments_are_named():
    lab, batch = make()
    with pytest.raises(ValueError, match="sizes\\['a'\\] is 2; orthogonal columns need at least 3"):
        LinearGaussian.make({"a": 2}, 3)
    with pytest.raises(ValueError, match="noise of 'a' is 0"):
        LinearGaussian.make({"a": 2}, 1, 0.0)
    with pytest.raises(ValueError, match="names has 'd'"):
        lab.log_marginal(batch, ["d"])
    with pytest.raises(ValueError, match="overlap"):
        lab.log_conditional(batch, ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="family 'laplace'"):
        lab.elbo(Diagonal(torch.zeros(4, 1), torch.ones(4, 1), "laplace"), batch)
    with pytest.raises(ValueError, match="experts is 'x'"):
        modalities(lab, experts="x")
    with pytest.raises(ValueError, match="softmax budget adds up to 1"):
        modalities(lab, scale="softmax_budget")
    with pytest.raises(ValueError, match="high is 0"):
        quadrature.grid(1, 0)
    with pytest.raises(ValueError, match="k is 0"):
        quadrature.iwae(
            lambda z: lab.log_joint(z, batch), single(lab.diagonal_posterior(batch)), 0, quadrature.grid()
        )


def test_evidence_under_another_prior_is_that_of_quadrature():
    """Of a normal for each row, and of a mixture of two normals."""
    lab = LinearGaussian.make({"a": 2, "b": 3}, 1, seed=2)
    batch = lab.sample(4, torch.Generator().manual_seed(0))[1]
    loc, scale = torch.linspace(-1, 2, 4).double()[:, None], torch.linspace(0.3, 2, 4).double()[:, None]
    each = Diagonal(loc, scale)
    mixture = EqualMixture(Diagonal(loc[:2], scale[:2]))
    on = quadrature.grid()
    for prior in (each, mixture):

        def log_joint(z, prior=prior):
            return prior.log_prob(z) + sum(view.log_prob(batch[n], z) for n, view in lab.views.items())

        exact = quadrature.log_evidence(log_joint, 4, on)
        torch.testing.assert_close(lab.log_marginal(batch, prior=prior), exact, atol=1e-9, rtol=1e-9)
    with pytest.raises(ValueError, match="laplace"):
        lab.log_marginal(batch, prior=Diagonal(loc, scale, "laplace"))
