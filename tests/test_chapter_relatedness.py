"""Figures and sentences of the relatedness chapter: each shows the numbers it is given."""

import numpy as np
import pytest
import torch

from mmlib import metrics, plots
from mmlib.book.figures import relatedness as figures
from mmlib.distributions import Diagonal, kl_divergence


def one(family, loc, scale):
    return Diagonal(torch.tensor([loc]), torch.tensor([scale]), family)


def test_a_plan_is_a_straight_line_within_a_family_only():
    pairs = {
        "normals": (one("normal", 0.0, 1.0), one("normal", 2.0, 0.5)),
        "Laplaces": (one("laplace", 1.0, 2.0), one("laplace", 0.0, 1.0)),
        "mixed": (one("normal", 0.0, 1.0), one("laplace", 0.0, 1.0)),
    }
    bends = []
    for ax, slope in zip(figures.plans(pairs), (0.5, 0.5, None), strict=True):
        x, y = ax.lines[0].get_data()
        line = np.polyfit(x, y, 1)
        bends.append(np.abs(y - np.polyval(line, x)).max())
        assert slope is None or line[0] == pytest.approx(slope)
        assert len(ax.lines[1].get_xdata()) == 9  # tenths
    assert max(bends[:2]) < 1e-6 and bends[2] > 0.1


def test_every_pair_meets_once_and_in_its_place():
    p, q = (Diagonal(torch.randn(n, 2), torch.rand(n, 2) + 0.1) for n in (3, 4))
    found = kl_divergence(*figures.every_pair(p, q))
    assert found.shape == (3, 4)
    alone = kl_divergence(Diagonal(p.loc[2], p.scale[2]), Diagonal(q.loc[1], q.scale[1]))
    torch.testing.assert_close(found[2, 1], alone)


def test_the_toy_hides_the_digit_where_it_says():
    labels, private = torch.arange(200) % 10, torch.randn(2, 200, generator=torch.Generator().manual_seed(0))
    share = {}
    for title, (hand, street) in figures.toy(labels, private.double()).items():
        p, q = (Diagonal(x, torch.ones_like(x)) for x in (hand, street))
        share[title] = metrics.relatedness(metrics.wasserstein(p, q), labels)[2]
        assert torch.linalg.matrix_rank(street) >= 3  # the digit is there
    same, far, loud, other = share.values()
    assert far == pytest.approx(same, abs=1e-9) and loud < same and other == pytest.approx(0.5, abs=0.05)


def test_histograms_fill_a_grid_and_leave_the_rest_empty():
    told = {f"model {i}": (torch.rand(50), 1 + torch.rand(90), 0.9) for i in range(5)}
    used = figures.histograms(told, columns=3)
    assert [ax.get_title() for ax in used] == [f"model {i}: nearer 90%" for i in range(5)]
    assert len(used[0].figure.axes) == 6 and not used[0].figure.axes[5].axison
    assert [text.get_text() for text in used[0].figure.legends[0].get_texts()] == ["two digits", "one digit"]


def test_matrices_and_trees_have_a_panel_each():
    distances = torch.rand(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    axes = figures.matrices({"a": distances, "b": 2 * distances}, [0, 1, 2, 3], ("hand", "street"))
    assert [ax.get_title() for ax in axes] == ["a", "b"]
    axes = figures.linkages(distances, [3, 1, 4, 5], ("average", "single"))
    for ax in axes:
        assert sorted(text.get_text() for text in ax.get_xticklabels()) == ["1", "3", "4", "5"]
        assert ax.get_legend() is None


def test_a_tree_keeps_distances_that_are_one_already_and_loses_of_others():
    ultrametric = torch.tensor([[0.0, 1, 4], [1, 0, 4], [4, 4, 0]], dtype=torch.float64)
    assert figures.kept(ultrametric, "average") == pytest.approx(1)
    line = (torch.arange(6.0)[:, None] - torch.arange(6.0)).abs().double()
    assert 0 < figures.kept(line, "average") < 0.99


def test_points_have_the_look_of_their_model():
    columns = {"gap": [0.1, 0.2], "nearer": [0.7, 0.8], "coherent": [0.6, 0.9]}
    first, ax = figures.scatters(columns, ["a", "b"], {"a": "mvae", "b": "mmvae"})
    assert [line.get_color() for line in ax.lines] == [plots.colour("mvae"), plots.colour("mmvae")]
    assert [tuple(line.get_xydata()[0]) for line in ax.lines] == [(0.7, 0.6), (0.8, 0.9)]
    assert (first.get_xlabel(), first.get_ylabel(), ax.get_xlabel()) == ("gap", "coherent", "nearer")


def test_the_sentence_says_what_a_rank_correlation_can():
    up = list(range(10))
    text = figures.in_words({"a": up, "b": up[::-1], "c": [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]})
    assert text.startswith("Rank correlation of a over 10 models: -1.00 with b (told apart from 0); ")
    assert text.endswith("with c (not told apart from 0).")
    assert figures.rank_correlation(up, [x**3 for x in up]) == pytest.approx(1)
