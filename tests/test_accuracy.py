"""Rounding errors of every op are within the bounds of docs/accuracy.md; extremes do what its table says."""

import re
from pathlib import Path

import numpy as np
import pytest
from accuracy_cases import cases

import cnn_ext
import pynn

PAGE = Path(__file__).resolve().parent.parent / "docs" / "accuracy.md"

# Errors in the units of `accuracy_cases`; the ones below have more.
MOST = {"ulp": 3.0, "terms": 6.0, "largest": 3.0}
MORE = {
    ("engine's conv2d, 3×3 (Winograd in the engine), 32 to 32", "out"): 17.0,  # 2e-6 of Σ |terms|
    ("engine's conv2d, 3×3 (Winograd in the engine), 32 to 32", "dx"): 17.0,
    ("batch norm, inputs around 100", "dweight"): 100.0,  # the mean is given as float32
}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_errors_are_within_their_bounds(case):
    for seed in range(2):
        errors = case.errors(np.random.default_rng((0, seed)))
        for output, error in zip(case.outputs, errors, strict=True):
            assert error <= MORE.get((case.name, output), MOST[case.unit]), output


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_an_error_is_seen(case):
    """A last bit more in each output: the measure notices."""
    found = case.errors(np.random.default_rng(3))
    worse = type(case)(**{**vars(case), "ours": lambda **inputs: tuple(a * 1.001 for a in case.ours(**inputs))})
    for error, output, before in zip(worse.errors(np.random.default_rng(3)), case.outputs, found, strict=True):
        assert error > before + 5, output


def one(op, *values):
    """`op` of a row of float32 values, as a list."""
    return [float(y) for y in np.ravel(op(np.array(values, np.float32)))]


def linear(x):
    return cnn_ext.linear_forward(x[None], np.ones((len(x), 1), np.float32))


def convolution(x):
    return cnn_ext.conv2d_forward(x.reshape(1, 1, 1, -1), np.ones((1, 1, 1, len(x)), np.float32))


def max_pool(x):
    return cnn_ext.max_pool2d_forward(x.reshape(1, 1, 1, -1), (1, len(x)))[0]


def avg_pool(x):
    return cnn_ext.avg_pool2d_forward(x.reshape(1, 1, 1, -1), (1, len(x)))


def batch_norm(x):
    return cnn_ext.batch_norm_forward(x[:, None], np.ones(1, np.float32), np.zeros(1, np.float32))[0]


def cross_entropy(x):
    return cnn_ext.softmax_cross_entropy(x[None], np.array([1]))[0]


def dscores(x):
    return cnn_ext.softmax_cross_entropy(x[None], np.array([1]))[1]


def frozen_linear(x):
    layer = pynn.Linear(len(x), 1)
    layer.weight.data[...], layer.bias.data[...] = 1, 0
    return pynn.freeze(pynn.Sequential(layer))(x[None])


INF, NAN = float("inf"), float("nan")
TINY = float(np.float32(1e-40))  # subnormal
HUGE = float(np.float32(3e38))
EXTREMES = [  # op, inputs, result
    (cnn_ext.relu_forward, (TINY, -TINY, -INF, INF, NAN), (TINY, 0, 0, INF, NAN)),
    (cnn_ext.leaky_relu_forward, (TINY, -INF, INF, NAN), (TINY, -INF, INF, NAN)),
    (cnn_ext.sigmoid_forward, (TINY, -1e38, 1e38, -INF, INF, NAN), (0.5, 0, 1, 0, 1, NAN)),
    (cnn_ext.tanh_forward, (TINY, -1e38, 1e38, -INF, INF, NAN), (TINY, -1, 1, -1, 1, NAN)),
    (cnn_ext.gelu_forward, (HUGE, -HUGE, INF, -INF, NAN), (HUGE, 0, INF, NAN, NAN)),
    (cnn_ext.silu_forward, (HUGE, -HUGE, INF, -INF, NAN), (HUGE, 0, INF, NAN, NAN)),
    (linear, (TINY, TINY), (2 * TINY,)),
    (linear, (HUGE, HUGE), (INF,)),
    (linear, (HUGE, -HUGE), (0,)),
    (linear, (INF, -INF), (NAN,)),
    (linear, (NAN, 0), (NAN,)),
    (frozen_linear, (TINY, TINY), (2 * TINY,)),
    (frozen_linear, (HUGE, HUGE), (INF,)),
    (frozen_linear, (INF, -INF), (NAN,)),
    (convolution, (TINY, TINY), (2 * TINY,)),
    (convolution, (HUGE, HUGE), (INF,)),
    (convolution, (INF, -INF), (NAN,)),
    (max_pool, (-INF, INF), (INF,)),
    (max_pool, (NAN, INF), (NAN,)),
    (max_pool, (-INF, -INF), (-INF,)),
    (avg_pool, (HUGE, HUGE), (HUGE,)),
    (avg_pool, (TINY, TINY), (TINY,)),
    (avg_pool, (INF, 0), (INF,)),
    (avg_pool, (INF, -INF), (NAN,)),
    (batch_norm, (5, 5, 5), (0, 0, 0)),
    (batch_norm, (INF, 1, 2), (NAN, NAN, NAN)),
    (batch_norm, (NAN, 1, 2), (NAN, NAN, NAN)),
    (cross_entropy, (HUGE, HUGE), (float(np.log(2)),)),
    (cross_entropy, (-HUGE, HUGE), (0,)),
    (cross_entropy, (INF, 0), (NAN,)),
    (dscores, (HUGE, -HUGE), (1, -1)),
    (dscores, (NAN, 0), (NAN, NAN)),
]


def shown(values):
    names = {TINY: "1e-40", 2 * TINY: "2e-40", HUGE: "3e38", -HUGE: "-3e38", -TINY: "-1e-40"}
    return ", ".join(names.get(v, f"{v:.6g}") for v in map(float, values))


def row(op, given, expected):
    """The row of the table in docs/accuracy.md."""
    return f"| `{op.__name__.removesuffix('_forward')}` | {shown(given)} | {shown(expected)} |"


@pytest.mark.parametrize(("op", "given", "expected"), EXTREMES, ids=lambda value: getattr(value, "__name__", None))
def test_extremes_do_what_the_page_says(op, given, expected):
    np.testing.assert_array_equal(one(op, *given), np.array(expected, np.float64))
    assert row(op, given, expected) in PAGE.read_text(encoding="utf-8").splitlines()


def test_the_page_has_every_case():
    text = PAGE.read_text(encoding="utf-8")
    assert [case.name for case in cases() if f"| {case.name} |" not in text] == []
    assert all(f"`{number:g}`" in text for number in (*MOST.values(), *MORE.values()))


# -- sizes ----------------------------------------------------------------------------------------------------

X, WEIGHT = np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 1, 2, 2), np.float32)
SIZES = [2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, 2**63, 2**64]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "call",
    [
        lambda n: cnn_ext.conv2d_forward(X, WEIGHT, stride=n),
        lambda n: cnn_ext.conv2d_forward(X, WEIGHT, padding=n),
        lambda n: cnn_ext.conv2d_forward(X, WEIGHT, dilation=n),
        lambda n: cnn_ext.conv2d_backward(X, X, WEIGHT, padding=n),
        lambda n: cnn_ext.im2col(X, n),
        lambda n: cnn_ext.im2col(X, 2, padding=n),
        lambda n: cnn_ext.col2im(np.zeros((1, 4, 9), np.float32), (n, n, n, n), 2),
        lambda n: cnn_ext.col2im(np.zeros((1, 4, 9), np.float32), (1, 1, n, n), 2),
        lambda n: cnn_ext.max_pool2d_forward(X, n),
        lambda n: cnn_ext.max_pool2d_forward(X, 2, stride=n),
        lambda n: cnn_ext.max_pool2d_forward(X, 2, padding=n),
        lambda n: cnn_ext.max_pool2d_backward(X, np.zeros(X.shape, np.int64), (1, 1, n, n), 2),
        lambda n: cnn_ext.avg_pool2d_forward(X, 2, padding=n),
        lambda n: cnn_ext.avg_pool2d_backward(X, (n, n, n, n), 2),
        lambda n: cnn_ext.avg_pool2d_backward(X, (1, 1, n, n), 2, stride=n),
        lambda n: cnn_ext.set_num_threads(n),
        lambda n: pynn.Linear(n, n),
        lambda n: pynn.Conv2d(n, n, 3),
        lambda n: pynn.Conv2d(1, 1, n),
        lambda n: pynn.Conv2d(1, 1, 3, padding=n),
        lambda n: pynn.MaxPool2d(2, stride=n),
        lambda n: pynn.BatchNorm2d(n),
        lambda n: pynn.models.cnn((1, n, n)),
    ],
)
def test_sizes_beyond_memory_are_refused_before_any_arithmetic_wraps(call, size):
    with pytest.raises(ValueError, match=r"^\S.{10,299}$") as refused:
        call(size)
    assert re.search(r"[a-z]", str(refused.value))
