"""Figures and tables of captions as codes, in the chapter on captions and birds: MMALI and its coder of captions."""

from mmlib.book import ledger
from mmlib.book.figures.birds import bracket, interval, recipe, score
from mmlib.book.figures.recorded import recorded
from mmlib.data import grammar
from mmlib.data.captioned import CaptionedSet
from mmlib.data.vocabulary import PADDING
from mmlib.metrics.caption_judges import CODES
from mmlib.plots.results import Table, table

MMALI = "birds-mmali"
# id of a column of Table 4 in print -> end of the path of our metric
COLUMNS = {"joint": "joint", "image-to-caption": "cross/image/caption"}
COLUMNS |= {"caption-to-image": "cross/caption/image", "ground-truth": "real"}
TOLD = "attribute_agreement"
TRUTH = {  # column -> path: how many captions parse, and how much of them is true
    "from picture: parses": "parse_rate/image",
    "from picture: true": f"{TOLD}/caption/image",
    "from both: parses": "parse_rate/all",
    "from both: true": f"{TOLD}/caption/all",
    "from prior: parses": "parse_rate/prior",
    "picture fits": f"{TOLD}/image/caption",
}


def round_trip(data: CaptionedSet, split: str = "validation") -> dict[str, float]:
    """Shares of the captions of a split, given as codes, that come back: their words, whole ones; and that parse.

    "half-way" are those that parse among the codes in the middle between one caption's and the next one's.
    """
    said, codes = (part.splits[split].items["caption"].values for part in (data.words, data))
    back, known = data.coder.decode(codes), said != PADDING
    texts = [
        data.vocabulary.decode(x) for x in (said, back, data.coder.decode((codes + codes.roll(1, 0)) / 2))
    ]
    parsed = [sum(grammar.read(text).parsed for text in found) / len(said) for found in texts]
    whole = sum(a == b for a, b in zip(*texts[:2], strict=True)) / len(said)
    right = float((said == back)[known].float().mean())
    return {"words": right, "whole captions": whole, "parse": parsed[1], "half-way": parsed[2]}


def table_4() -> Table:
    """Table 4 of Chen and Zhu 2022: each column as printed, and ours beside it.

    Scores of ours are those of words, under one projection for all, and of MMALI also those of codes.
    """
    book, body = ledger.read(), []
    rows = {"MVAE": ("mvae", recipe("MVAE"), "official"), "MMVAE": ("mmvae", recipe("MMVAE"), "official")}
    rows |= {"MMALI, codes": ("mmali", MMALI, CODES), "MMALI, words": (None, MMALI, "official")}
    for label, (row, name, convention) in rows.items():
        line: list[object] = [label]
        for column, end in COLUMNS.items():
            line.append(None if row is None else ledger.printed("mmali-table-4", row, column, book))
            found = recorded(name, score(end, convention))
            line.append(f"{found.mean:.2f}" if found and end == "real" else interval(found))
        body.append(line)
    for label, convention in {"shuffled, codes": CODES, "shuffled, words": "official"}.items():
        found = recorded(MMALI, score("shuffled", convention))
        body.append([label, *[None] * 7, None if found is None else f"{found.mean:.2f}"])
    names = "joint", "image to caption", "caption to image", "real pairs"
    header = [head for name in names for head in (f"{name}, printed", "here")]
    caption = "Printed: CUB, each row with its own features; here: `birds`, mean [interval] (seeds)"
    return table(["correlation, official", *header], body, caption=caption)


def truth_of_codes() -> Table:
    """How many of MMALI's captions parse, and how much is true, beside JMVAE's; and what coding leaves of real ones."""
    body = []
    for label, name in {"MMALI": MMALI, "JMVAE": recipe("JMVAE")}.items():
        body.append([label, *(interval(recorded(name, path), 0, 100) for path in TRUTH.values())])
    kept = [recorded(MMALI, f"{kind}/real") for kind in ("parse_rate", TOLD)]
    ceiling = [None if x is None else f"{100 * x.mean:.0f}" for x in kept]
    away = bracket(f"{TOLD}/shuffled")
    body.append(["real captions, as codes", *ceiling, *ceiling, None, None])
    body.append(["shuffled pairs", None, None if away is None else f"{100 * away.mean:.0f}", *[None] * 4])
    return table(["on the test split, %", *TRUTH], body)
