"""Element-wise activations: checks and allocation, then one kernel call each."""

import numpy as np

from cnn_ext._checks import real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import get_num_threads

__all__ = ["relu_backward", "relu_forward"]


def _forward(op, kernel, x):
    x = real_array(op, "x", x, "any")
    out = np.empty_like(x)
    kernel(x.reshape(-1), out.reshape(-1), get_num_threads())
    return out


def _backward(op, kernel, dout, x):
    x = real_array(op, "x", x, "any")
    dout = real_array(op, "dout", dout, "the shape of x", dtype=x.dtype)
    require_shape(op, "dout", dout, x.shape)
    dx = np.empty_like(x)
    kernel(dout.reshape(-1), x.reshape(-1), dx.reshape(-1), get_num_threads())
    return dx


def relu_forward(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0), element by element; NaN stays NaN. `x`: float32 or float64 of any shape."""
    return _forward("relu_forward", kernels.relu_forward, x)


def relu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂L/∂x = ∂L/∂y where x > 0, else 0 (0 at x = 0, as PyTorch). `dout` and `x`: the same shape and dtype."""
    return _backward("relu_backward", kernels.relu_backward, dout, x)
