"""A modality: its name, shape, networks and likelihood; and the checks that every batch passes through."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Batch = Mapping[str, Tensor]
Mask = Mapping[str, Tensor]


def _sum_event(log_density: Tensor, event_dims: int) -> Tensor:
    return log_density.flatten(-event_dims).sum(-1) if event_dims else log_density


class LaplaceLikelihood:
    """Laplace observation noise of a fixed scale around the decoder's output, which is the location.

    Args:
        scale: the diversity b, in pixels.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    discrete = False

    def __init__(self, scale: float = 0.75) -> None:
        self.scale = _positive("scale", scale)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        r"""log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the event.

        Equation: ``eq-laplace-likelihood``. Source: Shi et al. 2019, Appendix (scale 0.75 in its published runs).
            log p(x | z) = - sum_i |x_i - mu_i| / b - n log 2b
        """
        event_dims = x.ndim - 1
        deviation = _sum_event((params - x).abs(), event_dims)
        return -deviation / self.scale - math.prod(x.shape[1:]) * math.log(2 * self.scale)

    def mean(self, params: Tensor) -> Tensor:
        """Mean observation, in data space, of the shape of ``params``."""
        return params

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if observed values of ``x`` are not pixels in [0, 1]."""
        _check_unit_interval(name, x)


class NormalLikelihood:
    """Normal observation noise of a fixed standard deviation around the decoder's output.

    Args:
        scale: standard deviation, in the units of the data.

    Raises:
        ValueError: if ``scale`` is not positive.
    """

    discrete = False

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = _positive("scale", scale)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed over the event."""
        squared = _sum_event(((params - x) / self.scale).square(), x.ndim - 1)
        normaliser = math.log(self.scale) + 0.5 * math.log(2 * math.pi)
        return -0.5 * squared - math.prod(x.shape[1:]) * normaliser

    def mean(self, params: Tensor) -> Tensor:
        """Mean observation, of the shape of ``params``."""
        return params

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if observed values of ``x`` are not finite."""
        _check_finite(name, x)


class BernoulliLikelihood:
    """Independent Bernoulli pixels; the decoder gives logits. Pixels between 0 and 1 are scored by cross-entropy."""

    discrete = False

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): logits ``params`` [..., B, *shape] and ``x`` [B, *shape] to [..., B], nats, summed."""
        log_density = -F.binary_cross_entropy_with_logits(params, x.expand_as(params), reduction="none")
        return _sum_event(log_density, x.ndim - 1)

    def mean(self, params: Tensor) -> Tensor:
        """Pixel probabilities, of the shape of ``params``."""
        return params.sigmoid()

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if observed values of ``x`` are not pixels in [0, 1]."""
        _check_unit_interval(name, x)


class CategoricalLikelihood:
    """Categorical symbols; the decoder gives logits over ``classes`` on a last axis of its own.

    Args:
        classes: number of symbols.

    Raises:
        ValueError: if ``classes`` is not positive.
    """

    discrete = True

    def __init__(self, classes: int) -> None:
        self.classes = int(_positive("classes", classes))

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """log p(x | z): logits [..., B, *shape, classes] and int64 ``x`` [B, *shape] to [..., B], nats, summed."""
        chosen = x.expand(params.shape[:-1])[..., None]
        return _sum_event(params.log_softmax(-1).gather(-1, chosen)[..., 0], x.ndim - 1)

    def mean(self, params: Tensor) -> Tensor:
        """Class probabilities, of the shape of ``params``."""
        return params.softmax(-1)

    def check(self, name: str, x: Tensor) -> None:
        """Raise ValueError if ``x`` holds anything but symbols 0 .. classes - 1."""
        if x.is_floating_point():
            raise ValueError(f"batch[{name!r}] is {x.dtype}; expected int64 symbols")
        if x.numel() and (int(x.min()) < 0 or int(x.max()) >= self.classes):
            found = f"{int(x.min())} .. {int(x.max())}"
            raise ValueError(f"batch[{name!r}] holds symbols {found}; expected 0 .. {self.classes - 1}")


Likelihood = LaplaceLikelihood | NormalLikelihood | BernoulliLikelihood | CategoricalLikelihood


class Modality(nn.Module):
    """One kind of observation: a name, a shape, two networks, a likelihood and its weight in training.

    Args:
        name: key of the modality in every batch.
        shape: shape of one observation, without the batch axis.
        encoder: maps x [B, *shape] to (loc [B, D], raw scale [B, D]).
        decoder: maps z [N, D] to the likelihood's parameters [N, *shape].
        likelihood: one of the likelihoods of this module.
        weight: lambda_m, multiplies log p(x_m | z) in training objectives, never in a reported likelihood.

    Raises:
        ValueError: if ``weight`` is not positive.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: Likelihood,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.name = name
        self.shape = tuple(shape)
        self.encoder = encoder
        self.decoder = decoder
        self.likelihood = likelihood
        self.weight = _positive("weight", weight)

    def decode(self, z: Tensor) -> Tensor:
        """Likelihood parameters [..., *shape] at codes ``z`` [..., D]; all leading axes go through in one call."""
        params = self.decoder(z.flatten(0, -2))
        return params.unflatten(0, z.shape[:-1])


def check_names(known: Mapping[str, object], names: object, argument: str) -> tuple[str, ...]:
    """``names`` as a tuple, after checking that each names a known modality.

    Raises:
        ValueError: if a name is unknown, or if there is none.
    """
    if isinstance(names, str):
        raise ValueError(
            f"{argument} is the string {names!r}; expected a collection of names, for example [{names!r}]"
        )
    names = tuple(names)
    for name in names:
        if name not in known:
            raise ValueError(f"{argument} names {name!r}; the model's modalities are {', '.join(known)}")
    if not names:
        raise ValueError(f"{argument} is empty; expected at least one of {', '.join(known)}")
    return names


def check_given(
    modalities: Mapping[str, object], batch: Batch, mask: Mask, given: Collection[str]
) -> tuple[str, ...]:
    """The names that a posterior may see, in the order of the modalities, of a batch that has been checked.

    Raises:
        ValueError: for an unknown name, one that is not in the batch, or a row that observes none of them.
    """
    given = check_names(modalities, given, "given")
    for name in given:
        if name not in batch:
            raise ValueError(f"given names {name!r}, which is not in the batch ({', '.join(batch)})")
    if not bool(torch.stack([mask[name] for name in given]).any(0).all()):
        raise ValueError(f"given is {', '.join(given)}, but a row observes none of them")
    return tuple(name for name in modalities if name in given)


def all_observed(mask: Mask) -> bool:
    """Whether no row misses a modality.

    While a CUDA graph is being recorded nothing can be read back from the device; then it is taken for granted, since
    the training loop records steps of complete splits only.
    """
    if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
        return True
    return all(bool(observed.all()) for observed in mask.values())


def check_batch(
    modalities: Mapping[str, Modality], batch: Batch, mask: Mask | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Check a batch and replace what is not observed by zeros.

    Args:
        modalities: the model's modalities by name.
        batch: tensors [B, *shape] by modality name; a missing modality is an absent key.
        mask: bool [B] by modality name, True = observed; absent keys are wholly observed.

    Returns:
        The clean batch, in the model's order, and a mask [B] for each of its modalities. Rows that are not observed
        hold zeros, whatever they held before, so that nothing computed from the batch can depend on them.

    Raises:
        ValueError: for an unknown modality, a wrong shape or dtype, an empty batch, a row without any modality, or
            an observed value that is not finite or not within the likelihood's range.
    """
    names = check_names(modalities, batch, "batch")
    mask = {} if mask is None else mask
    for name in mask:
        if name not in batch:
            raise ValueError(f"mask names {name!r}, which is not in the batch ({', '.join(names)})")
    rows = len(batch[names[0]])
    if rows == 0:
        raise ValueError(f"batch[{names[0]!r}] is empty; expected at least one row")
    clean: dict[str, Tensor] = {}
    observed: dict[str, Tensor] = {}
    for name, modality in modalities.items():
        if name not in batch:
            continue
        x = batch[name]
        if tuple(x.shape) != (rows, *modality.shape):
            raise ValueError(
                f"batch[{name!r}] has shape {tuple(x.shape)}; expected {(rows, *modality.shape)}"
            )
        if not modality.likelihood.discrete and not x.is_floating_point():
            raise ValueError(f"batch[{name!r}] is {x.dtype}; expected floating point")
        if name in mask:
            seen = mask[name]
            if seen.dtype != torch.bool or tuple(seen.shape) != (rows,):
                found = f"{seen.dtype} of shape {tuple(seen.shape)}"
                raise ValueError(
                    f"mask[{name!r}] is {found}; expected bool of shape {(rows,)}, True = observed"
                )
            x = torch.where(seen.view(-1, *[1] * len(modality.shape)), x, torch.zeros_like(x))
        else:
            seen = torch.ones(rows, dtype=torch.bool, device=x.device)
        modality.likelihood.check(name, x)
        clean[name], observed[name] = x, seen
    seen_any = torch.stack(list(observed.values())).any(0)
    if not bool(seen_any.all()):
        row = int((~seen_any).nonzero()[0, 0])
        raise ValueError(
            f"mask leaves row {row} without any modality; expected at least one observed modality a row"
        )
    return clean, observed


def _check_finite(name: str, x: Tensor) -> None:
    bad = (~torch.isfinite(x)).flatten(1).any(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise ValueError(
            f"batch[{name!r}] has NaN or infinity in observed row {row}; mask what is not observed"
        )


def _check_unit_interval(name: str, x: Tensor) -> None:
    _check_finite(name, x)
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise ValueError(f"batch[{name!r}] has pixels from {low:g} to {high:g}; expected pixels in [0, 1]")


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} is {value!r}; expected a positive number")
    return value
