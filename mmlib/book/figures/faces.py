"""Figures and tables of the chapter on faces and attributes: faces with strings, precision, errors, recorded runs."""

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.book.figures import birds
from mmlib.book.figures.birds import interval
from mmlib.book.figures.recorded import recorded
from mmlib.book.figures.relatedness import rank_correlation
from mmlib.book.ledger_rule import SEEDS
from mmlib.data.attributes import FILL, spoken
from mmlib.data.faces import ATTRIBUTES
from mmlib.data.text import ALPHABET, decode
from mmlib.metrics.attribute_judges import MEAN
from mmlib.plots.results import Table, table
from mmlib.plots.style import WIDTH, look, panels
from mmlib.runs import results
from mmlib.summary import Summary, summarise

RECIPES = {
    "MVAE": "faces-mvae-styles",
    "MMVAE": "faces-mmvae-styles",
    "MoPoE": "faces-mopoe-styles",
    "mmJSD": "faces-mmjsd-styles",
    "mmJSD, all shared": "faces-mmjsd",
}
CODES = {"image": "latent_precision/image", "text": "latent_precision/text", "both": "latent_precision/all"}
WAYS = {
    "image to text": "generation_precision/image/text",
    "text to image": "generation_precision/text/image",
}
TENK = {label: name.replace("faces", "celeba10k") for label, name in RECIPES.items() if "styles" in name}
OWN = {"image to image": "generation_precision/image/image", "text to text": "generation_precision/text/text"}
PRIOR = {"picture to string, prior": "joint_precision"}
SHARE, REAL = "attribute_share", {"image": "real_precision/image", "text": "real_precision/text"}


# --- strings --------------------------------------------------------------------------------------------------------


def strings(text: Tensor) -> list[str]:
    """Symbols, int64 [N, 256], or their probabilities or logits [N, 256, 71], as strings without asterisks behind."""
    symbols = text.argmax(-1) if text.is_floating_point() else text
    return [line.rstrip(FILL) for line in decode(symbols)]


def page(pictures: Tensor | None, text: Tensor) -> Axes:
    """Faces with their strings beside them, two in a row."""
    return birds.page(pictures, strings(text))


def errors(made: Tensor, text: Tensor, bins: int = 12) -> tuple[list[float], list[float]]:
    """Places, in the middle of each bin, and the share of written characters there that are not the right ones.

    Only characters of true strings count, not the asterisks behind; a bin with fewer than 100 of them is left out.

    Args:
        made: probabilities or logits [N, 256, 71].
        text: true symbols, int64 [N, 256].
        bins: places that are taken together.
    """
    wrong, written = made.argmax(-1) != text, text != ALPHABET.index(FILL)
    counts = [x.sum(0).unfold(0, bins, bins).sum(1) for x in (wrong & written, written)]
    kept = (counts[1] >= 100).nonzero()[:, 0]
    return (bins * (kept + 0.5)).tolist(), (counts[0][kept] / counts[1][kept]).tolist()


def error_curves(found: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Axes:
    """Errors by place, label -> what `errors` gives; chance is another face's string."""
    _, ax = panels(height=2.8)
    for (label, (places, shares)), line in zip(found.items(), ("-", "--", ":"), strict=False):
        ax.plot(
            places,
            shares,
            line,
            marker=".",
            color="0.5" if line == ":" else look("text")["color"],
            label=label,
        )
    ax.set(xlabel="place in the string", ylabel="share of wrong characters", ylim=(0, 1))
    ax.legend(fontsize="small")
    return ax


# --- average precision ----------------------------------------------------------------------------------------------


def precision_bars(
    share: Mapping[str, float], found: Mapping[str, Mapping[str, float]], ax: Axes | None = None
) -> Axes:
    """Average precision of every attribute, label -> attribute -> value, over grey bars of their shares, by these."""
    names = sorted(share, key=share.get)
    ax = panels(height=3.4)[1] if ax is None else ax
    ax.bar(range(len(names)), [share[name] for name in names], color="0.85", label="chance")
    for label, values in found.items():
        style = look(label) | {"linestyle": "", "markersize": 4, "label": label}
        ax.plot(range(len(names)), [values[name] for name in names], **style)
    ax.set_xticks(range(len(names)), [spoken(name) for name in names], rotation=90, fontsize=7)
    ax.set(ylabel="average precision", ylim=(0, 1.15), xlim=(-0.7, len(names) - 0.3))
    ax.legend(fontsize="small", ncol=len(found) + 1, loc="upper left")
    return ax


def by_attribute(report: Mapping) -> dict[str, float]:
    """Values of attributes from a report such as `average_precisions` gives, without their mean."""
    return {name: entry["value"] for name, entry in report.items() if name != MEAN}


# --- recorded runs --------------------------------------------------------------------------------------------------


def means(
    paths: Mapping[str, str],
    real: Mapping[str, str],
    more: Mapping[str, Sequence[float]] | None = None,
    recipes: Mapping[str, str] = RECIPES,
) -> Table:
    """Mean average precision of recorded runs, a column for each path, over chance.

    ``real`` are paths of what the judges reach on real items, by the same names; ``more`` are other rows,
    label -> a number for each path. What comes from the prior has neither: who is judged there is not recorded.
    """
    body = [
        [label, *(interval(recorded(recipe, f"{path}/{MEAN}")) for path in paths.values())]
        for label, recipe in recipes.items()
    ]
    body += [[label, *(f"{value:.2f}" for value in values)] for label, values in (more or {}).items()]
    if real:
        ends = [_known(f"{real[name]}/{MEAN}", recipes) if name in real else None for name in paths]
        body.append(["real items", *ends])
    chance = _known(f"{SHARE}/{MEAN}", recipes)
    body.append(["chance", *(None if name in PRIOR else chance for name in paths)])
    caption = "Mean over attributes, test split: mean [interval] (seeds)"
    return table(["average precision", *paths], body, caption=caption)


def recorded_bars(paths: Mapping[str, str]) -> Sequence[Axes]:
    """Average precision of every attribute, a panel for each path, of the recorded models with private codes."""
    share = next(
        (each for recipe in RECIPES.values() if (each := _each(recipe, SHARE))),
        dict.fromkeys(ATTRIBUTES, 0.0),
    )
    axes = plt.subplots(len(paths), 1, figsize=(WIDTH, 2.9 * len(paths)), sharex=True)[1]
    for ax, (title, path) in zip(axes, paths.items(), strict=True):
        models = {label: _each(RECIPES[label], path) for label in TENK}
        precision_bars(share, {label: each for label, each in models.items() if each}, ax)
        ax.set_title(title)
    return list(axes)


def _each(recipe: str, path: str) -> dict[str, float]:
    """Attribute -> a recorded value, mean over the seeds; empty where there are none."""
    found = {name: recorded(recipe, f"{path}/{name}") for name in ATTRIBUTES}
    return {name: x.mean for name, x in found.items() if x is not None}


def written() -> Table:
    """Strings of recorded runs, in per cent: how many are well formed, and how much they share with their faces."""
    views = {"from the image": "image", "from the text": "text", "from both": "all"}
    body = []
    for label, recipe in RECIPES.items():
        pairs = [(f"well_formed/{v}", f"string_agreement/{v}") for v in views.values()]
        found = [interval(recorded(recipe, path), 0, 100) for pair in pairs for path in pair]
        body.append([label, *found, interval(recorded(recipe, "well_formed/prior"), 0, 100)])
    other = _known("string_agreement/shuffled", digits=0, factor=100)
    body.append(["another face's string", *[None, other] * len(views), None])
    header = [part for view in views for part in (f"{view}: well formed", "right")]
    return table(["test split, %", *header, "from the prior: well formed"], body)


def _known(path: str, recipes: Mapping[str, str] = RECIPES, digits: int = 2, factor: int = 1) -> str | None:
    """A number that is the same for every run, of the first that is recorded; None where none is."""
    every = (recorded(recipe, path) for recipe in recipes.values())
    found = next((summary for summary in every if summary is not None), None)
    return None if found is None else f"{factor * found.mean:.{digits}f}"


# --- claims: None where fewer than three seeds are recorded ---------------------------------------------------------


def _by_seed(*recipes: str) -> list[list[dict]]:
    """Runs of some recipes by the seeds that all of them have; none where these are too few."""
    runs = [{run["seed"]: run for run in results.load(name)} for name in recipes]
    seeds = sorted(set.intersection(*(set(found) for found in runs)))
    return [[found[seed] for found in runs] for seed in seeds] if len(seeds) >= SEEDS else []


def least_lead(paths: Sequence[str], best: str = "mmJSD", others: Sequence[str] = ("MVAE", "MMVAE")):
    """How far a model is ahead of the best of some others where it is least so, seed by seed: a `Summary`, or None."""

    def lead(first: dict, *rest: dict) -> float:
        of = [[results.value(run, f"test/{path}/{MEAN}") for path in paths] for run in (first, *rest)]
        return min(own - max(others) for own, *others in zip(*of, strict=True))

    found = [lead(*runs) for runs in _by_seed(*(RECIPES[label] for label in (best, *others)))]
    return summarise(found) if found else None


def above_chance(paths: Sequence[str], label: str = "mmJSD") -> Summary | None:
    """How far a model's average precision is above the share of attributes where it is least so."""
    found = [
        min(results.value(run, f"test/{path}/{MEAN}") for path in paths)
        - results.value(run, f"test/{SHARE}/{MEAN}")
        for (run,) in _by_seed(RECIPES[label])
    ]
    return summarise(found) if found else None


def least_above(paths: Sequence[str], values: Iterable[float], label: str = "mmJSD") -> Summary | None:
    """How far a model's average precision on validation is above a given value for each path, where it is least so."""
    values = list(values)
    found = [
        min(results.value(run, f"validation/{p}/{MEAN}") - v for p, v in zip(paths, values, strict=True))
        for (run,) in _by_seed(RECIPES[label])
    ]
    return summarise(found) if found else None


def level(path: str, label: str = "mmJSD") -> Summary | None:
    """A metric of a model on the test split."""
    found = [results.value(run, f"test/{path}") for (run,) in _by_seed(RECIPES[label])]
    return summarise(found) if found else None


def alike(first: str, second: str, label: str = "mmJSD") -> Summary | None:
    """Rank correlation over attributes of two sets of average precisions, with chance taken out of both.

    Two sets that know nothing would agree perfectly, for both would be the shares: each is (AP - share) / (1 - share).
    """
    found = [
        rank_correlation(*(_lifted(run, path) for path in (first, second)))
        for (run,) in _by_seed(RECIPES[label])
    ]
    return summarise(found) if found else None


def _lifted(run: dict, path: str) -> Tensor:
    share, value = (
        torch.tensor([results.value(run, f"test/{p}/{name}") for name in ATTRIBUTES], dtype=torch.float64)
        for p in (SHARE, path)
    )
    return (value - share) / (1 - share)
