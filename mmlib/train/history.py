"""What a training run measured: rows of numbers by step."""

from collections.abc import Mapping

import numpy as np

from mmlib.checks import kind, unknown


class History(list):
    """Rows ``{"step": ..., "loss": ..., <part>: ..., <validation metric>: ...}``, JSON-able, in order of step.

    ``wall_seconds`` and ``cpu_seconds`` (of all threads) were spent in the loop, summed over resumptions; ``captured``
    says whether the step was replayed from a CUDA graph.
    """

    wall_seconds = cpu_seconds = 0.0
    captured = False

    def add(self, step: int, values: dict) -> None:
        """Add values measured after ``step`` steps; values of one step share a row. None adds nothing.

        Raises:
            ValueError: for anything but numbers by name; tensors and arrays of one number are numbers.
        """
        if not isinstance(values, Mapping | None):
            raise ValueError(
                f"callback returned {kind(values)}; expected numbers by name, such as {{'loss': 1.5}}"
            )
        if not self or self[-1]["step"] != step:
            self.append({"step": step})
        for name, value in (values or {}).items():
            number = value.item() if getattr(value, "shape", None) == () else value
            if name == "step" or not isinstance(name, str) or not isinstance(number, int | float):
                raise ValueError(
                    f"callback returned {kind(value)} as {name!r}; expected a number by a name of its own"
                )
            self[-1][name] = number

    @property
    def names(self) -> list[str]:
        """Every column but ``step``, in order of appearance."""
        return [name for name in dict.fromkeys(name for row in self for name in row) if name != "step"]

    def column(self, name: str) -> np.ndarray:
        """Values of one column, [rows that have it].

        Raises:
            ValueError: if no row has the column.
        """
        return np.array([row[name] for row in self._rows_with(name)])

    def steps(self, name: str = "step") -> np.ndarray:
        """The steps at which a column was measured: the horizontal axis of :meth:`column`."""
        return np.array([row["step"] for row in self._rows_with(name)])

    def _rows_with(self, name: str) -> list[dict]:
        rows = [row for row in self if name in row]
        if not rows:
            raise unknown("name", name, self.names)
        return rows
