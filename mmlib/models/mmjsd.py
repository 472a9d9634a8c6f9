"""mmJSD: a mixture of experts whose regulariser is a Jensen-Shannon divergence (Sutter et al. 2020)."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from mmlib.checks import one_of, per_name, positive, real
from mmlib.distributions import Mixture, mixture_of_experts, product_of_experts, single
from mmlib.divergences import geometric_jensen_shannon, jensen_shannon, mixture_with_prior
from mmlib.modality import Batch, Mask, Modality
from mmlib.models.base import Codes, MultimodalVAE, factorised_kl

DYNAMIC_PRIORS = ("product", "mixture")
INFERENCES = ("product", "mixture")


class MMJSD(MultimodalVAE):
    """Multimodal Jensen-Shannon VAE: unimodal posteriors and prior are drawn towards a dynamic prior made of them all.

    Each row draws its code from the mixture of the unimodal posteriors that it has, the prior not among them. (The
    paper trains on complete rows only; that others have what is theirs is an extension.)

    The objective is no bound of log p(x), at any weights: nothing relates the divergence to the KL of that mixture to
    the prior, which a bound has in its place. Where experts are wide it is smaller, and the objective may exceed
    log p(x), also at lambda = beta = 1 and exact unimodal posteriors; where they are sharp the product's is larger.
    With ``dynamic_prior="mixture"`` it is never more than log(M + 1) nats. ``log_weights`` give bounds as ever.

    Args:
        modalities: as of `MultimodalVAE`; so are ``latent_dim``, ``scale`` and ``learn_prior`` (N(0, I) in the paper).
        beta: weight of the divergence and of the styles' KLs.
        dynamic_prior: ``"product"``, the normalised product of powers, closed form (all published runs);
            ``"mixture"``, from a draw of each of the M + 1 distributions, none of which is decoded.
        weights: pi_m of the unimodal posteriors, one for all or one for each name; the prior has what is left to 1.
            None: 1 / (M + 1) for each. A row's weights are normalised over what it observes and the prior.
        inference: what the posterior of given modalities is: ``"product"``, of their experts alone, as in the paper's
            tables; ``"mixture"``, which is trained.
        style_dim: S, as of `MultimodalVAE`.
        style_beta: weight of the KL of a style (``beta`` multiplies it, too); one for all or one for each name.

    Raises:
        ValueError: for an unknown option, a negative weight, or ``weights`` that leave nothing for the prior.

    Source: Sutter et al. 2020 and its supplement, Sections B and C.3.2; the released code where it says so.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        scale: str = "softplus",
        learn_prior: bool = False,
        beta: float = 1.0,
        dynamic_prior: str = "product",
        weights: float | Mapping[str, float] | None = None,
        inference: str = "product",
        style_dim: int | Mapping[str, int] = 0,
        style_beta: float | Mapping[str, float] = 1.0,
    ) -> None:
        super().__init__(modalities, latent_dim, "normal", scale, learn_prior, style_dim)
        self.beta = real("beta", beta, 0.0)
        self.dynamic_prior = one_of("dynamic_prior", dynamic_prior, DYNAMIC_PRIORS)
        self.inference = one_of("inference", inference, INFERENCES)
        equal = 1 / (len(self.modalities) + 1)
        given = equal if weights is None else weights
        self.weights = per_name("weights", given, self.modalities, positive)
        self.prior_weight = 1 - sum(self.weights.values())
        if self.prior_weight <= 0:
            raise ValueError(
                f"weights add up to {1 - self.prior_weight:g}; expected less than 1, the rest is the prior's"
            )
        self.style_beta = per_name("style_beta", style_beta, self.modalities, real, 0.0)

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The product of the experts that a row observes, [1, B, D], or their mixture, [M, B, D]."""
        if self.inference == "product":
            return single(product_of_experts(codes.experts, codes.observed))
        return mixture_of_experts(codes.experts, codes.observed, self._pi(codes)[:-1])

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`mmjsd_objective` at one draw a row."""
        codes = self.codes(batch, mask, tuple(batch))
        pi = self._pi(codes)
        drawn = mixture_of_experts(codes.experts, codes.observed, pi[:-1]).choose(generator)
        draws = self.draw_from(single(drawn), codes.styles, batch, mask, batch, 1, generator)
        log_likelihood = {name: value[0, 0] for name, value in draws.log_likelihood.items()}
        everything = mixture_with_prior(codes.experts, codes.observed, self.prior, pi)
        if self.dynamic_prior == "product":
            divergence = geometric_jensen_shannon(everything)
        else:
            divergence = jensen_shannon(everything, everything.rsample_stratified(1, generator))
        style_kls = self.style_kls(codes.styles)
        parts = {f"log_likelihood.{name}": value for name, value in log_likelihood.items()}
        parts["js_divergence"] = divergence
        if any(self.style_dims.values()):
            parts["style_kl"] = torch.zeros_like(divergence) + sum(style_kls.values())
        divergence = factorised_kl(divergence, style_kls, self.style_beta)
        return mmjsd_objective(self.weighted(log_likelihood).values(), divergence, self.beta), parts

    def _pi(self, codes: Codes) -> Tensor:
        """Weights of the modalities given and, last, of the prior: [M + 1]."""
        shares = [*(self.weights[name] for name in codes.given), self.prior_weight]
        return torch.stack([codes.experts.loc.new_full((), share) for share in shares])


def mmjsd_objective(log_likelihoods: Iterable[Tensor], divergence: Tensor, beta: float = 1.0) -> Tensor:
    r"""What mmJSD maximises: [B], nats.

    Equation: ``eq-mmjsd``. Source: Sutter et al. 2020, supplement, Eq. 18; weights as in its Section C.3.2.
        L = sum_m lambda_m log p(x_m | s_m, c) - beta [JS_pi(q_1 .. q_M, p) + sum_m w_m KL(q(s_m | x_m) || p(s_m))]

    Args:
        log_likelihoods: lambda_m log p(x_m | s_m, c), [B] each, c from the mixture of unimodal posteriors.
        divergence: JS_pi of these and the prior, and the KLs of the styles with their weights: [B].
        beta: weight of the divergence.
    """
    return sum(log_likelihoods) - beta * divergence
