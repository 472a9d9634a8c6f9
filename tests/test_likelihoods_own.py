"""Likelihoods of one's own: the protocol and its example, a scale that is learned, padding, and what MMALI takes."""

import copy
import doctest
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toy import ToySplit

from mmlib import bounds, lab, likelihoods, nets
from mmlib.likelihoods import CategoricalLikelihood, Likelihood, NormalLikelihood
from mmlib.modality import Modality
from mmlib.models import MMALI, MMVAE, MVAE, mmali
from mmlib.nets import modalities
from mmlib.seeding import generator
from mmlib.train import fit, fit_adversarial
from mmlib.train.checkpoint import load_weights, save_weights


def made(seed, *shape):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def example(module, name):
    """Run the example in a docstring and return what it defined."""
    (test,) = doctest.DocTestFinder(recurse=False).find(getattr(module, name), name, module, vars(module))
    assert test.examples
    torch.manual_seed(0)
    result = doctest.DocTestRunner().run(test, clear_globs=False)
    assert result.failed == 0
    return test.globs


def split_of(**x):
    split = ToySplit()
    split.x = x
    return split


# --- the protocol ---------------------------------------------------------------------------------------------------


def test_the_example_is_the_poisson_distribution():
    poisson = example(likelihoods, "Likelihood")["Poisson"]()
    log_rate = made(0, 5, 4, 3).requires_grad_()
    x = torch.poisson(made(1, 4, 3).exp(), generator=generator(2)).long()
    reference = torch.distributions.Poisson(log_rate.exp())
    found = poisson.log_prob(log_rate, x)
    torch.testing.assert_close(found, reference.log_prob(x.double()).sum(-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(poisson.mean(log_rate), reference.mean)
    (gradient,) = torch.autograd.grad(found.sum(), log_rate)
    torch.testing.assert_close(gradient, x - log_rate.exp(), rtol=1e-10, atol=1e-10)


def test_a_model_with_the_example_needs_no_network_and_refuses_what_is_no_count():
    poisson = example(likelihoods, "Likelihood")["Poisson"]()
    torch.manual_seed(0)
    parts = modalities({"left": (3,), "right": (4,)}, 2, 0.05, likelihood={"left": poisson})
    model = MVAE(parts, 2)
    counts = torch.poisson(torch.full((96, 3), 4.0), generator=generator(0)).long()
    split = split_of(left=counts, right=torch.randn(96, 4, generator=generator(1)))
    history = fit(model, split, 60, 32, 1e-2, progress=False, log_every=20)
    rate = model.sample(200, generator(2))["left"].mean()
    assert abs(float(rate) - 4) < 0.8  # it starts at exp(0) = 1
    assert history[-1]["loss"] < history[0]["loss"]
    with pytest.raises(ValueError, match=r"batch\['left'\] holds -1; expected counts from 0"):
        model.loss({"left": counts - 1 - counts.min()})
    with pytest.raises(ValueError, match=r"batch\['left'\] is torch.float32; expected int64"):
        model.loss({"left": counts.float()})


class Spread(Likelihood):
    """Normal, of which the decoder gives mean and log scale."""

    def params_shape(self, shape):
        return (*shape, 2)

    def log_prob(self, params, x):
        mean, log_scale = self.fitting(params, x).unbind(-1)
        return self.summed(torch.distributions.Normal(mean, log_scale.exp()).log_prob(x), x)

    def mean(self, params):
        return params[..., 0]


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8), (3, 8, 8)])
def test_parameters_may_have_another_shape_than_items(shape):
    (part,) = modalities({"a": shape}, 2, 0.05, likelihood=Spread())
    params = part.decode(torch.randn(4, 5, 2))
    x = torch.randn(5, *shape)
    assert params.shape == (4, 5, *shape, 2)
    assert part.likelihood.log_prob(params, x).shape == (4, 5)
    with pytest.raises(ValueError, match="params have shape .* expected"):
        part.likelihood.log_prob(params[..., :1], x)


def test_sums_are_over_the_item_alone():
    likelihood, each = Likelihood(), made(0, 2, 4, 3, 5)
    assert torch.equal(likelihood.summed(each, torch.zeros(4, 3, 5)), each.flatten(-2).sum(-1))
    assert torch.equal(likelihood.summed(each[..., 0, 0], torch.zeros(4)), each[..., 0, 0])


def test_a_density_that_is_not_said_and_a_constructor_left_half_way_are_named():
    class Nothing(Likelihood):
        def __init__(self):
            self.scale = 2.0

    with pytest.raises(TypeError, match="Likelihood does not say how likely an item is"):
        Likelihood().log_prob(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(
        ValueError, match="'a' is a half-made Nothing; expected its constructor to begin with"
    ):
        Modality("a", (3,), nn.Identity(), nn.Identity(), Nothing())


# --- a learned scale ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("learn_scale", [True, (2, 3)])
def test_a_learned_scale_is_that_of_torch_in_value_and_gradient(learn_scale):
    x, mean = made(0, 4, 2, 3), made(1, 5, 4, 2, 3)
    likelihood = NormalLikelihood(0.6, learn_scale).double()
    with torch.no_grad():
        likelihood.log_scale += 0.3 * made(2, *likelihood.log_scale.shape)
    log_scale = likelihood.log_scale.detach().clone().requires_grad_()
    reference = torch.distributions.Normal(mean, log_scale.exp()).log_prob(x).sum((-1, -2))
    found = likelihood.log_prob(mean, x)
    torch.testing.assert_close(found, reference, rtol=1e-12, atol=0)
    gradients = [
        torch.autograd.grad(value.square().sum(), of)[0]
        for value, of in ((found, likelihood.log_scale), (reference, log_scale))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=0)


@pytest.mark.parametrize("learn_scale", [True, (3,)])
def test_the_scale_starts_where_it_is_said_to_and_is_fixed_unless_learned(learn_scale):
    fixed, learned = NormalLikelihood(0.4), NormalLikelihood(0.4, learn_scale)
    x, mean = made(0, 4, 3), made(1, 4, 3)
    assert fixed.scale == 0.4 and not fixed.state_dict()
    torch.testing.assert_close(learned.double().scale, torch.full(learned.log_scale.shape, 0.4).double())
    torch.testing.assert_close(
        learned.log_prob(mean, x), fixed.log_prob(mean, x), rtol=1e-6, atol=0
    )  # float32


@pytest.mark.parametrize("learn_scale", [True, (4,)])
def test_the_gradient_is_that_of_the_exact_likelihood(learn_scale):
    """At the exact posterior of a linear model the ELBO's slope in log sigma is that of log p(x)."""
    known = lab.LinearGaussian.make({"a": 4}, 2, noise=0.7, seed=1)
    (part,) = lab.modalities(known, experts="likelihood")
    likelihood = NormalLikelihood(0.7, learn_scale)
    model = MVAE([Modality("a", (4,), part.encoder, part.decoder, likelihood)], 2).double()
    batch, draws = known.sample(6, generator(0))[1], 20_000
    bounds.elbo(model.log_weights(batch, draws, generator=generator(1))).sum().backward()
    log_scale = torch.full((4,), math.log(0.7), dtype=torch.float64, requires_grad=True)
    view = known.views["a"]
    covariance = view.weight @ view.weight.T + (2 * log_scale).exp().diag()
    exact = torch.distributions.MultivariateNormal(view.bias, covariance).log_prob(batch["a"]).sum()
    (expected,) = torch.autograd.grad(exact, log_scale)
    found = likelihood.log_scale.grad
    # a squared normal of a variance below 1 a row and dimension: 24 of sd sqrt 2 in the sum, over 20,000 draws
    tolerance = 5 * math.sqrt(2 * 24 / draws)
    torch.testing.assert_close(
        found, expected.sum() if learn_scale is True else expected, rtol=0, atol=tolerance
    )
    assert expected.abs().max() > 5 * tolerance  # a slope that another scale would not have


def learning(scale=1.0, seed=0):
    torch.manual_seed(seed)
    learned = NormalLikelihood(scale, learn_scale=True)
    return MMVAE(modalities({"left": (3,), "right": (4,)}, 2, 0.05, likelihood=learned), 2)


def scales_of(model):
    return [part.likelihood.scale.item() for part in model.modalities.values()]


def test_it_belongs_to_the_model_and_each_modality_has_its_own(tmp_path):
    model = learning()
    keys = [name for name in model.state_dict() if "likelihood" in name]
    assert keys == ["modalities.left.likelihood.log_scale", "modalities.right.likelihood.log_scale"]
    assert model.double().modalities["left"].likelihood.scale.dtype == torch.float64
    split = ToySplit()
    # noise of 0.1 around a code of two dimensions: the scale must come down from 1
    split.x = {name: x + 0.1 * torch.randn(x.shape, generator=generator(3)) for name, x in split.x.items()}
    fit(model, split, 300, 32, 2e-2, progress=False)
    scales = scales_of(model)
    assert max(scales) < 0.9 and scales[0] != scales[1]
    again = learning(seed=1).double()
    load_weights(save_weights(tmp_path / "weights.safetensors", model), again)
    assert scales_of(again) == scales


def test_it_is_continued_to_the_same_bits(tmp_path):
    options = {"batch_size": 16, "learning_rate": 1e-2, "progress": False}
    whole = learning()
    fit(whole, ToySplit(), 12, **options)
    for steps in (5, 12):
        part = learning()
        fit(part, ToySplit(), steps, checkpoint_dir=tmp_path, **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, part.state_dict()[name]), name
    assert float(part.modalities["left"].likelihood.log_scale.detach()) != 0


@pytest.mark.parametrize("learn_scale", ["yes", None, 3, (), (0,), (2.5,), 1.5])
def test_what_is_no_scale_to_learn_is_refused(learn_scale):
    with pytest.raises(ValueError, match="learn_scale is .*; expected"):
        NormalLikelihood(learn_scale=learn_scale)


def test_a_scale_for_items_of_another_shape_is_refused_when_the_modality_is_made():
    with pytest.raises(
        ValueError, match=r"learn_scale is \(3,\); expected True or the shape of an item, \(4,\)"
    ):
        Modality("a", (4,), nn.Identity(), nn.Identity(), NormalLikelihood(learn_scale=(3,)))


# --- padding --------------------------------------------------------------------------------------------------------

PADDED = torch.tensor([[2, 1, 0, 0], [1, 1, 2, 3], [0, 0, 0, 0]])  # 0 is padding


def test_probabilities_of_all_items_of_a_length_add_to_one():
    likelihood, logits = CategoricalLikelihood(4, padding=0), made(0, 1, 3, 4)
    every = torch.cartesian_prod(
        torch.arange(1, 4), torch.arange(1, 4)
    )  # all items of two symbols, then padding
    items = F.pad(every, (0, 1))
    total = likelihood.log_prob(logits.expand(len(items), -1, -1), items).exp().sum()
    assert math.isclose(float(total), 1, rel_tol=1e-12)
    assert likelihood.log_prob(logits, torch.zeros(1, 3, dtype=torch.long)) == 0  # nothing but padding
    mean = likelihood.mean(logits)
    assert not mean[..., 0].any()
    torch.testing.assert_close(mean.sum(-1), torch.ones(1, 3).double())


@pytest.mark.equation("eq-caption-likelihood")
def test_padding_counts_nothing_and_the_rest_what_it_counts_alone():
    logits = made(1, 5, 3, 4, 4).requires_grad_()
    found = CategoricalLikelihood(4, padding=0).log_prob(logits, PADDED)
    for row, length in enumerate((2, 4)):
        alone = torch.distributions.Categorical(logits=logits[:, row, :length, 1:])
        expected = alone.log_prob(PADDED[row, :length] - 1).sum(-1)
        torch.testing.assert_close(found[:, row], expected, rtol=1e-12, atol=0)
    assert not found[:, 2].any()
    (gradient,) = torch.autograd.grad(found.square().sum(), logits)
    assert not gradient[:, PADDED == 0].any() and not gradient[..., 0].any()
    assert gradient[:, PADDED != 0][..., 1:].all()


def test_without_padding_every_symbol_counts():
    logits = made(2, 3, 4, 4)
    plain = CategoricalLikelihood(4).log_prob(logits, PADDED)
    torch.testing.assert_close(plain, torch.distributions.Categorical(logits=logits).log_prob(PADDED).sum(-1))
    assert (plain < CategoricalLikelihood(4, padding=0).log_prob(logits, PADDED)).any()


@pytest.mark.parametrize("padding", [4, -1, 1.0, True, "0"])
def test_padding_is_one_of_the_symbols(padding):
    with pytest.raises(ValueError, match="padding is .*; expected an integer from 0 to 3"):
        CategoricalLikelihood(4, padding)


def test_padding_leaves_at_least_one_symbol():
    with pytest.raises(ValueError, match="classes is 1; expected an integer of at least 2"):
        CategoricalLikelihood(1, padding=0)


# --- what MMALI takes -----------------------------------------------------------------------------------------------


def test_mmali_takes_one_hot_vectors():
    names = example(mmali, "MMALI")
    assert torch.isfinite(names["loss"])
    torch.manual_seed(0)
    model = MMALI(modalities({"image": (1, 8, 8), "word": (3,)}, 5, 0.05), 5, layers="small", width=0.2)
    before = copy.deepcopy(model.state_dict())
    words = F.one_hot(torch.arange(96) % 3, 3).float()
    split = split_of(image=torch.rand(96, 1, 8, 8, generator=generator(0)), word=words)
    history = fit_adversarial(model, split, 5, 16, progress=False)
    assert all(math.isfinite(value) for value in history[-1].values())
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert "modalities.word.decoder.output.weight" in moved
    assert (
        "modalities.word.likelihood.log_scale" not in moved
    )  # there is no density that it could be learned from
    assert model.sample(4)["word"].shape == (4, 3)


@pytest.mark.parametrize("likelihood", [CategoricalLikelihood(3), Spread(), "Poisson"])
def test_mmali_refuses_likelihoods_whose_mean_is_no_item(likelihood):
    if likelihood == "Poisson":
        likelihood = example(likelihoods, "Likelihood")["Poisson"]()
    parts = nets.modalities({"word": (4,)}, 5, 0.05, likelihood=likelihood)
    expected = "one whose mean is an item: give symbols as one-hot vectors with a NormalLikelihood"
    with pytest.raises(ValueError, match=f"'word' has {type(likelihood).__name__}; expected {expected}"):
        MMALI(parts, 5)
