"""What a chapter may hold, so that two readers see the same: the built book, and Jupyter."""

import ast
import base64
import json
import math
import re
from pathlib import Path

import pytest

from mmlib.book import equations
from mmlib.plots import WIDTH

BOOK = Path(__file__).resolve().parents[1] / "book"
ROLES = {"eq", "prf:ref"}
DIRECTIVES = {
    *("admonition", "note", "tip", "warning", "important"),
    *("prf:definition", "prf:theorem", "prf:lemma", "prf:proposition", "prf:algorithm", "prf:remark"),
    *("exercise", "exercise-start", "exercise-end", "solution", "solution-start", "solution-end"),
}
WORDS, LINES, MINUTES, IMPORTS = 3500, 250, 25, 12

chapters = pytest.mark.parametrize("chapter", sorted(path.stem for path in BOOK.glob("*.ipynb")))


@pytest.fixture
def cells(chapter):
    return json.loads((BOOK / f"{chapter}.ipynb").read_text("utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


def texts(cells):
    return [source(cell) for cell in cells if cell["cell_type"] == "markdown"]


def tags(cell):
    return cell["metadata"].get("tags", [])


def visible(cells):
    """Code cells that a reader of the book sees unfolded."""
    code = [cell for cell in cells if cell["cell_type"] == "code" and source(cell).strip()]
    return [cell for cell in code if not any(tag.startswith(("hide", "remove")) for tag in tags(cell))]


def works():
    """First author and year of each entry of the bibliography."""
    found = {}
    for entry in re.split(r"^@", (BOOK / "references.bib").read_text("utf-8"), flags=re.M)[1:]:
        key = re.match(r"\w+\{([\w-]+),", entry)[1]
        first = re.search(r"^\s*author\s*=\s*\{(.+?)( and |\},?$)", entry, re.M)[1]
        found[key] = (first.split(",")[0], re.search(r"year\s*=\s*\{(\d+)", entry)[1])
    return found


def places():
    """The page of each label; figures that code draws among them."""
    found = equations.labels_of()
    for path in BOOK.glob("*.ipynb"):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name")
            found |= {name: path.name} if name else {}
    return found


@pytest.mark.parametrize(
    "page", sorted(path.name for path in BOOK.glob("[a-z]*.*") if path.suffix in (".md", ".ipynb"))
)
def test_links_between_pages_lead_to_what_their_words_say(page):
    text = (BOOK / page).read_text("utf-8")
    if page.endswith(".ipynb"):
        text = "\n\n".join(texts(json.loads(text)["cells"]))
    known, entries = places(), works()
    for words, target, label in re.findall(r"\[([^][]+)\]\(([\w-]*(?:\.md|\.ipynb)?)(?:#([\w-]+))?\)", text):
        place = f"{page}: [{words}]({target}#{label})"
        assert not target or (BOOK / target).is_file(), place
        if target == "bibliography.md" and label:
            assert label in entries, place
            assert all(part in words for part in entries[label]), f"{place}; expected {entries[label]}"
        elif label:
            assert known.get(label) == (target or page), f"{place}; the label is on {known.get(label)}"


@chapters
def test_no_cell_holds_what_one_of_the_readers_does_not_show(chapter, cells):
    here = {label for label, page in places().items() if page == f"{chapter}.ipynb"}
    for text in texts(cells):
        roles = re.findall(r"(?<!`)\{([\w:]+)\}`([^`]+)`", text)
        assert {role for role, _ in roles} <= ROLES, text
        assert {label for _, label in roles} <= here, f"a label of another page: {roles}"
        assert set(re.findall(r"^\s*(?:```+|:::+)\{([\w:-]+)\}", text, re.M)) <= DIRECTIVES, text
        assert not re.search(r"</?(?:div|details|summary|span|table|img|br)\b|\{\{", text), text


@chapters
def test_chapter_leads_from_jupyter_to_its_built_page(chapter, cells):
    assert tags(cells[0]) == ["remove-cell"] and f"(../_build/html/book/{chapter}.html)" in source(cells[0])


@chapters
def test_chapter_is_short_and_says_how_long_it_takes(chapter, cells):
    words = sum(len(text.split()) for text in texts(cells))
    lines = sum(len(source(cell).splitlines()) for cell in visible(cells))
    assert words <= WORDS and lines <= LINES, f"{words} words, {lines} visible lines of code"
    minutes = 5 * math.ceil((words / 200 + lines / 35) / 5)
    stated = re.search(r"^\| time \| (\d+) minutes to read", "\n".join(texts(cells)), re.M)
    assert stated and int(stated[1]) == minutes <= MINUTES, f"expected: | time | {minutes} minutes to read"


@chapters
def test_chapter_begins_with_a_dozen_lines_of_imports(chapter, cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    lines = [line for line in source(code[0]).splitlines() if line.strip()]
    assert "hide-input" in tags(code[0]) and len(lines) <= IMPORTS, f"{len(lines)} lines of imports"
    for cell in code[1:]:
        imports = [
            node
            for node in ast.walk(ast.parse(source(cell)))
            if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        assert not imports, source(cell)


@chapters
def test_live_cells_read_no_test_data_and_print_no_tables(chapter, cells):
    for cell in cells:
        if cell["cell_type"] == "code":
            assert "data.test" not in source(cell)
            assert not re.search(r"\{[^{}\n]*:\s*[<>^]\d", source(cell)), f"a padded print:\n{source(cell)}"


@chapters
def test_figures_are_no_wider_than_the_column(chapter, cells):
    for cell in cells:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                width = int.from_bytes(base64.b64decode(output["data"]["image/png"])[16:20])
                assert width <= WIDTH * 110 + 10, f"{width} pixels wide:\n{source(cell)}"
                figure = cell["metadata"].get("mystnb", {})
                assert figure["figure"]["caption"] and figure["image"]["alt"], source(cell)
