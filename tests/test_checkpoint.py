"""Checkpoints: atomic, checksummed, safe to load, and resumed to the same bits after a kill at any moment."""

import errno
import functools
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy import ToyModel, ToySplit, same, weights

from mmlib.modality import Likelihood, NormalLikelihood
from mmlib.train import Ema, checkpoint, fit, load_weights, save_weights
from mmlib.train.identity import of_model

STEPS = 40
OPTIONS = {
    "steps": STEPS,
    "batch_size": 16,
    "learning_rate": 1e-2,
    "seed": 3,
    "amsgrad": True,
    "log_every": 7,  # not a divisor of the interval of checkpoints: running averages must survive too
    "progress": False,
}


def newest(folder):
    return sorted(folder.glob("step-*.safetensors"))[-1]


def test_round_trip_keeps_tensors_and_state_and_the_last_two_files(tmp_path):
    tensors = {
        "a": torch.randn(3, 4).T,  # not contiguous
        "b": torch.tensor(2, dtype=torch.int64),
        "c": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }
    tensors["tied"] = tensors["a"]
    for step in (1, 20, 300):
        checkpoint.save(tmp_path, step, tensors, {"note": [step, "ä"], "x": 0.1})
    assert [int(path.name[5:14]) for path in sorted(tmp_path.iterdir())] == [20, 300]
    found = checkpoint.load(tmp_path)
    assert found.step == 300
    assert found.state == {"note": [300, "ä"], "x": 0.1}
    assert same(found.tensors, tensors)
    assert checkpoint.load(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "damage", ["a flipped bit in a tensor", "a flipped bit in the header", "cut", "empty"]
)
def test_damaged_file_is_set_aside_and_the_one_before_it_is_used(tmp_path, damage):
    for step in (10, 20):
        checkpoint.save(tmp_path, step, {"x": torch.full((100,), float(step))}, {})
    bad = newest(tmp_path)
    data = bytearray(bad.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = b""
    else:
        data[-3 if "tensor" in damage else 12] ^= 1
    bad.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged; set aside as"):
        found = checkpoint.load(tmp_path)
    assert found.step == 10
    assert bool((found.tensors["x"] == 10).all())
    assert bad.with_suffix(".damaged").exists() and not bad.exists()


def test_full_disk_loses_nothing_and_says_so(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 10, {"x": torch.ones(3)}, {})

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError,
        match="No space left .*: make room; the checkpoint of step 20 was not written, the one of step 10 is intact",
    ) as caught:
        checkpoint.save(tmp_path, 20, {"x": torch.zeros(3)}, {})
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [path.name[5:14] for path in tmp_path.iterdir()] == ["000000010"]
    assert checkpoint.load(tmp_path).step == 10


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_checkpoints_and_weights_are_as_readable_as_the_umask_says(tmp_path, umask):
    before, model = os.umask(umask), ToyModel()
    try:
        fit(model, ToySplit(), **{**OPTIONS, "steps": 2}, checkpoint_dir=tmp_path / "new" / "run")
        save_weights(tmp_path / "new" / "weights.safetensors", model)
    finally:
        os.umask(before)
    files = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(files) == 2 and all(path.stat().st_mode & 0o777 == 0o666 & ~umask for path in files)
    for folder in (tmp_path / "new", tmp_path / "new" / "run"):
        assert folder.stat().st_mode & 0o777 == 0o777 & ~umask


def test_loading_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    data = pickle.dumps(Bomb())
    (tmp_path / f"step-000000010-{checkpoint._checksum(data)}.safetensors").write_bytes(data)
    with pytest.raises(Exception, match="(?i)header|deserializ"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_resumed_run_has_the_weights_and_history_of_an_uninterrupted_one(tmp_path):
    whole = ToyModel()
    history = fit(whole, ToySplit(), **OPTIONS)
    first = ToyModel()

    class Stop(Exception):
        pass

    def stop(step, model):
        if step == 25:
            raise Stop
        return {}

    with pytest.raises(Stop):
        fit(
            first,
            ToySplit(),
            **OPTIONS,
            checkpoint_dir=tmp_path,
            checkpoint_every=10,
            validate_every=5,
            callback=stop,
        )
    assert checkpoint.load(tmp_path).step == 20
    second = ToyModel(seed=99)  # its weights come from the checkpoint
    resumed = fit(second, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path, checkpoint_every=10)
    assert same(weights(second), weights(whole))
    assert [row for row in resumed if "loss" in row] == list(history)
    # and nothing is left to do
    again = ToyModel(seed=5)
    assert list(fit(again, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)) == list(resumed)
    assert same(weights(again), weights(whole))


def test_training_goes_on_where_a_shorter_run_ended(tmp_path):
    whole, model = ToyModel(), ToyModel()
    fit(whole, ToySplit(), **OPTIONS)
    fit(model, ToySplit(), **{**OPTIONS, "steps": 21}, checkpoint_dir=tmp_path)
    fit(model, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    assert same(weights(model), weights(whole))
    with pytest.raises(ValueError, match="steps is 20; the checkpoint in .* has already done 40"):
        fit(model, ToySplit(), **{**OPTIONS, "steps": 20}, checkpoint_dir=tmp_path)


def test_resume_past_a_damaged_checkpoint_reaches_the_same_bits(tmp_path):
    whole, model = ToyModel(), ToyModel()
    fit(whole, ToySplit(), **OPTIONS)
    fit(ToyModel(), ToySplit(), **{**OPTIONS, "steps": 30}, checkpoint_dir=tmp_path, checkpoint_every=10)
    newest(tmp_path).write_bytes(b"half")
    with pytest.warns(UserWarning, match="damaged"):
        fit(model, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    assert same(weights(model), weights(whole))


def test_checkpoint_of_another_loop_is_refused_before_it_changes_anything(tmp_path):
    """Losses averaged for other sides than this loop has, as a former layout kept them."""
    fit(ToyModel(), ToySplit(), **{**OPTIONS, "steps": 5}, checkpoint_dir=tmp_path)
    found = checkpoint.load(tmp_path)
    former = {name: value for name, value in found.state.items() if name != "averages"}
    checkpoint.save(tmp_path, 6, found.tensors, former | {"average": found.state["averages"][""]})
    before = weights(model := ToyModel())
    with pytest.raises(
        ValueError, match="written by another version of the loop; move it away to begin anew"
    ):
        fit(model, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    assert same(weights(model), before)


def test_checkpoint_of_another_model_or_run_is_refused(tmp_path):
    fit(ToyModel(), ToySplit(), **{**OPTIONS, "steps": 5}, checkpoint_dir=tmp_path)
    before = weights(other := ToyModel(latent_dim=5))
    with pytest.raises(ValueError, match="left.encoder.body.3.out_features is 4, expected 10"):
        fit(other, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    assert same(weights(other), before)
    with pytest.raises(ValueError, match="belongs to another run: seed is 3, expected 4"):
        fit(ToyModel(), ToySplit(), **{**OPTIONS, "seed": 4}, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="recipe is None, expected 'b'"):
        fit(ToyModel(), ToySplit(), **OPTIONS, checkpoint_dir=tmp_path, identity={"recipe": "b"})
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.raises(ValueError, match=f"threads is {threads}, expected {threads + 1}"):
            fit(ToyModel(), ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    finally:
        torch.set_num_threads(threads)


class Square(Likelihood):
    """A likelihood of a user's own, with an option that is neither a number nor text."""

    def __init__(self, precision=1.0):
        super().__init__()
        self.precision = torch.full((3,), precision)

    def log_prob(self, params, x):
        return -(params - x).square().sum(-1) * self.precision[0]


def toy(change=lambda model: None, **options):
    model = ToyModel(**options)
    change(model)
    return model


def changed(**attributes):
    """The toy with other attributes: name of the module, then of the attribute."""

    def change(model):
        for path, value in attributes.items():
            *place, name = path.split("__")
            setattr(model.get_submodule(".".join(place)), name, value)

    return toy(change)


def other_rows(split):
    split.x["left"] = split.x["left"].flip(0)
    return split


def hidden(split):
    split.hidden = torch.arange(len(split)) % 3 == 0
    return split


LEFT = "modalities__left__"
ANOTHER = {  # what is another run, and how the refusal names it
    "likelihood": (changed(**{LEFT + "likelihood": Square()}), {}, "left.likelihood is 'NormalLikelihood"),
    "scale": (changed(**{LEFT + "likelihood": NormalLikelihood(2.0)}), {}, r"likelihood.initial is 1.0, expected 2.0"),
    "weight": (changed(**{LEFT + "weight": 2.0}), {}, "modalities.left.weight is 1.0, expected 2.0"),
    "an option": (changed(beta=4.0), {}, "model.beta is None, expected 4.0"),
    "a layer": (changed(modalities__left__encoder__body=nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(8, 4))), {}, "left.encoder.body.1 is 'Tanh', expected 'ReLU'"),
    "dropout": (changed(modalities__left__encoder__body__2=nn.Dropout(0.2)), {}, "body.2.p is 0.1, expected 0.2"),
    "mode": (toy(lambda model: model.eval()), {}, "model.training is True, expected False"),
    "frozen": (toy(lambda model: model.modalities["left"].decoder.requires_grad_(False)), {}, "left.decoder.weight"),
    "precision": (toy(lambda model: model.double()), {}, "weight is .torch.float32.*torch.float64"),
    "data": (toy(), {"split": other_rows(ToySplit())}, "split.left is '[0-9a-f]{12}', expected"),
    "seed of the data": (toy(), {"split": ToySplit(seed=1)}, "split.left is .* split.right is"),
    "mask": (toy(), {"split": hidden(ToySplit())}, "split.right is"),
    "rows": (toy(), {"split": ToySplit(95)}, "split.rows is 96, expected 95"),
    **{
        name: (toy(), {name: value}, f"{name} is .*, expected")
        for name, value in {
            "batch_size": 8, "learning_rate": 2e-2, "seed": 4, "betas": (0.8, 0.999), "eps": 1e-6, "amsgrad": False,
            "clip_norm": 1.0, "clip_value": 1.0, "log_every": 3,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("what", ANOTHER)
def test_a_checkpoint_belongs_to_everything_that_decides_the_numbers(tmp_path, what):
    model, changes, message = ANOTHER[what]
    fit(ToyModel(), ToySplit(), **{**OPTIONS, "steps": 5}, checkpoint_dir=tmp_path)
    changes = {"split": ToySplit(), **changes}
    before = weights(model)
    for steps in (5, STEPS):  # what is done is not given away, what is left is not done
        with pytest.raises(ValueError, match=f"belongs to another run: .*{message}"):
            fit(model, **{**OPTIONS, **changes, "steps": steps}, checkpoint_dir=tmp_path)
    assert same(weights(model), before)


def test_a_checkpoint_belongs_to_its_average(tmp_path):
    def run(*options, folder=tmp_path):
        model = ToyModel()
        fit(
            model, ToySplit(), **OPTIONS, checkpoint_dir=folder, ema=Ema(model, *options) if options else None
        )

    run(0.9, 3, True)
    run(0.9, 3, True)
    for options, shown in (((), "None"), ((0.8, 3, True), r"\[0.8, 3, True"), ((0.9, 3), r"\[0.9, 3, False")):
        with pytest.raises(ValueError, match=rf"ema is \[0.9, 3, True\], expected {shown}"):
            run(*options)
    run(folder=tmp_path / "plain")
    with pytest.raises(ValueError, match=r"ema is None, expected \[0.9"):
        run(0.9, folder=tmp_path / "plain")


def test_what_constants_a_model_holds_is_part_of_it_and_what_it_learns_is_not():
    class Model(ToyModel):
        temperature = 2.0

        def __init__(self, seed=0, grid=0.0, offset=0.0, **options):
            super().__init__(seed=seed)
            self.register_buffer("grid", torch.full((2,), grid), persistent=False)
            self.offset = nn.Parameter(torch.full((2,), offset), requires_grad=False)
            self.options = options
            self.itself = [self]

    plain = of_model(Model())
    assert plain == of_model(Model(seed=1)) == json.loads(json.dumps(plain))
    assert not any(" at 0x" in str(value) for value in plain.values())
    for options in (
        {"grid": 1.0}, {"offset": 1.0}, {"table": np.ones(3)}, {"names": {"a", "b"}}, {"call": torch.relu},
        {"part": nn.ReLU()}, {"rule": functools.partial(max, 2)}, {"type": torch.float16}, {"text": 99 * "x"},
    ):  # fmt: skip
        other = of_model(Model(**options))
        assert other == of_model(Model(**options)) and len({str(plain), str(other)}) == 2
    assert of_model(Model(table=np.ones(99))) != of_model(Model(table=np.arange(99)))
    Model.temperature = 3.0
    assert of_model(Model()) != plain


def test_weights_file(tmp_path):
    model, path = ToyModel(), tmp_path / "deep" / "weights.safetensors"
    save_weights(path, model, recipe="a")
    other = ToyModel(seed=1)
    assert not same(weights(other), weights(model))
    assert load_weights(path, other) == {"recipe": "a"}
    assert same(weights(other), weights(model))
    with pytest.raises(
        ValueError, match=r"holds another model than Linear: .*weight is missing, expected \(2, 2\)"
    ):
        load_weights(path, nn.Linear(2, 2))
    path.write_bytes(path.read_bytes()[:100])
    for wrong, message in (
        (path, "not an intact safetensors file"),
        (tmp_path, "cannot be read .Is a directory"),
        (tmp_path / "nothing", "cannot be read .No such file"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(wrong, other)
    with pytest.raises(ValueError, match="model is the class ToyModel, without state_dict; expected a model"):
        load_weights(path, ToyModel)
    with pytest.raises(OSError, match="Is a directory: a folder is in the place of this file"):
        save_weights(tmp_path, model)
