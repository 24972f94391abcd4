"""Owns the graph of a model: what its layers compute, in order, before anything is decided about how."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from operator import getitem, is_
from typing import Any

from cnn_ext import blocked
from pynn.module import Module, Parameter

__all__ = ["Graph", "Likeness", "Node", "NotLowered", "memory_of", "naming", "trace"]


_AS_BEFORE = {"activation", "add", "batch_norm", "dropout", "flatten", "relu"}  # the layout is that of the input
_ASKED = {
    "_abc_impl",
    "_defined",
    "_remedy",
    "config",
    "input_axes",
}  # bookkeeping, words, and what `lower` asks the layer itself


class NotLowered(Exception):
    """The model cannot be computed here; its layers can compute it one by one."""


@dataclass(eq=False)
class Node:
    """One operation.

    shape : of its output without the batch axis, as the layers see it.
    image : (C, H, W) as the memory is laid out: a flattened image stays as it was.
    is_vector : whether the memory is that of a vector, not of an image.
    trainable : whether parameters at this node or before it are trained, so that a gradient has to reach it.
    """

    kind: str
    inputs: tuple[Node, ...]
    shape: tuple[int, ...]
    module: Any = None  # the layer whose parameters, state or methods it uses
    options: dict = field(default_factory=dict)
    users: list[Node] = field(default_factory=list)
    image: tuple[int, int, int] = field(init=False)
    is_vector: bool = field(init=False)
    trainable: bool = field(init=False)

    def __post_init__(self):
        if self.kind in _AS_BEFORE:
            self.image, self.is_vector = self.inputs[0].image, self.inputs[0].is_vector
        else:
            self.is_vector = len(self.shape) == 1
            self.image = (*self.shape, 1, 1) if self.is_vector else self.shape
        own = [] if self.module is None else self.module.parameters()
        self.trainable = any(p.requires_grad for p in own) or any(node.trainable for node in self.inputs)


class Graph:
    """The nodes of a model in the order of execution. Layers add to it; see `Module.lower`."""

    def __init__(self, input_shape: tuple[int, ...], training: bool):
        self.training = training
        self.nodes: list[Node] = []
        self.lowered: list[Module] = []  # layers that said themselves what they compute
        self.input = self._add("input", (), input_shape)

    def lower(self, layer: Module, x: Node) -> Node:
        """The node of what `layer` makes of `x`."""
        if not lowers_itself(layer):
            return self.layer(x, layer)
        self.lowered.append(layer)
        return layer.lower(self, x)

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
        filters, _, *kernel = layer.weight.data.shape
        window = {"stride": stride, "padding": padding, "dilation": dilation}
        if not blocked.tabulated(x.shape, filters, kernel, shape[1:], **window):
            return self.layer(x, layer)
        return self._add("convolution", (x,), shape, layer, stride=stride, padding=padding, dilation=dilation)

    def linear(self, x: Node, layer) -> Node:
        """x · layer.weight + layer.bias."""
        return self._add("linear", (x,), layer.output_shape(x.shape), layer)

    def batch_norm(self, x: Node, layer) -> Node:
        """Batch norm with layer's parameters, running statistics, momentum and eps.

        `fixed`: those statistics are the ones it uses.
        """
        shape, fixed = layer.output_shape(x.shape), not (self.training and layer.trainable)
        if len(shape) == 1 and prod(x.image[1:]) > 1:  # features that lie as pixels: no channel is a lane
            return self.layer(x, layer)
        if self.training and fixed and any(p.requires_grad for p in layer.parameters()):
            return self.layer(x, layer)
        return self._add("batch_norm", (x,), shape, layer, fixed=fixed)

    def activation(self, x: Node, function: str, negative_slope: float = 0.0) -> Node:
        """function(x), a name that `cnn_ext` has kernels of."""
        kind = "relu" if function == "relu" else "activation"
        return self._add(kind, (x,), x.shape, function=function, negative_slope=negative_slope)

    def max_pool(self, x: Node, layer, *, kernel_size, stride, padding) -> Node:
        """The maximum of each window."""
        if prod(kernel_size) > 256:  # the index of a pixel in its window is a byte
            return self.layer(x, layer)
        if prod(kernel_size) == prod(stride) == 1:  # each window is a pixel
            layer.output_shape(x.shape)
            return x
        return self._add("max_pool", (x,), layer.output_shape(x.shape), window=(*kernel_size, *stride, *padding))

    def dropout(self, x: Node, layer) -> Node:
        """x · a mask that layer.draw makes, where the layer is trained; x itself otherwise."""
        if not (self.training and layer.trainable):
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
    """Whether `lower` says what this layer computes.

    It speaks for the class that defines it, and for subclasses that only construct it otherwise or add to it: one
    that overrides anything else, an instance with a method of its own, or a class whose methods somebody replaced
    may compute something else.
    """
    order = type(layer).__mro__[:-1]  # all but object
    owner = next(i for i, base in enumerate(order) if "lower" in vars(base))
    overridden = {
        name
        for i, base in enumerate(order[:owner])
        for name in vars(base)
        if any(name in vars(above) for above in order[i + 1 :])
    }
    own = {name for name in vars(layer) if callable(getattr(type(layer), name, None))}
    return not (own or any(map(_matters, overridden)) or any(map(_is_patched, order)))


def _matters(name: str) -> bool:
    """Whether an attribute of a class can change what its layers compute and `lower` would not know it."""
    return not name.startswith("__") and name not in _ASKED


def _is_patched(kind: type) -> bool:
    """Whether methods of a layer's class are others than it was defined with."""
    if kind is Module or not issubclass(kind, Module):
        return False
    now, defined = {name: value for name, value in vars(kind).items() if callable(value)}, kind._defined
    return any(_matters(name) for name in now.keys() | defined.keys() if now.get(name) is not defined.get(name))


class Likeness:
    """What a plan is built over: parameters, and all that the layers that were lowered go by, every attribute of
    theirs and of their classes. Other layers are called as they are: of them it is their parameters and the layers
    in them.

    It is asked in every step, so what to compare is found once, and comparing is left to loops in C. Equal values
    are as good as the same ones; arrays, which are not compared, keep their place as long as their owner lives.
    """

    def __init__(self, model: Module, lowered: Collection[Module]):
        known = {*map(id, lowered)}
        owners = [vars(module) for _, module in model.named_modules() if id(module) in known]
        others = [vars(module) for _, module in model.named_modules() if id(module) not in known]
        parts = [(own, name) for own in others for name in own if _is_part(own[name])]
        self._owners, self._names = [own for own, _ in parts], [name for _, name in parts]
        held = [own[name] for own in (*owners, *others) for name in own if _is_part(own[name])]
        classes = {base for module in lowered for base in type(module).__mro__[:-1] if base is not Module}
        self._now = [
            *owners,
            *map(vars, model.parameters()),
            *map(vars, classes),
            *(each for each in held if isinstance(each, list | dict)),
        ]
        self._then = [each.copy() for each in self._now]
        self._parts = [own[name] for own, name in parts]

    def holds(self) -> bool:
        """Whether the model still has the same ones."""
        try:
            return self._now == self._then and all(map(is_, map(getitem, self._owners, self._names), self._parts))
        except (KeyError, ValueError):  # what was there is gone, or an array is another
            return False


def _is_part(value: object) -> bool:
    """Whether an attribute of a layer makes up the model."""
    if isinstance(value, list | tuple | dict):
        return any(
            isinstance(item, Parameter | Module) for item in (value.values() if isinstance(value, dict) else value)
        )
    return isinstance(value, Parameter | Module)


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
    graph = Graph(input_shape, training)
    output = graph.lower(model, graph.input)
    uses: list[int] = []
    for node in graph.nodes:
        if node.kind == "layer":  # which adds up by itself what it shares within
            uses += map(id, node.module.parameters())
        elif node.module is not None:
            uses += (id(parameter) for _, parameter in node.module._named_uses())
    if training and len(uses) != len(set(uses)):
        raise NotLowered("operations share a parameter, whose gradients add up")
    if memory_of(output) is graph.input:
        raise NotLowered("nothing is computed")
    return graph, output
