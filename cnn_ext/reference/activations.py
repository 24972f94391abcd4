"""Element-wise activations in NumPy, in forms that neither overflow nor cancel."""

import math

import numpy as np

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

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal_cdf(x: np.ndarray) -> np.ndarray:
    return (_erfc(-x / math.sqrt(2)) / 2).astype(x.dtype)


def relu_forward(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def relu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, dout, 0)


def leaky_relu_forward(x: np.ndarray, *, negative_slope: float = 0.01) -> np.ndarray:
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_backward(dout: np.ndarray, x: np.ndarray, *, negative_slope: float = 0.01) -> np.ndarray:
    return np.where(x > 0, dout, negative_slope * dout)


def sigmoid_forward(x: np.ndarray) -> np.ndarray:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    return dout * sigmoid_forward(x) * sigmoid_forward(-x)  # 1 − σ(x) = σ(−x), without cancellation


def tanh_forward(x: np.ndarray) -> np.ndarray:
    return np.tanh(x)


def tanh_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    return dout * 4 * sigmoid_forward(2 * x) * sigmoid_forward(-2 * x)  # 1 − tanh² x = 4 σ(2x) σ(−2x)


def gelu_forward(x: np.ndarray) -> np.ndarray:
    return x * _normal_cdf(x)


def gelu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    return dout * (_normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def silu_forward(x: np.ndarray) -> np.ndarray:
    return x * sigmoid_forward(x)


def silu_backward(dout: np.ndarray, x: np.ndarray) -> np.ndarray:
    return dout * sigmoid_forward(x) * (1 + x * sigmoid_forward(-x))
