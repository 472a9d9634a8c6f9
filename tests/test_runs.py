"""Recipes, runs, recorded results and the command line."""

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from quick_runs import TINY, judges
from scipy.stats import binom

from mmlib import __main__ as command_line
from mmlib.data import DataFileError
from mmlib.runs import build, recipes, results, runner
from mmlib.runs.compare import CONFIDENCE, compare
from mmlib.runs.folder import RunFolder, RunLockedError
from mmlib.runs.provenance import provenance
from mmlib.runs.recipe import Recipe, from_dict
from mmlib.runs.recipes import RECIPES
from mmlib.summary import summarise
from mmlib.train import Ema, fit, load_weights


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(build, "build_classifiers", judges)


# --- recipes --------------------------------------------------------------------------------------------------------


def test_hash_is_of_the_content_alone():
    """Pinned: a default that changes would silently change what recorded results stand for."""
    assert TINY.hash == "88bb8cbb4b9b"
    reordered = Recipe(**dict(reversed(list(dataclasses.asdict(TINY).items()))))
    assert reordered.hash == TINY.hash
    renamed = dataclasses.replace(TINY, name="other", source="elsewhere", reduced="less", faithful=True)
    assert renamed.hash == TINY.hash
    options = {"b": 1, "a": [2, {"y": 0, "x": 1}]}
    other_way = {"a": [2, {"x": 1, "y": 0}], "b": 1}
    assert (
        dataclasses.replace(TINY, model_options=options).hash
        == dataclasses.replace(TINY, model_options=other_way).hash
    )
    changes = {
        "model": "mvae", "dataset": "mnist-svhn", "model_options": {"objective": "iwae"}, "data_options": {},
        "latent_dim": 4, "width": 0.2, "likelihood": "normal", "likelihood_scale": 1.0, "weights": None, "steps": 17,
        "batch_size": 9, "learning_rate": 2e-3, "betas": (0.8, 0.999), "eps": 1e-4, "amsgrad": True, "clip_norm": 5.0,
        "clip_value": 1.0, "validations": 8, "likelihood_rows": 5, "likelihood_k": 3, "ema": 0.9,
        "ema_start": 3, "ema_ramp": True, "minibatches": 2, "schedule": "alternating", "networks": "cub",
        "judges": "processes", "propagation": {"from": "tiny"},
    }  # fmt: skip
    prose = {"name", "source", "reduced", "faithful"}
    assert set(changes) | prose == {entry.name for entry in dataclasses.fields(Recipe)}, (
        "a new field: add it here"
    )
    hashes = [dataclasses.replace(TINY, **{name: value}).hash for name, value in changes.items()]
    assert len({TINY.hash, *hashes}) == 1 + len(hashes)


def test_recipes_survive_json_and_know_their_fields():
    for recipe in (TINY, *RECIPES.values()):
        again = from_dict(json.loads(json.dumps(recipe.as_dict())))
        assert again.hash == recipe.hash and again.name == recipe.name
    with pytest.raises(ValueError, match="recipe has fields colour; expected some of"):
        from_dict({**TINY.as_dict(), "colour": "red"})
    with pytest.raises(ValueError, match="validations is 6; expected a multiple of 4"):
        dataclasses.replace(TINY, validations=6)
    near = "recipe is 'hand-stret-mvae'; expected one of .* lists, such as hand-street-mvae or "
    with pytest.raises(ValueError, match=near):
        recipes.get("hand-stret-mvae")
    assert recipes.get(TINY) is TINY
    for name in (None, 3, ["hand-street-mvae"], b"hand-street-mvae"):
        with pytest.raises(ValueError, match="recipe is .*; expected one of"):
            recipes.get(name)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("steps", "16", "an integer of at least 1"),
        ("batch_size", 8.0, "an integer of at least 1"),
        ("validations", True, "an integer of at least 1"),
        ("ema_start", -1, "an integer of at least 0"),
        ("learning_rate", "0.1", "a positive number"),
        ("width", 0, "a positive number"),
        ("width", None, "a positive number"),
        ("clip_norm", -1.0, "a positive number"),
        ("likelihood", 3, "a text"),
        ("weights", 1.0, "a text, numbers by name, or nothing"),
        ("amsgrad", "yes", "true or false"),
        ("data_options", "dm: 1", "options by name"),
        ("betas", 0.9, "two numbers from 0 to 1"),
    ],
)
def test_fields_of_a_recipe_have_their_types(field, value, expected):
    with pytest.raises(ValueError, match=f"{field} is {value!r}; expected {expected}"):
        dataclasses.replace(TINY, **{field: value})


def test_betas_are_two_numbers_from_0_to_1():
    for betas in ((0.9,), (0.9, 0.99, 0.999), (0.9, "1"), (0.9, 1.5), {0: 0.9, 1: 0.9}):
        with pytest.raises(ValueError, match="betas is "):
            dataclasses.replace(TINY, betas=betas)


def test_a_varied_recipe_is_found_by_a_name_that_says_how(tmp_path):
    base = RECIPES["hand-street-mvae"]
    changes = {
        "steps": 8000,
        "betas": [0.5, 0.9],
        "model_options.beta": 2.0,
        "likelihood": "normal",
        "weights": None,
    }
    varied = recipes.vary(base, changes)
    same = {
        "steps": 8000,
        "betas": (0.5, 0.9),
        "model_options": {"beta": 2.0},
        "likelihood": "normal",
        "weights": None,
    }
    assert varied.hash == dataclasses.replace(base, **same).hash != base.hash
    assert varied.name == (
        "hand-street-mvae+betas=%5B0.5,0.9%5D+likelihood=normal+model_options.beta=2.0+steps=8000+weights=null"
    )
    assert (
        recipes.get(varied.name) == varied and RunFolder(varied, 0, tmp_path).path.parent.parent == tmp_path
    )
    typed = "hand-street-mvae+weights=null+steps=8000+likelihood=normal+model_options={beta: 2.0}+betas=[0.5, 0.9]"
    assert recipes.get(typed).hash == varied.hash
    assert recipes.get("hand-street-mvae+learning_rate=1e-3").learning_rate == 1e-3  # for YAML 1.1 a text
    assert (
        "varied, betas = [0.5,0.9], likelihood = normal" in varied.source and varied.reduced == base.reduced
    )
    faithful = next(recipe for recipe in RECIPES.values() if recipe.faithful)
    assert recipes.vary(faithful, {"steps": 16}).faithful is False
    odd = recipes.vary(base, {"data_options.x": "a/../b+steps=9 %"})
    assert "/" not in odd.name and recipes.get(odd.name) == odd
    assert base == RECIPES["hand-street-mvae"] and "beta" not in base.model_options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stps=8", "set is 'stps'; expected one of .* names .* such as steps"),
        ("name=x", "set is 'name'; expected one of"),
        ("faithful=true", "set is 'faithful'"),
        ("steps=8.5", "steps is 8.5; expected an integer"),
        ("steps.x=8", "set is 'steps.x'; expected a field, or an option of"),
        ("model_options.=8", "set is 'model_options.'; expected a field, or"),
        ("amsgrad=maybe", "amsgrad is 'maybe'; expected true or false"),
        ("likelihood=gauss", "likelihood is 'gauss'; expected one of laplace, normal, bernoulli"),
        ("model=vae", "model is 'vae'; expected one of"),
        ("model=jmvae", "model_options of jmvae: missing a required argument: 'joint_encoder'"),
        ("dataset=mnist", "dataset is 'mnist'; expected one of"),
        ("model_options.alpha=2", "model_options of mvae: .* 'alpha'; expected some of scale, .*beta"),
        ("steps", r"recipe is 'hand-street-mvae\+steps'; expected one of"),
    ],
)
def test_what_a_recipe_cannot_be_varied_in_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        recipes.get(f"hand-street-mvae+{change}")


OWN = {"name": "mine", "model": "mvae", "dataset": "hand-street", "steps": 16}


def test_a_recipe_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nmodel: mvae\ndataset: hand-street\nsteps: 16\nlearning_rate: 2e-3\nbetas: [0.5, 0.9]\n"
    )
    recipe = recipes.get(str(path))
    assert (
        recipe
        == recipes.read(path)
        == Recipe(**OWN, source="one's own", learning_rate=2e-3, betas=(0.5, 0.9))
    )
    assert recipes.get(f"{path}+steps=24").name == "mine+steps=24"
    path.write_text(
        json.dumps({**RECIPES["hand-street-mmvae-elbo"].as_dict(), "name": "mine"})
    )  # JSON is YAML
    assert recipes.get(str(path)).hash == RECIPES["hand-street-mmvae-elbo"].hash


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a", "it holds list; expected one mapping of fields"),
        ("", "it holds NoneType; expected one mapping"),
        ("a: [", "cannot be read as YAML"),
        (b"\xff\xfe\x00", "cannot be read as YAML"),
        ({**OWN, "colour": 1}, "recipe has fields colour; expected some of amsgrad"),
        ({1: 2}, "recipe has fields 1; expected"),
        ({"name": "mine"}, "model is missing"),
        ({**OWN, "name": 3}, "name is 3; expected a text"),
        ({**OWN, "name": "../mine"}, "name is '../mine'; expected letters, digits, dots and hyphens"),
        ({**OWN, "name": "a+steps=8"}, "name is .*; expected letters"),
        (
            {**OWN, "name": "hand-street-mvae"},
            "name is 'hand-street-mvae'; expected .* none of the catalogue",
        ),
        ({**OWN, "steps": "many"}, "steps is 'many'; expected an integer"),
        ({**OWN, "model": "vae"}, "model is 'vae'; expected one of"),
        ({**OWN, "model_options": {1: 2}}, "model_options of mvae: .* '1'; expected some of"),
        (
            "{name: mine, model: mvae, dataset: hand-street, steps: 2020-01-01}",
            "steps is .*; expected an integer",
        ),
    ],
)
def test_a_damaged_recipe_file_is_refused_with_file_field_and_reason(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else _yaml(content).encode())
    with pytest.raises(ValueError, match=f"mine.yaml.*{message}"):
        recipes.get(str(path))


def _yaml(content):
    import yaml

    return content if isinstance(content, str) else yaml.safe_dump(content)


def test_numbers_of_numpy_make_the_same_recipe():
    again = dataclasses.replace(TINY, steps=np.int64(16), width=np.float64(0.1), batch_size=np.int32(8))
    assert again.hash == TINY.hash and again.as_dict() == TINY.as_dict()


def test_recipes_have_different_content_and_a_source():
    assert len({recipe.hash for recipe in RECIPES.values()}) == len(RECIPES)
    assert all(recipe.source for recipe in RECIPES.values())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_a_model_that_learns(name):
    """One step on three random rows: finite, and a gradient for every parameter that learns."""
    recipe = RECIPES[name]
    angles = range(0, 90 * recipe.data_options.get("modalities", 2), 90)
    street = {"hand": (1, 16, 16), "street": (3, 16, 16)}
    digits = {"mnist": (1, 28, 28), "svhn": (3, 32, 32)}
    faces = {"image": (3, 32, 32), "text": (32,)}  # a quarter of the real sides
    shapes = {
        "birds": {"image": (12,), "caption": (32,)},
        "celeba": faces,
        "faces": faces,
        "hand-street": street,
        "hand-street-text": {**street, "text": (8,)},
        "mnist-svhn": digits,
        "mnist-svhn-text": {**digits, "text": (8,)},
        "multi-hand": {f"hand{angle}": (1, 8, 8) for angle in angles},
        "multi-mnist": {f"mnist{angle}": (1, 28, 28) for angle in angles},
    }[recipe.dataset]
    options = dict(recipe.model_options)
    if "k" in options:
        options["k"] = 2  # the memory of thirty draws is not the point here
    if recipe.model == "mmali":
        options["width"] = 0.25  # of the discriminators
    recipe = dataclasses.replace(recipe, width=0.25, model_options=options)
    words = ("text",) if "caption_view" in recipe.data_options else ("text", "caption")
    data = SimpleNamespace(shapes=shapes, symbols={name: 71 for name in words if name in shapes})
    model = build.build_model(recipe, data, seed=0)
    draw = torch.Generator().manual_seed(0)
    batch = {name: torch.rand(3, *shape, generator=draw) for name, shape in shapes.items()}
    batch |= {n: torch.randint(k, (3, *shapes[n]), generator=draw) for n, k in data.symbols.items()}
    sides = [model.discriminator_loss, model.generator_loss] if recipe.model == "mmali" else [model.loss]
    for side in sides:
        loss, _ = side(batch, generator=draw, **({"labels": torch.arange(3)} if model.needs_labels else {}))
        loss.backward()
        assert math.isfinite(loss.item())
    silent = [
        n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    # a bias behind a ReLU that is off for all three rows may stay silent, a whole weight matrix may not
    assert not [name for name in silent if name.endswith("weight")]


def test_judges_see_all_the_data_whatever_the_model_sees(cache):
    fifth = dataclasses.replace(TINY, data_options={**TINY.data_options, "fraction": 0.2})
    data = build.build_data(fifth, cache)
    judged = build.judges_data(fifth, data, cache)
    assert len(judged.train.items["hand"]) > 3 * len(data.train.items["hand"])
    assert build.judges_data(TINY, data, cache) is data
    paired = recipes.get("multi-hand-mmali-20-unpaired-64")
    judged = build.judges_data(paired, build.build_data(paired))
    assert judged.train.observed is None and len(judged.train.items["hand0"]) == 1078


def test_weights_depend_on_the_seed_alone():
    shapes = {"hand": (1, 16, 16), "street": (3, 16, 16)}
    torch.manual_seed(3)
    first = build.build_model(TINY, shapes, seed=1).state_dict()
    state = torch.get_rng_state()
    second = build.build_model(TINY, shapes, seed=1).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    other = build.build_model(TINY, shapes, seed=2).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


# --- runner ---------------------------------------------------------------------------------------------------------


def test_run_writes_everything_once(tmp_path, cache, quick, monkeypatch):
    options = {"progress": False, "cache": cache, "checkpoint_every": 3}
    path = runner.run(TINY, 0, tmp_path / "a", **options)
    folder = RunFolder(TINY, 0, tmp_path / "a")
    assert path == folder.result and sorted(p.name for p in folder.path.iterdir()) == [
        "journal.jsonl", "metrics.jsonl", "recipe.json", "result.json", "samples.png", "weights.safetensors",
    ]  # fmt: skip
    result = results.verify(path)
    assert result["recipe"]["hash"] == TINY.hash and result["seed"] == 0 and result["steps"] == 16
    assert {"hardware", "threads", "packages", "commit", "uncommitted_changes", "begun"} <= set(
        result["provenance"]
    )
    assert os.uname().nodename not in path.read_text()
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "validation/loss" in row] == [4, 8, 12, 16]
    for split in ("validation", "test"):
        assert 0 <= results.value(result, f"{split}/cross_coherence/hand/street") <= 1
    assert results.value(result, "test/log_likelihood/joint") < 0
    assert 0 <= results.value(result, "test/generation_quality/hand/precision") <= 1
    assert result["convergence"]["moved"] is not None

    # finished: not made again
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_make", lambda *_: pytest.fail("ran a finished run again"))
        before = path.stat().st_mtime_ns
        started = time.perf_counter()
        assert runner.run(TINY, 0, tmp_path / "a", **options) == path
        assert time.perf_counter() - started < 1 and path.stat().st_mtime_ns == before

    # published: the sealed result, and nothing else
    published = results.publish(folder.path, tmp_path / "results")
    assert published == tmp_path / "results" / "tiny" / "seed-0.json"
    assert [path.name for path in published.parent.iterdir()] == ["seed-0.json"]
    assert results.load("tiny", tmp_path / "results") == [result]
    with pytest.raises(
        ValueError, match="tiny is no recipe of the catalogue; only results of those are published"
    ):
        results.publish(folder.path)
    assert results.summary("tiny", "test/rows", tmp_path / "results").mean == 20

    # the recipe changes: the former run is set aside, whole
    changed = dataclasses.replace(TINY, latent_dim=2)
    runner.run(changed, 0, tmp_path / "a", **options)
    aside = tmp_path / "a" / "tiny" / f"seed-0.{TINY.hash}"
    assert results.verify(aside / "result.json") == result
    assert results.verify(path)["recipe"]["hash"] == changed.hash

    # the result is damaged: set aside, and made again to the same numbers
    again = results.verify(path)
    path.write_text(path.read_text()[:200])
    runner.run(changed, 0, tmp_path / "a", **options)
    assert results.verify(path)["metrics"] == again["metrics"]
    assert path.with_name("result.json.damaged").exists()


def test_a_recipe_that_averages_its_weights_is_measured_by_the_average(tmp_path, cache, quick, monkeypatch):
    recipe = dataclasses.replace(TINY, name="tiny-average", ema=0.8)
    seen = []
    before = runner.watch
    monkeypatch.setattr(runner, "watch", lambda model, *rest: seen.append(model) or before(model, *rest))
    path = runner.run(recipe, 0, tmp_path, progress=False, cache=cache)
    data = build.build_data(recipe, cache)
    model = build.build_model(recipe, data, 0)
    ema = Ema(model, 0.8)
    fit(model, data.train, recipe.steps, recipe.batch_size, recipe.learning_rate, 0, ema=ema, progress=False)
    stored = build.build_model(recipe, data, 1)
    load_weights(RunFolder(recipe, 0, tmp_path).weights, stored)
    for name, value in stored.state_dict().items():
        assert torch.equal(value, ema.model.state_dict()[name]), name
    assert not all(map(torch.equal, stored.parameters(), model.parameters()))
    assert len({id(model) for model in seen}) == 1 and len(seen) == recipe.validations
    assert results.verify(path)["recipe"]["ema"] == 0.8


def test_same_run_started_twice_at_once_is_refused(tmp_path, monkeypatch):
    folder = RunFolder(TINY, 0, tmp_path)
    monkeypatch.setattr(runner, "_make", lambda *_: pytest.fail("ran beside another process"))
    with folder.locked():
        with pytest.raises(
            RunLockedError, match=f"tiny, seed 0, is being run already by process {os.getpid()}"
        ):
            runner.run(TINY, 0, tmp_path)
        with RunFolder(TINY, 1, tmp_path).locked():  # another seed is another run
            pass
    with folder.locked():  # free again
        pass


def test_bad_runs_are_refused_before_anything_is_made(tmp_path, cache, quick):
    with pytest.raises(ValueError, match="recipe is 'nope'"):
        runner.run("nope", 0, tmp_path)
    with pytest.raises(ValueError, match="seed is -1"):
        runner.run(TINY, -1, tmp_path)
    with pytest.raises(ValueError, match="device is 'cuda:77'; expected one that this machine has"):
        runner.run(TINY, 0, tmp_path, device="cuda:77")
    for options, message in (
        ({"threads": 0}, "threads is 0; expected an integer of at least 1"),
        ({"threads": "2"}, "threads is '2'; expected an integer of at least 1"),
        ({"checkpoint_every": 2.5}, "checkpoint_every is 2.5; expected an integer of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            runner.run(TINY, 0, tmp_path, **options)
    for seed in ("0", 1.0, True, None):
        with pytest.raises(ValueError, match="seed is .*; expected an integer of at least 0"):
            runner.run(TINY, seed, tmp_path)
    missing = dataclasses.replace(TINY, dataset="mnist-svhn", data_options={})
    with pytest.raises(DataFileError, match="train-images"):
        runner.run(missing, 0, tmp_path, cache=tmp_path / "nothing", progress=False)
    with pytest.raises(ValueError, match="model is 'nope'"):
        runner.run(dataclasses.replace(TINY, model="nope"), 0, tmp_path, progress=False, cache=cache)
    assert not list(tmp_path.iterdir()), "a run that was refused left something behind"


def test_the_recipe_is_found_by_a_seed_of_numpy(tmp_path):
    folder = RunFolder(TINY, np.int64(3), str(tmp_path))
    assert folder == RunFolder(TINY, 3, tmp_path) and folder.path.name == "seed-3"


def test_a_folder_in_the_place_of_a_file_and_a_file_in_the_place_of_a_folder(tmp_path, cache, quick):
    options = {"progress": False, "cache": cache, "checkpoint_every": 3}
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="a file is in the place of a folder: move it away"):
        runner.run(TINY, 0, tmp_path / "file", **options)
    for name in ("metrics.jsonl", "checkpoints"):
        folder = RunFolder(TINY, 0, tmp_path / name)
        folder.path.mkdir(parents=True)
        (folder.path / name).mkdir() if name == "metrics.jsonl" else (folder.path / name).touch()
        with pytest.raises((OSError, ValueError), match=name):
            runner.run(TINY, 0, folder.root, **options)
        shutil.rmtree(folder.path / name) if name == "metrics.jsonl" else (folder.path / name).unlink()
        (folder.path / "result.json").mkdir()  # is set aside, as whatever is no result of this run
        assert runner.run(TINY, 0, folder.root, **options).is_file()
        assert (folder.path / "result.json.damaged").is_dir()


@pytest.mark.parametrize(
    ("late", "converged"),
    [((0.70, 0.71, 0.705), True), ((0.70, 0.71, 0.721), False), ((0.721, 0.70, 0.70), False)],
)
def test_convergence_looks_at_the_last_quarter(late, converged):
    curve = [0.1, 0.3, 0.5, 0.6, 0.65, *late]
    history = [
        {
            "step": 100 * (i + 1),
            "loss": 3.0,
            # two directions that move against each other: only their mean counts
            "validation/cross_coherence/a/b": value + 0.05 * (-1) ** i,
            "validation/cross_coherence/b/a": value - 0.05 * (-1) ** i,
        }
        for i, value in enumerate(curve)
    ]
    verdict = runner.convergence(history)
    assert verdict["converged"] is converged
    assert verdict["moved"] == pytest.approx(max(late) - min(late))
    assert runner.convergence([{"step": 1, "loss": 2.0}])["converged"] is False


# --- results --------------------------------------------------------------------------------------------------------


def write(root, recipe, seed, coherence, **changes):
    result = {
        "recipe": {"name": recipe, "hash": "0"},
        "seed": seed,
        "metrics": {"test": {"c": {"value": coherence}}},
    }
    path = root / recipe / f"seed-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results.seal(result) | changes))
    return path


def test_summary_over_seeds(tmp_path):
    for seed, coherence in ((10, 0.9), (2, 0.7), (0, 0.8)):
        write(tmp_path, "r", seed, coherence)
    found = results.summary("r", "test/c", tmp_path)
    assert found.values == (0.8, 0.7, 0.9)  # in order of seed, as numbers
    assert (found.n, found.mean) == (3, pytest.approx(0.8))
    assert found.sd == pytest.approx(0.1)
    half = 4.302653 * 0.1 / math.sqrt(3)  # t(0.975, 2), from a printed table
    assert (found.low, found.high) == (
        pytest.approx(0.8 - half, abs=1e-6),
        pytest.approx(0.8 + half, abs=1e-6),
    )
    assert results.recorded(tmp_path) == ["r"]
    single = summarise([0.5])
    assert (single.n, single.mean, single.sd, single.low) == (1, 0.5, None, None)
    with pytest.raises(ValueError, match="metric is 'test/d'; expected one of test/c"):
        results.summary("r", "test/d", tmp_path)
    with pytest.raises(ValueError, match="recipe is 'q'; expected one of r"):
        results.summary("q", "test/c", tmp_path)
    with pytest.raises(ValueError, match="values is empty"):
        summarise([])


def test_a_result_that_was_touched_or_moved_is_refused(tmp_path):
    path = write(tmp_path, "r", 0, 0.5)
    path.write_text(path.read_text().replace("0.5", "0.6"))
    with pytest.raises(results.ResultError, match="was changed after it was written"):
        results.load("r", tmp_path)
    path.write_text("{")
    with pytest.raises(results.ResultError, match="not a whole result file"):
        results.load("r", tmp_path)
    write(tmp_path, "r", 0, 0.5).rename(tmp_path / "r" / "seed-1.json")
    with pytest.raises(results.ResultError, match="is the result of r, seed 0; expected r, seed 1"):
        results.load("r", tmp_path)


def test_stray_files_among_the_results_stop_nothing(tmp_path):
    write(tmp_path, "r", 0, 0.5)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "seed-0.json").touch()
    (tmp_path / "empty").mkdir()
    for name in (
        "seed-x.json",
        "seed-0-copy.json",
        "seed-01.json",
        ".seed-0.json.swp",
        "seed-0.json~",
        ".DS_Store",
    ):
        (tmp_path / "r" / name).write_text("stray")
    (tmp_path / "r" / "seed-7.json").mkdir()
    assert results.recorded(tmp_path) == ["r"]
    assert [result["seed"] for result in results.load("r", tmp_path)] == [0]


def test_without_the_repository_results_say_where_they_are(monkeypatch):
    monkeypatch.setattr(results, "RESULTS", results.RESULTS / "gone")
    with pytest.raises(FileNotFoundError, match="it comes with the repository"):
        results.recorded(results.RESULTS)


def test_recorded_results_are_whole_and_belong_to_recipes_that_stand():
    for name in results.recorded():
        recipe = recipes.get(name)
        for result in results.load(name):
            assert result["recipe"]["hash"] == recipe.hash, (
                f"{name} has changed since its result was recorded"
            )
            assert from_dict(result["recipe"]).hash == recipe.hash
            assert result["steps"] == recipe.steps


def test_provenance_has_what_a_number_needs():
    found = provenance()
    assert found["threads"] == torch.get_num_threads()
    assert found["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert found["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert found["commit"] is None or len(found["commit"]) == 40
    assert json.loads(json.dumps(found)) == found


# --- a run held against the record --------------------------------------------------------------------------------

TEN = [
    f"test/m{k}" for k in range(10)
]  # so that each metric is judged at 1 - 0.01 / 10: 0.9995 on either side
T4, Z = (
    8.610,
    3.2905,
)  # quantiles at 0.9995 of t with 4 degrees of freedom, and of the normal, from printed tables


def made(seed, values, se=0.01, weights="a", recipe=TINY, **origin):
    entries = {f"m{k}": {"value": value, "se": se} for k, value in enumerate(values)}
    files = {"files": {"weights.safetensors": weights}} if weights else {}
    facts = {"threads": 1, "commit": "c", "packages": {"torch": "2"}, "begun": {"commit": "b"}, **origin}
    return {
        "recipe": recipe.as_dict(),
        "seed": seed,
        "metrics": {"test": entries},
        "provenance": facts,
        **files,
    }


def five(**options):
    """Seeds whose values have mean 0.5 and standard deviation 0.01."""
    steps = [-0.01 * math.sqrt(2), 0.0, 0.0, 0.0, 0.01 * math.sqrt(2)]
    return [made(seed, [0.5 + step] * 10, **options) for seed, step in enumerate(steps)]


def test_the_same_bits_are_said_and_nothing_is_off():
    recorded = five(se=1e-9)
    found = compare(recorded[4], recorded)
    assert found["weights"] is True and found["off"] == [] and found["differs"] == {}
    said = "tiny, seed 4: the same weights, 0 of 10 metrics moved, 0 off; recorded seeds: 5"
    assert found["summary"] == said
    assert list(found["metrics"]) == TEN and json.loads(json.dumps(found)) == found
    # a number that agrees with the same seed's is never off, wherever the others lie
    far, many = made(99, [0.9] * 10), [made(seed, [0.5 + 0.01 * (seed % 2)] * 10) for seed in range(40)]
    assert len(compare(far, many)["off"]) == 10 and compare(far, [*many, far])["off"] == []


@pytest.mark.parametrize(
    ("factor", "off"), [(0.99, []), (-0.99, []), (1.01, ["test/m3"]), (-1.01, ["test/m3"])]
)
def test_a_metric_is_off_outside_the_prediction_interval_of_a_new_seed(factor, off):
    """mean ± t sd sqrt(1 + 1/5), for a seed that is not recorded, and for one that is."""
    far = factor * T4 * 0.01 * math.sqrt(1.2)
    for seed in (7, 1):
        found = compare(made(seed, [0.5] * 3 + [0.5 + far] + [0.5] * 6, weights="b"), five(se=1e3))
        assert found["off"] == off and found["weights"] is False
        assert found["metrics"]["test/m3"]["spreads"] == pytest.approx(factor * T4, rel=1e-6)
        assert f"1 of 10 metrics moved, {len(off)} off" in found["summary"]


@pytest.mark.parametrize(
    ("factor", "off"), [(0.99, []), (-0.99, []), (1.01, ["test/m3"]), (-1.01, ["test/m3"])]
)
def test_where_seeds_cannot_tell_standard_errors_are_the_measure(factor, off):
    far = factor * Z * math.hypot(0.01, 0.02)
    new = made(0, [0.5] * 3 + [0.5 + far] + [0.5] * 6, se=0.02, weights=None)
    two = [made(0, [0.5] * 10), made(1, [0.5001] * 10)]
    for recorded in (two[:1], two, [made(s, [0.5] * 10) for s in range(5)]):
        found = compare(new, recorded)
        assert found["off"] == off and found["weights"] is None
        assert found["metrics"]["test/m3"]["errors"] == pytest.approx(factor * Z, rel=1e-6)
        assert found["metrics"]["test/m3"]["spreads"] is None
        assert ("too few to show the noise of seeds" in found["summary"]) is (len(recorded) < 3)
    assert (
        compare(made(0, [0.9] * 10, se=None), [made(0, [0.5] * 10, se=None)])["off"] == []
    )  # no measure at all


def test_a_missing_metric_is_off_and_a_new_one_is_left_alone():
    found = compare(made(7, [0.5] * 9), five())
    assert found["off"] == ["test/m9"] and found["metrics"]["test/m9"]["new"] is None
    assert list(compare(made(7, [0.5] * 11), five())["metrics"]) == TEN


def test_what_differs_in_recipe_and_machine_is_said():
    longer = dataclasses.replace(TINY, name="tiny+steps=32", steps=32)
    recorded = [made(0, [0.5], threads=1, hardware="A"), made(1, [0.5], threads=2, hardware="A")]
    new = made(0, [0.5], recipe=longer, threads=4, hardware="A", commit="d", packages={"torch": "3"})
    hashes = {"recorded": TINY.hash, "new": longer.hash}
    expected = {"threads": ("1", "4"), "commit": ("c", "d"), "torch": ("2", "3"), "steps": ("16", "32")}
    expected = {key: dict(zip(("recorded", "new"), pair, strict=True)) for key, pair in expected.items()}
    found = compare(new, recorded)
    assert found["differs"] == {**expected, "hash": hashes}
    assert found["weights"] is None  # their file names the recipe
    assert compare({**new, "seed": 5}, recorded)["differs"]["threads"]["recorded"] == "1 or 2"
    portable = compare(made(0, [0.5], portable=True), recorded)[
        "differs"
    ]  # of which older results are silent
    assert portable["portable"] == {"recorded": "False", "new": "True"}


def test_hardly_a_recorded_run_is_off_by_the_noise_of_the_others():
    many = [runs for runs in map(results.load, results.recorded()) if len(runs) > 3]
    held = [compare(run, [o for o in runs if o is not run])["metrics"] for runs in many for run in runs]
    # the older of a recipe's runs may lack what is measured now
    off = [any(each["off"] and each["new"] is not None for each in found.values()) for found in held]
    assert held and sum(off) <= binom.ppf(
        0.99, len(off), 1 - CONFIDENCE
    )  # each by chance in one of a hundred
    mvae, jmvae = results.load("hand-street-mvae"), results.load("hand-street-jmvae")
    assert compare(mvae[0], jmvae)["off"]  # five seeds tell one model from another


# --- command line ---------------------------------------------------------------------------------------------------


def test_help_is_quick_and_needs_no_torch():
    script = (
        "import sys; from mmlib.__main__ import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert main(['recipes']) == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'too much was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for text in ("--seed", "--device", "--threads", "hand-street-mmvae-elbo"):
        assert text in done.stdout


def test_finished_run_answers_without_torch(tmp_path):
    folder = RunFolder(recipes.get("hand-street-mvae"), 0, tmp_path)
    folder.path.mkdir(parents=True)
    folder.write_result({"recipe": folder.recipe.as_dict(), "seed": 0})
    script = (
        "import sys; from mmlib.__main__ import main\n"
        "assert main(['train', 'hand-street-mvae', '--root', sys.argv[1]]) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder.result)


def test_exit_codes_and_messages(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit) as caught:
        command_line.main(["dance"])
    assert caught.value.code == 2
    arguments = ["train", "hand-street-mvae", "--root", str(tmp_path), "--quiet"]
    for error, code in (
        (FloatingPointError("training stopped at step 5"), 1),
        (OSError("no space"), 1),
        (RunLockedError("being run already"), 1),
        (KeyboardInterrupt("stopped after step 3; continue from here"), 130),
    ):
        monkeypatch.setattr(runner, "_make", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert command_line.main(arguments) == code
        assert str(error) in capsys.readouterr().err
