"""Layers made of layers: one after the other, or with a way round."""

from collections.abc import Iterator, Sequence

from pynn.layers._checks import size
from pynn.layers.summary import summary
from pynn.module import LayerTypeError, Module
from pynn.values import is_integer, shown

__all__ = ["Residual", "Sequential"]


class _Container(Module):
    """What containers share: the checks of what they hold, and their printed form."""

    def _check_children(self) -> None:
        for name, child in self.children():
            if not isinstance(child, Module):
                if isinstance(child, type):
                    got = f"the class {child.__name__}: write {child.__name__}()"
                elif isinstance(child, list | tuple | dict | Iterator):
                    star = "*" if not isinstance(child, dict) else "*layers.values(), where layers is "
                    got = f"a {type(child).__name__}: write Sequential({star}…)"
                elif isinstance(child, str) or callable(child):
                    got = f"{shown(child)}: layers are pynn.Modules, as ReLU()"
                else:
                    got = shown(child)
                raise self._refuse(f"expected {name!r} to be a layer, got {got}", LayerTypeError)
        paths: dict[int, str] = {}
        first: tuple[str, Module] | None = None
        for path, module in self.named_modules():
            if id(module) in paths:
                raise self._refuse(
                    f"the same {type(module).__name__} is at {paths[id(module)]} and at {path}: a layer keeps "
                    "what backward needs of one call only, so make a second layer (which may share its Parameters)"
                )
            paths[id(module)] = path
            if module.dtype is not None:
                first = first or (path, module)
                if module.dtype != first[1].dtype:
                    raise self._refuse(
                        f"{first[0]} {type(first[1]).__name__} is {first[1].dtype}, but {path} "
                        f"{type(module).__name__} is {module.dtype}: give all layers one dtype",
                        LayerTypeError,
                    )

    def __repr__(self) -> str:
        return self.summary()

    def summary(self, input_shape: tuple[int, ...] | None = None) -> str:
        """The table that `print(model)` shows; `input_shape`: without the batch axis."""
        return summary(self, input_shape)


class Sequential(_Container):
    """y = layerₖ(… layer₁(x)); backward goes the other way.

    layers : one by one, or one list of them. `model[i]` is a layer, `model[i:j]` a Sequential that shares its
    layers, `len(model)` their number, and `print(model)` a summary, with shapes where `input_shape` (without the
    batch axis) is given: then the layers are checked against each other at construction. Raises LayerError with
    the path of the layer at fault.
    """

    def __init__(self, *layers: Module | Sequence[Module], input_shape: tuple[int, ...] | None = None):
        if len(layers) == 1 and isinstance(layers[0], list | tuple):
            layers = tuple(layers[0])
        self.layers = layers
        if not layers:
            raise self._refuse("expected at least one layer")
        self._check_children()
        self.input_shape = None
        if input_shape is not None:
            if not isinstance(input_shape, tuple | list):
                raise self._refuse(
                    f"'input_shape' must be a tuple of ints, got {shown(input_shape)}", LayerTypeError
                )
            self.input_shape = tuple(size(self, "input_shape", axis) for axis in input_shape)
            self.output_shape(self.input_shape)

    def children(self):
        return ((str(index), layer) for index, layer in enumerate(self.layers))

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)

    def __getitem__(self, index):
        if not isinstance(index, slice):
            if not is_integer(index):
                raise self._refuse(f"model[i] is a layer by its number, got {shown(index)}", LayerTypeError)
            if not -len(self) <= index < len(self):
                raise IndexError(
                    f"[{type(self).__name__}] it has {len(self)} layers, so there is no layer {shown(index)}"
                )
            return self.layers[index]
        start, _, step = index.indices(len(self))
        shape = None
        if self.input_shape is not None and step == 1:
            *_, shape = self._shapes(self.input_shape, self.layers[:start])
        return Sequential(*self.layers[index], input_shape=shape)

    def __setitem__(self, index, layer):
        raise self._refuse(
            "layers are given at once: write Sequential(*model[:i], layer, *model[i + 1:])", LayerTypeError
        )

    def forward(self, x, *, training=False):
        for name, layer in self.children():
            with self._naming(name):
                x = layer.forward(x, training=training)
        return x

    def backward(self, dout, *, input_grad=True):
        # Where ∂L/∂x is not wanted, nothing below the first layer that is trained needs a gradient at all.
        last = len(self) - 1
        trained = (i for i, layer in enumerate(self) if any(p.requires_grad for p in layer.parameters()))
        lowest = 0 if input_grad else next(trained, last)
        for index in range(last, lowest - 1, -1):
            with self._naming(str(index)):
                dout = self.layers[index].backward(dout, input_grad=input_grad or index > lowest)
        for layer in self.layers[:lowest]:
            layer.release()
        return dout

    def lower(self, graph, x):
        for name, layer in self.children():
            with self._naming(name):
                x = graph.lower(layer, x)
        return x

    def _shapes(self, input_shape, layers):
        """The shape of the input, then of the output of each of the leading `layers`."""
        yield input_shape
        for name, layer in zip(map(str, range(len(layers))), layers, strict=True):
            with self._naming(name):
                input_shape = layer.output_shape(input_shape)
            yield input_shape

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        *_, shape = self._shapes(tuple(input_shape), self.layers)
        return shape

    def outline(self, input_shape=None, name="", depth=0):
        yield from super().outline(input_shape, name, depth)
        shapes = [None] * len(self) if input_shape is None else self._shapes(tuple(input_shape), self.layers)
        for (child, layer), shape in zip(self.children(), shapes, strict=False):  # the output's shape is left over
            yield from layer.outline(shape, child, depth + 1)

    def summary(self, input_shape=None):
        return summary(self, self.input_shape if input_shape is None else input_shape)


class Residual(_Container):
    """y = body(x) + shortcut(x), or body(x) + x where `shortcut` is None (He et al. 2016, arXiv:1512.03385).

    Backward: ∂L/∂x is the sum of what both ways give back. Both must give the same shape, or LayerError.
    """

    def __init__(self, body: Module, shortcut: Module | None = None):
        self.body, self.shortcut = body, shortcut
        self._check_children()

    def children(self):
        yield "body", self.body
        if self.shortcut is not None:
            yield "shortcut", self.shortcut

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        with self._naming("body"):
            out = self.body.forward(x, training=training)
        if self.shortcut is not None:
            with self._naming("shortcut"):
                x = self.shortcut.forward(x, training=training)
        return out + x

    def backward(self, dout, *, input_grad=True):
        with self._naming("body"):
            dx = self.body.backward(dout, input_grad=input_grad)
        if self.shortcut is not None:
            with self._naming("shortcut"):
                dout = self.shortcut.backward(dout, input_grad=input_grad)
        return dx + dout if input_grad else None

    def lower(self, graph, x):
        self.output_shape(x.shape)
        with self._naming("body"):
            out = graph.lower(self.body, x)
        if self.shortcut is not None:
            with self._naming("shortcut"):
                x = graph.lower(self.shortcut, x)
        return graph.add(out, x)

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        shapes = {}
        for name, child in self.children():
            with self._naming(name):
                shapes[name] = child.output_shape(input_shape)
        shortcut = shapes.get("shortcut", tuple(input_shape))
        if shapes["body"] != shortcut:
            raise self._refuse(
                f"expected body and shortcut to give one shape, got {shapes['body']} and {shortcut} without the "
                "batch axis: give a shortcut that fits, as Conv2d(…, kernel_size=1, stride=…)"
            )
        return shapes["body"]

    def outline(self, input_shape=None, name="", depth=0):
        yield from super().outline(input_shape, name, depth)
        for child, module in self.children():
            yield from module.outline(input_shape, child, depth + 1)
