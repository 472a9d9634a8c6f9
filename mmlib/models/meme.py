"""MEME: each modality is a conditional prior for the other (Joy et al. 2022)."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, real, whole
from mmlib.distributions import (
    Diagonal,
    EqualMixture,
    Mixture,
    kl_divergence,
    mixture_of_experts,
    product_of_experts,
    single,
)
from mmlib.modality import Batch, Mask, Modality, all_observed, along_rows, module_name, without_hidden
from mmlib.models.base import Codes, MultimodalVAE

KLS = ("analytic", "sampled")
ESTIMATES = ("mean", "fresh", "sum")
COMBINATIONS = ("mixture", "product")


class MEME(MultimodalVAE):
    r"""Mutually supervised multimodal VAE: no prior N(0, I); the code of one modality is drawn to that of the other.

    In the direction s to t the code comes from q(z | s), its prior is q(z | t), the encoder of t, and it must explain
    s and, as a classifier, t. The other direction uses the same networks with the parts exchanged; a row's objective is
    the mean of both (the released code takes the sum). Of more than two modalities each in turn faces a `combination`
    of the others, in both directions; a row that lacks some takes those that it has, and needs two.

    A row of one modality has no such prior. In its place stands a mixture of what the other encoders say of
    ``pseudo_samples`` for each modality: items that are learned, symbols excepted, which stay data. The first items
    that training shows fill them. The prior of all of these is `prior`, by our own definition, since the paper has
    none: `sample` draws from it, and ``log_weights`` and all likelihoods are under it. Complete rows never train it.

    At its defaults the objective is what the released code maximises, and no bound. With ``alpha=1``,
    ``kl="sampled"`` and ``estimate="mean"`` each direction, plus log p(t), bounds a joint log-likelihood of its own.

    Args:
        modalities: as of `MultimodalVAE`; so are ``latent_dim`` and ``scale``. Their weights lambda_m are powers of
            the likelihoods wherever these stand, so that weights and bounds are those of a tempered model.
        k: K, fresh codes for log q(t | s).
        alpha: weight of log q(t | s); 10 as released, 1 as printed. At 1 nothing teaches the decoder of t (see
            `log_predictive`).
        kl: ``"analytic"``, in closed form, as released (of mixtures its convex bound); ``"sampled"``, the log-ratio at
            the code drawn, as printed.
        estimate: of log q(t | s), as in `log_predictive`.
        stop_gradient: whether the weight is cut from the graph; False is the whole gradient.
        pseudo_samples: P, of each modality.
        combination: what several given modalities say: ``"mixture"`` or ``"product"`` of their encoders.

    Raises:
        ValueError: for an unknown option or a number out of range.

    Source: Joy et al. 2022, Section 3 and Appendices A to E; the released code where it says so.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        scale: str = "softplus",
        k: int = 10,
        alpha: float = 10.0,
        kl: str = "analytic",
        estimate: str = "mean",
        stop_gradient: bool = True,
        pseudo_samples: int = 128,
        combination: str = "mixture",
    ) -> None:
        super().__init__(modalities, latent_dim, "normal", scale)
        self.k, self.alpha = whole("k", k), real("alpha", alpha, 0.0)
        self.kl = one_of("kl", kl, KLS)
        self.estimate = one_of("estimate", estimate, ESTIMATES)
        self.stop_gradient = one_of("stop_gradient", stop_gradient, (True, False))
        self.combination = one_of("combination", combination, COMBINATIONS)
        rows = whole("pseudo_samples", pseudo_samples)
        self.pseudo = nn.ParameterDict()
        for name, modality in self.modalities.items():
            items = torch.randn(rows, *modality.shape)  # until training has shown some
            learned = not modality.likelihood.discrete
            items = items if learned else torch.zeros_like(items, dtype=torch.int64)
            self.pseudo[module_name(name, nn.ParameterDict)] = nn.Parameter(items, requires_grad=learned)
        self.register_buffer("shown", torch.zeros(len(self.modalities), dtype=torch.int64))

    # --- distributions ------------------------------------------------------------------------------------------

    @property
    def prior(self) -> EqualMixture:
        """What the encoders say of all pseudo-samples, 1/(M P) sum_m sum_i q(z | u_i^m)."""
        return self.pseudo_prior(self.modalities)

    def pseudo_prior(self, names: Iterable[str]) -> EqualMixture:
        """What the encoders of some modalities say of their pseudo-samples."""
        found = [self.encode(name, self.pseudo[name]) for name in names]
        return EqualMixture(Diagonal(torch.cat([q.loc for q in found]), torch.cat([q.scale for q in found])))

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The encoder of a lone modality; of several that a row observes, their combination."""
        return self._combined(codes.experts, codes.observed)

    def _combined(self, experts: Diagonal, observed: Tensor) -> Mixture:
        if self.combination == "mixture":
            return mixture_of_experts(experts, observed)
        return single(product_of_experts(experts, observed))

    # --- the objective ------------------------------------------------------------------------------------------

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`mutual_objective` in rows of several modalities, `partial_bound` in the others.

        Parts, averaged over a row's directions: of the likelihoods, ``cross.<name>``, an estimate of log q(x | others);
        ``kl``; and ``weight``, whose mean is 1 and whose spread says how few codes count.
        """
        if self.training:
            self._fill(batch, mask)
        names, parts = tuple(batch), _Averages()
        codes = self.codes(batch, mask, names)
        several = codes.observed.sum(0) > 1  # [B]
        complete = len(names) == len(self.modalities) > 1 and all_observed(mask)
        for m in range(len(names)):
            rows = _rows(codes.observed[m] & several, complete)
            lone = _rows(codes.observed[m] & ~several, False) if not complete else rows[:0]
            if len(rows):
                self._faced(m, rows, codes, batch, mask, generator, parts)
            if len(lone):
                self._alone(m, lone, codes, batch, generator, parts)
        found = parts.averages(several)
        return found.pop("objective"), found

    def _faced(
        self, m: int, rows: Tensor, codes: Codes, batch: Batch, mask: Mask, generator, parts: "_Averages"
    ) -> None:
        """A modality and what else the rows have, each in turn explaining the other."""
        names = codes.given
        batch, seen = ({n: x[rows] for n, x in each.items()} for each in (batch, mask))
        experts = Diagonal(codes.experts.loc[:, rows], codes.experts.scale[:, rows])
        observed, others = codes.observed[:, rows], [i for i in range(len(names)) if i != m]
        own = single(Diagonal(experts.loc[m], experts.scale[m]))
        faced = self._combined(Diagonal(experts.loc[others], experts.scale[others]), observed[others])
        ways = [([m], own, others, faced), (others, faced, [m], own)]
        for source, q, target, p in (
            ways if len(self.modalities) > 2 else ways[:1]
        ):  # of two, the other m has it
            z = _draws(q, self.k + 1, generator)  # [K + 1, B, D], the first is the code drawn
            divergence = _kl(q, p) if self.kl == "analytic" else q.log_prob(z[0]) - p.log_prob(z[0])
            s, t = ([names[i] for i in side] for side in (source, target))
            log_s, log_t = self._explain(z[:1], s, batch, seen), self._explain(z, t, batch, seen)
            weighted_t = sum(self.weighted(log_t).values())  # [K + 1, B]
            predictive = log_predictive(weighted_t, self.estimate)
            log_weight = log_supervision_weight(weighted_t[0], predictive)
            value = paired_bound(
                sum(self.weighted(log_s).values())[0],
                weighted_t[0],
                divergence,
                log_weight.detach() if self.stop_gradient else log_weight,
                predictive,
                self.alpha,
            )
            parts.add("objective", rows, value)
            parts.add("kl", rows, divergence)
            parts.add("weight", rows, log_weight.exp())
            for name, each in log_s.items():
                parts.add(f"log_likelihood.{name}", rows, each[0], seen[name])
            if len(t) == 1:
                parts.add(f"cross.{t[0]}", rows, log_predictive(log_t[t[0]], self.estimate))

    def _alone(self, m: int, rows: Tensor, codes: Codes, batch: Batch, generator, parts: "_Averages") -> None:
        """Rows that observe this modality alone."""
        name = codes.given[m]
        q = Diagonal(codes.experts.loc[m, rows], codes.experts.scale[m, rows])
        z = q.rsample(1, generator)
        prior = self.pseudo_prior([n for n in self.modalities if n != name] or [name])
        seen = {name: torch.ones_like(rows, dtype=torch.bool)}
        found = self._explain(z, [name], {name: batch[name][rows]}, seen)
        ratio = q.log_prob(z[0]) - prior.log_prob(z[0])
        parts.add("objective", rows, partial_bound(self.weighted(found)[name][0], ratio))
        parts.add("kl", rows, ratio)
        parts.add(f"log_likelihood.{name}", rows, found[name][0])

    def _explain(self, z: Tensor, names: Iterable[str], batch: Batch, seen: Mask) -> dict[str, Tensor]:
        """Log-likelihoods [N, B] of each modality that a row has, from codes [N, B, D]: one pass of its decoder."""
        shown, observed = without_hidden(*({n: x[n] for n in names} for x in (batch, seen)))
        return {name: self.log_likelihood(name, z, x, observed[name]) for name, x in shown.items()}

    @torch.no_grad()
    def _fill(self, batch: Batch, mask: Mask) -> None:
        """Put items that training shows in place of the pseudo-samples that have not been shown any yet."""
        for m, name in enumerate(self.modalities):
            bank, seen = self.pseudo[name], mask.get(name)
            full = self.shown.device.type == "cpu" and int(self.shown[m]) == len(bank)
            if seen is None or full:  # another device is not asked: that would keep the processor waiting
                continue
            order = seen.int().argsort(descending=True, stable=True)  # rows that show it first
            new = torch.arange(len(bank), device=bank.device) - self.shown[m]
            items = batch[name][order[new.clamp(0, len(order) - 1)]].to(bank.dtype)
            bank.copy_(torch.where(along_rows((new >= 0) & (new < seen.sum()), items), items, bank))
            self.shown[m] = (self.shown[m] + seen.sum()).clamp(max=len(bank))


class _Averages:
    """Means of named parts over the times that each row has them."""

    def __init__(self) -> None:
        self.found: dict[str, list] = {}

    def add(self, name: str, rows: Tensor, values: Tensor, seen: Tensor | None = None) -> None:
        counts = torch.ones_like(values) if seen is None else seen.to(values)
        self.found.setdefault(name, []).append((rows, values, counts))

    def averages(self, like: Tensor) -> dict[str, Tensor]:
        """[B] each, 0 in rows that never had the part."""
        means = {}
        for name, each in self.found.items():
            table = [torch.zeros(2, len(like), dtype=v.dtype, device=v.device) for _, v, _ in each]
            table = [
                t.index_copy(1, r, torch.stack([v, c])) for t, (r, v, c) in zip(table, each, strict=True)
            ]
            values, counts = torch.stack(table, 1)  # [N, B] each
            means[name] = mutual_objective(values, counts)
        return means


def _rows(chosen: Tensor, everything: bool) -> Tensor:
    """Indices of the rows chosen, without asking the device where all are."""
    return torch.arange(len(chosen), device=chosen.device) if everything else chosen.nonzero()[:, 0]


def _draws(q: Mixture, n: int, generator: torch.Generator | None) -> Tensor:
    """``n`` reparameterised draws from each row's mixture, [n, B, D], exchangeable: no component is favoured."""
    r, rows, d = q.components.loc.shape
    if r == 1:
        return q.components.rsample(n, generator)[:, 0]
    repeated = Diagonal(q.components.loc.repeat(1, n, 1), q.components.scale.repeat(1, n, 1))
    chosen = Mixture(repeated, q.log_mixture.repeat(1, n)).choose(generator)
    return chosen.rsample(1, generator)[0].view(n, rows, d)


def _kl(q: Mixture, p: Mixture) -> Tensor:
    """KL(q || p), [B], if neither has more than one component; else an upper bound, the mean over pairs of them."""
    pair = [Diagonal(x.components.loc, x.components.scale) for x in (q, p)]
    left = Diagonal(pair[0].loc[:, None], pair[0].scale[:, None])  # [R, 1, B, D]
    each = kl_divergence(
        Diagonal(*(x.expand(-1, len(pair[1].loc), -1, -1) for x in (left.loc, left.scale))), pair[1]
    )
    return ((q.log_mixture[:, None] + p.log_mixture).exp() * each).sum((0, 1))


# --- equations ------------------------------------------------------------------------------------------------------


def log_predictive(log_t: Tensor, estimate: str = "mean") -> Tensor:
    r"""Estimate of log q(t | s) from codes of s: [B], nats.

    Equation: ``eq-meme-predictive``. Source: Joy et al. 2022, Eq. 8, with the - log that is missing there; Appendix D.
        log q(t | s) ~ log 1/(K+1) sum_{k=0}^{K} q(t | z_k),  z_k ~ q(z | s)

    With this mean, which includes the code z_0 that the bound is taken at, and where the weight is cut from the graph,
    what a direction sends to the decoder of t is (alpha - 1) times the gradient of this estimate: nothing at alpha = 1.

    Args:
        log_t: log q(t | z_k), [K + 1, B], the first at z_0.
        estimate: ``"mean"``; ``"fresh"``, the mean over the others; ``"sum"``, Eq. 8 as printed, which is the mean with
            alpha times K + 1 and all else as it was, divided by K + 1.

    Raises:
        ValueError: for an unknown estimate.
    """
    used = log_t[1:] if one_of("estimate", estimate, ESTIMATES) == "fresh" else log_t
    return torch.logsumexp(used, 0) - (0 if estimate == "sum" else math.log(len(used)))


def log_supervision_weight(log_t: Tensor, log_predictive: Tensor) -> Tensor:
    r"""Logarithm of the weight of a code of s in what is learned of s and t together: [B], nats.

    Its exponential has mean 1 and is at most K + 1 where z is among the codes of the estimate.

    Equation: ``eq-meme-weight``. Source: Joy et al. 2022, Eq. 10, with the estimate's mean in place of a sum.
        log w = log q(t | z) - log q(t | s)
    """
    return log_t - log_predictive


def paired_bound(
    log_s: Tensor,
    log_t: Tensor,
    divergence: Tensor,
    log_weight: Tensor,
    log_predictive: Tensor,
    alpha: float = 1.0,
) -> Tensor:
    r"""What one direction maximises, s to t: [B], nats.

    Equation: ``eq-meme-paired``. Source: Joy et al. 2022, Eq. 1, with the denominator of Eq. 6; alpha is of the
    released code.
        L(s, t) = w [log p(s | z) - log q(t | z) - log q(z | s) / q(z | t)] + alpha log q(t | s)

    Without log p(t), which depends on no network. ``divergence`` is log q(z | s) / q(z | t) at z, or its mean, the KL.
    """
    return log_weight.exp() * (log_s - log_t - divergence) + alpha * log_predictive


def mutual_objective(directions: Tensor, counts: Tensor) -> Tensor:
    r"""Mean of the directions [N, B] that a row has, ``counts`` 1 or 0, [N, B]: [B], nats; 0 where it has none.

    Equation: ``eq-meme``. Source: Joy et al. 2022, Eq. 2; Joy et al. 2022, Eq. 11, with both orders of each pair.
        L = 1/2 [L(s, t) + L(t, s)];  for M > 2: 1/(2M) sum_m [L(x_m, X_-m) + L(X_-m, x_m)]
    """
    return (directions * counts).sum(0) / counts.sum(0).clamp(min=1)


def partial_bound(log_s: Tensor, log_ratio: Tensor) -> Tensor:
    r"""Bound on the log-likelihood of a modality that is alone, under the prior of the pseudo-samples: [B], nats.

    Equation: ``eq-meme-partial``. Source: Joy et al. 2022, Eq. 3; Joy et al. 2022, Eq. 4.
        L(s) = log p(s | z) - log q(z | s) / p_u(z),  z ~ q(z | s)

    ``log_ratio`` is log q(z | s) / p_u(z) at z, of `EqualMixture.log_prob`.
    """
    return log_s - log_ratio
