"""The adversarial training loop: two sides, one optimiser each, and a watch on how many classes are still generated."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from mmlib.checks import one_of, positive, real, whole
from mmlib.metrics import Classifiers, classes_generated, prior_predictions
from mmlib.metrics.split import cast, device_of
from mmlib.seeding import child, generator
from mmlib.train.ema import Ema
from mmlib.train.history import History
from mmlib.train.loop import adam, adam_options, descend
from mmlib.train.rows import ready
from mmlib.train.session import Session

SIDES = ("discriminator", "generator")


class Collapsed(RuntimeError):
    """A model generates too few classes from its prior."""


@dataclass(frozen=True)
class Monitor:
    """Counts the classes that a model generates, so that a collapse is reported when it happens.

    A generator that shows one class in every modality looks perfectly coherent; only the count gives it away.

    Args:
        classifiers: judges, one for each modality, on the model's device.
        least: fewest classes that a healthy model shows in every modality.
        grace: steps before a lower count is reported: an untrained decoder shows one class or two.
        draws: from the prior, at each count.
        threshold: smallest share of the draws that makes a class count.
        stop: raise `Collapsed` in place of a warning.
    """

    classifiers: Classifiers
    least: int = 3
    grace: int = 1000
    draws: int = 500
    threshold: float = 0.01
    stop: bool = False

    def __post_init__(self) -> None:
        for name, least in {"least": 0, "grace": 0, "draws": 1}.items():
            whole(name, getattr(self, name), least)
        real("threshold", self.threshold, 0, 1)
        one_of("stop", self.stop, (True, False))

    def __call__(self, step: int, model: nn.Module, seed: int) -> dict[str, float]:
        """Count at a step: a row ``{"classes/<name>": ..., "classes/jointly": ..., "collapsed": 0 or 1}``.

        Raises:
            Collapsed: after the grace period, if that is asked for; otherwise there is a RuntimeWarning.
        """
        names = list(model.modalities)
        noise = generator(child(seed, "monitor", step), device_of(model))
        shown = prior_predictions(model, self.draws, self.classifiers, noise)
        if len(names) == 1:
            shown, names = shown.expand(2, -1), names * 2  # a lone modality agrees with itself
        total = next(self.classifiers.networks[name].classes for name in names)
        table = classes_generated(shown.cpu(), names, total, self.threshold)
        counts = {name: entry["count"] for name, entry in table.items()}
        fewest = min(counts[name] for name in names)
        collapsed = step > self.grace and fewest < self.least
        if collapsed:
            seen = ", ".join(f"{name} shows {counts[name]}" for name in dict.fromkeys(names))
            text = (
                f"the model has collapsed at step {step}: of {total} classes, {seen} in {self.draws} draws from the "
                f"prior (share at least {self.threshold:.0%}); expected at least {self.least}"
            )
            if self.stop:
                raise Collapsed(text)
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        return {**{f"classes/{name}": count for name, count in counts.items()}, "collapsed": int(collapsed)}


def fit_adversarial(
    model: nn.Module,
    split,
    steps: int,
    batch_size: int = 64,
    learning_rate: float = 2e-4,
    seed: int = 0,
    *,
    discriminator_learning_rate: float | None = None,
    discriminator_steps: int = 1,
    minibatches: int = 1,
    betas: tuple[float, float] = (0.5, 0.999),
    eps: float = 1e-8,
    callback: Callable[[int, nn.Module], dict] | None = None,
    monitor: Monitor | None = None,
    ema: Ema | None = None,
    **frame,
) -> History:
    """Train two sides in turn with Adam for a fixed number of steps; continue from a checkpoint where there is one.

    A step is ``discriminator_steps`` updates of the discriminator, then one of encoders and decoders. Every update has
    minibatches of its own. Otherwise as :func:`mmlib.train.loop.fit`: same bits, however often the run was stopped and
    continued; the caller's global random state and the model's mode are left alone.

    Args:
        model: has ``modalities`` and ``discriminator``, two modules without common weights, and for each side a
            ``<side>_loss(batch, mask, generator, second, validate) -> (scalar, scalar parts by name)`` whose graph
            stays on its side; with ``ema`` also ``with_modalities``.
        learning_rate: 2e-4 in the paper.
        discriminator_learning_rate: default: the same.
        discriminator_steps: updates of the discriminator in a step.
        minibatches: that an update sees, 1 or 2 (two in the released code's factorised runs, see
            `mmlib.models.mmali.MMALI.discriminator_loss`).
        callback: given the model with the encoders and decoders of ``ema``, if there is one.
        monitor: counts the classes generated by the same model, as often, and reports a collapse.
        ema: average of ``model.modalities``.
        split: as for ``fit``, as are the five that follow.
        steps: of both sides together.
        batch_size: rows of a minibatch.
        seed: of the order of the rows and of all noise.
        betas: of Adam.
        eps: of Adam.
        frame: all else that ``fit`` takes, but ``clip_norm``, ``clip_value``, ``amsgrad``, ``capture`` and
            ``schedule``: the sides of the game need rows of all kinds at once.

    Returns:
        The history: means of ``"<side>/loss"`` and ``"<side>/<part>"`` over the steps since the row before, and what
        ``callback`` and ``monitor`` gave.

    Raises:
        ValueError: as for ``fit``; so are FloatingPointError, Paused and KeyboardInterrupt.
        Collapsed: when the monitor was told to stop and sees a collapse.
    """
    if frame.get("schedule", "shuffled") != "shuffled":
        found = f"schedule is {frame['schedule']!r}"
        raise ValueError(f"{found}; expected 'shuffled': both sides of a game need rows of all kinds at once")
    options = adam_options(learning_rate, betas, eps)
    opponent = learning_rate if discriminator_learning_rate is None else discriminator_learning_rate
    rates = [positive("discriminator_learning_rate", opponent), options.pop("learning_rate")]
    options |= {
        "learning_rates": rates,
        "discriminator_steps": whole("discriminator_steps", discriminator_steps),
        "minibatches": whole("minibatches", minibatches, 1, 2),
    }
    looks = {"callback": callback, "monitor": partial(monitor, seed=seed) if callable(monitor) else monitor}
    losses = {side: f"{side}_loss" for side in SIDES}
    session = Session(
        model, split, losses, options, looks, ema, "modalities", steps, batch_size, seed, **frame
    )
    if ema is not None:
        session.shown = model.with_modalities(ema.model)
    split, noise = session.split, session.noise
    parts = model.discriminator, model.modalities
    optimizers = {
        side: adam(part, rate, options["betas"], options["eps"])
        for side, part, rate in zip(SIDES, parts, rates, strict=True)
    }
    updates = ["discriminator"] * discriminator_steps + ["generator"]

    def minibatch(number: int) -> tuple[dict[str, Tensor], dict[str, Tensor] | None]:
        rows = session.rows(number)
        batch, mask = cast(split.batch(rows, noise.device), session.dtype), split.mask(rows)
        return (batch, None) if mask is None else ready(batch, mask)

    def update(side: str, step: int, number: int) -> None:
        first, *second = (minibatch(number + k) for k in range(minibatches))
        loss, parts = getattr(model, f"{side}_loss")(
            *first, generator=noise, second=second[0] if second else None, validate=False
        )
        parts = {f"{side}/{name}": part.view(1) for name, part in parts.items()}
        session.watches[side].see(step + 1, loss, parts, model)
        descend(loss, optimizers[side])

    def advance(step: int) -> None:
        for u, side in enumerate(updates):
            update(side, step, (step * len(updates) + u) * minibatches)

    return session.run(advance, {f"adam.{side}": optimizer for side, optimizer in optimizers.items()})
