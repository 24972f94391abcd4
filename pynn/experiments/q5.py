"""Question 5: convolutional networks on MNIST, plain (5.3) and with batch norm and dropout (5.4)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pynn import models
from pynn.data import Dataset, Shift, load
from pynn.experiments.parts import Part, run_parts
from pynn.experiments.protocol import Recipe, Split, answer, fit, grid
from pynn.experiments.rows import Question, accuracy_row
from pynn.experiments.work import Pieces, Work
from pynn.losses import CrossEntropyLoss

__all__ = ["DATA", "Config", "run"]

DATA = "mnist"
PLAIN = Question("5.3", "Convolutional network", reported=0.9724, target=0.99)
BATCH_NORM = Question("5.4", "Convolutional network, batch norm, dropout", reported=0.9058, target=0.992)


@dataclass(frozen=True)
class Config:
    """Searched, in fewer epochs than trained finally: filter size × hidden units; architecture × dropout rate."""

    kernel_sizes: tuple[int, ...] = (3, 5, 7)
    hidden_sizes: tuple[int, ...] = (16, 64, 256)
    filters: int = 32
    plain: Recipe = Recipe(epochs=8, lr=0.05, weight_decay=5e-4)
    architectures: tuple[tuple[int, int, int], ...] = ((5, 16, 100), (5, 32, 256))  # kernel size, filters, hidden
    dropouts: tuple[float, ...] = (0.2, 0.5, 0.8)
    batch_norm: Recipe = Recipe(epochs=10, lr=0.1, weight_decay=5e-4)
    shift: int = 1  # pixels, at random, in training
    search_epochs: int = 1
    max_train: int | None = None  # training samples used, None for all

    @classmethod
    def quick(cls) -> Config:
        return cls(
            kernel_sizes=(3, 5),
            hidden_sizes=(16, 64),
            filters=16,
            plain=Recipe(epochs=2, lr=0.05, weight_decay=5e-4),
            architectures=((5, 16, 64),),
            dropouts=(0.2, 0.5),
            batch_norm=Recipe(epochs=2, lr=0.1, weight_decay=5e-4),
            max_train=6_000,
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
    """The rows 5.3 and 5.4; `on_row` is called with each as soon as it is done.

    Raises ValueError where a filter size leaves nothing to pool of the data's images.

    data : the loaded set, by default that of `data_dir` or what stands in for it. work : keeps finished pieces.
    """
    parts = [
        Part(question.number, config, config.max_train, partial(answer_part, config, progress))
        for question, answer_part in ((PLAIN, _plain), (BATCH_NORM, _batch_norm))
    ]
    data = data or load(DATA, data_dir, fallback=True)
    seeds = np.random.SeedSequence(seed).spawn(2)
    return run_parts(parts, data, seeds, work=work, progress=progress, on_row=on_row)


def _plain(
    config: Config, progress: bool | None, split: Split, seeds: np.random.SeedSequence, pieces: Pieces
) -> dict:
    def build(choice, rng):
        return models.cnn(
            split.input_shape,
            kernel_size=choice["kernel_size"],
            filters=config.filters,
            hidden=choice["hidden"],
            n_classes=len(split.classes),
            rng=rng,
        )

    train = _trainer(config, config.plain, build, progress)
    candidates = grid(kernel_size=config.kernel_sizes, hidden=config.hidden_sizes)
    result = answer("5.3", split, candidates, train, seeds, pieces, progress=progress)
    size, hidden = result.chosen["kernel_size"], result.chosen["hidden"]
    model = f"Conv {size}×{size} ({config.filters}) – ReLU – MaxPool 2×2 – FC {hidden} – ReLU – FC, softmax"
    return accuracy_row(PLAIN, model, split, result, config, [])


def _batch_norm(
    config: Config, progress: bool | None, split: Split, seeds: np.random.SeedSequence, pieces: Pieces
) -> dict:
    architectures = {_name(*architecture): architecture for architecture in config.architectures}

    def build(choice, rng):
        kernel_size, filters, hidden = architectures[choice["architecture"]]
        return models.cnn_bn(
            split.input_shape,
            kernel_size=kernel_size,
            filters=filters,
            hidden=hidden,
            dropout=choice["dropout"],
            n_classes=len(split.classes),
            rng=rng,
        )

    train = _trainer(config, config.batch_norm, build, progress)
    candidates = grid(architecture=architectures, dropout=config.dropouts)
    result = answer("5.4", split, candidates, train, seeds, pieces, progress=progress)
    size, filters, hidden = architectures[result.chosen["architecture"]]
    model = (
        f"Conv {size}×{size} ({filters}) – BN – ReLU – MaxPool 2×2 – FC {hidden} – BN – ReLU – "
        f"Dropout {result.chosen['dropout']:g} – FC, softmax"
    )
    return accuracy_row(BATCH_NORM, model, split, result, config, [])


def _trainer(config: Config, recipe: Recipe, build, progress: bool | None):
    """`answer`'s train(split, choice, rng, final, training), for the model that build(choice, rng) returns."""

    def train(split, choice, rng, final, training):
        return fit(
            build(choice, rng),
            CrossEntropyLoss(),
            split,
            recipe if final else replace(recipe, epochs=config.search_epochs),
            rng,
            training,
            augment=Shift(config.shift) if config.shift else None,
            progress=progress if final else False,
        )

    return train


def _name(kernel_size: int, filters: int, hidden: int) -> str:
    return f"{filters} filters {kernel_size}×{kernel_size}, FC {hidden}"
