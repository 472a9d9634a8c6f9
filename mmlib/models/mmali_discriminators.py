"""The two discriminators of MMALI: one network for everything, or one small network for each factor of the ratios.

Their arguments: ``shapes``, modality name -> shape of one item; ``style_dim``, S, and ``content_dim``, C, of a code;
``layers``, units of the networks; ``factors``, of `UnimodalFactors`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmlib.checks import one_of
from mmlib.distributions import Diagonal
from mmlib.modality import Shapes, module_name
from mmlib.nets.discriminators import Dependence, Everything, Layers, blocks, pair
from mmlib.ratios import (
    assemble_logits,
    class_loss,
    logistic_loss,
    minimax_value,
    non_saturating_loss,
    two_way_value,
)

FACTORS = ("binary", "multiway")


class Side(NamedTuple):
    """Items and codes as one side of the game draws them: the encoders from data, or the decoders from the prior.

    ``content`` holds a code from every encoder. Of the decoders it holds one that all modalities share, or, where only
    single modalities are looked at, one for each.
    """

    x: dict[str, Tensor]  # name -> [B, *shape]
    style: Tensor  # [M, B, S]
    content: Tensor  # [M, B, C] or [1, B, C]
    seen: Tensor | None = None  # bool [M, B]; None: every row shows everything
    posteriors: Diagonal | None = None  # of the encoders: loc and scale [M, B, S + C]

    def rows(self, *modalities: int) -> Tensor | None:
        """Rows that show all of these modalities (default: all there are), bool [B]; None: every row does."""
        if self.seen is None:
            return None
        return (self.seen[list(modalities)] if modalities else self.seen).all(0)


def pairs_of(real: Side, fake: Side) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
    """Of every modality its items [2, B, *shape], codes [n, B, S + C] from all distributions, and whose items they see.

    M blocks of codes are the encoders', with the style of the modality and each one's content, and one the decoders'.
    """
    m, content = len(real.content), torch.cat([real.content, fake.content])  # [n, B, C]
    for i, name in enumerate(real.x):
        style = torch.stack([real.style[i]] * m + [fake.style[i]])
        yield torch.stack([real.x[name], fake.x[name]]), torch.cat([style, content], -1), [0] * m + [1]


class UnimodalFactors(nn.ModuleDict):
    """D0 of every modality, by name: log q(a_i, c) / p(a_i, c) with a_i = (x_i, s_i), encoder against decoder.

    With ``factors="binary"`` D0 tells the encoder's pairs from the decoder's (paper). ``"multiway"``: an (M+1)-way
    classifier that also knows pairs with content from another modality's encoder, points at which the joint logits
    evaluate D0 and which the binary one never sees in training (released code).

    Raises:
        ValueError: for unknown factors.
    """

    multiway = False

    def __init__(self, shapes: Shapes, code_dim: int, layers: Layers, factors: str) -> None:
        for name in shapes:
            module_name(name, UnimodalFactors)
        self.multiway = one_of("factors", factors, FACTORS) == "multiway"
        outputs = len(shapes) + 1 if self.multiway else 1
        layers = layers.called(3 * (len(shapes) + 1))
        super().__init__({name: pair(shape, code_dim, outputs, layers) for name, shape in shapes.items()})

    def ratio(self, said: Tensor) -> Tensor:
        """log q(a, c) / p(a, c) from what a D0 says, [..., outputs] to [...]."""
        return said[..., 0] - said[..., 1] if self.multiway else said[..., 0]

    def forward(self, pairs: Iterable) -> list[Tensor]:
        """What every D0 says, [n, B, outputs], of the pairs of its modality."""
        return [network(*seen) for network, seen in zip(self.values(), pairs, strict=True)]

    def loss_of(self, i: int, real: Side, fake: Side, second: Side) -> Tensor:
        """The loss of the i-th D0, from all rows that show its modality."""
        name = list(self)[i]
        decoded = fake.content[min(i, len(fake.content) - 1)]  # one for each modality, or one for all
        own = torch.cat([real.style[i], real.content[i]], -1)
        decoded = torch.cat([fake.style[i], decoded], -1)
        if self.multiway:
            return self._multiway_loss(i, name, own, decoded, real, fake, second)
        items = torch.stack([real.x[name], fake.x[name]])
        said = self[name](items, torch.stack([own, decoded]), [0, 1])[..., 0]
        return mean_over(logistic_loss, *said, rows=real.rows(i))

    def _multiway_loss(self, i, name, own, decoded, real: Side, fake: Side, second: Side) -> Tensor:
        others = [j for j in range(len(real.content)) if j != i]
        code = [own, decoded, *(torch.cat([second.style[i], second.content[j]], -1) for j in others)]
        items = [real.x[name], fake.x[name], *([] if second is real else [second.x[name]])]
        owner = [0, 1, *[0 if second is real else 2] * len(others)]
        said = self[name](torch.stack(items), torch.stack(code), owner).transpose(1, 2)
        if real.seen is None and second.seen is None:
            return class_loss(said)
        rows = [real.rows(i), real.rows(i), *(second.rows(i, j) for j in others)]
        surprise = -said.log_softmax(1).diagonal(dim1=0, dim2=1).T  # [n, B]
        return sum(mean_over(Tensor.mean, x, rows=chosen) for x, chosen in zip(surprise, rows, strict=True))

    def game(self, every: list[Tensor], real: Side, loss: str) -> Tensor:
        """What encoders and decoders pay each D0, summed over modalities: they want it to take one side for the other.

        With binary factors every row that shows the modality counts; with multiway ones only complete rows do.
        """
        m = len(every)
        terms = []
        for i, said in enumerate(every):
            if self.multiway:
                order = [i, m, *(j for j in range(m) if j != i)]  # blocks in the order of the classes
                game = non_saturating_loss if loss == "non_saturating" else minimax_value
                terms.append(mean_over(game, blocks(said, order).transpose(1, 2), rows=real.rows()))
            else:
                encoded, decoded = said[i, :, 0], said[m, :, 0]
                sides = (decoded, encoded) if loss == "non_saturating" else (encoded, decoded)
                game = logistic_loss if loss == "non_saturating" else two_way_value
                terms.append(mean_over(game, *sides, rows=real.rows(i)))
        return sum(terms)


class JointDiscriminator(nn.Module):
    """One network that sees all items, styles and the content: the baseline of the paper's Table 1.

    With ``factors`` D0s stand beside the network and take no part in its logits, so that encoders and decoders can pay
    a unimodal term here too; None (paper, released code): there are none.
    """

    shared_content = True  # of what the decoders show it in its own step

    def __init__(
        self, shapes: Shapes, style_dim: int, content_dim: int, layers: Layers, factors: str | None = None
    ) -> None:
        super().__init__()
        codes, outputs = len(shapes) * style_dim + content_dim, len(shapes) + 1
        self.network = Everything(shapes, codes, outputs, layers.called(4 * outputs))
        code_dim = style_dim + content_dim
        self.unimodal = None if factors is None else UnimodalFactors(shapes, code_dim, layers, factors)

    def logits(self, real: Side, fake: Side) -> tuple[Tensor, list[Tensor] | None]:
        """Logits [n_from, n_class, B] on samples of all n distributions, and what every D0 says of them."""
        said = None if self.unimodal is None else self.unimodal(pairs_of(real, fake))
        return self._logits(real, fake), said

    def _logits(self, real: Side, fake: Side) -> Tensor:
        m = len(real.content)
        x = {name: torch.stack([real.x[name], fake.x[name]]) for name in real.x}
        styles = torch.stack([real.style] * m + [fake.style])  # [n, M, B, S]
        content = torch.cat([real.content, fake.content])  # [n, B, C]
        code = torch.cat([*styles.unbind(1), content], -1)
        return self.network(x, code, [0] * m + [1]).transpose(1, 2)

    def loss(
        self, real: Side, fake: Side, second: Side, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Cross-entropy of every class, from complete rows, and the loss of every D0; T's minibatch is left alone."""
        parts = {"classes": mean_over(class_loss, self._logits(real, fake), rows=real.rows())}
        for i, name in enumerate(self.unimodal or ()):
            parts[f"unimodal.{name}"] = self.unimodal.loss_of(i, real, fake, second)
        return parts


class FactorisedDiscriminator(nn.Module):
    """2M + 1 small networks, each of which estimates one factor of the density ratios (eqs. 7 and 10 of the paper).

    With a_i = (x_i, s_i), ``unimodal`` holds D0, log q(a_i, c) / p(a_i, c); ``posterior`` D1,
    log q(a_i, c) / (q(a_i) p(c)); ``dependence`` T, log q(x_1..x_M) / prod_k q(x_k), with a head named by the argument
    of that name, ``"perceptron"`` or ``"inner"``. With M = 1 only D0 is left, since D1 cancels: plain ALI.

    Raises:
        ValueError: for unknown factors or an unknown head.
    """

    shared_content = False

    def __init__(
        self,
        shapes: Shapes,
        style_dim: int,
        content_dim: int,
        layers: Layers,
        factors: str = "binary",
        dependence: str = "perceptron",
    ) -> None:
        super().__init__()
        code_dim, several = style_dim + content_dim, len(shapes) > 1
        self.unimodal = UnimodalFactors(shapes, code_dim, layers, factors)
        self.posterior = nn.ModuleDict(
            {n: pair(s, code_dim, 1, layers.called(len(shapes) + 3)) for n, s in shapes.items() if several}
        )
        self.dependence = Dependence(shapes, layers.called(4), dependence) if several else None

    def logits(self, real: Side, fake: Side) -> tuple[Tensor, list[Tensor]]:
        """Joint logits [n_from, n_class, B] on samples of all n distributions, and what every D0 says of them.

        Every network is called once, on all blocks: M of encodings, which share their items, and one of decodings.
        """
        pairs = list(pairs_of(real, fake))
        unimodal = self.unimodal(pairs)  # [n, B, outputs] each
        ratio = torch.stack([self.unimodal.ratio(said) for said in unimodal])
        if self.dependence is None:  # a lone modality
            dependence, posterior = torch.zeros_like(ratio[0]), torch.zeros_like(ratio)
        else:
            networks = zip(self.posterior.values(), pairs, strict=True)
            posterior = torch.stack([network(*seen)[..., 0] for network, seen in networks])
            items = {name: x for name, (x, _, _) in zip(real.x, pairs, strict=True)}
            dependence = blocks(self.dependence(items), pairs[0][2])
        return assemble_logits(dependence, posterior, ratio).transpose(0, 1), unimodal

    def loss(
        self, real: Side, fake: Side, second: Side, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """The loss of every factor: D0 and D1 from all rows that show their modality, T from complete rows.

        T's negatives are its own positives, shuffled in every modality: rows that miss something would let it learn
        which items ever occur in pairs. ``second`` serves T and the contents of other modalities.
        """
        m, rows = real.content.shape[:2]
        stranger = draw(real.content.shape, real.content, generator)  # content that belongs to nothing
        parts = {}
        for i, name in enumerate(real.x):
            parts[f"unimodal.{name}"] = self.unimodal.loss_of(i, real, fake, second)
            if m > 1:
                own = torch.cat([real.style[i], real.content[i]], -1)
                apart = torch.cat([real.style[i], stranger[i]], -1)
                said = self.posterior[name](real.x[name][None], torch.stack([own, apart]), [0, 0])[..., 0]
                parts[f"posterior.{name}"] = mean_over(logistic_loss, *said, rows=real.rows(i))
        if m > 1:
            whole = second.rows()
            order = torch.rand(m, rows, generator=generator, device=real.content.device)
            shuffle = (order if whole is None else order + ~whole).argsort(-1)  # complete rows first
            said = self.dependence({name: x[None] for name, x in second.x.items()}, shuffle)
            if whole is None:
                parts["dependence"] = logistic_loss(*said)
            else:
                count = int(whole.sum())
                parts["dependence"] = mean_over(
                    logistic_loss, said[0][whole], said[1][:count], rows=whole.new_ones(count)
                )
        return parts


def draw(shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal numbers of the dtype and device of ``like``."""
    return torch.empty(shape, dtype=like.dtype, device=like.device).normal_(generator=generator)


def mean_over(loss: Callable[..., Tensor], *values: Tensor, rows: Tensor | None) -> Tensor:
    """``loss`` of the rows (last axis) chosen by bool ``rows`` [B], or of all; 0 where none is chosen."""
    if rows is None:
        return loss(*values)
    if not bool(rows.any()):
        return sum(value[..., :0].sum() for value in values)  # 0, with a gradient of zeros
    return loss(*(value[..., rows] for value in values))
