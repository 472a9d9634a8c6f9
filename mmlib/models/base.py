"""What all variational models share: encode, draw, decode, sample, generate, and the protocol that metrics rely on.

A method is a subclass that says what its posterior is and what its training objective is; it overrides
``_posterior`` and ``_objective`` and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib import bounds
from mmlib.distributions import FAMILIES, SCALES, Diagonal, Mixture, scale_from
from mmlib.modality import Batch, Mask, Modality, check_batch, check_given, check_names


class Draws(NamedTuple):
    """Samples from a posterior and every density at them; R components, K samples from each, B rows; nats."""

    z: Tensor  # [R, K, B, D]
    log_weights: Tensor  # [R, K, B]
    log_mixture: Tensor  # [R, B]
    log_likelihood: dict[
        str, Tensor
    ]  # name -> [R, K, B], unscaled, 0 in rows that do not observe the modality
    log_prior: Tensor  # [R, K, B]
    log_posterior: Tensor  # [R, K, B]


class MultimodalVAE(nn.Module):
    """Base of the variational models: modalities, a prior over the code, and one protocol.

    Args:
        modalities: at least one, with different names.
        latent_dim: D, the size of the code.
        posterior: family of the unimodal posteriors and of the prior, ``"normal"`` or ``"laplace"``.
        scale: rule that turns the encoders' raw output into scales, see ``distributions.scale_from``.
        learn_prior: learn the prior's scale (its location stays 0); the scale starts at 1.

    Raises:
        ValueError: for no modality, a repeated name, or an unknown family or rule.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        posterior: str = "normal",
        scale: str = "softplus",
        learn_prior: bool = False,
    ) -> None:
        super().__init__()
        names = [modality.name for modality in modalities]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"modalities are named {names}; expected at least one, with different names")
        if posterior not in FAMILIES:
            raise ValueError(f"posterior is {posterior!r}; expected one of {', '.join(FAMILIES)}")
        if scale not in SCALES:
            raise ValueError(f"scale is {scale!r}; expected one of {', '.join(SCALES)}")
        self.modalities = nn.ModuleDict({modality.name: modality for modality in modalities})
        self.latent_dim = latent_dim
        self.family = posterior
        self.scale_rule = scale
        start = {"softplus": math.log(math.e - 1), "softmax_budget": 0.0, "log_variance": 0.0}[scale]
        self.prior_raw = nn.Parameter(torch.full((latent_dim,), start), requires_grad=learn_prior)
        self.learn_prior = learn_prior

    # --- distributions ------------------------------------------------------------------------------------------

    @property
    def prior(self) -> Diagonal:
        """The prior over the code, loc 0 and scale [D]: exactly 1 unless it is learned."""
        loc = torch.zeros_like(self.prior_raw)
        scale = scale_from(self.prior_raw, self.scale_rule) if self.learn_prior else torch.ones_like(loc)
        return Diagonal(loc, scale, self.family)

    def encode(self, name: str, x: Tensor) -> Diagonal:
        """Unimodal posterior q(z | x_m): ``x`` [B, *shape] to loc and scale [B, D]."""
        loc, raw = self.modalities[name].encoder(x)
        return Diagonal(loc, scale_from(raw, self.scale_rule), self.family)

    def experts(self, batch: Batch, mask: Mask, given: Iterable[str]) -> tuple[Diagonal, Tensor]:
        """Unimodal posteriors of ``given`` stacked to [M, B, D], and which rows observe them, [M, B]."""
        experts = [self.encode(name, batch[name]) for name in given]
        stacked = Diagonal(
            torch.stack([q.loc for q in experts]), torch.stack([q.scale for q in experts]), self.family
        )
        return stacked, torch.stack([mask[name] for name in given])

    def posterior(
        self, batch: Batch, given: Collection[str] | None = None, mask: Mask | None = None
    ) -> Mixture:
        """Posterior over the code given the modalities named, or all of the batch.

        Args:
            batch: tensors [B, *shape] by modality name.
            given: names the posterior may see; default: all in the batch.
            mask: bool [B] by name, True = observed; rows may observe different modalities.

        Returns:
            A mixture of R components, [R, B, D].

        Raises:
            ValueError: for bad input, or if a row observes none of ``given``.
        """
        batch, mask = check_batch(self.modalities, batch, mask)
        return self._posterior(batch, mask, self._given(batch, mask, given))

    def _posterior(self, batch: Batch, mask: Mask, given: tuple[str, ...]) -> Mixture:
        raise TypeError(f"{type(self).__name__} does not say what its posterior is")

    def _given(self, batch: Batch, mask: Mask, given: Collection[str] | None) -> tuple[str, ...]:
        return tuple(batch) if given is None else check_given(self.modalities, batch, mask, given)

    # --- generation ---------------------------------------------------------------------------------------------

    def decode(self, z: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Likelihood parameters [..., *shape] of each modality named (default: all) at codes ``z`` [..., D]."""
        names = tuple(self.modalities) if names is None else check_names(self.modalities, names, "names")
        if z.shape[-1] != self.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected its last axis to be {self.latent_dim}")
        return {name: self.modalities[name].decode(z) for name in names}

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """``n`` draws from the prior, decoded to mean observations [n, *shape] of every modality."""
        if n < 1:
            raise ValueError(f"n is {n}; expected at least 1")
        return self._means(self.prior.rsample(n, generator))

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        given: Collection[str],
        to: Collection[str],
        generator: torch.Generator | None = None,
        mask: Mask | None = None,
        mean: bool = False,
    ) -> dict[str, Tensor]:
        """Mean observations [B, *shape] of the modalities ``to``, decoded from one posterior draw a row.

        Args:
            batch: tensors [B, *shape] by modality name.
            given: modalities that the posterior sees.
            to: modalities to generate; may include those given.
            generator: source of the draws.
            mask: bool [B] by name, True = observed.
            mean: decode the posterior's mean in place of a draw.
        """
        posterior = self.posterior(batch, given, mask)
        return self._means(posterior.mean if mean else posterior.sample(generator), to)

    def _means(self, z: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        params = self.decode(z, names)
        return {name: self.modalities[name].likelihood.mean(value) for name, value in params.items()}

    # --- weights and loss ---------------------------------------------------------------------------------------

    def draw(
        self,
        batch: Batch,
        k: int = 1,
        given: Collection[str] | None = None,
        target: Collection[str] | None = None,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        weighted: bool = False,
        detach_posterior: bool = False,
    ) -> Draws:
        """Draw ``k`` codes from every component of a posterior and weigh them.

        Args:
            batch: tensors [B, *shape] by modality name.
            k: samples from each component.
            given: modalities that the posterior sees; default: all in the batch.
            target: modalities that the weights explain; default: all in the batch.
            mask: bool [B] by name, True = observed; a row explains only what it observes.
            generator: source of the draws.
            weighted: scale likelihoods by their training weights; leave False for anything reported in nats.
            detach_posterior: cut the posterior's density, not its samples, from the graph.

        Raises:
            ValueError: for bad input or ``k`` < 1.
        """
        if k < 1:
            raise ValueError(f"k is {k}; expected at least 1")
        batch, mask = check_batch(self.modalities, batch, mask)
        given = self._given(batch, mask, given)
        target = tuple(batch) if target is None else self._given(batch, mask, target)
        posterior = self._posterior(batch, mask, given)
        return self._draw(posterior, batch, mask, target, k, generator, weighted, detach_posterior)

    def _draw(
        self,
        posterior: Mixture,
        batch: Batch,
        mask: Mask,
        target: Iterable[str],
        k: int,
        generator: torch.Generator | None,
        weighted: bool = False,
        detach_posterior: bool = False,
    ) -> Draws:
        z = posterior.rsample_stratified(k, generator)
        log_likelihood = {name: self.log_likelihood(name, z, batch[name], mask[name]) for name in target}
        log_prior = self.prior.log_prob(z)
        log_posterior = (posterior.detach() if detach_posterior else posterior).log_prob(z)
        terms = self.weighted(log_likelihood) if weighted else log_likelihood
        weights = bounds.log_weights(terms.values(), log_prior, log_posterior)
        return Draws(z, weights, posterior.log_mixture, log_likelihood, log_prior, log_posterior)

    def log_likelihood(self, name: str, z: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_m | z): ``z`` [..., B, D] to [..., B], nats; 0 in rows where ``observed`` [B] is False."""
        modality = self.modalities[name]
        return modality.likelihood.log_prob(modality.decode(z), x) * observed

    def weighted(self, log_likelihood: dict[str, Tensor]) -> dict[str, Tensor]:
        """Log-likelihoods times the modalities' training weights lambda_m."""
        return {name: self.modalities[name].weight * value for name, value in log_likelihood.items()}

    def log_weights(self, batch: Batch, k: int = 1, **options) -> Tensor:
        """Log importance weights [R, K, B] in nats, with unscaled likelihoods; options as in ``draw``."""
        return self.draw(batch, k, **options).log_weights

    def loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        validate: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative training objective, averaged over the batch, and its parts.

        Args:
            batch: tensors [B, *shape] by modality name.
            mask: bool [B] by name, True = observed.
            generator: source of the draws.
            validate: check the batch; a training loop that checked the whole data set once may pass False, with a
                mask for every modality, and rows that are not observed already replaced by zeros.

        Returns:
            A scalar to minimise, and named parts [B] in nats, ``"objective"`` among them.
        """
        if validate or mask is None:
            batch, mask = check_batch(self.modalities, batch, mask)
        objective, parts = self._objective(batch, mask, generator)
        return -objective.mean(), {"objective": objective, **parts}

    def _objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        raise TypeError(f"{type(self).__name__} does not say what its objective is")


def average_over_draws(values: Tensor, log_mixture: Tensor) -> Tensor:
    """Mean of ``values`` [R, K, B] over samples and, by weight, over components: [B]."""
    return bounds.elbo(values, log_mixture)
