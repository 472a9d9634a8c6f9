"""Judges of pictures and captions: word vectors, canonical projections, and what is known of pictures.

They are fitted to the training data once and kept, since correlations under another fit cannot be compared.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mmlib.checks import one_of, positive, whole
from mmlib.data.cache import cache_root, generated
from mmlib.data.caption_coder import CaptionCoder
from mmlib.data.captioned import NAMES, CaptionedSet
from mmlib.data.core import SPLITS
from mmlib.data.grammar import ATTRIBUTES, agreement
from mmlib.data.vocabulary import Vocabulary
from mmlib.metrics.cca import COMPONENTS, CONVENTIONS, Projection, cca_score, fit_cca
from mmlib.metrics.sentences import (
    main_direction,
    plain_weights,
    sentence_vectors,
    sif_weights,
    without,
    word_vectors,
)

VERSION = 2  # change it when fitting changes, so that nothing old is read from the cache
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
