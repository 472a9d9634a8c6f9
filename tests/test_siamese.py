"""The Siamese baseline: its loss and gradient by hand, and that it learns what belongs together."""

import math

import pytest
import torch
from torch import nn
from toy import ToySplit

from mmlib.metrics.siamese import Siamese, hadsell_loss, siamese_for
from mmlib.metrics.threshold import best_threshold, threshold_quality
from mmlib.modality import Modality, NormalLikelihood
from mmlib.seeding import generator
from mmlib.train import fit


class Same(nn.Module):
    """Where an item lies is what it is."""

    def forward(self, x):
        return x + 0 * self.nothing, x

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(()))


def plain(margin=1.0):
    parts = [Modality(name, (2,), Same(), nn.Identity(), NormalLikelihood(1.0)) for name in "ab"]
    return Siamese(parts, 2, margin)


def learned(split, seed=0):
    torch.manual_seed(seed)
    return siamese_for({name: tuple(x.shape[1:]) for name, x in split.x.items()}, 2, 0.1)


@pytest.mark.equation("eq-hadsell")
def test_loss_and_gradient_by_hand():
    distance = torch.tensor([0.0, 0.4, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    related, unrelated = (hadsell_loss(distance, kind, 1.5) for kind in (True, False))
    assert related.tolist() == pytest.approx([0.0, 0.08, 0.5, 4.5])
    assert unrelated.tolist() == pytest.approx([1.125, 0.605, 0.125, 0.0])
    assert torch.autograd.grad(related.sum(), distance)[0].tolist() == pytest.approx([0.0, 0.4, 1.0, 3.0])
    assert torch.autograd.grad(unrelated.sum(), distance)[0].tolist() == pytest.approx(
        [-1.5, -1.1, -0.5, 0.0]
    )


def test_the_loss_of_a_batch_by_hand():
    """Two rows: the unrelated partner is the other row's."""
    a = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    b = torch.tensor([[0.3, 0.4], [3.0, 4.0]])
    loss, parts = plain().loss(
        {"a": a, "b": b}, {name: torch.ones(2).bool() for name in "ab"}, validate=False
    )
    assert parts["related"].tolist() == pytest.approx([0.5, 0.0])
    assert parts["unrelated"].tolist() == pytest.approx([5.0, 4.5])
    assert loss.item() == pytest.approx((0.5 * 0.25) / 4)  # beyond the margin nothing repels
    (gradient,) = torch.autograd.grad(loss, a)
    assert gradient.flatten().tolist() == pytest.approx([-0.3 / 4, -0.4 / 4, 0.0, 0.0])
    loss, _ = plain(margin=5.5).loss({"a": a.detach(), "b": b})
    assert loss.item() == pytest.approx(0.5 * (0.25 + 0.5**2 + 1.0) / 4)


def test_scores_are_distances_turned_round():
    model = plain()
    batch = {"a": torch.tensor([[0.0, 0.0], [3.0, 4.0]]), "b": torch.tensor([[0.0, 0.0], [3.0, 0.0]])}
    assert model.score(batch).tolist() == pytest.approx([0.0, -4.0])
    longer = {"a": batch["a"], "b": torch.cat([batch["b"], batch["b"][:1]])}
    found = model.score(longer, all_pairs=True)
    assert found.tolist() == [pytest.approx([0.0, -3.0, 0.0]), pytest.approx([-5.0, -4.0, -5.0])]


def test_it_learns_what_belongs_together():
    split, fresh = ToySplit(400, seed=0), ToySplit(400, seed=0)
    fresh.x = {name: x[300:] for name, x in split.x.items()}
    split.x = {name: x[:300] for name, x in split.x.items()}
    model = learned(split)
    related = torch.eye(100).bool()

    def f1():
        scores = model.score(fresh.batch(torch.arange(100)), all_pairs=True)
        return threshold_quality(scores, related, best_threshold(scores, related))["f1"]

    before = f1()
    history = fit(model, split, 400, 64, 3e-3, progress=False, log_every=100)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["related"] < history[-1]["unrelated"]
    assert f1() > max(0.3, 3 * before)


def test_the_same_seed_gives_the_same_network():
    weights = []
    for seed in (3, 3, 4):
        split = ToySplit()
        model = learned(split)
        fit(model, split, 20, 16, seed=seed, progress=False)
        weights.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_unrelated_partners_come_from_every_other_row():
    model, seen = plain(margin=20.0), set()
    batch = {"a": torch.zeros(4, 2), "b": torch.arange(8.0).view(4, 2)}
    for seed in range(30):
        unrelated = model.loss(batch, generator=generator(seed))[1]["unrelated"]
        seen.add(round(float(unrelated[0].detach()), 3))
    assert seen == {round(math.hypot(*row), 3) for row in batch["b"][1:].tolist()}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: Siamese([*m.modalities.values()][:1], 2), "modalities has 1; expected two"),
        (lambda m: plain(margin=0.0), "margin is 0.0; expected a positive number"),
        (lambda m: m.loss({"a": torch.zeros(3, 2)}), "rows that miss a modality; expected complete rows"),
        (
            lambda m: m.loss(
                {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, {"a": torch.tensor([True, False])}
            ),
            "rows that miss a modality; expected complete rows",
        ),
        (
            lambda m: m.loss({"a": torch.zeros(1, 2), "b": torch.zeros(1, 2)}),
            "batch has 1 row; expected two or more",
        ),
        (lambda m: m.score({"a": torch.zeros(3, 2)}), "batch holds a; expected b, too"),
        (
            lambda m: m.score({"a": torch.zeros(3, 2), "b": torch.zeros(2, 2)}),
            "batch has 3 and 2 rows; expected as many, or all_pairs=True",
        ),
        (lambda m: m.score({"a": torch.zeros(3, 2), "b": torch.zeros(3, 4)}), "batch.'b'. has shape"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(plain())
