"""Options of every kind, right and wrong."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from mmlib.checks import look_up, one_of, positive, real, unknown, whole

NO_NUMBERS = [
    "3",
    b"3",
    None,
    [3],
    True,
    np.True_,
    torch.tensor(3),
    np.array(3),
    1 + 0j,
    int,
    math.nan,
    math.inf,
]


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.int8(3)])
def test_integers_of_numpy_are_integers(value):
    assert type(whole("k", value)) is int and whole("k", value) == 3
    assert type(positive("scale", value)) is float


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), np.float16(0.5), Fraction(1, 2)])
def test_floats_of_numpy_are_floats_and_no_integers(value):
    assert type(positive("scale", value)) is float and positive("scale", value) == 0.5
    with pytest.raises(ValueError, match="k is .*; expected an integer of at least 1"):
        whole("k", value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 10**400, 0, -1, np.float32(-1)])
def test_what_is_no_positive_number_is_refused(value):
    with pytest.raises(ValueError, match="scale is .*; expected a positive number"):
        positive("scale", value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 2.0, np.float64(2), 0, -1])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(ValueError, match="k is .*; expected an integer of at least 1"):
        whole("k", value)


def test_ranges_are_said_as_they_are():
    assert whole("seed", 0, 0) == 0 and whole("bits", 8, 1, 8) == 8
    assert real("beta", 0, 0.0) == 0 and real("shift", -2.5) == -2.5 and real("share", 1, 0, 1) == 1
    for call, message in (
        (lambda: whole("bits", 9, 1, 8), "bits is 9; expected an integer from 1 to 8"),
        (lambda: real("shift", math.inf), "shift is inf; expected a finite number"),
        (lambda: real("beta", -1e-9, 0.0), "beta is -1e-09; expected a number of at least 0"),
        (lambda: real("share", 1.1, 0, 1), "share is 1.1; expected a number from 0 to 1"),
        (lambda: real("decay", 1.0, 0, 1, open=True), "decay is 1.0; expected a number between 0 and 1"),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == message


def test_names_and_switches():
    assert one_of("loss", "b", ("a", "b")) == "b" and one_of("learn", False, (True, False)) is False
    for value in ("c", None, ["a"], torch.tensor([1, 2]), {"a": 1}):
        with pytest.raises(ValueError, match="loss is .*; expected one of a, b"):
            one_of("loss", value, ("a", "b"))
    with pytest.raises(ValueError, match="learn is 'no'; expected one of True, False"):
        one_of("learn", "no", (True, False))


MANY = {f"hand-street-{name}": name for name in "abcdefghijklmnop"} | {"hand-street-mvae": 1}


def test_an_unknown_name_is_told_the_nearest_one_or_all_of_a_few():
    assert look_up("recipe", "hand-street-mvae", MANY) == 1
    with pytest.raises(ValueError) as caught:
        look_up("recipe", "hand-stret-mvae", MANY, "python -m mmlib recipes")
    assert str(caught.value).startswith(
        "recipe is 'hand-stret-mvae'; expected one of 17 names that python -m mmlib recipes lists, such as "
    )
    assert "hand-street-mvae" in str(caught.value) and len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="recipe is 'zzz'; expected one of 17 names$"):
        look_up("recipe", "zzz", MANY)
    for name in ("trian", ["train"], None, 3):
        with pytest.raises(ValueError, match="expected one of train, test$"):
            look_up("split", name, {"train": 0, "test": 1})
    assert str(unknown("recipe", "a", [])) == "recipe is 'a'; expected one of none"
