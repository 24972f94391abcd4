"""im2col, col2im and convolution: checks, sizes and allocation, then one kernel call each."""

import numpy as np

from cnn_ext._checks import image_shape, new_array, pair, real_array, require_shape, window_output
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for
from cnn_ext.workspace import scratch

__all__ = ["col2im", "conv2d_backward", "conv2d_forward", "im2col"]

_MOST_COLUMNS_BYTES = 4 * 2**20  # of an output row: a wider one is cut into pieces
_LEAST_COLUMNS = 96  # outputs of a piece, so that the product has something to do
_COLUMNS_BYTES = 256 * 1024  # columns at a time: with a block of weights they stay in a 512 KB L2
_TASKS = 16  # pieces that a batch is cut into where it is large enough; also the slots of the weight gradient
_SLOTS_BYTES = 128 * 2**20  # all slots of the weight gradient together


def _geometry(op, kernel_size, stride, padding, dilation):
    return (
        pair(op, "kernel_size", kernel_size, 1),
        pair(op, "stride", stride, 1),
        pair(op, "padding", padding, 0),
        pair(op, "dilation", dilation, 1),
    )


def im2col(x: np.ndarray, kernel_size, *, stride=1, padding=0, dilation=1) -> np.ndarray:
    """The pixels under every position of a sliding window, as columns of a matrix.

    cols[n, (c·KH + i)·KW + j, oh·OW + ow] = x[n, c, oh·stride − padding + i·dilation,
    ow·stride − padding + j·dilation], zero outside the image, with
    OH = ⌊(H + 2·padding − dilation·(KH − 1) − 1) / stride⌋ + 1 and OW likewise.

    x : (N, C, H, W), float32 or float64. `kernel_size`, `stride`, `padding`, `dilation`: an int or a pair
    (vertical, horizontal). Returns (N, C·KH·KW, OH·OW). Raises TypeError for dtypes and ValueError for shapes,
    sizes, an empty batch and a window larger than the padded image.
    Source: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document
    Processing" (2006).
    """
    op = "im2col"
    x = real_array(op, "x", x, "(N, C, H, W)", 4)
    kernel, stride, padding, dilation = _geometry(op, kernel_size, stride, padding, dilation)
    out = window_output(op, x.shape[2:], kernel, stride, padding, dilation)
    cols = new_array(op, "cols", (len(x), x.shape[1] * kernel[0] * kernel[1], out[0] * out[1]), x.dtype)
    kernels.im2col(x, cols, kernel, out, stride, padding, dilation, threads_for(cols.size))
    return cols


def col2im(cols: np.ndarray, x_shape, kernel_size, *, stride=1, padding=0, dilation=1) -> np.ndarray:
    """The adjoint of `im2col`: every entry of `cols` is added to the pixel that im2col took it from.

    For all x and c of fitting shapes, ⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩.

    cols : (N, C·KH·KW, OH·OW). `x_shape`: the image batch's (N, C, H, W). Returns that shape. Raises as `im2col`.
    """
    op = "col2im"
    cols = real_array(op, "cols", cols, "(N, C·KH·KW, OH·OW)", 3)
    x_shape = image_shape(op, "x_shape", x_shape)
    kernel, stride, padding, dilation = _geometry(op, kernel_size, stride, padding, dilation)
    out = window_output(op, x_shape[2:], kernel, stride, padding, dilation)
    require_shape(op, "cols", cols, (x_shape[0], x_shape[1] * kernel[0] * kernel[1], out[0] * out[1]))
    x = new_array(op, "x", x_shape, cols.dtype)
    x[...] = 0
    used_up = cols.copy()  # the kernel overwrites it
    kernels.col2im(used_up, x, kernel, out, stride, padding, dilation, threads_for(cols.size))
    return x


def _convolution(op, x, weight, stride, padding, dilation):
    """The checked arrays and geometry that forward and backward share."""
    x = real_array(op, "x", x, "(N, C, H, W)", 4)
    weight = real_array(op, "weight", weight, "(F, C, KH, KW)", 4, x.dtype)
    if weight.shape[1] != x.shape[1]:
        raise ValueError(
            f"{op}: x of shape {x.shape} has {x.shape[1]} channels, but weight of shape {weight.shape} takes "
            f"{weight.shape[1]}"
        )
    kernel, stride, padding, dilation = _geometry(op, weight.shape[2:], stride, padding, dilation)
    out = window_output(op, x.shape[2:], kernel, stride, padding, dilation)
    return x, weight, out, stride, padding, dilation


def _blocking(weight, rows, out_w):
    """(rows and columns of out at a time, row stride of im2col's, scratch elements a thread), from shapes."""
    k = weight[0].size
    fitting = _COLUMNS_BYTES // (k * out_w * weight.itemsize)
    at_a_time = max(1, min(fitting, -(-rows // _TASKS)))
    columns = out_w
    if at_a_time == 1:
        columns = min(out_w, max(_LEAST_COLUMNS, _MOST_COLUMNS_BYTES // (k * weight.itemsize)))
    ld = at_a_time * columns + 16  # off the powers of two, whose lines would share cache sets
    return at_a_time, columns, ld, (k + len(weight)) * ld + kernels.gemm_scratch


def conv2d_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, stride=1, padding=0, dilation=1
) -> np.ndarray:
    """Convolution (cross-correlation, as deep learning uses the word).

    out[n, f, oh, ow] = bias[f] + Σ_{c,i,j} weight[f, c, i, j] · x[n, c, oh·stride − padding + i·dilation,
    ow·stride − padding + j·dilation], x being zero outside the image.

    x : (N, C, H, W), weight : (F, C, KH, KW), bias : (F,) or None, all float32 or all float64.
    Returns (N, F, OH, OW), OH and OW as in `im2col`. Raises TypeError for dtypes and ValueError for shapes, sizes,
    an empty batch and a window larger than the padded image.
    """
    op = "conv2d_forward"
    x, weight, (oh, ow), stride, padding, dilation = _convolution(op, x, weight, stride, padding, dilation)
    if bias is not None:
        bias = real_array(op, "bias", bias, "(F,)", 1, x.dtype)
        require_shape(op, "bias", bias, (len(weight),))
    out = new_array(op, "out", (len(x), len(weight), oh, ow), x.dtype)
    at_a_time, columns, ld, share = _blocking(weight, len(x) * oh, ow)
    threads = threads_for(out.size * weight[0].size)
    kernels.conv2d_forward(
        x,
        weight,
        bias,
        out,
        stride,
        padding,
        dilation,
        at_a_time,
        columns,
        ld,
        scratch(threads * share, x.dtype),
        threads,
    )
    return out


def conv2d_backward(
    dout: np.ndarray, x: np.ndarray, weight: np.ndarray, *, stride=1, padding=0, dilation=1, input_grad=True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """The gradients of `conv2d_forward` from dout = ∂L/∂out (N, F, OH, OW).

    dx = col2im(weightᵀ · dout), dweight[f] = Σ_n dout[n, f] · im2col(x)[n]ᵀ,
    dbias[f] = Σ_{n,oh,ow} dout[n, f, oh, ow].

    Returns (dx, dweight, dbias) with the shapes of x, weight and (F,); dx is None where `input_grad` is False.
    Raises as `conv2d_forward`.
    """
    op = "conv2d_backward"
    x, weight, (oh, ow), stride, padding, dilation = _convolution(op, x, weight, stride, padding, dilation)
    dout = real_array(op, "dout", dout, "(N, F, OH, OW)", 4, x.dtype)
    require_shape(op, "dout", dout, (len(x), len(weight), oh, ow))
    dx = np.empty_like(x) if input_grad else None
    dweight, dbias = np.empty_like(weight), np.empty(len(weight), x.dtype)
    at_a_time, columns, ld, share = _blocking(weight, len(x) * oh, ow)
    slots = max(1, min(_TASKS, len(x), _SLOTS_BYTES // weight.nbytes))
    threads = threads_for(dout.size * weight[0].size)
    memory = scratch(threads * share + slots * (weight.size + len(weight)), x.dtype)
    kernels.conv2d_backward(
        dout,
        x,
        weight,
        dx,
        dweight,
        dbias,
        stride,
        padding,
        dilation,
        slots,
        at_a_time,
        columns,
        ld,
        memory,
        threads,
    )
    return dx, dweight, dbias
