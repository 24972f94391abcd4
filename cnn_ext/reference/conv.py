"""im2col, col2im and convolution in NumPy, one kernel tap at a time."""

import numpy as np

__all__ = ["col2im", "conv2d_backward", "conv2d_forward", "im2col"]


def _pair(value):
    return (value, value) if np.ndim(value) == 0 else tuple(value)


def _taps(image_size, kernel_size, stride, padding, dilation):
    """(OH, OW) and, for each kernel tap (i, j), the slices of the padded image that it meets."""
    (h, w), (kh, kw) = image_size, _pair(kernel_size)
    (sh, sw), (ph, pw), (dh, dw) = _pair(stride), _pair(padding), _pair(dilation)
    oh = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    ow = (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    taps = {
        (i, j): (slice(i * dh, i * dh + sh * oh, sh), slice(j * dw, j * dw + sw * ow, sw))
        for i in range(kh)
        for j in range(kw)
    }
    return oh, ow, taps


def _pad(x, padding):
    ph, pw = _pair(padding)
    return np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))


def im2col(x: np.ndarray, kernel_size, *, stride=1, padding=0, dilation=1) -> np.ndarray:
    n, c, h, w = x.shape
    kh, kw = _pair(kernel_size)
    oh, ow, taps = _taps((h, w), kernel_size, stride, padding, dilation)
    padded = _pad(x, padding)
    cols = np.empty((n, c, kh, kw, oh, ow), x.dtype)
    for (i, j), (rows, columns) in taps.items():
        cols[:, :, i, j] = padded[:, :, rows, columns]
    return cols.reshape(n, c * kh * kw, oh * ow)


def col2im(cols: np.ndarray, x_shape, kernel_size, *, stride=1, padding=0, dilation=1) -> np.ndarray:
    n, c, h, w = x_shape
    (kh, kw), (ph, pw) = _pair(kernel_size), _pair(padding)
    oh, ow, taps = _taps((h, w), kernel_size, stride, padding, dilation)
    cols = cols.reshape(n, c, kh, kw, oh, ow)
    padded = np.zeros((n, c, h + 2 * ph, w + 2 * pw), cols.dtype)
    for (i, j), (rows, columns) in taps.items():
        padded[:, :, rows, columns] += cols[:, :, i, j]
    return padded[:, :, ph : ph + h, pw : pw + w].copy()


def conv2d_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, *, stride=1, padding=0, dilation=1
) -> np.ndarray:
    f, _, kh, kw = weight.shape
    oh, ow, _ = _taps(x.shape[2:], (kh, kw), stride, padding, dilation)
    cols = im2col(x, (kh, kw), stride=stride, padding=padding, dilation=dilation)
    out = weight.reshape(f, -1) @ cols
    if bias is not None:
        out += bias[:, None]
    return out.reshape(len(x), f, oh, ow)


def conv2d_backward(
    dout: np.ndarray, x: np.ndarray, weight: np.ndarray, *, stride=1, padding=0, dilation=1, input_grad=True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    f, _, kh, kw = weight.shape
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    cols = im2col(x, (kh, kw), **geometry)
    dout = dout.reshape(len(x), f, -1)
    dweight = np.einsum("nfp,nkp->fk", dout, cols).reshape(weight.shape)
    dbias = dout.sum(axis=(0, 2))
    dx = col2im(weight.reshape(f, -1).T @ dout, x.shape, (kh, kw), **geometry) if input_grad else None
    return dx, dweight, dbias
