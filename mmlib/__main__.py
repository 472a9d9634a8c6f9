"""The command line: ``python -m mmlib --help``, or ``mmlib --help``."""

import argparse
import codecs
import os
import re
import sys
from pathlib import Path

from mmlib import __version__

PROGRAM = "python -m mmlib"
EPILOG = """examples:
  python -m mmlib train hand-street-mmvae-elbo --seeds 0-4 --jobs 2
  python -m mmlib table rbc-table-1 --markdown
exit codes: 0 done, 1 it failed, 2 asked wrongly, 130 interrupted"""
TYPED = {"n_jobs": "jobs"}  # options that the library calls otherwise
PLAIN = {
    "\u00b1": "+/-",
    "\u2192": "->",
    "\u00d7": "x",
    "\u2212": "-",
    "\u2013": "-",
    "\u2260": "!=",
    "\u00b2": "^2",
}


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
    except (
        OSError,
        RuntimeError,
        ArithmeticError,
    ) as error:  # a missing file, a locked run, a loss not finite
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

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=run)
        return added

    def where(added: argparse.ArgumentParser) -> None:
        added.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
        added.add_argument("--root", default="runs", help="folder of all runs (default: runs)")

    command("models", _models, "list the models")
    data = command("data", _data, "list the data sets, or load one and say what is in it")
    data.add_argument("name", nargs="?", metavar="DATASET", help="a data set")
    recipes = command("recipes", _recipes, "list the recipes, or show one in full")
    recipes.add_argument("name", nargs="?", metavar="RECIPE", help="a recipe")

    train = command(
        "train", _train, "make the runs of recipes and seeds; continue those that were interrupted"
    )
    train.add_argument("names", nargs="*", metavar="RECIPE", help=f"recipes (see: {PROGRAM} recipes)")
    train.add_argument(
        "--queue", action="store_true", help="instead: the runs of data/queue.yaml, in its order"
    )
    train.add_argument(
        "--budget", metavar="TIME", help="pause after so long, for example 50m; the same call continues"
    )
    seeds = train.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")
    seeds.add_argument("--seeds", help="several, for example 0-4 or 0,2,5")
    where(train)
    train.add_argument("--jobs", type=int, default=1, help="runs side by side, each a process (default: 1)")
    train.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster that makes the runs")
    train.add_argument(
        "--threads", type=int, default=1, help="processor threads; part of the run's identity (default: 1)"
    )
    train.add_argument(
        "--portable",
        action="store_true",
        help="compute the same bits on processors of several makers; slower",
    )
    train.add_argument("--eager", action="store_true", help="on CUDA, do not record the step as a graph")
    train.add_argument(
        "--publish", action="store_true", help="copy the results to data/results when they are there"
    )
    train.add_argument("--quiet", action="store_true", help="no progress bar")

    evaluate = command("evaluate", _evaluate, "measure a finished run again")
    evaluate.add_argument("name", metavar="RECIPE", help="a recipe")
    evaluate.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")
    evaluate.add_argument(
        "--split", default="validation", help="validation (default) or test, by which nothing may be chosen"
    )
    evaluate.add_argument("--json", action="store_true", help="all numbers as JSON")
    where(evaluate)

    results = command(
        "results", _results, "list recorded results: mean over seeds, t-interval, number of seeds"
    )
    results.add_argument("name", nargs="?", metavar="RECIPE", help="only this recipe, with all its metrics")
    ledger = command("ledger", _ledger, "say which of the papers' results hold, by paper and status")
    change = ledger.add_mutually_exclusive_group()
    change.add_argument(
        "--check", action="store_true", help="fail if the ledger and the recorded results disagree"
    )
    change.add_argument("--update", action="store_true", help="compute the ledger's own numbers anew")
    table = command(
        "table", _table, "print a table of a paper, the paper's numbers beside ours, or list the tables"
    )
    table.add_argument("exhibit", nargs="?", metavar="TABLE", help="for example rbc-table-1")
    table.add_argument("--markdown", action="store_true", help="as Markdown")
    return parser


def _models(options) -> int:
    from mmlib.models import MODELS

    for name, model in MODELS.items():
        print(f"{name:<10}{(model.__doc__ or '').strip().splitlines()[0]}")
    return 0


def _data(options) -> int:
    from mmlib.checks import look_up
    from mmlib.data import LOADERS, load

    if not options.name:
        for name, loader in LOADERS.items():
            print(f"{name:<14}{(loader.__doc__ or '').strip().splitlines()[0]}")
        return 0
    look_up("data set", options.name, LOADERS)
    print(f"makes or reads {options.name}", file=sys.stderr, flush=True)
    data = load(options.name)
    for name, shape in data.shapes.items():
        counts = ", ".join(f"{len(split.items[name])} {part}" for part, split in data.splits.items())
        print(f"{name:<14}{' x '.join(map(str, shape))} pixels; {counts}")
    print(f"{'rows':<14}{', '.join(f'{len(split)} {part}' for part, split in data.splits.items())}")
    return 0


def _recipes(options) -> int:
    import json

    from mmlib.runs.recipes import RECIPES, get

    if options.name:
        print(json.dumps(get(options.name).as_dict(), indent=1))
        return 0
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        reduced = f" ({recipe.reduced})" if recipe.reduced else ""
        print(f"{name:<{width}}  {recipe.hash}  {recipe.source}{reduced}")
    return 0


def _train(options) -> int:
    from mmlib.checks import whole
    from mmlib.runs.provenance import PORTABLE
    from mmlib.runs.results import publish
    from mmlib.runs.runner import run

    if options.queue == bool(options.names):
        raise ValueError("RECIPE and --queue are both given or both missing; expected one of them")
    if options.portable:
        os.environ.update(PORTABLE)  # before torch is imported, here and in the processes of runs
    jobs, budget = _jobs(options), None if options.budget is None else _seconds(options.budget)
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


def _jobs(options) -> list[tuple]:
    """Recipes and seeds that are asked for."""
    if options.queue:
        from mmlib.book import queue

        return [(run.recipe, run.seed) for run in queue.wanted(queue.load(), options.root)]
    return [(name, seed) for name in options.names for seed in _seeds(options.seeds, options.seed)]


def _seconds(text: str) -> int:
    """Seconds of a time such as ``50m``."""
    found = re.fullmatch(r"([1-9]\d*)([smh])", text)
    if not found:
        raise ValueError(f"budget is {text!r}; expected for example 90s, 50m or 2h")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _evaluate(options) -> int:
    import json

    from mmlib.runs.trained import evaluate_run

    print("makes or reads the data and the judges", file=sys.stderr, flush=True)
    report = evaluate_run(options.name, options.seed, options.split, options.root, options.device)
    print(json.dumps(report, indent=1) if options.json else report)
    return 0


def _results(options) -> int:
    from mmlib.checks import unknown
    from mmlib.runs.results import flatten, load, recorded, summary

    names = recorded()
    if options.name and options.name not in names:
        raise unknown("recipe", options.name, names, f"{PROGRAM} results")
    for name in [options.name] if options.name else names:
        results = load(name)
        print(f"{name}: seeds {', '.join(str(result['seed']) for result in results)}")
        for metric, _ in flatten(results[0]["metrics"]):
            if metric.startswith("test/") if options.name else metric.startswith("test/cross_coherence/"):
                found = summary(name, metric)
                interval = "" if found.low is None else f"  [{found.low:.4f}, {found.high:.4f}]"
                print(f"  {metric:<44} {found.mean:10.4f}{interval}  n = {found.n}")
    return 0


def _ledger(options) -> int:
    from mmlib.book import ledger

    if options.check:
        problems = ledger.check()
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"problems: {len(problems)}" if problems else "the ledger and the recorded results agree")
        return 1 if problems else 0
    if options.update:
        print(ledger.update())
        return 0
    print(ledger.coverage_text())
    return 0


def _table(options) -> int:
    from mmlib.book import ledger

    if options.exhibit is None:
        for name, exhibit in ledger.read().exhibits.items():
            if exhibit.cells:
                print(f"{name:<16}{exhibit.cells:>4} cells  {exhibit.title}")
        return 0
    print(ledger.table(options.exhibit, "markdown" if options.markdown else "text"))
    return 0


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
