"""A threshold on scores, such that pairs above it belong together, and how good it is where few pairs do."""

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import real


def f1_score(precision, recall):
    r"""Harmonic mean of precision and recall: 0 where both are.

    Equation: ``eq-f1``. Source: Shi et al. 2021, Section 4.5.
        F1 = 2 P R / (P + R)

    Numbers or arrays that broadcast.
    """
    total = np.asarray(precision) + np.asarray(recall)
    return 2 * np.asarray(precision) * np.asarray(recall) / np.where(total > 0, total, 1)


def best_threshold(scores: Tensor, related: Tensor) -> float:
    """The score from which on pairs are called related, such that F1 is largest; of several, the highest.

    Args:
        scores: any shape, the higher the more related.
        related: bool, the same shape; both kinds must occur.

    Raises:
        ValueError: for scores that are not finite, another shape or type, or pairs of one kind.
    """
    from sklearn.metrics import precision_recall_curve

    scores, related = _checked(scores, related)
    if related.all() or not related.any():
        found = "all" if related.all() else "none"
        raise ValueError(f"related says that {found} of {len(related)} pairs are; expected both kinds")
    precision, recall, thresholds = precision_recall_curve(related, scores)  # rising, and one more (1, 0)
    f1 = f1_score(precision, recall)[:-1]
    return float(thresholds[np.flatnonzero(f1 == f1.max())[-1]])


def threshold_quality(scores: Tensor, related: Tensor, threshold: float) -> dict[str, float]:
    """Precision, recall and F1 of calling pairs related whose score is at least the threshold, and how many there are.

    Arguments and errors are those of `best_threshold`, but pairs may be of one kind: a share of none is 0.

    Returns:
        ``{"precision", "recall", "f1", "accuracy", "called", "related", "pairs"}``; the last three are counts.
    """
    scores, related = _checked(scores, related)
    called = scores >= real("threshold", threshold)
    right = int((called & related).sum())
    precision, recall = (right / max(int(some.sum()), 1) for some in (called, related))
    return {
        "precision": precision,
        "recall": recall,
        "f1": float(f1_score(precision, recall)),
        "accuracy": float((called == related).mean()),
        "called": int(called.sum()),
        "related": int(related.sum()),
        "pairs": len(related),
    }


def _checked(scores: Tensor, related: Tensor) -> tuple[np.ndarray, np.ndarray]:
    scores, related = torch.as_tensor(scores).detach().cpu(), torch.as_tensor(related).cpu()
    if related.dtype != torch.bool or related.shape != scores.shape or not scores.numel():
        found = f"{related.dtype} of shape {tuple(related.shape)}"
        raise ValueError(f"related is {found}; expected bool, as many as scores, {tuple(scores.shape)}")
    if not bool(scores.isfinite().all()):
        raise ValueError(f"scores has {int((~scores.isfinite()).sum())} numbers that are not finite")
    return scores.double().flatten().numpy(), related.flatten().numpy()
