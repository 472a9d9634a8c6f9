"""The models in the laboratory, where every posterior and every bound is known, and at their edges."""

import itertools
import math

import pytest
import torch
from torch import nn

from mmlib import bounds
from mmlib.distributions import Diagonal, kl_divergence
from mmlib.lab import LinearGaussian, joint_encoder, modalities, quadrature
from mmlib.modality import Modality, NormalLikelihood
from mmlib.models import JMVAE, MMVAE, MODELS, MVAE, get_model
from mmlib.models.jmvae import jmvae_objective, jmvae_penalty
from mmlib.models.mmvae import elbo_own_decodes, expert_ratios
from mmlib.models.mvae import mvae_objective, sample_subsets, subset_counts, subset_elbo

NAMES = ("a", "b", "c")
ROWS = 6


def lab_of(m=2, latent_dim=2):
    return LinearGaussian.make(dict(zip(NAMES[:m], (3, 4, 5), strict=False)), latent_dim, noise=0.7, seed=m)


def rows_of(lab, n=ROWS, seed=0):
    return lab.sample(n, torch.Generator().manual_seed(seed))[1]


def build(name, lab, shift=0.0, widen=1.0, **options):
    """A model of the library in the laboratory, exact unless shifted or widened, in float64."""
    experts = "likelihood" if name == "mvae" else "posterior"
    parts = modalities(lab, experts=experts, shift=shift, widen=widen)
    if name == "jmvae":
        options["joint_encoder"] = joint_encoder(lab, shift=shift, widen=widen)
    if name == "mmvae":
        options = {"posterior": "normal", "scale": "softplus", "learn_prior": False, **options}
    return MODELS[name](parts, lab.latent_dim, **options).double()


def many_losses(model, batch, n, seed=0):
    """n independent values of the objective for each row: [n, B]."""
    repeated = {name: x.repeat(n, 1) for name, x in batch.items()}
    with torch.no_grad():
        _, parts = model.loss(repeated, generator=torch.Generator().manual_seed(seed))
    return parts["objective"].view(n, -1)


def check_mean(draws, expected, worst=5.0):
    """The mean over the first axis is within ``worst`` standard errors: odds of a false alarm below 1e-5 a row."""
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() <= worst * error + 1e-9).all(), (draws.mean(0), expected, error)


def subsets(names):
    return [s for size in range(1, len(names) + 1) for s in itertools.combinations(names, size)]


# --- exact at the true posterior --------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3])
def test_product_of_exact_experts_gives_the_exact_likelihood_of_every_subset_at_every_draw(m):
    lab = lab_of(m)
    batch, model = rows_of(lab), build("mvae", lab)
    for given in subsets(lab.names):
        weights = model.log_weights(batch, 3, given=given, target=given).values
        exact = lab.log_marginal(batch, given).expand_as(weights)
        torch.testing.assert_close(weights, exact, rtol=0, atol=1e-5)  # MINIMUM_SCALE moves the scale by 1e-6


def test_joint_encoder_gives_the_exact_likelihood_and_unimodal_ones_that_of_their_modality():
    lab = lab_of()
    batch, model = rows_of(lab), build("jmvae", lab)
    for given in subsets(lab.names):
        weights = model.log_weights(batch, 3, given=given, target=given).values
        torch.testing.assert_close(
            weights, lab.log_marginal(batch, given).expand_as(weights), rtol=0, atol=1e-5
        )


def test_mixture_is_not_exact_and_its_importance_weights_still_average_to_the_likelihood():
    lab = lab_of()
    batch, model = rows_of(lab), build("mmvae", lab, widen=1.2)
    draws = model.draw(batch, 20_000, generator=torch.Generator().manual_seed(0))
    exact = lab.log_marginal(batch)
    loose = bounds.elbo(draws.log_weights)
    assert (loose < exact - 0.05).all()
    estimate = bounds.iwae(draws.log_weights)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.1)  # 40,000 draws, measured error below 0.04


# --- values and gradients of the objectives -----------------------------------------------------------------------


@pytest.mark.equation("eq-jmvae")
def test_jmvae_objective_in_value_and_gradient():
    values = [
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in ([-3.0, 1.5], [2.0, -4.0], [1.1, 0.7], [0.3, 2.2])
    ]
    a, b, kl, penalty = values
    objective = jmvae_objective([a, b], kl, penalty, alpha=0.3, beta=2.0)
    torch.testing.assert_close(objective, a + b - 2 * kl - 0.3 * penalty, rtol=1e-12, atol=0)
    gradients = torch.autograd.grad(objective.sum(), values)
    for gradient, expected in zip(gradients, (1, 1, -2, -0.3), strict=True):
        torch.testing.assert_close(gradient, torch.full_like(gradient, expected))


@pytest.mark.equation("eq-jmvae")
def test_jmvae_objective_averages_to_the_exact_bound_less_the_exact_penalty():
    lab = lab_of()
    batch = rows_of(lab)
    model = build("jmvae", lab, shift=0.3, widen=1.3, alpha=0.4)
    joint = model.encode_joint(batch)
    penalty = sum(kl_divergence(joint, model.encode(name, batch[name])) for name in lab.names)
    check_mean(many_losses(model, batch, 4000), lab.elbo(joint, batch) - 0.4 * penalty)


@pytest.mark.equation("eq-jmvae-penalty")
def test_jmvae_penalty_is_the_sum_of_joint_to_unimodal_divergences_and_moves_both_sides():
    generator = torch.Generator().manual_seed(0)
    loc, other = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((4, 2), (3, 4, 2)))
    scale, wide = (torch.rand(s, generator=generator, dtype=torch.float64) + 0.5 for s in ((4, 2), (3, 4, 2)))
    inputs = [x.requires_grad_() for x in (loc, scale, other, wide)]
    ours = jmvae_penalty(Diagonal(loc, scale), Diagonal(other, wide))
    reference = (wide.log() - scale.log() + (scale**2 + (loc - other) ** 2) / (2 * wide**2) - 0.5).sum((0, 2))
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
    for got, expected in zip(
        *(torch.autograd.grad(v.square().sum(), inputs) for v in (ours, reference)), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.equation("eq-subset-elbo")
def test_subset_elbo_in_value_and_gradient():
    a, b, kl = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([[-3.0]], [[2.0]], [[0.5]])
    )
    elbo = subset_elbo([a, b], kl, beta=1.5)
    assert math.isclose(elbo.item(), -3 + 2 - 1.5 * 0.5)
    assert [g.item() for g in torch.autograd.grad(elbo, (a, b, kl))] == [1, 1, -1.5]


@pytest.mark.equation("eq-mvae")
def test_mvae_objective_in_value_and_gradient():
    elbos = torch.tensor([[-3.0, -1.0], [-2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([[True, False], [True, True]])
    objective = mvae_objective(elbos, counts)
    assert objective.tolist() == [-5, 4]
    (gradient,) = torch.autograd.grad((objective * torch.tensor([1.0, 2.0])).sum(), elbos)
    assert gradient.tolist() == [[1, 0], [1, 2]]


@pytest.mark.equation("eq-mvae")
@pytest.mark.equation("eq-subset-elbo")
@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_mvae_objective_averages_to_the_sum_of_exact_subset_bounds(beta):
    lab = lab_of()
    batch = rows_of(lab)
    model = build("mvae", lab, shift=0.3, widen=1.3, beta=beta)
    expected = 0
    for given in (("a", "b"), ("a",), ("b",)):
        components = model.posterior(batch, given).components
        q = Diagonal(components.loc[0], components.scale[0])
        expected = expected + lab.elbo(q, batch, given) + (1 - beta) * kl_divergence(q, model.prior)
    check_mean(many_losses(model, batch, 4000), expected)


def test_mvae_without_weights_in_partial_terms_keeps_them_in_the_full_term():
    lab = lab_of()
    batch = rows_of(lab)
    parts = {}
    for weigh in (True, False):
        model = build("mvae", lab, weigh_partial_terms=weigh)
        model.modalities["a"].weight = 3.0
        _, values = model.loss(batch, generator=torch.Generator().manual_seed(1))
        parts[weigh] = values["objective"]
    model.modalities["a"].weight = 1.0
    plain = model.loss(batch, generator=torch.Generator().manual_seed(1))[1]["objective"]
    full = model.loss(batch, generator=torch.Generator().manual_seed(1))[1]["log_likelihood.a"]
    torch.testing.assert_close(parts[False] - plain, 2 * full)  # the full term alone has the weight
    assert (parts[True] - parts[False]).abs().min() > 0.1


@pytest.mark.parametrize("k", [1, 3])
def test_mmvae_elbo_averages_to_the_quadrature_of_the_mixture(k):
    lab = lab_of(latent_dim=1)
    batch = rows_of(lab, 3)
    model = build("mmvae", lab, shift=0.2, widen=1.4, k=k)
    exact = quadrature.elbo(lambda z: lab.log_joint(z, batch), model.posterior(batch), quadrature.grid())
    check_mean(many_losses(model, batch, 4000), exact.detach())


@pytest.mark.parametrize("objective", ["iwae", "iwae_looser"])
def test_mmvae_importance_bounds_average_to_their_quadrature_at_finite_k(objective):
    lab = lab_of(latent_dim=1)
    batch = rows_of(lab, 2)
    model = build("mmvae", lab, widen=1.4, objective=objective)
    on = quadrature.grid(-12, 12, panels=30, order=6)
    looser = objective == "iwae_looser"
    exact = quadrature.iwae(lambda z: lab.log_joint(z, batch), model.posterior(batch), 1, on, looser=looser)
    check_mean(many_losses(model, batch, 4000), exact.detach())


@pytest.mark.equation("eq-expert-ratios")
def test_expert_ratios_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    loc, scale, z = (torch.rand(3, 4, 2, generator=generator, dtype=torch.float64) + 0.3 for _ in range(3))
    inputs = [x.requires_grad_() for x in (loc, scale)]
    observed = torch.ones(3, 4, dtype=torch.bool)
    observed[2, 0] = False
    ours = expert_ratios(Diagonal(loc, scale, "laplace"), z, observed)
    density = [torch.distributions.Laplace(loc[r], scale[r]) for r in range(3)]
    for r, d in itertools.product(range(3), repeat=2):
        own = density[d].log_prob(z[d]).sum(-1).detach()
        expected = torch.exp(density[r].log_prob(z[d]).sum(-1) - own) if r != d else torch.ones(4).double()
        expected = torch.where(observed[d] & observed[r], expected, torch.zeros(4).double())
        torch.testing.assert_close(ours[r, d], expected, rtol=1e-12, atol=0)
        if r != d:
            pairs = zip(
                *(
                    torch.autograd.grad(v.square().sum(), inputs, retain_graph=True)
                    for v in (ours[r, d], expected)
                ),
                strict=True,
            )
            for got, reference in pairs:
                torch.testing.assert_close(got, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.equation("eq-mmvae-own-decodes")
def test_own_decodes_in_value_and_gradient():
    generator = torch.Generator().manual_seed(0)
    log_likelihood, kl = (torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    ratios = torch.rand(2, 2, 3, generator=generator, dtype=torch.float64) + 0.5
    inputs = [x.requires_grad_() for x in (log_likelihood, ratios, kl)]
    log_mixture = torch.log(torch.tensor([[0.5, 1.0, 0.3], [0.5, 1e-300, 0.7]], dtype=torch.float64))
    ours = elbo_own_decodes(*inputs, log_mixture)
    expected = 0
    for r in range(2):
        inner = sum(ratios[r, d] * log_likelihood[d] for d in range(2)) - kl[r]
        expected = expected + log_mixture[r].exp() * inner
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=0)
    for got, reference in zip(
        *(torch.autograd.grad(v.square().sum(), inputs) for v in (ours, expected)), strict=True
    ):
        torch.testing.assert_close(got, reference, rtol=1e-10, atol=1e-12)


def test_own_decodes_average_to_the_mean_of_each_experts_own_elbo_below_the_mixtures():
    lab = lab_of(latent_dim=1)
    batch = rows_of(lab, 3)
    model = build("mmvae", lab, widen=1.4, objective="elbo_own_decodes")
    posterior = model.posterior(batch)
    each = [
        lab.elbo(Diagonal(posterior.components.loc[r], posterior.components.scale[r]), batch)
        for r in range(2)
    ]
    expected = (each[0] + each[1]) / 2
    check_mean(many_losses(model, batch, 40_000), expected.detach(), worst=6.0)  # ratios have heavy tails
    mixture = quadrature.elbo(lambda z: lab.log_joint(z, batch), posterior, quadrature.grid())
    assert (expected < mixture).all()  # KL(mixture) is at most the mean of the KLs


@pytest.mark.parametrize(("estimator", "k"), [("squared", 4), ("normalised", 4)])
@pytest.mark.parametrize("objective", ["iwae", "iwae_looser"])
def test_estimators_change_the_gradient_of_the_experts_and_nothing_else(estimator, k, objective):
    lab = lab_of()
    batch = rows_of(lab)
    results = {}
    for name in ("plain", estimator):
        model = build("mmvae", lab, widen=1.4, objective=objective, estimator=name, k=k)
        loss, _ = model.loss(batch, generator=torch.Generator().manual_seed(0))
        loss.backward()
        results[name] = loss, model
    torch.testing.assert_close(results[estimator][0], results["plain"][0])
    for name in lab.names:
        mine, plain = (results[key][1].modalities[name] for key in (estimator, "plain"))
        torch.testing.assert_close(mine.decoder.weight.grad, plain.decoder.weight.grad)
        assert not torch.allclose(mine.encoder.weight.grad, plain.encoder.weight.grad, rtol=1e-3)


# --- subsets ------------------------------------------------------------------------------------------------------


def test_sampled_subsets_have_uniform_size_then_uniform_members():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.zeros(5)
    for _ in range(3000):
        subset = sample_subsets(4, 1, generator)[0]
        sizes[int(subset.sum())] += 1
    assert sizes[[0, 1, 4]].sum() == 0
    assert (
        abs(sizes[2] / 3000 - 0.5) < 0.05
    )  # sizes 2 and 3 equally often, though 6 subsets have 2 and 4 have 3
    assert len({tuple(s.tolist()) for s in sample_subsets(4, 10, generator)}) == 10
    with pytest.raises(ValueError, match="sampled is 11; 4 modalities have only 10"):
        sample_subsets(4, 11)


def test_rows_count_each_subset_they_observe_once():
    members = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]).bool()
    observed = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 0, 0]]).bool()  # rows: abc, ab, a, b
    expected = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]]).bool()
    assert torch.equal(subset_counts(members, observed), expected)


def test_three_modalities_train_on_the_sampled_subsets_too():
    lab = lab_of(3)
    batch = rows_of(lab)
    generator = torch.Generator().manual_seed(0)
    with_subsets = build("mvae", lab).loss(batch, generator=generator)[0]
    without = build("mvae", lab, sampled=0).loss(batch, generator=torch.Generator().manual_seed(0))[0]
    assert with_subsets - without > 1  # one more negative ELBO of at least two modalities


# --- missing modalities and invariances ---------------------------------------------------------------------------

SETTINGS = [
    ("mvae", {}),
    ("mmvae", {"objective": "elbo", "k": 2}),
    ("mmvae", {"objective": "iwae", "k": 3}),
    ("mmvae", {"objective": "iwae_looser", "estimator": "squared", "k": 3}),
    ("mmvae", {"objective": "elbo_own_decodes"}),
]


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_full_mask_is_no_mask(name, options):
    lab = lab_of()
    batch = rows_of(lab)
    model = build(name, lab, **options)
    everything = {n: torch.ones(ROWS, dtype=torch.bool) for n in batch}
    plain = model.loss(batch, generator=torch.Generator().manual_seed(0))[0]
    assert torch.equal(plain, model.loss(batch, everything, torch.Generator().manual_seed(0))[0])


@pytest.mark.parametrize("name", ["jmvae", "mvae", "mmvae", "mopoe", "mmjsd"])
def test_permuting_rows_permutes_posteriors_and_nothing_more(name):
    lab = lab_of()
    batch, model = rows_of(lab), build(name, lab)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    permuted = model.posterior({n: x[order] for n, x in batch.items()})
    torch.testing.assert_close(permuted.mean, model.posterior(batch).mean[order])


def test_order_of_modalities_does_not_matter():
    lab = lab_of(3)
    batch = rows_of(lab)
    for name in ("mvae", "mmvae"):
        model = build(name, lab)
        reordered = MODELS[name](
            list(model.modalities.values())[::-1], lab.latent_dim, scale="softplus"
        ).double()
        if name == "mmvae":
            reordered.family = "normal"
        torch.testing.assert_close(reordered.posterior(batch).mean, model.posterior(batch).mean)


def test_one_modality_is_the_plain_vae():
    lab = lab_of(1)
    batch = rows_of(lab)
    expected = lab.elbo(lab.diagonal_posterior(batch), batch)
    for name in ("mvae", "mmvae", "jmvae", "mopoe"):
        check_mean(
            many_losses(build(name, lab, **({"alpha": 0.0} if name == "jmvae" else {})), batch, 500),
            expected,
            6,
        )


# --- protocol and errors ------------------------------------------------------------------------------------------


def test_generation_follows_the_exact_conditional_mean():
    lab = lab_of()
    batch = rows_of(lab)
    for name in ("jmvae", "mvae", "mmvae"):
        made = build(name, lab).generate(batch, ["a"], ["b"], mean=True)["b"]
        view = lab.views["b"]
        expected = lab.posterior(batch, ["a"])[0] @ view.weight.T + view.bias
        torch.testing.assert_close(made, expected, rtol=0, atol=1e-8)


def test_training_weights_scale_training_and_never_what_is_reported():
    lab = lab_of()
    batch, model = rows_of(lab), build("mvae", lab)
    before = model.log_weights(batch, 2, generator=torch.Generator().manual_seed(0)).values
    model.modalities["a"].weight = 4.0
    after = model.draw(batch, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(after.log_weights.values, before)
    scaled = model.draw(batch, 2, generator=torch.Generator().manual_seed(0), weighted=True)
    torch.testing.assert_close(scaled.log_weights.values - before, 3 * after.log_likelihood["a"])


@pytest.mark.parametrize("rule", ["softplus", "softmax_budget", "log_variance"])
@pytest.mark.parametrize("learn", [True, False])
def test_the_prior_starts_as_the_standard_one(rule, learn):
    parts = [Modality("a", (3,), nn.Identity(), nn.Identity(), NormalLikelihood())]
    prior = MMVAE(parts, 4, scale=rule, learn_prior=learn).prior
    torch.testing.assert_close(prior.scale, torch.ones(4), rtol=0, atol=2e-6)


def test_what_a_method_cannot_do_it_says():
    lab = lab_of(3)
    batch, model = rows_of(lab), build("jmvae", lab)
    with pytest.raises(ValueError, match="JMVAE has a posterior given all modalities or exactly one"):
        model.posterior(batch, given=["a", "b"])
    with pytest.raises(ValueError, match="JMVAE trains on complete rows"):
        model.loss({"a": batch["a"]})
    with pytest.raises(ValueError, match="JMVAE trains on complete rows"):
        model.loss(batch, {"a": torch.tensor([True] * 5 + [False])})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, b: m.posterior(b, given=["x"]), "given names 'x'; the batch holds a, b"),
        (lambda m, b: m.posterior({"a": b["a"]}, given=["b"]), "given names 'b'; the batch holds a"),
        (lambda m, b: m.posterior(b, given="a"), "given is 'a'; expected a collection of names, for example"),
        (lambda m, b: m.posterior(b, ["a"], {"a": torch.zeros(ROWS).bool()}), "a row observes none of them"),
        (lambda m, b: m.generate(b, ["a"], ["x"]), "to names 'x'; the model's modalities are a, b"),
        (lambda m, b: m.decode(torch.zeros(2, 5)), r"z has shape \(2, 5\); expected \[..., 2\]"),
        (lambda m, b: m.sample(0), "n is 0; expected an integer of at least 1"),
        (lambda m, b: m.draw(b, 0), "k is 0; expected an integer of at least 1"),
    ],
)
def test_bad_calls_are_refused_by_name(call, message):
    lab = lab_of()
    with pytest.raises(ValueError, match=message):
        call(build("mvae", lab), rows_of(lab))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: MMVAE(p, 2, posterior="cauchy"), "posterior is 'cauchy'; expected one of normal, laplace"),
        (lambda p: MMVAE(p, 2, scale="exp"), "scale is 'exp'; expected one of softplus"),
        (lambda p: MMVAE(p, 2, objective="dreg"), "objective is 'dreg'; expected one of elbo, iwae"),
        (lambda p: MMVAE(p, 2, estimator="hook"), "estimator is 'hook'; expected one of plain"),
        (lambda p: MMVAE(p, 2, estimator="squared"), "objective 'elbo' has only 'plain'"),
        (lambda p: MMVAE(p, 2, objective="elbo_own_decodes", k=2), "k is 2; expected 1, since objective"),
        (lambda p: MVAE(p, 2, terms=("all",)), "terms is .* expected some of joint, unimodal, sampled"),
        (lambda p: MVAE(p, 2, beta=-1), "beta is -1"),
        (lambda p: JMVAE(p, 2, nn.Identity(), alpha=-1), "alpha is -1"),
        (lambda p: MVAE(lab_of(), 2), "modalities is of type LinearGaussian; expected modalities, such as"),
        (lambda p: MVAE([], 2), "expected at least one, with different names"),
        (lambda p: MVAE([p[0], p[0]], 2), "expected at least one, with different names"),
        (lambda p: get_model("vae"), f"model is 'vae'; expected one of {len(MODELS)} names"),
    ],
)
def test_bad_settings_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make(modalities(lab_of()))


# --- bounds of several draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["jmvae", "mvae"])
def test_with_many_draws_the_objective_tends_to_exact_likelihoods(name):
    """K draws: log p of everything, and for MVAE of each modality, too; one draw: below it."""
    lab = LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.7, seed=1)
    batch = lab.sample(5, torch.Generator().manual_seed(0))[1]
    joint = (
        {"joint_encoder": joint_encoder(lab, shift=0.1, widen=1.4), "alpha": 0.0} if name == "jmvae" else {}
    )
    exact = lab.log_marginal(batch)
    if name == "mvae":
        exact = exact + sum(lab.log_marginal({n: x}) for n, x in batch.items())
    found = {}
    for k in (1, 3000):
        model = MODELS[name](modalities(lab, shift=0.1, widen=1.4), 2, k=k, **joint).double()
        assert model.loss(batch)[1]["objective"].shape == (5,)
        with torch.no_grad():
            noise = torch.Generator().manual_seed(0)
            losses = [model.loss(batch, generator=noise) for _ in range(4000 // k + 1)]
            draws = torch.stack([parts["objective"] for _, parts in losses])
        found[k] = draws.mean(0)
    torch.testing.assert_close(found[3000], exact, rtol=0, atol=0.1)  # errors of 3,000 draws are below 0.03
    assert (found[1] < exact - 0.1).all()


def test_bounds_of_several_draws_have_no_kl_to_weigh():
    lab = LinearGaussian.make({"a": 3, "b": 4}, 2, style_dim=1)
    with pytest.raises(ValueError, match="k is 2; expected 1 with styles"):
        MVAE(modalities(lab), 2, k=2, style_dim=1)
    lab = LinearGaussian.make({"a": 3, "b": 4}, 2)
    with pytest.raises(ValueError, match="k is 2; expected 1 .* beta is not 1"):
        MVAE(modalities(lab), 2, k=2, beta=0.5)
    with pytest.raises(ValueError, match="beta is 0.5 and k is 2; expected beta = 1"):
        JMVAE(modalities(lab), 2, joint_encoder(lab), beta=0.5, k=2)
