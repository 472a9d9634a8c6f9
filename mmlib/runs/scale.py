"""Many runs at once: in processes on one machine, or on the workers of a Dask cluster.

Every job is the ordinary runner on a folder of runs that all processes share. So a job may be handed out twice, or its
process killed at any moment, and the run is still made exactly once.
"""

import contextlib
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import joblib
from joblib.externals.loky import BrokenProcessPool, ProcessPoolExecutor
from joblib.externals.loky.backend import get_context
from tqdm import tqdm

from mmlib.checks import real, whole
from mmlib.runs.folder import RunFolder, RunLockedError
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.runner import run

POLL = 1.0  # seconds between two looks at the runs
PATIENCE = 5.0  # seconds until a run that another program makes is tried again
ORPHANED = 60.0  # seconds until a process ends whose caller was killed
KILLS = 2  # a run is given up when its process was killed so often without getting on
PER_DEVICE = 4  # processes side by side on one accelerator, if not said otherwise
_ONE_AT_A_TIME = threading.Lock()  # threads and random streams belong to the process: no two runs in one
_caller = None  # in a process of this machine: the end of a pipe whose other end the caller holds


class RunsFailedError(RuntimeError):
    """Some of many runs were not made; the message says which and why. All the others are finished."""


@dataclass
class _Job:
    """A run to be made, and the device it was dealt."""

    folder: RunFolder
    device: str
    step: int = 0  # where it was handed out last
    kills: int = 0  # of its process, in a row, without getting on
    words: str = ""  # why it failed, if it did


def run_all(
    jobs: Iterable[tuple[Recipe | str, int]],
    root: Path | str = "runs",
    n_jobs: int | None = None,
    dask=None,
    device: str | Sequence[str] = "cpu",
    threads: int = 1,
    progress: bool = True,
    checkpoint_every: int = 500,
    cache: Path | str | None = None,
    capture: bool | None = None,
    portable: bool = False,
    budget: float | None = None,
) -> list[Path]:
    """Make many runs, several at a time: paths of the ``result.json`` in order of the jobs, if there is time for them.

    A run that fails does not stop the others; one that another program is making is waited for. Ctrl-C lets every run
    write a checkpoint; a second one stops at once. Arguments are as for :func:`mmlib.runs.runner.run`, and:

    * ``jobs`` are recipes, or their names, with seeds; on a cluster this process and all workers share the ``root``;
    * ``n_jobs`` is how many at a time on this machine; default: one for each ``threads`` of its cores, at most 4 for
      each accelerator. A cluster, which ``dask`` gives by address of its scheduler, as object or client, makes one on
      each worker, which should have one thread;
    * of several devices, such as ``["cuda:0", "cuda:1"]``, the jobs are dealt one after the other;
    * ``budget`` is in seconds, after which every run writes a checkpoint and pauses; only finished ones are given then.

    Raises:
        ValueError: for a bad argument, such as an unknown recipe or device; nothing is begun then.
        RunsFailedError: when all other runs are done, if some could not be made.
        ConnectionError: if the scheduler of the cluster is gone.
        KeyboardInterrupt: on Ctrl-C; the same call continues what is missing.
    """
    devices = [device] if isinstance(device, str) else list(device)
    width = _width(n_jobs, whole("threads", threads), devices)
    options = {"threads": threads, "checkpoint_every": whole("checkpoint_every", checkpoint_every)}
    options |= {"cache": cache and str(Path(cache).resolve()), "capture": capture, "portable": portable}
    options["progress"] = progress and not sys.stderr.isatty()  # there, one bar is for all
    end = math.inf if budget is None else time.monotonic() + real("budget", budget, 0.0)
    folders, todo = [RunFolder(get(recipe), seed, Path(root).resolve()) for recipe, seed in jobs], {}
    for folder in folders:
        job = _Job(folder, devices[len(todo) % len(devices)])
        if todo.get(folder.path, job).folder.recipe.hash != folder.recipe.hash:
            raise ValueError(f"jobs hold two recipes of the name {folder.recipe.name!r}; expected one")
        if not folder.finished():
            todo.setdefault(folder.path, job)
    if wanted := list(todo.values()):
        with _processes(width, threads, devices) if dask is None else _cluster(dask, devices) as pool:
            interrupted = _work(wanted, *pool, options, end, progress)
        text = f"{sum(job.folder.finished() for job in wanted)} of {len(wanted)} runs finished"
        failed = "".join(f"\n  {job.folder}: {job.words}" for job in wanted if job.words)
        if interrupted:
            raise KeyboardInterrupt(f"{text}; the same call continues from the checkpoints{failed}")
        if failed:
            raise RunsFailedError(f"{text}; these failed, and the same call tries them again:{failed}")
    return [folder.result for folder in folders if budget is None or folder.finished()]


def _width(n_jobs: int | None, threads: int, devices: list[str]) -> int:
    if not devices:
        raise ValueError("device is an empty list; expected at least one device")
    most = math.inf if devices == ["cpu"] else PER_DEVICE * len(devices)
    return whole("n_jobs", min(max(1, joblib.cpu_count() // threads), most) if n_jobs is None else n_jobs)


def _work(jobs: list[_Job], submit, killed, let_go, options: dict, end: float, progress: bool) -> bool:
    """Hand out the jobs until each has ended, or time is up, or Ctrl-C: whether it was that.

    A run whose process was killed goes on in another one; what another program makes comes last. ``submit`` gives the
    future of a job, which raises ``killed`` when the process died; ``let_go`` tells processes that no run is wanted.
    """
    pending, busy, ended, stopping, interrupted = {}, [], 0, False, False

    def begin(job: _Job) -> None:
        if not stopping:
            job.step = job.folder.step()
            pending[submit(_make, job.folder, job.device, options)] = job

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            let_go()
            for future in list(pending):
                future.cancel()

    def end_of(job: _Job, future: Future) -> None:
        nonlocal ended
        try:
            state, words = future.result()
        except CancelledError as error:
            if stopping:
                return
            reason = "the scheduler of the cluster is gone; the same call continues on another cluster"
            raise ConnectionError(reason) from error
        except killed:
            step = job.folder.step()
            job.kills = 1 if step > job.step else job.kills + 1
            state = "stopped" if job.kills < KILLS else "failed"
            words = f"its process was killed {KILLS} times at step {step}: was there enough memory?"
        if state == "busy":
            busy.append(job)
        elif state == "stopped":
            begin(job)  # a worker that is closed stops its run too
        else:
            job.words, ended = words, ended + 1
            if progress:
                bar.write(f"{ended}/{len(jobs)}  {job.folder}: {words or state}", file=sys.stderr)

    folders = [job.folder for job in jobs]
    total = sum(folder.recipe.steps for folder in folders)
    folders[0].root.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        begin(job)
    with tqdm(total=total, unit="step", file=sys.stderr, ncols=88, disable=None if progress else True) as bar:
        while pending or (busy and not stopping):
            try:
                if time.monotonic() > end:
                    stop()
                if not pending:  # other programs make those that are left
                    time.sleep(PATIENCE)
                    busy, again = [], busy
                    for job in again:
                        begin(job)
                for future in wait(pending, POLL, FIRST_COMPLETED).done:
                    end_of(pending.pop(future), future)
                bar.n = sum(f.recipe.steps if f.result.exists() else f.step() for f in folders)
                bar.refresh()
            except KeyboardInterrupt:
                if interrupted:
                    raise KeyboardInterrupt("stopped at once, at the second interrupt") from None
                interrupted = True
                stop()
                advice = "every run writes a checkpoint first; press Ctrl-C again to stop at once"
                print(f"\nstopping: {advice}", file=sys.stderr)
    return interrupted


def _make(folder: RunFolder, device: str, options: dict) -> tuple[str, str]:
    """Make one run: how it ended, and in which words. It raises nothing, so that all that is raised is the pool's."""
    from mmlib.train import Paused

    stop = _cancelled if _caller is None else _caller.poll
    try:
        if not folder.root.is_dir():
            lost = f"{folder.root} is not there: workers must see the caller's folder of runs"
            raise FileNotFoundError(lost)
        with _ONE_AT_A_TIME:
            if stop():
                return "stopped", ""
            run(folder.recipe, folder.seed, folder.root, device, stop=stop, **options)
            return "finished", ""
    except RunLockedError:
        return "busy", ""
    except (KeyboardInterrupt, Paused):
        return "stopped", ""
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"


def _cancelled() -> bool:
    """On a worker of a cluster: whether the task was cancelled, as when the caller was killed, or the worker closes."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled" or worker.status.name.startswith("clos")


@contextlib.contextmanager
def _processes(width: int, threads: int, devices: list[str]):
    """Processes on this machine, one for each run, so that one that is killed harms no other.

    Each has one end of a pipe. When the caller closes the other end, or is killed, the run is no longer wanted.
    """
    for device in set(devices) - {"cpu"}:
        from mmlib.seeding import check_device

        check_device(device)
    (wanted, held), pools = get_context().Pipe(duplex=False), []
    options = {"timeout": ORPHANED, "initializer": _begin, "initargs": (wanted,)}
    options["env"] = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}

    def in_a_process(*call):
        with ProcessPoolExecutor(1, **options) as pool:
            pools.append(pool)
            return pool.submit(*call).result()

    with wanted, held, ThreadPoolExecutor(width) as executor:
        try:
            yield partial(executor.submit, in_a_process), BrokenProcessPool, held.close
        except BaseException:  # the second interrupt
            executor.shutdown(wait=False, cancel_futures=True)
            for pool in pools:
                pool.shutdown(wait=False, kill_workers=True)
            raise


def _begin(wanted) -> None:
    """In a new process of this machine: Ctrl-C is for the caller, and for a training that is under way."""
    global _caller
    _caller = wanted
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _cluster(dask, devices: list[str]):
    """The workers of a Dask cluster, given by an address, a cluster object or a client."""
    from distributed import Client, KilledWorker

    from mmlib.seeding import check_device

    client = dask if isinstance(dask, Client) else Client(dask, set_as_default=False)
    try:
        if not client.scheduler_info()["workers"]:
            print("waiting for the first worker of the cluster", file=sys.stderr)
        for device in set(devices) - {"cpu"}:
            client.submit(check_device, device, pure=False).result()
        yield client.get_executor(pure=False).submit, KilledWorker, lambda: None  # cancelled futures suffice
    finally:
        if client is not dask:
            client.close()
