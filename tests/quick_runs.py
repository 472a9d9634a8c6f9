"""Runs of a second, for the tests of killed runs and of many at once: a tiny recipe, judges that need not be good."""

import contextlib
import dataclasses
import os
import signal
import time
from pathlib import Path

from mmlib.files import write_atomically
from mmlib.reproduce.recipes import Recipe
from mmlib.reproduce.scale import _make

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


def quick_judges() -> None:
    """Two steps of training for the classifiers, in this process."""
    from mmlib.metrics import train_classifiers
    from mmlib.reproduce import build

    build.build_classifiers = lambda data, cache=None: train_classifiers(
        data, steps=2, width=0.1, cache=cache
    )


def job(*arguments):
    """A job as ``mmlib.reproduce.scale`` hands them out, with quick judges.

    ``$QUICK_RUNS`` names a file that says "die" or "hang". The first process that comes to the second evaluation of a
    run removes it, and does so; one that hangs leaves its process id in ``<file>.caught``.
    """
    from mmlib.reproduce import runner

    quick_judges()
    before = runner.watch
    trap = Path(os.environ.get("QUICK_RUNS", "no such file"))

    def watch(*measured):
        watch.calls += 1
        if watch.calls == 2:
            with contextlib.suppress(FileNotFoundError):
                what = trap.read_text()
                trap.unlink()  # one process only
                if what == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                write_atomically(trap.with_suffix(".caught"), str(os.getpid()).encode())
                while True:
                    time.sleep(60)
        return before(*measured)

    watch.calls = 0
    runner.watch = watch
    try:
        return _make(*arguments)
    finally:
        runner.watch = before
