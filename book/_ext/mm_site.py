"""Sphinx extension of the book: links that two readers share, three generated pieces, no live kernels.

A chapter is read here and in Jupyter, so it links by ordinary Markdown: ``[words](bounds.ipynb#eq-iwae)`` leads to
the equation, theorem, figure or section of that label, and ``[Shi et al. (2019)](bibliography.md#shi2019mmvae)`` to an
entry of the bibliography.
"""

import math
from itertools import combinations

from docutils import nodes
from mm_pages import Page, details, paragraph, table
from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode


class LinksToLabels(SphinxPostTransform):
    """Resolve links to labels that the Markdown reader does not know; what stays open, it complains about."""

    default_priority = 8  # the Markdown reader's own pass has 9

    def run(self):
        """Replace each link whose label has a place."""
        places = self.places()
        for node in list(self.document.findall(addnodes.pending_xref)):
            if node["reftype"] != "myst":
                continue
            page = node["reftarget"] if node.get("refdomain") == "doc" else None
            place = places.get(node["reftargetid"] if page else node["reftarget"])
            if place and page in (None, place[0]) and node["refexplicit"]:
                words = nodes.inline("", "", *node[0].children)
                node.replace_self(make_refnode(self.app.builder, self.env.docname, *place, words))

    def places(self) -> dict[str, tuple[str, str]]:
        """Page and anchor of every label: sections, figures, theorems, exercises; equations; works that are cited."""
        domains = self.env.domains
        found = {label: place[:2] for label, place in domains["std"].anonlabels.items()}
        for label, (page, _) in domains["math"].equations.items():
            found[label] = (page, nodes.make_id(f"equation-{label}"))
        for work in domains["cite"].citations:
            found[work.key] = (work.bibliography_key.docname, work.citation_id)
        return found


class LedgerState(Page):
    """One sentence: how many printed results hold, and how many equations the book derives."""

    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """The sentence."""
        from mmlib.book import equations, ledger

        found = ledger.read()
        (_, *statuses, _), *_, (_, *counts, together) = ledger.coverage(found)["printed results"]
        statements = equations.load().values()
        derived = sum(bool(statement.labels) for statement in statements)
        states = ", ".join(f"{count} {status}" for status, count in zip(statuses, counts, strict=True))
        return [
            paragraph(
                f"Of {together} results printed in {len(found.papers)} papers: {states}. "
                f"Of their {len(statements)} equations and named statements, {derived} are derived here.",
                classes=["mm-state"],
            )
        ]


class Rounding(Page):
    """A table: how far rounding alone moves the coherences of each recorded model, beside what another seed does.

    The weights of the repository were made with portable sums, the results of the same recipe and seed with all
    instructions of their processor: nothing but rounding differs.
    """

    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """The table; distances are root mean squares over all coherences on the test split, in points."""
        from mmlib.runs import results, trained

        rows, ratios = [], []
        for folder in sorted(trained.WEIGHTS.glob("*/seed-0")):
            recipe = folder.parent.name
            found = results.load(recipe)
            if len(found) < 2 or found[0]["provenance"].get("portable"):  # nothing that rounds otherwise
                continue
            usual = [coherences(result) for result in found]
            rounded = coherences(results.verify(folder / "result.json"))
            seeds = math.hypot(*(distance(*pair) for pair in combinations(usual, 2)))
            seeds /= math.sqrt(math.comb(len(usual), 2))
            moved = distance(usual[0], rounded)
            ratios.append(moved / seeds)
            rows.append([[nodes.literal("", recipe)], f"{moved:.1f}", f"{seeds:.1f}", str(len(usual))])
        factors = f"{min(ratios):.1f} and {max(ratios):.1f} times as far as another seed"
        return [
            table(["recipe", "rounding", "another seed", "seeds"], rows, [3, 1, 1, 1], ["mm-numbers"]),
            paragraph(f"Rounding alone moves these models between {factors}."),
        ]


class Speed(Page):
    """Tables of a training step: beside another library's, of each model, as the work grows; from data/speed.yaml."""

    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """The tables, and where they were measured."""
        from mmlib.book.speed import SPEED
        from mmlib.files import read_yaml

        found = read_yaml(SPEED)
        first = found["beside"]
        beside = [
            [
                row["step"],
                *(f"{row[key]:.0f}" for key in ("ours_ms", "theirs_ms")),
                ratio(row, "ms"),
                ratio(row, "mb"),
            ]
            for row in first["rows"]
        ]
        keys = ("m", "k", "width", "decodings", "ms", "mb")
        grown = [[row["model"], *(f"{row[key]:g}" for key in keys)] for row in found["growth"]["rows"]]
        models = [[row["recipe"], f"{row['ms']:.1f}", f"{row['mb']:.0f}"] for row in found["models"]["rows"]]
        versions = " and ".join(f"{name} {version}" for name, version in first["versions"].items())
        head = ["a step of", "mmlib, ms", "MultiVae, ms", "ratio of ms", "ratio of peak memory"]
        sizes = ["model", "M", "K", "width", "decodings per row", "ms", "MB"]
        return [
            paragraph(f"Measured on {first['hardware']}, one thread, {first['date']}, with {versions}."),
            table(head, beside, [4, 1, 1, 1, 1], ["mm-numbers"]),
            *details("Model by model", table(["recipe", "ms", "MB"], models, [4, 1, 1], ["mm-numbers"])),
            *details("As the work grows", table(sizes, grown, [2, 1, 1, 1, 2, 1, 1], ["mm-numbers"])),
        ]


def ratio(row: dict, unit: str) -> str:
    """What this library takes, as a share of what the other takes."""
    return f"{row[f'ours_{unit}'] / row[f'theirs_{unit}']:.2f}"


def coherences(result: dict) -> list[float]:
    """All coherences of a recorded result on the test split, in points."""
    from mmlib.runs.results import flatten

    parts = ("test/cross_coherence/", "test/synergy_coherence/", "test/joint_coherence")
    return [100 * number for name, number in flatten(result["metrics"]) if name.startswith(parts)]


def distance(one: list[float], other: list[float]) -> float:
    """Root mean square of the differences."""
    return math.dist(one, other) / math.sqrt(len(one))


def without(app, extension: str) -> None:
    """Silence an extension that the builder loads by itself."""
    for listeners in app.events.listeners.values():
        listeners[:] = [one for one in listeners if not one.handler.__module__.startswith(extension)]
    sheets = app.registry.css_files
    sheets[:] = [sheet for sheet in sheets if not sheet[0].startswith(extension.replace("_", "-"))]


def setup(app):
    """Register the links and the directives; leave out what would run cells on a server of others."""
    without(app, "sphinx_thebe")
    app.add_post_transform(LinksToLabels)
    app.add_directive("ledger-state", LedgerState)
    app.add_directive("rounding", Rounding)
    app.add_directive("speed", Speed)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
