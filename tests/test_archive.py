"""The archives that carry runs between machines: whole, small, and never believed."""

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import stat
import zipfile
from pathlib import Path

import pytest
from travellers import QUICK, TINY, finish, put, state

from mmlib.reproduce import archive
from mmlib.reproduce import parcel as travelling
from mmlib.reproduce.folder import RunFolder, RunLockedError
from mmlib.reproduce.parcel import WEIGHTS, collect, unpack

SMALL = 40_000  # bytes of an archive in these tests


def content(parcels):
    return {(parcel.run, parcel.step): parcel.files for parcel in parcels}


def names(out):
    return sorted(path.name for path in out.iterdir())


def generation(out):
    return {int(path.name[6:12]) for path in out.glob("queue-??????-*.zip")}


def test_runs_come_out_as_they_went_in_and_the_same_content_gives_the_same_bytes(tmp_path):
    folders = put(tmp_path / "a", None, 7)
    parcels = [collect(folder) for folder in folders]
    assert set(parcels[0].files) == {"recipe.json", "metrics.jsonl", "samples.png", "result.json", WEIGHTS}
    assert archive.write(tmp_path / "out", parcels) == []
    found, problems = archive.read(tmp_path / "out")
    assert problems == [] and content(found) == content(parcels)
    assert found[1].identity["device"] == "cpu"

    (name,) = names(tmp_path / "out")
    assert name.startswith("queue-000001-1of1-") and (tmp_path / "out" / name).stat().st_size < archive.LIMIT
    assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest().startswith(name[18:34])
    archive.write(tmp_path / "out", parcels)  # nothing new: nothing written
    archive.write(tmp_path / "other", parcels)
    assert names(tmp_path / "out") == names(tmp_path / "other") == [name]

    state(folders[1], 9)
    archive.write(tmp_path / "out", [collect(folder) for folder in folders])
    assert generation(tmp_path / "out") == {2}
    assert [parcel.step for parcel in archive.read(tmp_path / "out")[0]] == [None, 9]
    archive.write(tmp_path / "out", [])
    assert names(tmp_path / "out") == [] and archive.read(tmp_path / "out") == ([], [])

    for parcel in found:
        home = RunFolder(TINY, parcel.seed, tmp_path / "b")
        assert unpack(parcel, home) and not unpack(parcel, home)
        assert collect(home).files == parcel.files
    assert RunFolder(TINY, 0, tmp_path / "b").finished() and not RunFolder(TINY, 1, tmp_path / "b").finished()


def test_a_large_state_is_cut_and_no_archive_is_too_large_ever(tmp_path, monkeypatch):
    folders = put(tmp_path / "a", 3, 3, size=55_000)
    parcels = [collect(folder) for folder in folders]
    seen = []
    write = archive.write_atomically

    def watched(path, data):
        write(path, data)
        seen.append([entry.stat().st_size for entry in path.parent.iterdir()])

    monkeypatch.setattr(archive, "write_atomically", watched)
    assert archive.write(tmp_path / "out", parcels, SMALL) == []
    assert len(names(tmp_path / "out")) == 4 == archive.ARCHIVES // 2
    for folder in folders:
        state(folder, 5, 55_000)
    later = [collect(folder) for folder in folders]
    archive.write(tmp_path / "out", later, SMALL)
    assert max(map(len, seen)) == 8 == archive.ARCHIVES
    assert max(size for sizes in seen for size in sizes) <= SMALL
    assert content(archive.read(tmp_path / "out")[0]) == content(later)
    # full to the last byte, of many small pieces or of one large one
    for size in (400, archive.room(SMALL) - 4 * archive.OVERHEAD - 700):
        count = 60 if size == 400 else 1
        many = [collect(folder) for folder in put(tmp_path / str(size), *[2] * count, size=size)]
        archive.write(tmp_path / "full", many, SMALL)
        assert max(path.stat().st_size for path in (tmp_path / "full").iterdir()) <= SMALL
        assert len(names(tmp_path / "full")) <= archive.ARCHIVES // 2
        assert archive.read(tmp_path / "full")[0]


def test_where_room_is_short_results_come_first_then_states_then_weights_of_the_first_seeds(tmp_path):
    a = put(tmp_path, None, None, None, 4, size=25_000)
    parcels = [collect(folder) for folder in (a[3], a[2], a[1], a[0])]
    parcels += [collect(folder) for folder in put(tmp_path, None, recipe=QUICK, size=25_000)]
    left = archive.write(tmp_path / "out", parcels, SMALL)
    assert left == ["the weights of tiny, seed 1", "the weights of tiny, seed 2"]
    found = {str(parcel): parcel for parcel in archive.read(tmp_path / "out")[0]}
    assert len(found) == 5
    assert {name for name, parcel in found.items() if WEIGHTS in parcel.files} == {
        "tiny, seed 0",
        "quick, seed 0",
    }
    assert unpack(found["tiny, seed 2"], RunFolder(TINY, 2, tmp_path / "b"))
    assert RunFolder(TINY, 2, tmp_path / "b").finished()
    more = [collect(folder) for folder in put(tmp_path / "c", *[4] * 6, size=25_000)]
    assert archive.write(tmp_path / "out", more, SMALL) == [
        "the state of tiny, seed 4",
        "the state of tiny, seed 5",
    ]


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


@contextlib.contextmanager
def killed_at(monkeypatch, moment, *places):
    """A kill in place of the call number ``moment`` of these functions; gives the calls."""
    calls = []

    def counted(function):
        def call(*arguments, **options):
            calls.append(function)
            if len(calls) == moment + 1:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        for owner, name in places:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield calls


def test_killed_while_one_generation_replaces_another(tmp_path, monkeypatch):
    """Every flushing, renaming and deleting in turn is the moment of the kill."""
    folders = put(tmp_path / "a", 3, 3, None, size=30_000)
    old = [collect(folder) for folder in folders]
    state(folders[0], 8, 30_000)
    finish(folders[1], 30_000)
    new = [collect(folder) for folder in folders]
    former = {parcel.run: parcel.progress for parcel in old}

    def check(out):
        assert len(names(out)) <= archive.ARCHIVES
        found, problems = archive.read(out)
        assert problems == [] and {parcel.run for parcel in found} == set(former)
        assert all(parcel.progress >= former[parcel.run] for parcel in found)
        return len(names(out))

    most = 0
    for moment in range(100):
        out = tmp_path / str(moment)
        archive.write(out, old, SMALL)
        with killed_at(monkeypatch, moment, (os, "replace"), (os, "fsync"), (Path, "unlink")) as calls:
            archive.write(out, new, SMALL)
        most = max(most, check(out))
        with killed_at(monkeypatch, 0, (os, "fsync")):  # and the next call too, as soon as it writes
            archive.write(out, new, SMALL)
        check(out)
        archive.write(out, new, SMALL)
        assert content(archive.read(out)[0]) == content(new)
        assert len(generation(out)) == 1 and len(names(out)) == 4
        if len(calls) <= moment:
            break
    assert most == archive.ARCHIVES
    assert moment == 4 * 3 + 4  # four archives: flush, rename, flush the folder; then four go


def test_a_full_disk_leaves_the_former_generation(tmp_path, monkeypatch):
    folders = put(tmp_path / "a", 3, 3, size=30_000)
    old = [collect(folder) for folder in folders]
    archive.write(tmp_path / "out", old, SMALL)
    before = names(tmp_path / "out")
    state(folders[1], 4, 30_000)
    write, count = archive.write_atomically, []

    def full(path, data):
        count.append(path)
        if len(count) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(archive, "write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            archive.write(tmp_path / "out", [collect(folder) for folder in folders], SMALL)
    assert names(tmp_path / "out") == before
    assert content(archive.read(tmp_path / "out")[0]) == content(old)


@pytest.mark.parametrize("damage", ["a flipped bit", "cut", "empty", "gone"])
def test_damage_costs_the_runs_that_were_there_and_no_others(tmp_path, damage):
    put(tmp_path / "a", 3, 3, 3, 3, out=tmp_path / "out", limit=SMALL, size=20_000)
    paths = sorted((tmp_path / "out").iterdir())
    assert len(paths) == 3
    data = bytearray(paths[1].read_bytes())
    data[len(data) // 2] ^= 4
    if damage == "gone":
        paths[1].unlink()
    else:
        paths[1].write_bytes({"a flipped bit": data, "cut": data[:500], "empty": b""}[damage])
    found, problems = archive.read(tmp_path / "out")
    assert [parcel.seed for parcel in found] == [0, 3]
    text = "\n".join(problems)
    assert "tiny, seed 1, is not complete: " in text and "2 of 3 archives are there" in text
    if damage != "gone":
        assert f"{paths[1].name} is damaged (its content does not match the checksum in its name)" in text
        assert paths[1].with_suffix(".damaged").exists()
    # the next generation has what was found, and is whole again
    archive.write(tmp_path / "out", found, SMALL)
    assert content(archive.read(tmp_path / "out")[0]) == content(found)
    assert archive.read(tmp_path / "out")[1] == []


def test_damaged_weights_cost_the_weights_alone(tmp_path):
    put(tmp_path / "a", None, out=tmp_path / "out", limit=SMALL, size=60_000)
    sorted((tmp_path / "out").iterdir())[1].unlink()
    (found,), problems = archive.read(tmp_path / "out")
    assert found.step is None and WEIGHTS not in found.files
    assert "bytes of weights.safetensors are here" in problems[0]


def test_what_else_lies_there_is_left_alone(tmp_path):
    out = tmp_path / "out"
    put(tmp_path / "a", 3, out=out)
    (out / "queue-000009-1of1-0123456789abcdef.zip").symlink_to(tmp_path / "a")
    (out / "queue-000009-1of1-0123456789abcdee.zip").mkdir()
    for name in ("notes.txt", "queue-1.zip", "queue-000001-1of1-XYZ.zip"):
        (out / name).write_text("mine")
    before = set(names(out))
    found, problems = archive.read(out)
    assert len(found) == 1 and problems == []
    state(RunFolder(TINY, 0, tmp_path / "a"), 5)
    archive.write(out, [collect(RunFolder(TINY, 0, tmp_path / "a"))])
    assert len(before - set(names(out))) == 1 and generation(out) >= {2}


def hostile(out, manifest=None, members=None, change=lambda info: None, name=None, data=None):
    """An archive with the right checksum and whatever is asked for inside."""
    file = io.BytesIO()
    manifest = {"version": 1, "runs": []} if manifest is None else manifest
    with zipfile.ZipFile(file, "w") as zipped:
        for member, text in {"manifest.json": json.dumps(manifest), **(members or {})}.items():
            info = zipfile.ZipInfo(member)
            change(info)
            zipped.writestr(info, text)
    data = file.getvalue() if data is None else data
    out.mkdir(exist_ok=True)
    path = out / f"queue-000001-1of1-{hashlib.sha256(data).hexdigest()[:16]}.zip"
    path.write_bytes(data)
    return path


def row(**changes):
    text = b"x"
    files = {"recipe.json": [len(text), hashlib.sha256(text).hexdigest()]}
    return {"recipe": "tiny", "seed": 0, "hash": "0" * 12, "step": 3, "files": files, **changes}


@pytest.mark.parametrize(
    ("manifest", "members", "message"),
    [
        ([row(recipe="..")], {}, "its manifest names"),
        ([row(recipe="../../evil")], {}, "its manifest names"),
        ([row(recipe="/etc")], {}, "its manifest names"),
        ([row(recipe="")], {}, "its manifest names"),
        ([row(recipe=7)], {}, "expected string"),
        ([row(seed=-1)], {}, "its manifest names"),
        ([row(seed="0/../..")], {}, "its manifest names"),
        ([row(seed=True)], {}, "its manifest names"),
        ([row(step=1.5)], {}, "its manifest names"),
        ([row(hash="../../../..")], {}, "its manifest names"),
        ([row(files={"../evil": [1, "0" * 64]})], {}, "its manifest names"),
        ([row(files={"evil.py": [1, "0" * 64]})], {}, "its manifest names"),
        ([row(files={"checkpoints/../../x.safetensors": [1, "0" * 64]})], {}, "its manifest names"),
        ([row(files={"state.pkl": [1, "0" * 64]})], {}, "its manifest names"),
        ([row(files={"result.json": [-1, "0" * 64]})], {}, "its manifest names"),
        ([row(files={"result.json": [1, "0"]})], {}, "its manifest names"),
        ([], {"../../evil": "x"}, "is not a member that the manifest knows"),
        ([], {"0/tiny/seed-0/recipe.json.at-0": "x"}, "is not a member that the manifest knows"),
        ([row()], {"0/tiny/seed-0/recipe.json.at-0/../../evil": "x"}, "invalid literal"),
        ([row()], {"0/tiny/seed-0/": ""}, "is not a plain member"),
        ("none", {}, "string indices|not"),
    ],
)
def test_nothing_in_an_archive_is_believed(tmp_path, manifest, members, message):
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = hostile(tmp_path / "a" / "b" / "out", {"version": 1, "runs": manifest}, members)
    before = sorted(tmp_path.rglob("*"))
    found, (problem, *_) = archive.read(path.parent)
    assert found == [] and "is damaged" in problem
    assert re.search(message, problem), problem
    assert len(sorted(tmp_path.rglob("*"))) == len(before) and path.with_suffix(".damaged").exists()


def test_links_packed_members_and_giants_are_refused(tmp_path):
    def link(info):
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16

    def packed(info):
        info.compress_type = zipfile.ZIP_DEFLATED

    cases = {
        "is not a plain member": [
            hostile(tmp_path / "1", change=link),
            hostile(tmp_path / "2", {"version": 1, "runs": [], "x": "0" * 1000}, change=packed),
        ],
        "expected 1": [hostile(tmp_path / "3", {"version": 2, "runs": []})],
        "expected at most": [hostile(tmp_path / "4", data=bytes(archive.LIMIT + 1))],
        "not a zip file": [hostile(tmp_path / "5", data=b"MZ")],
    }
    for message, paths in cases.items():
        for path in paths:
            assert message in archive.read(path.parent)[1][0]
            assert path.with_suffix(".damaged").exists()


def test_members_that_do_not_fit_their_run_are_refused(tmp_path):
    """The archive is well made, and what it holds is that of another run, changed, or no state at all."""
    (folder,) = put(tmp_path / "a", None)
    (other,) = put(tmp_path / "b", 3, recipe=QUICK)
    done, begun = collect(folder), collect(other)
    result = json.loads(done.files["result.json"])
    result["metrics"]["test"]["c"]["value"] = 0.99
    (name,) = [name for name in begun.files if name.startswith("checkpoints/")]
    cases = {
        "result.json does not match its SHA-256": (done, {"result.json": json.dumps(result).encode()}, {}),
        "its files are those of ('tiny', 0": (done, {}, {"seed": 1}),
        "its files are those of ('quick', 0": (begun, {}, {"recipe": "tiny"}),
        "does not match its name": (begun, {name: begun.files[name] + b"x"}, {}),
        "does not match its name ": (begun, {}, {"step": 4}),
        "how the run was begun": (begun, {"recipe.json": b'{"recipe": {}, "begun": 3}'}, {}),
        "'result.json'": (begun, {}, {"step": None}),
    }
    for i, (message, (parcel, files, changes)) in enumerate(cases.items()):
        out = tmp_path / f"out-{i}"
        archive.write(out, [dataclasses.replace(parcel, files=parcel.files | files, **changes)])
        path = next(out.iterdir())
        path.rename(
            path.with_name(path.name.replace("1of1", "1of2"))
        )  # no generation is complete: it must say why
        found, problems = archive.read(out)
        assert found == [] and message.strip() in problems[0]


def test_a_folder_has_one_user(tmp_path):
    with archive.locked(tmp_path / "out"):
        with (
            pytest.raises(RunLockedError, match="is being used by another process"),
            archive.locked(tmp_path / "out"),
        ):
            pass
        with archive.locked(tmp_path / "other"):
            pass
    with archive.locked(tmp_path / "out"):
        pass


def test_the_result_is_unpacked_last_for_it_says_that_all_is_there(tmp_path, monkeypatch):
    (folder,) = put(tmp_path / "a", None)
    write, order = travelling.write_atomically, []
    monkeypatch.setattr(
        travelling, "write_atomically", lambda path, data: order.append(path.name) or write(path, data)
    )
    assert unpack(collect(folder), RunFolder(TINY, 0, tmp_path / "b"))
    assert len(order) == 5 and order[-1] == "result.json"


def test_only_intact_states_travel_and_nothing_goes_back(tmp_path, capsys):
    folder = RunFolder(TINY, 0, tmp_path / "a")
    assert collect(folder) is None
    state(folder, 3)
    newest = state(folder, 5)
    newest.write_bytes(newest.read_bytes()[:-1])
    parcel = collect(folder)
    assert parcel.step == 3
    further = RunFolder(TINY, 0, tmp_path / "b")
    state(further, 4)
    assert not unpack(parcel, further) and collect(further).step == 4
    finish(further)
    assert not unpack(parcel, further) and further.finished()
    with further.locked(), pytest.raises(RunLockedError):
        unpack(parcel, further)
    with pytest.raises(ValueError, match="parcel is .*; expected"):
        unpack(parcel, RunFolder(TINY, 1, tmp_path / "b"))
    # a finished run replaces an unfinished one; a run of a former recipe makes way
    assert unpack(collect(further), folder) and folder.finished() and not folder.step()
    former = RunFolder(dataclasses.replace(TINY, latent_dim=2), 1, tmp_path / "a")
    state(former, 9)
    newer = RunFolder(TINY, 1, tmp_path / "c")
    state(newer, 2)
    assert unpack(collect(newer), RunFolder(TINY, 1, tmp_path / "a"))
    assert (tmp_path / "a" / "tiny" / f"seed-1.{former.recipe.hash}").is_dir()
    assert "has changed" in capsys.readouterr().err
