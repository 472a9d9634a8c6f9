"""The ledger as text: for a terminal, and as Markdown."""

import math
import textwrap

from mmlib.book.ledger_entries import UNITS, Cell, Exhibit
from mmlib.book.ledger_rule import (
    DIRECTION,
    INCONCLUSIVE,
    NOT_ATTEMPTED,
    NOT_REPRODUCED,
    REPRODUCED,
    STATUSES,
    Answer,
)

MARKS = {REPRODUCED: "=", DIRECTION: ">", INCONCLUSIVE: "?", NOT_REPRODUCED: "≠", NOT_ATTEMPTED: ""}
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


def coverage(entries: list) -> str:
    """A table of coverage by paper and status, of printed results and of claims of figures."""
    lines = []
    for title, part in (("printed results", "cells"), ("claims of figures", "claims")):
        rows = [[entry.citation, *getattr(entry, part).values()] for entry in entries]
        rows.append(["together", *(sum(column) for column in list(zip(*rows, strict=True))[1:])])
        head = [title, *STATUSES, "all"]
        grid = [head, *([*map(str, row), str(sum(row[1:]))] for row in rows)]
        lines += [*_aligned(grid, right=True), ""]
    tables, figures, shown, copies, flagged = (
        sum(getattr(entry, name) for entry in entries)
        for name in ("tables", "figures", "illustrations", "copies", "flagged")
    )
    lines += [
        f"{tables} tables and {figures} figures; {shown} of them are illustrations, listed but not counted.",
        f"{copies} printed results are copies from another of the papers; {flagged} are flagged as suspect.",
    ]
    return "\n".join(lines) + "\n"


def table(exhibit: Exhibit, cells: dict, claims: dict, style: str = "text") -> str:
    """One table or figure, ours under the printed numbers.

    Args:
        exhibit: the table or figure.
        cells: answers by exhibit, row and column.
        claims: answers by exhibit and claim.
        style: ``"text"`` or ``"markdown"``.

    Raises:
        ValueError: if the style is unknown.
    """
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; expected one of {', '.join(STYLES)}")
    plain = style == "text"
    where = f"{exhibit.id}: {exhibit.source}. {exhibit.title}"
    lines = [where if plain else f"**{where}**", ""]
    if exhibit.table:
        grid = _grid(exhibit, cells, plain)
        for part in _folded(grid) if plain else [grid]:
            lines += [*(_aligned(part) if plain else _markdown(part)), ""]
    answers = [(claim, claims[exhibit.id, claim.id]) for claim in exhibit.claims]
    bullets = [f"{claim.claim}: {answer.status} ({answer.reason})" for claim, answer in answers]
    for text in [*bullets, *_notes(exhibit, cells, plain)]:
        lines += (
            textwrap.wrap(text, 108, initial_indent="- ", subsequent_indent="  ") if plain else [f"- {text}"]
        )
    return "\n".join(lines).rstrip() + "\n"


def _grid(exhibit: Exhibit, cells: dict, plain: bool) -> list[list[str]]:
    head = [exhibit.unit or "", *(column.heading for column in exhibit.columns.values())]
    grid, block = ([*_wrapped(head), []] if plain else [head]), ""
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
            answer = cells[exhibit.id, row.id, column]
            flag = f" {SUSPECT}" if exhibit.suspicions(row.id, column) else ""
            printed.append(f"{cell.text}{flag}")
            text = number(answer, cell, exhibit.unit_of(row.id, column))
            found.append(f"{text} {MARKS[answer.status]}".strip())
        grid.append(printed)
        if any(found[1:]):
            grid.append(found)
    return grid


def _notes(exhibit: Exhibit, cells: dict, plain: bool) -> list[str]:
    answers = [cells[exhibit.id, *place] for place in exhibit.printed()]
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


def _wrapped(head: list[str], width: int = 14) -> list[list[str]]:
    parts = [textwrap.wrap(text, width) or [""] for text in head]
    height = max(map(len, parts))
    return [[part[line] if line < len(part) else "" for part in parts] for line in range(height)]


def _folded(grid: list[list[str]], limit: int = 120) -> list[list[list[str]]]:
    """The grid in parts that are no wider than a terminal, each with the headings of the rows."""
    widths = _widths(grid)
    parts, room = [[0]], limit - widths[0]
    for column, width in enumerate(widths[1:], 1):
        if width + 2 > room and len(parts[-1]) > 1:
            parts, room = [*parts, [0]], limit - widths[0]
        parts[-1].append(column)
        room -= width + 2
    return [[[row[i] for i in part] if row else [] for row in grid] for part in parts]


def _widths(grid: list[list[str]]) -> list[int]:
    full = [row for row in grid if row]
    # The heading of a block may run over the columns to its right, which are empty.
    return [max((len(row[i]) for row in full if i or any(row[1:])), default=0) for i in range(len(full[0]))]


def _aligned(grid: list[list[str]], right: bool = False) -> list[str]:
    widths = _widths(grid)
    lines = []
    for row in grid:
        if not row:
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
            continue
        cells = [
            text.rjust(width) if right and i else text.ljust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _markdown(grid: list[list[str]]) -> list[str]:
    escaped = [[text.replace("|", "\\|") for text in row] for row in grid]
    rows = [f"| {' | '.join(row)} |" for row in escaped]
    return [rows[0], "|" + " :-- |" * len(grid[0]), *rows[1:]]
