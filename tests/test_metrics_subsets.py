"""Metrics where rows observe different subsets, where models see any subset, and where judges or labels are absent."""

import itertools
import json
import math

import pytest
import torch
from torch import nn

from mmlib.lab import LinearGaussian
from mmlib.lab import modalities as lab_modalities
from mmlib.metrics import (
    Classifiers,
    estimate,
    evaluate,
    fit_probe,
    latent_accuracy,
    unimodal_posteriors,
)
from mmlib.models import MMVAE, MVAE

CLASSES = 4
NAMES = ("a", "b", "c")
SIZES = {"a": 2, "b": 3, "c": 4}


def subsets(names=NAMES):
    return [some for size in range(1, len(names) + 1) for some in itertools.combinations(names, size)]


class Rows:
    """A split that has just what metrics ask of one; what a row does not observe is NaN, poison to whoever reads it."""

    def __init__(self, x, labels, observed=None):
        self.x, self.labels, self.observed, self.names = dict(x), labels, observed, list(x)
        for name, seen in (observed or {}).items():
            self.x[name] = x[name].masked_fill(~seen[:, None], math.nan)

    def __len__(self):
        return len(self.x[self.names[0]])

    def batch(self, rows, device=None):
        return {name: x[rows].to(device) for name, x in self.x.items()}

    def mask(self, rows):
        return None if self.observed is None else {name: seen[rows] for name, seen in self.observed.items()}

    def original(self, name, rows):
        return rows // 5 if name == "c" else rows  # c comes in fives

    def holders(self, given):
        """Numbers of the rows that observe all that is given."""
        everything = torch.ones(len(self), dtype=torch.bool)
        seen = [everything if self.observed is None else self.observed[name] for name in given]
        return torch.stack(seen).all(0).nonzero().flatten()

    def sources(self, given):
        """The originals by which errors are clustered."""
        return [self.original(name, self.holders(given)) for name in given]


def patterns(n, names=NAMES, least=1):
    """Bool [n] for each modality: every subset in turn, from the ``least``-th."""
    bits = torch.arange(n) % (2 ** len(names) - least) + least
    return {name: (bits >> i) % 2 == 1 for i, name in enumerate(names)}


def show(classes):
    return 0.1 + 0.8 * nn.functional.one_hot(torch.as_tensor(classes), CLASSES).float()


TRUTH = (
    torch.rand(7, 3, CLASSES, generator=torch.Generator().manual_seed(5)) < 0.6
)  # [subset, generated, class]


class Table(nn.Module):
    """A 'model' that generates the right class where TRUTH says so, and must be shown no more than is given."""

    def __init__(self, names=NAMES):
        super().__init__()
        self.modalities = nn.ModuleDict({name: nn.Identity() for name in names})
        self.calls = []

    def generate(self, batch, given, to, generator=None, mask=None, mean=False):
        self.calls.append(tuple(given))
        assert list(batch) == list(given) and not any(x.isnan().any() for x in batch.values())
        label = batch[given[0]].argmax(-1)
        right = TRUTH[subsets().index(tuple(given))]
        return {n: show((label + 1 - right[NAMES.index(n), label].long()) % CLASSES) for n in to}

    def sample(self, n, generator=None):
        self.calls.append("prior")
        return {name: show(torch.arange(n) % CLASSES) for name in self.modalities}


class Judge:
    """Sees through the table's items, of whatever modality."""

    def predict(self, name, items):
        return items.argmax(-1)


def table_split(n=50, observed=None, names=NAMES):
    labels = torch.randint(CLASSES, (n,), generator=torch.Generator().manual_seed(1))
    return Rows({name: show(labels) for name in names}, labels, observed)


def check_coherence(report, split, generated=NAMES):
    for given in subsets():
        found = {1: "cross_coherence", 2: "subset_coherence", 3: "synergy_coherence"}[len(given)]
        found = report[found] if len(given) == 3 else report[found][",".join(given)]
        labels = split.labels[split.holders(given)]
        assert list(found) == list(generated)
        for to in generated:
            right = TRUTH[subsets().index(given), NAMES.index(to)][labels]
            assert found[to] == estimate(right.double(), *split.sources(given))


# --- coherence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observed", [None, patterns(50), patterns(50, least=3)])
def test_every_modality_is_judged_given_every_subset_on_the_rows_that_observe_it(observed):
    split = table_split(observed=observed)
    report = evaluate(Table(), split, Judge(), samples=12, batch_size=11)
    check_coherence(report, split)
    assert report["joint_coherence"]["value"] == 1 and report["classes_generated"]["c"]["count"] == CLASSES
    assert len(report["classes_generated"]["c"]["shares"]) == CLASSES
    assert "left_out" not in report and report["rows"] == 50
    assert json.loads(json.dumps(report)) == report
    lines = str(report).splitlines()
    shown = [line.split("  ")[0] for line in lines if line.startswith("given")]
    pairs = [f"given {','.join(some)}" for some in subsets()[3:6]]
    assert shown == ["given a", "given b", "given c", *pairs, "given all (synergy)"]


def test_each_subset_is_shown_to_the_model_once_for_each_batch():
    for names, options, wanted in (
        (NAMES, {}, subsets()),
        (NAMES, {"subsets": False}, [*subsets()[:3], NAMES]),
        (NAMES[:2], {}, subsets(NAMES[:2])),
        (NAMES[:1], {}, [("a",)]),
    ):
        model = Table(names)
        report = evaluate(model, table_split(30, names=names), Judge(), samples=20, batch_size=10, **options)
        assert model.calls.count("prior") == 2
        assert sorted(call for call in model.calls if call != "prior") == sorted(wanted * 3)
        assert ("subset_coherence" in report) == (len(names) == 3 and not options)


def test_what_no_row_observes_is_left_out_and_said_to_be():
    seen = {"a": torch.ones(20, dtype=torch.bool), "b": torch.arange(20) < 9, "c": torch.arange(20) >= 9}
    report = evaluate(Table(), table_split(20, seen), Judge(), samples=10)
    assert [report["cross_coherence"][name]["a"]["n"] for name in NAMES] == [20, 9, 11]
    assert list(report["subset_coherence"]) == ["a,b", "a,c"] and "synergy_coherence" not in report
    assert report["left_out"] == {
        "coherence given all": "no row observes that",
        "coherence given b,c": "no row observes that",
    }
    assert "left out: coherence given b,c (no row observes that)" in str(report)


# --- judges and labels ----------------------------------------------------------------------------------------------


def test_only_what_has_a_judge_is_judged():
    split = table_split(observed=patterns(50))
    report = evaluate(Table(), split, {"c": nn.Identity(), "a": lambda x: 2 * x}, samples=10)
    check_coherence(report, split, ("a", "c"))
    assert list(report["classes_generated"]) == ["a", "c", "jointly"] and report["classifier_accuracy"] == {}
    assert report["left_out"] == {"coherence of b": "no classifier"}
    assert "classifier, real images" not in str(report)
    share = {"value": 0.9, "se": None, "n": 5, "clusters": 5}
    lone = Classifiers({"b": nn.Identity()}, {"b": {"test": share}})
    report = evaluate(Table(), split, lone, samples=10)
    check_coherence(report, split, ("b",))
    assert "joint_coherence" not in report and len(report["left_out"]) == 3
    assert "90.0" in str(report)


def test_without_labels_what_needs_none_is_measured():
    split = table_split(observed=patterns(50))
    split.labels = None
    report = evaluate(Table(), split, Judge(), train=split, samples=10)
    assert set(report) == {
        "rows",
        "classifier_accuracy",
        "joint_coherence",
        "classes_generated",
        "left_out",
    }
    assert report["left_out"]["latent_accuracy"] == "train has no labels"
    assert "synergy_coherence (split has no labels)" in str(report)


def test_without_anything_the_report_says_what_is_missing():
    report = evaluate(Table(), table_split())
    assert report == {
        "rows": 50,
        "left_out": {
            "coherence": "there are no classifiers",
            "latent_accuracy": "there is no train to fit probes on",
        },
    }
    assert str(report).count("left out") == 2


# --- latent accuracy --------------------------------------------------------------------------------------------


def laboratory(names=NAMES):
    return LinearGaussian.make({name: SIZES[name] for name in names}, latent_dim=2, noise=0.9, seed=3)


def lab_split(lab, n, seed, observed=None):
    z, batch = lab.sample(n, torch.Generator().manual_seed(seed))
    return Rows(batch, (z[:, 0] > 0).long() + 2 * (z[:, 1] > 0.5).long(), observed)


def lab_model(lab, cls=MVAE):
    experts = "likelihood" if cls is MVAE else "posterior"
    options = {} if cls is MVAE else {"posterior": "normal", "scale": "softplus", "learn_prior": False}
    return cls(lab_modalities(lab, experts=experts), 2, **options).double()


@pytest.mark.parametrize("whole", [True, False])
def test_latent_accuracy_of_every_subset_is_on_the_rows_that_observe_it(whole):
    """By hand: probes on whole rows of train, or where there is none on those that observe what is given."""
    lab = laboratory()
    hidden = patterns(160)
    if not whole:
        hidden["c"] &= ~(hidden["a"] & hidden["b"])
    train, split = lab_split(lab, 160, 0, hidden), lab_split(lab, 90, 1, patterns(90))
    model = lab_model(lab)
    report = evaluate(model, split, train=train, generator=torch.Generator().manual_seed(0), batch_size=40)
    for given in subsets():
        view = "all" if len(given) == 3 else ",".join(given)
        on = train.holders(NAMES if whole else given)
        if not len(on):
            assert (
                view not in report["latent_accuracy"] and f"latent_accuracy of {view}" in report["left_out"]
            )
            continue
        entry = report["latent_accuracy"][view]
        means = [
            lab.posterior({n: part.x[n][rows] for n in given})[0]
            for part, rows in ((train, on), (split, split.holders(given)))
        ]
        right = latent_accuracy(
            fit_probe(means[0], train.labels[on]), means[1], split.labels[split.holders(given)]
        )
        assert entry["mean"]["n"] == entry["sample"]["n"] == len(right)
        assert entry["mean"]["clusters"] == estimate(right, *split.sources(given))["clusters"]
        # the model's posterior has its prior scale + 1e-6: a code on the border may change sides
        assert entry["mean"]["value"] == pytest.approx(float(right.mean()), abs=1.01 / len(right))
    assert not report.get("cross_coherence") and report["left_out"]["coherence"] == "there are no classifiers"
    text = str(report)
    assert "latent, a,b" in text and "latent, mean" in text


def test_a_view_with_a_single_class_in_train_is_left_out():
    lab = laboratory(("a", "b"))
    lone = torch.zeros(40, dtype=torch.bool)
    lone[:1] = True
    train = lab_split(lab, 40, 0, {"a": ~lone, "b": lone})
    report = evaluate(lab_model(lab), lab_split(lab, 30, 1), train=train)
    assert list(report["latent_accuracy"]) == ["a"]
    assert {"latent_accuracy of b", "latent_accuracy of all"} < set(report["left_out"])


class Both(nn.Module):
    """A judge of the laboratory: anything that depends on the items will do."""

    def forward(self, x):
        return torch.stack([x[:, 0], x[:, 1], -x[:, 0], -x[:, 1]], -1)


@pytest.mark.parametrize("cls", [MVAE, MMVAE])
def test_all_observed_is_no_mask_and_subsets_change_no_other_number(cls):
    lab = laboratory()
    model, train = lab_model(lab, cls), lab_split(lab, 60, 0)
    everything = {name: torch.ones(40, dtype=torch.bool) for name in NAMES}
    judges = dict.fromkeys(NAMES, Both())

    def report(observed=None, **options):
        split, g = lab_split(lab, 40, 1, observed), torch.Generator().manual_seed(7)
        return evaluate(model, split, judges, g, train, samples=30, batch_size=15, **options)

    full = report()
    assert full == report(everything)
    few = report(subsets=False)
    assert set(full) - set(few) == {"subset_coherence"}
    assert set(full["latent_accuracy"]) - set(few["latent_accuracy"]) == {"a,b", "a,c", "b,c"}
    full["latent_accuracy"] = {name: full["latent_accuracy"][name] for name in few["latent_accuracy"]}
    del full["subset_coherence"]
    assert full == few


def test_encoders_see_each_subset_once_for_probes_and_once_for_coherence(monkeypatch):
    """Three modalities, one batch: 7 subsets, 12 encodings; twice on the split, once on train."""
    lab = laboratory()
    model, encoded = lab_model(lab), []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda name, x: encoded.append(name) or encode(name, x))
    judges = dict.fromkeys(NAMES, Both())
    evaluate(model, lab_split(lab, 20, 1), judges, train=lab_split(lab, 30, 0), samples=10)
    assert len(encoded) == 3 * 12 and encoded.count("a") == 3 * 4


def test_posteriors_are_compared_on_rows_that_observe_everything():
    lab = laboratory(("a", "b"))
    hidden = patterns(40, ("a", "b"))
    split, whole = lab_split(lab, 40, 1, hidden), lab_split(lab, 40, 1)
    found, labels = unimodal_posteriors(lab_model(lab), split, max_rows=5)
    rows = split.holders("ab")[:5]
    assert torch.equal(labels, split.labels[rows])
    exact = lab.posterior({"a": whole.x["a"][rows]})[0]
    torch.testing.assert_close(found["a"].loc, exact, atol=1e-5, rtol=1e-5)
    split.labels = None
    assert unimodal_posteriors(lab_model(lab), split)[1] is None
    split.observed = {"a": hidden["a"], "b": ~hidden["a"]}
    with pytest.raises(ValueError, match="no row that observes all modalities"):
        unimodal_posteriors(lab_model(lab), split)
