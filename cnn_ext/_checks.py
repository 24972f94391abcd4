"""What every op checks before any memory is allocated: dtypes, ranks, sizes."""

import math
from numbers import Integral, Real

import numpy as np

REAL = (np.dtype(np.float32), np.dtype(np.float64))


def shown(value) -> str:
    """`value` in an error message: its repr, cut short; Python refuses to write numbers of thousands of digits."""
    try:
        text = repr(value)
    except ValueError:
        text = f"{type(value).__name__} of a number with thousands of digits"
    return text if len(text) <= 60 else f"{text[:40]}…{text[-8:]}"


def real_array(op: str, name: str, array, shape: str, ndim: int | None = None, dtype=None) -> np.ndarray:
    """`array` as a C-contiguous float32 or float64 array, or a sentence about what is wrong with it.

    `shape` is the expected shape in words for the message, as "(N, C, H, W)"; `ndim` its rank, when fixed;
    `dtype` the dtype it must share with the other arguments.
    """
    array = np.asarray(array)
    if array.dtype not in REAL:
        raise TypeError(f"{op}: {name} must be float32 or float64, got {array.dtype}: convert it with .astype")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(
            f"{op}: {name} is {array.dtype}, but the first argument is {np.dtype(dtype)}: convert one of them"
        )
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{op}: expected {name} of shape {shape}, got {array.shape}")
    if array.size == 0:
        raise ValueError(f"{op}: {name} of shape {array.shape} is empty: every axis must be at least 1 long")
    if not (array.flags.c_contiguous and array.flags.aligned):
        copy = new_array(op, name, array.shape, array.dtype)  # of a view that repeats itself it may be too large
        copy[...] = array
        return copy
    return array


def new_array(op: str, name: str, shape: tuple[int, ...], dtype) -> np.ndarray:
    """A new array with arbitrary content, or a sentence where it has more bytes than there are."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        if size < 2**63:
            return np.empty(shape, dtype)
    except MemoryError:
        pass
    raise MemoryError(f"{op}: {name} of shape {shape} takes {size / 2**30:.3g} GiB, more than there is: use less")


def require_shape(op: str, name: str, array: np.ndarray, shape: tuple) -> None:
    """Refuses `array` unless it has exactly `shape`."""
    if array.shape != tuple(shape):
        raise ValueError(f"{op}: expected {name} of shape {tuple(shape)}, got {array.shape}")


def image_shape(op: str, name: str, shape) -> tuple[int, int, int, int]:
    """`shape` as (N, C, H, W), four ints of at least 1."""
    if (
        not isinstance(shape, tuple | list)
        or len(shape) != 4
        or any(isinstance(v, bool) or not isinstance(v, Integral) or not 1 <= int(v) < 2**31 for v in shape)
        or math.prod(map(int, shape)) >= 2**59
    ):
        raise ValueError(
            f"{op}: {name} must be (N, C, H, W) with sizes of at least 1 that fit in memory, got {shown(shape)}"
        )
    n, c, h, w = map(int, shape)
    return n, c, h, w


def number(op: str, name: str, value, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` as a finite float with low ≤ value < high."""
    if type(value) is not float and (isinstance(value, bool) or not isinstance(value, Real)):
        raise TypeError(f"{op}: {name} must be a number, got {type(value).__name__} {shown(value)}")
    try:
        real = float(value)
    except OverflowError:
        real = math.inf
    if not (math.isfinite(real) and low <= real < high):
        interval = f"at least {low:g}" if high == math.inf else f"in [{low:g}, {high:g})"
        raise ValueError(
            f"{op}: {name} must be finite{'' if low == -math.inf else ' and ' + interval}, got {shown(value)}"
        )
    return real


def pair(op: str, name: str, value, minimum: int) -> tuple[int, int]:
    """`value`, an int or a pair of ints, as (vertical, horizontal), each at least `minimum`."""
    values = (value, value) if isinstance(value, Integral) else value
    if (
        not isinstance(values, tuple | list)
        or len(values) != 2
        or any(isinstance(v, bool) or not isinstance(v, Integral) for v in values)
    ):
        raise TypeError(f"{op}: {name} must be an int or a pair of ints, got {shown(value)}")
    vertical, horizontal = map(int, values)
    if min(vertical, horizontal) < minimum or max(vertical, horizontal) > 2**30:
        raise ValueError(f"{op}: {name} must be from {minimum} to 2**30, got {shown(value)}")
    return vertical, horizontal


def window_output(op: str, size: tuple[int, int], kernel, stride, padding, dilation=(1, 1)) -> tuple[int, int]:
    """(OH, OW) of a sliding window: floor((S + 2P − D(K − 1) − 1) / stride) + 1 per axis, each at least 1."""
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    spans = [s + 2 * p - e for s, p, e in zip(size, padding, extents, strict=True)]
    if min(spans) < 0:
        raise ValueError(
            f"{op}: the {extents[0]}×{extents[1]} window is larger than the padded image of "
            f"{size[0] + 2 * padding[0]}×{size[1] + 2 * padding[1]}: use a smaller kernel_size or more padding"
        )
    return spans[0] // stride[0] + 1, spans[1] // stride[1] + 1
