"""JMVAE: a joint encoder, with unimodal encoders pulled towards it (Suzuki et al. 2016)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmlib import bounds
from mmlib.checks import real, whole
from mmlib.distributions import Diagonal, Mixture, kl_divergence, scale_from, single
from mmlib.modality import Batch, Mask, Modality, all_observed, loc_and_raw, stand_in
from mmlib.models.base import Codes, MultimodalVAE, average_over_draws


class JointEncoderVAE(MultimodalVAE):
    """What models with an encoder for all modalities at once share: their posterior.

    They know a posterior given all modalities or exactly one; for other subsets they were never given an encoder.

    Args:
        modalities: as of `MultimodalVAE`; so are ``latent_dim``, ``scale`` and ``learn_prior``.
        joint_encoder: maps a complete batch (mapping of names) to (loc [B, D], raw scale [B, D]).
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        joint_encoder: nn.Module,
        scale: str = "softplus",
        learn_prior: bool = False,
    ) -> None:
        super().__init__(modalities, latent_dim, "normal", scale, learn_prior)
        self.joint_encoder = joint_encoder

    def encode_joint(self, batch: Batch) -> Diagonal:
        """Joint posterior q(z | x_1..M) of a complete batch: loc and scale [B, D]."""
        output = self.joint_encoder({name: batch[name] for name in self.modalities})
        rows = len(next(iter(batch.values())))
        loc, raw = loc_and_raw("joint_encoder", output, (rows, self.latent_dim))
        return Diagonal(loc, scale_from(raw, self.scale_rule))

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The joint encoder's posterior in rows that give everything, the unimodal one in rows that give just one."""
        experts, number = codes.experts, codes.observed.sum(0)  # [B]
        complete = number == len(self.modalities)
        if not bool((complete | (number == 1)).all()):
            raise ValueError(
                f"given is {', '.join(codes.given)} of {', '.join(self.modalities)}: {type(self).__name__} has a "
                "posterior given all modalities or exactly one, and a row observes another subset"
            )
        first = codes.observed.int().argmax(0)  # [B], the modality of a row that observes just one
        rows = torch.arange(len(first), device=first.device)
        unimodal = Diagonal(experts.loc[first, rows], experts.scale[first, rows])
        if not bool(complete.any()):
            return single(unimodal)
        joint = self.encode_joint({name: stand_in(x, mask[name]) for name, x in batch.items()})
        use_joint = complete[:, None]
        loc = torch.where(use_joint, joint.loc, unimodal.loc)
        return single(Diagonal(loc, torch.where(use_joint, joint.scale, unimodal.scale)))


class JMVAE(JointEncoderVAE):
    """Joint multimodal VAE (JMVAE-kl): one encoder for everything, one for each modality alone.

    It trains on complete rows only.

    Args:
        modalities: as of `JointEncoderVAE`; so are ``latent_dim``, ``joint_encoder``, ``scale`` and ``learn_prior``
            (N(0, I) in the paper).
        alpha: weight of the penalty that pulls each unimodal posterior over the joint one.
        beta: weight of the KL to the prior.
        k: draws from the joint posterior; with more than one the importance-weighted bound is in the ELBO's place, as
            in Shi et al. 2021.

    Raises:
        ValueError: for a negative weight, or a ``beta`` for more than one draw, whose bound has no KL.

    Source: Suzuki et al. 2016, Section 3.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        joint_encoder: nn.Module,
        alpha: float = 0.1,
        beta: float = 1.0,
        scale: str = "softplus",
        learn_prior: bool = False,
        k: int = 1,
    ) -> None:
        super().__init__(modalities, latent_dim, joint_encoder, scale, learn_prior)
        self.alpha, self.beta = real("alpha", alpha, 0.0), real("beta", beta, 0.0)
        self.k = whole("k", k)
        if k > 1 and beta != 1:
            raise ValueError(f"beta is {beta} and k is {k}; expected beta = 1 where k is more than 1")

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`jmvae_objective` of one draw from the joint posterior, or of its bound of more; on complete rows only."""
        if len(batch) < len(self.modalities) or not all_observed(mask):
            raise ValueError(
                f"batch holds {', '.join(batch)}, not every row complete: JMVAE trains on complete rows of "
                f"{', '.join(self.modalities)}; drop the others, or train MVAE or MMVAE, which can use them"
            )
        joint = self.encode_joint(batch)
        unimodal, _ = self.experts(batch, mask, tuple(batch))
        draws = self.draw_from(single(joint), {}, batch, mask, batch, self.k, generator, weighted=True)
        log_likelihood = {
            name: average_over_draws(value, draws.log_mixture) for name, value in draws.log_likelihood.items()
        }
        kl = kl_divergence(joint, self.prior)
        penalty = jmvae_penalty(joint, unimodal)
        if self.k > 1:
            objective = bounds.iwae(draws.log_weights) - self.alpha * penalty
        else:
            objective = jmvae_objective(
                list(self.weighted(log_likelihood).values()), kl, penalty, self.alpha, self.beta
            )
        parts = {f"log_likelihood.{name}": value for name, value in log_likelihood.items()}
        return objective, {**parts, "kl": kl, "penalty": penalty}


def jmvae_penalty(joint: Diagonal, unimodal: Diagonal) -> Tensor:
    r"""How far unimodal posteriors [M, B, D] miss the joint one [B, D], direction joint to unimodal: [B], nats.

    No gradient is stopped: the penalty also moves the joint encoder.

    Equation: ``eq-jmvae-penalty``. Source: Suzuki et al. 2016, Section 3.3.
        sum_m KL(q(z | x_1..M) || q(z | x_m))
    """
    return kl_divergence(joint, unimodal).sum(0)


def jmvae_objective(
    log_likelihoods: Sequence[Tensor], kl: Tensor, penalty: Tensor, alpha: float, beta: float = 1.0
) -> Tensor:
    r"""JMVAE-kl's objective: the joint ELBO less the weighted penalty: [B], nats.

    Equation: ``eq-jmvae``. Source: Suzuki et al. 2016, Section 3.3.
        L = sum_m lambda_m log p(x_m | z) - beta KL(q(z | x_1..M) || p(z)) - alpha penalty,  z ~ q(z | x_1..M)

    The terms are [B]; the log-likelihoods are weighted, one for each modality.
    """
    return sum(log_likelihoods) - beta * kl - alpha * penalty
