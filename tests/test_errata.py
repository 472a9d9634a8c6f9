"""The list of errata: complete, consistent, and every place that it points to exists."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

from mmlib.book import equations, errata, pages
from mmlib.book.errata import KINDS, PAPERS
from mmlib.book.ledger_read import load as load_ledger

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ROOT / "tests" / "test_errata_shown.py"
ANY = "|".join(PAPERS)


@pytest.fixture(scope="module")
def entries():
    return errata.load()


@pytest.fixture(scope="module")
def exhibits():
    return {id: exhibit for paper in load_ledger().values() for id, exhibit in paper.exhibits.items()}


def numbers(entries, prefix):
    return sorted(int(m[1]) for id in entries if (m := re.fullmatch(rf"{prefix}-(\d+)", id)))


def test_every_known_erratum_is_listed(entries):
    """Counts of what a reading of the four papers and of the released code found; a deleted entry is noticed."""
    withdrawn = {"mmali-2"}  # another print of the abstract has the address whole
    for prefix, count in {"mmali": 12, "mmjsd": 10, "rbc": 20, "meme": 26}.items():
        expected = [n for n in range(1, count + 1) if f"{prefix}-{n}" not in withdrawn]
        assert numbers(entries, prefix) == expected, prefix
    for prefix, count in {"mmali": 9, "mmjsd": 12, "rbc": 6, "meme": 10}.items():
        assert numbers(entries, f"{prefix}-code") == list(range(1, count + 1)), prefix
    for prefix, count in {"mmvae": 7, "mvae": 8, "jmvae": 4, "mopoe": 5, "cub": 5}.items():
        assert numbers(entries, f"{prefix}-code") == list(range(1, count + 1)), prefix
    for prefix, count in {"mmali": 2, "mmjsd": 4, "rbc": 9, "meme": 5}.items():
        assert numbers(entries, f"{prefix}-silent") == list(range(1, count + 1)), prefix
    for letter, count in {"x": 22, "q": 11}.items():  # about exhibits, about equations
        assert {int(m[1]) for id in entries if (m := re.fullmatch(rf"[a-z]+-{letter}(\d+)", id))} == set(
            range(1, count + 1)
        )
    assert "mmali-baselines" in entries


def test_papers_whose_text_was_not_read_are_compared_with_their_code_alone(entries):
    kinds = {entry.kind for entry in entries.values() if entry.paper in ("mmvae", "mvae", "jmvae", "mopoe")}
    assert kinds == {"code"}


def test_all_kinds_and_papers_occur(entries):
    kinds, papers = (
        Counter(getattr(entry, field) for entry in entries.values()) for field in ("kind", "paper")
    )
    assert set(kinds) == set(KINDS) and set(papers) == set(PAPERS)


def missing_targets(shown_by, root=ROOT):
    """Those of the tests and places of the book that do not exist below a folder."""

    def exists(target):
        file, is_test, name = target.partition("::")
        if is_test:
            return (root / file).is_file() and f"def {name}(" in (root / file).read_text("utf-8")
        page, _, anchor = target.partition("#")
        content = pages.text(root / "book" / page) if (root / "book" / page).is_file() else ""
        headings = map(pages.slug, re.findall(r"^#+ +(.+?)\s*$", content, re.MULTILINE))
        return anchor in (*pages.labels(content), *headings)

    return [target for target in shown_by if not exists(target)]


def test_every_place_that_shows_an_entry_exists(entries):
    missing = {id: missing_targets(entry.shown_by) for id, entry in entries.items()}
    assert {id: targets for id, targets in missing.items() if targets} == {}


def test_every_demonstration_belongs_to_the_entries_that_it_names(entries):
    """Both ways: an entry points to the tests whose first line names it, and no other."""
    text = SHOWN.read_text("utf-8")
    named = {}
    for name, docstring in re.findall(
        r'^def (test_\w+)\(.*?\):\n    """(.*?)"""', text, re.MULTILINE | re.DOTALL
    ):
        for id in re.findall(rf"\b(?:{ANY})-[a-z0-9-]+\b", docstring):
            named.setdefault(id, set()).add(name)
    pointed = {}
    for id, entry in entries.items():
        tests = {
            target.split("::")[1] for target in entry.shown_by if target.startswith("tests/test_errata_shown")
        }
        if tests:
            pointed[id] = tests
    assert named == pointed


def test_suspected_cells_of_the_ledger_have_an_entry_that_knows_their_table(entries, exhibits):
    for id, exhibit in exhibits.items():
        for suspect in exhibit.suspects:
            assert id in entries[suspect.errata].exhibits, (id, suspect.errata)


def test_exhibits_exist(entries, exhibits):
    unknown = {id: set(entry.exhibits) - set(exhibits) for id, entry in entries.items()}
    assert {id: names for id, names in unknown.items() if names} == {}


def test_equations_exist(entries):
    known = equations.load()
    unknown = {id: set(entry.equations) - set(known) for id, entry in entries.items()}
    assert {id: names for id, names in unknown.items() if names} == {}


def test_entries_refer_to_entries_that_exist(entries):
    pattern = re.compile(rf"\b((?:{ANY})-(?:code-|silent-|x|q)?\d+)\b")
    for entry in entries.values():
        for text in (entry.printed, entry.correct, entry.reason):
            assert set(pattern.findall(text)) <= set(entries), entry.id


def test_prose_is_tidy(entries):
    for entry in entries.values():
        assert len(entry.title) <= 90 and not entry.title.endswith("."), entry.id
        assert entry.reason.endswith("."), entry.id
        for text in (entry.title, entry.place, entry.printed, entry.correct, entry.reason):
            assert not re.search(r"\n|  |!(?=\s|$)|\be\.g\.|\bi\.e\.", text), entry.id
            assert text.count("$") % 2 == 0, entry.id
            plain = re.sub(r"\$[^$]+\$|`[^`]+`", "", text)  # what is neither mathematics nor code
            assert not re.search(r"(?<!-)\*|\^|_[a-z{]|\|\||\b(?:log|p|q)\(", plain), entry.id


def test_an_id_begins_with_the_paper(entries):
    with pytest.raises(ValueError, match="id is 'meme-99'; expected rbc-<rest>"):
        dataclasses.replace(entries["rbc-1"], id="meme-99")


def test_missing_targets_are_found_in_tests_and_pages(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_there():\n    pass\n")
    (tmp_path / "book" / "page.md").write_text(
        "(a-label)=\n## What is *true*, and what is not?\n\n$$\nx\n$$ (eq-x)\n\n:label: thm-y\n"
    )
    there = ["tests/test_a.py::test_there", "page.md#a-label", "page.md#eq-x", "page.md#thm-y"]
    there.append("page.md#what-is-true-and-what-is-not")
    gone = [
        "tests/test_a.py::test_gone",
        "tests/test_b.py::test_there",
        "page.md#eq-y",
        "none.md#a-label",
        "page.md",
    ]
    assert missing_targets([*there, *gone], tmp_path) == gone
