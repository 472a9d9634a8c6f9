"""MEME: its bounds against closed forms, what its weight does to gradients, pseudo-samples, and what a step costs."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal
from torch.distributions import Independent as Together

from mmlib import bounds
from mmlib.distributions import Diagonal, EqualMixture, Mixture, kl_divergence, single
from mmlib.lab import LinearGaussian, View, modalities
from mmlib.modality import CategoricalLikelihood, Modality, NormalLikelihood
from mmlib.models import MEME
from mmlib.models.meme import (
    ESTIMATES,
    _draws,
    _kl,
    log_predictive,
    log_supervision_weight,
    mutual_objective,
    paired_bound,
    partial_bound,
)

EXACT = {"atol": 1e-9, "rtol": 1e-9}  # float64, sums of some hundred numbers
ROWS = 6
LABS = {
    m: LinearGaussian.make(dict(zip("abc", (3, 4, 3)[:m], strict=False)), 2, noise=0.8, seed=1)
    for m in (2, 3)
}
SAMPLES = 80_000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(m=2, n=ROWS):
    return LABS[m].sample(n, generator())[1]


def build(m=2, shift=0.1, widen=1.3, **options):
    torch.manual_seed(0)
    lab = LABS[m]
    return MEME(modalities(lab, shift=shift, widen=widen), lab.latent_dim, **options).double()


def normals(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# --- one direction, in the laboratory -------------------------------------------------------------------------------


def direction(lab, batch, n, k, q, p, seed=0):
    """What a direction a to b is made of, for the one row of ``batch``: n times K + 1 codes, densities [K + 1, n]."""
    z = q.rsample((k + 1) * n, generator(seed)).view(k + 1, n, -1)
    log_s, log_t = (lab.views[name].log_prob(batch[name], z) for name in "ab")
    return log_s, log_t, q.log_prob(z) - p.log_prob(z)


def of_direction(log_s, log_t, ratio, estimate="mean", alpha=1.0):
    predictive = log_predictive(log_t, estimate)
    weight = log_supervision_weight(log_t[0], predictive)
    return paired_bound(log_s[0], log_t[0], ratio[0], weight, predictive, alpha)


def one_item(noise=0.7):
    lab = LinearGaussian.make({"a": 2, "b": 3}, 1, noise=noise, seed=3)
    return lab, lab.sample(1, generator(2))[1]


@pytest.mark.equation("eq-meme-paired")
@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize(("shift", "widen"), [(0.0, 1.0), (0.3, 0.8), (-0.4, 1.5)])
def test_a_direction_is_at_most_the_evidence_of_its_joint_model_for_any_number_of_codes(k, shift, widen):
    lab, batch = one_item()
    q, p = (lab.diagonal_posterior(batch, [n]) for n in "ab")
    q, p = (Diagonal(x.loc + shift * sign, widen * x.scale) for x, sign in ((q, 1), (p, -1)))
    found = of_direction(*direction(lab, batch, SAMPLES, k, q, p))
    exact = lab.log_marginal(batch, "a", prior=p)  # log int p(s | z) p(z | t) dz, p(t) left out on both sides
    error = found.std() / math.sqrt(SAMPLES)
    assert found.mean() < exact + 3 * error
    if (shift, widen) == (0.0, 1.0):
        torch.testing.assert_close(exact, lab.log_conditional(batch, "a", "b"), **EXACT)


@pytest.mark.equation("eq-meme-paired")
def test_with_exact_posteriors_it_is_the_importance_weighted_bound_and_tight_as_codes_grow():
    lab, batch = one_item()
    q, p = (lab.diagonal_posterior(batch, [n]) for n in "ab")
    exact, gaps = lab.log_conditional(batch, "a", "b"), []
    for k in (1, 10, 100):
        log_s, log_t, ratio = direction(lab, batch, SAMPLES // (k + 1), k, q, p)
        turns = [[*range(i, k + 1), *range(i)] for i in range(k + 1)]  # each code in turn is the one drawn
        value = torch.stack([of_direction(log_s[i], log_t[i], ratio[i]) for i in turns]).mean(0)
        torch.testing.assert_close(value, torch.logsumexp(log_s - ratio, 0) - math.log(k + 1), **EXACT)
        gaps.append(float(exact - value.mean()))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] and abs(gaps[2]) < 0.01


@pytest.mark.equation("eq-meme-paired")
def test_averaged_over_which_code_is_drawn_it_lies_below_the_importance_weighted_bound_of_the_same_codes():
    """The proof: with shares pi of the q(t | z_k) and weights v of the bound, sum pi log v / pi, less log (K + 1)."""
    log_s, log_t, ratio = (normals(5, 7, seed=seed) * 2 for seed in range(3))
    turns = [[*range(i, 5), *range(i)] for i in range(5)]
    mean = torch.stack([of_direction(log_s[i], log_t[i], ratio[i]) for i in turns]).mean(0)
    shares = log_t.softmax(0)
    expected = (shares * (log_s - ratio - shares.log())).sum(0) - math.log(5)
    torch.testing.assert_close(mean, expected, **EXACT)
    assert (mean < torch.logsumexp(log_s - ratio, 0) - math.log(5)).all()


@pytest.mark.equation("eq-meme-paired")
def test_value_and_gradient_of_a_direction():
    inputs = [normals(3, seed=seed).requires_grad_() for seed in range(5)]
    log_s, log_t, divergence, log_weight, predictive = inputs
    found = paired_bound(*inputs, 2.5)
    expected = log_weight.exp() * (log_s - log_t - divergence) + 2.5 * predictive
    torch.testing.assert_close(found, expected, **EXACT)
    assert torch.autograd.gradcheck(lambda *x: paired_bound(*x, 2.5), inputs)


def tight(noise_t=1.0):
    """q(z | s) = N(0, 1), q(t | z) = N(z, c^2), p(z | t) = N(0, 1.5^2), and the p(s | z) that makes all of it tight."""
    posterior = 1 + noise_t**-2  # precision of q(z | s) q(t | z) at s = t = 0
    noise_s = (posterior - 1.5**-2) ** -0.5
    one = torch.ones(1, 1).double()
    lab = LinearGaussian({"a": View(one, one[0] * 0, noise_s), "b": View(one, one[0] * 0, noise_t)})
    batch = {name: torch.zeros(1, 1).double() for name in "ab"}
    q, p = (Diagonal(torch.zeros(1, 1).double(), torch.full((1, 1), scale).double()) for scale in (1.0, 1.5))
    return lab, batch, q, p


def test_the_analytic_divergence_and_a_larger_alpha_make_another_objective_that_may_exceed_what_is_bounded():
    lab, batch, q, p = tight()
    exact = lab.log_marginal(batch, "a", prior=p)
    log_s, log_t, ratio = direction(lab, batch, SAMPLES, 40, q, p)
    sampled = of_direction(log_s, log_t, ratio).mean()
    assert exact - 0.02 < sampled < exact + 0.005
    analytic = of_direction(log_s, log_t, kl_divergence(q, p).expand_as(ratio)).mean()
    assert analytic > exact + 0.1  # the weighted log-ratio is .267, the KL .128
    lab, batch, q, p = tight(noise_t=0.1)
    log_s, log_t, ratio = direction(lab, batch, SAMPLES, 40, q, p)
    with_alpha = of_direction(log_s, log_t, ratio, alpha=10.0).mean()
    without = of_direction(log_s, log_t, ratio).mean()
    torch.testing.assert_close(with_alpha - without, 9 * log_predictive(log_t).mean(), atol=1e-9, rtol=0)
    # t in other units: its densities are 100 times as high, which the bound, without log p(t), does not notice
    in_units = [of_direction(log_s, log_t + math.log(100), ratio, alpha=a).mean() for a in (1.0, 10.0)]
    exact = lab.log_marginal(batch, "a", prior=p)
    assert in_units[0] < exact + 0.01 and in_units[1] > exact + 10


def test_the_mean_of_both_directions_exceeds_the_evidence_of_one_of_their_models():
    """Encoders of a prior N(0, 2^2), so that both are tight; p(s) and p(t) of N(0, 1)."""
    lab, batch = one_item()
    wide = Diagonal(torch.zeros(1).double(), torch.full((1,), 2.0).double())
    joint = lab.log_marginal(batch, prior=wide)
    models = [  # p(t) int p(s | z) q(z | t) dz, and s and t exchanged
        lab.log_marginal(batch, given) + joint - lab.log_marginal(batch, given, prior=wide) for given in "ba"
    ]
    assert abs(models[0] - models[1]) > 0.02
    directions = []
    for source, target in ("ab", "ba"):
        precision = {n: 0.25 + (lab.views[n].weight ** 2).sum() / lab.views[n].noise ** 2 for n in "ab"}
        experts = {}
        for n, view in lab.views.items():
            evidence = (batch[n] - view.bias) @ view.weight / view.noise**2
            experts[n] = Diagonal(evidence / precision[n], precision[n].rsqrt().expand_as(evidence))
        z = experts[source].rsample(41 * 4000, generator()).view(41, 4000, 1)
        log_s, log_t = (lab.views[n].log_prob(batch[n], z) for n in (source, target))
        ratio = experts[source].log_prob(z) - experts[target].log_prob(z)
        directions.append(of_direction(log_s, log_t, ratio).mean() + lab.log_marginal(batch, target))  # [1]
    assert (torch.cat(directions) < torch.cat(models) + 0.01).all()
    mean = mutual_objective(torch.stack(directions), torch.ones(2, 1))
    assert mean > min(models) + 0.005


# --- weight and estimate --------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-meme-predictive")
def test_estimates_of_the_predictive_density():
    log_t = normals(5, 3).requires_grad_()
    mean = log_t.exp().mean(0).log()
    torch.testing.assert_close(log_predictive(log_t), mean, **EXACT)
    torch.testing.assert_close(log_predictive(log_t, "sum"), mean + math.log(5), **EXACT)
    torch.testing.assert_close(log_predictive(log_t, "fresh"), log_t[1:].exp().mean(0).log(), **EXACT)
    for estimate in ESTIMATES:
        assert torch.autograd.gradcheck(lambda x, e=estimate: log_predictive(x, e), [log_t])
    with pytest.raises(ValueError, match="estimate is 'median'; expected one of mean, fresh, sum"):
        log_predictive(log_t, "median")


@pytest.mark.equation("eq-meme-predictive")
def test_the_estimate_is_unbiased_for_the_predictive_density_and_the_printed_sum_is_not():
    lab, batch = one_item()
    q = lab.diagonal_posterior(batch, "a")
    _, log_t, _ = direction(lab, batch, SAMPLES, 3, q, q)
    exact = lab.log_marginal(batch, "b", prior=q).exp()
    ratio = {estimate: float(log_predictive(log_t, estimate).exp().mean() / exact) for estimate in ESTIMATES}
    assert ratio["mean"] == pytest.approx(1, abs=0.01) and ratio["fresh"] == pytest.approx(1, abs=0.01)
    assert ratio["sum"] == pytest.approx(4, abs=0.04)


@pytest.mark.equation("eq-meme-weight")
@pytest.mark.parametrize("k", [1, 10])
def test_the_weight_has_mean_one_and_is_at_most_the_number_of_codes(k):
    lab, batch = one_item(noise=0.3)
    q = lab.diagonal_posterior(batch, "a")
    _, log_t, _ = direction(lab, batch, SAMPLES, k, q, q)
    weight = {e: log_supervision_weight(log_t[0], log_predictive(log_t, e)).exp() for e in ESTIMATES}
    assert float(weight["mean"].mean()) == pytest.approx(1, abs=0.02)
    assert float(weight["mean"].max()) <= (k + 1) * (1 + 1e-12)
    assert float(weight["sum"].mean()) == pytest.approx(1 / (k + 1), abs=0.02)
    assert k > 1 or float(weight["fresh"].max()) > 10 * (k + 1)  # without z nothing holds it


@pytest.mark.equation("eq-meme-weight")
def test_the_weight_is_equation_10_and_as_good_in_single_precision():
    log_t = normals(11, 50) * 300 - 2000  # of images: exp underflows
    found = log_supervision_weight(log_t[0], log_predictive(log_t))
    best = log_t.max(0).values
    printed = (log_t[0] - best) - (log_t - best).exp().sum(0).log() + math.log(11)
    torch.testing.assert_close(found, printed, **EXACT)
    short = log_supervision_weight(log_t.float()[0], log_predictive(log_t.float()))
    torch.testing.assert_close(
        short.double().exp(), found.exp(), atol=1e-3, rtol=1e-3
    )  # 2000 has 1e-4 in float32
    inputs = [normals(3, seed=seed).requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(log_supervision_weight, inputs)


def cross_gradient(log_t, estimate, alpha=1.0):
    """Of what a direction sends to log q(t | z_k) of each code, weight cut from the graph, averaged over who is z."""
    n = len(log_t)
    total = torch.zeros_like(log_t)
    for i in range(n):
        turned = torch.cat([log_t[i:], log_t[:i]]).detach().requires_grad_()
        predictive = log_predictive(turned, estimate)
        weight = log_supervision_weight(turned[0], predictive).detach().exp()
        (gradient,) = torch.autograd.grad((alpha * predictive - weight * turned[0]).sum(), turned)
        total += torch.cat([gradient[n - i :], gradient[: n - i]]) / n
    return total


def test_the_cross_terms_cancel_if_and_only_if_the_mean_has_the_same_code():
    """For any codes and any network, since it holds of the gradient with respect to each log q(t | z_k)."""
    log_t = normals(5, 40) * 3
    shares = log_t.softmax(0)
    torch.testing.assert_close(cross_gradient(log_t, "mean"), torch.zeros_like(log_t), **EXACT)
    torch.testing.assert_close(cross_gradient(log_t, "sum"), shares * 4 / 5, **EXACT)
    torch.testing.assert_close(cross_gradient(log_t, "mean", alpha=10.0), 9 * shares, **EXACT)
    fresh = cross_gradient(log_t, "fresh")
    assert float(fresh.abs().mean()) > 0.1


@pytest.mark.parametrize(("estimate", "signal"), [("mean", False), ("fresh", True), ("sum", True)])
def test_expected_gradients_of_decoder_and_encoder_cancel_in_the_laboratory(estimate, signal):
    """Through the codes, too: codes move with the encoder. 200,000 draws; a mean beyond 5 errors is a signal."""
    lab, batch = one_item(noise=1.0)
    q, n = lab.diagonal_posterior(batch, "a"), 50_000
    noise = torch.randn(4, n, 1, generator=generator(), dtype=torch.float64)
    # one parameter a draw, so that each has a gradient of its own and the mean an error
    bias, loc = (torch.zeros(n, 1).double().requires_grad_() for _ in range(2))
    z = q.loc + loc + q.scale * noise
    view = lab.views["b"]
    log_t = View(view.weight, view.bias * 0, view.noise).log_prob(batch["b"] - view.bias - bias, z)
    predictive = log_predictive(log_t, estimate)
    weight = log_supervision_weight(log_t[0], predictive).detach().exp()
    for gradient in torch.autograd.grad((predictive - weight * log_t[0]).sum(), [bias, loc]):
        assert (gradient.mean().abs() > 5 * gradient.std() / math.sqrt(n)) == signal


# --- several directions, and rows of one modality --------------------------------------------------------------------


@pytest.mark.equation("eq-meme")
def test_the_objective_is_the_mean_of_the_directions_that_a_row_has():
    directions = normals(4, 3).requires_grad_()
    counts = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0]]).double()
    found = mutual_objective(directions, counts)
    expected = torch.stack([directions[:, 0].mean(), directions[:2, 1].mean(), torch.zeros(()).double()])
    torch.testing.assert_close(found, expected, **EXACT)
    for order in itertools.permutations(range(4)):  # whichever modality comes first
        torch.testing.assert_close(mutual_objective(directions[[*order]], counts[[*order]]), found, **EXACT)
    both = mutual_objective(directions[:2], torch.ones(2, 3).double())
    torch.testing.assert_close(both, (directions[0] + directions[1]) / 2, **EXACT)
    counts = (counts + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(mutual_objective, [directions, counts])


@pytest.mark.equation("eq-meme-partial")
def test_a_lone_modality_is_bounded_under_the_prior_of_the_pseudo_samples():
    lab, batch = one_item()
    q = lab.diagonal_posterior(batch, "a")
    prior = EqualMixture(Diagonal(normals(5, 1), normals(5, 1, seed=1).exp()))
    exact = lab.log_marginal(batch, "a", prior=prior)
    z = q.rsample(SAMPLES, generator())
    log_s, ratio = lab.views["a"].log_prob(batch["a"], z), q.log_prob(z) - prior.log_prob(z)
    found = partial_bound(log_s, ratio)
    assert found.mean() < exact - 0.01
    torch.testing.assert_close(
        torch.logsumexp(found, 0) - math.log(SAMPLES), exact, atol=0.02, rtol=0
    )  # the weights are those of this evidence
    alone = EqualMixture(
        lab.diagonal_posterior(batch, ())
    )  # N(0, 1) as the one component: the bound is tight
    tight = partial_bound(log_s, q.log_prob(z) - alone.log_prob(z))
    torch.testing.assert_close(tight, lab.log_marginal(batch, "a").expand_as(tight), **EXACT)
    inputs = [normals(3, seed=seed).requires_grad_() for seed in range(2)]
    assert torch.autograd.gradcheck(partial_bound, inputs)


@pytest.mark.equation("eq-meme-partial")
def test_pseudo_samples_may_lift_the_bound_above_the_evidence_of_the_model():
    """p(z) = N(0, 1), p(s | z) = N(z, 0.1^2), s = 2, and one pseudo-sample whose posterior is N(2, 0.1^2)."""
    one = torch.ones(1, 1).double()
    lab, s = LinearGaussian({"s": View(one, one[0] * 0, 0.1)}), {"s": 2 * one}
    q = Diagonal(2 * one, 0.1 * one)
    z = q.rsample(SAMPLES, generator())
    bound = partial_bound(lab.views["s"].log_prob(s["s"], z), q.log_prob(z) - EqualMixture(q).log_prob(z))
    assert float(bound.mean()) == pytest.approx(0.884, abs=0.01)
    assert float(lab.log_marginal(s)) == pytest.approx(-2.904, abs=1e-3)
    assert bound.mean() < lab.log_marginal(s, prior=EqualMixture(q))


@pytest.mark.equation("eq-pseudo-prior")
def test_an_equal_mixture_is_torch_s_own_and_draws_from_each_component_alike():
    q = Diagonal(normals(4, 3), normals(4, 3, seed=1).exp())
    prior, z = EqualMixture(q), normals(5, 6, 3)
    peer = MixtureSameFamily(
        Categorical(torch.ones(4).double(), validate_args=False), Together(Normal(q.loc, q.scale), 1)
    )
    torch.testing.assert_close(prior.log_prob(z), peer.log_prob(z), **EXACT)
    draws = prior.rsample(40_000, generator())
    assert draws.shape == (40_000, 3)
    torch.testing.assert_close(draws.mean(0), peer.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(draws.var(0), peer.variance, atol=0, rtol=0.05)
    laplace = EqualMixture(Diagonal(q.loc, q.scale, "laplace"))
    assert laplace.rsample(7).shape == (7, 3)
    leaves = [x.requires_grad_() for x in (q.loc, q.scale, z[:2])]
    assert torch.autograd.gradcheck(lambda m, s, z: EqualMixture(Diagonal(m, s)).log_prob(z), leaves)


@pytest.mark.equation("eq-pseudo-prior")
def test_parts_of_many_draws_are_put_together_again():
    q = Diagonal(normals(2, 2**20), torch.ones(2, 2**20).double())  # one part for each draw
    z = normals(5, 2**20, seed=1)
    found = EqualMixture(q).log_prob(z)
    expected = torch.logsumexp(torch.stack([Diagonal(q.loc[i], q.scale[i]).log_prob(z) for i in (0, 1)]), 0)
    torch.testing.assert_close(found, expected - math.log(2), **EXACT)


# --- the model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def same_noise(monkeypatch):
    """Every draw is the same distance from its mean."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.fill_(0.3))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def by_hand(model, batch, k, alpha, kl, seed=0):
    """The objective of two modalities, written out."""
    draw, total = generator(seed), 0
    experts = {n: model.encode(n, x) for n, x in batch.items()}
    for s, t in ("ab", "ba"):
        q, p = experts[s], experts[t]
        noise = torch.empty(k + 1, 1, *q.loc.shape).double().normal_(generator=draw)[:, 0]
        z = q.loc + q.scale * noise
        log_s, log_t = (
            model.modalities[n].weight
            * model.modalities[n].likelihood.log_prob(model.modalities[n].decode(z), batch[n])
            for n in (s, t)
        )
        predictive = log_t.exp().mean(0).log()
        divergence = kl_divergence(q, p) if kl == "analytic" else q.log_prob(z[0]) - p.log_prob(z[0])
        weight = (log_t[0] - predictive).exp().detach()
        total = total + weight * (log_s[0] - log_t[0] - divergence) + alpha * predictive
    return total / 2


@pytest.mark.parametrize("kl", ["analytic", "sampled"])
def test_the_objective_of_two_modalities_is_what_one_writes_down(kl):
    model, batch = build(k=3, alpha=2.5, kl=kl), rows()
    model.modalities["a"].weight = 1.5
    loss, parts = model.loss(batch, generator=generator())
    expected = by_hand(model, batch, 3, 2.5, kl)
    torch.testing.assert_close(parts["objective"], expected, **EXACT)
    found, wanted = gradients(model, loss), gradients(model, -expected.mean())
    assert found.keys() == wanted.keys()
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], **EXACT)
    assert set(parts) == {
        "objective", "kl", "weight", "cross.a", "cross.b", "log_likelihood.a", "log_likelihood.b",
    }  # fmt: skip


@pytest.mark.parametrize("m", [2, 3])
def test_the_printed_sum_is_the_mean_with_a_larger_alpha(m):
    batch, k = rows(m), 4
    losses = []
    for estimate, alpha in (("sum", 1.0), ("mean", 5.0)):
        model = build(m, k=k, estimate=estimate, alpha=alpha, kl="sampled")
        losses.append((model, model.loss(batch, generator=generator())[0]))
    printed, mean = (gradients(model, loss) for model, loss in losses)
    for name in printed:
        torch.testing.assert_close(printed[name] * (k + 1), mean[name], **EXACT)


def test_without_the_stop_the_gradient_has_the_part_of_the_weight_too():
    """Equation 7: the whole gradient is the weight's times the log-ratio, and the weight times the log-ratio's."""
    batch = rows()
    whole, part = (build(k=3, kl="sampled", stop_gradient=stop) for stop in (False, True))
    full = gradients(whole, whole.loss(batch, generator=generator())[0])
    stopped = gradients(part, part.loss(batch, generator=generator())[0])
    model = build(k=3, kl="sampled")
    draw, dropped = generator(), 0
    experts = {n: model.encode(n, x) for n, x in batch.items()}
    for s, t in ("ab", "ba"):
        z = _draws(single(experts[s]), 4, draw)
        log_s, log_t = (
            model.modalities[n].likelihood.log_prob(model.modalities[n].decode(z), batch[n]) for n in (s, t)
        )
        weight = log_supervision_weight(log_t[0], log_predictive(log_t)).exp()
        log_ratio = log_s[0] - log_t[0] - experts[s].log_prob(z[0]) + experts[t].log_prob(z[0])
        dropped = dropped - (weight * log_ratio.detach()).mean() / 2
    rest = gradients(model, dropped)
    for name in stopped:
        torch.testing.assert_close(full[name], stopped[name] + rest[name], **EXACT)
    assert any(rest[name].abs().max() > 1e-3 for name in rest)


@pytest.mark.equation("eq-meme")
def test_permuting_three_modalities_changes_nothing(same_noise):
    batch = rows(3)
    values = []
    for order in itertools.permutations("abc"):
        parts = dict(zip("abc", modalities(LABS[3], shift=0.1, widen=1.3), strict=True))
        model = MEME([parts[n] for n in order], 2, k=3, combination="product").double()
        _, found = model.loss({n: batch[n] for n in order})
        values.append(torch.stack([found["objective"], found["kl"], found["cross.b"]]))
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], **EXACT)


@pytest.mark.equation("eq-meme")
def test_three_modalities_face_a_product_of_the_others_in_both_orders(same_noise):
    model, batch, total = build(3, k=2, alpha=2.0, kl="sampled", combination="product"), rows(3), 0
    experts = {n: model.encode(n, x) for n, x in batch.items()}
    for m in "abc":
        others = [n for n in "abc" if n != m]
        precision = sum(experts[n].scale ** -2 for n in others)
        loc = sum(experts[n].loc * experts[n].scale ** -2 for n in others) / precision
        faced = Diagonal(loc, precision.rsqrt())
        for s, q, t, p in (([m], experts[m], others, faced), (others, faced, [m], experts[m])):
            z = q.loc + 0.3 * q.scale  # all codes alike: the weight is 1
            log_p = {n: model.log_likelihood(n, z, batch[n], torch.ones(ROWS).bool()) for n in "abc"}
            log_s, log_t = (sum(log_p[n] for n in side) for side in (s, t))
            total = total + log_s - log_t - q.log_prob(z) + p.log_prob(z) + 2 * log_t
    _, parts = model.loss(batch)
    torch.testing.assert_close(parts["objective"], total / 6, **EXACT)


def test_draws_of_a_mixture_are_exchangeable_and_its_divergence_is_bounded():
    q = Mixture(
        Diagonal(torch.tensor([[[-2.0]], [[3.0]]]).double(), torch.tensor([[[0.5]], [[1.0]]]).double()),
        torch.tensor([[0.25], [0.75]]).double().log(),
    )
    p = single(Diagonal(torch.zeros(1, 1).double(), 2 * torch.ones(1, 1).double()))
    z = torch.cat([_draws(q, 4, generator(seed)) for seed in range(4000)], 1)[..., 0]  # [4, 4000]
    for each in z:
        assert float((each > 0.5).double().mean()) == pytest.approx(0.75, abs=0.03)
    many = q.components.rsample(40_000, generator())[:, :, 0]  # [n, R, D]
    ratio = torch.stack([q.log_prob(many[:, [r]]) - p.log_prob(many[:, [r]]) for r in range(2)])[..., 0]
    exact = 0.25 * ratio[0].mean() + 0.75 * ratio[1].mean()
    assert exact < float(_kl(q, p)) < exact + 0.6
    torch.testing.assert_close(_kl(p, p), torch.zeros(1).double(), **EXACT)
    other = single(Diagonal(torch.ones(1, 1).double(), torch.ones(1, 1).double()))
    expected = kl_divergence(*(Diagonal(x.components.loc[0], x.components.scale[0]) for x in (p, other)))
    torch.testing.assert_close(_kl(p, other), expected, **EXACT)


# --- rows of one modality, and pseudo-samples ------------------------------------------------------------------------

MASK = {
    "a": torch.tensor([True, True, False, True, False, True]),
    "b": torch.tensor([True, False, True, True, True, False]),
}


def counted(model):
    """Rows that pass through each network from now on."""
    passed = {}
    for name, part in model.modalities.items():
        for role in ("encoder", "decoder"):
            network, key = getattr(part, role), f"{role} of {name}"
            passed[key] = [0, 0]

            def hook(module, inputs, key=key):
                passed[key][0] += 1
                passed[key][1] += len(inputs[0])

            network.register_forward_pre_hook(hook)
    return passed


def test_a_pair_costs_24_decodes_and_2_encodes_at_ten_codes():
    model, batch = build(k=10), rows()
    passed = counted(model)
    model.loss(batch)
    for name in "ab":
        assert passed[f"encoder of {name}"] == [1, ROWS]
        assert passed[f"decoder of {name}"] == [
            2,
            12 * ROWS,
        ]  # own, once; and all K + 1 codes of the other at once


def test_rows_of_one_modality_cost_no_cross_decodes():
    model, batch = build(k=10, pseudo_samples=5), rows()
    passed = counted(model)
    model.loss(batch, MASK)  # two rows are complete, two show a alone, two b alone
    for name in "ab":
        assert passed[f"decoder of {name}"] == [3, 2 * 12 + 2]
        assert passed[f"encoder of {name}"] == [2, 6 + 5]


def test_the_objective_of_a_mixed_batch_is_that_of_its_rows(same_noise):
    model, batch = build(k=3).eval(), rows()
    _, together = model.loss(batch, MASK)
    for i in range(ROWS):
        alone = {n: x[i : i + 1] for n, x in batch.items() if MASK[n][i]}
        _, parts = model.loss(alone)
        torch.testing.assert_close(parts["objective"][0], together["objective"][i], **EXACT)
    q = model.encode("a", batch["a"][5:])
    z = q.loc + 0.3 * q.scale
    prior = EqualMixture(model.encode("b", model.pseudo["b"]))
    expected = model.log_likelihood("a", z, batch["a"][5:], torch.ones(1).bool())
    expected = expected - q.log_prob(z) + prior.log_prob(z)
    torch.testing.assert_close(together["objective"][5:], expected, **EXACT)


def test_what_a_row_of_one_modality_teaches():
    """All but the decoder of the other modality and the pseudo-samples of its own (Section 3.3)."""
    model = build()
    found = gradients(model, model.loss({"a": rows()["a"]})[0])
    taught = {name.rsplit(".", 1)[0] for name, gradient in found.items() if gradient.any()}
    assert taught == {"modalities.a.encoder", "modalities.a.decoder", "modalities.b.encoder", "pseudo"}
    assert found["pseudo.b"].any() and "pseudo.a" not in found


def test_complete_rows_teach_no_pseudo_samples():
    model = build()
    assert not any(name.startswith("pseudo") for name in gradients(model, model.loss(rows())[0]))


def test_pseudo_samples_are_the_first_items_that_training_shows():
    model, batch = build(pseudo_samples=8), rows()
    noise = model.pseudo["b"].detach().clone()
    model.eval().loss(batch)
    assert torch.equal(model.pseudo["b"], noise)  # an evaluation is no training
    model.train().loss(batch, MASK)
    assert torch.equal(model.pseudo["b"][:4], batch["b"][MASK["b"]]) and model.shown.tolist() == [4, 4]
    assert torch.equal(model.pseudo["b"][4:], noise[4:])
    copied = copy.deepcopy(model)  # a run that is continued from here
    copied.load_state_dict(model.state_dict())
    for each in (model, copied):
        each.loss({"b": batch["b"] + 1})
        expected = torch.cat([batch["b"][MASK["b"]], batch["b"][:4] + 1])
        assert torch.equal(each.pseudo["b"], expected) and each.shown.tolist() == [4, 8]
        each.loss({"b": batch["b"] + 2})
        assert torch.equal(each.pseudo["b"], expected)


def test_pseudo_samples_of_symbols_stay_data():
    symbols = Modality(
        "word",
        (4,),
        Embedded(),
        nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (4, 3))),
        CategoricalLikelihood(3),
    )
    numbers = Modality("a", (3,), Split(3), nn.Linear(2, 3), NormalLikelihood())
    model = MEME([numbers, symbols], 2, pseudo_samples=3)
    words = torch.randint(3, (5, 4), generator=generator())
    loss, _ = model.loss(
        {"a": torch.randn(5, 3), "word": words}, {"word": torch.tensor([True] * 4 + [False])}
    )
    loss.backward()
    assert torch.equal(model.pseudo["word"], words[:3]) and model.pseudo["word"].grad is None
    assert model.pseudo["word"].dtype == torch.int64 and model.sample(2)["word"].shape[0] == 2


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Embedding(3, 4)

    def forward(self, x):
        return self.net(x).mean(1).chunk(2, -1)


class Split(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.net = nn.Linear(size, 4)

    def forward(self, x):
        return self.net(x).chunk(2, -1)


def test_one_modality_alone_has_its_own_pseudo_samples_as_prior():
    lab = LinearGaussian.make({"a": 3}, 2, seed=1)
    model = MEME(modalities(lab), 2, pseudo_samples=4).double()
    loss, parts = model.loss(lab.sample(5, generator())[1])
    assert torch.isfinite(loss) and gradients(model, loss)["pseudo.a"].any()
    assert parts["objective"].shape == (5,)


def test_likelihoods_and_samples_are_of_the_prior_of_pseudo_samples():
    model, batch = build(), rows()
    model.loss(batch)
    exact = LABS[2].log_marginal(batch, prior=model.prior)
    with torch.no_grad():
        weights = model.log_weights(batch, 2000, generator=generator())
    torch.testing.assert_close(bounds.iwae(weights), exact, atol=0.1, rtol=0)
    drawn = model.sample(2000, generator())
    z = model.prior.components
    expected = (z.loc @ LABS[2].views["a"].weight.T + LABS[2].views["a"].bias).mean(0)
    torch.testing.assert_close(drawn["a"].mean(0), expected, atol=0.1, rtol=0)


def test_wrong_options_are_refused():
    for options, message in (
        ({"kl": "exact"}, "kl is 'exact'; expected one of analytic, sampled"),
        ({"estimate": "max"}, "estimate is 'max'; expected one of mean, fresh, sum"),
        ({"combination": "sum"}, "combination is 'sum'; expected one of mixture, product"),
        ({"alpha": -1.0}, "alpha is -1.0; expected a number of at least 0"),
        ({"k": 0}, "k is 0; expected an integer of at least 1"),
        ({"pseudo_samples": 0}, "pseudo_samples is 0; expected an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            build(**options)
