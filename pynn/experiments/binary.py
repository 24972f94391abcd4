"""Owns what questions 2 and 3 share: two classes by a linear model and by one hidden layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pynn import models
from pynn.data import Dataset
from pynn.experiments.parts import Part, run_parts
from pynn.experiments.protocol import Recipe, Split, answer, fit, grid
from pynn.experiments.rows import Question, accuracy_row
from pynn.experiments.work import Pieces, Work

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
    data: Dataset,
    seed: int,
    progress: bool | None,
    on_row: Callable[[dict], object] | None,
    work: Work | None,
) -> list[dict]:
    """The rows of the linear model's question and of the hidden layer's."""
    searches = (
        (grid(weight_decay=config.weight_decays), config.linear),
        (grid(hidden=config.hidden_sizes, weight_decay=config.hidden_weight_decays), config.hidden),
    )
    parts = [
        Part(question.number, config, None, partial(_row, config, loss, question, candidates, recipe, progress))
        for question, (candidates, recipe) in zip(questions, searches, strict=True)
    ]
    seeds = np.random.SeedSequence(seed).spawn(2)
    return run_parts(parts, data, seeds, work=work, progress=progress, on_row=on_row)


def _row(
    config: BinaryConfig,
    loss,
    question: Question,
    candidates: list[dict],
    recipe: Recipe,
    progress: bool | None,
    split: Split,
    seeds: np.random.SeedSequence,
    pieces: Pieces,
) -> dict:
    def train(split, choice, rng, final, training):
        if "hidden" in choice:
            model = models.mlp(split.n_features, choice["hidden"], rng=rng)
        else:
            model = models.linear(split.n_features, rng=rng)
        return fit(model, loss, split, replace(recipe, weight_decay=choice["weight_decay"]), rng, training)

    result = answer(
        question.number,
        split,
        candidates,
        train,
        seeds,
        pieces,
        n_trials=config.n_trials,
        n_seeds=config.n_seeds,
        refit=config.refit,
        progress=progress,
    )
    hidden = result.chosen.get("hidden")
    layers = f"FC {hidden} – ReLU – FC 1" if hidden else "x W + b"
    note = f"A single test sample moves the accuracy by {100 / len(split.test):.2f} points."
    return accuracy_row(question, f"{type(loss).__name__} of {layers}", split, result, config, [note])
