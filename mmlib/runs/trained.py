"""A trained model from the folder of its run, to look at it again; and runs whose weights come with the repository."""

import json
from pathlib import Path

from mmlib.checks import one_of
from mmlib.files import REPOSITORY, recorded, write_atomically
from mmlib.runs import build
from mmlib.runs.folder import RunFolder, sha256
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import check_listed, get
from mmlib.runs.results import seal, verify
from mmlib.runs.training import kind_of, report
from mmlib.seeding import check_device
from mmlib.train import load_weights, save_weights

WEIGHTS = REPOSITORY / "data" / "weights"  # runs whose weights come with the repository


def load_trained(recipe: Recipe | str, seed=0, root: Path | str = "runs", device="cpu", cache=None):
    """The model of a finished run with its trained weights, in evaluation mode, and its data set, on ``device``.

    The discriminator of an adversarial model, which is not kept, is that of its first step.

    Raises:
        FileNotFoundError: if the run is not finished there.
        ValueError: for an unknown recipe or device, weights of another recipe, or weights that are damaged.
    """
    check_device(device)
    folder, typed = RunFolder(get(recipe), seed, root), getattr(recipe, "name", recipe)
    recipe = folder.recipe
    if missing := [path for path in (folder.result, folder.weights) if not path.exists()]:
        make = f"make the run with python -m mmlib train {typed} --seed {folder.seed}"
        raise FileNotFoundError(f"{missing[0]} is not there: {make}")
    result = verify(folder.result)
    checksum = (result.get("files", {}) | result.get("half_precision", {})).get(folder.weights.name)
    if checksum is not None and sha256(folder.weights) != checksum:
        raise ValueError(f"{folder.weights} is damaged: its SHA-256 is not the one in {folder.result.name}")
    data = build.build_data(recipe, cache)
    model = build.build_model(recipe, data, folder.seed)
    former = load_weights(folder.weights, kind_of(recipe).part(model)).get("hash")
    if former != recipe.hash:
        now = f"{recipe.name} is now {recipe.hash}"
        raise ValueError(f"{folder.weights} was made with recipe {former}; {now}")
    return model.to(device).eval(), data.to(device)


def load_recorded(recipe: Recipe | str, seed: int = 0, device: str = "cpu", cache=None):
    """A model whose trained weights come with the repository, and its data set, both on ``device``: ``mmlib.load``.

    The weights were rounded to half precision; the model that they are read into is of single precision.

    Example:
        >>> model, data = load_recorded("hand-street-mmvae-elbo")
        >>> list(model.modalities)
        ['hand', 'street']

    Raises:
        ValueError: if there are none of that name, saying of which there are; else as :func:`load_trained`.
        FileNotFoundError: if there are none of that seed.
    """
    name, known = getattr(recipe, "name", recipe), recorded_weights()
    if name not in known:
        raise ValueError(f"recipe is {name!r}; expected one with recorded weights: {', '.join(known)}")
    return load_trained(recipe, seed, WEIGHTS, device, cache)


def recorded_result(recipe: Recipe | str, seed: int = 0) -> dict:
    """What was recorded of a run whose weights come with the repository: recipe, numbers and where it was made.

    Raises:
        ValueError: for an unknown recipe, or a damaged result.
    """
    return verify(RunFolder(get(recipe), seed, WEIGHTS).result)


def recorded_weights() -> list[str]:
    """Recipes of which trained weights come with the repository, in alphabetical order."""
    return sorted({path.parents[1].name for path in recorded(WEIGHTS).glob("*/seed-*/weights.safetensors")})


def recorded_recipes(dataset: str, **data_options) -> list[str]:
    """Those of `recorded_weights` on that data set, with just these options: names, in order."""
    found = map(get, recorded_weights())
    return [r.name for r in found if r.dataset == dataset and dict(r.data_options) == data_options]


def keep(recipe: Recipe | str, seed: int = 0, root: Path | str = "runs") -> Path:
    """Put a finished run among those whose weights come with the repository; gives the folder there.

    The weights are rounded to half precision. The result beside them names two checksums: of the weights as the run
    wrote them, under ``files``, and of what is kept, under ``half_precision``.

    Raises:
        ValueError: if the recipe is not of the catalogue; else as :func:`load_trained`.
        FileNotFoundError: as :func:`load_trained`.
    """
    check_listed(recipe := get(recipe))
    part = kind_of(recipe).part(load_trained(recipe, seed, root)[0])
    run, kept = RunFolder(recipe, seed, root), RunFolder(recipe, seed, WEIGHTS)
    save_weights(kept.weights, part.half(), recipe=recipe.name, hash=recipe.hash, seed=seed)
    result = verify(run.result) | {"half_precision": {kept.weights.name: sha256(kept.weights)}}
    write_atomically(kept.result, (json.dumps(seal(result), indent=1) + "\n").encode())
    return kept.path


def evaluate_run(recipe: Recipe | str, seed=0, split="validation", root="runs", device="cpu", cache=None):
    """Coherences, latent accuracies and quality of generation of a finished run on one split.

    The draws are those of the run itself: on the machine that made it, its recorded numbers come out again. Raises as
    :func:`load_trained`, and a ValueError if the split is neither ``"validation"`` nor ``"test"``.
    """
    one_of("split", split, ("validation", "test"))
    model, data = load_trained(recipe, seed, root, device, cache)
    judges = build.build_judges(get(recipe), data, cache).to(device)
    return report(model, data, split, judges, seed, device)
