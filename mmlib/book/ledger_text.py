"""The ledger as text: for a terminal, and as Markdown."""

import math
import re
import textwrap

from tabulate import tabulate

from mmlib.book.ledger import Ledger, census
from mmlib.book.ledger import coverage as counts
from mmlib.book.ledger_entries import UNITS, Cell, Exhibit
from mmlib.book.ledger_rule import STATUSES, Answer
from mmlib.checks import one_of

MARKS = dict(zip(STATUSES, ("=", ">", "?", "≠", ""), strict=True))
SUSPECT = "!"
STYLES = ("text", "markdown")


def number(answer: Answer, cell: Cell, unit: str) -> str:
    """Our number in the unit, and with the decimals, of the printed one; empty if there is none."""
    if answer.sample is None:
        return ""
    decimals = max(0, -math.floor(math.log10(2 * cell.half_digit) + 1e-9))
    mean, sd = answer.sample.mean / UNITS[unit].factor, answer.sample.sd
    spread = "" if sd is None else f" ± {sd / UNITS[unit].factor:.{decimals}f}"
    return f"{mean:.{decimals}f}{spread}"


def coverage(ledger: Ledger) -> str:
    """How much is answered, and what else there is to count."""
    parts = [tabulate(rows, head) for head, *rows in counts(ledger).values()]
    return "\n\n".join([*parts, textwrap.fill(census(ledger), 110)]) + "\n"


def table(exhibit: Exhibit, ledger: Ledger, style: str = "text") -> str:
    """One table or figure, ours under the printed numbers.

    Raises:
        ValueError: if the style is none of ``STYLES``, ``"text"`` for a terminal or ``"markdown"``.
    """
    plain = one_of("style", style, STYLES) == "text"
    where = f"{exhibit.id}: {exhibit.source}. {exhibit.title}"
    parts = [where if plain else f"**{where}**"]
    if exhibit.table:
        grid = _grid(exhibit, ledger, plain)
        parts += folded(grid) if plain else [as_markdown(grid)]
    answers = [(claim.claim, ledger.claims[exhibit.id, claim.id]) for claim in exhibit.claims.values()]
    bullets = [f"- {claim}: {answer.status} ({answer.reason})" for claim, answer in answers]
    bullets += [f"- {note}" for note in _notes(exhibit, ledger, plain)]
    lines = [textwrap.fill(text, 108, subsequent_indent="  ") if plain else text for text in bullets]
    return "\n\n".join([*parts, "\n".join(lines)]).rstrip() + "\n"


def _grid(exhibit: Exhibit, ledger: Ledger, plain: bool) -> list[list[str]]:
    head = [exhibit.unit or "", *(column.heading for column in exhibit.columns.values())]
    grid, block = [head], ""
    for row in exhibit.rows.values():
        if row.block != block:
            block = row.block
            grid.append([block if plain else f"**{block}**", *[""] * len(exhibit.columns)])
        printed, found = [row.heading], ["  ours" if plain else "*ours*"]
        for column in exhibit.columns:
            cell = exhibit.table[row.id, column]
            if not isinstance(cell, Cell):
                printed.append(cell)
                found.append("")
                continue
            answer = ledger.cells[exhibit.id, row.id, column]
            flag = f" {SUSPECT}" if exhibit.suspicions(row.id, column) else ""
            printed.append(f"{cell.text}{flag}")
            text = number(answer, cell, exhibit.unit_of(row.id, column))
            found.append(f"{text} {MARKS[answer.status]}".strip())
        grid.append(printed)
        if any(found[1:]):
            grid.append(found)
    return grid


def _notes(exhibit: Exhibit, ledger: Ledger, plain: bool) -> list[str]:
    answers = [ledger.cells[exhibit.id, *place] for place in exhibit.printed()]
    present = [status for status in STATUSES if MARKS[status] and any(a.status == status for a in answers)]
    notes = []
    if present:
        notes.append("marks of ours: " + ", ".join(f"{MARKS[status]} {status}" for status in present))
        used = {answer.sample.recipe: answer.sample for answer in answers if answer.sample}
        notes.append(
            "ours: "
            + ", ".join(f"{name} ({s.n} seed{'' if s.n == 1 else 's'})" for name, s in used.items())
            + "; ± is the standard deviation over seeds"
        )
    elif answers:
        notes.append("no result is recorded for this table yet")
    if exhibit.spread and exhibit.table:
        notes.append(f"± of the paper: {exhibit.spread}")
    for suspect in exhibit.suspects:
        places = ", ".join(suspect.cells if plain else (f"`{pattern}`" for pattern in suspect.cells))
        notes.append(f"{SUSPECT} {places}: {suspect.note} (erratum {suspect.errata})")
    if exhibit.illustration:
        notes.append(f"listed, not counted: {exhibit.shows or 'an illustration'}")
    if exhibit.notes:
        notes.append(" ".join(exhibit.notes.split()))
    return notes


def folded(grid: list[list[str]], limit: int = 120) -> list[str]:
    """The grid in parts that are no wider than a terminal, each with the headings of the rows."""
    parts, start = [], 1
    while start < len(grid[0]):
        for stop in range(len(grid[0]), start, -1):
            head, *rows = ([row[0], *row[start:stop]] for row in grid)
            part = tabulate(
                rows, head, disable_numparse=True, maxheadercolwidths=14, preserve_whitespace=True
            )
            if max(map(len, part.splitlines())) <= limit:
                break
        parts.append(re.sub(" +$", "", part, flags=re.MULTILINE))
        start = stop
    return parts


def as_markdown(grid: list[list[str]]) -> str:
    """The grid as a table of Markdown."""
    escaped = [[text.replace("|", "\\|") for text in row] for row in grid]
    head, *rows = (f"| {' | '.join(row)} |" for row in escaped)
    return "\n".join([head, "|" + " :-- |" * len(grid[0]), *rows])
