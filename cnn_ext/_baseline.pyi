# The kernels of one instruction set, as cnn_ext/kernels/ defines them: C-contiguous arrays of one real dtype.
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Pair = tuple[int, int]

ACTIVATIONS: dict[str, int]
gemm_scratch: int
softmax_piece: int

def linear_forward(
    x: Array, weight: Array, bias: Array | None, out: Array, scratch: Array, n_threads: int
) -> None: ...
def linear_backward(
    dout: Array,
    x: Array,
    weight: Array,
    dx: Array | None,
    dweight: Array,
    dbias: Array,
    scratch: Array,
    n_threads: int,
) -> None: ...
def im2col(
    x: Array, cols: Array, kernel: Pair, out: Pair, stride: Pair, padding: Pair, dilation: Pair, n_threads: int
) -> None: ...
def col2im(
    cols: Array, x: Array, kernel: Pair, out: Pair, stride: Pair, padding: Pair, dilation: Pair, n_threads: int
) -> None: ...
def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    out: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    rows_at_a_time: int,
    columns: int,
    ld: int,
    scratch: Array,
    n_threads: int,
) -> None: ...
def conv2d_backward(
    dout: Array,
    x: Array,
    weight: Array,
    dx: Array | None,
    dweight: Array,
    dbias: Array,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    n_slots: int,
    rows_at_a_time: int,
    columns: int,
    ld: int,
    scratch: Array,
    n_threads: int,
) -> None: ...
def max_pool2d_forward(
    x: Array, out: Array, argmax: Array, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int, n_threads: int
) -> None: ...
def max_pool2d_backward(dout: Array, argmax: Array, dx: Array, n_threads: int) -> int: ...
def avg_pool2d_forward(
    x: Array, out: Array, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int, n_threads: int
) -> None: ...
def avg_pool2d_backward(
    dout: Array, dx: Array, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int, n_threads: int
) -> None: ...
def batch_norm_forward(
    x: Array, weight: Array, bias: Array, out: Array, mean: Array, var: Array, eps: float, n_threads: int
) -> None: ...
def batch_norm_columns_forward(
    x: Array, weight: Array, bias: Array, out: Array, mean: Array, var: Array, eps: float, n_threads: int
) -> None: ...
def batch_norm_inference(x: Array, mean: Array, scale: Array, bias: Array, out: Array, n_threads: int) -> None: ...
def batch_norm_columns_inference(
    x: Array, mean: Array, scale: Array, bias: Array, out: Array, n_threads: int
) -> None: ...
def batch_norm_backward(
    dout: Array,
    x: Array,
    weight: Array,
    mean: Array,
    var: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
    eps: float,
    n_threads: int,
) -> None: ...
def batch_norm_columns_backward(
    dout: Array,
    x: Array,
    weight: Array,
    mean: Array,
    var: Array,
    dx: Array,
    dweight: Array,
    dbias: Array,
    eps: float,
    n_threads: int,
) -> None: ...
def activation_forward(function: int, x: Array, out: Array, negative_slope: float, n_threads: int) -> None: ...
def activation_backward(
    function: int, dout: Array, x: Array, dx: Array, negative_slope: float, n_threads: int
) -> None: ...
def softmax_cross_entropy(
    scores: Array, labels: Array, smoothing: float, dscores: Array, scratch: Array, n_threads: int
) -> tuple[float, int]: ...
def sgd_update(table: UpdateTable, lr: float, decay: float, n_threads: int) -> None: ...
def momentum_update(
    table: UpdateTable, lr: float, momentum: float, nesterov: bool, decay: float, n_threads: int
) -> None: ...
def rmsprop_update(
    table: UpdateTable, lr: float, alpha: float, eps: float, decay: float, n_threads: int
) -> None: ...
def adam_update(
    table: UpdateTable,
    decay: float,
    shrink: float,
    beta1: float,
    beta2: float,
    step_size: float,
    root: float,
    eps: float,
    n_threads: int,
) -> None: ...

class UpdateTable:
    size: int
    n_states: int
    double_precision: bool
    rows: list[tuple[Array, ...]]
    def __init__(self, rows: list[tuple[Array, ...]], double_precision: bool) -> None: ...

# The blocked layout (kernels/blocked.pxi). Steps are called with a number of threads.
class Blocks:
    shape: tuple[int, int, int, int]
    lanes: int
    batch: int
    channel_blocks: int
    size: int
    flat: Any
    def __init__(self, array: Array, shape: tuple[int, ...], lanes: int, batch: int = ...) -> None: ...

class Image:
    shape: tuple[int, int, int, int]
    padding: tuple[int, int]
    size: int
    def __init__(self, array: Array, shape: tuple[int, ...], padding: Pair) -> None: ...

class Pixels:
    shape: tuple[int, int, int, int]
    padding: Pair
    size: int
    flat: Any
    def __init__(self, array: Array, shape: tuple[int, ...], padding: Pair) -> None: ...

class Weights:
    shape: tuple[int, int, int, int]
    def __init__(self, array: Array, shape: tuple[int, ...], strides: tuple[int, ...]) -> None: ...

class Norm:
    def __init__(
        self, memory: Array, weight: Array, bias: Array, dweight: Array, dbias: Array, eps: float
    ) -> None: ...
    def update(self, running_mean: Array, running_var: Array, momentum: float, count: float) -> None: ...
    def use(self, running_mean: Array, running_var: Array) -> None: ...

class Terms:
    def __init__(
        self,
        terms: Array,
        first: Array,
        row_class: Array,
        row_first: Array,
        column_class: Array,
        column_first: Array,
    ) -> None: ...

def stay_on_one_thread() -> None: ...

class Step:
    def __call__(self, n_threads: int, /) -> None: ...

class Pieces:
    count: int
    slots: int
    def __init__(self, x: Blocks, height: int) -> None: ...

class Slices(Step):
    pieces: Pieces
    product: Blocks

class PackWeights(Step):
    def __init__(
        self, weight: Weights, packed: Array | None, out_lanes: int, in_lanes: int, transposed: bool
    ) -> None: ...

class Gather(Step):
    def __init__(
        self,
        x: Blocks | Image,
        weights: PackWeights,
        bias: Array | None,
        out: Blocks,
        terms: Terms,
        relu: bool,
        chunks: int,
        per_task: tuple[int, int, int],
    ) -> None: ...
    def take(self, then: Slices, scratch: Callable[[int], np.ndarray] | None) -> bool: ...

class GatherPacking(Gather):
    def __init__(
        self,
        x: Blocks,
        weights: PackWeights,
        bias: Array | None,
        out: Blocks,
        terms: Terms,
        relu: bool,
        chunks: int,
        width: int,
        per_task: Pair,
        slots: int,
        scratch: Callable[[int], Array],
    ) -> None: ...

def transformed_size(weights: int) -> int: ...

class TransformWeights(PackWeights): ...

class Winograd(Step):
    def __init__(
        self,
        x: Blocks,
        weights: TransformWeights,
        bias: Array | None,
        out: Blocks,
        origin: Pair,
        relu: bool,
        tiles: int,
        group: int,
        scratch: Callable[[int], Array],
    ) -> None: ...

class Rows:
    shape: tuple[int, int, int, int]
    padding: Pair
    size: int
    def __init__(self, shape: tuple[int, int, int, int]) -> None: ...

def hold_rows(x: Array | None, out: Rows, n_threads: int) -> None: ...

class Pad(Step):
    def __init__(self, x: Blocks, out: Array, padding: Pair) -> None: ...

class GatherFew(Step):
    def __init__(
        self,
        x: Array | Rows,
        pixel: int,
        x_rows: Array,
        weights: PackWeights,
        bias: Array | None,
        out: Blocks,
        terms: Array,
        relu: bool,
        chunks: int,
        per_rows: int,
    ) -> None: ...

class GatherOne(Step):
    def __init__(self, x: Blocks, weights: PackWeights, bias: Array | None, out: Blocks, relu: bool) -> None: ...

class Outer(Step):
    def __init__(
        self,
        x: Blocks | Image,
        dy: Blocks,
        grad: Weights,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        slots: int,
        memory: Array | None,
    ) -> None: ...
    def take(self, before: UnitBackward, scratch: Callable[[int], Array]) -> bool: ...

class OuterWinograd(Outer):
    def __init__(
        self,
        x: Blocks,
        dy: Blocks,
        grad: Weights,
        padding: Pair,
        slots: int,
        memory: Array,
        c_group: int,
        f_group: int,
        units: int,
        scratch: Callable[[int], Array],
    ) -> None: ...

class NormStatistics(Slices):
    def __init__(self, x: Blocks, norm: Norm) -> None: ...

class Unit(Slices):
    def __init__(
        self,
        x: Blocks,
        out: Blocks,
        norm: Norm | None,
        relu: bool,
        window: tuple[int, ...],
        index: Array | None,
        picked: Blocks | None,
    ) -> None: ...

class ChannelSums(Slices):
    def __init__(
        self,
        dout: Blocks,
        out: Blocks | None,
        relu: bool,
        norm: Norm | None,
        x: Blocks | None,
        count: float,
        dbias: Array | None,
    ) -> None: ...

class UnitBackward(Slices):
    def __init__(
        self,
        dout: Blocks,
        out: Blocks | None,
        relu: bool,
        norm: Norm | None,
        x: Blocks | None,
        window: tuple[int, ...],
        index: Array | None,
        dx: Blocks,
    ) -> None: ...

class Activation(Step):
    def __init__(
        self, function: int, x: Blocks, dout: Blocks | None, out: Blocks, negative_slope: float
    ) -> None: ...

class Combine(Step):
    def __init__(self, x: Blocks, y: Blocks, out: Blocks, product: bool) -> None: ...

def pack_blocks(x: Array, out: Blocks, n_threads: int) -> None: ...
def unpack_blocks(x: Blocks, out: Array, n_threads: int) -> None: ...
def pack_pixels(x: Array, out: Pixels, n_threads: int) -> None: ...
def pack_image(x: Array, out: Image, n_threads: int) -> None: ...
def peak(steps: int, n_threads: int) -> int: ...
