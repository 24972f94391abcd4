"""Owns the plan of a training step: forward and backward, over the layers' own parameters and gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from cnn_ext import blocked, get_num_threads
from pynn.engine.graph import Likeness, Node, NotLowered, memory_of, naming, trace
from pynn.engine.memory import Arena
from pynn.engine.plan import (
    POINT,
    Group,
    Step,
    Value,
    group,
    input_value,
    new_value,
    passing,
    weights_of,
    window_of,
)
from pynn.module import LayerError, Module

__all__ = ["Trainer"]

PLANS = 4  # batch sizes whose plans are kept: an epoch has two


class Trainer:
    """Forward and backward of `model` in training, as the model's own but faster, and with gradients that are set.

    `forward(x)` returns the scores, in memory that the next call overwrites; `backward(dscores)` sets every
    `Parameter.grad` (it does not add to it); `accept()` then takes the batch's statistics into the running ones of
    batch norm. A model or an x that cannot be computed here is computed by the model itself, its errors with it.
    """

    def __init__(self, model: Module):
        self.model = model
        self._plans: dict[tuple, _Plan | None] = {}
        self._plan: _Plan | None = None

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._plan = self._plan_for(x)
        if self._plan is None:
            self._before = [(array, array.copy()) for _, array in self.model.named_buffers()]
            return self.model.forward(x, training=True)
        return self._plan.forward(x)

    def backward(self, dscores: np.ndarray) -> None:
        if self._plan is None:
            self.model.zero_grad()
            self.model.backward(dscores, input_grad=False)
        else:
            self._plan.backward(dscores)

    def accept(self) -> None:
        """The step is taken: the running statistics move."""
        if self._plan is not None:
            self._plan.accept()

    def reject(self) -> None:
        """The step is not taken: running statistics are as before `forward`."""
        if self._plan is not None:
            self._plan.reject()
        else:
            for array, before in self._before:
                array[...] = before
            self.model.release()

    def _plan_for(self, x) -> _Plan | None:
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim not in (2, 4) or x.size == 0:
            return None
        plan = self._plans.get(x.shape)
        if x.shape in self._plans and (plan is None or plan.is_current()):
            return plan
        while len(self._plans) >= PLANS:
            self._plans.pop(next(iter(self._plans)))
        try:
            plan = _Plan(self.model, x.shape)
        except (NotLowered, LayerError):  # the model says it itself, of this very x
            plan = None
        self._plans[x.shape] = plan
        return plan


class _Plan:
    """The steps for one batch shape."""

    def __init__(self, model: Module, x_shape: tuple[int, ...]):
        graph, output = trace(model, x_shape[1:], training=True)
        self.model, self.n, self.arena = model, x_shape[0], Arena()
        self.likeness = Likeness(model, graph.lowered)
        self.state: list[tuple[Module, str]] = []  # running statistics that layers write themselves
        self.statistics: list[Step] = []  # what `accept` calls
        if not all(_is_plain(p.data) and _is_plain(p.grad) for p in model.parameters()):
            raise NotLowered("parameters are not contiguous, writable float32")
        self.groups = group(graph.nodes, training=True)
        self.values = {graph.input: input_value(graph.input, self.n, self.arena, training=True)}
        self.x, self.y = graph.input, output
        self.forward_steps: list[Step] = []
        self.backward_steps: list[Step] = []
        for each in self.groups:
            self.forward_steps += self._forward_of(each)
            self.arena.turn()
        self.forward_steps = blocked.joined(self.forward_steps, passing(self.groups, self.values))
        self.scores = np.zeros((self.n, *output.shape), np.float32)
        self.gradients = {memory_of(output): new_value(output, self.n, self.arena)}
        self.dscores = self.gradients[memory_of(output)]
        self.biases_done: set[Node] = set()
        for each in reversed(self.groups):
            if each.last in self.gradients and each.last.trainable:
                self.backward_steps += self._backward_of(each)
                if each.last in self.gradients and each.last is not memory_of(output):
                    self.arena.give_back(self.gradients.pop(each.last).array)
                self.arena.turn()
        self.backward_steps = blocked.joined(self.backward_steps)

    def is_current(self) -> bool:
        """Whether the model still has the layers and arrays that the steps work on."""
        return self.likeness.holds()

    def forward(self, x: np.ndarray) -> np.ndarray:
        threads = get_num_threads()
        self.before = [(getattr(module, name), getattr(module, name).copy()) for module, name in self.state]
        self.values[self.x].pack(np.ascontiguousarray(x))
        for step in self.forward_steps:
            step(threads)
        self._value(self.y).unpack(self.scores)
        return self.scores

    def backward(self, dscores: np.ndarray) -> None:
        threads = get_num_threads()
        self.dscores.pack(np.ascontiguousarray(dscores))
        for step in self.backward_steps:
            step(threads)

    def accept(self) -> None:
        for update in self.statistics:
            update(1)

    def reject(self) -> None:
        for array, before in self.before:
            array[...] = before

    def _value(self, node: Node) -> Value:
        return self.values[memory_of(node)]

    # -- forward --------------------------------------------------------------------------------------------

    def _forward_of(self, made: Group) -> list[Step]:
        out = self.values[made.last] = new_value(made.last, self.n, self.arena)
        x, node, layer = self._value(made.source), made.first, made.first.module
        if made.is_product:
            bias = layer.bias.data if layer.bias else None
            weight = weights_of(node, layer.weight.data)
            with self.arena.borrow() as new:
                packs, steps = blocked.convolution(
                    x.at, weight, bias, out.at, relu=made.relu is not None, new=new, **window_of(node)
                )
                return packs + steps
        if made.is_unit:
            return self._unit(made, x, out)
        if node.kind == "activation":
            return [blocked.activation(node.options["function"], x.at, out.at, node.options["negative_slope"])]
        if node.kind == "dropout":
            return self._dropout(node, x, out)
        if node.kind == "add":
            return [blocked.combine(x.at, self._value(node.inputs[1]).at, out.at, product=False)]
        return [self._layer(node, x, out)]

    def _unit(self, made: Group, x: Value, out: Value) -> list[Step]:
        index = picked = norm = None
        steps = []
        if made.pool:
            index = np.zeros(out.at.size, np.uint8)
        if made.norm:
            layer, count = made.norm.module, self.n * prod(made.norm.image[1:])
            if count == 1:
                raise NotLowered("one value per channel has no variance")
            arrays = (layer.weight.data, layer.bias.data, layer.weight.grad, layer.bias.grad)
            channels = x.at.lanes * x.at.channel_blocks
            norm = blocked.norm(*arrays, layer.eps, channels=channels, new=self.arena.take)
            steps.append(blocked.norm_statistics(x.at, norm))
            self.statistics.append(
                lambda _: norm.update(layer.running_mean, layer.running_var, layer.momentum, count)
            )
            picked = new_value(made.last, self.n, self.arena) if made.pool else None
        out.extras = {"index": index, "norm": norm, "picked": picked}
        at = None if picked is None else picked.at
        relu = made.relu is not None
        return [
            *steps,
            blocked.unit(x.at, out.at, norm=norm, relu=relu, window=made.window, index=index, picked=at),
        ]

    def _dropout(self, node: Node, x: Value, out: Value) -> list[Step]:
        mask, drawn = new_value(node, self.n, self.arena), np.zeros((self.n, *node.shape), np.float32)
        out.extras = {"mask": mask}

        def draw(_):
            node.module.draw(drawn)
            mask.pack(drawn)

        return [draw, blocked.combine(x.at, mask.at, out.at, product=True)]

    def _layer(self, node: Node, x: Value, out: Value) -> Step:
        unpacked = np.zeros(x.shape[:1] + node.inputs[0].shape, np.float32)
        self.state += [(module, name) for _, module in node.module.named_modules() for name in module.buffer_names]

        def forward(_):
            x.unpack(unpacked)
            with naming(self.model, node.module):
                out.pack(np.ascontiguousarray(node.module.forward(unpacked, training=True)))

        return forward

    # -- backward -------------------------------------------------------------------------------------------

    def _backward_of(self, made: Group) -> list[Step]:
        dout, out, x = self.gradients[made.last], self.values[made.last], self._value(made.source)
        node = made.first
        if made.is_product:
            return self._product_gradient(made, dout, out, x)
        if node.kind == "layer":
            return self._layer_gradient(node, dout)
        if made.is_unit:
            norm, picked, index = out.extras["norm"], out.extras["picked"], out.extras["index"]
            relu_of = out.at if made.relu else None
            steps = []
            if norm is not None:
                count = self.n * prod(x.at.shape[2:])
                steps.append(
                    blocked.channel_sums(dout.at, out=relu_of, norm=norm, x=(picked or x).at, count=count)
                )
            elif self._has_bias_to_do(made.source):
                self.biases_done.add(made.source)
                bias = made.source.module.bias.grad
                steps.append(blocked.channel_sums(dout.at, out=relu_of, dbias=bias))
            return steps + self._send(
                made.source,
                dout if made.window == POINT else None,
                lambda dx: [
                    blocked.unit_gradient(
                        dout.at, dx.at, out=relu_of, norm=norm, x=x.at, window=made.window, index=index
                    )
                ],
            )
        if node.kind == "activation":
            function, slope = node.options["function"], node.options["negative_slope"]
            return self._send(
                made.source,
                dout,
                lambda dx: [blocked.activation_gradient(function, dout.at, x.at, dx.at, slope)],
            )
        if node.kind == "dropout":
            mask = out.extras["mask"]
            return self._send(
                made.source, dout, lambda dx: [blocked.combine(dout.at, mask.at, dx.at, product=True)]
            )
        return [step for source in node.inputs for step in self._send(source, None, lambda dx: [_copy(dout, dx)])]

    def _product_gradient(self, made: Group, dout: Value, out: Value, x: Value) -> list[Step]:
        node, layer, window = made.first, made.first.module, window_of(made.first)
        steps: list[Step] = []
        if made.relu:
            steps.append(
                blocked.unit_gradient(dout.at, dout.at, out=out.at, norm=None, x=None, window=POINT, index=None)
            )
        if layer.bias and node not in self.biases_done:
            steps.append(blocked.channel_sums(dout.at, dbias=layer.bias.grad))
        with self.arena.borrow() as new:
            steps.append(
                blocked.weight_gradient(x.at, dout.at, weights_of(node, layer.weight.grad), new=new, **window)
            )
            weight = weights_of(node, layer.weight.data)
            return steps + self._send(
                made.source,
                None,
                lambda dx: blocked.input_gradient(dout.at, weight, dx.at, new=new, **window),
            )

    def _layer_gradient(self, node: Node, dout: Value) -> list[Step]:
        unpacked = np.zeros((self.n, *node.shape), np.float32)
        wanted = node.inputs[0].trainable
        result: dict = {}

        def backward(_):
            dout.unpack(unpacked)
            node.module.zero_grad()
            with naming(self.model, node.module):
                result["dx"] = node.module.backward(unpacked, input_grad=wanted)

        def pack(dx):
            return [lambda _: dx.pack(np.ascontiguousarray(result.pop("dx")))]

        return [backward, *self._send(node.inputs[0], None, pack)]

    def _has_bias_to_do(self, node: Node) -> bool:
        return node.kind in {"convolution", "linear"} and bool(node.module.bias) and len(node.users) == 1

    def _send(self, source: Node, reusable: Value | None, steps_to) -> list[Step]:
        """`steps_to(dx)` for the gradient of `source`: written where it is the first, else added to what is there.

        reusable : a gradient of the same layout that nothing after these steps needs: they may work in place.
        """
        node = memory_of(source)
        if not node.trainable:
            return []
        if node in self.gradients:
            more = new_value(node, self.n, self.arena)
            there = self.gradients[node]
            steps = [*steps_to(more), blocked.combine(there.at, more.at, there.at, product=False)]
            self.arena.give_back(more.array)
            return steps
        if reusable is not None and len(node.users) == 1:
            owner = next(key for key, value in self.gradients.items() if value is reusable)
            self.gradients[node] = self.gradients.pop(owner)
        else:
            self.gradients[node] = new_value(node, self.n, self.arena)
        return steps_to(self.gradients[node])


def _is_plain(array: np.ndarray) -> bool:
    return array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable and array.flags.aligned


def _copy(source: Value, target: Value) -> Step:
    return lambda _: np.copyto(target.array, source.array)
