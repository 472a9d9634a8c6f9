"""Diagonal normals and Laplaces, their products and their mixtures: everything that a posterior is made of.

``experts`` are a stack of them, loc and scale [M, B, D]; ``observed``, bool [M, B], says which of them each row has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmlib.checks import one_of, whole

_ELEMENTWISE = {"normal": torch.distributions.Normal, "laplace": torch.distributions.Laplace}
FAMILIES = tuple(_ELEMENTWISE)
SCALES = ("softplus", "softmax_budget", "log_variance")
MINIMUM_SCALE = 1e-6


@dataclass(frozen=True)
class Diagonal:
    """A factorised normal or Laplace distribution over the last axis of ``loc`` [..., D], the mean.

    Its ``scale`` [..., D] is the standard deviation (``"normal"``) or the diversity b (``"laplace"``).

    Raises:
        ValueError: if the family is unknown or ``scale`` does not have the shape of ``loc``.
    """

    loc: Tensor
    scale: Tensor
    family: str = "normal"

    def __post_init__(self) -> None:
        one_of("family", self.family, FAMILIES)
        shape, found = tuple(self.loc.shape), tuple(self.scale.shape)
        if shape != found:
            raise ValueError(f"scale has shape {found}; expected {shape} to match loc")

    @property
    def stddev(self) -> Tensor:
        """Standard deviation, [..., D]."""
        return self.scale if self.family == "normal" else self.scale * math.sqrt(2)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-density of ``z`` [..., D] in nats, summed over D; leading axes broadcast."""
        return _ELEMENTWISE[self.family](self.loc, self.scale, validate_args=False).log_prob(z).sum(-1)

    def rsample(self, k: int, generator: torch.Generator | None = None) -> Tensor:
        """``k`` reparameterised draws, [k, ..., D]."""
        noise = torch.empty(whole("k", k), *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
        if self.family == "normal":
            noise.normal_(generator=generator)
        else:  # the inverse distribution function at a uniform number in (-1, 1)
            noise.uniform_(torch.finfo(noise.dtype).eps - 1, 1, generator=generator)
            noise = -noise.sign() * torch.log1p(-noise.abs())
        return self.loc + self.scale * noise

    def detach(self) -> Diagonal:
        """The same distribution, cut from the graph."""
        return Diagonal(self.loc.detach(), self.scale.detach(), self.family)

    def split(self, n: int) -> tuple[Diagonal, Diagonal]:
        """The distributions of the first ``n`` coordinates and of the others."""
        (loc, other_loc), (scale, other_scale) = (x.tensor_split([n], -1) for x in (self.loc, self.scale))
        return Diagonal(loc, scale, self.family), Diagonal(other_loc, other_scale, self.family)

    def where(self, present: Tensor) -> Diagonal:
        """The same where bool ``present`` [...] is True; elsewhere loc 0 and scale 1, so that NaN goes nowhere."""
        absent = ~present[..., None]
        return Diagonal(self.loc.masked_fill(absent, 0), self.scale.masked_fill(absent, 1), self.family)


@dataclass(frozen=True)
class Mixture:
    """A mixture of R diagonal distributions [R, B, D] for each of B rows; every posterior is one (R = 1: no mixture).

    Where ``log_mixture`` [R, B], the log weights, are ``-inf``, a row does not have the component; its loc and scale
    are then 0 and 1, whatever was given.
    """

    components: Diagonal
    log_mixture: Tensor

    def __post_init__(self) -> None:
        shape, found = tuple(self.components.loc.shape), tuple(self.log_mixture.shape)
        if len(shape) != 3:
            raise ValueError(f"components.loc has shape {shape}; expected [R, B, D]")
        if found != shape[:2]:
            expected = f"{shape[:2]}, one weight for each component and row"
            raise ValueError(f"log_mixture has shape {found}; expected {expected}")
        if len(self.log_mixture) > 1:
            object.__setattr__(self, "components", self.components.where(self.log_mixture > -math.inf))

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, [B, D]."""
        return (self.log_mixture.exp()[..., None] * self.components.loc).sum(0)

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Log-density of a mixture of experts: ``z`` [..., B, D] to [..., B], nats.

        Equation: ``eq-mixture-of-experts``. Source: Shi et al. 2019, Section 3, with equal weights.
            log qbar(z) = log sum_r pi_r q_r(z)
        """
        log_density = self.components.log_prob(z.unsqueeze(-3))  # [..., R, B]
        return torch.logsumexp(log_density + self.log_mixture, dim=-2)

    def rsample_stratified(self, k: int, generator: torch.Generator | None = None) -> Tensor:
        """``k`` reparameterised draws from *every* component, [R, k, B, D]: no component index is ever drawn."""
        return self.components.rsample(k, generator).transpose(0, 1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw a row, [B, D], its component drawn by weight; not differentiable."""
        with torch.no_grad():
            draws = self.components.rsample(1, generator)[0]  # [R, B, D]
            if len(draws) == 1:
                return draws[0]
            chosen = torch.multinomial(self.log_mixture.exp().T, 1, generator=generator)  # [B, 1]
            return torch.gather(draws, 0, chosen.T[..., None].expand(1, -1, draws.shape[-1]))[0]

    def choose(self, generator: torch.Generator | None = None) -> Diagonal:
        """One component for each row, [B, D], drawn by its weights and shared out evenly over the rows.

        Every row has each of its components with the right probability, whatever the order of rows; over a batch with
        equal weights no two components are chosen in numbers that differ by more than one.
        """
        q = self.components
        if len(q.loc) == 1:
            return Diagonal(q.loc[0], q.scale[0], q.family)
        upto = self.log_mixture.detach().float().exp().cumsum(0)  # [R, B]
        u = systematic(upto.shape[1], upto.device, generator) * upto[-1]
        chosen = (upto <= u).sum(0)[None, :, None].expand(1, -1, q.loc.shape[-1])  # the first beyond u
        return Diagonal(q.loc.gather(0, chosen)[0], q.scale.gather(0, chosen)[0], q.family)

    def detach(self) -> Mixture:
        """The same mixture, cut from the graph."""
        return Mixture(self.components.detach(), self.log_mixture.detach())


@dataclass(frozen=True)
class EqualMixture:
    """An equal mixture of R diagonal distributions, loc and scale [R, D], the same for every row: a prior."""

    components: Diagonal

    def log_prob(self, z: Tensor) -> Tensor:
        r"""Log-density of ``z`` [..., D]: [...], nats.

        Equation: ``eq-pseudo-prior``. Source: Joy et al. 2022, Section 3.3; Tomczak and Welling 2018, the VampPrior.
            log p(z) = log 1/R sum_i p_i(z)
        """
        r, d = self.components.loc.shape
        each = [  # in parts, so that memory does not grow with the number of draws
            torch.logsumexp(self.components.log_prob(part[:, None]), -1)
            for part in z.reshape(-1, d).split(max(1, 2**23 // (r * d)))
        ]
        return torch.cat(each).reshape(z.shape[:-1]) - math.log(r)

    def rsample(self, k: int, generator: torch.Generator | None = None) -> Tensor:
        """``k`` draws, [k, D], shared out evenly over the components."""
        q = self.components
        rows = whole("k", k)
        every = Diagonal(q.loc[:, None].expand(-1, rows, -1), q.scale[:, None].expand(-1, rows, -1), q.family)
        log_mixture = q.loc.new_full((len(q.loc), rows), -math.log(len(q.loc)))
        return Mixture(every, log_mixture).choose(generator).rsample(1, generator)[0]


def systematic(n: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """``n`` numbers in [0, 1), each of them uniform, one in every n-th part, in random order: [n]."""
    drawn = torch.empty(n + 1, device=device).uniform_(generator=generator)
    start, order = drawn[0], drawn[1:].argsort()
    return ((order + start) / n).clamp(max=1 - torch.finfo(drawn.dtype).eps)


def standard(size: int, like: Tensor, family: str = "normal") -> Diagonal:
    """The prior of loc 0 and scale 1 over ``size`` coordinates, in the type and on the device of ``like``."""
    return Diagonal(like.new_zeros(size), like.new_ones(size), family)


def single(q: Diagonal) -> Mixture:
    """A plain posterior [B, D] as the mixture that it is: one component of weight one."""
    components = Diagonal(q.loc[None], q.scale[None], q.family)
    return Mixture(components, q.loc.new_zeros(1, q.loc.shape[0]))


def mixture_of_experts(experts: Diagonal, observed: Tensor, weights: Tensor | None = None) -> Mixture:
    """Mixture over each row's observed experts: equal, or by ``weights`` as of `geometric_mean`.

    Raises:
        ValueError: if a row observes nothing, or the weights have another shape or sign.
    """
    share = _shares(experts, observed, weights)
    return Mixture(experts, torch.log(share.where(observed, 1)).masked_fill(~observed, -math.inf))


def product_of_experts(experts: Diagonal, observed: Tensor, prior: Diagonal | None = None) -> Diagonal:
    r"""Normalised product of normal experts and, if given, of the prior: precisions add.

    Equation: ``eq-product-of-experts``. Source: Wu and Goodman 2018, Section 2.1.
        precision = sum_m 1 / sigma_m^2 (+ 1 / sigma_0^2),  mean = sum_m mu_m / sigma_m^2 / precision

    Experts not observed in a row are left out of its product, [B, D]; the prior is [D].

    Raises:
        ValueError: if an expert is not normal, or if a row has no factor at all.
    """
    _check_normal(experts, prior)
    _check_observed(experts, observed, allow_none=prior is not None)
    experts = experts.where(observed)
    precision = observed[..., None] / experts.scale**2  # [M, B, D]
    total, weighted = precision.sum(0), (precision * experts.loc).sum(0)
    if prior is not None:
        total = total + prior.scale**-2
        weighted = weighted + prior.loc * prior.scale**-2
    return Diagonal(weighted / total, total.rsqrt())


def product_of_subsets(
    experts: Diagonal,
    observed: Tensor,
    members: Tensor,
    prior: Diagonal | None = None,
    with_prior: Tensor | None = None,
) -> Diagonal:
    """`product_of_experts` of each of S subsets, of those members that a row observes: [S, B, D].

    Where a row observes none of them and there is no prior, loc is 0 and scale 1.

    Args:
        experts: [M, B, D].
        observed: bool [M, B].
        members: bool [S, M], the experts of each subset.
        prior: [D].
        with_prior: bool [S, B], or what broadcasts to it: where the prior is a factor; None: everywhere.

    Raises:
        ValueError: if an expert is not normal.
    """
    _check_normal(experts, prior)
    _check_observed(experts, observed, allow_none=True)
    experts = experts.where(observed)
    precision = observed[..., None] / experts.scale**2  # [M, B, D]
    held = members.to(precision.dtype).T[..., None, None]  # [M, S, 1, 1]
    # sums, not products of matrices, which autocast would round to three digits
    total = sum(h * p for h, p in zip(held, precision, strict=True))  # [S, B, D]
    weighted = sum(h * p for h, p in zip(held, precision * experts.loc, strict=True))
    nothing = ~(members[..., None] & observed).any(1)  # [S, B]
    if prior is not None:
        share = torch.ones_like(nothing) if with_prior is None else with_prior.expand_as(nothing)
        nothing = nothing & ~share
        total = total + share[..., None] * prior.scale**-2
        weighted = weighted + share[..., None] * prior.loc * prior.scale**-2
    total = total.masked_fill(nothing[..., None], 1)
    return Diagonal(weighted / total, total.rsqrt())


def geometric_mean(experts: Diagonal, observed: Tensor, weights: Tensor | None = None) -> Diagonal:
    r"""Normalised weighted geometric mean of the observed normal experts: precisions are averaged, not added.

    With equal weights it is the product of the K observed experts, without a prior, with its variance times K; it is
    never sharper than the sharpest of them.

    Equation: ``eq-geometric-mean``. Source: Nielsen 2020; Chen and Zhu 2022, Proposed Method; Sutter et al. 2020,
    supplement, Eqs. 10 and 11, with the inverse that is missing there.
        precision = sum_m w_m / sigma_m^2,  mean = sum_m w_m mu_m / sigma_m^2 / precision,  sum_m w_m = 1

    The mean is [B, D]; weights are [M] or [M, B], positive where observed, and normalised over the experts that each
    row observes.

    Raises:
        ValueError: if an expert is not normal, a row observes nothing, or the weights have another shape or sign.
    """
    if experts.family != "normal":
        raise ValueError(f"experts are {experts.family}; a geometric mean has a closed form for normal only")
    share = _shares(experts, observed, weights)
    experts = experts.where(observed)
    precision = share[..., None] / experts.scale**2  # [M, B, D]
    total = precision.sum(0)
    return Diagonal((precision * experts.loc).sum(0) / total, total.rsqrt())


def _shares(experts: Diagonal, observed: Tensor, weights: Tensor | None) -> Tensor:
    """Weights [M] or [M, B], or equal ones, as shares of the experts that each row observes: [M, B]."""
    _check_observed(experts, observed)
    share = observed.to(experts.loc.dtype)
    if weights is not None:
        if weights.shape not in (observed.shape, observed.shape[:1]):
            raise ValueError(
                f"weights have shape {tuple(weights.shape)}; expected "
                f"{tuple(observed.shape[:1])} or {tuple(observed.shape)}"
            )
        share = (weights if weights.ndim == 2 else weights[:, None]).where(observed, 0)
        if share.device.type == "cpu" and not bool((share > 0).eq(observed).all()):
            raise ValueError(f"weights are {weights.tolist()}; expected positive numbers")
    return share / share.sum(0)


def _check_normal(experts: Diagonal, prior: Diagonal | None) -> None:
    for name, factor in (("experts", experts), ("prior", prior)):
        if factor is not None and factor.family != "normal":
            found = f"{name} are {factor.family}"
            raise ValueError(f"{found}; a product of experts has a closed form for normal only")


def _check_observed(experts: Diagonal, observed: Tensor, allow_none: bool = False) -> None:
    if observed.shape != experts.loc.shape[:2] or observed.dtype != torch.bool:
        found, shape = f"{observed.dtype} of shape {tuple(observed.shape)}", tuple(experts.loc.shape[:2])
        raise ValueError(f"observed is {found}; expected bool of shape {shape} ([M, B])")
    if not allow_none and observed.device.type == "cpu" and not bool(observed.any(0).all()):
        raise ValueError("observed has a row without any modality; expected at least one observed a row")


def kl_divergence(q: Diagonal, p: Diagonal) -> Tensor:
    r"""KL(q || p) between two diagonals of one family, in nats, summed over D: [...].

    Equation: ``eq-kl``. Source: closed forms, for example Kingma and Welling 2014, Appendix B (normal).

    Raises:
        ValueError: if the families differ (there is no closed form).
    """
    if q.family != p.family:
        raise ValueError(f"q is {q.family} and p is {p.family}; a closed-form KL needs one family")
    elementwise = _ELEMENTWISE[q.family]
    factors = (elementwise(d.loc, d.scale, validate_args=False) for d in (q, p))
    return torch.distributions.kl_divergence(*factors).sum(-1)


def scale_from(raw: Tensor, kind: str) -> Tensor:
    """Turn a network's raw output [..., D] into positive scales by the named rule.

    It is ``"softplus"``; ``"softmax_budget"``; or ``"log_variance"``, exp(raw / 2) with raw kept within +-10.

    Raises:
        ValueError: if the rule is unknown.
    """
    if one_of("scale", kind, SCALES) == "softplus":
        return F.softplus(raw) + MINIMUM_SCALE
    return softmax_budget(raw) if kind == "softmax_budget" else torch.exp(0.5 * raw.clamp(-10, 10))


def softmax_budget(raw: Tensor) -> Tensor:
    r"""Scales that share a budget: they sum to D, so that one dimension is sharp only if another is wide.

    Equation: ``eq-softmax-budget``. Source: Shi et al. 2019, released code.
        b_d = D exp(raw_d) / sum_d' exp(raw_d') + 1e-6
    """
    return raw.shape[-1] * raw.softmax(-1) + MINIMUM_SCALE
