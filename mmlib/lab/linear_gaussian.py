r"""A multimodal generative model with linear decoders: every density, posterior and bound in closed form.

    z ~ N(0, I_D),    x_m = W_m z + b_m + s_m e_m,    e_m ~ N(0, I)

With styles z is [all styles, shared code], and W_m is 0 at the styles of other modalities. Everything is float64 and in
nats. A batch maps modality names to tensors [B, P_m]; a missing modality is an absent key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mmlib import seeding
from mmlib.bounds import LogWeights
from mmlib.checks import per_name, positive, whole
from mmlib.distributions import Diagonal, EqualMixture, Mixture

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class View:
    """One modality, or any conditional distribution: x = weight z + bias + noise * standard normal."""

    weight: Tensor  # [P, D]
    bias: Tensor  # [P]
    noise: float  # standard deviation

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """Log-density of x [..., P] given z [..., D]: [...]."""
        return log_normal(x, z @ self.weight.T + self.bias, self.noise)


@dataclass(frozen=True)
class LinearGaussian:
    """The model, a mapping from modality name to `View`. `LinearGaussian.make` draws one.

    ``style_dims`` are the sizes of the styles by name, in the order in which they stand in z; empty without styles.
    """

    views: Mapping[str, View]
    style_dims: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        sizes: Mapping[str, int],
        latent_dim: int = 1,
        noise: float | Mapping[str, float] = 0.5,
        orthogonal: bool = True,
        seed: int = 0,
        style_dim: int | Mapping[str, int] = 0,
    ) -> LinearGaussian:
        """Draw a model: ``sizes`` are the data dimensions P, ``noise`` one for all or one for each name.

        ``latent_dim`` is the size of the shared code, ``style_dim`` that of a modality's style, one for all or one for
        each name. If ``orthogonal``, the columns that a modality has in W are orthogonal (needs P of at least their
        number), so that every posterior is exactly a `Diagonal`; otherwise they are unstructured and posteriors have a
        full covariance.

        Raises:
            ValueError: when a size is too small for orthogonal columns, or a noise is not positive.
        """
        generator = seeding.generator(seed)
        noises = per_name("noise", noise, sizes)
        styles = per_name("style_dim", style_dim, sizes, whole, 0)
        views = {}
        for name, size in sizes.items():
            columns = _columns(styles, whole("latent_dim", latent_dim), name)
            own = len(columns)
            if whole(f"sizes[{name!r}]", size) < own and orthogonal:
                raise ValueError(f"sizes[{name!r}] is {size}; orthogonal columns need at least {own}")
            weight = torch.randn(size, own, generator=generator, dtype=torch.float64)
            if orthogonal:
                lengths = 0.6 + torch.rand(own, generator=generator, dtype=torch.float64)
                weight = torch.linalg.qr(weight).Q * lengths
            bias = torch.randn(size, generator=generator, dtype=torch.float64)
            everywhere = weight.new_zeros(size, sum(styles.values()) + latent_dim)
            everywhere[:, columns] = weight
            views[name] = View(everywhere, bias, positive(f"noise of {name!r}", noises[name]))
        return cls(views, styles)

    @property
    def names(self) -> tuple[str, ...]:
        """The modality names, in order."""
        return tuple(self.views)

    @property
    def latent_dim(self) -> int:
        """D, of all styles and the shared code."""
        return next(iter(self.views.values())).weight.shape[1]

    @property
    def shared_dim(self) -> int:
        """Size of the shared code."""
        return self.latent_dim - sum(self.style_dims.values())

    def columns(self, name: str) -> list[int]:
        """Where a modality's [style, shared code] stands in z."""
        return _columns(self.style_dims, self.shared_dim, name)

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw n items: z [n, D] and the batch of every modality."""
        z = torch.randn(n, self.latent_dim, generator=generator, dtype=torch.float64)
        batch = {}
        for name, view in self.views.items():
            noise = torch.randn(n, len(view.bias), generator=generator, dtype=torch.float64)
            batch[name] = z @ view.weight.T + view.bias + view.noise * noise
        return z, batch

    def log_joint(self, z: Tensor, batch: Batch, names: Iterable[str] | None = None) -> Tensor:
        """Joint log p(x, z) of the named modalities (default: all in the batch); z [..., B, D] -> [..., B]."""
        total = log_normal(z, torch.zeros_like(z), 1.0)
        for name in self._names(names, batch):
            total = total + self.views[name].log_prob(batch[name], z)
        return total

    def log_marginal(
        self,
        batch: Batch,
        names: Iterable[str] | None = None,
        prior: Diagonal | EqualMixture | None = None,
    ) -> Tensor:
        """Exact log p(x) of the named modalities (default: all in the batch), [B]; others are integrated out.

        ``prior`` takes the place of N(0, I): normal, [D] or [B, D], or a mixture of normals.
        """
        names = self._names(names, batch)
        if isinstance(prior, EqualMixture):
            q = prior.components
            each = [Diagonal(*part) for part in zip(q.loc, _normal(q).scale, strict=True)]
            found = torch.stack([self.log_marginal(batch, names, q) for q in each])
            return torch.logsumexp(found, 0) - math.log(len(each))
        weight = torch.cat([self.views[n].weight for n in names])
        bias = torch.cat([self.views[n].bias for n in names])
        noise = torch.cat([torch.full_like(self.views[n].bias, self.views[n].noise ** 2) for n in names])
        mean, covariance = bias, weight @ weight.T
        if prior is not None:
            mean = bias + prior.loc @ weight.T
            covariance = (weight * _normal(prior).scale[..., None, :] ** 2) @ weight.T
        marginal = MultivariateNormal(mean, covariance + noise.diag())
        return marginal.log_prob(torch.cat([batch[n] for n in names], dim=-1))

    def log_conditional(self, batch: Batch, target: Iterable[str], given: Iterable[str]) -> Tensor:
        """Exact log p(x_target | x_given), [B]."""
        target, given = tuple(target), tuple(given)
        if set(target) & set(given):
            raise ValueError(f"target {target} and given {given} overlap; expected disjoint names")
        return self.log_marginal(batch, target + given) - self.log_marginal(batch, given)

    def precision(self, names: Iterable[str]) -> Tensor:
        """Precision matrix [D, D] of p(z | x_names), the same for every row."""
        total = torch.eye(self.latent_dim, dtype=torch.float64)
        for view in (self.views[n] for n in names):
            total = total + view.weight.T @ view.weight / view.noise**2
        return total

    def posterior(self, batch: Batch, given: Iterable[str] | None = None) -> tuple[Tensor, Tensor]:
        """Exact p(z | x_given): mean [B, D] and covariance [D, D]; `given=()` is the prior."""
        given = self._names(given, batch)
        covariance = torch.linalg.inv(self.precision(given))
        rows = len(next(iter(batch.values())))
        evidence = torch.zeros(rows, self.latent_dim, dtype=torch.float64)
        for name in given:
            view = self.views[name]
            evidence = evidence + (batch[name] - view.bias) @ view.weight / view.noise**2
        return evidence @ covariance, covariance

    def diagonal_posterior(self, batch: Batch, given: Iterable[str] | None = None) -> Diagonal:
        """Return p(z | x_given) as a `Diagonal` [B, D]: exact when the columns of every W are orthogonal.

        Otherwise it is the closest in KL(q || p): the same mean, and variances from the precision's diagonal.
        """
        given = self._names(given, batch)
        mean, _ = self.posterior(batch, given)
        scale = self.precision(given).diagonal().rsqrt()
        return Diagonal(mean, scale.expand_as(mean))

    def elbo(self, q: Diagonal, batch: Batch, names: Iterable[str] | None = None) -> Tensor:
        """Exact ELBO of a diagonal normal q [B, D] for the named modalities (default: all in the batch): [B]."""
        variance = _normal(q).scale ** 2
        total = -0.5 * (q.loc**2 + variance - variance.log() - 1).sum(-1)  # -KL(q || prior)
        for name in self._names(names, batch):
            view = self.views[name]
            spread = (view.weight**2 * variance.unsqueeze(-2)).sum((-2, -1)) / (2 * view.noise**2)
            total = total + view.log_prob(batch[name], q.loc) - spread
        return total

    def gap(self, q: Diagonal, batch: Batch, names: Iterable[str] | None = None) -> Tensor:
        """KL(q || p(z | x_names)) of a diagonal normal q, [B]: exactly log p(x) minus the ELBO."""
        mean, covariance = self.posterior(batch, names)
        precision = torch.linalg.inv(covariance)
        variance, away = _normal(q).scale ** 2, q.loc - mean
        quadratic = ((away @ precision) * away).sum(-1) + (variance * precision.diagonal()).sum(-1)
        return 0.5 * (quadratic - self.latent_dim + torch.logdet(covariance) - variance.log().sum(-1))

    def cubo(self, q: Diagonal, batch: Batch, names: Iterable[str] | None = None) -> Tensor:
        """Limit of CUBO for a diagonal normal q, 0.5 log E_q[(p(x, z) / q(z))^2]: [B], at least log p(x).

        With posterior precision L, q = N(m, S), d = m - posterior mean and A = 2 L - S^-1, the excess over
        log p(x) is 0.5 [log|L| + 0.5 log|S| - 0.5 log|A| + 0.5 d'(S^-1 + S^-1 A^-1 S^-1) d]; it is infinite
        unless A is positive definite (in one dimension: the variance of q exceeds half the posterior's).
        """
        names = self._names(names, batch)
        mean, covariance = self.posterior(batch, names)
        precision = torch.linalg.inv(covariance)
        variance, away = _normal(q).scale ** 2, q.loc - mean
        excess_precision = 2 * precision - torch.diag_embed(1 / variance)
        scaled = away / variance
        finite = torch.linalg.eigvalsh(excess_precision)[..., 0] > 0
        safe = torch.where(finite[..., None, None], excess_precision, torch.eye(self.latent_dim).double())
        quadratic = (away * scaled).sum(-1) + (scaled * torch.linalg.solve(safe, scaled)).sum(-1)
        determinants = 0.5 * variance.log().sum(-1) - 0.5 * torch.logdet(safe) - torch.logdet(covariance)
        excess = 0.5 * (determinants + 0.5 * quadratic)
        return self.log_marginal(batch, names) + excess.masked_fill(~finite, math.inf)

    def log_weights(
        self,
        q: Mixture,
        batch: Batch,
        k: int,
        names: Iterable[str] | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, LogWeights]:
        """Draw k times from every component of q: z [R, K, B, D] and log p(x, z) - log q(z), values [R, K, B]."""
        z = q.rsample_stratified(k, generator)
        return z, LogWeights(self.log_joint(z, batch, names) - q.log_prob(z), q.log_mixture)

    def _names(self, names: Iterable[str] | None, batch: Batch) -> tuple[str, ...]:
        chosen = tuple(n for n in self.views if n in batch) if names is None else tuple(names)
        for name in chosen:
            if name not in self.views or name not in batch:
                raise ValueError(f"names has {name!r}; model has {self.names}, batch has {tuple(batch)}")
        return chosen


def _columns(style_dims: Mapping[str, int], shared_dim: int, name: str) -> list[int]:
    """As `LinearGaussian.columns`."""
    ends = dict(zip(style_dims, accumulate(style_dims.values()), strict=True))
    end, total = ends.get(name, 0), sum(style_dims.values())
    return [*range(end - style_dims.get(name, 0), end), *range(total, total + shared_dim)]


def _normal(q: Diagonal) -> Diagonal:
    if q.family != "normal":
        raise ValueError(f"q has family {q.family!r}; the closed form needs 'normal' (use lab.quadrature)")
    return q


def log_normal(x: Tensor, mean: Tensor, sd: float) -> Tensor:
    """Normal log-density, nats, summed over the last axis."""
    return (-0.5 * ((x - mean) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)).sum(-1)
