"""The index of equations: each one of the papers, with its place in the book, its function and its tests.

The equations are typed, in corrected form, in ``data/equations.yaml``; what answers them is found by their labels.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mmlib.book.ledger_entries import PAPERS

ROOT = Path(__file__).resolve().parents[2]
EQUATIONS = ROOT / "data" / "equations.yaml"
BOOK = ROOT / "book"
TESTS = ROOT / "tests"
_LABEL = re.compile(r"\$\$ *\(([\w-]+)\)|^\(([\w-]+)\)=|^:label: *([\w-]+)|^:name: *([\w-]+)", re.MULTILINE)
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
    paper: str
    number: str
    states: str
    labels: tuple[str, ...]
    remark: str = ""

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
        ValueError: if an entry lacks a field or has an unknown one, an id does not fit paper and number, or occurs
            twice.
    """
    from mmlib.book.ledger_read import read_yaml

    required = set(Statement.__dataclass_fields__) - {"remark"}
    found: dict[str, Statement] = {}
    for row in read_yaml(path) or []:
        if not isinstance(row, dict) or set(row) - {"remark"} != required:
            raise ValueError(
                f"an equation has fields {sorted(row)}; expected {sorted(required)}, maybe remark"
            )
        statement = Statement(**{**row, "labels": tuple(row["labels"])})
        name = re.sub(r"[^a-z0-9]+", "-", statement.number.lower())
        expected = f"{statement.paper}-{name}" if statement.named else f"{statement.paper}-eq-{name}"
        if statement.paper not in PAPERS or statement.id != expected or statement.id in found:
            raise ValueError(
                f"id is {statement.id!r}; expected {expected!r}, once, of one of {', '.join(PAPERS)}"
            )
        found[statement.id] = statement
    return found


def answers(book: Path | str = BOOK, tests: Path | str = TESTS) -> dict[str, Answer]:
    """Every label of the book and of the register of equations, with what stands behind it."""
    from mmlib.book.equations import registered

    pages = labels_of(book)
    marked: dict[str, set[str]] = {}
    for path in sorted(Path(tests).glob("test_*.py")):
        for label in _MARK.findall(path.read_text("utf-8")):
            marked.setdefault(label, set()).add(path.name)
    equations = {equation.label: equation for equation in registered()}
    return {
        label: Answer(
            label,
            pages.get(label),
            f"mmlib.{equations[label].where}" if label in equations else None,
            _source(equations[label].function.__doc__) if label in equations else "",
            tuple(sorted(marked.get(label, ()))),
        )
        for label in sorted({*pages, *equations, *marked})
    }


def labels_of(book: Path | str = BOOK) -> dict[str, str]:
    """The page of every label of an equation, a theorem, an exercise, a figure or a section."""
    found = {}
    for path in sorted([*Path(book).glob("*.md"), *Path(book).glob("*.ipynb")]):
        for groups in _LABEL.findall(_markdown(path)):
            found[next(filter(None, groups))] = path.name
    return found


def elsewhere(statements: dict[str, Statement], found: dict[str, Answer]) -> list[Answer]:
    """Equations of the book that no statement of the four papers is answered by."""
    used = {label for statement in statements.values() for label in statement.labels}
    return [answer for answer in found.values() if answer.function and answer.label not in used]


def errata_of(statements: dict[str, Statement], errata: dict) -> dict[str, list[str]]:
    """Ids of the errata that name each statement; ``data/errata.yaml`` is where these links are kept."""
    return {id: [entry.id for entry in errata.values() if id in entry.equations] for id in statements}


def _source(docstring: str | None) -> str:
    """What follows "Source:" on the line of the equation and on the lines as deep as it; deeper stands the formula."""
    lines = (docstring or "").splitlines()
    for number, line in enumerate(lines):
        if "Equation: ``eq-" in line and "Source: " in line:
            indent = len(line) - len(line.lstrip())
            text = [line.split("Source: ", 1)[1]]
            for following in lines[number + 1 :]:
                if not following.strip() or len(following) - len(following.lstrip()) > indent:
                    break
                text.append(following.strip())
            return " ".join(text).strip()
    return ""


def _markdown(path: Path) -> str:
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
