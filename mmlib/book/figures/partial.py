"""Figures of the chapter on partial observation: schedules, a mirrored code, pseudo-samples, and recorded runs."""

import copy
import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from mmlib.book import ledger
from mmlib.book.figures.contrast_recorded import CROSS
from mmlib.book.figures.recorded import draw_line, finish, lead, recorded
from mmlib.book.ledger_rule import SEEDS
from mmlib.data.batches import alternating_order
from mmlib.plots.results import Table, table
from mmlib.plots.style import colour, look, panels, stroke
from mmlib.runs.recipes import RECIPES
from mmlib.summary import Summary, summarise

LABELS = {
    "mvae": "MVAE",
    "mmvae": "MMVAE",
    "mopoe": "MoPoE",
    "mmjsd": "mmJSD",
    "mmali": "MMALI",
    "meme": "MEME",
}
FULL = {"mmvae": "mmvae-elbo"}  # recipes of all pairs that are called otherwise
SHARES = (0.0625, 0.125, 0.25, 0.5, 1.0)
KINDS = {"hand": "hand always present", "street": "street always present", "split": "one or the other"}
BASELINES = {  # of all pairs, under the judges of Table 6
    "MEME": "hand-street-meme",
    "MVAE": "hand-street-mvae-judged",
    "MMVAE, Gaussian": "hand-street-mmvae-normal",
    "MMVAE, Laplace": "hand-street-mmvae-elbo-judged",
}
LATENT = ("latent_accuracy/hand/sample", "latent_accuracy/street/sample")
CURVES = {"cross-coherence": CROSS, "latent accuracy": LATENT}
INFORMATION = ("mutual_information/hand/hand", "mutual_information/street/street")
INK = {"pair": "0.25", "hand": colour("hand"), "street": colour("street")}


def recipe(model: str, kind: str, share: float, ending: str = "") -> str:
    """The recipe on hand-street of a model at a share of pairs; at 1 all kinds are one."""
    if share == 1:
        return f"hand-street-{FULL.get(model, model)}"
    return f"hand-street-{model}-{kind}-{share:g}{ending}"


def models() -> list[str]:
    """The models that have recipes for partial observation, in the order of the book."""
    return [model for model in LABELS if recipe(model, "split", 0.25) in RECIPES]


def recipes_shown() -> list[str]:
    """The recipes behind curves against the share of pairs, once."""
    return list(dict.fromkeys(recipe(m, kind, share) for m in models() for kind in KINDS for share in SHARES))


# --- what is hidden, and when ---------------------------------------------------------------------------------------


def shown(split, rows: Tensor) -> dict[str, Tensor]:
    """What rows show, [B, C, H, W] by modality, with light grey where they show nothing."""
    batch, mask = split.batch(rows), split.mask(rows)
    return {name: x.where(mask[name].view(-1, 1, 1, 1), torch.tensor(0.85)) for name, x in batch.items()}


def schedules(rows: int = 10_000, batch_size: int = 64) -> list[Axes]:
    """The kinds of batches in an epoch of the alternating schedule, SPLIT, for each share of pairs: one line each."""
    shares = [share for share in reversed(SHARES) if share < 1]
    _, axes = panels(1, len(shares), height=0.62, sharex=True)
    for ax, share in zip(axes, shares, strict=True):
        paired = round(share * rows)
        counts = paired // batch_size, *[(rows - paired) // 2 // batch_size] * 2
        for position, (kind, _) in enumerate(alternating_order(*counts)):
            ax.axvspan(position, position + 1, color=list(INK.values())[kind], linewidth=0)
        ax.set(yticks=[], xlim=(0, rows // batch_size))
        ax.set_ylabel(f"1/{1 / share:.0f}", rotation=0, ha="right", va="center")
        ax.grid(False)
    for name, ink in INK.items():
        axes[0].plot([], [], color=ink, linewidth=6, label=name)
    axes[0].legend(ncols=3, loc="lower right", bbox_to_anchor=(1, 1.0))
    axes[-1].set_xlabel("step of the epoch")
    return list(axes)


# --- what pairs alone can tell --------------------------------------------------------------------------------------


class _Mirror(nn.Module):
    """A network with the sign of the code changed: of what an encoder gives, or of what a decoder takes."""

    def __init__(self, network: nn.Module, encodes: bool) -> None:
        super().__init__()
        self.network, self.encodes = network, encodes

    def forward(self, x):
        if not self.encodes:
            return self.network(-x)
        loc, raw = self.network(x)
        return -loc, raw


def mirrored(model: nn.Module, name: str) -> nn.Module:
    """A copy of a model in which one modality reads and writes its code with the other sign."""
    twin = copy.deepcopy(model)
    modality = twin.modalities[name]
    modality.encoder, modality.decoder = _Mirror(modality.encoder, True), _Mirror(modality.decoder, False)
    return twin


def means_of_second(first: Tensor, second: Tensor, seen: Tensor) -> tuple[float, float]:
    """Two estimates of the mean of ``second`` [N], of which only the ``seen`` rows are used.

    Its mean where it is seen; and the one of largest likelihood of all that is observed, for two normal numbers: the
    regression on ``first``, which every row shows, at the mean of ``first`` over all rows.
    """
    x, y = first[seen], second[seen]
    slope = ((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0)
    return float(y.mean()), float(y.mean() + slope * (first.mean() - x.mean()))


def pseudo_sample_bound(s: float = 2.0, noise: float = 0.1, spread: float = 0.1) -> Axes:
    """The best that MEME's term of one modality can reach, against where the one pseudo-sample is encoded.

    p(z) = N(0, 1) and p(s | z) = N(z, noise^2) generate s; the pseudo-sample's prior is N(u, spread^2). With the exact
    posterior under that prior, the term is its log-evidence.
    """
    _, ax = panels(1, height=2.6)
    u = torch.linspace(-1, 5, 601, dtype=torch.float64)

    def log_normal(away, variance):
        return -0.5 * (away**2 / variance + math.log(2 * math.pi * variance))

    bound = [log_normal(s - float(x), noise**2 + spread**2) for x in u]
    ax.plot(u, bound, label=r"MEME, $\log p_u(s)$", **stroke("meme"))
    ax.axhline(log_normal(s, 1 + noise**2), **stroke("exact"), label=r"$\log p(s)$ of the model that made s")
    ax.set(xlabel="where the pseudo-sample is encoded", ylabel="nats", ylim=(-12, 2))
    ax.legend()
    return ax


# --- recorded runs --------------------------------------------------------------------------------------------------


def curves(what: str) -> list[Axes]:
    """A metric against the share of pairs, a panel for each kind of missingness, a line for each model.

    Args:
        what: ``"cross-coherence"``, the mean of both directions, or ``"latent accuracy"``, of both modalities.
    """
    _, axes = panels(len(KINDS), height=2.9, sharey=True)
    for ax, (kind, title) in zip(axes, KINDS.items(), strict=True):
        for model in models():
            found = {share: recorded(recipe(model, kind, share), *CURVES[what]) for share in SHARES}
            draw_line(ax, LABELS[model], found, look(model))
            for share, summary in found.items():
                if summary is not None and summary.low is not None:
                    ax.plot(
                        [share] * 2, [summary.low, summary.high], color=colour(model), alpha=0.4, linewidth=3
                    )
        ax.set_title(title)
    return _against_shares(axes, f"{what}, mean of two")


def _against_shares(axes: Sequence[Axes], ylabel: str) -> list[Axes]:
    """The axis of the share of pairs, and a legend."""
    axes[0].set_ylabel(ylabel)
    finish(axes, SHARES, "share of pairs, f")
    for ax in axes:
        ax.set_xticks(SHARES, ["1/16", "1/8", "1/4", "1/2", "1"])
    return list(axes)


def at_share(share: float = 0.25) -> Table:
    """Cross-coherence both ways at one share of pairs, and at 1, for each kind and model, in per cent."""
    header = ["f = 1", *KINDS.values()]
    body = []
    for model in models():
        for path, way in zip(CROSS, ("hand to street", "street to hand"), strict=True):
            names = [recipe(model, "split", 1.0), *(recipe(model, kind, share) for kind in KINDS)]
            body.append([f"{LABELS[model]}, {way}", *(recorded(name, path) for name in names)])
    caption = f"Cross-coherence, f = {share:g}, test split, per cent, mean ± sd (seeds)"
    return table(["", *header], body, caption=caption)


SIDE_BY_SIDE = {  # column -> kind and ending of the recipe
    "pairs and partial rows": ("split", ""),
    "pairs alone, as many steps": ("paired", ""),
    "pairs alone, as many epochs": ("paired", "-brief"),
    "alternating": ("split", "-alternating"),
}


BESIDE = {  # how `paired_only_curves` draws the first of them
    "pairs and partial rows": {"color": "black", "marker": "o"},
    "pairs alone, as many steps": {"color": "#882255", "marker": "s", "linestyle": "--"},
    "pairs alone, as many epochs": {"color": "#44aa99", "marker": "v", "linestyle": ":"},
}


def recipes_beside(*columns: str, share: float = 0.25) -> list[str]:
    """The recipes of `side_by_side`."""
    chosen = [SIDE_BY_SIDE[column] for column in columns]
    return [recipe(model, kind, share, ending) for model in models() for kind, ending in chosen]


def side_by_side(*columns: str, share: float = 0.25) -> Table:
    """Cross-coherence, mean of both directions, of each model by some of `SIDE_BY_SIDE`, in per cent."""
    found = iter([recorded(name, *CROSS) for name in recipes_beside(*columns, share=share)])
    body = [[LABELS[model], *(next(found) for _ in columns)] for model in models()]
    caption = f"Cross-coherence, mean of both directions, f = {share:g}, SPLIT, per cent, mean ± sd (seeds)"
    return table(["", *columns], body, caption=caption)


def recipes_paired_only(shown: Sequence[str] = ("meme", "mvae")) -> list[str]:
    """The recipes of `paired_only_curves`, once."""
    ways = [SIDE_BY_SIDE[column] for column in BESIDE]
    return list(
        dict.fromkeys(
            recipe(model, kind, f, ending) for model in shown for kind, ending in ways for f in SHARES
        )
    )


def paired_only_curves(shown: Sequence[str] = ("meme", "mvae")) -> list[Axes]:
    """Cross-coherence against the share of pairs, with partial rows and without: a panel for each model.

    At f = 1 there are no partial rows, and the three lines meet.
    """
    _, axes = panels(len(shown), height=2.7, sharey=True)
    for ax, model in zip(axes, shown, strict=True):
        for column, style in BESIDE.items():
            kind, ending = SIDE_BY_SIDE[column]
            found = {share: recorded(recipe(model, kind, share, ending), *CROSS) for share in SHARES}
            draw_line(ax, column, found, style)
        ax.set_title(LABELS[model])
    return _against_shares(axes, "cross-coherence, mean of two")


def pseudo_samples(numbers: Sequence[int] = (1, 10, 100)) -> list[Axes]:
    """Cross-coherence and latent accuracy of MEME against its number of pseudo-samples, f = 1/4, SPLIT."""
    _, axes = panels(2, height=2.5, sharey=True)
    ways = zip((*CROSS, *LATENT), ("street", "hand", "hand", "street"), strict=True)
    for i, (path, name) in enumerate(ways):
        found = {number: recorded(pseudo_recipe(number), path) for number in numbers}
        draw_line(axes[i // 2], f"to {name}" if i < 2 else name, found, look(name))
    for ax, title in zip(axes, CURVES, strict=True):
        ax.set(title=title, ylim=(0, 1.02))
    axes[0].set_ylabel("share of test items")
    finish(axes, numbers, "number of pseudo-samples, P")
    axes[1].legend(fontsize="small")
    return list(axes)


def pseudo_recipe(number: int) -> str:
    """The recipe of MEME with that many pseudo-samples, f = 1/4, SPLIT."""
    return f"hand-street-meme-pseudo-{number}"


def information(kind: str = "split") -> Table:
    """The score of Table 6 against the share of pairs: of reconstructions, in hundredths of a nat."""
    names = {"hand": INFORMATION[0], "street": INFORMATION[1]}
    body = []
    for label, full in BASELINES.items():
        for name, path in names.items():
            fewer = [recipe(label.lower(), kind, share) for share in SHARES[-2::-1]]
            known = [each for each in (full, *fewer) if each in RECIPES]
            found = [recorded(each, path) for each in known]
            body.append([f"{label}, {name}", *found, *[None] * (len(SHARES) - len(found))])
    header = [f"f = {share:g}" for share in reversed(SHARES)]
    caption = f"Hundredths of a nat, {KINDS[kind]}, test split, mean ± sd (seeds)"
    return table(["reconstructions of", *header], body, caption=caption)


def gain(better: tuple, worse: tuple, paths: Sequence[str] = CROSS) -> Summary | None:
    """How far one recipe, (model, kind, share, ending), is ahead of another, seed by seed; None: too few seeds."""
    names = [recipe(*each) for each in (better, worse)]
    return lead(*names, paths) if all(name in RECIPES for name in names) else None


def distance(one: tuple, other: tuple, path: str) -> Summary | None:
    """How far two recipes are apart in a metric, in absolute value, seed by seed; None: too few seeds."""
    ahead = gain(one, other, [path])
    return ahead and summarise([abs(value) for value in ahead.values])


def ordering(share: float = 0.25, kind: str = "split") -> str:
    """One sentence: who translates best at a share of pairs, of what is recorded with three seeds."""
    found = {LABELS[m]: recorded(recipe(m, kind, share), *CROSS) for m in models()}
    found = {label: summary for label, summary in found.items() if summary and summary.n >= SEEDS}
    place = f"At f = {share:g}, {KINDS[kind]}"
    if len(found) < 2:
        return f"{place}: not recorded yet for two models with three seeds each."
    ranked = sorted(found, key=lambda label: -found[label].mean)
    text = ", ".join(f"{label} {100 * found[label].mean:.0f} %" for label in ranked)
    return f"{place}, cross-coherence, mean of both directions and all seeds: {text}."


def what_partial_rows_do(share: float = 0.25) -> list[str]:
    """Sentences on partial rows against pairs alone, for as many steps and epochs, and on what is not recorded."""
    lines, missing = [], []
    for model in models():
        for ending, text in (("", "steps"), ("-brief", "epochs")):
            ahead = gain((model, "split", share), (model, "paired", share, ending))
            if ahead is None:
                missing.append(f"{LABELS[model]} ({text})")
                continue
            verdict = "help" if ahead.low > 0 else "hurt" if ahead.high < 0 else "may do either"
            interval = f"{100 * ahead.low:+.0f} to {100 * ahead.high:+.0f} points"
            lines.append(
                f"{LABELS[model]}, as many {text}: partial rows {verdict} ({interval}, n = {ahead.n})."
            )
    return [*lines, f"Not recorded yet with three seeds: {', '.join(missing)}."] if missing else lines


def printed(exhibit: str, columns: dict[str, str]) -> Table:
    """Rows of Table 3 or 4 of Joy et al. 2022 as printed, without their spread: f from 1 to 1/16."""
    book = ledger.read()
    names = {"meme-split": "MEME", "mvae-split": "MVAE", "meme-svhn": "MEME", "mvae-svhn": "MVAE"}
    names |= {"meme-mnist": "MEME", "mvae-mnist": "MVAE"}
    body = []
    for row, label in names.items():
        for prefix, way in columns.items():
            cells = [ledger.printed(exhibit, row, f"{prefix}-{share:g}", book) for share in reversed(SHARES)]
            always = {"split": "one or the other", "svhn": "SVHN always", "mnist": "MNIST always"}[
                row.split("-")[1]
            ]
            body.append([f"{label}, {always}, {way}", *(text.split()[0] for text in cells)])
    return table(
        ["", *(f"f = {share:g}" for share in reversed(SHARES))], body, caption="As printed, MNIST and SVHN"
    )
