"""Scores of pictures and captions: real pairs above, shuffled ones below, models that know everything or nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmlib.data import load
from mmlib.distributions import Diagonal, Mixture
from mmlib.metrics import (
    cross_correlation,
    evaluate,
    evaluate_captions,
    fit_caption_judges,
    surest_captions,
)
from mmlib.metrics.captions import picture_relatedness

pytest.importorskip("gensim")
SMALL = {"train": 400, "validation": 60, "test": 60, "captions": 3}


@pytest.fixture(scope="module")
def data(cache):
    return load("birds", cache=cache, **SMALL)


@pytest.fixture(scope="module")
def judges(data, cache):
    return fit_caption_judges(data, size=40, k=8, cache=cache)


class Oracle(nn.Module):
    """Finds what it is given in a split and answers with the true partner, or with that of another row."""

    def __init__(self, split, classes, shift=0):
        super().__init__()
        self.modalities = nn.ModuleDict({"image": nn.Identity(), "caption": nn.Identity()})
        self.rows, self.classes, self.shift = split.batch(), classes, shift
        self.number = split.original("image", torch.arange(len(split)))

    def answer(self, rows):
        rows = (rows + self.shift) % len(self.rows["image"])
        return {
            "image": self.rows["image"][rows],
            "caption": F.one_hot(self.rows["caption"][rows], self.classes).float(),
        }

    def generate(self, batch, given, to, generator=None):
        name = given[-1]
        same = (self.rows[name][None] == batch[name][:, None]).flatten(2).all(-1)
        made = self.answer(same.int().argmax(1))
        return {name: made[name] for name in to}

    def posterior(self, batch, given):
        """Codes are row numbers, a picture's that of its partner."""
        (name,) = given
        rows = (self.rows[name][None] == batch[name][:, None]).flatten(2).all(-1).int().argmax(1)
        number = self.number[(rows + self.shift * (name == "image")) % len(self.number)]
        loc = F.one_hot(number - self.number.min()).float()[None]
        return Mixture(Diagonal(loc, torch.ones_like(loc)), torch.zeros(loc.shape[:2]))

    def sample(self, n, generator=None):
        rows = torch.randint(len(self.rows["image"]), (n,), generator=generator)
        return {"image": self.answer(rows)["image"], "caption": self.answer(rows + self.shift)["caption"]}


@pytest.fixture(scope="module")
def reports(data, judges):
    models = [Oracle(data.test, len(data.vocabulary), shift) for shift in (0, 97)]
    return [evaluate(m, data.test, judges, torch.Generator().manual_seed(0), samples=180) for m in models]


def test_a_model_that_knows_the_answer_scores_as_real_pairs_do(reports):
    knows, guesses = reports
    for convention in ("whitened", "official"):
        real, shuffled = (knows.value("correlation", convention, what) for what in ("real", "shuffled"))
        assert real > 0.3 > 0.15 > abs(shuffled)
        for place in (
            ("cross", "image", "caption"),
            ("cross", "caption", "image"),
            ("synergy", "image"),
            ("joint",),
        ):
            assert knows.value("correlation", convention, *place) == pytest.approx(real, abs=0.06), place
            assert abs(guesses.value("correlation", convention, *place)) < 0.25, place
    assert knows["rows"] == 180


def test_captions_are_held_against_the_grammar_and_the_pictures(reports):
    assert {entry["value"] for entry in reports[0]["parse_rate"].values()} == {1.0}
    true, false = (r["attribute_agreement"] for r in reports)
    assert true["real"]["value"] == true["caption"]["image"]["value"] == true["caption"]["all"]["value"] == 1
    assert false["caption"]["image"]["value"] < 0.5
    assert true["shuffled"]["value"] < 0.4 < true["told"]["value"] < 1
    assert true["image"]["caption"]["value"] == pytest.approx(true["told"]["value"])
    assert true["told"]["value"] > true["shuffled"]["value"] + 0.1
    assert true["joint"]["value"] > false["joint"]["value"] + 0.1
    assert true["real"]["clusters"] == 60 and true["real"]["n"] == 180  # three captions a picture


def test_codes_of_one_picture_are_nearer_where_the_model_knows(data, reports):
    knows, guesses = (report["relatedness"]["image,caption"] for report in reports)
    assert knows["value"] > 0.9  # not 1: two birds may have the same caption
    assert 0.4 < guesses["value"] < 0.6 and (knows["n"], knows["clusters"]) == (180, 60)
    few = picture_relatedness(Oracle(data.test, 79), data.test, 20)
    assert few["n"] == 20


def test_a_report_prints_what_it_holds(reports):
    text = str(reports[0])
    for line in (
        "correlation, whitened",
        "image to caption",
        "all to image",
        "parse rate, per cent",
        "shuffled",
    ):
        assert line in text


def test_scores_along_the_way_are_those_of_the_report(data, judges, reports):
    model, batch = Oracle(data.test, len(data.vocabulary), 97), data.test.batch()
    for given, made in (("image", "caption"), ("caption", "image")):
        found = cross_correlation(model, batch, given, judges).mean().item()
        assert found == pytest.approx(reports[1].value("correlation", "whitened", "cross", given, made))


def test_judges_are_fitted_once_and_read_again(data, judges, cache):
    again = fit_caption_judges(data, size=40, k=8, cache=cache)
    assert torch.equal(again.vectors, judges.vectors)
    fifth = load("birds", cache=cache, fraction=0.9, **SMALL)
    assert fit_caption_judges(fifth, size=40, k=8, cache=False).vectors.shape == judges.vectors.shape
    plain = fit_caption_judges(data, size=40, k=8, a=None, remove=False, cache=False)
    assert plain.direction is None and set(plain.weights.tolist()) == {0.0, 1.0}
    batch = data.test.batch()
    assert not torch.allclose(plain.sentences(batch["caption"]), judges.sentences(batch["caption"]))


def test_judges_of_codes_read_them_and_correlate_them_as_they_are(data, judges, cache):
    """Word vectors and projections are those of words, so that scores compare; codes have a projection of their own."""
    coded = load("birds", cache=cache, caption_view="codes", **SMALL)
    reading = fit_caption_judges(coded, size=40, k=8, cache=cache)
    assert torch.equal(reading.vectors, judges.vectors) and set(reading.projections) == {
        *judges.projections,
        "codes",
    }
    images, codes = (coded.test.batch()[name] for name in ("image", "caption"))
    said = coded.coder.decode(codes)
    for convention in judges.projections:
        found = reading.correlation(images, codes, convention)
        assert torch.equal(found, judges.correlation(images, said, convention))
    assert torch.equal(reading.symbols(said), said) and reading.read(codes) == judges.vocabulary.decode(said)
    assert reading.read(codes) == reading.to("cpu").read(codes)
    real, away = (reading.correlation(images, x, "codes").mean() for x in (codes, codes.roll(91, 0)))
    assert real > 0.3 > 0.15 > away.abs()
    birds = coded.attributes["test"][coded.test.index["image"]]
    found, same = reading.agreement(codes, birds), judges.agreement(said, birds)
    assert all(torch.equal(a, b) for a, b in zip(found, same, strict=True))


def test_the_nearest_training_picture_of_one_is_itself(data, judges):
    features = data.train.items["image"].values[:50]
    assert judges.nearest(features, rows=20).tolist() == list(range(50))


def test_what_cannot_be_judged_is_refused(data, judges):
    with pytest.raises(ValueError, match="data is no data set of features and captions"):
        fit_caption_judges(load("multi-hand"))
    model = Oracle(data.test, len(data.vocabulary))
    model.modalities = nn.ModuleDict({"image": nn.Identity(), "text": nn.Identity()})
    with pytest.raises(ValueError, match="model has modalities image, text; expected image and caption"):
        evaluate_captions(model, data.test, judges)


def test_the_surest_of_several_captions_is_kept():
    """Two draws of two captions: the second is surer of the first row up to its end, the first of the second row."""
    first = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.1, 0.0, 0.9, 0.0]]).repeat(
        2, 1, 1
    )  # symbol 0, then the end
    second = torch.tensor([[0.3, 0.0, 0.1, 0.6], [0.0, 0.0, 1.0, 0.0]]).repeat(2, 1, 1)
    second[1, 0] = torch.tensor([0.3, 0.0, 0.3, 0.4])
    tail = torch.full((2, 1, 4), 0.25)  # after the end nothing counts
    tail[1, 0] = torch.tensor([0.1, 0.7, 0.1, 0.1])

    class Two:
        def __init__(self, *draws):
            self.draws = iter(draws)

        def generate(self, batch, given, to, generator):
            return {"caption": next(self.draws)}

    two = Two(torch.cat([first, tail.flip(0)], 1), torch.cat([second, tail], 1))
    assert surest_captions(two, {}, ["image"], 2)[:, :2].tolist() == [[3, 2], [0, 2]]
    unsure = torch.tensor(
        [[[0.6, 0.4, 0.0], [0.2, 0.2, 0.6]]]
    )  # of the word a little surer, but not of the end
    sure = torch.tensor([[[0.45, 0.55, 0.0], [0.0, 0.0, 1.0]]])
    assert surest_captions(Two(unsure, sure), {}, ["image"], 2).tolist() == [[1, 2]]
