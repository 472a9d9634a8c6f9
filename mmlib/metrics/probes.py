"""How much of the label can be read off the code by a linear function: latent accuracy.

The probe is a multinomial logistic regression (scikit-learn, L-BFGS to convergence, L2 with C = 1 on standardised
codes): convex, so that nothing depends on a learning rate or a number of epochs. It is fitted on training encodings
and judged on the split being evaluated.
"""

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import whole
from mmlib.data.core import check_split
from mmlib.metrics.estimates import estimate
from mmlib.metrics.split import batches_of, whole_rows


@dataclass(frozen=True)
class Probe:
    """A linear classifier of codes: logits = z weight' + bias, for codes as they come from the encoder."""

    weight: Tensor  # [C, D]
    bias: Tensor  # [C]
    classes: Tensor  # int64 [C], the label that each logit stands for

    def predict(self, z: Tensor) -> Tensor:
        """Most likely label of codes [P, D]: int64 [P]."""
        return self.classes[(z.double() @ self.weight.T + self.bias).argmax(-1)]


def fit_probe(z: Tensor, labels: Tensor) -> Probe:
    """Fit a linear probe to codes ``z`` [P, D] and their labels [P].

    Raises:
        ValueError: if the shapes do not match or only one class occurs.
    """
    from sklearn.linear_model import LogisticRegression

    if z.ndim != 2 or labels.shape != z.shape[:1]:
        found = f"{tuple(z.shape)}, {tuple(labels.shape)}"
        raise ValueError(f"z and labels have shapes {found}; expected [P, D] and [P]")
    if len(torch.unique(labels)) < 2:
        raise ValueError("labels hold a single class; expected at least two")
    z = z.detach().double()
    centre, spread = z.mean(0), z.std(0).clamp_min(1e-12)
    regression = LogisticRegression(max_iter=1000)
    regression.fit(((z - centre) / spread).cpu().numpy(), labels.cpu().numpy())
    weight = torch.as_tensor(regression.coef_).to(z) / spread
    bias = torch.as_tensor(regression.intercept_).to(z)
    if len(weight) == 1:  # two classes: scikit-learn stores one logit, of the second class
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    bias = bias - weight @ centre
    return Probe(weight, bias, torch.as_tensor(regression.classes_).to(labels))


def latent_accuracy(probe: Probe, z: Tensor, labels: Tensor) -> Tensor:
    r"""Whether the probe reads the right label off each code.

    Equation: ``eq-latent-accuracy``. Source: Shi et al. 2019, Section 4.1; Shi et al. 2021, Section 4.2 (a).
        A = (1/P) sum_p 1{ argmax_c (W z_p + w)_c = y_p },  W and w fitted on training encodings

    Args:
        probe: fitted by :func:`fit_probe` on other items.
        z: [P, D], posterior samples or means.
        labels: int64 [P].

    Returns:
        [P], 1 where right, else 0.
    """
    return (probe.predict(z) == labels).double()


@torch.no_grad()
def latent_accuracies(
    model,
    split,
    train,
    encode: Callable[[list[dict[str, Tensor]]], dict[Hashable, dict[str, Tensor]]],
    seen: Mapping[Hashable, Collection[str]],
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
) -> dict[Hashable, dict[str, dict]]:
    """Latent accuracy of several kinds of code. Each probe is fitted on what it is tested on: samples on samples.

    ``encode`` takes all batches of a split to kind of code -> ``{"sample": [P, D], "mean": [P, D]}``; ``seen`` says
    which modalities each kind comes from. The other arguments are those of :func:`mmlib.metrics.evaluate`.

    Returns:
        Kind of code -> ``{"sample": E, "mean": E}``, E as from :func:`mmlib.metrics.estimates.estimate`.
    """
    probe_rows = whole("probe_rows", probe_rows)
    check_split("train", train, ("batch", "labels"))
    parts = []
    for source, limit in ((whole_rows(train), probe_rows), (split, max_rows)):
        rows, batches = zip(*batches_of(model, source, batch_size, limit), strict=True)
        rows = torch.cat(rows)
        parts.append((encode(batches), source.labels[rows].cpu()))
    (fitted, fitted_labels), (codes, labels) = parts

    def accuracy(kind: Hashable, draw: str) -> dict:
        probe = fit_probe(fitted[kind][draw].cpu(), fitted_labels)
        sources = [split.original(name, rows).cpu() for name in seen[kind]]
        return estimate(latent_accuracy(probe, codes[kind][draw].cpu(), labels), *sources)

    return {kind: {draw: accuracy(kind, draw) for draw in codes[kind]} for kind in seen}
