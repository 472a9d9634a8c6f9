"""CelebA from files: faces of the official folder, or of a half-size subset, beside their attributes as strings."""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import one_of, whole

from .attributes import CELEBA, LENGTH, NAMES, PLACES, AttributedSet, attributed_split, spoken
from .batches import derived_generator
from .cache import cache_root, digest, generated
from .core import SPLITS
from .pairing import partial_options
from .readers import DataFileError, read_lines

SIZES = (32, 64)
SOURCES = ("auto", "official", "subset")
BOX = (15, 35, 163, 183)  # left, top, right and bottom of the central 148 pixels of an aligned picture
WIDTH, HEIGHT = 178, 218  # of an aligned picture
FOLDER, PARTITION = "img_align_celeba", "list_eval_partition.txt"
ATTRIBUTES = "list_attr_celeba.txt"
SUBSET = "img_align_celeba_first10000_89x109.zip"
TENTHS = (8, 1, 1)  # of a set without official validation and test pictures: its first eight, and so on
ADVICE = """\
celeba reads these files below {root}/CelebA (another folder: the argument cache, or the variable MMLIB_DATA):
  list_attr_celeba.txt           the official file of attributes, plain or .xz
  list_eval_partition.txt        the official partition, plain or .xz; needed only where it is followed
  img_align_celeba/000001.jpg    and so on: the aligned pictures, all of them or some, or instead
  {subset}    the first 10,000 of them at half size
CelebA may be used for research that is not commercial, and not be passed on: get it from its authors."""


def load_celeba(
    size: int | None = None,
    cache: str | os.PathLike | None = None,
    *,
    pictures: str = "auto",
    place: str = "start",
    complete: bool = False,
    fraction: float = 1.0,
    paired: float = 1.0,
    always: str | None = None,
    seed: int = 0,
) -> AttributedSet:
    """Faces of CelebA, *image* ``[3, size, size]``, each beside its 40 attributes as a string, *text* ``[256]``.

    A picture is cut to its central 148 of 178 x 218 pixels, or as much of one that is smaller, and brought to its size
    by bicubic interpolation, as in the released code of Sutter et al. 2020. Not all pictures need be there: the set has
    those that are. Train, validation and test are the official ones where there are pictures of each; else the first
    eight tenths of the pictures, the next and the last. The class of a face, where one is asked for, is whether it
    smiles. All 202,599 pictures of 64 x 64 pixels take 2.5 GB.

    Args:
        size: 64 (default) or 32 pixels a side.
        cache: data folder; default as in `mmlib.data.cache.cache_root`. Small pictures are made once and kept there.
        pictures: "official" (the folder), "subset" (the first 10,000 at half size), or "auto": the folder if it is
            there.
        place: of the string among its 256 characters, see `mmlib.data.attributes.write_strings`.
        complete: ask for every picture that the attributes name.
        fraction: share of the training faces that is kept.
        paired: share of the training faces that are seen beside their strings.
        always: the modality that the other faces' rows show; None: as many rows for each.
        seed: of the strings' places, and of what is hidden.

    Raises:
        ValueError: for an impossible option.
        DataFileError: when something is missing or damaged; says all of it, and what to put where.
    """
    size = one_of("size", 64 if size is None else whole("size", size), SIZES)
    one_of("pictures", pictures, SOURCES)
    one_of("place", place, PLACES)
    one_of("complete", complete, (True, False))
    options, seed = partial_options(NAMES, fraction, paired, always), whole("seed", seed, 0)
    root = cache_root(cache)
    folder = root / "CelebA"
    if pictures == "auto":
        pictures = "official" if (folder / FOLDER).is_dir() else "subset"
    try:
        names, parts, attributes, files = _listed(folder, pictures, complete)
        images = _images(folder, pictures, names, size)
    except DataFileError as error:
        raise DataFileError(f"{error}\n{ADVICE.format(root=root, subset=SUBSET)}") from error
    splits, known = {}, {}
    for s, split in enumerate(SPLITS):
        rows = parts[split]
        known[split] = attributes[rows]
        number = torch.tensor([int(Path(names[row]).stem) for row in rows.tolist()])
        some = options if split == "train" else {}
        about = images[rows], known[split], number, CELEBA, place
        splits[split] = attributed_split(*about, derived_generator(seed, 5, s), **some)
    lengths = attributes.long() @ torch.tensor([len(spoken(name)) + 2 for name in CELEBA]) - 2
    provenance = {
        "pictures": {
            "official": "celeba",
            "subset": "celeba10k" if len(names) == 10_000 else f"celeba-subset-{len(names)}",
        }[pictures],
        "count": len(names),
        "partition": files.pop("partition"),
        "longer strings, cut": int((lengths > LENGTH).sum()),
        "sha256": files,
        "size": size,
        "place": place,
        "seed": seed,
        "pairing": options,
    }
    return AttributedSet("celeba", **splits, provenance=provenance, attributes=known, showable=False)


def _listed(folder: Path, pictures: str, complete: bool) -> tuple[list[str], dict[str, Tensor], Tensor, dict]:
    """Names of the pictures that are there, in order; rows of each split; attributes bool [N, 40]; where from.

    Raises:
        DataFileError: naming everything that is missing.
    """
    problems, there = [], set()
    if pictures == "official":
        there = {path.name for path in (folder / FOLDER).glob("*.jpg")}
        if not there:
            problems.append(f"CelebA/{FOLDER} has no picture")
    elif (folder / SUBSET).is_file():
        there = {name for name in _archive(folder / SUBSET).namelist() if name.endswith(".jpg")}
    else:
        problems.append(f"CelebA/{FOLDER} and CelebA/{SUBSET} are missing")
    attributes = next(filter(Path.is_file, (folder / ATTRIBUTES, folder / f"{ATTRIBUTES}.xz")), None)
    if attributes is None:
        problems.append(f"CelebA/{ATTRIBUTES} is missing")
    if problems:
        raise DataFileError("; ".join(problems))
    table = read_attributes(folder / ATTRIBUTES)
    names = [name for name in table if name in there]
    absent, strange = len(table) - len(names), sorted(there - set(table))
    if strange:
        raise DataFileError(f"CelebA/{ATTRIBUTES} lacks {len(strange)} of the pictures, such as {strange[0]}")
    if complete and absent:
        first = next(name for name in table if name not in there)
        raise DataFileError(f"{absent} of {len(table)} pictures are missing, the first is {first}")
    files = {f"CelebA/{attributes.name}": digest(attributes)}
    parts, files["partition"] = _parts(folder, names)
    return names, parts, torch.from_numpy(np.stack([table[name] for name in names])), files


def _parts(folder: Path, names: list[str]) -> tuple[dict[str, Tensor], str]:
    """Rows of train, validation and test: official if there is a picture in each, else by position."""
    partition = folder / PARTITION
    if partition.is_file() or partition.with_name(f"{PARTITION}.xz").is_file():
        part_of = read_partition(partition)
        lost = [name for name in names if name not in part_of]
        if lost:
            raise DataFileError(f"CelebA/{PARTITION} lacks {len(lost)} of the pictures, such as {lost[0]}")
        part = torch.tensor([part_of[name] for name in names])
        rows = {split: (part == s).nonzero()[:, 0] for s, split in enumerate(SPLITS)}
        if all(len(some) for some in rows.values()):
            return rows, "official"
    n = len(names)
    if n < sum(TENTHS):
        raise DataFileError(
            f"there are {n} pictures; expected {sum(TENTHS)} or more, or some of each official part"
        )
    ends = [n * sum(TENTHS[: s + 1]) // sum(TENTHS) for s in range(3)]
    return {
        split: torch.arange(a, b) for split, a, b in zip(SPLITS, [0, *ends], ends, strict=False)
    }, "by position"


def read_attributes(path: Path) -> dict[str, np.ndarray]:
    """The official file of attributes, plain or packed: name of a picture to bool ``[40]``, in the file's order.

    Source: Liu et al. 2015. Its first line counts the pictures, its second names the attributes; 1 says yes and -1 no.

    Raises:
        DataFileError: when it is missing or another: says which line.
    """
    told = f"CelebA/{path.name}"
    lines = read_lines(path, told)
    if len(lines) < 2 or tuple(lines[1].split()) != CELEBA:
        found = lines[1][:60] if len(lines) > 1 else "no second line"
        raise DataFileError(
            f"{told} names {found!r} in line 2; expected CelebA's 40 attributes, {CELEBA[0]} first"
        )
    table = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split() or [""]
        if not name:
            continue
        if len(values) != len(CELEBA) or not set(values) <= {"1", "-1"}:
            raise DataFileError(
                f"{told} has {line[:40]!r} in line {number}; expected a name and 40 of 1 and -1"
            )
        table[name] = np.array(values) == "1"
    if lines[0].strip() != str(len(table)):
        raise DataFileError(
            f"{told} counts {lines[0].strip()!r} pictures in line 1 and has {len(table)}: it is cut"
        )
    return table


def read_partition(path: Path) -> dict[str, int]:
    """The official partition, plain or packed: name of a picture to 0 (train), 1 (validation) or 2 (test).

    Raises:
        DataFileError: when it is missing or another: says which line.
    """
    told, parts = f"CelebA/{path.name}", {}
    for number, line in enumerate(read_lines(path, told), start=1):
        name, *part = line.split() or [""]
        if name and part not in (["0"], ["1"], ["2"]):
            raise DataFileError(f"{told} has {line[:40]!r} in line {number}; expected a name and 0, 1 or 2")
        if name:
            parts[name] = int(part[0])
    return parts


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataFileError(f"CelebA/{path.name} cannot be read ({error}): the file is damaged") from error


def _images(folder: Path, pictures: str, names: Sequence[str], size: int) -> Tensor:
    """The pictures, cut and reduced, uint8 [N, 3, size, size]; made once."""
    listed = hashlib.sha256("\n".join(names).encode()).hexdigest()
    facts = {"pictures": pictures, "count": len(names), "names": listed, "size": size, "box": list(BOX)}

    def make() -> dict[str, Tensor]:
        if pictures == "official":
            return {
                "images": reduced_pictures(names, lambda name: (folder / FOLDER / name).read_bytes(), size)
            }
        with _archive(folder / SUBSET) as archive:
            return {"images": reduced_pictures(names, archive.read, size)}

    return generated(folder / f"images-{pictures}-{size}-{listed[:8]}", facts, make)[0]["images"]


def reduced_pictures(names: Sequence[str], read: Callable[[str], bytes], size: int) -> Tensor:
    """Aligned pictures of any size, cut to their central square and reduced: uint8 ``[N, 3, size, size]``.

    Source: the released code of Sutter et al. 2020: the central 148 x 148 of 178 x 218 pixels, bicubic.

    Args:
        names: of the pictures.
        read: name -> the file's bytes.
        size: pixels a side.

    Raises:
        DataFileError: when a picture cannot be read, or has other proportions than an aligned one.
    """
    from PIL import Image

    found = torch.empty(len(names), 3, size, size, dtype=torch.uint8)
    for row, name in enumerate(names):
        try:
            with Image.open(io.BytesIO(read(name))) as picture:
                colours, (width, height) = picture.convert("RGB"), picture.size
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise DataFileError(
                f"the picture {name} cannot be read ({error}): the file is damaged"
            ) from error
        if abs(width * HEIGHT - height * WIDTH) > max(WIDTH, HEIGHT):
            expected = f"{WIDTH}x{HEIGHT}, or as much smaller or larger on both sides"
            raise DataFileError(f"the picture {name} has {width}x{height} pixels; expected {expected}")
        box = [place * width / WIDTH for place in BOX]  # of a half-size picture it begins within a pixel
        corner = [math.floor(place) for place in box[:2]]
        middle = colours.crop(
            (*corner, *(math.ceil(place) for place in box[2:]))
        )  # else what is outside has a say
        within = tuple(place - corner[i % 2] for i, place in enumerate(box))
        small = middle.resize((size, size), Image.Resampling.BICUBIC, box=within)
        found[row] = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return found
