"""Density ratios by classification with features that are fixed: convex problems, solved exactly.

A classifier between n distributions whose logits are linear in features has one best weight matrix. Normal
distributions have log-densities that are quadratic, so with quadratic features the truth is among the candidates; bumps
on a grid can follow anything smooth in one or two dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import positive
from mmlib.lab.game import Game
from mmlib.ratios import assemble_logits

Features = Callable[[Tensor], Tensor]


def quadratic(points: Tensor) -> Tensor:
    """One, every coordinate and every product of two: [..., N] to [..., (N + 1)(N + 2) / 2]."""
    ones = torch.ones_like(points[..., :1])
    extended = torch.cat([ones, points], -1)
    rows, columns = torch.triu_indices(extended.shape[-1], extended.shape[-1])
    return extended[..., rows] * extended[..., columns]


def bumps(centres: Tensor, width: float) -> Features:
    """Features that are normal bumps of the given width around centres [F, N], and a constant."""

    def features(points: Tensor) -> Tensor:
        away = (points[..., None, :] - centres).square().sum(-1)
        return torch.cat([torch.ones_like(away[..., :1]), (-0.5 * away / width**2).exp()], -1)

    return features


@dataclass(frozen=True)
class Classifier:
    """Logits that are linear in features."""

    features: Features  # points [..., N] to [..., F]
    weight: Tensor  # [n, F]

    def logits(self, points: Tensor) -> Tensor:
        """Logits of the n classes at points [..., N]: [n, ...]."""
        return (self.features(points) @ self.weight.T).movedim(-1, 0)

    def log_ratio(self, points: Tensor) -> Tensor:
        """Log-ratio of the first class to the last at points [..., N]: [...]."""
        logits = self.logits(points)
        return logits[0] - logits[-1]


def classify(classes: Sequence[Tensor], features: Features = quadratic, ridge: float = 1.0) -> Classifier:
    """Fit a classifier between samples of n distributions, equally many of each.

    Minimises ``class_loss`` plus ridge / (2 rows) times the sum of squared weights, which keeps the weights of
    separable samples finite, by Newton's method (scikit-learn). ``classes`` are n tensors [rows, N].

    Raises:
        ValueError: if there are fewer than two classes, or classes of different sizes.
    """
    from sklearn.linear_model import LogisticRegression

    if len(classes) < 2 or len({len(points) for points in classes}) > 1:
        raise ValueError(f"classes have {[len(x) for x in classes]} rows; expected two or more of one size")
    found = torch.cat([features(points) for points in classes])  # [n rows, F]
    n, rows = len(classes), len(classes[0])
    strength = (1 if n > 2 else 2) / positive("ridge", ridge)  # of two classes the difference alone is fitted
    regression = LogisticRegression(C=strength, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    fitted = regression.fit(found.numpy(), torch.arange(n).repeat_interleave(rows).numpy())
    weight = torch.from_numpy(fitted.coef_)
    weight = weight if n > 2 else torch.cat([-weight, weight]) / 2
    return Classifier(features, weight)


def fit_joint(samples: Tensor, ridge: float = 1.0) -> Callable[[Tensor], Tensor]:
    """One classifier of n classes over whole points, from samples [n, rows, N]: points [B, N] -> logits [n, B]."""
    return classify(list(samples), ridge=ridge).logits


def fit_factors(
    game: Game,
    samples: Tensor,
    unpaired: Tensor | None = None,
    generator: torch.Generator | None = None,
    ridge: float = 1.0,
) -> Callable[[Tensor], Tensor]:
    """2 M + 1 binary classifiers from the samples that `fit_joint` has: points [B, N] -> assembled logits [n, B].

    Negatives are made by permuting: each modality's data for T, the contents of p for D1. The game says where data and
    codes stand in a point. Of further samples, ``unpaired`` [n, more rows, N], each D0_i and D1_i sees its own modality
    and code, and T nothing.
    """
    each, content = range(game.modalities), game.columns("content")
    data = [game.columns("data", i) for i in each]
    own = [data[i] + game.columns("style", i) for i in each]
    together = [column for columns in data for column in columns]

    def shuffled(points: Tensor, columns: list[int]) -> Tensor:
        return points[torch.randperm(len(points), generator=generator)][:, columns]

    paired = samples[0]
    mixed = torch.cat([shuffled(paired, columns) for columns in data], -1)
    dependence = classify([paired[:, together], mixed], ridge=ridge)
    if unpaired is not None:
        samples = torch.cat([samples, unpaired], 1)
    posterior, unimodal = [], []
    for i in each:
        triple = samples[i][:, own[i] + content]
        apart = torch.cat([samples[i][:, own[i]], shuffled(samples[-1], content)], -1)
        posterior.append(classify([triple, apart], ridge=ridge))
        unimodal.append(classify([triple, samples[-1][:, own[i] + content]], ridge=ridge))

    def logits(points: Tensor) -> Tensor:
        t = dependence.log_ratio(points[..., together])
        triples = [points[..., columns + content] for columns in own]
        d1, d0 = (
            torch.stack([factor.log_ratio(triple) for factor, triple in zip(factors, triples, strict=True)])
            for factors in (posterior, unimodal)
        )
        return assemble_logits(t if game.modalities > 1 else torch.zeros_like(t), d1, d0)

    return logits
