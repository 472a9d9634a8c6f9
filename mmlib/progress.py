"""A progress bar where somebody looks: in a terminal or in Jupyter, never in files, pipes and stored pages."""

import os
import sys

from tqdm import tqdm


def progress_bar(total: int, done: int = 0, progress: bool = True, unit: str = "step") -> tqdm:
    """A bar of so many units; none without ``progress``, where nobody looks, or where ``TQDM_DISABLE`` is set."""
    ipython = sys.modules.get("IPython")
    notebook = ipython is not None and hasattr(ipython.get_ipython(), "kernel")
    wanted = progress and os.environ.get("TQDM_DISABLE", "0") in ("", "0")
    shown = wanted and (notebook or sys.stderr.isatty())
    where = {"file": sys.stdout if notebook else sys.stderr, "leave": not notebook, "ncols": 88}
    return tqdm(total=total, initial=done, unit=unit, disable=not shown, **where)
