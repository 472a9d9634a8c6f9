"""The figures of the chapter on bounds draw what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from mmlib.book.figures import lab as figures
from mmlib.distributions import Diagonal


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def test_proposals_and_weights():
    z = torch.linspace(-1, 1, 5, dtype=torch.float64)
    q = Diagonal(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    left, right = figures.proposals_and_weights(z, -z.square(), 0.3, {"close": q})
    np.testing.assert_allclose(line(left, "posterior p(z | x)").get_ydata(), (-z.square() - 0.3).exp())
    expected = -z.square() - q.log_prob(z[:, None, None])[:, 0]
    np.testing.assert_allclose(line(right, "q, close").get_ydata(), expected)
    np.testing.assert_allclose(line(right, "log p(x)").get_ydata(), 0.3)


@pytest.mark.parametrize("limit", [0.2, float("inf"), None])
def test_bounds_against_k_marks_the_limit_only_where_there_is_one(limit):
    curves = {"iwae": [-0.5, -0.2, -0.1], "cubo": [-0.5, 0.1, 0.15]}
    drawn = {key: ([1, 4], values[:2], [0.01, 0.01]) for key, values in curves.items()}
    ax = plt.subplots(figsize=(3.6, 3.2))[1]
    figures.bounds_against_k([1, 4, 16], curves, drawn, limit, "close", ax)
    np.testing.assert_allclose(line(ax, "IWAE, expected").get_ydata(), curves["iwae"])
    np.testing.assert_allclose(line(ax, "CUBO estimate, expected").get_ydata(), curves["cubo"])
    np.testing.assert_allclose(line(ax, "exact log p(x)").get_ydata(), 0)
    assert (line(ax, "ELBO").get_xdata()[0], line(ax, "ELBO").get_ydata()[0]) == (1, -0.5)
    assert any(found.get_label() == "CUBO, limit" for found in ax.get_lines()) == (limit == 0.2)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "4", "16"]


def test_gradient_signal_tells_bias_from_monte_carlo_error():
    ks, exact = [1, 4], np.array([1.0, 0.5])
    plain = {"mean": np.array([1.01, 0.5]), "sd": np.ones(2), "error": np.full(2, 0.01), "signal": exact}
    normalised = {"mean": np.array([1.0, 0.9]), "sd": np.ones(2), "error": np.full(2, 0.01)}
    axes = figures.gradient_signal(ks, {"plain": plain, "normalised": normalised}, exact)
    resolved = [
        found.get_ydata() for found in axes[0].get_lines()[1:]
    ]  # filled and hollow for each estimator
    assert np.isnan(resolved[0]).all() and np.isfinite(resolved[1]).all()
    np.testing.assert_allclose(resolved[2], [np.nan, 0.4])
    np.testing.assert_allclose(axes[2].get_lines()[0].get_ydata(), exact)
    assert np.isnan(axes[2].get_lines()[1].get_ydata()).all()


def test_tight_and_looser():
    ax = figures.tight_and_looser([1, 4], [-0.3, -0.1], [-0.6, -0.4], [0.2, -0.8], -0.3)
    np.testing.assert_allclose(line(ax, "tight").get_ydata(), [-0.3, -0.1])
    np.testing.assert_allclose(line(ax, "looser").get_ydata(), [-0.6, -0.4])
    np.testing.assert_allclose(line(ax, "their mean: limit of looser").get_ydata(), -0.3)
