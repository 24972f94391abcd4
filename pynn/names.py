"""Owns the list of the public names: what `pynn.NAME` is, for each NAME, and where it comes from."""

from cnn_ext import get_num_threads, set_num_threads
from pynn import data, models
from pynn._version import __version__
from pynn.callbacks import STOP, ReduceOnPlateau
from pynn.engine import Frozen, freeze
from pynn.gradcheck import GradientError, gradcheck, gradcheck_loss, gradcheck_model
from pynn.io import ModelFileError, load, load_metadata, save
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
from pynn.losses import (
    CrossEntropyLoss,
    HingeLoss,
    LogisticLoss,
    MSELoss,
    MultiClassHingeLoss,
    SquaredHingeLoss,
    softmax,
)
from pynn.metrics import accuracy, confusion_matrix
from pynn.module import LayerError, LayerTypeError, Module, Parameter
from pynn.optim import SGD, Adam, AdamW, RMSProp, clip_grad_norm, decay_groups
from pynn.schedules import Constant, Cosine, Exponential, OneCycle, PerEpoch, StepDecay, Warmup
from pynn.solver import Solver, TrainingDiverged

__all__ = [
    "GELU",
    "SGD",
    "STOP",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Constant",
    "Conv2d",
    "Cosine",
    "CrossEntropyLoss",
    "Dropout",
    "Exponential",
    "Flatten",
    "Frozen",
    "GlobalAvgPool2d",
    "GradientError",
    "HingeLoss",
    "LayerError",
    "LayerTypeError",
    "LeakyReLU",
    "Linear",
    "LogisticLoss",
    "MSELoss",
    "MaxPool2d",
    "ModelFileError",
    "Module",
    "MultiClassHingeLoss",
    "OneCycle",
    "Parameter",
    "PerEpoch",
    "RMSProp",
    "ReLU",
    "ReduceOnPlateau",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Solver",
    "SquaredHingeLoss",
    "StepDecay",
    "Tanh",
    "TrainingDiverged",
    "VanillaDropout",
    "Warmup",
    "__version__",
    "accuracy",
    "clip_grad_norm",
    "confusion_matrix",
    "data",
    "decay_groups",
    "freeze",
    "get_num_threads",
    "gradcheck",
    "gradcheck_loss",
    "gradcheck_model",
    "load",
    "load_metadata",
    "models",
    "save",
    "set_num_threads",
    "softmax",
]
