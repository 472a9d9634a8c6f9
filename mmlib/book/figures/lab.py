"""Figures of the laboratory: proposals and their weights, bounds against K, the signal in a gradient."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from mmlib.book.figures.mmvae import ESTIMATORS
from mmlib.distributions import Diagonal
from mmlib.plots.style import panels

# A proposal keeps its colour and line through the chapter, a bound its shade and marker.
PROPOSALS = {"close": ("#332288", "-"), "wide": ("#999933", "--"), "thin": ("#882255", "-.")}
IWAE, CUBO, LOOSER = ("#029e73", "o"), ("#d55e00", "v"), ("#029e73", "s")


def proposals_and_weights(
    z: torch.Tensor, log_joint: torch.Tensor, log_evidence: float, proposals: Mapping[str, Diagonal]
) -> np.ndarray:
    """Exact posterior and proposals on the left, the log-weight that each gives to every z on the right.

    Args:
        z: [N], the axis.
        log_joint: [N], log p(x, z).
        log_evidence: log p(x).
        proposals: name -> normal with one row and one dimension.

    Returns:
        The two axes.
    """
    _, axes = panels(2)
    left, right = axes
    exact = (log_joint - log_evidence).exp()
    left.fill_between(z, exact, color="0.85", linewidth=0)
    left.plot(z, exact, color="black", label="posterior p(z | x)")
    right.axhline(log_evidence, color="black", label="log p(x)")
    for name, q in proposals.items():
        colour, line = PROPOSALS[name]
        log_q = q.log_prob(z[:, None, None])[:, 0]
        left.plot(z, log_q.exp(), color=colour, linestyle=line, label=f"q, {name}")
        right.plot(z, log_joint - log_q, color=colour, linestyle=line, label=f"q, {name}")
    left.set(ylabel="density", ylim=(0, None))
    left.legend(fontsize=8)
    right.set(ylabel="log-weight log w(z) (nats)", ylim=(log_evidence - 4, log_evidence + 4))
    for ax in axes:
        ax.set(xlabel="code z", xlim=(float(z.min()), float(z.max())))
    return axes


def bounds_against_k(
    ks: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    drawn: Mapping[str, tuple[Sequence[int], Sequence[float], Sequence[float]]],
    limit: float | None,
    title: str,
    ax: Axes,
) -> Axes:
    """Expected IWAE and CUBO estimates against K, above or below the exact log p(x), which is the line at zero.

    Args:
        ks: sample sizes of the curves.
        curves: "iwae" and "cubo" -> expected value minus log p(x), nats.
        drawn: the same keys -> (sample sizes, means, standard errors) from simulation, drawn as points.
        limit: where CUBO goes, minus log p(x); None or infinite: nowhere.
        title: of the plot.
        ax: where to draw.
    """
    ax.axhline(0, color="black", linewidth=2, label="exact log p(x)")
    for key, label, (colour, marker), line in [
        ("cubo", "CUBO estimate", CUBO, "--"),
        ("iwae", "IWAE", IWAE, "-"),
    ]:
        ax.plot(ks, curves[key], color=colour, linestyle=line, label=f"{label}, expected")
        sizes, means, errors = drawn[key]
        style = {"color": colour, "marker": marker, "linestyle": "", "label": f"{label}, drawn"}
        ax.errorbar(sizes, means, 2 * np.asarray(errors), **style)
    if limit is not None and np.isfinite(limit):
        ax.axhline(limit, color=CUBO[0], linestyle=":", label="CUBO, limit")
    hollow = {"color": "black", "linestyle": "", "markersize": 7, "fillstyle": "none"}
    ax.plot(ks[:1], curves["iwae"][:1], marker="D", label="ELBO", **hollow)
    ax.set_yscale("symlog", linthresh=0.1)
    ticks = [-1, -0.3, -0.1, 0, 0.1, 0.3, 1]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    _powers(ax, ks)
    ax.set(xlabel="samples K", title=title)
    return ax


def gradient_signal(
    ks: Sequence[int], measured: Mapping[str, Mapping[str, np.ndarray]], exact: np.ndarray
) -> np.ndarray:
    """Bias, spread and signal-to-noise ratio of gradient estimators against K.

    Args:
        ks: sample sizes.
        measured: estimator, or "decoder" -> {"mean", "sd", "error"}, each [len(ks)], the last the standard error of
            the mean; and "signal", [len(ks)], where a signal-to-noise ratio is to be drawn.
        exact: the gradient of the expected bound, [len(ks)].

    Returns:
        The three axes.
    """
    _, axes = panels(3, height=2.9)
    ks = np.asarray(ks)
    axes[0].plot(ks, np.abs(exact), color="0.55", linewidth=4, alpha=0.6, label="the gradient itself")
    for name, value in measured.items():
        label, colour, marker, line = ESTIMATORS.get(name, ("decoder, any estimator", "0.55", "x", "-."))
        style = {"color": colour, "marker": marker, "linestyle": line, "markersize": 4}
        if name in ESTIMATORS:
            bias = np.abs(value["mean"] - exact)
            seen = bias > 3 * value["error"]
            axes[0].plot(ks, np.where(seen, bias, np.nan), **style)
            hollow = {**style, "linestyle": "", "markerfacecolor": "white", "alpha": 0.6}
            axes[0].plot(ks, np.where(seen, np.nan, bias), **hollow)
            axes[1].plot(ks, value["sd"], **style)
        signal = value["signal"] / value["sd"] if "signal" in value else np.full(len(ks), np.nan)
        axes[2].plot(ks, signal, label=label, **style)
    for ax, title in zip(axes, ["bias", "standard deviation", "signal-to-noise ratio"], strict=True):
        ax.set(title=title, yscale="log", xlabel="samples K")
        _powers(ax, ks)
    handles, labels = (
        a + b for a, b in zip(*(ax.get_legend_handles_labels() for ax in (axes[0], axes[2])), strict=True)
    )
    axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return axes


def tight_and_looser(
    ks: Sequence[int],
    tight: Sequence[float],
    looser: Sequence[float],
    components: Sequence[float],
    limit: float,
) -> Axes:
    """Expected bounds of a mixture against K, relative to log p(x) at zero, and the limits of the looser one's terms.

    Args:
        ks: draws from every component.
        tight: expected tight IWAE minus log p(x), nats.
        looser: expected looser IWAE minus log p(x).
        components: log of each component's mean weight, minus log p(x).
        limit: their average, where the looser bound goes.
    """
    _, ax = plt.subplots(figsize=(6.0, 3.2))
    ax.axhline(0, color="black", linewidth=2, label="exact log p(x)")
    ax.plot(ks, tight, color=IWAE[0], marker=IWAE[1], label="tight")
    ax.plot(ks, looser, color=LOOSER[0], marker=LOOSER[1], linestyle="--", fillstyle="none", label="looser")
    for number, value in enumerate(components):
        label = "" if number else "log mean weight of a component"
        ax.axhline(value, color="0.6", linewidth=1, linestyle=":", label=label)
    ax.axhline(limit, color=LOOSER[0], linestyle=":", label="their mean: limit of looser")
    _powers(ax, ks)
    ax.set(xlabel="draws K from every component", ylabel="nats above log p(x)")
    ax.legend(fontsize=8)
    return ax


def _powers(ax: Axes, ks: Sequence[int]) -> None:
    """A logarithmic axis of sample sizes with whole numbers at the powers of four, or of sixteen if they are many."""
    ax.set_xscale("log", base=4)
    ticks = [int(k) for k in ks if (int(k).bit_length() - 1) % 2 == 0]
    ticks = ticks[:: 1 + (len(ticks) > 6)]
    ax.set_xticks(ticks, [str(k) for k in ticks])
