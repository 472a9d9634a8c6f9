"""What the JMVAE chapter adds to the library: its theorems for any encoder, and its figures."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from mmlib.book.figures import jmvae as figures
from mmlib.distributions import Diagonal, kl_divergence
from mmlib.lab import LinearGaussian, joint_encoder, modalities
from mmlib.models import JMVAE
from mmlib.models.jmvae import jmvae_penalty


def test_expected_penalty_is_smallest_at_the_exact_posterior_and_leaves_the_conditional_information():
    lab = LinearGaussian.make({"a": 2, "b": 3}, 2, {"a": 1.0, "b": 0.4}, seed=5)
    generator = torch.Generator().manual_seed(0)
    x_a = lab.sample(1, generator)[1]["a"]
    exact = lab.diagonal_posterior({"a": x_a})
    n = 40_000  # partners of x_a
    z = exact.rsample(n, generator)[:, 0]
    view = lab.views["b"]
    x_b = z @ view.weight.T + view.bias + view.noise * torch.randn(n, 3, generator=generator).double()
    joint = lab.diagonal_posterior({"a": x_a.expand(n, -1), "b": x_b})

    def penalty(loc, scale):
        return jmvae_penalty(joint, Diagonal(loc.expand(1, n, 2), scale.expand(1, n, 2))).mean()

    loc, scale = (value[0].clone().requires_grad_() for value in (exact.loc, exact.scale))
    value = penalty(loc, scale)
    slopes = torch.cat(torch.autograd.grad(value, (loc, scale)))
    # mean of n terms with standard deviation of order one, times slopes of order five
    assert slopes.abs().max() < 5 * 5 / math.sqrt(n)
    information = (exact.scale[0] / joint.scale[0]).log().sum()
    assert abs((value - information).item()) < 0.03
    for change in (0.9, 1.1):
        assert penalty(exact.loc[0], exact.scale[0] * change) > value + 0.005


@pytest.mark.parametrize("seed", range(4))
def test_objective_at_alpha_one_and_beta_zero_bounds_translation_for_any_encoders(seed):
    lab = LinearGaussian.make({"a": 3, "b": 4}, 2, noise=0.7, seed=seed)
    rows = lab.sample(6, torch.Generator().manual_seed(seed))[1]
    torch.manual_seed(seed)
    model = JMVAE(modalities(lab), 2, joint_encoder(lab), alpha=1.0, beta=0.0).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder" in name:
                parameter += 0.3 * torch.randn_like(parameter)
        q_0 = model.encode_joint(rows)
        experts = {name: model.encode(name, rows[name]) for name in rows}
        bound = lab.elbo(q_0, rows) + kl_divergence(q_0, model.prior)
        translation = 0.0
        for target, given in (("a", "b"), ("b", "a")):
            view, q = lab.views[target], experts[given]
            bound = bound - kl_divergence(q_0, q)
            covariance = (view.weight * q.scale[:, None] ** 2) @ view.weight.T
            covariance = covariance + view.noise**2 * torch.eye(len(view.bias)).double()
            density = MultivariateNormal(q.loc @ view.weight.T + view.bias, covariance)
            translation = translation + density.log_prob(rows[target])
    assert (translation >= bound).all()


def test_opinions_draw_every_partner_and_every_answer():
    joint = Diagonal(torch.linspace(-1, 1, 7)[:, None], torch.full((7, 1), 0.3))
    answer = Diagonal(torch.zeros(1), torch.ones(1))
    answers = {"forward": (answer, "average"), "exact": (answer, "exact")}
    ax = figures.opinions(joint, answers, (-3, 3))
    assert len(ax.lines) == 9
    assert [text.get_text() for text in ax.get_legend().get_texts()][-2:] == ["average", "exact"]
    peak = ax.lines[7].get_ydata().max()
    assert math.isclose(peak, 1 / math.sqrt(2 * math.pi), rel_tol=1e-3)


def test_opinions_refuse_an_unknown_kind_of_answer():
    q = Diagonal(torch.zeros(1, 1), torch.ones(1, 1))
    with pytest.raises(ValueError, match="answers has median; expected some of"):
        figures.opinions(q, {"median": (q, "")}, (-1, 1))


def test_widths_and_price_draw_what_they_are_given():
    ax = figures.posterior_widths({"joint": torch.tensor([[0.9, 0.2]]), "hand": torch.ones(1, 2)})
    assert list(ax.lines[0].get_ydata()) == pytest.approx([0.2, 0.9])
    left, right = figures.laboratory_price(
        [0.1, 1.0], torch.ones(2, 3), ["s", "a", "b"], {"joint": [0.0, 1.0]}
    )
    assert (len(left.lines), len(right.lines)) == (3, 1)
