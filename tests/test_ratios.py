"""Density ratios and the game, against exact densities, enumeration and independent formulas."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from mmlib import ratios
from mmlib.distributions import Diagonal, geometric_mean, product_of_experts
from mmlib.lab import quadrature
from mmlib.lab.game import Game, decoder_joint, encoder_joints

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64, a handful of operations


def numbers(*shape, seed=0, grad=False):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x.requires_grad_(grad)


def tables(n, points=5, seed=0, grad=False):
    """Log-probabilities [n, points] of n distributions over a few points that stand for unequal volumes."""
    log_measure = 0.5 * numbers(points, seed=seed + 1)
    log_density = (numbers(n, points, seed=seed) + log_measure).log_softmax(1) - log_measure
    return log_density.detach().requires_grad_(grad), log_measure.requires_grad_(grad)


def enumerated(log_density, log_measure, log_d):
    """Exact E_{P_k}[-log D_i] for every k and i, [n, n]."""
    return -(log_density + log_measure).exp() @ log_d.T


def kl(p, q, volume):
    return (p * (p / q).log() * volume).sum()


# --- the laboratory's game -------------------------------------------------------------------------------------------

GAMES = [(m, style) for m in (1, 2, 3, 4) for style in (0, 2)]
games = pytest.mark.parametrize(("modalities", "style"), GAMES, ids=lambda value: str(value))


def points_of(game, rows=20):
    return game.sample(rows, torch.Generator().manual_seed(1)).flatten(0, 1)


@games
def test_defining_products_are_the_densities_of_the_whole_normal_distributions(modalities, style):
    game = Game.make(modalities, style_dim=style, seed=modalities)
    points = points_of(game)
    whole = torch.stack([p.log_prob(points) for p in game.distributions()])
    torch.testing.assert_close(game.log_density(points), whole, **EXACT)


def test_game_samples_have_the_moments_of_their_distributions():
    game = Game.make(2, style_dim=1, seed=0)
    rows = 40_000
    for p, points in zip(
        game.distributions(), game.sample(rows, torch.Generator().manual_seed(0)), strict=True
    ):
        covariance = p.root @ p.root.T
        error = (covariance.diagonal() / rows).sqrt()
        assert ((points.mean(0) - p.mean).abs() < 4.5 * error).all()
        scale = covariance.diagonal().sqrt()
        assert ((points.T.cov() - covariance).abs() < 6 * scale[:, None] * scale / math.sqrt(rows)).all()


@pytest.mark.equation("eq-encoder-joints")
def test_encoder_joints_are_the_product_of_their_factors():
    data, content, style = numbers(4, grad=True), numbers(3, 4, seed=1), numbers(3, 4, seed=2)
    expected = (data.exp() * content.exp() * style.exp().prod(0)).log()
    torch.testing.assert_close(encoder_joints(data, content, style), expected, **EXACT)
    assert gradcheck(encoder_joints, (data, content.requires_grad_(), style.requires_grad_()))


@pytest.mark.equation("eq-decoder-joint")
def test_decoder_joint_is_the_product_of_its_factors():
    content, style, likelihood = numbers(4, grad=True), numbers(3, 4, seed=1), numbers(3, 4, seed=2)
    expected = (content.exp() * style.exp().prod(0) * likelihood.exp().prod(0)).log()
    torch.testing.assert_close(decoder_joint(content, style, likelihood), expected, **EXACT)
    assert gradcheck(decoder_joint, (content, style.requires_grad_(), likelihood.requires_grad_()))


def test_columns_name_what_they_do_not_know():
    with pytest.raises(ValueError, match="kind is 'image'"):
        Game.make(2).columns("image")


# --- factorisation ---------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-factorised-ratio")
@games
def test_exact_factors_assemble_to_the_joint_log_ratios(modalities, style):
    game = Game.make(modalities, data_dim=3, style_dim=style, content_dim=2, seed=modalities + 10)
    points = points_of(game)
    log_density = game.log_density(points)
    logits = ratios.assemble_logits(*game.factors(points))
    torch.testing.assert_close(ratios.log_ratios(logits), log_density[:-1] - log_density[-1], **EXACT)
    best = ratios.optimal_discriminator(log_density)
    torch.testing.assert_close(logits.softmax(0), best.exp(), atol=1e-12, rtol=1e-10)


@pytest.mark.equation("eq-factorised-ratio")
def test_assembled_logits_are_the_product_of_the_factors():
    t, d1, d0 = numbers(4, grad=True), numbers(3, 4, seed=1), numbers(3, 4, seed=2)
    logits = ratios.assemble_logits(t, d1, d0)
    ratio = t.exp() * d1.exp() * (d0.exp() / d1.exp()).prod(0)
    torch.testing.assert_close(logits[:3], d1, **EXACT)
    torch.testing.assert_close((logits[:3] - logits[3]).exp(), ratio, **EXACT)
    assert gradcheck(ratios.assemble_logits, (t, d1.requires_grad_(), d0.requires_grad_()))


def test_the_factor_of_the_own_index_cancels():
    t, d1, d0 = numbers(4), numbers(3, 4, seed=1), numbers(3, 4, seed=2)
    log_ratio = ratios.log_ratios(ratios.assemble_logits(t, d1, d0))
    for i in range(3):
        others = [j for j in range(3) if j != i]
        torch.testing.assert_close(log_ratio[i], t + d0[i] + (d0 - d1)[others].sum(0), **EXACT)


def test_one_modality_is_plain_ali():
    d1, d0, zero = numbers(1, 4, seed=1), numbers(1, 4, seed=2), torch.zeros(4).double()
    logits = ratios.assemble_logits(zero, d1, d0)
    torch.testing.assert_close(logits.softmax(0)[0], d0[0].sigmoid(), **EXACT)
    blocks = torch.stack(
        [torch.stack([d, -d]) / 2 for d in numbers(2, 5, seed=3)]
    )  # the class logits of a logit d
    positive, negative = blocks[0, 0] - blocks[0, 1], blocks[1, 0] - blocks[1, 1]
    value = ratios.two_way_value(positive, negative)
    torch.testing.assert_close(ratios.minimax_value(blocks), value, **EXACT)
    torch.testing.assert_close(ratios.logistic_loss(positive, negative), -value, **EXACT)
    two_sided = torch.nn.functional.softplus(positive).mean() + torch.nn.functional.softplus(-negative).mean()
    torch.testing.assert_close(ratios.non_saturating_loss(blocks), two_sided, **EXACT)


def test_any_batch_shape_will_do():
    t, d1, d0 = numbers(3, 4), numbers(2, 3, 4, seed=1), numbers(2, 3, 4, seed=2)
    flat = ratios.assemble_logits(t.flatten(), d1.flatten(1), d0.flatten(1))
    torch.testing.assert_close(ratios.assemble_logits(t, d1, d0).flatten(1), flat, **EXACT)


def test_factors_of_unlike_shapes_are_refused():
    with pytest.raises(ValueError, match="expected \\[B\\], \\[M, B\\] and \\[M, B\\]"):
        ratios.assemble_logits(numbers(4), numbers(2, 4), numbers(3, 4))


# --- the best discriminator ------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-optimal-discriminator")
def test_optimal_discriminator_is_each_density_over_the_sum():
    log_density = numbers(3, 5, grad=True)
    density = log_density.exp()
    expected = (density / density.sum(0)).log()
    torch.testing.assert_close(ratios.optimal_discriminator(log_density), expected, **EXACT)
    assert gradcheck(ratios.optimal_discriminator, log_density)


@pytest.mark.equation("eq-discriminator-ratios")
def test_optimal_discriminator_from_ratios():
    log_density = numbers(4, 5)
    log_ratio = (log_density[:-1] - log_density[-1]).requires_grad_()
    r = log_ratio.exp()
    expected = (torch.cat([r, torch.ones(1, 5).double()]) / (1 + r.sum(0))).log()
    found = ratios.discriminator_from_log_ratios(log_ratio)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(found, ratios.optimal_discriminator(log_density), **EXACT)
    torch.testing.assert_close(ratios.log_ratios(found), log_ratio, **EXACT)
    assert gradcheck(ratios.discriminator_from_log_ratios, log_ratio)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_no_other_discriminator_does_better(n):
    log_density, log_measure = tables(n)
    best = ratios.optimal_discriminator(log_density)
    value = -enumerated(log_density, log_measure, best).diagonal().sum()
    for seed in range(20):
        for size in (0.01, 0.1, 1.0):
            other = (best + size * numbers(n, 5, seed=100 + seed)).log_softmax(0)
            assert -enumerated(log_density, log_measure, other).diagonal().sum() < value


# --- values and losses -----------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-logistic-loss")
def test_logistic_loss_is_the_cross_entropy_of_two_classes():
    positive, negative = numbers(4, grad=True), numbers(6, seed=1, grad=True)
    expected = -(1 / (1 + (-positive).exp())).log().mean() - (1 - 1 / (1 + (-negative).exp())).log().mean()
    torch.testing.assert_close(ratios.logistic_loss(positive, negative), expected, **EXACT)
    assert gradcheck(ratios.logistic_loss, (positive, negative))


def test_logistic_loss_is_least_at_the_log_ratio():
    log_density, log_measure = tables(2)
    mass = (log_density + log_measure).exp()
    t = (log_density[0] - log_density[1]).requires_grad_()
    # one point at a time, each weighted by its mass: the expectation that samples only approach
    right = torch.tensor([800.0], dtype=torch.float64)  # a logit that costs nothing
    loss = sum(
        mass[0, i] * ratios.logistic_loss(t[[i]], -right) + mass[1, i] * ratios.logistic_loss(right, t[[i]])
        for i in range(5)
    )
    (gradient,) = torch.autograd.grad(loss, t)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), **EXACT)


@pytest.mark.equation("eq-ali")
def test_two_way_value():
    encoder, decoder = numbers(4, grad=True), numbers(6, seed=1, grad=True)
    expected = encoder.sigmoid().log().mean() + (1 - decoder.sigmoid()).log().mean()
    torch.testing.assert_close(ratios.two_way_value(encoder, decoder), expected, **EXACT)
    assert gradcheck(ratios.two_way_value, (encoder, decoder))


@pytest.mark.equation("eq-minimax-game")
def test_minimax_value_reads_the_diagonal():
    logits = numbers(3, 3, 4, grad=True)
    d = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = sum(d[k, k].log().mean() for k in range(3))
    torch.testing.assert_close(ratios.minimax_value(logits), expected, **EXACT)
    cross = sum(
        torch.nn.functional.cross_entropy(logits[k].T, torch.full((4,), k)) for k in range(3)
    )  # of every class, over its samples
    torch.testing.assert_close(ratios.class_loss(logits), cross, **EXACT)
    assert gradcheck(ratios.minimax_value, logits)


@pytest.mark.equation("eq-non-saturating")
def test_non_saturating_loss_reads_everything_else():
    logits = numbers(4, 4, 5, grad=True)
    d = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = sum(-d[k, i].log().mean() / 3 for k in range(4) for i in range(4) if i != k) * 2 / 4
    torch.testing.assert_close(ratios.non_saturating_loss(logits), expected, **EXACT)
    assert gradcheck(ratios.non_saturating_loss, logits)


def test_gradient_of_the_non_saturating_loss_in_the_logits():
    logits = numbers(3, 3, 1, grad=True)
    (gradient,) = torch.autograd.grad(ratios.non_saturating_loss(logits), logits)
    wanted = (1 - torch.eye(3).double()) / 2
    torch.testing.assert_close(gradient, 2 / 3 * (logits.softmax(1) - wanted[..., None]).detach(), **EXACT)


@pytest.mark.parametrize("loss", [ratios.minimax_value, ratios.class_loss, ratios.non_saturating_loss])
def test_losses_need_a_class_for_each_distribution(loss):
    with pytest.raises(ValueError, match="n_from = n_class"):
        loss(numbers(2, 3, 4))


def test_non_saturating_needs_two_distributions():
    with pytest.raises(ValueError, match="at least two"):
        ratios.non_saturating_loss(numbers(1, 1, 4))
    with pytest.raises(ValueError, match="at least two"):
        ratios.non_saturating_optimum(numbers(1, 4), numbers(4))


# --- what they come to at the best discriminator ---------------------------------------------------------------------


@pytest.mark.equation("eq-game-jsd")
@pytest.mark.parametrize("n", [2, 3, 4])
def test_minimax_value_at_the_best_discriminator_is_a_jensen_shannon_divergence(n):
    log_density, log_measure = tables(n, grad=True)
    volume, p = log_measure.exp(), log_density.exp()
    expected = sum(kl(p[k], p.mean(0), volume) for k in range(n)) / n
    divergence = ratios.jensen_shannon(log_density, log_measure)
    torch.testing.assert_close(divergence, expected, **EXACT)
    value = -enumerated(log_density, log_measure, ratios.optimal_discriminator(log_density)).diagonal().sum()
    torch.testing.assert_close(value, n * divergence - n * math.log(n), **EXACT)
    assert gradcheck(ratios.jensen_shannon, (log_density, log_measure))


@pytest.mark.equation("eq-non-saturating-value")
@pytest.mark.parametrize("n", [2, 3, 4])
def test_non_saturating_loss_at_the_best_discriminator_adds_reverse_divergences(n):
    log_density, log_measure = tables(n, grad=True)
    volume, p = log_measure.exp(), log_density.exp()
    m = p.mean(0)
    sums = sum(n * kl(m, p[i], volume) + kl(p[i], m, volume) for i in range(n)) + n * (n - 1) * math.log(n)
    found = ratios.non_saturating_optimum(log_density, log_measure)
    torch.testing.assert_close(found, 2 / (n * (n - 1)) * sums, **EXACT)
    expected = enumerated(log_density, log_measure, ratios.optimal_discriminator(log_density))
    loss = 2 / n * (expected.sum() - expected.diagonal().sum()) / (n - 1)
    torch.testing.assert_close(found, loss, **EXACT)
    assert gradcheck(ratios.non_saturating_optimum, (log_density, log_measure))


def test_equal_distributions_are_the_least_of_both():
    log_density, log_measure = tables(3)
    alike = log_density[:1].expand(3, -1)
    assert ratios.jensen_shannon(alike, log_measure).abs() < 1e-12
    least = ratios.non_saturating_optimum(alike, log_measure)
    torch.testing.assert_close(least, torch.tensor(2 * math.log(3), dtype=torch.float64), **EXACT)
    assert ratios.non_saturating_optimum(log_density, log_measure) > least


def test_far_apart_distributions_have_the_greatest_divergence():
    log_density = torch.full((3, 3), -800.0).double()
    log_density.fill_diagonal_(0.0)
    divergence = ratios.jensen_shannon(log_density, torch.zeros(3).double())
    torch.testing.assert_close(divergence, torch.tensor(math.log(3), dtype=torch.float64), **EXACT)


# --- geometric mean --------------------------------------------------------------------------------------------------


def experts(m=3, b=4, d=1, grad=False):
    scale = (numbers(m, b, d, seed=1).abs() + 0.4).requires_grad_(grad)
    return Diagonal(numbers(m, b, d, grad=grad), scale)


OBSERVED = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()


@pytest.mark.equation("eq-geometric-mean")
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0]).double()])
def test_geometric_mean_is_the_normalised_weighted_product_of_densities(weights):
    q, on = experts(), quadrature.grid(-12, 12)
    share = OBSERVED * (torch.ones(3, 1).double() if weights is None else weights[:, None])
    share = share / share.sum(0)
    z = on.z(4)
    log_density = (q.log_prob(z.unsqueeze(1)) * share).sum(1)
    mass = (log_density + on.log_weights[:, None]).softmax(0)
    mean = (mass * on.nodes[:, None]).sum(0)
    sd = (mass * (on.nodes[:, None] - mean) ** 2).sum(0).sqrt()
    found = geometric_mean(q, OBSERVED, weights)
    torch.testing.assert_close(found.loc[:, 0], mean, **EXACT)
    torch.testing.assert_close(found.scale[:, 0], sd, **EXACT)
    if weights is not None:
        by_row = geometric_mean(q, OBSERVED, weights[:, None].expand(-1, 4))
        torch.testing.assert_close(by_row.loc, found.loc, **EXACT)


@pytest.mark.equation("eq-geometric-mean")
def test_geometric_mean_has_the_right_gradient():
    def mean(loc, scale, weights):
        q = geometric_mean(Diagonal(loc, scale), OBSERVED, weights)
        return q.loc, q.scale

    q = experts(d=2, grad=True)
    assert gradcheck(mean, (q.loc, q.scale, torch.tensor([0.5, 1.0, 3.0]).double().requires_grad_()))


def test_geometric_mean_is_the_product_with_its_variance_times_the_number_of_experts():
    q = experts(d=2)
    product, mean = product_of_experts(q, OBSERVED), geometric_mean(q, OBSERVED)
    torch.testing.assert_close(mean.loc, product.loc, **EXACT)
    count = OBSERVED.sum(0).double()[:, None]
    torch.testing.assert_close(mean.scale**2, product.scale**2 * count, **EXACT)


def test_geometric_mean_is_never_sharper_than_the_sharpest_expert_nor_wider_than_the_widest():
    q = experts(b=200)
    everything = torch.ones(3, 200).bool()
    mean = geometric_mean(q, everything)
    assert (mean.scale >= q.scale.min(0).values - 1e-12).all()
    assert (mean.scale <= q.scale.max(0).values + 1e-12).all()
    assert (product_of_experts(q, everything).scale < q.scale.min(0).values).all()


def test_geometric_mean_of_equal_experts_is_the_expert():
    one = experts(1, 4, 2)
    same = Diagonal(one.loc.expand(3, -1, -1), one.scale.expand(3, -1, -1))
    mean = geometric_mean(same, OBSERVED)
    torch.testing.assert_close(mean.loc, one.loc[0], **EXACT)
    torch.testing.assert_close(mean.scale, one.scale[0], **EXACT)


def test_geometric_mean_refuses_what_it_cannot_do():
    q = experts()
    with pytest.raises(ValueError, match="closed form for normal only"):
        geometric_mean(Diagonal(q.loc, q.scale, "laplace"), OBSERVED)
    with pytest.raises(ValueError, match="weights have shape"):
        geometric_mean(q, OBSERVED, torch.ones(4).double())
    with pytest.raises(ValueError, match="at least one observed"):
        geometric_mean(q, torch.zeros(3, 4).bool())
