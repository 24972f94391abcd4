"""Owns the plans of inference: batch norm folded into the product before it, weights packed once."""

from __future__ import annotations

import copy
import functools
from typing import Any

import numpy as np

from cnn_ext import blocked, get_num_threads
from pynn.engine.graph import Likeness, Node, NotLowered, memory_of, trace
from pynn.engine.memory import Arena
from pynn.engine.plan import (
    Group,
    Step,
    Value,
    calling,
    group,
    input_value,
    is_plain,
    new_value,
    passing,
    weights_of,
    window_of,
)
from pynn.engine.pool import Constants, Pool
from pynn.module import LayerError, Module, Parameter

__all__ = ["Frozen", "Predictor", "freeze"]

_FLOAT = np.dtype(np.float32)


class Predictor:
    """The outputs of `model` in evaluation mode, as the model's own but faster; any number of threads may call it.

    `refresh()` takes over the model's present parameters and statistics: to be called once they have changed.
    Calls that are running then end with those they began with.
    """

    def __init__(self, model: Module):
        self.model = model
        self._pool = Pool(functools.partial(_plan, model))

    def refresh(self) -> None:
        self._pool.outdate()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        plan = None
        if isinstance(x, np.ndarray) and x.dtype == _FLOAT and x.ndim in (2, 4) and x.size:
            plan, threads, place = self._pool.lend(x.shape)
        if plan is not None:
            try:
                return plan(x, threads)
            except NotLowered:  # a layer gives something else than it says
                self._pool.do_without(x.shape)
            finally:
                self._pool.give_back(plan, place)
        with np.errstate(all="ignore"):  # as in kernels: what overflows is infinite
            return self.model(x)

    def __getstate__(self) -> dict:
        return {"model": self.model}  # a copy makes its own plans

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["model"])  # type: ignore[misc]


class Frozen(Predictor):
    """A model as it was when it was frozen, ready for inference: `frozen(x)` is what `model(x)` was, to rounding.

    x : (N, …) as the model takes it. Batches of one size in a row are fastest. Any number of Python threads may
    call it at once: each call then takes its share of the processors. It can be copied and pickled.
    """

    def refresh(self) -> None:
        raise TypeError("a frozen model keeps its weights: freeze the model again")


def freeze(model: Module) -> Frozen:
    """A copy of `model` for inference alone: float32 models run through fused kernels, others as they are."""
    if not isinstance(model, Module):
        raise TypeError(f"freeze: expected a model, got {type(model).__name__}")
    return Frozen(copy.deepcopy(model))


def _plan(model: Module, x_shape: tuple[int, ...], constants: Constants) -> Plan | None:
    try:
        return Plan(model, x_shape, constants)
    except (NotLowered, LayerError):  # the model says it itself, of this very x
        return None


class Plan:
    """The steps for one batch shape, for one call at a time."""

    def __init__(self, model: Module, x_shape: tuple[int, ...], constants: Constants):
        graph, self.y = trace(model, x_shape[1:], training=False)
        self.model, self.likeness, self.n = model, Likeness(model, graph.lowered), x_shape[0]
        if any(p.data.dtype != np.float32 for p in model.parameters()):
            raise NotLowered("parameters are not float32")
        self.arena = Arena()  # rewritten in every call
        self.constant = constants.taking(Arena().own)  # written by `refresh` alone
        self.preparations: list[Step] = []  # from parameters to constants
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
        self.given, self.made = self.values[graph.input], self._value(self.y)
        self.scores_shape = (self.n, *self.y.shape)
        self.nbytes = self.arena.nbytes

    def refresh(self) -> None:
        threads = get_num_threads()
        for step in self.preparations:
            step(threads)

    def __call__(self, x: np.ndarray, threads: int) -> np.ndarray:
        self.given.pack(np.ascontiguousarray(x))
        try:
            for step in self.steps:
                step(threads)
        finally:
            self.given.release()
        scores = np.empty(self.scores_shape, _FLOAT)
        self.made.unpack(scores)
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
        unpacked = self.arena.zeros((self.n, *node.inputs[0].shape))
        return [calling(self.model, node.module, x, unpacked, out, training=False)]

    def _product(self, made: Group, x: Value, out: Value) -> list[Step]:
        layer = made.first.module
        bias: np.ndarray | None
        if made.norm:
            weight, bias = self._folded(layer, made.norm.module)
        else:
            weight = layer.weight.data if is_plain(layer.weight.data) else self._copied(layer.weight)
            bias = self._copied(layer.bias) if layer.bias else None
        packs, steps = blocked.convolution(
            x.at,
            weights_of(made.first, weight),
            bias,
            out.at,
            relu=made.relu is not None,
            new=self.constant,
            keep=True,
            rewritten=self.arena.own,
            **window_of(made.first),
        )
        self.preparations += packs
        return steps

    def _folded(self, layer: Any, norm: Any) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of a product with the batch norm after it: scale · (w ∗ x + b − mean) + norm.bias."""
        weight = self.constant(layer.weight.size).reshape(layer.weight.shape)
        bias = self.constant(norm.bias.size)

        def fold(_):
            with np.errstate(all="ignore"):
                scale = norm.weight.data / np.sqrt(norm.running_var + np.float32(norm.eps))
                by_feature = scale[:, None, None, None] if weight.ndim == 4 else scale
                np.multiply(layer.weight.data, by_feature, out=weight)
                shift = -norm.running_mean if layer.bias is None else layer.bias.data - norm.running_mean
                bias[...] = norm.bias.data + shift * scale

        self.preparations.append(fold)
        return weight, bias

    def _copied(self, parameter: Parameter) -> np.ndarray:
        """What `parameter` was when the plan was refreshed, in memory of any kernel's liking."""
        copied = self.constant(parameter.size).reshape(parameter.shape)
        self.preparations.append(lambda _: np.copyto(copied, parameter.data))
        return copied

    def _norm(self, node: Node, x: Value) -> blocked.Norm:
        layer = node.module
        weight, bias, unused = self._copied(layer.weight), self._copied(layer.bias), self.constant(layer.bias.size)
        channels = x.at.lanes * x.at.channel_blocks
        norm = blocked.norm(weight, bias, unused, unused, layer.eps, channels=channels, new=self.constant)
        self.preparations.append(
            lambda _: norm.use(*map(np.ascontiguousarray, (layer.running_mean, layer.running_var)))
        )
        return norm
