"""The pages of the book as text: their titles, and the labels and headings that a link can lead to."""

import json
import re
from pathlib import Path

from mmlib.book.entries import ROOT

BOOK = ROOT / "book"
_LABEL = re.compile(r"\$\$ *\(([\w-]+)\)|^\(([\w-]+)\)=|^:(?:label|name): *([\w-]+)", re.MULTILINE)


def text(page: Path) -> str:
    """What a page says: of a notebook the cells of text alone."""
    content = page.read_text("utf-8")
    if page.suffix != ".ipynb":
        return content
    cells = json.loads(content)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def title(page: Path) -> str:
    """What a page is called in a sentence."""
    return re.search(r"^# +(.+)$", text(page), re.MULTILINE)[1]


def labels(content: str) -> list[str]:
    """Labels of the equations, theorems, exercises, figures and sections in the text of a page."""
    return ["".join(groups) for groups in _LABEL.findall(content)]


def slug(heading: str) -> str:
    """The id that the built page gives a heading, also a text as the name of a class."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def pages(book: Path | str = BOOK) -> list[Path]:
    """Every page that people wrote."""
    return sorted([*Path(book).glob("*.md"), *Path(book).glob("*.ipynb")])
