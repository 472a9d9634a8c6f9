"""What variational and adversarial models share: modalities, and codes that are encoded and decoded."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mmlib.checks import kind, one_of, whole
from mmlib.distributions import FAMILIES, SCALES, Diagonal, scale_from
from mmlib.modality import (
    Batch,
    Mask,
    Modality,
    check_batch,
    check_given,
    check_names,
    stand_in,
    without_hidden,
)


class MultimodalModel(nn.Module):
    """What variational and adversarial models share: modalities, and codes that are encoded and decoded.

    Args:
        modalities: at least one, with different names.
        latent_dim: D, the size of the code.
        family: of the unimodal posteriors.
        scale: rule that turns the encoders' raw output into scales, see ``distributions.scale_from``.

    Raises:
        ValueError: for no modality, a repeated name, or an unknown family or rule.
    """

    compares_rows = False  # whether the loss of a row depends on the other rows of its batch
    needs_labels = False  # whether ``loss`` takes the rows' classes, ``labels`` int64 [B]

    def __init__(
        self, modalities: Sequence[Modality], latent_dim: int, family: str = "normal", scale: str = "softplus"
    ) -> None:
        super().__init__()
        if not isinstance(modalities, Iterable):
            expected = "modalities, such as nets.modalities(data, latent_dim)"
            raise ValueError(f"modalities is {kind(modalities)}; expected {expected}")
        modalities = list(modalities)
        for i, modality in enumerate(modalities):
            if not isinstance(modality, Modality):
                raise ValueError(f"modalities[{i}] is {modality!r}; expected a Modality")
        names = [modality.name for modality in modalities]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"modalities are named {names}; expected at least one, with different names")
        self.modalities = nn.ModuleDict(zip(names, modalities, strict=True))
        self.latent_dim = whole("latent_dim", latent_dim)
        self.family = one_of("posterior", family, FAMILIES)
        self.scale_rule = one_of("scale", scale, SCALES)

    def encode(self, name: str, x: Tensor) -> Diagonal:
        """Unimodal posterior of the code, q(z | x_m): ``x`` [B, *shape] to loc and scale [B, D]."""
        loc, raw = self.modalities[name].encode(x, self.latent_dim)
        return Diagonal(loc, scale_from(raw, self.scale_rule), self.family)

    def experts(self, batch: Batch, mask: Mask, given: Iterable[str]) -> tuple[Diagonal, Tensor]:
        """Unimodal posteriors of ``given`` stacked to [M, B, D], and which rows observe them, [M, B].

        Where a row does not, there is loc 0 and scale 1, and no encoder has seen what is hidden.
        """
        observed = torch.stack([mask[name] for name in given])
        return self._stacked(self._encoded(batch, mask, given), given).where(observed), observed

    def _encoded(self, batch: Batch, mask: Mask, given: Iterable[str]) -> dict[str, Diagonal]:
        """Codes [B, D] of those given that some row observes; what other rows hide no encoder sees."""
        shown, seen = without_hidden(*({name: x[name] for name in given} for x in (batch, mask)))
        return {name: self.encode(name, stand_in(x, seen[name])) for name, x in shown.items()}

    def _stacked(self, found: Mapping[str, Diagonal], names: Iterable[str]) -> Diagonal:
        """Unimodal posteriors stacked to [M, B, D], with loc 0 and scale 1 for those that were not ``found``."""
        like = next(iter(found.values())).loc
        nothing = Diagonal(torch.zeros_like(like), torch.ones_like(like), self.family)
        codes = [found.get(name, nothing) for name in names]
        return Diagonal(
            torch.stack([q.loc for q in codes]), torch.stack([q.scale for q in codes]), self.family
        )

    def decode(self, z: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Likelihood parameters [..., *shape] of each modality named (default: all) at codes ``z`` [..., D]."""
        return {name: self.modalities[name].decode(z) for name in self._decodable(z, names)}

    def _decodable(self, z: Tensor, names: Collection[str] | None) -> tuple[str, ...]:
        if z.ndim < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected [..., {self.latent_dim}]")
        return tuple(self.modalities) if names is None else check_names(self.modalities, names, "names")

    def _means(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: self.modalities[name].likelihood.mean(value) for name, value in params.items()}

    def _seen(self, batch: Batch, mask: Mask | None, **chosen: Collection[str] | None) -> tuple:
        """A checked batch and mask of the modalities that it shows, and of each choice of names those among them."""
        batch, mask = check_batch(self.modalities, batch, mask)
        names = [check_given(batch, mask, choice, argument) for argument, choice in chosen.items()]
        batch, mask = without_hidden(batch, mask)
        return batch, mask, *(tuple(name for name in choice if name in batch) for choice in names)
