"""Question 7.3: a loss that falls and then diverges; a lower learning rate or a larger batch is the remedy."""

import sys

import numpy as np

from pynn import SGD, CrossEntropyLoss, Flatten, Linear, ReLU, Sequential, Solver, TrainingDiverged
from pynn.data import Standardize, load_digits

digits = load_digits()


def final_loss(lr, batch_size, steps=400):
    """The mean loss of the last tenth of the steps; infinite where the training diverged."""
    rng = np.random.default_rng(0)
    hidden = [Linear(64, 100, rng=rng), ReLU(), Linear(100, 100, rng=rng), ReLU()]
    model = Sequential(Flatten(), *hidden, Linear(100, 10, rng=rng))
    solver = Solver(model, CrossEntropyLoss(), SGD(model.parameters(), lr, momentum=0.9))
    standardize, losses = Standardize.from_data(digits.x_train), []
    for _ in range(steps):
        batch = rng.integers(0, len(digits.x_train), batch_size)
        try:
            losses.append(solver.train_step(standardize(digits.x_train[batch]), digits.y_train[batch]))
        except TrainingDiverged as error:
            print(f"  {error}")
            return np.inf
    return float(np.mean(losses[-steps // 10 :]))


print("batch 8, learning rate swept:")
by_lr = {lr: final_loss(lr, 8) for lr in (0.3, 0.1, 0.03, 0.01)}
for lr, loss in by_lr.items():
    print(f"  learning rate {lr}: final loss {loss:.4f}")

print("learning rate 0.1, batch size swept:")
by_batch = {size: final_loss(0.1, size) for size in (8, 32, 128, 512)}
for size, loss in by_batch.items():
    print(f"  batch {size}: final loss {loss:.4f}")

if not (by_lr[0.01] < by_lr[0.3] and by_batch[512] < by_batch[8]):
    sys.exit("expected a lower learning rate and a larger batch to end lower")
