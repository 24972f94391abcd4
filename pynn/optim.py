"""Owns the optimizers: how gradients change parameters. The formulas are PyTorch's; the loops are cnn_ext's.

Notation: θ parameter, g = ∂L/∂θ, λ weight_decay, η = lr × lr_factor. All operations are element by element.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from numbers import Real

import numpy as np

import cnn_ext
from pynn.module import Module, Parameter

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSProp", "clip_grad_norm", "decay_groups"]


class Optimizer(ABC):
    """The base of all optimizers: parameter groups, state, checks.

    params : Parameters, or groups `{"params": […], "lr": …, "weight_decay": …}`, of which `lr` and `weight_decay`
    may be left out and are then the constructor's. `groups` holds them as such dicts; a changed value counts from
    the next step on. Parameters keep their values but move: their `data` and `grad` become parts of two arrays for
    each group, and stay there. Raises ValueError or TypeError where a value, a group or a parameter does not fit.
    """

    slots: tuple[str, ...] = ()  # names of the arrays kept for each parameter, each like the parameter

    def __init__(self, params: Iterable, lr: float, weight_decay: float):
        if not isinstance(params, Iterable):
            raise TypeError(
                f"{self._name} expected Parameters or groups of them, got {type(params).__name__}: "
                "pass model.parameters()"
            )
        self.groups = self._groups(list(params), {"lr": lr, "weight_decay": weight_decay})
        self.parameters = [parameter for group in self.groups for parameter in group["params"]]
        self.steps = 0  # taken so far
        self._flats = [list(_flats(group["params"], self.slots)) for group in self.groups]

    def step(self, lr_factor: float = 1.0) -> None:
        """Changes every parameter in place by its gradient, with `lr_factor` (≥ 0) times its group's lr."""
        lr_factor = self._require("lr_factor", lr_factor)
        self.steps += 1
        for group, flats in zip(self.groups, self._flats, strict=True):
            lr, weight_decay = float(group["lr"]) * lr_factor, float(group["weight_decay"])
            for flat in flats:
                flat.adopt()
                self._update(flat.data, flat.grad, flat.state, lr, weight_decay)

    @abstractmethod
    def _update(self, param: np.ndarray, grad: np.ndarray, state: dict, lr: float, weight_decay: float) -> None:
        """One kernel call: changes `param` and the arrays of `state` in place."""

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of what a resumed training needs beside the parameters and the constructor's arguments.

        "step" (int64, no axes) and, for the i-th parameter over all groups, its arrays as "i.velocity".
        """
        state = {f"{i}.{slot}": array.copy() for i, slot, array in self._named_state()}
        return {"step": np.array(self.steps, np.int64), **state}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copies `state` in; all or nothing.

        Raises ValueError where names, shapes or the step do not fit, TypeError where dtypes differ.
        """
        own = {f"{i}.{slot}": array for i, slot, array in self._named_state()}
        if missing := sorted({"step", *own} - state.keys()):
            raise ValueError(
                f"{self._name} the state lacks {', '.join(missing)}: it is of another optimizer or model"
            )
        if unknown := sorted(state.keys() - {"step", *own}):
            raise ValueError(
                f"{self._name} the state has unknown {', '.join(unknown)}: it is of another optimizer"
            )
        given = {name: np.asarray(array) for name, array in state.items()}
        step = given.pop("step")
        if step.shape != () or step.dtype.kind not in "iu" or step < 0:
            raise ValueError(f"{self._name} expected step to be a whole number from 0 up, got {state['step']!r}")
        for name, array in own.items():
            if given[name].shape != array.shape:
                raise ValueError(f"{self._name} expected {name} of shape {array.shape}, got {given[name].shape}")
            if given[name].dtype != array.dtype:
                raise TypeError(f"{self._name} expected {name} of dtype {array.dtype}, got {given[name].dtype}")
        self.steps = int(step)
        for name, array in own.items():
            array[...] = given[name]

    def _named_state(self):
        states = {id(p): state for flats in self._flats for flat in flats for p, state in flat.states()}
        return ((i, slot, array) for i, p in enumerate(self.parameters) for slot, array in states[id(p)].items())

    # -- checks -----------------------------------------------------------------------------------------------

    def _groups(self, params: list, defaults: dict) -> list[dict]:
        if not params:
            raise ValueError(f"{self._name} got no parameters: pass model.parameters() or groups of them")
        if not any(isinstance(item, dict) for item in params):
            params = [{"params": params}]
        groups, seen = [], set()
        for number, group in enumerate(params):
            if not isinstance(group, dict):
                raise TypeError(f"{self._name} expected only groups or only Parameters, got {group!r} at {number}")
            if wrong := sorted({"params", *group} - {"params", *defaults}):
                raise ValueError(
                    f"{self._name} group {number} has unknown {', '.join(wrong)}: a group has "
                    "params, lr and weight_decay"
                )
            group = {**defaults, **group, "params": list(group.get("params", ()))}
            for option in defaults:
                group[option] = self._require(f"{option} of group {number}", group[option])
            if not group["params"]:
                raise ValueError(f"{self._name} group {number} has no params")
            for parameter in group["params"]:
                self._require_parameter(parameter, number)
                if id(parameter) in seen:
                    raise ValueError(
                        f"{self._name} {parameter!r} of group {number} was given before: it would "
                        "be updated twice a step"
                    )
                seen.add(id(parameter))
            groups.append(group)
        return groups

    def _require_parameter(self, parameter, number: int) -> None:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{self._name} group {number}: expected Parameters, got {type(parameter).__name__}")
        data = parameter.data
        if data.dtype not in (np.float32, np.float64):
            raise TypeError(f"{self._name} group {number}: {parameter!r} must be float32 or float64")
        if not (data.flags.c_contiguous and data.flags.writeable):
            raise ValueError(
                f"{self._name} group {number}: {parameter!r} must be C-contiguous and writeable, "
                "as it is changed in place"
            )

    def _require(self, name: str, value, below: float = math.inf) -> float:
        """`value` as a float, or a sentence: it must be a number in [0, below)."""
        if not isinstance(value, Real):
            raise TypeError(f"{self._name} {name} must be a number, got {value!r}")
        if not 0 <= float(value) < below:
            raise ValueError(f"{self._name} {name} must be at least 0 and less than {below}, got {value!r}")
        return float(value)

    @property
    def _name(self) -> str:
        return f"[{type(self).__name__}]"


class _Flat:
    """Parameters of one dtype, their gradients and the optimizer's state, each in one flat array.

    One kernel call then updates them all. `Parameter.data` and `Parameter.grad` become views of `data` and `grad`.
    """

    def __init__(self, parameters: list[Parameter], slots: tuple[str, ...]):
        self.parameters = parameters
        self.data, self.grad = (np.concatenate([a.ravel() for a in arrays]) for arrays in self._arrays())
        self.state = {slot: np.zeros_like(self.data) for slot in slots}
        self._views: list[tuple[np.ndarray, np.ndarray]] = []
        for parameter, data, grad in zip(parameters, self._cut(self.data), self._cut(self.grad), strict=True):
            parameter.data, parameter.grad = data, grad
            self._views.append((data, grad))

    def _arrays(self):
        return [p.data for p in self.parameters], [p.grad for p in self.parameters]

    def _cut(self, flat: np.ndarray) -> list[np.ndarray]:
        """The parts of `flat` that belong to the parameters, in their shapes."""
        ends = np.cumsum([p.size for p in self.parameters])
        return [part.reshape(p.shape) for part, p in zip(np.split(flat, ends[:-1]), self.parameters, strict=True)]

    def states(self):
        """(parameter, its part of the state by slot)."""
        cut = {slot: self._cut(flat) for slot, flat in self.state.items()}
        return ((p, {slot: parts[i] for slot, parts in cut.items()}) for i, p in enumerate(self.parameters))

    def adopt(self) -> None:
        """Takes in arrays that somebody has put in the place of the views. Raises ValueError for another shape."""
        for parameter, (data, grad) in zip(self.parameters, self._views, strict=True):
            if parameter.data is not data or parameter.grad is not grad:
                if parameter.data.shape != data.shape or parameter.grad.shape != data.shape:
                    raise ValueError(
                        f"{parameter!r} had shape {data.shape} when the optimizer was made: make a new one"
                    )
                data[...], grad[...] = parameter.data, parameter.grad
                parameter.data, parameter.grad = data, grad


def _flats(parameters: list[Parameter], slots: tuple[str, ...]):
    """The parameters of a group, a _Flat for each dtype."""
    for dtype in (np.float32, np.float64):
        if alike := [p for p in parameters if p.data.dtype == dtype]:
            yield _Flat(alike, slots)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum μ or Nesterov momentum.

    g ← g + λθ; v ← μv + g (v = g at the first step); θ ← θ − ηv, with Nesterov θ ← θ − η(g + μv), with μ = 0
    θ ← θ − ηg. lr, weight_decay ≥ 0; momentum in [0, 1); nesterov needs momentum > 0.
    Source: Polyak 1964; Sutskever et al. 2013, On the importance of initialization and momentum, in the form of
    PyTorch, where η multiplies v rather than g.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        self.momentum = self._require("momentum", momentum, below=1)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise ValueError("[SGD] nesterov needs a momentum above 0: momentum=0.9 is usual")
        self.slots = ("velocity",) if momentum else ()
        super().__init__(params, lr, weight_decay)

    def _update(self, param, grad, state, lr, weight_decay):
        cnn_ext.sgd_update(
            param,
            grad,
            state.get("velocity"),
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=weight_decay,
        )


class RMSProp(Optimizer):
    """g ← g + λθ; s ← αs + (1 − α)g²; θ ← θ − η g / (√s + ε), s = 0 at first.

    lr, weight_decay, eps ≥ 0; alpha in [0, 1). Source: Tieleman & Hinton 2012, Lecture 6.5; ε outside the root,
    as in PyTorch.
    """

    slots = ("square_avg",)

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.alpha, self.eps = self._require("alpha", alpha, below=1), self._require("eps", eps)
        super().__init__(params, lr, weight_decay)

    def _update(self, param, grad, state, lr, weight_decay):
        cnn_ext.rmsprop_update(
            param, grad, state["square_avg"], lr=lr, alpha=self.alpha, eps=self.eps, weight_decay=weight_decay
        )


class Adam(Optimizer):
    """g ← g + λθ; m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; θ ← θ − η m̂ / (√v̂ + ε).

    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) at step t = 1, 2, …; m = v = 0 at first.
    lr, weight_decay, eps ≥ 0; betas = (β₁, β₂), each in [0, 1). Source: Kingma & Ba 2015, algorithm 1.
    """

    slots = ("m", "v")
    decoupled = False

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise TypeError(f"{self._name} betas must be a pair of numbers, got {betas!r}")
        self.betas = tuple(self._require(f"betas[{i}]", beta, below=1) for i, beta in enumerate(betas))
        self.eps = self._require("eps", eps)
        super().__init__(params, lr, weight_decay)

    def _update(self, param, grad, state, lr, weight_decay):
        cnn_ext.adam_update(
            param,
            grad,
            state["m"],
            state["v"],
            step=self.steps,
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=weight_decay,
            decoupled=self.decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: θ ← θ − ηλθ first, then Adam's step with g as it is.

    Arguments: `Adam`. Source: Loshchilov & Hutter 2019, Decoupled weight decay regularization, algorithm 2, in
    the form of PyTorch, where η multiplies λ.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scales all gradients in place by c = max_norm / (‖g‖ + 1e-6) where c < 1; returns ‖g‖ from before.

    ‖g‖ = √Σ g² over all entries of all gradients, in float64. A norm that is not finite is returned and changes
    nothing: no factor would mend such a gradient. max_norm > 0, and may be inf, to measure only.
    Source: Pascanu, Mikolov & Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.
    """
    if not isinstance(max_norm, Real) or not max_norm > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be a number above 0, got {max_norm!r}")
    gradients = [parameter.grad for parameter in parameters]
    with np.errstate(all="ignore"):
        norm = math.sqrt(sum(_square_sum(grad) for grad in gradients))
    scale = float(max_norm) / (norm + 1e-6)
    if scale < 1 and math.isfinite(norm):
        for grad in gradients:
            grad *= scale
    return norm


def _square_sum(array: np.ndarray) -> float:
    """Σ a² in float64, in one order always; einsum converts a buffer at a time, where np.square would copy all."""
    flat = array.reshape(-1)
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))


def decay_groups(model: Module, weight_decay: float) -> list[dict]:
    """Groups for an optimizer: weights with at least two axes decay by `weight_decay`, all else not.

    "All else" is biases and batch-norm parameters, which gain nothing from being small (Goodfellow et al. 2016,
    Deep Learning, section 7.1).
    """
    decayed: list[Parameter] = []
    others: list[Parameter] = []
    for path, parameter in model.named_parameters():
        is_weight = path.rpartition(".")[2] == "weight" and parameter.data.ndim >= 2
        (decayed if is_weight else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
