"""What frames every training loop: its clock and progress bar, its checkpoints, and what is due after which step."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from mmlib.seeding import child
from mmlib.train import checkpoint
from mmlib.train.guard import Interrupt, Paused, Watch, check_finite
from mmlib.train.history import History


@dataclass
class Session:
    """One call of a training loop: from the checkpoint that it finds, or from nothing, to its last step.

    Args:
        model: whose weights learn.
        steps: total number of steps, those of earlier calls included.
        seed: of the run.
        device: where it runs.
        identity: JSON-able facts that a checkpoint must share to be continued.
        state: modules, optimizers and generators by name: all that a step changes.
        watches: by side, what averages the losses of that side; the one side of an ordinary loop is called "".
        log_every: steps between rows of the history.
        validate_every: steps between measurements.
        checkpoint_dir: folder for checkpoints; one found there is continued.
        checkpoint_every: steps between checkpoints; one is always written after the last step.
        stop: asked after every step; when it says True, a checkpoint is written and training pauses.
        progress: show a progress bar where somebody looks.
    """

    model: nn.Module
    steps: int
    seed: int
    device: torch.device
    identity: dict
    state: tuple[dict, dict, dict]
    watches: dict[str, Watch]
    log_every: int
    validate_every: int | None = None
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None
    stop: Callable[[], bool] | None = None
    progress: bool = True
    history: History = field(default_factory=History)

    def run(
        self,
        advance: Callable[[int], None],
        measure: Callable[[int], None] | None = None,
        begin: Callable[[int], None] | None = None,
    ) -> History:
        """Make the steps that are left.

        Args:
            advance: makes the step after ``step`` steps.
            measure: called with the number of steps done, every ``validate_every`` steps and after the last.
            begin: called once, before the first of them.

        Returns:
            The history, with the seconds of all calls together.

        Raises:
            ValueError: if the checkpoint is of another run, or has done more steps than are asked for.
            FloatingPointError: when a loss or a parameter is no longer finite. Such weights are never saved.
            Paused: when ``stop`` asked for it, after writing a checkpoint.
            KeyboardInterrupt: on Ctrl-C, after finishing the step and writing a checkpoint.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_own_random_stream(child(self.seed, "global"), self.device))
            interrupt = stack.enter_context(Interrupt())
            clock, step = self._resume()
            if begin is not None and step < self.steps:
                begin(step)
            bar = stack.enter_context(_bar(self.steps, step, self.progress))
            while step < self.steps:
                advance(step)
                step += 1
                bar.update()

                last = step == self.steps
                if last or step % self.log_every == 0:
                    self._check()
                    row = self._means()
                    self.history.add(step, row)
                    losses = {name: f"{value:.2f}" for name, value in row.items() if name.endswith("loss")}
                    bar.set_postfix(losses, refresh=False)
                if measure is not None and (last or step % self.validate_every == 0):
                    self._check()
                    measure(step)
                pause = not last and self.stop is not None and self.stop()
                due = self.checkpoint_every is not None and step % self.checkpoint_every == 0
                if self.checkpoint_dir is not None and (last or interrupt.asked or pause or due):
                    self._check()
                    check_finite(self.model, step)
                    self._save(step, clock)
                if (interrupt.asked or pause) and not last:
                    saved = self.checkpoint_dir is not None
                    kept = f"continue from {self.checkpoint_dir}" if saved else "nothing was saved"
                    reason = KeyboardInterrupt if interrupt.asked else Paused
                    raise reason(f"training stopped after step {step} of {self.steps}; {kept}")
        check_finite(self.model, self.steps)
        self.history.wall_seconds, self.history.cpu_seconds = clock.wall(), clock.cpu()
        return self.history

    def _check(self) -> None:
        for watch in self.watches.values():
            watch.check(self.model)

    def _means(self) -> dict[str, float]:
        """Means since the last row; the loss of a side is named after it."""
        row = {}
        for side, watch in self.watches.items():
            for name, value in watch.average.take().items():
                row[f"{side}/loss" if side and name == "loss" else name] = value
        return row

    def _save(self, step: int, clock: _Clock) -> None:
        averages = {side: watch.average for side, watch in self.watches.items()}
        tensors = checkpoint.capture(*self.state) | _global_random_state(self.device)
        tensors |= {f"average/{side}": average.total for side, average in averages.items() if average.count}
        state = {
            "identity": self.identity,
            "history": list(self.history),
            "averages": {side: {"names": a.names, "count": a.count} for side, a in averages.items()},
            "wall_seconds": clock.wall(),
            "cpu_seconds": clock.cpu(),
        }
        checkpoint.save(self.checkpoint_dir, step, tensors, state)

    def _resume(self) -> tuple[_Clock, int]:
        """Put the newest checkpoint in place, if there is one: the clock as it stood, and the steps done."""
        found = checkpoint.load(self.checkpoint_dir) if self.checkpoint_dir is not None else None
        if found is None:
            return _Clock(), 0
        what = f"the checkpoint in {self.checkpoint_dir}"
        checkpoint.check_identity(found.state["identity"], self.identity, what)
        if found.step > self.steps:
            raise ValueError(f"steps is {self.steps}; {what} has already done {found.step}")
        if set(found.state.get("averages", {})) != set(self.watches):
            raise ValueError(f"{what} was written by another version of the loop; move it away to begin anew")
        checkpoint.restore(found, *self.state)
        _set_global_random_state(found.tensors, self.device)
        for side, watch in self.watches.items():
            kept = found.state["averages"][side]
            watch.average.names, watch.average.count = kept["names"], kept["count"]
            if kept["count"]:
                watch.average.total = found.tensors[f"average/{side}"].clone().to(self.device)
        self.history.extend(found.state["history"])
        return _Clock(found.state["wall_seconds"], found.state["cpu_seconds"]), found.step


def check_options(
    steps: int,
    batch_size: int,
    log_every: int,
    validate_every: int | None,
    checkpoint_every: int | None,
    callback: Callable | None,
    checkpoint_dir: str | Path | None,
) -> None:
    """Refuse numbers of steps that are none, and options that need each other, before any work is done.

    Raises:
        ValueError: naming the argument.
    """
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
