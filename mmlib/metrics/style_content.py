"""For models that keep content and style apart: what each tells of the label, how wide it is, whose style is drawn."""

from functools import partial

import torch
from torch import nn

from mmlib.metrics.classifiers import Classifiers
from mmlib.metrics.estimates import estimate
from mmlib.metrics.probes import latent_accuracies
from mmlib.metrics.report import Report, evaluate
from mmlib.metrics.split import batches_of, showing


@torch.no_grad()
def style_content_accuracy(
    model,
    split,
    train,
    generator: torch.Generator | None = None,
    max_rows: int | None = None,
    probe_rows: int = 5000,
    batch_size: int = 500,
) -> dict:
    """Latent accuracy of every modality's content, of its style, and of both (Chen and Zhu 2022, Table 3).

    Each probe is fitted on what it is tested on: samples on samples (the paper's choice), means on means.
    ``model`` has ``encode(name, x)``, a normal over [style, content], whose styles have the sizes ``style_dims`` by
    name; where that is 0 only the content is probed. The other arguments are those of :func:`mmlib.metrics.evaluate`.

    Returns:
        ``{name: {"content" | "style" | "both": {"sample": E, "mean": E}}}``, E as from
        :func:`mmlib.metrics.estimates.estimate`.
    """

    def encode(given, batches) -> dict:
        (name,) = given
        posteriors = [model.encode(name, batch[name]) for batch in batches]
        sample = torch.cat([q.rsample(1, generator)[0] for q in posteriors])
        mean = torch.cat([q.loc for q in posteriors])
        return {
            (view, kind): z[:, at]
            for view, at in _views(model, name).items()
            for kind, z in (("sample", sample), ("mean", mean))
        }

    alone = {name: [name] for name in model.modalities}
    table = latent_accuracies(model, split, train, encode, alone, max_rows, probe_rows, batch_size)
    return {
        name: {view: {kind: found[view, kind] for kind in ("sample", "mean")} for view in _views(model, name)}
        for name, found in table.items()
    }


@torch.no_grad()
def posterior_scales(model, split, max_rows: int | None = None, batch_size: int = 500) -> dict:
    """How wide the posteriors of content and style are: mean standard deviation over rows and coordinates.

    A code that has learned nothing from its item has the prior's standard deviation, 1. The arguments are
    those of :func:`style_content_accuracy`.

    Returns:
        ``{name: {"content" | "style": {"value", "se", "n", "clusters"}}}``; without styles only the content.
    """
    table, batches = {}, list(batches_of(model, split, batch_size, max_rows))
    for name in model.modalities:
        if shown := showing(split, batches, [name]):
            widths = torch.cat([model.encode(name, batch[name]).scale.cpu() for _, batch in shown])
            sources, views = (
                split.original(name, torch.cat([rows for rows, _ in shown])).cpu(),
                _views(model, name),
            )
            views.pop("both", None)
            table[name] = {v: estimate(widths[:, at].double().mean(-1), sources) for v, at in views.items()}
    return table


def _views(model, name: str) -> dict[str, slice]:
    """Where content, style and both stand in a modality's code; without a style only the content."""
    s = model.style_dims[name]
    return {"content": slice(s, None)} | ({"style": slice(s), "both": slice(None)} if s else {})


def released_coherence(
    model,
    split,
    classifiers: Classifiers,
    generator: torch.Generator | None = None,
    samples: int = 5000,
    max_rows: int | None = None,
    batch_size: int = 500,
) -> Report:
    """Coherences as the code released with Chen and Zhu 2022 measures them, on styles that a decoder need not know.

    Another modality is generated with the *source's* style; draws from the prior share one style. By
    :func:`mmlib.metrics.evaluate`, whose arguments these are, every generated modality has a style of its own.
    ``model`` has ``generate(..., style="source")`` and ``sample(..., style="shared")``.

    Returns:
        ``cross_coherence``, ``joint_coherence`` and ``classes_generated`` as from :func:`mmlib.metrics.evaluate`.
    """
    styled = nn.Module()  # the same model to metrics that know of no styles
    styled.modalities = model.modalities
    styled.generate = partial(model.generate, style="source")
    styled.sample = partial(model.sample, style="shared")
    options = {"samples": samples, "max_rows": max_rows, "batch_size": batch_size, "subsets": False}
    found = evaluate(styled, split, classifiers, generator, **options)
    return Report({key: found[key] for key in ("cross_coherence", "joint_coherence", "classes_generated")})
