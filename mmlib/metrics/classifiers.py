"""The judges of coherence: one classifier per modality, trained in seconds, with their own accuracy attached.

A coherence says how often a classifier recognises what was generated, so it is bounded by the classifier: its accuracy
on real items is measured once, on validation and on test, and travels with it into every report.

What is judged is the mean of a likelihood: of an image its pixels, of a text the probabilities of its symbols. A
decoder that knows the word and not its place gives a blur of several strings. A judge may see the digit in it although
the most likely symbols spell no word, just as it may see one in a blurred image.
"""

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.nn import functional as F

from mmlib.checks import check_has, one_of, positive, whole
from mmlib.data.batches import rows_at
from mmlib.data.cache import cache_root, digest, generated
from mmlib.metrics.estimates import estimate
from mmlib.metrics.split import cast, check_mode, device_of, precision_of
from mmlib.nets.classifiers import DigitClassifier
from mmlib.nets.text import TextClassifier
from mmlib.seeding import check_device, child, generator

VERSION = 1  # change it when training changes, so that nothing old is read from the cache
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Classifiers:
    """A classifier for each modality, or for some of them, and how good it is.

    Attributes:
        networks: name -> network, in evaluation mode, or other function that takes items [B, *shape] to class logits
            [B, C]; class c is the label c.
        accuracy: name -> ``{"validation": E, "test": E}``, E as from :func:`mmlib.metrics.estimates.estimate`; empty
            where nobody has measured it.
        seconds: that training took, when it was done.
        processes: name -> what :func:`mmlib.metrics.gaussian_process_judge` makes of its network, where wanted.
    """

    networks: Mapping[str, Callable[[Tensor], Tensor]]
    accuracy: Mapping[str, dict[str, dict]] = field(default_factory=dict)
    seconds: float = 0.0
    processes: Mapping[str, object] = field(default_factory=dict)

    @torch.no_grad()
    def predict(self, name: str, items: Tensor) -> Tensor:
        """Most likely class of what a model generates, or the data hold, in any precision: int64 [B].

        Args:
            name: of the modality.
            items: images [B, *shape] in [0, 1]; of texts symbols, int64 [B, L], or their probabilities [B, L, symbols].

        Raises:
            ValueError: for an unknown modality, a network in training mode, or one that gives no logits.
        """
        logits = self._judge(name)(self._fitting(name, items))
        if logits.ndim != 2 or len(logits) != len(items):
            found = f"classifiers.networks[{name!r}] gives shape {tuple(logits.shape)} for {len(items)} items"
            raise ValueError(f"{found}; expected class logits [B, C]")
        return logits.argmax(-1)

    def has_features(self, name: str) -> bool:
        """Whether the judge of a modality has features to compare items by."""
        return hasattr(self._judge(name), "features")

    @torch.no_grad()
    def features(self, name: str, images: Tensor) -> Tensor:
        """What the last layer of a judge sees of images [B, *shape]: [B, F].

        Raises:
            ValueError: as :meth:`predict`, or if the network has no method ``features``.
        """
        network = self._judge(name)
        what = f"classifiers.networks[{name!r}]"
        check_has(what, network, ["features"], "a network with that method, such as a DigitClassifier")
        return network.features(self._fitting(name, images))

    def to(self, device) -> "Classifiers":
        """The same classifiers on ``device`` (networks are moved in place, as PyTorch does)."""
        moved = {n: net.to(device) if isinstance(net, nn.Module) else net for n, net in self.networks.items()}
        return replace(self, networks=moved, processes={n: p.to(device) for n, p in self.processes.items()})

    def _judge(self, name: str) -> Callable[[Tensor], Tensor]:
        if name not in self.networks:
            raise ValueError(f"name is {name!r}; expected one of {list(self.networks)}")
        network = self.networks[name]
        if isinstance(network, nn.Module):
            check_mode(network, f"classifiers.networks[{name!r}]")
        return network

    def _fitting(self, name: str, images: Tensor) -> Tensor:
        network = self.networks[name]
        return cast({name: images}, precision_of(network) if isinstance(network, nn.Module) else None)[name]


def as_classifiers(judges: object, names: Iterable[str]) -> object:
    """Judges as metrics take them: those of a mapping name -> network become :class:`Classifiers`, others stay.

    Raises:
        ValueError: if they are no judges, or a mapping has one for a modality that is not among ``names``.
    """
    if isinstance(judges, Mapping):
        for name in judges:
            one_of("a modality that classifiers judge", name, names)
        judges = Classifiers(judges)
    check_has("classifiers", judges, ["predict"], "what train_classifiers(data) returns")
    if not judged(judges, names):
        found = ", ".join(judges.networks) or "nothing"
        raise ValueError(f"classifiers judge {found}; expected one or more of {', '.join(names)}")
    return judges


def judged(classifiers: object, names: Iterable[str]) -> list[str]:
    """Those of the names for which there is a judge; judges without ``networks`` judge everything."""
    networks = getattr(classifiers, "networks", None)
    return [name for name in names if networks is None or name in networks]


def check_judges(classifiers: object, names: Iterable[str]) -> list[str]:
    """The names, if there is a judge for each.

    Raises:
        ValueError: if ``classifiers`` are none, or one is missing.
    """
    check_has("classifiers", classifiers, ["predict"], "what train_classifiers(data) returns")
    names = list(names)
    missing = set(names) - set(judged(classifiers, names))
    if missing:
        known = ", ".join(classifiers.networks)
        raise ValueError(f"classifiers judge {known}; expected one for {min(missing)!r} too")
    return names


def train_classifiers(
    data,
    seed: int = 0,
    steps: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    width: float = 0.5,
    shift: int | None = None,
    cache=None,
    device="cpu",
) -> Classifiers:
    """Train a classifier for every modality, or read them from the cache.

    They see the plain training items of their modality, not the pairs; the number of steps is fixed and the last step
    is kept, so that no split is used to choose. The learning rate rises over the first tenth of the steps and falls to
    zero along a cosine. Same data, options, seed and machine: same weights.

    Trained once, they judge everywhere: the cache gives them back under any version of torch and for any pairing of the
    same items, so that a number does not change with its judges. Images beside a text have the judges that they have
    without it.

    Args:
        data: a data set with ``train``, ``validation``, ``test`` and ``provenance``.
        seed: of the weights, the batches and the shifts.
        steps: training steps of each classifier; default: 200 for texts and images up to 16x16 (seconds on a CPU), else
            1200 (minutes).
        batch_size: items a step.
        learning_rate: peak, of AdamW with weight decay 0.01.
        width: factor on the channels of :class:`mmlib.nets.DigitClassifier` and :class:`mmlib.nets.TextClassifier`.
        shift: training images are moved by up to so many pixels either way; default: 1 up to 16x16, else 2. Texts
            are never moved.
        cache: data folder; default as in :func:`mmlib.data.load`. False trains without a cache.
        device: where to train.

    Returns:
        The classifiers, in evaluation mode, on ``device``.

    Raises:
        ValueError: naming the argument.
        OSError: if they cannot be kept, before they are trained.
    """
    device = check_device(device)
    check_has("data", data, ["shapes", "splits", "provenance"], "a data set, such as load('hand-street')")
    given = {
        "steps": None if steps is None else whole("steps", steps),
        "batch_size": whole("batch_size", batch_size),
        "learning_rate": positive("learning_rate", learning_rate),
        "width": positive("width", width),
        "shift": None if shift is None else whole("shift", shift, 0),
        "seed": whole("seed", seed, 0),
    }
    networks, accuracy, seconds = {}, {}, 0.0
    for part, (names, provenance) in _parts(data).items():
        small = all(max(data.shapes[name][1:], default=0) <= 16 for name in names)
        usual = {"steps": 200 if small else 1200, "shift": 1 if small else 2}
        options = {key: usual[key] if value is None else value for key, value in given.items()}
        facts = {"classifiers": VERSION, "data": provenance, "options": options, "torch": torch.__version__}
        facts = json.loads(json.dumps(facts))  # as it will be read back
        make = functools.partial(_trained, data, names, options, device)
        tensors = make() if cache is False else stored(cache_root(cache), f"classifiers-{part}", facts, make)
        seconds += float(tensors["seconds"])
        for name in names:
            prefix = f"{name}/network/"
            weights = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix)}
            with torch.device("meta"):  # draws no weights: the caller's random numbers stay where they are
                network = _network(data.train.items[name], weights["head.bias"].numel(), width)
            network.load_state_dict(weights, assign=True)
            networks[name] = network.to(device).eval()
            originals = {split: data.splits[split].items[name].original.cpu() for split in HELD_OUT}
            accuracy[name] = {
                split: estimate(tensors[f"{name}/correct/{split}"], original)
                for split, original in originals.items()
            }
    return Classifiers(networks, accuracy, seconds)


def _parts(data) -> dict[str, tuple[list[str], dict]]:
    """Modalities whose judges are kept together, and what decides them, by the name that they are kept under.

    Images with a text beside them come from another data set, and have its judges; the text is apart.
    """
    if "text" not in data.provenance:
        return {data.name: (list(data.shapes), data.provenance)}
    images = [name for name in data.shapes if name not in data.symbols]
    about = {key: value for key, value in data.provenance.items() if key != "text"}
    text = list(data.symbols), data.provenance
    return {data.provenance["text"]["beside"]: (images, about), data.name: text}


def _trained(data, names: list[str], options: dict, device) -> dict[str, Tensor]:
    """Weights of new judges, and whether they are right about each item that is held out."""
    tensors, started = {}, time.perf_counter()
    for name in names:
        network = _train(data.train.items[name], name, device=device, **options)
        tensors |= {f"{name}/network/{key}": value.cpu() for key, value in network.state_dict().items()}
        for split in HELD_OUT:
            held_out = data.splits[split].items[name]
            tensors[f"{name}/correct/{split}"] = _correct(network, held_out).to(torch.uint8).cpu()
    return tensors | {"seconds": torch.tensor(time.perf_counter() - started)}


def stored(root: Path, name: str, facts: dict, make) -> dict[str, Tensor]:
    """Judges from the cache, or made and kept there; of several programs that need the same ones, one trains."""
    with contextlib.ExitStack() as stack:
        place = _place(root, name, facts)
        if not place[0].exists():
            with contextlib.suppress(OSError):  # no locks here: then several train, to the same end
                root.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(root / f".{place[0].name}.lock"))
            place = _place(root, name, facts)
        return generated(*place, make)[0]


def _place(root: Path, name: str, facts: dict) -> tuple[Path, dict]:
    """Where judges of these facts are, or would be, and their facts in full."""
    decisive = _decisive(facts)
    for note in sorted(root.glob(f"{name}-*/data.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            record = json.loads(note.read_text())
            checksum = record.pop("sha256")
            if _decisive(record) == decisive and digest(note.parent / "data.safetensors") == checksum:
                return note.parent, record
    key = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]
    return root / f"{name}-{key}", facts


def _decisive(facts: dict) -> dict:
    """What makes other judges: not the version of torch, and of the pairing only how many items it leaves."""
    pairing = facts["data"].get("pairing", {})
    data = {**facts["data"], "pairing": pairing.get("fraction", 1.0)}
    return {key: value for key, value in facts.items() if key != "torch"} | {"data": data}


def _train(items, name, width, seed, device, **options) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(child(seed, name, "weights"))
        network = _network(items, int(items.labels.max()) + 1, width).to(device)
    return train_judge(network, items, items.labels, name, seed=seed, device=device, **options)


def train_judge(
    network: nn.Module,
    items,
    targets: Tensor,
    name: str,
    steps: int,
    batch_size: int,
    learning_rate: float,
    shift: int,
    seed: int,
    device="cpu",
) -> nn.Module:
    """Train a judge of one modality's items as `train_classifiers` says; gives it in evaluation mode.

    Args:
        network: items [B, *shape] to logits, on ``device``.
        items: of the training split.
        targets: classes, int64 [N], or which attributes each item has, float [N, A], 1 or 0.
        name: of the modality; batches and shifts depend on it.
        steps: as of `train_classifiers`; so are all others.
        batch_size: items a step.
        learning_rate: peak.
        shift: of images, pixels.
        seed: of batches and shifts.
        device: where to train.
    """
    cost = F.binary_cross_entropy_with_logits if targets.is_floating_point() else F.cross_entropy
    noise = generator(child(seed, name, "shifts"))
    optimiser = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.01)
    for step in range(steps):
        rows = rows_at(step, len(items), min(batch_size, len(items)), child(seed, name, "rows") % 2**32)
        batch = items.batch(rows) if items.symbols else shifted(items.batch(rows), shift, noise)
        rise = min(1.0, (step + 1) / max(1, steps // 10))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = cost(network(batch.to(device)), targets[rows].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


def _network(items, classes: int, width: float) -> nn.Module:
    """A judge for such items."""
    if items.symbols:
        return TextClassifier(items.shape, items.symbols, classes, width)
    return DigitClassifier(items.shape, classes, width)


def shifted(images: Tensor, by: int, generator: torch.Generator | None = None) -> Tensor:
    """Images [B, C, H, W] each moved by up to ``by`` pixels along both axes; the border is repeated."""
    if by == 0:
        return images
    batch, _, height, width = images.shape
    padded = F.pad(images, (by, by, by, by), mode="replicate")
    down, right = torch.randint(0, 2 * by + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height) + down)[:, None, :, None]  # [B, 1, H, 1]
    columns = (torch.arange(width) + right)[:, None, None, :]  # [B, 1, 1, W]
    channels = torch.arange(images.shape[1])[:, None, None]
    return padded[torch.arange(batch)[:, None, None, None], channels, rows, columns]


@torch.no_grad()
def _correct(network: nn.Module, items, batch_size: int = 500) -> Tensor:
    """Whether the network is right about each item: bool [N]."""
    batches = (items.batch(rows, device_of(network)) for rows in torch.arange(len(items)).split(batch_size))
    return torch.cat([network(batch).argmax(-1).cpu() for batch in batches]) == items.labels
