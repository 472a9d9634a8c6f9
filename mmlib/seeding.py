"""Random numbers from named seeds, and the device that draws them."""

import hashlib
import random

import numpy as np
import torch

from mmlib.checks import whole


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and every torch device: the first line of a script, never called inside the library.

    Raises:
        ValueError: if ``seed`` is negative.
    """
    seed = whole("seed", seed, 0)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - other libraries draw from it
    torch.manual_seed(seed)


def generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of its own, seeded, on ``device``.

    Raises:
        ValueError: if ``seed`` is negative.
    """
    return torch.Generator(device).manual_seed(whole("seed", seed, 0))


def child(seed: int, *names: str | int) -> int:
    """The seed of a named stream: ``child(0, "weights")`` and ``child(0, "noise")`` have nothing in common.

    Example:
        >>> child(0, "weights") == child(0, "weights"), child(0, "weights") == child(1, "weights")
        (True, False)
    """
    text = "/".join(str(part) for part in (whole("seed", seed, 0), *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def check_device(name: str | torch.device) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: if there is no such device on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # torch raises one or another, by its build
        count = torch.cuda.device_count()
        have = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        raise ValueError(f"device is {str(name)!r}; expected one that this machine has: {have}") from error
    return device
