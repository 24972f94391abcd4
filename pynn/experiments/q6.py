"""Question 6: the reduced VGG-11 with batch norm on CIFAR-10 (6.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pynn import models
from pynn.data import Compose, Dataset, Flip, Shift, load
from pynn.experiments.parts import Part, run_parts
from pynn.experiments.protocol import Recipe, Split, answer, fit
from pynn.experiments.rows import Question, accuracy_row
from pynn.experiments.work import Pieces, Work
from pynn.losses import CrossEntropyLoss

__all__ = ["DATA", "Config", "run"]

DATA = "cifar10"
VGG = Question("6.2", "Reduced VGG-11", reported=0.69, target=0.77)
SIDE = 32  # pixels that five 2×2 poolings need


@dataclass(frozen=True)
class Config:
    """Nothing is searched; the recipe was settled on CIFAR-10's validation part, its length by time."""

    channels: tuple[int, ...] = (8, 16, 32, 32, 64, 64, 64, 64)
    hidden: tuple[int, ...] = (64, 64)
    recipe: Recipe = Recipe(epochs=16, lr=0.1, weight_decay=5e-4)
    label_smoothing: float = 0.0
    shift: int = 2  # pixels, at random, in training
    flip: bool = True  # half of the images, in training
    max_train: int | None = None  # training samples used, None for all

    @classmethod
    def quick(cls) -> Config:
        return cls(recipe=Recipe(epochs=4, lr=0.1, weight_decay=5e-4), max_train=8_000)


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
    """The row 6.2; `on_row` is called with it. The embedded digits are enlarged to 32×32, and not flipped.

    data : the loaded set, by default that of `data_dir` or what stands in for it. work : keeps finished pieces.
    """
    data = data or load(DATA, data_dir, fallback=True)
    flip = config.flip and data.origin == "real"
    part = Part(VGG.number, config, config.max_train, partial(_row, config, flip, progress))
    seeds = [np.random.SeedSequence(seed)]
    return run_parts([part], _enlarged(data), seeds, work=work, progress=progress, on_row=on_row)


def _row(
    config: Config,
    flip: bool,
    progress: bool | None,
    split: Split,
    seeds: np.random.SeedSequence,
    pieces: Pieces,
) -> dict:
    def train(split, choice, rng, final, training):
        model = models.vgg(
            split.input_shape,
            channels=config.channels,
            hidden=config.hidden,
            n_classes=len(split.classes),
            rng=rng,
        )
        return fit(
            model,
            CrossEntropyLoss(label_smoothing=config.label_smoothing),
            split,
            config.recipe,
            rng,
            training,
            augment=Compose(Shift(config.shift), Flip()) if flip else Shift(config.shift),
            progress=progress,
        )

    result = answer("6.2", split, [{}], train, seeds, pieces, progress=progress)
    channels, hidden = ("–".join(map(str, sizes)) for sizes in (config.channels, config.hidden))
    model = f"VGG-11, channels {channels}, batch norm, FC {hidden}"
    return accuracy_row(VGG, model, split, result, config, [])


def _enlarged(data: Dataset) -> Dataset:
    """Each pixel repeated so that 8×8 digits become 32×32; larger images as they are."""
    factor = -(-SIDE // min(data.input_shape[1:]))

    def enlarge(x: np.ndarray) -> np.ndarray:
        return x.repeat(factor, axis=2).repeat(factor, axis=3)

    if factor == 1:
        return data
    return replace(data, x_train=enlarge(data.x_train), x_val=enlarge(data.x_val), x_test=enlarge(data.x_test))
