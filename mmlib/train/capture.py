"""One training step recorded as a CUDA graph and replayed: small networks wait for kernel launches, not for arithmetic.

A graph replays fixed kernels on fixed memory. So everything that a step reads or changes lives in tensors that stay
where they are, and the rows of a step are copied into a tensor that the graph reads. What is computed is unchanged:
before a recorded step is trusted it is held against the same step taken eagerly.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmlib.train import checkpoint

RECORDABLE = ("cuda",)  # kinds of device
WARM_UP = 3  # steps before recording: they allocate what the first ones allocate, such as Adam's moments
LOSS_TOLERANCE = 1e-4  # relative: float32 sums in another order
MOVE_TOLERANCE = 0.02  # of the mean distance that a weight moves: atomics add gradients in any order

Step = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def captured(
    forward: Step,
    update: Callable[[Tensor], None],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    noise: torch.Generator,
    rows: Tensor,
) -> Step | None:
    """Record the step ``update(forward(rows)[0])``: ``step(rows) -> (loss, parts)``, which the next call overwrites.

    It is None, with a warning that says why, if recording fails or a replayed step differs from an eager one. On return
    the weights, the optimizer's state (made ``capturable``) and the noise are what they were before.

    ``forward`` makes loss and parts of rows [B] on the device with draws from ``noise``, and reads nothing back from
    there; ``update`` takes the optimizer's step on a loss; ``rows`` int64 [B] are those of any one step.
    """
    held = rows.clone()
    for group in optimizer.param_groups:
        group["capturable"] = True

    def changing() -> dict[str, Tensor]:
        return checkpoint.capture({"model": model}, {"optimizer": optimizer}, {})

    before, noise_before = {name: value.clone() for name, value in changing().items()}, noise.get_state()

    @torch.no_grad()
    def rewind() -> None:
        for name, value in changing().items():  # what Adam has made since is 0 before its first step
            value.copy_(before.get(name, torch.zeros(())))
        noise.set_state(noise_before)

    def weights() -> Tensor:
        return torch.cat([weight.detach().double().flatten() for weight in model.parameters()])

    def step(rows: Tensor = held) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = forward(rows)
        update(loss)
        return loss.detach(), {name: part.detach() for name, part in parts.items()}

    def replayed(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        held.copy_(rows)
        replay()
        return loss, parts

    try:
        warm_up(step)
        rewind()
        replay, (loss, parts) = record(step, noise)
        ends = []
        for run in (replayed, step):
            rewind()
            ends.append((float(run(rows)[0]), weights()))
        rewind()
        _compare(*ends, weights())
    except RuntimeError as error:
        rewind()
        warnings.warn(f"training goes on without a recorded step: {error}", RuntimeWarning, stacklevel=3)
        return None
    return replayed


def warm_up(step: Callable) -> None:
    """A few steps on a stream of their own, as recording wants it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)


def record(step: Callable, noise: torch.Generator) -> tuple[Callable[[], None], tuple]:
    """Record a call of ``step``: a function that replays it, and the tensors that each replay fills."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(noise)  # so that each replay draws the numbers that an eager step would
    with torch.cuda.graph(graph):
        outputs = step()
    return graph.replay, outputs


def _compare(replayed: tuple[float, Tensor], eager: tuple[float, Tensor], before: Tensor) -> None:
    loss = abs(replayed[0] - eager[0]) / max(abs(eager[0]), 1.0)
    moved = float((eager[1] - before).abs().mean())
    apart = float((replayed[1] - eager[1]).abs().mean())
    if not (loss <= LOSS_TOLERANCE and apart <= MOVE_TOLERANCE * moved):
        raise RuntimeError(
            f"replayed and eager steps differ: losses {replayed[0]:.6g} and {eager[0]:.6g}, "
            f"weights apart by {apart:.3g} on average after a move of {moved:.3g}"
        )
