"""The command line: what it accepts, what it answers, and that the pages show commands that exist."""

import dataclasses
import functools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import quick_runs

import mmlib
from mmlib import __main__ as command_line
from mmlib.book import ledger, queue
from mmlib.runs import build, recipes, results, scale, trained
from mmlib.runs.folder import RunFolder
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import RECIPES

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
            of_ones_own = name is None or name.endswith(".yaml")
            assert of_ones_own or command_line.main(["recipes", name]) == 0


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
    assert "--jobs is 0; expected an integer of at least 1" in capsys.readouterr().err


def test_portable_settings_are_there_before_torch_is_imported(tmp_path):
    script = (
        "import os, sys; from mmlib.__main__ import main; from mmlib.runs import provenance, runner\n"
        "def run(*_, **options):\n"
        "    assert options['portable'] and 'torch' not in sys.modules\n"
        "    assert provenance.PORTABLE.items() <= os.environ.items()\n"
        "    return provenance.portable()\n"
        "runner.run = run\n"
        "sys.exit(main(['train', 'hand-street-mvae', '--portable']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str("avx2" in Path("/proc/cpuinfo").read_text())


def test_evaluating_a_run_again_gives_its_recorded_numbers(tmp_path, monkeypatch, capsys):
    from mmlib.runs import runner

    monkeypatch.setattr(build, "build_classifiers", quick_runs.judges)
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
    assert "--split is 'train'; expected one of validation, test" in capsys.readouterr().err
    assert command_line.main(["evaluate", tiny.name, "--root", str(tmp_path / "runs")]) == 1
    assert "make the run with python -m mmlib train tiny-again --seed 0" in capsys.readouterr().err
    folder = RunFolder(tiny, 3, tmp_path / "runs")

    # held against the record: itself, itself with another setting, and a record that says something else
    record = tmp_path / "results"
    monkeypatch.setattr(results, "load", functools.partial(results.load, root=record))
    monkeypatch.setattr(results, "recorded", functools.partial(results.recorded, root=record))
    words = ["compare", tiny.name, "--seed", "3", "--root", str(tmp_path / "runs"), "--quiet"]
    record.mkdir()
    assert command_line.main(words) == 2
    assert "recipe is 'tiny-again'; expected one of none" in capsys.readouterr().err
    published = results.publish(folder.path, record)
    assert command_line.main(words) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"tiny-again, seed 3: the same weights, 0 of \d+ metrics moved, 0 off; recorded seeds: 1, too few to .*",
        last,
    )
    varied = [words[0], f"{tiny.name}+likelihood_k=3", *words[2:], "--json"]
    assert command_line.main(varied) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differs"]["likelihood_k"] == {"recorded": "2", "new": "3"} and found["weights"] is None
    assert found["metrics"]["test/cross_coherence/hand/street"]["errors"] in (0.0, None)
    assert (tmp_path / "runs" / "tiny-again+likelihood_k=3" / "seed-3" / "result.json").is_file()
    other = json.loads(published.read_text())
    other["metrics"]["test"]["latent_accuracy"]["hand"]["mean"]["value"] += 9
    published.write_text(json.dumps(results.seal(other)))
    assert command_line.main(words) == 1
    captured = capsys.readouterr().out
    assert "1 off" in captured and re.search("test/latent_accuracy/hand/mean .* off\n", captured)

    words = ["evaluate", *words[1:-1]]
    intact = folder.weights.read_bytes()
    changed = dataclasses.replace(tiny, steps=9)
    with pytest.raises(ValueError, match=f"was made with recipe {tiny.hash}"):
        trained.load_trained(changed, 3, tmp_path / "runs")

    folder.weights.write_bytes(
        intact[:-1] + bytes([intact[-1] ^ 1])
    )  # still a safetensors file, of other weights
    with pytest.raises(
        ValueError, match="weights.safetensors is damaged: its SHA-256 is not the one in result.json"
    ):
        trained.load_trained(tiny, 3, tmp_path / "runs")
    assert command_line.main(words) == 2
    folder.weights.write_bytes(intact)
    folder.result.unlink()
    with pytest.raises(
        FileNotFoundError, match="result.json is not there: make the run with python -m mmlib train"
    ):
        trained.load_trained(tiny, 3, tmp_path / "runs")


def test_the_queue_is_worked_through_until_time_is_up(tmp_path, monkeypatch, capsys):
    asked = {}

    def run_all(jobs, root, **options):
        asked.update(jobs=[(recipe.name, seed) for recipe, seed in jobs], **options)
        return [tmp_path / "result.json"]

    monkeypatch.setattr(scale, "run_all", run_all)
    path = tmp_path / "queue.yaml"
    monkeypatch.setattr(queue, "load", functools.partial(queue.load, path))
    monkeypatch.setattr(queue, "wanted", functools.partial(queue.wanted, recorded=tmp_path / "results"))
    path.write_text(
        "- {recipe: hand-street-mvae, seeds: [1, 0], priority: 5, why: x}\n"
        "- {recipe: hand-street-jmvae, seeds: [0], priority: 9, why: x}\n"
        "- {recipe: hand-street-mmvae-elbo, seeds: [0], priority: 5, why: x}\n"
    )
    (tmp_path / "results" / "hand-street-mvae").mkdir(parents=True)
    (tmp_path / "results" / "hand-street-mvae" / "seed-0.json").touch()  # recorded: done
    checkpoint = (
        RunFolder(RECIPES["hand-street-mmvae-elbo"], 0, tmp_path).checkpoints
        / "step-000000500-0a.safetensors"
    )
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()  # begun: first
    assert (
        command_line.main(["train", "--queue", "--budget", "50m", "--root", str(tmp_path), "--jobs", "2"])
        == 0
    )
    assert asked["jobs"] == [("hand-street-mmvae-elbo", 0), ("hand-street-jmvae", 0), ("hand-street-mvae", 1)]
    assert asked["budget"] == 3000 and asked["n_jobs"] == 2
    assert "2 of 3 runs are not finished: the same call continues them" in capsys.readouterr().err
    for words, message in (
        (["train"], "RECIPE and --queue are both given or both missing"),
        (["train", "--queue", "hand-street-mvae"], "RECIPE and --queue are both given"),
        (["train", "--queue", "--budget", "5x"], "--budget is '5x'; expected for example 90s, 50m or 2h"),
        (["train", "--queue", "--budget", "0m"], "--budget is '0m'"),
    ):
        assert command_line.main(words) == 2
        assert message in capsys.readouterr().err
    path.write_text("- [")
    assert command_line.main(["train", "--queue"]) == 2
    assert "queue.yaml cannot be read as YAML" in capsys.readouterr().err


ROW = {"recipe": "hand-street-mvae", "seeds": [0], "priority": 1, "why": "x"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (5, "queue.yaml holds int; expected a list of rows"),
        ({"a": 1}, "queue.yaml holds dict; expected a list of rows"),
        ([ROW, 3], "queue.yaml, row 2: it is 3; expected the fields priority, recipe, seeds, why"),
        ([{**ROW, "what": 1}], "row 1: it is {.*; expected the fields"),
        (
            [{**ROW, "recipe": ["hand-street-mvae"]}],
            r"row 1: recipe is \['hand-street-mvae'\]; expected one of",
        ),
        ([{**ROW, "recipe": "hand-stret-mvae"}], "row 1: recipe is .*, such as hand-street-mvae"),
        ([{**ROW, "recipe": None}], "row 1: recipe is None"),
        ([{**ROW, "seeds": 0}], "row 1: seeds is 0; expected a list"),
        ([{**ROW, "seeds": []}], "row 1: seeds is .*; expected a list"),
        ([{**ROW, "seeds": [0, "1"]}], "row 1: seed is '1'; expected an integer of at least 0"),
        ([{**ROW, "seeds": [True]}], "row 1: seed is True"),
        ([{**ROW, "priority": "high"}], "row 1: priority is 'high'; expected an integer"),
        ([ROW, {**ROW, "priority": 2}], "row 2: hand-street-mvae, seed 0, is in the queue twice"),
        ([{**ROW, "seeds": [1, 1]}], "row 1: hand-street-mvae, seed 1, is in the queue twice"),
    ],
)
def test_a_damaged_queue_is_refused_with_file_row_and_reason(tmp_path, content, message):
    path = tmp_path / "queue.yaml"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        queue.load(path)


def test_an_empty_queue_wants_nothing(tmp_path):
    (tmp_path / "queue.yaml").touch()
    assert queue.wanted(queue.load(tmp_path / "queue.yaml"), tmp_path) == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminals_without_unicode_are_given_other_signs(encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)}
    for words, sign in ((["table", "mmali-table-1"], b"+/-"), (["results"], b"n = ")):
        command = [sys.executable, "-m", "mmlib", *words]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert (sign if encoding == "ascii" else sign.replace(b"+/-", b"\xb1")) in done.stdout


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"mmlib {mmlib.__version__}\n"


def test_options_are_named_as_they_were_typed_and_names_have_neighbours(capsys):
    for words, message in (
        (["train", "hand-street-mvae", "--seed", "-1"], "--seed is -1; expected an integer of at least 0"),
        (["train", "hand-street-mvae", "--threads", "0"], "--threads is 0; expected"),
        (
            ["train", "hand-street-mvae", "--device", "gpu"],
            "--device is 'gpu'; expected one that this machine has",
        ),
        (
            ["train", "hand-street-mvae", "--seeds", "0-1", "--device", "gpu"],
            "--device is 'gpu'; expected one",
        ),
        (
            ["train", "hand-stret-mvae"],
            "mmlib: recipe is 'hand-stret-mvae'; expected one of .*hand-street-mvae",
        ),
        (["recipes", "hand-stret-mvae"], "hand-street-mvae"),
        (["evaluate", "hand-stret-mvae"], "hand-street-mvae"),
        (["results", "hand-stret-mvae"], "recipe is 'hand-stret-mvae'; expected one of .*hand-street-mvae"),
        (["data", "hand-stret"], "data set is 'hand-stret'; expected one of .*hand-street,"),
    ):
        assert command_line.main(words) == 2
        said = capsys.readouterr().err
        assert re.search(message, said) and len(said) < 400, said


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(tmp_path, capsys):
    own = tmp_path / "mine.yaml"
    own.write_text("{name: mine, model: mvae, dataset: hand-street, steps: 16}")
    root = tmp_path / "runs"
    step = (
        RunFolder(recipes.get("hand-street-mvae+steps=8"), 1, root).checkpoints
        / "step-000000004-0a.safetensors"
    )
    step.parent.mkdir(parents=True)
    step.touch()
    before = sorted(tmp_path.rglob("*"))
    words = [
        "train",
        "hand-street-mvae",
        "--recipe",
        str(own),
        "--set",
        "steps=8",
        "--seeds",
        "0-1",
        "--dry-run",
    ]
    assert command_line.main([*words, "--root", str(root)]) == 0
    made = recipes.get("hand-street-mvae+steps=8")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"{made.name}, seed {seed}: {made.hash}, 8 steps ({done} done), {root / made.name / f'seed-{seed}'}"
        for seed, done in ((0, 0), (1, 4))
    ]
    assert [line.split(":")[0] for line in lines[2:]] == ["mine+steps=8, seed 0", "mine+steps=8, seed 1"]
    assert sorted(tmp_path.rglob("*")) == before
    folder = RunFolder(made, 0, root)
    folder.path.mkdir()
    folder.write_result({"recipe": made.as_dict(), "seed": 0})
    command_line.main(["train", made.name, "--dry-run", "--root", str(root)])
    assert "8 steps (finished)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hand-street-mvae", "--set", "stps=8"], "--set is 'stps'; expected one of .*such as steps"),
        (["hand-street-mvae", "--set", "steps"], "--set: it is 'steps'; expected FIELD=VALUE"),
        (["hand-street-mvae", "--set", "steps=["], "--set: the value of steps is no YAML: "),
        (["hand-street-mvae", "--set", "steps=many"], "steps is 'many'; expected an integer"),
        (["--queue", "--set", "steps=8"], "--set is given with --queue; expected RECIPE or --recipe"),
        (
            ["hand-street-mvae", "--set", "steps=8", "--publish"],
            r"mvae\+steps=8 is no recipe of the catalogue",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(words, message, tmp_path, capsys):
    try:
        code = command_line.main(["train", *words, "--root", str(tmp_path / "runs")])
    except SystemExit as end:  # refused by the parser itself
        code = end.code
    assert code == 2 and not list(tmp_path.iterdir())
    assert re.search(message, capsys.readouterr().err)


def test_every_list_is_there_as_json(capsys):
    for words, size in (
        (["models"], lambda found: len(found["mmvae"])),
        (["data"], lambda found: len(found["mnist-svhn"])),
        (["recipes"], lambda found: len(found) == len(RECIPES) and found[0]["hash"]),
        (["recipes", "hand-street-mvae+steps=8000"], lambda found: found["steps"] == 8000),
        (
            ["results", "hand-street-mvae"],
            lambda found: found["hand-street-mvae"]["metrics"]["test/rows"]["mean"],
        ),
        (["results"], lambda found: found["hand-street-mvae"]["seeds"] == [0, 1, 2, 3, 4]),
        (["ledger"], lambda found: found["printed results"][-1]["all"]),
        (["table"], lambda found: found["rbc-table-1"]["cells"]),
        (["table", "rbc-table-1"], lambda found: found[0]["printed"] and found[0]["status"]),
    ):
        assert command_line.main([*words, "--json"]) == 0
        assert size(json.loads(capsys.readouterr().out)), words


def test_what_is_not_installed_is_said(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mmlib.runs.results", None)
    assert command_line.main(["results"]) == 1
    assert "is not installed: pip install 'mmlib[runs]' brings" in capsys.readouterr().err


def test_a_run_into_a_pipe_says_what_it_does(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(recipes.RECIPES, "tiny", quick_runs.TINY)
    monkeypatch.setenv("MMLIB_DATA", str(tmp_path / "data"))
    with quick_runs.quick():
        assert command_line.main(["train", "tiny", "--root", str(tmp_path)]) == 0
        said = capsys.readouterr().err.splitlines()
        assert said[:2] == [
            "tiny, seed 0: makes or reads the data",
            "tiny, seed 0: trains or reads the judges",
        ]
        line = r"tiny, seed 0: step (\d+) of 16; validation: loss [\d.]+, coherence [\d.]+"
        steps = [re.fullmatch(line, text) for text in said[2:6]]
        assert [int(match[1]) for match in steps] == [4, 8, 12, 16]
        assert said[6:] == ["tiny, seed 0: is trained; measures it"]
        assert command_line.main(["train", "tiny", "--seed", "1", "--quiet", "--root", str(tmp_path)]) == 0
        assert capsys.readouterr().err == ""


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
