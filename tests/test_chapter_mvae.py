"""What the chapter on MVAE shows: the joint ELBO's blind spot, what weights do to experts, its budget, its figures."""

import pytest
import torch

import mmlib.book.figures.mvae as figures
from mmlib.distributions import Diagonal, kl_divergence, product_of_experts
from mmlib.lab import LinearGaussian
from mmlib.models.mvae import subset_elbo
from mmlib.runs import recipes, results


@pytest.mark.parametrize(("precision", "offset"), [(0.3, 0.0), (-1.0, 0.0), (0.0, 1.5), (0.2, -0.7)])
def test_joint_elbo_does_not_see_what_moves_between_experts_and_unimodal_elbos_do(precision, offset):
    lab = LinearGaussian.make({"a": 3, "b": 4}, latent_dim=1, noise={"a": 0.9, "b": 1.4}, seed=1)
    _, x = lab.sample(50, torch.Generator().manual_seed(0))
    tau = torch.stack([(v.weight.T @ v.weight / v.noise**2).squeeze() for v in lab.views.values()])
    tau_mu = torch.stack([(x[n] - v.bias) @ v.weight / v.noise**2 for n, v in lab.views.items()])  # [M, B, 1]
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).view(2, 1, 1)
    moved = tau.view(2, 1, 1) + sign * precision
    experts = Diagonal((tau_mu + sign * offset) / moved, moved.rsqrt().expand_as(tau_mu))
    prior = Diagonal(torch.zeros(1).double(), torch.ones(1).double())
    for given, exact in ((("a", "b"), True), (("a",), False), (("b",), False)):
        seen = torch.tensor([[n in given] for n in lab.names]).expand(2, 50)
        gap = (
            lab.log_marginal(x, given) - lab.elbo(product_of_experts(experts, seen, prior), x, given)
        ).mean()
        assert gap < 1e-12 if exact else gap > 0.005


@pytest.mark.parametrize(
    ("names", "weight", "beta", "best"),
    [(("a",), 1, 1, 1), (("a",), 3, 1, 3), (("a",), 1, 0.25, 4), (("a", "b"), 3, 1, 3)],
)
def test_a_weighted_elbo_asks_an_expert_for_lambda_over_beta_times_its_precision(names, weight, beta, best):
    lab = LinearGaussian.make({"a": 3, "b": 4}, latent_dim=1, noise={"a": 0.9, "b": 1.4}, seed=1)
    _, x = lab.sample(1000, torch.Generator().manual_seed(0))
    prior = Diagonal(torch.zeros(1).double(), torch.ones(1).double())
    tau = torch.stack([v.weight.T @ v.weight / v.noise**2 for v in lab.views.values()])  # [M, 1, 1]
    tau_mu = torch.stack([(x[n] - v.bias) @ v.weight / v.noise**2 for n, v in lab.views.items()])
    seen = torch.tensor([[name in names] for name in lab.names]).expand(2, 1000)

    def objective(factor):
        claimed = torch.tensor([factor, 1.0]).double().view(2, 1, 1)
        scale = (claimed * tau).rsqrt().expand_as(tau_mu)
        q = product_of_experts(Diagonal(tau_mu / tau, scale), seen, prior)
        kl = kl_divergence(q, prior)
        weights = {"a": weight, "b": 1}
        return subset_elbo((weights[n] * (lab.elbo(q, x, (n,)) + kl) for n in names), kl, beta).mean()

    factors = [0.5 * best, 0.9 * best, best, 1.1 * best, 2 * best]
    assert max(factors, key=objective) == best


@pytest.mark.parametrize("model", ["mvae", "jmvae", "mmvae"])
def test_recipe_and_recorded_results_agree_on_the_budget(model):
    recipe, official = recipes.get(f"svhn10k-{model}"), recipes.get(f"mnist-svhn-{model}")
    recorded = results.load(recipe.name)
    assert len(recorded) == 3
    for result in recorded:
        assert result["recipe"]["reduced"] == recipe.reduced and result["steps"] == recipe.steps
        assert f"{recipe.steps:,} steps in place of {official.steps:,}" in recipe.reduced


def test_product_panels_draw_prior_experts_and_a_product_that_is_sharpest():
    axes = figures.product_panels(
        {"one": {"hand": (0.5, 1.0), "street": (1.0, 0.5)}, "two": {"hand": (0.0, 2.0)}}
    )
    assert [len(ax.lines) for ax in axes] == [4, 3]
    assert max(axes[0].lines[-1].get_ydata()) > max(line.get_ydata().max() for line in axes[0].lines[:-1])


def test_prior_count_draws_every_rule_in_both_panels():
    z = torch.linspace(-1, 1, 5)
    rules = {"right": [0.0, 0.0], "wrong": [0.1, 0.3]}
    left, right = figures.prior_count(z, {"exact": z, "right": z, "wrong": z}, (2, 4), rules)
    assert (len(left.lines), len(right.lines)) == (3, 2)


def test_undetermined_draws_gaps_below_zero():
    (ax,) = figures.undetermined({"moved": ([0, 1], {"joint": [0, 0], "hand": [0, 2], "street": [0, 1]})})
    assert [list(line.get_ydata()) for line in ax.lines] == [[0, 0], [0, -2], [0, -1]]


def test_voices_stack_to_one_in_the_order_of_the_first():
    shares = {
        "hand": torch.tensor([0.2, 0.7]),
        "street": torch.tensor([0.5, 0.1]),
        "prior": torch.tensor([0.3, 0.2]),
    }
    (ax,) = figures.voices({"model": shares})
    heights = [bar.get_height() for bar in ax.patches]
    assert heights == pytest.approx([0.7, 0.2, 0.1, 0.5, 0.2, 0.3])
