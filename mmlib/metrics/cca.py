"""Canonical correlation analysis: the directions of two views that correlate most, and the score made of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmlib.checks import one_of, real, whole

CONVENTIONS = ("whitened", "official")
COMPONENTS = 40  # as in the released code of Shi et al. 2019


@dataclass(frozen=True)
class Projection:
    """Means and directions of two views, fitted once, so that all scores that use them can be compared.

    Args:
        mean: of each view in the data fitted, ``[n1]`` and ``[n2]``.
        directions: ``[n1, k]`` and ``[n2, k]``, the most correlated first.
        correlations: ``[k]``, of the projections of the data fitted.
    """

    mean: tuple[Tensor, Tensor]
    directions: tuple[Tensor, Tensor]
    correlations: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, to be kept in a file."""
        views = {
            f"{what}.{i}": x for what in ("mean", "directions") for i, x in enumerate(getattr(self, what))
        }
        return views | {"correlations": self.correlations}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Projection:
        """The inverse of `tensors`."""
        views = (tuple(tensors[f"{what}.{i}"] for i in (0, 1)) for what in ("mean", "directions"))
        return cls(*views, tensors["correlations"])

    def to(self, device) -> Projection:
        """The same on ``device``."""
        return Projection.of({name: x.to(device) for name, x in self.tensors().items()})


def fit_cca(
    x: Tensor, y: Tensor, k: int = COMPONENTS, ridge: float = 1e-6, convention: str = "whitened"
) -> Projection:
    r"""The ``k`` pairs of directions whose projections of two views correlate most, by one eigenproblem.

    Equation: ``eq-cca``. Source: Massiceti et al. 2018 for the score; Shi et al. 2019, released code, for "official".

    .. code-block:: text

        [ 0    C12 ] [a]         [ C11 + r1   0        ] [a]
        [ C21  0   ] [b]  = rho  [ 0          C22 + r2 ] [b]

    Its eigenvalues are the canonical correlations and their negatives. ``r1`` and ``r2`` are ``ridge`` times the mean
    variance of a view, so that a number that never varies does no harm. (The released code adds 1e-12 whatever the
    variances are, which is too little for features that are zero throughout.)

    Args:
        x: ``[N, n1]``, rows of the first view.
        y: ``[N, n2]``, the partners of these rows.
        k: pairs of directions.
        ridge: share of a view's mean variance that is added to each variance.
        convention: how long a direction is. "whitened": its projection has variance 1, as canonical variates have.
            "official": the pair (a, b), as one vector, has length 1, as the released code has it. A cosine of
            projections is not the same under the two: here all components count alike, there those of directions that
            vary much count more.

    Raises:
        ValueError: naming the argument.
    """
    from scipy.linalg import eigh

    one_of("convention", convention, CONVENTIONS)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        found = f"x {tuple(x.shape)}, y {tuple(y.shape)}"
        raise ValueError(f"x and y have shapes {found}; expected [N, n1] and [N, n2], N >= 2")
    n1, n2 = x.shape[1], y.shape[1]
    k, ridge = whole("k", k, 1, min(n1, n2)), real("ridge", ridge, 0.0)
    views = [view.detach().cpu().double() for view in (x, y)]
    means = [view.mean(0) for view in views]
    joined = torch.cat([view - mean for view, mean in zip(views, means, strict=True)], 1)
    covariance = (joined.T @ joined / len(x)).numpy()
    within = np.zeros_like(covariance)
    for part in (slice(0, n1), slice(n1, None)):
        block = covariance[part, part]
        within[part, part] = block + ridge * np.diag(block).mean() * np.eye(len(block))
        covariance[part, part] = 0
    try:
        values, pairs = eigh(covariance, within, subset_by_index=[n1 + n2 - k, n1 + n2 - 1])
    except np.linalg.LinAlgError as error:
        raise ValueError(
            f"ridge is {ridge:g}; expected more: a view has numbers that depend on others"
        ) from error
    # An eigenvector has a' C11 a = b' C22 b = 1/2; its sign means nothing, so the largest entry is made positive.
    length = np.sqrt(2) if convention == "whitened" else 1 / np.linalg.norm(pairs, axis=0)
    pairs = pairs * length * np.sign(pairs[np.abs(pairs).argmax(0), np.arange(k)])
    a, b = torch.from_numpy(pairs[:, ::-1].copy()).split([n1, n2])
    return Projection(tuple(means), (a, b), torch.from_numpy(values[::-1].copy()))


def cca_score(projection: Projection, x: Tensor, y: Tensor) -> Tensor:
    r"""How well rows of two views go together: the cosine of their centred projections, [N], from -1 to 1.

    Equation: ``eq-cca-score``. Source: Chen and Zhu 2022, Eq. 11; Joy et al. 2022, Eq. 12.

    .. code-block:: text

        corr(x, y) = phi(x) . phi(y) / (|phi(x)| |phi(y)|),   phi(x) = W' x - mean of W' x in the data fitted

    Args:
        projection: of `fit_cca`.
        x: ``[N, n1]``.
        y: ``[N, n2]``.
    """
    projected = [
        (view.double() - mean) @ directions
        for view, mean, directions in zip((x, y), projection.mean, projection.directions, strict=True)
    ]
    return F.cosine_similarity(*projected, dim=1)
