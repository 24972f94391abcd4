"""Every test of the data part sees an empty cache, no PYNN_DATA and no network but 127.0.0.1."""

import gzip
import pickle
import struct

import numpy as np
import pytest

MNIST_NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """The cache folder, empty; downloads are off."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setenv("PYNN_OFFLINE", "1")
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("PYNN_DATA", raising=False)
    return home / "pynn"


def _idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def _write_mnist(folder, *, compressed=True, n_train=20, n_test=12, seed=0):
    """Four small IDX files; returns the arrays (x_train, y_train, x_test, y_test)."""
    rng = np.random.default_rng(seed)
    arrays = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in zip(MNIST_NAMES, ((n_train, 28, 28), (n_train,), (n_test, 28, 28), (n_test,)), strict=True):
        array = rng.integers(0, 256 if len(shape) == 3 else 10, size=shape).astype(np.uint8)
        content = _idx_bytes(array)
        (folder / f"{name}{'.gz' if compressed else ''}").write_bytes(
            gzip.compress(content) if compressed else content
        )
        arrays.append(array)
    return arrays


def _cifar_batch(n=4, *, seed=0, protocol=4) -> tuple[bytes, np.ndarray, list]:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, size=(n, 3072)).astype(np.uint8), rng.integers(0, 10, size=n).tolist()
    return pickle.dumps({b"data": x, b"labels": y, b"batch_label": b"", b"filenames": [b"a.png"]}, protocol), x, y


def _write_cifar10(folder, n=4, **options):
    """Six small batch files; returns [(x, y)] with the test batch last."""
    folder.mkdir(parents=True, exist_ok=True)
    batches = []
    for seed, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        content, x, y = _cifar_batch(n, seed=seed, **options)
        (folder / name).write_bytes(content)
        batches.append((x, y))
    return batches


@pytest.fixture
def idx_bytes():
    return _idx_bytes


@pytest.fixture
def write_mnist():
    return _write_mnist


@pytest.fixture
def cifar_batch():
    return _cifar_batch


@pytest.fixture
def write_cifar10():
    return _write_cifar10
