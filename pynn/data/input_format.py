"""Owns in which form a model takes its samples, so that later ones are brought into the form of the training data.

The form is kept in the model's file. Without it a model trained on images of 0 … 1 would be given the 0 … 255 of a
photograph, and answer with the same certainty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pynn.data.dataset import DataError, Dataset
from pynn.text import clean
from pynn.values import as_float, is_integer, is_number

if TYPE_CHECKING:
    from pynn.data.transforms import Standardize

__all__ = ["InputFormat", "value_range"]

_RANGES = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))  # what images are commonly kept in


def value_range(x: np.ndarray) -> tuple[float, float] | None:
    """The values of black and white in images (N, C, H, W): (0, 255), (0, 1) or (−1, 1).

    None where it cannot be told: for features, and for images whose values fill none of the ranges by half, as
    standardised ones or grey levels 0 … 16.
    """
    if x.ndim != 4 or not x.size:
        return None
    low, high = float(x.min()), float(x.max())
    for black, white in _RANGES[1:]:
        if black <= low and high <= white and high > (black + white) / 2 and (black == 0 or low < -0.5):
            return black, white
    return (0.0, 255.0) if low >= 0 and 127 < high <= 255 else None


@dataclass(frozen=True)
class InputFormat:
    """What a model's samples look like.

    shape : (C, H, W) of images or (D,) of features
    value_range : the values of black and white, (0, 255), (0, 1) or (−1, 1); None where they are not known
    seen : the least and the largest value of the training images, (0, 0) for features

    Transparent parts of images lie on white, in training and prediction alike. Raises ValueError where it is none.
    """

    shape: tuple[int, ...]
    value_range: tuple[float, float] | None = None
    seen: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        if len(self.shape) not in (1, 3) or not all(is_integer(n) and 0 < n < 2**31 for n in self.shape):
            raise ValueError(f"InputFormat: expected a shape (C, H, W) or (D,), got {clean(self.shape)}")
        if self.value_range is not None and self.value_range not in _RANGES:
            raise ValueError(f"InputFormat: value_range must be one of {_RANGES}, got {clean(self.value_range)}")
        low, high = self.seen if len(self.seen) == 2 else (1, 0)
        if not (is_number(low) and is_number(high) and -np.inf < as_float(low) <= as_float(high) < np.inf):
            raise ValueError(f"InputFormat: expected the least and largest value, got {clean(self.seen)}")

    @classmethod
    def of(cls, data: Dataset) -> InputFormat:
        """The form of a data set's training samples."""
        x = data.x_train
        seen = (float(x.min()), float(x.max())) if x.ndim == 4 else (0.0, 0.0)
        return cls(tuple(data.input_shape), data.value_range, seen)

    @classmethod
    def guessed(cls, shape: tuple[int, ...], standardize: Standardize) -> InputFormat:
        """The form that the mean of training images tells of, for model files without it."""
        mean, std = standardize.mean, standardize.std
        if len(shape) == 3 and (mean >= 0).all() and mean.max() > 2 and mean.max() <= 255:
            return cls(tuple(shape), (0.0, 255.0), (0.0, 255.0))
        if len(shape) == 3 and (mean >= 0).all() and mean.max() < 1 and std.max() <= 0.5:
            return cls(tuple(shape), (0.0, 1.0), (0.0, 1.0))
        return cls(tuple(shape))

    def config(self) -> dict:
        """The form as JSON values."""
        return {
            "shape": list(self.shape),
            "value_range": None if self.value_range is None else list(self.value_range),
            "seen": list(self.seen),
            "background": "white",
        }

    @classmethod
    def from_config(cls, config: dict) -> InputFormat:
        """The form that `config` gave; ValueError where it is none."""
        keys = {"shape", "value_range", "seen", "background"}
        if not isinstance(config, dict) or config.keys() != keys or config["background"] != "white":
            raise ValueError(f"InputFormat: expected {', '.join(sorted(keys))}, got {clean(config)}")
        shape, values, seen = config["shape"], config["value_range"], config["seen"]
        if not all(isinstance(each, list) for each in (shape, seen, [] if values is None else values)):
            raise ValueError(f"InputFormat: expected lists of numbers, got {clean(config)}")
        return cls(tuple(shape), None if values is None else tuple(values), tuple(seen))

    def describe(self) -> str:
        """The form in words, for a summary."""
        if len(self.shape) == 1:
            return f"{self.shape[0]} features"
        channels, height, width = self.shape
        colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        values = "" if self.value_range is None else "values {:g} to {:g}, ".format(*self.value_range)
        return f"{height}×{width} pixels, {colour}, {values}transparent parts on white"

    def image(self, path) -> np.ndarray:
        """The image file at `path` as (C, H, W), resized, grey or colour, in the values of the training data.

        Raises DataError where it is no image, or where an image cannot be brought into the model's form.
        """
        from pynn.data.images import read_image

        if len(self.shape) != 3 or self.shape[0] not in (1, 3):
            raise DataError(
                f"{clean(path)}: the model takes samples of shape {self.shape}, which images are not: "
                "give an .npz file"
            )
        if self.value_range is None:
            raise DataError(
                f"{clean(path)}: the model was trained on values from {self.seen[0]:g} to {self.seen[1]:g}, "
                "which image files do not have: give an .npz file with such values"
            )
        return self._scaled(read_image(path, self.shape[1:], grayscale=self.shape[0] == 1))

    def array(self, x: np.ndarray, name: str, path) -> np.ndarray:
        """The samples `x`, called `name` in the file at `path`, in the values of the training data.

        Bytes 0 … 255 are scaled where the model takes 0 … 1 or −1 … 1. Raises DataError for another shape, and for
        images whose values are evidently of another scale.
        """
        if x.shape[1:] != self.shape:
            raise DataError(
                f"{clean(path)}: the model takes samples of shape {self.shape}, {name} has {x.shape[1:]}"
            )
        if x.ndim != 4 or not x.size or (x.dtype == np.uint8 and self.value_range == _RANGES[0]):
            return x
        low, high = float(x.min()), float(x.max())
        if x.dtype == np.uint8 and self.value_range is not None and high > 1:
            return self._scaled(x)
        least, largest = self.value_range or self.seen
        slack = largest - least  # noise and augmentation go beyond, by less than this
        outside = low < least - slack or high > largest + slack
        unit = self.value_range == _RANGES[0] and 0 <= low < high <= 1
        half = self.value_range == _RANGES[2] and 0 <= low < high <= 1
        if outside or unit or half:
            raise DataError(
                f"{clean(path)}: {name} has values from {low:g} to {high:g}, but the model was trained on "
                f"{least:g} to {largest:g}: bring them to that scale"
            )
        return x

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        """Bytes in the values of the training data: black + x / 255 · (white − black)."""
        black, white = self.value_range or _RANGES[0]
        if (black, white) == _RANGES[0]:
            return x
        return np.float32(black) + x / np.float32(255) * np.float32(white - black)
