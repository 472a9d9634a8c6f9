"""Average precision of attributes: by hand, of strings that are spelled, of models that know everything or nothing."""

import itertools

import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn import functional as F

from mmlib.data import load
from mmlib.data.attributes import CELEBA, read_strings, write_strings
from mmlib.data.text import ALPHABET, encode
from mmlib.metrics import (
    AttributeJudges,
    average_precision,
    average_precisions,
    evaluate,
    fit_attribute_judges,
    spelling,
)
from mmlib.metrics.attributes import agreement, generated_precisions, latent_precisions
from mmlib.metrics.split import at_rest

SMALL = {"train": 300, "validation": 30, "test": 200}


@pytest.fixture(scope="module")
def data(cache):
    return load("faces", 32, cache=cache, **SMALL)


@pytest.fixture(scope="module")
def judges(data):
    """A judge of pictures that looks them up: right about every face of every split, and 0.25 unsure."""
    pictures = torch.cat([split.items["image"].batch().flatten(1) for split in data.splits.values()])
    known = torch.cat(list(data.attributes.values()))

    def network(images):
        return known[torch.cdist(images.flatten(1), pictures).argmin(1)].float() - 0.25

    return AttributeJudges(network, data.attribute_names, known)


class Code:
    """A posterior whose mean holds the attributes, some of them or none."""

    def __init__(self, mean):
        self.mean = mean


class Oracle(nn.Module):
    """Finds what it is given in a split and answers with the true partner, or with that of another row."""

    def __init__(self, data, shift=0):
        super().__init__()
        self.modalities = nn.ModuleDict({"image": nn.Identity(), "text": nn.Identity()})
        parts = [(split.batch(), data.attributes[name]) for name, split in data.splits.items()]
        self.image = torch.cat([batch["image"] for batch, _ in parts])
        self.text, self.known = (torch.cat(x) for x in ([b["text"] for b, _ in parts], [a for _, a in parts]))
        self.shift = shift

    def find(self, batch, given):
        if "image" in given:
            return torch.cdist(batch["image"].flatten(1), self.image.flatten(1)).argmin(1)
        return (self.text[None] == batch["text"][:, None]).all(-1).int().argmax(1)

    def answer(self, rows):
        rows = (rows + self.shift) % len(self.image)
        return {"image": self.image[rows], "text": F.one_hot(self.text[rows], len(ALPHABET)).float()}

    def generate(self, batch, given, to, generator=None):
        made = self.answer(self.find(batch, given))
        return {name: made[name] for name in to}

    def posterior(self, batch, given):
        rows = (self.find(batch, given) + self.shift) % len(self.image)
        return Code(self.known[rows].float() + 0.01 * torch.randn(len(rows), self.known.shape[1]))

    def sample(self, n, generator=None):
        rows = torch.randint(len(self.image), (n,), generator=generator)
        return {"image": self.answer(rows)["image"], "text": self.answer(rows + self.shift)["text"]}


@pytest.fixture(scope="module")
def reports(data, judges):
    draw = torch.Generator().manual_seed(0)
    return [evaluate(Oracle(data, s), data.test, judges, draw, data.train, samples=150) for s in (0, 131)]


# --- by hand --------------------------------------------------------------------------------------------------------


def test_average_precision_by_hand():
    """Positives at ranks 1 and 3 of 4: (1/1 + 2/3) / 2; at ranks 2 and 4: (1/2 + 2/4) / 2; alike ones are left out."""
    truth = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.bool)
    scores = torch.tensor([[4.0, 4, 1], [3, 3, 2], [2, 2, 3], [1, 1, 4]])
    found = average_precisions(truth, scores, ["a", "b", "c"])
    assert {name: entry["value"] for name, entry in found.items()} == pytest.approx(
        {"a": 5 / 6, "b": 1 / 2, "mean": 2 / 3}
    )
    assert found["a"]["n"] == 4 and found["a"]["se"] is None


@pytest.mark.equation("eq-average-precision")
def test_average_precision_is_that_of_another_library_and_falls_with_ties():
    draw = torch.Generator().manual_seed(0)
    truth, scores = (
        torch.rand(200, generator=draw) < 0.2,
        torch.rand(200, generator=draw, dtype=torch.float64),
    )
    for s in (scores, (5 * scores).floor(), torch.where(truth, scores + 0.3, scores)):  # also with many ties
        assert float(average_precision(truth, s)) == pytest.approx(
            average_precision_score(truth.numpy(), s.numpy()), abs=1e-12
        )
    assert average_precision(truth, torch.zeros(200)) == truth.double().mean()
    assert average_precision(truth, truth.double()) == 1


def test_scores_in_random_order_give_a_little_more_than_the_share():
    """faces.ipynb, prop-faces-chance: (a - 1) / (n - 1) + (n - a) / (n - 1) H_n / n, over every order of six."""
    truth = torch.tensor([True, True, False, False, False, False])
    every = [
        average_precision(truth, torch.tensor(order).double()) for order in itertools.permutations(range(6))
    ]
    harmonic = sum(1 / n for n in range(1, 7))
    assert float(torch.stack(every).mean()) == pytest.approx(1 / 5 + 4 / 5 * harmonic / 6, abs=1e-12)


def test_scores_that_know_nothing_give_the_share():
    """200 faces of 10,000 have it; the standard error of chance is of the order of the share / sqrt(200)."""
    truth = torch.zeros(10_000, 1, dtype=torch.bool)
    truth[:200] = True
    found = average_precisions(
        truth, torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0)), ["a"]
    )
    assert found["a"]["value"] == pytest.approx(0.02, abs=0.008)


@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [
        (
            torch.ones(3, 2, dtype=torch.bool),
            torch.zeros(3, 3),
            r"truth and scores have shapes \(3, 2\), \(3, 3\)",
        ),
        (torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2), "truth has 3 rows, all alike"),
    ],
)
def test_wrong_shapes_and_single_answers_are_refused(truth, scores, message):
    with pytest.raises(ValueError, match=message):
        average_precisions(truth, scores, ["a", "b"])


def test_agreement_by_hand():
    stated, truth = (
        torch.tensor([[1, 1, 0], [0, 0, 0], [1, 0, 0]]).bool(),
        torch.tensor([[1, 0, 1], [0] * 3, [1, 0, 0]]),
    )
    assert agreement(stated, truth.bool()).tolist() == pytest.approx([1 / 3, 1, 1])


# --- strings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["start", "random"])
def test_spelling_is_one_for_exactly_what_a_string_states(place):
    draw = torch.Generator().manual_seed(0)
    has = torch.rand(300, 40, generator=draw) < 0.2
    scores = spelling(write_strings(has, CELEBA, place, draw), CELEBA)
    assert torch.equal(scores == 1, has) and scores.max() == 1 and scores.min() >= 0
    assert (
        scores[~has].max() <= 1 - 1 / 20 + 1e-6
    )  # the longest name has 19 characters, of which one is wrong


def test_spelling_grades_what_is_nearly_spelled():
    """mmJSD Table 15: "woung" is four of five letters of "young" and both of its ends; "male" is no part of a word."""
    text = encode(["bangs, gray hair, woung".ljust(256, "*")])
    scores = dict(zip(CELEBA, spelling(text, CELEBA)[0].tolist(), strict=True))
    assert scores["Young"] == pytest.approx(6 / 7) and scores["Bangs"] == scores["Gray_Hair"] == 1
    assert read_strings(text, CELEBA)[0].sum() == 2
    inside = spelling(encode(["female, xmale, malex".ljust(256, "*")]), ["Male"])
    assert inside.item() == pytest.approx(5 / 6)
    apart = spelling(
        encode(["young male,bald".ljust(256, "*")]), ["Young", "Male", "Bald"]
    )  # no comma, and no blank
    assert apart[0].tolist() == pytest.approx([6 / 7, 1, 5 / 6])


@pytest.mark.equation("eq-spelling")
def test_spelling_is_linear_in_probabilities_at_one_place():
    one, other = encode(["male".ljust(32, "*"), "bald".ljust(32, "*")])
    mixed = (0.75 * F.one_hot(one, 71) + 0.25 * F.one_hot(other, 71)).requires_grad_()
    found = spelling(mixed[None], ["Male", "Bald"])[0]
    # the two share "al", and both ends are sure
    assert found.tolist() == pytest.approx([(4 + 2 * 0.75) / 6, (4 + 2 * 0.25) / 6])
    (slope,) = torch.autograd.grad(found[0], mixed)  # a sixth for each letter that is asked for
    assert slope[0, ALPHABET.index("m")] == pytest.approx(1 / 6) and slope.sum() == pytest.approx(
        5 / 6 + 1 / 6
    )


# --- models ---------------------------------------------------------------------------------------------------------


def test_a_model_that_knows_the_answer_scores_one_and_another_by_chance(reports):
    knows, guesses = reports
    share = knows.value("attribute_share", "mean")
    for given in ("image", "text", "all"):
        for made in ("image", "text"):
            path = "generation_precision", given, made
            assert knows.value(*path, "mean") == 1, path
            assert guesses.value(*path, "mean") == pytest.approx(share, abs=0.06), path
        assert knows.value("latent_precision", given, "mean") > 0.98
        assert knows.value("latent_precision", given, "Smiling") == 1
        assert guesses.value("latent_precision", given, "mean") < share + 0.1
    assert knows.value("joint_precision", "mean") == 1 > 0.6 > guesses.value("joint_precision", "mean")
    for name in ("image", "text"):
        assert knows.value("real_precision", name, "mean") == 1
    assert knows["rows"] == 200 and knows["generation_precision"]["image"]["text"]["Male"]["n"] == 200


def test_strings_are_held_against_the_rule_and_the_faces(reports):
    knows, guesses = reports
    assert {entry["value"] for entry in knows["well_formed"].values()} == {1.0}
    assert set(knows["well_formed"]) == {"real", "image", "text", "all", "prior"}
    found = {view: entry["value"] for view, entry in knows["string_agreement"].items()}
    assert found.pop("shuffled") < 0.5 and set(found.values()) == {1.0}
    assert guesses.value("string_agreement", "image") == pytest.approx(
        guesses.value("string_agreement", "shuffled"), abs=0.05
    )


def test_the_report_prints_means(reports):
    text = str(reports[0])
    assert "average precision, code" in text and "image to text" in text and "strings well formed" in text
    assert max(map(len, text.splitlines())) < 80


def test_rows_that_miss_a_modality_count_where_they_can(data, judges):
    split = data.test.with_missing(0.5, torch.Generator().manual_seed(0))
    report = evaluate(Oracle(data), split, judges, torch.Generator().manual_seed(0), samples=10)
    n = {view: report["generation_precision"][view]["text"]["mean"]["n"] for view in ("image", "text", "all")}
    assert n["all"] == 100 and n["image"] + n["text"] == 300
    assert "latent_precision" not in report
    alone = (
        load("faces", 32, cache=None, **SMALL) if False else data.test.with_missing(1.0, torch.Generator())
    )
    with pytest.raises(ValueError, match="train has no row that observes both image and text"):
        latent_precisions(Oracle(data), data.test, alone, judges, ["image"])
    no_text = alone.select(alone.observed["image"])
    assert set(generated_precisions(Oracle(data), no_text, judges, ["image", "text"])) == {"image"}


# --- the judge of pictures ------------------------------------------------------------------------------------------


def test_the_judge_learns_from_the_training_split_and_is_kept(data, cache):
    options = {"steps": 60, "batch_size": 32, "width": 0.03, "cache": cache}
    judges = fit_attribute_judges(data, **options)
    assert not judges.network.training and judges.showable
    batch, truth = data.test.batch(), data.attributes["test"]
    assert torch.equal(judges.truth(data.test.original("image")), truth)
    found = average_precisions(truth, judges.scores("image", batch["image"]), judges.names)
    assert (
        found["Black_Hair"]["value"] > 0.6 > 0.4 > truth[:, judges.names.index("Black_Hair")].float().mean()
    )
    folders = list(cache.glob("classifiers-faces-attributes-*"))
    again = fit_attribute_judges(data, **options)
    assert torch.equal(again.scores("image", batch["image"]), judges.scores("image", batch["image"]))
    part = load("faces", 32, cache=cache, paired=0.5, place="random", **SMALL)  # other pairs, the same faces
    fit_attribute_judges(part, **options)
    assert list(cache.glob("classifiers-faces-attributes-*")) == folders
    half = judges.scores("image", batch["image"].half())  # of a model of another precision
    assert half.dtype == torch.float32
    judges.network.train()
    with pytest.raises(ValueError, match="judges.network has BatchNorm2d .* in training mode"):
        judges.scores("image", batch["image"])
    assert fit_attribute_judges(data, **options).to("cpu").network is not judges.network


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"width": 0}, "width is 0"),
        ({"shift": -1}, "shift is -1"),
        ({"device": "abacus"}, "device"),
    ],
)
def test_impossible_options_are_refused(data, options, message):
    with pytest.raises(ValueError, match=message):
        fit_attribute_judges(data, cache=False, **options)


def test_other_data_and_other_models_are_refused(data, judges):
    with pytest.raises(ValueError, match="expected faces with attributes"):
        fit_attribute_judges(data.test)
    model = Oracle(data)
    model.modalities = nn.ModuleDict({"image": nn.Identity(), "caption": nn.Identity()})
    with pytest.raises(ValueError, match="model has modalities image, caption; expected image and text"):
        evaluate(model, data.test, judges)


def test_a_model_at_rest_gets_its_modes_back():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    with pytest.raises(RuntimeError), at_rest(model) as resting:
        assert not any(part.training for part in resting.modules())
        raise RuntimeError
    assert [part.training for part in model.modules()] == [True, True, False]
