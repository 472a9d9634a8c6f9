"""Training: one loop of a fixed number of steps, with checkpoints that resume to the same bits."""

from mmlib.train.adversarial import Collapsed, Monitor, fit_adversarial
from mmlib.train.checkpoint import load_weights, save_weights
from mmlib.train.ema import Ema
from mmlib.train.guard import Paused
from mmlib.train.history import History
from mmlib.train.loop import descend, fit
