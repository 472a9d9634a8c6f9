"""Bounds on log p(x) from log-weights, and nothing else.

A model draws K latent samples from each of the R components of its posterior (R = 1 if the posterior is not a
mixture) and returns `LogWeights`, which know the mixture that they were drawn from. Each function here turns them into
one number per row, [B]. Plain tensors [R, K, B] will do as well, with the log mixture weights ``log_mixture`` [R, B]
beside them; None means equal weights. What stands where a row lacks a component (-inf) never matters.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import kind


@dataclass(frozen=True)
class LogWeights:
    """Log importance weights [R, K, B] and the mixture that their draws come from, which every bound needs; nats.

    ``log_mixture`` [R, B] are the components' log weights, ``-inf`` where a row does not have the component.
    """

    values: Tensor
    log_mixture: Tensor


def log_weights(log_likelihoods: Iterable[Tensor], log_prior: Tensor, log_posterior: Tensor) -> Tensor:
    r"""Log importance weights, the currency of every bound: [R, K, B], nats.

    Equation: ``eq-log-weights``. Source: Burda et al. 2016, Eq. 8; Shi et al. 2021, Eq. 1 for two modalities.
        log w = sum_m log p(x_m | z) + log p(z) - log q(z | x)
    """
    return sum(log_likelihoods) + log_prior - log_posterior


def elbo(log_weights: LogWeights | Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Evidence lower bound, the mean log-weight: [B], nats.

    Equation: ``eq-elbo``. Source: Kingma and Welling 2014, Eq. 2; strata as in Shi et al. 2019, Section 3.
        ELBO = sum_r pi_r (1/K) sum_k log w_rk
    """
    log_w, log_pi = _parts(log_weights, log_mixture)
    return (log_pi.exp() * log_w.mean(1)).sum(0)


def iwae(log_weights: LogWeights | Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Importance-weighted bound with all strata inside one logarithm (*tight* for a mixture): [B], nats.

    Equation: ``eq-iwae``. Source: Burda et al. 2016, Eq. 8; Shi et al. 2019, Section 3.
        IWAE = log sum_r pi_r (1/K) sum_k w_rk
    """
    log_w, log_pi = _parts(log_weights, log_mixture)
    return torch.logsumexp(log_w + log_pi[:, None], dim=(0, 1)) - math.log(log_w.shape[1])


def iwae_looser(log_weights: LogWeights | Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Importance-weighted bound with the mixture outside the logarithm: [B], nats.

    As K grows it tends to a limit strictly below log p(x) unless every component gives the same mean weight.

    Equation: ``eq-iwae-looser``. Source: Shi et al. 2019, Section 3 and its released objective.
        looser = sum_r pi_r log (1/K) sum_k w_rk
    """
    log_w, log_pi = _parts(log_weights, log_mixture)
    return (log_pi.exp() * (torch.logsumexp(log_w, dim=1) - math.log(log_w.shape[1]))).sum(0)


def cubo(log_weights: LogWeights | Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Estimate of the chi upper bound, wholly in log space: [B], nats.

    Only the limit 1/2 log E[w^2] is an upper bound, and only where q has wide enough tails for it to exist. The
    estimate from finite K may lie on either side of log p(x); with R = K = 1 it is the ELBO's estimate.

    Equation: ``eq-cubo``. Source: Dieng et al. 2017, Section 3; Shi et al. 2021, Eq. 5, where the
    expectation wrongly stands outside the logarithm.
        CUBO_K = 1/2 log sum_r pi_r (1/K) sum_k w_rk^2
    """
    log_w, log_pi = _parts(log_weights, log_mixture)
    return 0.5 * iwae(2 * log_w, log_pi)


def dreg(
    log_weights: LogWeights | Tensor,
    z: Tensor | Sequence[Tensor],
    log_mixture: Tensor | None = None,
    looser: bool = False,
) -> Tensor:
    r"""IWAE's value with the doubly reparameterised gradient with respect to the posterior: [B], nats.

    ``log_weights`` must have been computed with the posterior's *density* cut from the graph, so that its parameters
    receive gradients through ``z`` alone. This function multiplies what arrives at ``z`` by each sample's normalised
    weight; the bound itself contributes the other factor. Generative parameters keep IWAE's own gradient.

    Unbiased for one reparameterised posterior. For a mixture it is biased: the score of the mixture density is lost.

    Equation: ``eq-dreg``. Source: Tucker et al. 2019, Eq. 8; Shi et al. 2019, Section 3.
        grad_phi = sum_k wtilde_k^2 (d log w_k / d z_k) (d z_k / d phi),  wtilde_k = w_k / sum_j w_j

    ``z`` [R, K, B, D] are the samples that the log-weights came from, or all of them where there are several, such as
    shared codes and styles. With ``looser`` the weights are normalised within each component, and the mixture stands
    outside the logarithm.

    Raises:
        ValueError: if ``z`` does not carry one sample for each log-weight.
    """
    log_w, log_pi = _parts(log_weights, log_mixture)
    normalised = normalised_weights(log_w.detach(), log_pi, looser)[..., None]
    for sample in [z] if isinstance(z, Tensor) else z:
        if sample.shape[:-1] != log_w.shape:
            raise ValueError(f"z has shape {tuple(sample.shape)}; expected {tuple(log_w.shape)} + (D,)")
        if sample.requires_grad:  # what arrives may be of lower precision than the weights, under autocast
            sample.register_hook(
                lambda gradient: torch.where(normalised > 0, gradient * normalised, 0).to(gradient)
            )
    return (iwae_looser if looser else iwae)(log_w, log_pi)


def normalised_weights(
    log_weights: LogWeights | Tensor, log_mixture: Tensor | None = None, looser: bool = False
) -> Tensor:
    r"""Self-normalised importance weights [R, K, B], over all samples or (``looser``) within each component.

    Equation: ``eq-normalised-weights``. Source: Burda et al. 2016, Eq. 14.
        wtilde_rk = pi_r w_rk / sum_r'k' pi_r' w_r'k'
    """
    log_w, log_pi = _parts(log_weights, log_mixture)
    if looser:
        return log_w.softmax(1).masked_fill((log_pi == -math.inf)[:, None], 0)
    return (log_w + log_pi[:, None]).flatten(0, 1).softmax(0).reshape(log_w.shape)


def effective_sample_size(log_weights: LogWeights | Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Kish's effective number of samples, between 1 and R K: [B].

    Equation: ``eq-effective-sample-size``. Source: Owen 2013, Chapter 9.
        ESS = 1 / sum_rk wtilde_rk^2
    """
    return 1 / normalised_weights(log_weights, log_mixture).square().sum((0, 1))


def _parts(log_weights: LogWeights | Tensor, log_mixture: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-weights [R, K, B], 0 where a row lacks the component, and the log mixture weights [R, B]."""
    if isinstance(log_weights, LogWeights):
        log_mixture = log_weights.log_mixture if log_mixture is None else log_mixture
        log_weights = log_weights.values
    if not isinstance(log_weights, Tensor) or log_weights.ndim != 3 or 0 in log_weights.shape:
        raise ValueError(f"log_weights is {kind(log_weights)}; expected [R, K, B], no axis empty")
    components, _, rows = log_weights.shape
    if log_mixture is None:
        return log_weights, log_weights.new_full((components, rows), -math.log(components))
    if log_mixture.shape != (components, rows):
        found = tuple(log_mixture.shape)
        raise ValueError(f"log_mixture has shape {found}; expected {(components, rows)} ([R, B])")
    return log_weights.masked_fill((log_mixture == -math.inf)[:, None], 0), log_mixture
