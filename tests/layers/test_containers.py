"""Sequential and Residual: paths in errors, slices, shared parameters, the printed table."""

import re

import numpy as np
import pytest

from pynn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Residual, Sequential
from pynn.module import LayerError, LayerTypeError, Module


def rng(seed=0):
    return np.random.default_rng(seed)


def f32(*shape):
    return rng(9).standard_normal(shape).astype(np.float32)


def cnn(**options):
    return Sequential(
        Conv2d(1, 4, 3, padding=1, rng=rng(0)),
        Residual(Sequential(Conv2d(4, 4, (3, 5), padding=(1, 2), rng=rng(1)), ReLU())),
        MaxPool2d(2),
        Flatten(),
        Linear(48, 10, rng=rng(2)),
        **options,
    )


def test_print_is_a_table_of_shapes_and_parameters():
    expected = """\
Sequential                                  output shape  parameters
────────────────────────────────────────────────────────────────────
input                                       (N, 1, 6, 8)
0 Conv2d(1, 4, 3, padding=1)                (N, 4, 6, 8)          40
1 Residual                                  (N, 4, 6, 8)
  body Sequential                           (N, 4, 6, 8)
    0 Conv2d(4, 4, (3, 5), padding=(1, 2))  (N, 4, 6, 8)         244
    1 ReLU()                                (N, 4, 6, 8)
2 MaxPool2d(2)                              (N, 4, 3, 4)
3 Flatten()                                 (N, 48)
4 Linear(48, 10)                            (N, 10)              490
────────────────────────────────────────────────────────────────────
total                                                            774"""
    assert str(cnn(input_shape=(1, 6, 8))) == expected
    assert cnn().summary((1, 6, 8)) == str(cnn(input_shape=(1, 6, 8)))


def test_without_a_known_shape_the_table_has_parameters_only():
    text = str(cnn())
    assert "(N" not in text
    assert "input" not in text
    assert text.endswith(" 774")
    assert "body Linear(3, 3)" in str(Residual(Linear(3, 3)))


def test_summary_counts_a_shared_parameter_once():
    first, second = Linear(4, 4), Linear(4, 4)
    second.weight = first.weight
    assert str(Sequential(first, second)).endswith(f" {16 + 4 + 4}")


@pytest.mark.parametrize(("x", "message"), [
    (f32(2, 3, 6, 8), "[0 Conv2d] expected x of shape (N, 1, H, W), got (2, 3, 6, 8): "),
    (f32(2, 1, 5, 8), "[4 Linear] expected x of shape (N, 48), got (2, 32): make it Linear(32, …)"),
    (f32(2, 1, 1, 8), "[2 MaxPool2d] expected an image no smaller than the 2×2 window, got 1×8"),
])  # fmt: skip
def test_errors_name_the_layer_by_its_path(x, message):
    model = cnn()
    for training in (False, True):
        with pytest.raises(LayerError, match=re.escape(message)):
            model.forward(x, training=training)
    with pytest.raises(LayerError, match=re.escape(message.replace("got (2, ", "got (N, "))):
        model.output_shape(x.shape[1:])
    with pytest.raises(LayerError, match=re.escape(message.replace("got (2, ", "got (N, "))):
        cnn(input_shape=x.shape[1:])


def test_errors_deep_inside_have_the_whole_path():
    model = Sequential(Residual(Sequential(Linear(3, 4), Residual(Linear(4, 4)), Linear(5, 3))))
    with pytest.raises(
        LayerError, match=re.escape("[0.body.2 Linear] expected x of shape (N, 5), got (N, 4)")
    ) as caught:
        model(f32(2, 3))
    assert caught.value.path == ("0", "body", "2")
    assert caught.value.layer == "Linear"


def test_errors_of_backward_have_the_path_too():
    model = cnn()
    out = model.forward(f32(2, 1, 6, 8), training=True)
    with pytest.raises(
        LayerError, match=re.escape("[4 Linear] expected dout of the output's shape (2, 10), got (2, 9)")
    ):
        model.backward(out[:, :9])
    model.backward(out)
    with pytest.raises(LayerError, match=re.escape("[4 Linear] backward has nothing to go by")):
        model.backward(out)
    residual = Residual(Linear(3, 3), Linear(3, 3))
    with pytest.raises(LayerError, match=re.escape("[body Linear] backward has nothing to go by")):
        residual.backward(f32(2, 3))


def test_a_plain_error_from_inside_a_layer_is_named_too():
    model = Sequential(Linear(3, 3), BatchNorm1d(3))
    model[1].running_var[...] = -1
    with pytest.raises(LayerError, match=r"\[1 BatchNorm1d\] batch_norm_inference: var must not be negative"):
        model(f32(2, 3))


class WrongSignature(Module):
    def forward(self, x):
        return x


def test_a_layer_with_a_wrong_signature_is_named():
    with pytest.raises(LayerTypeError, match=r"\[0 WrongSignature\] .*unexpected keyword argument 'training'"):
        Sequential(WrongSignature())(f32(2, 3))


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: Sequential(), LayerError, "[Sequential] expected at least one layer"),
    (lambda: Sequential([]), LayerError, "[Sequential] expected at least one layer"),
    (lambda: Sequential([ReLU()], [ReLU()]), LayerTypeError,
     "[Sequential] expected '0' to be a layer, got a list: write Sequential(*…)"),
    (lambda: Sequential(ReLU() for _ in range(2)), LayerTypeError, "got a generator: write Sequential(*…)"),
    (lambda: Sequential({"a": ReLU()}), LayerTypeError, "got a dict: write Sequential(*layers.values(), whe"),
    (lambda: Sequential("relu"), LayerTypeError, "got 'relu': layers are pynn.Modules, as ReLU()"),
    (lambda: Sequential(np.tanh), LayerTypeError, "got <ufunc 'tanh'>: layers are pynn.Modules, as ReLU()"),
    (lambda: Sequential(np.zeros((500, 500))), LayerTypeError, "got an array of shape (500, 500) and dtype"),
    (lambda: Sequential(Linear(3, 3), ReLU), LayerTypeError,
     "expected '1' to be a layer, got the class ReLU: write ReLU()"),
    (lambda: Residual(None), LayerTypeError, "[Residual] expected 'body' to be a layer, got None"),
    (lambda: Residual(ReLU(), 3), LayerTypeError, "[Residual] expected 'shortcut' to be a layer, got 3"),
    (lambda: Sequential(ReLU(), input_shape=3), LayerTypeError, "'input_shape' must be a tuple of ints, got 3"),
    (lambda: Sequential(ReLU(), input_shape=(3, 0)), LayerError, "'input_shape' must be from 1 to 2**30, got 0"),
    (lambda: Sequential(ReLU(), input_shape=("3",)), LayerTypeError, "'input_shape' must be an int, got '3'"),
    (lambda: Sequential(Linear(2, 3), ReLU(), Linear(3, 2, dtype=np.float64)), LayerTypeError,
     "[Sequential] 0 Linear is float32, but 2 Linear is float64: give all layers one dtype"),
    (lambda: Residual(Linear(3, 3), Linear(3, 3, dtype=np.float64)), LayerTypeError,
     "[Residual] body Linear is float32, but shortcut Linear is float64"),
])  # fmt: skip
def test_what_cannot_be_put_together_is_refused(make, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        make()


def test_one_layer_twice_is_refused_for_it_keeps_the_values_of_one_call():
    relu = ReLU()
    with pytest.raises(LayerError, match=re.escape("[Sequential] the same ReLU is at 0 and at 2: a layer keeps")):
        Sequential(relu, Linear(3, 3), relu)
    with pytest.raises(LayerError, match=re.escape("[Sequential] the same ReLU is at 0 and at 1.body.0")):
        Sequential(relu, Residual(Sequential(relu)))
    with pytest.raises(LayerError, match=re.escape("[Residual] the same ReLU is at body and at shortcut")):
        Residual(relu, relu)


def test_index_slice_length_iteration():
    model = cnn(input_shape=(1, 6, 8))
    x = f32(2, 1, 6, 8)
    assert len(model) == 5
    assert list(model) == [model[i] for i in range(5)]
    assert model[-1] is model.layers[4]
    with pytest.raises(IndexError):
        model[5]
    np.testing.assert_array_equal(model[2:](model[:2](x)), model(x))
    assert model[2:].input_shape == (4, 6, 8)
    assert model[:2].input_shape == (1, 6, 8)
    assert model[1:][0] is model[1]
    model[4:].parameters()[0].data[...] = 0  # the slice shares its layers
    np.testing.assert_array_equal(model(x), np.zeros((2, 10)))
    assert [type(layer) for layer in model[::-2]] == [Linear, MaxPool2d, Conv2d]
    with pytest.raises(LayerError, match="expected at least one layer"):
        model[3:3]


def test_parameters_have_paths():
    names = [path for path, _ in cnn().named_parameters()]
    assert names == ["0.weight", "0.bias", "1.body.0.weight", "1.body.0.bias", "4.weight", "4.bias"]
    model = Sequential(Residual(BatchNorm2d(3), Conv2d(3, 3, 1)))
    assert set(model.state_dict()) == {
        *(f"0.body.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
        *("0.shortcut.weight", "0.shortcut.bias"),
    }  # fmt: skip


def test_a_shared_parameter_gets_the_sum_of_its_gradients():
    x, dout = rng(1).standard_normal((4, 3)), rng(2).standard_normal((4, 3))
    first, second = (Linear(3, 3, bias=False, dtype=np.float64, rng=rng(5)) for _ in range(2))
    apart = Sequential(first, second)
    apart.forward(x, training=True)
    apart.backward(dout)
    shared = Sequential(*(Linear(3, 3, bias=False, dtype=np.float64, rng=rng(5)) for _ in range(2)))
    shared[1].weight = shared[0].weight
    shared.forward(x, training=True)
    shared.backward(dout)
    assert [path for path, _ in shared.named_parameters()] == ["0.weight"]
    np.testing.assert_allclose(shared[0].weight.grad, first.weight.grad + second.weight.grad, rtol=1e-12)
    twin = shared.astype(np.float32)
    assert twin[0].weight is twin[1].weight


def test_no_gradient_is_computed_below_the_first_parameters():
    calls = []

    class Spy(Flatten):
        def backward(self, dout, *, input_grad=True):
            calls.append(input_grad)
            return super().backward(dout, input_grad=input_grad)

    model = Sequential(Spy(), Linear(6, 4, rng=rng()), ReLU(), Linear(4, 2, rng=rng()))
    out = model.forward(f32(3, 2, 3), training=True)
    assert model.backward(out, input_grad=False) is None
    assert calls == []
    assert all(module._cache is None for _, module in model.named_modules())
    model.forward(f32(3, 2, 3), training=True)
    assert model.backward(out).shape == (3, 2, 3)
    assert calls == [True]


def test_residual_adds_both_ways():
    body, shortcut = Linear(2, 2, dtype=np.float64), Linear(2, 2, bias=False, dtype=np.float64)
    body.weight.data[...], shortcut.weight.data[...] = [[1, 2], [3, 4]], [[10, 0], [0, 20]]
    x, dout = np.array([[1.0, -1.0]]), np.array([[1.0, 0.0]])
    plain, projected = Residual(body), Residual(body, shortcut)
    np.testing.assert_array_equal(plain.forward(x, training=True), [[-2 + 1, -2 - 1]])
    np.testing.assert_array_equal(plain.backward(dout), [[1 + 1, 3 + 0]])
    np.testing.assert_array_equal(projected.forward(x, training=True), [[-2 + 10, -2 - 20]])
    np.testing.assert_array_equal(projected.backward(dout), [[1 + 10, 3 + 0]])
