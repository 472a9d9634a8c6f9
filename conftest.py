"""What every test and notebook kernel inherits: the library on the path, one thread, no progress bars."""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent

# Kernels started by nbval run in book/ and know nothing of this folder unless the environment tells them.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
# Two workers with one thread each are faster than two that fight over the cores, and sums come out the same.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["TQDM_DISABLE"] = "1"


def pytest_configure(config):
    import matplotlib
    import torch

    matplotlib.use("agg")  # for this process only: kernels keep their inline backend
    torch.set_num_threads(1)
    # Where nbval finds what it need not compare: by its whole path, so that pytest may start in any folder.
    if not getattr(config.option, "nbval_sanitize_with", None):
        config.option.nbval_sanitize_with = str(ROOT / "tests" / "nbval_sanitize.cfg")


@pytest.fixture(autouse=True)
def figures_closed():
    """No test leaves its figures to the next one."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A folder for data and judges, which the tests of a file share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def files(monkeypatch):
    """Recorded runs by recipe, to be filled; there are no others."""
    from mmlib.runs import results

    found = {}
    monkeypatch.setattr(results, "load", lambda name, root=None: [] if root else found.get(name, []))
    return found
