"""Checkpoints: atomic, checksummed, safe to load, and resumed to the same bits after a kill at any moment."""

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import ToyModel, ToySplit

from mmlib.train import checkpoint, fit, load_weights, save_weights

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


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


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
        OSError, match="checkpoint of step 20 was not written.*the one of step 10 is intact"
    ) as caught:
        checkpoint.save(tmp_path, 20, {"x": torch.zeros(3)}, {})
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert [path.name[5:14] for path in tmp_path.iterdir()] == ["000000010"]
    assert checkpoint.load(tmp_path).step == 10


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
    with pytest.raises(ValueError, match=r"left.encoder.body.3.weight is \(4, 8\), expected \(10, 8\)"):
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
    with pytest.raises(ValueError, match="not an intact safetensors file"):
        load_weights(path, other)


# One process per moment, forked from a parent that has imported torch and started no thread. It trains with checkpoints
# and kills itself with SIGKILL at the moment named; the last one is left alone and finishes.
WORKER = """
import hashlib, json, os, pathlib, signal, sys
import torch
torch.set_num_threads(1)
from toy import ToyModel, ToySplit
from mmlib.train import checkpoint, fit

folder, options, moments = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])

def killing(function, count, before=True, spoil=False):
    calls = 0
    def wrapped(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == count and before:
            if spoil:  # what a crash may leave of a file that was never flushed
                os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 3)
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **keywords)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapped

def train(moment, count):
    callback = lambda step, model: {}
    if moment == "step":
        callback = lambda step, model: os.kill(os.getpid(), signal.SIGKILL) if step == count else {}
    elif moment == "half written":
        os.fsync = killing(os.fsync, count, spoil=True)
    elif moment == "before the rename":
        os.replace = killing(os.replace, count)
    elif moment == "after the rename":
        os.replace = killing(os.replace, count, before=False)
    elif moment == "before the old one is deleted":
        pathlib.Path.unlink = killing(pathlib.Path.unlink, count)
    model = ToyModel()
    fit(model, ToySplit(), **options, checkpoint_dir=folder, checkpoint_every=4, validate_every=1, callback=callback)
    print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest(), flush=True)

reached = []
for moment, count in moments:
    child = os.fork()
    if child == 0:
        train(moment, count)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    expected = 0 if moment == "never" else signal.SIGKILL
    assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)) == expected, (moment, status)
    names = [checkpoint._NAME.fullmatch(name) for name in os.listdir(folder)] if os.path.isdir(folder) else []
    reached.append(max((int(name[1]) for name in names if name), default=0))
print(json.dumps(reached))
"""


def test_killed_at_any_moment_a_run_loses_only_the_steps_since_its_checkpoint(tmp_path):
    """SIGKILL between steps, and before, during and after the writing of a checkpoint; each restart goes on."""

    def start(folder, moments):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", WORKER, str(folder), json.dumps(OPTIONS), json.dumps(moments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "damaged" not in done.stderr, done.stderr
        digest, reached = done.stdout.strip().splitlines()
        return digest, json.loads(reached)

    whole, _ = start(tmp_path / "whole", [("never", 0)])
    moments = {  # each write flushes the file, then its folder: two fsync a checkpoint
        ("step", 3): 0,  # before the first checkpoint
        ("half written", 1): 0,
        ("step", 6): 4,
        ("half written", 3): 8,
        ("before the rename", 1): 8,
        ("after the rename", 2): 16,
        ("before the old one is deleted", 2): 20,
        ("half written", 5): 28,
        ("never", 0): STEPS,
    }
    digest, reached = start(tmp_path / "killed", list(moments))
    assert dict(zip(moments, reached, strict=True)) == moments
    assert digest == whole
