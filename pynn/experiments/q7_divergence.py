"""Question 7.3: the loss falls, then diverges; a lower learning rate or a larger batch is the remedy, measured.

A step of length lr overshoots where the curvature exceeds about 2/lr, and the noise of a gradient over B samples,
whose variance goes as 1/B, throws the weights into such places: the more so, the larger lr and the smaller B.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pynn.experiments.measurements import loss_curve, plain_sgd, plot, smoothed
from pynn.experiments.protocol import Split
from pynn.experiments.rows import Question, measurement_row
from pynn.experiments.work import Pieces
from pynn.layers import Flatten, Linear, ReLU, Sequential
from pynn.module import Module

__all__ = ["DivergenceConfig", "outcome", "run_divergence"]

QUESTION = Question("7.3", "The loss falls, then diverges")
CEILING = 100.0  # larger losses are drawn here, or nothing else could be told apart


@dataclass(frozen=True)
class DivergenceConfig:
    """Hidden layers of ReLUs, SGD with momentum at a constant learning rate; one thing swept, the other fixed."""

    depth: int = 3
    hidden: int = 100
    momentum: float = 0.9
    lrs: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    batch_size: int = 16  # while the learning rate is swept
    batch_sizes: tuple[int, ...] = (4, 16, 64, 256)
    lr: float = 0.05  # while the batch size is swept
    steps: int = 1200
    max_train: int | None = 10_000


def run_divergence(config: DivergenceConfig, split: Split, seeds: np.random.SeedSequence, pieces: Pieces) -> dict:
    """The row 7.3: loss curves of both sweeps from the same initial weights, and how each of them ended."""
    began = pieces.clock()
    (seed,) = seeds.spawn(1)

    def losses(lr: float, batch_size: int) -> list[float]:
        rng = np.random.default_rng(seed)
        solver = plain_sgd(_network(config, split, rng), split, lr, config.momentum)
        return loss_curve(solver, split, min(batch_size, len(split.x_train)), config.steps, rng)

    by_lr = {
        f"learning rate {lr:g}": pieces.value(f"lr-{number}", lambda: losses(lr, config.batch_size))  # noqa: B023
        for number, lr in enumerate(config.lrs)
    }
    by_batch = {
        f"batch {size}": pieces.value(f"batch-{number}", lambda: losses(config.lr, size))  # noqa: B023
        for number, size in enumerate(config.batch_sizes)
    }
    n_classes = len(split.classes)
    notes = [
        f"{fixed}, {label}: {outcome(curve, config.steps, n_classes)}."
        for fixed, curves in ((f"Batch {config.batch_size}", by_lr), (f"Learning rate {config.lr:g}", by_batch))
        for label, curve in curves.items()
    ]
    plots = [
        plot(
            title,
            f"{fixed}, SGD with momentum {config.momentum:g}; losses above {CEILING:g} are drawn at {CEILING:g}.",
            ("step", "training loss"),
            {label: _drawn(curve) for label, curve in curves.items()},
            y_scale="log",
        )
        for title, fixed, curves in (
            ("Loss by learning rate", f"Batch {config.batch_size}", by_lr),
            ("Loss by batch size", f"Learning rate {config.lr:g}", by_batch),
        )
    ]
    model = f"{config.depth} × FC {config.hidden} with ReLU, softmax"
    return measurement_row(QUESTION, model, split, config, pieces.clock() - began, plots, notes)


def outcome(losses: list[float], steps: int, n_classes: int) -> str:
    """In words: whether the loss became infinite, ended no better than chance (ln K), or fell; and from where."""
    ends, means = smoothed(losses)
    if not means:
        return "the loss was infinite from the first step"
    lowest = int(np.argmin(means))
    before = f"the loss fell to {means[lowest]:.3g} by step {ends[lowest]}"
    if len(losses) < steps:
        return f"{before} and diverged to infinity at step {len(losses)}"
    chance = math.log(n_classes)
    if means[-1] >= 0.95 * chance:
        return f"{before} and ended at {means[-1]:.3g}, no better than chance (ln {n_classes} = {chance:.2f})"
    return f"{before} and ended at {means[-1]:.3g}"


def _network(config: DivergenceConfig, split: Split, rng: np.random.Generator) -> Sequential:
    layers: list[Module] = [Flatten()]
    width = split.n_features
    for _ in range(config.depth):
        layers += [Linear(width, config.hidden, rng=rng), ReLU()]
        width = config.hidden
    return Sequential(*layers, Linear(width, len(split.classes), rng=rng))


def _drawn(losses: list[float]) -> tuple[list[int], list[float]]:
    ends, means = smoothed(losses)
    return ends, [min(mean, CEILING) for mean in means]
