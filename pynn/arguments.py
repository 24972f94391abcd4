"""Owns what a Solver takes: the checks of its arguments, whenever one is set, and of what its functions return."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable

import numpy as np

from pynn.batches import require_count
from pynn.module import Module
from pynn.optim import Optimizer
from pynn.run import Run
from pynn.values import as_float, is_number, shown

__all__ = ["CHECKS", "check_pairing", "require_time", "returned", "total_steps", "validation_pair"]


def _model(value) -> Module:
    if isinstance(value, Module):
        return value
    remedy = (
        "pynn.Sequential(*layers)" if isinstance(value, list | tuple) else "a pynn.Module, as pynn.Sequential(…)"
    )
    raise TypeError(f"Solver: model must be {remedy}, got {_what(value)}")


def _loss(value):
    if isinstance(value, Optimizer):
        raise TypeError("Solver: loss and optimizer are in each other's place: Solver(model, loss, optimizer)")
    task = getattr(value, "task", None)
    needed = ("correct", "predict") if task == "classification" else ()
    if isinstance(value, type) or not callable(value) or task not in ("classification", "regression"):
        raise TypeError(f"Solver: loss must be a loss, as pynn.CrossEntropyLoss(), got {_what(value)}")
    if missing := [name for name in needed if not hasattr(value, name)]:
        raise TypeError(f"Solver: a loss for classification has {' and '.join(missing)}, {shown(value)} has not")
    return value


def _optimizer(value) -> Optimizer:
    if isinstance(value, Optimizer):
        return value
    raise TypeError(
        f"Solver: optimizer must be an optimizer, as pynn.Adam(model.parameters(), lr=0.001), got {_what(value)}"
    )


def _function(name: str, call: str) -> Callable:
    """The check of a function that is called as `call`, or None."""
    n_arguments = call.count(",") + 1

    def check(value):
        if value is not None:
            _require_function(f"Solver: {name} must be a function or None", value, call, n_arguments)
        return value

    return check


def _callbacks(value) -> tuple:
    if value is None or callable(value):
        value = () if value is None else (value,)
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise TypeError(f"Solver: callbacks must be functions (solver, logs), got {_what(value)}")
    callbacks = tuple(value)
    for number, callback in enumerate(callbacks):
        _require_function(f"Solver: callbacks[{number}] must be a function", callback, "(solver, logs)", 2)
    return callbacks


def _require_function(rule: str, value, call: str, n_arguments: int) -> None:
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{rule}, got {_what(value)}")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # of something compiled
        return
    try:
        signature.bind(*range(n_arguments))
    except TypeError:
        raise TypeError(f"{rule} that takes {call}, {_what(value)} takes {signature}") from None


def _max_grad_norm(value) -> float | None:
    if value is not None and (not is_number(value) or not as_float(value) > 0):
        raise (ValueError if is_number(value) else TypeError)(
            f"Solver: max_grad_norm must be above 0 or None, got {shown(value)}"
        )
    return value


def _rng(value) -> np.random.Generator:
    if not isinstance(value, np.random.Generator | None):
        raise TypeError(
            f"Solver: rng must be a numpy Generator or None, got {shown(value)}: np.random.default_rng(seed)"
        )
    return np.random.default_rng() if value is None else value


def _progress(value) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"Solver: progress must be True, False or None, got {shown(value)}")
    return value


CHECKS: dict[str, Callable] = {
    "model": _model,
    "loss": _loss,
    "optimizer": _optimizer,
    "batch_size": lambda value: require_count("batch_size", value),
    "schedule": _function("schedule", "(step, total_steps)"),
    "transform": _function("transform", "(x)"),
    "augment": _function("augment", "(x, rng)"),
    "max_grad_norm": _max_grad_norm,
    "rng": _rng,
    "callbacks": _callbacks,
    "progress": _progress,
}


def _what(value) -> str:
    """`value` for a message: of a class that it has to be called, of what has no text of its own what it is."""
    if isinstance(value, type):
        return f"the class {value.__name__}: call it, {value.__name__}(…)"
    if hasattr(value, "__name__"):
        return f"the {type(value).__name__} {value.__name__}"
    return f"a {type(value).__name__}" if type(value).__repr__ is object.__repr__ else shown(value)


def check_pairing(model: Module, optimizer: Optimizer) -> None:
    """ValueError where the optimizer has parameters that the model lacks; a warning where it is the other way."""
    if not {id(p) for p in optimizer.parameters} <= {id(p) for p in model.parameters()}:
        raise ValueError("Solver: the optimizer has parameters that the model lacks: build it from this model's")
    updated = {id(parameter) for parameter in optimizer.parameters}
    left = [path for path, p in model.named_parameters() if id(p) not in updated and p.requires_grad]
    if left:
        others = f" and {len(left) - 1} others" if len(left) > 1 else ""
        warnings.warn(
            f"Solver: {left[0]}{others} of the model are not the optimizer's and stay as they are: give it "
            "model.parameters(), or set their requires_grad = False",
            stacklevel=4,
        )


# -- arguments of fit ---------------------------------------------------------------------------------------


def validation_pair(value) -> tuple:
    """`validation_data` as its two parts."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"fit: validation_data must be (x, y), got {type(value).__name__}")
    if len(value) != 2:
        raise ValueError(f"fit: validation_data must be (x, y), got {len(value)} items")
    return tuple(value)


def require_time(value) -> float | None:
    """`time_limit` in seconds, above 0, or None."""
    if value is None:
        return None
    if not is_number(value):
        raise TypeError(f"fit: time_limit must be a number of seconds, got {shown(value)}")
    if not as_float(value) > 0:
        raise ValueError(f"fit: time_limit must be above 0 seconds, got {shown(value)}")
    return as_float(value)


def total_steps(run: Run, epochs: int | None, steps: int | None, n_batches: int) -> int:
    """The updates that `run` has made when it ends, at `n_batches` of them in each epoch from now on."""
    limits = [require_count("steps", steps)] if steps is not None else []
    if epochs is not None:
        limits.append(run.step - run.position + (require_count("epochs", epochs) - run.epochs) * n_batches)
    if not limits:
        raise ValueError("fit: give epochs, steps or both")
    return min(limits)


# -- what functions return ----------------------------------------------------------------------------------


def returned(name: str, batch, n: int) -> np.ndarray:
    """What `augment` or `transform` made of a batch of `n` samples, known to be as many."""
    if not isinstance(batch, np.ndarray):
        raise TypeError(f"Solver: {name} must return an array of the batch's {n} samples, got {shown(batch)}")
    if batch.shape[:1] != (n,):
        raise ValueError(
            f"Solver: {name} must return an array of the batch's {n} samples, got shape {batch.shape}"
        )
    return batch
