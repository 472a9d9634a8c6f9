"""Data of one's own: tensors, tables and folders of images as splits that everything takes."""

import json

import numpy as np
import pandas
import pytest
import torch
from PIL import Image
from test_every_model import Encoder, build
from torch import nn
from toy import weights

from mmlib import plots
from mmlib.data import TensorSplit, from_folder, from_frame, from_tensors
from mmlib.metrics import train_classifiers
from mmlib.modality import Modality, NormalLikelihood
from mmlib.models import MODELS, MVAE
from mmlib.seeding import generator
from mmlib.train import Paused, fit, fit_adversarial

N = 12
NAN = float("nan")


def tensors(n=N):
    draw = generator(0)
    return {
        "a": torch.randn(n, 3, generator=draw),
        "word": torch.randint(5, (n, 2), generator=draw),
        "photo": torch.randint(256, (n, 1, 4, 4), generator=draw, dtype=torch.uint8),
    }


HIDDEN = {"a": torch.arange(N) % 3 != 0}


def split(**options):
    return TensorSplit(tensors(), **options)


def rows(*numbers):
    return torch.tensor(numbers)


# --- a split --------------------------------------------------------------------------------------------------------


def test_numbers_stay_symbols_are_int64_and_images_are_pixels():
    given, own = tensors(), split()
    batch = own.batch(rows(4, 1))
    assert torch.equal(batch["a"], given["a"][[4, 1]])
    assert torch.equal(batch["word"], given["word"][[4, 1]]) and batch["word"].dtype == torch.int64
    # float32 division, in place or not, rounds alike
    assert torch.equal(batch["photo"], given["photo"][[4, 1]].float() / 255)
    assert own.shapes == {"a": (3,), "word": (2,), "photo": (1, 4, 4)} and own.names == list(own.shapes)
    assert own.symbols == {"word": int(given["word"].max()) + 1} and split(symbols={"word": 9}).symbols == {
        "word": 9
    }
    assert len(own) == N and own.mask(rows(0)) is None and own.labels is None
    batch["photo"].zero_()
    assert torch.equal(own.tensors["photo"], given["photo"])


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16, bool])
def test_any_integer_is_a_symbol_and_no_array_is_shared(dtype):
    array = np.array([0, 1, 1]).astype(dtype)
    own = TensorSplit({"x": array})
    array[:] = 0
    assert own.batch(rows(0, 1, 2))["x"].tolist() == [0, 1, 1]
    assert own.symbols == {"x": 2} and own.shapes == {"x": ()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_point_keeps_its_precision(dtype):
    array = np.array([0.1, 0.2], dtype)
    array.flags.writeable = False  # as those of pandas are
    found = TensorSplit({"x": array}).batch(rows(0, 1))["x"]
    assert found.numpy().dtype == dtype and np.array_equal(found.numpy(), array)


def test_a_split_gives_all_rows_where_none_are_named_and_says_what_it_holds():
    seen = torch.tensor([True, False, True])
    split = TensorSplit(
        {"x": torch.randn(3, 2), "word": [2, 0, 1]}, observed={"x": seen}, original=torch.tensor([7, 8, 9])
    )
    everyone = torch.arange(3)
    for name, x in split.batch(everyone).items():
        assert torch.equal(split.batch()[name], x)
        assert torch.equal(split.mask()[name], split.mask(everyone)[name])
        assert split.original(name).tolist() == [7, 8, 9]
    assert repr(split).splitlines() == [
        "TensorSplit of 3 rows",
        "  x: numbers (2,), 2 observed",
        "  word: 3 symbols (), 3 observed",
    ]


def test_a_mask_hides_rows_and_names_left_out_are_observed():
    mask = split(observed=HIDDEN).mask(rows(3, 4))
    assert {name: seen.tolist() for name, seen in mask.items()} == {
        "a": [False, True],
        "word": [True, True],
        "photo": [True, True],
    }
    assert split(observed={"a": torch.ones(N, dtype=torch.bool)}).observed is None


def test_a_row_with_any_nan_does_not_observe_the_modality_when_nan_means_missing():
    given = tensors()
    given["a"][2, 1], given["a"][7] = NAN, NAN
    own = TensorSplit(given, missing="nan", observed={"word": torch.arange(N) != 5})
    assert (~own.observed["a"]).nonzero().flatten().tolist() == [2, 7]
    assert (~own.observed["word"]).nonzero().flatten().tolist() == [5]
    assert torch.equal(own.batch(rows(2, 7))["a"], given["a"][[2, 7]].nan_to_num(0))
    scalars = TensorSplit({"x": torch.tensor([1.0, NAN]), "y": torch.zeros(2)}, missing="nan")
    assert scalars.observed["x"].tolist() == [True, False]
    symbols = {"a": torch.zeros(2), "word": torch.tensor([-9, 3])}
    assert TensorSplit(symbols, {"word": torch.tensor([False, True])}).symbols == {"word": 4}
    hidden = TensorSplit(given, observed={"a": ~given["a"].isnan().any(1)})  # said by a mask: it may be NaN
    assert torch.isfinite(hidden.batch(torch.arange(N))["a"]).all()


def test_select_to_and_with_missing_keep_everything_else():
    facts = {"labels": torch.arange(N) % 4, "original": torch.arange(N) // 2, "symbols": {"word": 7}}
    own = split(observed=HIDDEN, **facts)
    for part, place in ((own.select(rows(5, 0, 3)), [5, 0, 3]), (own.select(torch.arange(N) < 2), [0, 1])):
        n = torch.arange(len(place))
        assert all(torch.equal(x, own.batch(rows(*place))[name]) for name, x in part.batch(n).items())
        assert all(torch.equal(x, own.mask(rows(*place))[name]) for name, x in part.mask(n).items())
        assert torch.equal(part.labels, own.labels[place]) and part.symbols == {"word": 7}
        assert torch.equal(part.original("a", n), own.original("word", rows(*place)))
    moved = own.to("cpu")
    assert torch.equal(moved.observed["a"], HIDDEN["a"]) and torch.equal(moved.labels, own.labels)
    holes = split(**facts).with_missing(0.5, generator(0), may_miss=["a"])
    assert int((~holes.observed["a"]).sum()) == N // 2 and holes.observed["photo"].all()
    assert torch.equal(holes.tensors["a"], own.tensors["a"]) and holes.symbols == {"word": 7}
    assert split().original("a", rows(3, 1)).tolist() == [3, 1]
    with pytest.raises(ValueError, match="split already misses modalities; expected complete rows"):
        own.with_missing(0.5)


def test_what_is_complete_after_selecting_has_no_mask():
    assert split(observed=HIDDEN).select(HIDDEN["a"]).observed is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensors": {}}, "tensors is of type dict; expected tensors"),
        ({"tensors": torch.zeros(3)}, "tensors is of type Tensor of shape"),
        (
            {"tensors": {"a": torch.zeros(3, 1), "b": torch.zeros(4)}},
            r"tensors\['b'\] has 4 rows; expected 3 as",
        ),
        ({"tensors": {"a": torch.zeros(0, 1)}}, r"tensors\['a'\] has 0 rows; expected at least one"),
        ({"tensors": {"a": np.array(["x", None])}}, r"tensors\['a'\] is of dtype object; expected numbers"),
        ({"tensors": {"a": [[1.0], [1.0, 2.0]]}}, r"tensors\['a'\] is a list; expected numbers"),
        ({"tensors": {"a": "word"}}, r"tensors\['a'\] is 'word'; expected a tensor"),
        ({"tensors": {"a": torch.tensor(1.0)}}, r"tensors\['a'\] is torch.float32 of shape \(\); expected"),
        ({"tensors": {"a": torch.zeros(2, dtype=torch.complex64)}}, r"tensors\['a'\] is torch.complex64"),
        (
            {"tensors": {"a": torch.zeros(2, 3, dtype=torch.uint8)}},
            r"expected images \[N, C, H, W\], or .float",
        ),
        (
            {"tensors": {"a": torch.zeros(2, 8, 8, 3, dtype=torch.uint8)}},
            r"expected images \[N, C, H, W\]: .permute\(0, 3, 1, 2\)",
        ),
        (
            {"tensors": {"a": torch.tensor([0.0, NAN])}},
            r"\['a'\] has NaN or infinity in row 1; .*missing='nan'",
        ),
        (
            {"tensors": {"a": torch.tensor([NAN, torch.inf]), "b": torch.zeros(2)}, "missing": "nan"},
            "NaN or infinity in row 1",
        ),
        ({"tensors": {"a": torch.tensor([0, -1])}}, r"\['a'\] has symbols -1 to 0; expected symbols from 0"),
        ({"symbols": {"word": 2}}, r"\['word'\] has symbols 0 to 4; expected 0 to 1"),
        ({"symbols": {"word": 2.5}}, r"symbols\['word'\] is 2.5"),
        ({"symbols": {"a": 2}}, "symbols names 'a', which is torch.float32; expected int64"),
        ({"symbols": {"sound": 2}}, "symbols names 'sound'; the modalities are a, word, photo"),
        ({"observed": {"sound": HIDDEN["a"]}}, "observed names 'sound'; the modalities are"),
        ({"observed": {"a": HIDDEN["a"][:3]}}, r"observed\['a'\] is torch.bool of shape \(3,\); expected"),
        ({"observed": {"a": torch.ones(N)}}, r"observed\['a'\] is torch.float32"),
        (
            {"tensors": {"a": torch.zeros(N)}, "observed": HIDDEN},
            "4 rows of tensors observe no modality, .* row 0",
        ),
        ({"labels": torch.zeros(3).long()}, r"labels is torch.int64 of shape \(3,\); expected .*\(12\)"),
        ({"labels": torch.zeros(N)}, "labels is torch.float32"),
        ({"original": torch.zeros(3).long()}, "original is torch.int64 of shape"),
        ({"missing": "none"}, "missing is 'none'; expected one of nan"),
    ],
)
def test_what_is_no_data_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        TensorSplit(**{"tensors": tensors(), **options})


# --- training -------------------------------------------------------------------------------------------------------


def two(n=32, hidden=True, dtype=torch.float32):
    x = torch.randn(n, 7, generator=generator(0), dtype=dtype)
    observed = {"a": torch.arange(n) % 4 != 0, "b": torch.arange(n) % 4 != 1} if hidden else None
    return TensorSplit({"a": x[:, :3], "b": x[:, 3:]}, observed)


def made(cls):
    torch.manual_seed(0)
    parts = [
        Modality(n, (s,), Encoder(s), nn.Linear(2, s), NormalLikelihood()) for n, s in (("a", 3), ("b", 4))
    ]
    return build(cls, parts)


@pytest.mark.parametrize("name", MODELS)
def test_a_run_on_tensors_goes_on_to_the_same_bits_and_only_on_the_same_tensors(name, tmp_path):
    options = {"steps": 6, "batch_size": 8, "progress": False, "seed": 1}
    train = fit if hasattr(MODELS[name], "loss") else fit_adversarial
    whole, hidden = made(MODELS[name]), True
    try:
        train(whole, two(), **options)
    except ValueError:  # it needs complete rows
        whole, hidden = made(MODELS[name]), False
        train(whole, two(hidden=False), **options)
    with pytest.raises(Paused):
        train(made(MODELS[name]), two(hidden=hidden), **options, checkpoint_dir=tmp_path, stop=lambda: True)
    changed = two(hidden=hidden)
    changed.tensors["b"][-1, -1] += 1
    with pytest.raises(ValueError, match=r"belongs to another run: split.b is '\w+', expected '\w+'"):
        train(made(MODELS[name]), changed, **options, checkpoint_dir=tmp_path)
    again = made(MODELS[name])
    train(again, two(hidden=hidden), **options, checkpoint_dir=tmp_path)
    assert all(torch.equal(value, weights(whole)[key]) for key, value in weights(again).items())


def test_another_mask_is_another_run(tmp_path):
    options = {"steps": 2, "batch_size": 8, "progress": False, "checkpoint_dir": tmp_path}
    fit(made(MVAE), two(), **options)
    with pytest.raises(ValueError, match="belongs to another run: split.a is"):
        fit(made(MVAE), two(hidden=False), **options)


# --- a data set of tensors ------------------------------------------------------------------------------------------


def tables(n=100):
    x = torch.randn(n, 4, generator=generator(0))
    return {"a": 5 + 3 * x[:, :2], "b": x[:, 2:], "word": torch.arange(n) % 3}


def test_rows_are_dealt_out_once_by_seed_with_classes_in_their_shares():
    labels = torch.arange(100) // 50
    data = from_tensors(tables(), labels, shares=(0.5, 0.3, 0.2), seed=4)
    sizes = {name: len(part) for name, part in data.splits.items()}
    assert sizes == {"train": 50, "validation": 30, "test": 20} == data.provenance["rows"]
    places = torch.cat([part.original("a", torch.arange(len(part))) for part in data.splits.values()])
    assert torch.equal(
        torch.cat([part.batch(torch.arange(len(part)))["a"] for part in data.splits.values()]).sort(0)[0],
        tables()["a"].sort(0)[0],
    )
    assert len(places) == 100
    for part in data.splits.values():
        assert torch.bincount(part.labels).tolist() == [len(part) // 2] * 2
        assert part.labels.unique_consecutive().numel() > 3  # the first rows of a split mix the classes
    same, other = (from_tensors(tables(), labels, shares=(0.5, 0.3, 0.2), seed=seed) for seed in (4, 5))
    assert torch.equal(same.test.tensors["a"], data.test.tensors["a"])
    assert not torch.equal(other.test.tensors["a"], data.test.tensors["a"])
    assert data.shapes == {"a": (2,), "b": (2,), "word": ()} and data.symbols == {"word": 3}


def test_rows_of_one_original_are_in_one_split_and_cluster():
    original = [f"patient {i % 20}" for i in range(100)]
    data = from_tensors(tables() | {"who": torch.arange(100) % 20}, original=original)
    found = [set(part.tensors["who"].tolist()) for part in data.splits.values()]
    assert [len(who) for who in found] == [12, 4, 4] and len(set.union(*found)) == 20
    part = data.test
    sources = part.original("a", torch.arange(len(part)))
    assert len(sources.unique()) == 4
    assert all(len(part.tensors["who"][sources == s].unique()) == 1 for s in sources.unique())


def test_symbols_of_all_splits_are_those_of_all_rows():
    data = from_tensors({"x": torch.arange(10)})
    assert [part.symbols for part in data.splits.values()] == [{"x": 10}] * 3
    assert from_tensors({"x": torch.arange(10)}, symbols={"x": 12}).symbols == {"x": 12}


def test_text_labels_become_classes_and_provenance_is_json():
    names = ["cat", "ant", "bee", "ant"] * 25
    data = from_tensors(tables(), names, observed={"a": torch.arange(100) > 3}, standardise=["a"])
    assert data.provenance["classes"] == ["ant", "bee", "cat"]
    assert data.provenance["missing"] == {"a": 4, "b": 0, "word": 0}
    assert json.loads(json.dumps(data.provenance)) == data.provenance
    assert sorted(torch.cat([part.labels for part in data.splits.values()]).tolist()) == sorted(
        {"ant": 0, "bee": 1, "cat": 2}[name] for name in names
    )


def test_provenance_tells_data_apart():
    labels = torch.arange(100) % 2
    changed = tables() | {"a": tables()["a"] + 1e-6}
    kinds = [from_tensors(tables()), from_tensors(tables(), labels), from_tensors(changed)]
    kinds.append(from_tensors(tables(), observed={"a": torch.arange(100) > 3}))
    assert len({data.provenance["sha256"] for data in kinds}) == 4


def test_standardising_uses_the_training_rows_that_observe_and_nothing_else():
    x = tables()["a"].double()
    x[:, 1] = 1.0
    observed = torch.arange(100) % 5 != 0
    x[~observed] = 1e9
    data = from_tensors({"a": x, "b": tables()["b"]}, observed={"a": observed}, standardise=True)
    plain = from_tensors({"a": x, "b": tables()["b"]}, observed={"a": observed})
    seen, raw = data.train.observed["a"], plain.train.tensors["a"]
    shown = data.train.tensors["a"][seen]
    # float64: rounding of sums of some 50 numbers
    torch.testing.assert_close(shown.mean(0), torch.zeros(2).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        shown.std(0, correction=0), torch.tensor([1.0, 0.0]).double(), atol=1e-12, rtol=0
    )
    used = data.provenance["standardised"]["a"]
    assert used["mean"] == raw[seen].mean(0).tolist() and used["sd"][1] == 1.0
    back = data.test.tensors["a"] * torch.tensor(used["sd"]) + torch.tensor(used["mean"])
    torch.testing.assert_close(back, plain.test.tensors["a"])
    assert list(data.provenance["standardised"]) == ["a", "b"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_never_changes_is_divided_by_1_whatever_rounding_makes_of_its_standard_deviation(dtype):
    values = [0.0, 0.1, 0.7, 123.456, 1000.1, -1e6 / 3]
    constants = {f"x{i}": torch.full((100,), value, dtype=dtype) for i, value in enumerate(values)}
    assert any(x[:60].std() > 0 for x in constants.values())
    nearly = torch.where(torch.arange(100) % 2 == 0, 1000.0, 1000.1).to(dtype)
    data = from_tensors({**constants, "nearly": nearly}, torch.arange(100) % 2, standardise=True)
    sd = {name: scale["sd"] for name, scale in data.provenance["standardised"].items()}
    # float32 knows 1000.1 to 3e-5
    assert sd.pop("nearly") == pytest.approx(0.05, abs=1e-4) and set(sd.values()) == {1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": (0.5, 0.5)}, r"shares is \(0.5, 0.5\); expected three"),
        ({"shares": (0.5, 0.4, 0.2)}, "which sum to 1.1; expected 1"),
        ({"shares": (1.0, 0.0, 0.0)}, "shares is 1.0; expected a number between 0 and 1"),
        ({"shares": (0.99, 0.005, 0.005)}, "leaves test without rows"),
        ({"seed": -1}, "seed is -1"),
        ({"standardise": ["word"]}, "standardise is 'word'; expected one of a, b"),
        ({"labels": torch.zeros(5).long()}, r"labels is torch.int64 of shape \(5,\); expected"),
        ({"labels": ["x"] * 5}, r"labels is torch.int64 of shape \(5,\); expected"),
        ({"labels": [0.5] * 100}, "labels is of type list; expected .* all integers or all text"),
        ({"labels": ["x", None] * 50}, "labels is of type list; expected .* all integers or all text"),
    ],
)
def test_impossible_options_of_a_data_set_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        from_tensors(tables(), **options)


# --- a table --------------------------------------------------------------------------------------------------------


def frame(n=40):
    i = np.arange(n)
    return pandas.DataFrame(
        {
            "height": i + 0.5,
            "age": i,
            "town": np.where(i % 2, "Rome", "Bonn"),
            "size": pandas.Categorical(np.where(i % 3, "small", "large"), ["small", "large", "medium"]),
            "smokes": i % 4 == 0,
            "who": i // 2,
            "ill": np.where(i % 2, "yes", "no"),
        }
    )


COLUMNS = {"body": ["height", "age"], "town": "town", "size": ["size"], "smokes": "smokes"}


def everything(data):
    """All rows of all splits, in the order of their heights."""
    parts = [part.batch(torch.arange(len(part))) for part in data.splits.values()]
    joined = {name: torch.cat([part[name] for part in parts]) for name in data.shapes}
    return joined, joined["body"][:, 0].argsort()


def test_columns_become_vectors_and_symbols():
    data = from_frame(frame(), COLUMNS, labels="ill", original="who", seed=1)
    joined, order = everything(data)
    assert data.shapes == {"body": (2,), "town": (), "size": (), "smokes": ()}
    assert data.symbols == {"town": 2, "size": 3, "smokes": 2}
    assert data.provenance["categories"] == {
        "town": ["Bonn", "Rome"],
        "size": ["small", "large", "medium"],
        "smokes": ["False", "True"],
    }
    assert joined["body"].dtype == torch.float32
    assert joined["body"][order].tolist() == [[i + 0.5, i] for i in range(40)]
    assert joined["town"][order].tolist() == [i % 2 for i in range(40)]
    assert joined["size"][order].tolist() == [0 if i % 3 else 1 for i in range(40)]
    assert joined["smokes"][order].tolist() == [int(i % 4 == 0) for i in range(40)]
    assert data.provenance["classes"] == ["no", "yes"] and data.provenance["columns"]["town"] == ["town"]
    assert json.loads(json.dumps(data.provenance)) == data.provenance
    assert data.train.observed is None
    assert torch.equal(data.train.labels, data.train.tensors["town"])  # both say whether i is odd
    assert len(data.train.original("body", torch.arange(len(data.train))).unique()) == len(data.train) // 2


def test_missing_cells_hide_the_modality_of_their_row():
    given = frame().astype({"age": "Int64"})
    given.loc[3, "height"], given.loc[5, "age"], given.loc[7, "town"] = np.nan, pandas.NA, None
    given.loc[9, "size"] = np.nan
    given["row"] = np.arange(40)
    data = from_frame(given, {**COLUMNS, "who": "row"}, shares=(0.8, 0.1, 0.1))
    assert data.provenance["missing"] == {"body": 2, "town": 1, "size": 1, "smokes": 0, "who": 0}
    assert data.symbols["town"] == 2 and data.provenance["categories"]["town"] == ["Bonn", "Rome"]
    hidden = {name: set() for name in data.shapes}
    for part in data.splits.values():
        batch = part.batch(torch.arange(len(part)))
        assert all(torch.isfinite(x).all() and int(x.min()) >= 0 for x in batch.values())
        mask = part.mask(torch.arange(len(part))) or {}
        for name, seen in mask.items():
            hidden[name] |= set(part.tensors["who"][~seen, 0].tolist())
    assert hidden == {"body": {3, 5}, "town": {7}, "size": {9}, "smokes": set(), "who": set()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": {"a": [1]}}, "frame is of type dict, without columns; expected a pandas frame"),
        ({"columns": ["height"]}, "columns is of type list; expected columns"),
        ({"columns": {"body": ["hight"]}}, r"columns\['body'\] is 'hight'; expected one of height, age"),
        ({"columns": {"body": []}}, r"columns\['body'\] is \[\]; expected"),
        ({"columns": {"body": ["height", "town"]}}, r"is \['height', 'town'\]; expected columns of numbers"),
        ({"columns": {"day": "day"}}, "column 'day' holds datetime64 cells; expected numbers, or names"),
        ({"columns": {"mixed": "mixed"}}, "column 'mixed' holds mixed.* cells; expected"),
        ({"labels": "sick"}, "labels is 'sick'; expected one of"),
        ({"labels": "height"}, "column 'height' holds floating cells; expected integers, or names"),
        ({"labels": "hole"}, "labels: column 'hole' has missing cells"),
        ({"original": "patient"}, "original is 'patient'; expected one of"),
        ({"columns": {"hole": "hole"}}, "40 rows of tensors observe no modality|holds empty cells"),
    ],
)
def test_tables_that_say_nothing_clear_are_refused(change, message):
    given = frame().assign(day=pandas.Timestamp("2020-01-01"), mixed=[1, "x"] * 20, hole=[None] * 40)
    given["mixed"] = given["mixed"].astype(object)
    with pytest.raises(ValueError, match=message):
        from_frame(**{"frame": given, "columns": COLUMNS, **change})


# --- folders of images ----------------------------------------------------------------------------------------------


def save(path, value, mode="RGB", size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def folder(tmp_path):
    for c, label in enumerate(("cat", "ant")):
        for i in range(6):
            save(tmp_path / "photos" / label / ("more" * (i % 2)) / f"{i}.png", (10 * i, 100 * c, 0))
            if i != 2:
                save(tmp_path / "sketches" / label / ("more" * (i % 2)) / f"{i}.bmp", 20 * i + c, "L", (6, 6))
    (tmp_path / "photos" / "cat" / ".hidden").write_text("no image")
    return tmp_path


def test_a_folder_gives_one_modality_with_its_classes(folder):
    data = from_folder(folder / "photos", shares=(0.5, 0.25, 0.25))
    assert data.shapes == {"image": (3, 8, 8)} and data.provenance["classes"] == ["ant", "cat"]
    assert sum(data.provenance["rows"].values()) == 12
    seen = set()
    for part in data.splits.values():
        pixels = part.tensors["image"]
        assert torch.equal(pixels[:, 1, 0, 0] == 100, part.labels == 0)
        seen |= {(int(p[0, 0, 0]), int(p[1, 0, 0])) for p in pixels}
    assert seen == {(10 * i, 100 * c) for i in range(6) for c in (0, 1)}


def test_rows_of_several_folders_are_files_of_one_name(folder):
    paths = {name: folder / name for name in ("photos", "sketches")}
    data = from_folder(paths, size=4, shares=(0.5, 0.25, 0.25))
    assert data.shapes == {"photos": (3, 4, 4), "sketches": (1, 4, 4)}
    assert data.provenance["missing"] == {"photos": 0, "sketches": 2}
    for part in data.splits.values():
        photo, sketch = (part.tensors[name][:, 0, 0, 0].long() for name in paths)
        seen = part.mask(torch.arange(len(part)))
        seen = torch.ones(len(part), dtype=torch.bool) if seen is None else seen["sketches"]
        assert torch.equal(
            sketch[seen], (2 * photo + 1 - part.labels)[seen]
        )  # cat is 0 in colour, 1 in the alphabet
        assert torch.equal(seen, photo != 20)


def test_images_are_scaled_without_stretching_and_grey_only_if_all_are(tmp_path):
    for i in range(4):
        save(tmp_path / "a" / f"{i}.png", 0, "L", (16, 8))
    wide = Image.new("L", (16, 8), 100)
    wide.paste(255, (4, 0, 12, 8))
    wide.save(tmp_path / "a" / "4.png")
    found = from_folder(tmp_path, 4, shares=(0.4, 0.3, 0.3)).splits.values()
    pictures = torch.cat([part.tensors["image"] for part in found])
    assert pictures.shape == (5, 1, 4, 4)
    assert pictures[pictures > 0].min() > 200  # the border at 100 is cut off, but for what blends in
    save(tmp_path / "b" / "colour.png", (255, 0, 0), "RGB", (16, 8))
    assert from_folder(tmp_path, 4, shares=(0.4, 0.3, 0.3)).shapes == {"image": (3, 4, 4)}


def test_judges_and_grids_take_images_of_ones_own(folder):
    data = from_folder(folder / "photos", shares=(0.5, 0.25, 0.25))
    judges = train_classifiers(data, steps=2, cache=False)
    assert judges.predict("image", data.test.batch(rows(0, 1))["image"]).shape == (2,)
    assert plots.image_grid(data.test.batch(rows(0, 1))).images
    hidden = from_folder({name: folder / name for name in ("photos", "sketches")}, size=4)
    counts = [{name: len(item) for name, item in part.items.items()} for part in hidden.splits.values()]
    assert sum(count["sketches"] for count in counts) == 10 and sum(count["photos"] for count in counts) == 12
    with pytest.raises(ValueError, match="'a' is no image"):
        _ = split(labels=torch.zeros(N).long()).items
    with pytest.raises(ValueError, match="the rows have no labels"):
        _ = TensorSplit({"photo": tensors()["photo"]}).items


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "photos/cat/0.png").write_text("x"), "photos/cat/0.png is no image that can be read"),
        (lambda f: (f / "photos/dog").mkdir(), "photos/dog is an empty class; expected images"),
        (
            lambda f: save(f / "photos/cat/9.png", 0, size=(9, 8)),
            "cat/9.png is 9x8 pixels; expected 8x8 as the others",
        ),
        (lambda f: (f / "photos").rename(f / "p"), "photos holds no folders; expected one for each class"),
    ],
)
def test_folders_that_are_no_images_by_class_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        from_folder(folder / "photos")


def test_folders_without_a_common_name_and_two_files_for_a_row_are_refused(folder):
    paths = {"photos": folder / "photos", "others": folder / "others"}
    save(folder / "others" / "cat" / "z.png", 0)
    with pytest.raises(ValueError, match="folders photos, others share no file name"):
        from_folder(paths)
    save(folder / "others" / "cat" / "z.bmp", 0)
    with pytest.raises(ValueError, match=r"z.bmp and .*z.png are one row; expected one file"):
        from_folder(paths)
