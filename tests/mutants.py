"""Prove that the tests of the equations bite: change every equation's function a little and see its own tests fail.

For each function of the library that registers an equation (see mmlib.book.equations) and the tests marked
`@pytest.mark.equation(label)`:

    scale value by 1.01      shift value by 0.01      flip the sign of one argument      detach one argument

Each mutant replaces the function everywhere, in the library and in the tests, inside a forked process that runs the
equation's own tests and nothing else; at least one must fail. Arguments and results that have parts (a distribution's
loc and scale, the elements of a tuple) are mutated part by part. Mutants known to compute the same thing are listed,
with a reason, in equivalent_mutants.yaml.

    python tests/mutants.py [label ...]
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import inspect
import os
import pickle
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from functools import wraps
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", TQDM_DISABLE="1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
import yaml  # noqa: E402

from mmlib.book.equations import Equation, registered  # noqa: E402

PROCESSES = 2
SECONDS = 60  # of processor time, after which a mutant counts as killed: no equation's tests take that long
QUIET = [
    "-q",
    "-x",
    "--no-header",
    "-o",
    "addopts=",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:nbval",
    "-p",
    "no:xdist",
]
KILLED, SURVIVED, EQUIVALENT = "killed", "survived", "equivalent"


@dataclasses.dataclass(frozen=True)
class Mutation:
    """What is done (scale, shift, flip, detach) and to which value or argument, for example `q.loc`."""

    kind: str
    where: str

    def __str__(self) -> str:
        amount = {"scale": " by 1.01", "shift": " by 0.01"}.get(self.kind, "")
        return f"{self.kind} {self.where}{amount}"


# --- walking through arguments and results ---------------------------------------------------------------------------


def is_number(x: object) -> bool:
    if isinstance(x, torch.Tensor):
        return x.is_floating_point()
    return isinstance(x, float | np.floating) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")


def parts(x: object) -> dict[str, object] | None:
    """The parts of a compound that are mutated one by one, or None."""
    if dataclasses.is_dataclass(x):
        return {field.name: getattr(x, field.name) for field in dataclasses.fields(x)}
    if hasattr(x, "_asdict"):
        return x._asdict()
    if isinstance(x, tuple):
        return {str(i): value for i, value in enumerate(x)}
    return None


def sites(x: object, path: str) -> Iterator[tuple[str, bool]]:
    """Paths to everything that holds floating-point numbers, and whether it is a tensor, not a plain number."""
    if is_number(x):
        yield path, isinstance(x, torch.Tensor)
    elif (inside := parts(x)) is not None:
        for name, value in inside.items():
            yield from sites(value, f"{path}.{name}")
    elif isinstance(x, Mapping | list) and (found := [s for v in values(x) for s in sites(v, path)]):
        yield path, any(tensor for _, tensor in found)


def values(x: Mapping | list) -> Iterable:
    return x.values() if isinstance(x, Mapping) else x


def change(x: object, path: list[str], do: Callable) -> object:
    """`x` with `do` applied to the numbers at `path`, or to every number once the path is used up."""
    if is_number(x):
        return do(x)
    if isinstance(x, Mapping):
        return {name: change(value, path, do) for name, value in x.items()}
    if isinstance(x, list):
        return [change(value, path, do) for value in x]
    if (inside := parts(x)) is not None and path:
        changed = change(inside[path[0]], path[1:], do)
        if dataclasses.is_dataclass(x):
            return dataclasses.replace(x, **{path[0]: changed})
        if hasattr(x, "_replace"):
            return x._replace(**{path[0]: changed})
        return tuple(changed if name == path[0] else value for name, value in inside.items())
    return x


DO = {
    "scale": lambda x: x * 1.01,
    "shift": lambda x: x + 0.01,
    "flip": lambda x: -x,
    "detach": lambda x: x.detach() if isinstance(x, torch.Tensor) else x,
}


def arguments(function: Callable, args: tuple, kwargs: dict) -> inspect.BoundArguments:
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        once = isinstance(value, Iterable) and not isinstance(value, torch.Tensor | torch.nn.Module | Sized)
        if once or isinstance(value, KeysView | ValuesView):
            bound.arguments[name] = list(value)  # an iterator can be walked only once
    return bound


def mutant(function: Callable, mutation: Mutation) -> Callable:
    head, *path = mutation.where.split(".")
    do = DO[mutation.kind]

    @wraps(function)
    def wrapper(*args, **kwargs):
        bound = arguments(function, args, kwargs)
        if head != "value":
            bound.arguments[head] = change(bound.arguments[head], path, do)
        result = function(*bound.args, **bound.kwargs)
        return change(result, path, do) if head == "value" else result

    return wrapper


def replace_everywhere(equation: Equation, replacement: Callable) -> None:
    """Put the replacement wherever the library or a test module holds the function."""
    if inspect.isclass(equation.owner):
        setattr(equation.owner, equation.name, replacement)
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None) or ""
        if not file.startswith(str(ROOT / "mmlib")) and not file.startswith(str(ROOT / "tests")):
            continue
        for name, value in list(vars(module).items()):
            if value is equation.function:
                setattr(module, name, replacement)
            elif isinstance(value, dict) and not name.startswith("__"):
                value.update({key: replacement for key, item in value.items() if item is equation.function})


# --- running tests in forked processes -------------------------------------------------------------------------------


class Collected:
    """Pytest plugin: the node ids of the tests of every label."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            for marker in item.iter_markers("equation"):
                self.tests.setdefault(marker.args[0], []).append(item.nodeid)


def run_tests(tests: list[str], plugins: tuple = ()) -> int:
    return int(pytest.main([*QUIET, *tests], plugins=list(plugins)))


def fork(work: Callable[[], int]) -> int:
    """Run `work` in a silent child that exits with its result; the child's process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = work()
    finally:
        os._exit(code)


def observe(equation: Equation, tests: list[str]) -> tuple[int, list[Mutation]]:
    """Run the tests unmutated, in a fork; their exit code and the mutations that their calls make possible."""
    read, write = os.pipe()

    def work() -> int:
        seen: dict[Mutation, None] = {}

        @wraps(equation.function)
        def recorder(*args, **kwargs):
            bound = arguments(equation.function, args, kwargs)
            for name, value in bound.arguments.items():
                for path, tensor in sites(value, name):
                    seen.update(
                        {Mutation(kind, path): None for kind in (("flip", "detach") if tensor else ("flip",))}
                    )
            result = equation.function(*bound.args, **bound.kwargs)
            for path, _ in sites(result, "value"):
                seen.update({Mutation(kind, path): None for kind in ("scale", "shift")})
            return result

        replace_everywhere(equation, recorder)
        code = run_tests(tests)
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(sorted(seen, key=lambda m: (not m.where.startswith("value"), m.where, m.kind)), pipe)
        return code

    pid = fork(work)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, pickle.loads(data) if data else []


def run_mutants(jobs: list[tuple[Equation, list[str], Mutation]]) -> Iterator[tuple[Equation, Mutation, str]]:
    """Outcome of every mutant, as they finish, two at a time."""
    waiting, running = list(reversed(jobs)), {}
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            equation, tests, mutation = waiting.pop()

            def work(equation=equation, tests=tests, mutation=mutation) -> int:
                replace_everywhere(equation, mutant(equation.function, mutation))
                return run_tests(tests)

            running[fork(work)] = equation, mutation
        pid, status = os.wait()
        equation, mutation = running.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        outcome = {0: SURVIVED, 1: KILLED, -signal.SIGXCPU: KILLED}.get(code, f"broke off (exit code {code})")
        yield equation, mutation, outcome


# --- the report ------------------------------------------------------------------------------------------------------


def report(rows: dict[str, dict], seconds: float) -> None:
    """Print one line an equation and the totals."""
    label_width, where_width = (
        max(map(len, column), default=8) for column in (rows, [r["where"] for r in rows.values()])
    )
    print(
        f"{'equation':{label_width}}  {'function':{where_width}}  tests  mutants  killed  equivalent  survived"
    )
    totals = [0, 0, 0, 0]
    for label, row in rows.items():
        outcomes = list(row["outcomes"].values())
        counts = [len(outcomes), outcomes.count(KILLED), outcomes.count(EQUIVALENT)]
        counts.append(counts[0] - counts[1] - counts[2])
        totals = [total + count for total, count in zip(totals, counts, strict=True)]
        numbers = "  {:7}  {:6}  {:10}  {:8}".format(*counts)
        print(f"{label:{label_width}}  {row['where']:{where_width}}  {row['tests']:5}{numbers}")
    print(
        "\n{} equations, {} mutants: {} killed, {} equivalent, {} survived".format(len(rows), *totals),
        f"({seconds:.0f} s)",
    )


def main(labels: list[str]) -> int:
    """Run everything, print a table, return the exit code."""
    started, problems = time.monotonic(), []
    torch.set_num_threads(1)
    equations = registered()
    known = [equation.label for equation in equations]
    problems += [
        f"{label}: registered by more than one function"
        for label in sorted({x for x in known if known.count(x) > 1})
    ]
    problems += [f"{label}: no function registers it" for label in labels if label not in known]
    collected = Collected()
    os.chdir(ROOT)
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null):  # the list is of no interest
        code = run_tests(["--collect-only", "tests"], (collected,))
    if code:
        problems.append(f"the tests could not be collected (pytest exit code {code})")
    problems += [
        f"{label}: tests are marked with it, no function registers it"
        for label in collected.tests
        if label not in known
    ]
    gc.freeze()  # spares every child a walk through the parent's million objects
    chosen = [equation for equation in equations if not labels or equation.label in labels]

    jobs, rows = [], {}
    for equation in chosen:
        tests = collected.tests.get(equation.label, [])
        rows[equation.label] = {"where": equation.where, "tests": len(tests), "outcomes": {}}
        if not tests:
            problems.append(f"{equation.label}: {equation.where} has no test")
            continue
        code, mutations = observe(equation, tests)
        if code:
            problems.append(
                f"{equation.label}: its tests fail without any mutation (pytest exit code {code})"
            )
        elif not any(m.where.startswith("value") for m in mutations):
            problems.append(f"{equation.label}: its tests never call {equation.where}")
        else:
            jobs += [(equation, tests, mutation) for mutation in mutations]

    reasons = {
        (entry["equation"], entry["mutation"]): entry["reason"]
        for entry in yaml.safe_load((ROOT / "tests/equivalent_mutants.yaml").read_text()) or []
        if not labels or entry["equation"] in labels
    }
    for number, (equation, mutation, outcome) in enumerate(run_mutants(jobs), 1):
        if sys.stderr.isatty():
            print(f"\r{number} of {len(jobs)} mutants", end="\r", file=sys.stderr, flush=True)
        if outcome == SURVIVED and (equation.label, str(mutation)) in reasons:
            outcome = EQUIVALENT
            del reasons[equation.label, str(mutation)]
        elif outcome != KILLED:
            problems.append(f"{equation.label}: {mutation}: {outcome}")
        rows[equation.label]["outcomes"][str(mutation)] = outcome
    problems += [
        f"{label}: {mutation}: listed in equivalent_mutants.yaml, but killed or not there"
        for label, mutation in reasons
    ]

    report(rows, time.monotonic() - started)
    if problems:
        print("\nProblems:")
        for problem in problems:
            print(f"  {problem}")
    return int(bool(problems))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Mutate every equation's function; its own tests must fail.")
    parser.add_argument("labels", nargs="*", help="only these equations (default: all)")
    sys.exit(main(parser.parse_args().labels))
