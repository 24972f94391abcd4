"""What the kernel tests share: tolerances, numeric gradients, and one example call of every public op."""

import numpy as np

RELATIVE = {np.float32: 1e-5, np.float64: 1e-12, np.int64: 0}

# The arrays that in-place ops write.
WRITTEN = ("param", "velocity", "square_avg", "m", "v")


def assert_close(actual, expected, dtype):
    """Equal dtype and shape, and values to RELATIVE of the largest."""
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE[dtype] * max(1.0, np.abs(expected).max()))


def numeric_gradient(function, array, dout, step):
    """∂⟨dout, function()⟩/∂array by central differences over every entry; `array` is changed and put back."""
    gradient = np.empty_like(array)
    for index in np.ndindex(array.shape):
        value = array[index]
        array[index] = value + step
        above = np.vdot(dout, function())
        array[index] = value - step
        gradient[index] = (above - np.vdot(dout, function())) / (2 * step)
        array[index] = value
    return gradient


class Arrays:
    """Random arrays of one dtype: `draw(2, 3)` is normal, `draw.positive(2, 3)` is not negative."""

    def __init__(self, dtype):
        self.dtype, self.rng = dtype, np.random.default_rng(0)

    def __call__(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def positive(self, *shape):
        return np.square(self(*shape))

    def indices(self, below, *shape):
        return self.rng.integers(0, below, shape)


FLAT = (5, 8191)
WINDOW = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 2)}
POOL = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}
RATES = {"lr": 0.1, "weight_decay": 0.01}
ADAM = {**RATES, "step": 3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8}

# Arguments by name, made by an Arrays. Sizes leave the blocks of the kernels uneven and make more tasks than
# threads. A name may be followed by words that tell several cases of an op apart.
CASES = {
    "im2col": lambda a: {"x": a(5, 3, 11, 13), "kernel_size": (3, 2), **WINDOW},
    "col2im": lambda a: {"cols": a(5, 18, 78), "x_shape": (5, 3, 11, 13), "kernel_size": (3, 2), **WINDOW},
    "conv2d_forward": lambda a: {"x": a(5, 3, 31, 23), "weight": a(19, 3, 3, 2), "bias": a(19), **WINDOW},
    "conv2d_backward": lambda a: {
        "dout": a(5, 19, 16, 23), "x": a(5, 3, 31, 23), "weight": a(19, 3, 3, 2), **WINDOW
    },
    "linear_forward": lambda a: {"x": a(205, 300), "weight": a(300, 270), "bias": a(270)},
    "linear_backward": lambda a: {"dout": a(205, 270), "x": a(205, 300), "weight": a(300, 270)},
    "max_pool2d_forward": lambda a: {"x": a(6, 7, 22, 23), **POOL},
    "max_pool2d_forward side by side": lambda a: {"x": a(6, 7, 22, 23), "kernel_size": 2},
    "max_pool2d_backward": lambda a: {
        "dout": a(6, 7, 11, 22), "argmax": a.indices(22 * 23, 6, 7, 11, 22), "x_shape": (6, 7, 22, 23), **POOL
    },
    "avg_pool2d_forward": lambda a: {"x": a(6, 7, 22, 23), **POOL},
    "avg_pool2d_backward": lambda a: {"dout": a(6, 7, 11, 22), "x_shape": (6, 7, 22, 23), **POOL},
    "batch_norm_forward images": lambda a: {"x": a(17, 7, 9, 11), "weight": a(7), "bias": a(7)},
    "batch_norm_forward vectors": lambda a: {"x": a(50, 203), "weight": a(203), "bias": a(203)},
    "batch_norm_inference images": lambda a: {
        "x": a(17, 7, 9, 11), "weight": a(7), "bias": a(7), "mean": a(7), "var": a.positive(7)
    },
    "batch_norm_inference vectors": lambda a: {
        "x": a(50, 203), "weight": a(203), "bias": a(203), "mean": a(203), "var": a.positive(203)
    },
    "batch_norm_backward images": lambda a: {
        "dout": a(17, 7, 9, 11), "x": a(17, 7, 9, 11), "weight": a(7), "mean": a(7), "var": 1 + a.positive(7)
    },
    "batch_norm_backward vectors": lambda a: {
        "dout": a(50, 203), "x": a(50, 203), "weight": a(203), "mean": a(203), "var": 1 + a.positive(203)
    },
    "softmax_cross_entropy": lambda a: {
        "scores": a(205, 37), "labels": a.indices(37, 205), "label_smoothing": 0.1
    },
    "softmax_cross_entropy wide": lambda a: {"scores": a(7, 1500), "labels": a.indices(1500, 7)},
    "sgd_update": lambda a: {
        "param": a(*FLAT), "grad": a(*FLAT), "velocity": None, **RATES, "momentum": 0.0, "nesterov": False
    },
    "sgd_update momentum": lambda a: {
        "param": a(*FLAT), "grad": a(*FLAT), "velocity": a(*FLAT), **RATES, "momentum": 0.9, "nesterov": False
    },
    "sgd_update nesterov": lambda a: {
        "param": a(*FLAT), "grad": a(*FLAT), "velocity": a(*FLAT), **RATES, "momentum": 0.9, "nesterov": True
    },
    "rmsprop_update": lambda a: {
        "param": a(*FLAT), "grad": a(*FLAT), "square_avg": a.positive(*FLAT), **RATES, "alpha": 0.9, "eps": 1e-8
    },
    "adam_update": lambda a: {
        "param": a(*FLAT), "grad": a(*FLAT), "m": a(*FLAT), "v": a.positive(*FLAT), **ADAM, "decoupled": False
    },
    "adam_update decoupled": lambda a: {
        "param": a(*FLAT), "grad": a(*FLAT), "m": a(*FLAT), "v": a.positive(*FLAT), **ADAM, "decoupled": True
    },
}  # fmt: skip
for function in ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu"):
    CASES[f"{function}_forward"] = lambda a: {"x": a(*FLAT)}
    CASES[f"{function}_backward"] = lambda a: {"dout": a(*FLAT), "x": a(*FLAT)}


def op_name(case):
    return case.split()[0]


def outcome(op, arguments):
    """The arrays that a call gives: what it returns, a loss in its gradient's dtype, or what it wrote in place."""
    result = op(**arguments)
    if result is None:
        return [arguments[name] for name in WRITTEN if arguments.get(name) is not None]
    parts = list(result) if isinstance(result, tuple) else [result]
    return [np.array(part, parts[1].dtype) if isinstance(part, float) else part for part in parts]
