"""Many runs at once: each is made exactly once, whatever becomes of the processes that make them."""

import contextlib
import dataclasses
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import quick_runs
from quick_runs import LONG, TINY

from mmlib.runs import results, scale
from mmlib.runs.folder import RunFolder
from mmlib.runs.runner import run
from mmlib.runs.ticket import Ticket, look

SEEDS = (0, 1, 2)
PATIENCE = 240.0  # seconds; for a machine that is slow and busy


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def serial(tmp_path_factory, cache):
    """The runs as one process makes them, one after the other."""
    root = tmp_path_factory.mktemp("serial")
    with quick_runs.quick():
        for seed in SEEDS:
            run(TINY, seed, root, progress=False, cache=cache, checkpoint_every=3)
    return root


def outcome(root, seed):
    folder = RunFolder(TINY, seed, root)
    result = results.verify(folder.result)
    return folder.weights.read_bytes(), result["metrics"], result["history"], folder.metrics.read_text()


def events(root, seed):
    return [event["event"] for event in RunFolder(TINY, seed, root).events()]


def holder(folder):
    """The process that holds a run, or held it last."""
    return int(folder.path.with_name(f".{folder.path.name}.lock").read_text().split()[0])


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


def script(text, *arguments, **environment):
    """A process with a session of its own, in which ``main()`` of the script can start others."""
    text = f"import sys, quick_runs\nfrom mmlib.runs import scale\n{text}"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-c", text, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def left_behind(process):
    """What still lives of the processes that a script started."""
    alive = []
    for other in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(other.pid) == process.pid and other.info["status"] != psutil.STATUS_ZOMBIE:
                alive.append(other)
    return alive


# --- processes on one machine ---------------------------------------------------------------------------------------


def test_two_processes_one_killed_and_a_bad_run(tmp_path, cache, serial):
    """The bad run fails alone, the killed one continues from its checkpoint; the numbers are those of one process."""
    trap = tmp_path / "trap"
    trap.write_text("die")
    process = script(
        "scale._make = quick_runs.job\n"
        "jobs = [(quick_runs.TINY, 0), (quick_runs.BROKEN, 0), (quick_runs.TINY, 1), (quick_runs.TINY, 0)]\n"
        "try: scale.run_all(jobs, sys.argv[1], n_jobs=2, cache=sys.argv[2], checkpoint_every=3)\n"
        "except scale.RunsFailedError as error: print(error)\n",
        tmp_path / "runs", cache, QUICK_RUNS=str(trap),
    )  # fmt: skip
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    lines = printed.splitlines()
    assert lines[0] == "2 of 3 runs finished; these failed, and the same call tries them again:"
    assert lines[1].startswith("  broken, seed 0: ValueError: ") and len(lines) == 2
    assert "tiny, seed 0: finished" in said and "3/3  " in said
    starts = 0
    for seed in (0, 1):
        assert outcome(tmp_path / "runs", seed) == outcome(serial, seed)
        journal = events(tmp_path / "runs", seed)
        assert journal.count("finished") == 1 and journal[-1] == "finished"
        starts += journal.count("started")
    assert starts > 2 and not trap.exists()
    wait_for(lambda: not left_behind(process), "processes that were left behind")
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["broken", "tiny"]

    # all finished: the paths in order, at once and without torch
    again = script(
        "import time; now = time.perf_counter()\n"
        "paths = scale.run_all([(quick_runs.TINY, 1), (quick_runs.TINY, 0), (quick_runs.TINY, 1)], sys.argv[1])\n"
        "print(*paths, sep='\\n'); assert 'torch' not in sys.modules and time.perf_counter() - now < 3\n",
        tmp_path / "runs",
    )  # fmt: skip
    printed, said = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, said
    assert printed.split() == [
        str(tmp_path / "runs" / "tiny" / f"seed-{seed}" / "result.json") for seed in (1, 0, 1)
    ]


def test_ctrl_c_lets_every_run_write_a_checkpoint(tmp_path, cache):
    process = script(
        "scale._make = quick_runs.job\n"
        "jobs = [(quick_runs.LONG, seed) for seed in range(3)]\n"
        "try: scale.run_all(jobs, sys.argv[1], n_jobs=2, cache=sys.argv[2], checkpoint_every=20)\n"
        "except KeyboardInterrupt as reason: print(reason)\n",
        tmp_path, cache,
    )  # fmt: skip
    folders = [RunFolder(LONG, seed, tmp_path) for seed in range(3)]
    wait_for(lambda: folders[0].step() and folders[1].step(), "two runs to be under way")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    assert printed.startswith(
        "0 of 3 runs finished; the same call continues the others from their checkpoints"
    )
    assert "stopping: every run writes a checkpoint first" in said
    for folder in folders[:2]:
        assert [event["event"] for event in folder.events()] == ["started", "stopped"]
        assert folder.events()[-1]["step"] == folder.step() > 0
    assert not folders[2].path.exists()
    wait_for(lambda: not left_behind(process), "processes that were left behind")


# --- a Dask cluster -------------------------------------------------------------------------------------------------


def test_dask_worker_killed_in_mid_run(tmp_path, cache, serial, monkeypatch):
    """Two worker processes, one killed while it holds a run that has a checkpoint: every run is made exactly once."""
    from distributed import LocalCluster

    trap, root = tmp_path / "trap", tmp_path / "runs"
    trap.write_text("hang")
    monkeypatch.setenv("QUICK_RUNS", str(trap))  # before the cluster starts its processes
    monkeypatch.setattr(scale, "_make", quick_runs.job)
    victims = []

    def kill():
        caught = trap.with_suffix(".caught")
        wait_for(caught.exists, "a run in its middle")
        pid = int(caught.read_text())
        for seed in SEEDS:
            folder = RunFolder(TINY, seed, root)
            if folder.path.exists() and holder(folder) == pid:
                victims.append((seed, folder.step(), events(root, seed)))
        os.kill(pid, signal.SIGKILL)

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        killer = threading.Thread(target=kill)
        killer.start()
        jobs = [(TINY, seed) for seed in SEEDS]
        paths = scale.run_all(jobs, root, dask=cluster, progress=False, cache=cache, checkpoint_every=3)
        killer.join()
    assert paths == [RunFolder(TINY, seed, root).result for seed in SEEDS]
    [(victim, step, before)] = victims
    assert step == 6 and before == ["started"]
    for seed in SEEDS:
        assert outcome(root, seed) == outcome(serial, seed)
        expected = ["started", "started", "finished"] if seed == victim else ["started", "finished"]
        assert events(root, seed) == expected
    assert RunFolder(TINY, victim, root).events()[1]["step"] == step
    assert sorted(path.name for path in root.iterdir()) == ["tiny"]


def tell(job, *_):
    """A job that does nothing but say where it is done."""
    job.folder.log("told", thread=threading.current_thread().name)
    job.folder.write_result({"recipe": job.folder.recipe.as_dict(), "seed": job.folder.seed})
    return job.key, "finished", ""


def test_a_cluster_of_one_worker_makes_the_runs_there_not_here(tmp_path, monkeypatch, capsys):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(scale, "_make", tell)
    options = dict(
        processes=False, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with LocalCluster(n_workers=0, **options) as cluster, Client(cluster, set_as_default=False) as client:
        cluster.scale(1)
        scale.run_all([(TINY, seed) for seed in SEEDS], tmp_path, dask=client)
        assert client.status == "running"  # it was ours before, and still is
    here = threading.current_thread().name
    for seed in SEEDS:
        [event] = RunFolder(TINY, seed, tmp_path).events()
        assert event["event"] == "told" and event["thread"] != here
    assert "3/3  tiny, seed " in capsys.readouterr().err


# --- handing out ----------------------------------------------------------------------------------------------------


def test_a_job_that_kills_its_process_again_is_given_up_and_harms_no_other(tmp_path):
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    jobs = [scale._Job(RunFolder(TINY, seed, tmp_path), "cpu", 0) for seed in range(4)]
    pools, said = [], []

    def parallel(calls):
        """Two at a time; the run of seed 1 kills its process, and its neighbour's with it."""
        group = [arguments[0] for _, arguments, _ in calls]
        pools.append([job.folder.seed for job in group])
        for job in group:
            if job.folder.seed == 1:
                for begun in group[group.index(job) :][:2]:
                    begun.folder.log("started")
                raise TerminatedWorkerError("killed")
            yield job.key, "finished", ""

    with Ticket(tmp_path) as ticket:
        failed = scale._work(jobs, ticket, parallel, {}, said.append)
        assert pools == [[0, 1, 2, 3], [3], [1], [2]]
        assert failed == {jobs[1].key: "its process was killed, twice: was there enough memory?"}
        assert said == [
            "tiny, seed 0: finished", "tiny, seed 3: finished", f"tiny, seed 1: {failed[jobs[1].key]}",
            "tiny, seed 2: finished",
        ]  # fmt: skip
        pools.clear()
        assert list(scale._work(jobs[1:2], ticket, parallel, {}, said.append)) == [jobs[1].key]
        assert pools == [[1], [1]]


# --- one job --------------------------------------------------------------------------------------------------------


def make(root, cache, wait=False, recipe=TINY, since=0):
    options = {"threads": 1, "checkpoint_every": 3, "cache": cache, "capture": None}
    with Ticket(root) as ticket:
        return scale._make(scale._Job(RunFolder(recipe, 0, root), "cpu", since), ticket.path, wait, options)


def test_a_run_that_is_made_elsewhere_is_put_off_then_waited_for(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(scale, "POLL", 0.01)
    asked = []

    def run(recipe, seed, *_, **__):
        asked.append(seed)
        if len(asked) < 4:
            raise scale.RunLockedError("held")
        result = {"recipe": recipe.as_dict(), "seed": seed}
        RunFolder(recipe, seed, tmp_path).write_result(result)

    monkeypatch.setattr(scale, "run", run)
    assert make(tmp_path, cache)[1:] == ("busy", "held")
    asked.clear()
    scale.run_all([(TINY, 0), (TINY, 1)], tmp_path, n_jobs=1, progress=False)
    # both are tried, then the first is waited for
    assert asked == [0, 1, 0, 0, 1]
    assert RunFolder(TINY, 0, tmp_path).finished() and RunFolder(TINY, 1, tmp_path).finished()


def test_a_run_whose_process_is_killed_again_and_again_is_given_up(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(scale, "run", lambda *_, **__: None)
    folder = RunFolder(TINY, 0, tmp_path)
    for _ in range(2):
        folder.log("started")
    assert make(tmp_path, cache)[1] == "finished"
    folder.log("started")
    key, state, words = make(tmp_path, cache)
    assert (key, state) == (
        str(folder.path),
        "failed",
    ) and "killed 3 times before it got on from step 0" in words
    assert make(tmp_path, cache, since=3)[1] == "finished"  # a later call tries again
    folder.log("failed")
    assert make(tmp_path, cache)[1] == "finished"  # it ended, if badly: its process was not killed


def test_workers_must_see_the_caller_s_folder_and_locks(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(scale, "run", lambda *_, **__: pytest.fail("ran where locks are not shared"))
    job = scale._Job(RunFolder(TINY, 0, tmp_path), "cpu", 0)
    _, state, words = scale._make(job, tmp_path / "elsewhere" / ".wanted-1", False, {})
    assert state == "failed" and "does not see the caller's folder of runs; it must be shared" in words
    (tmp_path / ".wanted-2").touch()
    _, state, words = scale._make(job, tmp_path / ".wanted-2", False, {})
    assert state == "failed" and "does not see the caller's locks" in words


def test_ticket(tmp_path):
    with Ticket(tmp_path / "new") as ticket:
        assert look(ticket.path) == "held"
        with Ticket(tmp_path / "new") as other:  # two callers side by side
            assert look(other.path) == look(ticket.path) == "held"
        ticket.withdraw()
        assert look(ticket.path) == "gone" and ticket.withdrawn
    left = tmp_path / "new" / ".wanted-left"
    left.touch()
    assert look(left) == "free"
    with Ticket(tmp_path / "new"):
        assert not left.exists()


def test_withdrawn_ticket_stops_what_has_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "check_shared", lambda ticket: None)
    monkeypatch.setattr(scale, "run", lambda *_, **__: pytest.fail("began after it was stopped"))
    job = scale._Job(RunFolder(TINY, 0, tmp_path), "cpu", 0)
    assert scale._make(job, tmp_path / ".wanted-gone", False, {}) == (job.key, "stopped", "")


# --- arguments ------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused_before_anything_begins(tmp_path):
    other = dataclasses.replace(TINY, latent_dim=4)
    for jobs, options, message in (
        ([("nope", 0)], {}, "recipe is 'nope'; expected one of"),
        ([(TINY, -1)], {}, "seed is -1"),
        ([(TINY, 0), (other, 0)], {}, "jobs hold two recipes of the name 'tiny'"),
        ([(TINY, 0)], {"n_jobs": 0}, "n_jobs is 0; expected an integer of at least 1"),
        ([(TINY, 0)], {"threads": 0}, "threads is 0"),
        ([(TINY, 0)], {"cores": -1}, "cores is -1"),
        ([(TINY, 0)], {"device": []}, "device is an empty list"),
    ):
        with pytest.raises(ValueError, match=message):
            scale.run_all(jobs, tmp_path, **options)
    assert not list(tmp_path.iterdir())
    assert scale.run_all([], tmp_path) == []


def test_how_many_at_a_time():
    assert scale._width(None, 8, 1, ["cpu"]) == 8
    assert scale._width(None, 8, 3, ["cpu"]) == 2
    assert scale._width(None, 2, 4, ["cpu"]) == 1
    assert scale._width(None, 16, 1, ["cuda:0", "cuda:1"]) == 8
    assert scale._width(None, 2, 1, ["cuda"]) == 2
    assert scale._width(5, 1, 1, ["cuda"]) == 5
    assert scale._width(None, None, 1, ["cpu"]) >= 1


def test_jobs_are_dealt_over_devices(tmp_path, monkeypatch):
    seen = []

    def work(jobs, *_):
        seen.extend((job.folder.seed, job.device) for job in jobs)
        for job in jobs:
            job.folder.write_result({"recipe": job.folder.recipe.as_dict(), "seed": job.folder.seed})
        return {}

    monkeypatch.setattr(scale, "_work", work)
    RunFolder(TINY, 1, tmp_path).write_result({"recipe": TINY.as_dict(), "seed": 1})  # finished: not dealt
    jobs = [(TINY, seed) for seed in (0, 1, 2, 3, 2)]
    scale.run_all(jobs, tmp_path, n_jobs=1, device=["cuda:0", "cuda:1"], progress=False)
    assert seen == [(0, "cuda:0"), (2, "cuda:1"), (3, "cuda:0")]
