"""Question 2: logistic loss, with a linear model and with one hidden layer, on the breast-cancer features."""

import sys

import numpy as np

from pynn import SGD, LogisticLoss, Solver, decay_groups, models
from pynn.data import Standardize, load_breast_cancer

data = load_breast_cancer()
n_features = data.x_train.shape[1]


def train(hidden, weight_decay):
    """A solver that has trained a model with `hidden` units (0: none) under an L2 penalty."""
    rng = np.random.default_rng(0)
    model = models.mlp(n_features, hidden, rng=rng) if hidden else models.linear(n_features, rng=rng)
    solver = Solver(
        model,
        LogisticLoss(),
        SGD(decay_groups(model, weight_decay), lr=0.05, momentum=0.9),
        batch_size=50,
        transform=Standardize.from_data(data.x_train),
        rng=rng,
        progress=False,
    )
    solver.fit(data.x_train, data.y_train, epochs=30)
    return solver


# The validation part chooses; the test part is looked at once, at the end.
best = None
for hidden in (0, 10, 100):
    for weight_decay in (1e-2, 1e-3):
        solver = train(hidden, weight_decay)
        accuracy = solver.evaluate(data.x_val, data.y_val)["accuracy"]
        print(f"hidden {hidden:3d}, weight decay {weight_decay:g}: validation accuracy {100 * accuracy:.2f} %")
        if best is None or accuracy > best[0]:
            best = accuracy, hidden, weight_decay, solver

_, hidden, weight_decay, solver = best
accuracy = solver.evaluate(data.x_test, data.y_test)["accuracy"]
print(f"chosen: hidden {hidden}, weight decay {weight_decay:g}; test accuracy {100 * accuracy:.2f} %")
if accuracy < 0.94:
    sys.exit(f"expected a test accuracy of at least 94 %, got {100 * accuracy:.2f} %")
