"""Figures of the MoPoE chapter: products inside a mixture, gaps and scales by subset, coherence given every subset."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.distributions import Diagonal, Mixture, mixture_of_experts, product_of_subsets, single
from mmlib.plots.style import look, panels, stroke

SIZES = {1: ("#88ccee", "o", ":"), 2: ("#44aa99", "s", "--"), 3: ("#332288", "h", "-")}  # members of a subset
GAPS = {  # colour, marker, whether filled
    "its own exact posterior": ("0.55", "D", False),
    "the best that sees only the subset": ("black", "_", True),
    "products of shared encoders": ("#332288", "h", True),
}


def subset_densities(experts: Mapping[str, tuple[float, float]]) -> Sequence[Axes]:
    """Three normal experts, name -> (mean, standard deviation), multiplied, averaged, and both: one panel each."""
    loc, scale = torch.tensor(list(experts.values()), dtype=torch.float64).T[..., None, None]
    stack, seen = Diagonal(loc, scale), torch.ones(len(experts), 1, dtype=torch.bool)
    held = [[i >> m & 1 for m in range(len(experts))] for i in range(1, 2 ** len(experts))]
    products = product_of_subsets(stack, seen, torch.tensor(held, dtype=torch.bool))
    whole = Diagonal(products.loc[-1], products.scale[-1])
    _, axes = panels(3, height=2.5, sharex=True, sharey=True)
    rules = (
        ("product: AND", single(whole), "mvae"),
        ("mixture: OR", mixture_of_experts(stack, seen), "mmvae"),
        ("mixture of all products", mixture_of_experts(products, seen[:1].expand(len(held), 1)), "mopoe"),
    )
    for ax, (title, q, model) in zip(axes, rules, strict=True):
        _mixture(q, ax, look(model)["color"])
        for i, name in enumerate(experts):
            at = torch.linspace(-4, 4, 401, dtype=torch.float64)
            density = Diagonal(loc[i], scale[i]).log_prob(at[:, None, None]).exp()[:, 0]
            ax.plot(at, density, linewidth=1.2, label=name, **stroke(name))
        ax.set(title=title, xlabel="code z")
    axes[0].set_ylabel("density")
    axes[0].legend(loc="upper left")
    return axes


def _mixture(q: Mixture, ax: Axes, colour: str) -> None:
    """The density of a mixture of one row, D = 1, filled, and its weighted components as thin lines."""
    z = torch.linspace(-4, 4, 401, dtype=torch.float64)
    ax.fill_between(z, q.log_prob(z[:, None, None]).exp()[:, 0], color=colour, alpha=0.3, linewidth=0)
    parts = (q.components.log_prob(z[:, None, None, None]) + q.log_mixture).exp()[..., 0]  # [N, R]
    ax.plot(z, parts, color=colour, linewidth=0.7, alpha=0.8)


def gaps_by_subset(subsets: Sequence[Sequence[str]], gaps: Mapping[str, Sequence[float]]) -> Axes:
    """Mean gaps to log p(x), in nats, of posteriors that see each subset; a key of ``gaps`` is one of `GAPS`."""
    _, ax = panels(height=2.9)
    for label, values in gaps.items():
        colour, marker, filled = GAPS[label]
        style = {"color": colour, "marker": marker, "markersize": 14 if marker == "_" else 6, "linestyle": ""}
        ax.plot(values, label=label, markeredgewidth=1.8, **style, fillstyle="full" if filled else "none")
    ax.set_xticks(range(len(subsets)), [",\n".join(subset) for subset in subsets])
    ax.set(xlabel="given", ylabel="gap to log p(x) (nats)", ylim=(-0.1, None))
    ax.legend()
    return ax


def scale_curves(
    factors: Sequence[float], changes: Mapping[str, Tensor], subsets: Sequence[Sequence[str]]
) -> Sequence[Axes]:
    """How an objective changes, in nats, when the scale of one subset's posterior is multiplied by a factor.

    Args:
        factors: of the scale, [N].
        changes: title -> [S, N], one panel each.
        subsets: members of each of the S.
    """
    figure, axes = panels(len(changes), height=2.8)
    for ax, (title, values) in zip(axes, changes.items(), strict=True):
        for subset, row in zip(subsets, values.tolist(), strict=True):
            colour, marker, line = SIZES[len(subset)]
            label = {1: "given one", 2: "given two", 3: "given all"}[len(subset)]
            label = "" if label in ax.get_legend_handles_labels()[1] else label
            ax.plot(factors, row, color=colour, marker=marker, linestyle=line, label=label)
        ax.axhline(0, color="0.6", linewidth=0.8)
        best = float(values.max())
        ax.set(xscale="log", ylim=(-2.5 * best, 1.4 * best), title=title, xlabel="factor on the scale")
        ax.set_xticks(list(factors), [f"{factor:g}" for factor in factors])
        ax.minorticks_off()
    axes[0].set_ylabel("change of the objective (nats)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return axes


def coherence_maps(
    maps: Mapping[str, np.ndarray], given: Sequence[str], generated: Sequence[str]
) -> Sequence[Axes]:
    """Coherences as heat maps, one panel a title: a row for what is given, a column for what is generated, [G, M]."""
    figure, axes = panels(len(maps), height=3.0, sharey=True)
    axes = np.atleast_1d(axes)
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        values = np.asarray(values)
        drawn = ax.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            shade = "black" if value > 0.6 else "white"
            ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=shade, fontsize=8.5)
        ax.set_xticks(range(len(generated)), generated)
        ax.set_yticks(range(len(given)), given)
        ax.set(xlabel="generated", title=title)
        ax.grid(False)
        ax.tick_params(length=0)
    axes[0].set_ylabel("given")
    figure.colorbar(drawn, ax=list(axes), label="share coherent", shrink=0.9)
    return axes
