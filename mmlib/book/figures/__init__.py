"""Figures that belong to one chapter, a file each; those that any model can have are in ``mmlib.plots``."""
