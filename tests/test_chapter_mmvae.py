"""What the MMVAE chapter says of the gap of a mixture, and its figures."""

import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from mmlib.book.figures import mmvae as figures
from mmlib.distributions import Diagonal, mixture_of_experts, single
from mmlib.lab import LinearGaussian, quadrature


def exact_experts(lab, batch):
    each = [lab.diagonal_posterior(batch, [name]) for name in lab.names]
    stacked = Diagonal(torch.stack([q.loc for q in each]), torch.stack([q.scale for q in each]))
    return mixture_of_experts(stacked, torch.ones(stacked.loc.shape[:2], dtype=torch.bool))


def test_the_gap_of_an_exact_expert_is_a_function_of_what_the_others_add():
    lab = LinearGaussian.make({"hand": 3, "street": 4}, 2, {"hand": 0.8, "street": 1.1}, seed=4)
    n = 40_000
    batch = lab.sample(n, torch.Generator().manual_seed(0))[1]
    for name in lab.names:
        gap = lab.gap(lab.diagonal_posterior(batch, [name]), batch)
        ratio = lab.precision(lab.names).diagonal() / lab.precision([name]).diagonal()
        information = 0.5 * ratio.log()
        expected = (torch.exp(2 * information) - 1 - information).sum()
        assert abs(gap.mean() - expected) < 4 * gap.std() / math.sqrt(n)


def test_the_mixture_wins_the_divergence_of_its_experts_and_no_more_than_log_m():
    lab = LinearGaussian.make({"hand": 2, "street": 2}, 1, {"hand": 0.5, "street": 0.7}, seed=1)
    batch = lab.sample(20, torch.Generator().manual_seed(0))[1]
    q, on = exact_experts(lab, batch), quadrature.grid(-12, 12)
    mixture = quadrature.elbo(lambda z: lab.log_joint(z, batch), q, on)
    experts = [Diagonal(q.components.loc[r], q.components.scale[r]) for r in range(2)]
    own = sum(lab.elbo(expert, batch) for expert in experts) / 2
    z = on.z(20)
    divergence = sum(
        ((expert.log_prob(z) + on.log_weights[:, None]).exp() * (expert.log_prob(z) - q.log_prob(z))).sum(0)
        for expert in experts
    )
    torch.testing.assert_close(mixture - own, divergence / 2, rtol=0, atol=1e-9)
    assert (divergence > 0).all() and (divergence / 2 < math.log(2)).all()
    assert (lab.log_marginal(batch) - mixture > 0).all()  # perfect experts, and still a gap


def test_every_draw_meets_every_decoder_in_the_drawing():
    ax = figures.decode_paths(("hand", "street", "text"))
    boxes, arrows = (
        [p for p in ax.patches if type(p).__name__ == kind] for kind in ("FancyBboxPatch", "FancyArrowPatch")
    )
    assert len(boxes) == 3 * 3 and len(arrows) == 3 + 3 * 3
    assert sum(arrow.get_linestyle() == "--" for arrow in arrows) == 3 * 2


def test_densities_are_drawn_for_the_row_that_is_asked():
    lab = LinearGaussian.make({"hand": 2, "street": 2}, 1, seed=1)
    batch = lab.sample(2, torch.Generator().manual_seed(0))[1]
    q, exact = exact_experts(lab, batch), single(lab.diagonal_posterior(batch))
    ax = figures.mixture_densities(q, lab.names, exact, 1, "", plt.subplots(figsize=(4.2, 2.6))[1])
    curves = {line.get_label(): line.get_xydata() for line in ax.lines}
    peak = curves["exact joint posterior"]
    assert abs(peak[peak[:, 1].argmax(), 0] - float(exact.mean[1, 0])) < 0.02
    between = (curves["expert: hand"][:, 1] + curves["expert: street"][:, 1]) / 2
    np.testing.assert_allclose(curves["mixture of the two"][:, 1], between, atol=1e-12)


def test_a_bias_within_the_noise_is_drawn_hollow():
    def situation(squared):
        values = {"exact": np.ones(2)}
        for name in figures.ESTIMATORS:
            values[f"bias.{name}"] = np.array([squared if name == "squared" else 0.01] * 2)
            values[f"resolution.{name}"], values[f"spread.{name}"] = np.full(2, 0.01), np.ones(2)
        return values

    axes = figures.gradient_errors([1, 2], {"none": situation(0.01), "some": situation(0.5)})
    assert axes.shape == (2, 2)
    label = figures.ESTIMATORS["squared"][0]
    filled = [next(line for line in ax.lines if line.get_label() == label).get_ydata() for ax in axes[0]]
    assert np.isnan(filled[0]).all() and (filled[1] == 0.5).all()


def test_curves_of_gaps():
    _, ax = plt.subplots(figsize=(4.0, 2.9))
    figures.gap_against_information({"hand": [0.0, 0.5]}, {"hand": [0.0, math.e - 1.5]}, ax)
    curve, points = (line.get_xydata() for line in ax.lines)
    for x, y in points:
        assert abs(np.interp(x, *curve.T) - y) < 1e-3
    _, ax = plt.subplots(figsize=(4.0, 2.9))
    figures.mixture_gap([0.5, 1.0], {"hand": [1.0, 2.0], "street": [3.0, 4.0]}, [1.8, 2.9], ax)
    mean = next(line for line in ax.lines if line.get_label() == "mean of the experts")
    assert list(mean.get_ydata()) == [2.0, 3.0]
