"""Pooling in NumPy: one output pixel after the other, all images and channels at once."""

from collections.abc import Iterator

import numpy as np

__all__ = ["avg_pool2d_backward", "avg_pool2d_forward", "max_pool2d_backward", "max_pool2d_forward"]


def _pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _windows(x_shape, kernel_size, stride, padding) -> Iterator[tuple[int, int, slice, slice]]:
    """(oh, ow, rows, columns) of each output pixel: the real pixels that its window covers."""
    height, width = x_shape[2:]
    (kh, kw), (ph, pw) = _pair(kernel_size), _pair(padding)
    sh, sw = _pair(kernel_size if stride is None else stride)
    for oh in range((height + 2 * ph - kh) // sh + 1):
        for ow in range((width + 2 * pw - kw) // sw + 1):
            top, left = oh * sh - ph, ow * sw - pw
            rows = slice(max(top, 0), min(top + kh, height))
            columns = slice(max(left, 0), min(left + kw, width))
            yield oh, ow, rows, columns


def _output_shape(x_shape, kernel_size, stride, padding) -> tuple[int, int, int, int]:
    *_, (oh, ow, _, _) = _windows(x_shape, kernel_size, stride, padding)
    return (*x_shape[:2], oh + 1, ow + 1)


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> tuple[np.ndarray, np.ndarray]:
    out = np.full(_output_shape(x.shape, kernel_size, stride, padding), -np.inf, x.dtype)
    argmax = np.empty(out.shape, np.int64)
    for oh, ow, rows, columns in _windows(x.shape, kernel_size, stride, padding):
        argmax[:, :, oh, ow] = rows.start * x.shape[3] + columns.start
        for h in range(rows.start, rows.stop):
            for w in range(columns.start, columns.stop):
                wins = (x[:, :, h, w] > out[:, :, oh, ow]) | np.isnan(x[:, :, h, w])
                out[wins, oh, ow] = x[wins, h, w]
                argmax[wins, oh, ow] = h * x.shape[3] + w
    return out, argmax


def max_pool2d_backward(
    dout: np.ndarray,
    argmax: np.ndarray,
    x_shape: tuple[int, int, int, int],
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> np.ndarray:
    n, c, height, width = x_shape
    dx = np.zeros((n * c, height * width), dout.dtype)
    plane = np.arange(n * c)[:, None]
    np.add.at(dx, (plane, argmax.reshape(n * c, -1)), dout.reshape(n * c, -1))
    return dx.reshape(x_shape)


def avg_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> np.ndarray:
    kh, kw = _pair(kernel_size)
    out = np.empty(_output_shape(x.shape, kernel_size, stride, padding), x.dtype)
    for oh, ow, rows, columns in _windows(x.shape, kernel_size, stride, padding):
        out[:, :, oh, ow] = x[:, :, rows, columns].sum(axis=(2, 3), dtype=np.float64) / (kh * kw)
    return out


def avg_pool2d_backward(
    dout: np.ndarray,
    x_shape: tuple[int, int, int, int],
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> np.ndarray:
    kh, kw = _pair(kernel_size)
    dx = np.zeros(x_shape, dout.dtype)
    for oh, ow, rows, columns in _windows(x_shape, kernel_size, stride, padding):
        dx[:, :, rows, columns] += dout[:, :, oh, ow, None, None] / (kh * kw)
    return dx
