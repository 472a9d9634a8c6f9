"""The contract between the book, the library and its reader: what must hold of every page, whatever it says."""

import base64
import importlib.util
import io
import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import mmlib
from mmlib.book import claims

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
PAGES = sorted([*BOOK.glob("*.md"), *BOOK.glob("api/*.md"), *NOTEBOOKS])
MEGABYTE = 1_000_000

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)


def tool(name, folder="_tools"):
    """A script of book/_tools, or of another folder of the book, as a module."""
    spec = importlib.util.spec_from_file_location(name, BOOK / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(notebook, kind="code"):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


def prose(page):
    """The text of a page that the book builder reads as Markdown."""
    if page.suffix == ".md":
        return page.read_text()
    return "\n\n".join(source(cell) for cell in cells(page, "markdown"))


def tracked(*patterns):
    """Files under version control; in a copy without one, every file that is not built or cached."""
    listing = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode == 0:
        return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]
    skip = {"_build", ".venv", "runs", "cache", "__pycache__", ".git"}
    found = [path for pattern in patterns for path in ROOT.rglob(pattern)]
    return [path for path in found if path.is_file() and not skip & set(path.relative_to(ROOT).parts)]


# --- pages and table of contents -----------------------------------------------------------------


def test_table_of_contents_and_folder_agree():
    listed = re.findall(r"\b(?:root|file): (\S+)", (ROOT / "_toc.yml").read_text())
    assert len(listed) == len(set(listed))
    assert sorted(listed) == sorted(str(page.relative_to(ROOT).with_suffix("")) for page in PAGES)


@pages
def test_page_begins_with_one_title(page):
    titles = re.findall(r"^# ", re.sub(r"^```.*?^```", "", prose(page), flags=re.M | re.S), re.M)
    assert len(titles) == 1, f"{page.name} has {len(titles)} first-level titles; expected one"


@pages
def test_citations_resolve(page):
    known = set(re.findall(r"^@\w+\{([\w-]+),", (BOOK / "references.bib").read_text(), re.M))
    cited = {
        key.strip()
        for keys in re.findall(r"(?<!`)\{cite(?::\w+)?\}`([^`]+)`", prose(page))
        for key in keys.split(",")
    }
    assert cited <= known, f"{page.name} cites {sorted(cited - known)}, not in references.bib"


def test_references_are_complete():
    entries = re.split(r"^@", (BOOK / "references.bib").read_text(), flags=re.M)[1:]
    keys = [re.match(r"\w+\{([\w-]+),", entry)[1] for entry in entries]
    assert len(keys) == len(set(keys))
    for key, entry in zip(keys, entries, strict=True):
        missing = [
            field for field in ("author", "title", "year") if not re.search(rf"^\s*{field}\s*=", entry, re.M)
        ]
        assert not missing, f"{key} lacks {missing}"


@pages
def test_every_exercise_has_a_folded_solution(page):
    text = prose(page)
    exercises = re.findall(r"\{exercise(?:-start)?\}.*?\n+:label: ([\w-]+)", text)
    solutions = re.findall(r"\{solution(?:-start)?\} ([\w-]+)\n+(.*)", text)
    assert sorted(exercises) == sorted(label for label, _ in solutions)
    assert all("dropdown" in option for _, option in solutions)


@pages
def test_figures_have_alternative_text(page):
    for block in re.findall(r"^(?:```|:::+)\{(?:figure|image)\}.*?(?=^```|^:::)", prose(page), re.M | re.S):
        assert re.search(r"^:alt: \S", block, re.M), f"{page.name}: {block.splitlines()[0]} has no :alt: text"


@pages
def test_display_mathematics_stands_apart(page):
    """Without a blank line before, the builder prints the label of an equation as text."""
    lines, inside = prose(page).splitlines(), False
    for number, line in enumerate(lines):
        if line.strip().startswith("$$") and not inside:
            before = lines[number - 1].strip() if number else ""
            assert not before, f"{page.name}, line {number + 1}: a blank line is missing before $$"
        if line.count("$$") % 2:
            inside = not inside
    assert not inside, f"{page.name}: a $$ is never closed"


# --- notebooks -----------------------------------------------------------------------------------


@notebooks
def test_notebook_is_stored_executed_in_order(notebook):
    code = [cell for cell in cells(notebook) if source(cell).strip()]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error" or "raises-exception" in cell["metadata"].get("tags", [])
            assert output.get("name") != "stderr", "".join(output["text"])


@notebooks
def test_notebook_is_light_and_timeless(notebook):
    assert notebook.stat().st_size < MEGABYTE
    content = json.loads(notebook.read_text())
    assert content["metadata"] == tool("run").METADATA
    nbformat.validate(content)
    for cell in content["cells"]:
        assert not {"execution", "ExecuteTime", "collapsed"} & set(cell["metadata"])


@notebooks
def test_chapters_import_models_and_define_none(notebook):
    for cell in cells(notebook):
        assert not re.search(r"^\s*class \w+\(.*(Module|VAE)\b", source(cell), re.M)
        assert not re.search(r"warnings\.(simplefilter|filterwarnings)\(\s*[\"']ignore", source(cell))


@notebooks
def test_every_cell_is_run_and_some_are_compared(notebook):
    code = [cell for cell in cells(notebook) if source(cell).strip()]
    tags = [set(cell["metadata"].get("tags", [])) for cell in code]
    assert not any("nbval-skip" in tag for tag in tags)
    compared = [cell for cell, tag in zip(code, tags, strict=True) if "nbval-ignore-output" not in tag]
    assert any(output for cell in compared for output in cell["outputs"]), (
        "no cell of this chapter is compared"
    )


# --- claims (equations have a file of their own, test_equations.py) ----------------------------------


def test_every_listed_claim_is_checked_in_a_chapter():
    code = "\n".join(source(cell) for page in NOTEBOOKS for cell in cells(page))
    listed = set(claims.load())
    unchecked = sorted(name for name in listed if f'"{name}"' not in code)
    assert not unchecked, f"data/claims.yaml lists claims that no chapter checks: {unchecked}"
    called = set(re.findall(r"claims\.check\(\s*\"([\w-]+)\"", code))
    assert called <= listed


# --- what must be in no file ------------------------------------------------------------------------


def test_text_files_hold_no_local_paths_and_no_loose_ends():
    marks = ["TO" + "DO", "FIX" + "ME", "X" + "XX", "raise Not" + "ImplementedError", "lorem" + " ipsum"]
    local = re.compile(r"(?<![\w.$}~*/-])/(?:home|root|work|Users|tmp|mnt|opt)/\w")
    for path in tracked(
        "*.py", "*.md", "*.ipynb", "*.yml", "*.yaml", "*.toml", "*.cfg", "*.txt", "*.json", "Makefile"
    ):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":  # pictures are text too, of a kind
            text = re.sub(r'"image/png": "[^"]*"', "", text)
        found = [mark for mark in marks if re.search(rf"\b{mark}\b", text)] + local.findall(text)
        assert not found, f"{path.relative_to(ROOT)} contains {found}"


def test_files_of_the_library_stay_readable():
    for path in (ROOT / "mmlib").rglob("*.py"):
        lines = len(path.read_text().splitlines())
        assert lines < 400, f"{path.relative_to(ROOT)} has {lines} lines"


def test_reference_lists_every_module():
    pages = [page.read_text() for page in sorted((BOOK / "api").glob("*.md"))]
    packages = [name for text in pages for name in re.findall(r"^```\{modules\} (\S+)$", text, re.M)]
    listed = [name for package in packages for name in tool("mm_ext", "_ext").modules_of(package)]
    names = {info.name for info in pkgutil.walk_packages(mmlib.__path__, "mmlib.")}
    assert sorted(listed) == sorted(names - {"mmlib.__main__"})


# --- numbers in prose --------------------------------------------------------------------------------


def test_table_of_the_two_experts_is_what_the_library_computes():
    stacked, _, product, mixture = tool("draw").combine(tool("draw").SITUATIONS["agreement"])
    mean = mixture.mean
    spread = (stacked.scale**2 + (stacked.loc - mean) ** 2).mean(0).sqrt()
    computed = {
        "expert 1": (stacked.loc[0], stacked.scale[0]),
        "expert 2": (stacked.loc[1], stacked.scale[1]),
        "product, with the prior": (product.loc, product.scale),
        "mixture": (mean, spread),
    }
    table = (BOOK / "desiderata.md").read_text().split("<!-- checked: experts -->")[1]
    for name, values in computed.items():
        printed = re.search(rf"^\| {name} \| ([\d.]+) \| ([\d.]+) \|", table, re.M)
        assert printed.groups() == tuple(f"{value.item():.3f}" for value in values)


def test_pictures_of_the_prose_pages_come_from_the_drawing_script():
    text = (BOOK / "_tools" / "draw.py").read_text()
    for picture in (BOOK / "_static").glob("*.png"):
        assert f'"{picture.name}"' in text, f"{picture.name} has no origin"


# --- the built book, and the tools that make it ---------------------------------------------------


@pytest.mark.skipif(not (ROOT / "_build" / "html").is_dir(), reason="the book has not been built")
def test_built_book_loads_nothing_from_the_network():
    assert tool("offline").remote_assets(ROOT / "_build" / "html") == []


def test_offline_check_notices_what_a_browser_would_load(tmp_path):
    harmful = [
        '<script src="https://a.example/x.js"></script>',
        '<link rel="stylesheet" href="//a.example/x.css">',
        '<img src="http://a.example/x.png">',
        "<style>@import url(https://a.example/x.css);</style>",
        '<p style="background: url(https://a.example/x.png)">',
    ]
    harmless = (
        '<a href="https://a.example">a</a><link rel="canonical" href="https://a.example"><script src="x.js">'
    )
    (tmp_path / "page.html").write_text("\n".join(harmful) + harmless)
    (tmp_path / "sheet.css").write_text("@font-face { src: url('https://a.example/f.woff2') }")
    found = tool("offline").remote_assets(tmp_path)
    assert len(found) == len(harmful) + 1


def notebook_with(tmp_path, *sources):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in sources])
    path = tmp_path / "chapter.ipynb"
    nbformat.write(made, path)
    return path


def test_running_a_chapter_twice_leaves_its_bytes_alone(tmp_path):
    path = notebook_with(tmp_path, "import mmlib\nprint(1)", "", "import os\nos.environ['OMP_NUM_THREADS']")
    run = tool("run")
    _, news, well = run.execute(path)
    assert well and news.startswith("written")
    first, stamp = path.read_bytes(), path.stat().st_mtime_ns
    assert [cell["execution_count"] for cell in cells(path)] == [1, None, 2]
    assert cells(path)[2]["outputs"][0]["data"]["text/plain"] == ["'1'"]
    _, news, well = run.execute(path)
    assert well and news.startswith("unchanged")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (first, stamp)


def test_pictures_are_stored_small_and_look_as_drawn():
    def encoded(picture):
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()

    colours = np.random.default_rng(0).normal([200, 90, 40], 9, (64, 64, 3))
    drawn = Image.fromarray(colours.clip(0, 255).astype("uint8"))
    before, smaller = encoded(drawn.convert("RGBA")), tool("run").smaller
    after = smaller(before)
    shown = Image.open(io.BytesIO(base64.b64decode(after)))
    assert len(after) < len(before) and shown.size == drawn.size
    assert np.abs(np.asarray(shown.convert("RGB")).astype(int) - np.asarray(drawn)).mean() < 3  # of 255
    assert smaller(after) == after
    glass = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 9)))
    assert smaller(glass) == glass  # what is behind would show


@pytest.mark.parametrize("text", ["import warnings\nwarnings.warn('careful')", "1 / 0"])
def test_a_chapter_that_warns_or_fails_is_not_stored(tmp_path, text):
    path = notebook_with(tmp_path, text)
    before = path.read_bytes()
    _, _, well = tool("run").execute(path)
    assert not well
    assert path.read_bytes() == before


def test_what_folds_has_a_title_to_click():
    # A folded block without a title stops the script that folds, and every solution after it stands open.
    for page in [*BOOK.glob("*.md"), *BOOK.glob("*.ipynb")]:
        text = page.read_text().replace('",\n    "', "")
        assert not re.search(r"\{prf:proof\}(\\n|\n):class: dropdown", text), page.name


def test_chapters_are_tested_from_their_own_folder_too():
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--nbval",
        "--nbval-current-env",
    ]
    done = subprocess.run([*command, "bounds.ipynb::Cell 0"], cwd=BOOK, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout
