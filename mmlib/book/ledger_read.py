"""Reading the ledger: files typed from the papers, in which nothing may be unknown, missing or miscounted."""

import fnmatch
import re
from dataclasses import MISSING, fields
from pathlib import Path

from mmlib.book.ledger_entries import (
    DATA,
    KINDS,
    MODELS,
    PAPERS,
    PLACES,
    UNITS,
    Cell,
    Column,
    Exhibit,
    FigureClaim,
    Paper,
    Row,
    Suspect,
)

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "data" / "ledger"
METRIC = re.compile(
    r"test/((released_coherence/)?joint_coherence|(released_coherence/)?cross_coherence/\w+/\w+"
    r"|joint_accuracy|latent_accuracy/\w+/\w+|synergy_coherence/\w+"
    r"|classes_generated/\w+/count|log_likelihood/(joint|marginal/\w+|conditional/\w+/\w+)"
    r"|style_content_accuracy/\w+/(content|style|both)/(sample|mean)"
    r"|correlation/[\w/]+|mutual_information/\w+)"
)


def load(folder: Path | str = LEDGER, known_recipes=None, known_errata=None) -> dict[str, Paper]:
    """Every paper of the ledger that has a file, in the order of ``PAPERS``.

    Args:
        folder: with one file for each paper.
        known_recipes: names that a row may give; by default those of the library.
        known_errata: ids that a suspicion may give; by default those of ``data/errata.yaml``.

    Raises:
        ValueError: if something in a file is not as it should be; names file, exhibit and cell.
    """
    if known_recipes is None:
        from mmlib.runs.recipes import RECIPES as known_recipes
    if known_errata is None:
        known_errata = errata_ids()
    paths = [path for paper in PAPERS if (path := Path(folder) / f"{paper}.yaml").exists()]
    papers = {path.stem: load_paper(path, known_recipes, known_errata) for path in paths}
    exhibits = {id: exhibit for paper in papers.values() for id, exhibit in paper.exhibits.items()}
    for exhibit in exhibits.values():
        for row in exhibit.rows.values():
            original = exhibits.get(row.copy_of)
            if (
                row.copy_of
                and row.copy_of.split("-")[0] in papers
                and not (original and row.id in original.rows)
            ):
                raise ValueError(
                    f"{exhibit.paper}.yaml: {exhibit.id}: row {row.id}: copy_of is {row.copy_of!r}, "
                    f"which has no row {row.id!r}"
                )
    return papers


def load_paper(path: Path | str, known_recipes=None, known_errata=None) -> Paper:
    """One file of the ledger; ``None`` for a set of names accepts any.

    Raises:
        ValueError: as :func:`load`.
    """
    path = Path(path)
    place = path.name
    content = _fields(read_yaml(path), Paper, place)
    paper = content["paper"]
    if paper not in PAPERS or paper != path.stem:
        raise ValueError(f"{place}: paper is {paper!r}; expected {path.stem!r}, one of {', '.join(PAPERS)}")
    exhibits: dict[str, Exhibit] = {}
    for entry in content["exhibits"]:
        exhibit = _exhibit(entry, place, known_recipes, known_errata)
        if not re.fullmatch(rf"{paper}-(table|figure)-\d+", exhibit.id) or exhibit.id in exhibits:
            raise ValueError(
                f"{place}: id is {exhibit.id!r}; expected {paper}-table-<n> or {paper}-figure-<n>, once"
            )
        exhibits[exhibit.id] = exhibit
    return Paper(**{**content, "exhibits": exhibits})


def read_yaml(path: Path | str):
    """The content of a YAML file, by the fast reader where there is one."""
    import yaml

    return yaml.load(Path(path).read_text("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def errata_ids(path: Path | str = ROOT / "data" / "errata.yaml") -> set[str] | None:
    """Ids of the errata; None where there is no list of them."""
    return {entry["id"] for entry in read_yaml(path)} if Path(path).exists() else None


def _exhibit(entry, place: str, known_recipes, known_errata) -> Exhibit:
    place = f"{place}: {entry.get('id') if isinstance(entry, dict) else 'exhibits'}"
    entry = _fields(entry, Exhibit, place)
    columns = {
        id: Column(id=id, **_fields(column, Column, f"{place}: column {id}", {"id"}))
        for id, column in (entry.get("columns") or {}).items()
    }
    rows = {
        id: _row(id, row, f"{place}: row {id}", known_recipes)
        for id, row in (entry.get("rows") or {}).items()
    }
    for name in ("suspects", "claims"):
        entry[name] = entry.get(name) or []
    entry["suspects"] = tuple(
        Suspect(**{**suspect, "cells": tuple(suspect["cells"])})
        for suspect in (_fields(values, Suspect, f"{place}: suspects") for values in entry["suspects"])
    )
    entry["claims"] = tuple(
        FigureClaim(**{**claim, "recipes": _recipes(claim.get("recipes") or [], place, known_recipes)})
        for claim in (_fields(values, FigureClaim, f"{place}: claims") for values in entry["claims"])
    )
    entry["table"] = parse_table(entry.get("table") or "", rows, columns, place)
    exhibit = Exhibit(**{**entry, "columns": columns, "rows": rows})
    _check_words(exhibit, place)
    _check_table(exhibit, place, known_errata)
    return exhibit


def _row(id: str, values, place: str, known_recipes) -> Row:
    values = _fields(values, Row, place, {"id"})
    recipes = values.get("recipes") or []
    if isinstance(recipes, dict):
        values["recipes"] = {key: _recipes(names, place, known_recipes) for key, names in recipes.items()}
    else:
        values["recipes"] = _recipes(recipes, place, known_recipes)
    return Row(id=id, **values)


def _recipes(names, place: str, known_recipes) -> tuple[str, ...]:
    for name in names if isinstance(names, list) else [names]:
        if not isinstance(names, list) or (known_recipes is not None and name not in known_recipes):
            raise ValueError(f"{place}: recipes has {name!r}; expected names of known recipes")
    return tuple(names)


def parse_table(text: str, rows, columns, place: str) -> dict[tuple[str, str], Cell | str]:
    """The printed numbers by row and column.

    Raises:
        ValueError: if rows or columns are not those declared, in order, or a cell is no number, ``-`` or ``lost``.
    """
    if not text.strip():
        return {}
    lines = [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]
    for name, given, declared in (
        ("columns", lines[0][1:], list(columns)),
        ("rows", [line[0] for line in lines[1:]], list(rows)),
    ):
        if given != declared:
            raise ValueError(f"{place}: the {name} of the table are {given}; declared are {declared}")
    table = {}
    for row, *cells in lines[1:]:
        if len(cells) != len(columns):
            raise ValueError(f"{place}: row {row} has {len(cells)} cells; expected {len(columns)}")
        for column, cell in zip(columns, cells, strict=True):
            table[row, column] = (
                cell if cell in ("-", "lost") else parse_cell(cell, f"{place}: {row}/{column}")
            )
    return table


NUMBER = re.compile(r"[+-]?\d*\.?\d+([eE][+-]?\d+)?")
TIME = re.compile(r"(\d+) ?h ?(\d\d) ?min", re.IGNORECASE)


def parse_cell(text: str, place: str = "cell") -> Cell:
    """A printed number such as ``90.41 ± 0.11``, ``-1884.7``, ``.25``, ``2.94e-2`` or ``3 h 01 min``.

    Raises:
        ValueError: if it is none.
    """
    time = TIME.fullmatch(text)
    if time:
        return Cell(text, int(time[1]) + int(time[2]) / 60, None, 0.5 / 60)
    parts = [part.strip().replace("\u2212", "-") for part in text.split("±")]
    if len(parts) > 2 or not all(NUMBER.fullmatch(part) for part in parts):
        raise ValueError(f"{place} is {text!r}; expected a number, a number ± a number, '-' or 'lost'")
    digits, _, exponent = parts[0].lower().partition("e")
    decimals = len(digits.partition(".")[2]) - int(exponent or 0)
    return Cell(text, float(parts[0]), float(parts[1]) if len(parts) == 2 else None, 0.5 * 10.0**-decimals)


def _fields(values, kind: type, place: str, implied: set[str] = frozenset()) -> dict:
    """A copy of the entry, if it has the fields of ``kind`` and no others."""
    if not isinstance(values, dict):
        raise ValueError(f"{place} is {values!r}; expected the fields of {kind.__name__}")
    known = {
        entry.name: entry.default is MISSING and entry.default_factory is MISSING
        for entry in fields(kind)
        if entry.name not in implied
    }
    unknown = sorted(set(values) - set(known))
    missing = [name for name, required in known.items() if required and name not in values]
    if unknown or missing:
        raise ValueError(
            f"{place}: unknown fields {unknown}, missing {missing}; {kind.__name__} has {', '.join(known)}"
        )
    return dict(values)


def _check_words(exhibit: Exhibit, place: str) -> None:
    units = [
        exhibit.unit,
        *(c.unit for c in exhibit.columns.values()),
        *(r.unit for r in exhibit.rows.values()),
    ]
    models = [entry.model for entry in (*exhibit.rows.values(), *exhibit.claims)]
    for name, given, known in (
        ("kind", [exhibit.kind], KINDS),
        ("place", [exhibit.place], PLACES),
        ("data", [exhibit.data], DATA),
        ("unit", [unit for unit in units if unit is not None], tuple(UNITS)),
        ("model", models, MODELS),
    ):
        for value in given:
            if value not in known:
                raise ValueError(f"{place}: {name} is {value!r}; expected one of {', '.join(known)}")
    for column in exhibit.columns.values():
        for given in column.metric.values() if isinstance(column.metric, dict) else [column.metric]:
            for metric in given if isinstance(given, list) else [given]:
                if metric is not None and not METRIC.fullmatch(metric):
                    raise ValueError(
                        f"{place}: column {column.id}: metric is {metric!r}; expected {METRIC.pattern}"
                    )
    if exhibit.code is not None and not any(
        (ROOT / exhibit.code.replace(".", "/")).with_suffix(suffix).exists() for suffix in (".py", "")
    ):
        raise ValueError(f"{place}: code is {exhibit.code!r}; expected a module of the library")


def _check_table(exhibit: Exhibit, place: str, known_errata) -> None:
    for name, expected, found in (
        ("cells", exhibit.cells, len(exhibit.printed())),
        ("dashes", exhibit.dashes, list(exhibit.table.values()).count("-")),
    ):
        if expected != found:
            raise ValueError(f"{place}: {name} is {expected}; the table has {found}")
    if exhibit.printed() and exhibit.unit is None:
        raise ValueError(f"{place}: unit is missing; expected one of {', '.join(UNITS)}")
    if exhibit.illustration and (exhibit.printed() or exhibit.claims):
        raise ValueError(f"{place}: is an illustration with cells or claims; expected neither")
    if not (exhibit.illustration or exhibit.table or exhibit.claims):
        raise ValueError(f"{place}: has neither a table nor claims; expected one, or illustration: true")
    for row in exhibit.rows.values():
        if row.against is not None and (row.against not in exhibit.rows or row.against == row.id):
            raise ValueError(
                f"{place}: row {row.id}: against is {row.against!r}; expected another row of the table"
            )
    ids = [claim.id for claim in exhibit.claims]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{place}: ids of claims are {ids}; expected each once")
    for suspect in exhibit.suspects:
        if known_errata is not None and suspect.errata not in known_errata:
            raise ValueError(f"{place}: suspects: errata is {suspect.errata!r}; there is no such entry")
        for pattern in suspect.cells:
            if exhibit.table and not any(
                fnmatch.fnmatchcase(f"{row}/{column}", pattern) for row, column in exhibit.table
            ):
                raise ValueError(f"{place}: suspects: {pattern!r} fits no cell; expected row/column")
