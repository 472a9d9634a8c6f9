"""The training loop: a fixed number of steps, each a function of the seed, the step and the weights alone."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mmlib.data.batches import rows_at
from mmlib.modality import check_batch
from mmlib.seeding import check_device, child, generator
from mmlib.train.capture import captured_or_eager, check_capture
from mmlib.train.ema import Ema
from mmlib.train.guard import Watch
from mmlib.train.history import History
from mmlib.train.session import Session, check_options


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
    check_options(steps, batch_size, log_every, validate_every, checkpoint_every, callback, checkpoint_dir)
    device = check_device(device)
    if capture:
        check_capture(device)
    model.to(device)
    split = split.to(device)
    validate(model, split)
    optimizer = adam(model, learning_rate, betas, eps, amsgrad)
    noise = generator(child(seed, "noise"), device)
    watch = Watch(on_device=device.type != "cpu")
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

    replay = None

    def begin(step: int) -> None:
        nonlocal replay
        if capture:
            rows = rows_at(step, len(split), batch_size, seed)
            replay = _recorded(model, split, optimizer, noise, update, rows)
            session.history.captured = replay is not None

    def advance(step: int) -> None:
        rows = rows_at(step, len(split), batch_size, seed)
        loss, parts = forward(rows) if replay is None else replay(rows)
        watch.see(step + 1, loss, parts, model)
        if replay is None:
            update(loss)
        if ema is not None:
            ema.update(model, step + 1)

    def measure(step: int) -> None:
        session.history.add(step, callback(step, model))

    session = Session(
        model, steps, seed, device, run, (modules, {"adam": optimizer}, {"noise": noise}), {"": watch},
        log_every, validate_every, checkpoint_dir, checkpoint_every, stop, progress,
    )  # fmt: skip
    return session.run(advance, measure if callback is not None else None, begin)


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
