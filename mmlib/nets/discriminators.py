"""Spectrally normalised discriminators: of pairs (item, code), of items against each other, and of everything at once.

The largest singular value of every weight matrix is held at ``multiplier`` (1 in the paper), estimated by
``power_iterations`` steps of power iteration in every forward pass in training mode. With LeakyReLU between them, L
perceptron layers then have a slope of at most ``multiplier ** L``, as far as the estimate is right. The kernel of a
convolution is normalised as a matrix [out, in * height * width], which bounds its slope only up to a factor.

An item is often judged beside several codes. The networks therefore take the items ``x`` [A, B, *shape], blocks of
codes [n, B, D] and, for every block of codes, the number of the block of items that it goes with: what depends on the
item alone is computed once.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from mmlib.checks import look_up, positive, whole
from mmlib.modality import Batch, Shape, Shapes
from mmlib.nets.choice import networks_for
from mmlib.nets.common import check_shape, scaled
from mmlib.nets.convolutions import ToCode
from mmlib.nets.svhn import SvhnEncoder, channel_plan, map_sizes

SLOPE = 0.2  # of the LeakyReLU below zero
HEADS = ("perceptron", "inner")


@dataclass(frozen=True)
class Layers:
    """Units of the hidden layers, and how every layer is made.

    Attributes:
        pair: of the perceptron that judges a grey image (or a vector) together with a code.
        branch: of the perceptron that turns one item into features; a colour image goes through the convolutions of
            the SVHN encoder to as many features as the last entry says.
        head: of the perceptron that joins the features.
        convolutions: False: colour images are vectors too.
        apart: vectors, too, go through a branch of their own before they meet a code, as colour images do.
        width: factor on all of them.
        multiplier: largest singular value of every weight.
        power_iterations: by which it is estimated, in every forward pass in training mode. ``"released"``: as many as
            the calls of a network in a step of the released code, see `called`.
        init_std: standard deviation of the initial weights, with biases 0; None: PyTorch's own.
    """

    pair: tuple[int, ...] = (400,)
    branch: tuple[int, ...] = (400, 256)
    head: tuple[int, ...] = (1024, 1024)
    convolutions: bool = True
    apart: bool = False
    width: float = 1.0
    multiplier: float = 1.0
    power_iterations: int | str = 1
    init_std: float | None = None

    def __post_init__(self) -> None:
        for name in ("width", "multiplier", "init_std"):
            if getattr(self, name) is not None or name != "init_std":
                object.__setattr__(self, name, positive(name, getattr(self, name)))
        if self.power_iterations != "released":
            object.__setattr__(self, "power_iterations", whole("power_iterations", self.power_iterations))

    def called(self, times: int) -> Layers:
        """Those of a network that the released code calls so often in a step, its generator's update included.

        There each call is one power iteration. Here they are all made ahead of the discriminator's update, the only
        time in a step at which weights are normalised anew.
        """
        return replace(self, power_iterations=times) if self.power_iterations == "released" else self

    def units(self, part: str) -> list[int]:
        """Units of the layers of ``"pair"``, ``"branch"`` or ``"head"`` after the width factor."""
        return [scaled(units, self.width) for units in getattr(self, part)]

    @property
    def features(self) -> int:
        """Features that come out of a branch."""
        return self.units("branch")[-1]

    def convolves(self, shape: Shape) -> bool:
        """Whether items of this shape go through convolutions."""
        return self.convolutions and networks_for(shape)[0] is SvhnEncoder

    def normalised(self, layer: nn.Module) -> nn.Module:
        """The layer with its weight kept at the largest singular value ``multiplier``."""
        if self.init_std is not None:
            initialise(layer, self.init_std)
        parametrizations.spectral_norm(layer, n_power_iterations=self.power_iterations)
        if self.multiplier != 1.0:
            parametrize.register_parametrization(layer, "weight", Multiplied(self.multiplier))
        return layer

    def linear(self, before: int, after: int) -> nn.Module:
        """A normalised linear layer."""
        return self.normalised(nn.Linear(before, after))

    def perceptron(self, units: Sequence[int]) -> nn.Sequential:
        """Normalised linear layers through these numbers of units, a LeakyReLU after each."""
        layers: list[nn.Module] = []
        for before, after in pairwise(units):
            layers += [self.linear(before, after), nn.LeakyReLU(SLOPE)]
        return nn.Sequential(*layers)

    def branch_of(self, shape: Shape) -> nn.Sequential:
        """Items [N, *shape] to features [N, features]."""
        if not self.convolves(shape):
            return nn.Sequential(nn.Flatten(), *self.perceptron([math.prod(shape), *self.units("branch")]))
        layers: list[nn.Module] = []
        channels = [shape[0], *channel_plan(shape, self.width)]
        for before, after in pairwise(channels):
            convolution = nn.Conv2d(before, after, 4, stride=2, padding=1)
            layers += [self.normalised(convolution), nn.LeakyReLU(SLOPE)]
        last = self.normalised(ToCode(channels[-1], self.features, map_sizes(shape)[-1]))
        return nn.Sequential(*layers, last, nn.LeakyReLU(SLOPE), nn.Flatten())

    def branches_of(self, shapes: Shapes) -> nn.ModuleDict:
        """A branch for the items of each modality, by name."""
        return nn.ModuleDict({name: self.branch_of(shape) for name, shape in shapes.items()})

    def joining(self, branches: int, outputs: int) -> tuple[nn.Sequential, nn.Module]:
        """A head on the features of so many branches, and the last layer, which gives outputs."""
        units = self.units("head")
        return self.perceptron([branches * self.features, *units]), self.linear(units[-1], outputs)


LAYERS = {
    "paper": Layers(),
    "small": Layers((128,), (128,), (128, 128)),  # for 8x8 images
    "flat": Layers((256,), (256,), (256, 256), convolutions=False),  # for 16x16 images in colour
    # Features of photographs, as in the released code, whose pairs have one layer of the head, and captions half the
    # units.
    "features": Layers((), (1024, 512, 256), (512, 512), apart=True),
}


def layers_named(layers: str | Layers, **attributes) -> Layers:
    """The layers of that name with these attributes; `Layers` are returned as they are.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(layers, Layers):
        return layers
    return replace(look_up("layers", layers, LAYERS), **attributes)


class Multiplied(nn.Module):
    """A weight times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        """``factor * weight``."""
        return self.factor * weight


class PerceptronPair(nn.Module):
    """Judges (item, code) by a perceptron on their concatenation: D0 and D1 of grey images and vectors."""

    def __init__(self, shape: Shape, code_dim: int, outputs: int, layers: Layers) -> None:
        super().__init__()
        self.pixels = math.prod(shape)
        units = layers.units("pair")
        self.first = layers.linear(self.pixels + code_dim, units[0])
        self.middle = layers.perceptron(units)
        self.last = layers.linear(units[-1], outputs)

    def forward(self, x: Tensor, code: Tensor, owner: Sequence[int]) -> Tensor:
        """Logits [n, B, outputs] of items [A, B, *shape], of which block k of the codes [n, B, D] has ``owner[k]``."""
        weight = self.first.weight  # asked for once: in training mode asking is a step of power iteration
        seen = F.linear(x.flatten(2), weight[:, : self.pixels])  # [A, B, units]
        told = F.linear(code, weight[:, self.pixels :], self.first.bias)  # [n, B, units]
        return self.last(self.middle(F.leaky_relu(blocks(seen, owner) + told, SLOPE)))


class BranchPair(nn.Module):
    """Judges (item, code) by a branch on the item, a perceptron on the code, and one on both: for colour images."""

    def __init__(self, shape: Shape, code_dim: int, outputs: int, layers: Layers) -> None:
        super().__init__()
        self.item = layers.branch_of(shape)
        self.code = layers.perceptron([code_dim, layers.features, layers.features])
        self.head, self.last = layers.joining(2, outputs)

    def forward(self, x: Tensor, code: Tensor, owner: Sequence[int]) -> Tensor:
        """Logits [n, B, outputs], as of `PerceptronPair`."""
        seen = in_blocks(self.item, x)
        return self.last(self.head(torch.cat([blocks(seen, owner), self.code(code)], -1)))


def pair(shape: Shape, code_dim: int, outputs: int, layers: Layers) -> nn.Module:
    """The network that gives so many logits for items of this shape together with codes of ``code_dim`` entries."""
    network = BranchPair if layers.apart or layers.convolves(shape) else PerceptronPair
    return network(check_shape(shape), code_dim, outputs, layers)


class Dependence(nn.Module):
    """T: whether items of all modalities belong together.

    Its ``head`` is a ``"perceptron"`` on all features, or ``"inner"``: the inner product of two modalities' features
    after one more linear layer each (released code, MNIST-SVHN).

    Raises:
        ValueError: for another head, or for an inner product of any number but two.
    """

    def __init__(self, shapes: Shapes, layers: Layers, head: str = "perceptron") -> None:
        super().__init__()
        if head not in HEADS or (head == "inner" and len(shapes) != 2):
            raise ValueError(
                f"head is {head!r} for {len(shapes)} modalities; expected 'perceptron', or 'inner' for two"
            )
        self.branches = layers.branches_of(shapes)
        self.inner = head == "inner"
        if self.inner:
            for branch in self.branches.values():
                branch.append(layers.linear(layers.features, layers.features))
        else:
            self.head, self.last = layers.joining(len(shapes), 1)

    def forward(self, x: Batch, shuffle: Tensor | None = None) -> Tensor:
        """Logits [A, B] of items [A, B, *shape] of every modality.

        With ``shuffle``, int64 [M, B], an order of the rows for each modality, they are [2A, B], of the items as they
        come and of the items shuffled.
        """
        features = [in_blocks(branch, x[name]) for name, branch in self.branches.items()]
        if shuffle is not None:
            features = [torch.cat([f, f[:, order]]) for f, order in zip(features, shuffle, strict=True)]
        if self.inner:
            return (features[0] * features[1]).sum(-1)
        return self.last(self.head(torch.cat(features, -1)))[..., 0]


class Everything(nn.Module):
    """Judges all items and one code, all styles and the content together: the monolithic discriminator."""

    def __init__(self, shapes: Shapes, code_dim: int, outputs: int, layers: Layers) -> None:
        super().__init__()
        self.branches = layers.branches_of(shapes)
        self.code = layers.perceptron([code_dim, *layers.units("branch")])
        self.head, self.last = layers.joining(len(shapes) + 1, outputs)

    def forward(self, x: Batch, code: Tensor, owner: Sequence[int]) -> Tensor:
        """Logits [n, B, outputs] of items [A, B, *shape] by name, with blocks of codes [n, B, D] owned as above."""
        seen = [in_blocks(branch, x[name]) for name, branch in self.branches.items()]
        joined = torch.cat([blocks(torch.cat(seen, -1), owner), self.code(code)], -1)
        return self.last(self.head(joined))


def blocks(x: Tensor, numbers: Sequence[int]) -> Tensor:
    """``x[numbers]`` along the first axis; much cheaper than indexing by a list, forwards and backwards."""
    parts = x.unbind(0)
    return torch.stack([parts[number] for number in numbers])


def in_blocks(branch: nn.Module, x: Tensor) -> Tensor:
    """A branch's features [A, B, features] of items [A, B, *shape]."""
    return branch(x.flatten(0, 1)).unflatten(0, x.shape[:2])


@torch.no_grad()
def initialise(module: nn.Module, std: float) -> nn.Module:
    """Draw the weights of all linear and convolutional layers from N(0, std^2) and set their biases to 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            layer.weight.normal_(0.0, std)
            layer.bias.zero_()
    return module


@contextlib.contextmanager
def held(module: nn.Module) -> Iterator[None]:
    """A network as a fixed function: inside, no weight of it learns and no power iteration moves.

    For what must not lead into it, such as the step of encoders and decoders into the discriminator. On leaving
    everything is as it was.
    """
    parts = list(module.modules())
    found = (weight for part in parts for weight in part._parameters.values())
    weights = [weight for weight in found if weight is not None and weight.requires_grad]
    iterating = [part for part in parts if part.training and hasattr(type(part), "_power_method")]
    for weight in weights:
        weight.requires_grad_(False)
    for part in iterating:
        part.training = False
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
        for part in iterating:
            part.training = True
