"""A modality: its name, shape, networks and likelihood; and the checks that every batch passes through."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mmlib.checks import kind, positive, sizes
from mmlib.likelihoods import BernoulliLikelihood as BernoulliLikelihood  # users find them here, too
from mmlib.likelihoods import CategoricalLikelihood as CategoricalLikelihood
from mmlib.likelihoods import LaplaceLikelihood as LaplaceLikelihood
from mmlib.likelihoods import Likelihood
from mmlib.likelihoods import NormalLikelihood as NormalLikelihood

Shape = tuple[int, ...]  # of one item
Shapes = Mapping[str, Shape]
Batch = Mapping[str, Tensor]
Mask = Mapping[str, Tensor]


class Modality(nn.Module):
    """One kind of observation: a name, a shape, two networks, a likelihood and its weight in training.

    Args:
        name: key of the modality in every batch.
        shape: shape of one observation, without the batch axis.
        encoder: maps x [B, *shape] to (loc [B, D], raw scale [B, D]).
        decoder: maps z [N, D] to the likelihood's parameters [N, *shape], symbols having a last axis of logits.
        likelihood: one of those of `mmlib.likelihoods`, or a subclass of its `Likelihood`. Like the networks it is a
            part of the model, with what it learns.
        weight: lambda_m, multiplies log p(x_m | z) in training objectives, never in a reported likelihood.

    Raises:
        ValueError: for a name that PyTorch's ``ModuleDict`` cannot take, a shape that is none or that the likelihood
            has no items of, a class in place of a network or likelihood, or a weight that is not positive.
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
        self.name = module_name(name)
        self.shape = sizes("shape", shape)
        for role, network in (("encoder", encoder), ("decoder", decoder)):
            if isinstance(network, type) or not callable(network):
                found = f"{role} of modality {name!r} is {network!r}"
                raise ValueError(f"{found}; expected a network, an instance of it")
        check_likelihood(name, likelihood)
        likelihood.params_shape(self.shape)  # refuses items that it has no density of
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        self.weight = positive("weight", weight)

    def encode(self, x: Tensor, latent_dim: int) -> tuple[Tensor, Tensor]:
        """Location and raw scale, [B, latent_dim] each, of the code of items ``x`` [B, *shape].

        Raises:
            ValueError: if that is not what the encoder gives.
        """
        return loc_and_raw(f"encoder of modality {self.name!r}", self.encoder(x), (len(x), latent_dim))

    def decode(self, z: Tensor) -> Tensor:
        """Likelihood parameters [..., *shape] at codes ``z`` [..., D]; all leading axes go through in one call.

        Raises:
            ValueError: if the decoder gives another shape, which would be broadcast into another likelihood.
        """
        params = self.decoder(z.flatten(0, -2))
        expected = (z.shape[:-1].numel(), *self.likelihood.params_shape(self.shape))
        if tuple(params.shape) != expected:
            found = f"decoder of modality {self.name!r} gives shape {tuple(params.shape)}"
            raise ValueError(f"{found} for {expected[0]} codes; expected {expected}")
        return params.unflatten(0, z.shape[:-1])


def check_likelihood(name: str, likelihood: object) -> Likelihood:
    """What was given as the likelihood of a modality, if it is one.

    Raises:
        ValueError: for a class, anything else, or an instance that its constructor left half made.
    """
    if not isinstance(likelihood, Likelihood):
        found = f"likelihood of modality {name!r} is {likelihood!r}"
        raise ValueError(f"{found}; expected an instance of a Likelihood")
    if "_parameters" not in vars(likelihood):
        found = f"likelihood of modality {name!r} is a half-made {type(likelihood).__name__}"
        raise ValueError(f"{found}; expected its constructor to begin with super().__init__()")
    return likelihood


def loc_and_raw(what: str, output: object, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What an encoder gave, if it is a location and a raw scale of this shape [B, D].

    Raises:
        ValueError: if it is anything else.
    """
    parts = tuple(output) if isinstance(output, tuple | list) else (output,)
    shapes = [tuple(getattr(part, "shape", ())) for part in parts]
    if shapes != [shape, shape]:
        found = f"{what} gives {', '.join(map(str, shapes))}"
        raise ValueError(f"{found}; expected loc and raw scale, {shape} each")
    return parts


def module_name(name: str, owner: type[nn.ModuleDict] = nn.ModuleDict) -> str:
    """``name``, if a ``ModuleDict`` can have a module of that name.

    Raises:
        ValueError: for no string, an empty one, one with a dot, or an attribute such as ``"type"``.
    """
    taken = isinstance(name, str) and (hasattr(owner, name) or hasattr(nn.ModuleDict(), name))
    if not isinstance(name, str) or not name or "." in name or taken:
        expected = "a string without a dot that is no attribute of PyTorch's modules, such as 'image'"
        raise ValueError(f"name is {name!r}; expected {expected}")
    return name


def check_names(
    known: Mapping[str, object], names: object, argument: str, where: str = "the model's modalities are"
) -> tuple[str, ...]:
    """``names`` as a tuple, after checking that each names a known modality.

    Raises:
        ValueError: if a name is unknown, if there is none, or if they are no collection of names.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        example = list(known)[:1]
        raise ValueError(f"{argument} is {names!r}; expected a collection of names, for example {example}")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ValueError(f"{argument} names {name!r}; {where} {', '.join(known)}")
    if not names:
        raise ValueError(f"{argument} is empty; expected at least one of {', '.join(known)}")
    return names


def check_given(
    batch: Batch, mask: Mask, names: Collection[str] | None, argument: str = "given"
) -> tuple[str, ...]:
    """Names chosen of a batch that has been checked (None: all), in the order of its modalities.

    Raises:
        ValueError: for a name that is not in the batch, or a row that observes none of them.
    """
    if names is None:
        return tuple(batch)
    names = check_names(batch, names, argument, "the batch holds")
    if not bool(torch.stack([mask[name] for name in names]).any(0).all()):
        raise ValueError(f"{argument} is {', '.join(names)}, but a row observes none of them")
    return tuple(name for name in batch if name in names)


def all_observed(mask: Mask) -> bool:
    """Whether no row misses a modality.

    While a CUDA graph is being recorded nothing can be read back from the device; then it is taken for granted, since
    the training loop records steps of complete splits only.
    """
    return _recording() or bool(torch.stack(list(mask.values())).all())


def without_hidden(batch: Batch, mask: Mask) -> tuple[Batch, Mask]:
    """A checked batch and its mask without the modalities that no row observes: they are absent keys."""
    if _recording():
        return batch, mask
    some = torch.stack(list(mask.values())).any(1).tolist()
    names = [name for name, seen in zip(mask, some, strict=True) if seen]
    return {name: batch[name] for name in names}, {name: mask[name] for name in names}


def stand_in(x: Tensor, observed: Tensor) -> Tensor:
    """Items ``x`` [B, *shape] with the first observed one in every row where ``observed`` [B] is False.

    For networks and likelihoods that are not finite at zero: what they send back would be NaN, even times zero.
    """
    if observed.device.type == "cpu" and bool(observed.all()):
        return x
    first = x.index_select(0, observed.int().argmax().view(1))
    return torch.where(along_rows(observed, x), x, first)


def _recording() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def check_batch(
    modalities: Mapping[str, Modality], batch: Batch, mask: Mask | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A clean batch, in the model's order, and a mask [B] for each of its modalities.

    Rows that are not observed hold zeros, whatever they held before, so that nothing computed from the batch can depend
    on them. Arrays and lists become tensors; numbers take the dtype of the modality's networks, symbols become int64.

    Args:
        modalities: the model's modalities by name.
        batch: tensors [B, *shape] by modality name; a missing modality is an absent key.
        mask: bool [B] by modality name, True = observed; absent keys are wholly observed.

    Raises:
        ValueError: for an unknown modality, a wrong shape, dtype or device, an empty batch, a row without any modality,
            or an observed value that is not finite or not within the likelihood's range.
    """
    mask = {} if mask is None else mask
    for argument, given in (("batch", batch), ("mask", mask)):
        if not isinstance(given, Mapping):
            found = f"{argument} is {kind(given)}"
            raise ValueError(f"{found}; expected a mapping from modality names to tensors")
    names = check_names(modalities, batch, "batch")
    for name in mask:
        if name not in batch:
            raise ValueError(f"mask names {name!r}, which is not in the batch ({', '.join(names)})")
    clean, observed, rows = {}, {}, None
    for name, modality in modalities.items():
        if name not in batch:
            continue
        what, like = f"batch[{name!r}]", next(modality.parameters(), None)
        x = _tensor(what, batch[name], like)
        rows = x.shape[:1].numel() if rows is None else rows
        if tuple(x.shape) != (rows, *modality.shape):
            raise ValueError(f"{what} has shape {tuple(x.shape)}; expected {(rows, *modality.shape)}")
        if rows == 0:
            raise ValueError(f"{what} is empty; expected at least one row")
        if modality.likelihood.discrete:
            if not torch.can_cast(x.dtype, torch.int64):
                raise ValueError(f"{what} is {x.dtype}; expected int64 symbols")
            x = x.long()
        elif not x.is_floating_point():
            raise ValueError(f"{what} is {x.dtype}; expected floating point")
        elif like is not None:
            x = x.to(like.dtype)
        seen = torch.ones(rows, dtype=torch.bool, device=x.device)
        if name in mask:
            seen = _tensor(f"mask[{name!r}]", mask[name], seen)
            if seen.dtype != torch.bool or tuple(seen.shape) != (rows,):
                found = f"mask[{name!r}] is {seen.dtype} of shape {tuple(seen.shape)}"
                raise ValueError(f"{found}; expected bool of shape {(rows,)}, True = observed")
            x = x.masked_fill(~along_rows(seen, x), 0)
        bad = (~torch.isfinite(x)).reshape(rows, -1).any(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise ValueError(f"{what} has NaN or infinity in observed row {row}; mask what is not observed")
        if bool(seen.any()):
            modality.likelihood.check(name, x[seen] if name in mask else x)
        clean[name], observed[name] = x, seen
    seen_any = torch.stack(list(observed.values())).any(0)
    if not bool(seen_any.all()):
        row = int((~seen_any).nonzero()[0, 0])
        expected = "at least one observed modality a row"
        raise ValueError(f"mask leaves row {row} without any modality; expected {expected}")
    return clean, observed


def _tensor(what: str, value: object, like: Tensor | None) -> Tensor:
    """``value`` as a tensor, which must be on the device of ``like`` if it was one before."""
    if isinstance(value, Tensor):
        if like is not None and value.device != like.device:
            raise ValueError(f"{what} is on {value.device}; expected it on the model's device, {like.device}")
        return value
    try:
        return torch.from_numpy(np.array(value, order="C")).to(like.device if like is not None else "cpu")
    except (TypeError, ValueError):
        raise ValueError(f"{what} is {kind(value)}; expected a tensor [B, ...]") from None


def along_rows(seen: Tensor, x: Tensor) -> Tensor:
    """Bool [B] for items ``x`` [B, *shape], ready to broadcast."""
    return seen.view(-1, *[1] * (x.ndim - 1))
