"""Every figure of the book: one function each, returning what it drew on: ``ax`` or ``axes``, default a new figure."""

from mmlib.plots.captions import captioned, save_captioned, save_described
from mmlib.plots.codes import class_matrix, class_tree, code_map, distance_histograms
from mmlib.plots.grids import generation_grid, image_grid, sample_grid, save_samples
from mmlib.plots.results import dots, history_curves, table
from mmlib.plots.style import DIGITS, WIDTH, colour, look, panels, show_source, use_style
