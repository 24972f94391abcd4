"""Question 3: the linear support vector machine: hinge loss and an L2 penalty, on the breast-cancer features."""

import sys

import numpy as np

from pynn import SGD, Cosine, HingeLoss, Solver, decay_groups, models
from pynn.data import Standardize, load_breast_cancer

data = load_breast_cancer()
solvers = {}
for penalty in (1e-1, 1e-2, 1e-3):
    rng = np.random.default_rng(0)
    model = models.linear(data.x_train.shape[1], rng=rng)
    solvers[penalty] = Solver(
        model,
        HingeLoss(),
        SGD(decay_groups(model, penalty), lr=0.1, momentum=0.9),
        batch_size=50,
        schedule=Cosine(),
        transform=Standardize.from_data(data.x_train),
        rng=rng,
        progress=False,
    )
    solvers[penalty].fit(data.x_train, data.y_train, epochs=40)

    weight = model[0].weight.data
    margins = np.where(data.y_train == 1, 1, -1) * solvers[penalty].scores(data.x_train)[:, 0]
    accuracy = solvers[penalty].evaluate(data.x_val, data.y_val)["accuracy"]
    print(
        f"penalty {penalty:5g}: margin 1/‖w‖ = {1 / np.linalg.norm(weight):.2f}, "
        f"{(margins <= 1).sum():3d} of {len(margins)} samples on or inside it, "
        f"validation accuracy {100 * accuracy:.2f} %"
    )

best = max(solvers, key=lambda penalty: solvers[penalty].evaluate(data.x_val, data.y_val)["accuracy"])
accuracy = solvers[best].evaluate(data.x_test, data.y_test)["accuracy"]
print(f"chosen: penalty {best:g}; test accuracy {100 * accuracy:.2f} %")
if accuracy < 0.94:
    sys.exit(f"expected a test accuracy of at least 94 %, got {100 * accuracy:.2f} %")
