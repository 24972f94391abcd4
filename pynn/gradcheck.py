"""Owns the proof that `backward` is the gradient of `forward`: central differences in float64, faults located.

For a scalar L of an array θ, entry by entry:  ∂L/∂θᵢ = (L(θᵢ + ε) − L(θᵢ − ε)) / 2ε + O(ε²).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pynn.module import Module
from pynn.values import as_array, as_float, is_integer, is_number, shown

__all__ = ["GradientError", "gradcheck", "gradcheck_loss", "gradcheck_model"]

EPS = 1e-5  # near the cube root of float64's precision, where truncation and rounding balance
REFINED = 1e-2  # the second step, as a part of the first: tells a kink from a wrong gradient
SMALLEST = 1e-15  # of a step or a tolerance: below, there are no digits to compare
ROUNDING = 1e-14  # relative error of one output in float64, after a few layers


class GradientError(ValueError):
    """A gradient that is wrong, or that cannot be checked.

    `layer`: path and type, as "3.body.0 Conv2d"; `name`: "x", "scores" or the parameter; `index`, `analytic`,
    `numeric`: the entry and its two values, None where the array as a whole is at fault.
    """

    def __init__(self, layer: str, name: str, problem: str, index=None, analytic=None, numeric=None):
        super().__init__(layer, name, problem, index, analytic, numeric)
        self.layer, self.name, self.problem = layer, name, problem
        self.index, self.analytic, self.numeric = index, analytic, numeric

    def __str__(self) -> str:
        if self.index is None:
            return f"[{self.layer}] {self.name}: {self.problem}"
        return (
            f"[{self.layer}] ∂L/∂{self.name} at {self.index}: backward gives {self.analytic:.10g}, "
            f"central differences give {self.numeric:.10g}: {self.problem}"
        )


def gradcheck(
    module: Module,
    x: np.ndarray,
    *,
    eps: float = EPS,
    tolerance: float = 1e-6,
    max_entries: int | None = None,
    rng: np.random.Generator | None = None,
) -> float:
    """Checks ∂L/∂x and ∂L/∂θ of every parameter θ, for L = Σ g · module(x) with a random upstream gradient g.

    Works in training mode on a float64 copy; the masks of dropout (whatever a module's `rng` draws) stay the same
    throughout. `eps`: the step ε; `tolerance`: the largest error allowed, relative to the largest entry of an
    array's gradient; `max_entries`: check a random sample of each array, None: all of it; `rng`: draws g and the
    samples. An entry that fails only because a corner, as ReLU's, lies within ±ε passes with a step of ε/100.

    Parameters that are not trained are passed over.

    Returns the largest relative error. Raises GradientError that names layer, parameter and index: where the
    whole fails, each module in it is checked by itself on the input that it had, innermost first.
    """
    return _check(module, x, None, _Settings(eps, tolerance, max_entries, rng))


def gradcheck_model(
    model: Module,
    loss: Callable,
    x: np.ndarray,
    y: np.ndarray,
    *,
    eps: float = EPS,
    tolerance: float = 1e-6,
    max_entries: int | None = None,
    rng: np.random.Generator | None = None,
) -> float:
    """As `gradcheck`, for L of `L, dscores = loss(model(x), y)`, in training mode; the loss is checked first."""
    settings = _Settings(eps, tolerance, max_entries, rng)
    _require("model", model)
    scores = model.astype(np.float64).forward(_real("x", x), training=True)
    worst = _check_loss(loss, scores, y, settings)
    return max(worst, _check(model, x, lambda scores: loss(scores, y), settings))


def gradcheck_loss(
    loss: Callable,
    scores: np.ndarray,
    y: np.ndarray,
    *,
    eps: float = EPS,
    tolerance: float = 1e-6,
    max_entries: int | None = None,
    rng: np.random.Generator | None = None,
) -> float:
    """Checks dscores of `L, dscores = loss(scores, y)`; arguments, result and errors as for `gradcheck`."""
    return _check_loss(loss, scores, y, _Settings(eps, tolerance, max_entries, rng))


class _Settings:
    """How to check: step, tolerance, entries, generator."""

    def __init__(self, eps, tolerance, max_entries, rng):
        for name, value in (("eps", eps), ("tolerance", tolerance)):
            if not is_number(value) or not SMALLEST <= as_float(value) <= 1:
                raise ValueError(f"gradcheck: {name} must be a number from {SMALLEST} to 1, got {shown(value)}")
        if max_entries is not None and (not is_integer(max_entries) or max_entries < 1):
            raise ValueError(f"gradcheck: max_entries must be an int from 1 up or None, got {shown(max_entries)}")
        if not isinstance(rng, np.random.Generator | None):
            raise TypeError(f"gradcheck: rng must be a numpy Generator or None, got {shown(rng)}")
        self.eps, self.tolerance, self.max_entries = float(eps), float(tolerance), max_entries
        self.rng = np.random.default_rng() if rng is None else rng


def _real(name: str, array) -> np.ndarray:
    """A copy of `array` in float64, whose entries are then moved."""
    given = as_array("gradcheck:", name, array)
    if given.dtype.kind not in "biuf":
        raise TypeError(f"gradcheck: expected {name} to be an array of numbers, got {shown(array)}")
    with np.errstate(over="ignore"):  # of a wider dtype
        array = np.array(given, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"gradcheck: expected {name} to be finite and not empty, got an array of shape {array.shape}"
        )
    return array


def _require(name: str, module) -> None:
    if not isinstance(module, Module):
        raise TypeError(f"gradcheck: expected {name} to be a Module, got {shown(module)}")


def _check_loss(loss, scores, y, settings) -> float:
    if not callable(loss) or isinstance(loss, type | Module):
        raise TypeError(f"gradcheck: expected a loss, as CrossEntropyLoss(), got {shown(loss)}")
    scores = _real("scores", scores)
    dscores = loss(scores, y)[1]
    compare = _Comparison(type(loss).__name__, lambda: np.asarray(loss(scores, y)[0]), np.ones(()), settings)
    return compare("scores", scores, dscores)


def _check(module, x, loss, settings) -> float:
    _require("module", module)
    twin, x = module.astype(np.float64), _real("x", x)
    try:
        return _check_one(twin, type(module).__name__, x, loss, settings)
    except GradientError:
        for path, inner, seen in _calls(twin, x):
            _check_one(inner, f"{path} {type(inner).__name__}", seen, None, settings)
        raise  # all parts are right by themselves: the fault lies in what joins them


def _check_one(module, label, x, loss, settings) -> float:
    """`gradcheck` of a float64 module as a whole."""
    forward = _frozen(module)
    out = forward(x)
    dout = settings.rng.standard_normal(out.shape) if loss is None else loss(out)[1]
    parameters = {path: parameter for path, parameter in module.named_parameters() if parameter.requires_grad}
    for parameter in parameters.values():
        parameter.grad[...] = 1  # so that a backward that overwrites instead of adding is found
    dx = module.backward(dout)
    if loss is None:
        compare = _Comparison(label, lambda: forward(x), dout, settings)
    else:
        compare = _Comparison(label, lambda: np.asarray(loss(forward(x))[0]), np.ones(()), settings)
    worst = compare("x", x, dx)
    for name, parameter in parameters.items():
        worst = max(worst, compare(name, parameter.data, parameter.grad - 1, before=1))
    module.release()
    return worst


def _frozen(module: Module) -> Callable[[np.ndarray], np.ndarray]:
    """`module.forward` in training mode, with every generator put back to where it is now before each call."""
    generators = [getattr(inner, "rng", None) for _, inner in module.named_modules()]
    bits = [generator.bit_generator for generator in generators if isinstance(generator, np.random.Generator)]
    states = [generator.state for generator in bits]

    def forward(x):
        for generator, state in zip(bits, states, strict=True):
            generator.state = state
        return module.forward(x, training=True)

    return forward


def _calls(model: Module, x: np.ndarray) -> list[tuple[str, Module, np.ndarray]]:
    """(path, module, its input) of each module below `model`, in the order in which their forward passes end."""
    calls = []

    def recording(path, module):
        def recorded(x, *, training=False):
            out = type(module).forward(module, x, training=training)
            calls.append((path, module, x.copy()))
            return out

        return recorded

    below = [(path, module) for path, module in model.named_modules() if path]
    for path, module in below:
        vars(module)["forward"] = recording(path, module)
    _frozen(model)(x)
    for _, module in below:
        del vars(module)["forward"]
    return calls


class _Comparison:
    """Compares analytic gradients with central differences of L = Σ weights · evaluate()."""

    def __init__(self, label, evaluate, weights, settings):
        self.label, self.evaluate, self.weights, self.settings = label, evaluate, weights, settings
        here = evaluate().copy()  # which may be a view of what is moved
        if not np.isfinite(here).all():
            raise GradientError(label, "output", "it is not finite, so no gradient can be checked")
        if not np.array_equal(here, evaluate()):
            raise GradientError(
                label, "output", "it differs between two calls: draw random numbers from an attribute named rng"
            )
        self.rounding = ROUNDING * np.sqrt(np.sum((weights * here) ** 2))

    def difference(self, array, index, up, down) -> float:
        """(L(θᵢ + up) − L(θᵢ + down)) / (up − down); outputs that do not move bring in no rounding errors."""
        value = array[index]
        array[index] = high = value + up
        moved = self.evaluate().copy()
        array[index] = low = value + down
        moved = moved - self.evaluate()
        array[index] = value
        return float(np.sum(self.weights * moved) / (high - low))

    def __call__(self, name, array, analytic, before=0) -> float:
        """The largest relative error over the entries of `array`, which `evaluate` reads, or GradientError.

        `before`: what the gradient array held when `backward` was to add to it.
        """
        if np.shape(analytic) != array.shape:
            got = None if analytic is None else np.shape(analytic)
            raise GradientError(self.label, name, f"expected a gradient of shape {array.shape}, got {got}")
        eps, tolerance = self.settings.eps, self.settings.tolerance
        entries = np.arange(array.size)
        if self.settings.max_entries is not None and self.settings.max_entries < array.size:
            entries = self.settings.rng.choice(array.size, self.settings.max_entries, replace=False)
        indices = [tuple(map(int, np.unravel_index(entry, array.shape))) for entry in entries]
        analytic = np.array([float(analytic[index]) for index in indices])
        numeric = np.array([self.difference(array, index, eps, -eps) for index in indices])
        scale = max(np.abs(numeric).max(), self.rounding / eps / tolerance, np.finfo(float).tiny)
        for i in np.argsort(-np.abs(analytic - numeric)):
            if abs(analytic[i] - numeric[i]) <= tolerance * scale:
                break
            numeric[i] = self._refine(name, array, indices[i], analytic, numeric, i, scale, before)
        return float(np.abs(analytic - numeric).max() / scale)

    def _refine(self, name, array, index, analytic, numeric, i, scale, before) -> float:
        """The numeric value by a smaller step, if that agrees with the analytic one; else GradientError."""
        step = self.settings.eps * REFINED
        allowed = self.settings.tolerance * scale + self.rounding / step
        refined = self.difference(array, index, step, -step)
        if abs(analytic[i] - refined) <= allowed:
            return min(numeric[i], refined, key=lambda value: abs(analytic[i] - value))
        right, left = self.difference(array, index, step, 0), self.difference(array, index, 0, -step)
        if abs(right - left) > 1e-3 * scale + 4 * self.rounding / step:
            problem = (
                f"the function has a kink here, with slope {left:.6g} to the left and {right:.6g} to the right, "
                f"as ReLU at 0 or a tie in max-pooling: move {name} away from it"
            )
        elif before and abs(analytic[i] + before - numeric[i]) <= allowed:
            problem = "the gradient is overwritten: backward must add to grad"
        else:
            problem = "the gradient is wrong" + _common_factor(analytic, numeric, scale)
        raise GradientError(self.label, name, problem, index, float(analytic[i]), float(refined))


def _common_factor(analytic, numeric, scale) -> str:
    """Says so where all of the gradient is wrong by one factor."""
    large = np.abs(numeric) > 1e-2 * scale
    ratios = analytic[large] / numeric[large]
    if len(ratios) < 2 or np.ptp(ratios) > 1e-4 * np.abs(ratios).max():
        return ""
    return f", all of it by a factor of {ratios.mean():.6g}"
