# The kernels of one instruction set, as cnn_ext/kernels/ defines them: C-contiguous arrays of one real dtype.
import numpy as np

Array = np.ndarray
Pair = tuple[int, int]

ACTIVATIONS: dict[str, int]
gemm_scratch: int

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
def sgd_update(param: Array, grad: Array, lr: float, decay: float, n_threads: int) -> None: ...
def momentum_update(
    param: Array,
    grad: Array,
    velocity: Array,
    lr: float,
    momentum: float,
    nesterov: bool,
    decay: float,
    n_threads: int,
) -> None: ...
def rmsprop_update(
    param: Array, grad: Array, square_avg: Array, lr: float, alpha: float, eps: float, decay: float, n_threads: int
) -> None: ...
def adam_update(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    decay: float,
    shrink: float,
    beta1: float,
    beta2: float,
    step_size: float,
    root: float,
    eps: float,
    n_threads: int,
) -> None: ...
