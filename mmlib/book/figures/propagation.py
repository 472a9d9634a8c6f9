"""Figures of the chapter on label propagation: PMI over a plane, its noise, histograms, the steps, and the study."""

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from torch import Tensor

from mmlib.book.figures import contrast_recorded as contrast
from mmlib.book.figures.recorded import draw_line, finish, lead, recorded
from mmlib.metrics.pmi import pointwise_mutual_information
from mmlib.plots.results import Table, table
from mmlib.plots.style import LINES, colour, look, panels
from mmlib.runs import results
from mmlib.summary import Summary

SAME, OTHER = ("black", "o"), ("0.55", "x")  # pairs that belong together, and pairs that do not


def exact_pmi(lab, batch: Mapping[str, Tensor]) -> Tensor:
    """The PMI of each row's two items in the laboratory, in closed form: [B], nats."""
    marginals = [lab.log_marginal(batch, [name]) for name in lab.names]
    return pointwise_mutual_information(lab.log_marginal(batch), *marginals)


def pmi_plane(lab, n: int = 60, extent: float = 3.2) -> list[Axes]:
    """PMI of two numbers, with pairs of one item on the left, and the same numbers shuffled on the right."""
    _, axes = panels(2, height=3.0, sharey=True)
    x = torch.linspace(-extent, extent, 81, dtype=torch.float64)
    first, second = torch.meshgrid(x, x, indexing="ij")
    at = dict(zip(lab.names, (first.reshape(-1, 1), second.reshape(-1, 1)), strict=True))
    pmi = exact_pmi(lab, at).view(81, 81)
    batch = lab.sample(n, torch.Generator().manual_seed(0))[1]
    away = dict(zip(lab.names, (batch[lab.names[0]], batch[lab.names[1]].roll(1, 0)), strict=True))
    levels = np.linspace(-8, 2, 11)
    for ax, pairs, (ink, marker), title in zip(
        axes, (batch, away), (SAME, OTHER), ("pairs", "shuffled"), strict=True
    ):
        shown = ax.contourf(x, x, pmi.T, levels, cmap="PuOr_r", extend="both", vmin=-4, vmax=4)
        ax.contour(x, x, pmi.T, [0.0], colors="black", linewidths=0.8)
        ax.plot(*(pairs[name].flatten() for name in lab.names), marker, color=ink, markersize=4)
        ax.set(xlabel=lab.names[0], title=title, xlim=(-extent, extent), ylim=(-extent, extent))
        ax.grid(False)
    axes[0].set_ylabel(lab.names[1])
    axes[0].figure.colorbar(shown, ax=axes, label="PMI (nats)", shrink=0.9)
    return list(axes)


def noise_against_k(found: Mapping[str, Mapping[int, Tensor]]) -> list[Axes]:
    """How PMI's mean moves with the number of samples, left, and how its noise falls, right.

    ``found`` is model -> K -> repeated estimates, [repeats, ...], as of `mmlib.metrics.pmi_by_k`.
    """
    _, axes = panels(2, height=2.6)
    for i, (label, by_k) in enumerate(found.items()):
        style = look(label.lower()) | {"linestyle": LINES[i % 4], "label": label}
        ks = list(by_k)
        axes[0].plot(ks, [float(x.mean()) for x in by_k.values()], **style)
        axes[1].plot(ks, [float(x.std(0).mean()) for x in by_k.values()], **style)
    axes[0].set(xscale="log", xlabel="samples K", ylabel="mean PMI (nats)")
    axes[1].set(xscale="log", yscale="log", xlabel="samples K", ylabel="standard deviation (nats)")
    axes[0].legend(fontsize="small")
    return list(axes)


def score_histograms(found: Mapping[str, tuple[Tensor, Tensor, float]]) -> list[Axes]:
    """Scores of related and of unrelated pairs, each as a density, with the threshold; one panel a model.

    ``found`` is model -> (scores, related, threshold), of any shape.
    """
    columns = min(3, len(found))
    rows = -(-len(found) // columns)
    _, axes = panels(columns, rows, height=1.9, squeeze=False)
    for ax in axes.flat[len(found) :]:
        ax.set_visible(False)
    for ax, (label, (scores, related, threshold)) in zip(axes.flat, found.items(), strict=False):
        low, high = (
            float(x) for x in torch.quantile(scores.flatten(), torch.tensor([0.002, 0.998]).double())
        )
        bins = np.linspace(low, high, 50)
        ax.hist(scores[~related].numpy(), bins, density=True, color="0.6", alpha=0.6, label="two digits")
        ax.hist(
            scores[related].numpy(), bins, density=True, histtype="step", color="black", label="one digit"
        )
        ax.axvline(threshold, color=colour("paper"), linestyle=":", label="threshold")
        ax.set(title=label, yticks=[])
    for ax in axes[-1]:
        ax.set_xlabel("PMI (nats)")
    axes[0, 0].legend(fontsize="x-small")
    return list(axes.flat[: len(found)])


def steps() -> Axes:
    """The steps of label propagation, after Figure 7 of Shi et al. 2021."""
    _, ax = panels(1, height=2.3)
    boxes = {
        "small": (0, 1, "few related pairs\n$S_r$"),
        "model": (2.3, 1, "train\na model"),
        "mixed": (0, 0, "the same items,\nshuffled: $S_m$"),
        "threshold": (2.3, 0, "PMI of $S_m$:\nbest threshold"),
        "full": (4.6, 0, "all other items,\nshuffled: $F_m$"),
        "found": (4.6, 1, "pairs above it:\n$\\hat F_r$"),
        "again": (6.9, 1, "train on with\n$S_r \\cup \\hat F_r$"),
    }
    for x, y, text in boxes.values():
        round_ = "round,pad=0.02,rounding_size=0.08"
        ax.add_patch(
            FancyBboxPatch((x, y), 1.7, 0.56, round_, facecolor="0.95", edgecolor="0.4", linewidth=0.8)
        )
        ax.text(x + 0.85, y + 0.28, text, ha="center", va="center", fontsize=8)
    arrows = [("small", "model"), ("small", "mixed"), ("mixed", "threshold"), ("model", "threshold")]
    arrows += [("threshold", "full"), ("full", "found"), ("found", "again")]
    for start, end in arrows:
        (x, y, _), (u, v, _) = boxes[start], boxes[end]
        across = y == v
        tail = (x + 1.74, y + 0.28) if across else (x + 0.85, max(y, v) - 0.04 if y > v else y + 0.6)
        head = (u - 0.04, v + 0.28) if across else (u + 0.85, v + 0.6 if y > v else v - 0.04)
        ax.annotate("", head, tail, arrowprops={"arrowstyle": "->", "color": "0.3", "linewidth": 0.9})
    ax.set(xlim=(-0.1, 8.7), ylim=(-0.15, 1.7))
    ax.set_axis_off()
    return ax


# --- recorded runs --------------------------------------------------------------------------------------------------

STUDY, STARTS = {"MMVAE": "", "cI-MMVAE": "cI-", "cC-MMVAE": "cC-"}, (10, 20, 50)
ADDED = {  # what is added to a tenth of the pairs -> ending of the recipe that goes on from cI-MMVAE
    "nothing, not trained on": "before",
    "nothing, as many steps more": "-nothing",
    "what PMI finds": "",
    "what PMI finds after a fifth of the steps": "-brief",
    "what the Siamese network finds": "-siamese",
    "what the labels say": "-labels",
}
QUALITY = ("precision", "recall", "f1")


def recipe_of(ending: str, kind: str = "cI-", share: int = 10) -> str:
    """The recipe that goes on from MMVAE or a contrastive one of it; ``"before"``: that which it goes on from."""
    few = contrast.recipe("MMVAE", kind, share)
    if ending == "-brief":  # it goes on from another run
        return f"{few}-brief-propagated"
    return few if ending == "before" else f"{few}-propagated{ending}"


def recipes_of_study() -> list[str]:
    """All that `study` and `added_pairs` show, once."""
    shown = [
        recipe_of(end, kind, share) for kind in STUDY.values() for share in STARTS for end in ("before", "")
    ]
    return list(dict.fromkeys([*shown, *map(recipe_of, ADDED.values())]))


PANELS = {
    **{title: (path,) for title, (_, path) in contrast.COHERENCE.items()},
    "synergy": ("synergy_coherence/hand", "synergy_coherence/street"),
    "probe": ("latent_accuracy/hand/sample", "latent_accuracy/street/sample"),
}


def study() -> list[Axes]:
    """Figure 8 of Shi et al. 2021: metrics before and after, and F1 of the search, against the share of pairs."""
    _, grid = panels(3, 2, height=2.3)
    axes = list(grid.flat)
    for label, kind in STUDY.items():
        style = {key: entry for key, entry in contrast.look_of(kind).items() if key != "linestyle"}
        for ax, paths in zip(axes, PANELS.values(), strict=False):
            for ending, line in (("before", ":"), ("", "-")):
                means = {x: recorded(recipe_of(ending, kind, x), *paths) for x in STARTS}
                draw_line(ax, label if line == "-" else "", means, style | {"linestyle": line})
        f1 = {x: found(kind, "f1", share=x) for x in STARTS}
        draw_line(axes[-1], "", f1, style | {"linestyle": "-"})
    rival = found("cI-", "f1", "-siamese")
    draw_line(axes[-1], "Siamese", {STARTS[0]: rival}, {"color": "0.4", "marker": "*", "linestyle": ""})
    for ax, (title, paths) in zip(axes, PANELS.items(), strict=False):
        full = recorded(contrast.recipe("MMVAE"), *paths)
        if full:
            ax.axhline(full.mean, color="0.4", linewidth=1, label="MMVAE, all pairs")
        ax.set_title(title)
    axes[-1].set_title("F1 of the search")
    axes[-1].legend(fontsize="small")
    finish(axes, STARTS, "")
    for ax in grid[-1]:
        ax.set_xlabel("per cent in pairs")
    return axes


def added_pairs() -> Table:
    """What each way to add pairs finds, and what it does to the cross-coherence of cI-MMVAE at 10 % of the data."""
    body = []
    for label, ending in ADDED.items():
        name = recipe_of(ending)
        searched = ending in ("", "-siamese", "-brief")
        search = [recorded(name, f"propagation/full/{m}", split="") if searched else None for m in QUALITY]
        body.append([label, *search, recorded(name, *contrast.CROSS)])
    header = ["added to a tenth of the pairs", *QUALITY, "cross-coherence"]
    return table(header, body, caption="cI-MMVAE, `hand-street`, per cent, mean ± sd (seeds)")


def found(kind: str, metric: str, ending: str = "", share: int = 10) -> Summary | None:
    """Precision, recall or F1 on F_m of the search by a model trained on a share of the pairs."""
    return recorded(recipe_of(ending, kind, share), f"propagation/full/{metric}", split="")


def found_pairs() -> Table:
    """Figure 8f of Shi et al. 2021: how well each model, and a Siamese network, tells which items belong together."""
    who = {label: (kind, "") for label, kind in STUDY.items()} | {"Siamese network": ("cI-", "-siamese")}
    body = [[label, *(found(kind, m, ending) for m in QUALITY)] for label, (kind, ending) in who.items()]
    caption = "The search after a tenth of the pairs, `hand-street`, per cent, mean ± sd (seeds)"
    return table(["", *QUALITY], body, caption=caption)


def quality(ending: str) -> dict[str, list[float]]:
    """Precision, recall and F1 of what a recipe's search finds, seed by seed."""
    runs = results.load(recipe_of(ending))
    return {name: [results.value(run, f"propagation/full/{name}") for run in runs] for name in QUALITY}


def gain(better: str, worse: str, path: str = "", kind: str = "cI-", share: int = 10) -> Summary | None:
    """How far one ending is ahead of another in cross-coherence, or in a metric, seed by seed; None: too few seeds."""
    paths, split = ((path,), "") if path else (contrast.CROSS, "test/")
    return lead(recipe_of(better, kind, share), recipe_of(worse, kind, share), paths, split)
