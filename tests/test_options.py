"""Numbers that are none, wherever the library is given one: each is refused by its name. NumPy's are numbers."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_every_model import build, fragile_parts

from mmlib import likelihoods, nets
from mmlib.lab import LinearGaussian, quadrature, shared_code
from mmlib.lab.ali import play
from mmlib.lab.game import Game
from mmlib.models import MODELS
from mmlib.nets.discriminators import Layers

WRONG = ["3", "", None, math.nan, math.inf, -math.inf, True, [1], torch.tensor(1.0), 1j, -1, np.float32(-0.5)]
GIVEN = {  # what is asked for besides, by name
    "shape": (3, 8, 8),
    "shapes": {"a": (1, 8, 8), "b": (3, 8, 8)},
    "data": {"a": (1, 8, 8), "b": (3, 8, 8)},
    "sizes": {"a": 3},
    "classes": 3,
    "likelihood": likelihoods.LaplaceLikelihood(),
    "values": 2,
    "keep": 0.6,
    "latent_dim": 2,
    "starts": 2,
    "symbols": 71,
    "steps": 2,
    "modalities": 2,
}


def likelihood_classes():
    return [
        c for c in vars(likelihoods).values() if inspect.isclass(c) and c.__module__ == likelihoods.__name__
    ]


def makers():
    """Everything that is made from numbers, by name: whatever models, networks and likelihoods there are."""
    found = {
        f"models.{name}": lambda cls=cls, **o: build(cls, fragile_parts(), **o)
        for name, cls in MODELS.items()
    }
    signatures = {f"models.{name}": inspect.signature(cls) for name, cls in MODELS.items()}
    others = [nets.modalities]
    others += [
        each for each in vars(nets).values() if getattr(each, "__module__", "").startswith("mmlib.nets.")
    ]
    others += [*likelihood_classes(), LinearGaussian.make, Game.make, quadrature.grid, play, Layers]
    others += [shared_code.with_shared_code, shared_code.with_styles, shared_code.best_keep]
    for make in others:
        found[make.__qualname__], signatures[make.__qualname__] = make, inspect.signature(make)
    return found, signatures


MAKERS, SIGNATURES = makers()
UNBOUND = {"low", "high", "seed"}  # any finite number will do, or (tests/test_checks.py) any integer from 0


def numbers(name):
    """The options of a maker that are numbers."""
    for parameter in SIGNATURES[name].parameters.values():
        kind = str(parameter.annotation)
        if kind.startswith(("int", "float", "<class 'int'", "<class 'float'")):
            yield parameter.name, kind


OPTIONS = [(name, option, kind) for name in MAKERS for option, kind in numbers(name)]


def make(name, **options):
    asked = SIGNATURES[name].parameters
    given = {key: value for key, value in GIVEN.items() if key in asked and not name.startswith("models.")}
    if name.startswith(("Text", "Caption", "Feature", "ResidualEncoder")) and "shape" in given:
        given["shape"] = (8, 71) if "Decoder" in name and not name.startswith("Feature") else (8,)
    if name.startswith(("Caption", "cub")) and "data" in given:
        given["data"] = SimpleNamespace(shapes={"image": (16,), "caption": (8,)}, symbols={"caption": 71})
    if name.startswith("models."):  # the first two are what `build` gives
        size = options.pop(list(asked)[1], 2)
        return MAKERS[name](latent_dim=size, **options)
    return MAKERS[name](**{**given, **options})


@pytest.mark.parametrize(("name", "option", "kind"), OPTIONS)
def test_what_is_no_number_is_refused_by_name(name, option, kind):
    wrong = [*WRONG, 1.5] if "float" not in kind else WRONG
    wrong = [value for value in wrong if not (value is None and "None" in kind)]
    if option in UNBOUND:
        wrong = [value for value in wrong if not isinstance(value, int | np.floating) or value is True]
    for value in wrong:
        with pytest.raises(ValueError, match=option):
            make(name, **{option: value})


@pytest.mark.parametrize(("name", "option", "kind"), OPTIONS)
def test_numbers_of_numpy_are_numbers(name, option, kind):
    default = SIGNATURES[name].parameters[option].default
    value = GIVEN.get(option, 2) if default is inspect.Parameter.empty else default
    if isinstance(value, int | float) and not isinstance(value, bool):
        made = make(name, **{option: np.int64(value) if isinstance(value, int) else np.float64(value)})
        assert type(made) is type(make(name, **{option: value}))
        kept = [key for key, entry in getattr(made, "__dict__", {}).items() if isinstance(entry, np.generic)]
        assert not kept, f"{kept} are numbers of NumPy's, which checkpoints and results could not hold"
