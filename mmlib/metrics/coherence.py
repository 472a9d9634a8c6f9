"""Do the modalities of a generated item show the same thing? Cross, joint and synergy coherence.

Every function returns one number per item, 1 (coherent) or 0; the coherence is the mean, and
:func:`mmlib.metrics.estimates.estimate` gives it together with its standard error. What is classified is the mean of
the decoder's likelihood, without observation noise; the code is one posterior sample unless ``mean`` is set.

Directions are never ambiguous here: the first name is what the model is *given*, the second what it *generates*.
"""

from collections.abc import Collection

import torch
from torch import Tensor

from mmlib.checks import real, whole
from mmlib.metrics.classifiers import Classifiers, judged


def predictions(generated: dict[str, Tensor], classifiers: Classifiers) -> Tensor:
    """Predicted class of every modality of a generated batch that has a judge: int64 [M, B], in its order."""
    names = judged(classifiers, generated)
    return torch.stack([classifiers.predict(name, generated[name]) for name in names])


@torch.no_grad()
def cross_coherence(
    model,
    batch: dict[str, Tensor],
    labels: Tensor,
    given: str | Collection[str],
    classifiers: Classifiers,
    generator: torch.Generator | None = None,
    mean: bool = False,
) -> Tensor:
    r"""One row of the matrix [given][generated]: show the model one modality, or several, let it generate all of them.

    The entry for a given modality itself is the coherence of the reconstruction.

    Equation: ``eq-cross-coherence``. Source: Shi et al. 2019, Section 4.1; Shi et al. 2021, Section 4.2 (c).
        C[a][b] = (1/P) sum_p 1{ h_b(xhat_b) = y_p },  z ~ q(z | x_a),  xhat_b = E[x_b | z]

    Args:
        model: any model with ``modalities`` and ``generate``.
        batch: name -> [B, *shape], of what is given at least.
        labels: int64 [B].
        given: the modality that the model sees, or several: a is then a subset.
        classifiers: one for each modality that is to be judged.
        generator: source of the posterior draws.
        mean: decode the posterior's mean instead of a draw.

    Returns:
        [M, B] for the M modalities judged, 1 where the label predicted for what was generated is right, else 0.
    """
    given, to = [given] if isinstance(given, str) else list(given), judged(classifiers, model.modalities)
    generated = model.generate(batch, given=given, to=to, generator=generator, mean=mean)
    return (predictions(generated, classifiers) == labels).double()


@torch.no_grad()
def synergy_coherence(
    model,
    batch: dict[str, Tensor],
    labels: Tensor,
    classifiers: Classifiers,
    generator: torch.Generator | None = None,
    mean: bool = False,
) -> Tensor:
    r"""Coherence of what is generated from *all* modalities: seeing both should be no worse than seeing one.

    Equation: ``eq-synergy-coherence``. Source: Shi et al. 2021, Section 4.2 (d); one column per modality as in Table 1.
        S[b] = (1/P) sum_p 1{ h_b(xhat_b) = y_p },  z ~ q(z | x_1, ..., x_M),  xhat_b = E[x_b | z]

    Arguments and result are those of :func:`cross_coherence`.
    """
    return cross_coherence(model, batch, labels, list(model.modalities), classifiers, generator, mean)


@torch.no_grad()
def prior_predictions(
    model, n: int, classifiers: Classifiers, generator: torch.Generator | None = None, batch_size: int = 500
) -> Tensor:
    """Predicted classes of ``n`` draws from the prior: int64 [M, n], judged modalities in the model's order."""
    n, batch_size = whole("n", n), whole("batch_size", batch_size)
    sizes = [min(batch_size, n - start) for start in range(0, n, batch_size)]
    return torch.cat([predictions(model.sample(size, generator), classifiers) for size in sizes], dim=1)


def joint_coherence(predicted: Tensor) -> Tensor:
    r"""How often all modalities of a draw from the prior show the same class.

    It cannot tell a good model from one that always draws the same digit: report :func:`classes_generated` beside it.

    Equation: ``eq-joint-coherence``. Source: Shi et al. 2019, Section 4.1; Shi et al. 2021, Section 4.2 (b).
        J = (1/N) sum_i 1{ h_1(xhat_1) = ... = h_M(xhat_M) },  z_i ~ p(z),  xhat_m = E[x_m | z_i]

    Args:
        predicted: int64 [M, N], predicted classes of every modality, M >= 2.

    Returns:
        [N], 1 where all M agree, else 0.

    Raises:
        ValueError: if there are fewer than two modalities or no draw.
    """
    if predicted.ndim != 2 or predicted.shape[0] < 2 or predicted.shape[1] == 0:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}; expected [M, N] with M >= 2, N >= 1")
    return (predicted == predicted[0]).all(0).double()


def released_joint_coherence(predicted: Tensor) -> Tensor:
    r"""The joint coherence of three modalities as the code released with mmJSD counts it: not a measure to use.

    It compares two comparisons, (m == s) == (m == t), so that a draw also counts whose first modality disagrees with
    both others. Guesses that are independent and uniform over C classes score 1 - 2 (C - 1) / C^2, 0.82 for ten, where
    chance is 1 / C^2, 0.01. :func:`joint_coherence` asks all to agree, as the paper says.

    Source: the released code of Sutter et al. 2020; its supplement, Section C.2.2, has the other rule.

    Args:
        predicted: int64 [3, N], predicted classes of three modalities; the first is the one compared with.

    Returns:
        [N], 1 where the two comparisons agree, else 0.

    Raises:
        ValueError: if there are not three modalities, or no draw.
    """
    if predicted.ndim != 2 or predicted.shape[0] != 3 or predicted.shape[1] == 0:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}; expected [3, N] with N >= 1")
    m, s, t = predicted
    return ((m == s) == (m == t)).double()


def classes_generated(
    predicted: Tensor, names: list[str], classes: int = 10, threshold: float = 0.01
) -> dict[str, dict]:
    """How many classes a model generates from its prior, so that a collapsed one cannot look coherent.

    A class counts if its share of the draws is at least ``threshold``; ``"jointly"`` counts a draw for a class only
    if all modalities show it, so its shares sum to the joint coherence. ``predicted`` is int64 [M, N], for M ``names``.

    Returns:
        For each modality and for ``"jointly"``: ``{"count", "shares": [classes], "threshold", "n"}``.

    Raises:
        ValueError: if there is not one name for each row of ``predicted``.
    """
    if len(names) != len(predicted):
        expected = f"{len(predicted)}, one for each row of predicted"
        raise ValueError(f"names has {len(names)} entries; expected {expected}")
    agreeing = predicted[0][joint_coherence(predicted).bool()]
    n, classes = predicted.shape[1], whole("classes", classes)
    table, threshold = {}, real("threshold", threshold, 0, 1)
    for name, shown in {**dict(zip(names, predicted, strict=True)), "jointly": agreeing}.items():
        shares = torch.bincount(shown, minlength=classes).double() / n
        count = int((shares >= threshold).sum())
        table[name] = {"count": count, "shares": shares.tolist(), "threshold": threshold, "n": n}
    return table
