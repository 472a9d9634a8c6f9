"""Curves of what training measured."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mmlib.plots.style import LINES, colour, look
from mmlib.train.history import History


def history_curves(
    history: History | Mapping[str, History],
    columns: str | Sequence[str],
    ylabel: str = "nats",
    title: str = "",
    labels: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Columns of one history, or of several side by side, against the training step.

    ``history`` is what ``fit`` returned, or label -> history; the label or the column decides the look, see
    :func:`mmlib.plots.look`. The legend calls the columns by their ``labels``, if they have any.

    Raises:
        ValueError: if a history does not have a column.
    """
    columns = [columns] if isinstance(columns, str) else list(columns)
    runs = history if isinstance(history, Mapping) else {"": history}
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 2.8))
    for label, run in runs.items():
        for i, column in enumerate(columns):
            name = (labels or {}).get(column, column)
            text = ", ".join(part for part in (label, name if len(columns) > 1 or not label else "") if part)
            style = look(label or column) | {"markevery": max(1, len(run) // 12), "label": text}
            if len(columns) > 1 and (label or style["color"] == colour("loss")):
                style["linestyle"] = LINES[i % 4]
            ax.plot(run.steps(column), run.column(column), **style)
    ax.set(xlabel="training step", ylabel=ylabel)
    if title:
        ax.set_title(title)
    if len(runs) * len(columns) > 1:
        ax.legend()
    return ax
