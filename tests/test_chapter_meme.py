"""What the chapter on MEME says of a direction, its figures, and its reading of recorded runs."""

import math

import numpy as np
import pytest
import torch

from mmlib.book.figures import meme as figures
from mmlib.distributions import Diagonal, kl_divergence
from mmlib.lab import LinearGaussian, modalities
from mmlib.models import MEME
from mmlib.models.meme import log_predictive
from mmlib.runs.recipes import RECIPES

LAB = LinearGaussian.make({"hand": 3, "street": 4}, 2, noise=0.8, seed=1)


def batch(n=5):
    return LAB.sample(n, torch.Generator().manual_seed(0))[1]


# --- what it says -----------------------------------------------------------------------------------------------


def test_the_weight_turns_one_posterior_into_that_of_both():
    seen = batch()
    q = LAB.diagonal_posterior(seen, ["hand"])
    z = q.rsample(7, torch.Generator().manual_seed(1))
    log_weight = LAB.views["street"].log_prob(seen["street"], z) - LAB.log_marginal(seen, ["street"], prior=q)
    torch.testing.assert_close(
        log_weight + q.log_prob(z), LAB.diagonal_posterior(seen).log_prob(z), atol=1e-9, rtol=0
    )


def test_the_kl_times_a_weight_of_mean_one_is_not_the_weighted_log_ratio():
    """q(z | s) = N(0, 1), q(t | z) = N(z, 1), t = 0, q(z | t) = N(0, 1.5^2): codes weighted are N(0, 1/2)."""
    unit, wide, half = (
        Diagonal(torch.zeros(1), torch.full((1,), scale)) for scale in (1.0, 1.5, math.sqrt(0.5))
    )
    weighted = kl_divergence(half, wide) - kl_divergence(half, unit)
    assert float(weighted) == pytest.approx(0.267, abs=1e-3)
    assert float(kl_divergence(unit, wide)) == pytest.approx(0.128, abs=1e-3)


def test_one_way_is_one_direction_of_the_two():
    torch.manual_seed(0)
    parts, seen = modalities(LAB, shift=0.1, widen=1.3), batch()
    both = MEME(parts, 2, k=3).double()
    _, found = both.loss(seen, generator=torch.Generator().manual_seed(0))
    alone = figures.OneWay(parts, 2, k=3).double()
    alone.source = "hand"  # its draws come first
    _, first = alone.loss(seen, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(first["cross.street"], found["cross.street"])
    assert "cross.hand" not in first and "log_likelihood.street" not in first
    alone.source = "street"
    _, second = alone.loss(seen)
    assert set(second) == {"objective", "kl", "weight", "cross.hand", "log_likelihood.street"}


def test_one_way_is_a_copy_with_other_settings():
    torch.manual_seed(0)
    both = MEME(modalities(LAB), 2, k=3).double()
    alone = figures.one_way(both, "hand", alpha=1.0)
    assert (alone.source, alone.alpha, both.alpha, type(both)) == ("hand", 1.0, 10.0, MEME)
    assert all(a is not b for a, b in zip(alone.parameters(), both.parameters(), strict=True))
    assert "cross.hand" not in alone.loss(batch())[1]


def test_a_flip_is_the_integral_over_the_other_encoder_and_the_term_that_alpha_weighs():
    """log of the integral of p(s | z) q(z | t), exact for linear decoders; encoders are off, draws are many."""
    torch.manual_seed(0)
    model, seen = MEME(modalities(LAB, shift=0.2, widen=1.2), 2).double(), batch(4)
    for s, t in (("hand", "street"), ("street", "hand")):
        with torch.no_grad():
            prior = model.encode(t, seen[t])
            exact = LAB.log_marginal(seen, [s], prior=prior)
            found = figures.log_conditional(model, seen, s, t, 40_000, torch.Generator().manual_seed(0))
            z = prior.rsample(40_000, torch.Generator().manual_seed(1))
            weighed = log_predictive(model.log_likelihood(s, z, seen[s], torch.ones(4, dtype=torch.bool)))
        torch.testing.assert_close(found, exact, atol=0.03, rtol=0)
        torch.testing.assert_close(weighed, exact, atol=0.15, rtol=0)
        flipped = figures.flips([model, model], seen, draws=4000)[s]
        assert flipped.n == 2 and flipped.mean == pytest.approx(float(exact.mean()), abs=0.1)


def test_slant_ink_and_hue_are_those_of_a_drawn_line():
    y = torch.arange(16.0)
    x = 7.5 + 0.5 * (y - 7.5)  # half a column a row
    line = (1 - (torch.arange(16.0) - x[:, None]).abs()).clamp(min=0)[None, None]
    street = torch.tensor([0.5, 0.2, 0.2]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    facts = figures.private({"hand": line, "street": street})
    assert float(facts["slant of hand"][1]) == pytest.approx(0.5, abs=0.02)
    assert float(facts["ink of hand"][1]) == pytest.approx(float(line.sum()))
    assert float(facts["brightness of street"][1]) == pytest.approx(0.3)
    torch.testing.assert_close(facts["hue of street"][1], torch.tensor([[0.2, -0.1, -0.1]]))
    assert {name for name, _ in facts.values()} == {"hand", "street"}


def test_what_is_explained_is_measured_on_rows_that_the_regression_has_not_seen():
    draw = torch.Generator().manual_seed(0)
    codes, noise = (torch.randn(4000, 3, generator=draw) for _ in range(2))
    assert figures.explained(codes, codes @ torch.randn(3, 2, generator=draw) + 1) == pytest.approx(1)
    assert figures.explained(codes, codes + noise) == pytest.approx(0.5, abs=0.05)
    assert figures.explained(codes[:40], noise[:40]) < 0.1


# --- figures ----------------------------------------------------------------------------------------------------


def test_a_weight_is_drawn_beside_the_densities_that_it_connects():
    z = torch.linspace(-1, 1, 5)
    left, right = figures.reweighted(z, {"a": z, "b": 2 * z, "c": 3 * z}, z + 1, ("hand", "street"))
    assert [line.get_label() for line in left.lines] == ["a", "b", "c"]
    np.testing.assert_allclose(right.lines[0].get_ydata(), z + 1)


def test_bounds_and_signals_are_lines():
    ax = figures.bound_against_codes([1, 4], {"one": [-1, -0.5], "two": [-2, -1]})
    assert ax.lines[0].get_ydata().tolist() == [-1, -0.5] and ax.lines[1].get_label() == "two"
    axes = figures.what_is_left(
        {"decoder": {"mean": (1.0, 1.0)}, "encoder": {"sum": (1.0, 0.25)}}, (0.0, 1.0, 2.0)
    )
    np.testing.assert_allclose(axes[0].lines[-1].get_ydata(), [-1, 0, 1])
    np.testing.assert_allclose(axes[1].lines[-1].get_ydata(), [-0.25, 0.75, 1.75])


def test_signal_to_noise_is_a_mean_over_its_spread():
    draws = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))

    def gradients(stop, seed):
        return {"encoder": torch.cat([2.0 + draws[seed], torch.zeros(1)]) if stop else 1.0 + draws[seed]}

    ((name, (cut, whole)),) = figures.signal_to_noise(gradients, 2000).items()
    assert name == "encoder" and cut == pytest.approx(2, abs=0.1) and whole == pytest.approx(1, abs=0.1)


# --- recorded runs ----------------------------------------------------------------------------------------------


def run(seed, value):
    names = ("hand", "street", "text")
    ways = {a: dict.fromkeys(names, value) for a in names}
    probes = {name: {"sample": value, "mean": value} for name in names}
    pairs = {f"{a},{b}": dict.fromkeys(names, value) for a in names for b in names}
    report = {
        "cross_coherence": ways, "joint_coherence": value / 2, "latent_accuracy": probes, "subset_coherence": pairs,
    }  # fmt: skip
    return {"seed": seed, "metrics": {"test": report}}


def test_every_coefficient_has_its_recipe():
    for alpha in (1, 2, 5, 10):
        chosen = RECIPES[figures.recipe(alpha)]
        assert chosen.model == "meme" and chosen.model_options["alpha"] == alpha


def test_tables_have_a_dash_where_nothing_is_recorded(files):
    assert str(figures.compared({"ours": "a"})).endswith("| ours | – | – | – | – | – |")
    files["a"] = [run(seed, 0.8) for seed in range(2)]
    line = str(figures.compared({"ours": "a"})).splitlines()[-1]
    assert (
        line
        == "| ours | 80.0 ± 0.0 (2) | 80.0 ± 0.0 (2) | 40.0 ± 0.0 (2) | 80.0 ± 0.0 (2) | 80.0 ± 0.0 (2) |"
    )
    files["hand-street-text-meme-product"] = files["a"]
    lines = str(figures.three_modalities()).splitlines()
    assert (
        "| MEME, product of the others | 80.0 ± 0.0 (2) | 80.0 ± 0.0 (2) | 40.0 ± 0.0 (2) | 80.0 ± 0.0 (2) |"
        in lines
    )
    assert "| MEME, mixture of the others | – | – | – | – |" in lines


def test_leads_of_three_modalities_are_intervals_or_dashes(files):
    files["hand-street-text-meme-mixture"] = [run(seed, 0.8 + 0.01 * seed) for seed in range(3)]
    files["hand-street-text-mopoe"] = [run(seed, 0.7) for seed in range(3)]
    lines = str(figures.three_leads()).splitlines()
    assert "| MEME, mixture of the others, less mmJSD | – | – | – | – |" in lines
    found = next(line for line in lines if line.startswith("| MEME, mixture of the others, less MoPoE"))
    assert "| +8.5 to +13.5 |" in found  # 11 points, sd 1, t = 4.30 of 2 degrees of freedom
    assert figures.three_lead("meme-product", "mopoe", "one to another") is None
    assert figures.three_lead("meme-mixture", "mopoe", "joint, all agree").mean == pytest.approx(0.055)


def test_every_run_of_three_modalities_is_in_the_catalogue():
    assert {f"hand-street-text-{run}" for run in figures.THREE_RUNS.values()} <= set(RECIPES)


def test_the_coefficients_that_are_recorded_are_named(files):
    assert figures.coefficients_recorded().endswith("where three seeds are recorded: none.")
    files["hand-street-meme-alpha-2"] = [run(seed, 0.8) for seed in range(3)]
    files["hand-street-meme"] = [run(seed, 0.9) for seed in range(2)]
    assert figures.coefficients_recorded().endswith("where three seeds are recorded: 2: 80 %.")


def test_a_level_wants_three_seeds(files):
    files["a"] = [run(seed, 0.8) for seed in range(2)]
    assert figures.level("a", "joint_coherence") is None and figures.level("b", "joint_coherence") is None
    files["a"].append(run(2, 0.8))
    assert figures.level("a", "joint_coherence").mean == pytest.approx(0.4)


def test_the_sweep_shows_what_is_recorded_and_says_so_where_nothing_is(files):
    assert all(ax.texts[0].get_text() == "not recorded yet" for ax in figures.coefficients())
    files["hand-street-meme-alpha-2"] = [run(0, 0.6), run(1, 0.8)]
    files["hand-street-meme"] = [run(0, 0.9)]
    coherent, _ = figures.coefficients()
    curves = {line.get_label(): line.get_xydata().tolist() for line in coherent.lines}
    assert curves["hand to street"] == [[2, pytest.approx(0.7)], [10, 0.9]]
    assert not coherent.texts
