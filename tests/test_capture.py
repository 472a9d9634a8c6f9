"""Pausing, averaging and recording: what the loop does around its step."""

import pytest
import torch
from toy import ToyModel, ToySplit, same, weights

from mmlib.data import load
from mmlib.runs.build import build_model
from mmlib.runs.recipes import get
from mmlib.train import Ema, Paused, capture, checkpoint, fit

OPTIONS = {"steps": 12, "batch_size": 16, "learning_rate": 1e-2, "seed": 3, "progress": False}


def trained(**changes):
    model = ToyModel()
    fit(model, ToySplit(), **{**OPTIONS, **changes})
    return weights(model)


# --- pausing --------------------------------------------------------------------------------------------------------


def test_a_pause_saves_and_the_run_goes_on_to_the_same_bits(tmp_path):
    asked = iter([False] * 4 + [True] + [False] * 20)
    with pytest.raises(Paused, match="stopped after step 5 of 12; continue from"):
        fit(ToyModel(), ToySplit(), **OPTIONS, checkpoint_dir=tmp_path, stop=lambda: next(asked))
    assert checkpoint.load(tmp_path).step == 5
    model = ToyModel(seed=9)
    fit(model, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    assert same(weights(model), trained())


def test_a_run_that_is_done_does_not_pause():
    steps = []
    fit(ToyModel(), ToySplit(), **OPTIONS, stop=lambda: steps.append(1) or len(steps) >= 12)
    assert len(steps) == 11  # not asked after the last step: nothing is left to pause
    with pytest.raises(Paused, match="nothing was saved"):
        fit(ToyModel(), ToySplit(), **OPTIONS, stop=lambda: True)


# --- averaging ------------------------------------------------------------------------------------------------------


def test_the_average_is_the_recursion_written_out_and_survives_a_pause(tmp_path):
    model, seen = ToyModel(), []
    ema = Ema(model, decay=0.9, start=3)
    fit(
        model, ToySplit(), **OPTIONS, ema=ema, validate_every=1,
        callback=lambda step, model: seen.append(weights(model)) or {},
    )  # fmt: skip
    expected = seen[2]  # a copy up to step 3
    for step in range(3, 12):
        expected = {name: 0.9 * expected[name] + 0.1 * seen[step][name] for name in expected}
    for name, value in ema.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)  # float32, twelve additions
    whole = weights(ema.model)
    assert not same(whole, weights(model))

    def make():
        fresh = ToyModel()
        return fresh, Ema(fresh, decay=0.9, start=3)

    first, average = make()
    with pytest.raises(Paused):
        asked = iter([False] * 6 + [True])
        fit(first, ToySplit(), **OPTIONS, ema=average, checkpoint_dir=tmp_path, stop=lambda: next(asked))
    second, average = make()
    fit(second, ToySplit(), **OPTIONS, ema=average, checkpoint_dir=tmp_path)
    assert same(weights(average.model), whole)
    other = ToyModel()
    with pytest.raises(ValueError, match="belongs to another run: ema is"):
        fit(other, ToySplit(), **OPTIONS, ema=Ema(other, 0.5), checkpoint_dir=tmp_path)


def test_averaging_changes_no_bit_of_the_training():
    model = ToyModel()
    fit(model, ToySplit(), **OPTIONS, ema=Ema(model, 0.9))
    assert same(weights(model), trained())
    for options in ({"decay": 1.0}, {"decay": 0.5, "start": -1}):
        with pytest.raises(ValueError, match="expected"):
            Ema(model, **options)


# --- recording ------------------------------------------------------------------------------------------------------


class GatherSplit(ToySplit):
    """A toy whose batches can be made on the device alone."""

    observed = None

    def gather(self, rows, device=None):
        return self.batch(rows, device)


def stand_in(monkeypatch, spoil=0.0):
    """Recording without a GPU: a replay takes the step again, into the tensors of the first time."""

    def record(step, noise):
        state = noise.get_state()
        outputs = step()
        noise.set_state(state)

        def replay():
            loss, parts = step()
            outputs[0].copy_(loss + spoil)
            for name, part in parts.items():
                outputs[1][name].copy_(part)

        return replay, outputs

    monkeypatch.setattr(capture, "record", record)
    monkeypatch.setattr(capture, "warm_up", lambda step: [step() for _ in range(capture.WARM_UP)])
    monkeypatch.setattr("mmlib.train.loop.RECORDABLE", ("cpu",))


class Steady(ToyModel):
    """Without dropout: the global random stream of the CPU is not what a graph would rewind."""

    def __init__(self, seed=0):
        super().__init__(seed=seed)
        for module in self.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0


@pytest.mark.parametrize("changes", [{}, {"amsgrad": True, "clip_norm": 0.5, "clip_value": 0.1}])
def test_recording_leaves_everything_as_it_was_and_replays_the_same_steps(monkeypatch, tmp_path, changes):
    stand_in(monkeypatch)
    eager, replayed = Steady(), Steady()
    plain = fit(eager, GatherSplit(), **OPTIONS, **changes)
    history = fit(replayed, GatherSplit(), **OPTIONS, **changes, capture=True)
    assert history.captured and not plain.captured
    assert same(weights(eager), weights(replayed))
    assert [row["loss"] for row in plain] == [row["loss"] for row in history]
    resumed = Steady()
    fit(resumed, GatherSplit(), **{**OPTIONS, "steps": 5}, **changes, checkpoint_dir=tmp_path)
    resumed = Steady(seed=9)
    fit(resumed, GatherSplit(), **OPTIONS, **changes, checkpoint_dir=tmp_path, capture=True)
    assert same(weights(eager), weights(resumed))  # Adam's moments were not empty when the step was recorded


def test_a_replay_that_does_something_else_is_not_trusted(monkeypatch):
    stand_in(monkeypatch, spoil=1.0)
    eager, model = Steady(), Steady()
    fit(eager, GatherSplit(), **OPTIONS)
    with pytest.warns(
        RuntimeWarning, match="goes on without a recorded step: replayed and eager steps differ"
    ):
        history = fit(model, GatherSplit(), **OPTIONS, capture=True)
    assert not history.captured and same(weights(eager), weights(model))


def test_a_step_that_cannot_be_recorded_is_taken_eagerly(monkeypatch):
    stand_in(monkeypatch)

    def refuse(step, noise):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(capture, "record", refuse)
    eager, model = Steady(), Steady()
    fit(eager, GatherSplit(), **OPTIONS)
    with pytest.warns(RuntimeWarning, match="without a recorded step: operation not permitted"):
        fit(model, GatherSplit(), **OPTIONS, capture=True)
    assert same(weights(eager), weights(model))


def test_rows_that_miss_modalities_are_not_recorded(monkeypatch):
    stand_in(monkeypatch)
    split = GatherSplit()
    split.observed = {"left": torch.ones(len(split), dtype=torch.bool)}
    assert not fit(Steady(), split, **OPTIONS, capture=True).captured


def test_recording_needs_a_cuda_device():
    with pytest.raises(ValueError, match="capture is True on device 'cpu'; expected a CUDA device"):
        fit(ToyModel(), ToySplit(), **OPTIONS, capture=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("name", ["mvae", "jmvae", "mmvae-elbo", "mmvae-iwae-looser-plain"])
def test_on_cuda_replayed_and_eager_training_agree(name):
    recipe = get(f"hand-street-{name}")
    data = load("hand-street")
    models = [build_model(recipe, data, seed=0) for _ in range(2)]
    histories = [
        fit(
            model, data.train, 30, 64, recipe.learning_rate, log_every=1, device="cuda", capture=capture,
            progress=False,
        )
        for model, capture in zip(models, (False, True), strict=True)
    ]  # fmt: skip
    assert histories[1].captured
    eager, replayed = (torch.tensor(history.column("loss")) for history in histories)
    torch.testing.assert_close(
        replayed, eager, rtol=2e-3, atol=0
    )  # atomics add in any order; thirty steps of Adam
