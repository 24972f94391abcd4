"""Infinities, large biases, windows far apart, numbers of any size: right or refused, in moderate memory."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from blocked_memory import Memory, run

import cnn_ext
import pynn
from cnn_ext import blocked, reference

WINDOW = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}


@pytest.fixture
def memory():
    memory = Memory()
    yield memory
    memory.check()


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def product(memory, at, weights, bias, out, *, keep, relu=False, **window):
    options = {**WINDOW, **window}
    packs, steps = blocked.convolution(at, weights, bias, out, relu=relu, new=memory.new, keep=keep, **options)
    run([*packs, *steps])
    return memory.unpack(out)


@pytest.mark.parametrize("keep", [False, True], ids=["training", "inference"])
@pytest.mark.parametrize("n", [1, 5, 13, 30])
@pytest.mark.parametrize("channels", [20, 17, 9, 3])
def test_idle_channels_make_no_nan_of_an_infinity(memory, n, channels, keep):
    """Two products in a row: zero weights of idle outputs meet the infinity, and no output may hear of it."""
    x, first, second = draw(n, 20, 1, 1), -np.abs(draw(20, channels, seed=1)), draw(channels, 5, seed=2)
    x[0, 0] = np.inf
    hidden = memory.blocks_of((n, channels, 1, 1), batch=n)
    out = memory.blocks_of((n, 5, 1, 1), batch=n)
    for at, weight, target, relu in ((memory.blocks(x), first, hidden, True), (hidden, second, out, False)):
        weights = memory.weights(lambda array: blocked.linear_weights(array, (len(array), 1, 1)), weight)
        product(memory, at, weights, None, target, keep=keep, relu=relu)
    with np.errstate(invalid="ignore"):  # of NumPy's own idle lanes
        expected = np.maximum(x[:, :, 0, 0] @ first, 0) @ second
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(memory.unpack(out)[:, :, 0, 0], expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("keep", [False, True], ids=["training", "inference"])
@pytest.mark.parametrize("shape", [(1, 20, 3, 4), (13, 12, 5, 4), (5, 17, 4, 4)], ids=str)
def test_idle_channels_of_images_make_no_nan_of_an_infinity(memory, shape, keep):
    x, weight, later = draw(*shape), -np.abs(draw(9, shape[1], 2, 3, seed=1)), draw(3, 9, 2, 2, seed=2)
    x[0, 0, 1, 1] = np.inf
    with np.errstate(invalid="ignore"):
        hidden = np.maximum(reference.conv2d_forward(x, weight), 0)
    expected = reference.conv2d_forward(hidden, later)
    middle, out = memory.blocks_of(hidden.shape), memory.blocks_of(expected.shape)
    weights = [memory.weights(blocked.convolution_weights, each) for each in (weight, later)]
    product(memory, memory.blocks(x), weights[0], None, middle, keep=keep, relu=True)
    actual = product(memory, middle, weights[1], None, out, keep=keep)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("keep", [False, True], ids=["training", "inference"])
@pytest.mark.parametrize(
    ("shape", "filters", "kernel"),
    [
        ((13, 40, 1, 1), 24, (1, 1)), ((30, 600, 1, 1), 300, (1, 1)), ((100, 2000, 1, 1), 10, (1, 1)),
        ((13, 17, 6, 6), 24, (2, 2)), ((1, 24, 1, 1), 90, (1, 1)), ((5, 16, 6, 6), 9, (3, 2)),
        ((24, 16, 12, 12), 16, (3, 3)), ((12, 40, 5, 5), 17, (5, 5)),
    ],
    ids=str,
)  # fmt: skip
def test_a_large_bias_costs_no_more_than_its_own_rounding(memory, shape, filters, kernel, keep):
    """With a sum that starts from the bias each product is rounded to the bias's last digit."""
    x, weight = draw(*shape), draw(filters, shape[1], *kernel, seed=1)
    bias = np.full(filters, 1e6, np.float32)
    expected = reference.conv2d_forward(x.astype(np.float64), weight.astype(np.float64)) + 1e6
    out = memory.blocks_of(expected.shape, batch=shape[0] if kernel == (1, 1) else blocked.BATCH)
    weights = memory.weights(blocked.convolution_weights, weight)
    actual = product(memory, memory.blocks(x), weights, memory.copy(bias), out, keep=keep)
    assert np.abs(actual - expected).max() <= 0.04  # half a unit in the last place of 10⁶ is 0.031


def test_rows_forget_what_they_held(memory):
    rows = blocked.Rows((3, 4, 1, 1))
    weights = memory.weights(lambda array: blocked.linear_weights(array, (4, 1, 1)), draw(4, 8))
    out = memory.blocks_of((3, 8, 1, 1), batch=3)
    packs, steps = blocked.convolution(rows, weights, None, out, relu=False, new=memory.new, keep=True, **WINDOW)
    x = draw(3, 4, 1, 1)
    before = sys.getrefcount(x)
    blocked.pack(x, rows)
    run([*packs, *steps])
    blocked.pack(None, rows)
    assert sys.getrefcount(x) == before
    with pytest.raises(ValueError, match="its Rows hold nothing yet"):
        run(steps)


GEOMETRIES = [
    ((2, 3, 28, 28), (8, 3, 3, 3), {"padding": (3000, 3000), "dilation": (3000, 3000)}),
    ((2, 9, 20, 20), (8, 9, 3, 3), {"padding": (3000, 3000), "dilation": (3000, 3000)}),
    ((1, 1, 1, 6000), (1, 1, 1, 6000), {"padding": (0, 3000)}),
]


@pytest.mark.parametrize(("shape", "weight_shape", "window"), GEOMETRIES, ids=str)
def test_memory_of_convolution_is_that_of_its_arrays(shape, weight_shape, window):
    x, weight = draw(*shape), draw(*weight_shape, seed=1)
    tracemalloc.start()
    out = cnn_ext.conv2d_forward(x, weight, **window)
    cnn_ext.conv2d_backward(np.ones_like(out), x, weight, **window)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def test_wide_rows_are_cut_into_pieces(monkeypatch):
    """The same numbers whatever the pieces."""
    x, weight, options = draw(3, 4, 5, 37), draw(6, 4, 2, 3, seed=1), {"stride": (1, 2), "padding": (1, 4)}
    expected = reference.conv2d_forward(x, weight, **options)
    dout = draw(*expected.shape, seed=2)
    gradients = reference.conv2d_backward(dout, x, weight, **options)
    monkeypatch.setattr("cnn_ext.ops.conv._COLUMNS_BYTES", 0)
    monkeypatch.setattr("cnn_ext.ops.conv._MOST_COLUMNS_BYTES", 0)
    monkeypatch.setattr("cnn_ext.ops.conv._LEAST_COLUMNS", 7)
    np.testing.assert_allclose(cnn_ext.conv2d_forward(x, weight, **options), expected, atol=1e-4)
    for actual, wanted in zip(cnn_ext.conv2d_backward(dout, x, weight, **options), gradients, strict=True):
        np.testing.assert_allclose(actual, wanted, atol=1e-3)


@pytest.mark.parametrize("padding", [(3000, 3000), (0, 0)])
@pytest.mark.parametrize("n", [2, 13])
def test_few_images_with_much_padding_are_not_copied(memory, n, padding):
    x, weight = draw(n, 9, 4, 5), draw(8, 9, 3, 3, seed=1)
    window = {"padding": padding, "dilation": (max(padding[0], 1),) * 2}
    if padding == (0, 0):
        window["dilation"] = (1, 1)
    expected = reference.conv2d_forward(x[:, :, 1:3, 1:4], weight[:, :, 1:2, 1:2])
    actual = product(
        memory, memory.blocks(x), memory.weights(blocked.convolution_weights, weight), None,
        memory.blocks_of((n, 8, 4, 5) if padding[0] else (n, 8, 2, 3)), keep=True, **window,
    )  # fmt: skip
    if padding[0]:  # nothing but the middle tap meets the image
        np.testing.assert_allclose(actual[:, :, 1:3, 1:4], expected, atol=1e-4)
    else:
        np.testing.assert_allclose(actual, reference.conv2d_forward(x, weight), atol=1e-4)


def test_lists_of_terms_take_no_more_memory_than_the_arrays():
    """Every pixel of such an output has taps of its own."""
    window = {"stride": (1, 1), "padding": (99, 99), "dilation": (1, 1)}
    assert not blocked.tabulated((1, 100, 100), 1, (100, 100), (199, 199), **window)
    assert not blocked.tabulated(
        (1, 1, 100_000), 1, (1, 100_001), (1, 100_000), **window | {"padding": (0, 50_000)}
    )
    far = {"stride": (1, 1), "padding": (3000, 3000), "dilation": (3000, 3000)}
    assert blocked.tabulated((16, 28, 28), 16, (3, 3), (28, 28), **far)
    for k in (1, 3, 5, 7, 11):
        same = {"stride": (1, 1), "padding": (k // 2, k // 2), "dilation": (1, 1)}
        assert blocked.tabulated((64, 32, 32), 64, (k, k), (32, 32), **same)


def test_a_convolution_without_lists_is_that_of_its_layer():
    layer = pynn.Conv2d(2, 3, 40, padding=39, rng=np.random.default_rng(0))
    model = pynn.Sequential(layer, pynn.ReLU())
    x = draw(3, 2, 41, 40)
    trainer = pynn.engine.Trainer(model)
    scores = trainer.forward(x).copy()
    expected = model(x)
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    np.testing.assert_allclose(pynn.freeze(model)(x), expected, atol=1e-3)
    trainer.backward(np.ones_like(scores))
    gradient = layer.weight.grad.copy()
    model.zero_grad()
    model.forward(x, training=True)
    model.backward(np.ones_like(scores))
    np.testing.assert_allclose(gradient, layer.weight.grad, rtol=1e-4, atol=1e-2)


def taps_of(size, out, taps, stride, padding, dilation):
    """(tap, output, input) of all that meet along an axis."""
    pairs = ((k, o, o * stride - padding + k * dilation) for o in range(out) for k in range(taps))
    return [(k, o, i) for k, o, i in pairs if 0 <= i < size]


def test_taps_along_an_axis_are_those_that_meet():
    rng = np.random.default_rng(0)
    for _ in range(1500):
        size, taps, stride, dilation = (int(rng.integers(1, high)) for high in (14, 8, 8, 8))
        padding = int(rng.integers(0, 12))
        span = size + 2 * padding - dilation * (taps - 1)
        if span < 1:
            continue
        geometry = (size, (span - 1) // stride + 1, taps, stride, padding, dilation)
        met = taps_of(*geometry)
        forward, backward = blocked._forward_runs(*geometry), blocked._backward_runs(*geometry)
        for runs, places in (
            (forward, [(o, k, i) for k, o, i in met]),
            (backward, [(i, k, o) for k, o, i in met]),
        ):
            axis = runs.axis()
            found = [
                (p, int(k), int(axis.first[p] + place))
                for p, which in enumerate(axis.which)
                for k, place in zip(*axis.lists[which], strict=True)
            ]
            assert found == sorted(places), geometry
            assert runs.length() == sum(len(taps) for taps, _ in axis.lists)


HUGE = [10**400, -(10**400), 10**5000]


@pytest.mark.parametrize("value", HUGE, ids=["10**400", "-10**400", "10**5000"])
def test_numbers_beyond_any_float_are_refused_in_a_sentence(value):
    x, one = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    for call in (
        lambda: cnn_ext.set_num_threads(value),
        lambda: cnn_ext.leaky_relu_forward(x, negative_slope=value),
        lambda: cnn_ext.batch_norm_forward(x, one, one, eps=value),
        lambda: cnn_ext.softmax_cross_entropy(x, np.zeros(2, np.int64), label_smoothing=value),
        lambda: cnn_ext.max_pool2d_forward(x[None, None], value),
        lambda: cnn_ext.im2col(x[None, None], (1, value)),
        lambda: cnn_ext.avg_pool2d_backward(x[None, None], (1, 1, value, 3), 1),
    ):
        with pytest.raises(ValueError, match=r"^\w+: .* got ") as refused:
            call()
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "call",
    [
        lambda x, weight: cnn_ext.im2col(x, 2, padding=2**29),
        lambda x, weight: cnn_ext.conv2d_forward(x, weight, padding=2**30),
        lambda x, weight: cnn_ext.relu_forward(np.broadcast_to(x, (2**30, 1, 2**30, 1))),
    ],
)
def test_arrays_beyond_any_memory_are_refused_in_a_sentence(call):
    x, weight = np.ones((1, 1, 1, 1), np.float32), np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(MemoryError, match=r"^\w+: (cols|out|x) of shape .{5,100} GiB, more than there is"):
        call(x, weight)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_that_are_odd_keep_the_sign_of_zero(dtype):
    zeros = np.array([-0.0, 0.0] * 20, dtype)
    for forward in (cnn_ext.tanh_forward, cnn_ext.gelu_forward, cnn_ext.silu_forward, cnn_ext.leaky_relu_forward):
        np.testing.assert_array_equal(np.signbit(forward(zeros)), np.signbit(zeros))


def test_batch_norm_of_no_variance_raises_no_bare_warning():
    x, one, zero = np.ones((2, 3), np.float32), np.full(3, 1e30, np.float32), np.zeros(3, np.float32)
    assert not np.isfinite(cnn_ext.batch_norm_inference(x, one, zero, zero, zero, eps=0)).any()


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="this build has no OpenMP")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of memory as Linux has them")
def test_where_threads_cannot_be_made_kernels_run_on_one():
    """OpenMP's library would end the process: here no stack of a thread fits the memory that is left."""
    code = """
import os, resource, warnings
import numpy as np
import cnn_ext
x, w = np.ones((8, 16, 32, 32), np.float32), np.ones((16, 16, 3, 3), np.float32)
cnn_ext.set_num_threads(1)
expected = cnn_ext.conv2d_forward(x, w)
cnn_ext.set_num_threads(64)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 96 * 2**20,) * 2)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for _ in range(3):
        assert np.array_equal(cnn_ext.conv2d_forward(x, w), expected)
cnn_ext.set_num_threads(65)
with warnings.catch_warnings(record=True) as optimizer_told:
    warnings.simplefilter("always")
    for _ in range(3):
        cnn_ext.sgd_update(*x[:2].reshape(2, -1), None, lr=0.1, momentum=0, nesterov=False, weight_decay=0)
assert len(told) == 1 and "63 more threads cannot be made" in str(told[0].message), told
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "went on\n", done.stderr
