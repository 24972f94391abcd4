"""A training with every source of state, small enough to be interrupted a hundred times."""

import numpy as np
import pytest

from pynn.layers import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pynn.losses import CrossEntropyLoss
from pynn.optim import SGD, Adam, AdamW, RMSProp
from pynn.schedules import OneCycle
from pynn.solver import Solver

EPOCHS = 6
DATA = np.random.default_rng(5)
X, Y = DATA.normal(size=(50, 1, 6, 5)).astype(np.float32), DATA.integers(0, 3, 50)
VALIDATION = DATA.normal(size=(20, 1, 6, 5)).astype(np.float32), DATA.integers(0, 3, 20)
OPTIMIZERS = {
    "SGD": lambda parameters: SGD(parameters, 0.05, momentum=0.9, nesterov=True),
    "RMSProp": lambda parameters: RMSProp(parameters, 0.01),
    "Adam": lambda parameters: Adam(parameters, 0.01),
    "AdamW": lambda parameters: AdamW(parameters, 0.01),
}


def flip(x, rng):
    return np.where(rng.random(len(x))[:, None, None, None] < 0.5, x[..., ::-1], x)


def new_solver(optimizer="AdamW", seed=0, bit_generator=np.random.PCG64, shared=False, **options):
    """Every source of state: generators of solver, augmentation and dropout, momentum, running statistics."""
    rng = np.random.Generator(bit_generator(seed))
    model = Sequential(
        Conv2d(1, 4, 3, rng=rng), BatchNorm2d(4), ReLU(), MaxPool2d(2), Flatten(),
        Dropout(0.3, rng=rng if shared else np.random.Generator(bit_generator(seed + 1))), Linear(8, 3, rng=rng),
    )  # fmt: skip
    return Solver(
        model, CrossEntropyLoss(), OPTIMIZERS[optimizer](model.parameters()), batch_size=16, schedule=OneCycle(),
        augment=flip, max_grad_norm=5.0, rng=rng, progress=False, **options,
    )  # fmt: skip


def fit(solver, checkpoint=None, **options):
    options = {"epochs": EPOCHS, "validation_data": VALIDATION} | options
    return solver.fit(X, Y, checkpoint=checkpoint, **options)


def outcome(solver):
    """Everything that a run leaves, as bytes and numbers that must not differ."""
    state = {path: array.tobytes() for path, array in solver.model.state_dict().items()}
    optimizer = {name: array.tobytes() for name, array in solver.optimizer.state_dict().items()}
    history = {name: values for name, values in solver.history.items() if name != "seconds"}
    return state, optimizer, history, str(solver.rng.bit_generator.state), solver.run.best_epoch


def interrupt_after(epoch):
    def callback(solver, logs):
        if logs["epoch"] == epoch:
            raise KeyboardInterrupt

    return callback


def interrupted(path, epoch, **options):
    with pytest.raises(KeyboardInterrupt):
        fit(new_solver(callbacks=[interrupt_after(epoch)], **options), path)
