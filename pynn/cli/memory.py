"""Owns how this process's memory is kept: what a training step frees, the next one takes again."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

# mallopt's parameters and the largest threshold that glibc accepts, from its malloc.h and manual ("Malloc Tunable
# Parameters"): blocks below the second come from the heap, and the heap's end is given back above the first.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_HEAP_KEPT, _LARGEST_IN_HEAP = 2**30, 2**25  # bytes


def keep_freed_memory() -> None:
    """Tells glibc's allocator to keep up to 1 GB of freed memory; nothing elsewhere.

    By default it returns large blocks to the system at once, and every step pays a page fault for each 4 KB of its
    activations again. It is for the command line, which owns its process, not for the library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _HEAP_KEPT)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
