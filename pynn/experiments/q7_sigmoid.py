"""Question 7.1: why the sigmoid makes deep networks hard to train, measured.

Sigmoid outputs are all positive, so the gradients of a unit's weights, ∂L/∂wᵢ = Σₙ aₙᵢ δₙ, tend to share one sign:
the weights can only rise or fall together and reach a goal in another direction by zig-zag. And σ′ ≤ 1/4 shrinks
the gradient at every layer. Tanh is centred on zero, ReLU has slope 1 where it is active.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from pynn.experiments.measurements import loss_curve, plain_sgd, plot, smoothed
from pynn.experiments.protocol import Split, search
from pynn.experiments.rows import Question, measurement_row
from pynn.experiments.work import Pieces
from pynn.layers import Flatten, Linear, ReLU, Sequential, Sigmoid, Tanh
from pynn.losses import CrossEntropyLoss, MSELoss
from pynn.module import Module
from pynn.optim import SGD
from pynn.solver import Solver

__all__ = ["SigmoidConfig", "gradient_norms", "one_signed_share", "run_sigmoid", "zig_zag"]

QUESTION = Question("7.1", "Why the sigmoid makes deep networks hard to train")
ACTIVATIONS = {
    "sigmoid": (Sigmoid, "xavier_normal"),
    "tanh": (Tanh, "xavier_normal"),
    "ReLU": (ReLU, "kaiming_normal"),
}


@dataclass(frozen=True)
class SigmoidConfig:
    """A deep network of equal layers, trained with each activation at its own best learning rate."""

    depth: int = 8  # hidden layers
    width: int = 64
    lrs: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)  # the validation part decides, for each activation
    steps: int = 800
    batch_size: int = 100
    max_train: int | None = 10_000
    path_steps: int = 200  # of the zig-zag demonstration


def run_sigmoid(config: SigmoidConfig, split: Split, seeds: np.random.SeedSequence, pieces: Pieces) -> dict:
    """The row 7.1: what was measured at initialisation, loss curves, and the path of two weights."""
    began = pieces.clock()
    network_seed, path_seed = seeds.spawn(2)
    positive, one_signed, norms, losses, notes = {}, {}, {}, {}, []
    for name in ACTIVATIONS:
        model = deep_network(config, split, name, np.random.default_rng(network_seed))
        x, y = split.standardize(split.x_train[: config.batch_size]), split.y_train[: config.batch_size]
        positive[name] = positive_share(model, x)
        norms[name], one_signed[name] = gradient_norms(model, x, y), one_signed_share(model, x, y)
        lr, losses[name], val_accuracy = _trained(config, split, name, network_seed, pieces)
        notes.append(
            f"With {name}, {100 * positive[name]:.0f} % of the hidden activations are positive; in "
            f"{100 * one_signed[name]:.0f} % of the hidden units all weights have gradients of one sign; "
            f"the first layer's gradient is {norms[name][0] / norms[name][-2]:.2g} times the last hidden "
            f"layer's; after {config.steps} steps at its best learning rate, {lr:g}, the loss is "
            f"{losses[name][1][-1]:.3f} and the validation accuracy {100 * val_accuracy:.1f} %."
        )
    paths = {
        name: zig_zag(name, config.path_steps, np.random.default_rng(path_seed)) for name in ("sigmoid", "tanh")
    }
    for name, path in paths.items():
        moves = np.diff(path, axis=0)
        together = (moves[:, 0] * moves[:, 1] > 0).mean()
        detour = np.linalg.norm(moves, axis=1).sum() / np.linalg.norm(path[-1] - path[0])
        remaining = np.linalg.norm(path[-1] - GOAL) / np.linalg.norm(GOAL)
        notes.append(
            f"Two weights fed by {name} outputs: both move in the same direction in {100 * together:.0f} % of the "
            f"steps; the path is {detour:.1f} times as long as the straight line, and after {len(moves)} steps "
            f"{100 * remaining:.1f} % of the distance remain."
        )
    depths = list(range(1, config.depth + 2))
    plots = [
        plot(
            "Loss with each activation",
            f"{config.depth} hidden layers of {config.width} units, each activation at its best learning rate.",
            ("step", "training loss"),
            losses,
        ),
        plot(
            "Gradient norm by depth",
            "‖∂L/∂W‖ of each layer at initialisation, from the first to the output layer.",
            ("layer", "gradient norm"),
            {name: (depths, values) for name, values in norms.items()},
            y_scale="log",
        ),
        plot(
            "Path of two weights",
            "SGD, one sample a step, from (0, 0) to (1, −1); the inputs are sigmoid or tanh outputs.",
            ("first weight", "second weight"),
            {name: (path[:, 0].tolist(), path[:, 1].tolist()) for name, path in paths.items()},
        ),
    ]
    models = f"{config.depth} × FC {config.width} with sigmoid, tanh or ReLU, softmax"
    return measurement_row(QUESTION, models, split, config, pieces.clock() - began, plots, notes)


# -- the deep network ---------------------------------------------------------------------------------------


def deep_network(config: SigmoidConfig, split: Split, activation: str, rng: np.random.Generator) -> Sequential:
    kind, init = ACTIVATIONS[activation]
    widths = [split.n_features, *[config.width] * config.depth]
    layers: list[Module] = [Flatten()]
    for before, after in itertools.pairwise(widths):
        layers += [Linear(before, after, init=init, rng=rng), kind()]
    return Sequential(*layers, Linear(config.width, len(split.classes), init=init, rng=rng))


def positive_share(model: Sequential, x: np.ndarray) -> float:
    """The share of hidden activations above zero."""
    shares = []
    for layer in model:
        x = layer(x)
        if not isinstance(layer, Linear | Flatten):
            shares.append((x > 0).mean())
    return float(np.mean(shares))


def gradient_norms(model: Sequential, x: np.ndarray, y: np.ndarray) -> list[float]:
    """‖∂L/∂W‖ of each Linear layer, first to last, of the mean loss over the batch."""
    return [float(np.linalg.norm(gradient)) for gradient in _weight_gradients(model, x, y)]


def one_signed_share(model: Sequential, x: np.ndarray, y: np.ndarray) -> float:
    """The share of units fed by hidden activations whose weights' gradients, over the batch, have no two signs.

    Units without any gradient do not count.
    """
    gradients = np.concatenate(_weight_gradients(model, x, y)[1:], axis=1)
    alive = (gradients != 0).any(axis=0)
    one_signed = ~((gradients > 0).any(axis=0) & (gradients < 0).any(axis=0))
    return float(np.mean(one_signed, where=alive))


def _weight_gradients(model: Sequential, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    model.zero_grad()
    _, dscores = CrossEntropyLoss()(model.forward(x, training=True), y)
    model.backward(dscores, input_grad=False)
    return [layer.weight.grad.copy() for layer in model if isinstance(layer, Linear)]


def _trained(config: SigmoidConfig, split: Split, activation: str, seed: np.random.SeedSequence, pieces: Pieces):
    """(lr, (steps, losses), validation accuracy) of the learning rate that the validation part prefers."""
    curves = {}

    def train(lr):
        rng = np.random.default_rng(seed)
        solver = plain_sgd(deep_network(config, split, activation, rng), split, lr)
        curve = smoothed(loss_curve(solver, split, config.batch_size, config.steps, rng))
        return [curve, solver.evaluate(split.x_val, split.y_val)["accuracy"]]

    def evaluate(choice):
        lr = choice["lr"]
        curves[lr], val_accuracy = pieces.value(f"{activation}-lr-{lr:g}", lambda: train(lr))
        return val_accuracy

    best, table = search([{"lr": lr} for lr in config.lrs], evaluate)
    return best["lr"], curves[best["lr"]], max(trial["val_accuracy"] for trial in table)


# -- two weights --------------------------------------------------------------------------------------------

GOAL = np.array([1.0, -1.0])


def zig_zag(activation: str, steps: int, rng: np.random.Generator) -> np.ndarray:
    """(steps + 1, 2): the weights of y = w·a on their way from 0 to GOAL, by SGD with one sample a step.

    a : (2,), the activation of standard normal numbers. The targets are exact, so that only the inputs' signs
    keep the path from being straight.
    """
    kind, _ = ACTIVATIONS[activation]
    inputs = kind()(rng.standard_normal((steps, 2)))
    unit = Linear(2, 1, bias=False, dtype=np.float64, rng=rng)
    unit.weight.data[...] = 0
    solver = Solver(unit, MSELoss(), SGD(unit.parameters(), lr=0.25))
    path = [unit.weight.data[:, 0].copy()]
    for a in inputs:
        solver.train_step(a[np.newaxis], np.array([[a @ GOAL]]))
        path.append(unit.weight.data[:, 0].copy())
    return np.array(path)
