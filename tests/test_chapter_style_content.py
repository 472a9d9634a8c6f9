"""What a shared code alone costs, what a swapped image takes from whom, and figures on style and content."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from mmlib.book.figures import style_content as figures
from mmlib.lab import shared_code
from mmlib.metrics import Classifiers, swaps
from mmlib.modality import LaplaceLikelihood, Modality
from mmlib.models import MMALI

# --- one shared code ------------------------------------------------------------------------------------------------


def by_cases(values, keep):
    """The divergence by hand: whether the code has the value of x_1 right, and that of x_2, makes four cases."""
    b, a = values, keep
    cases = [
        (a / b, a / b, 1.0),
        (a * (b - 1) / b, (1 - a) / b, 0.0),
        ((1 - a) / b, a * (b - 1) / b, 0.0),
        ((1 - a) * (b - 1) / b, (1 - a) * (b - 1) / b, 0.0),
    ]
    return sum(p * math.log(3 * p / sum(case)) for case in cases for p in case if p) / 3


def free_tables(classes, values, steps=1500):
    """The least divergence over *all* tables of prior and encoders, by descent; the problem is convex."""
    n = classes * values  # items of either modality; a cell is any pair of them, of one class or not
    pairs = [(u, v) for u in range(n) for v in range(n)]
    seen = torch.tensor([pair for pair in pairs if pair[0] // values == pair[1] // values])  # the data's
    own = torch.zeros(len(seen), n * n, dtype=torch.float64)
    own[range(len(seen)), seen[:, 0] * n + seen[:, 1]] = 1.0
    stray = 1 - own.sum(0)  # cells that decode to no pair of the data
    noise = torch.Generator().manual_seed(0)
    shapes = [(n * n,), (n, n * n), (n, n * n)]
    tables = [(0.1 * torch.randn(s, generator=noise, dtype=torch.float64)).requires_grad_() for s in shapes]
    descent = torch.optim.Adam(tables, 0.05)
    for _ in range(steps):
        prior, first, second = (table.softmax(-1) for table in tables)
        p = torch.stack([first[seen[:, 0]] / len(seen), second[seen[:, 1]] / len(seen), own * prior])
        p = torch.cat([p.flatten(1), torch.stack([0 * prior, 0 * prior, stray * prior])], 1)
        there = p > 0
        mixture = p.mean(0).clamp_min(1e-300)
        value = torch.where(there, p * (torch.where(there, p, 1.0).log() - mixture.log()), 0.0).sum() / 3
        descent.zero_grad()
        value.backward()
        descent.step()
    return value.item()


@pytest.mark.parametrize("classes, values", [(1, 2), (2, 2), (3, 4), (2, 1)])
def test_distributions_of_a_shared_code(classes, values):
    for keep in (1 / values, (1 + 1 / values) / 2, 1.0):
        found = shared_code.with_shared_code(classes, values, keep)
        torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-12)
        assert shared_code.divergence(found).item() == pytest.approx(by_cases(values, keep), abs=1e-12)


def test_all_three_agree_with_styles_and_with_nothing_private():
    for classes, values in ((2, 3), (3, 2)):
        assert shared_code.divergence(shared_code.with_styles(classes, values)).item() == pytest.approx(
            0, abs=1e-12
        )
    assert shared_code.divergence(shared_code.with_shared_code(4, 1, 1.0)).item() == pytest.approx(
        0, abs=1e-12
    )


def test_the_best_compromise_is_the_best_of_all_tables():
    keep = shared_code.best_keep(1, 2)
    assert keep == pytest.approx(1 / math.sqrt(2), abs=1e-6)
    for classes, values in ((1, 2), (1, 3), (2, 2)):
        best = by_cases(values, shared_code.best_keep(classes, values))
        assert best < min(by_cases(values, 1.0), by_cases(values, 1 / values))
        assert best - 1e-9 <= free_tables(classes, values) < best + 1e-3


def test_information_of_the_content():
    for classes, values, keep in ((2, 3, 0.6), (1, 2, 1.0), (3, 2, 0.5), (2, 1, 1.0)):
        q = shared_code.with_shared_code(classes, values, keep)[0]
        q = q.reshape(classes, values, values, classes, values, values).sum(
            (2, 5)
        )  # (x_1, class and value in c)
        q = q.reshape(classes * values, -1)
        apart = q.sum(1, keepdim=True) * q.sum(0, keepdim=True)
        exact = (torch.xlogy(q, q) - torch.xlogy(q, apart)).sum().item()
        assert shared_code.content_information(classes, values, keep) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("arguments", [(0, 2, 0.6), (2, 0, 1.0), (2, 2, 0.4), (2, 2, 1.1)])
def test_shared_codes_out_of_range(arguments):
    with pytest.raises(ValueError, match="(classes|values|keep) is .*; expected"):
        shared_code.with_shared_code(*arguments)
    with pytest.raises(ValueError, match="(classes|values|keep) is .*; expected"):
        shared_code.content_information(*arguments)


# --- swaps ----------------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """Reads a code off an image: style from the first pixel, content from the second."""

    def forward(self, x):
        code = x.flatten(1)[:, :2]
        return code, torch.full_like(code, -20.0)


class Painter(nn.Module):
    """Paints a code of [style, content] into two pixels."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, code):
        return code.reshape(-1, 1, 1, 2).expand(-1, self.channels, -1, -1)


def painting():
    parts = [
        Modality(name, (channels, 1, 2), Reader(), Painter(channels), LaplaceLikelihood(0.75))
        for name, channels in (("hand", 1), ("street", 3))
    ]
    return MMALI(parts, content_dim=1, style_dim=1, layers="flat")


def pictures(style, content, channels=1):
    return torch.stack([style, content], -1)[:, None, None].expand(-1, channels, -1, -1)


@pytest.mark.parametrize("mean", [True, False])
def test_swap_takes_contents_by_row_and_styles_by_column(mean):
    contents = pictures(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2]))
    styles = pictures(torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.9, 0.9, 0.9]), channels=3)
    made = swaps.swap(painting(), contents, styles, "hand", "street", mean, torch.Generator().manual_seed(0))
    assert made.shape == (2, 3, 3, 1, 2)
    expected = torch.stack(torch.broadcast_tensors(styles[None, :, 0, 0, 0], contents[:, None, 0, 0, 1]), -1)
    torch.testing.assert_close(made[:, :, 1, 0], expected, rtol=0, atol=1e-6 if mean else 0.03)


def test_shares_of_variance():
    rows, columns = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([2.0, -1.0])
    assert swaps.shares(rows[:, None].expand(-1, 4)) == pytest.approx({"rows": 1, "columns": 0, "rest": 0})
    found = swaps.shares(rows[:, None] + columns)
    total = rows.var(correction=0) + columns.var(correction=0)
    assert found["rows"] == pytest.approx(float(rows.var(correction=0) / total))
    assert found["rest"] == pytest.approx(0, abs=1e-12)
    table = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    found = swaps.shares(table)
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) > 0
    for bad in (torch.zeros(3), torch.zeros(1, 3)):
        with pytest.raises(ValueError, match="values has shape"):
            swaps.shares(bad)
    with pytest.raises(ValueError, match="all the same"):
        swaps.shares(torch.ones(2, 2))


def test_statistics_of_images():
    image = torch.zeros(2, 3, 4, 4)
    image[0, 0], image[1, 2] = 1.0, 0.5
    torch.testing.assert_close(swaps.brightness(image), torch.tensor([1 / 3, 0.5 / 3]))
    torch.testing.assert_close(swaps.warmth(image), torch.tensor([1.0, -0.5]))
    stroke = torch.stack([torch.eye(6).flip(0), torch.eye(6), torch.eye(6)[:, [2]].expand(6, 6)])[:, None]
    stroke[2] = 0
    stroke[2, :, :, 3] = 1.0
    torch.testing.assert_close(swaps.slant(stroke), torch.tensor([1.0, -1.0, 0.0]))  # / leans right
    a = torch.tensor([1.0, 2.0, 4.0])
    assert swaps.correlation(a, 3 - 2 * a) == pytest.approx(-1)
    assert math.isnan(swaps.correlation(a, torch.ones(3)))


class PixelJudge(nn.Module):
    """Takes the second pixel for the class, in tenths."""

    classes = 10

    def forward(self, x):
        return nn.functional.one_hot((10 * x.flatten(1)[:, 1]).round().long(), 10).float()


class Pictures:
    """A split in which the content is the class, and the style a number of its own."""

    def __init__(self, n):
        self.labels = torch.arange(n) % 10
        self.style = torch.rand(n, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.labels)

    def batch(self, rows, device=None):
        content = self.labels[rows] / 10
        return {
            name: pictures(self.style[rows], content, channels)
            for name, channels in (("hand", 1), ("street", 3))
        }


def test_swap_scores_of_a_model_that_keeps_the_two_apart():
    judges = Classifiers({name: PixelJudge().eval() for name in ("hand", "street")}, {})

    def first_pixel(images):
        return images[..., 0, 0, 0]

    found = swaps.swap_scores(
        painting(), Pictures(60), judges, "hand", "street", {"look": first_pixel}, rows=25, columns=30
    )
    assert found["class"] == {"content": 1.0, "style": 0.0}
    assert found["look"]["columns"] == pytest.approx(1) and found["look"]["correlation"] == pytest.approx(1)


# --- figures --------------------------------------------------------------------------------------------------------


def test_paths_show_who_gives_which_code():
    axes = figures.code_paths(("mnist", "svhn"))
    assert len(axes) == 4
    for ax, (_, style, content, decoder) in zip(axes, figures.WAYS, strict=True):
        arrows = [p for p in ax.patches if type(p).__name__ == "FancyArrowPatch"]
        assert len(arrows) == 4
        texts = [text for text in ax.texts if text.get_text() not in ("style", "content")]
        vivid = {text.get_text() for text in texts if text.get_color() == "black"}
        named = {0: "encoder\nmnist", 1: "encoder\nsvhn", "prior": "prior"}
        assert vivid == {named[style], named[content], f"decoder\n{('mnist', 'svhn')[decoder]}"}


def test_shared_code_curves():
    left, right = figures.shared_code(
        [1, 2], {"keep": [0.0, 0.4], "styles": [0, 0]}, {"keep": [0.7, 1.4]}, [0.7, 1.4], 1.1
    )
    assert [list(line.get_ydata()) for line in left.lines[:2]] == [[0.0, 0.4], [0, 0]]
    assert left.lines[2].get_ydata()[0] == 1.1
    assert len(right.lines) == 2


class Echo:
    """Generates images whose brightness tells the target and the style that was asked for."""

    def generate(self, batch, given, to, generator=None, style="own"):
        value = {"own": 0.2, "random": 0.4, "source": 0.6}[style] + (0.1 if to != given else 0)
        return {name: torch.full((len(batch[given[0]]), 1, 4, 4), value) for name in to}


def test_translations_are_five_rows():
    batch = {"hand": torch.zeros(3, 1, 4, 4), "street": torch.ones(3, 3, 4, 4)}
    rows = figures.translations(Echo(), batch, "hand", "street")
    assert [round(float(images.mean()), 1) for images in rows.values()] == [0.0, 0.2, 0.4, 0.7, 0.5]


def test_swap_grid_puts_every_image_in_its_place():
    contents, styles = torch.full((2, 1, 4, 4), 0.5), torch.full((3, 3, 4, 4), 0.25)
    images = torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 4, 4) / 10
    ax = figures.swap_grid(images, contents, styles, "a title", plt.subplots(figsize=(2.5, 1.9))[1])
    picture = np.asarray(ax.images[0].get_array())
    middles = picture[3::6, 3::6, 0][:3, :4]
    np.testing.assert_allclose(
        middles, [[1, 0.25, 0.25, 0.25], [0.5, 0, 0.1, 0.2], [0.5, 0.3, 0.4, 0.5]], atol=1e-6
    )
    with pytest.raises(ValueError, match="for 3 contents and 3 styles"):
        figures.swap_grid(images, torch.zeros(3, 1, 4, 4), styles, "", None)
