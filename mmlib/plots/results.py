"""Measured numbers: curves of training, dots with intervals, and tables beside what the paper reports."""

import html
import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from mmlib.plots.style import LINES, colour, look
from mmlib.summary import Summary
from mmlib.train.history import History


class Table(str):
    """A table that Jupyter and the book show as HTML, and that prints as Markdown."""

    html: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return str(self)


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
    ax.set(xlabel="training step", ylabel=ylabel, title=title)
    if len(runs) * len(columns) > 1:
        ax.legend()
    return ax


def dots(
    rows: Mapping[str, Summary],
    chance: float | None = None,
    xlabel: str = "",
    ax: Axes | None = None,
) -> Axes:
    """One line a row: every seed a small dot, the mean a large one, the 95 % t-interval a bar; n beside it.

    A label decides the look, see :func:`mmlib.plots.look`; ``chance``, where guessing gets, is a dotted line.

    Raises:
        ValueError: if there is no row.
    """
    if not rows:
        raise ValueError("rows is empty; expected at least one")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.6, 0.45 * len(rows) + 1.0))
    if chance is not None:
        ax.axvline(chance, color=look("chance")["color"], linestyle=":", label="chance")
    for y, (label, summary) in enumerate(rows.items()):
        style = look(label)
        if summary.low is not None:
            ax.plot([summary.low, summary.high], [y, y], color=style["color"], linewidth=2.5, alpha=0.5)
        ax.plot(summary.values, [y] * summary.n, linestyle="", marker=".", color=style["color"], alpha=0.6)
        marker = style["marker"] or "o"
        ax.plot([summary.mean], [y], linestyle="", marker=marker, color=style["color"], markersize=8)
    ax.set_yticks(range(len(rows)), [f"{label} (n = {summary.n})" for label, summary in rows.items()])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(xlabel)
    if chance is not None:
        ax.legend()
    return ax


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    percent: bool = True,
    text: Sequence[str] = (),
    caption: str = "",
) -> Table:
    """A table; a cell may be text, None (a dash), or a summary (mean, sd and n): the same text everywhere.

    What stands between backticks is shown as code, in the caption too; summaries are in per cent, unless ``percent``
    is False. The first column and those named in ``text`` are aligned to the left, the others to the right.

    Raises:
        ValueError: if a row does not have one cell for each column.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells; expected {len(header)}: {', '.join(header)}")
    left = [i == 0 or name in text for i, name in enumerate(header)]
    lines = [list(header), *[[cell(content, percent) for content in row] for row in rows]]
    align = [":--" if is_left else "--:" for is_left in left]
    shown = [f"| {' | '.join(line)} |" for line in [lines[0], align, *lines[1:]]]
    made = Table("\n".join([caption, "", *shown] if caption else shown))
    head, *body = [
        "".join(_html(text, is_left, "td" if i else "th") for text, is_left in zip(line, left, strict=True))
        for i, line in enumerate(lines)
    ]
    made.html = (
        '<table class="mm-results">'
        + (f"<caption>{_marked_up(caption)}</caption>" if caption else "")
        + f"<thead><tr>{head}</tr></thead>"
        + f"<tbody>{''.join(f'<tr>{row}</tr>' for row in body)}</tbody></table>"
    )
    return made


def cell(content: object, percent: bool = True) -> str:
    """The text of one cell."""
    if content is None:
        return "–"
    if not isinstance(content, Summary):
        return str(content)
    unit = 100 if percent else 1
    spread = "" if content.sd is None else f" ± {unit * content.sd:.1f}"
    return f"{unit * content.mean:.1f}{spread} ({content.n})"


def _html(text: str, left: bool, tag: str) -> str:
    return f'<{tag} style="text-align: {"left" if left else "right"}">{_marked_up(text)}</{tag}>'


def _marked_up(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
