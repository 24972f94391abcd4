"""Owns what training and inference plans share: which nodes are joined, and where values lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from cnn_ext import blocked
from pynn.engine.graph import Node, NotLowered, naming
from pynn.engine.memory import Arena
from pynn.module import Module

__all__ = [
    "POINT",
    "Group",
    "Step",
    "Value",
    "calling",
    "group",
    "input_value",
    "is_array",
    "is_plain",
    "new_value",
    "passing",
    "weights_of",
    "window_of",
]

POINT = blocked.POINT
FEW_CHANNELS = 4  # of an input that its convolution takes as an Image
THICKEST = 4  # times as large as an image it may be with its padding

Step = Callable[[int], None]


@dataclass(eq=False)
class Group:
    """Nodes that become one operation: a product with its relu, or batch norm – relu – max-pool, or one node.

    `norm`, `relu` and `pool` are the nodes that are in it, or None.
    """

    nodes: list[Node]
    norm: Node | None = None
    relu: Node | None = None
    pool: Node | None = None

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def last(self) -> Node:
        return self.nodes[-1]

    @property
    def is_product(self) -> bool:
        return self.first.kind in {"convolution", "linear"}

    @property
    def is_unit(self) -> bool:
        return self.first.kind in {"batch_norm", "relu", "max_pool"}

    @property
    def source(self) -> Node:
        """The node that it reads."""
        return self.first.inputs[0]

    @property
    def window(self) -> tuple[int, ...]:
        return self.pool.options["window"] if self.pool else POINT


@dataclass(eq=False)
class Value:
    """What a node gives. `at`: Blocks, or Image, Pixels or Rows. `shape`: as the layers see it, with the batch."""

    at: Any
    shape: tuple[int, ...]
    array: np.ndarray
    extras: dict = field(default_factory=dict)  # what the backward pass of its group needs

    def pack(self, x: np.ndarray) -> None:
        blocked.pack(x.reshape(self.at.shape), self.at)

    def release(self) -> None:
        """Lets go of what `pack` was given, where it stayed in its place."""
        if isinstance(self.at, blocked.Rows):
            blocked.pack(None, self.at)

    def unpack(self, out: np.ndarray) -> None:
        """Into `out`, contiguous and of `shape`."""
        blocked.unpack(self.at, out.reshape(self.at.shape))


_UNIT = {"batch_norm": "norm", "relu": "relu", "max_pool": "pool"}  # kinds in the order that they are joined in
_UNIT_ORDER = list(_UNIT)


def group(nodes: list[Node], *, training: bool) -> list[Group]:
    """`nodes` but the input and flattens, joined where one pass over memory can serve for several."""
    groups: list[Group] = []
    done: set[Node] = set()
    for node in nodes[1:]:
        if node in done or node.kind == "flatten":
            continue
        made = Group([node])
        if made.is_product:
            norm = _only_user(node)
            if not training and norm is not None and norm.kind == "batch_norm":  # it is folded into the weights
                made.nodes.append(norm)
                made.norm = norm
            relu = _only_user(made.last)
            if relu is not None and relu.kind == "relu" and getattr(_only_user(relu), "kind", "") != "max_pool":
                made.nodes.append(relu)
                made.relu = relu
        elif made.is_unit:
            setattr(made, _UNIT[node.kind], node)
            while (following := _only_user(made.last)) is not None and _joins(made, following, training):
                made.nodes.append(following)
                setattr(made, _UNIT[following.kind], following)
        groups.append(made)
        done.update(made.nodes)
    return groups


def _only_user(node: Node) -> Node | None:
    return node.users[0] if len(node.users) == 1 else None


def _joins(made: Group, node: Node, training: bool) -> bool:
    """Whether `node` can be the next of a unit; going back through a norm, a pixel's windows must not overlap."""
    if node.kind not in _UNIT or _UNIT_ORDER.index(node.kind) <= _UNIT_ORDER.index(made.last.kind):
        return False
    if node.kind != "max_pool" or not (training and made.norm):
        return True
    kernel_h, kernel_w, stride_h, stride_w, *padding = node.options["window"]
    return kernel_h <= stride_h and kernel_w <= stride_w and not any(padding)


def passing(groups: list[Group], values: dict[Node, Value]) -> list[blocked.Blocks]:
    """Products that nothing reads but the unit after them.

    The way back would read one that ends in a relu, or that a norm follows.
    """
    products = {made.last for made in groups if made.is_product and made.relu is None}
    units = [made for made in groups if made.is_unit and made.norm is None]
    return [values[made.source].at for made in units if made.source in products and len(made.source.users) == 1]


def input_value(node: Node, n: int, arena: Arena, *, training: bool) -> Value:
    """The input's place: an Image (Pixels for few samples) where convolutions alone, all padded alike, read it,
    and padding is not most of it.

    For inference, vectors that fully-connected layers alone read stay where they are.
    """
    shape = (n, *node.image)
    if node.is_vector and not training and n > 1 and {user.kind for user in node.users} == {"linear"}:
        return Value(blocked.Rows(shape), (n, *node.shape), np.empty(0, np.float32))
    paddings = {user.options["padding"] for user in node.users if user.kind == "convolution"}
    others = any(user.kind != "convolution" for user in node.users)
    if (
        shape[1] <= FEW_CHANNELS
        and len(paddings) == 1
        and not others
        and all(_is_thin(padding, shape[2:]) for padding in paddings)
    ):
        (padding,) = paddings
        array = arena.take(blocked.image_size(shape, padding))
        if n < blocked.BATCH and not training:
            return Value(blocked.Pixels(array, shape, padding), (n, *node.shape), array)
        return Value(blocked.Image(array, shape, padding), (n, *node.shape), array)
    return new_value(node, n, arena)


def _is_thin(padding: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether an image's padding may be in memory: Blocks have none, however much of it there is."""
    return prod(s + 2 * p for s, p in zip(image, padding, strict=True)) <= THICKEST * prod(image) + 4096


def new_value(node: Node, n: int, arena: Arena) -> Value:
    """Blocks for what `node` gives, or for its gradient."""
    shape = (n, *node.image)
    lanes = blocked.lanes_for(shape[1])
    array = arena.take(blocked.blocks_size(shape, lanes))
    batch = n if node.is_vector else blocked.BATCH
    return Value(blocked.Blocks(array, shape, lanes, batch), (n, *node.shape), array)


def weights_of(product: Node, array: np.ndarray) -> blocked.Weights:
    """`array`, the weight of a product's layer or its gradient, as the kernels read and write it."""
    if product.kind == "convolution":
        return blocked.convolution_weights(array)
    return blocked.linear_weights(array, product.inputs[0].image)


def window_of(product: Node) -> dict:
    """Stride, padding and dilation of a product."""
    return product.options or {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}


def is_plain(array: np.ndarray) -> bool:
    """Whether kernels can work on an array of the user's as it is."""
    flags = array.flags
    return array.dtype == np.float32 and flags.c_contiguous and flags.writeable and flags.aligned


def calling(model: Module, layer: Module, x: Value, unpacked: np.ndarray, out: Value, *, training: bool) -> Step:
    """out = layer.forward(x), by way of `unpacked`; errors as from `model`, of which it is a part.

    The step raises NotLowered where the layer gives something else than its `output_shape` says.
    """

    def forward(_):
        x.unpack(unpacked)
        with naming(model, layer), np.errstate(all="ignore"):  # as in kernels: what overflows is infinite
            given = layer.forward(unpacked, training=training)
        if not is_array(given, out.shape):
            raise NotLowered(f"{type(layer).__name__} does not give float32 of shape {out.shape}")
        out.pack(np.ascontiguousarray(given))

    return forward


def is_array(given: object, shape: tuple[int, ...]) -> bool:
    """Whether a layer's method returned float32 of `shape`."""
    return isinstance(given, np.ndarray) and given.dtype == np.float32 and given.shape == shape
