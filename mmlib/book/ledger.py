"""The ledger: every printed result of the papers beside ours, with its status by a stated rule.

The printed numbers are typed (``data/ledger/<paper>.yaml``); ours are computed from the recorded results and kept in
``data/ledger/ours.yaml``, so that a result that changes does not go unseen.
"""

import statistics
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from mmlib.book import claims as list_of_claims
from mmlib.book.entries import fit
from mmlib.book.ledger_entries import UNITS, Cell, Exhibit, Paper, Row
from mmlib.book.ledger_read import LEDGER, load
from mmlib.book.ledger_rule import BY_OUTCOME, NOT_ATTEMPTED, STATUSES, Answer, Sample, judge
from mmlib.checks import look_up
from mmlib.files import read_yaml, write_atomically
from mmlib.runs import results

UPDATE = "python -m mmlib ledger --update"


@dataclass(frozen=True)
class Records:
    """The recorded results of the recipes, as the ledger reads them."""

    recipes: dict  #: every recipe, by name.
    found: dict[str, dict[int, dict]]  #: for each recipe its results by seed, their metrics by path.
    problems: tuple[str, ...]  #: what is wrong with the files; such files are left out.

    @classmethod
    def read(cls, recipes: dict, root: Path | str) -> "Records":
        """All results below a folder."""
        found, problems = {}, []
        for name in results.recorded(root):
            if name not in recipes:
                problems.append(f"{name}: has recorded results, but there is no recipe of that name")
                continue
            try:
                loaded = results.load(name, root)
            except results.ResultError as error:
                problems.append(str(error))
                continue
            for result in loaded:
                made, now = result["recipe"]["hash"], recipes[name].hash
                if made == now:
                    metrics = dict(results.flatten(result["metrics"]))
                    found.setdefault(name, {})[result["seed"]] = {**result, "metrics": metrics}
                else:
                    problems.append(
                        f"{name}: the result of seed {result['seed']} was made with a former recipe of that name "
                        f"({made}; the recipe is now {now})"
                    )
        return cls(recipes, found, tuple(problems))

    def sample(self, name: str, metrics: tuple[str, ...]) -> Sample | None:
        """What a recipe's seeds say of a metric, of whose paths a result has one; None if nothing is recorded."""
        runs = self.found.get(name, {}).values()
        numbers = [run["metrics"][path] for run in runs for path in metrics if path in run["metrics"]]
        if not numbers:
            return None
        sd = statistics.stdev(numbers) if len(numbers) > 1 else None
        unconverged = sum(not run["convergence"]["converged"] for run in runs)
        faithful = self.recipes[name].faithful
        return Sample(name, len(numbers), statistics.fmean(numbers), sd, faithful, unconverged)

    def answer(self, exhibit: Exhibit, row: Row, column: str) -> Answer:
        """What the results say of one printed cell."""
        ours = self._best(exhibit, row, column)
        baseline, theirs = exhibit.printed().get((row.against, column)), None
        if ours is not None and baseline is not None:
            theirs = self._best(exhibit, exhibit.rows[row.against], column, self._family(ours.recipe))
        unit = UNITS[exhibit.unit_of(row.id, column)]
        return judge(exhibit.table[row.id, column], unit, ours, baseline, theirs)

    def _best(self, exhibit: Exhibit, row: Row, column: str, family=None) -> Sample | None:
        metrics = exhibit.columns[column].metric_for(row.id)
        names = [name for name in row.recipes_for(column) if family is None or self._family(name) == family]
        found = [sample for name in names if (sample := self.sample(name, metrics)) is not None]
        return next((sample for sample in found if sample.faithful), found[0] if found else None)

    def _family(self, name: str) -> tuple:
        """What two recipes must have in common for their results to be compared."""
        return self.recipes[name].dataset, self.recipes[name].data_options


@dataclass(frozen=True)
class Ledger:
    """The printed numbers, and what our results say of each."""

    papers: dict[str, Paper]  #: by key.
    #: by exhibit, row and column, every cell in which a number is printed.
    cells: dict[tuple[str, str, str], Answer]
    claims: dict[tuple[str, str], Answer]  #: by exhibit and claim, what the figures show.
    records: Records  #: the results that it rests on.
    problems: tuple[str, ...]  #: what is wrong with the results, and ids of claims that are in no list.

    @property
    def exhibits(self) -> dict[str, Exhibit]:
        """Every table and figure, by id."""
        return {id: exhibit for paper in self.papers.values() for id, exhibit in paper.exhibits.items()}

    def exhibit(self, id: str) -> Exhibit:
        """One table or figure, such as ``rbc-table-1``; ValueError if there is none of that id."""
        return look_up("table", id, self.exhibits, "python -m mmlib table")


def read(
    folder=LEDGER, root=results.RESULTS, recipes: dict | None = None, claims=list_of_claims.CLAIMS
) -> Ledger:
    """The ledger as typed numbers, recorded results and claims give it now, ``recipes`` by name or the library's.

    Raises:
        ValueError: if a file of the ledger is not as it should be.
    """
    if recipes is None:
        from mmlib.runs.recipes import RECIPES as recipes
    papers = load(folder, recipes)
    records = Records.read(recipes, root)
    known = list_of_claims.load(claims)
    cells, answers, problems = {}, {}, [*records.problems]
    for exhibit in (exhibit for paper in papers.values() for exhibit in paper.exhibits.values()):
        for row, column in exhibit.printed():
            cells[exhibit.id, row, column] = records.answer(exhibit, exhibit.rows[row], column)
        for claim in exhibit.claims.values():
            answer = Answer(NOT_ATTEMPTED, "no check")
            if claim.check in known:
                status = BY_OUTCOME[known[claim.check].expected]
                answer = Answer(status, f"checked in a chapter: {claim.check}")
            elif claim.check is not None:
                problems.append(f"{exhibit.id}: {claim.id}: check is {claim.check!r}; there is no such claim")
            answers[exhibit.id, claim.id] = answer
    return Ledger(papers, cells, answers, records, tuple(problems))


def coverage(ledger: Ledger) -> dict[str, list[list]]:
    """How many printed results, and how many claims of figures, have each status: by paper, and together.

    By what is counted, it is the rows of a table, the heading first.
    """
    tables = {}
    for what, answers in (("printed results", ledger.cells), ("claims of figures", ledger.claims)):
        counts = Counter((id.split("-")[0], answer.status) for (id, *_), answer in answers.items())
        rows = [[*(counts[key, status] for status in STATUSES)] for key in ledger.papers]
        rows.append([sum(column) for column in zip(*rows, strict=True)])
        names = [*(paper.citation for paper in ledger.papers.values()), "together"]
        body = ([name, *row, sum(row)] for name, row in zip(names, rows, strict=True))
        tables[what] = [[what, *STATUSES, "all"], *body]
    return tables


def census(ledger: Ledger) -> str:
    """What else there is to count in the ledger, in two sentences."""
    exhibits = ledger.exhibits.values()
    cells = [(exhibit, *place) for exhibit in exhibits for place in exhibit.printed()]
    figures = sum("-figure-" in exhibit.id for exhibit in exhibits)
    shown = sum(exhibit.illustration for exhibit in exhibits)
    copies = sum(exhibit.rows[row].copy_of is not None for exhibit, row, _ in cells)
    flagged = sum(bool(exhibit.suspicions(row, column)) for exhibit, row, column in cells)
    return (
        f"{len(exhibits) - figures} tables and {figures} figures; {shown} of them are illustrations or lists of "
        f"layers, listed but not counted. {copies} printed results are copies from another of the papers; "
        f"{flagged} are flagged as suspect, and stay as printed."
    )


def answers(exhibit: Exhibit, ledger: Ledger) -> list[dict]:
    """Printed results and claims of a table or figure with what ours say of each, JSON-able."""
    cells = [
        {"row": row, "column": column, "printed": cell.text, **asdict(ledger.cells[exhibit.id, row, column])}
        for (row, column), cell in exhibit.printed().items()
    ]
    claims = exhibit.claims.values()
    return cells + [{"claim": c.claim, **asdict(ledger.claims[exhibit.id, c.id])} for c in claims]


def printed(exhibit_id: str, row: str, column: str, ledger: Ledger) -> str:
    """One entry of a paper's table, as printed: ``printed("rbc-table-1", "mmvae-100", "s-to-m", read())``.

    Raises:
        ValueError: if there is no such table, row or column.
    """
    exhibit = ledger.exhibits.get(exhibit_id)
    cell = exhibit and exhibit.table.get((row, column))
    if cell is None:
        place = f"{exhibit_id}/{row}/{column}"
        raise ValueError(f"there is no entry {place}; see python -m mmlib table {exhibit_id}")
    return cell.text if isinstance(cell, Cell) else cell


def ours(ledger: Ledger) -> dict[str, dict]:
    """What ``ours.yaml`` holds: every answer that rests on something, and the seals of the results it rests on."""
    answers = {place: answer for place, answer in ledger.cells.items() if answer.sample is not None}
    used = {s.recipe for answer in answers.values() for s in (answer.sample, answer.against) if s is not None}
    found = ledger.records.found
    seals = {name: {seed: run["sha256"] for seed, run in found[name].items()} for name in sorted(used)}
    cells = {
        "/".join(place): {
            "status": answer.status,
            "recipe": answer.sample.recipe,
            "n": answer.sample.n,
            "mean": _rounded(answer.sample.mean),
            "sd": _rounded(answer.sample.sd),
            "unconverged": answer.sample.unconverged,
            "against": answer.against.recipe if answer.against else None,
            "reason": answer.reason,
        }
        for place, answer in answers.items()
    }
    claims = {
        "/".join(place): {"status": answer.status, "reason": answer.reason}
        for place, answer in ledger.claims.items()
        if answer.status != NOT_ATTEMPTED
    }
    return {"results": seals, "cells": cells, "claims": claims}


def update(folder=LEDGER, ledger: Ledger | None = None) -> Path:
    """Write ``ours.yaml`` anew."""
    import yaml

    text = yaml.safe_dump(
        ours(ledger or read(folder)), default_flow_style=None, width=1000, sort_keys=False, allow_unicode=True
    )
    head = f"# Computed by `{UPDATE}` from data/results; never edited.\n"
    return write_atomically(Path(folder) / "ours.yaml", f"{head}{text}".encode())


def check(folder=LEDGER, ledger: Ledger | None = None) -> list[str]:
    """A line for whatever disagrees: typed numbers, recorded results, recipes, claims and ``ours.yaml``."""
    path = Path(folder) / "ours.yaml"
    try:
        ledger = ledger or read(folder)
        problems = [*ledger.problems]
        if not path.exists():
            return [*problems, f"{path.name} is missing; make it by {UPDATE}"]
        stored = fit(read_yaml(path), dict[str, dict], path.name)
    except ValueError as error:
        return [str(error)]
    for part, now in ours(ledger).items():
        former = stored.get(part, {})
        problems += [
            f"{path.name}: {part}: {place}: {_difference(former.get(place), now.get(place))}; see {UPDATE}"
            for place in sorted({*former, *now}, key=str)
            if former.get(place) != now.get(place)
        ]
    return problems


def _difference(former, now) -> str:
    if former is None or now is None:
        return "is missing" if former is None else "rests on no result"
    if not isinstance(former, dict):
        return f"is {former!r}"
    key = next(key for key in {**former, **now} if former.get(key) != now.get(key))
    return f"{key} is {former.get(key)!r}, the results give {now.get(key)!r}"


def _rounded(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.6g}")
