"""The index of equations: each one of the papers, with its place in the book, its function and its tests.

The equations are typed, in corrected form, in ``data/equations.yaml``; what answers them is found by their labels.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmlib.book import entries
from mmlib.book.ledger_entries import PAPERS
from mmlib.book.pages import BOOK, labels, pages, slug, text

EQUATIONS = entries.DATA / "equations.yaml"
TESTS = entries.ROOT / "tests"
_MARK = re.compile(r"mark\.equation\(\"(eq-[a-z0-9-]+)\"\)")


@dataclass(frozen=True)
class Statement:
    """A numbered equation or a named statement of a paper.

    Attributes:
        id: ``<paper>-eq-<n>``, or ``<paper>-<name>`` for a lemma, a definition, a hypothesis or a desideratum.
        paper: one of the four.
        number: as printed.
        states: what it says, in corrected form; mathematics between dollar signs.
        labels: labels of the book that answer it; empty if nothing does yet.
        remark: how they answer it, where that is not plain.
    """

    id: str
    paper: Literal[*PAPERS]
    number: str
    states: str
    labels: tuple[str, ...]
    remark: str = ""

    def __post_init__(self):
        """Refuse an id that does not fit the number."""
        expected = f"{self.paper}-{'' if self.named else 'eq-'}{slug(self.number)}"
        if self.id != expected:
            raise ValueError(f"id is {self.id!r}; expected {expected!r}")

    @property
    def named(self) -> bool:
        """Whether it has a name in place of a number."""
        return not self.number.isdigit()


@dataclass(frozen=True)
class Answer:
    """What stands behind one label.

    Attributes:
        label: of an equation, a theorem or a section.
        page: file in the folder of the book, or None if no page has the label.
        function: dotted name of the function that computes it, or None.
        source: where the equation is from, in the words of the function, or an empty text.
        tests: files of tests that are marked with the label.
    """

    label: str
    page: str | None
    function: str | None
    source: str
    tests: tuple[str, ...]


def load(path: Path | str = EQUATIONS) -> dict[str, Statement]:
    """All statements by id, in the order of the papers.

    Raises:
        ValueError: if an entry is not as a `Statement`; names file, entry and field.
    """
    return entries.load(path, Statement)


def answers(book: Path | str = BOOK, tests: Path | str = TESTS) -> dict[str, Answer]:
    """Every label of the book and of the register of equations, with what stands behind it."""
    from mmlib.book.equations import registered

    places = labels_of(book)
    marked: dict[str, list[str]] = {}
    for path in sorted(Path(tests).glob("test_*.py")):
        for label in set(_MARK.findall(path.read_text("utf-8"))):
            marked.setdefault(label, []).append(path.name)
    equations = {equation.label: equation for equation in registered()}
    found = {}
    for label in sorted({*places, *equations, *marked}):
        equation = equations.get(label)
        function, source = (f"mmlib.{equation.where}", equation.source) if equation else (None, "")
        found[label] = Answer(label, places.get(label), function, source, tuple(marked.get(label, ())))
    return found


def labels_of(book: Path | str = BOOK) -> dict[str, str]:
    """The page of every label of an equation, a theorem, an exercise, a figure or a section."""
    return {label: page.name for page in pages(book) for label in labels(text(page))}


def elsewhere(statements: dict[str, Statement], found: dict[str, Answer]) -> list[Answer]:
    """Equations of the book that no statement of the four papers is answered by."""
    used = {label for statement in statements.values() for label in statement.labels}
    return [answer for answer in found.values() if answer.function and answer.label not in used]


def errata_of(statements: dict[str, Statement], errata: dict) -> dict[str, list[str]]:
    """Ids of the errata that name each statement; ``data/errata.yaml`` is where these links are kept."""
    return {id: [entry.id for entry in errata.values() if id in entry.equations] for id in statements}
