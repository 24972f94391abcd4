"""Owns the six networks in pynn, by its public names alone, and the reference that all peers are compared with."""

import numpy as np
from networks_worker import ADAM_LR, CASES, DROPOUT, MOMENTUM, SGD_LR

import pynn
from pynn import models


def build(network: str, dropout: float) -> pynn.Sequential:
    rng, shape = np.random.default_rng(0), (1, 28, 28)
    if network == "mlp":
        return models.mlp(784, 1000, 10, rng=rng)
    if network == "cnn7":
        return models.cnn(shape, kernel_size=7, filters=32, hidden=16, rng=rng)
    if network == "cnn5":
        return models.cnn(shape, kernel_size=5, filters=32, hidden=512, rng=rng)
    if network == "cnn_bn":
        return models.cnn_bn(shape, kernel_size=7, filters=32, hidden=100, dropout=dropout, rng=rng)
    if network == "vgg":
        return models.vgg(rng=rng)
    return airbench94(rng)


def airbench94(rng: np.random.Generator) -> pynn.Sequential:
    """The network of Keller Jordan 2024, 94% on CIFAR-10 in 3.29 seconds (arXiv:2404.00498), trained plainly."""
    layers: list[pynn.Module] = [pynn.Conv2d(3, 24, 2, rng=rng), pynn.GELU()]
    for before, after in ((24, 64), (64, 256), (256, 256)):
        layers += [
            pynn.Conv2d(before, after, 3, padding=1, bias=False, rng=rng),
            pynn.MaxPool2d(2),
            pynn.BatchNorm2d(after),
            pynn.GELU(),
            pynn.Conv2d(after, after, 3, padding=1, bias=False, rng=rng),
            pynn.BatchNorm2d(after),
            pynn.GELU(),
        ]
    layers += [pynn.MaxPool2d(3), pynn.Flatten(), pynn.Linear(256, 10, bias=False, rng=rng)]
    return pynn.Sequential(*layers, input_shape=(3, 32, 32))


def convert(job, x, y):
    pynn.set_num_threads(job.threads)
    return x, y


def trainer(job, state, dropout):
    model = build(job.network, dropout)
    model.load_state_dict(state)
    optimizer: pynn.SGD | pynn.Adam
    if CASES[job.network].sgd:
        optimizer = pynn.SGD(model.parameters(), lr=SGD_LR, momentum=MOMENTUM, nesterov=True)
    else:
        optimizer = pynn.Adam(model.parameters(), lr=ADAM_LR)
    return pynn.Solver(model, pynn.CrossEntropyLoss(), optimizer, batch_size=job.batch).train_step


def predictor(job, state):
    model = build(job.network, DROPOUT)
    model.load_state_dict(state)
    return pynn_predictor(model)


def pynn_predictor(model):
    """What a user calls for scores: the frozen model where pynn has that, else the model itself."""
    freeze = getattr(pynn, "freeze", None)
    return model if freeze is None else freeze(model)


def write_reference(job, pool: list, steps: int) -> None:
    """Weights, the first losses without dropout, and the model's own scores of 100 samples, to `folder`.

    Batch-norm parameters and statistics are made uneven, so that a peer that forgets them is found out.
    """
    pynn.set_num_threads(job.threads)
    model, rng = build(job.network, dropout=0.0), np.random.default_rng(2)
    state = model.state_dict()
    for path in [name.removesuffix("running_var") for name in state if name.endswith("running_var")]:
        for name, low, high in (("weight", 0.5, 1.5), ("bias", -0.5, 0.5), ("running_mean", -0.5, 0.5)):
            state[path + name][...] = rng.uniform(low, high, state[path + name].shape)
        state[path + "running_var"][...] = rng.uniform(0.5, 1.5, state[path + "running_var"].shape)
    model.load_state_dict(state)
    outputs = model(pool[0][0][:100])
    step = trainer(job, state, dropout=0.0)
    losses = np.array([step(x, y) for x, y in pool[:steps]])
    arrays: dict = {f"state/{path}": array for path, array in state.items()}
    np.savez(job.folder / f"{job.network}.npz", losses=losses, outputs=outputs, **arrays)
