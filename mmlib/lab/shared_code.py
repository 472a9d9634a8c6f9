r"""What one shared code costs: two modalities, deterministic decoders, and every divergence a finite sum.

An item is a class, common to both modalities, and a private value of each, all drawn uniformly: x_i = (y, b_i). A code
is one of finitely many cells, as if the prior were cut into pieces, and a deterministic decoder gives every cell one
item. What matters of a cell is what it decodes to, so a cell *is* a pair of items. The three distributions of the game
over (x_1, x_2, c), with c = (u_1, u_2):

    q_i:  x_1, x_2 from the data,  c from a table q(c | x_i)
    p:    c from the prior,  x_1 = u_1 and x_2 = u_2

The Jensen-Shannon divergence is convex in the tables, and relabelling classes and values changes nothing. So the best
tables are among those that treat all values alike, of which `with_shared_code` has one for every ``keep``. Everything
is float64 and in nats.
"""

from __future__ import annotations

import math

import torch
from scipy.optimize import minimize_scalar
from scipy.special import entr
from torch import Tensor

from mmlib.checks import real, whole


def with_shared_code(classes: int, values: int, keep: float) -> Tensor:
    """Probabilities of q_1, q_2 and p where one code is all there is: [3, points].

    Each encoder puts the right class into the code, its own private value with probability ``keep`` and any of the
    others alike, and for the private value that it cannot see one at random. The prior is uniform on the data's cells.

    Args:
        classes: C, at least 1.
        values: B, private values of each modality, at least 1.
        keep: from 1 / B, where the code says nothing of the own value, to 1.

    Raises:
        ValueError: if an argument is out of its range.
    """
    _check(classes, values, keep)
    other = (1 - keep) / (values - 1) if values > 1 else 0.0
    same = torch.eye(classes, dtype=torch.float64)
    told = other + (keep - other) * torch.eye(values, dtype=torch.float64)  # own value -> value in the code
    # axes: class y, values a and b of the item, class z, values c and d in the code
    data = torch.full((classes, values, values), 1 / (classes * values**2), dtype=torch.float64)
    guessed = torch.full((values,), 1 / values, dtype=torch.float64)
    first = torch.einsum("yab,yz,ac,d->yabzcd", data, same, told, guessed)
    second = torch.einsum("yab,yz,bd,c->yabzcd", data, same, told, guessed)
    eye = torch.eye(values, dtype=torch.float64)
    decoded = torch.einsum("zcd,yz,ac,bd->yabzcd", data, same, eye, eye)
    return torch.stack([first, second, decoded]).flatten(1)


def with_styles(classes: int, values: int) -> Tensor:
    """Probabilities of q_1, q_2 and p with the class as content and the private values as styles: [3, points].

    Raises:
        ValueError: if an argument is less than 1.
    """
    _check(classes, values, 1.0)
    data = torch.full((classes, values, values), 1 / (classes * values**2), dtype=torch.float64)
    same, eye = torch.eye(classes, dtype=torch.float64), torch.eye(values, dtype=torch.float64)
    # axes: class y, values a and b of the item, content z, styles s and t
    encoded = torch.einsum("yab,yz,as,bt->yabzst", data, same, eye, eye)
    prior = [torch.full((size,), 1 / size, dtype=torch.float64) for size in (classes, values, values)]
    decoded = torch.einsum("z,s,t,yz,as,bt->yabzst", *prior, same, eye, eye)
    return torch.stack([encoded, encoded, decoded]).flatten(1)


def divergence(probabilities: Tensor) -> Tensor:
    """Jensen-Shannon divergence of n distributions [n, points], zeros allowed: scalar, at most log n."""
    mixture = probabilities.mean(0)
    apart = torch.xlogy(probabilities, probabilities) - torch.xlogy(probabilities, mixture)
    return apart.sum() / len(probabilities)


def best_keep(classes: int, values: int) -> float:
    """The ``keep`` at which the distributions with a shared code differ least; 1 / sqrt(2) for two values.

    Raises:
        ValueError: if an argument is less than 1.
    """
    _check(classes, values, 1.0)
    found = minimize_scalar(  # convex in keep
        lambda keep: float(divergence(with_shared_code(classes, values, keep))),
        bounds=(1 / values, 1.0),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(found.x)


def content_information(classes: int, values: int, keep: float) -> float:
    """What the shared code says of the modality that it was encoded from: log C + log B - H(keep, ...), nats.

    Raises:
        ValueError: if an argument is out of its range.
    """
    _check(classes, values, keep)
    others = max(values - 1, 1)
    entropy = entr(keep) + others * entr((1 - keep) / others)
    return math.log(classes) + math.log(values) - float(entropy)


def _check(classes: int, values: int, keep: float) -> None:
    whole("classes", classes)
    real("keep", keep, 1 / whole("values", values) - 1e-12, 1.0)
