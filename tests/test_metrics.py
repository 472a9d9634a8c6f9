"""Coherences, probes and clustered errors on toys that can be counted by hand."""

import itertools
import json
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from mmlib.book.figures.metrics import (
    class_shares,
    coherence_matrix,
    likelihood_convergence,
)
from mmlib.data.core import DataSet, Items, PairedSplit
from mmlib.metrics import (
    Classifiers,
    Probe,
    classes_generated,
    clustered_standard_error,
    cross_coherence,
    estimate,
    evaluate,
    fit_probe,
    joint_coherence,
    latent_accuracy,
    prior_predictions,
    released_joint_coherence,
    synergy_coherence,
)
from mmlib.metrics.puppets import Puppet
from mmlib.metrics.split import batches_of, check_mode, whole_rows
from mmlib.models import MMVAE
from mmlib.nets import DigitClassifier, modalities

# --- clustered errors -------------------------------------------------------------------------------------------


def random_clusters(seed=0, items=30, clusters=8):
    source = torch.Generator().manual_seed(seed)
    values = torch.rand(items, generator=source, dtype=torch.float64)
    return values, torch.randint(clusters, (items,), generator=source) * 17 - 5  # any labels will do


def quadratic_form(values, cluster):
    """The same error written with matrices: P^2 se^2 = G / (G - 1) v' H S H v, S the same-cluster indicator."""
    same = (cluster[:, None] == cluster[None, :]).double()
    centring = torch.eye(len(values), dtype=torch.float64) - 1 / len(values)
    groups = len(set(cluster.tolist()))
    return (groups / (groups - 1) * (values @ centring @ same @ centring @ values)).sqrt() / len(values)


@pytest.mark.equation("eq-clustered-se")
def test_clustered_error_is_the_quadratic_form_in_value_and_gradient():
    for seed in range(3):
        values, cluster = random_clusters(seed)
        results = []
        for function in (clustered_standard_error, quadratic_form):
            leaf = values.clone().requires_grad_()
            error = function(leaf, cluster)
            error.backward()
            results.append((error.detach(), leaf.grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)  # float64


@pytest.mark.equation("eq-clustered-se")
def test_clustered_error_of_single_items_and_of_copies_is_the_usual_one():
    values, _ = random_clusters(items=25)
    usual = values.std() / math.sqrt(25)
    alone = torch.arange(25)
    torch.testing.assert_close(clustered_standard_error(values, alone), usual)
    for copies in (2, 7):  # copying an item tells nothing new
        copied = clustered_standard_error(values.repeat(copies), alone.repeat(copies))
        torch.testing.assert_close(copied, usual)


def test_clustered_error_tells_how_far_the_mean_really_strays():
    """Items = a shared part for each cluster plus noise of their own: 2000 repetitions of 40 clusters of 5."""
    source = torch.Generator().manual_seed(3)
    shared = torch.randn(2000, 40, 1, generator=source)
    values = (shared + 0.5 * torch.randn(2000, 40, 5, generator=source)).flatten(1).double()
    cluster = torch.arange(40).repeat_interleave(5)
    errors = torch.stack([clustered_standard_error(v, cluster) for v in values[:300]])
    truth = values.mean(1).std()
    assert errors.mean().item() == pytest.approx(truth.item(), rel=0.05)  # both are good to 2 or 3 %
    assert (
        values.std(1).mean().item() / math.sqrt(200) < 0.6 * truth
    )  # pretending independence is far too sure


def test_estimate_is_plain_numbers_and_takes_the_widest_error():
    values = torch.tensor([1.0, 1.0, 0.0, 0.0])
    pairs, singles = torch.tensor([0, 0, 1, 1]), torch.arange(4)
    both = estimate(values, singles, pairs)
    assert both == {"value": 0.5, "se": 0.5, "n": 4, "clusters": 2}
    assert estimate(values) == estimate(values, singles)
    assert estimate(values)["se"] == pytest.approx(float(values.std()) / 2)
    assert estimate(values, torch.zeros(4, dtype=torch.long))["se"] is None  # one cluster: nobody knows
    json.dumps(both)
    with pytest.raises(ValueError, match="expected \\[P\\] both"):
        clustered_standard_error(values, torch.arange(3))


# --- coherences: a model that is a table, a classifier that is the identity ----------------------------------------

NAMES = ("a", "b")
CLASSES = 4
TABLE = {  # which class the toy generates, given the class it is shown
    ("a", "a"): [0, 1, 2, 3],
    ("a", "b"): [0, 1, 1, 0],
    ("b", "a"): [3, 3, 3, 3],
    ("b", "b"): [0, 2, 1, 3],
    ("all", "a"): [0, 1, 2, 0],
    ("all", "b"): [1, 1, 1, 1],
}
PRIOR = {"a": [0, 1, 2, 3, 0, 0, 1, 2], "b": [0, 1, 3, 3, 1, 0, 2, 2]}


def show(classes):
    """'Images' whose pixels say their class, [N, CLASSES], no pixel zero."""
    return 0.1 + 0.8 * nn.functional.one_hot(torch.as_tensor(classes), CLASSES).float()


class Judge:
    """Classifiers that see through the toy's images."""

    def predict(self, name, images):
        return images.argmax(-1)


class Table(nn.Module):
    """A 'model' that looks its generations up."""

    def __init__(self):
        super().__init__()
        self.modalities = nn.ModuleDict({name: nn.Identity() for name in NAMES})
        self.drawn = 0

    def generate(self, batch, given, to, generator=None, mask=None, mean=False):
        source = given[0] if len(given) == 1 else "all"
        shown = batch[given[-1]].argmax(-1)
        return {name: show(torch.tensor(TABLE[source, name])[shown]) for name in to}

    def sample(self, n, generator=None):
        rows = slice(self.drawn, self.drawn + n)
        self.drawn += n
        return {name: show(PRIOR[name][rows]) for name in NAMES}


LABELS = torch.tensor([0, 1, 2, 3, 3, 2])


def toy_batch():
    return {name: show(LABELS) for name in NAMES}


@pytest.mark.equation("eq-cross-coherence")
@pytest.mark.parametrize("given", NAMES)
def test_cross_coherence_counts_right_answers_in_the_right_direction(given):
    right = cross_coherence(Table(), toy_batch(), LABELS, given, Judge())
    expected = [[float(TABLE[given, to][y] == y) for y in LABELS.tolist()] for to in NAMES]
    torch.testing.assert_close(right, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.equation("eq-synergy-coherence")
def test_synergy_coherence_counts_what_is_generated_from_everything():
    right = synergy_coherence(Table(), toy_batch(), LABELS, Judge())
    expected = [[float(TABLE["all", to][y] == y) for y in LABELS.tolist()] for to in NAMES]
    torch.testing.assert_close(right, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.equation("eq-joint-coherence")
def test_joint_coherence_counts_agreement():
    """Every way in which two and three modalities can show three classes."""
    for m in (2, 3):
        triples = list(itertools.product(range(3), repeat=m))
        agreed = joint_coherence(torch.tensor(triples).T)
        expected = [float(len(set(triple)) == 1) for triple in triples]
        torch.testing.assert_close(agreed, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)


def test_the_released_rule_of_joint_coherence_counts_lonely_first_modalities_too():
    """All equally likely guesses of C classes: 1 - 2 (C - 1) / C^2 against 1 / C^2."""
    for classes in (2, 3, 10):
        guesses = torch.cartesian_prod(*[torch.arange(classes)] * 3).T
        released = float(released_joint_coherence(guesses).mean())
        assert released == pytest.approx(1 - 2 * (classes - 1) / classes**2)
        assert float(joint_coherence(guesses).mean()) == pytest.approx(1 / classes**2)
    assert released == pytest.approx(0.82)
    some = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 2, 0]])
    assert released_joint_coherence(some).tolist() == [1, 0, 1, 1]
    with pytest.raises(ValueError, match="expected \\[3, N\\]"):
        released_joint_coherence(guesses[:2])


def test_prior_predictions_are_the_models_draws_in_batches():
    predicted = prior_predictions(Table(), 8, Judge(), batch_size=3)
    assert predicted.tolist() == [PRIOR["a"], PRIOR["b"]]
    assert joint_coherence(predicted).tolist() == [1, 1, 0, 1, 0, 1, 0, 1]


def test_classes_generated_unmask_collapse():
    collapsed = torch.full((2, 100), 7)
    assert joint_coherence(collapsed).mean() == 1  # a perfect score for one digit
    table = classes_generated(collapsed, ["a", "b"])
    assert [table[key]["count"] for key in ("a", "b", "jointly")] == [1, 1, 1]
    varied = torch.tensor([[0] * 50 + [1] * 49 + [2], [0] * 99 + [1]])
    table = classes_generated(varied, ["a", "b"], classes=4, threshold=0.02)
    assert [table[key]["count"] for key in ("a", "b", "jointly")] == [2, 1, 1]
    assert table["a"]["shares"] == [0.5, 0.49, 0.01, 0.0]
    assert sum(table["jointly"]["shares"]) == pytest.approx(float(joint_coherence(varied).mean()))
    with pytest.raises(ValueError, match="names has 1 entries"):
        classes_generated(varied, ["a"])
    with pytest.raises(ValueError, match="M >= 2"):
        joint_coherence(torch.zeros(1, 5, dtype=torch.long))


# --- probes -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-latent-accuracy")
def test_latent_accuracy_is_the_share_of_right_argmaxes():
    source = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2, generator=source, dtype=torch.float64)
    bias = torch.randn(3, generator=source, dtype=torch.float64)
    z = torch.randn(50, 2, generator=source)
    labels = torch.randint(3, (50,), generator=source) + 5
    right = latent_accuracy(Probe(weight, bias, torch.tensor([5, 6, 7])), z, labels)
    expected = []
    for code, label in zip(z.numpy(), labels.tolist(), strict=True):
        logits = [float(np.dot(weight[c].numpy(), code) + bias[c]) for c in range(3)]
        expected.append(float(5 + logits.index(max(logits)) == label))
    assert 5 < sum(expected) < 45  # both answers occur
    torch.testing.assert_close(right, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=0)


def clouds(n=600, classes=3, seed=0):
    source = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=source)
    centres = 2 * torch.randn(classes, 4, generator=torch.Generator().manual_seed(9))
    return centres[labels] + torch.randn(n, 4, generator=source), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_probe_has_converged_to_the_optimum_of_its_objective(classes):
    """The gradient of cross-entropy (sum) + |W|^2 / 2 on standardised codes vanishes."""
    z, labels = clouds(classes=classes)
    probe = fit_probe(z, labels)
    z = z.double()
    centre, spread = z.mean(0), z.std(0)
    weight = (probe.weight * spread).requires_grad_()
    bias = (probe.bias + probe.weight @ centre).requires_grad_()
    logits = ((z - centre) / spread) @ weight.T + bias
    penalty = 0.5 * weight.square().sum()
    if classes == 2:  # there the penalty is on the single logit difference
        penalty = 0.5 * (weight[1] - weight[0]).square().sum()
    loss = nn.functional.cross_entropy(logits, labels, reduction="sum") + penalty
    gradients = torch.autograd.grad(loss, [weight, bias])
    assert all(g.abs().max() < 0.05 for g in gradients)  # of 600 items; L-BFGS stops at 1e-4 each


def test_probe_ignores_the_units_of_the_code_and_finds_the_clouds():
    (z, labels), (fresh, truth) = clouds(), clouds(seed=1)
    units = torch.tensor([1e3, 1e-3, 1.0, 5.0])
    plain, scaled = fit_probe(z, labels), fit_probe(z * units + 7, labels)
    agree = (plain.predict(fresh) == scaled.predict(fresh * units + 7)).float().mean()
    assert agree > 0.99  # L-BFGS stops a little elsewhere, so a borderline item may change sides
    assert latent_accuracy(plain, fresh, truth).mean() > 0.85
    with pytest.raises(ValueError, match="single class"):
        fit_probe(z, torch.zeros_like(labels))
    with pytest.raises(ValueError, match="expected \\[P, D\\] and \\[P\\]"):
        fit_probe(z, labels[:-1])


# --- everything together -----------------------------------------------------------------------------------------


def small_data(seed=0, n=60, classes=3):
    """8x8 images whose brightest column says the class; four copies of every original in modality a."""
    source = torch.Generator().manual_seed(seed)

    def items(channels, copies):
        labels = torch.arange(n) // copies % classes
        images = torch.randint(60, (n, channels, 8, 8), generator=source)
        images[torch.arange(n), :, :, 2 * labels + 1] += 150
        return Items(images.to(torch.uint8), labels, torch.arange(n) // copies)

    def split():
        both = {"a": items(1, 4), "b": items(3, 1)}
        order = {name: item.labels.argsort(stable=True) for name, item in both.items()}
        return PairedSplit(both, order, both["a"].labels[order["a"]])

    return DataSet("columns", split(), split(), split(), {"made": "in a test", "seed": seed})


def small_model(data):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MMVAE(modalities(data, 3, width=0.1), 3)


def small_classifiers(data):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        networks = {name: DigitClassifier(shape, 3, 0.1).eval() for name, shape in data.shapes.items()}
    share = {"value": 0.5, "se": 0.1, "n": 60, "clusters": 15}
    return Classifiers(networks, {name: {"validation": share, "test": share} for name in networks})


def test_report_holds_everything_with_errors_and_repeats_itself():
    data = small_data()
    model, judges = small_model(data), small_classifiers(data)

    def report(seed):
        g = torch.Generator().manual_seed(seed)
        return evaluate(model, data.test, judges, g, train=data.train, samples=50, batch_size=32)

    first = report(0)
    assert first == report(0)  # the same draws from the same generator
    assert json.loads(json.dumps(first)) == first
    assert list(first["cross_coherence"]) == ["a", "b"] and list(first["cross_coherence"]["a"]) == ["a", "b"]
    assert first["cross_coherence"]["a"]["b"]["clusters"] == 15  # clustered by the original that was *given*
    assert first["cross_coherence"]["b"]["a"]["clusters"] == 60
    assert set(first["latent_accuracy"]) == {"a", "b", "all"}
    assert set(first["latent_accuracy"]["all"]) == {"sample", "mean"}
    assert first["joint_coherence"]["n"] == 50 and first["rows"] == 60
    assert first["classes_generated"]["jointly"]["n"] == 50
    assert first["classifier_accuracy"] == judges.accuracy
    assert first.value("synergy_coherence", "a") == first["synergy_coherence"]["a"]["value"]
    text = str(first)
    for word in ("given a", "classifier", "latent, sample", "classes generated", "given all"):
        assert word in text
    with pytest.raises(ValueError, match="no 'c'"):
        first.value("cross_coherence", "c")
    with pytest.raises(ValueError, match="is not an estimate"):
        first.value("cross_coherence")


def test_report_agrees_with_the_table_model():
    data = small_data()

    class Shown(Table):
        """Generates, as an image, the class that TABLE says for the class of the image it was given."""

        def generate(self, batch, given, to, **options):
            columns = batch[given[-1]].mean((1, 2)).argmax(-1) // 2
            source = given[0] if len(given) == 1 else "all"
            return {name: show(torch.tensor(TABLE[source, name])[columns]) for name in to}

        def sample(self, n, generator=None):
            return {name: show(torch.arange(n) % 3) for name in NAMES}

    judge = Judge()
    judge.accuracy = {name: {"test": estimate(torch.ones(2))} for name in NAMES}
    report = evaluate(Shown(), data.test, judge, samples=40)
    for given, to in itertools.product(NAMES, NAMES):
        expected = np.mean([TABLE[given, to][y] == y for y in range(3)])
        assert report.value("cross_coherence", given, to) == pytest.approx(expected)
        assert report.value("synergy_coherence", to) == pytest.approx(
            np.mean([TABLE["all", to][y] == y for y in range(3)])
        )
    assert report.value("joint_coherence") == 1
    assert report["classes_generated"]["jointly"]["count"] == 3
    assert "latent_accuracy" not in report  # no training split was given


def test_evaluation_touches_neither_modes_nor_global_randomness():
    data = small_data()
    model, judges = small_model(data), small_classifiers(data)
    model.train()
    state = torch.get_rng_state()
    before = [p.clone() for p in model.parameters()]
    evaluate(model, data.test, judges, torch.Generator().manual_seed(0), samples=10, max_rows=20)
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, model.parameters(), strict=True))


def test_restless_networks_are_refused():
    data = small_data()
    judges = small_classifiers(data)
    judges.networks["a"].train()
    with pytest.raises(ValueError, match="BatchNorm2d 'body.1' in training mode"):
        evaluate(small_model(data), data.test, judges, samples=10)
    with pytest.raises(ValueError, match="call model.eval"):
        check_mode(nn.Sequential(nn.Dropout(0.5)))
    check_mode(nn.Sequential(nn.Dropout(0.5)).eval())
    with pytest.raises(ValueError, match="name is 'c'"):
        judges.predict("c", torch.rand(1, 1, 8, 8))


def test_a_float64_model_is_judged_by_float32_judges():
    data = small_data()
    judges, models = small_classifiers(data), [small_model(data), small_model(data).double()]
    single, double = (evaluate(m, data.test, judges, train=data.train, samples=20) for m in models)
    assert double.keys() == single.keys() and double["joint_coherence"]["n"] == 20
    images = data.test.batch(torch.arange(60), None)["a"]
    assert torch.equal(judges.predict("a", images.double()), judges.predict("a", images))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"probe_rows": 0}, "probe_rows is 0; expected an integer of at least 1"),
        ({"probe_rows": "all"}, "probe_rows is 'all'; expected"),
        ({"train": [1, 2]}, "train is"),
        ({"train": "data"}, "train is a whole data set; expected one of its splits"),
        ({"subsets": "all"}, "subsets is 'all'; expected one of True, False"),
        ({"samples": -1}, "samples is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_is_measured_is_checked_before_anything_is(wrong, message):
    data = small_data()
    if wrong.get("train") == "data":
        wrong = {"train": data}
    model, begun = small_model(data), []
    model.generate = lambda *_, **__: begun.append("generate")
    model.sample = lambda *_, **__: begun.append("sample")
    with pytest.raises(ValueError, match=message):
        evaluate(model, data.test, small_classifiers(data), **{"train": data.train, **wrong})
    assert not begun


def test_probes_are_fitted_on_the_rows_that_show_everything():
    data = small_data()
    partial = data.test.with_missing(0.5, torch.Generator().manual_seed(0))
    seen = torch.stack(list(partial.observed.values())).all(0)
    found = whole_rows(partial, ["a", "b"])
    assert torch.equal(found, seen.nonzero().flatten()) and 0 < len(found) < len(partial)
    assert torch.equal(whole_rows(data.test, ["a", "b"]), torch.arange(60))
    whole = replace(
        partial,
        index={n: x[seen] for n, x in partial.index.items()},
        labels=partial.labels[seen],
        observed=None,
    )

    def report(train):
        model, judges, g = small_model(data), small_classifiers(data), torch.Generator().manual_seed(0)
        return evaluate(model, data.test, judges, g, train=train, samples=10)

    assert report(partial) == report(whole)


def test_batches_go_through_the_rows_in_order():
    data = small_data()
    with pytest.raises(ValueError, match="max_rows"):
        next(batches_of(small_model(data), data.test, max_rows=0))
    rows = [len(chosen) for chosen, _ in batches_of(small_model(data), data.test, 25, max_rows=55)]
    assert rows == [25, 25, 5]
    some = torch.tensor([3, 1, 8, 5])
    rows = [chosen.tolist() for chosen, _ in batches_of(small_model(data), data.test, 2, 3, among=some)]
    assert rows == [[3, 1], [8]]
    other = replace(data.test, items={"a": data.test.items["a"]}, index={"a": data.test.index["a"]})
    with pytest.raises(ValueError, match="split has modalities a; expected those of the model, a, b"):
        batches_of(small_model(data), other)


# --- puppets and figures --------------------------------------------------------------------------------------------


class Column:
    """Classifiers that read the class of `small_data` off the brightest column."""

    def __init__(self):
        self.accuracy = {name: {"test": estimate(torch.ones(2))} for name in NAMES}

    def predict(self, name, images):
        return images.mean((1, 2)).argmax(-1) // 2


def test_puppets_have_the_coherence_they_were_made_with():
    data = small_data(n=240)
    puppet = Puppet(data.test, accuracy={"a": 0.8, "b": 0.0}, classes=[0, 2])
    report = evaluate(puppet, data.test, Column(), torch.Generator().manual_seed(0), samples=400)
    assert report.value("cross_coherence", "a", "b") == pytest.approx(0.8, abs=0.1)  # 240 rows: se 0.026
    assert report.value("cross_coherence", "b", "a") == 0
    assert report.value("joint_coherence") == pytest.approx(0.8, abs=0.08)
    shares = report["classes_generated"]["a"]["shares"]
    assert shares[1] == 0 and shares[0] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="accuracy of 'a' is 1.5"):
        Puppet(data.test, accuracy=1.5)


def test_figures_show_what_they_are_given():
    data = small_data(n=240)
    g = torch.Generator().manual_seed(0)
    report = evaluate(Puppet(data.test), data.test, Column(), g, samples=60)
    _, axes = plt.subplots(1, 2)
    ax = coherence_matrix(report, "a puppet", axes[0])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "all"]
    assert ax.get_xlabel() == "generated" and ax.get_ylabel() == "given"
    assert ax.texts[0].get_text().startswith("100.0")
    shares = {"hand": report["classes_generated"]["a"], "jointly": report["classes_generated"]["jointly"]}
    texts = class_shares(shares, "a puppet", axes[1]).get_legend().get_texts()
    assert "hand: 3 classes" in [text.get_text() for text in texts]
    ax = likelihood_convergence([1, 10], {"a": [(-3.0, 1.0), (-2.0, 0.3)]}, -1.9)
    assert ax.get_xscale() == "log" and ax.lines[1].get_ydata().tolist() == [-3.0, -2.0]
