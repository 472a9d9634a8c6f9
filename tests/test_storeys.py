"""The three storeys of the package: the library stands alone, runs stands on it, book on both; and no circles.

The package itself is the door through which a user comes in: what it offers may be of the second storey.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "mmlib"
# What may not be imported from each storey, inside functions as little as at the head; __main__ may use all.
FORBIDDEN = {"library": ("runs", "book"), "runs": ("book",), "door": ("book",), "book": (), "__main__": ()}


def name_of(path, package=PACKAGE):
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def sources(package=PACKAGE):
    return {name_of(path, package): path for path in sorted(package.rglob("*.py"))}


def imports(module, modules, anywhere):
    """Modules of the package that one of them imports: outside functions, when it is imported itself, or anywhere."""
    nodes = list(ast.parse(modules[module].read_text()).body)
    holder = module if modules[module].stem == "__init__" else module.rpartition(".")[0]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), holder)
            names = [full if (full := f"{base}.{alias.name}") in modules else base for alias in node.names]
            yield from (name for name in names if name in modules)
        if anywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)


def storey(module):
    part = module.split(".")[1] if "." in module else "door"
    return part if part in FORBIDDEN else "library"


def wrong_directions(package=PACKAGE):
    modules = sources(package)
    return [
        f"{module} imports {imported}"
        for module in modules
        for imported in imports(module, modules, anywhere=True)
        if storey(imported) in FORBIDDEN[storey(module)] or storey(imported) == "__main__"
    ]


def circle(package=PACKAGE):
    """Modules that import each other when they are imported, or None."""
    modules = sources(package)
    try:
        TopologicalSorter(
            {module: set(imports(module, modules, anywhere=False)) for module in modules}
        ).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_every_storey_knows_only_those_below():
    assert wrong_directions() == []


def test_no_module_imports_itself_by_way_of_others():
    assert circle() is None


def test_a_wrong_import_and_a_circle_are_seen(tmp_path):
    package = tmp_path / "mmlib"
    for name, text in {
        "__init__": "def load():\n    from mmlib.runs.build import f\n    from mmlib.book import claims",
        "bounds": "def f():\n    from mmlib.book import claims",
        "book/__init__": "import mmlib.runs.build",
        "book/claims": "if True:\n    from mmlib.book import ledger",
        "book/ledger": "from mmlib.book.claims import check",
        "runs/__init__": "import mmlib.bounds",
        "runs/build": "import os\nfrom mmlib import __main__\ndef f():\n    from mmlib import book",
        "__main__": "from mmlib.book import claims",
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert sorted(set(wrong_directions(package))) == [
        "mmlib imports mmlib.book.claims",
        "mmlib.bounds imports mmlib.book.claims",
        "mmlib.runs.build imports mmlib.__main__",
        "mmlib.runs.build imports mmlib.book",
    ]
    assert set(circle(package)) == {"mmlib.book.claims", "mmlib.book.ledger"}
