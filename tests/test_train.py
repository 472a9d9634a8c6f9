"""The training loop: what it computes, what it refuses, and that it is a function of its arguments alone."""

import io
import os
import random
import signal

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy import ToyModel, ToySplit, same, weights

from mmlib.data import load
from mmlib.data.batches import rows_at
from mmlib.seeding import child, generator, seed_all
from mmlib.train import History, fit
from mmlib.train.rows import ready

OPTIONS = {"steps": 12, "batch_size": 16, "learning_rate": 1e-2, "seed": 3, "progress": False}


def trained(**changes):
    model = ToyModel()
    history = fit(model, ToySplit(), **{**OPTIONS, **changes})
    return weights(model), history


def test_training_learns():
    _, history = trained(steps=300, batch_size=32, log_every=50)
    losses = history.column("loss")
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 3  # nats; the noise of such a mean is about 0.1


def test_same_seed_same_weights_whatever_the_global_random_state():
    torch.manual_seed(1)
    first, history = trained()
    torch.manual_seed(2)
    torch.randn(5)
    second, again = trained()
    assert same(first, second) and list(history) == list(again)
    assert not same(first, trained(seed=4)[0])


def test_caller_keeps_its_random_state_and_the_model_its_mode():
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    model = ToyModel().eval()
    fit(model, ToySplit(), **OPTIONS)
    assert torch.equal(torch.rand(4), expected)
    assert not model.training


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"amsgrad": True, "betas": (0.8, 0.99), "eps": 1e-4},
        {"clip_norm": 0.5},
        {"clip_value": 0.02},
        {"clip_norm": 0.5, "clip_value": 0.02},
    ],
    ids=lambda options: ", ".join(options) or "plain Adam",
)
def test_steps_are_those_of_adam_written_out(options):
    """Against Adam by its own formulas in float64, fed with the loop's rows, noise and order of clipping."""
    model = ToyModel().double().eval()  # eval: no dropout, so only the named streams matter
    split = ToySplit()
    split.x = {name: x.double() for name, x in split.x.items()}
    reference = ToyModel().double().eval()
    fit(model, split, **OPTIONS, **options)

    (b1, b2), eps = options.get("betas", (0.9, 0.999)), options.get("eps", 1e-8)
    noise = generator(child(OPTIONS["seed"], "noise"))
    parameters = list(reference.parameters())
    m, v, top = ([torch.zeros_like(p) for p in parameters] for _ in range(3))
    for step in range(OPTIONS["steps"]):
        rows = rows_at(step, len(split), OPTIONS["batch_size"], OPTIONS["seed"])
        loss, _ = reference.loss(*ready(split.batch(rows), None), noise)
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum(g.square().sum() for g in gradients))
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                if "clip_norm" in options:
                    g = g * min(1.0, options["clip_norm"] / (float(norm) + 1e-6))
                if "clip_value" in options:
                    g = g.clamp(-options["clip_value"], options["clip_value"])
                m[i] = b1 * m[i] + (1 - b1) * g
                v[i] = b2 * v[i] + (1 - b2) * g**2
                top[i] = torch.maximum(top[i], v[i])
                second = (top[i] if options.get("amsgrad") else v[i]) / (1 - b2 ** (step + 1))
                p -= OPTIONS["learning_rate"] * m[i] / (1 - b1 ** (step + 1)) / (second.sqrt() + eps)
    for name, value in model.state_dict().items():
        # float64; the fused kernel divides and takes the root in another order
        torch.testing.assert_close(value, reference.state_dict()[name], rtol=1e-9, atol=1e-11)


def test_history_averages_the_loss_and_its_parts_over_the_steps_since_the_row_before():
    _, fine = trained(log_every=1)
    _, coarse = trained(log_every=5)
    assert [row["step"] for row in coarse] == [5, 10, 12]
    for name in ("loss", "left", "right"):
        each = fine.column(name)
        expected = [each[:5].mean(), each[5:10].mean(), each[10:].mean()]
        np.testing.assert_allclose(coarse.column(name), expected, rtol=1e-12)
    # float32 loss against the sum of parts averaged in float64
    np.testing.assert_allclose(fine.column("loss"), -fine.column("left") - fine.column("right"), rtol=1e-5)
    assert fine.cpu_seconds > 0 and fine.wall_seconds > 0


def test_callback_joins_the_history_and_always_sees_the_last_step():
    seen = []

    def callback(step, model):
        seen.append(step)
        return {"validation/loss": 10.0 * step}

    _, history = trained(validate_every=5, callback=callback, log_every=10)
    assert seen == [5, 10, 12]
    assert history.column("validation/loss").tolist() == [50, 100, 120]
    assert history.steps("validation/loss").tolist() == [5, 10, 12]
    assert (
        [row["step"] for row in history] == [5, 10, 12] and "loss" in history[1] and "loss" not in history[0]
    )
    with pytest.raises(
        ValueError, match="name is 'coherence'; expected one of validation/loss, loss, left, right"
    ):
        history.column("coherence")
    with pytest.raises(ValueError, match="name is .* expected one of none"):
        History().column("loss")


def test_data_is_validated_once_and_before_the_first_step():
    calls = []

    class Spy(ToyModel):
        def loss(self, batch, mask=None, generator=None, validate=True):
            calls.append((validate, sorted(mask)))
            return super().loss(batch, mask, generator, validate)

    fit(Spy(), ToySplit(), **OPTIONS)
    assert calls == [(False, ["left", "right"])] * OPTIONS["steps"]
    calls.clear()
    for spoil, message in (
        (lambda x: x.__setitem__((95, 1), torch.nan), "NaN or infinity in observed row"),
        (lambda x: x.resize_(96, 5), r"batch\['right'\] has shape"),
    ):
        split = ToySplit()
        spoil(split.x["right"])
        with pytest.raises(ValueError, match=message):
            fit(Spy(), split, **OPTIONS)
    split = ToySplit()
    split.x["middle"] = split.x["left"]
    with pytest.raises(ValueError, match="middle"):
        fit(Spy(), split, **OPTIONS)
    assert not calls


def test_what_is_hidden_may_be_anything():
    results = []
    for filling in (0.0, torch.nan, 1e30):
        split, model = ToySplit(), ToyModel()
        split.hidden = torch.arange(len(split)) % 3 == 0
        split.x["right"][split.hidden] = filling
        history = fit(model, split, **OPTIONS)
        results.append((weights(model), list(history)))
    for others, rows in results[1:]:
        assert same(others, results[0][0]) and rows == results[0][1]
    assert not same(results[0][0], trained()[0])


class Breaking(ToyModel):
    """Goes bad at one step: some rows of a part, the loss alone, or the gradient."""

    def __init__(self, how, at):
        super().__init__()
        self.how, self.at, self.calls = how, at, 0

    def loss(self, batch, mask=None, generator=None, validate=True):
        self.calls += 1
        loss, parts = super().loss(batch, mask, generator, validate)
        if self.calls == self.at and self.how == "part":
            parts["right"] = torch.where(torch.arange(16) < 3, torch.nan, parts["right"])
            loss = -(parts["left"] + parts["right"]).mean()
        if self.calls == self.at and self.how == "infinite loss":
            loss = loss + torch.inf
        if self.calls == self.at and self.how == "gradient":
            weight = self.modalities["left"].decoder.weight
            loss = loss + torch.sqrt((weight - weight.detach()).square().sum())  # 0, its derivative is not
        return loss, parts


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("part", "stopped at step 5: not finite: 'right' in 3 of 16 rows"),
        ("infinite loss", "stopped at step 5: not finite: the loss, although its parts are"),
        (
            "gradient",
            "stopped at step 6: not finite: 'left' in 16 of 16 rows.*no longer finite before it, modalities.left",
        ),
    ],
)
def test_what_is_not_finite_stops_the_training_and_is_named(how, message, tmp_path):
    model = Breaking(how, at=5)
    with pytest.raises(FloatingPointError, match=message):
        fit(model, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path, checkpoint_every=2)
    finite = all(bool(torch.isfinite(p).all()) for p in model.parameters())
    assert finite == (how != "gradient")
    again = Breaking(how, at=5)  # the checkpoint of step 4 is a good one
    fit(again, ToySplit(), **{**OPTIONS, "steps": 4}, checkpoint_dir=tmp_path)
    assert same(weights(again), trained(steps=4)[0])


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    with pytest.raises(
        FloatingPointError, match="the parameters are no longer finite after step 5, modalities.left"
    ):
        fit(Breaking("gradient", at=5), ToySplit(), **OPTIONS, checkpoint_dir=tmp_path, checkpoint_every=5)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FloatingPointError, match="after step 12"):
        fit(Breaking("gradient", at=12), ToySplit(), **OPTIONS)


def test_first_interrupt_saves_and_the_run_goes_on_to_the_same_bits(tmp_path):
    before = signal.getsignal(signal.SIGINT)

    def press(step, model):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    options = {**OPTIONS, "validate_every": 1, "callback": press}
    with pytest.raises(KeyboardInterrupt, match="stopped after step 5 of 12; continue from"):
        fit(ToyModel(), ToySplit(), **options, checkpoint_dir=tmp_path)
    assert signal.getsignal(signal.SIGINT) is before
    model = ToyModel(seed=9)
    fit(model, ToySplit(), **OPTIONS, checkpoint_dir=tmp_path)
    assert same(weights(model), trained()[0])
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        fit(ToyModel(), ToySplit(), **options)


def test_second_interrupt_stops_at_once():
    def press_twice(step, model):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("reached the end of the callback")

    with pytest.raises(KeyboardInterrupt, match="second interrupt"):
        fit(ToyModel(), ToySplit(), **OPTIONS, validate_every=1, callback=press_twice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0; expected an integer of at least 1"),
        ({"batch_size": 97}, "batch_size is 97; expected 1 to n = 96"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        (
            {"callback": lambda step, model: {}},
            "validate_every is None; callback and validate_every go together",
        ),
        ({"validate_every": 3}, "callback is None"),
        ({"checkpoint_every": 3}, "checkpoint_dir is None; expected a folder"),
        ({"device": "cuda:77"}, "device is 'cuda:77'; expected one that this machine has: cpu"),
        ({"device": "abacus"}, "device is 'abacus'"),
        ({"device": None}, "device is 'None'"),
        ({"log_every": 0}, "log_every is 0"),
        ({"seed": "3"}, "seed is '3'"),
        ({"steps": True}, "steps is True"),
        ({"steps": float("inf")}, "steps is inf"),
        ({"learning_rate": float("nan")}, "learning_rate is nan; expected a positive number"),
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'"),
        ({"betas": 0.9}, "betas is 0.9; expected two numbers"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\] is 1.0; expected a number from 0 to 1"),
        ({"eps": -1e-8}, "eps is -1e-08"),
        ({"amsgrad": "no"}, "amsgrad is 'no'"),
        ({"clip_norm": -1.0}, "clip_norm is -1.0; expected a positive number"),
        ({"clip_value": float("inf")}, "clip_value is inf"),
        ({"checkpoint_every": 2.0, "checkpoint_dir": "x"}, "checkpoint_every is 2.0"),
        ({"validate_every": "2", "callback": print}, "validate_every is '2'"),
        ({"validate_every": 2, "callback": 3}, "callback is 3; expected a function"),
        ({"stop": True}, "stop is True; expected a function"),
        ({"checkpoint_dir": __file__}, "checkpoint_dir is .* is a file; expected a folder"),
        (
            {"checkpoint_dir": __file__ + "/below"},
            "checkpoint_dir is .*test_train.py is a file; expected a folder",
        ),
        ({"checkpoint_dir": 3}, "checkpoint_dir is 3; expected the path of a folder"),
        ({"identity": {"a": {1}}}, "identity cannot be written as JSON"),
        ({"model": None}, "model is None, without modalities; expected fit trains"),
        ({"model": ToyModel}, "model is the class ToyModel"),
        ({"model": torch.nn.Linear(2, 2)}, "model is of type Linear, without modalities"),
        (
            {"model": ToyModel().half()},
            r"model is in torch.float16; expected float32 or float64: call model.float\(\)",
        ),
        ({"model": ToyModel().bfloat16()}, "model is in torch.bfloat16"),
        ({"split": None}, "split is None, without len; expected a split, such as data.train"),
        ({"split": ToySplit().x}, "split is of type dict, without batch"),
        ({"split": DataLoader([1, 2])}, "split is of type DataLoader, without batch"),
        ({"split": torch.ones(5, 2)}, r"split is of type Tensor of shape \(5, 2\), without batch"),
        ({"split": ToySplit(0)}, "split has no rows"),
    ],
)
def test_what_is_wrong_is_refused_before_any_work(change, message):
    model = ToyModel()
    before = weights(model)
    with pytest.raises(ValueError, match=message) as caught:
        fit(**{"model": model, "split": ToySplit(), **OPTIONS, **change})
    assert same(weights(model), before) and "\n" not in str(caught.value)


def test_a_whole_data_set_is_no_split():
    with pytest.raises(
        ValueError, match="split is a whole data set; expected one of its splits, such as data.train"
    ):
        fit(ToyModel(), load("multi-hand", dm=1), **OPTIONS)


def test_numpys_numbers_are_numbers():
    options = {name: np.array(value)[()] for name, value in OPTIONS.items() if name != "progress"}
    assert same(trained(**options, clip_norm=np.float32(0.5))[0], trained(clip_norm=0.5)[0])


def test_a_model_in_double_precision_trains_on_single_precision_data():
    model, other = ToyModel().double(), ToyModel().double()
    fit(model, ToySplit(), **OPTIONS)
    split = ToySplit()
    split.x = {name: x.double() for name, x in split.x.items()}
    fit(other, split, **OPTIONS)
    assert same(weights(model), weights(other)) and next(model.parameters()).dtype == torch.float64
    split.x = {name: x.double() for name, x in ToySplit().x.items()}
    fit(single := ToyModel(), split, **OPTIONS)
    assert same(weights(single), trained()[0])


def test_a_callback_gives_numbers(tmp_path):
    numbers = {"a": torch.tensor(1.5), "b": np.float32(2.5), "c": np.array(3), "d": True, "e": 4}
    options = {"validate_every": 6, "checkpoint_dir": tmp_path}
    _, history = trained(callback=lambda step, model: numbers, **options)
    assert {name: history[-1][name] for name in numbers} == {"a": 1.5, "b": 2.5, "c": 3, "d": 1, "e": 4}
    assert not any(hasattr(value, "item") for value in history[-1].values())
    assert trained(callback=lambda step, model: None, validate_every=12)[1] == trained()[1]
    for wrong, message in (
        (3.0, "callback returned 3.0; expected numbers by name"),
        ({"a": torch.ones(3)}, r"callback returned of type Tensor of shape \(3,\) as 'a'; expected a number"),
        ({"a": "high"}, "callback returned 'high' as 'a'"),
        ({"a": None}, "callback returned None as 'a'"),
        ({1: 2.0}, "callback returned 2.0 as 1"),
        ({"step": 2}, "callback returned 2 as 'step'"),
    ):
        with pytest.raises(ValueError, match=message):
            trained(callback=lambda step, model, wrong=wrong: wrong, validate_every=6)


@pytest.mark.parametrize(
    ("terminal", "progress", "disable", "shown"),
    [
        (True, True, None, True),
        (True, False, None, False),
        (True, True, "1", False),
        (False, True, None, False),
    ],
)
def test_bar_is_shown_where_somebody_looks(monkeypatch, terminal, progress, disable, shown):
    class Screen(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    if disable:
        monkeypatch.setenv("TQDM_DISABLE", disable)
    monkeypatch.setattr("sys.stderr", screen := Screen())
    fit(ToyModel(), ToySplit(), **{**OPTIONS, "progress": progress})
    assert ("12/12" in screen.getvalue()) == shown == bool(screen.getvalue())


def test_frozen_parameters_stay():
    model = ToyModel()
    frozen = model.modalities["left"].decoder.requires_grad_(False)
    before = weights(frozen)
    fit(model, ToySplit(), **OPTIONS)
    assert same(weights(frozen), before)


def test_named_seeds():
    assert child(0, "weights") != child(0, "noise") != child(1, "noise")
    assert child(1, "2") != child(12)
    assert 0 <= child(2**62, "x") < 2**63
    assert torch.equal(torch.rand(3, generator=generator(5)), torch.rand(3, generator=generator(5)))
    draws = []
    for _ in range(2):
        seed_all(11)
        draws.append((torch.rand(1).item(), np.random.rand(), random.random()))  # noqa: NPY002
    assert draws[0] == draws[1]
    for bad in (-1, 1.5, True, "0"):
        with pytest.raises(ValueError, match="seed is"):
            generator(bad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
def test_on_cuda_a_resumed_run_is_the_uninterrupted_one_and_nan_is_found(tmp_path):
    whole, model = ToyModel(), ToyModel()
    fit(whole, ToySplit(), **OPTIONS, device="cuda")
    assert next(whole.parameters()).is_cuda
    fit(model, ToySplit(), **{**OPTIONS, "steps": 5}, device="cuda", checkpoint_dir=tmp_path)
    model = ToyModel(seed=9)
    fit(model, ToySplit(), **OPTIONS, device="cuda", checkpoint_dir=tmp_path)
    assert same(weights(model), weights(whole))

    class BreakingOnDevice(Breaking):
        def loss(self, batch, mask=None, generator=None, validate=True):
            with torch.device("cuda"):
                return super().loss(batch, mask, generator, validate)

    with pytest.raises(FloatingPointError, match="stopped at step 5: not finite: 'right' in 3 of 16 rows"):
        fit(BreakingOnDevice("part", at=5), ToySplit(), **OPTIONS, device="cuda")


def test_model_without_parameters_that_learn_is_refused():
    with pytest.raises(ValueError, match="model has no parameters that learn"):
        fit(ToyModel().requires_grad_(False), ToySplit(), **OPTIONS)
