"""Figures and tables of the chapter on captions and birds: pictures with captions, scores, and recorded runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmlib.book import ledger
from mmlib.book.figures.recorded import draw_line, finish, recorded
from mmlib.book.ledger_rule import SEEDS
from mmlib.metrics.captions import generated_pair
from mmlib.metrics.cca import CONVENTIONS
from mmlib.plots.captions import captioned
from mmlib.plots.results import Table, table
from mmlib.plots.style import look, panels
from mmlib.runs import results
from mmlib.runs.recipes import RECIPES
from mmlib.summary import Summary, summarise

MODELS = {
    "MVAE": "mvae",
    "MMVAE": "mmvae-iwae",
    "cI-MMVAE": "ci-mmvae",
    "cC-MMVAE": "cc-mmvae",
    "JMVAE": "jmvae",
}
JOINT, TO_CAPTION, TO_IMAGE = "joint", "cross/image/caption", "cross/caption/image"
# our column -> (id of the column in print, end of the path of our metric)
COLUMNS = {
    "joint": ("joint", JOINT),
    "image to caption": ("img-to-cap", TO_CAPTION),
    "caption to image": ("cap-to-img", TO_IMAGE),
}
SYNERGY = {
    "both to caption": ("synergy-cap", "synergy/caption"),
    "both to image": ("synergy-img", "synergy/image"),
}
PARTLY = {"MEME": "meme", "MMVAE": "mmvae-iwae", "MVAE": "mvae"}  # rows of MEME's Table 5
SCHEMES = {"split": "one or the other", "image": "images always", "caption": "captions always"}
SHARES = (0.5, 0.25, 0.125)
WAYS = {"i-to-c": TO_CAPTION, "c-to-i": TO_IMAGE}  # start of the id of a column in print -> ours


def recipe(model: str, share: int = 100) -> str:
    """The recipe of a row such as ``("cI-MMVAE", 20)``."""
    return f"birds-{MODELS[model]}" if share == 100 else f"birds-{share}-{MODELS[model]}"


def partly(model: str, paired: float, scheme: str = "split") -> str:
    """The recipe of a row of MEME's table: all pairs, or a share of them and the rest as a scheme has it."""
    name = f"birds-{PARTLY[model]}"
    return name if paired == 1 else f"{name}-{scheme}-{paired:g}"


def score(end: str, convention: str = "official") -> str:
    """Path of a correlation under a convention."""
    return f"correlation/{convention}/{end}"


# --- tables of recorded runs ----------------------------------------------------------------------------------------


def interval(found: Summary | None, digits: int = 2, factor: int = 1) -> str | None:
    """Mean, interval over seeds and number of seeds, as text; None where nothing is recorded."""
    if found is None:
        return None
    ends = (
        "" if found.low is None else f" [{factor * found.low:.{digits}f}, {factor * found.high:.{digits}f}]"
    )
    return f"{factor * found.mean:.{digits}f}{ends} ({found.n})"


def bracket(path: str) -> Summary | None:
    """A metric of test pairs themselves, real or shuffled: the same for every run that is recorded."""
    every = (recorded(recipe(model, share), path) for share in (100, 20) for model in MODELS)
    return next((found for found in every if found is not None), None)


def _brackets(score_of: Sequence[str], before: int = 1) -> list[list[object]]:
    """Rows of real and of shuffled test pairs for some conventions, one column each, ``before`` empty ones ahead."""
    found = {
        end: [bracket(score(end, convention)) for convention in score_of] for end in ("real", "shuffled")
    }
    texts = {end: [None if x is None else f"{x.mean:.2f}" for x in row] for end, row in found.items()}
    return [
        [f"{end} pairs", *(part for x in row for part in [*[None] * before, x])] for end, row in texts.items()
    ]


def _printed(model: str, share: int, column: str, book: ledger.Ledger) -> str | None:
    """A cell of Table 2 of Shi et al. 2021; there is no JMVAE with all of the data."""
    row = f"{model.lower()}-{share}"
    known = row in book.exhibits["rbc-table-2"].rows
    text = ledger.printed("rbc-table-2", row, column, book).split()[0] if known else "-"
    return None if text == "-" else text


def table_2(share: int, columns: Mapping[str, tuple[str, str]] = COLUMNS) -> Table:
    """Table 2 of Shi et al. 2021, all or a fifth of the data: each column as printed, and ours beside it."""
    book, body = ledger.read(), []
    for model in MODELS:
        line: list[object] = [model]
        for column, end in columns.values():
            line += [
                _printed(model, share, column, book),
                interval(recorded(recipe(model, share), score(end))),
            ]
        body.append(line)
    body += _brackets(["official"] * len(columns))
    header = [head for name in columns for head in (f"{name}, printed", "here")]
    caption = (
        f"{share} % of the data, official convention. Printed: CUB; here: `birds`, mean [interval] (seeds)"
    )
    return table(["correlation", *header], body, caption=caption)


def table_whitened(share: int = 100) -> Table:
    """The same scores of ours under the whitened convention."""
    columns = COLUMNS | SYNERGY
    body = [
        [
            model,
            *(
                interval(recorded(recipe(model, share), score(end, "whitened")))
                for _, end in columns.values()
            ),
        ]
        for model in MODELS
    ]
    body += _brackets(["whitened"] * len(columns), before=0)
    return table([f"whitened, {share} %", *columns], body)


def truth() -> Table:
    """How many captions parse, and how much of them is true, in per cent, on the test split."""
    told = "attribute_agreement"
    paths = ["parse_rate/image", f"{told}/caption/image", "parse_rate/all", f"{told}/caption/all"]
    paths += [f"{told}/image/caption"]
    body = []
    for share in (100, 20):
        for model in MODELS:
            found = [interval(recorded(recipe(model, share), path), 0, 100) for path in paths]
            body.append([f"{model}, {share} %", *found])
    for end in ("real", "shuffled"):
        found = bracket(f"{told}/{end}")
        body.append([f"{end} pairs", None, None if found is None else f"{100 * found.mean:.0f}", *[None] * 3])
    header = [
        "on the test split, %",
        "from picture: parses",
        "true",
        "from both: parses",
        "true",
        "picture fits",
    ]
    return table(header, body)


def table_5() -> Table:
    """Table 5 of Joy et al. 2022, the rows of which we have recorded something, between real and shuffled pairs."""
    book, body = ledger.read(), []
    for model, scheme, paired in rows_of_table_5():
        line: list[object] = [f"{model}, f = {paired:g}" + (f", {SCHEMES[scheme]}" if paired < 1 else "")]
        row = f"{PARTLY[model].split('-')[0]}-{scheme.replace('caption', 'captions')}"
        for way, end in WAYS.items():
            known = row in book.exhibits["meme-table-5"].rows
            text = ledger.printed("meme-table-5", row, f"{way}-{paired:g}", book) if known else "-"
            line += [None if text == "-" else text.split()[0]]
            line += [interval(recorded(partly(model, paired, scheme), score(end)))]
        if any(line[2::2]):
            body.append(line)
    body += _brackets(["official"] * len(WAYS))
    header = ["correlation", "image to caption, printed", "here", "caption to image, printed", "here"]
    return table(
        header, body, caption="Printed: CUB, ground truth 0.106; here: `birds`, mean [interval] (seeds)"
    )


def rows_of_table_5() -> list[tuple[str, str, float]]:
    """Model, scheme and share of each row for which there is a recipe; with all pairs there is no scheme."""
    found = []
    for model in PARTLY:
        found.append((model, "image", 1.0))
        found += [(model, s, f) for s in SCHEMES for f in SHARES if partly(model, f, s) in RECIPES]
    return found


def figure_6() -> Sequence[Axes]:
    """Figure 6 of Joy et al. 2022: our correlations against the share of pairs, model by model and scheme by scheme."""
    _, axes = panels(2, height=2.8)
    for ax, end in zip(axes, WAYS.values(), strict=True):
        for model in ("MEME", "MVAE"):
            for scheme, line in zip(SCHEMES, ("-", "--", ":"), strict=True):
                found = {f: recorded(partly(model, f, scheme), score(end)) for f in (*SHARES[::-1], 1)}
                if not any(found[f] for f in SHARES):
                    continue  # all pairs are the same for every scheme
                style = look(PARTLY[model]) | {"linestyle": line}
                draw_line(ax, f"{model}, {SCHEMES[scheme]}", found, style)
        for pairs in ("real", "shuffled"):
            level_ = bracket(score(pairs))
            if level_ is not None:
                ax.axhline(level_.mean, color="0.6", linewidth=0.8)
        ax.set(title=" to ".join(end.split("/")[1:]), ylabel="correlation")
    return finish(axes, (*SHARES[::-1], 1), "share of pairs, $f$")


def above_mvae() -> Summary | None:
    """How far MEME's correlation is above MVAE's where it is least so, seed by seed: every share, scheme and way."""
    runs = [
        [{run["seed"]: run for run in results.load(partly(model, f, s))} for model in ("MEME", "MVAE")]
        for s in SCHEMES
        for f in (*SHARES, 1)
    ]
    seeds = sorted(set.intersection(*(set(found) for pair in runs for found in pair)))
    if len(seeds) < SEEDS:
        return None
    paths = [f"test/{score(end)}" for end in WAYS.values()]
    return summarise(
        [min(results.value(a[i], p) - results.value(b[i], p) for a, b in runs for p in paths) for i in seeds]
    )


def level(name: str, path: str) -> Summary | None:
    """A metric of a recipe on the test split; None where fewer than three seeds are recorded."""
    found = recorded(name, path)
    return found if found is not None and found.n >= SEEDS else None


def ahead(name: str, better: str, worse: str) -> Summary | None:
    """How far one metric of a recipe is ahead of another, seed by seed; None as of `level`."""
    found = [level(name, path) for path in (better, worse)]
    return (
        None if None in found else summarise([a - b for a, b in zip(*(f.values for f in found), strict=True)])
    )


def half_way(name: str, path: str) -> Summary | None:
    """How far the truth of captions lies above the middle between shuffled and real pairs; None as of `level`."""
    found = level(name, path)
    if found is None:
        return None
    ends = [recorded(name, f"attribute_agreement/{end}").mean for end in ("shuffled", "real")]
    return summarise([value - sum(ends) / 2 for value in found.values])


# --- networks -------------------------------------------------------------------------------------------------------


def layers(encoder: nn.Module, decoder: nn.Module, symbols: Tensor) -> Table:
    """Shapes of what the layers of the convolutions of captions give, of one item, encoder and decoder side by side.

    Args:
        encoder: a `CaptionEncoder`.
        decoder: a `CaptionDecoder`.
        symbols: int64 [1, L].
    """
    encoder.eval()
    decoder.eval()
    with torch.no_grad():
        x = encoder.embedding(symbols)[:, None]
        down = [("word vectors", x.shape), *_through(encoder.convolutions, x)]
        down.append(("two heads", encoder.loc(encoder.features(symbols)).shape))
        z = torch.zeros(1, decoder.latent_dim)
        up = [("code", (1, *z.shape[1:], 1, 1)), *_through(decoder.convolutions, z[:, :, None, None])]
        up.append(("logits", decoder(z).shape))
    shown = [[f"{name}: {' x '.join(map(str, shape[1:]))}" for name, shape in side] for side in (down, up)]
    length = max(map(len, shown))
    rows = zip(*(side + [""] * (length - len(side)) for side in shown), strict=True)
    return table(["encoder", "decoder"], [list(row) for row in rows], text=["decoder"])


def _through(convolutions: nn.Sequential, x: Tensor) -> list[tuple[str, torch.Size]]:
    found = []
    for layer in convolutions:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            kernel, stride = ("x".join(map(str, pair)) for pair in (layer.kernel_size, layer.stride))
            found.append((f"{kernel}, stride {stride}", x.shape))
    return found


# --- figures --------------------------------------------------------------------------------------------------------


def page(pictures: Tensor | None, captions: Sequence[str], columns: int = 2) -> Axes:
    """Pictures with their captions beside them, as one drawing of the column's width."""
    shown = captioned(pictures, captions, columns)
    _, ax = panels(height=7.0 * shown.shape[0] / shown.shape[1])
    ax.imshow(shown.numpy(), interpolation="antialiased")
    ax.set_axis_off()
    return ax


def translations(model, judges, data, rows: Sequence[int], generator=None) -> Axes:
    """For some validation rows: picture and caption generated from it; caption and training picture nearest to its own.

    Left: a picture, and what the model says of it. Right: the real caption of the same picture, beside the training
    picture that is nearest, by angle, to the features that the model made of this caption.
    """
    batch = data.validation.batch(torch.tensor(rows))
    number = data.validation.original("image", torch.tensor(rows))
    made = {
        given: generated_pair(model, {given: batch[given]}, [given], generator)
        for given in ("image", "caption")
    }
    words = judges.vocabulary.decode
    found = judges.pictures[nearest_by_angle(judges, made["caption"]["image"])]
    pairs = zip(
        judges.pictures[number], words(made["image"]["caption"]), found, words(batch["caption"]), strict=True
    )
    pictures, captions = [], []
    for seen, said, drawn, real in pairs:
        pictures += [seen, drawn]
        captions += [f"-> {said}", f"{real} <-"]
    return page(torch.stack(pictures), captions)


def nearest_by_angle(judges, images: Tensor) -> Tensor:
    """The training picture whose features have the smallest angle to each of [N, F], of any length: int64 [N]."""
    return (normalize(images) @ normalize(judges.features).T).argmax(1)


def score_histograms(found: Mapping[str, Mapping[str, Tensor]]) -> Sequence[Axes]:
    """Scores of some sets of pairs, title -> label -> [N], each as a density; one panel a title, with the means."""
    _, axes = panels(len(found), height=2.6, sharey=False)
    styles = [{"color": "0.6", "alpha": 0.6}, {"color": "black", "histtype": "step"},
              {"color": "#b2182b", "histtype": "step", "linestyle": "--"}]  # fmt: skip
    for ax, (title, sets) in zip(np.atleast_1d(axes), found.items(), strict=True):
        for (label, scores), style in zip(sets.items(), styles, strict=False):
            ax.hist(scores.numpy(), np.linspace(-1, 1, 50), density=True, label=label, **style)
            ax.axvline(float(scores.mean()), color=style["color"], linestyle=":", linewidth=1)
        ax.set(title=title, xlabel="score", yticks=[], xlim=(-1, 1))
    np.atleast_1d(axes)[0].legend(fontsize="small", loc="upper left")
    return list(np.atleast_1d(axes))


def best_captions(judges, images: Tensor, symbols: Tensor, rows: int = 500) -> Tensor:
    """For each picture, features [N, F], the caption with the best whitened score among int64 [C, L]: int64 [N, L]."""
    projection = judges.projections["whitened"]
    x, y = (
        normalize((view.double() - mean) @ directions)
        for view, mean, directions in zip(
            (images, judges.sentences(symbols)), projection.mean, projection.directions, strict=True
        )
    )
    return symbols[torch.cat([(part @ y.T).argmax(1) for part in x.split(rows)])]


def best_of_own(judges, split, rows: Tensor) -> Tensor:
    """For each row, by number, the best-scoring of all captions of its own picture, whitened: int64 [N, L]."""
    said, number = split.items["caption"], split.original("image", rows)
    known = said.original.unique()  # as many captions of each picture, in any order
    ten = said.values[said.original.argsort(stable=True)].unflatten(0, (len(known), -1))
    ten = ten[torch.searchsorted(known, number)]  # [N, 10, L]
    images = split.batch(rows)["image"].repeat_interleave(ten.shape[1], 0)
    best = judges.correlation(images, ten.flatten(0, 1), "whitened").unflatten(0, ten.shape[:2]).argmax(1)
    return ten[torch.arange(len(ten)), best]


def conventions(judges, images: Tensor, sets: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Scores of pictures, features [N, F], beside several sets of captions, label -> [N, L], under both conventions."""
    return {
        convention: {
            label: judges.correlation(images, symbols, convention) for label, symbols in sets.items()
        }
        for convention in CONVENTIONS
    }
