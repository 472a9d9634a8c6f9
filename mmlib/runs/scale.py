"""Many runs at once: in processes on one machine, or on the workers of a Dask cluster.

Every job is the ordinary runner on a folder of runs that all processes share. The folder of a run knows whether the run
is finished, how far it got and who holds it, so a job may be handed out twice, or its process killed at any moment, and
the run is still made exactly once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mmlib.checks import real, whole
from mmlib.runs.folder import RunFolder, RunLockedError
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.runner import run

POLL = 1.0  # seconds between two looks at the runs
KILLS = 2  # a run is given up when its process was killed so often without getting on
IDLE = 10.0  # seconds after which a process whose caller was killed goes too
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
    budget: float | None = None,
) -> list[Path]:
    """Make many runs, several at a time; finished ones are not made again, interrupted ones are continued.

    A run that fails does not stop the others. A run that another program is making is waited for. Ctrl-C lets every run
    write a checkpoint; a second one stops at once.

    Args:
        jobs: recipes, or their names, with seeds.
        root: folder of all runs; on a cluster one that this process and all workers share.
        n_jobs: runs at a time on this machine; default: one for each core, or for each ``threads`` of them, and at most
            4 for each accelerator. A cluster makes as many at a time as it has workers.
        dask: a cluster to work on instead of this machine: address of its scheduler, cluster object or client. Its
            workers should have one thread each.
        device: where to train; of several, such as ``["cuda:0", "cuda:1"]``, the jobs are dealt one after the other.
        threads: of the processor, for each run; part of the run's identity.
        progress: show how many steps are done, if standard error is a terminal, else what each run does.
        checkpoint_every: steps between checkpoints.
        cache: folder of the data, if not the usual one.
        capture: as in :func:`mmlib.runs.runner.run`.
        budget: seconds after which every run writes a checkpoint and pauses; default: no end.

    Returns:
        Paths of the ``result.json``, in order of the jobs; with a budget those of the runs that are finished.

    Raises:
        ValueError: for a bad argument, such as an unknown recipe or device; nothing is begun then.
        RunsFailedError: when all other runs are done, if some could not be made.
        ConnectionError: if the scheduler of the cluster is gone.
        KeyboardInterrupt: on Ctrl-C; the same call continues what is missing.
    """
    devices = [device] if isinstance(device, str) else list(device)
    width, threads = _width(n_jobs, threads, devices), whole("threads", threads)
    options = dict(
        threads=threads, checkpoint_every=whole("checkpoint_every", checkpoint_every), capture=capture
    )
    options |= dict(cache=None if cache is None else str(Path(cache).resolve()))
    options |= dict(progress=progress and not sys.stderr.isatty())
    end = float("inf") if budget is None else time.monotonic() + real("budget", budget, 0.0)
    folders = [RunFolder(get(recipe), seed, Path(root).resolve()) for recipe, seed in jobs]
    todo: dict[Path, _Job] = {}
    for folder in folders:
        job = _Job(folder, devices[len(todo) % len(devices)])
        if todo.get(folder.path, job).folder.recipe.hash != folder.recipe.hash:
            raise ValueError(f"jobs hold two recipes of the name {folder.recipe.name!r}; expected one")
        if not folder.finished():
            todo.setdefault(folder.path, job)
    if todo:
        wanted = list(todo.values())
        with _processes(width, threads, devices) if dask is None else _cluster(dask, devices) as pool:
            interrupted = _work(wanted, *pool, options, end, progress)
        text = f"{sum(job.folder.finished() for job in wanted)} of {len(wanted)} runs finished"
        failed = "".join(f"\n  {job.folder}: {job.words}" for job in wanted if job.words)
        if interrupted:
            raise KeyboardInterrupt(
                f"{text}; the same call continues the others from their checkpoints{failed}"
            )
        if failed:
            raise RunsFailedError(f"{text}; these failed, and the same call tries them again:{failed}")
    return [folder.result for folder in folders if budget is None or folder.finished()]


def _width(n_jobs: int | None, threads: int, devices: list[str]) -> int:
    """How many runs at a time."""
    import joblib

    if not devices:
        raise ValueError("device is an empty list; expected at least one device")
    if n_jobs is not None:
        return whole("n_jobs", n_jobs)
    width = max(1, joblib.cpu_count() // whole("threads", threads))
    return width if devices == ["cpu"] else min(width, PER_DEVICE * len(devices))


def _work(jobs: list[_Job], submit, killed, let_go, options: dict, end: float, progress: bool) -> bool:
    """Hand out the jobs until each has ended, or time is up, or Ctrl-C: whether it was that.

    A run whose process was killed goes on from its checkpoint in another one. One that another program is making comes
    again when that has let it go.

    ``submit`` begins one, its future raises ``killed`` when the process died, and ``let_go`` tells those that are being
    made that they are no longer wanted.
    """
    pending: dict[Future, _Job] = {}
    busy, ended = [], []
    stopping = interrupted = False

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
        if future.cancelled() and stopping:
            return
        if future.cancelled():
            raise ConnectionError(
                "the scheduler of the cluster is gone; the same call continues on another cluster"
            )
        try:
            state, words = future.result()
        except killed:
            step = job.folder.step()
            job.kills = 1 if step > job.step else job.kills + 1
            state, words = (
                "killed",
                f"its process was killed {KILLS} times at step {step}: was there enough memory?",
            )
        if state == "busy":
            busy.append(job)
        elif state == "stopped" or (state == "killed" and job.kills < KILLS):
            begin(job)  # a worker that was closed stops too
        else:
            job.words = words
            ended.append(job)
            if progress:
                bar.write(f"{len(ended)}/{len(jobs)}  {job.folder}: {words or state}", file=sys.stderr)

    jobs[0].folder.root.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        begin(job)
    with _bar(jobs, progress) as bar:
        while pending or (busy and not stopping):
            try:
                if time.monotonic() > end:
                    stop()
                done, _ = wait(pending, POLL, FIRST_COMPLETED)
                time.sleep(0 if pending else POLL)
                for future in done:
                    end_of(pending.pop(future), future)
                for job in [job for job in busy if not job.folder.held()]:
                    busy.remove(job)
                    begin(job)
                bar.n = _steps(jobs)
                bar.refresh()
            except KeyboardInterrupt:
                if interrupted:
                    raise KeyboardInterrupt("stopped at once, at the second interrupt") from None
                interrupted = True
                stop()
                advice = "every run writes a checkpoint first; press Ctrl-C again to stop at once"
                print(f"\nstopping: {advice}", file=sys.stderr)
    return interrupted


def _steps(jobs: list[_Job]) -> int:
    """Steps done in all runs together, read off their folders."""
    folders = [job.folder for job in jobs]
    return sum(folder.recipe.steps if folder.result.exists() else folder.step() for folder in folders)


def _bar(jobs: list[_Job], progress: bool):
    """A bar of all steps."""
    from tqdm import tqdm

    shown = progress and sys.stderr.isatty() and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    total = sum(job.folder.recipe.steps for job in jobs)
    return tqdm(total=total, initial=_steps(jobs), unit="step", disable=not shown, file=sys.stderr, ncols=88)


# --- in the process of a run ----------------------------------------------------------------------------------------


def _make(folder: RunFolder, device: str, options: dict) -> tuple[str, str]:
    """Make one run: how it ended, and in which words. It raises nothing, so that all that is raised is the pool's."""
    from mmlib.train import Paused

    stop = _caller.poll if _caller is not None else _cancelled
    try:
        if not folder.root.is_dir():
            reason = (
                "this worker does not see the caller's folder of runs; it must be shared, under the same path"
            )
            raise FileNotFoundError(f"{folder.root} is not there: {reason}")
        with _ONE_AT_A_TIME:
            if stop():
                return "stopped", ""
            run(folder.recipe, folder.seed, folder.root, device, stop=stop, **options)
            return "finished", ""
    except RunLockedError:
        return "busy", ""
    except (Paused, KeyboardInterrupt):
        return "stopped", ""
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"


def _cancelled() -> bool:
    """On a worker of a cluster: whether the task was cancelled, as when the caller was killed, or the worker closes."""
    from distributed import get_worker

    worker = get_worker()
    task = worker.state.tasks.get(worker.get_current_task())
    return task is None or task.state == "cancelled" or worker.status.name.startswith("clos")


# --- the caller -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _processes(width: int, threads: int, devices: list[str]):
    """Processes on this machine, one for each run, so that one that is killed harms no other.

    Each has one end of a pipe; when the caller closes the other end, or is killed, the run is no longer wanted.
    """
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.backend import get_context
    from joblib.externals.loky.process_executor import BrokenProcessPool

    for device in set(devices) - {"cpu"}:
        from mmlib.seeding import check_device

        check_device(device)
    wanted, held = get_context().Pipe(duplex=False)
    environment = {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    pools = set()

    def in_a_process(*call):
        with ProcessPoolExecutor(
            1, timeout=IDLE, initializer=_begin, initargs=(wanted,), env=environment
        ) as pool:
            pools.add(pool)
            try:
                return pool.submit(*call).result()
            finally:
                pools.remove(pool)

    with wanted, held, ThreadPoolExecutor(width) as executor:
        try:
            yield partial(executor.submit, in_a_process), BrokenProcessPool, held.close
        except BaseException:  # the second interrupt
            executor.shutdown(wait=False, cancel_futures=True)
            for pool in list(pools):
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
