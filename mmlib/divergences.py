"""The generalised Jensen-Shannon divergence: how far several distributions are from one that stands for them all.

The distributions are the components q_nu of a `Mixture`, and its weights are theirs. What stands for them is the
mixture itself or, in the geometric form, the normalised product of their powers.
"""

import torch
from torch import Tensor

from mmlib import bounds
from mmlib.distributions import Diagonal, Mixture, geometric_mean, kl_divergence, mixture_of_experts


def mixture_with_prior(
    experts: Diagonal, observed: Tensor, prior: Diagonal, weights: Tensor | None = None
) -> Mixture:
    r"""The mixture of what a row observes and of the prior, which every row has: [M + 1, B, D], the prior last.

    Equation: ``eq-mixture-with-prior``. Source: Sutter et al. 2020, supplement, Eq. 7.
        p_f(z | X) = sum_m pi_m q_m(z) + pi_0 p(z)

    Args:
        experts: [M, B, D].
        observed: bool [M, B].
        prior: [D].
        weights: pi [M + 1], the prior's last, normalised over what each row has; None: equal.

    Raises:
        ValueError: as `mixture_of_experts`.
    """
    loc, scale = (
        torch.cat([x, of_prior.expand_as(x[:1])])
        for x, of_prior in ((experts.loc, prior.loc), (experts.scale, prior.scale))
    )
    observed = torch.cat([observed, torch.ones_like(observed[:1])])
    return mixture_of_experts(Diagonal(loc, scale, experts.family), observed, weights)


def geometric_jensen_shannon(q: Mixture) -> Tensor:
    r"""Divergence of normal distributions from their geometric mean, in closed form: [B], nats, without a limit.

    Equation: ``eq-geometric-jsd``. Source: Nielsen 2020; Sutter et al. 2020, released code.
        JS = sum_nu pi_nu KL(q_nu || G),  G ~ prod_nu q_nu^pi_nu

    Raises:
        ValueError: if the components are not normal.
    """
    centre = geometric_mean(q.components, q.log_mixture > -torch.inf, q.log_mixture.exp())
    return bounds.elbo(kl_divergence(q.components, centre)[:, None], q.log_mixture)


def jensen_shannon(q: Mixture, z: Tensor) -> Tensor:
    r"""Unbiased estimate of the divergence from the mixture, of K draws from each component, z [N, K, B, D]: [B], nats.

    The divergence is at most the entropy of the weights, so at most log N; an estimate may be negative.

    Equation: ``eq-jsd``. Source: Lin 1991, Section IV; Sutter et al. 2020, supplement, Section B.2.
        JS = sum_nu pi_nu E_{q_nu}[log q_nu(z) - log sum_mu pi_mu q_mu(z)]
    """
    z = z.masked_fill((q.log_mixture == -torch.inf)[:, None, :, None], 0)
    parts = Diagonal(q.components.loc[:, None], q.components.scale[:, None], q.components.family)
    return bounds.elbo(parts.log_prob(z) - q.log_prob(z), q.log_mixture)


def jensen_shannon_upper(q: Mixture) -> Tensor:
    r"""Upper bound of the divergence from the mixture: [B], nats; at most the entropy of the weights.

    Each KL to the mixture is bounded by Jensen's inequality for log-sum-exp, all in logarithms.

    Equation: ``eq-jsd-upper``. Source: Hershey and Olsen 2007, Section 7; Kolchinsky and Tracey 2017, Section 3.
        JS <= -sum_nu pi_nu log sum_mu pi_mu exp(-KL(q_nu || q_mu))
    """
    return _pairwise(q, kl_divergence)


def jensen_shannon_lower(q: Mixture) -> Tensor:
    r"""Lower bound of the divergence from the mixture, of normal components: [B], nats; at least 0, and 0 if all agree.

    The bound of Hershey and Olsen 2007 by products of densities would be -0.153 nats for each dimension if all agree.

    Equation: ``eq-jsd-lower``. Source: Kolchinsky and Tracey 2017, Section 3.
        JS >= -sum_nu pi_nu log sum_mu pi_mu exp(-BC(q_nu, q_mu)),  BC = -log int sqrt(q_nu q_mu)

    Raises:
        ValueError: if the components are not normal.
    """
    if q.components.family != "normal":
        raise ValueError(
            f"q has {q.components.family} components; the lower bound has a closed form for normal only"
        )
    return _pairwise(q, _bhattacharyya)


def _pairwise(q: Mixture, distance) -> Tensor:
    """-sum_nu pi_nu log sum_mu pi_mu exp(-distance(q_nu, q_mu)), [B]."""
    loc, scale, family = q.components.loc, q.components.scale, q.components.family
    apart = distance(Diagonal(loc[:, None], scale[:, None], family), Diagonal(loc[None], scale[None], family))
    return bounds.elbo(-torch.logsumexp(q.log_mixture - apart, 1)[:, None], q.log_mixture)


def _bhattacharyya(q: Diagonal, p: Diagonal) -> Tensor:
    both = q.scale**2 + p.scale**2
    return ((q.loc - p.loc) ** 2 / (4 * both) + 0.5 * torch.log(both / (2 * q.scale * p.scale))).sum(-1)
