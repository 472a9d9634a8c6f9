"""Where a number comes from: machine, versions, commit."""

import contextlib
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
        "instructions": torch.backends.cpu.get_cpu_capability(),  # the widest that torch uses of the processor's
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
    """Whether this process computes the bits of many processors: ``PORTABLE`` was set before torch was imported."""
    import torch

    given = all(os.environ.get(name) == value for name, value in PORTABLE.items())
    return given and torch.backends.cpu.get_cpu_capability() == PORTABLE["ATEN_CPU_CAPABILITY"].upper()


def hardware(device: str = "cpu") -> str:
    """Processor, or accelerator, in words."""
    import torch

    processor, cpuinfo = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = models[0].split(":", 1)[1].strip() if models else processor
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    accelerator = f"{torch.cuda.get_device_name(device)}, " if device.startswith("cuda") else ""
    return f"{accelerator}{processor}, {cores} cores"


def _git(*arguments: str) -> str | None:
    options = {"cwd": REPOSITORY, "stderr": subprocess.DEVNULL, "text": True, "timeout": 20}
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(["git", *arguments], **options).strip()
    return None
