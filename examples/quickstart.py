"""The README's quickstart: a small convolutional network on the handwritten digits that come with pynn."""

import numpy as np

import pynn
from pynn.data import Standardize, load_digits

digits, rng = load_digits(), np.random.default_rng(0)
model = pynn.Sequential(
    pynn.Conv2d(1, 32, 3, rng=rng), pynn.ReLU(), pynn.MaxPool2d(2), pynn.Flatten(), pynn.Linear(288, 10, rng=rng)
)
adam, standardize = pynn.Adam(model.parameters(), lr=3e-3), Standardize.from_data(digits.x_train)
solver = pynn.Solver(model, pynn.CrossEntropyLoss(), adam, batch_size=32, transform=standardize, rng=rng)
solver.fit(digits.x_train, digits.y_train, epochs=15, validation_data=(digits.x_val, digits.y_val))
accuracy = solver.evaluate(digits.x_test, digits.y_test)["accuracy"]
print(model.summary(digits.input_shape), f"test accuracy {100 * accuracy:.1f} %", sep="\n")

if accuracy < 0.95:
    raise SystemExit("expected a test accuracy of at least 95 %")
