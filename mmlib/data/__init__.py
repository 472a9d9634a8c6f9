"""Data sets by name, embedded ones and the papers' own, and what makes one of a user's tensors, table or images."""

from __future__ import annotations

import inspect
import os

from mmlib.checks import look_up

from .attributes import AttributedSet
from .batches import rows_at
from .birds import load_birds
from .caption_coder import CaptionCoder, fit_caption_coder
from .captioned import CaptionedSet
from .celeba import load_celeba
from .core import DataSet, Items, PairedSplit, Split
from .cub import load_cub
from .faces import load_faces
from .hand_street import load_hand_street
from .mnist_svhn import load_mnist_svhn
from .multi import load_multi_hand, load_multi_mnist
from .own import from_folder, from_frame, from_tensors
from .pairing import pairing_options
from .readers import DataFileError
from .tensors import TensorSplit
from .text import load_hand_street_text, load_mnist_svhn_text

LOADERS = {
    "birds": load_birds,
    "celeba": load_celeba,
    "cub": load_cub,
    "faces": load_faces,
    "hand-street": load_hand_street,
    "hand-street-text": load_hand_street_text,
    "mnist-svhn": load_mnist_svhn,
    "mnist-svhn-text": load_mnist_svhn_text,
    "multi-hand": load_multi_hand,
    "multi-mnist": load_multi_mnist,
}

TAKES_OPTIONS_OF = {load_hand_street_text: load_hand_street, load_mnist_svhn_text: load_mnist_svhn}


def load(name: str, size: int | None = None, cache: str | os.PathLike | None = None, **options) -> DataSet:
    """Loads a data set by its name.

    Args:
        name: "hand-street", "hand-street-text", "multi-hand", "birds" or "faces" (embedded); "mnist-svhn",
            "mnist-svhn-text", "multi-mnist", "cub" or "celeba" (files in the cache folder).
        size: pixels a side; default: the data set's own (16 for hand-street, 8 for multi-hand, 64 for birds and faces).
        cache: data folder; default: ``$MMLIB_DATA``, else ``data/cache`` of the repository.
        **options: of the data set: see `load_hand_street`, `load_mnist_svhn`, `load_multi_hand`, `load_multi_mnist`,
            `load_birds`, `load_cub`, `load_faces`, `load_celeba`; with text beside the images they are the same.

    Raises:
        ValueError: for an unknown name or option, listing the known ones, or an impossible value.
        DataFileError: when a needed file is missing or damaged, saying what to put where.
    """
    loader = look_up("name", name, LOADERS)
    taken = list(inspect.signature(TAKES_OPTIONS_OF.get(loader, loader)).parameters)
    taken += inspect.signature(pairing_options).parameters if "pairing" in taken else []
    known = [key for key in taken if key not in ("size", "cache", "pairing", "names")]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"{name} has no option {unknown[0]!r}; expected some of {known}")
    return loader(size=size, cache=cache, **options)
