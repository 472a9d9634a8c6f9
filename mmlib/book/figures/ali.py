"""Figures of the chapter on density ratios: ratios and their estimates, equilibria, divergences, factors, means."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.distributions import Diagonal
from mmlib.lab.ali import Played
from mmlib.plots import panels

# The two sides of a game, three things to minimise, and three ways to fit, each with a colour and a line.
SIDES = {"q": ("#0173b2", "-"), "p": ("#de8f05", "--")}
AIMS = [("#029e73", "-"), ("#cc78bc", "--"), ("#d55e00", "-.")]
FITS = {
    "joint": ("#949494", "s", "--"),
    "factorised": ("#029e73", "o", "-"),
    "with unpaired": ("#56b4e9", "^", ":"),
}
MEANS = {"product": ("#d55e00", "--"), "geometric mean": ("#029e73", "-"), "mixture": ("#cc78bc", "-.")}


def ratio_of_two(
    x: Tensor,
    log_q: Tensor,
    log_p: Tensor,
    drawn: tuple[Tensor, Tensor],
    estimates: Mapping[str, Tensor],
) -> list[Axes]:
    """Two densities and some of their samples on the left, their log-ratio and estimates of it on the right.

    Args:
        x: [N], the axis.
        log_q: [N].
        log_p: [N].
        drawn: samples of q and of p.
        estimates: name -> log-ratio [N].
    """
    _, axes = panels(2, sharex=True)
    for (name, (colour, line)), density, samples, level in zip(
        SIDES.items(), (log_q.exp(), log_p.exp()), drawn, (-0.03, -0.07), strict=True
    ):
        axes[0].plot(x, density, color=colour, linestyle=line, label=f"{name}(x)")
        axes[0].plot(samples, np.full(len(samples), level), "|", color=colour, markersize=4)
    axes[0].set_ylabel("density")
    axes[0].legend()
    axes[1].axhline(0, color="0.6", linewidth=0.8)
    axes[1].plot(x, log_q - log_p, color="black", linewidth=2, label="exact")
    for (name, values), (colour, line) in zip(estimates.items(), AIMS, strict=False):
        axes[1].plot(x, values, color=colour, linestyle=line, label=name)
    reach = float((log_q - log_p).max())
    axes[1].set(ylabel="log q/p (nats)", ylim=(-4 * reach, 2.5 * reach))
    axes[1].legend(fontsize=8)
    for ax in axes:
        ax.set_xlabel("x")
    return list(axes)


def ratio_maps(
    axis: Tensor, exact: Tensor, estimated: Tensor, mass: Tensor, drawn: tuple[Tensor, Tensor]
) -> list[Axes]:
    """Samples of both sides, the exact log-ratio over (x, z), and an estimate of it.

    Where the average of both densities is tiny, the maps are covered: nobody knows the ratio there.

    Args:
        axis: [N], of x and of z.
        exact: [N, N], z first.
        estimated: [N, N].
        mass: [N, N], average density of both sides.
        drawn: samples (x, z) of the encoder's and of the decoder's side.
    """
    _, axes = panels(3, height=2.5, sharex=True, sharey=True)
    for (_, (colour, _)), points, marker, label in zip(
        SIDES.items(), drawn, ("o", "x"), ("encoder q", "decoder p"), strict=True
    ):
        axes[0].plot(*points.T, marker, color=colour, markersize=3, alpha=0.6, label=label)
    axes[0].legend(fontsize=8, loc="upper left")
    axes[0].set_title("samples of both sides")
    hidden = mass < 2e-4
    levels = np.linspace(-4, 4, 17)
    for ax, values, title in zip(axes[1:], (exact, estimated), ("exact log q/p", "estimated"), strict=True):
        shown = np.ma.masked_array(values.clamp(-4, 4), hidden)
        drawn_map = ax.contourf(axis, axis, shown, levels=levels, cmap="PuOr_r")
        ax.contour(axis, axis, shown, levels=[0], colors="black", linewidths=1)
        ax.set_title(title)
        ax.grid(False)
    axes[0].figure.colorbar(drawn_map, ax=axes[1:], label="nats", ticks=[-4, -2, 0, 2, 4])
    axes[0].set_ylabel("code z")
    for ax in axes:
        ax.set_xlabel("data x")
    return list(axes)


def equilibria(games: Mapping[str, Played]) -> list[Axes]:
    """Where games of linear pairs go: slopes of encoder and decoder, and how much of x the code keeps.

    Args:
        games: name -> how they went; two of them.
    """
    _, axes = panels(3, height=2.5)
    axes[0].plot([-1, 1], [-1, 1], color="black", linewidth=1, label="equilibria")
    played = next(iter(games.values()))
    for a, w in zip(played.encoder_slope.T, played.decoder_slope.T, strict=True):
        (path,) = axes[0].plot(a, w, linewidth=1, alpha=0.8)
        axes[0].plot(a[0], w[0], "o", color=path.get_color(), markersize=3)
        axes[0].plot(a[-1], w[-1], "*", color=path.get_color(), markersize=9)
    axes[0].set(xlabel="slope of the encoder", ylabel="slope of the decoder")
    axes[0].set_title("paths (dot: start, star: end)")
    axes[0].legend(fontsize=8)
    for ax, (name, played) in zip(axes[1:], games.items(), strict=True):
        ax.plot(played.reconstructed.clamp(min=-0.5), linewidth=1)
        ax.set(title=name, xlabel="step", ylim=(-0.55, 1.05))
    axes[1].set_ylabel("reconstructed share of var(x)")
    return list(axes)


def aims(
    x: Tensor,
    target: Tensor,
    fits: Mapping[str, Tensor],
    along: Tensor,
    curves: Mapping[str, Tensor],
    marks: Sequence[tuple[float, str]],
) -> list[Axes]:
    """A density, the best normals by several aims, and the aims on a line from one normal to another.

    Args:
        x: [N], the axis.
        target: [N], a density.
        fits: aim -> density [N] of the best normal.
        along: [P], position on the line.
        curves: aim -> value [P]; drawn scaled to between 0 and 1.
        marks: position and name of the normals at the ends of the line.
    """
    _, axes = panels(2)
    axes[0].fill_between(x, target, color="0.85", linewidth=0, label="q")
    for (name, density), (colour, line) in zip(fits.items(), AIMS, strict=False):
        axes[0].plot(x, density, color=colour, linestyle=line, label=name)
    top = 1.25 * float(max(density.max() for density in fits.values()))
    axes[0].set(xlabel="x", ylabel="density", ylim=(0, top))
    axes[0].legend(fontsize=8, loc="upper left")
    for (name, values), (colour, line) in zip(curves.items(), AIMS, strict=False):
        scaled = (values - values.min()) / (values.max() - values.min())
        axes[1].plot(along, scaled, color=colour, linestyle=line, label=name)
    axes[1].set_xticks([place for place, _ in marks], [name for _, name in marks])
    axes[1].set_ylabel("aim, scaled to [0, 1]")
    return list(axes)


def ratio_errors(rows: Sequence[int], errors: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Axes]:
    """Error of the estimated log-ratios against the number of samples, one panel a game.

    Args:
        rows: samples of each distribution.
        errors: title -> way of fitting ("joint", "factorised", "with unpaired") -> error in nats, one for each number
            of rows; NaN where not computed.
    """
    _, axes = panels(len(errors), height=2.5, sharey=True, squeeze=False)
    for ax, (title, ways) in zip(axes[0], errors.items(), strict=True):
        for way, values in ways.items():
            colour, marker, line = FITS[way]
            ax.plot(rows, values, color=colour, marker=marker, linestyle=line, label=way)
        ax.set(xscale="log", yscale="log", title=title, xlabel="samples of each")
        ax.set_xticks(rows, [str(n) for n in rows])
        ax.minorticks_off()
    ticks = [0.1, 0.3, 1, 3, 10]
    axes[0, 0].set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes[0, 0].set_ylabel("error of log q/p (nats)")
    axes[0, -1].legend(fontsize=8, loc="lower left")
    return list(axes[0])


def means_of_experts(z: Tensor, cases: Mapping[str, tuple[Diagonal, Mapping[str, Tensor]]]) -> list[Axes]:
    """Experts in one dimension and the ways to make one density of them, one panel a case.

    Args:
        z: [N], the axis.
        cases: title -> experts [M, 1, 1] and, for "product", "geometric mean" and "mixture", log-densities [N].
    """
    _, axes = panels(len(cases), sharex=True, squeeze=False)
    for ax, (title, (experts, densities)) in zip(axes[0], cases.items(), strict=True):
        for loc, scale in zip(experts.loc, experts.scale, strict=True):
            density = Diagonal(loc, scale).log_prob(z[:, None, None])[:, 0].exp()
            ax.fill_between(z, density, color="0.7", alpha=0.45, linewidth=0)
        for name, values in densities.items():
            colour, line = MEANS[name]
            ax.plot(z, torch.exp(values), color=colour, linestyle=line, label=name)
        ax.set(title=title, xlabel="code z", ylim=(0, None))
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    return list(axes[0])
