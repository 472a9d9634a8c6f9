"""Recorded contrastive runs beside the paper's tables and figures: what is recorded, and what is not yet."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from torch import Tensor

from mmlib.book import ledger, speed
from mmlib.book.figures.recorded import draw_line, finish, recorded, unconverged
from mmlib.metrics import laplace_ceiling
from mmlib.plots.results import Table, cell, table
from mmlib.plots.style import look, panels
from mmlib.runs import results
from mmlib.summary import Summary, summarise

MODELS, KINDS, SHARES = ("MMVAE", "MVAE", "JMVAE"), ("", "cI-", "cC-"), (10, 20, 50, 100)
GAMMAS = (1.0, 1.1, 2.0, 4.0, 10.0)
CROSS = ("cross_coherence/hand/street", "cross_coherence/street/hand")
# our column -> (id of the column in print, path of our metric), MNIST being hand and SVHN street
COHERENCE = {
    "hand to street": ("m-to-s", CROSS[0]),
    "street to hand": ("s-to-m", CROSS[1]),
    "joint": ("joint", "joint_coherence"),
}
OTHERS = {
    "probe, hand": ("latent-mnist", "latent_accuracy/hand/sample"),
    "probe, street": ("latent-svhn", "latent_accuracy/street/sample"),
    "synergy, hand": ("synergy-mnist", "synergy_coherence/hand"),
    "synergy, street": ("synergy-svhn", "synergy_coherence/street"),
}
CEILINGS = {"MNIST": laplace_ceiling(784, 0.75), "SVHN": laplace_ceiling(3072, 0.75)}


def recipe(model: str, kind: str = "", share: int = 100) -> str:
    """The recipe on hand-street of a row such as ``("MMVAE", "cI-", 20)``."""
    head = "hand-street" if share == 100 else f"hand-street-{share}"
    plain = {"MMVAE": "mmvae-iwae"}.get(model, model.lower())
    return f"{head}-{kind.lower()}{model.lower()}" if kind else f"{head}-{plain}"


def gamma_recipe(gamma: float) -> str:
    """The recipe of cI-MMVAE with that gamma."""
    return recipe("MMVAE", "cI-") if gamma == 2 else f"{recipe('MMVAE', 'cI-')}-gamma-{gamma:g}"


def table_1(share: int, columns: dict[str, tuple[str, str]]) -> Table:
    """Table 1 of Shi et al. 2021, all or a fifth of the data, in per cent: each column as printed, and ours beside it.

    Args:
        share: of the data, 100 or 20.
        columns: `COHERENCE` or `OTHERS`.
    """
    book, body = ledger.read(), []
    for model in MODELS:
        for kind in KINDS:
            line: list[object] = [f"{kind}{model}"]
            for printed, path in columns.values():
                text = ledger.printed("rbc-table-1", f"{kind.lower()}{model.lower()}-{share}", printed, book)
                line += [text.split()[0], recorded(recipe(model, kind, share), path)]
            body.append(line)
    header = [head for name in columns for head in (f"{name}, printed", "here")]
    caption = f"{share} % of the data. Printed: MNIST and SVHN; here: `hand-street`, mean ± sd (seeds)"
    return table([f"{share} %", *header], body, caption=caption)


# beside the table of the paper: label -> recipe
VARIANTS = {
    "cI-MMVAE, 20 %": "hand-street-20-ci-mmvae",
    "the same, filtered": "hand-street-20-ci-mmvae-filtered",
    "cI-MMVAE, 20 %, K = 4": "hand-street-20-ci-mmvae-k-4",
    "cC-MMVAE, 20 %, K = 4": "hand-street-20-cc-mmvae-k-4",
    "MoPoE": "hand-street-mopoe",
    "cI-MoPoE": "hand-street-ci-mopoe",
    "mmJSD": "hand-street-mmjsd",
    "cI-mmJSD": "hand-street-ci-mmjsd",
}


def variants() -> Table:
    """Coherences of `VARIANTS`, in per cent."""
    paths = [path for _, path in COHERENCE.values()]
    body = [[label, *(recorded(name, path) for path in paths)] for label, name in VARIANTS.items()]
    return table(["", *COHERENCE], body, caption="`hand-street`, test split, per cent, mean ± sd (seeds)")


def moved(compared: Mapping[str, tuple[str, str]]) -> str:
    """Of the runs behind each claim, by id, of two recipes, how many still moved at the end of training."""
    counts = {claim: unconverged(pair) for claim, pair in compared.items()}
    some = ", ".join(f"{claim} {some} of {runs}" for claim, (some, runs) in counts.items() if some)
    return f"Runs that still moved, by claim: {some or 'none'}."


def digits_drawn(recipe: str) -> dict[str, Tensor]:
    """Shares of the ten digits in draws from the prior, [seeds, 10] for each modality; of what the judge reads."""
    drawn = [run["metrics"]["test"]["classes_generated"] for run in results.load(recipe)]
    return {name: torch.tensor([each[name]["shares"] for each in drawn]) for name in ("hand", "street")}


def fewest_digits(recipe: str) -> int:
    """How many of the ten digits make up more than a hundredth of the draws, the least of all seeds and modalities."""
    return min(int((shares > 0.01).sum(1).min()) for shares in digits_drawn(recipe).values())


def evenness(recipe: str) -> list[float]:
    """Entropy of the digits drawn from the prior, the mean of both modalities, for each seed: nats, log 10 at most."""
    return torch.stack([torch.special.entr(x).sum(1) for x in digits_drawn(recipe).values()]).mean(0).tolist()


def more_even(model: str) -> Summary:
    """By how many nats cI spreads digits more evenly than the model alone, seed by seed."""
    return difference(evenness(recipe(model, "cI-")), evenness(recipe(model)))


def difference(first: Sequence[float], second: Sequence[float]) -> Summary:
    """What is left of the first numbers less the second, seed by seed; seeds of one alone are left out."""
    return summarise([a - b for a, b in zip(first, second, strict=False)])


REAL = {"MNIST to SVHN": "cross_coherence/mnist/svhn", "SVHN to MNIST": "cross_coherence/svhn/mnist"}
EQUAL_STEPS = 1_500  # at which every run on real digits was measured on the validation split


def real_recipe(model: str, kind: str = "") -> str:
    """The recipe on svhn10k of a row such as ``("MVAE", "cI-")``."""
    return f"svhn10k-{kind.lower()}{model.lower()}"


def real_digits() -> Table:
    """The nine models on svhn10k: test split after about equal processor time, validation split after equal steps."""
    body = []
    for model in MODELS:
        for kind in KINDS:
            name, line = real_recipe(model, kind), [f"{kind}{model}"]
            runs = results.load(name)
            minutes = [run["seconds"]["training_cpu"] / 60 for run in runs]
            line += [f"{runs[0]['steps']:,}", f"{sum(minutes) / len(minutes):.0f}"] if runs else [None, None]
            line += [recorded(name, path) for path in (*REAL.values(), "joint_coherence")]
            body.append([*line, *(along_the_way(name, path) for path in REAL.values())])
    after = [f"{name}, after {EQUAL_STEPS:,} steps" for name in REAL]
    header = ["svhn10k", "steps", "minutes", *REAL, "joint", *after]
    caption = "Per cent, mean ± sd (seeds). Minutes of one processor core. Test split; after equal steps: validation"
    return table(header, body, caption=caption)


def seconds_a_step(model: str, kind: str = "") -> float:
    """Processor seconds of a step on svhn10k, evaluations along the way included, over the seeds."""
    runs = results.load(real_recipe(model, kind))
    return sum(run["seconds"]["training_cpu"] / run["steps"] for run in runs) / len(runs)


def along_the_way(recipe: str, path: str, step: int = EQUAL_STEPS) -> Summary | None:
    """A metric of the validation split as it stood at one step of training; None where no seed is recorded."""
    rows = [row for run in results.load(recipe) for row in run["history"] if row["step"] == step]
    return summarise([row[f"validation/{path}"] for row in rows]) if rows else None


NS, TIMED = (1, 5, 16, 64), ("MMVAE", "MVAE", "JMVAE", "MoPoE", "mmJSD")


def step_ms() -> tuple[dict[str, float], str]:
    """Milliseconds of a training step on one idle core, by what it trains, and where they were measured."""
    rows, where = speed.measured("contrast")
    return {row["step"]: row["ms"] for row in rows}, where


def step_times() -> list[Axes]:
    """Time of a training step: of MMVAE against N, and of each model at N = 5 in units of the model alone."""
    ms, where = step_ms()
    _, axes = panels(2, height=2.7)
    own, alone = ", decodes of their own", {"color": "black", "linestyle": ":"}
    for label, ending, style in (
        ("draws that serve all", "", look_of("cI-")),
        ("every pair decoded", own, look("exact")),
    ):
        at = {n: ms[f"cI-MMVAE, N = {n}{ending}"] for n in NS if f"cI-MMVAE, N = {n}{ending}" in ms}
        axes[0].plot(list(at), list(at.values()), label=label, **style)
    times = {name: ms[f"cI-{name}, N = 5"] / ms[name] for name in TIMED if f"cI-{name}, N = 5" in ms}
    axes[1].barh(list(times), list(times.values()), color=[look(name.lower())["color"] for name in times])
    axes[1].axvline(1, **alone)
    axes[1].invert_yaxis()
    if ms:
        axes[0].axhline(ms["MMVAE"], label="MMVAE alone", **alone)
        axes[0].legend(fontsize="small")
    else:
        axes[0].text(0.5, 0.5, "not measured yet", transform=axes[0].transAxes, ha="center")
    axes[0].set_xscale("log", base=2)
    axes[0].set_xticks(NS, [str(n) for n in NS])
    axes[0].set(yscale="log", xlabel="negatives N", ylabel="milliseconds a step")
    axes[0].set_yticks([200, 500, 1000, 2000], ["200", "500", "1,000", "2,000"])
    axes[0].minorticks_off()
    axes[1].set(xlabel="N = 5, times the model alone")
    axes[0].set_title(where, fontsize="x-small")
    return list(axes)


def look_of(kind: str) -> dict:
    """Colour, marker and line of MMVAE without a contrast, as cI and as cC."""
    return look("contrastive_mmvae" if kind else "mmvae") | {
        "linestyle": {"": "-", "cI-": "--", "cC-": ":"}[kind],
        "marker": {"": "o", "cI-": "^", "cC-": "s"}[kind],
    }


def data_efficiency() -> list[Axes]:
    """Figure 6 of Shi et al. 2021: MMVAE without and with a contrast against the share of the data, each metric."""
    shown = {name: path for name, (_, path) in COHERENCE.items()}
    _, axes = panels(len(shown), height=2.7)
    for ax, (title, path) in zip(axes, shown.items(), strict=True):
        for kind in KINDS:
            found = {share: recorded(recipe("MMVAE", kind, share), path) for share in SHARES}
            draw_line(ax, f"{kind}MMVAE", found, look_of(kind))
        ax.set_title(title)
    axes[0].set_ylabel("share coherent")
    return finish(axes, SHARES, "per cent of the data")


def gamma_study() -> list[Axes]:
    """Figures 11 and 13 of Shi et al. 2021: coherences, probes and joint log-likelihood of cI-MMVAE against gamma.

    Lines across are those of MMVAE, which gamma without end tends to.
    """
    styles = {
        name: {"marker": marker, "linestyle": line, "color": colour}
        for name, marker, line, colour in (
            ("hand to street", "s", "--", look("street")["color"]),
            ("street to hand", "o", "-", look("hand")["color"]),
            ("joint", "D", "-.", "0.3"),
            ("probe, hand", "o", "-", look("hand")["color"]),
            ("probe, street", "s", "--", look("street")["color"]),
        )
    }
    _, axes = panels(3, height=2.7)
    shown = {(axes[0], name): path for name, (_, path) in COHERENCE.items()}
    shown |= {(axes[1], name): path for name, (_, path) in list(OTHERS.items())[:2]}
    shown[axes[2], "joint"] = "log_likelihood/joint"
    for (ax, name), path in shown.items():
        draw_line(ax, name, {gamma: recorded(gamma_recipe(gamma), path) for gamma in GAMMAS}, styles[name])
        if (base := recorded(recipe("MMVAE"), path)) is not None:
            ax.axhline(base.mean, color=styles[name]["color"], linestyle=":", linewidth=1)
    axes[1].legend(fontsize="small")
    for ax, title in zip(axes, ("share coherent", "share right", "log p(x), nats"), strict=True):
        ax.set_title(title)
    return finish(axes, (1, 2, 4, 10), r"$\gamma$")


def likelihoods() -> Table:
    """Tables 5 to 7 of Shi et al. 2021 with the rows of the last column exchanged, and the ceilings."""
    book, body = ledger.read(), []

    def printed(number: int, row: str, column: str) -> float | None:
        kinds = book.exhibits[f"rbc-table-{number}"].table
        return kinds[row, column].mean if (row, column) in kinds else None

    for number, model in zip((5, 6, 7), MODELS, strict=True):
        for kind in KINDS:
            row = f"{kind.lower()}{model.lower()}"
            joint = printed(number, f"{row}-mnist", "joint")
            line: list[object] = [f"{kind}{model}", _against(joint, sum(CEILINGS.values()))]
            for name, other in (("MNIST", "svhn"), ("SVHN", "mnist")):
                column = "given-both" if number == 7 else "given-own"
                line.append(_against(printed(number, f"{row}-{name.lower()}", column), CEILINGS[name]))
                line.append(_against(printed(number, f"{row}-{other}", "given-other"), CEILINGS[name]))
            body.append(line)
    ceilings = [CEILINGS["MNIST"]] * 2 + [CEILINGS["SVHN"]] * 2
    body.append(["ceiling, b = 0.75", *(f"{c:.1f}" for c in (sum(CEILINGS.values()), *ceilings))])
    header = ["joint", "MNIST, own codes", "MNIST, codes of SVHN", "SVHN, own codes", "SVHN, codes of MNIST"]
    caption = "Nats, as printed. Codes of JMVAE see both. !: above its ceiling"
    return table(["", *header], body, caption=caption)


def _against(value: float | None, ceiling: float) -> str | None:
    return None if value is None else f"{value:.1f}{' !' if value > ceiling else ''}"


def our_likelihoods() -> Table:
    """Log-likelihoods of the recorded runs on hand-street, all of the data: joint, marginal and truly conditional."""
    paths = [
        "joint",
        "marginal/hand",
        "marginal/street",
        "conditional/hand/street",
        "conditional/street/hand",
    ]
    body = [
        [f"{kind}{model}", *(recorded(recipe(model, kind), f"log_likelihood/{path}") for path in paths)]
        for model in MODELS
        for kind in KINDS
    ]
    hand, street = laplace_ceiling(256, 0.75), laplace_ceiling(768, 0.75)
    body.append(["ceiling", *(f"{c:.1f}" for c in (hand + street, hand, street, street, hand))])
    header = ["joint", "hand", "street", "street given hand", "hand given street"]
    body = [[line[0], *(cell(entry, percent=False) for entry in line[1:])] for line in body]
    return table(["", *header], body, caption="Nats, `hand-street`, test split, mean ± sd (seeds)")
