"""MVAE: the posterior is a product of experts, trained on sub-sampled ELBOs (Wu and Goodman 2018)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from mmlib import bounds
from mmlib.checks import one_of, per_name, real, whole
from mmlib.distributions import Mixture, kl_divergence, product_of_experts, product_of_subsets, single
from mmlib.modality import Batch, Mask, Modality
from mmlib.models.base import Codes, MultimodalVAE, factorised_kl

TERMS = ("joint", "unimodal", "sampled")


class MVAE(MultimodalVAE):
    """Product-of-experts multimodal VAE; the prior is always one of the experts.

    The objective is a sum of ELBOs, one for each of several subsets S of the modalities: all of them, each alone, and
    for more than two modalities ``sampled`` further subsets drawn anew for each batch (size uniform in 2 .. M-1, then
    uniform among the subsets of that size, as in the released code). A row counts a subset once and only if it
    observes it wholly; its full term is that of everything it observes.

    Args:
        modalities: as of `MultimodalVAE`; so are ``latent_dim``, ``scale`` and ``learn_prior`` (N(0, I) in the paper).
        beta: weight of every KL term.
        terms: which ELBOs to sum; ``("joint",)`` is training without sub-sampling, ``("unimodal",)`` what a widely
            used baseline of MVAE optimises.
        sampled: number of subsets drawn for each batch if M > 2.
        weigh_partial_terms: use lambda_m in every ELBO (as the paper writes); False drops it (to 1) outside the full
            term, as the released script for 19 modalities does (but for the image alone, whose weight is 1 there
            unless one asks for another).
        style_dim: S, as of `MultimodalVAE`; a subset's ELBO has the styles of its own modalities.
        style_beta: weight of the KL of a style within every KL term (``beta`` multiplies it, too); one for all or one
            for each name.
        k: draws from each subset's posterior; with more than one, importance-weighted bounds are in the ELBOs' place.

    Raises:
        ValueError: for an unknown or missing term, negative numbers, or styles or a ``beta`` for more than one draw.

    Source: Wu and Goodman 2018, Sections 2.1 and 2.2; styles, Sutter et al. 2020, supplement, Section C.1.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        scale: str = "softplus",
        learn_prior: bool = False,
        beta: float = 1.0,
        terms: Sequence[str] = TERMS,
        sampled: int = 1,
        weigh_partial_terms: bool = True,
        style_dim: int | Mapping[str, int] = 0,
        style_beta: float | Mapping[str, float] = 1.0,
        k: int = 1,
    ) -> None:
        super().__init__(modalities, latent_dim, "normal", scale, learn_prior, style_dim)
        if isinstance(terms, str) or not terms or not set(terms) <= set(TERMS):
            raise ValueError(f"terms is {terms!r}; expected some of {', '.join(TERMS)}")
        self.terms = tuple(terms)
        self.beta, self.sampled = real("beta", beta, 0.0), whole("sampled", sampled, 0)
        self.weigh_partial_terms = one_of("weigh_partial_terms", weigh_partial_terms, (True, False))
        self.style_beta = per_name("style_beta", style_beta, self.modalities, real, 0.0)
        self.k = whole("k", k)
        if k > 1 and (beta != 1 or any(self.style_dims.values())):
            raise ValueError(f"k is {k}; expected 1 with styles, or where beta is not 1 (here {beta})")

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The product of the prior and the experts that a row observes: one component, [1, B, D]."""
        return single(product_of_experts(codes.experts, codes.observed, self.prior))

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`mvae_objective` of the ELBOs of this batch's subsets, ``k`` draws each."""
        names = tuple(batch)
        codes = self.codes(batch, mask, names)
        observed = codes.observed
        members = self._subsets(len(names), generator)  # [S, M] on the CPU, the first is everything
        holders = [column.nonzero()[:, 0].tolist() for column in members.T]  # subsets that hold each modality
        members = _on_device(members, observed.device)
        counts = subset_counts(members, observed)  # [S, B]
        if "joint" not in self.terms:
            counts = torch.cat([torch.zeros_like(counts[:1]), counts[1:]])
            if not bool(counts.any(0).all()):  # such a row would train nothing
                raise ValueError(f"terms is {self.terms}: no ELBO is left for some rows; add 'joint'")
        posterior = product_of_subsets(codes.experts, observed, members, self.prior)  # [S, B, D]
        z = posterior.rsample(self.k, generator)  # [K, S, B, D]
        kl = kl_divergence(posterior, self.prior)  # [S, B]
        log_likelihood = {}
        nothing = z.new_zeros(self.k, z.shape[2])  # [K, B]
        for holding, name in zip(holders, names, strict=True):  # decode only for subsets with the modality
            shared = torch.stack([z[:, s] for s in holding], 1)
            code = self.code(name, shared, self.draw_styles(codes.styles, [name], shared, generator))
            values = self.log_likelihood(name, code, batch[name], mask[name])
            at = dict(zip(holding, values.unbind(1), strict=True))
            log_likelihood[name] = torch.stack([at.get(s, nothing) for s in range(len(members))], 1)
        weighted = [self._weights(name, members, kl) * value for name, value in log_likelihood.items()]
        style_kls = self.style_kls(codes.styles)  # [B] each
        held = {name: members[:, names.index(name), None] * value for name, value in style_kls.items()}
        if self.k == 1:
            weighted = [value[0] for value in weighted]  # [S, B] each
            elbos = subset_elbo(weighted, factorised_kl(kl, held, self.style_beta), self.beta)
        else:
            log_weights = bounds.log_weights(weighted, self.prior.log_prob(z), posterior.log_prob(z))
            elbos = torch.logsumexp(log_weights, 0) - math.log(self.k)
        parts = {f"log_likelihood.{name}": value[:, 0].mean(0) for name, value in log_likelihood.items()}
        parts["kl"] = kl[0]
        if any(self.style_dims.values()):
            parts["style_kl"] = torch.zeros_like(kl[0]) + sum(style_kls.values())
        return mvae_objective(elbos, counts), parts

    def _weights(self, name: str, members: Tensor, like: Tensor) -> Tensor:
        """Likelihood weight of a modality in each subset's ELBO, [S, 1]."""
        weights = like.new_full((len(members), 1), self.modalities[name].weight)
        if self.weigh_partial_terms or len(self.modalities) == 1:
            return weights
        lone = members.shape[1] == 1 and "unimodal" in self.terms  # then the full term is a modality's own
        return torch.cat([torch.ones_like(weights) if lone else weights[:1], torch.ones_like(weights[1:])])

    def _subsets(self, m: int, generator: torch.Generator | None) -> Tensor:
        """The subsets of this step as rows of a bool [S, M]: everything, the singletons, the sampled ones."""
        rows = [torch.ones(1, m, dtype=torch.bool)]
        if m > 1 and "unimodal" in self.terms:
            rows.append(torch.eye(m, dtype=torch.bool))
        if m > 2 and "sampled" in self.terms:
            rows.append(sample_subsets(m, self.sampled, generator))
        return torch.cat(rows)


def _on_device(members: Tensor, device: torch.device) -> Tensor:
    """``members`` on ``device``, copied there once for each set of subsets."""
    return members if device.type == "cpu" else _copied(tuple(map(tuple, members.tolist())), device)


@lru_cache(maxsize=64)
def _copied(members: tuple[tuple[bool, ...], ...], device: torch.device) -> Tensor:
    return torch.tensor(members, device=device)


def sample_subsets(m: int, count: int, generator: torch.Generator | None = None) -> Tensor:
    """``count`` different random subsets of 2 .. m-1 of ``m`` modalities, size first, then members: bool [count, m].

    Raises:
        ValueError: if there are not so many different subsets.
    """
    available = 2 ** whole("m", m, 2) - m - 2
    if whole("sampled", count, 0) > available:
        raise ValueError(f"sampled is {count}; {m} modalities have only {available} subsets of 2 to {m - 1}")
    device = generator.device if generator is not None else None
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        size = int(torch.randint(2, m, (1,), generator=generator, device=device))
        members = torch.randperm(m, generator=generator, device=device)[:size]
        found[tuple(sorted(members.tolist()))] = None
    subsets = torch.zeros(count, m, dtype=torch.bool)
    for row, subset in zip(subsets, found, strict=True):
        row[list(subset)] = True
    return subsets


def subset_counts(members: Tensor, observed: Tensor) -> Tensor:
    """Which subset's ELBO counts in which row, from bool ``members`` [S, M] and ``observed`` [M, B]: bool [S, B].

    The first subset stands for everything a row observes; it counts only where that is more than one modality or no
    singleton term says the same. Any other subset counts where the row observes all of it and something more, or where
    it is a single modality.
    """
    sizes, number_observed = members.sum(1)[:, None], observed.sum(0)  # [S, 1], [B]
    whole = (~members[..., None] | observed).all(1)  # [S, B]: the row observes all of the subset
    counts = whole & ((sizes < number_observed) | (sizes == 1))
    full = (number_observed > 1) | ~(sizes[1:] == 1).any()  # [B]
    return torch.cat([full[None], counts[1:]])


def subset_elbo(log_likelihoods: Iterable[Tensor], kl: Tensor, beta: float = 1.0) -> Tensor:
    r"""ELBO of the modalities of a subset under the posterior that sees just them: [S, B], nats.

    Equation: ``eq-subset-elbo``. Source: Wu and Goodman 2018, Eq. 2.
        ELBO(S) = sum_{m in S} lambda_m log p(x_m | z) - beta KL(q(z | x_S) || p(z)),  z ~ q(z | x_S)
    """
    return sum(log_likelihoods) - beta * kl


def mvae_objective(elbos: Tensor, counts: Tensor) -> Tensor:
    r"""MVAE's objective, the plain sum of the ELBOs [S, B] that count (bool [S, B]): [B], nats.

    Equation: ``eq-mvae``. Source: Wu and Goodman 2018, Eq. 5.
        L = ELBO(x_1..M) + sum_m ELBO(x_m) + sum_j ELBO(S_j)
    """
    return elbos.masked_fill(~counts, 0).sum(0)
