"""Slopes of discriminators: bounds that no gradient exceeds, and that are reached where nothing bends."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from mmlib import ratios
from mmlib.models.mmali_discriminators import FactorisedDiscriminator, JointDiscriminator, Side
from mmlib.models.mmali_slopes import factorised_slope, slope_bound, slopes_at
from mmlib.nets.discriminators import Layers

STYLE, CONTENT = 2, 3
TINY = Layers(pair=(9,), branch=(8, 7), head=(6, 5))


def shapes(m, shape=(1, 3, 3)):
    return {f"m{k}": shape for k in range(m)}


def side(m, rows=40, shape=(1, 3, 3), scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*size):
        return scale * torch.randn(*size, generator=generator, dtype=torch.float64)

    x = {name: draw(rows, *shape) for name in shapes(m)}
    return Side(x, draw(m, rows, STYLE), draw(m, rows, CONTENT))


def made(kind, m, layers=TINY, shape=(1, 3, 3), seed=0, passes=0):
    torch.manual_seed(seed)
    sizes = shapes(m, shape), STYLE, CONTENT, layers
    if kind == "joint":
        discriminator = JointDiscriminator(*sizes).double()
    else:
        discriminator = FactorisedDiscriminator(*sizes, kind).double()
    points = side(m, 2, shape)
    for _ in range(passes):  # every one is a step of power iteration
        discriminator.logits(points, points._replace(content=points.content[:1]))
    return discriminator


def slopes(m, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(size, generator=generator, dtype=torch.float64) for size in ((), (m,), (m,))]


@pytest.mark.equation("eq-factorised-slope")
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_slope_of_the_sum_is_reached_by_factors_that_pull_together(m):
    """Linear factors of one number c, as steep as they may be: the assembled log-ratio has exactly the slope stated."""
    dependence, posterior, unimodal = slopes(m, m)
    c = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found = factorised_slope(dependence, posterior, unimodal)
    for i in range(m):
        sign = torch.full((m, 1), -1.0, dtype=torch.float64)
        sign[i] = 1.0  # D1_i cancels, whatever it is
        logits = ratios.assemble_logits(dependence * c, sign * posterior[:, None] * c, unimodal[:, None] * c)
        (slope,) = torch.autograd.grad(ratios.log_ratios(logits)[i].sum(), c)
        torch.testing.assert_close(slope[0], found[i], rtol=1e-12, atol=1e-14)


@pytest.mark.equation("eq-factorised-slope")
def test_slope_of_the_sum_has_the_right_gradient():
    arguments = [value.requires_grad_() for value in slopes(3, 0)]
    assert gradcheck(factorised_slope, arguments)
    jacobian = torch.autograd.functional.jacobian(factorised_slope, tuple(arguments))
    ones = torch.ones(3, 3, dtype=torch.float64)
    for found, expected in zip(jacobian, (ones[0], ones - torch.eye(3), ones), strict=True):
        torch.testing.assert_close(found, expected, check_dtype=False)


def test_slopes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shapes \(\), \(2,\) and \(3,\); expected \(\), \(M,\) and \(M,\)"):
        factorised_slope(torch.zeros(()), torch.zeros(2), torch.zeros(3))


@pytest.mark.parametrize(
    "kind, m", [*itertools.product(("binary", "multiway", "joint"), (2, 3)), ("binary", 1)]
)
def test_no_gradient_and_no_secant_exceeds_the_bound(kind, m):
    for multiplier, seed in itertools.product((0.7, 1.0, 2.0), range(2)):
        discriminator = made(kind, m, Layers(**{**vars(TINY), "multiplier": multiplier}), seed=seed, passes=5)
        bound = slope_bound(discriminator)
        assert bound.shape == (m,)
        for scale in (0.1, 1.0, 10.0):
            assert bool((slopes_at(discriminator, side(m, scale=scale, seed=seed)) <= bound[:, None]).all())
        a, b = side(m, seed=1), side(m, seed=2)
        one = [Side(s.x, s.style, s.content[:1].expand_as(s.content)) for s in (a, b)]
        discriminator.eval()
        values = [
            ratios.log_ratios(discriminator.logits(s, s._replace(content=s.content[:1]))[0][0]) for s in one
        ]
        apart = sum((a.x[name] - b.x[name]).square().flatten(1).sum(1) for name in a.x)
        apart = apart + (a.style - b.style).square().sum((0, 2)) + (a.content - b.content)[0].square().sum(-1)
        assert bool(((values[0] - values[1]).abs() <= bound[:, None] * apart.sqrt()).all())


def test_the_bound_holds_with_convolutions():
    layers = Layers(branch=(6,), head=(5,), width=0.1, multiplier=1.5)
    for kind in ("binary", "joint"):
        discriminator = made(kind, 2, layers, shape=(3, 8, 8), passes=3)
        bound = slope_bound(discriminator)
        assert bool((slopes_at(discriminator, side(2, shape=(3, 8, 8))) <= bound[:, None]).all())


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
@pytest.mark.parametrize("m", [2, 4])
def test_networks_of_the_small_recipes_have_the_slopes_of_the_formula(m, multiplier):
    """One hidden layer in D0 and D1, four layers in T and in the joint network, once power iteration has settled."""
    layers = Layers(pair=(8,), branch=(8,), head=(8, 8), multiplier=multiplier)
    factorised, joint = (slope_bound(made(kind, m, layers, passes=300)) for kind in ("binary", "joint"))
    expected = torch.full((m,), multiplier**4 + (2 * m - 1) * multiplier**2, dtype=torch.float64)
    torch.testing.assert_close(factorised, expected, rtol=0.01, atol=0)
    expected = torch.full((m,), 2**0.5 * multiplier**4, dtype=torch.float64)
    torch.testing.assert_close(joint, expected, rtol=0.01, atol=0)


def test_slopes_are_those_of_finite_differences():
    for kind in ("binary", "joint"):
        discriminator = made(kind, 2, passes=3)
        points = side(2, rows=3)
        found = slopes_at(discriminator, points)
        discriminator.eval()

        def value(flat, discriminator=discriminator):
            images, style, content = flat[:18], flat[18 : 18 + 2 * STYLE], flat[18 + 2 * STYLE :]
            x = dict(zip(shapes(2), images.reshape(2, 1, 1, 3, 3), strict=True))
            one = Side(x, style.reshape(2, 1, STYLE), content.reshape(1, 1, CONTENT).expand(2, 1, CONTENT))
            return ratios.log_ratios(discriminator.logits(one, one._replace(content=one.content[:1]))[0][0])[
                :, 0
            ]

        for b in range(3):
            flat = torch.cat(
                [
                    *(x[b].flatten() for x in points.x.values()),
                    points.style[:, b].flatten(),
                    points.content[0, b],
                ]
            )
            steps = 1e-6 * torch.eye(len(flat), dtype=torch.float64)
            slope = torch.stack([(value(flat + step) - value(flat - step)) / 2e-6 for step in steps])
            torch.testing.assert_close(slope.norm(dim=0).detach(), found[:, b], rtol=1e-5, atol=1e-8)


def test_asking_changes_nothing_and_an_inner_product_has_no_bound():
    discriminator = made("binary", 2, passes=2)
    before = {name: value.clone() for name, value in discriminator.state_dict().items()}
    slope_bound(discriminator), slopes_at(discriminator, side(2))
    assert discriminator.training and all(weight.grad is None for weight in discriminator.parameters())
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    inner = FactorisedDiscriminator(shapes(2), STYLE, CONTENT, TINY, dependence="inner")
    with pytest.raises(ValueError, match="inner product"):
        slope_bound(inner)
