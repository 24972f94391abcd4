"""Owns the plan of inference: batch norm folded into the product before it, weights packed once."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from cnn_ext import blocked, get_num_threads
from pynn.engine.graph import Likeness, Node, NotLowered, memory_of, naming, trace
from pynn.engine.memory import Arena
from pynn.engine.plan import Group, Step, Value, group, input_value, new_value, passing, weights_of, window_of
from pynn.module import LayerError, Module

__all__ = ["Frozen", "Predictor", "freeze"]

PLANS = 8  # batch sizes whose plans are kept


class Predictor:
    """The outputs of `model` in evaluation mode, as the model's own but faster.

    `refresh()` takes over the model's present parameters and statistics: to be called once they have changed.
    """

    def __init__(self, model: Module):
        self.model = model
        self._plans: dict[tuple, _Plan | None] = {}
        self._stale: set[tuple] = set()

    def refresh(self) -> None:
        self._stale = set(self._plans)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim not in (2, 4) or x.size == 0:
            return self.model(x)
        if x.shape in self._stale:
            self._stale.remove(x.shape)
            plan = self._plans[x.shape]
            if plan is not None and plan.likeness.holds():
                plan.refresh()
            else:
                del self._plans[x.shape]
        if x.shape not in self._plans:
            while len(self._plans) >= PLANS:
                self._stale.discard(shape := next(iter(self._plans)))
                self._plans.pop(shape)
            try:
                self._plans[x.shape] = _Plan(self.model, x.shape)
            except (NotLowered, LayerError):  # the model says it itself, of this very x
                self._plans[x.shape] = None
        plan = self._plans[x.shape]
        return self.model(x) if plan is None else plan(x)


class Frozen(Predictor):
    """A model as it was when it was frozen, ready for inference: `frozen(x)` is what `model(x)` was, to rounding.

    x : (N, …) as the model takes it. Batches of one size in a row are fastest. For one Python thread at a time.
    """

    def refresh(self) -> None:
        raise TypeError("a frozen model keeps its weights: freeze the model again")


def freeze(model: Module) -> Frozen:
    """A copy of `model` for inference alone: float32 models run through fused kernels, others as they are."""
    if not isinstance(model, Module):
        raise TypeError(f"freeze: expected a model, got {type(model).__name__}")
    return Frozen(copy.deepcopy(model))


class _Plan:
    """The steps for one batch shape."""

    def __init__(self, model: Module, x_shape: tuple[int, ...]):
        graph, self.y = trace(model, x_shape[1:], training=False)
        self.model, self.likeness, self.n, self.x = model, Likeness(model, graph.lowered), x_shape[0], graph.input
        self.arena, self.constants = Arena(), Arena()  # rewritten in every call; written by `refresh` alone
        if any(p.data.dtype != np.float32 or not p.data.flags.c_contiguous for p in model.parameters()):
            raise NotLowered("parameters are not contiguous float32")
        self.preparations: list[Step] = []  # from parameters to what the steps read
        self.steps: list[Step] = []
        self.values = {graph.input: input_value(graph.input, self.n, self.arena, training=False)}
        groups = group(graph.nodes, training=False)
        readers = [memory_of(source) for made in groups for source in made.first.inputs]
        for made in groups:
            self.values[made.last] = new_value(made.last, self.n, self.arena)
            self.steps += self._steps_of(made, self._value(made.source), self.values[made.last])
            for source in made.first.inputs:
                readers.remove(memory_of(source))
                if memory_of(source) not in {*readers, graph.input, memory_of(self.y)}:
                    self.arena.give_back(self.values[memory_of(source)].array)
            self.arena.turn()
        self.steps = blocked.joined(self.steps, passing(groups, self.values))
        self.refresh()

    def refresh(self) -> None:
        threads = get_num_threads()
        for step in self.preparations:
            step(threads)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        threads = get_num_threads()
        self.values[self.x].pack(np.ascontiguousarray(x))
        for step in self.steps:
            step(threads)
        scores = np.empty((self.n, *self.y.shape), np.float32)
        self._value(self.y).unpack(scores)
        return scores

    def _value(self, node: Node) -> Value:
        return self.values[memory_of(node)]

    def _steps_of(self, made: Group, x: Value, out: Value) -> list[Step]:
        node = made.first
        if made.is_product:
            return self._product(made, x, out)
        if made.is_unit:
            norm = self._norm(made.norm, x) if made.norm else None
            relu = made.relu is not None
            return [blocked.unit(x.at, out.at, norm=norm, relu=relu, window=made.window, index=None, picked=None)]
        if node.kind == "activation":
            return [blocked.activation(node.options["function"], x.at, out.at, node.options["negative_slope"])]
        if node.kind == "add":
            return [blocked.combine(x.at, self._value(node.inputs[1]).at, out.at, product=False)]
        unpacked = np.zeros((self.n, *node.inputs[0].shape), np.float32)

        def forward(_):
            x.unpack(unpacked)
            with naming(self.model, node.module):
                out.pack(np.ascontiguousarray(node.module.forward(unpacked, training=False)))

        return [forward]

    def _product(self, made: Group, x: Value, out: Value) -> list[Step]:
        layer = made.first.module
        weight, bias = layer.weight.data, layer.bias.data if layer.bias else None
        if made.norm:
            weight, bias = self._folded(layer, made.norm.module)
        packs, steps = blocked.convolution(
            x.at,
            weights_of(made.first, weight),
            bias,
            out.at,
            relu=made.relu is not None,
            new=self.constants.take,
            keep=True,
            **window_of(made.first),
        )
        self.preparations += packs
        return steps

    def _folded(self, layer: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a product with the batch norm after it: scale · (w ∗ x + b − mean) + norm.bias."""
        weight = np.empty_like(layer.weight.data)
        bias = np.empty_like(norm.bias.data)

        def fold(_):
            scale = norm.weight.data / np.sqrt(norm.running_var + np.float32(norm.eps))
            by_feature = scale[:, None, None, None] if weight.ndim == 4 else scale
            np.multiply(layer.weight.data, by_feature, out=weight)
            shift = -norm.running_mean if layer.bias is None else layer.bias.data - norm.running_mean
            bias[...] = norm.bias.data + shift * scale

        self.preparations.append(fold)
        return weight, bias

    def _norm(self, node: Node, x: Value) -> blocked.Norm:
        layer = node.module
        unused = np.zeros_like(layer.weight.data)
        channels = x.at.lanes * x.at.channel_blocks
        norm = blocked.norm(
            layer.weight.data,
            layer.bias.data,
            unused,
            unused,
            layer.eps,
            channels=channels,
            new=self.constants.take,
        )
        self.preparations.append(lambda _: norm.use(layer.running_mean, layer.running_var))
        return norm
