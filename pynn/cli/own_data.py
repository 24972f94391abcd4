"""Owns `pynn train` and `pynn predict`: a classifier of a user's own images or features, in one model file.

The file's metadata hold the class names, the shape of a sample and the standardisation of the training data, so
that `predict` needs nothing else.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pynn import models
from pynn.cli.errors import UsageError
from pynn.data import Dataset, Standardize, load_image_folder, load_npz
from pynn.data.image_folder import MAX_SIDE, read_image, require_pillow
from pynn.data.npz import read_npz, samples
from pynn.files import check_writable, write_atomic
from pynn.io import ModelFileError, load, load_metadata, require_safetensors, save
from pynn.layers import BatchNorm1d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from pynn.losses import CrossEntropyLoss
from pynn.module import Module
from pynn.optim import AdamW, decay_groups
from pynn.schedules import OneCycle
from pynn.solver import Solver

__all__ = ["image_network", "predict", "train"]

BATCH = 256  # images that `predict` holds in memory at a time


def train(arguments) -> None:
    """Trains on `arguments.data` and writes the model file; the test part is used once, at the end."""
    require_safetensors()
    check_writable(arguments.out)
    data = _training_data(arguments)
    rng = np.random.default_rng(arguments.seed)
    model = _network(arguments.model, data, arguments.hidden, rng)
    standardize = Standardize.from_data(data.x_train)
    solver = Solver(
        model,
        CrossEntropyLoss(),
        AdamW(decay_groups(model, weight_decay=0.01), arguments.lr),
        batch_size=arguments.batch_size,
        schedule=OneCycle(),
        transform=standardize,
        rng=rng,
    )
    validation_data = (data.x_val, data.y_val) if len(data.y_val) else None
    try:
        solver.fit(data.x_train, data.y_train, epochs=arguments.epochs, validation_data=validation_data)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"no model was written, {arguments.out} is as it was") from None
    metadata = {
        "classes": data.classes,
        "input_shape": data.input_shape,
        "standardize": standardize.config(),
        "trained_on": {"data": data.name, "seed": arguments.seed, "epochs": arguments.epochs, "lr": arguments.lr},
    }
    save(model, arguments.out, metadata=metadata)
    if len(data.y_test):
        try:
            accuracy = solver.evaluate(data.x_test, data.y_test)["accuracy"]
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"the model is {arguments.out}, its test accuracy is not known") from None
        print(f"Test accuracy {100 * accuracy:.2f} % on {len(data.y_test)} samples of {data.name}.")
    print(f"The model is {arguments.out}.")


def predict(arguments) -> None:
    """Writes one CSV row for each sample: its file or row, the most probable class and its probability."""
    if arguments.out is not None:
        check_writable(arguments.out)
    model, classes, input_shape, standardize = _trained(arguments.model)
    kind, batches = _inputs(arguments.input, input_shape)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([kind, "class", "probability"])
    for names, x in batches:
        scores = model(standardize(x))
        if wrong := np.flatnonzero(~np.isfinite(scores).all(axis=1)).tolist():
            raise ModelFileError(
                f"{arguments.model} gives no finite scores for {kind} {names[wrong[0]]} of {arguments.input}: "
                "the model file is damaged, or the sample is far from the training data"
            )
        probabilities = _softmax(scores)
        best = probabilities.argmax(axis=1)
        for name, label, row in zip(names, best, probabilities, strict=True):
            writer.writerow([name, classes[label], f"{row[label]:.4f}"])
    if arguments.out is None:
        sys.stdout.write(table.getvalue())
    else:
        write_atomic(arguments.out, table.getvalue())
        print(f"The predictions are in {arguments.out}.")


# -- training -----------------------------------------------------------------------------------------------


def _training_data(arguments) -> Dataset:
    path = arguments.data
    if path.is_dir():
        size, grayscale = arguments.image_size, arguments.grayscale
        if size is not None and size > MAX_SIDE:
            raise UsageError(f"--image-size {size}: expected a whole number from 1 to {MAX_SIDE}")
        return load_image_folder(path, image_size=size, grayscale=grayscale, seed=arguments.seed)
    if arguments.image_size is not None or arguments.grayscale:
        raise UsageError("--image-size and --grayscale are for a folder of images")
    if not path.is_file():
        raise UsageError(f"there is no file or folder {path}: give an .npz file, or a folder with images by class")
    return load_npz(path, seed=arguments.seed)


def _network(kind: str | None, data: Dataset, hidden: int, rng: np.random.Generator) -> Sequential:
    shape, n_classes = data.input_shape, len(data.classes)
    images = len(shape) == 3
    if kind == "cnn" and not images:
        raise UsageError(
            f"--model cnn needs images, {data.name} has {shape[0]} features a sample: use --model mlp"
        )
    if images and kind != "mlp":
        return image_network(shape, hidden, n_classes, rng=rng)
    mlp = models.mlp(math.prod(shape), hidden, n_classes, rng=rng)
    return Sequential(Flatten(), *mlp, input_shape=shape) if images else mlp


def image_network(input_shape: tuple[int, ...], hidden: int, n_classes: int, *, rng=None) -> Sequential:
    """Blocks Conv 3×3 – BN – ReLU, halved by max-pools until a side is below 8; FC – BN – ReLU – Dropout – FC.

    The first block has 16 channels, each later one twice as many, up to 64: 28×28 images take three blocks.
    """
    layers: list[Module] = []
    channels, height, width = input_shape
    filters = 16
    while True:
        layers += [Conv2d(channels, filters, 3, padding=1, bias=False, rng=rng), BatchNorm2d(filters), ReLU()]
        if min(height, width) < 8:
            break
        layers.append(MaxPool2d(2))
        height, width = height // 2, width // 2
        channels, filters = filters, min(2 * filters, 64)
    return Sequential(
        *layers,
        Flatten(),
        Linear(filters * height * width, hidden, bias=False, rng=rng),
        BatchNorm1d(hidden),
        ReLU(),
        Dropout(0.5, rng=rng),
        Linear(hidden, n_classes, rng=rng),
        input_shape=input_shape,
    )


# -- prediction ---------------------------------------------------------------------------------------------


def _trained(path: Path) -> tuple[Module, list[str], tuple[int, ...], Standardize]:
    """The model, and what `train` kept with it."""
    model, metadata = load(path), load_metadata(path)
    try:
        classes = [str(name) for name in metadata["classes"]]
        input_shape = tuple(int(size) for size in metadata["input_shape"])
        standardize = Standardize.from_config(metadata["standardize"])
        fits = model.output_shape(input_shape) == (len(classes),) and len(standardize.mean) == input_shape[0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} lacks what `pynn train` keeps with a model: train it by that") from error
    if not fits:
        raise ModelFileError(f"{path} has metadata of another model: train it again")
    return model, classes, input_shape, standardize


def _inputs(path: Path, input_shape: tuple[int, ...]) -> tuple[str, Iterator[tuple[Sequence, np.ndarray]]]:
    """("file" or "row", batches of (names, x)) of what is at `path`."""
    if path.suffix.lower() == ".npz" and path.is_file():
        x = _array(path, input_shape)
        rows = range(0, len(x), BATCH)
        return "row", ((range(at, min(at + BATCH, len(x))), x[at : at + BATCH]) for at in rows)
    files = sorted(file for file in path.rglob("[!.]*") if file.is_file()) if path.is_dir() else [path]
    require_pillow()
    if not path.exists() or not files:
        raise UsageError(f"there are no data at {path}: give an .npz file, an image or a folder of images")
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise UsageError(
            f"the model takes samples of shape {input_shape}, which images are not: give an .npz file"
        )
    return "file", _image_batches(files, input_shape)


def _array(path: Path, input_shape: tuple[int, ...]) -> np.ndarray:
    """The samples in an .npz file: its X, else its x_test, else its only array."""
    arrays = read_npz(path)
    found = [name for name in arrays if name in ("X", "x_test")] or list(arrays)
    if len(found) != 1 and "X" not in found:
        raise UsageError(f"{path}: expected an array X, got {', '.join(arrays) or 'nothing'}")
    name = "X" if "X" in found else found[0]
    x = samples(arrays[name], name, path)
    if x.shape[1:] != input_shape:
        raise UsageError(f"{path}: the model takes samples of shape {input_shape}, {name} has {x.shape[1:]}")
    return x


def _image_batches(files: list[Path], input_shape: tuple[int, ...]) -> Iterator[tuple[Sequence, np.ndarray]]:
    """The images, resized to what the model takes."""
    channels, height, width = input_shape
    for at in range(0, len(files), BATCH):
        names = files[at : at + BATCH]
        yield names, np.stack([read_image(file, (height, width), grayscale=channels == 1) for file in names])


def _softmax(scores: np.ndarray) -> np.ndarray:
    """exp(sₖ) / Σ exp(sⱼ) for scores (N, K)."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
