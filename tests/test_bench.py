"""The work of a training step, as the table of costs states it."""

import bench
import pytest
import torch

from mmlib.models import MODELS


@pytest.mark.parametrize(("m", "k"), [(2, 1), (2, 3), (3, 1), (4, 1)])
@pytest.mark.parametrize("name", bench.DECODINGS)
def test_decodings_of_a_step_are_those_that_theory_says(name, m, k):
    shapes = {f"x{i}": (1, 16, 16) for i in range(m)}
    model = bench.built(name, {"k": k} if name in bench.DRAWS else {}, shapes, 0.1)
    decoded, batch, draw = [], bench.Noise(shapes, 8).x, torch.Generator().manual_seed(0)
    for part in model.modalities.values():
        part.decoder.register_forward_hook(lambda module, codes, pixels: decoded.append(len(pixels) / 8))
    sides = ["discriminator_loss", "generator_loss"] if name == "mmali" else ["loss"]
    drawn = (
        name.endswith("mvae") and "mmvae" not in name and "jmvae" not in name and m > 2
    )  # subsets of each step
    steps = 40 if drawn else 1
    for side in sides * steps:
        getattr(model, side)(batch, generator=draw)
    expected = bench.DECODINGS[name](m, k if name in bench.DRAWS else 1)
    assert sum(decoded) / steps == pytest.approx(expected, abs=0.3 if drawn else 1e-9)


def test_every_model_has_its_cost_stated():
    assert set(bench.DECODINGS) == set(MODELS)


def test_a_pass_for_each_code_computes_the_same():
    shapes = {"x0": (1, 16, 16), "x1": (1, 16, 16)}
    batch, losses, passes = bench.Noise(shapes, 8).x, [], []
    for apart in (False, True):
        model = bench.built("meme", {"apart": apart, "k": 3}, shapes, 0.1)
        calls = []
        for part in model.modalities.values():
            part.decoder.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        losses.append(model.loss(batch, generator=torch.Generator().manual_seed(0))[0].item())
        passes.append(len(calls))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # single precision
    assert passes == [4, 2 * (1 + 4)]
