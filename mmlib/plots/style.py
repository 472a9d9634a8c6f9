"""How the book's figures look: one colour, marker and line for each modality and each model, wherever they appear."""

import inspect
import re
from collections.abc import Callable
from zlib import crc32

import matplotlib
import matplotlib.pyplot as plt
import seaborn

WIDTH = 7.0  # inches: the column of the book
LINES = ("-", "--", "-.", ":")
_COLOURS = seaborn.color_palette("colorblind").as_hex()

# Colour says it to most, marker and line to all. Names of one role share a look: they never meet in one figure.
_ROLES = {
    ("hand", "mnist", "hand0", "mnist0"): (_COLOURS[0], "o", "-"),
    ("street", "svhn"): (_COLOURS[1], "s", "--"),
    ("hand90", "mnist90"): ("#6a3d9a", "s", "--"),
    ("hand180", "mnist180", "text"): (_COLOURS[9], "^", "-."),
    ("hand270", "mnist270"): ("#b2182b", "D", ":"),
}
MODALITIES = {name: drawn for names, drawn in _ROLES.items() for name in names}
MODELS = {
    "jmvae": (_COLOURS[2], "D", "-."),
    "mvae": (_COLOURS[3], "v", "--"),
    "mmvae": (_COLOURS[4], "o", "-"),
    "mmali": (_COLOURS[5], "P", "-"),
    "telbo": (_COLOURS[8], "X", ":"),
    "mopoe": ("#332288", "h", "-"),
    "mmjsd": ("#8c1d40", ">", "--"),
    "meme": ("#b8860b", "*", "-"),
    # darker than what they train
    "contrastive_jmvae": ("#00573f", "d", "-."),
    "contrastive_mvae": ("#7a3500", "^", "--"),
    "contrastive_mmvae": ("#7b2a6c", "p", "-"),
    "contrastive_mopoe": ("#1b1259", "H", "-"),
    "contrastive_mmjsd": ("#4d0f22", "<", "--"),
}
REFERENCES = {
    "exact": ("black", "", "-"),
    "paper": ("0.35", "*", ":"),
    "chance": ("0.6", "", ":"),
}
# One for each digit; every eye tells them apart.
DIGITS = (
    *("#332288", "#88ccee", "#44aa99", "#117733", "#999933"),
    *("#ddcc77", "#cc6677", "#882255", "#aa4499", "#777777"),
)
# What belongs to no modality and no model.
NEUTRAL = {"loss", "objective", "elbo", "iwae", "kl", "joint", "both", "prior", "total", "penalty", "error"}


def look(name: str, modality: bool = False) -> dict:
    """Colour, marker and line style: keywords for ``Axes.plot``.

    A model's name at the head decides. A direction, such as ``"hand -> street"``, ``"hand to street"`` or
    ``"cross_coherence/hand/street"``, has the colour of what is generated, and marker and line of what is given.
    Losses and sentences are neutral; any other word is a modality of your own, with a colour of its own. With
    ``modality`` the whole name is one modality's, whatever words it is made of.
    """
    name = name.lower()
    known = MODALITIES if modality else {**MODALITIES, **MODELS, **REFERENCES}
    words = [name] if modality else re.findall(rf"\b(?:{'|'.join(MODELS)})\b|\w+(?:-\w+)*", name)
    found = [known[word] for word in words if word in known]
    last = name if modality else re.split(r"[/.]| -> | → ", name)[-1]
    neutral = (last == name and " " in name) or not NEUTRAL.isdisjoint(last.split("_"))
    if found:
        colour, marker, line = found[0]
        if found[0] not in MODELS.values():
            to_own = known.keys().isdisjoint(
                re.findall(r"[\w-]+", last)
            )  # a direction, to a modality of your own
            to_own = to_own and re.search(r"coherence/| -> | → ", name)
            colour = look(last, modality=True)["color"] if to_own else found[-1][0]
    elif neutral and not modality:
        colour, marker, line = "0.3", ".", "-"
    else:
        spot = crc32(last.encode())
        colour = seaborn.husl_palette(1, h=spot / 2**32, l=0.5).as_hex()[0]
        marker, line = "<>pXh"[spot % 5], LINES[spot % 4]
    return {"color": colour, "marker": marker, "linestyle": line}


def colour(name: str, modality: bool = False) -> str:
    """The colour of a modality, direction, model or reference, as hexadecimal or grey level; arguments of `look`."""
    return look(name, modality)["color"]


def stroke(name: str) -> dict:
    """As `look`, for a line without markers."""
    return {key: value for key, value in look(name).items() if key != "marker"}


def panels(columns: int = 1, rows: int = 1, height: float = 2.6, **options):
    """A new figure as wide as the book's column, and its axes; ``height`` is that of one panel, in inches.

    Further options are those of ``plt.subplots``.
    """
    return plt.subplots(rows, columns, figsize=(WIDTH, height * rows), **options)


def use_style() -> None:
    """Set the book's defaults for matplotlib: the first call of every chapter."""
    matplotlib.rcParams.update(
        {
            "axes.grid": True,
            "axes.prop_cycle": matplotlib.cycler(color=_COLOURS),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.labelsize": 9,
            "axes.titlesize": 9.5,
            "figure.constrained_layout.use": True,
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.figsize": (WIDTH, 2.8),
            "font.size": 9,
            "grid.alpha": 0.3,
            "grid.linewidth": 0.6,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "lines.linewidth": 1.6,
            "lines.markersize": 5,
            "savefig.dpi": 150,
            "savefig.facecolor": "white",
            "savefig.pad_inches": 0.02,  # what a notebook adds on each side: no figure gets wider than the column
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
        }
    )


class Source(str):
    """Code that Jupyter and the book show in colours, and that prints as it is."""

    def _repr_markdown_(self) -> str:
        return f"```python\n{self}\n```"

    def __repr__(self) -> str:
        return str(self)


def show_source(*functions: Callable) -> Source:
    """The library's own text of functions or classes, as it stands in the files that this book runs."""
    return Source("\n\n".join(inspect.getsource(function).rstrip() for function in functions))
