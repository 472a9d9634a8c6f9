"""Sphinx extension of the book: finds mmlib, and turns its plain docstrings into pages.

The library's docstrings are written to be read in an editor: shapes such as [R, K, B], formulas on a line of their own,
no markup beyond backticks. Here the shapes and formulas are set as code, and the line that names an equation becomes
a link to the equation in its chapter. The directive ``modules`` shows all that a package holds, so that a new module
appears by itself.
"""

import importlib
import re
import sys
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.pycode.ast import _UnparseVisitor
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that the API pages also build where mmlib is not installed

EQUATION = re.compile(r"^(\s*)Equation: ``(eq-[\w-]+)``(.*)$")
LITERAL = re.compile(r"(``.*?``|`[^`]+`)")
SHAPE = re.compile(r"\[(?:[\w.*\-+ ]+)(?:, ?[\w.*\-+ ]+)*\]")
EMPHASIS = re.compile(r"(?<![\w*\\])(\*\*?)(?=\S)([^*]+?)(?<=\S)\1(?![\w*])")


def labels_in_book() -> set[str]:
    """Labels of the equations in the pages that the table of contents lists."""
    names = re.findall(r"\b(?:file|root): *(\S+)", (ROOT / "_toc.yml").read_text("utf-8"))
    pages = [page for name in names for page in (ROOT / name).parent.glob(f"{Path(name).name}.*")]
    found = [re.findall(r"\$\$ *\((eq-[\w-]+)\)", page.read_text("utf-8")) for page in pages]
    return {label for labels in found for label in labels}


def plain(text: str) -> str:
    """Text without backticks as reStructuredText: emphasis kept, other asterisks, bars and underscores harmless."""
    kept: list[str] = []

    def keep(match: re.Match) -> str:
        kept.append(match[0])
        return f"\0{len(kept) - 1}\0"

    text = EMPHASIS.sub(keep, text)
    text = SHAPE.sub(lambda match: keep(re.match(r".*", f"``{match[0]}``", re.S)), text)
    text = re.sub(r"(?<!\\)([*|])", r"\\\1", text)
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    return re.sub(r"\0(\d+)\0", lambda match: kept[int(match[1])], text)


def markup(line: str) -> str:
    """One line of a docstring with everything outside backticks made plain, but for the asterisk of a list."""
    begin = re.match(r"\s*(\* )?", line)[0]
    parts = LITERAL.split(line.removeprefix(begin))
    return begin + "".join(part if number % 2 else plain(part) for number, part in enumerate(parts))


def process(app, what, name, obj, options, lines):
    """Rewrite one docstring in place."""
    known, result, number = app.config.mm_labels, [], 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if line.lstrip().startswith(">>>"):
            while True:
                result.append(line)
                if number >= len(lines) or not lines[number].strip():
                    break
                line, number = lines[number], number + 1
            continue
        match = EQUATION.match(line)
        if not match:
            result.append(markup(line))
            continue
        indent, label, rest = match.groups()
        link = f"**Equation** :eq:`{label}`" if label in known else f"**Equation** ``{label}``"
        result += ["", f"{indent}{link}{markup(rest)}"]
        formula: list[str] = []
        while number < len(lines) and lines[number].strip():
            line, number = lines[number], number + 1
            if line.startswith(indent + "    "):
                formula.append(line)
            elif formula:
                number -= 1
                break
            else:
                result.append(markup(line))
        if formula:
            result += ["", f"{indent}.. code-block:: text", "", *formula, ""]
    # Napoleon takes what stands before a colon in the first line of these for their type: give it an empty comment.
    lines[:] = ["..", "", *result] if what in ("property", "attribute") else result


def follow_exports(app, env, node, contnode):
    """Resolve a reference to a name that a package only re-exports, such as mmlib.data.DataSet."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if node.get("refdomain") != "py" or not module.startswith("mmlib"):
        return None
    try:
        found = getattr(importlib.import_module(module), name)
        target = f"{found.__module__}.{found.__qualname__}"
    except (ImportError, AttributeError):
        return None
    place = (env, node["refdoc"], app.builder, node["reftype"], target, node, contnode)
    return env.domains["py"].resolve_xref(*place) if target != node["reftarget"] else None


def modules_of(package: str) -> list[str]:
    """A package and all modules below it; of ``mmlib`` itself its own modules, without its packages."""
    folder = ROOT / package.replace(".", "/")
    paths = folder.glob("*.py") if package == "mmlib" else folder.rglob("*.py")
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths
    }
    return sorted(names - {"mmlib", "mmlib.__main__"})


class Modules(SphinxDirective):
    """The docstrings of every module of a package, a section for each module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Its sections."""
        sections = []
        for name in modules_of(self.arguments[0]):
            made = nodes.section(ids=[nodes.make_id(f"api-{name}")])
            made += nodes.title("", "", nodes.literal("", name))
            block = ["```{eval-rst}", f".. automodule:: {name}", "```"]
            self.state.nested_parse(StringList(block), self.content_offset, made)
            sections.append(made)
        return sections


def setup(app):
    """Register the directive, and the docstring pass before napoleon's own."""
    # Without it Sphinx reads no line of a module with Literal[*NAMES], neither its order nor what is said of fields.
    _UnparseVisitor.visit_Starred = lambda self, node: f"*{self.visit(node.value)}"
    app.add_directive("modules", Modules)
    app.add_config_value("mm_labels", set(), "")
    app.connect("config-inited", lambda app, config: setattr(config, "mm_labels", labels_in_book()))
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("missing-reference", follow_exports)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
