"""Readers of CUB-200-2011 with its captions: the official folders, the papers' text files, or two tables."""

from __future__ import annotations

import csv
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .readers import DataFileError, read_lines
from .vocabulary import Vocabulary, tokens

PARTS = ("trainval", "test")
CAPTIONS = 10  # of each picture
PRINTED_VOCABULARY = 1590  # in Shi et al. 2021, Table 3d, special symbols included
ADVICE = """\
cub reads these files below {root}/CUB (another folder: the argument cache, or the variable MMLIB_DATA):
  CUB_200_2011/images.txt, image_class_labels.txt   of the official archive, and for features images/<class>/<name>.jpg
  trainvalclasses.txt, testclasses.txt              names of the 150 and 50 classes, one a line (Reed et al. 2016)
  text_c10/<class>/<name>.txt                       ten captions of a picture, one a line (Reed et al. 2016), or instead
  text_trainvalclasses.txt, text_testclasses.txt    all captions, ten lines a picture, pictures by name (plain or .xz)
in place of all but the photographs also two tables:
  cub_images.tsv.gz, cub_captions_tokenized.tsv.xz  image_id, image, class_id, zero_shot_split; image_id, caption
and for features
  resnet101.pth                                     weights of torchvision's ResNet-101; download=True fetches them"""


@dataclass(frozen=True)
class CubPicture:
    """One picture: its number, file below ``images``, class from 1, part ("trainval" or "test"), and captions.

    Each caption is a list of words.
    """

    number: int
    file: str
    label: int
    part: str
    captions: tuple[tuple[str, ...], ...]


def read_cub(root: Path) -> tuple[list[CubPicture], str]:
    """All pictures in the order of their numbers, and which files their captions come from.

    Source: Wah et al. 2011 for the pictures, Reed et al. 2016 for captions and classes; the text files are those of the
    released code of Shi et al. 2019.

    Raises:
        DataFileError: when a file is missing or does not fit the others; says what to put where.
    """
    folder = root / "CUB"
    try:
        if (folder / "cub_images.tsv.gz").is_file() and not (folder / "trainvalclasses.txt").is_file():
            found, source = _from_tables(folder), "cub_captions_tokenized.tsv.xz"
        else:
            found, source = _from_folders(folder)
        wrong = [
            picture for picture in found if len(picture.captions) != CAPTIONS or not all(picture.captions)
        ]
        if wrong or not found or {picture.part for picture in found} != set(PARTS):
            problem = (
                f"{wrong[0].file} has {len(wrong[0].captions)} captions" if wrong else "a part has no picture"
            )
            raise DataFileError(
                f"{source}: {problem}; expected {CAPTIONS} captions of each picture, in both parts"
            )
        return found, source
    except (OSError, EOFError, ValueError, KeyError, lzma.LZMAError) as error:
        problem = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise DataFileError(f"{problem}\n{ADVICE.format(root=root)}") from error


def cub_vocabulary(
    pictures: list[CubPicture], parts: tuple[str, ...] = ("trainval",), more_than: int = 3
) -> Vocabulary:
    """Words of the captions of these parts that occur more than three times.

    With both special rules of the papers, the words of all 150 classes, its size stands beside the 1,590 of their
    tables; which of the tokenisers was used decides what is a word.
    """
    return Vocabulary.of((c for p in pictures if p.part in parts for c in p.captions), more_than)


def _lines(path: Path) -> list[str]:
    """The lines of a text file, plain or packed."""
    return read_lines(path, f"CUB/{path.name}")


def _pairs(path: Path) -> Iterator[tuple[int, str]]:
    for line in _lines(path):
        number, _, value = line.strip().partition(" ")
        if not number.isdigit() or not value:
            raise DataFileError(
                f"CUB/{path.name} has the line {line!r}; expected a number, a blank and a value"
            )
        yield int(number), value


def _from_tables(folder: Path) -> list[CubPicture]:
    captions: dict[int, list[tuple[str, ...]]] = {}
    for line in _lines(folder / "cub_captions_tokenized.tsv.xz"):
        number, _, caption = line.partition("\t")
        captions.setdefault(int(number), []).append(tuple(caption.split()))
    rows = csv.DictReader(_lines(folder / "cub_images.tsv.gz"), delimiter="\t")
    found = []
    for row in rows:
        number, label = int(row["image_id"]), int(row["class_id"])
        said = tuple(captions[number])
        found.append(CubPicture(number, row["image"], label, row["zero_shot_split"], said))
    return found


def _from_folders(folder: Path) -> tuple[list[CubPicture], str]:
    files = dict(_pairs(folder / "CUB_200_2011" / "images.txt"))
    labels = dict(_pairs(folder / "CUB_200_2011" / "image_class_labels.txt"))
    part_of = {}
    for part in PARTS:
        part_of |= dict.fromkeys((line.strip() for line in _lines(folder / f"{part}classes.txt")), part)
    parts = {number: part_of[Path(file).parent.name] for number, file in files.items()}
    source = (
        "text_c10" if (folder / "text_c10").is_dir() else "text_trainvalclasses.txt, text_testclasses.txt"
    )
    if source == "text_c10":
        said = {n: _lines(folder / "text_c10" / Path(file).with_suffix(".txt")) for n, file in files.items()}
    else:
        said = {}
        for part in PARTS:
            lines = _lines(folder / f"text_{part}classes.txt")
            numbers = sorted((n for n in files if parts[n] == part), key=lambda n: files[n])
            if len(lines) != CAPTIONS * len(numbers):
                expected = f"{CAPTIONS} for each of {len(numbers)} pictures"
                raise DataFileError(f"CUB/text_{part}classes.txt has {len(lines)} lines; expected {expected}")
            said |= {n: lines[CAPTIONS * i : CAPTIONS * (i + 1)] for i, n in enumerate(numbers)}
    found = [
        CubPicture(n, file, int(labels[n]), parts[n], tuple(tuple(tokens(c)) for c in said[n] if c.strip()))
        for n, file in sorted(files.items())
    ]
    return found, source
