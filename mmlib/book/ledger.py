"""The ledger: every printed result of the papers beside ours, with its status by a stated rule.

The printed numbers are typed (``data/ledger/<paper>.yaml``); ours are computed from the recorded results and kept in
``data/ledger/ours.yaml``, so that a result that changes does not go unseen.
"""

import json
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmlib.book import claims as list_of_claims
from mmlib.book import ledger_text
from mmlib.book.ledger_entries import UNITS, Cell, Exhibit, Paper, Row
from mmlib.book.ledger_read import LEDGER, load, read_yaml
from mmlib.book.ledger_rule import (
    DIRECTION,
    NOT_ATTEMPTED,
    NOT_REPRODUCED,
    STATUSES,
    Answer,
    Sample,
    judge,
)
from mmlib.files import write_atomically
from mmlib.runs import results

UPDATE = "python -m mmlib ledger --update"


@dataclass(frozen=True)
class Records:
    """The recorded results of the recipes, as the ledger reads them.

    Attributes:
        recipes: every recipe, by name.
        values: for each recipe and seed its numbers by path.
        unconverged: for each recipe the number of seeds that still moved at the end of training.
        sha256: for each recipe and seed the seal of the result.
        problems: what is wrong with the files; such files are left out.
    """

    recipes: dict
    values: dict[str, list[dict[str, float]]]
    unconverged: dict[str, int]
    sha256: dict[str, dict[int, str]]
    problems: tuple[str, ...]

    @classmethod
    def read(cls, recipes: dict, root: Path | str) -> "Records":
        """All results below a folder."""
        values, unconverged, sha256, problems = {}, {}, {}, []
        for name in results.recorded(root):
            if name not in recipes:
                problems.append(f"{name}: has recorded results, but there is no recipe of that name")
                continue
            try:
                found = results.load(name, root)
            except results.ResultError as error:
                problems.append(str(error))
                continue
            current = [result for result in found if result["recipe"]["hash"] == recipes[name].hash]
            problems += [
                f"{name}: the result of seed {result['seed']} was made with a former recipe of that name "
                f"({result['recipe']['hash']}; the recipe is now {recipes[name].hash})"
                for result in found
                if result not in current
            ]
            if current:
                values[name] = [dict(results.flatten(result["metrics"])) for result in current]
                unconverged[name] = sum(not result["convergence"]["converged"] for result in current)
                sha256[name] = {result["seed"]: result["sha256"] for result in current}
        return cls(recipes, values, unconverged, sha256, tuple(problems))

    def sample(self, name: str, metric: str | list[str] | None) -> Sample | None:
        """One metric of a recipe over seeds, or None if there is none recorded; of several paths a result has one."""
        if metric is None or name not in self.values:
            return None
        paths = [metric] if isinstance(metric, str) else metric
        numbers = [values[path] for values in self.values[name] for path in paths if path in values]
        if not numbers:
            return None
        sd = statistics.stdev(numbers) if len(numbers) > 1 else None
        faithful, unconverged = self.recipes[name].faithful, self.unconverged[name]
        return Sample(name, len(numbers), statistics.fmean(numbers), sd, faithful, unconverged)

    def answer(self, exhibit: Exhibit, row: Row, column: str) -> Answer:
        """What the results say of one printed cell."""
        ours = self._best(exhibit, row, column)
        baseline = exhibit.table.get((row.against, column))
        theirs = None
        if ours is not None and isinstance(baseline, Cell):
            theirs = self._best(exhibit, exhibit.rows[row.against], column, self._family(ours.recipe))
        unit = UNITS[exhibit.unit_of(row.id, column)]
        baseline = baseline if isinstance(baseline, Cell) else None
        return judge(exhibit.table[row.id, column], unit, ours, baseline, theirs)

    def _best(self, exhibit: Exhibit, row: Row, column: str, family=None) -> Sample | None:
        metric = exhibit.columns[column].metric_for(row.id)
        names = [name for name in row.recipes_for(column) if family is None or self._family(name) == family]
        found = [sample for name in names if (sample := self.sample(name, metric)) is not None]
        return next((sample for sample in found if sample.faithful), found[0] if found else None)

    def _family(self, name: str) -> tuple:
        """What two recipes must have in common for their results to be compared."""
        return self.recipes[name].dataset, self.recipes[name].data_options


@dataclass(frozen=True)
class Ledger:
    """The printed numbers, and what our results say of each.

    Attributes:
        papers: by key.
        cells: by exhibit, row and column, every cell in which a number is printed.
        claims: by exhibit and claim, what the figures show.
        records: the results that it rests on.
        problems: ids of claims that are in no list.
    """

    papers: dict[str, Paper]
    cells: dict[tuple[str, str, str], Answer]
    claims: dict[tuple[str, str], Answer]
    records: Records
    problems: tuple[str, ...]

    @property
    def exhibits(self) -> dict[str, Exhibit]:
        """Every table and figure, by id."""
        return {id: exhibit for paper in self.papers.values() for id, exhibit in paper.exhibits.items()}


def read(
    folder=LEDGER, root=results.RESULTS, recipes: dict | None = None, claims=list_of_claims.CLAIMS
) -> Ledger:
    """The ledger as files and recorded results give it now.

    Args:
        folder: of the typed numbers.
        root: of the recorded results.
        recipes: by name; by default those of the library.
        claims: path of the list of claims.

    Raises:
        ValueError: if a file of the ledger is not as it should be.
    """
    if recipes is None:
        from mmlib.runs.recipes import RECIPES as recipes
    papers = load(folder, recipes)
    records = Records.read(recipes, root)
    known = list_of_claims.load(claims)
    cells, answers, problems = {}, {}, []
    for exhibit in (exhibit for paper in papers.values() for exhibit in paper.exhibits.values()):
        for row, column in exhibit.printed():
            cells[exhibit.id, row, column] = records.answer(exhibit, exhibit.rows[row], column)
        for claim in exhibit.claims:
            if claim.check is not None and claim.check not in known:
                problems.append(f"{exhibit.id}: {claim.id}: check is {claim.check!r}; there is no such claim")
            answers[exhibit.id, claim.id] = _answer(known.get(claim.check))
    return Ledger(papers, cells, answers, records, tuple(problems))


def _answer(claim: list_of_claims.Claim | None) -> Answer:
    if claim is None:
        return Answer(NOT_ATTEMPTED, "no check")
    status = DIRECTION if claim.expected == "pass" else NOT_REPRODUCED
    return Answer(status, f"checked in a chapter: {claim.id}")


@dataclass(frozen=True)
class Coverage:
    """How much of one paper is answered, and how.

    Attributes:
        paper: its key.
        citation: as the book cites it.
        tables: number of tables.
        figures: number of figures.
        illustrations: how many of both are only listed.
        cells: number of printed results by status.
        claims: number of claims of figures by status.
        copies: how many of the printed results are copied from another paper.
        flagged: how many look misprinted.
    """

    paper: str
    citation: str
    tables: int
    figures: int
    illustrations: int
    cells: dict[str, int]
    claims: dict[str, int]
    copies: int
    flagged: int


def coverage(ledger: Ledger | None = None) -> list[Coverage]:
    """One entry a paper."""
    ledger = ledger or read()
    found = []
    for paper in ledger.papers.values():
        exhibits = paper.exhibits.values()
        cells = [(exhibit, *place) for exhibit in exhibits for place in exhibit.printed()]
        figures = sum("-figure-" in exhibit.id for exhibit in exhibits)
        counts = Counter(ledger.cells[exhibit.id, row, column].status for exhibit, row, column in cells)
        claims = Counter(answer.status for (id, _), answer in ledger.claims.items() if id in paper.exhibits)
        found.append(
            Coverage(
                paper.paper,
                paper.citation,
                len(exhibits) - figures,
                figures,
                sum(exhibit.illustration for exhibit in exhibits),
                {status: counts[status] for status in STATUSES},
                {status: claims[status] for status in STATUSES},
                sum(exhibit.rows[row].copy_of is not None for exhibit, row, _ in cells),
                sum(bool(exhibit.suspicions(row, column)) for exhibit, row, column in cells),
            )
        )
    return found


def coverage_text(ledger: Ledger | None = None) -> str:
    """Coverage by paper and status, as the command line prints it."""
    return ledger_text.coverage(coverage(ledger))


def table(exhibit_id: str, style: str = "text", ledger: Ledger | None = None) -> str:
    """One table or figure of a paper, ours under the printed numbers.

    Args:
        exhibit_id: such as ``rbc-table-1``.
        style: ``"text"`` for a terminal, or ``"markdown"``.
        ledger: if it has been read already.

    Raises:
        ValueError: if there is no such table, figure or style.
    """
    ledger = ledger or read()
    if exhibit_id not in ledger.exhibits:
        raise ValueError(f"table is {exhibit_id!r}; expected one of {', '.join(ledger.exhibits)}")
    return ledger_text.table(ledger.exhibits[exhibit_id], ledger.cells, ledger.claims, style)


def printed(exhibit_id: str, row: str, column: str, ledger: Ledger | None = None) -> str:
    """One entry of a paper's table, as printed: ``printed("rbc-table-1", "mmvae-100", "s-to-m")``.

    Raises:
        ValueError: if there is no such table, row or column.
    """
    exhibits = (ledger or read()).exhibits
    table = exhibits[exhibit_id].table if exhibit_id in exhibits else {}
    if (row, column) not in table:
        raise ValueError(
            f"there is no entry {exhibit_id}/{row}/{column}; see python -m mmlib table {exhibit_id}"
        )
    cell = table[row, column]
    return cell if isinstance(cell, str) else cell.text


def ours(ledger: Ledger) -> str:
    """The text of ``ours.yaml``: every answer that rests on something, and the seals of the results it rests on."""
    answered = {place: answer for place, answer in ledger.cells.items() if answer.sample is not None}
    samples = [s for answer in answered.values() for s in (answer.sample, answer.against) if s is not None]
    lines = [f"# Computed by `{UPDATE}` from data/results; never edited.", "results:"]
    for name in sorted({sample.recipe for sample in samples}):
        lines.append(f"  {name}:")
        lines += [f"    {seed}: {sha256}" for seed, sha256 in ledger.records.sha256[name].items()]
    lines.append("cells:")
    for (exhibit, row, column), answer in answered.items():
        entry = {
            "status": answer.status,
            "recipe": answer.sample.recipe,
            "n": answer.sample.n,
            "mean": _rounded(answer.sample.mean),
            "sd": _rounded(answer.sample.sd),
            "unconverged": answer.sample.unconverged,
            "against": answer.against.recipe if answer.against else None,
            "reason": answer.reason,
        }
        lines.append(f"  {exhibit}/{row}/{column}: {json.dumps(entry, ensure_ascii=False)}")
    lines.append("claims:")
    for (exhibit, claim), answer in ledger.claims.items():
        if answer.status != NOT_ATTEMPTED:
            entry = {"status": answer.status, "reason": answer.reason}
            lines.append(f"  {exhibit}/{claim}: {json.dumps(entry, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def update(folder=LEDGER, ledger: Ledger | None = None) -> Path:
    """Write ``ours.yaml`` anew."""
    return write_atomically(Path(folder) / "ours.yaml", ours(ledger or read(folder)).encode())


def check(folder=LEDGER, ledger: Ledger | None = None) -> list[str]:
    """What disagrees between the typed ledger, the recorded results, the recipes, the claims and ``ours.yaml``.

    Returns:
        One line for each problem; nothing if all agree.
    """
    try:
        ledger = ledger or read(folder)
    except ValueError as error:
        return [str(error)]
    problems = [*ledger.records.problems, *ledger.problems]
    path = Path(folder) / "ours.yaml"
    if not path.exists():
        return [*problems, f"{path.name} is missing; make it by {UPDATE}"]
    import yaml

    stored, found = read_yaml(path) or {}, yaml.safe_load(ours(ledger))
    for part, entries in found.items():
        former, now = stored.get(part) or {}, entries or {}
        for place in sorted({*former, *now}):
            if former.get(place) != now.get(place):
                problems.append(
                    f"{path.name}: {part}: {place}: {_difference(former.get(place), now.get(place))}; see {UPDATE}"
                )
    return problems


def _difference(former, now) -> str:
    if former is None or now is None:
        return "is missing" if former is None else "rests on no result"
    for key in {**former, **now}:
        if former.get(key) != now.get(key):
            return f"{key} is {former.get(key)!r}, the results give {now.get(key)!r}"
    return "differs"


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")
