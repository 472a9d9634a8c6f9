"""Adversarial models as recipes and runs: the same promises as for any other, kept by two optimisers."""

import dataclasses
import json

import pytest
import torch
from quick_runs import judges

from mmlib.book import ledger, queue
from mmlib.runs import build, recipes, results, runner, trained
from mmlib.runs.folder import RunFolder
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import RECIPES
from mmlib.runs.training import average, kind_of
from mmlib.train import Paused, fit_adversarial, load_weights

TINY = Recipe(
    name="tiny-mmali",
    model="mmali",
    dataset="multi-hand",
    source="a test",
    steps=16,
    model_options={"style_dim": 2, "layers": "small", "width": 0.1, "multiplier": 2.0},
    data_options={"dm": 1},
    latent_dim=5,
    width=0.02,
    batch_size=8,
    betas=(0.5, 0.999),
    ema=0.9,
    ema_start=2,
    ema_ramp=True,
    minibatches=2,
    validations=4,
)
UNPAIRED = dataclasses.replace(
    TINY, name="tiny-unpaired", data_options={"dm": 1, "fraction": 0.2, "rest": "unpaired"}, minibatches=1
)
MMALI = [name for name, recipe in RECIPES.items() if recipe.model == "mmali"]


pytestmark = pytest.mark.filterwarnings("ignore:the model has collapsed")  # sixteen steps show one class


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Judges that need not be good, and few rows to measure."""
    from mmlib import metrics
    from mmlib.runs import training

    evaluate, codes = metrics.evaluate, metrics.style_content_accuracy
    few = {"max_rows": 60, "probe_rows": 100}
    monkeypatch.setattr(build, "build_classifiers", judges)
    monkeypatch.setattr(metrics, "evaluate", lambda *given: evaluate(*given, **few, samples=100))
    monkeypatch.setattr(training, "style_content_accuracy", lambda *given: codes(*given, **few))


def discriminator_size(name):
    recipe = RECIPES[name]
    shape = {"multi-hand": (1, 8, 8), "multi-mnist": (1, 28, 28)}[recipe.dataset]
    shapes = {str(k): shape for k in range(recipe.data_options["modalities"])}
    model = build.build_model(recipe, shapes, 0)
    return sum(weight.numel() for weight in model.discriminator.parameters())


# --- recipes --------------------------------------------------------------------------------------------------------


def test_a_recipe_says_all_of_the_model():
    model = build.build_model(TINY, {"hand0": (1, 8, 8), "hand90": (1, 8, 8)}, 0)
    assert (model.style_dim, model.content_dim, model.latent_dim) == (2, 3, 5)
    assert model.discriminator.posterior["hand0"](
        torch.rand(1, 3, 1, 8, 8), torch.rand(1, 3, 5), [0]
    ).shape == (1, 3, 1)
    wide = dataclasses.replace(TINY, model_options={**TINY.model_options, "width": 0.2})
    assert build.build_model(wide, {"hand0": (1, 8, 8)}, 0).discriminator is not None
    plain = dataclasses.replace(TINY, model_options={"layers": "small"})
    assert build.build_model(plain, {"hand0": (1, 8, 8)}, 0).content_dim == 5


def test_the_rivals_are_equal_in_what_they_are_said_to_be():
    factorised, joint = RECIPES["multi-hand-mmali-factorised"], RECIPES["multi-hand-mmali-joint-matched-fair"]
    sizes = discriminator_size(factorised.name), discriminator_size(joint.name)
    assert sizes == (110_213, 110_841)
    own, rival = (recipe.model_options["multiplier"] for recipe in (factorised, joint))
    assert own**4 + 3 * own**2 == pytest.approx(2**0.5 * rival**4, rel=0.01)  # as steep
    for name in MMALI:
        if name.startswith("multi-hand-mmali") and "-20" not in name:
            same = {
                "name": factorised.name,
                "model_options": factorised.model_options,
                "steps": factorised.steps,
            }
            assert (RECIPES[name].steps != factorised.steps) == name.endswith("-long")
            other = dataclasses.replace(RECIPES[name], **same)
            assert other.hash == factorised.hash  # the discriminator is all that differs
    pairs = [RECIPES[f"multi-hand-mmali-20{suffix}"] for suffix in ("", "-unpaired-64", "-unpaired-576")]
    alone, *both = [build.build_data(recipe).train for recipe in pairs]
    for recipe, split in zip(pairs[1:], both, strict=True):
        whole = torch.stack(list(split.observed.values())).all(0)
        assert int(whole.sum()) == len(alone)
        if recipe.batch_size == 576:
            assert recipe.batch_size * float(whole.double().mean()) == pytest.approx(64, rel=0.01)


def test_faithful_recipes_have_the_paper_s_budget():
    faithful = [RECIPES[name] for name in MMALI if RECIPES[name].faithful]
    assert len(faithful) == 8
    for recipe in faithful:
        assert (recipe.steps, recipe.batch_size, recipe.learning_rate) == (250_000, 64, 2e-4)
        assert (recipe.ema, recipe.ema_start, recipe.ema_ramp) == (0.9999, 50_001, False)
        assert recipe.model_options["power_iterations"] == "released"
        assert recipe.width == 1.0 and "layers" not in recipe.model_options
        assert recipe.minibatches == (1 if recipe.model_options.get("discriminator") == "joint" else 2)
    # those of the released code, see tests/test_mmali.py
    assert discriminator_size("multi-mnist-2-mmali-joint") == 2_788_499
    assert discriminator_size("multi-mnist-2-mmali-factorised") == 3_700_457


def test_every_recipe_is_queued_and_the_ledger_asks_for_known_ones():
    queued = {recipe.name for _, recipe, _ in queue.load()}
    assert set(MMALI) <= queued
    found = ledger.read()
    for table in ("mmali-table-1", "mmali-table-2", "mmali-table-3"):
        exhibit = found.exhibits[table]
        rows = [row for row in exhibit.rows.values() if row.model in ("mmali", "mmali-joint")]
        for row in rows:
            for column in exhibit.columns:
                first = RECIPES[row.recipes_for(column)[0]]
                assert first.faithful and exhibit.columns[column].metric_for(row.id) is not None


# --- runs -----------------------------------------------------------------------------------------------------------


def test_run_is_made_once_and_a_paused_one_continues_to_the_same_bits(tmp_path, cache, monkeypatch):
    options = {"progress": False, "cache": cache, "checkpoint_every": 3}
    path = runner.run(TINY, 0, tmp_path / "a", **options)
    folder = RunFolder(TINY, 0, tmp_path / "a")
    result = results.verify(path)
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "classes/hand0" in row] == [4, 8, 12, 16]
    assert {"discriminator/loss", "generator/loss"} <= set(rows[-1])
    assert not any("validation/loss" in row for row in rows)
    for name in ("hand0", "hand90"):
        for view in ("content", "style", "both"):
            assert 0 <= results.value(result, f"test/style_content_accuracy/{name}/{view}/sample") <= 1
            assert 0 <= results.value(result, f"validation/style_content_accuracy/{name}/{view}/mean") <= 1
        assert results.value(result, f"test/posterior_scales/{name}/content") > 0
    assert 0 <= results.value(result, "test/released_coherence/joint_coherence") <= 1
    assert 0 <= results.value(result, "validation/released_coherence/cross_coherence/hand0/hand90") <= 1
    assert result["metrics"]["test"]["log_likelihood"].startswith("none")
    assert not any("log_likelihood" in name for name, _ in results.flatten(result["metrics"]))
    assert result["convergence"]["moved"] is not None
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_make", lambda *_: pytest.fail("ran a finished run again"))
        assert runner.run(TINY, 0, tmp_path / "a", **options) == path

    # paused on the way
    calls = iter(range(100))
    with pytest.raises(Paused):
        runner.run(TINY, 0, tmp_path / "b", stop=lambda: next(calls) == 10, **options)
    other = RunFolder(TINY, 0, tmp_path / "b")
    live = [json.loads(line) for line in other.metrics.read_text().splitlines()]
    assert [row["step"] for row in live] == [4, 8] and "classes/jointly" in live[0]
    assert other.step() == 11
    runner.run(TINY, 0, tmp_path / "b", **options)
    assert other.weights.read_bytes() == folder.weights.read_bytes()
    continued = results.verify(other.result)
    for key in ("metrics", "history", "convergence"):
        assert continued[key] == result[key]

    # what is kept are the averaged encoders and decoders, and they give the recorded numbers again
    data = build.build_data(TINY, cache)
    model = build.build_model(TINY, data, 0)
    ema, measured = average(TINY, model)
    fit_adversarial(
        model, data.train, TINY.steps, TINY.batch_size, TINY.learning_rate, 0,
        minibatches=2, betas=TINY.betas, ema=ema, progress=False,
    )  # fmt: skip
    stored = build.build_model(TINY, data, 1)
    load_weights(folder.weights, stored.modalities)
    for name, value in stored.modalities.state_dict().items():
        assert torch.equal(value, measured.modalities.state_dict()[name]), name
    assert not all(map(torch.equal, stored.modalities.parameters(), model.modalities.parameters()))
    again = trained.evaluate_run(TINY, 0, "test", tmp_path / "a", cache=cache)
    assert again.value("joint_coherence") == results.value(result, "test/joint_coherence")

    results.publish(folder.path, tmp_path / "results")
    assert results.load(TINY.name, tmp_path / "results") == [result]


def test_unpaired_rows_are_trained_on_and_probes_read_the_pairs(tmp_path, cache):
    path = runner.run(UNPAIRED, 0, tmp_path, progress=False, cache=cache)
    result = results.verify(path)
    assert results.value(result, "test/latent_accuracy/hand0/mean") > 0
    assert result["data"]["pairing"]["rest"] == "unpaired"


def test_models_by_likelihood_are_trained_as_before():
    model = torch.nn.Linear(2, 2)
    plain = dataclasses.replace(TINY, model="mvae", ema=None)
    assert average(plain, model) == (None, model)
    ema, measured = average(dataclasses.replace(plain, ema=0.5), model)
    assert measured is ema.model and (ema.start, ema.ramp) == (2, True)
    assert kind_of(plain) is not kind_of(TINY) and kind_of(plain).part(model) is model
    assert recipes.get("svhn10k-mvae").content.keys().isdisjoint({"ema_start", "ema_ramp", "minibatches"})
