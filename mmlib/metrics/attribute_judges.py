"""Judges of attributes: a network of pictures, the spelling of strings, and average precision.

Most attributes are rare, so that an accuracy is high for who always says no. Average precision asks how far above the
others the faces stand that have an attribute; by chance it is the share of those faces.

Pictures are judged by a network that was trained on the training split. Strings need none: a name is spelled, and where
it stands to the letter there is nothing to be learned. What a decoder is unsure of is graded by how much of the name
stands at the best place, see `spelling`; so a string that is certain has scores of 1 for exactly what it states.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.checks import kind, positive, whole
from mmlib.data.attributes import FILL, AttributedSet, spoken
from mmlib.data.cache import cache_root
from mmlib.data.core import SPLITS
from mmlib.data.text import ALPHABET
from mmlib.metrics.classifiers import stored, train_judge
from mmlib.metrics.split import cast, check_mode, precision_of
from mmlib.nets.residual import AttributeClassifier
from mmlib.seeding import check_device, child

VERSION = 1  # change it when training changes, so that nothing old is read from the cache
MEAN = "mean"  # over the attributes
BEFORE, AFTER = " " + FILL, "," + FILL  # what may stand around a name


@dataclass(frozen=True)
class AttributeJudges:
    """A judge of pictures, and what is true of every face.

    Args:
        network: images [B, 3, H, W] in [0, 1] to a logit for each attribute [B, A], in evaluation mode.
        names: of the attributes, as CelebA spells them.
        attributes: bool [N, A] of the faces of all splits, by number (``original``).
        showable: whether pictures of what is generated may be kept.
    """

    network: Callable[[Tensor], Tensor]
    names: tuple[str, ...]
    attributes: Tensor
    showable: bool = True

    @torch.no_grad()
    def scores(self, name: str, items: Tensor) -> Tensor:
        """How much speaks for each attribute, [B, A], in items of a modality, real or generated.

        Args:
            name: "image" or "text".
            items: images [B, 3, H, W] in [0, 1]; symbols, int64 [B, L], or their probabilities [B, L, 71].

        Raises:
            ValueError: if the network is in training mode.
        """
        if name == "text":
            return spelling(items, self.names)
        if isinstance(self.network, nn.Module):
            check_mode(self.network, "judges.network")
            items = cast({name: items}, precision_of(self.network))[name]
        return self.network(items)

    def truth(self, numbers: Tensor) -> Tensor:
        """Attributes, bool [B, A], of faces by number, int64 [B]."""
        return self.attributes[numbers.cpu()]

    def to(self, device) -> AttributeJudges:
        """The same judges, the network on ``device`` (it is moved in place, as PyTorch does)."""
        moved = self.network.to(device) if isinstance(self.network, nn.Module) else self.network
        return replace(self, network=moved)


def fit_attribute_judges(
    data: AttributedSet,
    steps: int = 600,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    width: float = 0.125,
    shift: int = 2,
    seed: int = 0,
    cache=None,
    device="cpu",
) -> AttributeJudges:
    """Train the judge of pictures on the training split, or read it from the cache.

    As in :func:`mmlib.metrics.train_classifiers` the number of steps is fixed and the last one is kept, so that no
    split is used to choose, and the judge does not depend on how pictures are paired with strings.

    Args:
        data: faces with attributes, all of the training part.
        steps: training steps.
        batch_size: pictures a step.
        learning_rate: peak, of AdamW with weight decay 0.01.
        width: factor on the channels of :class:`mmlib.nets.AttributeClassifier`.
        shift: pictures are moved by up to so many pixels either way.
        seed: of weights, batches and shifts.
        cache: data folder; default as in :func:`mmlib.data.load`. False trains without a cache.
        device: where to train.

    Raises:
        ValueError: for a data set of another kind, or an impossible option.
        OSError: if the judge cannot be kept, before it is trained.
    """
    device = check_device(device)
    if not isinstance(data, AttributedSet):
        raise ValueError(f"data is {kind(data)}; expected faces with attributes, such as load('faces')")
    options = {
        "steps": whole("steps", steps),
        "batch_size": whole("batch_size", batch_size),
        "learning_rate": positive("learning_rate", learning_rate),
        "shift": whole("shift", shift, 0),
        "seed": whole("seed", seed, 0),
    }
    numbers = torch.cat([data.splits[split].items["image"].original.cpu() for split in SPLITS])
    kept = {split: data.attributes[split][: len(data.splits[split].items["image"])] for split in SPLITS}
    known = torch.zeros(int(numbers.max()) + 1, len(data.attribute_names), dtype=torch.bool)
    known[numbers] = torch.cat(list(kept.values()))
    items = data.train.items["image"].to("cpu")

    def network() -> AttributeClassifier:
        return AttributeClassifier(items.shape, len(data.attribute_names), positive("width", width))

    def make() -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(child(seed, "image", "weights"))
            judge = network().to(device)
        judge = train_judge(judge, items, kept["train"].float(), "image", device=device, **options)
        return {key: value.cpu() for key, value in judge.state_dict().items()}

    drawn = {key: value for key, value in data.provenance.items() if key != "place"}  # strings have no say
    about = {"attributes": VERSION, "data": drawn, "options": options | {"width": width}}
    facts = json.loads(json.dumps(about | {"torch": torch.__version__}))
    tensors = (
        make()
        if cache is False
        else stored(cache_root(cache), f"classifiers-{data.name}-attributes", facts, make)
    )
    with torch.device("meta"):  # draws no weights: the caller's random numbers stay where they are
        judge = network()
    judge.load_state_dict(tensors, assign=True)
    return AttributeJudges(judge.to(device).eval(), data.attribute_names, known, data.showable)


def spelling(text: Tensor, names: Sequence[str]) -> Tensor:
    r"""How much of each attribute's name stands at its best place in a string: [N, A], from 0 to 1.

    Equation: ``eq-spelling``. Source: ours; the released code of Sutter et al. 2020 trains a network.

    A name w of n characters begins after a blank, an asterisk or at the start, and ends before a comma, an asterisk or
    at the end; these count as its characters 0 and n + 1.

    .. code-block:: text

        score = max_t 1/(n + 2) sum_{k=0}^{n+1} p(x_{t+k} in w_k),   t the place of the character before the name

    Of symbols that are certain it is 1 if the name stands there to the letter, and less if not.

    Args:
        text: symbols, int64 [N, L], or their probabilities [N, L, 71].
        names: of the A attributes, as CelebA spells them.
    """
    text = (text if text.is_floating_point() else F.one_hot(text, len(ALPHABET))).float()
    words = [[BEFORE, *spoken(name), AFTER] for name in names]
    longest = max(map(len, words))
    filters = torch.zeros(len(words), len(ALPHABET), longest)
    for a, word in enumerate(words):
        for k, allowed in enumerate(word):
            filters[a, [ALPHABET.index(character) for character in allowed], k] = 1.0
    rim = F.one_hot(torch.tensor(ALPHABET.index(FILL)), len(ALPHABET)).to(text)
    rim = rim.expand(len(text), 1, -1)
    beyond = text.new_zeros(
        len(text), longest, len(ALPHABET)
    )  # here nothing stands: shorter names end before
    padded = torch.cat([rim, text, rim, beyond], 1).transpose(1, 2)
    lengths = text.new_tensor([len(word) for word in words])
    return F.conv1d(padded, filters.to(text)).amax(-1) / lengths


def average_precision(truth: Tensor, scores: Tensor) -> Tensor:
    r"""Average precision: the mean, over faces that have an attribute, of its share among all that score no less.

    Equation: ``eq-average-precision``. Source: Sutter et al. 2020, supplement, Section C.4.3, without a formula.

    .. code-block:: text

        AP = 1/|A| sum_{i in A} |{j in A: s_j >= s_i}| / |{j: s_j >= s_i}|

    Args:
        truth: bool [N], who has it (A); somebody has.
        scores: [N].

    Returns:
        A scalar in (0, 1], float64: 1 if all who have it stand above all others, and their share if all scores tie.
    """
    has = scores[truth]
    found, among = ((s.sort().values, len(s)) for s in (has, scores))
    above = [n - torch.searchsorted(s, has) for s, n in (found, among)]  # who scores no less than each of A
    return (above[0].double() / above[1]).mean()


def average_precisions(truth: Tensor, scores: Tensor, names: Sequence[str]) -> dict[str, dict]:
    """Average precision of every attribute that some faces have and others not, and their mean.

    Source: Sutter et al. 2020, supplement, Section C.4.3.

    Args:
        truth: bool [N, A].
        scores: [N, A].
        names: of the attributes.

    Returns:
        Name, or "mean", to ``{"value", "se", "n", "clusters"}``; no standard error.

    Raises:
        ValueError: if the shapes differ, or there is no such attribute.
    """
    if truth.shape != scores.shape or truth.shape[1:] != (len(names),):
        found = f"{tuple(truth.shape)}, {tuple(scores.shape)}"
        raise ValueError(f"truth and scores have shapes {found}; expected [N, {len(names)}] both")
    values = {}
    for name, has, score in zip(names, truth.cpu().T, scores.double().cpu().T, strict=True):
        if has.any() and not has.all():
            values[name] = float(average_precision(has, score.contiguous()))
    if not values:
        raise ValueError(
            f"truth has {len(truth)} rows, all alike; expected some with an attribute, some without"
        )
    values[MEAN] = sum(values.values()) / len(values)
    return {
        name: {"value": value, "se": None, "n": len(truth), "clusters": len(truth)}
        for name, value in values.items()
    }
