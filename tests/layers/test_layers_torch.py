"""Forward, backward and running statistics equal PyTorch's, where it is installed."""

import numpy as np
import pytest

from pynn import layers

torch = pytest.importorskip("torch")
nn = torch.nn


def rng(seed=0):
    return np.random.default_rng(seed)


class Add(nn.Module):
    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


CONV = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 3)}
PAIRS = {
    "Linear": (lambda: layers.Linear(5, 3), lambda: nn.Linear(5, 3), (4, 5)),
    "Conv2d": (lambda: layers.Conv2d(3, 4, (2, 3)), lambda: nn.Conv2d(3, 4, (2, 3)), (2, 3, 7, 8)),
    "Conv2d-general": (
        lambda: layers.Conv2d(2, 5, (3, 2), bias=False, **CONV),
        lambda: nn.Conv2d(2, 5, (3, 2), bias=False, **CONV),
        (3, 2, 9, 7),
    ),
    "MaxPool2d": (
        lambda: layers.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
        lambda: nn.MaxPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
        (2, 3, 9, 7),
    ),
    "AvgPool2d": (
        lambda: layers.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
        lambda: nn.AvgPool2d((3, 2), stride=(2, 1), padding=(1, 0)),
        (2, 3, 9, 7),
    ),
    "GlobalAvgPool2d": (
        lambda: layers.GlobalAvgPool2d(),
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        (2, 3, 4, 5),
    ),
    "BatchNorm1d": (lambda: layers.BatchNorm1d(5), lambda: nn.BatchNorm1d(5), (7, 5)),
    "BatchNorm2d": (
        lambda: layers.BatchNorm2d(3, momentum=0.3, eps=1e-3),
        lambda: nn.BatchNorm2d(3, momentum=0.3, eps=1e-3),
        (4, 3, 5, 6),
    ),
    "ReLU": (layers.ReLU, nn.ReLU, (4, 7)),
    "LeakyReLU": (lambda: layers.LeakyReLU(0.2), lambda: nn.LeakyReLU(0.2), (4, 7)),
    "Sigmoid": (layers.Sigmoid, nn.Sigmoid, (4, 7)),
    "Tanh": (layers.Tanh, nn.Tanh, (4, 7)),
    "GELU": (layers.GELU, nn.GELU, (4, 7)),
    "SiLU": (layers.SiLU, nn.SiLU, (4, 7)),
    "Flatten": (layers.Flatten, nn.Flatten, (3, 2, 4, 5)),
    "Residual": (
        lambda: layers.Residual(layers.Linear(4, 3), layers.Linear(4, 3, bias=False)),
        lambda: Add(nn.Linear(4, 3), nn.Linear(4, 3, bias=False)),
        (5, 4),
    ),
    "Sequential": (
        lambda: layers.Sequential(
            layers.Conv2d(2, 4, 3, padding=1), layers.BatchNorm2d(4), layers.ReLU(), layers.MaxPool2d(2),
            layers.Flatten(), layers.Linear(24, 3),
        ),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(24, 3),
        ),
        (3, 2, 4, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_equal_to_torch(name, dtype):
    make, make_twin, shape = PAIRS[name]
    layer, twin = make().astype(dtype), make_twin().to(torch.float32 if dtype == np.float32 else torch.float64)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    generator = rng(1)

    def close(mine, theirs):
        theirs = theirs.detach().numpy()
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance * max(1, np.abs(theirs).max()))

    theirs = dict(twin.named_parameters()) | dict(twin.named_buffers())
    for path, parameter in layer.named_parameters():
        parameter.data[...] = generator.standard_normal(parameter.shape)
        transposed = parameter.data.ndim == 2  # PyTorch's linear weight is (out, in)
        theirs[path].data = torch.tensor(parameter.data.T if transposed else parameter.data)
    for _ in range(2):  # the running statistics of two batches
        x, dout_seed = generator.standard_normal(shape).astype(dtype), generator.integers(2**31)
        layer.zero_grad()
        twin.zero_grad()
        x_twin = torch.tensor(x, requires_grad=True)
        out, out_twin = layer.forward(x, training=True), twin.train()(x_twin)
        close(out, out_twin)
        dout = rng(dout_seed).standard_normal(out.shape).astype(dtype)
        out_twin.backward(torch.tensor(dout))
        close(layer.backward(dout), x_twin.grad)
        for path, parameter in layer.named_parameters():
            grad = theirs[path].grad
            close(parameter.grad, grad.T if grad.ndim == 2 else grad)
        for path, buffer in layer.named_buffers():
            close(buffer, theirs[path])
        close(layer(x), twin.eval()(torch.tensor(x)))


def test_max_pool_ties_and_nan_as_torch():
    x = rng(2).integers(0, 3, (2, 3, 6, 8)).astype(np.float32)
    x[0, 0, 2, 3] = np.nan
    layer, twin = layers.MaxPool2d(3, stride=2, padding=1), nn.MaxPool2d(3, stride=2, padding=1)
    x_twin = torch.tensor(x, requires_grad=True)
    out, out_twin = layer.forward(x, training=True), twin(x_twin)
    np.testing.assert_array_equal(out, out_twin.detach().numpy())
    dout = rng(3).standard_normal(out.shape).astype(np.float32)
    out_twin.backward(torch.tensor(dout))
    np.testing.assert_allclose(layer.backward(dout), x_twin.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_scales_as_torch(p):
    x = np.ones((50, 40), np.float32)
    values = np.unique(layers.Dropout(p, rng=rng()).forward(x, training=True))
    np.testing.assert_array_equal(values, np.unique(nn.Dropout(p)(torch.tensor(x)).numpy()))
