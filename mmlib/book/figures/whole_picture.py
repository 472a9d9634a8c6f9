"""Figures and sentences of the chapter that compares all models: trade-offs, ranks, translations, codes."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator
from scipy import stats
from torch import Tensor

from mmlib.book import whole_picture as picture
from mmlib.book.whole_picture import SEEDS, Row, interval
from mmlib.distributions import Diagonal
from mmlib.metrics import class_distances, fit_probe, joint_map, latent_accuracy, tree
from mmlib.plots import class_tree, panels
from mmlib.plots.results import Table, table
from mmlib.plots.style import colour, look
from mmlib.runs.recipes import RECIPES
from mmlib.summary import Summary, summarise

FILLS = ("full", "none", "left", "bottom", "right")
Of = Callable[[Row], Summary | None]  # a number of a row over its seeds, or that it has none


def mean_of(*paths: str) -> Of:
    """The mean of some metrics on the test split."""
    return lambda row: row.mean(paths)


def parameters(row: Row) -> Summary | None:
    """The number of parameters, which no seed changes."""
    return summarise([row.parameters()]) if row.runs else None


# --- tables ---------------------------------------------------------------------------------------------------------


def settings(rows: Sequence[Row]) -> Table:
    """What each row has of its own, beside what is usual, which stands in the last line."""
    usual, own = picture.settings_apart(rows)
    lines = [[f"`{row.label}`", row.state(), _listed(own.get(row.label, {}))] for row in rows]
    lines.append(["unless said otherwise", "", _listed(usual)])
    return table(["", "recorded", "settings and machine"], lines, text=["recorded", "settings and machine"])


def numbers(rows: Sequence[Row], columns: Mapping[str, tuple[Of, float, int]]) -> Table:
    """Mean, 95 % interval and number of seeds; ``columns`` are heading -> (number, unit, digits)."""
    lines = []
    for row in rows:
        found = [(of(row), unit, digits) for of, unit, digits in columns.values()]
        lines.append([f"`{row.label}`", *(interval(*each) or None for each in found)])
    return table(["", *columns], lines, caption="mean [95 % interval] (seeds)")


def grids(rows: Sequence[Row]) -> Table:
    """Of each row with a grid, cross-coherence on the validation split by setting, and what that chooses."""
    lines = []
    for row in rows:
        found = picture.validated(row)
        said = [f"{setting}: {interval(each)}" for setting, each in found.items() if each]
        gaps = [setting for setting, each in found.items() if not each]
        said += [f"not recorded: {', '.join(gaps)}"] if gaps else []
        best = picture.chosen(row)
        lines += [[f"`{row.label}`", "; ".join(said), best or "default, the grid has gaps"]] if found else []
    head = ["", "per cent [95 %] (seeds)", "in the table"]
    return table(head, lines, text=head)


def costs(rows: Sequence[Row]) -> Table:
    """What a step costs on an idle core, and validation coherence at equal seconds and after all steps."""
    (limit, equal), fast = picture.at_equal_seconds(rows), picture.bench()[0]
    lines = []
    for row in sorted(
        (row for row in rows if row.runs), key=lambda r: -equal[r.label].mean if r.label in equal else 0
    ):
        step = fast.get(row.recipe.name, {})
        whole = row.mean(picture.cross(row.data), "validation")
        lines.append([f"`{row.label}`", step.get("ms"), step.get("mb"), equal.get(row.label), whole])
    return table(["", "ms a step", "peak MB", f"after {limit:.0f} s", "after all steps"], lines)


def times_as_long(dear: Row, cheap: Row) -> str:
    """How much longer a step takes, in a sentence that says where the times are from."""
    ms = picture.idle([dear, cheap])
    where = "on an idle core" if ms else "in the recorded runs, evaluations included"
    ratio = ms[dear.label] / ms[cheap.label] if ms else dear.milliseconds().mean / cheap.milliseconds().mean
    return f"A step of {dear.label} takes {ratio:.1f} times as long as one of {cheap.label}, {where}."


def missed(rows: Sequence[Row], of: Of) -> str:
    """How far behind the best mean another lies, at most, that these seeds do not tell apart from it, in a sentence."""
    found = {row.label: of(row) for row in rows}
    first, near, _ = picture.leaders(found)
    if not near:
        return f"All are told apart from {first}." if first else "Too few seeds are recorded."
    last = min(near, key=lambda label: found[label].mean)
    gap = found[first].mean - found[last].mean
    return (
        f"{last}, {found[last].n} seeds, is {100 * gap:.0f} points behind {first} and not told apart from it."
    )


def choices(rows: Sequence[Row], purposes: Mapping[str, tuple[Of, str, float, bool]]) -> Table:
    """For each purpose who leads, and who is not told apart from the leader by these seeds.

    ``purposes`` are what one wants -> (number, its name, unit, whether the lowest leads).
    """
    lines = []
    for purpose, (of, name, unit, low) in purposes.items():
        found = {row.label: of(row) for row in rows}
        first, near, few = picture.leaders(found, low)
        best = f"`{first}`, {interval(found[first], unit)}" if first else None
        lines.append([purpose, name, best, _codes(near) or None, _codes(few) or None])
    head = [
        "to",
        "look at",
        "best mean [95 %] (seeds)",
        "not told apart from it",
        f"fewer than {SEEDS} seeds",
    ]
    return table(head, lines, text=head)


def _listed(settings: Mapping[str, str]) -> str:
    return "; ".join(f"{key} {value}" for key, value in settings.items() if value != "")


def _codes(labels: Sequence[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def say(*sentences: str) -> None:
    """Print sentences, each folded to the width of the page."""
    print("\n".join(textwrap.fill(sentence, 96, break_on_hyphens=False) for sentence in sentences))


# --- trade-offs -----------------------------------------------------------------------------------------------------


def trade_offs(
    rows: Sequence[Row], across: Mapping[str, Of], up: tuple[str, Of], log: Sequence[str] = ()
) -> Sequence[Axes]:
    """One number of every row against others, a panel each, with 95 % intervals of both; rows without are left out.

    ``log`` names those of ``across`` that have a logarithmic axis.
    """
    figure_, axes = panels(len(across), height=3.1, sharey=True, squeeze=False)
    for ax, (name, of) in zip(axes[0], across.items(), strict=True):
        for row in rows:
            x, y = of(row), up[1](row)
            if x is None or y is None:
                continue
            style = style_of(row) | {"linestyle": ""}
            ends = [_half(each) for each in (x, y)]
            ax.errorbar(x.mean, y.mean, ends[1], ends[0], label=row.label, elinewidth=0.8, **style)
        ax.set_xlabel(name)
        if name in log:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:,.0f}")
            ax.xaxis.set_minor_formatter("")
    axes[0, 0].set_ylabel(up[0])
    handles = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure_.legend(handles.values(), handles, loc="outside lower center", ncols=5, fontsize="small")
    return axes[0]


def style_of(row: Row) -> dict:
    """The look of its model; recipes of one model differ in how their marks are filled."""
    there = [ending for ending in picture.ENDINGS[row.model] if f"{row.data}-{ending}" in RECIPES]
    return look(row.model) | {"fillstyle": FILLS[there.index(row.label)]}


def _half(summary: Summary) -> float:
    return 0.0 if summary.low is None else summary.high - summary.mean


def stopped_early(rows: Sequence[Row], equal: Mapping[str, Summary], little: float = 0.02) -> str:
    """What rows lose on the validation split when all have the same processor seconds, in a sentence."""
    complete = {
        row.label: row.mean(picture.cross(row.data), "validation") for row in rows if row.label in equal
    }
    lost = {label: summary.mean - equal[label].mean for label, summary in complete.items()}
    if not lost:
        return "Nothing is recorded yet."
    most = max(lost, key=lost.get)
    few = [label for label, points in lost.items() if points < little]
    text = f"Stopping early costs {most} most, {100 * lost[most]:.0f} points"
    return f"{text}; less than {100 * little:.0f} points: {', '.join(few) or 'nobody'}."


def quality(
    scores: Mapping[str, Mapping[str, Mapping[str, float]]],
    up: Mapping[str, float],
    models: Mapping[str, str],
):
    """Coherence of translations against precision and recall of draws from the prior, one trained model each.

    ``scores`` are label -> what ``mmlib.metrics.generation_quality`` gives; ``models`` say whose look each label has.
    """
    figure_, axes = panels(2, height=3.0, sharey=True)
    for ax, what in zip(axes, ("precision", "recall"), strict=True):
        for label, found in scores.items():
            x = sum(each[what] for each in found.values()) / len(found)
            ax.plot([x], [up[label]], **look(models[label]) | {"linestyle": ""}, markersize=7, label=label)
        ax.set_xlabel(f"{what} of draws from the prior")
    axes[0].set_ylabel("cross-coherence")
    figure_.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize="small"
    )
    return axes


# --- ranks ----------------------------------------------------------------------------------------------------------


def ranks(rows: Sequence[Row], metrics: Mapping[str, Of]) -> tuple[list[str], np.ndarray]:
    """Labels of the rows that have all metrics with `SEEDS` seeds, and their ranks [seed, metric, row]; 1 is best.

    Of each row the first `SEEDS` seeds count, so that no row has more weight.
    """
    found = {row.label: [of(row) for of in metrics.values()] for row in rows}
    found = {label: s for label, s in found.items() if all(x is not None and x.n >= SEEDS for x in s)}
    values = np.array([[x.values[:SEEDS] for x in s] for s in found.values()])  # [row, metric, seed]
    if not found:
        return [], np.empty((SEEDS, len(metrics), 0))
    return list(found), stats.rankdata(-values.transpose(2, 1, 0), axis=-1)


def agreement(ranked: np.ndarray) -> float:
    """Kendall's W of rankings [N, k]: 1 if all agree, about 1 / N if they have nothing to do with each other.

    Without a correction for ties: 12 S / (N^2 (k^3 - k)), S the squared distances of the sums of ranks from their mean.
    """
    n, k = ranked.shape
    sums = ranked.sum(0)
    return float(12 * ((sums - sums.mean()) ** 2).sum() / (n**2 * (k**3 - k)))


def critical_difference(k: int, n: int, level: float = 0.05) -> float:
    """How far apart two mean ranks of ``k`` models over ``n`` independent rankings must be to be told apart (Nemenyi).

    q sqrt(k (k + 1) / (6 n)), q the quantile of the studentized range of k normal numbers, divided by sqrt(2).

    Source: Demsar 2006, Section 3.2.2.
    """
    q = stats.studentized_range.ppf(1 - level, k, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(k * (k + 1) / (6 * n)))


def friedman(ranked: np.ndarray) -> float:
    """Friedman's p that rankings [N, k] of models come out so unequal although all models are alike."""
    return float(stats.friedmanchisquare(*ranked.T).pvalue)


def rank_plot(
    labels: Sequence[str], ranked: np.ndarray, metrics: Sequence[str], models: Mapping[str, str]
) -> Axes:
    """Mean ranks over seeds and metrics, a small dot for each metric; below, the critical differences.

    Two bars: over as many rankings as there are metrics, and over all seeds and metrics as if these were independent.
    """
    _, ax = panels(1, height=0.27 * len(labels) + 1.2)
    order = np.argsort(ranked.mean((0, 1)), kind="stable")
    by_metric = ranked.mean(0)  # [metric, row]
    for y, i in enumerate(order):
        style = look(models[labels[i]]) | {"linestyle": ""}
        ax.plot(by_metric[:, i], np.full(len(metrics), y), ".", color="0.6", markersize=5)
        ax.plot([ranked[:, :, i].mean()], [y], markersize=8, **style)
    k, y = len(labels), len(labels) + 0.2
    for n, text in ((len(metrics), "metrics"), (ranked.shape[0] * len(metrics), "seeds x metrics")):
        width = critical_difference(k, n)
        ax.plot([1, 1 + width], [y, y], "k|-", markersize=8, linewidth=1.2)
        ax.text(1.15 + width, y, f"critical difference, {n} rankings ({text})", va="center", fontsize="small")
        y += 0.9
    ax.set_yticks(range(k), [labels[i] for i in order])
    ax.set(ylim=(y - 0.2, -0.7), xlim=(0.6, k + 0.4), xlabel=f"mean rank among {k} models; 1 is best")
    return ax


def in_words(labels: Sequence[str], ranked: np.ndarray, metrics: Sequence[str]) -> list[str]:
    """What the ranks allow to say, in sentences."""
    seeds, count, k = ranked.shape
    if k < 3:
        return ["Fewer than three models are recorded with enough seeds: there is nothing to rank."]
    between_seeds = [agreement(ranked[:, i]) for i in range(count)]
    by_metric = stats.rankdata(ranked.mean(0), axis=-1)
    means = ranked.mean((0, 1))
    order = np.argsort(means, kind="stable")
    width = critical_difference(k, count)
    apart = [labels[i] for i in order if means[i] - means[order[0]] > width]
    best = f"{labels[order[0]]} has the best mean rank, {means[order[0]]:.1f} of {k}"
    if apart:
        best += f"; told apart from it over {count} metrics: {', '.join(apart)}."
    else:
        best += (
            f"; no model is told apart from it over {count} metrics (critical difference {width:.1f} ranks)."
        )
    p = friedman(by_metric)
    return [
        f"One metric, {seeds} seeds: the rankings agree, W = {min(between_seeds):.2f} to {max(between_seeds):.2f}.",
        f"{count} metrics, means over seeds: W = {agreement(by_metric):.2f}; "
        f"Friedman's p {'< 0.01' if p < 0.01 else f'= {p:.2f}'}.",
        best,
        f"{seeds} rankings alone would tell apart ranks that differ by {critical_difference(k, seeds):.1f}, "
        f"of at most {k - 1}.",
    ]


# --- pictures and codes ---------------------------------------------------------------------------------------------


def translations(
    models: Mapping[str, torch.nn.Module], batch: Mapping[str, Tensor], given: str, to: str, draw
) -> dict:
    """Rows of images for ``mmlib.plots.image_grid``: the items given, and one draw of each model's translation."""
    seen = {given: batch[given]}
    rows = {f"given: {given}": batch[given]}
    return rows | {label: model.generate(seen, [given], [to], draw())[to] for label, model in models.items()}


def saturation(images: Tensor) -> float:
    """How colourful images [N, 3, H, W] in [0, 1] are: largest less smallest colour of a pixel, the mean over all."""
    return float((images.amax(1) - images.amin(1)).mean())


def modality_told(codes: Mapping[str, Diagonal]) -> float:
    """How well a linear probe tells the modality of a posterior mean, on items that it was not fitted on."""
    parts = [torch.cat([d.loc[start::2] for d in codes.values()]) for start in (0, 1)]
    sides = [
        torch.cat([torch.full((len(d.loc[start::2]),), m) for m, d in enumerate(codes.values())])
        for start in (0, 1)
    ]
    return float(latent_accuracy(fit_probe(parts[0], sides[0]), parts[1], sides[1]).mean())


def one_of_each(labels: Tensor) -> Tensor:
    """The first row of each class, int64 [C]."""
    return torch.stack([(labels == digit).nonzero()[0, 0] for digit in labels.unique()])


def codes_page(codes: Mapping[str, Mapping[str, Diagonal]], digits: Tensor, few: int = 250) -> Sequence[Axes]:
    """Every model's codes: a dendrogram of the digits, and a map of ``few`` items of each modality, by modality.

    ``codes`` are label -> what ``mmlib.metrics.unimodal_posteriors`` gives, of two modalities, ``digits`` their labels.
    The tree joins the mean distances between the classes of one modality and of the other; digits on the map stand at
    the medians of their items.
    """
    lines = -(-len(codes) // 2)
    _, axes = panels(4, lines, height=1.45, width_ratios=[1.3, 1, 1.3, 1])
    places = axes.reshape(-1, 2)
    for (label, q), (left, right) in zip(codes.items(), places, strict=False):
        classes = digits.unique().tolist()
        between = class_distances(q, digits)[0][: len(classes), len(classes) :]
        class_tree(tree(between), [("both", c) for c in classes], label, left)
        left.get_legend().remove()
        left.set_ylabel("")
        left.tick_params(labelsize=6)
        for text in left.get_xticklabels():
            text.set_color("0.2")
        shown = {name: Diagonal(d.loc[:few], d.scale[:few], d.family) for name, d in q.items()}
        for name, points in joint_map(shown).items():
            right.scatter(
                *points.T, s=4, linewidths=0, alpha=0.5, color=colour(name, modality=True), label=name
            )
            for digit in classes:
                middle = points[digits[:few] == digit].median(0).values
                text = right.text(
                    *middle, digit, color=colour(name, modality=True), weight="bold", fontsize=6
                )
                text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
        right.set(xticks=[], yticks=[], aspect="equal")
        right.spines[:].set_visible(False)
    for left, right in places[len(codes) :]:
        left.set_axis_off()
        right.set_axis_off()
    places[0][1].figure.legend(*places[0][1].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return axes.flatten()
