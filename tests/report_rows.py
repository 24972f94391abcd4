"""Made-up but plausible rows of a results.json for q2–q7, from which the report is tested and looked at."""

from __future__ import annotations

import numpy as np

DIGITS = tuple("0123456789")
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ENVIRONMENT = {
    "pynn": "0.1.0",
    "python": "3.11.9",
    "numpy": "2.3.1",
    "platform": "Linux x86_64",
    "cpu": "AMD EPYC 7B13",
    "isa": "avx2",
    "openmp": True,
    "threads": 2,
}


def rows() -> list[dict]:
    """Rows for every question; equal on every call."""
    rng = np.random.default_rng(0)
    binary = {"dataset": "binary20", "origin": "real", "n_train": 500, "n_val": 250, "n_test": 250}
    mnist = {"dataset": "MNIST", "origin": "real", "n_train": 54000, "n_val": 6000, "n_test": 10000}
    cifar = {"dataset": "CIFAR-10", "origin": "real", "n_train": 45000, "n_val": 5000, "n_test": 10000}
    hidden = [10, 30, 100, 300, 1000]
    return [
        _row(
            rng,
            "2.3",
            "Logistic regression, linear",
            "Linear(20, 1), logistic loss",
            binary,
            0.944,
            0.936,
            0.936,
            [{"lr": lr, "weight_decay": wd} for lr in (0.01, 0.1, 1.0) for wd in (0.0, 0.0001, 0.001)],
            seeds=10,
        ),
        _row(
            rng,
            "2.4",
            "Logistic loss, one hidden layer",
            "Linear(20, h) – ReLU – Linear(h, 1), logistic loss",
            binary,
            0.932,
            0.94,
            0.94,
            [{"hidden": size} for size in hidden],
            seeds=10,
        ),
        _row(
            rng,
            "3.3",
            "Support vector machine, linear",
            "Linear(20, 1), hinge loss",
            binary,
            0.936,
            0.928,
            0.928,
            [{"lr": lr} for lr in (0.01, 0.1, 1.0)],
            seeds=10,
        ),
        _row(
            rng,
            "4.3",
            "Softmax, linear",
            "Linear(64, 10), cross-entropy",
            {"dataset": "UCI digits 8×8", "origin": "embedded", "n_train": 1200, "n_val": 237, "n_test": 360},
            0.9611,
            0.92,
            0.925,
            [{"lr": lr} for lr in (0.01, 0.1, 1.0)],
            seeds=1,
            shape=(8, 8),
        ),
        _row(
            rng,
            "4.4",
            "Softmax, one hidden layer",
            "Linear(784, h) – ReLU – Linear(h, 10), cross-entropy",
            mnist,
            0.9841,
            0.9363,
            0.983,
            [{"hidden": size} for size in hidden],
            seeds=3,
            shape=(28, 28),
        ),
        _row(
            rng,
            "5.3",
            "Convolutional network",
            "Conv2d(1, 32, k) – ReLU – MaxPool2d(2) – Linear(h) – ReLU – Linear(10), cross-entropy",
            mnist,
            0.9912,
            0.9724,
            0.99,
            [{"kernel_size": k, "hidden": h} for k in (3, 5, 7) for h in (16, 64, 128, 512)],
            seeds=3,
            shape=(28, 28),
            filters=(32, 7, 7),
        ),
        _row(
            rng,
            "5.4",
            "Convolutional network with batch norm and dropout",
            "Conv – BN – ReLU – MaxPool – FC – BN – ReLU – Dropout – FC, cross-entropy",
            mnist,
            0.9928,
            0.9058,
            0.992,
            [
                {"architecture": a, "dropout": p}
                for a in ("16 filters 5×5, FC 100", "32 filters 7×7, FC 100", "32 filters 5×5, FC 512")
                for p in (0.2, 0.5, 0.8)
            ],
            seeds=3,
            shape=(28, 28),
            filters=(32, 5, 5),
        ),
        _row(
            rng,
            "6.2",
            "Reduced VGG-11",
            "8–16–32–32–64–64–64–64 channels 3×3, five max-pools, FC 64–64–10",
            cifar,
            0.7811,
            0.69,
            0.77,
            [],
            seeds=1,
            shape=(32, 32, 3),
            filters=(8, 3, 3, 3),
            classes=OBJECTS,
        ),
        _sigmoid(rng, mnist),
        _dropout(rng, mnist),
        _divergence(rng, mnist),
    ]


def _row(
    rng,
    question,
    title,
    model,
    data,
    accuracy,
    reported,
    target,
    choices,
    *,
    seeds,
    shape=None,
    filters=None,
    classes=None,
):
    classes = classes or (("0", "1") if shape is None else DIGITS)
    n_test = data["n_test"]
    wrong = round(n_test * (1 - accuracy))
    confusion = np.diag(rng.multinomial(n_test - wrong, [1 / len(classes)] * len(classes)))
    true = rng.integers(0, len(classes), wrong)
    predicted = (true + rng.integers(1, len(classes), wrong)) % len(classes)
    np.add.at(confusion, (true, predicted), 1)
    epochs = np.arange(1, 16)
    per_seed = (accuracy + rng.normal(0, 0.003, seeds)).round(4)
    shown = min(wrong, 24)
    return {
        "question": question,
        "title": title,
        "model": model,
        **data,
        "test_accuracy": accuracy,
        "reported": reported,
        "target": target,
        "chosen": choices[len(choices) // 2] if choices else {},
        "mean": float(per_seed.mean()),
        "std": float(per_seed.std(ddof=1)) if seeds > 1 else None,
        "n_seeds": seeds,
        "seeds": per_seed.tolist(),
        "seconds": float(rng.uniform(1, 200)),
        "search": [
            {"choice": choice, "val_accuracy": float(accuracy - 0.02 * rng.random()), "seconds": 1.5}
            for choice in choices
        ],
        "history": {
            "epoch": epochs.tolist(),
            "step": (100 * epochs).tolist(),
            "loss": (0.7 * np.exp(-epochs / 4) + 0.02).tolist(),
            "accuracy": (accuracy + 0.005 - 0.2 * np.exp(-epochs / 3)).tolist(),
            "val_loss": (0.6 * np.exp(-epochs / 4) + 0.05 + 0.01 * rng.random(15)).tolist(),
            "val_accuracy": (accuracy - 0.2 * np.exp(-epochs / 3)).tolist(),
            "lr": [0.001] * 15,
            "seconds": [1.0] * 15,
        },
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "misclassified": None
        if shape is None
        else {
            "images": _pictures(rng, shown, shape),
            "true": true[:shown].tolist(),
            "predicted": predicted[:shown].tolist(),
        },
        "filters": None if filters is None else rng.normal(size=filters).cumsum(axis=2).round(4).tolist(),
        "plots": [],
        "notes": ["The choice was made on validation data; the test data were used once."],
        "config": {"epochs": 15, "batch_size": 100, "lr": 0.001, "hidden": [10, 30, 100], "seeds": seeds},
        "environment": ENVIRONMENT,
    }


def _pictures(rng, count, shape):
    """Strokes and blobs that look a little like what is being classified."""
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width]
    pictures = []
    for _ in range(count):
        angle, radius = rng.uniform(0, np.pi), rng.uniform(0.15, 0.35) * width
        distance = np.abs(np.hypot(y - height / 2, (x - width / 2) * (1 + np.sin(angle))) - radius)
        ink = np.clip(255 * np.exp(-((distance / (0.07 * width)) ** 2)), 0, 255)
        if len(shape) == 3:
            ink = ink[:, :, None] * rng.uniform(0.2, 1, 3) + 60 * rng.random(3)
        pictures.append(np.clip(ink, 0, 255).astype(np.uint8).tolist())
    return pictures


def _answer(question, title, model, data, plots, notes):
    return {
        "question": question,
        "title": title,
        "model": model,
        **data,
        "test_accuracy": None,
        "reported": None,
        "target": None,
        "chosen": {},
        "mean": None,
        "std": None,
        "n_seeds": 1,
        "seeds": [],
        "seconds": 21.0,
        "search": [],
        "history": {},
        "classes": list(DIGITS),
        "confusion": None,
        "misclassified": None,
        "filters": None,
        "plots": plots,
        "notes": notes,
        "config": {"depth": 5, "steps": 400},
        "environment": ENVIRONMENT,
    }


def _plot(title, caption, x_label, y_label, series, x_scale="linear", y_scale="linear"):
    lines = [{"label": label, "x": np.asarray(x).tolist(), "y": np.asarray(y).tolist()} for label, x, y in series]
    return {
        "title": title,
        "caption": caption,
        "x_label": x_label,
        "y_label": y_label,
        "x_scale": x_scale,
        "y_scale": y_scale,
        "series": lines,
    }


def _sigmoid(rng, data):
    steps = np.arange(0, 401, 10)
    layers = np.arange(1, 9)
    return _answer(
        "7.1",
        "Why the sigmoid makes deep networks hard to train",
        "eight hidden layers of 64, sigmoid against ReLU",
        data,
        [
            _plot(
                "Training loss",
                "Eight hidden layers, the same initial weights up to the activation's gain.",
                "step",
                "loss",
                [
                    ("sigmoid", steps, 2.3 - 0.3 * steps / 400),
                    ("tanh", steps, 2.3 * np.exp(-steps / 140) + 0.1),
                    ("ReLU", steps, 2.3 * np.exp(-steps / 80) + 0.08),
                ],
            ),
            _plot(
                "Gradient size by layer",
                "Mean absolute gradient of each layer's weights at the first step.",
                "layer",
                "mean |∂L/∂W|",
                [
                    ("sigmoid", layers, 4.0**layers * 1e-8),
                    ("tanh", layers, 1.4**layers * 1e-4),
                    ("ReLU", layers, 1.1**layers * 5e-4),
                ],
                y_scale="log",
            ),
            _plot(
                "Path of two weights",
                "All-positive activations give both weights' gradients one sign: the path zig-zags.",
                "w₁",
                "w₂",
                [
                    ("sigmoid inputs", np.cumsum([1, 0, 1, 0, 1, 0]), np.cumsum([0, 1, 0, 1, 0, 1])),
                    ("zero-mean inputs", [1, 2, 3, 3.4], [0, 0.8, 1.8, 3]),
                ],
            ),
        ],
        [
            "Of a sigmoid layer's outputs 100 % are positive; of a ReLU layer's 49 %.",
            "The first layer's gradient is 16,000 times smaller than the last one's under the sigmoid.",
        ],
    )


def _dropout(rng, data):
    keep = [0.2, 0.4, 0.6, 0.8, 1.0]
    return _answer(
        "7.2",
        "Dropout at inference: y = W(x·p)",
        "784–256–10 with vanilla and inverted dropout",
        data,
        [
            _plot(
                "Test accuracy against keep probability",
                "",
                "keep probability p",
                "test accuracy",
                [
                    ("vanilla, scaled at inference", keep, [0.95, 0.968, 0.974, 0.976, 0.975]),
                    ("vanilla, not scaled", keep, [0.61, 0.88, 0.951, 0.971, 0.975]),
                    ("inverted", keep, [0.951, 0.967, 0.975, 0.976, 0.975]),
                ],
            )
        ],
        ["Without the factor p the pre-activations at inference are 1/p times those of training."],
    )


def _divergence(rng, data):
    steps = list(range(0, 200, 5))
    rates = [0.001, 0.01, 0.1, 1.0]
    return _answer(
        "7.3",
        "The loss falls, then diverges",
        "784–256–10, SGD with momentum",
        data,
        [
            _plot(
                "Loss at four learning rates",
                "The curve ends where the loss was no longer finite.",
                "step",
                "loss",
                [
                    ("lr 0.01", steps, [2.3 * 0.98**step for step in steps]),
                    ("lr 0.1", steps, [2.3 * 0.95**step + 0.1 for step in steps]),
                    ("lr 3", steps, [2.3 + 1.08**step if step < 120 else None for step in steps]),
                ],
                y_scale="log",
            ),
            _plot(
                "Final loss against learning rate",
                "",
                "learning rate",
                "loss after 200 steps",
                [("batch 10", rates, [0.5, 0.2, 0.9, None]), ("batch 100", rates, [0.6, 0.15, 0.1, 0.8])],
                x_scale="log",
                y_scale="log",
            ),
        ],
        ["Lowering the learning rate from 3 to 0.1 removes the divergence."],
    )
