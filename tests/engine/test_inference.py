"""Frozen models and the Solver's predictor: against the models in float64, and as they were when frozen."""

import copy

import numpy as np
import pytest
from engine_networks import NETWORKS, EngineTestConv2d, batch, layer_by_layer, network

import cnn_ext
import pynn
from pynn import CrossEntropyLoss, Solver
from pynn.engine import Predictor, Trainer
from pynn.engine.pool import SHAPES
from pynn.layers import (
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
from pynn.module import LayerError, Parameter

RELATIVE = 1e-5


def assert_outputs(actual, model, x):
    """What `model` in float64 gives for x, within the tolerance of the largest."""
    expected = model.astype(np.float64)(x.astype(np.float64))
    assert actual.dtype == np.float32
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * np.abs(expected).max())


def is_lowered(predictor, shape):
    return shape in predictor._pool._shelves


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_model_gives_what_the_model_gives(name):
    model, shape = network(name)
    frozen = pynn.freeze(model)
    results = []
    for seed, n in enumerate([1, 3, 1, 25, 3, 1, 100, 12, 13, 1]):
        x = batch(n, shape, seed)
        results.append((frozen(x), x))
        assert is_lowered(frozen, x.shape)
    for actual, x in results:  # at the end: no call may have written into another's result
        assert_outputs(actual, model, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_more_batch_sizes_than_plans_are_kept(name):
    model, shape = network(name)
    frozen = pynn.freeze(model)
    for n in [*range(1, 12), 1, 2, 11]:
        assert_outputs(frozen(batch(n, shape, n)), model, batch(n, shape, n))
        assert len(frozen._pool._shelves) <= SHAPES


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_model_stays_as_it_was(name):
    model, shape = network(name)
    before = copy.deepcopy(model)
    frozen, x = pynn.freeze(model), batch(7, shape)
    first = frozen(x)
    trainer = Trainer(model)
    for seed in range(2):
        scores = trainer.forward(batch(8, shape, seed))
        trainer.backward(scores)
        trainer.accept()
    for parameter in model.parameters():
        parameter.data -= np.float32(0.1) * parameter.grad / (1e-6 + np.abs(parameter.grad).max())
    np.testing.assert_array_equal(frozen(x), first)
    assert_outputs(frozen(batch(9, shape)), before, batch(9, shape))  # a size that is new
    assert np.abs(model(x) - first).max() > 1e-3 * np.abs(first).max()  # the model did move


@pytest.mark.parametrize("name", NETWORKS)
def test_nan_leaves_nothing_behind(name):
    model, shape = network(name)
    frozen, x = pynn.freeze(model), batch(13, shape)
    expected = frozen(x)
    bad = x.copy()
    bad[5] = np.nan
    out = frozen(bad)
    assert np.isnan(out[5]).any()
    np.testing.assert_array_equal(np.delete(out, 5, axis=0), np.delete(expected, 5, axis=0))
    np.testing.assert_array_equal(frozen(x), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_on_any_number_of_threads(name):
    if not cnn_ext.openmp_enabled():
        pytest.skip("this build has no OpenMP")
    model, shape = network(name)
    x, before = batch(100, shape), cnn_ext.get_num_threads()
    try:
        outputs = set()
        for n_threads in (1, 2, 3):
            cnn_ext.set_num_threads(n_threads)
            outputs.add(pynn.freeze(model)(x).tobytes())
        assert len(outputs) == 1
    finally:
        cnn_ext.set_num_threads(before)


def rng():
    return np.random.default_rng(0)


FOLDED = {
    "convolution and norm": ((3, 5, 4), lambda: [Conv2d(3, 17, 2, rng=rng()), BatchNorm2d(17)]),
    "without bias": ((3, 5, 4), lambda: [Conv2d(3, 17, 2, bias=False, rng=rng()), BatchNorm2d(17), ReLU()]),
    "and relu and pool": ((9, 6, 5), lambda: [Conv2d(9, 8, 2, rng=rng()), BatchNorm2d(8), ReLU(), MaxPool2d(2)]),
    "and overlapping pool": (
        (9, 7, 6),
        lambda: [BatchNorm2d(9), ReLU(), MaxPool2d(3, stride=2, padding=1), Conv2d(9, 8, 2, rng=rng())],
    ),
    "pool before norm": ((9, 7, 6), lambda: [Conv2d(9, 8, 2, rng=rng()), MaxPool2d(2), BatchNorm2d(8), ReLU()]),
    "linear and norm": ((9,), lambda: [Linear(9, 21, rng=rng()), BatchNorm1d(21), ReLU()]),
    "linear without bias": ((9,), lambda: [Linear(9, 21, bias=False, rng=rng()), BatchNorm1d(21)]),
    "linear over an image": ((9, 3, 2), lambda: [Flatten(), Linear(54, 21, rng=rng()), BatchNorm1d(21)]),
    "norm of flattened": ((3, 3, 2), lambda: [Conv2d(3, 9, 2, rng=rng()), Flatten(), BatchNorm1d(18), ReLU()]),
    "norm of norm": ((3, 3, 2), lambda: [Conv2d(3, 9, 2, rng=rng()), BatchNorm2d(9), BatchNorm2d(9)]),
    "norm alone": ((3, 3, 2), lambda: [BatchNorm2d(3)]),
    "two that read a convolution": (
        (3, 5, 4),
        lambda: [Conv2d(3, 9, 2, rng=rng()), Residual(Sequential(BatchNorm2d(9), ReLU())), ReLU()],
    ),
    "dropout between": ((9,), lambda: [Linear(9, 21, rng=rng()), Dropout(0.5), BatchNorm1d(21)]),
}


@pytest.mark.parametrize("n", [1, 14])
@pytest.mark.parametrize(("shape", "layers"), FOLDED.values(), ids=FOLDED)
def test_norms_folded_into_products(shape, layers, n):
    model = Sequential(*layers())
    random = np.random.default_rng(1)
    for _, module in model.named_modules():
        if isinstance(module, BatchNorm1d | BatchNorm2d):
            for array in (module.weight.data, module.bias.data, module.running_mean):
                array[...] = random.standard_normal(array.shape)
            module.weight.data[0] = 0
            module.running_var[...] = random.uniform(0.01, 3, module.running_var.shape)
    frozen = pynn.freeze(model)
    x = batch(n, shape)
    assert_outputs(frozen(x), model, x)
    assert is_lowered(frozen, x.shape)


# -- the predictor of a model that goes on learning -----------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_refresh_takes_over_what_the_model_has_become(name):
    model, shape = network(name)
    predictor, x = Predictor(model), batch(13, shape)
    predictor(x)
    predictor(x[:1])
    for _, array in [*model.named_buffers(), *((path, p.data) for path, p in model.named_parameters())]:
        array *= np.float32(1.5)
    predictor.refresh()
    assert_outputs(predictor(x), model, x)
    assert_outputs(predictor(x[:1]), model, x[:1])


@pytest.mark.parametrize("name", ["cnn_bn", "odd"])
def test_refresh_sees_arrays_layers_and_methods_that_were_replaced(name):
    model, shape = network(name)
    predictor, x = Predictor(model), batch(13, shape)
    predictor(x)
    for parameter in model.parameters():
        parameter.data = parameter.data * np.float32(0.5)
    predictor.refresh()
    assert_outputs(predictor(x), model, x)
    for _, module in model.named_modules():
        for buffer in module.buffer_names:
            setattr(module, buffer, getattr(module, buffer) + np.float32(1))
    predictor.refresh()
    assert_outputs(predictor(x), model, x)
    forward = model[0].forward
    model[0].forward = lambda x, *, training=False: 2 * forward(x, training=training)
    predictor.refresh()
    np.testing.assert_allclose(predictor(x), model(x), rtol=1e-4, atol=1e-4)


def test_the_solver_predicts_with_the_present_weights():
    model, shape = network("cnn_bn")
    solver = Solver(model, CrossEntropyLoss(), pynn.SGD(model.parameters(), lr=0.1), rng=rng(), progress=False)
    x, y = batch(40, shape), np.arange(40) % 10
    for _ in range(2):
        assert_outputs(solver.scores(x), model, x)
        solver.fit(x, y, epochs=1)
    np.testing.assert_array_equal(solver.predict(x), model(x).argmax(axis=1))


def test_shared_parameters_are_no_hindrance():
    model = Sequential(Linear(6, 6, rng=rng()), ReLU(), Linear(6, 6), ReLU(), Linear(6, 3, rng=rng()))
    model[2].weight = model[0].weight
    frozen, x = pynn.freeze(model), batch(13, (6,))
    assert_outputs(frozen(x), model, x)
    assert is_lowered(frozen, x.shape)


def mapped(array, path):
    np.save(path, array)
    return np.load(path, mmap_mode="r")


def unaligned(array, path):
    memory = np.zeros(array.nbytes + 1, np.uint8)
    other = memory[1:].view(array.dtype).reshape(array.shape)
    other[...] = array
    return other


def column_by_column(array, path):
    return np.asfortranarray(array)


@pytest.mark.parametrize("kind", [mapped, unaligned, column_by_column])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_in_memory_of_any_kind(name, kind, tmp_path):
    """As a model has them whose file is mapped into memory: fast kernels compute it as any other."""
    model, shape = network(name)
    expected = pynn.freeze(model)
    for path, module in model.named_modules():
        for attribute, value in [*vars(module).items()]:
            if isinstance(value, Parameter):
                setattr(module, attribute, Parameter(kind(value.data, tmp_path / f"{path}.{attribute}.npy")))
    predictor = Predictor(model)
    for n in (1, 13):
        x = batch(n, shape)
        np.testing.assert_array_equal(predictor(x), expected(x))
        assert is_lowered(predictor, x.shape)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38, -3e38, 1e-45])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_overflows_raises_no_warning(name, value):
    """Warnings are errors here. Scores of the other samples are what they were."""
    model, shape = network(name)
    x = batch(13, shape)
    expected = pynn.freeze(model)(x)
    x[4] = value
    np.testing.assert_array_equal(np.delete(pynn.freeze(model)(x), 4, axis=0), np.delete(expected, 4, axis=0))
    for parameter in model.parameters():
        parameter.data *= np.float32(1e30)
    for _, array in model.named_buffers():
        array *= np.float32(1e30)
    x[4] = 1e30
    pynn.freeze(model)(x)
    trainer = Trainer(model)
    scores = trainer.forward(x)
    trainer.backward(scores.copy())
    trainer.accept()


# -- what the engine leaves to the model ----------------------------------------------------------------------


def test_a_float64_model_gives_its_own_bits():
    model, shape = network("cnn_bn")
    model = model.astype(np.float64)
    x = batch(5, shape).astype(np.float64)
    np.testing.assert_array_equal(pynn.freeze(model)(x), model(x))


def test_layers_changed_in_the_instance():
    model, shape = network("cnn")
    layer_by_layer(model)
    x = batch(5, shape)
    np.testing.assert_array_equal(pynn.freeze(model)(x), model(x))
    own = Sequential(EngineTestConv2d(3, 8, 2, rng=rng()), ReLU())
    assert_outputs(pynn.freeze(own)(batch(5, (3, 4, 5))), own, batch(5, (3, 4, 5)))


def test_nothing_to_compute():
    x = batch(5, (4,))
    np.testing.assert_array_equal(pynn.freeze(Sequential(Dropout(0.5)))(x), x)
    np.testing.assert_array_equal(
        pynn.freeze(Sequential(Flatten()))(batch(5, (4, 2, 3))), batch(5, (4, 2, 3)).reshape(5, -1)
    )


@pytest.mark.parametrize(
    "x",
    [
        None,
        np.zeros((3, 4)),
        np.zeros((0, 4), np.float32),
        np.zeros((3, 5), np.float32),
        np.zeros((3, 4, 1, 1), np.float32),
    ],
)
def test_what_is_no_batch_is_refused_as_the_model_refuses_it(x):
    model = Sequential(Linear(4, 2, rng=rng()), BatchNorm1d(2))
    frozen = pynn.freeze(model)
    frozen(batch(3, (4,)))
    with pytest.raises((LayerError, TypeError)) as expected:
        model(x)
    with pytest.raises(type(expected.value)) as actual:
        frozen(x)
    assert str(actual.value) == str(expected.value)


def test_a_norm_that_does_not_fit_is_refused_as_the_model_refuses_it():
    for features in (3, 40):
        model = Sequential(Conv2d(3, 4, 2, rng=rng()), BatchNorm2d(features))
        with pytest.raises(
            LayerError, match=rf"^\[1 BatchNorm2d\] expected x of shape \(N, {features}, H, W\), got \(5, 4"
        ):
            pynn.freeze(model)(batch(5, (3, 4, 5)))


def test_freeze_takes_a_model_and_keeps_it():
    with pytest.raises(TypeError, match="freeze: expected a model, got function"):
        pynn.freeze(rng)
    with pytest.raises(TypeError, match="a frozen model keeps its weights: freeze the model again"):
        pynn.freeze(network("mlp")[0]).refresh()
