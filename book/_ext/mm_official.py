"""Sphinx extension of the book: what released code does, from the errata, with the numbers that its slips change."""

from docutils import nodes
from mm_pages import METHODS, ErrataPage, joined, paragraph, table


class OfficialCodePage(ErrataPage):
    """What the released code does, method by method: the entries about code, and the numbers that slips change."""

    def content_nodes(self) -> list[nodes.Node]:
        """A table of numbers, then a section a method; every entry links to the errata, where the reasons are."""
        from mmlib.book import equations
        from mmlib.book.errata import PAPERS, load
        from mmlib.book.slips import SLIPS

        self.known, entries, rows = equations.labels_of(), load(), []
        for slip in SLIPS:
            link = self.ref(f"erratum-{slip.erratum}", entries[slip.erratum].title)
            rows.append([[link], slip.what, *slip.shown()])
        head = ["slip", "what it changes", "as meant", "as coded or printed"]
        made = [table(head, rows, [3, 4, 1, 1], ["mm-numbers", "mm-slips"])]
        for paper, name in {**METHODS, "rbc": "Contrastive models", "cub": "Birds with captions"}.items():
            own = [entry for entry in entries.values() if entry.paper == paper and entry.kind == "code"]
            section = self.section(f"official-{paper}", f"{name}: {PAPERS[paper]}")
            section += [part for entry in own for part in self.slip(entry)]
            made += [section] if own else []
        return made

    def slip(self, entry) -> list[nodes.Node]:
        """One entry: what the code does, why it matters, and where a number shows it."""
        parts = [paragraph(nodes.strong("", entry.title), ". ", entry.correct)]
        parts[0] += [nodes.Text(" ("), self.ref(f"erratum-{entry.id}", entry.id), nodes.Text(")")]
        places = [target for target in entry.shown_by if "::" not in target]
        if places:
            parts.append(
                paragraph("Seen in ", *joined([self.shown(p) for p in places]), classes=["mm-small"])
            )
        return parts


def setup(app):
    """Register the directive."""
    app.add_directive("official-code", OfficialCodePage)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
