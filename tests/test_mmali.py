"""MMALI: factors that add up to the true ratios, a game whose two sides keep apart, and the protocol of the metrics."""

import math
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch.nn.utils.parametrize import is_parametrized

from mmlib import data, metrics, ratios
from mmlib.distributions import Diagonal, geometric_mean, product_of_experts
from mmlib.modality import LaplaceLikelihood, Modality
from mmlib.models import MMALI, get_model
from mmlib.models.mmali import FactorisedDiscriminator, JointDiscriminator, Side
from mmlib.nets import modalities
from mmlib.nets.discriminators import (
    LAYERS,
    Dependence,
    Everything,
    Layers,
    PerceptronPair,
    held,
    initialise,
    layers_named,
    pair,
)
from mmlib.seeding import generator

SHAPES = {"a": (1, 4, 4), "b": (1, 4, 4), "c": (1, 4, 4), "d": (1, 4, 4)}
TINY = Layers(pair=(12,), branch=(10,), head=(12, 8), multiplier=2.0)


def shapes(m):
    return dict(list(SHAPES.items())[:m])


def make(m=2, style_dim=2, content_dim=3, seed=0, double=True, **options):
    torch.manual_seed(seed)
    parts = modalities(shapes(m), style_dim + content_dim, 0.02, weights=None)
    model = MMALI(parts, content_dim, style_dim, layers=options.pop("layers", TINY), **options)
    return model.double() if double else model


def images(m=2, rows=6, seed=0):
    noise = generator(seed)
    return {
        name: torch.rand(rows, *shape, generator=noise, dtype=torch.float64)
        for name, shape in shapes(m).items()
    }


def count(module):
    return sum(weight.numel() for weight in module.parameters())


# --- networks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("m", "joint", "factors"),
    [(2, 2_788_499, 3_700_457), (3, 3_472_324, 5_026_064), (4, 4_156_149, 6_352_473)],
)
def test_paper_s_networks_have_the_paper_s_sizes(m, joint, factors):
    """Those of the released code, counted by its description: joint discriminator, and all (M+1)-way factors."""
    digits = {str(k): (1, 28, 28) for k in range(m)}
    assert count(JointDiscriminator(digits, 10, 10, LAYERS["paper"])) == joint
    assert count(FactorisedDiscriminator(digits, 10, 10, LAYERS["paper"], "multiway")) == factors


def test_colour_images_go_through_convolutions():
    shape, layers = (3, 32, 32), LAYERS["paper"]
    kernels = 4 * 4 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 32 + 64 + 128 + 256
    dense = 20 * 256 + 256 * 256 + 512 * 1024 + 1024 * 1024 + 1024 + 2 * 256 + 2 * 1024 + 1
    assert count(pair(shape, 20, 1, layers)) == kernels + dense
    inner = Dependence({"mnist": (1, 28, 28), "svhn": shape}, layers, "inner")
    assert count(inner) == kernels + 785 * 400 + 401 * 256 + 2 * 257 * 256
    x = {"mnist": torch.rand(1, 3, 1, 28, 28), "svhn": torch.rand(1, 3, *shape)}
    left, right = (inner.branches[name](x[name][0]) for name in x)
    with held(inner):
        torch.testing.assert_close(inner(x)[0], (left * right).sum(-1), rtol=0.2, atol=0.05)
    assert Everything({"a": shape}, 20, 2, layers)(
        {"a": torch.rand(1, 3, *shape)}, torch.zeros(1, 3, 20), [0]
    ).shape == (
        1,
        3,
        2,
    )


def test_features_and_codes_meet_late():
    """Of features of photographs: item and code have branches of their own, which one head joins (released code)."""
    layers = LAYERS["features"]
    network = pair((2048,), 64, 1, layers)
    item = 2049 * 1024 + 1025 * 512 + 513 * 256
    code = 65 * 256 + 257 * 256
    assert count(network) == item + code + 513 * 512 + 513 * 512 + 513
    assert count(pair((2048,), 64, 1, LAYERS["paper"])) == 2113 * 400 + 401
    x, codes = torch.randn(2, 5, 2048), torch.randn(3, 5, 64)
    with held(network):
        both = network(x, codes, [0, 0, 1])
        torch.testing.assert_close(both[2:], network(x[1:], codes[2:], [0]))
    assert both.shape == (3, 5, 1)


@pytest.mark.parametrize("multiplier", [0.5, 1.0, 3.0])
def test_multiplier_is_the_largest_singular_value_and_bounds_the_slope(multiplier):
    torch.manual_seed(0)
    network = PerceptronPair((1, 4, 4), 5, 1, Layers(pair=(30,), multiplier=multiplier)).double()
    x, code = torch.rand(2, 50, 1, 4, 4).double(), torch.randn(2, 50, 5).double()
    for _ in range(200):  # each forward in training mode is one step of power iteration
        network(x, code, [0, 1])
    network.eval()
    for layer in (network.first, network.last):
        value = float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
        assert value == pytest.approx(multiplier, rel=1e-6)
    value = network(x, code, [0, 1])[..., 0].detach()
    distance = ((x[0] - x[1]).flatten(1).square().sum(1) + (code[0] - code[1]).square().sum(1)).sqrt()
    slope = (value[0] - value[1]).abs() / distance
    assert float(slope.max()) <= multiplier**2 * (1 + 1e-6)
    before = network.first.weight.detach().clone()
    with torch.no_grad():  # larger weights are the same function
        network.first.parametrizations.weight.original.mul_(100.0)
    torch.testing.assert_close(network.first.weight.detach(), before, rtol=1e-9, atol=1e-12)


def test_one_forward_is_one_step_of_power_iteration_and_none_while_held():
    network = pair((1, 4, 4), 5, 1, TINY)
    arguments = torch.rand(1, 3, 1, 4, 4), torch.randn(1, 3, 5), [0]
    norms = {name: value.clone() for name, value in network.state_dict().items() if name.endswith("_u")}

    def moved():
        state = network.state_dict()
        return [name for name, value in norms.items() if not torch.equal(state[name], value)]

    with held(network):
        assert not network(*arguments).requires_grad and not moved()
    assert network.training and all(weight.requires_grad for weight in network.parameters())
    network.eval()(*arguments)
    assert not moved()
    norm = network.first.parametrizations.weight[0]
    v = norm._v.clone()
    network.train()(*arguments)
    once = nn.functional.normalize(network.first.parametrizations.weight.original @ v, dim=0)
    torch.testing.assert_close(norm._u, once)
    assert moved()


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("iterations", [1, 5, "released"])
def test_power_iterations_of_a_step_are_those_asked_for_or_the_released_code_s_calls(
    m, iterations, monkeypatch
):
    """There: D0 on M + 1 classes in its update and twice in the generator's, D1 on two and on all n blocks, T on two
    and on two, the joint discriminator on all n blocks of two minibatches in either."""
    released = {"unimodal": 3 * (m + 1), "posterior": m + 3, "dependence": 4, "network": 4 * (m + 1)}
    if m == 2:
        assert list(released.values()) == [9, 5, 4, 12]
    for kind in ("factorised", "joint"):
        options = {"discriminator": kind, "unimodal": 0.1, "factors": "multiway"}
        model = make(m, layers="small", power_iterations=iterations, double=False, **options)
        batch = {name: x.float() for name, x in images(m).items()}
        norms = {
            layer.parametrizations.weight[0]: name.split(".")[0]
            for name, layer in model.discriminator.named_modules()
            if is_parametrized(layer, "weight")
        }
        made = Counter()
        power = type(next(iter(norms)))._power_method

        def counted(norm, weight, n, power=power, made=made):
            made[norm] += n
            return power(norm, weight, n)

        with monkeypatch.context() as patch:
            patch.setattr(type(next(iter(norms))), "_power_method", counted)
            model.discriminator_loss(batch, second=(batch, None))
            model.generator_loss(batch, second=(batch, None))
        for norm, part in norms.items():
            assert made[norm] == (released[part] if iterations == "released" else iterations)


def test_more_power_iterations_hold_the_weights_in_use_nearer_to_the_multiplier():
    """Mean excess of the true largest singular values over 1, after ten updates: a third of that with one iteration
    (seeds 0 to 2); half leaves room for other processors."""

    def excess(iterations):
        model = make(layers="small", power_iterations=iterations, init_std=0.02, double=False)
        batch = {name: x.float() for name, x in images(rows=16).items()}
        adam = torch.optim.Adam(model.discriminator.parameters(), 1e-3, betas=(0.5, 0.999))
        noise, layers = (
            generator(1),
            [x for x in model.discriminator.modules() if is_parametrized(x, "weight")],
        )
        for _ in range(10):
            adam.zero_grad()
            model.discriminator_loss(batch, generator=noise)[0].backward()
            adam.step()
        with held(model.discriminator):  # as in the other side's step
            values = torch.stack([torch.linalg.svdvals(layer.weight)[0] for layer in layers])
        assert bool((values > 1 - 1e-3).all())
        return float(values.mean()) - 1

    assert excess("released") < 0.5 * excess(1)


def test_items_beside_several_codes_are_what_separate_calls_give():
    for shape in ((1, 4, 4), (3, 8, 8)):
        network = pair(shape, 5, 2, TINY).double().eval()
        x, code = torch.rand(2, 3, *shape).double(), torch.randn(4, 3, 5).double()
        owner = [0, 0, 1, 0]
        each = [network(x[a][None], c[None], [0])[0] for a, c in zip(owner, code, strict=True)]
        torch.testing.assert_close(network(x, code, owner), torch.stack(each), rtol=1e-12, atol=1e-14)


def test_initial_weights_and_layers_by_name():
    model = make(init_std=0.5, layers="small", multiplier=2.0, double=False)
    for part in (model.modalities, model.discriminator):
        first = next(weight for weight in part.parameters() if weight.ndim == 2)
        assert float(first.detach().std()) == pytest.approx(0.5, rel=0.2)
        assert all(not weight.any() for weight in part.parameters() if weight.ndim == 1)
    assert layers_named("small", width=0.5).units("head") == [64, 64]
    assert layers_named(TINY, width=0.5) is TINY
    assert float(initialise(nn.Conv2d(3, 40, 4), 0.02).weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    with pytest.raises(ValueError, match="layers is 'large'; expected one of paper, small"):
        layers_named("large")
    wrong = {"width": 0, "multiplier": math.inf, "init_std": "0.02", "power_iterations": "often"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} is {value!r}; expected"):
            make(layers="small", **{name: value})


# --- exact densities ------------------------------------------------------------------------------------------------


class World:
    """A linear-Gaussian world of M modalities with styles: data, encoders and decoders, everything normal.

    Variables in the order x_1..x_M, s_1..s_M, c. ``q[i]`` and ``p`` are their exact joint distributions.
    """

    def __init__(self, m, style_dim, content_dim=2, size=3, seed=0):
        noise = generator(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=noise, dtype=torch.float64)

        self.m, self.s, self.c, self.n = m, style_dim, content_dim, size
        mix = normal(m * size, m * size) / math.sqrt(m * size)
        self.data = mix @ mix.T + 0.5 * torch.eye(m * size, dtype=torch.float64)  # covariance of X
        self.style = [0.5 * normal(style_dim, size) for _ in range(m)]
        self.content = [0.5 * normal(content_dim, size) for _ in range(m)]
        self.decode = [0.5 * normal(size, style_dim + content_dim) for _ in range(m)]
        self.q = [self.encoder_joint(i) for i in range(m)]
        self.p = self.decoder_joint()

    def encoder_joint(self, i):
        """Of [X, S, c] under q(X) q(c|x_i) prod_j q(s_j|x_j): a linear map of X plus noise on the codes."""
        place = torch.eye(self.m * self.n, dtype=torch.float64).split(self.n)  # x_j = place[j] X
        rows = (
            [torch.cat(place)]
            + [a @ place[j] for j, a in enumerate(self.style)]
            + [self.content[i] @ place[i]]
        )
        matrix = torch.cat(rows)
        sizes = [0.0] * (self.m * self.n) + [0.6**2] * (self.m * self.s) + [0.7**2] * self.c
        cov = matrix @ self.data @ matrix.T + torch.tensor(sizes, dtype=torch.float64).diag()
        return MultivariateNormal(torch.zeros(len(cov), dtype=torch.float64), cov)

    def decoder_joint(self):
        """Of [X, S, c] under p(c) prod_i p(s_i) p(x_i|s_i, c)."""
        codes = self.m * self.s + self.c
        place = torch.eye(codes, dtype=torch.float64)
        styles, content = (
            place[: self.m * self.s].split(self.s) if self.s else [place[:0]] * self.m,
            place[self.m * self.s :],
        )
        rows = [w @ torch.cat([styles[j], content]) for j, w in enumerate(self.decode)]
        matrix = torch.cat([*rows, place])
        sizes = [0.8**2] * (self.m * self.n) + [0.0] * codes
        cov = matrix @ matrix.T + torch.tensor(sizes, dtype=torch.float64).diag()
        return MultivariateNormal(torch.zeros(len(cov), dtype=torch.float64), cov)

    def place(self, *what):
        """Positions of variables such as ("x", 0), ("s", 1), "c" in the joint vector."""
        out = []
        for kind in what:
            if kind == "c":
                out += range(self.m * (self.n + self.s), self.m * (self.n + self.s) + self.c)
            else:
                size, start = (self.n, 0) if kind[0] == "x" else (self.s, self.m * self.n)
                out += range(start + kind[1] * size, start + (kind[1] + 1) * size)
        return torch.tensor(out, dtype=torch.int64)

    def log(self, joint, values, *what):
        """Marginal log-density of some variables under a joint distribution, at their ``values`` [..., size]."""
        where = self.place(*what)
        cov = joint.covariance_matrix[where][:, where]
        return MultivariateNormal(torch.zeros(len(cov), dtype=torch.float64), cov).log_prob(values)


class ExactPair(nn.Module):
    """A D0 or D1 that knows the densities: D0 log q(a,c)/p(a,c), D1 log q(a,c)/(q(a) p(c))."""

    def __init__(self, world, i, kind):
        super().__init__()
        self.world, self.i, self.kind = world, i, kind

    def forward(self, x, code, owner):
        w, what = self.world, (("x", self.i), ("s", self.i))
        x = x[torch.tensor(owner)]
        a = torch.cat([x, code[..., : w.s]], -1)
        q = w.log(w.q[self.i], torch.cat([a, code[..., w.s :]], -1), *what, "c")
        if self.kind == "unimodal":
            rest = w.log(w.p, torch.cat([a, code[..., w.s :]], -1), *what, "c")
        else:
            rest = w.log(w.q[self.i], a, *what) + w.log(w.p, code[..., w.s :], "c")
        return (q - rest)[..., None]


class ExactDependence(nn.Module):
    def __init__(self, world):
        super().__init__()
        self.world = world

    def forward(self, x, shuffle=None):
        w, items = self.world, list(x.values())
        joint = w.log(w.q[0], torch.cat(items, -1), *[("x", i) for i in range(w.m)])
        return joint - sum(w.log(w.q[0], item, ("x", i)) for i, item in enumerate(items))


@pytest.mark.parametrize("style_dim", [0, 2])
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_exact_factors_assemble_the_true_joint_log_ratio(m, style_dim):
    world, rows = World(m, style_dim), 5
    names = [f"x{i}" for i in range(m)]
    judge = FactorisedDiscriminator(dict.fromkeys(names, (3,)), style_dim, 2, TINY)
    for i, name in enumerate(names):
        judge.unimodal[name] = ExactPair(world, i, "unimodal")
        if m > 1:
            judge.posterior[name] = ExactPair(world, i, "posterior")
    if m > 1:
        judge.dependence = ExactDependence(world)

    points = torch.stack([q.sample((rows,)) for q in (*world.q, world.p)])  # [n, B, everything]
    real, fake = (points[0], points[-1])

    def side(values, contents):
        x = {name: values[:, world.place(("x", i))] for i, name in enumerate(names)}
        style = torch.stack([values[:, world.place(("s", i))] for i in range(m)])
        return Side(x, style, contents)

    contents = points[:-1][
        ..., world.place("c")
    ]  # a content of its own for every encoder, beside the same X and S
    logits, _ = judge.logits(side(real, contents), side(fake, fake[None, :, world.place("c")]))
    full = torch.stack(
        [*(torch.cat([real[:, : -world.c], c], -1) for c in contents), fake]
    )  # [n_from, B, everything]
    truth = torch.stack([q.log_prob(full) for q in (*world.q, world.p)], 1)  # [n_from, n_class, B]
    expected = truth[:, :-1] - truth[:, -1:]
    torch.testing.assert_close(logits[:, :-1] - logits[:, -1:], expected, rtol=1e-10, atol=1e-10)
    best = ratios.optimal_discriminator(truth.transpose(0, 1)).transpose(0, 1)
    torch.testing.assert_close(logits.log_softmax(1), best, rtol=1e-10, atol=1e-10)


# --- the game -------------------------------------------------------------------------------------------------------

KINDS = [
    {"discriminator": "joint"},
    {"discriminator": "joint", "unimodal": 0.1},
    {"discriminator": "joint", "unimodal": 0.1, "factors": "multiway"},
    {"factors": "binary"},
    {"factors": "binary", "unimodal": 0.1},
    {"factors": "multiway", "unimodal": 0.1},
    {"factors": "binary", "loss": "minimax", "unimodal": 0.1},
    {"factors": "multiway", "loss": "minimax", "unimodal": 1.0},
    {"reconstruction": 0.5, "content_cycle": 0.5, "style_cycle": 0.5},
    {"reconstruction": {"a": 2.0, "b": 0.0}, "content_cycle": 0.5, "joint_reconstruction": True},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("style_dim", [0, 2])
def test_each_step_reaches_one_side_only(kind, style_dim):
    model = make(style_dim=style_dim, **kind)
    sides = {"discriminator": model.discriminator, "generator": model.modalities}
    for step, side in sides.items():
        model.zero_grad()
        loss, parts = getattr(model, f"{step}_loss")(images(), generator=generator(1))
        loss.backward()
        assert all(weight.grad is not None for weight in side.parameters())
        (other,) = (part for part in sides.values() if part is not side)
        assert all(weight.grad is None for weight in other.parameters())
        torch.testing.assert_close(loss, sum(parts.values()), rtol=1e-12, atol=1e-12)
    assert {"game"} <= set(parts)
    assert ("unimodal" in parts) == ("unimodal" in kind)
    assert ("reconstruction" in parts) == ("reconstruction" in kind)


def test_the_batched_step_is_the_sum_over_blocks_written_out():
    """Generator loss against one call for each factor and distribution, with the draws repeated by hand."""
    m, rows = 3, 4
    for factors in ("binary", "multiway"):
        model, batch = make(m, factors=factors, unimodal=0.3).eval(), images(m, rows)
        loss, _ = model.generator_loss(batch, generator=generator(5))
        noise = generator(5)
        codes = [model.encode(name, x) for name, x in batch.items()]
        eps = torch.empty(m, rows, 5, dtype=torch.float64).normal_(generator=noise)
        z = [q.loc + q.scale * e for q, e in zip(codes, eps, strict=True)]
        s_prior = torch.empty(m, rows, 2, dtype=torch.float64).normal_(generator=noise)
        c_prior = torch.empty(1, rows, 3, dtype=torch.float64).normal_(generator=noise)[0]
        fake = {
            name: model.decode(torch.cat([s, c_prior], -1), [name])[name]
            for name, s in zip(batch, s_prior, strict=True)
        }
        judge = model.discriminator

        def ask(network, x, s, c):
            return network(x[None], torch.cat([s, c], -1)[None], [0])[0]

        total, said = 0.0, {}
        for k in range(m + 1):
            x = batch if k < m else fake
            s = [code[:, :2] for code in z] if k < m else list(s_prior)
            c = z[k][:, 2:] if k < m else c_prior
            t = judge.dependence({name: value[None] for name, value in x.items()})[0]
            d1 = torch.stack([ask(judge.posterior[n], x[n], s[i], c)[:, 0] for i, n in enumerate(x)])
            raw = [ask(judge.unimodal[n], x[n], s[i], c) for i, n in enumerate(x)]
            said[k] = raw
            d0 = torch.stack([judge.unimodal.ratio(r) for r in raw])
            logits = torch.cat([d1, -(t + (d0 - d1).sum(0))[None]])
            log_d = logits.log_softmax(0)
            total += 2 / (m + 1) * sum(-log_d[i] for i in range(m + 1) if i != k).mean() / m
        softplus = nn.functional.softplus
        for i in range(m):
            if factors == "binary":
                total += 0.3 * (softplus(said[i][i]) + softplus(-said[m][i])).mean()
                continue
            order = [i, m, *(j for j in range(m) if j != i)]
            for place, k in enumerate(order):
                log_d = said[k][i].log_softmax(-1)
                others = [-log_d[:, l] for l in range(m + 1) if l != place]
                total += 0.3 * 2 / (m + 1) * sum(others).mean() / m
        torch.testing.assert_close(loss, total, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("factors", ["binary", "multiway"])
@pytest.mark.parametrize("two", [False, True], ids=["one minibatch", "two minibatches"])
def test_discriminator_losses_written_out(factors, two):
    m, rows = 3, 6
    softplus = nn.functional.softplus
    model, batch = make(m, factors=factors).eval(), images(m, rows)
    other = images(m, rows, seed=9) if two else batch
    _, parts = model.discriminator_loss(batch, None, generator(5), (other, None) if two else None)
    noise = generator(5)

    def normal(*shape):
        return torch.empty(*shape, dtype=torch.float64).normal_(generator=noise)

    def encode(x):
        codes = [model.encode(name, value) for name, value in x.items()]
        return [q.loc + q.scale * e for q, e in zip(codes, normal(m, rows, 5), strict=True)]

    z = encode(batch)
    z_other = encode(other) if two else z
    decoded = torch.cat([normal(m, rows, 2), normal(m, rows, 3)], -1)
    fake = [model.decode(code, [name])[name] for name, code in zip(batch, decoded, strict=True)]
    stranger = normal(m, rows, 3)
    order = torch.rand(m, rows, generator=noise).argsort(-1)
    judge = model.discriminator

    def ask(network, x, code):
        return network(x[None], code[None], [0])[0]

    expected = {}
    for i, (name, x) in enumerate(batch.items()):
        d0, d1 = judge.unimodal[name], judge.posterior[name]
        apart = torch.cat([z[i][:, :2], stranger[i]], -1)
        expected[f"posterior.{name}"] = (softplus(-ask(d1, x, z[i])) + softplus(ask(d1, x, apart))).mean()
        if factors == "binary":
            loss = (softplus(-ask(d0, x, z[i])) + softplus(ask(d0, fake[i], decoded[i]))).mean()
        else:
            triples = [(x, z[i]), (fake[i], decoded[i])]
            for j in range(m):
                if j != i:
                    triples.append((other[name], torch.cat([z_other[i][:, :2], z_other[j][:, 2:]], -1)))
            loss = sum(-ask(d0, *triple).log_softmax(-1)[:, k].mean() for k, triple in enumerate(triples))
        expected[f"unimodal.{name}"] = loss
    mixed = {name: x[order[i]][None] for i, (name, x) in enumerate(other.items())}
    together = judge.dependence({name: x[None] for name, x in other.items()})
    expected["dependence"] = (softplus(-together) + softplus(judge.dependence(mixed))).mean()
    assert set(parts) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-11, atol=1e-11)


def test_every_class_of_a_multiway_factor_uses_the_rows_that_it_can():
    model, batch = make(factors="multiway").eval(), images()
    shown = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1]]).bool()
    noise = generator(3)
    style, content = (torch.randn(2, 6, d, generator=noise, dtype=torch.float64) for d in (2, 3))
    real, fake = Side(batch, style, content, shown), model._decoder_side(6, noise, 2)
    parts = model.discriminator.loss(real, fake, real, noise)
    d0, whole = model.discriminator.unimodal["b"], shown.all(0)

    def cost(x, s, c, rows, k):
        return -d0(x[rows][None], torch.cat([s, c], -1)[rows][None], [0])[0].log_softmax(-1)[:, k].mean()

    expected = cost(batch["b"], style[1], content[1], shown[1], 0)
    expected = expected + cost(fake.x["b"], fake.style[1], fake.content[1], shown[1], 1)
    expected = expected + cost(batch["b"], style[1], content[0], whole, 2)
    torch.testing.assert_close(parts["unimodal.b"], expected, rtol=1e-11, atol=1e-11)


def test_joint_discriminator_plays_the_game_of_equation_4():
    model, batch = make(discriminator="joint", loss="minimax").eval(), images()
    loss, parts = model.discriminator_loss(batch, generator=generator(3))
    value, _ = model.generator_loss(
        batch, generator=generator(3)
    )  # the same draws: one content for all modalities
    torch.testing.assert_close(loss, -value, rtol=1e-12, atol=1e-12)
    assert set(parts) == {"classes"}


def permuted(model, names):
    """The same model with its modalities in another order."""
    torch.manual_seed(0)
    m = len(names)
    parts = [model.modalities[name] for name in names]
    twin = MMALI(parts, model.content_dim, model.style_dim, layers=TINY, factors="binary").double()
    for name in names:
        twin.discriminator.unimodal[name] = model.discriminator.unimodal[name]
        twin.discriminator.posterior[name] = model.discriminator.posterior[name]
    where = [list(model.modalities).index(name) for name in names]
    judge, other = model.discriminator.dependence, twin.discriminator.dependence
    other.branches = nn.ModuleDict({name: judge.branches[name] for name in names})
    old, new = judge.head[0], nn.Linear(m * 10, 12).double()
    with torch.no_grad():
        new.weight.copy_(old.weight.unflatten(1, (m, 10))[:, where].flatten(1))
        new.bias.copy_(old.bias)
    other.head, other.last = nn.Sequential(new, *judge.head[1:]), judge.last
    return twin.eval(), where


def test_permuting_modalities_permutes_the_logits():
    names = ["c", "a", "b"]
    model, batch = make(3).eval(), images(3)
    twin, where = permuted(model, names)
    noise = generator(2)
    style, content = (torch.randn(3, 6, d, generator=noise, dtype=torch.float64) for d in (2, 3))
    real, fake = Side(batch, style, content), Side(images(3, seed=4), style + 1, content[:1] - 1)

    def turned(side, contents):
        return Side({name: side.x[name] for name in names}, side.style[where], contents)

    logits, _ = model.discriminator.logits(real, fake)
    again, _ = twin.discriminator.logits(turned(real, content[where]), turned(fake, fake.content))
    order = [*where, 3]
    torch.testing.assert_close(again, logits[order][:, order], rtol=1e-10, atol=1e-11)


def test_permuting_rows_permutes_what_is_inferred_and_generated():
    model, batch = make(3), images(3)
    rows = torch.tensor([3, 1, 5, 0, 2, 4])
    turned = {name: x[rows] for name, x in batch.items()}
    for given in (["a"], ["b", "c"]):
        left, right = model.posterior(batch, given).mean[rows], model.posterior(turned, given).mean
        torch.testing.assert_close(left, right)
        left = model.generate(batch, given, given, mean=True)
        right = model.generate(turned, given, given, mean=True)
        for name in given:
            torch.testing.assert_close(left[name][rows], right[name])


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("two", [False, True], ids=["one minibatch", "two minibatches"])
def test_masked_values_change_no_bit_and_a_full_mask_is_no_mask(kind, two):
    mask = {"a": torch.tensor([1, 1, 1, 0, 1, 1]).bool(), "b": torch.tensor([1, 0, 1, 1, 1, 0]).bool()}
    every = {name: torch.ones(6, dtype=torch.bool) for name in mask}
    for step in ("discriminator_loss", "generator_loss"):
        found = []
        for filling in (0.0, torch.nan, 1e30):
            batch, other = images(), images(seed=1)
            for name, seen in mask.items():
                batch[name][~seen] = filling
                other[name][~seen] = filling
            model = make(**kind)
            loss, parts = getattr(model, step)(batch, mask, generator(1), (other, mask) if two else None)
            loss.backward()
            grads = [weight.grad for weight in model.parameters() if weight.grad is not None]
            assert torch.isfinite(loss) and all(bool(torch.isfinite(grad).all()) for grad in grads)
            found.append([loss, *parts.values(), *grads])
        for values in zip(*found, strict=True):
            assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])
        whole = [getattr(make(**kind), step)(images(), given, generator(1))[0] for given in (None, every, {})]
        assert whole[0] == whole[1] == whole[2] != found[0][0]


@pytest.mark.parametrize("factors", ["binary", "multiway"])
def test_a_joint_discriminator_can_have_the_unimodal_term_too(factors):
    """D0s beside it, which learn and are paid as those of the factorised one, and which its logits do not hear."""
    factorised = make(factors=factors, unimodal=0.3).eval()
    joint = make(discriminator="joint", factors=factors, unimodal=0.3).eval()
    bare = make(discriminator="joint").eval()
    joint.modalities.load_state_dict(factorised.modalities.state_dict())
    bare.load_state_dict({k: v for k, v in joint.state_dict().items() if ".unimodal." not in k})
    joint.discriminator.unimodal.load_state_dict(factorised.discriminator.unimodal.state_dict())
    batch = images()
    found = {
        name: model.generator_loss(batch, generator=generator(1))[1]
        for name, model in {"factorised": factorised, "joint": joint, "bare": bare}.items()
    }
    torch.testing.assert_close(found["joint"]["unimodal"], found["factorised"]["unimodal"])
    torch.testing.assert_close(found["joint"]["game"], found["bare"]["game"])
    assert set(found["bare"]) == {"game"}
    real, fake = (
        factorised._encoder_side(batch, None, generator(2)),
        factorised._decoder_side(6, generator(3)),
    )
    single = fake._replace(content=fake.content.expand(2, -1, -1))  # the same content, once for each modality
    mine = joint.discriminator.loss(real, fake, real, generator(4))
    theirs = factorised.discriminator.loss(real, single, real, generator(4))
    for name in batch:
        torch.testing.assert_close(mine[f"unimodal.{name}"], theirs[f"unimodal.{name}"])
    assert set(mine) == {"classes", "unimodal.a", "unimodal.b"}


def test_each_term_uses_the_rows_that_it_can():
    """Terms on partial rows are those on the rows that show what the term needs; unpaired rows leave T and the game."""
    model = make(unimodal=0.1).eval()
    mask = {"a": torch.tensor([1, 1, 1, 1, 0, 0]).bool(), "b": torch.tensor([1, 1, 0, 0, 1, 1]).bool()}
    noise = torch.zeros(2, 6, 5).double()
    batch = images()
    codes = [model.encode(name, batch[name]) for name in batch]
    z = torch.stack([q.loc for q in codes]) + noise
    seen = torch.stack(list(mask.values()))
    real = Side(batch, z[..., :2], z[..., 2:], seen)
    fake = model._decoder_side(6, generator(3), 2)
    judge = model.discriminator
    parts = judge.loss(real, fake, real, generator(4))
    for i, name in enumerate(batch):
        rows = mask[name]
        said = judge.unimodal[name](batch[name][rows][None], z[i, rows][None], [0])[0, :, 0]
        code = torch.cat([fake.style[i, rows], fake.content[i, rows]], -1)
        lies = judge.unimodal[name](fake.x[name][rows][None], code[None], [0])[0, :, 0]
        torch.testing.assert_close(parts[f"unimodal.{name}"], ratios.logistic_loss(said, lies))
    whole = seen.all(0)
    true = judge.dependence({name: x[whole][None] for name, x in batch.items()})
    negatives = [  # two complete rows can be shuffled in two ways up to a common order
        judge.dependence({"a": batch["a"][whole][None], "b": batch["b"][whole][order][None]})
        for order in (torch.tensor([0, 1]), torch.tensor([1, 0]))
    ]
    found = [float((ratios.logistic_loss(true, no) - parts["dependence"]).detach()) for no in negatives]
    assert min(abs(away) for away in found) < 1e-12

    alone = {"a": mask["a"], "b": ~mask["a"]}
    _, parts = model.discriminator_loss(batch, alone, generator(1))
    parts = {name: value.detach() for name, value in parts.items()}
    assert float(parts["dependence"]) == 0 and all(
        float(v) > 0 for n, v in parts.items() if n != "dependence"
    )
    _, parts = model.generator_loss(batch, alone, generator(1))
    assert float(parts["game"].detach()) == 0 and float(parts["unimodal"].detach()) > 0
    missing, _ = model.generator_loss({"a": batch["a"]}, generator=generator(1))
    missing.backward()
    assert model.modalities["a"].encoder.hidden.weight.grad.abs().sum() > 0
    assert model.modalities["b"].encoder.hidden.weight.grad is None  # never asked


def test_one_modality_is_plain_ali():
    for factors in ("binary", "multiway"):
        model, batch = make(1, factors=factors, unimodal=0.0).eval(), images(1)
        judge = model.discriminator
        assert judge.dependence is None and len(judge.posterior) == 0
        noise = generator(2)
        q = model.encode("a", batch["a"])
        z = q.loc + q.scale * torch.empty(1, 6, 5, dtype=torch.float64).normal_(generator=noise)[0]
        code = torch.cat(
            [torch.empty(1, 6, d, dtype=torch.float64).normal_(generator=noise)[0] for d in (2, 3)], -1
        )
        fake = model.decode(code)["a"]
        true, false = (
            judge.unimodal.ratio(judge.unimodal["a"](x[None], c[None], [0])[0])
            for x, c in ((batch["a"], z), (fake, code))
        )
        loss, _ = model.generator_loss(batch, generator=generator(2))
        torch.testing.assert_close(loss, ratios.logistic_loss(false, true), rtol=1e-11, atol=1e-12)
        loss, _ = model.discriminator_loss(batch, generator=generator(2))
        torch.testing.assert_close(loss, ratios.logistic_loss(true, false), rtol=1e-11, atol=1e-12)
        assert model.posterior(batch).components.loc.shape == (1, 6, 3)


def test_reconstruction_terms_written_out():
    weights = {"b": 0.5, "a": 2.0}  # in whatever order
    model, batch = make(reconstruction=weights, content_cycle=3.0, style_cycle=4.0, unimodal=0.0), images()
    _, parts = model.generator_loss(batch, generator=generator(6))
    noise = generator(6)

    def normal(*shape):
        return torch.empty(*shape, dtype=torch.float64).normal_(generator=noise)

    def encode(x):
        codes = [model.encode(name, value) for name, value in x.items()]
        return [q.loc + q.scale * e for q, e in zip(codes, normal(2, 6, 5), strict=True)]

    z = encode(batch)
    away = [
        weights[n] * (model.decode(c, [n])[n] - batch[n]).square().mean()
        for n, c in zip(batch, z, strict=True)
    ]
    torch.testing.assert_close(parts["reconstruction"], sum(away))
    style, content = normal(2, 6, 2), normal(1, 6, 3)[0]
    fake = {n: model.decode(torch.cat([s, content], -1), [n])[n] for n, s in zip(batch, style, strict=True)}
    again = encode(fake)
    torch.testing.assert_close(
        parts["content_cycle"], 3.0 * sum((code[:, 2:] - content).square().mean() for code in again)
    )
    torch.testing.assert_close(
        parts["style_cycle"],
        4.0 * sum((code[:, :2] - s).square().mean() for code, s in zip(again, style, strict=True)),
    )


# --- inference and generation ---------------------------------------------------------------------------------------


def test_posterior_is_the_geometric_mean_of_the_contents():
    model, batch = make(3), images(3)
    codes = [model.encode(name, x) for name, x in batch.items()]
    contents = Diagonal(*(torch.stack([getattr(q, k)[:, 2:] for q in codes]) for k in ("loc", "scale")))
    seen = torch.ones(3, 6, dtype=torch.bool)
    seen[0, :2] = seen[2, 3] = False
    mask = dict(zip(batch, seen, strict=True))
    for product, rule in (("geometric", geometric_mean), ("experts", product_of_experts)):
        found, expected = model.posterior(batch, mask=mask, product=product), rule(contents, seen)
        torch.testing.assert_close(found.components.loc[0], expected.loc)
        torch.testing.assert_close(found.components.scale[0], expected.scale)
    alone = model.posterior(batch, ["b"])
    torch.testing.assert_close(alone.components.loc[0], contents.loc[1])
    torch.testing.assert_close(alone.components.scale[0], contents.scale[1])
    torch.testing.assert_close(model.encode_style("b", batch["b"]).loc, codes[1].loc[:, :2])
    with pytest.raises(ValueError, match="a row observes none of them"):
        model.posterior(batch, ["a"], mask)
    with pytest.raises(ValueError, match="product is 'mean'"):
        model.posterior(batch, product="mean")


def test_style_of_what_is_generated_is_own_source_or_random():
    model, batch = make(3), images(3)
    style = {name: model.encode_style(name, x).loc for name, x in batch.items()}
    content = model.posterior(batch, ["b", "c"]).mean

    def item(name, s):
        return model.decode(torch.cat([s, content], -1), [name])[name]

    def generate(how, seed=0, **options):
        return model.generate(
            batch, ["c", "b"], list(batch), generator(seed), mean=True, style=how, **options
        )

    own, source, again = generate("own"), generate("source"), generate("own", 1)
    for name in ("b", "c"):
        torch.testing.assert_close(own[name], item(name, style[name]))
        torch.testing.assert_close(source[name], own[name])
    torch.testing.assert_close(source["a"], item("a", style["c"]))  # the first one given
    assert not torch.allclose(own["a"], again["a"]) and not torch.allclose(own["a"], source["a"])
    random = generate("random")
    assert all(not torch.allclose(random[name], own[name]) for name in ("b", "c"))
    mask = {"c": torch.tensor([1, 0, 1, 1, 0, 1]).bool()}
    partial = generate("source", mask=mask)
    hidden = ~mask["c"]
    unseen = model.posterior({"b": batch["b"]}).mean
    for name in ("a", "c"):
        expected = model.decode(torch.cat([style["b"], unseen], -1), [name])[name]
        torch.testing.assert_close(partial[name][hidden], expected[hidden])
        torch.testing.assert_close(partial[name][~hidden], source[name][~hidden])
    with pytest.raises(ValueError, match="style is 'none'; expected one of own, source, random"):
        generate("none")


def test_a_draw_from_the_prior_shares_its_content_and_not_its_style():
    model = make(2, style_dim=2)
    n = 4000
    found = model.sample(n, generator(0))
    assert {name: tuple(x.shape) for name, x in found.items()} == {"a": (n, 1, 4, 4), "b": (n, 1, 4, 4)}
    side = model._decoder_side(n, generator(0))
    for i, name in enumerate(found):
        again = model.decode(torch.cat([side.style[i], side.content[0]], -1), [name])[name]
        torch.testing.assert_close(again, found[name])
    for name, item in model.sample(n, generator(0), style="shared").items():
        first = model.decode(torch.cat([side.style[0], side.content[0]], -1), [name])[name]
        torch.testing.assert_close(item, first)
    correlation = (side.style[0] * side.style[1]).mean()
    assert abs(float(correlation)) < 4 / math.sqrt(2 * n)
    assert float(side.content.std()) == pytest.approx(1, abs=0.05)
    assert model.prior.loc.shape == (5,) and bool((model.prior.scale == 1).all())


def test_metrics_take_it_as_any_other_model():
    loaded = data.load("multi-hand", dm=1)
    torch.manual_seed(0)
    model = MMALI(modalities(loaded, 6, 0.05), 4, 2, layers="small")
    judges = metrics.train_classifiers(loaded, steps=5, cache=False)
    report = metrics.evaluate(
        model,
        loaded.validation,
        judges,
        generator(0),
        loaded.train,
        samples=200,
        max_rows=60,
        probe_rows=200,
    )
    assert set(report["cross_coherence"]["hand0"]) == {"hand0", "hand90"}
    assert 0 <= report.value("joint_coherence") <= 1 and set(report["synergy_coherence"]) == {
        "hand0",
        "hand90",
    }
    assert set(report["latent_accuracy"]) == {"hand0", "hand90", "all"}
    table = metrics.style_content_accuracy(
        model, loaded.validation, loaded.train, generator(0), max_rows=60, probe_rows=200
    )
    assert set(table) == {"hand0", "hand90"} and set(table["hand0"]) == {"content", "style", "both"}
    for kind in ("sample", "mean"):
        assert table["hand0"]["both"][kind]["n"] == 60
    content = table["hand90"]["content"]["mean"]["value"]
    assert content == report.value("latent_accuracy", "hand90", "mean")
    assert table["hand0"]["both"]["mean"]["value"] > 0.5  # random features of handwriting

    widths = metrics.posterior_scales(model, loaded.validation, max_rows=60)
    for name in ("hand0", "hand90"):
        scale = model.encode(name, loaded.validation.batch(torch.arange(60))[name]).scale.detach()
        assert widths[name]["style"]["value"] == pytest.approx(float(scale[:, : model.style_dim].mean()))
        assert widths[name]["content"]["value"] == pytest.approx(float(scale[:, model.style_dim :].mean()))
    assert set(metrics.posterior_scales(model, loaded.validation, 3)["hand0"]) == {"content", "style"}


def test_released_coherence_uses_the_source_s_style_and_one_style_for_all():
    """Decoders that show their style, and judges that read it: only a borrowed style looks coherent."""

    class ShowsStyle(nn.Module):
        def forward(self, code):
            return torch.sigmoid(code[..., :1, None, None].expand(*code.shape[:-1], 1, 8, 8) * 50)

    def judge(name, images):
        return (images.mean((1, 2, 3)) > 0.5).long()

    torch.manual_seed(0)
    loaded = data.load("multi-hand", dm=1)
    model = MMALI(modalities({"hand0": (1, 8, 8), "hand90": (1, 8, 8)}, 5, 0.02), 3, 2, layers=TINY)
    for modality in model.modalities.values():
        modality.decoder = ShowsStyle()
    split, judges = loaded.validation, SimpleNamespace(accuracy=None, predict=judge)
    asked, generate = set(), model.generate

    def noting(*given, style="own", **options):
        asked.add(style)
        return generate(*given, style=style, **options)

    model.generate = noting
    released = metrics.released_coherence(model, split, judges, generator(0), samples=400, max_rows=100)
    assert asked == {"source"}
    assert set(released) == {"cross_coherence", "joint_coherence", "classes_generated"}
    assert released.value("joint_coherence") == 1.0  # the same style in both
    own = metrics.evaluate(model, split, judges, generator(0), samples=400, max_rows=100)
    assert own.value("joint_coherence") < 0.65  # two coins
    with torch.no_grad():
        batch = split.batch(torch.arange(100))
        style = model.generate(batch, ["hand0"], ["hand90"], generator(1), style="source", mean=True)[
            "hand90"
        ]
        own = model.encode_style("hand0", batch["hand0"]).loc[:, 0]
    torch.testing.assert_close(style[:, 0, 0, 0], torch.sigmoid(50 * own))
    with pytest.raises(ValueError, match="style is 'tied'; expected one of own, shared"):
        model.sample(2, style="tied")


def test_it_is_found_by_name_and_refuses_what_cannot_be():
    assert get_model("mmali") is MMALI
    torch.manual_seed(0)
    parts = modalities(shapes(2), 5, 0.02)

    def refused(message, given=parts, content=3, style=2, **options):
        with pytest.raises(ValueError, match=message):
            MMALI(given, content, style, layers=TINY, **options)

    refused("at least one, with different names", given=[parts[0], parts[0]])
    refused("content_dim is 0", content=0)
    refused("discriminator is 'both'; expected one of factorised, joint", discriminator="both")
    refused("loss is 'hinge'; expected one of non_saturating, minimax", loss="hinge")
    refused("factors is 'three'", factors="three")
    refused("dependence is 'outer'; expected one of perceptron, inner", dependence="outer")
    for weight in ("unimodal", "reconstruction", "content_cycle", "style_cycle"):
        refused(f"{weight} is -0.1; expected a number of at least 0", **{weight: -0.1})
    refused("reconstruction names", reconstruction={"a": 1.0})
    model = make()
    with pytest.raises(ValueError, match="z has shape"):
        model.decode(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="n is 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="pixels from"):
        model.generator_loss({name: x + 1 for name, x in images().items()})
    short = Modality("a", (1, 4, 4), nn.Identity(), nn.Identity(), LaplaceLikelihood())
    assert MMALI([short], 3, layers=TINY).style_dim == 0


def test_other_encoders_and_decoders_can_be_put_in_place():
    model, other = make(), make(seed=1)
    twin = model.with_modalities(other.modalities)
    assert twin.discriminator is model.discriminator and model.modalities is not twin.modalities
    left, right = twin.sample(3, generator(0)), other.sample(3, generator(0))
    assert all(torch.equal(left[name], right[name]) for name in left)
