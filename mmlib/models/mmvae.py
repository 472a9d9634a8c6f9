"""MMVAE: the posterior is a mixture of experts (Shi et al. 2019)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmlib import bounds
from mmlib.checks import one_of, whole
from mmlib.distributions import Diagonal, Mixture, kl_divergence, mixture_of_experts
from mmlib.modality import Batch, Mask, Modality
from mmlib.models.base import Codes, MultimodalVAE, average_over_draws

OBJECTIVES = ("elbo", "iwae", "iwae_looser", "elbo_own_decodes")
ESTIMATORS = ("plain", "squared", "normalised")


class MMVAE(MultimodalVAE):
    """Mixture-of-experts multimodal VAE: each expert in turn must explain *all* modalities.

    A row that misses modalities has the mixture of the experts that it observes, each of which explains what is
    observed: with one modality this is a VAE of its own. The paper, which trains on complete rows, has no such rows;
    row by row the ELBO remains a bound of log p of what is observed.

    Args:
        modalities: as of `MultimodalVAE`; so is ``latent_dim``.
        posterior: family of posterior and prior; the paper's runs use Laplace for digits, normal for birds.
        scale: rule for the experts' scales; ``"softmax_budget"`` is what the released code uses for digits.
        learn_prior: learn the prior's scale, as all published runs do.
        objective: ``"elbo"``; ``"iwae"``, all draws inside one logarithm; ``"iwae_looser"``, the mixture outside the
            logarithm (all published runs); ``"elbo_own_decodes"``, the released code's ELBO, of each modality the
            decode of its own expert's draw only, and importance ratios do the rest.
        estimator: how the IWAE objectives are differentiated with respect to the experts. ``"plain"``: through
            everything, unbiased. ``"squared"``: doubly reparameterised, squared weights, what the paper intends.
            ``"normalised"``: density detached, weights not squared, what the released code computes. The last two
            are biased for a mixture.
        k: draws from each expert.
        style_dim: S, as of `MultimodalVAE`. Each expert's draws explain every modality with a style from its own
            encoder; ``"elbo_own_decodes"`` pays the KL of the styles beside that of the experts.

    Raises:
        ValueError: for an unknown option, or an estimator that the objective does not have.

    Source: Shi et al. 2019, Section 3; the released code where it says so; styles, Sutter et al. 2020, supplement, C.1.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        posterior: str = "laplace",
        scale: str = "softmax_budget",
        learn_prior: bool = True,
        objective: str = "elbo",
        estimator: str = "plain",
        k: int = 1,
        style_dim: int | Mapping[str, int] = 0,
    ) -> None:
        super().__init__(modalities, latent_dim, posterior, scale, learn_prior, style_dim)
        self.objective = one_of("objective", objective, OBJECTIVES)
        self.estimator = one_of("estimator", estimator, ESTIMATORS)
        if estimator != "plain" and not objective.startswith("iwae"):
            raise ValueError(f"estimator is {estimator!r}, but objective {objective!r} has only 'plain'")
        self.k = whole("k", k)
        if objective == "elbo_own_decodes" and k != 1:
            raise ValueError(f"k is {k}; expected 1, since objective {objective!r} draws each expert once")

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The equal mixture of the experts that a row observes, [M, B, D]."""
        return mixture_of_experts(codes.experts, codes.observed)

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """The bound that ``objective`` names, of ``k`` draws from each expert."""
        codes = self.codes(batch, mask, tuple(batch))
        posterior = self.infer(codes, batch, mask)
        if self.objective == "elbo_own_decodes":
            return self._own_decodes(codes, posterior, batch, mask, generator)
        detach = self.estimator != "plain"
        draws = self.draw_from(
            posterior, codes.styles, batch, mask, batch, self.k, generator, True, detach_posterior=detach
        )
        looser = self.objective == "iwae_looser"
        if self.estimator == "squared":
            objective = bounds.dreg(draws.log_weights, [draws.z, *draws.styles.values()], looser=looser)
        else:
            bound = {"elbo": bounds.elbo, "iwae": bounds.iwae, "iwae_looser": bounds.iwae_looser}
            objective = bound[self.objective](draws.log_weights)
        parts = {f"log_likelihood.{name}": value for name, value in draws.log_likelihood.items()}
        parts["log_ratio"] = draws.log_posterior - draws.log_prior
        return objective, {name: average_over_draws(x, draws.log_mixture) for name, x in parts.items()}

    def _own_decodes(
        self, codes: Codes, posterior: Mixture, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        z = posterior.rsample_stratified(1, generator)[:, 0]  # [M, B, D]: row m from expert m
        styles = self.draw_styles(codes.styles, batch, z[0], generator)
        log_likelihood = torch.stack(
            [
                self.log_likelihood(name, self.code(name, z[m], styles), batch[name], mask[name])
                for m, name in enumerate(batch)
            ]
        )
        weight = log_likelihood.new_tensor([self.modalities[name].weight for name in batch])[:, None]
        observed = torch.stack([mask[name] for name in batch])
        ratios = expert_ratios(posterior.components, z, observed)
        kl = kl_divergence(posterior.components, self.prior) + sum(self.style_kls(codes.styles).values())
        objective = elbo_own_decodes(weight * log_likelihood, ratios, kl, posterior.log_mixture)
        parts = {f"log_likelihood.{name}": value for name, value in zip(batch, log_likelihood, strict=True)}
        return objective, {**parts, "kl": average_over_draws(kl[:, None], posterior.log_mixture)}


def expert_ratios(experts: Diagonal, z: Tensor, observed: Tensor) -> Tensor:
    r"""Importance ratios that let expert r borrow expert d's draw: [M, M, B], entry [r, d].

    The draw and the denominator are cut from the graph, the numerator is not, and the diagonal is exactly 1. Where a
    row does not observe d there is nothing to borrow, where it does not observe r nobody who could: 0.

    Equation: ``eq-expert-ratios``. Source: Shi et al. 2019, released objective.
        omega_rd = q_r(z_d) / sg[q_d(z_d)]

    Experts are [M, B, D], and so is ``z``, draw d from expert d; ``observed`` is bool [M, B].
    """
    experts, z = experts.where(observed), z.detach().masked_fill(~observed[..., None], 0)
    each = zip(experts.loc, experts.scale, strict=True)
    log_density = torch.stack([Diagonal(*q, experts.family).log_prob(z) for q in each])  # [r, d, B]
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)[..., None]
    denominator = log_density.detach().diagonal(dim1=0, dim2=1).T  # [d, B]
    log_ratio = (log_density - denominator).masked_fill(own, 0)
    return log_ratio.masked_fill(~(observed & observed[:, None]), -torch.inf).exp()


def elbo_own_decodes(log_likelihood: Tensor, ratios: Tensor, kl: Tensor, log_mixture: Tensor) -> Tensor:
    r"""The released code's ELBO, which needs M decodes (there M^2 are made): [B], nats.

    Equation: ``eq-mmvae-own-decodes``. Source: Shi et al. 2019, released objective.
        sum_r pi_r [ sum_d omega_rd lambda_d log p(x_d | z_d) - KL(q_r || p) ]

    ``log_likelihood`` [M, B] is of each modality at its own expert's draw, weighted; ``ratios`` [M, M, B] are from
    ``expert_ratios``; ``kl`` [M, B] is of each expert to the prior.
    """
    absent = log_mixture == -torch.inf  # [M, B]
    ratios = ratios.masked_fill(absent | absent[:, None], 0)
    per_expert = (ratios * log_likelihood.masked_fill(absent, 0)).sum(1) - kl  # [r, B]
    return bounds.elbo(per_expert[:, None], log_mixture)
