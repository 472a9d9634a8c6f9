"""The table of the whole picture as text: for a terminal, and as Markdown."""

import textwrap
from collections.abc import Sequence

from mmlib.book import whole_picture as picture
from mmlib.book.ledger_text import STYLES, as_markdown, folded
from mmlib.book.whole_picture import Row, interval
from mmlib.checks import one_of

TITLE = "whole-picture: every model of the library, {}, test split"
LEGEND = (
    "A cell is the mean over seeds, [its 95 % t-interval] and (the number of seeds); one seed has no interval. Per "
    "cent, but for log_likelihood (nats), classes_generated (of the classes) and posterior_scales (units of the code)."
)
COSTS = (
    "Seconds and milliseconds are processor time of the recorded trainings, evaluations along the way included, each "
    "on the machine that is named beside it; idle ms and peak MB of a step are from data/speed.yaml ({})."
)
UNITS = {"log_likelihood": 1.0, "classes_generated": 1.0, "posterior_scales": 1.0}  # factor; others: per cent


def table(style: str = "text") -> str:
    """The tables of all data sets, in one of ``STYLES``; ValueError for another."""
    plain = one_of("style", style, STYLES) == "text"
    return "\n\n".join(part for data in picture.MODALITIES for part in _of(data, plain)) + "\n"


def _of(data: str, plain: bool) -> list[str]:
    """The parts of one data set."""
    rows = picture.rows(data)
    shown = [row for row in rows if row.runs]
    parts = [_said(TITLE.format(data), plain, bold=True)]
    parts.append(_said(f"Recorded: {len(shown)} of {len(rows)} rows. {LEGEND}", plain))
    parts += _settings(rows, plain)
    parts += _grid([["", "state"], *([row.label, row.state()] for row in rows)], plain)
    fast, where = picture.bench()
    head = ["", "parameters", "CPU s", "CPU ms a step", "idle ms", "peak MB"]
    lines = [
        [
            row.label,
            f"{row.parameters():,}",
            interval(row.seconds(), 1, 0),
            interval(row.milliseconds(), 1),
            *(_number(fast.get(row.recipe.name, {}).get(key)) for key in ("ms", "mb")),
        ]
        for row in shown
    ]
    parts += [_said(COSTS.format(where), plain), *_grid([head, *lines], plain)]
    for group, paths in groups(shown).items():
        unit, digits = UNITS.get(group, 100.0), 2 if group == "posterior_scales" else 1
        of_group = [row for row in shown if any(path in row.metrics for path in paths)]
        head = ["", *(path.removeprefix(f"{group}/") for path in paths)]
        lines = [
            [row.label, *(interval(row.metrics.get(p), unit, digits) for p in paths)] for row in of_group
        ]
        parts += [_said(f"{group}:", plain), *_grid([head, *lines], plain)]
        without = [row.label for row in shown if row not in of_group]
        parts += [_said(f"Without {group} on record: {', '.join(without)}.", plain)] if without else []
    limit, equal = picture.at_equal_seconds(shown)
    if equal:
        of = "steps on an idle core" if picture.idle(shown) else "the recorded runs, on machines that differ"
        text = f"At equal processor seconds ({limit:.0f}, of {of}): cross-coherence, all directions, validation split"
        body = [[row.label, interval(equal.get(row.label)) or "not evaluated by then"] for row in shown]
        parts += [_said(text, plain), *_grid([["", "cross-coherence"], *body], plain)]
    return [*parts, _said(f"Settings: {picture.grid_state(data)}", plain)]


def groups(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The paths of all recorded metrics, by what they measure."""
    found: dict[str, list[str]] = {}
    for path in dict.fromkeys(path for row in rows for path in row.metrics):
        found.setdefault(path.split("/")[0], []).append(path)
    return found


def _settings(rows: Sequence[Row], plain: bool) -> list[str]:
    """What is the same for all rows, and what each has of its own: settings, and where it was made."""
    usual, own = picture.settings_apart(rows)
    common = "; ".join(f"{key} {value or '-'}" for key, value in usual.items())
    said = {label: "; ".join(f"{key} {value}" for key, value in own[label].items()) for label in own}
    lines = [f"{label}: {text or 'nothing else'}" for label, text in said.items()]
    parts = [_said(f"Unless a row says otherwise: {common}.", plain)]
    if plain:
        return [*parts, "\n".join(textwrap.fill(line, 118, subsequent_indent="    ") for line in lines)]
    return [*parts, "\n".join(f"- {line}" for line in lines)]


def _grid(grid: list[list[str]], plain: bool) -> list[str]:
    return (folded(grid, 118) if plain else [as_markdown(grid)]) if len(grid) > 1 else []


def _said(text: str, plain: bool, bold: bool = False) -> str:
    return textwrap.fill(text, 118) if plain else f"**{text}**" if bold else text


def _number(value: float | None) -> str:
    return "not recorded" if value is None else f"{value:.1f}"
