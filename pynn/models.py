"""Owns the builders of the course's models: each returns a Sequential that ends in scores, without a softmax.

`input_shape` is a sample's shape without the batch axis, (C, H, W). Kernels that do not fit it are refused by the
layer that they do not fit, as LayerError. Weights are Kaiming-normal draws from `rng` (None: fresh entropy).
"""

from __future__ import annotations

import math

import numpy as np

from pynn.layers import (
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from pynn.module import Module
from pynn.values import is_integer, shown

__all__ = ["cnn", "cnn_bn", "linear", "mlp", "vgg"]

VGG11_POOLS = (1, 2, 4, 6, 8)  # VGG-11 pools after these convolutions: 8 M 16 M 32 32 M 64 64 M 64 64 M


def linear(n_features: int, n_outputs: int = 1, *, dtype=np.float32, rng=None) -> Sequential:
    """scores = x W + b for x (N, n_features): logistic or softmax regression or linear SVM, by its loss."""
    return Sequential(Linear(n_features, n_outputs, dtype=dtype, rng=rng), input_shape=(n_features,))


def mlp(n_features: int, hidden: int, n_outputs: int = 1, *, dtype=np.float32, rng=None) -> Sequential:
    """scores = relu(x W₁ + b₁) W₂ + b₂ for x (N, n_features): one hidden layer of `hidden` units."""
    return Sequential(
        Linear(n_features, hidden, dtype=dtype, rng=rng),
        ReLU(),
        Linear(hidden, n_outputs, dtype=dtype, rng=rng),
        input_shape=(n_features,),
    )


def cnn(
    input_shape: tuple[int, int, int],
    *,
    kernel_size: int = 5,
    filters: int = 32,
    hidden: int = 128,
    n_classes: int = 10,
    dtype=np.float32,
    rng=None,
) -> Sequential:
    """Conv – ReLU – MaxPool 2×2 – FC – ReLU – FC (question 5.3), valid convolution with stride 1."""
    input_shape = _image("cnn", input_shape)
    features = [
        Conv2d(input_shape[0], filters, kernel_size, dtype=dtype, rng=rng),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
    ]
    classifier = [
        Linear(_n_features(features, input_shape), hidden, dtype=dtype, rng=rng),
        ReLU(),
        Linear(hidden, n_classes, dtype=dtype, rng=rng),
    ]
    return Sequential(*features, *classifier, input_shape=input_shape)


def cnn_bn(
    input_shape: tuple[int, int, int],
    *,
    kernel_size: int = 5,
    filters: int = 32,
    hidden: int = 128,
    dropout: float = 0.5,
    n_classes: int = 10,
    dtype=np.float32,
    rng=None,
) -> Sequential:
    """Conv – BN – ReLU – MaxPool 2×2 – FC – BN – ReLU – Dropout – FC (question 5.4).

    dropout : probability of dropping a hidden unit. Layers before a batch norm have no bias: it would cancel.
    """
    input_shape = _image("cnn_bn", input_shape)
    features = [
        Conv2d(input_shape[0], filters, kernel_size, bias=False, dtype=dtype, rng=rng),
        BatchNorm2d(filters, dtype=dtype),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
    ]
    classifier = [
        Linear(_n_features(features, input_shape), hidden, bias=False, dtype=dtype, rng=rng),
        BatchNorm1d(hidden, dtype=dtype),
        ReLU(),
        Dropout(dropout, rng=rng),
        Linear(hidden, n_classes, dtype=dtype, rng=rng),
    ]
    return Sequential(*features, *classifier, input_shape=input_shape)


def vgg(
    input_shape: tuple[int, int, int] = (3, 32, 32),
    *,
    channels: tuple[int, ...] = (8, 16, 32, 32, 64, 64, 64, 64),
    hidden: tuple[int, ...] = (64, 64),
    n_classes: int = 10,
    dtype=np.float32,
    rng=None,
) -> Sequential:
    """VGG-11 with batch norm, its channels reduced (question 6): 8 M 16 M 32 32 M 64 64 M 64 64 M, FC 64–64–10.

    Eight convolutions 3×3 with padding 1, each followed by batch norm and ReLU; M is a 2×2 max-pool, so that the
    image must be at least 32×32. Raises ValueError unless `channels` has eight entries.
    Source: Simonyan & Zisserman 2015, Very deep convolutional networks, table 1, column A; batch norm added.
    """
    input_shape = _image("vgg", input_shape)
    if not isinstance(channels, tuple | list) or len(channels) != VGG11_POOLS[-1]:
        raise ValueError(f"vgg: expected channels for {VGG11_POOLS[-1]} convolutions, got {shown(channels)}")
    if not isinstance(hidden, tuple | list):
        raise ValueError(f"vgg: expected hidden to be a tuple of ints, got {shown(hidden)}")
    layers = []
    for number, (before, after) in enumerate(zip((input_shape[0], *channels), channels, strict=False), start=1):
        layers += [
            Conv2d(before, after, 3, padding=1, bias=False, dtype=dtype, rng=rng),
            BatchNorm2d(after, dtype=dtype),
            ReLU(),
        ]
        if number in VGG11_POOLS:
            layers.append(MaxPool2d(2))
    layers.append(Flatten())
    width = _n_features(layers, input_shape)
    for units in hidden:
        layers += [Linear(width, units, dtype=dtype, rng=rng), ReLU()]
        width = units
    return Sequential(*layers, Linear(width, n_classes, dtype=dtype, rng=rng), input_shape=input_shape)


def _image(model: str, shape) -> tuple[int, int, int]:
    """`shape` as (C, H, W)."""
    if not isinstance(shape, tuple | list) or len(shape) != 3 or not all(map(is_integer, shape)):
        raise ValueError(f"{model}: expected input_shape (C, H, W) without a batch axis, got {shown(shape)}")
    return tuple(map(int, shape))  # type: ignore[return-value]


def _n_features(layers: list[Module], input_shape: tuple[int, ...]) -> int:
    """The number of values that `layers` make of one sample."""
    return math.prod(Sequential(*layers, input_shape=input_shape).output_shape(input_shape))
