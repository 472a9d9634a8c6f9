"""Figures of the JMVAE chapter: opinions and their average, the price of the penalty, widths and maps of codes."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mmlib.distributions import Diagonal
from mmlib.plots.style import colour, look

# The answers that a chapter compares; the colours are those that no modality and no model has.
ANSWERS = {
    "exact": {**look("exact"), "linestyle": "--", "linewidth": 2.2, "zorder": 5},
    "forward": {"color": colour("jmvae"), "linestyle": "-", "linewidth": 2.6},
    "reverse": {"color": "#56b4e9", "linestyle": "-."},
    "zeros": {"color": "#ca9161", "linestyle": ":", "linewidth": 2.2},
}
_NEUTRAL = (
    {"color": "0.15", "marker": "o", "linestyle": "-"},
    {"color": "#ca9161", "marker": "s", "linestyle": "--"},
    {"color": "#56b4e9", "marker": "^", "linestyle": ":"},
)
_DIGITS = plt.get_cmap("tab10")


def opinions(
    joint: Diagonal,
    answers: Mapping[str, Diagonal],
    labels: Mapping[str, str],
    span: tuple[float, float],
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Joint posteriors of one item with many partners, thin, and single answers drawn over them.

    Args:
        joint: loc and scale [N, 1], one joint posterior for each partner.
        answers: kind (a key of ``ANSWERS``) -> posterior, loc and scale [1].
        labels: kind -> text of the legend.
        span: from where to where to draw.
        title: of the plot.
        ax: where to draw; default: a new figure.

    Raises:
        ValueError: if an answer is of no known kind.
    """
    unknown = set(answers) - set(ANSWERS)
    if unknown:
        raise ValueError(f"answers has {', '.join(sorted(unknown))}; expected some of {', '.join(ANSWERS)}")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.2, 3.2))
    z = torch.linspace(*span, 600, dtype=joint.loc.dtype)
    density = joint.log_prob(z[:, None, None]).exp()  # [600, N]
    for i in range(density.shape[1]):
        ax.plot(
            z, density[:, i], color="0.78", linewidth=0.9, label="joint, one a partner" if i == 0 else None
        )
    for kind, answer in answers.items():
        style = {key: value for key, value in ANSWERS[kind].items() if key != "marker"}
        ax.plot(z, answer.log_prob(z[:, None]).exp(), label=labels.get(kind, kind), **style)
    ax.set_xlabel("code $z$")
    ax.set_ylabel("density")
    ax.set_yticks([])
    if title:
        ax.set_title(title)
    ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def laboratory_price(
    alphas: Sequence[float],
    information: Tensor,
    names: Sequence[str],
    gaps: Mapping[str, Sequence[float]],
    axes: Sequence[Axes] | None = None,
) -> Sequence[Axes]:
    """What the joint encoder still tells about each dimension of the code, and what is lost, against alpha.

    Args:
        alphas: A weights of the penalty.
        information: [A, D] nats.
        names: of the D dimensions.
        gaps: label -> A numbers of nats.
        axes: two axes; default: a new figure.
    """
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(8.6, 3.1))
    for d, (name, style) in enumerate(zip(names, cycle(_NEUTRAL), strict=False)):
        axes[0].plot(alphas, information[:, d], label=name, **style)
    axes[0].set_ylabel("information in the code (nats)")
    axes[0].set_title("what the joint encoder tells")
    for (label, values), line in zip(gaps.items(), cycle(("-", "--", ":")), strict=False):
        axes[1].plot(alphas, values, marker="D", linestyle=line, color=colour("jmvae"), label=label)
    axes[1].set_ylabel("nats")
    axes[1].set_title("what that costs")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel(r"weight of the penalty $\alpha$")
        ax.legend(fontsize="small")
    return axes


def alpha_sweep(
    rows: Mapping[float, Mapping[str, float]], axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Coherences, and the two sides of the objective, of models trained with different alpha.

    Args:
        rows: alpha -> ``{"elbo", "penalty", coherence: number}``. A coherence is named "given → generated" and has the
            colour of what is generated; the line is dashed if everything was given ("both → hand").
        axes: two axes; default: a new figure.
    """
    if axes is None:
        _, axes = plt.subplots(1, 2, figsize=(8.8, 3.2))
    alphas = list(rows)
    coherences = [key for key in next(iter(rows.values())) if key not in ("elbo", "penalty")]
    for key in coherences:
        given, generated = key.split(" → ")
        style = {**look(generated), "linestyle": "--" if given == "both" else "-"}
        axes[0].plot(alphas, [rows[a][key] for a in alphas], label=key, **style)
    axes[0].axhline(0.1, **{**look("chance"), "marker": ""}, label="chance")
    axes[0].set_ylabel("coherence")
    axes[0].set_ylim(0, 1)
    axes[0].legend(fontsize="small", ncols=2, handlelength=3.5)
    axes[1].plot(alphas, [rows[a]["elbo"] for a in alphas], marker="D", color=colour("jmvae"))
    axes[1].set_ylabel("joint ELBO (nats)")
    twin = axes[1].twinx()
    twin.plot(alphas, [rows[a]["penalty"] for a in alphas], marker="x", linestyle=":", color="0.4")
    twin.set_ylabel("penalty (nats), dotted", color="0.4")
    twin.grid(False)
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel(r"weight of the penalty $\alpha$")
    return axes


def posterior_widths(scales: Mapping[str, Tensor], ax: Axes | None = None) -> Axes:
    """Mean standard deviation of each posterior in each dimension of the code, dimensions sorted by the first.

    Args:
        scales: name -> [B, D]; ``"joint"`` has the model's colour, a modality its own.
        ax: where to draw; default: a new figure.
    """
    if ax is None:
        _, ax = plt.subplots(figsize=(6.6, 2.9))
    order = next(iter(scales.values())).mean(0).argsort()
    for name, scale in scales.items():
        style = look("jmvae" if name == "joint" else name)
        ax.plot(scale.mean(0)[order].cpu(), label=name, **style)
    ax.axhline(1, color="0.6", linewidth=1, linestyle=":")
    ax.set_xlabel("dimension of the code, sharpest first")
    ax.set_ylabel("standard deviation")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax


def code_map(
    codes: Mapping[str, Tensor], labels: Tensor, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Codes of the same items from several posteriors, in the plane of the first one's two principal components.

    Args:
        codes: title -> [N, D].
        labels: int64 [N], digits.
        axes: one for each entry; default: a new figure.
    """
    if axes is None:
        _, axes = plt.subplots(
            1, len(codes), figsize=(3.0 * len(codes) + 0.6, 3.0), sharex=True, sharey=True, squeeze=False
        )
        axes = axes[0]
    first = next(iter(codes.values())).double()
    centre = first.mean(0)
    plane = torch.linalg.svd(first - centre, full_matrices=False).Vh[:2].T  # [D, 2]
    plane = plane * plane.sum(0).sign()
    for ax, (title, z) in zip(axes, codes.items(), strict=True):
        points = ((z.double() - centre) @ plane).cpu().numpy()
        for digit in np.unique(labels.cpu().numpy()):
            some = points[labels.cpu().numpy() == digit]
            ax.scatter(*some.T, s=7, alpha=0.6, color=_DIGITS(digit % 10), linewidths=0, label=str(digit))
        ax.set_title(title)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_aspect("equal", "box")
    axes[-1].legend(
        title="digit", fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2
    )
    return axes
