"""The embedded data: statistics of what is drawn, no leak between splits, and the cache."""

import json
import time

import pytest
import torch
import torch.nn.functional as F

from mmlib import data
from mmlib.data import hand, hand_street, street
from mmlib.data.hand_street import SPLITS, make
from mmlib.seeding import generator

COUNTS = {"train": 10_000, "validation": 2_000, "test": 2_000}
SMALL = {"train": 60, "validation": 20, "test": 20}
MODALITIES = ("hand", "street")


@pytest.fixture(scope="module")
def made():
    """Everything at its default size, and the processor seconds it took."""
    hand.digits()  # the import of scikit-learn is not what we time
    start = time.process_time()
    tensors = make(16, 0.0, COUNTS, seed=0)
    return tensors, time.process_time() - start


@pytest.fixture(scope="module")
def tensors(made):
    return made[0]


@pytest.fixture(scope="module")
def loud():
    """Street images with everything free."""
    return street.render(torch.arange(2000) % 10, 1.0, generator(0)).float() / 255


def test_the_default_data_is_made_in_under_ten_seconds_of_one_thread(made):
    assert made[1] < 10


def test_shapes_types_and_balance(tensors):
    for split, n in COUNTS.items():
        for name, channels in (("hand", 1), ("street", 3)):
            images, labels, original = (
                tensors[f"{split}.{name}.{p}"] for p in ("images", "labels", "original")
            )
            assert images.shape == (n, channels, 16, 16) and images.dtype == torch.uint8
            assert torch.bincount(labels).tolist() == [n // 10] * 10
            assert original.shape == labels.shape == (n,)


# --- no leak --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODALITIES)
def test_no_original_is_in_two_splits(tensors, name):
    sets = [set(tensors[f"{split}.{name}.original"].tolist()) for split in SPLITS]
    assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])


@pytest.mark.parametrize("name", MODALITIES)
def test_no_image_is_drawn_twice(tensors, name):
    images = torch.cat([tensors[f"{split}.{name}.images"] for split in SPLITS])
    assert len({image.numpy().tobytes() for image in images}) == len(images)


def test_every_handwritten_original_is_used_by_its_own_label(tensors):
    _, labels = hand.digits()
    seen = torch.cat([tensors[f"{split}.hand.original"] for split in SPLITS])
    assert len(seen.unique()) == 1797
    assert torch.equal(labels[seen], torch.cat([tensors[f"{split}.hand.labels"] for split in SPLITS]))


def test_originals_are_split_60_20_20_in_every_class(tensors):
    _, labels = hand.digits()
    for split, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        classes = labels[tensors[f"{split}.hand.original"].unique()]
        expected = share * torch.bincount(labels)
        assert (torch.bincount(classes, minlength=10) - expected).abs().max() <= 1  # rounding


def test_originals_of_a_class_have_as_many_copies_give_or_take_one(tensors):
    for digit in range(10):
        copies = torch.bincount(tensors["train.hand.original"][tensors["train.hand.labels"] == digit])
        copies = copies[copies > 0]
        assert copies.max() - copies.min() <= 1


# --- what the pictures are like -------------------------------------------------------------------------------------


def linear_accuracy(tensors, name):
    """Test accuracy of a ridge regression on grey levels: a lower bound of how legible the digits are."""

    def features(split):
        grey = tensors[f"{split}.{name}.images"].double().mean(1).flatten(1) / 255
        return torch.cat([grey, torch.ones(len(grey), 1, dtype=torch.float64)], dim=1)

    x, y = features("train"), F.one_hot(tensors[f"train.{name}.labels"], 10).double()
    weight = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1], dtype=torch.float64), x.T @ y)
    return float(((features("test") @ weight).argmax(1) == tensors[f"test.{name}.labels"]).double().mean())


def test_both_modalities_show_their_label(tensors):
    # Measured 0.80 and 0.90 (convolutional networks: 0.95 and 0.99); the margin is five standard errors and more.
    assert linear_accuracy(tensors, "hand") > 0.72
    assert linear_accuracy(tensors, "street") > 0.85


def test_hand_is_light_ink_on_black_paper(tensors):
    x = tensors["train.hand.images"].float() / 255
    assert 0.2 < x.mean() < 0.33  # measured 0.26
    assert (x == 0).float().mean() > 0.2  # paper is exactly black
    assert (x.flatten(1).amax(1) > 0.6).float().mean() > 0.99  # and every image has ink


def grey(images):
    return images.float().mean(1).flatten(1)


def test_easy_street_digits_are_lighter_than_their_wall(tensors):
    x = grey(tensors["train.street.images"])
    assert (x.mean(1) > x.median(1).values).float().mean() > 0.98  # measured 0.998


def test_hard_street_has_both_polarities_alike(loud):
    x = grey(loud)
    share = (x.mean(1) > x.median(1).values).float().mean()
    assert abs(share - 0.5) < 0.06  # standard error of a share of 2000: 0.011


def test_freedom_hides_the_digit_in_private_variance(tensors, loud):
    """The share of pixel variance that the class explains falls: 11 % when easy, 0.2 % when hard."""

    def explained(x, labels):
        means = torch.stack([x[labels == digit].mean(0) for digit in range(10)])
        return float(means.var(0, unbiased=False).mean() / x.var(0).mean())

    easy = explained(tensors["train.street.images"].float() / 255, tensors["train.street.labels"])
    hard = explained(loud, torch.arange(2000) % 10)
    assert easy > 0.08 and hard < 0.015  # 2000 images alone give 10 / 2000 by chance


def test_the_same_draws_at_every_freedom():
    """The knob changes colours, never which digit, font or place: pictures of one seed can be laid side by side."""
    labels = torch.arange(40) % 10
    easy, free = (street.render(labels, f, generator(0)).float().mean(1).flatten(1) for f in (0.0, 0.2))
    alike = [abs(float(torch.corrcoef(torch.stack(pair))[0, 1])) for pair in zip(easy, free, strict=True)]
    assert sorted(alike)[4] > 0.9


def test_every_font_draws_ten_different_digits():
    atlas, widths = street.glyphs()
    assert atlas.shape == (len(street.FONTS), 10, 48, 48) and widths.shape == atlas.shape[:2]
    assert (atlas.amax((2, 3)) > 0.5).all() and (widths > 3).all()
    flat = atlas.flatten(2)
    distance = torch.cdist(flat, flat) + 1e6 * torch.eye(10)
    assert distance.min() > 1.5
    assert atlas[:, :, 0].max() == 0 and atlas[:, :, -1].max() == 0  # nothing is cut off above or below


def test_16_pixels_are_the_average_of_32():
    large, small = make(32, 0.0, SMALL, seed=0), make(16, 0.0, SMALL, seed=0)
    for name in MODALITIES:
        shrunk = F.avg_pool2d(large[f"test.{name}.images"].float(), 2)
        assert (
            shrunk - small[f"test.{name}.images"].float()
        ).abs().max() <= 0.5  # rounding to whole grey levels


def test_a_seed_means_one_data_set():
    first, again, other = (make(16, 0.0, SMALL, seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["train.hand.images"], other["train.hand.images"])
    assert not torch.equal(first["train.street.images"], other["train.street.images"])


def test_small_pieces_of_the_generator():
    labels = torch.tensor([0, 1, 0, 1, 0])
    drawn = hand.balanced_draw(labels, 8)
    assert labels[drawn].tolist() == [0, 1] * 4
    assert drawn.tolist() == [0, 1, 2, 3, 4, 1, 0, 3]
    parts = hand.split_originals(torch.arange(40) % 4, (0.5, 0.3, 0.2), generator(0))
    assert [len(part) for part in parts] == [20, 12, 8]
    assert sorted(torch.cat(parts).tolist()) == list(range(40))


# --- loading --------------------------------------------------------------------------------------------------------


def test_load_gives_three_paired_splits(tmp_path):
    loaded = data.load("hand-street", cache=tmp_path, dm=3, **SMALL)
    assert loaded.shapes == {"hand": (1, 16, 16), "street": (3, 16, 16)}
    assert [len(split) for split in loaded.splits.values()] == [
        180,
        20,
        20,
    ]  # only training pairs are repeated
    batch = loaded.train.batch(torch.arange(8))
    assert {name: tuple(x.shape) for name, x in batch.items()} == {
        "hand": (8, 1, 16, 16),
        "street": (8, 3, 16, 16),
    }
    facts = loaded.provenance
    assert facts["generator_version"] == hand_street.GENERATOR_VERSION and facts["seed"] == 0
    assert facts["pairing"] == {"dm": 3, "max_d": 10_000, "fraction": 1.0} and len(facts["sha256"]) == 64
    json.dumps(facts)


def test_the_large_size_and_a_fraction(tmp_path):
    loaded = data.load("hand-street", size=32, cache=tmp_path, fraction=0.5, style="hard", **SMALL)
    assert loaded.shapes == {"hand": (1, 32, 32), "street": (3, 32, 32)}
    assert len(loaded.train.items["street"]) == 30 and len(loaded.test) == 20
    assert loaded.provenance["freedom"] == 1.0


def test_the_second_load_makes_nothing(tmp_path, monkeypatch):
    first = data.load("hand-street", cache=tmp_path, **SMALL)
    monkeypatch.setattr(hand_street, "make", lambda *_: pytest.fail("made again"))
    again = data.load("hand-street", cache=tmp_path, **SMALL)
    assert torch.equal(first.test.items["street"].values, again.test.items["street"].values)
    assert first.provenance == again.provenance
    assert [path.name for path in (tmp_path / "hand-street").iterdir()] == ["v1-16px-freedom0-60-20-20-seed0"]


def test_the_cache_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MMLIB_DATA", str(tmp_path / "here"))
    data.load("hand-street", **SMALL)
    assert (tmp_path / "here" / "hand-street").is_dir()


@pytest.mark.parametrize(
    "damage", ["flip a byte", "cut the end", "no data", "no note", "bad note", "other facts"]
)
def test_a_damaged_cache_is_noticed_and_made_again(tmp_path, damage):
    first = data.load("hand-street", cache=tmp_path, **SMALL)
    (folder,) = (tmp_path / "hand-street").iterdir()
    file, note = folder / "data.safetensors", folder / "data.json"
    raw = file.read_bytes()
    match damage:
        case "flip a byte":
            file.write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
        case "cut the end":
            file.write_bytes(raw[: len(raw) // 2])
        case "no data":
            file.unlink()
        case "no note":
            note.unlink()
        case "bad note":
            note.write_text("{")
        case "other facts":
            note.write_text(json.dumps({**json.loads(note.read_text()), "seed": 7}))
    with pytest.warns(UserWarning, match="is unusable .*making the data again"):
        again = data.load("hand-street", cache=tmp_path, **SMALL)
    assert torch.equal(first.train.items["hand"].values, again.train.items["hand"].values)
    assert file.read_bytes() == raw and [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"name": "hand-streets"},
            "name is 'hand-streets'; expected one of .*hand-street, ",
        ),
        ({"colour": 3}, r"hand-street has no option 'colour'; expected some of \['style', 'train'"),
        ({"size": 20}, r"size is 20; expected one of 16, 32"),
        ({"style": "wild"}, r"style is 'wild'; expected one of \['easy', 'medium', 'hard'\] or a number"),
        ({"style": 1.5}, "style is 1.5"),
        ({"style": True}, "style is True"),
        ({"train": 5}, "train is 5; expected an integer of at least 10"),
        ({"test": 20.0}, "test is 20.0"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        ({"fraction": 0.0, **SMALL}, r"fraction is 0.0; expected a share in \(0, 1\]"),
        ({"dm": 0, **SMALL}, "dm is 0"),
    ],
)
def test_impossible_options_are_refused_by_name(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        data.load(**{"name": "hand-street", "cache": tmp_path, **options})
