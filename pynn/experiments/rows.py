"""Owns the rows of results.json: what `pynn.report.results` describes, as plain JSON values."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from pynn import environment
from pynn.experiments.protocol import Result, Split
from pynn.layers import Conv2d, Linear
from pynn.metrics import confusion_matrix
from pynn.module import Module

__all__ = ["Question", "accuracy_row", "first_layer_filters", "measurement_row", "misclassified"]

PICTURES = 24  # misclassified images, and filters, kept in a row


@dataclass(frozen=True)
class Question:
    """What is known of a question before any run; accuracies as fractions, of the course's data set."""

    number: str
    title: str
    reported: float | None = None
    target: float | None = None


def accuracy_row(question: Question, model: str, split: Split, result: Result, config, notes: list[str]) -> dict:
    """The row of a question that ends in a test accuracy; `model` in one line, `config` a dataclass."""
    trained = result.solver.model
    return _row(question, model, split, config, result.seconds) | {
        "test_accuracy": result.accuracies[0],
        "chosen": result.chosen,
        "mean": result.mean,
        "std": result.std,
        "n_seeds": len(result.accuracies),
        "seeds": result.accuracies,
        "search": result.search,
        "history": result.history,
        "confusion": confusion_matrix(result.y_test, result.predicted, len(split.classes)).tolist(),
        "misclassified": misclassified(result.x_test, result.y_test, result.predicted),
        "filters": first_layer_filters(trained, split.input_shape),
        "notes": _data_notes(split) + notes,
    }


def measurement_row(
    question: Question, model: str, split: Split, config, seconds: float, plots: list[dict], notes: list[str]
) -> dict:
    """The row of a question that is answered by plots and sentences about them."""
    return _row(question, model, split, config, seconds) | {"plots": plots, "notes": _data_notes(split) + notes}


def _row(question: Question, model: str, split: Split, config, seconds: float) -> dict:
    return {
        "question": question.number,
        "title": question.title,
        "model": model,
        "dataset": split.name,
        "origin": split.origin,
        "n_train": len(split.x_train),
        "n_val": len(split.x_val),
        "n_test": len(split.test),
        "test_accuracy": None,
        "reported": question.reported,
        "target": question.target,
        "chosen": {},
        "mean": None,
        "std": None,
        "n_seeds": 0,
        "seeds": [],
        "seconds": seconds,
        "search": [],
        "history": {},
        "confusion": None,
        "classes": list(split.classes),
        "misclassified": None,
        "filters": None,
        "plots": [],
        "notes": [],
        "config": asdict(config),
        "environment": environment.describe(),
    }


def _data_notes(split: Split) -> list[str]:
    return [split.note] if split.note else []


def misclassified(x: np.ndarray, y: np.ndarray, predicted: np.ndarray) -> dict | None:
    """The first misclassified uint8 images, with their true and predicted classes; None where x are no images."""
    if x.ndim != 4 or x.dtype != np.uint8:
        return None
    wrong = np.flatnonzero(y != predicted)[:PICTURES]
    return {
        "images": [_picture(image).tolist() for image in x[wrong]],
        "true": y[wrong].tolist(),
        "predicted": predicted[wrong].tolist(),
    }


def first_layer_filters(model: Module, input_shape: tuple[int, ...]) -> list | None:
    """The first layer's weights as pictures (F, H, W) or (F, H, W, 3): kernels, or a linear layer's columns.

    At most 24 of them, rounded to 4 decimals; None where the input is no image.
    """
    if len(input_shape) != 3:
        return None
    first = next(module for _, module in model.named_modules() if isinstance(module, Conv2d | Linear))
    weight = first.weight.data
    if isinstance(first, Linear):
        weight = weight.T.reshape(-1, *input_shape)
    return [_picture(kernel).round(4).tolist() for kernel in weight[:PICTURES].astype(np.float64)]


def _picture(image: np.ndarray) -> np.ndarray:
    """(C, H, W) as (H, W) or (H, W, C)."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)
