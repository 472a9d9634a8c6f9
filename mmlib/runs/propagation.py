"""Label propagation: a finished run says which of many random pairs belong together, and training goes on with them.

A recipe asks for it by its field ``propagation``, options by name:

* ``from``: name of the recipe whose finished run of the same seed is gone on from; it is made first, if it is not;
* ``by``: who finds pairs: ``"pmi"``, the model of that run; ``"siamese"``, a network trained on the same few pairs;
  ``"labels"``, the truth, what a perfect search would give; ``"nothing"``, no pair is added, for as many steps;
* ``k``: samples behind each PMI (default 100);
* ``partners``: random partners of each item (default 10).

Source: Shi et al. 2021, Section 4.5. Left open there, and decided here: that training goes on, from the weights of the
run, and with a new optimiser; samples, partners, and all settings of the Siamese network. Its 1,000 steps were
preferred to 2,000 for a larger F1 among the pairs searched, which are of the training split: a choice in its favour.
"""

import dataclasses

from mmlib.checks import one_of, whole
from mmlib.runs.folder import RunFolder
from mmlib.runs.recipe import Recipe

FINDERS = ("pmi", "siamese", "labels", "nothing")
SAME = ("model", "dataset", "model_options", "data_options", "latent_dim", "width", "likelihood")
SAME += ("likelihood_scale", "weights")  # what makes a model and its data
SIAMESE = {"steps": 1_000, "batch_size": 64, "learning_rate": 1e-3}


def options_of(recipe: Recipe) -> dict:
    """What the recipe asks for, checked, with what it leaves open; ``from`` is a recipe.

    Raises:
        ValueError: for an unknown option or value, or a recipe of another model or other data.
    """
    from mmlib.runs.recipes import get

    given = {"by": "pmi", "k": 100, "partners": 10, **recipe.propagation}
    if strange := sorted({*given} - {"from", "by", "k", "partners"}):
        raise ValueError(f"propagation has options {strange}; expected some of from, by, k, partners")
    if "from" not in given:
        raise ValueError("propagation has no option 'from'; expected the name of a recipe")
    base = get(given["from"])
    if others := [name for name in SAME if getattr(base, name) != getattr(recipe, name)]:
        raise ValueError(f"propagation.from is {base.name}, whose {others[0]} is another; expected the same")
    if "fraction" not in recipe.data_options:
        raise ValueError("propagation needs data_options.fraction: else there is nothing left to search")
    return {
        "from": base,
        "by": one_of("propagation.by", given["by"], FINDERS),
        "k": whole("propagation.k", given["k"]),
        "partners": whole("propagation.partners", given["partners"]),
    }


def propagate(folder: RunFolder, model, data, everything, device="cpu", cache=None) -> tuple:
    """Give ``model`` the weights of the run to go on from, and find the rows that it is to be trained on.

    The threshold is that of the largest F1 among random pairs of the few paired items; what is searched are random
    pairs of all other items. A function of recipe, seed and those weights, so that an interrupted run finds them again.

    Args:
        folder: of the run, beside which lies that to go on from.
        model: of the recipe.
        data: its data set, whose ``train`` are the few pairs.
        everything: the same data set, undivided.
        device: where model and data are.
        cache: folder of the data.

    Returns:
        The data set with these rows as ``train``, and a report, JSON-able: ``"propagation"`` has the ``threshold``, and
        the quality of what was found, ``"small"`` among the pairs that it was placed on and ``"full"`` among those
        searched, where ``"best"`` is the largest F1 that any threshold has there.
    """
    import torch

    from mmlib.data.matching import left_out, matched, with_found
    from mmlib.metrics.threshold import best_threshold, threshold_quality
    from mmlib.runs.trained import load_trained
    from mmlib.seeding import child, generator

    recipe, seed, train = folder.recipe, folder.seed, data.train.to("cpu")
    options = options_of(recipe)
    base = load_trained(options["from"], seed, folder.root, "cpu", cache)[0]
    model.load_state_dict(base.state_dict())
    report, partners, draw = {}, options["partners"], generator(child(seed, "matching"))
    small = matched(train.items, partners, draw)
    full = matched(left_out(everything.train.to("cpu").items, train.items), partners, draw)
    found = full.related if options["by"] == "labels" else torch.zeros_like(full.related)
    if options["by"] in ("pmi", "siamese"):
        score = _scorer(options, recipe, seed, model.to(device), train, device)
        here, there = (torch.stack([score(x).cpu() for x in some.batches(device)]) for some in (small, full))
        threshold = best_threshold(here, small.related)
        report["threshold"], found = threshold, there >= threshold
        report["small"] = threshold_quality(here, small.related, threshold)
        report["full"] = threshold_quality(there, full.related, threshold)
        best = best_threshold(there, full.related)
        report["full"]["best"] = threshold_quality(there, full.related, best)["f1"]
    report["added"] = int(found.sum())
    rows = with_found(train, full, found).to(device)
    return dataclasses.replace(data, train=rows), {"propagation": report}


def _scorer(options, recipe, seed, model, train, device):
    """What scores all pairs of a batch, the higher the more related."""
    import torch

    from mmlib.metrics.pmi import estimate_pmi
    from mmlib.metrics.siamese import siamese_for
    from mmlib.seeding import child, generator
    from mmlib.train import fit

    if options["by"] == "pmi":
        draw = generator(child(seed, "pmi"), device)
        return lambda batch: estimate_pmi(model, batch, options["k"], draw, all_pairs=True, chunk=50)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child(seed, "siamese", "weights"))
        network = siamese_for(train, recipe.latent_dim, recipe.width)
    fit(network, train, seed=child(seed, "siamese") % 2**32, device=device, progress=False, **SIAMESE)
    return lambda batch: network.score(batch, all_pairs=True)
