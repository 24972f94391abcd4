"""Owns what questions 2 and 3 share: two classes by a linear model and by one hidden layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pynn import models
from pynn.data import Dataset, load
from pynn.experiments.protocol import Recipe, Split, answer, fit, grid
from pynn.experiments.rows import Question, accuracy_row

__all__ = ["BinaryConfig", "run_binary"]


@dataclass(frozen=True)
class BinaryConfig:
    """What is searched and how it is trained. Simpler candidates come first, as they win ties."""

    weight_decays: tuple[float, ...]
    hidden_sizes: tuple[int, ...]
    hidden_weight_decays: tuple[float, ...]
    linear: Recipe
    hidden: Recipe
    n_trials: int = 2  # trainings behind each candidate's validation accuracy
    n_seeds: int = 10
    refit: bool = True  # finally trained on training and validation samples, as there are few


def run_binary(
    config: BinaryConfig,
    loss,
    questions: tuple[Question, Question],
    *,
    data_dir,
    seed: int,
    progress: bool | None,
    on_row: Callable[[dict], object] | None,
) -> list[dict]:
    """The rows of the linear model's question and of the hidden layer's."""
    data = load("binary20", data_dir, fallback=True)
    searches = (
        (grid(weight_decay=config.weight_decays), config.linear),
        (grid(hidden=config.hidden_sizes, weight_decay=config.hidden_weight_decays), config.hidden),
    )
    rows = []
    for question, (candidates, recipe), seeds in zip(
        questions, searches, np.random.SeedSequence(seed).spawn(2), strict=True
    ):
        rows.append(_row(config, loss, question, data, candidates, recipe, seeds, progress))
        if on_row is not None:
            on_row(rows[-1])
    return rows


def _row(
    config: BinaryConfig,
    loss,
    question: Question,
    data: Dataset,
    candidates: list[dict],
    recipe: Recipe,
    seeds: np.random.SeedSequence,
    progress: bool | None,
) -> dict:
    def train(split, choice, rng, final):
        if "hidden" in choice:
            model = models.mlp(split.n_features, choice["hidden"], rng=rng)
        else:
            model = models.linear(split.n_features, rng=rng)
        return fit(model, loss, split, replace(recipe, weight_decay=choice["weight_decay"]), rng)

    split = Split.of(data)
    result = answer(
        question.number,
        split,
        candidates,
        train,
        seeds,
        n_trials=config.n_trials,
        n_seeds=config.n_seeds,
        refit=config.refit,
        progress=progress,
    )
    hidden = result.chosen.get("hidden")
    layers = f"FC {hidden} – ReLU – FC 1" if hidden else "x W + b"
    note = f"A single test sample moves the accuracy by {100 / len(split.test):.2f} points."
    return accuracy_row(question, f"{type(loss).__name__} of {layers}", split, result, config, [note])
