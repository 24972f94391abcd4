"""Random valid networks and batches for the engine's campaign: every layer, nested, joined, shared in any way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from pynn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
    VanillaDropout,
)
from pynn.module import LayerError, Module, Parameter

LIGHT, HEAVY = 3e6, 1e8  # multiply-adds of a forward pass: of nearly all networks, of one in a hundred
LARGEST = 400_000  # values of a batch between two layers


class RandomScale(Module):
    """A user's layer without `lower`: features or channels times weights, and a count of samples in training."""

    buffer_names = ("seen",)

    def __init__(self, channels):
        self.weight = Parameter(np.linspace(0.5, 1.5, channels, dtype=np.float32))
        self.seen = np.zeros(1, np.float32)
        self.dtype = np.dtype(np.float32)

    def _weight(self, x):
        return self.weight.data.reshape(-1, *(1,) * (x.ndim - 2))

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = x * self._weight(x)
        if training:
            self.seen += len(x)
            self._keep(out, x)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x,) = self._take(dout)
        self.weight.accumulate((dout * x).sum(axis=(0, *range(2, x.ndim))))
        return dout * self._weight(x) if input_grad else None

    def config(self):
        return {"channels": len(self.weight.data)}


class RandomSquare(Module):
    """A user's layer without `lower` and without parameters: x · |x| / (1 + |x|)."""

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = x * np.abs(x) / (1 + np.abs(x))
        if training:
            self._keep(out, x)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x,) = self._take(dout)
        size = np.abs(x)
        return dout * (size * (2 + size) / (1 + size) ** 2) if input_grad else None


class RandomPair(Module):
    """A user's container that lowers itself: two layers, one after the other."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def forward(self, x, *, training=False):
        return self.second.forward(self.first.forward(x, training=training), training=training)

    def backward(self, dout, *, input_grad=True):
        return self.first.backward(self.second.backward(dout), input_grad=input_grad)

    def lower(self, graph, x):
        return graph.lower(self.second, graph.lower(self.first, x))

    def output_shape(self, input_shape):
        return self.second.output_shape(self.first.output_shape(input_shape))

    def config(self):
        return {"first": self.first.to_config(), "second": self.second.to_config()}


class RandomBentLinear(Linear):
    """A subclass that changes forward alone: what Linear's `lower` says does not hold for it."""

    def forward(self, x, *, training=False):
        return super().forward(x, training=training) + x.dtype.type(0.5)


class RandomSparseDropout(Dropout):
    """A subclass that draws other masks."""

    def _mask(self, shape, real):
        return 2 * super()._mask(shape, real)


@dataclass
class Case:
    """A network, its training batch, ∂L/∂scores of it, and a batch to infer."""

    model: Sequential
    x: np.ndarray
    dscores: np.ndarray
    x_inference: np.ndarray
    title: str


def network_case(seed: int, index: int) -> Case:
    """The network of this number in the series of this seed."""
    rng = np.random.default_rng((seed, index))
    n = int(rng.integers(1, 38)) if rng.random() < 0.9 else int(rng.integers(100, 131))
    n_inference = int(rng.choice([1, 2, 3, 5, 11, 12, 13, n, 100]))
    builder = _Builder(rng, n, max(n, n_inference))
    model, shape = builder.network()
    x, how = _values(rng, (n, *shape))
    x_inference, _ = _values(rng, (n_inference, *shape), how)
    dscores = rng.standard_normal((n, *model.output_shape(shape))) * rng.choice([1, 1 / n, 1e-3, 1e3])
    if rng.random() < 0.1:
        dscores *= rng.random(dscores.shape) < 0.2
    title = f"{len(model)} layers, x {x.shape} {how}, inference of {n_inference}"
    return Case(model, x, dscores.astype(np.float32), x_inference, title)


def _values(rng, shape, how: str | None = None) -> tuple[np.ndarray, str]:
    """A batch of one of the kinds that data come in, and its kind."""
    kinds = ["normal", "small", "large", "offset", "sparse", "zero", "constant", "bytes", "repeated", "ramp"]
    chances = [0.4, 0.08, 0.08, 0.1, 0.1, 0.04, 0.04, 0.06, 0.05, 0.05]
    how = rng.choice(kinds, p=chances) if how is None else how
    x = rng.standard_normal(shape)
    if how == "small":
        x *= 10 ** rng.uniform(-4, -1)
    elif how == "large":
        x *= 10 ** rng.uniform(1, 4)
    elif how == "offset":
        x += rng.choice([-1, 1]) * 10 ** rng.uniform(0, 2)
    elif how == "sparse":
        x *= rng.random(shape) < 0.1
    elif how == "zero":
        x[...] = 0
    elif how == "constant":
        x[...] = x.flat[0]
    elif how == "bytes":
        x = rng.integers(0, 256, shape)
    elif how == "repeated":
        x[...] = x[:1]
    elif how == "ramp":
        x = np.linspace(-1, 1, x.size).reshape(shape)
    return np.ascontiguousarray(x, np.float32), str(how)


class _Builder:
    """Draws layers that fit one after the other, within a budget of work."""

    def __init__(self, rng, n: int, largest_n: int):
        self.rng, self.n, self.largest_n = rng, n, largest_n
        self.budget = HEAVY if rng.random() < 0.01 else LIGHT * 10 ** rng.uniform(-1, 0.5)
        self.masks = np.random.default_rng(rng.integers(2**32))  # one generator for all layers, or one each
        self.own_masks = rng.random() < 0.5

    # -- the whole ------------------------------------------------------------------------------------------

    def network(self) -> tuple[Sequential, tuple[int, ...]]:
        rng = self.rng
        shape: tuple[int, ...]
        if rng.random() < 0.25:
            shape = (self.channels(),)
        else:
            shape = (self.channels(first=True), *(int(size) for size in rng.integers(1, 41, 2)))
            while prod(shape) * self.largest_n > LARGEST:
                shape = (shape[0], *(max(1, size // 2) for size in shape[1:]))
        length = int(rng.choice([1, 2, 3, 4, 6, 8, 12], p=[0.06, 0.1, 0.14, 0.2, 0.2, 0.2, 0.1]))
        if rng.random() < 0.01:
            length = 60
        layers, out = self.chain(shape, length, depth=0)
        if rng.random() < 0.6 and len(out) == 3:
            layers.append(Flatten())
            out = (prod(out),)
        if rng.random() < 0.6 and len(out) == 1 and self.affords(prod(out) * 10):
            layers.append(Linear(out[0], int(rng.integers(1, 40)), rng=rng))
        model = Sequential(*layers)
        self.spread(model)
        if rng.random() < 0.06:
            self.share(model)
        if rng.random() < 0.15:
            self.freeze_parts(model)
        return model, shape

    def spread(self, model) -> None:
        """Weights and statistics as they are after some training."""
        rng = self.rng
        for _, module in model.named_modules():
            if isinstance(module, BatchNorm1d | BatchNorm2d):
                for array in (module.weight.data, module.bias.data, module.running_mean):
                    array += rng.normal(0, 0.5, array.shape).astype(np.float32)
                module.running_var *= rng.uniform(0.1, 3, module.running_var.shape).astype(np.float32)
            elif isinstance(module, Linear | Conv2d) and module.bias:
                module.bias.data += rng.normal(0, 0.3, module.bias.shape).astype(np.float32)

    def share(self, model) -> None:
        """One Parameter in two layers, where two of a shape are found."""
        owners: dict[tuple, Module] = {}
        for _, module in model.named_modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter):
                    first = owners.setdefault((name, value.shape, type(module)), module)
                    if first is not module:
                        setattr(module, name, getattr(first, name))

    def freeze_parts(self, model) -> None:
        """Parts that are not trained: layers at the start, or single ones and single parameters."""
        rng = self.rng
        modules = [module for _, module in model.named_modules()][1:]
        if rng.random() < 0.5:
            for layer in model.layers[: rng.integers(0, len(model))]:
                layer.trainable = False
        for module in modules:
            if rng.random() < 0.2:
                module.trainable = False
        for parameter in model.parameters():
            if rng.random() < 0.1:
                parameter.requires_grad = False

    def chain(self, shape, length: int, depth: int) -> tuple[list[Module], tuple[int, ...]]:
        layers: list[Module] = []
        for _ in range(length):
            layer = self.layer(shape, depth)
            out = layer.output_shape(shape)
            if prod(out) * self.largest_n <= LARGEST:
                layers.append(layer)
                shape = out
        return layers or [ReLU()], shape

    # -- one layer ------------------------------------------------------------------------------------------

    def layer(self, shape, depth: int) -> Module:
        choices = _OF_IMAGES if len(shape) == 3 else _OF_VECTORS
        names, weights = zip(*choices.items(), strict=True)
        while True:
            name = self.rng.choice(names, p=np.array(weights) / sum(weights))
            if depth >= 3 and name in {"residual", "nested", "pair"}:
                continue
            try:
                layer = getattr(self, name)(shape, depth)
                if layer is not None:
                    layer.output_shape(shape)
                    return layer
            except LayerError:  # does not fit: another
                pass

    def affords(self, work: float) -> bool:
        """Whether `work` a sample is left, which is then taken."""
        if work * self.largest_n > self.budget:
            return False
        self.budget -= work * self.n
        return True

    def channels(self, first: bool = False) -> int:
        ranges = [(1, 4), (5, 8), (9, 16), (17, 24), (25, 70)]
        return int(
            self.rng.integers(*ranges[self.rng.choice(5, p=[0.5, 0.14, 0.14, 0.11, 0.11] if first else None)])
        )

    def pair_of(self, values, p=None):
        """One for both axes, or one for each."""
        return tuple(
            int(v)
            for v in (
                self.rng.choice(values, 2, p=p) if self.rng.random() < 0.4 else [self.rng.choice(values, p=p)] * 2
            )
        )

    def convolution(self, shape, depth):
        layer = Conv2d(
            shape[0],
            self.channels(),
            self.pair_of([1, 2, 3, 4, 5, 7], [0.15, 0.15, 0.45, 0.08, 0.12, 0.05]),
            stride=self.pair_of([1, 2, 3, 4], [0.7, 0.2, 0.07, 0.03]),
            padding=self.pair_of([0, 1, 2, 3, 7], [0.45, 0.35, 0.12, 0.06, 0.02]),
            dilation=self.pair_of([1, 2, 3, 5], [0.8, 0.12, 0.05, 0.03]),
            bias=self.rng.random() < 0.75,
            rng=self.rng,
        )
        work = layer.weight.size * prod(layer.output_shape(shape)[1:])
        return layer if self.affords(work) else None

    def max_pool(self, shape, depth):
        if self.rng.random() < 0.02:
            return MaxPool2d(17, stride=int(self.rng.integers(1, 5)))
        return self.pool(MaxPool2d)

    def average_pool(self, shape, depth):
        return self.pool(AvgPool2d)

    def pool(self, kind):
        kernel = self.pair_of([1, 2, 3, 4, 5], [0.15, 0.45, 0.25, 0.1, 0.05])
        stride = None if self.rng.random() < 0.5 else self.pair_of([1, 2, 3, 4])
        padding = tuple(int(self.rng.integers(0, size)) if self.rng.random() < 0.3 else 0 for size in kernel)
        return kind(kernel, stride=stride, padding=padding)

    def global_pool(self, shape, depth):
        return GlobalAvgPool2d()

    def norm(self, shape, depth):
        if self.n * prod(shape[1:]) < 2:
            return None
        kind = BatchNorm2d if len(shape) == 3 else BatchNorm1d
        return kind(
            shape[0], momentum=float(self.rng.choice([0.1, 0.3, 1])), eps=float(self.rng.choice([1e-5, 1e-3, 0.1]))
        )

    def relu(self, shape, depth):
        return ReLU()

    def curve(self, shape, depth):
        return self.rng.choice([GELU, SiLU, Sigmoid, Tanh, LeakyReLU])()

    def dropout(self, shape, depth):
        masks = np.random.default_rng(self.rng.integers(2**32)) if self.own_masks else self.masks
        p = float(self.rng.choice([0, 0.1, 0.5, 0.8]))
        kind = self.rng.choice(["plain", "vanilla", "other"], p=[0.6, 0.3, 0.1])
        if kind == "vanilla":
            return VanillaDropout(1 - p, rescale=self.rng.random() < 0.7, rng=masks)
        return (Dropout if kind == "plain" else RandomSparseDropout)(p, rng=masks)

    def flatten(self, shape, depth):
        return Flatten()

    def linear(self, shape, depth):
        outputs = self.channels() if self.rng.random() < 0.8 else int(self.rng.integers(70, 400))
        kind = Linear if self.rng.random() < 0.93 else RandomBentLinear
        if not self.affords(shape[0] * outputs):
            return None
        return kind(shape[0], outputs, bias=self.rng.random() < 0.75, rng=self.rng)

    def own(self, shape, depth):
        return RandomScale(shape[0]) if self.rng.random() < 0.6 else RandomSquare()

    def nested(self, shape, depth):
        return Sequential(*self.chain(shape, int(self.rng.integers(1, 4)), depth + 1)[0])

    def pair(self, shape, depth):
        first = self.layer(shape, depth + 1)
        return RandomPair(first, self.layer(first.output_shape(shape), depth + 1))

    def residual(self, shape, depth):
        body, out = self.chain(shape, int(self.rng.integers(1, 4)), depth + 1)
        if out == shape:
            return Residual(Sequential(*body) if len(body) > 1 or self.rng.random() < 0.5 else body[0])
        if len(out) == 1 and len(shape) == 1 and self.affords(shape[0] * out[0]):
            return Residual(Sequential(*body), Linear(shape[0], out[0], rng=self.rng))
        if len(out) == 3 and len(shape) == 3:
            strides = [max(1, before // after) for before, after in zip(shape[1:], out[1:], strict=True)]
            kernel = [
                before - (after - 1) * s for before, after, s in zip(shape[1:], out[1:], strides, strict=True)
            ]
            if min(kernel) >= 1 and self.affords(shape[0] * prod(out) * prod(kernel)):
                return Residual(Sequential(*body), Conv2d(shape[0], out[0], kernel, stride=strides, rng=self.rng))
        return None


_ANYWHERE = {
    "norm": 2.0,
    "relu": 2.5,
    "curve": 1.2,
    "dropout": 0.6,
    "own": 0.4,
    "nested": 0.5,
    "pair": 0.3,
    "residual": 1.0,
}
_OF_IMAGES = _ANYWHERE | {
    "convolution": 5.0, "max_pool": 2.0, "average_pool": 0.6, "global_pool": 0.15, "flatten": 0.35
}  # fmt: skip
_OF_VECTORS = _ANYWHERE | {"linear": 4.0, "flatten": 0.1}
