"""Run a recipe: train, watch it on the validation split, read the test split once, write the result.

Idempotent: a finished run is never repeated, an interrupted one continues to the bits that it would have reached.
"""

import json
import shutil
import time
from pathlib import Path

from mmlib.files import write_atomically
from mmlib.reproduce.folder import RunFolder
from mmlib.reproduce.recipes import Recipe, get
from mmlib.reproduce.results import flatten

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
) -> Path:
    """Make the run of a recipe and seed, or what is missing of it.

    Writes into ``<root>/<recipe>/seed-<n>/``: ``metrics.jsonl`` (history), ``weights.safetensors``, ``samples.png``
    (samples of the model only) and, last of all, ``result.json``.

    Args:
        recipe: a recipe or the name of one.
        seed: of weights, order of rows and noise.
        root: folder of all runs.
        device: where to train.
        threads: of the processor; part of the run's identity, since sums in another order have other last digits.
        progress: show a progress bar, if standard error is a terminal.
        checkpoint_every: steps between checkpoints.
        cache: folder of the data, if not the usual one.

    Returns:
        Path of ``result.json``.

    Raises:
        ValueError: for an unknown recipe, or an interrupted run that was begun with other threads or another device.
        RunLockedError: if another process is making this run.
        FloatingPointError: if the training went bad; see ``mmlib.train.fit``.
    """
    folder = RunFolder(get(recipe) if isinstance(recipe, str) else recipe, seed, Path(root))
    if folder.finished():
        return folder.result
    with folder.locked():
        if not folder.finished():  # nobody finished it while we waited for the lock
            _make(folder, device, threads, progress, checkpoint_every, cache)
    return folder.result


def _make(folder: RunFolder, device: str, threads: int, progress: bool, checkpoint_every: int, cache) -> None:
    import torch

    from mmlib.metrics import evaluate, evaluate_likelihoods
    from mmlib.plots.grids import save_samples
    from mmlib.reproduce.build import build_classifiers, build_data, build_model
    from mmlib.reproduce.provenance import provenance
    from mmlib.seeding import check_device, child, generator
    from mmlib.train import fit, save_weights

    recipe, seed = folder.recipe, folder.seed
    check_device(device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        origin = provenance(device)  # of the code that runs, whatever is committed meanwhile
        begun = folder.open({key: origin[key] for key in ("commit", "uncommitted_changes")})
        data = build_data(recipe, cache)
        classifiers = build_classifiers(data, cache).to(device)
        data = data.to(device)
        model = build_model(recipe, data, seed)
        clock = time.perf_counter(), time.process_time()

        def validate(step: int, model) -> dict[str, float]:
            values = watch(model, data.validation, classifiers, child(seed, "validation", step))
            with open(folder.metrics, "a") as file:  # to look at meanwhile; at the end written anew
                file.write(json.dumps({"step": step, **values}) + "\n")
            return values

        history = fit(
            model,
            data.train,
            recipe.steps,
            recipe.batch_size,
            recipe.learning_rate,
            seed,
            betas=recipe.betas,
            eps=recipe.eps,
            amsgrad=recipe.amsgrad,
            clip_norm=recipe.clip_norm,
            clip_value=recipe.clip_value,
            device=device,
            validate_every=-(-recipe.steps // recipe.validations),
            callback=lambda step, model: watch(
                model, data.validation, classifiers, child(seed, "validation", step)
            ),
            checkpoint_dir=folder.checkpoints,
            checkpoint_every=checkpoint_every,
            identity={"recipe": recipe.name, "hash": recipe.hash, "data": data.provenance.get("sha256")},
            progress=progress,
        )
        write_atomically(folder.metrics, b"".join(json.dumps(row).encode() + b"\n" for row in history))
        save_weights(folder.weights, model, recipe=recipe.name, hash=recipe.hash, seed=seed)
        splits = {
            name: evaluate(model, split, classifiers, generator(child(seed, name), device), data.train)
            for name, split in (("validation", data.validation), ("test", data.test))
        }
        draw = generator(child(seed, "likelihood"), device)
        likelihoods = evaluate_likelihoods(
            model, data.test, recipe.likelihood_k, draw, recipe.likelihood_rows
        )
        splits["test"]["log_likelihood"] = likelihoods
        save_samples(model, folder.samples, seed=child(seed, "samples"), device=device)
        result = {
            "recipe": recipe.as_dict(),
            "seed": seed,
            "steps": recipe.steps,
            "metrics": splits,
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
            "provenance": {**origin, "begun": begun},
        }
        folder.write_result(_plain(result))
        shutil.rmtree(folder.checkpoints, ignore_errors=True)  # the optimizer's state has served
    finally:
        torch.set_num_threads(before)


def watch(model, split, classifiers, seed: int) -> dict[str, float]:
    """What is measured on the validation split along the way: the loss and cross-coherence of every direction."""
    import torch

    from mmlib.metrics.coherence import cross_coherence
    from mmlib.seeding import generator

    device = next(model.parameters()).device
    draw = generator(seed, device)
    rows = torch.arange(len(split)).split(500)
    names = list(model.modalities)
    right = {given: torch.zeros(len(names), dtype=torch.float64) for given in names}
    loss = 0.0
    with torch.no_grad():
        for some in rows:
            batch = split.batch(some, device)
            loss += float(model.loss(batch, generator=draw)[0]) * len(some)
            for given in names:
                labels = split.labels[some.to(split.labels.device)]
                right[given] += cross_coherence(model, batch, labels, given, classifiers, draw).sum(1).cpu()
    values = {"validation/loss": loss / len(split)}
    for given in names:
        for name, count in zip(names, right[given].tolist(), strict=True):
            if name != given:
                values[f"validation/cross_coherence/{given}/{name}"] = count / len(split)
    return values


def convergence(history: list[dict]) -> dict:
    """Whether training had come to rest: coherence over the last quarter of the steps.

    Returns:
        ``{"converged", "moved", "limit", "text"}``: ``moved`` is the range, over the last quarter, of
        cross-coherence averaged over directions.
    """
    curve = {}
    for row in history:
        values = [number for name, number in flatten(row) if name.startswith("validation/cross_coherence/")]
        if values:
            curve[row["step"]] = sum(values) / len(values)
    last = max(curve, default=0)
    late = [number for step, number in curve.items() if step >= 0.75 * last]
    moved = max(late) - min(late) if len(late) > 1 else None
    converged = moved is not None and moved < CONVERGED
    text = (
        f"validation coherence moved by {'less' if converged else 'more'} than 2 points over the last quarter"
    )
    if moved is None:
        text = "too few evaluations to tell"
    return {"converged": converged, "moved": moved, "limit": CONVERGED, "text": text}


def _plain(values: dict) -> dict:
    """Values as JSON holds them: plain numbers, None for what is not a number."""
    return json.loads(json.dumps(values), parse_constant=lambda _: None)
