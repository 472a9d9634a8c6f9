"""The figures of the chapter on factorised discriminators draw what they are given."""

import numpy as np
import pytest
import torch

from mmlib.book.figures import mmali as figures
from mmlib.summary import summarise


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def test_networks_are_fed_what_they_see():
    left, right = figures.networks()
    assert {"$T$", "$D^0_1$", "$D^1_2$", "$c$"} <= {text.get_text() for text in left.texts}
    arrows = [(text.xyann, text.xy) for text in left.texts if getattr(text, "arrow_patch", None)]
    into = {place: sum(end == (place, 1.86) for _, end in arrows) for place in (0.4, 1.9, 3.5, 5.1, 6.6)}
    assert into == {0.4: 3, 1.9: 3, 3.5: 2, 5.1: 3, 6.6: 3}  # T alone sees no code
    assert sum(end == (3.5, 0.44) for _, end in arrows) == 5
    assert sum(getattr(text, "arrow_patch", None) is not None for text in right.texts) == 5 + 3


def test_two_clocks_draw_the_same_numbers_against_seconds_and_steps():
    rows = [
        {"step": 10 * k, "classes/hand0": 3 + k, "classes/hand90": 2 + k, "classes/jointly": 0}
        | {f"validation/cross_coherence/{way}": 0.1 * k for way in ("hand0/hand90", "hand90/hand0")}
        for k in (1, 2, 3)
    ]
    between = {"step": 25, "discriminator/loss": 1.0}  # a row without measurements
    result = {"history": [*rows[:2], between, rows[2]], "steps": 40, "seconds": {"training_cpu": 20.0}}
    course = figures.course(result)
    assert {key: values.tolist() for key, values in course.items()} == {
        "step": [10, 20, 30],
        "seconds": [5, 10, 15],
        "cross": pytest.approx([0.1, 0.2, 0.3]),
        "classes": [3, 4, 5],
    }
    axes = figures.two_clocks({"joint": [course, course]})
    for column, x in enumerate(([5, 10, 15], [10, 20, 30])):
        for row, y in enumerate(("cross", "classes")):
            drawn = line(axes[row][column], "joint")
            np.testing.assert_allclose(drawn.get_xdata(), x)
            np.testing.assert_allclose(drawn.get_ydata(), course[y])


def test_posterior_widths_are_sorted():
    widths = {"content": {"joint": torch.tensor([0.5, 0.2, 0.9])}, "style": {"joint": torch.ones(3)}}
    axes = figures.posterior_widths(widths)
    assert [ax.get_title() for ax in axes] == ["content", "style"]
    np.testing.assert_allclose(line(axes[0], "joint").get_ydata(), [0.2, 0.5, 0.9])


def test_forest_draws_every_seed_and_the_interval():
    found = {
        "joint": {"probe": summarise([0.8, 0.9]), "cross": summarise([0.5, 0.6])},
        "factorised": {"probe": summarise([0.95]), "cross": summarise([0.85])},
    }
    axes = figures.forest(found)
    assert [ax.get_title() for ax in axes] == ["probe", "cross"]
    labels = [tick.get_text() for tick in axes[0].get_yticklabels()]
    assert labels == ["joint (n = 2)", "factorised (n = 1)"]
    bar, seeds, mean, *_ = axes[0].get_lines()
    summary = found["joint"]["probe"]
    np.testing.assert_allclose(bar.get_xdata(), [summary.low, summary.high])
    np.testing.assert_allclose(seeds.get_xdata(), [0.8, 0.9])
    np.testing.assert_allclose(mean.get_xdata(), [0.85])
    assert len(axes[0].get_lines()) == 3 + 2  # one seed has no interval
    with pytest.raises(ValueError, match="rows is empty"):
        figures.forest({})
