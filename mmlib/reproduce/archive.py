"""Runs that travel: a flat folder of a few archives that carries results and half-made runs between machines.

The folder holds at most eight archives of at most 16 MB each. All of it is written anew each time, as a *generation*
``queue-<generation>-<i>of<n>-<checksum>.zip``, and the former generation goes only when the new one is complete; so a
generation has at most four archives, and a kill at any moment leaves a complete one. An archive is a zip of plain
members: pieces of files, and ``manifest.json`` with the SHA-256 of every whole file. A file goes on in the next archive
where one is full. What is damaged or missing costs the runs that were in it and no others. Nothing in an archive is
believed: a member has a known name below its run's folder, is no link, and is neither compressed nor pickled.
"""

import contextlib
import fcntl
import io
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mmlib.files import write_atomically
from mmlib.reproduce.folder import RunLockedError
from mmlib.reproduce.parcel import FILE, WEIGHTS, Parcel, check, sha256

ARCHIVES = 8  # in the folder at any moment
LIMIT = 16_000_000  # bytes of one
OVERHEAD = 2_048  # of a piece: its headers, and its part of the manifest

_RECIPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ARCHIVE = re.compile(r"queue-(\d{6})-(\d+)of(\d+)-([0-9a-f]{16})\.zip")


def room(limit: int = LIMIT) -> int:
    """Bytes that fit into a folder of archives of ``limit`` bytes, overhead included."""
    return ARCHIVES // 2 * _space(limit) - ARCHIVES * OVERHEAD  # a file may be cut at the end of each archive


@contextlib.contextmanager
def locked(out: Path | str) -> Iterator[None]:
    """Hold the folder of archives, created where it is missing; the lock goes when the process does, however it ends.

    Raises:
        RunLockedError: if another process holds it.
    """
    Path(out).mkdir(parents=True, exist_ok=True)
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLockedError(
                f"{out} is being used by another process; wait for it, or stop it and start again"
            ) from None
        yield
    finally:
        os.close(folder)


def write(out: Path | str, parcels: Iterable[Parcel], limit: int = LIMIT) -> list[str]:
    """Replace all archives of the folder by a new generation that holds these runs.

    Where room is short the order of importance is: results of finished runs, states of unfinished ones, weights of
    finished ones (seed 0 of every recipe before seed 1); among equals, the order given.

    Args:
        out: folder of the archives, created where it is missing; what it holds has been read.
        parcels: one for each run.
        limit: bytes of one archive.

    Returns:
        What stayed behind for lack of room, in words; empty if everything fits.

    Raises:
        OSError: if the disk refuses; the former generation is untouched.
    """
    results, states, weights = [], [], []
    for parcel in parcels:
        if parcel.step is not None:
            states.append(("state", parcel))
            continue
        rest = {name: data for name, data in parcel.files.items() if name != WEIGHTS}
        results.append(("result", replace(parcel, files=rest)))
        if WEIGHTS in parcel.files:
            only = {WEIGHTS: parcel.files[WEIGHTS]}
            weights.append(("weights", replace(parcel, files=only)))
    weights.sort(key=lambda unit: unit[1].seed)
    free, taken, left = room(limit), [], []
    for what, unit in (*results, *states, *weights):
        size = sum(len(data) + OVERHEAD for data in unit.files.values())
        if size <= free:
            free -= size
            taken.append(unit)
        else:
            left.append(f"the {what} of {unit}")
    _replace(Path(out), [_zip(pieces) for pieces in _cut(taken, _space(limit))])
    return left


def read(out: Path | str) -> tuple[list[Parcel], list[str]]:
    """The runs in the folder, each as far as the intact archives have it.

    A damaged archive is renamed to ``*.damaged``; whatever else lies there is left alone.

    Returns:
        The runs, by name and seed, and what was wrong, in words.
    """
    found: dict[tuple, dict] = {}  # (recipe, seed, hash, step, table of files) -> pieces
    problems = []
    for path in _archives(Path(out)):
        try:
            _read_archive(path, found)
        except FileNotFoundError:  # another process has just written the next generation
            continue
        except OSError:
            raise
        except Exception as error:  # zipfile and json raise many kinds over a file that means harm
            path.rename(path.with_suffix(".damaged"))
            problems.append(f"{path.name} is damaged ({error}): set aside as {path.stem}.damaged")
    best: dict[tuple, Parcel] = {}
    weights: dict[tuple, dict[str, bytes]] = {}
    broken = {}
    for (*run, step, table), pieces in found.items():
        table = json.loads(table)
        kind, run = weights if set(table) == {WEIGHTS} else best, tuple(run)
        try:
            unit = Parcel(*run, step, _assemble(table, pieces))
            if kind is weights:
                weights.setdefault(run, unit.files)
            else:
                check(unit)
                best[run] = max(
                    best.get(run, unit), unit, key=lambda unit: unit.progress
                )  # the newest of equals
        except (ValueError, KeyError, TypeError) as error:
            broken[run, kind is best] = f"{run[0]}, seed {run[1]}, is not complete: {error}"
    for run, unit in best.items():
        if unit.step is None:
            best[run] = replace(unit, files=unit.files | weights.get(run, {}))
    generations = _generations(Path(out))
    if not any(map(_complete, generations)):  # else what is broken was about to replace it
        problems += [text for (run, must), text in broken.items() if run not in (best if must else weights)]
        for paths in generations[:1]:
            problems.append(f"{len(paths)} of {_parts(paths[0])[2]} archives are there")
    return [best[run] for run in sorted(best)], problems


def _space(limit: int) -> int:
    return limit - 2 * OVERHEAD


def _cut(units: list[Parcel], space: int) -> list[list[tuple[Parcel, str, int, bytes]]]:
    """Pieces ``(unit, name, offset, data)`` by archive; a file goes on in the next archive where one is full."""
    archives, free = [], 0
    for unit in units:
        for name, data in unit.files.items():
            offset = 0
            while offset < max(1, len(data)):
                if free <= OVERHEAD:
                    archives.append([])
                    free = space
                piece = data[offset : offset + free - OVERHEAD]
                archives[-1].append((unit, name, offset, piece))
                free -= len(piece) + OVERHEAD
                offset += max(1, len(piece))
    return archives


def _zip(pieces: list[tuple[Parcel, str, int, bytes]]) -> bytes:
    """An archive; the same pieces give the same bytes."""
    members, rows = {}, {}
    for unit, name, offset, data in pieces:
        table = {name: [len(data), sha256(data)] for name, data in unit.files.items()}
        row = {"recipe": unit.recipe, "seed": unit.seed, "hash": unit.hash, "step": unit.step, "files": table}
        number = rows.setdefault(json.dumps(row, sort_keys=True), len(rows))
        members[f"{number}/{unit.recipe}/seed-{unit.seed}/{name}.at-{offset}"] = data
    manifest = {"version": 1, "runs": list(map(json.loads, rows))}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, (stat.S_IFREG | 0o644) << 16
            file.writestr(info, data)
    return archive.getvalue()


def _replace(out: Path, archives: list[bytes]) -> None:
    """Write the archives beside those that are there, then remove these."""
    generations = _tidy(out)
    checksums = [sha256(data)[:16] for data in archives]
    there = [_parts(path)[2:] for paths in generations for path in sorted(paths, key=_parts)]
    if there == [(len(archives), checksum) for checksum in checksums]:
        return
    number = max((_parts(path)[0] for paths in generations for path in paths), default=0) + 1
    written = []
    try:
        for i, (data, checksum) in enumerate(zip(archives, checksums, strict=True), 1):
            name = f"queue-{number:06d}-{i}of{len(archives)}-{checksum}.zip"
            written.append(write_atomically(out / name, data))
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    for path in [path for paths in generations for path in paths]:
        path.unlink(missing_ok=True)


def _tidy(out: Path) -> list[list[Path]]:
    """Delete what a kill left half-written, and all but the newest complete generation; the rest, by generation.

    Where none is complete the newest archives stay, as many as leave room for a new generation.
    """
    for partial in out.glob("queue-*.zip.*.partial"):
        partial.unlink()
    generations = _generations(out)
    whole = next(filter(_complete, generations), None)
    keep = whole or [path for paths in generations for path in paths][: ARCHIVES // 2]
    for path in _archives(out):
        if path not in keep:
            path.unlink()
    return _generations(out)


def _archives(out: Path) -> list[Path]:
    """Archives by name, those of the newest generation first."""
    paths = [path for path in out.glob("queue-*.zip") if _ARCHIVE.fullmatch(path.name)]
    return sorted((path for path in paths if path.is_file() and not path.is_symlink()), reverse=True)


def _generations(out: Path) -> list[list[Path]]:
    """Archives of each generation, the newest generation first."""
    groups: dict[int, list[Path]] = {}
    for path in _archives(out):
        groups.setdefault(_parts(path)[0], []).append(path)
    return list(groups.values())


def _complete(generation: list[Path]) -> bool:
    of = _parts(generation[0])[2]
    return sorted(_parts(path)[1:3] for path in generation) == [(i, of) for i in range(1, of + 1)]


def _parts(path: Path) -> tuple[int, int, int, str]:
    """Generation, number, how many there are, checksum: what an archive's name says."""
    generation, number, of, checksum = _ARCHIVE.fullmatch(path.name).groups()
    return int(generation), int(number), int(of), checksum


def _read_archive(path: Path, found: dict[tuple, dict]) -> None:
    """Add the pieces of an archive to those of its runs; ValueError or worse if anything about it is odd."""
    if path.stat().st_size > LIMIT:
        raise ValueError(f"{path.stat().st_size} bytes, expected at most {LIMIT}")
    data = path.read_bytes()
    if sha256(data)[:16] != _parts(path)[3]:
        raise ValueError("its content does not match the checksum in its name")
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        infos = file.infolist()
        for info in infos:
            kind = stat.S_IFMT(info.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG) and info.compress_type == zipfile.ZIP_STORED
            if not plain or info.flag_bits & 1 or info.is_dir():
                raise ValueError(f"{info.filename!r} is not a plain member")
        if sum(info.file_size for info in infos) > len(data):
            raise ValueError("members overlap")
        members = {info.filename: file.read(info) for info in infos}
    manifest = json.loads(members.pop("manifest.json"))
    if manifest["version"] != 1:
        raise ValueError(f"version is {manifest['version']!r}, expected 1")
    pieces = []
    for number, row in enumerate(manifest["runs"]):
        _check_row(row)
        run = (row["recipe"], row["seed"], row["hash"], row["step"], json.dumps(row["files"], sort_keys=True))
        for name in row["files"]:
            prefix = f"{number}/{row['recipe']}/seed-{row['seed']}/{name}.at-"
            for member in [member for member in members if member.startswith(prefix)]:
                pieces.append((run, name, int(member.removeprefix(prefix)), members.pop(member)))
    if members:
        raise ValueError(f"{next(iter(members))!r} is not a member that the manifest knows")
    for run, name, offset, piece in pieces:
        found.setdefault(run, {})[name, offset] = piece


def _check_row(row: dict) -> None:
    """Refuse an entry of a manifest that could lead outside its run's folder, or is not what this module writes."""
    good = (
        _RECIPE.fullmatch(row["recipe"])
        and re.fullmatch(r"[0-9a-f]{12}", row["hash"])
        and _whole(row["seed"])
        and (row["step"] is None or _whole(row["step"]))
        and all(
            FILE.fullmatch(name) and _whole(size) and re.fullmatch(r"[0-9a-f]{64}", checksum)
            for name, (size, checksum) in row["files"].items()
        )
    )
    if not good:
        raise ValueError(f"its manifest names {str(row)[:200]}")


def _assemble(table: dict[str, list], pieces: dict[tuple[str, int], bytes]) -> dict[str, bytes]:
    files = {}
    for name, (size, checksum) in table.items():
        data = b"".join(pieces[place] for place in sorted(pieces) if place[0] == name)
        if len(data) != size:
            raise ValueError(f"{len(data)} of the {size} bytes of {name} are here")
        if sha256(data) != checksum:
            raise ValueError(f"{name} does not match its checksum")
        files[name] = data
    return files


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9
