"""Owns the plan of a training step: forward and backward, over the layers' own parameters and gradients."""

from __future__ import annotations

import threading
from math import prod

import numpy as np

from cnn_ext import blocked, get_num_threads
from pynn.engine import process
from pynn.engine.graph import Likeness, Node, NotLowered, memory_of, naming, trace
from pynn.engine.memory import Arena
from pynn.engine.plan import (
    POINT,
    Group,
    Step,
    Value,
    calling,
    group,
    input_value,
    is_array,
    is_plain,
    new_value,
    passing,
    weights_of,
    window_of,
)
from pynn.module import LayerError, Module

__all__ = ["Trainer"]

PLANS = 4  # batch sizes whose plans are kept: an epoch has two
BYTES = 2**30  # beyond which plans are given up for a new one
_ELSEWHERE = "Trainer: another thread has begun a step with this model: train a model from one thread at a time"


class Trainer:
    """Forward and backward of `model` in training, as the model's own but faster, and with gradients that are set.

    `forward(x)` returns the scores, in memory that the next call overwrites; `backward(dscores)`, once for each
    forward, sets each `Parameter.grad` that is trained (it does not add to it); `accept()` then takes the batch's
    statistics into the running ones of batch norm. A model or an x that cannot be computed here is computed by the
    model itself, its errors with it. A step belongs to the thread that began it.

    Raises ValueError where another thread is within a step, and for a `dscores` of another shape than the scores',
    TypeError for one of another dtype.
    """

    def __init__(self, model: Module):
        self.model = model
        self._plans: dict[tuple, Plan | None] = {}
        self._plan: Plan | None = None
        self._scores: np.ndarray | None = None  # of the forward pass that waits for its backward pass
        self._before: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # statistics that layers have moved, and what they were
        self._turn = _Turn()

    def __getstate__(self) -> dict:
        return {"model": self.model}  # a copy makes its own plans

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["model"])  # type: ignore[misc]

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._turn.take(begins=True)
        try:
            self._scores, self._before, self._plan = None, [], self._plan_for(x)
            self._scores = scores = self._compute(x)
            return scores
        finally:
            self._turn.give_back()

    def _compute(self, x) -> np.ndarray:
        if self._plan is not None:
            try:
                return self._plan.forward(x)
            except NotLowered:  # a layer gives something else than it says
                self._plan.reject()
                self._plan = self._plans[x.shape] = None
        self._before = [(array, array.copy()) for _, array in self.model.named_buffers()]
        with np.errstate(all="ignore"):  # as in kernels: what overflows is infinite
            return self.model.forward(x, training=True)

    def backward(self, dscores: np.ndarray) -> None:
        self._turn.take()
        try:
            self._check(dscores)
            self._scores = None
            if self._plan is None:
                for parameter in self.model.parameters():
                    if parameter.requires_grad:
                        parameter.zero_grad()
                with np.errstate(all="ignore"):
                    self.model.backward(dscores, input_grad=False)
            else:
                self._plan.backward(dscores)
        finally:
            self._turn.give_back()

    def accept(self) -> None:
        """The step is taken: the running statistics move."""
        self._turn.take()
        try:
            if self._plan is not None:
                self._plan.accept()
        finally:
            self._turn.give_back()

    def reject(self) -> None:
        """The step is not taken: running statistics are as before `forward`."""
        self._turn.take()
        try:
            if self._plan is not None:
                self._plan.reject()
            else:
                for array, before in self._before:
                    array[...] = before
                self.model.release()
        finally:
            self._turn.give_back()

    def _check(self, dscores) -> None:
        if self._scores is None:
            raise ValueError("Trainer.backward: nothing to go by: call forward(x) before each backward")
        if not isinstance(dscores, np.ndarray) or dscores.dtype != self._scores.dtype:
            got = dscores.dtype if isinstance(dscores, np.ndarray) else f"a {type(dscores).__name__}"
            raise TypeError(f"Trainer.backward: expected dscores of {self._scores.dtype}, got {got}: convert it")
        if dscores.shape != self._scores.shape:
            raise ValueError(
                f"Trainer.backward: expected dscores of the scores' shape {self._scores.shape}, "
                f"got {dscores.shape}: a loss's gradient has an entry for each score"
            )

    def _plan_for(self, x) -> Plan | None:
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.ndim not in (2, 4) or x.size == 0:
            return None
        plan = self._plans.get(x.shape)
        if x.shape in self._plans and (plan is None or plan.is_current()):
            return plan
        self._plans.pop(x.shape, None)
        while self._plans and (len(self._plans) >= PLANS or self._nbytes() > BYTES):
            self._plans.pop(next(iter(self._plans)))
        try:
            plan = Plan(self.model, x.shape)
        except (NotLowered, LayerError):  # the model says it itself, of this very x
            plan = None
        self._plans[x.shape] = plan
        return plan

    def _nbytes(self) -> int:
        return sum(plan.nbytes for plan in self._plans.values() if plan is not None)


class _Turn:
    """Whose step it is: one thread's at a time, from its forward pass on until another thread's."""

    def __init__(self) -> None:
        self.lock, self.owner, self.process = threading.Lock(), threading.get_ident(), process.number

    def take(self, begins: bool = False) -> None:
        if self.process != process.number:  # a forked child, where nobody else is there, whoever had the lock
            self.lock, self.process = threading.Lock(), process.number
        if not self.lock.acquire(blocking=False):
            raise ValueError(_ELSEWHERE)
        if begins:
            self.owner = threading.get_ident()
        elif self.owner != threading.get_ident():
            self.lock.release()
            raise ValueError(_ELSEWHERE)

    def give_back(self) -> None:
        self.lock.release()


class Plan:
    """The steps for one batch shape."""

    def __init__(self, model: Module, x_shape: tuple[int, ...]):
        graph, output = trace(model, x_shape[1:], training=True)
        self.model, self.n, self.arena = model, x_shape[0], Arena()
        self.likeness = Likeness(model, graph.lowered)
        self.state: list[tuple[Module, str]] = []  # running statistics that layers write themselves
        self.statistics: list[Step] = []  # what `accept` calls
        if not all(is_plain(p.data) and is_plain(p.grad) for p in model.parameters()):
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
        self.scores = self.arena.zeros((self.n, *output.shape))
        self.gradients = {memory_of(output): new_value(output, self.n, self.arena)}
        self.dscores = self.gradients[memory_of(output)]
        self.biases_done: set[Node] = set()
        for each in reversed(self.groups):
            if each.last in self.gradients and each.last.trainable:
                self.backward_steps += self._backward_of(each)
                if each.last in self.gradients and each.last is not memory_of(output):
                    self.arena.give_back(self.gradients.pop(each.last).array)
                self.arena.turn()
            elif each.first.kind == "layer":
                self.backward_steps.append(_release(each.first.module))
        self.backward_steps = blocked.joined(self.backward_steps)
        self.nbytes = self.arena.nbytes

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
        steps: list[Step] = []
        if made.pool:
            index = self.arena.zeros((out.at.size,), np.uint8)
        if made.norm and made.norm.options["fixed"]:
            norm = self._fixed_norm(made.norm.module, x, steps)
        elif made.norm:
            layer, count = made.norm.module, self.n * prod(made.norm.image[1:])
            if count == 1:
                raise NotLowered("one value per channel has no variance")
            channels = x.at.lanes * x.at.channel_blocks
            norm = self._norm(layer, channels, self.arena.take)
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

    def _fixed_norm(self, layer, x: Value, steps: list[Step]) -> blocked.Norm:
        """Batch norm by the running statistics, which pass a gradient on in proportion."""
        channels = x.at.lanes * x.at.channel_blocks
        memory = self.arena.take(8 * channels)
        _, _, scale, _, *back, _ = memory.reshape(
            8, channels
        )  # dx = dout · back[0] − (x − mean) · back[1] − back[2]
        norm = self._norm(layer, channels, lambda _: memory)

        def use(_):
            norm.use(layer.running_mean, layer.running_var)
            for array, value in zip(back, (scale, 0, 0), strict=True):
                array[...] = value

        steps.append(use)
        return norm

    def _norm(self, layer, channels: int, new: blocked.New) -> blocked.Norm:
        """Over a batch norm's parameters, whose gradients get lost where they are not trained."""
        weight, bias = layer.weight, layer.bias
        dweight, dbias = (p.grad if p.requires_grad else self.arena.take(p.size) for p in (weight, bias))
        return blocked.norm(weight.data, bias.data, dweight, dbias, layer.eps, channels=channels, new=new)

    def _dropout(self, node: Node, x: Value, out: Value) -> list[Step]:
        mask, drawn = new_value(node, self.n, self.arena), self.arena.zeros((self.n, *node.shape))
        out.extras = {"mask": mask}

        def draw(_):
            node.module.draw(drawn)
            mask.pack(drawn)

        return [draw, blocked.combine(x.at, mask.at, out.at, product=True)]

    def _layer(self, node: Node, x: Value, out: Value) -> Step:
        unpacked = self.arena.zeros((self.n, *node.inputs[0].shape))
        self.state += [(module, name) for _, module in node.module.named_modules() for name in module.buffer_names]
        return calling(self.model, node.module, x, unpacked, out, training=True)

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
            if made.norm and not made.norm.options["fixed"]:
                count = self.n * prod(x.at.shape[2:])
                steps.append(
                    blocked.channel_sums(dout.at, out=relu_of, norm=norm, x=(picked or x).at, count=count)
                )
            elif not made.norm and self._has_bias_to_do(made.source):
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
        if layer.bias and layer.bias.requires_grad and node not in self.biases_done:
            steps.append(blocked.channel_sums(dout.at, dbias=layer.bias.grad))
        with self.arena.borrow() as new:
            if layer.weight.requires_grad:
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
        unpacked = self.arena.zeros((self.n, *node.shape))
        model, layer, wanted = self.model, node.module, node.inputs[0].trainable
        trained = [parameter for parameter in layer.parameters() if parameter.requires_grad]
        shape = (self.n, *node.inputs[0].shape)
        result: dict = {}

        def backward(_):
            dout.unpack(unpacked)
            for parameter in trained:
                parameter.zero_grad()
            with naming(model, layer), np.errstate(all="ignore"):
                dx = layer.backward(unpacked, input_grad=wanted)
                if wanted and not is_array(dx, shape):
                    got = f"{dx.dtype} of shape {dx.shape}" if isinstance(dx, np.ndarray) else type(dx).__name__
                    raise layer._refuse(
                        f"expected backward to give float32 of x's shape {shape}, got {got}: mend it"
                    )
            if wanted:
                result["dx"] = np.ascontiguousarray(dx)

        def pack(dx):
            return [lambda _: dx.pack(result.pop("dx"))]

        return [backward, *self._send(node.inputs[0], None, pack)]

    def _has_bias_to_do(self, node: Node) -> bool:
        if node.kind not in {"convolution", "linear"} or len(node.users) != 1:
            return False
        return node.module.bias is not None and node.module.bias.requires_grad

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


def _release(layer: Module) -> Step:
    return lambda _: layer.release()


def _copy(source: Value, target: Value) -> Step:
    return lambda _: np.copyto(target.array, source.array)
