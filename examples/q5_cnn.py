"""Question 5: a convolutional network with batch norm, and its rate of dropout chosen on validation data."""

import sys

import numpy as np

from pynn import SGD, CrossEntropyLoss, OneCycle, Solver, decay_groups, models
from pynn.data import Shift, Standardize, load_digits

digits = load_digits()


def train(dropout):
    rng = np.random.default_rng(0)
    model = models.cnn_bn(digits.input_shape, kernel_size=3, filters=16, hidden=64, dropout=dropout, rng=rng)
    solver = Solver(
        model,
        CrossEntropyLoss(),
        SGD(decay_groups(model, 5e-4), lr=0.1, momentum=0.9, nesterov=True),
        batch_size=50,
        schedule=OneCycle(),
        transform=Standardize.from_data(digits.x_train),
        augment=Shift(1),
        rng=rng,
        progress=False,
    )
    solver.fit(digits.x_train, digits.y_train, epochs=8)
    return solver


solvers = {dropout: train(dropout) for dropout in (0.0, 0.2, 0.5)}
print(solvers[0.2].model)
accuracies = {p: solver.evaluate(digits.x_val, digits.y_val)["accuracy"] for p, solver in solvers.items()}
for dropout, accuracy in accuracies.items():
    print(f"dropout {dropout}: validation accuracy {100 * accuracy:.2f} %")

best = max(accuracies, key=accuracies.get)
accuracy = solvers[best].evaluate(digits.x_test, digits.y_test)["accuracy"]
print(f"chosen: dropout {best}; test accuracy {100 * accuracy:.2f} %")
if accuracy < 0.96:
    sys.exit(f"expected a test accuracy of at least 96 %, got {100 * accuracy:.2f} %")
