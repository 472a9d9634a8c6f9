"""Many runs at once: each is made exactly once, whatever becomes of the processes that make them."""

import contextlib
import dataclasses
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import psutil
import pytest
import quick_runs
from quick_runs import LONG, TINY

from mmlib.runs import results, scale
from mmlib.runs.folder import RunFolder
from mmlib.runs.runner import run

SEEDS = (0, 1, 2)
PATIENCE = 240.0  # seconds; for a machine that is slow and busy


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


def events(root, seed, recipe=TINY):
    return [event["event"] for event in quick_runs.events(RunFolder(recipe, seed, root))]


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
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny"]

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


def test_portable_runs_are_made_so_and_say_so(tmp_path, cache):
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("needs a processor with AVX2")
    process = script(
        "from mmlib.__main__ import main\nfrom mmlib.runs.recipes import RECIPES\n"
        "scale._make, RECIPES['tiny'] = quick_runs.job, quick_runs.TINY\n"
        "sys.exit(main(['train', 'tiny', '--seeds', '0-1', '--portable', '--root', sys.argv[1]]))\n",
        tmp_path, MMLIB_DATA=str(cache),
    )  # fmt: skip
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    for seed in (0, 1):
        found = results.verify(RunFolder(TINY, seed, tmp_path).result)["provenance"]
        assert found["portable"] is True and found["begun"]["portable"] is True
        assert (
            "tiny, seed 0: step 16 of 16; validation: loss " in said
        )  # into a pipe each run says what it does


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
    assert printed.startswith("0 of 3 runs finished; the same call continues from the checkpoints")
    assert "stopping: every run writes a checkpoint first" in said
    for folder in folders[:2]:
        assert events(tmp_path, folder.seed, LONG) == ["started", "stopped"]
        assert quick_runs.events(folder)[-1]["step"] == folder.step() > 0
    assert not folders[2].path.exists()
    wait_for(lambda: not left_behind(process), "processes that were left behind")


def test_runs_whose_caller_was_killed_stop_at_a_checkpoint(tmp_path, cache):
    process = script(
        "scale._make = quick_runs.job\n"
        "scale.run_all([(quick_runs.LONG, 0)], sys.argv[1], n_jobs=2, cache=sys.argv[2], checkpoint_every=20)\n",
        tmp_path, cache,
    )  # fmt: skip
    folder = RunFolder(LONG, 0, tmp_path)
    wait_for(folder.step, "a run to be under way")
    process.kill()
    process.communicate(timeout=PATIENCE)
    wait_for(lambda: not left_behind(process), "processes that were left behind")
    assert events(tmp_path, 0, LONG) == ["started", "stopped"]


def test_a_budget_pauses_every_run_and_the_same_call_goes_on(tmp_path, cache, serial):
    process = script(
        "scale._make = quick_runs.job\n"
        "jobs = [(quick_runs.LONG, 0), (quick_runs.TINY, 0)]\n"
        "print(scale.run_all(jobs, sys.argv[1], n_jobs=2, cache=sys.argv[2], checkpoint_every=3, budget=40))\n",
        tmp_path, cache,
    )  # fmt: skip
    printed, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    tiny, long = RunFolder(TINY, 0, tmp_path), RunFolder(LONG, 0, tmp_path)
    assert printed == f"{[tiny.result] if tiny.finished() else []}\n"
    assert not long.finished()
    if long.step():  # on a machine that is not too busy
        assert events(tmp_path, 0, LONG) == ["started", "stopped"]
    if tiny.finished():
        assert outcome(tmp_path, 0) == outcome(serial, 0)


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
    assert quick_runs.events(RunFolder(TINY, victim, root))[1]["step"] == step
    assert sorted(path.name for path in root.iterdir()) == ["tiny"]


def tell(folder, *_):
    """A job that does nothing but say where it is done."""
    folder.log("told", thread=threading.current_thread().name)
    folder.write_result({"recipe": folder.recipe.as_dict(), "seed": folder.seed})
    return "finished", ""


def test_a_cluster_of_one_worker_makes_the_runs_there_not_here(tmp_path, monkeypatch, capsys):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(scale, "_make", tell)
    options = dict(
        processes=False, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    )
    with LocalCluster(n_workers=0, **options) as cluster, Client(cluster, set_as_default=False) as client:
        cluster.scale(1)
        scale.run_all([(TINY, seed) for seed in SEEDS], tmp_path, dask=client)
        with pytest.raises(ValueError, match="device is 'gpu'; expected one that this machine has"):
            scale.run_all([(TINY, 9)], tmp_path, dask=client, device="gpu")
        assert client.status == "running"  # it was ours before, and still is
    here = threading.current_thread().name
    for seed in SEEDS:
        [event] = quick_runs.events(RunFolder(TINY, seed, tmp_path))
        assert event["event"] == "told" and event["thread"] != here
    assert "3/3  tiny, seed " in capsys.readouterr().err


@pytest.mark.parametrize("end", ["interrupt", "kill"])
def test_a_worker_of_a_cluster_notices_that_the_caller_stops_or_was_killed(tmp_path, cache, end):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as cluster:
        process = script(
            "scale._make = quick_runs.job\n"
            "try: scale.run_all([(quick_runs.LONG, 0)], sys.argv[1], dask=sys.argv[3], cache=sys.argv[2],\n"
            "                   checkpoint_every=20)\n"
            "except KeyboardInterrupt as reason: print(reason)\n",
            tmp_path, cache, cluster.scheduler_address,
        )  # fmt: skip
        folder = RunFolder(LONG, 0, tmp_path)
        wait_for(folder.step, "a run to be under way")
        process.send_signal(signal.SIGINT if end == "interrupt" else signal.SIGKILL)
        printed, said = process.communicate(timeout=PATIENCE)
        if end == "interrupt":
            assert process.returncode == 0 and printed.startswith("0 of 1 runs finished; the same"), said
        wait_for(lambda: events(tmp_path, 0, LONG)[-1] == "stopped", "the run to stop")
        with folder.locked():  # it has let go
            pass


# --- handing out ----------------------------------------------------------------------------------------------------


class Pool:
    """Ends jobs at once, as a list says: with a state, or with an exception."""

    def __init__(self, *ends):
        self.ends, self.asked = list(ends), []

    def submit(self, _, folder, device, options):
        self.asked.append((folder.seed, device))
        future, end = Future(), self.ends.pop(0)
        if isinstance(end, Exception):
            future.set_exception(end)
        elif end == "gone":
            future.cancel()
            future.set_running_or_notify_cancel()
        elif callable(end):
            future.set_result(end(folder))
        else:
            future.set_result((end, "" if end == "finished" else "because"))
        return future

    def work(self, root, seeds=(0,), end=math.inf):
        self.jobs = [scale._Job(RunFolder(TINY, seed, root), "cpu") for seed in seeds]
        return scale._work(self.jobs, self.submit, ZeroDivisionError, lambda: None, {}, end, False)


def test_a_run_whose_process_is_killed_without_getting_on_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "POLL", 0.01)
    killed = ZeroDivisionError()
    pool = Pool(killed, killed, killed, "finished")
    monkeypatch.setattr(RunFolder, "step", lambda folder: 3 * len(pool.asked))
    pool.work(tmp_path)
    assert len(pool.asked) == 4 and pool.jobs[0].words == ""  # it got on between the kills

    monkeypatch.setattr(RunFolder, "step", lambda folder: 6)
    pool = Pool(killed, "finished", killed)
    pool.work(tmp_path, (0, 1))
    assert pool.jobs[0].words == "its process was killed 2 times at step 6: was there enough memory?"
    assert pool.jobs[1].words == ""


def test_a_run_that_stops_unasked_is_handed_out_again_and_a_cluster_that_is_gone_is_said(tmp_path):
    pool = Pool("stopped", "finished")  # as when a worker is closed
    pool.work(tmp_path)
    assert len(pool.asked) == 2
    with pytest.raises(
        ConnectionError, match="the scheduler of the cluster is gone; the same call continues"
    ):
        Pool("gone").work(tmp_path)


def test_a_run_that_is_made_elsewhere_is_put_off_then_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "PATIENCE", 0.01)
    pool = Pool("busy", "finished", "busy", "finished")
    pool.work(tmp_path, (0, 1))
    assert [seed for seed, _ in pool.asked] == [0, 1, 0, 0]  # both are tried, then the first is waited for


def test_when_time_is_up_nothing_more_is_begun(tmp_path):
    pool = Pool("stopped", "stopped")
    assert pool.work(tmp_path, (0, 1), end=-math.inf) is False
    assert len(pool.asked) == 2


# --- one job --------------------------------------------------------------------------------------------------------


def test_a_job_says_how_it_ended(tmp_path, monkeypatch):
    from mmlib.train import Paused

    def make(error=None, root=tmp_path, wanted=True):
        ends, other = multiprocessing.Pipe(duplex=False)
        with ends, other:
            if not wanted:
                other.close()
            monkeypatch.setattr(scale, "_caller", ends)
            monkeypatch.setattr(
                scale, "run", lambda *_, **__: (_ for _ in ()).throw(error) if error else None
            )
            return scale._make(RunFolder(TINY, 0, root), "cpu", {})

    assert make() == ("finished", "")
    assert make(scale.RunLockedError("held")) == ("busy", "")
    assert make(Paused("at step 3"))[0] == make(KeyboardInterrupt())[0] == "stopped"
    assert make(MemoryError("too much")) == ("failed", "MemoryError: too much")
    assert make(ZeroDivisionError(), wanted=False) == ("stopped", "")  # not begun
    state, words = make(root=tmp_path / "elsewhere")
    assert state == "failed" and "is not there: workers must see the caller's folder of runs" in words


# --- arguments ------------------------------------------------------------------------------------------------------


def test_bad_arguments_are_refused_before_anything_begins(tmp_path):
    other = dataclasses.replace(TINY, latent_dim=4)
    for jobs, options, message in (
        ([("nope", 0)], {}, "recipe is 'nope'; expected one of"),
        ([(TINY, -1)], {}, "seed is -1"),
        ([(TINY, 0), (other, 0)], {}, "jobs hold two recipes of the name 'tiny'"),
        ([(TINY, 0)], {"n_jobs": 0}, "n_jobs is 0; expected an integer of at least 1"),
        ([(TINY, 0)], {"threads": 0}, "threads is 0"),
        ([(TINY, 0)], {"n_jobs": "2"}, "n_jobs is '2'; expected an integer of at least 1"),
        (
            [(TINY, 0)],
            {"checkpoint_every": 1.5},
            "checkpoint_every is 1.5; expected an integer of at least 1",
        ),
        ([(TINY, 0)], {"budget": -1}, "budget is -1; expected a number of at least 0"),
        ([(TINY, 0)], {"device": "gpu"}, "device is 'gpu'; expected one that this machine has: cpu"),
        (
            [(TINY, 0)],
            {"device": ["cpu", "cuda:99"]},
            "device is 'cuda:99'; expected one that this machine has",
        ),
        ([(TINY, 0)], {"device": []}, "device is an empty list"),
    ):
        with pytest.raises(ValueError, match=message):
            scale.run_all(jobs, tmp_path, **options)
    assert not list(tmp_path.iterdir())
    assert scale.run_all([], tmp_path) == []


def test_how_many_at_a_time(monkeypatch):
    import joblib

    for n_jobs, cores, threads, devices, width in (
        (None, 8, 1, ["cpu"], 8),
        (None, 8, 3, ["cpu"], 2),
        (None, 2, 4, ["cpu"], 1),
        (None, 16, 1, ["cuda:0", "cuda:1"], 8),
        (None, 2, 1, ["cuda"], 2),
        (np.int64(5), 1, 1, ["cuda"], 5),
    ):
        monkeypatch.setattr(joblib, "cpu_count", lambda cores=cores: cores)
        assert scale._width(n_jobs, threads, devices) == width


def test_jobs_are_dealt_over_devices(tmp_path, monkeypatch):
    from mmlib import seeding

    pool = Pool(*[lambda folder: (tell(folder), ("finished", ""))[1]] * 3)
    monkeypatch.setattr(scale, "_processes", lambda *_: contextlib.nullcontext((pool.submit, OSError, None)))
    monkeypatch.setattr(seeding, "check_device", lambda device: device)
    RunFolder(TINY, 1, tmp_path).write_result({"recipe": TINY.as_dict(), "seed": 1})  # finished: not dealt
    jobs = [(TINY, seed) for seed in (0, 1, np.int64(2), 3, 2)]
    paths = scale.run_all(jobs, tmp_path, n_jobs=1, device=["cuda:0", "cuda:1"], progress=False)
    assert pool.asked == [(0, "cuda:0"), (2, "cuda:1"), (3, "cuda:0")]
    assert [path.parent.name for path in paths] == [f"seed-{seed}" for seed in (0, 1, 2, 3, 2)]
