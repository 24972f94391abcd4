"""Question 7.2: why dropout needs y = W(x·p) at inference, where p is the probability of keeping a unit."""

import sys

import numpy as np

from pynn import Adam, CrossEntropyLoss, Flatten, Linear, ReLU, Sequential, Solver, VanillaDropout
from pynn.data import Standardize, load_digits

digits = load_digits()
standardize = Standardize.from_data(digits.x_train)


def network(keep, rescale, rng):
    return Sequential(
        Flatten(),
        Linear(64, 200, rng=rng),
        ReLU(),
        VanillaDropout(keep, rescale=rescale, rng=rng),
        Linear(200, 10, rng=rng),
    )


for keep in (0.9, 0.5, 0.2):
    rng = np.random.default_rng(0)
    model = network(keep, True, rng)
    optimizer = Adam(model.parameters(), lr=3e-3)
    solver = Solver(
        model, CrossEntropyLoss(), optimizer, batch_size=50, transform=standardize, rng=rng, progress=False
    )
    solver.fit(digits.x_train, digits.y_train, epochs=10)

    # What the network was trained to give: its scores averaged over many masks.
    x = standardize(digits.x_test)
    expected = np.mean([model.forward(x, training=True) for _ in range(500)], axis=0)
    unscaled = network(keep, False, rng)
    unscaled.load_state_dict(model.state_dict())
    errors = {}
    for name, form in (("W(x·p)", model), ("W(x)", unscaled)):
        scores = form(x)
        loss, _ = CrossEntropyLoss()(scores, digits.y_test)
        errors[name] = float(np.abs(scores - expected).mean())
        print(
            f"p = {keep}, {name:6}: mean distance from expected scores {errors[name]:6.3f}, test loss {loss:.3f}"
        )
    if not errors["W(x·p)"] < errors["W(x)"]:
        sys.exit(f"expected W(x·p) to be nearer to the scores of training, got {errors}")
