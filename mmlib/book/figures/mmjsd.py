"""Figures of the chapter on mmJSD: two dynamic priors, their divergences, and an objective that is no bound."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.distributions import Mixture, geometric_mean
from mmlib.plots.style import colour, panels, stroke

# Of the two means: label, colour and line, the same in every figure of the chapter.
GEOMETRIC, ARITHMETIC = (
    ("product (geometric mean)", "#8c1d40", "-"),
    ("mixture (arithmetic mean)", "#cc79a7", "--"),
)


def dynamic_priors(cases: Mapping[str, Mixture], names: Sequence[str]) -> list[Axes]:
    """One panel a case: the experts, the prior, and the two distributions that may stand for them all.

    Args:
        cases: title -> experts and, last, the prior with their weights: normal, one row, D = 1.
        names: of the experts.
    """
    _, axes = panels(len(cases), sharey=True, squeeze=False)
    z = torch.linspace(-4, 4, 401, dtype=torch.float64)
    at = z[:, None, None]
    for ax, (title, q) in zip(axes[0], cases.items(), strict=True):
        densities = q.components.log_prob(at.unsqueeze(1)).exp()[..., 0].T  # [M + 1, N]
        for name, density in zip(names, densities, strict=False):
            ax.plot(z, density, label=f"expert: {name}", **stroke(name))
        ax.plot(z, densities[-1], label="prior", color=colour("chance"), linestyle=":")
        centre = geometric_mean(q.components, q.log_mixture > -torch.inf, q.log_mixture.exp())
        for (label, shade, line), log_density in (
            (ARITHMETIC, q.log_prob(at)),
            (GEOMETRIC, centre.log_prob(at)),
        ):
            density = log_density.exp()[:, 0]
            ax.plot(z, density, color=shade, linestyle=line, linewidth=2.4, label=label)
            ax.fill_between(z, density, color=shade, alpha=0.12, linewidth=0)
        ax.set(title=title, xlabel="code $z$")
    axes[0, 0].set_ylabel("density")
    axes[0, 0].figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return list(axes[0])


def kl_of_mixtures(parts: Mapping[str, Tensor], whole: Mapping[str, Tensor]) -> Axes:
    """Lemma 1: the KL of a mixture against the weighted sum of its components' KLs, nats; none above the diagonal.

    Args:
        parts: what kind of mixtures -> weighted sums [N].
        whole: the same kinds -> KLs of the mixtures [N].
    """
    _, ax = panels(1, height=3.0)
    shades = zip(parts, (("0.35", "o", 9), ("#8c1d40", "D", 22)), strict=True)
    most = max(float(values.max()) for values in parts.values())
    ax.plot([0, most], [0, most], color="black", label="equality")
    ax.fill_between([0, most], 0, [0, most], color="0.9", linewidth=0)
    for kind, (shade, marker, size) in shades:
        ax.scatter(parts[kind], whole[kind], s=size, color=shade, marker=marker, linewidths=0, label=kind)
    ax.set(xlabel=r"$\sum_m \pi_m\, \mathrm{KL}(q_m \Vert p)$ (nats)", ylabel="KL of the mixture (nats)")
    ax.legend(loc="upper left")
    return ax


def divergences(distance: Sequence[float], curves: Mapping[str, Tensor], ceiling: float) -> Axes:
    """Both divergences of two experts and the prior against the distance of the experts, nats.

    Args:
        distance: between the experts' means.
        curves: ``"geometric"``, ``"arithmetic"``, ``"upper"`` and ``"lower"``, the last two of the second: [N].
        ceiling: entropy of the weights.
    """
    _, ax = panels(1, height=2.9)
    for key, (label, shade, line) in (("geometric", GEOMETRIC), ("arithmetic", ARITHMETIC)):
        ax.plot(distance, curves[key], color=shade, linestyle=line, linewidth=2.2, label=f"from the {label}")
    shade = {"color": ARITHMETIC[1], "alpha": 0.2, "linewidth": 0, "label": "its bounds"}
    ax.fill_between(distance, curves["lower"], curves["upper"], **shade)
    ax.axhline(ceiling, color="0.4", linestyle=":", label="entropy of the weights")
    ax.set(ylim=(0, 2.2 * ceiling), xlabel="distance of the experts' means", ylabel="divergence (nats)")
    ax.legend(loc="upper right")
    return ax


def above_log_p(
    cases: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], mark: Sequence[float]
) -> list[Axes]:
    """What is maximised less log p(x), in nats: above the line at 0 nothing that is a bound may go.

    Args:
        cases: label of the horizontal axis -> (its values, curves); curves are ``"product"``, ``"mixture"`` and
            ``"ELBO"``, N numbers each.
        mark: a place on the horizontal axis of each case, marked by a vertical line.
    """
    _, axes = panels(len(cases), sharey=True, squeeze=False)
    looks = {"product": GEOMETRIC[1:], "mixture": ARITHMETIC[1:], "ELBO": ("0.35", "-.")}
    for ax, place, (label, (at, curves)) in zip(axes[0], mark, cases.items(), strict=True):
        ax.axhline(0, color="black", linewidth=2)
        for name, values in curves.items():
            shade, line = looks[name]
            text = name if name == "ELBO" else f"mmJSD, {name} as prior"
            ax.plot(at, values, color=shade, linestyle=line, label=text)
        ax.axvline(place, color="0.6", linestyle=":")
        ax.set_xlabel(label)
    axes[0, 0].set(ylim=(-1.1, 1.1), ylabel=r"objective $-$ log p(x) (nats)")
    axes[0, 0].figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return list(axes[0])
