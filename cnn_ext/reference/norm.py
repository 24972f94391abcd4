"""Batch normalisation in NumPy, computed in float64 and rounded to the dtype of x at the end."""

import numpy as np

__all__ = ["batch_norm_backward", "batch_norm_forward", "batch_norm_inference"]


def _axes(x: np.ndarray) -> tuple[int, ...]:
    """All axes but that of the channels."""
    return (0, *range(2, x.ndim))


def _along_channels(x: np.ndarray, *vectors: np.ndarray) -> list[np.ndarray]:
    """(C,) arrays in float64, shaped to broadcast against x (N, C) or (N, C, H, W)."""
    return [v.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2)) for v in vectors]


def batch_norm_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = x.mean(axis=_axes(x), dtype=np.float64)
    var = np.square(x - mean.reshape(-1, *(1,) * (x.ndim - 2))).mean(axis=_axes(x))
    out = batch_norm_inference(x, weight, bias, mean, var, eps=eps)
    return out, mean.astype(x.dtype), var.astype(x.dtype)


def batch_norm_inference(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float = 1e-5
) -> np.ndarray:
    weight, bias, mean, var = _along_channels(x, weight, bias, mean, var)
    return ((x - mean) / np.sqrt(var + eps) * weight + bias).astype(x.dtype)


def batch_norm_backward(
    dout: np.ndarray, x: np.ndarray, weight: np.ndarray, mean: np.ndarray, var: np.ndarray, *, eps: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axes, dtype = _axes(x), x.dtype
    weight, mean, var = _along_channels(x, weight, mean, var)
    normalised = (x - mean) / np.sqrt(var + eps)
    dweight = (dout * normalised).sum(axis=axes)
    dbias = dout.sum(axis=axes, dtype=np.float64)
    dnormalised = dout * weight
    mean_d = dnormalised.mean(axis=axes, keepdims=True)
    mean_dn = (dnormalised * normalised).mean(axis=axes, keepdims=True)
    dx = (dnormalised - mean_d - normalised * mean_dn) / np.sqrt(var + eps)
    return dx.astype(dtype), dweight.astype(dtype), dbias.astype(dtype)
