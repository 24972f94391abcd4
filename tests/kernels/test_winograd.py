"""Winograd's convolution: against the twins in float64, its error beside the direct kernels', and its choice."""

import numpy as np
import pytest
from blocked_memory import Memory, run
from kernel_cases import assert_close

import cnn_ext
from cnn_ext import blocked, reference, winograd
from cnn_ext.isa import kernels

EVERY_PIXEL = {"stride": (1, 1), "dilation": (1, 1)}


@pytest.fixture
def memory():
    memory = Memory()
    yield memory
    memory.check()


@pytest.fixture
def direct(monkeypatch):
    """A call after which the direct kernels are used everywhere."""

    def forbid():
        for choice in ("wins", "wins_weight_gradient"):
            monkeypatch.setattr(winograd, choice, lambda *_, **__: False)

    return forbid


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


def by_winograd(memory, x, weight, bias, padding, out, *, relu=False, transposed=False, tiles=4, group=4):
    """The steps, in memory that shows what is read before it is written."""
    packing = winograd.packing(weight, x, out, transposed, memory.new)
    origin = (-padding[0], -padding[1])
    return [packing, kernels.Winograd(x, packing, bias, out, origin, relu, tiles, group, memory.new)]


# (N, C, H, W), F, padding, tiles and output blocks at a time
GEOMETRIES = {
    "one tile": ((12, 16, 6, 6), 16, (0, 0), 4, 4),
    "one output": ((1, 8, 3, 3), 8, (0, 0), 1, 1),
    "one pixel": ((12, 8, 1, 1), 16, (1, 1), 1, 1),
    "same": ((13, 16, 8, 8), 16, (1, 1), 2, 1),
    "same, 7×7": ((12, 16, 7, 7), 16, (1, 1), 4, 1),
    "3×3": ((24, 24, 3, 3), 40, (1, 1), 1, 2),
    "wider padding": ((5, 16, 4, 6), 16, (2, 2), 3, 4),
    "padding by rows, beyond the kernel": ((13, 8, 5, 2), 24, (3, 1), 4, 4),
    "uneven": ((25, 17, 9, 11), 33, (1, 0), 4, 2),
    "few channels": ((13, 3, 10, 9), 5, (1, 1), 4, 4),
    "8 to 16": ((12, 8, 6, 5), 16, (0, 1), 4, 4),
    "16 to 8": ((11, 16, 13, 4), 24, (1, 2), 16, 3),
    "many blocks": ((26, 40, 5, 5), 70, (1, 1), 4, 4),
}


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES)
def geometry(request):
    return request.param


def test_convolution_equals_its_twin(memory, geometry):
    shape, filters, padding, tiles, group = geometry
    x, weight, bias = draw(*shape), draw(filters, shape[1], 3, 3, seed=1), draw(filters, seed=2)
    at, weights = memory.blocks(x), memory.weights(blocked.convolution_weights, weight)
    expected = reference.conv2d_forward(*wide(x, weight), padding=padding)
    out = memory.blocks_of(expected.shape)
    whole = memory.new(out.channel_blocks * out.lanes)
    whole[:filters], whole[filters:] = bias, 0
    for with_bias, relu in ((False, False), (True, False), (False, True), (True, True)):
        steps = by_winograd(
            memory, at, weights, whole if with_bias else None, padding, out, relu=relu, tiles=tiles, group=group
        )
        run(steps, twice=True)
        full = expected + with_bias * bias.astype(np.float64)[:, None, None]
        assert_close(memory.unpack(out), np.maximum(full, 0) if relu else full, np.float32)
        assert np.isfinite(out.flat).all()  # those past F too, which zero weights meet


def test_input_gradient_equals_its_twin(memory, geometry):
    shape, filters, padding, tiles, group = geometry
    x, weight = draw(*shape), draw(filters, shape[1], 3, 3, seed=1)
    dout = draw(*reference.conv2d_forward(x, weight, padding=padding).shape, seed=3)
    expected, _, _ = reference.conv2d_backward(*wide(dout, x, weight), padding=padding)
    dy, dx, weights = (
        memory.blocks(dout),
        memory.blocks_of(shape),
        memory.weights(blocked.convolution_weights, weight),
    )
    around = (2 - padding[0], 2 - padding[1])
    steps = by_winograd(memory, dy, weights, None, around, dx, transposed=True, tiles=tiles, group=group)
    run(steps, twice=True)
    assert_close(memory.unpack(dx), expected, np.float32)
    assert np.isfinite(dx.flat).all()


@pytest.mark.parametrize(("slots", "groups", "units"), [(1, (1, 1), 8), (3, (2, 1), 2), (2, (1, 2), 3)], ids=str)
def test_weight_gradient_equals_its_twin(memory, geometry, slots, groups, units):
    shape, filters, padding, _, _ = geometry
    x, weight = draw(*shape), draw(filters, shape[1], 3, 3, seed=1)
    dout = draw(*reference.conv2d_forward(x, weight, padding=padding).shape, seed=3)
    _, expected, _ = reference.conv2d_backward(*wide(dout, x, weight), padding=padding)
    at, dy, grad = memory.blocks(x), memory.blocks(dout), memory.new(weight.size).reshape(weight.shape)
    slots = min(slots, -(-shape[0] // 12) * -(-dy.shape[2] // 4) * -(-dy.shape[3] // 4))  # a unit each, at least
    sums = memory.new(slots * at.channel_blocks * dy.channel_blocks * 9 * at.lanes * dy.lanes)
    step = kernels.OuterWinograd(
        at, dy, blocked.convolution_weights(grad), padding, slots, sums, *groups, units, memory.new
    )
    run([step], twice=True)
    assert_close(grad, expected, np.float32)


# -- as the engine calls it -----------------------------------------------------------------------------------


def engine_steps(memory, x, weight, padding, out):
    options = {"padding": padding, **EVERY_PIXEL}
    packs, steps = blocked.convolution(x, weight, None, out, relu=False, new=memory.new, **options)
    return [*packs, *steps]


def gradient_step(memory, x, dout, grad, padding):
    options = {"padding": padding, **EVERY_PIXEL}
    return blocked.weight_gradient(x, dout, blocked.convolution_weights(grad), new=memory.new, **options)


def uses_winograd(steps):
    return [type(step) for step in steps] == [kernels.TransformWeights, kernels.Winograd]


@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1)], ids=str)
def test_passes_of_the_engine_equal_their_twins(memory, padding):
    x, weight, bias = draw(29, 32, 13, 12), draw(40, 32, 3, 3, seed=1), draw(40, seed=2)
    expected = np.maximum(reference.conv2d_forward(*wide(x, weight, bias), padding=padding), 0)
    dout = draw(*expected.shape, seed=3)
    expected_dx, expected_dweight, _ = reference.conv2d_backward(*wide(dout, x, weight), padding=padding)
    weights, out = memory.weights(blocked.convolution_weights, weight), memory.blocks_of(dout.shape)
    options = {"new": memory.new, "padding": padding, **EVERY_PIXEL}
    packs, steps = blocked.convolution(
        memory.blocks(x), weights, memory.copy(bias), out, relu=True, keep=True, **options
    )
    assert uses_winograd([packs[0], *steps])
    run(packs)
    run(steps, twice=True)
    assert_close(memory.unpack(out), expected, np.float32)
    dx = memory.blocks_of(x.shape)
    steps = blocked.input_gradient(memory.blocks(dout), weights, dx, **options)
    assert uses_winograd(steps)
    run(steps, twice=True)
    assert_close(memory.unpack(dx), expected_dx, np.float32)
    dweight = memory.new(weight.size).reshape(weight.shape)
    step = gradient_step(memory, memory.blocks(x), memory.blocks(dout), dweight, padding)
    assert type(step) is kernels.OuterWinograd
    run([step], twice=True)
    assert_close(dweight, expected_dweight, np.float32)


SOME_INPUTS = {
    "normal": lambda x: x,
    "after a relu": lambda x: np.maximum(x, 0),
    "far from zero": lambda x: x + 10,
    "of unequal channels": lambda x: x * np.geomspace(1e-3, 1e3, x.shape[1], dtype=np.float32)[:, None, None],
}


def largest_of_tiles(values):
    """(N, F, H, W), each value that of the largest in its 4 × 4 tile."""
    n, f, h, w = values.shape
    tiles = np.zeros((n, f, -(-h // 4), 4, -(-w // 4), 4))
    tiles.reshape(n, f, tiles.shape[2] * 4, -1)[:, :, :h, :w] = values
    return tiles.max((3, 5)).repeat(4, 2).repeat(4, 3)[:, :, :h, :w]


@pytest.mark.parametrize("kind", SOME_INPUTS)
@pytest.mark.parametrize("channels", [8, 16, 64, 256, 1024])
def test_errors_are_bounded(memory, direct, channels, kind):
    """By 2e-6 of a tile's largest Σ |x| · |weight|, 1e-5 of the largest output and four times the direct kernels'
    errors; with 8 channels eight times, as direct sums of 72 products lose little."""
    x = SOME_INPUTS[kind](draw(24, channels, 9, 16))
    weight = draw(48, channels, 3, 3, seed=1)
    exact = reference.conv2d_forward(*wide(x, weight), padding=1)
    size = reference.conv2d_forward(*wide(abs(x), abs(weight)), padding=1)
    at, weights = memory.blocks(x), memory.weights(blocked.convolution_weights, weight)

    def error(steps_for):
        out = memory.blocks_of(exact.shape)
        run(steps_for(out))
        return abs(memory.unpack(out) - exact)

    of_winograd = error(lambda out: by_winograd(memory, at, weights, None, (1, 1), out))
    direct()
    of_direct = error(lambda out: engine_steps(memory, at, weights, (1, 1), out))
    assert (of_winograd / largest_of_tiles(size)).max() <= 2e-6
    assert of_winograd.max() <= 1e-5 * abs(exact).max()
    assert of_winograd.max() <= (4 if channels > 8 else 8) * of_direct.max()


@pytest.mark.parametrize("of_dout", SOME_INPUTS)
@pytest.mark.parametrize("kind", SOME_INPUTS)
@pytest.mark.parametrize("shape", [(24, 32, 9, 16), (100, 32, 4, 4), (13, 64, 24, 8)], ids=str)
def test_errors_of_weight_gradients_are_bounded(memory, direct, shape, kind, of_dout):
    """By 2e-6 of Σ |x| · |dout|, and four times what the direct kernels may lose, 8e-7 of it."""
    x, dout = SOME_INPUTS[kind](draw(*shape)), SOME_INPUTS[of_dout](draw(shape[0], 48, *shape[2:], seed=3))
    weight = np.zeros((48, shape[1], 3, 3))
    _, exact, _ = cnn_ext.conv2d_backward(*wide(dout, x), weight, padding=1)
    _, size, _ = cnn_ext.conv2d_backward(*wide(abs(dout), abs(x)), weight, padding=1)
    grad = np.zeros(weight.shape, np.float32)
    step = gradient_step(memory, memory.blocks(x), memory.blocks(dout), grad, (1, 1))
    assert type(step) is kernels.OuterWinograd
    run([step])
    of_winograd = abs(grad - exact)
    direct()
    step = gradient_step(memory, memory.blocks(x), memory.blocks(dout), grad, (1, 1))
    assert type(step) is kernels.Outer
    run([step])
    of_direct = abs(grad - exact)
    assert (of_winograd / size).max() <= 2e-6
    assert (of_winograd - 4 * of_direct.max() <= 8e-7 * size).all()


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="this build has no OpenMP")
def test_same_bits_on_any_number_of_threads(memory):
    x, weights = (
        memory.blocks(draw(29, 40, 14, 13)),
        memory.weights(blocked.convolution_weights, draw(48, 40, 3, 3)),
    )
    outs = [memory.blocks_of((29, 48, 14, 13)) for _ in range(3)]
    dxs = [memory.blocks_of(x.shape) for _ in outs]
    for n_threads, out, dx in zip((1, 2, 3), outs, dxs, strict=True):
        forward = engine_steps(memory, x, weights, (1, 1), out)
        back = blocked.input_gradient(outs[0], weights, dx, new=memory.new, padding=(1, 1), **EVERY_PIXEL)
        assert uses_winograd(forward)
        assert uses_winograd(back)
        run([*forward, *back], n_threads)
    for made in (outs, dxs):
        assert all(np.asarray(one.flat).tobytes() == np.asarray(made[0].flat).tobytes() for one in made)
    grads = [np.zeros((48, 40, 3, 3), np.float32) for _ in outs]
    for n_threads, grad in zip((1, 2, 3), grads, strict=True):
        step = gradient_step(memory, x, outs[0], grad, (1, 1))
        assert type(step) is kernels.OuterWinograd
        run([step], n_threads)
    assert all(grad.tobytes() == grads[0].tobytes() for grad in grads)


def test_it_is_chosen_where_it_takes_less_time():
    def chosen(n, c, f, size, kernel=3, padding=1, stride=1, dilation=1):
        out_size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        shapes = (n, c, size, size), (n, f, out_size, out_size)
        x, out = (blocked.Blocks(np.zeros(blocked.blocks_size(s, 8), np.float32), s, 8) for s in shapes)
        pairs = [(k, k) for k in (kernel, stride, padding, dilation)]
        return winograd.wins(x, out, *pairs)

    for shape in ((24, 64, 31), (64, 64, 15), (64, 256, 15), (256, 256, 7)):
        assert chosen(256, *shape)
        assert chosen(256, *shape, padding=0)
        assert not chosen(256, *shape, kernel=5)
        assert not chosen(256, *shape, stride=2)
        assert not chosen(256, *shape, padding=2, dilation=2)
    assert not chosen(256, 256, 256, 3)  # most of a tile is beyond the edge
    assert not chosen(100, 64, 64, 2)
    assert not chosen(100, 1025, 64, 15)  # errors
    assert not chosen(256, 8, 8, 32)  # transforms take as long as products
    assert not chosen(12, 64, 64, 7)  # fewer tiles than threads, perhaps
    assert chosen(100, 64, 64, 4)
    assert chosen(100, 8, 16, 16)


def test_weight_gradients_choose_by_time_too():
    def chosen(n, c, f, size, kernel=3, padding=1, stride=1, dilation=1):
        out_size = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        shapes = (n, c, size, size), (n, f, out_size, out_size)
        lanes = [blocked.lanes_for(s[1]) for s in shapes]
        x, dout = (
            blocked.Blocks(np.zeros(blocked.blocks_size(s, each), np.float32), s, each)
            for s, each in zip(shapes, lanes, strict=True)
        )
        return winograd.wins_weight_gradient(x, dout, *[(k, k) for k in (kernel, stride, padding, dilation)])

    for shape in ((100, 8, 16, 16), (100, 32, 32, 8), (100, 64, 64, 4), (256, 24, 64, 31), (256, 256, 256, 7)):
        assert chosen(*shape)
        assert not chosen(*shape, kernel=5)
        assert not chosen(*shape, stride=2)
        assert not chosen(*shape, padding=2, dilation=2)
    assert not chosen(100, 64, 64, 2)  # most of a tile is beyond the edge
    assert not chosen(256, 256, 256, 5)
    assert not chosen(256, 4, 8, 16)  # transforms take as long as products
    assert not chosen(12, 64, 64, 4)  # nor are there enough to be worth a filter's
    image = blocked.Image(np.zeros(10_000, np.float32), (12, 3, 8, 8), (1, 1))
    dout = blocked.Blocks(np.zeros(12 * 16 * 64, np.float32), (12, 16, 8, 8), 16)
    assert not winograd.wins_weight_gradient(image, dout, (3, 3), (1, 1), (1, 1), (1, 1))


def test_nan_stays_in_the_tiles_that_see_it(memory):
    x, weight = draw(13, 16, 12, 12), draw(16, 16, 3, 3, seed=1)
    x[4, 1, 5, 5] = x[12, 2, 11, 0] = np.nan
    out = memory.blocks_of(x.shape)
    run(
        by_winograd(
            memory, memory.blocks(x), memory.weights(blocked.convolution_weights, weight), None, (1, 1), out
        )
    )
    expected = np.zeros(x.shape, bool)
    expected[4, :, 4:8, 4:8] = expected[12, :, 8:, :4] = True
    np.testing.assert_array_equal(np.isnan(memory.unpack(out)), expected)


def floats(count):
    return np.zeros(count, np.float32)


def of(*shape, lanes=8, batch=12):
    return blocked.Blocks(floats(4096), shape, lanes, batch)


ENOUGH = kernels.transformed_size(8 * 8)


def packing(f=8, c=8, kernel=3, packed=ENOUGH, out_lanes=8, in_lanes=8):
    weight = blocked.convolution_weights(np.zeros((f, c, kernel, kernel), np.float32))
    return kernels.TransformWeights(weight, floats(packed), out_lanes, in_lanes, False)


def step(x=None, packed=None, out=None, bias=None, origin=(0, 0), tiles=1, group=1):
    x, packed, out = x or of(2, 8, 4, 4), packed or packing(), out or of(2, 8, 4, 4)
    return kernels.Winograd(x, packed, bias, out, origin, False, tiles, group, floats)


def outer(x=None, dy=None, kernel=3, memory=9 * 64, slots=1, c_group=1, f_group=1, units=1):
    grad = blocked.convolution_weights(np.zeros((8, 8, kernel, kernel), np.float32))
    x, dy = x or of(2, 8, 4, 4), dy or of(2, 8, 4, 4)
    padding = (kernel // 2, kernel // 2)
    return kernels.OuterWinograd(x, dy, grad, padding, slots, floats(memory), c_group, f_group, units, floats)


REFUSALS = {
    "a gradient of 5×5": lambda: outer(kernel=5, memory=9999),
    "short memory": lambda: outer(memory=9 * 64 - 1),
    "x of other images": lambda: outer(x=of(3, 8, 4, 4)),
    "dy of other filters": lambda: outer(dy=of(2, 9, 4, 4)),
    "dy of another size": lambda: outer(dy=of(2, 8, 5, 4)),
    "vectors' blocks": lambda: outer(x=of(2, 8, 4, 4, batch=2), dy=of(2, 8, 4, 4, batch=2)),
    "more slots than units": lambda: outer(slots=2, memory=9999),
    "no slots": lambda: outer(slots=0),
    "no input blocks": lambda: outer(c_group=0),
    "no output blocks": lambda: outer(f_group=-1),
    "no units": lambda: outer(units=0),
    "weights that do not fit": lambda: packing(packed=ENOUGH - 1),
    "5×5": lambda: packing(kernel=5, packed=9999),
    "input blocks of 4": lambda: packing(in_lanes=4),
    "other images": lambda: step(x=of(3, 8, 4, 4)),
    "other blocks of images": lambda: step(x=of(2, 8, 4, 4, batch=2)),
    "other blocks of outputs": lambda: step(out=of(2, 8, 4, 4, batch=2)),
    "other channels": lambda: step(x=of(2, 7, 4, 4)),
    "other filters": lambda: step(out=of(2, 9, 4, 4)),
    "lanes of x": lambda: step(x=of(2, 8, 4, 4, lanes=16)),
    "lanes of out": lambda: step(out=of(2, 8, 4, 4, lanes=16)),
    "short bias": lambda: step(bias=floats(7)),
    "no tiles": lambda: step(tiles=0),
    "no group": lambda: step(group=0),
}


@pytest.mark.parametrize("call", REFUSALS.values(), ids=REFUSALS)
def test_wrong_arrays_are_refused(call):
    run([step(bias=floats(8), origin=(-9, 9)), outer()])
    with pytest.raises(ValueError, match=r"(Winograd|TransformWeights|PackWeights|Outer|OuterWinograd): "):
        call()
