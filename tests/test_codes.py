"""What the codes look like: distances against integrals, classes and maps of codes whose order is known."""

import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.colors import to_hex
from scipy.integrate import quad
from scipy.stats import laplace, norm
from torch.autograd import gradcheck

from mmlib import metrics, plots
from mmlib.data import load
from mmlib.distributions import Diagonal
from mmlib.models import MODELS
from mmlib.runs.build import build_model
from mmlib.runs.recipes import RECIPES

FAMILIES = {"normal": norm, "laplace": laplace}


def diagonal(n, family, seed, size=2):
    source = torch.Generator().manual_seed(seed)
    loc, raw = torch.randn(2, n, size, generator=source, dtype=torch.float64)
    return Diagonal(loc, raw.exp(), family)


def blobs(spread=0.1, modalities=("hand", "street"), apart=0.0, n=40):
    """Posteriors around their digit's number on a line; every further modality lies ``apart`` from the one before."""
    labels = torch.arange(n) % 4
    source = torch.Generator().manual_seed(0)
    found = {}
    for m, name in enumerate(modalities):
        along = labels + spread * torch.randn(n, generator=source)
        loc = torch.stack([along, torch.full((n,), apart * m)], -1)
        found[name] = Diagonal(loc, torch.full_like(loc, 0.3))
    return found, labels


# --- distances -----------------------------------------------------------------------------------------------------


@pytest.mark.equation("eq-wasserstein")
@pytest.mark.parametrize("family", FAMILIES)
def test_wasserstein_is_the_integral_between_quantile_functions(family):
    """In one dimension W2^2 = int (F^-1 - G^-1)^2 du, and independent dimensions add up."""
    p, q = diagonal(2, family, seed=0), diagonal(3, family, seed=1)
    found = metrics.wasserstein(p, q)
    assert found.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            total = 0.0
            for d in range(2):
                one, other = (
                    FAMILIES[family](float(r.loc[k, d]), float(r.scale[k, d])) for r, k in ((p, i), (q, j))
                )
                total += quad(lambda u, a=one, b=other: (a.ppf(u) - b.ppf(u)) ** 2, 0, 1)[0]
            assert float(found[i, j]) == pytest.approx(
                total**0.5, rel=1e-7
            )  # the ends of the integral are logs


@pytest.mark.equation("eq-wasserstein")
@pytest.mark.parametrize("family", FAMILIES)
def test_wasserstein_has_the_gradient_of_its_differences(family):
    def distance(*tensors):
        return metrics.wasserstein(Diagonal(*tensors[:2], family), Diagonal(*tensors[2:], family))

    p, q = diagonal(2, family, seed=0), diagonal(3, family, seed=1)
    assert gradcheck(distance, [x.requires_grad_() for x in (p.loc, p.scale, q.loc, q.scale)])


def test_equal_posteriors_are_exactly_0_apart_with_gradient_0_and_the_triangle_holds():
    for family in FAMILIES:
        q = diagonal(60, family, seed=2, size=20)  # more than 25: where cdist would take products of matrices
        q = Diagonal(100 + q.loc.float(), q.scale.float(), family)
        loc = q.loc.clone().requires_grad_()
        d = metrics.wasserstein(Diagonal(loc, q.scale, family), q)
        assert bool((d.diagonal() == 0).all())
        d.diagonal().sum().backward()
        assert torch.equal(loc.grad, torch.zeros_like(loc))
        assert bool((d[:, :, None] + d[None] >= d[:, None] - 1e-4).all())  # float32
    with pytest.raises(
        ValueError, match="p is normal of size 2 and q is laplace of size 2; expected one family"
    ):
        metrics.wasserstein(diagonal(2, "normal", 0), diagonal(2, "laplace", 0))
    with pytest.raises(ValueError, match="of size 4; expected one family and one size"):
        metrics.wasserstein(diagonal(2, "normal", 0), diagonal(2, "normal", 0, size=4))


def test_related_items_are_nearer_where_codes_follow_the_class_whatever_the_unit():
    distances = torch.tensor([[1.0, 5.0, 2.0], [3.0, 2.0, 3.0], [0.5, 4.0, 1.5]])
    related, unrelated, nearer = metrics.relatedness(distances, torch.tensor([7, 3, 7]))
    assert related.tolist() == [1.0, 2.0, 2.0, 0.5, 1.5] and unrelated.tolist() == [5.0, 3.0, 3.0, 4.0]
    assert nearer == 1.0
    related, unrelated, nearer = metrics.relatedness(7 * distances, torch.tensor([0, 0, 1]))
    won = sum((float(a < b) + float(a == b) / 2) for a in related for b in unrelated)
    assert nearer == pytest.approx(won / (len(related) * len(unrelated)))
    related, unrelated, nearer = metrics.relatedness(
        distances[:2], torch.tensor([7, 3]), torch.tensor([3, 3, 7])
    )
    assert related.tolist() == [2.0, 3.0, 2.0] and unrelated.tolist() == [1.0, 5.0, 3.0]
    assert nearer == pytest.approx((0 + 1 + 0.5 + 0 + 1 + 1 + 0 + 1 + 1) / 9)  # 3 against 3 is a tie


@pytest.mark.parametrize(
    ("labels", "others", "message"),
    [
        ([0, 1], None, r"distances has shape \(3, 3\); expected \(2, 2\), a row and a column for each label"),
        ([0, 1, 1], [0, 1], r"distances has shape \(3, 3\); expected \(3, 2\)"),
        ([0, 0, 0], None, "labels make all pairs related, or none"),
        ([0, 0, 0], [1, 2, 1], "labels make all pairs related, or none"),
    ],
)
def test_labels_that_tell_nothing_apart_are_refused(labels, others, message):
    others = others if others is None else torch.tensor(others)
    with pytest.raises(ValueError, match=message):
        metrics.relatedness(torch.ones(3, 3), torch.tensor(labels), others)


# --- classes and maps ----------------------------------------------------------------------------------------------


def test_class_distances_are_means_over_all_pairs_of_two_groups():
    posteriors, labels = blobs(modalities=("a", "b", "c"), apart=2.0, n=13)
    found, groups = metrics.class_distances(posteriors, labels + 3)
    assert groups == [(name, c) for name in "abc" for c in (3, 4, 5, 6)]
    for i, (first, c) in enumerate(groups):
        for j, (second, d) in enumerate(groups):
            pairs = metrics.wasserstein(posteriors[first], posteriors[second])
            mean = pairs[labels + 3 == c][:, labels + 3 == d].mean()
            assert float(found[i, j]) == pytest.approx(float(mean), rel=1e-5)  # float32


@pytest.mark.parametrize(("apart", "partner"), [(0.0, "digit"), (9.0, "modality")])
def test_the_tree_joins_modalities_of_a_digit_or_digits_of_a_modality(apart, partner):
    distances, groups = metrics.class_distances(*blobs(apart=apart))
    before = distances.clone()
    found = metrics.tree(distances)
    assert torch.equal(distances, before)
    joined = [(groups[int(a)], groups[int(b)]) for a, b, *_ in found if max(a, b) < len(groups)]
    index = 1 if partner == "digit" else 0
    assert joined and all(a[index] == b[index] for a, b in joined)
    assert (
        found[-1, 2]
        == pytest.approx(  # average linkage: the mean over pairs of the last two clusters
            float(distances[:4, 4:].mean()) if partner == "modality" else found[-1, 2]
        )
    )


def test_linkages_join_what_they_say():
    """Four points on a line, at 0, 1, 3 and 7: single takes the nearest, complete the farthest, average the mean."""
    points = torch.tensor([0.0, 1.0, 3.0, 7.0], dtype=torch.float64)
    distances = (points[:, None] - points).abs()
    heights = {
        kind: metrics.tree(distances, kind)[:, 2].tolist() for kind in ("single", "average", "complete")
    }
    assert heights == {"single": [1, 2, 4], "average": [1, 2.5, pytest.approx(17 / 3)], "complete": [1, 3, 7]}
    merged = metrics.tree(distances, "ward")[
        1, 2
    ]  # {0, 1} and 3: sqrt(2 n m / (n + m)) times the centres' distance
    assert merged == pytest.approx((2 * 2 * 1 / 3) ** 0.5 * 2.5)
    with pytest.raises(
        ValueError, match="linkage is 'median'; expected one of average, single, complete, ward"
    ):
        metrics.tree(distances, "median")
    with pytest.raises(ValueError, match=r"distances has shape \(2, 4\); expected \[G, G\]"):
        metrics.tree(distances[:2])


def test_a_matrix_of_two_modalities_is_made_symmetric_before_it_is_joined():
    block = torch.tensor([[9.0, 1.0, 4.0], [3.0, 9.0, 6.0], [6.0, 8.0, 9.0]], dtype=torch.float64)
    assert metrics.tree(block, "single")[:, 2].tolist() == [2.0, 5.0]  # (1 + 3) / 2 and (4 + 6) / 2


def test_the_map_is_one_for_all_modalities_and_owes_nothing_to_chance():
    posteriors, labels = blobs(n=120)
    places = metrics.joint_map(posteriors, perplexity=10)
    torch.manual_seed(1)
    again = metrics.joint_map(posteriors, perplexity=10)
    for name in ("hand", "street"):
        assert places[name].shape == (120, 2) and torch.equal(places[name], again[name])
    nearest = torch.cdist(places["hand"], places["street"]).argmin(1)
    assert float((labels[nearest] == labels).double().mean()) > 0.9  # four blobs far apart stay so


@pytest.mark.parametrize("name", MODELS)
def test_every_model_shows_its_codes_for_any_number_of_modalities(name):
    recipe = next(r for r in RECIPES.values() if r.model == name and r.dataset == "hand-street")
    recipes = [recipe] + [
        r for r in RECIPES.values() if r.model == name and r.data_options.get("modalities", 2) > 2
    ]
    for recipe in recipes[:2]:
        data = load(recipe.dataset, **recipe.data_options)
        model = build_model(recipe, data, seed=0)
        posteriors, labels = metrics.unimodal_posteriors(model, data.validation, max_rows=60, batch_size=25)
        assert (
            list(posteriors) == list(model.modalities)
            and labels.tolist() == data.validation.labels[:60].tolist()
        )
        batch = data.validation.batch(torch.arange(60), None)
        for m, q in posteriors.items():
            torch.testing.assert_close(q.loc, model.posterior({m: batch[m]}, given=[m]).mean.detach())
        first, *_, last = posteriors.values()
        nearer = metrics.relatedness(metrics.wasserstein(first, last), labels)[2]
        told = metrics.evaluate_relatedness(model, data.validation, max_rows=60)
        assert len(told) == len(posteriors) * (len(posteriors) - 1) / 2
        names = list(model.modalities)
        assert told[f"{names[0]},{names[-1]}"] == {
            "value": pytest.approx(nearer),
            "se": None,
            "n": 60,
            "clusters": 60,
        }
        distances, groups = metrics.class_distances(posteriors, labels)
        assert len(metrics.tree(distances)) == len(groups) - 1
        assert all(p.isfinite().all() for p in metrics.joint_map(posteriors, perplexity=10).values())


# --- figures -------------------------------------------------------------------------------------------------------


def test_figures_draw_what_they_are_given():
    posteriors, labels = blobs()
    places = {name: q.loc for name, q in posteriors.items()}
    left, right = plots.code_map(places, labels)
    assert sorted(text.get_text() for text in left.texts) == sorted("01230123")
    colours = {to_hex(c) for cloud in left.collections for c in cloud.get_facecolors()}
    assert colours == {to_hex(c) for c in plots.DIGITS[:4]}
    drawn = torch.as_tensor(right.collections[1].get_offsets().data)
    torch.testing.assert_close(drawn, places["street"].to(drawn))
    assert to_hex(right.collections[1].get_facecolors()[0]) == plots.colour("street")

    parted = metrics.relatedness(metrics.wasserstein(*posteriors.values()), labels)
    axes = plots.distance_histograms({"mvae": parted, "mmali": parted})
    assert [ax.get_title() for ax in axes] == ["mvae: nearer 100%", "mmali: nearer 100%"]
    heights, width = [bar.get_height() for bar in axes[0].patches[:-1]], axes[0].patches[0].get_width()
    assert sum(heights) * width == pytest.approx(1)  # a density; the last patch is the other outline

    distances, groups = metrics.class_distances(posteriors, labels)
    found = metrics.tree(distances)
    ax = plots.class_tree(found, groups, "a model")
    block = plots.class_matrix(
        distances[:4, 4:], [3, 1, 4, 5], ("hand", "street"), "a model", plt.subplots()[1]
    )
    assert torch.equal(torch.as_tensor(block.images[0].get_array().data), distances[:4, 4:])
    nearest = [tuple(int(x) for x in line.get_xydata()[0]) for line in block.lines]
    assert nearest == [(int(column), row) for row, column in enumerate(distances[:4, 4:].argmin(1))]
    assert [text.get_text() for text in block.get_yticklabels()] == ["3", "1", "4", "5"]
    assert to_hex(block.xaxis.label.get_color()) == plots.colour("street")
    texts = [(text.get_text(), to_hex(text.get_color())) for text in ax.get_xticklabels()]
    assert sorted(texts) == sorted((str(c), plots.colour(name)) for name, c in groups)
    assert {text for text, _ in texts[:2]} == {texts[0][0]}  # the two modalities of a digit stand together
    assert ax.get_ylim()[1] >= found[-1, 2]
