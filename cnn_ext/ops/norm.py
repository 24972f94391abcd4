"""Batch normalisation: checks and allocation, then one kernel call each."""

import math

import numpy as np

from cnn_ext._checks import number, real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for

__all__ = ["batch_norm_backward", "batch_norm_forward", "batch_norm_inference"]


def _arguments(op, x, eps, **vectors):
    """x, eps as a float, and the (C,) arrays, all checked."""
    x = real_array(op, "x", x, "(N, C) or (N, C, H, W)")
    if x.ndim not in (2, 4):
        raise ValueError(f"{op}: expected x of shape (N, C) or (N, C, H, W), got {x.shape}")
    eps = number(op, "eps", eps, low=0)
    for name, vector in vectors.items():
        vectors[name] = real_array(op, name, vector, "(C,)", 1, x.dtype)
        require_shape(op, name, vectors[name], x.shape[1:2])
    if "var" in vectors and (vectors["var"] < 0).any():
        raise ValueError(f"{op}: var must not be negative, got {vectors['var'].min():g}")
    return x, eps, vectors.values()


def _planes(array):
    """The layouts of the kernels: (N, C, H·W) of images, (N, C) of vectors and of images of one pixel."""
    n, c, *size = array.shape
    return array.reshape((n, c) if math.prod(size) == 1 else (n, c, -1))


def _kernel(direction, planes):
    return getattr(kernels, f"batch_norm_{direction}" if planes.ndim == 3 else f"batch_norm_columns_{direction}")


def batch_norm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y = (x − μ) / √(σ² + eps) · weight + bias, with μ and σ² of each channel over the batch (and the pixels).

    x : (N, C) or (N, C, H, W); weight, bias : (C,).
    Returns `out` like x, `mean` (C,) = μ and `var` (C,) = σ², the biased variance 1/M · Σ (x − μ)² over the
    M = N·H·W values of a channel. Both are taken in two passes in float64 and rounded to x's dtype.
    Raises ValueError for shapes and eps < 0, TypeError for dtypes.
    Source: Ioffe and Szegedy 2015, algorithm 1.
    """
    x, eps, (weight, bias) = _arguments("batch_norm_forward", x, eps, weight=weight, bias=bias)
    out, mean, var = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    planes = _planes(x)
    _kernel("forward", planes)(planes, weight, bias, _planes(out), mean, var, eps, threads_for(x.size))
    return out, mean, var


def batch_norm_inference(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float = 1e-5
) -> np.ndarray:
    """y = (x − mean) / √(var + eps) · weight + bias, with given statistics of each channel.

    x : (N, C) or (N, C, H, W); weight, bias, mean, var : (C,). Returns `out` like x.
    Raises ValueError for shapes, eps < 0 and negative `var`, TypeError for dtypes.
    """
    x, eps, (weight, bias, mean, var) = _arguments(
        "batch_norm_inference", x, eps, weight=weight, bias=bias, mean=mean, var=var
    )
    out = np.empty_like(x)
    with np.errstate(all="ignore"):  # what overflows is infinite, as in a kernel
        scale = (weight / np.sqrt(var.astype(np.float64) + eps)).astype(x.dtype)
    planes = _planes(x)
    _kernel("inference", planes)(planes, mean, scale, bias, _planes(out), threads_for(x.size))
    return out


def batch_norm_backward(
    dout: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The gradients of batch_norm_forward, μ and σ² depending on x. With x̂ = (x − μ) / √(σ² + eps), per channel:

        dbias = Σ dout,   dweight = Σ dout · x̂,   dx = weight / √(σ² + eps) · (dout − dbias/M − x̂ · dweight/M)

    dout, x : (N, C) or (N, C, H, W); weight, mean, var : (C,), the last two as batch_norm_forward returned them.
    Returns `dx` like x, `dweight` (C,), `dbias` (C,). Sums are taken in float64.
    Raises ValueError for shapes, eps < 0 and negative `var`, TypeError for dtypes.
    """
    op = "batch_norm_backward"
    x, eps, (weight, mean, var) = _arguments(op, x, eps, weight=weight, mean=mean, var=var)
    dout = real_array(op, "dout", dout, "the shape of x", dtype=x.dtype)
    require_shape(op, "dout", dout, x.shape)
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty_like(weight)
    planes = _planes(x)
    _kernel("backward", planes)(
        _planes(dout), planes, weight, mean, var, _planes(dx), dweight, dbias, eps, threads_for(x.size)
    )
    return dx, dweight, dbias
