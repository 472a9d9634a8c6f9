"""What the class explains of an image, and the figures of the data chapter."""

import pytest
import torch

from mmlib.book.figures.data import class_gain, intervals, pairing_lines
from mmlib.data import Items
from mmlib.data.difficulty import guesses, median_images


def items(values, labels):
    """Images of two pixels."""
    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 2)
    return Items(images, torch.tensor(labels), torch.arange(len(labels)))


TRAIN = items([[0, 255], [0, 255], [0, 0], [255, 255], [255, 255]], [3, 3, 3, 7, 7])


def test_medians_are_the_best_constant_guesses():
    overall, by_class = median_images(TRAIN)
    assert overall.flatten().tolist() == [0, 1]
    assert by_class.flatten(1).tolist() == [[0, 1], [1, 1]]


def test_costs_by_hand():
    test = items([[51, 255], [255, 204]], [3, 7])
    found = guesses(TRAIN, test, scale=0.5)
    # constant (0, 1): 0.2 and 1 + 0.2; by class (0, 1) and (1, 1): 0.2 and 0.2; divided by 0.5, averaged
    assert found.constant == pytest.approx((0.2 + 1.2) / 0.5 / 2)
    assert found.given_class == pytest.approx((0.2 + 0.2) / 0.5 / 2)
    assert found.gain == pytest.approx(1.0)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="scale is 0; expected a positive number"):
        guesses(TRAIN, TRAIN, scale=0)
    with pytest.raises(ValueError, match=r"test has classes \[3, 8\]; expected \[3, 7\]"):
        guesses(TRAIN, items([[0, 0], [0, 0]], [3, 8]))


def test_figures_draw_what_they_are_given():
    labels = {"hand": torch.tensor([0, 0, 1]), "street": torch.tensor([0, 1, 1, 1])}
    index = {"hand": torch.tensor([0, 2]), "street": torch.tensor([0, 1])}
    ax = pairing_lines(labels, index)
    assert len(ax.lines) == 2 and len(ax.texts) == 7
    axes = class_gain([0, 0.5, 1], [9, 2, 0], [150, 200, 230])
    assert axes[0].lines[0].get_ydata().tolist() == [9, 2, 0]
    centres = {"usual": [0.5, 0.9], "clustered": [0.5, 0.6]}
    axes = intervals(centres, {name: [0.1, 0.1] for name in centres}, truth=0.5)
    assert [ax.get_title()[:12] for ax in axes] == ["usual: 50% o", "clustered: 1"]
