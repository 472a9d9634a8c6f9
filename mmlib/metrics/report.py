"""All metrics of one model on one split, as plain numbers, and as a table that fits a page."""

from collections.abc import Mapping
from functools import partial

import torch

from mmlib.checks import whole
from mmlib.data.core import check_split
from mmlib.metrics.classifiers import Classifiers, check_judges
from mmlib.metrics.coherence import (
    classes_generated,
    cross_coherence,
    joint_coherence,
    prior_predictions,
    synergy_coherence,
)
from mmlib.metrics.estimates import estimate
from mmlib.metrics.probes import latent_accuracies
from mmlib.metrics.split import batches_of, whole_rows

JOINT = "all"  # the name under which the posterior that sees everything is reported


class Report(dict):
    """A nested dict of plain numbers (JSON-able) that prints as a table.

    Keys: ``cross_coherence[given][generated]``, ``joint_coherence``, ``synergy_coherence[generated]``,
    ``classes_generated[name or "jointly"]``, ``latent_accuracy[name or "all"]["sample" or "mean"]`` and
    ``classifier_accuracy[name]["validation" or "test"]``. Every estimate is
    ``{"value", "se", "n", "clusters"}``.
    """

    def value(self, *path: str) -> float:
        """The value at a path, for example ``value("cross_coherence", "hand", "street")``.

        Raises:
            ValueError: if there is nothing at that path, naming what there is.
        """
        place = self
        for step in path:
            if not isinstance(place, Mapping) or step not in place:
                known = list(place) if isinstance(place, Mapping) else "a number"
                raise ValueError(f"path {path} has no {step!r}; expected one of {known}")
            place = place[step]
        if not isinstance(place, Mapping) or "value" not in place:
            raise ValueError(f"path {path} is not an estimate; it holds {list(place)}")
        return place["value"]

    def __str__(self) -> str:
        return format_report(self)


def evaluate(
    model,
    split,
    classifiers: Classifiers,
    generator: torch.Generator | None = None,
    train=None,
    samples: int = 5000,
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
) -> Report:
    """Coherences, latent accuracies and classes generated of a model on one split.

    Args:
        model: any model of the library; in evaluation mode if it has batch norm or dropout.
        split: the split to measure on: validation for choices, test once for a recorded run.
        classifiers: judges, on the model's device.
        generator: source of all draws, on the model's device.
        train: the training split, on whose complete rows the linear probes are fitted; None leaves out latent
            accuracy.
        samples: draws from the prior.
        max_rows: use only the first rows of ``split``; default: all.
        probe_rows: rows of ``train`` on which the probes are fitted.
        batch_size: rows at once.

    Raises:
        ValueError: before anything is measured, if an argument is wrong, a network with batch norm or dropout is in
            training mode, or rows miss modalities.
    """
    check_split("split", split, ("batch", "labels", "original"))
    batches = batches_of(model, split, batch_size, max_rows)
    names = check_judges(classifiers, model.modalities)
    samples, probe_rows = whole("samples", samples), whole("probe_rows", probe_rows)
    if train is not None:
        check_split("train", train, ("batch", "labels"))
        batches_of(model, whole_rows(train), batch_size, probe_rows, "train")
    rows, cross, synergy = [], {name: [] for name in names}, []
    for chosen, batch in batches:
        rows.append(chosen)
        labels = split.labels[chosen].to(next(iter(batch.values())).device)
        for name in names:
            cross[name].append(cross_coherence(model, batch, labels, name, classifiers, generator).cpu())
        if len(names) > 1:
            synergy.append(synergy_coherence(model, batch, labels, classifiers, generator).cpu())
    rows = torch.cat(rows)
    sources = {name: split.original(name, rows).cpu() for name in names}
    report = Report(rows=len(rows), classifier_accuracy=classifiers.accuracy, cross_coherence={})
    for given in names:
        table = torch.cat(cross[given], dim=1)  # [M, P]
        report["cross_coherence"][given] = {
            name: estimate(right, sources[given]) for name, right in zip(names, table, strict=True)
        }
    predicted = prior_predictions(model, samples, classifiers, generator, batch_size).cpu()
    if len(names) > 1:
        both = zip(names, torch.cat(synergy, dim=1), strict=True)
        report["synergy_coherence"] = {name: estimate(right, *sources.values()) for name, right in both}
        report["joint_coherence"] = estimate(joint_coherence(predicted))
        report["classes_generated"] = classes_generated(predicted, names)
    if train is not None:
        views = {name: [name] for name in names} | ({JOINT: names} if len(names) > 1 else {})
        report["latent_accuracy"] = latent_accuracies(
            model,
            split,
            train,
            partial(encoded, model, views, generator),
            views,
            max_rows,
            probe_rows,
            batch_size,
        )
    return report


@torch.no_grad()
def encoded(
    model, views: Mapping[str, list[str]], generator: torch.Generator | None, batches
) -> dict[str, dict]:
    """Codes of several batches from the posterior of every view, which is given the modalities that it names.

    Returns:
        View -> ``{"sample": [P, D], "mean": [P, D]}``: one draw a row, and the posterior's mean.
    """
    found = {}
    for view, given in views.items():
        posteriors = [model.posterior({n: batch[n] for n in given}, given=given) for batch in batches]
        found[view] = {
            "sample": torch.cat([posterior.sample(generator) for posterior in posteriors]),
            "mean": torch.cat([posterior.mean for posterior in posteriors]),
        }
    return found


def format_report(report: Mapping) -> str:
    """The report as text: per cent, standard errors behind +-, the matrix as [given] rows and [generated] columns."""
    names = list(report["cross_coherence"])
    lines = [f"{'per cent':<24}" + "".join(f"{name:>14}" for name in names)]

    def row(title: str, estimates) -> None:
        lines.append(f"{title:<24}" + "".join(f"{_percent(entry):>14}" for entry in estimates))

    row("classifier, real images", [report["classifier_accuracy"][name]["test"] for name in names])
    for given in names:
        row(f"given {given}", [report["cross_coherence"][given][name] for name in names])
    if "synergy_coherence" in report:
        row("given all (synergy)", [report["synergy_coherence"][name] for name in names])
    for kind in ("sample", "mean"):
        if "latent_accuracy" in report:
            row(f"latent, {kind}", [report["latent_accuracy"][name][kind] for name in names])
    if "joint_coherence" in report:
        classes = report["classes_generated"]
        counts = ", ".join(f"{name} {entry['count']}" for name, entry in classes.items())
        least = f"(share at least {classes['jointly']['threshold']:.0%})"
        lines.append(f"{'from the prior (joint)':<24}{_percent(report['joint_coherence']):>14}")
        lines.append(f"{'classes generated':<24}  {counts} {least}")
    return "\n".join(lines)


def _percent(entry: Mapping) -> str:
    error = "" if entry["se"] is None else f" +-{100 * entry['se']:4.1f}"
    return f"{100 * entry['value']:5.1f}{error}"
