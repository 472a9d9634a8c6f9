"""What a model of faces and attribute strings is worth: average precision of each attribute in codes and generations.

By chance it is the share of the faces that have the attribute; the judges' own, on real items, is the most to be hoped
for. Both stand in every report.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from torch import Tensor

from mmlib.checks import whole
from mmlib.data.attributes import NAMES, read_strings
from mmlib.data.core import check_split
from mmlib.metrics.attribute_judges import MEAN, AttributeJudges, average_precisions
from mmlib.metrics.estimates import estimate
from mmlib.metrics.probes import fit_probe
from mmlib.metrics.split import batches_of, observing, whole_rows

JOINT = "all"


@torch.no_grad()
def generated_precisions(
    model,
    split,
    judges: AttributeJudges,
    views: Collection[str],
    generator: torch.Generator | None = None,
    max_rows: int | None = None,
    batch_size: int = 500,
    look: Callable[[str, Tensor, Tensor], None] | None = None,
) -> dict[str, dict[str, dict]]:
    """Average precision of what a model makes of both modalities, by what it is given: [given][generated][attribute].

    Args:
        model: any model with the modalities *image* and *text*.
        split: rows; each view is shown those that observe all of it.
        judges: of the same data set.
        views: some of "image", "text" and "all".
        generator: source of all draws, on the model's device.
        max_rows: use only the first rows.
        batch_size: rows at once.
        look: is shown each view, probabilities of generated strings [B, L, 71], and the faces' numbers.
    """
    scores: dict[str, dict[str, list[Tensor]]] = {view: {name: [] for name in NAMES} for view in views}
    truth: dict[str, list[Tensor]] = {view: [] for view in views}
    for numbers, batch in batches_of(model, split, batch_size, max_rows):
        for view in views:
            given = list(NAMES) if view == JOINT else [view]
            rows, shown = observing(split, numbers, batch, given)
            if not len(rows):
                continue
            made = model.generate(shown, given=given, to=list(NAMES), generator=generator)
            faces = split.original(given[0], rows)
            truth[view].append(judges.truth(faces))
            for name in NAMES:
                scores[view][name].append(judges.scores(name, made[name]).cpu())
            if look is not None:
                look(view, made["text"], faces)
    return {
        view: {
            n: average_precisions(torch.cat(truth[view]), torch.cat(s), judges.names)
            for n, s in found.items()
        }
        for view, found in scores.items()
        if truth[view]
    }


@torch.no_grad()
def latent_precisions(
    model,
    split,
    train,
    judges: AttributeJudges,
    views: Collection[str],
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
) -> dict[str, dict]:
    """Average precision of linear probes of the shared code, by what it is inferred from: [given][attribute].

    The code is the posterior's mean, as in the released code of Sutter et al. 2020; the probes are those of
    :func:`mmlib.metrics.fit_probe`, one for each attribute, fitted on rows of ``train`` that observe both modalities.
    (There they see 256 faces, too few for most attributes.)

    Args:
        model: any model with the modalities *image* and *text*.
        split: to be judged on.
        train: to fit on.
        judges: of the same data set.
        views: some of "image", "text" and "all".
        max_rows: use only the first rows of ``split``.
        probe_rows: rows of ``train``.
        batch_size: rows at once.

    Raises:
        ValueError: if no row of ``train`` observes both.
    """
    among = whole_rows(train, NAMES)
    if not len(among):
        raise ValueError("train has no row that observes both image and text; expected some to fit probes on")
    found = {}
    for view in views:
        given = list(NAMES) if view == JOINT else [view]
        z, has = _codes(model, train, judges, given, batch_size, probe_rows, among)
        fresh, truth = _codes(model, split, judges, given, batch_size, max_rows)
        if not len(fresh):
            continue
        scores = torch.zeros(len(fresh), len(judges.names), dtype=torch.float64)
        for a in range(len(judges.names)):
            if has[:, a].any() and not has[:, a].all():
                logits = fit_probe(z, has[:, a].long()).logits(fresh)
                scores[:, a] = logits[:, 1] - logits[:, 0]
        found[view] = average_precisions(truth, scores, judges.names)
    return found


def _codes(model, split, judges, given, batch_size, max_rows, among=None) -> tuple[Tensor, Tensor]:
    """Means of the posterior [P, D] of the rows that observe what is given, and their attributes [P, A]."""
    codes, truth = [torch.empty(0)], [torch.empty(0, len(judges.names), dtype=torch.bool)]
    for numbers, batch in batches_of(model, split, batch_size, max_rows, among=among):
        rows, shown = observing(split, numbers, batch, given)
        if len(rows):
            codes.append(model.posterior(shown, given=given).mean.cpu())
            truth.append(judges.truth(split.original(given[0], rows)))
    return torch.cat(codes[1:] or codes), torch.cat(truth)


def evaluate_attributes(
    model,
    split,
    judges: AttributeJudges,
    generator: torch.Generator | None = None,
    train=None,
    samples: int = 1000,
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
) -> dict:
    """All scores of a model of faces and attribute strings on one split, as plain numbers.

    Args:
        model: any model with the modalities *image* and *text*.
        split: to measure on.
        judges: of the same data set.
        generator: source of all draws, on the model's device.
        train: to fit probes on; None leaves them out.
        samples: draws from the prior.
        max_rows: use only the first rows of ``split``.
        probe_rows: rows of ``train``.
        batch_size: rows at once.

    Returns:
        Average precision by attribute, and their mean: ``attribute_share`` (of chance), ``real_precision[name]`` (of
        real items by the same judges: the most to be hoped for), ``latent_precision[given]``,
        ``generation_precision[given][generated]``, and ``joint_precision``: of pictures from the prior, against what
        their strings state. Of strings: ``well_formed``, the share of those that hold names in order and nothing else,
        ``real``, ``prior`` and by what they are generated from; and ``string_agreement``, attributes that a string and
        its face share among those that either has: ``real``, ``shuffled`` and by what strings are generated from.

    Raises:
        ValueError: if a modality has another name, or no row observes anything.
    """
    check_split("split", split, ("batch", "original"))
    if set(model.modalities) != set(NAMES):
        raise ValueError(
            f"model has modalities {', '.join(model.modalities)}; expected {' and '.join(NAMES)}"
        )
    samples, views, names = whole("samples", samples), (*NAMES, JOINT), judges.names
    formed: dict[str, list[Tensor]] = {}
    agreed: dict[str, list[Tensor]] = {}

    def look(view: str, text: Tensor, faces: Tensor | None) -> Tensor:
        symbols = text.argmax(-1) if text.is_floating_point() else text
        stated, well = read_strings(symbols.cpu(), names)
        formed.setdefault(view, []).append(well)
        if faces is not None:
            agreed.setdefault(view, []).append(agreement(stated, judges.truth(faces)))
        return stated

    real = {name: ([], []) for name in NAMES}
    for numbers, batch in batches_of(model, split, batch_size, max_rows):
        for name, (scores, truth) in real.items():
            rows, shown = observing(split, numbers, batch, [name])
            if len(rows):
                faces = split.original(name, rows)
                scores.append(judges.scores(name, shown[name]).cpu())
                truth.append(judges.truth(faces))
                if name == "text":
                    look("real", shown[name], faces)
    real = {name: tuple(map(torch.cat, both)) for name, both in real.items() if both[0]}
    truth = next(iter(real.values()))[1]
    if "text" in real:
        agreed["shuffled"] = [agreement(real["text"][1], real["text"][1].roll(1, 0))]
    share = {name: estimate(column.double()) for name, column in zip(names, truth.T, strict=True)}
    found = {"attribute_share": share | {MEAN: estimate(truth.double().mean(1))}}
    found["real_precision"] = {name: average_precisions(t, s, names) for name, (s, t) in real.items()}
    rows = max_rows, batch_size
    found["generation_precision"] = generated_precisions(model, split, judges, views, generator, *rows, look)
    if train is not None:
        some = max_rows, probe_rows, batch_size
        found["latent_precision"] = latent_precisions(model, split, train, judges, views, *some)
    pairs = []
    with torch.no_grad():
        for first in range(0, samples, batch_size):
            made = model.sample(min(batch_size, samples - first), generator)
            pairs.append((look("prior", made["text"], None), judges.scores("image", made["image"]).cpu()))
    stated, scores = map(torch.cat, zip(*pairs, strict=True))
    if (stated.any(0) & ~stated.all(0)).any():  # else no string tells one picture from another
        found["joint_precision"] = average_precisions(stated, scores, names)
    found["well_formed"] = {view: estimate(torch.cat(parts).double()) for view, parts in formed.items()}
    found["string_agreement"] = {view: estimate(torch.cat(parts)) for view, parts in agreed.items()}
    return found


def agreement(stated: Tensor, truth: Tensor) -> Tensor:
    """Attributes that both have among those that either has, bool [B, A] each: [B], 1 where neither has any."""
    either = (stated | truth).sum(1)
    return torch.where(either > 0, (stated & truth).sum(1) / either.clamp_min(1), 1.0).double()


def attribute_lines(report: Mapping) -> list[str]:
    """The scores of `evaluate_attributes` as lines of text, of attributes their mean."""

    def entry(found: Mapping) -> str:
        error = "" if found["se"] is None else f" +-{100 * found['se']:.1f}"
        return f"{100 * found['value']:.1f}{error}"

    tables = {"attribute share (chance)": {"": report.get("attribute_share")}}
    tables["average precision, real"] = report.get("real_precision", {})
    tables["average precision, code"] = {f"of {v}": t for v, t in report.get("latent_precision", {}).items()}
    cross = report.get("generation_precision", {})
    tables["average precision"] = {f"{a} to {b}": t for a, row in cross.items() for b, t in row.items()}
    tables["average precision, prior"] = {"text to image": report.get("joint_precision")}
    means = {title: {key: t[MEAN] for key, t in table.items() if t} for title, table in tables.items()}
    means["strings well formed"] = report.get("well_formed", {})
    means["strings agree"] = report.get("string_agreement", {})
    return [
        f"{title:<28}{key:<16}{entry(found):>16}"
        for title, table in means.items()
        for key, found in table.items()
    ]
