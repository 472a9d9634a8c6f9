"""The figures of the chapter on density ratios draw what they are given."""

import math

import numpy as np
import torch

from mmlib.book.figures import ali as figures
from mmlib.distributions import Diagonal
from mmlib.lab.ali import play


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def test_ratio_of_two():
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    left, right = figures.ratio_of_two(x, -x.square(), -2 * x.square(), [x[:2], x[:3]], {"a few": x})
    np.testing.assert_allclose(line(left, "q(x)").get_ydata(), (-x.square()).exp())
    np.testing.assert_allclose(line(right, "exact").get_ydata(), x.square())
    np.testing.assert_allclose(line(right, "a few").get_ydata(), x)


def test_ratio_maps_hide_what_nobody_knows():
    axis = torch.linspace(-1, 1, 6)
    mass = torch.ones(6, 6)
    mass[:, 3:] = 0
    ratio = axis.expand(6, 6)
    axes = figures.ratio_maps(axis, ratio, ratio, mass, [torch.zeros(2, 2)] * 2)
    assert [ax.get_title() for ax in axes[1:]] == ["exact log q/p", "estimated"]
    drawn = np.concatenate([path.vertices for path in axes[1].collections[0].get_paths()])
    assert drawn[:, 0].max() <= axis[2] + 1e-6


def test_equilibria_draw_every_game():
    games = {name: play(3, 4, rows=5, generator=torch.Generator().manual_seed(0)) for name in ("a", "b")}
    axes = figures.equilibria(games)
    assert [len(ax.get_lines()) for ax in axes] == [1 + 3 * 3, 3, 3]
    path = axes[0].get_lines()[1]
    np.testing.assert_allclose(path.get_xdata(), games["a"].encoder_slope[:, 0])
    np.testing.assert_allclose(path.get_ydata(), games["a"].decoder_slope[:, 0])


def test_aims_are_scaled():
    x = torch.linspace(-1, 1, 5)
    curves = {"first": torch.tensor([3.0, 5.0, 7.0]), "second": torch.tensor([1.0, 0.0, -1.0])}
    left, right = figures.aims(
        x, x.exp(), dict.fromkeys(curves, x.exp()), torch.arange(3), curves, [(0.0, "here"), (2.0, "there")]
    )
    np.testing.assert_allclose(line(right, "first").get_ydata(), [0, 0.5, 1])
    np.testing.assert_allclose(line(right, "second").get_ydata(), [1, 0.5, 0])
    np.testing.assert_allclose(line(left, "first").get_ydata(), x.exp())
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["here", "there"]


def test_ratio_errors_leave_out_what_was_not_computed():
    axes = figures.ratio_errors([100, 300], {"M = 2": {"joint": [2.0, math.nan], "factorised": [1.5, 1.0]}})
    np.testing.assert_allclose(line(axes[0], "joint").get_ydata(), [2.0, math.nan])
    np.testing.assert_allclose(line(axes[0], "factorised").get_ydata(), [1.5, 1.0])


def test_means_of_experts():
    z = torch.linspace(-1, 1, 5, dtype=torch.float64)
    experts = Diagonal(torch.zeros(2, 1, 1).double(), torch.ones(2, 1, 1).double())
    (ax,) = figures.means_of_experts(z, {"two": (experts, {"product": -z.square()})})
    np.testing.assert_allclose(line(ax, "product").get_ydata(), (-z.square()).exp())
    assert len(ax.collections) == 2
