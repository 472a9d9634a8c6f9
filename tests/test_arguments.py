"""Arguments are refused in the same words everywhere; YAML that cannot be read is named."""

import numpy as np
import pytest

from mmlib.arguments import look_up, unknown, whole
from mmlib.files import read_yaml

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


def test_whole_numbers_of_python_and_numpy():
    for value in (3, np.int64(3), np.uint8(3)):
        assert type(whole("k", value)) is int and whole("k", value) == 3
    for value in (0, -1, True, np.True_, 1.0, np.float64(1), "1", None, [1]):
        with pytest.raises(ValueError, match="k is .*; expected an integer of at least 1"):
            whole("k", value)
    assert whole("seed", 0, least=0) == 0


@pytest.mark.parametrize(
    "data", [b"- [", b"\t- x: [\n", b"\xff\xfe[\x001\x00]\x00", b"\xff", b"- 2021-13-45", b"[" * 9999]
)
def test_yaml_that_cannot_be_read_is_named(tmp_path, data):
    path = tmp_path / "rows.yaml"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"rows.yaml cannot be read as YAML: ."):
        read_yaml(path)


def test_yaml_that_can_be_read(tmp_path):
    path = tmp_path / "rows.yaml"
    for data, content in ((b"", None), (b"\xef\xbb\xbf- {a: 1}", [{"a": 1}]), ("- ä".encode(), ["ä"])):
        path.write_bytes(data)
        assert read_yaml(path) == content
