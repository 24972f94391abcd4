"""Owns .npz files: reading them safely, and a user's own data from one."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib import format as npy

from pynn.data.dataset import DataError, Dataset, reading
from pynn.data.splits import assemble, class_indices

if TYPE_CHECKING:
    import zipfile

__all__ = ["load_npz", "read_npz", "samples"]

# One byte of a deflate stream gives at most 1032 bytes (258-byte matches at 2 bits each), so a header that claims
# more than this many times the member's size is false, and is refused before any memory is allocated for it.
_MAX_DEFLATE_RATIO = 1032


def read_npz(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; object arrays (pickles) are refused.

    Each header is checked against the file's size before memory is allocated. Raises DataError where the file is
    none, or holds anything else than arrays.
    """
    import zipfile

    with reading(path, ".npz file", "get it again or write it with numpy.savez"), zipfile.ZipFile(path) as archive:
        return {
            member.filename.removesuffix(".npy"): _read_member(archive, member) for member in archive.infolist()
        }


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        version = npy.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"{member.filename} has the .npy version {version}, which only odd field names need")
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if dtype.hasobject:
            raise ValueError(f"{member.filename} holds Python objects: save numbers or strings (dtype {dtype})")
        size, largest = math.prod(shape) * dtype.itemsize, member.compress_size * _MAX_DEFLATE_RATIO
        if (
            min(shape, default=0) < 0
            or not dtype.itemsize
            or not stream.tell() + size == member.file_size <= largest
        ):
            raise ValueError(f"{member.filename} claims {size:,} bytes, which it does not hold")
    with archive.open(member) as stream:
        return npy.read_array(stream, allow_pickle=False)


def load_npz(
    path: str | os.PathLike, *, val_fraction: float = 0.1, test_fraction: float = 0.1, seed: int = 0
) -> Dataset:
    """A user's own data: arrays x_train, y_train and, where there, x_val, y_val, x_test, y_test; or X and y.

    x : (N, D) numbers, which become float32; or images (N, H, W) or (N, C, H, W), uint8 or else float32
    y : (N,) integers or strings of any kind: the classes are their sorted distinct values

    Parts that the file lacks are split off the training part: `val_fraction` and `test_fraction` of it, each class
    alike, by a generator seeded with `seed`. Raises DataError where the file or its arrays do not fit.
    """
    arrays = read_npz(path)
    if "x_train" in arrays:
        names = {part: (f"x_{part}", f"y_{part}") for part in ("train", "val", "test")}
        names = {
            part: pair for part, pair in names.items() if part == "train" or not arrays.keys().isdisjoint(pair)
        }
    else:
        names = {"train": ("X", "y")}
    if missing := [name for pair in names.values() for name in pair if name not in arrays]:
        raise DataError(
            f"{path}: {' and '.join(missing)} missing (expected x_train and y_train, or X and y), "
            f"the file has {', '.join(arrays) or 'nothing'}"
        )
    x = {part: samples(arrays[pair[0]], pair[0], path) for part, pair in names.items()}
    for part, pair in names.items():
        if len(arrays[pair[1]].shape) and len(x[part]) != len(arrays[pair[1]]):
            raise DataError(
                f"{path}: {pair[0]} has {len(x[part])} samples, but {pair[1]} {len(arrays[pair[1]])} labels"
            )
    y, classes = class_indices({part: arrays[pair[1]] for part, pair in names.items()}, str(path))
    parts = {part: (x[part], y[part]) for part in x}
    return assemble(Path(path).stem, parts, classes, (val_fraction, test_fraction), seed, citation=str(path))


def samples(x: np.ndarray, name: str, path) -> np.ndarray:
    """The array `x`, called `name` in the file at `path`, as (N, D) float32 or (N, C, H, W) uint8 or float32.

    Raises DataError where it is neither features nor images, or not finite.
    """
    if x.dtype.kind not in "biuf" or x.ndim not in (2, 3, 4) or 0 in x.shape[1:]:
        raise DataError(
            f"{path}: expected {name} to be numbers of shape (N, D), (N, H, W) or (N, C, H, W), "
            f"got {x.dtype} {x.shape}"
        )
    if x.ndim == 4 and min(x.shape[1:3]) > 4 and x.shape[3] in (1, 3, 4):
        raise DataError(
            f"{path}: expected {name} of shape (N, C, H, W), got {x.shape}, whose channels come last: "
            f"save np.moveaxis({name}, 3, 1)"
        )
    if x.ndim == 3:
        x = x[:, np.newaxis]
    if x.dtype == np.uint8 and x.ndim == 4:
        return x
    with np.errstate(over="ignore"):  # what overflows is refused in the next line
        x = x.astype(np.float32)
    if bad := int(np.count_nonzero(~np.isfinite(x))):
        raise DataError(f"{path}: {name} has {bad} values that are not finite in float32: remove or replace them")
    return x
