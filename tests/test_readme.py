"""The README keeps its word: its snippets run, its files and commands exist."""

import ast
import re
import sys
import time
import tomllib
from pathlib import Path

import pytest

import mmlib
from mmlib.__main__ import main
from mmlib.runs import recipes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def run(snippet):
    """What a snippet defines, and the seconds of processor time that it takes."""
    names, begin = {}, time.process_time()
    exec(compile(snippet, "README.md", "exec"), names)
    return names, time.process_time() - begin


def test_a_digit_is_translated_in_a_few_lines_and_seconds(tmp_path, monkeypatch):
    mmlib.load("hand-street-mmvae-elbo")  # the data set is made once
    monkeypatch.chdir(tmp_path)
    names, seconds = run(SNIPPETS[0])
    assert len(SNIPPETS[0].splitlines()) <= 15 and seconds < 10
    assert names["house"].shape == (1, 3, 16, 16)
    assert names["house"].std() > 0.05  # something is on the wall
    assert {path.name for path in tmp_path.iterdir()} == {"digit.png", "house.png"}


def test_the_library_in_fourteen_lines_runs(capsys):
    names, _ = run(SNIPPETS[1])
    assert len([line for line in SNIPPETS[1].splitlines() if line]) == 14
    assert "## The library in fourteen lines" in README
    assert names["street"].shape == (10, 3, 16, 16)
    assert names["weights"].values.shape[1:] == (8, 10)
    assert "tensor" in capsys.readouterr().out


def test_there_are_two_snippets():
    assert len(SNIPPETS) == 2


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file(), f"README.md points to {target}, which does not exist"


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    named = set(re.findall(r"\bmake ([a-z]+)", re.sub(r"`git` and `make`", "", README)))
    assert {"book", "test", "run"} <= named <= targets


def test_plain_pip_commands_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for words in (
        "build . --all -W --keep-going -n",
        "pip install",
        "--nbval --nbval-current-env -n 2 --dist loadfile",
    ):
        assert words in README
        assert words.removeprefix("pip ") in makefile


def test_folders_named_in_the_readme_exist():
    listing = re.search(r"## What lies where.*?```text\n(.*?)```", README, re.S)[1]
    for folder in re.findall(r"^(\w+)/", listing, re.M):
        assert (ROOT / folder).is_dir()


def test_commands_and_recipes_of_the_library_exist():
    commands = re.findall(r"python -m mmlib (\w+)(?: (\w[\w-]+))?", README)
    assert {"recipes", "train", "results"} <= {command for command, _ in commands}
    for command, argument in commands:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        if command == "train" and argument:
            assert recipes.get(argument).name == argument


# --- what an installation brings -----------------------------------------------------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_list_for_make_is_that_of_the_package():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]
    extras = PROJECT["optional-dependencies"]
    assert list(extras) == ["runs", "captions", "book", "test"]
    entries = [entry for extra in extras.values() for entry in extra]
    needed = PROJECT["dependencies"] + [entry for entry in entries if not entry.startswith("mmlib[")]
    assert sorted(listed) == sorted(needed)
    pinned = (ROOT / "constraints.txt").read_text().lower()
    for entry in listed:
        name = re.match(r"[\w-]+", entry)[0]
        assert re.search(rf"^{name.replace('-', '[-_]')}==", pinned, re.M), f"{name} has no tested version"


def test_the_library_alone_needs_no_extra():
    packages = {"scikit-learn": "sklearn", "pillow": "PIL"}
    names = [re.match(r"[\w-]+", entry)[0] for entry in PROJECT["dependencies"]]
    known = {packages.get(name, name) for name in names} | {"mmlib"} | sys.stdlib_module_names
    # of what comes with the repository, for files to be fetched, for frames that somebody has, a metric, words
    later = {"yaml", "torchvision", "pandas", "gpytorch", "gensim"}
    for path in (ROOT / "mmlib").rglob("*.py"):
        if path.relative_to(ROOT).parts[1] in ("runs", "book", "__main__.py"):
            continue
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            modules = [entry.name for entry in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in (name.split(".")[0] for name in modules):
                inside = module in later and node not in tree.body
                assert module in known or inside, f"{path.relative_to(ROOT)} imports {module}"
