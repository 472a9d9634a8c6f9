"""What holds for every model in ``MODELS``, those to come included: no test here names one.

A model is made with its default options from small modalities, and again with each of its options changed, and each of
these again with styles if it can have them; its public methods that take a ``mask`` are found by their signatures. What
a method asks for is made by the name of the argument: a new name fails a test until it is taught here (`ARGUMENTS`,
`NEEDED`).
"""

import copy
import functools
import inspect
import itertools
import math
import re

import pytest
import torch
from torch import nn

from mmlib import bounds, distributions
from mmlib.bounds import LogWeights
from mmlib.distributions import Diagonal, Mixture, mixture_of_experts
from mmlib.lab import LinearGaussian, joint_encoder, modalities
from mmlib.modality import Likelihood, Modality, NormalLikelihood
from mmlib.models import MMVAE, MODELS, MVAE, Codes, Draws

ROWS = 6
HIDES_B = torch.tensor([True, True, False, True, False, False])
HIDES_A = torch.tensor([True, False, True, True, True, True])
MASK = {"a": HIDES_A, "b": HIDES_B}


# --- how to make any model ------------------------------------------------------------------------------------------


class Fragile(nn.Module):
    """An encoder that is not finite at zero: hidden rows of zeros are poison to it."""

    def __init__(self, size, latent_dim):
        super().__init__()
        self.net = nn.Linear(2 * size, 2 * latent_dim)

    def forward(self, x):
        x = x.flatten(1)
        return self.net(torch.cat([1 / x, x.abs().log()], -1)).chunk(2, -1)


class LogNormal(Likelihood):
    """Positive items: a likelihood that is not finite at zero either."""

    def log_prob(self, params, x):
        log_x = x.log()
        return (-0.5 * (self.fitting(params, x) - log_x).square() - log_x - 0.919).flatten(-1).sum(-1)

    def mean(self, params):
        return params.exp()

    def check(self, name, x):
        if not bool((x > 0).all()):
            raise ValueError(f"batch[{name!r}] has numbers that are not positive")


class JointEncoder(nn.Module):
    """Of all modalities together, each through its own encoder's class."""

    def __init__(self, parts, latent_dim):
        super().__init__()
        self.names = [part.name for part in parts]
        self.net = Fragile(sum(math.prod(part.shape) for part in parts), latent_dim)

    def forward(self, batch):
        return self.net(torch.cat([batch[name].flatten(1) for name in self.names], -1))


NEEDED = {"joint_encoder": JointEncoder}  # what constructors ask for, besides modalities and size of the code
SMALL = {"width": 0.05}  # in place of defaults that are slow


def fragile_parts(latent_dim=2):
    sizes = {"a": 3, "b": 4}
    likelihoods = {"a": LogNormal(), "b": NormalLikelihood(0.7)}
    return [
        Modality(name, (n,), Fragile(n, latent_dim), nn.Linear(latent_dim, n), likelihoods[name], weight=1.5)
        for name, n in sizes.items()
    ]


def build(cls, parts, latent_dim=2, **options):
    _, _, *others = inspect.signature(cls).parameters.values()
    options = {p.name: SMALL[p.name] for p in others if p.name in SMALL} | options
    for parameter in others:
        if parameter.default is parameter.empty and parameter.name not in options:
            assert parameter.name in NEEDED, f"say in NEEDED how to make {parameter.name} of {cls.__name__}"
            options[parameter.name] = NEEDED[parameter.name](parts, 2)
    torch.manual_seed(0)
    return cls(parts, latent_dim, **options)


def code_dim(options):
    """Of [style, shared code]."""
    return 2 + options.get("style_dim", 0)


def fragile(cls, **options):
    torch.manual_seed(1)
    return build(cls, fragile_parts(code_dim(options)), **options).double()


@functools.cache
def variants(cls):
    """The defaults; every other choice of every option; every two that need each other; and all of it with styles."""
    changes = []
    for name, parameter in inspect.signature(cls).parameters.items():
        default = parameter.default
        if isinstance(default, bool):
            changes.append((name, not default))
        elif isinstance(default, str):  # the message lists the choices
            with pytest.raises(ValueError, match=f"{name} is '\\?'; expected one of") as error:
                build(cls, fragile_parts(), **{name: "?"})
            choices = re.search(r"expected one of ([\w, -]+)", str(error.value))[1].split(", ")
            changes += [(name, choice) for choice in choices if choice != default]
        elif isinstance(default, float) and default == 0:
            changes.append((name, 0.1))
    found, alone = [{}], set()
    for change in changes:
        with_one = works(cls, dict([change]))
        found += [dict([change])] if with_one else []
        alone |= set() if with_one else {change}
    for pair in itertools.combinations(changes, 2):
        if set(pair) & alone and pair[0][0] != pair[1][0] and works(cls, dict(pair)):
            found.append(dict(pair))
    styled = [{**options, "style_dim": 1} for options in found]
    return found + styled * ("style_dim" in inspect.signature(cls).parameters)


def works(cls, options):
    try:
        build(cls, fragile_parts(), **options)
    except ValueError:
        return False
    return True


EVERY = [
    pytest.param(cls, options, id=f"{name}-{'-'.join(f'{k}={v}' for k, v in options.items()) or 'default'}")
    for name, cls in MODELS.items()
    for options in variants(cls)
]


# --- how to call whatever takes a mask ------------------------------------------------------------------------------

ARGUMENTS = {
    "batch": lambda call: call["batch"],
    "mask": lambda call: call["mask"],
    "given": lambda call: list(call["batch"]),
    "target": lambda call: list(call["batch"]),
    "to": lambda call: ["a", "b"],
    "k": lambda call: 3,
    "generator": lambda call: torch.Generator().manual_seed(0),
    "second": lambda call: None,
    "labels": lambda call: torch.arange(rows_of(call["batch"])) if call["model"].needs_labels else None,
}
# of a checked batch: posterior, loss and draw call them
HOOKS = {"infer", "training_objective", "draw_from", "proposal", "tuple_log_weights"}
SWITCHES = (bool, str)  # options with a default, which are left alone


def masked_methods(cls):
    """Names of the public methods that take a mask, in person or among their options."""
    found = []
    for name, function in inspect.getmembers(cls, inspect.isfunction):
        parameters = inspect.signature(function).parameters
        options = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        known = name.startswith("_") or name in {*dir(nn.Module), *HOOKS}
        if not known and ("mask" in parameters or options):
            found.append(name)
    return found


def rows_of(batch):
    return len(next(iter(batch.values())))


def call(model, name, batch, mask=None):
    """What the method gives, or the ValueError by which it refuses."""
    values = {"model": model, "batch": batch, "mask": mask}
    arguments = {}
    parameters = inspect.signature(getattr(model, name)).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        parameters = {**parameters, "mask": None, "generator": None}
    for argument, parameter in parameters.items():
        if argument in ARGUMENTS:
            arguments[argument] = ARGUMENTS[argument](values)
        elif parameter.kind is not parameter.VAR_KEYWORD and not isinstance(parameter.default, SWITCHES):
            pytest.fail(f"say in ARGUMENTS what {argument} of {type(model).__name__}.{name} is")
    if (
        parameters["mask"] is not None
        and parameters["mask"].default is inspect.Parameter.empty
        and mask is None
    ):
        arguments["mask"] = {n: torch.ones(len(x), dtype=torch.bool) for n, x in batch.items()}
    try:
        return getattr(model, name)(**arguments)
    except ValueError as error:
        return error


def of_rows(value, path=""):
    """Whatever a method gives as tensors by name, first axis the rows; scalars stay scalars."""
    if isinstance(value, Draws):
        return of_rows(value.log_weights, path)
    if isinstance(value, LogWeights):
        return {f"{path}.{name}": bound(value) for name, bound in BOUNDS.items()}
    if isinstance(value, Mixture):
        points = torch.linspace(-1, 1, value.components.loc.shape[-1]).double()
        return {f"{path}.mean": value.mean, f"{path}.density": value.log_prob(points.expand_as(value.mean))}
    if isinstance(value, Codes):
        styles = {f"{path}.style.{n}": torch.cat([q.loc, q.scale], -1) for n, q in value.styles.items()}
        return styles | of_rows((value.experts, value.observed), path)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Diagonal):
        experts, seen = value  # [M, B, D] and [M, B]: the precisions that rows have in all
        return {f"{path}.total": (seen[..., None] / experts.scale).sum(0), f"{path}.seen": seen.sum(0)}
    if isinstance(value, tuple | list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        return {k: v for name, part in value.items() for k, v in of_rows(part, f"{path}.{name}").items()}
    assert isinstance(value, torch.Tensor), f"say in of_rows how to compare a {type(value).__name__}"
    return {path: value}


def takes_log_weights(function):
    parameters = list(inspect.signature(function).parameters.values())
    return (
        parameters
        and parameters[0].name == "log_weights"
        and all(p.default is not p.empty for p in parameters[1:])
    )


BOUNDS = {
    name: function
    for name, function in inspect.getmembers(bounds, inspect.isfunction)
    if not name.startswith("_") and takes_log_weights(function) and name != "normalised_weights"
}


def items(rows=ROWS, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(rows, n, generator=generator, dtype=dtype) + 0.5 for name, n in (("a", 3), ("b", 4))
    }


def poisoned(batch, mask, filler):
    return {
        name: torch.where(mask[name][:, None], x, filler) if name in mask else x for name, x in batch.items()
    }


def gradients(model, outcome):
    """Of everything that a method gives, with respect to every parameter; zeros where none arrives."""
    found = of_rows(outcome)
    total = sum(x.double().nan_to_num().sum() for x in found.values() if x.requires_grad)
    model.zero_grad()
    if isinstance(total, torch.Tensor):
        total.backward()
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}


def check_what_is_hidden(cls, **options):
    """Whatever hidden items hold, and whether their key is there: no value and no gradient shows it."""
    nothing = torch.zeros(ROWS, dtype=torch.bool)
    made = fragile(cls, **options).train()

    def everything(name, batch, mask=None):
        model = copy.deepcopy(made)
        outcome = call(model, name, batch, mask)
        if isinstance(outcome, ValueError):
            return "refused"
        values = {**of_rows(outcome), **gradients(model, outcome)}
        for key, value in values.items():
            assert bool(torch.isfinite(value).all()), f"{name}: {key} is not finite"
        return values

    for name in masked_methods(cls):
        for mask in (MASK, {"a": ~nothing, "b": nothing}):
            first, *others = (
                everything(name, poisoned(items(), mask, filler), mask)
                for filler in (7.0, math.nan, math.inf)
            )
            if mask is not MASK:
                others.append(everything(name, {"a": items()["a"]}))
            for other in others:
                assert (first == "refused") == (other == "refused"), name
                for key in first.keys() & other.keys() if first != "refused" else ():
                    assert torch.equal(first[key], other[key]), f"{name}: {key} depends on what is hidden"


@pytest.fixture
def same_noise(monkeypatch):
    """Every random number is the same, so that a row can be held against itself in another batch."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.fill_(0.3))
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(-0.4))
    monkeypatch.setattr(distributions, "systematic", lambda n, *_: torch.full((n,), 0.3))
    monkeypatch.setattr(torch, "multinomial", lambda p, *_, **__: (p > 0).int().argmax(1, keepdim=True))


def check_rows_alone(cls, **options):
    """A masked row has what the same row has alone, without the keys that it lacks; a loss, if others do not enter."""
    model = fragile(cls, **options).eval()
    for name in masked_methods(cls):
        if name == "loss" and model.compares_rows:
            assert not torch.equal(
                *(call(model, name, items(rows))[1]["objective"][:1] for rows in (1, ROWS))
            )
            continue
        together = call(model, name, poisoned(items(), MASK, math.nan), MASK)
        refused = False
        for row in range(ROWS):
            seen = {n: x[row : row + 1] for n, x in items().items() if MASK[n][row]}
            alone = call(model, name, seen)
            refused |= isinstance(alone, ValueError)
            if isinstance(together, ValueError) or isinstance(alone, ValueError):
                continue
            mixed, alone = of_rows(together), of_rows(alone)
            for key in mixed.keys() & alone.keys():
                if mixed[key].ndim:
                    assert mixed[key].shape[0] == ROWS, f"say in of_rows where the rows of {name} are"
                    torch.testing.assert_close(
                        mixed[key][row],
                        alone[key][0],
                        rtol=1e-10,
                        atol=1e-10,
                        msg=f"{name}: {key}, row {row}",
                    )
        assert refused == isinstance(together, ValueError), f"{name}: {together}"


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_what_is_hidden_matters_to_no_value_and_no_gradient(cls, options):
    check_what_is_hidden(cls, **options)


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_a_masked_row_is_that_row_alone_without_the_keys_that_it_lacks(cls, options, same_noise):
    check_rows_alone(cls, **options)


# --- against the exact likelihood -----------------------------------------------------------------------------------

LABORATORY = {
    "posterior": "normal",
    "scale": "softplus",
    "learn_prior": False,
}  # what the closed forms are of


def check_against_the_laboratory(cls, **options):
    """Bounds on log p of what each row observes hold, and its importance-sampled estimate is right.

    Both are under the model's own prior, if the code is all shared.
    """
    style_dim = options.get("style_dim", 0)
    lab = LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.7, seed=1, style_dim=style_dim)
    known = inspect.signature(cls).parameters
    options |= {name: value for name, value in LABORATORY.items() if name in known}
    if "joint_encoder" in known:
        options["joint_encoder"] = joint_encoder(lab, shift=0.1, widen=1.5)
    model = build(cls, modalities(lab, shift=0.1, widen=1.5), **options).double()
    if not hasattr(model, "log_weights"):
        return
    batch = lab.sample(ROWS, torch.Generator().manual_seed(0))[1]
    rows = [{n: x[i : i + 1] for n, x in batch.items() if MASK[n][i]} for i in range(ROWS)]
    with torch.no_grad():
        prior = None if style_dim else model.prior
        exact = torch.cat([lab.log_marginal(row, prior=prior) for row in rows])
        weights = model.log_weights(batch, 4000, mask=MASK, generator=torch.Generator().manual_seed(0))
    # 4,000 draws and more of bounded weights: the errors measured are below 0.03 nats
    torch.testing.assert_close(bounds.iwae(weights), exact, rtol=0, atol=0.1)
    assert (bounds.elbo(weights) < exact + 0.01).all() and (bounds.iwae_looser(weights) < exact + 0.1).all()
    assert (bounds.cubo(weights) > exact - 0.1).all()


INFERS = {"style_dim", "inference"}  # options that change the posterior and not only the loss


@pytest.mark.parametrize(("cls", "options"), [each for each in EVERY if set(each.values[1]) <= INFERS])
def test_bounds_hold_and_the_estimate_is_right_in_every_row(cls, options):
    check_against_the_laboratory(cls, **options)


# --- what is computed once ------------------------------------------------------------------------------------------


def inputs_of(model):
    """Everything that each network is given from now on, by name: a list for each, in order."""
    networks = {"joint_encoder": getattr(model, "joint_encoder", None)}
    for name, modality in model.modalities.items():
        networks |= {f"encoder of {name}": modality.encoder, f"decoder of {name}": modality.decoder}
    seen = {name: [] for name, network in networks.items() if network is not None}
    for name, given in seen.items():
        networks[name].register_forward_pre_hook(lambda _, args, given=given: given.append(args[0]))
    return seen


def check_nothing_is_computed_twice(cls, **options):
    """No network is given the same rows twice by one call; where the model has one loss, each encodes once."""
    model = fragile(cls, **options)
    seen = inputs_of(model)
    for name in masked_methods(cls):
        for given in seen.values():
            given.clear()
        call(model, name, items())
        for network, given in seen.items():
            if isinstance(given[0] if given else None, dict):
                given = [torch.cat(list(batch.values()), -1) for batch in given]
            rows = [row for x in given for row in x.detach().flatten(0, -2)]
            assert len({tuple(row.tolist()) for row in rows}) == len(rows), f"{name}: {network}"
            if name == "loss" and "encoder" in network:
                anew = network == "joint_encoder" and model.compares_rows  # it hears other items together
                assert anew or len(rows) == ROWS, f"{name}: {network}"


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_no_network_is_given_the_same_rows_twice(cls, options):
    check_nothing_is_computed_twice(cls, **options)


# --- a wrong model fails, by whatever name --------------------------------------------------------------------------


class IgnoresTheMask(MMVAE):
    def infer(self, codes, batch, mask):
        return mixture_of_experts(codes.experts, torch.ones_like(codes.observed))


class GivesAllAnEqualSay(MMVAE):
    def log_weights(self, batch, k=1, **options):
        weights = super().log_weights(batch, k, **options).values
        return LogWeights(weights, torch.full_like(weights[:, 0], -math.log(len(weights))))


class MultipliesByZero(MVAE):
    def log_likelihood(self, name, z, x, observed):
        modality = self.modalities[name]
        return modality.likelihood.log_prob(modality.decode(z), x) * observed


class EncodesWhatIsHidden(MVAE):
    def _encoded(self, batch, mask, given):
        return {name: self.encode(name, batch[name]) for name in given}


class CountsThePriorTwice(MVAE):
    def log_weights(self, batch, k=1, **options):
        draws = self.draw(batch, k, **options)
        return LogWeights(draws.log_weights.values + draws.log_prior, draws.log_mixture)


class EncodesForEverySubset(MVAE):
    def codes(self, batch, mask, given):
        super().codes(batch, mask, given)
        return super().codes(batch, mask, given)


class WidensThePriorOfStyles(MMVAE):
    def style_prior(self, name):
        prior = super().style_prior(name)
        return Diagonal(prior.loc, 2 * prior.scale, prior.family)


class HasStylesOfWhatIsHidden(MVAE):
    def codes(self, batch, mask, given):
        codes = super().codes(batch, mask, given)
        styles = {name: Diagonal(q.loc + 1, q.scale, q.family) for name, q in codes.styles.items()}
        return codes._replace(styles=styles)


class HasANewMethod(MVAE):
    def impute(self, batch, how, mask=None):
        return self.generate(batch, list(batch), how, mask=mask)


@pytest.mark.parametrize(
    ("wrong", "check", "options"),
    [
        (IgnoresTheMask, check_rows_alone, {}),
        (IgnoresTheMask, check_against_the_laboratory, {}),
        (GivesAllAnEqualSay, check_rows_alone, {}),
        (GivesAllAnEqualSay, check_against_the_laboratory, {}),
        (MultipliesByZero, check_what_is_hidden, {}),
        (EncodesWhatIsHidden, check_what_is_hidden, {}),
        (CountsThePriorTwice, check_against_the_laboratory, {}),
        (EncodesForEverySubset, check_nothing_is_computed_twice, {}),
        (WidensThePriorOfStyles, check_against_the_laboratory, {"style_dim": 1}),
        (HasStylesOfWhatIsHidden, check_rows_alone, {"style_dim": 1}),
    ],
)
def test_wrong_models_fail(wrong, check, options, same_noise):
    with pytest.raises(AssertionError):
        check(wrong, **options)


def test_a_method_with_a_mask_that_nobody_taught_us_to_call_fails():
    with pytest.raises(pytest.fail.Exception, match="say in ARGUMENTS what how of HasANewMethod.impute is"):
        check_what_is_hidden(HasANewMethod)


@pytest.mark.parametrize("cls", MODELS.values(), ids=MODELS)
def test_methods_with_a_mask_are_found(cls):
    assert {"posterior", "generate"} < set(masked_methods(cls))
    assert any("loss" in name for name in masked_methods(cls))


# --- numbers of other kinds -----------------------------------------------------------------------------------------


def losses(cls):
    return [name for name in masked_methods(cls) if name.endswith("loss")]


@pytest.mark.parametrize(("cls", "options"), EVERY)
def test_losses_are_finite_under_autocast_and_reach_what_they_reach_without(cls, options):
    torch.manual_seed(1)
    size = code_dim(options)
    parts = [
        Modality(n, (s,), Encoder(s, size), nn.Linear(size, s), NormalLikelihood())
        for n, s in (("a", 3), ("b", 4))
    ]
    made = build(cls, parts, **options)
    for name in losses(cls):
        reached = []
        for autocast in (False, True):
            model = copy.deepcopy(made)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss, parts = call(model, name, items(dtype=torch.float32))
            loss.backward()
            assert bool(torch.isfinite(loss)) and all(
                bool(torch.isfinite(part).all()) for part in parts.values()
            )
            gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients.values())
            reached.append({n for n, gradient in gradients.items() if gradient.any()})
        assert reached[0] == reached[1]


@pytest.mark.parametrize("cls", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_of_either_precision_take_arrays_and_tensors_of_any(cls, dtype):
    model = fragile(cls).to(dtype)
    for name in losses(cls):
        found = []
        for given in (torch.float32, torch.float64, "numpy", "lists"):
            batch = items(dtype=torch.float32)  # the same numbers in every precision
            if isinstance(given, str):
                batch = {n: x.numpy() if given == "numpy" else x.tolist() for n, x in batch.items()}
            else:
                batch = {n: x.to(given) for n, x in batch.items()}
            loss, _ = call(copy.deepcopy(model), name, batch)
            assert loss.dtype == dtype
            found.append(loss.detach())
        assert all(torch.equal(found[0], other) for other in found)


class Encoder(nn.Module):
    def __init__(self, size, latent_dim=2):
        super().__init__()
        self.net = nn.Linear(size, 2 * latent_dim)

    def forward(self, x):
        return self.net(x).chunk(2, -1)
