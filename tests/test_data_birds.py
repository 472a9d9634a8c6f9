"""The embedded birds: splits of different species, true captions, features that tell what captions say."""

import pytest
import torch
import torch.nn.functional as F

from mmlib.data import birds, grammar, load, plumage
from mmlib.data.captioned import captioned_split
from mmlib.data.core import Items
from mmlib.data.patches import PatchFeatures

SMALL = {"train": 400, "validation": 40, "test": 40, "captions": 3}


@pytest.fixture(scope="module")
def data(cache):
    return load("birds", cache=cache, **SMALL)


def test_rows_are_captions_beside_their_pictures(data):
    assert data.shapes == {"image": (128,), "caption": (32,)}
    assert data.symbols == {"caption": len(data.vocabulary)}
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 1200,
        "validation": 120,
        "test": 120,
    }
    for name, split in data.splits.items():
        assert torch.equal(split.original("image"), split.original("caption"))
        captions = data.vocabulary.decode(split.batch()["caption"])
        parsed, agreed = grammar.agreement(captions, data.attributes[name][split.index["image"]])
        assert parsed.min() == agreed.min() == 1
        assert len(set(split.index["caption"].tolist())) == len(split)


def test_no_species_and_no_bird_is_in_two_splits(data):
    for kind in ("labels", "birds"):
        parts = [
            set((s.labels if kind == "labels" else s.original("image")).tolist())
            for s in data.splits.values()
        ]
        assert sum(map(len, parts)) == len(set.union(*parts))
    assert [len(set(split.labels.tolist())) for split in data.splits.values()] == [100, 30, 30]


def test_the_same_seed_gives_the_same_birds_and_another_seed_others(data, cache, tmp_path):
    again = load("birds", cache=tmp_path, **SMALL)
    assert again.provenance == data.provenance
    assert torch.equal(again.pictures["test"], data.pictures["test"])
    other = load("birds", cache=tmp_path, seed=1, **SMALL)
    assert not torch.equal(other.attributes["test"], data.attributes["test"])


def test_pictures_may_be_the_modality(data, cache):
    shown = load("birds", 32, cache=cache, view="pictures", **SMALL)
    assert shown.shapes["image"] == (3, 32, 32)
    assert torch.equal(shown.test.items["image"].values, shown.pictures["test"])
    big = data.pictures["test"][:5].float()
    assert torch.equal(shown.pictures["test"][:5], F.avg_pool2d(big, 2).round().byte())
    assert torch.equal(shown.test.index["image"], data.test.index["image"])  # the same rows in both views


def test_features_have_variance_one_and_do_not_see_which_side_a_bird_faces(data):
    assert torch.allclose(data.train.items["image"].values.std(0), torch.ones(128), atol=1e-3)
    pictures = plumage.reduced(data.pictures["train"], 32)
    extract = PatchFeatures.fit(pictures, 16, torch.Generator().manual_seed(0))
    first = extract(pictures[:20])
    assert torch.allclose(extract(pictures[:20].flip(-1)), first, atol=1e-4)
    assert torch.allclose(torch.cov(extract(pictures).T), torch.eye(16), atol=1e-3)


def test_a_linear_map_of_features_tells_colours_of_new_species(data):
    """Far above chance, 1 in 9: otherwise no model could caption these pictures."""
    x, y = (
        {s: part[s] for s in data.splits}
        for part in ({s: p.items["image"].values for s, p in data.splits.items()}, data.attributes)
    )
    names = list(grammar.ATTRIBUTES)
    for name, least in {"back": 0.35, "belly": 0.35, "background": 0.9}.items():
        i, k = names.index(name), len(grammar.ATTRIBUTES[name])
        gram = x["train"].T @ x["train"] + 50 * torch.eye(128)
        weights = torch.linalg.solve(gram, x["train"].T @ (F.one_hot(y["train"][:, i], k) - 1 / k))
        held = torch.cat([x[s] @ weights for s in ("validation", "test")]).argmax(1)
        assert (held == torch.cat([y[s][:, i] for s in ("validation", "test")])).float().mean() > least, name


@pytest.mark.parametrize(
    ("part", "column", "colour"),
    [("back", 1, "red"), ("belly", 3, "yellow"), ("wing", 2, "blue"), ("crown", 0, "green")],
)
def test_a_part_is_drawn_in_its_colour(part, column, colour):
    """The same bird twice, one part white and then of a colour: pixels change towards it, and hardly elsewhere."""
    bird = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 2, 1, 0]])
    painted = bird.clone()
    painted[0, column] = grammar.COLOURS.index(colour)
    white, other = (
        plumage.render(b, torch.full((1, 3), 0.5), torch.Generator().manual_seed(0)) for b in (bird, painted)
    )
    change = (white.int() - other.int()).abs().sum(1)[0]
    changed = change > 0.6 * change.max()  # all of the pixel, not its edge
    assert 20 < changed.sum() < 1000
    rgb = other[0, :, changed].float().median(1).values / 255  # light and shade: by 6 and by 12 per cent
    assert (rgb - torch.tensor(plumage.RGB[colour])).abs().max() < 0.2


def test_a_share_of_the_pictures_and_hidden_partners(cache):
    fifth = load("birds", cache=cache, fraction=0.2, **SMALL)
    assert len(fifth.train) == 240 and len(fifth.test) == 120
    assert len(set(fifth.train.labels.tolist())) == 80  # 80 pictures, one of a species
    part = load("birds", cache=cache, paired=0.25, **SMALL).train
    picture, both = part.original("image"), part.observed["image"] & part.observed["caption"]
    assert both.float().mean() == 0.25
    for p in picture.unique():  # all rows of a picture show the same
        rows = picture == p
        assert all(len(set(seen[rows].tolist())) == 1 for seen in part.observed.values())
    alone = load("birds", cache=cache, paired=0.25, always="image", **SMALL).train
    assert alone.observed["image"].all() and alone.observed["caption"].float().mean() == 0.25


def test_captions_are_worded_as_freely_as_asked(data, cache):
    free = load("birds", cache=cache, wording="free", **SMALL)
    plain, other = (d.vocabulary.decode(d.train.items["caption"].values) for d in (data, free))
    assert (
        len({caption.split()[0] for caption in plain}) == 1 < len({caption.split()[0] for caption in other})
    )
    assert torch.equal(data.attributes["train"], free.attributes["train"])  # the same birds


def test_captions_are_dealt_to_the_right_pictures():
    labels = torch.tensor([7, 8])
    images = Items(torch.tensor([[0.0], [1.0]]), labels, torch.arange(2))
    said = Items(
        torch.arange(6)[:, None], labels.repeat_interleave(3), torch.arange(2).repeat_interleave(3), 6
    )
    rows = captioned_split(images, said, torch.Generator().manual_seed(0)).batch()
    assert torch.equal(rows["image"][:, 0].long(), rows["caption"][:, 0] // 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 16}, "size is 16; expected one of 32, 64"),
        ({"view": "sounds"}, "view is 'sounds'; expected one of features, pictures"),
        ({"train": 5}, "train is 5; expected an integer of at least 100"),
        ({"captions": 0}, "captions is 0"),
        ({"wording": "odd"}, "wording is 'odd'; expected a number from 0 to 1"),
        ({"dm": 2}, "birds has no option 'dm'"),
        ({"fraction": 0}, "fraction is 0"),
        ({"paired": 2}, "paired is 2"),
        ({"always": "hand"}, "always is 'hand'; expected one of image, caption"),
    ],
)
def test_impossible_options_are_refused(options, message, cache):
    with pytest.raises(ValueError, match=message):
        load("birds", cache=cache, **{**SMALL, **options})


def test_species_differ_in_plumage():
    prototypes, builds = birds.species(60, torch.Generator().manual_seed(0))
    assert len({tuple(row[:4]) for row in prototypes.tolist()}) == 60
    assert max(len(set(row[:4])) for row in prototypes.tolist()) <= 3
    assert builds.shape == (60, 3)
