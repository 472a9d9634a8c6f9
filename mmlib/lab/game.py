r"""A game of n = M + 1 normal distributions over data, styles and content, with every density in closed form.

Modality i has data x_i, its own style code s_i (of dimension 0 where there are no styles), and all share the content c:

    q_i:  X ~ q(X),  c = A_i x_i + a_i + noise,  s_j = B_j x_j + b_j + noise for every j
    p:    c ~ N(0, I),  s_j ~ N(0, I),  x_j = W_j c + V_j s_j + d_j + noise

A point is the concatenation [x_1..x_M, s_1..s_M, c]. Everything is float64 and in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from mmlib import seeding
from mmlib.checks import look_up, real, whole
from mmlib.lab.linear_gaussian import View, log_normal


def encoder_joints(log_data: Tensor, log_content: Tensor, log_style: Tensor) -> Tensor:
    r"""Log-densities of the M encoder distributions, which differ in whose content they use: [M, B], nats.

    Equation: ``eq-encoder-joints``. Source: Chen and Zhu 2022, Eq. 2 without styles and Eq. 8 with them.
        log q_i(X, S, c) = log q(X) + log q(c | x_i) + sum_j log q(s_j | x_j)

    Args:
        log_data: log q(X), [B].
        log_content: log q(c | x_i), [M, B].
        log_style: log q(s_j | x_j), [M, B]; zeros where there are no styles.
    """
    return log_data + log_content + log_style.sum(0)


def decoder_joint(log_content: Tensor, log_style: Tensor, log_likelihood: Tensor) -> Tensor:
    r"""Log-density of the decoder distribution: [B], nats.

    Equation: ``eq-decoder-joint``. Source: Chen and Zhu 2022, Eq. 3 without styles and Eq. 9 with them.
        log p(X, S, c) = log p(c) + sum_i [ log p(s_i) + log p(x_i | s_i, c) ]

    Args:
        log_content: log p(c), [B].
        log_style: log p(s_i), [M, B]; zeros where there are no styles.
        log_likelihood: log p(x_i | s_i, c), [M, B].
    """
    return log_content + (log_style + log_likelihood).sum(0)


@dataclass(frozen=True)
class Normal:
    """A normal distribution of any covariance, mean + root e with standard normal e."""

    mean: Tensor  # [N]
    root: Tensor  # [N, E], E at least N

    def log_prob(self, points: Tensor, columns: Sequence[int] | None = None) -> Tensor:
        """Log-density of the chosen columns (default: all) of points [..., N], the others integrated out: [...]."""
        columns = list(range(len(self.mean)) if columns is None else columns)
        root = self.root[columns]
        return MultivariateNormal(self.mean[columns], root @ root.T).log_prob(points[..., columns])

    def sample(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Points [rows, N]."""
        noise = torch.randn(rows, self.root.shape[1], generator=generator, dtype=torch.float64)
        return self.mean + noise @ self.root.T


@dataclass(frozen=True)
class Game:
    """The distributions q_1..q_M and p. `Game.make` draws one."""

    data: Normal  # q(X), over all the modalities together
    content: Sequence[View]  # q(c | x_i), M of them
    style: Sequence[View]  # q(s_i | x_i), M of them
    decoders: Sequence[View]  # p(x_i | s_i, c), M of them; the input is [s_i, c]

    @classmethod
    def make(
        cls,
        modalities: int,
        data_dim: int = 2,
        style_dim: int = 0,
        content_dim: int = 1,
        mismatch: float = 0.3,
        seed: int = 0,
    ) -> Game:
        """Draw a game that is nearly over: decoders, and data and encoders that fit them up to a mismatch.

        The mismatch is the standard deviation of what is added to every coefficient of data and encoders.
        ``style_dim`` is 0 for no styles.
        """
        modalities, data_dim = whole("modalities", modalities), whole("data_dim", data_dim)
        style_dim, content_dim = whole("style_dim", style_dim, 0), whole("content_dim", content_dim)
        mismatch = real("mismatch", mismatch, 0.0)
        generator = seeding.generator(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        codes, noise = style_dim + content_dim, 0.6
        decoders, content, style = [], [], []
        mean, shared, private = [], [], []
        for _ in range(modalities):
            decoder = View(0.6 * draw(data_dim, codes), 0.3 * draw(data_dim), noise)
            weight = decoder.weight
            covariance = torch.linalg.inv(torch.eye(codes).double() + weight.T @ weight / noise**2)
            gain = covariance @ weight.T / noise**2 + mismatch * draw(codes, data_dim)
            bias = -gain @ decoder.bias + mismatch * draw(codes)
            spread = float(covariance.diagonal().mean().sqrt())
            style.append(View(gain[:style_dim], bias[:style_dim], spread))
            content.append(View(gain[style_dim:], bias[style_dim:], spread))
            fitted = weight + mismatch * draw(data_dim, codes)
            mean.append(decoder.bias + mismatch * draw(data_dim))
            shared.append(fitted[:, style_dim:])
            private.append(torch.cat([fitted[:, :style_dim], noise * torch.eye(data_dim).double()], 1))
            decoders.append(decoder)
        data = Normal(torch.cat(mean), torch.cat([torch.cat(shared), torch.block_diag(*private)], 1))
        return cls(data, content, style, decoders)

    @property
    def modalities(self) -> int:
        """M."""
        return len(self.decoders)

    def columns(self, kind: str, i: int = 0) -> list[int]:
        """Where x_i ("data"), s_i ("style") or c ("content") stand in a point.

        Raises:
            ValueError: if the kind is none of these.
        """
        sizes = {"data": len(self.decoders[0].bias), "style": len(self.style[0].bias)}
        begin = {"data": 0, "style": self.modalities * sizes["data"]}
        begin["content"] = begin["style"] + self.modalities * sizes["style"]
        sizes["content"] = len(self.content[0].bias)
        first = look_up("kind", kind, begin) + i * sizes[kind]
        return list(range(first, first + sizes[kind]))

    def distributions(self) -> list[Normal]:
        """q_1..q_M and p as normal distributions over whole points."""
        each, c = range(self.modalities), self.columns("content")
        x, s = ([self.columns(kind, i) for i in each] for kind in ("data", "style"))
        styles = list(zip(s, x, self.style, strict=True))
        data, codes = range(len(self.data.mean)), [*c, *(column for columns in s for column in columns)]
        encoders = [_joint(data, self.data, [(c, x[i], self.content[i]), *styles]) for i in each]
        prior = Normal(torch.zeros(len(codes)).double(), torch.eye(len(codes)).double())
        return [*encoders, _joint(codes, prior, [(x[i], s[i] + c, self.decoders[i]) for i in each])]

    def sample(self, rows: int, generator: torch.Generator | None = None) -> Tensor:
        """Rows of points from each distribution, [n, rows, N]."""
        return torch.stack([p.sample(rows, generator) for p in self.distributions()])

    def log_density(self, points: Tensor) -> Tensor:
        """Log-densities of q_1..q_M and p at points [B, N], from their defining products: [n, B]."""
        each = range(self.modalities)
        x, s = ([points[..., self.columns(kind, i)] for i in each] for kind in ("data", "style"))
        c = points[..., self.columns("content")]
        log_data = self.data.log_prob(torch.cat(x, -1))
        content = torch.stack([self.content[i].log_prob(c, x[i]) for i in each])
        style = torch.stack([self.style[i].log_prob(s[i], x[i]) for i in each])
        likelihood = torch.stack([self.decoders[i].log_prob(x[i], torch.cat([s[i], c], -1)) for i in each])
        encoders = encoder_joints(log_data, content, style)
        priors = [log_normal(code, torch.zeros_like(code), 1.0) for code in (c, *s)]
        decoder = decoder_joint(priors[0], torch.stack(priors[1:]), likelihood)
        return torch.cat([encoders, decoder[None]])

    def factors(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the factorised discriminators estimate, at points [B, N]: T [B], D1 [M, B] and D0 [M, B].

        Each is a ratio of marginals of the whole distributions: nothing here knows how the joint ratio factorises.
        """
        *encoders, p = self.distributions()
        c = self.columns("content")
        x = [self.columns("data", i) for i in range(self.modalities)]
        dependence = encoders[0].log_prob(points, [column for columns in x for column in columns])
        posterior, unimodal = [], []
        for i, q in enumerate(encoders):
            dependence = dependence - q.log_prob(points, x[i])
            own = [*x[i], *self.columns("style", i)]
            triple = q.log_prob(points, [*own, *c])
            posterior.append(triple - q.log_prob(points, own) - p.log_prob(points, c))
            unimodal.append(triple - p.log_prob(points, [*own, *c]))
        return dependence, torch.stack(posterior), torch.stack(unimodal)


def _joint(first: Sequence[int], known: Normal, steps: Sequence[tuple]) -> Normal:
    """The joint of the columns ``first`` and of all that depend on earlier ones: (columns, given, `View`) a step."""
    size, noise = len(first) + sum(len(columns) for columns, _, _ in steps), known.root.shape[1]
    mean, root = torch.zeros(size).double(), torch.zeros(size, noise + size).double()
    mean[first], root[first, :noise] = known.mean, known.root
    for columns, given, view in steps:
        mean[columns] = view.weight @ mean[given] + view.bias
        root[columns] = view.weight @ root[given]
        root[columns, [noise + column for column in columns]] = view.noise
    return Normal(mean, root)
