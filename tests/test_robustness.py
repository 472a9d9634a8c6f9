"""A run survives what happens to machines: killed processes, full disks, damaged files, two starts at once."""

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import quick_runs
import torch
from quick_runs import TINY, events

from mmlib.runs import provenance, results, runner
from mmlib.runs.folder import RunFolder, RunLockedError
from mmlib.train import Paused

EVERY = 3  # steps between checkpoints; evaluations are after 4, 8, 12 and 16


@pytest.fixture(autouse=True)
def quick():
    with quick_runs.quick():
        yield


def run(root, cache, **options):
    return runner.run(TINY, 0, root, progress=False, cache=cache, checkpoint_every=EVERY, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """The run as it is when nothing happens."""
    folder = RunFolder(TINY, 0, tmp_path_factory.mktemp("whole"))
    with quick_runs.quick():
        run(folder.root, cache)
    return folder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(TINY, 0, tmp_path)


def assert_same(folder, whole):
    """Bit for bit the run that nothing happened to, and nothing left over."""
    assert folder.finished()
    assert folder.weights.read_bytes() == whole.weights.read_bytes()
    assert folder.metrics.read_bytes() == whole.metrics.read_bytes()
    one, other = results.verify(folder.result), results.verify(whole.result)
    for key in (
        "recipe",
        "seed",
        "steps",
        "metrics",
        "convergence",
        "history",
        "parameters",
        "data",
        "files",
    ):
        assert one[key] == other[key], key
    assert not list(folder.path.rglob("*.partial"))


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


WHOLE = ["journal.jsonl", "metrics.jsonl", "recipe.json", "result.json", "samples.png", "weights.safetensors"]


def stop_after(step):
    """Pause a run after that many steps of a call."""
    calls = []
    return lambda: calls.append(1) or len(calls) == step


# --- SIGKILL --------------------------------------------------------------------------------------------------------

# One process per moment, forked from a parent that has imported everything. Each makes the run, or what is missing of
# it, and kills itself with SIGKILL at the moment named; the last one finishes. After each, the steps done so far.
WORKER = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
import quick_runs, test_robustness as t
from mmlib.runs import build, runner
from mmlib.runs.folder import RunFolder
torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # its first call imports much

root, cache, moments = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def replace_and_die(name, when):
    before = os.replace
    def replace(source, target):
        if os.path.basename(target).startswith(name):
            if when == "half":  # what a crash may leave of a file that was never flushed
                os.truncate(source, os.path.getsize(source) // 3)
            if when == "after":
                before(source, target)
            die()
        before(source, target)
    os.replace = replace

def make(moment, where):
    if moment in ("half", "before", "after"):
        replace_and_die(where, moment)
    elif moment == "step":
        step, calls = int(where), []
        run = lambda: t.run(root, cache, stop=lambda: calls.append(1) or (len(calls) == step and die()))
        return run()
    elif moment == "evaluation":
        runner._evaluate = die
    return t.run(root, cache)

folder = RunFolder(quick_runs.TINY, 0, root)
with quick_runs.quick():
    for moment, where in moments:
        child = os.fork()
        if child == 0:
            make(moment, where)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        expected = 0 if moment == "never" else signal.SIGKILL
        assert (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)) == expected, (moment, where)
        print(folder.step(), folder.finished())
"""


def test_killed_at_any_moment_a_run_continues_to_the_same_bits(folder, cache, whole):
    moments = {  # and what is there afterwards: the step of the newest checkpoint, whether the run is finished
        ("half", "recipe.json"): "0 False",
        ("step", "2"): "0 False",  # before the first checkpoint
        ("half", "step-000000003"): "0 False",
        ("step", "5"): "3 False",  # between checkpoints
        ("half", "step-000000006"): "3 False",
        ("before", "step-000000006"): "3 False",
        ("after", "step-000000006"): "6 False",
        ("half", "metrics.jsonl"): "6 False",
        ("after", "step-000000012"): "12 False",
        ("half", "step-000000016"): "15 False",
        ("half", "weights"): "16 False",  # trained
        ("evaluation", ""): "16 False",
        ("half", "result.json"): "16 False",
        ("after", "result.json"): "16 True",
        ("never", ""): "16 True",
    }
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", WORKER, folder.root, cache, json.dumps(list(moments))],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "damaged" not in done.stderr, done.stderr  # half a file is never seen under its name
    assert dict(zip(moments, done.stdout.splitlines(), strict=True)) == moments
    assert_same(folder, whole)
    # each start went on from the newest checkpoint, and none ended in a word
    starts = [event["step"] for event in events(folder) if event["event"] == "started"]
    assert starts == [0, 0, 0, 3, 3, 3, 6, 6, 12, 15, 16, 16, 16]
    assert {event["event"] for event in events(folder)} == {"started"}


# --- stopping, and starting again -----------------------------------------------------------------------------------


def test_metrics_grow_as_the_run_goes_and_a_resumed_run_repeats_no_line(folder, cache, whole):
    def rows(of=folder):
        return [json.loads(line) for line in of.metrics.read_text().splitlines()]

    with pytest.raises(Paused, match="training stopped after step 9 of 16; continue from"):
        run(folder.root, cache, stop=stop_after(9))
    full = {row["step"]: row for row in rows(whole)}
    assert [row["step"] for row in rows()] == [4, 8]
    for row in rows():
        assert full[row["step"]].items() >= row.items()
    # of a start that was killed further on than its last checkpoint
    folder.write_rows([*rows(), {"step": 12, "validation/loss": 1.0}])
    with pytest.raises(Paused):
        run(folder.root, cache, stop=stop_after(1))
    assert [row["step"] for row in rows()] == [4, 8]
    run(folder.root, cache)
    assert_same(folder, whole)
    assert names(folder) == WHOLE
    assert [(event["event"], event["step"]) for event in events(folder)] == [
        ("started", 0), ("stopped", 9), ("started", 9), ("stopped", 10), ("started", 10), ("finished", 16),
    ]  # fmt: skip


def test_a_trained_run_whose_evaluation_failed_is_only_evaluated(folder, cache, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(runner, "_evaluate", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(folder.root, cache)
    assert events(folder)[-1]["event"] == "failed" and "ZeroDivisionError" in events(folder)[-1]["reason"]
    assert folder.step() == TINY.steps
    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", lambda *_: pytest.fail("trained again"))
        run(folder.root, cache)
    assert_same(folder, whole)


def test_other_threads_or_another_device_are_refused_in_the_middle_of_a_run(folder, cache, whole):
    with pytest.raises(Paused):
        run(folder.root, cache, stop=stop_after(5))
    with pytest.raises(
        ValueError, match="threads is 2; tiny, seed 0, was begun with 1 and has done 5 steps: go on wi"
    ):
        run(folder.root, cache, threads=2)
    with pytest.raises(
        ValueError, match="device is 'meta'; tiny, seed 0, was begun with 'cpu' and has done 5 steps"
    ):
        run(folder.root, cache, device="meta")
    with pytest.raises(ValueError, match="device is 'cuda:99'; expected one that this machine has: cpu"):
        run(folder.root, cache, device="cuda:99")
    run(folder.root, cache)
    assert_same(folder, whole)


def test_a_run_begun_portable_is_continued_portable(folder, cache, whole, monkeypatch):
    with pytest.raises(
        ValueError, match="portable is True; expected .*before Python starts: ATEN_CPU_CAPABILITY=avx2 "
    ):
        run(folder.root, cache, portable=True)
    assert not folder.root.exists() or not list(folder.root.iterdir())
    for begun, now in ((True, False), (False, True)):
        monkeypatch.setattr(provenance, "portable", lambda begun=begun: begun)
        with pytest.raises(Paused):
            run(folder.root, cache, stop=stop_after(5), portable=begun)
        monkeypatch.setattr(provenance, "portable", lambda now=now: now)
        message = f"portable is {now}; tiny, seed 0, was begun with {begun} and has done 5 steps"
        with pytest.raises(ValueError, match=message):
            run(folder.root, cache)
        shutil.rmtree(folder.path)
    with pytest.raises(ValueError, match="portable is True; expected .*the device is 'meta'"):
        run(folder.root, cache, device="meta", portable=True)


def test_a_run_that_was_begun_before_there_was_a_choice_goes_on(folder, cache, whole):
    with pytest.raises(Paused):
        run(folder.root, cache, stop=stop_after(5))
    note = json.loads(folder.note.read_text())
    del note["begun"]["portable"]
    folder.note.write_text(json.dumps(note))
    run(folder.root, cache)
    assert_same(folder, whole)


def test_a_copy_of_a_run_s_folder_goes_on_elsewhere(folder, cache, whole, tmp_path):
    with pytest.raises(Paused):
        run(folder.root, cache, stop=stop_after(10))
    other = RunFolder(TINY, 0, tmp_path / "elsewhere")
    other.path.parent.mkdir(parents=True)
    subprocess.run(["cp", "-r", folder.path, other.path], check=True)
    run(other.root, cache)
    assert_same(other, whole)
    assert [event["event"] for event in events(other)] == ["started", "stopped", "started", "finished"]
    assert not folder.finished() and folder.step() == 10  # which is as it was


def test_threads_may_change_while_there_is_no_checkpoint(folder, cache):
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_train", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt("stopped")))
        run(folder.root, cache, threads=2)
    assert events(folder)[-1] | {"event": "stopped", "reason": "stopped"} == events(folder)[-1]
    run(folder.root, cache)
    assert results.verify(folder.result)["provenance"]["begun"]["threads"] == 1


def test_a_second_process_is_refused_while_the_first_one_runs(folder, cache, whole):
    """Two real processes: the first is held in the middle of the run, the second is told who has it."""
    script = (
        "import os, sys, signal, quick_runs, test_robustness as t\n"
        "from mmlib.runs import runner\n"
        "before = runner.watch\n"
        "def watch(*measured):\n"
        "    print('in the middle', flush=True); sys.stdin.readline()\n"
        "    return before(*measured)\n"
        "with quick_runs.quick():\n"
        "    runner.watch = watch\n"
        "    t.run(sys.argv[1], sys.argv[2])\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    first = subprocess.Popen(
        [sys.executable, "-c", script, folder.root, cache],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert first.stdout.readline() == "in the middle\n"
        before = folder.journal.read_bytes()
        with pytest.raises(
            RunLockedError, match=f"tiny, seed 0, is being run already by process {first.pid} on "
        ):
            run(folder.root, cache)
        assert folder.journal.read_bytes() == before
        _, said = first.communicate("go on\n" * 9, timeout=300)
        assert first.returncode == 0, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            first.kill()
        first.wait()
    assert_same(folder, whole)
    assert [event["event"] for event in events(folder)] == ["started", "finished"]


# --- full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch):
    """A disk that is full for the ``nth`` file of a name: ``full(name, nth)`` inside a ``with``."""

    @contextlib.contextmanager
    def disk(name, nth=1):
        seen, flush, append = [], os.fsync, RunFolder.log

        def fsync(descriptor):
            if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).startswith(name):
                seen.append(1)
                if len(seen) == nth:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            flush(descriptor)

        def log(folder, event, **facts):
            if name == "journal" and event == "started":
                seen.append(1)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder.journal))
            append(folder, event, **facts)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            patch.setattr(RunFolder, "log", log)
            yield seen
        assert len(seen) >= nth, f"nothing of the name {name} was written"

    return disk


def test_full_disk_at_any_write_says_what_to_do_and_the_same_call_goes_on(folder, cache, whole, full):
    for name, nth, step in (
        ("recipe.json", 1, 0),
        ("journal", 1, 0),
        ("step-000000003", 1, 0),
        ("step-000000006", 1, 3),
        ("metrics.jsonl", 1, 3),  # cut back to the checkpoint
        ("metrics.jsonl", 2, 3),  # the evaluation after step 4
        ("metrics.jsonl", 3, 6),  # and after step 8
        ("step-000000016", 1, 15),
        ("metrics.jsonl", 3, 16),  # all of the history
        ("weights", 1, 16),
        ("samples", 1, 16),
        ("result.json", 1, 16),
    ):
        advice = f"make room.*tiny, seed 0 is kept up to step {step} in .*start the same run again"
        with full(name, nth), pytest.raises(OSError, match=advice) as caught:
            run(folder.root, cache)
        assert caught.value.errno == errno.ENOSPC and "No space left on device" in str(caught.value)
        assert not folder.finished() and folder.step() == step
        assert not list(folder.path.rglob("*.partial")), "a full disk is not helped by half a file"
    run(folder.root, cache)
    assert_same(folder, whole)
    assert names(folder) == WHOLE


def test_other_errors_of_the_disk_are_not_called_full(folder, cache, monkeypatch):
    monkeypatch.setattr(runner, "_make", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "bad disk")))
    with pytest.raises(OSError, match="^.Errno 5. bad disk$"):
        run(folder.root, cache)


def test_a_file_system_without_locks_is_refused(folder, cache, monkeypatch):
    import fcntl

    monkeypatch.setattr(
        fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks available"))
    )
    with pytest.raises(OSError, match="files cannot be locked here, .*; use a folder on another file system"):
        run(folder.root, cache)


# --- damaged files --------------------------------------------------------------------------------------------------


def damaged(path, how):
    """Damage a file and return what it holds then."""
    data = path.read_bytes()
    data = {"cut": data[: len(data) // 2], "empty": b"", "noise": random.Random(0).randbytes(len(data))}[how]
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("how", ["cut", "empty", "noise"])
def test_damaged_files_of_an_interrupted_run_are_set_aside(folder, cache, whole, capsys, recwarn, how):
    """Each is kept under another name and said; the run continues from what is whole, to the same bits."""
    with pytest.raises(ZeroDivisionError), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "_evaluate", lambda *_: 1 / 0)
        run(folder.root, cache)
    newest = sorted(folder.checkpoints.iterdir())[-1]
    kept = {
        name: damaged(folder.path / name, how)
        for name in ("recipe.json", "weights.safetensors", "journal.jsonl")
    }
    kept["metrics.jsonl"] = damaged(folder.metrics, "noise" if how == "empty" else how)
    kept_checkpoint = damaged(newest, how)
    (folder.path / "result.json").write_bytes(b"{")
    capsys.readouterr()
    run(folder.root, cache)
    assert_same(folder, whole)
    said = capsys.readouterr().err
    for name in ("recipe.json", "weights.safetensors", "metrics.jsonl"):
        assert (folder.path / f"{name}.damaged").read_bytes() == kept[name]
        assert f"{name} is damaged: set aside as {name}.damaged" in said
    assert (folder.path / "result.json.damaged").read_bytes() == b"{" and "result.json is damaged" in said
    assert newest.with_suffix(".damaged").read_bytes() == kept_checkpoint
    assert any("is damaged; set aside as" in str(warning.message) for warning in recwarn)
    # the journal only grows: what was there still is, and what can be read of it is
    assert folder.journal.read_bytes().startswith(kept["journal.jsonl"])
    assert [event["event"] for event in events(folder)][-2:] == ["started", "finished"]
    # again: nothing is done, nothing is said
    run(folder.root, cache)
    assert capsys.readouterr().err == ""


def test_damaged_files_of_a_finished_run_are_set_aside_and_its_result_stands(
    folder, cache, whole, capsys, monkeypatch
):
    run(folder.root, cache)
    before = folder.result.read_bytes()
    monkeypatch.setattr(runner, "_make", lambda *_: pytest.fail("made a finished run again"))
    for path in (folder.weights, folder.metrics, folder.samples):
        kept = damaged(path, "cut")
        capsys.readouterr()
        assert run(folder.root, cache) == folder.result
        said = capsys.readouterr().err
        assert f"{path.name} is damaged: set aside as {path.name}.damaged" in said
        assert f"the result of tiny, seed 0 stands; to make {path.name} again, move" in said
        assert path.with_name(f"{path.name}.damaged").read_bytes() == kept and not path.exists()
    assert folder.result.read_bytes() == before
    run(folder.root, cache)  # files that are not there, as after a move to another machine, are no damage
    assert capsys.readouterr().err == ""


def test_the_result_of_another_seed_or_recipe_is_not_taken_for_this_run_s(folder, cache, whole, capsys):
    folder.path.mkdir(parents=True)
    other = {"recipe": {**TINY.as_dict(), "hash": "0" * 12}, "seed": 0}
    for result in ({"recipe": TINY.as_dict(), "seed": 1}, other, {}, {"recipe": 3, "seed": 0}):
        folder.write_result(result)
        assert not folder.finished()
    folder.result.write_text("[]")
    assert not folder.finished()
    run(folder.root, cache)
    assert_same(folder, whole)
    assert (folder.path / "result.json.damaged").read_text() == "[]"


def test_all_checkpoints_damaged_the_run_begins_anew(folder, cache, whole):
    with pytest.raises(Paused):
        run(folder.root, cache, stop=stop_after(10))
    for path in folder.checkpoints.iterdir():
        damaged(path, "noise")
    with pytest.warns(UserWarning, match="is damaged; set aside as"):
        run(folder.root, cache)
    assert_same(folder, whole)
    assert len(list(folder.checkpoints.glob("*.damaged"))) == 2


def test_journal_skips_lines_that_a_kill_cut_short(folder):
    assert events(folder) == []
    folder.log("started")
    with open(folder.journal, "a") as file:
        file.write('{"time": "2')
    folder.log("finished", step=16)
    assert [(event["event"], event["step"], event["process"]) for event in events(folder)] == [
        ("started", 0, os.getpid()), ("finished", 16, os.getpid()),
    ]  # fmt: skip
    assert len(folder.journal.read_text().splitlines()) == 3
