"""The adversarial loop: what a step is, the same bits after any pause, and collapse reported when it happens."""

import warnings

import numpy as np
import pytest
import torch
from toy import same
from toy import weights as state

from mmlib import data, metrics
from mmlib.data.batches import rows_at
from mmlib.models import MMALI, MVAE
from mmlib.nets import modalities
from mmlib.nets.discriminators import Layers
from mmlib.seeding import child, generator
from mmlib.train import Collapsed, Ema, Monitor, Paused, fit, fit_adversarial
from mmlib.train.rows import ready

OPTIONS = {"steps": 10, "batch_size": 16, "learning_rate": 1e-3, "seed": 3, "progress": False, "log_every": 4}
TINY = Layers(pair=(12,), branch=(10,), head=(12,), multiplier=2.0)


@pytest.fixture(scope="module")
def digits():
    return data.load("multi-hand", dm=1)


@pytest.fixture(scope="module")
def judges(digits):
    return metrics.train_classifiers(digits, steps=60, cache=False)


def make(digits, seed=0, **options):
    torch.manual_seed(seed)
    return MMALI(modalities(digits, 5, 0.02), 3, 2, layers=TINY, **options)


def trained(digits, split=None, model=None, **changes):
    model = make(digits) if model is None else model
    history = fit_adversarial(model, split or digits.train, **{**OPTIONS, **changes})
    return state(model), history


# --- what a step is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", [1, 2])
@pytest.mark.parametrize("minibatches", [1, 2])
@pytest.mark.parametrize("partial", [False, True])
def test_steps_are_those_of_two_optimizers_written_out(digits, updates, minibatches, partial):
    split = digits.train.with_missing(0.5, generator(0)) if partial else digits.train
    changes = {
        "discriminator_steps": updates,
        "minibatches": minibatches,
        "discriminator_learning_rate": 3e-3,
    }
    found, history = trained(digits, split, **changes)

    model, noise = make(digits), generator(child(OPTIONS["seed"], "noise"))
    rates = {"discriminator": 3e-3, "generator": 1e-3}
    parts = {"discriminator": model.discriminator, "generator": model.modalities}
    adam = {
        side: torch.optim.Adam(parts[side].parameters(), rates[side], (0.5, 0.999), fused=True)
        for side in rates
    }
    number, losses = 0, {side: [] for side in rates}

    def minibatch():
        nonlocal number
        rows = rows_at(number, len(split), OPTIONS["batch_size"], OPTIONS["seed"])
        number += 1
        batch, mask = split.batch(rows), split.mask(rows)
        return (batch, None) if mask is None else ready(batch, mask)

    for _ in range(OPTIONS["steps"]):
        for side in (*["discriminator"] * updates, "generator"):
            first, *second = [minibatch() for _ in range(minibatches)]
            loss, _ = getattr(model, f"{side}_loss")(
                *first, generator=noise, second=second[0] if second else None
            )
            adam[side].zero_grad()
            loss.backward()
            adam[side].step()
            losses[side].append(float(loss.detach()))
    assert same(found, state(model))
    for side, values in losses.items():
        k = updates if side == "discriminator" else 1
        expected = [np.mean(values[: 4 * k]), np.mean(values[4 * k : 8 * k]), np.mean(values[8 * k :])]
        np.testing.assert_allclose(history.column(f"{side}/loss"), expected, rtol=1e-6)
    assert [row["step"] for row in history] == [4, 8, 10]
    assert {"discriminator/dependence", "discriminator/unimodal.hand0", "generator/game"} <= set(
        history.names
    )


def test_same_seed_same_weights_and_the_caller_keeps_random_state_and_mode(digits):
    torch.manual_seed(7)
    expected = torch.rand(3)
    model = make(digits).eval()
    torch.manual_seed(7)
    first, history = trained(digits, model=model)
    assert torch.equal(torch.rand(3), expected) and not model.training
    again, rows = trained(digits, model=make(digits).eval())
    assert same(first, again) and list(history) == list(rows)
    assert not same(first, trained(digits)[0])  # in training mode power iteration moves
    assert not same(first, trained(digits, seed=4)[0])
    assert history.cpu_seconds > 0


def test_average_of_encoders_and_decoders_is_what_is_evaluated(digits):
    weights, seen = [], []

    def callback(step, shown):
        seen.append((step, shown is model, state(shown.modalities)))
        weights.append(state(model.modalities))
        return {"here": float(step)}

    model = make(digits)
    start = state(model.modalities)
    ema = Ema(model.modalities, 0.6, ramp=True)
    history = fit_adversarial(model, digits.train, **OPTIONS, ema=ema, validate_every=1, callback=callback)
    average = start
    for t, current in enumerate(weights, 1):
        decay = min(0.6, (t + 1) / (t + 10))
        average = {name: decay * average[name] + (1 - decay) * current[name] for name in average}
        for name, value in average.items():
            torch.testing.assert_close(seen[t - 1][2][name], value, rtol=1e-5, atol=1e-6)
    assert history.column("here").tolist() == list(range(1, 11))
    assert not any(itself for _, itself, _ in seen)
    assert same(state(ema.model), seen[-1][2])


def test_unpaired_rows_train_too(digits):
    loaded = data.load("multi-hand", dm=1, fraction=0.2, rest="unpaired")
    _, history = trained(loaded, steps=4, log_every=4)
    assert all(np.isfinite(value) for row in history for value in row.values())


# --- stopping and continuing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"discriminator": "joint"}, {"factors": "multiway"}], ids=str)
def test_a_run_continues_to_the_same_bits(digits, judges, kind, tmp_path):
    split = digits.train.with_missing(0.3, generator(0))
    monitor = Monitor(judges, grace=100, draws=20)

    def run(steps, folder=None, weights=0, **changes):
        model = make(digits, weights, **kind)
        ema = Ema(model.modalities, 0.9, start=3)
        options = {
            **OPTIONS,
            "steps": steps,
            "minibatches": 2,
            "monitor": monitor,
            "validate_every": 3,
            **changes,
        }
        history = fit_adversarial(model, split, **options, ema=ema, checkpoint_dir=folder)
        return state(model), state(ema.average), list(history)

    whole = run(10)
    paused = tmp_path / "paused"
    calls = iter(range(100))
    with pytest.raises(Paused, match="stopped after step 6 of 10; continue from"):
        run(10, paused, stop=lambda: next(calls) == 5)
    again = run(10, paused, weights=1)  # every weight, buffer and moment comes from the checkpoint
    assert same(whole[0], again[0]) and same(whole[1], again[1]) and whole[2] == again[2]
    start = state(make(digits, **kind))
    buffers = [name for name in start if name.endswith("_v")]
    assert buffers and not any(torch.equal(whole[0][name], start[name]) for name in buffers)

    short = tmp_path / "short"
    run(7, short)
    with pytest.raises(ValueError, match="steps is 5; the checkpoint in .* has already done 7"):
        run(5, short)
    with pytest.raises(ValueError, match="belongs to another run: seed is 3, expected 9"):
        run(10, short, seed=9)
    with pytest.raises(ValueError, match="learning_rates is"):
        run(10, short, discriminator_learning_rate=1.0)


class Breaking(MMALI):
    """Goes bad in its fifth step: a part of a side's loss, or the gradient alone."""

    calls = 0

    def spoil(self, loss, parts, name):
        self.calls += 1
        if self.calls == 5 and self.how == "gradient":
            weight = next(self.modalities.parameters())
            return loss + torch.sqrt((weight - weight.detach()).square().sum()), parts
        if self.calls == 5:
            parts[name] = parts[name] * torch.nan
            loss = sum(parts.values())
        return loss, parts

    def discriminator_loss(self, *args, **options):
        found = super().discriminator_loss(*args, **options)
        return self.spoil(*found, "dependence") if self.how == "discriminator" else found

    def generator_loss(self, *args, **options):
        found = super().generator_loss(*args, **options)
        return self.spoil(*found, "game") if self.how != "discriminator" else found


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("discriminator", "stopped at step 5: not finite: 'discriminator/dependence'"),
        ("generator", "stopped at step 5: not finite: 'generator/game'"),
        ("gradient", "stopped at step 6: not finite: .*no longer finite before it, modalities.hand0"),
    ],
)
def test_what_is_not_finite_stops_the_training_and_is_named(digits, how, message, tmp_path):
    torch.manual_seed(0)
    model = Breaking(modalities(digits, 5, 0.02), 3, 2, layers=TINY)
    model.how = how
    with pytest.raises(FloatingPointError, match=message):
        trained(digits, model=model, checkpoint_dir=tmp_path, checkpoint_every=2)
    if how != "gradient":
        assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    torch.manual_seed(0)
    again = Breaking(modalities(digits, 5, 0.02), 3, 2, layers=TINY)
    again.how = how
    found = trained(digits, model=again, steps=4, checkpoint_dir=tmp_path)[0]
    assert same(found, trained(digits, steps=4)[0])  # the last checkpoint, of step 4, is a good one


# --- collapse -------------------------------------------------------------------------------------------------------


def collapsed(digits):
    """A model whose decoders show one image each, and go on doing so."""
    model = make(digits)
    for modality in model.modalities.values():
        modality.decoder.output.weight.data.zero_()
        modality.decoder.output.weight.requires_grad_(False)
        modality.decoder.output.bias.data.copy_(8 * torch.rand(64, generator=generator(1)) - 4)
    return model


def test_collapse_is_reported_by_the_loop(digits, judges):
    options = {"steps": 6, "validate_every": 2, "log_every": 6}
    with pytest.warns(RuntimeWarning, match="collapsed at step") as caught:
        _, history = trained(
            digits, model=collapsed(digits), monitor=Monitor(judges, grace=3, draws=50), **options
        )
    texts = [str(entry.message) for entry in caught]
    assert len(texts) == 2  # at steps 4 and 6; step 2 is within the grace period
    assert texts[0].startswith(
        "the model has collapsed at step 4: of 10 classes, hand0 shows 1, hand90 shows 1 in 50"
    )
    assert history.column("classes/hand0").tolist() == [1, 1, 1]
    assert history.column("collapsed").tolist() == [0, 1, 1]
    assert set(history.column("classes/jointly").tolist()) <= {0, 1}
    with pytest.raises(Collapsed, match="collapsed at step 4"):
        trained(
            digits, model=collapsed(digits), monitor=Monitor(judges, grace=3, draws=50, stop=True), **options
        )


def test_a_healthy_model_and_the_grace_period_are_silent(digits, judges):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        healthy = metrics.Puppet(digits.validation)
        row = Monitor(judges, grace=0, draws=200)(1, healthy, seed=0)
        assert row["collapsed"] == 0 and row["classes/hand0"] == 10 and row["classes/jointly"] >= 9
        few = metrics.Puppet(digits.validation, classes=[1, 4])
        assert Monitor(judges, grace=10, draws=200)(10, few, seed=0)["collapsed"] == 0
        assert Monitor(judges, grace=0, draws=200, least=2)(1, few, seed=0)["collapsed"] == 0
    monitor = Monitor(judges, grace=0, draws=200, threshold=0.2)
    with pytest.warns(RuntimeWarning, match="hand0 shows 2, hand90 shows 2 in 200 .*at least 20%"):
        monitor(1, few, seed=0)
    with pytest.warns(RuntimeWarning, match="hand0 shows 1 in 200"):
        alone = MMALI([collapsed(digits).modalities["hand0"]], 3, 2, layers=TINY)
        monitor(1, alone, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0; expected an integer of at least 1"),
        ({"batch_size": 5000}, "batch_size is 5000; expected 1 to n = "),
        ({"discriminator_steps": 0}, "discriminator_steps is 0"),
        ({"discriminator_steps": "2"}, "discriminator_steps is '2'; expected an integer"),
        ({"minibatches": 3}, "minibatches is 3; expected an integer from 1 to 2"),
        (
            {"discriminator_learning_rate": -1e-3},
            "discriminator_learning_rate is -0.001; expected a positive",
        ),
        ({"monitor": 3, "validate_every": 1}, "monitor is 3; expected a function"),
        ({"split": {"hand0": 0}}, "split is of type dict, without batch; expected a split"),
        ({"model": None}, "model is None, without modalities; expected fit"),
        ({"model": MVAE}, "model is the class MVAE, without modalities"),
        ({"callback": lambda step, model: {}}, "validate_every is None"),
        ({"validate_every": 3}, "callback is None"),
        ({"checkpoint_every": 3}, "checkpoint_dir is None"),
        ({"seed": -1}, "seed is -1"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ],
)
def test_bad_options_are_refused(digits, change, message):
    with pytest.raises(ValueError, match=message):
        fit_adversarial(**{"model": make(digits), "split": digits.train, **OPTIONS, **change})


def test_each_loop_trains_its_own_kind_and_averages_its_own_part(digits):
    vae, ali = MVAE(modalities(digits, 5, 0.02), 5), make(digits)
    for loop, model, lacks in ((fit_adversarial, vae, "discriminator_loss"), (fit, ali, "loss")):
        with pytest.raises(
            ValueError, match=f"model is of type .*, without {lacks}; .*fit trains models with loss"
        ):
            loop(model, digits.train, **OPTIONS)
    for loop, model, ema, part in (
        (fit_adversarial, ali, Ema(ali, 0.9), r"Ema\(model.modalities, "),
        (fit, vae, Ema(vae.modalities, 0.9), r"Ema\(model, "),
        (fit, vae, 0.9, r"Ema\(model, "),
    ):
        with pytest.raises(ValueError, match=f"ema is .*; expected an average of this model: {part}"):
            loop(model, digits.train, **OPTIONS, ema=ema)


def test_monitors_options_are_checked(judges):
    for option, value in {"draws": 0, "grace": -1, "least": 2.5, "threshold": 2, "stop": "no"}.items():
        with pytest.raises(ValueError, match=f"{option} is {value!r}; expected"):
            Monitor(judges, **{option: value})


def test_another_game_does_not_continue_a_checkpoint(digits, tmp_path):
    trained(digits, steps=4, checkpoint_dir=tmp_path)
    other = make(digits, unimodal=0.1)
    for changes, message in (
        ({"minibatches": 2}, "minibatches is 1, expected 2"),
        ({"model": make(digits, loss="minimax")}, "model.game is 'non_saturating', expected 'minimax'"),
        ({"model": make(digits, content_cycle=0.5)}, "model.content_cycle is 0.0, expected 0.5"),
        ({"split": digits.train.with_missing(0.5, generator(0))}, "split.hand0 is"),
        ({"ema": Ema(other.modalities, 0.9), "model": other}, "ema is None, expected .0.9, 0, False"),
    ):
        with pytest.raises(ValueError, match=f"belongs to another run: .*{message}"):
            trained(digits, **changes, checkpoint_dir=tmp_path)
