"""Data that the tests of `pynn train` and `pynn predict` share."""

import numpy as np
import pytest

from pynn.cli import main


@pytest.fixture
def features(tmp_path):
    """Three named classes at the corners of a triangle, on scales of 100 and 0.01."""
    rng = np.random.default_rng(0)
    names = np.array(["hill", "lake", "wood"])
    y = np.arange(240) % 3
    corners = np.array([[0, 0], [4, 0], [0, 4]])
    x = (corners[y] + 0.3 * rng.normal(size=(240, 2))) * [100, 0.01]
    path = tmp_path / "features.npz"
    np.savez(path, X=x, y=names[y])
    return path, x, names[y]


@pytest.fixture
def pictures(tmp_path):
    """A folder of 16×12 images by class: bright on the left, or on the right."""
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 60, (12, 16, 3))
            pixels[:, :8] += 150 if name == "left" else 0
            pixels[:, 8:] += 150 if name == "right" else 0
            image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


@pytest.fixture
def model_file(features, tmp_path):
    """(model file, data file) of a model that was trained for an epoch."""
    path = tmp_path / "model_file"
    assert main(["train", str(features[0]), "--out", str(path), "--epochs", "1"]) == 0
    return path, features[0]
