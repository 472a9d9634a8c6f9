"""The training loop: a fixed number of steps, each a function of the seed, the step and the weights alone."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, positive, real
from mmlib.memory import keep_pages
from mmlib.metrics.split import cast
from mmlib.seeding import check_device
from mmlib.train.capture import RECORDABLE, captured
from mmlib.train.ema import Ema
from mmlib.train.history import History
from mmlib.train.rows import classes, ready
from mmlib.train.session import Session


def fit(
    model: nn.Module,
    split,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    *,
    schedule: str = "shuffled",
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
        schedule: which rows a step sees: ``"shuffled"``, any; ``"alternating"``, complete ones or such as miss the same
            modalities, in turn, see `mmlib.data.batches.alternating_order`.
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
    options = {
        **adam_options(learning_rate, betas, eps),
        "amsgrad": one_of("amsgrad", amsgrad, (True, False)),
        "clip_norm": None if clip_norm is None else positive("clip_norm", clip_norm),
        "clip_value": None if clip_value is None else positive("clip_value", clip_value),
    }
    if one_of("capture", capture, (True, False)) and check_device(device).type not in RECORDABLE:
        found = f"capture is True on device {str(device)!r}"
        raise ValueError(f"{found}; expected a CUDA device, or capture=False")
    session = Session(
        model, split, {"": "loss"}, options, {"callback": callback}, ema, "", steps, batch_size, seed, device,
        log_every, validate_every, checkpoint_dir, checkpoint_every, identity, stop, progress, schedule,
    )  # fmt: skip
    split, noise, watch, replay = session.split, session.noise, session.watches[""], None
    optimizer = adam(model, **{name: options[name] for name in ("learning_rate", "betas", "eps", "amsgrad")})
    update = partial(descend, optimizer=optimizer, clip_norm=clip_norm, clip_value=clip_value)
    gather = getattr(split, "gather", split.batch)

    def forward(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        batch = cast(gather(rows.to(noise.device), noise.device), session.dtype)
        told = classes(model, split, rows)
        return model.loss(*ready(batch, split.mask(rows)), generator=noise, validate=False, **told)

    def begin(step: int) -> None:
        nonlocal replay
        # rows that miss modalities take other paths through a model, so no one recording fits all
        if capture and hasattr(split, "gather") and getattr(split, "observed", None) is None:
            rows = session.rows(step).to(noise.device)
            replay = captured(forward, update, model, optimizer, noise, rows)
            session.history.captured = replay is not None

    def advance(step: int) -> None:
        rows = session.rows(step)
        loss, parts = forward(rows) if replay is None else replay(rows)
        watch.see(step + 1, loss, parts, model)
        if replay is None:
            update(loss)

    return session.run(advance, {"adam": optimizer}, begin)


def descend(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    clip_norm: float | None = None,
    clip_value: float | None = None,
) -> None:
    """One step of an optimiser down the gradient of a scalar loss, clipped as in :func:`fit`: what training repeats.

    Raises:
        ValueError: if ``clip_norm`` or ``clip_value`` is not positive.
    """
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(learning, positive("clip_norm", clip_norm))
    if clip_value is not None:
        nn.utils.clip_grad_value_(learning, positive("clip_value", clip_value))
    optimizer.step()


def adam_options(learning_rate: float, betas: tuple[float, float], eps: float) -> dict:
    """Options of Adam, checked.

    Raises:
        ValueError: naming the argument.
    """
    if not (isinstance(betas, list | tuple) and len(betas) == 2):
        raise ValueError(f"betas is {betas!r}; expected two numbers from 0 to below 1")
    below_1 = math.nextafter(1, 0)
    return {
        "learning_rate": positive("learning_rate", learning_rate),
        "betas": [real(f"betas[{i}]", beta, 0, below_1) for i, beta in enumerate(betas)],
        "eps": real("eps", eps, 0),
    }


def adam(
    model: nn.Module, learning_rate: float, betas=(0.9, 0.999), eps: float = 1e-8, amsgrad: bool = False
) -> torch.optim.Adam:
    """Adam over the parameters that learn, in one fused kernel; on a processor its steps keep their memory.

    Raises:
        ValueError: if there are none.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model has no parameters that learn; expected at least one")
    if parameters[0].device.type == "cpu":
        keep_pages()
    return torch.optim.Adam(parameters, learning_rate, tuple(betas), eps, amsgrad=amsgrad, fused=True)
