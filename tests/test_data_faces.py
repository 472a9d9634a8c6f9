"""The embedded faces: attributes as frequent as CelebA's and drawn where they belong, strings that can be read back."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmlib.data import faces, load, portraits
from mmlib.data.attributes import CELEBA, LENGTH, read_strings, spoken, write_strings
from mmlib.data.cache import cache_root
from mmlib.data.celeba import read_attributes
from mmlib.data.faces import ATTRIBUTES, NOT_DRAWN, draw_attributes
from mmlib.data.text import ALPHABET, decode, encode

SMALL = {"train": 120, "validation": 20, "test": 30}
# Per cent of CelebA's 202,599 faces, counted in its list of attributes.
PRINTED = {
    "5_o_Clock_Shadow": 11.1, "Arched_Eyebrows": 26.7, "Bags_Under_Eyes": 20.5, "Bald": 2.2, "Bangs": 15.2,
    "Big_Lips": 24.1, "Big_Nose": 23.5, "Black_Hair": 23.9, "Blond_Hair": 14.8, "Blurry": 5.1, "Brown_Hair": 20.5,
    "Bushy_Eyebrows": 14.2, "Chubby": 5.8, "Eyeglasses": 6.5, "Goatee": 6.3, "Gray_Hair": 4.2, "Male": 41.7,
    "Mouth_Slightly_Open": 48.3, "Mustache": 4.2, "Narrow_Eyes": 11.5, "No_Beard": 83.5, "Pale_Skin": 4.3,
    "Receding_Hairline": 8.0, "Rosy_Cheeks": 6.6, "Sideburns": 5.7, "Smiling": 48.2, "Straight_Hair": 20.8,
    "Wavy_Hair": 32.0, "Wearing_Earrings": 18.9, "Wearing_Hat": 4.8, "Wearing_Lipstick": 47.2,
    "Wearing_Necklace": 12.3, "Wearing_Necktie": 7.3, "Young": 77.4,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(cache):
    return load("faces", cache=cache, **SMALL)


@pytest.fixture(scope="module")
def many():
    return dict(zip(ATTRIBUTES, draw_attributes(20_000, torch.Generator().manual_seed(0)).T, strict=True))


def test_rows_are_faces_beside_their_strings(data):
    assert data.shapes == {"image": (3, 64, 64), "text": (LENGTH,)}
    assert data.symbols == {"text": len(ALPHABET)} and data.showable
    assert {name: len(split) for name, split in data.splits.items()} == SMALL
    numbers = torch.cat([split.original("image") for split in data.splits.values()])
    assert torch.equal(numbers, torch.arange(170))  # no face is in two splits
    for name, split in data.splits.items():
        stated, formed = read_strings(split.batch()["text"], ATTRIBUTES)
        assert formed.all() and torch.equal(stated, data.attributes[name])
        assert torch.equal(split.labels, data.attributes[name][:, ATTRIBUTES.index("Smiling")].long())
        assert torch.equal(split.original("image"), split.original("text"))


def test_names_are_celebas_and_six_are_not_drawn():
    assert len(set(CELEBA)) == 40 and sorted(CELEBA) == list(CELEBA)
    assert len(ATTRIBUTES) == 34 and set(CELEBA) - set(ATTRIBUTES) == set(NOT_DRAWN)


def test_attributes_are_as_frequent_as_in_celeba(many):
    """Within 3 points: rules such as no stubble without a beard cost a little."""
    found = {name: 100 * float(many[name].float().mean()) for name in ATTRIBUTES}
    assert found == pytest.approx(PRINTED, abs=3.1)


def test_attributes_go_together_as_they_do_in_celeba(many):
    def share(name, among):
        return float(many[name][among].float().mean())

    male, young = many["Male"], many["Young"]
    assert share("Wearing_Lipstick", ~male) > 0.7 > 0.05 > share("Wearing_Lipstick", male)
    assert share("Gray_Hair", male & ~young) > 0.15 > 0.02 > share("Gray_Hair", young)
    assert (
        share("Mouth_Slightly_Open", many["Smiling"])
        > 0.7
        > 0.3
        > share("Mouth_Slightly_Open", ~many["Smiling"])
    )
    colours = torch.stack([many[n] for n in ("Bald", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")])
    assert colours.sum(0).max() == 1
    for hidden in ("Bald", "Bangs", "Brown_Hair", "Wavy_Hair", "Receding_Hairline"):
        assert not (many[hidden] & many["Wearing_Hat"]).any(), hidden
    for one, other in (("Straight_Hair", "Wavy_Hair"), ("Bangs", "Receding_Hairline"), ("Bald", "Bangs"),
                       ("No_Beard", "Goatee"), ("Arched_Eyebrows", "Bushy_Eyebrows")):  # fmt: skip
        assert not (many[one] & many[other]).any(), (one, other)
    assert many["No_Beard"][~male].all()


def test_shares_are_those_of_the_official_list():
    """Where the list is at hand: shares of the four groups, and per cent of each, as they are typed."""
    path = cache_root() / "CelebA" / "list_attr_celeba.txt"
    if not path.is_file() and not path.with_name(f"{path.name}.xz").is_file():
        pytest.skip("CelebA's list of attributes is not at hand")
    table = torch.from_numpy(np.stack(list(read_attributes(path).values())))
    has = dict(zip(CELEBA, table.T, strict=True))
    group = 2 * has["Male"].long() + has["Young"].long()
    assert (torch.bincount(group) / len(table)).tolist() == pytest.approx(faces.GROUPS, abs=6e-4)
    assert {name: 100 * float(has[name].float().mean()) for name in ATTRIBUTES} == pytest.approx(
        PRINTED, abs=0.06
    )
    for rates, some in (
        (faces.RATES | faces.HAIR | faces.TEXTURES | faces.FRINGES, torch.ones_like(has["Male"])),
        (faces.BEARDS, ~has["No_Beard"] & has["Male"]),
    ):
        for name, rate in rates.items():
            found = [100 * float(has[name][some & (group == g)].float().mean()) for g in range(4)]
            groups = [g for g in range(4) if (some & (group == g)).any()]
            assert all(abs(found[g] - rate[g]) < 1 for g in groups), (name, found)
    is_open, smiles = has["Mouth_Slightly_Open"], has["Smiling"]
    assert [float(is_open[smiles == s].float().mean()) for s in (False, True)] == pytest.approx(
        faces.OPEN, abs=0.006
    )


# Where a part is, rows and columns, and its colour if it has one: what else is there is the same in both pictures.
PLACES = {
    "Eyeglasses": ((24, 38), (16, 49), None), "Wearing_Hat": ((10, 30), (10, 54), None),
    "Smiling": ((38, 50), (22, 43), None), "Mustache": ((36, 45), (24, 41), None),
    "Goatee": ((42, 56), (26, 39), None), "Wearing_Necktie": ((48, 64), (4, 60), None),
    "Narrow_Eyes": ((26, 37), (18, 47), None), "Wearing_Lipstick": ((38, 50), (24, 41), (0.80, 0.06, 0.18)),
    "Rosy_Cheeks": ((33, 45), (18, 48), None), "Blond_Hair": ((8, 60), (8, 56), (0.88, 0.74, 0.40)),
    "Wearing_Earrings": ((34, 48), (12, 53), (0.98, 0.85, 0.30)), "Bangs": ((20, 40), (14, 52), None),
    "Bags_Under_Eyes": ((30, 40), (18, 47), None), "Big_Nose": ((30, 42), (26, 40), None),
    "Wearing_Necklace": ((48, 64), (18, 47), (0.95, 0.83, 0.35)), "Sideburns": ((26, 46), (12, 53), None),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_an_attribute_is_drawn_where_it_belongs(name):
    """The same face without and with it: it changes there, in its colour, and hardly elsewhere."""
    plain = {attribute: torch.zeros(1, dtype=torch.bool) for attribute in ATTRIBUTES}
    plain |= {"Young": torch.ones(1, dtype=torch.bool), "No_Beard": torch.ones(1, dtype=torch.bool)}
    if name in ("Mustache", "Goatee", "Sideburns"):
        plain |= {"Male": ~plain["Male"], "No_Beard": ~plain["No_Beard"], "5_o_Clock_Shadow": ~plain["Male"]}
    with_it = plain | {name: torch.ones(1, dtype=torch.bool)}
    one, other = (
        portraits.render(has, torch.Generator().manual_seed(1))[0].float() / 255 for has in (plain, with_it)
    )
    change = (one - other).abs().sum(0)
    (top, bottom), (left, right), colour = PLACES[name]
    assert change[top:bottom, left:right].sum() > 0.9 * change.sum() > 0.9 * 2
    if colour is not None:
        changed = change > 0.6 * change.max()
        light = 0.25  # how much a picture's light, shades of hair and noise change a colour
        assert (other[:, changed].median(1).values - torch.tensor(colour)).abs().max() < light


def test_a_linear_map_of_small_pictures_tells_attributes_of_new_faces():
    """Far above chance: otherwise no model could learn what strings and pictures have in common."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    has = draw_attributes(900, torch.Generator().manual_seed(3))
    pictures = portraits.render(dict(zip(ATTRIBUTES, has.T, strict=True)), torch.Generator().manual_seed(4))
    x = F.avg_pool2d(pictures.float() / 255, 4).flatten(1).numpy()
    for name, least in {"Male": 0.8, "Black_Hair": 0.6, "Wearing_Necktie": 0.5}.items():
        y = has[:, ATTRIBUTES.index(name)].numpy()
        scores = LogisticRegression(max_iter=300).fit(x[:700], y[:700]).decision_function(x[700:])
        assert average_precision_score(y[700:], scores) > least, name


def test_the_same_seed_gives_the_same_faces_and_another_seed_others(data, tmp_path):
    again = load("faces", cache=tmp_path, **SMALL)
    assert again.provenance == data.provenance
    assert torch.equal(again.test.items["image"].values, data.test.items["image"].values)
    other = load("faces", cache=tmp_path, seed=1, **SMALL)
    assert not torch.equal(other.attributes["test"], data.attributes["test"])


def test_smaller_pictures_are_means_of_blocks(data, cache):
    small = load("faces", 32, cache=cache, **SMALL)
    big = data.test.items["image"].values.float()
    assert torch.equal(small.test.items["image"].values, F.avg_pool2d(big, 2).round().byte())


def test_a_share_of_the_faces_and_hidden_partners(cache, data):
    fifth = load("faces", cache=cache, fraction=0.2, **SMALL)
    assert len(fifth.train) == 24 and len(fifth.test) == 30
    assert torch.equal(fifth.train.batch()["image"], data.train.batch(torch.arange(24))["image"])
    part = load("faces", cache=cache, paired=0.25, **SMALL).train
    shown = torch.stack(list(part.observed.values()))
    assert shown.any(0).all() and shown.all(0).float().mean() == 0.25
    alone = load("faces", cache=cache, paired=0.25, always="image", **SMALL).train
    assert alone.observed["image"].all() and alone.observed["text"].float().mean() == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16}, "size is 16; expected one of 32, 64"),
        ({"place": "end"}, "place is 'end'; expected one of start, random"),
        ({"train": 0}, "train is 0; expected an integer of at least 1"),
        ({"dm": 2}, "faces has no option 'dm'"),
        ({"fraction": 0}, "fraction is 0"),
        ({"paired": 2}, "paired is 2"),
        ({"always": "caption"}, "always is 'caption'; expected one of image, text"),
    ],
)
def test_impossible_options_are_refused(options, message, cache):
    with pytest.raises(ValueError, match=message):
        load("faces", cache=cache, **{**SMALL, **options})


# --- strings --------------------------------------------------------------------------------------------------------


def rows_of(*lists):
    return torch.tensor([[name in row for name in CELEBA] for row in lists])


def test_strings_are_those_of_table_12():
    """Sutter et al. 2020, supplement, Table 12, second and seventh example."""
    has = rows_of(
        ["Big_Nose", "Male", "No_Beard", "Young"],
        ["Attractive", "High_Cheekbones", "No_Beard", "Oval_Face", "Smiling", "Wearing_Lipstick", "Young"],
    )
    printed = [
        "big nose, male, no beard, young",
        "attractive, high cheekbones, no beard, oval face, smiling, wearing lipstick, young",
    ]
    texts = decode(write_strings(has, CELEBA))
    assert texts == [text.ljust(256, "*") for text in printed]


def test_names_are_spoken_by_the_papers_rules():
    """mmjsd-x22: Sutter et al. 2020, supplement, Section C.4.1: underlines become blanks; Table 15 has lower case."""
    assert spoken("5_o_Clock_Shadow") == "5 o clock shadow" and spoken("No_Beard") == "no beard"


def test_what_is_written_is_read_back_wherever_it_stands():
    draw = torch.Generator().manual_seed(0)
    has = torch.rand(200, 40, generator=draw) < 0.2
    for place in ("start", "random"):
        stated, formed = read_strings(write_strings(has, CELEBA, place, draw), CELEBA)
        assert torch.equal(stated, has) and formed.all()
    texts = decode(write_strings(has, CELEBA, "random", draw))
    assert len({len(text) - len(text.lstrip("*")) for text in texts}) > 50


def test_every_start_that_fits_is_equally_likely():
    has = rows_of(["Male"]).expand(4000, -1)
    starts = [
        text.index("m")
        for text in decode(write_strings(has, CELEBA, "random", torch.Generator().manual_seed(0)))
    ]
    counts = torch.bincount(torch.tensor(starts)).float()
    assert (
        len(counts) == 253 and counts.min() > 0
    )  # of four letters; one start is missed by chance in 30,000 runs
    expected = 4000 / 253
    limit = 253 + 4 * (2 * 253) ** 0.5  # chi squared, 4 sigma
    assert ((counts - expected).square() / expected).sum() < limit


def test_a_string_that_is_too_long_is_cut_and_no_longer_well_formed():
    """mmjsd-x21: all forty names make 502 characters."""
    everything = torch.ones(1, 40, dtype=torch.bool)
    assert len(", ".join(spoken(name) for name in CELEBA)) == 502
    stated, formed = read_strings(write_strings(everything, CELEBA), CELEBA)
    assert not formed[0] and 15 < stated.sum() < 40


@pytest.mark.parametrize(
    ("text", "names", "well"),
    [
        (
            "bangs, big lips, brown hair, gray hair, male, no beard, woung",
            6,
            False,
        ),  # mmJSD Table 15, second string
        ("attractive, black hair, heavy makeup, smiling, young", 5, True),
        ("", 0, True),
        ("young, male", 2, False),  # not in order
        ("male, male", 1, False),
        ("male,young", 0, False),
        ("male*, young", 1, False),
        ("***male***", 1, True),
    ],
)
def test_names_count_to_the_letter(text, names, well):
    stated, formed = read_strings(encode([text.ljust(LENGTH, "*")]), CELEBA)
    assert (int(stated.sum()), bool(formed[0])) == (names, well)


def test_wrong_attributes_are_refused():
    with pytest.raises(ValueError, match="attributes is torch.float32"):
        write_strings(torch.zeros(2, 40), CELEBA)
    with pytest.raises(ValueError, match="place is 'left'"):
        write_strings(torch.zeros(2, 40, dtype=torch.bool), CELEBA, "left")
