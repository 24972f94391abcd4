"""What the engine makes of a model before it computes: the graph, the groups, the memory."""

import numpy as np
import pytest
from engine_networks import NETWORKS, EngineTestConv2d, EngineTestScale, network

from cnn_ext import blocked
from pynn.engine.graph import Likeness, NotLowered, lowers_itself, memory_of, naming, trace
from pynn.engine.memory import Arena
from pynn.engine.plan import Value, group, input_value, passing
from pynn.layers import (
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Tanh,
)
from pynn.module import LayerError, Module


def kinds(model, shape, *, training=True):
    graph, _ = trace(model, shape, training=training)
    return [node.kind for node in graph.nodes]


def groups(model, shape, *, training=True):
    graph, _ = trace(model, shape, training=training)
    return [[node.kind for node in made.nodes] for made in group(graph.nodes, training=training)]


def test_the_graph_has_a_node_for_each_layer_in_order():
    features = Conv2d(3, 8, 3), BatchNorm2d(8), ReLU(), MaxPool2d(2), Tanh(), AvgPool2d(2)
    model = Sequential(*features, Dropout(0.1), Flatten(), Linear(8, 2))
    expected = ["input", "convolution", "batch_norm", "relu", "max_pool", "activation", "layer"]
    assert kinds(model, (3, 6, 7)) == [*expected, "dropout", "flatten", "linear"]
    assert kinds(model, (3, 6, 7), training=False) == [*expected, "flatten", "linear"]  # no dropout


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_of_the_layers(name):
    model, shape = network(name)
    graph, output = trace(model, shape, training=True)
    assert output.shape == model.output_shape(shape)
    for node in graph.nodes[1:]:
        assert all(node in source.users for source in node.inputs)
        assert np.prod(node.image) == np.prod(node.shape)


def test_a_flattened_image_stays_where_it_is():
    graph, output = trace(Sequential(Conv2d(3, 8, 3), Flatten(), Flatten(), ReLU()), (3, 4, 5), training=True)
    convolution, *_, relu = graph.nodes[1:]
    assert memory_of(relu.inputs[0]) is convolution
    assert memory_of(output) is relu
    assert (relu.shape, relu.image) == ((48,), (8, 2, 3))


# -- what is left to the layers -------------------------------------------------------------------------------


class EngineTestLike(EngineTestConv2d):
    """Changes forward, and says anew what it computes."""

    def forward(self, x, *, training=False):
        return Conv2d.forward(self, x, training=training)

    def lower(self, graph, x):
        return Conv2d.lower(self, graph, x)


class EngineTestNamed(Conv2d):
    """Changes nothing that counts."""

    def __repr__(self):
        return "named"


class EngineTestBackward(Linear):
    def backward(self, dout, *, input_grad=True):
        return super().backward(2 * dout, input_grad=input_grad)


class EngineTestSequence(Sequential):
    def forward(self, x, *, training=False):
        return super().forward(x, training=training) * 2


def test_who_lowers_itself():
    assert lowers_itself(Conv2d(3, 4, 2))
    assert lowers_itself(EngineTestNamed(3, 4, 2))
    assert lowers_itself(EngineTestLike(3, 4, 2))
    assert not lowers_itself(EngineTestConv2d(3, 4, 2))
    assert not lowers_itself(EngineTestBackward(3, 4))
    assert not lowers_itself(EngineTestSequence(ReLU()))
    for method in ("forward", "backward", "lower"):
        layer = ReLU()
        setattr(layer, method, getattr(layer, method))
        assert not lowers_itself(layer)


class EngineTestMask(Dropout):
    """Draws another mask than `lower` says."""

    def _mask(self, shape, real):
        return 2 * super()._mask(shape, real)


class EngineTestDraw(Dropout):
    def draw(self, mask):
        super().draw(mask)
        mask *= 2


class EngineTestShape(Conv2d):
    def output_shape(self, input_shape):
        return super().output_shape(input_shape)


class EngineTestWindow(MaxPool2d):
    def _window(self):
        return super()._window()


class EngineTestChildren(Sequential):
    def children(self):
        return reversed(list(super().children()))


class EngineTestMixin:
    def _check_input(self, x):
        return x


class EngineTestMixed(EngineTestMixin, Linear):
    pass


class EngineTestBuilt(Conv2d):
    """Constructs otherwise and adds to it."""

    def __init__(self, channels):
        super().__init__(channels, channels, 3, padding=1)

    def config(self):
        return {"channels": self.in_channels}

    def norm_of_weight(self):
        return np.linalg.norm(self.weight.data)


@pytest.mark.parametrize(
    "layer",
    [
        EngineTestMask(0.5),
        EngineTestDraw(0.5),
        EngineTestShape(3, 4, 2),
        EngineTestWindow(2),
        EngineTestChildren(ReLU()),
        EngineTestMixed(3, 4),
    ],
)
def test_what_a_subclass_overrides_is_not_passed_over(layer):
    assert not lowers_itself(layer)


def test_a_subclass_that_adds_lowers_itself():
    assert lowers_itself(EngineTestBuilt(3))


def test_what_an_instance_or_a_patched_class_has_instead_is_not_passed_over(monkeypatch):
    layer = Dropout(0.5)
    layer.draw = layer.draw
    assert not lowers_itself(layer)
    assert lowers_itself(Dropout(0.5))
    monkeypatch.setattr(Dropout, "_mask", lambda self, shape, real: np.ones(shape, real))
    assert not lowers_itself(Dropout(0.5))
    monkeypatch.undo()
    monkeypatch.setattr(Linear, "_check_input", lambda self, x: x, raising=False)
    assert not lowers_itself(Linear(3, 4))


@pytest.mark.parametrize("method", ["forward", "backward", "lower"])
def test_a_class_with_another_method_in_place_of_its_own_does_not_lower_itself(method, monkeypatch):
    layer, named = Conv2d(3, 4, 2), EngineTestNamed(3, 4, 2)
    before = getattr(Conv2d, method)
    monkeypatch.setattr(Conv2d, method, lambda *args, **options: before(*args, **options))
    assert not lowers_itself(layer)
    assert not lowers_itself(named)
    monkeypatch.undo()
    assert lowers_itself(layer)


def test_layers_that_do_not_lower_themselves_are_nodes_as_a_whole():
    inner = EngineTestSequence(Conv2d(3, 4, 2), ReLU())
    model = Sequential(EngineTestScale(3), inner, EngineTestConv2d(4, 4, 1), Conv2d(4, 2, 1))
    graph, _ = trace(model, (3, 4, 5), training=True)
    assert [node.kind for node in graph.nodes] == ["input", "layer", "layer", "layer", "convolution"]
    assert [node.module for node in graph.nodes[1:]] == list(model)


def test_norms_of_features_that_lie_as_pixels_are_left_to_the_layer():
    assert kinds(Sequential(Conv2d(3, 8, 3), Flatten(), BatchNorm1d(48)), (3, 4, 5))[-1] == "layer"
    assert kinds(Sequential(Conv2d(3, 8, 3), Flatten(), BatchNorm1d(8)), (3, 3, 3))[-1] == "batch_norm"


def test_windows_whose_pixels_a_byte_does_not_count_are_left_to_the_layer():
    assert kinds(Sequential(MaxPool2d(16), Conv2d(1, 1, 1)), (1, 20, 20))[1] == "max_pool"
    assert kinds(Sequential(MaxPool2d((16, 17)), Conv2d(1, 1, 1)), (1, 20, 20))[1] == "layer"


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (Sequential(Flatten(), Dropout(0.5)), (3, 4, 5), "nothing is computed"),
        (Sequential(ReLU()), (3, 4), r"input gives samples of shape \(3, 4\)"),
        (Sequential(Flatten(), Residual(Linear(12, 12))), (3, 2, 2), "a sum of"),
    ],
)
def test_what_cannot_be_computed_here(model, shape, message):
    with pytest.raises(NotLowered, match=message):
        trace(model, shape, training=False)


def test_shared_parameters_are_for_inference_alone():
    model = Sequential(Linear(4, 4), Linear(4, 4))
    model[1].bias = model[0].bias
    trace(model, (4,), training=False)
    with pytest.raises(NotLowered, match="operations share a parameter"):
        trace(model, (4,), training=True)


# -- groups ---------------------------------------------------------------------------------------------------


def test_what_is_joined():
    conv, relu, pool = ["convolution"], ["relu"], ["max_pool"]
    norm = ["batch_norm"]
    model = Sequential(Conv2d(3, 8, 3), BatchNorm2d(8), ReLU(), MaxPool2d(2), Conv2d(8, 8, 1), ReLU(), Tanh())
    assert groups(model, (3, 6, 7)) == [conv, norm + relu + pool, conv + relu, ["activation"]]
    assert groups(model, (3, 6, 7), training=False) == [conv + norm, relu + pool, conv + relu, ["activation"]]

    model = Sequential(Conv2d(3, 8, 3), BatchNorm2d(8), ReLU(), MaxPool2d(3, stride=2), Conv2d(8, 8, 1))
    assert groups(model, (3, 8, 7)) == [conv, norm + relu, pool, conv]  # windows overlap

    model = Sequential(Conv2d(3, 8, 3), MaxPool2d(2), ReLU(), BatchNorm2d(8), ReLU(), ReLU())
    assert groups(model, (3, 8, 7)) == [conv, pool, relu, norm + relu, relu]


def test_a_pool_of_single_pixels_is_no_pool():
    model = Sequential(Conv2d(3, 8, 3), BatchNorm2d(8), MaxPool2d(1), Conv2d(8, 8, 1))
    assert groups(model, (3, 6, 7)) == [["convolution"], ["batch_norm"], ["convolution"]]
    assert groups(Sequential(BatchNorm2d(3), MaxPool2d(1, stride=2)), (3, 6, 7)) == [["batch_norm", "max_pool"]]


def test_what_two_read_is_not_joined():
    model = Sequential(
        Conv2d(3, 8, 3),
        Residual(ReLU()),
        BatchNorm2d(8),
        Residual(Sequential(ReLU(), MaxPool2d(3, stride=1, padding=1))),
    )
    assert groups(model, (3, 6, 7)) == [
        ["convolution"], ["relu"], ["add"], ["batch_norm"], ["relu", "max_pool"], ["add"]
    ]  # fmt: skip


def test_what_passes_from_a_product_to_a_unit():
    def kinds(*layers, training=True):
        graph, _ = trace(Sequential(*layers), (3, 8, 8), training=training)
        made = group(graph.nodes, training=training)
        values = {each.last: Value(each.last.kind, (), np.empty(0, np.float32)) for each in made}
        return passing(made, values)

    conv, norm, relu, pool = (Conv2d(3, 3, 3, padding=1), BatchNorm2d(3), ReLU(), MaxPool2d(2))
    assert kinds(conv, relu, pool, Conv2d(3, 3, 1), MaxPool2d(2)) == ["convolution"] * 2
    assert kinds(conv, norm, relu, pool) == []  # the way back reads it
    assert kinds(conv, norm, relu, pool, training=False) == ["batch_norm"]  # folded into the product
    assert kinds(conv, relu, ReLU()) == []  # the way back of the first relu
    assert kinds(conv, Residual(Sequential(relu, MaxPool2d(3, stride=1, padding=1)))) == []  # two read it
    assert kinds(relu, pool) == []


# -- memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "shape", "kind"),
    [
        ([Conv2d(1, 8, 3, padding=1)], (1, 5, 5), blocked.Image),
        ([Conv2d(4, 8, 3)], (4, 5, 5), blocked.Image),
        ([Conv2d(5, 8, 3)], (5, 5, 5), blocked.Blocks),
        ([ReLU(), Conv2d(1, 8, 3)], (1, 5, 5), blocked.Blocks),
        ([Residual(Conv2d(3, 3, 1))], (3, 5, 5), blocked.Blocks),
        ([Residual(Conv2d(3, 4, 1), Conv2d(3, 4, 1))], (3, 5, 5), blocked.Image),
        ([Residual(Conv2d(3, 4, 1), Conv2d(3, 4, 3, padding=1))], (3, 5, 5), blocked.Blocks),
        ([ReLU(), Linear(3, 4)], (3,), blocked.Blocks),
        ([Flatten(), Linear(50, 4)], (2, 5, 5), blocked.Blocks),
    ],
)
def test_where_the_input_lies(layers, shape, kind):
    graph, _ = trace(Sequential(*layers), shape, training=True)
    assert type(input_value(graph.input, 13, Arena(), training=True).at) is kind
    few = blocked.Pixels if kind is blocked.Image else kind
    assert type(input_value(graph.input, 11, Arena(), training=False).at) is few


def test_vectors_for_linear_layers_alone_stay_where_they_are():
    graph, _ = trace(Sequential(Linear(3, 4)), (3,), training=False)
    kinds = [type(input_value(graph.input, n, Arena(), training=False).at) for n in (1, 2, 100)]
    assert kinds == [blocked.Blocks, blocked.Rows, blocked.Rows]
    assert type(input_value(graph.input, 100, Arena(), training=True).at) is blocked.Blocks


def test_an_arena_lends_what_was_given_back():
    arena = Arena()
    first, second = arena.take(10_000), arena.take(10_000)
    assert not np.shares_memory(first, second)
    for array in (first, second):
        assert (array.dtype, array.size, array.ctypes.data % 64) == (np.float32, 10_000, 0)
    arena.give_back(first)
    assert not np.shares_memory(arena.take(10_000), first)  # it rests
    arena.turn()
    assert not np.shares_memory(
        arena.take(10_000), first
    )  # while the next group is built, which may run beside it
    arena.turn()
    third = arena.take(9_000)  # a little smaller: the same block
    assert third.size == 9_000
    assert np.shares_memory(first, third)
    assert not np.shares_memory(arena.take(9_000), third)
    arena.give_back(third)
    arena.turn()
    arena.turn()
    assert not np.shares_memory(arena.take(10), first)  # far too large for it
    assert np.shares_memory(arena.take(10_000), first)


def test_a_loan_ends_with_its_block():
    arena = Arena()
    with arena.borrow() as new:
        one, two = new(5_000), new(5_000)
        assert not np.shares_memory(one, two)
    assert not arena.used
    arena.turn()
    arena.turn()
    again = arena.take(5_000)
    assert np.shares_memory(again, one) or np.shares_memory(again, two)


# -- models that change, errors within ------------------------------------------------------------------------


def likeness_of(model):
    graph, _ = trace(model, (3, 12, 11), training=True)
    return Likeness(model, graph.lowered)


def test_likeness_holds_until_something_is_replaced():
    def change(name):
        model, _ = network("cnn_bn")
        likeness = likeness_of(model)
        assert likeness.holds()
        model[0].weight.data += 1
        model[1].running_mean += 1
        model[0].weight.data, model[-1].bias.grad = model[0].weight.data.copy(), model[-1].bias.grad.copy()
        model[1].running_var = model[1].running_var.copy()
        assert likeness.holds()
        match name:
            case "frozen":
                model[-1].bias.requires_grad = False
            case "untrained":
                model[1].trainable = False
            case "parameter":
                model[0].weight = type(model[0].weight)(model[0].weight.data)
            case "layer":
                model.layers = (*model.layers[:-1], Linear(24, 10))
            case "fewer":
                model.layers = model.layers[:-1]
            case "method":
                model[2].backward = model[2].backward
            case "helper":
                model[-2].draw = model[-2].draw
            case "number":
                model[1].eps *= 2
        return likeness.holds()

    for name in ("frozen", "untrained", "parameter", "layer", "fewer", "method", "helper", "number"):
        assert not change(name), name
    assert change("nothing")


@pytest.mark.parametrize("method", ["forward", "backward", "lower"])
@pytest.mark.parametrize("kind", [BatchNorm2d, BatchNorm2d.__mro__[1], Module, Sequential])
def test_likeness_sees_methods_that_classes_have_changed(kind, method, monkeypatch):
    model, _ = network("cnn_bn")
    likeness = likeness_of(model)
    before = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda *args, **options: before(*args, **options))
    seen = any(getattr(type(module), method) is getattr(kind, method) for _, module in model.named_modules())
    assert likeness.holds() is not seen
    monkeypatch.undo()
    assert likeness.holds()


def test_layers_within_layers_are_looked_at_once():
    """In time that does not double with each level."""
    layer = ReLU()
    for _ in range(60):
        layer = Residual(layer)
    graph, output = trace(layer, (3,), training=True)
    assert not output.trainable
    graph, output = trace(Sequential(Linear(3, 3), layer), (3,), training=True)
    assert output.trainable
    assert not graph.input.trainable


class EngineTestRefuses(Module):
    def forward(self, x, *, training=False):
        raise self._refuse("not today") if training else ValueError("no")


def test_errors_name_the_way_to_the_layer():
    layer = EngineTestRefuses()
    model = Sequential(ReLU(), Residual(Sequential(ReLU(), layer)))
    for training in (True, False):
        with pytest.raises(LayerError) as actual, naming(model, layer):
            layer.forward(None, training=training)
        with pytest.raises(LayerError) as expected:
            model.forward(np.ones((2, 3), np.float32), training=training)
        assert str(actual.value) == str(expected.value)
        assert str(actual.value).startswith("[1.body.1 EngineTestRefuses]")
    with pytest.raises(LayerError, match=r"^\[EngineTestRefuses\] not today"), naming(layer, layer):
        layer.forward(None, training=True)
