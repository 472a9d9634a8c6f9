"""What content and style each tell of the label: the probes of a model that keeps them apart."""

import torch

from mmlib.metrics.estimates import estimate
from mmlib.metrics.probes import fit_probe, latent_accuracy
from mmlib.metrics.split import batches_of, whole_rows


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

    Args:
        model: has ``encode(name, x)``, a normal over [style, content], and ``style_dim``; where that is 0 only
            the content is probed.
        split: that the probes are judged on.
        train: that they are fitted on; of its rows those that show every modality.
        generator: source of the posterior draws.
        max_rows: use only the first rows of ``split``.
        probe_rows: use only the first of those rows.
        batch_size: rows at once.

    Returns:
        ``{name: {"content" | "style" | "both": {"sample": E, "mean": E}}}``, E as from
        :func:`mmlib.metrics.estimates.estimate`.
    """
    codes, labels, rows = {}, {}, {}
    for part, source, limit in (("train", whole_rows(train), probe_rows), ("test", split, max_rows)):
        pairs = list(batches_of(model, source, batch_size, limit))
        rows[part] = torch.cat([chosen for chosen, _ in pairs])
        labels[part] = source.labels[rows[part]].cpu()
        for name in model.modalities:
            posteriors = [model.encode(name, batch[name]) for _, batch in pairs]
            codes[part, name, "sample"] = torch.cat([q.rsample(1, generator)[0] for q in posteriors]).cpu()
            codes[part, name, "mean"] = torch.cat([q.loc for q in posteriors]).cpu()
    s = model.style_dim
    views = {"content": slice(s, None)} | ({"style": slice(s), "both": slice(None)} if s else {})
    table: dict = {}
    for name in model.modalities:
        sources = split.original(name, rows["test"]).cpu()
        table[name] = {view: {} for view in views}
        for view, part in views.items():
            for kind in ("sample", "mean"):
                probe = fit_probe(codes["train", name, kind][:, part], labels["train"])
                right = latent_accuracy(probe, codes["test", name, kind][:, part], labels["test"])
                table[name][view][kind] = estimate(right, sources)
    return table
