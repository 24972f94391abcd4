"""The activation kernels: accuracy over the whole range, known values, extremes, and gradients."""

import numpy as np
import pytest
from kernel_cases import numeric_gradient

import cnn_ext
from cnn_ext import reference

FUNCTIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu")

functions = pytest.mark.parametrize("function", FUNCTIONS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def forward(function, x, **options):
    return getattr(cnn_ext, f"{function}_forward")(x, **options)


def backward(function, dout, x, **options):
    return getattr(cnn_ext, f"{function}_backward")(dout, x, **options)


def range_of_values(dtype):
    rng = np.random.default_rng(0)
    small = 10.0 ** rng.uniform(-30, 0, 500)
    return np.concatenate([rng.uniform(-12, 12, 3000), small, -small, [0.0]]).astype(dtype)


@functions
@dtypes
def test_relative_accuracy(function, dtype):
    x = range_of_values(dtype)
    actual = forward(function, x)
    expected = getattr(reference, f"{function}_forward")(x.astype(np.float64))
    # x²/2, rounded before its exponential is taken, costs gelu digits in the far tail, where y is tiny.
    tolerance = {np.float32: 1e-5 if function == "gelu" else 3e-7, np.float64: 1e-12}[dtype]
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=0)


@functions
@dtypes
def test_backward_accuracy(function, dtype):
    x = range_of_values(dtype)
    dout = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    expected = getattr(reference, f"{function}_backward")(dout.astype(np.float64), x.astype(np.float64))
    actual = backward(function, dout, x)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-12)


@dtypes
@pytest.mark.parametrize(
    ("function", "x", "y", "slope"),
    [
        ("relu", [-2, 0, 3], [0, 0, 3], [0, 0, 1]),
        ("leaky_relu", [-2, 0, 3], [-0.02, 0, 3], [0.01, 0.01, 1]),
        ("sigmoid", [0, np.log(3), -np.log(3)], [0.5, 0.75, 0.25], [0.25, 0.1875, 0.1875]),
        ("tanh", [0, np.log(3) / 2, -np.log(3)], [0, 0.5, -0.8], [1, 0.75, 0.36]),
        ("gelu", [0, 1, -1], [0, 0.8413447461, -0.1586552539], [0.5, 1.0833154706, -0.0833154706]),
        ("silu", [0, np.log(3), -np.log(3)], [0, 0.8239592165, -0.2746530722], [0.5, 0.9559898041, 0.0440101959]),
    ],
)
def test_known_values(function, x, y, slope, dtype):
    x = np.array(x, dtype)
    np.testing.assert_allclose(forward(function, x), y, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(backward(function, np.full(3, 2, dtype), x), np.multiply(slope, 2), rtol=2e-6)


@functions
@dtypes
def test_extremes_neither_overflow_nor_vanish(function, dtype):
    x = np.array([-1e4, -200, 200, 1e4], dtype)
    limits = {"sigmoid": ([0, 0, 1, 1], [0] * 4), "tanh": ([-1, -1, 1, 1], [0] * 4)}
    limits["leaky_relu"] = ([-100, -2, 200, 1e4], [0.01, 0.01, 1, 1])
    y, slope = limits.get(function, ([0, 0, 200, 1e4], [0, 0, 1, 1]))
    np.testing.assert_allclose(forward(function, x), y, rtol=1e-6, atol=1e-37)
    np.testing.assert_allclose(backward(function, np.ones(4, dtype), x), slope, rtol=1e-6, atol=1e-37)


@functions
@dtypes
def test_nan_stays_nan(function, dtype):
    x = np.zeros(40, dtype)
    x[::3] = np.nan  # in the vectorised part and in the tail
    np.testing.assert_array_equal(np.isnan(forward(function, x)), np.isnan(x))
    np.testing.assert_array_equal(np.isnan(backward(function, x, np.ones_like(x))), np.isnan(x))


@functions
def test_gradients_equal_central_differences(function):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 4, (3, 5, 2)) * rng.choice([-1, 1], (3, 5, 2))  # away from the kinks at 0
    dout = rng.standard_normal(x.shape)
    numeric = numeric_gradient(lambda: forward(function, x), x, dout, 1e-5)
    np.testing.assert_allclose(backward(function, dout, x), numeric, rtol=1e-8, atol=1e-9)


@dtypes
def test_negative_slope(dtype):
    x = np.array([-4, 4], dtype)
    np.testing.assert_array_equal(forward("leaky_relu", x, negative_slope=0.5), [-2, 4])
    np.testing.assert_array_equal(backward("leaky_relu", x, x, negative_slope=0.25), [-1, 4])
    with pytest.raises(TypeError, match="leaky_relu_forward: negative_slope must be a number, got str"):
        forward("leaky_relu", x, negative_slope="0.1")
    with pytest.raises(ValueError, match="leaky_relu_backward: negative_slope must be finite"):
        backward("leaky_relu", x, x, negative_slope=np.inf)


@functions
@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 4, 5)], ids=str)
def test_shapes_are_kept(function, shape):
    x = np.ones(shape)
    assert forward(function, x).shape == shape
    assert backward(function, x, x).shape == shape
