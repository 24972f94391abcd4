"""The embedded sets are the published ones."""

import numpy as np
import pytest

from pynn.data import load_breast_cancer, load_digits


def all_rows(data):
    parts = ("train", "val", "test")
    return [np.concatenate([getattr(data, f"{kind}_{part}") for part in parts]) for kind in "xy"]


def test_digits():
    data = load_digits()
    x, y = all_rows(data)
    assert x.shape == (1797, 1, 8, 8)
    assert x.dtype == np.uint8
    assert (x % 15 == 0).all()
    assert (x.min(), x.max()) == (0, 240)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert [len(p) for p in (data.y_train, data.y_val, data.y_test)] == [1079, 359, 359]
    assert (data.origin, data.classes) == ("embedded", tuple("0123456789"))
    assert "CC BY 4.0" in data.citation


def test_breast_cancer():
    data = load_breast_cancer()
    x, y = all_rows(data)
    assert x.shape == (569, 30)
    assert x.dtype == np.float32
    assert np.bincount(y).tolist() == [212, 357]  # malignant, benign
    assert x[:, 0].min() == np.float32(6.981)
    assert x[:, 0].max() == np.float32(28.11)  # the mean radius
    assert x[:, 3].max() == 2501  # the mean area
    assert [len(p) for p in (data.y_train, data.y_val, data.y_test)] == [343, 113, 113]
    assert (data.origin, data.classes) == ("embedded", ("malignant", "benign"))


@pytest.mark.parametrize("load", [load_digits, load_breast_cancer])
def test_each_class_is_split_alike(load):
    data = load()
    shares = [np.bincount(y) / len(y) for y in (data.y_train, data.y_val, data.y_test)]
    np.testing.assert_allclose(shares[1], shares[0], atol=0.01)
    np.testing.assert_allclose(shares[2], shares[0], atol=0.01)


@pytest.mark.long  # importing scikit-learn takes seconds
def test_equal_to_scikit_learns_copies():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    for data, reference, scale in (
        (load_digits(), datasets.load_digits(), 15),
        (load_breast_cancer(), datasets.load_breast_cancer(), 1),
    ):
        x, y = all_rows(data)
        ours = np.column_stack([x.reshape(len(x), -1), y])
        theirs = np.column_stack([(reference.data * scale).astype(np.float32), reference.target])
        np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
