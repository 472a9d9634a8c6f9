"""The ledger of printed results: what is listed, when a cell counts as reproduced, and what `check` notices."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mmlib.book import claims, errata, ledger, ledger_text
from mmlib.book.ledger_entries import METRIC, UNITS, Cell
from mmlib.book.ledger_rule import (
    BY_OUTCOME,
    DIRECTION,
    INCONCLUSIVE,
    NOT_ATTEMPTED,
    NOT_REPRODUCED,
    REPRODUCED,
    RULE,
    STATUSES,
    Sample,
    band,
    judge,
)
from mmlib.runs import results
from mmlib.runs.recipe import Recipe

# --- what the papers print: counted from the papers, apart from the ledger ----------------------------------

CELLS = {  # printed results, dashes
    "mmali-table-1": (6, 0), "mmali-table-2": (142, 12), "mmali-table-3": (6, 0), "mmali-table-4": (12, 0),
    "mmjsd-table-8": (14, 0), "mmjsd-table-9": (35, 0), "mmjsd-table-10": (50, 0), "mmjsd-table-11": (7, 0),
    "rbc-table-1": (114, 12), "rbc-table-2": (58, 12), "rbc-table-5": (24, 0), "rbc-table-6": (24, 0),
    "rbc-table-7": (12, 0),
    "meme-table-3": (64, 16), "meme-table-4": (64, 16), "meme-table-5": (68, 12), "meme-table-6": (64, 16),
    "meme-table-2": (6, 0), "meme-table-7": (2, 0),
}  # fmt: skip
LAYERS = {
    "mmjsd-table-1": 25, "mmjsd-table-2": 17, "mmjsd-table-3": 40, "mmjsd-table-5": 10, "mmjsd-table-6": 30,
    "mmjsd-table-7": 24, "mmjsd-table-13": 36, "mmjsd-table-14": 48, "rbc-table-3": 42, "rbc-table-4": 13,
    "meme-table-8": 42,
}  # fmt: skip
EXHIBITS = {"mmali": (4, 6), "mmjsd": (15, 7), "rbc": (7, 20), "meme": (8, 22)}  # tables, figures
KINDS = {"data": 41, "pictures": 24, "layers": 11, "scheme": 13}


@pytest.fixture(scope="module")
def real():
    return ledger.read()


def test_every_table_and_figure_is_listed_in_order(real):
    expected = [
        f"{paper}-{kind}-{number}"
        for paper, counts in EXHIBITS.items()
        for kind, count in zip(("table", "figure"), counts, strict=True)
        for number in range(1, count + 1)
    ]
    assert list(real.exhibits) == expected
    assert len(expected) == 89
    kinds = [exhibit.kind for exhibit in real.exhibits.values()]
    assert {kind: kinds.count(kind) for kind in KINDS} == KINDS


def test_every_table_has_the_printed_number_of_results(real):
    counted = {
        id: (len(exhibit.printed()), list(exhibit.table.values()).count("-"))
        for id, exhibit in real.exhibits.items()
        if exhibit.table
    }
    assert counted == CELLS
    assert sum(cells for cells, _ in CELLS.values()) == len(real.cells) == 772
    assert not any(cell == "lost" for exhibit in real.exhibits.values() for cell in exhibit.table.values())
    assert {id: e.layers for id, e in real.exhibits.items() if e.layers} == LAYERS


def test_copied_rows_are_copies(real):
    copied = {
        (id, row.id): row.copy_of
        for id, exhibit in real.exhibits.items()
        for row in exhibit.rows.values()
        if row.copy_of
    }
    assert {id for id, _ in copied} == {"mmali-table-2"} and set(copied.values()) == {"rbc-table-1"}
    copy, original = real.exhibits["mmali-table-2"], real.exhibits["rbc-table-1"]
    assert {row for _, row in copied} == set(original.rows)
    for row, column in original.table:
        assert copy.table[row, column] == original.table[row, column], (row, column)
        assert copy.rows[row].recipes == original.rows[row].recipes
    assert "114 printed results are copies" in ledger.census(real)


def test_an_entry_by_its_name(real):
    assert ledger.printed("rbc-table-1", "mmvae-100", "s-to-m", real) == "70.77 ± 0.35"
    assert ledger.printed("rbc-table-1", "mmvae-100", "synergy-svhn", real) == "-"
    for place in (("rbc-table-99", "a", "b"), ("rbc-table-1", "mmvae-100", "t-to-m")):
        with pytest.raises(ValueError, match=f"there is no entry {'/'.join(place)}"):
            ledger.printed(*place, real)


def test_ledger_and_results_agree(real):
    assert ledger.check(ledger=real) == []


def test_ledger_is_read_without_torch():
    code = "import sys; from mmlib.book import ledger; ledger.check(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the rule -----------------------------------------------------------------------------------------------

PERCENT = UNITS["percent"]
EDGE = 1e-9


def cell(text):
    return Cell.read(text)


def sample(mean, sd=0.01, n=3, faithful=True, unconverged=0, recipe="ours"):
    return Sample(recipe, n, mean, sd, faithful, unconverged)


@pytest.mark.parametrize(
    ("text", "mean", "sd", "half"),
    [
        ("90.41 ± 0.11", 90.41, 0.11, 0.005),
        ("−1884.7", -1884.7, None, 0.05),
        ("+0.002 ± .001", 0.002, 0.001, 0.0005),
        (".25", 0.25, None, 0.005),
        ("50", 50.0, None, 0.5),
        ("0.212 ± 2.94e-2", 0.212, 0.0294, 0.0005),
        ("1.5e-2", 0.015, None, 0.0005),
        ("15H 15MIN", 15.25, None, 0.5 / 60),
    ],
)
def test_printed_numbers(text, mean, sd, half):
    found = cell(text)
    assert (found.text, found.mean, found.sd) == (text, mean, sd)
    assert math.isclose(found.half_digit, half)


@pytest.mark.parametrize("text", ["", "1 ± 2 ± 3", "one", "1,5", "± 2", "--", "3 h", "nan"])
def test_what_is_no_printed_number(text):
    with pytest.raises(ValueError, match="is none of: a number, a number ± a number"):
        cell(text)


def test_band_is_two_combined_standard_deviations():
    ours = sample(0.9, sd=0.03)
    assert math.isclose(band(cell("90.00 ± 4.00"), PERCENT, ours), 0.1)  # 2 sqrt(0.04^2 + 0.03^2)
    assert math.isclose(band(cell("90.0"), PERCENT, sample(0.9, sd=0.0)), 2 * 0.0005)  # half the last digit
    assert math.isclose(band(cell("-1884.7 ± 3"), UNITS["nats"], sample(-1900.0, sd=4.0)), 10.0)


@pytest.mark.parametrize(
    ("ours", "status"),
    [
        (sample(0.9, sd=0.03), REPRODUCED),
        (sample(0.9, sd=0.03, n=2), INCONCLUSIVE),
        (sample(0.9, sd=None, n=1), INCONCLUSIVE),
        (sample(0.9, sd=0.03 + EDGE), INCONCLUSIVE),
        (sample(1.0 - EDGE, sd=0.03), REPRODUCED),
        (sample(1.0 + EDGE, sd=0.03), NOT_REPRODUCED),
        (sample(0.8 + EDGE, sd=0.03), REPRODUCED),
        (sample(0.8 - EDGE, sd=0.03), NOT_REPRODUCED),
        (sample(0.5, sd=0.031), INCONCLUSIVE),  # far off, but we cannot tell
        (sample(90.0, sd=0.01), NOT_REPRODUCED),  # a percentage where results hold fractions
    ],
)
def test_a_faithful_recipe_decides_by_the_band(ours, status):
    answer = judge(cell("90.00 ± 4.00"), PERCENT, ours, cell("50.00"), sample(0.5, faithful=False))
    assert answer.status == status
    assert answer.sample is ours and answer.against is None


def test_a_number_without_spread_counts_with_half_its_last_digit():
    for mean, status in ((0.9 + 0.00099, REPRODUCED), (0.9 + 0.00101, NOT_REPRODUCED)):
        assert judge(cell("90.0"), PERCENT, sample(mean, sd=0.0), None, None).status == status


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_has_its_own_limit_of_spread(unit):
    limit = UNITS[unit].limit
    printed = Cell("1", 1.0, 100.0, 0.5)
    for sd, status in ((limit, REPRODUCED), (limit * 1.001, INCONCLUSIVE)):
        assert judge(printed, UNITS[unit], sample(UNITS[unit].factor, sd), None, None).status == status
    assert UNITS[unit].reason


# Two means of three seeds with standard deviation 0.03 each: the standard error of their difference.
ERROR = math.sqrt(0.03**2 / 3 + 0.03**2 / 3)


@pytest.mark.parametrize(
    ("difference", "printed", "status"),
    [
        (2 * ERROR + EDGE, ("60", "50"), DIRECTION),
        (2 * ERROR - EDGE, ("60", "50"), INCONCLUSIVE),
        (-2 * ERROR - EDGE, ("60", "50"), NOT_REPRODUCED),
        (-2 * ERROR + EDGE, ("60", "50"), INCONCLUSIVE),
        (-2 * ERROR - EDGE, ("50", "60"), DIRECTION),
        (2 * ERROR + EDGE, ("50", "60"), NOT_REPRODUCED),
        (2 * ERROR + EDGE, ("50", "50"), INCONCLUSIVE),
        (0.0, ("60", "50"), INCONCLUSIVE),
    ],
)
def test_any_other_recipe_shows_the_direction_at_most(difference, printed, status):
    ours, theirs = (sample(0.5 + d, 0.03, faithful=False) for d in (difference, 0.0))
    answer = judge(cell(printed[0]), PERCENT, ours, cell(printed[1]), theirs)
    assert answer.status == status
    assert answer.against is theirs


def test_direction_needs_seeds_and_something_to_compare_with():
    far, near = sample(0.9, faithful=False), sample(0.1, faithful=False)
    few = [dataclasses.replace(far, n=2), dataclasses.replace(far, n=1, sd=None)]
    assert judge(cell("60"), PERCENT, far, cell("50"), near).status == DIRECTION
    for short in few:
        assert judge(cell("60"), PERCENT, short, cell("50"), near).status == INCONCLUSIVE
        assert judge(cell("60"), PERCENT, near, cell("50"), short).status == INCONCLUSIVE
    assert judge(cell("60"), PERCENT, far, cell("50"), None).status == INCONCLUSIVE
    assert judge(cell("60"), PERCENT, far, None, None).status == INCONCLUSIVE
    assert judge(cell("60"), PERCENT, None, cell("50"), near).status == NOT_ATTEMPTED


def test_runs_that_still_moved_are_told():
    answer = judge(cell("90"), PERCENT, sample(0.9, unconverged=2), None, None)
    assert answer.status == REPRODUCED and "2 of 3 runs still moved" in answer.reason
    assert "moved" not in judge(cell("90"), PERCENT, sample(0.9), None, None).reason


means, spreads, seeds = st.floats(0, 1), st.floats(0, 0.1), st.integers(1, 6)
samples = st.builds(
    lambda mean, sd, n, faithful: Sample("x", n, mean, sd if n > 1 else None, faithful),
    means, spreads, seeds, st.booleans(),
)  # fmt: skip


@given(st.floats(1, 99), st.floats(1, 99), samples, samples)
def test_the_rule_whatever_the_numbers(printed, baseline, ours, theirs):
    paper, other = Cell("", printed, None, 0.5), Cell("", baseline, None, 0.5)
    answer = judge(paper, PERCENT, ours, other, theirs)
    assert answer.status in STATUSES and answer.status in RULE and answer.reason
    if not ours.faithful:
        assert answer.status != REPRODUCED
        swapped = judge(other, PERCENT, dataclasses.replace(theirs, faithful=False), paper, ours)
        assert swapped.status == answer.status  # A above B, or B below A: one comparison
    elif answer.status == REPRODUCED:
        assert (
            ours.n >= 3 and ours.sd <= 0.03 and abs(ours.mean - printed / 100) <= band(paper, PERCENT, ours)
        )
        wider = dataclasses.replace(paper, sd=5.0)
        assert judge(wider, PERCENT, ours, other, theirs).status == REPRODUCED
    more = judge(paper, PERCENT, dataclasses.replace(ours, n=ours.n + 10, sd=0.0), other, theirs)
    assert ours.faithful is False or more.status in (REPRODUCED, NOT_REPRODUCED)


# --- a small ledger of its own ------------------------------------------------------------------------------

TYPED = """
paper: rbc
title: a paper
citation: Nobody 2021
exhibits:
  - id: rbc-table-1
    source: Table 1
    title: two methods
    kind: data
    place: Contrast and supervision
    data: mnist-svhn
    cells: 3
    dashes: 1
    unit: percent
    spread: over 5 runs
    columns:
      joint: {heading: Joint, metric: test/joint_coherence}
      m-to-s: {heading: "M to S", metric: {"mm*": test/cross_coherence/mnist/svhn}}
    rows:
      mmvae: {heading: MMVAE, model: mmvae, recipes: {"m-*": [], "*": [exact-mmvae, small-mmvae]}, against: mvae}
      mvae: {heading: MVAE, model: mvae, recipes: [exact-mvae, other-mvae, small-mvae], against: null}
    table: |
      row   | joint        | m-to-s
      mmvae | 60.00 ± 1.00 | 55.0
      mvae  | 40.00 ± 2.00 | -
    suspects:
      - {cells: ["*/m-to-s"], errata: rbc-6, note: swapped}
  - id: rbc-figure-1
    source: Figure 1
    title: a curve
    kind: data
    place: Contrast and supervision
    data: mnist-svhn
    claims:
      - {id: rises, claim: it rises, model: mmvae, recipes: [], check: %s}
      - {id: falls, claim: it falls, model: mmvae, recipes: [], check: null}
  - id: rbc-figure-2
    source: Figure 2
    title: a picture
    kind: pictures
    place: Contrast and supervision
    data: mnist-svhn
    illustration: true
    shows: pictures
"""
CLAIMS = """
- {id: chapter-rise, claim: it rises, source: Nobody 2021, relation: ">", threshold: 0, expected: pass}
"""


def recipe(name, **changes):
    values = {"model": name.split("-")[1], "dataset": "mnist-svhn", "source": "a test", "steps": 8}
    return Recipe(name=name, **{**values, **changes})


SUBSET = {"data_options": {"svhn": "subset"}}
RECIPES = {
    made.name: made
    for made in (
        recipe("exact-mmvae", faithful=True),
        recipe("exact-mvae", faithful=True),
        recipe("small-mmvae", **SUBSET),
        recipe("small-mvae", **SUBSET),
        recipe("other-mvae", dataset="hand-street"),
    )
}


class Folder:
    """A ledger, results and claims in a folder of their own."""

    def __init__(self, path):
        self.typed, self.results, self.claims = path / "ledger", path / "results", path / "claims.yaml"
        self.typed.mkdir()
        self.type(TYPED % "chapter-rise")
        self.claims.write_text(CLAIMS)
        self.recipes = RECIPES

    def type(self, text):
        (self.typed / "rbc.yaml").write_text(text)

    def record(self, name, *numbers, made=None, converged=True):
        for seed, number in enumerate(numbers):
            path = self.results / name / f"seed-{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            result = {
                "recipe": (made or RECIPES[name]).as_dict(),
                "seed": seed,
                "metrics": {"test": {"joint_coherence": {"value": number, "se": 0.01}}},
                "convergence": {"converged": converged},
            }
            path.write_text(json.dumps(results.seal(result)))

    def read(self):
        return ledger.read(self.typed, self.results, self.recipes, self.claims)

    def update(self):
        ledger.update(self.typed, self.read())

    def check(self):
        return ledger.check(self.typed, self.read())

    def joint(self, row="mmvae"):
        return self.read().cells["rbc-table-1", row, "joint"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setattr(errata, "load", lambda: {"rbc-6"})
    return Folder(tmp_path)


def test_nothing_recorded_is_nothing_attempted(small):
    found = small.read()
    assert {answer.status for answer in found.cells.values()} == {NOT_ATTEMPTED}
    assert list(found.cells) == [
        ("rbc-table-1", "mmvae", "joint"),
        ("rbc-table-1", "mmvae", "m-to-s"),
        ("rbc-table-1", "mvae", "joint"),
    ]
    assert found.claims["rbc-figure-1", "rises"].status == DIRECTION
    assert found.claims["rbc-figure-1", "falls"].status == NOT_ATTEMPTED


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        ("pass", DIRECTION),
        ("refuted", NOT_REPRODUCED),
        ("not reached", NOT_REPRODUCED),
        ("inconclusive", INCONCLUSIVE),
    ],
)
def test_a_figure_stands_as_the_claim_that_checks_it(small, expected, status):
    small.claims.write_text(CLAIMS.replace("expected: pass", f"expected: {expected}"))
    assert small.read().claims["rbc-figure-1", "rises"].status == status


def test_every_outcome_of_a_claim_has_a_status():
    assert set(BY_OUTCOME) == set(claims.OUTCOMES)


def test_a_faithful_recipe_that_has_results_decides(small):
    small.record("small-mmvae", 0.7, 0.71, 0.72)
    small.record("small-mvae", 0.1, 0.11, 0.12, converged=False)
    assert (small.joint().status, small.joint().sample.recipe) == (DIRECTION, "small-mmvae")
    assert small.joint().against.recipe == "small-mvae"
    assert math.isclose(small.joint().sample.mean, 0.71) and math.isclose(small.joint().sample.sd, 0.01)
    assert small.joint("mvae").status == INCONCLUSIVE  # compared with nothing
    assert "3 of 3 runs still moved" in small.joint("mvae").reason
    small.record("exact-mmvae", 0.1, 0.11, 0.12)
    assert (small.joint().status, small.joint().sample.recipe) == (NOT_REPRODUCED, "exact-mmvae")
    small.record("exact-mmvae", 0.59, 0.6, 0.61)
    assert small.joint().status == REPRODUCED


def test_only_results_of_one_family_are_compared(small):
    small.record("small-mmvae", 0.7, 0.71, 0.72)
    small.record("other-mvae", 0.1, 0.11, 0.12)
    small.record("exact-mvae", 0.1, 0.11, 0.12)
    assert small.joint().status == INCONCLUSIVE and small.joint().against is None
    small.record("small-mvae", 0.1, 0.11, 0.12)
    assert small.joint().status == DIRECTION


def test_a_metric_may_be_that_of_a_subset():
    for right in (
        "subset_coherence/svhn,text/mnist",
        "latent_accuracy/mnist,svhn/mean",
        "latent_accuracy/all/mean",
    ):
        assert METRIC.fullmatch(f"test/{right}")
    for wrong in ("subset_coherence/svhn/mnist", "subset_coherence/svhn,/mnist", "latent_accuracy/,/mean"):
        assert not METRIC.fullmatch(f"test/{wrong}")


def test_columns_may_have_recipes_and_rows_metrics_of_their_own(small):
    table = small.read().exhibits["rbc-table-1"]
    assert table.rows["mmvae"].recipes_for("m-to-s") == ()
    assert table.rows["mmvae"].recipes_for("joint") == ("exact-mmvae", "small-mmvae")
    assert table.columns["m-to-s"].metric_for("mmvae") == ("test/cross_coherence/mnist/svhn",)
    assert table.columns["m-to-s"].metric_for("mvae") == ()
    assert [s.errata for s in table.suspicions("mmvae", "m-to-s")] == ["rbc-6"]
    assert table.suspicions("mmvae", "joint") == []


def test_a_column_may_go_by_several_names_and_each_result_has_one(small):
    first = "metric: test/joint_coherence"
    small.type(
        TYPED.replace(first, f"{first[:8]}[test/joint_coherence, test/joint_accuracy]") % "chapter-rise"
    )
    small.record("small-mmvae", 0.7, 0.71, 0.72)
    small.record("small-mvae", 0.1, 0.11, 0.12)
    assert small.joint().status == DIRECTION and small.joint().sample.n == 3
    small.type(TYPED.replace(first, f"{first[:8]}[test/joint_coherence, joint]") % "chapter-rise")
    with pytest.raises(ValueError, match="columns: joint: metric is 'joint'"):
        small.read()


def test_coverage_adds_up(small):
    small.record("small-mmvae", 0.7, 0.71, 0.72)
    found = ledger.coverage(small.read())
    assert found == {
        "printed results": [
            ["printed results", *STATUSES, "all"],
            ["Nobody 2021", 0, 0, 1, 0, 2, 3],
            ["together", 0, 0, 1, 0, 2, 3],
        ],
        "claims of figures": [
            ["claims of figures", *STATUSES, "all"],
            ["Nobody 2021", 0, 1, 0, 0, 1, 2],
            ["together", 0, 1, 0, 0, 1, 2],
        ],
    }
    counted = ledger.census(small.read())
    for part in (
        "1 tables and 2 figures; 1 of them are illustrations",
        "0 printed results are",
        "1 are flagged",
    ):
        assert part in counted
    text = ledger_text.coverage(small.read())
    rows = [line for line in text.splitlines() if line.startswith(("Nobody 2021", "together"))]
    assert [row.split()[-6:] for row in rows] == [
        [*map(str, row[1:])] for t in found.values() for row in t[1:]
    ]
    assert counted in " ".join(text.split())


def test_coverage_of_the_papers_adds_up(real):
    _, *rows = ledger.coverage(real)["printed results"]
    assert rows[-1][-1] == 772
    for paper, row in zip(EXHIBITS, rows[:-1], strict=True):
        statuses = [answer.status for (id, *_), answer in real.cells.items() if id.startswith(paper)]
        assert row[1:] == [*map(statuses.count, STATUSES), len(statuses)]
        assert [f"{paper}-figure-" in id for id in real.papers[paper].exhibits].count(True) == EXHIBITS[
            paper
        ][1]
    shown = [id for id, exhibit in real.exhibits.items() if exhibit.illustration]
    assert not {id for id, *_ in (*real.cells, *real.claims)} & set(shown)
    tables, figures = (sum(counts) for counts in zip(*EXHIBITS.values(), strict=True))
    assert f"{tables} tables and {figures} figures; {len(shown)} of them" in ledger.census(real)


# --- what check notices -------------------------------------------------------------------------------------


@pytest.fixture
def settled(small):
    small.record("small-mmvae", 0.7, 0.71, 0.72)
    small.record("small-mvae", 0.1, 0.11, 0.12)
    small.update()
    assert small.check() == []
    return small


def test_ours_is_written_as_the_results_are(settled):
    stored = yaml.safe_load((settled.typed / "ours.yaml").read_text())
    assert set(stored["results"]) == {"small-mmvae", "small-mvae"}
    path = settled.results / "small-mvae" / "seed-2.json"
    assert stored["results"]["small-mvae"][2] == json.loads(path.read_text())["sha256"]
    entry = stored["cells"]["rbc-table-1/mmvae/joint"]
    assert (
        entry["status"] == DIRECTION and entry["recipe"] == "small-mmvae" and entry["against"] == "small-mvae"
    )
    assert (entry["n"], entry["mean"], entry["sd"], entry["unconverged"]) == (3, 0.71, 0.01, 0)
    assert set(stored["cells"]) == {"rbc-table-1/mmvae/joint", "rbc-table-1/mvae/joint"}
    assert stored["claims"]["rbc-figure-1/rises"]["status"] == DIRECTION


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "mean: 0.71",
            "mean: 0.72",
            "cells: rbc-table-1/mmvae/joint: mean is 0.72, the results give 0.71",
        ),
        (f"{DIRECTION}, recipe", f"{REPRODUCED}, recipe", "status is 'reproduced'"),
        ("  rbc-table-1/mvae/joint", "  rbc-table-1/mvae/m-to-s", "rests on no result"),
        (", 2: ", ", 3: ", "results: small-mmvae"),
        ("claims:", "nothing:", "claims: rbc-figure-1/rises: is missing"),
    ],
)
def test_check_notices_an_edit_of_ours(settled, old, new, message):
    path = settled.typed / "ours.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert any(message in problem for problem in settled.check()), settled.check()


def test_check_notices_a_result_that_was_edited(settled):
    path = settled.results / "small-mmvae" / "seed-1.json"
    path.write_text(path.read_text().replace('"value": 0.71', '"value": 0.81'))
    problems = settled.check()
    assert any("seed-1.json was changed after it was written" in problem for problem in problems)
    assert any("rbc-table-1/mmvae/joint" in problem for problem in problems)


def test_check_notices_a_new_result(settled):
    settled.record("small-mmvae", 0.7, 0.71, 0.72, 0.73)
    problems = settled.check()
    assert any("results: small-mmvae" in problem for problem in problems)
    assert any("rbc-table-1/mmvae/joint: n is 3, the results give 4" in problem for problem in problems)
    settled.update()
    assert settled.check() == []


def test_check_notices_a_result_of_the_same_mean_by_its_seal(settled):
    settled.record("small-mvae", 0.12, 0.11, 0.1)
    assert ["results: small-mvae" in problem for problem in settled.check()] == [True]


def test_check_notices_a_changed_printed_digit(settled):
    settled.type((TYPED % "chapter-rise").replace("60.00 ± 1.00", "30.00 ± 1.00"))
    assert any("status is 'direction only'" in problem for problem in settled.check())


def test_check_notices_results_of_no_recipe_and_of_a_former_recipe(settled):
    settled.record("small-mopoe", 0.5, made=recipe("small-mopoe"))
    assert settled.check() == ["small-mopoe: has recorded results, but there is no recipe of that name"]
    (settled.results / "small-mopoe" / "seed-0.json").unlink()
    settled.recipes = {**RECIPES, "small-mmvae": dataclasses.replace(RECIPES["small-mmvae"], steps=16)}
    problems = settled.check()
    assert sum("made with a former recipe of that name" in problem for problem in problems) == 3
    assert settled.joint().status == NOT_ATTEMPTED


def test_check_notices_a_dangling_claim_and_a_missing_file(settled):
    settled.type(TYPED % "chapter-fall")
    assert any("check is 'chapter-fall'; there is no such claim" in problem for problem in settled.check())
    (settled.typed / "ours.yaml").unlink()
    assert any("ours.yaml is missing" in problem for problem in settled.check())


def test_check_tells_what_is_wrong_with_a_file(settled, monkeypatch):
    settled.type((TYPED % "chapter-rise").replace("cells: 3", "cells: 4"))
    (problem,) = ledger.check(settled.typed)
    assert problem.startswith("rbc.yaml: exhibits: rbc-table-1: cells is 4")


# --- files that are not as they should be -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("paper: rbc", "paper: meme", "expected meme-table-<n>"),
        ("id: rbc-table-1", "id: table-1", "id is 'table-1'"),
        ("    unit: percent\n", "", "unit is missing"),
        ("cells: 3", "cells: 4", "cells is 4; the table has 3"),
        ("dashes: 1", "dashes: 0", "dashes is 0; the table has 1"),
        ("metric: test/joint_coherence", "metric: joint", "columns: joint: metric is 'joint'"),
        ('"mm*": test/cross_coherence/mnist/svhn', '"mm*": test/cross', "columns: m-to-s: metric is 'test/cross'"),
        ("against: mvae", "against: vae", "row mmvae: against is 'vae'"),
        ("against: mvae", "against: mmvae", "row mmvae: against is 'mmvae'"),
        ("small-mvae]", "tiny-mvae]", "recipes has 'tiny-mvae'"),
        ("against: null}", "against: null, copy_of: rbc-table-9}", "row mvae: copy_of is 'rbc-table-9'"),
        ("row   | joint        | m-to-s", "row   | m-to-s       | joint", "the table has ['m-to-s', 'joint']"),
        ("mvae  | 40.00", "jmvae | 40.00", "rows is ['mmvae', 'mvae']; the table has ['mmvae', 'jmvae']"),
        ("| 55.0\n", "\n", "row mmvae has 1 cells; expected 2"),
        ("60.00 ± 1.00", "60.00 ± about 1", "table: mmvae/joint: '60.00 ± about 1' is none of"),
        ("errata: rbc-6", "errata: rbc-66", "errata is 'rbc-66'"),
        ('["*/m-to-s"]', '["*/s-to-m"]', "'*/s-to-m' fits no cell"),
        ("claims:", "illustration: true\n    claims:", "illustration is True; expected it instead of"),
        ("illustration: true", "illustration: false", "illustration is False; expected it instead of"),
        ("shows: pictures", "code: mmlib.nets.none", "code is 'mmlib.nets.none'"),
    ],
)  # fmt: skip
def test_a_file_with_a_mistake_is_refused(small, old, new, message):
    text = TYPED % "chapter-rise"
    assert old in text
    small.type(text.replace(old, new, 1))
    with pytest.raises(ValueError) as caught:
        small.read()
    assert str(caught.value).startswith("rbc.yaml") and message in str(caught.value)


def test_a_file_of_another_paper_is_refused(small):
    (small.typed / "meme.yaml").write_text(TYPED % "chapter-rise")
    with pytest.raises(ValueError, match=r"^meme.yaml: paper is 'rbc'; expected 'meme'"):
        small.read()


# --- as text ------------------------------------------------------------------------------------------------


def printed(read, id, style="text"):
    return ledger_text.table(read.exhibit(id), read, style)


def test_table_for_a_terminal(settled):
    settled.record("small-mvae", 0.1, 0.11, 0.12, converged=False)
    assert printed(settled.read(), "rbc-table-1") == (
        "rbc-table-1: Table 1. two methods\n"
        "\n"
        "percent    Joint           M to S\n"
        "---------  --------------  --------\n"
        "MMVAE      60.00 ± 1.00    55.0 !\n"
        "  ours     71.00 ± 1.00 >\n"
        "MVAE       40.00 ± 2.00    -\n"
        "  ours     11.00 ± 1.00 ?\n"
        "\n"
        "- marks of ours: > direction only, ? inconclusive\n"
        "- ours: small-mmvae (3 seeds), small-mvae (3 seeds); ± is the standard deviation over seeds\n"
        "- ± of the paper: over 5 runs\n"
        "- ! */m-to-s: swapped (erratum rbc-6)\n"
    )


def test_table_as_markdown(settled):
    text = printed(settled.read(), "rbc-table-1", "markdown")
    assert text.splitlines()[2:8] == [
        "| percent | Joint | M to S |",
        "| :-- | :-- | :-- |",
        "| MMVAE | 60.00 ± 1.00 | 55.0 ! |",
        "| *ours* | 71.00 ± 1.00 > |  |",
        "| MVAE | 40.00 ± 2.00 | - |",
        "| *ours* | 11.00 ± 1.00 ? |  |",
    ]
    assert "- ! `*/m-to-s`: swapped (erratum rbc-6)" in text


def test_figures_and_illustrations_as_text(small):
    text = printed(small.read(), "rbc-figure-1")
    assert "- it rises: direction only (checked in a chapter: chapter-rise)" in text
    assert "- it falls: not attempted (no check)" in text
    assert "- listed, not counted: pictures" in printed(small.read(), "rbc-figure-2")


def test_every_table_can_be_printed(real):
    for id in real.exhibits:
        for style in ledger_text.STYLES:
            text = printed(real, id, style)
            assert id in text
            assert style == "markdown" or max(map(len, text.splitlines()[2:])) <= 120, id
    with pytest.raises(ValueError, match="table is 'rbc-table-99'; expected one of 89 names .* rbc-table-7"):
        printed(real, "rbc-table-99")
    with pytest.raises(ValueError, match="style is 'html'; expected one of text, markdown"):
        printed(real, "rbc-table-1", "html")
