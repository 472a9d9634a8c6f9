"""Bounds on log p(x) from log-weights, and nothing else.

A model draws K latent samples from each of the R components of its posterior (R = 1 if the posterior is not a
mixture) and returns log-weights [R, K, B] in nats. Each function here turns them into one number per row, [B].
``log_mixture`` [R, B] holds the log mixture weights pi_r; None means equal weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


def log_weights(log_likelihoods: Iterable[Tensor], log_prior: Tensor, log_posterior: Tensor) -> Tensor:
    r"""Log importance weights, the currency of every bound: [R, K, B], nats.

    Equation: ``eq-log-weights``. Source: Burda et al. 2016, Eq. 8; Shi et al. 2021, Eq. 1 for two modalities.
        log w = sum_m log p(x_m | z) + log p(z) - log q(z | x)
    """
    return sum(log_likelihoods) + log_prior - log_posterior


def elbo(log_weights: Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Evidence lower bound, the mean log-weight: [B], nats.

    Equation: ``eq-elbo``. Source: Kingma and Welling 2014, Eq. 2; strata as in Shi et al. 2019, Section 3.
        ELBO = sum_r pi_r (1/K) sum_k log w_rk
    """
    log_mixture = _checked(log_weights, log_mixture)
    return _over_components(log_weights.mean(1), log_mixture)


def iwae(log_weights: Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Importance-weighted bound with all strata inside one logarithm (*tight* for a mixture): [B], nats.

    Equation: ``eq-iwae``. Source: Burda et al. 2016, Eq. 8; Shi et al. 2019, Section 3.
        IWAE = log sum_r pi_r (1/K) sum_k w_rk
    """
    log_mixture = _checked(log_weights, log_mixture)
    k = log_weights.shape[1]
    return torch.logsumexp(log_weights + log_mixture[:, None], dim=(0, 1)) - math.log(k)


def iwae_looser(log_weights: Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Importance-weighted bound with the mixture outside the logarithm: [B], nats.

    As K grows it tends to a limit strictly below log p(x) unless every component gives the same mean weight.

    Equation: ``eq-iwae-looser``. Source: Shi et al. 2019, Section 3 and its released objective.
        looser = sum_r pi_r log (1/K) sum_k w_rk
    """
    log_mixture = _checked(log_weights, log_mixture)
    k = log_weights.shape[1]
    return _over_components(torch.logsumexp(log_weights, dim=1) - math.log(k), log_mixture)


def cubo(log_weights: Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Estimate of the chi upper bound, wholly in log space: [B], nats.

    Only the limit 1/2 log E[w^2] is an upper bound, and only where q has wide enough tails for it to exist. The
    estimate from finite K may lie on either side of log p(x); with R = K = 1 it is the ELBO's estimate.

    Equation: ``eq-cubo``. Source: Dieng et al. 2017, Section 3; Shi et al. 2021, Eq. 5, where the
    expectation wrongly stands outside the logarithm.
        CUBO_K = 1/2 log sum_r pi_r (1/K) sum_k w_rk^2
    """
    return 0.5 * iwae(2 * log_weights, log_mixture)


def dreg(log_weights: Tensor, z: Tensor, log_mixture: Tensor | None = None, looser: bool = False) -> Tensor:
    r"""IWAE's value with the doubly reparameterised gradient with respect to the posterior: [B], nats.

    ``log_weights`` must have been computed with the posterior's *density* cut from the graph, so that its parameters
    receive gradients through ``z`` alone. This function multiplies what arrives at ``z`` by each sample's normalised
    weight; the bound itself contributes the other factor. Generative parameters keep IWAE's own gradient.

    Unbiased for one reparameterised posterior. For a mixture it is biased: the score of the mixture density is lost.

    Equation: ``eq-dreg``. Source: Tucker et al. 2019, Eq. 8; Shi et al. 2019, Section 3.
        grad_phi = sum_k wtilde_k^2 (d log w_k / d z_k) (d z_k / d phi),  wtilde_k = w_k / sum_j w_j

    Args:
        log_weights: [R, K, B].
        z: [R, K, B, D], the samples the log-weights came from.
        log_mixture: [R, B] or None.
        looser: normalise within each component and put the mixture outside the logarithm.

    Raises:
        ValueError: if ``z`` does not carry one sample for each log-weight.
    """
    log_mixture = _checked(log_weights, log_mixture)
    if z.shape[:-1] != log_weights.shape:
        raise ValueError(f"z has shape {tuple(z.shape)}; expected {tuple(log_weights.shape)} + (D,)")
    normalised = normalised_weights(log_weights.detach(), log_mixture, looser)
    if z.requires_grad:
        z.register_hook(lambda gradient: gradient * normalised[..., None])
    return (iwae_looser if looser else iwae)(log_weights, log_mixture)


def normalised_weights(
    log_weights: Tensor, log_mixture: Tensor | None = None, looser: bool = False
) -> Tensor:
    r"""Self-normalised importance weights [R, K, B], over all samples or (``looser``) within each component.

    Equation: ``eq-normalised-weights``. Source: Burda et al. 2016, Eq. 14.
        wtilde_rk = pi_r w_rk / sum_r'k' pi_r' w_r'k'
    """
    log_mixture = _checked(log_weights, log_mixture)
    if looser:
        return log_weights.softmax(1)
    return (log_weights + log_mixture[:, None]).flatten(0, 1).softmax(0).reshape(log_weights.shape)


def effective_sample_size(log_weights: Tensor, log_mixture: Tensor | None = None) -> Tensor:
    r"""Kish's effective number of samples, between 1 and R K: [B].

    Equation: ``eq-effective-sample-size``. Source: Owen 2013, Chapter 9.
        ESS = 1 / sum_rk wtilde_rk^2
    """
    return 1 / normalised_weights(log_weights, log_mixture).square().sum((0, 1))


def _over_components(per_component: Tensor, log_mixture: Tensor) -> Tensor:
    """sum_r pi_r f_r for f [R, B]; a component that a row lacks counts as nothing, whatever it holds."""
    absent = log_mixture == -math.inf
    return (log_mixture.exp() * per_component.masked_fill(absent, 0)).sum(0)


def _checked(log_weights: Tensor, log_mixture: Tensor | None) -> Tensor:
    if log_weights.ndim != 3 or 0 in log_weights.shape:
        raise ValueError(
            f"log_weights has shape {tuple(log_weights.shape)}; expected [R, K, B], no axis empty"
        )
    components, _, rows = log_weights.shape
    if log_mixture is None:
        return log_weights.new_full((components, rows), -math.log(components))
    if log_mixture.shape != (components, rows):
        raise ValueError(
            f"log_mixture has shape {tuple(log_mixture.shape)}; expected {(components, rows)} ([R, B])"
        )
    return log_mixture
