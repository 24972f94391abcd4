"""Owns scratch memory: one aligned buffer per Python thread, reused by every op and grown when one needs more."""

import threading

import numpy as np

__all__ = ["scratch", "scratch_floats"]

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_local = threading.local()


def scratch(count: int, dtype) -> np.ndarray:
    """A 1-D array of `count` elements with arbitrary content, valid until this thread's next call.

    Fresh memory would cost a page fault every 4 KB, as much as a small convolution.
    """
    needed = count * np.dtype(dtype).itemsize
    if getattr(_local, "buffer", None) is None or _local.buffer.size < needed:
        raw = np.empty(needed + _ALIGNMENT, np.uint8)
        offset = -raw.ctypes.data % _ALIGNMENT
        _local.buffer = raw[offset : offset + needed]
    return _local.buffer[:needed].view(dtype)


def scratch_floats(count: int) -> np.ndarray:
    """`scratch` of float32, as steps ask for it when they are called."""
    return scratch(count, np.float32)
