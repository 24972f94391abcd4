"""Owns MNIST and Fashion-MNIST: four IDX files each, plain or gzip."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from pynn.data.dataset import DataError, Dataset
from pynn.data.idx import idx_shape, read_idx
from pynn.data.locate import RemoteFile, find
from pynn.data.splits import tail
from pynn.text import clean

__all__ = ["load_fashion_mnist", "load_mnist"]

_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# The two sets share their file names: the first test labels tell a folder of the one from a folder of the other.
_FIRST_TEST_LABELS = {"MNIST": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "Fashion-MNIST": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}


def _remote(sizes: tuple[int, ...], md5s: tuple[str, ...], mirrors: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{name}.gz", size, f"md5:{md5}", tuple(f"{mirror}/{name}.gz" for mirror in mirrors))
        for name, size, md5 in zip(_FILES, sizes, md5s, strict=True)
    )


MNIST_FILES = _remote(
    (9_912_422, 28_881, 1_648_877, 4_542),
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://sagemaker-sample-files.s3.amazonaws.com/datasets/image/MNIST",
    ),
)
FASHION_MNIST_FILES = _remote(
    (26_421_880, 29_515, 4_422_102, 5_148),
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    ),
)


def load_mnist(data_dir=None, *, val_fraction: float = 0.1, download: bool = True) -> Dataset:
    """MNIST: 60,000 + 10,000 grey 28×28 images of handwritten digits, uint8 (N, 1, 28, 28).

    Looked for in `mnist/` of, or directly in, `data_dir`, else PYNN_DATA, the cache, a download. The last
    `val_fraction` of the training rows are the validation part. Raises DataNotFound or DataError.

    Source: Y. LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86(11), 1998.
    """
    return _load(
        "MNIST",
        "mnist",
        MNIST_FILES,
        tuple("0123456789"),
        "Y. LeCun, C. Cortes, C. Burges: the MNIST database of handwritten digits",
        data_dir,
        val_fraction,
        download,
    )


def load_fashion_mnist(data_dir=None, *, val_fraction: float = 0.1, download: bool = True) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 grey 28×28 images of clothes, uint8 (N, 1, 28, 28).

    Looked for in `fashion-mnist/` of, or directly in, `data_dir`, else PYNN_DATA, the cache, a download. The last
    `val_fraction` of the training rows are the validation part. Raises DataNotFound or DataError.

    Source: H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747.
    """
    return _load(
        "Fashion-MNIST",
        "fashion-mnist",
        FASHION_MNIST_FILES,
        ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv:1708.07747",
        data_dir,
        val_fraction,
        download,
    )


def _load(name, folder, remote, classes, citation, data_dir, val_fraction, download) -> Dataset:
    paths = find(
        name,
        f"the files {_FILES[0]} to {_FILES[-1]}, plain or .gz,",
        functools.partial(_look, folder),
        data_dir,
        remote=remote,
        folder=folder,
        allow_download=download,
    )
    x, y = _read_pair(*paths[:2])
    x_test, y_test = _read_pair(*paths[2:])
    for other, labels in _FIRST_TEST_LABELS.items():
        if other != name and y_test[: len(labels)].tolist() == labels:
            raise DataError(f"{paths[3].parent}: this is {other}, not {name}: move it to a folder of its own")
    train, val = tail(len(x), val_fraction)
    parts = (x[train], y[train]), (x[val], y[val]), (x_test, y_test)
    return Dataset.from_parts(
        name, *parts, classes=classes, origin="real", citation=citation, value_range=(0.0, 255.0)
    )


def _look(folder: str, place: Path) -> list[Path] | None:
    for base in (place / folder, place):
        found = [path for name in _FILES for path in (base / name, base / f"{name}.gz") if path.is_file()]
        paths = {path.name.removesuffix(".gz"): path for path in reversed(found)}  # a plain file before its .gz
        if len(paths) == len(_FILES):
            return [paths[name] for name in _FILES]
    return None


def _read_pair(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    (n, height, width), (n_labels,) = idx_shape(images, 3), idx_shape(labels, 1)  # before anything is decompressed
    if n != n_labels:
        raise DataError(f"{clean(images)} has {n} images, but {clean(labels)} {n_labels} labels")
    if (height, width) != (28, 28) or not n:
        raise DataError(f"{clean(images)}: expected images of 28×28, got {n} of {height}×{width}")
    x, y = read_idx(images, 3), read_idx(labels, 1)
    if y.max() > 9:
        raise DataError(f"{clean(labels)}: expected labels from 0 to 9, got {y.max()}")
    return x[:, np.newaxis], y.astype(np.int64)
