"""Figures of the chapter on MEME: a weight at work, a bound, what is left of a signal, and recorded runs."""

from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.book import speed
from mmlib.book.figures.recorded import draw_line, finish, recorded
from mmlib.book.figures.three_modalities import COHERENCE, NAMES, TRANSLATION
from mmlib.book.ledger_rule import SEEDS
from mmlib.models.meme import MEME
from mmlib.plots.results import Table, table
from mmlib.plots.style import colour, look, panels
from mmlib.summary import Summary

ESTIMATES = {  # of log q(t | s): colour, line, what the legend says
    "mean": (colour("meme"), "-", "mean, with the code itself"),
    "fresh": ("#44aa99", "-.", "mean of other codes"),
    "sum": ("#882255", "--", "sum, as printed"),
}
COLUMNS = {
    "hand to street": "cross_coherence/hand/street",
    "street to hand": "cross_coherence/street/hand",
    "joint": "joint_coherence",
    "probe, hand": "latent_accuracy/hand/sample",
    "probe, street": "latent_accuracy/street/sample",
}
THREE = {  # of three modalities
    "one to another": TRANSLATION,
    "two to the third": tuple(path for _, path in COHERENCE.values() if path.startswith("subset")),
    "joint, all agree": ("joint_coherence",),
    "probe, mean of three": tuple(f"latent_accuracy/{name}/mean" for name in NAMES),
}


PASSES = {  # of one pair, encodings and decodings; the names are those of data/speed.yaml
    "MVAE": (2, 4),
    "MEME, K = 10": (2, 24),
    "MEME, K = 10, a pass for each code": (2, 24),
    "MEME, K = 10, as released (counted, not timed)": (6, 26),
}


class OneWay(MEME):
    """MEME without the mirrored direction: of two modalities, the code is always that of ``source``."""

    source = ""

    def _faced(self, m, rows, codes, *others) -> None:
        if codes.given[m] == self.source:
            super()._faced(m, rows, codes, *others)


def reweighted(
    z: Tensor, densities: Mapping[str, Tensor], weight: Tensor, names: tuple[str, str]
) -> list[Axes]:
    """Left, densities over a code [N] of one number; right, the weight that turns the first into the second.

    ``densities`` are q(z | s), q(z | s, t) and q(z | t), by what the legend says; ``names`` those of s and t.
    """
    _, axes = panels(2, height=2.6, sharex=True)
    styles = [(colour(names[0]), "--"), ("black", "-"), (colour(names[1]), ":")]
    for (label, density), (shade, line) in zip(densities.items(), styles, strict=True):
        axes[0].plot(z, density, color=shade, linestyle=line, label=label)
    axes[1].plot(z, weight, color="black")
    axes[1].axhline(1, color="0.6", linestyle=":")
    axes[0].set(xlabel="code z", ylabel="density")
    axes[1].set(xlabel="code z", ylabel="weight w")
    axes[0].legend(fontsize="small")
    return list(axes)


def bound_against_codes(ks: Sequence[int], curves: Mapping[str, Sequence[float]]) -> Axes:
    """Expected values of bounds, less what they bound, against the number of fresh codes K; nats."""
    _, ax = panels(height=2.8)
    looks = [(colour("meme"), "-", "o"), ("0.4", "--", "s"), ("#882255", "-", "v"), ("0.6", "--", "D")]
    for (label, values), (shade, line, marker) in zip(curves.items(), looks, strict=False):
        ax.plot(ks, values, color=shade, linestyle=line, marker=marker, label=label)
    ax.axhline(0, color="black", linewidth=2)
    ax.set_xscale("log", base=4)
    ax.set_xticks(ks, [str(k) for k in ks])
    ax.set(xlabel="fresh codes K", ylabel="nats below the exact logarithm")
    ax.legend(fontsize="small")
    return ax


def what_is_left(
    found: Mapping[str, Mapping[str, tuple[float, float]]], alphas: Sequence[float]
) -> list[Axes]:
    """Mean gradients of the terms with q(t | z), in units of that of log q(t | s), against alpha: a panel each.

    ``found`` is a panel's title -> estimate -> gradients of the estimate and of the weighted term, both divided by the
    gradient of the exact log q(t | s). What a direction sends is alpha times the first less the second.
    """
    _, axes = panels(len(found), height=2.8, sharey=True)
    grid = torch.tensor(list(alphas))
    for ax, (title, each) in zip(axes, found.items(), strict=True):
        ax.axhline(0, color="black", linewidth=1)
        ax.axvline(1, color="0.6", linestyle=":")
        for name, (plus, minus) in each.items():
            shade, line, label = ESTIMATES[name]
            ax.plot(grid, grid * plus - minus, color=shade, linestyle=line, label=label)
        ax.set(title=title, xlabel=r"coefficient $\alpha$ of $\log q(t \mid s)$")
    axes[0].set_ylabel("cross signal")
    axes[0].legend(fontsize="small")
    return list(axes)


def signal_to_noise(gradients: Callable[[bool, int], Mapping[str, Tensor]], n: int) -> dict[str, tuple]:
    """Median over parameters of |mean| / sd of their gradients over ``n`` draws, with the stop-gradient and without.

    ``gradients(stop, seed)`` gives a vector for each group of parameters.
    """
    found = {}
    for stop in (True, False):
        draws = [gradients(stop, seed) for seed in range(n)]
        for group in draws[0]:
            each = torch.stack([draw[group] for draw in draws])
            spread = each.std(0)
            ratio = each.mean(0).abs()[spread > 0] / spread[spread > 0]
            found.setdefault(group, []).append(float(ratio.median()))
    return {group: tuple(values) for group, values in found.items()}


def coefficients(values: Sequence[float] = (1, 2, 5, 10)) -> list[Axes]:
    """Coherences and probes of recorded runs on hand-street against alpha."""
    _, axes = panels(2, height=2.7, sharey=True)
    styles = {
        "hand to street": look("street") | {"marker": "s"},
        "street to hand": look("hand"),
        "joint": {"color": "0.3", "marker": "D", "linestyle": "-."},
        "probe, hand": look("hand"),
        "probe, street": look("street"),
    }
    for name, path in COLUMNS.items():
        found = {value: recorded(recipe(value), path) for value in values}
        draw_line(axes[int(name.startswith("probe"))], name, found, styles[name])
    for ax, title in zip(axes, ("coherent", "read by a linear probe"), strict=True):
        ax.set(title=title, ylim=(0, 1.02))
        ax.legend(fontsize="small", loc="lower right")
    axes[0].set_ylabel("share of test items")
    return finish(axes, values, r"coefficient $\alpha$")


def recipe(alpha: float) -> str:
    """The recipe on hand-street with that coefficient."""
    return "hand-street-meme" if alpha == 10 else f"hand-street-meme-alpha-{alpha:g}"


def step_times() -> Table:
    """Milliseconds of a training step on one idle core beside the passes a pair that it makes."""
    rows, where = speed.measured("supervision")
    measured = {row["step"]: row["ms"] for row in rows}
    alone = measured.get("MVAE")
    body = [
        [
            label,
            *passes,
            *((f"{ms:.0f}", f"{ms / alone:.1f}") if (ms := measured.get(label)) else (None, None)),
        ]
        for label, passes in PASSES.items()
    ]
    caption = f"MNIST-SVHN's networks, 128 pairs, {where or 'not measured yet'}"
    return table(["a training step", "encodings", "decodings", "ms", "times MVAE"], body, caption=caption)


def compared(rows: Mapping[str, str], caption: str = "") -> Table:
    """Recorded runs on hand-street, per cent: a row for each label and its recipe, a dash where none is recorded."""
    body = [[label, *(recorded(name, path) for path in COLUMNS.values())] for label, name in rows.items()]
    return table(["test split", *COLUMNS], body, caption=caption or "Per cent, mean ± sd (seeds)")


def three_modalities() -> Table:
    """Recorded runs on hand-street-text, per cent: MEME with either combination beside models of the same protocol."""
    runs = {
        "MEME, mixture of the others": "meme-mixture",
        "MEME, product of the others": "meme-product",
        "mmJSD": "mmjsd",
        "MoPoE": "mopoe",
        "MMVAE": "mmvae",
        "MVAE": "mvae",
    }
    body = [
        [label, *(recorded(f"hand-street-text-{run}", *paths) for paths in THREE.values())]
        for label, run in runs.items()
    ]
    return table(
        ["three modalities", *THREE], body, caption="Per cent, mean ± sd (seeds); means over directions"
    )


def level(name: str, *paths: str) -> Summary | None:
    """The mean of some metrics of a recipe over its seeds, if at least three are recorded."""
    found = recorded(name, *paths)
    return found if found is not None and found.n >= SEEDS else None
