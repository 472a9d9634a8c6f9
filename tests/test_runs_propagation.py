"""Label propagation as a run: what it goes on from, what it finds, and that it ends at the same bits."""

import dataclasses

import pytest
import torch
from quick_runs import TINY, quick

from mmlib.runs import build, recipes, results, runner
from mmlib.runs.folder import RunFolder
from mmlib.runs.propagation import options_of, propagate
from mmlib.runs.trained import load_trained
from mmlib.train import Paused

DATA = {"train": 400, "validation": 20, "test": 20, "fraction": 0.3}
FEW = dataclasses.replace(TINY, name="few", data_options=DATA)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "few", FEW)


def recipe(**options):
    return dataclasses.replace(
        FEW, name="found", propagation={"from": "few", "k": 2, "partners": 5} | options
    )


def made(recipe, root, cache, **options):
    with quick():
        path = runner.run(recipe, 0, root, progress=False, cache=cache, **options)
    return results.verify(path)


def test_a_run_goes_on_from_another_that_is_made_first_and_says_what_it_found(tmp_path, cache):
    result = made(recipe(), tmp_path, cache)
    base = results.verify(RunFolder(FEW, 0, tmp_path).result)
    assert base["steps"] == result["steps"] == 16
    found = result["metrics"]["propagation"]
    assert found["full"]["called"] == found["added"] and found["full"]["best"] >= found["full"]["f1"]
    # 400 items of which 30 % of the originals are kept, in groups of five
    assert 200 * 5 < found["full"]["pairs"] < 300 * 5 and 90 * 5 < found["small"]["pairs"] <= 140 * 5
    assert 0.05 < found["full"]["related"] / found["full"]["pairs"] < 0.16
    assert results.value(result, "propagation/full/f1") == found["full"]["f1"]
    model, data = load_trained(recipe(), 0, tmp_path, cache=cache)
    assert set(model.modalities) == set(data.shapes)


def test_an_interrupted_run_finds_the_same_pairs_and_ends_at_the_same_bits(tmp_path, cache):
    whole = made(recipe(), tmp_path / "a", cache)
    calls = []
    stop = lambda: len(calls) == 20 or calls.append(1)  # noqa: E731 - after the first run, early in the second
    with pytest.raises(Paused):
        made(recipe(), tmp_path / "b", cache, stop=stop, checkpoint_every=2)
    assert RunFolder(FEW, 0, tmp_path / "b").finished()
    assert 0 < RunFolder(recipe(), 0, tmp_path / "b").step() < 16
    again = made(recipe(), tmp_path / "b", cache)
    assert again["files"]["weights.safetensors"] == whole["files"]["weights.safetensors"]
    assert again["metrics"]["propagation"] == whole["metrics"]["propagation"]


@pytest.mark.parametrize("by", ["pmi", "siamese", "labels", "nothing"])
def test_rows_are_the_few_pairs_and_what_was_found(tmp_path, cache, by, monkeypatch):
    from mmlib.runs import propagation

    monkeypatch.setitem(propagation.SIAMESE, "steps", 3)
    made(FEW, tmp_path, cache)
    asked = recipe(by=by)
    data = build.build_data(asked, cache)
    everything = build.judges_data(asked, data, cache)
    model = build.build_model(asked, data, 5)
    rows, found = propagate(RunFolder(asked, 0, tmp_path), model, data, everything, cache=cache)
    trained = load_trained(FEW, 0, tmp_path, cache=cache)[0].state_dict()
    assert all(torch.equal(x, trained[name]) for name, x in model.state_dict().items())
    added = found["propagation"]["added"]
    assert len(rows.train) == len(data.train) + added and rows.validation is data.validation
    assert ("threshold" in found["propagation"]) == (by in ("pmi", "siamese"))
    assert (added == 0) == (by == "nothing")
    first = rows.train.batch(torch.arange(len(data.train)))
    assert all(torch.equal(x, data.train.batch()[name]) for name, x in first.items())


def test_nothing_of_it_changes_other_recipes():
    assert TINY.hash == "88bb8cbb4b9b" and "propagation" not in TINY.content
    assert recipe().hash != FEW.hash != recipe(k=3).hash != recipe().hash


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"propagation": {"k": 3}}, "propagation has no option 'from'"),
        ({"propagation": {"from": "fev"}}, "recipe is 'fev'"),
        ({"propagation": {"from": "few", "by": "luck"}}, "propagation.by is 'luck'; expected one of pmi"),
        ({"propagation": {"from": "few", "k": 0}}, "propagation.k is 0; expected"),
        ({"propagation": {"from": "few", "partners": 0}}, "propagation.partners is 0; expected"),
        (
            {"propagation": {"from": "few", "samples": 3}},
            "propagation has options .'samples'.; expected some",
        ),
        ({"latent_dim": 4}, "propagation.from is few, whose latent_dim is another; expected the same"),
        (
            {"propagation": {"from": "hand-street-mvae"}},
            "propagation.from is hand-street-mvae, whose model is",
        ),
    ],
)
def test_what_cannot_be_gone_on_from_is_said_before_anything_is_made(tmp_path, cache, changes, message):
    with pytest.raises(ValueError, match=message):
        made(dataclasses.replace(recipe(), **changes), tmp_path / "runs", cache)
    assert not (tmp_path / "runs").exists()


def test_without_a_fraction_nothing_is_left_to_search(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "few", dataclasses.replace(FEW, data_options={}))
    with pytest.raises(ValueError, match="propagation needs data_options.fraction"):
        options_of(dataclasses.replace(recipe(), data_options={}))
