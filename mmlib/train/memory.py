"""Memory that a training loop takes again in each step."""

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_pages() -> bool:
    """Let glibc keep large blocks that are freed; whether it was asked to, and agreed.

    A step frees what the next one takes. By default each large block goes back to the system and comes again as pages
    to be cleared, which costs 5 to 30 % of a step on a processor. Values stay the same. The setting holds for the whole
    process from then on. Other C libraries have no such setting; with ``MMLIB_KEEP_PAGES=0`` glibc keeps its own.
    """
    if os.environ.get("MMLIB_KEEP_PAGES") == "0" or "glibc" not in _c_library():
        return False
    change = ctypes.CDLL(None).mallopt
    return bool(change(_MMAP_MAX, 0) and change(_TRIM_THRESHOLD, 2**31 - 1))


def _c_library() -> str:
    """Name and version of the C library, or nothing where there is no way to ask."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""
