"""Owns checkpoints: one file from which a training continues as if it had never stopped.

Arrays: `model/PATH`, `optimizer/NAME`, `best/PATH`. Header: the step, the history, the best epoch, and the
state of every random generator: the solver's and those that modules hold (`1.rng`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from pynn.io import ModelFileError, read_tensors, write_tensors

if TYPE_CHECKING:
    from pynn.solver import Solver

__all__ = ["restore_checkpoint", "save_checkpoint"]


def save_checkpoint(path: str | os.PathLike, solver: Solver) -> None:
    """Replaces `path` by the solver's present state, atomically; raises WriteError where that is impossible."""
    write_tensors(path, "checkpoint", *_state(solver))


def restore_checkpoint(path: str | os.PathLike, solver: Solver) -> None:
    """Puts the state in `path` into `solver`, all or nothing.

    Raises ModelFileError where the file is damaged, or fits another model, optimizer or kind of generator.
    """
    tensors, header = read_tensors(path, "checkpoint")
    before = _state(solver)
    try:
        _set_state(solver, tensors, header)
    except Exception as error:  # the file may hold anything: every way to fail is the file's fault
        _set_state(solver, *before)
        raise ModelFileError(f"{path} does not fit this solver: {error}") from error


def _state(solver: Solver) -> tuple[dict[str, np.ndarray], dict]:
    parts = {
        "model": solver.model.state_dict(),
        "optimizer": solver.optimizer.state_dict(),
        "best": solver.run.best_weights,
    }
    tensors = {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
    return tensors, {
        "step": solver.run.step,
        "history": solver.run.history,
        "best_epoch": solver.run.best_epoch,
        "generators": {name: generator.bit_generator.state for name, generator in _generators(solver).items()},
    }


def _set_state(solver: Solver, tensors: dict[str, np.ndarray], header: dict) -> None:
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "best": {}}
    for path, array in tensors.items():
        part, _, name = path.partition("/")
        parts[part][name] = array
    generators = _generators(solver)
    if header["generators"].keys() != generators.keys():
        raise ValueError(
            f"its random generators are {', '.join(header['generators'])}, the solver's {', '.join(generators)}"
        )
    solver.model.load_state_dict(parts["model"])
    solver.optimizer.load_state_dict(parts["optimizer"])
    for name, generator in generators.items():
        generator.bit_generator.state = header["generators"][name]
    solver.run = type(solver.run)(header["step"], header["history"], header["best_epoch"], parts["best"])


def _generators(solver: Solver) -> dict[str, np.random.Generator]:
    """By place. Places that share a generator share its state, and share it still after it is restored."""
    return {"solver": solver.rng} | {
        f"{path}.{name}": value
        for path, module in solver.model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, np.random.Generator)
    }
