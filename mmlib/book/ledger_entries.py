"""What the papers print: every table and figure, cell by cell. Read from files by ``ledger_read``."""

import fnmatch
from dataclasses import dataclass, field

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
    """A unit of the papers, and how it is held against our results.

    Attributes:
        factor: from the printed number to ours: results hold accuracies and coherences as fractions.
        limit: largest standard deviation over seeds, in our unit, with which a cell can count as reproduced.
        reason: why that limit.
    """

    factor: float
    limit: float
    reason: str


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


@dataclass(frozen=True)
class Cell:
    """A printed number.

    Attributes:
        text: as printed.
        mean: the number, in the unit of the table.
        sd: what follows the ±; None where nothing does.
        half_digit: half of the last printed digit of the number.
    """

    text: str
    mean: float
    sd: float | None
    half_digit: float


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        id: unique in the table.
        heading: as printed.
        metric: path of the same quantity in our results, or None if we do not measure it; a list of paths where data
            sets call the same thing by different names; where rows differ, a mapping from a pattern of row ids to
            either.
        unit: if not the unit of the table.
    """

    id: str
    heading: str
    metric: str | list[str] | dict[str, str | list[str]] | None = None
    unit: str | None = None

    def metric_for(self, row: str) -> str | list[str] | None:
        """The path that answers one cell, or several of which a result has one; of patterns the first that fits."""
        return _fitting(self.metric, row) if isinstance(self.metric, dict) else self.metric


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        id: unique in the table.
        heading: as printed.
        model: which method.
        block: heading of the block of rows that this one is in.
        recipes: recipes whose results answer the row, the paper's own setting first; or, where columns differ, a
            mapping from a pattern of column ids to such a list.
        against: row that this one is compared with, or None.
        copy_of: table of another paper from which the row is copied, under the same id.
        unit: if not the unit of the column or the table.
    """

    id: str
    heading: str
    model: str
    block: str = ""
    recipes: tuple[str, ...] | dict[str, tuple[str, ...]] = ()
    against: str | None = None
    copy_of: str | None = None
    unit: str | None = None

    def recipes_for(self, column: str) -> tuple[str, ...]:
        """The recipes that answer one cell; of several patterns the first that fits."""
        return _fitting(self.recipes, column) or () if isinstance(self.recipes, dict) else self.recipes


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
    model: str
    recipes: tuple[str, ...] = ()
    check: str | None = None


@dataclass(frozen=True)
class Exhibit:
    """A table or figure.

    Attributes:
        id: ``<paper>-table-<n>`` or ``<paper>-figure-<n>``.
        source: its name in the paper.
        title: what it shows, in our words.
        kind: one of ``KINDS``.
        place: part of the book it belongs to.
        data: data set of the paper.
        cells: number of printed results.
        dashes: number of cells in which a dash is printed.
        unit: of the printed numbers.
        spread: what the paper says its ± is.
        columns: by id, in printed order.
        rows: by id, in printed order.
        table: by row and column; ``"-"`` where the paper prints a dash, ``"lost"`` where the number could not be read.
        suspects: cells that look misprinted.
        claims: what a figure shows.
        notes: anything else.
        illustration: shows pictures, layers or a scheme: listed, not counted.
        shows: of an illustration, in one line.
        layers: number of entries of a table of layers.
        code: module of the library that has those layers.
    """

    id: str
    source: str
    title: str
    kind: str
    place: str
    data: str
    cells: int = 0
    dashes: int = 0
    unit: str | None = None
    spread: str = ""
    columns: dict[str, Column] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    table: dict[tuple[str, str], Cell | str] = field(default_factory=dict)
    suspects: tuple[Suspect, ...] = ()
    claims: tuple[FigureClaim, ...] = ()
    notes: str = ""
    illustration: bool = False
    shows: str = ""
    layers: int | None = None
    code: str | None = None

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
        return list(dict.fromkeys(entry.model for entry in (*self.rows.values(), *self.claims)))


@dataclass(frozen=True)
class Paper:
    """One paper and its exhibits, by id, in order."""

    paper: str
    title: str
    citation: str
    exhibits: dict[str, Exhibit]


def _fitting(patterns: dict, id: str):
    return next((value for pattern, value in patterns.items() if fnmatch.fnmatchcase(id, pattern)), None)
