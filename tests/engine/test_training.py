"""Trainer, and the Solver on it: against the models' own forward and backward in float64."""

import copy
import hashlib
import tracemalloc

import numpy as np
import pytest
from engine_networks import NETWORKS, batch, layer_by_layer, network

import cnn_ext
import pynn
from pynn import SGD, Adam, CrossEntropyLoss, Solver, models
from pynn.engine import Trainer
from pynn.engine.training import PLANS
from pynn.layers import (
    GELU,
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
)
from pynn.module import MAX_DEPTH, LayerError, Module, Parameter

RELATIVE = 1e-5
N_ONE = {"mlp", "linear", "cnn", "airbench", "vgg", "scores are images"}  # no batch norm over a single value


@pytest.fixture
def threads():
    before = cnn_ext.get_num_threads()
    yield cnn_ext.set_num_threads
    cnn_ext.set_num_threads(before)


def assert_close(actual, expected, scale=None, relative=RELATIVE):
    """Within the tolerance of the largest expected value, or of `scale`."""
    assert actual.shape == expected.shape
    scale = np.abs(expected).max() if scale is None else scale
    np.testing.assert_allclose(actual, expected, rtol=0, atol=relative * scale)


def is_lowered(trainer):
    """Whether the last step was more than the model's own forward and backward."""
    return trainer._plan is not None and any(made.first.kind != "layer" for made in trainer._plan.groups)


def spoil_gradients(model):
    """Fills the gradients with what `backward` has to replace."""
    for parameter in model.parameters():
        parameter.grad[...] = np.nan


def assert_gradients(model, twin, relative=RELATIVE):
    """Those of what is trained are those of `twin`."""
    pairs = [pair for pair in zip(model.parameters(), twin.parameters(), strict=True) if pair[0].requires_grad]
    largest = max((np.abs(wide.grad).max() for _, wide in pairs), default=0)
    for actual, wide in pairs:
        scale = np.abs(wide.grad).max()
        if scale < 1e-12 * largest:  # zero but for rounding: a bias before a batch norm, a shift of no effect
            assert np.abs(actual.grad).max() <= relative * largest
        else:
            assert_close(actual.grad, wide.grad, relative=relative)


def assert_step_equals(trainer, twin, x, *, lowered, relative=RELATIVE):
    """A step of `trainer` gives scores, gradients and statistics of the layers of `twin`, of float64."""
    model = trainer.model
    expected = twin.forward(x.astype(np.float64), training=True)
    dscores = np.random.default_rng(1).standard_normal(expected.shape)
    twin.zero_grad()
    twin.backward(dscores, input_grad=False)

    spoil_gradients(model)
    scores = trainer.forward(x)
    assert is_lowered(trainer) == lowered
    assert scores.dtype == x.dtype
    assert_close(scores, expected, relative=relative)
    trainer.backward(dscores.astype(x.dtype))
    trainer.accept()
    assert_gradients(model, twin, relative)
    for (_, actual), (_, wide) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        assert_close(actual, wide, max(1, np.abs(wide).max()))


@pytest.mark.parametrize(
    ("name", "n"), [(name, n) for name in NETWORKS for n in (1, 3, 25, 100) if n > 1 or name in N_ONE]
)
def test_a_step_equals_the_models_own(name, n):
    model, shape = network(name)
    twin, trainer = model.astype(np.float64), Trainer(model)
    for seed in range(2):
        assert_step_equals(trainer, twin, batch(n, shape, seed), lowered=True)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in N_ONE])
def test_a_batch_of_one_value_is_refused_as_the_model_refuses_it(name):
    model, shape = network(name)
    x = batch(1, shape)
    with pytest.raises(LayerError) as expected:
        copy.deepcopy(model).forward(x, training=True)
    with pytest.raises(LayerError) as actual:
        Trainer(model).forward(x)
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_changing_batch_sizes(name):
    model, shape = network(name)
    twin, trainer = model.astype(np.float64), Trainer(model)
    for seed, n in enumerate([8, 13, 8, 9, 24, 11, 12, 8, 13]):  # more sizes than plans are kept
        assert_step_equals(trainer, twin, batch(n, shape, seed), lowered=True)
        assert len(trainer._plans) <= PLANS


@pytest.mark.parametrize("name", NETWORKS)
def test_reject_leaves_the_statistics_as_they_were(name):
    model, shape = network(name)
    trainer = Trainer(model)
    before = model.state_dict()
    for n in (4, 4, 13):
        trainer.forward(batch(n, shape))
        trainer.reject()
        scores = trainer.forward(batch(n, shape))
        trainer.backward(np.ones_like(scores))
        trainer.reject()
    after = model.state_dict()
    assert {path: array.tobytes() for path, array in after.items()} == {
        path: array.tobytes() for path, array in before.items()
    }
    twin = model.astype(np.float64)
    assert_step_equals(trainer, twin, batch(13, shape), lowered=True)


@pytest.mark.parametrize("shared", [False, True])
def test_reject_where_the_layers_compute(shared):
    model, shape = network("cnn_bn")
    if shared:
        model[1].bias = model[1].weight
    trainer, before = Trainer(model if shared else layer_by_layer(model)), model.state_dict()
    trainer.forward(batch(4, shape))
    assert not is_lowered(trainer)
    trainer.reject()
    after = model.state_dict()
    assert all(after[path].tobytes() == before[path].tobytes() for path in before)


@pytest.mark.parametrize("name", NETWORKS)
def test_nan_leaves_nothing_behind(name):
    """A step that is rejected for NaN must not be seen by the next one, which has the same memory."""
    model, shape = network(name)
    trainer = Trainer(model)
    x = batch(13, shape)
    for value in (np.nan, np.inf):
        bad = x.copy()
        bad[5] = value
        scores = trainer.forward(bad)
        assert not np.isfinite(scores).all()
        trainer.backward(np.full_like(scores, np.nan))
        trainer.reject()
    for parameter in model.parameters():
        assert np.isfinite(parameter.data).all()
    assert_step_equals(trainer, model.astype(np.float64), x, lowered=True)


@pytest.mark.parametrize("order", ["F", "strided", "read-only"])
def test_any_memory_order_gives_the_same_bits(order):
    model, shape = network("cnn")
    x, trainer = batch(13, shape), Trainer(model)
    expected = trainer.forward(x).copy()
    trainer.backward(expected)
    gradients = [parameter.grad.copy() for parameter in model.parameters()]
    other = {"F": np.asfortranarray(x), "strided": np.repeat(x, 2, axis=0)[::2], "read-only": x.copy()}[order]
    other.flags.writeable = False
    spoil_gradients(model)
    np.testing.assert_array_equal(trainer.forward(other), expected)
    trainer.backward(np.asfortranarray(expected))
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        np.testing.assert_array_equal(parameter.grad, gradient)


def test_dropout_draws_what_the_layers_draw():
    """With weights of one the scores are the masks themselves; the generators end in the same state."""
    linear = Linear(6 * 4 * 3, 6 * 4 * 3, bias=False)
    linear.weight.data[...] = np.eye(6 * 4 * 3)
    model = Sequential(
        Dropout(0.5, rng=np.random.default_rng(3)), Flatten(), Dropout(0.3, rng=np.random.default_rng(4)), linear
    )
    own = copy.deepcopy(model)
    trainer, x = Trainer(model), np.ones((14, 6, 4, 3), np.float32)
    for _ in range(3):
        scores = trainer.forward(x)
        assert trainer._plan is not None
        np.testing.assert_array_equal(scores, own.forward(x, training=True))
        assert 0 < (scores == 0).sum() < scores.size
        spoil_gradients(model)
        trainer.backward(x.reshape(14, -1))
        own.zero_grad()
        own.backward(x.reshape(14, -1), input_grad=False)
        np.testing.assert_allclose(linear.weight.grad, own[3].weight.grad, rtol=1e-6)
    assert [model[i].rng.bit_generator.state for i in (0, 2)] == [own[i].rng.bit_generator.state for i in (0, 2)]


# -- models that are not what they were, or not what the engine takes -----------------------------------------


def test_shared_parameters_add_up():
    model = Sequential(Linear(6, 6, rng=np.random.default_rng(0)), ReLU(), Linear(6, 6), ReLU(), Linear(6, 3))
    model[2].weight = model[0].weight
    assert_step_equals(Trainer(model), model.astype(np.float64), batch(13, (6,)), lowered=False)


def test_float64_models():
    model, shape = network("cnn_bn")
    model = model.astype(np.float64)
    trainer, x = Trainer(model), batch(13, shape).astype(np.float64)
    assert_step_equals(trainer, copy.deepcopy(model), x, lowered=False, relative=1e-13)


@pytest.mark.parametrize("name", ["cnn_bn", "odd"])
def test_replaced_arrays_are_the_ones_that_count(name):
    model, shape = network(name)
    trainer, x = Trainer(model), batch(13, shape)
    trainer.forward(x)
    for parameter in model.parameters():
        parameter.data = parameter.data * np.float32(0.5)
        parameter.grad = np.zeros_like(parameter.grad)
    for _, module in model.named_modules():
        for buffer in module.buffer_names:
            setattr(module, buffer, getattr(module, buffer) + np.float32(1))
    assert_step_equals(trainer, model.astype(np.float64), x, lowered=True)


@pytest.mark.parametrize("layout", ["F", "float64"])
def test_arrays_that_kernels_cannot_take_are_left_to_the_layers(layout):
    model, shape = network("mlp")
    trainer, x = Trainer(model), batch(13, shape)
    trainer.forward(x)
    twin = model.astype(np.float64)
    if layout == "F":
        model[0].weight = Parameter(np.asfortranarray(model[0].weight.data))
    else:
        model, x = twin, x.astype(np.float64)
        twin, trainer = copy.deepcopy(twin), Trainer(model)
    assert_step_equals(trainer, twin, x, lowered=False)


def bent(layer):
    """`layer`, its forward and backward changed in the instance."""
    forward, backward = layer.forward, layer.backward
    layer.forward = lambda x, *, training=False: 2 * forward(x, training=training)
    layer.backward = lambda dout, *, input_grad=True: backward(2 * dout, input_grad=input_grad)


@pytest.mark.parametrize("index", [0, 1, 2, 4])
@pytest.mark.parametrize("when", ["before", "after a step"])
def test_layers_changed_in_the_instance(index, when):
    model, shape = network("cnn")
    twin, trainer, x = model.astype(np.float64), Trainer(model), batch(13, shape)
    if when == "after a step":
        trainer.forward(x)
    bent(model[index])
    bent(twin[index])
    assert_step_equals(trainer, twin, x, lowered=True)


def test_a_backward_changed_in_the_instance_alone():
    model, shape = network("cnn")
    twin, trainer, x = model.astype(np.float64), Trainer(model), batch(13, shape)
    for each in (model, twin):
        each[1].backward = lambda dout, input_grad=True: dout
        each[1].forward = lambda x, training=False: x
    assert_step_equals(trainer, twin, x, lowered=True)


def test_a_model_changed_in_the_instance():
    model, shape = network("cnn")
    trainer, x = Trainer(model), batch(13, shape)
    trainer.forward(x)
    layer_by_layer(model)
    assert_step_equals(trainer, network("cnn")[0].astype(np.float64), x, lowered=False)


def test_layers_replaced():
    model, shape = network("cnn")
    trainer, x = Trainer(model), batch(13, shape)
    trainer.forward(x)
    model.layers = (*model.layers[:1], GELU(), *model.layers[2:])
    assert_step_equals(trainer, model.astype(np.float64), x, lowered=True)


# -- what is not trained --------------------------------------------------------------------------------------


def freeze_all_but_the_last(model):
    model.trainable = False
    model[-1].trainable = True


def freeze_the_first(model):
    model[0].trainable = False


def freeze_norms(model):
    for _, module in model.named_modules():
        if isinstance(module, BatchNorm1d | BatchNorm2d):
            module.trainable = False


def freeze_norms_but_their_weights(model):
    freeze_norms(model)
    for path, parameter in model.named_parameters():
        parameter.requires_grad |= path.endswith("1.weight")


def freeze_every_other_parameter(model):
    for parameter in model.parameters()[::2]:
        parameter.requires_grad = False


def freeze_biases(model):
    for path, parameter in model.named_parameters():
        parameter.requires_grad = not path.endswith("bias")


def freeze_everything(model):
    model.trainable = False


PARTS = [
    freeze_all_but_the_last,
    freeze_the_first,
    freeze_norms,
    freeze_norms_but_their_weights,
    freeze_every_other_parameter,
    freeze_biases,
    freeze_everything,
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_not_trained_stays_as_it_is(name, part):
    model, shape = network(name)
    trainer, x = Trainer(model), batch(13, shape)
    trainer.forward(x)
    trainer.reject()
    part(model)  # after a step: it counts from the next one on
    for _, module in model.named_modules():
        if isinstance(module, Dropout):
            module.rng = np.random.default_rng(9)
    twin = model.astype(np.float64)
    for parameter in (*model.parameters(), *twin.parameters()):
        parameter.grad[...] = 5
    expected = twin.forward(x.astype(np.float64), training=True)
    for parameter in twin.parameters():
        if parameter.requires_grad:
            parameter.zero_grad()
    twin.backward(expected, input_grad=False)

    scores = trainer.forward(x)
    assert_close(scores, expected)
    trainer.backward(expected.astype(np.float32))
    trainer.accept()
    assert_gradients(model, twin)
    for parameter in model.parameters():
        assert parameter.requires_grad or (parameter.grad == 5).all()
    for (_, actual), (_, wide) in zip(model.named_buffers(), twin.named_buffers(), strict=True):
        assert_close(actual, wide, max(1, np.abs(wide).max()))


def test_nothing_below_what_is_trained_is_computed_back():
    model = Sequential(conv(3, 8, 3, padding=1), BatchNorm2d(8), ReLU(), conv(8, 8, 3), Flatten(), linear(32, 3))
    steps = []
    for part in (lambda model: None, freeze_all_but_the_last):
        part(model)
        trainer = Trainer(model)
        trainer.forward(batch(13, (3, 4, 4)))
        steps.append((len(trainer._plan.backward_steps), trainer._plan.nbytes))
    assert steps[1][0] <= 2 < steps[0][0]  # the last layer's bias and weight
    assert steps[1][1] < steps[0][1]  # and no memory for what is not computed


def linear(*shape):
    return Linear(*shape, rng=np.random.default_rng(0))


def conv(*shape, **options):
    return Conv2d(*shape, rng=np.random.default_rng(0), **options)


TANGLES = {
    "a sum of flattened images": (
        (3, 4, 2),
        lambda: [conv(3, 9, 2), Flatten(), Residual(Sequential(ReLU())), linear(27, 4)],
    ),
    "a sum of flattened images at the end": (
        (3, 4, 2),
        lambda: [conv(3, 9, 2), Flatten(), Residual(Sequential(ReLU()))],
    ),
    "flattened and as they are": (
        (9, 2, 2),
        lambda: [conv(9, 9, 1), Flatten(), Residual(Sequential(ReLU(), linear(36, 36))), linear(36, 3)],
    ),
    "relu of flattened": ((3, 4, 2), lambda: [conv(3, 9, 2), Flatten(), ReLU(), linear(27, 4)]),
    "norm of flattened": ((3, 4, 2), lambda: [conv(3, 9, 2), Flatten(), BatchNorm1d(27), ReLU(), linear(27, 4)]),
    "norm of flattened single pixels": (
        (3, 2, 2),
        lambda: [conv(3, 9, 2), Flatten(), BatchNorm1d(9), ReLU(), linear(9, 4)],
    ),
    "dropout of flattened": (
        (3, 4, 2),
        lambda: [conv(3, 9, 2), Flatten(), Dropout(0.5, rng=np.random.default_rng(0)), linear(27, 4)],
    ),
    "flattened twice": ((3, 4, 2), lambda: [conv(3, 9, 2), Flatten(), Flatten(), linear(27, 4)]),
    "flattened input": ((3, 4, 2), lambda: [Flatten(), linear(24, 4)]),
    "flattened at the end": ((3, 4, 2), lambda: [conv(3, 9, 2), ReLU(), Flatten()]),
    "relu at the end": ((3, 4, 2), lambda: [conv(3, 9, 2), ReLU()]),
    "norm first": ((3, 4, 2), lambda: [BatchNorm2d(3), conv(3, 9, 2)]),
    "norm and relu and pool first": ((3, 4, 2), lambda: [BatchNorm2d(3), ReLU(), MaxPool2d(2), conv(3, 9, 1)]),
    "norm of a norm": ((3, 4, 2), lambda: [conv(3, 9, 2), BatchNorm2d(9), BatchNorm2d(9, eps=0.5), ReLU()]),
    "relu of a relu": ((3, 4, 2), lambda: [conv(3, 9, 2), ReLU(), ReLU(), conv(9, 2, 1)]),
    "norm and a pool of single pixels": (
        (3, 4, 2),
        lambda: [conv(3, 9, 2), BatchNorm2d(9), MaxPool2d(1), Flatten(), linear(27, 4)],
    ),
    "norm, relu and a pool of every other pixel": (
        (3, 4, 5),
        lambda: [conv(3, 9, 2), BatchNorm2d(9), ReLU(), MaxPool2d(1, stride=2), Flatten(), linear(36, 4)],
    ),
    "a pool of single pixels first": ((3, 4, 2), lambda: [MaxPool2d(1), conv(3, 9, 2), MaxPool2d(1)]),
    "pool of a pool": ((3, 7, 6), lambda: [conv(3, 9, 2), MaxPool2d(2), MaxPool2d(2), conv(9, 2, 1)]),
    "the input twice": ((3, 4, 2), lambda: [Residual(conv(3, 3, 3, padding=1)), conv(3, 2, 1)]),
    "the input, padded in two ways": (
        (3, 4, 2),
        lambda: [Residual(conv(3, 5, 3, padding=1), conv(3, 5, 1)), ReLU()],
    ),
    "the input, padded alike": ((3, 4, 2), lambda: [Residual(conv(3, 5, 2), conv(3, 5, 2)), ReLU()]),
    "a product that two read": (
        (3, 4, 2),
        lambda: [conv(3, 5, 2), Residual(Sequential(ReLU(), MaxPool2d(1))), ReLU()],
    ),
    "a norm that two read": (
        (3, 4, 2),
        lambda: [conv(3, 5, 2), BatchNorm2d(5), Residual(Sequential(ReLU(), conv(5, 5, 1))), ReLU()],
    ),
    "a sum of sums": ((4,), lambda: [Residual(Residual(Residual(linear(4, 4)))), ReLU(), linear(4, 2)]),
    "a sum in a sum": (
        (4,),
        lambda: [Residual(Sequential(Residual(linear(4, 4)), ReLU()), Residual(linear(4, 4)))],
    ),
    "a window of more pixels than a byte counts": ((3, 18, 19), lambda: [conv(3, 5, 1), MaxPool2d(17), ReLU()]),
    "five channels in": ((5, 4, 3), lambda: [conv(5, 8, 2), ReLU(), Flatten(), linear(48, 2)]),
}


@pytest.mark.parametrize(("shape", "layers"), TANGLES.values(), ids=TANGLES)
@pytest.mark.parametrize("n", [3, 25])
def test_tangled_networks(shape, layers, n):
    model = Sequential(*layers())
    twin, trainer = model.astype(np.float64), Trainer(model)
    for seed in range(2):
        x = batch(n, shape, seed)
        trainer.forward(x)
        trainer.reject()
        for module in (model, twin):
            for _, each in module.named_modules():
                if isinstance(each, Dropout):
                    each.rng = np.random.default_rng(9)
        assert_step_equals(trainer, twin, x, lowered=is_lowered(trainer))


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((3, 5, 5), lambda: [conv(3, 4, 3), BatchNorm2d(3)]),
        ((3, 5, 5), lambda: [conv(3, 4, 3), BatchNorm2d(40)]),
        ((3, 5, 5), lambda: [conv(3, 4, 3), BatchNorm1d(4)]),
        ((3, 5, 5), lambda: [conv(3, 4, 3), Flatten(), BatchNorm1d(4)]),
        ((6,), lambda: [linear(6, 4), BatchNorm2d(4)]),
        ((6,), lambda: [linear(6, 4), BatchNorm1d(3)]),
        ((6,), lambda: [linear(5, 4)]),
        ((3, 5, 5), lambda: [conv(2, 4, 3)]),
        ((3, 5, 5), lambda: [conv(3, 4, 6)]),
        ((3, 5, 5), lambda: [conv(3, 4, 3), MaxPool2d(4)]),
        ((3, 5, 5), lambda: [conv(3, 4, 3), linear(36, 2)]),
        ((6,), lambda: [linear(6, 4), conv(4, 2, 1)]),
        ((6,), lambda: [linear(6, 4), MaxPool2d(1)]),
        ((3, 5, 5), lambda: [Residual(conv(3, 4, 3))]),
        ((3,), lambda: [conv(3, 4, 3)]),
    ],
)
def test_what_does_not_fit_is_refused_as_the_model_refuses_it(shape, layers):
    model = Sequential(*layers())
    x = batch(4, shape)
    with pytest.raises(LayerError) as expected:
        model.forward(x, training=True)
    with pytest.raises(LayerError) as actual:
        Trainer(model).forward(x)
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize(
    "x", [None, [[1.0]], np.zeros((3, 4), int), np.zeros((0, 4), np.float32), np.zeros((2, 3, 4), np.float32)]
)
def test_what_is_no_batch_is_refused_as_the_model_refuses_it(x):
    model = Sequential(linear(4, 2))
    with pytest.raises((LayerError, TypeError)) as expected:
        model.forward(x, training=True)
    with pytest.raises(type(expected.value)) as actual:
        Trainer(model).forward(x)
    assert str(actual.value) == str(expected.value)


def test_outputs_of_any_number_of_axes():
    """Samples of two axes have no place in blocks: the layers compute them."""
    model = Sequential(ReLU())
    trainer, x = Trainer(model), batch(3, (4, 5))
    np.testing.assert_array_equal(trainer.forward(x), np.maximum(x, 0))
    trainer.backward(x)


@pytest.mark.parametrize("lowered", [True, False])
@pytest.mark.parametrize(
    ("dscores", "message"),
    [
        (np.zeros((3, 8), np.float32), r"expected dscores of the scores' shape \(8, 3\), got \(3, 8\): a loss's"),
        (np.zeros((8, 3, 1), np.float32), r"got \(8, 3, 1\)"),
        (np.zeros((8, 1), np.float32), r"got \(8, 1\)"),
        (np.zeros(24, np.float32), r"got \(24,\)"),
        (np.float32(1), "expected dscores of float32, got a float32: convert it"),
        (np.zeros((8, 3)), "expected dscores of float32, got float64: convert it"),
        (np.zeros((8, 3), np.int32), "got int32"),
        (np.zeros((8, 3), np.float16), "got float16"),
        ([[0.0] * 3] * 8, "got a list"),
        (None, "got a NoneType"),
    ],
)
def test_a_gradient_that_is_not_of_the_scores_is_refused(dscores, message, lowered):
    model = Sequential(linear(4, 5), ReLU(), linear(5, 3))
    trainer, x = Trainer(model if lowered else layer_by_layer(model)), batch(8, (4,))
    scores = trainer.forward(x).copy()
    with pytest.raises((ValueError, TypeError), match=message):
        trainer.backward(dscores)
    trainer.backward(scores)  # the pass is still to be had


@pytest.mark.parametrize("lowered", [True, False])
def test_a_backward_pass_needs_a_forward_pass(lowered):
    model = Sequential(linear(4, 3))
    trainer, x = Trainer(model if lowered else layer_by_layer(model)), batch(8, (4,))
    for _ in range(2):
        with pytest.raises(ValueError, match="nothing to go by: call forward"):
            trainer.backward(np.zeros((8, 3), np.float32))
        trainer.backward(trainer.forward(x).copy())
    with pytest.raises(LayerError):
        trainer.forward(x[:, :2])
    with pytest.raises(ValueError, match="nothing to go by: call forward"):
        trainer.backward(np.zeros((8, 3), np.float32))


@pytest.mark.parametrize("kind", [ReLU, Flatten, GELU])
def test_thousands_of_layers_in_a_row(kind):
    model = Sequential(linear(6, 6), *(kind() for _ in range(2000)), linear(6, 3))
    twin, trainer, x = model.astype(np.float64), Trainer(model), batch(5, (6,))
    assert_step_equals(trainer, twin, x, lowered=True)
    np.testing.assert_allclose(pynn.freeze(model)(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("around", [Sequential, Residual])
def test_layers_nested_as_deep_as_they_may_be(around):
    layer = linear(6, 6)
    layer.weight.data *= np.float32(0.01)
    for _ in range(MAX_DEPTH - 2):
        layer = around(layer)
    model = Sequential(layer, linear(6, 3))
    twin, trainer, x = model.astype(np.float64), Trainer(model), batch(5, (6,))
    assert_step_equals(trainer, twin, x, lowered=True)
    np.testing.assert_allclose(pynn.freeze(model)(x), model(x), rtol=1e-5, atol=1e-5)


class EngineTestSays(Module):
    """Gives its `give` of x, and back what it is told, without a word of its shape."""

    def __init__(self, give, back):
        self.give, self.back = give, back

    def forward(self, x, *, training=False):
        return self.give(x)

    def backward(self, dout, *, input_grad=True):
        return self.back(dout)


UNTOLD = {
    "another shape": (lambda x: x.reshape(len(x), 2, -1), lambda dout: dout.reshape(len(dout), -1)),
    "another order of axes": (lambda x: x.T.copy(), lambda dout: dout.T.copy()),
    "another dtype": (lambda x: x.astype(np.float64), lambda dout: dout.astype(np.float32)),
    "another object": (lambda x: x.tolist(), lambda dout: dout),
}


@pytest.mark.parametrize("name", UNTOLD)
@pytest.mark.parametrize("n", [6, 13])
def test_layers_that_do_not_give_what_they_say(name, n):
    """Their model computes them as ever, and as often: once in each step."""
    model = Sequential(linear(4, 6), EngineTestCount(), EngineTestSays(*UNTOLD[name]))
    own, trainer, x = copy.deepcopy(model), Trainer(model), batch(n, (4,))
    for _ in range(2):
        scores, expected = trainer.forward(x), own.forward(x, training=True)
        assert type(scores) is type(expected)
        np.testing.assert_array_equal(scores, expected)
        np.testing.assert_array_equal(model[1].seen, own[1].seen)
        np.testing.assert_array_equal(pynn.freeze(model)(x), own(x))
        if isinstance(scores, np.ndarray):
            own.zero_grad()
            own.backward(expected)
            trainer.backward(scores)
            np.testing.assert_allclose(model[0].weight.grad, own[0].weight.grad, rtol=1e-5)
        else:
            own.release()


class EngineTestCount(Module):
    buffer_names = ("seen",)

    def __init__(self):
        self.seen = np.zeros(1, np.float32)

    def forward(self, x, *, training=False):
        self.seen += training * len(x)
        return x

    def backward(self, dout, *, input_grad=True):
        return dout


@pytest.mark.parametrize(
    ("back", "got"),
    [
        (lambda dout: dout[:, :2], r"float32 of shape \(5, 2\)"),
        (lambda dout: dout.astype(np.float64), r"float64 of shape \(5, 6\)"),
        (lambda dout: None, "NoneType"),
    ],
)
def test_a_backward_pass_that_does_not_fit_is_refused(back, got):
    model = Sequential(linear(4, 6), EngineTestSays(lambda x: x, back), linear(6, 3))
    trainer = Trainer(model)
    scores = trainer.forward(batch(5, (4,)))
    message = rf"\[1 EngineTestSays\] expected backward to give float32 of x's shape \(5, 6\), got {got}: mend it"
    with pytest.raises(LayerError, match=message):
        trainer.backward(scores.copy())


# -- the solver -----------------------------------------------------------------------------------------------


def small_bn_solver(seed=0, *, lowered=True, optimizer=Adam, lr=0.01):
    rng = np.random.default_rng(seed)
    model = models.cnn_bn((1, 14, 12), kernel_size=3, filters=16, hidden=32, dropout=0.4, rng=rng)
    model = model if lowered else layer_by_layer(model)
    solver = Solver(
        model, CrossEntropyLoss(), optimizer(model.parameters(), lr=lr), batch_size=32, rng=rng, progress=False
    )
    return solver


def small_data(n=200):
    x = batch(n, (1, 14, 12))
    return x, (x[:, 0, 3, 4] > 0).astype(np.int64) + 2 * (x[:, 0, 7, 2] > 0)


@pytest.mark.skipif(not cnn_ext.openmp_enabled(), reason="this build has no OpenMP")
def test_weights_after_an_epoch_do_not_depend_on_the_threads(threads):
    hashes = set()
    for n in (1, 2, 3, 4):
        threads(n)
        solver = small_bn_solver()
        solver.fit(*small_data(), epochs=1)
        state = solver.model.state_dict()
        hashes.add(hashlib.sha256(b"".join(state[path].tobytes() for path in sorted(state))).hexdigest())
    assert len(hashes) == 1


def test_thirty_steps_equal_those_of_the_layers():
    """SGD, whose steps are proportional to gradients: optimizers that divide by them would magnify rounding."""
    fast, slow = (small_bn_solver(lowered=lowered, optimizer=SGD, lr=0.1) for lowered in (True, False))
    x, y = small_data()
    for step in range(30):
        part = slice(step % 6 * 30, step % 6 * 30 + 30)
        losses = [solver.train_step(x[part], y[part]) for solver in (fast, slow)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    expected = slow.model.state_dict()
    for path, array in fast.model.state_dict().items():
        assert_close(array, expected[path], relative=1e-4)
    assert [is_lowered(solver._trainer) for solver in (fast, slow)] == [True, False]
    assert losses[0] < 1  # they did learn something


def test_a_resumed_run_ends_in_the_same_bits(tmp_path):
    pytest.importorskip("safetensors")
    x, y = small_data()
    whole = small_bn_solver()
    whole.fit(x, y, epochs=3)
    interrupted = small_bn_solver()
    interrupted.fit(x, y, epochs=2, checkpoint=tmp_path / "run.ckpt")
    resumed = small_bn_solver(seed=5)
    resumed.fit(x, y, steps=2)  # so that there is a plan, over arrays that must stay the ones
    resumed.resume(tmp_path / "run.ckpt", accept=["epochs"])
    resumed.fit(x, y, epochs=3)
    expected, actual = whole.model.state_dict(), resumed.model.state_dict()
    assert {path: array.tobytes() for path, array in actual.items()} == {
        path: array.tobytes() for path, array in expected.items()
    }


def peak_of(function, times=3):
    """Bytes allocated at the most while `function` runs, beyond what there was."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(times):
            function()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture
def large_solver():
    rng = np.random.default_rng(0)
    model = models.cnn_bn((1, 28, 28), kernel_size=5, filters=32, hidden=100, dropout=0.5, rng=rng)
    x = batch(100, (1, 28, 28))
    solver = Solver(model, CrossEntropyLoss(), Adam(model.parameters(), lr=0.001), rng=rng)
    y = rng.integers(0, 10, 100)
    for _ in range(3):
        solver.train_step(x, y)
    return solver, x, y


BOUND = 48 * 1024  # the scores' gradient of 4 KB; NumPy's buffer for a dropout's flags, 32 KB in NumPy 2.0


def test_forward_and_backward_allocate_nothing(large_solver):
    solver, x, _ = large_solver
    trainer = solver._trainer
    dscores = np.ones((100, 10), np.float32)

    def step():
        trainer.forward(x)
        trainer.backward(dscores)
        trainer.accept()

    assert peak_of(step) < BOUND


def test_a_training_step_allocates_next_to_nothing(large_solver):
    solver, x, y = large_solver
    assert peak_of(lambda: solver.train_step(x, y)) < BOUND
