"""When a printed number counts as reproduced: the rule of the ledger, one cell at a time.

A cell is *reproduced* by a recipe with the paper's data, networks, objective and budget, if there are at least 3 seeds
that spread no more than the unit allows, and our mean lies within two combined standard deviations of the paper's.
Any other recipe can show the *direction* of the row's comparison at most.
"""

import math
from dataclasses import dataclass

from mmlib.book.ledger_entries import Cell, Unit

REPRODUCED, DIRECTION, INCONCLUSIVE, NOT_REPRODUCED, NOT_ATTEMPTED = STATUSES = (
    "reproduced",
    "direction only",
    "inconclusive",
    "not reproduced",
    "not attempted",
)
# What a claim that a chapter checks says of a figure, by the outcome that the list of claims expects.
BY_OUTCOME = {
    "pass": DIRECTION,
    "refuted": NOT_REPRODUCED,
    "not reached": NOT_REPRODUCED,
    "inconclusive": INCONCLUSIVE,
}
SEEDS = 3
WIDTH = 2.0  # standard deviations, or standard errors
RULE = {
    REPRODUCED: "a recipe with the paper's data, networks, objective and budget, at least 3 seeds whose standard "
    "deviation is no larger than the unit allows, and a mean within two combined standard deviations, "
    r"$|\bar x_\text{ours} - x_\text{paper}| \le 2 \sqrt{s_\text{paper}^2 + s_\text{ours}^2}$; a number printed "
    "without standard deviation counts with half its last digit",
    DIRECTION: "the row differs from the row it is compared with in the paper's direction, by at least 2 standard "
    "errors over at least 3 seeds each; other data or a smaller budget reach this at most. A figure: its claim passes",
    NOT_REPRODUCED: "outside that band, or in the opposite direction by at least 2 standard errors. A figure: its "
    "claim is refuted or not reached",
    INCONCLUSIVE: "results there are, but too few seeds, too large a spread, or too small a difference to tell. A "
    "figure: so is its claim",
    NOT_ATTEMPTED: "no recorded result",
}


@dataclass(frozen=True)
class Sample:
    """One metric of one recipe over seeds."""

    recipe: str  #: its name.
    n: int  #: number of seeds.
    mean: float  #: over seeds, in our unit.
    sd: float | None  #: standard deviation over seeds, with n - 1; None for one seed.
    faithful: bool = False  #: whether the recipe has the paper's data, networks, objective and budget.
    unconverged: int = 0  #: number of seeds that still moved at the end of training.


@dataclass(frozen=True)
class Answer:
    """What our results say of one printed cell."""

    status: str  #: one of ``STATUSES``.
    reason: str  #: why, in one line.
    sample: Sample | None = None  #: the results it rests on; None if there are none.
    against: Sample | None = None  #: the results of the row it was compared with, if it was.


def judge(
    paper: Cell, unit: Unit, ours: Sample | None, baseline: Cell | None, theirs: Sample | None
) -> Answer:
    """The status of one printed cell, in its unit, by our results for it, if there are any.

    ``baseline`` is the printed cell of the row that this one is compared with, in the same column, and ``theirs`` are
    our results for it, of the same family of recipes as ``ours``.
    """
    if ours is None:
        return Answer(NOT_ATTEMPTED, "no recorded result")
    status, reason = _value(paper, unit, ours) if ours.faithful else _direction(paper, ours, baseline, theirs)
    if ours.unconverged:
        reason += f"; {ours.unconverged} of {ours.n} runs still moved at the end"
    return Answer(status, reason, ours, None if ours.faithful else theirs)


def band(paper: Cell, unit: Unit, ours: Sample) -> float:
    """Largest distance of our mean from the printed one that counts as the same, in our unit."""
    sd = paper.half_digit if paper.sd is None else paper.sd
    return WIDTH * math.hypot(sd * unit.factor, ours.sd)


def _value(paper: Cell, unit: Unit, ours: Sample) -> tuple[str, str]:
    if ours.n < SEEDS:
        return INCONCLUSIVE, f"{_seeds(ours.n)} of at least {SEEDS}"
    if ours.sd > unit.limit:
        return INCONCLUSIVE, f"our standard deviation {ours.sd:.3g} is above {unit.limit:g}"
    distance, allowed = abs(ours.mean - paper.mean * unit.factor), band(paper, unit, ours)
    near = distance <= allowed
    return (
        REPRODUCED if near else NOT_REPRODUCED,
        f"{distance:.3g} apart, {'within' if near else 'outside'} the band of {allowed:.3g}",
    )


def _direction(paper: Cell, ours: Sample, baseline: Cell | None, theirs: Sample | None) -> tuple[str, str]:
    if baseline is None:
        return INCONCLUSIVE, "not the paper's setting, and the paper compares it with nothing"
    if theirs is None:
        return INCONCLUSIVE, "nothing of the same setting to compare with"
    if min(ours.n, theirs.n) < SEEDS:
        return INCONCLUSIVE, f"{_seeds(ours.n)} against {_seeds(theirs.n)}, of at least {SEEDS} each"
    printed, found = paper.mean - baseline.mean, ours.mean - theirs.mean
    error = math.sqrt(ours.sd**2 / ours.n + theirs.sd**2 / theirs.n)
    if printed == 0:
        return INCONCLUSIVE, "the paper prints the same number in both rows"
    text = f"{found:+.3g} ± {error:.2g} against {theirs.recipe}"
    if abs(found) < WIDTH * error or found == 0:
        return INCONCLUSIVE, f"{text}: too small a difference"
    if found * printed > 0:
        return DIRECTION, f"{text}: the paper's sign"
    return NOT_REPRODUCED, f"{text}: the opposite sign"


def _seeds(n: int) -> str:
    return f"{n} seed{'' if n == 1 else 's'}"
