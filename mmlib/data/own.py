"""A data set of one's own: from tensors, from the columns of a table, or from folders of images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmlib.checks import check_has, kind, real, unknown, whole

from .batches import derived_generator
from .core import SPLITS, DataSet
from .hand import SHARES, split_originals
from .tensors import TensorSplit


def from_tensors(
    tensors: Mapping[str, Tensor | np.ndarray],
    labels: Tensor | np.ndarray | Sequence | None = None,
    *,
    observed: Mapping[str, Tensor | np.ndarray] | None = None,
    original: Tensor | np.ndarray | Sequence | None = None,
    symbols: Mapping[str, int] | None = None,
    missing: str | None = None,
    standardise: bool | Collection[str] = False,
    shares: tuple[float, float, float] = SHARES,
    seed: int = 0,
    name: str = "own",
) -> DataSet:
    """A data set of tensors, split by chance: rows of one ``original`` stay together, classes keep their shares.

    Args:
        tensors: tensors or arrays ``[N, *shape]`` by modality: numbers, symbols or images, see `TensorSplit`.
        labels: ``[N]``, integers, or text, whose sorted names are kept as ``provenance["classes"]``.
        observed: bool ``[N]`` by modality, as for `TensorSplit`.
        original: ``[N]``, integers or text; rows with the same one, such as a patient's, are never in two splits.
        symbols: how many different symbols a modality can have, by name; default: those seen in all the rows.
        missing: ``"nan"`` or None, as for `TensorSplit`.
        standardise: modalities whose numbers lose the mean and are divided by the standard deviation of the training
            rows that observe them, entry by entry (an entry that never changes is divided by 1); True: all that are
            numbers. What was used is kept as ``provenance["standardised"]``.
        shares: of the originals, in train, validation and test.
        seed: of the split.
        name: of the data set.

    Raises:
        ValueError: naming the argument: as `TensorSplit`, for shares that do not sum to 1 or leave a split without
            rows, or a modality to standardise that is none of numbers.
    """
    labels, classes = _classes("labels", labels)
    original, _ = _classes("original", original)
    rows = TensorSplit(tensors, observed, labels, original, symbols, missing)
    numbers = [key for key, x in rows.tensors.items() if x.is_floating_point()]
    chosen = numbers if standardise is True else list(standardise or ())
    for key in chosen:
        if key not in numbers:
            raise unknown("standardise", key, numbers)
    parts = dict(zip(SPLITS, _parts(rows, shares, seed), strict=True))
    facts = {"source": "tensors", "seed": seed, "shares": list(shares), "sha256": _sha256(rows)}
    facts["rows"] = {split: len(part) for split, part in parts.items()}
    facts |= {} if classes is None else {"classes": classes}
    if rows.observed is not None:
        facts["missing"] = {key: int((~seen).sum()) for key, seen in rows.observed.items()}
    if chosen:
        train = rows.select(parts["train"])
        scales = {key: _scale(train, key) for key in chosen}
        facts["standardised"] = {
            key: {"mean": mean.tolist(), "sd": sd.tolist()} for key, (mean, sd) in scales.items()
        }
        scaled = {key: (rows.tensors[key] - mean) / sd for key, (mean, sd) in scales.items()}
        same = rows.observed, rows.labels, rows.groups, rows.symbols
        rows = TensorSplit({**rows.tensors, **scaled}, *same)
    return DataSet(name, **{split: rows.select(part) for split, part in parts.items()}, provenance=facts)


def from_frame(
    frame,
    columns: Mapping[str, str | Sequence[str]],
    labels: str | None = None,
    *,
    original: str | None = None,
    **options,
) -> DataSet:
    """A data set of the columns of a pandas frame: a modality of numbers, or of symbols, for each group of columns.

    Columns of numbers become a vector ``[n]``. A column of text, categories or truth values becomes symbols of shape
    ``()``, whose names, in their order, are kept as ``provenance["categories"]``. A row with a missing cell in a
    modality does not observe that modality, and its other numbers there are not used: columns that go missing apart
    belong into modalities of their own.

    Args:
        frame: the table, with a row for each item.
        columns: a column or several by modality; one alone where it is no number.
        labels: column of the classes; text as for `from_tensors`.
        original: column that says which rows belong together, as for `from_tensors`.
        **options: ``standardise``, ``shares``, ``seed`` and ``name``, as for `from_tensors`.

    Raises:
        ValueError: for what is no frame, an unknown column, one that is neither numbers nor names, several that are
            not all numbers, a label that is missing, or as `from_tensors`.
    """
    from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

    check_has("frame", frame, ["columns", "iloc", "dtypes"], "a pandas frame")
    if not isinstance(columns, Mapping):
        raise ValueError(f"columns is {kind(columns)}; expected columns of the frame by modality name")
    groups = {key: [value] if isinstance(value, str) else list(value) for key, value in columns.items()}
    for argument, used in (*groups.items(), ("labels", [labels]), ("original", [original])):
        for column in used:
            if column is not None and column not in frame.columns:
                where = f"columns[{argument!r}]" if argument in groups else argument
                raise unknown(where, column, frame.columns)
    tensors, observed, symbols, categories = {}, {}, {}, {}
    for key, group in groups.items():
        numeric = [is_numeric_dtype(frame[c]) and not is_bool_dtype(frame[c]) for c in group]
        if group and all(numeric):
            x = torch.tensor(frame[group].to_numpy(float, na_value=np.nan), dtype=torch.get_default_dtype())
            tensors[key], observed[key] = x, ~x.isnan().any(1)
        elif len(group) == 1:
            codes, categories[key] = _names(frame, group[0], "numbers")
            tensors[key], observed[key], symbols[key] = codes.clamp_min(0), codes >= 0, len(categories[key])
        else:
            expected = "columns of numbers, or one column of names: each a modality of its own"
            raise ValueError(f"columns[{key!r}] is {group}; expected {expected}")
    chosen = {}
    for argument, column in (("labels", labels), ("original", original)):
        if column is None:
            continue
        if frame[column].isna().any():
            raise ValueError(f"{argument}: column {column!r} has missing cells; expected one in every row")
        if is_integer_dtype(frame[column]):
            chosen[argument] = frame[column].to_numpy("int64")
        else:
            codes, names = _names(frame, column, "integers")
            chosen[argument] = np.array(names)[codes]
    data = from_tensors(tensors, observed=observed, symbols=symbols, **chosen, **options)
    data.provenance.update(source="frame", columns=groups)
    if categories:
        data.provenance["categories"] = categories
    return data


def from_folder(
    folders: str | os.PathLike | Mapping[str, str | os.PathLike], size: int | None = None, **options
) -> DataSet:
    """A data set of images in folders by class, ``folder/class/.../file``, as torchvision's ``ImageFolder`` reads them.

    One folder gives the modality ``"image"``. Of several, by modality name, files of one class and one name (without
    its ending) are one row: ``photos/cat/7.jpg`` and ``sketches/cat/7.png``; a row does not observe a modality whose
    folder lacks its file. Hidden files are skipped. Images are grey if all of a modality are, else in colour.

    Args:
        folders: the folder, or folders by modality name.
        size: pixels a side, to which the middle square of every image is scaled; None: all are of one size.
        **options: ``shares``, ``seed`` and ``name``, as for `from_tensors`.

    Raises:
        ValueError: for a folder without classes, a class without files, a file that is no image, images of different
            size without ``size``, two files for one row, or folders that share no file name.
    """
    several = isinstance(folders, Mapping)
    found = {
        key: _files(Path(folder), stems=several)
        for key, folder in (folders if several else {"image": folders}).items()
    }
    keys = sorted(set().union(*found.values()))
    if len(found) > 1 and all(sum(key in files for files in found.values()) == 1 for key in keys):
        raise ValueError(f"folders {', '.join(found)} share no file name; expected some to be pairs")
    tensors, observed = {}, {}
    for modality, files in found.items():
        seen = torch.tensor([key in files for key in keys])
        images = _images([files[key] for key in keys if key in files], size)
        tensors[modality] = images.new_zeros(len(keys), *images.shape[1:])
        tensors[modality][seen], observed[modality] = images, seen
    data = from_tensors(tensors, [label for label, _ in keys], observed=observed, **options)
    data.provenance.update(source="folder", size=size)
    return data


def _classes(argument: str, given: object) -> tuple[Tensor | None, list[str] | None]:
    """Integers as they are; text as numbers, and the names in order."""
    if given is None or isinstance(given, Tensor):
        return given, None
    array = np.asarray(given)
    if array.dtype.kind in "iu":
        return torch.from_numpy(array.astype("int64")), None
    if array.ndim != 1 or not all(isinstance(entry, str) for entry in array.tolist()):
        raise ValueError(f"{argument} is {kind(given)}; expected [N], all integers or all text")
    names, numbers = np.unique(array.astype(str), return_inverse=True)
    return torch.from_numpy(numbers.astype("int64")), names.tolist()


def _parts(rows: TensorSplit, shares: tuple[float, float, float], seed: int) -> list[Tensor]:
    """Rows of train, validation and test, int64, in random order: originals are dealt out, class by class."""
    if not isinstance(shares, Sequence) or len(shares) != 3:
        raise ValueError(f"shares is {shares!r}; expected three, of train, validation and test")
    shares = tuple(real("shares", share, 0, 1, open=True) for share in shares)
    if abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"shares is {shares}, which sum to {sum(shares):g}; expected 1")
    everyone = torch.arange(len(rows))
    _, group = torch.unique(everyone if rows.groups is None else rows.groups.cpu(), return_inverse=True)
    labels = torch.zeros_like(everyone) if rows.labels is None else rows.labels.cpu()
    of_group = torch.empty(int(group.max()) + 1, dtype=torch.int64).scatter_(0, group, labels)
    noise = derived_generator(whole("seed", seed, 0))
    found = []
    for split, part in zip(SPLITS, split_originals(of_group, shares, noise), strict=True):
        place = torch.isin(group, part).nonzero().flatten()
        if not len(place):
            raise ValueError(f"shares is {shares}, which leaves {split} without rows; expected at least one")
        found.append(place[torch.randperm(len(place), generator=noise)].to(rows.device))
    return found


def _scale(train: TensorSplit, name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every entry of a modality over the rows that observe it."""
    x = train.tensors[name]
    x = x if train.observed is None else x[train.observed[name]]
    if not len(x):
        raise ValueError(f"standardise names {name!r}, which no training row observes; expected some")
    mean, sd = x.mean(0), x.std(0, correction=0)
    rounding = 10 * torch.finfo(x.dtype).eps * mean.abs()  # what the sd of equal numbers may be
    return mean, torch.where(sd > rounding, sd, torch.ones_like(sd))


def _names(frame, column: str, others: str) -> tuple[Tensor, list[str]]:
    """A column of names as symbols, -1 where a cell is missing, and the names in order."""
    import pandas

    inferred = pandas.api.types.infer_dtype(frame[column], skipna=True)
    if inferred not in ("string", "boolean", "categorical"):
        expected = f"{others}, or names: text, categories or truth values"
        raise ValueError(f"column {column!r} holds {inferred} cells; expected {expected}")
    cells = pandas.Categorical(frame[column])
    return torch.tensor(cells.codes, dtype=torch.int64), [str(entry) for entry in cells.categories]


def _files(folder: Path, stems: bool) -> dict[tuple[str, str], Path]:
    """Files by class and by name below its folder, without the ending if ``stems``."""
    classes = sorted(p for p in folder.glob("*") if p.is_dir() and p.name[0] != ".")
    if not classes:
        raise ValueError(f"{folder} holds no folders; expected one for each class, as in folder/class/file")
    found: dict[tuple[str, str], Path] = {}
    for place in classes:
        files = sorted(p for p in place.rglob("*") if p.is_file() and p.name[0] != ".")
        if not files:
            raise ValueError(f"{place} is an empty class; expected images in it")
        for path in files:
            key = (path.with_suffix("") if stems else path).relative_to(place).as_posix()
            if (place.name, key) in found:
                raise ValueError(f"{found[place.name, key]} and {path} are one row; expected one file")
            found[place.name, key] = path
    return found


def _images(paths: list[Path], size: int | None) -> Tensor:
    """Images of one size as uint8 ``[N, C, H, W]``, C = 1 if all are grey, else 3."""
    from PIL import Image, ImageOps

    images = []
    for path in paths:
        try:
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                image = image.convert("L" if image.mode in ("1", "L") else "RGB")
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} is no image that can be read ({error})") from error
        if size is not None:
            image = ImageOps.fit(image, (whole("size", size),) * 2)
        elif image.size != (images or [image])[0].size:
            found = "{}x{}".format(*image.size)
            expected = "{}x{} as the others, or size=".format(*images[0].size)
            raise ValueError(f"{path} is {found} pixels; expected {expected}")
        images.append(image)
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    arrays = np.stack([np.array(image.convert(mode)) for image in images])
    return torch.from_numpy(arrays.reshape(*arrays.shape[:3], -1)).permute(0, 3, 1, 2).contiguous()


def _sha256(rows: TensorSplit) -> str:
    """Of all that the rows hold."""
    content = hashlib.sha256()
    for x in (*rows.tensors.values(), *(rows.observed or {}).values(), rows.labels, rows.groups):
        if x is not None:
            content.update(x.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return content.hexdigest()
