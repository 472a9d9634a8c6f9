"""How steep the discriminators of MMALI can be, and are: the budget that spectral normalisation leaves them.

A slope is a Lipschitz constant: by how many nats a log-ratio can change at most for a step of length one of everything
that it sees together, the items, the styles and the content. LeakyReLU has slope 1, a linear layer the largest singular
value of its weight, a chain of layers the product, branches side by side the largest of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmlib.models.mmali_discriminators import FactorisedDiscriminator, JointDiscriminator, Side
from mmlib.nets.discriminators import ConvolutionPair, Dependence, PerceptronPair, held
from mmlib.ratios import log_ratios


def factorised_slope(dependence: Tensor, posterior: Tensor, unimodal: Tensor) -> Tensor:
    r"""Largest slope of the log-ratios log q_i/p that are sums of factors: [M].

    The factor D1_i, which cancels in log q_i/p, does not count.

    Equation: ``eq-factorised-slope``. Source: the triangle inequality, applied to Chen and Zhu 2022, Eqs. 7 and 10.
        Lip(log r_i) <= Lip(T) + sum_j Lip(D0_j) + sum_{j != i} Lip(D1_j)

    Args:
        dependence: slope of T, a scalar.
        posterior: slopes of D1, [M].
        unimodal: slopes of D0, [M].

    Raises:
        ValueError: if the shapes do not fit each other.
    """
    if posterior.shape != unimodal.shape or posterior.ndim != 1 or dependence.ndim != 0:
        raise ValueError(
            f"dependence, posterior and unimodal have shapes {tuple(dependence.shape)}, "
            f"{tuple(posterior.shape)} and {tuple(unimodal.shape)}; expected (), (M,) and (M,)"
        )
    return dependence + unimodal.sum() + posterior.sum() - posterior


@torch.no_grad()
def slope_bound(discriminator: FactorisedDiscriminator | JointDiscriminator) -> Tensor:
    """Bounds [M] on the slopes of the log-ratios log q_i/p that a discriminator gives, from its weights as they are.

    Differences of two logits of one network count sqrt(2) times its slope. Nothing is changed by asking.

    Raises:
        ValueError: for a dependence factor that is an inner product, which has no largest slope.
    """
    with held(discriminator):
        if isinstance(discriminator, JointDiscriminator):
            network = discriminator.network
            side = [*network.branches.values(), network.code]
            bound = math.sqrt(2) * _widest(side) * _chain([network.head, network.last])
            return bound.expand(len(network.branches))
        unimodal = torch.stack([_pair_slope(network) for network in discriminator.unimodal.values()])
        if discriminator.unimodal.multiway:
            unimodal = math.sqrt(2) * unimodal
        if discriminator.dependence is None:
            return unimodal
        posterior = torch.stack([_pair_slope(network) for network in discriminator.posterior.values()])
        return factorised_slope(_dependence_slope(discriminator.dependence), posterior, unimodal)


def slopes_at(discriminator: FactorisedDiscriminator | JointDiscriminator, real: Side) -> Tensor:
    """Slopes [M, B] of the log-ratios log q_i/p at points: how much of the bound is used there.

    A point has the items and styles of a row and the content of its first modality.

    Args:
        discriminator: is left as it is.
        real: items and codes of B complete rows, as an encoder side draws them.
    """
    x = {name: items.detach().clone().requires_grad_() for name, items in real.x.items()}
    style = real.style.detach().clone().requires_grad_()
    content = real.content[:1].detach().clone().requires_grad_()
    points = Side(x, style, content.expand_as(real.content))
    with held(discriminator):
        logits = discriminator.logits(points, Side(x, style, content))[0][0]  # [n, B], of the first block
        found = []
        for ratio in log_ratios(logits):
            parts = torch.autograd.grad(ratio.sum(), [*x.values(), style, content], retain_graph=True)
            items, codes = parts[:-2], parts[-2:]
            square = sum(part.square().flatten(1).sum(1) for part in items)
            found.append((square + sum(part.square().sum((0, 2)) for part in codes)).sqrt())
    return torch.stack(found)


def _pair_slope(network: PerceptronPair | ConvolutionPair) -> Tensor:
    if isinstance(network, PerceptronPair):
        return _chain([network.first, network.middle, network.last])
    return _widest([network.item, network.code]) * _chain([network.head, network.last])


def _dependence_slope(network: Dependence) -> Tensor:
    if network.inner:
        raise ValueError("dependence is an inner product, which grows without bound; expected a perceptron")
    return _widest(network.branches.values()) * _chain([network.head, network.last])


def _chain(modules: Iterable[nn.Module]) -> Tensor:
    """Product of the slopes of all linear and convolutional layers, one after the other."""
    layers = (layer for module in modules for layer in module.modules())
    return torch.stack([_layer(layer) for layer in layers if isinstance(layer, nn.Linear | nn.Conv2d)]).prod()


def _widest(branches: Iterable[nn.Module]) -> Tensor:
    """Slope of branches side by side, each with an input of its own: that of the steepest."""
    return torch.stack([_chain([branch]) for branch in branches]).max()


def _layer(layer: nn.Linear | nn.Conv2d) -> Tensor:
    """Largest singular value; of a convolution that of its kernel, times how often a pixel is looked at."""
    value = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
    if isinstance(layer, nn.Conv2d):
        looks = zip(layer.kernel_size, layer.stride, strict=True)
        value = value * math.sqrt(math.prod(math.ceil(size / stride) for size, stride in looks))
    return value
