"""Owns what the parts of question 7 share: loss curves step by step, and how plots are written into rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pynn.experiments.protocol import Split
from pynn.losses import CrossEntropyLoss
from pynn.module import Module
from pynn.optim import SGD
from pynn.solver import Solver, TrainingDiverged

__all__ = ["loss_curve", "plain_sgd", "plot", "smoothed"]


def plain_sgd(model: Module, split: Split, lr: float, momentum: float = 0.0) -> Solver:
    """A solver for softmax cross-entropy with SGD at a constant learning rate."""
    optimizer = SGD(model.parameters(), lr, momentum=momentum)
    return Solver(model, CrossEntropyLoss(), optimizer, transform=split.standardize)


def loss_curve(solver: Solver, split: Split, batch_size: int, steps: int, rng: np.random.Generator) -> list[float]:
    """The loss before each of `steps` updates; shorter where the training diverged to NaN or infinity."""
    losses = []
    for x, y in _minibatches(split, batch_size, steps, rng):
        try:
            losses.append(solver.train_step(x, y))
        except TrainingDiverged:
            break
    return losses


def smoothed(losses: Sequence[float], points: int = 50) -> tuple[list[int], list[float]]:
    """(steps, losses): means over `points` (or fewer) runs of consecutive steps, each at its last step."""
    window = max(1, len(losses) // points)
    ends = list(range(window, len(losses) + 1, window))
    return ends, [float(np.mean(losses[end - window : end])) for end in ends]


def plot(
    title: str,
    caption: str,
    labels: tuple[str, str],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    y_scale: str = "linear",
) -> dict:
    """A row's entry of `plots`: `labels` of the two axes, `curves` as {label: (x, y)}."""
    return {
        "title": title,
        "caption": caption,
        "x_label": labels[0],
        "y_label": labels[1],
        "x_scale": "linear",
        "y_scale": y_scale,
        "series": [{"label": label, "x": list(x), "y": list(y)} for label, (x, y) in curves.items()],
    }


def _minibatches(split: Split, batch_size: int, steps: int, rng: np.random.Generator) -> Iterator[tuple]:
    """`steps` standardised training batches, all of `batch_size`, from one permutation after the other."""
    order = np.empty(0, np.int64)
    for _ in range(steps):
        if len(order) < batch_size:
            order = rng.permutation(len(split.x_train))
        batch, order = order[:batch_size], order[batch_size:]
        yield split.standardize(split.x_train[batch]), split.y_train[batch]
