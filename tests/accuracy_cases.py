"""Every op on random inputs beside the same in float64: the worst error, as a multiple of a unit roundoff.

A case makes float32 inputs, computes outputs from them in float64 (by `cnn_ext.reference` or a formula) and by
the op, or by PyTorch's. An error is counted in units of

- "ulp": the distance of the exact value to the next float32;
- "terms": 2⁻²³ · Σ |terms|, for an output that is a sum: float32 cannot promise a part of the value itself;
- "largest": 2⁻²³ · the largest exact value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import cnn_ext
import pynn
from cnn_ext import reference

EPS = 2.0**-23


@dataclass(frozen=True)
class Case:
    """`inputs(rng)` are arrays by name; the functions take them by keyword and return one array an output."""

    name: str
    outputs: tuple[str, ...]
    unit: str
    inputs: Callable[[np.random.Generator], dict]
    exact: Callable[..., tuple]
    ours: Callable[..., tuple]
    torch: Callable[..., tuple] | None  # takes torch first
    terms: Callable[..., tuple] | None = None  # Σ |terms| of each output

    def errors(self, rng: np.random.Generator, torch=None) -> list[float]:
        """The worst error of each output, of this library or of `torch`."""
        inputs = self.inputs(rng)
        given = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in inputs.items()}
        got = self.ours(**given) if torch is None else self.torch(torch, **_tensors(torch, given))
        with np.errstate(all="ignore"):
            exact = self.exact(**{name: _wide(value) for name, value in inputs.items()})
            scales = self.terms(**{name: _wide(value) for name, value in inputs.items()}) if self.terms else exact
        return [
            _error(self.unit, *(np.asarray(each, np.float64) for each in of_output))
            for of_output in zip(got, exact, scales, strict=True)
        ]


def _wide(value):
    return value.astype(np.float64) if isinstance(value, np.ndarray) and value.dtype == np.float32 else value


def _tensors(torch, values: dict) -> dict:
    return {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in values.items()}


def _error(unit: str, got, exact, scale) -> float:
    if unit == "ulp":
        unit_size = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    elif unit == "terms":
        unit_size = EPS * np.abs(scale)
    else:
        unit_size = np.full(exact.shape, EPS * np.abs(exact).max())
    difference = np.abs(got.reshape(exact.shape) - exact)
    return float(np.max(np.divide(difference, unit_size, where=difference > 0, out=np.zeros(exact.shape))))


# -- element by element ---------------------------------------------------------------------------------------

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _points(rng, n: int = 200_000) -> dict:
    """x over all magnitudes, and where activations bend; dout of either sign."""
    wide = rng.choice((-1, 1), n) * 2.0 ** rng.uniform(-30, 6.4, n)
    x = np.concatenate([wide, rng.uniform(-12, 12, n), [0.0, -0.0]]).astype(np.float32)
    return {"x": x, "dout": rng.standard_normal(x.shape).astype(np.float32)}


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


_FORMULAS: dict[str, tuple[Callable, Callable]] = {  # value, derivative
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.25 * x), lambda x: np.where(x > 0, 1, 0.25)),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "tanh": (np.tanh, lambda x: 4 * _sigmoid(2 * x) * _sigmoid(-2 * x)),
    "gelu": (
        lambda x: x * _erfc(-x / math.sqrt(2)) / 2,
        lambda x: _erfc(-x / math.sqrt(2)) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "silu": (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
}


def _activation_cases() -> Iterator[Case]:
    for name, (value, slope) in _FORMULAS.items():
        more = {"negative_slope": 0.25} if name == "leaky_relu" else {}
        forward, backward = getattr(cnn_ext, f"{name}_forward"), getattr(cnn_ext, f"{name}_backward")

        def torch_forward(torch, x, name=name, more=more):
            return getattr(torch, name, None) or getattr(torch.nn.functional, name), x, more

        def torch_value(torch, x, dout, call=torch_forward):
            function, x, more = call(torch, x)
            return (function(x, **more),)

        def torch_gradient(torch, x, dout, call=torch_forward):
            function, x, more = call(torch, x.requires_grad_())
            function(x, **more).backward(dout)
            return (x.grad,)

        yield Case(  # GELU's far left tail, of |x|: its values are lost to float32 there
            f"{name} forward",
            ("out",),
            "terms" if name == "gelu" else "ulp",
            _points,
            lambda x, dout, value=value: (value(x),),
            lambda x, dout, forward=forward, more=more: (forward(x, **more),),
            torch_value,
            (lambda x, dout: (x,)) if name == "gelu" else None,
        )
        yield Case(  # of |dout|: where the derivative is all but 0 only its size matters
            f"{name} backward",
            ("dx",),
            "terms",
            _points,
            lambda x, dout, slope=slope: (dout * slope(x),),
            lambda x, dout, backward=backward, more=more: (backward(dout, x, **more),),
            torch_gradient,
            lambda x, dout: (dout,),
        )


# -- sums -----------------------------------------------------------------------------------------------------


def _normal(rng, *shape) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _absolute(function: Callable) -> Callable:
    """Σ |terms|: the same sums of absolute values."""
    return lambda **inputs: function(
        **{k: np.abs(v) if isinstance(v, np.ndarray) else v for k, v in inputs.items()}
    )


def _linear(ops, x, weight, bias, dout) -> tuple:
    return ops.linear_forward(x, weight, bias), *ops.linear_backward(dout, x, weight)


def _torch_linear(torch, x, weight, bias, dout) -> tuple:
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    out = torch.nn.functional.linear(x, weight.T, bias)
    out.backward(dout)
    return out.detach(), *(t.grad for t in leaves)


def _linear_cases(n: int, d: int, f: int) -> Iterator[Case]:
    def inputs(rng):
        x, weight, bias, dout = _normal(rng, n, d), _normal(rng, d, f), _normal(rng, f), _normal(rng, n, f)
        return {"x": x, "weight": weight, "bias": bias, "dout": dout}

    def exact(**inputs):
        return _linear(reference, **inputs)

    for name, ours in (
        ("linear", lambda **inputs: _linear(cnn_ext, **inputs)),
        ("engine's linear", lambda **inputs: _by_engine(pynn.Linear(d, f), **inputs)),
    ):
        outputs = ("out", "dx", "dweight", "dbias")
        yield Case(
            f"{name}, ({n}, {d}) to {f}", outputs, "terms", inputs, exact, ours, _torch_linear, _absolute(exact)
        )


def _convolution(ops, x, weight, bias, dout, geometry) -> tuple:
    return (
        ops.conv2d_forward(x, weight, bias, **geometry),
        *ops.conv2d_backward(dout, x, weight, **geometry),
    )


class AccuracyProbe(pynn.Module):
    """Gives x on, so that the layer after it is not the first, and keeps the gradient that comes back."""

    def __init__(self):
        self.weight = pynn.Parameter(np.zeros(1, np.float32))  # to be worth a gradient

    def forward(self, x, *, training=False):
        return x

    def backward(self, dout, *, input_grad=True):
        self.gradient = dout.copy()
        return dout


def _by_engine(layer: pynn.Module, x, dout, **values) -> tuple:
    """(out, dx, gradients of the values) of a layer in the engine that `Solver` trains with."""
    for name, value in values.items():
        getattr(layer, name).data[...] = value
    probe = AccuracyProbe()
    trainer = pynn.engine.Trainer(pynn.Sequential(probe, layer))
    out = trainer.forward(x).copy()
    trainer.backward(dout)
    return out, probe.gradient, *(getattr(layer, name).grad for name in values)


def _torch_convolution(torch, x, weight, bias, dout, geometry) -> tuple:
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    out = torch.nn.functional.conv2d(x, weight, bias, **geometry)
    out.backward(dout)
    return out.detach(), *(t.grad for t in leaves)


def _convolution_cases(name: str, shape, filters: int, kernel: int, **geometry) -> Iterator[Case]:
    n, c, h, w = shape
    out_shape = pynn.Conv2d(c, filters, kernel, **geometry).output_shape((c, h, w))

    def inputs(rng):
        return {
            "x": _normal(rng, *shape),
            "weight": _normal(rng, filters, c, kernel, kernel),
            "bias": _normal(rng, filters),
            "dout": _normal(rng, n, *out_shape),
            "geometry": geometry,
        }

    def exact(**inputs):
        return _convolution(reference, **inputs)

    yield Case(
        f"conv2d, {name}",
        ("out", "dx", "dweight", "dbias"),
        "terms",
        inputs,
        exact,
        lambda **inputs: _convolution(cnn_ext, **inputs),
        _torch_convolution,
        _absolute(exact),
    )
    yield Case(
        f"engine's conv2d, {name}",
        ("out", "dx", "dweight", "dbias"),
        "terms",
        inputs,
        exact,
        lambda geometry, **inputs: _by_engine(pynn.Conv2d(c, filters, kernel, **geometry), **inputs),
        _torch_convolution,
        _absolute(exact),
    )


# -- pools and batch norm -------------------------------------------------------------------------------------


def _avg_pool(ops, x, dout) -> tuple:
    return (
        ops.avg_pool2d_forward(x, (3, 2), stride=(2, 1), padding=(1, 1)),
        ops.avg_pool2d_backward(dout, x.shape, (3, 2), stride=(2, 1), padding=(1, 1)),
    )


def _max_pool(ops, x, dout) -> tuple:
    out, argmax = ops.max_pool2d_forward(x, (3, 2), stride=(2, 1), padding=(1, 1))
    return out, ops.max_pool2d_backward(dout, argmax, x.shape, (3, 2), stride=(2, 1), padding=(1, 1))


def _torch_pool(function: str) -> Callable:
    def pool(torch, x, dout):
        x.requires_grad_()
        out = getattr(torch.nn.functional, function)(x, (3, 2), stride=(2, 1), padding=(1, 1))
        out.backward(dout)
        return out.detach(), x.grad

    return pool


def _pool_case(name: str, pool: Callable) -> Case:
    def exact(**inputs):
        return pool(reference, **inputs)

    def terms(x, dout):  # of a maximum, the one value; |x| would have another
        out, _ = exact(x=x if pool is _max_pool else np.abs(x), dout=dout)
        return out, exact(x=x, dout=np.abs(dout))[1]

    return Case(
        f"{name.replace('_', ' ')} 3×2",
        ("out", "dx"),
        "terms",
        lambda rng: {"x": _normal(rng, 3, 5, 11, 9), "dout": _normal(rng, 3, 5, 6, 10)},
        exact,
        lambda **inputs: pool(cnn_ext, **inputs),
        _torch_pool(f"{name}2d"),
        terms,
    )


def _batch_norm(ops, x, weight, bias, dout) -> tuple:
    out, mean, var = ops.batch_norm_forward(x, weight, bias)
    return out, mean, var, *ops.batch_norm_backward(dout, x, weight, mean, var)


def _torch_batch_norm(torch, x, weight, bias, dout) -> tuple:
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    mean, var = torch.zeros(len(bias)), torch.zeros(len(bias))
    out = torch.nn.functional.batch_norm(x, mean, var, weight, bias, training=True, momentum=1.0)
    out.backward(dout)
    m = x.numel() / len(bias)
    return out.detach(), mean, var * (m - 1) / m, *(t.grad for t in leaves)


def _engine_batch_norm(x, weight, bias, dout) -> tuple:
    return _by_engine(pynn.BatchNorm2d(len(bias)), x, dout, weight=weight, bias=bias)


def _batch_norm_cases(offset: float) -> Iterator[Case]:
    def inputs(rng):
        x = _normal(rng, 20, 6, 9, 7) + np.float32(offset)
        return {"x": x, "weight": _normal(rng, 6), "bias": _normal(rng, 6), "dout": _normal(rng, 20, 6, 9, 7)}

    def exact(**inputs):
        return _batch_norm(reference, **inputs)

    def seen(values):
        return values[0], *values[3:]

    name, outputs = f"batch norm, inputs around {offset:g}", ("out", "mean", "var", "dx", "dweight", "dbias")
    yield Case(
        *(name, outputs, "largest", inputs, exact),
        *(lambda **inputs: _batch_norm(cnn_ext, **inputs), _torch_batch_norm),
    )
    yield Case(
        *(f"engine's {name}", seen(outputs), "largest", inputs, lambda **inputs: seen(exact(**inputs))),
        *(_engine_batch_norm, lambda torch, **inputs: seen(_torch_batch_norm(torch, **inputs))),
    )


# -- losses ---------------------------------------------------------------------------------------------------


def _softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _cross_entropy(scores, y, smoothing: float) -> tuple:
    k = scores.shape[1]
    q = (1 - smoothing) * np.eye(k)[y] + smoothing / k
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(q * log_p).sum() / len(y), (_softmax(scores) - q) / len(y)


def _torch_loss(call: Callable) -> Callable:
    def loss(torch, scores, y):
        scores.requires_grad_()
        value = call(torch, scores, y)
        value.backward()
        return value.detach(), scores.grad

    return loss


def _loss_cases() -> Iterator[Case]:
    def scored(rng, k=10):
        return {"scores": 5 * _normal(rng, 300, k), "y": rng.integers(0, k, 300)}

    def binary(rng):
        return {"scores": 5 * _normal(rng, 300), "y": rng.integers(0, 2, 300)}

    def margins(scores, y):
        sign = 2 * y - 1
        return sign, sign * scores

    def logistic(scores, y):
        sign, m = margins(scores, y)
        return np.logaddexp(0, -m).mean(), -sign * _sigmoid(-m) / len(y)

    def hinge(scores, y):
        sign, m = margins(scores, y)
        return np.maximum(0, 1 - m).mean(), -sign * (m < 1) / len(y)

    def squared_hinge(scores, y):
        sign, m = margins(scores, y)
        return (np.maximum(0, 1 - m) ** 2).mean(), -2 * sign * np.maximum(0, 1 - m) / len(y)

    def multi_hinge(scores, y):
        rows = np.arange(len(y))
        over = np.maximum(0, scores - scores[rows, y][:, None] + 1)
        over[rows, y] = 0
        gradient = (over > 0) / len(y)
        gradient[rows, y] = -gradient.sum(axis=1)
        return over.sum() / len(y), gradient

    def squares(scores, y):
        return ((scores - y) ** 2).mean(), 2 * (scores - y) / scores.size

    for name, inputs, exact, ours, torch in (
        *(
            (
                f"cross-entropy, label smoothing {smoothing:g}",
                scored,
                lambda scores, y, smoothing=smoothing: _cross_entropy(scores, y, smoothing),
                pynn.CrossEntropyLoss(smoothing),
                lambda torch, s, y, smoothing=smoothing: torch.nn.functional.cross_entropy(
                    s, y, label_smoothing=smoothing
                ),
            )
            for smoothing in (0.0, 0.1)
        ),
        (
            *("logistic loss", binary, logistic, pynn.LogisticLoss()),
            lambda torch, s, y: torch.nn.functional.binary_cross_entropy_with_logits(s, y.float()),
        ),
        (
            *("hinge loss", binary, hinge, pynn.HingeLoss()),
            lambda torch, s, y: torch.relu(1 - (2 * y - 1) * s).mean(),
        ),
        (
            *("squared hinge loss", binary, squared_hinge, pynn.SquaredHingeLoss()),
            lambda torch, s, y: (torch.relu(1 - (2 * y - 1) * s) ** 2).mean(),
        ),
        (
            *("multi-class hinge loss", scored, multi_hinge, pynn.MultiClassHingeLoss()),
            lambda torch, s, y: s.shape[1] * torch.nn.functional.multi_margin_loss(s, y),
        ),
        (
            *("mean squared error", lambda rng: {"scores": _normal(rng, 300, 4), "y": _normal(rng, 300, 4)}),
            *(squares, pynn.MSELoss(), lambda torch, s, y: torch.nn.functional.mse_loss(s, y)),
        ),
    ):
        yield Case(
            name,
            ("loss", "dscores"),
            "largest",
            inputs,
            exact,
            lambda scores, y, ours=ours: ours(scores, y),
            _torch_loss(torch),
        )


# -- updates --------------------------------------------------------------------------------------------------


def _update_inputs(rng) -> dict:
    n = 5000
    return {
        "param": _normal(rng, n),
        "grad": _normal(rng, n),
        "m": 0.1 * _normal(rng, n),
        "v": 0.1 * np.abs(_normal(rng, n)),
    }


def _sgd(param, grad, m, v):
    g = grad + 0.01 * param
    velocity = 0.9 * m + g
    return param - 0.1 * (g + 0.9 * velocity), velocity


def _ours_sgd(param, grad, m, v):
    cnn_ext.sgd_update(param, grad, m, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    return param, m


def _adam(decoupled: bool) -> Callable:
    def adam(param, grad, m, v):
        g = grad + (0 if decoupled else 0.01) * param
        param = param * (1 - 1e-3 * 0.01) if decoupled else param
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        return param - 1e-3 * (m / (1 - 0.9**7)) / (np.sqrt(v / (1 - 0.999**7)) + 1e-8), m, v

    return adam


def _ours_adam(decoupled: bool) -> Callable:
    def adam(param, grad, m, v):
        options = {"step": 7, "lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}
        cnn_ext.adam_update(param, grad, m, v, decoupled=decoupled, **options)
        return param, m, v

    return adam


def _rmsprop(param, grad, m, v):
    g = grad + 0.01 * param
    v = 0.99 * v + 0.01 * g * g
    return param - 0.01 * g / (np.sqrt(v) + 1e-8), v


def _ours_rmsprop(param, grad, m, v):
    cnn_ext.rmsprop_update(param, grad, v, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0.01)
    return param, v


def _torch_update(name: str, states: dict[str, str], **options) -> Callable:
    """A step of PyTorch's optimizer from the given state; `states` says which of ours is which of its."""

    def update(torch, param, grad, **ours):
        parameter = torch.nn.Parameter(param)
        parameter.grad = grad
        optimizer = getattr(torch.optim, name)([parameter], **options)
        optimizer.state[parameter] = {its: ours[own] for own, its in states.items()}
        if name != "SGD":
            optimizer.state[parameter]["step"] = torch.tensor(6.0)
        optimizer.step()
        return parameter.detach(), *(optimizer.state[parameter][its] for its in states.values())

    return update


def _update_cases() -> Iterator[Case]:
    decay = {"weight_decay": 0.01}
    moments = {"m": "exp_avg", "v": "exp_avg_sq"}
    for name, outputs, exact, ours, torch in (
        (
            *("SGD, Nesterov", ("param", "velocity"), _sgd, _ours_sgd),
            _torch_update("SGD", {"m": "momentum_buffer"}, lr=0.1, momentum=0.9, nesterov=True, **decay),
        ),
        (
            *("RMSProp", ("param", "square_avg"), _rmsprop, _ours_rmsprop),
            _torch_update("RMSprop", {"v": "square_avg"}, lr=0.01, alpha=0.99, eps=1e-8, **decay),
        ),
        *(
            (
                *(name, ("param", "m", "v"), _adam(name == "AdamW"), _ours_adam(name == "AdamW")),
                _torch_update(name, moments, lr=1e-3, **decay),
            )
            for name in ("Adam", "AdamW")
        ),
    ):
        yield Case(f"update of {name}", outputs, "largest", _update_inputs, exact, ours, torch)


def cases() -> list[Case]:
    return [
        *_activation_cases(),
        *_linear_cases(40, 784, 100),
        *_linear_cases(300, 37, 11),
        *_convolution_cases("5×5, 3 to 16 channels", (24, 3, 14, 13), 16, 5),
        *_convolution_cases("3×3 (Winograd in the engine), 32 to 32", (24, 32, 16, 16), 32, 3, padding=1),
        *_convolution_cases("3×3, stride 2, dilation 2", (13, 5, 15, 12), 7, 3, stride=2, padding=2, dilation=2),
        _pool_case("max_pool", _max_pool),
        _pool_case("avg_pool", _avg_pool),
        *_batch_norm_cases(0.0),
        *_batch_norm_cases(100.0),
        *_loss_cases(),
        *_update_cases(),
    ]
