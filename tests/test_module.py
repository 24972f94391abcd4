"""What every module shares: state, precision, configurations from hostile hands, the search for NaN."""

import copy
import json
import pickle
import re
import sys

import numpy as np
import pytest

from pynn.gradcheck import gradcheck
from pynn.initializers import INITIALIZERS, initialize, unsampled
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
    VanillaDropout,
)
from pynn.module import MAX_DEPTH, LayerError, LayerTypeError, Module, Parameter, first_nonfinite, from_config


def rng(seed=0):
    return np.random.default_rng(seed)


def mlp(dtype=np.float32, seed=0):
    generator = rng(seed)
    return Sequential(
        Linear(4, 5, dtype=dtype, rng=generator), BatchNorm1d(5, dtype=dtype), ReLU(), Dropout(0.5, rng=generator),
        Residual(Linear(5, 5, dtype=dtype, rng=generator)), Linear(5, 3, dtype=dtype, rng=generator),
    )  # fmt: skip


X = rng(8).standard_normal((6, 4)).astype(np.float32)


# -- state ------------------------------------------------------------------------------------------------------


def test_state_dict_is_a_copy_and_loads_back():
    model, other = mlp(), mlp(seed=1)
    state = model.state_dict()
    assert not np.array_equal(model(X), other(X))
    other.load_state_dict(state)
    np.testing.assert_array_equal(model(X), other(X))
    for array in state.values():
        array[...] = 0
    np.testing.assert_array_equal(model(X), other(X))


def test_loading_keeps_the_arrays_that_an_optimizer_holds():
    model = mlp()
    arrays = [parameter.data for parameter in model.parameters()]
    model.load_state_dict(mlp(seed=1).state_dict())
    assert all(parameter.data is array for parameter, array in zip(model.parameters(), arrays, strict=True))


@pytest.mark.parametrize(("change", "kind", "message"), [
    (lambda s: s.pop("0.weight"), ValueError, "load_state_dict: the state lacks 0.weight, which the model has"),
    (lambda s: s.update(extra=X), ValueError, "load_state_dict: the state has extra, which the model lacks"),
    (lambda s: s.update({"5.bias": X}), ValueError, "expected 5.bias of shape (3,), got (6, 4)"),
    (lambda s: s.update({"5.bias": np.ones(3)}), TypeError, "expected 5.bias of dtype float32, got float64"),
    (lambda s: s.update({"1.running_var": np.ones(4)}), ValueError,
     "expected 1.running_var of shape (5,), got (4,)"),
])  # fmt: skip
def test_a_state_that_does_not_fit_changes_nothing(change, kind, message):
    model, state = mlp(), mlp(seed=1).state_dict()
    before = model.state_dict()
    change(state)
    with pytest.raises(kind, match=re.escape(message)):
        model.load_state_dict(state)
    assert all(np.array_equal(array, before[path]) for path, array in model.state_dict().items())


def test_a_model_with_shared_parameters_can_be_rebuilt():
    model = Sequential(Linear(4, 4, rng=rng(0)), Linear(4, 4, rng=rng(1)))
    model[1].weight = model[0].weight
    twin = from_config(model.to_config())
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(twin(X), model(X))


def test_astype_is_an_independent_copy_of_the_other_precision():
    model = mlp()
    model.forward(X, training=True)
    twin = model.astype(np.float64)
    assert {array.dtype for array in twin.state_dict().values()} == {np.dtype(np.float64)}
    assert {parameter.grad.dtype for parameter in twin.parameters()} == {np.dtype(np.float64)}
    assert all(module._cache is None for _, module in twin.named_modules())
    np.testing.assert_allclose(twin(X.astype(np.float64)), model(X), rtol=1e-5, atol=1e-6)
    back = twin.astype("float32")
    np.testing.assert_array_equal(back(X), model(X))
    back.parameters()[0].data[...] = 0
    assert model.parameters()[0].data.all()
    with pytest.raises(LayerTypeError, match=r"\[Sequential\] 'dtype' must be float32 or float64"):
        model.astype(np.float16)


def test_copies_and_pickles_carry_the_generator_but_no_cache():
    model = mlp()
    model.forward(X, training=True)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert all(module._cache is None for _, module in twin.named_modules())
        np.testing.assert_array_equal(twin(X), model(X))
        assert twin[3].rng.bit_generator.state == model[3].rng.bit_generator.state
        assert twin[3].rng is not model[3].rng


def test_parameter():
    parameter = Parameter(np.ones((2, 3), np.float32))
    assert (parameter.shape, parameter.size, parameter.grad.dtype) == ((2, 3), 6, np.float32)
    parameter.grad += 1
    parameter.zero_grad()
    assert not parameter.grad.any()
    assert repr(parameter) == "Parameter(shape=(2, 3), dtype=float32)"


def test_assigning_to_a_parameter_copies_into_its_arrays():
    parameter = Parameter(np.ones((2, 3), np.float32))
    data, grad = parameter.data, parameter.grad
    parameter.data, parameter.grad = np.full((2, 3), 5, np.float32), np.full((2, 3), 7, np.float32)
    parameter.grad += 1
    assert (data == 5).all()
    assert (grad == 8).all()
    assert parameter.data is data
    assert parameter.grad is grad
    parameter.data = parameter.data[::-1, ::-1] + np.arange(3, dtype=np.float32)  # other memory orders too
    parameter.data = np.asfortranarray(parameter.data)
    np.testing.assert_array_equal(data, [[5, 6, 7]] * 2)


@pytest.mark.parametrize(("name", "value", "kind", "message"), [
    ("data", np.ones((3, 2), np.float32), ValueError, "Parameter.data: expected shape (2, 3), got (3, 2)"),
    ("grad", np.ones(1, np.float32), ValueError, "Parameter.grad: expected shape (2, 3), got (1,)"),
    ("data", np.ones((2, 3)), TypeError, "Parameter.data: expected an array of dtype float32, got float64"),
    ("data", [[0] * 3] * 2, TypeError, "expected an array of dtype float32, got a list: convert it, np.float32("),
    ("grad", 0, TypeError, "Parameter.grad: expected an array of dtype float32, got a int"),
    ("grad", None, TypeError, "Parameter.grad is always an array: clear it with zero_grad()"),
    ("requires_grad", 1, TypeError, "Parameter.requires_grad must be True or False, got 1"),
])  # fmt: skip
def test_what_cannot_be_assigned_to_a_parameter_changes_nothing(name, value, kind, message):
    parameter = Parameter(np.ones((2, 3), np.float32))
    with pytest.raises(kind, match=re.escape(message)):
        setattr(parameter, name, value)
    assert (parameter.data == 1).all()
    assert not parameter.grad.any()
    assert parameter.requires_grad is True


@pytest.mark.parametrize("data", [[1.0], 1.0, np.ones(2, int), np.ones(2, np.float16), None])
def test_a_parameter_is_made_of_floats(data):
    with pytest.raises(TypeError, match="Parameter: expected a float32 or float64 NumPy array, got "):
        Parameter(data)


def test_a_read_only_parameter_says_so_when_it_is_assigned_to():
    data = np.ones(3)
    data.flags.writeable = False
    with pytest.raises(
        ValueError, match=r"Parameter.data is read-only memory: build the model over a writable copy"
    ):
        Parameter(data).data = np.zeros(3)


def test_arrays_in_the_place_of_parameters_and_buffers():
    layer = BatchNorm1d(3)
    with pytest.raises(
        LayerTypeError, match=r"'weight' is a Parameter, got an array .*: assign .* weight.data = …"
    ):
        layer.weight = np.zeros(3, np.float32)
    held = layer.running_mean
    layer.running_mean = np.arange(3, dtype=np.float32)
    np.testing.assert_array_equal(held, [0, 1, 2])
    for value, kind in ((np.zeros(3), TypeError), (np.zeros(2, np.float32), ValueError), (None, TypeError)):
        with pytest.raises(kind, match=r"\[BatchNorm1d\] running_mean: expected "):
            layer.running_mean = value
    np.testing.assert_array_equal(held, [0, 1, 2])


class Blocks(Module):
    """Holds layers and parameters in a list, a tuple and a dict."""

    def __init__(self):
        self.blocks = [Linear(4, 4), Linear(4, 4)]
        self.heads = {"left": Linear(4, 2)}
        self.scales = (Parameter(np.ones(4, np.float32)),)


def test_layers_and_parameters_in_lists_and_dicts_are_found():
    paths = ["blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias", "heads.left.weight"]
    assert sorted(Blocks().state_dict()) == sorted([*paths, "heads.left.bias", "scales.0"])


def test_modules_that_hold_themselves_or_are_nested_too_deep_are_refused():
    module = Module()
    module.inner = module
    with pytest.raises(LayerError, match=r"\[Module\] modules are nested more than 64 deep"):
        module.parameters()


# -- what is not trained ----------------------------------------------------------------------------------------


def test_a_body_that_is_not_trained_computes_as_in_evaluation_and_stays_as_it_is():
    body = Sequential(Linear(4, 5, rng=rng(0)), BatchNorm1d(5), ReLU(), VanillaDropout(0.5), Dropout(0.5))
    body[1].running_mean = rng(1).standard_normal(5).astype(np.float32)
    body[1].running_var = rng(2).uniform(0.5, 2, 5).astype(np.float32)
    model = Sequential(body, Linear(5, 3, rng=rng(3)))
    body.trainable = False
    assert [model.trainable, body.trainable, body[1].trainable, model[1].trainable] == [True, False, False, True]
    assert [parameter.requires_grad for parameter in model.parameters()] == [False] * 4 + [True] * 2
    before = model.state_dict()
    scores = model.forward(X, training=True)
    np.testing.assert_array_equal(scores, model(X))
    model.backward(np.ones_like(scores))
    assert [parameter.grad.any() for parameter in model.parameters()] == [False] * 4 + [True] * 2
    assert all(np.array_equal(array, before[path]) for path, array in model.state_dict().items())
    body.trainable = True
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not np.array_equal(model.forward(X, training=True), scores)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("layer", [BatchNorm1d(4, dtype=np.float64), VanillaDropout(0.7), Dropout(0.2)], ids=repr)
def test_the_gradient_through_what_is_not_trained(layer, trained):
    layer = copy.deepcopy(layer)
    layer.trainable = False
    for parameter in layer.parameters():
        parameter.requires_grad = trained  # of a layer that is otherwise as in evaluation
    if layer.buffer_names:
        layer.running_mean, layer.running_var = rng(1).standard_normal(4), rng(2).uniform(0.5, 2, 4)
    assert gradcheck(layer, X.astype(np.float64), rng=rng(3)) < 1e-6


def test_the_gradient_through_a_frozen_batch_norm_of_images():
    layer = BatchNorm2d(3, dtype=np.float64)
    layer.running_mean, layer.running_var = rng(1).standard_normal(3), rng(2).uniform(0.5, 2, 3)
    layer.trainable = False
    assert gradcheck(layer, rng(0).standard_normal((2, 3, 4, 5)), rng=rng(3)) < 1e-6


def test_trainable_is_true_or_false():
    with pytest.raises(LayerTypeError, match=r"\[ReLU\] 'trainable' must be True or False, got 'no'"):
        ReLU().trainable = "no"


def test_copies_keep_what_is_trained():
    model = Sequential(Linear(4, 3), BatchNorm1d(3))
    model[0].trainable = False
    model[1].bias.requires_grad = False
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.astype(np.float64)):
        assert [parameter.requires_grad for parameter in twin.parameters()] == [False, False, True, False]
        assert [layer.trainable for layer in twin] == [False, True]


def test_the_summary_counts_what_is_trained():
    model = Sequential(Linear(4, 3), Linear(3, 2))
    assert "trained" not in model.summary()
    model[0].trainable = False
    assert [line.split() for line in model.summary().splitlines()[-2:]] == [["total", "23"], ["trained", "8"]]


def test_the_base_refuses_to_compute():
    for call in (Module().forward, Module().backward):
        with pytest.raises(TypeError, match="Module does not define"):
            call(X)


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(LayerError("Linear", "expected more").inside("2").inside("body")))
    assert str(error) == "[body.2 Linear] expected more"


# -- names ------------------------------------------------------------------------------------------------------


def test_a_layer_name_can_be_used_once():
    with pytest.raises(TypeError, match=r"a layer named Linear exists already, in .*: choose another name"):
        type("Linear", (Module,), {"__module__": "mine"})
    assert Module.registry["Linear"] is Linear


def test_a_class_defined_again_replaces_itself():
    first, second = (type("Redefined", (Module,), {"__module__": "notebook"}) for _ in range(2))
    assert first is not second
    assert type(from_config({"type": "Redefined"})) is second
    del Module.registry["Redefined"]


# -- configurations ---------------------------------------------------------------------------------------------


def test_from_config_rebuilds_nested_models_with_zeros_to_load_into():
    model = Sequential(Conv2d(1, 2, (3, 2), padding=1, bias=False), mlp_tail := Flatten(), Linear(2 * 5 * 7, 3))
    assert mlp_tail.to_config() == {"type": "Flatten"}
    twin = from_config(json.loads(json.dumps(model.to_config())))
    assert twin.to_config() == model.to_config()
    assert not any(array.any() for array in twin.state_dict().values())
    x = rng().standard_normal((2, 1, 5, 6)).astype(np.float32)
    twin.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(twin(x), model(x))


LINEAR = {"type": "Linear", "in_features": 2, "out_features": 3}


@pytest.mark.parametrize(("config", "message"), [
    (None, 'expected model to be an object with a "type", got None'),
    ([LINEAR], 'expected model to be an object with a "type", got [{'),
    ({}, 'expected model to be an object with a "type", got {}'),
    ({"type": 3}, 'expected model to be an object with a "type", got {'),
    ({"type": "os.system"}, "model is a 'os.system', which is no known layer: import the module that defines it"),
    ({"type": "Module"}, "model is a 'Module', which is no known layer"),
    ({"type": "_Activation"}, "which is no known layer"),
    (LINEAR | {"init": "x" * 9999}, "cannot be made: [Linear] 'init' must be"),
    ({"type": "x" * 9999}, "which is no known layer"),
    (LINEAR | {"evil": 1}, "model (Linear) takes no argument 'evil'"),
    (LINEAR | {"self": 1}, "model (Linear) takes no argument 'self'"),
    (LINEAR | {"rng": 0}, "model (Linear) takes no argument 'rng'"),
    ({"type": "ReLU", "inplace": True}, "model (ReLU) takes no argument 'inplace'"),
    ({"type": "Linear"}, "model cannot be made: "),
    (LINEAR | {"in_features": "2"}, "cannot be made: [Linear] 'in_features' must be an int, got '2'"),
    (LINEAR | {"in_features": {"type": "ReLU"}},
     "cannot be made: [Linear] 'in_features' must be an int, got ReLU()"),
    (LINEAR | {"in_features": 10**400}, "cannot be made: [Linear] 'in_features' must be from 1 to 2**30"),
    (LINEAR | {"in_features": 2**30, "out_features": 2**30}, "cannot be made: "),
    (LINEAR | {"dtype": "object"}, "cannot be made: [Linear] 'dtype' must be float32 or float64, got 'object'"),
    (LINEAR | {"init": "__class__"}, "cannot be made: [Linear] 'init' must be one of"),
    ({"type": "Dropout", "p": float("nan")}, "cannot be made: [Dropout] 'p' must be"),
    ({"type": "Dropout", "p": 10**400}, "cannot be made: "),
    ({"type": "Sequential", "layers": [LINEAR, 3]}, "expected model.layers[1] to be an object"),
    ({"type": "Sequential", "layers": LINEAR, "input_shape": [9]},
     "[0 Linear] expected x of shape (N, 2), got (N, 9)"),
    ({"type": "Sequential", "layers": "Linear"}, "expected '0' to be a layer, got 'Linear'"),
    ({"type": "Sequential", "layers": []}, "[Sequential] expected at least one layer"),
    ({"type": "Sequential", "layers": [LINEAR, {"type": "Residual", "body": {"type": "Nope"}}]},
     "model.layers[1].body is a 'Nope', which is no known layer"),
])  # fmt: skip
def test_hostile_configurations_are_refused_in_a_sentence(config, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_config(config)
    assert str(caught.value).startswith("model configuration: ")
    assert len(str(caught.value)) < 400


def test_a_configuration_that_is_too_deep_is_refused():
    config = LINEAR
    for _ in range(5000):
        config = {"type": "Sequential", "layers": [config]}
    with pytest.raises(ValueError, match=f"nested more than {MAX_DEPTH} deep") as caught:
        from_config(config)
    assert len(str(caught.value)) < 100


def test_a_configuration_of_a_huge_model_touches_no_memory():
    resource = pytest.importorskip("resource")  # not on Windows
    unit = 1 if sys.platform == "darwin" else 1024

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    config = {"type": "Sequential", "layers": [LINEAR | {"in_features": 2**16, "out_features": 2**11}] * 2}
    config["layers"].append({"type": "BatchNorm1d", "num_features": 2**27})
    before = peak()
    model = from_config(config)  # 2 GiB of linear layers, 3 GiB of batch norm
    with pytest.raises(ValueError, match=r"expected 0\.weight of shape \(65536, 2048\), got \(2, 3\)"):
        model.load_state_dict({path: np.zeros((2, 3), np.float32) for path in model._state()})
    assert peak() - before < 2**26


# -- the search for NaN -----------------------------------------------------------------------------------------


def test_first_nonfinite_names_the_first_layer_and_changes_nothing():
    model = mlp()
    assert first_nonfinite(model, X) is None
    for path, label in (("5.bias", "5 Linear"), ("4.body.weight", "4.body Linear"), ("0.weight", "0 Linear")):
        state, generator = model.state_dict(), model[3].rng.bit_generator.state
        dict(model.named_parameters())[path].data[0] = np.nan
        poisoned = model.state_dict()
        assert first_nonfinite(model, X) == label
        assert all(np.array_equal(a, poisoned[p], equal_nan=True) for p, a in model.state_dict().items())
        assert model[3].rng.bit_generator.state == generator
        assert all(module._cache is None for _, module in model.named_modules())
        model.load_state_dict(state)
    assert first_nonfinite(model, np.where(X > 0, np.inf, X)) == "x"


def test_first_nonfinite_finds_an_overflow_and_works_on_one_layer():
    layer = Linear(4, 2)
    layer.weight.data[...] = 3e38
    assert first_nonfinite(layer, np.full((1, 4), 10, np.float32)) == "Linear"
    assert (
        first_nonfinite(Sequential(MaxPool2d(1), Flatten(), layer), np.full((1, 1, 2, 2), 10, np.float32))
        == "2 Linear"
    )


# -- initializers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "std", "bound"), [
    ("kaiming_normal", np.sqrt(2 / 300), np.inf),
    ("kaiming_uniform", np.sqrt(2 / 300), np.sqrt(6 / 300)),
    ("xavier_normal", np.sqrt(2 / 800), np.inf),
    ("xavier_uniform", np.sqrt(2 / 800), np.sqrt(6 / 800)),
    ("normal", 0.01, np.inf),
])  # fmt: skip
def test_initializers_have_the_stated_spread(name, std, bound):
    values = initialize(name, (300, 500), 300, 500, np.float64, rng(1))
    # 150 000 samples: the mean is within 5 std/√n, the deviation within 1 %.
    assert abs(values.mean()) < 5 * std / np.sqrt(values.size)
    assert values.std() == pytest.approx(std, rel=0.01)
    assert np.abs(values).max() <= bound
    if bound < np.inf:
        assert np.abs(values).max() > 0.999 * bound


def test_convolutions_count_their_taps_as_fan():
    layer = Conv2d(8, 64, (3, 5), init="kaiming_normal", rng=rng(0))
    assert layer.weight.data.std() == pytest.approx(np.sqrt(2 / (8 * 15)), rel=0.02)
    layer = Conv2d(8, 64, (3, 5), init="xavier_normal", rng=rng(0))
    assert layer.weight.data.std() == pytest.approx(np.sqrt(2 / ((8 + 64) * 15)), rel=0.02)


def test_initialize_refuses_an_unknown_name_and_can_leave_zeros():
    with pytest.raises(ValueError, match=r"expected one of kaiming_normal, .*, got 'he'"):
        initialize("he", (2, 3))
    assert initialize("zeros", (2,)).tolist() == [0, 0]
    assert initialize("ones", (2,)).tolist() == [1, 1]
    with unsampled():
        assert all(not initialize(name, (2, 3)).any() for name in INITIALIZERS)
    assert initialize("normal", (2, 3)).any()
