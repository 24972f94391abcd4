"""Every argument of every public constructor and function, given what it was not made for.

Nothing but one sentence may come of it: a TypeError or ValueError of one line, below 300 characters, that begins
with who says it. No OverflowError, no NumPy warning (they are errors here), no value printed at length.
"""

import inspect
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import pynn
from pynn import initializers, models
from pynn.module import Module, Parameter, from_config
from pynn.optim import Optimizer

VALUES = {
    "10**400": 10**400, "-10**400": -(10**400), "10**5000": 10**5000, "2**31": 2**31, "2**63": 2**63,
    "-1": -1, "0": 0,
    "nan": float("nan"), "inf": float("inf"), "0.5": 0.5, "1e39": 1e39, "1e-320": 1e-320, "3.4e38": 3.4e38,
    "Fraction": Fraction(1, 3), "Decimal": Decimal("0.5"), "complex": 1j, "True": True, "np.True_": np.True_,
    "float16": np.float16(0.5), "float64": np.float64(0.5), "int64": np.int64(2),
    "longdouble": np.longdouble("1e4000"),
    "array": np.ones((100, 100)), "0-d array": np.array(2), "list": [1, 2], "long list": list(range(100_000)),
    "huge pair": (2**63, 1), "NaN pair": (float("nan"), 1), "dict": {}, "None": None, "text": "x",
    "set": {1}, "ragged": [[1], [1, 2]], "long text": "y\n" * 100_000, "bytes": b"x",
    "object": object(), "class": int, "function": lambda: 0,
    "module": pynn.ReLU(), "Parameter": Parameter(np.ones(3, np.float32)),
}  # fmt: skip

SCORES, X = np.ones((2, 3)), np.ones((4, 3), np.float32)


def params():
    return [Parameter(np.ones(3, np.float32))]


CALLS = {
    "Linear": (pynn.Linear, {"in_features": 3, "out_features": 2}),
    "Conv2d": (pynn.Conv2d, {"in_channels": 1, "out_channels": 2, "kernel_size": 3}),
    "MaxPool2d": (pynn.MaxPool2d, {"kernel_size": 2}),
    "AvgPool2d": (pynn.AvgPool2d, {"kernel_size": 2}),
    "BatchNorm2d": (pynn.BatchNorm2d, {"num_features": 2}),
    "Dropout": (pynn.Dropout, {"p": 0.5}),
    "VanillaDropout": (pynn.VanillaDropout, {"keep": 0.5}),
    "LeakyReLU": (pynn.LeakyReLU, {}),
    "Residual": (pynn.Residual, {"body": pynn.ReLU()}),
    "SGD": (pynn.SGD, {"params": params, "lr": 0.1, "momentum": 0.9}),
    "RMSProp": (pynn.RMSProp, {"params": params}),
    "AdamW": (pynn.AdamW, {"params": params}),
    "CrossEntropyLoss": (pynn.CrossEntropyLoss, {}),
    "MultiClassHingeLoss": (pynn.MultiClassHingeLoss, {}),
    "LogisticLoss": (pynn.LogisticLoss, {}),
    "models.mlp": (models.mlp, {"n_features": 3, "hidden": 4}),
    "models.cnn_bn": (models.cnn_bn, {"input_shape": (1, 12, 12)}),
    "models.vgg": (models.vgg, {"input_shape": (3, 32, 32)}),
    "initialize": (initializers.initialize, {"name": "normal", "shape": (2, 3)}),
    "Parameter": (Parameter, {"data": np.ones(3)}),
    "confusion_matrix": (pynn.confusion_matrix, {"y": [0, 1], "y_pred": [0, 1]}),
    "accuracy": (pynn.accuracy, {"y": [0, 1], "y_pred": [0, 1]}),
    "softmax": (pynn.softmax, {"scores": SCORES}),
    "clip_grad_norm": (pynn.clip_grad_norm, {"parameters": params, "max_norm": 1.0}),
    "decay_groups": (pynn.decay_groups, {"model": pynn.Linear(3, 2), "weight_decay": 0.1}),
    "gradcheck": (pynn.gradcheck, {"module": pynn.Linear(3, 2), "x": SCORES}),
    "gradcheck_loss": (pynn.gradcheck_loss, {"loss": pynn.CrossEntropyLoss(), "scores": SCORES, "y": [0, 1]}),
}  # fmt: skip


def require_a_sentence(error):
    text = str(error)
    assert len(text) < 300, text
    assert re.match(r"(\[[^]]+\]|[A-Za-z_.]+:|Parameter\.\w+|model configuration:|\w+_update:) ?\w*", text), text
    assert "\n" not in text


def attempt(call):
    """What `call` gives; None where it is refused in a sentence."""
    try:
        return call()
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        require_a_sentence(error)


@pytest.mark.parametrize("name", CALLS)
def test_arguments(name):
    function, given = CALLS[name]
    for argument in inspect.signature(function).parameters:
        for value in VALUES.values():
            if argument == "loss" and callable(value):  # which is called, and says itself what it wants
                continue
            arguments = {key: each() if each is params else each for key, each in given.items()} | {
                argument: value
            }
            made = attempt(lambda arguments=arguments: function(**arguments))
            if isinstance(made, Module):
                assert len(repr(made)) < 5000
            if isinstance(made, Optimizer):
                attempt(made.step)


LINEAR = pynn.Linear(3, 2)


def adam():
    return pynn.Adam(params())


LAYERS = [
    pynn.ReLU(), pynn.Flatten(), pynn.Dropout(0.5), pynn.BatchNorm1d(3), pynn.Conv2d(1, 2, 3), pynn.MaxPool2d(2),
    pynn.GlobalAvgPool2d(), pynn.Residual(pynn.ReLU()), pynn.Sequential(pynn.Linear(3, 2)), pynn.Linear(3, 2),
]  # fmt: skip
LOSSES = [
    pynn.CrossEntropyLoss(),
    pynn.MultiClassHingeLoss(),
    pynn.HingeLoss(),
    pynn.LogisticLoss(),
    pynn.MSELoss(),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_inputs_of_layers(layer):
    for value in VALUES.values():
        attempt(lambda value=value: layer.forward(value, training=True))
        attempt(lambda value=value: layer.output_shape(value))
        attempt(lambda value=value: layer.backward(value))
        attempt(lambda value=value: layer.astype(value))
        attempt(lambda value=value: layer.load_state_dict(value))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_inputs_of_losses(loss):
    for value in VALUES.values():
        for scores, y in ((value, [0, 1]), (SCORES, value), (SCORES[:, 0], value), (SCORES, [value, value]),
                          (SCORES[:, 0], [value, value])):  # fmt: skip
            attempt(lambda scores=scores, y=y: loss(scores, y))
            if loss.task == "classification":
                attempt(lambda scores=scores, y=y: loss.correct(scores, y))
                attempt(lambda scores=scores: loss.predict(scores))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_any_size_give_no_warning(loss, dtype):
    largest = np.finfo(dtype).max
    for value in (largest, -largest, np.inf, -np.inf, np.nan, np.finfo(dtype).smallest_subnormal):
        scores = np.array([[value, 0, -value], [1, value, 2]], dtype)
        for each in (scores, scores[:, 0]):
            attempt(lambda each=each: loss(each, np.array([0, 1])))


@pytest.mark.parametrize("name", VALUES)
def test_what_is_assigned_and_loaded(name):
    value = VALUES[name]
    layer = pynn.Linear(3, 2)
    for target, attribute in ((layer.weight, "data"), (layer.weight, "grad"), (layer.weight, "requires_grad"),
                              (layer, "trainable")):  # fmt: skip
        attempt(lambda target=target, attribute=attribute: setattr(target, attribute, value))
    for key in layer.state_dict():
        attempt(lambda key=key: layer.load_state_dict(layer.state_dict() | {key: value}))
    for attribute in ("lr", "betas", "eps", "steps", "groups"):
        optimizer = adam()

        def assigned(optimizer=optimizer, attribute=attribute):
            setattr(optimizer, attribute, value)
            optimizer.step()

        attempt(assigned)
    optimizer = adam()
    for key in ("lr", "weight_decay", "params"):
        changed = adam()
        changed.groups[0][key] = value
        attempt(changed.step)
    for key in optimizer.state_dict():
        attempt(lambda key=key: optimizer.load_state_dict(optimizer.state_dict() | {key: value}))
    attempt(lambda: optimizer.load_state_dict(value))
    attempt(lambda: optimizer.step(value))
    attempt(lambda: pynn.Adam([value]))
    attempt(lambda: pynn.Adam([{"params": value}]))
    attempt(lambda: from_config(value))
    attempt(lambda: from_config({"type": value}))
    attempt(lambda: pynn.Sequential(value))
    attempt(lambda: pynn.Sequential(pynn.ReLU())[value])
    attempt(lambda: pynn.Sequential(LINEAR).summary(value))
    attempt(lambda: pynn.Sequential(LINEAR, input_shape=value))
