"""Owns how large data are before they are read: their number, shape and bytes, from names and headers alone."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from pynn.data.arrays import array_names, sample_shape
from pynn.data.image_folder import ImageFolder, as_size
from pynn.data.images import image_size_of, require_pillow
from pynn.data.npz import open_npz

__all__ = ["DataSize", "data_size"]


@dataclass(frozen=True)
class DataSize:
    """Number, shape and dtype of all samples of a data set."""

    samples: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that the samples take in memory."""
        return self.samples * math.prod(self.shape) * self.dtype.itemsize


def data_size(
    path: str | os.PathLike, *, image_size: int | tuple[int, int] | None = None, grayscale: bool = False
) -> DataSize:
    """What `load_npz` or `load_image_folder` would make of `path`, an .npz file or a folder; nothing is decoded.

    Features count as float64, which is what they take at most. Raises DataError as these do.
    """
    if os.path.isdir(path):  # False, where Path would raise, for a name too long
        require_pillow()
        size = as_size(image_size)
        files = ImageFolder.scan(path).files
        height, width = size or image_size_of(files["train"][0])
        return DataSize(sum(map(len, files.values())), (1 if grayscale else 3, height, width), np.dtype(np.uint8))
    with open_npz(path) as archive:
        headers = {name: archive.header(name) for name, _ in array_names(archive.names, path).values()}
        shapes = {name: sample_shape(header, name, path) for name, header in headers.items()}
        first = next(iter(headers))
        images = len(shapes[first]) == 3
        dtype = np.uint8 if images and headers[first].dtype == np.uint8 else np.float32 if images else np.float64
        return DataSize(sum(header.shape[0] for header in headers.values()), shapes[first], np.dtype(dtype))
