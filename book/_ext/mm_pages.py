"""Sphinx extension of the book: the generated pages, built from the files in data each time the book is.

Two directives, ``errata`` and ``equation-index``; a third, ``ledger``, is in ``mm_ledger``. All that they link to is a
true cross-reference, so that a link that leads nowhere stops the build. The pages read without JavaScript; a small
script adds filters.
"""

import html
import json
import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmlib.book.pages import BOOK  # noqa: E402
from mmlib.book.pages import title as title_of  # noqa: E402

INLINE = re.compile(r"(\$[^$]+\$|`[^`]+`|https?://\S+[\w/])")


# --- pieces ---------------------------------------------------------------------------------------------------------


def inline(text: str) -> list[nodes.Node]:
    """Text with mathematics between dollar signs and code between backticks."""
    found = []
    for part in INLINE.split(re.sub(r"\s+", " ", str(text))):
        if part.startswith("$") and len(part) > 1:
            found.append(nodes.math("", part[1:-1]))
        elif part.startswith("`") and len(part) > 1:
            found.append(nodes.literal("", part[1:-1]))
        elif part:
            found.append(nodes.Text(part))
    return found


def paragraph(*parts, classes=()) -> nodes.paragraph:
    """A paragraph of texts and nodes."""
    made = nodes.paragraph("", classes=list(classes))
    for part in parts:
        made += part if isinstance(part, nodes.Node) else inline(part)
    return made


def span(text: str, *classes: str) -> nodes.inline:
    """A piece of text with classes."""
    return nodes.inline("", text, classes=list(classes))


def joined(parts: list, separator: str = ", ") -> list[nodes.Node]:
    """Nodes with a separator between them."""
    found = []
    for part in parts:
        found += [nodes.Text(separator)] if found else []
        found.append(part)
    return found


def table(head: list, rows: list, widths: list[int] | None = None, classes=()) -> nodes.table:
    """A table; an entry is a text, a node, or a list of nodes, and a row may come with classes: (entries, classes)."""
    made = nodes.table(classes=["mm-table", *classes])
    group = nodes.tgroup(cols=len(head))
    made += group
    for width in widths or [1] * len(head):
        group += nodes.colspec(colwidth=width)
    top, body = nodes.thead(), nodes.tbody()
    top += _row(head, ())
    for row in rows:
        entries, row_classes = row if isinstance(row, tuple) else (row, ())
        body += _row(entries, row_classes)
    group += [top, body]
    return made


def _row(entries: list, classes) -> nodes.row:
    row = nodes.row(classes=list(classes))
    for content in entries:
        if isinstance(content, nodes.entry):
            row += content
            continue
        entry = nodes.entry()
        parts = content if isinstance(content, list) else [content]
        if all(isinstance(part, nodes.paragraph | nodes.bullet_list | nodes.target) for part in parts):
            entry += parts
        else:
            entry += paragraph(*parts)
        row += entry
    return row


def details(summary: str, *content: nodes.Node, opened: bool = False) -> list[nodes.Node]:
    """Content that folds under a summary."""
    begin = (
        f'<details class="mm-details"{" open" if opened else ""}><summary>{html.escape(summary)}</summary>'
    )
    return [nodes.raw("", begin, format="html"), *content, nodes.raw("", "</details>", format="html")]


def filters(**facets: tuple[str, dict[str, str]]) -> nodes.raw:
    """The place where the script puts its menus: for each facet a label, and options by class."""
    listed = [
        {"name": name, "label": label, "options": list(o.items())} for name, (label, o) in facets.items()
    ]
    content = html.escape(json.dumps(listed), quote=True)
    return nodes.raw("", f'<div class="mm-filter" data-facets="{content}" hidden></div>', format="html")


STATEMENTS = {"thm-": "Theorem", "def-": "Definition", "lem-": "Lemma"}  # by the head of their labels


class Page(SphinxDirective):
    """A directive that makes a page, or a part of one, from files of data."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Its nodes."""
        for path in sorted((ROOT / "data").glob("*.yaml")) + sorted(
            (ROOT / "data" / "ledger").glob("*.yaml")
        ):
            self.env.note_dependency(str(path))
        self.env.metadata[self.env.docname]["mm_page"] = True
        return self.content_nodes()

    def section(self, id: str, title: str, *classes: str) -> nodes.section:
        """A section that can be linked to by its id."""
        made = nodes.section(ids=[id], classes=list(classes))
        made += nodes.title("", "", *inline(title))
        self.anchor(id, title)
        return made

    def anchor(self, id: str, title: str) -> None:
        """Make an id of this page known to the whole book."""
        self.env.get_domain("std").note_hyperlink_target(id, self.env.docname, id, title)

    def ref(self, label: str, text: str, domain: str = "std", kind: str = "ref") -> addnodes.pending_xref:
        """A cross-reference; to what does not exist, the builder warns."""
        made = addnodes.pending_xref(
            "",
            refdomain=domain,
            reftype=kind,
            reftarget=label,
            refexplicit=True,
            refwarn=True,
            refdoc=self.env.docname,
        )
        made += nodes.literal("", text) if domain == "py" else nodes.inline("", text)
        made.source, made.line = self.get_source_info()
        return made

    def to_label(self, label: str, text: str) -> addnodes.pending_xref:
        """A cross-reference to an equation, a theorem or a section, by its label."""
        if label.startswith("eq-"):
            made = self.ref(label, text, "math", "eq")
            made["refexplicit"] = False
            return made
        if label.startswith(tuple(STATEMENTS)):
            return self.ref(label, text, "prf", "ref")
        return self.ref(label, text)


# --- the errata -----------------------------------------------------------------------------------------------------

METHODS = {  # by the names that the entries use
    "jmvae": "JMVAE",
    "mvae": "MVAE",
    "mmvae": "MMVAE",
    "mopoe": "MoPoE",
    "mmjsd": "mmJSD",
    "meme": "MEME",
    "mmali": "MMALI",
}


class ErrataPage(Page):
    """Every entry of the errata, by paper."""

    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """Counts, menus, and a section a paper."""
        from mmlib.book import equations, ledger_read
        from mmlib.book.errata import KINDS, PAPERS, load

        self.statements = equations.load()
        self.known = equations.labels_of()
        papers = ledger_read.load()
        self.exhibits = {id: exhibit for paper in papers.values() for id, exhibit in paper.exhibits.items()}
        known, counts = load().values(), []
        grouped = {paper: [entry for entry in known if entry.paper == paper] for paper in PAPERS}
        for paper, entries in grouped.items():
            found = [sum(entry.kind == kind for entry in entries) for kind in KINDS]
            link = self.ref(f"errata-{paper}", PAPERS[paper])
            counts.append([[link], *(str(count or "") for count in found), str(len(entries))])
        menus = filters(
            paper=("Paper", PAPERS),
            kind=("Kind", {kind: f"{kind}: {text}" for kind, text in KINDS.items()}),
            method=("Method", METHODS),
        )
        made = [table(["paper", *KINDS, "all"], counts, [4, *[1] * (len(KINDS) + 1)], ["mm-numbers"]), menus]
        for paper, entries in grouped.items():
            section = self.section(f"errata-{paper}", PAPERS[paper], "mm-group")
            section += [self.entry(entry) for entry in entries]
            made.append(section)
        return made

    def entry(self, entry) -> nodes.container:
        """One erratum."""
        id = f"erratum-{entry.id}"
        self.anchor(id, entry.title)
        said = " ".join((entry.place, entry.title, entry.printed, entry.correct, entry.reason))
        methods = [m for m, name in METHODS.items() if m == entry.paper or re.search(rf"\b{name}\b", said)]
        classes = [f"paper-{entry.paper}", f"kind-{entry.kind}", *(f"method-{method}" for method in methods)]
        made = nodes.container(ids=[id], classes=["mm-item", "mm-erratum", *classes])
        made += paragraph(
            nodes.strong("", entry.title),
            " ",
            span(entry.kind, "mm-chip", f"mm-kind-{entry.kind}"),
            " ",
            nodes.reference("", entry.id, refuri=f"#{id}", internal=True, classes=["mm-id"]),
            classes=["mm-title"],
        )
        made += paragraph(entry.place, classes=["mm-place"])
        listed = nodes.definition_list(classes=["mm-fields"])
        names = {"code": ("Paper", "Code"), "silent": ("Paper", "Here")}.get(
            entry.kind, ("Printed", "Correct")
        )
        fields = [(names[0], [entry.printed]), (names[1], [entry.correct]), ("Why", [entry.reason])]
        about = [self.ref(f"equation-{x}", self.equation(x)) for x in entry.equations]
        about += [self.ref(f"exhibit-{x}", self.exhibit(x)) for x in entry.exhibits]
        if about:
            fields.append(("About", joined(about)))
        if entry.shown_by:
            fields.append(("Shown by", joined([self.shown(target) for target in entry.shown_by])))
        for name, content in fields:
            item = nodes.definition_list_item()
            item += [nodes.term("", name), nodes.definition("", paragraph(*content))]
            listed += item
        made += details(f"{names[0]}, {names[1].lower()}, and why", listed)
        return made

    def equation(self, id: str) -> str:
        """What an equation of a paper is called in a link."""
        if id not in self.statements:
            return id
        statement = self.statements[id]
        return statement.number if statement.named else f"Eq. {statement.number}"

    def exhibit(self, id: str) -> str:
        """What a table or figure is called in a link."""
        return self.exhibits[id].source if id in self.exhibits else id

    def shown(self, target: str) -> nodes.Node:
        """A test by name, or a link to a place of the book."""
        if "::" in target:
            return nodes.literal("", target.removeprefix("tests/"))
        page, _, anchor = target.partition("#")
        title = title_of(BOOK / page)
        if anchor in self.known and anchor.startswith(("eq-", "thm-", "def-")):
            made = nodes.inline()
            made += [self.to_label(anchor, anchor), nodes.Text(" in "), nodes.emphasis("", title)]
            return made
        if anchor in self.known:
            return self.ref(anchor, title)
        return nodes.reference("", title, refuri=f"{Path(page).stem}.html#{anchor}", internal=True)


# --- the index of equations -----------------------------------------------------------------------------------------


class EquationIndexPage(Page):
    """The equations of the four papers, and what answers each."""

    optional_arguments = 0

    def content_nodes(self) -> list[nodes.Node]:
        """Counts, menus, a section a paper, and the book's other equations."""
        from mmlib.book import equations, ledger_read
        from mmlib.book.errata import load as load_errata

        statements = equations.load()
        self.found = equations.answers()
        errata = equations.errata_of(statements, load_errata())
        papers = ledger_read.load()
        counts, sections = [], []
        for key, paper in papers.items():
            own = [statement for statement in statements.values() if statement.paper == key]
            answered = sum(bool(statement.labels) for statement in own)
            named = sum(statement.named for statement in own)
            link = self.ref(f"equations-{key}", paper.citation)
            counts.append([[link], *map(str, (len(own) - named, named, answered, len(own) - answered))])
            section = self.section(f"equations-{key}", f"{paper.citation}: {paper.title}", "mm-group")
            section += [self.statement(statement, errata[statement.id]) for statement in own]
            sections.append(section)
        head = ["paper", "numbered equations", "named statements", "answered here", "not yet"]
        menus = filters(
            paper=("Paper", {key: paper.citation for key, paper in papers.items()}),
            status=("In the book", {"answered": "answered", "not-yet": "not yet"}),
        )
        return [
            table(head, counts, [4, 1, 1, 1, 1], ["mm-numbers"]),
            menus,
            *sections,
            self.others(equations.elsewhere(statements, self.found)),
        ]

    def statement(self, statement, errata: list[str]) -> nodes.container:
        """One equation of a paper, and what answers it."""
        id = f"equation-{statement.id}"
        number = statement.number if statement.named else f"({statement.number})"
        self.anchor(id, number)
        status = "answered" if statement.labels else "not-yet"
        classes = ["mm-item", "mm-equation", f"paper-{statement.paper}", f"status-{status}"]
        made = nodes.container(ids=[id], classes=classes)
        made += paragraph(nodes.strong("", number), " ", statement.states, classes=["mm-says"])
        here = [self.answer(self.found[label]) for label in statement.labels if label in self.found]
        made += here or [paragraph("not yet", classes=["mm-none"])]
        if statement.remark:
            made += paragraph(statement.remark, classes=["mm-small"])
        if errata:
            links = joined([self.ref(f"erratum-{x}", x) for x in errata])
            made += paragraph("errata: ", *links, classes=["mm-small"])
        return made

    def answer(self, answer) -> nodes.paragraph:
        """What stands behind one label: equation, page, function, tests."""
        text = next((word for prefix, word in STATEMENTS.items() if answer.label.startswith(prefix)), "")
        made, page = paragraph(classes=["mm-here"]), nodes.emphasis("", title_of(BOOK / answer.page))
        if text:
            made += [self.to_label(answer.label, text), nodes.Text(" in "), page]
        elif answer.label.startswith("eq-"):
            made += [self.to_label(answer.label, ""), nodes.Text(" in "), page]
        else:
            made += self.to_label(answer.label, title_of(BOOK / answer.page))
        if answer.equation:
            made += [
                nodes.Text(", "),
                self.ref(answer.equation.where, answer.equation.where.removeprefix("mmlib."), "py", "obj"),
            ]
        if answer.tests:
            made += [nodes.Text(", ")]
            made += joined([nodes.literal("", name) for name in answer.tests])
        return made

    def others(self, answers: list) -> nodes.section:
        """Equations of the book that come from elsewhere."""
        made = self.section("equations-elsewhere", "Equations of the book from elsewhere")
        rows = [[answer.equation.source, [self.answer(answer)]] for answer in answers]
        made += table(["from", "here"], rows, [3, 4])
        return made


def assets(app, pagename, templatename, context, doctree) -> None:
    """The style sheet and the script of the generated pages, on those pages alone."""
    if app.env.metadata.get(pagename, {}).get("mm_page"):
        app.add_css_file("ledger.css", priority=900)  # after the sheet of the whole book
        app.add_js_file("ledger.js", loading_method="defer")


def setup(app):
    """Register the directives."""
    app.add_directive("errata", ErrataPage)
    app.add_directive("equation-index", EquationIndexPage)
    app.connect("html-page-context", assets)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
