"""A trained model from the folder of its run, to look at it again."""

from pathlib import Path

from mmlib.checks import one_of
from mmlib.files import REPOSITORY
from mmlib.runs import build
from mmlib.runs.folder import RunFolder, sha256
from mmlib.runs.recipe import Recipe
from mmlib.runs.recipes import get
from mmlib.runs.results import verify
from mmlib.runs.training import kind_of, report
from mmlib.seeding import check_device
from mmlib.train import load_weights

WEIGHTS = REPOSITORY / "data" / "weights"  # runs whose weights come with the repository


def load_trained(recipe: Recipe | str, seed=0, root: Path | str = "runs", device="cpu", cache=None):
    """The model of a finished run with its trained weights, and its data set, both on ``device``.

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
    checksum = verify(folder.result).get("files", {}).get(folder.weights.name)
    if checksum is not None and sha256(folder.weights) != checksum:
        raise ValueError(f"{folder.weights} is damaged: its SHA-256 is not the one in {folder.result.name}")
    data = build.build_data(recipe, cache)
    model = build.build_model(recipe, data, folder.seed)
    former = load_weights(folder.weights, kind_of(recipe).part(model)).get("hash")
    if former != recipe.hash:
        now = f"{recipe.name} is now {recipe.hash}"
        raise ValueError(f"{folder.weights} was made with recipe {former}; {now}")
    return model.to(device), data.to(device)


def load_recorded(recipe: Recipe | str, seed: int = 0, device: str = "cpu", cache=None):
    """As :func:`load_trained`, of a run whose weights come with the repository: nothing has to be trained first."""
    return load_trained(recipe, seed, WEIGHTS, device, cache)


def recorded_recipes(dataset: str, **data_options) -> list[str]:
    """Recipes of that data set, with just these options, whose weights come with the repository: names, in order."""
    found = [get(path.name) for path in sorted(WEIGHTS.glob("*/")) if (path / "seed-0").is_dir()]
    return [r.name for r in found if r.dataset == dataset and dict(r.data_options) == data_options]


def recorded_result(recipe: Recipe | str, seed: int = 0) -> dict:
    """What was recorded of a run whose weights come with the repository: recipe, numbers and where it was made.

    Raises:
        ValueError: for an unknown recipe, or a damaged result.
    """
    return verify(RunFolder(get(recipe), seed, WEIGHTS).result)


def evaluate_run(recipe: Recipe | str, seed=0, split="validation", root="runs", device="cpu", cache=None):
    """Coherences, latent accuracies and quality of generation of a finished run on one split.

    The draws are those of the run itself: on the machine that made it, its recorded numbers come out again. Raises as
    :func:`load_trained`, and a ValueError if the split is neither ``"validation"`` nor ``"test"``.
    """
    one_of("split", split, ("validation", "test"))
    model, data = load_trained(recipe, seed, root, device, cache)
    judges = build.build_classifiers(build.judges_data(get(recipe), data, cache), cache).to(device)
    return report(model, data, split, judges, seed, device)
