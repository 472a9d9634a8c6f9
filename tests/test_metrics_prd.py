"""Precision and recall of distributions, on histograms and clouds whose curves are known in closed form."""

import math

import pytest
import torch
from torch import nn

from mmlib.metrics import (
    Classifiers,
    f_scores,
    generation_curves,
    generation_quality,
    histograms,
    mean_of_curve,
    precision_recall,
    precision_recall_curve,
)

ANGLES = torch.linspace(1e-10, math.pi / 2 - 1e-10, 1001, dtype=torch.float64)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


# --- curves of histograms -----------------------------------------------------------------------------------------


@pytest.mark.equation("eq-prd")
def test_the_curve_of_a_mixture_with_known_masses_is_exact():
    """Shared: a of the data, b of what is generated; the rest of each is its own."""
    for a, b in ((0.3, 0.8), (0.5, 0.5), (1.0, 0.2), (0.7, 1.0)):
        curve = precision_recall_curve(numbers(a, 1 - a, 0), numbers(b, 0, 1 - b))
        slope = ANGLES.tan()
        torch.testing.assert_close(curve.precision, (slope * a).clamp(max=b), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(curve.recall, (b / slope).clamp(max=a), rtol=1e-9, atol=1e-12)
        assert curve.precision.max() == pytest.approx(b) and curve.recall.max() == pytest.approx(a)


@pytest.mark.equation("eq-prd")
def test_precision_and_recall_are_those_of_the_definition():
    """P = beta mu + (1 - beta) nu and Q = alpha mu + (1 - alpha) nu', mu the overlap at each slope."""
    generator = torch.Generator().manual_seed(0)
    real, made = torch.rand(2, 6, generator=generator, dtype=torch.float64).log().neg()
    real, made = real / real.sum(), made / made.sum()
    curve = precision_recall_curve(real, made, angles=31)
    slope = torch.linspace(1e-10, math.pi / 2 - 1e-10, 31, dtype=torch.float64).tan()
    for at, alpha, beta in zip(slope, *curve, strict=True):
        overlap = torch.minimum(at * real, made)
        mu = overlap / overlap.sum()
        assert (real - beta * mu).min() > -1e-12 and (made - alpha * mu).min() > -1e-12
        # neither can be larger with the same ratio: somewhere nothing is left of P or of Q, cluster by cluster
        assert torch.minimum(real - beta * mu, made - alpha * mu).abs().max() < 1e-9


@pytest.mark.equation("eq-prd")
def test_equal_distributions_are_perfect_and_disjoint_ones_have_nothing_in_common():
    same = numbers(0.2, 0.5, 0.3)
    curve = precision_recall_curve(same, same)
    assert f_scores(curve) == pytest.approx((1, 1), abs=1e-6)
    torch.testing.assert_close(curve.precision, ANGLES.tan().clamp(max=1), rtol=1e-12, atol=1e-12)
    apart = precision_recall_curve(numbers(0.4, 0.6, 0, 0), numbers(0, 0, 0.5, 0.5))
    assert not torch.cat(apart).any() and f_scores(apart) == (0, 0) and mean_of_curve(apart) == 0


def test_dropped_modes_cost_recall_and_invented_ones_precision():
    data = numbers(0.5, 0.5, 0)
    recall, precision = f_scores(precision_recall_curve(data, numbers(1, 0, 0)))
    assert recall < 0.55 and precision > 0.95
    recall, precision = f_scores(precision_recall_curve(data, numbers(0.25, 0.25, 0.5)))
    assert recall > 0.95 and precision < 0.55
    for beta in (1, 2, 8):  # the corner of that curve is precision 1/2, recall 1
        expected = (1 + beta**2) * 0.5 / (beta**2 * 0.5 + 1)
        found = f_scores(precision_recall_curve(data, numbers(0.25, 0.25, 0.5), angles=20001), beta)
        assert found[0] == pytest.approx(expected, abs=1e-3)
    with pytest.raises(ValueError, match="beta is 0"):
        f_scores(precision_recall_curve(data, data), 0)


def test_the_released_mean_does_not_care_which_is_which_and_is_not_one_at_best():
    generator = torch.Generator().manual_seed(1)
    real, made = torch.rand(2, 9, generator=generator, dtype=torch.float64)
    real, made = real / real.sum(), made / made.sum()
    one, other = precision_recall_curve(real, made), precision_recall_curve(made, real)
    torch.testing.assert_close(one.precision, other.recall.flip(0), rtol=1e-6, atol=1e-6)
    assert mean_of_curve(one) == pytest.approx(mean_of_curve(other), abs=1e-9)
    assert f_scores(one) == pytest.approx(f_scores(other)[::-1])
    assert f_scores(one)[0] != pytest.approx(f_scores(one)[1], abs=0.01)  # these do care
    best = mean_of_curve(precision_recall_curve(real, real, angles=100_001))
    assert best == pytest.approx(0.5 + math.log(2) / math.pi, abs=1e-4)


@pytest.mark.parametrize(
    ("real", "made"),
    [
        (numbers(0.5, 0.5), numbers(0.2, 0.3, 0.5)),
        (numbers(1, 1), numbers(1, 1)),
        (numbers(0.5, 0.5)[None], numbers(0.5, 0.5)[None]),
    ],
)
def test_what_is_no_pair_of_histograms_is_refused(real, made):
    with pytest.raises(ValueError, match="real and generated have shapes .*; expected"):
        precision_recall_curve(real, made)


# --- from features ------------------------------------------------------------------------------------------------


def clouds(counts, size=3, seed=0):
    """So many points around each of several far places, [sum, size]."""
    generator = torch.Generator().manual_seed(seed)
    places = 100 * torch.randn(len(counts), size, generator=torch.Generator().manual_seed(9))
    centres = places.repeat_interleave(torch.tensor(counts), 0)
    return centres + torch.randn(len(centres), size, generator=generator)


def test_far_clouds_are_the_clusters_and_their_masses_give_the_exact_curve():
    real, made = clouds([30, 50, 20, 0]), clouds([60, 0, 20, 20], seed=1)
    p, q = histograms(real, made, clusters=4)
    order = p.argsort(descending=True)
    assert p[order].tolist() == pytest.approx([0.5, 0.3, 0.2, 0])
    assert q[order].tolist() == pytest.approx([0, 0.6, 0.2, 0.2])
    curve = precision_recall(real, made, clusters=4, runs=3)
    exact = precision_recall_curve(numbers(0.3, 0.5, 0.2, 0), numbers(0.6, 0, 0.2, 0.2))
    torch.testing.assert_close(curve, exact)  # every run finds the same clusters
    recall, precision = f_scores(curve)
    assert recall < precision  # half of the data is missing, a fifth of what is made is foreign


def test_copies_of_the_data_are_perfect_and_runs_are_averaged():
    real = clouds([40, 40], size=5)
    assert f_scores(precision_recall(real, real.clone(), runs=2)) == pytest.approx((1, 1), abs=1e-6)
    made = real + 3 * torch.randn(80, 5, generator=torch.Generator().manual_seed(2))
    both = [precision_recall_curve(*histograms(real, made, 6, seed), 101) for seed in (4, 5)]
    averaged = precision_recall(real, made, 6, 101, runs=2, seed=4)
    torch.testing.assert_close(averaged.precision, (both[0].precision + both[1].precision) / 2)
    assert not torch.equal(both[0].precision, both[1].precision)
    with pytest.raises(ValueError, match="shapes \\(80, 5\\) and \\(79, 5\\); expected"):
        histograms(real, made[1:])
    with pytest.raises(ValueError, match="of 20 features together"):
        histograms(real[:8], made[:8])


# --- of a model -----------------------------------------------------------------------------------------------------


class Split:
    """Two modalities of far clouds; odd rows do not observe b, which is NaN there."""

    names = ("a", "b")

    def __init__(self, n=80):
        self.seen = torch.arange(n) % 2 == 0
        order = torch.randperm(n, generator=torch.Generator().manual_seed(3))
        self.x = {"a": clouds([n // 2, n // 2])[order], "b": clouds([n // 4, n - n // 4])[order]}
        self.x["b"] = self.x["b"].masked_fill(~self.seen[:, None], math.nan)

    def __len__(self):
        return len(self.seen)

    def batch(self, rows, device=None):
        assert len(rows)  # the book's splits refuse none
        return {name: x[rows] for name, x in self.x.items()}

    def mask(self, rows):
        return {"b": self.seen[rows]}

    def original(self, name, rows):
        return rows


class Copier(nn.Module):
    """Generates b as it is in the row, a always in the first place; from the prior both in the first place."""

    def __init__(self, split):
        super().__init__()
        self.modalities = nn.ModuleDict({"a": nn.Identity(), "b": nn.Identity()})
        self.split, self.at = split, 0

    def generate(self, batch, given, to, generator=None):
        assert list(batch) == ["b"] and not batch["b"].isnan().any()
        return {name: batch["b"] if name == "b" else clouds([len(batch["b"]), 0]) for name in to}

    def sample(self, n, generator=None):
        return dict.fromkeys(self.modalities, clouds([n, 0]))


class Eye(nn.Module):
    """A judge whose features are the items."""

    def features(self, x):
        return 1 * x


def test_a_models_modalities_are_compared_with_the_rows_that_observe_them():
    split = Split()
    judges = Classifiers({"a": Eye(), "b": Eye()})
    options = {"batch_size": 30, "clusters": 2, "runs": 1}
    found = generation_curves(Copier(split), split, judges, given=["b"], **options)
    assert f_scores(found["b"]) == pytest.approx((1, 1), abs=1e-6)
    assert not judges.features("a", split.x["a"].clone().requires_grad_()).requires_grad
    share = float((split.x["a"][split.seen] - clouds([1, 0])[0]).norm(dim=1).lt(20).double().mean())
    assert 0.2 < share < 0.8  # of the real a there are so many in the place where all are generated
    one_place = precision_recall_curve(numbers(share, 1 - share), numbers(1, 0))
    torch.testing.assert_close(found["a"], one_place)
    prior = generation_curves(Copier(split), split, judges, **options)
    torch.testing.assert_close(prior["a"], precision_recall_curve(numbers(0.5, 0.5), numbers(1, 0)))
    assert list(generation_curves(Copier(split), split, judges, to=["b"], **options)) == ["b"]
    quality = generation_quality(Copier(split), split, judges, **options)["a"]
    assert (quality["recall"], quality["precision"]) == f_scores(prior["a"])
    assert generation_quality(Copier(split), split, Classifiers({"a": nn.Identity()})) == {}
    assert quality["mean"] == mean_of_curve(prior["a"]) and quality["precision"] > quality["recall"]
    split.seen[:] = False
    assert generation_curves(Copier(split), split, judges, given=["b"], **options) == {}
    assert list(generation_curves(Copier(split), split, judges, **options)) == ["a"]
    with pytest.raises(ValueError, match="without features"):
        generation_curves(Copier(split), split, Classifiers({"a": nn.Identity()}), **options)
