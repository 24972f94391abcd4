"""A small convolutional network on the handwritten digits that come with pynn: train, test, save, load."""

import sys
import tempfile
from pathlib import Path

import numpy as np

import pynn
from pynn.data import Standardize, load_digits

digits = load_digits()
rng = np.random.default_rng(0)
model = pynn.Sequential(
    pynn.Conv2d(1, 16, 3, padding=1, rng=rng),
    pynn.ReLU(),
    pynn.MaxPool2d(2),
    pynn.Flatten(),
    pynn.Linear(16 * 4 * 4, 10, rng=rng),
    input_shape=digits.input_shape,
)
print(model)

solver = pynn.Solver(
    model,
    pynn.CrossEntropyLoss(),
    pynn.Adam(model.parameters(), lr=3e-3),
    batch_size=50,
    transform=Standardize.from_data(digits.x_train),
    rng=rng,
)
solver.fit(digits.x_train, digits.y_train, epochs=10, validation_data=(digits.x_val, digits.y_val))
accuracy = solver.evaluate(digits.x_test, digits.y_test)["accuracy"]
print(f"test accuracy {100 * accuracy:.2f} %")

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "digits.safetensors"
    pynn.save(model, path)
    again = pynn.load(path)
    print(f"{path.name}: {path.stat().st_size} bytes")
x = solver.transform(digits.x_test[:5])
print("the first five digits:", again(x).argmax(axis=1), "truly", digits.y_test[:5])

if accuracy < 0.95:
    sys.exit(f"expected a test accuracy of at least 95 %, got {100 * accuracy:.2f} %")
