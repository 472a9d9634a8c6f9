"""The queue: which runs are wanted, in which order, and how a machine that lives for minutes gets on with them.

``work`` makes runs within a wall-clock budget and keeps everything that is worth keeping in a folder of archives
(:mod:`mmlib.reproduce.archive`), from which a later call, on another machine, goes on. ``merge`` brings it home.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from mmlib.reproduce import archive
from mmlib.reproduce.folder import RunFolder, RunLockedError
from mmlib.reproduce.parcel import Parcel, collect, unpack
from mmlib.reproduce.recipes import RECIPES, Recipe, get
from mmlib.reproduce.results import RESULTS, ResultError, publish, verify

QUEUE = Path(__file__).resolve().parents[2] / "data" / "queue.yaml"
_FIELDS = {"recipe", "seeds", "priority", "why"}


@dataclass(frozen=True)
class Row:
    """Runs that are wanted.

    Attributes:
        recipe: of all of them.
        seeds: one run each.
        priority: rows of a larger number come first.
        why: what they are wanted for.
    """

    recipe: Recipe
    seeds: tuple[int, ...]
    priority: int
    why: str


def load(path: Path | str = QUEUE) -> list[Row]:
    """The rows of a queue, as they stand in the file.

    Raises:
        ValueError: for an unknown recipe or field, a bad seed or priority, or a run that is asked for twice.
    """
    import yaml

    rows, seen = [], set()
    for entry in yaml.safe_load(Path(path).read_text()) or []:
        if not isinstance(entry, dict) or set(entry) != _FIELDS:
            raise ValueError(
                f"a row of {path} is {entry!r}; expected the fields {', '.join(sorted(_FIELDS))}"
            )
        recipe, seeds, priority = get(entry["recipe"]), entry["seeds"], entry["priority"]
        if not isinstance(seeds, list) or not seeds or not all(_whole(seed) and seed >= 0 for seed in seeds):
            raise ValueError(
                f"seeds of {recipe.name} is {seeds!r}; expected a list of integers of at least 0"
            )
        if not _whole(priority):
            raise ValueError(f"priority of {recipe.name} is {priority!r}; expected an integer")
        for seed in seeds:
            if (recipe.name, seed) in seen:
                raise ValueError(f"{recipe.name}, seed {seed}, is in the queue twice; expected once")
            seen.add((recipe.name, seed))
        rows.append(Row(recipe, tuple(seeds), priority, str(entry["why"])))
    return rows


def wanted(rows: list[Row], root: Path | str = "runs") -> list[RunFolder]:
    """The folders of all runs of a queue, by priority, then by position and seed."""
    order = sorted(rows, key=lambda row: -row.priority)
    return [RunFolder(row.recipe, seed, Path(root)) for row in order for seed in sorted(row.seeds)]


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``"9m"``, ``"90s"`` or ``"1h30m"``.

    Raises:
        ValueError: for anything else, and for no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip())
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    if not hours + minutes + seconds:
        raise ValueError(f"duration is {text!r}; expected for example 9m, 90s or 1h30m")
    return 3600.0 * hours + 60 * minutes + seconds


def recorded(folder: RunFolder, results: Path | str = RESULTS) -> dict | None:
    """The recorded result of a run of this very recipe, or None; a damaged one does not count."""
    try:
        result = verify(Path(results) / folder.recipe.name / f"seed-{folder.seed}.json")
        return result if result["recipe"]["hash"] == folder.recipe.hash else None
    except (FileNotFoundError, ResultError, KeyError, TypeError):
        return None


def work(
    budget_seconds: float,
    out: Path | str,
    device: str = "cpu",
    jobs: int = 1,
    root: Path | str = "runs",
    cache: Path | str | None = None,
    queue: Path | str = QUEUE,
    results: Path | str = RESULTS,
    **timing: float,
) -> None:
    """Make as many runs of the queue as the budget allows: started ones first, then by priority.

    What ``out`` holds is continued, and what there is at the end, or at any moment before, is in ``out`` again: a
    finished run is packed at once, a started one every minute and when it is paused. A run whose result is recorded is
    done. A run that fails does not stop the others. New runs begin only while ``out`` has room for their state.

    Args:
        budget_seconds: wall-clock time until this function has returned.
        out: folder of archives; created where it is missing.
        device: where to train. A started run is continued on the kind of device that it was begun on, or not at all.
        jobs: runs side by side, each a process.
        root: folder of all runs.
        cache: folder of the data, if not the usual one.
        queue: file that names the runs.
        results: recorded results.
        **timing: seconds: see :class:`mmlib.reproduce.shift.Shift`.

    Raises:
        ValueError: for a bad argument, a bad queue or a device that is not there.
        RunLockedError: if another process works with ``out``.
        OSError: if at the end ``out`` could not be written; its former content is intact.
        KeyboardInterrupt: on Ctrl-C or when terminated, after packing.
    """
    from mmlib.reproduce.shift import Shift

    if (
        isinstance(budget_seconds, bool)
        or not isinstance(budget_seconds, int | float)
        or not budget_seconds > 0
    ):
        raise ValueError(f"budget_seconds is {budget_seconds!r}; expected a number above 0")
    if not _whole(jobs) or jobs < 1:
        raise ValueError(f"jobs is {jobs!r}; expected an integer of at least 1")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ValueError(f"device is {device!r}; expected cpu, cuda or cuda:N")
    shift = Shift(budget_seconds, Path(out), device, jobs, cache, say, **timing)
    folders = wanted(load(queue), root)
    with archive.locked(out):
        shift.begin(*_open(out, folders, root, results))
        shift.run()


def _open(out, folders: list[RunFolder], root, results) -> tuple[list[RunFolder], list[Parcel]]:
    """Unpack ``out``: the folders of the runs to be made, and everything that ``out`` must go on holding."""
    parcels, problems = archive.read(out)
    for problem in problems:
        say(problem)
    todo, keep = [folder for folder in folders if recorded(folder, results) is None], []
    for parcel in parcels:
        folder = _home(parcel, root)
        if folder is None:
            say(f"{parcel} is of another version of its recipe: it stays in {out} as it is")
        else:
            known = recorded(folder, results)
            if known is not None and (
                parcel.step is not None or known == json.loads(parcel.files["result.json"])
            ):
                say(f"{parcel} is recorded already: {out} need not hold it any longer")
                continue
            try:
                if unpack(parcel, folder):
                    say(f"{parcel}: {_progress(parcel)} taken from {out}")
            except RunLockedError as error:
                say(str(error))
            if known is None and folder not in todo:
                todo.append(folder)
        keep.append(parcel)
    return todo, keep


def merge(out: Path | str, results: Path | str = RESULTS, runs: Path | str = "runs") -> list[str]:
    """Bring home what a folder of archives holds: results to ``results``, everything to ``runs``.

    May be called again; nothing that is there is overwritten by something that is less far.

    Args:
        out: folder of archives, which stays as it is.
        results: recorded results.
        runs: folder of all runs, where unfinished ones can be continued.

    Returns:
        For each run what became of it, and what was wrong with the archives; in words.

    Raises:
        ValueError: if there is no such folder.
        RunLockedError: if another process works with ``out``.
    """
    if not Path(out).is_dir():
        raise ValueError(f"out is {str(out)!r}; expected a folder of archives")
    with archive.locked(out):
        parcels, problems = archive.read(out)
        return problems + [f"{parcel}: {_bring(parcel, Path(runs), results)}" for parcel in parcels]


def _bring(parcel: Parcel, runs: Path, results) -> str:
    folder = _home(parcel, runs)
    if folder is None:
        there = RECIPES[parcel.recipe].hash if parcel.recipe in RECIPES else "no recipe of that name"
        return f"left alone: it is of recipe {parcel.hash}, here is {there}"
    known = recorded(folder, results)
    try:
        new = known is None and unpack(parcel, folder)
    except RunLockedError as error:
        return f"left alone: {error}"
    if parcel.step is not None:
        if known is not None:
            return "left alone: its result is recorded already"
        return f"{_progress(parcel)}, to be continued" if new else f"left alone: {folder.path} is as far"
    mine = json.loads(parcel.files["result.json"])
    if known is not None:
        return "recorded already" if known == mine else "left alone: another result of this run is recorded"
    if verify(folder.result) != mine:
        return f"left alone: {folder.path} holds another result of this run"
    publish(folder.path, results)
    return "recorded"


def status_text(
    out: Path | str | None = None,
    root: Path | str = "runs",
    queue: Path | str = QUEUE,
    results: Path | str = RESULTS,
) -> str:
    """The queue in words: a line for each run, in order, and what is known of it."""
    parcels, problems = archive.read(out) if out is not None else ([], [])
    there = {parcel.run: parcel for parcel in parcels}
    lines, counts = [], {}
    for folder in wanted(load(queue), root):
        run = folder.recipe.name, folder.seed, folder.recipe.hash
        places = (root, collect(folder)), (out, there.get(run))
        found = [(place, parcel) for place, parcel in places if parcel is not None]
        if recorded(folder, results) is not None:
            state, text = "recorded", "recorded"
        elif not found:
            state, text = "not begun", "not begun"
        else:
            place, parcel = max(found, key=lambda entry: entry[1].progress)
            state = "finished" if parcel.step is None else "started"
            text = f"{_progress(parcel, folder.recipe)}, in {place}"
        counts[state] = counts.get(state, 0) + 1
        lines.append(f"{folder.recipe.name:<36} seed {folder.seed}  {text}")
    return "\n".join([*problems, *lines, ", ".join(f"{count} {state}" for state, count in counts.items())])


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, file=sys.stderr, flush=True)


def _home(parcel: Parcel, root) -> RunFolder | None:
    """Where a parcel belongs, if its recipe is known and is still what it was."""
    recipe = RECIPES.get(parcel.recipe)
    return RunFolder(recipe, parcel.seed, Path(root)) if recipe and recipe.hash == parcel.hash else None


def _progress(parcel: Parcel, recipe: Recipe | None = None) -> str:
    if parcel.step is None:
        return "finished"
    return f"step {parcel.step}{f' of {recipe.steps}' if recipe else ''} on {device_of(parcel)}"


def device_of(parcel: Parcel) -> str:
    """The kind of device that an unfinished run was begun on: only there it goes on to the same bits."""
    return str(parcel.identity.get("device"))


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
