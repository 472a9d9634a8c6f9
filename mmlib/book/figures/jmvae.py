"""Figures of the JMVAE chapter: opinions and their average, the price of the penalty, widths of posteriors."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from mmlib.distributions import Diagonal
from mmlib.plots.style import colour, look, panels

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


def opinions(joint: Diagonal, answers: Mapping[str, tuple[Diagonal, str]], span: tuple[float, float]) -> Axes:
    """Joint posteriors of one item with many partners, thin, and single answers drawn over them.

    Args:
        joint: loc and scale [N, 1], one joint posterior for each partner.
        answers: kind (a key of ``ANSWERS``) -> posterior, loc and scale [1], and its text in the legend.
        span: from where to where to draw.

    Raises:
        ValueError: if an answer is of no known kind.
    """
    unknown = set(answers) - set(ANSWERS)
    if unknown:
        raise ValueError(f"answers has {', '.join(sorted(unknown))}; expected some of {', '.join(ANSWERS)}")
    _, ax = panels(height=3.3)
    z = torch.linspace(*span, 600, dtype=joint.loc.dtype)
    thin = ax.plot(z, joint.log_prob(z[:, None, None]).exp(), color="0.78", linewidth=0.9)
    thin[0].set_label("joint, one per partner")
    for kind, (answer, label) in answers.items():
        style = {key: value for key, value in ANSWERS[kind].items() if key != "marker"}
        ax.plot(z, answer.log_prob(z[:, None]).exp(), label=label, **style)
    ax.set(xlabel="code $z$", ylabel="density", yticks=[])
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    return ax


def laboratory_price(
    alphas: Sequence[float], information: Tensor, names: Sequence[str], gaps: Mapping[str, Sequence[float]]
) -> Sequence[Axes]:
    """What the joint encoder still tells about each dimension of the code, and what is lost, against alpha.

    Args:
        alphas: A weights of the penalty.
        information: [A, D] nats.
        names: of the D dimensions.
        gaps: label -> A numbers of nats.
    """
    _, axes = panels(2, height=3.0)
    for d, (name, style) in enumerate(zip(names, cycle(_NEUTRAL), strict=False)):
        axes[0].plot(alphas, information[:, d], label=name, **style)
    axes[0].set(ylabel="information in the code (nats)", title="what the joint encoder tells")
    for (label, values), line in zip(gaps.items(), cycle(("-", "--", ":")), strict=False):
        axes[1].plot(alphas, values, marker="D", linestyle=line, color=colour("jmvae"), label=label)
    axes[1].set(ylabel="nats", title="what that costs")
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel(r"weight of the penalty $\alpha$")
        ax.legend(fontsize="small")
    return axes


def posterior_widths(scales: Mapping[str, Tensor]) -> Axes:
    """Mean standard deviation of each posterior in each dimension of the code, dimensions sorted by the first.

    Args:
        scales: name -> [B, D]; ``"joint"`` has the model's colour, a modality its own.
    """
    _, ax = panels(height=2.9)
    order = next(iter(scales.values())).mean(0).argsort()
    for name, scale in scales.items():
        style = look("jmvae" if name == "joint" else name)
        ax.plot(scale.mean(0)[order].cpu(), label=name, **style)
    ax.axhline(1, color="0.6", linewidth=1, linestyle=":")
    ax.set(xlabel="dimension of the code, sharpest first", ylabel="standard deviation")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylim(bottom=0)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return ax
