"""Contrastive objectives: against exact likelihoods in the laboratory, and with and without decodes of their own."""

import copy
import itertools
import math

import pytest
import torch

from mmlib import bounds
from mmlib.lab import LinearGaussian, joint_encoder, modalities
from mmlib.models import MODELS, ContrastiveJMVAE, ContrastiveMMVAE, ContrastiveMoPoE, ContrastiveMVAE
from mmlib.models.contrastive import (
    Contrastive,
    anchored_unrelated,
    contrastive_objective,
    random_unrelated,
)
from mmlib.models.tuples import Tuples, distinct_shifts, exchanged, random_tuples, shifted

EXACT = {"atol": 1e-9, "rtol": 1e-9}  # float64, sums of some hundred numbers
CONTRASTIVE = {name: cls for name, cls in MODELS.items() if issubclass(cls, Contrastive)}
ROWS = 6
LABS = {
    m: LinearGaussian.make(dict(zip("abc", (3, 4, 3)[:m], strict=False)), 2, noise=0.7, seed=1) for m in (2, 3)
}
MASK = {
    "a": torch.tensor([True, True, True, True, False, True]),
    "b": torch.tensor([True, True, True, False, True, False]),
}


def rows(m=2, n=ROWS, seed=0):
    return LABS[m].sample(n, torch.Generator().manual_seed(seed))[1]


def build(cls, m=2, shift=0.1, widen=1.3, **options):
    lab = LABS[m]
    if issubclass(cls, ContrastiveJMVAE):
        options["joint_encoder"] = joint_encoder(lab, shift=shift, widen=widen)
    if issubclass(cls, ContrastiveMMVAE):
        options = {"posterior": "normal", "scale": "softplus", "learn_prior": False} | options
    return cls(modalities(lab, shift=shift, widen=widen), lab.latent_dim, **options).double()


def tuples_of(batch, tuples):
    """The items of every tuple, [N B, ...] each."""
    return {name: x[at.flatten()] for (name, x), at in zip(batch.items(), tuples.rows, strict=True)}


def everything(batch):
    return torch.ones(len(batch), len(next(iter(batch.values()))), dtype=torch.bool)


@pytest.fixture
def same_noise(monkeypatch):
    """Every draw is the same distance from its mean, so that draws made anew are the draws that were at hand."""
    monkeypatch.setattr(torch.Tensor, "normal_", lambda self, *_, **__: self.fill_(0.3))


# --- decodes that serve all tuples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", ["anchored", "random"])
@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_draws_at_hand_give_the_weights_that_draws_made_anew_give(cls, kind, m, same_noise):
    model, batch = build(cls, m), rows(m)
    batch, mask, given = model._seen(batch, None, given=None)
    codes, observed = model.codes(batch, mask, given), everything(batch)
    tuples = (
        random_tuples(observed, 4, torch.Generator().manual_seed(0))
        if kind == "random"
        else exchanged(observed, 1, torch.tensor([1, 2, 4]))
    )
    wanted = [r for r, heard in enumerate(model.sources(given)) if model._serves(heard, tuples)]
    related = model._related(wanted, None, codes, batch, mask, None)
    assert set(related) == set(wanted)
    cheap, dear = (model.tuple_log_weights(tuples, codes, batch, mask, kept) for kept in (related, {}))
    torch.testing.assert_close(cheap.values, dear.values, **EXACT)
    torch.testing.assert_close(cheap.log_mixture, dear.log_mixture, **EXACT)
