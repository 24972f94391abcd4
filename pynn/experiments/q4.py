"""Question 4: softmax cross-entropy on MNIST, with a linear model (4.3) and with one hidden layer (4.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pynn import models
from pynn.data import Dataset, load
from pynn.experiments.parts import Part, run_parts
from pynn.experiments.protocol import Recipe, Split, answer, fit, grid
from pynn.experiments.rows import Question, accuracy_row
from pynn.experiments.work import Pieces, Work
from pynn.layers import Flatten, Sequential
from pynn.losses import CrossEntropyLoss

__all__ = ["DATA", "Config", "run"]

DATA = "mnist"
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


def run(
    config: Config,
    *,
    data: Dataset | None = None,
    data_dir=None,
    seed: int = 0,
    progress: bool | None = None,
    on_row=None,
    work: Work | None = None,
) -> list[dict]:
    """The rows 4.3 and 4.4; `on_row` is called with each as soon as it is done.

    data : the loaded set, by default that of `data_dir` or what stands in for it. work : keeps finished pieces.
    """
    parts = [
        Part(question.number, config, config.max_train, partial(answer_part, config, progress))
        for question, answer_part in ((LINEAR, _linear), (HIDDEN, _hidden))
    ]
    data = data or load(DATA, data_dir, fallback=True)
    seeds = np.random.SeedSequence(seed).spawn(2)
    return run_parts(parts, data, seeds, work=work, progress=progress, on_row=on_row)


def _linear(
    config: Config, progress: bool | None, split: Split, seeds: np.random.SeedSequence, pieces: Pieces
) -> dict:
    def train(split, choice, rng, final, training):
        model = Sequential(Flatten(), models.linear(split.n_features, len(split.classes), rng=rng))
        recipe = replace(config.linear, weight_decay=choice["weight_decay"])
        return fit(model, CrossEntropyLoss(), split, recipe, rng, training)

    candidates = grid(weight_decay=config.weight_decays)
    result = answer("4.3", split, candidates, train, seeds, pieces, n_seeds=config.n_seeds, progress=progress)
    return accuracy_row(LINEAR, f"FC {split.n_features}–{len(split.classes)}, softmax", split, result, config, [])


def _hidden(
    config: Config, progress: bool | None, split: Split, seeds: np.random.SeedSequence, pieces: Pieces
) -> dict:
    def train(split, choice, rng, final, training):
        model = Sequential(Flatten(), models.mlp(split.n_features, choice["hidden"], len(split.classes), rng=rng))
        recipe = config.hidden if final else replace(config.hidden, epochs=config.search_epochs)
        return fit(model, CrossEntropyLoss(), split, recipe, rng, training, progress=progress if final else False)

    candidates = grid(hidden=config.hidden_sizes)
    result = answer("4.4", split, candidates, train, seeds, pieces, n_seeds=config.n_seeds, progress=progress)
    sizes = f"{split.n_features}–{result.chosen['hidden']}–{len(split.classes)}"
    return accuracy_row(HIDDEN, f"FC {sizes} with ReLU, softmax", split, result, config, [])
