"""How much of the label can be read off the code by a linear function: latent accuracy.

The probe is a multinomial logistic regression (scikit-learn, L-BFGS to convergence, L2 with C = 1 on standardised
codes): convex, so that nothing depends on a learning rate or a number of epochs. It is fitted on training encodings
and judged on the split being evaluated.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


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
        raise ValueError(
            f"z and labels have shapes {tuple(z.shape)}, {tuple(labels.shape)}; expected [P, D] and [P]"
        )
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
        A = (1/P) sum_p 1{ argmax_c (W z_p + b)_c = y_p },  W and b fitted on training encodings

    Args:
        probe: fitted by :func:`fit_probe` on other items.
        z: [P, D], posterior samples or means.
        labels: int64 [P].

    Returns:
        [P], 1 where right, else 0.
    """
    return (probe.predict(z) == labels).double()


@torch.no_grad()
def encode_rows(
    model, batches, given: list[str], generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Encodings of several batches from the posterior q(z | x_given).

    Returns:
        ``{"sample": [P, D], "mean": [P, D]}``: one draw a row, and the posterior's mean.
    """
    posteriors = [model.posterior({name: batch[name] for name in given}, given=given) for batch in batches]
    return {
        "sample": torch.cat([posterior.sample(generator) for posterior in posteriors]),
        "mean": torch.cat([posterior.mean for posterior in posteriors]),
    }
