"""Figures and sentences of the relatedness chapter: each shows the numbers it is given."""

import numpy as np
import pytest
import torch

from mmlib import metrics, plots
from mmlib.book.figures import recorded
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


LINE = (torch.tensor([0.0, 1, 3, 7, 8.5])[:, None] - torch.tensor([0.0, 1, 3, 7, 8.5])).abs().double()


def test_each_model_has_a_matrix_and_beside_it_the_tree_of_its_classes():
    axes = figures.classes({"a": LINE, "b": 2 * LINE}, ("hand", "street"))[:4]
    assert [ax.get_title() for ax in axes] == ["a", "a", "b", "b"]
    for scale, matrix, fork in ((1, *axes[:2]), (2, *axes[2:])):
        assert matrix.get_images()[0].get_array().max() == pytest.approx(8.5 * scale)
        assert sorted(text.get_text() for text in fork.get_xticklabels()) == list("01234")
        top = max(path.vertices[:, 1].max() for lines in fork.collections for path in lines.get_paths())
        assert top == pytest.approx(scale * metrics.tree(LINE)[-1, 2]) and fork.get_legend() is None


@pytest.mark.parametrize(
    ("members", "cluster"), [([3], "3"), ([0, 1], "01"), ([0, 2], "012"), ([1, 3], "01234")]
)
def test_the_smallest_cluster_that_holds_some_classes(members, cluster):
    assert figures.cluster_of(LINE, members) == set(map(int, cluster))


def test_maps_have_a_row_each_and_one_legend():
    places = {"hand": torch.zeros(2, 2), "street": torch.ones(2, 2)}
    axes = figures.maps({"a": places, "b": places}, torch.tensor([3, 4]))
    assert [ax.get_title() for ax in axes] == [
        f"{m}, colour: {c}" for m in "ab" for c in ("digit", "modality")
    ]
    assert [ax.get_legend() is not None for ax in axes] == [False, False, False, True]


def test_shares_over_seeds_are_of_the_recorded_runs():
    found = recorded.recorded("hand-street-meme-split-0.25", "relatedness/hand,street")
    row = next(line for line in repr(figures.over_seeds()).splitlines() if line.startswith("| MEME |"))
    assert f"{100 * found.mean:.1f} ± {100 * found.sd:.1f} ({found.n})" in row and found.n >= 3


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
