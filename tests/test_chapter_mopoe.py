"""What the MoPoE chapter says of the best posterior of a subset, and its figures."""

import math
from itertools import combinations

import numpy as np
import torch

from mmlib.book.figures import mopoe as figures
from mmlib.distributions import Diagonal
from mmlib.lab import LinearGaussian, modalities, quadrature
from mmlib.models import MoPoE

NAMES = ("hand", "street", "text")
SUBSETS = [subset for size in (1, 2, 3) for subset in combinations(NAMES, size)]


def test_the_best_posterior_of_a_subset_has_its_mean_and_the_precision_of_all():
    """At the theorem's posterior the mean gap is its formula, and its gradient in loc and scale is zero."""
    lab = LinearGaussian.make(dict.fromkeys(NAMES, 3), 2, {"hand": 1.0, "street": 0.7, "text": 0.5}, seed=2)
    n, everything = 20_000, lab.precision(NAMES).diagonal()
    seen = lab.sample(n, torch.Generator().manual_seed(0))[1]
    for subset in SUBSETS:
        known = lab.precision(subset).diagonal()
        loc, _ = lab.posterior(seen, subset)
        shift, factor = torch.zeros(2).double().requires_grad_(), torch.ones(2).double().requires_grad_()
        gap = lab.gap(Diagonal(loc + shift, factor * everything.rsqrt().expand_as(loc)), seen)
        expected = (0.5 * (everything / known - 1)).sum()  # (exp(2 I) - 1) / 2 in each dimension
        assert abs(gap.mean() - expected) < 4 * gap.std() / math.sqrt(n) + 1e-9
        away = (loc - lab.posterior(seen)[0]) * everything  # the gradient in shift, item by item
        by_shift, by_factor = torch.autograd.grad(gap.mean(), [shift, factor])
        assert (
            by_shift.abs() <= 4 * away.std(0) / math.sqrt(n) + 1e-9
        ).all() and by_factor.abs().max() < 1e-9
        assert expected >= 0.5 * (everything / known).log().sum()  # the information itself


def test_the_objective_gives_away_the_divergence_of_the_products_and_no_more_than_log_n():
    lab = LinearGaussian.make(dict.fromkeys(NAMES, 2), 1, 0.6, seed=1)
    seen = lab.sample(20, torch.Generator().manual_seed(0))[1]
    with torch.no_grad():
        q = MoPoE(modalities(lab), 1, inference="mixture").double().posterior(seen)
    on = quadrature.grid(-12, 12)
    elbo = quadrature.elbo(lambda z: lab.log_joint(z, seen), q, on)
    z = on.z(20)
    log_parts = q.components.log_prob(z[:, None])  # [N, S, B]
    mass = (log_parts + on.log_weights[:, None, None]).exp()
    divergence = (mass * (log_parts - q.log_prob(z)[:, None])).sum(0).mean(0)
    torch.testing.assert_close(elbo - lab.elbo(q.components, seen).mean(0), divergence, rtol=0, atol=1e-9)
    assert (divergence > 0).all() and (divergence < math.log(7)).all()
    assert (elbo < lab.log_marginal(seen)).all()


def test_three_rules_are_drawn_as_densities():
    axes = figures.subset_densities({"hand": (-0.9, 0.8), "street": (-0.3, 0.7), "text": (1.9, 0.55)})
    for ax, parts in zip(axes, (1, 3, 7), strict=True):
        assert len(ax.lines) == parts + 3
        filled = ax.collections[0].get_paths()[0].vertices
        area = 0.5 * abs(np.dot(filled[:-1, 0], filled[1:, 1]) - np.dot(filled[1:, 0], filled[:-1, 1]))
        assert abs(area - 1) < 0.01


def test_gaps_stand_at_their_subsets():
    gaps = {label: [float(i) for i in range(7)] for label in figures.GAPS}
    ax = figures.gaps_by_subset(SUBSETS, gaps)
    assert [text.get_text() for text in ax.get_xticklabels()][3] == "hand,\nstreet"
    assert [line.get_label() for line in ax.lines] == list(gaps) and list(ax.lines[0].get_ydata())[2] == 2.0


def test_curves_of_scales_look_like_the_size_of_their_subset():
    values = torch.linspace(-1, 1, 21).view(7, 3)
    axes = figures.scale_curves([0.5, 1.0, 2.0], {"laboratory": values, "trained": 2 * values}, SUBSETS)
    for ax, factor in zip(axes, (1, 2), strict=True):
        curves = ax.lines[:7]
        np.testing.assert_allclose(curves[6].get_ydata(), factor * values[6])
        assert (
            len({curve.get_color() for curve in curves[:3]}) == 1
            and curves[0].get_color() != curves[6].get_color()
        )
    assert len(axes[0].get_legend_handles_labels()[1]) == 3


def test_a_map_says_each_number_at_its_place():
    values = np.arange(21).reshape(7, 3) / 20
    axes = figures.coherence_maps({"one": values, "two": values}, [str(i) for i in range(7)], NAMES)
    told = {text.get_position(): text.get_text() for text in axes[1].texts}
    assert told[2, 1] == "25" and len(told) == 21
    assert [text.get_text() for text in axes[0].get_xticklabels()] == list(NAMES)
    (alone,) = figures.coherence_maps({"one": values}, [str(i) for i in range(7)], NAMES)
    assert alone.get_title() == "one"
