"""Owns the Dataset that every loader returns, and the errors of data that are missing or unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from pynn.text import clean

__all__ = ["DataError", "DataNotFound", "Dataset", "reading"]


Part = tuple[np.ndarray, np.ndarray]


class DataError(ValueError):
    """Data are missing, or a file does not hold what it should; the message names it.

    It is one printable line below 300 characters, whatever the files and labels that it names are called.
    """

    def __init__(self, message: str = ""):
        super().__init__(clean(message, 299))


class DataNotFound(DataError):
    """A data set is in none of the places looked at and could not be downloaded."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training, validation and test data of one classification problem.

    x_* : (N, C, H, W) uint8 images, or float32 of shape (N, D) for features or (N, C, H, W) for images
    y_* : (N,) int64, class indices 0 … K−1
    classes : the K class names in the order of their indices
    origin : "real" (the data set named), or "embedded" (a small set that comes with pynn)
    citation : where the data come from
    note : why this data set stands in for another one; otherwise empty
    value_range : of images, the values of black and white, as (0, 255); None where they are not known

    Validation and test parts may be empty. Raises DataError where the parts do not fit each other.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]
    origin: str
    citation: str
    note: str = ""
    value_range: tuple[float, float] | None = None

    @classmethod
    def from_parts(
        cls,
        name: str,
        train: Part,
        val: Part,
        test: Part,
        *,
        classes: tuple[str, ...],
        origin: str,
        citation: str,
        value_range: tuple[float, float] | None = None,
    ) -> Dataset:
        """The data set of three parts (x, y)."""
        return cls(name, *train, *val, *test, classes, origin, citation, value_range=value_range)

    def __post_init__(self):
        if not len(self.x_train):
            raise DataError(f"{clean(self.name, 60)}: there are no training samples")
        for part in ("train", "val", "test"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            if x.shape[1:] != self.input_shape or x.dtype != self.x_train.dtype:
                raise DataError(
                    f"{clean(self.name, 60)}: expected x_{part} of {self.x_train.dtype} samples of shape "
                    f"{self.input_shape} as in x_train, got {x.dtype} samples of shape {x.shape[1:]}"
                )
            if y.shape != (len(x),):
                raise DataError(
                    f"{clean(self.name, 60)}: expected a label for each of {len(x)} {part} samples, got {y.shape}"
                )
            if len(y) and (y.min() < 0 or y.max() >= len(self.classes)):
                raise DataError(
                    f"{clean(self.name, 60)}: expected labels from 0 to {len(self.classes) - 1}, "
                    f"got {y.min()} to {y.max()} in y_{part}"
                )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W) or (D,)."""
        return self.x_train.shape[1:]

    def describe(self) -> str:
        """One line of what is in it: the samples of each part and of each class, and which classes a part lacks.

        Of more than a dozen classes it names the three largest and the three smallest.
        """
        labels = {"training": self.y_train, "validation": self.y_val, "test": self.y_test}
        counts = np.array([np.bincount(y, minlength=len(self.classes)) for y in labels.values()])
        names = [clean(name, 24) for name in self.classes]
        used = counts.sum(axis=1) > 0

        def listed(indices) -> str:
            return ", ".join(f"{names[k]} {'+'.join(map(str, counts[used, k]))}" for k in indices)

        def some(indices) -> str:
            more = f" and {len(indices) - 3} other classes" if len(indices) > 3 else ""
            return ", ".join(names[k] for k in indices[:3]) + more

        order = np.argsort(-counts.sum(axis=0), kind="stable")
        few = len(names) <= 12
        each = listed(range(len(names))) if few else f"{listed(order[:3])}, …, {listed(order[-3:])}"
        sums = ", ".join(f"{row.sum():,} {part}" for part, row in zip(labels, counts, strict=True))
        size = "×".join(map(str, self.input_shape))
        line = f"{clean(self.name, 40)}: {sums} samples of {size} in {len(names):,} classes: {each}"
        for part, row in zip(labels, counts, strict=True):
            if row.any() and not row.all():
                line += f"; no {part} sample of {some(np.flatnonzero(row == 0))}"
        return line

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}, {self.origin}: {len(self.y_train)} train, {len(self.y_val)} val, "
            f"{len(self.y_test)} test, {len(self.classes)} classes, "
            f"{self.x_train.dtype} samples of shape {self.input_shape})"
        )


@contextmanager
def reading(path, kind: str, remedy: str = "") -> Iterator[None]:
    """Turns whatever goes wrong while the file at `path` is decoded into one DataError sentence that names it.

    Every Exception is meant: given hostile bytes, the decoders used (zlib, zipfile, NumPy, Pillow) raise many
    kinds, and all of them mean that the file is not a readable `kind`; but for MemoryError, which says so.
    `remedy` ends the sentence where the content was at fault, and not the system.
    """
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{clean(path)}: there is not enough memory to read this {kind}") from error
    except Exception as error:
        system = error.strerror if isinstance(error, OSError) else None
        reason = clean(system or error, 110) or type(error).__name__
        ending = f": {remedy}" if remedy and not system else ""
        raise DataError(f"{clean(path)}: not a readable {kind}: {reason}{ending}") from error
