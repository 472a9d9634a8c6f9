"""Figures: what is drawn is what was given, one look for each name, and tables whose text is the same everywhere."""

import inspect

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from PIL import Image

from mmlib import plots
from mmlib.distributions import kl_divergence
from mmlib.plots import grids, style
from mmlib.summary import summarise
from mmlib.train import History


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


class FakeModel:
    """Generates flat images: brightness tells which call made them."""

    modalities = ("hand", "street")

    def sample(self, n, generator=None):
        return {"hand": torch.full((n, 1, 4, 4), 0.25), "street": torch.full((n, 3, 8, 8), 0.75)}

    def generate(self, batch, given, to, generator=None):
        n = len(batch[given[0]])
        value = torch.rand((), generator=generator)
        return {name: torch.full((n, 3, 8, 8), float(value)) for name in to}


def test_every_modality_and_model_has_one_look_and_models_differ_in_colour_marker_and_line():
    from mmlib.data import LOADERS
    from mmlib.models import MODELS

    looks = [plots.look(name) for name in MODELS]
    for key in ("color", "marker"):
        assert len({look[key] for look in looks}) == len(looks)
    for name in (*LOADERS, *MODELS):
        for part in name.removeprefix("multi-").split("-"):
            assert set(plots.look(part)) == {"color", "marker", "linestyle"}
    roles = [plots.look(name) for name in ("hand", "street", "text")]
    assert len({look["color"] for look in roles} | {look["color"] for look in looks}) == len(roles) + len(
        looks
    )
    assert plots.look("MMVAE") == plots.look("mmvae") and plots.colour("mnist") == plots.colour("hand")
    with pytest.raises(ValueError, match="name is 'sound'; expected one of hand, mnist"):
        plots.look("sound")


def test_style_sets_resolution_and_colours():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["figure.dpi"] >= 100 and not plt.rcParams["axes.spines.top"]
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == style._COLOURS


def test_source_is_the_library_s_own(capsys):
    plots.show_source(kl_divergence, plots.look)
    out = capsys.readouterr().out
    assert (
        out
        == inspect.getsource(kl_divergence).rstrip() + "\n\n" + inspect.getsource(plots.look).rstrip() + "\n"
    )


def test_tile_puts_every_image_in_its_place():
    grey = torch.stack([torch.full((1, 2, 2), v) for v in (0.0, 0.5, 1.0)])
    colour = torch.zeros(3, 3, 4, 4)
    colour[1, 0] = 1.0
    picture = grids.tile([grey, colour], gap=1)
    assert picture.shape == (2 * (4 + 1) + 1, 3 * (4 + 1) + 1, 3)
    assert torch.equal(picture[1:5, 6:10], torch.full((4, 4, 3), 0.5))  # enlarged from 2x2 to 4x4
    assert torch.equal(picture[6:10, 6:10], torch.tensor([1.0, 0, 0]).expand(4, 4, 3))
    assert (
        bool((picture[0] == 1).all()) and bool((picture[:, 0] == 1).all()) and bool((picture[-1] == 1).all())
    )
    with pytest.raises(ValueError, match=r"rows have \[3, 2\] images"):
        grids.tile([grey, colour[:2]])
    with pytest.raises(ValueError, match="rows have"):
        grids.tile([])


def test_to_image():
    assert grids.to_image(torch.rand(1, 5, 6)).shape == (5, 6, 3)
    assert float(grids.to_image(torch.full((3, 2, 2), 1.7)).max()) == 1
    with pytest.raises(ValueError, match=r"x has shape \(2, 5, 5\)"):
        grids.to_image(torch.rand(2, 5, 5))


def test_image_grid_labels_rows_and_columns():
    ax = plots.image_grid(
        {"hand": torch.rand(4, 1, 8, 8), "street": torch.rand(4, 3, 8, 8)}, columns="0123", title="digits"
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["hand", "street"]
    assert [label.get_text() for label in ax.get_xticklabels()] == list("0123")
    assert ax.get_title() == "digits"
    assert ax.images[0].get_array().shape == (2 * 10 + 2, 4 * 10 + 2, 3)
    _, given = plt.subplots()
    assert plots.image_grid([torch.rand(2, 1, 8, 8)], ax=given) is given


def test_generation_grid_draws_anew_and_can_hide_what_was_given():
    batch = {"hand": torch.zeros(5, 1, 8, 8), "street": torch.ones(5, 3, 8, 8)}
    draw = torch.Generator().manual_seed(0)
    ax = plots.generation_grid(FakeModel(), batch, "hand", n_draws=3, generator=draw)
    labels = [label.get_text().strip() for label in ax.get_yticklabels()]
    assert labels == ["given: hand", "street", "street", "street"]
    pixels = np.asarray(ax.images[0].get_array())
    rows = [pixels[2 + 10 * i + 4, 6, 0] for i in range(4)]
    assert rows[0] == 0 and len(set(rows)) == 4
    ax = plots.generation_grid(FakeModel(), batch, "hand", n_draws=2, show_given=False)
    assert [label.get_text().strip() for label in ax.get_yticklabels()] == ["street", "street"]
    ax = plots.sample_grid(FakeModel(), 6)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["hand", "street"]


def test_saved_samples_are_small_and_the_same_bytes_each_time(tmp_path):
    first, second = (plots.save_samples(FakeModel(), tmp_path / name, n=12) for name in ("a.png", "b.png"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 200_000
    picture = np.asarray(Image.open(first).convert("RGB"))
    assert picture.shape == (2 * 66 + 2, 12 * 66 + 2, 3)
    assert picture[30, 30].tolist() == [64, 64, 64] and picture[100, 30].tolist() == [191, 191, 191]


def test_history_curves_draw_the_columns():
    rows = [
        {"step": 10, "loss": 3.0},
        {"step": 20, "loss": 2.0, "validation/loss": 2.5},
        {"step": 30, "loss": 1.0},
    ]
    ax = plots.history_curves(History(rows), ["loss", "validation/loss"])
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[10, 3], [20, 2], [30, 1]], [[20, 2.5]]]
    assert ax.get_xlabel() == "training step" and ax.get_ylabel() == "nats"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["loss", "validation/loss"]
    ax = plots.history_curves({"mvae": History(rows), "mmvae": History(rows)}, "loss")
    assert [line.get_color() for line in ax.lines] == [plots.colour("mvae"), plots.colour("mmvae")]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mvae", "mmvae"]
    with pytest.raises(ValueError, match="name is 'accuracy'"):
        plots.history_curves(History(rows), "accuracy")


def test_dots_show_every_seed_the_mean_the_interval_and_n():
    three, one = summarise([0.7, 0.8, 0.9]), summarise([0.2])
    ax = plots.dots({"MMVAE, ELBO": three, "MVAE": one}, paper={"MVAE": 0.3}, chance=0.1, xlabel="coherence")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["MMVAE, ELBO (n = 3)", "MVAE (n = 1)"]
    drawn = [(line.get_xdata(), to_hex(line.get_color())) for line in ax.lines]
    values = [list(np.asarray(x, float)) for x, _ in drawn]
    assert [three.low, three.high] in values and [0.7, 0.8, 0.9] in values and [three.mean] in values
    assert [0.2] in values and [0.3] in values and [0.1, 0.1] in values
    colours = {tuple(np.asarray(x, float)): colour for x, colour in drawn}
    assert colours[(0.7, 0.8, 0.9)] == to_hex(plots.colour("mmvae"))
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"chance", "paper"}
    with pytest.raises(ValueError, match="paper has JMVAE; expected some of MVAE"):
        plots.dots({"MVAE": one}, paper={"JMVAE": 0.3})
    with pytest.raises(ValueError, match="rows is empty"):
        plots.dots({})


def test_table_beside_the_paper_is_plain_text():
    rows = [
        ("given street, hand", "70.8 ± 0.4", summarise([0.7, 0.8]), "less data"),
        ("joint", None, summarise([0.5]), "one seed"),
        ("synergy", "—", None, ""),
    ]
    text = plots.paper_versus_ours(rows, paper="Shi et al. 2021, Table 1")
    assert text == (
        "| quantity | Shi et al. 2021, Table 1 | here: mean ± sd (seeds) | remark |\n"
        "| :-- | --: | --: | :-- |\n"
        "| given street, hand | 70.8 ± 0.4 | 75.0 ± 7.1 (2) | less data |\n"
        "| joint | – | 50.0 (1) | one seed |\n"
        "| synergy | — | – |  |"
    )
    assert repr(text) == text and text._repr_markdown_() == text
    assert plots.table(["a", "b"], [["x", summarise([-3.0, -5.0])]], percent=False).splitlines()[-1] == (
        "| x | -4.0 ± 1.4 (2) |"
    )
    with pytest.raises(ValueError, match="a row has 1 cells; expected 2: a, b"):
        plots.table(["a", "b"], [["x"]])
