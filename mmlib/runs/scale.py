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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmlib.runs.folder import RunFolder, RunLockedError
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.runner import run
from mmlib.runs.ticket import Ticket, check_shared, look

POLL = 1.0  # seconds between two looks at a file that others change
KILLS = 3  # a run is given up when its process was killed so often without getting on
PER_DEVICE = 4  # processes side by side on one accelerator, if not said otherwise
_ONE_AT_A_TIME = threading.Lock()  # threads and random streams belong to the process: no two runs in one


class RunsFailedError(RuntimeError):
    """Some of many runs were not made; the message says which and why. All the others are finished."""


@dataclass(frozen=True)
class _Job:
    """A run to be made, the device it was dealt, and how long its journal was before this call."""

    folder: RunFolder
    device: str
    since: int

    @property
    def key(self) -> str:
        return str(self.folder.path)


def run_all(
    jobs: Iterable[tuple[Recipe | str, int]],
    root: Path | str = "runs",
    n_jobs: int | None = None,
    dask=None,
    device: str | Sequence[str] = "cpu",
    threads: int = 1,
    cores: int | None = None,
    progress: bool = True,
    checkpoint_every: int = 500,
    cache: Path | str | None = None,
    capture: bool | None = None,
) -> list[Path]:
    """Make many runs, several at a time; finished ones are not made again, interrupted ones are continued.

    A run that fails does not stop the others. A run that another program is making is waited for. Ctrl-C lets every run
    write a checkpoint; a second one stops at once.

    Args:
        jobs: recipes, or their names, with seeds.
        root: folder of all runs; on a cluster one that this process and all workers share.
        n_jobs: runs at a time on this machine; default: ``cores // threads``, and at most 4 for each accelerator. A
            cluster makes as many at a time as it has workers.
        dask: a cluster to work on instead of this machine: address of its scheduler, cluster object or client. Its
            workers should have one thread each.
        device: where to train; of several, such as ``["cuda:0", "cuda:1"]``, the jobs are dealt one after the other.
        threads: of the processor, for each run; part of the run's identity.
        cores: of this machine that may be used; default: all that this process may use.
        progress: show how many steps are done, if standard error is a terminal, and every run that ends.
        checkpoint_every: steps between checkpoints.
        cache: folder of the data, if not the usual one.
        capture: as in :func:`mmlib.runs.runner.run`.

    Returns:
        Paths of the ``result.json``, in order of the jobs.

    Raises:
        ValueError: for a bad argument, such as an unknown recipe; nothing is begun then.
        RunsFailedError: when all other runs are done, if some could not be made.
        ConnectionError: if the scheduler of the cluster is gone.
        KeyboardInterrupt: on Ctrl-C; the same call continues what is missing.
    """
    root = Path(root).resolve()
    folders = [RunFolder(get(r) if isinstance(r, str) else r, seed, root) for r, seed in jobs]
    devices = [device] if isinstance(device, str) else list(device)
    width = _width(n_jobs, cores, threads, devices)
    todo: dict[str, _Job] = {}
    for folder in folders:
        job = _Job(folder, devices[len(todo) % len(devices)], len(folder.events()))
        if todo.get(job.key, job).folder.recipe.hash != folder.recipe.hash:
            raise ValueError(f"jobs hold two recipes of the name {folder.recipe.name!r}; expected one")
        if not folder.finished():
            todo.setdefault(job.key, job)
    if todo:
        pool = _cluster(dask) if dask is not None else _processes(width, threads)
        cache = None if cache is None else str(Path(cache).resolve())
        options = dict(threads=threads, checkpoint_every=checkpoint_every, cache=cache, capture=capture)
        wanted = list(todo.values())
        with Ticket(root) as ticket, pool as parallel, _bar(wanted, progress) as say:
            failed = _work(wanted, ticket, parallel, options, say)
        _report(wanted, failed, ticket)
    return [folder.result for folder in folders]


def _width(n_jobs: int | None, cores: int | None, threads: int, devices: list[str]) -> int:
    """How many runs at a time."""
    import joblib

    if not devices:
        raise ValueError("device is an empty list; expected at least one device")
    for name, value in (("n_jobs", n_jobs), ("cores", cores), ("threads", threads)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{name} is {value!r}; expected an integer of at least 1")
    if n_jobs is not None:
        return n_jobs
    width = max(1, (cores or joblib.cpu_count()) // threads)
    return width if devices == ["cpu"] else min(width, PER_DEVICE * len(devices))


def _work(jobs: list[_Job], ticket: Ticket, parallel, options: dict, say) -> dict[str, str]:
    """Hand out the jobs until each has ended: those that failed, with the reason.

    When a process dies it takes its pool along. What was not begun goes into a new pool; the runs that were in the
    making come after, each with a pool to itself: one that kills its process again has failed, and harmed no other.
    Runs that another program is making come last of all.
    """
    from joblib import delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    failed: dict[str, str] = {}
    by_key = {job.key: job for job in jobs}
    groups, busy, suspects = [(jobs, False)], [], set()
    with _withdrawn_on_interrupt(ticket):
        while (groups or busy) and not ticket.withdrawn:
            group, wait = groups.pop(0) if groups else (busy, True)
            busy = [] if wait else busy
            lost = {job.key for job in group}
            with contextlib.suppress(BrokenProcessPool):
                for key, state, words in parallel(
                    delayed(_make)(job, ticket.path, wait, options) for job in group
                ):
                    lost.discard(key)
                    if state == "busy":
                        busy.append(by_key[key])
                    elif state == "stopped":
                        ticket.withdraw()
                    elif not ticket.withdrawn:
                        if state == "failed":
                            failed[key] = words
                        say(f"{by_key[key].folder}: {words or state}")
            again = [job for job in group if job.key in lost]
            begun = [job for job in again if _killed(job)] or again
            rest = [job for job in again if job not in begun]
            groups += [(rest, wait)] * bool(rest)
            for job in begun:
                if len(group) == 1 and job.key in suspects:
                    failed[job.key] = "its process was killed, twice: was there enough memory?"
                    say(f"{job.folder}: {failed[job.key]}")
                else:
                    suspects.add(job.key)
                    groups.append(([job], wait))
    return failed


def _report(jobs: list[_Job], failed: dict[str, str], ticket: Ticket) -> None:
    """Raise what says which runs are missing."""
    done = sum(job.folder.finished() for job in jobs)
    text = f"{done} of {len(jobs)} runs finished"
    reasons = "".join(f"\n  {job.folder}: {failed[job.key]}" for job in jobs if job.key in failed)
    if ticket.withdrawn:
        raise KeyboardInterrupt(f"{text}; the same call continues the others from their checkpoints{reasons}")
    if failed:
        raise RunsFailedError(f"{text}; these failed, and the same call tries them again:{reasons}")


# --- in the process of a run ----------------------------------------------------------------------------------------


def _make(job: _Job, ticket: Path, wait: bool, options: dict) -> tuple[str, str, str]:
    """Make one run: key of the job, how it ended, and in which words. It raises nothing that would end other jobs."""
    import joblib

    def stop() -> bool:
        nonlocal looked
        if time.monotonic() - looked < POLL:
            return False
        looked = time.monotonic()
        return look(ticket) != "held"

    looked = float("-inf")
    folder = job.folder
    what = folder.recipe, folder.seed, folder.root, job.device
    try:
        # scikit-learn must not hand out jobs of its own to the cluster
        with _ONE_AT_A_TIME, joblib.parallel_config("sequential"):
            check_shared(ticket)
            while not stop():
                if (kills := _killed(job)) >= KILLS:
                    words = f"its process was killed {kills} times before it got on from step {folder.step()}"
                    return job.key, "failed", f"{words}: was there enough memory?"
                try:
                    run(*what, progress=False, stop=stop, **options)
                    return job.key, "finished", ""
                except RunLockedError as error:
                    if not wait:
                        return job.key, "busy", str(error)
                    time.sleep(POLL)
    except KeyboardInterrupt:
        pass
    except Exception as error:
        from mmlib.train import Paused

        if not isinstance(error, Paused):
            return job.key, "failed", f"{type(error).__name__}: {error}"
    return job.key, "stopped", ""


def _killed(job: _Job) -> int:
    """How often in a row, since this call, the run was started at the step where it is now and its process killed."""
    kills, step = 0, job.folder.step()
    for event in reversed(job.folder.events()[job.since :]):
        if (event.get("event"), event["step"]) != ("started", step):
            break
        kills += 1
    return kills


# --- the caller -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _withdrawn_on_interrupt(ticket: Ticket):
    """The first Ctrl-C withdraws the ticket, the second one stops at once."""

    def ask(*_) -> None:
        if ticket.withdrawn:
            raise KeyboardInterrupt("stopped at once, at the second interrupt")
        ticket.withdraw()
        os.write(2, b"\nstopping: every run writes a checkpoint first; press Ctrl-C again to stop at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _processes(width: int, threads: int):
    """Processes on this machine, each with its own torch; with a width of one, this process."""
    import joblib
    from joblib.externals.loky import get_reusable_executor

    def parallel(calls) -> Iterator:
        pool = joblib.Parallel(
            width,
            batch_size=1,
            pre_dispatch="all",
            return_as="generator_unordered",
            initializer=_ignore_interrupts,
        )
        return pool(calls)

    with joblib.parallel_config("loky", inner_max_num_threads=threads):
        try:
            yield parallel
        finally:
            if width > 1:
                get_reusable_executor().shutdown(wait=True)  # idle processes hold memory, of a GPU too


def _ignore_interrupts() -> None:
    """In a process of the pool: Ctrl-C is for the caller, and for a training that is under way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _cluster(dask):
    """The workers of a Dask cluster, given by an address, a cluster object or a client."""
    from concurrent.futures import CancelledError

    import joblib
    from distributed import Client

    def parallel(calls) -> Iterator:
        with joblib.parallel_config("dask", client=client) as config:
            # with a single worker, as when a cluster has just begun to grow, joblib would make the runs in this process
            config["backend"].effective_n_jobs = lambda n_jobs: 2
            pool = joblib.Parallel(batch_size=1, pre_dispatch="all", return_as="generator_unordered")
            try:
                yield from pool(calls)
            except CancelledError as error:
                advice = "the same call continues the runs on another cluster"
                raise ConnectionError(f"the scheduler of the cluster is gone; {advice}") from error

    client = dask if isinstance(dask, Client) else Client(dask, set_as_default=False)
    try:
        # A run that goes on from its checkpoint may outlive any number of workers, as on a queue with short jobs.
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 10**6))
        if not client.scheduler_info()["workers"]:
            print("waiting for the first worker of the cluster", file=sys.stderr)
            client.wait_for_workers(1)
        yield parallel
    finally:
        if client is not dask:
            client.close()


@contextlib.contextmanager
def _bar(jobs: list[_Job], progress: bool):
    """A function that reports the end of a run, and above it a bar of all steps, read off the folders of the runs."""
    from tqdm import tqdm

    def count() -> int:
        return sum(f.recipe.steps if f.result.exists() else f.step() for f in (job.folder for job in jobs))

    def follow() -> None:
        while not over.wait(POLL):
            bar.n = count()
            bar.refresh()

    shown = progress and sys.stderr.isatty() and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    total = sum(job.folder.recipe.steps for job in jobs)
    over, ended = threading.Event(), []

    def say(text: str) -> None:
        ended.append(text)
        if progress:
            bar.write(f"{len(ended)}/{len(jobs)}  {text}", file=sys.stderr)

    with tqdm(total=total, initial=count(), unit="step", disable=not shown, file=sys.stderr, ncols=88) as bar:
        thread = threading.Thread(target=follow, daemon=True)
        if shown:
            thread.start()
        try:
            yield say
        finally:
            over.set()
            if shown:
                thread.join()
                bar.n = count()
