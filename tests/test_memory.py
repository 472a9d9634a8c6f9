"""What a training loop frees stays with the process, and nothing else changes."""

import os
import platform
import subprocess
import sys

import pytest

from mmlib import memory

PAGE = 4096
LOOP = """
import resource, torch
from toy import ToyModel, ToySplit
from mmlib.train import fit

fit(ToyModel(), ToySplit(8), steps=1, batch_size=8, progress=False)  # as every training does
for _ in range(3):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)  # 64 MiB, freed at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize(("switch", "kept"), [(None, True), ("0", False)])
def test_blocks_that_training_frees_are_kept_unless_switched_off(switch, kept):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {} if switch is None else {"MMLIB_KEEP_PAGES": switch}
    done = subprocess.run([sys.executable, "-c", LOOP], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = 2**26 // PAGE  # huge pages make fewer faults of the same memory
    faults = int(done.stdout)
    assert (faults < pages / 512) == kept, f"{faults} page faults for ten blocks of {pages} pages"


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert memory.keep_pages() is False
