"""What is typed as for PyTorch, Keras or scikit-learn: it works, or one sentence says what to write instead."""

import copy
import pickle
import re

import numpy as np
import pytest

import pynn
from pynn import habits
from pynn.module import LayerError

X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
IMAGES = np.random.default_rng(0).standard_normal((2, 1, 6, 5)).astype(np.float32)


def model():
    return pynn.Sequential(pynn.Linear(3, 4, rng=np.random.default_rng(1)), pynn.ReLU())


# -- what works -------------------------------------------------------------------------------------------------


def test_positional_spellings_are_those_of_pytorch():
    assert repr(pynn.Conv2d(1, 4, 3, 2, 1, 2)) == "Conv2d(1, 4, 3, stride=2, padding=1, dilation=2)"
    assert pynn.Conv2d(1, 4, 3, 1, 1)(IMAGES).shape == (2, 4, 6, 5)
    for pool in (pynn.MaxPool2d, pynn.AvgPool2d):
        assert repr(pool(3, 2, 1)) == f"{pool.__name__}(3, stride=2, padding=1)"
    assert pynn.Linear(3, 2, False).bias is None
    norm = pynn.BatchNorm2d(8, 1e-3, 0.2)
    assert (norm.eps, norm.momentum) == (1e-3, 0.2)


@pytest.mark.parametrize("kernel_size", [1, 3, (3, 5), (5, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding_keeps_the_image(kernel_size, dilation):
    layer = pynn.Conv2d(1, 2, kernel_size, padding="same", dilation=dilation)
    assert layer(IMAGES).shape == (2, 2, 6, 5)
    assert pynn.module.from_config(layer.to_config()).padding == layer.padding


def test_valid_padding_is_none():
    assert pynn.Conv2d(1, 2, 3, padding="valid").padding == (0, 0)


def test_sequential_takes_a_list():
    listed = pynn.Sequential([pynn.Linear(3, 4), pynn.ReLU()], input_shape=(3,))
    assert [type(layer) for layer in listed] == [pynn.Linear, pynn.ReLU]
    assert pynn.module.from_config(listed.to_config()).to_config() == listed.to_config()


def test_calls_with_training_are_forward_passes_in_training():
    layer = pynn.Dropout(0.5, rng=np.random.default_rng(0))
    assert (layer(X, training=True) == 0).any()
    assert layer.backward(np.ones_like(X)).shape == X.shape


def test_zero_grad_takes_set_to_none():
    network = model()
    optimizer = pynn.SGD(network.parameters(), 0.1)
    for zero_grad in (network.zero_grad, optimizer.zero_grad):
        network[0].weight.grad[...] = 1
        zero_grad(set_to_none=True)
        assert not network[0].weight.grad.any()


def test_parameters_are_arrays_to_numpy():
    weight = pynn.Linear(3, 4).weight
    assert np.asarray(weight) is weight.data
    np.testing.assert_array_equal(np.abs(weight), np.abs(weight.data))
    np.testing.assert_array_equal(X @ weight, X @ weight.data)
    np.testing.assert_array_equal(X[:3, :1] * weight, X[:3, :1] * weight.data)
    assert np.asarray(weight, np.float64).dtype == np.float64
    changed = np.array(weight)
    changed[...] = 0
    assert weight.data.any()


def test_losses_name_what_they_give():
    result = pynn.CrossEntropyLoss()(X, [0, 1, 2, 0])
    loss, dscores = result
    assert result.loss is loss
    assert result.dscores is dscores


@pytest.mark.parametrize("loss", [pynn.CrossEntropyLoss(), pynn.MultiClassHingeLoss()], ids=repr)
@pytest.mark.parametrize(
    "y", [[[0], [1], [2], [0]], np.array([0, 1, 2, 0], np.uint8), [0.0, 1.0, 2.0, 0.0]], ids=str
)
def test_labels_of_every_form(loss, y):
    expected = loss(X, np.array([0, 1, 2, 0]))
    assert loss(X, y).loss == expected.loss
    np.testing.assert_array_equal(loss.correct(X, y), loss.correct(X, [0, 1, 2, 0]))


# -- what is answered -------------------------------------------------------------------------------------------

LINEAR = pynn.Linear(3, 4)
CROSS_ENTROPY = pynn.CrossEntropyLoss()
ADAM = pynn.Adam(pynn.Linear(3, 4).parameters())


class Frame:
    """As a table of pandas: no array, but NumPy can make one of it."""

    def __array__(self, dtype=None, copy=None):
        return np.array(X, dtype)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: pynn.Conv2d(1, filters=4, kernel_size=3), "[Conv2d] has no argument 'filters': write out_channels=…"),
    (lambda: pynn.Conv2d(1, 4, kernel=3), "[Conv2d] has no argument 'kernel': write kernel_size=…"),
    (lambda: pynn.Conv2d(1, 4, 3, strides=2), "'strides': write stride=…"),
    (lambda: pynn.Conv2d(1, 4, 3, groups=2), "'groups': it is not offered, so leave it out"),
    (lambda: pynn.Conv2d(1, 4, 3, activation="relu"), "put the activation after it, as a layer of its own"),
    (lambda: pynn.Conv2d(1, 4, 3, biass=True), "[Conv2d] has no argument 'biass': did you mean bias?"),
    (lambda: pynn.Linear(3, units=4), "[Linear] has no argument 'units': write out_features=…"),
    (lambda: pynn.Linear(3, 4, device="cuda"), "'device': leave it out, everything runs on the CPU"),
    (lambda: pynn.Linear(3), "[Linear] takes in_features, out_features, bias by position, all else by name: miss"),
    (lambda: pynn.Linear(3, 4, True, np.float32), "all else by name: too many positional arguments"),
    (lambda: pynn.ReLU(inplace=True), "[ReLU] has no argument 'inplace': leave it out, layers never change"),
    (lambda: pynn.ReLU(True), "[ReLU] takes nothing: too many positional arguments"),
    (lambda: pynn.Flatten(1), "[Flatten] takes nothing"),
    (lambda: pynn.MaxPool2d(pool_size=2), "[MaxPool2d] has no argument 'pool_size': write kernel_size=…"),
    (lambda: pynn.Dropout(rate=0.5), "[Dropout] has no argument 'rate': write p=…"),
    (lambda: pynn.Dropout(), "[Dropout] takes p by position, all else by name: missing a required argument: 'p'"),
    (lambda: pynn.BatchNorm2d(4, affine=False), "'affine': it is not offered"),
    (lambda: pynn.Sequential(LINEAR, name="net"), "[Sequential] has no argument 'name': leave it out, layers are"),
    (lambda: pynn.CrossEntropyLoss(reduction="sum"), "[CrossEntropyLoss] has no argument 'reduction': leave it o"),
    (lambda: pynn.CrossEntropyLoss(weight=X), "[CrossEntropyLoss] has no argument 'weight': it is not offered"),
    (lambda: pynn.CrossEntropyLoss(from_logits=True), "leave it out, losses always take scores"),
    (lambda: pynn.Adam(LINEAR.parameters(), learning_rate=1), "[Adam] has no argument 'learning_rate': write lr="),
    (lambda: pynn.Adam(LINEAR.parameters(), beta_1=0.9), "'beta_1': write betas=(beta1, beta2)"),
    (lambda: pynn.RMSProp(LINEAR.parameters(), rho=0.9), "'rho': write alpha=…"),
    (lambda: pynn.SGD(lr=0.1), "[SGD] takes params, lr by position, all else by name: missing a required argumen"),
    (lambda: pynn.SGD(LINEAR.parameters()), "missing a required argument: 'lr'"),
    (lambda: pynn.SGD(LINEAR.parameters(), 0.1, 0.9), "too many positional arguments"),
    (lambda: pynn.Adam(model()), "[Adam] expected Parameters or groups of them, got a Sequential: pass model.par"),
    (lambda: pynn.Adam(LINEAR), "got a Linear: pass model.parameters()"),
    (lambda: pynn.Adam(LINEAR.parameters), "got a method: pass model.parameters()"),
    (lambda: pynn.Adam(LINEAR.state_dict()), "got a dict: pass model.parameters()"),
    (lambda: pynn.Adam(LINEAR.named_parameters()), "expected Parameters, got tuple: pass model.parameters()"),
    (lambda: LINEAR(X.tolist()), "[Linear] expected x to be a NumPy array of float32, got list: write np.asarray"),
    (lambda: LINEAR(Frame()), "got Frame: write np.asarray(x, np.float32)"),
    (lambda: LINEAR(3), "got int: write np.asarray(x, np.float32)"),
    (lambda: LINEAR(X.astype(int)), "expected x of float32, got int64: convert it with .astype(np.float32)"),
    (lambda: LINEAR(X.astype(np.float16)), "got float16: convert it with .astype(np.float32)"),
    (lambda: LINEAR.backward((1.0, X)), "expected dout, the gradient of the loss, got a tuple: a loss gives both"),
    (lambda: LINEAR.weight * 2, "Parameter: arithmetic and indices are those of its array, write parameter.data"),
    (lambda: 1 - LINEAR.weight, "write parameter.data"),
    (lambda: -LINEAR.weight, "write parameter.data"),
    (lambda: LINEAR.weight[0], "write parameter.data"),
    (lambda: LINEAR.weight.__setitem__(0, 1), "write parameter.data"),
    (lambda: LINEAR.backward(0.5), "expected dout, the gradient of the loss, got 0.5: a loss gives both, loss, d"),
    (lambda: CROSS_ENTROPY(np.array([0, 1, 2]), X[:3]), "use .astype, or the order, loss(scores, y)"),
    (lambda: CROSS_ENTROPY(X, ["a", "b", "c", "a"]), "got <U1: np.unique(y, return_inverse=True)[1] counts"),
])  # fmt: skip
def test_calls_that_do_not_fit_say_what_to_write(call, message):
    LINEAR.forward(X, training=True)
    with pytest.raises(TypeError, match=re.escape(message)) as caught:
        call()
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: LINEAR(X[0]), "[Linear] expected x of shape (N, 3), got (3,): one sample needs a batch axis, x[None"),
    (lambda: pynn.Conv2d(1, 2, 3)(IMAGES[0]), "got (1, 6, 5): one sample needs a batch axis, x[None]"),
    (lambda: pynn.BatchNorm2d(3)(np.ones((3, 8, 8), np.float32)), "one sample needs a batch axis, x[None]"),
    (lambda: pynn.MaxPool2d(2)(IMAGES[0]), "x[:, None], or for one image the batch axis with x[None]"),
    (lambda: pynn.ReLU()(np.zeros((), np.float32)), "expected x with at least one sample"),
    (lambda: CROSS_ENTROPY(X, np.eye(3)[[0, 1, 2, 0]]), "got (4, 3): of one-hot rows y.argmax(axis=1) is"),
    (lambda: CROSS_ENTROPY(X, [1, 2, 3, 1]), "from 0 to 2, got 3 at index 2: classes count from 0, so pass y - 1"),
    (lambda: pynn.Conv2d(1, 2, 3, padding="full"), "'padding' must be a number, a pair, 'same' or 'valid', got '"),
    (lambda: pynn.Conv2d(1, 2, 2, padding="same"), "padding='same' needs an odd kernel_size, got (2, 2)"),
    (lambda: pynn.Conv2d(1, 2, 3, 2, padding="same"), "padding='same' needs stride 1, got (2, 2)"),
    (lambda: model().__setitem__(0, LINEAR), "layers are given at once: write Sequential(*model[:i], layer, "),
    (lambda: model()["0"], "model[i] is a layer by its number, got '0'"),
    (lambda: pynn.Linear(2**25, 2**25), "its weight of shape (33554432, 33554432) would take 12,582,912 GiB to m"),
    (lambda: pynn.Conv2d(2**20, 2**20, 1), "would take 12,288 GiB to make, of "),
])  # fmt: skip
def test_values_that_do_not_fit_say_what_to_write(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        call()
    assert len(str(caught.value)) < 300


def test_layers_that_are_not_there():
    with pytest.raises(IndexError, match=r"\[Sequential\] it has 2 layers, so there is no layer 2"):
        model()[2]
    assert model()[-2].in_features == 3


OBJECTS = {
    "MODULE": LINEAR, "OPTIMIZER": ADAM, "LOSS": CROSS_ENTROPY, "PARAMETER": LINEAR.weight,
    "RESULT": CROSS_ENTROPY(X, [0, 1, 2, 0]), "PACKAGE": pynn,
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table in OBJECTS for name in getattr(habits, table)]
)
def test_names_of_other_libraries_get_a_remedy(table, name):
    with pytest.raises(AttributeError, match=re.escape(f"] has no attribute {name!r}: ")) as caught:
        getattr(OBJECTS[table], name)
    assert len(str(caught.value)) < 300
    assert not hasattr(OBJECTS[table], name)


@pytest.mark.parametrize(("owner", "name", "message"), [
    (LINEAR, "paramters", "[Linear] has no attribute 'paramters': did you mean parameters?"),
    (ADAM, "stp", "[Adam] has no attribute 'stp': did you mean step?"),
    (pynn, "Linaer", "[pynn] has no attribute 'Linaer': did you mean Linear?"),
    (LINEAR, "zzz", "[Linear] has no attribute 'zzz'"),
])  # fmt: skip
def test_typing_mistakes_get_the_nearest_name(owner, name, message):
    with pytest.raises(AttributeError, match=re.escape(message) + "$"):
        getattr(owner, name)


@pytest.mark.parametrize(("owner", "name"), [
    (LINEAR, "training"), (LINEAR, "requires_grad"), (ADAM, "learning_rate"), (ADAM, "param_groups"),
    (LINEAR.weight, "trainable"), (LINEAR.weight, "require_grad"),
])  # fmt: skip
def test_what_nobody_would_read_cannot_be_set(owner, name):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': "):
        setattr(owner, name, False)


def test_objects_with_remedies_can_still_be_copied_and_pickled():
    for owner in (model(), ADAM, CROSS_ENTROPY, LINEAR.weight, OBJECTS["RESULT"]):
        assert type(copy.deepcopy(owner)) is type(owner)
        assert type(pickle.loads(pickle.dumps(owner))) is type(owner)
        assert not hasattr(owner, "__array_interface__")


def test_constructors_show_their_own_signature():
    import inspect

    assert list(inspect.signature(pynn.Linear).parameters) == [
        "in_features", "out_features", "bias", "init", "dtype", "rng",
    ]  # fmt: skip
    assert list(inspect.signature(pynn.ReLU).parameters) == []


class Careless(pynn.Module):
    def __init__(self, n):
        self.n = n + "1"


def test_other_type_errors_of_a_constructor_pass():
    with pytest.raises(TypeError, match="unsupported operand"):
        Careless(1)


def test_errors_of_layers_stay_layer_errors():
    with pytest.raises(LayerError, match=r"\[Linear\] has no argument"):
        pynn.Linear(1, 2, foo=3)
