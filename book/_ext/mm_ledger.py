"""The ledger as a page of the book: the directive ``ledger`` with the part to show."""

import re

from docutils import nodes
from mm_pages import Page, details, filters, joined, paragraph, span, table

from mmlib.book.pages import slug


class LedgerPage(Page):
    """A part of the ledger: ``coverage``, ``rule``, ``exhibits`` or ``recipes``."""

    required_arguments = 1
    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """The part that is asked for."""
        from mmlib.book import ledger

        parts = {
            "coverage": self.coverage,
            "rule": self.rule,
            "exhibits": self.exhibits,
            "recipes": self.recipes,
        }
        if self.arguments[0] not in parts:
            raise self.error(f"part is {self.arguments[0]!r}; expected one of {', '.join(parts)}")
        self.ledger = ledger.read()
        return parts[self.arguments[0]]()

    def coverage(self) -> list[nodes.Node]:
        """How much is answered, by paper and status."""
        from mmlib.book.ledger import census, coverage

        found = []
        for head, *rows in coverage(self.ledger).values():
            found.append(table(head, [[*map(str, row)] for row in rows], classes=["mm-numbers", "mm-short"]))
        return [*found, paragraph(census(self.ledger))]

    def rule(self) -> list[nodes.Node]:
        """The statuses, and the limits of spread."""
        from mmlib.book.ledger_entries import UNITS
        from mmlib.book.ledger_rule import RULE
        from mmlib.book.ledger_text import MARKS

        statuses = [
            [[span(MARKS[status] or "–", "mm-mark", f"mm-{slug(status)}"), nodes.Text(f" {status}")], text]
            for status, text in RULE.items()
        ]
        units = [[name, f"{unit.limit:g}", unit.reason] for name, unit in UNITS.items()]
        return [
            table(["status", "when"], statuses, [1, 4]),
            paragraph("The largest standard deviation over seeds with which a cell can count as reproduced:"),
            table(["unit of the paper", "limit, in our unit", "reason"], units, [1, 1, 3]),
        ]

    def exhibits(self) -> list[nodes.Node]:
        """Menus, and a section a paper."""
        from mmlib.book.ledger_entries import MODELS
        from mmlib.book.ledger_rule import STATUSES

        present = {model for exhibit in self.ledger.exhibits.values() for model in exhibit.models}
        menus = filters(
            paper=("Paper", {key: paper.citation for key, paper in self.ledger.papers.items()}),
            method=("Method", {model: model for model in MODELS if model in present}),
            status=("Status", {slug(status): status for status in STATUSES}),
        )
        return [menus, *(self.paper(paper) for paper in self.ledger.papers.values())]

    def paper(self, paper) -> nodes.section:
        """The exhibits of one paper, then its illustrations."""
        made = self.section(f"ledger-{paper.paper}", f"{paper.citation}: {paper.title}", "mm-group")
        shown = [exhibit for exhibit in paper.exhibits.values() if exhibit.illustration]
        for exhibit in paper.exhibits.values():
            if not exhibit.illustration:
                made += self.exhibit(exhibit)
        made += self.illustrations(paper, shown)
        return made

    def exhibit(self, exhibit) -> nodes.section:
        """One table or figure that counts."""
        made = self.section(
            f"exhibit-{exhibit.id}", f"{exhibit.source}: {exhibit.title}", "mm-group", "mm-exhibit"
        )
        places = [self.ledger.cells[exhibit.id, *place] for place in exhibit.printed()]
        answers = [*places, *(self.ledger.claims[exhibit.id, claim] for claim in exhibit.claims)]
        facts = [exhibit.data, exhibit.place]
        if exhibit.printed():
            facts.append(f"{exhibit.cells} results in {exhibit.unit}")
        made += paragraph(" · ".join(facts) + " ", *self.counts(answers), classes=["mm-facts"])
        if exhibit.claims:
            made += self.claims(exhibit)
        if exhibit.table:
            attempted = any(answer.sample for answer in places)
            made += details("The table: printed, and ours below", self.grid(exhibit), opened=attempted)
            if attempted:
                made += details("Ours, cell by cell", self.cells(exhibit))
        made += self.notes(exhibit)
        return made

    def counts(self, answers: list) -> list[nodes.Node]:
        """How many answers have each status."""
        from mmlib.book.ledger_rule import STATUSES

        found = []
        for status in STATUSES:
            count = sum(answer.status == status for answer in answers)
            if count:
                found += [span(f"{count} {status}", "mm-chip", f"mm-{slug(status)}"), nodes.Text(" ")]
        return found

    def grid(self, exhibit) -> nodes.table:
        """The printed table, ours below each number."""
        from mmlib.book.ledger_entries import Cell

        rows, block = [], ""
        for row in exhibit.rows.values():
            if row.block != block:
                block = row.block
                heading = nodes.entry("", paragraph(block), morecols=len(exhibit.columns))
                rows.append(([heading], ["mm-block"]))
            answers = [
                self.ledger.cells[exhibit.id, row.id, column]
                for column in exhibit.columns
                if isinstance(exhibit.table[row.id, column], Cell)
            ]
            classes = {f"status-{slug(answer.status)}" for answer in answers}
            entries = [row.heading, *(self.cell(exhibit, row, column) for column in exhibit.columns)]
            rows.append((entries, self.item(exhibit, row.model, classes)))
        head = [exhibit.unit or "", *(column.heading for column in exhibit.columns.values())]
        return table(head, rows, classes=["mm-grid"])

    def item(self, exhibit, model: str, classes) -> list[str]:
        """Classes by which the script chooses."""
        return ["mm-item", f"paper-{exhibit.paper}", f"method-{model}", *sorted(classes)]

    def cell(self, exhibit, row, column: str) -> nodes.entry:
        """One printed number, its flag, and ours."""
        from mmlib.book.ledger_entries import Cell
        from mmlib.book.ledger_text import MARKS, SUSPECT, number

        cell = exhibit.table[row.id, column]
        if not isinstance(cell, Cell):
            return nodes.entry("", paragraph(cell.replace("-", "–"), classes=["mm-none"]))
        answer = self.ledger.cells[exhibit.id, row.id, column]
        status = slug(answer.status)
        printed = paragraph(cell.text)
        for suspect in exhibit.suspicions(row.id, column)[:1]:
            printed += [nodes.Text(" "), self.ref(f"erratum-{suspect.errata}", SUSPECT)]
        entry = nodes.entry("", printed, classes=["mm-cell", f"status-{status}"])
        if answer.sample:
            text = number(answer, cell, exhibit.unit_of(row.id, column))
            entry += paragraph(
                span(f"{text} ", "mm-ours"), span(MARKS[answer.status], "mm-mark", f"mm-{status}")
            )
        return entry

    def cells(self, exhibit) -> nodes.table:
        """Ours one by one: seeds, recipe, status, reason."""
        from mmlib.book.ledger_text import number

        rows = []
        for (row, column), cell in exhibit.printed().items():
            answer = self.ledger.cells[exhibit.id, row, column]
            if answer.sample:
                entries = [
                    exhibit.rows[row].heading,
                    exhibit.columns[column].heading,
                    cell.text,
                    number(answer, cell, exhibit.unit_of(row, column)),
                    str(answer.sample.n),
                    self.ref(f"recipe-{answer.sample.recipe}", answer.sample.recipe),
                    [span(answer.status, "mm-chip", f"mm-{slug(answer.status)}")],
                    answer.reason,
                ]
                classes = [f"status-{slug(answer.status)}"]
                rows.append((entries, self.item(exhibit, exhibit.rows[row].model, classes)))
        return table(["row", "column", "paper", "ours", "seeds", "recipe", "status", "why"], rows)

    def claims(self, exhibit) -> nodes.table:
        """What a figure shows, and whether it does here."""
        rows = []
        for claim in exhibit.claims.values():
            answer = self.ledger.claims[exhibit.id, claim.id]
            chip = span(answer.status, "mm-chip", f"mm-{slug(answer.status)}")
            classes = [f"status-{slug(answer.status)}"]
            rows.append(
                ([claim.claim, claim.model, [chip], answer.reason], self.item(exhibit, claim.model, classes))
            )
        return table(["what it shows", "method", "status", "why"], rows, [4, 1, 1, 2])

    def notes(self, exhibit) -> list[nodes.Node]:
        """Recipes, spread, flags and remarks."""
        listed = nodes.bullet_list(classes=["mm-notes"])
        texts = []
        if exhibit.recipes:
            links = joined([self.ref(f"recipe-{name}", name) for name in exhibit.recipes])
            texts.append(paragraph("Recipes that answer it: ", *links, "."))
        for original in dict.fromkeys(row.copy_of for row in exhibit.rows.values() if row.copy_of):
            copies = sum(row.copy_of == original for row in exhibit.rows.values())
            source = self.ledger.exhibits[original]
            name = f"{source.source} of {self.ledger.papers[source.paper].citation}"
            texts.append(
                paragraph(f"{copies} rows are copies of ", self.ref(f"exhibit-{original}", name), ".")
            )
        if exhibit.spread and exhibit.table:
            texts.append(paragraph(f"± of the paper: {exhibit.spread}."))
        for suspect in exhibit.suspects:
            link = self.ref(f"erratum-{suspect.errata}", f"erratum {suspect.errata}")
            cells = ", ".join(f"`{pattern}`" for pattern in suspect.cells)
            texts.append(paragraph(f"Flagged, not corrected: {cells}: {suspect.note}; see ", link, "."))
        if exhibit.notes:
            texts.append(paragraph(*self.linked(exhibit.notes)))
        for text in texts:
            listed += nodes.list_item("", text)
        return [listed] if texts else []

    def linked(self, text: str) -> list:
        """Text in which ids of errata are links."""
        from mmlib.book import errata

        known = errata.load()
        parts = re.split(r"\b([a-z]+-(?:x|q|code-)?(?:\d+|baselines))\b", " ".join(text.split()))
        return [self.ref(f"erratum-{part}", part) if part in known else part for part in parts if part]

    def illustrations(self, paper, shown: list) -> list[nodes.Node]:
        """What is listed and not counted."""
        rows = []
        for exhibit in shown:
            id = f"exhibit-{exhibit.id}"
            self.anchor(id, f"{exhibit.source}: {exhibit.title}")
            facts = [exhibit.shows or exhibit.title]
            if exhibit.layers:
                facts.append(f"{exhibit.layers} entries")
            what = paragraph("; ".join(facts) + ".")
            if exhibit.code:
                what += [nodes.Text(" In the library: "), self.ref(exhibit.code, exhibit.code, "py", "mod")]
            for suspect in exhibit.suspects:
                what += [nodes.Text(f" Flagged: {suspect.note}; see ")]
                what += [self.ref(f"erratum-{suspect.errata}", f"erratum {suspect.errata}"), nodes.Text(".")]
            if exhibit.notes:
                what += paragraph(" ", *self.linked(exhibit.notes)).children
            name = paragraph(nodes.target("", "", ids=[id]), exhibit.source)
            rows.append(([name, exhibit.kind, what], ["mm-item", f"paper-{paper.paper}"]))
        if not rows:
            return []
        made = self.section(f"ledger-{paper.paper}-shown", "Listed, not counted", "mm-group")
        made += table(["exhibit", "kind", "what it shows"], rows, [1, 1, 5], ["mm-short"])
        return [made]

    def recipes(self) -> list[nodes.Node]:
        """Every recipe that a row names."""
        made = []
        named = {name for exhibit in self.ledger.exhibits.values() for name in exhibit.recipes}
        for name in sorted(named):
            recipe = self.ledger.records.recipes[name]
            self.anchor(f"recipe-{name}", name)
            seeds = ", ".join(map(str, self.ledger.records.found.get(name, {})))
            card = nodes.container(ids=[f"recipe-{name}"], classes=["mm-equation"])
            card += paragraph(
                nodes.literal("", name),
                " ",
                span("the paper's setting" if recipe.faithful else "as a direction", "mm-chip"),
                " ",
                span(f"seeds {seeds}" if seeds else "no run recorded", "mm-chip"),
            )
            card += paragraph(recipe.source + (f"; {recipe.reduced}" if recipe.reduced else ""))
            made.append(card)
        return made


def setup(app):
    """Register the directive."""
    app.add_directive("ledger", LedgerPage)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
