"""YAML that cannot be read is named."""

import pytest

from mmlib.files import read_yaml


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
