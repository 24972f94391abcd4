"""Question 7.1: what sigmoids do to the gradients of a deep network, compared with tanh and ReLU."""

import sys

import numpy as np

from pynn import CrossEntropyLoss, Flatten, Linear, ReLU, Sequential, Sigmoid, Tanh
from pynn.data import Standardize, load_digits

DEPTH, WIDTH = 8, 64
digits = load_digits()
x = Standardize.from_data(digits.x_train)(digits.x_train[:100])
y = digits.y_train[:100]

first_to_last = {}
for activation, init in ((Sigmoid, "xavier_normal"), (Tanh, "xavier_normal"), (ReLU, "kaiming_normal")):
    rng = np.random.default_rng(0)
    layers = [Flatten()]
    for depth in range(DEPTH):
        layers += [Linear(64 if depth == 0 else WIDTH, WIDTH, init=init, rng=rng), activation()]
    model = Sequential(*layers, Linear(WIDTH, 10, init=init, rng=rng))

    _, dscores = CrossEntropyLoss()(model.forward(x, training=True), y)
    model.backward(dscores)
    gradients = [layer.weight.grad for layer in model if isinstance(layer, Linear)]
    norms = [float(np.linalg.norm(gradient)) for gradient in gradients]
    first_to_last[activation.__name__] = norms[0] / norms[-2]

    # A column holds the gradients of one unit's weights: dW[:, j] = Σₙ aₙ δₙⱼ with the activations aₙ before it.
    hidden = np.concatenate(gradients[1:-1], axis=1)
    one_signed = (hidden >= 0).all(axis=0) | (hidden <= 0).all(axis=0)
    print(f"{activation.__name__}: ‖dW‖ by layer", " ".join(f"{norm:.1e}" for norm in norms))
    print(f"  units whose weights can only rise or fall together: {100 * one_signed.mean():.0f} %")

if not first_to_last["Sigmoid"] < 0.01 * first_to_last["ReLU"]:
    sys.exit(f"expected the sigmoid's gradients to vanish with depth, got {first_to_last}")
