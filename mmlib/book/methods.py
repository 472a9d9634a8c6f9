"""The methods of the book, from one file: what each says, buys and costs, where it is derived, and in which order.

The map on the front page, the cheat sheet and the table of the last method chapter are all drawn from
``data/methods.yaml``. Formulas are not typed again: each is read from the chapter that derives it.
"""

import html
import re
from dataclasses import dataclass
from pathlib import Path

from mmlib.book import entries
from mmlib.book.equations import Answer, answers
from mmlib.book.pages import BOOK, text

METHODS = entries.DATA / "methods.yaml"
LANES = ("one network", "AND: products", "OR: mixtures", "a game")
LEFT, WIDTH, HEIGHT, COLUMN, LINE, TOP = 34, 76, 30, 84, 54, 34  # of the map, in its own units


@dataclass(frozen=True)
class Method:
    """A row of ``data/methods.yaml``."""

    id: str  #: unique.
    name: str  #: as in prose.
    year: int  #: of the first publication.
    work: str  #: its key in the bibliography.
    lane: float  #: place from left to right; a number of `LANES`, or between two.
    page: str  #: chapter, a file in the folder of the book.
    models: tuple[str, ...]  #: names in ``mmlib.models.MODELS``.
    after: tuple[str, ...]  #: ids of the methods that it answers to.
    says: str  #: what it does, in half a sentence.
    buys: str  #: what is won by it, whatever was measured.
    costs: str  #: what is paid for it, whatever was measured.
    equations: tuple[str, ...]  #: labels of the equations that make its objective, the objective first.


def load(path: Path | str = METHODS) -> dict[str, Method]:
    """All methods by id, in the order of the file.

    Raises:
        ValueError: if a row is not as a `Method`; names file, row and field.
    """
    return entries.load(path, Method)


def formula(label: str, page: str, book: Path | str = BOOK) -> str:
    """The equation of that label as the page has it, in LaTeX.

    Raises:
        ValueError: if the page has none of that label.
    """
    parts = text(Path(book) / page).split("$$")
    for inside, after in zip(parts[1::2], parts[2::2], strict=False):
        if re.match(rf" *\({re.escape(label)}\)", after):
            return inside.strip()
    raise ValueError(f"label is {label!r}; expected that of an equation on {page}")


def sheet(methods: dict[str, Method]) -> dict[str, list[tuple[Answer, str]]]:
    """The cheat sheet: by method, what stands behind each of its equations, and the formula; an equation comes once.

    Raises:
        ValueError: if a label has no page, no function or no test.
    """
    found, shown, known = {}, set(), answers()
    for method in methods.values():
        new = [label for label in method.equations if label not in shown]
        shown |= set(new)
        for label in new:
            answer = known.get(label)
            if not (answer and answer.page and answer.equation and answer.tests):
                raise ValueError(f"{method.id}: {label} is {answer}; expected a page, a function and a test")
        found[method.id] = [(known[label], formula(label, known[label].page)) for label in new]
    return found


def places(methods: dict[str, Method]) -> dict[str, tuple[float, float]]:
    """The middle of each method's box on the map: a line a year, in which there is something."""
    years = sorted({method.year for method in methods.values()})
    return {
        id: (LEFT + (m.lane + 0.5) * COLUMN, TOP + (years.index(m.year) + 0.5) * LINE)
        for id, m in methods.items()
    }


def drawing(methods: dict[str, Method]) -> str:
    """The map as SVG: time goes down, each method is a link to its chapter; a style sheet colours it."""
    at, years = places(methods), sorted({method.year for method in methods.values()})
    wide, high = LEFT + len(LANES) * COLUMN, TOP + len(years) * LINE
    parts = [
        f'<svg class="mm-map" viewBox="0 0 {wide} {high}" xmlns="http://www.w3.org/2000/svg" role="group" '
        'aria-label="Map of the methods: time goes down, lines lead to what came after">'
    ]
    for i, lane in enumerate(LANES):
        x = LEFT + (i + 0.5) * COLUMN
        parts.append(
            f'<text class="mm-map-head" x="{x:g}" y="16" text-anchor="middle">{html.escape(lane)}</text>'
        )
    for i, year in enumerate(years):
        y = TOP + (i + 0.5) * LINE + 4
        parts.append(f'<text class="mm-map-head" x="0" y="{y:g}">{year}</text>')
    for id, method in methods.items():
        for earlier in method.after:
            (x, y), (u, v) = at[earlier], at[id]
            y, v = y + HEIGHT / 2, v - HEIGHT / 2
            middle = (y + v) / 2
            parts.append(f'<path d="M{x:g} {y:g} C{x:g} {middle:g} {u:g} {middle:g} {u:g} {v:g}"/>')
    for id, method in methods.items():
        x, y = at[id]
        told = html.escape(f"{method.name}, {method.year}: {method.says}", quote=True)
        parts.append(
            f'<a href="{Path(method.page).stem}.html" aria-label="{told}"><title>{told}</title>'
            f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="middle">{html.escape(method.name)}</text></a>'
        )
    return "\n".join([*parts, "</svg>"])
