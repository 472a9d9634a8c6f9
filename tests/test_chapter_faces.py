"""What the chapter on faces and attributes shows: errors by place, tables and claims of recorded runs, Table 15."""

import matplotlib
import pytest
import torch
from torch.nn import functional as F

from mmlib.book.figures import faces as figures
from mmlib.data.attributes import CELEBA, read_strings
from mmlib.data.faces import ATTRIBUTES
from mmlib.data.text import ALPHABET, encode
from mmlib.runs.recipes import RECIPES

matplotlib.use("Agg")
CODES, WAYS = list(figures.CODES.values()), list(figures.WAYS.values())
TABLE_15 = """\
5 o clock shadow, arched eyebrows, attig lips, bldn ha, big n ee, basd, your, ho beari, ntraight hair, wyanose, smiling
bangs, big lips, brown hair, gray hair, male, no beard, woung
arched eyebrows, attractive, bengy blbcows, hevuy eabones, mouth slig tlyr, narrow eyes, no beard, smiling, young
bangs, big lips, black hair, high cheekbones, mouth slightly open, no beard, pale skin, wavy hang, young
big lips, big nose, black hair, bushy ey, high cheekbones, narrow eyes, noface, pointy nose, smiling, wavy hair, young
bags under eyes, mouth slightly open, no beard, smiface, straight hairsmlirair,traight hair, young
attractive, blond hair, brown hhigh chee aoses, mouth slightly open, no beard, oval facg, young
arched eyebrows, bags under eyes, blackokse, black h ir, ch ebes, narrow eyep, no eard, wavy hair, young
big nose, blond eyebrows, no bmale, s, no beard, wavy hair, young
attractive, black hair, heavy makeup, high cheekbones, no beard, smiling, wearing lipstick, young
5 o clock shadow, bags under eyes, bald, mase, mou hegh arrow eyes, no beard, straight hair, young
black hair, blurry, brown hair,p, o albeard, smiling
attractive, black hair, brown hair, maathe, mals, no beard, rosy ling, w smiling
arched eyebrows, attractive, brown hair, bl ngwe, wear, i, youtg
big lips, eyeglasses, high, no bea d, yeang, young
bangs, brown hair, byehlasses, ws,vmouth sl, no beard, oval facd, smiling, wearing lipstick, young"""


def run(seed, code, way, share=0.2):
    """A result whose probes all have one value and whose generations have another, attribute by attribute."""

    def each(value):
        values = dict.fromkeys([*ATTRIBUTES, "mean"], value) if isinstance(value, float) else value
        return {name: {"value": v} for name, v in values.items()}

    views = ("image", "text", "all")
    report = {
        "attribute_share": each(share),
        "latent_precision": {view: each(code) for view in views},
        "generation_precision": {a: {b: each(way) for b in ("image", "text")} for a in views},
        "real_precision": {"image": each(0.9), "text": each(1.0)},
        "joint_precision": {"mean": {"value": 0.1}},
        "well_formed": dict.fromkeys((*views, "prior"), 0.25),
        "string_agreement": dict.fromkeys((*views, "shuffled"), 0.5),
    }
    return {"seed": seed, "metrics": {"test": report, "validation": report}}


def test_every_row_has_its_recipe():
    assert {RECIPES[name].dataset for name in figures.RECIPES.values()} == {"faces"}
    assert set(figures.RECIPES.values()) == {name for name in RECIPES if name.startswith("faces-")}
    assert set(figures.TENK.values()) == {name for name in RECIPES if name.startswith("celeba10k-")}


def test_one_of_the_sixteen_strings_of_table_15_is_well_formed():
    """Middles that are garbled beyond hope are shortened here; no well-formed string is."""
    lines = TABLE_15.splitlines()
    formed = read_strings(encode([line.ljust(256, "*") for line in lines]), CELEBA)[1]
    assert len(lines) == 16 and formed.nonzero().tolist() == [[9]]
    assert lines[3].split(", ")[-2] == "wavy hang"  # the string of the chapter


def test_errors_are_shares_of_written_characters():
    text = encode(["male, young".ljust(256, "*")] * 100)
    made = F.one_hot(encode(["male, bald".ljust(256, "*")] * 100), len(ALPHABET)).float()
    places, shares = figures.errors(made, text, bins=6)
    assert places == [3, 9] and shares == pytest.approx([0, 1])  # "young" against "bald*"
    assert figures.errors(made[:50], text[:50], bins=6) == ([3, 9], shares)
    assert figures.errors(made[:10], text[:10], bins=6) == ([], [])
    assert figures.strings(made[:1]) == figures.strings(made[:1].argmax(-1)) == ["male, bald"]


def test_tables_have_a_dash_where_nothing_is_recorded(files):
    assert "| mmJSD | – | – | – |" in str(figures.means(figures.CODES, {})).splitlines()
    files["faces-mmjsd-styles"] = [run(seed, 0.5, 0.3) for seed in range(3)]
    lines = str(figures.means(figures.CODES, {}, {"untrained": [0.1, 0.2, 0.3]})).splitlines()
    assert f"| mmJSD |{' 0.50 [0.50, 0.50] (3) |' * 3}" in lines
    assert {
        "| MVAE | – | – | – |",
        "| untrained | 0.10 | 0.20 | 0.30 |",
        "| chance | 0.20 | 0.20 | 0.20 |",
    } < {*lines}
    real = {"image to text": figures.REAL["text"], "text to image": figures.REAL["image"]}
    assert "| real items | 1.00 | 0.90 |" in str(figures.means(figures.WAYS, real)).splitlines()
    lines = str(figures.written()).splitlines()
    assert f"| mmJSD |{' 25 [25, 25] (3) | 50 [50, 50] (3) |' * 3} 25 [25, 25] (3) |" in lines
    assert "| another face's string | – | 50 | – | 50 | – | 50 | – |" in lines


def test_runs_on_photographs_have_a_table_of_their_own_and_the_prior_no_chance(files):
    files["celeba10k-mmjsd-styles"] = [run(0, 0.5, 0.3)]
    lines = str(figures.means(figures.CODES | figures.PRIOR, {}, recipes=figures.TENK)).splitlines()
    assert f"| mmJSD |{' 0.50 (1) |' * 3} 0.10 (1) |" in lines and "| MVAE | – | – | – | – |" in lines
    assert f"| chance |{' 0.20 |' * 3} – |" in lines
    assert "| chance | – | – | – |" in str(figures.means(figures.CODES, {})).splitlines()


def test_recorded_attributes_are_drawn_for_models_that_have_them(files):
    files["faces-mmjsd-styles"] = [run(0, 0.5, 0.3), run(1, 0.7, 0.3)]
    first, second = figures.recorded_bars({"probe": CODES[0], "text": WAYS[0]})
    assert [len(ax.lines) for ax in (first, second)] == [1, 1] and first.get_title() == "probe"
    assert set(first.lines[0].get_ydata()) == {0.6} and set(second.lines[0].get_ydata()) == {0.3}


def test_a_claim_wants_three_seeds_of_all(files):
    files["faces-mmjsd-styles"] = [run(seed, 0.5, 0.3) for seed in range(3)]
    files["faces-mvae-styles"] = [run(seed, 0.4, 0.25) for seed in range(3)]
    files["faces-mmvae-styles"] = [run(seed, 0.3, 0.35) for seed in range(2)]
    assert figures.least_lead(CODES) is None
    files["faces-mmvae-styles"].append(run(2, 0.3, 0.35))
    assert figures.least_lead(CODES).mean == pytest.approx(0.1)  # over the better of the two
    assert figures.least_lead(WAYS).mean == pytest.approx(-0.05)
    assert figures.above_chance(WAYS).mean == pytest.approx(0.1)
    assert figures.least_above(CODES, [0.45, 0.4, 0.3]).mean == pytest.approx(0.05)
    assert figures.level("well_formed/all").mean == 0.25
    assert figures.level("well_formed/all", "MoPoE") is None


def test_patterns_are_compared_without_chance(files):
    """Values that are the shares know nothing: alike as they stand, and without pattern once chance is taken out."""
    share = {name: 0.1 + 0.01 * i for i, name in enumerate(ATTRIBUTES)} | {"mean": 0.3}
    lift = torch.linspace(0, 0.9, len(ATTRIBUTES))[
        torch.randperm(len(ATTRIBUTES), generator=torch.Generator().manual_seed(0))
    ]
    high = {n: share[n] + (1 - share[n]) * x for n, x in zip(ATTRIBUTES, lift.tolist(), strict=True)} | {
        "mean": 0.5
    }
    low = {
        n: share[n] + (1 - share[n]) * (0.9 - x) for n, x in zip(ATTRIBUTES, lift.tolist(), strict=True)
    } | {"mean": 0.5}
    files["faces-mmjsd-styles"] = [run(seed, high, high, share) for seed in range(3)]
    assert figures.alike(CODES[0], WAYS[0]).mean == pytest.approx(1)
    files["faces-mmjsd-styles"] = [run(seed, high, low, share) for seed in range(3)]
    assert figures.alike(CODES[0], WAYS[0]).mean == pytest.approx(-1)


def test_bars_and_curves_are_drawn():
    share = {"Bald": 0.02, "Young": 0.8}
    ax = figures.precision_bars(share, {"image": {"Bald": 0.5, "Young": 0.9}})
    assert [label.get_text() for label in ax.get_xticklabels()] == ["bald", "young"]
    ax = figures.error_curves({"a": ([1, 2], [0.1, 0.2]), "b": ([1], [0.5])})
    assert len(ax.lines) == 2
