"""Question 4: softmax cross-entropy on digits, linear and with one hidden layer, and what the softmax says."""

import sys

import numpy as np

from pynn import AdamW, CrossEntropyLoss, Flatten, Sequential, Solver, confusion_matrix, models
from pynn.data import Standardize, load_digits

digits = load_digits()
n_features = digits.x_train[0].size
rng = np.random.default_rng(0)
heads = {"linear": models.linear(n_features, 10, rng=rng), "hidden": models.mlp(n_features, 100, 10, rng=rng)}

accuracies = {}
for name, head in heads.items():
    model = Sequential(Flatten(), head, input_shape=digits.input_shape)
    solver = Solver(
        model,
        CrossEntropyLoss(),
        AdamW(model.parameters(), lr=1e-2),
        batch_size=50,
        transform=Standardize.from_data(digits.x_train),
        rng=rng,
        progress=False,
    )
    history = solver.fit(
        digits.x_train, digits.y_train, epochs=20, validation_data=(digits.x_val, digits.y_val), patience=5
    )
    accuracies[name] = solver.evaluate(digits.x_test, digits.y_test)["accuracy"]
    print(f"{name}: {len(history['epoch'])} epochs, test accuracy {100 * accuracies[name]:.2f} %")

print("true class in rows, predicted class in columns:")
print(confusion_matrix(digits.y_test, solver.predict(digits.x_test), 10))

scores = solver.scores(digits.x_test)
exp = np.exp(scores - scores.max(axis=1, keepdims=True))
confidence = (exp / exp.sum(axis=1, keepdims=True)).max(axis=1)
right = scores.argmax(axis=1) == digits.y_test
print(f"mean confidence where right {confidence[right].mean():.3f}, where wrong {confidence[~right].mean():.3f}")

if min(accuracies.values()) < 0.93:
    sys.exit(f"expected test accuracies of at least 93 %, got {accuracies}")
