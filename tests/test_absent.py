"""What a row lacks matters to no function, whatever it holds: not to its value and not to its gradient."""

import importlib
import inspect
import math
import pkgutil

import pytest
import torch

import mmlib
from mmlib import bounds, distributions, divergences, metrics
from mmlib.bounds import LogWeights
from mmlib.distributions import Diagonal, Mixture
from mmlib.lab import LinearGaussian
from mmlib.lab import modalities as lab_modalities
from mmlib.models import base, contrastive, mmvae, mopoe, mvae

R, K, B, D = 2, 4, 3, 5  # all different: an axis is known by its size
OBSERVED = torch.tensor([[True, True, False], [True, False, True]])  # [R, B]
LOG_MIXTURE = torch.log(OBSERVED / OBSERVED.sum(0)).double()
POISON = [
    (math.nan, 1.0),
    (math.inf, 1.0),
    (-math.inf, 1.0),
    (0.0, math.nan),
    (0.0, 0.0),
    (0.0, math.inf),
    (1e300, 1e-300),
]


class Leaves(list):
    """Random numbers that want a gradient, with poison in every component that a row lacks."""

    def __init__(self, loc, scale):
        super().__init__()
        self.poison, self.generator = {False: loc, True: scale}, torch.Generator().manual_seed(0)

    def make(self, *shape, positive=False):
        x = torch.randn(*shape, generator=self.generator, dtype=torch.float64)
        x = x.exp() if positive else x
        absent = torch.zeros(shape, dtype=torch.bool)
        for axis in (i for i, size in enumerate(shape) if size == R):
            absent |= (~OBSERVED).reshape(
                [R if i == axis else B if size == B else 1 for i, size in enumerate(shape)]
            )
        self.append(x.masked_fill(absent, self.poison[positive]).requires_grad_())
        return self[-1]

    def experts(self):
        return Diagonal(self.make(R, B, D), self.make(R, B, D, positive=True))

    def mixture(self):
        return Mixture(self.experts(), LOG_MIXTURE)


SUBSETS = torch.tensor([[True, False], [False, True], [True, True]])


def likelihood(estimator, leaves, **names):
    """Of rows that lack a or b; all of them observe c."""
    lab = LinearGaussian.make(dict.fromkeys("abc", D))
    x = leaves.make(R, B, D).detach()
    batch, mask = dict(zip("ab", x, strict=True)), dict(zip("ab", OBSERVED, strict=True))
    batch["c"] = torch.ones(B, D).double()
    model = mvae.MVAE(lab_modalities(lab, experts="likelihood", widen=1.3), 1).double()
    return torch.stack(estimator(model, batch, k=3, mask=mask, generator=generator(), **names))


PRIOR = Diagonal(torch.zeros(D).double(), torch.ones(D).double())
CASES = {
    "bounds.elbo": lambda x: bounds.elbo(LogWeights(x.make(R, K, B), LOG_MIXTURE)),
    "bounds.iwae": lambda x: bounds.iwae(x.make(R, K, B), LOG_MIXTURE),
    "bounds.iwae_looser": lambda x: bounds.iwae_looser(x.make(R, K, B), LOG_MIXTURE),
    "bounds.cubo": lambda x: bounds.cubo(x.make(R, K, B), LOG_MIXTURE),
    "bounds.dreg": lambda x: bounds.dreg(x.make(R, K, B), x.make(R, K, B, D), LOG_MIXTURE),
    "bounds.normalised_weights": lambda x: torch.stack(
        [bounds.normalised_weights(x.make(R, K, B), LOG_MIXTURE, looser) for looser in (True, False)]
    ),
    "bounds.effective_sample_size": lambda x: bounds.effective_sample_size(x.make(R, K, B), LOG_MIXTURE),
    "distributions.mixture_of_experts": lambda x: (
        distributions.mixture_of_experts(x.experts(), OBSERVED).mean
    ),
    "distributions.product_of_experts": lambda x: parts(
        distributions.product_of_experts(x.experts(), OBSERVED, PRIOR)
    ),
    "distributions.product_of_subsets": lambda x: parts(
        distributions.product_of_subsets(x.experts(), OBSERVED, SUBSETS)
    ),
    "distributions.geometric_mean": lambda x: parts(
        distributions.geometric_mean(x.experts(), OBSERVED, x.make(R, B, positive=True))
    ),
    "divergences.mixture_with_prior": lambda x: divergences.mixture_with_prior(
        x.experts(), OBSERVED, PRIOR
    ).log_prob(torch.ones(B, D).double()),
    "metrics.likelihood.importance_log_likelihood": lambda x: metrics.importance_log_likelihood(
        x.make(R, B), LOG_MIXTURE, 5
    ),
    "metrics.likelihood.log_marginal": lambda x: likelihood(metrics.log_marginal, x),
    "metrics.likelihood.log_conditional": lambda x: likelihood(
        metrics.log_conditional, x, target=["a", "b"], given=["c"]
    ),
    "models.base.average_over_draws": lambda x: base.average_over_draws(x.make(R, K, B), LOG_MIXTURE),
    "models.mmvae.expert_ratios": lambda x: mmvae.expert_ratios(x.experts(), x.make(R, B, D), OBSERVED),
    "models.mmvae.elbo_own_decodes": lambda x: mmvae.elbo_own_decodes(
        x.make(R, B), x.make(R, R, B, positive=True), x.make(R, B), LOG_MIXTURE
    ),
    "models.mvae.mvae_objective": lambda x: mvae.mvae_objective(x.make(R, B), OBSERVED),
    "models.mopoe.mopoe_objective": lambda x: mopoe.mopoe_objective(
        [torch.ones(B).double()], x.make(R, B), LOG_MIXTURE
    ),
    "models.contrastive.anchored_unrelated": lambda x: contrastive.anchored_unrelated(
        x.make(R, K, B), OBSERVED[:, None].expand(R, K, B), OBSERVED
    ),
    "a mixture's density": lambda x: x.mixture().log_prob(torch.ones(B, D).double()),
    "a mixture's mean": lambda x: x.mixture().mean,
    "a mixture's strata": lambda x: (
        x.mixture().rsample_stratified(K, generator()) * OBSERVED[:, None, :, None]
    ),
    "a mixture's draw": lambda x: x.mixture().sample(generator()),
    "a mixture's choice": lambda x: parts(x.mixture().choose(generator())),
    "a mixture's geometric divergence": lambda x: divergences.geometric_jensen_shannon(x.mixture()),
    "a mixture's divergence": lambda x: divergences.jensen_shannon(x.mixture(), x.make(R, K, B, D)),
    "a mixture's upper bound": lambda x: divergences.jensen_shannon_upper(x.mixture()),
    "a mixture's lower bound": lambda x: divergences.jensen_shannon_lower(x.mixture()),
}
# checks of a batch (tests/test_modality.py, tests/test_every_model.py); counting and data, which compute nothing
ELSEWHERE = ("modality.", "train.", "models.mvae.subset_counts", "models.tuples.", "data.")


def generator():
    return torch.Generator().manual_seed(1)


def parts(q):
    return torch.stack([q.loc, q.scale])


@pytest.mark.parametrize("poison", POISON, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_poison_in_what_a_row_lacks_is_seen_nowhere(name, poison):
    found = []
    for holds in ((0.5, 1.5), poison):
        leaves = Leaves(*holds)
        value = CASES[name](leaves)
        weights = torch.linspace(0.5, 1.5, value.numel(), dtype=value.dtype).view_as(value)
        gradients = []
        if value.requires_grad:
            gradients = torch.autograd.grad((value * weights).sum(), leaves, allow_unused=True)
        found.append([value.detach(), *(g for g in gradients if g is not None)])
    for clean, other in zip(*found, strict=True):
        assert torch.isfinite(other).all() and torch.equal(clean, other)


def test_every_function_that_is_told_what_a_row_lacks_has_a_case():
    told = {"observed", "log_mixture", "mask"}
    for info in pkgutil.walk_packages(mmlib.__path__, "mmlib."):
        if info.name.startswith(("mmlib.runs", "mmlib.book", "mmlib.__main__")):
            continue
        module = importlib.import_module(info.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            own = function.__module__ == module.__name__ and not name.startswith("_")
            if own and told & inspect.signature(function).parameters.keys():
                place = f"{info.name.removeprefix('mmlib.')}.{name}"
                assert place in CASES or place.startswith(ELSEWHERE), (
                    f"give {place} a case in tests/test_absent.py"
                )
