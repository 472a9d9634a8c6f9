"""Figures of the chapter on MVAE: products of beliefs, what training leaves open, and who is heard."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.distributions import Diagonal, product_of_experts
from mmlib.plots.style import colour, panels, stroke


def product_panels(cases: Mapping[str, Mapping[str, tuple[float, float]]]) -> list[Axes]:
    """One panel per case: the prior N(0, 1), experts in one dimension, and the product of all of them.

    ``cases`` are title -> modality -> (location, standard deviation) of its expert.
    """
    _, axes = panels(len(cases), sharex=True, squeeze=False)
    z = torch.linspace(-4, 4, 801, dtype=torch.float64)
    prior = Diagonal(torch.zeros(1).double(), torch.ones(1).double())
    for ax, (title, experts) in zip(axes[0], cases.items(), strict=True):
        loc, scale = (torch.tensor(v).double().view(-1, 1, 1) for v in zip(*experts.values(), strict=True))
        product = product_of_experts(Diagonal(loc, scale), torch.ones(len(loc), 1, dtype=torch.bool), prior)
        curves = {
            "prior": prior,
            **{n: Diagonal(m[0], s[0]) for n, m, s in zip(experts, loc, scale, strict=True)},
        }
        for name, q in curves.items():
            style = {"color": colour("chance"), "linestyle": ":"} if name == "prior" else stroke(name)
            ax.plot(z, q.log_prob(z[:, None]).exp(), label=name, **style)
        density = product.log_prob(z[:, None, None])[:, 0].exp()
        ax.fill_between(z, density, color=colour("mvae"), alpha=0.18, linewidth=0)
        ax.plot(z, density, color=colour("mvae"), linewidth=2.4, label="product")
        ax.set(title=title, xlabel="code $z$")
    axes[0, 0].set_ylabel("density")
    axes[0, len(cases) // 2].legend(loc="upper right", fontsize="small")
    return list(axes[0])


def prior_count(
    z: Tensor, densities: Mapping[str, Tensor], counts: Sequence[int], gaps: Mapping[str, Sequence[float]]
) -> list[Axes]:
    """What becomes of a posterior if the prior is counted wrongly: the densities of one row, and the error against M.

    Args:
        z: [N], where the densities are evaluated.
        densities: rule -> [N]; the rule called "exact" is drawn in black.
        counts: numbers of modalities M.
        gaps: rule -> KL to the exact posterior in nats, one for each of ``counts``.
    """
    _, axes = panels(2)
    for i, (rule, density) in enumerate(densities.items()):
        axes[0].plot(z, density, label=rule, **_rule(rule, i))
    axes[0].set(xlabel="code $z$", ylabel="density")
    axes[0].legend(fontsize="small")
    for i, (rule, gap) in enumerate(gaps.items(), start=1):
        axes[1].plot(counts, gap, label=rule, marker="o", **_rule(rule, i))
    axes[1].set(xticks=counts, xlabel="number of modalities $M$", ylabel="KL to the exact posterior (nats)")
    return list(axes)


def undetermined(cases: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]]) -> list[Axes]:
    """How far ELBOs fall below their log-likelihoods when something is moved from one expert to the other.

    Args:
        cases: label of the horizontal axis -> (how much is moved, ELBO's name -> gap in nats). The name "joint" is
            drawn in the model's colour, names of modalities in theirs.
    """
    _, axes = panels(len(cases), sharey=True, squeeze=False)
    for ax, (label, (moved, gaps)) in zip(axes[0], cases.items(), strict=True):
        for name, gap in gaps.items():
            style = {"color": colour("mvae"), "linewidth": 2.6} if name == "joint" else stroke(name)
            ax.plot(moved, [-g for g in gap], label=f"ELBO, {name}", **style)
        ax.set_xlabel(label)
    axes[0, 0].set_ylabel("ELBO $-$ log-likelihood (nats)")
    axes[0, 0].legend()
    return list(axes[0])


def voices(models: Mapping[str, Mapping[str, Tensor]]) -> list[Axes]:
    """Share of each factor of a product in its precision: one panel per model, one stacked bar per dimension.

    Args:
        models: title -> name of the factor -> [D], adding up to one in each dimension. "prior" is grey, modalities
            have their colours. Dimensions are ordered from those of the first factor to those of the second.
    """
    figure, axes = panels(len(models), height=2.9, sharey=True, squeeze=False)
    for ax, (title, shares) in zip(axes[0], models.items(), strict=True):
        first, second, *_ = shares.values()
        order, bottom = (first - second).argsort(descending=True), torch.zeros_like(first)
        for i, (name, share) in enumerate(shares.items()):
            style = {"color": colour("chance" if name == "prior" else name), "hatch": "///" if i == 1 else ""}
            style |= {"width": 0.9, "edgecolor": "white", "linewidth": 0.3, "label": name}
            ax.bar(range(1, len(share) + 1), share[order].tolist(), bottom=bottom.tolist(), **style)
            bottom = bottom + share[order]
        ax.set(title=title, xlabel="dimensions, ordered", xticks=[], ylim=(0, 1))
        ax.grid(False)
    axes[0, 0].set_ylabel("share of the precision")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return list(axes[0])


def _rule(rule: str, index: int) -> dict:
    if rule == "exact":
        return {"color": "black", "linewidth": 3.0, "alpha": 0.45}
    return {
        "color": (colour("mvae"), "#56b4e9", "#ca9161")[index - 1],
        "linestyle": ("-", "--", ":")[index - 1],
    }
