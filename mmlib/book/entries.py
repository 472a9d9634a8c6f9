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
_WORDS = {str: "a text", int: "an integer", float: "a finite number", bool: "true or false", NoneType: "null"}


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
    option = next((option for option in options if _fits(value, option)), None)
    said = text if len(text := repr(value)) <= 90 else f"{text[:86]} ..."
    if option is None:
        raise ValueError(f"{place} is {said}; expected {' or '.join(map(_words, options))}")
    origin, inside = get_origin(option) or option, get_args(option)
    if origin is dict and inside:
        if is_dataclass(inside[1]):
            return _by_id(value, inside[1], place)
        return {
            fit(key, str, f"{place}: name"): fit(value[key], inside[1], f"{place}: {key}") for key in value
        }
    if origin is tuple:
        found = tuple(fit(item, inside[0], place) for item in value)
        if len(set(found)) < len(found):
            raise ValueError(f"{place} is {said}; expected everything once")
        return found
    if is_dataclass(origin):
        return _entry(value, origin, place)
    value = value.strip() if isinstance(value, str) else value
    return _made(place, lambda: origin.read(value)) if hasattr(origin, "read") else value


def _fits(value: object, option) -> bool:
    """Whether a value is what an annotation asks for; what is inside it is not looked at."""
    origin, inside = get_origin(option) or option, get_args(option)
    if origin is Literal:
        return isinstance(value, str) and value in inside
    if origin is str or hasattr(origin, "read"):
        return isinstance(value, str) and bool(value.strip())
    if origin is float:
        return type(value) in (int, float) and abs(value) < math.inf
    if origin is dict and inside and is_dataclass(inside[1]):
        return type(value) in (dict, list)
    return type(value) is (list if origin is tuple else dict if is_dataclass(origin) else origin)


def _words(option) -> str:
    origin = get_origin(option) or option
    if origin is Literal:
        return f"one of {', '.join(get_args(option))}"
    if is_dataclass(origin):
        return f"the fields of {origin.__name__}"
    return _WORDS.get(origin, "a list" if origin is tuple else "a mapping" if origin is dict else "a text")


def _by_id(values: dict | list, kind: type[T], place: str) -> dict[str, T]:
    if isinstance(values, dict):
        values = [
            {"id": key} | item if isinstance(item, dict) else {key: item} for key, item in values.items()
        ]
    found = {}
    for number, item in enumerate(values, 1):
        id = item.get("id") if isinstance(item, dict) else None
        made = fit(item, kind, f"{place}: {id if isinstance(id, str) else f'entry {number}'}")
        if made.id in found:
            raise ValueError(f"{place}: {made.id} occurs twice; expected every id once")
        found[made.id] = made
    return found


def _entry(values: dict, kind: type[T], place: str) -> T:
    known, hints = {field.name: field for field in fields(kind)}, get_type_hints(kind)
    required = {name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING}
    unknown, missing = sorted(map(str, set(values) - set(known))), sorted(required - set(values))
    if unknown or missing:
        has = ", ".join(known)
        raise ValueError(f"{place}: unknown fields {unknown}, missing {missing}; {kind.__name__} has {has}")
    found = {name: fit(value, hints[name], f"{place}: {name}") for name, value in values.items()}
    return _made(place, lambda: kind(**found))


def _made(place: str, make: Callable[[], T]) -> T:
    try:
        return make()
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
