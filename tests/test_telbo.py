"""tELBO in the laboratory: an ELBO for each encoder, and decoders that answer to the joint one alone."""

import math

import pytest
import torch
from test_models import check_mean, lab_of, many_losses, rows_of

from mmlib.distributions import Diagonal, kl_divergence
from mmlib.lab import LinearGaussian, View, joint_encoder, modalities
from mmlib.models import TELBO


def build(lab, shift=0.0, widen=1.0, **options):
    """In float64, exact unless shifted or widened."""
    off = {"shift": shift, "widen": widen}
    return TELBO(modalities(lab, **off), lab.latent_dim, joint_encoder(lab, **off), **options).double()


def test_exact_encoders_give_the_exact_likelihoods_of_everything_and_of_each_alone():
    lab = lab_of(3)
    batch = rows_of(lab)
    expected = lab.log_marginal(batch) + sum(lab.log_marginal(batch, [name]) for name in lab.names)
    check_mean(many_losses(build(lab), batch, 4000), expected)
    weights = build(lab).log_weights(batch, 3).values  # [1, 3, B]
    # MINIMUM_SCALE moves the scale by 1e-6
    torch.testing.assert_close(weights, lab.log_marginal(batch).expand(1, 3, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_objective_averages_to_the_sum_of_exact_bounds(beta):
    lab = lab_of()
    batch = rows_of(lab)
    model = build(lab, shift=0.3, widen=1.3, beta=beta)
    expected = 0
    for given in (("a", "b"), ("a",), ("b",)):
        components = model.posterior(batch, given).components
        q = Diagonal(components.loc[0], components.scale[0])
        expected = expected + lab.elbo(q, batch, given) + (1 - beta) * kl_divergence(q, model.prior)
    check_mean(many_losses(model, batch, 4000), expected)


@pytest.mark.parametrize("fixed", [True, False])
def test_decoders_learn_from_the_joint_bound_alone_unless_they_are_not_fixed(fixed):
    lab = lab_of()
    item, n = rows_of(lab, 1), 2000
    model = build(lab, shift=0.3, widen=1.3, fixed_decoders=fixed)
    repeated, draws = {name: x.repeat(n, 1) for name, x in item.items()}, []
    decoders = [model.modalities[name].decoder for name in lab.names]
    for seed in range(30):
        loss, _ = model.loss(repeated, generator=torch.Generator().manual_seed(seed))
        found = torch.autograd.grad(
            -loss, [x for decoder in decoders for x in (decoder.weight, decoder.bias)]
        )
        draws.append(torch.cat([x.flatten() for x in found]))
    draws = torch.stack(draws)

    # the closed form: derivatives of exact bounds with respect to what the decoders are
    leaves = [x.clone().requires_grad_() for view in lab.views.values() for x in (view.weight, view.bias)]
    made = zip(lab.views.items(), leaves[::2], leaves[1::2], strict=True)
    moved = LinearGaussian({name: View(weight, bias, view.noise) for (name, view), weight, bias in made})
    bound = 0
    for given in [("a", "b")] if fixed else [("a", "b"), ("a",), ("b",)]:
        q = model.posterior(item, given).components
        bound = bound + moved.elbo(Diagonal(q.loc[0].detach(), q.scale[0].detach()), item, given)
    expected = torch.cat([x.flatten() for x in torch.autograd.grad(bound.sum(), leaves)])
    error = draws.std(0) / math.sqrt(len(draws))
    assert ((draws.mean(0) - expected).abs() < 5 * error + 1e-9).all()


def test_every_encoder_learns_from_its_own_bound():
    lab = lab_of()
    batch, model = rows_of(lab), build(lab, widen=1.3)
    _, parts = model.loss(batch, generator=torch.Generator().manual_seed(0))
    encoders = [*model.modalities["a"].encoder.parameters(), *model.modalities["b"].encoder.parameters()]
    joint = list(model.joint_encoder.parameters())
    own, together = parts["unimodal"].mean(), (parts["objective"] - parts["unimodal"]).mean()

    def reached(value, parameters):
        found = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        return [x is not None and bool(x.abs().max() > 1e-9) for x in found]

    assert all(reached(own, encoders)) and not any(reached(own, joint))
    assert all(reached(together, joint)) and not any(reached(together, encoders))
    assert all(parameter.requires_grad for parameter in encoders)  # held for a moment only


@pytest.mark.parametrize("fixed", [True, False])
def test_incomplete_rows_count_the_bounds_of_what_they_show_and_move_no_fixed_decoder(fixed):
    lab = lab_of(3)
    batch = rows_of(lab)
    model = build(lab, fixed_decoders=fixed)
    mask = {"a": torch.tensor([1, 1, 0, 0, 1, 1]).bool(), "c": torch.tensor([1, 0, 1, 0, 0, 1]).bool()}
    n = 4000
    repeated, masks = (
        {name: x.repeat(n, *[1] * (x.ndim - 1)) for name, x in y.items()} for y in (batch, mask)
    )
    objective = model.loss(repeated, masks, torch.Generator().manual_seed(0))[1]["objective"].view(n, -1)
    own = sum(lab.log_marginal(batch, [name]) * mask.get(name, 1) for name in lab.names)
    complete = mask["a"] & mask["c"]
    check_mean(objective.detach(), own + lab.log_marginal(batch) * complete)
    decoders = [p for part in model.modalities.values() for p in part.decoder.parameters()]
    found = torch.autograd.grad(objective[:, ~complete].sum(), decoders, allow_unused=True)
    moved = any(x is not None and bool(x.any()) for x in found)
    assert moved == (not fixed)


def test_it_has_no_posterior_for_two_of_three():
    lab = lab_of(3)
    with pytest.raises(ValueError, match="TELBO has a posterior given all modalities or exactly one"):
        build(lab).posterior(rows_of(lab), given=["a", "b"])


def test_bad_settings_are_refused_by_name():
    lab = lab_of()
    with pytest.raises(ValueError, match="beta is -1"):
        build(lab, beta=-1)
    with pytest.raises(ValueError, match="fixed_decoders is 'yes'; expected one of True, False"):
        build(lab, fixed_decoders="yes")
