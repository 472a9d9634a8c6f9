"""Tables and figures of recorded runs on three modalities: what is recorded, with its n, and what is not yet."""

from collections.abc import Iterable, Mapping, Sequence

from matplotlib.axes import Axes

from mmlib.book import ledger, speed
from mmlib.book.figures.recorded import draw_line, recorded
from mmlib.plots.results import Table, table
from mmlib.plots.style import LINES, look, panels
from mmlib.runs import results

NAMES = ("hand", "street", "text")
PAIRS = tuple(f"{a},{b}" for a, b in (("hand", "street"), ("hand", "text"), ("street", "text")))
# columns of the supplement's tables: ours for each of theirs, MNIST being hand and SVHN street
LATENT = {
    "hand": ("mnist", "latent_accuracy/hand/mean"),
    "street": ("svhn", "latent_accuracy/street/mean"),
    "text": ("text", "latent_accuracy/text/mean"),
    "hand, street": ("mnist-svhn", "latent_accuracy/hand,street/mean"),
    "hand, text": ("mnist-text", "latent_accuracy/hand,text/mean"),
    "street, text": ("svhn-text", "latent_accuracy/street,text/mean"),
    "all three": ("joint", "latent_accuracy/all/mean"),
}
COHERENCE = {
    "nothing (random)": ("random", "joint_coherence"),
    "hand from street": ("s-to-m", "cross_coherence/street/hand"),
    "hand from text": ("t-to-m", "cross_coherence/text/hand"),
    "hand from street, text": ("st-to-m", "subset_coherence/street,text/hand"),
    "street from hand": ("m-to-s", "cross_coherence/hand/street"),
    "street from text": ("t-to-s", "cross_coherence/text/street"),
    "street from hand, text": ("mt-to-s", "subset_coherence/hand,text/street"),
    "text from hand": ("m-to-t", "cross_coherence/hand/text"),
    "text from street": ("s-to-t", "cross_coherence/street/text"),
    "text from hand, street": ("ms-to-t", "subset_coherence/hand,street/text"),
}
TRANSLATION = tuple(path for label, (_, path) in COHERENCE.items() if "from" in label and "," not in label)


def step_times() -> tuple[dict[str, float], str]:
    """Milliseconds of a training step by recipe, on one idle core and in one run; and where and when that was."""
    rows, where = speed.measured("models")
    return {row["recipe"]: row["ms"] for row in rows}, where


def not_recorded(recipes: Iterable[str]) -> str:
    """One sentence on the recipes that have no recorded seed."""
    missing = [f"`{recipe}`" for recipe in recipes if not results.load(recipe)]
    return f"Not recorded yet: {', '.join(missing)}." if missing else "Everything here is recorded."


def beside(
    exhibit: str,
    rows: Mapping[str, tuple[str, str]],
    models: Mapping[str, tuple[str | None, str]],
    caption: str = "",
) -> Table:
    """A table of the supplement, turned, beside ours in per cent: two columns a model, or one if it is not in print.

    Args:
        exhibit: id of the table in the ledger.
        rows: label -> (id of the column in print, path of our metric).
        models: label -> (id of the row in print or None, our recipe); a recipe without results gives dashes.
        caption: above the table.
    """
    ours = {
        model: {row: recorded(recipe, path) for row, (_, path) in rows.items()}
        for model, (_, recipe) in models.items()
    }
    book, body = ledger.read(), []
    for row, (column, _) in rows.items():
        line: list[object] = [row]
        for model, (printed, _) in models.items():
            if printed is not None:
                line.append(f"{100 * float(ledger.printed(exhibit, printed, column, book)):.0f}")
            line.append(ours[model][row])
        body.append(line)
    header = [""]
    for model, (printed, _) in models.items():
        header += [f"{model}, printed", model] if printed is not None else [model]
    return table(header, body, caption=caption)


def sweep(
    recipes: Mapping[float, str],
    panels_of: Mapping[str, Mapping[str, Sequence[str]]],
    xlabel: str,
) -> list[Axes]:
    """Recorded metrics against an option: a dot per seed, a line through the means of the values that are recorded.

    Args:
        recipes: value of the option -> recipe.
        panels_of: title of a panel -> label of a line -> paths, which are averaged.
        xlabel: the option.
    """
    _, axes = panels(len(panels_of), height=2.8, squeeze=False)
    for ax, (title, lines) in zip(axes[0], panels_of.items(), strict=True):
        for i, (label, paths) in enumerate(lines.items()):
            found = {x: recorded(recipe, *paths) for x, recipe in sorted(recipes.items())}
            draw_line(ax, label, found, look(label) | {"marker": "os^D"[i % 4], "linestyle": LINES[i % 4]})
        ax.set(title=title, xlabel=xlabel, xlim=(min(recipes) - 0.1, None))
        ax.set_xticks(sorted(recipes), [f"{x:g}" for x in sorted(recipes)])
        ax.legend(fontsize="small")
    axes[0, 0].set_ylabel("share")
    return list(axes[0])
