"""A running average of a model's weights, to be evaluated in place of the weights themselves."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mmlib.checks import check_has, one_of, real, whole


class Ema:
    """Exponential moving average of weights: average <- decay * average + (1 - decay) * weights, once a step.

    Args:
        model: whose weights are averaged; the average starts as a copy of it. Buffers are copied, not averaged.
        decay: in (0, 1).
        start: steps during which the average is simply a copy.
        ramp: in the t-th step after that use (t + 1) / (t + 10) while it is less than ``decay``, so that a short run's
            average forgets where it began.

    Raises:
        ValueError: for a decay outside (0, 1) or a negative start.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.constant_(model.weight, 0.0)
        >>> ema = Ema(model, decay=0.75, start=1)
        >>> ema.update(model, step=1)
        >>> _ = torch.nn.init.constant_(model.weight, 1.0)
        >>> ema.update(model, step=2)
        >>> ema.model.weight.item()
        0.25
    """

    def __init__(self, model: nn.Module, decay: float, start: int = 0, ramp: bool = False) -> None:
        self.decay = decay = real("decay", decay, 0.0, 1.0, open=True)
        self.start, self.ramp = whole("start", start, 0), one_of("ramp", ramp, (True, False))
        check_has("model", model, ["parameters"], "the model that is averaged")
        rule = self._ramped if ramp else get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(model, multi_avg_fn=rule)
        self.average.update_parameters(model)  # the first call copies

    @torch.no_grad()
    def _ramped(self, averages, weights, taken_in) -> None:
        t = int(taken_in)
        torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (t + 1) / (t + 10)))

    @property
    def model(self) -> nn.Module:
        """The model with averaged weights."""
        return self.average.module

    def averages(self, model: nn.Module) -> bool:
        """Whether this can be an average of the model: the same weights by name and shape."""
        own, others = ({k: v.shape for k, v in m.state_dict().items()} for m in (self.model, model))
        return own == others

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after the ``step``-th step, counted from 1."""
        if step <= self.start:
            self.average.n_averaged.zero_()  # then the next call copies
        self.average.update_parameters(model)
