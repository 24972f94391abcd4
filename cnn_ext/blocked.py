"""Owns the steps of the blocked engine: which kernels a pass of a layer is made of, and how their work is cut.

Activations lie in `Blocks` (see kernels/blocked.pxi). Each function here returns steps, to be called in their
order as `step(n_threads)`; they work on the arrays that they were built over, as often as they are called.
`new(count)` provides the float32 memory that steps keep to themselves. Geometry is that of `conv2d_forward`.
What a user passes is checked before it comes here; steps check only that their arrays belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import gcd, prod
from typing import TYPE_CHECKING

import numpy as np

from cnn_ext import winograd
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for
from cnn_ext.workspace import scratch_floats

__all__ = [
    "Blocks",
    "Image",
    "Norm",
    "Pixels",
    "Rows",
    "Weights",
    "activation",
    "activation_gradient",
    "blocks_size",
    "channel_sums",
    "combine",
    "convolution",
    "convolution_weights",
    "image_size",
    "input_gradient",
    "joined",
    "lanes_for",
    "linear_weights",
    "norm",
    "norm_statistics",
    "pack",
    "tabulated",
    "unit",
    "unit_gradient",
    "unpack",
    "weight_gradient",
]

if TYPE_CHECKING:
    from cnn_ext._baseline import Blocks, Image, Norm, Pixels, Rows, Weights
else:
    Blocks, Image, Pixels, Rows = kernels.Blocks, kernels.Image, kernels.Pixels, kernels.Rows
    Norm, Weights = kernels.Norm, kernels.Weights
Step = Callable[[int], None]
New = Callable[[int], np.ndarray]

BATCH = 12  # images of a block
_CHUNK = 4096  # floats of packed weights taken at a time: half of a first-level cache of 32 KB
_CHAIN = 8192  # products that a float sums one after the other, at most some: more slots lose less by rounding
_SLOTS = 4  # that a product of few output blocks is cut into
_WIDTH = 8  # output blocks packed together: half a kilobyte of a row of the weight, read in one go
_TERM = 6  # floats that a term takes
_TASKS = 32  # pieces that a pass is cut into, at least, where it has as many


def lanes_for(channels: int) -> int:
    """Channels of a block: sixteen, or eight where that leaves fewer idle."""
    return 8 if channels <= 8 or 16 < channels <= 24 else 16


def blocks_size(shape: tuple[int, int, int, int], lanes: int) -> int:
    """Floats that Blocks of (N, C, H, W) take."""
    n, c, h, w = shape
    return n * -(-c // lanes) * lanes * h * w


def image_size(shape: tuple[int, int, int, int], padding: tuple[int, int]) -> int:
    """Floats that an Image of (N, C, H, W) takes."""
    n, c, h, w = shape
    return -(-n // BATCH) * BATCH * c * (h + 2 * padding[0]) * (w + 2 * padding[1])


def convolution_weights(weight: np.ndarray) -> Weights:
    """Of a (F, C, KH, KW) array."""
    f, c, kh, kw = weight.shape
    return Weights(weight.reshape(-1), (f, c, kh, kw), (c * kh * kw, kh * kw, kw, 1))


def linear_weights(weight: np.ndarray, image: tuple[int, int, int]) -> Weights:
    """Of a (C·H·W, F) array, whose rows are the pixels of an image: a convolution with one output pixel."""
    (c, h, w), f = image, weight.shape[1]
    return Weights(weight.reshape(-1), (f, c, h, w), (1, h * w * f, w * f, f))


# -- lists of terms ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Runs:
    """The taps of every output coordinate along an axis, or those with which outputs met every input coordinate.

    Coordinate p has count[p] taps, low[p] and every `step`-th after it; the first meets place[p], each next one
    place_step further on.
    """

    low: np.ndarray
    count: np.ndarray
    place: np.ndarray
    step: int
    place_step: int

    @property
    def _keys(self) -> tuple[np.ndarray, int]:
        """A number for each coordinate, low · most + count: those with equal ones differ by a shift alone."""
        most = int(self.count.max()) + 1
        return np.where(self.count > 0, self.low, 0) * most + self.count, most

    def length(self) -> int:
        """Of all lists of `axis` together."""
        keys, most = self._keys
        return int((np.unique(keys) % most).sum())

    def axis(self) -> _Axis:
        keys, most = self._keys
        known, which = np.unique(keys, return_inverse=True)
        lists = []
        for start, n in (divmod(key, most) for key in known.tolist()):
            places = self.place_step * np.arange(n)
            lists.append((start + self.step * np.arange(n), places - min(places, default=0)))
        back = min(self.place_step, 0) * np.maximum(self.count - 1, 0)
        first = np.where(self.count > 0, self.place + back, 0)
        return _Axis(lists, which.reshape(-1).astype(np.intp), first.astype(np.intp))


@dataclass(frozen=True, eq=False)
class _Axis:
    """The same with a list for all coordinates whose taps differ by a shift alone: those of coordinate p are
    lists[which[p]][0], and meet the places first[p] + lists[which[p]][1]."""

    lists: list[tuple[np.ndarray, np.ndarray]]
    which: np.ndarray
    first: np.ndarray


def _forward_runs(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> _Runs:
    """For each output coordinate, the taps that meet the input, and where."""
    start = np.arange(out, dtype=np.int64) * stride - padding
    low = np.maximum(-(start // dilation), 0)
    high = np.minimum((size - 1 - start) // dilation, taps - 1)
    return _Runs(low, np.maximum(high - low + 1, 0), start + low * dilation, 1, dilation)


def _backward_runs(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> _Runs:
    """For each input coordinate i, taps k whose output o met it: o · stride + k · dilation = i + padding."""
    at, common = np.arange(size, dtype=np.int64) + padding, gcd(stride, dilation)
    step = stride // common  # from a tap that meets to the next, whose output is dilation / common before
    solved = at // common % step * pow(dilation // common, -1, step) % step if step > 1 else np.zeros_like(at)
    least = np.maximum(-(((out - 1) * stride - at) // dilation), 0)  # the last output is not passed
    low = solved + np.maximum(-((solved - least) // step), 0) * step
    high = np.where(at % common == 0, np.minimum(at // dilation, taps - 1), -1)
    return _Runs(
        low, np.maximum((high - low) // step + 1, 0), (at - low * dilation) // stride, step, -(dilation // common)
    )


def tabulated(image, filters: int, kernel, outputs, *, stride, padding, dilation) -> bool:
    """Whether lists of terms of a convolution of `image` (C, H, W) to (filters, *outputs) are worth their memory.

    Large kernels with as much padding have a list of their own for each pixel: together they would be far larger
    than input, output and weights are. Then the ops' convolution is the way.
    """
    (channels, *size), terms = image, 0
    for runs_of, inputs in ((_forward_runs, channels), (_backward_runs, filters)):
        axes = zip(size, outputs, kernel, stride, padding, dilation, strict=True)
        terms += prod(runs_of(*axis).length() for axis in axes) * -(-inputs // lanes_for(inputs))
    floats = prod(image) + filters * prod(outputs) + filters * channels * prod(kernel)
    return _TERM * terms <= 4 * floats + 2**18


@lru_cache(maxsize=256)
def _block_terms(
    forward: bool, channels: int, lanes: int, size, outputs, kernel, stride, padding, dilation, out_lanes: int
):
    """The kernels' Terms over Blocks of `channels`, and how many floats of weights the longest list takes.

    Forward from an input of `size` to `outputs`; back from a dout of `size` to the input, which is `outputs` then.
    """
    if forward:
        rows, columns = (
            runs.axis() for runs in map(_forward_runs, size, outputs, kernel, stride, padding, dilation)
        )
    else:
        rows, columns = (
            runs.axis() for runs in map(_backward_runs, outputs, size, kernel, stride, padding, dilation)
        )
    block = np.arange(-(-channels // lanes))[:, None, None]

    def terms(row, column):
        kh, i, kw, j = row[0][:, None], row[1][:, None], column[0], column[1]
        x = (block * size[0] + i) * size[1] + j
        w = ((block * kernel[0] + kh) * kernel[1] + kw) * lanes * out_lanes
        return x, w, np.broadcast_to(np.minimum(lanes, channels - block * lanes), x.shape)

    return _terms(rows, columns, terms, out_lanes)


@lru_cache(maxsize=256)
def _image_terms(channels: int, size, outputs, kernel, stride, dilation, out_lanes: int):
    """The same over an Image, which has its padding; there neighbouring taps of a row are one run."""
    rows, columns = (runs.axis() for runs in map(_forward_runs, size, outputs, kernel, stride, (0, 0), dilation))

    def terms(row, column):
        (kh, i), (kw, j), k = row, column, channels
        if dilation[1] == 1:
            kw, j, k = kw[:1], j[:1], channels * kernel[1]
        x = i[:, None] * size[1] + j
        w = (kh[:, None] * kernel[1] + kw) * channels * out_lanes
        return x, w, np.full_like(x, k)

    return _terms(rows, columns, terms, out_lanes)


def _terms(rows: _Axis, columns: _Axis, terms_of, out_lanes: int):
    lists = [
        np.stack([part.reshape(-1) for part in terms_of(row, column)], axis=1)
        for row in rows.lists
        for column in columns.lists
    ]
    ends = np.cumsum([0] + [len(terms) for terms in lists], dtype=np.intp)
    joined = np.concatenate(lists).astype(np.intp)
    if len(joined) == 0:
        joined = np.zeros((1, 3), np.intp)
    longest = max(int(terms[:, 2].sum()) for terms in lists) * out_lanes
    return kernels.Terms(joined, ends, rows.which, rows.first, columns.which, columns.first), longest


# -- passes of convolution and of the fully-connected layer --------------------------------------------------


def _check_pass(name: str, x, weight: Weights, out: Blocks, stride, padding, dilation) -> None:
    """Refuses arrays that are not those of one convolution, which kernels would read beyond."""
    f, c, *kernel = weight.shape
    padded = not isinstance(x, Blocks)  # the padding is there
    if min(*stride, *dilation) < 1 or min(padding) < 0 or (padded and x.padding != tuple(padding)):
        raise ValueError(f"{name}: stride {stride}, padding {padding}, dilation {dilation}")
    spans = [s + 2 * p - d * (k - 1) for s, p, d, k in zip(x.shape[2:], padding, dilation, kernel, strict=True)]
    size = tuple((span - 1) // s + 1 for span, s in zip(spans, stride, strict=True))
    if x.shape[:2] != (out.shape[0], c) or out.shape[1:] != (f, *size):
        raise ValueError(f"{name}: x {x.shape}, weight {weight.shape} and out {out.shape} do not belong together")


def _one_pixel(x, out: Blocks) -> bool:
    """Whether every weight meets one pixel of each image, as in a fully-connected layer."""
    return not isinstance(x, Image) and 1 in (out.shape[2] * out.shape[3], x.shape[2] * x.shape[3])


def _meets_all(x: Blocks, kernel, out: Blocks, padding) -> bool:
    """Whether every pixel of an image meets a tap of its own, as in a fully-connected layer."""
    return out.shape[2] * out.shape[3] == 1 and x.shape[2:] == tuple(kernel) and not any(padding)


def _is_thin(x: Blocks, out: Blocks, padding) -> bool:
    """Whether an input with its padding takes not much more memory than input and output."""
    height, width = (s + 2 * p for s, p in zip(x.shape[2:], padding, strict=True))
    return height * width * x.lanes * x.channel_blocks * x.shape[0] <= 4 * (x.size + out.size) + 2**16


def _gather(x, packing, bias, out: Blocks, terms, longest: int, relu: bool) -> Step:
    n, _, height, _ = out.shape
    per_rows = max(1, height * -(-n // BATCH) // _TASKS)
    chunks = max(1, round(longest / _CHUNK))
    if _one_pixel(x, out):
        per_f = min(4, out.channel_blocks * height // 8)
        per_task = (per_f, 1, n) if per_f else (1, 1, max(1, 4 * BATCH // min(x.batch, out.batch)))
    else:
        per_task = (out.channel_blocks, per_rows, 1)
    return kernels.Gather(x, packing, bias, out, terms, relu, chunks, per_task)


def _gather_packing(x, packing, bias, out: Blocks, terms, longest: int, relu: bool, width: int) -> Step:
    """`width`: output blocks whose weights are packed together; see kernels/blocked_dense.pxi."""
    chunks, slots = max(1, round(longest / _CHUNK)), 1
    tasks = out.channel_blocks * out.shape[2]
    per_f = max(width, min(4, tasks // 8))
    if tasks < 2 * width and out.shape[2] * out.shape[3] == 1:  # too few for two threads
        slots = min(chunks, _SLOTS)
        chunks, per_f = -(-chunks // slots) * slots, out.channel_blocks
    per_task = (per_f, out.shape[0])
    return kernels.GatherPacking(
        x, packing, bias, out, terms, relu, chunks, width, per_task, slots, scratch_floats
    )


def convolution(
    x,
    weight: Weights,
    bias: np.ndarray | None,
    out: Blocks,
    *,
    stride,
    padding,
    dilation,
    relu: bool,
    new: New,
    keep: bool = False,
    rewritten: New | None = None,
) -> tuple[list[Step], list[Step]]:
    """out = relu(x ∗ weight + bias), each part as asked for.

    x : Blocks; an Image or Pixels padded by `padding`; or Rows.

    Returns the steps that pack weight and bias, and those that compute. With `keep` the former need not be called
    again while weight and bias stay as they are. `rewritten` provides zeros that the latter write between, if
    `new` is not to do it.
    """
    _check_pass("convolution", x, weight, out, stride, padding, dilation)
    f, c, *kernel = weight.shape
    few = isinstance(x, Pixels | Rows) or (
        keep
        and isinstance(x, Blocks)
        and out.shape[0] < BATCH
        and x.shape[2] * x.shape[3] > 1
        and _is_thin(x, out, padding)
    )
    direct = not isinstance(x, Blocks)  # the padding is there
    tiled = not few and winograd.wins(x, out, kernel, stride, padding, dilation)
    # With fewer blocks a row of the weight is not read in long runs.
    one_pass = not keep and _one_pixel(x, out) and out.channel_blocks >= 4
    if tiled:
        packing = winograd.packing(weight, x, out, False, new)
    else:
        packing = _packing(weight, out.lanes, c if direct else x.lanes, False, None if one_pass else new)
    packs: list[Step] = [packing]
    if bias is not None and f % out.lanes:
        whole = new(out.channel_blocks * out.lanes)
        packs.append(kernels.PackWeights(Weights(bias, (f, 1, 1, 1), (1, 1, 1, 1)), whole, out.lanes, 1, False))
        bias = whole
    if keep and out.shape[0] == 1 and isinstance(x, Blocks) and _meets_all(x, kernel, out, padding):
        return packs, [kernels.GatherOne(x, packing, bias, out, relu)]
    if few:
        return packs, _few(x, packing, bias, out, c, kernel, stride, padding, dilation, relu, rewritten or new)
    if tiled:
        return packs, [winograd.step(x, packing, bias, out, padding, relu)]
    if direct:
        x_size, padding = [s + 2 * p for s, p in zip(x.shape[2:], padding, strict=True)], (0, 0)
    else:
        x_size = x.shape[2:]
    sizes = tuple(x_size), tuple(out.shape[2:]), tuple(kernel)
    if direct:
        terms, longest = _image_terms(c, *sizes, tuple(stride), tuple(dilation), out.lanes)
    else:
        window = tuple(stride), tuple(padding), tuple(dilation)
        terms, longest = _block_terms(True, c, x.lanes, *sizes, *window, out.lanes)
    if one_pass:
        return packs[1:], [_gather_packing(x, packing, bias, out, terms, longest, relu, width=_WIDTH)]
    return packs, [_gather(x, packing, bias, out, terms, longest, relu)]


def _few(
    x, packing, bias, out: Blocks, c: int, kernel, stride, padding, dilation, relu: bool, new: New
) -> list[Step]:
    """A convolution of fewer images than a block has, or of Rows; the last step can be called again."""
    n, _, out_h, out_w = out.shape
    height, width = (s + 2 * p for s, p in zip(x.shape[2:], padding, strict=True))
    taps = [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]
    p, q, image = np.ogrid[:out_h, :out_w, :n]
    at = p * stride[0] * width + q * stride[1]
    steps: list[Step] = []
    source: Rows | np.ndarray
    if isinstance(x, Rows):
        pieces = np.linspace(0, c // 8, max(1, round(c * out.lanes / _CHUNK)) + 1).astype(int) * 8
        pieces[-1] = c
        terms = [(first, first * out.lanes, last - first) for first, last in pairwise(pieces)]
        source, pixel, x_rows = x, 1, image * c + at  # one pixel
    elif isinstance(x, Pixels):
        if dilation[1] == 1:  # a row of taps is one run
            taps = [(i, 0) for i in range(kernel[0])]
        k = c * kernel[0] * kernel[1] // len(taps)
        terms = [
            (i * dilation[0] * width + j * dilation[1], (i * kernel[1] + j) * c * out.lanes, k) for i, j in taps
        ]
        source, pixel, x_rows = x.flat, c, (image * height * width + at) * c
    else:
        terms = [
            (
                (block * height + i * dilation[0]) * width + j * dilation[1],
                ((block * kernel[0] + i) * kernel[1] + j) * x.lanes * out.lanes,
                min(x.lanes, c - block * x.lanes),
            )
            for block in range(x.channel_blocks)
            for i, j in taps
        ]
        source, pixel, x_rows = x.flat, n * x.lanes, (at * n + image) * x.lanes
        if any(padding):
            padded = new(x.channel_blocks * height * width * pixel)
            steps.append(kernels.Pad(x, padded, padding))
            source = padded
    longest = sum(k for _, _, k in terms) * out.lanes
    x_rows = np.ascontiguousarray(x_rows.reshape(-1), np.intp)
    per_rows = max(24, -(-len(x_rows) * out.channel_blocks // 8 // 6) * 6)
    chunks = min(len(terms), max(1, round(longest / _CHUNK)))
    table = np.array(terms, np.intp)
    return [*steps, kernels.GatherFew(source, pixel, x_rows, packing, bias, out, table, relu, chunks, per_rows)]


def input_gradient(
    dout: Blocks, weight: Weights, dx: Blocks, *, stride, padding, dilation, new: New
) -> list[Step]:
    """dx of `convolution`, all of it written."""
    _check_pass("input_gradient", dx, weight, dout, stride, padding, dilation)
    f, _, *kernel = weight.shape
    around = (kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1])
    if winograd.wins(dout, dx, kernel, stride, around, dilation):
        packing = winograd.packing(weight, dout, dx, True, new)
        return [packing, winograd.step(dout, packing, None, dx, around, False)]
    sizes = tuple(dout.shape[2:]), tuple(dx.shape[2:]), tuple(kernel)
    window = tuple(stride), tuple(padding), tuple(dilation)
    terms, longest = _block_terms(False, f, dout.lanes, *sizes, *window, dx.lanes)
    one_pass = _one_pixel(dout, dx)
    packing = _packing(weight, dx.lanes, dout.lanes, True, None if one_pass else new)
    if one_pass:
        return [_gather_packing(dout, packing, None, dx, terms, longest, False, width=1)]
    return [packing, _gather(dout, packing, None, dx, terms, longest, False)]


def _packing(weight: Weights, out_lanes: int, in_lanes: int, transposed: bool, new: New | None):
    """Without `new`, for a product that packs weights as it uses them."""
    f, c, kh, kw = weight.shape
    n_out, n_in = (c, f) if transposed else (f, c)
    size = -(-n_out // out_lanes) * out_lanes * -(-n_in // in_lanes) * in_lanes * kh * kw
    return kernels.PackWeights(weight, new(size) if new else None, out_lanes, in_lanes, transposed)


def weight_gradient(x, dout: Blocks, grad: Weights, *, stride, padding, dilation, new: New) -> Step:
    """dweight of `convolution`, which replaces what `grad` holds."""
    n, _, height, width = dout.shape
    _, c, kh, kw = grad.shape
    window = (stride, padding, dilation)
    if isinstance(x, Image):
        slots = kernels.Pieces(dout, height).slots
        return kernels.Outer(
            x, dout, grad, *window, slots, new(slots * dout.channel_blocks * kh * kw * c * dout.lanes)
        )
    if _meets_all(x, (kh, kw), dout, padding):
        return kernels.Outer(x, dout, grad, *window, 1, None)
    if winograd.wins_weight_gradient(x, dout, (kh, kw), *window):
        return winograd.weight_gradient(x, dout, grad, padding, new)
    pairs = dout.channel_blocks * x.channel_blocks
    slots = min(-(-n // BATCH), max(-(-_TASKS // pairs), n * height * width // _CHAIN))
    return kernels.Outer(x, dout, grad, *window, slots, new(slots * pairs * kh * kw * x.lanes * dout.lanes))


# -- what stands between them --------------------------------------------------------------------------------

POINT = (1, 1, 1, 1, 0, 0)  # the window that pools nothing: kernel, stride, padding


def norm(weight, bias, dweight, dbias, eps: float, *, channels: int, new: New) -> Norm:
    """Batch norm's statistics and coefficients, over parameters and gradients (C,); `channels`: whole blocks."""
    return Norm(new(8 * channels).reshape(8, channels), weight, bias, dweight, dbias, eps)


def norm_statistics(x: Blocks, norm: Norm) -> Step:
    """The batch's mean and variance into `norm`, and the scale and shift that they give."""
    return kernels.NormStatistics(x, norm)


def unit(x: Blocks, out: Blocks, *, norm: Norm | None, relu: bool, window, index, picked: Blocks | None) -> Step:
    """out = max over windows of relu((x − mean) · scale + shift), each part as asked for.

    window : (KH, KW, SH, SW, PH, PW). index : uint8, as many as out's floats, which pixel of each window was the
    maximum; None where nobody will ask. picked : x there, None likewise.
    """
    return kernels.Unit(x, out, norm, relu, window, index, picked)


def channel_sums(
    dout: Blocks,
    *,
    out: Blocks | None = None,
    norm: Norm | None = None,
    x: Blocks | None = None,
    count: int = 1,
    dbias=None,
) -> Step:
    """Σ over batch and pixels of dz, which is dout where out > 0, or all of dout without an `out`.

    Without a norm it becomes `dbias`. With one, x being the values before it (where a pool had its maxima) and
    `count` the values of a channel, it gives the gradients of the norm's parameters and the coefficients of
    `unit_gradient`.
    """
    return kernels.ChannelSums(dout, out, out is not None, norm, x, count, dbias)


def unit_gradient(
    dout: Blocks, dx: Blocks, *, out: Blocks | None, norm: Norm | None, x: Blocks | None, window, index
) -> Step:
    """dx of `unit`, all of it written; `out` where there was a relu, `x` where a norm. dx may be dout."""
    return kernels.UnitBackward(dout, out, out is not None, norm, x, window, index, dx)


def activation(function: str, x: Blocks, out: Blocks, negative_slope: float = 0.0) -> Step:
    """out = f(x), `function` being a name of `kernels.ACTIVATIONS`."""
    return kernels.Activation(kernels.ACTIVATIONS[function], x, None, out, negative_slope)


def activation_gradient(function: str, dout: Blocks, x: Blocks, dx: Blocks, negative_slope: float = 0.0) -> Step:
    """dx = dout · f′(x); dx may be dout."""
    return kernels.Activation(kernels.ACTIVATIONS[function], x, dout, dx, negative_slope)


def combine(x: Blocks, y: Blocks, out: Blocks, *, product: bool) -> Step:
    """out = x · y or x + y; out may be one of them."""
    return kernels.Combine(x, y, out, product)


def joined(steps: list[Step], passing: Collection[Blocks] = ()) -> list[Step]:
    """The same steps in fewer calls.

    A pass over an array right after the product that writes it, or right before the one that reads it, is taken
    along by that product, whose rows are in the cache then. What a first layer's weight gradient reads is not
    kept then, nor a product that is one of `passing`: those which nobody reads but the step after them.
    """
    kept: list[Step] = []
    for step in steps:
        before = kept[-1] if kept else None
        if (
            isinstance(before, kernels.Gather)
            and isinstance(step, kernels.Slices)
            and before.take(step, scratch_floats if step.product in passing else None)
        ):
            continue
        if (
            isinstance(step, kernels.Outer)
            and isinstance(before, kernels.UnitBackward)
            and step.take(before, scratch_floats)
        ):
            kept.pop()
        kept.append(step)
    return kept


# -- in and out ----------------------------------------------------------------------------------------------


_PACKS: dict[type, Callable] = {
    Blocks: kernels.pack_blocks,
    Image: kernels.pack_image,
    Pixels: kernels.pack_pixels,
    Rows: kernels.hold_rows,
}


def pack(x: np.ndarray | None, out) -> None:
    """x (N, C, H, W), contiguous float32, into Blocks, an Image or Pixels; Rows refer to it, or to None."""
    _PACKS[type(out)](x, out, 1 if x is None else threads_for(2 * x.size))  # in strides


def unpack(x: Blocks, out: np.ndarray) -> None:
    """Blocks into `out` (N, C, H, W), contiguous float32."""
    kernels.unpack_blocks(x, out, threads_for(out.size))
