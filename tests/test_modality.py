import math

import pytest
import torch
from torch import Tensor, nn

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
        (GOOD, {"image": SEEN.int()}, r"mask\['image'\] is torch.int32 of shape \(4,\); expected bool"),
        (GOOD, {"image": None}, r"mask\['image'\] is None; expected a tensor"),
        (GOOD, SEEN, r"mask is of type Tensor of .*; expected a mapping from modality names to tensors"),
        (GOOD["image"], None, "batch is of type Tensor of shape .*; expected a mapping"),
        ((GOOD["image"], GOOD["word"]), None, "batch is of type tuple; expected a mapping"),
        (None, None, "batch is None; expected a mapping"),
        ({"image": None}, None, r"batch\['image'\] is None; expected a tensor \[B, ...\]"),
        ({"image": "4.png"}, None, r"batch\['image'\] is '4.png'; expected a tensor"),
        ({"word": [b"a", b"b"]}, None, r"batch\['word'\] is of type list; expected a tensor"),
        ({"image": [[0.1], [0.2, 0.3]]}, None, r"batch\['image'\] is of type list; expected a tensor"),
        ({"image": torch.tensor(0.5)}, None, r"shape \(\); expected"),
        ({"image": torch.full((4, 1, 2, 2), 1 + 1e-7)}, None, r"from 1\.0000001 to 1\.0000001; expected"),
        ({"image": torch.full((4, 1, 2, 2), -1e-30)}, None, r"pixels from -1e-30 to -1e-30; expected"),
        ({"image": GOOD["image"]}, {"image": SEEN}, "leaves row 2 without any modality"),
    ],
)
def test_bad_batches_are_refused_by_name(batch, mask, message):
    with pytest.raises(ValueError, match=message):
        check_batch(MODALITIES, batch, mask)


def test_arrays_lists_and_symbols_of_any_integer_are_taken():
    expected, seen = check_batch(MODALITIES, GOOD, {"image": SEEN})
    for convert in (Tensor.numpy, Tensor.tolist):
        clean, mask = check_batch(
            MODALITIES, {n: convert(x) for n, x in GOOD.items()}, {"image": convert(SEEN)}
        )
        for name in GOOD:
            torch.testing.assert_close(clean[name].to(expected[name]), expected[name])
            assert torch.equal(mask[name], seen[name])
    for dtype in (torch.uint8, torch.int32, torch.bool):
        clean, _ = check_batch(MODALITIES, {"word": GOOD["word"].to(dtype)})
        assert clean["word"].dtype == torch.int64 and torch.equal(clean["word"], GOOD["word"])


@pytest.mark.parametrize("given", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_take_the_precision_of_the_networks(given, dtype):
    part = Modality("a", (3,), nn.Linear(3, 4), nn.Linear(2, 3), NormalLikelihood()).to(dtype)
    clean, _ = check_batch({"a": part}, {"a": torch.ones(2, 3, dtype=given)})
    assert clean["a"].dtype == dtype


def test_tensors_on_another_device_are_refused():
    part = Modality("a", (3,), nn.Linear(3, 4), nn.Linear(2, 3), NormalLikelihood())
    with pytest.raises(ValueError, match=r"batch\['a'\] is on meta; expected it on the model's device, cpu"):
        check_batch({"a": part}, {"a": torch.ones(2, 3, device="meta")})


@pytest.mark.parametrize(
    ("likelihood", "params", "x"),
    [
        (kind, made, (5, *shape))
        for kind in (LaplaceLikelihood(), NormalLikelihood(), BernoulliLikelihood())
        for shape, made in (
            ((3, 4, 4), (5, 1, 4, 4)),
            ((3, 4, 4), (5, 3, 1, 1)),
            ((1, 4), (5, 3, 4)),
            ((4,), (5, 1)),
        )
    ]
    + [
        (CategoricalLikelihood(3), made, x)
        for made, x in (((5, 1, 3), (5, 4)), ((5, 4, 2), (5, 4)), ((1, 3), (5,)), ((5, 3), (1,)))
    ],
)
def test_parameters_of_another_shape_are_refused_by_likelihood_and_modality(likelihood, params, x):
    made, items = (
        torch.rand(*params),
        torch.zeros(x, dtype=torch.long if likelihood.discrete else torch.float32),
    )
    with pytest.raises(ValueError, match="params have shape .*; expected"):
        likelihood.log_prob(made, items)
    if params[0] == x[0]:
        part = Modality("a", x[1:], nn.Identity(), lambda z: made, likelihood)
        with pytest.raises(ValueError, match=r"decoder of modality 'a' gives shape .* for 5 codes; expected"):
            part.decode(torch.zeros(5, 2))


@pytest.mark.parametrize(
    "output",
    [
        torch.zeros(5, 4),
        (torch.zeros(5, 2),),
        (torch.zeros(5, 1), torch.zeros(5, 1)),
        (torch.zeros(5, 2), torch.zeros(5, 1)),
        (torch.zeros(1, 2), torch.zeros(1, 2)),
        (torch.zeros(5, 2), torch.zeros(5, 2), torch.zeros(5, 2)),
        (torch.zeros(5, 2), 1.0),
        None,
    ],
)
def test_encoders_give_locations_and_raw_scales(output):
    part = Modality("a", (3,), lambda x: output, nn.Identity(), NormalLikelihood())
    with pytest.raises(
        ValueError, match=r"encoder of modality 'a' gives .*; expected loc and raw scale, \(5, 2\) each"
    ):
        part.encode(torch.zeros(5, 3), 2)


@pytest.mark.parametrize(
    "name", ["type", "values", "to", "training", "__class__", "audio.left", "", None, 3, ("a",)]
)
def test_names_that_no_module_can_have_are_refused(name):
    with pytest.raises(ValueError, match="name is .*; expected a string without a dot"):
        Modality(name, (3,), nn.Identity(), nn.Identity(), NormalLikelihood())


@pytest.mark.parametrize(
    ("shape", "encoder", "decoder", "likelihood", "message"),
    [
        (3, nn.Identity(), nn.Identity(), NormalLikelihood(), "shape is 3; expected sizes"),
        ((3, 0), nn.Identity(), nn.Identity(), NormalLikelihood(), r"shape is \(3, 0\); expected sizes"),
        ((2.5,), nn.Identity(), nn.Identity(), NormalLikelihood(), r"shape is \(2.5,\); expected sizes"),
        (
            (3,),
            nn.Identity,
            nn.Identity(),
            NormalLikelihood(),
            "encoder of modality 'a' is .*; expected a network",
        ),
        (
            (3,),
            nn.Identity(),
            None,
            NormalLikelihood(),
            "decoder of modality 'a' is None; expected a network",
        ),
        (
            (3,),
            nn.Identity(),
            nn.Identity(),
            NormalLikelihood,
            "likelihood of modality 'a' is .*; expected an instance",
        ),
        (
            (3,),
            nn.Identity(),
            nn.Identity(),
            "normal",
            "likelihood of modality 'a' is 'normal'; expected an instance",
        ),
    ],
)
def test_parts_of_the_wrong_kind_are_refused(shape, encoder, decoder, likelihood, message):
    with pytest.raises(ValueError, match=message):
        Modality("a", shape, encoder, decoder, likelihood)


def test_bad_settings_are_refused_by_name():
    with pytest.raises(ValueError, match="scale is 0; expected a positive number"):
        LaplaceLikelihood(0)
    with pytest.raises(ValueError, match="weight is -1"):
        Modality("a", (1,), nn.Identity(), nn.Identity(), NormalLikelihood(), weight=-1)
