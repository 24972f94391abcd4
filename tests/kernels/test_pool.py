"""The pooling kernels: against their twins over geometries, ties, NaN, by hand, and gradients."""

from itertools import product

import numpy as np
import pytest
from kernel_cases import assert_close, numeric_gradient

from cnn_ext import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    reference,
)


def fits(shape, kernel, stride, padding):
    """Whether the padding is smaller than the kernel and the kernel fits into the padded image."""
    (kh, kw), (ph, pw) = ((v, v) if isinstance(v, int) else v for v in (kernel, padding))
    return ph < kh and pw < kw and kh <= shape[2] + 2 * ph and kw <= shape[3] + 2 * pw


SHAPES = [(1, 1, 1, 1), (1, 2, 5, 7), (3, 2, 8, 6), (2, 1, 9, 13)]
KERNELS = [1, 2, 3, (2, 3), (5, 1), (9, 13)]
STRIDES = [None, 1, 2, (2, 3), 5]
PADDINGS = [0, 1, (1, 0), (0, 2), (4, 5)]
GEOMETRIES = [geometry for geometry in product(SHAPES, KERNELS, STRIDES, PADDINGS) if fits(*geometry)]
# Rows longer than the 64 outputs that are computed at once, on every path.
GEOMETRIES += [((1, 1, 3, 200), kernel, stride, 1) for kernel in (2, 3) for stride in (1, 2, 3)]
GEOMETRIES += [((1, 1, 4, 200), 2, 2, 0)]

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
@pytest.mark.parametrize("shape", sorted({geometry[0] for geometry in GEOMETRIES}), ids=str)
def test_kernels_equal_their_twins(shape, dtype):
    rng = np.random.default_rng(0)
    few = rng.integers(-2, 3, shape).astype(dtype)  # many ties
    many = rng.standard_normal(shape).astype(dtype)
    for _, *geometry in (g for g in GEOMETRIES if g[0] == shape):
        kernel, stride, padding = geometry
        window = {"kernel_size": kernel, "stride": stride, "padding": padding}
        for x in (few, many):
            out, argmax = max_pool2d_forward(x, **window)
            expected_out, expected_argmax = reference.max_pool2d_forward(x, **window)
            assert out.dtype == dtype
            np.testing.assert_array_equal(out, expected_out, err_msg=str(window))
            np.testing.assert_array_equal(argmax, expected_argmax, err_msg=str(window))
        dout = rng.standard_normal(out.shape).astype(dtype)
        exact = dout.astype(np.float64)
        assert_close(
            max_pool2d_backward(dout, argmax, shape, **window),
            reference.max_pool2d_backward(exact, argmax, shape, **window),
            dtype,
        )
        assert_close(
            avg_pool2d_forward(many, **window),
            reference.avg_pool2d_forward(many.astype(np.float64), **window),
            dtype,
        )
        assert_close(
            avg_pool2d_backward(dout, shape, **window),
            reference.avg_pool2d_backward(exact, shape, **window),
            dtype,
        )


def test_max_by_hand():
    x = np.array([[[[1.0, 5, 2], [4, 5, 0], [-1, -2, -3]]]])
    out, argmax = max_pool2d_forward(x, 2, stride=1)
    np.testing.assert_array_equal(out, [[[[5, 5], [5, 5]]]])
    np.testing.assert_array_equal(argmax, [[[[1, 1], [4, 4]]]])  # of the two fives the first
    dx = max_pool2d_backward(np.array([[[[1.0, 2], [3, 4]]]]), argmax, x.shape, 2, stride=1)
    np.testing.assert_array_equal(dx, [[[[0, 3, 0], [0, 7, 0], [0, 0, 0]]]])  # overlapping windows add up


def test_average_by_hand():
    x = np.array([[[[1.0, 2, 3], [4, 5, 6]]]])
    out = avg_pool2d_forward(x, 2, stride=1, padding=(0, 1))
    np.testing.assert_array_equal(out, [[[[5 / 4, 3, 4, 9 / 4]]]])  # the padding counts in the divisor
    dx = avg_pool2d_backward(np.array([[[[4.0, 8, 12, 16]]]]), x.shape, 2, stride=1, padding=(0, 1))
    np.testing.assert_array_equal(dx, [[[[3, 5, 7], [3, 5, 7]]]])


@pytest.mark.parametrize("stride", [2, 1])  # two windows side by side have a path of their own
def test_nan_wins_and_the_last_of_several(stride):
    x = np.array([[[[np.inf, np.nan], [np.nan, 9.0]]]])
    out, argmax = max_pool2d_forward(x, 2, stride=stride)
    assert np.isnan(out).all()
    np.testing.assert_array_equal(argmax, [[[[2]]]])
    for place in range(4):
        x = np.full((1, 1, 2, 2), np.inf)
        x.flat[place] = np.nan
        out, argmax = max_pool2d_forward(x, 2, stride=stride)
        assert np.isnan(out).all()
        assert argmax.item() == place


def test_padding_is_minus_infinity():
    negative = np.full((1, 1, 3, 3), -7.0)
    out, argmax = max_pool2d_forward(negative, 2, padding=1)
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), -7.0))
    np.testing.assert_array_equal(argmax, [[[[0, 1], [3, 4]]]])
    out, argmax = max_pool2d_forward(np.full((1, 1, 3, 3), -np.inf), 2, padding=1)
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), -np.inf))
    np.testing.assert_array_equal(argmax, [[[[0, 1], [3, 4]]]])  # a pixel of the image even then


@pytest.mark.parametrize(
    "window",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 0)},
        {"kernel_size": 3, "stride": 1, "padding": 2},
    ],
    ids=str,
)
def test_gradients_equal_central_differences(window):
    rng = np.random.default_rng(0)
    shape = (2, 3, 5, 6)
    x = rng.permutation(np.arange(180.0)).reshape(shape)  # all apart: no step reaches a kink
    out, argmax = max_pool2d_forward(x, **window)
    dout = rng.standard_normal(out.shape)
    for gradient, function in [
        (max_pool2d_backward(dout, argmax, shape, **window), lambda: max_pool2d_forward(x, **window)[0]),
        (avg_pool2d_backward(dout, shape, **window), lambda: avg_pool2d_forward(x, **window)),
    ]:
        np.testing.assert_allclose(gradient, numeric_gradient(function, x, dout, 0.25), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("hostile", [-1, 20, 2**31, 2**62, -(2**63)])
@dtypes
def test_argmax_outside_the_image_is_refused(hostile, dtype):
    dout = np.ones((2, 3, 2, 2), dtype)
    argmax = np.zeros(dout.shape, np.int64)
    argmax[1, 2, 1, 1] = hostile
    with pytest.raises(ValueError, match="max_pool2d_backward: 1 entries of argmax lie outside the 4×5 image"):
        max_pool2d_backward(dout, argmax, (2, 3, 4, 5), 2)


X = np.zeros((1, 1, 4, 5))
ARGMAX = np.zeros((1, 1, 2, 2), np.int64)
BACK = ARGMAX.astype(np.float64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: max_pool2d_forward(X, 6), ValueError, "6×6 window is larger than the padded image of 4×5"),
        (lambda: max_pool2d_forward(X, 0), ValueError, "kernel_size must be from 1"),
        (lambda: max_pool2d_forward(X, 2.0), TypeError, "kernel_size must be an int or a pair of ints"),
        (lambda: max_pool2d_forward(X, (2, 2, 2)), TypeError, "kernel_size must be an int or a pair"),
        (lambda: max_pool2d_forward(X, 2, stride=0), ValueError, "stride must be from 1"),
        (lambda: max_pool2d_forward(X, 2, padding=-1), ValueError, "padding must be from 0"),
        (lambda: max_pool2d_forward(X, 2, padding=2), ValueError, r"padding \(2, 2\) must be smaller"),
        (lambda: avg_pool2d_forward(X, (3, 1), padding=1), ValueError, r"padding \(1, 1\) must be smaller"),
        (lambda: max_pool2d_forward(X[0], 2), ValueError, r"expected x of shape \(N, C, H, W\), got \(1, 4"),
        (lambda: max_pool2d_backward(BACK, BACK, X.shape, 2), TypeError, "argmax must be int64"),
        (lambda: max_pool2d_backward(BACK, ARGMAX[..., :1], X.shape, 2), ValueError, "expected argmax of"),
        (lambda: max_pool2d_backward(BACK, ARGMAX, (1, 1, 6, 6), 2), ValueError, "expected dout of shape"),
        (lambda: max_pool2d_backward(BACK, ARGMAX, (1, 4, 5), 2), ValueError, r"x_shape must be \(N, C"),
        (lambda: avg_pool2d_backward(BACK, (1, 1, 0, 5), 2), ValueError, "x_shape must be"),
        (lambda: avg_pool2d_backward(BACK, (1, 1, 6, 6), 2), ValueError, "expected dout of shape"),
        (lambda: avg_pool2d_backward(BACK, (1, 1, 2**20, 2**20), 2**19), ValueError, "up to 2\\*\\*31"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
