r"""Density ratios and the adversarial game of n = M + 1 distributions: pure functions, for M = 1 those of plain ALI.

The distributions q_1..q_M (each encoder with the data) and p (prior and decoders) stand in this order, p last. Class
axes come first, a batch [B] may be any shape, and everything is in nats. ``logits`` [n_from, n_class, B] hold, for B
samples of each distribution, the logits that the discriminator gives to every class: the diagonal is where it is right.
``log_density`` [n, points] and ``log_measure`` [points], the logarithm of the volume that each point stands for (0 for
a discrete distribution), are for what is found by enumeration.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def logistic_loss(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Logistic loss of a logit t, ``positive`` on samples of q and ``negative`` on those of p: scalar, nats.

    It is least at t = log q/p.

    Equation: ``eq-logistic-loss``. Source: Sugiyama et al. 2012, Chapter 4, with equally many samples of both.
        L(t) = E_q[log(1 + exp(-t))] + E_p[log(1 + exp(t))]
    """
    return F.softplus(-positive).mean() + F.softplus(negative).mean()


def two_way_value(encoder: Tensor, decoder: Tensor) -> Tensor:
    r"""Value of the game of ALI and BiGAN, which the discriminator D = sigmoid(logit) maximises: scalar, nats.

    Logits are of samples (x, z) of the ``encoder``, q(x) q(z|x), and of the ``decoder``, p(z) p(x|z).

    Equation: ``eq-ali``. Source: Dumoulin et al. 2017, Section 2; Chen and Zhu 2022, Eq. 1.
        V(D) = E_q[log D(x, z)] + E_p[log(1 - D(x, z))]
    """
    return F.logsigmoid(encoder).mean() + F.logsigmoid(-decoder).mean()


def minimax_value(logits: Tensor) -> Tensor:
    r"""Value of the (M+1)-way game, which the discriminator maximises: scalar, nats.

    Equation: ``eq-minimax-game``. Source: Chen and Zhu 2022, Eq. 4.
        V(D) = sum_k E_{P_k}[log D_k]

    Raises:
        ValueError: if there is not one class for each distribution.
    """
    log_d = _checked(logits).log_softmax(1)
    return log_d.diagonal(dim1=0, dim2=1).sum(-1).mean()


def class_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of every class, summed over the classes: minus ``minimax_value``, scalar, nats.

    Raises:
        ValueError: if there is not one class for each distribution.
    """
    return -minimax_value(logits)


def non_saturating_loss(logits: Tensor) -> Tensor:
    r"""Loss of encoders and decoders: every sample is to be taken for each of the M other classes: scalar, nats.

    Equation: ``eq-non-saturating``. Source: Dandi et al. 2021, with the prefactors of Chen and Zhu's released code.
        L = 2/n sum_k E_{P_k}[ 1/M sum_{i != k} -log D_i ],  n = M + 1

    Raises:
        ValueError: if there is not one class for each distribution, or only one distribution.
    """
    n = len(_checked(logits))
    if n < 2:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; expected at least two distributions")
    log_d = logits.log_softmax(1)
    others = log_d.sum((0, 1)) - log_d.diagonal(dim1=0, dim2=1).sum(-1)
    return -2 / (n * (n - 1)) * others.mean()


def optimal_discriminator(log_density: Tensor) -> Tensor:
    r"""Logarithm of the best discriminator between distributions that are equally frequent: [n, B].

    Equation: ``eq-optimal-discriminator``. Source: Pu et al. 2018; Chen and Zhu 2022, Eq. 5.
        log D*_i = log P_i - log sum_j P_j
    """
    return log_density.log_softmax(0)


def discriminator_from_log_ratios(log_ratio: Tensor) -> Tensor:
    r"""The same discriminator from the log-ratios log r_i = log q_i/p, [M, B]: [n, B].

    Equation: ``eq-discriminator-ratios``. Source: Chen and Zhu 2022, Eq. 6.
        log D_i = log r_i - log(1 + sum_j r_j) for i = 1..M,  log D_n = -log(1 + sum_j r_j)
    """
    return torch.cat([log_ratio, torch.zeros_like(log_ratio[:1])]).log_softmax(0)


def log_ratios(logits: Tensor) -> Tensor:
    """Log-ratios log q_i/p that a discriminator's logits [n, B] stand for: [M, B]."""
    return logits[:-1] - logits[-1:]


def assemble_logits(dependence: Tensor, posterior: Tensor, unimodal: Tensor) -> Tensor:
    r"""Logits of the joint discriminator from factors that each see little: [n, B], up to a common shift.

    With a = (x, s), or a = x where there are no styles, every factor is evaluated at the content of the sample.

    Equation: ``eq-factorised-ratio``. Source: Chen and Zhu 2022, Eq. 7 without styles and Eq. 10 with them.
        l_i = D1_i for i = 1..M,  l_n = -(T + sum_j (D0_j - D1_j)),  so that  l_i - l_n = log q_i/p

    Args:
        dependence: T [B], log q(x_1..x_M) / prod_k q(x_k).
        posterior: D1 [M, B], log q(a_i, c) / (q(a_i) p(c)).
        unimodal: D0 [M, B], log q(a_i, c) / p(a_i, c).

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    if posterior.shape != unimodal.shape or posterior.shape[1:] != dependence.shape:
        raise ValueError(
            f"dependence, posterior and unimodal have shapes {tuple(dependence.shape)}, "
            f"{tuple(posterior.shape)} and {tuple(unimodal.shape)}; expected [B], [M, B] and [M, B]"
        )
    return torch.cat([posterior, -(dependence + (unimodal - posterior).sum(0))[None]])


def jensen_shannon(log_density: Tensor, log_measure: Tensor) -> Tensor:
    r"""Jensen-Shannon divergence of n equally weighted distributions, by enumeration: scalar, nats, at most log n.

    Equation: ``eq-game-jsd``. Source: Pu et al. 2018; Chen and Zhu 2022, after Eq. 4.
        JSD = 1/n sum_k KL(P_k || m),  m = 1/n sum_k P_k
    """
    density, away = _away_from_mixture(log_density)
    return (density * away * log_measure.exp()).sum() / len(log_density)


def non_saturating_optimum(log_density: Tensor, log_measure: Tensor) -> Tensor:
    r"""What ``non_saturating_loss`` is at the best discriminator, by enumeration: scalar, nats.

    Equation: ``eq-non-saturating-value``. Source: derived in the chapter.
        L* = 2/(n M) [ n sum_i KL(m || P_i) + sum_i KL(P_i || m) ] + 2 log n,  m = 1/n sum_k P_k

    Raises:
        ValueError: if there is only one distribution.
    """
    n = len(log_density)
    if n < 2:
        raise ValueError(f"log_density has {n} distributions; expected at least two distributions")
    density, away = _away_from_mixture(log_density)
    volume = log_measure.exp()
    reverse = -(density.mean(0) * away * volume).sum()
    forward = (density * away * volume).sum()
    return 2 / (n * (n - 1)) * (n * reverse + forward) + 2 * math.log(n)


def _away_from_mixture(log_density: Tensor) -> tuple[Tensor, Tensor]:
    """Densities and log P_k/m, both [n, points]."""
    log_mixture = torch.logsumexp(log_density, 0) - math.log(len(log_density))
    return log_density.exp(), log_density - log_mixture


def _checked(logits: Tensor) -> Tensor:
    if logits.ndim < 3 or logits.shape[0] != logits.shape[1]:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}; expected [n_from, n_class, B] with n_from = n_class"
        )
    return logits
