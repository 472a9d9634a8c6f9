"""What a recipe is: everything that decides a run's numbers. The same recipe and seed is the same run."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields

from mmlib.checks import positive, real, whole

PROSE = ("name", "source", "reduced", "faithful")  # say what a recipe is for; decide no number
ALWAYS = ("model", "dataset", "steps")  # are part of the hash, whatever they are
TYPES = {str: "a text", bool: "true or false", dict: "options by name"}
TYPES[str | dict | None] = "a text, numbers by name, or nothing"


@dataclass(frozen=True)
class Recipe:
    """One run of one model on one data set, but for its seed.

    New fields may be added with a default that means "as before": a field at its default does not enter the hash, so
    the hashes of recorded results stay what they were. For the same reason a default must never change.
    """

    name: str  #: key in ``mmlib.runs.recipes.RECIPES`` and folder of the runs
    model: str  #: name in ``mmlib.models.MODELS``
    dataset: str  #: name for ``mmlib.data.load``
    source: str  #: paper and table row that this answers to, or where it comes from
    steps: int  #: optimizer steps
    reduced: str = ""  #: what is less than in the paper; empty if nothing is
    #: the paper's data set, networks, objective and budget, as far as they are stated; what it leaves open is filled in
    #: as ``source`` says. Only such a recipe can reproduce a number: any other shows a direction
    faithful: bool = False
    model_options: dict = field(default_factory=dict)  #: keywords; ``joint_encoder`` by name
    data_options: dict = field(default_factory=dict)  #: keywords of the data set
    networks: str = ""  #: those of ``mmlib.runs.build.NETWORKS``; empty: by the shape of the items
    #: size of the code; with styles that of [style, shared code], of the modality with the largest ``style_dim`` (an
    #: option of the model), so that the shared code has what that one leaves
    latent_dim: int = 20
    width: float = 1.0  #: factor on the widths of the networks; 1 is the paper
    likelihood: str = "laplace"  #: or ``"normal"`` or ``"bernoulli"``, for all modalities
    likelihood_scale: float = 0.75  #: of Laplace (b) or normal (standard deviation), in pixels
    #: of the likelihoods, "pixels" for largest dimension / own dimension, numbers by name, or None for 1 everywhere
    weights: str | dict | None = "pixels"
    batch_size: int = 128  #: rows a step
    schedule: str = "shuffled"  #: which rows a step sees, see ``mmlib.train.fit``
    learning_rate: float = 1e-3  #: of Adam, as are the next three
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    clip_norm: float | None = None  #: largest total norm of the gradient
    clip_value: float | None = None  #: largest entry of the gradient
    ema: float | None = None  #: decay of the average of the weights, which is evaluated in their place
    ema_start: int = 0  #: steps during which the average is a copy of the weights
    ema_ramp: bool = False  #: let the average forget its beginning sooner, see ``mmlib.train.Ema``
    minibatches: int = 1  #: that an update of an adversarial model sees, see ``mmlib.train.fit_adversarial``
    propagation: dict = field(default_factory=dict)  #: go on from a run, see ``mmlib.runs.propagation``
    #: ``"processes"`` asks many classifiers, too, see ``mmlib.metrics.with_processes``; fitted once, in minutes
    judges: str = "classifiers"
    likelihood_rows: int = 200  #: rows of the test split, the first ones, whose likelihoods are estimated
    likelihood_k: int = 1000  #: importance samples for each, from each component of the posterior
    validations: int = 8  #: evaluations on the validation split along the way, evenly spaced; a multiple of 4

    def __post_init__(self) -> None:
        for entry in fields(self):
            object.__setattr__(self, entry.name, _checked(entry.name, entry.type, getattr(self, entry.name)))
        if self.steps < self.validations or self.validations < 4 or self.validations % 4:
            bounds = f"a multiple of 4, at least 4 and at most steps = {self.steps}"
            raise ValueError(f"validations is {self.validations}; expected {bounds}")

    @property
    def content(self) -> dict:
        """What decides the numbers, JSON-able: every field that is not prose and not at its default."""
        standard = _plain(Recipe(name="", model="", dataset="", source="", steps=8))
        kept = {key: value for key, value in _plain(self).items() if key in ALWAYS or value != standard[key]}
        return {key: value for key, value in kept.items() if key not in PROSE}

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the content; they depend neither on the order of fields nor on prose."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def as_dict(self) -> dict:
        """Every field, JSON-able, with the hash."""
        return {**_plain(self), "hash": self.hash}


def from_dict(values: dict) -> Recipe:
    """The inverse of :meth:`Recipe.as_dict`; ValueError if a field is unknown, missing or of another type."""
    known = sorted(entry.name for entry in fields(Recipe))
    if unknown := ", ".join(sorted(map(str, {*values} - {*known, "hash"}))):
        raise ValueError(f"recipe has fields {unknown}; expected some of {', '.join(known)}")
    if missing := [name for name in ("name", "model", "dataset", "source", "steps") if name not in values]:
        raise ValueError(f"{missing[0]} is missing; expected a value")
    return Recipe(**{name: value for name, value in values.items() if name != "hash"})


def _plain(recipe: Recipe) -> dict:
    """Every field as JSON gives it back."""
    return json.loads(json.dumps(asdict(recipe)))


def _checked(name: str, expected, value):
    """The value of a field, if it is of the type expected; NumPy's numbers become Python's own, which JSON holds."""
    if expected is int:
        return whole(name, value, 0 if name == "ema_start" else 1)
    if value is None and expected == float | None:
        return None
    if expected in (float, float | None):
        number = positive(name, value)
        return value if type(value) is int else number
    if name == "betas" and isinstance(value, list | tuple) and len(value) == 2:
        return tuple(real(name, beta, 0.0, 1.0) for beta in value)
    if expected not in TYPES or not isinstance(value, expected):
        raise ValueError(f"{name} is {value!r}; expected {TYPES.get(expected, 'two numbers from 0 to 1')}")
    return value
