"""Multimodal generative models: the objectives, networks, data, metrics and recorded runs of the book."""

__version__ = "0.1.0"
