"""Likelihoods p(x | z): how an item is distributed, given what a decoder says of it."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.checks import positive, whole


class Likelihood:
    """How an item of a modality is distributed given what its decoder says; subclass it for one of your own."""

    discrete = False  # whether items are integers

    def params_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what the decoder gives for one item of this shape: the same."""
        return shape

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the item."""
        raise TypeError(f"{type(self).__name__} does not say how likely an item is")

    def mean(self, params: Tensor) -> Tensor:
        """Mean item, in data space, of the shape of ``params``; here they are the mean."""
        return params

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if finite values of ``x``, all observed, are not what the likelihood takes."""

    def fitting(self, params: Tensor, x: Tensor) -> Tensor:
        """``params``, if they are for just the items ``x`` [B, *shape].

        Raises:
            ValueError: if they would have to be broadcast, which makes another likelihood of them.
        """
        expected = self.params_shape(tuple(x.shape))
        if tuple(params.shape[-len(expected) :]) != expected:
            found, wanted = tuple(params.shape), ", ".join(map(str, expected))
            raise ValueError(f"params have shape {found}; expected [..., {wanted}]")
        return params


class _Pixels(Likelihood):
    """Of pixels in [0, 1]."""

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if observed values of ``x`` are not pixels in [0, 1]."""
        low, high = x.min().item(), x.max().item()
        if low < 0 or high > 1:
            short = float if x.dtype == torch.float64 else np.float32
            found = f"batch[{name!r}] has pixels from {short(low)!s} to {short(high)!s}"
            raise ValueError(f"{found}; expected pixels in [0, 1]")


class LaplaceLikelihood(_Pixels):
    """Laplace observation noise around the decoder's output, of a fixed ``scale``, the diversity b, in pixels.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    def __init__(self, scale: float = 0.75) -> None:
        self.scale = positive("scale", scale)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        r"""log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the event.

        Equation: ``eq-laplace-likelihood``. Source: Shi et al. 2019, Appendix (scale 0.75 in its published runs).
            log p(x | z) = - sum_i |x_i - mu_i| / b - n log 2b
        """
        deviation = _sum_event((self.fitting(params, x) - x).abs(), x.ndim - 1)
        return -deviation / self.scale - math.prod(x.shape[1:]) * math.log(2 * self.scale)


class NormalLikelihood(Likelihood):
    """Normal observation noise around the decoder's output, of a fixed standard deviation ``scale``.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = positive("scale", scale)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the event."""
        squared = _sum_event(((self.fitting(params, x) - x) / self.scale).square(), x.ndim - 1)
        normaliser = math.log(self.scale) + 0.5 * math.log(2 * math.pi)
        return -0.5 * squared - math.prod(x.shape[1:]) * normaliser


class BernoulliLikelihood(_Pixels):
    """Independent Bernoulli pixels; the decoder gives logits. Pixels between 0 and 1 are scored by cross-entropy."""

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): logits ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed."""
        target = x.expand_as(self.fitting(params, x))
        return _sum_event(-F.binary_cross_entropy_with_logits(params, target, reduction="none"), x.ndim - 1)

    def mean(self, params: Tensor) -> Tensor:
        """Pixel probabilities, of the shape of ``params``."""
        return params.sigmoid()


class CategoricalLikelihood(Likelihood):
    """Categorical symbols; the decoder gives logits over so many ``classes`` on a last axis of its own.

    Raises:
        ValueError: if ``classes`` is not a positive integer.
    """

    discrete = True

    def __init__(self, classes: int) -> None:
        self.classes = whole("classes", classes)

    def params_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A logit for every class of every symbol: ``(*shape, classes)``."""
        return (*shape, self.classes)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): logits [..., B, *shape, classes] and int64 ``x`` [B, *shape] to [..., B], nats, summed."""
        chosen = x.expand(self.fitting(params, x).shape[:-1])[..., None]
        return _sum_event(params.log_softmax(-1).gather(-1, chosen)[..., 0], x.ndim - 1)

    def mean(self, params: Tensor) -> Tensor:
        """Class probabilities, of the shape of ``params``."""
        return params.softmax(-1)

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if ``x`` holds anything but symbols 0 .. classes - 1."""
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= self.classes:
            found = f"batch[{name!r}] holds symbols {low} .. {high}"
            raise ValueError(f"{found}; expected 0 .. {self.classes - 1}")


def _sum_event(log_density: Tensor, event_dims: int) -> Tensor:
    return log_density.flatten(-event_dims).sum(-1) if event_dims else log_density
