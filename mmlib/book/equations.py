"""The index of equations: those that the papers print, and the places of the book and functions that answer them.

The papers' equations are typed, in corrected form, in ``data/equations.yaml``. What answers them is found by labels: a
label stands beside an equation in a chapter; the function that computes it has it in double backticks after `Equation:`
in its docstring; and it marks the tests of the function.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mmlib
from mmlib.book import entries
from mmlib.book.ledger_entries import PAPERS
from mmlib.book.pages import BOOK, labels, pages, slug, text

EQUATIONS = entries.DATA / "equations.yaml"
TESTS = entries.ROOT / "tests"
_LINE = re.compile(r"^\s*Equation: ``(eq-[a-z0-9-]+)``", re.MULTILINE)
_SOURCE = re.compile(r"^( *)Equation: ``eq-.*?Source: (.+(?:\n\1\S.*)*)", re.MULTILINE)
_MARK = re.compile(r"mark\.equation\(\"(eq-[a-z0-9-]+)\"\)")


@dataclass(frozen=True)
class Statement:
    """A numbered equation or a named statement of a paper."""

    id: str  #: ``<paper>-eq-<n>``, or ``<paper>-<name>`` for a lemma, a definition, a hypothesis or a desideratum.
    paper: Literal[*PAPERS]  #: one of the four.
    number: str  #: as printed.
    states: str  #: what it says, in corrected form; mathematics between dollar signs.
    labels: tuple[str, ...]  #: labels of the book that answer it; empty if nothing does yet.
    remark: str = ""  #: how they answer it, where that is not plain.

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
class Equation:
    """A labelled equation of the book and the function that computes it."""

    label: str  #: as in a chapter.
    function: Callable  #: the function, or the method as a plain function.
    owner: object  #: the module or class that holds it.
    name: str  #: its name there.

    @property
    def where(self) -> str:
        """Dotted name of the function, for example mmlib.bounds.iwae."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def source(self) -> str:
        """Where it is from: what follows "Source:" on the line of the label and on lines that are as deep."""
        found = _SOURCE.search(self.function.__doc__)
        return " ".join(found[2].split()) if found else ""


@dataclass(frozen=True)
class Answer:
    """What stands behind one label."""

    label: str  #: of an equation, a theorem or a section.
    page: str | None  #: file in the folder of the book, or None if no page has the label.
    equation: Equation | None  #: with the function that computes it, or None.
    tests: tuple[str, ...]  #: files of tests that are marked with the label.


def load(path: Path | str = EQUATIONS) -> dict[str, Statement]:
    """All statements by id, in the order of the papers.

    Raises:
        ValueError: if an entry is not as a `Statement`; names file, entry and field.
    """
    return entries.load(path, Statement)


def registered() -> list[Equation]:
    """Every equation of the library, in the order of modules and lines; a label may wrongly occur twice."""
    names = [info.name for info in pkgutil.walk_packages(mmlib.__path__, "mmlib.")]
    found = []
    for module in [importlib.import_module(name) for name in names if not name.endswith("__main__")]:
        own = [
            value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__
        ]
        here = [
            Equation(label, value, holder, name)
            for holder in (module, *filter(inspect.isclass, own))
            for name, value in vars(holder).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
            for label in _LINE.findall(value.__doc__ or "")
        ]
        found += sorted(here, key=lambda equation: equation.function.__code__.co_firstlineno)
    return found


def answers(book: Path | str = BOOK, tests: Path | str = TESTS) -> dict[str, Answer]:
    """Every label of the book and of the functions, with what stands behind it."""
    places, computed = labels_of(book), {equation.label: equation for equation in registered()}
    marked: dict[str, list[str]] = {}
    for path in sorted(Path(tests).glob("test_*.py")):
        for label in set(_MARK.findall(path.read_text("utf-8"))):
            marked.setdefault(label, []).append(path.name)
    return {
        label: Answer(label, places.get(label), computed.get(label), tuple(marked.get(label, ())))
        for label in sorted({*places, *computed, *marked})
    }


def labels_of(book: Path | str = BOOK) -> dict[str, str]:
    """The page of every label of an equation, a theorem, an exercise, a figure or a section."""
    return {label: page.name for page in pages(book) for label in labels(text(page))}


def elsewhere(statements: dict[str, Statement], found: dict[str, Answer]) -> list[Answer]:
    """Equations of the book that no statement of the four papers is answered by."""
    used = {label for statement in statements.values() for label in statement.labels}
    return [answer for answer in found.values() if answer.equation and answer.label not in used]


def errata_of(statements: dict[str, Statement], errata: dict) -> dict[str, list[str]]:
    """Ids of the errata that name each statement; ``data/errata.yaml`` is where these links are kept."""
    return {id: [entry.id for entry in errata.values() if id in entry.equations] for id in statements}
