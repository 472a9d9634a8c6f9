"""Checks of arguments that every part of the library makes in the same words."""

import difflib
import operator
from collections.abc import Iterable, Mapping

FEW = 12  # names that are listed in full


def unknown(argument: str, name: object, known: Iterable[str], listed: str = "") -> ValueError:
    """The error for a name that is not known: all names if they are few, else the nearest and where the list is.

    Args:
        argument: as the user typed it.
        name: what was given.
        known: what would have been right.
        listed: what lists all of them, such as a command.

    Example:
        >>> unknown("split", "trian", ["train", "test"])
        ValueError("split is 'trian'; expected one of train, test")
    """
    known = list(known)
    if len(known) <= FEW:
        return ValueError(f"{argument} is {name!r}; expected one of {', '.join(known) or 'none'}")
    near = difflib.get_close_matches(str(name), known)
    where = f" that {listed} lists" if listed else ""
    nearest = f", such as {' or '.join(near)}" if near else ""
    return ValueError(f"{argument} is {name!r}; expected one of {len(known)} names{where}{nearest}")


def look_up(argument: str, name: object, known: Mapping, listed: str = ""):
    """What is known under a name.

    Raises:
        ValueError: as :func:`unknown` says it.
    """
    if not isinstance(name, str) or name not in known:
        raise unknown(argument, name, known, listed)
    return known[name]


def whole(argument: str, value: object, least: int = 1) -> int:
    """An integer, of NumPy or of Python, as Python's; a boolean is none.

    Raises:
        ValueError: if it is no integer, or smaller than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least:
        raise ValueError(f"{argument} is {value!r}; expected an integer of at least {least}")
    return number
