"""What the contrastive chapter says of information and of levels, its figures, and its reading of recorded runs."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from mmlib.book import claims
from mmlib.book.figures import contrast as figures
from mmlib.book.figures import contrast_recorded as tables
from mmlib.book.figures import recorded
from mmlib.lab import LinearGaussian
from mmlib.models.contrastive import anchored_unrelated, contrastive_objective
from mmlib.runs.recipes import RECIPES
from mmlib.summary import summarise
from mmlib.train.history import History

NAMES = ("first", "second")
LAB = LinearGaussian.make(dict(zip(NAMES, (3, 4), strict=True)), 2, noise=0.7, seed=1)


def sampled(n, seed=0):
    return LAB.sample(n, torch.Generator().manual_seed(seed))[1]


def covariance():
    weight = torch.cat([LAB.views[name].weight for name in NAMES])
    return weight @ weight.T + 0.49 * torch.eye(7, dtype=torch.float64)


def information(first, second):
    pairs = {"first": first, "second": second}
    return LAB.log_marginal(pairs) - sum(LAB.log_marginal(pairs, [name]) for name in NAMES)


# --- what it says -----------------------------------------------------------------------------------------------


def test_related_pairs_have_more_information_on_average_and_not_always():
    """The means are the two divergences of joint and product, closed forms of normals; a share of pairs disagrees."""
    n, seen = 20_000, sampled(20_000)
    related = information(seen["first"], seen["second"])
    unrelated = information(seen["first"], seen["second"].roll(1, 0))
    joint = covariance()
    apart = torch.block_diag(joint[:3, :3], joint[3:, 3:])
    log_ratio = torch.logdet(apart) - torch.logdet(joint)
    mutual = 0.5 * log_ratio
    reverse = 0.5 * (torch.linalg.solve(joint, apart).trace() - 7 - log_ratio)
    assert abs(related.mean() - mutual) < 4 * related.std() / math.sqrt(n)
    assert abs(unrelated.mean() + reverse) < 4 * unrelated.std() / math.sqrt(n)
    assert mutual > 0.5 and reverse > 1
    assert 0.75 < (related > unrelated).double().mean() < 0.9


def test_two_differences_of_information_and_likelihood_differ_by_what_an_item_is_worth_alone():
    seen = sampled(50)
    other = {"first": seen["first"], "second": seen["second"].roll(1, 0)}
    by_information = information(*seen.values()) - information(*other.values())
    by_likelihood = LAB.log_marginal(seen) - LAB.log_marginal(other)
    alone = LAB.log_marginal(other, ["second"]) - LAB.log_marginal(seen, ["second"])
    torch.testing.assert_close(by_information, by_likelihood + alone)
    assert ((by_information > 0) != (by_likelihood > 0)).any()  # so that the sign is another for some


def test_the_mean_over_drawn_partners_tends_to_another_number_than_the_marginal():
    """The integral of p(x_2) p(x_1, x_2) is p(x_1) times a normal density, in closed form."""
    n, few = 40_000, sampled(6, seed=3)
    drawn = sampled(n, seed=4)["second"]
    pairs = {"first": few["first"].repeat_interleave(n, 0), "second": drawn.repeat(6, 1)}
    joint = LAB.log_marginal(pairs).view(6, n)
    own = LAB.log_marginal(few, ["first"])
    whole, (b1, b2) = covariance(), (LAB.views[name].bias for name in NAMES)
    gain = torch.linalg.solve(whole[:3, :3], whole[:3, 3:]).T  # of the second given the first
    spread = 2 * whole[3:, 3:] - gain @ whole[:3, 3:]
    limit = own + MultivariateNormal(b2, spread).log_prob(b2 + (few["first"] - b1) @ gain.T)
    relative = (joint - limit[:, None]).exp()
    assert ((relative.mean(1) - 1).abs() < 4 * relative.std(1) / math.sqrt(n)).all()
    away = limit - own
    assert away.max() < -3 and away.std() > 0.1  # not the marginal, and not by one constant


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
def test_a_constant_in_all_likelihoods_is_seen_by_gamma_less_one(gamma):
    log_joint = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    related, everything = log_joint[0, 0], torch.ones(2, 3, 4, dtype=torch.bool)

    def value(constant):
        unrelated = anchored_unrelated(log_joint + constant, everything, everything[:, 0])
        return contrastive_objective(related + constant, unrelated, gamma)

    torch.testing.assert_close(value(-7.0) - value(0.0), torch.full((4,), -7.0 * (gamma - 1)).double())


def test_the_easiest_of_five_has_the_head_start_that_the_exercise_says():
    draws = torch.randn(200_000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for s, expected, near in ((30.0, 1.163 * 30, 0.3), (0.2, math.log(5) + 0.5 * 0.2**2 * 0.8, 0.002)):
        assert abs((s * draws).logsumexp(1).mean() - expected) < near


# --- figures ----------------------------------------------------------------------------------------------------


def test_scores_of_pairs_share_their_bins_and_far_ones_are_seen_at_the_edge():
    related, unrelated = (
        torch.linspace(0, 3, 200),
        torch.cat([torch.linspace(-2, 1, 199), torch.tensor([-1e4])]),
    )
    axes = figures.pair_histograms({"one": (related, unrelated), "two": (related, unrelated)})
    assert [ax.get_title() for ax in axes] == ["one", "two"] and axes[0].get_xlim()[0] > -10
    assert axes[0].get_legend_handles_labels()[1] == ["related", "unrelated"]


def test_estimates_stand_at_their_k_and_the_limit_where_it_is_known():
    ks, lines = [1, 4, 16], {"cI": [-0.3, -0.1, 0.0], "cC": [-0.2, 0.1, 0.2]}
    left, right = figures.estimates_against_k(ks, {"a": lines, "b": lines}, {"b": 0.25})
    assert list(right.lines[1].get_xdata()) == ks and list(right.lines[2].get_ydata()) == lines["cC"]
    assert len(left.lines) == 3 and list(right.lines[3].get_ydata()) == [0.25, 0.25]


def test_passes_have_a_line_for_each_model_in_its_own_look():
    ax = figures.passes_against_n([1, 5], {"MMVAE": [4, 4], "MoPoE": [8, 16], "reference": [12, 44]})
    assert [line.get_label() for line in ax.lines] == ["MMVAE", "MoPoE", "reference"]
    assert len({line.get_color() for line in ax.lines}) == 3 and list(ax.lines[2].get_ydata()) == [12, 44]


def test_terms_in_training_and_their_contrast_stand_below_each_other():
    history = History()
    for step in (10, 20):
        history.add(step, {"related": -100.0 * step, "unrelated": -100.0 * step + 7})
    axes = figures.training_terms({"one": history, "two": history})
    assert axes.shape == (2, 2) and [ax.get_title() for ax in axes[0]] == ["one", "two"]
    np.testing.assert_allclose(axes[1, 0].lines[0].get_ydata(), [7, 7])
    np.testing.assert_allclose(axes[0, 1].lines[0].get_ydata(), [-1000, -2000])


def test_pairs_are_shown_below_their_score():
    grey, colour = torch.full((1, 4, 4), 0.5), torch.full((3, 6, 6), 0.2)
    axes = figures.scored_pairs({"a": (grey, colour), "b": (grey, colour)}, {"a": -3.4, "b": -5.0})
    assert [ax.get_title() for ax in axes[0]] == ["a\n-3", "b\n-5"] and axes[1, 0].images


def test_shares_of_digits_are_bars():
    shares = torch.arange(10) / 45
    (ax, _) = figures.class_counts({"one": shares, "two": shares})
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], shares)


# --- recorded runs ----------------------------------------------------------------------------------------------


def run(seed, value, likelihood=-500.0):
    ways = {a: {b: value} for a, b in (("hand", "street"), ("street", "hand"))}
    probes = {name: {"sample": value} for name in ("hand", "street")}
    report = {
        "cross_coherence": ways, "joint_coherence": value / 2, "latent_accuracy": probes,
        "synergy_coherence": {"hand": value, "street": value}, "log_likelihood": {"joint": likelihood},
    }  # fmt: skip
    return {"seed": seed, "metrics": {"test": report}}


def test_every_recipe_that_is_read_is_of_the_catalogue():
    rows = [tables.recipe(m, kind, n) for m in tables.MODELS for kind in tables.KINDS for n in (100, 20)]
    curve = [tables.recipe("MMVAE", kind, share) for kind in tables.KINDS for share in tables.SHARES]
    sweep = [tables.gamma_recipe(gamma) for gamma in tables.GAMMAS]
    real = [tables.real_recipe(m, kind) for m in tables.MODELS for kind in tables.KINDS]
    assert {*rows, *curve, *sweep, *real} <= set(RECIPES)
    for gamma, name in zip(tables.GAMMAS, sweep, strict=True):
        assert RECIPES[name].model_options.get("gamma", 2.0) == gamma
    for share in tables.SHARES:
        name = tables.recipe("MMVAE", "cC-", share)
        assert RECIPES[name].data_options.get("fraction", 1) == share / 100
        assert RECIPES[name].model_options["contrast"] == "cubo"


def test_what_is_recorded_is_counted(files):
    assert recorded.state(["a", "b"]) == "Recorded: none of 2 recipes yet."
    files["a"] = [run(0, 0.5)]
    assert recorded.state(["a", "b"]).startswith("Recorded: 1 of 2 recipes; the others have a dash")
    files["b"] = files["a"]
    assert recorded.state(["a", "b"]) == "Recorded: 2 of 2 recipes."


def test_a_table_has_the_printed_cells_and_a_dash_or_ours_beside(files):
    files["hand-street-20-ci-mmvae"] = [run(seed, 0.8 + seed / 100) for seed in range(3)]
    lines = str(tables.table_1(20, tables.COHERENCE)).splitlines()
    assert len(lines) == 2 + 2 + 9
    assert (
        lines[5] == "| cI-MMVAE | 86.75 | 81.0 ± 1.0 (3) | 69.51 | 81.0 ± 1.0 (3) | 42.74 | 40.5 ± 0.5 (3) |"
    )
    assert lines[4].startswith("| MMVAE | 76.33 | – | 59.52 | – |")
    assert "| MVAE | 91.65 | – | 64.12 | – | 64.60 | – |" in str(tables.table_1(100, tables.OTHERS))


def test_real_digits_compare_at_equal_time_on_test_and_at_equal_steps_on_validation(files):
    ways = ("cross_coherence/mnist/svhn", "cross_coherence/svhn/mnist")

    def real(seed, steps, value, cpu):
        report = {"cross_coherence": {a: {b: value} for a, b in (("mnist", "svhn"), ("svhn", "mnist"))}}
        history = [{"step": 750, **dict.fromkeys((f"validation/{way}" for way in ways), 0.9)}]
        history += [{"step": 1500, **dict.fromkeys((f"validation/{way}" for way in ways), value / 2)}]
        metrics = {"test": report | {"joint_coherence": 0.1}}
        seconds = {"training_cpu": cpu}
        return {"seed": seed, "steps": steps, "seconds": seconds, "metrics": metrics, "history": history}

    files["svhn10k-mvae"] = [real(0, 6000, 0.4, 60), real(1, 6000, 0.6, 180)]
    lines = str(tables.real_digits()).splitlines()[-9:]
    ours = "50.0 ± 14.1 (2) | 50.0 ± 14.1 (2) | 10.0 ± 0.0 (2) | 25.0 ± 7.1 (2) | 25.0 ± 7.1 (2)"
    assert lines[3] == f"| MVAE | 6,000 | 2 | {ours} |"
    assert lines[4] == "| cI-MVAE | – | – | – | – | – | – | – |"


def test_times_of_steps_are_in_units_of_the_model_alone(monkeypatch):
    rows = [{"step": "A", "ms": 2.0}, {"step": "cI-A, N = 5", "ms": 3.0}, {"step": "B", "ms": 5.0}]
    measured = {"contrast": {"hardware": "a machine", "date": "a day", "rows": rows}}
    monkeypatch.setattr(tables.speed, "read_yaml", lambda path: measured)
    assert "a machine, a day" in str(tables.step_times())
    lines = str(tables.step_times()).splitlines()[-3:]
    assert lines == ["| A | 2.0 | 1.0 |", "| cI-A, N = 5 | 3.0 | 1.5 |", "| B | 5.0 | 1.0 |"]
    del measured["contrast"]
    assert str(tables.step_times()).endswith("| not measured yet | – | – |")


def test_one_recipe_leads_another_where_three_seeds_are_of_both(files, capsys):
    files["a"] = [run(seed, 0.8 + seed / 100) for seed in range(4)]
    files["b"] = [run(seed, 0.7) for seed in (0, 2)]
    assert recorded.lead("a", "b", tables.CROSS) is None
    recorded.check("contrast-cross-20", None)
    assert capsys.readouterr().out.startswith("NOT RECORDED YET  with 20 %")
    files["b"].append(run(3, 0.7))
    ahead = recorded.lead("a", "b", tables.CROSS)
    np.testing.assert_allclose(ahead.values, [0.1, 0.12, 0.13])
    recorded.check("contrast-cross-20", summarise([0.1, 0.1, 0.1]))
    assert capsys.readouterr().out.startswith("PASS  with 20 %")
    with pytest.raises(claims.ClaimError, match="got failed"):
        recorded.check("contrast-cross-20", summarise([-0.1, -0.1, -0.1]))


def test_curves_show_what_is_recorded_and_say_so_where_nothing_is(files):
    for axes in (tables.data_efficiency(), tables.gamma_study()):
        assert all(ax.texts[0].get_text() == "not recorded yet" for ax in axes)
    files["hand-street-10-cc-mmvae"] = [run(0, 0.6), run(1, 0.7)]
    files["hand-street-ci-mmvae"] = files["hand-street-mmvae-iwae"] = [run(0, 0.9)]
    axes = tables.data_efficiency()
    curves = {line.get_label(): line.get_xydata().tolist() for line in axes[0].lines}
    assert curves["cC-MMVAE"] == [[10, pytest.approx(0.65)]] and curves["cI-MMVAE"] == [[100, 0.9]]
    coherence, likelihood = tables.gamma_study()
    assert coherence.lines[0].get_xydata().tolist() == [[2, 0.9]] and not coherence.texts
    assert likelihood.lines[0].get_xydata().tolist() == [[2, -500]]
    assert [list(line.get_ydata()) for line in likelihood.lines if line.get_linestyle() == ":"] == [
        [-500, -500]
    ]


def test_printed_likelihoods_once_exchanged_break_their_ceiling_in_the_joint_of_two_models_alone():
    lines = [line.split(" | ") for line in str(tables.likelihoods()).splitlines()[2:]]
    head, _, *body = lines
    assert len(body) == 10 and "ceiling" in body[-1][0]
    above = {(row[0].strip("| "), head[i]) for row in body for i, entry in enumerate(row) if "!" in entry}
    assert above == {(f"{kind}{model}", "joint") for kind in tables.KINDS for model in ("MVAE", "JMVAE")}
    assert body[0][3] == "-431.7" and body[0][5].startswith("-1618.5")  # printed in each other's row


def test_our_likelihoods_have_a_dash_where_nothing_is_recorded(files):
    body = str(tables.our_likelihoods()).splitlines()[4:]
    assert len(body) == 10 and body[0] == "| MMVAE | – | – | – | – | – |"
    assert body[-1].startswith("| ceiling | -415.2 | -103.8 | -311.4 |")
