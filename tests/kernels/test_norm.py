"""The batch-norm kernels: against their twins, by hand, at large means, and gradients."""

import numpy as np
import pytest
from kernel_cases import assert_close, numeric_gradient

from cnn_ext import batch_norm_backward, batch_norm_forward, batch_norm_inference, reference

# One value, fewer and more than a block of 32 channels, planes below, on and above the 8 partial sums.
SHAPES = [
    (1, 1),
    (2, 3),
    (7, 33),
    (50, 96),
    (5, 3, 1, 1),
    (1, 2, 3, 5),
    (2, 33, 4, 2),
    (4, 3, 7, 9),
    (3, 5, 16, 4),
]

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def arrays(shape, dtype=np.float64):
    rng = np.random.default_rng(0)
    x, dout = 3 + 2 * rng.standard_normal((2, *shape))
    return [array.astype(dtype) for array in (x, dout - 3, *rng.standard_normal((2, shape[1])))]


def channel_axes(x):
    return (0, *range(2, x.ndim))


@dtypes
@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_kernels_equal_their_twins(shape, eps, dtype):
    x, dout, weight, bias = arrays(shape, dtype)
    wide_x, wide_dout, wide_weight, wide_bias = (a.astype(np.float64) for a in (x, dout, weight, bias))
    forward = batch_norm_forward(x, weight, bias, eps=eps)
    expected = reference.batch_norm_forward(wide_x, wide_weight, wide_bias, eps=eps)
    for a, e in zip(forward, expected, strict=True):
        assert_close(a, e, dtype)
    # From here on with statistics that are not those of x, which inference has to take as they are.
    mean, var = (1 + np.abs(statistic) for statistic in forward[1:])
    wide_mean, wide_var = mean.astype(np.float64), var.astype(np.float64)
    assert_close(
        batch_norm_inference(x, weight, bias, mean, var, eps=eps),
        reference.batch_norm_inference(wide_x, wide_weight, wide_bias, wide_mean, wide_var, eps=eps),
        dtype,
    )
    backward = batch_norm_backward(dout, x, weight, mean, var, eps=eps)
    expected = reference.batch_norm_backward(wide_dout, wide_x, wide_weight, wide_mean, wide_var, eps=eps)
    for a, e in zip(backward, expected, strict=True):
        assert_close(a, e, dtype)


def test_by_hand():
    x = np.array([[1.0, 10], [3, 10], [5, 10], [7, 10]])
    weight, bias = np.array([2.0, 3]), np.array([1.0, -1])
    out, mean, var = batch_norm_forward(x, weight, bias, eps=4.0)
    np.testing.assert_array_equal(mean, [4, 10])
    np.testing.assert_array_equal(var, [5, 0])  # (9 + 1 + 1 + 9) / 4, biased
    np.testing.assert_allclose(out, [[-1, -1], [1 / 3, -1], [5 / 3, -1], [3, -1]], rtol=1e-15)  # √(5 + 4) = 3
    np.testing.assert_allclose(
        batch_norm_inference(x, weight, bias, np.array([1.0, 0]), np.array([0.0, 21]), eps=4.0),
        [[1, 5], [3, 5], [5, 5], [7, 5]],
        rtol=1e-15,
    )


@dtypes
@pytest.mark.parametrize("shape", [(64, 3, 8, 8), (500, 40)], ids=str)
def test_large_means_cost_no_accuracy(shape, dtype):
    rng = np.random.default_rng(0)
    x = (1e4 + rng.standard_normal(shape)).astype(dtype)
    weight, bias = np.ones(shape[1], dtype), np.zeros(shape[1], dtype)
    out, _, var = batch_norm_forward(x, weight, bias)
    axes = channel_axes(x)
    np.testing.assert_allclose(out.mean(axis=axes, dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(var, x.var(axis=axes, dtype=np.float64), rtol=1e-6)
    exact = reference.batch_norm_forward(x.astype(np.float64), np.ones(shape[1]), np.zeros(shape[1]))[0]
    np.testing.assert_allclose(out, exact, rtol=0, atol=5e-6 if dtype == np.float32 else 1e-10)


@dtypes
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1), (6, 3, 4, 5)], ids=str)
def test_constant_channels_give_the_bias(shape, dtype):
    x = np.full(shape, 0.1, dtype)  # 0.1 is no binary fraction: its mean is rounded
    bias = np.array([1, -2, 3], dtype)
    out, mean, var = batch_norm_forward(x, np.ones(3, dtype), bias)
    expected = np.broadcast_to(bias.reshape(-1, *(1,) * (len(shape) - 2)), shape)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6 if dtype == np.float32 else 1e-13)
    np.testing.assert_allclose(var, 0, atol=1e-15)
    dx, dweight, _ = batch_norm_backward(x, x, np.ones(3, dtype), mean, var)
    np.testing.assert_allclose(dx, 0, atol=1e-4 if dtype == np.float32 else 1e-12)
    np.testing.assert_allclose(dweight, 0, atol=1e-4 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (3, 2, 4, 3), (2, 3, 1, 9)], ids=str)
def test_gradients_equal_central_differences(shape):
    x, dout, weight, bias = arrays(shape)
    _, mean, var = batch_norm_forward(x, weight, bias)
    gradients = batch_norm_backward(dout, x, weight, mean, var)
    for array, gradient in zip((x, weight, bias), gradients, strict=True):
        numeric = numeric_gradient(lambda: batch_norm_forward(x, weight, bias)[0], array, dout, 1e-5)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-7, atol=1e-8)


def test_nan_stays_in_its_channel():
    x, _, weight, bias = arrays((4, 3, 5, 5))
    x[2, 1, 3, 3] = np.nan
    out, mean, var = batch_norm_forward(x, weight, bias)
    for statistic in (mean, var):
        np.testing.assert_array_equal(np.isnan(statistic), [False, True, False])
    np.testing.assert_array_equal(np.isnan(out).all(axis=(0, 2, 3)), [False, True, False])
    assert np.isfinite(out[:, [0, 2]]).all()


X, W = np.zeros((2, 3, 4, 5)), np.zeros(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: batch_norm_forward(X[0], W, W), ValueError, r"expected x of shape \(N, C\) or \(N, C, H, W"),
        (lambda: batch_norm_forward(X, W[:2], W), ValueError, r"expected weight of shape \(3,\), got \(2,\)"),
        (lambda: batch_norm_forward(X, W, X), ValueError, r"expected bias of shape \(C,\)"),
        (lambda: batch_norm_forward(X, W, W, eps=-1), ValueError, "eps must be finite and at least 0"),
        (lambda: batch_norm_forward(X, W, W, eps=np.nan), ValueError, "eps must be finite"),
        (lambda: batch_norm_forward(X, W, W, eps="1"), TypeError, "eps must be a number"),
        (lambda: batch_norm_inference(X, W, W, W, W - 1), ValueError, "var must not be negative, got -1"),
        (lambda: batch_norm_backward(X, X, W, W, W - 1), ValueError, "var must not be negative, got -1"),
        (lambda: batch_norm_backward(X[:1], X, W, W, W), ValueError, r"expected dout of shape \(2, 3, 4, 5\)"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
