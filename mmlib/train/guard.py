"""What watches a training run: its losses, averaged and finite, and Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


class Watch:
    """Averages the loss and its parts since the last row of the history, and looks for NaN among them.

    Sums stay on the device, without a transfer at each step; NaN is looked for at each step on the CPU, elsewhere when
    asked.
    """

    def __init__(self, side: str, on_device: bool) -> None:
        self.side, self.on_device = side, on_device
        self.names: list[str] = []
        self.total, self.count = None, 0
        self.unread: list[tuple[int, Tensor]] = []

    def see(self, step: int, loss: Tensor, parts: dict[str, Tensor], model: nn.Module) -> None:
        """Take in the loss and its parts [B] of a step, the ``step``-th, before its weights change.

        A part that the rows of a step do not have, such as those that all miss a modality, counts as 0 there.
        """
        self.names = list(dict.fromkeys([*self.names, "loss", *parts]))
        with torch.no_grad():
            rows = {name: part.detach().double() for name, part in parts.items()}
            nothing = torch.zeros_like(next(iter(rows.values())))
            rows = torch.stack([rows.get(name, nothing) for name in self.names[1:]])  # [P, B]
            means = torch.cat([loss.detach().double().view(1), rows.mean(1)])
            bad = torch.cat([~torch.isfinite(means[:1]), (~torch.isfinite(rows)).sum(1)])  # [1 + P]
            before = means.new_zeros(0) if self.total is None else self.total
            self.total = means + F.pad(before, (0, len(means) - len(before)))
            self.count += 1
        self.rows = rows.shape[1]
        self.unread.append((step, bad))
        if not self.on_device:
            self.check(model)

    def means(self) -> dict[str, float]:
        """The means since the last time that they were asked for; the loss of a side is named after it."""
        if not self.count:
            return {}
        names = [f"{self.side}/loss" if self.side else "loss", *self.names[1:]]
        means = dict(zip(names, (self.total / self.count).tolist(), strict=True))
        self.total, self.count = None, 0
        return means

    def state(self) -> dict:
        """The sums, JSON-able: Python writes every float64 so that it is read as the same."""
        total = self.total.tolist() if self.count else None
        return {"names": self.names, "count": self.count, "total": total}

    def restore(self, state: dict, device: torch.device) -> None:
        """Put back what :meth:`state` gave."""
        self.names, self.count = state["names"], state["count"]
        if self.count:
            self.total = torch.tensor(state["total"], dtype=torch.float64, device=device)

    def check(self, model: nn.Module) -> None:
        """Look at the steps taken in since the last look.

        Raises:
            FloatingPointError: naming the first step that went bad, its terms and the number of rows.
        """
        if not self.unread:
            return
        steps, counts = (
            [s for s, _ in self.unread],
            pad_sequence([bad for _, bad in self.unread], True).tolist(),
        )
        self.unread.clear()
        for step, bad in zip(steps, counts, strict=True):
            if any(bad):
                raise FloatingPointError(self._explain(step, bad, model))

    def _explain(self, step: int, bad: list[int], model: nn.Module) -> str:
        terms = [
            f"{name!r} in {int(n)} of {self.rows} rows"
            for name, n in zip(self.names[1:], bad[1:], strict=True)
            if n
        ]
        text = f"training stopped at step {step}: not finite: {', '.join(terms) or 'the loss, although its parts are'}"
        broken = not_finite(model)
        if broken and not self.on_device:  # before the step was taken: an earlier gradient overflowed
            text += f"; the parameters were no longer finite before it, {broken[0]} first: the gradient overflowed"
        return text


class Paused(RuntimeError):
    """Training stopped on request before its last step; its state is in the checkpoint, if there is one."""


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turns the first Ctrl-C into an event that the loop reads between two steps; the second one stops at once."""
    asked, before = threading.Event(), None

    def ask(*_) -> None:
        if asked.is_set():
            raise KeyboardInterrupt("training stopped at once, at the second interrupt")
        asked.set()

    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


def not_finite(model: nn.Module) -> list[str]:
    """Names of the parameters that hold NaN or infinity."""
    return [name for name, value in model.named_parameters() if not bool(torch.isfinite(value).all())]


def check_finite(model: nn.Module, step: int) -> None:
    """Refuse weights that a gradient has spoilt although the loss was finite.

    Raises:
        FloatingPointError: naming the first of them.
    """
    broken = not_finite(model)
    if broken:
        raise FloatingPointError(
            f"training stopped: the parameters are no longer finite after step {step}, {broken[0]} first, although "
            "the loss was: its gradient overflowed"
        )
