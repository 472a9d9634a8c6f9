"""What the codes look like, as numbers: distances of posteriors, of classes, and one map for all modalities."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.checks import one_of
from mmlib.data.core import check_split
from mmlib.distributions import Diagonal
from mmlib.metrics.split import batches_of, whole_rows

LINKAGES = ("average", "single", "complete", "ward")


@torch.no_grad()
def unimodal_posteriors(
    model, split, max_rows: int = 1000, batch_size: int = 500
) -> tuple[dict[str, Diagonal], Tensor | None]:
    """The posterior given each modality alone, and the labels: name -> loc and scale [N, D], and int64 [N].

    In every model of the library a posterior that sees one modality has one component. Of the rows that observe
    everything the first ``max_rows`` are used. Labels are None where the split has none.

    Raises:
        ValueError: if there is no such row, or a network with batch norm or dropout is in training mode.
    """
    check_split("split", split, ("batch", "original"))
    among = whole_rows(split, list(model.modalities))
    if not len(among):
        raise ValueError("split has no row that observes all modalities; expected at least one")
    pairs = list(batches_of(model, split, batch_size, max_rows, among=among))
    found = {}
    for name in model.modalities:
        parts = [model.posterior({name: batch[name]}, given=[name]).components for _, batch in pairs]
        loc, scale = (torch.cat([getattr(q, key)[0] for q in parts]).cpu() for key in ("loc", "scale"))
        found[name] = Diagonal(loc, scale, parts[0].family)
    labels = split.labels
    return found, labels if labels is None else labels[torch.cat([rows for rows, _ in pairs])].cpu()


def wasserstein(p: Diagonal, q: Diagonal) -> Tensor:
    r"""2-Wasserstein distance between every one of ``p`` and every one of ``q``: exactly 0 for equal ones.

    Both families are sets of shifted and stretched copies of one shape, which is all that the formula asks. Its
    gradient where the distance is 0 is set to 0.

    Equation: ``eq-wasserstein``. Source: Joy et al. 2022, Appendix F, for normals; there with a plus between means.
        W2(p, q)^2 = sum_d (mu_d - nu_d)^2 + (s_d - t_d)^2,  s, t standard deviations: sqrt(2) b for a Laplace

    Args:
        p: loc and scale [P, D].
        q: loc and scale [Q, D], of the same family.

    Returns:
        [P, Q], in units of the code.

    Raises:
        ValueError: if the families or the sizes of the code differ.
    """
    if p.family != q.family or p.loc.shape[-1] != q.loc.shape[-1]:
        given = [f"{d.family} of size {d.loc.shape[-1]}" for d in (p, q)]
        raise ValueError(f"p is {given[0]} and q is {given[1]}; expected one family and one size")
    points = [torch.cat([d.loc, d.stddev], -1) for d in (p, q)]
    # the default takes a product of matrices for many points: fast, but not 0 for equal ones
    return torch.cdist(*points, compute_mode="donot_use_mm_for_euclid_dist")


def relatedness(
    distances: Tensor, labels: Tensor, others: Tensor | None = None
) -> tuple[Tensor, Tensor, float]:
    """Distances of pairs that show one class and of pairs that show two, and how well they tell these apart.

    Source: Joy et al. 2022, Section 4.2 (the distances; the share, an area under the ROC curve, is ours).

    Args:
        distances: [N, P], of item i of one modality to item j of another, or of other items of the same.
        labels: int64 [N], of the rows.
        others: int64 [P], of the columns; default: those of the rows.

    Returns:
        Related and unrelated distances, flat, and the share of (related, unrelated) for which the related is nearer;
        a tie counts half. 0.5 is chance. It does not depend on the code's unit.

    Raises:
        ValueError: if the shapes do not fit, or there are no related or no unrelated pairs.
    """
    from sklearn.metrics import roc_auc_score

    others = labels if others is None else others
    if distances.shape != (len(labels), len(others)):
        found = f"distances has shape {tuple(distances.shape)}"
        raise ValueError(f"{found}; expected {(len(labels), len(others))}, a row and a column for each label")
    same = labels[:, None] == others
    if bool(same.all()) or not bool(same.any()):
        raise ValueError("labels make all pairs related, or none; expected some of both")
    nearer = roc_auc_score(same.flatten().numpy(), -distances.detach().flatten().numpy())
    return distances[same], distances[~same], float(nearer)


def evaluate_relatedness(model, split, max_rows: int = 1000, batch_size: int = 500) -> dict[str, dict]:
    """For every two modalities, "a,b", how well the distance of posteriors tells which items show one class.

    The share that :func:`relatedness` gives, of all pairs of the first ``max_rows`` rows that observe everything. Items
    of a pair take part in many comparisons, so ``se`` is None: how sure the number is, other seeds say.

    Raises:
        ValueError: as :func:`unimodal_posteriors`, :func:`wasserstein` and :func:`relatedness`, or without labels.
    """
    posteriors, labels = unimodal_posteriors(model, split, max_rows, batch_size)
    if labels is None:
        raise ValueError("split has no labels; expected some, to say which pairs are related")
    found, rows = {}, {"n": len(labels), "clusters": len(labels)}
    for first, second in combinations(posteriors, 2):
        distances = wasserstein(posteriors[first], posteriors[second])
        found[f"{first},{second}"] = {"value": relatedness(distances, labels)[2], "se": None} | rows
    return found


def class_distances(
    posteriors: Mapping[str, Diagonal], labels: Tensor
) -> tuple[Tensor, list[tuple[str, int]]]:
    """Mean 2-Wasserstein distance between the posteriors of every two groups, a group being a class in a modality.

    The posteriors are of one family, name -> loc and scale [N, D]; ``labels``, int64 [N], are of every modality.

    Returns:
        [G, G], float64, and the groups (name, class), modality by modality. The diagonal is no zero: it is the mean
        distance inside a group.
    """
    classes, index = labels.unique(return_inverse=True)
    groups = torch.cat([index + m * len(classes) for m in range(len(posteriors))])
    share = F.one_hot(groups).double()
    share = share / share.sum(0)  # [M N, G]
    parts = list(posteriors.values())
    loc, scale = torch.cat([q.loc for q in parts]), torch.cat([q.scale for q in parts])
    everyone = Diagonal(loc, scale, parts[0].family)
    mean = share.T @ wasserstein(everyone, everyone).double() @ share
    return mean, [(name, int(c)) for name in posteriors for c in classes]


def tree(distances: Tensor, linkage: str = "average") -> np.ndarray:
    """Hierarchical clustering of groups by their distances, as ``scipy.cluster.hierarchy`` stores it.

    Average linkage goes on taking means: between clusters of groups of one size it is the mean distance of their
    items. The distances, [G, G], are made symmetric, (K + K') / 2, and their diagonal 0.

    Args:
        distances: as from `class_distances`, or a block of them, such as rows hand and columns street.
        linkage: ``"average"``; to compare, ``"single"`` and ``"complete"``, the nearest and the farthest of two
            clusters' groups, and ``"ward"``, which takes the distances for those of points, and they are none.

    Raises:
        ValueError: for another linkage, or if the distances are not square.
    """
    from scipy.cluster.hierarchy import linkage as cluster
    from scipy.spatial.distance import squareform

    one_of("linkage", linkage, LINKAGES)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances has shape {tuple(distances.shape)}; expected [G, G]")
    symmetric = ((distances + distances.T) / 2).fill_diagonal_(0)
    return cluster(squareform(symmetric.numpy(), checks=False), linkage)


def joint_map(posteriors: Mapping[str, Diagonal], perplexity: float = 30) -> dict[str, Tensor]:
    """t-SNE of the means of all modalities' posteriors at once, so that their places can be compared: name -> [N, 2].

    It begins at the two principal components, so that nothing depends on chance. ``perplexity`` is about how many
    neighbours an item keeps, less than all M N items.
    """
    from sklearn.manifold import TSNE

    means = torch.cat([q.loc for q in posteriors.values()]).double().numpy()
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    parts = torch.as_tensor(tsne.fit_transform(means)).split([len(q.loc) for q in posteriors.values()])
    return dict(zip(posteriors, parts, strict=True))
