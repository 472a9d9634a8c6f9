"""All metrics of one model on one split, as plain numbers, and as a table that fits a page."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from mmlib.checks import one_of, whole
from mmlib.data.core import check_split
from mmlib.metrics.attribute_judges import AttributeJudges
from mmlib.metrics.attributes import attribute_lines, evaluate_attributes
from mmlib.metrics.caption_judges import CaptionJudges
from mmlib.metrics.captions import caption_lines, evaluate_captions
from mmlib.metrics.classifiers import Classifiers, as_classifiers, judged
from mmlib.metrics.coherence import (
    classes_generated,
    cross_coherence,
    joint_coherence,
    prior_predictions,
)
from mmlib.metrics.estimates import estimate
from mmlib.metrics.probes import latent_accuracies
from mmlib.metrics.split import batches_of, observing

JOINT = "all"  # the name under which the posterior that sees everything is reported


class Report(dict):
    """A nested dict of plain numbers (JSON-able) that prints as a table.

    Keys: ``cross_coherence[given][generated]``, ``joint_coherence``, ``synergy_coherence[generated]``,
    ``classes_generated[name or "jointly"]``, ``latent_accuracy[name or "all"]["sample" or "mean"]`` and
    ``classifier_accuracy[name]["validation" or "test"]``. Every estimate is
    ``{"value", "se", "n", "clusters"}``.

    With three modalities or more, subsets that are neither one modality nor all are named by their members in the
    model's order, joined by commas: ``subset_coherence["a,b"][generated]``, ``latent_accuracy["a,b"]["sample"]``.
    A recorded run adds ``relatedness["a,b"]`` and ``mutual_information[given][generated]``.
    ``left_out[what]`` says why something is missing; without it nothing is.
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
    classifiers: Classifiers
    | CaptionJudges
    | AttributeJudges
    | Mapping[str, Callable[[Tensor], Tensor]]
    | None = None,
    generator: torch.Generator | None = None,
    train=None,
    samples: int = 5000,
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
    subsets: bool = True,
) -> Report:
    """Coherences, latent accuracies and classes generated of a model on one split.

    Rows may observe different modalities. Whatever is given to the model comes from the rows that observe all of it, be
    it one modality, several, or all; what it generates need not be observed, since the label judges. ``n`` of each
    estimate says how many rows these are.

    Args:
        model: any model of the library; in evaluation mode if it has batch norm or dropout.
        split: the split to measure on: validation for choices, test once for a recorded run. Without labels (None),
            what needs them is left out.
        classifiers: judges on the model's device, as :class:`mmlib.metrics.Classifiers` or as a mapping, name ->
            network or function from items to class logits. Only what has a judge is judged; None leaves out coherence.
            Or :class:`mmlib.metrics.CaptionJudges`: then the report is that of
            :func:`mmlib.metrics.captions.evaluate_captions`, and ``train`` is not asked for. Or
            :class:`mmlib.metrics.AttributeJudges`, and the report of
            :func:`mmlib.metrics.attributes.evaluate_attributes`.
        generator: source of all draws, on the model's device.
        train: the training split, on which the linear probes are fitted, as in
            :func:`mmlib.metrics.probes.latent_accuracies`; None leaves out latent accuracy.
        samples: draws from the prior.
        max_rows: use only the first rows of ``split``; default: all.
        probe_rows: rows of ``train`` on which the probes are fitted.
        batch_size: rows at once.
        subsets: of three modalities or more, let the model also see those subsets that are neither one nor all.

    Raises:
        ValueError: before anything is measured, if an argument is wrong, or a network with batch norm or dropout is in
            training mode.
    """
    check_split("split", split, ("batch", "labels", "original"))
    rows = len(split) if max_rows is None else min(whole("max_rows", max_rows), len(split))
    if isinstance(classifiers, CaptionJudges):
        found = evaluate_captions(model, split, classifiers, generator, samples, max_rows, batch_size)
        return Report(found, rows=rows)
    if isinstance(classifiers, AttributeJudges):
        options = train, samples, max_rows, probe_rows, batch_size
        return Report(evaluate_attributes(model, split, classifiers, generator, *options), rows=rows)
    batches = batches_of(model, split, batch_size, max_rows)
    names = list(model.modalities)
    samples, probe_rows = whole("samples", samples), whole("probe_rows", probe_rows)
    one_of("subsets", subsets, (True, False))
    if classifiers is not None:
        classifiers = as_classifiers(classifiers, names)
    if train is not None:
        check_split("train", train, ("batch", "labels"))
        batches_of(model, train, batch_size, probe_rows, "train")
    views = {name: [name] for name in names} | ({JOINT: names} if len(names) > 1 else {})
    sizes = range(2, len(names)) if subsets else ()
    between = {",".join(some): list(some) for size in sizes for some in combinations(names, size)}
    report = Report(rows=rows)
    left_out = _left_out(names, split, classifiers, train)

    def coherence(batches, views: Mapping[str, list[str]]) -> dict[str, dict]:
        table = _coherence(model, split, batches, views, classifiers, generator)
        missing = {f"coherence given {view}": "no row observes that" for view in views if view not in table}
        left_out.update(missing)
        return table

    def latent(views: Mapping[str, list[str]]) -> dict[str, dict]:
        encode = partial(encoded, model, generator)
        rows = max_rows, probe_rows, batch_size
        table = latent_accuracies(model, split, train, encode, views, *rows)
        few = "no row observes that, or those of train show fewer than two classes"
        left_out.update({f"latent_accuracy of {view}": few for view in views if view not in table})
        return table

    # What is drawn first stays the first: numbers of two modalities, and of one, do not depend on the subsets.
    by_label = classifiers is not None and split.labels is not None
    if classifiers is not None:
        report["classifier_accuracy"] = dict(getattr(classifiers, "accuracy", None) or {})
        if by_label:
            table = coherence(batches, views)
            report["cross_coherence"] = {name: table[name] for name in names if name in table}
            if JOINT in table:
                report["synergy_coherence"] = table[JOINT]
        predicted = prior_predictions(model, samples, classifiers, generator, batch_size).cpu()
        if len(predicted) > 1:
            classes = 1 + max(int(x.max()) for x in (predicted, split.labels) if x is not None)
            report["joint_coherence"] = estimate(joint_coherence(predicted))
            report["classes_generated"] = classes_generated(predicted, judged(classifiers, names), classes)
    probed = train is not None and train.labels is not None and split.labels is not None
    if probed:
        report["latent_accuracy"] = latent(views)
    if between and by_label:
        report["subset_coherence"] = coherence(batches_of(model, split, batch_size, max_rows), between)
    if between and probed:
        report["latent_accuracy"] |= latent(between)
    return Report(report | {"left_out": left_out}) if left_out else report


def _left_out(names: list[str], split, classifiers, train) -> dict[str, str]:
    """What cannot be measured, and why: known before anything is."""
    found = {}
    if classifiers is None:
        found["coherence"] = "there are no classifiers"
    else:
        having = judged(classifiers, names)
        found |= {f"coherence of {name}": "no classifier" for name in names if name not in having}
        if len(having) < 2 <= len(names):
            found["joint_coherence"] = "it takes classifiers of two modalities"
        if split.labels is None:
            found["cross_coherence, synergy_coherence"] = "split has no labels"
    if train is None:
        if classifiers is None:
            found["latent_accuracy"] = "there is no train to fit probes on"
    else:
        for argument, rows in (("split", split), ("train", train)):
            if rows.labels is None:
                found["latent_accuracy"] = f"{argument} has no labels"
    return found


def _coherence(
    model, split, batches, views: Mapping[str, list[str]], classifiers, generator
) -> dict[str, dict]:
    """View -> generated modality -> estimate, for every view that some row observes; each batch is read once."""
    right, rows = ({view: [] for view in views} for _ in range(2))
    for numbers, batch in batches:
        for view, given in views.items():
            seen, shown = observing(split, numbers, batch, given)
            if len(seen):
                labels = split.labels[seen].to(next(iter(shown.values())).device)
                right[view].append(cross_coherence(model, shown, labels, given, classifiers, generator).cpu())
                rows[view].append(seen)
    having, table = judged(classifiers, model.modalities), {}
    for view, given in views.items():
        if rows[view]:
            sources = [split.original(name, torch.cat(rows[view])).cpu() for name in given]
            found = zip(having, torch.cat(right[view], dim=1), strict=True)
            table[view] = {name: estimate(row, *sources) for name, row in found}
    return table


@torch.no_grad()
def encoded(
    model, generator: torch.Generator | None, given: Collection[str], batches: list[dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Codes [P, D] of several batches from the posterior that is ``given`` some modalities.

    Returns:
        ``{"sample", "mean"}``: one draw a row, and the posterior's mean.
    """
    posteriors = [model.posterior(batch, given=given) for batch in batches]
    return {
        "sample": torch.cat([posterior.sample(generator) for posterior in posteriors]),
        "mean": torch.cat([posterior.mean for posterior in posteriors]),
    }


def format_report(report: Mapping) -> str:
    """The report as text: per cent, standard errors behind +-, the matrix as [given] rows and [generated] columns.

    What is missing has no row or no entry; the last lines say why.
    """
    cross, between = report.get("cross_coherence", {}), report.get("subset_coherence", {})
    latent, judges = report.get("latent_accuracy", {}), report.get("classifier_accuracy", {})
    tables = [*cross.values(), *between.values(), report.get("synergy_coherence", {})]
    names = list(dict.fromkeys(name for table in tables for name in table))
    names += [name for name in latent if name not in (*names, JOINT) and "," not in name]
    lines = [f"{'per cent':<24}" + "".join(f"{name:>14}" for name in names)] if names else []

    def row(title: str, table: Mapping) -> None:
        entries = (_percent(table[name]) if name in table else "" for name in names)
        lines.append(f"{title:<24}" + "".join(f"{entry:>14}" for entry in entries))

    tested = {name: accuracy["test"] for name, accuracy in judges.items() if "test" in accuracy}
    if tested:
        row("classifier, real images", tested)
    for given, table in {**cross, **between}.items():
        row(f"given {given}", table)
    if "synergy_coherence" in report:
        row("given all (synergy)", report["synergy_coherence"])
    if latent:
        for kind in ("sample", "mean"):
            row(f"latent, {kind}", {name: found[kind] for name, found in latent.items()})
    if between or any("," in view for view in latent):
        for view in [view for view in latent if view not in names]:
            kinds = ", ".join(f"{kind} {_percent(entry)}" for kind, entry in latent[view].items())
            lines.append(f"{f'latent, {view}':<24}  {kinds}")
    if "joint_coherence" in report:
        classes = report["classes_generated"]
        counts = ", ".join(f"{name} {entry['count']}" for name, entry in classes.items())
        least = f"(share at least {classes['jointly']['threshold']:.0%})"
        lines.append(f"{'from the prior (joint)':<24}{_percent(report['joint_coherence']):>14}")
        lines.append(f"{'classes generated':<24}  {counts} {least}")
    if "relatedness" in report:
        parts = ", ".join(
            f"{pair} {_percent(entry).strip()}" for pair, entry in report["relatedness"].items()
        )
        lines.append(f"{'related pair nearer':<24}  {parts}")
    if "mutual_information" in report:
        told = report["mutual_information"].items()
        parts = (f"{b} given {a} {entry['value']:.3f}" for a, row in told for b, entry in row.items())
        lines.append(f"{'judges disagree, nats':<24}  {', '.join(parts)}")
    lines += caption_lines(report) + attribute_lines(report)
    lines += [f"left out: {what} ({why})" for what, why in report.get("left_out", {}).items()]
    return "\n".join(lines)


def _percent(entry: Mapping) -> str:
    error = "" if entry["se"] is None else f" +-{100 * entry['se']:4.1f}"
    return f"{100 * entry['value']:5.1f}{error}"
