"""What the chapter on partial observation says of mirrors, masks and pseudo-samples, and its recorded runs."""

import math

import pytest
import torch
from test_every_model import Encoder, build
from torch import nn

from mmlib.book import claims
from mmlib.book.figures import partial as figures
from mmlib.book.figures.recorded import state
from mmlib.lab import LinearGaussian, View
from mmlib.modality import Modality, NormalLikelihood
from mmlib.models import MODELS
from mmlib.runs.recipes import RECIPES

SIZES = {"a": 3, "b": 4}
PLAIN = ("mvae", "mmvae", "mopoe", "mmjsd")  # those that the proposition names


# --- what pairs alone can tell --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLAIN)
def test_rows_of_one_modality_do_not_see_a_mirror_and_pairs_do(name, monkeypatch):
    """At the posteriors' centres, where draws of the model and of its mirror are mirrors, too."""
    torch.manual_seed(0)
    parts = [Modality(n, (s,), Encoder(s), nn.Linear(2, s), NormalLikelihood()) for n, s in SIZES.items()]
    options = {"posterior": "normal", "scale": "softplus"} if name == "mmvae" else {}
    model = build(MODELS[name], parts, **options).double()
    twin = figures.mirrored(model, "b")
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.zero_())
    draw = torch.Generator().manual_seed(0)
    batch = {n: torch.rand(20, s, generator=draw, dtype=torch.float64) for n, s in SIZES.items()}

    def objective(model, names):
        return model.loss({n: batch[n] for n in names}, generator=torch.Generator().manual_seed(1))[1][
            "objective"
        ]

    for alone in SIZES:
        torch.testing.assert_close(
            objective(model, [alone]), objective(twin, [alone]), rtol=1e-12, atol=1e-12
        )
    assert (objective(model, SIZES) - objective(twin, SIZES)).abs().max() > 1e-3


def test_meme_notices_a_mirror_in_rows_of_one_modality():
    """The prior of a row of one modality is what the other encoder says of pseudo-samples; its own does not enter."""
    torch.manual_seed(0)
    parts = [Modality(n, (s,), Encoder(s), nn.Linear(2, s), NormalLikelihood()) for n, s in SIZES.items()]
    model = build(MODELS["meme"], parts, pseudo_samples=3).double().eval()
    x = torch.rand(20, SIZES["a"], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [
        each.loss({"a": x}, generator=torch.Generator().manual_seed(1))[1]["objective"]
        for each in (model, figures.mirrored(model, "b"))
    ]
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_a_mirror_leaves_the_model_as_it_was_and_mirrored_twice_is_itself():
    torch.manual_seed(0)
    parts = [Modality(n, (s,), Encoder(s), nn.Linear(2, s), NormalLikelihood()) for n, s in SIZES.items()]
    model = build(MODELS["mvae"], parts)
    twice, x, z = figures.mirrored(figures.mirrored(model, "b"), "b"), torch.rand(5, 4), torch.randn(5, 2)
    assert torch.equal(twice.modalities["b"].encode(x, 2)[0], model.modalities["b"].encode(x, 2)[0])
    assert torch.equal(twice.modalities["b"].decode(z), model.modalities["b"].decode(z))
    once = figures.mirrored(model, "b").modalities["b"]
    assert torch.equal(once.encode(x, 2)[0], -model.modalities["b"].encode(x, 2)[0])
    assert torch.equal(once.decode(z), model.modalities["b"].decode(-z))


# --- which rows are missing -----------------------------------------------------------------------------------------


def test_likelihood_of_what_is_observed_ignores_a_mask_that_observed_values_decide():
    """200,000 pairs: standard errors of the means are below 0.01, so 0.03 is more than three of them."""
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    lab = LinearGaussian({name: View(one, zero, 0.5) for name in ("hand", "street")})
    first, second = (x[:, 0] for x in lab.sample(200_000, torch.Generator().manual_seed(0))[1].values())
    lot = torch.rand(200_000, generator=torch.Generator().manual_seed(1)) < 0.25
    completely = figures.means_of_second(first, second, lot)
    at_random = figures.means_of_second(first, second, first < -0.75)
    not_at_random = figures.means_of_second(first, second, second < -0.75)
    assert completely == pytest.approx((0, 0), abs=0.03)
    assert at_random[0] < -1 and at_random[1] == pytest.approx(0, abs=0.03)
    assert max(not_at_random) < -0.9


def test_the_pseudo_sample_s_line_passes_the_numbers_of_the_errata():
    """meme-18: with prior and encoder at N(2, 0.1^2), the bound of s = 2 is 0.88 or more, above log p(s) = -2.90."""
    ax = figures.pseudo_sample_bound()
    best, exact = ax.lines
    top = max(best.get_ydata())
    assert top == pytest.approx(-0.5 * math.log(2 * math.pi * 0.02), abs=1e-3) and top > 0.88
    assert exact.get_ydata()[0] == pytest.approx(-2.90, abs=0.005)
    assert min(best.get_ydata()) < exact.get_ydata()[0]


def test_what_is_hidden_is_grey():
    from mmlib.data import load

    split = load("hand-street", paired=0.25, train=40, validation=20, test=20).train
    tiles = figures.shown(split, torch.arange(40))
    for name, seen in split.observed.items():
        grey = (tiles[name] == 0.85).flatten(1).all(1)
        assert torch.equal(grey, ~seen)


def test_bars_of_schedules_show_pairs_at_the_released_period():
    axes = figures.schedules(rows=640, batch_size=16)
    assert [ax.get_ylabel() for ax in axes] == ["1/2", "1/4", "1/8", "1/16"]
    colours = [
        patch.get_facecolor() for patch in axes[1].patches
    ]  # 10 paired batches, 15 of either other kind
    dark = [i for i, ink in enumerate(colours) if ink == colours[0]]
    assert dark == [4 * i for i in range(10)] and len(colours) == 40


# --- recorded runs --------------------------------------------------------------------------------------------------


def three_seeds(value):
    """Results whose coherences begin at a value."""
    ways = (("hand", "street"), ("street", "hand"))
    return [
        {"seed": n, "metrics": {"test": {"cross_coherence": {a: {b: value + 0.01 * n} for a, b in ways}}}}
        for n in range(3)
    ]


def test_every_recipe_shown_is_in_the_catalogue():
    beside = figures.recipes_beside(*list(figures.SIDE_BY_SIDE)[:3])
    assert {*figures.recipes_shown(), *beside, *figures.recipes_paired_only()} <= set(RECIPES)
    assert len(figures.recipes_paired_only()) == 2 * (3 * 4 + 1)  # at f = 1 the three are one
    assert figures.models()[:4] == ["mvae", "mmvae", "mopoe", "mmjsd"]
    assert figures.recipe("mmvae", "hand", 1) == "hand-street-mmvae-elbo"


def test_where_nothing_is_recorded_the_page_says_so(files):
    assert state(["a", "b"]) == "Recorded: none of 2 recipes yet."
    assert figures.ordering() == (
        "At f = 0.25, one or the other: not recorded yet for two models with three seeds each."
    )
    (line,) = figures.what_partial_rows_do()
    assert line.startswith("Not recorded yet with three seeds: MVAE (steps), MVAE (epochs), MMVAE (steps)")
    assert all(
        "not recorded yet" in [text.get_text() for text in ax.texts]
        for ax in figures.curves("latent accuracy")
    )
    assert (
        "–" in figures.at_share() and figures.gain(("mvae", "split", 0.25), ("meme", "split", 0.25)) is None
    )


def test_sentences_follow_what_is_recorded(files):
    name = figures.recipe
    files[name("mvae", "split", 0.25)] = three_seeds(0.3)
    files[name("mvae", "paired", 0.25)] = three_seeds(0.4)
    files[name("mvae", "paired", 0.25, "-brief")] = three_seeds(0.2)
    files[name("mopoe", "split", 0.25)] = three_seeds(0.5)
    assert figures.ordering().endswith("both directions and all seeds: MoPoE 51 %, MVAE 31 %.")
    lines = {line.split(":")[0]: line for line in figures.what_partial_rows_do()}
    assert "partial rows hurt (-10 to -10 points, n = 3)" in lines["MVAE, as many steps"]
    assert "partial rows help (+10 to +10 points, n = 3)" in lines["MVAE, as many epochs"]
    assert "MoPoE (steps)" in lines["Not recorded yet with three seeds"] and len(lines) == 3
    split = figures.curves("cross-coherence")[2]
    assert sorted(round(float(y), 2) for line in split.lines[:2] for y in line.get_ydata()) == [
        0.3,
        0.31,
        0.31,
        0.32,
    ]


def test_pairs_alone_meet_partial_rows_where_all_rows_are_pairs(files):
    files["hand-street-meme"] = three_seeds(0.8)
    files[figures.recipe("meme", "split", 0.25)] = three_seeds(0.7)
    files[figures.recipe("meme", "paired", 0.25, "-brief")] = three_seeds(0.6)
    ax, empty = figures.paired_only_curves()
    lines = {line.get_label(): line.get_xydata().round(2).tolist() for line in ax.lines}
    assert lines["pairs and partial rows"] == [[0.25, 0.71], [1, 0.81]]
    assert lines["pairs alone, as many epochs"] == [[0.25, 0.61], [1, 0.81]]
    assert lines["pairs alone, as many steps"] == [[1, 0.81]]
    assert ax.get_title() == "MEME" and empty.texts[0].get_text() == "not recorded yet"


def test_every_number_of_pseudo_samples_has_its_recipe_and_its_dot(files):
    for number in (1, 10, 100):
        chosen = RECIPES[figures.pseudo_recipe(number)]
        assert chosen.model_options["pseudo_samples"] == number and chosen.data_options == {"paired": 0.25}
    assert all(ax.texts[0].get_text() == "not recorded yet" for ax in figures.pseudo_samples())
    accuracies = {"latent_accuracy": {name: {"sample": 0.9} for name in ("hand", "street")}}
    runs = three_seeds(0.5)
    for each in runs:
        each["metrics"]["test"] |= accuracies
    files[figures.pseudo_recipe(10)] = runs
    left, right = figures.pseudo_samples()
    assert {line.get_label() for line in left.lines} >= {"to hand", "to street"}
    assert left.lines[0].get_xydata().tolist() == [[10, pytest.approx(0.51)]]
    assert right.lines[0].get_xydata().tolist() == [[10, pytest.approx(0.9)]]


def test_scores_stand_beside_their_share_of_pairs(files):
    def scores(value):
        own = {name: {name: value} for name in ("hand", "street")}
        return [{"seed": n, "metrics": {"test": {"mutual_information": own}}} for n in range(3)]

    files["hand-street-meme"] = scores(0.03)
    files[figures.recipe("meme", "split", 0.125)] = scores(0.05)
    lines = str(figures.information()).splitlines()
    assert "| MEME, street | 3.0 ± 0.0 (3) | – | – | 5.0 ± 0.0 (3) | – |" in lines
    assert "| MMVAE, Gaussian, hand | – | – | – | – | – |" in lines and "f = 1 | f = 0.5" in lines[2]
    assert all(name in RECIPES and RECIPES[name].judges == "processes" for name in figures.BASELINES.values())


def test_claims_of_the_chapter_are_listed():
    known = claims.load()
    for model in ("meme", "mvae"):
        for equal in ("epochs", "steps"):
            assert f"partial-rows-help-{model}-{equal}" in known
    assert "partial-meme-above-mvae" in known


def test_printed_rows_are_those_of_the_ledger():
    text = str(figures.printed("meme-table-3", {"m-to-s": "M to S"}))
    assert "| MEME, one or the other, M to S | 0.625 | 0.625 | 0.503 | 0.467 | 0.387 |" in text
    assert "| MEME, SVHN always, M to S | 0.625 | 0.551 | 0.323 | 0.172 | 0.143 |" in text
