"""How much of the label can be read off the code by a linear function: latent accuracy.

The probe is a multinomial logistic regression (scikit-learn, L-BFGS to convergence, L2 with C = 1 on standardised
codes): convex, so that nothing depends on a learning rate or a number of epochs. It is fitted on training encodings
and judged on the split being evaluated.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmlib.checks import whole
from mmlib.data.core import check_split
from mmlib.metrics.estimates import estimate
from mmlib.metrics.split import batches_of, showing, whole_rows


@dataclass(frozen=True)
class Probe:
    """A linear classifier of codes: logits = z weight' + bias, for codes as they come from the encoder."""

    weight: Tensor  # [C, D]
    bias: Tensor  # [C]
    classes: Tensor  # int64 [C], the label that each logit stands for

    def logits(self, z: Tensor) -> Tensor:
        """Logits of all labels, float64 [P, C], of codes [P, D]."""
        return z.double() @ self.weight.T + self.bias

    def predict(self, z: Tensor) -> Tensor:
        """Most likely label of codes [P, D]: int64 [P]."""
        return self.classes[self.logits(z).argmax(-1)]


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
    encode: Callable[[Collection[str], list[dict[str, Tensor]]], dict[Hashable, Tensor]],
    views: Mapping[Hashable, Collection[str]],
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
) -> dict[Hashable, dict[Hashable, dict]]:
    """Latent accuracy of the codes of several views. Each probe is fitted on what it is tested on: samples on samples.

    A view is tested on the rows that observe all that it is given. Its probe is fitted on rows of ``train`` that
    observe everything, so that all views have the same; where there are none, on those that observe what it is given.

    Args:
        model: has ``modalities``.
        split: to be judged on.
        train: to fit on.
        encode: takes what a view is given, and all batches of it, to kind of code -> [P, D].
        views: view -> names of the modalities that it is given.
        max_rows: as of :func:`mmlib.metrics.evaluate`; so are the next two.
        probe_rows: of ``train``.
        batch_size: rows at once.

    Returns:
        View -> kind of code -> E, as from :func:`mmlib.metrics.estimates.estimate`; without the views that no row of
        ``split`` observes, or for which ``train`` shows fewer than two classes.
    """
    probe_rows = whole("probe_rows", probe_rows)
    check_split("train", train, ("batch", "labels"))
    among = whole_rows(train, list(model.modalities))
    among = among if len(among) else None
    fitted = _codes(encode, views, train, batches_of(model, train, batch_size, probe_rows, "train", among))
    tested = _codes(encode, views, split, batches_of(model, split, batch_size, max_rows))
    table: dict = {}
    for view, given in views.items():
        if view not in tested or view not in fitted or len(fitted[view][0].unique()) < 2:
            continue
        (labels, codes, _), (truth, fresh, rows) = fitted[view], tested[view]
        sources = [split.original(name, rows).cpu() for name in given]
        table[view] = {}
        for kind, z in fresh.items():
            probe = fit_probe(codes[kind].cpu(), labels)
            table[view][kind] = estimate(latent_accuracy(probe, z.cpu(), truth), *sources)
    return table


def _codes(encode: Callable, views: Mapping, split, batches: Iterable) -> dict[Hashable, tuple]:
    """View -> labels, codes and row numbers of the rows that observe what it is given, where there are such rows."""
    found, batches = {}, list(batches)
    for view, given in views.items():
        if shown := showing(split, batches, given):
            rows, parts = zip(*shown, strict=True)
            rows = torch.cat(rows)
            found[view] = split.labels[rows].cpu(), encode(given, list(parts)), rows
    return found
