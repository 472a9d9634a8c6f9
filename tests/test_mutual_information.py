"""Mutual information of a label and its classifier: closed forms, and a process that knows what it has not seen."""

import math
import sys

import pytest
import torch
from torch.autograd import gradcheck

from mmlib import metrics
from mmlib.data import from_tensors
from mmlib.nets import DigitClassifier
from mmlib.seeding import generator

score = metrics.mutual_information_score


def softmaxes(samples, items, classes, seed=0):
    logits = torch.randn(samples, items, classes, generator=generator(seed), dtype=torch.float64)
    return (2 * logits).softmax(-1)


# --- the score -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-mutual-information-score")
def test_classifiers_that_agree_score_0_and_sure_ones_that_name_every_class_score_log_c():
    one = softmaxes(1, 20, 10)
    torch.testing.assert_close(score(one.expand(7, -1, -1)), torch.zeros(20).double())
    sure = torch.eye(10, dtype=torch.float64)[:, None]  # ten classifiers, each sure of a class of its own
    torch.testing.assert_close(score(sure), torch.tensor([math.log(10)]).double())
    torch.testing.assert_close(score(sure[:4].repeat(3, 1, 1)), torch.tensor([math.log(4)]).double())


@pytest.mark.equation("eq-mutual-information-score")
def test_two_classifiers_of_two_classes_have_the_capacity_of_a_binary_channel():
    """Classifiers that err with chance e, one for either class: log 2 - h(e), as of a binary symmetric channel."""
    for e in (0.0, 0.05, 0.3, 0.5):
        probabilities = torch.tensor([[[1 - e, e]], [[e, 1 - e]]], dtype=torch.float64)
        h = -sum(p * math.log(p) for p in (e, 1 - e) if p)
        assert float(score(probabilities)) == pytest.approx(math.log(2) - h, abs=1e-12)


@pytest.mark.equation("eq-mutual-information-score")
def test_the_score_is_the_mean_divergence_from_the_mean_and_keeps_within_its_bounds():
    """I = mean_s KL(p_s || mean p), an independent form; a bound also by the number of classifiers."""
    probabilities = softmaxes(5, 50, 10)
    mean = probabilities.mean(0)
    divergence = (probabilities * (probabilities / mean).log()).sum(-1).mean(0)
    found = score(probabilities)
    torch.testing.assert_close(found, divergence)
    assert bool((found > 0).all() and (found < math.log(5)).all())
    order = torch.randperm(50, generator=generator(1))
    torch.testing.assert_close(score(probabilities[:, order]), found[order])  # an item is scored on its own


@pytest.mark.equation("eq-mutual-information-score")
def test_the_score_has_the_gradient_of_its_differences():
    logits = torch.randn(3, 2, 4, generator=generator(0), dtype=torch.float64).requires_grad_()
    assert gradcheck(lambda x: score(x.softmax(-1)), logits)


def test_low_is_not_right():
    """All sure of the same wrong class: the best of scores. Torn between two, one of them right: a worse one."""
    wrong = torch.tensor([0.001] * 9 + [0.991]).expand(6, 1, 10)
    torn = torch.tensor([[0.9, 0.1], [0.6, 0.4]]).repeat(3, 1)[:, None]
    assert float(score(wrong)) < 1e-6 < 0.05 < float(score(torn))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.ones(3, 4), r"has shape \(3, 4\); expected \[S, N, C\]"),
        (torch.ones(0, 3, 4), r"has shape \(0, 3, 4\); expected \[S, N, C\] with S and C of at least 1"),
        (torch.randn(3, 2, 4), "negative numbers, or sums other than 1"),
        (torch.full((3, 2, 4), 0.5), "negative numbers, or sums other than 1"),
        (torch.full((3, 2, 4), math.nan), "negative numbers, or sums other than 1"),
    ],
)
def test_what_are_no_probabilities_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        score(given)


# --- the process ---------------------------------------------------------------------------------------------------


class Corner(torch.nn.Module):
    """A judge of two pixels, which are its features."""

    def features(self, x):
        return x.flatten(1)

    def forward(self, x):
        return self.features(x) @ torch.tensor([[1.0, -1.0], [-1.0, 1.0]])


def squares(n=300):
    """Two classes, one where the first pixel is the larger, one where the second is, in two corners of the square."""
    labels = torch.arange(n) % 2
    places = torch.tensor([[0.8, 0.2], [0.2, 0.8]])[labels]
    pixels = places + 0.03 * torch.randn(n, 2, generator=generator(0))
    images = (255 * pixels.clamp(0, 1)).to(torch.uint8).view(n, 1, 1, 2)
    return from_tensors({"a": images, "b": images}, labels=labels)


@pytest.fixture(scope="module")
def made():
    data = squares()
    judges = metrics.Classifiers({"a": Corner().eval()})
    options = {"inducing": 8, "epochs": 60, "batch_size": 100, "learning_rate": 0.05, "progress": False}
    return data, judges, options, metrics.gaussian_process_judge(judges, data, "a", **options)


def test_the_process_is_right_and_sure_where_it_has_seen_items_and_torn_where_it_has_not(made):
    data, _, _, process = made
    batch, labels = data.train.items["a"].batch(torch.arange(100)), data.train.items["a"].labels[:100]
    known = process.probabilities(batch, 200, generator(0))
    assert known.shape == (200, 100, 2)
    assert bool((known.mean(0).argmax(-1) == labels).all())
    away = process.probabilities(batch + 5, 200, generator(0))
    assert float(score(known).mean()) < 0.1 < 0.15 < float(score(away).mean())
    torch.testing.assert_close(away.mean((0, 1)), torch.full((2,), 0.5), atol=0.05, rtol=0)  # the prior's


def test_the_process_is_a_function_of_its_arguments_alone(made):
    data, judges, options, process = made
    torch.manual_seed(5)
    before = torch.get_rng_state()
    again = metrics.gaussian_process_judge(judges, data, "a", **options)
    assert torch.equal(before, torch.get_rng_state())
    other = metrics.gaussian_process_judge(judges, data, "a", **options | {"seed": 1})
    batch = data.train.items["a"].batch(torch.arange(50))
    first, second, third = (p.probabilities(batch, 9, generator(3)) for p in (process, again, other))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert not any(p.requires_grad for p in process.process.parameters())


def test_draws_of_an_image_do_not_depend_on_how_many_there_are(made):
    data, _, _, process = made
    images = data.train.items["a"].batch(torch.arange(150)).repeat(4, 1, 1, 1)  # more than go through at once
    found = score(process.probabilities(images, 2000, generator(0))).view(4, 150)
    torch.testing.assert_close(found[0], found[3], atol=0.03, rtol=0)  # noise of 2,000 draws


def test_the_process_reads_the_features_of_a_judge_and_leaves_it_as_it_is(made):
    options = made[2]
    judge = DigitClassifier((1, 8, 8), classes=2, width=0.125).eval()
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=generator(0)).to(torch.uint8)
    pictures = from_tensors({"a": images, "b": images}, labels=torch.arange(60) % 2)
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    process = metrics.gaussian_process_judge(
        metrics.Classifiers({"a": judge}), pictures, "a", **options | {"epochs": 1}
    )
    assert all(torch.equal(value, before[key]) for key, value in judge.state_dict().items())
    assert process.probabilities(images[:3] / 255, 4).shape == (4, 3, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "b"}, "classifiers judge a; expected one for 'b' too"),
        ({"inducing": 1}, "inducing is 1; expected from 2 to"),
        ({"inducing": 10_000}, "inducing is 10000; expected from 2 to"),
        ({"epochs": 0}, "epochs is 0; expected an integer of at least 1"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"learning_rate": -1}, "learning_rate is -1; expected a positive number"),
        ({"seed": -1}, "seed is -1"),
        ({"data": None}, "data is None, without train; expected a data set"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_fitted(made, changed, message):
    data, judges, options, _ = made
    arguments = {"classifiers": judges, "data": data, "name": "a"} | options | changed
    with pytest.raises(ValueError, match=message):
        metrics.gaussian_process_judge(**arguments)


def test_a_judge_without_features_and_too_few_samples_are_refused(made):
    data, _, options, process = made
    with pytest.raises(ValueError, match=r"classifiers.networks\['a'\] is .*without features"):
        metrics.gaussian_process_judge(metrics.Classifiers({"a": lambda x: x}), data, "a", **options)
    with pytest.raises(ValueError, match="samples is 0; expected an integer of at least 1"):
        process.probabilities(torch.zeros(1, 1, 1, 2), samples=0)


def test_without_gpytorch_the_error_says_what_to_install(made, monkeypatch):
    data, judges, options, _ = made
    monkeypatch.setitem(sys.modules, "gpytorch", None)
    with pytest.raises(
        ModuleNotFoundError, match="gaussian_process_judge needs GPyTorch: pip install gpytorch"
    ):
        metrics.gaussian_process_judge(judges, data, "a", **options)


# --- of a model, with judges that are kept -------------------------------------------------------------------------


class Faded:
    """Draws of either modality what it is given, with pixels moved out of the square where ``a`` is the source."""

    def __init__(self):
        self.modalities = {"a": None, "b": None}

    def named_modules(self):
        return []

    def parameters(self):
        return iter([])

    def generate(self, batch, given, to, generator=None):
        return dict.fromkeys(to, batch[given[0]] + 5 * (given[0] == "a"))


@pytest.fixture
def quick(monkeypatch):
    """A judge of both modalities, and how often a process was fitted."""
    fitted, whole = [], metrics.mutual_information.gaussian_process_judge

    def quickly(*arguments, **options):
        fitted.append(arguments[2])
        return whole(
            *arguments, **options | {"inducing": 8, "epochs": 60, "batch_size": 100, "learning_rate": 0.05}
        )

    monkeypatch.setattr(metrics.mutual_information, "gaussian_process_judge", quickly)
    return metrics.Classifiers({"a": Corner().eval(), "b": Corner().eval()}), fitted


def test_processes_are_fitted_once_and_are_the_same_from_the_cache(quick, tmp_path):
    (judges, fitted), data = quick, squares()
    first, again = (metrics.with_processes(judges, data, tmp_path) for _ in range(2))
    assert fitted == ["a", "b"] and set(first.processes) == set(again.processes) == {"a", "b"}
    batch = data.train.items["a"].batch(torch.arange(50))
    numbers = [p.processes["a"].probabilities(batch, 9, generator(3)) for p in (first, again)]
    direct = metrics.mutual_information.gaussian_process_judge(judges, data, "a", progress=False)
    assert torch.equal(*numbers) and torch.equal(numbers[0], direct.probabilities(batch, 9, generator(3)))
    other = metrics.Classifiers({"a": torch.nn.Flatten().eval()})  # has no features
    assert not metrics.with_processes(other, data, tmp_path).processes


def test_a_model_is_scored_for_what_it_draws_of_each_modality_given_each(quick):
    (judges, _), data = quick, squares()
    judges = metrics.with_processes(judges, data, cache=False).to("cpu")
    found = metrics.evaluate_mutual_information(Faded(), data.train, judges, generator(0), max_rows=40)
    assert {given: set(row) for given, row in found.items()} == {"a": {"a", "b"}, "b": {"a", "b"}}
    assert all(found["a"][name]["value"] > 0.1 > found["b"][name]["value"] for name in "ab")
    drawn = data.train.items["b"].batch(torch.arange(40))
    direct = score(judges.processes["a"].probabilities(drawn, 2000, generator(1))).mean()
    assert found["b"]["a"]["value"] == pytest.approx(float(direct), abs=0.01)  # noise of 100 classifiers
    assert found["b"]["a"]["n"] == 40
    judges = metrics.Classifiers(judges.networks)
    assert metrics.evaluate_mutual_information(Faded(), data.train, judges) == {"a": {}, "b": {}}
