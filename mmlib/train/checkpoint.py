"""Checkpoints that survive a kill at any moment: atomic, checksummed, and loaded without running any code.

A checkpoint is one safetensors file, ``step-<steps>-<checksum>.safetensors``: every tensor, and in the header one JSON
text for the rest. It is written beside its place, flushed to the disk, then renamed. Its name holds the SHA-256 of its
content, so that a damaged file is known before any of it is used.
"""

import hashlib
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mmlib.checks import check_has
from mmlib.files import write_atomically

_NAME = re.compile(r"step-(\d{9})-([0-9a-f]{16})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and a JSON-able state, after ``step`` steps."""

    step: int
    tensors: dict[str, Tensor]
    state: dict


def save(directory: str | Path, step: int, tensors: dict[str, Tensor], state: dict) -> Path:
    """Write a checkpoint of a run, with a JSON-able state, then delete all but the last two: the file's path.

    Raises:
        OSError: if the disk refuses; the previous checkpoints are untouched and nothing half-written remains.
    """
    directory, data = Path(directory), _to_bytes(tensors, state)
    path = directory / f"step-{step:09d}-{_checksum(data)}.safetensors"
    try:
        write_atomically(path, data)
    except OSError as error:
        last = max((int(_NAME.fullmatch(path.name)[1]) for path in _files(directory)), default=None)
        kept = "there is no earlier one" if last is None else f"the one of step {last} is intact"
        note = f"; the checkpoint of step {step} was not written, {kept}"
        raise OSError(error.errno, f"{error.strerror}{note}", str(path)) from error
    for old in _files(directory)[2:]:
        old.unlink(missing_ok=True)
    return path


def load(directory: str | Path) -> Checkpoint | None:
    """The newest intact checkpoint of a directory, or None.

    A file whose content does not match its checksum is renamed to ``*.damaged`` with a warning, and the one before it
    is used; what a kill left half-written is deleted.
    """
    directory = Path(directory)
    for leftover in directory.glob("*.partial"):
        leftover.unlink()
    for path in _files(directory):
        step, checksum = _NAME.fullmatch(path.name).groups()
        data = path.read_bytes()
        if _checksum(data) == checksum:
            return Checkpoint(int(step), *_from_bytes(data))
        path.rename(path.with_suffix(".damaged"))
        warnings.warn(f"{path.name} is damaged; set aside as {path.stem}.damaged", stacklevel=2)
    return None


def capture(
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    generators: dict[str, torch.Generator],
) -> dict[str, Tensor]:
    """Every tensor that training changes, by name: weights and buffers, optimizer state, generator states."""
    tensors = {}
    for name, module in modules.items():
        tensors |= module.state_dict(prefix=f"{name}/")
    for name, optimizer in optimizers.items():
        for index, entries in optimizer.state_dict()["state"].items():
            tensors |= {f"{name}/{index}/{key}": torch.as_tensor(value) for key, value in entries.items()}
    return tensors | {f"{name}/state": generator.get_state() for name, generator in generators.items()}


def restore(checkpoint: Checkpoint, modules: dict, optimizers: dict, generators: dict) -> None:
    """Put what :func:`capture` took back in place, each tensor in the memory layout that it had.

    Raises:
        ValueError: if the weights are those of another model: names the tensors found and expected.
    """
    for name, module in modules.items():
        _load_into(module, _below(checkpoint.tensors, name), f"the checkpoint of step {checkpoint.step}")
    for name, optimizer in optimizers.items():
        packed = optimizer.state_dict()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        packed["state"] = {}
        for key, value in _below(checkpoint.tensors, name).items():
            index, entry = key.split("/")
            parameter = parameters[int(index)]
            moment = value.shape == parameter.shape and entry != "step"
            packed["state"].setdefault(int(index), {})[entry] = (
                torch.empty_like(parameter).copy_(value).detach() if moment else value.clone()
            )
        optimizer.load_state_dict(packed)
    for name, generator in generators.items():
        generator.set_state(checkpoint.tensors[f"{name}/state"].clone())


def save_weights(path: str | Path, model: nn.Module, **notes: str) -> Path:
    """Write a model's weights as one safetensors file (atomic), with notes such as the recipe in its header."""
    check_has("model", model, ["state_dict"], "a model")
    return write_atomically(path, _to_bytes(model.state_dict(), notes))


def load_weights(path: str | Path, model: nn.Module) -> dict:
    """Read the weights of :func:`save_weights` into a model and return the notes.

    Raises:
        ValueError: if there is no such file, it is damaged, or holds the weights of another model (names what was found
            and expected).
    """
    check_has("model", model, ["state_dict"], "a model")
    path = Path(path)
    try:
        tensors, notes = _from_bytes(path.read_bytes())
    except OSError as error:
        raise ValueError(f"path is {str(path)!r}, which cannot be read ({error.strerror})") from error
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not an intact safetensors file ({error})") from error
    _load_into(model, tensors, path.name)
    return notes


def _files(directory: Path) -> list[Path]:
    """Checkpoints, newest first."""
    return sorted((path for path in directory.glob("step-*") if _NAME.fullmatch(path.name)), reverse=True)


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _to_bytes(tensors: dict[str, Tensor], state: dict) -> bytes:
    # clone: safetensors refuses tensors that share memory, as tied weights do
    dense = torch.contiguous_format
    alone = {name: value.detach().cpu().clone(memory_format=dense) for name, value in tensors.items()}
    return safetensors.torch.save(alone, metadata={"state": json.dumps(state)})


def _from_bytes(data: bytes) -> tuple[dict[str, Tensor], dict]:
    tensors = safetensors.torch.load(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return tensors, json.loads(header.get("__metadata__", {}).get("state", "{}"))


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    begin = f"{name}/"
    return {key.removeprefix(begin): value for key, value in tensors.items() if key.startswith(begin)}


def _load_into(module: nn.Module, found: dict[str, Tensor], what: str) -> None:
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    if shapes != expected:
        wrong = [
            f"{name} is {shapes.get(name, 'missing')}, expected {expected.get(name, 'no such tensor')}"
            for name in dict.fromkeys((*expected, *shapes))
            if shapes.get(name) != expected.get(name)
        ]
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        model = type(module).__name__
        raise ValueError(f"{what} holds another model than {model}: {'; '.join(wrong[:4])}{more}")
    module.load_state_dict(found)
