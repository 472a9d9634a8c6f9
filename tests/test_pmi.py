"""Pointwise mutual information against the exact one of the laboratory, and thresholds on scores by hand."""

import itertools
import math

import pytest
import torch

from mmlib.lab import LinearGaussian, joint_encoder
from mmlib.lab import modalities as lab_modalities
from mmlib.metrics.likelihood import log_marginal
from mmlib.metrics.pmi import estimate_pmi, pmi_by_k, pointwise_mutual_information
from mmlib.metrics.threshold import best_threshold, f1_score, threshold_quality
from mmlib.models import JMVAE, MMJSD, MMVAE, MVAE, MoPoE

LAB = LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.7, seed=1)
EXACT = {"atol": 1e-9, "rtol": 1e-9}  # float64, sums of some hundred numbers
PLAIN = {"posterior": "normal", "scale": "softplus", "learn_prior": False}


def rows(n=4, seed=0, lab=LAB):
    return lab.sample(n, torch.Generator().manual_seed(seed))[1]


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def mmvae(shift=0.0, widen=1.2, lab=LAB, **options):
    return MMVAE(lab_modalities(lab, shift=shift, widen=widen), 2, **PLAIN | options).double()


def jmvae():
    return JMVAE(lab_modalities(LAB, widen=1.2), 2, joint_encoder(LAB, widen=1.2)).double()


def mvae():
    return MVAE(lab_modalities(LAB, experts="likelihood", widen=1.2), 2).double()


def mopoe(**options):
    return MoPoE(lab_modalities(LAB, widen=1.2), 2, **options).double()


def mmjsd(**options):
    return MMJSD(lab_modalities(LAB, widen=1.2), 2, **options).double()


ALL = [mmvae, jmvae, mvae, mopoe, mmjsd]


def exact(x, y):
    """The PMI of every pair, [B, B'], from closed forms."""
    i, j = torch.meshgrid(torch.arange(len(x)), torch.arange(len(y)), indexing="ij")
    pairs = {"a": x[i.flatten()], "b": y[j.flatten()]}
    parts = (LAB.log_marginal(pairs), LAB.log_marginal(pairs, ["a"]), LAB.log_marginal(pairs, ["b"]))
    return pointwise_mutual_information(*parts).view(len(x), len(y))


@pytest.mark.equation("eq-pmi")
def test_pmi_by_hand_and_where_it_is_known():
    numbers = [torch.tensor(x).requires_grad_() for x in ([-3.0, -5.0], [-2.0, -1.0], [-4.0, -4.0])]
    found = pointwise_mutual_information(*numbers)
    assert found.tolist() == [3.0, 0.0]
    gradients = torch.autograd.grad(found.sum(), numbers)
    assert [x.tolist() for x in gradients] == [[1.0, 1.0], [-1.0, -1.0], [-1.0, -1.0]]
    apart = LinearGaussian.make({"a": 2, "b": 3}, 1, noise=0.7, style_dim={"a": 1, "b": 1}, seed=0)
    for view in apart.views.values():  # no shared code is heard: what is left is independent
        view.weight[:, -1] = 0
    batch = rows(5, lab=apart)
    parts = (apart.log_marginal(batch), apart.log_marginal(batch, ["a"]), apart.log_marginal(batch, ["b"]))
    torch.testing.assert_close(pointwise_mutual_information(*parts), torch.zeros(5).double(), **EXACT)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("proposal", ["alone", "pair", None])
def test_every_estimate_tends_to_the_exact_one(make, proposal):
    """Standard deviations at K = 2,000 are up to 0.07 nats, where PMI is -7: at 20,000 four of them are 0.1."""
    x, y = rows()["a"], rows(3, 1)["b"]
    found = estimate_pmi(
        make(), {"a": x, "b": y}, 20_000, source(), all_pairs=True, proposal=proposal, chunk=5_000
    )
    assert found.shape == (4, 3)
    torch.testing.assert_close(found, exact(x, y), atol=0.1, rtol=0)


def test_error_falls_as_the_root_of_k():
    batch = rows(20)
    truth = exact(batch["a"], batch["b"]).diagonal()
    found = pmi_by_k(mmvae(), batch, (50, 800), 12, source())
    spread = {k: float(x.std(0).mean()) for k, x in found.items()}
    assert (
        3 < spread[50] / spread[800] < 5.3
    )  # 4 in the limit; 240 numbers each, so about 6 % of noise in each
    error = {k: float((x - truth).square().mean().sqrt()) for k, x in found.items()}
    assert error[800] < 0.4 * error[50]


def by_definition(model, batch, k, generator):
    """Every pair with draws, decodes and densities of its own, by the definition."""
    codes = {
        name: model.posterior({name: x}).rsample_stratified(k, generator)[0] for name, x in batch.items()
    }
    found = torch.empty(len(batch["a"]), len(batch["b"])).double()
    for i, j in itertools.product(range(len(batch["a"])), range(len(batch["b"]))):
        pair = {"a": batch["a"][i : i + 1], "b": batch["b"][j : j + 1]}
        z = {"a": codes["a"][:, i : i + 1], "b": codes["b"][:, j : j + 1]}
        mixture = model.posterior(pair)

        def log_p(names, z, pair=pair):
            return sum(model.log_likelihood(n, z, pair[n], torch.tensor([True])) for n in names)

        joint = [log_p("ab", z[n]) + model.prior.log_prob(z[n]) - mixture.log_prob(z[n]) for n in "ab"]
        log_joint = torch.logsumexp(torch.cat(joint), 0) - math.log(2 * k)
        alone = [
            log_p(n, z[n]) + model.prior.log_prob(z[n]) - model.posterior({n: pair[n]}).log_prob(z[n])
            for n in "ab"
        ]
        parts = [torch.logsumexp(x, 0) - math.log(k) for x in alone]
        found[i, j] = (log_joint - parts[0] - parts[1])[0]
    return found


@pytest.mark.parametrize(
    "make", [mmvae, lambda: mmjsd(inference="mixture"), lambda: mmvae(posterior="laplace")]
)
def test_decodes_that_serve_all_pairs_are_decodes_of_their_own(make):
    model, batch = make(), {"a": rows()["a"], "b": rows(3, 1)["b"]}
    expected = by_definition(model, batch, 6, source(3))
    torch.testing.assert_close(estimate_pmi(model, batch, 6, source(3), all_pairs=True), expected, **EXACT)


def test_the_order_of_names_is_that_of_the_axes():
    batch = {"b": rows(3, 1)["b"], "a": rows()["a"]}
    found = estimate_pmi(mmvae(), batch, 20_000, source(), all_pairs=True, chunk=5_000)
    torch.testing.assert_close(found, exact(batch["a"], batch["b"]).T, atol=0.1, rtol=0)


def test_rows_are_the_diagonal_of_all_pairs():
    model, batch = mmvae(), rows()
    found = estimate_pmi(model, batch, 7, source(1))
    torch.testing.assert_close(
        found, estimate_pmi(model, batch, 7, source(1), all_pairs=True).diagonal(), **EXACT
    )


@pytest.mark.parametrize("all_pairs", [True, False])
def test_chunks_do_not_matter(all_pairs):
    model, batch = mmvae(), rows(5)
    found = [
        estimate_pmi(model, batch, 7, source(1), all_pairs, chunk=chunk, rows=some)
        for chunk, some in ((1, 1), (3, 2), (100, 100))
    ]
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, **EXACT)


def test_chunks_of_pairs_decide_the_order_of_draws_alone():
    """Of a posterior of every pair: at K = 20,000 both are within 0.02 of the truth, as above."""
    batch = rows(3)
    for chunk, some in ((700, 2), (20_000, 100)):
        found = estimate_pmi(jmvae(), batch, 20_000, source(), True, chunk=chunk, rows=some)
        torch.testing.assert_close(found, exact(batch["a"], batch["b"]), atol=0.02, rtol=0)


def count(model, **options):
    """Codes that the decoders are given."""
    numbers = []
    hooks = [
        part.decoder.register_forward_hook(lambda _, given, __: numbers.append(len(given[0])))
        for part in model.modalities.values()
    ]
    estimate_pmi(model, {"a": rows(4)["a"], "b": rows(3)["b"]}, 6, source(), all_pairs=True, **options)
    for hook in hooks:
        hook.remove()
    return sum(numbers)


def test_items_are_decoded_once_and_pairs_each():
    for rows_at_once in (1, 100):
        assert count(mmvae(), rows=rows_at_once) == 2 * 6 * (4 + 3)
    assert count(jmvae()) == 2 * 6 * 4 * 3 + 6 * (4 + 3)  # both decoders for a pair, one for an item alone
    assert count(jmvae(), proposal="alone") == 2 * 6 * (4 + 3)
    assert count(mopoe(inference="mixture")) == 3 * 2 * 6 * 4 * 3 + 6 * (4 + 3)  # three components


def test_draws_that_serve_all_terms_cancel_noise():
    """With draws of its own for every term the variance is larger: here nearly three times as large."""
    batch, model, k = rows(20), mmvae(widen=2.0), 100
    shared = pmi_by_k(model, batch, (k,), 30, source())[k].var(0).mean()

    def apart(generator):
        terms = [log_marginal(model, batch, list(n), k, generator, chunk=k).value for n in ("ab", "a", "b")]
        return pointwise_mutual_information(*terms)

    generator = source(1)
    own = torch.stack([apart(generator) for _ in range(30)]).var(0).mean()
    assert shared < 0.6 * own, float(own / shared)


def test_training_weights_are_no_part_of_it():
    model, heavy, batch = mmvae(), mmvae(), rows()
    heavy.modalities["a"].weight = 7.0
    torch.testing.assert_close(
        *(estimate_pmi(m, batch, 5, source(2), all_pairs=True) for m in (model, heavy)), **EXACT
    )


def test_two_of_three_modalities_are_enough():
    lab = LinearGaussian.make({"a": 3, "b": 4, "c": 3}, 2, noise=0.7, seed=1)
    batch = rows(6, lab=lab)
    pair = {"a": batch["a"], "c": batch["c"]}
    truth = lab.log_marginal(pair) - lab.log_marginal(pair, ["a"]) - lab.log_marginal(pair, ["c"])
    found = estimate_pmi(mmvae(lab=lab), pair, 20_000, source(), chunk=5_000)
    torch.testing.assert_close(found, truth, atol=0.02, rtol=0)


def test_a_model_with_styles_is_scored_pair_by_pair():
    lab = LinearGaussian.make({"a": 3, "b": 4}, 1, noise=0.7, style_dim={"a": 1, "b": 2}, seed=1)
    model = MMVAE(lab_modalities(lab, widen=1.1), 1, **PLAIN, style_dim={"a": 1, "b": 2}).double()
    batch = rows(4, lab=lab)
    truth = lab.log_marginal(batch) - lab.log_marginal(batch, ["a"]) - lab.log_marginal(batch, ["b"])
    found = estimate_pmi(model, batch, 20_000, source(), chunk=5_000)
    torch.testing.assert_close(found, truth, atol=0.05, rtol=0)  # more numbers in a code: more noise
    with pytest.raises(
        ValueError, match="proposal is 'alone', and the model has a style of a; expected 'pair'"
    ):
        estimate_pmi(model, batch, 5, proposal="alone")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": {"a": rows()["a"]}}, "batch holds a; expected two modalities"),
        ({"batch": {}}, "batch holds nothing; expected two modalities"),
        ({"batch": rows()["a"]}, "batch holds of type Tensor of shape .* expected two modalities"),
        ({"batch": {"a": rows()["a"], "z": rows()["b"]}}, "batch names 'z'; the model's modalities are a, b"),
        (
            {"batch": {"a": rows(4)["a"], "b": rows(3)["b"]}},
            "batch has 4 and 3 rows; expected as many, or all",
        ),
        ({"batch": {**rows(), "a": rows()["a"] * math.nan}}, "has NaN or infinity in observed row 0"),
        ({"k": 0}, "k is 0; expected"),
        ({"chunk": 2.5}, "chunk is 2.5; expected"),
        ({"rows": 0}, "rows is 0; expected"),
        ({"proposal": "joint"}, "proposal is 'joint'; expected one of alone, pair"),
        (
            {"model": torch.nn.Linear(1, 1)},
            "model is of type Linear, without posterior; expected a model with",
        ),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        estimate_pmi(**{"model": mmvae(), "batch": rows(), "k": 3} | changes)


def test_one_repetition_has_no_spread():
    with pytest.raises(ValueError, match="repeats is 1; expected"):
        pmi_by_k(mmvae(), rows(), (3,), 1)


# --- thresholds -----------------------------------------------------------------------------------------------------

SCORES = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
RELATED = torch.tensor([True, False, True, False, False])


@pytest.mark.equation("eq-f1")
def test_f1_by_hand():
    assert f1_score(0.5, 1.0) == pytest.approx(2 / 3)
    assert f1_score(0.0, 0.0) == 0.0
    assert f1_score([1.0, 0.0], [0.2, 1.0]).tolist() == pytest.approx([1 / 3, 0.0])


@pytest.mark.equation("eq-f1")
def test_the_best_threshold_by_hand_and_by_search():
    assert best_threshold(SCORES, RELATED) == 2.0  # two of three called: F1 0.8; from 4.0 on it is 2 / 3
    assert threshold_quality(SCORES, RELATED, 2.0) == {
        "precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "accuracy": 0.8,
        "called": 3, "related": 2, "pairs": 5,
    }  # fmt: skip
    scores = torch.randn(60, generator=source()).round(decimals=1)  # with ties
    related = torch.rand(60, generator=source(1)) < 0.2
    best = max((threshold_quality(scores, related, float(t))["f1"], float(t)) for t in scores)
    assert best_threshold(scores, related) == pytest.approx(best[1])  # of several, the highest
    assert best_threshold(scores.view(6, 10), related.view(6, 10)) == pytest.approx(best[1])


def test_of_several_best_thresholds_the_highest():
    scores, related = torch.tensor([3.0, 2.0, 1.0, 1.0]), torch.tensor([True, False, True, False])
    quality = [threshold_quality(scores, related, t)["f1"] for t in (1.0, 3.0)]
    assert quality == pytest.approx([2 / 3, 2 / 3])
    assert best_threshold(scores, related) == 3.0


def test_with_few_related_pairs_accuracy_is_best_where_nothing_is_called():
    scores = torch.cat([torch.randn(90, generator=source()), 1 + torch.randn(10, generator=source(1))])
    related = torch.arange(100) >= 90
    nothing = threshold_quality(scores, related, float(scores.max()) + 1)
    chosen = threshold_quality(scores, related, best_threshold(scores, related))
    assert nothing["f1"] == nothing["precision"] == 0.0 and nothing["accuracy"] == 0.9
    assert chosen["f1"] > 0.3 and chosen["accuracy"] <= nothing["accuracy"] + 0.02


@pytest.mark.parametrize(
    ("scores", "related", "message"),
    [
        (SCORES, RELATED.long(), "related is torch.int64 of shape .5,.; expected bool"),
        (SCORES, RELATED[:4], "related is torch.bool of shape .4,.; expected bool, as many as scores, .5,."),
        (SCORES * math.nan, RELATED, "scores has 5 numbers that are not finite"),
        (SCORES, RELATED & False, "related says that none of 5 pairs are; expected both kinds"),
        (SCORES, RELATED | True, "related says that all of 5 pairs are; expected both kinds"),
    ],
)
def test_bad_scores_are_named(scores, related, message):
    with pytest.raises(ValueError, match=message):
        best_threshold(scores, related)


def test_a_threshold_is_a_number():
    with pytest.raises(ValueError, match="threshold is nan; expected a finite number"):
        threshold_quality(SCORES, RELATED, math.nan)
