"""Figures: what is drawn is what was given, one look for each name, and tables whose text is the same everywhere."""

import inspect
from xml.etree import ElementTree

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
    colours = {
        plots.colour(name) for name in (*style.MODALITIES, *MODELS, "chance", "loss", "sound", "touch")
    }
    assert len(colours) == len({look[0] for look in style.MODALITIES.values()}) + len(MODELS) + 4
    assert plots.look("MMVAE") == plots.look("mmvae") and plots.colour("mnist") == plots.colour("hand")
    assert len(set(plots.DIGITS)) == 10


@pytest.mark.parametrize(
    "name", ["hand -> street", "hand → street", "hand to street", "validation/cross_coherence/hand/street"]
)
def test_a_direction_has_the_colour_of_what_is_generated(name):
    assert plots.look(name) == plots.look("hand") | {"color": plots.colour("street")}
    assert plots.look(f"MVAE, {name}") == plots.look("mvae")


@pytest.mark.parametrize("name", ["loss", "kl", "validation/loss", "joint_coherence", "of both digits"])
def test_what_belongs_to_no_modality_is_neutral(name):
    assert plots.look(name) == {"color": "0.3", "marker": ".", "linestyle": "-"}
    assert plots.colour(f"{name}.sound") == plots.colour("sound") != "0.3"


OWN = ["hand-written", "street-view", "blood_pressure", "größe", "3d-scan", "12lead", "mvae_like", "left"]


def test_modalities_of_ones_own_have_looks_of_their_own():
    drawn = {plots.colour(name) for name in [*style.MODALITIES, *OWN, "loss"]}
    assert len(drawn) == len({plots.colour(name) for name in style.MODALITIES}) + len(OWN) + 1
    for name in [*OWN, "blood pressure", "hand of God", "both eyes", "error", "paper"]:
        own = plots.colour(name, modality=True)
        assert own not in {plots.colour(known) for known in [*style.MODALITIES, *style.REFERENCES, "loss"]}
    for name in [*OWN, "blood pressure"]:
        assert plots.colour(f"cross_coherence/text/{name}") == plots.colour(name, modality=True)
        assert plots.colour(f"hand -> {name}") == plots.colour(name, modality=True)
        assert plots.colour(f"{name} -> hand") == plots.colour("hand")
    assert plots.look("mvae-elbo") == plots.look("mvae") and plots.look("hand", modality=True) == plots.look(
        "hand"
    )


def test_panels_are_as_wide_as_the_column():
    figure, axes = plots.panels(2, rows=3, height=2.0)
    assert axes.shape == (3, 2) and figure.get_size_inches().tolist() == [plots.WIDTH, 6.0]


def test_style_sets_resolution_and_colours():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["figure.dpi"] >= 100 and not plt.rcParams["axes.spines.top"]
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == style._COLOURS


def test_source_is_the_library_s_own_and_coloured():
    shown = plots.show_source(kl_divergence, plots.look)
    functions = (kl_divergence, plots.look)
    assert repr(shown) == "\n\n".join(inspect.getsource(function).rstrip() for function in functions)
    assert shown._repr_markdown_() == f"```python\n{shown}\n```"


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
    with pytest.raises(ValueError, match=r"rows have shapes \(3, 3, 2, 2\), \(2, 3, 4, 4\); expected"):
        grids.tile([grey, colour[:2]])
    for rows in ([], [grey[0]]):
        with pytest.raises(ValueError, match="rows have shapes"):
            grids.tile(rows)
    for options in ({"gap": -1}, {"side": 0}, {"side": "large"}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
            grids.tile([grey], **options)


def test_pictures_are_made_of_images():
    assert grids.tile([np.zeros((2, 1, 5, 6))]).shape == (10, 18, 3)
    for row in (torch.rand(2, 5, 5), torch.rand(2, 2, 5, 5), [1.0], None):
        with pytest.raises(ValueError, match=r"row 0 is .*; expected images"):
            grids.tile([row])


def test_what_is_no_image_is_named_by_its_label():
    with pytest.raises(ValueError, match=r"blood is of type Tensor of shape \(2, 7\); expected images"):
        plots.image_grid({"photo": torch.rand(2, 1, 5, 5), "blood": torch.rand(2, 7)})


def test_to_image():
    assert grids.to_image(torch.rand(1, 5, 6)).shape == (5, 6, 3)
    assert grids.to_image(np.zeros((5, 6))).shape == (5, 6, 3)
    for x in (torch.rand(2, 5, 5), torch.rand(2, 3, 5, 5), [1.0], None):
        with pytest.raises(ValueError, match=r"x is .*; expected .*image"):
            grids.to_image(x)


def test_bytes_are_drawn_as_they_are_and_other_ranges_are_refused(tmp_path):
    draw = torch.Generator().manual_seed(0)
    data = {
        name: torch.randint(256, (4, c, 8, 8), generator=draw, dtype=torch.uint8)
        for name, c in (("a", 1), ("b", 3))
    }
    right = {name: images.float() / 255 for name, images in data.items()}
    as_bytes, as_floats = (plots.image_grid(images).images[0].get_array() for images in (data, right))
    assert np.array_equal(as_bytes, as_floats) and 0.3 < as_bytes.mean() < 0.9  # neither white nor black
    assert torch.equal(grids.tile([data["a"]]), grids.tile([right["a"]]))
    assert torch.equal(grids.to_image(data["b"][0]), grids.to_image(right["b"][0]))
    for spoil in (lambda x: x * 255, lambda x: x - 0.5, lambda x: x + 0.01, lambda x: x * torch.nan):
        wrong = spoil(right["a"].clamp(0, 1).index_fill(-1, torch.tensor(0), 1.0))
        for call in (
            lambda x: plots.image_grid([x]),
            lambda x: grids.tile([x]),
            lambda x: grids.to_image(x[0]),
        ):
            with pytest.raises(ValueError, match=r"goes from .*; expected pixels in \[0, 1\], or bytes"):
                call(wrong)


def test_a_picture_of_samples_is_what_they_are(tmp_path):
    plots.save_samples(FakeModel(), tmp_path / "new" / "a.png", n=3)
    picture = np.asarray(Image.open(tmp_path / "new" / "a.png"))[..., :3]
    assert picture.shape == (2 * 66 + 2, 3 * 66 + 2, 3)
    assert (picture[3:60, 3:60] == 64).all() and (picture[80:120, 3:60] == 191).all()  # 0.25 and 0.75 of 255


def test_image_grid_labels_rows_and_columns():
    ax = plots.image_grid(
        {"hand": torch.rand(4, 1, 8, 8), "street": torch.rand(4, 3, 8, 8)}, columns="0123", title="digits"
    )
    assert [label.get_text() for label in ax.get_yticklabels()] == ["hand", "street"]
    assert [label.get_text() for label in ax.get_xticklabels()] == list("0123")
    assert ax.get_title(loc="left") == "digits"
    assert ax.images[0].get_array().shape == (2 * 10 + 2, 4 * 10 + 2, 3)
    _, given = plt.subplots()
    assert plots.image_grid([torch.rand(2, 1, 8, 8)], ax=given) is given


def test_generation_grid_draws_anew_and_can_hide_what_was_given():
    batch = {"hand": torch.zeros(5, 1, 8, 8), "street": torch.ones(5, 3, 8, 8)}
    draw = torch.Generator().manual_seed(0)
    ax = plots.generation_grid(FakeModel(), batch, "hand", n_draws=3, generator=draw)
    labels = [label.get_text().strip() for label in ax.get_yticklabels()]
    assert labels == ["given: hand", "street", "", ""]
    pixels = np.asarray(ax.images[0].get_array())
    rows = [pixels[2 + 10 * i + 4, 6, 0] for i in range(4)]
    assert rows[0] == 0 and len(set(rows)) == 4
    ax = plots.generation_grid(FakeModel(), batch, "hand", n_draws=2, show_given=False)
    assert [label.get_text().strip() for label in ax.get_yticklabels()] == ["street", ""]
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
    solid, dashed = plots.history_curves(History(rows), ["loss", "validation/loss"]).lines
    assert (
        solid.get_color() == dashed.get_color() == "0.3" and solid.get_linestyle() != dashed.get_linestyle()
    )
    with pytest.raises(ValueError, match="name is 'accuracy'"):
        plots.history_curves(History(rows), "accuracy")


def test_dots_show_every_seed_the_mean_the_interval_and_n():
    three, one = summarise([0.7, 0.8, 0.9]), summarise([0.2])
    ax = plots.dots({"MMVAE, ELBO": three, "MVAE": one}, chance=0.1, xlabel="coherence")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["MMVAE, ELBO (n = 3)", "MVAE (n = 1)"]
    drawn = [(line.get_xdata(), to_hex(line.get_color())) for line in ax.lines]
    values = [list(np.asarray(x, float)) for x, _ in drawn]
    assert [three.low, three.high] in values and [0.7, 0.8, 0.9] in values and [three.mean] in values
    assert [0.2] in values and [0.1, 0.1] in values
    colours = {tuple(np.asarray(x, float)): colour for x, colour in drawn}
    assert colours[(0.7, 0.8, 0.9)] == to_hex(plots.colour("mmvae"))
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"chance"}
    with pytest.raises(ValueError, match="rows is empty"):
        plots.dots({})


def test_grids_begin_at_one_place_and_fit_the_column():
    places = []
    for label, n in (("hand", 12), ("given: street", 12), ("a long label of a row", 20)):
        ax = plots.image_grid({label: torch.rand(n, 1, 8, 8)})
        width = ax.figure.get_size_inches()[0]
        assert width <= plots.WIDTH + 1e-9
        places.append(ax.get_position().x0 * width)
    assert places[0] == pytest.approx(places[1]) and places[2] > places[1]


def test_table_is_html_for_readers_and_plain_text_for_comparison():
    rows = [["given `hand`", "70.8 ± 0.4", summarise([0.7, 0.8])], ["a < b", None, summarise([0.5])]]
    made = plots.table(["quantity", "paper", "here"], rows, text=["paper"])
    assert (
        made
        == repr(made)
        == (
            "| quantity | paper | here |\n"
            "| :-- | :-- | --: |\n"
            "| given `hand` | 70.8 ± 0.4 | 75.0 ± 7.1 (2) |\n"
            "| a < b | – | 50.0 (1) |"
        )
    )
    shown = ElementTree.fromstring(made._repr_html_())
    assert [cell.text for cell in shown.iter("th")] == ["quantity", "paper", "here"]
    assert ["".join(cell.itertext()) for cell in shown.iter("td")] == [
        *("given hand", "70.8 ± 0.4", "75.0 ± 7.1 (2)"),
        *("a < b", "–", "50.0 (1)"),
    ]
    assert [cell.get("style") for cell in shown.iter("th")][1:] == ["text-align: left", "text-align: right"]
    assert shown.find(".//code").text == "hand"
    titled = plots.table(
        ["a", "b"], [["x", summarise([-3.0, -5.0])]], percent=False, caption="Per cent of `hand`"
    )
    assert (
        titled.splitlines()[0] == "Per cent of `hand`" and titled.splitlines()[-1] == "| x | -4.0 ± 1.4 (2) |"
    )
    caption = ElementTree.fromstring(titled._repr_html_()).find("caption")
    assert (caption.text, caption.find("code").text) == ("Per cent of ", "hand")
    with pytest.raises(ValueError, match="a row has 1 cells; expected 2: a, b"):
        plots.table(["a", "b"], [["x"]])
