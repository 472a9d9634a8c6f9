"""Claims of the papers, each checked in a chapter, with the outcome that is expected written down beforehand.

A claim passes, fails, or is *inconclusive*: measured over seeds, it is decided only where the whole interval lies on
one side of the threshold. One that fails is *refuted* if a proof or an exact computation says so, and *not reached* if
our data and budget do; which of the two, its row says.
"""

import math
import operator
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmlib.book import entries
from mmlib.checks import look_up
from mmlib.summary import Summary

CLAIMS = entries.DATA / "claims.yaml"
RELATIONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
FAILURES = ("refuted", "not reached")
OUTCOMES = ("pass", *FAILURES, "inconclusive")


class ClaimError(AssertionError):
    """The outcome of a claim check is not the one recorded in the list of claims."""


@dataclass(frozen=True)
class Claim:
    """One row of ``data/claims.yaml``."""

    id: str  #: unique, ``<chapter>-<what>``.
    claim: str  #: the claim in one sentence, without digits that were measured here.
    source: str  #: paper and place.
    relation: Literal[*RELATIONS]  #: ``>``, ``>=``, ``<`` or ``<=``: measured relation threshold.
    threshold: float  #: number, with the margin at which the claim counts as shown.
    expected: Literal[*OUTCOMES]  #: one of `OUTCOMES`.

    def outcome(self, measured: float | Summary) -> str:
        """One of `OUTCOMES`, or ``"failed"`` where the claim was not expected to fail.

        Raises:
            ValueError: if ``measured``, or an end of its interval, is not a finite number.
        """
        ends = [measured]
        if isinstance(measured, Summary):
            if measured.n == 1:
                return "inconclusive"
            ends = [measured.low, measured.high]
        if not all(math.isfinite(end) for end in ends):
            raise ValueError(f"measured is {measured!r}; expected a finite number for {self.id}")
        held = [RELATIONS[self.relation](end, self.threshold) for end in ends]
        if any(held):
            return "pass" if all(held) else "inconclusive"
        return self.expected if self.expected in FAILURES else "failed"


def load(path: Path | str = CLAIMS) -> dict[str, Claim]:
    """All claims by id.

    Raises:
        ValueError: if a row is not as a `Claim`; names file, row and field.
    """
    return entries.load(path, Claim)


def check(claim_id: str, measured: float | Summary, path: Path | str = CLAIMS) -> None:
    """Hold a measured number against a claim and print the verdict, the same text on every machine.

    Prints ``PASS  <claim> [<source>; n = <seeds>]``, or ``REFUTED``, ``NOT REACHED`` or ``INCONCLUSIVE`` in its place,
    without the number, in lines of 100 characters.

    Args:
        claim_id: id of a row of the list of claims.
        measured: the number that the claim is about, or what several seeds say of it; a comparison is checked through
            its difference.
        path: the list of claims.

    Raises:
        ValueError: if the id is unknown or ``measured`` is not finite.
        ClaimError: if the outcome is not the expected one; the message has the number.
    """
    claim = look_up("claim_id", claim_id, load(path), "data/claims.yaml")
    measured = measured if isinstance(measured, Summary) else float(measured)
    seeds = f"; n = {measured.n}" if isinstance(measured, Summary) else ""
    outcome = claim.outcome(measured)
    if outcome != claim.expected:
        found = f"{measured:.4g}" if not seeds else f"{measured.mean:.4g}, {measured.low} to {measured.high}"
        raise ClaimError(
            f"{claim_id}: {claim.claim}: expected {claim.expected}, got {outcome}: "
            f"measured {found}{seeds}, to be {claim.relation} {claim.threshold:g} ({claim.source})"
        )
    say(outcome.upper(), claim, seeds)


def say(outcome: str, claim: Claim, seeds: str = "") -> None:
    """Print what came of a claim, in lines of 100 characters."""
    text = f"{outcome}  {claim.claim} [{claim.source}{seeds}]"
    print(textwrap.fill(text, 100, subsequent_indent="      ", break_on_hyphens=False))
