"""What the chapter on captions and birds shows: recorded runs, picked captions, and statistics of real captions."""

import math

import pytest
import torch
import yaml

from mmlib.book import cub_captions, speed
from mmlib.book.figures import birds as figures
from mmlib.book.figures import birds_codes, birds_real
from mmlib.data import CaptionedSet, load
from mmlib.data.core import Items, PairedSplit
from mmlib.data.cub_files import CubPicture
from mmlib.data.vocabulary import Vocabulary
from mmlib.distributions import Diagonal
from mmlib.metrics import CaptionJudges, Projection, cca_score
from mmlib.nets import CaptionDecoder, CaptionEncoder
from mmlib.runs.recipes import RECIPES


def run(seed, value):
    """A result whose every score is a value, but for the pairs that bracket it."""
    ways = {"image": {"caption": value}, "caption": {"image": value}}
    scores = {"real": 0.6, "shuffled": 0.0, "joint": value / 2, "cross": ways}
    scores["synergy"] = {"caption": value, "image": value}
    true = {
        "real": 1.0,
        "shuffled": 0.2,
        "caption": {"image": value, "all": value},
        "image": {"caption": value},
    }
    report = {
        "correlation": {"official": scores, "whitened": scores},
        "parse_rate": {"image": value, "all": value},
        "attribute_agreement": true,
    }
    return {"seed": seed, "metrics": {"test": report}}


def test_every_row_has_its_recipe():
    for share in (100, 20):
        for model in figures.MODELS:
            recipe = RECIPES[figures.recipe(model, share)]
            assert recipe.data_options.get("fraction", 1) == share / 100
    for model in figures.PARTLY:
        assert RECIPES[figures.partly(model, 0.25)].data_options == {"paired": 0.25}
        assert not RECIPES[figures.partly(model, 1)].data_options
    rows = figures.rows_of_table_5()
    assert len(rows) == len(set(rows)) == 3 + 2 * 9 + 1
    always = {"image": {"always": "image"}, "caption": {"always": "caption"}, "split": {}}
    for model, scheme, f in rows:
        options = {"paired": f} | always[scheme] if f < 1 else {}
        assert RECIPES[figures.partly(model, f, scheme)].data_options == options
    assert {figures.partly(*row) for row in [(m, f, s) for m, s, f in rows]} == {
        name for name in RECIPES if RECIPES[name].source.startswith("Joy") and name.startswith("birds")
    } | {"birds-mvae", "birds-mmvae-iwae"}


def test_tables_have_a_dash_where_nothing_is_recorded(files):
    assert "| MVAE | 0.075 | – | -0.008 | – | 0.000 | – |" in str(figures.table_2(100)).splitlines()
    files["birds-mvae"] = [run(seed, 0.3) for seed in range(3)]
    lines = str(figures.table_2(100)).splitlines()
    assert (
        "| MVAE | 0.075 | 0.15 [0.15, 0.15] (3) | -0.008 | 0.30 [0.30, 0.30] (3) | 0.000 | 0.30 [0.30, 0.30] (3) |"
        in lines
    )
    assert "| JMVAE | – | – | – | – | – | – |" in lines
    assert "| real pairs | – | 0.60 | – | 0.60 | – | 0.60 |" in lines
    lines = str(figures.truth()).splitlines()
    assert f"| MVAE, 100 % |{' 30 [30, 30] (3) |' * 5}" in lines
    assert "| shuffled pairs | – | 20 | – | – | – |" in lines
    files["birds-meme-split-0.25"] = [run(0, 0.3)]
    lines = str(figures.table_5()).splitlines()
    assert "| MEME, f = 0.25, one or the other | 0.031 | 0.30 (1) | 0.047 | 0.30 (1) |" in lines
    assert not any(line.startswith("| MMVAE") for line in lines)
    assert "| real pairs | – | 0.60 | – | 0.60 |" in lines
    lines = str(figures.table_whitened()).splitlines()
    assert f"| MVAE |{' 0.15 [0.15, 0.15] (3) |'}{' 0.30 [0.30, 0.30] (3) |' * 4}" in lines
    assert f"| real pairs |{' 0.60 |' * 5}" in lines
    lines = str(figures.table_2(100, figures.SYNERGY)).splitlines()
    assert "| MVAE | 0.001 | 0.30 [0.30, 0.30] (3) | -0.002 | 0.30 [0.30, 0.30] (3) |" in lines


def test_table_4_has_codes_and_words(files):
    """What is printed of MMALI stands beside the score of codes; words have the projection of all other models."""
    lines = str(birds_codes.table_4()).splitlines()
    assert "| MMALI, codes | 0.502 | – | 0.488 | – | 0.545 | – | 0.406 | – |" in lines
    found = [run(seed, 0.3) for seed in range(2)]
    for result in found:
        report = result["metrics"]["test"]
        report["correlation"] |= {"codes": run(0, 0.4)["metrics"]["test"]["correlation"]["official"]}
        report["parse_rate"] |= {"prior": 0.3, "real": 0.9}
    files[birds_codes.MMALI] = found
    lines = str(birds_codes.table_4()).splitlines()
    value, words = "0.40 [0.40, 0.40] (2)", "0.30 [0.30, 0.30] (2)"
    here = f"0.20 [0.20, 0.20] (2) | 0.488 | {value} | 0.545 | {value} | 0.406 | 0.60 |"
    assert f"| MMALI, codes | 0.502 | {here}" in lines
    assert f"| MMALI, words | – | 0.15 [0.15, 0.15] (2) | – | {words} | – | {words} | – | 0.60 |" in lines
    assert "| shuffled, codes | – | – | – | – | – | – | – | 0.00 |" in lines
    lines = str(birds_codes.truth_of_codes()).splitlines()
    assert f"| MMALI |{' 30 [30, 30] (2) |' * 6}" in lines and f"| JMVAE |{' – |' * 6}" in lines
    assert "| real captions, as codes | 90 | 100 | 90 | 100 | – | – |" in lines


def test_a_round_trip_is_counted_by_words_and_by_captions():
    """A coder that forgets the last word of every other caption."""
    said = [f"this bird has a {a} crown" for a in ("red", "blue")]
    words = Vocabulary.of([c.split() for c in said], more_than=0)
    symbols = words.encode([c.split() for c in said], 8)

    class Coder:
        def decode(self, codes):
            back = symbols.clone()
            back[1, 5] = back[1, 4]
            return back if len(codes) == 2 else None

    def part(values, symbols=None):
        items = {"caption": Items(values, torch.zeros(2).long(), torch.arange(2), symbols)}
        split = PairedSplit(items, {"caption": torch.arange(2)}, torch.zeros(2).long())
        return {"train": split, "validation": split, "test": split}

    plain = CaptionedSet("a", **part(symbols, len(words)), provenance={}, vocabulary=words)
    coded = CaptionedSet(
        "a", **part(torch.zeros(2, 3)), provenance={}, vocabulary=words, coder=Coder(), words=plain
    )
    found = birds_codes.round_trip(coded)
    assert found["words"] == pytest.approx(1 - 1 / 14) and found["whole captions"] == 0.5
    assert found["parse"] == found["half-way"] == 0.5


def test_meme_is_held_against_mvae_where_it_is_least_ahead(files):
    rows = [(scheme, f) for scheme in figures.SCHEMES for f in (*figures.SHARES, 1)]
    for scheme, f in rows:
        for model, value in (("MEME", 0.5), ("MVAE", 0.2)):
            files[figures.partly(model, f, scheme)] = [run(seed, value) for seed in range(3)]
    assert figures.above_mvae().mean == pytest.approx(0.3)
    files["birds-meme-caption-0.125"] = [run(seed, 0.1) for seed in range(3)]
    assert figures.above_mvae().mean == pytest.approx(-0.1)
    labels = [line.get_label() for line in figures.figure_6()[0].lines]
    assert "MEME, captions always" in labels
    for f in figures.SHARES:
        files.pop(f"birds-meme-caption-{f:g}")
    assert "MEME, captions always" not in [line.get_label() for line in figures.figure_6()[0].lines]
    assert figures.above_mvae() is None


def test_the_best_of_a_bird_s_own_captions_is_one_of_them():
    """Two birds, two captions each, in mixed order; the score is the first symbol, of the second bird less it."""
    values = torch.tensor([[5, 1], [3, 1], [7, 1], [4, 1]])
    number = torch.tensor([9, 8, 8, 9])
    split = PairedSplit(
        {"image": Items(torch.tensor([[1.0], [-1.0]]), torch.zeros(2).long(), torch.tensor([8, 9])),
         "caption": Items(values, torch.zeros(4).long(), number, 8)},
        {"image": torch.tensor([0, 1, 0]), "caption": torch.tensor([1, 0, 2])}, torch.zeros(3).long(),
    )  # fmt: skip

    class Judges:
        def correlation(self, images, symbols, convention):
            return images[:, 0] * symbols[:, 0]

    found = figures.best_of_own(Judges(), split, torch.arange(3))
    assert found[:, 0].tolist() == [7, 4, 7]


def test_a_claim_wants_three_seeds(files):
    files["a"] = [run(seed, 0.7) for seed in range(2)]
    assert (
        figures.level("a", "parse_rate/image") is None
        and figures.half_way("a", "attribute_agreement/caption/image") is None
    )
    assert figures.ahead("a", "parse_rate/all", "attribute_agreement/shuffled") is None
    files["a"].append(run(2, 0.7))
    assert figures.ahead("a", "parse_rate/all", "attribute_agreement/shuffled").mean == pytest.approx(0.5)
    assert figures.level("a", "parse_rate/image").mean == pytest.approx(0.7)
    assert figures.half_way("a", "attribute_agreement/caption/image").mean == pytest.approx(0.1)


def test_the_best_caption_of_a_picture_is_picked():
    torch.manual_seed(0)
    means, directions = (torch.zeros(3), torch.ones(4)), (torch.randn(3, 2), torch.randn(4, 2))
    projection = Projection(*(tuple(x.double() for x in pair) for pair in (means, directions)), torch.ones(2))
    views = torch.randn(6, 4), torch.ones(6).double(), None, {"whitened": projection}
    judges = CaptionJudges(*views, Vocabulary(("a", "b", "c")), torch.zeros(1, 3))
    images, symbols = torch.randn(5, 3), torch.randint(3, 6, (7, 4))
    found = figures.best_captions(judges, images, symbols, rows=2)
    for image, caption in zip(images, found, strict=True):
        each = cca_score(projection, image.expand(7, 3), judges.sentences(symbols))
        assert torch.equal(judges.sentences(caption[None])[0], judges.sentences(symbols)[each.argmax()])


def test_length_does_not_count_for_the_angle():
    judges = CaptionJudges(None, None, None, {}, None, torch.tensor([[1.0, 0.0], [0.0, 9.0], [0.1, 0.1]]))
    images = torch.tensor([[0.1, 0.0], [0.02, 0.1]])
    assert figures.nearest_by_angle(judges, images).tolist() == [0, 1] and judges.nearest(
        images
    ).tolist() == [2, 2]


def test_layers_are_listed_with_their_shapes():
    lines = str(figures.layers(CaptionEncoder(), CaptionDecoder(), torch.zeros(1, 32, dtype=torch.long)))
    assert "| word vectors: 1 x 32 x 128 | code: 64 x 1 x 1 |" in lines
    assert "| two heads: 64 x 1 x 1 |" in lines and "logits: 32 x 1590 |" in lines


# --- statistics of captions -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures():
    pytest.importorskip("gensim")
    said = {
        "red": "a red bird with a small beak and long wings",
        "blue": "the blue bird has a long beak and grey wings",
    }
    made, number = [], 0
    for label in range(1, 15):
        for _ in range(3):
            number += 1
            colour = ("red", "blue")[(label + number) % 2]
            captions = tuple(tuple(f"{said[colour]} {'and tail' * (i % 3)}".split()) for i in range(10))
            made.append(
                CubPicture(number, f"{number}.jpg", label, "trainval" if label < 12 else "test", captions)
            )
    return made


def test_captions_are_counted_and_compared(pictures):
    found = cub_captions.measured(pictures, size=12, epochs=1, k=1)
    assert found["counts"]["pictures"] == 42 and found["counts"]["captions"] == 420
    assert found["counts"]["longer than 31 words"] == 0 and found["counts"]["unknown words of test"] == 0
    assert set(found["nearest words"]["red"]) < {word for p in pictures for c in p.captions for word in c}
    for pairs in found["agreement"].values():
        assert pairs["one picture"] > 0.9 > pairs["two pictures"]


def test_what_is_recorded_holds_no_caption_and_names_its_recipe():
    found = cub_captions.recorded()
    assert found["recipe"]["command"] == "python -m mmlib.book.cub_captions"
    assert found["counts"]["captions"] == 10 * found["counts"]["pictures"] == 117_880
    assert all(" " not in word for near in found["nearest words"].values() for word in near)
    assert "117,880" in str(birds_real.real_captions())


def test_a_vae_of_captions_is_held_against_counting(pictures):
    options = {"steps": 40, "batch_size": 16, "width": 0.1, "latent_dim": 4, "rows": 20, "k": 2}
    found = cub_captions.caption_codes(pictures, **options)
    nats = found["nats a word"]
    assert nats["VAE"] >= nats["VAE, 2 draws"] and nats["words at their place"] < nats["words as such"]
    assert set(found["nearer"]) == {"codes, untrained", "codes", "words in common, rare ones count more"}
    assert found["code"]["KL, nats a caption"] > 0 and found["code"]["numbers with a KL above 0.1"] <= 4


def test_a_collapsed_code_is_told_by_its_kl_and_by_the_words_it_holds():
    """One number in four says the first two words and little else, the others are the prior."""
    symbols = torch.tensor([[3, 4, 5], [3, 4, 6], [3, 5, 5], [3, 5, 6]]).repeat(100, 1)
    loc, scale = torch.zeros(400, 4), torch.ones(400, 4)
    loc[:, 2] = torch.tensor([-1.5, -0.5, 0.5, 1.5]).repeat(100)
    scale[:, 2] = 0.5
    prior = Diagonal(torch.zeros(4), torch.ones(4), "normal")
    kl, used, own, other = cub_captions.told_by(Diagonal(loc, scale, "normal"), prior, symbols).values()
    assert kl == pytest.approx((0.25 + 1.25 - 1) / 2 + math.log(2), abs=0.005)  # of one normal, by hand
    assert used == 1 and own == 0.8 and other < 0.05  # means -1 and 1 of a variance 1.25


def test_counting_gives_the_entropy_of_a_chain():
    """Symbols 3 and 4 in turn, 3 first, and an end: all is certain after a word, and nothing but the end without."""
    chain = torch.tensor([[3, 4] * 4 + [2, 1]]).repeat(500, 1)
    nats = cub_captions.counted_nats(chain, chain[:1], 5, a=1e-6)
    assert nats["words at their place"] < 0.01
    after = -(3 / 9 * torch.tensor(3 / 4).log() + 1 / 9 * torch.tensor(1 / 4).log())
    share = torch.tensor([4 / 9, 4 / 9, 1 / 9])
    assert nats["words as such"] == pytest.approx(float(-(share * share.log()).sum()), abs=0.01)
    assert nats["words after a word"] == pytest.approx(float(after), abs=0.01)


def test_nearer_counts_ties_half_and_leaves_the_own_picture_out_of_the_class():
    distances = torch.tensor([[0.0, 9.0, 5.0], [9.0, 0.0, 5.0], [5.0, 5.0, 5.0]])
    found = cub_captions.nearer(distances, torch.tensor([1, 1, 2]))
    assert found == {"one picture": pytest.approx((1 + 1 + 0.5) / 3, abs=1e-3), "one class": 0}


def test_the_command_writes_the_file(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(cub_captions, "read_cub", lambda root: (pictures, "made"))
    small = {"steps": 2, "batch_size": 4, "width": 0.1, "latent_dim": 4, "rows": 20, "k": 2}
    cub_captions.main("codes", tmp_path / "found.yaml", **small)
    cub_captions.main("words", tmp_path / "found.yaml", size=8, epochs=1, k=1)
    monkeypatch.setattr(
        cub_captions, "recorded", lambda: yaml.safe_load((tmp_path / "found.yaml").read_text())
    )
    assert (
        "nats a word: VAE" in str(birds_real.real_codes()) and "The VAE spends" in birds_real.told_of_codes()
    )
    found = yaml.safe_load((tmp_path / "found.yaml").read_text())
    assert (
        found["recipe"]["size"] == 8
        and found["source"] == "made"
        and set(found["agreement"]) == {"whitened", "official"}
    )


def test_steps_are_timed_beside_the_first(cache):
    data = load("birds", cache=cache, train=100, validation=30, test=30, captions=2)
    lines = str(speed.live_steps({"MVAE": "birds-mvae", "JMVAE": "birds-jmvae"}, data, 1)).splitlines()
    assert "| a training step | ms of one core | times MVAE's |" in lines
    assert lines[-2].startswith("| MVAE |") and lines[-2].endswith("| 1.0 |") and len(lines) == 4
