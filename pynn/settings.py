"""Owns the settings of a run: numbers that callbacks may change on the way, and a resumed run goes on with."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

from pynn.conditions import described, optimizer_options, trainable
from pynn.module import Module
from pynn.optim import LARGEST, Optimizer
from pynn.values import as_float, is_number, shown

if TYPE_CHECKING:
    from pynn.solver import Solver

__all__ = ["SETTINGS", "checked_settings", "settings_of", "use_settings"]

SETTINGS = ("lr", "weight_decay", "optimizer", "max_grad_norm", "trainable")  # conditions that are settings too


def settings_of(solver: Solver) -> dict:
    """The present ones, as JSON values."""
    return {
        "lr": [float(group["lr"]) for group in solver.optimizer.groups],
        "weight_decay": [float(group["weight_decay"]) for group in solver.optimizer.groups],
        "optimizer": optimizer_options(solver.optimizer),
        "max_grad_norm": described(solver.max_grad_norm),
        "trainable": trainable(solver.model),
    }


def checked_settings(settings, solver: Solver, differing: set[str]) -> dict:
    """Those of the file that are to be used: not where the conditions differ. Files from before have none."""
    own = settings_of(solver)
    if settings is None:
        return {}
    if not isinstance(settings, dict) or settings.keys() != own.keys():
        raise ValueError(f"its settings are others than {', '.join(own)}")
    settings = {name: value for name, value in settings.items() if name not in differing}
    norm = settings.pop("max_grad_norm", None)
    if norm is not None and norm != "inf" and not (_could_be(1.0, norm) and norm > 0):
        raise ValueError(f"its max_grad_norm is {shown(norm)}")
    if "trainable" in settings and not _are_places(own["trainable"], settings["trainable"]):
        raise ValueError(f"its setting trainable is {shown(settings['trainable'])}")
    for name, value in settings.items():
        if name != "trainable" and not _could_be(own[name], value):
            raise ValueError(f"its setting {name} is {shown(value)}")
    if "optimizer" in settings:
        twin = copy.copy(solver.optimizer)
        _set_options(twin, settings["optimizer"])
        twin._options()  # refuses what does not go together
    return settings if "max_grad_norm" in differing else settings | {"max_grad_norm": norm}


def _are_places(own: dict, value) -> bool:
    """Whether `value` has two lists of names."""
    if not isinstance(value, dict) or value.keys() != own.keys():
        return False
    return all(isinstance(names, list) and all(isinstance(n, str) for n in names) for names in value.values())


def _could_be(own, value) -> bool:
    """Whether `value` is of the kind of `own`: a number for a number, a list of as many for a list, …"""
    if isinstance(own, dict):
        return (
            isinstance(value, dict)
            and own.keys() == value.keys()
            and all(_could_be(own[k], value[k]) for k in own)
        )
    if isinstance(own, list):
        return isinstance(value, list) and len(own) == len(value) and all(map(_could_be, own, value))
    if is_number(own):
        return is_number(value) and 0 <= as_float(value) < LARGEST
    return isinstance(value, bool) if isinstance(own, bool) else value == own


def use_settings(settings: dict, solver: Solver) -> None:
    """Puts checked settings in."""
    for name in ("lr", "weight_decay"):
        for group, value in zip(solver.optimizer.groups, settings.get(name, ()), strict=False):
            group[name] = value
    _set_options(solver.optimizer, settings.get("optimizer", {}))
    if "trainable" in settings:
        _set_trainable(solver.model, settings["trainable"])
    if "max_grad_norm" in settings:
        norm = settings["max_grad_norm"]
        solver.max_grad_norm = math.inf if norm == "inf" else norm


def _set_trainable(model: Module, places: dict) -> None:
    for path, module in model.named_modules():  # parents first: each sets what is below it
        module.trainable = path not in places["modules_fixed"]
    for path, parameter in model.named_parameters():
        parameter.requires_grad = path not in places["parameters_fixed"]


def _set_options(optimizer: Optimizer, options: dict) -> None:
    for name, value in options.items():
        setattr(optimizer, name, tuple(value) if isinstance(value, list) else value)
