"""Contrastive objectives: against exact likelihoods in the laboratory, and with and without decodes of their own."""

import copy
import inspect
import itertools

import pytest
import torch

from mmlib.data.batches import rows_at
from mmlib.data.core import Items, PairedSplit
from mmlib.distributions import Diagonal
from mmlib.lab import LinearGaussian, joint_encoder, modalities, quadrature
from mmlib.lab.linear_gaussian import View
from mmlib.modality import Modality, NormalLikelihood
from mmlib.models import (
    MODELS,
    ContrastiveJMVAE,
    ContrastiveMMJSD,
    ContrastiveMMVAE,
    ContrastiveMoPoE,
    ContrastiveMVAE,
)
from mmlib.models.contrastive import (
    Contrastive,
    anchored_unrelated,
    contrastive_objective,
    random_unrelated,
)
from mmlib.models.tuples import Tuples, distinct_shifts, exchanged, random_tuples
from mmlib.train import fit

EXACT = {"atol": 1e-9, "rtol": 1e-9}  # float64, sums of some hundred numbers
CONTRASTIVE = {name: cls for name, cls in MODELS.items() if issubclass(cls, Contrastive)}
ROWS = 6
LABS = {
    m: LinearGaussian.make(dict(zip("abc", (3, 4, 3)[:m], strict=False)), 2, noise=1.0, seed=1)
    for m in (2, 3)
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
    model.modalities["a"].weight = 1.5  # likelihoods have their training weights, whoever decodes
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
    learned = [p for p in model.parameters() if p.requires_grad]
    for a, b in zip(
        *(torch.autograd.grad(w.values.sum(), learned, retain_graph=True) for w in (cheap, dear)), strict=True
    ):
        torch.testing.assert_close(a, b, **EXACT)


# --- objectives -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-contrastive")
def test_the_model_s_own_objective_has_weight_gamma_and_gradients_reach_both():
    inputs = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    found = contrastive_objective(*inputs, 2.5)
    torch.testing.assert_close(found, 2.5 * inputs[0] - inputs[1], **EXACT)
    assert torch.autograd.gradcheck(lambda *x: contrastive_objective(*x, 2.5), inputs)


@pytest.mark.equation("eq-anchored-unrelated")
@pytest.mark.parametrize("m", [2, 3])
def test_anchored_tuples_are_summed_over_what_is_exchanged_and_averaged_over_what_stays(m):
    generator = torch.Generator().manual_seed(0)
    log_joint = torch.randn(m, 4, 3, generator=generator, dtype=torch.float64)
    counts = torch.rand(m, 4, 3, generator=generator) < 0.7
    counts[:, :, 0] = False  # a row that observes one modality
    counts[0, :, 1] = False
    observed = torch.tensor([[True, True, False]] + [[True] * 3] * (m - 1))
    expected = torch.zeros(3).double()
    for b in range(3):
        sums = [
            [log_joint[d, j, b].exp() for d in range(m) for j in range(4) if d != stays and counts[d, j, b]]
            for stays in range(m)
        ]
        logs = [sum(each).log() for each, seen in zip(sums, observed[:, b], strict=True) if each and seen]
        expected[b] = sum(logs) / max(len(logs), 1)
    torch.testing.assert_close(anchored_unrelated(log_joint, counts, observed), expected, **EXACT)
    leaf = log_joint.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: anchored_unrelated(x, counts, observed), [leaf])
    poisoned = log_joint.detach().masked_fill(~counts, -1e30)
    torch.testing.assert_close(anchored_unrelated(poisoned, counts, observed), expected, **EXACT)


@pytest.mark.equation("eq-anchored-unrelated")
def test_for_two_modalities_it_is_the_half_of_two_sums():
    """Equation 3: the half of what x is with other y, and of what y is with other x."""
    log_joint = torch.randn(2, 5, 3, dtype=torch.float64)
    every = torch.ones(2, 5, 3, dtype=torch.bool)
    found = anchored_unrelated(log_joint, every, every[:, 0])
    torch.testing.assert_close(found, log_joint.logsumexp(1).sum(0) / 2, **EXACT)


@pytest.mark.equation("eq-random-unrelated")
def test_random_tuples_are_summed_in_one_logarithm():
    log_joint = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([[True, True, False]] * 3 + [[False, True, False]])
    expected = torch.stack(
        [log_joint[:3, 0].logsumexp(0), log_joint[:, 1].logsumexp(0), torch.zeros(()).double()]
    )
    torch.testing.assert_close(random_unrelated(log_joint, counts), expected, **EXACT)
    assert torch.autograd.gradcheck(lambda x: random_unrelated(x, counts), [log_joint])


# --- which items make a tuple ---------------------------------------------------------------------------------------


def test_a_row_meets_as_many_others_as_it_has_negatives():
    for seed in range(20):
        shifts = distinct_shifts(7, 4, torch.device("cpu"), torch.Generator().manual_seed(seed))
        assert len(set(shifts.tolist())) == 4 and 1 <= shifts.min() and shifts.max() <= 6
    first = [
        distinct_shifts(7, 1, torch.device("cpu"), torch.Generator().manual_seed(s)).item()
        for s in range(300)
    ]
    assert min(first.count(s) for s in range(1, 7)) > 30  # 50 expected of each: none is left out or rare


def test_one_item_is_exchanged_and_the_others_stay():
    tuples = exchanged(torch.ones(3, 5, dtype=torch.bool), 1, torch.tensor([1, 3]))
    own = torch.arange(5).expand(2, 5)
    assert torch.equal(tuples.rows[0], own) and torch.equal(tuples.rows[2], own)
    assert torch.equal(tuples.rows[1], (own + torch.tensor([[1], [3]])) % 5)
    assert tuples.usable.all() and tuples.groups == (0, 1, 0)


def test_random_tuples_are_of_several_rows_and_reach_every_row():
    observed = torch.ones(2, 3, dtype=torch.bool)
    for m in (2, 3):
        met = set()
        for seed in range(100):
            tuples = random_tuples(observed[:1].expand(m, 3), 2, torch.Generator().manual_seed(seed))
            assert (tuples.rows[-1] != tuples.rows[0]).all() and tuples.usable.all()
            assert len({tuple(tuples.rows[:, n, 0].tolist()) for n in range(2)}) == 2
            met |= {tuple(tuples.rows[:, n, 0].tolist()) for n in range(2)}
        assert len(met) == 3**m * 2 // 3  # all but those whose first and last belong together


@pytest.mark.parametrize("kind", ["exchanged", "random"])
def test_a_tuple_is_usable_if_it_shows_items_of_two_rows_and_harmless_if_not(kind):
    observed = torch.tensor(
        [[True, True, False, True], [True, False, True, True], [False, False, True, False]]
    )
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        tuples = (
            random_tuples(observed, 3, generator)
            if kind == "random"
            else exchanged(observed, seed % 3, distinct_shifts(4, 3, observed.device, generator))
        )
        for n, b in itertools.product(range(3), range(4)):
            wanted = [(b + int(s)) % 4 for s in tuples.shifts[:, n]]
            shown = {row for m, row in enumerate(wanted) if observed[m, row]}
            assert bool(tuples.usable[n, b]) == (len(shown) > 1)
            assert tuples.rows[:, n, b].tolist() == (wanted if len(shown) > 1 else [b] * 3)


@pytest.mark.parametrize("kind", ["anchored", "random"])
@pytest.mark.parametrize("m", [2, 3])
def test_filtered_tuples_are_those_whose_items_are_of_several_classes(m, kind, same_noise):
    batch, labels = rows(m), torch.tensor([0, 0, 1, 1, 1, 2])
    model, filtered = (
        build(ContrastiveMVAE, m, tuples=kind, negatives=5, filtered=on) for on in (False, True)
    )
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        observed = torch.rand(m, ROWS, generator=generator) > 0.2
        if kind == "random":
            tuples = random_tuples(observed, 5, generator)
        else:
            tuples = exchanged(observed, seed % m, distinct_shifts(ROWS, 5, observed.device, generator))
        kept = tuples.of_several_classes(labels, observed)
        for n, b in itertools.product(range(5), range(ROWS)):
            at = tuples.rows[:, n, b].tolist()
            shown = {labels[row].item() for i, row in enumerate(at) if observed[i, row]}
            assert bool(kept.usable[n, b]) == (bool(tuples.usable[n, b]) and len(shown) > 1)
            assert kept.rows[:, n, b].tolist() == (at if kept.usable[n, b] else [b] * m)
    # all of different classes: nothing is filtered; all of one: no row has a partner
    draw = {"generator": torch.Generator().manual_seed(0)}
    everything = model.loss(batch, generator=torch.Generator().manual_seed(0))[1]["unrelated"]
    torch.testing.assert_close(
        filtered.loss(batch, labels=torch.arange(ROWS), **draw)[1]["unrelated"], everything
    )
    assert not filtered.loss(batch, labels=torch.zeros(ROWS).long())[1]["unrelated"].any()
    fewer = filtered.loss(batch, labels=labels, generator=torch.Generator().manual_seed(0))[1]["unrelated"]
    assert (fewer <= everything + 1e-9).all() and (fewer < everything).any()
    for wrong, told in ((filtered, None), (model, labels)):
        with pytest.raises(ValueError, match="labels"):
            wrong.loss(batch, labels=told)


def test_training_tells_a_filtered_model_the_classes(monkeypatch):
    seen = LABS[2].sample(40, torch.Generator().manual_seed(0))[1]
    labels = torch.arange(40) % 3
    split = PairedSplit(
        {name: Items(x.float(), labels, torch.arange(40)) for name, x in seen.items()},
        {name: torch.arange(40) for name in seen},
        labels,
    )
    model, told = build(ContrastiveMVAE, filtered=True).float(), []
    monkeypatch.setattr(Tuples, "of_several_classes", lambda self, labels, _: told.append(labels) or self)
    fit(model, split, steps=2, batch_size=10, progress=False)
    wanted = [labels[rows_at(step, 40, 10, 0)] for step in range(2)]
    assert all(map(torch.equal, told, wanted)) and len(told) == 2


# --- in the laboratory ----------------------------------------------------------------------------------------------


def exact_unrelated(lab, batch, kind, negatives, generator, mask=None):
    """From exact likelihoods, row by row, with the tuples that the model draws from the generator."""
    names, b = list(batch), len(batch["a"])
    mask = mask or {}
    observed = torch.stack([mask.get(n, torch.ones(b, dtype=torch.bool)) for n in names])
    m = len(names)

    def log_p(at):
        shown = {n: batch[n][[r]] for n, r, seen in zip(names, at, observed, strict=True) if seen[r]}
        return lab.log_marginal(shown)[0]

    def comparable(at, row):
        shows = [bool(seen[r]) for seen, r in zip(observed, at, strict=True)]
        return (
            shows == observed[:, row].tolist() and len({r for r, s in zip(at, shows, strict=True) if s}) > 1
        )

    values = []
    if kind == "random":
        tuples = random_tuples(observed, negatives, generator)
        for row in range(b):
            at = [[(row + int(s)) % b for s in tuples.shifts[:, n]] for n in range(negatives)]
            logs = [log_p(each) for each in at if comparable(each, row)]
            values.append(torch.stack(logs).logsumexp(0) if logs else torch.zeros(()).double())
        return torch.stack(values)
    shifts = distinct_shifts(b, min(negatives, b - 1), observed.device, generator)
    for row in range(b):
        sums = []
        for stays in range(m):
            logs = []
            for d, s in itertools.product(range(m), shifts.tolist()):
                sign = -1 if m == 2 and d == 0 else 1  # one set of pairs serves both
                at = [(row + sign * s) % b if other == d else row for other in range(m)]
                if d != stays and observed[d, row] and comparable(at, row):
                    logs.append(log_p(at))
            if logs and observed[stays, row]:
                sums.append(torch.stack(logs).logsumexp(0))
        values.append(sum(sums) / len(sums) if sums else torch.zeros(()).double())
    return torch.stack(values)


@pytest.mark.equation("eq-anchored-unrelated")
@pytest.mark.equation("eq-random-unrelated")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", ["anchored", "random"])
@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_what_is_subtracted_tends_to_its_exact_value(cls, kind, m, masked):
    mask = MASK if masked else None
    if masked and issubclass(cls, ContrastiveJMVAE):
        return  # trains on complete rows only
    model, batch = build(cls, m, contrast_k=4000, tuples=kind, negatives=3), rows(m)
    expected = exact_unrelated(LABS[m], batch, kind, 3, torch.Generator().manual_seed(0), mask)
    clean, seen, given = model._seen(batch, mask, given=None)
    with torch.no_grad():
        found = model._unrelated(
            model.codes(clean, seen, given), None, clean, seen, torch.Generator().manual_seed(0)
        )
    # 4,000 draws of a proposal 1.3 times too wide: errors measured are below 0.08 nats
    torch.testing.assert_close(found, expected, rtol=0, atol=0.15)
    assert (expected[~torch.stack([*seen.values()]).all(0)] == 0).all() or m == 3


def as_laboratory(model, lab):
    """The laboratory whose parameters are those of the model's decoders, with their graph."""
    decoders = {name: model.modalities[name].decoder for name in lab.views}
    views = {n: View(decoders[n].weight, decoders[n].bias, view.noise) for n, view in lab.views.items()}
    return LinearGaussian(views)


@pytest.mark.equation("eq-anchored-unrelated")
@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_the_gradient_of_what_is_subtracted_tends_to_the_exact_one(cls):
    model, batch = build(cls, contrast_k=4000, negatives=3), rows()
    learned = [p for part in model.modalities.values() for p in part.decoder.parameters()]
    exact = exact_unrelated(
        as_laboratory(model, LABS[2]), batch, "anchored", 3, torch.Generator().manual_seed(0)
    )
    clean, seen, given = model._seen(batch, None, given=None)
    codes = model.codes(clean, seen, given)
    found = model._unrelated(codes, None, clean, seen, torch.Generator().manual_seed(0))
    for a, b in zip(
        torch.autograd.grad(found.mean(), learned), torch.autograd.grad(exact.mean(), learned), strict=True
    ):
        # errors measured are below 0.011, entries up to 1
        torch.testing.assert_close(a, b, rtol=0, atol=0.03)


@pytest.mark.equation("eq-cubo")
@pytest.mark.parametrize("cls", [ContrastiveMVAE, ContrastiveJMVAE])
def test_cubo_tends_to_the_contrast_of_upper_bounds(cls):
    model, batch = build(cls, contrast_k=20_000, negatives=3, contrast="cubo", shift=0.05), rows()
    clean, seen, given = model._seen(batch, None, given=None)
    codes = model.codes(clean, seen, given)
    tuples = exchanged(
        codes.observed, 1, distinct_shifts(ROWS, 3, torch.device("cpu"), torch.Generator().manual_seed(0))
    )
    pairs = tuples_of(batch, tuples)
    q = model.posterior(pairs).components
    limit = LABS[2].cubo(Diagonal(q.loc[0], q.scale[0]), pairs).view(3, ROWS)
    exact = LABS[2].log_marginal(pairs).view(3, ROWS)
    assert torch.isfinite(limit).all() and (limit > exact).all()
    back = (torch.arange(ROWS) - tuples.shifts[1, :, None]) % ROWS
    expected = (limit.logsumexp(0) + limit.gather(1, back).logsumexp(0)) / 2
    with torch.no_grad():
        found = model._unrelated(codes, None, clean, seen, torch.Generator().manual_seed(0))
    # squared weights: 20,000 draws are off by up to 0.03 nats, and the bound is 0.3 above log p
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1)


@pytest.mark.equation("eq-cubo")
@pytest.mark.parametrize("cls", [ContrastiveMVAE, ContrastiveJMVAE])
def test_the_gradient_of_cubo_s_contrast_tends_to_that_of_the_closed_forms(cls):
    options = {"contrast_k": 20_000, "negatives": 5, "contrast": "cubo", "shift": 0.05, "widen": 1.6}
    model, batch = build(cls, **options), rows()
    learned = [p for part in model.modalities.values() for p in part.decoder.parameters()]
    clean, seen, given = model._seen(batch, None, given=None)
    found = model._unrelated(model.codes(clean, seen, given), None, clean, seen, torch.Generator())
    tuples = exchanged(torch.ones(2, ROWS, dtype=torch.bool), 1, torch.arange(1, ROWS))
    pairs = tuples_of(batch, tuples)
    q = model.posterior(pairs).detach().components
    lab = as_laboratory(model, LABS[2])
    limit = lab.cubo(Diagonal(q.loc[0], q.scale[0]), pairs).view(ROWS - 1, ROWS)
    back = (torch.arange(ROWS) - tuples.shifts[1, :, None]) % ROWS
    exact = (limit.logsumexp(0) + limit.gather(1, back).logsumexp(0)) / 2
    others = exact_unrelated(lab, batch, "anchored", 5, torch.Generator())  # what cI tends to
    found, exact, others = (torch.autograd.grad(x.mean(), learned) for x in (found, exact, others))
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.05)  # errors measured are below 0.036
    assert max((a - b).abs().max() for a, b in zip(exact, others, strict=True)) > 0.09


@pytest.mark.parametrize("cls", [ContrastiveMVAE, ContrastiveJMVAE])
def test_one_draw_of_one_component_makes_both_estimators_the_same(cls):
    losses = [build(cls, contrast=each).loss(rows(), generator=torch.Generator().manual_seed(0))[0]
              for each in ("iwae", "cubo")]  # fmt: skip
    torch.testing.assert_close(*losses, **EXACT)


# --- the model's own objective --------------------------------------------------------------------------------------


def plain(cls):
    """The model without its contrastive half."""
    return next(base for base in cls.__mro__ if not issubclass(base, Contrastive))


@pytest.mark.equation("eq-contrastive")
@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_with_a_large_gamma_it_is_the_model_s_own_objective(cls):
    model = build(cls, gamma=1e9)
    own = copy.deepcopy(model)
    loss, parts = model.loss(rows(), generator=torch.Generator().manual_seed(0))
    batch, mask, _ = own._seen(rows(), None, given=None)
    objective, _ = plain(cls).training_objective(own, batch, mask, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss / 1e9, -objective.mean(), atol=1e-6, rtol=0)
    torch.testing.assert_close(parts["related"], objective, **EXACT)
    (loss / 1e9).backward()
    (-objective.mean()).backward()
    for (name, a), b in zip(model.named_parameters(), own.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=0)


@pytest.mark.equation("eq-contrastive")
@pytest.mark.parametrize("objective", ["iwae", "iwae_looser"])
def test_first_term_and_whole_objective_tend_to_their_exact_values_and_gradients(objective):
    lab = LinearGaussian.make({"a": 3, "b": 4}, 1, noise=0.5, seed=1)
    batch = lab.sample(ROWS, torch.Generator().manual_seed(0))[1]
    model = ContrastiveMMVAE(
        modalities(lab, shift=0.1), 1, posterior="normal", scale="softplus", learn_prior=False,
        objective=objective, k=10_000, negatives=ROWS - 1,
    ).double()  # fmt: skip
    learned = [p for part in model.modalities.values() for p in part.decoder.parameters()]
    _, parts = model.loss(batch, generator=torch.Generator().manual_seed(0))
    own = as_laboratory(model, lab)
    related = own.log_marginal(batch)
    if objective == "iwae_looser":  # its own limit, below log p
        q, exact = model.posterior(batch).detach(), related
        related = quadrature.looser_limit(lambda z: own.log_joint(z, batch), q, quadrature.grid())
        assert (related < exact - 0.03).any()
    unrelated = exact_unrelated(own, batch, "anchored", ROWS - 1, torch.Generator())
    for name, expected in {"related": related, "objective": 2 * related - unrelated}.items():
        # errors measured are below 0.01 nats, and so are those of gradients
        torch.testing.assert_close(parts[name], expected, rtol=0, atol=0.02)
        found, exact = (
            torch.autograd.grad(x.mean(), learned, retain_graph=True) for x in (parts[name], expected)
        )
        for a, b in zip(found, exact, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0.02)


@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_rows_without_others_have_the_model_s_own_objective_alone(cls):
    if not issubclass(cls, ContrastiveJMVAE):
        _, parts = build(cls).loss(rows(), MASK, torch.Generator().manual_seed(0))
        lone = ~(MASK["a"] & MASK["b"])
        assert (parts["unrelated"][lone] == 0).all() and (parts["unrelated"][~lone] != 0).all()
        torch.testing.assert_close(parts["objective"][lone], 2 * parts["related"][lone], **EXACT)
    one = {name: x[:1] for name, x in rows().items()}
    assert (build(cls).loss(one)[1]["unrelated"] == 0).all()
    two = {name: x[:2] for name, x in rows().items()}  # fewer others than negatives: all there are
    assert (build(cls).loss(two)[1]["unrelated"] != 0).all()


def passes(model, batch):
    """How many codes each decoder is given, and rows each encoder, in one loss."""
    counts = dict.fromkeys(["encoders", "decoders", "joint_encoder"], 0)

    def count(which):
        return lambda _, args: counts.update(
            {
                which: counts[which]
                + len(args[0] if torch.is_tensor(args[0]) else next(iter(args[0].values())))
            }
        )

    for part in model.modalities.values():
        part.encoder.register_forward_pre_hook(count("encoders"))
        part.decoder.register_forward_pre_hook(count("decoders"))
    if hasattr(model, "joint_encoder"):
        model.joint_encoder.register_forward_pre_hook(count("joint_encoder"))
    model.loss(batch, generator=torch.Generator().manual_seed(0))
    return {which: n / ROWS for which, n in counts.items()}


@pytest.mark.parametrize("m", [2, 3])
@pytest.mark.parametrize("kind", ["anchored", "random"])
@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_a_component_that_hears_one_modality_decodes_once_whatever_the_negatives(cls, kind, m):
    """Passes a row: what the model makes anyway, one draw from each lone component, and the others for every tuple."""
    model = build(cls, m, negatives=4, tuples=kind)
    names = tuple(model.modalities)
    plain_model = build(cls, m, negatives=4, tuples=kind)
    plain_model._unrelated = lambda *_: torch.zeros(ROWS)
    own = passes(plain_model, rows(m))
    exchanges = [tuple(range(m))] if kind == "random" else [
        tuple(int(i == d) for i in range(m)) for d in (range(m) if m > 2 else [1])
    ]  # fmt: skip
    serve, several = set(), 0
    for groups in exchanges:
        for r, heard in enumerate(model.sources(names)):
            if len({groups[i] for i in heard}) == 1:
                serve.add(r)
            else:
                several += 4 * m
    lone = 0 if issubclass(cls, ContrastiveMMVAE) else m * len(serve)
    found = passes(model, rows(m))
    assert found["decoders"] == own["decoders"] + several + lone
    assert found["encoders"] == own["encoders"] == m
    joint = issubclass(cls, ContrastiveJMVAE)
    assert found["joint_encoder"] == (1 + 4 * len(exchanges) if joint else 0)
    if issubclass(cls, ContrastiveMMVAE):
        assert found == own


def test_draws_of_the_model_s_own_objective_serve_where_they_are_of_the_proposal():
    """MoPoE's other objective draws from every subset: then its singletons need no more decodes."""
    own = passes(build(plain(ContrastiveMoPoE), objective="elbo"), rows())["decoders"]
    found = passes(build(ContrastiveMoPoE, objective="elbo", negatives=4), rows())["decoders"]
    assert found == own + 4 * 2  # the product of both, for 4 pairs of 2 items


class Wide(torch.nn.Module):
    """Says of every item that its code is anywhere within a scale."""

    def __init__(self, scale, latent_dim):
        super().__init__()
        self.loc, self.raw = torch.zeros(latent_dim), torch.full((latent_dim,), float(scale))

    def forward(self, x):
        return self.loc.expand(len(x), -1).to(x), self.raw.expand(len(x), -1).to(x)


@pytest.mark.parametrize(("cls", "gamma", "bounded"), [
    (ContrastiveMMJSD, 2.0, False), (ContrastiveMMJSD, 4.5, True), (ContrastiveMMVAE, 2.0, True),
    (ContrastiveMVAE, 2.0, True), (ContrastiveMoPoE, 2.0, True),
])  # fmt: skip
def test_wide_codes_that_decoders_ignore_pay_in_mmjsd_only_below_its_gamma(cls, gamma, bounded):
    def objective(scale):
        decoders = [torch.nn.Linear(20, 3), torch.nn.Linear(20, 4)]
        for weight in (weight for decoder in decoders for weight in decoder.parameters()):
            torch.nn.init.zeros_(weight)
        parts = [
            Modality(name, (d.out_features,), Wide(scale, 20), d, NormalLikelihood())
            for name, d in zip("ab", decoders, strict=True)
        ]
        options = {"posterior": "normal", "scale": "softplus"} if cls is ContrastiveMMVAE else {}
        model = cls(parts, 20, gamma=gamma, **options).double()
        return model.loss(rows(n=200), generator=torch.Generator().manual_seed(0))[1]["objective"].mean()

    narrow, wide = objective(10), objective(40)  # what matters grows with the square of the scale
    assert (wide < narrow + 1) == bounded  # nats; MVAE's prior is an expert, so that its codes cannot be wide


@pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)
def test_a_held_proposal_learns_from_what_belongs_together_only(cls):
    model, held = build(cls, contrast_k=3), build(cls, contrast_k=3, hold_proposal=True)
    unrelated = held.loss(rows(), generator=torch.Generator().manual_seed(0))[1]["unrelated"]
    learned = [p for name, p in held.named_parameters() if "encoder" in name]
    found = torch.autograd.grad(unrelated.sum(), learned, allow_unused=True)
    assert all(g is None or not g.any() for g in found)
    decoder = [p for name, p in held.named_parameters() if "decoder" in name]
    unrelated = held.loss(rows(), generator=torch.Generator().manual_seed(0))[1]["unrelated"]
    assert all(g.any() for g in torch.autograd.grad(unrelated.sum(), decoder))
    taught = model.loss(rows(), generator=torch.Generator().manual_seed(0))[1]["unrelated"]
    encoder = [p for name, p in model.named_parameters() if "encoder" in name]
    assert any(
        g is not None and g.any() for g in torch.autograd.grad(taught.sum(), encoder, allow_unused=True)
    )


class Wary(torch.nn.Module):
    """The exact joint encoder, which sends codes the further away the less its two items agree."""

    def __init__(self, lab):
        super().__init__()
        self.exact, self.lab = joint_encoder(lab), lab
        self.away = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, batch):
        loc, raw = self.exact(batch)
        first, second = (self.lab.posterior(batch, [name])[0] for name in batch)
        apart = (first - second).square().sum(-1, keepdim=True)
        return loc + self.away * (apart - 1).clamp(min=0), raw


@pytest.mark.parametrize("held", [False, True])
def test_a_joint_encoder_can_lose_what_is_unrelated_at_no_cost_unless_it_is_held(held):
    """At little noise related items agree, and no gamma weighs what they do not pay."""
    lab = LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.05, seed=1)
    batch = lab.sample(ROWS, torch.Generator().manual_seed(0))[1]
    model = ContrastiveJMVAE(
        modalities(lab, widen=1.0), 2, Wary(lab), gamma=1000.0, alpha=0.0, negatives=3, hold_proposal=held
    ).double()
    related, unrelated = [], []
    for away in (0.0, 10.0, 1000.0):
        model.joint_encoder.away.data.fill_(away)
        loss, parts = model.loss(batch, generator=torch.Generator().manual_seed(0))
        related.append(parts["related"].mean().item())
        unrelated.append(parts["unrelated"].mean().item())
    assert related[0] == related[1] == related[2]
    assert unrelated[2] < 1000 * unrelated[1] < 0 and unrelated[1] < unrelated[0]
    (taught,) = torch.autograd.grad(loss, model.joint_encoder.away)
    assert bool(taught < 0) != held and (taught == 0) == held


# --- options --------------------------------------------------------------------------------------------------------


def test_options_are_those_of_both_and_wrong_ones_are_told():
    options = inspect.signature(ContrastiveMMVAE).parameters
    assert {"objective", "k", "gamma", "negatives", "contrast", "tuples", "contrast_k"} < set(options)
    assert build(ContrastiveMMVAE, k=3).contrast_k == 3 and build(ContrastiveMVAE).contrast_k == 1
    for wrong, message in [
        ({"gamma": 0}, "gamma is 0"),
        ({"negatives": 0}, "negatives is 0"),
        ({"contrast": "elbo"}, "contrast is 'elbo'"),
        ({"tuples": "all"}, "tuples is 'all'"),
        ({"contrast_k": 0}, "contrast_k is 0"),
        ({"objective": "iwae", "estimator": "squared"}, "estimator is 'squared'; a contrastive objective"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(ContrastiveMMVAE, **wrong)
    with pytest.raises(TypeError, match="gama"):
        build(ContrastiveMMVAE, gama=2.0)
