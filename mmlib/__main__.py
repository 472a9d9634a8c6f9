"""The command line: ``python -m mmlib --help``, or ``mmlib --help``."""

import argparse
import codecs
import os
import re
import sys
from pathlib import Path

from mmlib import __version__
from mmlib.checks import unknown

PROGRAM = "python -m mmlib"
EPILOG = """examples:
  python -m mmlib train hand-street-mmvae-elbo --seeds 0-4 --jobs 2
  python -m mmlib train hand-street-mvae --set steps=8000 --set model_options.beta=2
  python -m mmlib compare hand-street-mvae --seed 0
  python -m mmlib table rbc-table-1 --markdown
exit codes: 0 done, 1 it failed, 2 asked wrongly, 130 interrupted"""
TYPED = {"n_jobs": "jobs"}  # options that the library calls otherwise
SIGNS = ("+/-", "->", "x", "-", "-", "!=", "^2")
PLAIN = dict(zip("\u00b1\u2192\u00d7\u2212\u2013\u2260\u00b2", SIGNS, strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0: done, 1: it failed, 2: it was asked wrongly, 130: interrupted."""
    codecs.register_error("mmlib.plain", _plain)
    for stream in (sys.stdout, sys.stderr):  # where they cannot show a sign, another stands for it
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="mmlib.plain")
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except BrokenPipeError:  # the reader, for example head, has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt or 'interrupted'}", file=sys.stderr)
        return 130
    except ValueError as error:  # asked wrongly: an unknown name, an impossible option
        print(f"{PROGRAM}: {_as_typed(str(error), options)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        needs = f"{error.name} is not installed: pip install 'mmlib[runs]' brings what the commands need"
        print(f"{PROGRAM}: {needs}", file=sys.stderr)
        return 1
    except (OSError, RuntimeError, ArithmeticError) as error:  # a locked run, a loss that is not finite
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1


def _as_typed(text: str, options: argparse.Namespace) -> str:
    """An error with the name of an option as it stands on the command line."""
    name, *rest = text.split(" ", 1)
    option = TYPED.get(name, name)
    return f"--{option} {rest[0]}" if rest and option in vars(options) else text


def _plain(error: UnicodeError):
    """Other signs for those that an encoding lacks."""
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in signs), error.end


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmlib" if Path(sys.argv[0]).name == "mmlib" else PROGRAM,
        description="Multimodal generative models: every number of the book has a recipe; run it here.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mmlib {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run, text: str, listed: str = "", json: bool = True) -> argparse.ArgumentParser:
        """A command; it may be given one of what is listed, and may answer as JSON."""
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=run, json=False)
        if listed:
            added.add_argument("name", nargs="?", metavar=listed, help="one of them, in full")
        if json:
            added.add_argument("--json", action="store_true", help="as JSON, all digits")
        return added

    def one_run(added: argparse.ArgumentParser) -> None:
        added.add_argument("name", metavar="RECIPE", help=f"a recipe (see: {PROGRAM} recipes)")
        added.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")

    def where(added: argparse.ArgumentParser) -> None:
        added.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
        added.add_argument("--root", default="runs", help="folder of all runs (default: runs)")

    def how(added: argparse.ArgumentParser) -> None:
        where(added)
        threads = "processor threads; part of the run's identity (default: 1)"
        added.add_argument("--threads", type=int, default=1, help=threads)
        portable = "compute the same bits on processors of several makers; slower"
        added.add_argument("--portable", action="store_true", help=portable)
        added.add_argument("--quiet", action="store_true", help="no progress bar")

    command("models", _models, "list the models")
    command("data", _data, "list the data sets, or load one and say what is in it", "DATASET")
    command("recipes", _recipes, "list the recipes, or show one in full", "RECIPE")

    makes = "make the runs of recipes and seeds; continue those that were interrupted"
    train = command("train", _train, makes, json=False)
    train.add_argument("names", nargs="*", metavar="RECIPE", help=f"recipes (see: {PROGRAM} recipes)")
    own = "a recipe of one's own: a YAML file of its fields"
    train.add_argument("--recipe", dest="own", action="append", default=[], metavar="FILE", help=own)
    queue = "instead: the runs of data/queue.yaml, in its order"
    train.add_argument("--queue", action="store_true", help=queue)
    other = "another value of a field, or of an option, such as model_options.k=10; repeatable"
    train.add_argument("--set", action="append", default=[], type=_setting, metavar="FIELD=VALUE", help=other)
    train.add_argument("--dry-run", action="store_true", help="say what would be made, and make nothing")
    budget = "pause after so long, for example 50m; the same call continues"
    train.add_argument("--budget", metavar="TIME", help=budget)
    seeds = train.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")
    seeds.add_argument("--seeds", help="several, for example 0-4 or 0,2,5")
    how(train)
    train.add_argument("--jobs", type=int, default=1, help="runs side by side, each a process (default: 1)")
    train.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster that makes the runs")
    train.add_argument("--eager", action="store_true", help="on CUDA, do not record the step as a graph")
    publish = "copy the results to data/results when they are there"
    train.add_argument("--publish", action="store_true", help=publish)

    evaluate = command("evaluate", _evaluate, "measure a finished run again")
    one_run(evaluate)
    split = "validation (default) or test, by which nothing may be chosen"
    evaluate.add_argument("--split", default="validation", help=split)
    where(evaluate)
    compare = command("compare", _compare, "make a run, if it is not there, and hold it against the record")
    one_run(compare)
    how(compare)

    means = "list recorded results: mean over seeds, t-interval, number of seeds"
    command("results", _results, means, "RECIPE")
    ledger = command("ledger", _ledger, "say which of the papers' results hold, by paper and status")
    change = ledger.add_mutually_exclusive_group()
    check = "fail if the ledger and the recorded results disagree"
    change.add_argument("--check", action="store_true", help=check)
    change.add_argument("--update", action="store_true", help="compute the ledger's own numbers anew")
    beside = "print a table of a paper, ours beside it, or that of all models, or list the tables"
    table = command("table", _table, beside)
    table.add_argument("exhibit", nargs="?", metavar="TABLE", help="for example rbc-table-1 or whole-picture")
    table.add_argument("--markdown", action="store_true", help="as Markdown")
    return parser


def _print(options, content, lines) -> int:
    """The content as JSON if that is asked for, else the lines."""
    import json

    print(json.dumps(content, indent=1) if options.json else "\n".join(lines))
    return 0


def _print_about(options, documented: dict) -> int:
    texts = {name: (entry.__doc__ or "").strip().splitlines()[0] for name, entry in documented.items()}
    width = max(map(len, texts)) + 2
    return _print(options, texts, (f"{name:<{width}}{text}" for name, text in texts.items()))


def _models(options) -> int:
    from mmlib.models import MODELS

    return _print_about(options, MODELS)


def _data(options) -> int:
    from mmlib.checks import look_up
    from mmlib.data import LOADERS, load

    if not options.name:
        return _print_about(options, LOADERS)
    look_up("data set", options.name, LOADERS)
    print(f"makes or reads {options.name}", file=sys.stderr, flush=True)
    data, content, lines = load(options.name), {}, []
    for name, shape in [*data.shapes.items(), ("rows", ())]:
        rows = {part: len(split.items[name] if shape else split) for part, split in data.splits.items()}
        content[name] = {"shape": shape, **rows}
        counts = ", ".join(f"{count} {part}" for part, count in rows.items())
        unit = f"symbols of {data.symbols[name]}" if name in data.symbols else "pixels"
        lines.append(f"{name:<14}{' x '.join(map(str, shape))}{f' {unit}; ' if shape else ''}{counts}")
    return _print(options, content, lines)


def _recipes(options) -> int:
    from mmlib.runs.recipes import RECIPES, get

    if options.name:
        options.json = True
        return _print(options, get(options.name).as_dict(), ())
    width = max(map(len, RECIPES))
    prose = {name: f"{r.source}{f' ({r.reduced})' if r.reduced else ''}" for name, r in RECIPES.items()}
    lines = (f"{name:<{width}}  {RECIPES[name].hash}  {text}" for name, text in prose.items())
    return _print(options, [recipe.as_dict() for recipe in RECIPES.values()], lines)


def _train(options) -> int:
    from mmlib.checks import whole
    from mmlib.runs.recipes import check_listed, get
    from mmlib.runs.results import publish
    from mmlib.runs.runner import run

    names = [*options.names, *options.own]
    if options.queue == bool(names):
        raise ValueError("RECIPE and --queue are both given or both missing; expected one of them")
    _settle(options)
    jobs, budget = _jobs(options, names), None if options.budget is None else _seconds(options.budget)
    if options.publish:
        for recipe, _ in jobs:
            check_listed(get(recipe))
    if options.dry_run:
        return _foresee(jobs, options.root)
    common = {
        "root": options.root,
        "threads": whole("threads", options.threads),
        "progress": not options.quiet,
        "capture": False if options.eager else None,
        "portable": options.portable,
    }
    n_jobs = whole("jobs", options.jobs)
    if len(jobs) == 1 and options.dask is None and budget is None:
        made = [run(*jobs[0], device=options.device, **common)]
    else:
        from mmlib.runs.scale import run_all

        devices = options.device.split(",") if "," in options.device else options.device
        made = run_all(jobs, n_jobs=n_jobs, dask=options.dask, device=devices, budget=budget, **common)
    for result in made:
        print(publish(result) if options.publish else result)
    if len(made) < len(jobs):
        missing = f"{len(jobs) - len(made)} of {len(jobs)} runs are not finished"
        print(f"{missing}: the same call continues them", file=sys.stderr)
    return 0


def _settle(options) -> None:
    """Set what has to be in force before torch is imported, here and in the processes of runs."""
    from mmlib.runs.provenance import PORTABLE

    if options.portable:
        os.environ.update(PORTABLE)


def _jobs(options, names: list[str]) -> list[tuple]:
    """Recipes and seeds that are asked for."""
    if options.queue:
        from mmlib.book import queue

        if options.set:
            raise ValueError("set is given with --queue; expected RECIPE or --recipe")
        return [(run.recipe, run.seed) for run in queue.wanted(queue.load(), options.root)]
    names = ["+".join([name, *options.set]) for name in names]
    return [(name, seed) for name in names for seed in _seeds(options.seeds, options.seed)]


def _setting(text: str) -> str:
    """``field=value`` as it stands in the name of a recipe."""
    from urllib.parse import quote

    from mmlib.files import parse_yaml

    field, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w.]+", field):
        raise argparse.ArgumentTypeError(f"it is {text!r}; expected FIELD=VALUE, for example steps=8000")
    try:
        parse_yaml(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"the value of {field} is no YAML: {error}") from error
    return f"{field}={quote(value)}"


def _foresee(jobs: list[tuple], root: str) -> int:
    """Say what would be made, and how much of it there is; make and write nothing."""
    from mmlib.runs.folder import RunFolder
    from mmlib.runs.recipes import get

    for recipe, seed in jobs:
        folder = RunFolder(get(recipe), seed, root)
        state = "finished" if folder.finished() else f"{folder.step()} done"
        print(f"{folder}: {folder.recipe.hash}, {folder.recipe.steps} steps ({state}), {folder.path}")
    return 0


def _seconds(text: str) -> int:
    """Seconds of a time such as ``50m``."""
    found = re.fullmatch(r"([1-9]\d*)([smh])", text)
    if not found:
        raise ValueError(f"budget is {text!r}; expected for example 90s, 50m or 2h")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _evaluate(options) -> int:
    from mmlib.runs.trained import evaluate_run

    print("makes or reads the data and the judges", file=sys.stderr, flush=True)
    report = evaluate_run(options.name, options.seed, options.split, options.root, options.device)
    return _print(options, report, [str(report)])


def _compare(options) -> int:
    from tabulate import tabulate

    from mmlib.runs import recipes, results
    from mmlib.runs.runner import run

    _settle(options)
    recipe = recipes.get(options.name)
    recorded = results.load(recipe.name.split("+")[0])  # a varied recipe: of the one that it varies
    if not recorded:
        raise unknown("recipe", options.name, results.recorded(), f"{PROGRAM} results")
    how = {"threads": options.threads, "portable": options.portable, "progress": not options.quiet}
    new = results.verify(run(recipe, options.seed, options.root, options.device, **how))
    from mmlib.runs.compare import compare

    found = compare(new, recorded)
    columns = ["recorded", "new", "errors", "spreads"]
    rows = [[n, *map(m.get, columns), "off" * m["off"]] for n, m in found["metrics"].items()]
    digits = ("", ".4f", ".4f", "+.1f", "+.1f", "")
    table = tabulate(rows, ["metric", *columns, ""], floatfmt=digits, missingval="-")
    facts = (f"{key}: {each['new']}; recorded: {each['recorded']}" for key, each in found["differs"].items())
    _print(options, found, [table, "", *facts, found["summary"]])
    return 1 if found["off"] else 0


def _results(options) -> int:
    from dataclasses import asdict

    from mmlib.runs.results import flatten, load, recorded, value
    from mmlib.summary import summarise

    names, content, lines = recorded(), {}, []
    if options.name and options.name not in names:
        raise unknown("recipe", options.name, names, f"{PROGRAM} results")
    for name in [options.name] if options.name else names:
        results = load(name)
        seeds, metrics = [result["seed"] for result in results], {}
        lines.append(f"{name}: seeds {', '.join(map(str, seeds))}")
        for metric, _ in flatten(results[0]["metrics"]):
            if metric.startswith("test/" if options.name else "test/cross_coherence/"):
                found = summarise([value(result, metric) for result in results])
                interval = "" if found.low is None else f"  [{found.low:.4f}, {found.high:.4f}]"
                lines.append(f"  {metric:<44} {found.mean:10.4f}{interval}  n = {found.n}")
                metrics[metric] = asdict(found)
        content[name] = {"seeds": seeds, "metrics": metrics}
    return _print(options, content, lines)


def _ledger(options) -> int:
    from mmlib.book import ledger, ledger_text

    if options.check:
        problems = ledger.check()
        print("\n".join(problems), file=sys.stderr, end="\n" * bool(problems))
        said = f"problems: {len(problems)}" if problems else "the ledger and the recorded results agree"
        _print(options, problems, [said])
        return 1 if problems else 0
    if options.update:
        return _print(options, *[[str(ledger.update())]] * 2)
    found = ledger.read()
    tables = ledger.coverage(found).items()
    content = {what: [dict(zip(head, row, strict=True)) for row in rows] for what, (head, *rows) in tables}
    return _print(options, content, [ledger_text.coverage(found)])


def _table(options) -> int:
    from mmlib.book import ledger, ledger_text, whole_picture, whole_picture_text

    style = "markdown" if options.markdown else "text"
    if options.exhibit == whole_picture.NAME:
        everything = {data: whole_picture.content(data) for data in whole_picture.MODALITIES}
        return _print(options, everything, [whole_picture_text.table(style)])
    found = ledger.read()
    if options.exhibit:
        exhibit = found.exhibit(options.exhibit)
        return _print(options, ledger.answers(exhibit, found), [ledger_text.table(exhibit, found, style)])
    shown = {name: exhibit for name, exhibit in found.exhibits.items() if exhibit.cells}
    content = {name: {"cells": exhibit.cells, "title": exhibit.title} for name, exhibit in shown.items()}
    return _print(options, content, (f"{n:<16}{e.cells:>4} cells  {e.title}" for n, e in shown.items()))


def _seeds(text: str | None, single: int) -> list[int]:
    """Seeds named by ``0-4`` or ``0,2,5`` or a mixture of both."""
    if text is None:
        return [single]
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if last < first:
            raise ValueError(f"seeds is {text!r}; expected, for example, 0-4 or 0,2,5")
        seeds += range(first, last + 1)
    return list(dict.fromkeys(seeds))


if __name__ == "__main__":
    sys.exit(main())
