"""Element-wise activations: checks and allocation, then one kernel call each.

Each takes `x` of any shape in float32 or float64, and backward also `dout` = ∂L/∂y of the same shape and dtype.
In float32, forward is within about 3 ulp of exact, GELU within 10⁻⁵ of its value (the far left tail costs digits),
backward within 10⁻⁶ · |dout|. Raises ValueError for shapes, TypeError for dtypes.
"""

import numpy as np

from cnn_ext._checks import number, real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for

__all__ = [
    "gelu_backward",
    "gelu_forward",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "relu_backward",
    "relu_forward",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "tanh_backward",
    "tanh_forward",
]


def _forward(function, x, negative_slope=0.0):
    op = f"{function}_forward"
    negative_slope = number(op, "negative_slope", negative_slope)
    x = real_array(op, "x", x, "any")
    out = np.empty_like(x)
    code = kernels.ACTIVATIONS[function]
    kernels.activation_forward(code, x.reshape(-1), out.reshape(-1), negative_slope, threads_for(x.size))
    return out


def _backward(function, dout, x, negative_slope=0.0):
    op = f"{function}_backward"
    negative_slope = number(op, "negative_slope", negative_slope)
    x = real_array(op, "x", x, "any")
    dout = real_array(op, "dout", dout, "the shape of x", dtype=x.dtype)
    require_shape(op, "dout", dout, x.shape)
    dx = np.empty_like(x)
    code = kernels.ACTIVATIONS[function]
    kernels.activation_backward(
        code, dout.reshape(-1), x.reshape(-1), dx.reshape(-1), negative_slope, threads_for(x.size)
    )
    return dx


def relu_forward(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0); NaN stays NaN."""
    return _forward("relu", x)


def relu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂L/∂x = dout where x > 0, else 0 (0 at x = 0, as PyTorch)."""
    return _backward("relu", dout, x)


def leaky_relu_forward(x: np.ndarray, *, negative_slope: float = 0.01) -> np.ndarray:
    """y = x where x > 0, else negative_slope · x."""
    return _forward("leaky_relu", x, negative_slope)


def leaky_relu_backward(dout: np.ndarray, x: np.ndarray, *, negative_slope: float = 0.01) -> np.ndarray:
    """∂L/∂x = dout where x > 0, else negative_slope · dout."""
    return _backward("leaky_relu", dout, x, negative_slope)


def sigmoid_forward(x: np.ndarray) -> np.ndarray:
    """y = σ(x) = 1 / (1 + exp(−x)), without overflow at any x."""
    return _forward("sigmoid", x)


def sigmoid_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂L/∂x = dout · σ(x) · (1 − σ(x))."""
    return _backward("sigmoid", dout, x)


def tanh_forward(x: np.ndarray) -> np.ndarray:
    """y = tanh(x)."""
    return _forward("tanh", x)


def tanh_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂L/∂x = dout · (1 − tanh²(x))."""
    return _backward("tanh", dout, x)


def gelu_forward(x: np.ndarray) -> np.ndarray:
    """y = x · Φ(x), Φ(x) = ½ · (1 + erf(x/√2)): the exact form of Hendrycks and Gimpel 2016, not the tanh one."""
    return _forward("gelu", x)


def gelu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂L/∂x = dout · (Φ(x) + x · φ(x)), φ(x) = exp(−x²/2) / √(2π)."""
    return _backward("gelu", dout, x)


def silu_forward(x: np.ndarray) -> np.ndarray:
    """y = x · σ(x), also called swish."""
    return _forward("silu", x)


def silu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    """∂L/∂x = dout · σ(x) · (1 + x · (1 − σ(x)))."""
    return _backward("silu", dout, x)
