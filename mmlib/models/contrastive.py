"""Contrastive training of any variational model: what belongs together against what does not (Shi et al. 2021)."""

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mmlib import bounds
from mmlib.bounds import LogWeights
from mmlib.checks import one_of, positive, whole
from mmlib.distributions import Diagonal, Mixture, mixture_of_experts
from mmlib.modality import Batch, Mask, Modality
from mmlib.models.base import Codes, Draws, MultimodalVAE
from mmlib.models.jmvae import JMVAE
from mmlib.models.mmjsd import MMJSD
from mmlib.models.mmvae import MMVAE
from mmlib.models.mopoe import MoPoE, membership
from mmlib.models.mvae import MVAE
from mmlib.models.tuples import Tuples, distinct_shifts, exchanged, random_tuples

ESTIMATORS = {"iwae": bounds.iwae, "cubo": bounds.cubo}
TUPLES = ("anchored", "random")


class Related(NamedTuple):
    """What one component drew for the rows as they are, and what the decoders made of it; K draws, B rows."""

    z: Tensor  # [K, B, D]
    params: dict[str, Tensor]  # [K, B, *shape] each
    log_likelihood: dict[str, Tensor]  # [K, B] each, of the row's own items, unscaled


class Contrastive(MultimodalVAE):
    """A model trained by its own objective and against the likelihood of items that do not belong together.

    Mix it in before the model: ``class ContrastiveMVAE(Contrastive, MVAE)``. Unrelated items come from other rows of
    the batch, whatever their class unless ``filtered``. The joint likelihoods of the tuples that they make are
    estimated from the model's `proposal`, under its fixed prior and with its training weights. A row has fewer
    unrelated tuples than N where the batch is small, or others lack what it observes; where it has none, the model's
    own objective is all there is.

    A component of the proposal that hears a single modality draws and decodes once: unrelated tuples cost densities
    only. Other components draw and decode for every tuple, and so do all components of models with styles.

    Args:
        modalities: as of the model, and so are all options but the last seven.
        gamma: weight of the model's own objective. At 1 and below nothing keeps likelihoods from falling without end.
        negatives: N, items that each modality is exchanged for in turn, or random tuples.
        contrast: estimator of the likelihoods of unrelated tuples, ``"iwae"`` (cI) or ``"cubo"`` (cC).
        tuples: ``"anchored"``, a row's own items with one of them exchanged; ``"random"``, an item of a random row for
            each modality, none of them the row's own but by chance.
        contrast_k: draws from each component; None: the model's own ``k``, or 1 if it has none.
        hold_proposal: cut the proposal of unrelated tuples from the graph, so that they teach the decoders alone, and
            decode every tuple. An encoder that hears unrelated items together can propose codes far away from all
            others, where any likelihood seems as small as it likes: JMVAE's does.
        filtered: an oracle: tuples whose items are all of one class do not count, so that a row has fewer than N;
            ``loss`` must then be told the classes.

    Raises:
        ValueError: for an unknown option, or as the model.

    Source: Shi et al. 2021, Section 3 and Appendix C.
    """

    compares_rows = True

    def __init__(
        self,
        modalities: Sequence[Modality],
        latent_dim: int,
        *args,
        gamma: float = 2.0,
        negatives: int = 5,
        contrast: str = "iwae",
        tuples: str = "anchored",
        contrast_k: int | None = None,
        hold_proposal: bool = False,
        filtered: bool = False,
        **options,
    ) -> None:
        super().__init__(modalities, latent_dim, *args, **options)
        self.gamma, self.negatives = positive("gamma", gamma), whole("negatives", negatives)
        self.contrast = one_of("contrast", contrast, tuple(ESTIMATORS))
        self.tuples = one_of("tuples", tuples, TUPLES)
        self.contrast_k = getattr(self, "k", 1) if contrast_k is None else whole("contrast_k", contrast_k)
        if (
            getattr(self, "estimator", "plain") != "plain"
        ):  # its gradients of draws are for one objective only
            raise ValueError(f"estimator is {self.estimator!r}; a contrastive objective has only 'plain'")
        self.hold_proposal = one_of("hold_proposal", hold_proposal, (True, False))
        self.needs_labels, self._labels = one_of("filtered", filtered, (True, False)), None
        self._kept: dict | None = None  # what the model's own objective makes, while it does

    def __init_subclass__(cls, **kwargs) -> None:
        """Give the class the signature of both parts."""
        super().__init_subclass__(**kwargs)
        model = next(base for base in cls.__mro__ if not issubclass(base, Contrastive))
        options = [*inspect.signature(model).parameters.values()]
        own = inspect.signature(Contrastive.__init__).parameters.values()
        cls.__signature__ = inspect.Signature(options + [x for x in own if x.kind is x.KEYWORD_ONLY])

    # --- hooks --------------------------------------------------------------------------------------------------

    def proposal(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """Hook: the posterior whose draws estimate joint likelihoods, [R, B, D]; here what the model infers."""
        return self.infer(codes, batch, mask)

    def sources(self, names: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Hook: positions of the modalities that each component of the proposal hears; here one hears them all."""
        return [tuple(range(len(names)))]

    # --- the objective ------------------------------------------------------------------------------------------

    def loss(
        self,
        batch: Batch,
        mask: Mask | None = None,
        generator: torch.Generator | None = None,
        validate: bool = True,
        labels: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """As of the model; ``labels`` int64 [B] are the rows' classes, for a model that is ``filtered``."""
        if self.needs_labels != (labels is not None):
            raise ValueError(f"labels is {labels!r}; expected classes if filtered, and else None")
        self._labels = labels
        try:
            return super().loss(batch, mask, generator, validate)
        finally:
            self._labels = None

    def codes(self, batch: Batch, mask: Mask, given: tuple[str, ...]) -> Codes:
        """As of the model."""
        return self._keep("codes", super().codes(batch, mask, given))

    def draw_from(self, *args, **options) -> Draws:
        """As of the model."""
        return self._keep("draws", super().draw_from(*args, **options))

    def _keep(self, name: str, value):
        if self._kept is not None:
            self._kept[name] = value
        return value

    def training_objective(
        self, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> tuple[Tensor, dict]:
        """`contrastive_objective` of the model's own and of the likelihoods of unrelated tuples."""
        self._kept = kept = {}
        try:
            related, parts = super().training_objective(batch, mask, generator)
        finally:
            self._kept = None
        unrelated = self._unrelated(kept["codes"], kept.get("draws"), batch, mask, generator)
        objective = contrastive_objective(related, unrelated, self.gamma)
        return objective, {**parts, "related": related, "unrelated": unrelated}

    def _unrelated(
        self, codes: Codes, draws: Draws | None, batch: Batch, mask: Mask, generator: torch.Generator | None
    ) -> Tensor:
        """How likely unrelated tuples are, put together for each row: [B], nats."""
        m, rows = codes.observed.shape
        n = min(self.negatives, rows - 1)
        if m == 1 or n == 0:
            return codes.experts.loc.new_zeros(rows)
        sources = self.sources(codes.given)
        if self.tuples == "random":
            tuples = [random_tuples(codes.observed, n, generator)]
        else:
            shifts = distinct_shifts(rows, n, codes.observed.device, generator)
            # of two modalities either is exchanged by moving the second: who stays is a matter of whose tuple it is
            tuples = [exchanged(codes.observed, d, shifts) for d in (range(m) if m > 2 else [1])]
        if self._labels is not None:
            labels = self._labels.to(codes.observed.device)
            tuples = [each.of_several_classes(labels, codes.observed) for each in tuples]
        serving = [[self._serves(heard, each) for heard in sources] for each in tuples]
        related = self._related(
            [r for r, some in enumerate(zip(*serving, strict=True)) if any(some)],
            draws, codes, batch, mask, generator,
        )  # fmt: skip
        scores, counts = [], []
        for each, serves in zip(tuples, serving, strict=True):
            parts = {r: related[r] for r, does in enumerate(serves) if does}
            weights = self.tuple_log_weights(each, codes, batch, mask, parts, generator)
            scores.append(ESTIMATORS[self.contrast](weights).view(each.usable.shape))
            counts.append(each.usable & (each.observed(codes.observed) == codes.observed[:, None]).all(0))
        if self.tuples == "random":
            return random_unrelated(scores[0], counts[0])
        if m == 2:
            back = (torch.arange(rows, device=shifts.device) - shifts[:, None]) % rows
            scores.insert(0, scores[0].gather(1, back))
            counts.insert(0, tuples[0].usable.gather(1, back) & codes.observed.all(0))
        return anchored_unrelated(torch.stack(scores), torch.stack(counts), codes.observed)

    # --- likelihoods of tuples ----------------------------------------------------------------------------------

    def _serves(self, heard: tuple[int, ...], tuples: Tuples) -> bool:
        """Whether draws for related items are draws for the tuples, too: what was heard comes from one row."""
        one = len({tuples.groups[m] for m in heard}) == 1
        return one and not self.hold_proposal and not any(self.style_dims.values())

    def _related(
        self, wanted: list[int], draws: Draws | None, codes: Codes, batch: Batch, mask: Mask, generator
    ) -> dict[int, Related]:
        """Draws of the components wanted for the rows as they are: those at hand, if they are of the proposal."""
        if not wanted:
            return {}
        at = {r: r for r in wanted}
        if draws is None or draws.z.shape[:2] != (len(self.sources(codes.given)), self.contrast_k):
            at = {r: i for i, r in enumerate(wanted)}
            posterior = some_of(self.proposal(codes, batch, mask), wanted)
            draws = self.draw_from(posterior, {}, batch, mask, batch, self.contrast_k, generator)
        return {
            r: Related(*(
                {name: x[i] for name, x in field.items()} if isinstance(field, dict) else field[i]
                for field in (draws.z, draws.params, draws.log_likelihood)
            ))
            for r, i in at.items()
        }  # fmt: skip

    def tuple_log_weights(
        self,
        tuples: Tuples,
        codes: Codes,
        batch: Batch,
        mask: Mask,
        related: dict[int, Related],
        generator: torch.Generator | None = None,
    ) -> LogWeights:
        """Log importance weights of N tuples for each row, values [R, K, N B]; draws of ``related`` are used again."""
        rows = tuples.rows.flatten(1)  # [M, N B]
        at = dict(zip(codes.given, rows, strict=True))
        items = {name: x[at[name]] for name, x in batch.items()}
        seen = {name: x[at[name]] for name, x in mask.items()}
        loc, scale = (torch.stack([x[i] for x, i in zip(q, rows, strict=True)])
                      for q in (codes.experts.loc, codes.experts.scale))  # fmt: skip
        styles = {n: Diagonal(q.loc[at[n]], q.scale[at[n]], q.family) for n, q in codes.styles.items()}
        observed = torch.stack([seen[name] for name in codes.given])
        codes = Codes(codes.given, Diagonal(loc, scale, codes.experts.family), observed, styles)
        posterior = self.proposal(codes, items, seen)
        if self.hold_proposal:
            posterior, styles = posterior.detach(), {name: q.detach() for name, q in styles.items()}
        anew = [r for r in range(len(posterior.log_mixture)) if r not in related]
        z, log_likelihood = {}, {}
        if anew:
            some = some_of(posterior, anew)
            draws = self.draw_from(
                some, styles, items, seen, items, self.contrast_k, generator, weighted=True
            )
            if not related:
                return draws.log_weights
            for i, r in enumerate(anew):
                z[r] = draws.z[i]
                log_likelihood[r] = sum(
                    self.weighted({n: x[i] for n, x in draws.log_likelihood.items()}).values()
                )
        for r, part in related.items():
            heard = self.sources(codes.given)[r][0]
            z[r] = part.z[:, rows[heard]]
            each = {
                name: part.log_likelihood[name][:, rows[heard]]
                if tuples.groups[m] == tuples.groups[heard]
                else self._across(name, part.params[name], tuples, heard, m, batch[name], mask[name])
                for m, name in enumerate(codes.given)
            }
            log_likelihood[r] = sum(self.weighted(each).values())
        z, values = (torch.stack([x[r] for r in range(len(x))]) for x in (z, log_likelihood))
        values = bounds.log_weights([values], self.prior.log_prob(z), posterior.log_prob(z))
        return LogWeights(values, posterior.log_mixture)

    def _across(
        self, name: str, params: Tensor, tuples: Tuples, heard: int, m: int, x: Tensor, observed: Tensor
    ) -> Tensor:
        """Log-likelihood of a modality's items given the draws for another's, without a decode: [K, N B]."""
        apart = tuples.shifts[m] - tuples.shifts[heard]  # [N]
        partner = (torch.arange(len(x), device=x.device) + apart[:, None]) % len(
            x
        )  # [N, B], of the drawn row
        found = [
            self.log_density(name, params, x[here], observed[here])[:, rows]
            for here, rows in zip(partner, tuples.rows[heard], strict=True)
        ]
        return torch.cat(found, -1)


def some_of(mixture: Mixture, components: list[int]) -> Mixture:
    """The mixture without its other components, weights as they are."""
    q = mixture.components
    if len(components) == len(q.loc):
        return mixture
    kept = Diagonal(q.loc[components], q.scale[components], q.family)
    return Mixture(kept, mixture.log_mixture[components])


# --- objectives -----------------------------------------------------------------------------------------------------


def contrastive_objective(related: Tensor, unrelated: Tensor, gamma: float) -> Tensor:
    r"""What contrastive training maximises: [B], nats.

    Equation: ``eq-contrastive``. Source: Shi et al. 2021, Eq. 4; it is eq. 3 at gamma = 1.
        L = gamma log p(x_1..M) - unrelated

    ``related`` [B] is the model's own objective, which stands for the likelihood of items that belong together;
    ``unrelated`` [B] comes from `anchored_unrelated` or `random_unrelated`.
    """
    return gamma * related - unrelated


def anchored_unrelated(log_joint: Tensor, counts: Tensor, observed: Tensor) -> Tensor:
    r"""How likely a row's items are with one of them exchanged, averaged over the one that stays: [B], nats.

    Equation: ``eq-anchored-unrelated``. Source: Shi et al. 2021, Eqs. 3 and 10.
        1/M sum_m log sum_{d != m} sum_j p(x_1..M without x_d, x_d^(j))

    Args:
        log_joint: log p of the row's items with modality d exchanged for item j, [M, N, B].
        counts: bool [M, N, B]; what a row does not count is left out.
        observed: bool [M, B]; a modality stays only where it is observed and others are left to be exchanged.
    """
    m, n, b = log_joint.shape
    others = ~torch.eye(m, dtype=torch.bool, device=counts.device)[..., None, None]
    counted = (counts & others).reshape(m, m * n, b)  # [m, (d, j), B]
    sums = log_sum(log_joint.reshape(1, m * n, b), counted)  # [m, B]
    stays = observed & counted.any(1)
    return sums.masked_fill(~stays, 0).sum(0) / stays.sum(0).clamp(min=1)


def random_unrelated(log_joint: Tensor, counts: Tensor) -> Tensor:
    r"""How likely random tuples are: [B], nats; 0 where a row counts none.

    Equation: ``eq-random-unrelated``. Source: Shi et al. 2021, Eq. 13. It has no anchor, so that it is another
    objective for two modalities, too.
        log sum_n p(x_1^(j_1n), ..., x_M^(j_Mn))

    ``log_joint`` is [N, B], and so is bool ``counts``.
    """
    return log_sum(log_joint, counts).masked_fill(~counts.any(0), 0)


def log_sum(log_values: Tensor, counts: Tensor) -> Tensor:
    """Log of the sum of what counts, over the last axis but one; where nothing does, finite and no gradient."""
    nothing = torch.finfo(log_values.dtype).min / 2
    return torch.logsumexp(log_values.masked_fill(~counts, nothing), -2)


# --- the models -----------------------------------------------------------------------------------------------------


class ContrastiveJMVAE(Contrastive, JMVAE):
    """`JMVAE` with a contrastive objective: every unrelated tuple has a pass of its own through the joint encoder."""


class ContrastiveMVAE(Contrastive, MVAE):
    """`MVAE` with a contrastive objective: experts are made once, and multiplied and decoded for every tuple."""


class ContrastiveMMVAE(Contrastive, MMVAE):
    """`MMVAE` with a contrastive objective: no pass through a network that MMVAE does not make."""

    def sources(self, names: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Each component hears one modality."""
        return [(m,) for m in range(len(names))]


class ContrastiveMoPoE(Contrastive, MoPoE):
    """`MoPoE` with a contrastive objective, likelihoods estimated from its mixture over subsets."""

    def proposal(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The mixture over the products of subsets."""
        return self.mixture(codes)

    def sources(self, names: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Each component hears the modalities of its subset."""
        members = membership(self.subsets, names, torch.device("cpu")).tolist()
        return [tuple(m for m, held in enumerate(row) if held) for row in members]


class ContrastiveMMJSD(Contrastive, MMJSD):
    """`MMJSD` with a contrastive objective, likelihoods estimated from its mixture of experts and its fixed prior.

    Its own objective is no bound of these, so that it takes more weight to hold them: where decoders ignore a number of
    the code, experts of scale s there cost beta pi_0 (1 - pi_0) s^2 / 2, with pi_0 the prior's weight, and lower
    likelihoods of unrelated tuples by up to s^2 / 2. From gamma = 1 / (beta pi_0 (1 - pi_0)) on, 4.5 for two
    modalities, nothing is won; with ``dynamic_prior="mixture"`` there is no such gamma.
    """

    def proposal(self, codes: Codes, batch: Batch, mask: Mask) -> Mixture:
        """The mixture of experts, the prior not among them."""
        return mixture_of_experts(codes.experts, codes.observed, self._pi(codes)[:-1])

    def sources(self, names: tuple[str, ...]) -> list[tuple[int, ...]]:
        """Each component hears one modality."""
        return [(m,) for m in range(len(names))]
