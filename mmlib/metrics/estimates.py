"""A mean and how sure of it we are, when the items are not independent."""

import math

import torch
from torch import Tensor


def clustered_standard_error(values: Tensor, cluster: Tensor) -> Tensor:
    r"""Standard error of the mean of items that come in clusters, such as warped copies of one original.

    Items of one cluster may depend on one another in any way; clusters are independent. With one item per cluster
    this is the usual standard error; with every item copied c times it is that of the uncopied items.

    Equation: ``eq-clustered-se``. Source: Cameron and Miller 2015, Eq. 11, for a mean.
        se^2 = G / (G - 1) * sum_g (sum_{p in g} (v_p - vbar))^2 / P^2

    Args:
        values: [P], one number per item (a correct answer is 1, a wrong one 0).
        cluster: int64 [P], the cluster of each item.

    Returns:
        Scalar, float64. NaN with fewer than two clusters: one cluster tells nothing about its own spread.

    Raises:
        ValueError: if the shapes differ or there is no item.
    """
    if values.ndim != 1 or values.shape != cluster.shape or len(values) == 0:
        found = f"values {tuple(values.shape)}, cluster {tuple(cluster.shape)}"
        raise ValueError(f"values and cluster have shapes {found}; expected [P] both, P >= 1")
    values = values.double()
    _, group = torch.unique(cluster, return_inverse=True)
    groups = int(group.max()) + 1
    if groups < 2:
        return values.new_tensor(math.nan)
    sums = values.new_zeros(groups).index_add(0, group, values - values.mean())  # [G]
    return (groups / (groups - 1) * sums.square().sum()).sqrt() / len(values)


def estimate(values: Tensor, *clusters: Tensor) -> dict:
    """Mean, standard error and number of items as plain numbers, ready for JSON.

    Args:
        values: [P].
        clusters: int64 [P], none or more. None: the items are independent. Several (a pair shares an original with
            other pairs through either modality): the largest of the standard errors.

    Returns:
        ``{"value", "se", "n", "clusters"}``; ``se`` is None where it cannot be estimated.
    """
    clusters = clusters or (torch.arange(len(values), device=values.device),)
    errors = [float(clustered_standard_error(values, cluster)) for cluster in clusters]
    widest = max(range(len(errors)), key=lambda i: (not math.isnan(errors[i]), errors[i]))
    return {
        "value": float(values.double().mean()),
        "se": None if math.isnan(errors[widest]) else errors[widest],
        "n": len(values),
        "clusters": len(torch.unique(clusters[widest])),
    }
