"""What a model of pictures and captions is worth: correlations of what it generates, and how true its captions are.

Where classes of training and test differ no classifier can judge. Judges here are word vectors and canonical
projections, fitted to the training data once and kept, since correlations under another fit cannot be compared; and, of
birds whose attributes are known, the grammar of their captions.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmlib.checks import one_of, positive, whole
from mmlib.data.cache import cache_root, generated
from mmlib.data.caption_coder import CaptionCoder
from mmlib.data.captioned import CaptionedSet
from mmlib.data.core import SPLITS
from mmlib.data.grammar import ATTRIBUTES, agreement
from mmlib.data.vocabulary import END, Vocabulary
from mmlib.metrics.cca import COMPONENTS, CONVENTIONS, Projection, cca_score, fit_cca
from mmlib.metrics.codes import relatedness, unimodal_posteriors, wasserstein
from mmlib.metrics.estimates import estimate
from mmlib.metrics.sentences import (
    main_direction,
    plain_weights,
    sentence_vectors,
    sif_weights,
    without,
    word_vectors,
)
from mmlib.metrics.split import batches_of, observing, whole_rows

VERSION = 2  # change it when fitting changes, so that nothing old is read from the cache
NAMES = ("image", "caption")
OTHER = {"image": "caption", "caption": "image"}
JOINT = "all"
CODES = "codes"  # the name of a projection of codes, beside those of sentence vectors


@dataclass(frozen=True)
class CaptionJudges:
    """Word vectors and projections, fitted once; and pictures to look up what is generated.

    Args:
        vectors: ``[V, size]`` of the vocabulary's symbols.
        weights: ``[V]`` of the symbols.
        direction: ``[size]``, taken out of every caption; None: nothing is.
        projections: by convention, see `mmlib.metrics.cca.fit_cca`; of captions as codes also "codes", of the codes
            themselves, by the official convention.
        vocabulary: what symbols stand for.
        features: ``[N, F]`` of the training pictures, in the order of their numbers (``original``), from 0.
        probe: ``[F + 1, values of all attributes]``, see `told`; None: attributes are unknown, and so are the next.
        attributes: int64 ``[N + ..., 10]`` of the pictures of all splits, by number.
        pictures: uint8 ``[N + ..., 3, H, W]``, of the same; None: there are none to show.
        coder: reads captions that are codes; None: all are symbols.
    """

    vectors: Tensor
    weights: Tensor
    direction: Tensor | None
    projections: Mapping[str, Projection]
    vocabulary: Vocabulary
    features: Tensor
    probe: Tensor | None = None
    attributes: Tensor | None = None
    pictures: Tensor | None = None
    coder: CaptionCoder | None = None

    def _of_codes(self, data: CaptionedSet, k: int) -> CaptionJudges:
        """The same judges for captions as codes; under "codes" they correlate pictures and codes as they are.

        Source: Chen and Zhu 2022, Table 4, whose captions are features; lengths of directions are the official ones.
        """
        images, codes = (data.train.items[name].values for name in NAMES)
        images = images.repeat_interleave(len(codes) // len(images), 0)
        own = {CODES: fit_cca(images, codes, k, convention="official")}
        return replace(self, projections={**self.projections, **own}, coder=data.coder)

    def symbols(self, captions: Tensor) -> Tensor:
        """Captions as symbols, int64 [N, L]: codes [N, C] are read, symbols stay."""
        return self.coder.decode(captions) if captions.is_floating_point() else captions

    def read(self, captions: Tensor) -> list[str]:
        """Captions, as symbols or codes, as text."""
        return self.vocabulary.decode(self.symbols(captions).cpu())

    def sentences(self, captions: Tensor) -> Tensor:
        """Captions, int64 [N, L] or codes [N, C], as vectors float64 [N, size]."""
        found = sentence_vectors(self.symbols(captions), self.vectors, self.weights)
        return found if self.direction is None else without(found, self.direction)

    def correlation(self, images: Tensor, captions: Tensor, convention: str = CONVENTIONS[0]) -> Tensor:
        """How well features [N, F] and captions, int64 [N, L] or codes [N, C], go together: [N], from -1 to 1."""
        said = captions if convention == CODES else self.sentences(captions)
        return cca_score(self.projections[convention], images, said)

    def nearest(self, images: Tensor, rows: int = 500) -> Tensor:
        """The training picture whose features are nearest to each of [N, F], by Euclidean distance: int64 [N]."""
        found = [torch.cdist(part, self.features).argmin(1) for part in images.float().split(rows)]
        return torch.cat(found)

    def told(self, images: Tensor) -> Tensor:
        """The attributes that features [N, F] tell, int64 [N, 10]: by least squares on the training pictures."""
        scores = F.pad(images.float(), (0, 1), value=1.0) @ self.probe
        each = scores.split([len(values) for values in ATTRIBUTES.values()], 1)
        return torch.stack([part.argmax(1) for part in each], 1)

    def agreement(self, captions: Tensor, attributes: Tensor) -> tuple[Tensor, Tensor]:
        """As `mmlib.data.grammar.agreement`, of captions as symbols, int64 [N, L], or codes [N, C]."""
        return agreement(self.read(captions), attributes.cpu())

    def to(self, device) -> CaptionJudges:
        """The same judges on ``device``; attributes and pictures, which no model sees, stay."""
        names = ("vectors", "weights", "direction", "features", "probe")
        kept = {name: x for name in names if (x := getattr(self, name)) is not None}
        moved = {name: x.to(device) for name, x in kept.items()}
        if self.coder is not None:
            moved["coder"] = copy.deepcopy(self.coder).to(device)
        return replace(self, projections={c: p.to(device) for c, p in self.projections.items()}, **moved)


def fit_caption_judges(
    data: CaptionedSet,
    size: int = 300,
    k: int = COMPONENTS,
    a: float | None = 1e-3,
    remove: bool = True,
    seed: int = 0,
    cache=None,
) -> CaptionJudges:
    """Fit the judges of a data set of features and captions to its training part, or read them from the cache.

    The defaults are the released code of Shi et al. 2019; ``a=None, remove=False`` is the plain mean of Joy et al.
    2022. Every caption is used, beside the features of its picture.

    Args:
        data: all of the training part: not a fraction, so that all models have the same judges. Where captions are
            codes, word vectors and projections are those of the same captions in words.
        size: numbers of a word vector.
        k: pairs of canonical directions.
        a: of the weights of words, see `mmlib.metrics.sentences.sif_weights`; None: all words weigh the same.
        remove: take the main direction out of the captions' vectors.
        seed: of the word vectors.
        cache: data folder; default as in :func:`mmlib.data.load`. False fits without a cache.

    Raises:
        ValueError: for a data set of another kind, or an impossible option.
        ModuleNotFoundError: if gensim is needed and not installed.
    """
    items = getattr(data, "train", None) and data.train.items
    if not isinstance(data, CaptionedSet) or len(items["image"].shape) != 1:
        raise ValueError("data is no data set of features and captions; expected one such as load('birds')")
    if data.coder is not None:
        return fit_caption_judges(data.words, size, k, a, remove, seed, cache)._of_codes(data, k)
    options = {"size": whole("size", size), "k": whole("k", k), "seed": whole("seed", seed, 0)}
    options |= {
        "a": None if a is None else positive("a", a),
        "remove": one_of("remove", remove, (True, False)),
    }

    def make() -> dict[str, Tensor]:
        symbols, images = items["caption"].values, items["image"].values
        captions = [caption.split() for caption in data.vocabulary.decode(symbols)]
        vectors = word_vectors(captions, data.vocabulary, size, seed=seed)
        classes = len(data.vocabulary)
        weights = plain_weights(classes) if a is None else sif_weights(symbols, classes, a)
        found = {"vectors": vectors, "weights": weights}
        sentences = sentence_vectors(symbols, vectors, weights)
        if remove:
            found["direction"] = main_direction(sentences)
            sentences = without(sentences, found["direction"])
        views = images.repeat_interleave(len(symbols) // len(images), 0), sentences
        for convention in CONVENTIONS:
            fitted = fit_cca(*views, k, convention=convention).tensors()
            found |= {f"{convention}/{name}": x.contiguous() for name, x in fitted.items()}
        if data.attributes is not None:
            known = data.attributes["train"][items["image"].original]
            found["probe"] = attribute_probe(images, known)
        return found

    about = {key: value for key, value in data.provenance.items() if key not in ("pairing", "size")}
    facts = {"caption_judges": VERSION, "data": about, "rows": len(items["caption"]), "options": options}
    facts = json.loads(json.dumps(facts))
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    folder = None if cache is False else cache_root(cache) / f"caption-judges-{data.name}-{key}"
    kept = make() if folder is None else generated(folder, facts, make)[0]
    projections = {}
    for convention in CONVENTIONS:
        own = {name.removeprefix(f"{convention}/"): x for name, x in kept.items()}
        projections[convention] = Projection.of(own)
    known = (data.attributes, data.pictures)
    shown = [None if x is None else torch.cat([x[split] for split in SPLITS]) for x in known]
    about = kept["vectors"], kept["weights"], kept.get("direction"), projections, data.vocabulary
    return CaptionJudges(*about, items["image"].values, kept.get("probe"), *shown)


def attribute_probe(images: Tensor, attributes: Tensor) -> Tensor:
    """Least squares from features [N, F] and a 1 to every value of every attribute, int64 [N, 10]: [F + 1, values]."""
    wanted = [F.one_hot(a, len(v)) for a, v in zip(attributes.T, ATTRIBUTES.values(), strict=True)]
    inputs = F.pad(images.double(), (0, 1), value=1.0)
    return torch.linalg.lstsq(inputs, torch.cat(wanted, 1).double()).solution.float().contiguous()


@torch.no_grad()
def generated_pair(
    model, batch: Mapping[str, Tensor] | int, given: Collection[str], generator=None
) -> dict[str, Tensor]:
    """What a model makes of both modalities from one code: features [B, F], and the likeliest symbols, int64 [B, L].

    Captions that are codes stay so, [B, C]: judges read them. ``batch`` holds what is given; a number asks for so many
    draws from the prior.
    """
    if isinstance(batch, int):
        made = model.sample(batch, generator)
    else:
        made = model.generate(batch, given=list(given), to=list(NAMES), generator=generator)
    caption = made["caption"]
    return {"image": made["image"], "caption": caption.argmax(-1) if caption.ndim == 3 else caption}


@torch.no_grad()
def surest_captions(
    model, batch: Mapping[str, Tensor], given: Collection[str], draws: int = 16, generator=None
) -> Tensor:
    """Of captions from several codes the one whose words the decoder is surest of, symbols int64 [B, L].

    A code between two sentences leaves the decoder undecided at some places. How sure it is of a caption is the mean
    logarithm of the probability of its words, each the likeliest at its place, up to the end.

    Args:
        model: any model of pictures and captions.
        batch: what is given.
        given: its names.
        draws: codes for each row.
        generator: source of the draws.
    """
    best = None
    for _ in range(whole("draws", draws)):
        chance, words = model.generate(batch, given=list(given), to=["caption"], generator=generator)[
            "caption"
        ].max(-1)
        said = ((words == END).cumsum(1) - (words == END).long()) == 0  # up to the first end
        sure = (chance.log() * said).sum(1) / said.sum(1)
        if best is not None:
            better = sure > best[0]
            sure, words = torch.where(better, sure, best[0]), torch.where(better[:, None], words, best[1])
        best = sure, words
    return best[1]


def cross_correlation(
    model, batch: Mapping[str, Tensor], given: str, judges: CaptionJudges, generator=None
) -> Tensor:
    """How well what is generated from one modality goes together with what was given: [B], from -1 to 1.

    Source: Shi et al. 2021, Section 4.3; Massiceti et al. 2018.
    """
    made = generated_pair(model, {given: batch[given]}, [given], generator)
    pair = {given: batch[given], OTHER[given]: made[OTHER[given]]}
    return judges.correlation(pair["image"], pair["caption"])


def evaluate_captions(
    model,
    split,
    judges: CaptionJudges,
    generator: torch.Generator | None = None,
    samples: int = 5000,
    max_rows: int | None = None,
    batch_size: int = 500,
) -> dict:
    """All scores of a model of pictures and captions on one split, as plain numbers with standard errors.

    A row observes both modalities, or counts nowhere. Standard errors are clustered by picture.

    Args:
        model: any model with the modalities *image* (features) and *caption*.
        split: to measure on.
        judges: fitted to the training part of the same data set.
        generator: source of all draws, on the model's device.
        samples: draws from the prior.
        max_rows: use only the first rows.
        batch_size: rows at once.

    Returns:
        ``correlation[convention]`` with the entries ``real`` (the split's own pairs: the scale of all others),
        ``shuffled`` (captions of other rows), ``joint`` (both from the prior), ``cross[given][generated]`` (beside what
        was given) and ``synergy[generated]`` (from both, beside the other real one). Where attributes are known also
        ``parse_rate`` of captions, ``real``, ``prior`` and generated given ``image``, ``caption`` or ``all``; and
        ``attribute_agreement``: ``real``, ``shuffled``; ``caption[given]`` of captions generated, with the picture;
        ``image[given]`` of real captions, with what a linear map tells of features generated; ``told`` the same of real
        features, as good as that gets; ``joint`` of captions with features, both from the prior. And ``relatedness``,
        see `picture_relatedness`.

    Raises:
        ValueError: if a modality has another name, or no row observes both.
    """
    if set(model.modalities) != set(NAMES):
        raise ValueError(
            f"model has modalities {', '.join(model.modalities)}; expected {' and '.join(NAMES)}"
        )
    samples, seen = whole("samples", samples), []
    scores: dict[tuple[str, ...], list[Tensor]] = {}

    def keep(value: Tensor, *path: str) -> None:
        scores.setdefault(path, []).append(value.double().cpu())

    def compare(images: Tensor, captions: Tensor, *path: str) -> None:
        for convention in judges.projections:
            keep(judges.correlation(images, captions, convention), "correlation", convention, *path)

    def judge(captions: Tensor, birds: Tensor, *path: str, parsed: str = "") -> None:
        """Captions beside the attributes of birds: of pictures given by number, or told by features."""
        if judges.probe is not None:
            birds = judges.told(birds) if birds.is_floating_point() else judges.attributes[birds.cpu()]
            found, true = judges.agreement(captions, birds)
            keep(true, "attribute_agreement", *path)
            if parsed:
                keep(found, "parse_rate", parsed)

    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    for rows, batch in batches_of(model, split, batch_size, max_rows):
        rows, real = observing(split, rows, batch, NAMES)
        if not len(rows):
            continue
        seen.append(rows)
        number, other = (
            split.original("image", rows),
            split.batch(order[rows], real["caption"].device)["caption"],
        )
        compare(real["image"], real["caption"], "real")
        compare(real["image"], other, "shuffled")
        judge(real["caption"], number, "real", parsed="real")
        judge(other, number, "shuffled")
        judge(real["caption"], real["image"], "told")
        for view in (*NAMES, JOINT):
            given = NAMES if view == JOINT else (view,)
            made = generated_pair(model, {name: real[name] for name in given}, given, generator)
            for name in NAMES:
                if name != view:
                    pair = {**real, name: made[name]}
                    path = ("synergy", name) if view == JOINT else ("cross", view, name)
                    compare(pair["image"], pair["caption"], *path)
            judge(made["caption"], number, "caption", view, parsed=view)
            judge(real["caption"], made["image"], "image", view)
    if not seen:
        raise ValueError("split has no row that observes both image and caption; expected one or more")
    clusters = split.original("image", torch.cat(seen)).cpu()
    table = {path: estimate(torch.cat(values), clusters) for path, values in scores.items()}
    scores.clear()
    for first in range(0, samples, batch_size):
        made = generated_pair(model, min(batch_size, samples - first), (), generator)
        compare(made["image"], made["caption"], "joint")
        judge(made["caption"], made["image"], "joint", parsed="prior")
    table |= {path: estimate(torch.cat(values)) for path, values in scores.items()}
    table["relatedness", "image,caption"] = picture_relatedness(model, split, max_rows or 1000)
    return _nested(table)


def picture_relatedness(model, split, max_rows: int = 1000) -> dict:
    """How often the code of a picture is nearer to that of a caption of its own than to that of another's.

    The share that `mmlib.metrics.relatedness` gives, of all pairs of the first ``max_rows`` rows that observe both, by
    the distance of `mmlib.metrics.wasserstein`; pairs of one picture are related. Source: Joy et al. 2022, Figure 8.
    """
    posteriors, _ = unimodal_posteriors(model, split, max_rows)
    number = split.original("image", whole_rows(split, list(NAMES))[:max_rows]).cpu()
    nearer = relatedness(wasserstein(posteriors["image"], posteriors["caption"]), number)[2]
    return {"value": nearer, "se": None, "n": len(number), "clusters": len(number.unique())}


def _nested(table: Mapping[tuple[str, ...], dict]) -> dict:
    found: dict = {}
    for path, entry in table.items():
        place = found
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = entry
    return found


def caption_lines(report: Mapping) -> list[str]:
    """The scores of `evaluate_captions` as lines of text."""

    def entry(found: Mapping | None, percent: bool) -> str:
        if found is None:
            return ""
        factor, digits = (100, 1) if percent else (1, 3)
        error = "" if found["se"] is None else f" +-{factor * found['se']:.{digits}f}"
        return f"{factor * found['value']:.{digits}f}{error}"

    lines = []
    for convention, found in report.get("correlation", {}).items():
        flat = {key: found.get(key) for key in ("real", "shuffled", "joint")}
        flat |= {f"{a} to {b}": e for a, row in found.get("cross", {}).items() for b, e in row.items()}
        flat |= {f"all to {name}": e for name, e in found.get("synergy", {}).items()}
        lines += [
            f"{f'correlation, {convention}':<30}{key:<20}{entry(e, False):>18}" for key, e in flat.items()
        ]
    for title in ("parse_rate", "attribute_agreement"):
        for key, found in report.get(title, {}).items():
            entries = (
                {key: found} if "value" in found else {f"{given} to {key}": e for given, e in found.items()}
            )
            name = f"{title.replace('_', ' ')}, per cent"
            lines += [f"{name:<30}{key:<20}{entry(e, True):>18}" for key, e in entries.items()]
    return lines
