"""What a recipe is: everything that decides a run's numbers. The same recipe and seed is the same run."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields

_PROSE = ("name", "source", "reduced", "faithful")  # say what a recipe is for; decide no number


@dataclass(frozen=True)
class Recipe:
    """One run of one model on one data set, but for its seed.

    New fields may be added with a default that means "as before": a field at its default does not enter the hash, so
    the hashes of recorded results stay what they were. For the same reason a default must never change.

    Attributes:
        name: key in ``mmlib.runs.recipes.RECIPES`` and folder of the runs.
        model: name in ``mmlib.models.MODELS``.
        dataset: name for ``mmlib.data.load``.
        source: paper and table row that this answers to, or where it comes from.
        reduced: what is less than in the paper; empty if nothing is.
        faithful: the paper's data set, networks, objective and budget, as far as they are stated; what it leaves open
            is filled in as ``source`` says. Only such a recipe can reproduce a number: any other shows a direction.
        model_options: keywords of the model. ``joint_encoder`` is ``"features"`` or ``"images"`` (JMVAE).
        data_options: keywords of the data set.
        latent_dim: D; of a model with styles that of [style, content], its ``model_options`` giving ``style_dim``.
        width: factor on the widths of the networks; 1 is the paper.
        likelihood: ``"laplace"``, ``"normal"`` or ``"bernoulli"``, for all modalities.
        likelihood_scale: of Laplace (b) or normal (standard deviation), in pixels.
        weights: ``"pixels"`` (largest dimension / own dimension) or None for 1 everywhere.
        steps: optimizer steps.
        batch_size: rows a step.
        learning_rate: of Adam.
        betas: of Adam.
        eps: of Adam.
        amsgrad: of Adam.
        clip_norm: largest total norm of the gradient, or None.
        clip_value: largest entry of the gradient, or None.
        ema: decay of the running average of the weights that is evaluated; None evaluates the weights themselves.
        ema_start: steps during which the average is a copy of the weights.
        ema_ramp: let the average forget its beginning sooner, see ``mmlib.train.Ema``.
        minibatches: that every update of an adversarial model sees, see ``mmlib.train.fit_adversarial``.
        likelihood_rows: rows of the test split, the first ones, whose likelihoods are estimated.
        likelihood_k: importance samples for each, from each component of the posterior.
        validations: evaluations on the validation split along the way, evenly spaced; a multiple of 4.
    """

    name: str
    model: str
    dataset: str
    source: str
    steps: int
    reduced: str = ""
    faithful: bool = False
    model_options: dict = field(default_factory=dict)
    data_options: dict = field(default_factory=dict)
    latent_dim: int = 20
    width: float = 1.0
    likelihood: str = "laplace"
    likelihood_scale: float = 0.75
    weights: str | None = "pixels"
    batch_size: int = 128
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    amsgrad: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None
    ema: float | None = None
    ema_start: int = 0
    ema_ramp: bool = False
    minibatches: int = 1
    likelihood_rows: int = 200
    likelihood_k: int = 1000
    validations: int = 8

    def __post_init__(self) -> None:
        if self.steps < self.validations or self.validations < 4 or self.validations % 4:
            raise ValueError(
                f"validations is {self.validations}; "
                f"expected a multiple of 4, at least 4 and at most steps = {self.steps}"
            )

    @property
    def content(self) -> dict:
        """What decides the numbers, JSON-able: every field that is not prose and not at its default."""
        standard = Recipe(name="", model="", dataset="", source="", steps=8)
        always = ("model", "dataset", "steps")
        return {
            key: value
            for key, value in json.loads(json.dumps(asdict(self))).items()
            if key not in _PROSE and (key in always or value != _plain(getattr(standard, key)))
        }

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the content; they depend neither on the order of fields nor on prose."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def as_dict(self) -> dict:
        """Every field, JSON-able, with the hash."""
        return {**json.loads(json.dumps(asdict(self))), "hash": self.hash}


def from_dict(values: dict) -> Recipe:
    """The recipe of a recorded result: the inverse of :meth:`Recipe.as_dict`.

    Raises:
        ValueError: if a field is unknown.
    """
    known = {entry.name for entry in fields(Recipe)}
    unknown = set(values) - known - {"hash"}
    if unknown:
        raise ValueError(
            f"recipe has fields {', '.join(sorted(unknown))}; expected some of {', '.join(sorted(known))}"
        )
    values = {key: value for key, value in values.items() if key in known}
    if "betas" in values:
        values["betas"] = tuple(values["betas"])
    return Recipe(**values)


def _plain(value):
    return json.loads(json.dumps(value))
