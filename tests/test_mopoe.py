"""MoPoE: special cases, closed forms in the laboratory, what its options mean, and what a step costs."""

import itertools
import math

import pytest
import torch

from mmlib.distributions import Diagonal, Mixture
from mmlib.lab import LinearGaussian, modalities, quadrature
from mmlib.models import MMVAE, MVAE, MoPoE
from mmlib.models.mopoe import membership, mopoe_objective

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64, a handful of operations
NAMES = ("a", "b", "c")
SUBSETS = [s for size in (1, 2, 3) for s in itertools.combinations(NAMES, size)]
ROWS = 5
MASK = {
    "b": torch.tensor([True, True, False, True, False]),
    "c": torch.tensor([True, False, True, True, False]),
}
LAB = LinearGaussian.make({"a": 3, "b": 4, "c": 3}, 2, noise=0.7, seed=1)


def rows(seed=0):
    return LAB.sample(ROWS, torch.Generator().manual_seed(seed))[1]


def build(cls=MoPoE, lab=LAB, **options):
    return cls(modalities(lab, shift=0.1, widen=1.3), lab.latent_dim, **options).double()


def assert_same_mixture(found, expected):
    torch.testing.assert_close(found.log_mixture.exp(), expected.log_mixture.exp(), **EXACT)
    torch.testing.assert_close(found.components.loc, expected.components.loc, **EXACT)
    torch.testing.assert_close(found.components.scale, expected.components.scale, **EXACT)


def mixture(model, batch, mask=None):
    return build_codes(model, batch, mask)[1]


def build_codes(model, batch, mask=None):
    batch, mask, given = model._seen(batch, mask, given=None)
    codes = model.codes(batch, mask, given)
    return codes, model.mixture(codes)


def mean_objective(model, batch, n, mask=None, seed=0):
    """Mean of ``n`` evaluations, all in one batch, and its standard error: [B], [B]."""
    many = {name: x.repeat_interleave(n, 0) for name, x in batch.items()}
    mask = {name: x.repeat_interleave(n) for name, x in (mask or {}).items()}
    with torch.no_grad():
        _, parts = model.loss(many, mask, torch.Generator().manual_seed(seed))
    values = parts["objective"].view(-1, n)
    return values.mean(1), values.std(1) / math.sqrt(n)


# --- posteriors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prior_expert", ["full", "always"])
@pytest.mark.parametrize("inference", ["product", "mixture"])
def test_the_full_set_alone_and_the_prior_are_mvae(prior_expert, inference):
    model = build(subsets=[NAMES], prior_expert=prior_expert, inference=inference)
    assert_same_mixture(model.posterior(rows()), build(MVAE).posterior(rows()))
    assert_same_mixture(mixture(model, rows()), build(MVAE).posterior(rows()))


@pytest.mark.parametrize("mask", [None, MASK])
def test_single_modalities_alone_are_mmvae(mask):
    model = build(subsets=[(name,) for name in NAMES], inference="mixture")
    other = build(MMVAE, posterior="normal", scale="softplus", learn_prior=False)
    assert_same_mixture(model.posterior(rows(), mask=mask), other.posterior(rows(), mask=mask))


@pytest.mark.equation("eq-mopoe-posterior")
@pytest.mark.parametrize("prior_expert", ["never", "full", "always"])
def test_the_mixture_is_equal_over_the_products_of_subsets_that_a_row_observes_wholly(prior_expert):
    codes, q = build_codes(build(prior_expert=prior_expert), rows(), MASK)
    assert q.components.loc.shape == (7, ROWS, 2)
    for (s, subset), b in itertools.product(enumerate(SUBSETS), range(ROWS)):
        seen = [name for name in NAMES if name not in MASK or MASK[name][b]]
        if set(subset) <= set(seen):
            at = [NAMES.index(name) for name in subset]
            precision, loc = codes.experts.scale[at, b] ** -2, codes.experts.loc[at, b]
            prior = prior_expert == "always" or (prior_expert == "full" and len(subset) == 3)
            assert q.log_mixture[s, b].exp() == pytest.approx(1 / (2 ** len(seen) - 1))
            torch.testing.assert_close(q.components.scale[s, b] ** -2, precision.sum(0) + prior, **EXACT)
            mean = (precision * loc).sum(0) * q.components.scale[s, b] ** 2
            torch.testing.assert_close(q.components.loc[s, b], mean, **EXACT)
        else:
            assert q.log_mixture[s, b] == -torch.inf


@pytest.mark.equation("eq-mopoe-posterior")
def test_the_mixture_teaches_every_expert():
    model = build(prior_expert="always", learn_prior=True)
    codes, _ = build_codes(model, rows(), MASK)

    def density(loc, scale):
        return model.mixture(codes._replace(experts=Diagonal(loc, scale))).log_prob(
            torch.ones(ROWS, 2).double()
        )

    assert torch.autograd.gradcheck(
        density, [x.detach().requires_grad_() for x in (codes.experts.loc, codes.experts.scale)]
    )
    value = model.mixture(codes).log_prob(torch.ones(ROWS, 2).double()).sum()
    assert (torch.autograd.grad(value, model.prior_raw)[0] != 0).all()


@pytest.mark.parametrize("prior_expert", ["never", "full", "always"])
def test_what_is_given_is_its_own_product_or_a_mixture_over_its_subsets(prior_expert):
    """mopoe-code-2: the product is the component of the mixture that has everything, and sharper than any other."""
    batch = rows()
    for given in SUBSETS:
        product, mixed = (
            build(inference=inference, prior_expert=prior_expert).posterior(batch, given)
            for inference in ("product", "mixture")
        )
        assert len(mixed.log_mixture) == 2 ** len(given) - 1 and len(product.log_mixture) == 1
        torch.testing.assert_close(product.components.loc[0], mixed.components.loc[-1], **EXACT)
        torch.testing.assert_close(product.components.scale[0], mixed.components.scale[-1], **EXACT)
        assert (product.components.scale[0] <= mixed.components.scale + 1e-12).all()


def test_subsets_are_remembered_in_the_order_of_the_model_and_named_when_wrong():
    model = build(subsets=[("c", "a"), {"b"}])
    assert model.subsets == (("a", "c"), ("b",)) and build().subsets == tuple(SUBSETS)
    assert membership(model.subsets, ("a", "b"), torch.device("cpu")).tolist() == [[False, True]]
    for wrong, message in (
        ([("a", "d")], "subsets names 'd'"),
        ([()], "subsets is empty"),
        ([], "subsets is .*expected at least one"),
        ([("a", "b"), ("b", "a")], "all different"),
    ):
        with pytest.raises(ValueError, match=message):
            build(subsets=wrong)
    only = build(subsets=[("a", "b")])
    for call in (only.loss, lambda batch, mask=None: mixture(only, batch, mask)):
        with pytest.raises(ValueError, match="a row observes none of them wholly"):
            call(rows(), MASK)
    with pytest.raises(ValueError, match="a row observes none of them wholly"):
        only.loss({"c": rows()["c"]})


# --- objectives -----------------------------------------------------------------------------------------------------


def exact_mean_of_elbos(model, batch, mask):
    """The closed form, a row at a time: the mean over subsets of the ELBO of each product."""
    values = []
    for b in range(ROWS):
        row = {n: x[b : b + 1] for n, x in batch.items() if n not in mask or mask[n][b]}
        q = mixture(model, row).components
        elbos = [LAB.elbo(Diagonal(*each), row) for each in zip(q.loc, q.scale, strict=True)]
        values.append(torch.stack(elbos).mean(0))
    return torch.cat(values).detach()


def exact_log_p(batch, mask):
    rows = [{n: x[b : b + 1] for n, x in batch.items() if n not in mask or mask[n][b]} for b in range(ROWS)]
    return torch.cat([LAB.log_marginal(row) for row in rows])


@pytest.mark.equation("eq-mopoe")
@pytest.mark.parametrize("prior_expert", ["never", "full", "always"])
@pytest.mark.parametrize("mask", [{}, MASK], ids=["complete", "masked"])
def test_the_objective_has_its_closed_form_for_a_mean_and_stays_below_log_p(prior_expert, mask):
    model, batch = build(prior_expert=prior_expert), rows()
    exact, log_p = exact_mean_of_elbos(model, batch, mask), exact_log_p(batch, mask)
    mean, error = mean_objective(model, batch, 20_000, mask)
    assert ((mean - exact).abs() < 4.5 * error).all() and (error < 0.1).all()
    assert (exact < log_p).all()


def test_the_elbo_of_the_mixture_lies_between_the_mean_of_elbos_and_log_p():
    """Lemma 1: what the mean of KLs gives away is the divergence of the products, at most log of their number."""
    lab = LinearGaussian.make({"a": 1, "b": 1, "c": 1}, 1, noise=0.5, seed=3)
    batch, on = lab.sample(ROWS, torch.Generator().manual_seed(1))[1], quadrature.grid(-20, 20)
    found = {}
    for objective in ("mean_kl", "elbo"):
        model = build(lab=lab, objective=objective)
        found[objective], error = mean_objective(model, batch, 20_000)
        assert (error < 0.1).all()
        q = mixture(model, batch)
        exact = quadrature.elbo(lambda z: lab.log_joint(z, batch), q, on).detach()
        if objective == "mean_kl":
            elbos = [
                lab.elbo(Diagonal(*each), batch)
                for each in zip(q.components.loc, q.components.scale, strict=True)
            ]
            divergence, exact = (
                exact - torch.stack(elbos).mean(0).detach(),
                torch.stack(elbos).mean(0).detach(),
            )
        assert ((found[objective] - exact).abs() < 4.5 * error).all()
    assert (divergence > 0.01).all() and (divergence < math.log(7)).all()
    assert (exact < lab.log_marginal(batch)).all()


@pytest.mark.equation("eq-mopoe")
def test_the_objective_is_made_of_its_parts():
    likelihoods, kl = [torch.randn(4).double() for _ in range(3)], torch.rand(7, 4).double()
    log_mixture = torch.randn(7, 4).double().log_softmax(0)
    expected = sum(likelihoods) - 2.5 * (log_mixture.exp() * kl).sum(0)
    torch.testing.assert_close(mopoe_objective(likelihoods, kl, log_mixture, 2.5), expected, **EXACT)
    inputs = [x.requires_grad_() for x in (*likelihoods, kl, log_mixture)]
    assert torch.autograd.gradcheck(lambda *x: mopoe_objective([*x[:3]], *x[3:], 2.5), inputs)


# --- what a step costs ----------------------------------------------------------------------------------------------


def test_a_batch_shares_its_rows_out_evenly_among_subsets(monkeypatch):
    seen = []
    choose = Mixture.choose

    def spy(self, generator=None):
        chosen = choose(self, generator)
        seen.append((self.components.loc == chosen.loc).all(-1).sum(1))
        return chosen

    monkeypatch.setattr(Mixture, "choose", spy)
    build().loss(
        LAB.sample(21, torch.Generator().manual_seed(0))[1], generator=torch.Generator().manual_seed(0)
    )
    assert seen[0].tolist() == [3] * 7
