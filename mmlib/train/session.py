"""What frames every training loop: its arguments, its clock and progress bar, its checkpoints, and what is due when."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmlib.checks import check_has, kind, one_of, whole
from mmlib.data.batches import SCHEDULES, alternating_rows_at, rows_at, rows_by_kind
from mmlib.data.core import PairedSplit, check_split
from mmlib.files import check_folder
from mmlib.metrics.split import precision_of
from mmlib.progress import progress_bar
from mmlib.seeding import check_device, child, generator
from mmlib.train import checkpoint
from mmlib.train.ema import Ema
from mmlib.train.guard import Paused, Watch, check_finite, interruptible
from mmlib.train.history import History
from mmlib.train.identity import check_identity, of_model, of_split
from mmlib.train.rows import check_rows


@dataclass
class Session:
    """One call of a training loop: from the checkpoint that it finds, or from nothing, to its last step.

    Making one checks the arguments, before any work is done, then moves model, data and average to the device and holds
    every row of the data against the model.

    The fields from ``steps`` on are as for :func:`mmlib.train.loop.fit`.

    Raises:
        ValueError: naming the argument.
    """

    model: nn.Module
    split: PairedSplit
    losses: dict[str, str]  # by side (a lone one is called ""), the method that gives its loss
    options: dict  # of the loop itself, checked; a checkpoint must share them to be continued
    looks: dict[str, Callable[[int, nn.Module], dict] | None]  # by argument, what measures the model
    ema: Ema | None
    averaged: str  # what ``ema`` averages: a part of the model; "" for all of it
    steps: int
    batch_size: int
    seed: int
    device: str | torch.device = "cpu"
    log_every: int = 50
    validate_every: int | None = None
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None
    identity: dict | None = None
    stop: Callable[[], bool] | None = None
    progress: bool = True
    schedule: str = "shuffled"

    def __post_init__(self) -> None:
        self._check()
        model, ema = self.model.to(self.device), self.ema
        self.split = self.split.to(self.device)
        self.modules, self.shown = {"model": model}, model
        if ema is not None:
            self.modules["ema"] = ema.average.to(self.device)
        with _own_random_stream(child(self.seed, "global"), self.device):
            check_rows(model, self.split, self.dtype)
            contents = {} if self.checkpoint_dir is None else of_split(self.split) | of_model(model)
        self.belongs = {
            "batch_size": self.batch_size, "seed": self.seed, **self.options, "log_every": self.log_every,
            "threads": torch.get_num_threads(), "device": self.device.type,
            "ema": None if ema is None else [ema.decay, ema.start, ema.ramp], **contents, **self.identity,
        }  # fmt: skip
        if self.schedule != "shuffled":
            self.belongs["schedule"] = self.schedule
        self.noise = generator(child(self.seed, "noise"), self.device)
        self.watches = {side: Watch(side, on_device=self.device.type != "cpu") for side in self.losses}
        self.history = History()

    def _check(self) -> None:
        trained = "fit trains models with loss, fit_adversarial those with discriminator_loss, generator_loss"
        check_has("model", self.model, ("modalities", "parameters", *self.losses.values()), trained)
        check_split("split", self.split)
        self.dtype = precision_of(self.model)
        if self.dtype in (torch.float16, torch.bfloat16):
            raise ValueError(f"model is in {self.dtype}; expected float32 or float64: call model.float()")
        for name, least in {"steps": 1, "batch_size": 1, "log_every": 1, "seed": 0}.items():
            setattr(self, name, whole(name, getattr(self, name), least))
        one_of("schedule", self.schedule, SCHEDULES)
        observed, self.kinds = getattr(self.split, "observed", None), None
        if self.schedule == "alternating":
            self.kinds = rows_by_kind(observed, self.batch_size)
        self.rows(0)  # refuses more rows than there are
        for name in ("validate_every", "checkpoint_every"):
            if getattr(self, name) is not None:
                setattr(self, name, whole(name, getattr(self, name)))
        for name, call in (*self.looks.items(), ("stop", self.stop)):
            if not (call is None or callable(call)):
                raise ValueError(f"{name} is {kind(call)}; expected a function")
        if all(look is None for look in self.looks.values()) != (self.validate_every is None):
            missing = "callback" if self.validate_every else "validate_every"
            raise ValueError(f"{missing} is None; callback and validate_every go together")
        if self.checkpoint_dir is not None:
            self.checkpoint_dir = check_folder("checkpoint_dir", self.checkpoint_dir)
        elif self.checkpoint_every is not None:
            raise ValueError("checkpoint_dir is None; expected a folder, since checkpoint_every is given")
        self.device = check_device(self.device)
        self.part = getattr(self.model, self.averaged) if self.averaged else self.model
        if self.ema is not None and not (isinstance(self.ema, Ema) and self.ema.averages(self.part)):
            right = f"Ema(model.{self.averaged}, ...)" if self.averaged else "Ema(model, ...)"
            raise ValueError(f"ema is {kind(self.ema)}; expected an average of this model: {right}")
        try:
            self.identity = json.loads(json.dumps(self.identity or {}))
        except TypeError as error:
            raise ValueError(f"identity cannot be written as JSON ({error})") from error

    def rows(self, number: int) -> Tensor:
        """The rows of the ``number``-th minibatch, int64 [B]."""
        if self.kinds is not None:
            return alternating_rows_at(number, self.kinds, self.batch_size, self.seed)
        return rows_at(number, len(self.split), self.batch_size, self.seed)

    def run(
        self,
        advance: Callable[[int], None],
        optimizers: dict[str, torch.optim.Optimizer],
        begin: Callable[[int], None] | None = None,
    ) -> History:
        """Make the steps that are left: ``begin(step)`` once, then ``advance(step)`` after ``step`` steps, each a step.

        Returns:
            The history, with the seconds of all calls together.

        Raises:
            ValueError: as for :func:`mmlib.train.loop.fit`; so are FloatingPointError, Paused and KeyboardInterrupt.
        """
        generators = {"noise": self.noise, "random": torch.default_generator}
        if self.device.type == "cuda":
            index = torch.cuda.current_device() if self.device.index is None else self.device.index
            generators["random.cuda"] = torch.cuda.default_generators[index]
        self.state = self.modules, optimizers, generators
        with contextlib.ExitStack() as stack:
            stack.enter_context(_own_random_stream(child(self.seed, "global"), self.device))
            interrupt = stack.enter_context(interruptible())
            step = self._resume()
            if begin is not None and step < self.steps:
                begin(step)
            bar = stack.enter_context(progress_bar(self.steps, step, self.progress))
            while step < self.steps:
                advance(step)
                step += 1
                if self.ema is not None:
                    self.ema.update(self.part, step)
                bar.update()

                last = step == self.steps
                if last or step % self.log_every == 0:
                    self._check_losses()
                    row = dict(pair for watch in self.watches.values() for pair in watch.means().items())
                    self.history.add(step, row)
                    losses = {name: f"{value:.2f}" for name, value in row.items() if name.endswith("loss")}
                    bar.set_postfix(losses, refresh=False)
                if self.validate_every is not None and (last or step % self.validate_every == 0):
                    self._check_losses()
                    for look in filter(None, self.looks.values()):
                        self.history.add(step, look(step, self.shown))
                pause = not last and self.stop is not None and self.stop()
                due = self.checkpoint_every is not None and step % self.checkpoint_every == 0
                if self.checkpoint_dir is not None and (last or interrupt.is_set() or pause or due):
                    self._check_losses()
                    check_finite(self.model, step)
                    self._save(step)
                if (interrupt.is_set() or pause) and not last:
                    saved = self.checkpoint_dir is not None
                    kept = f"continue from {self.checkpoint_dir}" if saved else "nothing was saved"
                    reason = KeyboardInterrupt if interrupt.is_set() else Paused
                    raise reason(f"training stopped after step {step} of {self.steps}; {kept}")
        check_finite(self.model, self.steps)
        vars(self.history).update(self._seconds())
        return self.history

    def _check_losses(self) -> None:
        for watch in self.watches.values():
            watch.check(self.model)

    def _seconds(self) -> dict[str, float]:
        """Seconds spent in the loop, those of earlier calls included."""
        return {name: now - self.begun[name] for name, now in _clock().items()}

    def _save(self, step: int) -> None:
        state = {
            "identity": self.belongs,
            "history": list(self.history),
            "averages": {side: watch.state() for side, watch in self.watches.items()},
            **self._seconds(),
        }
        checkpoint.save(self.checkpoint_dir, step, checkpoint.capture(*self.state), state)

    def _resume(self) -> int:
        """Put the newest checkpoint in place, if there is one, and the clock as it stood: the steps done."""
        self.begun = _clock()
        found = checkpoint.load(self.checkpoint_dir) if self.checkpoint_dir is not None else None
        if found is None:
            return 0
        what = f"the checkpoint in {self.checkpoint_dir}"
        check_identity(found.state["identity"], self.belongs, what)
        if found.step > self.steps:
            raise ValueError(f"steps is {self.steps}; {what} has already done {found.step}")
        if set(found.state.get("averages", {})) != set(self.watches):
            raise ValueError(f"{what} was written by another version of the loop; move it away to begin anew")
        checkpoint.restore(found, *self.state)
        for side, watch in self.watches.items():
            watch.restore(found.state["averages"][side], self.device)
        self.history.extend(found.state["history"])
        self.begun = {name: begun - found.state[name] for name, begun in self.begun.items()}
        return found.step


def _clock() -> dict[str, float]:
    return {"wall_seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


@contextlib.contextmanager
def _own_random_stream(seed: int, device: torch.device):
    """Global randomness (dropout) from the run's own seed inside, the caller's random state untouched outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
