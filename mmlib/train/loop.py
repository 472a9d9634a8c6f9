"""The training loop: a fixed number of steps, each a function of the seed, the step and the weights alone."""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmlib.data.batches import rows_at
from mmlib.modality import check_batch
from mmlib.seeding import check_device, child, generator
from mmlib.train import checkpoint
from mmlib.train.capture import captured_or_eager, check_capture
from mmlib.train.ema import Ema
from mmlib.train.guard import Interrupt, Paused, Watch, check_finite
from mmlib.train.history import History


def fit(
    model: nn.Module,
    split,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    amsgrad: bool = False,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    device: str | torch.device = "cpu",
    log_every: int = 50,
    validate_every: int | None = None,
    callback: Callable[[int, nn.Module], dict] | None = None,
    checkpoint_dir: str | Path | None = None,
    checkpoint_every: int | None = None,
    identity: dict | None = None,
    ema: Ema | None = None,
    capture: bool = False,
    stop: Callable[[], bool] | None = None,
    progress: bool = True,
) -> History:
    """Train a model with Adam for a fixed number of steps; continue from a checkpoint where there is one.

    The same model weights, data, seed, options and number of threads give the same weights, bit for bit, on one
    machine, however often the run was stopped and continued. The caller's global random state is left alone, and so is
    the model's train/eval mode.

    Args:
        model: has ``loss(batch, mask, generator, validate) -> (scalar, parts [B] by name)``; moved to ``device``.
        split: has ``len``, ``batch(rows, device)``, ``mask(rows)`` and ``to(device)``; moved to ``device`` once.
        steps: total number of steps, those of an earlier, interrupted call included.
        batch_size: rows B of a step.
        learning_rate: of Adam.
        betas: of Adam.
        eps: of Adam.
        amsgrad: of Adam.
        seed: of the order of the rows and of all noise.
        clip_norm: rescale the gradient to at most this total norm.
        clip_value: afterwards clip each entry of the gradient to plus or minus this value.
        device: where to train.
        log_every: steps between rows of the history.
        validate_every: steps between calls of ``callback``, which is also called after the last step.
        callback: ``callback(step, model) -> {name: number}``; its numbers join the history.
        checkpoint_dir: folder for checkpoints of this run; one found there is continued.
        checkpoint_every: steps between checkpoints; one is always written after the last step.
        identity: JSON-able facts that a checkpoint must share to be continued, such as the recipe's hash.
        ema: average of the model's weights, kept up after every step and saved with it.
        capture: record the step as a CUDA graph and replay it; same computation, fewer launches. Needs a CUDA device
            and complete rows. Where a step cannot be recorded a warning says so, and training goes on without.
        stop: asked after every step; when it says True, a checkpoint is written and training pauses.
        progress: show a progress bar where somebody looks: in a terminal or in Jupyter, unless ``TQDM_DISABLE`` is set.

    Returns:
        The history: means of the loss and its parts over the steps since the row before, and what ``callback`` gave.

    Raises:
        ValueError: for a bad argument, bad data, or a checkpoint of another model or run.
        FloatingPointError: when the loss, a part of it or a parameter is no longer finite: names the step, the term
            and how many rows. Such weights are never saved.
        Paused: when ``stop`` asked for it, after writing a checkpoint.
        KeyboardInterrupt: on Ctrl-C, after finishing the step and writing a checkpoint.
    """
    _check_options(steps, batch_size, log_every, validate_every, checkpoint_every, callback, checkpoint_dir)
    device = check_device(device)
    if capture:
        check_capture(device)
    model.to(device)
    split = split.to(device)
    validate(model, split)
    optimizer = adam(model, learning_rate, betas, eps, amsgrad)
    noise = generator(child(seed, "noise"), device)
    watch = Watch(on_device=device.type != "cpu")
    history = History()
    run = {
        "model": type(model).__name__, "rows": len(split), "batch_size": batch_size, "seed": seed,
        "learning_rate": learning_rate, "betas": list(betas), "eps": eps, "amsgrad": amsgrad,
        "clip_norm": clip_norm, "clip_value": clip_value, "log_every": log_every,
        "threads": torch.get_num_threads(), "device": device.type, **(identity or {}),
    }  # fmt: skip
    modules = {"model": model}
    if ema is not None:
        ema.average.to(device)
        modules["ema"] = ema.average
        run["ema"] = [ema.decay, ema.start]
    parts_of_run = modules, {"adam": optimizer}, {"noise": noise}

    def forward(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        batch, mask = ready(split.batch(rows, device), split.mask(rows))
        return model.loss(batch, mask=mask, generator=noise, validate=False)

    def update(loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        if clip_value is not None:
            nn.utils.clip_grad_value_(model.parameters(), clip_value)
        optimizer.step()

    def save() -> None:
        tensors = checkpoint.capture(*parts_of_run) | _global_random_state(device)
        if watch.average.count:
            tensors["average"] = watch.average.total
        state = {
            "identity": run,
            "history": list(history),
            "average": {"names": watch.average.names, "count": watch.average.count},
            "wall_seconds": clock.wall(),
            "cpu_seconds": clock.cpu(),
        }
        checkpoint.save(checkpoint_dir, step, tensors, state)

    clock = _Clock()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_own_random_stream(child(seed, "global"), device))
        interrupt = stack.enter_context(Interrupt())
        step = 0
        found = checkpoint.load(checkpoint_dir) if checkpoint_dir is not None else None
        if found is not None:
            checkpoint.check_identity(found.state["identity"], run, f"the checkpoint in {checkpoint_dir}")
            if found.step > steps:
                raise ValueError(
                    f"steps is {steps}; the checkpoint in {checkpoint_dir} has already done {found.step}"
                )
            checkpoint.restore(found, *parts_of_run)
            _set_global_random_state(found.tensors, device)
            watch.average.names = found.state["average"]["names"]
            watch.average.count = found.state["average"]["count"]
            if watch.average.count:
                watch.average.total = found.tensors["average"].clone().to(device)
            history.extend(found.state["history"])
            clock = _Clock(found.state["wall_seconds"], found.state["cpu_seconds"])
            step = found.step
        replay = None
        if capture and step < steps:
            replay = _recorded(
                model, split, optimizer, noise, update, rows_at(step, len(split), batch_size, seed)
            )
            history.captured = replay is not None
        bar = stack.enter_context(_bar(steps, step, progress))
        while step < steps:
            rows = rows_at(step, len(split), batch_size, seed)
            loss, parts = forward(rows) if replay is None else replay(rows)
            watch.see(step + 1, loss, parts, model)
            if replay is None:
                update(loss)
            step += 1
            if ema is not None:
                ema.update(model, step)
            bar.update()

            last = step == steps
            if last or step % log_every == 0:
                watch.check(model)
                history.add(step, watch.average.take())
                bar.set_postfix(loss=f"{history[-1]['loss']:.2f}", refresh=False)
            if callback is not None and (last or step % validate_every == 0):
                watch.check(model)
                history.add(step, callback(step, model))
            pause = not last and stop is not None and stop()
            due = checkpoint_every is not None and step % checkpoint_every == 0
            if checkpoint_dir is not None and (last or interrupt.asked or pause or due):
                watch.check(model)
                check_finite(model, step)
                save()
            if (interrupt.asked or pause) and not last:
                kept = (
                    f"continue from {checkpoint_dir}" if checkpoint_dir is not None else "nothing was saved"
                )
                reason = KeyboardInterrupt if interrupt.asked else Paused
                raise reason(f"training stopped after step {step} of {steps}; {kept}")
    check_finite(model, steps)
    history.wall_seconds, history.cpu_seconds = clock.wall(), clock.cpu()
    return history


def _recorded(model, split, optimizer, noise, update, rows: Tensor):
    """The step as a CUDA graph, or None where a batch cannot be made on the device alone."""
    if getattr(split, "gather", None) is None or getattr(split, "observed", None) is not None:
        return (
            None  # rows that miss modalities take other paths through a model, so no one recording fits all
        )

    def forward(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return model.loss(*ready(split.gather(rows), None), generator=noise, validate=False)

    return captured_or_eager(forward, update, model, optimizer, noise, rows.to(noise.device))


def adam(
    model: nn.Module, learning_rate: float, betas=(0.9, 0.999), eps=1e-8, amsgrad=False
) -> torch.optim.Adam:
    """Adam over the parameters that learn, in one fused kernel."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model has no parameters that learn; expected at least one")
    return torch.optim.Adam(parameters, learning_rate, betas, eps, amsgrad=amsgrad, fused=True)


def ready(
    batch: dict[str, Tensor], mask: dict[str, Tensor] | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checked batch as ``loss(..., validate=False)`` wants it: a mask for each modality, zeros where hidden."""
    mask = mask or {}
    for name in mask.keys() & batch.keys():
        x = batch[name]
        batch[name] = torch.where(mask[name].view(-1, *[1] * (x.ndim - 1)), x, torch.zeros_like(x))
    return batch, {name: mask[name] if name in mask else _all(len(x), x.device) for name, x in batch.items()}


def validate(model: nn.Module, split, chunk: int = 1000) -> None:
    """Check every row of a split against the model, once, before training.

    Images kept as uint8 are pixels in [0, 1] whatever they hold, so a few rows tell all there is to know of them.

    Raises:
        ValueError: as ``check_batch``: unknown modality, wrong shape, pixels outside [0, 1], NaN, a row without data.
    """
    items = getattr(split, "items", {})
    stored_as_bytes = bool(items) and all(item.images.dtype == torch.uint8 for item in items.values())
    complete = getattr(split, "observed", 0) is None
    stop = chunk if stored_as_bytes and complete else len(split)
    for rows in torch.arange(min(stop, len(split))).split(chunk):
        batch, mask = split.batch(rows, None), split.mask(rows)
        check_batch(model.modalities, batch, mask)


def _all(n: int, device: torch.device) -> Tensor:
    return torch.ones(n, dtype=torch.bool, device=device)


def _bar(steps: int, done: int, progress: bool) -> tqdm:
    """A progress bar for a reader; none for files, pipes and stored pages."""
    ipython = sys.modules.get("IPython")
    notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    shown = (
        progress and (notebook or sys.stderr.isatty()) and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    )
    file = sys.stdout if notebook else sys.stderr
    return tqdm(
        total=steps, initial=done, unit="step", disable=not shown, file=file, leave=not notebook, ncols=88
    )


class _Clock:
    """Seconds spent, those of earlier calls included."""

    def __init__(self, wall: float = 0.0, cpu: float = 0.0) -> None:
        self._wall, self._cpu = time.perf_counter() - wall, time.process_time() - cpu

    def wall(self) -> float:
        return time.perf_counter() - self._wall

    def cpu(self) -> float:
        return time.process_time() - self._cpu


@contextlib.contextmanager
def _own_random_stream(seed: int, device: torch.device):
    """Global randomness (dropout) from the run's own seed inside, the caller's random state untouched outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _global_random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"random/cpu": torch.get_rng_state()}
    return state | ({"random/cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_global_random_state(tensors: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(tensors["random/cpu"].clone())
    if device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"].clone(), device)


def _check_options(
    steps, batch_size, log_every, validate_every, checkpoint_every, callback, checkpoint_dir
) -> None:
    for name, value, optional in (
        ("steps", steps, False),
        ("batch_size", batch_size, False),
        ("log_every", log_every, False),
        ("validate_every", validate_every, True),
        ("checkpoint_every", checkpoint_every, True),
    ):
        if not (optional and value is None) and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}; expected an integer of at least 1{' or None' * optional}")
    if (callback is None) != (validate_every is None):
        missing = "callback" if callback is None else "validate_every"
        raise ValueError(f"{missing} is None; callback and validate_every go together")
    if checkpoint_every is not None and checkpoint_dir is None:
        raise ValueError("checkpoint_dir is None; expected a folder, since checkpoint_every is given")
