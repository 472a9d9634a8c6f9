"""CUB-200-2011 with captions, from files: photographs as features of a ResNet-101, ten captions each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mmlib.checks import one_of, whole

from .batches import derived_generator
from .cache import cache_root, digest, generated
from .captioned import NAMES, CaptionedSet, captioned_split
from .core import SPLITS, Items
from .cub_files import ADVICE, CAPTIONS, PRINTED_VOCABULARY, CubPicture, cub_vocabulary, read_cub
from .pairing import partial_options
from .readers import DataFileError
from .vocabulary import Vocabulary

LENGTH = 32  # words of a caption, its end included
HELD_OUT = 10  # every tenth class of the training part is for validation
SIDE = 224  # pixels a side of what the network sees
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of its pixels


def load_cub(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    normalise: bool = False,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
    seed: int = 0,
    download: bool = False,
) -> CaptionedSet:
    """Photographs of birds as features ``[2048]``, each beside its ten captions ``[32]``.

    Classes are species. Train and validation are the 150 classes of the zero-shot split, every tenth of them held out;
    test is its 50 others. (The papers hold out nothing.) The vocabulary is that of the training captions. Pictures are
    numbered in a random order of the training part, so that a fraction has all of its classes.

    Args:
        size: None; features have no size.
        cache: data folder; default as in `mmlib.data.cache.cache_root`. Features are computed once and kept there.
        normalise: bring pixels to the mean and standard deviation of ImageNet, for which the network was trained. The
            papers' code does not (cub-code-5 of the errata).
        fraction: share of the training pictures that is kept.
        paired: share of the training pictures seen beside their captions, see `mmlib.data.captioned.captioned_split`.
        always: the modality that the other pictures' rows show; None: either.
        seed: of the order, and of what is hidden.
        download: let torchvision fetch the network's weights (171 MB) if they are not there.

    Raises:
        ValueError: for an impossible option.
        DataFileError: when a file is missing or damaged; says what to put where.
    """
    if size is not None:
        raise ValueError(f"size is {size!r}; expected None: cub has features of photographs")
    one_of("normalise", normalise, (True, False))
    one_of("download", download, (True, False))
    options, seed = partial_options(NAMES, fraction, paired, always), whole("seed", seed, 0)
    root = cache_root(cache)
    pictures, source = read_cub(root)
    features, weights = features_of(pictures, root, normalise, download)
    parts = split_pictures(pictures, seed)
    words = Vocabulary.of(c for picture in parts["train"] for c in picture.captions)
    row_of = {picture.number: row for row, picture in enumerate(pictures)}
    splits, first = {}, 0
    for s, split in enumerate(SPLITS):
        chosen = parts[split]
        label = torch.tensor([picture.label for picture in chosen])
        number = first + torch.arange(len(chosen))
        shown = features[[row_of[picture.number] for picture in chosen]]
        symbols = words.encode([c for picture in chosen for c in picture.captions], LENGTH)
        said = Items(symbols, *(x.repeat_interleave(CAPTIONS) for x in (label, number)), len(words))
        some = options if split == "train" else {}
        splits[split] = captioned_split(
            Items(shown, label, number), said, derived_generator(seed, 5, s), **some
        )
        first += len(chosen)
    vocabularies = {
        "train": len(words),
        "all 150 classes": len(cub_vocabulary(pictures)),
        "printed": PRINTED_VOCABULARY,
    }
    provenance = {
        "captions": source,
        "pairing": options,
        "seed": seed,
        "normalise": normalise,
        "resnet101": weights,
    }
    provenance["vocabulary"] = vocabularies
    return CaptionedSet("cub", **splits, provenance=provenance, vocabulary=words)


def split_pictures(pictures: Sequence[CubPicture], seed: int) -> dict[str, list[CubPicture]]:
    """Pictures of train, validation and test: of the training part every tenth class, by number, is held out."""
    classes = sorted({picture.label for picture in pictures if picture.part == "trainval"})
    held_out = set(classes[HELD_OUT - 1 :: HELD_OUT])
    train = [p for p in pictures if p.part == "trainval" and p.label not in held_out]
    order = torch.randperm(len(train), generator=derived_generator(seed, 0)).tolist()
    held = [p for p in pictures if p.part == "trainval" and p.label in held_out]
    return {
        "train": [train[i] for i in order],
        "validation": held,
        "test": [p for p in pictures if p.part == "test"],
    }


def features_of(
    pictures: Sequence[CubPicture], root: Path, normalise: bool, download: bool
) -> tuple[Tensor, str]:
    """Features ``[N, 2048]`` of pictures in their order, computed once, and the SHA-256 of the network's weights.

    Raises:
        DataFileError: when weights or photographs are missing or damaged.
    """
    try:
        checksum, network = _resnet(root, download)
        names = hashlib.sha256("\n".join(picture.file for picture in pictures).encode()).hexdigest()
        facts = {"features": "resnet101", "weights": checksum, "normalise": normalise, "pictures": names}
        key = f"features-resnet101-{'normalised' if normalise else 'plain'}-{checksum[:8]}-{names[:8]}"

        def make() -> dict[str, Tensor]:
            paths = [root / "CUB" / "CUB_200_2011" / "images" / picture.file for picture in pictures]
            missing = [path for path in paths if not path.is_file()]
            if missing:
                found = f"{missing[0].relative_to(root)} is missing"
                raise DataFileError(f"{found}, as are {len(missing)} of {len(paths)} photographs")
            return {"features": resnet_features(paths, network(), normalise)}

        return generated(root / "CUB" / key, facts, make)[0]["features"], checksum
    except DataFileError as error:
        raise DataFileError(f"{error}\n{ADVICE.format(root=root)}") from error


def _resnet(root: Path, download: bool):
    """Digest of the weights, and a function that makes the network of them."""
    from torchvision import models

    path = root / "CUB" / "resnet101.pth"
    if not path.is_file():
        if not download:
            raise DataFileError("CUB/resnet101.pth is missing")
        try:
            weights = models.ResNet101_Weights.IMAGENET1K_V1.get_state_dict(progress=False)
        except (OSError, RuntimeError) as error:
            raise DataFileError(f"the download of CUB/resnet101.pth failed ({error})") from error
        torch.save(weights, path)

    def network() -> nn.Module:
        net = models.resnet101()
        try:
            net.load_state_dict(torch.load(path, weights_only=True))
        except Exception as error:  # of many kinds, by what is wrong with the file
            raise DataFileError(f"CUB/resnet101.pth holds no weights of ResNet-101 ({error})") from error
        return net

    return digest(path), network


@torch.no_grad()
def resnet_features(
    paths: Sequence[Path], network: nn.Module, normalise: bool = False, batch_size: int = 32
) -> Tensor:
    """What the last layer of a network sees of photographs: float32 ``[N, 2048]`` of a ResNet-101, none negative.

    A photograph is brought to 224x224 pixels, whatever its sides were, and to [0, 1].

    Args:
        paths: of the photographs.
        network: has ``fc``, its last layer, which is taken off.
        normalise: subtract ImageNet's mean from the pixels and divide them by its standard deviation.
        batch_size: photographs at once.

    Raises:
        DataFileError: when a photograph cannot be read.
    """
    from PIL import Image
    from torchvision.transforms import functional as transforms

    network.fc = nn.Identity()
    network.eval()
    found = []
    for first in range(0, len(paths), batch_size):
        images = []
        for path in paths[first : first + batch_size]:
            try:
                with Image.open(path) as photograph:
                    image = transforms.to_tensor(
                        photograph.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                    )
            except OSError as error:
                raise DataFileError(f"{path} cannot be read ({error})") from error
            images.append(transforms.normalize(image, *IMAGENET) if normalise else image)
        found.append(network(torch.stack(images)))
    return torch.cat(found)
