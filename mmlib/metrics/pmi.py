"""Pointwise mutual information of two modalities: how much likelier they are together than apart, in nats.

Likelihoods are unscaled and importance-sampled, see `mmlib.metrics.likelihood`. Where one modality is drawn from at a
time, an item is drawn and decoded once, however many partners it is scored with.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmlib.checks import check_has, kind, one_of, whole
from mmlib.distributions import Diagonal
from mmlib.memory import keep_pages
from mmlib.metrics.likelihood import importance_log_likelihood, log_marginal
from mmlib.modality import Batch, check_batch

PROPOSALS = ("alone", "pair")


def pointwise_mutual_information(log_joint: Tensor, log_first: Tensor, log_second: Tensor) -> Tensor:
    r"""How much likelier two items are together than apart: [...], nats; 0 where they are independent.

    Equation: ``eq-pmi``. Source: Shi et al. 2021, Section 3.1.
        I(x, y) = log p(x, y) - log p(x) - log p(y)

    All are log-likelihoods in nats, of shapes that broadcast.
    """
    return log_joint - log_first - log_second


@torch.no_grad()
def estimate_pmi(
    model,
    batch: Batch,
    k: int = 1000,
    generator: torch.Generator | None = None,
    all_pairs: bool = False,
    proposal: str | None = None,
    chunk: int = 10,
    rows: int = 50,
) -> Tensor:
    """Importance-sampled PMI of pairs: [B] for those of the rows, [B, B'] for every item beside every partner.

    ``"alone"`` draws from the posterior given either modality alone, ``k`` codes from each, in equal shares. It is a
    proposal for the pairs of any model without styles, and the same draws serve log p(x, y) and log p(x) or log p(y).
    B + B' items are decoded ``k`` times, by both decoders. ``"pair"`` draws ``k`` codes from each component of the
    model's posterior of every pair: B B' k decodes where all pairs are scored; marginals are drawn once for each item.

    Args:
        model: a model with likelihoods.
        batch: two modalities, [B, *shape] each; with ``all_pairs`` [B, *shape] and [B', *shape]. Others that the model
            has are integrated out.
        k: samples.
        generator: source of the draws.
        all_pairs: score every item of the first modality beside every item of the second.
        proposal: ``"alone"`` or ``"pair"``; None: ``"alone"`` where it is the model's own posterior of a pair, as of a
            mixture of experts, else ``"pair"``.
        chunk: samples decoded at once; like the next it decides memory and nothing else, but with ``"pair"`` the order
            of the draws.
        rows: items or pairs at once.

    Returns:
        Nats, float64. Noise and bias fall with ``k``; where the posterior of a pair is hard to hit, the bias is down.

    Raises:
        ValueError: naming the argument: no two modalities, sets of different size that are to be paired row by row, a
            model without likelihoods, or one with styles and ``"alone"``.
    """
    k, chunk, rows = whole("k", k), whole("chunk", chunk), whole("rows", rows)
    check_has("model", model, ("posterior", "draw", "log_density"), "a model with likelihoods")
    if not isinstance(batch, Mapping) or len(batch) != 2:
        found = ", ".join(batch) or "nothing" if isinstance(batch, Mapping) else kind(batch)
        raise ValueError(f"batch holds {found}; expected two modalities")
    batch = {name: check_batch(model.modalities, {name: x})[0][name] for name, x in batch.items()}
    sizes = [len(x) for x in batch.values()]
    if not all_pairs and sizes[0] != sizes[1]:
        raise ValueError(f"batch has {sizes[0]} and {sizes[1]} rows; expected as many, or all_pairs=True")
    if proposal is None:
        proposal = "alone" if _is_alone(model, batch) else "pair"
    keep_pages()
    if one_of("proposal", proposal, PROPOSALS) == "alone":
        return _alone(model, batch, k, generator, all_pairs, chunk, rows)
    return _pair(model, batch, k, generator, all_pairs, chunk, rows)


def pmi_by_k(
    model,
    batch: Batch,
    ks: Sequence[int],
    repeats: int = 10,
    generator: torch.Generator | None = None,
    **options,
) -> dict[int, Tensor]:
    """Repeated estimates at each number of samples, to choose one: [repeats, B] or [repeats, B, B'] each, nats.

    Their standard deviation over repeats is the noise; how their mean still moves with K, the bias. ``options`` and
    errors are those of `estimate_pmi`.
    """
    repeats = whole("repeats", repeats, 2)
    return {
        k: torch.stack([estimate_pmi(model, batch, k, generator, **options) for _ in range(repeats)])
        for k in ks
    }


def _posteriors_alone(model, batch: Batch) -> dict[str, Diagonal]:
    """The posterior given either modality alone, [B, D] each; ValueError if it has several components, or styles."""
    found = {name: model.posterior({name: x}) for name, x in batch.items()}
    reasons = [f"a style of {name}" for name in batch if model.style_dims[name]]
    reasons += [f"several components given {name}" for name, q in found.items() if len(q.log_mixture) > 1]
    if reasons:
        raise ValueError(f"proposal is 'alone', and the model has {reasons[0]}; expected 'pair'")
    parts = {name: q.components for name, q in found.items()}
    return {name: Diagonal(q.loc[0], q.scale[0], q.family) for name, q in parts.items()}


def _is_alone(model, batch: Batch) -> bool:
    """Whether the model's posterior of a pair is the mixture of its posteriors given either modality alone."""
    first = {name: x[:1] for name, x in batch.items()}
    pair = model.posterior(first).components
    if len(pair.loc) != 2 or any(model.style_dims[name] for name in batch):
        return False
    order = [name for name in model.modalities if name in batch]
    alone = [model.posterior({name: first[name]}).components for name in order]
    return all(
        torch.allclose(x, y) for q, loc, scale in zip(alone, pair.loc, pair.scale, strict=True)
        for x, y in ((q.loc, loc[None]), (q.scale, scale[None]))
    )  # fmt: skip


def _alone(model, batch, k, generator, all_pairs, chunk, rows) -> Tensor:
    posteriors, names = _posteriors_alone(model, batch), tuple(batch)
    z = {name: q.rsample(k, generator) for name, q in posteriors.items()}  # [K, B, D], whatever the chunks
    (log_first, first), (log_second, second) = (
        _log_sums(model, batch, posteriors, order, z[order[0]], all_pairs, chunk, rows)
        for order in (names, names[::-1])
    )
    sums = torch.stack([first, second.T if all_pairs else second])  # [2, B, B'] or [2, B]
    log_joint = importance_log_likelihood(sums, torch.full_like(sums, -math.log(2)), k)
    log_first, log_second = (
        importance_log_likelihood(own[None], torch.zeros_like(own[None]), k)
        for own in (log_first, log_second)
    )
    log_first = log_first[:, None] if all_pairs else log_first
    return pointwise_mutual_information(log_joint, log_first, log_second)


def _log_sums(model, batch, posteriors, order, z, all_pairs, chunk, rows) -> tuple[Tensor, Tensor]:
    """Log of the summed weights of draws ``z`` [K, B, D]: [B] for items alone, and [B, B'] or [B] for pairs.

    The draws are those given the first modality in ``order``. Each is decoded once: the item that it comes from and all
    of its partners are scored against what was decoded.
    """

    def beside(x: Tensor, partners: int = 1) -> Tensor:
        """``x`` [K, B, ...] with an axis for partners, if there is one: [K, B, B', ...]."""
        return x.unsqueeze(2).expand(-1, -1, partners, *x.shape[2:]) if all_pairs else x

    def scored(name: str, params: Tensor, at: Tensor) -> Tensor:
        seen = torch.ones(len(at), dtype=torch.bool, device=params.device)
        return model.log_density(name, params, batch[name][at], seen).double()

    def density(name: str, codes: Tensor, at: Tensor) -> Tensor:
        q = posteriors[name]
        return Diagonal(q.loc[at], q.scale[at], q.family).log_prob(codes).double()

    (own, other), alone, together = order, [], []
    numbers = {name: torch.arange(len(x), device=x.device).split(rows) for name, x in batch.items()}
    for mine in numbers[own]:
        partners = numbers[other] if all_pairs else [mine]
        sums, pairs = [], [[] for _ in partners]
        for codes in z[:, mine].split(chunk):
            params = model.decode(codes, order)
            log_q = density(own, codes, mine)  # [K, B]
            log_own = scored(own, params[own], mine) + model.prior.log_prob(codes).double()
            sums.append(torch.logsumexp(log_own - log_q, 0))
            for found, theirs in zip(pairs, partners, strict=True):
                log_other = scored(other, beside(params[other], len(theirs)), theirs)
                log_both = torch.logaddexp(beside(log_q), density(other, beside(codes), theirs)) - math.log(2)
                found.append(torch.logsumexp(beside(log_own) + log_other - log_both, 0))
        alone.append(torch.logsumexp(torch.stack(sums), 0))
        together.append(torch.cat([torch.logsumexp(torch.stack(found), 0) for found in pairs], -1))
    return torch.cat(alone), torch.cat(together)


def _pair(model, batch, k, generator, all_pairs, chunk, rows) -> Tensor:
    (first, x), (second, y) = batch.items()
    at = torch.arange(len(x), device=x.device), torch.arange(len(y), device=x.device)
    i, j = (part.flatten() for part in torch.meshgrid(*at, indexing="ij")) if all_pairs else at

    def value(**some: Tensor) -> Tensor:
        return log_marginal(model, some, k=k, generator=generator, chunk=chunk).value

    together = [
        value(**{first: x[a], second: y[b]}) for a, b in zip(i.split(rows), j.split(rows), strict=True)
    ]
    alone = [torch.cat([value(**{name: some}) for some in batch[name].split(rows)]) for name in batch]
    found = pointwise_mutual_information(torch.cat(together), alone[0][i], alone[1][j])
    return found.view(len(x), len(y)) if all_pairs else found
