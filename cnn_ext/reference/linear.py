"""The fully-connected layer in NumPy."""

import numpy as np

__all__ = ["linear_backward", "linear_forward"]


def linear_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    return x @ weight if bias is None else x @ weight + bias


def linear_backward(
    dout: np.ndarray, x: np.ndarray, weight: np.ndarray, *, input_grad=True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    return (dout @ weight.T if input_grad else None), x.T @ dout, dout.sum(axis=0)
