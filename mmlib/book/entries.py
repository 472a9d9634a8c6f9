"""Entries of the files in ``data``: dataclasses, whose annotations say what the fields of an entry may hold."""

import math
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mmlib.files import read_yaml

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
_PLAIN = {  # types in which a file holds what an annotation asks for, and the words for them
    str: ((str,), "a text"),
    int: ((int,), "an integer"),
    float: ((int, float), "a finite number"),
    bool: ((bool,), "true or false"),
    NoneType: ((NoneType,), "null"),
    tuple: ((list,), "a list"),
    dict: ((dict,), "a mapping"),
}


def load(path: Path | str, kind: type[T]) -> dict[str, T]:
    """The entries of a file that is a list of them, by id, in the order of the file.

    Raises:
        ValueError: names the file, the entry and the field that is not as ``kind`` has it.
    """
    return fit(read_yaml(path), dict[str, kind], Path(path).name)


def fit(value: object, kind, place: str):
    """A value of a file as an annotation has it.

    A text is not empty, and loses the spaces around it. A number is finite. A tuple is a list in the file, with
    everything once. A dataclass is a mapping of its fields, and a dictionary of such a mapping by id, or a list. A
    class with a method ``read`` is read from a text by it.

    Args:
        value: as read from the file.
        kind: the annotation.
        place: of the value, for the message.

    Raises:
        ValueError: if it does not fit; begins with the place.
    """
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    option = next((option for option in options if type(value) in _given(option)[0]), None)
    origin, inside = get_origin(option) or option, get_args(option)
    said, value = _short(value), value.strip() if isinstance(value, str) else value
    good = value in inside if origin is Literal else value == value and value not in ("", math.inf, -math.inf)
    if option is None or not good:
        expected = " or ".join(_given(option)[1] for option in options)
        raise ValueError(f"{place} is {said}; expected {expected}")
    if origin is dict and _holds_entries(option):
        return _by_id(value, inside[1], place)
    if origin is dict and inside:
        return {
            fit(key, str, f"{place}: name"): fit(value[key], inside[1], f"{place}: {key}") for key in value
        }
    if origin is tuple:
        found = tuple(fit(item, inside[0], place) for item in value)
        if len(set(found)) < len(found):
            raise ValueError(f"{place} is {said}; expected everything once")
        return found
    if hasattr(origin, "read"):
        return _made(place, lambda: origin.read(value))
    return _entry(value, origin, place) if is_dataclass(origin) else value


def _given(option) -> tuple[tuple[type, ...], str]:
    origin = get_origin(option) or option
    if origin is Literal:
        return (str,), f"one of {', '.join(get_args(option))}"
    if is_dataclass(origin):
        return (dict,), f"the fields of {origin.__name__}"
    if _holds_entries(option):
        return (dict, list), "entries with ids"
    return _PLAIN[str if hasattr(origin, "read") else origin]


def _holds_entries(option) -> bool:
    return get_origin(option) is dict and is_dataclass(get_args(option)[1])


def _by_id(values: dict | list, kind: type[T], place: str) -> dict[str, T]:
    if isinstance(values, dict):
        values = [
            {"id": key} | item if isinstance(item, dict) else {key: item} for key, item in values.items()
        ]
    found = {}
    for number, item in enumerate(values, 1):
        id = item.get("id") if isinstance(item, dict) else None
        made = _entry(item, kind, f"{place}: {id if isinstance(id, str) else f'entry {number}'}")
        if made.id in found:
            raise ValueError(f"{place}: {made.id} occurs twice; expected every id once")
        found[made.id] = made
    return found


def _entry(values: object, kind: type[T], place: str) -> T:
    if not isinstance(values, dict):
        raise ValueError(f"{place} is {_short(values)}; expected the fields of {kind.__name__}")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(map(str, set(values) - set(known)))
    required = [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    missing = sorted(set(required) - set(values))
    if unknown or missing:
        has = ", ".join(known)
        raise ValueError(f"{place}: unknown fields {unknown}, missing {missing}; {kind.__name__} has {has}")
    hints = get_type_hints(kind)
    found = {name: fit(value, hints[name], f"{place}: {name}") for name, value in values.items()}
    return _made(place, lambda: kind(**found))


def _made(place: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _short(value: object, limit: int = 90) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."
