"""im2col, col2im and convolution: against loops written from the formula, the twins and central differences."""

import itertools

import numpy as np
import pytest

import cnn_ext
from cnn_ext import reference

RELATIVE = {np.float32: 1e-5, np.float64: 1e-12}

# (N, C, H, W), F, (KH, KW), stride, padding, dilation
GEOMETRIES = {
    "one pixel": ((1, 1, 1, 1), 1, (1, 1), 1, 0, 1),
    "valid, non-square kernel": ((2, 3, 7, 9), 4, (3, 2), 1, 0, 1),
    "same 3×3": ((3, 4, 6, 5), 8, (3, 3), 1, 1, 1),
    "more padding than kernel": ((2, 2, 4, 3), 3, (2, 3), 1, (4, 5), 1),
    "same width, tall kernel": ((2, 2, 5, 6), 3, (4, 3), 1, (0, 1), 1),
    "strided, unequal": ((2, 3, 11, 8), 5, (3, 5), (2, 3), (1, 2), 1),
    "dilated, unequal": ((2, 2, 12, 10), 3, (3, 2), 1, (2, 1), (2, 3)),
    "everything": ((3, 2, 13, 11), 7, (2, 3), (3, 2), (2, 1), (3, 2)),
    "dilated, as wide as the image": ((2, 3, 9, 9), 4, (3, 3), 1, 2, 2),
    "1×1": ((4, 6, 5, 5), 3, (1, 1), 1, 0, 1),
    "stride beyond the kernel": ((2, 2, 9, 9), 3, (2, 2), 4, 0, 1),
    "many filters and channels": ((2, 70, 4, 5), 101, (3, 3), 1, 1, 1),
    "several blocks of rows": ((18, 8, 24, 24), 9, (5, 5), 1, 2, 1),
    "batch of one, wide": ((1, 2, 3, 300), 5, (2, 7), 1, 0, 1),
}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES)
def geometry(request):
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def arrays(geometry, dtype, seed=0):
    """x, weight, bias, dout of a geometry, and its keyword arguments."""
    shape, filters, kernel, stride, padding, dilation = geometry
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape).astype(dtype)
    weight = rng.standard_normal((filters, shape[1], *kernel)).astype(dtype)
    bias = rng.standard_normal(filters).astype(dtype)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    dout = rng.standard_normal(reference.conv2d_forward(x, weight, **options).shape).astype(dtype)
    return x, weight, bias, dout, options


def assert_close(actual, expected, dtype):
    """Equal shapes, and a largest difference within the dtype's tolerance of the largest magnitude."""
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= RELATIVE[dtype] * max(1.0, np.abs(expected).max())


def pairs(*values):
    return [(v, v) if isinstance(v, int) else v for v in values]


def looped_im2col(x, kernel, stride, padding, dilation):
    """im2col entry by entry, as its docstring's formula reads."""
    (sh, sw), (ph, pw), (dh, dw) = pairs(stride, padding, dilation)
    n, c, h, w = x.shape
    oh = (h + 2 * ph - dh * (kernel[0] - 1) - 1) // sh + 1
    ow = (w + 2 * pw - dw * (kernel[1] - 1) - 1) // sw + 1
    cols = np.zeros((n, c * kernel[0] * kernel[1], oh * ow), x.dtype)
    for channel, i, j, y, z in itertools.product(*map(range, (c, *kernel, oh, ow))):
        row, column = y * sh - ph + i * dh, z * sw - pw + j * dw
        if 0 <= row < h and 0 <= column < w:
            cols[:, (channel * kernel[0] + i) * kernel[1] + j, y * ow + z] = x[:, channel, row, column]
    return cols


@pytest.mark.parametrize("name", [name for name in GEOMETRIES if name != "several blocks of rows"])
def test_im2col_follows_its_formula(name):
    shape, _, kernel, stride, padding, dilation = GEOMETRIES[name]
    x = np.random.default_rng(1).standard_normal(shape)
    expected = looped_im2col(x, kernel, stride, padding, dilation)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    np.testing.assert_array_equal(cnn_ext.im2col(x, kernel, **options), expected)
    np.testing.assert_array_equal(reference.im2col(x, kernel, **options), expected)


def test_kernels_equal_their_twins(geometry, dtype):
    x, weight, bias, dout, options = arrays(geometry, dtype)
    wide = [a.astype(np.float64) for a in (x, weight, bias, dout)]
    kernel = weight.shape[2:]
    assert_close(cnn_ext.conv2d_forward(x, weight, bias, **options),
                 reference.conv2d_forward(*wide[:3], **options), dtype)  # fmt: skip
    assert_close(cnn_ext.conv2d_forward(x, weight, **options),
                 reference.conv2d_forward(*wide[:2], **options), dtype)  # fmt: skip
    actual = cnn_ext.conv2d_backward(dout, x, weight, **options)
    for a, e in zip(actual, reference.conv2d_backward(wide[3], *wide[:2], **options), strict=True):
        assert_close(a, e, dtype)
    cols = np.random.default_rng(2).standard_normal(cnn_ext.im2col(x, kernel, **options).shape).astype(dtype)
    before = cols.copy()
    assert_close(cnn_ext.col2im(cols, x.shape, kernel, **options),
                 reference.col2im(cols.astype(np.float64), x.shape, kernel, **options), dtype)  # fmt: skip
    np.testing.assert_array_equal(cols, before)


def test_without_input_gradient(geometry):
    x, weight, _, dout, options = arrays(geometry, np.float64)
    dx, dweight, dbias = cnn_ext.conv2d_backward(dout, x, weight, input_grad=False, **options)
    _, expected_dweight, expected_dbias = cnn_ext.conv2d_backward(dout, x, weight, **options)
    assert dx is None
    np.testing.assert_array_equal(dweight, expected_dweight)
    np.testing.assert_array_equal(dbias, expected_dbias)


def test_col2im_is_the_adjoint_of_im2col(geometry):
    x, weight, _, _, options = arrays(geometry, np.float64)
    cols = cnn_ext.im2col(x, weight.shape[2:], **options)
    c = np.random.default_rng(3).standard_normal(cols.shape)
    adjoint = cnn_ext.col2im(c, x.shape, weight.shape[2:], **options)
    np.testing.assert_allclose(np.vdot(cols, c), np.vdot(x, adjoint), rtol=1e-10)


SMALL = [name for name, (shape, *_) in GEOMETRIES.items() if np.prod(shape) < 300]


@pytest.mark.parametrize("name", SMALL)
def test_gradients_equal_central_differences(name):
    """Σ dout · out is linear in each argument alone, so that central differences are exact up to rounding."""
    x, weight, bias, dout, options = arrays(GEOMETRIES[name], np.float64)
    analytic = cnn_ext.conv2d_backward(dout, x, weight, **options)
    for array, gradient in zip((x, weight, bias), analytic, strict=True):
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            losses = []
            for shift in (1.0, -1.0):
                array[index] = value + shift
                losses.append(np.vdot(dout, cnn_ext.conv2d_forward(x, weight, bias, **options)))
            array[index] = value
            numeric[index] = (losses[0] - losses[1]) / 2
        np.testing.assert_allclose(gradient, numeric, rtol=1e-9, atol=1e-9)


def test_convolution_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    weight = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    out = cnn_ext.conv2d_forward(x, weight, np.array([0.5]))
    np.testing.assert_array_equal(out, [[[[27.5, 37.5], [57.5, 67.5]]]])
    dx, dweight, dbias = cnn_ext.conv2d_backward(np.ones_like(out), x, weight)
    np.testing.assert_array_equal(dx, [[[[1, 3, 2], [4, 10, 6], [3, 7, 4]]]])
    np.testing.assert_array_equal(dweight, [[[[8, 12], [20, 24]]]])
    np.testing.assert_array_equal(dbias, [4])


def test_any_memory_order_gives_the_same_bits(dtype):
    x, weight, bias, dout, options = arrays(GEOMETRIES["everything"], dtype)
    expected = [
        cnn_ext.conv2d_forward(x, weight, bias, **options),
        *cnn_ext.conv2d_backward(dout, x, weight, **options),
    ]

    def strided(a):
        wide = np.empty((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]

    def read_only(a):
        a = a.copy()
        a.setflags(write=False)
        return a

    for view in (np.asfortranarray, strided, read_only, lambda a: a[::-1].copy()[::-1]):
        actual = [
            cnn_ext.conv2d_forward(view(x), view(weight), view(bias), **options),
            *cnn_ext.conv2d_backward(view(dout), view(x), view(weight), **options),
        ]
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, e)


def test_nothing_is_read_beyond_the_image():
    """Rows, filters and channels that do not fill a block must not meet whatever lies behind them in memory."""
    x, weight, bias, _, options = arrays(GEOMETRIES["same 3×3"], np.float32)
    guarded = np.full(x.size + 2000, np.nan, np.float32)
    guarded[1000:-1000] = x.ravel()
    inside = guarded[1000:-1000].reshape(x.shape)
    for padding in (0, 1, 2, 7):
        options["padding"] = padding
        assert np.isfinite(cnn_ext.conv2d_forward(inside, weight, bias, **options)).all()
        assert np.isfinite(cnn_ext.im2col(inside, 3, **options)).all()


REFUSALS = [
    (lambda: cnn_ext.conv2d_forward(X, W[:, :2]), ValueError, r"has 3 channels, but weight .* takes 2"),
    (lambda: cnn_ext.conv2d_forward(X[0], W), ValueError, r"expected x of shape \(N, C, H, W\), got \(3, 6, 5\)"),
    (lambda: cnn_ext.conv2d_forward(X[:0], W), ValueError, "empty"),
    (lambda: cnn_ext.conv2d_forward(X.astype(np.int64), W), TypeError, "float32 or float64, got int64"),
    (lambda: cnn_ext.conv2d_forward(X, W.astype(np.float32)), TypeError, "weight is float32.* float64"),
    (lambda: cnn_ext.conv2d_forward(X, W, np.zeros(3)), ValueError, r"bias of shape \(4,\), got \(3,\)"),
    (lambda: cnn_ext.conv2d_forward(X, W, dilation=3), ValueError, "larger than the padded image"),
    (lambda: cnn_ext.conv2d_forward(X, W, stride=0), ValueError, "stride must be .* got 0"),
    (lambda: cnn_ext.conv2d_forward(X, W, padding=-1), ValueError, "padding must be .* got -1"),
    (lambda: cnn_ext.conv2d_forward(X, W, stride=1.5), TypeError, "stride must be an int or a pair"),
    (lambda: cnn_ext.conv2d_forward(X, W, padding=2**40), ValueError, "padding"),
    (lambda: cnn_ext.conv2d_backward(X, X, W), ValueError, r"dout of shape \(2, 4, 4, 3\), got \(2, 3, 6, 5\)"),
    (lambda: cnn_ext.im2col(X, (3, 3, 3)), TypeError, "kernel_size must be an int or a pair"),
    (lambda: cnn_ext.im2col(X, 7), ValueError, "7×7 window is larger than the padded image of 6×5"),
    (lambda: cnn_ext.col2im(X[0], X.shape, 3), ValueError, r"expected cols of shape \(2, 27, 12\), got"),
    (lambda: cnn_ext.col2im(X[0], (2, 3, 0, 5), 3), ValueError, "at least 1"),
    (lambda: cnn_ext.col2im(X[0], (2, 3, 6.0, 5), 3), ValueError, "x_shape must be"),
]
X, W = np.zeros((2, 3, 6, 5)), np.zeros((4, 3, 3, 3))


@pytest.mark.parametrize(("call", "error", "message"), REFUSALS)
def test_bad_input_is_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
