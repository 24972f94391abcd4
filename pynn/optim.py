"""Owns the optimizers: how gradients change parameters. The formulas are PyTorch's; the loops are cnn_ext's.

Notation: θ parameter, g = ∂L/∂θ, λ weight_decay, η = lr × lr_factor. All operations are element by element.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from itertools import chain

import numpy as np

import cnn_ext
from pynn.habits import OPTIMIZER, Explained, explains, missing_attribute
from pynn.initializers import aligned_copy, aligned_zeros
from pynn.module import Module, Parameter
from pynn.values import as_array, as_float, is_integer, is_number, listed, shown

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "RMSProp", "clip_grad_norm", "decay_groups"]

LARGEST = float(np.finfo(np.float32).max)  # of the numbers of an update: beyond, they are infinite in float32


class Optimizer(metaclass=Explained):
    """The base of all optimizers: parameter groups, state, checks.

    params : Parameters, or groups `{"params": […], "lr": …, "weight_decay": …}`, of which `lr` and `weight_decay`
    may be left out and are then the constructor's. `groups` holds them as such dicts; a changed value counts from
    the next step on, and so does `lr`, which sets all groups at once. Parameters are updated where they lie; those
    whose `requires_grad` is False are passed over, their state with them. Copies and pickles of a model together
    with its optimizer train as the two did. Raises ValueError or TypeError where a value, a group or a parameter
    does not fit, before anything is changed.
    """

    slots: tuple[str, ...] = ()  # names of the arrays kept for each parameter, each like the parameter

    def __init__(self, params: Iterable, lr: float, weight_decay: float):
        if not isinstance(params, Iterable) or isinstance(params, Module | dict | str | np.ndarray):
            raise TypeError(
                f"{self._name} expected Parameters or groups of them, got a {type(params).__name__}: "
                "pass model.parameters()"
            )
        self.groups = self._groups(list(params), {"lr": lr, "weight_decay": weight_decay})
        self.parameters = [parameter for group in self.groups for parameter in group["params"]]
        self.steps = 0  # taken so far
        self._state = [{slot: aligned_zeros(p.shape, p.dtype) for slot in self.slots} for p in self.parameters]
        self._bound: tuple[list, list] | None = None

    @classmethod
    def _misfit(cls, problem: str) -> TypeError:
        return TypeError(f"[{cls.__name__}] {problem}")

    def __getattr__(self, name: str):
        raise missing_attribute(self, name, OPTIMIZER)

    def __setattr__(self, name: str, value) -> None:
        if name in OPTIMIZER:  # which no step would read
            raise missing_attribute(self, name, OPTIMIZER)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict:
        return vars(self) | {"_bound": None}  # a copy has arrays of its own

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._state = [{slot: aligned_copy(array) for slot, array in slots.items()} for slots in self._state]

    @property
    def lr(self) -> float:
        """The learning rate of all groups; setting it sets that of each.

        Raises ValueError where they differ: `groups[i]["lr"]` is one group's.
        """
        first, *others = (group["lr"] for group in self.groups)
        if any(other != first for other in others):
            raise ValueError(f'{self._name} the groups have different lr: read groups[i]["lr"]')
        return first

    @lr.setter
    def lr(self, value: float) -> None:
        value = self._require("lr", value)
        for group in self.groups:
            group["lr"] = value

    def step(self, lr_factor: float = 1.0) -> None:
        """Changes every parameter in place by its gradient, with `lr_factor` (≥ 0) times its group's lr."""
        lr_factor = self._require("lr_factor", lr_factor)
        if not isinstance(self.groups, list) or not all(isinstance(group, dict) for group in self.groups):
            raise TypeError(f"{self._name} groups was replaced by {shown(self.groups)}: make a new optimizer")
        if not is_integer(self.steps) or not 0 <= self.steps < 2**63 - 1:
            raise ValueError(f"{self._name} steps must be a whole number from 0 up, got {shown(self.steps)}")
        rates = [self._rates(number, group, lr_factor) for number, group in enumerate(self.groups)]
        options = self._options()
        updates = self._updates()
        self.steps += 1
        for (lr, weight_decay), tables in zip(rates, updates, strict=True):
            for table in tables:
                self._update(table, lr=lr, weight_decay=weight_decay, **options)

    @abstractmethod
    def _options(self) -> dict:
        """What `_update` takes beside lr and weight_decay, checked: it may have been assigned since."""

    @abstractmethod
    def _update(self, updates: cnn_ext.Updates, **numbers) -> None:
        """One kernel call: changes all parameters and states of `updates` in place."""

    def _rates(self, number: int, group: dict, lr_factor: float) -> tuple[float, float]:
        """lr · lr_factor and weight_decay of a group."""
        if group.keys() != {"params", "lr", "weight_decay"}:
            raise ValueError(
                f"{self._name} group {number} has {shown(sorted(group))}: expected params, lr and weight_decay"
            )
        lr, weight_decay = (self._require(f"{k} of group {number}", group.get(k)) for k in ("lr", "weight_decay"))
        return self._require(f"lr · lr_factor of group {number}", lr * lr_factor), weight_decay

    def _updates(self) -> list[list[cnn_ext.Updates]]:
        """For each group the parameters that are trained, bound for one kernel call, or one a dtype."""
        held = [group["params"] for group in self.groups]
        if not all(isinstance(params, list) for params in held) or list(chain(*held)) != self.parameters:
            raise ValueError(f"{self._name} the parameters of its groups were changed: make a new optimizer")
        trained = [parameter.requires_grad for parameter in self.parameters]
        if self._bound is None or self._bound[0] != trained:
            if not any(trained):
                raise ValueError(
                    f"{self._name} none of its parameters is trained: set requires_grad, or trainable of a layer"
                )
            state = {id(p): s for p, s in zip(self.parameters, self._state, strict=True)}
            tables = []
            for group in self.groups:
                rows: dict[np.dtype, list] = {}
                for p in group["params"]:
                    if p.requires_grad:
                        rows.setdefault(p.dtype, []).append((p.data, p.grad, *state[id(p)].values()))
                tables.append([cnn_ext.Updates(alike) for alike in rows.values()])
            self._bound = trained, tables
        return self._bound[1]

    def zero_grad(self, set_to_none: bool = False) -> None:
        """As `Module.zero_grad`, of the parameters here."""
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
        if not isinstance(state, Mapping):
            raise TypeError(f"{self._name} expected a state, a dict of arrays by name, got {shown(state)}")
        own = {f"{i}.{slot}": array for i, slot, array in self._named_state()}
        if missing := sorted({"step", *own} - state.keys()):
            raise ValueError(
                f"{self._name} the state lacks {listed(missing)}: it is of another optimizer or model"
            )
        if unknown := sorted(map(str, state.keys() - {"step", *own})):
            raise ValueError(f"{self._name} the state has unknown {listed(unknown)}: it is of another optimizer")
        given = {name: as_array(self._name, name, array) for name, array in state.items()}
        step = given.pop("step")
        if step.shape != () or step.dtype.kind not in "iu" or not 0 <= step < 2**63:
            raise ValueError(f"{self._name} expected step to be a whole number from 0 up, got {shown(step)}")
        for name, array in own.items():
            if given[name].shape != array.shape:
                raise ValueError(f"{self._name} expected {name} of shape {array.shape}, got {given[name].shape}")
            if given[name].dtype != array.dtype:
                raise TypeError(f"{self._name} expected {name} of dtype {array.dtype}, got {given[name].dtype}")
        self.steps = int(step)
        for name, array in own.items():
            array[...] = given[name]

    def _named_state(self):
        return ((i, slot, array) for i, slots in enumerate(self._state) for slot, array in slots.items())

    # -- checks -----------------------------------------------------------------------------------------------

    def _groups(self, params: list, defaults: dict) -> list[dict]:
        if not params:
            raise ValueError(f"{self._name} got no parameters: pass model.parameters() or groups of them")
        if not any(isinstance(item, dict) for item in params):
            params = [{"params": params}]
        groups, seen = [], set()
        for number, group in enumerate(params):
            if not isinstance(group, dict):
                raise TypeError(
                    f"{self._name} expected only groups or only Parameters, got {shown(group)} at {number}"
                )
            if wrong := sorted(map(str, {"params", *group} - {"params", *defaults})):
                raise ValueError(
                    f"{self._name} group {number} has unknown {listed(wrong)}: a group has "
                    "params, lr and weight_decay"
                )
            if not isinstance(given := group.get("params", ()), Iterable) or isinstance(
                given, Module | np.ndarray
            ):
                raise TypeError(
                    f"{self._name} group {number}: expected Parameters, got {type(given).__name__}: "
                    "pass model.parameters()"
                )
            group = {**defaults, **group, "params": list(given)}
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
            raise TypeError(
                f"{self._name} group {number}: expected Parameters, got {type(parameter).__name__}: "
                "pass model.parameters()"
            )
        data = parameter.data
        if data.size == 0:
            raise ValueError(
                f"{self._name} group {number}: {parameter!r} is empty: every axis must be at least 1 long"
            )
        if not (data.flags.c_contiguous and data.flags.writeable):
            raise ValueError(
                f"{self._name} group {number}: {parameter!r} must be C-contiguous and writeable, "
                "as it is changed in place"
            )

    def _require(self, name: str, value, below: float = LARGEST) -> float:
        """`value` as a float, or a sentence: it must be a number in [0, below)."""
        if not is_number(value):
            raise TypeError(f"{self._name} {name} must be a number, got {shown(value)}")
        if not 0 <= as_float(value) < below:
            raise ValueError(f"{self._name} {name} must be at least 0 and less than {below:g}, got {shown(value)}")
        return float(value)

    @property
    def _name(self) -> str:
        return f"[{type(self).__name__}]"


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
        self.momentum, self.nesterov = self._require("momentum", momentum, below=1), nesterov
        self.slots = ("velocity",) if self.momentum else ()
        self._options()
        super().__init__(params, lr, weight_decay)

    def _options(self):
        momentum = self._require("momentum", self.momentum, below=1)
        if (momentum > 0) != bool(self.slots):
            raise ValueError(
                f"[SGD] momentum cannot be set to {momentum:g}: it was made {'with' if self.slots else 'without'} "
                "momentum, so make a new optimizer"
            )
        if not isinstance(self.nesterov, bool):
            raise TypeError(f"[SGD] nesterov must be True or False, got {shown(self.nesterov)}")
        if self.nesterov and not momentum:
            raise ValueError("[SGD] nesterov needs a momentum above 0: momentum=0.9 is usual")
        return {"momentum": momentum, "nesterov": self.nesterov}

    def _update(self, updates, **numbers):
        updates.sgd(**numbers)


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
        self.alpha, self.eps = alpha, eps
        self.alpha, self.eps = self._options().values()
        super().__init__(params, lr, weight_decay)

    def _options(self):
        return {"alpha": self._require("alpha", self.alpha, below=1), "eps": self._require("eps", self.eps)}

    def _update(self, updates, **numbers):
        updates.rmsprop(**numbers)


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
        self.betas, self.eps = betas, eps
        self.betas = self._options()["beta1"], self._options()["beta2"]
        super().__init__(params, lr, weight_decay)

    def _options(self):
        if not isinstance(self.betas, tuple | list) or len(self.betas) != 2:
            raise TypeError(f"{self._name} betas must be a pair of numbers, got {shown(self.betas)}")
        beta1, beta2 = (self._require(f"betas[{i}]", beta, below=1) for i, beta in enumerate(self.betas))
        return {"beta1": beta1, "beta2": beta2, "eps": self._require("eps", self.eps)}

    def _update(self, updates, **numbers):
        updates.adam(step=self.steps, decoupled=self.decoupled, **numbers)


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


@explains(
    norm_type="the norm is L2: leave it out",
    error_if_nonfinite="a norm that is not finite is returned: leave it out",
    foreach="leave it out",
)
def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scales all gradients in place by c = max_norm / (‖g‖ + 1e-6) where c < 1; returns ‖g‖ from before.

    ‖g‖ = √Σ g² over all entries of all gradients, in float64. A norm that is not finite is returned and changes
    nothing: no factor would mend such a gradient. max_norm > 0, and may be inf, to measure only.
    Source: Pascanu, Mikolov & Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.
    """
    if not is_number(max_norm) or not as_float(max_norm) > 0:
        raise ValueError(f"clip_grad_norm: max_norm must be a number above 0, got {shown(max_norm)}")
    is_several = isinstance(parameters, Iterable) and not isinstance(parameters, Module | np.ndarray)
    given: list = list(parameters) if is_several else [parameters]
    if wrong := [each for each in given if not isinstance(each, Parameter)]:
        raise TypeError(f"clip_grad_norm: expected Parameters, got {shown(wrong[0])}: pass model.parameters()")
    gradients = [parameter.grad for parameter in given if parameter.requires_grad]
    with np.errstate(all="ignore"):
        norm = math.sqrt(sum(_square_sum(grad) for grad in gradients))
    scale = as_float(max_norm) / (norm + 1e-6)
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
    if not isinstance(model, Module):
        raise TypeError(f"decay_groups: expected a model, got {shown(model)}")
    decayed: list[Parameter] = []
    others: list[Parameter] = []
    for path, parameter in model.named_parameters():
        is_weight = path.rpartition(".")[2] == "weight" and parameter.data.ndim >= 2
        (decayed if is_weight else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
