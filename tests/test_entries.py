"""Files of data with any damage: a ValueError that names the file, the entry and the field."""

import copy
import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml

from mmlib.book import claims, equations, errata, ledger, ledger_read
from mmlib.book.entries import fit

CLAIMS = [
    {
        "id": "a-b",
        "claim": "it rises",
        "source": "a paper",
        "relation": ">",
        "threshold": 0.5,
        "expected": "pass",
    }
]
ERRATA = [
    {"id": "rbc-1", "paper": "rbc", "kind": "error", "place": "Eq. 1", "title": "a sign", "printed": "plus"}
    | {"correct": "minus", "reason": "So.", "shown_by": ["a"], "equations": ["b"], "exhibits": ["c"]}
]
EQUATIONS = [
    {
        "id": "rbc-eq-1",
        "paper": "rbc",
        "number": "1",
        "states": "x",
        "labels": ["eq-x"],
        "remark": "as it stands",
    }
]
CELL = "test/joint_coherence"
PRINTED = """
id: rbc-table-1
source: Table 1
title: two methods
kind: data
place: Contrast and supervision
data: mnist-svhn
cells: 3
dashes: 1
unit: percent
spread: over 5 runs
columns:
  a: {heading: A, metric: CELL, unit: fraction}
  b: {heading: B, metric: {"mm*": CELL, "*": [CELL, test/joint_accuracy]}}
rows:
  mmvae: {heading: M, block: all, model: mmvae, recipes: {"*": [x]}, against: mvae, copy_of: mmali-table-1, unit: nats}
  mvae: {heading: V, model: mvae, recipes: [x, y], against: null}
table: |
  row   | a  | b
  mmvae | 60 | 55
  mvae  | 40 | -
suspects:
  - {cells: ["*/b"], errata: rbc-6, note: swapped}
claims:
  - {id: rises, claim: it rises, model: mmvae, recipes: [x], check: a-b}
notes: none
""".replace("CELL", CELL)
SHOWN = "{id: rbc-figure-1, source: Figure 1, title: nets, kind: layers, place: Adversaries, data: none}"
LEDGER = {
    "paper": "rbc",
    "title": "a paper",
    "citation": "Nobody 2021",
    "exhibits": [
        yaml.safe_load(PRINTED),
        yaml.safe_load(SHOWN) | {"illustration": True, "shows": "layers", "layers": 3, "code": "mmlib.nets"},
    ],
}
READERS = {
    "claims.yaml": (CLAIMS, claims.load),
    "errata.yaml": (ERRATA, errata.load),
    "equations.yaml": (EQUATIONS, equations.load),
    "rbc.yaml": (LEDGER, lambda path: ledger_read.load(Path(path).parent, {"x", "y"}, {"rbc-6"})),
}
ANYWHERE = [
    datetime.date(2021, 1, 1),
    [["x"]],
    {1: 2},
    {"x": {"y": "z"}},
    math.nan,
    -math.inf,
    1j,
    b"x",
]
NULLABLE = {"metric", "against", "copy_of", "unit", "check", "code", "layers"}
IN_PLACE_OF = {
    str: [None, 5, True, "", " ", ["x"], {"x": "y"}],
    int: [None, "5", True, 2.5, [1]],
    float: [None, "0.5", True, [0.5]],
    bool: [None, "true", 1],
    list: [None, 5, "x", {"x": "y"}, [5], [None]],
    dict: [None, 5, "x", [5], [None]],
    type(None): [5, True, "", ["x"], {"x": "y"}],
}


@pytest.fixture(scope="module")
def real():
    return ledger.read()


def places(value, path=()):
    """Paths of everything inside lists and mappings."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


def damaged(content, path, value):
    made = copy.deepcopy(content)
    holder = made
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return made


def at(content, path):
    for key in path:
        content = content[key]
    return content


def refusal(name, content, folder, monkeypatch):
    """What a reader says of some content, or None."""
    _, read = READERS[name]
    monkeypatch.setattr("mmlib.book.entries.read_yaml", lambda path: content)
    monkeypatch.setattr("mmlib.book.ledger_read.read_yaml", lambda path: content)
    try:
        read(folder / name)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", READERS)
def test_every_field_with_a_wrong_value_is_refused_by_file_entry_and_name(name, tmp_path, monkeypatch):
    content, _ = READERS[name]
    (tmp_path / name).touch()
    assert refusal(name, content, tmp_path, monkeypatch) is None
    for path in places(content):
        here = at(content, path)
        for wrong in [*ANYWHERE, *IN_PLACE_OF[type(here)]]:
            if wrong is None and path[-1] in NULLABLE:
                continue
            text = refusal(name, damaged(content, path, wrong), tmp_path, monkeypatch) or "accepted"
            entry = next((n + 1 for n, key in enumerate(path) if isinstance(key, int)), None)
            if entry and path[entry:] not in ((), ("id",)):
                assert at(content, path[:entry])["id"] in text, (path, wrong, text)
            fields = [key for key in path[-2:] if isinstance(key, str) and key != "id"] or [""]
            assert text.startswith(f"{name}: ") and any(field in text for field in fields), (
                path,
                wrong,
                text,
            )


@pytest.mark.parametrize("name", READERS)
def test_every_missing_unknown_and_repeated_entry_is_refused(name, tmp_path, monkeypatch):
    content, _ = READERS[name]
    (tmp_path / name).touch()
    for path in places(content):
        here = at(content, path)
        if isinstance(here, dict) and path[-1] not in ("metric", "recipes"):
            for change in ({"colour": "red"}, {3: "red"}):
                text = refusal(name, damaged(content, path, here | change), tmp_path, monkeypatch)
                assert text.startswith(name) and str(next(iter(change))) in text, (path, text)
        if isinstance(here, list):
            text = refusal(name, damaged(content, path, [*here, here[0]]), tmp_path, monkeypatch)
            assert text.startswith(name) and ("twice" in text or "once" in text), (path, text)
    if isinstance(content, list):
        assert "twice" in refusal(name, [*content, *content], tmp_path, monkeypatch)
        for field in content[0]:
            row = {key: value for key, value in content[0].items() if key != field}
            text = refusal(name, [row], tmp_path, monkeypatch)
            assert field == "remark" or f"missing ['{field}']" in text


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text + b"\n\t- x: [\n",
        lambda text: b"[" + text,
        lambda text: b"\xff\xfe" + text,
        lambda text: text.decode().encode("utf-16"),
        lambda text: b"\x00" + text,
        lambda text: b"",
        lambda text: b"5",
        lambda text: b"a text",
        lambda text: b"null",
        lambda text: b"[1, 2]",
        lambda text: b"[[]]",
        lambda text: b"- &a [*a]",
        lambda text: b"{1: 2}",
        lambda text: b"- ? [a]\n  : b",
    ],
)
def test_a_damaged_file_is_refused_by_name(name, damage, tmp_path):
    content, read = READERS[name]
    text = yaml.safe_dump(content, allow_unicode=True).encode()
    (tmp_path / name).write_bytes(text)
    read(tmp_path / name)
    (tmp_path / name).write_bytes(damage(text))
    with pytest.raises(ValueError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize(
    "text", ["5", "[", "\t", "[a]", "cells: 5", "cells: {rbc-table-1/mmvae/joint: 5}", "claims: [1]", "1: {}"]
)
def test_a_damaged_file_of_ours_is_a_problem_that_check_reports(text, tmp_path, real):
    (tmp_path / "ours.yaml").write_text(text)
    problems = ledger.check(tmp_path, real)
    assert problems and all("ours.yaml" in problem for problem in problems)


def test_annotations_say_what_fits():
    @dataclass(frozen=True)
    class Entry:
        id: str
        kind: Literal["a", "b"] | None = None

    assert fit(" x ", str, "p") == "x"
    assert fit(3, float, "p") == 3 and fit(3, str | int, "p") == 3
    assert fit(["x"], tuple[str, ...] | dict[str, str], "p") == ("x",)
    assert fit({"x": {"kind": "a"}}, dict[str, Entry], "p") == {"x": Entry("x", "a")}
    assert fit([{"id": "x", "kind": None}], dict[str, Entry], "p") == {"x": Entry("x")}
    with pytest.raises(ValueError, match="^p: x: kind is 'c'; expected one of a, b or null$"):
        fit({"x": {"kind": "c"}}, dict[str, Entry], "p")
