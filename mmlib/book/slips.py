"""What slips of released code change, as numbers: each computed as it is meant and as it is coded, in seconds.

Where a slip needs a trained model to be seen, a chapter shows it; here are those that enumeration, a closed form or the
laboratory can show.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmlib.distributions import Diagonal, single
from mmlib.lab import LinearGaussian
from mmlib.metrics.coherence import joint_coherence, released_joint_coherence
from mmlib.metrics.likelihood import importance_log_likelihood
from mmlib.seeding import generator


@dataclass(frozen=True)
class Slip:
    """One number that a slip changes: of which erratum, what it is, how many decimals, and (as meant, as coded)."""

    erratum: str
    what: str
    decimals: int
    values: Callable[[], tuple[float, float]]

    def shown(self) -> tuple[str, str]:
        """As meant and as coded, with thousands apart."""
        rounded = (round(value, self.decimals) + 0.0 for value in self.values())  # no zero with a minus
        return tuple(f"{value:,.{self.decimals}f}" for value in rounded)


def coherence_of_guesses() -> tuple[float, float]:
    """Share of "coherent" triples of labels among all of three times ten, equally likely."""
    triples = torch.cartesian_prod(*[torch.arange(10)] * 3).T
    return joint_coherence(triples).mean().item(), released_joint_coherence(triples).mean().item()


def likelihood_as_released(log_weights: Tensor) -> Tensor:
    """Log-likelihoods [B] as the code released with mmJSD and MoPoE averages importance weights [K, B].

    The weights stand in memory sample after sample, and are read as if they stood image after image: each of the B
    means runs over K different images (mostly with the same sample number) in place of K samples of one.
    """
    k, images = log_weights.shape
    return log_weights.flatten().reshape(images, k).logsumexp(1) - math.log(k)


def likelihood_weights() -> tuple[LinearGaussian, dict[str, Tensor], Tensor]:
    """Three modalities of the laboratory, 1,200 items, and log-weights [12, B] from a posterior a little too wide."""
    lab = LinearGaussian.make({"a": 150, "b": 250, "c": 500}, latent_dim=2, noise=0.7)
    batch = lab.sample(1200, generator(0))[1]
    q = lab.diagonal_posterior(batch)
    q = single(Diagonal(q.loc, 1.2 * q.scale))
    return lab, batch, lab.log_weights(q, batch, 12, generator=generator(1))[1].values[0]


def likelihood_too_high() -> tuple[float, float]:
    """How far an estimate from 12 samples lies above the exact log-likelihood, nats."""
    lab, batch, weights = likelihood_weights()
    right = importance_log_likelihood(
        weights.logsumexp(0)[None], torch.zeros(1, weights.shape[1]).double(), 12
    )
    exact = lab.log_marginal(batch).mean()
    return (right.mean() - exact).item(), (likelihood_as_released(weights).mean() - exact).item()


def gap_for_certainty(classes: int = 71, p: float = 0.99) -> tuple[float, float]:
    """How far one logit must lie from all others, nats, until that character has probability ``p``."""
    from scipy.optimize import brentq

    def released(gap: float) -> float:  # p_i = log s_i / sum_j log s_j, of a logit that lies below
        log_s = torch.tensor([-gap] + [0.0] * (classes - 1), dtype=torch.float64).log_softmax(-1)
        return (log_s[0] / log_s.sum()).item()

    return math.log(p / (1 - p) * (classes - 1)), brentq(lambda gap: released(gap) - p, 1, 1e6)


def best_of_many(epochs: int = 100, rows: int = 10_000, accuracy: float = 0.85) -> tuple[float, float]:
    """Expected score of a true accuracy: of one epoch, and the largest of many as if they were independent."""
    from scipy.stats import binom

    below = binom(rows, accuracy).cdf(np.arange(rows))  # P(score <= k) for k below the largest
    return tuple(float((1 - below**n).sum() / rows) for n in (1, epochs))


SLIPS = (
    Slip("mmjsd-code-8", "random coherence of three modalities whose labels are guessed", 2, coherence_of_guesses),
    Slip("mmjsd-code-8", "nats by which a likelihood lies above the truth, in the laboratory", 1, likelihood_too_high),
    Slip("mopoe-code-4", "the same, in the code that inherits it", 1, likelihood_too_high),
    Slip("mmjsd-code-3", "gap between logits at which one of 71 characters has probability 0.99", 0, gap_for_certainty),
    Slip("mmali-code-6", "score reported for an accuracy of 0.85, the best of 100 test epochs", 3, best_of_many),
)  # fmt: skip
