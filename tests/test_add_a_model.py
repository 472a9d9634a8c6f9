"""The page "Add a model": its code runs, its model is right, and its recipe is one."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import quick_runs
import test_every_model as every
import torch

from mmlib import lab
from mmlib.__main__ import main
from mmlib.metrics import evaluate
from mmlib.models import MODELS, MultimodalVAE
from mmlib.runs import build, recipes, runner
from mmlib.seeding import generator

same_noise = every.same_noise
PAGE = (Path(__file__).resolve().parents[1] / "book" / "add-a-model.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture(scope="module")
def page():
    """What the page's code defines, with its model under its name while the tests last."""
    names = {}
    with mock.patch.dict(MODELS):
        for block in blocks("python"):
            exec(compile(block, "add-a-model.md", "exec"), names)
        yield names


@pytest.fixture
def recipe(page, tmp_path):
    path = tmp_path / "geometric.yaml"
    path.write_text(blocks("yaml")[0])
    return path


def test_two_hooks_make_a_model_that_trains_and_is_measured(page):
    cls = page["GeometricVAE"]
    assert issubclass(cls, MultimodalVAE) and MODELS["geometric"] is cls
    own = {name for name, value in vars(cls).items() if callable(value)}
    assert own == {"__init__", "infer", "training_objective"}
    assert page["history"][-1]["step"] == 20 and math.isfinite(page["history"][-1]["loss"])
    assert page["street"].shape == (10, 3, 16, 16)
    assert math.isfinite(page["nats"]["joint"]["value"])


def test_it_passes_what_every_model_passes(page, same_noise):
    cls = page["GeometricVAE"]
    found = every.variants(cls)
    assert {"learn_prior": True} in found and {"scale": "log_variance"} in found
    for options in found:
        every.check_rows_alone(cls, **options)


def test_it_passes_what_every_model_passes_with_noise_of_its_own(page):
    cls = page["GeometricVAE"]
    for options in every.variants(cls):
        every.check_what_is_hidden(cls, **options)
        every.test_losses_are_finite_under_autocast_and_reach_what_they_reach_without(cls, options)
    every.check_against_the_laboratory(cls)
    for dtype in (torch.float32, torch.float64):
        every.test_models_of_either_precision_take_arrays_and_tensors_of_any(cls, dtype)


def test_its_objective_is_the_elbo_of_the_geometric_mean(page):
    """In the laboratory, where the ELBO of any normal is known: the mean over draws within five standard errors."""
    known = lab.LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.7, seed=1)
    model = page["GeometricVAE"](lab.modalities(known, shift=0.1), 2).double()
    batch, draws = known.sample(6, generator(0))[1], 4000
    q = model.posterior(batch).components
    experts = [model.encode(name, x) for name, x in batch.items()]
    precision = sum(expert.scale**-2 for expert in experts) / 2
    torch.testing.assert_close(q.scale[0], precision.rsqrt())
    torch.testing.assert_close(q.loc[0], sum(e.loc * e.scale**-2 for e in experts) / 2 / precision)
    repeated = {name: x.repeat(draws, 1) for name, x in batch.items()}
    with torch.no_grad():
        values = model.loss(repeated, generator=generator(1))[1]["objective"].view(draws, -1)
        exact = known.elbo(type(q)(q.loc[0], q.scale[0]), batch)
    assert ((values.mean(0) - exact).abs() < 5 * values.std(0) / math.sqrt(draws)).all()


def test_training_weights_scale_their_own_likelihood_alone(page):
    known = lab.LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.7, seed=1)
    batch, found = known.sample(6, generator(0))[1], []
    for weight in (1.0, 3.0):
        model = page["GeometricVAE"](lab.modalities(known), 2).double()
        model.modalities["a"].weight = weight
        found.append(model.loss(batch, generator=generator(1))[1])
    extra = found[1]["objective"] - found[0]["objective"]
    torch.testing.assert_close(extra, 2 * found[0]["log_likelihood.a"])


def test_its_recipe_is_one_and_makes_a_run(page, recipe, tmp_path, monkeypatch, capsys):
    assert main(["train", "--recipe", str(recipe), "--dry-run"]) == 0
    assert "geometric" in capsys.readouterr().out
    small = {"train": 60, "validation": 30, "test": 30}
    found = replace(recipes.get(str(recipe)), steps=8, batch_size=8, data_options=small, validations=4)
    found = replace(found, likelihood_rows=2, likelihood_k=2)
    monkeypatch.setattr(build, "build_classifiers", quick_runs.judges)
    monkeypatch.setenv("MMLIB_DATA", str(tmp_path / "data"))
    result = json.loads(runner.run(found, 0, tmp_path / "runs", progress=False).read_text())
    assert result["recipe"]["model"] == "geometric"
    assert math.isfinite(result["metrics"]["test"]["log_likelihood"]["joint"]["value"])
    model = build.build_model(found, {"hand": (1, 16, 16), "street": (3, 16, 16)}, 0)
    assert type(model) is page["GeometricVAE"] and model.learn_prior


def test_a_recipe_of_a_model_that_nobody_named_is_refused(recipe, monkeypatch, capsys):
    monkeypatch.delitem(MODELS, "geometric")
    assert main(["train", "--recipe", str(recipe), "--dry-run"]) == 2
    assert "model is 'geometric'; expected one of" in capsys.readouterr().err


def test_what_is_shown_and_not_run_is_right(page):
    for command in re.findall(r"python -m mmlib (\w+)", "".join(blocks("console"))):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
    measured, run = blocks("text")
    judges = quick_runs.judges(page["data"], cache=False)
    names = {**page, "evaluate": evaluate, "train_classifiers": lambda data: judges}
    exec(measured, names)
    assert run == 'run("geometric.yaml", seed=0)\n' and callable(runner.run)
