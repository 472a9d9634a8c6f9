"""What variational models share: encode, decode, draw, sample, generate, and the protocol that metrics rely on.

A variational method is a subclass of `MultimodalVAE` that overrides two hooks and little else: ``infer``, which says
what its posterior is, and ``training_objective``. One with a prior of its own overrides ``prior``, too.

Arguments that mean the same everywhere: ``batch``, tensors [B, *shape] by modality name; ``mask``, bool [B] by name,
True = observed, so that rows may observe different modalities (None: all there is); ``given``, names of the modalities
that the posterior sees (None: all in the batch); ``generator``, source of the draws.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib import bounds
from mmlib.bounds import LogWeights
from mmlib.checks import one_of, per_name, whole
from mmlib.distributions import Diagonal, EqualMixture, Mixture, kl_divergence, scale_from, standard
from mmlib.modality import (
    Batch,
    Mask,
    Modality,
    check_batch,
    check_names,
    stand_in,
    without_hidden,
)
from mmlib.models.multimodal import MultimodalModel


class Draws(NamedTuple):
    """Samples from a posterior and every density at them; R components, K samples from each, B rows; nats."""

    z: Tensor  # [R, K, B, D], shared by all modalities
    log_weights: LogWeights  # values [R, K, B] and the mixture's weights
    log_likelihood: dict[str, Tensor]  # [R, K, B] each, unscaled, 0 in rows that do not observe the modality
    log_prior: Tensor  # [R, K, B], of the shared code and of the styles
    log_posterior: Tensor  # [R, K, B], the same
    styles: dict[str, Tensor]  # [R, K, B, S] each, of the modalities that have a style
    params: dict[str, Tensor]  # [R, K, B, *shape] each, what the decoders gave

    @property
    def log_mixture(self) -> Tensor:
        """Log mixture weights, [R, B]."""
        return self.log_weights.log_mixture


class Codes(NamedTuple):
    """What the encoders say of the modalities given; one pass through each, B rows."""

    given: tuple[str, ...]  # names, M of them
    experts: (
        Diagonal  # [M, B, D], unimodal posteriors of the shared code; loc 0 and scale 1 where not observed
    )
    observed: Tensor  # bool [M, B]
    styles: dict[
        str, Diagonal
    ]  # [B, S] each, of the modalities that have a style; the prior where not observed


class MultimodalVAE(MultimodalModel):
    """Base of the variational models: modalities, a prior over the code, and one protocol.

    Args:
        modalities: as of `MultimodalModel`; so are the next three, but for the name of the family.
        latent_dim: D.
        posterior: family of the unimodal posteriors and of the prior, ``"normal"`` or ``"laplace"``.
        scale: rule for the posteriors' scales.
        learn_prior: learn the scale of the shared code's prior (its location stays 0); it starts at 1.
        style_dim: S, the size of a modality's style, a code of its own that no other modality has; one for all or one
            for each name. Networks of a modality with a style give and take [style, shared code], S + D numbers.

    Raises:
        ValueError: as `MultimodalModel`, or for a size that is none.

    Source: styles, Sutter et al. 2020, Section 3 and supplement, Eqs. 12 to 15.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        posterior: str = "normal",
        scale: str = "softplus",
        learn_prior: bool = False,
        style_dim: int | Mapping[str, int] = 0,
    ) -> None:
        super().__init__(modalities, latent_dim, posterior, scale)
        self.style_dims = per_name("style_dim", style_dim, self.modalities, whole, 0)
        self.learn_prior = one_of("learn_prior", learn_prior, (True, False))
        start = math.log(math.e - 1) if scale == "softplus" else 0.0
        self.prior_raw = nn.Parameter(torch.full((self.latent_dim,), start), requires_grad=learn_prior)

    # --- distributions ------------------------------------------------------------------------------------------

    @property
    def prior(self) -> Diagonal | EqualMixture:
        """Hook: the prior over the code. Here it has loc 0 and scale [D]: exactly 1 unless it is learned."""
        loc = torch.zeros_like(self.prior_raw)
        scale = scale_from(self.prior_raw, self.scale_rule) if self.learn_prior else torch.ones_like(loc)
        return Diagonal(loc, scale, self.family)

    def encode(self, name: str, x: Tensor) -> Diagonal:
        """Unimodal posterior of [style, shared code]: ``x`` [B, *shape] to loc and scale [B, S + D].

        A scale rule that relates the numbers of a code relates those of the style and of the shared code apart.
        """
        s = self.style_dims[name]
        loc, raw = self.modalities[name].encode(x, s + self.latent_dim)
        parts = [scale_from(part, self.scale_rule) for part in raw.tensor_split([s], -1) if part.shape[-1]]
        return Diagonal(loc, torch.cat(parts, -1) if s else parts[0], self.family)

    def codes(self, batch: Batch, mask: Mask, given: tuple[str, ...]) -> Codes:
        """What the encoders of ``given`` say of a checked batch: one pass through each."""
        observed = torch.stack([mask[name] for name in given])
        found = {
            name: q.split(self.style_dims[name]) for name, q in self._encoded(batch, mask, given).items()
        }
        styles = {name: q.where(mask[name]) for name, (q, _) in found.items() if self.style_dims[name]}
        experts = self._stacked({name: q for name, (_, q) in found.items()}, given)
        return Codes(given, experts.where(observed), observed, styles)

    def experts(self, batch: Batch, mask: Mask, given: tuple[str, ...]) -> tuple[Diagonal, Tensor]:
        """Unimodal posteriors of the shared code, [M, B, D], and which rows observe them, [M, B]."""
        codes = self.codes(batch, mask, given)
        return codes.experts, codes.observed

    def posterior(
        self, batch: Batch, given: Collection[str] | None = None, mask: Mask | None = None
    ) -> Mixture:
        """Posterior over the shared code given the modalities named: a mixture of R components, [R, B, D].

        Raises:
            ValueError: for bad input, or if a row observes none of ``given``.
        """
        batch, mask, given = self._seen(batch, mask, given=given)
        return self.infer(self.codes(batch, mask, given), batch, mask)

    def infer(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """Hook: the posterior over the shared code, [R, B, D], of what the encoders of the modalities given say.

        Most methods need no more than ``codes.experts`` and ``codes.observed``; the checked ``batch`` and ``mask`` are
        for those with another encoder.
        """
        raise TypeError(f"{type(self).__name__} does not say what its posterior is")

    # --- generation ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """``n`` draws from the prior, decoded to mean observations [n, *shape] of every modality."""
        z = self.prior.rsample(whole("n", n), generator)
        return self._means(self.decode(z, styles=self.draw_styles({}, self.modalities, z, generator)))

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        given: Collection[str],
        to: Collection[str],
        generator: torch.Generator | None = None,
        mask: Mask | None = None,
        mean: bool = False,
    ) -> dict[str, Tensor]:
        """Mean observations [B, *shape] of the modalities ``to``, decoded from one posterior draw a row.

        ``to`` may name given ones, too. With ``mean`` the posterior's mean is decoded in place of a draw. The style is
        drawn from the posterior of the row's own item where that is given, else, with ``mean`` too, from the prior.

        Raises:
            ValueError: as `posterior`, or for an unknown name.
        """
        to = check_names(self.modalities, to, "to")
        batch, mask, given = self._seen(batch, mask, given=given)
        codes = self.codes(batch, mask, given)
        posterior = self.infer(codes, batch, mask)
        z = posterior.mean if mean else posterior.sample(generator)
        styles = self.draw_styles(codes.styles, to, z, generator)
        if mean:
            styles |= {
                n: q.loc.where(mask[n][:, None], styles[n]) for n, q in codes.styles.items() if n in to
            }
        return self._means(self.decode(z, to, styles))

    # --- weights and loss ---------------------------------------------------------------------------------------

    def draw(
        self,
        batch: Batch,
        k: int = 1,
        given: Collection[str] | None = None,
        target: Collection[str] | None = None,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        weighted: bool = False,
        detach_posterior: bool = False,
    ) -> Draws:
        """Draw ``k`` codes from every component of a posterior and weigh them.

        The weights explain the modalities ``target`` (default: all in the batch), and of these in each row what it
        observes. ``weighted`` scales likelihoods by their training weights: leave it False for anything reported in
        nats. ``detach_posterior`` cuts the posterior's density, not its samples, from the graph.

        Raises:
            ValueError: for bad input or ``k`` < 1.
        """
        batch, mask, given, target = self._seen(batch, mask, given=given, target=target)
        codes = self.codes(batch, mask, given)
        posterior = self.infer(codes, batch, mask)
        return self.draw_from(
            posterior, codes.styles, batch, mask, target, k, generator, weighted, detach_posterior
        )

    def draw_from(
        self,
        posterior: Mixture,
        styles: Mapping[str, Diagonal],
        batch: Batch,
        mask: Mask,
        target: Iterable[str],
        k: int,
        generator: torch.Generator | None,
        weighted: bool = False,
        detach_posterior: bool = False,
    ) -> Draws:
        """As `draw`, from posteriors of shared code and styles that are at hand: for training objectives."""
        z, target = posterior.rsample_stratified(k, generator), tuple(target)
        drawn = self.draw_styles(styles, target, z, generator)
        params = {name: self.modalities[name].decode(self.code(name, z, drawn)) for name in target}
        log_likelihood = {n: self.log_density(n, params[n], batch[n], mask[n]) for n in target}
        log_prior = self.prior.log_prob(z)
        log_posterior = (posterior.detach() if detach_posterior else posterior).log_prob(z)
        for name, style in drawn.items():
            if name in styles:  # one drawn from its prior has the same density under both
                log_prior = log_prior + self.style_prior(name).log_prob(style)
                q = styles[name].detach() if detach_posterior else styles[name]
                log_posterior = log_posterior + q.log_prob(style)
        terms = self.weighted(log_likelihood) if weighted else log_likelihood
        values = bounds.log_weights(terms.values(), log_prior, log_posterior)
        weights = LogWeights(values, posterior.log_mixture)
        return Draws(z, weights, log_likelihood, log_prior, log_posterior, drawn, params)

    def style_prior(self, name: str) -> Diagonal:
        """The prior over a modality's style, loc 0 and scale 1, [S]."""
        return standard(self.style_dims[name], self.prior_raw, self.family)

    def draw_styles(
        self,
        styles: Mapping[str, Diagonal],
        names: Iterable[str],
        z: Tensor,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """A style for every shared code ``z`` [..., B, D] of those ``names`` that have one: [..., B, S] each.

        It is drawn from the posterior [B, S] in ``styles``, or, where that has none, from the prior.
        """
        drawn, leading = {}, z.shape[:-1]
        for name in (name for name in names if self.style_dims[name]):
            if name in styles:
                many = styles[name].rsample(leading[:-1].numel(), generator)
            else:
                many = self.style_prior(name).rsample(leading.numel(), generator)
            drawn[name] = many.reshape(*leading, self.style_dims[name])
        return drawn

    def style_kls(self, styles: Mapping[str, Diagonal]) -> dict[str, Tensor]:
        """KL(q(s_m | x_m) || p(s_m)) of every style's posterior, [B] each, nats; 0 where not observed."""
        return {name: kl_divergence(q, self.style_prior(name)) for name, q in styles.items()}

    def code(self, name: str, z: Tensor, styles: Mapping[str, Tensor]) -> Tensor:
        """What a modality's decoder takes, [style, shared code], [..., S + D]."""
        return torch.cat([styles[name], z], -1) if self.style_dims[name] else z

    def decode(
        self, z: Tensor, names: Collection[str] | None = None, styles: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Likelihood parameters [..., *shape] of the modalities named (default: all) at shared codes ``z`` [..., D].

        ``styles`` are [..., S] by name; a modality that they lack gets 0, the mean of their prior.
        """
        names = self._decodable(z, names)
        nothing = {n: z.new_zeros(*z.shape[:-1], s) for n, s in self.style_dims.items()}
        styles = nothing | dict(styles or {})
        return {name: self.modalities[name].decode(self.code(name, z, styles)) for name in names}

    def log_likelihood(self, name: str, z: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """log p(x_m | z): [style, shared code] [..., B, S + D] to [..., B], nats; 0 where not ``observed`` [B]."""
        return self.log_density(name, self.modalities[name].decode(z), x, observed)

    def log_density(self, name: str, params: Tensor, x: Tensor, observed: Tensor) -> Tensor:
        """As `log_likelihood`, of what the decoder gave: ``params`` [..., B, *shape] to [..., B]."""
        log_density = self.modalities[name].likelihood.log_prob(params, stand_in(x, observed))
        return log_density.masked_fill(~observed, 0)

    def weighted(self, log_likelihood: dict[str, Tensor]) -> dict[str, Tensor]:
        """Log-likelihoods times the modalities' training weights lambda_m."""
        return {name: self.modalities[name].weight * value for name, value in log_likelihood.items()}

    def log_weights(self, batch: Batch, k: int = 1, **options) -> LogWeights:
        """Log importance weights, values [R, K, B] in nats of unscaled likelihoods; options as in ``draw``.

        They carry the mixture that they were drawn from: ``bounds.iwae(model.log_weights(batch, k, mask=mask))`` is
        right in every row, whatever it observes.
        """
        return self.draw(batch, k, **options).log_weights

    def loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        validate: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The negative training objective, averaged over the batch: a scalar to minimise, and named parts.

        The parts are [B], in nats, ``"objective"`` among them. ``validate`` checks the batch: a training loop that
        checked the whole data set once may pass False, with a mask for every modality, and rows that are not observed
        already replaced by zeros.

        Raises:
            ValueError: for bad input.
        """
        if validate or mask is None:
            batch, mask = check_batch(self.modalities, batch, mask)
        shown, observed = without_hidden(batch, mask)
        objective, parts = self.training_objective(shown, observed, generator)
        if len(shown) < len(batch):  # whoever averages parts over steps counts on all of them
            parts = {f"log_likelihood.{name}": torch.zeros_like(objective) for name in batch} | parts
        return -objective.mean(), {"objective": objective, **parts}

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Hook: what training maximises, [B], and its named parts, [B] each, in nats, of a checked batch and mask.

        The batch lacks modalities that no row observes; ``log_likelihood.<name>`` is the usual name of a likelihood.
        """
        raise TypeError(f"{type(self).__name__} does not say what its objective is")


def average_over_draws(values: Tensor, log_mixture: Tensor) -> Tensor:
    """Mean of ``values`` [R, K, B] over samples and, by weight, over components: [B]."""
    return bounds.elbo(values, log_mixture)


def factorised_kl(shared: Tensor, styles: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    r"""KL of a shared code and of styles that are independent of it and of each other given x: [...], nats.

    At weights of 1 it is the KL of all codes together, since posterior and prior factorise alike.

    Equation: ``eq-factorised-kl``. Source: Sutter et al. 2020, supplement, Eq. 15; weights as in its Section C.3.2.
        KL(q(c | X) || p(c)) + sum_m w_m KL(q(s_m | x_m) || p(s_m))

    ``shared`` is [...], and so is what ``styles`` have for each modality with a style.
    """
    return shared + sum(weights[name] * kl for name, kl in styles.items())
