"""The queue: what comes first, what a short-lived machine saves, and what comes home."""

import dataclasses
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import travellers
from travellers import ALL, FAILING, HANGING, QUICK, SLOW, TINY, finish, put, state

from mmlib.reproduce import archive, queue, results, shift
from mmlib.reproduce.folder import RunFolder, RunLockedError
from mmlib.reproduce.parcel import collect
from mmlib.reproduce.recipes import RECIPES

FAST = {"startup": 0.0, "margin": 0.7, "pack_every": 0.3}


@pytest.fixture(autouse=True)
def known(monkeypatch):
    for recipe in ALL.values():
        monkeypatch.setitem(RECIPES, recipe.name, recipe)


@pytest.fixture
def pretended(monkeypatch):
    """Processes that only pretend to train."""
    monkeypatch.setattr(shift, "make", travellers.pretend)


def rows(path, *entries):
    keys = ("recipe", "seeds", "priority")
    text = [json.dumps({**dict(zip(keys, entry, strict=True)), "why": "a test"}) for entry in entries]
    path.write_text("\n".join(f"- {line}" for line in text))
    return path


def work(tmp_path, *entries, budget=30.0, out="out", root="runs", **options):
    options = {**FAST, "results": tmp_path / "results", **options}
    list_of_runs = rows(tmp_path / "queue.yaml", *entries)
    queue.work(budget, tmp_path / out, root=tmp_path / root, queue=list_of_runs, **options)


def there(out):
    return {str(parcel): parcel.step for parcel in archive.read(out)[0]}


# --- the list -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("9m", 540), ("90s", 90), ("1h30m", 5400), ("2h", 7200), ("1h1m1s", 3661)]
)
def test_durations(text, seconds):
    assert queue.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "9", "m", "-9m", "9 m", "1.5h", "0s", "30m1h", "9min", "h"])
def test_bad_durations(text):
    with pytest.raises(ValueError, match="duration is .*; expected for example 9m, 90s or 1h30m"):
        queue.parse_duration(text)


def test_order_is_by_priority_then_position_then_seed(tmp_path):
    path = rows(tmp_path / "q", ("slow", [2, 0], 1), ("tiny", [1], 5), ("quick", [0], 5))
    assert [str(folder) for folder in queue.wanted(queue.load(path))] == [
        "tiny, seed 1", "quick, seed 0", "slow, seed 0", "slow, seed 2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("nope", [0], 1)], "recipe is 'nope'; expected one of"),
        ([("tiny", [0], 1), ("tiny", [1, 0], 2)], "tiny, seed 0, is in the queue twice"),
        ([("tiny", [0, 0], 1)], "tiny, seed 0, is in the queue twice"),
        ([("tiny", [-1], 1)], r"seeds of tiny is \[-1\]; expected a list of integers of at least 0"),
        ([("tiny", [True], 1)], "seeds of tiny"),
        ([("tiny", 0, 1)], "seeds of tiny is 0"),
        ([("tiny", [], 1)], "seeds of tiny"),
        ([("tiny", [0], "high")], "priority of tiny is 'high'; expected an integer"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, entries, message):
    with pytest.raises(ValueError, match=message):
        queue.load(rows(tmp_path / "q", *entries))
    (tmp_path / "q").write_text("- {recipe: tiny, seeds: [0], priority: 1}")
    with pytest.raises(ValueError, match="expected the fields priority, recipe, seeds, why"):
        queue.load(tmp_path / "q")


def test_the_library_s_own_list_is_good():
    order = queue.wanted(queue.load())
    assert [str(folder) for folder in order[:2]] == ["svhn10k-mmvae, seed 0", "svhn10k-mmvae, seed 1"]
    names = [folder.recipe.name for folder in order]
    last_small = max(i for i, name in enumerate(names) if not name.startswith("mnist-svhn"))
    assert all(
        name.startswith("mnist-svhn") for name in names[last_small + 1 :]
    )  # what takes longest comes last


# --- a real run, in two halves --------------------------------------------------------------------------------------


def test_a_run_that_the_budget_cut_goes_on_elsewhere_to_the_same_bits(tmp_path, monkeypatch, capfd):
    import torch

    from mmlib.reproduce import build, runner

    cache = tmp_path / "cache"
    with monkeypatch.context() as patch:
        patch.setattr(build, "build_classifiers", None)
        travellers.quick_judges()
        runner.run(TINY, 1, tmp_path / "whole", progress=False, cache=cache, threads=torch.get_num_threads())
    whole = RunFolder(TINY, 1, tmp_path / "whole")
    only = ("tiny", [1], 1)
    monkeypatch.setattr(shift, "make", travellers.make_seven_steps)
    work(tmp_path, only, cache=cache, budget=120.0, root="first")
    assert there(tmp_path / "out") == {"tiny, seed 1": 7}
    assert "tiny, seed 1: paused at step 7 of 16" in capfd.readouterr().err

    shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    monkeypatch.setattr(shift, "make", travellers.make)
    work(tmp_path, only, cache=cache, budget=120.0, root="second", out="elsewhere")
    assert "tiny, seed 1: continued at step 7" in capfd.readouterr().err
    (parcel,) = archive.read(tmp_path / "elsewhere")[0]
    assert parcel.step is None and not any("checkpoint" in name for name in parcel.files)
    assert parcel.files["weights.safetensors"] == whole.weights.read_bytes()
    mine, theirs = json.loads(parcel.files["result.json"]), results.verify(whole.result)
    for key in ("metrics", "history", "convergence", "recipe", "seed"):
        assert mine[key] == theirs[key], key
    journal = [json.loads(line)["event"] for line in parcel.files["journal.jsonl"].splitlines()]
    assert journal == ["started", "stopped", "started", "finished"]

    lines = queue.merge(tmp_path / "elsewhere", tmp_path / "results", tmp_path / "home")
    assert lines == ["tiny, seed 1: recorded"]
    assert results.load("tiny", tmp_path / "results") == [mine]


# --- a shift of work ------------------------------------------------------------------------------------------------


def test_started_runs_come_first_then_priority_and_what_is_done_is_not_made_again(tmp_path, pretended, capfd):
    runs = tmp_path / "runs"
    put(runs, 3, recipe=QUICK)  # started here, and the last of the list
    (elsewhere,) = put(tmp_path / "other", None, recipe=HANGING)  # finished in the archives
    archive.write(tmp_path / "out", [collect(elsewhere)])
    (done,) = put(tmp_path / "done", None, recipe=FAILING)  # recorded
    results.publish(done.path, tmp_path / "results")
    work(
        tmp_path,
        ("quick", [0], 1),
        ("tiny", [1, 0], 2),
        ("hanging", [0], 3),
        ("failing", [0], 3),
    )
    said = [
        line.split(None, 1)[1]
        for line in capfd.readouterr().err.splitlines()
        if ": be" in line or ": con" in line
    ]
    assert said == ["quick, seed 0: continued at step 3", "tiny, seed 0: begun", "tiny, seed 1: begun"]
    assert set(there(tmp_path / "out")) == {
        "hanging, seed 0",
        "quick, seed 0",
        "tiny, seed 0",
        "tiny, seed 1",
    }
    assert set(there(tmp_path / "out").values()) == {None}


def test_the_budget_holds_training_is_saved_and_what_hangs_is_killed(tmp_path, pretended, capfd):
    began = time.monotonic()
    work(tmp_path, ("hanging", [0], 2), ("slow", [0, 1, 2], 1), budget=6.0, jobs=3)
    took = time.monotonic() - began
    assert took < 6.5
    found = there(tmp_path / "out")
    assert found["hanging, seed 0"] == 16  # all of its training; the end was not reached
    assert found["slow, seed 0"] > 5 and found["slow, seed 1"] > 5 and "slow, seed 2" not in found
    assert RunFolder(SLOW, 0, tmp_path / "runs").step() == found["slow, seed 0"]
    said = capfd.readouterr().err
    assert "hanging, seed 0: killed, for it did not stop in time; kept up to step 16" in said
    assert "slow, seed 0: paused at step" in said and "0 of 4 runs are finished" in said
    # no time to begin anything
    work(tmp_path, ("quick", [0], 1), budget=5.0, startup=60.0)
    assert "too little time is left to begin hanging, seed 0" in capfd.readouterr().err
    assert there(tmp_path / "out") == found  # and what was there is there still


def test_what_is_finished_is_packed_at_once(tmp_path, pretended, monkeypatch):
    write, packed = archive.write, []

    def noted(out, parcels):
        parcels = list(parcels)
        packed.append({parcel.seed: parcel.step for parcel in parcels})
        return write(out, parcels)

    monkeypatch.setattr(archive, "write", noted)
    work(tmp_path, ("quick", [0, 1], 1), pack_every=1_000.0)
    assert packed[:3] == [{}, {0: None}, {0: None, 1: None}]


def test_a_worker_stops_when_told_so_or_when_nobody_listens(tmp_path, monkeypatch):
    """The real one, but for the run itself."""
    answers = []

    def made(folder, options):
        assert options["progress"] is False and options["device"] == "cpu"
        answers.append(options["stop"]())
        for act in acts:
            act()
            time.sleep(0.06)  # it does not look more often
            answers.append(options["stop"]())
        return "paused", "so far"

    monkeypatch.setattr(shift, "_made", made)
    monkeypatch.setattr(shift.signal, "signal", lambda *_: None)
    mine, theirs = multiprocessing.Pipe()
    acts = [lambda: None, lambda: mine.send("stop")]
    shift.make(theirs, RunFolder(TINY, 0, tmp_path), {"device": "cpu"})
    assert answers == [False, False, True]
    assert [mine.recv(), mine.recv()] == [("training", ""), ("paused", "so far")]
    mine, theirs = multiprocessing.Pipe()
    acts = [mine.close]
    answers.clear()
    shift.make(theirs, RunFolder(TINY, 0, tmp_path), {"device": "cpu"})
    assert answers == [False, True]


def test_some_runs_fail_or_lack_data_and_the_others_are_made(tmp_path, pretended, capfd):
    held = RunFolder(QUICK, 1, tmp_path / "runs")
    with held.locked():
        work(
            tmp_path,
            ("failing", [0], 9),
            ("missing", [0, 1], 8),
            ("missing-too", [0], 7),
            ("quick", [1, 0], 1),
        )
    said = capfd.readouterr().err
    assert "failing, seed 0: failed: ValueError: of course" in said
    assert said.count("left alone: the file is missing") == 1  # others of the same data are not tried
    assert "quick, seed 1: its process ended with code 1" in said
    assert there(tmp_path / "out") == {"quick, seed 0": None}
    assert not collect(held)


def test_a_run_that_is_made_already_and_a_folder_in_use_are_left_alone(tmp_path, monkeypatch):
    held = RunFolder(TINY, 0, tmp_path)
    monkeypatch.setattr(shift, "PATIENCE", 0.0)
    options = {"device": "cpu", "threads": 1, "cache": tmp_path}
    with held.locked():
        event, text = shift._made(held, options)
    assert event == "failed" and f"is being run already by process {os.getpid()}" in text
    assert shift._made(held, {**options, "device": "cuda:77"})[0] == "no such device"
    assert shift._made(held, {**options, "threads": "many"})[0] == "failed"
    with archive.locked(tmp_path / "out"), pytest.raises(RunLockedError, match="is being used"):
        work(tmp_path, ("quick", [0], 1))
    with archive.locked(tmp_path / "out"), pytest.raises(RunLockedError, match="is being used"):
        queue.merge(tmp_path / "out", tmp_path / "results", tmp_path / "runs")


def test_a_run_goes_on_on_its_own_kind_of_device_only(tmp_path, pretended, capfd):
    folder = RunFolder(SLOW, 0, tmp_path / "other")
    state(folder, 40, device="cuda")
    archive.write(tmp_path / "out", [collect(folder)])
    work(tmp_path, ("slow", [0], 2), ("quick", [0], 1))
    said = capfd.readouterr().err
    assert "slow, seed 0, was begun on cuda and goes on there only; this is cpu: it waits at step 40" in said
    assert there(tmp_path / "out") == {"quick, seed 0": None, "slow, seed 0": 40}


def test_bad_arguments_and_missing_devices(tmp_path, monkeypatch):
    for options, message in (
        ({"budget": 0}, "budget_seconds is 0; expected a number above 0"),
        ({"budget": "9m"}, "budget_seconds is '9m'"),
        ({"jobs": 0}, "jobs is 0; expected an integer of at least 1"),
        ({"jobs": 1.5}, "jobs is 1.5"),
        ({"device": "gpu"}, "device is 'gpu'; expected cpu, cuda or cuda:N"),
    ):
        with pytest.raises(ValueError, match=message):
            work(tmp_path, ("quick", [0], 1), **options)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(shift, "make", travellers.no_device)
    with pytest.raises(ValueError, match="device is 'cuda:7'; expected one that this machine has"):
        work(tmp_path, ("quick", [0], 1), device="cuda:7")


def test_no_run_begins_that_the_archives_have_no_room_for(tmp_path, pretended, monkeypatch, capfd):
    monkeypatch.setattr(archive, "room", lambda limit=0: 46_000)  # a result here needs 12,000
    monkeypatch.setattr(shift, "STATE", 2.5e6)  # and a state 25,000, at this width
    put(tmp_path / "runs", 3, 3, recipe=QUICK)  # started: they have their room, whatever it is
    work(tmp_path, ("quick", [0, 1], 2), ("tiny", [0, 1], 1), jobs=4, pack_every=60.0)
    assert there(tmp_path / "out").keys() == {"quick, seed 0", "quick, seed 1", "tiny, seed 0"}
    said = capfd.readouterr().err
    assert "has no room for tiny, seed 1: merge it, then go on with an empty folder" in said
    assert "3 of 4 runs are finished" in said
    monkeypatch.setattr(archive, "room", lambda limit=0: 70_000)
    work(tmp_path, ("tiny", [0, 1], 1))
    assert "tiny, seed 1" in there(tmp_path / "out")


def test_a_full_disk_is_said_and_nothing_is_lost(tmp_path, pretended, monkeypatch, capfd):
    write, calls = archive.write, []

    def full(out, parcels):
        calls.append(out)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(out, parcels)

    monkeypatch.setattr(archive, "write", full)
    work(tmp_path, ("quick", [0, 1], 1))
    assert (
        "was not written ([Errno 28] No space left on device); what it held is intact"
        in capfd.readouterr().err
    )
    assert there(tmp_path / "out") == {"quick, seed 0": None, "quick, seed 1": None}

    def always(out, parcels):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive, "write", always)
    with pytest.raises(OSError, match="No space left"):  # known before anything is begun
        work(tmp_path, ("slow", [0], 1))
    assert not RunFolder(SLOW, 0, tmp_path / "runs").path.exists()
    assert len(there(tmp_path / "out")) == 2


def test_a_state_that_cannot_be_unpacked_here_stays_in_the_archives(tmp_path, pretended, capfd):
    former = RunFolder(dataclasses.replace(QUICK, latent_dim=99), 0, tmp_path / "other")
    state(former, 5)
    unknown = RunFolder(dataclasses.replace(QUICK, name="unheard-of"), 0, tmp_path / "other")
    finish(unknown)
    parcels = [collect(former), collect(unknown)]
    archive.write(tmp_path / "out", parcels)
    work(tmp_path, ("quick", [0], 1))
    said = capfd.readouterr().err
    assert "quick, seed 0 is of another version of its recipe: it stays in" in said
    found = archive.read(tmp_path / "out")[0]
    assert {(parcel.run, parcel.step) for parcel in found} == {
        (("quick", 0, QUICK.hash), None), (parcels[0].run, 5), (parcels[1].run, None),
    }  # fmt: skip


# --- kills ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, travellers
from pathlib import Path
from mmlib.reproduce import queue, shift
from mmlib.reproduce.recipes import RECIPES
if __name__ == "__main__":
    here, moment = Path(sys.argv[1]), int(sys.argv[2])
    RECIPES.update(travellers.ALL)
    shift.make = travellers.pretend
    if moment:
        travellers.kill_at_replacement(moment)
    queue.work(float(sys.argv[3]), here / "out", root=here / "runs", queue=here / "queue.yaml", jobs=2,
               results=here / "results", startup=0.0, margin=0.7, pack_every=0.1)
"""


def start(here, moment=0, budget=30.0):
    (here / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(here / "script.py"), str(here), str(moment), str(budget)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_killed_at_any_moment_and_started_again_every_run_is_made_and_none_goes_back(tmp_path):
    rows(tmp_path / "queue.yaml", ("quick", [0, 1, 2, 3], 1))
    reached, kills = {}, 0
    for moment in (1, 2, 3, 5, 8, 12, 17):  # replacing and deleting archives, again and again
        process = start(tmp_path, moment)
        said = process.communicate(timeout=60)[1]
        assert process.returncode in (0, -signal.SIGKILL), said
        kills += process.returncode != 0
        if (tmp_path / "out").exists():
            assert len(list((tmp_path / "out").iterdir())) <= archive.ARCHIVES
            found, problems = archive.read(tmp_path / "out")
            assert problems == []
            now = {str(parcel): parcel.progress for parcel in found}
            assert all(now[run] >= progress for run, progress in reached.items())
            reached = now
        if moment == 5:
            time.sleep(0.5)
            shutil.rmtree(tmp_path / "runs")  # another machine
    assert kills >= 4
    process = start(tmp_path)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    assert there(tmp_path / "out") == {f"quick, seed {seed}": None for seed in range(4)}
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_or_stopped_in_training(tmp_path, how):
    rows(tmp_path / "queue.yaml", ("slow", [0, 1], 1))
    process = start(tmp_path)
    folders = [RunFolder(SLOW, seed, tmp_path / "runs") for seed in (0, 1)]
    wait_until(lambda: list((tmp_path / "out").glob("queue-*")) and all(f.step() > 20 for f in folders))
    wait_until(lambda: len(there(tmp_path / "out")) == 2)
    process.send_signal(how)
    said = process.communicate(timeout=60)[1]
    wait_until(lambda: all(free(folder) for folder in folders))  # no process trains on alone
    steps = [folder.step() for folder in folders]
    found = there(tmp_path / "out")
    if how == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert all(1 <= found[f"slow, seed {seed}"] <= steps[seed] for seed in (0, 1))
    else:
        assert "interrupted: saving" in said and "KeyboardInterrupt" in said
        assert all(f"slow, seed {seed}: paused at step {steps[seed]}" in said for seed in (0, 1))
        assert found == {f"slow, seed {seed}": steps[seed] for seed in (0, 1)}
    time.sleep(0.3)
    assert [folder.step() for folder in folders] == steps


def free(folder):
    try:
        with folder.locked():
            return True
    except RunLockedError:
        return False


# --- home -----------------------------------------------------------------------------------------------------------


def test_merge_brings_everything_home_once(tmp_path):
    out, home, kept = tmp_path / "out", tmp_path / "home", tmp_path / "results"
    put(tmp_path / "a", None, 7, None, None, out=out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    finish(RunFolder(TINY, 2, tmp_path / "mine"), value=0.9)
    results.publish(RunFolder(TINY, 2, tmp_path / "mine").path, kept)  # recorded here, with another value
    finish(RunFolder(TINY, 3, home), value=0.9)  # finished here, not recorded
    assert queue.merge(out, kept, home) == [
        "tiny, seed 0: recorded",
        "tiny, seed 1: step 7 on cpu, to be continued",
        "tiny, seed 2: left alone: another result of this run is recorded",
        f"tiny, seed 3: left alone: {home / 'tiny' / 'seed-3'} holds another result of this run",
    ]
    assert RunFolder(TINY, 0, home).finished() and RunFolder(TINY, 0, home).weights.exists()
    assert RunFolder(TINY, 1, home).step() == 7
    assert [result["seed"] for result in results.load("tiny", kept)] == [0, 2]
    assert results.value(results.load("tiny", kept)[1], "test/c") == 0.9
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    again = queue.merge(out, kept, home)
    assert again[:2] == [
        "tiny, seed 0: recorded already",
        f"tiny, seed 1: left alone: {home / 'tiny' / 'seed-1'} is as far",
    ]
    with pytest.raises(ValueError, match="expected a folder of archives"):
        queue.merge(tmp_path / "nowhere", kept, home)


def test_merge_leaves_alone_what_is_of_another_recipe_or_busy(tmp_path, monkeypatch):
    put(tmp_path / "a", None, 7, out=tmp_path / "out")
    home, kept = tmp_path / "home", tmp_path / "results"
    with RunFolder(TINY, 1, home).locked():
        lines = queue.merge(tmp_path / "out", kept, home)
    assert (
        lines[0] == "tiny, seed 0: recorded" and "left alone: tiny, seed 1, is being run already" in lines[1]
    )
    monkeypatch.setitem(RECIPES, "tiny", dataclasses.replace(TINY, latent_dim=4))
    other = RECIPES["tiny"].hash
    assert queue.merge(tmp_path / "out", tmp_path / "fresh", home) == [
        f"tiny, seed {seed}: left alone: it is of recipe {TINY.hash}, here is {other}" for seed in (0, 1)
    ]
    monkeypatch.delitem(RECIPES, "tiny")
    assert "here is no recipe of that name" in queue.merge(tmp_path / "out", tmp_path / "fresh", home)[0]
    assert not (tmp_path / "fresh").exists()


def test_what_is_recorded_leaves_the_archives(tmp_path, pretended, capfd):
    put(tmp_path / "a", None, None, 7, out=tmp_path / "out")
    queue.merge(tmp_path / "out", tmp_path / "results", tmp_path / "home")
    finish(RunFolder(TINY, 2, tmp_path / "b"))
    results.publish(RunFolder(TINY, 2, tmp_path / "b").path, tmp_path / "results")
    finish(RunFolder(TINY, 1, tmp_path / "b"), value=0.7)
    results.publish(RunFolder(TINY, 1, tmp_path / "b").path, tmp_path / "results")
    work(tmp_path, ("quick", [0], 1), ("tiny", [0, 1, 2], 2))
    assert there(tmp_path / "out") == {
        "quick, seed 0": None,
        "tiny, seed 1": None,
    }  # another result of it is recorded
    assert "tiny, seed 0 is recorded already" in capfd.readouterr().err


def test_status(tmp_path):
    put(tmp_path / "a", None, 7, 9, out=tmp_path / "out")
    queue.merge(tmp_path / "out", tmp_path / "results", tmp_path / "home")
    (tmp_path / "results" / "tiny" / "seed-0.json").rename(tmp_path / "kept.json")
    state(RunFolder(TINY, 1, tmp_path / "home"), 8)
    path = rows(tmp_path / "q", ("tiny", [0, 1, 2], 1), ("quick", [0], 0))
    text = queue.status_text(tmp_path / "out", tmp_path / "home", path, tmp_path / "results")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines == [
        f"tiny seed 0 finished, in {tmp_path / 'home'}",
        f"tiny seed 1 step 8 of 16 on cpu, in {tmp_path / 'home'}",
        f"tiny seed 2 step 9 of 16 on cpu, in {tmp_path / 'home'}",
        "quick seed 0 not begun",
        "1 finished, 2 started, 1 not begun",
    ]
    (tmp_path / "kept.json").rename(tmp_path / "results" / "tiny" / "seed-0.json")
    next((tmp_path / "out").iterdir()).write_bytes(b"")
    lines = queue.status_text(tmp_path / "out", tmp_path / "none", path, tmp_path / "results").splitlines()
    assert "is damaged" in lines[0] and " ".join(lines[1].split()) == "tiny seed 0 recorded"


# --- imports and judges ---------------------------------------------------------------------------------------------


def test_queue_needs_little():
    """The parent never loads torch, and a worker nothing that is there for the book or the tests alone."""
    script = (
        "import sys\n"
        "from mmlib.reproduce import queue, shift\n"
        "queue.status_text()\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "import mmlib.reproduce.runner, mmlib.reproduce.build, mmlib.reproduce.provenance\n"
        "import mmlib.metrics, mmlib.train, mmlib.plots.grids\n"
        "book = {'IPython', 'jupyter_core', 'nbformat', 'nbclient', 'sphinx', 'pytest', 'hypothesis', 'dask'}\n"
        "assert not book & set(sys.modules), book & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_judges_serve_under_any_torch_and_any_pairing_of_the_same_items(tmp_path, monkeypatch):
    import torch

    from mmlib.data import load
    from mmlib.metrics import classifiers

    options = {"train": 60, "validation": 20, "test": 20, "cache": tmp_path}
    trained = []
    train = classifiers._train
    monkeypatch.setattr(classifiers, "_train", lambda *a, **o: trained.append(a[1]) or train(*a, **o))

    def judge(**changes):
        return classifiers.train_classifiers(
            load("hand-street", **options, **changes), steps=2, width=0.1, cache=tmp_path
        )

    judge()
    assert trained == ["hand", "street"]
    (note,) = tmp_path.glob("classifiers-*/data.json")
    assert json.loads(note.read_text())["torch"] == torch.__version__
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    judge()
    judge(dm=3, paired=0.5, always="hand", max_d=1_000)
    assert len(trained) == 2
    note.parent.rename(
        note.parent.with_name("classifiers-hand-street-0123456789ab")
    )  # as an older key named it
    judge()
    assert len(trained) == 2
    judge(fraction=0.5)  # other items
    assert len(trained) == 4
    shutil.rmtree(tmp_path)
    both = [threading.Thread(target=judge) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(trained) == 6  # one of them waited for the other


def test_judges_are_trained_on_the_device_where_there_are_none(tmp_path, monkeypatch):
    from mmlib import metrics

    asked = []
    monkeypatch.setattr(
        metrics, "train_classifiers", lambda data, cache, device: asked.append((data.name, device))
    )
    assert shift.train_judges(TINY, "cpu", tmp_path)
    assert asked == [("hand-street", "cpu")]
    (tmp_path / "classifiers-hand-street-0123456789ab").mkdir()
    assert not shift.train_judges(TINY, "cpu", tmp_path) and len(asked) == 1
