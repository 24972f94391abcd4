"""The builders: layer orders of the questions, shapes, dtypes, seeds, and what does not fit."""

import numpy as np
import pytest

from pynn import CrossEntropyLoss, LayerError, models
from pynn.gradcheck import gradcheck_model

BUILDERS = {
    "linear": (lambda **k: models.linear(5, 3, **k), (5,), 3),
    "mlp": (lambda **k: models.mlp(5, 7, 3, **k), (5,), 3),
    "cnn": (lambda **k: models.cnn((2, 9, 8), kernel_size=3, filters=4, hidden=6, n_classes=3, **k), (2, 9, 8), 3),
    "cnn_bn": (
        lambda **k: models.cnn_bn((2, 9, 8), kernel_size=3, filters=4, hidden=6, n_classes=3, **k),
        (2, 9, 8),
        3,
    ),
    "vgg": (lambda **k: models.vgg((3, 32, 40), n_classes=3, **k), (3, 32, 40), 3),
}


def kinds(model):
    return [type(layer).__name__ for layer in model]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_have_one_column_a_class_and_the_dtype_asked_for(name, dtype):
    build, input_shape, n_classes = BUILDERS[name]
    model = build(dtype=dtype, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((2, *input_shape)).astype(dtype)
    scores = model(x)
    assert scores.shape == (2, n_classes) == (2, *model.output_shape(input_shape))
    assert scores.dtype == dtype
    assert {parameter.data.dtype for parameter in model.parameters()} == {np.dtype(dtype)}


@pytest.mark.parametrize("name", BUILDERS)
def test_weights_are_drawn_from_the_generator_given(name):
    build, _, _ = BUILDERS[name]
    first, same, other = (build(rng=np.random.default_rng(seed)).state_dict() for seed in (3, 3, 4))
    assert all(np.array_equal(first[path], same[path]) for path in first)
    assert any(not np.array_equal(first[path], other[path]) for path in first)


def test_question_5_3_layer_order():
    model = models.cnn((1, 28, 28), kernel_size=7, filters=32, hidden=16)
    assert kinds(model) == ["Conv2d", "ReLU", "MaxPool2d", "Flatten", "Linear", "ReLU", "Linear"]
    assert model[4].weight.shape == (32 * 11 * 11, 16)


def test_question_5_4_layer_order():
    model = models.cnn_bn((1, 28, 28), kernel_size=7, hidden=100, dropout=0.3)
    assert kinds(model) == [
        "Conv2d",
        "BatchNorm2d",
        "ReLU",
        "MaxPool2d",
        "Flatten",
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    assert model[8].p == 0.3


def test_question_6_channels_and_pools():
    model = models.vgg()
    arrangement = []
    for layer in model:
        if type(layer).__name__ == "Conv2d":
            arrangement.append(layer.weight.shape)
        elif type(layer).__name__ == "MaxPool2d":
            arrangement.append("M")
    channels = [8, "M", 16, "M", 32, 32, "M", 64, 64, "M", 64, 64, "M"]
    assert [size if size == "M" else size[0] for size in arrangement] == channels
    assert {size[2:] for size in arrangement if size != "M"} == {(3, 3)}
    linears = [layer.weight.shape for layer in model if type(layer).__name__ == "Linear"]
    assert linears == [(64, 64), (64, 64), (64, 10)]
    assert kinds(model).count("BatchNorm2d") == 8


def test_vgg_names_a_wrong_number_of_channels():
    with pytest.raises(ValueError, match=r"expected channels for 8 convolutions, got \(8, 16, 32\)"):
        models.vgg(channels=(8, 16, 32))


@pytest.mark.parametrize(
    ("build", "layer"),
    [
        (lambda: models.cnn((1, 8, 8), kernel_size=9), "Conv2d"),
        (lambda: models.cnn_bn((1, 8, 8), kernel_size=8), "MaxPool2d"),
        (lambda: models.vgg((3, 28, 28)), "MaxPool2d"),
    ],
)
def test_a_kernel_that_does_not_fit_is_named_at_construction(build, layer):
    with pytest.raises(LayerError, match=layer):
        build()


def test_gradients_of_the_network_with_batch_norm():
    rng = np.random.default_rng(0)
    model = models.cnn_bn(
        (1, 6, 5), kernel_size=3, filters=2, hidden=3, dropout=0.0, n_classes=3, dtype=np.float64, rng=rng
    )
    gradcheck_model(model, CrossEntropyLoss(), rng.standard_normal((5, 1, 6, 5)), np.array([0, 1, 2, 1, 0]))
