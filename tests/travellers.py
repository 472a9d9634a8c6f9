"""Runs without training, for the tests of the queue and its archives; nothing here imports torch."""

import dataclasses
import hashlib
import json
import os
import random
import signal
import time

from mmlib.files import write_atomically
from mmlib.reproduce import archive, shift
from mmlib.reproduce.folder import RunFolder
from mmlib.reproduce.recipes import Recipe

TINY = Recipe(
    name="tiny",
    model="mmvae",
    dataset="hand-street",
    source="a test",
    steps=16,
    model_options={"objective": "elbo"},
    data_options={"train": 60, "validation": 20, "test": 20},
    latent_dim=3,
    width=0.1,
    batch_size=8,
    validations=4,
    likelihood_rows=4,
    likelihood_k=2,
)
# recipes that a process only pretends to make; the name says how it behaves
QUICK, SLOW, HANGING, FAILING, MISSING, MISSING_TOO = (
    dataclasses.replace(TINY, name=name, latent_dim=number, dataset=dataset)
    for number, (name, dataset) in enumerate(
        [
            ("quick", "a"),
            ("slow", "a"),
            ("hanging", "a"),
            ("failing", "a"),
            ("missing", "b"),
            ("missing-too", "b"),
        ],
        10,
    )
)
ALL = {r.name: r for r in (TINY, QUICK, SLOW, HANGING, FAILING, MISSING, MISSING_TOO)}


def state(folder, step, size=1_000, device="cpu", seed=None):
    """Write a checkpoint that looks like one: a header of JSON, then numbers that no compression could shorten."""
    identity = {"device": device, "threads": 1, "hash": folder.recipe.hash}
    header = json.dumps(
        {"__metadata__": {"state": json.dumps({"identity": identity, "step": step})}}
    ).encode()
    numbers = random.Random(f"{folder}/{step}" if seed is None else seed).randbytes(size)
    data = len(header).to_bytes(8, "little") + header + numbers
    if not folder.note.exists():
        note = {"recipe": folder.recipe.as_dict(), "begun": {"commit": None, "device": device}}
        write_atomically(folder.note, json.dumps(note).encode())
    name = f"step-{step:09d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
    return write_atomically(folder.checkpoints / name, data)


def finish(folder, weights=500, value=0.5):
    """Write what a finished run has."""
    if not folder.note.exists():
        state(folder, 1)
    header = json.dumps({"x": {"dtype": "U8", "shape": [weights], "data_offsets": [0, weights]}}).encode()
    numbers = random.Random(str(folder)).randbytes(weights)
    write_atomically(folder.weights, len(header).to_bytes(8, "little") + header + numbers)
    write_atomically(folder.samples, b"\x89PNG" + bytes(100))
    write_atomically(folder.metrics, b'{"step": 16, "loss": 1.0}\n')
    metrics = {"test": {"c": {"value": value}}}
    folder.write_result({"recipe": folder.recipe.as_dict(), "seed": folder.seed, "metrics": metrics})
    folder.drop_checkpoints()


def pretend(pipe, folder, options):
    """In place of ``shift.make``: a step takes 20 ms, and every one ends with a checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name = folder.recipe.name
    with folder.locked():
        if name == "failing":
            pipe.send(("failed", "failed: ValueError: of course"))
            return
        if name.startswith("missing"):
            pipe.send(("no data", "left alone: the file is missing"))
            return
        pipe.send(("training", ""))
        for step in range(folder.step() + 1, 17 if name != "slow" else 10_000):
            state(folder, step)
            for old in sorted(folder.checkpoints.glob("step-*.safetensors"))[:-2]:
                old.unlink()
            if pipe.poll():
                pipe.send(("paused", f"paused at step {step}"))
                return
            time.sleep(0.02)
        if name == "hanging":
            time.sleep(1_000)
        finish(folder)
    pipe.send(("finished", "finished"))


def no_device(pipe, folder, options):
    """In place of ``shift.make`` where the device is not there."""
    pipe.send(("no such device", f"device is {options['device']!r}; expected one that this machine has: cpu"))


def quick_judges():
    """Judges that need not be good: two steps of training."""
    from mmlib.metrics import train_classifiers
    from mmlib.reproduce import build

    build.build_classifiers = lambda data, cache=None: train_classifiers(
        data, steps=2, width=0.1, cache=cache
    )


def make(pipe, folder, options):
    """``shift.make`` with quick judges."""
    quick_judges()
    _MAKE(pipe, folder, options)


def make_seven_steps(pipe, folder, options):
    """The same, as if the time were over after seven steps of training."""
    from mmlib.reproduce import runner

    quick_judges()
    run = runner.run

    def briefly(*arguments, stop, **others):
        asked = []
        return run(*arguments, stop=lambda: asked.append(stop()) or len(asked) == 7, **others)

    runner.run = briefly
    _MAKE(pipe, folder, options)


_MAKE = shift.make


def put(root, *steps, out=None, limit=archive.LIMIT, size=1_000, recipe=TINY):
    """Runs of seeds 0, 1, ...: unfinished ones at these steps, or finished where there is None; packed into ``out``."""
    folders = [RunFolder(recipe, seed, root) for seed in range(len(steps))]
    for folder, step in zip(folders, steps, strict=True):
        if step is None:
            finish(folder, weights=size)
        else:
            state(folder, step, size)
    if out is not None:
        archive.write(out, [shift.collect(folder) for folder in folders], limit)
    return folders


def kill_at_replacement(number):
    """From now on this process kills itself in place of its n-th renaming or deleting of a file."""
    left = [number]

    def counted(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.replace, os.unlink = counted(os.replace), counted(os.unlink)
    from pathlib import Path

    Path.unlink = counted(Path.unlink)
