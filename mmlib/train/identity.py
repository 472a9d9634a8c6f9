"""What a checkpoint belongs to: everything that decides the numbers of a run, by name, so that no other continues it.

The weights that training moves are not part of it: they come from the checkpoint. Nor is the text of the code: of
classes and functions the names count.
"""

import functools
import hashlib
import re
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from mmlib.data.core import PairedSplit
from mmlib.train.rows import CHUNK, ready

SHOWN = 60  # letters of a value that a message shows; a hash tells longer ones apart
NAMED = 4  # differences that a message shows
_TORCHS_OWN = vars(nn.Module()).keys() - {"training"}

Simple = str | int | float | None
PLAIN = str | int | float | tuple  # attributes of a class that count


def of_model(model: nn.Module) -> dict[str, Simple]:
    """What a model is apart from the weights that it learns: types, options, shapes and constants, by path."""
    entries, name = {}, "model"
    for path, module in model.named_modules(prefix=name):
        entries[path] = type(module).__qualname__
        entries |= {f"{path}.{key}": described(value) for key, value in _state(module).items()}
    saved = model.state_dict(prefix=f"{name}.")
    for path, value in (*model.named_parameters(prefix=name), *model.named_buffers(prefix=name)):
        frozen = isinstance(value, nn.Parameter) and not value.requires_grad
        constant = frozen or path not in saved
        entries[path] = described(value) if constant else f"{value.dtype} of shape {tuple(value.shape)}"
    return entries


def of_split(split) -> dict[str, Simple]:
    """What the rows of a split show: their number, and a digest for each modality."""
    shown: dict[str, list[str]] = {}
    if isinstance(split, PairedSplit):
        for name, items in split.items.items():
            observed = [] if split.observed is None else [split.observed[name]]
            shown[name] = [digest(items.values, split.index[name], *observed)]
    else:
        for rows in torch.arange(len(split)).split(CHUNK):
            batch, mask = ready(split.batch(rows, None), split.mask(rows))
            for name, x in batch.items():
                shown.setdefault(name, []).append(digest(x, mask[name]))
    entries = {"split": type(split).__qualname__, "split.rows": len(split)}
    return entries | {f"split.{name}": _hash("".join(parts)) for name, parts in shown.items()}


def described(value: object, above: tuple[int, ...] = ()) -> Simple:
    """A simple value as it is, others as a text: arrays by content, objects by type and attributes.

    ``above`` holds the ids of what the value is a part of.
    """
    if isinstance(value, Simple) and value == value:  # NaN is not itself in JSON either
        return repr(value) if above else value
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf"):
        value = torch.as_tensor(value)
        return f"{value.dtype} of shape {tuple(value.shape)} with content {digest(value)}"
    if id(value) in above:
        return "..."
    inner = functools.partial(described, above=(*above, id(value)))
    if isinstance(value, Mapping):
        text = f"{{{', '.join(f'{inner(key)}: {inner(entry)}' for key, entry in value.items())}}}"
    elif isinstance(value, list | tuple | set | frozenset):
        order = sorted if isinstance(value, set | frozenset) else list
        text = f"[{', '.join(order(map(inner, value)))}]"
    elif not hasattr(value, "__qualname__") and _state(value):
        text = f"{type(value).__qualname__}({', '.join(f'{k}={inner(v)}' for k, v in _state(value).items())})"
    else:
        text = re.sub(" at 0x[0-9a-f]+", "", repr(value))
    if above or len(text) <= SHOWN:
        return text
    return f"{text[:SHOWN]}... ({_hash(text)})"


def digest(*tensors: Tensor) -> str:
    """The first 12 digits of the SHA-256 of what tensors hold."""
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return content.hexdigest()[:12]


def check_identity(found: Mapping, expected: Mapping, what: str) -> None:
    """Refuse to continue a run as another one.

    Raises:
        ValueError: naming the entries that differ, as found and as expected.
    """
    names = [name for name in dict.fromkeys((*expected, *found)) if found.get(name) != expected.get(name)]
    if names:
        shown = "; ".join(f"{n} is {found.get(n)!r}, expected {expected.get(n)!r}" for n in names[:NAMED])
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise ValueError(f"{what} belongs to another run: {shown}{more}")


def _state(value: object) -> dict[str, object]:
    """Attributes of an object and simple ones of its class, without what torch keeps in every module."""
    state = {}
    for cls in reversed(type(value).__mro__):
        if not cls.__module__.startswith("torch."):
            state |= {key: entry for key, entry in vars(cls).items() if isinstance(entry, PLAIN)}
    state |= getattr(value, "__dict__", {})
    return {key: entry for key, entry in state.items() if key not in _TORCHS_OWN and key[:2] != "__"}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
