"""Memory that a loop takes again in each step."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_pages() -> bool:
    """Let glibc keep large blocks that are freed; whether it was asked to, and agreed.

    A step frees what the next one takes. By default each large block goes back to the system and comes again as pages
    to be cleared, which costs 5 to 30 % of a step on a processor. Values stay the same. The setting holds for the whole
    process from then on. Other C libraries have no such setting; with ``MMLIB_KEEP_PAGES=0`` glibc keeps its own.
    """
    try:
        change = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    wanted = os.environ.get("MMLIB_KEEP_PAGES") != "0"
    return wanted and bool(change(_MMAP_MAX, 0) and change(_TRIM_THRESHOLD, 2**31 - 1))
