"""What a model of pictures and captions is worth: correlations of what it generates, and how true its captions are.

Where classes of training and test differ no classifier can judge. `mmlib.metrics.caption_judges` do: by word vectors
and canonical projections, and, of birds whose attributes are known, by the grammar of their captions.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from mmlib.checks import whole
from mmlib.data.captioned import NAMES
from mmlib.data.vocabulary import END
from mmlib.metrics.caption_judges import CaptionJudges
from mmlib.metrics.codes import relatedness, unimodal_posteriors, wasserstein
from mmlib.metrics.estimates import estimate
from mmlib.metrics.split import batches_of, observing, whole_rows

OTHER = {"image": "caption", "caption": "image"}
JOINT = "all"


@torch.no_grad()
def generated_pair(
    model, batch: Mapping[str, Tensor] | int, given: Collection[str], generator=None
) -> dict[str, Tensor]:
    """What a model makes of both modalities from one code: features [B, F], and the likeliest symbols, int64 [B, L].

    Captions that are codes stay so, [B, C]: judges read them. ``batch`` holds what is given; a number asks for so many
    draws from the prior.
    """
    if isinstance(batch, int):
        made = model.sample(batch, generator)
    else:
        made = model.generate(batch, given=list(given), to=list(NAMES), generator=generator)
    caption = made["caption"]
    return {"image": made["image"], "caption": caption.argmax(-1) if caption.ndim == 3 else caption}


@torch.no_grad()
def surest_captions(
    model, batch: Mapping[str, Tensor], given: Collection[str], draws: int = 16, generator=None
) -> Tensor:
    """Of captions from several codes the one whose words the decoder is surest of, symbols int64 [B, L].

    A code between two sentences leaves the decoder undecided at some places. How sure it is of a caption is the mean
    logarithm of the probability of its words, each the likeliest at its place, up to the end.

    Args:
        model: any model of pictures and captions.
        batch: what is given.
        given: its names.
        draws: codes for each row.
        generator: source of the draws.
    """
    best = None
    for _ in range(whole("draws", draws)):
        chance, words = model.generate(batch, given=list(given), to=["caption"], generator=generator)[
            "caption"
        ].max(-1)
        said = ((words == END).cumsum(1) - (words == END).long()) == 0  # up to the first end
        sure = (chance.log() * said).sum(1) / said.sum(1)
        if best is not None:
            better = sure > best[0]
            sure, words = torch.where(better, sure, best[0]), torch.where(better[:, None], words, best[1])
        best = sure, words
    return best[1]


def cross_correlation(
    model, batch: Mapping[str, Tensor], given: str, judges: CaptionJudges, generator=None
) -> Tensor:
    """How well what is generated from one modality goes together with what was given: [B], from -1 to 1.

    Source: Shi et al. 2021, Section 4.3; Massiceti et al. 2018.
    """
    made = generated_pair(model, {given: batch[given]}, [given], generator)
    pair = {given: batch[given], OTHER[given]: made[OTHER[given]]}
    return judges.correlation(pair["image"], pair["caption"])


def evaluate_captions(
    model,
    split,
    judges: CaptionJudges,
    generator: torch.Generator | None = None,
    samples: int = 5000,
    max_rows: int | None = None,
    batch_size: int = 500,
) -> dict:
    """All scores of a model of pictures and captions on one split, as plain numbers with standard errors.

    A row observes both modalities, or counts nowhere. Standard errors are clustered by picture.

    Args:
        model: any model with the modalities *image* (features) and *caption*.
        split: to measure on.
        judges: fitted to the training part of the same data set.
        generator: source of all draws, on the model's device.
        samples: draws from the prior.
        max_rows: use only the first rows.
        batch_size: rows at once.

    Returns:
        ``correlation[convention]`` with the entries ``real`` (the split's own pairs: the scale of all others),
        ``shuffled`` (captions of other rows), ``joint`` (both from the prior), ``cross[given][generated]`` (beside what
        was given) and ``synergy[generated]`` (from both, beside the other real one). Where attributes are known also
        ``parse_rate`` of captions, ``real``, ``prior`` and generated given ``image``, ``caption`` or ``all``; and
        ``attribute_agreement``: ``real``, ``shuffled``; ``caption[given]`` of captions generated, with the picture;
        ``image[given]`` of real captions, with what a linear map tells of features generated; ``told`` the same of real
        features, as good as that gets; ``joint`` of captions with features, both from the prior. And ``relatedness``,
        see `picture_relatedness`.

    Raises:
        ValueError: if a modality has another name, or no row observes both.
    """
    if set(model.modalities) != set(NAMES):
        raise ValueError(
            f"model has modalities {', '.join(model.modalities)}; expected {' and '.join(NAMES)}"
        )
    samples, seen = whole("samples", samples), []
    scores: dict[tuple[str, ...], list[Tensor]] = {}

    def keep(value: Tensor, *path: str) -> None:
        scores.setdefault(path, []).append(value.double().cpu())

    def compare(images: Tensor, captions: Tensor, *path: str) -> None:
        for convention in judges.projections:
            keep(judges.correlation(images, captions, convention), "correlation", convention, *path)

    def judge(captions: Tensor, birds: Tensor, *path: str, parsed: str = "") -> None:
        """Captions beside the attributes of birds: of pictures given by number, or told by features."""
        if judges.probe is not None:
            birds = judges.told(birds) if birds.is_floating_point() else judges.attributes[birds.cpu()]
            found, true = judges.agreement(captions, birds)
            keep(true, "attribute_agreement", *path)
            if parsed:
                keep(found, "parse_rate", parsed)

    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    for rows, batch in batches_of(model, split, batch_size, max_rows):
        rows, real = observing(split, rows, batch, NAMES)
        if not len(rows):
            continue
        seen.append(rows)
        number, other = (
            split.original("image", rows),
            split.batch(order[rows], real["caption"].device)["caption"],
        )
        compare(real["image"], real["caption"], "real")
        compare(real["image"], other, "shuffled")
        judge(real["caption"], number, "real", parsed="real")
        judge(other, number, "shuffled")
        judge(real["caption"], real["image"], "told")
        for view in (*NAMES, JOINT):
            given = NAMES if view == JOINT else (view,)
            made = generated_pair(model, {name: real[name] for name in given}, given, generator)
            for name in NAMES:
                if name != view:
                    pair = {**real, name: made[name]}
                    path = ("synergy", name) if view == JOINT else ("cross", view, name)
                    compare(pair["image"], pair["caption"], *path)
            judge(made["caption"], number, "caption", view, parsed=view)
            judge(real["caption"], made["image"], "image", view)
    if not seen:
        raise ValueError("split has no row that observes both image and caption; expected one or more")
    clusters = split.original("image", torch.cat(seen)).cpu()
    table = {path: estimate(torch.cat(values), clusters) for path, values in scores.items()}
    scores.clear()
    for first in range(0, samples, batch_size):
        made = generated_pair(model, min(batch_size, samples - first), (), generator)
        compare(made["image"], made["caption"], "joint")
        judge(made["caption"], made["image"], "joint", parsed="prior")
    table |= {path: estimate(torch.cat(values)) for path, values in scores.items()}
    table["relatedness", "image,caption"] = picture_relatedness(model, split, max_rows or 1000)
    return _nested(table)


def picture_relatedness(model, split, max_rows: int = 1000) -> dict:
    """How often the code of a picture is nearer to that of a caption of its own than to that of another's.

    The share that `mmlib.metrics.relatedness` gives, of all pairs of the first ``max_rows`` rows that observe both, by
    the distance of `mmlib.metrics.wasserstein`; pairs of one picture are related. Source: Joy et al. 2022, Figure 8.
    """
    posteriors, _ = unimodal_posteriors(model, split, max_rows)
    number = split.original("image", whole_rows(split, list(NAMES))[:max_rows]).cpu()
    nearer = relatedness(wasserstein(posteriors["image"], posteriors["caption"]), number)[2]
    return {"value": nearer, "se": None, "n": len(number), "clusters": len(number.unique())}


def _nested(table: Mapping[tuple[str, ...], dict]) -> dict:
    found: dict = {}
    for path, entry in table.items():
        place = found
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = entry
    return found


def caption_lines(report: Mapping) -> list[str]:
    """The scores of `evaluate_captions` as lines of text."""

    def entry(found: Mapping | None, percent: bool) -> str:
        if found is None:
            return ""
        factor, digits = (100, 1) if percent else (1, 3)
        error = "" if found["se"] is None else f" +-{factor * found['se']:.{digits}f}"
        return f"{factor * found['value']:.{digits}f}{error}"

    lines = []
    for convention, found in report.get("correlation", {}).items():
        flat = {key: found.get(key) for key in ("real", "shuffled", "joint")}
        flat |= {f"{a} to {b}": e for a, row in found.get("cross", {}).items() for b, e in row.items()}
        flat |= {f"all to {name}": e for name, e in found.get("synergy", {}).items()}
        lines += [
            f"{f'correlation, {convention}':<30}{key:<20}{entry(e, False):>18}" for key, e in flat.items()
        ]
    for title in ("parse_rate", "attribute_agreement"):
        for key, found in report.get(title, {}).items():
            entries = (
                {key: found} if "value" in found else {f"{given} to {key}": e for given, e in found.items()}
            )
            name = f"{title.replace('_', ' ')}, per cent"
            lines += [f"{name:<30}{key:<20}{entry(e, True):>18}" for key, e in entries.items()]
    return lines
