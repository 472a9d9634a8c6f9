r"""Exact answers for any model with a one-dimensional latent, by Gauss-Legendre quadrature.

A model is a callable `log_joint(z)`: z [N, B, 1] -> log p(x, z) [N, B], nats; a posterior is a `Mixture` with
D = 1 (use `single` for a plain one). Everything returns [B], is differentiable in the parameters of both, and
draws no samples.

Sample sizes K come in through the identity log s = int_0^inf (exp(-t) - exp(-t s)) dt / t: for independent
weights the expectation of exp(-t s) factorises, so the expected IWAE at any K is two nested one-dimensional
integrals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import real, whole
from mmlib.distributions import Mixture

LogJoint = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Grid:
    """Quadrature nodes [N] and the logarithms of their weights [N]."""

    nodes: Tensor
    log_weights: Tensor

    def z(self, rows: int) -> Tensor:
        """The nodes as latents, [N, rows, 1]."""
        return self.nodes[:, None, None].expand(-1, rows, 1)


def grid(
    low: float = -30.0, high: float = 30.0, breaks: Sequence[float] = (), panels: int = 120, order: int = 10
) -> Grid:
    """Composite Gauss-Legendre nodes on [low, high], beyond which densities are ignored: ``order`` in every panel.

    The panels are equal but for the ``breaks``, places where an integrand has a kink (for example the location of a
    Laplace density): they become panel edges, which keeps the full order.
    """
    if not real("high", high) > real("low", low):
        raise ValueError(f"high is {high}; expected more than low = {low}")
    inner = [b for b in breaks if low < b < high]
    edges = np.union1d(np.linspace(low, high, whole("panels", panels) + 1), inner)
    nodes, weights = np.polynomial.legendre.leggauss(whole("order", order))
    half, middle = np.diff(edges) / 2, (edges[1:] + edges[:-1]) / 2
    z = middle[:, None] + half[:, None] * nodes
    w = half[:, None] * weights
    return Grid(torch.from_numpy(z.ravel()), torch.from_numpy(np.log(w).ravel()))


def log_evidence(log_joint: LogJoint, rows: int, on: Grid) -> Tensor:
    """Exact log p(x), the logarithm of the integral of p(x, z) over z: [rows]."""
    return torch.logsumexp(log_joint(on.z(rows)) + on.log_weights[:, None], dim=0)


def elbo(log_joint: LogJoint, q: Mixture, on: Grid) -> Tensor:
    """E_q[log w] with w = p(x, z) / q(z), [B]."""
    log_w, log_mass = _weights(log_joint, q, on)
    return (log_mass.exp() * log_w).sum(1).mul(q.log_mixture.exp()).sum(0)


def iwae(log_joint: LogJoint, q: Mixture, k: int, on: Grid, looser: bool = False) -> Tensor:
    """Expected IWAE with k draws from each of the R components, at exactly this k, [B].

    The components are sampled in strata and weighted by their mixture weights; ``looser`` averages the logarithms of
    their own means instead of taking one logarithm of all.
    """
    log_w, log_mass = _weights(log_joint, q, on)
    return _expected_log_mean(log_w, log_mass, q.log_mixture.exp(), k, looser)


def cubo(log_joint: LogJoint, q: Mixture, k: int, on: Grid) -> Tensor:
    """Expected CUBO estimate 0.5 E log mean w^2, k draws from each component: [B]; no bound at finite k."""
    log_w, log_mass = _weights(log_joint, q, on)
    return 0.5 * _expected_log_mean(2 * log_w, log_mass, q.log_mixture.exp(), k, looser=False)


def cubo_limit(log_joint: LogJoint, q: Mixture, on: Grid) -> Tensor:
    """0.5 log E_q[w^2], [B]: the upper bound that the CUBO estimate tends to, if it is finite.

    Quadrature over a bounded interval cannot see that an integral diverges: check the tails of q first.
    """
    log_w, log_mass = _weights(log_joint, q, on)
    log_density = torch.logsumexp(log_mass + q.log_mixture.unsqueeze(1), dim=0)
    return 0.5 * torch.logsumexp(2 * log_w[0] + log_density, dim=0)


def looser_limit(log_joint: LogJoint, q: Mixture, on: Grid) -> Tensor:
    """Limit of the looser IWAE for many samples, sum_r pi_r log E_{q_r}[p(x, z) / q(z)]: [B], <= log p(x)."""
    log_w, log_mass = _weights(log_joint, q, on)
    return (torch.logsumexp(log_w + log_mass, dim=1) * q.log_mixture.exp()).sum(0)


def _weights(log_joint: LogJoint, q: Mixture, on: Grid) -> tuple[Tensor, Tensor]:
    """Log-weights [1, N, B] and the log mass of every node under every component [R, N, B]."""
    rows = q.log_mixture.shape[1]
    z = on.z(rows)
    log_w = (log_joint(z) - q.log_prob(z)).unsqueeze(0)
    log_mass = q.components.log_prob(z.unsqueeze(1)).transpose(0, 1) + on.log_weights[:, None]
    return log_w, log_mass


def _expected_log_mean(log_w: Tensor, log_mass: Tensor, proportions: Tensor, k: int, looser: bool) -> Tensor:
    """E log of (proportion-weighted) means of k independent weights a component; log_w [1, N, B] -> [B]."""
    k = whole("k", k)
    mass = log_mass.exp()
    centre = ((mass * log_w).sum(1) * proportions).sum(0).detach()  # [B], keeps t of order one
    step = 0.1
    log_t = torch.arange(-60.0, 160.0, step, dtype=log_w.dtype)
    share = torch.ones_like(proportions) if looser else proportions  # of a component inside the logarithm
    terms = []
    for chunk in log_t.split(200):
        exponent = chunk[:, None, None] + log_w[0] - centre - math.log(k)  # [T, N, B]
        log_phi = torch.stack(
            [
                torch.log1p(-((-torch.expm1(-(exponent + a.log()).exp())) * m).sum(1).clamp(max=1 - 1e-16))
                for a, m in zip(share, mass, strict=True)
            ]
        )  # [R, T, B]: log E exp(-t a w / k), one component after the other
        head = torch.expm1(-chunk.exp())[:, None]
        if looser:
            terms.append(((head - torch.expm1(k * log_phi)) * proportions[:, None]).sum(0).sum(0))
        else:
            terms.append((head - torch.expm1(k * log_phi.sum(0))).sum(0))
    return centre + step * torch.stack(terms).sum(0)
