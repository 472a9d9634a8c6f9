"""Runs of a second, for the tests of killed runs and of many at once: a tiny recipe, little to measure at the end."""

import contextlib
import dataclasses
import json
import os
import signal
import time
from pathlib import Path
from unittest import mock

from mmlib.files import write_atomically
from mmlib.runs.recipe import Recipe
from mmlib.runs.scale import _make as make

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
BROKEN = dataclasses.replace(TINY, name="broken", model="nope")
LONG = dataclasses.replace(TINY, name="long", steps=100_000)


def judges(data, cache=None):
    """Judges that need not be good: after two steps of training."""
    from mmlib.metrics import train_classifiers

    return train_classifiers(data, steps=2, width=0.1, cache=cache)


@contextlib.contextmanager
def quick():
    """Quick judges, and at the end only what is measured along the way, on the test split."""
    from mmlib.runs import build, runner

    def evaluate(folder, model, data, classifiers, device):
        write_atomically(folder.samples, b"a picture")
        return {"test": runner.watch(model, data.test, classifiers, folder.seed)}

    with (
        mock.patch.object(build, "build_classifiers", judges),
        mock.patch.object(runner, "_evaluate", evaluate),
    ):
        yield


def events(folder):
    """What the journal of a run says, one event a line; what is no event (a damaged line) is left out."""
    lines = folder.journal.read_bytes().splitlines() if folder.journal.exists() else []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return [event for event in found if isinstance(event, dict)]  # noise can hold a number, which is JSON too


def job(*arguments):
    """A job as ``mmlib.runs.scale`` hands them out, but quick.

    ``$QUICK_RUNS`` names a file that says "die" or "hang". The first process that comes to the second evaluation of a
    run removes it, and does so; one that hangs leaves its process id in ``<file>.caught``.
    """
    from mmlib.runs import runner

    trap, before, calls = Path(os.environ.get("QUICK_RUNS", "no such file")), runner.watch, []

    def watch(*measured):
        calls.append(1)
        if len(calls) == 2:
            with contextlib.suppress(FileNotFoundError):
                what = trap.read_text()
                trap.unlink()  # one process only
                if what == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                write_atomically(trap.with_suffix(".caught"), str(os.getpid()).encode())
                while True:
                    time.sleep(60)
        return before(*measured)

    with quick(), mock.patch.object(runner, "watch", watch):
        return make(*arguments)
