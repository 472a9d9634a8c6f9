"""Digits and their rotations: what is turned which way, no leak between splits, and what each row shows."""

import json

import pytest
import torch
from test_data_files import write_mnist

from mmlib import data
from mmlib.data import DataFileError
from mmlib.data.multi import rotated
from mmlib.metrics import train_classifiers

ANGLES = (0, 90, 180, 270)


@pytest.fixture(scope="module")
def four():
    return data.load("multi-hand", modalities=4, dm=2)


def test_a_quarter_turn_is_counter_clockwise():
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)[None, None]
    items = data.Items(image, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    turned = [rotated(items, k).values[0, 0].tolist() for k in range(5)]
    assert turned == [
        [[1, 2], [3, 4]],
        [[2, 4], [1, 3]],
        [[4, 3], [2, 1]],
        [[3, 1], [4, 2]],
        [[1, 2], [3, 4]],
    ]


def test_counts_names_and_shapes(four):
    assert four.shapes == {f"hand{angle}": (1, 8, 8) for angle in ANGLES}
    items = [len(split.items["hand0"]) for split in four.splits.values()]
    assert sum(items) == 1797 and [round(n / 1797, 2) for n in items] == [0.6, 0.2, 0.2]
    assert [len(split) for split in four.splits.values()] == [2 * items[0], *items[1:]]
    counts = [torch.bincount(split.items["hand0"].labels) for split in four.splits.values()]
    assert all(int(count.min()) >= 0.09 * int(count.sum()) for count in counts)  # stratified
    json.dumps(four.provenance)


def test_default_is_two_modalities_with_thirty_partners():
    loaded = data.load("multi-hand")
    assert loaded.train.names == ["hand0", "hand90"]
    assert len(loaded.train) == 30 * len(loaded.train.items["hand0"])


def test_no_original_is_in_two_splits_and_none_is_lost(four):
    sets = [set(split.items["hand180"].original.tolist()) for split in four.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 1797
    for split in four.splits.values():
        for items in split.items.values():
            assert torch.equal(items.original, split.items["hand0"].original)


def test_modalities_are_rotations_of_the_same_originals(four):
    upright = four.test.items["hand0"].values
    for k, angle in enumerate(ANGLES):
        assert torch.equal(torch.rot90(four.test.items[f"hand{angle}"].values, -k, (-2, -1)), upright)
    assert int(upright.max()) == 255 and int(upright.min()) == 0
    from sklearn.datasets import load_digits

    first = four.test.items["hand0"]
    real = torch.from_numpy(load_digits().images[int(first.original[0])])
    assert torch.equal((first.values[0, 0] * 16.0 / 255).round(), real)


def test_partners_share_the_class_and_are_drawn_independently(four):
    train = four.train
    originals = [train.original(name, torch.arange(len(train))) for name in train.names]
    for m in range(1, 4):
        same = (originals[0] == originals[m]).double().mean()
        assert same < 0.03  # one in about 108 originals of a class
    for name in train.names:
        assert torch.equal(train.items[name].labels[train.index[name]], train.labels)
        assert torch.bincount(train.index[name]).tolist() == [2] * len(train.items[name])


def test_the_large_size_is_the_small_one_enlarged():
    small, large = data.load("multi-hand"), data.load("multi-hand", size=16)
    assert large.shapes["hand90"] == (1, 16, 16)
    blocks = torch.nn.functional.avg_pool2d(large.test.items["hand0"].values.float(), 2)
    away = (blocks - small.test.items["hand0"].values.float()).abs().mean()
    assert away < 12  # of 255: interpolated, not warped
    for name in large.shapes:
        assert torch.equal(large.test.items[name].original, small.test.items[name].original)


def test_a_seed_decides_split_and_pairs():
    one, again, other = (data.load("multi-hand", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train.index["hand90"], again.train.index["hand90"])
    assert one.provenance == again.provenance
    assert one.provenance["sha256"] != other.provenance["sha256"]


def test_fraction_and_partial_rows():
    whole = data.load("multi-hand", dm=1)
    fifth = data.load("multi-hand", dm=1, fraction=0.2)
    n = len(whole.train.items["hand0"])
    assert len(fifth.train.items["hand0"]) == int(0.2 * n) and len(fifth.test) == len(whole.test)
    hidden = data.load("multi-hand", dm=1, paired=0.25, always="hand90").train
    assert hidden.observed["hand90"].all()
    assert int(hidden.observed["hand0"].sum()) == round(0.25 * len(hidden))


def test_the_rest_may_be_shown_unpaired():
    dm = 3
    paired = data.load("multi-hand", modalities=3, dm=dm, fraction=0.2).train
    both = data.load("multi-hand", modalities=3, dm=dm, fraction=0.2, rest="unpaired").train
    seen = torch.stack(list(both.observed.values()))
    whole = seen.all(0)
    assert bool((seen.sum(0)[~whole] == 1).all())
    kept = set(paired.items["hand0"].original.tolist())

    def pairs(split, rows):
        columns = [split.original(name, rows).tolist() for name in split.names]
        return sorted(zip(*columns, strict=True))

    assert pairs(both, whole.nonzero()[:, 0]) == pairs(paired, torch.arange(len(paired)))
    for name in both.names:
        alone = both.original(name, (both.observed[name] & ~whole).nonzero()[:, 0])
        shown = torch.bincount(alone, minlength=1797)
        assert not kept & set(alone.tolist())
        assert set(shown.tolist()) == {0, dm} and int((shown > 0).sum()) + len(kept) == len(both.items[name])


def test_classifiers_read_every_rotation():
    loaded = data.load("multi-hand", dm=1)
    judges = train_classifiers(loaded, steps=60, cache=False)
    assert all(accuracy["validation"]["value"] > 0.85 for accuracy in judges.accuracy.values())


def test_multi_mnist_from_files(tmp_path):
    write_mnist(tmp_path, packed=False)
    loaded = data.load("multi-mnist", cache=tmp_path, modalities=3, dm=4, verify=False)
    assert loaded.shapes == {f"mnist{angle}": (1, 28, 28) for angle in (0, 90, 180)}
    assert [len(split.items["mnist0"]) for split in loaded.splits.values()] == [100, 20, 40]
    assert [len(split) for split in loaded.splits.values()] == [400, 20, 40]
    turned = torch.rot90(loaded.train.items["mnist90"].values, -1, (-2, -1))
    assert torch.equal(turned, loaded.train.items["mnist0"].values)
    sets = [set(split.items["mnist0"].original.tolist()) for split in loaded.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 160
    assert len(loaded.provenance["sha256"]) == 4
    with pytest.raises(DataFileError, match="MD5"):
        data.load("multi-mnist", cache=tmp_path)
    with pytest.raises(DataFileError, match=r"is missing\nmulti-mnist reads these files below"):
        data.load("multi-mnist", cache=tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 32}, r"size is 32; expected one of 8, 16"),
        ({"modalities": 5}, "modalities is 5; expected an integer from 2 to 4"),
        ({"modalities": True}, "modalities is True"),
        ({"seed": -1}, "seed is -1; expected an integer of at least 0"),
        ({"dm": 0}, "dm is 0"),
        ({"fraction": 0.0}, "fraction is 0.0"),
        ({"always": "hand180"}, "always is 'hand180'"),
        ({"rest": "hide"}, "rest is 'hide'; expected one of drop, unpaired"),
        ({"rest": "unpaired"}, "rest is 'unpaired'; expected a fraction below 1"),
        ({"rest": "unpaired", "fraction": 0.5, "paired": 0.5}, "rest is 'unpaired'"),
        ({"style": "easy"}, r"multi-hand has no option 'style'; expected some of \['modalities', 'rest'"),
        ({"name": "multi-mnist", "size": 16}, r"size is 16; expected 28 \(or None\)"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        data.load(**{"name": "multi-hand", **options})
