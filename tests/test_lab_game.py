"""The laboratory of adversarial inference: classifiers that find known ratios, and games with known ends."""

import math

import pytest
import torch

from mmlib import ratios
from mmlib.distributions import Diagonal, Mixture
from mmlib.lab.ali import Pair, play
from mmlib.lab.classification import bumps, classify, fit_factors, fit_joint, quadratic
from mmlib.lab.game import Game


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(rows, loc, scale, seed):
    return loc + scale * torch.randn(rows, 1, generator=seeded(seed), dtype=torch.float64)


# --- classifiers -----------------------------------------------------------------------------------------------------


def test_quadratic_features_are_all_products():
    found = quadratic(torch.tensor([[2.0, 3.0]]))
    assert sorted(found[0].tolist()) == [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]


def test_bumps_are_one_at_their_centres():
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    found = bumps(centres, 0.5)(centres)
    expected = torch.tensor([[1.0, 1.0, math.exp(-4)], [1.0, math.exp(-4), 1.0]])
    torch.testing.assert_close(found, expected)


def test_a_classifier_finds_the_log_ratio_of_two_normals():
    rows = 100_000
    found = classify([normal(rows, 0.5, 0.8, 0), normal(rows, 0.0, 1.0, 1)])
    x = torch.linspace(-1.5, 2, 8, dtype=torch.float64)[:, None]
    q, p = torch.distributions.Normal(0.5, 0.8), torch.distributions.Normal(0.0, 1.0)
    expected = (q.log_prob(x) - p.log_prob(x)).squeeze(-1)
    assert (found.log_ratio(x) - expected).abs().max() < 0.05  # standard errors here are about 0.01


def test_a_classifier_stands_where_the_gradient_vanishes():
    classes = [normal(50, loc, 1.0, seed) for seed, loc in enumerate((-0.5, 0.0, 0.7))]
    found = classify(classes, ridge=0.5)
    weight = found.weight.clone().requires_grad_()
    logits = torch.stack([(quadratic(points) @ weight.T).T for points in classes])
    loss = ratios.class_loss(logits) + 0.5 * 0.5 / 50 * weight.square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    assert gradient.abs().max() < 1e-8
    logits = found.logits(classes[0])
    assert logits.shape == (3, 50)
    torch.testing.assert_close(found.log_ratio(classes[0]), logits[0] - logits[2])


def test_separable_classes_have_finite_weights():
    found = classify([normal(20, -50, 1.0, 0), normal(20, 50, 1.0, 1)])
    assert found.weight.isfinite().all()


def test_classes_must_be_equally_large():
    with pytest.raises(ValueError, match="two or more of one size"):
        classify([normal(20, 0, 1, 0), normal(21, 0, 1, 1)])


def error(logits, game, points):
    log_density = game.log_density(points)
    exact = log_density[:-1] - log_density[-1]
    return (ratios.log_ratios(logits(points)) - exact).square().mean().sqrt().item()


def test_both_ways_find_the_ratios_of_a_game_and_unpaired_samples_help_the_factors():
    game = Game.make(2, style_dim=1, mismatch=0.1, seed=1)
    points = game.sample(500, seeded(1)).flatten(0, 1)
    few, many = game.sample(500, seeded(2)), game.sample(20_000, seeded(3))
    factors = error(fit_factors(game, few, generator=seeded(4)), game, points)
    assert error(fit_joint(many), game, points) < 0.15 < 0.3 < error(fit_joint(few), game, points)
    assert error(fit_factors(game, many, generator=seeded(4)), game, points) < 0.3 < factors
    assert error(fit_factors(game, few, many, seeded(4)), game, points) < 0.7 * factors


def test_one_modality_needs_no_factors():
    game = Game.make(1, seed=0)
    samples = game.sample(200, seeded(0))
    points = game.sample(50, seeded(1)).flatten(0, 1)
    joint = ratios.log_ratios(fit_joint(samples, ridge=1e-6)(points))
    factors = ratios.log_ratios(fit_factors(game, samples, generator=seeded(2), ridge=1e-6)(points))
    torch.testing.assert_close(joint, factors, atol=1e-3, rtol=1e-3)  # they differ by the penalty alone


# --- two scalars ------------------------------------------------------------------------------------------------------


def test_densities_of_a_pair_are_normalised_and_those_of_its_samples():
    pair = Pair.example()
    axis = torch.linspace(-6, 6, 481, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    volume = (axis[1] - axis[0]) ** 2
    samples = pair.sample(40_000, seeded(0))
    for log_density, drawn in zip((pair.log_encoder, pair.log_decoder), samples, strict=True):
        mass = log_density(points).exp() * volume
        assert abs(mass.sum() - 1) < 1e-6
        mean = (mass[..., None] * points).sum((0, 1))
        covariance = torch.einsum("abi,abj,ab->ij", points - mean, points - mean, mass)
        assert ((drawn.mean(0) - mean).abs() < 4.5 * (covariance.diagonal() / len(drawn)).sqrt()).all()
        assert (drawn.T.cov() - covariance).abs().max() < 0.05
    torch.testing.assert_close(
        pair.log_ratio(points), pair.log_encoder(points) - pair.log_decoder(points), atol=0, rtol=0
    )


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_games_end_in_agreement_that_may_say_much_or_little(loss):
    played = play(6, 600, loss, rows=200, generator=seeded(1))
    assert played.divergence.shape == (600, 6)
    assert (played.divergence[-1] < 0.02).all()
    assert ((played.encoder_slope - played.decoder_slope)[-1].abs() < 0.1).all()
    assert played.reconstructed[-1].max() - played.reconstructed[-1].min() > 0.3


def test_a_reconstruction_term_chooses_the_equilibrium_that_says_most():
    played = play(6, 1200, entropy=0.1, rows=100, generator=seeded(1))
    assert (played.reconstructed[-1] > 0.9).all()
    assert (played.divergence[-1] < 0.1).all()


def test_divergence_of_linear_pairs_is_that_of_their_densities():
    played = play(2, 1, generator=seeded(3))
    a, tau, w, sigma = (
        getattr(played, name)[0, 0].item()
        for name in ("encoder_slope", "encoder_noise", "decoder_slope", "decoder_noise")
    )
    one = torch.zeros(1, 1, 1).double()
    data = Mixture(Diagonal(one, torch.ones_like(one)), torch.zeros(1, 1).double())
    pair = Pair(data, lambda x: a * x, tau, lambda z: w * z, sigma)
    axis = torch.linspace(-8, 8, 641, dtype=torch.float64)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    mass = pair.log_encoder(points).exp() * (axis[1] - axis[0]) ** 2
    assert abs((mass * pair.log_ratio(points)).sum() - played.divergence[0, 0]) < 1e-6
    square = (points[..., 0] - w * points[..., 1]).square()
    assert abs(1 - (mass * square).sum() - played.reconstructed[0, 0]) < 1e-6


def test_play_knows_its_losses():
    with pytest.raises(ValueError, match="loss is 'hinge'"):
        play(2, 1, "hinge")
