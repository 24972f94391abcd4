"""Owns the graph of a model: what its layers compute, in order, before anything is decided about how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from operator import eq, is_
from typing import Any

from pynn.module import Module

__all__ = ["Graph", "Likeness", "Node", "NotLowered", "memory_of", "naming", "trace"]


_AS_BEFORE = {"activation", "add", "batch_norm", "dropout", "flatten", "relu"}  # the layout is that of the input
_CONTRACT = ("forward", "backward", "lower")


class NotLowered(Exception):
    """The model cannot be computed here; its layers can compute it one by one."""


@dataclass(eq=False)
class Node:
    """One operation. `shape`: of its output without the batch axis, as the layers see it."""

    kind: str
    inputs: tuple[Node, ...]
    shape: tuple[int, ...]
    module: Any = None  # the layer whose parameters, state or methods it uses
    options: dict = field(default_factory=dict)
    users: list[Node] = field(default_factory=list)
    trainable: bool = field(init=False)  # parameters lie at this node or before it: a gradient has to reach it

    def __post_init__(self):
        own = self.module is not None and any(True for _ in self.module.named_parameters())
        self.trainable = own or any(node.trainable for node in self.inputs)

    @property
    def image(self) -> tuple[int, int, int]:
        """(C, H, W) as the memory is laid out: a flattened image stays as it was."""
        if self.kind in _AS_BEFORE:
            return self.inputs[0].image
        return (*self.shape, 1, 1) if len(self.shape) == 1 else self.shape  # type: ignore[return-value]

    @property
    def is_vector(self) -> bool:
        """Whether the memory is that of a vector, not of an image."""
        return self.inputs[0].is_vector if self.kind in _AS_BEFORE else len(self.shape) == 1


class Graph:
    """The nodes of a model in the order of execution. Layers add to it; see `Module.lower`."""

    def __init__(self, input_shape: tuple[int, ...], training: bool):
        self.training = training
        self.nodes: list[Node] = []
        self.input = self._add("input", (), input_shape)

    def lower(self, layer: Module, x: Node) -> Node:
        """The node of what `layer` makes of `x`."""
        return layer.lower(self, x) if lowers_itself(layer) else self.layer(x, layer)

    def _add(self, kind, inputs, shape, module=None, **options) -> Node:
        shape = tuple(shape)
        if len(shape) not in {1, 3}:
            raise NotLowered(f"{kind} gives samples of shape {shape}")
        node = Node(kind, inputs, shape, module, options)
        for source in inputs:
            source.users.append(node)
        self.nodes.append(node)
        return node

    def convolution(self, x: Node, layer, *, stride, padding, dilation) -> Node:
        """x ∗ layer.weight + layer.bias."""
        shape = layer.output_shape(x.shape)
        return self._add("convolution", (x,), shape, layer, stride=stride, padding=padding, dilation=dilation)

    def linear(self, x: Node, layer) -> Node:
        """x · layer.weight + layer.bias."""
        return self._add("linear", (x,), layer.output_shape(x.shape), layer)

    def batch_norm(self, x: Node, layer) -> Node:
        """Batch norm with layer's parameters, running statistics, momentum and eps."""
        shape = layer.output_shape(x.shape)
        if len(shape) == 1 and prod(x.image[1:]) > 1:  # features that lie as pixels: no channel is a lane
            return self.layer(x, layer)
        return self._add("batch_norm", (x,), shape, layer)

    def activation(self, x: Node, function: str, negative_slope: float = 0.0) -> Node:
        """function(x), a name that `cnn_ext` has kernels of."""
        kind = "relu" if function == "relu" else "activation"
        return self._add(kind, (x,), x.shape, function=function, negative_slope=negative_slope)

    def max_pool(self, x: Node, layer, *, kernel_size, stride, padding) -> Node:
        """The maximum of each window."""
        if prod(kernel_size) > 256:  # the index of a pixel in its window is a byte
            return self.layer(x, layer)
        return self._add("max_pool", (x,), layer.output_shape(x.shape), window=(*kernel_size, *stride, *padding))

    def dropout(self, x: Node, layer) -> Node:
        """x · a mask that layer.draw makes, in training; x itself otherwise."""
        if not self.training:
            return x
        return self._add("dropout", (x,), x.shape, layer)

    def flatten(self, x: Node) -> Node:
        """The sample as a vector."""
        return self._add("flatten", (x,), (prod(x.shape),))

    def add(self, x: Node, y: Node) -> Node:
        """x + y."""
        if (x.image, x.is_vector) != (y.image, y.is_vector):
            raise NotLowered(f"a sum of {x.image} and {y.image} in memory")
        return self._add("add", (x, y), x.shape)

    def layer(self, x: Node, layer: Module) -> Node:
        """What layer.forward makes of x."""
        return self._add("layer", (x,), layer.output_shape(x.shape), layer)


def lowers_itself(layer: Module) -> bool:
    """Whether `lower` was written for this layer's forward and backward: a subclass, an instance, or somebody who
    replaced a method of its class, may have changed them."""
    order = type(layer).__mro__
    owner = {name: next(i for i, base in enumerate(order) if name in vars(base)) for name in _CONTRACT}
    if owner["lower"] > min(owner.values()) or vars(layer).keys() & set(_CONTRACT):
        return False
    bases = [(name, vars(order[i])) for name, i in owner.items()]
    return all(own.get("_defined", own).get(name) is own[name] for name, own in bases)


class Likeness:
    """What a plan is built over: attributes of layers and parameters, and the layers' methods, their own or their
    classes'.

    It is asked in every step, so where to look is found once, and looking is left to loops in C.
    """

    def __init__(self, model: Module):
        modules = [module for _, module in model.named_modules()]
        owners: list[dict] = [vars(owner) for owner in (*modules, *model.parameters())]
        kept = [(own, name, value) for own in owners for name, value in own.items() if name != "_cache"]
        kept += [(vars(module), name, vars(module).get(name)) for module in modules for name in _CONTRACT]
        self._owners, self._names, self._values = zip(*kept, strict=True)
        classes = {type(module) for module in modules}
        methods = [(kind, name, getattr(kind, name)) for kind in classes for name in _CONTRACT]
        self._classes, self._methods, self._functions = zip(*methods, strict=True)

    def holds(self) -> bool:
        """Whether the model still has the same ones."""
        values = map(dict.get, self._owners, self._names)
        functions = map(getattr, self._classes, self._methods)
        return all(map(is_, values, self._values)) and all(map(eq, functions, self._functions))


@contextmanager
def naming(model: Module, layer: Module) -> Iterator[None]:
    """Errors from within `layer` get its path in `model`, as they do when the model calls it."""
    with ExitStack() as stack:
        for container, name in _way(model, layer):
            stack.enter_context(container._naming(name))
        yield


def _way(module: Module, layer: Module) -> list[tuple[Module, str]]:
    """The containers between `module` and `layer`, each with its child's name; none where there is no way."""
    for name, child in module.children():
        below = _way(child, layer)
        if below or child is layer:
            return [(module, name), *below]
    return []


def memory_of(node: Node) -> Node:
    """The node whose memory `node` has: a flattened image stays where it is."""
    while node.kind == "flatten":
        node = node.inputs[0]
    return node


def trace(model: Module, input_shape: tuple[int, ...], *, training: bool) -> tuple[Graph, Node]:
    """The graph of `model` for samples of `input_shape`, and its output.

    Raises NotLowered, or the layers' own errors where the shape does not fit them.
    """
    seen = [id(parameter) for _, parameter in model._named_uses()]
    if training and len(seen) != len(set(seen)):
        raise NotLowered("layers share a parameter, whose gradients add up")
    graph = Graph(input_shape, training)
    output = graph.lower(model, graph.input)
    if memory_of(output) is graph.input:
        raise NotLowered("nothing is computed")
    return graph, output
