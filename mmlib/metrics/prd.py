"""Precision and recall of what is generated: is it like the data (precision), and is all of the data there (recall)?

Distributions are compared as histograms over clusters of features, here those of the book's own judges: what their last
layer sees. Published numbers rest on features of a network for photographs, so that they are not comparable.

In every function ``real`` is the data, the reference, and ``generated`` is what is judged.
"""

import math
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import positive, whole
from mmlib.metrics.classifiers import Classifiers, check_judges, judged
from mmlib.metrics.split import batches_of, observed, whole_rows
from mmlib.modality import check_names

EDGE = 1e-10  # how far the first and the last angle stay away from 0 and pi / 2


class Curve(NamedTuple):
    """Precision and recall for each angle, from all weight on recall to all weight on precision."""

    precision: Tensor  # [A], within [0, 1]
    recall: Tensor  # [A], within [0, 1]


def precision_recall_curve(real: Tensor, generated: Tensor, angles: int = 1001) -> Curve:
    r"""Precision that a generated distribution reaches at each recall, for two histograms over the same clusters.

    Equation: ``eq-prd``. Source: Sajjadi et al. 2018, Section 3.
        alpha(lambda) = sum_c min(lambda P_c, Q_c),  beta(lambda) = alpha(lambda) / lambda,  lambda = tan(angle)

    Args:
        real: [C], P, the share of the data in each cluster.
        generated: [C], Q, the share of what was generated.
        angles: A, evenly spaced from 0 to pi / 2.

    Returns:
        Precision alpha and recall beta, [A] each, float64.

    Raises:
        ValueError: if the two are not histograms of the same length that sum to 1.
    """
    real, generated = real.double(), generated.double()
    shapes, sums = [tuple(x.shape) for x in (real, generated)], [float(x.sum()) for x in (real, generated)]
    if real.ndim != 1 or shapes[0] != shapes[1] or not all(math.isclose(x, 1, abs_tol=1e-6) for x in sums):
        found = f"real and generated have shapes {shapes[0]}, {shapes[1]} and sums {sums[0]:g}, {sums[1]:g}"
        raise ValueError(f"{found}; expected [C] both, and sums of 1")
    slope = torch.linspace(EDGE, math.pi / 2 - EDGE, whole("angles", angles, 3), dtype=torch.float64).tan()
    precision = torch.minimum(slope[:, None] * real, generated).sum(1)
    return Curve(precision.clamp(max=1), (precision / slope).clamp(max=1))


def histograms(real: Tensor, generated: Tensor, clusters: int = 20, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Shares of real and of generated features in clusters of their union, found by k-means (scikit-learn).

    Args:
        real: [N, F].
        generated: [N, F], as many: the larger set would draw the clusters to itself.
        clusters: C.
        seed: of k-means.

    Returns:
        [C] each, float64; each sums to 1.

    Raises:
        ValueError: if the two sets have not the same shape, or there are fewer features than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans

    shapes = [tuple(x.shape) for x in (real, generated)]
    clusters = whole("clusters", clusters, 2)
    if real.ndim != 2 or shapes[0] != shapes[1] or 2 * len(real) < clusters:
        found = f"real and generated have shapes {shapes[0]} and {shapes[1]}"
        raise ValueError(f"{found}; expected [N, F] both, of {clusters} features together at least")
    union = torch.cat([real, generated]).detach().double().cpu().numpy()
    found = MiniBatchKMeans(clusters, n_init=10, random_state=whole("seed", seed, 0)).fit(union).labels_
    counts = [np.bincount(part, minlength=clusters) for part in np.split(found, 2)]
    return tuple(torch.as_tensor(count / len(real)) for count in counts)


def precision_recall(
    real: Tensor,
    generated: Tensor,
    clusters: int = 20,
    angles: int = 1001,
    runs: int = 10,
    seed: int = 0,
) -> Curve:
    """Precision and recall of generated features, averaged over several runs of k-means at each angle.

    Args:
        real: [N, F], features of the data.
        generated: [N, F], features of what was generated.
        clusters: as of :func:`histograms`.
        angles: as of :func:`precision_recall_curve`.
        runs: of k-means.
        seed: of the first run; the others count on.

    Source: Sajjadi et al. 2018, Section 3; 20 clusters, 1001 angles and 10 runs are those of its released code.
    """
    runs, seed = whole("runs", runs), whole("seed", seed, 0)
    shares = [histograms(real, generated, clusters, seed + run) for run in range(runs)]
    curves = [precision_recall_curve(p, q, angles) for p, q in shares]
    return Curve(*(torch.stack(part).mean(0) for part in zip(*curves, strict=True)))


def mean_of_curve(curve: Curve) -> float:
    """One number for a curve, as the released code of mmJSD has it: the mean of all its precisions and recalls.

    It is no area and no F score. Generating perfectly scores 1/2 + ln(2) / pi, 0.721, not 1. Exchanging ``real`` and
    ``generated``, which that code does, exchanges precision and recall and leaves the mean as it is.

    Source: the released code of Sutter et al. 2020.
    """
    return float(torch.cat(curve).mean())


def f_scores(curve: Curve, beta: float = 8.0) -> tuple[float, float]:
    """The two numbers of Sajjadi et al. 2018: the largest F_beta on a curve, which stands for recall, and F_(1/beta).

    F_beta = (1 + beta^2) precision recall / (beta^2 precision + recall); the second one stands for precision. Both are
    1 for equal distributions and 0 for disjoint ones.

    Raises:
        ValueError: if ``beta`` is not positive.
    """
    scores = []
    for weight in (positive("beta", beta) ** 2, beta**-2):
        below = weight * curve.precision + curve.recall
        above = (1 + weight) * curve.precision * curve.recall
        scores.append(float((above / below.clamp_min(EDGE)).max()))
    return scores[0], scores[1]


@torch.no_grad()
def generation_curves(
    model,
    split,
    classifiers: Classifiers,
    given: Collection[str] | None = None,
    to: Collection[str] | None = None,
    generator: torch.Generator | None = None,
    max_rows: int | None = None,
    batch_size: int = 500,
    **options,
) -> dict[str, Curve]:
    """Precision and recall of the modalities that a model generates, in the features of their judges.

    As many items are generated as there are real ones: those of the rows that observe the modality and all that is
    given. Generated is the mean of the decoder's likelihood, without observation noise.

    Args:
        model: any model with ``sample`` and ``generate``.
        split: holds the real items.
        classifiers: judges with features, as :meth:`mmlib.metrics.classifiers.Classifiers.features`.
        given: what the model sees of each row; None: nothing, it draws from the prior.
        to: modalities to compare; default: all that have a judge.
        generator: source of the draws.
        max_rows: use only the first of those rows.
        batch_size: rows at once.
        **options: of :func:`precision_recall`.

    Returns:
        Name of the modality -> curve; without those of which there is no such row.

    Raises:
        ValueError: if an argument is wrong, or a judge has no features.
    """
    to = judged(classifiers, model.modalities) if to is None else check_names(model.modalities, to, "to")
    to = check_judges(classifiers, to)
    given = None if given is None else check_names(model.modalities, given, "given")
    among = None if given is None else whole_rows(split, given)
    features: dict[str, dict[str, list]] = {name: {"real": [], "generated": []} for name in to}
    for rows, batch in batches_of(model, split, batch_size, max_rows, among=among):
        if given is None:
            made = model.sample(len(rows), generator)
        else:
            shown = {name: batch[name] for name in given}
            made = model.generate(shown, given=given, to=to, generator=generator)
        for name, seen in zip(to, observed(split, rows, to), strict=True):
            for kind, items in (("real", batch[name]), ("generated", made[name])):
                if seen.any():
                    found = classifiers.features(name, items[seen.to(items.device)])
                    features[name][kind].append(found.cpu())
    pairs = {
        name: [torch.cat(x) for x in found.values()] for name, found in features.items() if found["real"]
    }
    return {name: precision_recall(*pair, **options) for name, pair in pairs.items()}


def generation_quality(
    model, split, classifiers: Classifiers, generator: torch.Generator | None = None, **options
) -> dict[str, dict[str, float]]:
    """How good draws from the prior are, by modality: ``"precision"``, ``"recall"`` (F scores), ``"mean"`` of a curve.

    Arguments as of :func:`generation_curves`. Modalities whose judge has no features are left out.
    """
    names = [name for name in judged(classifiers, model.modalities) if classifiers.has_features(name)]
    found = {}
    if names:
        curves = generation_curves(model, split, classifiers, to=names, generator=generator, **options)
        for name, curve in curves.items():
            recall, precision = f_scores(curve)
            found[name] = {"precision": precision, "recall": recall, "mean": mean_of_curve(curve)}
    return found
