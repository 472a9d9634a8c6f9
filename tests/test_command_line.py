"""The command line: what it accepts, what it answers, and that the pages show commands that exist."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from mmlib import __main__ as command_line
from mmlib.book import ledger
from mmlib.runs import build, results, scale, trained
from mmlib.runs.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
SHOWN = [
    (page.name, words.split("#")[0].strip())
    for page in PAGES
    for block in re.findall(r"^```(?:console|bash|shell)\n(.*?)^```", page.read_text(), re.M | re.S)
    for words in re.findall(r"python -m mmlib ([^\n]+)", block)
]


@pytest.mark.parametrize(("page", "words"), SHOWN, ids=[f"{page}: {words}" for page, words in SHOWN])
def test_every_command_on_a_page_is_understood(page, words):
    arguments = shlex.split(words)
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            command_line.main(arguments)
        assert stop.value.code == 0
    else:
        options = command_line._parser().parse_args(arguments)
        for name in (*getattr(options, "names", ()), getattr(options, "name", None)):
            assert name is None or command_line.main(["recipes", name]) == 0


def test_pages_show_every_command():
    shown = {shlex.split(words)[0] for _, words in SHOWN}
    parser = command_line._parser()
    commands = next(
        action for action in parser._actions if action.dest == "command" or action.choices
    ).choices
    table = (ROOT / "book" / "command-line.md").read_text()
    for name in commands:
        assert name in shown or f"`{name}`" in table, f"{name} is on no page"


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", [0, 1, 2, 3, 4]), ("3", [3]), ("0,2,5", [0, 2, 5]), ("1-2,2,0", [1, 2, 0])]
)
def test_seeds(text, seeds):
    assert command_line._seeds(text, 9) == seeds
    assert command_line._seeds(None, 9) == [9]


@pytest.mark.parametrize("text", ["", "a", "4-0", "0-", "-1", "1,,2"])
def test_bad_seeds_are_refused(text, capsys):
    assert command_line.main(["train", "hand-street-mvae", f"--seeds={text}"]) == 2
    assert "seeds is" in capsys.readouterr().err


def test_several_runs_go_to_the_scheduler_of_runs(monkeypatch, capsys, tmp_path):
    asked = {}

    def run_all(jobs, root, **options):
        asked.update(jobs=list(jobs), root=root, **options)
        return [Path(root) / "result.json"]

    monkeypatch.setattr(scale, "run_all", run_all)
    arguments = ["train", "hand-street-mvae", "hand-street-jmvae", "--seeds", "0-1", "--jobs", "2"]
    assert command_line.main([*arguments, "--root", str(tmp_path), "--device", "cpu", "--quiet"]) == 0
    assert asked["jobs"] == [(f"hand-street-{m}", s) for m in ("mvae", "jmvae") for s in (0, 1)]
    assert asked["n_jobs"] == 2 and asked["dask"] is None and asked["progress"] is False
    assert capsys.readouterr().out.strip() == str(tmp_path / "result.json")
    assert command_line.main([*arguments, "--dask", "tcp://127.0.0.1:1", "--device", "cuda:0,cuda:1"]) == 0
    assert asked["dask"] == "tcp://127.0.0.1:1" and asked["device"] == ["cuda:0", "cuda:1"]
    assert command_line.main([*arguments[:-1], "0"]) == 2
    assert "jobs is 0; expected at least 1" in capsys.readouterr().err


def test_evaluating_a_run_again_gives_its_recorded_numbers(tmp_path, monkeypatch, capsys):
    from mmlib.metrics import train_classifiers
    from mmlib.runs import recipes, runner

    quickly = lambda data, cache=None: train_classifiers(data, steps=2, width=0.1, cache=cache)  # noqa: E731
    monkeypatch.setattr(build, "build_classifiers", quickly)
    tiny = Recipe(
        name="tiny-again", model="mvae", dataset="hand-street", source="a test", steps=8, width=0.1, batch_size=8,
        data_options={"train": 60, "validation": 30, "test": 30}, likelihood_rows=2, likelihood_k=2, validations=4,
    )  # fmt: skip
    monkeypatch.setitem(recipes.RECIPES, tiny.name, tiny)
    monkeypatch.setenv("MMLIB_DATA", str(tmp_path / "data"))
    recorded = results.verify(runner.run(tiny, 3, tmp_path / "runs", progress=False))
    for split in ("validation", "test"):
        words = ["evaluate", tiny.name, "--seed", "3", "--split", split, "--root", str(tmp_path / "runs")]
        assert command_line.main([*words, "--json"]) == 0
        again = json.loads(capsys.readouterr().out)
        expected = {
            key: value for key, value in recorded["metrics"][split].items() if key != "log_likelihood"
        }
        assert again == expected
    assert command_line.main(words) == 0
    assert "given hand" in capsys.readouterr().out
    assert command_line.main([*words, "--split", "train"]) == 2
    assert "split is 'train'; expected 'validation' or 'test'" in capsys.readouterr().err
    assert command_line.main(["evaluate", tiny.name, "--root", str(tmp_path / "runs")]) == 1
    assert "make the run with python -m mmlib train tiny-again --seed 0" in capsys.readouterr().err
    changed = dataclasses.replace(tiny, steps=9)
    with pytest.raises(ValueError, match=f"was made with recipe {tiny.hash}"):
        trained.load_trained(changed, 3, tmp_path / "runs")


def test_ledger_commands(monkeypatch, capsys):
    assert command_line.main(["ledger"]) == 0
    assert "not attempted" in capsys.readouterr().out
    monkeypatch.setattr(ledger, "check", lambda: ["rbc-table-1: a digit differs"])
    assert command_line.main(["ledger", "--check"]) == 1
    captured = capsys.readouterr()
    assert "a digit differs" in captured.err and "problems: 1" in captured.out
    monkeypatch.setattr(ledger, "check", list)
    assert command_line.main(["ledger", "--check"]) == 0
    assert command_line.main(["table"]) == 0
    assert "meme-table-3" in capsys.readouterr().out
    assert command_line.main(["table", "rbc-table-1", "--markdown"]) == 0
    assert "| MMVAE |" in capsys.readouterr().out
    assert command_line.main(["table", "rbc-table-99"]) == 2
    assert "rbc-table-99" in capsys.readouterr().err
