"""Statistics of the real captions of CUB, as ``data/cub_captions.yaml`` has them: numbers and single words, no caption.

``python -m mmlib.book.cub_captions`` measures them again where the captions are, see `mmlib.data.load_cub`.
"""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from torch.nn.functional import normalize

from mmlib.data.cache import cache_root
from mmlib.data.cub import LENGTH, split_pictures
from mmlib.data.cub_files import PRINTED_VOCABULARY, CubPicture, cub_vocabulary, read_cub
from mmlib.data.vocabulary import UNKNOWN, Vocabulary
from mmlib.files import REPOSITORY, read_yaml, write_atomically
from mmlib.metrics.cca import CONVENTIONS, cca_score, fit_cca
from mmlib.metrics.sentences import main_direction, sentence_vectors, sif_weights, without, word_vectors

RECORDED = REPOSITORY / "data" / "cub_captions.yaml"
ASKED = ("red", "beak", "small", "wings")  # whose nearest words are listed


def recorded(path: Path | str = RECORDED) -> dict:
    """What was measured: the recipe, and the numbers."""
    return read_yaml(path)


def counted(pictures: Sequence[CubPicture], words: Vocabulary) -> dict:
    """How many captions and words there are, how long captions are, and how much of them a model gets to see.

    Args:
        pictures: of all parts.
        words: of the training captions.
    """
    captions = [caption for picture in pictures for caption in picture.captions]
    lengths = [len(caption) for caption in captions]
    symbols = words.encode([c for p in pictures if p.part == "test" for c in p.captions], LENGTH)
    test_words = sum(min(len(c), LENGTH - 1) for p in pictures if p.part == "test" for c in p.captions)
    return {
        "pictures": len(pictures),
        "captions": len(captions),
        "words": sum(lengths),
        "different words": len(Counter(word for caption in captions for word in caption)),
        "words a caption": round(sum(lengths) / len(captions), 2),
        "longer than 31 words": round(sum(n >= LENGTH for n in lengths) / len(captions), 5),
        "vocabulary, 150 classes": len(cub_vocabulary(list(pictures))),
        "vocabulary, printed": PRINTED_VOCABULARY,
        "vocabulary, training part": len(words),
        "unknown words of test": round(int((symbols == UNKNOWN).sum()) / test_words, 5),
    }


def measured(pictures: Sequence[CubPicture], size: int, epochs: int, k: int, seed: int = 0) -> dict:
    """Counts; nearest words by FastText; and how well two captions of one picture go together, and of two pictures.

    Everything is fitted to the training classes, two captions of each picture being the two views of the canonical
    projections, and measured on the test classes.

    Args:
        pictures: of all parts.
        size: numbers of a word vector.
        epochs: passes of FastText.
        k: canonical directions.
        seed: of word vectors and of the shuffle.
    """
    parts = split_pictures(pictures, seed)
    train = [caption for picture in parts["train"] for caption in picture.captions]
    words = Vocabulary.of(train)
    vectors = word_vectors(train, words, size, epochs=epochs, seed=seed)
    weights = sif_weights(words.encode(train, LENGTH), len(words))
    direction = None

    def views(part: str) -> list[torch.Tensor]:
        each = (words.encode([p.captions[i] for p in parts[part]], LENGTH) for i in (0, 1))
        found = [sentence_vectors(symbols, vectors, weights) for symbols in each]
        return found if direction is None else [without(x, direction) for x in found]

    direction = main_direction(torch.cat(views("train")))
    own, other = views("test")
    order = torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))
    agreement = {}
    for convention in CONVENTIONS:
        projection = fit_cca(*views("train"), k, convention=convention)
        pairs = {"one picture": other, "two pictures": other[order]}
        agreement[convention] = {
            label: round(float(cca_score(projection, own, x).mean()), 3) for label, x in pairs.items()
        }
    unit, places = (
        normalize(vectors),
        {word: i for i, word in enumerate(words.words, len(vectors) - len(words.words))},
    )
    nearest = {}
    for word in (word for word in ASKED if word in places):
        order = (unit @ unit[places[word]]).argsort(descending=True).tolist()
        names = [words.words[i - places[words.words[0]]] for i in order if i >= places[words.words[0]]]
        nearest[word] = [name for name in names if name != word][:4]
    return {"counts": counted(pictures, words), "nearest words": nearest, "agreement": agreement}


def main(out: Path | str = RECORDED, size: int = 300, epochs: int = 10, k: int = 40) -> None:
    """Measure, and write the file."""
    pictures, source = read_cub(cache_root(None))
    options = {"size": size, "epochs": epochs, "k": k, "seed": 0}
    found = {
        "recipe": {"command": "python -m mmlib.book.cub_captions", **options},
        "source": source,
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"torch": torch.__version__.split("+")[0]},
        **measured(pictures, **options),
    }
    write_atomically(out, yaml.safe_dump(found, sort_keys=False).encode())


if __name__ == "__main__":
    main()
