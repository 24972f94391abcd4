"""MNIST and Fashion-MNIST from small synthetic files."""

import numpy as np
import pytest

from pynn.data import DataError, DataNotFound, load_fashion_mnist, load_mnist

LOADERS = [
    pytest.param(load_mnist, "mnist", id="mnist"),
    pytest.param(load_fashion_mnist, "fashion-mnist", id="fashion"),
]


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("inside", [False, True], ids=["folder itself", "sub-folder"])
@pytest.mark.parametrize(("load", "folder"), LOADERS)
def test_loads(tmp_path, write_mnist, load, folder, inside, compressed):
    x, y, x_test, y_test = write_mnist(tmp_path / folder if inside else tmp_path, compressed=compressed)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.x_train, x[:18, np.newaxis])
    np.testing.assert_array_equal(data.x_val, x[18:, np.newaxis])
    np.testing.assert_array_equal(data.x_test, x_test[:, np.newaxis])
    for read, written in ((data.y_train, y[:18]), (data.y_val, y[18:]), (data.y_test, y_test)):
        np.testing.assert_array_equal(read, written)
        assert read.dtype == np.int64
    assert data.x_train.dtype == np.uint8
    assert data.input_shape == (1, 28, 28)
    assert (len(data.classes), data.origin, data.note) == (10, "real", "")


@pytest.mark.parametrize(("fraction", "n_val"), [(0, 0), (0.25, 5), (0.9, 18)])
def test_validation_part_is_the_last_rows(tmp_path, write_mnist, fraction, n_val):
    x = write_mnist(tmp_path)[0]
    data = load_mnist(tmp_path, val_fraction=fraction)
    np.testing.assert_array_equal(data.x_val[:, 0], x[20 - n_val :])


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_validation_fraction_out_of_range(tmp_path, write_mnist, fraction):
    write_mnist(tmp_path)
    with pytest.raises(ValueError, match="val_fraction must be at least 0 and below 1"):
        load_mnist(tmp_path, val_fraction=fraction)


def test_a_plain_file_goes_before_its_gz(tmp_path, write_mnist):
    write_mnist(tmp_path, seed=1)
    x = write_mnist(tmp_path, seed=2, compressed=False)[0]
    np.testing.assert_array_equal(load_mnist(tmp_path).x_train[:, 0], x[:18])


def test_a_missing_file_is_data_not_found(tmp_path, write_mnist):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataNotFound, match="t10k-labels-idx1-ubyte") as caught:
        load_mnist(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_the_two_are_not_mistaken_for_each_other(tmp_path, write_mnist, idx_bytes):
    write_mnist(tmp_path, compressed=False)
    mnist_labels = np.array([7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6])
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(mnist_labels))
    np.testing.assert_array_equal(load_mnist(tmp_path).y_test, mnist_labels)
    with pytest.raises(DataError, match="this is MNIST, not Fashion-MNIST"):
        load_fashion_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train-labels-idx1-ubyte", np.zeros(19), "20 images, but .*train-labels.* 19 labels"),
        ("train-labels-idx1-ubyte", np.full(20, 10), "expected labels from 0 to 9, got 10"),
        ("t10k-images-idx3-ubyte", np.zeros((12, 28, 27)), "expected images of 28×28, got 12 of 28×27"),
        ("t10k-images-idx3-ubyte", np.zeros((0, 28, 28)), "0 images, but"),
    ],
)
def test_files_that_do_not_fit(tmp_path, write_mnist, idx_bytes, name, array, message):
    write_mnist(tmp_path, compressed=False)
    (tmp_path / name).write_bytes(idx_bytes(array))
    with pytest.raises(DataError, match=message):
        load_mnist(tmp_path)
