"""MMALI: encoders and decoders trained against a discriminator of M + 1 distributions (Chen and Zhu 2022)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmlib.checks import one_of, per_name, real, whole
from mmlib.distributions import Diagonal, Mixture, geometric_mean, product_of_experts, single, standard
from mmlib.modality import (
    Batch,
    Mask,
    Modality,
    all_observed,
    check_batch,
    check_names,
    stand_in,
    without_hidden,
)
from mmlib.models.mmali_discriminators import (
    FactorisedDiscriminator,
    JointDiscriminator,
    Side,
    draw,
    mean_over,
)
from mmlib.models.multimodal import MultimodalModel
from mmlib.nets.discriminators import HEADS, Layers, held, initialise, layers_named
from mmlib.ratios import minimax_value, non_saturating_loss

DISCRIMINATORS = ("factorised", "joint")
LOSSES = ("non_saturating", "minimax")
PRODUCTS = ("geometric", "experts")
STYLES = ("own", "source", "random")
PRIOR_STYLES = ("own", "shared")
Minibatch = tuple[Batch, Mask | None]


class MMALI(MultimodalModel):
    """Multimodal adversarially learned inference: unimodal encoders, deterministic decoders, and a discriminator.

    A code is [style, content]: every modality has a style of its own, all share the content. In training all
    encoder distributions q(X) q(c | x_i) prod_j q(s_j | x_j) and the decoder distribution are matched at once. There is
    no density: decoders are deterministic, and what they give is the mean of the modality's likelihood, so that a scale
    which the likelihood could learn stays where it is. The mean of symbols is no symbol. Give them as one-hot vectors:

    >>> from mmlib.nets import modalities
    >>> words = torch.tensor([2, 0, 1])
    >>> batch = {"image": torch.rand(3, 1, 8, 8), "word": F.one_hot(words, 3).float()}
    >>> parts = modalities({"image": (1, 8, 8), "word": (3,)}, latent_dim=5)
    >>> loss, _ = MMALI(parts, content_dim=5, layers="small").generator_loss(batch)

    Args:
        modalities: at least one; their codes have ``style_dim + content_dim`` entries. One modality makes plain ALI.
        content_dim: C.
        style_dim: S; 0 for none.
        discriminator: ``"factorised"`` or ``"joint"``.
        factors: of the factorised one, see `FactorisedDiscriminator`.
        dependence: head of T, ``"perceptron"`` or ``"inner"``.
        layers: units of the discriminators, by name (``"paper"``, ``"small"``) or as `Layers` that say all of the next
            four arguments themselves.
        width: as of `Layers`; so are ``multiplier``, 1 in the paper, and ``power_iterations``, in every update of the
            discriminator, where ``"released"`` is nine for each D0 at M = 2.
        init_std: draw all initial weights, those of encoders and decoders too, from N(0, init_std^2) (0.02 in the
            released code); None: PyTorch's own.
        unimodal: weight of what encoders and decoders pay each D0 alone, which needs no pairs; 0.1 in the released
            code's digit runs, only in words in the paper. A joint discriminator gets D0s for it.
        reconstruction: weight of the squared error of own-style reconstructions, one number or one for each name.
        content_cycle: weight of the squared error of prior contents, decoded and encoded again.
        style_cycle: the same for styles. These three are the released code's alone.
        joint_reconstruction: let the first two use the content that all modalities agree on, not each its own.
        loss: of encoders and decoders, ``"non_saturating"`` or ``"minimax"``.
        scale: rule for the encoders' scales, see ``distributions.scale_from``.

    Raises:
        ValueError: for bad names, sizes, weights or options, or a likelihood whose mean is no item.

    Source: Chen and Zhu 2022; the released code where it says so.
    """

    def __init__(
        self,
        modalities: Sequence[Modality],
        content_dim: int,
        style_dim: int = 0,
        discriminator: str = "factorised",
        factors: str = "binary",
        dependence: str = "perceptron",
        layers: str | Layers = "paper",
        width: float = 1.0,
        multiplier: float = 1.0,
        power_iterations: int | str = 1,
        init_std: float | None = None,
        unimodal: float = 0.0,
        reconstruction: float | Mapping[str, float] = 0.0,
        content_cycle: float = 0.0,
        style_cycle: float = 0.0,
        joint_reconstruction: bool = False,
        loss: str = "non_saturating",
        scale: str = "log_variance",
    ) -> None:
        content_dim, style_dim = whole("content_dim", content_dim), whole("style_dim", style_dim, 0)
        super().__init__(modalities, style_dim + content_dim, "normal", scale)
        self.content_dim, self.style_dim = content_dim, style_dim
        self.style_dims = dict.fromkeys(self.modalities, style_dim)
        for name, modality in self.modalities.items():
            likelihood = modality.likelihood
            if likelihood.discrete or likelihood.params_shape(modality.shape) != modality.shape:
                expected = (
                    "one whose mean is an item: give symbols as one-hot vectors with a NormalLikelihood"
                )
                raise ValueError(f"modality {name!r} has {type(likelihood).__name__}; expected {expected}")
        self.game = one_of("loss", loss, LOSSES)
        one_of("dependence", dependence, HEADS)
        self.reconstruction = per_name("reconstruction", reconstruction, self.modalities, real, 0.0)
        self.unimodal = real("unimodal", unimodal, 0.0)
        self.content_cycle = real("content_cycle", content_cycle, 0.0)
        self.style_cycle = real("style_cycle", style_cycle, 0.0)
        self.joint_reconstruction = one_of("joint_reconstruction", joint_reconstruction, (True, False))
        shapes = {name: modality.shape for name, modality in self.modalities.items()}
        how = {"width": width, "multiplier": multiplier, "power_iterations": power_iterations}
        sizes = shapes, style_dim, content_dim, layers_named(layers, **how, init_std=init_std)
        if init_std is not None:
            initialise(self.modalities, init_std)
        if one_of("discriminator", discriminator, DISCRIMINATORS) == "joint":
            self.discriminator = JointDiscriminator(*sizes, factors if unimodal else None)
        else:
            self.discriminator = FactorisedDiscriminator(*sizes, factors, dependence)

    # --- codes --------------------------------------------------------------------------------------------------

    @property
    def prior(self) -> Diagonal:
        """The prior N(0, I) over a modality's code, loc and scale [D]."""
        return standard(self.latent_dim, next(self.modalities.parameters()))

    def encode_style(self, name: str, x: Tensor) -> Diagonal:
        """Posterior of a modality's style given its item, loc and scale [B, S]."""
        return self._style(self.encode(name, x))

    def posterior(
        self,
        batch: Batch,
        given: Collection[str] | None = None,
        mask: Mask | None = None,
        product: str = "geometric",
    ) -> Mixture:
        """Posterior over the content: one component, [1, B, C]; arguments as of `MultimodalVAE.posterior`.

        The ``product`` is ``"geometric"``, the mean that leaves aligned encoders as they are, or ``"experts"``, their
        product without the prior, for comparison.

        Raises:
            ValueError: for bad input, or if a row observes none of ``given``.
        """
        experts, seen = self.experts(*self._seen(batch, mask, given=given))
        return single(self._content(experts, seen, product))

    def _style(self, code: Diagonal) -> Diagonal:
        return code.split(self.style_dim)[0]

    def _content(self, experts: Diagonal, seen: Tensor, product: str = "geometric") -> Diagonal:
        """Codes [M, B, D] of the modalities that rows have ``seen`` [M, B] to one content, [B, C]."""
        rule = geometric_mean if one_of("product", product, PRODUCTS) == "geometric" else product_of_experts
        return rule(experts.split(self.style_dim)[1], seen)

    # --- generation ---------------------------------------------------------------------------------------------

    def _item(self, name: str, style: Tensor, content: Tensor) -> Tensor:
        """What a decoder makes of styles [B, S] and contents [B, C]: items [B, *shape]."""
        modality = self.modalities[name]
        return modality.likelihood.mean(modality.decode(torch.cat([style, content], -1)))

    @torch.no_grad()
    def sample(
        self, n: int, generator: torch.Generator | None = None, style: str = "own"
    ) -> dict[str, Tensor]:
        """``n`` draws from the prior, items [n, *shape]: one content for all modalities, a style for each.

        With ``style="shared"`` all of them have the first one's style, as in the released code's evaluation.
        """
        drawn = self._decoder_side(whole("n", n), generator)
        if one_of("style", style, PRIOR_STYLES) == "own":
            return drawn.x
        return {name: self._item(name, drawn.style[0], drawn.content[0]) for name in drawn.x}

    @torch.no_grad()
    def generate(
        self,
        batch: Batch,
        given: Collection[str],
        to: Collection[str],
        generator: torch.Generator | None = None,
        mask: Mask | None = None,
        mean: bool = False,
        style: str = "own",
        product: str = "geometric",
    ) -> dict[str, Tensor]:
        """Items [B, *shape] of the modalities ``to``, with content drawn from the posterior given ``given``.

        Arguments as of `MultimodalVAE.generate` (with ``mean`` styles from the prior stay random), ``product`` as of
        `posterior`. The ``style`` is ``"own"``: of the target's encoder where the row's target is given, else a prior
        draw; ``"source"``: in place of that prior draw, the style of the first modality given, as in the released
        code's evaluation; or ``"random"``: a prior draw throughout.

        Raises:
            ValueError: for bad input or an unknown style.
        """
        one_of("style", style, STYLES)
        to = check_names(self.modalities, to, "to")
        first, *_ = given = check_names(self.modalities, given, "given")
        batch, mask, given = self._seen(batch, mask, given=given)
        experts, seen = self.experts(batch, mask, given)
        content, own = self._content(experts, seen, product), self._style(experts)
        content = content.loc if mean else content.rsample(1, generator)[0]
        own = own.loc if mean else own.rsample(1, generator)[0]  # [M, B, S]
        fallback = draw((len(to), *own.shape[1:]), own, generator)
        if style == "source":
            order = [first, *given] if first in given else given
            for i in map(given.index, reversed(order)):  # the last that a row shows stands
                fallback = torch.where(seen[i][:, None], own[i], fallback)
        out = {}
        for name, chosen in zip(to, fallback, strict=True):
            if style != "random" and name in given:
                chosen = torch.where(seen[given.index(name)][:, None], own[given.index(name)], chosen)
            out[name] = self._item(name, chosen, content)
        return out

    # --- the game -----------------------------------------------------------------------------------------------

    def discriminator_loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        second: Minibatch | None = None,
        validate: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the discriminator minimises: a scalar, and the named terms that it is the sum of.

        Its graph does not reach encoders or decoders. ``second`` is another minibatch and its mask, of as many rows,
        for the factors that compare modalities; default: the same one. ``validate`` checks the batches: a loop that has
        checked the whole data set may pass False, with every modality in the batch and what is hidden replaced by
        zeros.
        """
        with torch.no_grad():
            real = self._encoder_side(*self._ready(batch, mask, validate), generator)
            other = real if second is None else self._encoder_side(*self._ready(*second, validate), generator)
            rows, m = real.content.shape[1], len(self.modalities)
            fake = self._decoder_side(rows, generator, 1 if self.discriminator.shared_content else m)
        parts = self.discriminator.loss(real, fake, other, generator)
        return sum(parts.values()), parts

    def generator_loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        second: Minibatch | None = None,
        validate: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What encoders and decoders minimise; its graph does not reach the discriminator.

        Arguments and result as of `discriminator_loss`; the terms are weighted. The joint game is played on complete
        rows, everything else on every row of ``second`` that shows the modality. (The released code pays classes of
        foreign content and reconstructions on the first minibatch and draws codes for the second anew: equal in
        expectation.)
        """
        real = self._encoder_side(*self._ready(batch, mask, validate), generator)
        fake = self._decoder_side(real.content.shape[1], generator)
        other = real if second is None else self._encoder_side(*self._ready(*second, validate), generator)
        game = non_saturating_loss if self.game == "non_saturating" else minimax_value
        with held(self.discriminator):
            logits, unimodal = self.discriminator.logits(real, fake)
            parts = {"game": mean_over(game, logits, rows=real.rows())}
            if self.unimodal and unimodal is not None:
                if other is not real:
                    unimodal = self.discriminator.logits(other, fake)[1]
                loss = self.discriminator.unimodal.game(unimodal, other, self.game)
                parts["unimodal"] = self.unimodal * loss
        parts |= self._reconstruction(other, generator) | self._cycles(fake, generator)
        return sum(parts.values()), parts

    def _reconstruction(self, real: Side, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not any(self.reconstruction.values()):
            return {}
        contents = self._agreed(real, generator) if self.joint_reconstruction else real.content
        terms = []
        for i, (name, weight) in enumerate(self.reconstruction.items()):
            again = self._item(name, real.style[i], contents[i])
            away = (again - real.x[name]).square().flatten(1).mean(1)
            terms.append(weight * mean_over(Tensor.mean, away, rows=real.rows(i)))
        return {"reconstruction": sum(terms)}

    def _cycles(self, fake: Side, generator: torch.Generator | None) -> dict[str, Tensor]:
        if not (self.content_cycle or self.style_cycle):
            return {}
        again = self._encoder_side(fake.x, None, generator)
        contents = self._agreed(again, generator)[:1] if self.joint_reconstruction else again.content
        content = sum(F.mse_loss(content, fake.content[0]) for content in contents)
        style = content.new_zeros(())
        if self.style_dim:
            style = F.mse_loss(again.style, fake.style) * len(again.style)
        return {"content_cycle": self.content_cycle * content, "style_cycle": self.style_cycle * style}

    def _agreed(self, side: Side, generator: torch.Generator | None) -> Tensor:
        """A draw of the content given all that each row shows, for every modality: [M, B, C]."""
        seen = torch.ones_like(side.content[..., 0], dtype=torch.bool) if side.seen is None else side.seen
        return self._content(side.posteriors, seen).rsample(1, generator).expand_as(side.content)

    def _encoder_side(self, batch: Batch, seen: Tensor | None, generator: torch.Generator | None) -> Side:
        like = next(iter(batch.values()))
        found = {name: self.encode(name, x) for name, x in batch.items()}
        posteriors = self._stacked(found, self.modalities)
        style, content = posteriors.rsample(1, generator)[0].tensor_split([self.style_dim], -1)
        x = {
            name: batch[name] if name in batch else like.new_zeros(len(like), *modality.shape)
            for name, modality in self.modalities.items()
        }
        return Side(x, style, content, seen, posteriors)

    def _decoder_side(self, rows: int, generator: torch.Generator | None, contents: int = 1) -> Side:
        """Draws from the prior, with one content for all modalities or as many contents as modalities."""
        like, m = next(self.modalities.parameters()), len(self.modalities)
        style = draw((m, rows, self.style_dim), like, generator)
        content = draw((contents, rows, self.content_dim), like, generator)
        triples = zip(self.modalities, style, content.expand(m, -1, -1), strict=True)
        return Side({name: self._item(name, s, c) for name, s, c in triples}, style, content)

    def _ready(self, batch: Batch, mask: Mask | None, validate: bool) -> tuple[Batch, Tensor | None]:
        """What the encoders may see of a batch, and which rows observe what, bool [M, B]; None if all of it is."""
        if validate:
            batch, mask = check_batch(self.modalities, batch, mask)
        elif mask is None:
            return batch, None
        if len(batch) == len(self.modalities) and all_observed(mask):
            return batch, None
        batch, mask = without_hidden(batch, mask)
        nothing = torch.zeros_like(next(iter(mask.values())))
        seen = torch.stack([mask.get(name, nothing) for name in self.modalities])
        return {name: stand_in(x, mask[name]) for name, x in batch.items()}, seen

    def with_modalities(self, modalities: nn.ModuleDict) -> MMALI:
        """The same model with other encoders and decoders, such as their running average; nothing is copied."""
        twin = copy.copy(self)
        twin._modules = {**self._modules, "modalities": modalities}
        return twin
