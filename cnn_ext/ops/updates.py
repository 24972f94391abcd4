"""In-place parameter updates: checks and the step's coefficients, then one kernel call each.

`Updates` binds the arrays of many parameters once, for one kernel call a step; the functions update one parameter.

All arrays have the shape and dtype (float32 or float64) of their `param`. They are used where they lie, so they
must be NumPy arrays, C-contiguous, writable where they are written, and apart from each other; a function's `grad`
may have any memory order. The formulas, and the words for their letters, are PyTorch's. ValueError is raised for
shapes, memory and numbers out of range, TypeError for dtypes and types; nothing is written then.
"""

from collections.abc import Iterable
from itertools import pairwise
from numbers import Integral

import numpy as np

from cnn_ext._checks import number, real_array, require_shape
from cnn_ext.isa import kernels
from cnn_ext.threads import threads_for

__all__ = ["Updates", "adam_update", "rmsprop_update", "sgd_update"]

_LARGEST = float(np.finfo(np.float32).max)


class Updates:
    """Parameters with their gradients and states, bound where they lie: each method is one step of all of them.

    rows : (param, grad, *states) of each parameter, all of one dtype, and as many states as the method needs: none
    for `sgd` without momentum, one for `sgd` with momentum and for `rmsprop`, two for `adam`. The methods take the
    numbers of `sgd_update`, `rmsprop_update` and `adam_update`, and give the same bits.
    """

    def __init__(self, rows: Iterable[tuple[np.ndarray, ...]]):
        op, names = "Updates", ("param", "grad", "state 0", "state 1")
        named = [
            {f"{name} of row {i}": array for name, array in zip(names, row, strict=False)}
            for i, row in enumerate(rows)
        ]
        if not named or not all(len(row) in {2, 3, 4} and len(row) == len(named[0]) for row in named):
            raise ValueError(
                f"{op}: expected rows of param, grad and up to two states, all rows with as many as the first"
            )
        for row in named:
            for name, array in row.items():
                _require_in_place(op, name, array, written=not name.startswith("grad"))
        self._table = _table(op, named)

    def sgd(self, *, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
        """One step of `sgd_update`."""
        op = "sgd_update"
        lr, weight_decay = number(op, "lr", lr, low=0), number(op, "weight_decay", weight_decay, low=0)
        momentum = number(op, "momentum", momentum, low=0)
        if (self._table.n_states == 0) != (momentum == 0):
            raise ValueError(f"{op}: velocity must be None exactly where momentum is 0, got momentum {momentum:g}")
        if nesterov and momentum == 0:
            raise ValueError(f"{op}: nesterov needs a momentum greater than 0")
        self._require_finite(op, lr=lr, momentum=momentum, weight_decay=weight_decay)
        threads = threads_for(self._table.size)
        if momentum:
            kernels.momentum_update(self._table, lr, momentum, bool(nesterov), weight_decay, threads)
        else:
            kernels.sgd_update(self._table, lr, weight_decay, threads)

    def rmsprop(self, *, lr: float, alpha: float, eps: float, weight_decay: float) -> None:
        """One step of `rmsprop_update`."""
        op = "rmsprop_update"
        lr, weight_decay = number(op, "lr", lr, low=0), number(op, "weight_decay", weight_decay, low=0)
        alpha, eps = number(op, "alpha", alpha, low=0, high=1), number(op, "eps", eps, low=0)
        self._require_finite(op, lr=lr, eps=eps, weight_decay=weight_decay)
        kernels.rmsprop_update(self._table, lr, alpha, eps, weight_decay, threads_for(self._table.size))

    def adam(
        self,
        *,
        step: int,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: bool,
    ) -> None:
        """One step of `adam_update`."""
        op = "adam_update"
        if isinstance(step, bool) or not isinstance(step, Integral):
            raise TypeError(f"{op}: step must be an int, got {type(step).__name__} {step!r:.60}")
        if not 1 <= step < 2**63:
            raise ValueError(f"{op}: step counts from 1, got {step!r:.60}")
        lr, weight_decay = number(op, "lr", lr, low=0), number(op, "weight_decay", weight_decay, low=0)
        beta1, beta2 = number(op, "beta1", beta1, low=0, high=1), number(op, "beta2", beta2, low=0, high=1)
        eps = number(op, "eps", eps, low=0)
        decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
        step_size, root = lr / (1 - beta1 ** int(step)), (1 - beta2 ** int(step)) ** 0.5
        self._require_finite(op, lr=lr, eps=eps, weight_decay=weight_decay)
        self._require_finite(op, **{"lr / (1 - beta1^step)": step_size, "1 - lr · weight_decay": shrink})
        kernels.adam_update(
            self._table, decay, shrink, beta1, beta2, step_size, root, eps, threads_for(self._table.size)
        )

    def _require_finite(self, op: str, **coefficients: float) -> None:
        """Refuses coefficients that the arrays' dtype cannot hold."""
        for name, value in coefficients.items():
            if not (self._table.double_precision or abs(value) <= _LARGEST):
                raise ValueError(f"{op}: {name} must be at most {_LARGEST:.2g} for float32 arrays, got {value:g}")


def _require_in_place(op: str, name: str, array, written: bool) -> None:
    """Refuses what cannot be used where it lies."""
    use = "written" if written else "read"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{op}: {name} is {use} in place and must be a NumPy array, got {type(array).__name__}")
    if not array.flags.c_contiguous or not array.flags.aligned:
        raise ValueError(f"{op}: {name} is {use} in place and must be C-contiguous: pass a contiguous copy")
    if written and not array.flags.writeable:
        raise ValueError(f"{op}: {name} is written in place and must be writable: pass a copy")


def _table(op: str, rows: list[dict[str, np.ndarray]]) -> kernels.UpdateTable:
    """The rows as the kernels take them, flat, once all is known to fit."""
    dtype = next(iter(rows[0].values())).dtype
    spans: list[tuple[int, int, int, str]] = []  # first byte, the one after the last, order, name
    flat = []
    for row in rows:
        first, *others = (real_array(op, name, array, "any", dtype=dtype) for name, array in row.items())
        for name, array in zip(list(row)[1:], others, strict=True):
            require_shape(op, name, array, first.shape)
        for name, array in zip(row, (first, *others), strict=True):
            start = array.__array_interface__["data"][0]
            spans.append((start, start + array.nbytes, len(spans), name))
        flat.append(tuple(array.reshape(-1) for array in (first, *others)))
    spans.sort()
    for one, other in pairwise(spans):
        if other[0] < one[1]:
            names = [name for _, _, _, name in sorted((one, other), key=lambda span: span[2])]
            raise ValueError(f"{op}: {names[0]} and {names[1]} must not share memory: pass a copy of one")
    return kernels.UpdateTable(flat, dtype == np.float64)


def _single(op: str, param, grad, **states) -> Updates:
    """The Updates of one parameter."""
    for name, array in {"param": param, **states}.items():
        _require_in_place(op, name, array, written=True)
    param = real_array(op, "param", param, "any")
    grad = real_array(op, "grad", grad, "the shape of param", dtype=param.dtype)
    updates = Updates.__new__(Updates)
    updates._table = _table(op, [{"param": param, "grad": grad, **states}])
    return updates


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
    states = {} if velocity is None else {"velocity": velocity}
    updates = _single("sgd_update", param, grad, **states)
    updates.sgd(lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


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
    updates = _single("rmsprop_update", param, grad, square_avg=square_avg)
    updates.rmsprop(lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay)


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
    updates = _single("adam_update", param, grad, m=m, v=v)
    updates.adam(
        step=step, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay, decoupled=decoupled
    )
