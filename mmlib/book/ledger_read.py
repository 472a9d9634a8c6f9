"""Reading the ledger: files typed from the papers, in which nothing may be unknown, missing or miscounted."""

from collections.abc import Collection, Iterator
from pathlib import Path

from mmlib.book import errata
from mmlib.book.entries import DATA, fit
from mmlib.book.ledger_entries import PAPERS, Exhibit, Paper
from mmlib.files import read_yaml

LEDGER = DATA / "ledger"


def load(
    folder: Path | str = LEDGER,
    known_recipes: Collection[str] | None = None,
    known_errata: Collection[str] | None = None,
) -> dict[str, Paper]:
    """Every paper of the ledger that has a file, in the order of ``PAPERS``; known is by default what there is.

    Raises:
        ValueError: if something in a file is not as it should be; names file, exhibit and cell.
    """
    if known_recipes is None:
        from mmlib.runs.recipes import RECIPES as known_recipes
    known_errata = errata.load() if known_errata is None else known_errata
    paths = [path for paper in PAPERS if (path := Path(folder) / f"{paper}.yaml").exists()]
    papers = {path.stem: fit(read_yaml(path), Paper, path.name) for path in paths}
    for name, paper in papers.items():
        if paper.paper != name:
            raise ValueError(f"{name}.yaml: paper is {paper.paper!r}; expected {name!r}")
        for exhibit in paper.exhibits.values():
            for problem in _dangling(exhibit, papers, known_recipes, known_errata):
                raise ValueError(f"{name}.yaml: {exhibit.id}: {problem}")
    return papers


def _dangling(exhibit: Exhibit, papers: dict[str, Paper], known_recipes, known_errata) -> Iterator[str]:
    """What an exhibit names and nothing bears."""
    for name in exhibit.recipes:
        if name not in known_recipes:
            yield f"recipes has {name!r}; expected names of known recipes"
    for suspect in exhibit.suspects:
        if suspect.errata not in known_errata:
            yield f"suspects: errata is {suspect.errata!r}; there is no such entry"
    for row in exhibit.rows.values():
        original = papers.get((row.copy_of or "").split("-")[0])
        if original and row.id not in getattr(original.exhibits.get(row.copy_of), "rows", ()):
            yield f"row {row.id}: copy_of is {row.copy_of!r}, which has no row {row.id!r}"
