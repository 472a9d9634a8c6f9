"""Draw the pictures of the prose pages into book/_static, from the library, the embedded data and one recorded run.

Usage: python -m mmlib train hand-street-mmvae-elbo && python book/_tools/draw.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import FancyArrowPatch

from mmlib import plots
from mmlib.book.figures.whole_picture import one_of_each
from mmlib.data import load
from mmlib.distributions import Diagonal, mixture_of_experts, product_of_experts
from mmlib.plots.grids import tile, to_image
from mmlib.runs.trained import load_trained
from mmlib.seeding import generator

STATIC = Path(__file__).resolve().parents[1] / "_static"
RUN = ("hand-street-mmvae-elbo", 0)  # recipe and seed of the model that draws the picture on the front
BLUE, ORANGE, GREY = plots.colour("hand"), plots.colour("street"), "#777777"

# Situations of two experts on one dimension, (mean, standard deviation) each; the prior is N(0, 1).
SITUATIONS = {
    "agreement": ((1.0, 0.6), (1.2, 0.6)),
    "disagreement": ((-1.3, 0.6), (1.3, 0.6)),
    "overconfidence": ((-0.5, 0.15), (1.2, 0.7)),
}


def combine(experts):
    """The experts, the prior, their product with it, and their mixture, as densities over one dimension."""
    loc, scale = (
        torch.tensor(column, dtype=torch.float64).reshape(-1, 1, 1) for column in zip(*experts, strict=True)
    )
    stacked = Diagonal(loc, scale)
    prior = Diagonal(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    observed = torch.ones(len(experts), 1, dtype=torch.bool)
    mixture = mixture_of_experts(stacked, observed)
    return stacked, prior, product_of_experts(stacked, observed, prior), mixture


def draw_experts():
    """Product and mixture of two experts in three situations."""
    figure, axes = plots.panels(3, height=2.5, sharex=True)
    z = torch.linspace(-3, 3, 601, dtype=torch.float64).reshape(-1, 1, 1)
    for axis, (title, experts) in zip(axes, SITUATIONS.items(), strict=True):
        stacked, prior, product, mixture = combine(experts)
        for m, colour in enumerate((BLUE, ORANGE)):
            expert = Diagonal(stacked.loc[m], stacked.scale[m])
            density = expert.log_prob(z).exp().flatten()
            axis.fill_between(z.flatten(), density, color=colour, alpha=0.15, lw=0)
            axis.plot(z.flatten(), density, color=colour, label=f"expert {m + 1}")
        axis.plot(z.flatten(), prior.log_prob(z).exp().flatten(), ":", color=GREY, label="prior")
        axis.plot(z.flatten(), product.log_prob(z).exp().flatten(), "k", lw=2.2, label="product (AND)")
        axis.plot(z.flatten(), mixture.log_prob(z).exp().flatten(), "k--", lw=2.2, label="mixture (OR)")
        axis.set(title=title, xlabel="z", yticks=[])
        axis.spines["left"].set_visible(False)
    axes[0].set_ylabel("density")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    _save(figure, "experts.png")


def draw_pairs(batch):
    """One pair of every class: hand above, street below."""
    figure, axes = plots.panels(10, rows=2, height=0.78)
    for row, name in enumerate(("hand", "street")):
        for axis, image in zip(axes[row], batch[name], strict=True):
            axis.imshow(to_image(image), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        axes[row][0].set_ylabel(name)
    _save(figure, "pairs.png")


def draw_wishes(batch):
    """The four desiderata, with data standing in for what a perfect model would draw."""
    figure, axes = plots.panels(2, rows=2, height=3.1)
    titles = ("1  latent factorisation", "2  joint generation", "3  cross-generation", "4  synergy")
    for axis, title in zip(axes.flat, titles, strict=True):
        axis.set(xlim=(0, 10), ylim=(0, 9), xticks=[], yticks=[], aspect="equal")
        axis.grid(False)
        axis.set_title(title)
        axis.spines[:].set(color="#cccccc", visible=True)

    def show(axis, name, digit, x, y, size=2.6):
        place = {"extent": (x, x + size, y, y + size), "zorder": 2}
        axis.imshow(to_image(batch[name][digit]), interpolation="nearest", **place)

    def arrow(axis, start, end, **style):
        style = {"color": "#333333", "arrowstyle": "-|>", "mutation_scale": 14, "lw": 1.4} | style
        axis.add_patch(FancyArrowPatch(start, end, **style))

    def code(axis, x, y, text="z"):
        circle = {"boxstyle": "circle", "facecolor": "w"}
        axis.text(x, y, f"${text}$", ha="center", va="center", fontsize=15, bbox=circle)

    a, b, c, d = axes.flat
    for axis in axes.flat:
        axis.set_autoscale_on(False)
    for x, width, colour, text in (
        (0.8, 2.4, BLUE, "slant, stroke"),
        (3.4, 3.2, "#029e73", "which digit"),
        (6.8, 2.4, ORANGE, "colour, font"),
    ):
        a.add_patch(plt.Rectangle((x, 6.2), width, 1.2, fc=colour, alpha=0.35, ec=colour))
        a.text(x + width / 2, 7.9, text, ha="center", fontsize=8.5)
    a.text(5, 6.78, "the code $z$", ha="center", va="center", fontsize=10)
    show(a, "hand", 3, 1.2, 1.2)
    show(a, "street", 3, 6.2, 1.2)
    arrow(a, (2.5, 3.9), (2.0, 6.1), color=BLUE)
    arrow(a, (2.8, 3.9), (4.4, 6.1), color="#029e73")
    arrow(a, (7.2, 3.9), (5.6, 6.1), color="#029e73")
    arrow(a, (7.5, 3.9), (8.0, 6.1), color=ORANGE)
    code(b, 5, 7.2)
    show(b, "hand", 5, 1.2, 1.2)
    show(b, "street", 5, 6.2, 1.2)
    arrow(b, (4.4, 6.5), (2.7, 4.0))
    arrow(b, (5.6, 6.5), (7.3, 4.0))
    for y, source, target, digit in ((5.2, "hand", "street", 7), (1.2, "street", "hand", 2)):
        show(c, source, digit, 0.6, y)
        show(c, target, digit, 6.8, y)
        arrow(c, (3.4, y + 1.3), (4.3, y + 1.3))
        code(c, 5, y + 1.3)
        arrow(c, (5.7, y + 1.3), (6.7, y + 1.3))
    show(d, "hand", 8, 0.6, 5.2)
    show(d, "street", 8, 0.6, 1.2)
    arrow(d, (3.4, 6.2), (4.6, 4.9))
    arrow(d, (3.4, 2.8), (4.6, 4.1))
    x = np.linspace(5.2, 9.6, 200)
    for width, colour, height in ((0.95, BLUE, 1.6), (0.8, ORANGE, 1.9), (0.38, "k", 3.6)):
        density = height * np.exp(-0.5 * ((x - 7.4) / width) ** 2)
        d.plot(x, 3.0 + density, color=colour, lw=1.8 if colour == "k" else 1.3)
    d.plot([5.2, 9.6], [3.0, 3.0], color="#333333", lw=0.8)
    d.text(7.4, 2.3, "$z$", ha="center", fontsize=12)
    _save(figure, "wishes.png")


def draw_translation():
    """House numbers of validation, the first of each class, and under each one handwriting that the model draws."""
    model, data = load_trained(*RUN)
    model.eval()
    given = data.validation.batch(one_of_each(data.validation.labels))["street"]
    with torch.no_grad():
        drawn = model.generate({"street": given}, ["street"], ["hand"], generator=generator(0))["hand"]
    figure, axes = plots.panels(1, rows=2, height=1.1)
    for axis, images, text in (
        (axes[0], given, "a house number goes in …"),
        (axes[1], drawn, "… and the model writes it by hand"),
    ):
        axis.imshow(tile([images], gap=1), interpolation="nearest")
        axis.set_title(text, loc="left", fontsize=16)
        axis.set_axis_off()
    _save(figure, "translation.png")


def _save(figure, name):
    figure.savefig(STATIC / name, dpi=160, metadata={"Software": None})
    plt.close(figure)


def main():
    """Draw everything."""
    plots.use_style()
    train = load("hand-street", size=32).train
    batch = train.batch(one_of_each(train.labels))
    draw_experts()
    draw_pairs(batch)
    draw_wishes(batch)
    draw_translation()


if __name__ == "__main__":
    main()
