"""What every module shares: state, precision, configurations from hostile hands, the search for NaN."""

import copy
import json
import pickle
import re
import sys

import numpy as np
import pytest

from pynn.configuration import MAX_DEPTH, REGISTRY
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
    Tanh,
    VanillaDropout,
)
from pynn.module import LayerError, LayerTypeError, Module, Parameter, first_nonfinite, from_config


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


def define(module, name="Block", **members):
    """A class as `module` would define it."""
    return type(name, (Module,), {"__module__": module, "__qualname__": name, **members})


@pytest.fixture
def no_traces():
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.mark.usefixtures("no_traces")
def test_two_modules_may_each_define_a_block():
    blocks = [define("nets"), define("other.nets"), define("nets", "Linear")]
    for block, key in zip(blocks, ("nets.Block", "other.nets.Block", "nets.Linear"), strict=True):
        config = Sequential(block()).to_config()
        assert config["layers"][0]["type"] == key
        assert type(from_config(config)[0]) is block
    assert type(from_config({"type": "Linear", "in_features": 1, "out_features": 1})) is Linear


@pytest.mark.usefixtures("no_traces")
@pytest.mark.parametrize("module", ["notebook", "__main__"])
def test_a_class_defined_again_replaces_itself(module):
    first, second = define(module), define(module)
    assert first is not second
    assert type(from_config(first().to_config())) is second


@pytest.mark.usefixtures("no_traces")
def test_plain_names_of_older_files_and_those_of_scripts_stand_for_the_one_class_that_fits():
    block = define("nets")
    assert type(from_config({"type": "Block"})) is block
    assert type(from_config({"type": "__main__.Block"})) is block
    with pytest.raises(ValueError, match=r"model is a 'other.Block', which is no known layer: import the module"):
        from_config({"type": "other.Block"})
    define("other.nets")
    for name in ("Block", "__main__.Block"):
        message = f"model is a '{name}', which may be nets.Block or other.nets.Block: import only the module"
        with pytest.raises(ValueError, match=re.escape(message)):
            from_config({"type": name})
    REGISTRY.clear()
    script = define("__main__")
    assert type(from_config({"type": "nets.Block"})) is script


# -- descriptions -----------------------------------------------------------------------------------------------


class Scaled(Module):
    """Its arguments are attributes, so that nothing else is needed."""

    def __init__(self, factor, *layers, shape=(1, 2), dtype=np.float32, inner=None, rng=None):
        self.factor, self.layers, self.shape, self.inner = factor, layers, shape, inner
        self.dtype, self.rng = np.dtype(dtype), rng
        self.weight = Parameter(np.ones(self.shape, self.dtype))


def test_arguments_are_the_attributes_of_their_names():
    layer = Scaled(np.float32(0.5), ReLU(), Linear(2, 3), shape=(2, 3), dtype=np.float64, inner=Residual(ReLU()))
    config = json.loads(json.dumps(layer.to_config()))
    assert config["type"].endswith("test_module.Scaled")
    assert [config["factor"], config["shape"], config["dtype"]] == [0.5, [2, 3], "float64"]
    assert config["inner"] == {"type": "Residual", "body": {"type": "ReLU"}, "shortcut": None}
    twin = from_config(config)
    assert twin.to_config() == layer.to_config()
    assert twin.weight.shape == (2, 3)
    assert repr(layer).startswith("Scaled(0.5, ")


class Unkept(Module):
    def __init__(self, width):
        self.weight = Parameter(np.ones(width))


class Moved(Module):
    def __init__(self, factor=1.0):
        self.factor = 2 * factor


class Stars(Module):
    def __init__(self, *sizes, **options):
        self.sizes = sizes


class MyDropout(Dropout):
    """Has one argument more than the config that it inherits knows."""

    def __init__(self, p, scale=1.0):
        super().__init__(p)
        self.scale = scale


class Forgetful(MyDropout):
    def __init__(self, p, strength=1.0):
        super().__init__(p)


class Passing(Conv2d):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class Named(Sequential):
    def __init__(self, n_classes, activation="relu"):
        super().__init__(Linear(4, 5), ReLU() if activation == "relu" else Tanh(), Linear(5, n_classes))
        self.n_classes, self.activation = n_classes, activation


class Wrong(Module):
    def config(self):
        return {"width": 3}


class Holder(Module):
    def __init__(self, value=None):
        self.value = value


def altered(change):
    model = Named(3)
    change(model)
    return model


@pytest.mark.parametrize(("model", "message"), [
    (Unkept(3), "[Unkept] a file cannot hold it: its constructor takes width, but no attribute says what that "
                "was: set self.width, or define config()"),
    (Stars(1), "[Stars] a file cannot hold it: its constructor takes **options, but no attribute"),
    (Passing(1, 2, 3), "[Passing] a file cannot hold it: its constructor takes *args, but no attribute"),
    (Forgetful(0.5), "[Forgetful] a file cannot hold it: its constructor takes strength, but no"),
    (Moved(), "[Moved] a file cannot hold it: rebuilt from its arguments, it is another, or has other arguments"),
    (Wrong(), "[Wrong] config() gives 'width', which its constructor does not take"),
    (Sequential(ReLU(), Residual(Unkept(3))), "[1.body Unkept] a file cannot hold it: its constructor tak"),
    (Holder(lambda x: x), "[Holder] a file cannot hold its argument 'value', <function"),
    (Holder(np.ones(3)), "cannot hold its argument 'value', an array of shape (3,) and dtype float64: it holds"),
    (Holder({1, 2}), "cannot hold its argument 'value', {1, 2}: it holds finite numbers, text, layers and lists"),
    (Holder(float("nan")), "cannot hold its argument 'value', nan"),
    (Holder([float("inf")]), "cannot hold its argument 'value', inf"),
    (Holder({"a": 1}), "cannot hold it: model configuration: expected model.value to be an object"),
    (Holder(10**5000), "[Holder] a file cannot hold it: "),
    (altered(lambda m: setattr(m, "layers", (*m.layers[:2], Linear(5, 4)))), "from its arguments, 2 is"),
    (altered(lambda m: setattr(m, "layers", (m[0], Tanh(), m[2]))), "rebuilt from its arguments, 1 is another"),
    (altered(lambda m: setattr(m[0], "forward", len)), "its 0.forward was replaced in this one object"),
    (altered(lambda m: setattr(m[0], "extra", Parameter(np.ones(2)))), "its 0.extra has another shape or dtype"),
])  # fmt: skip
def test_what_could_not_be_rebuilt_is_refused(model, message):
    with pytest.raises(LayerError, match=re.escape(message)) as caught:
        model.to_config()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "model", [MyDropout(0.25, scale=3.0), Named(3, "tanh"), Sequential(Named(2), MyDropout(0.5))], ids=repr
)
def test_subclasses_with_constructors_of_their_own_are_rebuilt(model):
    twin = from_config(json.loads(json.dumps(model.to_config())))
    assert [(p, type(m)) for p, m in twin.named_modules()] == [(p, type(m)) for p, m in model.named_modules()]
    assert twin.to_config() == model.to_config()


def test_a_list_that_holds_itself_is_refused():
    value = []
    value.append(value)
    with pytest.raises(LayerError, match="a file cannot hold its argument 'value'"):
        Holder(value).to_config()


def test_layers_that_files_cannot_hold_can_be_printed():
    assert repr(Unkept(3)) == "Unkept(…)"
    assert "Unkept(…)" in str(Sequential(Unkept(3)))


def nested(depth):
    model = ReLU()
    for _ in range(depth):
        model = Residual(model)
    return model


class Link(Module):
    """A chain of the user's own, which no constructor checks."""

    def __init__(self, inner=None):
        self.inner = inner


def test_nesting_ends_where_files_end():
    model = nested(64)
    twin = from_config(model.to_config())
    assert twin.to_config() == model.to_config()
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.summary() == model.summary()
    scores = model.forward(X, training=True)
    assert model.backward(scores).shape == X.shape
    with pytest.raises(
        LayerError, match=r"\[Residual\] modules are nested more than 64 deep: put them side by side"
    ):
        nested(65)


def test_chains_of_any_length_are_refused_in_a_sentence():
    chain = None
    for _ in range(3000):
        chain = Link(chain)
    for use in (
        copy.deepcopy,
        pickle.dumps,
        Link.to_config,
        Link.parameters,
        Link.release,
        gradcheck_of,
        float64_of,
    ):
        with pytest.raises(LayerError, match="nested more than 64 deep") as caught:
            use(chain)
        assert len(str(caught.value)) < 300
    assert repr(chain) == "Link(…)"


def float64_of(module):
    return module.astype(np.float64)


def gradcheck_of(module):
    return gradcheck(module, X)


def test_many_layers_in_a_row():
    model = Sequential(*[Linear(4, 4, rng=rng(i)) if i % 2 else Tanh() for i in range(1200)])
    scores = model.forward(X, training=True)
    assert model.backward(np.ones_like(scores)).shape == X.shape
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.astype(np.float32)):
        np.testing.assert_array_equal(twin(X), model(X))
    assert len(model.summary().splitlines()) == 1204
    assert len(from_config(model.to_config())) == 1200
    model.trainable = False
    assert len(model.state_dict()) == 1200


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
