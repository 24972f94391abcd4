"""gradcheck finds wrong gradients where they are, and accuses no right one."""

import re

import numpy as np
import pytest

from pynn.configuration import REGISTRY
from pynn.gradcheck import GradientError, gradcheck, gradcheck_loss, gradcheck_model
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
    Sigmoid,
    Tanh,
)
from pynn.losses import CrossEntropyLoss, MSELoss

pytestmark = pytest.mark.usefixtures("one_thread")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def registry():
    """Layers that are wrong on purpose are forgotten after each test."""
    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


def broken(base, *arguments, **change):
    """A layer like `base`, methods replaced by `change`."""
    return type(f"Broken{base.__name__}", (base,), change)(
        *arguments, **({"rng": rng(3)} if base in (Linear, Conv2d) else {})
    )


def wrong_dx(factor):
    def backward(self, dout, *, input_grad=True):
        dx = type(self).__mro__[1].backward(self, dout, input_grad=input_grad)
        return factor(self, dx)

    return backward


def wrong_grad(name, change):
    """A backward that changes what it adds to the gradient of the parameter called `name`."""

    def backward(self, dout, *, input_grad=True):
        parameter = getattr(self, name)
        before = parameter.grad.copy()
        dx = type(self).__mro__[1].backward(self, dout, input_grad=input_grad)
        parameter.grad[...] = change(before, parameter.grad - before)
        return dx

    return backward


def without_mean_term(self, dout, *, input_grad=True):
    """Batch normalisation that takes μ for a constant."""
    _, _, var = self._cache[2]
    dx = BatchNorm1d.backward(self, dout)
    return dx + self.weight.data / np.sqrt(var + self.eps) * dout.mean(axis=0)


def constant_statistics(self, dout, *, input_grad=True):
    _, _, var = self._cache[2]
    BatchNorm1d.backward(self, dout)
    return self.weight.data / np.sqrt(var + self.eps) * dout


def unmasked_dropout(self, dout, *, input_grad=True):
    Dropout.backward(self, dout)
    return dout


def unscaled_dropout(self, dout, *, input_grad=True):
    return Dropout.backward(self, dout) * (1 - self.p)


def shortcut_forgotten(self, dout, *, input_grad=True):
    return self.body.backward(dout)


def spread_over_window(self, dout, *, input_grad=True):
    """A max-pool that gives its gradient to the window's first pixel."""
    _, (_, shape) = self._take(dout)
    dx = np.zeros(shape)
    dx[:, :, ::2, ::2] = dout
    return dx


def one_entry_off(before, grad):
    grad[2, 1] *= 1.001
    return before + grad


SPOILED = {
    "linear dx scaled": (
        Linear,
        (3, 3),
        {"backward": wrong_dx(lambda self, dx: dx / len(dx))},
        "x",
        "by a factor of 0.25",
    ),
    "linear weight transposed": (
        Linear,
        (3, 3),
        {"backward": wrong_grad("weight", lambda before, grad: before + grad.T)},
        "weight",
        "is wrong",
    ),
    "linear weight over N": (
        Linear,
        (3, 3),
        {"backward": wrong_grad("weight", lambda before, grad: before + grad / 4)},
        "weight",
        "all of it by a factor of 0.25",
    ),
    "linear weight overwritten": (
        Linear,
        (3, 3),
        {"backward": wrong_grad("weight", lambda before, grad: grad)},
        "weight",
        "is overwritten",
    ),
    "linear one entry off by a thousandth": (
        Linear,
        (3, 3),
        {"backward": wrong_grad("weight", one_entry_off)},
        "weight",
        "wrong",
    ),
    "linear bias missing": (
        Linear,
        (3, 3),
        {"backward": wrong_grad("bias", lambda before, grad: before)},
        "bias",
        "all of it by a factor of 0",
    ),
    "batch norm without the mean's term": (BatchNorm1d, (3,), {"backward": without_mean_term}, "x", "is wrong"),
    "batch norm with constant statistics": (BatchNorm1d, (3,), {"backward": constant_statistics}, "x", "is wrong"),
    "batch norm weight of the wrong sign": (
        BatchNorm1d,
        (3,),
        {"backward": wrong_grad("weight", lambda before, grad: before - grad)},
        "weight",
        "by a factor of -1",
    ),
    "dropout without its mask": (Dropout, (0.4,), {"backward": unmasked_dropout}, "x", "is wrong"),
    "dropout without its scale": (Dropout, (0.4,), {"backward": unscaled_dropout}, "x", "by a factor of 0.6"),
    "sigmoid's square": (Sigmoid, (), {"backward": wrong_dx(lambda self, dx: dx * np.abs(dx))}, "x", "is wrong"),
    "tanh negative": (Tanh, (), {"backward": wrong_dx(lambda self, dx: -dx)}, "x", "by a factor of -1"),
    "relu passes all": (
        ReLU,
        (),
        {"backward": lambda self, dout, *, input_grad=True: self._take(dout)[0]},
        "x",
        "is wrong",
    ),
}


@pytest.mark.parametrize("fault", SPOILED)
@pytest.mark.parametrize("inside", [False, True])
def test_a_wrong_layer_is_located(fault, inside):
    base, arguments, change, name, verdict = SPOILED[fault]
    layer, label = broken(base, *arguments, **change), f"Broken{base.__name__}"
    if inside:
        layer = Sequential(Linear(3, 3, rng=rng(1)), Residual(Sequential(Tanh(), layer)), Linear(3, 2, rng=rng(2)))
        label = f"1.body.1 {label}"
    with pytest.raises(GradientError) as caught:
        gradcheck(layer, rng(4).standard_normal((4, 3)), rng=rng(5))
    error = caught.value
    assert (error.layer, error.name) == (label, name)
    assert verdict in error.problem
    assert error.analytic != error.numeric
    assert re.match(
        rf"\[{re.escape(label)}\] ∂L/∂{name} at \(.*\): backward gives \S+, central differences give \S+: ",
        str(error),
    )
    if fault == "linear one entry off by a thousandth":
        assert error.index == (2, 1)


def test_a_wrong_convolution_and_a_wrong_pool_are_located():
    flipped = wrong_grad("weight", lambda before, grad: before + grad[:, :, ::-1, ::-1])
    conv = broken(Conv2d, 2, 3, (2, 3), backward=flipped)
    pool = broken(MaxPool2d, 2, backward=spread_over_window)
    x = rng(4).standard_normal((2, 2, 5, 6))
    for wrong, name, model in (
        ("0 BrokenConv2d", "weight", Sequential(conv, ReLU(), MaxPool2d(2))),
        ("2 BrokenMaxPool2d", "x", Sequential(Conv2d(2, 3, (2, 3), rng=rng()), ReLU(), pool)),
    ):
        with pytest.raises(GradientError) as caught:
            gradcheck(model, x, rng=rng(5))
        assert (caught.value.layer, caught.value.name) == (wrong, name)


def test_a_container_that_joins_wrongly_is_located():
    wrong = broken(Residual, Linear(3, 3, rng=rng(1)), backward=shortcut_forgotten)
    with pytest.raises(GradientError, match=re.escape("[1 BrokenResidual] ∂L/∂x at")):
        gradcheck(Sequential(Linear(3, 3, rng=rng(2)), wrong), rng(4).standard_normal((4, 3)), rng=rng(5))


def test_wrong_shapes_and_missing_gradients_are_named():
    none = broken(Linear, 3, 2, backward=wrong_dx(lambda self, dx: None))
    with pytest.raises(
        GradientError, match=r"\[BrokenLinear\] x: expected a gradient of shape \(4, 3\), got None"
    ):
        gradcheck(none, np.ones((4, 3)))
    flat = broken(Linear, 3, 2, backward=wrong_dx(lambda self, dx: dx[0]))
    with pytest.raises(GradientError, match=re.escape("x: expected a gradient of shape (4, 3), got (3,)")):
        gradcheck(flat, np.ones((4, 3)))


def test_hidden_randomness_and_infinite_outputs_are_named():
    generator = rng()

    def noisy(self, x, *, training=False):
        return Linear.forward(self, x, training=training) + generator.standard_normal()

    with pytest.raises(GradientError, match="output: it differs between two calls: draw random"):
        gradcheck(broken(Linear, 3, 2, forward=noisy), np.ones((4, 3)))
    layer = Linear(3, 2)
    layer.weight.data[...] = np.inf
    with pytest.raises(GradientError, match=re.escape("[Linear] output: it is not finite")):
        gradcheck(layer, np.ones((4, 3)))
    with pytest.raises(ValueError, match="gradcheck: expected x to be finite and not empty"):
        gradcheck(Linear(3, 2), np.full((4, 3), np.nan))


def test_a_corner_is_told_from_a_wrong_gradient():
    x = np.array([[1.0, 0.0, -1.0]])
    with pytest.raises(
        GradientError, match=r"a kink here, with slope .* to the left and .* to the right"
    ) as caught:
        gradcheck(ReLU(), x)
    assert caught.value.index == (0, 1)
    with pytest.raises(GradientError, match="a tie in max-pooling: move x away from it"):
        gradcheck(MaxPool2d((1, 2)), np.zeros((1, 1, 1, 2)))


def test_a_corner_within_the_step_is_no_error():
    x = np.array([[1.0, 3e-6, -3e-6]])  # nearer to ReLU's corner than eps, farther than eps/100
    assert gradcheck(ReLU(), x) < 1e-6


def test_the_module_and_x_are_not_changed():
    model = Sequential(Linear(3, 4, rng=rng()), BatchNorm1d(4), Dropout(0.3, rng=rng(1)), Linear(4, 2, rng=rng()))
    x = rng(2).standard_normal((5, 3)).astype(np.float32)
    x.flags.writeable = False
    state, generator = model.state_dict(), model[2].rng.bit_generator.state
    gradcheck(model, x)
    assert all(np.array_equal(array, state[path]) for path, array in model.state_dict().items())
    assert model[2].rng.bit_generator.state == generator
    assert not any(parameter.grad.any() for parameter in model.parameters())


def cnn():
    return Sequential(
        Conv2d(1, 3, (3, 2), rng=rng(1)), BatchNorm2d(3), ReLU(), MaxPool2d(2), Flatten(),
        Dropout(0.2, rng=rng(2)), Linear(12, 3, rng=rng(3)),
    )  # fmt: skip


def test_whole_models_with_their_loss():
    x, y = rng(4).standard_normal((4, 1, 6, 5)), np.array([0, 2, 1, 2])
    assert gradcheck_model(cnn(), CrossEntropyLoss(), x, y, rng=rng(5)) < 1e-6
    # Only what does not pass the convolution's bias: its gradient is 0, for batch norm takes means away.
    assert gradcheck_model(cnn(), CrossEntropyLoss(label_smoothing=0.1), x, y, max_entries=5, rng=rng(5)) < 1e-6


def test_a_wrong_loss_is_told_from_a_wrong_layer():
    class WrongLoss(CrossEntropyLoss):
        def __call__(self, scores, y):
            loss, dscores = super().__call__(scores, y)
            return loss, dscores * len(scores)

    x, y = rng(4).standard_normal((4, 1, 6, 5)), np.array([0, 2, 1, 2])
    with pytest.raises(GradientError, match=r"\[WrongLoss\] ∂L/∂scores at .* all of it by a factor of 4"):
        gradcheck_model(cnn(), WrongLoss(), x, y, rng=rng(5))
    with pytest.raises(GradientError, match=r"\[WrongLoss\] ∂L/∂scores"):
        gradcheck_loss(WrongLoss(), rng().standard_normal((4, 3)), y)
    assert gradcheck_loss(CrossEntropyLoss(), rng().standard_normal((4, 3)), y) < 1e-6
    model = Sequential(Flatten(), broken(Linear, 30, 3, backward=wrong_grad("bias", lambda b, g: b + 2 * g)))
    with pytest.raises(GradientError, match=r"\[1 BrokenLinear\] ∂L/∂bias at .* by a factor of 2"):
        gradcheck_model(model, MSELoss(), x, rng(6).standard_normal((4, 3)), rng=rng(5))


def test_a_sample_of_entries_counts_its_evaluations():
    calls = []

    def counted(self, x, *, training=False):
        calls.append(training)
        return Linear.forward(self, x, training=training)

    gradcheck(broken(Linear, 50, 40, forward=counted), np.ones((2, 50)), max_entries=10)
    assert all(calls)
    assert len(calls) == 1 + 2 + 2 * 3 * 10  # once for backward, twice to compare, two a side for x, weight, bias
