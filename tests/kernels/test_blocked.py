"""The steps of the blocked engine: against the twins in float64, within their memory, on any number of threads."""

import numpy as np
import pytest
from blocked_memory import Memory, run
from kernel_cases import assert_close

import cnn_ext
from cnn_ext import blocked, reference
from cnn_ext.isa import kernels

WINDOW = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}


@pytest.fixture
def memory():
    """Buffers full of NaN between guards, which no test may leave touched."""
    memory = Memory()
    yield memory
    memory.check()


def draw(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


# -- in and out -----------------------------------------------------------------------------------------------

SHAPES = [
    (1, 1, 1, 1),
    (5, 3, 2, 4),
    (12, 8, 1, 1),
    (13, 9, 3, 2),
    (24, 16, 2, 2),
    (25, 17, 1, 5),
    (100, 40, 1, 1),
    (100, 5, 3, 7),
]


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("batch", [12, 1, 7, 100])
def test_blocks_give_back_what_was_packed(memory, shape, lanes, batch):
    x = draw(*shape)
    at = memory.blocks(x, lanes, batch)
    np.testing.assert_array_equal(memory.unpack(at), x)
    assert np.isfinite(at.flat).all()  # those past C too, which zero weights meet


@pytest.mark.parametrize("lanes", [8, 16])
def test_the_layout_is_as_described(memory, lanes):
    """[N/12][C/L][H][W][12][L], the last block of images only as large as they are."""
    x = draw(17, 19, 2, 3)
    flat, channel_blocks = np.asarray(memory.blocks(x, lanes).flat), -(-19 // lanes)
    at = 0
    for first, rows in ((0, 12), (12, 5)):
        for block in range(channel_blocks):
            tile = np.zeros((2, 3, rows, lanes), np.float32)
            part = x[first : first + rows, block * lanes : (block + 1) * lanes]
            tile[..., : part.shape[1]] = part.transpose(2, 3, 0, 1)
            np.testing.assert_array_equal(flat[at : at + tile.size], tile.ravel())
            at += tile.size
    assert at == flat.size == blocked.blocks_size(x.shape, lanes)


@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1), (5, 3, 2, 4), (12, 2, 3, 3), (25, 1, 4, 2), (100, 3, 5, 6), (12, 1, 2, 8), (13, 3, 2, 19)],
    ids=str,
)
def test_an_image_is_padded_with_zeros(memory, shape, padding):
    """[N/12][H + 2·PH][W + 2·PW][C][12], the images that are missing zero as well."""
    x = draw(*shape)
    array = memory.new(blocked.image_size(shape, padding))
    image = blocked.Image(array, shape, padding)
    for _ in range(2):
        blocked.pack(x, image)
    n, c, h, w = shape
    (ph, pw), blocks = padding, -(-n // 12)
    expected = np.zeros((blocks * 12, c, h + 2 * ph, w + 2 * pw), np.float32)
    expected[:n, :, ph : ph + h, pw : pw + w] = x
    expected = expected.reshape(blocks, 12, *expected.shape[1:]).transpose(0, 3, 4, 2, 1)
    np.testing.assert_array_equal(array.reshape(expected.shape), expected)


@pytest.mark.parametrize("padding", [(0, 0), (2, 1)])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 2, 4), (11, 4, 5, 6)], ids=str)
def test_pixels_are_padded_with_zeros(memory, shape, padding):
    """[N][H + 2·PH][W + 2·PW][C]."""
    x = draw(*shape)
    pixels = memory.pixels(x, padding)
    blocked.pack(x, pixels)
    expected = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(np.asarray(pixels.flat).reshape(expected.shape), expected)


# -- convolution ----------------------------------------------------------------------------------------------

# (N, C, H, W), F, (KH, KW), stride, padding, dilation
GEOMETRIES = {
    "one pixel": ((1, 1, 1, 1), 1, (1, 1), (1, 1), (0, 0), (1, 1)),
    "one pixel, padded": ((12, 3, 1, 1), 5, (3, 3), (1, 1), (1, 1), (1, 1)),
    "first layer, 1 channel": ((25, 1, 9, 7), 16, (5, 5), (1, 1), (0, 0), (1, 1)),
    "first layer, 3 channels, same": ((13, 3, 8, 8), 8, (3, 3), (1, 1), (1, 1), (1, 1)),
    "first layer, 2×2": ((12, 3, 8, 6), 24, (2, 2), (1, 1), (0, 0), (1, 1)),
    "first layer, strided": ((5, 3, 11, 9), 17, (3, 2), (2, 3), (2, 1), (1, 1)),
    "first layer, stride along rows": ((13, 1, 9, 9), 5, (3, 3), (2, 1), (1, 2), (1, 1)),
    "first layer, dilated": ((13, 2, 9, 8), 8, (3, 2), (1, 1), (1, 2), (2, 3)),
    "first layer, dilated columns, 1 channel": ((12, 1, 6, 9), 16, (2, 3), (1, 1), (0, 2), (1, 2)),
    "first layer, wide": ((12, 1, 3, 40), 8, (3, 3), (1, 1), (1, 1), (1, 1)),
    "first layer, wide, few images": ((5, 1, 3, 40), 33, (2, 7), (1, 1), (0, 0), (1, 1)),
    "first layer, 7×7": ((12, 1, 14, 14), 33, (7, 7), (1, 1), (2, 2), (1, 1)),
    "8 to 8": ((12, 8, 4, 4), 8, (3, 3), (1, 1), (1, 1), (1, 1)),
    "8 to 16": ((13, 8, 4, 4), 16, (3, 3), (1, 1), (1, 1), (1, 1)),
    "5 to 3": ((1, 5, 4, 3), 3, (2, 2), (1, 1), (0, 0), (1, 1)),
    "5 to 40": ((5, 5, 2, 2), 40, (3, 3), (1, 1), (1, 1), (1, 1)),
    "16 to 8": ((12, 16, 4, 4), 8, (3, 3), (1, 1), (1, 1), (1, 1)),
    "16 to 1": ((13, 16, 2, 2), 1, (2, 2), (1, 1), (1, 1), (1, 1)),
    "16 to 16": ((13, 16, 2, 2), 16, (3, 3), (1, 1), (1, 1), (1, 1)),
    "17 to 33": ((5, 17, 4, 4), 33, (3, 2), (1, 1), (0, 1), (1, 1)),
    "24 to 5, strided": ((12, 24, 7, 6), 5, (3, 3), (2, 2), (1, 1), (1, 1)),
    "24 to 17, 1×1": ((100, 24, 2, 2), 17, (1, 1), (1, 1), (0, 0), (1, 1)),
    "33 to 24, strided 1×1": ((13, 33, 4, 4), 24, (1, 1), (2, 2), (0, 0), (1, 1)),
    "40 to 40": ((5, 40, 4, 4), 40, (3, 3), (1, 1), (1, 1), (1, 1)),
    "40 to 16, 5×5": ((1, 40, 4, 4), 16, (5, 5), (1, 1), (2, 2), (1, 1)),
    "to one pixel": ((100, 17, 2, 2), 24, (2, 2), (1, 1), (0, 0), (1, 1)),
    "to one pixel, padded": ((13, 5, 1, 1), 16, (3, 3), (1, 1), (1, 1), (1, 1)),
    "to one pixel, strided": ((13, 16, 3, 2), 33, (2, 2), (2, 3), (0, 0), (1, 1)),
    "wide": ((13, 16, 3, 40), 17, (3, 3), (1, 1), (1, 1), (1, 1)),
    "wide, strided": ((12, 8, 3, 40), 16, (3, 5), (2, 3), (1, 2), (1, 1)),
    "tall": ((12, 16, 40, 3), 8, (3, 2), (3, 1), (1, 0), (1, 1)),
    "everything": ((13, 17, 9, 11), 24, (2, 3), (2, 3), (2, 1), (3, 2)),
    "dilated": ((12, 8, 7, 9), 16, (3, 3), (1, 1), (2, 2), (2, 2)),
    "stride beyond the kernel": ((5, 16, 9, 9), 5, (2, 2), (4, 3), (0, 0), (1, 1)),
    "pixels that no window meets": ((13, 24, 8, 8), 8, (1, 2), (3, 3), (0, 0), (1, 1)),
    "more padding than kernel": ((5, 16, 2, 2), 16, (1, 1), (1, 1), (2, 2), (1, 1)),
    "windows that meet no pixel": ((12, 16, 3, 3), 8, (2, 2), (4, 4), (2, 2), (1, 1)),
    "many images": ((100, 8, 4, 4), 8, (2, 2), (2, 2), (0, 0), (1, 1)),
    "large kernel, weights in several chunks": ((5, 40, 5, 5), 17, (7, 7), (1, 1), (2, 2), (1, 1)),
}
GEOMETRIES["first layer, windows that meet no pixel"] = ((12, 2, 3, 3), 8, (2, 2), (4, 4), (2, 2), (1, 1))


def geometry_arrays(geometry):
    shape, filters, kernel, stride, padding, dilation = geometry
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    x, weight, bias = draw(*shape), draw(filters, shape[1], *kernel, seed=1), draw(filters, seed=2)
    dout = draw(*reference.conv2d_forward(x, weight, **options).shape, seed=3)
    return x, weight, bias, dout, options


def inputs_of(memory, x, padding):
    """x as the kernels may be given it."""
    yield memory.blocks(x)
    yield memory.blocks(x, 24 - blocked.lanes_for(x.shape[1]))
    if x.shape[1] <= 3:
        yield memory.image(x, padding)


def both(packs_and_steps):
    packs, steps = packs_and_steps
    return [*packs, *steps]


@pytest.fixture(params=GEOMETRIES.values(), ids=GEOMETRIES)
def geometry(request):
    return request.param


def test_convolution_equals_its_twin(memory, geometry):
    x, weight, bias, dout, options = geometry_arrays(geometry)
    weights = memory.weights(blocked.convolution_weights, weight)
    for at in inputs_of(memory, x, options["padding"]):
        for with_bias, relu in ((False, False), (True, False), (False, True), (True, True)):
            expected = reference.conv2d_forward(*wide(x, weight), wide(bias)[0] if with_bias else None, **options)
            expected = np.maximum(expected, 0) if relu else expected
            out = memory.blocks_of(dout.shape)
            steps = blocked.convolution(
                at, weights, memory.copy(bias) if with_bias else None, out, relu=relu, new=memory.new, **options
            )
            run(both(steps), twice=True)
            assert_close(memory.unpack(out), expected, np.float32)
            assert np.isfinite(out.flat).all()


def test_convolution_with_weights_that_are_kept(memory, geometry):
    """Of any number of images, of fewer than a block has above all, which have a way of their own."""
    x, weight, bias, _, options = geometry_arrays(geometry)
    weights = memory.weights(blocked.convolution_weights, weight)
    for n in {1, min(5, len(x)), min(11, len(x)), len(x)}:
        x_n = x[:n]
        expected = reference.conv2d_forward(*wide(x_n, weight, bias), **options)
        kinds = [*inputs_of(memory, x_n, options["padding"])]
        if n < blocked.BATCH and x.shape[1] <= 8:
            kinds.append(memory.pixels(x_n, options["padding"]))
        for at in kinds:
            for lanes in (8, 16):
                out = memory.blocks_of(expected.shape, lanes)
                bias_n = memory.copy(bias)
                packs, steps = blocked.convolution(
                    at, weights, bias_n, out, relu=True, new=memory.new, keep=True, **options
                )
                run(packs)
                run(steps, twice=True)
                assert_close(memory.unpack(out), np.maximum(expected, 0), np.float32)
                assert np.isfinite(out.flat).all()


def test_gradients_of_convolution_equal_their_twins(memory, geometry):
    x, weight, _, dout, options = geometry_arrays(geometry)
    expected_dx, expected_dweight, expected_dbias = reference.conv2d_backward(*wide(dout, x, weight), **options)
    dy = memory.blocks(dout)

    dx = memory.blocks_of(x.shape)
    weights = memory.weights(blocked.convolution_weights, weight)
    run(blocked.input_gradient(dy, weights, dx, new=memory.new, **options), twice=True)
    assert_close(memory.unpack(dx), expected_dx, np.float32)
    assert np.isfinite(dx.flat).all()

    for at in inputs_of(memory, x, options["padding"]):
        grad = memory.new(weight.size).reshape(weight.shape)
        weights = blocked.convolution_weights(grad)
        run([blocked.weight_gradient(at, dy, weights, new=memory.new, **options)], twice=True)
        assert_close(grad, expected_dweight, np.float32)

    dbias = memory.new(len(weight))
    run([blocked.channel_sums(dy, dbias=dbias)], twice=True)
    assert_close(dbias, expected_dbias, np.float32)


# (N, C, H, W), F
LINEAR = {
    "vectors": ((13, 40, 1, 1), 10),
    "few vectors": ((5, 3, 1, 1), 1),
    "whole blocks": ((12, 32, 1, 1), 32),
    "one image": ((1, 5, 2, 3), 24),
    "one image, many outputs": ((1, 40, 3, 2), 300),
    "one vector": ((1, 24, 1, 1), 90),
    "images, uneven": ((25, 17, 3, 2), 33),
    "images, whole blocks": ((100, 16, 2, 2), 16),
    "many outputs": ((13, 24, 1, 1), 300),
    "several chunks, tasks and tiles": ((50, 600, 1, 1), 300),
    "images in several chunks": ((30, 40, 3, 3), 272),
    "few inputs, summed in slots on the way back": ((30, 12, 1, 1), 1200),
    "more batch blocks than are listed at a time": ((800, 3, 1, 1), 17),
    "more batch blocks than are listed at a time, whole": ((781, 8, 1, 2), 16),
}


@pytest.mark.parametrize("joined", ["neither", "out", "both"])
@pytest.mark.parametrize("case", LINEAR.values(), ids=LINEAR)
def test_linear_is_a_convolution_with_one_output_pixel(memory, case, joined):
    """Vectors lie in blocks of twelve, or in one block of all: the output, or input and output."""
    shape, features = case
    batch = {"out": shape[0], "both": shape[0]}.get(joined, blocked.BATCH)
    x_batch = shape[0] if joined == "both" and shape[2:] == (1, 1) else blocked.BATCH
    x, weight, bias = draw(*shape), draw(int(np.prod(shape[1:])), features, seed=1), draw(features, seed=2)
    dout = draw(shape[0], features, seed=3)
    rows = x.reshape(shape[0], -1)
    at, dy = memory.blocks(x, batch=x_batch), memory.blocks(dout[:, :, None, None], batch=batch)
    weights = memory.weights(lambda array: blocked.linear_weights(array, shape[1:]), weight)

    out, dx = memory.blocks_of((shape[0], features, 1, 1), batch=batch), memory.blocks_of(shape, batch=x_batch)
    steps = blocked.convolution(at, weights, memory.copy(bias), out, relu=False, new=memory.new, **WINDOW)
    run(both(steps), twice=True)
    expected = reference.linear_forward(*wide(rows, weight, bias))
    assert_close(memory.unpack(out)[:, :, 0, 0], expected, np.float32)
    kept = memory.blocks_of((shape[0], features, 1, 1), batch=batch)
    options = {"relu": False, "new": memory.new, "keep": True}
    run(both(blocked.convolution(at, weights, memory.copy(bias), kept, **options, **WINDOW)), twice=True)
    np.testing.assert_array_equal(memory.unpack(kept), memory.unpack(out))
    run(blocked.input_gradient(dy, weights, dx, new=memory.new, **WINDOW), twice=True)
    grad = memory.new(weight.size).reshape(weight.shape)
    steps = [blocked.weight_gradient(at, dy, blocked.linear_weights(grad, shape[1:]), new=memory.new, **WINDOW)]
    run(steps, twice=True)
    expected_dx, expected_dweight, _ = reference.linear_backward(*wide(dout, rows, weight))
    assert_close(memory.unpack(dx).reshape(rows.shape), expected_dx, np.float32)
    assert_close(grad, expected_dweight, np.float32)
    assert np.isfinite(out.flat).all()
    assert np.isfinite(dx.flat).all()


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("batch", [blocked.BATCH, None], ids=["blocks of twelve", "one block"])
@pytest.mark.parametrize(
    ("shape", "features"), [((30, 40, 6, 6), 100), ((100, 600, 1, 1), 230), ((7, 16, 20, 16), 49)], ids=str
)
def test_few_outputs_are_summed_in_slots(memory, shape, features, batch, biased, relu):
    """The same bits on any number of threads."""
    x, weight = draw(*shape), draw(int(np.prod(shape[1:])), features, seed=1)
    bias = draw(features, seed=2) if biased else None
    weights = memory.weights(lambda array: blocked.linear_weights(array, shape[1:]), weight)
    start = None if bias is None else memory.copy(bias)
    outs = [memory.blocks_of((shape[0], features, 1, 1), batch=batch or shape[0]) for _ in range(3)]
    for n_threads, out in enumerate(outs, 1):
        steps = blocked.convolution(memory.blocks(x), weights, start, out, relu=relu, new=memory.new, **WINDOW)
        assert [type(step) for step in steps[1]] == [kernels.GatherPacking]
        run(both(steps), n_threads, twice=True)
        assert np.isfinite(out.flat).all()
        assert np.asarray(out.flat).tobytes() == np.asarray(outs[0].flat).tobytes()
    zeros = np.zeros(features) if bias is None else bias
    expected = reference.linear_forward(*wide(x.reshape(shape[0], -1), weight, zeros))
    assert_close(memory.unpack(outs[0])[:, :, 0, 0], np.maximum(expected, 0) if relu else expected, np.float32)


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("biased", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("shape", [(2, 784, 1000), (100, 300, 40), (13, 5, 8), (7, 1, 1), (3, 17, 20)], ids=str)
def test_linear_on_the_users_own_vectors(memory, shape, biased, relu):
    n, size, features = shape
    x, weight = draw(n, size, 1, 1), draw(size, features, seed=1)
    bias = draw(features, seed=2) if biased else None
    at = blocked.Rows(x.shape)
    weights = memory.weights(lambda array: blocked.linear_weights(array, (size, 1, 1)), weight)
    out = memory.blocks_of((n, features, 1, 1), batch=n)
    start = None if bias is None else memory.copy(bias)
    packs, steps = blocked.convolution(at, weights, start, out, relu=relu, new=memory.new, keep=True, **WINDOW)
    run(packs)
    with pytest.raises(ValueError, match="GatherFew: its Rows hold nothing yet"):
        run(steps)
    for rows in (memory.copy(x), memory.copy(x[::-1])):
        blocked.pack(rows, at)
        run(steps)
        expected = reference.linear_forward(
            *wide(rows[:, :, 0, 0], weight, np.zeros(features) if bias is None else bias)
        )
        assert_close(memory.unpack(out)[:, :, 0, 0], np.maximum(expected, 0) if relu else expected, np.float32)
    assert np.isfinite(out.flat).all()


@pytest.mark.parametrize("as_image", [False, True], ids=["blocks", "image"])
def test_nan_reaches_the_outputs_that_see_it_and_no_others(memory, as_image):
    x, weight = draw(13, 3, 6, 5), draw(17, 3, 3, 2, seed=1)
    x[4, 1, 2, 3] = x[12, 2, 5, 4] = np.nan
    options = {"stride": (1, 2), "padding": (1, 1), "dilation": (1, 1)}
    expected = reference.conv2d_forward(x, weight, **options)
    out = memory.blocks_of(expected.shape)
    at = memory.image(x, (1, 1)) if as_image else memory.blocks(x)
    weights = memory.weights(blocked.convolution_weights, weight)
    run(both(blocked.convolution(at, weights, None, out, relu=True, new=memory.new, **options)))
    assert 0 < np.isnan(expected).sum() < expected.size
    np.testing.assert_array_equal(np.isnan(memory.unpack(out)), np.isnan(expected))


# -- batch norm, relu and max-pool ----------------------------------------------------------------------------

POINT = blocked.POINT
APART = {
    "none": POINT,
    "2×2": (2, 2, 2, 2, 0, 0),
    "2×3, gaps": (2, 3, 3, 4, 0, 0),
    "1×1, stride 2": (1, 1, 2, 2, 0, 0),
}
OVERLAPPING = {
    "3×3, stride 2": (3, 3, 2, 2, 0, 0),
    "3×3, stride 2, padded": (3, 3, 2, 2, 1, 1),
    "2×2, stride 1": (2, 2, 1, 1, 0, 0),
    "2×2, padded": (2, 2, 2, 2, 1, 1),
    "4×2, stride 1×2, padded": (4, 2, 1, 2, 2, 0),
}
UNIT_SHAPES = [(1, 3, 4, 4), (5, 8, 7, 5), (12, 16, 6, 6), (13, 17, 5, 8), (25, 40, 4, 4), (100, 5, 9, 7)]


class Unit:
    """Arrays of a unit, its steps' outputs, and what the twins make of the same in float64."""

    def __init__(self, memory, x, window, *, normed, relu, gamma=None):
        self.memory, self.x, self.window, self.relu = memory, x, window, relu
        kernel, stride, padding = window[:2], window[2:4], window[4:]
        self.pool = {"kernel_size": kernel, "stride": stride, "padding": padding}
        self.pooled = window != POINT
        channels = x.shape[1]
        self.count = x.size // channels
        self.gamma = draw(channels, seed=4) if gamma is None else np.asarray(gamma, np.float32)
        self.beta = draw(channels, seed=5)
        self.at = memory.blocks(x)
        self.norm = self.index = self.picked = None
        if normed:
            whole = self.at.channel_blocks * self.at.lanes
            self.dgamma, self.dbeta = memory.new(channels), memory.new(channels)
            arrays = memory.copy(self.gamma), memory.copy(self.beta), self.dgamma, self.dbeta
            self.norm = blocked.norm(*arrays, 1e-5, channels=whole, new=memory.new)
        z = x.astype(np.float64)
        if normed:
            z, self.mean, self.var = reference.batch_norm_forward(z, *wide(self.gamma, self.beta))
        self.z = np.maximum(z, 0) if relu else z
        self.expected, self.argmax = reference.max_pool2d_forward(self.z, **self.pool)
        self.out = memory.blocks_of(self.expected.shape)
        if self.pooled:
            self.index = memory.new(self.out.size, np.uint8)
            self.picked = memory.blocks_of(self.expected.shape)

    def forward(self, n_threads=2):
        steps = [] if self.norm is None else [blocked.norm_statistics(self.at, self.norm)]
        unit = blocked.unit(
            self.at,
            self.out,
            norm=self.norm,
            relu=self.relu,
            window=self.window,
            index=self.index,
            picked=self.picked,
        )
        run([*steps, unit], n_threads, twice=True)
        return self.memory.unpack(self.out)

    def backward(self, dout, n_threads=2, *, in_place=False):
        """dx, with dgamma and dbeta set where there is a norm."""
        dy = self.memory.blocks(dout)
        dx = dy if in_place else self.memory.blocks_of(self.x.shape)
        out = self.out if self.relu else None
        steps = []
        if self.norm is not None:
            x = self.picked or self.at
            steps.append(blocked.channel_sums(dy, out=out, norm=self.norm, x=x, count=self.count))
        steps.append(
            blocked.unit_gradient(dy, dx, out=out, norm=self.norm, x=self.at, window=self.window, index=self.index)
        )
        run(steps, n_threads, twice=not in_place)
        assert np.isfinite(dx.flat).all()
        return self.memory.unpack(dx)

    def expected_backward(self, dout):
        dz = reference.max_pool2d_backward(dout.astype(np.float64), self.argmax, self.x.shape, **self.pool)
        if self.relu:
            dz *= self.z > 0
        if self.norm is None:
            return dz, None, None
        return reference.batch_norm_backward(dz, *wide(self.x, self.gamma), self.mean, self.var)


@pytest.mark.parametrize("relu", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("window", (APART | OVERLAPPING).values(), ids=APART | OVERLAPPING)
@pytest.mark.parametrize("shape", UNIT_SHAPES, ids=str)
def test_units_equal_their_twins(memory, shape, window, normed, relu):
    unit = Unit(memory, draw(*shape), window, normed=normed, relu=relu)
    assert_close(unit.forward(), unit.expected, np.float32)
    assert np.isfinite(unit.out.flat).all()
    if unit.pooled:
        rows = unit.argmax.reshape(*shape[:2], -1)
        picked = np.take_along_axis(unit.x.reshape(*shape[:2], -1), rows, axis=2).reshape(unit.expected.shape)
        seen = unit.expected > 0 if relu else np.True_
        np.testing.assert_array_equal(
            np.where(seen, unit.memory.unpack(unit.picked), 0), np.where(seen, picked, 0)
        )
    if normed and window in OVERLAPPING.values():
        with pytest.raises(ValueError, match="overlapping windows and a norm are separate units"):
            unit.backward(unit.expected.astype(np.float32))
        return
    dout = draw(*unit.expected.shape, seed=6)
    actual = unit.backward(dout)
    dx, dgamma, dbeta = unit.expected_backward(dout)
    assert_close(actual, dx, np.float32)
    if normed:
        assert_close(unit.dgamma, dgamma, np.float32)
        assert_close(unit.dbeta, dbeta, np.float32)
    if window == POINT:
        np.testing.assert_array_equal(unit.backward(dout, in_place=True), actual)


@pytest.mark.parametrize("normed", [False, True], ids=["plain", "norm"])
@pytest.mark.parametrize("window", APART.values(), ids=APART)
@pytest.mark.parametrize("shape", [(25, 17, 6, 7), (7, 8, 5, 4)], ids=str)
def test_what_only_a_first_layers_gradient_reads_is_not_kept(memory, shape, window, normed):
    """The gradient is the same to rounding, as its sums are cut otherwise; the array between stays untouched."""
    unit = Unit(memory, draw(*shape), window, normed=normed, relu=True)
    unit.forward()
    dy = memory.blocks(draw(*unit.expected.shape, seed=6))
    n, channels, height, width = shape
    x = memory.image(draw(n, 2, height, width, seed=7), (1, 1))
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    if normed:
        run([blocked.channel_sums(dy, out=unit.out, norm=unit.norm, x=unit.picked or unit.at, count=unit.count)])
    results = []
    for join in (list, blocked.joined):
        dx = memory.blocks_of(shape)
        untouched = np.array(dx.flat)
        grad = memory.new(channels * 2 * 9).reshape(channels, 2, 3, 3)
        back = {"out": unit.out, "norm": unit.norm, "x": unit.at, "window": window, "index": unit.index}
        steps = join([
            blocked.unit_gradient(dy, dx, **back),
            blocked.weight_gradient(x, dx, blocked.convolution_weights(grad), new=memory.new, **options),
        ])  # fmt: skip
        run(steps, twice=True)
        results.append((len(steps), np.array_equal(dx.flat, untouched, equal_nan=True), grad))
    (apart, apart_kept_none, expected), (together, together_kept_none, actual) = results
    assert (apart, apart_kept_none, together, together_kept_none) == (2, False, 1, True)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("window", APART.values(), ids=APART)
@pytest.mark.parametrize(("shape", "filters"), [((25, 2, 6, 7), 33), ((7, 8, 5, 4), 8)], ids=str)
def test_what_only_a_unit_reads_of_a_product_is_not_kept(memory, shape, filters, window):
    """The same bits, index and all; the array between stays untouched where it is said to pass."""
    x = memory.image(draw(*shape), (1, 1)) if shape[1] == 2 else memory.blocks(draw(*shape))
    weights = memory.weights(blocked.convolution_weights, draw(filters, shape[1], 3, 3, seed=1))
    options = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    pool = {"kernel_size": window[:2], "stride": window[2:4], "padding": window[4:]}
    pooled = reference.max_pool2d_forward(np.zeros((shape[0], filters, *shape[2:])), **pool)[0].shape
    results = []
    for joined, passes in ((False, False), (True, False), (True, True)):
        between, out = memory.blocks_of((shape[0], filters, *shape[2:])), memory.blocks_of(pooled)
        picked, index = memory.blocks_of(pooled), memory.new(out.size, np.uint8)
        untouched = np.array(between.flat)
        packs, steps = blocked.convolution(x, weights, None, between, relu=False, new=memory.new, **options)
        steps.append(blocked.unit(between, out, norm=None, relu=True, window=window, index=index, picked=picked))
        if joined:
            steps = blocked.joined(steps, [between] if passes else ())
        run(packs)
        run(steps, twice=True)
        assert np.array_equal(between.flat, untouched, equal_nan=True) is passes
        assert np.isfinite(out.flat).all()
        assert len(steps) == (1 if joined else 2)
        results.append([np.asarray(array).tobytes() for array in (out.flat, picked.flat, index)])
    assert results == [results[0]] * 3


@pytest.mark.parametrize("window", [POINT, (2, 2, 2, 2, 0, 0)], ids=["point", "pool"])
@pytest.mark.parametrize("gamma", [0.0, -1.5], ids=["zero", "negative"])
def test_scales_that_turn_maxima_round_or_make_all_equal(memory, window, gamma):
    unit = Unit(memory, draw(13, 17, 5, 6), window, normed=True, relu=True, gamma=np.full(17, gamma))
    assert_close(unit.forward(), unit.expected, np.float32)
    dout = draw(*unit.expected.shape, seed=6)
    actual = unit.backward(dout)
    dx, dgamma, dbeta = unit.expected_backward(dout)
    assert_close(actual, dx, np.float32)
    assert_close(unit.dgamma, dgamma, np.float32)
    assert_close(unit.dbeta, dbeta, np.float32)


@pytest.mark.parametrize("shape", [(64, 3, 8, 8), (500, 40, 1, 1)], ids=str)
def test_large_means_cost_no_accuracy(memory, shape):
    """As much as those of `batch_norm_forward`, which the layers use one by one."""
    x = (1e4 + np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    unit = Unit(memory, x, POINT, normed=True, relu=False, gamma=np.ones(shape[1]))
    out = unit.forward()
    np.testing.assert_allclose(out, unit.expected, rtol=0, atol=5e-6)
    np.testing.assert_allclose(unit.forward(), out, rtol=0, atol=0)
    running_mean, running_var = np.zeros(shape[1], np.float32), np.zeros(shape[1], np.float32)
    unit.norm.update(running_mean, running_var, 1.0, unit.count)
    np.testing.assert_allclose(running_mean, unit.mean, rtol=1e-7)
    np.testing.assert_allclose(running_var, unit.var * unit.count / (unit.count - 1), rtol=1e-6)
    dout = draw(*shape, seed=6) + 1  # Σ dout is large, and with it what an error of the mean would cost
    dx, dgamma, _ = unit.expected_backward(dout)
    assert_close(unit.backward(dout), dx, np.float32)
    assert_close(unit.dgamma, dgamma, np.float32)


def test_running_statistics_move_by_the_momentum(memory):
    unit = Unit(memory, 2 + 3 * draw(13, 17, 3, 4), POINT, normed=True, relu=False)
    unit.forward()
    mean, var = draw(17, seed=7), np.square(draw(17, seed=8))
    new_mean, new_var = mean.copy(), var.copy()
    unit.norm.update(new_mean, new_var, 0.3, unit.count)
    assert_close(new_mean, 0.7 * mean + 0.3 * unit.mean, np.float32)
    assert_close(new_var, 0.7 * var + 0.3 * unit.var * unit.count / (unit.count - 1), np.float32)


def test_norm_uses_given_statistics(memory):
    unit = Unit(memory, draw(13, 17, 3, 4), POINT, normed=True, relu=False)
    mean, var = draw(17, seed=7), np.square(draw(17, seed=8))
    unit.norm.use(mean, var)
    run([blocked.unit(unit.at, unit.out, norm=unit.norm, relu=False, window=POINT, index=None, picked=None)])
    expected = reference.batch_norm_inference(*wide(unit.x, unit.gamma, unit.beta, mean, var))
    assert_close(unit.memory.unpack(unit.out), expected, np.float32)
    assert np.isfinite(unit.out.flat).all()


@pytest.mark.parametrize("window", [POINT, (2, 2, 2, 2, 0, 0), (3, 3, 2, 2, 1, 1)], ids=["point", "2×2", "3×3"])
def test_nan_is_not_lost_in_relu_and_pool(memory, window):
    x = draw(13, 9, 6, 6)
    x[0, 0, 0, 0] = x[4, 8, 3, 2] = x[12, 3, 5, 5] = np.nan
    unit = Unit(memory, x, window, normed=False, relu=True)
    out = unit.forward()
    assert np.isnan(unit.expected).any()
    np.testing.assert_array_equal(np.isnan(out), np.isnan(unit.expected))


def test_nan_stays_in_its_channel_of_a_norm(memory):
    x = draw(13, 9, 3, 3)
    x[4, 2, 1, 1] = np.nan
    out = Unit(memory, x, POINT, normed=True, relu=True).forward()
    np.testing.assert_array_equal(np.isnan(out).all(axis=(0, 2, 3)), np.arange(9) == 2)
    np.testing.assert_array_equal(np.isnan(out).any(axis=(0, 2, 3)), np.arange(9) == 2)


@pytest.mark.parametrize("shape", [(13, 17, 3, 2), (5, 8, 1, 1)], ids=str)
def test_bias_gradient_behind_a_relu(memory, shape):
    out, dout, dbias = draw(*shape), draw(*shape, seed=1), memory.new(shape[1])
    step = blocked.channel_sums(memory.blocks(dout), out=memory.blocks(out), dbias=dbias)
    run([step], twice=True)
    assert_close(dbias, np.where(out > 0, dout, 0).sum(axis=(0, 2, 3), dtype=np.float64), np.float32)


# -- element by element ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu"])
def test_activations_equal_their_twins(memory, function):
    x, dout = 3 * draw(13, 17, 3, 2), draw(13, 17, 3, 2, seed=1)
    x[3, 4, 1, 1] = np.nan
    slope = {"negative_slope": 0.1} if function == "leaky_relu" else {}
    out = memory.blocks_of(x.shape)
    run([blocked.activation(function, memory.blocks(x), out, *slope.values())], twice=True)
    actual = memory.unpack(out)
    assert np.isnan(actual[3, 4, 1, 1])
    assert np.isfinite(actual).sum() == actual.size - 1
    known = np.nan_to_num(x)
    expected = getattr(reference, f"{function}_forward")(*wide(known), **slope)
    actual[3, 4, 1, 1] = expected[3, 4, 1, 1]
    assert_close(actual, expected, np.float32)

    dx, in_place = memory.blocks_of(x.shape), memory.blocks(dout)
    run([blocked.activation_gradient(function, in_place, memory.blocks(known), dx, *slope.values())], twice=True)
    expected = getattr(reference, f"{function}_backward")(*wide(dout, known), **slope)
    assert_close(memory.unpack(dx), expected, np.float32)
    assert np.isfinite(dx.flat).all()
    run([blocked.activation_gradient(function, in_place, memory.blocks(known), in_place, *slope.values())])
    np.testing.assert_array_equal(memory.unpack(in_place), memory.unpack(dx))


@pytest.mark.parametrize("product", [False, True])
@pytest.mark.parametrize("shape", [(13, 17, 3, 2), (100, 8, 9, 7)], ids=str)
def test_sum_and_product(memory, shape, product):
    x, y = draw(*shape), draw(*shape, seed=1)
    x_at, y_at, out = memory.blocks(x), memory.blocks(y), memory.blocks_of(shape)
    run([blocked.combine(x_at, y_at, out, product=product)], twice=True)
    expected = x * y if product else x + y
    np.testing.assert_array_equal(memory.unpack(out), expected)
    assert np.isfinite(out.flat).all()
    run([blocked.combine(x_at, y_at, x_at, product=product)])
    np.testing.assert_array_equal(memory.unpack(x_at), expected)


# -- threads --------------------------------------------------------------------------------------------------


def many_steps(memory, n_threads):
    """The bytes that every kind of step makes of arrays large enough for several tasks."""
    x, weight, bias = draw(100, 17, 12, 14), draw(40, 17, 3, 2, seed=1), draw(40, seed=2)
    options = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 1)}
    at, image = memory.blocks(x), memory.image(draw(100, 1, 12, 14), (1, 1))
    weights, first = (memory.weights(blocked.convolution_weights, w) for w in (weight, draw(40, 1, 3, 2, seed=3)))
    shape = reference.conv2d_forward(x[:1], weight, **options).shape
    dout = memory.blocks(draw(100, *shape[1:], seed=4))
    results = {}

    def blocks(name, shape):
        results[name] = memory.blocks_of(shape)
        return results[name]

    def array(name, *shape):
        results[name] = memory.new(int(np.prod(shape))).reshape(shape)
        return results[name]

    new = memory.new
    gradients = [(at, weight.shape, "blocks"), (image, (40, 1, 3, 2), "image")]
    for x_at, w, name in ((at, weights, "blocks"), (image, first, "image")):
        out = blocks(f"convolution of {name}", dout.shape)
        run(both(blocked.convolution(x_at, w, memory.copy(bias), out, relu=True, new=new, **options)), n_threads)
    few, few_pixels = draw(5, 17, 40, 30), memory.pixels(draw(5, 1, 40, 60), (1, 1))
    for x_at, w, name in ((memory.blocks(few), weights, "few"), (few_pixels, first, "pixels")):
        shape = reference.conv2d_forward(np.zeros(x_at.shape), np.zeros(w.shape), **options).shape
        out = blocks(f"convolution of {name}", shape)
        steps = blocked.convolution(x_at, w, memory.copy(bias), out, relu=True, new=new, keep=True, **options)
        run(both(steps), n_threads)
    run(blocked.input_gradient(dout, weights, blocks("dx", x.shape), new=new, **options), n_threads)
    for x_at, shape, name in gradients:
        grad = blocked.convolution_weights(array(f"dweight of {name}", *shape))
        run([blocked.weight_gradient(x_at, dout, grad, new=new, **options)], n_threads)
    run([blocked.channel_sums(dout, dbias=array("dbias", 40))], n_threads)

    linear = memory.weights(lambda a: blocked.linear_weights(a, x.shape[1:]), draw(x[0].size, 300, seed=5))
    scores, dscores = blocks("linear", (100, 300, 1, 1)), memory.blocks(draw(100, 300, 1, 1, seed=6))
    run(both(blocked.convolution(at, linear, None, scores, relu=False, new=new, **WINDOW)), n_threads)
    run(blocked.input_gradient(dscores, linear, blocks("dx of linear", x.shape), new=new, **WINDOW), n_threads)
    grad = blocked.linear_weights(array("dweight of linear", x[0].size, 300), x.shape[1:])
    run([blocked.weight_gradient(at, dscores, grad, new=new, **WINDOW)], n_threads)

    for name, window, normed in (
        ("norm", POINT, True),
        ("pool", (2, 2, 2, 2, 0, 0), True),
        ("overlap", (3, 3, 2, 2, 1, 1), False),
    ):
        unit = Unit(memory, x, window, normed=normed, relu=True)
        results[f"{name} forward"] = unit.forward(n_threads)
        results[f"{name} backward"] = unit.backward(draw(*unit.expected.shape, seed=7), n_threads)
        if normed:
            results |= {f"{name} dgamma": unit.dgamma, f"{name} dbeta": unit.dbeta}
    run([blocked.activation("gelu", at, blocks("activation", x.shape))], n_threads)
    run([blocked.activation_gradient("gelu", at, at, blocks("dx of activation", x.shape))], n_threads)
    run([blocked.combine(at, at, blocks("sum", x.shape), product=False)], n_threads)
    return {
        name: np.asarray(made.flat if isinstance(made, blocked.Blocks) else made).tobytes()
        for name, made in results.items()
    }


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="this build has no OpenMP")
def test_same_bits_on_any_number_of_threads(memory):
    expected = many_steps(memory, 1)
    for n_threads in (2, 3):
        actual = many_steps(memory, n_threads)
        assert [name for name in expected if actual[name] != expected[name]] == [], f"{n_threads} threads"


# -- refusals -------------------------------------------------------------------------------------------------


def floats(count):
    return np.zeros(count, np.float32)


def of(*shape, lanes=None):
    """Blocks of zeros."""
    lanes = lanes or blocked.lanes_for(shape[1])
    return blocked.Blocks(floats(blocked.blocks_size(shape, lanes)), shape, lanes)


def image(shape, padding):
    return blocked.Image(floats(blocked.image_size(shape, padding)), shape, padding)


def weights(*shape):
    return blocked.convolution_weights(np.zeros(shape, np.float32))


def norm_of(channels, whole):
    return blocked.norm(*(floats(channels) for _ in range(4)), 1e-5, channels=whole, new=floats)


def convolution(x, weight, out, *, bias=None, **window):
    return both(blocked.convolution(x, weight, bias, out, relu=False, new=floats, **(WINDOW | window)))


def input_gradient(dout, weight, dx, **window):
    return blocked.input_gradient(dout, weight, dx, new=floats, **(WINDOW | window))


def weight_gradient(x, dout, grad, **window):
    return blocked.weight_gradient(x, dout, grad, new=floats, **(WINDOW | window))


def unit(x, out, *, norm=None, window=POINT, index=None, picked=None):
    return blocked.unit(x, out, norm=norm, relu=True, window=window, index=index, picked=picked)


def unit_gradient(dout, dx, *, out=None, norm=None, x=None, window=POINT, index=None):
    return blocked.unit_gradient(dout, dx, out=out, norm=norm, x=x, window=window, index=index)


def places(terms=((0, 0, 0),), first=(0, 1), rows=(0,), row_first=(0,), columns=(0,), column_first=(0,)):
    array = [np.array(each, np.intp) for each in (first, rows, row_first, columns, column_first)]
    return kernels.Terms(np.array(terms, np.intp), *array)


def packing(size=64, filters=8, channels=8, lanes=8, in_lanes=8):
    memory = None if size is None else floats(size)  # None: for products that pack what they use
    return kernels.PackWeights(weights(filters, channels, 1, 1), memory, lanes, in_lanes, False)


def gather(terms, x=None, *, bias=None, packed=None, chunks=1, per_task=(1, 1, 1)):
    """Of 1 × 8 × 2 × 2 values."""
    x, packed = of(1, 8, 2, 2) if x is None else x, packed or packing()
    return kernels.Gather(x, packed, bias, of(1, 8, 1, 1), terms, False, chunks, per_task)


def gather_packing(
    terms=None, *, x=(1, 8, 2, 2), bias=None, packed=None, out=(1, 8, 1, 1), width=1, per_task=(1, 1), slots=1
):
    packed = packing(None) if packed is None else packed
    return kernels.GatherPacking(
        of(*x),
        packed,
        bias,
        of(*out),
        terms or places(terms=((0, 0, 8),)),
        False,
        1,
        width,
        per_task,
        slots,
        floats,
    )


def gather_few(
    terms=((0, 0, 8),), rows=(0, 8), *, x=16, pixel=8, packed=None, out=(2, 8, 1, 1), bias=None, chunks=1, per=6
):
    rows, table = np.array(rows, np.intp), np.array(terms, np.intp)
    packed = packed or packing()
    return kernels.GatherFew(
        x if isinstance(x, blocked.Rows) else floats(x),
        pixel,
        rows,
        packed,
        bias,
        of(*out),
        table,
        False,
        chunks,
        per,
    )


def gather_one(*, x=(1, 8, 1, 1), packed=None, out=(1, 8, 1, 1), bias=None):
    return kernels.GatherOne(of(*x), packed or packing(), bias, of(*out), False)


def outer(x=None, *, window=((1, 1), (0, 0), (1, 1)), slots=1, memory=9999, dy=(1, 8, 2, 2), grad=(8, 8, 3, 3)):
    x = of(1, 8, 4, 4) if x is None else x
    memory = None if memory is None else floats(memory)
    return kernels.Outer(x, of(*dy), weights(*grad), *window, slots, memory)


def batches_of(batch, n, channels):
    """Blocks of vectors, `batch` images each."""
    shape = (n, channels, 1, 1)
    return blocked.Blocks(floats(blocked.blocks_size(shape, 8)), shape, 8, batch)


def again(step, *arguments):
    """A step that is made once more, of what does not belong together."""
    with pytest.raises(ValueError, match="do not belong together"):
        step.__init__(*arguments)
    step(1)


def scratchless():
    """A step whose scratch memory is smaller than it asked for."""
    at, out = of(24, 16, 8, 8), of(24, 16, 8, 8)
    packed = kernels.TransformWeights(weights(16, 16, 3, 3), floats(kernels.transformed_size(256)), 16, 16, False)
    kernels.Winograd(at, packed, None, out, (-1, -1), False, 4, 4, lambda count: floats(count - 1))(1)


STEPS = [kind for kind in vars(kernels).values() if isinstance(kind, type) and issubclass(kind, kernels.Step)]
UINT8 = np.zeros(9999, np.uint8)
EACH = places(((0, 0, 8),), rows=(0, 0), row_first=(0, 1), columns=(0, 0), column_first=(0, 1))
PAIRS = (2, 2, 2, 2, 0, 0)
REFUSALS = {
    "Blocks": [
        lambda: blocked.Blocks(floats(63), (1, 1, 2, 4), 8),
        *(lambda lanes=lanes: blocked.Blocks(floats(99), (1, 1, 1, 1), lanes) for lanes in (0, -8, 1, 12, 32)),
        *(
            lambda shape=shape: blocked.Blocks(floats(99), shape, 8)
            for shape in [
                (0, 1, 1, 1), (-1, -1, 1, 1), (1, 1, 1), (1, 1, 1, 1, 1), (2**61, 8, 1, 1), (2**32, 8, 2**32, 1),
                (1, 8, 2**31, 2**31), (2**40, 2**40, 1, 1),
            ]
        ),
        lambda: blocked.pack(np.zeros((2, 1, 1, 1), np.float32), of(1, 1, 1, 1)),
        lambda: blocked.unpack(of(1, 1, 1, 1), np.zeros((1, 1, 1, 2), np.float32)),
        lambda: blocked.pack(np.zeros((1, 1, 1, 1)), of(1, 1, 1, 1)),
    ],
    "Image": [
        lambda: blocked.Image(floats(47), (1, 1, 2, 2), (0, 0)),
        *(
            lambda pad=pad: blocked.Image(floats(99), (1, 1, 2, 2), pad)
            for pad in [(-2, -2), (-1, 0), (2**61,) * 2, (0,)]
        ),
        *(
            lambda shape=shape: blocked.Image(floats(99), shape, (0, 0))
            for shape in [(2**62, 1, 4, 4), (1, -1, 2, -2)]
        ),
        lambda: blocked.pack(np.zeros((1, 1, 4, 4), np.float32), image((1, 1, 2, 2), (1, 1))),
    ],
    "Weights": [
        lambda: blocked.Weights(floats(10), (1, 1, 2, 6), (1, 1, 1, 2)),
        lambda: blocked.Weights(floats(10), (2, 2, 2, 2), (2**62,) * 4),
        lambda: blocked.Weights(floats(10), (2**40, 1, 1, 1), (0, 1, 1, 1)),
        lambda: blocked.Weights(floats(10), (1, 1, 1, 1), (1, 1, 1, -1)),
        lambda: blocked.Weights(floats(10), (-1, -1, 1, 1), (1, 1, 1, 1)),
        lambda: blocked.Weights(floats(10), (1, 1, 1), (1, 1, 1)),
        lambda: blocked.Weights(floats(10), (2, 2, 2, 2), (1, 1, 1)),
        *(
            lambda size=size, out=out, inner=inner: packing(size, lanes=out, in_lanes=inner)
            for size, out, inner in [(63, 8, 8), (64, 0, 8), (64, 8, 0), (64, -8, -8), (64, 8, 16), (64, 12, 8)]
        ),
    ],
    "convolution": [
        lambda: convolution(of(1, 8, 4, 4), weights(8, 8, 3, 3), of(2, 8, 2, 2)),
        lambda: convolution(of(1, 16, 4, 4), weights(8, 8, 3, 3), of(1, 8, 2, 2)),
        lambda: convolution(of(1, 8, 4, 4), weights(8, 24, 3, 3), of(1, 8, 2, 2)),
        lambda: convolution(of(1, 8, 4, 4), weights(24, 8, 3, 3), of(1, 8, 2, 2)),
        lambda: convolution(of(1, 8, 4, 4), weights(8, 8, 3, 3), of(1, 24, 2, 2)),
        lambda: convolution(of(1, 8, 4, 4), weights(8, 8, 3, 3), of(1, 8, 3, 2)),
        lambda: convolution(of(1, 8, 4, 4), weights(8, 8, 3, 3), of(1, 8, 2, 2), bias=floats(3)),
        lambda: convolution(of(1, 8, 4, 4), weights(5, 8, 3, 3), of(1, 5, 2, 2), bias=floats(3)),
        *(
            lambda window=window: convolution(of(1, 8, 4, 4), weights(8, 8, 3, 3), of(1, 8, 2, 2), **window)
            for window in [{"stride": (0, 1)}, {"stride": (-1, -1)}, {"padding": (-1, 0)}, {"dilation": (0, 0)}]
        ),
        lambda: convolution(image((1, 1, 4, 4), (0, 0)), weights(8, 1, 3, 3), of(1, 8, 4, 4)),
        lambda: convolution(image((1, 1, 4, 4), (1, 1)), weights(8, 1, 3, 3), of(1, 8, 2, 2)),
        lambda: convolution(image((1, 1, 4, 4), (0, 0)), weights(8, 1, 3, 3), of(1, 8, 4, 4), padding=(1, 1)),
        lambda: convolution(image((1, 2, 4, 4), (0, 0)), weights(8, 1, 3, 3), of(1, 8, 2, 2)),
        lambda: convolution(image((1, 1, 4, 4), (0, 0)), weights(8, 1, 3, 3), of(13, 8, 2, 2)),
        lambda: input_gradient(of(1, 8, 2, 2), weights(8, 8, 3, 3), of(2, 8, 4, 4)),
        lambda: input_gradient(of(1, 8, 2, 2), weights(24, 8, 3, 3), of(1, 8, 4, 4)),
        lambda: input_gradient(of(1, 8, 2, 2), weights(8, 24, 3, 3), of(1, 8, 4, 4)),
        lambda: input_gradient(of(1, 8, 3, 2), weights(8, 8, 3, 3), of(1, 8, 4, 4)),
        lambda: weight_gradient(of(1, 8, 4, 4), of(2, 8, 2, 2), weights(8, 8, 3, 3)),
        lambda: weight_gradient(of(1, 8, 4, 4), of(1, 8, 2, 2), weights(8, 24, 3, 3)),
        lambda: weight_gradient(of(1, 8, 4, 4), of(1, 8, 9, 9), weights(8, 8, 3, 3)),
        lambda: weight_gradient(image((1, 1, 4, 4), (0, 0)), of(1, 8, 9, 9), weights(8, 1, 3, 3)),
        lambda: weight_gradient(image((1, 1, 4, 4), (0, 0)), of(1, 8, 4, 4), weights(8, 1, 3, 3), padding=(1, 1)),
        lambda: weight_gradient(of(1, 8, 4, 4), of(1, 8, 2, 2), weights(8, 8, 3, 3), stride=(0, 0)),
    ],
    "Terms": [
        lambda: places(terms=((0, 0),)),
        lambda: places(first=()),
        lambda: places(first=(0, 9)),
        lambda: places(first=(1, 0)),
        lambda: places(first=(-1, 1)),
        lambda: places(rows=(7,)),
        lambda: places(rows=(-1,)),
        lambda: places(columns=(3,)),
        lambda: places(row_first=(0, 0)),
        lambda: places(column_first=()),
    ],
    "batches in other blocks": [
        # A group of images would lie in two blocks, or read beyond an Image.
        lambda: convolution(of(36, 8, 1, 1), weights(8, 8, 1, 1), batches_of(25, 36, 8)),
        lambda: convolution(batches_of(5, 13, 8), weights(8, 8, 1, 1), of(13, 8, 1, 1)),
        lambda: convolution(image((13, 1, 2, 2), (0, 0)), weights(8, 1, 2, 2), batches_of(5, 13, 8)),
        lambda: weight_gradient(batches_of(5, 13, 8), of(13, 8, 1, 1), weights(8, 8, 1, 1)),
        lambda: kernels.Pieces(of(2, 8, 4, 4), 5),
        lambda: kernels.Pieces(of(2, 8, 4, 4), 0),
    ],
    "steps": [
        *(lambda kind=kind: kind.__new__(kind)(1) for kind in STEPS),
        *(lambda n=n: unit(of(2, 8, 4, 4), of(2, 8, 4, 4))(n) for n in (0, -1, 257, 2**31 - 1)),
        *(lambda n=n: kernels.pack_blocks(floats(1).reshape(1, 1, 1, 1), of(1, 1, 1, 1), n) for n in (0, 257)),
        lambda: again(
            unit(of(2, 8, 4, 4), of(2, 8, 4, 4)), of(2, 8, 4, 4), of(2, 8, 3, 4), None, True, POINT, None, None
        ),
        lambda: scratchless(),
        lambda: kernels.conv2d_forward(
            np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 3, 3)), None, np.zeros((1, 1, 3, 2)), (1, 1), (0, 0), (1, 1),
            1, 2, 2, np.zeros(99999), 1,
        ),
        lambda: kernels.linear_forward(
            np.zeros((2, 3)), np.zeros((4, 2)), None, np.zeros((2, 2)), np.zeros(99999), 1
        ),
        lambda: kernels.activation_forward(0, np.zeros(5), np.zeros(4), 0.0, 1),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 4, 4), window=(2**31 - 1, 2**31 - 1, 1, 1, 2**30, 2**30)),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 4, 4), window=(2**400,) * 6),
        lambda: outer(window=((1, 1), (2**62, 2**62), (1, 1))),
        lambda: outer(slots=2**62),
    ],
    "Gather": [
        *(
            lambda terms=terms: gather(places(terms=(terms,)))
            for terms in [(4, 0, 8), (-1, 0, 8), (0, 8, 8), (0, -1, 8), (0, 0, 9), (0, 0, -1)]
        ),
        lambda: gather(places(terms=((3, 0, 8),), row_first=(1,))),
        lambda: gather(places(terms=((0, 0, 8),), column_first=(-1,))),
        lambda: gather(places(rows=(0, 0), row_first=(0, 0))),
        *(
            lambda term=term, size=size: gather(
                places(terms=(term,)), image((1, 1, *size), (0, 0)), packed=packing(99, 8, 3, in_lanes=3)
            )
            for term, size in [((0, 0, 3), (1, 2)), ((1, 0, 2), (2, 1))]
        ),
        lambda: gather(places(), of(2, 8, 2, 2)),
        lambda: gather(places(), chunks=0),
        lambda: gather(places(), per_task=(0, 1, 1)),
        lambda: gather(places(), packed=packing(128, lanes=16)),
        lambda: gather(places(), packed=packing(0, 0)),
        lambda: gather(places(), bias=floats(7)),
        lambda: gather(places(), packed=packing(None)),
    ],
    "GatherPacking": [
        lambda: gather_packing(packed=packing()),
        lambda: gather_packing(packed=packing(None, lanes=16)),
        lambda: gather_packing(EACH, out=(1, 8, 2, 2)),
        lambda: gather_packing(places(terms=((4, 0, 8),))),
        lambda: gather_packing(places(terms=((0, 8, 8),))),
        lambda: gather_packing(places(terms=((0, 0, 9),))),
        lambda: gather_packing(x=(2, 8, 2, 2)),
        lambda: gather_packing(bias=floats(7)),
        lambda: gather_packing(out=(1, 16, 1, 1)),
        lambda: gather_packing(width=0),
        lambda: gather_packing(per_task=(0, 1)),
        lambda: gather_packing(per_task=(1, 0)),
        lambda: gather_packing(slots=0),
        lambda: gather_packing(slots=2),
    ],
    "GatherOne": [
        lambda: gather_one(x=(2, 8, 1, 1)),
        lambda: gather_one(x=(1, 8, 2, 1)),
        lambda: gather_one(x=(1, 16, 1, 1)),
        lambda: gather_one(out=(1, 8, 1, 2)),
        lambda: gather_one(out=(1, 16, 1, 1)),
        lambda: gather_one(out=(1, 24, 1, 1)),
        lambda: gather_one(packed=packing(None)),
        lambda: gather_one(packed=packing(128, lanes=16)),
        lambda: gather_one(bias=floats(7)),
    ],
    "Pixels": [
        lambda: blocked.Pixels(floats(3), (1, 1, 2, 2), (0, 0)),
        *(lambda pad=pad: blocked.Pixels(floats(99), (1, 1, 2, 2), pad) for pad in [(-2, -2), (2**61,) * 2, (0,)]),
        lambda: blocked.Pixels(floats(99), (2**62, 1, 4, 4), (0, 0)),
        lambda: blocked.pack(np.zeros((1, 1, 4, 4), np.float32), blocked.Pixels(floats(99), (1, 1, 2, 2), (1, 1))),
        lambda: convolution(blocked.Pixels(floats(99), (1, 1, 4, 4), (0, 0)), weights(8, 1, 3, 3), of(1, 8, 4, 4)),
        lambda: convolution(blocked.Pixels(floats(99), (1, 1, 4, 4), (1, 1)), weights(8, 1, 3, 3), of(1, 8, 2, 2)),
    ],
    "Rows": [
        *(lambda shape=shape: blocked.Rows(shape) for shape in [(0, 3, 1, 1), (3, 0, 1, 1), (3, 4), (3, 4, 2, 1)]),
        lambda: blocked.pack(np.zeros((2, 4, 1, 1), np.float32), blocked.Rows((3, 4, 1, 1))),
        lambda: blocked.pack(np.zeros((3, 4, 1, 1)), blocked.Rows((3, 4, 1, 1))),
        lambda: convolution(blocked.Rows((3, 4, 1, 1)), weights(8, 5, 1, 1), of(3, 8, 1, 1)),
        lambda: gather_few(x=blocked.Rows((2, 7, 1, 1)), pixel=1, rows=(0, 7)),
    ],
    "Pad": [
        lambda: kernels.Pad(of(1, 8, 2, 2), floats(127), (1, 1)),
        lambda: kernels.Pad(of(13, 8, 2, 2), floats(9999), (1, 1)),
        lambda: kernels.Pad(of(1, 8, 2, 2), floats(9999), (-1, -1)),
        lambda: kernels.Pad(of(1, 8, 2, 2), floats(9999), (2**62, 2**62)),
    ],
    "GatherFew": [
        *(
            lambda terms=terms: gather_few((terms,))
            for terms in [(1, 0, 8), (-1, 0, 8), (0, 1, 8), (0, -1, 8), (0, 0, 9), (0, 0, -1), (0, 0)]
        ),
        lambda: gather_few(rows=(0, 9)),
        lambda: gather_few(rows=(-1, 8)),
        lambda: gather_few(rows=(0,)),
        lambda: gather_few(x=15),
        lambda: gather_few(out=(2, 16, 1, 1)),
        lambda: gather_few(out=(2, 40, 1, 1)),
        lambda: gather_few(out=(13, 8, 1, 1), rows=(0,) * 13),
        lambda: gather_few(bias=floats(7)),
        lambda: gather_few(packed=packing(None)),
        lambda: gather_few(chunks=0),
        lambda: gather_few(per=0),
        lambda: gather_few(pixel=-8),
    ],
    "Outer": [
        lambda: outer(memory=None),
        lambda: outer(memory=None, dy=(1, 8, 1, 1), grad=(8, 8, 5, 5)),
        lambda: outer(image((1, 1, 4, 4), (0, 0)), memory=None, dy=(1, 8, 1, 1), grad=(8, 1, 4, 4)),
        lambda: outer(slots=0),
        lambda: outer(slots=-3),
        lambda: outer(slots=20),
        *(
            lambda window=window: outer(window=window)
            for window in [
                ((0, 1), (0, 0), (1, 1)), ((-1, 1), (0, 0), (1, 1)), ((1, 1), (-9, 0), (1, 1)),
                ((1, 1), (0, 0), (1, -5)),
            ]
        ),
    ],
    "Norm": [
        *(
            lambda rows=rows, sizes=sizes: kernels.Norm(np.zeros((rows, 8), np.float32), *map(floats, sizes), 1e-5)
            for rows, sizes in [
                (3, [8] * 4), (8, [16] * 4), (8, [8, 4, 8, 8]), (8, [8, 8, 4, 8]), (8, [8, 8, 8, 4]),
            ]
        ),
        lambda: kernels.Norm(np.zeros((8, 8), np.float32), *map(floats, [0] * 4), 1e-5),
        lambda: norm_of(8, 8).update(floats(4), floats(8), 0.1, 9.0),
        lambda: norm_of(8, 8).update(floats(8), floats(4), 0.1, 9.0),
        lambda: norm_of(8, 8).use(floats(4), floats(8)),
        lambda: norm_of(8, 8).use(floats(8), floats(9)),
        lambda: blocked.norm_statistics(of(2, 40, 4, 4), norm_of(40, 40)),
        lambda: blocked.norm_statistics(of(2, 40, 4, 4), norm_of(16, 16)),
        lambda: blocked.norm_statistics(of(2, 40, 4, 4), norm_of(8, 48)),
    ],
    "Unit": [
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 4, 4), norm=norm_of(4, 8)),
        lambda: unit(of(2, 16, 4, 4), of(2, 16, 4, 4), norm=norm_of(8, 8)),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 5, 4)),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 3, 4)),
        lambda: unit(of(2, 8, 4, 4), of(3, 8, 4, 4)),
        lambda: unit(of(2, 40, 4, 4), of(2, 40, 4, 4, lanes=8)),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 4, 4), window=PAIRS),
        *(
            lambda window=window: unit(of(2, 8, 4, 4), of(2, 8, 2, 2), window=window)
            for window in [
                (2, 2, 0, 0, 0, 0), (0, 0, 2, 2, 0, 0), (-2, -2, 2, 2, 0, 0), (2, 2, 2, 2, -1, -1),
                (2**31 - 1,) * 6, (2, 2, 2, 2),
            ]
        ),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 4, 4), window=(2, 2, 2, 2, 2, 2)),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 6, 6), window=(2, 2, 2, 2, 4, 4)),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 2, 2), window=PAIRS, index=UINT8[:63]),
        lambda: unit(of(2, 8, 4, 4), of(2, 8, 2, 2), window=PAIRS, picked=of(1, 8, 2, 2)),
        lambda: unit(of(2, 8, 40, 40), of(2, 8, 1, 1), window=(40, 40, 40, 40, 0, 0), index=UINT8),
        lambda: unit_gradient(of(2, 8, 4, 4), of(2, 8, 4, 4), norm=norm_of(8, 8)),
        lambda: unit_gradient(of(2, 8, 4, 4), of(2, 8, 4, 4), norm=norm_of(4, 8), x=of(2, 8, 4, 4)),
        lambda: unit_gradient(of(2, 8, 4, 4), of(2, 8, 4, 4), norm=norm_of(8, 8), x=of(1, 8, 4, 4)),
        lambda: unit_gradient(of(2, 8, 4, 4), of(3, 8, 4, 4)),
        lambda: unit_gradient(of(2, 40, 4, 4, lanes=8), of(2, 40, 4, 4)),
        lambda: unit_gradient(of(2, 8, 2, 2), of(2, 8, 4, 4), window=PAIRS),
        lambda: unit_gradient(of(2, 8, 2, 2), of(2, 8, 4, 4), window=PAIRS, index=UINT8[:63]),
        lambda: unit_gradient(of(2, 8, 9, 9), of(2, 8, 4, 4), window=PAIRS, index=UINT8),
        lambda: unit_gradient(of(2, 8, 2, 2), of(2, 8, 4, 4), window=(2, 2, 0, 0, 0, 0), index=UINT8),
        lambda: unit_gradient(of(2, 8, 2, 2), of(2, 8, 4, 4), out=of(2, 8, 1, 1), window=PAIRS, index=UINT8),
        lambda: kernels.UnitBackward(of(2, 8, 4, 4), None, True, None, None, POINT, None, of(2, 8, 4, 4)),
    ],
    "ChannelSums": [
        lambda: blocked.channel_sums(of(2, 8, 4, 4)),
        lambda: blocked.channel_sums(of(2, 8, 4, 4), dbias=floats(3)),
        lambda: blocked.channel_sums(of(2, 8, 4, 4), dbias=floats(9)),
        lambda: blocked.channel_sums(of(2, 8, 4, 4), norm=norm_of(8, 8)),
        lambda: blocked.channel_sums(of(2, 8, 4, 4), norm=norm_of(4, 8), x=of(2, 8, 4, 4), count=9),
        lambda: blocked.channel_sums(of(2, 8, 4, 4), norm=norm_of(8, 8), x=of(2, 8, 4, 4), count=0),
        lambda: blocked.channel_sums(of(2, 40, 4, 4), out=of(2, 40, 4, 4, lanes=8), dbias=floats(40)),
        lambda: blocked.channel_sums(of(2, 40, 4, 4), norm=norm_of(40, 48), x=of(2, 40, 4, 4, lanes=8), count=9),
        lambda: kernels.ChannelSums(of(2, 8, 4, 4), None, True, None, None, 1, floats(8)),
    ],
    "element by element": [
        lambda: kernels.Activation(99, of(2, 8, 4, 4), None, of(2, 8, 4, 4), 0),
        lambda: kernels.Activation(-1, of(2, 8, 4, 4), None, of(2, 8, 4, 4), 0),
        lambda: blocked.activation("relu", of(2, 8, 4, 4), of(2, 8, 4, 3)),
        lambda: blocked.activation("relu", of(2, 40, 4, 4), of(2, 40, 4, 4, lanes=8)),
        lambda: blocked.activation_gradient("relu", of(2, 40, 4, 4), of(2, 40, 4, 4, lanes=8), of(2, 40, 4, 4)),
        lambda: blocked.combine(of(2, 40, 4, 4), of(2, 40, 4, 4, lanes=8), of(2, 40, 4, 4), product=False),
        lambda: blocked.combine(of(2, 40, 4, 4), of(2, 40, 4, 4), of(2, 40, 4, 4, lanes=8), product=True),
        lambda: blocked.combine(of(2, 8, 4, 4), of(1, 8, 4, 4), of(2, 8, 4, 4), product=True),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSALS)
def test_wrong_arrays_are_refused(kind):
    accepted = []
    for number, call in enumerate(REFUSALS[kind]):
        try:
            call()
        except (ValueError, OverflowError):
            continue
        accepted.append(number)
    assert accepted == []


def test_what_those_refusals_start_from_is_accepted():
    run([gather(places(terms=((3, 0, 8),))), gather_few(), gather_one()])
    run([gather_packing(places(terms=((3, 0, 8),) * 9, first=(0, 9)))])
    run([gather(places(terms=((0, 0, 2),)), image((1, 1, 1, 2), (0, 0)), packed=packing(16, 8, 2, in_lanes=2))])
    run([kernels.Pad(of(1, 8, 2, 2), floats(128), (1, 1))])
    run([outer(), outer(memory=None, dy=(1, 8, 1, 1), grad=(8, 8, 4, 4))])
    run(convolution(of(1, 8, 4, 4), weights(8, 8, 3, 3), of(1, 8, 2, 2), bias=floats(8)))
    run(convolution(image((1, 1, 4, 4), (1, 1)), weights(8, 1, 3, 3), of(1, 8, 4, 4), padding=(1, 1)))
    run([unit(of(2, 8, 4, 4), of(2, 8, 2, 2), norm=norm_of(8, 8), window=PAIRS, index=UINT8[:64])])


NOTHING = {
    "Blocks": lambda: blocked.Blocks(None, (1, 1, 1, 1), 8),
    "Blocks of no shape": lambda: blocked.Blocks(floats(99), None, 8),
    "Image": lambda: blocked.Image(None, (1, 1, 2, 2), (0, 0)),
    "Weights": lambda: blocked.Weights(None, (1, 1, 1, 1), (1, 1, 1, 1)),
    "pack": lambda: kernels.pack_blocks(np.zeros((1, 1, 1, 1), np.float32), None, 1),
    "pack nothing": lambda: kernels.pack_blocks(None, of(1, 1, 1, 1), 1),
    "pack into no image": lambda: kernels.pack_image(np.zeros((1, 1, 1, 1), np.float32), None, 1),
    "unpack": lambda: kernels.unpack_blocks(None, np.zeros((1, 1, 1, 1), np.float32), 1),
    "Pixels": lambda: blocked.Pixels(None, (1, 1, 2, 2), (0, 0)),
    "pack into no pixels": lambda: kernels.pack_pixels(np.zeros((1, 1, 1, 1), np.float32), None, 1),
    "Rows": lambda: blocked.Rows(None),
    "hold in nothing": lambda: kernels.hold_rows(np.zeros((3, 4, 1, 1), np.float32), None, 1),
    "Pad": lambda: kernels.Pad(None, floats(99), (0, 0)),
    "GatherOne": lambda: kernels.GatherOne(None, packing(), None, of(1, 8, 1, 1), False),
    "GatherFew": lambda: kernels.GatherFew(
        None, 8, np.zeros(1, np.intp), packing(), None, of(1, 8, 1, 1), None, False, 1, 1
    ),
    "PackWeights": lambda: kernels.PackWeights(None, floats(64), 8, 8, False),
    "Terms": lambda: kernels.Terms(*[None] * 6),
    "Gather": lambda: gather(None),
    "GatherPacking": lambda: kernels.GatherPacking(
        None, packing(None), None, of(1, 8, 1, 1), places(), False, 1, 1, (1, 1), 1, floats
    ),
    "Outer": lambda: kernels.Outer(
        None, of(1, 8, 2, 2), weights(8, 8, 3, 3), (1, 1), (0, 0), (1, 1), 1, floats(99)
    ),
    "Outer without dy": lambda: kernels.Outer(
        of(1, 8, 2, 2), None, weights(8, 8, 1, 1), *[(1, 1)] * 3, 1, floats(99)
    ),
    "Norm": lambda: kernels.Norm(None, *[floats(8)] * 4, 1e-5),
    "Norm without weight": lambda: kernels.Norm(np.zeros((8, 8), np.float32), None, *[floats(8)] * 3, 1e-5),
    "update": lambda: norm_of(8, 8).update(None, floats(8), 0.1, 9.0),
    "use": lambda: norm_of(8, 8).use(None, None),
    "NormStatistics": lambda: blocked.norm_statistics(None, norm_of(8, 8)),
    "NormStatistics without norm": lambda: blocked.norm_statistics(of(2, 8, 4, 4), None),
    "Unit": lambda: unit(None, of(2, 8, 4, 4)),
    "Unit without out": lambda: unit(of(2, 8, 4, 4), None),
    "Unit without window": lambda: unit(of(2, 8, 4, 4), of(2, 8, 4, 4), window=None),
    "ChannelSums": lambda: blocked.channel_sums(None, dbias=floats(8)),
    "UnitBackward": lambda: unit_gradient(None, of(2, 8, 4, 4)),
    "UnitBackward without dx": lambda: unit_gradient(of(2, 8, 4, 4), None),
    "Activation": lambda: blocked.activation("relu", None, of(2, 8, 4, 4)),
    "Activation without out": lambda: blocked.activation("relu", of(2, 8, 4, 4), None),
    "Combine": lambda: blocked.combine(None, of(2, 8, 4, 4), of(2, 8, 4, 4), product=False),
    "Combine without out": lambda: blocked.combine(of(2, 8, 4, 4), of(2, 8, 4, 4), None, product=False),
}


@pytest.mark.parametrize("call", NOTHING.values(), ids=NOTHING)
def test_none_is_refused_where_an_array_is_needed(call):
    with pytest.raises(TypeError):
        call()
