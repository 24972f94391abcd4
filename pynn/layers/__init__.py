"""The layers: each file opens with its formula; what they share is `pynn.module.Module`."""

from pynn.layers.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from pynn.layers.containers import Residual, Sequential
from pynn.layers.conv import Conv2d
from pynn.layers.dropout import Dropout, VanillaDropout
from pynn.layers.flatten import Flatten
from pynn.layers.linear import Linear
from pynn.layers.norm import BatchNorm1d, BatchNorm2d
from pynn.layers.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d

__all__ = [
    "GELU",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "VanillaDropout",
]
