"""mmJSD: closed forms in the laboratory, the point where it exceeds log p, and what its options mean."""

import itertools
import math

import pytest
import torch
from test_mopoe import EXACT, LAB, MASK, NAMES, ROWS, mean_objective

from mmlib.distributions import Diagonal, kl_divergence, product_of_experts, single, standard
from mmlib.divergences import geometric_jensen_shannon, jensen_shannon_upper, mixture_with_prior
from mmlib.lab import LinearGaussian, View, modalities, quadrature
from mmlib.models import MMJSD, MoPoE
from mmlib.models.mmjsd import mmjsd_objective

PI = {"a": 0.2, "b": 0.1, "c": 0.3}  # the prior has 0.4


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def rows(lab=LAB, seed=0):
    return lab.sample(ROWS, torch.Generator().manual_seed(seed))[1]


def build(lab=LAB, shift=0.1, widen=1.3, **options):
    return MMJSD(modalities(lab, shift=shift, widen=widen), lab.latent_dim, **options).double()


def closed_form(lab, experts, names, pi, row, divergence):
    """One row: experts [K, 1, D] of the modalities ``names``, pi [K + 1] with the prior's last."""
    prior = standard(lab.latent_dim, experts.loc)
    each = [Diagonal(*q) for q in zip(experts.loc, experts.scale, strict=True)]
    likelihoods = torch.stack(
        [lab.elbo(q, row) + kl_divergence(q, prior) for q in each]
    )  # E_q_m log p(X | z)
    share = pi[:-1] / pi[:-1].sum()
    everything = mixture_with_prior(experts, torch.ones(len(names), 1, dtype=torch.bool), prior, pi)
    return (share[:, None] * likelihoods).sum(0) - divergence(everything)


# --- the objective --------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-mmjsd")
@pytest.mark.parametrize("weights", [None, PI], ids=["equal", "pi"])
@pytest.mark.parametrize("mask", [{}, MASK], ids=["complete", "masked"])
def test_the_objective_has_its_closed_form_for_a_mean(weights, mask):
    model, batch = build(weights=weights), rows()
    mean, error = mean_objective(model, batch, 20_000, mask)
    pi = weights or dict.fromkeys(NAMES, 0.25)
    for b in range(ROWS):
        names = [name for name in NAMES if name not in mask or mask[name][b]]
        row = {name: batch[name][b : b + 1] for name in names}
        experts = model.codes(*model._seen(row, None, given=None)).experts
        shares = tensor(*(pi[name] for name in names), 1 - sum(pi.values()))
        exact = closed_form(LAB, experts, names, shares, row, geometric_jensen_shannon)
        assert abs(mean[b] - exact) < 4.5 * error[b] and error[b] < 0.1


def point():
    """Two modalities x_m = z + e_m of one number and unit noise, at x = (2, 2)."""
    view = View(tensor(1.0)[:, None], tensor(0.0), 1.0)
    lab = LinearGaussian({"a": view, "b": view})
    return lab, {name: tensor(2.0)[:, None] for name in lab.names}


@pytest.mark.parametrize(("form", "expected"), [("product", -3.569), ("mixture", -3.489)])
def test_the_objective_may_exceed_the_exact_log_likelihood(form, expected):
    """mmjsd-10: exact unimodal posteriors, lambda = beta = 1, pi = 1/3 each; the mixture's ELBO does not."""
    lab, batch = point()
    model = build(lab, shift=0.0, widen=1.0, dynamic_prior=form)
    experts = model.codes(*model._seen(batch, None, given=None)).experts
    on = quadrature.grid(-30, 30)

    def divergence(q):
        return geometric_jensen_shannon(q) if form == "product" else by_quadrature(q, on)

    objective = closed_form(lab, experts, lab.names, tensor(1, 1, 1), batch, divergence)
    mean, error = mean_objective(model, batch, 20_000)
    assert abs(mean - objective) < 4.5 * error
    assert objective.item() == pytest.approx(expected, abs=5e-4)
    assert lab.log_marginal(batch).item() == pytest.approx(-3.7205, abs=5e-4)
    posterior = lab.diagonal_posterior(batch, ["a"])  # both are the same here, and so is their mixture
    assert lab.elbo(posterior, batch).item() == pytest.approx(-3.9345, abs=5e-4)


def by_quadrature(q, on):
    z = on.z(q.log_mixture.shape[1])
    own = q.components.log_prob(z.unsqueeze(1))
    kl = ((own + on.log_weights[:, None, None]).exp() * (own - q.log_prob(z).unsqueeze(1))).sum(0)
    return (q.log_mixture.exp() * kl).sum(0)


def test_sharp_experts_make_the_divergence_larger_than_the_kl_and_wide_ones_smaller():
    """Two equal posteriors whose codes have the prior's variance over the data: the two cross at a scale of 0.3945."""
    for scale, smaller in ((0.9, True), (0.5, True), (0.395, True), (0.394, False), (0.1, False)):
        q = Diagonal(*(torch.full((2, 1, 1), x).double() for x in (math.sqrt(1 - scale**2), scale)))
        everything = mixture_with_prior(q, torch.ones(2, 1, dtype=torch.bool), standard(1, q.loc))
        kl = kl_divergence(q, standard(1, q.loc))[0]
        assert (geometric_jensen_shannon(everything) < kl) == smaller
        assert jensen_shannon_upper(everything) < min(float(kl), math.log(3)) + 0.2


def test_with_the_mixture_as_prior_information_costs_no_more_than_log_of_the_number_of_distributions():
    lab = LinearGaussian.make({"a": 30, "b": 30, "c": 30}, 20, noise=0.02, seed=1)  # very sharp posteriors
    batch = rows(lab)
    _, parts = build(lab, dynamic_prior="mixture").loss(batch, generator=torch.Generator().manual_seed(0))
    _, sharp = build(lab).loss(batch, generator=torch.Generator().manual_seed(0))
    assert (parts["js_divergence"] < math.log(4) + 1e-9).all() and (sharp["js_divergence"] > 1000).all()
    assert (kl_divergence(lab.diagonal_posterior(batch, ["a"]), standard(20, batch["a"])) > 30).all()


@pytest.mark.equation("eq-mmjsd")
def test_the_objective_is_made_of_its_parts():
    *likelihoods, divergence = torch.randn(4, 5).double()
    expected = sum(likelihoods) - 2.5 * divergence
    torch.testing.assert_close(mmjsd_objective(likelihoods, divergence, 2.5), expected, **EXACT)
    inputs = [x.requires_grad_() for x in (*likelihoods, divergence)]
    assert torch.autograd.gradcheck(lambda *x: mmjsd_objective([*x[:3]], x[3], 2.5), inputs)


@pytest.mark.parametrize("style_beta", [3.0, {"a": 0.0, "b": 1.0, "c": 5.0}])
@pytest.mark.parametrize(
    ("cls", "options", "kl"),
    [
        (MoPoE, {"objective": "mean_kl"}, "kl"),
        (MoPoE, {"objective": "elbo"}, "kl"),
        (MMJSD, {"dynamic_prior": "product"}, "js_divergence"),
        (MMJSD, {"dynamic_prior": "mixture"}, "js_divergence"),
    ],
)
def test_likelihoods_and_styles_have_their_weights(cls, options, kl, style_beta):
    lab = LinearGaussian.make({"a": 4, "b": 4, "c": 4}, 3, seed=2)  # a style of 1 and a shared code of 2
    model = cls(modalities(lab), 2, style_dim=1, beta=2.5, style_beta=style_beta, **options).double()
    model.modalities["b"].weight = 3.0
    batch = rows(lab)
    _, parts = model.loss(batch, MASK, torch.Generator().manual_seed(0))
    weights = style_beta if isinstance(style_beta, dict) else dict.fromkeys(NAMES, style_beta)
    codes = model.codes(*model._seen(batch, MASK, given=None))
    kls = {n: kl_divergence(q, model.style_prior(n)) for n, q in codes.styles.items()}
    assert (kls["c"][~MASK["c"]] == 0).all() and kls["a"].min() > 0
    likelihood = sum({"b": 3.0}.get(n, 1.0) * parts[f"log_likelihood.{n}"] for n in NAMES)
    expected = likelihood - 2.5 * (parts[kl] + sum(weights[n] * kls[n] for n in NAMES))
    torch.testing.assert_close(parts["objective"], expected, **EXACT)
    torch.testing.assert_close(parts["style_kl"], sum(kls.values()), **EXACT)


def test_the_divergence_teaches_experts_and_a_learned_prior():
    """The gradient flows through the dynamic prior: of two experts the other's alone moves it."""
    for form in ("product", "mixture"):
        model = build(dynamic_prior=form, learn_prior=True)
        _, parts = model.loss(rows(), generator=torch.Generator().manual_seed(0))
        wanted = [model.prior_raw, *(model.modalities[n].encoder.raw_scale for n in NAMES)]
        assert all(g.abs().min() > 0 for g in torch.autograd.grad(parts["js_divergence"].sum(), wanted))


# --- what is drawn and what is inferred -----------------------------------------------------------------------------


def test_codes_are_drawn_from_unimodal_posteriors_by_their_weights_never_from_the_prior():
    batch = {name: x[:1].expand(1000, -1) for name, x in rows().items()}
    model, drawn = build(weights=PI, inference="mixture", widen=1e-3), []
    model.modalities["a"].decoder.register_forward_pre_hook(lambda _, args: drawn.append(args[0]))
    model.loss(batch, generator=torch.Generator().manual_seed(0))
    q = model.posterior(batch)
    torch.testing.assert_close(q.log_mixture.exp()[:, 0], tensor(2 / 6, 1 / 6, 3 / 6), **EXACT)
    near = ((drawn[0].view(-1, 2) - q.components.loc).abs() < 8 * q.components.scale).all(-1)  # [M, B]
    assert (near.sum(0) == 1).all()
    assert near.sum(1).sub(1000 * q.log_mixture.exp()[:, 0]).abs().max() <= 1  # shared out evenly


def test_what_is_given_is_its_plain_product_or_the_mixture():
    batch = rows()
    for given in (s for size in (1, 2, 3) for s in itertools.combinations(NAMES, size)):
        model = build(weights=PI)
        codes = model.codes(
            {n: batch[n] for n in given}, dict.fromkeys(given, torch.ones(ROWS).bool()), given
        )
        expected = single(product_of_experts(codes.experts, codes.observed))
        found = model.posterior(batch, given)
        torch.testing.assert_close(found.components.loc, expected.components.loc, **EXACT)
        torch.testing.assert_close(found.components.scale, expected.components.scale, **EXACT)
        mixture = build(weights=PI, inference="mixture").posterior(batch, given)
        torch.testing.assert_close(mixture.components.loc, codes.experts.loc, **EXACT)
        total = sum(PI[name] for name in given)
        torch.testing.assert_close(
            mixture.log_mixture.exp()[:, 0], tensor(*(PI[name] / total for name in given)), **EXACT
        )


def test_weights_that_leave_nothing_for_the_prior_are_refused():
    for wrong, message in (
        (0.5, r"weights add up to 1.5; expected less than 1"),
        ({"a": 0.3, "b": 0.7, "c": 1e-9}, "expected less than 1"),
        ({"a": 0.0, "b": 0.2, "c": 0.2}, "weights is 0.0; expected a positive number"),
        ({"a": 0.2}, "weights names"),
    ):
        with pytest.raises(ValueError, match=message):
            build(weights=wrong)
    assert build(weights=0.3).prior_weight == pytest.approx(0.1)
