"""Owns the first values of parameters: samplers by name, each with its source."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from pynn.values import as_dtype, is_integer, shown

__all__ = ["INITIALIZERS", "aligned_copy", "aligned_zeros", "initialize", "unsampled"]

_CACHE_LINE = 64  # bytes, and those of the widest vector


def kaiming_normal(rng, shape, fan_in, fan_out):
    """N(0, 2/fan_in): keeps the variance through layers of ReLUs. He et al. 2015, arXiv:1502.01852, eq. 10."""
    return rng.standard_normal(shape) * np.sqrt(2 / fan_in)


def kaiming_uniform(rng, shape, fan_in, fan_out):
    """U(−a, a) with a = √(6/fan_in), the variance of `kaiming_normal`."""
    return rng.uniform(-1, 1, shape) * np.sqrt(6 / fan_in)


def xavier_normal(rng, shape, fan_in, fan_out):
    """N(0, 2/(fan_in + fan_out)): for sigmoid and tanh. Glorot & Bengio 2010, eq. 12."""
    return rng.standard_normal(shape) * np.sqrt(2 / (fan_in + fan_out))


def xavier_uniform(rng, shape, fan_in, fan_out):
    """U(−a, a) with a = √(6/(fan_in + fan_out)). Glorot & Bengio 2010, eq. 16."""
    return rng.uniform(-1, 1, shape) * np.sqrt(6 / (fan_in + fan_out))


def normal(rng, shape, fan_in, fan_out):
    """N(0, 0.01²), whatever the fans."""
    return rng.standard_normal(shape) * 0.01


def zeros(rng, shape, fan_in, fan_out):
    """0: for biases, and for linear models, whose loss is convex."""
    return np.zeros(shape)


def ones(rng, shape, fan_in, fan_out):
    """1: for the scale of batch normalisation."""
    return np.ones(shape)


INITIALIZERS = {
    function.__name__: function
    for function in (kaiming_normal, kaiming_uniform, xavier_normal, xavier_uniform, normal, zeros, ones)
}

_sampling = ContextVar("sampling", default=True)


def initialize(
    name: str,
    shape: tuple[int, ...],
    fan_in: int = 1,
    fan_out: int = 1,
    dtype=np.float32,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """A new array of `shape` and `dtype`, filled by the initializer called `name`.

    `fan_in`, `fan_out`: how many inputs feed one output, and the reverse: (D, M) for a linear weight,
    (C·KH·KW, F·KH·KW) for a convolution. Samples are drawn in float64 and rounded, so that one seed gives
    the same model in both precisions. `rng` None: fresh entropy. Raises ValueError for an unknown name or no
    shape, TypeError for another dtype or generator.
    """
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise ValueError(f"initialize: expected one of {', '.join(INITIALIZERS)}, got {shown(name)}")
    if (
        not isinstance(shape, tuple | list)
        or len(shape) > 32
        or not all(is_integer(axis) and 0 <= axis < 2**31 for axis in shape)
    ):
        raise ValueError(f"initialize: shape must be a tuple of ints from 0 up, got {shown(shape)}")
    real = as_dtype(dtype)
    if real is None:
        raise TypeError(f"initialize: dtype must be float32 or float64, got {shown(dtype)}")
    if not isinstance(rng, np.random.Generator | None):
        raise TypeError(f"initialize: rng must be a numpy Generator or None, got {shown(rng)}")
    values = aligned_zeros(tuple(shape), real)
    if _sampling.get():
        rng = np.random.default_rng() if rng is None else rng
        values[...] = INITIALIZERS[name](rng, shape, fan_in, fan_out)
    return values


def aligned_zeros(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Zeros from the start of a cache line on: elsewhere, updates by the widest vectors take twice as long."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + _CACHE_LINE, np.uint8)
    start = -raw.__array_interface__["data"][0] % _CACHE_LINE
    return raw[start : start + size].view(dtype).reshape(shape)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """`array` in C order, as `aligned_zeros` places it."""
    copied = aligned_zeros(array.shape, array.dtype)
    copied[...] = array
    return copied


@contextmanager
def unsampled() -> Iterator[None]:
    """Within this context `initialize` only reserves zeros, untouched: for models whose state is loaded next."""
    token = _sampling.set(False)
    try:
        yield
    finally:
        _sampling.reset(token)
