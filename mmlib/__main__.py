"""The command line: ``python -m mmlib --help``."""

import argparse
import sys

PROGRAM = "python -m mmlib"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0: done, 1: it failed, 2: it was asked wrongly, 130: interrupted."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt as interrupt:
        print(f"\n{interrupt or 'interrupted'}", file=sys.stderr)
        return 130
    except ValueError as error:  # asked wrongly: an unknown name, an impossible option
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2
    except (
        OSError,
        RuntimeError,
        ArithmeticError,
    ) as error:  # a missing file, a locked run, a loss that is not finite
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Multimodal generative models: every number of the book has a recipe; run it here.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(run=run)
        return added

    recipes = command("recipes", _recipes, "list the recipes, or show one in full")
    recipes.add_argument("name", nargs="?", help="a recipe")
    train = command("train", _train, "make the run of a recipe and seed; continue it if it was interrupted")
    train.add_argument("name", metavar="RECIPE", help=f"a recipe (see: {PROGRAM} recipes)")
    train.add_argument("--seed", type=int, default=0, help="seed of the run (default: 0)")
    train.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    train.add_argument(
        "--threads", type=int, default=1, help="processor threads; part of the run's identity (default: 1)"
    )
    train.add_argument("--root", default="runs", help="folder of all runs (default: runs)")
    train.add_argument(
        "--publish", action="store_true", help="copy the result to data/results when it is there"
    )
    train.add_argument("--quiet", action="store_true", help="no progress bar")
    results = command(
        "results", _results, "list recorded results: mean over seeds, t-interval, number of seeds"
    )
    results.add_argument("name", nargs="?", metavar="RECIPE", help="only this recipe, with all its metrics")
    command("models", _models, "list the models")
    data = command("data", _data, "list the data sets, or load one and say what is in it")
    data.add_argument("name", nargs="?", metavar="DATASET", help="a data set")
    return parser


def _recipes(options) -> int:
    import json

    from mmlib.reproduce.recipes import RECIPES, get

    if options.name:
        print(json.dumps(get(options.name).as_dict(), indent=1))
        return 0
    width = max(map(len, RECIPES))
    for name, recipe in RECIPES.items():
        print(
            f"{name:<{width}}  {recipe.hash}  {recipe.source}{f' ({recipe.reduced})' if recipe.reduced else ''}"
        )
    return 0


def _train(options) -> int:
    from mmlib.reproduce.results import publish
    from mmlib.reproduce.runner import run

    if options.threads < 1:
        raise ValueError(f"threads is {options.threads}; expected at least 1")
    result = run(
        options.name, options.seed, options.root, options.device, options.threads, progress=not options.quiet
    )
    print(publish(result) if options.publish else result)
    return 0


def _results(options) -> int:
    from mmlib.reproduce.results import load, metrics_of, recorded, summary

    names = recorded()
    if options.name and options.name not in names:
        raise ValueError(f"recipe is {options.name!r}; recorded are {', '.join(names) or 'none'}")
    for name in [options.name] if options.name else names:
        results = load(name)
        print(f"{name}: seeds {', '.join(str(result['seed']) for result in results)}")
        for metric in metrics_of(results[0]):
            if metric.startswith("test/") if options.name else metric.startswith("test/cross_coherence/"):
                found = summary(name, metric)
                interval = "" if found.low is None else f"  [{found.low:.4f}, {found.high:.4f}]"
                print(f"  {metric:<44} {found.mean:10.4f}{interval}  n = {found.n}")
    return 0


def _models(options) -> int:
    from mmlib.models import MODELS

    for name, model in MODELS.items():
        print(f"{name:<10}{(model.__doc__ or '').strip().splitlines()[0]}")
    return 0


def _data(options) -> int:
    from mmlib.data import LOADERS, load

    if not options.name:
        for name, loader in LOADERS.items():
            print(f"{name:<14}{(loader.__doc__ or '').strip().splitlines()[0]}")
        return 0
    data = load(options.name)
    for name, shape in data.shapes.items():
        counts = ", ".join(f"{len(split.items[name])} {part}" for part, split in data.splits.items())
        print(f"{name:<14}{' x '.join(map(str, shape))} pixels; {counts}")
    print(f"{'rows':<14}{', '.join(f'{len(split)} {part}' for part, split in data.splits.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
