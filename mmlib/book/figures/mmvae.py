"""Figures of the MMVAE chapter: decode paths, mixtures of experts, their gap and their gradients."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator
from torch import Tensor

from mmlib.distributions import Mixture
from mmlib.plots.style import look, panels, stroke

ESTIMATORS = {  # label, colour, marker, line
    "plain": ("plain", "black", "o", "-"),
    "squared": ("squared weights", "#56b4e9", "s", "--"),
    "normalised": ("normalised weights", "#ca9161", "^", ":"),
}


def decode_paths(names: Sequence[str] = ("hand", "street")) -> Axes:
    """What a step computes: every expert's draw goes through every decoder, M^2 paths; own ones thick, cross dashed."""
    _, ax = plt.subplots(figsize=(6.6, 0.95 * len(names) + 0.3))
    heights = [len(names) - 1 - i for i in range(len(names))]
    columns = {"encoder": 0.0, "draw": 1.75, "decoder": 4.0}
    for name, y in zip(names, heights, strict=True):
        colour = look(name)["color"]
        texts = {
            "encoder": f"encoder\n{name}",
            "draw": rf"$z \sim q_{{\mathrm{{{name}}}}}$",
            "decoder": f"decoder\n{name}",
        }
        box = {"boxstyle": "round,pad=0.04", "facecolor": "white", "edgecolor": colour, "linewidth": 1.6}
        for column, x in columns.items():
            ax.add_patch(FancyBboxPatch((x - 0.42, y - 0.24), 0.84, 0.48, **box))
            ax.text(x, y, texts[column], ha="center", va="center", fontsize=8.5)
        arrow = {"arrowstyle": "-|>", "mutation_scale": 12, "color": colour}
        own, cross = {"linestyle": "-", "linewidth": 1.8}, {"linestyle": "--", "linewidth": 1.4}
        ax.add_patch(FancyArrowPatch((0.47, y), (columns["draw"] - 0.47, y), **arrow, **own))
        for other, target in zip(names, heights, strict=True):
            ends = (columns["draw"] + 0.47, y), (columns["decoder"] - 0.47, target)
            ax.add_patch(FancyArrowPatch(*ends, **arrow, **(own if other == name else cross)))
    ax.set(xlim=(-0.6, 4.6), ylim=(-0.45, len(names) - 0.55))
    ax.axis("off")
    return ax


def mixture_densities(
    q: Mixture, names: Sequence[str], exact: Mixture, row: int, title: str, ax: Axes
) -> Axes:
    """Experts, their mixture and the exact joint posterior of one row, in one dimension.

    Args:
        q: mixture of the experts, D = 1.
        names: modalities, in the order of the components.
        exact: the exact posterior as a mixture of one, D = 1.
        row: which row.
        title: of the plot.
        ax: where to draw.
    """
    z = torch.linspace(-3.2, 3.2, 401, dtype=q.components.loc.dtype)
    at = z[:, None, None].expand(-1, q.components.loc.shape[1], 1)
    with torch.no_grad():
        experts = q.components.log_prob(at.unsqueeze(1)).exp()[..., row]  # [N, R]
        mixed, truth = q.log_prob(at).exp()[:, row], exact.log_prob(at).exp()[:, row]
    for i, name in enumerate(names):
        ax.plot(z, experts[:, i], label=f"expert: {name}", **stroke(name))
    ax.fill_between(z, mixed, color=look("mmvae")["color"], alpha=0.25, linewidth=0)
    ax.plot(z, mixed, color=look("mmvae")["color"], label="mixture of the two")
    ax.plot(z, truth, color="black", linestyle="-.", label="exact joint posterior")
    ax.set(xlabel="code z", ylabel="density", ylim=(0, None), title=title)
    return ax


def gap_against_information(
    information: Mapping[str, Sequence[float]], gaps: Mapping[str, Sequence[float]], ax: Axes
) -> Axes:
    """Measured gaps of exact unimodal experts, in nats, on the curve exp(2 I) - 1 - I that they must lie on.

    Args:
        information: modality -> conditional mutual information of the *other* modality, nats.
        gaps: modality -> measured average gap of its expert, nats.
        ax: where to draw.
    """
    most = max(max(values) for values in information.values())
    curve = np.linspace(0, 1.03 * most, 200)
    ax.plot(curve, np.exp(2 * curve) - 1 - curve, color="black", label=r"$e^{2I} - 1 - I$")
    for name, values in information.items():
        ax.plot(values, gaps[name], label=f"expert: {name}", **look(name) | {"linestyle": ""})
    ax.set(xlabel="$I$: what the other modality adds (nats)", ylabel="gap to log p(x) (nats)")
    ax.legend()
    return ax


def mixture_gap(
    noise: Sequence[float], experts: Mapping[str, Sequence[float]], mixture: Sequence[float], ax: Axes
) -> Axes:
    """Average gaps against the noise of one modality: each expert's, their mean, the mixture's, and log M below.

    Args:
        noise: standard deviations of the modality that is varied.
        experts: modality -> average gap of its expert, nats.
        mixture: average gap of the mixture, nats.
        ax: where to draw.
    """
    for name, values in experts.items():
        ax.plot(noise, values, label=f"expert: {name}", **look(name))
    mean = np.mean([list(values) for values in experts.values()], axis=0)
    ax.plot(noise, mean, color="0.45", linestyle="-", label="mean of the experts")
    ax.fill_between(
        noise, np.maximum(mean - np.log(len(experts)), 1e-9), mean, color="0.85", label="up to log M below it"
    )
    ax.plot(noise, mixture, label="mixture", **look("mmvae"))
    lowest = min(min(values) for values in experts.values())
    ax.set(xscale="log", yscale="log", ylim=(0.5 * lowest, None))
    ax.set(xlabel="noise of street (standard deviation)", ylabel="gap to log p(x) (nats)")
    ax.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 1, 2, 4]))
    ax.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.legend(fontsize=7.5)
    return ax


def gradient_errors(ks: Sequence[int], measured: Mapping[str, Mapping[str, Tensor]]) -> np.ndarray:
    """Bias and spread of gradient estimators against K, one column a situation.

    Args:
        ks: numbers of draws from each expert.
        measured: title -> {"exact": norm of the exact gradient [len(ks)], and for each estimator
            "bias.<name>", "resolution.<name>" (standard error of the measured bias) and "spread.<name>"}.

    Returns:
        The axes, [2, number of situations]: bias above, standard deviation below.
    """
    _, axes = panels(len(measured), 2, height=2.3, sharex=True, sharey="row", squeeze=False)
    for (title, values), (upper, lower) in zip(measured.items(), axes.T, strict=True):
        upper.plot(ks, values["exact"], color="0.55", linewidth=4, alpha=0.6, label="the gradient itself")
        for name, (label, colour, marker, line) in ESTIMATORS.items():
            style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
            seen = values[f"bias.{name}"] > 3 * values[f"resolution.{name}"]
            upper.plot(ks, np.where(seen, values[f"bias.{name}"], np.nan), label=label, **style)
            hollow = {**style, "linestyle": "", "markerfacecolor": "white", "alpha": 0.6}
            upper.plot(ks, np.where(seen, np.nan, values[f"bias.{name}"]), **hollow)
            lower.plot(ks, values[f"spread.{name}"], label=label, **style)
        upper.set_title(title)
        for ax in (upper, lower):
            ax.set_xscale("log", base=2)
            ax.set_yscale("log")
        lower.set_xticks(list(ks), [str(k) for k in ks])
        lower.set_xlabel("K, draws from each expert")
    axes[0, 0].set_ylabel("bias (norm)")
    axes[1, 0].set_ylabel("standard deviation (norm)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return axes
