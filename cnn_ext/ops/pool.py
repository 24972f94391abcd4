"""Pooling: checks, output sizes and allocation, then one kernel call each."""

import numpy as np

from cnn_ext._checks import image_shape, new_array, pair, real_array, require_shape, window_output
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for

__all__ = ["avg_pool2d_backward", "avg_pool2d_forward", "max_pool2d_backward", "max_pool2d_forward"]


def _windows(
    op, x_shape, kernel_size, stride, padding
) -> tuple[tuple[int, int, int, int, int, int], tuple[int, int]]:
    """(window, output size): the window as (KH, KW, SH, SW, PH, PW), the output as (OH, OW)."""
    kernel = pair(op, "kernel_size", kernel_size, 1)
    stride = kernel if stride is None else pair(op, "stride", stride, 1)
    padding = pair(op, "padding", padding, 0)
    if padding[0] >= kernel[0] or padding[1] >= kernel[1]:
        raise ValueError(
            f"{op}: padding {padding} must be smaller than kernel_size {kernel}: "
            "otherwise the window at the corner holds no pixel of the image"
        )
    if x_shape[2] * x_shape[3] >= 2**31:
        raise ValueError(
            f"{op}: an image may have up to 2**31 − 1 pixels, got {x_shape[2]}×{x_shape[3]}: cut it up"
        )
    return (*kernel, *stride, *padding), window_output(op, x_shape[2:], kernel, stride, padding)


def max_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The maximum of each window.

    out[n, c, oh, ow] = max over i < KH, j < KW of x[n, c, oh·SH − PH + i, ow·SW − PW + j]

    Padding counts as −∞ and must be smaller than the kernel. The first of equals wins; NaN
    wins over numbers, the last of several, all as in PyTorch.

    x : (N, C, H, W); `stride`: defaults to `kernel_size`.
    Returns `out` (N, C, OH, OW) and `argmax` (N, C, OH, OW), int64: where each maximum is, as h·W + w in the
    unpadded image. OH = ⌊(H + 2·PH − KH) / SH⌋ + 1, OW likewise.
    Raises ValueError for shapes and sizes, TypeError for dtypes.
    """
    op = "max_pool2d_forward"
    x = real_array(op, "x", x, "(N, C, H, W)", 4)
    n, c, h, w = x.shape
    window, (oh, ow) = _windows(op, x.shape, kernel_size, stride, padding)
    out = new_array(op, "out", (n, c, oh, ow), x.dtype)
    argmax = new_array(op, "argmax", (n, c, oh, ow), np.int64)
    planes, pooled = (n * c, h, w), (n * c, oh, ow)
    kernels.max_pool2d_forward(
        x.reshape(planes), out.reshape(pooled), argmax.reshape(pooled), *window, threads_for(x.size)
    )
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
    """∂L/∂x of max-pooling: each ∂L/∂out is added where its maximum was; overlapping windows accumulate.

    dout, argmax : (N, C, OH, OW), `argmax` as max_pool2d_forward returned it; `x_shape`: the input's (N, C, H, W).
    Returns `dx` (N, C, H, W).
    Raises ValueError for shapes, sizes and an `argmax` outside the image, TypeError for dtypes.
    """
    op = "max_pool2d_backward"
    dout = real_array(op, "dout", dout, "(N, C, OH, OW)", 4)
    n, c, h, w = image_shape(op, "x_shape", x_shape)
    _, (oh, ow) = _windows(op, (n, c, h, w), kernel_size, stride, padding)
    require_shape(op, "dout", dout, (n, c, oh, ow))
    argmax = np.asarray(argmax)
    if argmax.dtype != np.int64:
        raise TypeError(f"{op}: argmax must be int64 as max_pool2d_forward returns it, got {argmax.dtype}")
    require_shape(op, "argmax", argmax, dout.shape)
    argmax = np.require(argmax, requirements=["C", "A"])
    dx = new_array(op, "dx", (n, c, h, w), dout.dtype)
    flat = (n * c, oh * ow)
    outside = kernels.max_pool2d_backward(
        dout.reshape(flat), argmax.reshape(flat), dx.reshape(n * c, h * w), threads_for(dx.size)
    )
    if outside:
        raise ValueError(
            f"{op}: {outside} entries of argmax lie outside the {h}×{w} image: "
            "pass what max_pool2d_forward returned for x of this shape"
        )
    return dx


def avg_pool2d_forward(
    x: np.ndarray,
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> np.ndarray:
    """The mean of each window.

    out[n, c, oh, ow] = Σ_{i < KH, j < KW} x[n, c, oh·SH − PH + i, ow·SW − PW + j] / (KH·KW)

    Padding counts as zeros, in the divisor too (as PyTorch's default), and must be smaller than the kernel.

    x : (N, C, H, W); `stride`: defaults to `kernel_size`.
    Returns `out` (N, C, OH, OW), OH = ⌊(H + 2·PH − KH) / SH⌋ + 1, OW likewise. Sums are taken in float64.
    Raises ValueError for shapes and sizes, TypeError for dtypes.
    """
    op = "avg_pool2d_forward"
    x = real_array(op, "x", x, "(N, C, H, W)", 4)
    n, c, h, w = x.shape
    window, (oh, ow) = _windows(op, x.shape, kernel_size, stride, padding)
    out = new_array(op, "out", (n, c, oh, ow), x.dtype)
    kernels.avg_pool2d_forward(x.reshape(n * c, h, w), out.reshape(n * c, oh, ow), *window, threads_for(x.size))
    return out


def avg_pool2d_backward(
    dout: np.ndarray,
    x_shape: tuple[int, int, int, int],
    kernel_size: int | tuple[int, int],
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> np.ndarray:
    """∂L/∂x of average pooling: each ∂L/∂out / (KH·KW) is added to every pixel of its window.

    dout : (N, C, OH, OW); `x_shape`: (N, C, H, W) of the input. Returns `dx` (N, C, H, W).
    Raises ValueError for shapes and sizes, TypeError for dtypes.
    """
    op = "avg_pool2d_backward"
    dout = real_array(op, "dout", dout, "(N, C, OH, OW)", 4)
    n, c, h, w = image_shape(op, "x_shape", x_shape)
    window, (oh, ow) = _windows(op, (n, c, h, w), kernel_size, stride, padding)
    require_shape(op, "dout", dout, (n, c, oh, ow))
    dx = new_array(op, "dx", (n, c, h, w), dout.dtype)
    kernels.avg_pool2d_backward(
        dout.reshape(n * c, oh, ow), dx.reshape(n * c, h, w), *window, threads_for(dx.size)
    )
    return dx
