"""tELBO: a joint encoder and unimodal ones, each trained on an ELBO of its own (Vedantam et al. 2018)."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, real
from mmlib.distributions import kl_divergence
from mmlib.modality import Batch, Mask, Modality, stand_in
from mmlib.models.jmvae import JointEncoderVAE
from mmlib.models.mvae import mvae_objective, subset_elbo
from mmlib.nets.discriminators import held


class TELBO(JointEncoderVAE):
    """Triple-ELBO VAE: the ELBO of all modalities and of each alone, every one with an encoder of its own.

    The objective is MVAE's sum without sampled subsets, with encoders in place of products. A row that is complete
    counts every term, any other the terms of the single modalities that it observes.

    Args:
        modalities: as of `JointEncoderVAE`; so are ``latent_dim``, ``joint_encoder`` and ``scale``.
        beta: weight of every KL term.
        fixed_decoders: the single modalities' terms train their encoders only, so that the generative model is that of
            the joint term; False: they train the decoders, too. The authors' code can stop either modality's gradient,
            and their scripts for MNIST with attributes stop both.

    Raises:
        ValueError: for a negative weight.

    Source: Vedantam et al. 2018 and its released code, where a row's terms are averaged, not added, and the likelihoods
    of the single terms have weights of their own; here these are lambda_m, as in the joint term.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        joint_encoder: nn.Module,
        beta: float = 1.0,
        fixed_decoders: bool = True,
        scale: str = "softplus",
    ) -> None:
        super().__init__(modalities, latent_dim, joint_encoder, scale)
        self.beta = real("beta", beta, 0.0)
        self.fixed_decoders = one_of("fixed_decoders", fixed_decoders, (True, False))

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`mvae_objective` of the joint ELBO and of every modality's own, a draw each."""
        unimodal, observed = self.experts(batch, mask, tuple(batch))  # [M, B, D], [M, B]
        kl = kl_divergence(unimodal, self.prior)  # [M, B]
        elbos, nothing = [], torch.zeros_like(kl[0])
        for name, z, own_kl in zip(batch, unimodal.rsample(1, generator)[0], kl, strict=True):
            # the encoder has spoken already; its weights learn, though they are held here
            with held(self.modalities[name]) if self.fixed_decoders else nullcontext():
                log_likelihood = {name: self.log_likelihood(name, z, batch[name], mask[name])}
            elbos.append(subset_elbo(self.weighted(log_likelihood).values(), own_kl, self.beta))
        parts = {
            "unimodal": sum(elbos),
            "kl": nothing,
            **{f"log_likelihood.{name}": nothing for name in batch},
        }
        counts = observed
        if len(batch) == len(self.modalities):
            complete = observed.all(0)
            joint = self.encode_joint({name: stand_in(x, mask[name]) for name, x in batch.items()})
            z = joint.rsample(1, generator)[0]  # [B, D]
            log_likelihood = {name: self.log_likelihood(name, z, x, complete) for name, x in batch.items()}
            parts["kl"] = kl_divergence(joint, self.prior).masked_fill(~complete, 0)
            parts |= {f"log_likelihood.{name}": value for name, value in log_likelihood.items()}
            elbos.append(subset_elbo(self.weighted(log_likelihood).values(), parts["kl"], self.beta))
            counts = torch.cat([observed, complete[None]])
        return mvae_objective(torch.stack(elbos), counts), parts
