"""What the chapter on label propagation says of PMI and of guessing, and its figures and tables of recorded runs."""

import pytest
import torch

from mmlib.book import claims
from mmlib.book.figures import propagation as figures
from mmlib.book.figures.recorded import check
from mmlib.lab import LinearGaussian, View
from mmlib.metrics import threshold_quality
from mmlib.runs.recipes import RECIPES


def pair(noise=0.5):
    """Two numbers that share a code."""
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return LinearGaussian({name: View(one, zero, noise) for name in ("hand", "street")})


def scored(lab, n=3000):
    """PMI of n pairs and of nine times as many unrelated ones, and another score of both."""
    batch = lab.sample(n, torch.Generator().manual_seed(0))[1]
    away = {
        "hand": batch["hand"].repeat(9, 1),
        "street": torch.cat([batch["street"].roll(i, 0) for i in range(1, 10)]),
    }
    both = {name: torch.cat([x, away[name]]) for name, x in batch.items()}
    return (
        figures.exact_pmi(lab, both),
        -(both["hand"] - both["street"]).abs()[:, 0],
        torch.arange(10 * n) < n,
    )


@pytest.mark.parametrize("let_through", [0.05, 0.2, 0.5])
def test_pmi_finds_more_than_nearness_at_the_same_share_of_unrelated_pairs(let_through):
    """The same 3,000 related and 27,000 unrelated pairs for both; PMI is ahead by 1 to 3 %."""
    *scores, related = scored(pair())
    cuts = [torch.quantile(x[~related], 1 - let_through) for x in scores]
    recall = [float((x[related] >= cut).double().mean()) for x, cut in zip(scores, cuts, strict=True)]
    assert recall[0] > recall[1] + 0.005, recall


def test_guessing_is_best_where_everything_is_called():
    """The exercise: F1 = 2 pi t / (pi + t) for calls by lot, in 200,000 pairs."""
    draw = torch.Generator().manual_seed(0)
    related = torch.rand(200_000, generator=draw) < 0.1
    lot, pi = torch.rand(200_000, generator=draw), float(related.double().mean())
    found = [threshold_quality(lot, related, 1 - t)["f1"] for t in (0.2, 0.6, 1.0)]
    expected = [2 * pi * t / (pi + t) for t in (0.2, 0.6, 1.0)]
    assert found == pytest.approx(expected, abs=0.003) and found == sorted(found)
    assert expected[-1] == pytest.approx(0.18, abs=0.005)


def test_the_plane_shows_as_many_pairs_of_either_kind_and_where_pmi_is_0():
    left, right = figures.pmi_plane(pair(), n=20)
    points = [ax.lines[0] for ax in (left, right)]
    assert [len(line.get_xdata()) for line in points] == [20, 20]
    assert sorted(points[0].get_ydata()) == sorted(points[1].get_ydata())  # the same numbers, shuffled
    assert list(points[0].get_ydata()) != list(points[1].get_ydata())


def test_noise_and_bias_are_drawn_for_every_k():
    draw = torch.Generator().manual_seed(0)
    found = {"MMVAE": {k: torch.randn(4, 3, generator=draw) + k for k in (1, 10)}}
    mean, noise = figures.noise_against_k(found)
    assert list(mean.lines[0].get_xdata()) == [1, 10]
    assert list(noise.lines[0].get_ydata()) == [float(x.std(0).mean()) for x in found["MMVAE"].values()]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_histograms_have_a_panel_a_model_with_its_threshold(n):
    scores, related = torch.linspace(-9, 9, 60).double(), torch.arange(60) > 40
    axes = figures.score_histograms({str(i): (scores, related, float(i)) for i in range(n)})
    assert [ax.get_title() for ax in axes] == [str(i) for i in range(n)]
    assert [ax.lines[0].get_xdata()[0] for ax in axes] == list(range(n))
    assert sum(ax.get_visible() for ax in axes[0].figure.axes) == n


def test_the_steps_are_those_of_the_paper():
    texts = " ".join(text.get_text() for text in figures.steps().texts)
    assert all(symbol in texts for symbol in ("$S_r$", "$S_m$", "$F_m$", r"$\hat F_r$", "threshold"))


# --- recorded runs --------------------------------------------------------------------------------------------------


def run(seed, coherence, f1=None):
    both = {"hand": coherence, "street": coherence}
    test = {"cross_coherence": {"hand": {"street": coherence}, "street": {"hand": coherence}}}
    test |= {"joint_coherence": coherence, "synergy_coherence": both}
    test["latent_accuracy"] = {name: {"sample": coherence} for name in both}
    metrics = {"test": test}
    if f1 is not None:
        metrics["propagation"] = {"full": {"precision": f1, "recall": f1, "f1": f1}}
    return {"seed": seed, "metrics": metrics}


def test_every_recipe_of_the_study_is_in_the_catalogue():
    names = figures.recipes_of_study()
    assert len(names) == len(set(names)) == 22 and set(names) <= set(RECIPES)
    propagated = [RECIPES[name] for name in names if RECIPES[name].propagation]
    assert len(propagated) == 13
    starts = {recipe.propagation["from"] for recipe in propagated}
    assert starts - set(names) == {"hand-street-10-ci-mmvae-brief"}  # itself shown nowhere


def test_with_nothing_recorded_figure_and_table_are_empty_and_claims_say_so(files, capsys):
    assert {ax.texts[0].get_text() for ax in figures.study()} == {"not recorded yet"}
    assert str(figures.added_pairs()).count("–") == 6 * 4
    assert figures.gain("", "before") is None
    check("propagation-helps-ci", figures.gain("", "before"))
    assert capsys.readouterr().out.startswith("NOT RECORDED YET")


def test_what_is_recorded_is_shown_and_compared_seed_by_seed(files):
    files[figures.recipe_of("before")] = [run(n, 0.5 + 0.01 * n) for n in range(3)]
    files[figures.recipe_of("")] = [run(n, 0.6 + 0.01 * n, f1=0.3) for n in range(3)]
    files[figures.recipe_of("-siamese")] = [run(n, 0.6, f1=0.5) for n in range(3)]
    *metrics, search = figures.study()
    for ax in metrics:
        before, after = [line for line in ax.lines if list(line.get_xdata()) == [10]]
        assert (before.get_linestyle(), after.get_linestyle()) == (":", "-")
        assert before.get_ydata() == pytest.approx([0.51]) and after.get_ydata() == pytest.approx([0.61])
    f1 = [line.get_ydata() for line in search.lines if list(line.get_xdata()) == [10]]
    assert f1 == [pytest.approx([0.3]), pytest.approx([0.5])]
    ahead = figures.gain("", "before")
    assert ahead.n == 3 and ahead.mean == pytest.approx(0.1)
    assert figures.gain("", "-siamese", "propagation/full/f1").mean == pytest.approx(-0.2)
    rows = {line.split(" | ")[0].strip("| "): line for line in str(figures.added_pairs()).splitlines()}
    assert "30.0 ± 0.0 (3)" in rows["what PMI finds"] and "61.0" in rows["what PMI finds"]
    assert rows["nothing, not trained on"].count("–") == 3
    search = str(figures.found_pairs()).splitlines()
    assert search[-1] == "| Siamese network | 50.0 ± 0.0 (3) | 50.0 ± 0.0 (3) | 50.0 ± 0.0 (3) |"
    assert search[-3].startswith("| cI-MMVAE | 30.0") and search[-4] == "| MMVAE | – | – | – |"
    assert claims.load()["propagation-ci-siamese"].outcome(
        figures.gain("", "-siamese", "propagation/full/f1")
    )
