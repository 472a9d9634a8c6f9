"""One shift of work on the queue: processes that train, a clock, and archives that are never far behind."""

import contextlib
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from mmlib.reproduce import archive
from mmlib.reproduce.folder import RunFolder, RunLockedError
from mmlib.reproduce.parcel import WEIGHTS, Parcel, collect
from mmlib.reproduce.recipes import Recipe

STATE = 24e6  # bytes of a checkpoint of the largest networks: weights and three moments
CHECKPOINT_EVERY = {"cpu": 500, "cuda": 2_000}  # steps; more often than the archives would be no use
PATIENCE = (
    10.0  # seconds to wait for a run that is being made: a worker of a killed queue lives for a moment longer
)
PAIRING = ("dm", "max_d", "fraction", "paired", "always")  # options of data that need no other files


@dataclass
class _Worker:
    """A process that makes a run, and what it last said."""

    folder: RunFolder
    process: multiprocessing.Process
    pipe: Connection
    since: float
    event: str = ""
    text: str = ""


class Shift:
    """Runs within a wall-clock budget.

    Two moments end it. At the first the workers are asked to stop: training writes a checkpoint and pauses, while an
    evaluation may still come to its end. At the second whatever still runs is killed, and the archives are written.

    Args:
        budget: seconds until :meth:`run` has returned.
        out: folder of archives.
        device: where to train.
        jobs: processes side by side.
        cache: folder of the data.
        say: gets a line of text for everything that happens.
        startup: seconds that a process is given to begin training, until one has shown how long it takes. With less
            time left no run is begun.
        margin: seconds for each of the two ends: to write a checkpoint, and to write the archives.
        pack_every: seconds between archives while nothing ends.
    """

    def __init__(
        self,
        budget: float,
        out: Path,
        device: str,
        jobs: int,
        cache: Path | str | None,
        say: Callable[[str], None],
        startup: float = 20.0,
        margin: float | None = None,
        pack_every: float = 60.0,
    ) -> None:
        self.start, self.out, self.device, self.jobs, self.cache = time.monotonic(), out, device, jobs, cache
        self.end = self.start + budget
        self.margin = min(15.0, max(1.0, budget / 20)) if margin is None else margin
        self.startup, self.pack_every, self._say = startup, pack_every, say
        self.parcels: dict[tuple, Parcel] = {}  # what the archives must hold
        self.folders: list[RunFolder] = []
        self.waiting: list[tuple[RunFolder, int]] = []
        self.workers: list[_Worker] = []
        self.packed, self.pack_seconds, self.left = self.start, 0.0, []
        self.unwritten: OSError | None = None

    def begin(self, folders: list[RunFolder], parcels: list[Parcel]) -> None:
        """Take stock.

        Args:
            folders: of the runs to be made, the more important first.
            parcels: what the archives hold and must go on holding.
        """
        self.folders, self.parcels = folders, {parcel.run: parcel for parcel in parcels}
        self._refresh()
        started, new = [], []
        for folder in folders:
            parcel = self.parcels.get(_run(folder))
            if parcel is None:
                new.append((folder, 1))
            elif parcel.step is not None:
                identity = parcel.identity
                kind = identity.get("device")
                if kind == self.device.split(":")[0]:
                    started.append((folder, identity.get("threads", 1)))
                else:
                    where = f"was begun on {kind} and goes on there only; this is {self.device}"
                    self.say(f"{folder}, {where}: it waits at step {parcel.step}")
        self.waiting = started + new

    def run(self) -> None:
        """Work until everything is made or the time is over; see :func:`mmlib.reproduce.queue.work`."""
        self._pack()
        if self.unwritten is not None:  # nothing could be saved
            raise self.unwritten
        try:
            with _terminated_as_interrupted():
                self._loop()
        except KeyboardInterrupt:
            self.say("interrupted: saving")
            self._ask_to_stop()
            self._watch(until=min(self.end, time.monotonic() + self.margin + 1), stopping=True)
            raise
        finally:
            for worker in self.workers:
                worker.process.kill()
                worker.process.join()
                if worker.event != "done":
                    kept = f"kept up to step {worker.folder.step()}"
                    self.say(f"{worker.folder}: killed, for it did not stop in time; {kept}")
            self.workers = []
            self._pack()
        if self.unwritten is not None:
            raise self.unwritten
        todo = [folder for folder in self.folders if not folder.finished()]
        self.say(
            f"{len(self.folders) - len(todo)} of {len(self.folders)} runs are finished and in {self.out}"
        )

    def say(self, text: str) -> None:
        """Say it with the time."""
        seconds = int(time.monotonic() - self.start)
        self._say(f"{seconds // 60:3d}:{seconds % 60:02d}  {text}")

    @property
    def stop_at(self) -> float:
        """When training is asked to stop."""
        return self.kill_at - self.margin

    @property
    def kill_at(self) -> float:
        """When whatever still runs is killed."""
        return self.end - max(self.margin, 2 * self.pack_seconds)

    def _loop(self) -> None:
        asked = False
        while True:
            now = time.monotonic()
            if now < self.stop_at:
                self._start_some()
            elif not asked:
                asked = True
                self._ask_to_stop()
            if not self.workers or now >= self.kill_at:
                return
            self._watch(until=min(now + 1.0, self.kill_at if asked else self.stop_at))
            if time.monotonic() - self.packed > self.pack_every:
                self._pack()

    def _start_some(self) -> None:
        while self.waiting and len(self.workers) < self.jobs:
            folder, threads = self.waiting[0]
            if time.monotonic() + self.startup >= self.stop_at:
                self.say(f"too little time is left to begin {folder}")
                self.waiting = []
                return
            if _run(folder) not in self.parcels and self._taken() + _state(folder) > archive.room():
                if not self.workers:
                    self.say(
                        f"{self.out} has no room for {folder}: merge it, then go on with an empty folder"
                    )
                    self.waiting = []
                return
            del self.waiting[0]
            self._start(folder, threads)

    def _start(self, folder: RunFolder, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        every = CHECKPOINT_EVERY[self.device.split(":")[0]]
        options = {"device": self.device, "threads": threads, "cache": self.cache, "checkpoint_every": every}
        process = context.Process(target=make, args=(theirs, folder, options), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(folder, process, mine, time.monotonic()))
        done = folder.step()
        self.say(f"{folder}: {f'continued at step {done}' if done else 'begun'}")

    def _taken(self) -> float:
        """Bytes of the archives that results and states need, those of the runs being made included."""
        busy = {_run(worker.folder): _state(worker.folder) for worker in self.workers}
        sizes = {
            run: parcel.size + archive.OVERHEAD * len(parcel.files) for run, parcel in self.parcels.items()
        }
        return sum((busy | sizes).values())

    def _ask_to_stop(self) -> None:
        self.waiting = []
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.pipe.send("stop")

    def _watch(self, until: float, stopping: bool = False) -> None:
        """Hear the workers until something ends; with ``stopping``, until all have."""
        while self.workers and (left := until - time.monotonic()) > 0:
            wait([worker.pipe for worker in self.workers], timeout=left)
            ended = [worker for worker in self.workers if self._hear(worker)]
            for worker in ended:
                self.workers.remove(worker)
                self.say(f"{worker.folder}: {worker.text}")
            if ended and not stopping:
                self._pack()
                return

    def _hear(self, worker: _Worker) -> bool:
        """Take what a worker says; whether it has ended."""
        try:
            while worker.pipe.poll():
                worker.event, worker.text = worker.pipe.recv()
                if worker.event == "training":
                    self.startup = time.monotonic() - worker.since
                if worker.event == "no such device":
                    raise ValueError(worker.text)
        except (EOFError, OSError):
            worker.process.join(5)
            worker.process.kill()
            if worker.event in ("", "training"):
                worker.text = f"its process ended with code {worker.process.exitcode}"
            if worker.event == "no data":  # nor for the others that need it
                missing = _files(worker.folder)
                self.waiting = [entry for entry in self.waiting if _files(entry[0]) != missing]
            worker.event = "done"
            return True
        return False

    def _refresh(self) -> None:
        """Take from the disk what is further than what the archives hold."""
        for folder in self.folders:
            fresh = collect(folder) if folder.path.exists() else None
            if fresh is not None:
                old = self.parcels.get(fresh.run, fresh)
                self.parcels[fresh.run] = max(fresh, old, key=lambda p: (p.progress, WEIGHTS in p.files))

    def _pack(self) -> None:
        """Write the archives anew; if the disk refuses, say so and go on: the former ones are intact."""
        began = time.monotonic()
        try:
            self._refresh()
            left = archive.write(self.out, self.parcels.values())
            self.unwritten = None
        except OSError as error:
            self.unwritten = error
            self.say(f"{self.out} was not written ({error}); what it held is intact")
            return
        finally:
            self.packed = time.monotonic()
            self.pack_seconds = max(self.pack_seconds, self.packed - began)
        if left and left != self.left:
            self.say(f"{self.out} is full: {', '.join(left)} did not fit; merge it soon to keep everything")
        self.left = left


def make(pipe: Connection, folder: RunFolder, options: dict) -> None:
    """Make a run in a process of its own, telling ``(event, text)``; stops when told so, or when nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started this process says when to stop
    training, looked = False, 0.0

    def stop() -> bool:
        nonlocal training, looked
        now = time.monotonic()
        if not training:
            training = True
            pipe.send(("training", ""))
        elif now - looked < 0.05:  # looking takes time too
            return False
        looked = now
        return pipe.poll()

    with contextlib.suppress(OSError):
        pipe.send(_made(folder, options | {"stop": stop, "progress": False}))


def _made(folder: RunFolder, options: dict) -> tuple[str, str]:
    from tqdm import tqdm

    from mmlib.data import DataFileError
    from mmlib.reproduce.runner import run
    from mmlib.seeding import check_device
    from mmlib.train import Paused

    tqdm.set_lock(threading.RLock())  # its own would outlive a kill
    try:
        check_device(options["device"])
    except ValueError as error:
        return "no such device", str(error)
    patience = time.monotonic() + PATIENCE
    while True:
        try:
            if options["device"] != "cpu":
                train_judges(folder.recipe, options["device"], options["cache"])
            run(folder.recipe, folder.seed, folder.root, **options)
            return "finished", "finished"
        except (Paused, KeyboardInterrupt):
            return "paused", f"paused at step {folder.step()} of {folder.recipe.steps}"
        except RunLockedError as error:
            if time.monotonic() > patience:
                return "failed", f"left alone: {error}"
            time.sleep(0.5)
        except DataFileError as error:
            return "no data", f"left alone: {error}"
        except Exception as error:
            return "failed", f"failed: {type(error).__name__}: {error}"


def train_judges(recipe: Recipe, device: str, cache: Path | str | None = None) -> bool:
    """Train the judges of a recipe's data on a device, where no judges of that data set are at hand yet.

    The runner trains them on the processor, which takes minutes.

    Returns:
        Whether any were trained.
    """
    from mmlib.data.cache import cache_root
    from mmlib.metrics import train_classifiers
    from mmlib.reproduce.build import build_data, judges_data

    if any(cache_root(cache).glob(f"classifiers-{recipe.dataset}-*")):
        return False
    train_classifiers(judges_data(recipe, build_data(recipe, cache), cache), cache=cache, device=device)
    return True


@contextlib.contextmanager
def _terminated_as_interrupted():
    """SIGTERM as Ctrl-C inside, so that a polite end saves."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt("terminated")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(folder: RunFolder) -> tuple[str, int, str]:
    return folder.recipe.name, folder.seed, folder.recipe.hash


def _files(folder: RunFolder) -> tuple:
    """What decides which files of data a run needs."""
    recipe = folder.recipe
    return recipe.dataset, {key: value for key, value in recipe.data_options.items() if key not in PAIRING}


def _state(folder: RunFolder) -> float:
    """Bytes that the state of a run will have, roughly and rather too many."""
    return STATE * min(1.0, folder.recipe.width) ** 2 * (1.3 if folder.recipe.ema else 1.0)
