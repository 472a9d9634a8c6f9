"""Runs on faces from end to end: trained, watched and measured by average precision; no real face is ever drawn."""

import dataclasses
import json
from functools import partial

import pytest
import torch
from PIL import Image
from test_data_celeba import FOLDER, NUMBERS, noise, write_lists
from torch import nn

from mmlib.metrics import AttributeJudges, evaluate
from mmlib.runs import build, training
from mmlib.runs.recipes import RECIPES
from mmlib.runs.runner import run
from mmlib.runs.trained import evaluate_run, load_trained
from mmlib.train import fit

TINY = dataclasses.replace(
    RECIPES["faces-mmjsd-styles"], name="tiny", steps=8, width=0.02, latent_dim=6, batch_size=8, validations=4,
    data_options={"size": 32, "train": 60, "validation": 20, "test": 20}, likelihood_rows=2, likelihood_k=2,
    model_options=RECIPES["faces-mmjsd-styles"].model_options | {"style_dim": 3},
)  # fmt: skip
NAMES = [name for name in RECIPES if name.startswith(("faces-", "celeba")) and name.endswith("-styles")]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    small = {"width": 0.03, "steps": 3}
    monkeypatch.setattr(build, "ATTRIBUTE_JUDGES", {"faces": small, "celeba": small})
    monkeypatch.setattr(training, "evaluate", partial(evaluate, samples=40))


@pytest.mark.parametrize("networks", ["faces-small", "faces"])
def test_a_run_from_end_to_end(tmp_path, cache, networks):
    """Also of networks with batch norm and dropout: trained in training mode, measured at rest."""
    recipe = dataclasses.replace(TINY, networks=networks)
    path = run(recipe, 0, tmp_path, progress=False, cache=cache)
    result = json.loads(path.read_text())
    for split in ("validation", "test"):
        found = result["metrics"][split]
        assert set(found["generation_precision"]) == {"image", "text", "all"}
        assert found["latent_precision"]["all"]["Smiling"]["n"] == 20
        assert found["real_precision"]["text"]["mean"]["value"] == 1
    assert set(result["metrics"]["test"]["log_likelihood"])
    watched = [row for row in result["history"] if "validation/cross_precision/image/text" in row]
    assert len(watched) == 4 and "coherence moved by" in result["convergence"]["text"]
    with Image.open(path.parent / "samples.png") as picture:
        assert picture.size[0] > 300
    again = evaluate_run(recipe, 0, "validation", tmp_path, cache=cache)
    assert again["generation_precision"] == result["metrics"]["validation"]["generation_precision"]
    assert not load_trained(recipe, 0, tmp_path, cache=cache)[0].training


def test_of_real_faces_no_picture_is_kept(tmp_path):
    folder = tmp_path / "CelebA"
    (folder / FOLDER).mkdir(parents=True)
    for name in NUMBERS:
        (folder / FOLDER / name).write_bytes(noise(name))
    write_lists(folder)
    recipe = dataclasses.replace(TINY, dataset="celeba", data_options={"size": 32}, batch_size=4)
    path = run(recipe, 0, tmp_path / "runs", progress=False, cache=tmp_path)
    metrics = json.loads(path.read_text())["metrics"]
    assert metrics["test"]["generation_precision"]["image"]["text"]["mean"]["n"] == 2
    assert not list((tmp_path / "runs").rglob("*.png"))


def test_training_with_dropout_and_batch_norm_continues_to_the_same_bits(tmp_path, cache):
    data = build.build_data(TINY, cache)
    recipe, options = dataclasses.replace(TINY, networks="faces"), {"batch_size": 8, "progress": False}

    def weights(*stops, folder=None):
        for steps in stops:  # a new model each time: what it has learned comes from the checkpoint
            model = build.build_model(recipe, data, 0)
            fit(model, data.train, steps, seed=0, checkpoint_dir=folder, **options)
        return model.state_dict()

    whole, broken = weights(6), weights(3, 6, folder=tmp_path / "checkpoints")
    assert any("running_mean" in name for name in whole)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_the_papers_where_it_speaks(name):
    """Sutter et al. 2020, supplement, Section C.4.2: beta 2.5, private codes twice that, 32 + 32 numbers, Laplace."""
    recipe = RECIPES[name]
    shapes = {"image": (3, 64, 64), "text": (256,)}
    with torch.device("meta"):
        data = type("Data", (), {"shapes": shapes, "symbols": {"text": 71}})
        model = build.build_model(recipe, data, 0)
    assert model.beta == 2.5 and model.style_beta == {"image": 2.0, "text": 2.0}
    assert model.style_dims == {"image": 32, "text": 32} and model.latent_dim == 32
    assert [m.weight for m in model.modalities.values()] == [1.0, 48.0]
    assert recipe.likelihood == "laplace" and recipe.learning_rate == 1e-3
    if recipe.model == "mmjsd":  # mmjsd-silent-1
        assert model.weights == {"image": 0.35, "text": 0.35} and model.prior_weight == pytest.approx(0.3)
    restless = any(isinstance(part, nn.Dropout | nn.BatchNorm2d) for part in model.modules())
    assert restless == name.startswith("celeba-")
    if restless:
        assert recipe.steps == 100 * (162_770 // 256) and recipe.batch_size == 256 and recipe.width == 1.0
    assert recipe.faithful == (restless and recipe.name != "celeba-mopoe-styles")  # MoPoE is not in the paper


def test_one_recipe_has_no_private_codes_and_is_alike_in_all_else():
    shared, split = RECIPES["faces-mmjsd"], RECIPES["faces-mmjsd-styles"]
    options = split.model_options | {"style_dim": 0, "style_beta": 1.0}
    source = {"name": shared.name, "source": shared.source}
    assert shared == dataclasses.replace(split, model_options=options, **source)


def test_judges_do_not_depend_on_the_share_of_the_data(cache):
    data = build.build_data(TINY, cache)
    part = dataclasses.replace(TINY, data_options=TINY.data_options | {"fraction": 0.5})
    fewer = build.build_data(part, cache)
    judges = build.build_classifiers(build.judges_data(part, fewer, cache), cache)
    images = data.test.batch()["image"]
    assert isinstance(judges, AttributeJudges) and len(fewer.train) == 30
    assert torch.equal(judges.network(images), build.build_classifiers(data, cache).network(images))
