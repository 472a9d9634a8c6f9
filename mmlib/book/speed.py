"""What a training step costs, as ``data/speed.yaml`` has it."""

from mmlib.files import REPOSITORY, read_yaml

SPEED = REPOSITORY / "data" / "speed.yaml"


def measured(table: str) -> tuple[list[dict], str]:
    """The rows of a table of ``tests/bench.py``, and where and when they were measured; none before that."""
    found = read_yaml(SPEED).get(table)
    return (found["rows"], f"{found['hardware']}, {found['date']}") if found else ([], "")
