"""What differs between kinds of models: how a recipe trains one, and what is measured of it besides its coherences."""

from collections.abc import Callable

from torch import nn

from mmlib.metrics import (
    AttributeJudges,
    CaptionJudges,
    Report,
    evaluate,
    evaluate_likelihoods,
    evaluate_mutual_information,
    evaluate_relatedness,
    generation_quality,
    posterior_scales,
    released_coherence,
    style_content_accuracy,
)
from mmlib.runs.recipe import Recipe
from mmlib.seeding import child, generator
from mmlib.train import Ema, History, Monitor, fit, fit_adversarial

ADAM = ("batch_size", "learning_rate", "betas", "eps")  # settings of a recipe that every kind is trained with
NO_LIKELIHOOD = "none: the decoders are deterministic, so the model has no density"

QUALITY_RUNS = 3  # of k-means, behind precision and recall; the published code takes ten


def report(model: nn.Module, data, split: str, judges, seed: int, device) -> Report:
    """What is measured of every kind of model on one split: coherences, latent accuracies, quality of generation.

    Of several modalities also how near the codes of related items are, and how far judges with processes disagree.
    Judges of captions and of attributes have no classes: theirs are correlations, and average precision.
    """
    rows, draws = data.splits[split], generator(child(seed, split), device)
    found = evaluate(model, rows, judges, draws, data.train)
    if isinstance(judges, CaptionJudges | AttributeJudges):
        return found
    draws = generator(child(seed, split, "quality"), device)
    found["generation_quality"] = generation_quality(model, rows, judges, draws, runs=QUALITY_RUNS)
    if len(model.modalities) > 1:
        found["relatedness"] = evaluate_relatedness(model, rows)
        if judges.processes:
            draws = generator(child(seed, split, "classifiers"), device)
            found["mutual_information"] = evaluate_mutual_information(model, rows, judges, draws)
    return found


class ByLikelihood:
    """Models that maximise a bound of the likelihood: one loss, one optimiser."""

    def part(self, model: nn.Module) -> nn.Module:
        """What is averaged, saved and loaded again: all of the model."""
        return model

    def fit(self, recipe: Recipe, model: nn.Module, split, seed: int, capture: bool, **options) -> History:
        """Train by ``mmlib.train.fit``."""
        options |= {
            name: getattr(recipe, name) for name in (*ADAM, "schedule", "amsgrad", "clip_norm", "clip_value")
        }
        return fit(model, split, recipe.steps, seed=seed, capture=capture, **options)

    def monitor(self, recipe: Recipe, judges) -> Callable[[int, nn.Module, int], dict]:
        """What ``monitor(step, model, seed)`` measures along the way besides coherences and loss: nothing."""
        return lambda *_: {}

    def measure(self, recipe: Recipe, model: nn.Module, data, judges, seed: int, device) -> dict[str, dict]:
        """By split, what is measured at the end besides coherences and latent accuracies: likelihoods, on test."""
        draw = generator(child(seed, "likelihood"), device)
        found = evaluate_likelihoods(model, data.test, recipe.likelihood_k, draw, recipe.likelihood_rows)
        return {"test": {"log_likelihood": found}}


class Adversarial:
    """Models of two sides: encoders and decoders are averaged, measured and saved, the discriminator is not."""

    def part(self, model: nn.Module) -> nn.Module:
        """Encoders and decoders."""
        return model.modalities

    def fit(self, recipe: Recipe, model: nn.Module, split, seed: int, capture: bool, **options) -> History:
        """Train by ``mmlib.train.fit_adversarial``, which replays no CUDA graph: ``capture`` is left alone."""
        options |= {name: getattr(recipe, name) for name in (*ADAM, "minibatches", "schedule")}
        return fit_adversarial(model, split, recipe.steps, seed=seed, **options)

    def monitor(self, recipe: Recipe, judges) -> Callable[[int, nn.Module, int], dict]:
        """Counts the classes that are generated, if there are any; a late collapse is reported."""
        if isinstance(judges, CaptionJudges):
            return lambda *_: {}
        return Monitor(judges, grace=recipe.steps // 2)

    def measure(self, recipe: Recipe, model: nn.Module, data, judges, seed: int, device) -> dict[str, dict]:
        """By split, what content and style tell, how wide they are, and coherences with other styles; no likelihood.

        Judges of captions have no classes: then it is only how wide posteriors are.
        """
        found = {"validation": {}, "test": {}}
        for name, entries in found.items():
            if isinstance(judges, CaptionJudges):
                entries["posterior_scales"] = posterior_scales(model, data.splits[name])
                continue
            split, codes = data.splits[name], generator(child(seed, name, "codes"), device)
            entries["style_content_accuracy"] = style_content_accuracy(model, split, data.train, codes)
            entries["posterior_scales"] = posterior_scales(model, split)
            if len(model.modalities) > 1:
                styles = generator(child(seed, name, "styles"), device)
                entries["released_coherence"] = released_coherence(model, split, judges, styles)
        found["test"]["log_likelihood"] = NO_LIKELIHOOD
        return found


KINDS = {"mmali": Adversarial()}


def kind_of(recipe: Recipe) -> ByLikelihood | Adversarial:
    """How the recipe's model is trained: by its likelihood, unless ``KINDS`` says otherwise."""
    return KINDS.get(recipe.model, ByLikelihood())


def average(recipe: Recipe, model: nn.Module) -> tuple[Ema | None, nn.Module]:
    """The running average that the recipe asks for, if it does, and the model that is to be measured."""
    if recipe.ema is None:
        return None, model
    part = kind_of(recipe).part(model)
    ema = Ema(part, recipe.ema, recipe.ema_start, recipe.ema_ramp)
    return ema, ema.model if part is model else model.with_modalities(ema.model)
