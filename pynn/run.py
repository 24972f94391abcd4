"""Owns where a training stands, the record of its epochs, and what must be true of both when they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pynn.values import as_float, shown

__all__ = ["HISTORY", "Run", "TrainingDiverged", "checked_run"]

HISTORY = ("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds")
MOST = 2**53  # steps and epochs: whole numbers up to here are exact in any reader of JSON


class TrainingDiverged(ArithmeticError):
    """A loss, gradient or parameter became NaN or infinite; the step that showed it was not taken.

    step : the number of updates before it. problem : what was not finite. layer : the first place with a
    non-finite value. lr : the first group's. checkpoint : the file with the last whole epoch, or None.
    `finding` is the message without its remedy.
    """

    def __init__(self, step: int, problem: str, layer: str, lr: float, checkpoint: str | None):
        self.step, self.problem, self.layer, self.lr, self.checkpoint = step, problem, layer, lr, checkpoint
        self.finding = f"training diverged at step {step}: {problem}, first non-finite in {layer}"
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(
            f"{self.finding}; lower the learning rate (now {lr:g}), set max_grad_norm or standardise the inputs; "
            f"{kept}"
        )

    def __reduce__(self):
        return type(self), (self.step, self.problem, self.layer, self.lr, self.checkpoint)


@dataclass
class Run:
    """Where one `fit` stands: what a checkpoint keeps beside the weights, the optimizer and the generators."""

    step: int = 0
    history: dict[str, list] = field(default_factory=lambda: {name: [] for name in HISTORY})
    best_epoch: int = 0  # 0 before the first validation
    best_weights: dict[str, np.ndarray] = field(default_factory=dict)
    watched_from: int = 0  # the epochs before the present validation data and monitor
    conditions: dict = field(default_factory=dict)  # see pynn.conditions; empty where they are not known
    told: bool = True  # whether the callbacks have seen the last epoch
    stopped: bool = False  # whether one of them ended the training
    broken_off: dict | None = (
        None  # of the epoch that a time limit cut: its figures, and the generator's state before
    )

    @property
    def epochs(self) -> int:
        """Whole epochs so far."""
        return len(self.history["epoch"])

    @property
    def position(self) -> int:
        """Updates since the last whole epoch."""
        return self.step - (self.history["step"][-1] if self.epochs else 0)

    def record(self, logs: dict) -> None:
        """Adds an epoch's entry."""
        self.history = {name: [*values, logs[name]] for name, values in self.history.items()}

    def last(self) -> dict:
        """The last epoch's entry."""
        return {name: values[-1] for name, values in self.history.items()}


def checked_run(header: dict, best_weights: dict[str, np.ndarray]) -> Run:
    """The Run that a checkpoint's header describes; ValueError where no training can have written it."""
    step, history, best_epoch = (header.get(name) for name in ("step", "history", "best_epoch"))
    run = Run(
        step=_count("step", step),
        history=_checked_history(history),
        best_weights=best_weights,
        conditions=header.get("conditions", {}),
        told=header.get("told", True),
        stopped=header.get("stopped", False),
        broken_off=header.get("broken_off"),
    )
    run.watched_from = _count("watched_from", header.get("watched_from", 0), run.epochs)
    run.best_epoch = _count("best_epoch", best_epoch, run.epochs)
    if not isinstance(run.conditions, dict):
        raise ValueError(f"its conditions are {shown(run.conditions)}")
    if not isinstance(run.told, bool) or not isinstance(run.stopped, bool):
        raise ValueError("what it says of the callbacks is neither true nor false")
    validated = any(value is not None for value in run.history["val_loss"][run.watched_from :])
    if validated != (run.best_epoch > 0) or (run.best_epoch and run.best_epoch <= run.watched_from):
        raise ValueError(f"its best epoch is {run.best_epoch}, which its history contradicts")
    if run.best_epoch and run.history["val_loss"][run.best_epoch - 1] is None:
        raise ValueError(f"its best epoch {run.best_epoch} was not validated")
    if best_weights and not run.best_epoch:
        raise ValueError("it has best weights but no best epoch")
    if run.broken_off is not None:
        run.broken_off = _checked_broken_off(run.broken_off)
    if (run.position > 0) != (run.broken_off is not None) or run.position < 0:
        raise ValueError(f"its step {run.step} is not that of its last epoch")
    return run


def _checked_history(history) -> dict[str, list]:
    if not isinstance(history, dict) or history.keys() != set(HISTORY):
        raise ValueError(f"its history has other columns than {', '.join(HISTORY)}")
    if not all(isinstance(values, list) for values in history.values()):
        raise ValueError("its history has columns that are no lists")
    if len({len(values) for values in history.values()}) != 1:
        raise ValueError("the columns of its history have different lengths")
    epochs = len(history["epoch"])
    if [_count("epoch", value) for value in history["epoch"]] != list(range(1, epochs + 1)):
        raise ValueError("the epochs of its history do not count from 1")
    steps = [0, *(_count("step", value) for value in history["step"])]
    if any(a >= b for a, b in pairwise(steps)):
        raise ValueError("the steps of its history do not grow")
    checked = {"epoch": history["epoch"], "step": history["step"]}
    for name, lowest, highest in (
        ("loss", -math.inf, math.inf),
        ("accuracy", 0, 1),
        ("val_loss", -math.inf, math.inf),
        ("val_accuracy", 0, 1),
        ("lr", 0, math.inf),
        ("seconds", 0, math.inf),
    ):
        optional = name in {"accuracy", "val_loss", "val_accuracy"}
        checked[name] = [
            None if optional and value is None else _figure(name, value, lowest, highest)
            for value in history[name]
        ]
    return {name: checked[name] for name in HISTORY}


def _checked_broken_off(state) -> dict:
    if not isinstance(state, dict) or state.keys() != {"generator", "loss_sum", "n_correct", "seconds"}:
        raise ValueError("what it keeps of the epoch that was broken off is incomplete")
    return {
        "generator": state["generator"],  # looked at where the generator is known
        "loss_sum": _figure("loss_sum", state["loss_sum"], -math.inf, math.inf),
        "n_correct": _count("n_correct", state["n_correct"]),
        "seconds": _figure("seconds", state["seconds"], 0, math.inf),
    }


def _count(name: str, value, highest: int = MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise ValueError(f"its {name} is {shown(value)}, expected a whole number from 0 to {highest}")
    return value


def _figure(name: str, value, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(as_float(value)) < math.inf:
        raise ValueError(f"its {name} is {shown(value)}, expected a finite number")
    if not lowest <= value <= highest:
        raise ValueError(f"its {name} is {shown(value)}, expected {lowest} to {highest}")
    return float(value)
