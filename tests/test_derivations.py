"""docs/derivations.md, formula by formula: as written there, by central differences, and as the library has it.

Each test names in its docstring the formulas it holds; test_docs.py checks that none is left out. All in float64,
with random upstream gradients; inputs keep clear of kinks.
"""

import math
from itertools import product

import numpy as np
import pytest

import cnn_ext
from cnn_ext import reference
from pynn import layers, losses, optim

IMPLEMENTATIONS = pytest.mark.parametrize("ops", [cnn_ext, reference], ids=["kernels", "reference"])


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def numeric_gradient(f, x, step=1e-3):
    """∂f/∂x of a scalar f by fourth-order central differences; the error is about step⁴."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):

        def at(offset, index=index):
            moved = x.copy()
            moved[index] += offset
            return f(moved)

        gradient[index] = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)
    return gradient


def check(formula, library, numeric=None):
    """The library gives the formula's value to rounding, and central differences to their own accuracy."""
    np.testing.assert_allclose(library, formula, rtol=1e-12, atol=1e-13)
    if numeric is not None:
        np.testing.assert_allclose(formula, numeric, rtol=1e-7, atol=1e-8)


def away_from_zero(rng, *shape):
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.1, 2, shape)


def all_distinct(rng, *shape):
    """Values at least 0.05 apart, so that no small step changes which one is the largest."""
    return rng.permutation(0.05 * np.arange(math.prod(shape))).reshape(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# -- 1. fully-connected ---------------------------------------------------------------------------------------


@IMPLEMENTATIONS
def test_fully_connected(ops, rng):
    """(1.1) (1.2) (1.3) (1.4)"""
    x, w, b, g = (rng.standard_normal(shape) for shape in [(4, 3), (3, 5), (5,), (4, 5)])
    y = np.array([[sum(x[n, d] * w[d, m] for d in range(3)) + b[m] for m in range(5)] for n in range(4)])
    check(y, ops.linear_forward(x, w, b))
    dx, dw, db = ops.linear_backward(g, x, w)
    check(x.T @ g, dw, numeric_gradient(lambda w: np.sum(g * (x @ w + b)), w))
    check(g.T @ np.ones(4), db, numeric_gradient(lambda b: np.sum(g * (x @ w + b)), b))
    check(g @ w.T, dx, numeric_gradient(lambda x: np.sum(g * (x @ w + b)), x))


def test_weight_decay(rng):
    """(1.5): one step of rate 1 from a zero gradient moves the weight by the gradient of the penalty."""
    layer = layers.Linear(3, 2, dtype=np.float64, rng=rng)
    w, decay = layer.weight.data.copy(), 0.3
    optim.SGD([layer.weight], lr=1.0, weight_decay=decay).step()
    check(decay * w, w - layer.weight.data, numeric_gradient(lambda w: decay / 2 * np.sum(w**2), w))


# -- 2. activations -------------------------------------------------------------------------------------------


@IMPLEMENTATIONS
def test_relu(ops, rng):
    """(2.2)"""
    x, g = away_from_zero(rng, 3, 5), rng.standard_normal((3, 5))
    check(g * (x > 0), ops.relu_backward(g, x), numeric_gradient(lambda x: np.sum(g * np.maximum(x, 0)), x))
    check([0.0], ops.relu_backward(np.ones(1), np.zeros(1)))


@IMPLEMENTATIONS
def test_leaky_relu(ops, rng):
    """(2.3)"""
    x, g, a = away_from_zero(rng, 3, 5), rng.standard_normal((3, 5)), 0.2
    numeric = numeric_gradient(lambda x: np.sum(g * np.where(x > 0, x, a * x)), x)
    check(g * ((x > 0) + a * (x <= 0)), ops.leaky_relu_backward(g, x, negative_slope=a), numeric)
    check([a], ops.leaky_relu_backward(np.ones(1), np.zeros(1), negative_slope=a))


def normal_distribution(x):
    return np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.flat]).reshape(x.shape)


def normal_density(x):
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


SMOOTH = {  # name: (f, f′ as the document has it)
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * (1 - sigmoid(x)))),
    "gelu": (
        lambda x: x * normal_distribution(x),
        lambda x: normal_distribution(x) + x * normal_density(x),
    ),
}


@IMPLEMENTATIONS
@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_activations(ops, name, rng):
    """(2.1) (2.4) (2.5) (2.6)"""
    f, slope = SMOOTH[name]
    x, g = 2 * rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    check(f(x), getattr(ops, f"{name}_forward")(x))
    check(g * slope(x), getattr(ops, f"{name}_backward")(g, x), numeric_gradient(lambda x: np.sum(g * f(x)), x))


# -- 3. dropout -----------------------------------------------------------------------------------------------


def test_inverted_dropout(rng):
    """(3.1) (3.2)"""
    p, x, g = 0.3, away_from_zero(rng, 40, 50), rng.standard_normal((40, 50))
    layer = layers.Dropout(p, rng=rng)
    y = layer.forward(x, training=True)
    m = (y != 0).astype(np.float64)
    assert abs(m.mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / m.size)
    check(m / (1 - p) * x, y)
    check(m / (1 - p) * g, layer.backward(g))
    check(x, layer(x))


def test_vanilla_dropout(rng):
    """(3.3)"""
    q, x, g = 0.3, away_from_zero(rng, 40, 50), rng.standard_normal((40, 50))
    layer = layers.VanillaDropout(q, rng=rng)
    y = layer.forward(x, training=True)
    m = (y != 0).astype(np.float64)
    assert abs(m.mean() - q) < 5 * math.sqrt(q * (1 - q) / m.size)
    check(m * x, y)
    check(m * g, layer.backward(g))
    check(q * x, layer(x))


def test_vanilla_dropout_expectation(rng):
    """(3.4): the mean over all 2ᴰ masks, each with its probability, is W(qx)."""
    q, x, w = 0.3, rng.standard_normal(5), rng.standard_normal((4, 5))
    mean = sum(q ** sum(m) * (1 - q) ** (5 - sum(m)) * w @ (np.array(m) * x) for m in product([0, 1], repeat=5))
    check(w @ (q * x), mean)
    check(w @ (q * x), w @ layers.VanillaDropout(q)(x[None])[0])


# -- 4. batch normalisation -----------------------------------------------------------------------------------

EPS = 0.01  # large, so that leaving it out would show


def normalise(x):
    """μ, v, s and x̂ of (4.1) over the rows of x (M, C)."""
    mean = x.sum(axis=0) / len(x)
    var = ((x - mean) ** 2).sum(axis=0) / len(x)
    s = np.sqrt(var + EPS)
    return mean, var, s, (x - mean) / s


@IMPLEMENTATIONS
@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 4, 5)], ids=["features", "images"])
def test_batch_norm(ops, shape, rng):
    """(4.1) (4.2) (4.4)"""

    def rows(images):  # the M values of each channel in a column
        return images if images.ndim == 2 else images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])

    x, g = 2 + rng.standard_normal(shape), rng.standard_normal(shape)
    gamma, beta = rng.uniform(0.5, 2, 3), rng.standard_normal(3)
    mean, var, s, x_hat = normalise(rows(x))

    out, library_mean, library_var = ops.batch_norm_forward(x, gamma, beta, eps=EPS)
    check(gamma * x_hat + beta, rows(out))
    check(mean, library_mean)
    check(var, library_var)

    dgamma, dbeta = (rows(g) * x_hat).sum(axis=0), rows(g).sum(axis=0)
    dx = gamma / s * (rows(g) - dbeta / len(x_hat) - x_hat * dgamma / len(x_hat))

    def loss(x=x, gamma=gamma, beta=beta):
        return np.sum(rows(g) * (gamma * normalise(rows(x))[3] + beta))

    library_dx, library_dgamma, library_dbeta = ops.batch_norm_backward(g, x, gamma, mean, var, eps=EPS)
    check(dgamma, library_dgamma, numeric_gradient(lambda gamma: loss(gamma=gamma), gamma))
    check(dbeta, library_dbeta, numeric_gradient(lambda beta: loss(beta=beta), beta))
    check(dx, rows(library_dx), rows(numeric_gradient(loss, x)))


def test_batch_norm_jacobian(rng):
    """(4.3): row i is what backward makes of an upstream gradient of 1 at i alone."""
    size, x = 6, rng.standard_normal((6, 1))
    mean, var, s, x_hat = normalise(x)
    jacobian = (np.eye(size) - 1 / size - x_hat @ x_hat.T / size) / s
    one = np.ones(1)
    for i in range(size):
        library = cnn_ext.batch_norm_backward(np.eye(size)[:, i : i + 1], x, one, mean, var, eps=EPS)[0]
        check(jacobian[i], library[:, 0], numeric_gradient(lambda x, i=i: normalise(x)[3][i, 0], x)[:, 0])


def test_batch_norm_running_statistics(rng):
    """(4.5) (4.6)"""
    layer = layers.BatchNorm1d(3, momentum=0.1, eps=EPS, dtype=np.float64)
    running_mean, running_var = np.zeros(3), np.ones(3)
    for _ in range(3):
        x = 2 + rng.standard_normal((7, 3))
        mean, var, _, _ = normalise(x)
        running_mean = 0.9 * running_mean + 0.1 * mean
        running_var = 0.9 * running_var + 0.1 * 7 / 6 * var
        layer.forward(x, training=True)
    check(running_mean, layer.running_mean)
    check(running_var, layer.running_var)
    gamma, beta = rng.uniform(0.5, 2, 3), rng.standard_normal(3)
    layer.weight.data[...], layer.bias.data[...] = gamma, beta
    check(gamma * (x - running_mean) / np.sqrt(running_var + EPS) + beta, layer(x))


# -- 5. convolution -------------------------------------------------------------------------------------------


def convolution(x, w, b, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """(5.8), with NumPy doing the sums over n, c and f; (5.1) at the defaults."""
    oh, ow = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, p, d in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    )
    y = np.zeros((len(x), len(w), oh, ow)) + b[:, None, None]
    for u, v, i, j in np.ndindex(oh, ow, *w.shape[2:]):
        h, k = stride[0] * u + dilation[0] * i - padding[0], stride[1] * v + dilation[1] * j - padding[1]
        if 0 <= h < x.shape[2] and 0 <= k < x.shape[3]:
            y[:, :, u, v] += x[:, :, h, k] @ w[:, :, i, j].T
    return y


@pytest.fixture
def images(rng):
    """x, w, b of non-square images and filters."""
    return rng.standard_normal((2, 3, 5, 6)), rng.standard_normal((4, 3, 2, 3)), rng.standard_normal(4)


@IMPLEMENTATIONS
def test_valid_convolution(ops, images, rng):
    """(5.1) (5.2) (5.3) (5.4)"""
    x, w, b = images
    y = np.empty((2, 4, 4, 4))
    for n, f, u, v in np.ndindex(y.shape):
        y[n, f, u, v] = b[f] + np.sum(x[n, :, u : u + 2, v : v + 3] * w[f])
    check(y, ops.conv2d_forward(x, w, b))

    g = rng.standard_normal(y.shape)
    dw = np.empty_like(w)
    for f, c, i, j in np.ndindex(w.shape):
        dw[f, c, i, j] = np.sum(g[:, f] * x[:, c, i : i + 4, j : j + 4])
    dx = np.zeros_like(x)
    for h, k, i, j in np.ndindex(*x.shape[2:], *w.shape[2:]):
        if 0 <= h - i < 4 and 0 <= k - j < 4:
            dx[:, :, h, k] += g[:, :, h - i, k - j] @ w[:, :, i, j]

    library_dx, library_dw, library_db = ops.conv2d_backward(g, x, w)
    check(g.sum(axis=(0, 2, 3)), library_db, numeric_gradient(lambda b: np.sum(g * convolution(x, w, b)), b))
    check(dw, library_dw, numeric_gradient(lambda w: np.sum(g * convolution(x, w, b)), w))
    check(dx, library_dx, numeric_gradient(lambda x: np.sum(g * convolution(x, w, b)), x))


@IMPLEMENTATIONS
def test_convolution_as_matrix_product(ops, images, rng):
    """(5.5) (5.6) (5.7)"""
    x, w, b = images
    cols = np.empty((2, 3, 2, 3, 4, 4))
    for c, i, j, u, v in np.ndindex(cols.shape[1:]):
        cols[:, c, i, j, u, v] = x[:, c, u + i, v + j]
    cols = cols.reshape(2, 18, 16)
    check(cols, ops.im2col(x, (2, 3)))

    w_bar = w.reshape(4, 18)
    check(w_bar @ cols + b[:, None], ops.conv2d_forward(x, w, b).reshape(2, 4, 16))
    g = rng.standard_normal((2, 4, 16))
    dx, dw, _ = ops.conv2d_backward(g.reshape(2, 4, 4, 4), x, w)
    check(sum(g[n] @ cols[n].T for n in range(2)), dw.reshape(4, 18))
    check(dx, ops.col2im(w_bar.T @ g, x.shape, (2, 3)))

    a = rng.standard_normal(cols.shape)
    check(np.sum(cols * a), np.sum(x * ops.col2im(a, x.shape, (2, 3))))


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    ("stride", "padding", "dilation"),
    [((2, 1), (0, 0), (1, 1)), ((1, 1), (1, 2), (1, 1)), ((1, 1), (0, 0), (3, 2)), ((3, 2), (2, 1), (2, 2))],
    ids=["stride", "padding", "dilation", "all"],
)
def test_general_convolution(ops, images, stride, padding, dilation, rng):
    """(5.8) (5.9) (5.10)"""
    x, w, b = images
    geometry = {"stride": stride, "padding": padding, "dilation": dilation}
    y = convolution(x, w, b, **geometry)
    check(y, ops.conv2d_forward(x, w, b, **geometry))

    g = rng.standard_normal(y.shape)
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for u, v, i, j in np.ndindex(*y.shape[2:], *w.shape[2:]):
        h, k = stride[0] * u + dilation[0] * i - padding[0], stride[1] * v + dilation[1] * j - padding[1]
        if 0 <= h < x.shape[2] and 0 <= k < x.shape[3]:
            dw[:, :, i, j] += g[:, :, u, v].T @ x[:, :, h, k]
            dx[:, :, h, k] += g[:, :, u, v] @ w[:, :, i, j]

    library_dx, library_dw, _ = ops.conv2d_backward(g, x, w, **geometry)
    check(dw, library_dw, numeric_gradient(lambda w: np.sum(g * convolution(x, w, b, **geometry)), w))
    check(dx, library_dx, numeric_gradient(lambda x: np.sum(g * convolution(x, w, b, **geometry)), x))


# -- 6. pooling -----------------------------------------------------------------------------------------------


def windows(height, width, kernel, stride):
    """(u, v) and the slice R_uv of each window of a pooling without padding."""
    for u in range((height - kernel[0]) // stride[0] + 1):
        for v in range((width - kernel[1]) // stride[1] + 1):
            top, left = u * stride[0], v * stride[1]
            yield (u, v), (slice(top, top + kernel[0]), slice(left, left + kernel[1]))


@IMPLEMENTATIONS
@pytest.mark.parametrize("stride", [(2, 3), (1, 2)], ids=["apart", "overlapping"])
def test_max_pool(ops, stride, rng):
    """(6.1)"""
    x, kernel = all_distinct(rng, 2, 3, 6, 7), (2, 3)
    y, argmax = ops.max_pool2d_forward(x, kernel, stride=stride)
    g = rng.standard_normal(y.shape)
    dx = np.zeros_like(x)
    for n, c in np.ndindex(2, 3):
        for (u, v), window in windows(6, 7, kernel, stride):
            assert y[n, c, u, v] == x[n, c][window].max()
            dx[n, c][x[n, c] == x[n, c][window].max()] += g[n, c, u, v]

    def loss(x):
        return sum(
            np.sum(g[:, :, u, v] * x[(..., *window)].max(axis=(2, 3)))
            for (u, v), window in windows(6, 7, kernel, stride)
        )

    check(dx, ops.max_pool2d_backward(g, argmax, x.shape, kernel, stride=stride), numeric_gradient(loss, x))


@IMPLEMENTATIONS
def test_max_pool_tie_goes_to_the_first(ops):
    """(6.1) where a window holds its maximum twice."""
    x = np.array([[[[0.0, 2.0], [2.0, 1.0]]]])
    _, argmax = ops.max_pool2d_forward(x, 2)
    check([[[[0, 1], [0, 0]]]], ops.max_pool2d_backward(np.ones((1, 1, 1, 1)), argmax, x.shape, 2))


@IMPLEMENTATIONS
def test_average_pool(ops, rng):
    """(6.2)"""
    x, kernel, stride = rng.standard_normal((2, 3, 6, 7)), (2, 3), (1, 2)
    y = ops.avg_pool2d_forward(x, kernel, stride=stride)
    g, dx = rng.standard_normal(y.shape), np.zeros_like(x)
    for (u, v), window in windows(6, 7, kernel, stride):
        check(x[(..., *window)].sum(axis=(2, 3)) / 6, y[:, :, u, v])
        dx[(..., *window)] += g[:, :, u, v, None, None] / 6

    def loss(x):
        return sum(
            np.sum(g[:, :, u, v] * x[(..., *window)].mean(axis=(2, 3)))
            for (u, v), window in windows(6, 7, kernel, stride)
        )

    check(dx, ops.avg_pool2d_backward(g, x.shape, kernel, stride=stride), numeric_gradient(loss, x))


# -- 7. to 10. losses -----------------------------------------------------------------------------------------


def softmax(s):
    return np.exp(s) / np.exp(s).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing, rng):
    """(7.1) (7.2) (7.4)"""
    s, t = rng.standard_normal((6, 4)), np.array([0, 1, 2, 3, 3, 0])
    q = (1 - smoothing) * np.eye(4)[t] + smoothing / 4
    loss, ds = losses.CrossEntropyLoss(label_smoothing=smoothing)(s, t)
    check(-np.sum(q * np.log(softmax(s))) / 6, loss)
    z = s - s.max(axis=1, keepdims=True)
    check(np.log(softmax(s)), z - np.log(np.exp(z).sum(axis=1, keepdims=True)))
    shifted, _ = losses.CrossEntropyLoss(label_smoothing=smoothing)(s + 1e4, t)  # exp(1e4) would overflow
    assert shifted == pytest.approx(loss, rel=1e-10)
    check((softmax(s) - q) / 6, ds, numeric_gradient(lambda s: -np.sum(q * np.log(softmax(s))) / 6, s))


def test_log_softmax_jacobian(rng):
    """(7.3): with one sample and label k the loss is −log p_k, so its gradient is minus row k."""
    s = rng.standard_normal((1, 4))
    p = softmax(s)[0]
    for k in range(4):
        row = (np.arange(4) == k) - p
        library = -losses.CrossEntropyLoss()(s, np.array([k]))[1][0]
        check(row, library, numeric_gradient(lambda s, k=k: np.log(softmax(s))[0, k], s)[0])


@pytest.fixture
def scores(rng):
    """s and t ∈ {−1, +1}: margins on both sides of 1 and well clear of it."""
    t = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    return t * np.array([-2.0, -0.5, 0.3, 0.8, 1.4, 3.0]) + 0.01 * rng.standard_normal(6), t


def test_logistic(scores):
    """(8.1) (8.2), for both conventions of the labels"""
    s, t = scores

    def plain(s):
        return np.mean(np.log(1 + np.exp(-t * s)))

    tau = (t + 1) / 2
    gradient = -t / len(s) * sigmoid(-t * s)
    check(gradient, (sigmoid(s) - tau) / len(s))
    check(plain(s), np.mean(np.maximum(-t * s, 0) + np.log(1 + np.exp(-abs(s)))))
    for labels in (t, tau):
        loss, ds = losses.LogisticLoss()(s, labels.astype(np.int64))
        check(plain(s), loss)
        check(gradient, ds, numeric_gradient(plain, s))


def test_hinge(scores):
    """(9.1)"""
    s, t = scores

    def plain(s):
        return np.mean(np.maximum(0, 1 - t * s))

    loss, ds = losses.HingeLoss()(s, t.astype(np.int64))
    check(plain(s), loss)
    check(-t / len(s) * (t * s < 1), ds, numeric_gradient(plain, s))
    check([0.0], losses.HingeLoss()(np.ones(1), np.ones(1, np.int64))[1])


def test_squared_hinge(scores):
    """(9.2)"""
    s, t = scores

    def plain(s):
        return np.mean(np.maximum(0, 1 - t * s) ** 2)

    loss, ds = losses.SquaredHingeLoss()(s, t.astype(np.int64))
    check(plain(s), loss)
    check(-2 * t / len(s) * np.maximum(0, 1 - t * s), ds, numeric_gradient(plain, s))


def test_multi_class_hinge(rng):
    """(9.3) (9.4)"""
    s, t, margin = all_distinct(rng, 5, 4) + 0.02, np.array([0, 1, 2, 3, 1]), 0.5 + 0.025

    def terms(s):
        h = s - s[np.arange(5), t][:, None] + margin
        h[np.arange(5), t] = 0
        return h

    gradient = (terms(s) > 0) / 5
    gradient[np.arange(5), t] = -(terms(s) > 0).sum(axis=1) / 5
    assert 0 < (terms(s) > 0).sum() < 15  # some terms are violated and some are not
    loss, ds = losses.MultiClassHingeLoss(margin)(s, t)
    check(np.maximum(0, terms(s)).sum() / 5, loss)
    check(gradient, ds, numeric_gradient(lambda s: np.maximum(0, terms(s)).sum() / 5, s))


def test_mean_squared_error(rng):
    """(10.1)"""
    s, t = rng.standard_normal((2, 5, 3))
    loss, ds = losses.MSELoss()(s, t)
    check(np.sum((s - t) ** 2) / 15, loss)
    check(2 / 15 * (s - t), ds, numeric_gradient(lambda s: np.sum((s - t) ** 2) / 15, s))


# -- 11. a whole network --------------------------------------------------------------------------------------


def test_one_hidden_layer(rng):
    """(11.1)"""
    x, t = rng.standard_normal((6, 5)), np.array([0, 1, 2, 2, 1, 0])
    first = layers.Linear(5, 4, dtype=np.float64, rng=rng)
    second = layers.Linear(4, 3, dtype=np.float64, rng=rng)
    model = layers.Sequential(first, layers.ReLU(), second)
    (w1, b1), (w2, b2) = ((layer.weight.data, layer.bias.data) for layer in (first, second))

    def loss(w1=w1, w2=w2):
        p = softmax(np.maximum(x @ w1 + b1, 0) @ w2 + b2)
        return -np.mean(np.log(p[np.arange(6), t]))

    a = x @ w1 + b1
    assert np.abs(a).min() > 0.005  # no hidden unit near its kink
    z = np.maximum(a, 0)
    ds = (softmax(z @ w2 + b2) - np.eye(3)[t]) / 6
    da = (ds @ w2.T) * (a > 0)

    library_loss, dscores = losses.CrossEntropyLoss()(model.forward(x, training=True), t)
    model.backward(dscores)
    check(loss(), library_loss)
    check(ds, dscores)
    check(z.T @ ds, second.weight.grad, numeric_gradient(lambda w2: loss(w2=w2), w2))
    check(x.T @ da, first.weight.grad, numeric_gradient(lambda w1: loss(w1=w1), w1))
