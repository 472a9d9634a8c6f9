"""How the book's figures look: one colour, marker and line for each modality and each model, wherever they appear."""

import inspect
from collections.abc import Callable

import matplotlib
import seaborn

_COLOURS = seaborn.color_palette("colorblind").as_hex()
DIGITS = seaborn.color_palette(
    "tab10"
).as_hex()  # one for each digit, wherever digits are told apart by colour

# Colour says it to most, marker and line to all. Names of one role share a look: they never meet in one figure.
MODALITIES = {
    "hand": (0, "o", "-"),
    "mnist": (0, "o", "-"),
    "street": (1, "s", "--"),
    "svhn": (1, "s", "--"),
    "text": (7, "^", ":"),
    "hand0": (0, "o", "-"),
    "mnist0": (0, "o", "-"),
    "hand90": (8, "s", "--"),
    "mnist90": (8, "s", "--"),
    "hand180": (9, "^", "-."),
    "mnist180": (9, "^", "-."),
    "hand270": (6, "D", ":"),
    "mnist270": (6, "D", ":"),
}
MODELS = {
    "jmvae": (2, "D", "-."),
    "mvae": (3, "v", "--"),
    "mmvae": (4, "o", "-"),
    "mmali": (5, "P", "-"),
}
REFERENCES = {
    "exact": ("black", "", "-"),
    "paper": ("0.35", "*", ":"),
    "chance": ("0.6", "", ":"),
}


def look(name: str) -> dict:
    """Colour, marker and line style of a modality, model or reference: keywords for ``Axes.plot``.

    Raises:
        ValueError: if the name has no look; lists those that have.
    """
    known = {**MODALITIES, **MODELS, **REFERENCES}
    if name.lower() not in known:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(known)}")
    colour, marker, line = known[name.lower()]
    return {
        "color": _COLOURS[colour] if isinstance(colour, int) else colour,
        "marker": marker,
        "linestyle": line,
    }


def colour(name: str) -> str:
    """The colour of a modality, model or reference, as hexadecimal or grey level."""
    return look(name)["color"]


def use_style() -> None:
    """Set the book's defaults for matplotlib: the first call of every chapter."""
    matplotlib.rcParams.update(
        {
            "axes.grid": True,
            "axes.prop_cycle": matplotlib.cycler(color=_COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlesize": "medium",
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "font.size": 9.5,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
            "savefig.dpi": 150,
            "savefig.facecolor": "white",
        }
    )


def show_source(*functions: Callable) -> None:
    """Print the library's own text of functions or classes, as it stands in the files that this book runs."""
    print("\n\n".join(inspect.getsource(function).rstrip() for function in functions))
