"""Importance-sampled likelihoods against the exact ones of the laboratory."""

import itertools
import json
import math
from types import SimpleNamespace

import pytest
import torch

from mmlib.bounds import LogWeights
from mmlib.lab import LinearGaussian, joint_encoder
from mmlib.lab import modalities as lab_modalities
from mmlib.metrics import (
    conditional_log_likelihood,
    evaluate_likelihoods,
    importance_log_likelihood,
    laplace_ceiling,
    log_conditional,
    log_marginal,
)
from mmlib.models import JMVAE, MMVAE, MVAE

SIZES = {"a": 3, "b": 2, "c": 4}


def laboratory(names=("a", "b"), seed=0):
    return LinearGaussian.make({name: SIZES[name] for name in names}, latent_dim=2, noise=0.7, seed=seed)


def jmvae(lab, shift=0.0, widen=1.0):
    parts = lab_modalities(lab, shift=shift, widen=widen)
    joint = joint_encoder(lab, shift=shift, widen=widen)
    return JMVAE(parts, lab.latent_dim, joint_encoder=joint).double()


def mmvae(lab, shift=0.0, widen=1.0):
    parts = lab_modalities(lab, shift=shift, widen=widen)
    return MMVAE(parts, lab.latent_dim, posterior="normal", scale="softplus", learn_prior=False).double()


def mvae(lab):
    """A product of exact experts is the exact posterior, whatever is given."""
    return MVAE(lab_modalities(lab, experts="likelihood"), lab.latent_dim).double()


def rows(lab, n=6, seed=0):
    return lab.sample(n, torch.Generator().manual_seed(seed))[1]


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def fixed(log_weights, log_mixture=None):
    """A 'model' that hands out given log-weights [R, K, B], k at a time."""
    state = SimpleNamespace(at=0)
    if log_mixture is None:
        log_mixture = torch.full_like(log_weights[:, 0], -math.log(len(log_weights)))

    def draw(batch, k, given=None, target=None, mask=None, generator=None):
        piece = log_weights[:, state.at : state.at + k]
        state.at += k
        return SimpleNamespace(log_weights=LogWeights(piece, log_mixture))

    return SimpleNamespace(draw=draw)


# --- the equations ------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-importance-likelihood")
def test_importance_likelihood_is_the_log_of_the_weighted_mean():
    g = source(1)
    log_weights = torch.randn(3, 5, 4, generator=g, dtype=torch.float64)
    log_mixture = torch.randn(3, 4, generator=g, dtype=torch.float64).log_softmax(0)
    log_sums = log_weights.exp().sum(1).log().requires_grad_()
    log_shares = log_mixture.clone().requires_grad_()
    value = importance_log_likelihood(log_sums, log_shares, k=5)
    plain = (log_mixture.exp() * log_weights.exp().mean(1)).sum(0)  # sum_r pi_r mean_k w_rk
    torch.testing.assert_close(value, plain.log(), rtol=1e-12, atol=1e-12)
    value.sum().backward()
    share = log_mixture.exp() * log_weights.exp().sum(1)
    torch.testing.assert_close(log_sums.grad, share / share.sum(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(log_shares.grad, share / share.sum(0), rtol=1e-10, atol=1e-12)


@pytest.mark.equation("eq-conditional-likelihood")
def test_conditional_likelihood_is_the_laboratorys():
    lab = laboratory()
    batch = rows(lab)
    joint = lab.log_marginal(batch).requires_grad_()
    given = lab.log_marginal(batch, ["b"]).requires_grad_()
    value = conditional_log_likelihood(joint, given)
    # p(x_a | x_b) once more, from the conditional of a joint normal
    a, b = lab.views["a"], lab.views["b"]
    cross = a.weight @ b.weight.T
    whole_b = b.weight @ b.weight.T + b.noise**2 * torch.eye(2, dtype=torch.float64)
    gain = torch.linalg.solve(whole_b, cross.T).T
    mean = a.bias + (batch["b"] - b.bias) @ gain.T
    covariance = a.weight @ a.weight.T + a.noise**2 * torch.eye(3, dtype=torch.float64) - gain @ cross.T
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(batch["a"])
    torch.testing.assert_close(value, exact, rtol=1e-10, atol=1e-10)
    value.sum().backward()
    torch.testing.assert_close(joint.grad, torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(given.grad, -torch.ones(6, dtype=torch.float64))


@pytest.mark.equation("eq-laplace-ceiling")
def test_laplace_ceiling_is_the_density_at_its_peak():
    for size, scale in ((1, 0.5), (784, 0.75), (3072, 0.1)):
        peak = torch.distributions.Laplace(torch.tensor(0.3).double(), scale).log_prob(
            torch.tensor(0.3).double()
        )
        assert laplace_ceiling(size, scale) == pytest.approx(size * float(peak), rel=1e-12, abs=1e-12)
    assert laplace_ceiling(784 + 3072, 0.75) == pytest.approx(-1563.5, abs=0.05)
    with pytest.raises(ValueError, match="scale is 0.0; expected a positive number"):
        laplace_ceiling(784, 0.0)


# --- exact answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("a",), ("b",), ("a", "b"), ("a", "b", "c")])
def test_the_true_posterior_gives_the_exact_likelihood_from_one_draw(names):
    lab = laboratory(("a", "b", "c"))
    batch = rows(lab)
    result = log_marginal(mvae(lab), batch, names, k=3, generator=source())
    torch.testing.assert_close(
        result.value, lab.log_marginal(batch, names), rtol=1e-5, atol=1e-5
    )  # scale + 1e-6
    assert result.error.max() < 1e-4
    torch.testing.assert_close(result.effective, torch.full((6,), 3.0).double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("build", [jmvae, mmvae])
def test_a_wrong_posterior_gives_the_right_likelihood_within_its_stated_error(build):
    lab = laboratory()
    batch = rows(lab)
    model = build(lab, shift=0.2, widen=1.3)
    for names in (("a", "b"), ("a",), ("b",)):
        result = log_marginal(model, batch, names, k=4000, generator=source(), chunk=1000)
        deviation = (result.value - lab.log_marginal(batch, names)).abs() / result.error
        assert deviation.max() < 4.5 and result.error.max() < 0.1  # 6 rows: a false alarm once in 10^4 runs
        assert (result.effective < 4000 * (2 if build is mmvae and len(names) == 2 else 1)).all()


@pytest.mark.parametrize("build", [jmvae, mmvae])
def test_the_monte_carlo_error_is_the_spread_of_repetitions(build):
    lab = laboratory()
    batch = {name: x[:1].repeat(400, 1) for name, x in rows(lab).items()}
    result = log_marginal(build(lab, shift=0.2, widen=1.3), batch, k=200, generator=source())
    spread = result.value.std()  # good to 4 % from 400 repetitions
    assert result.error.pow(2).mean().sqrt().item() == pytest.approx(spread.item(), rel=0.15)


def test_a_foreign_proposal_estimates_the_same_marginal_only_worse():
    """What the released code calls 'x_a given x_b' is log p(x_a), not log p(x_a | x_b)."""
    lab = laboratory()
    batch = rows(lab, n=3)
    model = jmvae(lab, widen=2.0)  # wide proposals: every weight is bounded
    own = log_marginal(model, batch, ["a"], k=2000, generator=source())
    foreign = log_marginal(model, batch, ["a"], k=20000, generator=source(), given=["b"], chunk=5000)
    exact = lab.log_marginal(batch, ["a"])
    assert ((foreign.value - exact).abs() / foreign.error).max() < 4.5
    assert (foreign.effective / 20000 < own.effective / 2000).all()
    assert (lab.log_conditional(batch, ["a"], ["b"]) - exact).abs().min() > 10 * foreign.error.max()


def test_log_conditional_is_truly_conditional():
    lab = laboratory(("a", "b", "c"))
    batch = rows(lab)
    result = log_conditional(mvae(lab), batch, ["a", "b"], ["c"], k=2, generator=source())
    torch.testing.assert_close(
        result.value, lab.log_conditional(batch, ["a", "b"], ["c"]), rtol=1e-5, atol=1e-5
    )
    loose = log_conditional(
        mmvae(laboratory(), widen=1.2), rows(laboratory()), ["a"], ["b"], k=2000, generator=source()
    )
    exact = laboratory().log_conditional(rows(laboratory()), ["a"], ["b"])
    assert ((loose.value - exact).abs() / loose.error).max() < 4.5


def seen_of(n=6):
    """Bool [n] for each of three modalities: all seven non-empty subsets in turn."""
    bits = torch.arange(n) % 7 + 1
    return {name: (bits >> i) % 2 == 1 for i, name in enumerate(SIZES)}


def exact_of_what_is_seen(lab, batch, mask):
    """The laboratory's log p of each row's own subset, [B]."""
    found = []
    for row in range(len(next(iter(batch.values())))):
        names = [name for name in mask if mask[name][row]]
        found.append(lab.log_marginal({name: batch[name][row : row + 1] for name in names}, names))
    return torch.cat(found)


def hide(batch, mask):
    """The batch with NaN where nothing is observed: whoever reads it gives NaN."""
    return {name: x.masked_fill(~mask[name][:, None], math.nan) for name, x in batch.items()}


def test_rows_that_observe_different_subsets_have_the_likelihood_of_what_each_observes():
    lab = laboratory(("a", "b", "c"))
    batch, mask = rows(lab, 14), seen_of(14)
    exact = exact_of_what_is_seen(lab, batch, mask)
    result = log_marginal(mvae(lab), hide(batch, mask), k=3, generator=source(), mask=mask)
    torch.testing.assert_close(result.value, exact, rtol=1e-5, atol=1e-5)  # scale + 1e-6
    loose = mmvae(lab, shift=0.2, widen=1.3)
    result = log_marginal(loose, hide(batch, mask), k=4000, generator=source(), chunk=1000, mask=mask)
    assert ((result.value - exact).abs() / result.error).max() < 4.5 and result.error.max() < 0.1
    some = {
        name: seen | (name == "c") for name, seen in mask.items()
    }  # all observe something of what is given
    result = log_conditional(mvae(lab), hide(batch, some), ["a"], ["b", "c"], 2, source(), mask=some)
    whole, known = (
        exact_of_what_is_seen(lab, batch, {name: some[name] for name in names}) for names in ("abc", "bc")
    )
    torch.testing.assert_close(result.value, whole - known, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="mask leaves row 1 without any modality"):
        log_marginal(mvae(lab), hide(batch, mask), ["a"], 1, source(), mask=mask)


def test_all_observed_is_no_mask():
    lab = laboratory(("a", "b", "c"))
    batch = rows(lab)
    everything = {name: torch.ones(6, dtype=torch.bool) for name in batch}
    for names in (None, ["b"]):
        found = [log_marginal(mmvae(lab), batch, names, 5, source(), mask=m) for m in (None, everything)]
        assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


# --- numerics -----------------------------------------------------------------------------------------------------


def test_chunks_change_nothing_and_thousands_of_nats_do_no_harm():
    log_weights = 30 * torch.randn(2, 23, 5, generator=source(2), dtype=torch.float64) - 2000
    log_mixture = torch.tensor([[0.3], [0.7]]).double().log().expand(2, 5)
    whole = log_marginal(fixed(log_weights, log_mixture), {"a": None}, k=23, chunk=23)
    pieces = log_marginal(fixed(log_weights, log_mixture), {"a": None}, k=23, chunk=4)
    torch.testing.assert_close(whole, pieces, rtol=1e-10, atol=1e-10)
    top = log_weights.amax((0, 1))
    relative = (log_weights - top).exp()
    exact = (log_mixture.exp() * relative.mean(1)).sum(0).log() + top
    torch.testing.assert_close(whole.value, exact, rtol=1e-12, atol=0)
    strata = (log_mixture.exp() ** 2 * relative.var(1) / 23).sum(0).sqrt()
    torch.testing.assert_close(whole.error, strata / (exact - top).exp(), rtol=1e-8, atol=1e-10)
    flat = (log_mixture.exp()[:, None] * relative).flatten(0, 1)
    torch.testing.assert_close(whole.effective, flat.sum(0) ** 2 / flat.square().sum(0), rtol=1e-8, atol=0)


def test_an_absent_component_counts_for_nothing():
    log_weights = torch.randn(2, 9, 3, generator=source(3), dtype=torch.float64)
    log_mixture = torch.tensor([[0.0] * 3, [-math.inf] * 3], dtype=torch.float64)
    masked = log_marginal(fixed(log_weights, log_mixture), {"a": None}, k=9)
    alone = log_marginal(fixed(log_weights[:1]), {"a": None}, k=9)
    torch.testing.assert_close(masked, alone, rtol=1e-12, atol=1e-12)


def test_one_draw_cannot_know_its_error():
    result = log_marginal(fixed(torch.zeros(1, 1, 2).double()), {"a": None}, k=1)
    assert torch.isinf(result.error).all()


def test_bad_arguments_are_named():
    lab = laboratory()
    with pytest.raises(ValueError, match="k is 0"):
        log_marginal(jmvae(lab), rows(lab), k=0)
    with pytest.raises(ValueError, match="disjoint"):
        log_conditional(jmvae(lab), rows(lab), ["a", "b"], ["b"], k=1)
    with pytest.raises(ValueError, match="names 'z'"):
        log_marginal(jmvae(lab), rows(lab), ["z"], k=1)


class LabSplit:
    """The laboratory's rows as a paired split, each row shown twice; what is not observed is NaN."""

    def __init__(self, lab, n, observed=None):
        self.rows = {name: x.repeat(2, 1) for name, x in rows(lab, n).items()}
        self.n, self.observed = n, observed
        if observed is not None:
            self.rows = hide(self.rows, observed)

    def mask(self, chosen):
        return None if self.observed is None else {name: x[chosen] for name, x in self.observed.items()}

    def __len__(self):
        return 2 * self.n

    def batch(self, chosen, device=None):
        return {name: x[chosen] for name, x in self.rows.items()}

    def original(self, name, chosen):
        return chosen % self.n


def test_likelihoods_of_a_split_come_with_errors_and_clusters():
    lab = laboratory(("a", "b", "c"))
    split = LabSplit(lab, 7)
    report = evaluate_likelihoods(mvae(lab), split, k=4, generator=source(), batch_size=5)
    batch = split.batch(torch.arange(7))
    assert report["joint"]["value"] == pytest.approx(float(lab.log_marginal(batch).mean()), abs=1e-3)
    assert report["marginal"]["c"]["value"] == pytest.approx(
        float(lab.log_marginal(batch, ["c"]).mean()), abs=1e-3
    )
    exact = lab.log_marginal(batch)
    assert report["joint"]["se"] == pytest.approx(
        float(exact.std()) / math.sqrt(7), rel=1e-3
    )  # copies do not help
    assert (report["joint"]["n"], report["joint"]["clusters"]) == (14, 7)
    assert set(report["conditional"]["a"]) == {"b", "c"}
    json.dumps(report)


def test_conditionals_of_a_split_are_given_then_target():
    lab = laboratory()
    report = evaluate_likelihoods(jmvae(lab), LabSplit(lab, 7), k=4, generator=source())
    batch = LabSplit(lab, 7).batch(torch.arange(7))
    for given, target in (("a", "b"), ("b", "a")):
        exact = float(lab.log_conditional(batch, [target], [given]).mean())
        assert report["conditional"][given][target]["value"] == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")])
def test_each_likelihood_of_a_split_is_over_the_rows_that_observe_what_it_needs(names):
    lab, n = laboratory(names), 14
    mask = {name: seen for name, seen in seen_of(2 * n).items() if name in names}
    split = LabSplit(lab, n, mask)
    batch = {name: x.repeat(2, 1) for name, x in rows(lab, n).items()}
    report = evaluate_likelihoods(mvae(lab), split, k=2, generator=source(), batch_size=5)

    def check(entry, exact, seen):
        assert entry["n"] == int(seen.sum()) > 0
        assert entry["value"] == pytest.approx(float(exact[seen].mean()), abs=1e-3)
        assert entry["clusters"] == len(set((torch.arange(2 * n)[seen] % n).tolist()))

    something = torch.stack(list(mask.values())).any(0)
    assert bool(something.all()) == (
        len(names) == 3
    )  # of two modalities some rows observe none, and are left out
    own = {name: x[something] for name, x in batch.items()}
    exact = torch.zeros(2 * n, dtype=torch.float64)
    exact[something] = exact_of_what_is_seen(lab, own, {name: x[something] for name, x in mask.items()})
    check(report["joint"], exact, something)
    for name in names:
        check(report["marginal"][name], lab.log_marginal(batch, [name]), mask[name])
    for given, target in itertools.permutations(names, 2):
        exact = lab.log_conditional(batch, [target], [given])
        check(report["conditional"][given][target], exact, mask[given] & mask[target])
    json.dumps(report)


def test_where_no_row_observes_both_there_is_no_conditional():
    lab = laboratory()
    never = torch.zeros(8, dtype=torch.bool)
    split = LabSplit(lab, 4, {"a": never, "b": ~never})
    report = evaluate_likelihoods(mvae(lab), split, k=2, generator=source())
    assert report["conditional"] == {"a": {}, "b": {}} and list(report["marginal"]) == ["b"]
    assert report["joint"]["value"] == pytest.approx(report["marginal"]["b"]["value"], abs=1e-3)


def test_three_modalities_have_the_right_joint_likelihood_within_the_stated_error():
    """A mixture of wrong experts: for three modalities, too, the estimate strays as far as it says."""
    lab = laboratory(("a", "b", "c"))
    split = LabSplit(lab, 5)
    report = evaluate_likelihoods(mmvae(lab, 0.1, 1.3), split, k=2000, generator=source(), chunk=1000)
    exact = lab.log_marginal(split.rows)
    joint = report["joint"]
    assert joint["monte_carlo_error"] < 0.05
    assert abs(joint["value"] - float(exact.mean())) < 4 * joint["monte_carlo_error"]  # once in 16,000
    assert joint["se"] == pytest.approx(float(exact[:5].std()) / math.sqrt(5), rel=0.1)
    assert sum(map(len, report["conditional"].values())) == 6
