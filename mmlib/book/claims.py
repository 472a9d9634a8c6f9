"""Claims of the papers, each checked in a chapter, with the outcome that is expected written down beforehand."""

import operator
from dataclasses import dataclass
from pathlib import Path

CLAIMS = Path(__file__).resolve().parents[2] / "data" / "claims.yaml"
RELATIONS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
OUTCOMES = ("pass", "not reproduced")


class ClaimError(AssertionError):
    """The outcome of a claim check is not the one recorded in the list of claims."""


@dataclass(frozen=True)
class Claim:
    """One row of ``data/claims.yaml``.

    Attributes:
        id: unique, ``<chapter>-<what>``.
        claim: the claim in one sentence, without digits that were measured here.
        source: paper and place.
        relation: ``>``, ``>=``, ``<`` or ``<=``: measured relation threshold.
        threshold: number, with the margin at which the claim counts as shown.
        expected: ``"pass"`` or ``"not reproduced"``.
    """

    id: str
    claim: str
    source: str
    relation: str
    threshold: float
    expected: str


def load(path: Path | str = CLAIMS) -> dict[str, Claim]:
    """All claims by id.

    Raises:
        ValueError: if a row lacks a field or has an unknown one, relation or outcome, or an id occurs twice.
    """
    import yaml

    claims: dict[str, Claim] = {}
    for row in yaml.safe_load(Path(path).read_text()) or []:
        expected = set(Claim.__dataclass_fields__)
        if not isinstance(row, dict) or set(row) != expected:
            raise ValueError(f"a claim has fields {sorted(row)}; expected {sorted(expected)}")
        claim = Claim(**row)
        if claim.relation not in RELATIONS:
            raise ValueError(
                f"{claim.id}: relation is {claim.relation!r}; expected one of {', '.join(RELATIONS)}"
            )
        if claim.expected not in OUTCOMES:
            raise ValueError(
                f"{claim.id}: expected is {claim.expected!r}; expected one of {', '.join(OUTCOMES)}"
            )
        if isinstance(claim.threshold, bool) or not isinstance(claim.threshold, int | float):
            raise ValueError(f"{claim.id}: threshold is {claim.threshold!r}; expected a number")
        if claim.id in claims:
            raise ValueError(f"{claim.id} occurs twice; expected every id once")
        claims[claim.id] = claim
    return claims


def check(claim_id: str, measured: float, path: Path | str = CLAIMS) -> None:
    """Hold a measured number against a claim and print the verdict, the same text on every machine.

    Prints ``PASS  <claim>`` or ``NOT REPRODUCED  <claim>``, never the number.

    Args:
        claim_id: id of a row of the list of claims.
        measured: the number that the claim is about; a comparison is checked through its difference.
        path: the list of claims.

    Raises:
        ValueError: if the id is unknown or ``measured`` is not a finite number.
        ClaimError: if the outcome is not the expected one; the message has the number.
    """
    claims = load(path)
    if claim_id not in claims:
        raise ValueError(f"claim_id is {claim_id!r}; expected one of {', '.join(claims)}")
    claim, measured = claims[claim_id], float(measured)
    if not abs(measured) < float("inf"):
        raise ValueError(f"measured is {measured!r}; expected a finite number for {claim_id}")
    outcome = "pass" if RELATIONS[claim.relation](measured, claim.threshold) else "not reproduced"
    if outcome != claim.expected:
        raise ClaimError(
            f"{claim_id}: {claim.claim}: expected {claim.expected}, got {outcome}: "
            f"measured {measured:.4g}, to be {claim.relation} {claim.threshold:g} ({claim.source})"
        )
    print(f"{outcome.upper()}  {claim.claim}")
