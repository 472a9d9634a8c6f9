"""What slips of released code change, as numbers: each computed as it is meant and as it is coded, in seconds.

Where a slip needs a trained model to be seen, a chapter shows it; here are those that enumeration, a closed form or the
laboratory can show.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from mmlib import bounds
from mmlib.distributions import Diagonal, mixture_of_experts, single
from mmlib.lab import LinearGaussian
from mmlib.metrics.cca import cca_score, fit_cca
from mmlib.metrics.coherence import joint_coherence, released_joint_coherence
from mmlib.metrics.likelihood import importance_log_likelihood
from mmlib.models.meme import log_predictive, log_supervision_weight
from mmlib.nets.discriminators import Layers
from mmlib.seeding import generator


@dataclass(frozen=True)
class Slip:
    """One number that a slip changes: its erratum, what it is, its decimals, and (as meant, as coded or printed)."""

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


@cache  # two entries show it
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


def expected_slope(given: tuple[str, ...], estimator: str, nodes: int = 40) -> float:
    """Expected slope of the looser bound with K = 2 in the mean of the first expert's posterior, as it is estimated.

    The experts are the exact posteriors given one of two modalities of the laboratory. Nothing is drawn at random:
    the rows are all pairs of nodes of a Gauss-Hermite rule. Estimators are those of `mmlib.models.MMVAE`.
    """
    lab = LinearGaussian.make({"a": 3, "b": 4})
    batch = lab.sample(1, generator(0))[1]
    posteriors = [lab.diagonal_posterior(batch, [name]) for name in given]
    at, mass = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(nodes))
    noise = torch.cartesian_prod(at, at).T[..., None]  # [K, B, 1]
    rows = (len(given), nodes**2, 1)
    loc = torch.stack([q.loc for q in posteriors]).expand(rows).clone().requires_grad_()
    scale = torch.stack([q.scale for q in posteriors]).expand(rows)
    q = mixture_of_experts(Diagonal(loc, scale), torch.ones(rows[:2], dtype=torch.bool))
    z = loc[:, None] + scale[:, None] * noise
    log_w = lab.log_joint(z, batch) - (q if estimator == "plain" else q.detach()).log_prob(z)
    bound = bounds.dreg(log_w, z, looser=True) if estimator == "squared" else bounds.iwae_looser(log_w)
    expected = (torch.outer(mass, mass).flatten() * bound).sum() / mass.sum() ** 2
    return torch.autograd.grad(expected, loc)[0][0].sum().item()


def slope_without_hook() -> tuple[float, float]:
    """Slope of the bound for one posterior: with squared weights, which is the true one, and without the hook."""
    return expected_slope(("a",), "squared"), expected_slope(("a",), "normalised")


def slope_of_mixture() -> tuple[float, float]:
    """Slope of the bound for a mixture of two experts: the true one, and with squared weights."""
    return expected_slope(("a", "b"), "plain"), expected_slope(("a", "b"), "squared")


def share_of_other(k: int = 10) -> tuple[float, float]:
    """How much log q(t | s) counts beside the weighted terms: with the mean over K codes, and with their sum."""
    lab = LinearGaussian.make({"s": 3, "t": 4})
    batch = lab.sample(100, generator(0))[1]
    z = lab.diagonal_posterior(batch, ["s"]).rsample(k, generator(1))
    log_t = lab.views["t"].log_prob(
        batch["t"], z
    )  # [K, B], each code in turn the one that the bound is taken at
    weights = (log_supervision_weight(log_t, log_predictive(log_t, kind)).exp() for kind in ("mean", "sum"))
    return tuple(1 / weight.mean().item() for weight in weights)


def norm_left(draws: int = 4) -> tuple[float, float]:
    """Largest singular value of a normalised layer, 1 but for its estimate: after nine power iterations, and one."""

    def left(steps: int, seed: int) -> float:
        layer = Layers(init_std=0.02, power_iterations=steps).normalised(nn.Linear(804, 400))
        # the estimate has not met these weights, and makes its steps when they are asked for
        with torch.no_grad():
            layer.parametrizations.weight.original.normal_(0, 0.02, generator=generator(seed))
            return torch.linalg.matrix_norm(layer.weight, 2).item()

    with torch.random.fork_rng(devices=[]):  # the estimate starts from PyTorch's own numbers
        torch.manual_seed(0)
        return tuple(sum(left(steps, seed) for seed in range(draws)) / draws for steps in (9, 1))


def last_kl_weight(epochs: int = 50, annealed: int = 200) -> tuple[float, float]:
    """The largest weight of a KL that grows linearly over so many epochs, if they are trained, and after fewer."""
    return tuple(min(1.0, epoch / annealed) for epoch in (annealed, epochs))


def weight_of_faces(side: int = 64, channels: int = 3, text: int = 256) -> tuple[float, float]:
    """Size of a picture over that of a text, with its channels and without."""
    return channels * side**2 / text, side**2 / text


def least_variance(raw: float = -20.0) -> tuple[float, float]:
    """The variance of an expert that is as sure as can be: softplus of what its network says, and its exponential."""
    variance = nn.functional.softplus(torch.tensor(raw)) + 1e-6
    return variance.item(), variance.exp().item()


def score_of_views(rows: int = 5000, k: int = 3) -> tuple[float, float]:
    """Mean canonical correlation score of a laboratory's two views: directions of unit variance, and of unit length."""
    batch = LinearGaussian.make({"a": 3, "b": 4}).sample(rows, generator(0))[1]
    views = batch["a"], batch["b"]
    found = (fit_cca(*views, k=k, convention=each) for each in ("whitened", "official"))
    return tuple(cca_score(each, *views).mean().item() for each in found)


SLIPS = (
    Slip("mmjsd-code-8", "random coherence of three modalities whose labels are guessed", 2, coherence_of_guesses),
    Slip("mmjsd-code-8", "nats by which a likelihood lies above the truth, in the laboratory", 1, likelihood_too_high),
    Slip("mopoe-code-4", "the same, in the code that inherits it", 1, likelihood_too_high),
    Slip("mmjsd-code-3", "gap between logits at which one of 71 characters has probability 0.99", 0, gap_for_certainty),
    Slip("mmali-code-6", "score reported for an accuracy of 0.85, the best of 100 test epochs", 3, best_of_many),
    Slip("rbc-code-3", "slope of the bound, K = 2, in the mean of one posterior", 3, slope_without_hook),
    Slip("mmvae-1", "slope of the looser bound, K = 2, in the mean of one of two experts", 3, slope_of_mixture),
    Slip("meme-code-6", "weight of log q(t | s) beside the other terms, K = 10; as printed", 1, share_of_other),
    Slip("mmali-silent-1", "norm of a new layer, 1 as meant: after nine power iterations; after one", 1, norm_left),
    Slip("mvae-code-6", "largest weight of the KL in 50 epochs, where it grows over 200", 2, last_kl_weight),
    Slip("mvae-code-5", "least variance that an expert can have; the prior's is 1", 2, least_variance),
    Slip("mmjsd-code-4", "weight of a text of 256 characters beside a face of 64 by 64 pixels", 0, weight_of_faces),
    Slip("cub-code-1", "mean score of two views in the laboratory, three components", 2, score_of_views),
)  # fmt: skip
