"""Question 6: the reduced VGG-11, here on digits enlarged to 32×32; `pynn run q6` trains it on CIFAR-10."""

import sys

import numpy as np

from pynn import SGD, CrossEntropyLoss, OneCycle, Solver, decay_groups, models
from pynn.data import Shift, Standardize, load_digits

digits = load_digits()


def enlarged(x):
    """Each pixel 4×4 times: five 2×2 poolings need 32×32."""
    return x.repeat(4, axis=2).repeat(4, axis=3)


x_train, x_test = enlarged(digits.x_train), enlarged(digits.x_test)
rng = np.random.default_rng(0)
model = models.vgg(x_train.shape[1:], rng=rng)
print(model)
solver = Solver(
    model,
    CrossEntropyLoss(),
    SGD(decay_groups(model, 5e-4), lr=0.1, momentum=0.9, nesterov=True),
    batch_size=50,
    schedule=OneCycle(),
    transform=Standardize.from_data(x_train),
    augment=Shift(2),
    rng=rng,
)
solver.fit(x_train, digits.y_train, epochs=4)
accuracy = solver.evaluate(x_test, digits.y_test)["accuracy"]
print(f"test accuracy {100 * accuracy:.2f} %")
if accuracy < 0.93:
    sys.exit(f"expected a test accuracy of at least 93 %, got {100 * accuracy:.2f} %")
