"""Question 4: softmax cross-entropy on MNIST, with a linear model (4.3) and with one hidden layer (4.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pynn import models
from pynn.data import load
from pynn.experiments.protocol import Recipe, Split, answer, fit, grid
from pynn.experiments.rows import Question, accuracy_row
from pynn.layers import Flatten, Sequential
from pynn.losses import CrossEntropyLoss

__all__ = ["Config", "run"]

LINEAR = Question("4.3", "Softmax regression, linear", reported=0.92, target=0.925)
HIDDEN = Question("4.4", "Softmax, one hidden layer", reported=0.9363, target=0.983)


@dataclass(frozen=True)
class Config:
    """Searched: the linear model's weight decay; the hidden size, in fewer epochs than the final training has."""

    weight_decays: tuple[float, ...] = (1e-3, 1e-4, 0.0)
    linear: Recipe = Recipe(epochs=10, lr=0.02)
    hidden_sizes: tuple[int, ...] = (10, 30, 100, 300, 1000)
    hidden: Recipe = Recipe(epochs=12, lr=0.1, weight_decay=5e-4)
    search_epochs: int = 3
    n_seeds: int = 1
    max_train: int | None = None  # training samples used, None for all

    @classmethod
    def quick(cls) -> Config:
        return cls(
            weight_decays=(1e-4,),
            linear=Recipe(epochs=2, lr=0.02),
            hidden_sizes=(30, 300),
            hidden=Recipe(epochs=3, lr=0.1, weight_decay=5e-4),
            search_epochs=1,
            n_seeds=1,
            max_train=10_000,
        )


def run(config: Config, *, data_dir=None, seed: int = 0, progress: bool | None = None, on_row=None) -> list[dict]:
    """The rows 4.3 and 4.4; `on_row` is called with each as soon as it is done."""
    data = load("mnist", data_dir, fallback=True)
    rows = []
    for part, seeds in zip((_linear, _hidden), np.random.SeedSequence(seed).spawn(2), strict=True):
        rows.append(part(config, Split.of(data, config.max_train), seeds, progress))
        if on_row is not None:
            on_row(rows[-1])
    return rows


def _linear(config: Config, split: Split, seeds: np.random.SeedSequence, progress: bool | None) -> dict:
    def train(split, choice, rng, final):
        model = Sequential(Flatten(), models.linear(split.n_features, len(split.classes), rng=rng))
        recipe = replace(config.linear, weight_decay=choice["weight_decay"])
        return fit(model, CrossEntropyLoss(), split, recipe, rng)

    candidates = grid(weight_decay=config.weight_decays)
    result = answer("4.3", split, candidates, train, seeds, n_seeds=config.n_seeds, progress=progress)
    return accuracy_row(LINEAR, f"FC {split.n_features}–{len(split.classes)}, softmax", split, result, config, [])


def _hidden(config: Config, split: Split, seeds: np.random.SeedSequence, progress: bool | None) -> dict:
    def train(split, choice, rng, final):
        model = Sequential(Flatten(), models.mlp(split.n_features, choice["hidden"], len(split.classes), rng=rng))
        recipe = config.hidden if final else replace(config.hidden, epochs=config.search_epochs)
        return fit(model, CrossEntropyLoss(), split, recipe, rng, progress=progress if final else False)

    candidates = grid(hidden=config.hidden_sizes)
    result = answer("4.4", split, candidates, train, seeds, n_seeds=config.n_seeds, progress=progress)
    sizes = f"{split.n_features}–{result.chosen['hidden']}–{len(split.classes)}"
    return accuracy_row(HIDDEN, f"FC {sizes} with ReLU, softmax", split, result, config, [])
