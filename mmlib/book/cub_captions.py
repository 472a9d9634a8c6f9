"""Statistics of the real captions of CUB, as ``data/cub_captions.yaml`` has them: numbers and single words, no caption.

``python -m mmlib.book.cub_captions`` measures them again where the captions are, see `mmlib.data.load_cub`, and
``python -m mmlib.book.cub_captions codes`` what a VAE of captions makes of them.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch.nn.functional import normalize, pad

from mmlib import bounds
from mmlib.data.cache import cache_root
from mmlib.data.core import Items, PairedSplit
from mmlib.data.cub import LENGTH, split_pictures
from mmlib.data.cub_files import CAPTIONS, PRINTED_VOCABULARY, CubPicture, cub_vocabulary, read_cub
from mmlib.data.vocabulary import PADDING, UNKNOWN, Vocabulary
from mmlib.distributions import Diagonal, kl_divergence
from mmlib.files import REPOSITORY, read_yaml, write_atomically
from mmlib.likelihoods import CategoricalLikelihood
from mmlib.metrics.cca import CONVENTIONS, cca_score, fit_cca
from mmlib.metrics.codes import wasserstein
from mmlib.metrics.sentences import main_direction, sentence_vectors, sif_weights, without, word_vectors
from mmlib.metrics.split import at_rest
from mmlib.modality import Modality
from mmlib.models import MMVAE
from mmlib.nets import CaptionDecoder, CaptionEncoder
from mmlib.runs.provenance import hardware
from mmlib.seeding import generator, seed_all
from mmlib.train import fit

RECORDED = REPOSITORY / "data" / "cub_captions.yaml"
OPTIONS = {
    "words": {"size": 300, "epochs": 10, "k": 40, "seed": 0},
    "codes": dict(steps=2000, batch_size=32, width=0.25, latent_dim=64, rows=1000, k=10, seed=0),
}
ASKED = ("red", "beak", "small", "wings")  # whose nearest words are listed


def recorded(path: Path | str = RECORDED) -> dict:
    """What was measured: the recipe, and the numbers."""
    return read_yaml(path)


def counted(pictures: Sequence[CubPicture], words: Vocabulary) -> dict:
    """How many captions and words all parts have, how long captions are, and what a model with ``words`` sees."""
    captions = [caption for picture in pictures for caption in picture.captions]
    lengths = [len(caption) for caption in captions]
    test = [caption for picture in pictures if picture.part == "test" for caption in picture.captions]
    unknown = int((words.encode(test, LENGTH) == UNKNOWN).sum())
    return {
        "pictures": len(pictures),
        "captions": len(captions),
        "words": sum(lengths),
        "different words": len({word for caption in captions for word in caption}),
        "words a caption": round(sum(lengths) / len(captions), 2),
        "longer than 31 words": round(sum(n >= LENGTH for n in lengths) / len(captions), 5),
        "vocabulary, 150 classes": len(cub_vocabulary(list(pictures))),
        "vocabulary, printed": PRINTED_VOCABULARY,
        "vocabulary, training part": len(words),
        "unknown words of test": round(unknown / sum(min(len(c), LENGTH - 1) for c in test), 5),
    }


def measured(pictures: Sequence[CubPicture], size: int, epochs: int, k: int, seed: int = 0) -> dict:
    """Counts; nearest words by FastText; and how well two captions of one picture go together, and of two pictures.

    Everything is fitted to the training classes, two captions of each picture being the two views of the canonical
    projections, and measured on the test classes. A word vector has ``size`` numbers, after ``epochs`` of FastText.
    """
    parts = split_pictures(pictures, seed)
    train = [caption for picture in parts["train"] for caption in picture.captions]
    words = Vocabulary.of(train)
    vectors = word_vectors(train, words, size, epochs=epochs, seed=seed)
    weights = sif_weights(words.encode(train, LENGTH), len(words))
    views = {
        part: [
            sentence_vectors(words.encode([p.captions[i] for p in parts[part]], LENGTH), vectors, weights)
            for i in (0, 1)
        ]
        for part in ("train", "test")
    }
    direction = main_direction(torch.cat(views["train"]))
    views = {part: [without(x, direction) for x in each] for part, each in views.items()}
    own, other = views["test"]
    order = torch.randperm(len(own), generator=generator(seed))
    pairs, agreement = {"one picture": other, "two pictures": other[order]}, {}
    for convention in CONVENTIONS:
        projection = fit_cca(*views["train"], k, convention=convention)
        score = {label: cca_score(projection, own, x).mean() for label, x in pairs.items()}
        agreement[convention] = {label: round(float(mean), 3) for label, mean in score.items()}
    unit, nearest = normalize(vectors[-len(words.words) :]), {}  # of the words, without the special symbols
    for word in (word for word in ASKED if word in words.words):
        order = (unit @ unit[words.words.index(word)]).argsort(descending=True).tolist()
        nearest[word] = [words.words[i] for i in order if words.words[i] != word][:4]
    return {"counts": counted(pictures, words), "nearest words": nearest, "agreement": agreement}


# --- a VAE of captions ----------------------------------------------------------------------------------------------


def captions_of(pictures: Sequence[CubPicture], words: Vocabulary) -> PairedSplit:
    """All captions of some pictures, a row each, ten of a picture together."""
    symbols = words.encode([caption for picture in pictures for caption in picture.captions], LENGTH)
    facts = torch.tensor([(picture.label, picture.number) for picture in pictures])
    label, number = facts.repeat_interleave(CAPTIONS, 0).T.contiguous()
    items = Items(symbols, label, number, len(words))
    return PairedSplit({"caption": items}, {"caption": torch.arange(len(symbols))}, label)


def caption_codes(
    pictures: Sequence[CubPicture],
    steps: int,
    batch_size: int,
    width: float,
    latent_dim: int,
    rows: int,
    k: int,
    seed: int = 0,
) -> dict:
    """Train a VAE of captions; nats a word beside counting; and which captions have codes near to each other.

    Networks are those of Shi et al. 2021, Table 3d; the model is MMVAE with one modality, which is a plain VAE.
    Everything is fitted to the training classes and measured on the test classes: ``rows`` captions, with ``k`` draws.
    """
    parts = split_pictures(pictures, seed)
    words = Vocabulary.of(caption for picture in parts["train"] for caption in picture.captions)
    train, test = (captions_of(parts[part], words) for part in ("train", "test"))
    seed_all(seed)
    encoder = CaptionEncoder((LENGTH,), latent_dim, width, len(words))
    decoder = CaptionDecoder((LENGTH, len(words)), latent_dim, width)
    caption = Modality("caption", (LENGTH,), encoder, decoder, CategoricalLikelihood(len(words), PADDING))
    model = MMVAE([caption], latent_dim, posterior="normal", scale="softplus", learn_prior=False)
    first = torch.arange(0, len(test), CAPTIONS)
    pairs = [test.batch(first + i)["caption"] for i in (0, 1)]  # two captions of each picture

    def of_codes() -> dict[str, float]:
        with torch.no_grad(), at_rest(model):
            return nearer(wasserstein(*(model.encode("caption", x) for x in pairs)), test.labels[first])

    near = {"codes, untrained": of_codes()}
    fit(model.train(), train, steps, batch_size, seed=seed)
    near["codes"] = of_codes()
    weights = sif_weights(train.items["caption"].values, len(words))
    spoken = [normalize(sentence_vectors(x, torch.eye(len(words)), weights)) for x in pairs]
    near["words in common, rare ones count more"] = nearer(-spoken[0] @ spoken[1].T, test.labels[first])
    draw, found = generator(seed), []
    symbols = test.batch(torch.randperm(len(test), generator=draw)[:rows])["caption"]
    with torch.no_grad(), at_rest(model):
        codes = model.encode("caption", pairs[0])
        for part in symbols.split(50):
            weights = model.log_weights({"caption": part}, k, generator=draw)
            found.append(torch.stack([bounds.elbo(weights), bounds.iwae(weights)]))
    total, count = torch.cat(found, 1).sum(1), int((symbols != PADDING).sum())
    nats = counted_nats(train.items["caption"].values, symbols, len(words))
    nats["VAE"], nats[f"VAE, {k} draws"] = (-total / count).tolist()
    return {
        "nats a word": {name: round(value, 3) for name, value in nats.items()},
        "code": told_by(codes, model.prior, pairs[0], seed),
        "nearer": near,
    }


def told_by(codes: Diagonal, prior: Diagonal, symbols: torch.Tensor, seed: int = 0) -> dict[str, float]:
    """How much codes tell, in how many of their numbers, and how much of the fullest is how a caption begins.

    The last are shares of variance between captions with the same first two words, and with those of another caption.
    ``codes`` are posteriors [N, D] of the captions ``symbols``, int64 [N, L]; the ``prior`` is [D].
    """
    alone = (Diagonal(d.loc[..., None], d.scale[..., None], d.family) for d in (codes, prior))
    each = kl_divergence(*alone).mean(0)
    fullest = codes.loc[:, each.argmax()]

    def share(begin: torch.Tensor) -> float:
        _, group = begin.unique(dim=0, return_inverse=True)
        count = group.bincount()
        mean = fullest.new_zeros(len(count)).index_add(0, group, fullest) / count
        return round(float(mean[group].var() / fullest.var()), 2)

    order = torch.randperm(len(symbols), generator=generator(seed))
    return {
        "KL, nats a caption": round(float(each.sum()), 2),
        "numbers with a KL above 0.1": int((each > 0.1).sum()),
        "the fullest, by its first two words": share(symbols[:, :2]),
        "the fullest, by another caption's": share(symbols[order, :2]),
    }


def counted_nats(train: torch.Tensor, test: torch.Tensor, classes: int, a: float = 30.0) -> dict[str, float]:
    """Nats a word of three models that only count: words as such, words at a place, and words after a word.

    .. code-block:: text

        p(w | c) = (n(c, w) + a p(w)) / (n(c) + a),   p(w) = (n(w) + 1) / (n + classes - 1)

    Args:
        train: int64 [N, L], captions that are counted.
        test: int64 [M, L], captions that are scored; their end counts as a word, padding does not.
        classes: size of the vocabulary, padding included.
        a: how many words what is known without the context weighs; of 1, 3, 10, 30 and 100 best on validation.
    """
    share = torch.bincount(train[train != PADDING], minlength=classes).double() + 1
    share[PADDING] = 0
    share /= share.sum()

    contexts = {
        "words as such": torch.zeros_like,
        "words at their place": lambda x: torch.arange(x.shape[1]).expand_as(x),
        "words after a word": lambda x: pad(x[:, :-1], (1, 0), value=PADDING),
    }
    found = {}
    for name, context in contexts.items():
        (before, word), (seen, asked) = ((context(x)[x != PADDING], x[x != PADDING]) for x in (train, test))
        counts = torch.zeros(max(classes, train.shape[1]), classes, dtype=torch.float64)
        counts.index_put_((before, word), counts.new_ones(len(word)), accumulate=True)
        chance = (counts[seen, asked] + a * share[asked]) / (counts.sum(1)[seen] + a)
        found[name] = -float(chance.log().mean())
    return found


def nearer(distances: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """How often a caption is nearer to a related one than to one of another class, a tie counting half: 0.5 is chance.

    ``distances`` [N, N] are those of first captions of pictures to second ones, ``labels`` [N] the pictures' classes.
    """
    same = labels[:, None] == labels
    own = torch.eye(len(labels), dtype=torch.bool)
    others = distances[~same].sort().values

    def share(related: torch.Tensor) -> float:
        below, upto = (torch.searchsorted(others, related, right=right) for right in (False, True))
        return round(1 - float((below + upto).double().mean()) / (2 * len(others)), 3)

    return {"one picture": share(distances[own]), "one class": share(distances[same & ~own])}


def main(part: str = "words", out: Path | str = RECORDED, **changes: float) -> None:
    """Measure a part, "words" or "codes", and write it into the file; the other part stays as it is."""
    pictures, source = read_cub(cache_root(None))
    options, began = OPTIONS[part] | changes, time.process_time()
    numbers = (measured if part == "words" else caption_codes)(pictures, **options)
    command = "python -m mmlib.book.cub_captions" + (" codes" if part == "codes" else "")
    found = {
        "recipe": {"command": command, **options},
        "source": source,
        "date": time.strftime("%Y-%m-%d"),
        "hardware": hardware(),
        "cpu_minutes": round((time.process_time() - began) / 60, 1),
        "versions": {"torch": torch.__version__.split("+")[0]},
        **numbers,
    }
    kept = recorded(out) if Path(out).exists() else {}
    if part == "codes":
        found = kept | {"codes": found}
    elif "codes" in kept:
        found["codes"] = kept["codes"]
    write_atomically(out, yaml.safe_dump(found, sort_keys=False).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
