"""Owns the networks that `pynn train` makes for data of a given shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from pynn import models
from pynn.cli.errors import UsageError
from pynn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pynn.module import Module

__all__ = ["image_network", "network", "weights_of"]


def network(
    kind: str | None, input_shape: tuple[int, ...], hidden: int, n_classes: int, rng: np.random.Generator
) -> Sequential:
    """A "cnn" or an "mlp" for samples of `input_shape`; None: the first for images, the second for features."""
    images = len(input_shape) == 3
    if _convolves(kind, input_shape):
        return image_network(input_shape, hidden, n_classes, rng=rng)
    mlp = models.mlp(math.prod(input_shape), hidden, n_classes, rng=rng)
    return Sequential(Flatten(), *mlp, input_shape=input_shape) if images else mlp


def image_network(input_shape: tuple[int, ...], hidden: int, n_classes: int, *, rng=None) -> Sequential:
    """Blocks Conv 3×3 – BN – ReLU, halved by max-pools until a side is below 8; FC – BN – ReLU – Dropout – FC.

    The first block has 16 channels, each later one twice as many, up to 64: 28×28 images take three blocks.
    """
    layers: list[Module] = []
    channels, blocks = input_shape[0], list(_blocks(input_shape))
    for filters, _, _ in blocks:
        layers += [MaxPool2d(2)] if layers else []
        layers += [Conv2d(channels, filters, 3, padding=1, bias=False, rng=rng), BatchNorm2d(filters), ReLU()]
        channels = filters
    return Sequential(
        *layers,
        Flatten(),
        Linear(math.prod(blocks[-1]), hidden, bias=False, rng=rng),
        BatchNorm1d(hidden),
        ReLU(),
        Dropout(0.5, rng=rng),
        Linear(hidden, n_classes, rng=rng),
        input_shape=input_shape,
    )


def weights_of(kind: str | None, input_shape: tuple[int, ...], hidden: int) -> int:
    """About how many weights `network` has: those of its first fully-connected layer, which are most of them."""
    convolves = _convolves(kind, input_shape)
    return hidden * math.prod(list(_blocks(input_shape))[-1] if convolves else input_shape)


def _blocks(input_shape: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(filters, height, width) of what each block of `image_network` gives."""
    _, height, width = input_shape
    filters = 16
    yield filters, height, width
    while min(height, width) >= 8:
        height, width, filters = height // 2, width // 2, min(2 * filters, 64)
        yield filters, height, width


def _convolves(kind: str | None, input_shape: tuple[int, ...]) -> bool:
    images = len(input_shape) == 3
    if kind == "cnn" and not images:
        raise UsageError(
            f"--model cnn needs images, the data have {input_shape[0]} features a sample: use --model mlp"
        )
    return images and kind != "mlp"
