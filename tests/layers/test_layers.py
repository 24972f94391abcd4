"""Properties that hold for every layer: one table, each property parametrised over it."""

import copy
import re

import numpy as np
import pytest

from pynn.configuration import REGISTRY
from pynn.gradcheck import gradcheck
from pynn.layers import (
    GELU,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    LeakyReLU,
    Linear,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
    VanillaDropout,
)
from pynn.layers._checks import memory
from pynn.module import LayerError, LayerTypeError, from_config


def rng(seed=0):
    return np.random.default_rng(seed)


def small_cnn(dtype=np.float32):
    return Sequential(
        Conv2d(2, 4, 3, padding=1, dtype=dtype, rng=rng(1)),
        BatchNorm2d(4, dtype=dtype),
        LeakyReLU(0.1),
        Residual(
            Sequential(Conv2d(4, 3, (3, 2), stride=2, padding=(1, 0), dtype=dtype, rng=rng(2)), Tanh()),
            Conv2d(4, 3, (1, 2), stride=2, dtype=dtype, rng=rng(3)),
        ),
        MaxPool2d((1, 2), stride=1),
        Dropout(0.3, rng=rng(4)),
        Flatten(),
        Linear(18, 3, dtype=dtype, rng=rng(5)),
    )


# (layer as a function of dtype, input shape): images are not square, nor are windows.
LAYERS = {
    "Linear": (lambda dtype: Linear(5, 3, dtype=dtype, rng=rng()), (4, 5)),
    "Linear-no-bias": (
        lambda dtype: Linear(5, 3, bias=False, init="xavier_uniform", dtype=dtype, rng=rng()),
        (4, 5),
    ),
    "Conv2d": (lambda dtype: Conv2d(3, 4, (2, 3), dtype=dtype, rng=rng()), (2, 3, 5, 6)),
    "Conv2d-strided-padded-dilated": (
        lambda dtype: Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 3), dtype=dtype, rng=rng()),
        (3, 2, 6, 5),
    ),
    "Conv2d-no-bias": (
        lambda dtype: Conv2d(1, 2, 3, bias=False, init="normal", dtype=dtype, rng=rng()),
        (2, 1, 4, 5),
    ),
    "MaxPool2d": (lambda dtype: MaxPool2d(2), (2, 3, 5, 6)),
    "MaxPool2d-overlapping": (lambda dtype: MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 6, 5)),
    "AvgPool2d": (lambda dtype: AvgPool2d((2, 3)), (2, 3, 5, 6)),
    "AvgPool2d-overlapping": (lambda dtype: AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)), (2, 3, 6, 5)),
    "GlobalAvgPool2d": (lambda dtype: GlobalAvgPool2d(), (2, 3, 4, 5)),
    "BatchNorm1d": (lambda dtype: BatchNorm1d(4, dtype=dtype), (6, 4)),
    "BatchNorm2d": (lambda dtype: BatchNorm2d(3, momentum=0.3, eps=1e-3, dtype=dtype), (3, 3, 2, 4)),
    "Dropout": (lambda dtype: Dropout(0.4, rng=rng()), (4, 3, 2)),
    "VanillaDropout": (lambda dtype: VanillaDropout(0.7, rng=rng()), (4, 6)),
    "VanillaDropout-no-rescale": (lambda dtype: VanillaDropout(0.7, rescale=False, rng=rng()), (4, 6)),
    "ReLU": (lambda dtype: ReLU(), (4, 3, 5)),
    "LeakyReLU": (lambda dtype: LeakyReLU(0.2), (4, 7)),
    "Sigmoid": (lambda dtype: Sigmoid(), (4, 7)),
    "Tanh": (lambda dtype: Tanh(), (4, 7)),
    "GELU": (lambda dtype: GELU(), (4, 7)),
    "SiLU": (lambda dtype: SiLU(), (4, 7)),
    "Flatten": (lambda dtype: Flatten(), (3, 2, 4, 5)),
    "Residual": (lambda dtype: Residual(Linear(4, 4, dtype=dtype, rng=rng())), (3, 4)),
    "Residual-shortcut": (
        lambda dtype: Residual(
            Linear(4, 3, dtype=dtype, rng=rng()), Linear(4, 3, bias=False, dtype=dtype, rng=rng(1))
        ),
        (3, 4),
    ),
    "Sequential": (small_cnn, (3, 2, 5, 6)),
}
pytestmark = pytest.mark.usefixtures("one_thread")
every_layer = pytest.mark.parametrize("name", LAYERS)
STOCHASTIC = {"Dropout", "VanillaDropout", "VanillaDropout-no-rescale", "Sequential"}


def make(name, dtype=np.float32, seed=0):
    """(layer, x); parameters and running statistics moved off their first values, which hide errors."""
    factory, shape = LAYERS[name]
    layer, generator = factory(dtype), rng(100 + seed)
    for parameter in layer.parameters():
        parameter.data += 0.3 * generator.standard_normal(parameter.shape).astype(dtype)
    for path, buffer in layer.named_buffers():
        offset = (
            generator.uniform(0.5, 1.5, buffer.shape) if "var" in path else generator.normal(size=buffer.shape)
        )
        buffer[...] = offset
    return layer, generator.standard_normal(shape).astype(dtype)


def test_the_table_has_every_layer():
    import pynn.layers

    made = {type(factory(np.float32)).__name__ for factory, _ in LAYERS.values()}
    assert made == set(pynn.layers.__all__)


@every_layer
def test_gradients(name):
    layer, x = make(name, np.float64)
    assert gradcheck(layer, x, rng=rng(7)) < 1e-6


@every_layer
def test_gradients_of_a_batch_of_one(name):
    layer, x = make(name, np.float64, seed=1)
    if name == "BatchNorm1d":
        with pytest.raises(LayerError, match="more than one value per channel"):
            layer.forward(x[:1], training=True)
    else:
        assert gradcheck(layer, x[:1], rng=rng(7)) < 1e-6


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_shape_and_dtype_go_through(name, dtype):
    layer, x = make(name, dtype)
    for training in (False, True):
        out = layer.forward(x, training=training)
        assert out.shape == (len(x), *layer.output_shape(x.shape[1:]))
        assert out.dtype == dtype
    dx = layer.backward(np.ones_like(out))
    assert dx.shape == x.shape
    assert dx.dtype == dtype
    for _, parameter in layer.named_parameters():
        assert parameter.grad.shape == parameter.data.shape
        assert parameter.grad.dtype == parameter.data.dtype == dtype
    assert all(buffer.dtype == dtype for _, buffer in layer.named_buffers())


@every_layer
def test_float32_agrees_with_float64(name):
    (layer, x), (twin, _) = make(name), make(name)
    twin = twin.astype(np.float64)
    out, expected = layer.forward(x, training=True), twin.forward(x.astype(np.float64), training=True)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        layer.backward(out), twin.backward(out.astype(np.float64)), rtol=1e-5, atol=1e-5 * np.abs(out).max()
    )


@every_layer
def test_evaluation_repeats_itself_and_keeps_nothing(name):
    layer, x = make(name)
    state = layer.state_dict()
    np.testing.assert_array_equal(layer(x), layer(x))
    assert all(np.array_equal(array, state[path]) for path, array in layer.state_dict().items())
    with pytest.raises(LayerError, match=r"backward has nothing to go by: call forward\(x, training=True\)"):
        layer.backward(layer(x))


@every_layer
def test_training_is_stochastic_only_where_it_should_be(name):
    layer, x = make(name)
    equal = np.array_equal(layer.forward(x, training=True), layer.forward(x, training=True))
    assert equal == (name not in STOCHASTIC)


@every_layer
def test_batch_gives_what_its_samples_give(name):
    layer, x = make(name, np.float64)
    one_by_one = np.concatenate([layer(sample[None]) for sample in x])
    np.testing.assert_allclose(layer(x), one_by_one, rtol=1e-12, atol=1e-14)


def layouts(x):
    """x in other memory orders, all read-only: reversed axes, a strided window, a negative stride."""
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)
    wide[..., 1::2] = x
    arrays = [np.asfortranarray(x), wide[..., 1::2], x[::-1].copy()[::-1], x.copy()]
    for array in arrays:
        array.flags.writeable = False
    return arrays


@every_layer
def test_any_memory_order_and_read_only(name):
    layer, x = make(name)
    dout = rng(5).standard_normal(layer(x).shape).astype(np.float32)
    twins = [copy.deepcopy(layer) for _ in layouts(x)]
    out, dx = layer.forward(x, training=True), layer.backward(dout)
    for twin, x_layout, dout_layout in zip(twins, layouts(x), layouts(dout), strict=True):
        np.testing.assert_array_equal(twin.forward(x_layout, training=True), out)
        np.testing.assert_array_equal(twin.backward(dout_layout), dx)
        for mine, other in zip(layer.parameters(), twin.parameters(), strict=True):
            np.testing.assert_array_equal(mine.grad, other.grad)


@every_layer
def test_inputs_are_left_alone(name):
    layer, x = make(name)
    x_before = x.copy()
    out = layer.forward(x, training=True)
    dout = np.ones_like(out)
    layer.backward(dout)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(dout, np.ones_like(out))


@every_layer
def test_gradients_accumulate(name):
    layer, x = make(name)
    frozen = copy.deepcopy(layer)
    frozen.backward(np.ones_like(frozen.forward(x, training=True)))
    once = [parameter.grad.copy() for parameter in frozen.parameters()]
    for parameter in layer.parameters():
        parameter.grad[...] = 2
    layer.backward(np.ones_like(layer.forward(x, training=True)))
    for parameter, grad in zip(layer.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 + grad, rtol=1e-6, atol=1e-6)
    layer.zero_grad()
    assert not any(parameter.grad.any() for parameter in layer.parameters())


@every_layer
def test_without_input_grad_the_parameters_get_the_same(name):
    layer, x = make(name)
    twin = copy.deepcopy(layer)
    out = layer.forward(x, training=True)
    layer.backward(out)
    assert twin.backward(twin.forward(x, training=True), input_grad=False) is None
    for mine, other in zip(layer.parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(mine.grad, other.grad)
    assert all(module._cache is None for _, module in twin.named_modules())


@every_layer
def test_backward_releases_what_forward_kept(name):
    layer, x = make(name)
    out = layer.forward(x, training=True)
    layer.backward(out)
    assert all(module._cache is None for _, module in layer.named_modules())
    with pytest.raises(LayerError, match="backward has nothing to go by"):
        layer.backward(out)


@every_layer
def test_a_gradient_that_does_not_fit_is_refused_and_costs_nothing(name):
    layer, x = make(name)
    out = layer.forward(x, training=True)
    with pytest.raises(LayerError, match=r"expected dout of the output's shape \(.*\), got \("):
        layer.backward(out[..., :-1])
    with pytest.raises(LayerTypeError, match="expected dout of float32, got float64"):
        layer.backward(out.astype(np.float64))
    assert layer.backward(out).shape == x.shape


@every_layer
def test_wrong_arrays_are_refused(name):
    layer, x = make(name)
    label = r"\[.*(Linear|Conv2d|Pool2d|BatchNorm..|Dropout|LU|Sigmoid|Tanh|Flatten|Residual)\] "
    for wrong in (np.float16, np.int64, np.uint8, np.complex64, ">f4", object):
        with pytest.raises(LayerTypeError, match=label + r"expected x of float32.*, got .*: convert it"):
            layer.forward(x.astype(wrong), training=True)
    for wrong in (x.tolist(), None, 3.0, "x"):
        with pytest.raises(LayerTypeError, match=label + "expected x to be a NumPy array of float32.*, got"):
            layer(wrong)
    with pytest.raises(LayerError, match=label + r"expected x with at least one sample.*, got shape \(0,"):
        layer(x[:0])
    with pytest.raises(LayerError, match=label + r"expected x with at least one sample.*, got shape \(\)"):
        layer(np.array(1, np.float32))


@every_layer
def test_a_layer_with_parameters_refuses_another_precision(name):
    layer, x = make(name)
    if layer.parameters():
        with pytest.raises(LayerTypeError, match=r"x of float32, got float64: convert it with \.astype"):
            layer(x.astype(np.float64))
    else:
        assert layer(x.astype(np.float64)).dtype == np.float64


@every_layer
def test_round_trip_through_config_and_state(name):
    import json

    layer, x = make(name)
    twin = from_config(json.loads(json.dumps(layer.to_config())))
    assert type(twin) is type(layer)
    assert twin.to_config() == layer.to_config()
    twin.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(twin(x), layer(x))


@every_layer
def test_repr_is_the_call_that_makes_it(name):
    import pynn.layers

    layer, _ = make(name)
    if not any(layer.children()):  # containers print a table
        assert eval(repr(layer), vars(pynn.layers)).to_config() == layer.to_config()


@every_layer
def test_deepcopy_is_independent_and_keeps_no_cache(name):
    layer, x = make(name)
    before = layer(x).copy()
    layer.forward(x, training=True)
    state = layer.state_dict()
    twin = copy.deepcopy(layer)
    with pytest.raises(LayerError, match="backward has nothing to go by"):
        twin.backward(before)
    for parameter in twin.parameters():
        parameter.data += 1
    for _, buffer in twin.named_buffers():
        buffer += 1
    assert all(np.array_equal(array, state[path]) for path, array in layer.state_dict().items())


# -- one layer at a time: exact values --------------------------------------------------------------------------


def f32(values):
    return np.array(values, dtype=np.float32)


def test_linear_by_hand():
    layer = Linear(2, 3)
    layer.weight.data[...] = [[1, 2, 3], [4, 5, 6]]
    layer.bias.data[...] = [10, 20, 30]
    out = layer.forward(f32([[1, 2], [0, -1]]), training=True)
    np.testing.assert_array_equal(out, [[19, 32, 45], [6, 15, 24]])
    dx = layer.backward(f32([[1, 0, 0], [0, 1, 2]]))
    np.testing.assert_array_equal(dx, [[1, 4], [8, 17]])
    np.testing.assert_array_equal(layer.weight.grad, [[1, 0, 0], [2, -1, -2]])
    np.testing.assert_array_equal(layer.bias.grad, [1, 1, 2])


def test_conv2d_by_hand():
    layer = Conv2d(1, 1, (1, 2), stride=(1, 2), padding=(0, 1))
    layer.weight.data[...] = [[[[2, 3]]]]
    layer.bias.data[...] = 1
    out = layer.forward(f32([[[[1, 2, 3]]]]), training=True)  # padded: 0 1 2 3 0; windows (0 1) (2 3)
    np.testing.assert_array_equal(out, [[[[4, 14]]]])
    dx = layer.backward(f32([[[[1, 10]]]]))
    np.testing.assert_array_equal(dx, [[[[3, 20, 30]]]])
    np.testing.assert_array_equal(layer.weight.grad, [[[[20, 31]]]])
    np.testing.assert_array_equal(layer.bias.grad, [11])


def test_pools_by_hand():
    x = f32([[[[1, 4, 2], [4, 3, 0]]]])
    pool = MaxPool2d(2, stride=1)
    np.testing.assert_array_equal(pool.forward(x, training=True), [[[[4, 4]]]])
    # 4 stands twice in the first window: the first one, above, gets both gradients.
    np.testing.assert_array_equal(pool.backward(f32([[[[1, 10]]]])), [[[[0, 11, 0], [0, 0, 0]]]])
    pool = AvgPool2d((2, 1), padding=(1, 0), stride=(2, 1))
    np.testing.assert_array_equal(pool.forward(x, training=True), [[[[0.5, 2, 1], [2, 1.5, 0]]]])
    np.testing.assert_array_equal(pool.backward(f32([[[[2, 4, 6], [8, 10, 12]]]])), [[[[1, 2, 3], [4, 5, 6]]]])
    pool = GlobalAvgPool2d()
    np.testing.assert_allclose(pool.forward(x, training=True), [[14 / 6]], rtol=1e-7)
    np.testing.assert_array_equal(pool.backward(f32([[6]])), np.ones((1, 1, 2, 3)))


def test_activations_by_hand():
    x = f32([[-2, 0, 3]])
    for layer, out, dx in (
        (ReLU(), [0, 0, 3], [0, 0, 1]),
        (LeakyReLU(0.5), [-1, 0, 3], [0.5, 0.5, 1]),
        (Sigmoid(), 1 / (1 + np.exp(-x)), np.exp(-x) / (1 + np.exp(-x)) ** 2),
        (Tanh(), np.tanh(x), 1 - np.tanh(x) ** 2),
        (GELU(), [-0.04550026, 0, 2.99595031], [-0.08523181, 0.5, 1.01194562]),
        (SiLU(), x / (1 + np.exp(-x)), [-0.0907842, 0.5, 1.0881041]),
    ):
        np.testing.assert_allclose(
            layer.forward(x, training=True), np.reshape(out, (1, 3)), rtol=1e-5, err_msg=str(layer)
        )
        np.testing.assert_allclose(
            layer.backward(np.ones_like(x)), np.reshape(dx, (1, 3)), rtol=1e-5, err_msg=str(layer)
        )


def test_batch_norm_by_hand():
    layer = BatchNorm1d(1, momentum=0.25, eps=1.0, dtype=np.float64)
    layer.weight.data[...], layer.bias.data[...] = 2, 10
    x = np.array([[1.0], [5.0], [3.0]])  # mean 3, biased variance 8/3, unbiased 4
    scale = 2 / np.sqrt(8 / 3 + 1)
    np.testing.assert_allclose(layer.forward(x, training=True), 10 + scale * (x - 3), rtol=1e-14)
    np.testing.assert_allclose(layer.running_mean, [0.25 * 3], rtol=1e-14)
    np.testing.assert_allclose(layer.running_var, [0.75 + 0.25 * 4], rtol=1e-14)
    np.testing.assert_allclose(layer(x), 10 + 2 * (x - 0.75) / np.sqrt(1.75 + 1), rtol=1e-14)


def test_batch_norm_refuses_a_variance_of_one_value():
    x1, x2 = np.ones((1, 3), np.float32), np.ones((1, 3, 1, 1), np.float32)
    for layer, x in ((BatchNorm1d(3), x1), (BatchNorm2d(3), x2)):
        with pytest.raises(
            LayerError, match=r"expected more than one value per channel in training, got x of shape \(1, 3"
        ):
            layer.forward(x, training=True)
        np.testing.assert_array_equal(layer.running_var, np.ones(3))
        assert layer(x).shape == x.shape


@pytest.mark.parametrize(("layer", "kept_value", "inference"), [
    (Dropout(0.25, rng=rng()), 1 / 0.75, 1),
    (VanillaDropout(0.75, rng=rng()), 1, 0.75),
    (VanillaDropout(0.75, rescale=False, rng=rng()), 1, 1),
])  # fmt: skip
def test_dropout_drops_the_stated_part(layer, kept_value, inference):
    x = np.ones((100, 1000))
    out = layer.forward(x, training=True)
    np.testing.assert_allclose(np.unique(out), [0, kept_value], rtol=1e-15)
    assert abs(np.mean(out == 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / x.size)  # five standard deviations
    np.testing.assert_array_equal(layer.backward(x), out)
    np.testing.assert_allclose(layer(x), inference * x, rtol=1e-15)


def test_dropout_masks_come_from_the_generator():
    x = np.ones((20, 30), np.float32)
    first, second = Dropout(0.5, rng=rng(3)), Dropout(0.5, rng=rng(3))
    np.testing.assert_array_equal(first.forward(x, training=True), second.forward(x, training=True))
    assert not np.array_equal(Dropout(0.5).forward(x, training=True), Dropout(0.5).forward(x, training=True))


def test_one_seed_gives_one_model_in_both_precisions():
    for make_layer in (lambda **kw: Linear(7, 5, **kw), lambda **kw: Conv2d(2, 3, (3, 2), **kw)):
        single, double = make_layer(rng=rng(3)), make_layer(rng=rng(3), dtype="float64")
        np.testing.assert_array_equal(single.weight.data, double.weight.data.astype(np.float32))
        assert not single.bias.data.any()
        assert not np.array_equal(make_layer().weight.data, make_layer().weight.data)


# -- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "shape", "message"), [
    (lambda: Linear(5, 3), (2, 4), r"[Linear] expected x of shape (N, 5), got (2, 4): make it Linear(4, …), or"),
    (lambda: Linear(5, 3), (2, 5, 1, 1),
     "[Linear] expected x of shape (N, 5), got (2, 5, 1, 1): put Flatten() before it"),
    (lambda: Linear(5, 3), (5,), "[Linear] expected x of shape (N, 5), got (5,): "),
    (lambda: Conv2d(3, 8, 3), (8, 1, 28, 28),
     "[Conv2d] expected x of shape (N, 3, H, W), got (8, 1, 28, 28): change in_channels"),
    (lambda: Conv2d(3, 8, 3), (8, 28, 28, 3),
     "got (8, 28, 28, 3): the channels come second, so x.transpose(0, 3, 1, 2)"),
    (lambda: Conv2d(1, 8, 3), (8, 28, 28), "got (8, 28, 28): add the channel axis with x[:, None]"),
    (lambda: Conv2d(1, 8, 3), (8, 784), "got (8, 784): images have four axes"),
    (lambda: Conv2d(1, 8, (3, 5), padding=(0, 1), dilation=2), (2, 1, 9, 6),
     "[Conv2d] expected an image no smaller than the 5×9 window, got 9×6, 9×8 with padding: use a smaller"),
    (lambda: MaxPool2d(3), (2, 4, 2, 5), "[MaxPool2d] expected an image no smaller than the 3×3 window, got 2×5"),
    (lambda: AvgPool2d(3), (2, 4, 5, 2), "[AvgPool2d] expected an image no smaller than the 3×3 window, got 5×2"),
    (lambda: MaxPool2d(2), (2, 4, 4),
     "[MaxPool2d] expected x of shape (N, C, H, W), got (2, 4, 4): add the channel axis"),
    (lambda: GlobalAvgPool2d(), (2, 4),
     "[GlobalAvgPool2d] expected x of shape (N, C, H, W), got (2, 4): images have"),
    (lambda: BatchNorm1d(4), (2, 3), "[BatchNorm1d] expected x of shape (N, 4), got (2, 3): change num_features"),
    (lambda: BatchNorm1d(4), (2, 4, 3, 3),
     "[BatchNorm1d] expected x of shape (N, 4), got (2, 4, 3, 3): images take BatchNorm2d"),
    (lambda: BatchNorm2d(4), (2, 4),
     "[BatchNorm2d] expected x of shape (N, 4, H, W), got (2, 4): features take BatchNorm1d"),
    (lambda: Residual(Linear(4, 3)), (2, 4),
     "[Residual] expected body and shortcut to give one shape, got (3,) and (4,) without the batch axis"),
    (lambda: Residual(Conv2d(3, 3, 3)), (2, 4, 5, 5),
     "[body Conv2d] expected x of shape (N, 3, H, W), got (N, 4, 5, 5)"),
])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(layer, shape, message):
    layer = layer()
    for training in (False, True):
        with pytest.raises(LayerError, match=re.escape(message)):
            layer.forward(np.ones(shape, np.float32), training=training)
    per_sample = message.replace(f"got ({shape[0]}, ", "got (N, ")
    with pytest.raises(LayerError, match=re.escape(per_sample) if len(shape) > 1 else r"got \(N,\)"):
        layer.output_shape(shape[1:])


@pytest.mark.parametrize(("make_layer", "kind", "message"), [
    (lambda: Linear(0, 3), LayerError, "[Linear] 'in_features' must be from 1 to 2**30, got 0"),
    (lambda: Linear(3, -1), LayerError, "[Linear] 'out_features' must be from 1 to 2**30, got -1"),
    (lambda: Linear(2**31, 1), LayerError, "[Linear] 'in_features' must be from 1 to 2**30"),
    (lambda: Linear(3.0, 1), LayerTypeError, "[Linear] 'in_features' must be an int, got 3.0"),
    (lambda: Linear(True, 1), LayerTypeError, "[Linear] 'in_features' must be an int, got True"),
    (lambda: Linear(3, 1, bias=1), LayerTypeError, "[Linear] 'bias' must be True or False, got 1"),
    (lambda: Linear(3, 1, init="he"), LayerError,
     "[Linear] 'init' must be one of kaiming_normal, kaiming_uniform,"),
    (lambda: Linear(3, 1, init=["he"]), LayerError,
     "[Linear] 'init' must be one of kaiming_normal, kaiming_uniform,"),
    (lambda: Linear(3, 1, dtype=np.float16), LayerTypeError, "[Linear] 'dtype' must be float32 or float64, got"),
    (lambda: Linear(3, 1, dtype=None), LayerTypeError, "[Linear] 'dtype' must be float32 or float64, got None"),
    (lambda: Linear(3, 1, rng=0), LayerTypeError,
     "[Linear] 'rng' must be a numpy.random.Generator or None, got 0: pass"),
    (lambda: Conv2d(3, 8, (3, 3, 3)), LayerTypeError,
     "[Conv2d] 'kernel_size' must be an int or a pair of ints, got (3, 3, 3)"),
    (lambda: Conv2d(3, 8, "33"), LayerTypeError,
     "[Conv2d] 'kernel_size' must be an int or a pair of ints, got '33'"),
    (lambda: Conv2d(3, 8, 3, stride=0), LayerError, "[Conv2d] 'stride' must be from 1 to 2**30, got 0"),
    (lambda: Conv2d(3, 8, 3, padding=(0, -1)), LayerError,
     "[Conv2d] 'padding' must be from 0 to 2**30, got (0, -1)"),
    (lambda: Conv2d(3, 8, 3, dilation=0), LayerError, "[Conv2d] 'dilation' must be from 1 to 2**30, got 0"),
    (lambda: MaxPool2d(2, stride=(0, 1)), LayerError, "[MaxPool2d] 'stride' must be from 1 to 2**30, got (0, 1)"),
    (lambda: AvgPool2d(2, padding=2), LayerError,
     "[AvgPool2d] 'padding' must be smaller than kernel_size (2, 2), got 2"),
    (lambda: BatchNorm2d(3, eps=0), LayerError, "[BatchNorm2d] 'eps' must be positive, got 0"),
    (lambda: BatchNorm2d(3, eps=float("inf")), LayerError, "[BatchNorm2d] 'eps' must be positive, got inf"),
    (lambda: BatchNorm1d(3, momentum=1.5), LayerError, "[BatchNorm1d] 'momentum' must be from 0 to 1, got 1.5"),
    (lambda: BatchNorm1d(3, momentum=None), LayerTypeError, "[BatchNorm1d] 'momentum' must be a number, got None"),
    (lambda: Dropout(1), LayerError,
     "[Dropout] 'p' must be the probability of dropping, from 0 to below 1, got 1"),
    (lambda: Dropout(float("nan")), LayerError, "[Dropout] 'p' must be"),
    (lambda: Dropout("half"), LayerTypeError, "[Dropout] 'p' must be a number, got 'half'"),
    (lambda: VanillaDropout(0), LayerError, "[VanillaDropout] 'keep' must be the probability of keeping, above 0"),
    (lambda: VanillaDropout(1.5), LayerError, "[VanillaDropout] 'keep' must be"),
    (lambda: LeakyReLU(-0.1), LayerError, "[LeakyReLU] 'negative_slope' must be 0 or more, got -0.1"),
])  # fmt: skip
def test_arguments_are_checked_at_once(make_layer, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        make_layer()


def test_every_refusal_is_a_value_error_and_of_a_type_a_type_error():
    assert issubclass(LayerError, ValueError)
    assert issubclass(LayerTypeError, LayerError)
    assert issubclass(LayerTypeError, TypeError)


def test_every_public_layer_is_a_module_known_by_name():
    import pynn.layers

    for name in pynn.layers.__all__:
        assert REGISTRY[name] is getattr(pynn.layers, name)


def test_memory_is_that_of_the_machine_or_of_its_container(tmp_path):
    machine = memory(str(tmp_path))
    assert 2**28 < machine <= 2**40
    (tmp_path / "memory.max").write_text("max\n")
    assert memory(str(tmp_path)) == machine
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory(str(tmp_path)) == 1_000_000


def test_a_weight_that_would_not_fit_is_refused_before_memory_is_asked_for(monkeypatch):
    monkeypatch.setattr("pynn.layers._checks.memory", lambda: 2**30)
    with pytest.raises(LayerError, match=r"would take 3 GiB to make, of 1 GiB of memory: make it smaller"):
        Linear(2**14, 2**14)
    Linear(2**10, 2**10)
