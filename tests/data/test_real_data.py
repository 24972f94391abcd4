"""The loaders on the real files, where PYNN_DATA names a folder that has them."""

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from pynn.data import load_binary20, load_cifar10, load_mnist
from pynn.data.locate import cache_folder

DATA = Path(os.environ.get("PYNN_DATA", "no-data"))
CACHE = cache_folder()
CIFAR10 = next((p for p in (DATA, CACHE) if (p / "cifar-10-batches-py").is_dir()), None)
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="PYNN_DATA names no folder with mnist/")
def test_mnist():
    data = load_mnist(DATA)
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [54_000, 6_000, 10_000]
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    images = {
        "train-images-idx3-ubyte": np.concatenate([data.x_train, data.x_val]),
        "t10k-images-idx3-ubyte": data.x_test,
    }
    for name, x in images.items():
        header = gzip.decompress((DATA / "mnist" / f"{name}.gz").read_bytes())[:16]
        assert hashlib.sha256(header + x.tobytes()).hexdigest() == SHA256[name]


@pytest.mark.skipif(not (DATA / "binary20.npz").is_file(), reason="PYNN_DATA names no folder with binary20.npz")
def test_binary20():
    data = load_binary20(DATA)
    assert [x.shape for x in (data.x_train, data.x_val, data.x_test)] == [(500, 20), (250, 20), (250, 20)]
    with np.load(DATA / "binary20.npz") as arrays:
        np.testing.assert_array_equal(data.x_test, arrays["X"][750:].astype(np.float32))
        np.testing.assert_array_equal(data.y_val, arrays["y"][500:750])


@pytest.mark.skipif(CIFAR10 is None, reason="neither PYNN_DATA nor the cache has cifar-10-batches-py/")
def test_cifar10():
    data = load_cifar10(CIFAR10)
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [45_000, 5_000, 10_000]
    assert data.input_shape == (3, 32, 32)
    labels = np.concatenate([data.y_train, data.y_val])
    assert np.bincount(labels).tolist() == [5_000] * 10
    assert np.bincount(data.y_test).tolist() == [1_000] * 10
    x = data.x_train
    right, below = (float(np.abs(np.diff(x[:500].astype(int), axis=axis)).mean()) for axis in (3, 2))
    assert max(right, below) < 20  # neighbouring pixels are alike: the axes are in order
