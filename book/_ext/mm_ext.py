"""Puts the repository on the path, so that the API pages also build where mmlib is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def setup(app):
    """Tell Sphinx that this extension is safe to read in parallel."""
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
