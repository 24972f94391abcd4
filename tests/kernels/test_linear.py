"""The fully-connected kernels: against NumPy's product over sizes around every block edge."""

import numpy as np
import pytest

import cnn_ext
from cnn_ext import reference

RELATIVE = {np.float32: 1e-5, np.float64: 1e-12}

# (N, in_features, out_features): one, inside a tile, on and around tiles of 4 × 24 and blocks of 96 × 240
SIZES = [(1, 1, 1), (2, 3, 5), (4, 16, 24), (5, 17, 23), (96, 256, 240), (97, 257, 241), (200, 5, 505)]


def arrays(size, dtype):
    n, d, m = size
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((n, d), (d, m), (m,), (n, m))]


def assert_close(actual, expected, dtype):
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= RELATIVE[dtype] * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_kernels_equal_their_twins(size, dtype):
    x, weight, bias, dout = arrays(size, dtype)
    wide_x, wide_weight, wide_bias, wide_dout = (a.astype(np.float64) for a in (x, weight, bias, dout))
    assert_close(
        cnn_ext.linear_forward(x, weight, bias), reference.linear_forward(wide_x, wide_weight, wide_bias), dtype
    )
    assert_close(cnn_ext.linear_forward(x, weight), reference.linear_forward(wide_x, wide_weight), dtype)
    expected = reference.linear_backward(wide_dout, wide_x, wide_weight)
    for a, e in zip(cnn_ext.linear_backward(dout, x, weight), expected, strict=True):
        assert_close(a, e, dtype)
    assert cnn_ext.linear_backward(dout, x, weight, input_grad=False)[0] is None


def test_by_hand():
    x, weight, dout = (
        np.array([[1.0, 2.0]]),
        np.array([[1.0, 0.0, -1.0], [3.0, 1.0, 2.0]]),
        np.array([[1.0, 2.0, 3.0]]),
    )
    np.testing.assert_array_equal(cnn_ext.linear_forward(x, weight, np.array([0.5, 0, 0])), [[7.5, 2, 3]])
    dx, dweight, dbias = cnn_ext.linear_backward(dout, x, weight)
    np.testing.assert_array_equal(dx, [[-2, 11]])
    np.testing.assert_array_equal(dweight, [[1, 2, 3], [2, 4, 6]])
    np.testing.assert_array_equal(dbias, [1, 2, 3])


def test_gradients_equal_central_differences():
    x, weight, bias, dout = arrays((4, 5, 3), np.float64)
    for array, gradient in zip((x, weight, bias), cnn_ext.linear_backward(dout, x, weight), strict=True):
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            value = array[index]
            array[index] = value + 1
            above = np.vdot(dout, cnn_ext.linear_forward(x, weight, bias))
            array[index] = value - 1
            numeric[index] = (above - np.vdot(dout, cnn_ext.linear_forward(x, weight, bias))) / 2
            array[index] = value
        np.testing.assert_allclose(gradient, numeric, rtol=1e-10, atol=1e-10)


def test_any_memory_order_gives_the_same_bits():
    x, weight, bias, dout = arrays((7, 17, 15), np.float32)
    expected = [cnn_ext.linear_forward(x, weight, bias), *cnn_ext.linear_backward(dout, x, weight)]
    frozen = weight.copy()
    frozen.setflags(write=False)
    f = np.asfortranarray
    actual = [cnn_ext.linear_forward(f(x), f(weight), bias), *cnn_ext.linear_backward(f(dout), f(x), frozen)]
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, w: cnn_ext.linear_forward(x[:, :2], w), ValueError, "has 2 features, but weight .* takes 3"),
        (lambda x, w: cnn_ext.linear_forward(x[0], w), ValueError, r"expected x of shape \(N, in_features\)"),
        (lambda x, w: cnn_ext.linear_forward(x[:0], w), ValueError, "at least 1"),
        (lambda x, w: cnn_ext.linear_forward(x.astype(np.float32), w), TypeError, "weight is float64"),
        (lambda x, w: cnn_ext.linear_forward(x, w, np.zeros(3)), ValueError, r"bias of shape \(4,\)"),
        (lambda x, w: cnn_ext.linear_backward(x, x, w), ValueError, r"dout of shape \(5, 4\), got \(5, 3\)"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((5, 3)), np.zeros((3, 4)))
