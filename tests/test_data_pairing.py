"""Pairing many to many, and subsets taken before pairing."""

import pytest
import torch

from mmlib.data import Items
from mmlib.data.pairing import first_fraction, pair_by_class, paired_split, partially_paired

# Images of each digit 0-9 in the official files: counted in MNIST's label files; SVHN's as its page and torchvision's
# label arrays give them ("10" is 0). Totals 60,000, 73,257, 10,000 and 26,032.
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
SVHN_TRAIN = [4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
SVHN_TEST = [1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595]


def labels_of(sizes, seed=0):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


def unimodal(labels, original=None):
    labels = torch.as_tensor(labels)
    n = len(labels)
    original = torch.arange(n) if original is None else torch.as_tensor(original)
    return Items(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), labels, original)


@pytest.mark.parametrize(
    ("first", "second", "kept"), [(MNIST_TRAIN, SVHN_TRAIN, 56_068), (MNIST_TEST, SVHN_TEST, 10_000)]
)
def test_the_official_files_give_the_published_number_of_pairs(first, second, kept):
    index = pair_by_class({"mnist": labels_of(first), "svhn": labels_of(second, 1)})
    assert {name: len(rows) for name, rows in index.items()} == {"mnist": kept, "svhn": kept}
    assert len(index["mnist"].unique()) == len(index["svhn"].unique()) == kept  # dm = 1: one to one


def test_dm_repeats_every_kept_item_dm_times():
    labels = {"a": labels_of([5, 9, 4]), "b": labels_of([7, 3, 4], 1)}
    index = pair_by_class(labels, dm=6, generator=torch.Generator().manual_seed(0))
    for name, rows in index.items():
        assert len(rows) == 6 * (5 + 3 + 4)
        counts = torch.bincount(rows, minlength=len(labels[name]))
        assert set(counts.tolist()) <= {0, 6}
    assert torch.equal(labels["a"][index["a"]], labels["b"][index["b"]])


def test_the_first_items_of_each_class_are_kept():
    labels = {"a": torch.tensor([1, 0, 1, 1, 0, 1]), "b": torch.tensor([0, 1, 1])}
    index = pair_by_class(labels)
    assert sorted(index["a"].tolist()) == [
        0,
        1,
        2,
    ]  # classes 1, 0, 1: two ones and one zero have partners in b
    assert sorted(index["b"].tolist()) == [0, 1, 2]


def test_max_d_limits_each_class():
    index = pair_by_class({"a": labels_of([5, 9, 4]), "b": labels_of([7, 3, 4], 1)}, max_d=4, dm=2)
    assert len(index["a"]) == 2 * (4 + 3 + 4)


def test_partners_vary_between_repetitions():
    zeros = torch.zeros(50, dtype=torch.int64)
    index = pair_by_class({"a": zeros, "b": zeros}, dm=20, generator=torch.Generator().manual_seed(0))
    partners = {(a, b) for a, b in zip(index["a"].tolist(), index["b"].tolist(), strict=True)}
    # 1000 draws of 2500 possible pairs leave 2500 (1 - exp(-0.4)) = 824 distinct ones, give or take 20
    assert len(partners) > 700


def test_any_first_rows_mix_the_classes():
    index = pair_by_class({"a": labels_of([100] * 10), "b": labels_of([100] * 10, 1)})
    assert len(labels_of([100] * 10)[index["a"][:50]].unique()) >= 8


def test_pairing_works_for_three_modalities_and_skips_classes_that_one_lacks():
    labels = {"a": torch.tensor([0, 1, 2]), "b": torch.tensor([2, 1, 1]), "c": torch.tensor([1, 2, 5])}
    index = pair_by_class(labels)
    assert sorted(labels["a"][index["a"]].tolist()) == [1, 2]
    assert all(torch.equal(labels[name][rows], labels["a"][index["a"]]) for name, rows in index.items())


def test_pairing_follows_the_generator():
    labels = {"a": labels_of([30, 30]), "b": labels_of([30, 30], 1)}
    first, again, other = (
        pair_by_class(labels, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)
    )
    assert torch.equal(first["a"], again["a"]) and torch.equal(first["b"], again["b"])
    assert not torch.equal(first["a"], other["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dm": 0}, "dm is 0; expected an integer of at least 1"),
        ({"dm": 1.5}, "dm is 1.5"),
        ({"dm": "3"}, "dm is '3'"),
        ({"dm": None}, "dm is None"),
        ({"max_d": float("inf")}, "max_d is inf"),
        ({"max_d": 0}, "max_d is 0"),
    ],
)
def test_bad_pairing_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pair_by_class({"a": torch.zeros(2, dtype=torch.int64)}, **options)


def test_labels_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="no class occurs in every modality"):
        pair_by_class({"a": torch.tensor([0, 1]), "b": torch.tensor([2, 3])})
    with pytest.raises(ValueError, match="no class occurs in every modality"):
        pair_by_class({})
    with pytest.raises(ValueError, match=r"labels\['a'\] is not a torch.int64 tensor"):
        pair_by_class({"a": torch.tensor([0.0])})


def test_a_fraction_is_the_first_part_of_the_set():
    kept = first_fraction(unimodal([5, 6, 7, 8, 9, 5, 6, 7, 8, 9]), 0.3)
    assert kept.labels.tolist() == [5, 6, 7] and kept.original.tolist() == [0, 1, 2]


def test_a_fraction_keeps_whole_originals():
    original = [40, 10, 30, 40, 20, 10, 30, 20]  # first seen in the order 40, 10, 30, 20
    kept = first_fraction(unimodal([0] * 8, original), 0.5)
    assert kept.original.tolist() == [40, 10, 40, 10]


def test_a_fraction_is_taken_before_pairing():
    a, b = unimodal(labels_of([40, 60])), unimodal(labels_of([50, 50], 1))
    split = paired_split({"a": a, "b": b}, dm=3, fraction=0.2)
    assert len(split.items["a"]) == len(split.items["b"]) == 20
    class_sizes = [torch.bincount(item.labels[:20], minlength=2) for item in (a, b)]
    assert len(split) == 3 * int(torch.minimum(*class_sizes).sum())
    assert int(split.index["a"].max()) < 20


def test_all_of_the_data_is_the_data():
    whole = unimodal(labels_of([3, 3]))
    assert first_fraction(whole, 1.0) is whole
    assert len(first_fraction(whole, 0.01)) == 1  # never nothing


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match=r"fraction is .*; expected a share in \(0, 1\]"):
        first_fraction(unimodal([0, 1]), fraction)


def test_partly_paired_rows_show_what_the_scheme_says():
    def split(**options):
        items = {"a": unimodal(labels_of([400, 600])), "b": unimodal(labels_of([500, 500], 1))}
        return paired_split(items, generator=torch.Generator().manual_seed(0), **options)

    assert split(paired=1.0).observed is None
    always = split(paired=0.25, always="b")
    whole = always.observed["a"] & always.observed["b"]
    assert int(whole.sum()) == round(0.25 * len(always)) == 225
    assert always.observed["b"].all()
    dealt = split(paired=0.25)
    counts = [
        int((seen & ~(dealt.observed["a"] & dealt.observed["b"])).sum()) for seen in dealt.observed.values()
    ]
    assert int((dealt.observed["a"] & dealt.observed["b"]).sum()) == 225
    assert (
        max(counts) - min(counts) <= 1 and sum(counts) == len(dealt) - 225
    )  # each lost row shows exactly one
    seen = [dealt.index[name][dealt.observed[name]] for name in "ab"]
    assert all(
        len(items.unique()) == len(items) for items in seen
    )  # one to one: nobody's partner is shown elsewhere
    assert not torch.equal(dealt.labels[dealt.observed["a"]], dealt.labels.sort().values[: len(seen[0])])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paired": 0.0}, "paired is 0.0; expected a share in"),
        ({"paired": 1.5}, "paired is 1.5; expected a share in"),
        ({"paired": 0.5, "always": "c"}, "always is 'c'; expected one of a, b"),
    ],
)
def test_impossible_schemes_are_refused(options, message):
    items = {name: unimodal(labels_of([4, 4])) for name in "ab"}
    with pytest.raises(ValueError, match=message):
        paired_split(items, **options)
    whole = paired_split(items)
    with pytest.raises(ValueError, match="split already misses modalities"):
        partially_paired(whole.with_missing(0.5), 0.5)
