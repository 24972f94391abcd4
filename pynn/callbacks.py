"""Owns the callbacks that come with the library, and the signal by which any callback ends a training.

A callback is called as `callback(solver, logs)` after every epoch. One that keeps state over epochs gives it as
JSON values by `state_dict()` and takes it back by `load_state_dict(state)`: checkpoints then hold it.
"""

from __future__ import annotations

from enum import Enum
from math import inf

from pynn.values import as_float, is_integer, is_number, shown

__all__ = ["STOP", "ReduceOnPlateau"]

MONITORS = {"loss": "min", "val_loss": "min", "accuracy": "max", "val_accuracy": "max"}


class _Signal(Enum):
    """A value of its own: copied or unpickled it is still the same object, and no metric is mistaken for it."""

    STOP = "stop"

    def __repr__(self) -> str:
        return f"pynn.{self.name}"


STOP = _Signal.STOP


class ReduceOnPlateau:
    """Multiplies every group's lr by `factor` after `patience` epochs without a better `monitor`.

    lr ← max(factor · lr, min_lr), never upwards; then the epochs are counted anew. The best figure of the run
    stays what a better one must beat. monitor : "val_loss", "loss" (smaller is better), "val_accuracy" or
    "accuracy". factor in (0, 1); patience from 1; min_lr ≥ 0. A new `fit` starts anew, a resumed one goes on.

    A schedule goes on multiplying: the lr of an update is its factor times what this leaves of the group's lr.
    """

    def __init__(self, monitor: str = "val_loss", *, factor: float = 0.1, patience: int = 10, min_lr: float = 0.0):
        if monitor not in MONITORS:
            raise ValueError(
                f"ReduceOnPlateau: monitor must be one of {', '.join(MONITORS)}, got {shown(monitor)}"
            )
        if not is_number(factor) or not 0 < factor < 1:
            raise ValueError(f"ReduceOnPlateau: factor must be a number between 0 and 1, got {shown(factor)}")
        if not is_integer(patience) or patience < 1:
            raise ValueError(f"ReduceOnPlateau: patience must be a whole number from 1, got {shown(patience)}")
        if not is_number(min_lr) or not 0 <= as_float(min_lr) < inf:
            raise ValueError(f"ReduceOnPlateau: min_lr must be a finite number from 0, got {shown(min_lr)}")
        self.monitor, self.factor = monitor, float(factor)
        self.patience, self.min_lr = int(patience), float(min_lr)
        self._start()

    def _start(self) -> None:
        self.best: float | None = None
        self.waited = 0  # epochs since the best figure, or since the last reduction

    def __call__(self, solver, logs: dict) -> None:
        if logs["epoch"] == 1:
            self._start()
        value = logs[self.monitor]
        if value is None:
            raise ValueError(f"ReduceOnPlateau: {self.monitor} is not measured in this training: watch another")
        smaller = MONITORS[self.monitor] == "min"
        if self.best is None or (value < self.best if smaller else value > self.best):
            self.best, self.waited = value, 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            for group in solver.optimizer.groups:
                group["lr"] = max(self.factor * group["lr"], min(self.min_lr, group["lr"]))

    def state_dict(self) -> dict:
        """What a resumed run needs: the best figure so far and the epochs waited."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError, and changes nothing, where `state` is not what `state_dict` gave."""
        match state:
            case {"best": None | int() | float() as best, "waited": int(waited)} if len(state) == 2:
                if (best is None or abs(as_float(best)) < inf) and 0 <= waited < self.patience:
                    self.best, self.waited = best, waited
                    return
        raise ValueError(f"ReduceOnPlateau: expected a best figure and the epochs waited, got {shown(state)}")

    def __repr__(self) -> str:
        return (
            f"ReduceOnPlateau({self.monitor!r}, factor={self.factor}, patience={self.patience}, "
            f"min_lr={self.min_lr})"
        )
