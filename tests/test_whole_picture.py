"""The table of all models: every model and number, what differs, and what is recorded later."""

import dataclasses
import json

import pytest
from quick_runs import TINY
from scipy.stats import ttest_ind

from mmlib import __main__ as command_line
from mmlib.book import queue
from mmlib.book import whole_picture as picture
from mmlib.book import whole_picture_text as shown
from mmlib.models import MODELS
from mmlib.runs.catalogue.settings import KNOBS
from mmlib.runs.recipe import PROSE, Recipe
from mmlib.runs.recipes import RECIPES
from mmlib.summary import summarise

sets = pytest.mark.parametrize("data", picture.MODALITIES)


def run_of(recipe, seed, coherence, cpu=40.0, **more):
    """What is recorded of a run, as far as the table reads it."""
    steps = recipe.steps
    ways = {"hand": {"street": {"value": coherence, "se": 0.01}}, "street": {"hand": {"value": coherence}}}
    metrics = {"cross_coherence": ways, **more}
    history = [
        {
            "step": steps * part // 4,
            **{f"validation/{p}": coherence * part / 4 for p in picture.cross("hand-street")},
        }
        for part in (1, 2, 3, 4)
    ]
    return {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "steps": steps,
        "metrics": {"test": metrics, "validation": metrics},
        "history": history,
        "parameters": 1234,
        "seconds": {"training_cpu": cpu},
        "convergence": {"converged": seed > 0},
        "provenance": {"hardware": "abacus", "packages": {"torch": "2"}, "commit": "c0ffee", "threads": 1},
    }


@pytest.fixture
def two(files):
    """Two models, one of which costs twice as much."""
    for name, cpu, numbers in (("mvae", 40.0, (0.4, 0.5, 0.6)), ("mopoe", 80.0, (0.8, 0.8, 0.8))):
        recipe = RECIPES[f"hand-street-{name}"]
        files[recipe.name] = [run_of(recipe, seed, x, cpu) for seed, x in enumerate(numbers)]
    return files


def row(label, data="hand-street"):
    return next(row for row in picture.rows(data) if row.label == label)


# --- rows -----------------------------------------------------------------------------------------------------------


def test_every_model_of_the_library_has_a_row():
    assert set(picture.ENDINGS) == set(MODELS)
    for data in picture.MODALITIES:
        assert {row.model for row in picture.rows(data)} == set(MODELS)
    assert all(row.recipe for row in picture.rows("hand-street"))
    with pytest.raises(ValueError, match="data is 'faces'; expected"):
        picture.rows("faces")


@sets
def test_rows_are_of_their_model_and_see_all_the_data(data):
    for row in picture.rows(data):
        if row.recipe:
            assert row.recipe.model == row.model and row.recipe.name == f"{data}-{row.label}"
            assert not {"fraction", "paired", "always"} & row.recipe.data_options.keys()


def test_what_is_recorded_later_appears_by_itself(files):
    assert row("meme").state() == "not recorded" and not row("meme").metrics
    recipe = RECIPES["hand-street-meme"]
    files[recipe.name] = [run_of(recipe, seed, 0.9, joint_coherence=0.25) for seed in (0, 2)]
    found = row("meme")
    assert found.state() == "seeds 0, 2; converged: 1"
    assert found.metrics["joint_coherence"] == summarise([0.25, 0.25])
    text = shown.table()
    assert "Recorded: 1 of 19 rows" in text and "90.0 [90.0, 90.0] (2)" in text
    assert "telbo" in text and "not recorded" in text
    other = next(r for r in picture.rows("hand-street-text") if r.label == "mmali")
    assert other.state() == "no recipe"


def test_numbers_are_of_the_seeds_that_have_them(two):
    runs = two["hand-street-mvae"]
    runs[2]["metrics"]["test"]["generation_quality"] = {"hand": {"mean": 0.3}}
    found = row("mvae")
    assert found.metrics["cross_coherence/hand/street"].values == (0.4, 0.5, 0.6)
    quality = found.metrics["generation_quality/hand/mean"]
    assert (quality.n, quality.mean, quality.low) == (1, 0.3, None)
    assert found.mean(picture.cross("hand-street")).mean == pytest.approx(0.5)
    assert found.mean(["joint_coherence"]) is None
    assert (found.seconds().mean, found.milliseconds().mean) == (40.0, 10.0)


def test_what_says_how_a_metric_was_measured_is_none(two):
    told = {"k": 1000, "joint": {"value": -5.0, "n": 200}}
    two["hand-street-mvae"][0]["metrics"]["test"] |= {"log_likelihood": told, "rows": 2000}
    assert {"log_likelihood/joint"} == {path for path in row("mvae").metrics if "cross" not in path}


# --- what differs ---------------------------------------------------------------------------------------------------


@sets
def test_nothing_in_which_two_rows_differ_is_left_out(data):
    table = {row.label: picture.settings(row.recipe) for row in picture.rows(data) if row.recipe}
    usual, own = picture.differences(table)
    for label, found in table.items():
        assert {**usual, **own[label]} == found
    assert "model" not in usual and all("model" in said for said in own.values())


def test_every_field_that_decides_a_number_is_a_setting():
    before = picture.settings(TINY)
    other = {
        "model": "mvae", "dataset": "x", "steps": 99, "networks": "cub", "latent_dim": 5, "width": 0.3,
        "likelihood": "normal", "likelihood_scale": 0.1, "weights": None, "batch_size": 5, "schedule": "alternating",
        "learning_rate": 0.5, "betas": (0.1, 0.2), "eps": 1e-3, "amsgrad": True, "clip_norm": 1.0, "clip_value": 1.0,
        "ema": 0.5, "ema_start": 1, "ema_ramp": True, "minibatches": 2, "propagation": {"from": "x"},
        "judges": "processes", "likelihood_rows": 1, "likelihood_k": 1, "validations": 8, "model_options": {"k": 7},
        "data_options": {"fraction": 0.1},
    }  # fmt: skip
    assert {*other, *PROSE} == {field.name for field in dataclasses.fields(Recipe)}
    for field, value in other.items():
        assert picture.settings(dataclasses.replace(TINY, **{field: value})) != before, field
    for field in PROSE:
        assert (
            picture.settings(dataclasses.replace(TINY, **{field: True if field == "faithful" else "other"}))
            == before
        )


def test_an_option_that_a_recipe_leaves_out_is_said_too():
    """MMVAE's posterior is a Laplace unless a recipe says otherwise, and those of other models are not."""
    assert picture.settings(RECIPES["hand-street-mmvae-elbo"])["model.posterior"] == "laplace"
    assert picture.settings(RECIPES["hand-street-text-mmvae"])["model.posterior"] == "normal"
    assert picture.settings(RECIPES["hand-street-meme"])["model.alpha"] == "10"


def test_usual_is_what_more_than_half_have():
    table = {"a": {"x": "1", "y": "1"}, "b": {"x": "1", "y": "2"}, "c": {"x": "2", "y": "3", "z": "0"}}
    usual, own = picture.differences(table)
    assert usual == {"x": "1"}
    assert own == {"a": {"y": "1"}, "b": {"y": "2"}, "c": {"x": "2", "y": "3", "z": "0"}}


def test_machines_stand_beside_the_rows(two):
    two["hand-street-mvae"][0]["provenance"]["hardware"] = "slide rule"
    made = picture.origin(two["hand-street-mvae"])
    assert made == {"hardware": "abacus or slide rule", "torch": "2", "portable": "False", "threads": "1"}
    assert "hardware abacus or slide rule" in " ".join(shown.table().split())


# --- costs ----------------------------------------------------------------------------------------------------------


def test_at_equal_seconds_the_last_evaluation_within_them_counts(two, monkeypatch):
    monkeypatch.setattr(picture, "bench", lambda: ({}, ""))  # no step is timed: seconds are those of the runs
    limit, found = picture.at_equal_seconds(picture.rows("hand-street"))
    assert limit == 40.0
    assert found["mvae"].values == (0.4, 0.5, 0.6)  # all of its steps
    assert found["mopoe"].values == (0.4, 0.4, 0.4)  # the second of four evaluations
    two["hand-street-mopoe"][1]["seconds"]["training_cpu"] = 400.0  # not evaluated by then
    assert "mopoe" not in picture.at_equal_seconds(picture.rows("hand-street"))[1]


def test_without_a_record_nothing_is_equal(files):
    assert picture.at_equal_seconds(picture.rows("svhn10k"))[1] == {}


# --- what intervals allow to say ------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_is_welchs():
    a, b = [0.1, 0.4, 0.35, 0.2], [0.6, 0.5, 0.9]
    expected = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert picture.difference(summarise(a), summarise(b)) == pytest.approx(tuple(expected))
    assert picture.difference(summarise([1.0, 1.0]), summarise([0.5, 0.5])) == (0.5, 0.5)
    with pytest.raises(ValueError, match="expected two seeds"):
        picture.difference(summarise([1.0]), summarise(b))


def test_who_leads_and_who_is_not_told_apart():
    found = {
        "far": summarise([0.1, 0.11, 0.12]),
        "first": summarise([0.9, 0.92, 0.94]),
        "near": summarise([0.88, 0.93, 0.9]),
        "few": summarise([0.99, 0.99]),
        "none": None,
    }
    assert picture.leaders(found) == ("first", ["near"], ["few"])
    assert picture.leaders(found, low=True) == ("far", [], ["few"])
    assert picture.leaders({"few": found["few"], "none": None}) == ("", [], ["few"])


def test_on_an_idle_core_all_runs_of_a_row_have_one_pace(two, monkeypatch):
    known = [row("mvae"), row("mopoe")]
    two["hand-street-mopoe"][1]["seconds"]["training_cpu"] = 400.0  # of a slow machine
    rows = [{"recipe": "hand-street-mvae", "ms": 5.0}]
    monkeypatch.setattr(picture.speed, "measured", lambda table: (rows, "here"))
    assert picture.idle(known) == {}  # not of all
    assert picture.seconds(known)["mopoe"].mean == pytest.approx(560 / 3)
    rows.append({"recipe": "hand-street-mopoe", "ms": 15.0})
    assert picture.idle(known) == {"mvae": 5.0, "mopoe": 15.0}
    limit, found = picture.at_equal_seconds(known)
    assert limit == pytest.approx(20) and picture.seconds(known)["mopoe"].mean == pytest.approx(60)
    assert found["mopoe"].values == pytest.approx((0.2, 0.2, 0.2))  # the first of four evaluations


def test_what_no_run_has_is_read_from_the_same_training_measured_again(two):
    name = "hand-street-mopoe-judged"
    more = {"generation_quality": {"hand": {"precision": 0.3}}}
    two[name] = [run_of(RECIPES[name], 0, 0.1, **more)]
    found = row("mopoe")
    assert found.mean(["generation_quality/hand/precision"]).values == (0.3,)
    assert found.metrics["generation_quality/hand/precision"].n == 1
    assert found.metrics["cross_coherence/hand/street"].values == (0.8, 0.8, 0.8)
    for label in ("jmvae", "telbo", "mopoe", "mmjsd"):
        same = [RECIPES[f"hand-street-{label}{ending}"] for ending in ("", "-judged")]
        other = [picture.settings(each) for each in same]
        assert {key for key in other[0] if other[0][key] != other[1][key]} == {"judges"}


# --- what validation chooses ----------------------------------------------------------------------------------------


def test_a_grid_changes_one_setting_of_every_model_and_all_of_it_is_wanted():
    grids = {row.label: picture.tried(row) for row in picture.rows("hand-street")}
    grids = {label: found for label, found in grids.items() if found}
    rated = [label for label, found in grids.items() if any(setting.startswith("lr ") for setting in found)]
    assert {RECIPES[f"hand-street-{label}"].model for label in rated} == set(MODELS) and len(rated) == 13
    assert set(KNOBS) <= set(grids) and {RECIPES[f"hand-street-{label}"].model for label in KNOBS} == set(
        MODELS
    )
    wanted = {recipe.name: seeds for _, recipe, seeds in queue.load()}
    for label, found in grids.items():
        base = picture.settings(RECIPES[f"hand-street-{label}"])
        assert len(found) == 1 + 2 * (label in rated) + 2 * (label in KNOBS)
        for setting, each in found.items():
            other = picture.settings(each.recipe)
            changed = {key: other[key] for key in other if other[key] != base.get(key)}
            if setting == picture.AS_IT_IS:
                assert not changed
            else:
                option, value = setting.split()
                key = "learning_rate" if option == "lr" else f"model.{option}"
                changed.pop("judges", None)  # who look on, and change no coherence
                assert changed == {key: value} and wanted[each.recipe.name] == [0, 1, 2]
    assert not any(picture.tried(row) for row in picture.rows("svhn10k"))


def test_settings_are_chosen_on_validation_and_only_where_all_are_recorded(two):
    assert "Chosen on validation: none; every row has its default settings." in picture.grid_state()
    assert picture.with_chosen([row("mvae")]) == [row("mvae")]
    for setting, number in (("lr-0.001", 0.55), ("lr-0.004", 0.2), ("beta-0.5", 0.7), ("beta-2", 0.1)):
        assert picture.chosen(row("mvae")) is None
        recipe = RECIPES[f"hand-street-mvae-{setting}"]
        two[recipe.name] = [run_of(recipe, seed, number) for seed in range(3)]
    for runs in two.values():
        for run in runs:
            run["metrics"]["test"] = {}  # by which nothing is chosen
    assert picture.chosen(row("mvae")) == "beta 0.5"
    assert picture.grid_state().endswith("Chosen on validation: mvae (beta 0.5).")
    assert "others: mmali (0.001), mmali-shared (0.001)." in picture.grid_state()
    assert "no grid" in picture.grid_state("svhn10k")
    same, other = picture.with_chosen([row("mvae")])
    assert same.label == "mvae" and (other.label, other.recipe.name) == (
        "mvae, beta 0.5",
        "hand-street-mvae-beta-0.5",
    )


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["text", "markdown"])
def test_every_recorded_number_is_printed(style):
    text = shown.table(style)
    for data in picture.MODALITIES:
        for row in picture.rows(data):
            assert row.label in text
            for path, found in row.metrics.items():
                group = path.split("/")[0]
                digits = 2 if group == "posterior_scales" else 1
                assert picture.interval(found, shown.UNITS.get(group, 100.0), digits) in text, (
                    row.label,
                    path,
                )
    if style == "text":
        assert max(map(len, text.splitlines())) <= 120
    with pytest.raises(ValueError, match="style is 'html'"):
        shown.table("html")


def test_a_cell_is_mean_interval_and_seeds():
    assert (
        picture.interval(summarise([0.5, 0.6, 0.7])) == "60.0 [35.2, 84.8] (3)"
    )  # 10 * 4.3027 / sqrt(3) = 24.8
    assert (picture.interval(summarise([-3.0]), 1.0), picture.interval(None)) == ("-3.0 (1)", "")


def test_the_command_prints_it(capsys):
    assert command_line.main(["table", "whole-picture"]) == 0
    assert capsys.readouterr().out.startswith(
        "whole-picture: every model of the library, hand-street, test split"
    )
    assert command_line.main(["table", "whole-picture", "--markdown"]) == 0
    assert "\n| mvae |" in capsys.readouterr().out
    assert command_line.main(["table", "whole-picture", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(picture.MODALITIES)
    one = found["hand-street"]["mvae"]
    assert one["hash"] == RECIPES["hand-street-mvae"].hash and one["settings"]["steps"] == "4000"
    assert one["metrics"]["joint_coherence"]["n"] == len(one["seeds"]) and one["commits"]
