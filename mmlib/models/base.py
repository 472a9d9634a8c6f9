"""What all models share: encode, decode, draw, sample, generate, and the protocol that metrics rely on.

A variational method is a subclass of `MultimodalVAE` that says what its posterior is and what its training objective
is; it overrides ``_posterior`` and ``_objective`` and nothing else.

Arguments that mean the same everywhere: ``batch``, tensors [B, *shape] by modality name; ``mask``, bool [B] by name,
True = observed, so that rows may observe different modalities (None: all there is); ``given``, names of the modalities
that the posterior sees (None: all in the batch); ``generator``, source of the draws.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib import bounds
from mmlib.bounds import LogWeights
from mmlib.checks import one_of, whole
from mmlib.distributions import FAMILIES, SCALES, Diagonal, Mixture, scale_from
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


class Draws(NamedTuple):
    """Samples from a posterior and every density at them; R components, K samples from each, B rows; nats."""

    z: Tensor  # [R, K, B, D]
    log_weights: LogWeights  # values [R, K, B] and the mixture's weights
    log_likelihood: dict[str, Tensor]  # [R, K, B] each, unscaled, 0 in rows that do not observe the modality
    log_prior: Tensor  # [R, K, B]
    log_posterior: Tensor  # [R, K, B]

    @property
    def log_mixture(self) -> Tensor:
        """Log mixture weights, [R, B]."""
        return self.log_weights.log_mixture


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

    def __init__(
        self, modalities: Sequence[Modality], latent_dim: int, family: str = "normal", scale: str = "softplus"
    ) -> None:
        super().__init__()
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
        shown, seen = without_hidden(*({name: x[name] for name in given} for x in (batch, mask)))
        observed = torch.stack([mask[name] for name in given])
        codes = self._stacked({name: stand_in(x, seen[name]) for name, x in shown.items()}, given)
        return codes.where(observed), observed

    def _stacked(self, batch: Batch, names: Iterable[str]) -> Diagonal:
        """Unimodal posteriors stacked to [M, B, D], with loc 0 and scale 1 where the batch lacks the modality."""
        found = {name: self.encode(name, batch[name]) for name in names if name in batch}
        like = next(iter(found.values())).loc
        nothing = Diagonal(torch.zeros_like(like), torch.ones_like(like), self.family)
        codes = [found.get(name, nothing) for name in names]
        return Diagonal(
            torch.stack([q.loc for q in codes]), torch.stack([q.scale for q in codes]), self.family
        )

    def decode(self, z: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """Likelihood parameters [..., *shape] of each modality named (default: all) at codes ``z`` [..., D]."""
        names = tuple(self.modalities) if names is None else check_names(self.modalities, names, "names")
        if z.ndim < 2 or z.shape[-1] != self.latent_dim:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected [..., {self.latent_dim}]")
        return {name: self.modalities[name].decode(z) for name in names}

    def _means(self, z: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        params = self.decode(z, names)
        return {name: self.modalities[name].likelihood.mean(value) for name, value in params.items()}

    def _seen(self, batch: Batch, mask: Mask | None, **chosen: Collection[str] | None) -> tuple:
        """A checked batch and mask of the modalities that it shows, and of each choice of names those among them."""
        batch, mask = check_batch(self.modalities, batch, mask)
        names = [check_given(batch, mask, choice, argument) for argument, choice in chosen.items()]
        batch, mask = without_hidden(batch, mask)
        return batch, mask, *(tuple(name for name in choice if name in batch) for choice in names)


class MultimodalVAE(MultimodalModel):
    """Base of the variational models: modalities, a prior over the code, and one protocol.

    Args:
        modalities: as of `MultimodalModel`; so are the next three, but for the name of the family.
        latent_dim: D.
        posterior: family of the unimodal posteriors and of the prior, ``"normal"`` or ``"laplace"``.
        scale: rule for the posteriors' scales.
        learn_prior: learn the prior's scale (its location stays 0); the scale starts at 1.

    Raises:
        ValueError: as `MultimodalModel`.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        posterior: str = "normal",
        scale: str = "softplus",
        learn_prior: bool = False,
    ) -> None:
        super().__init__(modalities, latent_dim, posterior, scale)
        self.learn_prior = one_of("learn_prior", learn_prior, (True, False))
        start = math.log(math.e - 1) if scale == "softplus" else 0.0
        self.prior_raw = nn.Parameter(torch.full((self.latent_dim,), start), requires_grad=learn_prior)

    # --- distributions ------------------------------------------------------------------------------------------

    @property
    def prior(self) -> Diagonal:
        """The prior over the code, loc 0 and scale [D]: exactly 1 unless it is learned."""
        loc = torch.zeros_like(self.prior_raw)
        scale = scale_from(self.prior_raw, self.scale_rule) if self.learn_prior else torch.ones_like(loc)
        return Diagonal(loc, scale, self.family)

    def posterior(
        self, batch: Batch, given: Collection[str] | None = None, mask: Mask | None = None
    ) -> Mixture:
        """Posterior over the code given the modalities named: a mixture of R components, [R, B, D].

        Raises:
            ValueError: for bad input, or if a row observes none of ``given``.
        """
        return self._posterior(*self._seen(batch, mask, given=given))

    def _posterior(self, batch: Batch, mask: Mask, given: tuple[str, ...]) -> Mixture:
        raise TypeError(f"{type(self).__name__} does not say what its posterior is")

    # --- generation ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """``n`` draws from the prior, decoded to mean observations [n, *shape] of every modality."""
        return self._means(self.prior.rsample(whole("n", n), generator))

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

        ``to`` may name given ones, too. With ``mean`` the posterior's mean is decoded in place of a draw.

        Raises:
            ValueError: as `posterior`, or for an unknown name.
        """
        to = check_names(self.modalities, to, "to")
        posterior = self.posterior(batch, given, mask)
        return self._means(posterior.mean if mean else posterior.sample(generator), to)

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

        The weights explain the modalities ``target`` (default: all in the batch), and of these in each row what it
        observes. ``weighted`` scales likelihoods by their training weights: leave it False for anything reported in
        nats. ``detach_posterior`` cuts the posterior's density, not its samples, from the graph.

        Raises:
            ValueError: for bad input or ``k`` < 1.
        """
        batch, mask, given, target = self._seen(batch, mask, given=given, target=target)
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
        values = bounds.log_weights(terms.values(), log_prior, log_posterior)
        weights = LogWeights(values, posterior.log_mixture)
        return Draws(z, weights, log_likelihood, log_prior, log_posterior)

    def log_likelihood(self, name: str, z: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_m | z): ``z`` [..., B, D] to [..., B], nats; 0 in rows where ``observed`` [B] is False."""
        modality = self.modalities[name]
        log_density = modality.likelihood.log_prob(modality.decode(z), stand_in(x, observed))
        return log_density.masked_fill(~observed, 0)

    def weighted(self, log_likelihood: dict[str, Tensor]) -> dict[str, Tensor]:
        """Log-likelihoods times the modalities' training weights lambda_m."""
        return {name: self.modalities[name].weight * value for name, value in log_likelihood.items()}

    def log_weights(self, batch: Batch, k: int = 1, **options) -> LogWeights:
        """Log importance weights, values [R, K, B] in nats of unscaled likelihoods; options as in ``draw``.

        They carry the mixture that they were drawn from: ``bounds.iwae(model.log_weights(batch, k, mask=mask))`` is
        right in every row, whatever it observes.
        """
        return self.draw(batch, k, **options).log_weights

    def loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        validate: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative training objective, averaged over the batch: a scalar to minimise, and named parts.

        The parts are [B], in nats, ``"objective"`` among them. ``validate`` checks the batch: a training loop that
        checked the whole data set once may pass False, with a mask for every modality, and rows that are not observed
        already replaced by zeros.

        Raises:
            ValueError: for bad input.
        """
        if validate or mask is None:
            batch, mask = check_batch(self.modalities, batch, mask)
        shown, observed = without_hidden(batch, mask)
        objective, parts = self._objective(shown, observed, generator)
        if len(shown) < len(batch):  # whoever averages parts over steps counts on all of them
            parts = {f"log_likelihood.{name}": torch.zeros_like(objective) for name in batch} | parts
        return -objective.mean(), {"objective": objective, **parts}

    def _objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        raise TypeError(f"{type(self).__name__} does not say what its objective is")


def average_over_draws(values: Tensor, log_mixture: Tensor) -> Tensor:
    """Mean of ``values`` [R, K, B] over samples and, by weight, over components: [B]."""
    return bounds.elbo(values, log_mixture)
