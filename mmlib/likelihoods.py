"""Likelihoods p(x | z): how an item is distributed, given what a decoder says of it."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.checks import positive, sizes, whole


class Likelihood(nn.Module):
    """How an item of a modality is distributed, given what its decoder says of it; subclass it for one of your own.

    Shapes: ``x`` are B items [B, *shape], and ``params`` what a decoder gives for them, [..., B, *shape], with as many
    axes of draws in front as it pleases. Densities are in nats, summed over the item and nothing else, unscaled.

    * ``log_prob`` must be overridden; `fitting` and `summed` help.
    * ``mean``, if what the decoder gives is not the mean itself. It is what models generate and plots show.
    * ``params_shape``, if the decoder gives more, or fewer, numbers than an item has.
    * ``check``, if not every finite number will do: it sees observed items only, before any network does.
    * ``discrete = True``, if items are integers: then they reach encoder and ``log_prob`` as int64.

    It is a Module, so that parameters of its own (of `NormalLikelihood`, a learned scale) are trained, saved and cast
    with the model; a constructor begins with ``super().__init__()``. Counts, for example:

    >>> class Poisson(Likelihood):
    ...     discrete = True
    ...
    ...     def log_prob(self, params, x):  # the decoder gives the logarithm of the rate
    ...         each = x * self.fitting(params, x) - params.exp() - (x.to(params.dtype) + 1).lgamma()
    ...         return self.summed(each, x)
    ...
    ...     def mean(self, params):
    ...         return params.exp()
    ...
    ...     def check(self, name, x):
    ...         if x.min() < 0:
    ...             raise ValueError(f"batch[{name!r}] holds {x.min()}; expected counts from 0")
    >>> Poisson().log_prob(torch.zeros(2, 3), torch.tensor([[0, 1, 1], [2, 0, 0]]))
    tensor([-3.0000, -3.6931])
    """

    discrete = False  # whether items are integers

    def params_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of what the decoder gives for one item of this shape: the same.

        A likelihood that has no items of this shape may raise ValueError, which then comes when a modality is made.
        """
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
        expected = (len(x), *self.params_shape(tuple(x.shape[1:])))
        if tuple(params.shape[-len(expected) :]) != expected:
            found, wanted = tuple(params.shape), ", ".join(map(str, expected))
            raise ValueError(f"params have shape {found}; expected [..., {wanted}]")
        return params

    def summed(self, each: Tensor, x: Tensor) -> Tensor:
        """Log-densities of ``each`` number of the items ``x`` [B, *shape]: [..., B, *shape] to [..., B]."""
        return each.flatten(1 - x.ndim).sum(-1) if x.ndim > 1 else each


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
        super().__init__()
        self.scale = positive("scale", scale)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        r"""log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the event.

        Equation: ``eq-laplace-likelihood``. Source: Shi et al. 2019, Appendix (scale 0.75 in its published runs).
            log p(x | z) = - sum_i |x_i - mu_i| / b - n log 2b
        """
        deviation = self.summed((self.fitting(params, x) - x).abs(), x)
        return -deviation / self.scale - math.prod(x.shape[1:]) * math.log(2 * self.scale)


class NormalLikelihood(Likelihood):
    """Normal observation noise around the decoder's output.

    Args:
        scale: its standard deviation, in units of the data; where it is learned, that of the start.
        learn_scale: learn it with the networks: True, one for the modality, or the shape of an item, one for each of
            its numbers. Nothing keeps the scale of a number that never varies from going to 0: leave such numbers out.

    Raises:
        ValueError: if ``scale`` is not positive, ``learn_scale`` is something else, or items have another shape.
    """

    def __init__(self, scale: float = 1.0, learn_scale: bool | tuple[int, ...] = False) -> None:
        super().__init__()
        self.initial = positive("scale", scale)
        self.log_scale = None
        if learn_scale is not False:
            shape = () if learn_scale is True else sizes("learn_scale", learn_scale, 1)
            self.log_scale = nn.Parameter(torch.full(shape, math.log(self.initial)))

    @property
    def scale(self) -> float | Tensor:
        """Standard deviation: a number if it is fixed, else a tensor, [] or of the shape of an item."""
        return self.initial if self.log_scale is None else self.log_scale.exp()

    def params_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the mean, which is that of the item; ValueError if a scale was learned for another."""
        if self.log_scale is not None and tuple(self.log_scale.shape) not in ((), shape):
            found = f"learn_scale is {tuple(self.log_scale.shape)}"
            raise ValueError(f"{found}; expected True or the shape of an item, {shape}")
        return shape

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the event."""
        squared = self.summed(((self.fitting(params, x) - x) / self.scale).square(), x)
        log_scale = math.log(self.initial) if self.log_scale is None else self.log_scale.mean()
        return -0.5 * squared - math.prod(x.shape[1:]) * (log_scale + 0.5 * math.log(2 * math.pi))


class BernoulliLikelihood(_Pixels):
    """Independent Bernoulli pixels; the decoder gives logits. Pixels between 0 and 1 are scored by cross-entropy."""

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): logits ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed."""
        target = x.expand_as(self.fitting(params, x))
        return self.summed(-F.binary_cross_entropy_with_logits(params, target, reduction="none"), x)

    def mean(self, params: Tensor) -> Tensor:
        """Pixel probabilities, of the shape of ``params``."""
        return params.sigmoid()


class CategoricalLikelihood(Likelihood):
    """Categorical symbols; the decoder gives logits over so many ``classes`` on a last axis of its own.

    Args:
        classes: number of symbols, 0 .. classes - 1.
        padding: the symbol that fills items up to the length of the longest; None: there is none. Where it stands
            nothing is counted, and everywhere else it has probability 0: given the length, the probabilities of all
            items add to one. The length itself is not modelled; for that, end items with a symbol that is no padding.

    Raises:
        ValueError: if ``classes`` is not a positive integer (2 with padding), or ``padding`` is none of the symbols.
    """

    discrete = True

    def __init__(self, classes: int, padding: int | None = None) -> None:
        super().__init__()
        self.classes = whole("classes", classes, 1 if padding is None else 2)
        self.padding = None if padding is None else whole("padding", padding, 0, self.classes - 1)

    def params_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A logit for every class of every symbol: ``(*shape, classes)``."""
        return (*shape, self.classes)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        r"""log p(x | z): logits [..., B, *shape, classes] and int64 ``x`` [B, *shape] to [..., B], nats, summed.

        Equation: ``eq-caption-likelihood``. Source: Shi et al. 2019, released code, which counts padding.
            log p(x | z) = sum_t l[t, x_t] - log sum_i exp l[t, i],  both sums without padding
        """
        chosen = x.expand(self.fitting(params, x).shape[:-1])[..., None]
        each = self._allowed(params).log_softmax(-1).gather(-1, chosen)[..., 0]
        return self.summed(each if self.padding is None else each.masked_fill(x == self.padding, 0), x)

    def mean(self, params: Tensor) -> Tensor:
        """Class probabilities, of the shape of ``params``."""
        return self._allowed(params).softmax(-1)

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if ``x`` holds anything but symbols 0 .. classes - 1."""
        low, high = int(x.min()), int(x.max())
        if low < 0 or high >= self.classes:
            found = f"batch[{name!r}] holds symbols {low} .. {high}"
            raise ValueError(f"{found}; expected 0 .. {self.classes - 1}")

    def _allowed(self, params: Tensor) -> Tensor:
        """Logits [..., classes] that rule the padding out."""
        if self.padding is None:
            return params
        at = torch.arange(self.classes, device=params.device) == self.padding
        return params.masked_fill(at, -torch.inf)
