"""Owns the answer to how much memory computing takes, before it is taken."""

from __future__ import annotations

from math import prod

from pynn.engine import inference, training
from pynn.engine.graph import NotLowered
from pynn.engine.pool import Constants
from pynn.module import Module

__all__ = ["memory_needed"]


def memory_needed(model: Module, x_shape: tuple[int, ...], *, training_step: bool = True) -> int:
    """Bytes that computing a batch of `x_shape` (with the batch axis) takes, beside parameters, gradients and x.

    training_step : of forward and backward by a `Trainer`; False: of inference by a `Predictor`, packed weights
    included. The memory is asked for, and given back untouched. Where layers compute themselves it is estimated by
    what they give.
    Raises LayerError where the shape does not fit the model.
    """
    n, *shape = x_shape
    model.output_shape(tuple(shape))
    constants = Constants()
    try:
        plan: training.Plan | inference.Plan
        if training_step:
            plan = training.Plan(model, (n, *shape))
        else:
            plan = inference.Plan(model, (n, *shape), constants)
    except (NotLowered, MemoryError):
        return n * _of_layers(model, tuple(shape), training_step)
    calls = [node for node in plan.values if node.kind == "layer"]
    inside = [_of_layers(node.module, node.inputs[0].shape, training_step) for node in calls]
    return plan.nbytes + constants.nbytes + n * (sum if training_step else max)([0, *inside])


def _of_layers(module: Module, input_shape: tuple[int, ...], training_step: bool) -> int:
    """Bytes a sample: what each layer gives, and its gradient; at inference those of one layer after the other."""
    item = max((parameter.dtype.itemsize for parameter in module.parameters()), default=4)
    rows = [(each, shape) for _, _, each, shape in module.outline(input_shape)]
    given = [prod(shape) for each, shape in rows if shape is not None and not any(each.children())]
    return 2 * item * (sum if training_step else max)([0, *given])
