"""Where a number comes from: machine, versions, commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "safetensors")


def provenance(device: str = "cpu") -> dict:
    """Hardware, versions, threads and commit of this process. JSON-able, without names of hosts or users."""
    return {
        "hardware": hardware(device),
        "threads": _threads(),
        "device": device,
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)},
        "commit": commit(),
        "uncommitted_changes": uncommitted_changes(),
    }


def hardware(device: str = "cpu") -> str:
    """Processor, or accelerator, in words."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if line.startswith("model name")
        ]
        processor = models[0] if models else processor
    text = f"{processor}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if device.startswith("cuda"):
        import torch

        text = f"{torch.cuda.get_device_name(device)}, {text}"
    return text


def commit() -> str | None:
    """The commit that the working tree stands on, or None outside a repository."""
    return _git("rev-parse", "HEAD")


def uncommitted_changes() -> bool | None:
    """Whether the library that is run differs from the commit."""
    status = _git("status", "--porcelain", "--untracked-files=no", "--", "mmlib")
    return None if status is None else bool(status)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _threads() -> int:
    import torch

    return torch.get_num_threads()
