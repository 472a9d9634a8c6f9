"""Where a number comes from: machine, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from mmlib.files import REPOSITORY

PORTABLE = {"ATEN_CPU_CAPABILITY": "avx2", "DNNL_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors")


def provenance(device: str = "cpu") -> dict:
    """Hardware, versions, threads and commit of this process. JSON-able, without names of hosts or users."""
    import torch

    installed = {distribution.name for distribution in importlib.metadata.distributions()}
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", "mmlib")
    return {
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "portable": portable(),
        "device": device,
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES if name in installed},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": None if changes is None else bool(changes),
    }


def portable() -> bool:
    """Whether this process computes what processors of several makers compute to the same bits.

    That is so where ``PORTABLE`` was in the environment before torch was imported: sums are then taken in one order,
    whatever wider instructions the processor has.
    """
    import torch

    given = all(os.environ.get(name) == value for name, value in PORTABLE.items())
    return given and torch.backends.cpu.get_cpu_capability() == PORTABLE["ATEN_CPU_CAPABILITY"].upper()


def hardware(device: str = "cpu") -> str:
    """Processor, or accelerator, in words."""
    processor, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].split(":", 1)[1].strip() if models else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{processor}, {cores} cores"
    if device.startswith("cuda"):
        import torch

        text = f"{torch.cuda.get_device_name(device)}, {text}"
    return text


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
