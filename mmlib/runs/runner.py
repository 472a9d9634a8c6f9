"""Run a recipe: train, watch it on the validation split, read the test split once, write the result.

Idempotent: a finished run is never repeated, an interrupted one continues to the bits that it would have reached.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmlib.checks import whole
from mmlib.files import advised
from mmlib.runs.folder import RunFolder
from mmlib.runs.propagation import options_of
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.results import flatten

CONVERGED = 0.02  # coherence, as a share


def run(
    recipe: Recipe | str,
    seed: int,
    root: Path | str = "runs",
    device: str = "cpu",
    threads: int = 1,
    progress: bool = True,
    checkpoint_every: int = 500,
    cache: Path | str | None = None,
    stop: Callable[[], bool] | None = None,
    capture: bool | None = None,
    portable: bool = False,
) -> Path:
    """Make the run of a recipe and seed, or what is missing of it; gives the path of its ``result.json``.

    Args:
        recipe: a recipe or the name of one.
        seed: of weights, order of rows and noise.
        root: folder of all runs; the files lie as :class:`mmlib.runs.folder.RunFolder` says.
        device: where to train.
        threads: of the processor; part of the run's identity, since sums in another order have other last digits.
        progress: say what is done: with a progress bar if standard error is a terminal, else at each evaluation.
        checkpoint_every: steps between checkpoints.
        cache: folder of the data, if not the usual one.
        stop: asked after every step of training; when it says True, the run is paused.
        capture: whether to replay the step as a CUDA graph; default: on CUDA devices. Adversarial models never do.
        portable: refuse to compute other bits than other processors would, see :mod:`mmlib.runs.provenance`.

    Raises:
        ValueError: for an unknown recipe or device, a bad number, settings that are not portable, or an interrupted run
            that was begun with other threads, on another kind of device, or with another answer to ``portable``.
        RunLockedError: if another process is making this run.
        FloatingPointError: if the training went bad; see ``mmlib.train.fit``.
        OSError: if the disk is full or cannot be written to; the same call continues when it can.
        Paused, KeyboardInterrupt: when ``stop``, or Ctrl-C, asked for it, after writing a checkpoint.
    """
    folder = RunFolder(get(recipe), seed, Path(root))
    threads, every = whole("threads", threads), whole("checkpoint_every", checkpoint_every)
    try:
        if folder.finished():
            folder.check_files()
            return folder.result
        if folder.recipe.propagation:
            how = {"device": device, "threads": threads, "progress": progress, "checkpoint_every": every}
            how |= {"cache": cache, "stop": stop, "capture": capture, "portable": portable}
            run(options_of(folder.recipe)["from"], folder.seed, folder.root, **how)
        with folder.locked():
            if not folder.finished():  # nobody finished it just before we had the lock
                _make(folder, str(device), threads, portable, progress, every, cache, stop, capture)
    except OSError as error:
        kept = f". {folder} is kept up to step {folder.step()} in {folder.path}"
        again = "start the same run again: it continues from there, to the same numbers"
        raise advised(error, folder.path, f"{kept}; {again}") from error
    return folder.result


def _make(folder: RunFolder, device, threads, portable, progress, every, cache, stop, capture) -> None:
    import torch

    from mmlib.runs.build import build_data, build_judges, build_model, check, judges_data
    from mmlib.runs.propagation import propagate
    from mmlib.runs.provenance import PORTABLE, provenance
    from mmlib.runs.training import kind_of
    from mmlib.seeding import check_device
    from mmlib.train import save_weights

    def say(text: str, bar: bool = False) -> None:
        if progress and not (bar and sys.stderr.isatty()):  # there the progress bar says it
            print(f"{folder}: {text}", file=sys.stderr, flush=True)

    recipe, kind, before = check(folder.recipe), check_device(device).type, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        origin = provenance(device)  # of the code that runs, whatever is committed meanwhile
        now = {key: origin[key] for key in ("commit", "uncommitted_changes", "threads", "portable")}
        now["device"] = kind
        if portable and not (kind == "cpu" and now["portable"]):
            settings = " ".join(f"{name}={value}" for name, value in PORTABLE.items())
            needs = f"a processor with AVX2 (the device is {device!r}), and before Python starts: {settings}"
            raise ValueError(f"portable is True; expected {needs}")
        begun = folder.begun() or now
        _check_continuable(folder, begun, now)
        say("makes or reads the data")
        data = build_data(recipe, cache)
        model = build_model(recipe, data, folder.seed)  # refused, if it is, before the judges are trained
        say("trains or reads the judges")
        classifiers = build_judges(recipe, data, cache).to(device)
        data = data.to(device)
        folder.open(begun)
        with _journal(folder):
            clock = time.perf_counter(), time.process_time()
            options = {"device": device, "checkpoint_every": every, "stop": stop, "progress": progress}
            options["capture"] = kind == "cuda" if capture is None else capture
            rows, found = data, {}
            if recipe.propagation:
                say("looks for related pairs")
                rows, found = propagate(folder, model, data, judges_data(recipe, data, cache), device, cache)
            history, model = _train(folder, model, rows, classifiers, say, **options)
            say("is trained; measures it")
            folder.write_rows(history)
            notes = {"recipe": recipe.name, "hash": recipe.hash, "seed": folder.seed}
            save_weights(folder.weights, kind_of(recipe).part(model), **notes)
            result = {
                "recipe": recipe.as_dict(),
                "seed": folder.seed,
                "steps": recipe.steps,
                "metrics": _evaluate(folder, model, data, classifiers, device) | found,
                "convergence": convergence(history),
                "history": [row for row in history if any(name.startswith("validation/") for name in row)],
                "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                "data": data.provenance,
                "seconds": {
                    "training_wall": round(history.wall_seconds, 1),
                    "training_cpu": round(history.cpu_seconds, 1),
                    "last_call_wall": round(time.perf_counter() - clock[0], 1),
                    "last_call_cpu": round(time.process_time() - clock[1], 1),
                },
                "provenance": {**origin, "captured": getattr(history, "captured", False), "begun": begun},
            }
            folder.write_result(result)
            folder.drop_checkpoints()  # the optimizer's state has served
    finally:
        torch.set_num_threads(before)


def _train(folder: RunFolder, model, data, classifiers, say: Callable, **options):
    """Take the missing steps: the history, and the model that is to be measured, of averaged weights if there are."""
    from mmlib.metrics.split import at_rest
    from mmlib.runs.training import average, kind_of
    from mmlib.seeding import child

    recipe, seed, kind, rows = folder.recipe, folder.seed, kind_of(folder.recipe), folder.rows()
    (ema, measured), monitor = average(recipe, model), kind.monitor(recipe, classifiers)
    folder.write_rows(rows)

    def validate(step: int, _) -> dict[str, float]:
        with at_rest(measured):
            values = watch(measured, data.validation, classifiers, child(seed, "validation", step))
            values |= monitor(step, measured, seed)
        rows.append({"step": step, **values})
        folder.write_rows(rows)
        shown = {"loss": values.get("validation/loss"), "coherence": _coherence(values)}
        text = ", ".join(f"{name} {number:.4g}" for name, number in shown.items() if number is not None)
        say(f"step {step} of {recipe.steps}; validation: {text}", bar=True)
        return values

    options |= {"checkpoint_dir": folder.checkpoints, "ema": ema, "callback": validate}
    options["validate_every"] = -(-recipe.steps // recipe.validations)
    identity = {"recipe": recipe.name, "hash": recipe.hash, "data": data.provenance.get("sha256")}
    return kind.fit(recipe, model, data.train, seed, identity=identity, **options), measured


def _evaluate(folder: RunFolder, model, data, classifiers, device) -> dict:
    """All metrics on validation and test, and the picture of samples: a function of the weights and the seed."""
    from mmlib.metrics import AttributeJudges, CaptionJudges
    from mmlib.plots.captions import save_captioned, save_described
    from mmlib.plots.grids import save_samples
    from mmlib.runs.training import kind_of, report
    from mmlib.seeding import child

    recipe, seed = folder.recipe, folder.seed
    model.eval()
    found = {name: report(model, data, name, classifiers, seed, device) for name in ("validation", "test")}
    for name, more in kind_of(recipe).measure(recipe, model, data, classifiers, seed, device).items():
        found[name].update(more)
    shown = {"seed": child(seed, "samples"), "device": device}
    if isinstance(classifiers, CaptionJudges):
        save_captioned(model, classifiers, folder.samples, **shown)
    elif isinstance(classifiers, AttributeJudges):
        if classifiers.showable:
            save_described(model, folder.samples, **shown)
    else:
        save_samples(model, folder.samples, **shown)
    return found


@contextlib.contextmanager
def _journal(folder: RunFolder):
    """Write down that the run was started, and how it ended. A start without an end was killed."""
    from mmlib.train import Paused

    folder.log("started")
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, Paused | KeyboardInterrupt)
        reason = str(error) if stopped else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):  # the run ends as it does, whatever becomes of the journal
            folder.log("stopped" if stopped else "failed", reason=reason)
        raise
    with contextlib.suppress(OSError):
        folder.log("finished", step=folder.recipe.steps)


def _check_continuable(folder: RunFolder, begun: dict, now: dict) -> None:
    """Refuse to go on with other threads, on another kind of device or less portable: the bits would be others."""
    for name, usual in {"threads": now["threads"], "device": now["device"], "portable": False}.items():
        before = begun.get(name, usual)
        if before != now[name]:
            advice = f"go on with {before!r}, or move {folder.path} away to begin anew"
            done = f"{folder}, was begun with {before!r} and has done {folder.step()} steps"
            raise ValueError(f"{name} is {now[name]!r}; {done}: {advice}")


def watch(model, split, classifiers, seed: int) -> dict[str, float]:
    """What is measured on validation along the way: the loss, and coherence, correlation or precision of directions."""
    import torch

    from mmlib.metrics import AttributeJudges, CaptionJudges, cross_coherence, cross_correlation
    from mmlib.seeding import generator
    from mmlib.train.rows import classes

    device = next(model.parameters()).device
    draw, names = generator(seed, device), list(model.modalities)
    correlates, ranks = (isinstance(classifiers, kind) for kind in (CaptionJudges, AttributeJudges))
    kind = "cross_correlation" if correlates else "cross_coherence"
    right = {given: torch.zeros(len(names), dtype=torch.float64) for given in ([] if ranks else names)}
    loss, has_loss = 0.0, hasattr(model, "loss")  # an adversarial model has one only against its opponent
    with torch.no_grad():
        for some in torch.arange(len(split)).split(500):
            batch, labels = split.batch(some, device), split.labels[some.to(split.labels.device)]
            if has_loss:
                told = classes(model, split, some)
                loss += float(model.loss(batch, generator=draw, **told)[0]) * len(some)
            for given in right:
                if correlates:
                    right[given] += cross_correlation(model, batch, given, classifiers, draw).sum().cpu()
                else:
                    right[given] += (
                        cross_coherence(model, batch, labels, given, classifiers, draw).sum(1).cpu()
                    )
    values = {"validation/loss": loss / len(split)} if has_loss else {}
    if ranks:
        values |= watched_precision(model, split, classifiers, draw)
    for given, counts in right.items():
        for name, count in zip(names, counts.tolist(), strict=True):
            if name != given:
                values[f"validation/{kind}/{given}/{name}"] = count / len(split)
    return values


def watched_precision(model, split, judges, draw) -> dict[str, float]:
    """Mean average precision of what is generated, in either direction."""
    from mmlib.metrics.attributes import NAMES, generated_precisions

    found = generated_precisions(model, split, judges, NAMES, draw)
    ways = [(a, b) for a in found for b in NAMES if a != b]
    return {f"validation/cross_precision/{a}/{b}": found[a][b]["mean"]["value"] for a, b in ways}


def convergence(history: list[dict]) -> dict:
    """Whether training had come to rest: ``moved`` is the range of coherence over the last quarter of the steps."""
    curve = {row["step"]: coherence for row in history if (coherence := _coherence(row)) is not None}
    late = [number for step, number in curve.items() if step >= 0.75 * max(curve)]
    moved = max(late) - min(late) if late[1:] else None
    converged = moved is not None and moved < CONVERGED
    text = f"coherence moved by {'less' if converged else 'more'} than 2 points over the last quarter"
    text = f"validation {text}" if late[1:] else "too few evaluations to tell"
    return {"converged": converged, "moved": moved, "limit": CONVERGED, "text": text}


def _coherence(row: dict) -> float | None:
    """Cross-coherence, correlation or precision on validation, averaged over directions, if a row has it."""
    values = [number for name, number in flatten(row) if name.startswith("validation/cross_")]
    return sum(values) / len(values) if values else None
