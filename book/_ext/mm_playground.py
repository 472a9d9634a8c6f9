"""Sphinx extension of the book: the playground, whose models are written into the built book from their weights."""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

SCRIPTS = ("tensorflow.js", "network.js", "models.js", "playground.js")
PLACE = """<div class="playground">
<p class="playground-wait">The models are being unpacked. This needs JavaScript, and no network.</p></div>"""


class Playground(SphinxDirective):
    """The place where ``playground.js`` puts everything."""

    def run(self) -> list[nodes.Node]:
        """An element with a class."""
        self.env.metadata[self.env.docname]["mm_playground"] = True
        return [nodes.raw("", PLACE, format="html")]


def assets(app, pagename, templatename, context, doctree) -> None:
    """Scripts and style sheet, on the pages that have the directive alone."""
    if app.env.metadata.get(pagename, {}).get("mm_playground"):
        app.add_css_file("playground/playground.css", priority=900)
        for name in SCRIPTS:
            app.add_js_file(f"playground/{name}", loading_method="defer")


def write_models(app) -> None:
    """Write what the scripts run: once a build, seconds."""
    if app.builder.format == "html":
        from mmlib.book.playground import script
        from mmlib.files import write_atomically

        write_atomically(app.outdir / "_static" / "playground" / "models.js", script().encode())


def setup(app):
    """Register the directive."""
    app.add_directive("playground", Playground)
    app.connect("html-page-context", assets)
    app.connect("builder-inited", write_models)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
