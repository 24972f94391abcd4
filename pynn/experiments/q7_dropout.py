"""Question 7.2: dropout at inference, measured.

Trained with masks that keep a unit with probability p, the next layer sees p·x on average; at inference, without
masks, y = W(p·x) restores that scale. Vanilla dropout multiplies by p at inference, inverted dropout divides by p
in training; leaving the factor out makes the inputs of every following layer 1/p times too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pynn.experiments.measurements import plain_sgd, plot
from pynn.experiments.protocol import Recipe, Split, fit
from pynn.experiments.rows import Question, measurement_row
from pynn.experiments.work import Pieces
from pynn.layers import Dropout, Flatten, Linear, ReLU, Sequential, VanillaDropout
from pynn.losses import CrossEntropyLoss
from pynn.module import Module
from pynn.solver import Solver

__all__ = ["DropoutConfig", "logit_scale", "run_dropout"]

QUESTION = Question("7.2", "Dropout at inference: y = W(x·p)")
SCALED, UNSCALED, INVERTED = "vanilla, scaled by p", "vanilla, not scaled", "inverted"


@dataclass(frozen=True)
class DropoutConfig:
    """Two hidden layers, each followed by dropout; vanilla and inverted dropout are trained at each rate."""

    rates: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8)  # probabilities of dropping, 1 − p
    hidden: int = 256
    recipe: Recipe = Recipe(epochs=5, lr=0.03, weight_decay=0.0)
    masks: int = 40  # over which the scores of training mode are averaged
    max_train: int | None = 10_000


def run_dropout(config: DropoutConfig, split: Split, seeds: np.random.SeedSequence, pieces: Pieces) -> dict:
    """The row 7.2: test accuracy, test loss and scale of the scores, against the dropout rate."""
    began = pieces.clock()
    solvers: dict[str, list[Solver]] = {SCALED: [], UNSCALED: [], INVERTED: []}
    for number, (rate, seed) in enumerate(zip(config.rates, seeds.spawn(len(config.rates)), strict=True)):
        for form, name in (("vanilla", SCALED), ("inverted", INVERTED)):
            rng, training = np.random.default_rng(seed), pieces.training(f"{form}-{number}")
            model = network(config, split, name, rate, rng)
            solvers[name].append(fit(model, CrossEntropyLoss(), split, config.recipe, rng, training))
            training.keep(solvers[name][-1])
        unscaled = network(config, split, UNSCALED, rate, np.random.default_rng(seed))
        unscaled.load_state_dict(solvers[SCALED][-1].model.state_dict())
        solvers[UNSCALED].append(plain_sgd(unscaled, split, lr=0.0))  # to evaluate, not to train
    x = split.standardize(split.x_val[:500])
    scales = {
        name: [logit_scale(solver.model, x, config.masks) for solver in group] for name, group in solvers.items()
    }
    split.test.record({})
    x_test, y_test = split.test.open()
    figures = {name: [solver.evaluate(x_test, y_test) for solver in group] for name, group in solvers.items()}

    worst = len(config.rates) - 1
    notes = [
        f"At a dropout rate of {config.rates[worst]:g} (p = {1 - config.rates[worst]:.1f}), {name}: the scores at "
        f"inference are {scales[name][worst]:.2f} times as large as on average in training; test accuracy "
        f"{100 * figures[name][worst]['accuracy']:.2f} %, test loss {figures[name][worst]['loss']:.3f}."
        for name in solvers
    ]

    def by_rate(values):
        return {name: (list(config.rates), column) for name, column in values.items()}

    plots = [
        plot(
            "Test accuracy against the dropout rate",
            "The vanilla forms are the same trained network; only the factor p at inference differs.",
            ("dropout rate 1 − p", "test accuracy"),
            by_rate({name: [figure["accuracy"] for figure in column] for name, column in figures.items()}),
        ),
        plot(
            "Test loss against the dropout rate",
            "Scores that are too large make wrong answers confident: the loss shows it before the accuracy.",
            ("dropout rate 1 − p", "test loss"),
            by_rate({name: [figure["loss"] for figure in column] for name, column in figures.items()}),
            y_scale="log",
        ),
        plot(
            "Scale of the scores at inference",
            f"Scores at inference over scores in training mode, averaged over {config.masks} masks; 1 is a match.",
            ("dropout rate 1 − p", "ratio"),
            by_rate(scales),
            y_scale="log",
        ),
    ]
    models = f"FC {config.hidden} – ReLU – dropout – FC {config.hidden} – ReLU – dropout – FC, softmax"
    return measurement_row(QUESTION, models, split, config, pieces.clock() - began, plots, notes)


def network(config: DropoutConfig, split: Split, form: str, rate: float, rng: np.random.Generator) -> Sequential:
    def dropout():
        return (
            Dropout(rate, rng=rng)
            if form == INVERTED
            else VanillaDropout(1 - rate, rescale=form == SCALED, rng=rng)
        )

    return Sequential(
        Flatten(),
        Linear(split.n_features, config.hidden, rng=rng),
        ReLU(),
        dropout(),
        Linear(config.hidden, config.hidden, rng=rng),
        ReLU(),
        dropout(),
        Linear(config.hidden, len(split.classes), rng=rng),
    )


def logit_scale(model: Module, x: np.ndarray, masks: int) -> float:
    """How many times as large the scores at inference are as those of training mode averaged over `masks` masks.

    The ratio of their root mean squares, each sample's scores less their mean, which softmax ignores.
    """
    trained = np.mean([model.forward(x, training=True) for _ in range(masks)], axis=0)
    return _spread(model(x)) / _spread(trained)


def _spread(scores: np.ndarray) -> float:
    return float(np.sqrt(np.square(scores - scores.mean(axis=1, keepdims=True)).mean()))
