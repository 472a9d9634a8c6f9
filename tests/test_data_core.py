"""Batches, masks and the rows of a step."""

import math

import pytest
import torch

from mmlib.data import Items, PairedSplit, rows_at


def items(labels, channels=1, first=0):
    """Items whose pixels all equal their position: what a batch shows says which item it is."""
    n = len(labels)
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, channels, 2, 2).clone()
    return Items(images, torch.tensor(labels), torch.arange(first, first + n))


LABELS = [0, 1, 2, 0, 1, 2]
REVERSED = [2, 1, 0, 2, 1, 0]


@pytest.fixture
def split():
    both = {"hand": items(LABELS), "street": items(REVERSED, channels=3, first=100)}
    index = {"hand": torch.tensor([0, 1, 2, 3]), "street": torch.tensor([2, 4, 3, 5])}
    return PairedSplit(both, index, torch.tensor([0, 1, 2, 0]))


# --- rows of a step -------------------------------------------------------------------------------------------------


def test_an_epoch_shows_each_row_once_and_drops_the_incomplete_rest():
    rows = torch.cat([rows_at(step, n=103, batch_size=10, seed=0) for step in range(10)])
    assert rows.dtype == torch.int64
    assert len(rows) == len(rows.unique()) == 100
    assert rows.min() >= 0 and rows.max() < 103


def test_rows_depend_on_seed_and_step_alone():
    order = [7, 25, 3, 11, 25]  # any order of asking, as after resuming
    first = [rows_at(step, 50, 8, seed=1) for step in order]
    again = [rows_at(step, 50, 8, seed=1) for step in reversed(order)]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert not torch.equal(rows_at(0, 50, 8, seed=1), rows_at(0, 50, 8, seed=2))


def test_epochs_are_permuted_anew_and_drop_another_rest():
    epochs = [torch.cat([rows_at(6 * e + i, 50, 8, seed=0) for i in range(6)]) for e in range(2)]
    assert not torch.equal(*epochs)
    assert set(epochs[0].tolist()) != set(epochs[1].tolist())


def test_changing_what_rows_at_returned_changes_no_later_answer():
    rows = rows_at(0, 20, 5, seed=3)
    expected = rows.clone()
    rows.zero_()
    assert torch.equal(rows_at(0, 20, 5, seed=3), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 10, 5, 0), "step is -1; expected an integer of at least 0"),
        ((0, 10, 5, -2), "seed is -2; expected an integer of at least 0"),
        ((0, 10, 0, 0), "batch_size is 0; expected an integer of at least 1"),
        ((0, 10, 11, 0), "batch_size is 11; expected 1 to n = 10"),
    ],
)
def test_rows_at_names_a_bad_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        rows_at(*arguments)


# --- batches --------------------------------------------------------------------------------------------------------


def test_a_batch_shows_the_indexed_items_as_floats_from_0_to_1(split):
    batch = split.batch(torch.tensor([3, 1]))
    assert batch["hand"].shape == (2, 1, 2, 2) and batch["street"].shape == (2, 3, 2, 2)
    assert all(x.dtype == torch.float32 for x in batch.values())
    assert batch["hand"][:, 0, 0, 0].mul(255).tolist() == [3, 1]
    assert batch["street"][:, 0, 0, 0].mul(255).tolist() == [5, 4]


def test_black_is_0_and_white_is_1():
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    one = {"hand": Items(images, torch.zeros(2, dtype=torch.int64), torch.arange(2))}
    split = PairedSplit(one, {"hand": torch.arange(2)}, torch.zeros(2, dtype=torch.int64))
    assert split.batch(torch.arange(2))["hand"].flatten().tolist() == [0.0, 1.0]


def test_making_a_batch_leaves_the_images_alone(split):
    before = split.items["hand"].values.clone()
    split.batch(torch.arange(4))["hand"].add_(1)
    assert torch.equal(split.items["hand"].values, before)


def test_original_follows_the_index(split):
    assert split.original("street", torch.tensor([0, 3])).tolist() == [102, 105]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.tensor([], dtype=torch.int64), "rows is empty"),
        (torch.tensor([0, 4]), "rows spans 0 to 4; expected row numbers from 0 to 3"),
        (torch.tensor([-1, 2]), "rows spans -1 to 2"),
        (torch.tensor([0.0]), "rows is torch.float32"),
        (torch.zeros(2, 2, dtype=torch.int64), r"of shape \(2, 2\); expected"),
        ([0.5, 1], r"rows is torch.float32 of shape \(2,\); expected torch.int64 of shape \(N\)"),
        ("all", "rows is 'all'; expected torch.int64"),
    ],
)
def test_bad_rows_are_refused(split, rows, message):
    for ask in (split.batch, split.with_missing(0.5).mask):
        with pytest.raises(ValueError, match=message):
            ask(rows)


# --- what does not fit together -------------------------------------------------------------------------------------


def test_items_name_what_does_not_fit():
    x, y = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(
        ValueError, match=r"values is torch.float64 of shape \(3, 1, 2, 2\); expected torch.uint8"
    ):
        Items(x.double(), y, y)
    with pytest.raises(ValueError, match="values have NaN or infinity; expected finite features"):
        Items(torch.tensor([[1.0], [math.nan], [0.0]]), y, y)
    with pytest.raises(ValueError, match=r"values is torch.uint8 of shape \(3, 2, 2\)"):
        Items(x[:, 0], y, y)
    with pytest.raises(ValueError, match=r"labels is torch.int32 of shape \(3,\); expected torch.int64"):
        Items(x, y.int(), y)
    with pytest.raises(ValueError, match=r"original is torch.int64 of shape \(2,\)"):
        Items(x, y, y[:2])


def test_a_split_names_what_does_not_fit(split):
    both, index, labels = split.items, split.index, split.labels
    with pytest.raises(ValueError, match=r"index has modalities \['hand'\]; expected \['hand', 'street'\]"):
        PairedSplit(both, {"hand": index["hand"]}, labels)
    with pytest.raises(
        ValueError,
        match=r"index\['street'\] is torch.int64 of shape \(3,\); expected torch.int64 of shape \(4\)",
    ):
        PairedSplit(both, {**index, "street": index["street"][:3]}, labels)
    for wrong, message in (
        ((both, None, labels), "index has modalities None; expected"),
        ((both, {**index, "street": index["street"].float()}, labels), r"index\['street'\] is torch.float32"),
        (
            (both, index, labels, {name: torch.ones(4) for name in both}),
            r"observed\['hand'\] is .*expected torch.bool",
        ),
        ((both, index, None), "labels is None; expected torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            PairedSplit(*wrong)
    with pytest.raises(ValueError, match=r"index\['street'\] leaves the range of its 6 items"):
        PairedSplit(both, {**index, "street": index["street"] + 5}, labels)
    with pytest.raises(
        ValueError, match=r"index\['street'\] pairs items whose class is not the class of the row"
    ):
        PairedSplit(both, {**index, "street": index["street"].flip(0)}, labels)


# --- missing modalities ---------------------------------------------------------------------------------------------


def many(names=("hand", "street"), n=1000):
    both = {name: items([0] * 200, channels=c + 1) for c, name in enumerate(names)}
    return PairedSplit(
        both, {name: torch.arange(n) % 200 for name in names}, torch.zeros(n, dtype=torch.int64)
    )


def test_a_complete_split_has_no_mask(split):
    assert split.mask(torch.arange(4)) is None


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_exactly_the_fraction_of_rows_is_incomplete_and_none_is_empty(fraction):
    split = many().with_missing(fraction, torch.Generator().manual_seed(0))
    mask = split.mask(torch.arange(1000))
    seen = torch.stack(list(mask.values())).sum(0)
    assert all(value.dtype == torch.bool for value in mask.values())
    assert int((seen < 2).sum()) == round(1000 * fraction)
    assert int(seen.min()) >= 1


def test_every_proper_subset_is_equally_likely():
    split = many(("a", "b", "c"), n=6000).with_missing(1.0, torch.Generator().manual_seed(0))
    pattern = sum(seen.long() << i for i, seen in enumerate(split.observed.values()))
    counts = torch.bincount(pattern, minlength=8)
    assert counts[0] == counts[7] == 0
    # 6 subsets share 6000 rows: 1000 each, standard deviation 29; 5 of them allowed
    assert (counts[1:7] - 1000).abs().max() < 145


def test_only_the_named_modality_goes_missing():
    split = many(("a", "b", "c")).with_missing(1.0, may_miss=["b"])
    assert split.observed["a"].all() and split.observed["c"].all() and not split.observed["b"].any()


def test_missing_rows_are_drawn_from_the_generator():
    first, again, other = (
        many().with_missing(0.5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.observed["hand"], again.observed["hand"])
    assert not torch.equal(first.observed["hand"], other.observed["hand"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": -0.1}, "fraction is -0.1; expected a number from 0 to 1"),
        ({"fraction": 1.5}, "fraction is 1.5"),
        ({"fraction": 0.5, "may_miss": ["sound"]}, r"may_miss is \['sound'\]; expected one or more of"),
        ({"fraction": 0.5, "may_miss": []}, r"may_miss is \[\]"),
    ],
)
def test_bad_missingness_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        many().with_missing(**options)


def test_a_single_modality_cannot_go_missing():
    with pytest.raises(ValueError, match="needs at least two modalities"):
        many(("hand",)).with_missing(0.5)


def test_to_keeps_everything(split):
    moved = split.with_missing(0.5).to("cpu")
    assert torch.equal(moved.batch(torch.arange(4))["hand"], split.batch(torch.arange(4))["hand"])
    assert moved.observed is not None and len(moved) == len(split)


# --- symbols --------------------------------------------------------------------------------------------------------


def words(labels, symbols=5):
    """Texts of three symbols each."""
    values = torch.arange(3 * len(labels)).view(-1, 3) % 5
    return Items(values, torch.tensor(labels), torch.arange(len(labels)), symbols)


def test_symbols_stay_whole_numbers_beside_images_in_unit_range():
    both = {"hand": items(LABELS), "text": words(LABELS)}
    index = {"hand": torch.tensor([0, 1, 5]), "text": torch.tensor([3, 4, 2])}
    split = PairedSplit(both, index, torch.tensor([0, 1, 2]))
    assert split.shapes == {"hand": (1, 2, 2), "text": (3,)}
    assert split.symbols == {"text": 5}
    batch = split.batch(torch.tensor([2, 0]))
    assert batch["hand"].dtype == torch.float32 and batch["hand"].max() == 5 / 255
    assert batch["text"].dtype == torch.int64 and batch["text"].tolist() == [[1, 2, 3], [4, 0, 1]]
    assert split.to("cpu").symbols == {"text": 5}
    assert both["text"].select(torch.tensor([1])).symbols == 5


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_an_item_of_symbols_has_any_shape(shape):
    assert Items(torch.zeros(4, *shape).long(), torch.zeros(4).long(), torch.arange(4), 2).shape == shape


@pytest.mark.parametrize(
    ("values", "symbols", "message"),
    [
        (
            torch.zeros(6, 3),
            5,
            r"values is torch.float32 of shape \(6, 3\); expected torch.int64 .* \(N, ...\)",
        ),
        (torch.tensor(1), 5, "values is torch.int64 of shape"),
        (torch.full((6, 3), 5), 5, "values are symbols 5 to 5; expected 0 to 4"),
        (torch.full((6, 3), -1), 5, "values are symbols -1 to -1; expected 0 to 4"),
        (torch.zeros(6, 3).long(), 0, "symbols is 0; expected an integer of at least 1"),
        (torch.zeros(6, 3).long(), None, "values is torch.int64 .* expected torch.uint8"),
    ],
)
def test_impossible_symbols_are_refused(values, symbols, message):
    with pytest.raises(ValueError, match=message):
        Items(values, torch.tensor(LABELS), torch.arange(6), symbols)


def test_features_stay_as_they_are():
    features = torch.tensor([[-1.5, 300.0], [0.0, 2.0], [1.0, 1.0]])
    items = Items(features, torch.tensor([4, 4, 5]), torch.arange(3))
    assert items.shape == (2,)
    assert torch.equal(items.batch(torch.tensor([2, 0])), features[[2, 0]])
    assert torch.equal(items.select(torch.tensor([1])).values, features[1:2])
