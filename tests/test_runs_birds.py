"""A run on pictures and captions from end to end: trained, watched and measured by correlations, and drawn."""

import dataclasses
import json

import pytest
import torch
from PIL import Image

from mmlib.data import CaptionCoder
from mmlib.metrics import CaptionJudges
from mmlib.nets import CaptionDecoder, CaptionJointEncoder, FeatureEncoder
from mmlib.nets.plain import PlainDecoder, PlainEncoder, SymbolEncoder
from mmlib.plots import captioned
from mmlib.runs import build
from mmlib.runs.recipes import RECIPES
from mmlib.runs.runner import run
from mmlib.runs.trained import evaluate_run
from mmlib.train.adversarial import SIDES

pytest.importorskip("gensim")
DATA = {"train": 100, "validation": 30, "test": 30, "captions": 2}
TINY = dataclasses.replace(
    RECIPES["birds-jmvae"], name="tiny", steps=8, width=0.05, latent_dim=4, batch_size=8, validations=4,
    data_options=DATA, likelihood_rows=4, likelihood_k=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(cache):
    return build.build_data(TINY, cache)


def test_a_run_from_end_to_end(tmp_path, cache):
    path = run(TINY, 0, tmp_path, progress=False, cache=cache)
    result = json.loads(path.read_text())
    for split in ("validation", "test"):
        found = result["metrics"][split]
        assert set(found["correlation"]) == {"whitened", "official"}
        assert found["correlation"]["whitened"]["cross"]["image"]["caption"]["n"] == 60
        assert found["attribute_agreement"]["real"]["value"] == 1
    assert set(result["metrics"]["test"]["log_likelihood"])
    watched = [row for row in result["history"] if "validation/cross_correlation/image/caption" in row]
    assert len(watched) == 4 and "coherence moved by" in result["convergence"]["text"]
    with Image.open(path.parent / "samples.png") as picture:
        assert picture.size[0] > 300
    again = evaluate_run(TINY, 0, "validation", tmp_path, cache=cache)
    assert again["correlation"] == result["metrics"]["validation"]["correlation"]


def test_a_run_on_codes_of_captions(tmp_path, cache):
    """MMALI, which takes no symbols: what it makes of captions is read, and judged as words like any other model's."""
    tiny = dataclasses.replace(
        RECIPES["birds-mmali"], name="tiny-codes", steps=8, width=0.05, batch_size=8, validations=4,
        data_options=RECIPES["birds-mmali"].data_options | DATA,
    )  # fmt: skip
    path = run(tiny, 0, tmp_path, progress=False, cache=cache)
    result = json.loads(path.read_text())
    for split in ("validation", "test"):
        found = result["metrics"][split]
        assert set(found["correlation"]) == {"whitened", "official", "codes"}
        for scores in found["correlation"].values():
            assert scores["cross"]["image"]["caption"]["n"] == 60 and set(scores["cross"]["caption"]) == {
                "image"
            }
        # of captions that the coder has read, which learned from 200 only
        assert (
            0.5 < found["attribute_agreement"]["real"]["value"] <= found["parse_rate"]["real"]["value"] <= 1
        )
        assert set(found["posterior_scales"]) == {"image", "caption"}
    assert "no density" in result["metrics"]["test"]["log_likelihood"]
    assert len([row for row in result["history"] if "validation/cross_correlation/image/caption" in row]) == 4
    with Image.open(path.parent / "samples.png") as picture:
        assert picture.size[0] > 300
    again = evaluate_run(tiny, 0, "validation", tmp_path, cache=cache)
    assert again["correlation"] == result["metrics"]["validation"]["correlation"]


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("birds-")])
def test_recipes_take_a_step_on_their_data(name, data):
    recipe = dataclasses.replace(RECIPES[name], width=0.05)
    if recipe.model == "mmali":
        data = data.coded(CaptionCoder(32, len(data.vocabulary)).eval())
        model, draw = build.build_model(recipe, data, 0), torch.Generator().manual_seed(0)
        losses = (getattr(model, f"{side}_loss") for side in SIDES)
        assert all(
            torch.isfinite(loss(data.train.batch(torch.arange(8)), generator=draw)[0]) for loss in losses
        )
        return
    model = build.build_model(recipe, data, 0)
    image, caption = (model.modalities[part] for part in ("image", "caption"))
    assert caption.weight == 16 and image.weight == 1
    assert (
        caption.likelihood.padding == data.padding["caption"]
        and image.likelihood.scale == recipe.likelihood_scale
    )
    loss, _ = model.loss(data.train.batch(torch.arange(8)), generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_networks_are_chosen_by_name(data):
    options = {"joint_encoder": "captions-small"}
    small = dataclasses.replace(TINY, networks="cub-small", model_options=options)
    plain = dataclasses.replace(TINY, networks="")
    model = build.build_model(small, data, 0)
    assert isinstance(model.modalities["image"].encoder, FeatureEncoder)
    assert isinstance(model.modalities["caption"].decoder, CaptionDecoder)
    assert isinstance(model.joint_encoder, CaptionJointEncoder)
    words = build.build_model(TINY, data, 0)
    assert isinstance(words.modalities["caption"].encoder, SymbolEncoder)
    assert isinstance(words.modalities["caption"].decoder, PlainDecoder)
    trunks = words.joint_encoder.trunks
    assert isinstance(trunks["image"], FeatureEncoder) and isinstance(trunks["caption"], SymbolEncoder)
    assert trunks["caption"] is not words.modalities["caption"].encoder
    assert isinstance(build.build_model(plain, data, 0).modalities["image"].encoder, PlainEncoder)
    assert plain.hash != TINY.hash and "networks" not in plain.content
    with pytest.raises(ValueError, match="networks is 'vgg'; expected one of"):
        build.check(dataclasses.replace(TINY, networks="vgg"))


def test_judges_do_not_depend_on_the_share_of_the_data(data, cache):
    part = dataclasses.replace(TINY, data_options={**DATA, "fraction": 0.5})
    fewer = build.build_data(part, cache)
    judges = build.build_classifiers(build.judges_data(part, fewer, cache), cache)
    assert isinstance(judges, CaptionJudges) and len(judges.features) == 100 > len(fewer.train.items["image"])
    assert torch.equal(judges.vectors, build.build_classifiers(data, cache).vectors)


def test_pictures_stand_beside_their_captions():
    pictures = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    page = captioned(pictures, ["a red bird , flying"] * 4, columns=3)
    assert page.shape == (200, 3 * 316, 3)
    assert page[:96, :96].max() == 0 and page[:96, 96:316].min() < 0.5 < page[:96, 96:316].max()
    assert page[100:, 316:].min() == 1  # one in the second row
    assert captioned(None, ["a bird"]).min() < 0.5
    for wrong in ((pictures, ["one"]), (None, [])):
        with pytest.raises(ValueError, match="expected as many, one or more"):
            captioned(*wrong)
