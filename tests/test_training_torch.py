"""The same networks, batches and optimizers in PyTorch: equal loss curves and final weights over 50 steps.

Both work in float32. A loss may be off by 1e-4 of itself, a weight by 1e-4 of the largest of its array.
"""

import numpy as np
import pytest

from pynn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pynn.losses import CrossEntropyLoss
from pynn.optim import SGD, Adam, AdamW, RMSProp
from pynn.solver import Solver

torch = pytest.importorskip("torch")

STEPS, TOLERANCE = 50, 1e-4

OPTIMIZERS = {
    "sgd": (lambda p: SGD(p, 0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "sgd-l2": (lambda p: SGD(p, 0.05, weight_decay=0.01), lambda p: torch.optim.SGD(p, 0.05, weight_decay=0.01)),
    "momentum": (lambda p: SGD(p, 0.02, momentum=0.9), lambda p: torch.optim.SGD(p, 0.02, momentum=0.9)),
    "nesterov": (
        lambda p: SGD(p, 0.02, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, 0.02, momentum=0.9, nesterov=True),
    ),
    "rmsprop": (lambda p: RMSProp(p, 1e-3, eps=1e-3), lambda p: torch.optim.RMSprop(p, 1e-3, eps=1e-3)),
    "adam": (lambda p: Adam(p, 1e-3, eps=1e-3), lambda p: torch.optim.Adam(p, 1e-3, eps=1e-3)),
    "adamw": (
        lambda p: AdamW(p, 1e-3, eps=1e-3, weight_decay=0.05),
        lambda p: torch.optim.AdamW(p, 1e-3, eps=1e-3, weight_decay=0.05),
    ),
}


def mlp(rng):
    return Sequential(Linear(20, 32, rng=rng), ReLU(), Linear(32, 16, rng=rng), ReLU(), Linear(16, 5, rng=rng))


def torch_mlp():
    nn = torch.nn
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))


def cnn(rng):
    return Sequential(
        Conv2d(2, 8, (3, 5), padding=1, bias=False, rng=rng), BatchNorm2d(8), MaxPool2d(2), ReLU(),
        Conv2d(8, 6, 3, stride=2, rng=rng), ReLU(), Flatten(),
        Linear(18, 16, bias=False, rng=rng), BatchNorm1d(16), ReLU(), Linear(16, 5, rng=rng),
    )  # fmt: skip


def torch_cnn():
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(2, 8, (3, 5), padding=1, bias=False), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(8, 6, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(18, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5),
    )  # fmt: skip


NETWORKS = {"mlp": (mlp, torch_mlp, (20,)), "cnn": (cnn, torch_cnn, (2, 7, 16))}


def in_torch_order(model, path, array):
    """Linear weights are (in_features, out_features) here, (out_features, in_features) there."""
    layer = dict(model.named_modules())[path.rpartition(".")[0]]
    return array.T if isinstance(layer, Linear) and array.ndim == 2 else array


@pytest.fixture(autouse=True)
def one_torch_thread(one_thread):
    """Two pools of threads would get in each other's way."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_fifty_steps(network, optimizer):
    build, torch_build, shape = NETWORKS[network]
    ours, theirs = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(3)
    model, twin = build(rng), torch_build()
    twin.load_state_dict(
        {path: torch.tensor(in_torch_order(model, path, array)) for path, array in model.state_dict().items()},
        strict=False,  # PyTorch's batch norms also count batches
    )
    x = rng.normal(size=(STEPS, 24, *shape)).astype(np.float32)
    y = rng.integers(0, 5, (STEPS, 24))
    x[:, :, 0] += y.reshape(STEPS, 24, *[1] * (len(shape) - 1))  # something to learn

    solver = Solver(model, CrossEntropyLoss(), ours(model.parameters()), progress=False)
    losses = [solver.train_step(x[step], y[step]) for step in range(STEPS)]

    torch_optimizer, criterion = theirs(twin.parameters()), torch.nn.CrossEntropyLoss()
    expected = []
    for step in range(STEPS):
        loss = criterion(twin(torch.from_numpy(x[step])), torch.from_numpy(y[step]))
        torch_optimizer.zero_grad()
        loss.backward()
        torch_optimizer.step()
        expected.append(loss.item())

    assert expected[-1] < 0.97 * expected[0]
    np.testing.assert_allclose(losses, expected, rtol=TOLERANCE)
    twin_state = {path: tensor.numpy() for path, tensor in twin.state_dict().items()}
    for path, array in model.state_dict().items():
        difference = np.abs(in_torch_order(model, path, array) - twin_state[path]).max()
        assert difference <= TOLERANCE * np.abs(twin_state[path]).max(), path
    twin.eval()
    np.testing.assert_allclose(
        solver.scores(x[0]), twin(torch.from_numpy(x[0])).detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE
    )
