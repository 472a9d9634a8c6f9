"""The playground's models: what PyTorch computes from picture to code to picture, written down for a browser.

A function is run once on an example, and every operation on the way from its input to its outputs is recorded: what
depends on parameters alone is a constant, what no output depends on is left out. So any model can be written down whose
operations are among those below, whatever its modules look like.
"""

import base64
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.module_tracker import ModuleTracker

from mmlib.book.pages import BOOK
from mmlib.models import MODELS, Contrastive, get_model
from mmlib.plots.style import look
from mmlib.runs import trained
from mmlib.runs.recipes import RECIPES
from mmlib.seeding import generator

DATA = "hand-street"
EXAMPLES = 3  # of each digit and modality, the first of the validation split


class Step(NamedTuple):
    """One operation that was seen: its name, arguments in which a `Value` stands for a tensor, and in which module."""

    name: str
    args: list
    out: list[Tensor]
    module: str


class Recorder(TorchDispatchMode):
    """Notes every operation on what depends on ``start`` while it is active."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.steps, self.tracker = [], ModuleTracker()
        self.live = {id(start): start}  # holding them keeps their ids from being given to others

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Do what is asked, and note it."""
        out, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        name = str(func).removeprefix("aten.")
        if name.split(".")[0] not in SHAPES_ONLY and any(id(x) in self.live for x in tree_leaves(args)):
            made = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
            self.live |= {id(x): x for x in made}
            inside = max(self.tracker.parents, key=len)
            self.steps.append(Step(name, [*args, *kwargs.values()], made, inside))
        return out


# What depends on the shape of a tensor alone, and what changes nothing of it.
SHAPES_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full"}
NOTHING = {"clone.default", "detach.default", "alias.default", "lift_fresh.default"}
RESHAPES = {"view.default", "_unsafe_view.default", "unsqueeze.default", "squeeze.dim", "squeeze.default"}
UNARY = {"relu", "sigmoid", "softplus", "tanh", "exp", "log", "sqrt", "rsqrt", "reciprocal", "neg", "square"}
BINARY = {"add", "sub", "mul", "div", "pow", "maximum", "minimum"}
Translated = tuple[str, list, dict]  # operation of network.js, its inputs (tensors or numbers), its options


def translate(step: Step, which: int = 0) -> Translated:
    """A step as the operation of ``network.js`` that gives its output number ``which``.

    Raises:
        ValueError: if there is none, naming operation and layer.
    """
    out, args, kind = step.out[which], step.args, step.name.split(".")[0]
    shape = list(out.shape)
    if step.name in NOTHING or (step.name == "masked_fill.Scalar" and not bool(args[1].any())):
        return "identity", args[:1], {}
    if step.name in RESHAPES:
        return "reshape", args[:1], {"shape": shape}
    if (kind in UNARY and len(args) == 1) or (kind in BINARY and len(args) == 2):
        return kind, args, {}
    match step.name, args:
        case "addmm.default", [bias, x, weight]:
            return "linear", [x, weight, bias], {}
        case "convolution.default", [x, weight, bias, stride, padding, [1, 1], transposed, odd, 1]:
            if stride[0] == stride[1] and padding[0] == padding[1] and not any(odd):
                name = "transposed_convolution" if transposed else "convolution"
                size = {"shape": [out.shape[i] for i in (0, 2, 3, 1)]} if transposed else {}
                filters = weight.permute(2, 3, 1, 0)  # as TensorFlow has them
                return name, [x, filters, bias], {"stride": stride[0], "padding": padding[0], **size}
        case "slice.Tensor", [x, dim, start, end]:
            return "slice", [x], _part(x, dim, slice(start, end), shape)
        case "select.int", [x, dim, at]:
            return "slice", [x], _part(x, dim, slice(at % x.shape[dim], None), shape)
        case "unbind.int", [x, *dim]:
            return "slice", [x], _part(x, *(dim or [0]), slice(which, None), shape)
        case "index.Tensor", [x, [*places]] if all(at is not None and at.ndim == 1 for at in places):
            return "gather", [x], {"at": torch.stack(places, -1).tolist()}
        case "stack.default", [parts]:
            return "stack", parts, {"axis": 0}
        case (("stack.default" | "cat.default"), [parts, axis]):
            return ("stack" if kind == "stack" else "concat"), parts, {"axis": axis % out.ndim}
        case "sum.dim_IntList", [x, axes, *keep]:
            return "sum", [x], {"axes": [axis % x.ndim for axis in axes], "keep": keep == [True]}
        case "clamp.default", [x, low, high]:
            return "clip", [x], {"low": low, "high": high}
        case "_softmax.default", [x, axis, False] if axis % x.ndim == x.ndim - 1:
            return "softmax", [x], {}
        case "pixel_shuffle.default", [x, factor]:
            return "pixel_shuffle", [x], {"factor": factor, "shape": shape}
    inputs = tree_map_only(Tensor, lambda x: tuple(x.shape), args)
    raise ValueError(
        f"{step.name} in {step.module} of inputs {inputs}: the playground has no such operation; add it to "
        "translate in mmlib/book/playground.py and to OPERATIONS in network.js"
    )


def _part(x: Tensor, dim: int, part: slice, shape: list[int]) -> dict:
    """Options of a slice: where it begins in ``x``, how large it is there, and the shape of what comes out."""
    begin, size = [0] * x.ndim, list(x.shape)
    begin[dim] = part.indices(x.shape[dim])[0]
    size[dim] = shape[dim] if len(shape) == x.ndim else 1
    return {"begin": begin, "size": size, "shape": shape}


@torch.no_grad()
def record(function: Callable[[Tensor], Sequence[Tensor]], example: Tensor) -> dict:
    """What ``function`` computes, JSON-able: ``constants``, ``steps``, and which values are its ``outputs``.

    Values have numbers: 0 is the input, then come the constants, then what each step gives. A step is [operation,
    numbers of its inputs, options]. A constant is [shape, bytes a number]; their numbers stand one after the other in
    ``data``, base64, in half precision where that is exact, else in single.

    Raises:
        ValueError: as `translate`.
    """
    example = example.clone()
    with Recorder(example) as recorder, recorder.tracker:
        outputs = list(function(example))
    made = {id(x): (step, which) for step in recorder.steps for which, x in enumerate(step.out)}
    data, steps = {}, {}  # constants and operations by what they are, so that nothing is there twice

    def place(x: Tensor | float) -> tuple[str, int]:
        """Where a value stands: the input, a constant, or what a step gives; that and all before it are added."""
        if x is example:
            return "input", 0
        if id(x) not in made:
            constant = torch.as_tensor(x, dtype=torch.float32)
            width, numbers = _packed(constant)
            key = (*constant.shape, width, numbers)
            data.setdefault(key, [list(constant.shape), width])
            return "constant", list(data).index(key)
        name, inputs, options = translate(*made[id(x)])
        if name == "identity":
            return place(inputs[0])
        key = json.dumps([name, [place(each) for each in inputs], options])
        return "step", steps.setdefault(key, len(steps))

    places = [place(x) for x in outputs]
    first = {"input": 0, "constant": 1, "step": 1 + len(data)}

    def numbered(step: str) -> list:
        name, inputs, options = json.loads(step)
        return [name, [first[kind] + number for kind, number in inputs], options]

    return {
        "constants": list(data.values()),
        "data": base64.b64encode(b"".join(key[-1] for key in data)).decode(),
        "steps": [numbered(step) for step in steps],
        "outputs": [first[kind] + number for kind, number in places],
    }


def _packed(x: Tensor) -> tuple[int, bytes]:
    """Bytes a number, and the numbers, little-endian."""
    exact = bool((x.half().float() == x).all())
    array = x.contiguous().numpy().astype("<f2" if exact else "<f4")
    return array.itemsize, array.tobytes()


# --- models ---------------------------------------------------------------------------------------------------------


def read(model: nn.Module, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the posterior of the shared code [B, C] given one modality, and of its style [B, S]."""
    return model.posterior({name: x}).mean, model.encode(name, x).split(model.style_dims[name])[0].loc


def draw(model: nn.Module, name: str, code: Tensor) -> Tensor:
    """The mean item [B, *shape] that a modality's decoder makes of [style, shared code], [B, S + C]."""
    modality = model.modalities[name]
    return modality.likelihood.mean(modality.decode(code))


def written(model: nn.Module, batch: dict[str, Tensor]) -> dict:
    """A model as ``network.js`` runs it: for each modality how it is read and drawn, and a style drawn from the prior.

    Any row of a ``batch`` serves as example. Raises as `translate`.
    """
    found, draws = {"read": {}, "draw": {}, "style": {}}, generator(0)
    for name, x in batch.items():
        found["style"][name] = torch.randn(model.style_dims[name], generator=draws).tolist()
        found["read"][name] = record(lambda x, name=name: read(model, name, x), x[:1])
        with torch.no_grad():
            content, style = read(model, name, x[:1])
        code = torch.cat([style, content], -1)
        found["draw"][name] = record(lambda z, name=name: [draw(model, name, z)], code)
    return found


def recorded_models() -> list[str]:
    """Recipes of all models with recorded weights on the playground's data, plain ones first, as `MODELS` has them."""
    found = [name for name in trained.recorded_weights() if RECIPES[name].dataset == DATA]
    return sorted(
        found, key=lambda name: (title(name).startswith("cI-"), [*MODELS].index(RECIPES[name].model))
    )


def title(recipe: str) -> str:
    """What the book calls a recipe's model, such as cI-MMVAE."""
    kind = get_model(RECIPES[recipe].model)
    name = {"MMJSD": "mmJSD", "TELBO": "tELBO"}
    plain = kind.__name__.removeprefix("Contrastive")
    return f"{'cI-' if issubclass(kind, Contrastive) else ''}{name.get(plain, plain)}"


def chapter(model: str) -> str:
    """The page that derives a model, by its name in `MODELS`; empty if it has none of its own."""
    page = "contrast" if model.startswith("contrastive") else model
    return f"{page}.html" if [*BOOK.glob(f"{page}.*")] else ""


def examples(split) -> dict[str, list]:
    """The first `EXAMPLES` items of each digit and modality: [digit, its pixels as bytes, base64], digit by digit."""
    batch = split.batch(torch.arange(len(split)))
    found = {name: [] for name in batch}
    for name, x in batch.items():
        for digit in range(10):
            for row in (split.labels == digit).nonzero()[:EXAMPLES, 0]:
                pixels = (x[row] * 255).round().byte().numpy().tobytes()
                found[name].append([digit, base64.b64encode(pixels).decode()])
    return found


def script(cache=None) -> str:
    """The playground's data as a script that sets ``PLAYGROUND``: every recorded model, and items to start from.

    Raises:
        ValueError: for a model with an operation that the browser does not know, naming the recipe and the layer.
    """
    models = []
    for name in recorded_models():
        model, data = trained.load_recorded(name, cache=cache)
        try:
            networks = written(model, data.validation.batch(torch.arange(1)))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        kind = RECIPES[name].model
        facts = {"recipe": name, "title": title(name), "page": chapter(kind), "colour": look(kind)["color"]}
        models.append(facts | networks)
    made = {"shapes": data.shapes, "models": models, "examples": examples(data.validation)}
    return f"const PLAYGROUND = {json.dumps(made, separators=(',', ':'))};\n"
