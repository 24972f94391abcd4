"""Owns where the blocked engine computes 3 × 3 convolutions by Winograd's F(4 × 4, 3 × 3), and with which tiles.

Sixteen outputs take 36 products instead of 144 (Lavin & Gray 2016, arXiv:1509.09308; kernels/winograd.h). In
return rounding errors are one to four times the direct kernels': against float64 at most 2e-6 of the largest
Σ |x| · |weight| among a tile's outputs, and for up to 1024 channels within 1e-5 of the largest output
(tests/kernels/test_winograd.py). Outputs of a tile depend on all of its inputs: a NaN or an infinity among these
makes all of those NaN.
"""

from cnn_ext import workspace
from cnn_ext.isa import kernels

__all__ = ["packing", "step", "wins"]

TILE = 4  # outputs of a tile, along an axis
PLACES = 36  # products of a tile
_TILES, _GROUP = 4, 4  # tiles and output blocks that a thread works on at a time, at most
_TASKS = 16  # pieces that a pass is cut into, at least, where it has as many tiles
_TRANSFORM = 400  # multiply-adds that take as long as transforming a tile of one channel, forth or back
_TRANSFORM_WEIGHT = 1000  # the same for a filter
_MOST_CHANNELS = 1024  # errors grow with the root of the channels that are summed
_GAIN = 1.2  # what the larger error must be worth


def wins(x, out, kernel, stride, padding, dilation) -> bool:
    """Whether it takes less time than the direct kernels, weights being transformed in every call."""
    if not isinstance(x, kernels.Blocks) or x.shape[1] > _MOST_CHANNELS:
        return False
    if (*kernel, *stride, *dilation) != (3, 3, 1, 1, 1, 1):
        return False
    (n, c, *size), (_, f, *out_size) = x.shape, out.shape
    taps, tiles = 1, 1
    for inputs, outputs, before in zip(size, out_size, padding, strict=True):
        taps *= sum(0 <= o + k - before < inputs for o in range(outputs) for k in range(3))
        tiles *= -(-outputs // TILE)
    if -(-n // x.batch) * tiles < _TASKS // 2:  # too few for many threads
        return False
    transforms = n * tiles * _TRANSFORM * (c + f) + _TRANSFORM_WEIGHT * c * f
    return n * taps * c * f > _GAIN * (n * tiles * PLACES * c * f + transforms)


def packing(weight, x, out, transposed: bool, new):
    """The step that transforms weights; `transposed` for the pass back to the input, as `step` needs them then."""
    size = PLACES * out.channel_blocks * out.lanes * x.channel_blocks * x.lanes
    return kernels.TransformWeights(weight, new(size), out.lanes, x.lanes, transposed)


def step(x, packing, bias, out, padding, relu: bool):
    """out = relu(x ∗ weight + bias), each part as asked for; `padding` may be negative."""
    n, _, height, width = out.shape
    tiles = -(-n // x.batch) * -(-height // TILE) * -(-width // TILE)
    origin = (-padding[0], -padding[1])
    at_a_time = max(1, min(_TILES, tiles // _TASKS))
    return kernels.Winograd(x, packing, bias, out, origin, relu, at_a_time, _GROUP, workspace.scratch_floats)
