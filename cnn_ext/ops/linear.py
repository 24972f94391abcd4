"""The fully-connected layer: checks and allocation, then one kernel call each."""

import numpy as np

from cnn_ext._checks import new_array, real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for
from cnn_ext.workspace import scratch

__all__ = ["linear_backward", "linear_forward"]


def _product(op, x, weight):
    """The checked arrays that forward and backward share."""
    x = real_array(op, "x", x, "(N, in_features)", 2)
    weight = real_array(op, "weight", weight, "(in_features, out_features)", 2, x.dtype)
    if x.shape[1] != len(weight):
        raise ValueError(
            f"{op}: x of shape {x.shape} has {x.shape[1]} features, but weight of shape {weight.shape} takes "
            f"{len(weight)}"
        )
    return x, weight


def linear_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """Y = X W + b.

    x : (N, in_features), weight : (in_features, out_features), bias : (out_features,) or None, all float32 or all
    float64. Returns (N, out_features). Raises TypeError for dtypes, ValueError for shapes and an empty batch.
    """
    op = "linear_forward"
    x, weight = _product(op, x, weight)
    if bias is not None:
        bias = real_array(op, "bias", bias, "(out_features,)", 1, x.dtype)
        require_shape(op, "bias", bias, weight.shape[1:])
    out = new_array(op, "out", (len(x), weight.shape[1]), x.dtype)
    threads = threads_for(len(x) * weight.size)
    kernels.linear_forward(x, weight, bias, out, scratch(threads * kernels.gemm_scratch, x.dtype), threads)
    return out


def linear_backward(
    dout: np.ndarray, x: np.ndarray, weight: np.ndarray, *, input_grad=True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """The gradients of `linear_forward` from dout = ∂L/∂Y (N, out_features).

    ∂L/∂X = ∂L/∂Y Wᵀ, ∂L/∂W = Xᵀ ∂L/∂Y, ∂L/∂b = Σ_n (∂L/∂Y)_n.

    Returns (dx, dweight, dbias); dx is None where `input_grad` is False. Raises as `linear_forward`.
    """
    op = "linear_backward"
    x, weight = _product(op, x, weight)
    dout = real_array(op, "dout", dout, "(N, out_features)", 2, x.dtype)
    require_shape(op, "dout", dout, (len(x), weight.shape[1]))
    dx = np.empty_like(x) if input_grad else None
    dweight, dbias = np.empty_like(weight), np.empty(weight.shape[1], x.dtype)
    threads = threads_for(len(x) * weight.size)
    memory = scratch(threads * kernels.gemm_scratch, x.dtype)
    kernels.linear_backward(dout, x, weight, dx, dweight, dbias, memory, threads)
    return dx, dweight, dbias
