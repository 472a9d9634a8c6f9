"""Figures of the chapter on one's own modalities: which row of a table observes what."""

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mmlib.plots.style import colour, panels


def observed_map(split, rows: int = 60) -> Axes:
    """A column for each of the first ``rows`` rows of a split, a line for each modality, filled where observed."""
    _, ax = panels(height=1.5)
    rows = min(rows, len(split))
    mask = split.mask()
    for y, name in enumerate(split.names):
        for x in range(rows):
            seen = mask is None or bool(mask[name][x])
            shade = colour(name, modality=True) if seen else "0.93"
            ax.add_patch(Rectangle((x, y + 0.1), 0.85, 0.8, color=shade, linewidth=0))
    ax.set(xlim=(0, rows), ylim=(len(split.names), 0), xlabel="row")
    ax.set_yticks([y + 0.5 for y in range(len(split.names))], split.names)
    ax.grid(False)
    return ax
