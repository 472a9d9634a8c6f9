"""The register of the book's equations: which function computes the equation with a given label.

A function registers itself by a line in its docstring that gives the label in double backticks after `Equation:`.
The same label stands beside the equation in a chapter and marks the tests of the function.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass

import mmlib

_LINE = re.compile(r"^\s*Equation: ``(eq-[a-z0-9-]+)``", re.MULTILINE)
_SOURCE = re.compile(r"^( *)Equation: ``eq-.*?Source: (.+(?:\n\1\S.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Equation:
    """A labelled equation and the function that computes it.

    Attributes:
        label: MyST label, as in a chapter.
        function: the function, or the method as a plain function.
        owner: the module or class that holds it.
        name: its name there.
    """

    label: str
    function: Callable
    owner: object
    name: str

    @property
    def where(self) -> str:
        """Dotted name below the package, for example bounds.iwae."""
        return f"{self.function.__module__.removeprefix('mmlib.')}.{self.function.__qualname__}"

    @property
    def source(self) -> str:
        """Where it is from: what follows "Source:" on the line of the label and on lines that are as deep."""
        found = _SOURCE.search(self.function.__doc__)
        return " ".join(found[2].split()) if found else ""


def registered() -> list[Equation]:
    """Every equation of the library, in the order of modules and lines; a label may wrongly occur twice."""
    found = []
    for module in _modules():
        own = [
            value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__
        ]
        here = [
            Equation(label, value, holder, name)
            for holder in (module, *filter(inspect.isclass, own))
            for name, value in vars(holder).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
            for label in _LINE.findall(value.__doc__ or "")
        ]
        found += sorted(here, key=lambda equation: equation.function.__code__.co_firstlineno)
    return found


def _modules() -> list:
    names = [info.name for info in pkgutil.walk_packages(mmlib.__path__, "mmlib.")]
    return [importlib.import_module(name) for name in names if not name.endswith("__main__")]
