"""The laboratory as modalities of the library: linear networks with the exact parameters, or off by a stated amount.

With them every model class can be instantiated where the truth is known. A wrong posterior is made by moving every
location by `shift` and multiplying every scale by `widen`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmlib.checks import one_of
from mmlib.distributions import MINIMUM_SCALE, SCALES
from mmlib.lab.linear_gaussian import LinearGaussian, View
from mmlib.modality import Modality, NormalLikelihood

EXPERTS = ("posterior", "likelihood")


class LinearEncoder(nn.Module):
    """x [B, P] to (loc [B, D], raw scale [B, D]): the location is linear in x, the scale the same for every row.

    With ``names`` it takes a whole batch, whose modalities it concatenates in this order.
    """

    def __init__(self, weight: Tensor, bias: Tensor, raw_scale: Tensor, names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = nn.Parameter(bias.clone())
        self.raw_scale = nn.Parameter(raw_scale.clone())
        self.names = names

    def forward(self, x: Tensor | dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Location and raw scale, [B, D] each."""
        if self.names:
            x = torch.cat([x[name] for name in self.names], dim=-1)
        loc = x @ self.weight.T + self.bias
        return loc, self.raw_scale.expand_as(loc)


def modalities(
    lab: LinearGaussian,
    scale: str = "softplus",
    experts: str = "posterior",
    shift: float = 0.0,
    widen: float = 1.0,
) -> list[Modality]:
    """One `Modality` for each view of the laboratory, float64; exact if W'W is diagonal and nothing is off.

    Codes are [style, shared code]. ``scale`` is the rule by which the library's model turns raw scales into scales (see
    `scale_from`), ``experts`` what an encoder says of the shared code. "posterior": p(z | x_m), which is what a mixture
    of experts or a model with unimodal posteriors wants. "likelihood": p(x_m | z) as a normal density in z, whose
    product with the prior is the posterior: what a product of experts wants. Of a style it always says the posterior.

    Raises:
        ValueError: if `experts` is unknown, or if "likelihood" is asked of a view that does not determine z.
    """
    one_of("experts", experts, EXPERTS)
    made = []
    for name, view in lab.views.items():
        view = View(view.weight[:, lab.columns(name)], view.bias, view.noise)
        prior = torch.ones(view.weight.shape[1], dtype=view.weight.dtype)
        if experts == "likelihood":
            prior[-lab.shared_dim :] = 0
        precision = prior.diag() + view.weight.T @ view.weight / view.noise**2
        if torch.linalg.matrix_rank(precision) < len(precision):
            size = len(view.bias)
            raise ValueError(f"modality {name!r} has {size} values and cannot determine z as an expert")
        encoder = _encoder(precision, [view], scale, shift, widen)
        decoder = nn.utils.skip_init(nn.Linear, *view.weight.T.shape, dtype=view.weight.dtype)
        decoder.load_state_dict({"weight": view.weight, "bias": view.bias})
        made.append(Modality(name, (len(view.bias),), encoder, decoder, NormalLikelihood(view.noise)))
    return made


def joint_encoder(
    lab: LinearGaussian, scale: str = "softplus", shift: float = 0.0, widen: float = 1.0
) -> LinearEncoder:
    """The encoder of p(z | all modalities), exact if every W'W is diagonal; `shift` and `widen` as above."""
    return _encoder(lab.precision(lab.names), list(lab.views.values()), scale, shift, widen, lab.names)


def _encoder(
    precision: Tensor, views: list[View], scale: str, shift: float, widen: float, names: tuple[str, ...] = ()
) -> LinearEncoder:
    """The encoder whose location is precision^-1 times the evidence of some views."""
    stacked = torch.cat([view.weight / view.noise**2 for view in views])
    encode = torch.linalg.solve(precision, stacked.T)
    bias = torch.cat([view.bias for view in views])
    raw = raw_from(widen * precision.diagonal().rsqrt(), scale)
    return LinearEncoder(encode, shift - encode @ bias, raw, names)


def raw_from(scale: Tensor, kind: str) -> Tensor:
    """The raw network output that `scale_from` turns into `scale`.

    Raises:
        ValueError: if no raw output gives these scales (a softmax budget must add up to D), or the rule is unknown.
    """
    if one_of("scale", kind, SCALES) == "softplus":
        return torch.log(torch.expm1(scale - MINIMUM_SCALE))
    if kind == "log_variance":
        return 2 * scale.log()
    budget = (scale - MINIMUM_SCALE).sum(-1)
    if not torch.allclose(budget, torch.full_like(budget, scale.shape[-1])):
        raise ValueError(f"scale adds up to {budget.tolist()}; a softmax budget adds up to {scale.shape[-1]}")
    return (scale - MINIMUM_SCALE).log()
