"""What the contrastive chapter says of information and of levels, its figures, and its reading of recorded runs."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from mmlib import bounds
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


def two_coins(odds, n=5):
    """The mean contrast where two fair coins fall alike in 60 % of pairs, by the model's odds of unlike to like."""
    ways = [math.comb(n, alike) / 2**n for alike in range(n + 1)]
    drawn = sum(way * math.log(alike + (n - alike) * odds) for alike, way in enumerate(ways))
    return drawn - 0.4 * math.log(odds)  # -log p of the pair itself, like pairs having 1


def test_the_contrast_has_a_minimum_where_every_pair_is_now_and_then_a_related_one():
    least = min(range(10, 3001), key=lambda i: two_coins(i / 1000))
    assert 10 < least < 3000 and two_coins(least / 1000) == pytest.approx(1.584, abs=5e-4)
    assert two_coins(least / 1000) < math.log(5) == pytest.approx(two_coins(1))
    assert two_coins(1e-9) > 5 and two_coins(1e9) > 5  # on either side it grows without end


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_what_is_never_related_can_be_lowered_without_end_at_any_gamma(gamma):
    """Three values, related only to themselves; a share epsilon of the mass is left to all other pairs."""

    def objective(epsilon):
        p = torch.full((3, 3), epsilon / 6).double()
        p.fill_diagonal_((1 - epsilon) / 3)
        value = 0.0
        for own, first, second in itertools.product(range(3), repeat=3):  # two negatives of either modality
            unrelated = (p[own, first] + p[own, second]).log()  # by symmetry either side has the same mean
            value += (gamma * p[own, own].log() - unrelated) / 27
        return value.item()

    values = [objective(10.0**-power) for power in (1, 3, 6, 9)]
    assert values == sorted(values) and values[-1] > values[-2] + 2


def test_cubo_of_weights_that_one_draw_has_is_iwae_and_a_constant():
    log_w = torch.tensor([[0.0, -90.0, -80.0, -70.0], [-60.0, -75.0, -85.0, -95.0]]).double()[..., None]
    assert (bounds.cubo(log_w) - bounds.iwae(log_w)).item() == pytest.approx(math.log(8) / 2)


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
    assert {*rows, *curve, *sweep, *real, *tables.VARIANTS.values()} <= set(RECIPES)
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


def test_runs_that_still_moved_are_counted_for_each_claim(files):
    files["a"] = [
        {"seed": 0, "convergence": {"converged": False}},
        {"seed": 1, "convergence": {"converged": True}},
    ]
    files["b"] = [{"seed": 0, "convergence": {"converged": True}}]
    said = tables.moved({"one": ("a", "b"), "two": ("b", "b"), "three": ("a", "a")})
    assert said == "Runs that still moved, by claim: one 1 of 3, three 2 of 4."
    assert tables.moved({"two": ("b", "b")}).endswith(": none.")


def test_digits_drawn_are_counted_and_their_evenness_compared_seed_by_seed(files):
    def drawing(seed, shares):
        return {"seed": seed, "metrics": {"test": {"classes_generated": {
            name: {"shares": shares} for name in ("hand", "street")}}}}  # fmt: skip

    even, one = [0.1] * 10, [1.0] + [0.0] * 9
    files["hand-street-ci-mmvae"] = [drawing(0, even), drawing(1, even), drawing(2, one)]
    files["hand-street-mmvae-iwae"] = [drawing(0, even), drawing(1, one)]
    assert tables.digits_drawn("hand-street-mmvae-iwae")["hand"].shape == (2, 10)
    assert tables.fewest_digits("hand-street-ci-mmvae") == 1
    assert tables.more_even("MMVAE").values == pytest.approx((0, math.log(10)), abs=1e-6)


def test_variants_have_a_row_each_and_a_dash_where_nothing_is_recorded(files):
    files["hand-street-ci-mopoe"] = [run(seed, 0.8) for seed in range(3)]
    lines = str(tables.variants()).splitlines()[4:]
    assert len(lines) == len(tables.VARIANTS)
    assert lines[5] == "| cI-MoPoE | 80.0 ± 0.0 (3) | 80.0 ± 0.0 (3) | 40.0 ± 0.0 (3) |"
    assert lines[1] == "| the same, filtered | – | – | – |"


def test_times_of_steps_are_in_units_of_the_model_alone(monkeypatch):
    own = ", decodes of their own"
    rows = [
        ("MMVAE", 2.0),
        ("cI-MMVAE, N = 5", 3.0),
        (f"cI-MMVAE, N = 5{own}", 9.0),
        ("cI-MMVAE, N = 64", 4.0),
    ]
    rows = [{"step": step, "ms": ms} for step, ms in rows]
    measured = {"contrast": {"hardware": "a machine", "date": "a day", "rows": rows}}
    monkeypatch.setattr(tables.speed, "read_yaml", lambda path: measured)
    left, right = tables.step_times()
    assert left.get_title() == "a machine, a day"
    assert [line.get_xydata().tolist() for line in left.lines[:2]] == [[[5, 3], [64, 4]], [[5, 9]]]
    assert list(left.lines[2].get_ydata()) == [2, 2]
    assert [bar.get_width() for bar in right.patches] == [1.5]
    del measured["contrast"]
    assert tables.step_times()[0].texts[0].get_text() == "not measured yet"


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
    coherence, probes, likelihood = tables.gamma_study()
    assert [line.get_label() for line in probes.lines if len(line.get_xdata()) == 1][:1] == ["probe, hand"]
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
