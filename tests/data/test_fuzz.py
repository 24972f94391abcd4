"""Files damaged at random give a DataError of one sentence or a valid data set, never anything else."""

import gzip

import numpy as np
import pytest

from pynn.data import DataError, load_image_folder, load_npz
from pynn.data.cifar10 import _decode
from pynn.data.idx import read_idx

ROUNDS = 150


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, mostly near the start where headers are, or a piece cut off, doubled or inserted."""
    data = bytearray(content)
    kind = rng.integers(5)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        at, n = rng.integers(len(data)), rng.integers(1, 40)
        return bytes(data[:at] + data[at : at + n] + data[at:])
    if kind == 2:
        at = rng.integers(len(data))
        return bytes(data[:at] + rng.bytes(rng.integers(1, 20)) + data[at:])
    reach = len(data) if kind == 3 else min(200, len(data))
    for at in rng.integers(reach, size=rng.integers(1, 6)):
        data[at] = rng.integers(256)
    return bytes(data)


def survive(path, content, read, rng) -> int:
    """Reads ROUNDS damaged files; the number of those that were still valid."""
    valid = 0
    for _ in range(ROUNDS):
        path.write_bytes(damage(content, rng))
        try:
            read(path)
            valid += 1
        except DataError as error:
            assert path.name in str(error)  # noqa: PT017 - either outcome is right
            assert "\n" not in str(error)  # noqa: PT017
    return valid


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_idx(tmp_path, idx_bytes, name):
    rng = np.random.default_rng(0)
    content = idx_bytes(rng.integers(0, 256, (10, 4, 5)))
    content = gzip.compress(content) if name.endswith(".gz") else content

    def read(path):
        array = read_idx(path, 3)
        assert (array.ndim, array.dtype) == (3, np.uint8)

    valid = survive(tmp_path / name, content, read, rng)
    assert valid < ROUNDS


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.filterwarnings("ignore::UserWarning")  # zipfile's about duplicate names, NumPy's about old headers
def test_npz(tmp_path, save):
    rng = np.random.default_rng(1)
    save(tmp_path / "a.npz", X=rng.random((12, 3)), y=np.array(list("abcabcabcabc")))
    content = (tmp_path / "a.npz").read_bytes()

    def read(path):
        data = load_npz(path)
        assert (data.x_train.dtype, data.y_train.dtype) == (np.float32, np.int64)

    assert survive(tmp_path / "a.npz", content, read, rng) < ROUNDS


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_cifar10_batch(tmp_path, cifar_batch, protocol):
    rng = np.random.default_rng(protocol)
    content, _, _ = cifar_batch(2, protocol=protocol)

    def read(path):
        x, y = _decode(path.read_bytes(), path)
        assert (x.dtype, x.shape[1:], y.shape) == (np.uint8, (3, 32, 32), (len(x),))

    assert survive(tmp_path / "data_batch_1", content, read, rng) < ROUNDS


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's about damaged metadata
def test_image(tmp_path, extension):
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    rng = np.random.default_rng(2)
    path = tmp_path / "b" / f"broken.{extension}"
    for kind in "ab":
        (tmp_path / kind).mkdir()
    image.fromarray(rng.integers(0, 256, (8, 9, 3)).astype(np.uint8)).save(path)
    (tmp_path / "a" / "whole.bmp").write_bytes(b"")
    image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "a" / "whole.bmp")

    def read(path):
        data = load_image_folder(tmp_path, image_size=(8, 9), val_fraction=0, test_fraction=0)
        assert (data.x_train.dtype, data.x_train.shape) == (np.uint8, (2, 3, 8, 9))

    assert survive(path, path.read_bytes(), read, rng) < ROUNDS
