"""What tests of the engine share: networks of every kind, and their twins in float64, computed layer by layer."""

import numpy as np

from pynn import models
from pynn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from pynn.module import Module, Parameter


class EngineTestScale(Module):
    """A user's layer that says nothing of `lower`: channels times weights, and a count of samples in training."""

    buffer_names = ("seen",)

    def __init__(self, channels, dtype=np.float32):
        self.weight = Parameter(np.linspace(0.5, 1.5, channels).astype(dtype).reshape(-1, 1, 1))
        self.seen = np.zeros(1, dtype)
        self.dtype = np.dtype(dtype)

    def forward(self, x, *, training=False):
        if training:
            self.seen += len(x)
            self._keep(x, x)
        return x * self.weight.data

    def backward(self, dout, *, input_grad=True):
        dout, (x,) = self._take(dout)
        self.weight.accumulate((dout * x).sum(axis=(0, 2, 3)).reshape(-1, 1, 1))
        return dout * self.weight.data if input_grad else None


class EngineTestConv2d(Conv2d):
    """A subclass that changes forward, so that what Conv2d says of itself does not hold for it."""

    def forward(self, x, *, training=False):
        return super().forward(x, training=training) + 1


def airbench(rng):
    layers = [Conv2d(3, 24, 2, rng=rng), GELU()]
    for before, after in ((24, 16), (16, 40)):
        layers += [
            Conv2d(before, after, 3, padding=1, bias=False, rng=rng),
            MaxPool2d(2),
            BatchNorm2d(after),
            GELU(),
            Conv2d(after, after, 3, padding=1, bias=False, rng=rng),
            BatchNorm2d(after),
            GELU(),
        ]
    return Sequential(*layers, MaxPool2d(3), Flatten(), Linear(40, 10, bias=False, rng=rng))


def odd(rng):
    return Sequential(
        Conv2d(2, 10, (3, 2), stride=(2, 1), padding=(1, 1), rng=rng),
        EngineTestScale(10),
        Sigmoid(),
        Residual(
            Sequential(
                Conv2d(10, 12, 3, padding=1, rng=rng),  # a bias whose gradient batch norm makes zero
                BatchNorm2d(12, momentum=0.3, eps=1e-3),
                ReLU(),
                Conv2d(12, 20, 3, stride=2, padding=1, bias=False, rng=rng),
                BatchNorm2d(20),
            ),
            Conv2d(10, 20, 1, stride=2, rng=rng),
        ),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
        Residual(Sequential(Conv2d(20, 20, 3, padding=2, dilation=2, rng=rng), Tanh())),
        EngineTestConv2d(20, 9, 2, padding=1, rng=rng),
        BatchNorm2d(9),
        ReLU(),
        MaxPool2d(3, stride=2, padding=1),
        Residual(Sequential(ReLU())),
        AvgPool2d(2, stride=1),
        Flatten(),
        BatchNorm1d(18, eps=0.1),
        Dropout(0.3, rng=rng),
        Linear(18, 17, rng=rng),
        SiLU(),
        Linear(17, 4, bias=False, rng=rng),
    )


def vectors(rng):
    """Every way of joining layers on vectors, and outputs that do not fill a block."""
    return Sequential(
        Dropout(0.2, rng=rng),
        Linear(21, 33, rng=rng),
        Residual(Sequential(BatchNorm1d(33), LeakyReLU(0.1), Linear(33, 33, rng=rng))),
        ReLU(),
        Residual(Sequential(Linear(33, 33, rng=rng), ReLU()), Linear(33, 33, bias=False, rng=rng)),
        BatchNorm1d(33),
        Linear(33, 1, rng=rng),
    )


def scores_are_images(rng):
    return Sequential(
        MaxPool2d(2, stride=1),
        Conv2d(5, 17, 3, padding=1, rng=rng),
        ReLU(),
        Conv2d(17, 8, 1, rng=rng),
        MaxPool2d((2, 1)),
        Residual(Sequential(ReLU(), Conv2d(8, 8, 3, padding=1, rng=rng))),
    )


# Builders from a generator, and the shape of a sample.
NETWORKS = {
    "mlp": (lambda rng: models.mlp(30, 40, 10, rng=rng), (30,)),
    "linear": (lambda rng: models.linear(7, 1, rng=rng), (7,)),
    "cnn": (lambda rng: models.cnn((1, 13, 11), kernel_size=5, filters=20, hidden=17, rng=rng), (1, 13, 11)),
    "cnn_bn": (lambda rng: models.cnn_bn((3, 12, 11), kernel_size=3, filters=8, hidden=24, rng=rng), (3, 12, 11)),
    "vgg": (
        lambda rng: models.vgg((3, 32, 32), channels=(4, 8, 9, 16, 16, 17, 24, 24), hidden=(20, 16), rng=rng),
        (3, 32, 32),
    ),
    "airbench": (airbench, (3, 15, 17)),
    "odd": (odd, (2, 21, 14)),
    "vectors": (vectors, (21,)),
    "scores are images": (scores_are_images, (5, 6, 7)),
}


def network(name, seed=0):
    """(model, sample shape), its running statistics and batch norms no longer as they were made."""
    build, shape = NETWORKS[name]
    rng = np.random.default_rng(seed)
    model = build(rng)
    for _, module in model.named_modules():
        if isinstance(module, BatchNorm1d | BatchNorm2d):
            for array in (module.weight.data, module.bias.data, module.running_mean):
                array += rng.normal(0, 0.3, array.shape).astype(np.float32)
            module.running_var *= rng.uniform(0.5, 2, module.running_var.shape).astype(np.float32)
        elif isinstance(module, Linear | Conv2d) and module.bias:
            module.bias.data += rng.normal(0, 0.3, module.bias.shape).astype(np.float32)
    return model, shape


def batch(n, shape, seed=0):
    return np.random.default_rng((7, seed)).standard_normal((n, *shape)).astype(np.float32)


def layer_by_layer(model):
    """`model`, computed by its own forward and backward from now on."""
    forward = model.forward
    model.forward = lambda x, *, training=False: forward(x, training=training)
    return model
