"""The register of equations: one function and at least one test for every label."""

import re
from pathlib import Path

import pytest

from mmlib import bounds
from mmlib.equations import find, registered

TESTS = Path(__file__).parent


def test_every_label_has_one_function():
    labels = [equation.label for equation in registered()]
    assert len(labels) == len(set(labels)), sorted(label for label in set(labels) if labels.count(label) > 1)
    assert "eq-iwae" in labels
    assert "eq-mixture-of-experts" in labels  # a method


def test_every_label_has_a_test_and_every_marked_label_has_a_function():
    marked = set()
    for path in TESTS.glob("test_*.py"):
        marked |= set(re.findall(r"mark\.equation\(\"(eq-[a-z0-9-]+)\"\)", path.read_text()))
    assert marked == {equation.label for equation in registered()}


def test_an_equation_shows_the_source_of_its_function():
    equation = find("eq-iwae")
    assert equation.function is bounds.iwae
    assert equation.where == "bounds.iwae"
    assert equation.source.startswith("def iwae(")
    with pytest.raises(ValueError, match="label is 'eq-nothing'"):
        find("eq-nothing")
