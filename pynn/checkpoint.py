"""Owns checkpoints: one file from which a training continues as if it had never stopped.

Arrays: `model/PATH`, `optimizer/NAME`, `best/PATH`. Header: where the run stands (`pynn.run`), its conditions
(`pynn.conditions`), the settings that may change on the way, the state of callbacks, and that of every random
generator: the solver's and those that modules or `augment` hold (`1.rng`).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pynn.conditions import OF_FIT, OF_SOLVER, difference, of_solver
from pynn.generators import checked_state, generator_state, set_generator_state
from pynn.io import ModelFileError, read_tensors, write_tensors
from pynn.run import MOST, Run, checked_run
from pynn.settings import SETTINGS, checked_settings, settings_of, use_settings
from pynn.text import clean
from pynn.values import shown

if TYPE_CHECKING:
    from pynn.solver import Solver

__all__ = ["checked_accept", "continued", "generators", "restore_checkpoint", "save_checkpoint"]

CONDITIONS = (*OF_SOLVER, *OF_FIT, "callbacks")


def save_checkpoint(path: str | os.PathLike, solver: Solver) -> None:
    """Replaces `path` by the solver's present state, atomically; raises WriteError where that is impossible.

    The state is one between two epochs, or where a time limit broke an epoch off; ValueError within an epoch, as
    after an interrupt. `fit` puts the best weights into the model at its end: a run that shall go on after that
    needs `restore_best_weights=False`, or the checkpoint that `fit` itself wrote.
    """
    run = solver.run
    if (run.position > 0) != (run.broken_off is not None):
        raise ValueError(
            "save_checkpoint: training stands within an epoch, from where it cannot be repeated exactly"
        )
    settings = settings_of(solver)
    checked_settings(settings, solver, set())  # what could not be read again does not replace what can
    parts = {
        "model": solver.model.state_dict(),
        "optimizer": solver.optimizer.state_dict(),
        "best": run.best_weights,
    }
    tensors = {f"{part}/{name}": array for part, arrays in parts.items() for name, array in arrays.items()}
    header = {
        "step": run.step,
        "history": run.history,
        "best_epoch": run.best_epoch,
        "watched_from": run.watched_from,
        "told": run.told,
        "stopped": run.stopped,
        "broken_off": run.broken_off,
        "conditions": run.conditions,
        "settings": settings,
        "callbacks": [{"type": _kind(each), "state": each.state_dict()} for each in _stateful(solver)],
        "generators": {name: generator_state(generator) for name, generator in generators(solver).items()},
    }
    write_tensors(path, "checkpoint", tensors, header)


def restore_checkpoint(path: str | os.PathLike, solver: Solver, accept: Collection[str] = ()) -> None:
    """Puts the state in `path` into `solver`, all or nothing; of what is accepted and differs, the solver's stays.

    Everything is looked at before anything is changed. Raises ModelFileError where the file is damaged, fits
    another model, optimizer or kind of generator, or is of a run under other conditions that are not accepted.
    """
    tensors, header = read_tensors(path, "checkpoint")
    try:
        _restore(tensors, header, solver, accept)
    except ConditionsDiffer as error:
        raise ModelFileError(f"{clean(path)} {error}") from None
    except (ValueError, TypeError) as error:
        raise ModelFileError(f"{clean(path)} does not fit this solver: {clean(error, 220)}") from error


class ConditionsDiffer(ValueError):
    """A run is to go on under other conditions than it had."""


def _restore(tensors: dict[str, np.ndarray], header: dict, solver: Solver, accept: Collection[str]) -> None:
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "best": {}}
    for path, array in tensors.items():
        part, _, name = path.partition("/")
        if part not in parts:
            raise ValueError(f"it has an array {path!r:.80} that belongs to no part of a training")
        parts[part][name] = array
    states = _checked_generators(header.get("generators"), solver)
    run = checked_run(header, parts["best"])
    if run.broken_off is not None:
        run.broken_off["generator"] = checked_state("solver", solver.rng, run.broken_off["generator"])
    own = solver.model.state_dict()
    _require_alike("model", own, parts["model"])
    if parts["best"]:
        _require_alike("best weights", own, parts["best"])
    for name, _ in solver.model.named_parameters():
        if not all(np.isfinite(arrays[name]).all() for arrays in (parts["model"], parts["best"]) if arrays):
            raise ValueError(f"{name} has NaN or infinite values")
    conditions = of_solver(solver)
    differing = {name for name, value in conditions.items() if _difference(name, run.conditions, value)}
    optimizer_state = _checked_optimizer(parts["optimizer"], solver, "optimizer" in differing & set(accept))
    settings = checked_settings(header.get("settings"), solver, differing)
    callbacks = [] if "callbacks" in accept else _checked_callbacks(header.get("callbacks", []), solver)
    refuse_differences(run.conditions, conditions, accept)

    _restore_callbacks(callbacks)
    if optimizer_state is not None:
        solver.optimizer.load_state_dict(optimizer_state)
    solver.model.load_state_dict(parts["model"])
    for name, generator in generators(solver).items():
        set_generator_state(generator, states[name])
    use_settings(settings, solver)
    run.conditions |= {name: conditions[name] for name in differing}
    run.stopped = run.stopped and not differing
    solver.run = run


# -- conditions ---------------------------------------------------------------------------------------------


def checked_accept(accept: str | Collection[str]) -> tuple[str, ...]:
    """The names of conditions that may differ; ValueError for one that there is not."""
    if not isinstance(accept, Collection):
        raise TypeError(f"resume: accept must be names of conditions, as ['epochs'], got {shown(accept)}")
    names = (accept,) if isinstance(accept, str) else tuple(accept)
    for name in names:
        if name not in CONDITIONS:
            near = difflib.get_close_matches(str(name), CONDITIONS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CONDITIONS)}"
            raise ValueError(f"resume: there is no condition {name!r:.40} to accept: {hint}")
    return names


def refuse_differences(then: dict, now: dict, accept: Collection[str]) -> None:
    """ConditionsDiffer where a run's conditions, as far as they are known, are others `now` and not accepted."""
    found = {name: text for name, value in now.items() if (text := _difference(name, then, value))}
    if refused := {name: text for name, text in found.items() if name not in accept}:
        said = "; ".join(clean(text, 110 if len(refused) == 1 else 60) for text in list(refused.values())[:2])
        names = ", ".join(map(repr, list(refused)[:3])) + (", …" if len(refused) > 3 else "")
        raise ConditionsDiffer(
            f"is of another run: {said}: make it the same, or take it up by resume(path, accept=[{names}])"
        )


def continued(path: str, run: Run, conditions: dict, accept: Collection[str]) -> Run:
    """The run from the checkpoint in `path` as `fit` goes on with it; ModelFileError where its conditions differ.

    What may change on the way is not looked at again: `restore_checkpoint` did.
    """
    conditions = {name: value for name, value in conditions.items() if name not in SETTINGS}
    then = run.conditions
    if "x" in accept and isinstance(then.get("transform"), dict):  # of another first sample it makes another thing
        then = then | {"transform": then["transform"] | {"first": conditions["transform"]["first"]}}
    try:
        refuse_differences(then, conditions, accept)
    except ConditionsDiffer as error:
        raise ModelFileError(f"{clean(path)} {error}") from None
    changed = {name for name, value in conditions.items() if _difference(name, run.conditions, value)}
    run = replace(run, conditions=run.conditions | conditions, stopped=run.stopped and not changed)
    if changed & {"x", "batch_size"} and run.broken_off is not None:  # the cut epoch's batches are gone
        run.step, run.broken_off = run.step - run.position, None
    if changed & {"validation_data", "monitor"}:
        run.best_epoch, run.best_weights, run.watched_from = 0, {}, run.epochs
    return run


def _difference(name: str, then: dict, now) -> str | None:
    return difference(name, then[name], now) if name in then else None


# -- parts --------------------------------------------------------------------------------------------------


def generators(solver: Solver) -> dict[str, np.random.Generator]:
    """By place. Places that share a generator share its state, and share it still after it is restored."""
    places: dict[str, object] = dict(solver.model.named_modules())
    places.setdefault("augment", solver.augment)
    return {"solver": solver.rng} | {
        f"{path}.{name}": value
        for path, owner in places.items()
        for name, value in getattr(owner, "__dict__", {}).items()
        if isinstance(value, np.random.Generator)
    }


def _checked_generators(states, solver: Solver) -> dict[str, dict]:
    own = generators(solver)
    if not isinstance(states, dict):
        raise ValueError("it has no states of random generators")
    if states.keys() != own.keys():
        raise ValueError(f"its random generators are {', '.join(states)}, the solver's {', '.join(own)}")
    return {name: checked_state(name, generator, states[name]) for name, generator in own.items()}


def _restore_callbacks(callbacks: list[tuple]) -> None:
    """Gives each its state; where one refuses, for whatever reason, all have the ones they had."""
    before = [(callback, callback.state_dict()) for callback, _ in callbacks]
    for callback, state in callbacks:
        try:
            callback.load_state_dict(state)
        except Exception as error:
            for changed, own in before:
                changed.load_state_dict(own)
            raise ValueError(f"{_kind(callback)} does not take its state: {error or _kind(error)}") from error


def _checked_optimizer(state: dict[str, np.ndarray], solver: Solver, may_differ: bool) -> dict | None:
    """`state`, known to fit the optimizer; None where it does not and need not: that one begins with its own."""
    try:
        _require_alike(f"[{_kind(solver.optimizer)}]", solver.optimizer.state_dict(), state)
    except ValueError:
        if may_differ:
            return None
        raise
    if not 0 <= int(state["step"]) <= MOST:
        raise ValueError(f"the optimizer's step is {int(state['step'])}")
    return state


def _stateful(solver: Solver) -> list:
    return [each for each in solver.callbacks if hasattr(each, "state_dict") and hasattr(each, "load_state_dict")]


def _kind(value) -> str:
    return type(value).__name__


def _checked_callbacks(states, solver: Solver) -> list[tuple]:
    own = _stateful(solver)
    if not isinstance(states, list) or not all(
        isinstance(each, dict) and each.keys() == {"type", "state"} for each in states
    ):
        raise ValueError("what it keeps of callbacks is no list of their states")
    if [each["type"] for each in states] != [*map(_kind, own)]:
        then, now = (
            ", ".join(map(str, kinds)) or "none" for kinds in ([s["type"] for s in states], map(_kind, own))
        )
        raise ValueError(
            f"it has the state of callbacks {then}, the solver's with a state are {now}: give the same ones, or "
            "resume(path, accept=['callbacks'])"
        )
    return [(callback, each["state"]) for callback, each in zip(own, states, strict=True)]


# -- arrays -------------------------------------------------------------------------------------------------


def _require_alike(what: str, own: dict[str, np.ndarray], given: dict[str, np.ndarray]) -> None:
    """ValueError, with `what`, unless both have the same names with arrays of the same shapes and dtypes."""
    if missing := sorted(own.keys() - given.keys()):
        raise ValueError(f"{what} the state lacks {_few(missing)}")
    if unknown := sorted(given.keys() - own.keys()):
        raise ValueError(f"{what} the state has unknown {_few(unknown)}")
    for name, array in own.items():
        if given[name].shape != array.shape:
            raise ValueError(f"{what} expected {name} of shape {array.shape}, got {given[name].shape}")
        if given[name].dtype != array.dtype:
            raise ValueError(f"{what} expected {name} of dtype {array.dtype}, got {given[name].dtype}")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3]):.120}{more}"
