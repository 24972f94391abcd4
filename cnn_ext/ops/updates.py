"""In-place parameter updates: checks and the step's coefficients, then one kernel call each.

All arrays have the shape and dtype (float32 or float64) of `param`. `param` and the state arrays are written in
place, so they must be NumPy arrays, writable, C-contiguous, and apart from each other and from `grad`; `grad` may
have any memory order. The formulas, and the words for their letters, are PyTorch's. ValueError is raised for
shapes, memory and numbers out of range, TypeError for dtypes and types; nothing is written then.
"""

from itertools import combinations
from numbers import Integral

import numpy as np

from cnn_ext._checks import number, real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for

__all__ = ["adam_update", "rmsprop_update", "sgd_update"]


def _flat(op, param, grad, **state):
    """param, grad and the state arrays as flat views, all checked."""
    arrays = {}
    for name, array in {"param": param, **state}.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"{op}: {name} is written in place and must be a NumPy array, got {type(array).__name__}"
            )
        if not array.flags.c_contiguous or not array.flags.aligned:
            raise ValueError(f"{op}: {name} is written in place and must be C-contiguous: pass a contiguous copy")
        if not array.flags.writeable:
            raise ValueError(f"{op}: {name} is written in place and must be writable: pass a copy")
        arrays[name] = real_array(op, name, array, "any", dtype=param.dtype)
        require_shape(op, name, array, param.shape)
    arrays["grad"] = real_array(op, "grad", grad, "the shape of param", dtype=param.dtype)
    require_shape(op, "grad", arrays["grad"], param.shape)
    for one, other in combinations(arrays, 2):
        if np.may_share_memory(arrays[one], arrays[other]):  # exact: all are contiguous by now
            raise ValueError(f"{op}: {one} and {other} must not share memory: pass a copy of one")
    grad = arrays.pop("grad")
    return [array.reshape(-1) for array in (arrays.pop("param"), grad, *arrays.values())]


def sgd_update(
    param: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """One step of stochastic gradient descent, with momentum u (`velocity`, zeros before the first step).

    g = grad + weight_decay · param;   u ← momentum · u + g;
    param ← param − lr · (g + momentum · u if nesterov else u)

    Without momentum, `velocity` is None and param ← param − lr · g. `nesterov` needs momentum.
    Source: Sutskever et al. 2013 in PyTorch's form, where lr multiplies the velocity rather than the gradient.
    """
    op = "sgd_update"
    lr, weight_decay = number(op, "lr", lr, low=0), number(op, "weight_decay", weight_decay, low=0)
    momentum = number(op, "momentum", momentum, low=0)
    if (velocity is None) != (momentum == 0):
        raise ValueError(f"{op}: velocity must be None exactly where momentum is 0, got momentum {momentum:g}")
    if nesterov and momentum == 0:
        raise ValueError(f"{op}: nesterov needs a momentum greater than 0")
    if velocity is None:
        param, grad = _flat(op, param, grad)
        kernels.sgd_update(param, grad, lr, weight_decay, threads_for(param.size))
    else:
        param, grad, velocity = _flat(op, param, grad, velocity=velocity)
        kernels.momentum_update(
            param, grad, velocity, lr, momentum, bool(nesterov), weight_decay, threads_for(param.size)
        )


def rmsprop_update(
    param: np.ndarray,
    grad: np.ndarray,
    square_avg: np.ndarray,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> None:
    """One step of RMSProp, with the running mean of squares s (`square_avg`, zeros before the first step).

    g = grad + weight_decay · param;   s ← alpha · s + (1 − alpha) · g²;   param ← param − lr · g / (√s + eps)

    Source: Hinton's lecture 6e; eps outside the root, as PyTorch.
    """
    op = "rmsprop_update"
    lr, weight_decay = number(op, "lr", lr, low=0), number(op, "weight_decay", weight_decay, low=0)
    alpha, eps = number(op, "alpha", alpha, low=0, high=1), number(op, "eps", eps, low=0)
    param, grad, square_avg = _flat(op, param, grad, square_avg=square_avg)
    kernels.rmsprop_update(param, grad, square_avg, lr, alpha, eps, weight_decay, threads_for(param.size))


def adam_update(
    param: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    """Step number `step` = 1, 2, … of Adam, or of AdamW where `decoupled`; m and v are zeros before the first.

    g = grad + weight_decay · param, or where decoupled: g = grad, param ← (1 − lr · weight_decay) · param;
    m ← beta1 · m + (1 − beta1) · g;   v ← beta2 · v + (1 − beta2) · g²;
    param ← param − lr · m̂ / (√v̂ + eps) with m̂ = m / (1 − beta1^step), v̂ = v / (1 − beta2^step)

    Source: Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2, with PyTorch's decay lr · λ.
    """
    op = "adam_update"
    if isinstance(step, bool) or not isinstance(step, Integral):
        raise TypeError(f"{op}: step must be an int, got {type(step).__name__} {step!r}")
    if step < 1:
        raise ValueError(f"{op}: step counts from 1, got {step}")
    lr, weight_decay = number(op, "lr", lr, low=0), number(op, "weight_decay", weight_decay, low=0)
    beta1, beta2 = number(op, "beta1", beta1, low=0, high=1), number(op, "beta2", beta2, low=0, high=1)
    eps = number(op, "eps", eps, low=0)
    param, grad, m, v = _flat(op, param, grad, m=m, v=v)
    decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    step_size, root = lr / (1 - beta1 ** int(step)), (1 - beta2 ** int(step)) ** 0.5
    kernels.adam_update(
        param, grad, m, v, decay, shrink, beta1, beta2, step_size, root, eps, threads_for(param.size)
    )
