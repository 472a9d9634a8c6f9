"""Every printed cell of the ledger against a second reading of the same tables, made from the papers alone.

``ledger_second_reading/<table>.csv`` holds one table in printed order, written down without sight of the ledger, so
that a later edit of a printed number in one of the two places does not go unseen. Seven cells of ``meme-table-2`` and
``meme-table-6`` are from a review version of the paper, as the notes there say.
"""

import csv
import re
from pathlib import Path

import pytest

from mmlib.book.ledger_entries import Cell
from mmlib.book.ledger_read import load

FOLDER = Path(__file__).with_name("ledger_second_reading")
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))


@pytest.fixture(scope="module")
def exhibits():
    return {id: exhibit for paper in load().values() for id, exhibit in paper.exhibits.items()}


def second_reading(table):
    """Headings of the columns, labels of the rows, and the cells as printed, row by row."""
    with (FOLDER / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        (_, *headings), *rows = csv.reader(file)
    return headings, [row[0] for row in rows], [[spaced(cell) for cell in row[1:]] for row in rows]


def spaced(text):
    return " ".join(text.split())


def bare(text):
    """Without spaces, commas, underscores and capitals, in which two readings of a heading may differ."""
    return re.sub(r"[\s,_]", "", text).casefold()


def test_every_table_with_printed_results_is_read_twice(exhibits):
    assert TABLES == sorted(id for id, exhibit in exhibits.items() if exhibit.table)


@pytest.mark.parametrize("table", TABLES)
def test_every_printed_cell_is_the_same_in_both_readings(table, exhibits):
    """Numbers and spreads as strings: 0.1 and 0.10 differ, -0.000 and 0.000 too."""
    exhibit = exhibits[table]
    headings, labels, cells = second_reading(table)
    ledger = [[exhibit.table[row, column] for column in exhibit.columns] for row in exhibit.rows]
    ledger = [[spaced(cell.text if isinstance(cell, Cell) else cell) for cell in row] for row in ledger]
    assert [len(row) for row in ledger] == [len(row) for row in cells] == [len(headings)] * len(labels)
    differ = [
        f"{label}, {heading}: {second!r}, in the ledger {first!r}"
        for label, seconds, firsts in zip(labels, cells, ledger, strict=True)
        for heading, second, first in zip(headings, seconds, firsts, strict=True)
        if first != second
    ]
    assert differ == []


@pytest.mark.parametrize("table", TABLES)
def test_rows_and_columns_stand_in_the_same_order_in_both_readings(table, exhibits):
    """So that no two of them can change their names and keep their numbers."""
    exhibit = exhibits[table]
    headings, labels, _ = second_reading(table)
    for heading, column in zip(headings, exhibit.columns.values(), strict=True):
        assert bare(heading) in bare(column.heading)
    for label, row in zip(labels, exhibit.rows.values(), strict=True):
        block, method, rest = bare(label).rpartition(bare(row.heading))
        assert method and not rest and bare(row.block).startswith(block), (
            f"{label}: {row.block}, {row.heading}"
        )
