"""docs/derivations.md, formula by formula: as written there, by central differences, and as the library has it.

Each test names in its docstring the formulas it holds; test_docs.py checks that none is left out. All in float64,
with random upstream gradients; inputs keep clear of kinks.
"""

import math
from itertools import product

import numpy as np
import pytest
from formulas import check, check_numerically, numeric_gradient

import cnn_ext
import pynn
from cnn_ext import reference
from pynn import layers, losses, optim

IMPLEMENTATIONS = pytest.mark.parametrize("ops", [cnn_ext, reference], ids=["kernels", "reference"])


@pytest.fixture
def rng():
    return np.random.default_rng(20)


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


def test_decoupled_weight_decay(rng):
    """(1.6): with a gradient of 0 the decay is all there is; with another, Adam's step follows."""
    layer = layers.Linear(3, 2, dtype=np.float64, rng=rng)
    w, lr, decay = layer.weight.data.copy(), 0.1, 0.3
    optim.AdamW([layer.weight], lr=lr, weight_decay=decay).step()
    check((1 - lr * decay) * w, layer.weight.data)

    shrunk, whole = (layers.Linear(3, 2, dtype=np.float64, rng=rng) for _ in range(2))
    shrunk.weight.data[...], whole.weight.data[...] = (1 - lr * decay) * w, w
    gradient = rng.standard_normal(w.shape)
    for layer in (shrunk, whole):
        layer.weight.accumulate(gradient)
    optim.Adam([shrunk.weight], lr=lr).step()
    optim.AdamW([whole.weight], lr=lr, weight_decay=decay).step()
    check(shrunk.weight.data, whole.weight.data)


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
    dx = layer.backward(g)
    check(m / (1 - p) * g, dx, numeric_gradient(lambda x: np.sum(g * m / (1 - p) * x), x))
    check(x, layer(x))


def test_vanilla_dropout(rng):
    """(3.3)"""
    q, x, g = 0.3, away_from_zero(rng, 40, 50), rng.standard_normal((40, 50))
    layer = layers.VanillaDropout(q, rng=rng)
    y = layer.forward(x, training=True)
    m = (y != 0).astype(np.float64)
    assert abs(m.mean() - q) < 5 * math.sqrt(q * (1 - q) / m.size)
    check(m * x, y)
    dx = layer.backward(g)
    check(m * g, dx, numeric_gradient(lambda x: np.sum(g * m * x), x))
    check(q * x, layer(x))


def test_vanilla_dropout_expectation(rng):
    """(3.4): the mean over all 2ᴰ masks, each with its probability, is (qx)W."""
    q, x, w = 0.3, rng.standard_normal(5), rng.standard_normal((5, 4))
    mean = sum(q ** sum(m) * (1 - q) ** (5 - sum(m)) * (np.array(m) * x) @ w for m in product([0, 1], repeat=5))
    check((q * x) @ w, mean)
    check((q * x) @ w, layers.VanillaDropout(q)(x[None])[0] @ w)
    check(mean / q, layers.VanillaDropout(q, rescale=False)(x[None])[0] @ w)  # larger by 1/q without the factor


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


def test_what_an_upstream_gradient_of_ones_does_not_see(rng):
    """Section 4: the right dx is 0 then, as is one without the variance's term; one without the mean's is γ/s."""
    x, gamma, g = rng.standard_normal((6, 1)), np.array([1.7]), np.ones((6, 1))
    mean, var, s, x_hat = normalise(x)
    check(np.zeros_like(x), cnn_ext.batch_norm_backward(g, x, gamma, mean, var, eps=EPS)[0])
    means_term, variances_term = g.mean(), x_hat * (g * x_hat).mean()
    constant_statistics = gamma / s * g
    without_mean = gamma / s * (g - variances_term)
    without_variance, of_another_gamma = gamma / s * (g - means_term), 5 / s * (g - means_term - variances_term)
    for seen in (constant_statistics, without_mean):
        check(gamma / s * np.ones_like(x), seen)
    for unseen in (without_variance, of_another_gamma):
        check(np.zeros_like(x), unseen)


@IMPLEMENTATIONS
def test_batch_norm_node_by_node(ops, rng):
    """(4.5) (4.6) (4.7) (4.8) (4.9): of each node, with those after it following and the others held."""
    size, gamma, beta = 7, 1.3, 0.4
    x, g = 2 + rng.standard_normal(size), rng.standard_normal(size)
    mean, var, s, x_hat = (a if a.ndim else float(a) for a in normalise(x))

    def deviation(x, mu):
        return np.sqrt(np.sum((x - mu) ** 2) / size + EPS)

    def loss_of_normalised(x_hat):
        return np.sum(g * (gamma * x_hat + beta))

    def loss_of_deviation(s):
        return loss_of_normalised((x - mean) / s)

    def loss_of_mean(mu):
        return loss_of_normalised((x - mu) / deviation(x, mu))

    column = [a[:, None] for a in (g, x)]
    statistics = np.array([gamma]), np.array([mean]), np.array([var])
    library_dx, library_dgamma, library_dbeta = ops.batch_norm_backward(*column, *statistics, eps=EPS)

    def numeric(f, value):
        return numeric_gradient(lambda v: f(v[0]), np.array([value]))[0]

    dx_hat = gamma * g
    check_numerically(dx_hat, numeric_gradient(loss_of_normalised, x_hat))
    ds = -1 / s**2 * np.sum(gamma * g * (x - mean))
    check(ds, -gamma / s * library_dgamma[0], numeric(loss_of_deviation, s))
    dmean = -gamma / s * np.sum(g)
    check(dmean, -gamma / s * library_dbeta[0], numeric(loss_of_mean, mean))
    for mu in (mean, mean + 0.7):  # (4.7) holds away from the mean too; there (4.8) keeps its second term
        s_mu = deviation(x, mu)
        ds_dmu = -1 / (size * s_mu) * np.sum(x - mu)
        check_numerically(ds_dmu, numeric(lambda mu: deviation(x, mu), mu))
        total = np.sum(dx_hat * -1 / s_mu) - np.sum(dx_hat * (x - mu)) / s_mu**2 * ds_dmu
        check_numerically(total, numeric(loss_of_mean, mu))
    assert abs(np.sum(x - mean)) < 1e-12

    dx = dx_hat / s + ds * x_hat / size + dmean / size
    numeric_dx = numeric_gradient(lambda x: loss_of_normalised((x - x.mean()) / deviation(x, x.mean())), x)
    check(dx, library_dx[:, 0], numeric_dx)


def test_batch_norm_running_statistics(rng):
    """(4.10) (4.11)"""
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


def test_batch_norm_of_constant_statistics(rng):
    """(4.12)"""
    layer = layers.BatchNorm1d(3, eps=EPS, dtype=np.float64)
    layer.running_mean[...], layer.running_var[...] = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    gamma, beta = rng.uniform(0.5, 2, 3), rng.standard_normal(3)
    layer.weight.data[...], layer.bias.data[...] = gamma, beta
    layer.trainable = False
    x, g = rng.standard_normal((7, 3)), rng.standard_normal((7, 3))
    layer.forward(x, training=True)
    s = np.sqrt(layer.running_var + EPS)
    numeric = numeric_gradient(lambda x: np.sum(g * (gamma * (x - layer.running_mean) / s + beta)), x)
    check(gamma / s * g, layer.backward(g), numeric)


# -- 5. convolution -------------------------------------------------------------------------------------------


def convolution(x, w, b, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """(5.11), with NumPy doing the sums over n, c and f; (5.1) at the defaults."""
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


def filtered(a, b):
    """a *_filt b of (5.5)"""
    y = np.empty((a.shape[0] - b.shape[0] + 1, a.shape[1] - b.shape[1] + 1))
    for u, v in np.ndindex(y.shape):
        y[u, v] = sum(a[u + i, v + j] * b[i, j] for i, j in np.ndindex(b.shape))
    return y


def fully_convolved(a, b):
    """a *_full b of (5.5)"""
    y = np.zeros((a.shape[0] + b.shape[0] - 1, a.shape[1] + b.shape[1] - 1))
    for (h, k), (i, j) in product(np.ndindex(y.shape), np.ndindex(b.shape)):
        if 0 <= h - i < a.shape[0] and 0 <= k - j < a.shape[1]:
            y[h, k] += a[h - i, k - j] * b[i, j]
    return y


@IMPLEMENTATIONS
def test_convolution_operators(ops, images, rng):
    """(5.5) (5.6) (5.7)"""
    x, w, b = images
    y = np.zeros((2, 4, 4, 4)) + b[:, None, None]
    dw, dx, g = np.zeros_like(w), np.zeros_like(x), rng.standard_normal(y.shape)
    for n, f, c in np.ndindex(2, 4, 3):
        y[n, f] += filtered(x[n, c], w[f, c])
        dw[f, c] += filtered(x[n, c], g[n, f])
        dx[n, c] += fully_convolved(g[n, f], w[f, c])
        check(fully_convolved(g[n, f], w[f, c]), fully_convolved(w[f, c], g[n, f]))
    check(y, ops.conv2d_forward(x, w, b))
    library_dx, library_dw, _ = ops.conv2d_backward(g, x, w)
    check(dw, library_dw, numeric_gradient(lambda w: np.sum(g * convolution(x, w, b)), w))
    check(dx, library_dx, numeric_gradient(lambda x: np.sum(g * convolution(x, w, b)), x))

    def rotated(w):
        return w[..., ::-1, ::-1]

    flipping = rotated(w)  # the filters of a layer defined by valid convolution
    library_dx, library_dw, _ = ops.conv2d_backward(g, x, rotated(flipping))
    numeric = numeric_gradient(lambda v: np.sum(g * convolution(x, rotated(v), b)), flipping)
    check(rotated(dw), rotated(library_dw), numeric)
    for n, c in np.ndindex(2, 3):
        check(sum(fully_convolved(g[n, f], rotated(flipping)[f, c]) for f in range(4)), library_dx[n, c])


@IMPLEMENTATIONS
def test_convolution_as_matrix_product(ops, images, rng):
    """(5.8) (5.9) (5.10)"""
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
    numeric = numeric_gradient(lambda w_bar: np.sum(g * (w_bar @ cols + b[:, None])), w_bar)
    check(sum(g[n] @ cols[n].T for n in range(2)), dw.reshape(4, 18), numeric)
    numeric = numeric_gradient(lambda cols: np.sum(g * (w_bar @ cols + b[:, None])), cols)
    check_numerically(w_bar.T @ g, numeric)
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
    """(5.11) (5.12) (5.13)"""
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


def test_softmax(rng):
    """(7.5), and (7.4) out of it"""
    s = rng.standard_normal((1, 4))
    p = pynn.softmax(s)[0]
    jacobian = p[:, None] * (np.eye(4) - p)
    for k in range(4):
        numeric = numeric_gradient(lambda s, k=k: pynn.softmax(s)[0, k], s)[0]
        check(jacobian[k], jacobian[:, k], numeric)  # it is symmetric
    g = rng.standard_normal(4)
    check(p * (g - g @ p), jacobian.T @ g, numeric_gradient(lambda s: np.sum(g * pynn.softmax(s)), s)[0])
    q = 0.9 * np.eye(4)[2] + 0.1 / 4
    g = -q / p
    check(p * (g - g @ p), losses.CrossEntropyLoss(label_smoothing=0.1)(s, np.array([2]))[1][0])


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

    def loss(w1=w1, b1=b1, w2=w2, b2=b2):
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
    check(ds.T @ np.ones(6), second.bias.grad, numeric_gradient(lambda b2: loss(b2=b2), b2))
    check(da.T @ np.ones(6), first.bias.grad, numeric_gradient(lambda b1: loss(b1=b1), b1))


@pytest.mark.parametrize("shortcut", [True, False], ids=["shortcut", "identity"])
def test_residual(shortcut, rng):
    """(11.2), with fully-connected layers, whose Jacobians are their transposed weights"""
    body, way = (layers.Linear(3, 3, dtype=np.float64, rng=rng) for _ in range(2))
    block = layers.Residual(body, way if shortcut else None)
    w_f, w_h = body.weight.data, way.weight.data if shortcut else np.eye(3)
    x, g = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    bias = body.bias.data + (way.bias.data if shortcut else 0)
    check(x @ w_f + x @ w_h + bias, block.forward(x, training=True))
    numeric = numeric_gradient(lambda x: np.sum(g * (x @ w_f + x @ w_h)), x)
    check(g @ w_f.T + g @ w_h.T, block.backward(g), numeric)
