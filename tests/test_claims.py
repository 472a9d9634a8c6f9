"""Claims: when one passes, fails or stays open, and that what is printed is the same on every machine."""

import json
import math

import pytest

from mmlib.book import claims
from mmlib.summary import Summary, summarise


def list_of_claims(tmp_path, **changes):
    row = {
        "id": "a", "claim": "ours is better", "source": "Paper, Table 1", "relation": ">=", "threshold": 0.75,
        "expected": "pass", **changes,
    }  # fmt: skip
    path = tmp_path / "claims.yaml"
    path.write_text(json.dumps([{key: value for key, value in row.items() if value is not None}]))
    return path


@pytest.mark.parametrize(
    ("relation", "below", "at", "above"),
    [
        (">", False, False, True),
        (">=", False, True, True),
        ("<", True, False, False),
        ("<=", True, True, False),
    ],
)
@pytest.mark.parametrize("expected", claims.OUTCOMES)
def test_a_number_passes_or_fails(tmp_path, capsys, relation, below, at, above, expected):
    for measured, holds in ((0.7, below), (0.75, at), (0.8, above)):
        path = list_of_claims(tmp_path, relation=relation, expected=expected)
        if holds == (expected == "pass") and expected != "inconclusive":
            claims.check("a", measured, path)
            assert capsys.readouterr().out == f"{expected.upper()}  ours is better [Paper, Table 1]\n"
        else:
            got = "pass" if holds else "failed"
            with pytest.raises(
                claims.ClaimError, match=f"expected {expected}, got {got}: measured {measured}"
            ):
                claims.check("a", measured, path)
            assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("relation", "low", "high", "outcome"),
    [
        (">=", 0.75, 0.8, "pass"),
        (">", 0.75, 0.8, "inconclusive"),
        (">", 0.76, 0.8, "pass"),
        (">", 0.7, 0.76, "inconclusive"),
        (">", 0.7, 0.75, "not reached"),
        (">=", 0.7, 0.75, "inconclusive"),
        ("<", 0.7, 0.74, "pass"),
        ("<", 0.7, 0.76, "inconclusive"),
        ("<=", 0.76, 0.8, "not reached"),
    ],
)
def test_the_whole_interval_of_a_summary_decides(tmp_path, capsys, relation, low, high, outcome):
    measured = Summary(4, (low + high) / 2, 0.1, low, high, ())
    claims.check("a", measured, list_of_claims(tmp_path, relation=relation, expected=outcome))
    assert capsys.readouterr().out == f"{outcome.upper()}  ours is better [Paper, Table 1; n = 4]\n"
    for other in {"pass", "inconclusive"} - {outcome}:
        with pytest.raises(claims.ClaimError, match=f"expected {other}, .* {low} to {high}; n = 4"):
            claims.check("a", measured, list_of_claims(tmp_path, relation=relation, expected=other))


def test_one_seed_decides_nothing_and_many_that_agree_do(tmp_path):
    claims.check("a", summarise([0.9]), list_of_claims(tmp_path, expected="inconclusive"))
    claims.check("a", summarise([0.8, 0.8]), list_of_claims(tmp_path))
    claims.check("a", summarise([0.76, 0.8]), list_of_claims(tmp_path, expected="inconclusive"))


@pytest.mark.parametrize("measured", [math.nan, math.inf, -math.inf, Summary(2, 1.0, 1.0, math.nan, 2.0, ())])
def test_what_is_not_a_number_shows_no_claim(tmp_path, measured):
    with pytest.raises(ValueError, match="expected a finite number"):
        claims.check("a", measured, list_of_claims(tmp_path, expected="refuted"))


def test_the_printed_text_does_not_depend_on_what_was_measured_and_fits_the_page(tmp_path, capsys):
    path = list_of_claims(tmp_path, claim="a long claim " * 12, source="a paper, its table " * 4)
    for measured in (0.75, 0.7512345, 1e9):
        claims.check("a", measured, path)
    texts = capsys.readouterr().out.split("PASS")[1:]
    assert len(set(texts)) == 1 and "\n      " in texts[0]
    assert max(map(len, f"PASS{texts[0]}".splitlines())) <= 100


def test_unknown_claim_and_the_book_s_own_list(tmp_path):
    with pytest.raises(ValueError, match="claim_id is 'b'; expected one of a"):
        claims.check("b", 1.0, list_of_claims(tmp_path))
    claims.load()  # every row of data/claims.yaml is well-formed
