"""Owns the schedules: callables `(step, total_steps) -> factor` on each group's base lr, without any state.

`step` counts from 0, the first update's. Total steps and later ones are allowed: a schedule of a fixed length
then keeps its final value. ValueError where an argument does not fit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from numbers import Integral, Real

__all__ = ["Constant", "Cosine", "Exponential", "OneCycle", "Schedule", "StepDecay", "Warmup"]


@dataclass(frozen=True)
class Schedule(ABC):
    """The base of all schedules: checks."""

    def __call__(self, step: int, total_steps: int) -> float:
        if not isinstance(step, Integral) or step < 0:
            raise ValueError(f"[{type(self).__name__}] step must be an int from 0 up, got {step!r}")
        if not isinstance(total_steps, Integral) or total_steps < 1:
            raise ValueError(f"[{type(self).__name__}] total_steps must be an int from 1 up, got {total_steps!r}")
        return float(self._factor(int(step), int(total_steps)))

    @abstractmethod
    def _factor(self, t: int, total: int) -> float:
        """The factor at t ≥ 0 of T ≥ 1 steps."""

    def _require(self, name: str, rule: str, fits: bool) -> None:
        if not fits:
            raise ValueError(f"[{type(self).__name__}] {name} must be {rule}, got {getattr(self, name)!r}")


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
        self._require(
            "step_size", "an int from 1 up", isinstance(self.step_size, Integral) and self.step_size >= 1
        )
        self._require(
            "gamma", "a number above 0 and at most 1", isinstance(self.gamma, Real) and 0 < self.gamma <= 1
        )

    def _factor(self, t, total):
        return self.gamma ** (t // self.step_size)


@dataclass(frozen=True)
class Exponential(Schedule):
    """γᵗ: `gamma` in (0, 1] for each step."""

    gamma: float

    def __post_init__(self):
        self._require(
            "gamma", "a number above 0 and at most 1", isinstance(self.gamma, Real) and 0 < self.gamma <= 1
        )

    def _factor(self, t, total):
        return self.gamma**t


@dataclass(frozen=True)
class Cosine(Schedule):
    """final + (1 − final) · ½(1 + cos(π t / T)): half a cosine from 1 at t = 0 to `final` in [0, 1] at t = T.

    Source: Loshchilov & Hutter 2017, SGDR, eq. 5, without restarts.
    """

    final: float = 0.0

    def __post_init__(self):
        self._require("final", "a number from 0 to 1", isinstance(self.final, Real) and 0 <= self.final <= 1)

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
        self._require("warmup", "a number from 0 to 1", isinstance(self.warmup, Real) and 0 <= self.warmup <= 1)
        for name in ("div", "final_div"):
            value = getattr(self, name)
            self._require(name, "a finite number from 1 up", isinstance(value, Real) and 1 <= value < math.inf)
        self._require("anneal", '"cosine" or "linear"', self.anneal in ("cosine", "linear"))

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
        self._require("steps", "an int from 1 up", isinstance(self.steps, Integral) and self.steps >= 1)
        self._require("after", "a schedule, (step, total_steps) -> factor", callable(self.after))

    def _factor(self, t, total):
        rest = max(total - self.steps, 1)
        if t < self.steps:
            return (t + 1) / (self.steps + 1) * self.after(0, rest)
        return self.after(t - self.steps, rest)


def _anneal_cosine(start: float, end: float, u: float) -> float:
    """From `start` at u = 0 to `end` at u = 1, along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * u)) / 2


def _anneal_linear(start: float, end: float, u: float) -> float:
    """From `start` at u = 0 to `end` at u = 1, along a straight line."""
    return end + (start - end) * (1 - u)
