"""MoPoE: the posterior is a mixture of the products of experts of all subsets (Sutter et al. 2021)."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from mmlib.checks import one_of, per_name, real
from mmlib.distributions import (
    Diagonal,
    Mixture,
    kl_divergence,
    mixture_of_experts,
    product_of_subsets,
    single,
)
from mmlib.modality import Batch, Mask, Modality, check_names
from mmlib.models.base import Codes, MultimodalVAE, average_over_draws, factorised_kl

PRIOR_EXPERTS = ("never", "full", "always")
INFERENCES = ("product", "mixture")
OBJECTIVES = ("mean_kl", "elbo")


class MoPoE(MultimodalVAE):
    """Mixture-of-products-of-experts VAE: each subset of the modalities in turn must explain *all* of them.

    Training draws from the equal mixture over the subsets that a row observes wholly. At lambda = beta = 1 (those of
    the styles, too) both objectives are in expectation lower bounds of log p of what a row observes.

    Args:
        modalities: as of `MultimodalVAE`; so are ``latent_dim``, ``scale`` and ``learn_prior`` (N(0, I) in the paper).
        beta: weight of every KL term.
        subsets: names of each subset; None: all 2^M - 1. The full set alone is a product of experts (MVAE's posterior
            if the prior is one of them), the single modalities alone are a mixture of experts (MMVAE's).
        prior_expert: where the prior is a factor: ``"never"``, as the method is usually written; ``"full"``, in the
            product of all M modalities only, as in the released code; ``"always"``.
        inference: what the posterior of given modalities is. ``"product"``: that of exactly what a row observes, from
            which the released code generates; ``"mixture"``: that over its subsets, which is trained.
        objective: ``"mean_kl"``, one draw from a subset chosen for each row, and the mean of the subsets' KLs, which is
            at least the KL of their mixture (the released code); ``"elbo"``, the mixture's own, with a draw and M
            decodes from each subset.
        style_dim: S, as of `MultimodalVAE`.
        style_beta: weight of the KL of a style (``beta`` multiplies it, too); one for all or one for each name.

    Raises:
        ValueError: for an unknown option or name, an empty or repeated subset, or a negative weight.

    Source: Sutter et al. 2021, Section 3; the released code where it says so.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        scale: str = "softplus",
        learn_prior: bool = False,
        beta: float = 1.0,
        subsets: Iterable[Collection[str]] | None = None,
        prior_expert: str = "never",
        inference: str = "product",
        objective: str = "mean_kl",
        style_dim: int | Mapping[str, int] = 0,
        style_beta: float | Mapping[str, float] = 1.0,
    ) -> None:
        super().__init__(modalities, latent_dim, "normal", scale, learn_prior, style_dim)
        self.beta = real("beta", beta, 0.0)
        self.subsets = self._checked(subsets)
        self.prior_expert = one_of("prior_expert", prior_expert, PRIOR_EXPERTS)
        self.inference = one_of("inference", inference, INFERENCES)
        self.objective = one_of("objective", objective, OBJECTIVES)
        self.style_beta = per_name("style_beta", style_beta, self.modalities, real, 0.0)

    def _checked(self, subsets: Iterable[Collection[str]] | None) -> tuple[tuple[str, ...], ...]:
        names = tuple(self.modalities)
        if subsets is None:
            return tuple(s for size in range(1, len(names) + 1) for s in combinations(names, size))
        chosen = [frozenset(check_names(names, subset, "subsets")) for subset in subsets]
        if not chosen or len(set(chosen)) < len(chosen):
            raise ValueError(
                f"subsets is {[sorted(s) for s in chosen]}; expected at least one, all different"
            )
        return tuple(tuple(name for name in names if name in subset) for subset in chosen)

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The product of exactly what a row observes, [1, B, D], or the mixture over its subsets, [S, B, D]."""
        if self.inference == "mixture":
            return self.mixture(codes)
        product = self._products(codes, codes.observed.new_ones(1, len(codes.given)))
        return single(Diagonal(product.loc[0], product.scale[0]))

    def mixture(self, codes: Codes) -> Mixture:
        r"""The equal mixture over the products of those subsets that a row observes wholly, [S, B, D].

        Equation: ``eq-mopoe-posterior``. Source: Sutter et al. 2021, Section 3; released code.
            q(z | X) = 1 / (2^K - 1) sum_S prod_{m in S} q(z | x_m) / Z_S,  K modalities observed

        Raises:
            ValueError: if a row observes no subset wholly.
        """
        members = membership(self.subsets, codes.given, codes.observed.device)
        whole = (~members[..., None] | codes.observed).all(1)  # [S, B]
        if whole.device.type == "cpu" and not bool(whole.any(0).all()):
            raise ValueError(
                f"subsets is {self.subsets}: a row observes none of them wholly; add smaller ones"
            )
        return mixture_of_experts(self._products(codes, members), whole)

    def _products(self, codes: Codes, members: Tensor) -> Diagonal:
        """Product of the experts of each subset that a row observes, and of the prior where it is one: [S, B, D]."""
        full = (members[..., None] & codes.observed).sum(1) == len(self.modalities)  # [S, B]
        share = {"never": torch.zeros_like(full), "full": full, "always": torch.ones_like(full)}
        return product_of_subsets(
            codes.experts, codes.observed, members, self.prior, share[self.prior_expert]
        )

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`mopoe_objective` at one draw a row, or at one from every subset."""
        codes = self.codes(batch, mask, tuple(batch))
        posterior = self.mixture(codes)
        drawn = posterior if self.objective == "elbo" else single(posterior.choose(generator))
        draws = self.draw_from(drawn, codes.styles, batch, mask, batch, 1, generator)
        log_likelihood = {
            name: average_over_draws(value, draws.log_mixture) for name, value in draws.log_likelihood.items()
        }
        if self.objective == "elbo":
            kl = (posterior.log_prob(draws.z) - self.prior.log_prob(draws.z))[:, 0]  # [S, B], at each draw
        else:
            kl = kl_divergence(posterior.components, self.prior)
        style_kls = self.style_kls(codes.styles)
        parts = {f"log_likelihood.{name}": value for name, value in log_likelihood.items()}
        parts["kl"] = average_over_draws(kl[:, None], posterior.log_mixture)
        if any(self.style_dims.values()):
            parts["style_kl"] = torch.zeros_like(parts["kl"]) + sum(style_kls.values())
        kl = factorised_kl(kl, style_kls, self.style_beta)
        return mopoe_objective(
            self.weighted(log_likelihood).values(), kl, posterior.log_mixture, self.beta
        ), parts


@lru_cache(maxsize=64)
def membership(subsets: tuple[tuple[str, ...], ...], names: tuple[str, ...], device: torch.device) -> Tensor:
    """Which of ``names`` each subset holds, of those that hold no others: bool [S, M], made once on each device."""
    held = [[name in subset for name in names] for subset in subsets if set(subset) <= set(names)]
    return torch.tensor(held, dtype=torch.bool, device=device).reshape(-1, len(names))


def mopoe_objective(
    log_likelihoods: Iterable[Tensor], kl: Tensor, log_mixture: Tensor, beta: float = 1.0
) -> Tensor:
    r"""What MoPoE maximises, with the mean of the subsets' KLs in place of that of their mixture: [B], nats.

    Equation: ``eq-mopoe``. Source: Sutter et al. 2021, Section 3; released code.
        L = sum_m lambda_m log p(x_m | z) - beta mean_S KL(q_S || p)

    Args:
        log_likelihoods: lambda_m log p(x_m | z), [B] each, z from one of the subsets.
        kl: of each subset's product, and of the styles with their weights, to the prior: [S, B].
        log_mixture: log weights of the subsets, [S, B].
        beta: weight of the KLs.
    """
    return sum(log_likelihoods) - beta * average_over_draws(kl[:, None], log_mixture)
