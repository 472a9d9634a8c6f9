"""Styles of variational models, in the laboratory: codes [style, shared code] of which everything is known."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from test_models import check_mean, many_losses, rows_of, subsets

from mmlib import bounds, data, metrics, nets
from mmlib.distributions import Diagonal, kl_divergence, standard
from mmlib.lab import LinearGaussian, modalities, quadrature
from mmlib.metrics.swaps import swap
from mmlib.models import MMVAE, MODELS, MVAE
from mmlib.models.base import factorised_kl
from mmlib.runs.build import build_model
from mmlib.runs.recipe import Recipe

STYLES = {"a": 1, "b": 2, "c": 0}
SIZES = {"a": 4, "b": 5, "c": 3}
EXACT = {"rtol": 0, "atol": 1e-5}  # MINIMUM_SCALE moves the scale by 1e-6
ROWS = 6


def lab_of(m=2, latent_dim=2, orthogonal=True):
    names = list(SIZES)[:m]
    sizes, styles = ({name: of[name] for name in names} for of in (SIZES, STYLES))
    return LinearGaussian.make(sizes, latent_dim, 0.7, orthogonal, seed=m, style_dim=styles)


def build(name, lab, shift=0.0, widen=1.0, **options):
    """A model of the library with the laboratory's styles, exact unless shifted or widened, in float64."""
    parts = modalities(lab, experts="likelihood" if name == "mvae" else "posterior", shift=shift, widen=widen)
    if name == "mmvae":
        options = {"posterior": "normal", "scale": "softplus", "learn_prior": False, **options}
    return MODELS[name](parts, lab.shared_dim, style_dim=lab.style_dims, **options).double()


def whole_code(lab, shared, styles):
    """Posteriors of the shared code [B, D] and of some styles as one of all codes; the others' is their prior."""
    parts = [styles.get(name) for name in lab.style_dims] + [shared]
    rows = shared.loc.shape[0]
    for place, (name, size) in enumerate(lab.style_dims.items()):
        if name not in styles:
            prior = standard(size, shared.loc)
            parts[place] = Diagonal(prior.loc.expand(rows, -1), prior.scale.expand(rows, -1))
    return Diagonal(torch.cat([q.loc for q in parts], -1), torch.cat([q.scale for q in parts], -1))


def posteriors(model, batch, given):
    """Of the shared code, one component [B, D], and of the styles of the modalities given."""
    batch = {name: batch[name] for name in given}
    mask = {name: torch.ones(len(x), dtype=torch.bool) for name, x in batch.items()}
    codes = model.codes(batch, mask, given)
    shared = model.infer(codes, batch, mask).components
    return Diagonal(shared.loc[0], shared.scale[0]), codes.styles


# --- exact at the true posterior ------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3])
def test_exact_encoders_give_the_exact_likelihood_of_every_subset_at_every_draw(m):
    lab = lab_of(m)
    batch, model = rows_of(lab), build("mvae", lab)
    for given in subsets(lab.names):
        weights = model.log_weights(batch, 3, given=given, target=given).values
        torch.testing.assert_close(weights, lab.log_marginal(batch, given).expand_as(weights), **EXACT)


@pytest.mark.parametrize("name", ["mvae", "mmvae"])
@pytest.mark.parametrize("given", [("a",), ("b",), ("a", "b")])
@pytest.mark.parametrize("target", [("a",), ("b",), ("a", "b")])
def test_weights_average_to_the_likelihood_of_any_target_given_any_subset(name, given, target):
    lab = lab_of()
    batch, model = rows_of(lab, 4), build(name, lab, widen=1.2)
    with torch.no_grad():
        draws = model.draw(batch, 60_000, given, target, generator=torch.Generator().manual_seed(0))
    exact = lab.log_marginal(batch, target)
    # the style of what is not given is drawn from its prior, and integrates out: slowly, errors measured below 0.04
    torch.testing.assert_close(bounds.iwae(draws.log_weights), exact, rtol=0, atol=0.15)
    assert (bounds.elbo(draws.log_weights) < exact - 0.01).all()
    assert set(draws.styles) == set(target)


def test_the_conditional_likelihood_is_that_of_the_predictive_density():
    lab = lab_of()
    batch, model = rows_of(lab, 4), build("mvae", lab)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        both = bounds.iwae(model.log_weights(batch, 60_000, given=["a"], generator=generator))
        alone = bounds.iwae(model.log_weights(batch, 1, given=["a"], target=["a"], generator=generator))
    torch.testing.assert_close(both - alone, lab.log_conditional(batch, ["b"], ["a"]), rtol=0, atol=0.2)


# --- factorisation --------------------------------------------------------------------------------------------------


def test_posteriors_factorise_where_the_columns_of_a_modality_are_orthogonal_and_nowhere_else():
    for orthogonal in (True, False):
        lab = lab_of(3, orthogonal=orthogonal)
        _, covariance = lab.posterior(rows_of(lab))
        blocks = torch.cat([torch.tensor([0]), torch.tensor([1, 1]), torch.tensor([2, 2])])  # s_a, s_b, c
        across = covariance[blocks[:, None] != blocks]
        assert bool((across.abs() < 1e-12).all()) == orthogonal


def test_drawn_styles_and_shared_codes_are_independent_given_the_items():
    lab = lab_of()
    batch, model = rows_of(lab, 1), build("mvae", lab)
    draws = model.draw(batch, 40_000, generator=torch.Generator().manual_seed(0))
    z = torch.cat([*draws.styles.values(), draws.z], -1)[0, :, 0]
    exact = lab.posterior(batch)
    torch.testing.assert_close(z.mean(0), exact[0][0], rtol=0, atol=0.02)  # at least 4 standard errors
    torch.testing.assert_close(z.T.cov(), exact[1], rtol=0, atol=0.02)  # exact[1] is diagonal


@pytest.mark.equation("eq-factorised-kl")
def test_kls_of_shared_code_and_styles_add_up_to_that_of_all_codes():
    lab = lab_of(3)
    batch, model = rows_of(lab), build("mvae", lab, shift=0.3, widen=1.3)
    shared, styles = posteriors(model, batch, lab.names)
    kl, style_kls = kl_divergence(shared, model.prior), model.style_kls(styles)
    q = whole_code(lab, shared, styles)
    expected = kl_divergence(q, standard(lab.latent_dim, q.loc))
    torch.testing.assert_close(factorised_kl(kl, style_kls, dict.fromkeys(styles, 1.0)), expected)
    inputs = [x.detach().clone().requires_grad_() for x in (kl, *style_kls.values())]
    weighted = factorised_kl(inputs[0], dict(zip(style_kls, inputs[1:], strict=True)), {"a": 0.5, "b": 3.0})
    torch.testing.assert_close(weighted, inputs[0] + 0.5 * inputs[1] + 3 * inputs[2])
    gradients = torch.autograd.grad(weighted.sum(), inputs)
    assert [gradient.unique().tolist() for gradient in gradients] == [[1.0], [0.5], [3.0]]
    assert torch.equal(factorised_kl(kl, {}, {}), kl)


# --- objectives -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-factorised-kl")
@pytest.mark.equation("eq-subset-elbo")
@pytest.mark.parametrize(("beta", "style_beta"), [(1.0, {"a": 1.0, "b": 1.0}), (0.5, {"a": 3.0, "b": 0.2})])
def test_mvae_objective_averages_to_the_sum_of_exact_subset_bounds_with_styles(beta, style_beta):
    lab = lab_of()
    batch = rows_of(lab)
    model = build("mvae", lab, shift=0.3, widen=1.3, beta=beta, style_beta=style_beta)
    expected = 0
    for given in (("a", "b"), ("a",), ("b",)):
        shared, styles = posteriors(model, batch, given)
        plain = lab.elbo(whole_code(lab, shared, styles), batch, given)  # has all KLs once
        more = (1 - beta) * kl_divergence(shared, model.prior)
        for name, kl in model.style_kls(styles).items():
            more = more + (1 - beta * style_beta[name]) * kl
        expected = expected + plain + more
    check_mean(many_losses(model, batch, 4000), expected)


@pytest.mark.parametrize("given", [("a",), ("b",), ("a", "b")])
def test_the_mean_log_weight_is_the_exact_bound_given_any_subset(given):
    lab = lab_of()
    batch = rows_of(lab)
    model = build("mvae", lab, shift=0.2, widen=1.2)
    with torch.no_grad():
        weights = model.log_weights(batch, 4000, given=given, generator=torch.Generator().manual_seed(0))
    q = whole_code(lab, *posteriors(model, batch, given))  # styles that are not given: their prior
    check_mean(weights.values[0], lab.elbo(q, batch).detach())


def test_mvae_with_sampled_subsets_counts_the_styles_of_their_members_only():
    lab = lab_of(3)
    batch = rows_of(lab)
    model = build("mvae", lab, shift=0.3, widen=1.3, sampled=3)  # then nothing is left to chance
    expected = 0
    for given in subsets(lab.names):
        expected = expected + lab.elbo(whole_code(lab, *posteriors(model, batch, given)), batch, given)
    check_mean(many_losses(model, batch, 4000), expected)


def test_mmvae_elbo_averages_to_reconstructions_less_the_mixtures_kl_and_those_of_the_styles():
    lab = lab_of(latent_dim=1)
    batch = rows_of(lab, 3)
    model = build("mmvae", lab, shift=0.2, widen=1.4)
    mixture, styles = model.posterior(batch), posteriors(model, batch, lab.names)[1]
    reconstructions = []
    for loc, scale in zip(mixture.components.loc, mixture.components.scale, strict=True):
        q = whole_code(lab, Diagonal(loc, scale), styles)
        reconstructions.append(lab.elbo(q, batch) + kl_divergence(q, standard(lab.latent_dim, q.loc)))
    less = quadrature.elbo(model.prior.log_prob, mixture, quadrature.grid())  # -KL(mixture || prior)
    expected = sum(reconstructions) / 2 + less - sum(model.style_kls(styles).values())
    check_mean(many_losses(model, batch, 4000), expected.detach())


def test_own_decodes_average_to_the_mean_of_each_experts_own_bound_with_styles():
    lab = lab_of(latent_dim=1)
    batch = rows_of(lab, 3)
    model = build("mmvae", lab, widen=1.4, objective="elbo_own_decodes")
    experts, styles = model.posterior(batch).components, posteriors(model, batch, lab.names)[1]
    each = [
        lab.elbo(whole_code(lab, Diagonal(experts.loc[r], experts.scale[r]), styles), batch) for r in range(2)
    ]
    check_mean(
        many_losses(model, batch, 40_000), (sum(each) / 2).detach(), worst=6.0
    )  # ratios have heavy tails


@pytest.mark.parametrize("objective", ["iwae", "iwae_looser"])
@pytest.mark.parametrize("k", [1, 4])
def test_importance_bounds_are_those_of_the_same_draws_weights(objective, k):
    lab = lab_of()
    batch = rows_of(lab)
    model = build("mmvae", lab, widen=1.3, objective=objective, k=k)
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    objectives = model.loss(batch, generator=generators[0])[1]["objective"]
    weights = model.log_weights(batch, k, generator=generators[1])
    torch.testing.assert_close(objectives, getattr(bounds, objective)(weights))


@pytest.mark.equation("eq-dreg")
@pytest.mark.parametrize("objective", ["iwae", "iwae_looser"])
def test_squared_weights_leave_the_gradient_of_the_styles_unbiased(objective):
    lab = lab_of(latent_dim=1)
    item = rows_of(lab, 1)
    found = {}
    for estimator in ("plain", "squared", "normalised"):
        model = build("mmvae", lab, shift=0.4, widen=1.5, objective=objective, estimator=estimator, k=4)
        repeated, draws = {name: x.repeat(200, 1) for name, x in item.items()}, []
        raw = [model.modalities[name].encoder.raw_scale for name in lab.names]
        for seed in range(100):
            model.zero_grad()
            model.loss(repeated, generator=torch.Generator().manual_seed(seed))[0].backward()
            draws.append(
                torch.cat([x.grad[: lab.style_dims[n]] for x, n in zip(raw, lab.names, strict=True)])
            )
        draws = torch.stack(draws)  # [seeds, styles]
        found[estimator] = draws.mean(0), draws.std(0) / math.sqrt(len(draws))
    (plain, error), (squared, other), (normalised, third) = found.values()
    assert ((plain - squared).abs() < 4 * (error**2 + other**2).sqrt()).all()
    assert ((plain - normalised).abs() > 6 * (error**2 + third**2).sqrt()).any()
    assert (other < error).all()  # what the squares are for


# --- encoding, generation ---------------------------------------------------------------------------------------------


def test_a_scale_rule_that_relates_coordinates_relates_those_of_style_and_shared_code_apart():
    lab = lab_of()
    model = build("mmvae", lab, scale="softmax_budget")
    scale = model.encode("b", rows_of(lab)["b"]).scale
    torch.testing.assert_close(scale[:, :2].sum(-1), torch.full((ROWS,), 2.0).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(scale[:, 2:].sum(-1), torch.full((ROWS,), 2.0).double(), rtol=0, atol=1e-5)


def test_a_hidden_rows_style_is_its_prior():
    lab = lab_of()
    batch, model = rows_of(lab), build("mvae", lab)
    mask = {"a": torch.tensor([True, False] * 3), "b": torch.ones(ROWS, dtype=torch.bool)}
    codes = model.codes(batch, mask, ("a", "b"))
    hidden = codes.styles["a"].where(~mask["a"])
    assert torch.equal(hidden.loc, torch.zeros(ROWS, 1).double()) and bool((hidden.scale == 1).all())
    assert torch.equal(model.style_kls(codes.styles)["a"] == 0, ~mask["a"])


@pytest.mark.parametrize("name", ["mvae", "mmvae"])
def test_samples_have_the_covariance_of_the_models_noiseless_items(name):
    lab = lab_of()
    made = build(name, lab).sample(100_000, torch.Generator().manual_seed(0))
    weight = torch.cat([view.weight for view in lab.views.values()])
    x = torch.cat([made[name] for name in lab.names], -1)
    torch.testing.assert_close(x.T.cov(), weight @ weight.T, rtol=0, atol=0.05)  # at least 4 standard errors


@pytest.mark.parametrize("mean", [False, True])
def test_generation_has_the_style_of_what_is_given_and_a_random_one_of_what_is_not(mean):
    lab = lab_of()
    item = rows_of(lab, 1)
    n = 40_000
    batch, model = {name: x.repeat(n, 1) for name, x in item.items()}, build("mvae", lab)
    made = model.generate(batch, ["a"], ["a", "b"], torch.Generator().manual_seed(0), mean=mean)
    location, covariance = lab.posterior(item, ["a"])  # the style of b is as its prior
    style = lab.style_dims["a"]
    if mean:  # what is known of has its mean
        covariance = covariance.clone()
        known = [*range(style), *range(lab.latent_dim - lab.shared_dim, lab.latent_dim)]
        covariance[known] = covariance[:, known] = 0
    for name, x in made.items():
        view = lab.views[name]
        expected = (location @ view.weight.T + view.bias)[0]
        torch.testing.assert_close(x.mean(0), expected, rtol=0, atol=0.05)  # at least 4 standard errors
        torch.testing.assert_close(x.T.cov(), view.weight @ covariance @ view.weight.T, rtol=0, atol=0.1)


def test_decoding_without_a_style_takes_the_mean_of_its_prior():
    lab = lab_of()
    model = build("mvae", lab)
    z, style = torch.randn(3, 5, 2).double(), torch.randn(3, 5, 1).double()
    plain, styled = model.decode(z), model.decode(z, ["a"], {"a": style})
    assert set(styled) == {"a"} and set(plain) == {"a", "b"}
    view = lab.views["a"]
    weight = view.weight[:, lab.columns("a")]
    torch.testing.assert_close(plain["a"], z @ weight[:, 1:].T + view.bias)
    torch.testing.assert_close(styled["a"] - plain["a"], style @ weight[:, :1].T)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [MVAE, MMVAE])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style_dim": -1}, "style_dim is -1; expected an integer of at least 0"),
        ({"style_dim": {"a": 1}}, r"style_dim names \['a'\]; expected exactly \['a', 'b'\]"),
        ({"style_dim": {"a": 1, "b": 1.5}}, "style_dim is 1.5"),
    ],
)
def test_bad_sizes_are_refused_by_name(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(modalities(lab_of()), 2, **options)


def test_networks_of_another_size_are_refused():
    lab = lab_of()
    model = MVAE(modalities(lab), 2, style_dim=1)
    with pytest.raises(
        ValueError, match=r"encoder of modality 'b' gives .*; expected loc and raw scale, \(6, 3\)"
    ):
        model.loss(rows_of(lab))
    with pytest.raises(ValueError, match="style_beta is -1"):
        MVAE(modalities(lab), 2, style_dim=1, style_beta=-1)


def test_the_laboratory_says_where_codes_stand():
    lab = lab_of(3)
    assert [lab.columns(name) for name in lab.names] == [[0, 3, 4], [1, 2, 3, 4], [3, 4]]
    assert (lab.latent_dim, lab.shared_dim) == (5, 2)
    for name, other in itertools.permutations(lab.names, 2):
        elsewhere = [column for column in lab.columns(other) if column not in lab.columns(name)]
        assert not lab.views[name].weight[:, elsewhere].any()
    with pytest.raises(ValueError, match=r"sizes\['a'\] is 3; orthogonal columns need at least 4"):
        LinearGaussian.make({"a": 3}, 2, style_dim=2)


def test_metrics_take_styles_of_different_sizes():
    loaded = data.load("hand-street", dm=1)
    styles = {"hand": 2, "street": 0}
    torch.manual_seed(0)
    model = MVAE(nets.modalities(loaded, {"hand": 6, "street": 4}, 0.05), 4, style_dim=styles)
    draw = torch.Generator().manual_seed(0)
    few = {"max_rows": 40, "probe_rows": 100}
    table = metrics.style_content_accuracy(model, loaded.validation, loaded.train, draw, **few)
    assert {name: set(views) for name, views in table.items()} == {
        "hand": {"content", "style", "both"},
        "street": {"content"},
    }
    widths = metrics.posterior_scales(model, loaded.validation, max_rows=40)
    scale = model.encode("hand", loaded.validation.batch(torch.arange(40))["hand"]).scale.detach()
    assert widths["hand"]["style"]["value"] == pytest.approx(float(scale[:, :2].mean()))
    assert widths["hand"]["content"]["value"] == pytest.approx(float(scale[:, 2:].mean()))
    assert set(widths["street"]) == {"content"}
    judges = metrics.train_classifiers(loaded, steps=5, cache=False)
    report = metrics.evaluate(model, loaded.validation, judges, draw, loaded.train, samples=50, **few)
    assert (
        0 <= report.value("joint_coherence") <= 1 and 0 <= report.value("latent_accuracy", "all", "mean") <= 1
    )
    batch = loaded.validation.batch(torch.arange(5))
    with torch.no_grad():
        made = swap(model, batch["street"], batch["hand"], "street", "hand")
        codes = {name: model.encode(name, x).loc for name, x in batch.items()}
        expected = model.decode(codes["street"][[3]], ["hand"], {"hand": codes["hand"][[1], :2]})["hand"][0]
    torch.testing.assert_close(made[3, 1], expected)


def test_a_recipes_latent_dim_is_that_of_the_largest_style_and_the_shared_code():
    shapes = {"a": (1, 8, 8), "b": (3, 16, 16)}
    recipe = Recipe("x", "mvae", "hand-street", "", 8, latent_dim=6, width=0.1)
    for style, expected in ((2, (4, 6, 6)), ({"a": 1, "b": 4}, (2, 3, 6)), (0, (6, 6, 6))):
        model = build_model(replace(recipe, model_options={"style_dim": style}), shapes, seed=0)
        assert (
            model.latent_dim,
            *(part.encoder.latent_dim for part in model.modalities.values()),
        ) == expected
        batch = {name: torch.rand(2, *shape) for name, shape in shapes.items()}
        assert bool(torch.isfinite(model.loss(batch)[0]))
    with pytest.raises(ValueError, match="style_dim is 'many'"):
        build_model(replace(recipe, model_options={"style_dim": "many"}), shapes, seed=0)
    with pytest.raises(ValueError, match="latent_dim is 0"):
        build_model(replace(recipe, model_options={"style_dim": 6}), shapes, seed=0)
