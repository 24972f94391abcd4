"""Owns what is said to those who write as for another library: where the wish belongs, or the nearest name."""

from __future__ import annotations

import difflib
import functools
import inspect
from abc import ABCMeta
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["Explained", "explains", "missing_attribute"]

F = TypeVar("F", bound=Callable)

_CPU = "leave it out, everything runs on the CPU"
_SOLVER = "a Solver does that, pynn.Solver(model, loss, optimizer)"
_MODE = "training is an argument, forward(x, training=True); to keep layers as they are, set trainable = False"
_DTYPE = "write astype(np.float32) or astype(np.float64)"
_STATE = "use state_dict() and load_state_dict(state)"
_OWN_LAYER = "put the activation after it, as a layer of its own"
_NO_GRAPH = "write loss, dscores = loss_fn(scores, y), then model.backward(dscores)"
_NOT_OFFERED = "it is not offered, so leave it out"

# Arguments of constructors. A remedy that is an argument of the class becomes "write it=…".
ARGUMENTS = {
    "activation": _OWN_LAYER,
    "affine": _NOT_OFFERED,
    "amsgrad": _NOT_OFFERED,
    "beta_1": "write betas=(beta1, beta2)",
    "beta_2": "write betas=(beta1, beta2)",
    "ceil_mode": _NOT_OFFERED,
    "channels": "in_channels",
    "dampening": _NOT_OFFERED,
    "decay": "weight_decay",
    "device": _CPU,
    "dilation_rate": "dilation",
    "epsilon": "eps",
    "filters": "out_channels",
    "from_logits": "leave it out, losses always take scores",
    "groups": _NOT_OFFERED,
    "in_dim": "in_features",
    "inplace": "leave it out, layers never change their input",
    "input_dim": "in_features",
    "input_shape": "give it to Sequential(…, input_shape=…)",
    "kernel": "kernel_size",
    "kernel_initializer": "init",
    "l2": "weight_decay",
    "learning_rate": "lr",
    "n_in": "in_features",
    "n_out": "out_features",
    "name": "leave it out, layers are named by their place in the model",
    "nonlinearity": _OWN_LAYER,
    "out_dim": "out_features",
    "padding_mode": _NOT_OFFERED,
    "pool_size": "kernel_size",
    "rate": "p",
    "reduction": "leave it out, losses are means over the batch",
    "rho": "alpha",
    "seed": "write rng=np.random.default_rng(seed)",
    "smoothing": "label_smoothing",
    "strides": "stride",
    "track_running_stats": "leave it out; to keep the statistics as they are, set trainable = False",
    "units": "out_features",
    "use_bias": "bias",
    "weight": _NOT_OFFERED,
}

MODULE = {
    "add": "layers are given at once, Sequential(*model, layer)",
    "append": "layers are given at once, Sequential(*model, layer)",
    "buffers": "write named_buffers()",
    "build": "shapes are given to the layers, so there is nothing to build",
    "compile": _SOLVER,
    "count_params": "print(model) counts them",
    "cpu": _CPU,
    "cuda": _CPU,
    "double": "write astype(np.float64)",
    "eval": _MODE,
    "evaluate": f"{_SOLVER}.evaluate(x, y)",
    "extend": "layers are given at once, Sequential(*model, *layers)",
    "fit": f"{_SOLVER}.fit(x, y, epochs=…)",
    "float": "write astype(np.float32)",
    "freeze": "write pynn.freeze(model) for inference, or set trainable = False to keep layers from training",
    "get_config": "write to_config()",
    "get_weights": _STATE,
    "half": _DTYPE,
    "insert": "layers are given at once, Sequential(*model, layer)",
    "load": "write model = pynn.load(path)",
    "load_weights": "write model = pynn.load(path)",
    "modules": "write named_modules()",
    "named_children": "write children()",
    "output": "write model(x)",
    "predict": f"{_SOLVER}.predict(x), or model(x).argmax(axis=1)",
    "predict_proba": f"{_SOLVER}.predict_proba(x), or pynn.softmax(model(x))",
    "register_buffer": "name the attribute in buffer_names",
    "register_parameter": "assign a pynn.Parameter to an attribute",
    "requires_grad": "set trainable, or requires_grad of a Parameter",
    "requires_grad_": "set trainable = False, or requires_grad of a Parameter",
    "save": "write pynn.save(model, path)",
    "save_weights": "write pynn.save(model, path)",
    "score": f"{_SOLVER}.evaluate(x, y)",
    "set_weights": _STATE,
    "summary": "print(layer) shows it",
    "to": _CPU + "; for another dtype, astype(np.float64)",
    "train": _MODE,
    "training": _MODE,
    "trainable_variables": "write parameters()",
    "trainable_weights": "write parameters()",
    "variables": "write parameters()",
    "weights": "write parameters(), or state_dict() for the arrays by name",
}

OPTIMIZER = {
    "add_param_group": "make a new optimizer with all groups",
    "apply_gradients": "write step()",
    "learning_rate": "it is called lr",
    "minimize": "write step() after model.backward(dscores)",
    "param_groups": "they are called groups",
    "state": "write state_dict()",
}

SOLVER = {
    "accuracy": "it is evaluate(x, y)['accuracy']",
    "best_epoch": "it is solver.run.best_epoch",
    "compile": "Solver(model, loss, optimizer) takes what it would",
    "cuda": _CPU,
    "decision_function": "it is called scores(x)",
    "eval": "evaluate(x, y) and predict(x) are in evaluation mode by themselves",
    "fit_transform": "transform is an argument of Solver(…)",
    "load": "write pynn.load(path) for a model, solver.resume(path) for a training",
    "load_weights": "write pynn.load(path)",
    "lr": "it is the optimizer's: solver.optimizer.lr",
    "parameters": "they are the model's: solver.model.parameters()",
    "partial_fit": "it is called train_step(x, y)",
    "predict_classes": "it is called predict(x)",
    "predict_log_proba": "it is np.log(predict_proba(x))",
    "save": "write pynn.save(solver.model, path), or fit(…, checkpoint=path) for a training that can go on",
    "save_weights": "write pynn.save(solver.model, path)",
    "score": "it is evaluate(x, y)['accuracy']",
    "state_dict": "it is the model's: solver.model.state_dict(), or fit(…, checkpoint=path)",
    "step": "it is called train_step(x, y)",
    "summary": "print the model: solver.model",
    "test": "it is called evaluate(x, y)",
    "to": _CPU,
    "train": "train by fit(x, y, epochs=…)",
    "train_on_batch": "it is called train_step(x, y)",
    "validate": "it is called evaluate(x, y)",
}

SOLVER_ARGUMENTS = {
    "checkpoint": "it is fit's: solver.fit(x, y, checkpoint=…)",
    "clip_grad_norm": "it is called max_grad_norm",
    "clipnorm": "it is called max_grad_norm",
    "criterion": "it is called loss",
    "device": "pynn computes on the CPU: leave it out",
    "epochs": "it is fit's: solver.fit(x, y, epochs=…)",
    "gradient_clip_val": "it is called max_grad_norm",
    "learning_rate": "it is the optimizer's: pynn.Adam(model.parameters(), lr=…)",
    "loss_fn": "it is called loss",
    "loss_function": "it is called loss",
    "lr": "it is the optimizer's: pynn.Adam(model.parameters(), lr=…)",
    "lr_scheduler": "it is called schedule, a function of the step: schedule=pynn.Cosine()",
    "max_iter": "it is fit's: solver.fit(x, y, epochs=…)",
    "metrics": "accuracy is measured for every classification loss: leave it out",
    "momentum": "it is the optimizer's: pynn.SGD(model.parameters(), lr=…, momentum=…)",
    "n_epochs": "it is fit's: solver.fit(x, y, epochs=…)",
    "num_epochs": "it is fit's: solver.fit(x, y, epochs=…)",
    "patience": "it is fit's: solver.fit(x, y, validation_data=…, patience=…)",
    "preprocess": "it is called transform",
    "random_state": "give rng=np.random.default_rng(seed)",
    "scheduler": "it is called schedule, a function of the step: schedule=pynn.Cosine()",
    "seed": "give rng=np.random.default_rng(seed)",
    "shuffle": "every epoch is shuffled: leave it out",
    "steps": "it is fit's: solver.fit(x, y, steps=…)",
    "validation_data": "it is fit's: solver.fit(x, y, validation_data=…)",
    "verbose": "give progress=True or False",
    "weight_decay": "it is the optimizer's: pynn.AdamW(model.parameters(), weight_decay=…)",
}

FIT_ARGUMENTS = {
    "augment": "it is the Solver's: Solver(…, augment=…)",
    "batch_size": "it is the Solver's: Solver(…, batch_size=…)",
    "callback": "they are the Solver's: Solver(…, callbacks=[…])",
    "callbacks": "they are the Solver's: Solver(…, callbacks=[…])",
    "class_weight": "classes weigh alike: leave it out",
    "early_stopping": "give validation_data=(x_val, y_val), patience=…",
    "early_stopping_rounds": "it is called patience",
    "eval_set": "give one pair: validation_data=(x_val, y_val)",
    "initial_epoch": "a run is continued by solver.resume(path)",
    "learning_rate": "it is the optimizer's: pynn.Adam(model.parameters(), lr=…)",
    "loss": "it is the Solver's: Solver(model, loss, optimizer)",
    "lr": "it is the optimizer's: pynn.Adam(model.parameters(), lr=…)",
    "max_epochs": "it is called epochs",
    "max_iter": "it is called epochs, or steps for updates",
    "max_steps": "it is called steps",
    "max_time": "it is called time_limit, in seconds",
    "n_epochs": "it is called epochs",
    "nb_epoch": "it is called epochs",
    "num_epochs": "it is called epochs",
    "optimizer": "it is the Solver's: Solver(model, loss, optimizer)",
    "progress": "it is the Solver's: Solver(…, progress=False)",
    "resume": "call solver.resume(path) before fit",
    "rng": "it is the Solver's: Solver(…, rng=…)",
    "sample_weight": "samples weigh alike: leave it out",
    "schedule": "it is the Solver's: Solver(…, schedule=…)",
    "shuffle": "every epoch is shuffled: leave it out",
    "steps_per_epoch": "an epoch is one pass over the data: leave it out",
    "timeout": "it is called time_limit, in seconds",
    "transform": "it is the Solver's: Solver(…, transform=…)",
    "val_data": "it is called validation_data",
    "validation": "it is called validation_data",
    "validation_batch_size": "it does not change the result: leave it out",
    "validation_split": "give a part of the data: validation_data=(x_val, y_val)",
    "verbose": "it is the Solver's progress: Solver(…, progress=False)",
    "x_val": "give both together: validation_data=(x_val, y_val)",
}

EVALUATION_ARGUMENTS = {
    "batch_size": "evaluation works through batches of its own, whose size changes nothing: leave it out",
    "verbose": "evaluation shows nothing: leave it out",
    "steps": "all samples are taken: give a part of them",
}

LOSS = {"backward": _NO_GRAPH, "forward": "call the loss itself, loss_fn(scores, y)", "item": _NO_GRAPH}

RESULT = {"backward": _NO_GRAPH, "detach": _NO_GRAPH, "item": _NO_GRAPH, "numpy": _NO_GRAPH}

PARAMETER = {
    name: f"write parameter.data, its array, as in parameter.data.{use}"
    for name, use in {
        "T": "T", "copy": "copy()", "copy_": "fill(0)", "detach": "copy()", "fill_": "fill(0)", "item": "item()",
        "max": "max()", "mean": "mean()", "min": "min()", "ndim": "ndim", "numel": "size", "numpy": "copy()",
        "std": "std()", "sum": "sum()",
    }.items()
} | {
    "trainable": "it is called requires_grad",
    "requires_grad_": "set requires_grad",
    "zero_": "write zero_grad() for the gradient",
}  # fmt: skip

PACKAGE = {
    "Activation": "activations are layers: ReLU(), Tanh() and so on",
    "AdaptiveAvgPool2d": "GlobalAvgPool2d() averages each channel",
    "AveragePooling2D": "it is called AvgPool2d",
    "BatchNormalization": "it is called BatchNorm1d or BatchNorm2d",
    "BCELoss": "LogisticLoss takes scores, without a sigmoid",
    "BCEWithLogitsLoss": "it is called LogisticLoss",
    "Conv2D": "it is called Conv2d",
    "DataLoader": "Solver.fit takes whole arrays and a batch_size",
    "Dataset": "it is pynn.data.Dataset",
    "Dense": "it is called Linear(in_features, out_features)",
    "Dropout2d": "Dropout(p) drops single values",
    "GlobalAveragePooling2D": "it is called GlobalAvgPool2d",
    "Input": "give input_shape to Sequential",
    "Layer": "it is called Module",
    "LogSoftmax": "models end in scores, CrossEntropyLoss has the softmax",
    "MaxPool2D": "it is called MaxPool2d",
    "MaxPooling2D": "it is called MaxPool2d",
    "Model": "a model is a Sequential of layers, or a Module of your own",
    "NLLLoss": "CrossEntropyLoss takes scores, without a softmax",
    "RMSprop": "it is called RMSProp",
    "Softmax": "models end in scores, CrossEntropyLoss has the softmax; pynn.softmax(scores) gives probabilities",
    "Tensor": "models take NumPy arrays",
    "Trainer": "it is called Solver",
    "functional": "layers are called as they are, pynn.ReLU()(x)",
    "load_data": "it is pynn.data.load",
    "manual_seed": "pass rng=np.random.default_rng(seed) to what draws",
    "nn": "layers and losses are here, pynn.Linear and so on",
    "no_grad": "model(x) keeps nothing for a backward pass",
    "relu": "it is a layer, pynn.ReLU()",
    "sigmoid": "it is a layer, pynn.Sigmoid()",
    "tensor": "models take NumPy arrays",
}


class Explained(ABCMeta):
    """The type of classes whose constructors answer a call that does not fit in one sentence.

    A class says by `_misfit(problem)` which error that is.
    """

    def __call__(cls, *args, **kwargs) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except TypeError:
            problem = _misfit(cls.__signature__, args, kwargs, ARGUMENTS)
            if problem is None:  # the arguments fit: it was something else
                raise
        raise cls._misfit(problem)  # type: ignore[attr-defined]

    @property
    def __signature__(cls) -> inspect.Signature:
        """The constructor's: `inspect` would take that of `__call__`."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    __instancecheck__ = type.__instancecheck__  # of classes derived, not registered: as fast as of any class


def explains(**remedies: str) -> Callable[[F], F]:
    """Decorates a function so that a call which does not fit its signature is a TypeError of one sentence.

    remedies : for names that it does not take, from other libraries above all, what to write instead.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        name = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def checked(*args, **kwargs):
            if problem := _misfit(signature, args, kwargs, remedies):
                raise TypeError(f"{name} {problem}")
            return function(*args, **kwargs)

        return checked  # type: ignore[return-value]

    return decorate


def _misfit(signature: inspect.Signature, args: tuple, kwargs: dict, remedies: Mapping[str, str]) -> str | None:
    """What is wrong with a call, None where it fits."""
    parameters = {name: parameter for name, parameter in signature.parameters.items() if name != "self"}
    names = [name for name, parameter in parameters.items() if parameter.kind is not parameter.VAR_POSITIONAL]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        for given in kwargs:
            if given not in names:
                near = difflib.get_close_matches(given, names, n=1)
                remedy = remedies.get(given)
                if remedy in names:
                    remedy = f"write {remedy}=…"
                elif remedy is None or remedy.isidentifier():
                    remedy = f"did you mean {near[0]}?" if near else f"it takes {', '.join(names) or 'nothing'}"
                return f"has no argument {given[:60]!r}: {remedy}"
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        leading = [name for name in names if parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        if not parameters:
            return f"takes nothing: {error}"
        return f"takes {', '.join(leading) or 'nothing'} by position, all else by name: {error}"
    return None


def missing_attribute(owner: Any, name: str, remedies: Mapping[str, str]) -> AttributeError:
    """The error of an object, class or module that lacks an attribute, with what to write instead."""
    kind = owner if inspect.ismodule(owner) else type(owner)
    if name.startswith("_"):
        return AttributeError(f"{kind.__name__!r} has no attribute {name!r}")
    near = difflib.get_close_matches(name, [each for each in dir(kind) if not each.startswith("_")], n=1)
    remedy = remedies.get(name) or (f"did you mean {near[0]}?" if near else "")
    return AttributeError(f"[{kind.__name__}] has no attribute {name[:60]!r}{': ' if remedy else ''}{remedy}")
