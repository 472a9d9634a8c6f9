"""What the papers print: every table and figure, cell by cell, as ``data/ledger/<paper>.yaml`` has it."""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from mmlib.book.entries import ROOT

PAPERS = ("mmali", "mmjsd", "rbc", "meme")
KINDS = ("data", "pictures", "layers", "scheme")
PLACES = (
    "Foundations",
    "Combining experts",
    "Contrast and supervision",
    "Adversaries",
    "Language and vision",
    "The whole picture",
)
DATA = ("mnist-svhn", "multi-mnist", "mnist-svhn-text", "cub", "celeba", "none")
MODELS = (
    *(f"{prefix}{model}" for model in ("jmvae", "mvae", "mmvae") for prefix in ("", "ci-", "cc-")),
    *("mopoe", "mmjsd", "mmjsd-ms", "mvae-ms", "mmvae-ms", "mmali", "mmali-joint", "meme", "ground-truth"),
)


@dataclass(frozen=True)
class Unit:
    """A unit of the papers, and how it is held against our results."""

    factor: float  #: from the printed number to ours: results hold accuracies and coherences as fractions.
    limit: float  #: largest standard deviation over seeds, in our unit, with which a cell can count as reproduced.
    reason: str  #: why that limit.


UNITS = {
    "percent": Unit(0.01, 0.03, "three percentage points"),
    "fraction": Unit(1.0, 0.03, "three percentage points"),
    "correlation": Unit(
        1.0, 0.03, "as for fractions: a correlation, too, lies on a scale of length about one"
    ),
    "mutual-information": Unit(1.0, 0.01, "the printed values of one table lie within 0.1 of each other"),
    "nats": Unit(1.0, 10.0, "less than one part in fifty of the smallest likelihood printed"),
    "epochs": Unit(1.0, 5.0, "a tenth of the usual fifty"),
    "hours": Unit(1.0, 0.25, "times are printed in hours and minutes; a quarter of an hour is visible there"),
}


NUMBER = re.compile(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?")
TIME = re.compile(r"(\d+) ?h ?(\d\d) ?min", re.IGNORECASE)
METRIC = re.compile(
    r"test/((released_coherence/)?joint_coherence|(released_coherence/)?cross_coherence/\w+/\w+"
    r"|joint_accuracy|latent_accuracy/\w+(,\w+)*/\w+|synergy_coherence/\w+|subset_coherence/\w+(,\w+)+/\w+"
    r"|classes_generated/\w+/count|log_likelihood/(joint|marginal/\w+|conditional/\w+/\w+)"
    r"|style_content_accuracy/\w+/(content|style|both)/(sample|mean)"
    r"|generation_quality/\w+/(precision|recall|mean)|correlation/[\w/]+|mutual_information/\w+/\w+|relatedness/\w+,\w+"
    r"|latent_precision/\w+/\w+|generation_precision/\w+/\w+/\w+|joint_precision/\w+)"
)


@dataclass(frozen=True)
class Cell:
    """A printed number."""

    text: str  #: as printed.
    mean: float  #: the number, in the unit of the table.
    sd: float | None  #: what follows the ±; None where nothing does.
    half_digit: float  #: half of the last printed digit of the number.

    @classmethod
    def read(cls, text: str) -> "Cell":
        """A printed number such as ``90.41 ± 0.11``, ``-1884.7``, ``.25``, ``2.94e-2`` or ``3 h 01 min``.

        Raises:
            ValueError: if it is none.
        """
        if time := TIME.fullmatch(text):
            return cls(text, int(time[1]) + int(time[2]) / 60, None, 0.5 / 60)
        parts = [part.strip().replace("\u2212", "-") for part in text.split("±")]
        if len(parts) > 2 or not all(NUMBER.fullmatch(part) for part in parts):
            raise ValueError(f"{text!r} is none of: a number, a number ± a number, '-', 'lost'")
        digits, _, exponent = parts[0].lower().partition("e")
        decimals = len(digits.partition(".")[2]) - int(exponent or 0)
        return cls(text, *map(float, parts), *[None] * (2 - len(parts)), 0.5 * 10.0**-decimals)


class Table(dict):
    """Cells by row and column: a `Cell`, ``"-"`` where a dash is printed, ``"lost"`` where no number could be read."""

    @classmethod
    def read(cls, text: str) -> "Table":
        """A table typed as lines of cells between bars, ids of columns on top and ids of rows on the left.

        Raises:
            ValueError: if a row occurs twice or has too many or too few cells, or a cell cannot be read.
        """
        (_, *columns), *rows = ([cell.strip() for cell in line.split("|")] for line in text.splitlines())
        table = cls()
        for row, *cells in rows:
            if len(cells) != len(columns) or (row, columns[0]) in table:
                raise ValueError(f"row {row} has {len(cells)} cells; expected {len(columns)}, in one row")
            for column, cell in zip(columns, cells, strict=True):
                try:
                    table[row, column] = cell if cell in ("-", "lost") else Cell.read(cell)
                except ValueError as error:
                    raise ValueError(f"{row}/{column}: {error}") from None
        return table


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    id: str  #: unique in the table.
    heading: str  #: as printed.
    #: path of the same quantity in our results, or None if we do not measure it; a list of paths where data sets call
    #: the same thing by different names; where rows differ, a mapping from a pattern of row ids to either.
    metric: str | tuple[str, ...] | dict[str, str | tuple[str, ...]] | None = None
    unit: Literal[*UNITS] | None = None  #: if not the unit of the table.

    def __post_init__(self):
        """Refuse a metric that no result can have."""
        for metric in _flat(self.metric):
            if not METRIC.fullmatch(metric):
                raise ValueError(f"metric is {metric!r}; expected {METRIC.pattern}")

    def metric_for(self, row: str) -> tuple[str, ...]:
        """The paths that may answer one cell, of which a result has one; of patterns the first that fits."""
        return tuple(_flat(_fitting(self.metric, row)))


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    id: str  #: unique in the table.
    heading: str  #: as printed.
    model: Literal[*MODELS]  #: which method.
    block: str = ""  #: heading of the block of rows that this one is in.
    #: recipes whose results answer the row, the paper's own setting first; or, where columns differ, a mapping from a
    #: pattern of column ids to such a list.
    recipes: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    against: str | None = None  #: row that this one is compared with, or None.
    copy_of: str | None = None  #: table of another paper from which the row is copied, under the same id.
    unit: Literal[*UNITS] | None = None  #: if not the unit of the column or the table.

    def recipes_for(self, column: str) -> tuple[str, ...]:
        """The recipes that answer one cell; of several patterns the first that fits."""
        return _fitting(self.recipes, column) or ()


@dataclass(frozen=True)
class Suspect:
    """Cells that look misprinted, by patterns row/column; they stay as printed. ``errata`` is an id of the errata."""

    cells: tuple[str, ...]
    errata: str
    note: str


@dataclass(frozen=True)
class FigureClaim:
    """What a figure shows, in words; ``check`` is an id of the list of claims that answers it, or None."""

    id: str
    claim: str
    model: Literal[*MODELS]
    recipes: tuple[str, ...] = ()
    check: str | None = None


@dataclass(frozen=True)
class Exhibit:
    """A table or figure."""

    id: str  #: ``<paper>-table-<n>`` or ``<paper>-figure-<n>``.
    source: str  #: its name in the paper.
    title: str  #: what it shows, in our words.
    kind: Literal[*KINDS]  #: one of ``KINDS``.
    place: Literal[*PLACES]  #: part of the book it belongs to.
    data: Literal[*DATA]  #: data set of the paper.
    cells: int = 0  #: number of printed results.
    dashes: int = 0  #: number of cells in which a dash is printed.
    unit: Literal[*UNITS] | None = None  #: of the printed numbers.
    spread: str = ""  #: what the paper says its ± is.
    columns: dict[str, Column] = field(default_factory=dict)  #: by id, in printed order.
    rows: dict[str, Row] = field(default_factory=dict)  #: by id, in printed order.
    table: Table = field(default_factory=Table)  #: what is printed.
    suspects: tuple[Suspect, ...] = ()  #: cells that look misprinted.
    claims: dict[str, FigureClaim] = field(default_factory=dict)  #: what a figure shows, by id.
    notes: str = ""  #: anything else.
    illustration: bool = False  #: shows pictures, layers or a scheme: listed, not counted.
    shows: str = ""  #: of an illustration, in one line.
    layers: int | None = None  #: number of entries of a table of layers.
    code: str | None = None  #: module of the library that has those layers.

    def __post_init__(self):
        """Refuse what is miscounted, contradicts itself or leads nowhere."""
        for name, given, found in (
            ("rows", list(self.rows), list(dict.fromkeys(row for row, _ in self.table))),
            ("columns", list(self.columns), list(dict.fromkeys(column for _, column in self.table))),
            ("cells", self.cells, len(self.printed())),
            ("dashes", self.dashes, list(self.table.values()).count("-")),
        ):
            if given != found:
                raise ValueError(f"{name} is {given}; the table has {found}")
        if self.printed() and self.unit is None:
            raise ValueError(f"unit is missing; expected one of {', '.join(UNITS)}")
        if self.illustration == bool(self.table or self.claims):
            raise ValueError(f"illustration is {self.illustration}; expected it instead of a table or claims")
        module = ROOT / (self.code or "mmlib").replace(".", "/")
        if not (module.is_dir() or module.with_suffix(".py").exists()):
            raise ValueError(f"code is {self.code!r}; expected a module of the library")
        for row in self.rows.values():
            if row.against is not None and row.against not in {*self.rows} - {row.id}:
                raise ValueError(f"row {row.id}: against is {row.against!r}; expected another row")
        places = [f"{row}/{column}" for row, column in self.table]
        for pattern in (pattern for suspect in self.suspects for pattern in suspect.cells if places):
            if not fnmatch.filter(places, pattern):
                raise ValueError(f"suspects: {pattern!r} fits no cell; expected row/column")

    @property
    def paper(self) -> str:
        """Key of the paper."""
        return self.id.split("-")[0]

    def unit_of(self, row: str, column: str) -> str:
        """Unit of one cell: the row's own, else the column's, else the table's."""
        return self.rows[row].unit or self.columns[column].unit or self.unit

    def printed(self) -> dict[tuple[str, str], Cell]:
        """The cells in which a number is printed, by row and column."""
        return {place: cell for place, cell in self.table.items() if isinstance(cell, Cell)}

    def suspicions(self, row: str, column: str) -> list[Suspect]:
        """Why a cell looks misprinted; usually nothing."""
        return [s for s in self.suspects if any(fnmatch.fnmatchcase(f"{row}/{column}", p) for p in s.cells)]

    @property
    def models(self) -> list[str]:
        """The methods it is about, in order."""
        return list(dict.fromkeys(entry.model for entry in (*self.rows.values(), *self.claims.values())))

    @property
    def recipes(self) -> list[str]:
        """The recipes that may answer it, in order."""
        entries = (*self.rows.values(), *self.claims.values())
        return list(dict.fromkeys(name for entry in entries for name in _flat(entry.recipes)))


@dataclass(frozen=True)
class Paper:
    """One paper and its exhibits, by id, in order."""

    paper: Literal[*PAPERS]
    title: str
    citation: str
    exhibits: dict[str, Exhibit]

    def __post_init__(self):
        """Refuse an exhibit of another paper."""
        for id in self.exhibits:
            if not re.fullmatch(rf"{self.paper}-(table|figure)-\d+", id):
                raise ValueError(f"id is {id!r}; expected {self.paper}-table-<n> or {self.paper}-figure-<n>")


def _fitting(value, id: str):
    """A value, or, of a mapping of patterns, that of the first pattern that fits; None if none does."""
    if not isinstance(value, dict):
        return value
    return next((found for pattern, found in value.items() if fnmatch.fnmatchcase(id, pattern)), None)


def _flat(value) -> Iterable[str]:
    """The names in a name, a tuple of names, a mapping to either, or nothing."""
    if isinstance(value, str):
        return (value,)
    parts = value.values() if isinstance(value, dict) else value or ()
    return (name for part in parts for name in _flat(part))
