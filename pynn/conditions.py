"""Owns the conditions of a run: all that decides how it goes, by name and as JSON values, and how two runs differ.

What is meant to change on the way (each group's lr and the like, by a callback) counts as it was when `fit` began;
the checkpoint has its present value beside it.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np

from pynn.batches import EVALUATION_BATCH, batch_slices
from pynn.module import Module
from pynn.values import shown

if TYPE_CHECKING:
    from pynn.solver import Solver

__all__ = [
    "OF_FIT",
    "OF_SOLVER",
    "described",
    "difference",
    "of_fit",
    "of_solver",
    "optimizer_options",
    "trainable",
]

OF_SOLVER = (
    "model",
    "loss",
    "optimizer",
    "lr",
    "weight_decay",
    "batch_size",
    "schedule",
    "augment",
    "max_grad_norm",
    "trainable",
)
OF_FIT = (
    "x",
    "y",
    "validation_data",
    "transform",
    "epochs",
    "steps",
    "monitor",
    "patience",
    "restore_best_weights",
)


def of_solver(solver: Solver) -> dict:
    """The conditions that the solver's own attributes make, by the names in `OF_SOLVER`."""
    optimizer = solver.optimizer
    paths = {id(parameter): path for path, parameter in solver.model.named_parameters()}
    return {
        "model": described(solver.model),
        "loss": described(solver.loss),
        "optimizer": {
            "type": type(optimizer).__name__,
            **optimizer_options(optimizer),
            "parameters": [[paths[id(p)] for p in group["params"]] for group in optimizer.groups],
        },
        "lr": [described(group["lr"]) for group in optimizer.groups],
        "weight_decay": [described(group["weight_decay"]) for group in optimizer.groups],
        "batch_size": solver.batch_size,
        "schedule": described(solver.schedule, functions_by_name=True),
        "augment": described(solver.augment),
        "max_grad_norm": described(solver.max_grad_norm),
        "trainable": trainable(solver.model),
    }


def of_fit(*, transform, first: np.ndarray, **arguments) -> dict:
    """The conditions that the arguments of `fit` make, by the names in `OF_FIT`.

    first : what `transform` makes of the first sample, as that says more than a function's name.
    """
    made = {"function": described(transform), "first": described(first)}
    return {name: described(value) for name, value in arguments.items()} | {"transform": made}


def optimizer_options(optimizer) -> dict:
    """The numbers beside lr and weight_decay that an optimizer goes by: momentum, betas, eps, …"""
    return {
        name: described(value)
        for name, value in vars(optimizer).items()
        if name not in {"groups", "parameters", "steps", "slots"} and not name.startswith("_")
    }


def trainable(model: Module) -> dict:
    """Which modules and parameters are not trained, by path."""
    return {
        "modules_fixed": [path for path, module in model.named_modules() if not module.trainable],
        "parameters_fixed": [path for path, p in model.named_parameters() if not p.requires_grad],
    }


def described(value, *, functions_by_name: bool = False):
    """`value` as JSON values, equal for what works alike as far as that can be seen from outside.

    Arrays by shape, dtype and checksum; modules, losses, schedules and transforms by what they were made of. Of a
    plain function it is said that it is one, or its name; of any other object its type.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, np.generic):
        return described(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, tuple | list):
        return [described(item) for item in value]
    if isinstance(value, dict):
        return {str(name): described(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"shape": list(value.shape), "dtype": value.dtype.str, "checksum": _checksum(value)}
    kind = type(value).__name__
    if isinstance(value, functools.partial):
        parts = {"function": value.func, "arguments": value.args, "keywords": value.keywords}
        return {"type": kind, **{name: described(part) for name, part in parts.items()}}
    if isinstance(value, Module):
        return _model(value)
    if callable(getattr(value, "config", None)):
        return {"type": kind, **described(value.config())}
    if is_dataclass(value):
        made_of = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"type": kind, **{n: described(v, functions_by_name=functions_by_name) for n, v in made_of.items()}}
    if functions_by_name and hasattr(value, "__qualname__"):
        return f"{kind} {value.__qualname__}"
    if type(value).__repr__ is object.__repr__ or hasattr(value, "__qualname__"):
        return kind
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))  # where a thing lies in memory says nothing of it


def difference(name: str, then, now) -> str | None:
    """`name was THEN, is NOW` of the first place where two descriptions differ; None where they do not."""
    if then == now and type(then) is type(now):
        return None
    if isinstance(then, dict) and isinstance(now, dict):
        entries = ((f"{name}.{key}", then.get(key), now.get(key)) for key in {**then, **now})
        return next(filter(None, (difference(*entry) for entry in entries)), None)
    if isinstance(then, list) and isinstance(now, list):
        if len(then) != len(now):
            return f"{name} were {len(then)}, are {len(now)}"
        places = [""] if len(then) == 1 else [f"[{i}]" for i in range(len(then))]
        pairs = zip(places, then, now, strict=True)
        return next(filter(None, (difference(f"{name}{place}", *pair) for place, *pair in pairs)), None)
    if isinstance(then, int | float) and isinstance(now, int | float) and then == now:
        return None
    return f"{name} was {shown(then)}, is {shown(now)}"


def _model(model: Module):
    """The configuration, and of modules that have none the types by path."""
    try:
        return described(model.to_config())
    except (TypeError, ValueError):
        return {path: type(module).__name__ for path, module in model.named_modules()}


def _checksum(array: np.ndarray) -> int:
    """CRC-32 of the values, in C order; a few batches at a time, as they may be a memory map or a view."""
    checksum = 0
    for batch in batch_slices(len(array), EVALUATION_BATCH) if array.ndim else [...]:
        checksum = zlib.crc32(np.ascontiguousarray(array[batch]).data, checksum)
    return checksum
