"""What the errata say, shown by a number: sizes of layers, arithmetic on printed tables, closed forms, enumerations.

Each test is named by the entries of ``data/errata.yaml`` that it belongs to. Where an entry says that a printed formula
is wrong, the test holds the printed and the corrected one against the same independent answer.
"""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import brentq
from torch import nn
from torch.distributions import Categorical, Normal

from mmlib.book import slips
from mmlib.book.ledger_entries import Cell
from mmlib.book.ledger_read import load
from mmlib.distributions import Diagonal, kl_divergence, product_of_experts
from mmlib.lab import LinearGaussian, quadrature
from mmlib.metrics.codes import class_distances, tree
from mmlib.metrics.coherence import joint_coherence, released_joint_coherence
from mmlib.metrics.likelihood import importance_log_likelihood, laplace_ceiling

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64, a handful of operations
ON = quadrature.grid(-15, 15)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tensor(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def integral(values):
    """Integral over z of values [N] or [N, B] at the nodes of the grid."""
    return (values * ON.log_weights.exp().reshape(-1, *[1] * (values.ndim - 1))).sum(0)


def pair(rows=4, seed=3):
    """A model of two modalities with a code of one dimension, and some items of it."""
    lab = LinearGaussian.make({"s": 2, "t": 2}, 1, {"s": 0.7, "t": 0.9}, seed=seed)
    return lab, lab.sample(rows, torch.Generator().manual_seed(seed))[1]


def conditional(lab, name, batch):
    """Nodes [N, B, 1] and log p(x_name | z) there, [N, B]."""
    z = ON.z(len(batch[name]))
    return z, lab.log_joint(z, batch, [name]) - lab.log_joint(z, batch, [])


# --- sizes of layers ------------------------------------------------------------------------------------------------


def conv(kernel, stride, padding):
    return nn.Conv1d(1, 1, kernel, stride, padding)


def up(kernel, stride, padding, output_padding=0):
    return nn.ConvTranspose1d(1, 1, kernel, stride, padding, output_padding)


def length(size, layers):
    """Places along one axis after the layers; None if PyTorch cannot apply one of them."""
    x = torch.zeros(1, 1, size)
    try:
        for layer in layers:
            x = layer(x)
    except RuntimeError:
        return None
    return x.shape[-1]


HALF, LAST, HEAD = conv(4, 2, 1), conv(4, 2, 0), conv(4, 1, 0)
DOUBLE = up(4, 2, 1)
CAPTION = [HALF] * 5  # along the words' numbers: three square layers and two of 1x4, all of stride 2

LAYERS = {  # (size, printed layers, what comes out), (size, mended layers, what has to come out)
    "mmjsd table 1, MNIST": ((28, [HALF] * 3, 3), (28, [LAST] * 3, 1)),
    "mmjsd table 2": (
        (8, [conv(1, 1, 1), HALF, HALF, HALF, LAST], None),
        (8, [conv(1, 1, 0), HALF, LAST], 1),
    ),
    "mmjsd table 2, no padding": ((8, [conv(1, 1, 0), HALF, HALF, HALF, LAST], None), (8, [HALF, LAST], 1)),
    "mmjsd table 13, encoder": (
        (64, [conv(3, 2, 1), *[HALF] * 4], 2),
        (64, [conv(3, 2, 1), *[HALF] * 3, LAST], 1),
    ),
    "mmjsd table 13, decoder": (
        (1, [up(4, 1, 0), *[up(4, 1, 1)] * 3, up(3, 2, 1)], 13),
        (1, [up(4, 1, 0), *[DOUBLE] * 3, up(3, 2, 1, 1)], 64),
    ),
    "mmjsd table 13, last layer": (
        (1, [up(4, 1, 0), *[DOUBLE] * 3, up(3, 2, 1)], 63),
        (32, [up(3, 2, 1, 1)], 64),
    ),
    "mmjsd table 14, last layer": (
        (1, [up(4, 2, 0), *[DOUBLE] * 5, up(3, 2, 1)], 255),
        (1, [up(4, 2, 0), *[DOUBLE] * 6], 256),
    ),
    "rbc table 4b, width": ((192, [*CAPTION, HEAD], 3), (192, [*CAPTION, conv(6, 1, 0)], 1)),
    "meme table 8b": ((28, [*[HALF] * 3, HEAD], None), (32, [*[HALF] * 3, HEAD], 1)),
    "meme table 8d": ((256, [*CAPTION, HEAD], 5), (128, [*CAPTION, HEAD], 1)),
}


@pytest.mark.parametrize("case", LAYERS)
def test_printed_layers_do_not_fit_and_mended_ones_do(case):
    """mmjsd-5, mmjsd-6, mmjsd-x1, mmjsd-x3, mmjsd-code-6, rbc-8, meme-13; in 1-d, since axes do not mix."""
    (size, printed, is_), (mended_size, mended, needed) = LAYERS[case]
    assert length(size, printed) == is_ != needed
    assert length(mended_size, mended) == needed


def test_other_printed_layers_fit():
    """The same arithmetic finds no fault with the tables that the errata do not name."""
    assert length(32, [*[HALF] * 3, LAST]) == 1  # mmJSD Table 1 and 6, SVHN
    assert length(1, [up(4, 2, 0), *[DOUBLE] * 3]) == 32  # mmJSD Table 6, decoder
    assert length(8, [conv(1, 1, 0), HALF, LAST]) == 1  # mmJSD Table 7
    assert length(1, [up(4, 1, 0), DOUBLE]) == 8  # mmJSD Table 7, decoder
    assert length(64, [conv(3, 2, 1), *[HALF] * 3, LAST]) == 1  # mmJSD Table 3, image
    assert length(256, [conv(3, 2, 1), *[HALF] * 5, LAST]) == 1  # mmJSD Tables 3 and 14, text
    assert length(32, [*[HALF] * 3, HEAD]) == 1  # RbC Table 3b, and the height in Tables 3d, 4a and 4b
    assert length(64, [*[HALF] * 4, HEAD]) == 1  # RbC Table 4a, width
    assert length(1, [up(4, 1, 0), *[DOUBLE] * 5]) == 128  # RbC Table 3d, decoder


# --- printed numbers ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tables():
    return {id: exhibit for paper in load().values() for id, exhibit in paper.exhibits.items()}


def printed(exhibit, row):
    """The numbers of a row by column, without dashes."""
    return {c: cell.mean for (r, c), cell in exhibit.table.items() if r == row and isinstance(cell, Cell)}


def test_importance_sampling_took_more_than_three_times_as_long(tables):
    """mmjsd-7."""
    table = tables["mmjsd-table-8"]
    sampled = printed(table, "mmvae-i30")
    other = {row: printed(table, row) for row in table.rows if row != "mmvae-i30"}
    times = {row: round(sampled["runtime"] / values["runtime"], 1) for row, values in other.items()}
    private = {"mmvae-ms": 3.7, "mmjsd-ms": 3.3, "mvae-ms": 2.4}
    assert times == {"mmvae": 7.6, "mmjsd": 6.7, "mvae": 5.1} | private
    an_epoch = {key: values["runtime"] / values["epochs"] for key, values in other.items()}
    assert sampled["runtime"] / sampled["epochs"] / an_epoch["mmvae"] == pytest.approx(12.6, abs=0.05)


def test_models_without_importance_samples_are_not_level_everywhere(tables):
    """mmjsd-x19."""
    probes, coherences, likelihoods = (
        {row: printed(tables[f"mmjsd-table-{n}"], row) for row in tables[f"mmjsd-table-{n}"].rows}
        for n in (9, 10, 11)
    )
    for row in probes:  # the probes bear the sentence out
        assert all(value >= probes["mmvae-i30"][column] for column, value in probes[row].items())
    for column in ("m-to-s", "t-to-s", "mt-to-s"):
        assert 0.68 <= coherences["mmvae-i30"][column] <= 0.76
        assert all(0.30 <= coherences[row][column] <= 0.48 for row in ("mmvae", "mmjsd"))
    values = {row: numbers["log-likelihood"] for row, numbers in likelihoods.items()}
    sampled = values.pop("mmvae-i30")
    assert {row for row, value in values.items() if value > sampled} == {"mvae", "mvae-ms"}
    assert {row for row, value in values.items() if -9 <= value - sampled < 0} == {"mmvae-ms", "mmjsd-ms"}
    assert min(values, key=values.get) == "mmjsd" and values["mvae-ms"] - values["mvae"] == -6


def test_a_mixture_given_two_modalities_scores_the_mean_of_one_and_one(tables):
    """mmjsd-x18, rbc-18: within 0.01, half a digit for each of two rounded sides; mmJSD's own rows do not."""
    names = ("mnist", "svhn", "text")
    subsets = {"-".join(s): s for n in (2, 3) for s in itertools.combinations(names, n)}
    generated = {"st-to-m": "m", "mt-to-s": "s", "ms-to-t": "t"}

    def worst(row):
        probe, coherence = printed(tables["mmjsd-table-9"], row), printed(tables["mmjsd-table-10"], row)
        probe["mnist-svhn-text"] = probe.pop("joint")
        off = [abs(probe[key] - sum(probe[n] for n in s) / len(s)) for key, s in subsets.items()]
        for key, to in generated.items():
            off.append(abs(coherence[key] - sum(coherence[f"{given}-to-{to}"] for given in key[:2]) / 2))
        return max(off)

    for row in ("mmvae", "mmvae-i30", "mmvae-ms"):
        assert worst(row) <= 0.01 + 1e-9
    for row in ("mmjsd", "mmjsd-ms"):
        assert worst(row) > 0.04
    own = printed(tables["rbc-table-1"], "mmvae-100")  # the single ways are not one number
    assert own["m-to-s"] - own["s-to-m"] > 14


def test_published_likelihoods_against_one_another(tables):
    """rbc-2, rbc-3, rbc-code-4: without any assumption on the scale of the likelihood."""
    other = {"mnist": "svhn", "svhn": "mnist"}
    for number, models in ((5, ("mmvae", "ci-mmvae", "cc-mmvae")), (6, ("mvae", "ci-mvae", "cc-mvae"))):
        for model in models:
            row = {name: printed(tables[f"rbc-table-{number}"], f"{model}-{name}") for name in other}
            own = {name: row[name]["given-own"] for name in other}
            as_printed = {name: row[name]["given-other"] - own[name] for name in other}
            exchanged = {name: row[other[name]]["given-other"] - own[name] for name in other}
            assert as_printed["svhn"] > 1000 > 0 > as_printed["mnist"]
            assert all(-400 < gap < 0 for gap in exchanged.values())
            shared = row["mnist"]["joint"] - sum(own.values())
            assert (shared > 1460) if number == 6 else (-40 < shared < 0)
    mmvae = {name: printed(tables["rbc-table-5"], f"mmvae-{name}") for name in other}
    own = {name: values["given-own"] for name, values in mmvae.items()}
    assert round(own["mnist"] + own["svhn"]) == -1861
    assert round(3072 / 784 * own["mnist"] + own["svhn"]) == -2995
    jmvae = printed(tables["rbc-table-7"], "jmvae-svhn")
    assert jmvae["joint"] - jmvae["given-both"] > 1000


def test_published_likelihoods_against_their_ceilings(tables):
    """rbc-2, rbc-3, mmvae-code-1."""
    ceiling = {"mnist": laplace_ceiling(784, 0.75), "svhn": laplace_ceiling(3072, 0.75)}
    joint = sum(ceiling.values())
    assert [round(value, 1) for value in (*ceiling.values(), joint)] == [-317.9, -1245.6, -1563.5]
    assert laplace_ceiling(784 + 3072, 0.1) == pytest.approx(6206, abs=0.5)
    impossible = set()
    for number in (5, 6, 7):
        exhibit = tables[f"rbc-table-{number}"]
        for (row, column), cell in exhibit.table.items():
            limit = joint if column == "joint" else ceiling[row.rsplit("-", 1)[1]]
            if cell.mean > limit:
                impossible.add((number, row.rsplit("-", 1)[1], column))
    assert impossible == {
        (5, "svhn", "given-other"),
        (6, "svhn", "given-other"),
        *((number, name, "joint") for number in (6, 7) for name in ceiling),
    }
    for number in (5, 6):  # exchanged, every value of the column is possible
        exhibit = tables[f"rbc-table-{number}"]
        values = {row: exhibit.table[row, "given-other"].mean for row in exhibit.rows}
        other = {"mnist": "svhn", "svhn": "mnist"}
        assert all(value < ceiling[other[row.rsplit("-", 1)[1]]] for row, value in values.items())


def test_mutual_information_implied_by_the_likelihood_table(tables):
    """rbc-x13: two digits of one class share log 10 nats at the most that is certain, and never a negative number."""
    table = tables["rbc-table-5"]
    implied = []
    for model in ("mmvae", "ci-mmvae", "cc-mmvae"):
        own = [table.table[f"{model}-{name}", "given-own"].mean for name in ("mnist", "svhn")]
        implied.append(round(table.table[f"{model}-mnist", "joint"].mean - sum(own), 1))
    assert implied == [-18.0, -27.4, -37.6]


def contrastive(table, columns=None):
    """For each contrastive row: its numbers, those of its baseline with the same data and with all of it."""
    for row in table.rows:
        form, _, rest = row.partition("-")
        if form in ("ci", "cc"):
            model, share = rest.rsplit("-", 1)
            yield row, share, *(printed(table, r) for r in (row, f"{model}-{share}", f"{model}-100"))


def test_contrastive_cells_that_do_not_improve(tables):
    """rbc-12, rbc-x10, rbc-x12."""
    table = tables["rbc-table-1"]
    cells = [
        (row, column, value < base[column])
        for row, share, values, base, _ in contrastive(table)
        if share == "100"
        for column, value in values.items()
    ]
    assert len(cells) == 38
    worse = {(row, column) for row, column, is_worse in cells if is_worse}
    assert worse == {
        ("ci-mvae-100", "s-to-m"),
        ("cc-mvae-100", "joint"),
        ("cc-jmvae-100", "latent-mnist"),
    }
    ci, cc = printed(table, "ci-mmvae-100"), printed(table, "cc-mmvae-100")
    gain = {column: round(ci[column] - cc[column], 2) for column in ci}
    assert gain.pop("joint") == -1.52
    assert all(0.3 < value < 1.0 for value in gain.values())
    birds = tables["rbc-table-2"]
    ahead = [
        {c for c, v in printed(birds, f"cc-mmvae-{n}").items() if v > printed(birds, f"ci-mmvae-{n}")[c]}
        for n in (100, 20)
    ]
    assert ahead == [{"img-to-cap", "cap-to-img"}, {"joint", "img-to-cap", "cap-to-img"}]
    for n in (100, 20):
        assert printed(birds, f"ci-mvae-{n}")["cap-to-img"] < printed(birds, f"mvae-{n}")["cap-to-img"]


def test_a_fifth_of_the_data_matches_all_of_it_in_about_half_of_the_cells(tables):
    """rbc-x11."""
    counts = {}
    for row, share, values, _, full in contrastive(tables["rbc-table-1"]):
        if share == "20":
            reached = {column for column in values if values[column] >= full[column]}
            counts[row] = len(reached), len(values)
            assert "latent-svhn" not in reached
    assert counts == {
        "ci-mmvae-20": (2, 5),
        "ci-mvae-20": (5, 7),
        "ci-jmvae-20": (2, 7),
        "cc-mmvae-20": (1, 5),
        "cc-mvae-20": (5, 7),
        "cc-jmvae-20": (4, 7),
    }


def test_the_best_model_is_not_the_best_in_every_column(tables):
    """rbc-19."""
    table = tables["rbc-table-1"]
    rows = {row: printed(table, row) for row in table.rows if row.endswith("-100")}
    best = {c: max(rows, key=lambda row: rows[row].get(c, 0)) for c in rows["mmvae-100"]}
    assert best.pop("joint") == "ci-jmvae-100" and best.pop("latent-mnist") == "cc-mvae-100"
    assert set(best.values()) == {"ci-mmvae-100"} and len(best) == 3
    ci, cc = rows["ci-mvae-100"], rows["cc-mvae-100"]
    apart = {c: round(ci[c] - cc[c], 1) for c in ("synergy-mnist", "synergy-svhn", "joint")}
    assert apart == {"synergy-mnist": 9.8, "synergy-svhn": 6.2, "joint": 6.4}


def test_mmali_is_first_in_eleven_of_fourteen_columns(tables):
    """mmali-10."""
    table = tables["mmali-table-2"]
    ahead = {}
    for share in ("100", "20"):
        rivals = [row for row in table.rows if row.endswith(f"-{share}") and not row.startswith("mmali")]
        for column, value in printed(table, f"mmali-{share}").items():
            better = [row for row in rivals if printed(table, row).get(column, 0) > value]
            if better:
                ahead[share, column] = len(better)
    assert ahead == {("100", "latent-mnist"): 2, ("20", "m-to-s"): 2, ("20", "synergy-mnist"): 4}
    synergy, cross = (table.table["mmali-20", column] for column in ("synergy-svhn", "m-to-s"))
    assert 0 < cross.mean - synergy.mean < 100 * max(synergy.sd, cross.sd)  # the spread read as a fraction


def test_table_4_has_two_ground_truths(tables):
    """mmali-baselines."""
    table = tables["mmali-table-4"].table
    truths = {row: table[row, "ground-truth"].mean for row in ("mvae", "mmvae", "mmali")}
    assert truths == {"mvae": 0.273, "mmvae": 0.273, "mmali": 0.406}


def test_ten_mutual_informations_are_latent_accuracies(tables):
    """meme-10."""
    scores, accuracies = tables["meme-table-6"], tables["meme-table-4"]
    copied = [c for c in scores.columns if scores.table["meme-split", c] == accuracies.table["meme-split", c]]
    assert copied == list(scores.columns) and len(copied) == 10
    others = [cell.mean for (row, _), cell in scores.printed().items() if row != "meme-split"]
    assert 0.03 < min(others) and max(others) < 0.19


def test_what_the_tables_of_mutual_supervision_say_against_its_sentences(tables):
    """meme-19, meme-20, meme-24, meme-25."""
    coherence, probe, birds = (tables[f"meme-table-{n}"] for n in (3, 4, 5))
    rows = {name: printed(coherence, name) for name in ("meme-svhn", "mmvae-svhn", "mvae-svhn")}
    ways = ("m-to-s-1", "s-to-m-1")
    meme, mmvae, mvae = ([row[way] for way in ways] for row in rows.values())
    assert all(one > other for one, other in zip(meme, mmvae, strict=True))
    laplace = [value / 100 for value in printed(tables["meme-table-7"], "mmvae-laplace").values()]
    ahead = [[a > b for a, b in zip(order, meme, strict=True)] for order in (laplace, laplace[::-1])]
    assert ahead == [[True, False], [True, True]]  # columns are what is given; what is generated
    assert mvae[1] - 3 * coherence.table["mvae-svhn", "s-to-m-1"].sd > 0.1  # chance
    assert printed(probe, "mvae-svhn")["svhn-1"] < 0.14 and mvae[0] < 0.13
    known = {name: printed(probe, name)["mnist-1"] for name in ("mvae-svhn", "mmvae-svhn")}
    assert known["mvae-svhn"] == 0.892 > known["mmvae-svhn"] == 0.886
    gaps = {}
    for way in ("i-to-c-1", "c-to-i-1"):
        one, other = (birds.table[row, way] for row in ("meme-image", "mmvae-image"))
        gaps[way] = (one.mean - other.mean) / max(one.sd, other.sd)
    assert gaps["i-to-c-1"] < 0.5 and gaps["c-to-i-1"] > 10


def test_all_forty_attributes_need_more_than_256_characters():
    """mmjsd-x21: the attribute names of CelebA, joined as the rule says."""
    text = """5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair
        Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup
        High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose
        Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat
        Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"""
    names = re.findall(r"\w+", text)
    assert len(names) == 40
    assert len(", ".join(names).replace("_", " ")) == 502


# --- counting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_there_are_2_to_the_m_less_1_encoders(m):
    """mmali-1: printed 2^(M-1)."""
    subsets = [s for n in range(1, m + 1) for s in itertools.combinations(range(m), n)]
    assert len(subsets) == 2**m - 1
    assert m == 1 or len(subsets) != 2 ** (m - 1)


def test_random_coherence_as_coded_scores_independent_labels_high():
    """mmjsd-code-8 (b): all triples of ten labels, equally likely."""
    triples = torch.cartesian_prod(*[torch.arange(10)] * 3).T
    assert released_joint_coherence(triples).mean() == pytest.approx(0.82)
    assert joint_coherence(triples).mean() == pytest.approx(0.01)


def test_periods_of_paired_batches():
    """meme-code-9: the schedule of the code for 56,068 pairs and batches of 128."""
    found = []
    for f in (1 / 2, 1 / 4, 1 / 8, 1 / 16):
        paired = int(56068 * f)
        batches = [math.ceil(n / 128) for n in (paired, 56068 - paired)]
        period = sum(batches) // batches[0]
        steps = [i for i in range(sum(batches)) if i % period == 0][: batches[0]]
        found.append((period, sum(batches) - steps[-1] - 1, sum(batches)))
    assert found == [(2, 1, 440), (3, 111, 439), (7, 60, 439), (15, 33, 439)]


def test_the_best_of_many_test_scores_is_too_good():
    """mmali-code-6, rbc-silent-7: exact expectation of the largest of 1, 10, 100 scores of one true accuracy."""
    below = stats.binom(10_000, 0.85).cdf(np.arange(10_000))  # P(score <= k) for k below the largest
    largest = [(1 - below**epochs).sum() / 10_000 for epochs in (1, 10, 100)]
    assert largest[0] == pytest.approx(0.85, abs=1e-9)
    assert largest[0] < largest[1] < largest[2]
    assert largest[2] - 0.85 > 0.008  # nearly a percentage point, if epochs were independent


# --- experts --------------------------------------------------------------------------------------------------------


def geometric_mean(mean, variance, pi):
    """Mean and variance of the normalised prod_k N(mean_k, variance_k)^pi_k, Eq. 11 with the inner inverse."""
    total = 1 / (pi / variance).sum()
    return total * (pi * mean / variance).sum(), total


def test_geometric_mean_of_gaussians_needs_the_inner_inverse():
    """mmjsd-1: against quadrature of the normalised weighted product."""
    mean, variance, pi = tensor(-1.0, 0.5, 2.0), tensor(0.3, 4.0, 2.0), tensor(0.2, 0.5, 0.3)
    z = ON.nodes
    log_product = (pi * Normal(mean, variance.sqrt()).log_prob(z[:, None])).sum(-1)
    density = log_product.exp() / integral(log_product.exp())
    centre = integral(z * density)
    spread = integral((z - centre) ** 2 * density)
    torch.testing.assert_close(geometric_mean(mean, variance, pi), (centre, spread), atol=1e-9, rtol=1e-9)
    as_printed = 1 / (pi * variance).sum()
    assert abs(as_printed - spread) > 0.1
    same = torch.full((3,), 0.3, dtype=torch.float64)  # equal experts: their mean is that expert
    torch.testing.assert_close(geometric_mean(same, same, pi), (same[0], same[0]), **EXACT)
    assert abs(1 / (pi * same).sum() - 0.3) > 1


def test_a_geometric_mean_of_equal_experts_is_that_expert_and_a_product_is_sharper():
    """mmali-6: and in general the geometric mean is the product with its variance multiplied by their number."""
    observed = torch.ones(3, 1, dtype=torch.bool)
    for loc, scale in (([1.0] * 3, [0.4] * 3), ([-1.0, 0.5, 2.0], [0.3, 1.7, 1.0])):
        experts = Diagonal(tensor(*loc)[:, None, None], tensor(*scale)[:, None, None])
        product = product_of_experts(experts, observed)
        mean, variance = geometric_mean(tensor(*loc), tensor(*scale) ** 2, tensor(1 / 3, 1 / 3, 1 / 3))
        torch.testing.assert_close(mean, product.loc[0, 0], **EXACT)
        torch.testing.assert_close(variance, 3 * product.scale[0, 0] ** 2, **EXACT)
        assert product.scale < min(scale)
        assert variance.sqrt() >= min(scale) - 1e-12
    assert geometric_mean(tensor(1.0, 1.0), tensor(0.4, 0.4), tensor(0.5, 0.5))[1] == pytest.approx(0.4)


def test_the_prior_is_one_unit_of_precision_in_a_product():
    """mopoe-code-1."""
    experts = Diagonal(random(2, 5, 3), random(2, 5, 3, seed=1).exp())
    observed, prior = (
        torch.ones(2, 5, dtype=torch.bool),
        Diagonal(torch.zeros(3).double(), torch.ones(3).double()),
    )
    with_prior, without = (product_of_experts(experts, observed, p) for p in (prior, None))
    torch.testing.assert_close(with_prior.scale**-2, without.scale**-2 + 1, **EXACT)


def test_a_softplus_as_log_variance_is_never_sharper_than_the_prior():
    """mvae-code-5."""
    raw = torch.linspace(-50, 50, 1001, dtype=torch.float64)
    log_variance = nn.functional.softplus(raw) + 1e-6
    assert (log_variance.exp() >= 1).all()
    assert (torch.exp(raw) < 1).any()  # the same output read as the log-variance that it could be


def test_the_divergence_of_factorised_codes_adds_up_with_the_predefined_prior_alone():
    """mmjsd-3: two codes of three dimensions; the dynamic prior is the geometric mean of both posteriors and prior."""
    style, content, other = (Diagonal(random(3, seed=i), random(3, seed=9 + i).exp()) for i in range(3))
    standard = Diagonal(torch.zeros(3).double(), torch.ones(3).double())
    whole = Diagonal(torch.cat([style.loc, content.loc]), torch.cat([style.scale, content.scale]))
    prior = Diagonal(torch.zeros(6).double(), torch.ones(6).double())
    precision = sum(q.scale**-2 for q in (content, other, standard)) / 3
    loc = sum(q.loc * q.scale**-2 for q in (content, other, standard)) / 3 / precision
    dynamic = Diagonal(loc, precision.rsqrt())
    line_two = kl_divergence(whole, prior)
    torch.testing.assert_close(
        line_two, kl_divergence(style, standard) + kl_divergence(content, standard), **EXACT
    )
    assert abs(line_two - kl_divergence(style, standard) - kl_divergence(content, dynamic)) > 0.5


# --- contrast -------------------------------------------------------------------------------------------------------


def table(shape=(6, 12), seed=0):
    """A joint distribution of two finite modalities."""
    return random(*shape, seed=seed).mul(1.5).flatten().softmax(0).reshape(shape)


def test_joint_probability_and_mutual_information_can_disagree():
    """rbc-14: and making y' rare raises the joint difference while what x says about y stays as it was."""

    def differences(p):  # of (x, y) and (x, y'): joint and mutual information, x = 0, y = 0, y' = 1
        information = p.log() - p.sum(0).log() - p.sum(1, keepdim=True).log()
        return (p.log()[0, 0] - p.log()[0, 1]).item(), (information[0, 0] - information[0, 1]).item()

    p = tensor(0.05, 0.10, 0.01, 0.84).reshape(2, 2)
    joint, information = differences(p)
    assert joint < 0 < information
    rare = p * tensor(1.0, 0.01)
    now, still = differences(rare / rare.sum())
    assert now - joint == pytest.approx(math.log(100))
    assert still == pytest.approx(information)


def test_the_loss_is_about_pmi_only_if_sums_run_over_everything():
    """rbc-10: exact with full sums; with five drawn partners off by an amount that differs from item to item."""
    p, gamma = table(), 2.0
    information = p.log() - p.sum(0).log() - p.sum(1, keepdim=True).log()
    reduced = -(gamma - 0.5) * p.log() - 0.5 * information
    full = -gamma * p.log() + 0.5 * (p.sum(0).log() + p.sum(1, keepdim=True).log())
    torch.testing.assert_close(full, reduced, **EXACT)
    generator = torch.Generator().manual_seed(0)
    gaps = []
    for x, y in itertools.product(range(6), range(12)):
        ys = torch.randint(12, (5,), generator=generator)
        xs = torch.randint(6, (5,), generator=generator)
        drawn = -gamma * p[x, y].log() + 0.5 * (p[x, ys].sum().log() + p[xs, y].sum().log())
        gaps.append(drawn - reduced[x, y])
    assert torch.stack(gaps).std() > 0.2  # not a constant


def test_random_tuples_do_not_generalise_anchored_negatives():
    """rbc-9: for M = 2, Eq. 10 gives the second term of Eq. 3, and Eq. 13 does not: it does not know the item."""
    p = table((6, 6))
    partners = [(1, 4), (3, 2), (5, 0)]  # N = 3 tuples of indices

    def eq_3(i):
        ys, xs = [y for _, y in partners], [x for x, _ in partners]
        return 0.5 * (p[i, ys].sum().log() + p[xs, i].sum().log())

    def eq_10(i):
        each = []
        for m in range(2):
            negatives = []
            for d in (d for d in range(2) if d != m):
                for tuple_ in partners:
                    item = [i, i]
                    item[d] = tuple_[d]
                    negatives.append(p[item[0], item[1]])
            each.append(torch.stack(negatives).sum().log())
        return sum(each) / 2

    def eq_13(i):
        return torch.stack([p[x, y] for x, y in partners]).sum().log()

    items = range(6)
    torch.testing.assert_close(torch.stack([eq_10(i) for i in items]), torch.stack([eq_3(i) for i in items]))
    assert torch.stack([eq_3(i) for i in items]).std() > 0.3
    assert torch.stack([eq_13(i) for i in items]).std() == 0
    assert (torch.stack([eq_13(i) - eq_3(i) for i in items]).abs() > 0.05).all()


def test_a_model_without_pairing_has_a_contrastive_loss_of_log_n_and_a_better_one_any():
    """rbc-15: all items and all N negatives enumerated; negatives have the marginals of the data."""
    n, x, y = 2, tensor(0.1, 0.2, 0.3, 0.4), tensor(0.4, 0.3, 0.2, 0.1)

    def loss(p, data):  # Eq. 3, its mean over pairs from the data and over negatives
        mean = 0.0
        for one, other in ((p, data), (p.T, data.T)):  # other: the modality from which negatives are drawn
            marginal = other.sum(0)
            for negatives in itertools.product(range(4), repeat=n):
                drawn = list(negatives)
                each = one[:, drawn].sum(1, keepdim=True).log() - one.log()
                mean = mean + 0.5 * marginal[drawn].prod() * (other * each).sum()
        return mean.item()

    alone = torch.outer(x, y)
    assert loss(torch.full((4, 4), 1 / 16).double(), alone) == pytest.approx(math.log(n))
    assert loss(alone, alone) > math.log(n) + 0.04
    paired = torch.eye(4).double() / 4
    losses = [loss(paired * (1 - e) + e / 16, paired) for e in (0.5, 0.1, 1e-2, 1e-6)]
    assert losses == sorted(losses, reverse=True) and losses[0] < math.log(n) and losses[2] < 0
    assert loss(1e-9 * alone, alone) == pytest.approx(loss(alone, alone))  # nothing holds the level up


@pytest.mark.parametrize("m, n", [(2, 6), (3, 6), (5, 4)])
def test_negatives_are_shared_by_all_anchors_of_an_item(m, n):
    """rbc-17: arguments at which the sums of Eq. 10 evaluate the joint likelihood, for one item i = 0."""
    items = [(0,) * m]
    for _, d, j in ((a, d, j) for a in range(m) for d in range(m) if d != a for j in range(1, n)):
        items.append((0,) * d + (j,) + (0,) * (m - d - 1))
    assert len(items) == m * (m - 1) * (n - 1) + 1
    assert len(set(items)) == m * (n - 1) + 1


# --- adversaries ----------------------------------------------------------------------------------------------------


def test_the_minimax_game_is_the_jensen_shannon_divergence_and_the_loss_in_use_is_not():
    """mmali-3: n = 3 distributions over four outcomes."""

    def kl(p, q):
        return (p * (p.log() - q.log())).sum(-1)

    def quantities(p):
        mean, n = p.mean(0), len(p)
        d = p / p.sum(0)  # the optimal discriminator
        value = (p * d.log()).sum()
        in_use = sum((p[k] * -d[i].log()).sum() for k in range(n) for i in range(n) if i != k)
        return kl(p, mean).mean(), value, in_use, d

    p = random(3, 4).softmax(-1)
    mean, n = p.mean(0), 3
    divergence, value, in_use, d = quantities(p)
    torch.testing.assert_close(value, n * divergence - n * math.log(n), **EXACT)
    torch.testing.assert_close(
        in_use, n * kl(mean, p).sum() + kl(p, mean).sum() + n * (n - 1) * math.log(n), **EXACT
    )
    for seed in range(20):  # no other discriminator does better
        other = (d.log() + 0.3 * random(3, 4, seed=seed)).softmax(0)
        assert (p * other.log()).sum() < value

    def blend(corner):  # three distributions of one shape, each with its own favourite outcome
        shape = tensor(0.9, *corner)
        return torch.stack([shape.roll(i) for i in range(3)])

    uniform = torch.full((3, 4), 0.25, dtype=torch.float64)
    thin, even = blend((0.0999, 0.00005, 0.00005)), blend((0.1 / 3,) * 3)

    def mixed(share):
        return quantities(share * thin + (1 - share) * uniform)

    share = brentq(lambda share: (mixed(share)[0] - quantities(even)[0]).item(), 0.01, 0.999)
    one, two = mixed(share), quantities(even)
    assert abs(one[0] - two[0]) < 1e-9
    assert abs(one[2] - two[2]) > 0.1


def test_the_factorised_ratio_is_exact_and_its_own_factor_cancels():
    """mmali-12: data, encoders and decoders of three different linear-Gaussian models, at any z."""
    sizes = {"a": 2, "b": 3, "c": 2}
    data, decoder, encoder = (LinearGaussian.make(sizes, 2, 0.8, seed=seed) for seed in (1, 2, 3))
    z, batch = random(5, 2, seed=4), data.sample(5, torch.Generator().manual_seed(5))[1]
    log_prior = decoder.log_joint(z, batch, [])

    def marginal(name):
        return data.log_marginal(batch, [name])

    def given(name):  # log q(z | x_name)
        return encoder.diagonal_posterior(batch, [name]).log_prob(z)

    def likelihood(name):  # log p(x_name | z)
        return decoder.log_joint(z, batch, [name]) - log_prior

    dependence = data.log_marginal(batch) - sum(marginal(name) for name in sizes)
    d0 = {n: marginal(n) + given(n) - log_prior - likelihood(n) for n in sizes}  # log q(x, z) / p(x, z)
    d1 = {n: given(n) - log_prior for n in sizes}  # log q(x, z) / (q(x) p(z))
    for i in sizes:
        ratio = data.log_marginal(batch) + given(i) - log_prior - sum(likelihood(n) for n in sizes)
        eq_7 = dependence + d1[i] + sum(d0[j] - d1[j] for j in sizes)
        short = dependence + d0[i] + sum(d0[j] - d1[j] for j in sizes if j != i)
        torch.testing.assert_close(eq_7, ratio, **EXACT)
        torch.testing.assert_close(short, ratio, **EXACT)


def test_the_true_model_is_not_aligned_if_a_second_modality_helps():
    """mmali-7: exact posteriors given one and given both modalities, in the laboratory."""
    lab, batch = pair(rows=200)
    both, one = lab.diagonal_posterior(batch), lab.diagonal_posterior(batch, ["s"])
    assert (both.scale < one.scale).all()
    assert kl_divergence(both, one).mean() > 0.1  # zero if they were aligned
    useless = LinearGaussian.make({"s": 2, "t": 2}, 1, {"s": 0.7, "t": 1e6}, seed=3)
    batch = useless.sample(200, torch.Generator().manual_seed(3))[1]
    aligned = kl_divergence(useless.diagonal_posterior(batch), useless.diagonal_posterior(batch, ["s"]))
    assert aligned.max() < 1e-6  # and only if the other modality has nothing to add


def test_pairs_can_have_more_pointwise_information_than_real_ones_have_on_average():
    """mmali-9: a model that only ever makes the most typical pair scores best, and has no information of its own."""
    q = table((4, 4), seed=2)
    information = q.log() - q.sum(0).log() - q.sum(1, keepdim=True).log()
    real = (q * information).sum()
    assert information.max() > real + 0.5
    model = torch.zeros_like(q)
    model.view(-1)[information.argmax()] = 1
    own = torch.xlogy(model, model / (model.sum(0) * model.sum(1, keepdim=True)).clamp(min=1e-300)).sum()
    assert (model * information).sum() > real and own == 0


# --- mutual supervision ---------------------------------------------------------------------------------------------


def test_the_paired_bound_holds_with_the_weight_of_the_appendix_alone():
    """meme-1: by quadrature, encoder exact or off, decoder of t exact."""
    lab, batch = pair()
    z, log_t = conditional(lab, "t", batch)
    _, log_s = conditional(lab, "s", batch)
    evidence = lab.log_marginal(batch)
    log_prior_given_t = lab.diagonal_posterior(batch, ["t"]).log_prob(z)
    exact = lab.diagonal_posterior(batch, ["s"])
    for shift, widen in ((0.0, 1.0), (0.5, 1.4)):
        log_q = Diagonal(exact.loc + shift, exact.scale * widen).log_prob(z)
        q_t = integral((log_q + log_t).exp())
        ratio = log_s + log_prior_given_t - log_q - log_t
        rest = q_t.log() + lab.log_marginal(batch, ["t"])
        eq_6 = integral(log_q.exp() * log_t.exp() / q_t * ratio) + rest
        eq_1 = integral(log_t.exp() * ratio) + rest  # q(z|s) cancels with the printed denominator
        log_both = log_q + log_t - q_t.log()  # q(z | s, t), by Bayes' rule
        gap = integral(log_both.exp() * (log_both - lab.diagonal_posterior(batch).log_prob(z)))
        torch.testing.assert_close(eq_6, evidence - gap, **EXACT)
        if shift == 0:
            torch.testing.assert_close(eq_6, evidence, **EXACT)
            assert ((eq_1 - evidence).abs() > 0.01).all()
        else:
            assert (gap > 0.01).all()
        assert (eq_1 > evidence).any()


def test_the_two_directions_bound_two_models():
    """meme-6, meme-17: by quadrature, encoders and decoders that do not fit together, s = 2 and t = -1."""
    z, s, t = ON.nodes, tensor(2.0), tensor(-1.0)
    encoder = {"s": Normal(0.3 * s, 0.5).log_prob(z), "t": Normal(t, 0.5).log_prob(z)}
    decoder = {"s": Normal(z, 0.5).log_prob(s), "t": Normal(0.5 * z, 1.0).log_prob(t)}
    alone = {"s": Normal(0.0, 1.0).log_prob(s).item(), "t": Normal(0.0, 1.0).log_prob(t).item()}
    evidence, bound = [], []
    for x, given in (
        ("s", "t"),
        ("t", "s"),
    ):  # the encoder of `given` is the prior, its decoder the classifier
        log_joint, log_q = decoder[x] + encoder[given], encoder[x] + decoder[given]
        weight = log_q.exp() / integral(log_q.exp())
        evidence.append(integral(log_joint.exp()).log().item() + alone[given])
        bound.append(
            (integral(weight * (log_joint - log_q)) + integral(log_q.exp()).log()).item() + alone[given]
        )
    assert all(one < other for one, other in zip(bound, evidence, strict=True))
    assert abs(evidence[0] - evidence[1]) > 6
    assert min(evidence) + 3 < sum(bound) / 2 < sum(evidence) / 2


def test_pseudo_samples_bound_the_evidence_of_their_own_prior():
    """meme-6, meme-18: prior N(0, 1), decoder N(z, 0.1^2), s = 2, one pseudo-sample with N(2, 0.1^2)."""
    z, s = quadrature.grid(0, 4), tensor(2.0)
    nodes, weights = z.nodes, z.log_weights.exp()
    log_s, learnt = Normal(nodes, 0.1).log_prob(s), Normal(s, 0.1).log_prob(nodes)

    def over(values):
        return (weights * values).sum().item()

    objective = over(learnt.exp() * log_s)  # q and the prior are the same density
    own = math.log(over((log_s + learnt).exp()))
    evidence = Normal(0.0, math.sqrt(1.01)).log_prob(s).item()
    assert [round(value, 2) for value in (objective, own, evidence)] == [0.88, 1.04, -2.90]
    assert evidence < objective < own


def test_wasserstein_distance_of_a_gaussian_to_itself_is_zero_with_a_minus_sign():
    """meme-2: against the optimal coupling in one dimension, which joins equal quantiles."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    first, second = Normal(tensor(1.3), tensor(0.4)), Normal(tensor(-0.6), tensor(1.1))

    def squared(p, q, sign):
        return ((p.loc + sign * q.loc) ** 2 + (p.scale - q.scale) ** 2).item()

    for p, q in ((first, second), (first, first)):
        transport = ((p.icdf(u) - q.icdf(u)) ** 2).mean().item()
        assert squared(p, q, -1) == pytest.approx(transport, abs=1e-4)
        assert abs(squared(p, q, +1) - transport) > 1
    assert squared(first, first, -1) == 0


def test_mean_distance_within_a_class_is_positive_unless_all_posteriors_coincide():
    """meme-12: three images of one digit in each modality, codes of two dimensions."""

    def mean_distance(loc_a, loc_b, scale_a, scale_b):
        return torch.cdist(torch.cat([loc_a, scale_a], -1), torch.cat([loc_b, scale_b], -1)).mean()

    loc, scale = random(3, 2), random(3, 2, seed=1).exp()
    assert mean_distance(loc, loc, scale, scale) > 0.5  # though the same three posteriors on both sides
    alike = loc[:1].expand(3, 2), scale[:1].expand(3, 2)
    assert mean_distance(alike[0], alike[0], alike[1], alike[1]) == 0


def test_heights_of_a_tree_have_the_unit_of_the_code():
    """meme-26: a code and the same code seven times as long; ratios stay, heights do not."""
    labels = torch.arange(40) % 4
    loc, scale = random(2, 40, 3) + labels[:, None], random(2, 40, 3, seed=1).exp()
    heights, ratios = [], []
    for unit in (1, 7):
        codes = {name: Diagonal(unit * loc[m], unit * scale[m]) for m, name in enumerate("ab")}
        between = class_distances(codes, labels)[0][:4, 4:]
        heights.append(torch.as_tensor(tree(between)[:, 2]))
        ratios.append(between.diagonal().mean() / between.mean())
    torch.testing.assert_close(heights[1], 7 * heights[0])
    torch.testing.assert_close(*ratios)


def test_the_likelihood_of_the_other_modality_is_a_mean_over_samples():
    """meme-3: against the closed form q(t | s); 200,000 draws, so that the error is far below log K."""
    lab, batch = pair()
    k, q = 200_000, lab.diagonal_posterior(batch, ["s"])
    z = q.rsample(k, torch.Generator().manual_seed(0))
    log_t = lab.log_joint(z, batch, ["t"]) - lab.log_joint(z, batch, [])
    exact = lab.log_conditional(batch, ["t"], ["s"])
    as_printed = log_t.logsumexp(0)
    torch.testing.assert_close(as_printed - math.log(k), exact, atol=0.03, rtol=0)
    assert (as_printed - exact > 12).all()
    weights = (log_t - exact).exp()
    torch.testing.assert_close(weights.mean(0), torch.ones(4).double(), atol=0.03, rtol=0)


def test_including_the_sample_itself_bounds_the_weight():
    """meme-4, meme-code-6: 11 samples; with z among them a weight is at most 11, and their mean is 1."""
    log_t = 300 * random(11, 500)
    mean_of_all = log_t.logsumexp(0) - math.log(11)
    weights = (log_t - mean_of_all).exp()
    assert weights.max() <= 11 + 1e-9
    torch.testing.assert_close(weights.mean(0), torch.ones(500).double(), **EXACT)
    without = log_t[1:].logsumexp(0) - math.log(10)
    assert (log_t[0] - without).max() > 300  # an exponent that single precision cannot hold


def gradients(coefficient, minus_log_k=True):
    """Mean over the choice of z among 11 draws of the gradient of the terms with q(t | z), and of log q(t | s)."""
    t, noise = tensor(0.7, -1.2), random(11, 2)
    loc, log_scale, slope, offset = (
        x.requires_grad_() for x in (random(2), random(2, seed=1), *random(2, 2))
    )
    z = loc + log_scale.exp() * noise
    log_t = Normal(slope * z + offset, 0.8).log_prob(t).sum(-1)  # [11]
    log_mean = log_t.logsumexp(0) - (math.log(11) if minus_log_k else 0)
    weights = (log_t - log_mean).exp().detach()
    leaves = (loc, log_scale, slope, offset)
    objective = (-weights * log_t).mean() + coefficient * log_mean
    whole, signal = (
        torch.cat(torch.autograd.grad(f, leaves, retain_graph=True)) for f in (objective, log_mean)
    )
    return whole, signal


def test_stop_gradient_cancels_what_the_other_decoder_would_learn():
    """meme-5, meme-code-1: for encoder and decoder; draws are exchangeable, so each is z one time in eleven."""
    whole, signal = gradients(1)
    assert (signal.abs() > 0.01).all()
    torch.testing.assert_close(whole, torch.zeros_like(whole), atol=1e-10, rtol=0)
    whole, signal = gradients(10)
    torch.testing.assert_close(whole, 9 * signal, **EXACT)
    whole, signal = gradients(1, minus_log_k=False)  # Eq. 8 as printed
    torch.testing.assert_close(whole, 10 / 11 * signal, **EXACT)


def test_the_cancellation_is_exact_over_all_outcomes_of_a_finite_code():
    """meme-5: a code with three values, z and two more draws, all 27 outcomes; gradient of the decoder's table."""
    probability, logits = tensor(0.2, 0.5, 0.3), random(3, 4).requires_grad_()
    log_t = logits.log_softmax(-1)[:, 2]  # log q(t | z) for the t observed

    def expected(coefficient, stop=True):
        total = 0.0
        for draws in itertools.product(range(3), repeat=3):
            log_mean = log_t[list(draws)].logsumexp(0) - math.log(3)
            weight = (log_t[draws[0]] - log_mean).exp()
            weight = weight.detach() if stop else weight
            total = total + probability[list(draws)].prod() * (
                coefficient * log_mean - weight * log_t[draws[0]]
            )
        return torch.autograd.grad(total, logits, retain_graph=True)[0]

    assert expected(1).abs().max() < 1e-12
    assert expected(10).abs().max() > 0.1
    assert expected(1, stop=False).abs().max() > 0.01  # the part that is dropped is not noise alone


def test_a_weighted_log_ratio_is_not_weight_times_divergence():
    """meme-code-1: encoder N(0, 1); the divergence may be the larger or the smaller of the two."""
    z, found = ON.nodes, []
    for p_loc, p_scale, noise, t in ((1.5, 0.6, 0.5, 1.5), (0.0, 1.5, 1.0, 0.0)):
        q, p = Normal(tensor(0.0), 1.0), Normal(tensor(p_loc), p_scale)  # encoder and conditional prior
        log_t = Normal(z, noise).log_prob(tensor(t))
        density, log_ratio = q.log_prob(z).exp(), q.log_prob(z) - p.log_prob(z)
        weight = log_t.exp() / integral(density * log_t.exp())
        torch.testing.assert_close(integral(density * weight), tensor(1.0)[0], **EXACT)
        divergence = torch.distributions.kl_divergence(q, p)[0]
        torch.testing.assert_close(integral(density * log_ratio), divergence, **EXACT)
        found.append((divergence.item(), integral(density * weight * log_ratio).item()))
    assert found[0][0] > 3 * abs(found[0][1])
    assert [round(value, 3) for value in found[1]] == [0.128, 0.267]


def test_mutual_information_score_is_blind_to_wrong_labels():
    """meme-16: predictions of several draws of a classifier; the right label is 0."""

    def score(predictions):
        mean = Categorical(predictions.mean(0)).entropy()
        return (mean - Categorical(predictions).entropy().mean()).item()

    sure = torch.full((10,), 0.001, dtype=torch.float64)
    wrong = sure.clone().index_fill_(0, torch.tensor(3), 0.991).expand(5, 10)
    right_but_torn = torch.stack([tensor(0.9, 0.1), tensor(0.6, 0.4), tensor(0.99, 0.01)])
    right_but_torn = torch.cat([right_but_torn, torch.zeros(3, 8).double()], -1)
    assert score(wrong) == pytest.approx(0, abs=1e-12) and (wrong.argmax(-1) == 3).all()
    assert (right_but_torn.argmax(-1) == 0).all() and score(right_but_torn) > 0.05
    assert score(torch.eye(10).double()) == pytest.approx(
        math.log(10)
    )  # no two draws agree: the most there is


# --- what code does -------------------------------------------------------------------------------------------------


def test_log_probabilities_taken_for_probabilities_turn_the_order_round():
    """mmjsd-code-3, mopoe-code-4: 71 characters."""

    def trained(logits):  # p_i = log s_i / sum_j log s_j
        log_s = logits.log_softmax(-1)
        return log_s / log_s.sum(-1, keepdim=True)

    logits = random(100, 71)
    p = trained(logits)
    torch.testing.assert_close(p.sum(-1), torch.ones(100).double(), **EXACT)
    assert (p.argmax(-1) == logits.argmin(-1)).all()

    def largest(gap):  # one character's logit lies `gap` below all others
        return trained(torch.cat([tensor(-gap), torch.zeros(70).double()])).max().item()

    assert brentq(lambda gap: largest(gap) - 0.5, 1, 1e5) == pytest.approx(293, abs=1)
    assert brentq(lambda gap: largest(gap) - 0.99, 1, 1e5) == pytest.approx(29_438, abs=10)
    as_meant = torch.cat([tensor(5.0 + math.log(70)), torch.zeros(70).double()]).softmax(-1)
    assert as_meant[0] > 0.99  # with a likelihood on logits a gap of ten is enough


def test_averaging_over_images_in_place_of_samples_inflates_likelihoods():
    """mmjsd-code-8 (a), mopoe-code-4: three modalities of the laboratory, 12 samples of too wide a posterior."""
    lab, batch, log_weights = slips.likelihood_weights()  # [K, B]
    exact = lab.log_marginal(batch)
    right = importance_log_likelihood(log_weights.logsumexp(0)[None], torch.zeros(1, 1200).double(), 12)
    assert (right.mean() - exact.mean()).abs() < 0.1  # nats: the estimator is right
    wrong, spread = slips.likelihood_as_released(log_weights), exact.std().item()
    assert spread == pytest.approx(21.2, rel=0.06)  # sqrt(900 / 2); good to 2 %
    # nearly the largest of 12 images: 1.63 standard deviations, less log 12
    assert (wrong.mean() - exact.mean()).item() == pytest.approx(1.63 * spread - math.log(12), abs=2)
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(0))  # what a test would have noticed
    torch.testing.assert_close(log_weights[:, order].logsumexp(0) - math.log(12), right[order])
    assert not torch.allclose(slips.likelihood_as_released(log_weights[:, order]), wrong[order])


def test_cosine_of_projections_depends_on_the_scale_of_each_component():
    """cub-code-1: two views, one component shared, one not; the second is stretched in both views alike."""
    shared, noise = random(20_000), random(2, 2, 20_000, seed=1)
    first = torch.stack([shared + 0.1 * noise[0, 0], noise[0, 1]])
    second = torch.stack([shared + 0.1 * noise[1, 0], noise[1, 1]])

    def score(stretch):
        scale = tensor(1.0, stretch)[:, None]
        return nn.functional.cosine_similarity(first * scale, second * scale, dim=0).mean().item()

    assert score(0.01) > 0.85
    assert 0.4 < score(1.0) < 0.5
    assert score(10.0) < 0.1
