"""Owns the schedules: callables `(step, total_steps) -> factor` on each group's base lr, without any state.

`step` counts from 0, the first update's. Total steps and later ones are allowed: a schedule of a fixed length
then keeps its final value. ValueError where an argument does not fit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from pynn.values import as_float, is_integer, is_number, shown

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "OneCycle",
    "PerEpoch",
    "Schedule",
    "StepDecay",
    "Warmup",
    "factor_of",
]


_MOST = 2**53  # steps: a float holds every whole number up to here


def factor_of(name: str, schedule: Callable[[int, int], float], step: int, total_steps: int) -> float:
    """schedule(step, total_steps), a finite number from 0 up; else TypeError or ValueError with `name`."""
    factor = schedule(step, total_steps)
    if isinstance(factor, np.ndarray) and factor.shape == ():
        factor = factor[()]
    if not is_number(factor):
        raise TypeError(f"{name} must return a number, got {shown(factor)} at step {step}")
    if not 0 <= as_float(factor) < math.inf:
        raise ValueError(f"{name} must return a finite number from 0 up, got {shown(factor)} at step {step}")
    return float(factor)


@dataclass(frozen=True)
class Schedule(ABC):
    """The base of all schedules: checks."""

    def __call__(self, step: int, total_steps: int) -> float:
        for name, value, lowest in (("step", step, 0), ("total_steps", total_steps, 1)):
            if not is_integer(value) or not lowest <= value < _MOST:
                raise ValueError(
                    f"[{type(self).__name__}] {name} must be an int from {lowest} up, got {shown(value)}"
                )
        return float(self._factor(int(step), int(total_steps)))

    def in_steps(self, steps_per_epoch: int) -> Schedule:
        """The same schedule for epochs of so many steps; `Solver.fit` asks for it. Here: itself."""
        return self

    @abstractmethod
    def _factor(self, t: int, total: int) -> float:
        """The factor at t ≥ 0 of T ≥ 1 steps."""

    def _require(self, name: str, rule: str, fits: bool) -> None:
        if not fits:
            raise ValueError(f"[{type(self).__name__}] {name} must be {rule}, got {shown(getattr(self, name))}")


@dataclass(frozen=True)
class Constant(Schedule):
    """1 at every step."""

    def _factor(self, t, total):
        return 1.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """γ^⌊t / step_size⌋: a drop by γ = `gamma` in (0, 1] every `step_size` steps."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self):
        self._require("step_size", "an int from 1 up", _is_count(self.step_size))
        self._require("gamma", "a number above 0 and at most 1", is_number(self.gamma) and 0 < self.gamma <= 1)

    def _factor(self, t, total):
        return self.gamma ** (t // self.step_size)


@dataclass(frozen=True)
class Exponential(Schedule):
    """γᵗ: `gamma` in (0, 1] for each step."""

    gamma: float

    def __post_init__(self):
        self._require("gamma", "a number above 0 and at most 1", is_number(self.gamma) and 0 < self.gamma <= 1)

    def _factor(self, t, total):
        return self.gamma**t


@dataclass(frozen=True)
class Cosine(Schedule):
    """final + (1 − final) · ½(1 + cos(π t / T)): half a cosine from 1 at t = 0 to `final` in [0, 1] at t = T.

    Source: Loshchilov & Hutter 2017, SGDR, eq. 5, without restarts.
    """

    final: float = 0.0

    def __post_init__(self):
        self._require("final", "a number from 0 to 1", is_number(self.final) and 0 <= self.final <= 1)

    def _factor(self, t, total):
        return _anneal_cosine(1, self.final, min(t / total, 1))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from 1/div to 1 over the fraction `warmup` of the run, then down to 1/final_div at its last step.

    With u = t / (T − 1): 1/div at u = 0, 1 at u = warmup, 1/final_div at u = 1; between them half a cosine or a
    straight line. The base lr is thus the largest. warmup in [0, 1]; div, final_div ≥ 1; anneal "cosine" or
    "linear". Source: Smith 2018, A disciplined approach to neural network hyper-parameters, section 4.
    """

    warmup: float = 0.3
    div: float = 25.0
    final_div: float = 1e4
    anneal: str = "cosine"

    def __post_init__(self):
        self._require("warmup", "a number from 0 to 1", is_number(self.warmup) and 0 <= self.warmup <= 1)
        for name in ("div", "final_div"):
            value = getattr(self, name)
            self._require(name, "a finite number from 1 up", is_number(value) and 1 <= as_float(value) < math.inf)
        self._require(
            "anneal", '"cosine" or "linear"', isinstance(self.anneal, str) and self.anneal in ("cosine", "linear")
        )

    def _factor(self, t, total):
        between = _anneal_cosine if self.anneal == "cosine" else _anneal_linear
        u = min(t / max(total - 1, 1), 1)
        if u < self.warmup:
            return between(1 / self.div, 1, u / self.warmup)
        return between(1, 1 / self.final_div, (u - self.warmup) / (1 - self.warmup) if self.warmup < 1 else 0)


@dataclass(frozen=True)
class Warmup(Schedule):
    """(t + 1) / (steps + 1) · after(0, T′) for the first `steps` steps, then after(t − steps, T′).

    T′ = T − steps, at least 1: a straight line up to where `after`, a schedule for the rest of the run, begins.
    Source: Goyal et al. 2017, Accurate, large minibatch SGD, section 2.2.
    """

    steps: int
    after: Schedule = field(default_factory=Constant)

    def __post_init__(self):
        self._require("steps", "an int from 1 up", _is_count(self.steps))
        self._require("after", "a schedule, (step, total_steps) -> factor", callable(self.after))

    def in_steps(self, steps_per_epoch):
        return (
            replace(self, after=self.after.in_steps(steps_per_epoch)) if isinstance(self.after, Schedule) else self
        )

    def _factor(self, t, total):
        rest = max(total - self.steps, 1)
        if t < self.steps:
            return (t + 1) / (self.steps + 1) * factor_of("[Warmup] after", self.after, 0, rest)
        return factor_of("[Warmup] after", self.after, t - self.steps, rest)


@dataclass(frozen=True)
class PerEpoch(Schedule):
    """schedule(⌊t / S⌋, ⌈T / S⌉) with S the steps of an epoch: any schedule, or function, counted in epochs.

    `PerEpoch(StepDecay(30))` drops every 30 epochs, `PerEpoch(lambda epoch, epochs: 0.95**epoch)` decays once an
    epoch. S is known to `Solver.fit`; elsewhere it is given as `steps_per_epoch`, or by `in_steps`.
    """

    schedule: Callable[[int, int], float]
    steps_per_epoch: int | None = None

    def __post_init__(self):
        self._require("schedule", "a schedule, (epoch, total_epochs) -> factor", callable(self.schedule))
        steps = self.steps_per_epoch
        self._require("steps_per_epoch", "an int from 1 up, or None", steps is None or _is_count(steps))

    def in_steps(self, steps_per_epoch):
        return self if self.steps_per_epoch is not None else replace(self, steps_per_epoch=steps_per_epoch)

    def _factor(self, t, total):
        if self.steps_per_epoch is None:
            raise ValueError(
                "[PerEpoch] the steps of an epoch are not known: give steps_per_epoch, or use Solver.fit"
            )
        epoch, epochs = t // self.steps_per_epoch, -(-total // self.steps_per_epoch)
        return factor_of("[PerEpoch] schedule", self.schedule, epoch, epochs)


def _is_count(value) -> bool:
    return is_integer(value) and 1 <= value < _MOST


def _anneal_cosine(start: float, end: float, u: float) -> float:
    """From `start` at u = 0 to `end` at u = 1, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * u)) / 2


def _anneal_linear(start: float, end: float, u: float) -> float:
    """From `start` at u = 0 to `end` at u = 1, along a straight line."""
    return end + (start - end) * (1 - u)
