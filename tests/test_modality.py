import math

import pytest
import torch
from torch import nn

from mmlib.modality import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    LaplaceLikelihood,
    Modality,
    NormalLikelihood,
    check_batch,
)


def made(seed, *shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.equation("eq-laplace-likelihood")
def test_laplace_likelihood_is_that_of_torch_in_value_and_gradient():
    x, params = made(0, 4, 2, 3), made(1, 5, 4, 2, 3).requires_grad_()
    ours = LaplaceLikelihood(0.75).log_prob(params, x)
    reference = torch.distributions.Laplace(params, 0.75).log_prob(x).sum((-1, -2))
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(ours.square().sum(), params)
    (expected,) = torch.autograd.grad(reference.square().sum(), params)
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=0)


def test_normal_bernoulli_and_categorical_likelihoods_are_those_of_torch():
    x, params = made(0, 4, 2, 3), made(1, 5, 4, 2, 3)
    normal = torch.distributions.Normal(params, 0.3).log_prob(x).sum((-1, -2))
    torch.testing.assert_close(NormalLikelihood(0.3).log_prob(params, x), normal, rtol=1e-12, atol=0)
    binary = (x > 0.5).double()
    bernoulli = torch.distributions.Bernoulli(logits=params).log_prob(binary).sum((-1, -2))
    torch.testing.assert_close(BernoulliLikelihood().log_prob(params, binary), bernoulli, rtol=1e-12, atol=0)
    symbols = torch.tensor([[0, 2], [1, 1], [2, 0], [0, 0]])
    categorical = torch.distributions.Categorical(logits=params).log_prob(symbols).sum(-1)
    ours = CategoricalLikelihood(3).log_prob(params, symbols)
    torch.testing.assert_close(ours, categorical, rtol=1e-12, atol=0)


def test_categorical_probabilities_add_to_one_and_grow_with_the_logit():
    logits = torch.tensor([[0.0, 1.0, -2.0]], dtype=torch.float64)
    likelihood = CategoricalLikelihood(3)
    each = torch.stack([likelihood.log_prob(logits, torch.tensor([c])) for c in range(3)])
    assert math.isclose(float(each.exp().sum()), 1, rel_tol=1e-12)
    raised = likelihood.log_prob(logits + torch.tensor([1.0, 0, 0]), torch.tensor([0]))
    assert raised > each[0]


def test_means_are_those_of_torch():
    params = made(2, 3, 4)
    for likelihood, reference in (
        (LaplaceLikelihood(0.3), torch.distributions.Laplace(params, 0.3).mean),
        (NormalLikelihood(0.3), torch.distributions.Normal(params, 0.3).mean),
        (BernoulliLikelihood(), torch.distributions.Bernoulli(logits=params).mean),
        (CategoricalLikelihood(4), torch.distributions.Categorical(logits=params).probs),
    ):
        torch.testing.assert_close(likelihood.mean(params), reference)


MODALITIES = {
    "image": Modality("image", (1, 2, 2), nn.Identity(), nn.Identity(), LaplaceLikelihood()),
    "word": Modality("word", (3,), nn.Identity(), nn.Identity(), CategoricalLikelihood(5)),
}
GOOD = {"image": torch.rand(4, 1, 2, 2), "word": torch.zeros(4, 3, dtype=torch.long)}
SEEN = torch.tensor([True, True, False, True])


def test_what_is_not_observed_becomes_zero_and_everything_else_stays():
    hidden = torch.where(SEEN.view(-1, 1, 1, 1), GOOD["image"], torch.tensor(float("nan")))
    clean, mask = check_batch(MODALITIES, {"word": GOOD["word"], "image": hidden}, {"image": SEEN})
    assert list(clean) == ["image", "word"]
    assert torch.equal(clean["image"][SEEN], GOOD["image"][SEEN]) and not clean["image"][~SEEN].any()
    assert torch.equal(mask["image"], SEEN) and mask["word"].all()


@pytest.mark.parametrize(
    ("batch", "mask", "message"),
    [
        ({"sound": torch.rand(4, 3)}, None, r"batch names 'sound'; the model's modalities are image, word"),
        ({}, None, "batch is empty"),
        ({"image": torch.rand(0, 1, 2, 2)}, None, "expected at least one row"),
        ({"image": torch.rand(4, 1, 2, 3)}, None, r"shape \(4, 1, 2, 3\); expected \(4, 1, 2, 2\)"),
        ({**GOOD, "word": GOOD["word"][:3]}, None, r"shape \(3, 3\); expected \(4, 3\)"),
        ({"image": torch.rand(4, 1, 2, 2) + 0.5}, None, r"pixels from .* expected pixels in \[0, 1\]"),
        ({"image": torch.full((4, 1, 2, 2), float("nan"))}, None, "NaN or infinity in observed row 0"),
        ({"image": (GOOD["image"] * 255).byte()}, None, "uint8; expected floating point"),
        ({"word": torch.full((4, 3), 5)}, None, r"symbols 5 \.\. 5; expected 0 \.\. 4"),
        ({"word": torch.rand(4, 3)}, None, "float32; expected int64"),
        (GOOD, {"sound": SEEN}, "mask names 'sound'"),
        (GOOD, {"image": SEEN[:2]}, r"expected bool of shape \(4,\)"),
        (GOOD, {"image": SEEN.float()}, "expected bool"),
        ({"image": GOOD["image"]}, {"image": SEEN}, "leaves row 2 without any modality"),
    ],
)
def test_bad_batches_are_refused_by_name(batch, mask, message):
    with pytest.raises(ValueError, match=message):
        check_batch(MODALITIES, batch, mask)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="scale is 0; expected a positive number"):
        LaplaceLikelihood(0)
    with pytest.raises(ValueError, match="weight is -1"):
        Modality("a", (1,), nn.Identity(), nn.Identity(), NormalLikelihood(), weight=-1)
