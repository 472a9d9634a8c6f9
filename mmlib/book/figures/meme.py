"""Figures of the chapter on MEME: a weight at work, a bound, what is left of a signal, and recorded runs."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.book import speed
from mmlib.book.figures.recorded import draw_line, finish, lead, recorded
from mmlib.book.figures.three_modalities import COHERENCE, NAMES, TRANSLATION
from mmlib.book.ledger_rule import SEEDS
from mmlib.modality import Batch
from mmlib.models.meme import MEME
from mmlib.plots.results import Table, table
from mmlib.plots.style import colour, look, panels
from mmlib.seeding import generator
from mmlib.summary import Summary, summarise

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
THREE_RUNS = {  # of three modalities: label -> ending of the recipe
    "MEME, mixture of the others": "meme-mixture",
    "MEME, product of the others": "meme-product",
    "mmJSD": "mmjsd",
    "MoPoE": "mopoe",
    "MMVAE": "mmvae",
    "MVAE": "mvae",
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


def one_way(model: MEME, source: str, **settings) -> OneWay:
    """A copy of a model of two modalities that keeps one direction, and has other settings, if any are given."""
    made = copy.deepcopy(model)
    made.__class__, made.source = OneWay, source
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def log_conditional(model: MEME, batch: Batch, s: str, t: str, draws: int, generator) -> Tensor:
    """Estimate of what one direction bounds, log of the integral of p(s | z) q(z | t): [B], nats.

    Importance samples, half of them from the encoder of s and half from that of t.
    """
    from_s, from_t = (model.encode(name, batch[name]) for name in (s, t))
    z = torch.cat([q.rsample(draws // 2, generator) for q in (from_s, from_t)])  # [draws, B, D]
    log_s, log_t = from_s.log_prob(z), from_t.log_prob(z)
    everyone = torch.ones(z.shape[1], dtype=torch.bool)
    proposal = torch.logaddexp(log_s, log_t) - math.log(2)
    log_weight = model.log_likelihood(s, z, batch[s], everyone) + log_t - proposal
    return log_weight.logsumexp(0) - math.log(len(z))


@torch.no_grad()
def flips(models: Iterable[MEME], batch: Batch, draws: int = 200) -> dict[str, Summary]:
    """Mean over items of `log_conditional` in either direction, by s, over models of several seeds: nats.

    The evaluation of Table 2 of Joy et al. 2022, whatever direction a model was trained in; without log p(t).
    """
    first, second = batch
    models = [each.eval() for each in models]
    found = {}
    for s, t in ((first, second), (second, first)):
        values = [log_conditional(each, batch, s, t, draws, generator(0)).mean() for each in models]
        found[s] = summarise([float(value) for value in values])
    return found


def private(batch: Batch) -> dict[str, tuple[str, Tensor]]:
    """What only one picture knows, [B, N] each, by name and with the modality: measured in pixels and their values.

    Of *hand* the slant (x over y of its ink, a regression) and the amount of ink; of *street* how bright it is and its
    mean colour, as the three channels less their mean.
    """
    ink, colours = batch["hand"].mean(1), batch["street"].mean((2, 3))  # [B, H, W], [B, 3]
    y, x = (torch.arange(size, dtype=ink.dtype) for size in ink.shape[1:])
    total = ink.sum((1, 2))
    x = x - ((ink * x).sum((1, 2)) / total)[:, None, None]
    y = y[:, None] - ((ink * y[:, None]).sum((1, 2)) / total)[:, None, None]
    slant = (ink * x * y).sum((1, 2)) / (ink * y * y).sum((1, 2))
    bright = colours.mean(1, keepdim=True)
    return {
        "slant of hand": ("hand", slant[:, None]),
        "ink of hand": ("hand", total[:, None]),
        "brightness of street": ("street", bright),
        "hue of street": ("street", colours - bright),
    }


def explained(codes: Tensor, facts: Tensor) -> float:
    """Share of the variance of facts [B, N] that a linear regression on codes [B, D] explains, mean over N.

    Fitted on the first half of the rows, measured on the second.
    """
    x = torch.cat([codes, torch.ones(len(codes), 1)], 1).double()
    (x, new_x), (y, new_y) = (each.split(-(-len(x) // 2)) for each in (x, facts.double()))
    left = (new_y - new_x @ torch.linalg.lstsq(x, y).solution).square().sum(0)
    return float((1 - left / (new_y - y.mean(0)).square().sum(0)).mean())


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


def coefficients_recorded(values: Sequence[float] = (1, 2, 5, 10)) -> str:
    """Which coefficients have three seeds, and the mean cross-coherence of each, as a sentence."""
    ways = [path for name, path in COLUMNS.items() if " to " in name]
    found = {value: level(recipe(value), *ways) for value in values}
    text = ", ".join(f"{value:g}: {100 * each.mean:.0f} %" for value, each in found.items() if each)
    return f"Cross-coherence by coefficient, mean of both directions, where three seeds are recorded: {text or 'none'}."


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
    body = [
        [label, *(recorded(f"hand-street-text-{run}", *paths) for paths in THREE.values())]
        for label, run in THREE_RUNS.items()
    ]
    return table(
        ["three modalities", *THREE], body, caption="Per cent, mean ± sd (seeds); means over directions"
    )


def three_lead(run: str, other: str, what: str) -> Summary | None:
    """How far one of `THREE_RUNS` is ahead of another in one column of `three_modalities`, seed by seed."""
    return lead(f"hand-street-text-{run}", f"hand-street-text-{other}", THREE[what])


def three_leads() -> Table:
    """By how much MEME, with either combination, is ahead of other mixtures: 95 % intervals in points, or a dash."""
    labels = {run: label for label, run in THREE_RUNS.items()}
    body = []
    for run in ("meme-mixture", "meme-product"):
        for other in ("mmjsd", "mopoe", "mmvae"):
            found = [three_lead(run, other, what) for what in THREE]
            body.append([f"{labels[run]}, less {labels[other]}", *(points(ahead) for ahead in found)])
    return table(["points", *THREE], body, caption="95 % intervals of the difference, seeds paired")


def points(ahead: Summary | None) -> str | None:
    """An interval of a difference of shares, in points."""
    return ahead and f"{100 * ahead.low:+.1f} to {100 * ahead.high:+.1f}"


def level(name: str, *paths: str) -> Summary | None:
    """The mean of some metrics of a recipe over its seeds, if at least three are recorded."""
    found = recorded(name, *paths)
    return found if found is not None and found.n >= SEEDS else None
