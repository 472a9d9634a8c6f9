"""Options as a user types them, each checked once: numbers of the right kind and range, names among those known.

NumPy's numbers count as Python's own; what comes back is a plain ``int`` or ``float``. Every message names the option,
what was given and what is expected.
"""

import contextlib
import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import TypeVar

T = TypeVar("T")
FEW = 12  # names that a message lists in full


def whole(name: str, value: object, least: int = 1, most: float = math.inf) -> int:
    """``value`` as an integer from ``least`` to ``most``.

    Raises:
        ValueError: for anything else: a string, a fraction (``2.0`` too), a truth value, infinity.
    """
    if isinstance(value, Integral) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    bound = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
    raise ValueError(f"{name} is {value!r}; expected an integer {bound}")


def real(
    name: str, value: object, least: float = -math.inf, most: float = math.inf, open: bool = False
) -> float:
    """``value`` as a finite float from ``least`` to ``most``; with ``open`` neither of the two itself.

    Raises:
        ValueError: for anything else: a string, a truth value, NaN, infinity.
    """
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # an integer beyond all floats
            number = float(value)
    inside = least < number < most or (not open and number in (least, most))
    if inside and math.isfinite(number):
        return number
    if most < math.inf:
        bound = f"a number {'between' if open else 'from'} {least:g} {'and' if open else 'to'} {most:g}"
    elif least > -math.inf:
        bound = "a positive number" if open and least == 0 else f"a number of at least {least:g}"
    else:
        bound = "a finite number"
    raise ValueError(f"{name} is {value!r}; expected {bound}")


def positive(name: str, value: object) -> float:
    """``value`` as a finite float above 0.

    Raises:
        ValueError: for anything else.
    """
    return real(name, value, 0.0, open=True)


def one_of(name: str, value: T, known: Iterable[T]) -> T:
    """``value``, if it is among those ``known``: names, or ``(True, False)`` for a switch.

    Raises:
        ValueError: if it is not, as :func:`unknown` says it.
    """
    known = tuple(known)
    if isinstance(value, str | bool | int) and value in known:
        return value
    raise unknown(name, value, known)


def look_up(name: str, value: object, known: Mapping[str, T], listed: str = "") -> T:
    """What is known under the name ``value``.

    Raises:
        ValueError: if nothing is, as :func:`unknown` says it.
    """
    if isinstance(value, str) and value in known:
        return known[value]
    raise unknown(name, value, known, listed)


def per_name(
    argument: str, value: T | Mapping[str, T], names: Iterable[str], check: Callable | None = None, *limits
) -> dict[str, T]:
    """A value for each of the names: one for all, or a mapping that has just these.

    Each is what ``check(argument, value, *limits)`` makes of it, if there is a check.

    Raises:
        ValueError: if the mapping lacks a name or has another, or as ``check``.
    """
    each = value if isinstance(value, Mapping) else dict.fromkeys(names, value)
    if set(each) != set(names):
        raise ValueError(f"{argument} names {sorted(each)}; expected exactly {sorted(names)}")
    return {name: each[name] if check is None else check(argument, each[name], *limits) for name in names}


def for_some(argument: str, value: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    """A value for some of the names, or for none.

    Raises:
        ValueError: if it is no mapping, or one that has another name.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{argument} is {kind(value)}; expected a mapping from some of {list(names)}")
    if strange := sorted(map(str, {*value} - {*names})):
        raise ValueError(f"{argument} names {strange}; expected some of {list(names)}")
    return dict(value)


def unknown(name: str, value: object, known: Iterable, listed: str = "") -> ValueError:
    """The error for a value that is not among those ``known``: names a few in full, of many the nearest.

    Args:
        name: of the option.
        value: what was given.
        known: what would have been right.
        listed: the command that lists them, if they are many.
    """
    known = [str(entry) for entry in known]
    expected = f"one of {', '.join(known) or 'none'}"
    if len(known) > FEW:
        near = difflib.get_close_matches(str(value), known)
        expected = f"one of {len(known)} names" + f" that {listed} lists" * bool(listed)
        expected += f", such as {' or '.join(near)}" if near else ""
    return ValueError(f"{name} is {value!r}; expected {expected}")


def sizes(name: str, value: object, least: int = 0) -> tuple[int, ...]:
    """``value`` as the shape of one item, ``least`` axes or more: a tuple of integers of at least 1.

    Raises:
        ValueError: if it is none.
    """
    given = kind(value) if hasattr(value, "shape") else repr(value)  # not all numbers of an array
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        value = tuple(value)
        with contextlib.suppress(ValueError):
            if len(value) >= least:
                return tuple(whole(name, size) for size in value)
    raise ValueError(f"{name} is {given}; expected sizes of at least 1, for example (1, 28, 28)")


def check_has(name: str, value: object, needs: Iterable[str], expected: str) -> None:
    """Refuse a value without the attributes that it ``needs``; a class in place of its object too.

    Raises:
        ValueError: saying what it is, what it lacks, and what is ``expected``.
    """
    missing = [need for need in needs if isinstance(value, type) or not hasattr(value, need)]
    if missing:
        raise ValueError(f"{name} is {kind(value)}, without {missing[0].strip('_')}; expected {expected}")


def kind(value: object) -> str:
    """What a value is, in words, where the value itself may be long."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    return f"of type {type(value).__name__}{shape}"
