"""The embedded data set of language and vision: drawn birds, ten captions each, and features of their pictures."""

from __future__ import annotations

import os
import random

import torch
from torch import Tensor

from mmlib.checks import one_of, real, whole

from . import grammar, plumage
from .batches import derived_generator
from .cache import cache_root, generated
from .caption_coder import fit_caption_coder
from .captioned import NAMES, CaptionedSet, captioned_split
from .core import SPLITS, Items
from .pairing import partial_options
from .patches import SIDE, PatchFeatures
from .vocabulary import Vocabulary

GENERATOR_VERSION = 1  # raise it whenever pictures, captions or features change
SIZES = (32, 64)
VIEWS = ("features", "pictures")
CAPTION_VIEWS = ("words", "codes")
SPECIES = {"train": 100, "validation": 30, "test": 30}  # no species is in two splits
FEATURES = 128
WORDINGS = {"plain": 0.0, "free": 1.0}
VARIED = 0.1  # chance that a part of a bird has another colour than its species


def load_birds(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    view: str = "features",
    caption_view: str = "words",
    wording: str | float = "plain",
    captions: int = 10,
    train: int = 1_600,
    validation: int = 300,
    test: int = 300,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
    seed: int = 0,
) -> CaptionedSet:
    """Drawn birds, *image*, each beside its *caption*s ``[32]``; classes are species, and those of the splits differ.

    A species has its colours, beak, size and build; of a bird, pose and background, now and then a colour, and what no
    caption speaks of (side, tilt, place, light) are its own. Captions follow `mmlib.data.grammar`: each says some of
    what is true. Symbols 0, 1 and 2 are an unknown word, padding and the end. ``original`` is the bird's number in both
    modalities, so that rows with one picture are not taken for independent.

    Args:
        size: 64 (default) or 32 pixels a side of the pictures; features are always those of 32.
        cache: folder for the generated file; default as in `mmlib.data.cache.cache_root`.
        view: *image* as "features" (default), float32 ``[128]``, see `mmlib.data.patches`, or as "pictures",
            ``[3, size, size]``.
        caption_view: *caption* as "words" (default), symbols, or as "codes", float32 ``[64]``, for models that take no
            symbols: see `mmlib.data.caption_coder`. Its coder is trained at first use, in seconds.
        wording: how freely captions are worded, see `mmlib.data.grammar.write`: "plain" (default: "this small bird has
            a red crown , black wings and a white belly"), "free", or a number in [0, 1].
        captions: of each picture.
        train: pictures of the training split.
        validation: the same for validation.
        test: the same for test.
        fraction: share of the training pictures that is kept, the same share of each species.
        paired: share of the training pictures that are seen beside their captions, see
            `mmlib.data.captioned.captioned_split`.
        always: the modality that the other pictures' rows show; None: either.
        seed: of all that is drawn.

    Raises:
        ValueError: for an impossible option.
    """
    size = one_of("size", 64 if size is None else whole("size", size), SIZES)
    one_of("view", view, VIEWS)
    one_of("caption_view", caption_view, CAPTION_VIEWS)
    counts = {"train": train, "validation": validation, "test": test}
    counts = {split: whole(split, count, SPECIES[split]) for split, count in counts.items()}
    captions, seed = whole("captions", captions), whole("seed", seed, 0)
    freedom = real("wording", WORDINGS.get(wording, wording) if isinstance(wording, str) else wording, 0, 1)
    options = partial_options(NAMES, fraction, paired, always)
    facts = {"generator": "birds", "generator_version": GENERATOR_VERSION, "seed": seed}
    facts |= {"wording": freedom, "captions": captions, **counts}
    key = f"v{GENERATOR_VERSION}-{'-'.join(map(str, counts.values()))}-captions{captions}-wording{freedom:g}-seed{seed}"
    tensors, record = generated(
        cache_root(cache) / "birds" / key, facts, lambda: make(counts, captions, freedom, seed)
    )
    words = Vocabulary(grammar.vocabulary())
    splits, pictures, first = {}, {}, 0
    for s, split in enumerate(SPLITS):
        label = tensors[f"{split}.species"]
        number = first + torch.arange(len(label))
        pictures[split] = plumage.reduced(tensors[f"{split}.pictures"], size)
        shown = pictures[split] if view == "pictures" else tensors[f"{split}.features"]
        many = [x.repeat_interleave(captions) for x in (label, number)]
        said = Items(tensors[f"{split}.captions"].long(), *many, len(words))
        some = options if split == "train" else {}
        splits[split] = captioned_split(
            Items(shown, label, number), said, derived_generator(seed, 5, s), **some
        )
        first += len(label)
    attributes = {split: tensors[f"{split}.attributes"] for split in SPLITS}
    provenance = {**record, "view": view, "size": size, "pairing": options}
    found = CaptionedSet(
        "birds", **splits, provenance=provenance, vocabulary=words, pictures=pictures, attributes=attributes
    )
    if caption_view == "words":
        return found
    said = tensors["train.captions"].long()
    return found.coded(fit_caption_coder(said, len(words), record, cache_root(cache), seed=seed))


def make(counts: dict[str, int], captions: int, freedom: float, seed: int) -> dict[str, Tensor]:
    """Makes every bird of every split; ``counts`` are pictures, by split.

    Returns:
        ``"<split>.pictures|features|attributes|species|captions"`` to tensor.
    """
    prototypes, builds = species(sum(SPECIES.values()), derived_generator(seed, 0))
    words, tensors, first = Vocabulary(grammar.vocabulary()), {}, 0
    for s, split in enumerate(SPLITS):
        label = (
            first + torch.arange(counts[split]) % SPECIES[split]
        )  # interleaved: any first few hold every species
        birds = individuals(prototypes[label], derived_generator(seed, 1, s))
        pictures = plumage.render(birds, builds[label], derived_generator(seed, 2, s))
        if split == "train":
            extract = PatchFeatures.fit(plumage.reduced(pictures, SIDE), FEATURES, derived_generator(seed, 4))
        draw = random.Random(int(torch.randint(2**62, (), generator=derived_generator(seed, 3, s))))
        facts = [grammar.described(row) for row in birds.tolist()]
        said = [grammar.write(bird, draw, freedom).split() for bird in facts for _ in range(captions)]
        tensors[f"{split}.pictures"] = pictures
        tensors[f"{split}.features"] = extract(plumage.reduced(pictures, SIDE))
        tensors[f"{split}.attributes"], tensors[f"{split}.species"] = birds, label
        tensors[f"{split}.captions"] = words.encode(said, grammar.LENGTH).to(torch.int16)
        first += SPECIES[split]
    return tensors


def species(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Prototypes: attributes int64 ``[count, 10]``, no two with the same plumage; and builds ``[count, 3]``.

    A species has three colours at most, so that parts often share one, as real plumage does.
    """
    found: dict[tuple[int, ...], Tensor] = {}
    sizes = [len(values) for values in grammar.ATTRIBUTES.values()]
    parts = len(grammar.PLUMAGE)
    while len(found) < count:
        row = torch.stack([torch.randint(n, (), generator=generator) for n in sizes])
        palette = torch.randperm(len(grammar.COLOURS), generator=generator)[:3]
        row[:parts] = palette[torch.randint(3, (parts,), generator=generator)]
        found.setdefault(tuple(row[:parts].tolist()), row)
    return torch.stack(list(found.values())), torch.rand(count, 3, generator=generator)


def individuals(prototypes: Tensor, generator: torch.Generator) -> Tensor:
    """Birds of these species, int64 ``[N, 10]``: pose and background drawn anew, colours of the plumage at times."""
    birds, parts = prototypes.clone(), len(grammar.PLUMAGE)
    anew = torch.stack(
        [torch.randint(len(v), (len(birds),), generator=generator) for v in grammar.ATTRIBUTES.values()], 1
    )
    names = list(grammar.ATTRIBUTES)
    own = [names.index("pose"), names.index("background")]
    birds[:, own] = anew[:, own]
    varied = torch.rand(len(birds), parts, generator=generator) < VARIED
    birds[:, :parts] = torch.where(varied, anew[:, :parts], birds[:, :parts])
    return birds
