"""Training: one loop of a fixed number of steps, with checkpoints that resume to the same bits."""

from mmlib.train.checkpoint import load_weights, save_weights
from mmlib.train.history import History
from mmlib.train.loop import fit

__all__ = ["History", "fit", "load_weights", "save_weights"]
