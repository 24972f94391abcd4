"""Owns where the blocked engine computes 3 × 3 convolutions by Winograd's F(4 × 4, 3 × 3), and with which tiles.

Sixteen outputs take 36 products instead of 144 (Lavin & Gray 2016, arXiv:1509.09308; kernels/winograd.h), and
so does what they add to the gradient of the weights. In return rounding errors are one to four times the direct
kernels', of eight channels up to eight times, as their direct sums are short: against float64 at most 2e-6 of the
largest Σ |x| · |weight| among a tile's outputs, and for up to 1024 channels within 1e-5 of the largest output; of
a weight gradient at most 2e-6 of its Σ |x| · |dout| (tests/kernels/test_winograd.py). Outputs of a tile depend on
all of its inputs: a NaN or an infinity among these makes all of those NaN.
"""

from cnn_ext import workspace
from cnn_ext.isa import kernels

__all__ = ["packing", "step", "weight_gradient", "wins", "wins_weight_gradient"]

TILE = 4  # outputs of a tile, along an axis
PLACES = 36  # products of a tile
_TILES, _GROUP = 4, 4  # tiles and output blocks that a thread works on at a time, at most
_UNITS, _PAIRS = 8, 8  # of a weight gradient: tiles of a block of images, and input and output blocks, likewise
_TASKS = 16  # pieces that a pass is cut into, at least, where it has as many tiles
_FEW_TASKS = 4  # fewer than these: what a weight gradient transforms several times for
_CHAIN = 512  # products of a weight gradient that a float sums one after the other, at most some
_TRANSFORM = 350  # multiply-adds that take as long as transforming a tile of one channel, forth or back
_TRANSFORM_WEIGHT = 1000  # the same for a filter
_TRANSFORM_FORTH = 250  # for the weight gradient, where nothing goes back but the sums
_TRANSFORM_SUMS = 500  # of a filter, in each slot
_MOST_CHANNELS = 1024  # errors grow with the root of the channels that are summed
_GAIN = 1.2  # what the larger error must be worth


def wins(x, out, kernel, stride, padding, dilation) -> bool:
    """Whether a pass from x to out takes less time than the direct kernels, its weights transformed every time."""
    if not _possible(x, kernel, stride, dilation) or x.shape[1] > _MOST_CHANNELS:
        return False
    c, f = x.shape[1], out.shape[1]
    if _units(x, out) < _TASKS // 2:  # too few for many threads
        return False
    return _saves(x, out, padding, _TRANSFORM * (c + f), _TRANSFORM_WEIGHT)


def wins_weight_gradient(x, dout, kernel, stride, padding, dilation) -> bool:
    """The same of the weight gradient."""
    if not _possible(x, kernel, stride, dilation):
        return False
    c_group, f_group, slots = _cut(x, dout)
    times_x, times_dout = -(-dout.channel_blocks // f_group), -(-x.channel_blocks // c_group)
    transforms = _TRANSFORM_FORTH * (x.shape[1] * times_x + dout.shape[1] * times_dout)
    return _saves(x, dout, padding, transforms, _TRANSFORM_SUMS * slots)


def _possible(x, kernel, stride, dilation) -> bool:
    return isinstance(x, kernels.Blocks) and (*kernel, *stride, *dilation) == (3, 3, 1, 1, 1, 1)


def _tiles(out) -> int:
    """Of an image."""
    return -(-out.shape[2] // TILE) * -(-out.shape[3] // TILE)


def _units(x, out) -> int:
    """Tiles of a block of images."""
    return -(-x.shape[0] // x.batch) * _tiles(out)


def _saves(x, out, padding, transforms: int, per_filter: int) -> bool:
    """Whether the products that are saved are worth so many multiply-adds a tile and a filter."""
    n, c, *size = x.shape
    f, taps = out.shape[1], 1
    for inputs, outputs, before in zip(size, out.shape[2:], padding, strict=True):
        taps *= sum(0 <= o + k - before < inputs for o in range(outputs) for k in range(3))
    needed = n * _tiles(out) * (PLACES * c * f + transforms) + per_filter * c * f
    return n * taps * c * f > _GAIN * needed


def _cut(x, dout) -> tuple[int, int, int]:
    """Input and output blocks of a weight gradient's task, and its slots."""
    units = _units(x, dout)
    most = max(1, units // _UNITS)
    each = [min(_PAIRS, x.channel_blocks), min(_PAIRS, dout.channel_blocks)]

    def groups():
        return -(-x.channel_blocks // each[0]) * -(-dout.channel_blocks // each[1])

    while most * groups() < _FEW_TASKS and max(each) > 1:
        larger = each.index(max(each))
        each[larger] = -(-each[larger] // 2)
    return *each, min(most, max(-(-_TASKS // groups()), -(-units * x.batch // _CHAIN)))


def packing(weight, x, out, transposed: bool, new):
    """The step that transforms weights; `transposed` for the pass back to the input, as `step` needs them then."""
    size = kernels.transformed_size(out.channel_blocks * out.lanes * x.channel_blocks * x.lanes)
    return kernels.TransformWeights(weight, new(size), out.lanes, x.lanes, transposed)


def step(x, packing, bias, out, padding, relu: bool):
    """out = relu(x ∗ weight + bias), each part as asked for; `padding` may be negative."""
    origin = (-padding[0], -padding[1])
    at_a_time = max(1, min(_TILES, _units(x, out) // _TASKS))
    return kernels.Winograd(x, packing, bias, out, origin, relu, at_a_time, _GROUP, workspace.scratch_floats)


def weight_gradient(x, dout, grad, padding, new):
    """The step that sets `grad`, dweight of `step` with dout for out."""
    *each, slots = _cut(x, dout)
    memory = new(slots * x.channel_blocks * dout.channel_blocks * 9 * x.lanes * dout.lanes)
    return kernels.OuterWinograd(x, dout, grad, padding, slots, memory, *each, _UNITS, workspace.scratch_floats)
