"""Random matchings and the split of what was found among them: by hand, and that nothing leaks."""

import pytest
import torch

from mmlib.data import load
from mmlib.data.batches import derived_generator
from mmlib.data.core import Items
from mmlib.data.matching import left_out, matched, with_found
from mmlib.data.pairing import first_fraction, paired_split

COUNTS = {"left": 40, "right": 46}


def items(copies=2, symbols=None):
    """Items that show their own number; ``copies`` of each original."""
    made = {}
    for at, (name, n) in enumerate(COUNTS.items()):
        number = torch.arange(n)
        values = (number % 7).view(n, 1) if symbols else number.to(torch.uint8).view(n, 1, 1, 1) + 50 * at
        made[name] = Items(values, number // copies % 4, number // copies, symbols)
    return made


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def split(fraction=0.5):
    return paired_split(items(), fraction=fraction, generator=source())


def test_what_is_left_out_shares_no_original_with_what_is_kept():
    everything = items()
    kept = {name: first_fraction(item, 0.3) for name, item in everything.items()}
    rest = left_out(everything, kept)
    for name in everything:
        assert not set(rest[name].original.tolist()) & set(kept[name].original.tolist())
        assert len(rest[name]) + len(kept[name]) == COUNTS[name]
    with pytest.raises(ValueError, match="kept has every original of 'left'; expected some to be left out"):
        left_out(everything, everything)


@pytest.mark.parametrize("partners", [1, 3, 40])
def test_every_item_meets_as_many_partners_once(partners):
    found = matched(items(), partners, source())
    groups = 40 // partners
    for name, rows in found.index.items():
        assert rows.shape == (groups, partners)
        assert len(rows.unique()) == groups * partners and int(rows.max()) < COUNTS[name]
    batches = list(found.batches())
    assert len(batches) == groups and batches[0]["left"].shape == (partners, 1, 1, 1)
    shown = (batches[-1]["right"].flatten() * 255).round().long() - 50
    assert torch.equal(shown, found.index["right"][-1])


def test_related_means_the_same_class():
    found = matched(items(), 3, source())
    for group, i, j in ((0, 0, 0), (4, 1, 2), (12, 2, 0)):
        left, right = int(found.index["left"][group, i]), int(found.index["right"][group, j])
        assert bool(found.related[group, i, j]) == (left // 2 % 4 == right // 2 % 4)
    assert found.related.shape == (13, 3, 3)


def test_matching_is_random_and_seeded():
    one, same, other = (matched(items(), 3, source(seed)) for seed in (0, 0, 1))
    assert torch.equal(one.index["left"], same.index["left"])
    assert not torch.equal(one.index["left"], other.index["left"])
    assert not torch.equal(one.index["left"], torch.arange(39).view(13, 3))


def test_of_ten_balanced_classes_a_tenth_is_related():
    """1,000 x 10 pairs: a standard deviation is 0.3 %."""
    data = load("hand-street", train=1000, validation=10, test=10, fraction=0.1)
    whole = load("hand-street", train=1000, validation=10, test=10)
    rest = left_out(whole.train.items, data.train.items)
    share = float(matched(rest, 10, derived_generator(0)).related.double().mean())
    assert abs(share - 0.1) < 0.015


def test_a_split_and_what_was_found():
    few, everything = split(0.5), items()
    matches = matched(left_out(everything, few.items), 4, source())
    union = with_found(few, matches, matches.related)
    assert len(union) == len(few) + int(matches.related.sum())
    batch = union.batch()
    shown = {n: (x.flatten() * 255).round().long() - 50 * at for at, (n, x) in enumerate(batch.items())}
    for name in few.names:
        assert torch.equal(batch[name][: len(few)], few.batch()[name])
        assert torch.equal(shown[name][: len(few)], few.index[name])
    labels = [shown[name] // 2 % 4 for name in ("left", "right")]
    assert torch.equal(*labels)  # all that is related, and nothing else
    assert len({*zip(shown["left"].tolist(), shown["right"].tolist(), strict=True)}) == len(union)
    unrelated = with_found(few, matches, ~matches.related)
    shown = [(x.flatten()[len(few) :] * 255).round().long() for x in unrelated.batch().values()]
    assert not bool((shown[0] // 2 % 4 == (shown[1] - 50) // 2 % 4).any())
    assert len(with_found(few, matches, torch.zeros_like(matches.related))) == len(few)


def test_symbols_stay_symbols():
    everything = items(symbols=9)
    few = paired_split(everything, fraction=0.5, generator=source())
    matches = matched(left_out(everything, few.items), 2, source())
    union = with_found(few, matches, matches.related)
    assert union.symbols == {"left": 9, "right": 9} and union.batch()["left"].dtype == torch.int64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matched({"left": items()["left"]}), "items has modalities left; expected two"),
        (lambda: matched({}), "items has modalities none; expected two"),
        (lambda: matched(items(), 0), "partners is 0; expected an integer from 1 to 40"),
        (lambda: matched(items(), 41), "partners is 41; expected an integer from 1 to 40"),
        (
            lambda: with_found(split(), matched(items(), 2), torch.zeros(3).bool()),
            "found.* shape .20, 2, 2.",
        ),
        (
            lambda: with_found(
                split().with_missing(0.5, source()), matched(items(), 2), torch.zeros(20, 2, 2).bool()
            ),
            "expected .'left', 'right'., in complete rows",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
