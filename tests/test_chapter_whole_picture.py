"""Figures and sentences of the chapter that compares all models: each shows the numbers it is given."""

import numpy as np
import pytest
import torch
from scipy import stats
from test_whole_picture import run_of

from mmlib import plots
from mmlib.book import whole_picture as picture
from mmlib.book.figures import whole_picture as figures
from mmlib.distributions import Diagonal
from mmlib.runs.recipes import RECIPES
from mmlib.summary import summarise

CROSS = figures.mean_of(*picture.cross("hand-street"))


@pytest.fixture
def rows(files):
    """Four rows, one of them with a single seed; MMALI has no likelihood."""
    numbers = {
        "mvae": (0.4, 0.5, 0.6),
        "mmvae-elbo": (0.9, 0.91, 0.92),
        "mmali": (0.7, 0.71, 0.75),
        "mopoe": (0.99,),
    }
    for label, found in numbers.items():
        recipe, more = RECIPES[f"hand-street-{label}"], {}
        if label != "mmali":
            more = {"log_likelihood": {"joint": -500.0}}
        files[recipe.name] = [
            run_of(recipe, seed, x, joint_coherence=1 - x, **more) for seed, x in enumerate(found)
        ]
    return picture.rows("hand-street")


def test_the_table_has_intervals_and_says_what_is_missing(rows):
    text = str(
        figures.numbers(
            rows, {"cross": (CROSS, 100, 1), "nats": (figures.mean_of("log_likelihood/joint"), 1, 0)}
        )
    )
    assert "| `mvae` | 50.0 [25.2, 74.8] (3) | -500 [-500, -500] (3) |" in text
    assert (
        "| `mopoe` | 99.0 (1) | -500 (1) |" in text
        and "| `meme` | – | – |" in text
        and "| `mmali` | 72.0 " in text
    )


def test_settings_of_every_row_are_shown(rows):
    text = str(figures.settings(rows))
    assert (
        "model.alpha 10" in text and "| `meme` | not recorded |" in text and "unless said otherwise" in text
    )
    assert "learning_rate 0.002" in text.splitlines()[-1]


def test_choices_name_the_best_and_who_is_not_told_apart(rows):
    wishes = {"translate": (CROSS, "coherence", 100, False), "guess": (CROSS, "least", 100, True)}
    lines = str(figures.choices(rows, wishes)).splitlines()
    assert lines[-2].startswith("| translate | coherence | `mmvae-elbo`, 91.0") and lines[-2].endswith(
        "| – | `mopoe` |"
    )
    assert "`mvae`, 50.0" in lines[-1]
    assert "| guess | least | – | – | – |" in str(
        figures.choices(rows, {"guess": (lambda row: None, "least", 1, True)})
    )


def test_the_widest_gap_that_is_not_told_apart_is_said(rows):
    wide = {"mvae": (0.5, 0.6, 0.95), "mmali": (0.7, 0.71, 0.75), "mmvae-elbo": (0.9, 0.91, 0.92)}

    def of(row):
        return summarise(wide[row.label]) if row.label in wide else None

    assert figures.missed(rows, of) == (
        "mvae, 3 seeds, is 23 points behind mmvae-elbo and not told apart from it."
    )
    assert figures.missed(rows, lambda row: None) == "Too few seeds are recorded."
    del wide["mvae"]
    assert figures.missed(rows, of) == "All are told apart from mmvae-elbo."


def test_grids_say_what_is_chosen_and_what_has_gaps(rows):
    text = str(figures.grids(rows))
    assert (
        "| `mvae` | as it is: 50.0 [25.2, 74.8] (3); not recorded: lr 0.001, lr 0.004, beta 0.5, beta 2 |"
        in text
    )
    assert text.count("default, the grid has gaps") == 14 and "mmali-shared" not in text


def test_costs_have_a_dash_where_nothing_was_measured(rows, monkeypatch):
    monkeypatch.setattr(picture.speed, "measured", lambda table: ([], ""))
    mvae, _, mmali = (next(r for r in rows if r.label == label) for label in ("mvae", "mopoe", "mmali"))
    assert "| `mvae` | – | – |" in str(figures.costs(rows))
    assert figures.times_as_long(mmali, mvae) == (
        "A step of mmali takes 0.8 times as long as one of mvae, in the recorded runs, evaluations included."
    )
    fast = [
        {"recipe": f"hand-street-{label}", "ms": ms, "mb": 7.0}
        for label, ms in (("mvae", 5.0), ("mmali", 20.0))
    ]
    monkeypatch.setattr(picture.speed, "measured", lambda table: (fast, ""))
    assert "| `mmali` | 20" in str(figures.costs(rows))
    assert "mmali takes 4.0 times as long as one of mvae, on an idle core." in figures.times_as_long(
        mmali, mvae
    )


def test_trade_offs_have_a_mark_and_bars_for_rows_that_have_both_numbers(rows):
    left, right = figures.trade_offs(
        rows,
        {"nats": figures.mean_of("log_likelihood/joint"), "joint": figures.mean_of("joint_coherence")},
        ("c", CROSS),
    )
    assert [bars.get_label() for bars in left.containers] == ["mvae", "mmvae-elbo", "mopoe"]
    assert [bars.get_label() for bars in right.containers] == ["mvae", "mmvae-elbo", "mopoe", "mmali"]
    mark = right.containers[0][0]
    assert tuple(mark.get_xydata()[0]) == pytest.approx((0.5, 0.5)) and mark.get_color() == plots.colour(
        "mvae"
    )
    low, high = right.containers[0][2][1].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((0.252, 0.748), abs=1e-3)


def test_recipes_of_one_model_have_one_colour_and_other_marks(rows):
    one, other = (next(r for r in rows if r.label == label) for label in ("mmvae-elbo", "mmvae-iwae"))
    assert figures.style_of(one)["color"] == figures.style_of(other)["color"]
    assert figures.style_of(one)["fillstyle"] != figures.style_of(other)["fillstyle"]


def test_stopping_early_says_who_loses(rows):
    equal = {"mvae": summarise([0.5]), "mmali": summarise([0.22])}
    assert figures.stopped_early(rows, equal) == (
        "Stopping early costs mmali most, 50 points; less than 2 points: mvae."
    )
    assert figures.stopped_early(rows, {}) == "Nothing is recorded yet."


def test_quality_is_the_mean_of_the_modalities():
    scores = {
        "mvae": {"hand": {"precision": 0.2, "recall": 0.5}, "street": {"precision": 0.4, "recall": 0.7}}
    }
    left, right = figures.quality(scores, {"mvae": 0.6}, {"mvae": "mvae"})
    assert tuple(left.lines[0].get_xydata()[0]) == pytest.approx((0.3, 0.6))
    assert tuple(right.lines[0].get_xydata()[0]) == pytest.approx((0.6, 0.6))


# --- ranks ----------------------------------------------------------------------------------------------------------


def test_ranks_are_of_the_first_seeds_and_of_rows_that_have_everything(rows):
    labels, ranked = figures.ranks(rows, {"cross": CROSS, "joint": figures.mean_of("joint_coherence")})
    assert labels == ["mvae", "mmvae-elbo", "mmali"] and ranked.shape == (3, 2, 3)
    assert (ranked[:, 0] == [3, 1, 2]).all() and (ranked[:, 1] == [1, 3, 2]).all()
    assert figures.ranks([], {"cross": CROSS})[1].shape == (3, 1, 0)


def test_agreement_is_kendalls():
    same = np.tile([1.0, 2, 3, 4], (3, 1))
    assert figures.agreement(same) == pytest.approx(1)
    assert figures.agreement(np.array([[1.0, 2, 3], [3, 2, 1]])) == pytest.approx(0)
    ranked = np.array([[1.0, 2, 3, 4], [2, 1, 4, 3], [1, 3, 2, 4]])
    friedman = stats.friedmanchisquare(*ranked.T)  # chi^2 = n (k - 1) W
    assert figures.agreement(ranked) == pytest.approx(friedman.statistic / (3 * 3))
    assert figures.friedman(ranked) == pytest.approx(friedman.pvalue)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_that_of_the_table(k, q):
    """q of Demsar 2006, Table 5 (a), at 0.05; printed with three decimals."""
    assert figures.critical_difference(k, 14) == pytest.approx(q * (k * (k + 1) / (6 * 14)) ** 0.5, rel=5e-4)


def test_alike_models_are_told_apart_as_seldom_as_is_said():
    """Of random rankings one in twenty has two models farther apart than the critical difference; 2,000 draws."""
    draw = np.random.default_rng(0)
    means = np.argsort(draw.random((2000, 20, 6)), axis=-1).mean(1) + 1
    share = (np.ptp(means, axis=1) > figures.critical_difference(6, 20)).mean()
    assert 0.02 < share < 0.065  # 0.05, for many rankings; a bit less for 20


def test_the_rank_plot_is_sorted_and_has_both_bars():
    ranked = np.array([[[2.0, 1, 3], [3, 1, 2]]] * 3)
    ax = figures.rank_plot(["a", "b", "c"], ranked, ["x", "y"], {"a": "mvae", "b": "mopoe", "c": "meme"})
    assert [text.get_text() for text in ax.get_yticklabels()] == ["b", "a", "c"]
    assert "2 rankings (metrics)" in ax.texts[0].get_text() and "6 rankings" in ax.texts[1].get_text()
    width = np.ptp(ax.lines[-1].get_xdata())
    assert width == pytest.approx(figures.critical_difference(3, 6))


def test_sentences_say_no_more_than_the_critical_difference_allows():
    labels = ["a", "b", "c", "d"]
    alike = np.array([[[1.0, 2, 3, 4], [4, 3, 2, 1]]] * 3)
    said = figures.in_words(labels, alike, ["x", "y"])
    assert "W = 1.00 to 1.00" in said[0] and "W = 0.00" in said[1]
    assert "a has the best mean rank, 2.5 of 4; no model is told apart" in said[2]
    clear = np.tile([1.0, 2, 3, 4], (3, 20, 1))
    assert "told apart from it over 20 metrics: c, d." in figures.in_words(labels, clear, list("x" * 20))[2]
    assert "nothing to rank" in figures.in_words(["a"], np.ones((3, 2, 1)), ["x", "y"])[0]


# --- pictures and codes ---------------------------------------------------------------------------------------------


class Copies:
    """A model that paints what it is given."""

    def generate(self, batch, given, to, generator=None):
        return {to[0]: batch[given[0]].expand(-1, 3, -1, -1) * 0.5}


def test_translations_stand_below_what_was_given():
    x = torch.rand(4, 1, 8, 8)
    rows = figures.translations({"a": Copies()}, {"hand": x}, "hand", "street", lambda: None)
    assert list(rows) == ["given: hand", "a"]
    torch.testing.assert_close(rows["a"], x.expand(-1, 3, -1, -1) / 2)


def test_grey_has_no_colour():
    assert figures.saturation(torch.rand(2, 1, 4, 4).expand(-1, 3, -1, -1)) == 0
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 0.8
    assert figures.saturation(red) == pytest.approx(0.8)


def test_one_of_each_class_is_the_first():
    assert figures.one_of_each(torch.tensor([2, 0, 2, 1, 0])).tolist() == [1, 3, 0]


def test_a_modality_is_told_where_codes_say_it():
    loc = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    scale = torch.ones(200, 3)
    there = {"hand": Diagonal(loc, scale), "street": Diagonal(loc + 9, scale)}
    assert figures.modality_told(there) == 1
    other = torch.randn(200, 3, generator=torch.Generator().manual_seed(1))
    assert (
        0.4 < figures.modality_told({"hand": Diagonal(loc, scale), "street": Diagonal(other, scale)}) < 0.65
    )


def test_every_model_has_a_tree_and_a_map_and_the_rest_is_empty():
    draw, digits = torch.Generator().manual_seed(0), torch.arange(60) % 3
    q = {
        m: Diagonal(torch.randn(60, 4, generator=draw) + digits[:, None], torch.ones(60, 4))
        for m in ("hand", "street")
    }
    axes = figures.codes_page({"a": q, "b": q, "c": q}, digits, few=40)
    assert len(axes) == 8 and [ax.get_title() for ax in axes[[0, 2, 4]]] == ["a", "b", "c"]
    assert [len(ax.collections) for ax in axes[[1, 3, 5]]] == [2, 2, 2]
    assert sorted(t.get_text() for t in axes[0].get_xticklabels()) == ["0", "1", "2"]
    assert not axes[6].axison and not axes[7].axison
