"""The numbers beside the slips of released code: what is meant is right, what is coded is what the errata say."""

import pytest

from mmlib.book import errata
from mmlib.book.slips import SLIPS

SHOWN = {slip.values.__name__: slip for slip in SLIPS}


@pytest.mark.parametrize(
    ("name", "meant", "coded"),
    [
        ("coherence_of_guesses", "0.01", "0.82"),  # 1 / 100; and P((m = s) = (m = t)) = 0.01 + 0.81
        ("likelihood_too_high", "0.0", "30.5"),
        ("gap_for_certainty", "9", "29,438"),
        ("best_of_many", "0.850", "0.859"),
    ],
)
def test_a_slip_changes_its_number_as_the_errata_say(name, meant, coded):
    assert SHOWN[name].shown() == (meant, coded)


def test_every_number_belongs_to_an_entry_about_code_and_every_number_is_tested():
    entries = errata.load()
    assert all(entries[slip.erratum].kind == "code" for slip in SLIPS)
    assert len(SHOWN) == 4
