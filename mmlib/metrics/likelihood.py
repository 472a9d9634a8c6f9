"""Importance-sampled log-likelihoods: joint, marginal and truly conditional.

All are in nats with unscaled likelihoods. Draws are stratified: K from *every* component of the posterior, weighed by
the mixture. They are made in chunks of samples, so that memory does not grow with K.
"""

import math
from collections.abc import Collection
from itertools import combinations, permutations
from typing import NamedTuple

import torch
from torch import Tensor

from mmlib.checks import positive, whole
from mmlib.memory import keep_pages
from mmlib.metrics.estimates import estimate
from mmlib.metrics.split import batches_of, observed
from mmlib.modality import Batch, Mask, check_names


class LogLikelihood(NamedTuple):
    """An importance-sampled log-likelihood of each row, and how far to trust it."""

    value: Tensor  # [B], nats; a lower bound in expectation
    error: Tensor  # [B], Monte Carlo standard error of the value (delta method), nats
    effective: Tensor  # [B], effective number of samples, at most R K


def importance_log_likelihood(log_sums: Tensor, log_mixture: Tensor, k: int) -> Tensor:
    r"""log p(x) from the summed importance weights of each component.

    Equation: ``eq-importance-likelihood``. Source: Burda et al. 2016, Eq. 8; strata as in Shi et al. 2019, Section 3.
        log p(x) ~ log sum_r pi_r (1/K) sum_k w_rk,  w_rk = p(x | z_rk) p(z_rk) / qbar(z_rk),  z_rk ~ q_r

    Args:
        log_sums: [R, B], log sum_k w_rk in nats.
        log_mixture: [R, B], log pi_r.
        k: samples from every component.

    Returns:
        [B], nats.
    """
    absent = log_mixture == -math.inf
    return torch.logsumexp(log_sums.masked_fill(absent, 0) + log_mixture, dim=0) - math.log(k)


def conditional_log_likelihood(log_joint: Tensor, log_given: Tensor) -> Tensor:
    r"""The conditional of two log-likelihoods: what the target adds once the given is known.

    Equation: ``eq-conditional-likelihood``. Source: Suzuki et al. 2016, Section 4.
        log p(x_a | x_b) = log p(x_a, x_b) - log p(x_b)

    Args:
        log_joint: [B], log p(x_a, x_b), nats.
        log_given: [B], log p(x_b), nats.

    Returns:
        [B], nats.
    """
    return log_joint - log_given


def laplace_ceiling(size: int, scale: float) -> float:
    r"""Largest log-density that any model with Laplace likelihoods of a fixed scale can give to ``size`` numbers.

    Reached only if the location equals every number exactly; a reported value above it is not what it says it is.

    Equation: ``eq-laplace-ceiling``. Source: the Laplace density at its location.
        log p(x) <= - n log(2 b)

    Args:
        size: n, how many numbers; add up the modalities for a joint likelihood.
        scale: b.

    Raises:
        ValueError: if ``size`` is less than 1 or ``scale`` is not positive.
    """
    return -whole("size", size) * math.log(2 * positive("scale", scale))


@torch.no_grad()
def log_marginal(
    model,
    batch: dict[str, Tensor],
    names: Collection[str] | None = None,
    k: int = 1000,
    generator: torch.Generator | None = None,
    given: Collection[str] | None = None,
    chunk: int = 50,
    mask: Mask | None = None,
) -> LogLikelihood:
    """Importance-sampled log p(x_names), with everything else integrated out.

    Rows may observe different modalities: in each, it is the likelihood of what it observes of ``names``.

    Args:
        model: any model with ``draw``.
        batch: name -> [B, *shape]; may hold more than ``names``.
        names: modalities to explain; default: all in the batch (the joint likelihood).
        k: samples from each component of the proposal.
        generator: source of the draws.
        given: modalities that the proposal sees; default: ``names``. Any choice estimates the same log p(x_names);
            a foreign proposal is only worse, it does not make the likelihood conditional.
        chunk: samples a component decoded at once.
        mask: bool [B] by name, True = observed; None or an absent name: all are. Every row must observe something of
            ``given``.

    Returns:
        Value, Monte Carlo error and effective sample size, [B] each, float64.

    Raises:
        ValueError: if ``k`` or ``chunk`` is less than 1, a name is not in the batch, or a row observes none of
            ``given``.
    """
    k, chunk = whole("k", k), whole("chunk", chunk)
    names = check_names(batch, batch if names is None else names, "names")
    given = names if given is None else check_names(batch, given, "given")
    seen = {name: x for name, x in batch.items() if name in names or name in given}
    mask = None if mask is None else {name: mask[name] for name in mask if name in seen}
    keep_pages()  # draws of one chunk are as large as those of the next
    once, twice = [], []  # log sums of w and of w^2, [R, B] for each chunk
    for start in range(0, k, chunk):
        drawn = model.draw(
            seen, min(chunk, k - start), given=given, target=names, mask=mask, generator=generator
        ).log_weights  # nothing else is kept while the next ones are made
        log_weights = drawn.values.double()
        once.append(torch.logsumexp(log_weights, dim=1))
        twice.append(torch.logsumexp(2 * log_weights, dim=1))
    log_mixture = drawn.log_mixture.double()
    absent = log_mixture == -math.inf  # components that a row lacks weigh nothing
    totals = [torch.logsumexp(torch.stack(sums), dim=0) for sums in (once, twice)]  # [R, B]
    log_sum, log_square = (total.masked_fill(absent, -math.inf) for total in totals)
    value = importance_log_likelihood(log_sum, log_mixture, k)
    # Weights relative to the estimate, so that nothing under- or overflows: their strata's means and mean squares.
    mean = (log_sum - math.log(k) - value).exp()
    variance = (log_square - math.log(k) - 2 * value).exp() - mean**2
    share = log_mixture.exp()
    error = (share**2 * variance.clamp_min(0) / max(k - 1, 1)).sum(0).sqrt()
    error = error if k > 1 else torch.full_like(error, math.inf)
    log_total = torch.logsumexp(log_sum + log_mixture, dim=0)
    effective = (2 * log_total - torch.logsumexp(log_square + 2 * log_mixture, dim=0)).exp()
    return LogLikelihood(value, error, effective)


def log_conditional(
    model,
    batch: dict[str, Tensor],
    target: Collection[str],
    given: Collection[str],
    k: int = 1000,
    generator: torch.Generator | None = None,
    chunk: int = 50,
    mask: Mask | None = None,
) -> LogLikelihood:
    """Importance-sampled log p(x_target | x_given), truly conditional: the joint minus what is given.

    The modalities ``target`` are explained, those ``given`` are known, in each row what it observes of them; the rest
    is as for :func:`log_marginal`.

    Returns:
        Value, Monte Carlo error (of both parts) and the smaller effective sample size, [B] each, float64.

    Raises:
        ValueError: if ``target`` and ``given`` overlap or one of them is empty; as :func:`log_marginal`.
    """
    target, given = check_names(batch, target, "target"), check_names(batch, given, "given")
    if set(target) & set(given):
        raise ValueError(f"target is {target} and given is {given}; expected two disjoint sets of names")
    joint = log_marginal(model, batch, target + given, k, generator, chunk=chunk, mask=mask)
    known = log_marginal(model, batch, given, k, generator, chunk=chunk, mask=mask)
    return _conditional(joint, known)


def evaluate_likelihoods(
    model,
    split,
    k: int = 1000,
    generator: torch.Generator | None = None,
    max_rows: int | None = None,
    batch_size: int = 100,
    chunk: int = 50,
) -> dict:
    """Joint, marginal and conditional log-likelihoods of a split, per item and in nats, as a nested dict.

    Where rows observe different modalities, the joint likelihood is of what each row observes, a marginal one over the
    rows that observe its modality, and a conditional one over those that observe both; ``n`` says how many rows these
    are, and where there is none there is no entry. Means over different rows are not comparable with one another.

    ``k`` and ``chunk`` are those of :func:`log_marginal`, the other arguments those of :func:`mmlib.metrics.evaluate`.

    Returns:
        ``{"joint": E, "marginal": {name: E}, "conditional": {given: {target: E}}, "k"}``, where E holds ``value``,
        ``se`` (over the data, clustered by original), ``n``, ``clusters``, ``monte_carlo_error`` (of the mean) and
        ``effective_samples`` (median over items).
    """
    batches = batches_of(model, split, batch_size, max_rows)
    names = tuple(model.modalities)
    everything = tuple(sorted(names))
    chosen = {tuple(sorted(some)) for size in (1, 2) for some in combinations(names, size)} | {everything}
    parts: dict[tuple, list[LogLikelihood]] = {subset: [] for subset in sorted(chosen)}
    numbers, masks = [], []
    for rows, batch in batches:
        numbers.append(rows)
        masks.append(observed(split, rows, names))
        for subset, found in parts.items():
            mask = dict(zip(names, masks[-1], strict=True))
            seen = torch.stack([mask[name] for name in subset])
            seen = seen.any(0) if subset == everything else seen.all(0)
            found.append(_of_rows(seen, model, batch, mask, subset, k, generator, chunk))
    rows, mask = torch.cat(numbers), dict(zip(names, torch.cat(masks, 1), strict=True))
    table = {some: LogLikelihood(*map(torch.cat, zip(*part, strict=True))) for some, part in parts.items()}

    def entry(subset: tuple, result: LogLikelihood, seen: Tensor) -> dict:
        value, error, effective = (column[seen] for column in result)
        return {
            **estimate(value, *(split.original(name, rows[seen]).cpu() for name in subset)),
            "monte_carlo_error": float(error.square().sum().sqrt() / len(error)),
            "effective_samples": float(effective.median()),
        }

    anything = torch.stack(list(mask.values())).any(0)
    report = {
        "k": k,
        "joint": entry(everything, table[everything], anything),
        "marginal": {name: entry((name,), table[name,], mask[name]) for name in names if mask[name].any()},
        "conditional": {name: {} for name in names},
    }
    for given, target in permutations(names, 2):
        both = tuple(sorted([given, target]))
        if (seen := mask[given] & mask[target]).any():
            result = _conditional(table[both], table[given,])
            report["conditional"][given][target] = entry(both, result, seen)
    return report


def _of_rows(seen: Tensor, model, batch: Batch, mask: Mask, subset: tuple, k: int, generator, chunk: int):
    """The likelihood of the rows ``seen`` (bool [B], on the CPU), also there, and NaN in the others."""
    columns = torch.full((3, len(seen)), math.nan, dtype=torch.float64)
    if seen.any():
        device = next(iter(batch.values())).device
        here, mask = seen.to(device), {name: x[seen].to(device) for name, x in mask.items()}
        batch = {name: x[here] for name, x in batch.items()}
        found = log_marginal(model, batch, subset, k, generator, chunk=chunk, mask=mask)
        columns[:, seen] = torch.stack(found).cpu()
    return LogLikelihood(*columns)


def _conditional(joint: LogLikelihood, given: LogLikelihood) -> LogLikelihood:
    return LogLikelihood(
        conditional_log_likelihood(joint.value, given.value),
        (joint.error**2 + given.error**2).sqrt(),
        torch.minimum(joint.effective, given.effective),
    )
