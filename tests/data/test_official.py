"""Official files are told from copies of other content, and images that were JPEG from others."""

import io

import numpy as np
import pytest

from pynn.data import load_binary20, load_cifar10, load_mnist
from pynn.data.official import is_recompressed, provenance


def photographs(n=60, side=32):
    """Made-up images with as much fine detail as small photographs: smooth shades, edges, and some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    angle, phase = rng.uniform(0, np.pi, (2, n, 3, 1, 1))
    shades = 128 + 80 * np.sin(4 * (np.cos(angle) * x + np.sin(angle) * y) + 6 * phase)
    edges = 40 * np.sign(np.sin(9 * (np.sin(angle) * x - np.cos(angle) * y) + phase))
    return np.clip(shades + edges + rng.normal(0, 4, (n, 3, side, side)), 0, 255).astype(np.uint8)


def jpeg(images, quality):
    Image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    stored = []
    for image in images:
        stream = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
        stored.append(np.asarray(Image.open(stream)).transpose(2, 0, 1))
    return np.array(stored)


@pytest.mark.parametrize("quality", [50, 75, 90])
def test_images_stored_as_jpeg_are_recognised(quality):
    assert is_recompressed(jpeg(photographs(), quality))


@pytest.mark.parametrize(
    "images",
    [
        photographs(),
        photographs()[:, :1],
        np.roll(photographs(), 3, axis=3),
        np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), np.uint8),
        np.full((60, 3, 32, 32), 7, np.uint8),
        np.repeat(np.repeat(photographs(side=8), 4, axis=2), 4, axis=3),
    ],
    ids=["photographs", "grey", "rolled", "noise", "one shade", "enlarged"],
)
def test_images_that_never_were_jpeg_are_not_taken_for_it(images):
    assert not is_recompressed(images)


def test_jpeg_whose_grid_is_cut_off_is_no_longer_recognised_and_stays_altered():
    cut = jpeg(photographs(side=48), 75)[:, :, 4:36, 4:36]
    assert provenance("CIFAR-10", False, cut)["name"] == "CIFAR-10, not the official files"


def test_provenance_is_told_in_the_name_and_the_note():
    assert provenance("CIFAR-10", True) == {"name": "CIFAR-10", "origin": "real", "note": ""}
    told = provenance("CIFAR-10", False, jpeg(photographs(), 75))
    assert (told["name"], told["origin"]) == ("CIFAR-10, recompressed as JPEG", "altered")
    assert "not those of the official CIFAR-10" in told["note"]


def test_other_cifar10_batches_are_altered_and_one_alone_is_enough(tmp_path, write_cifar10, monkeypatch):
    import hashlib

    write_cifar10(tmp_path)
    assert load_cifar10(tmp_path).origin == "altered"
    digests = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    monkeypatch.setattr("pynn.data.cifar10._OFFICIAL", digests)
    data = load_cifar10(tmp_path)
    assert (data.name, data.origin, data.note) == ("CIFAR-10", "real", "")
    for name in digests:
        monkeypatch.setattr("pynn.data.cifar10._OFFICIAL", digests | {name: "0" * 32})
        assert load_cifar10(tmp_path).origin == "altered"


def test_other_mnist_files_are_altered(tmp_path, write_mnist):
    write_mnist(tmp_path)
    data = load_mnist(tmp_path)
    assert (data.name, data.origin) == ("MNIST, not the official files", "altered")


def test_other_samples_than_the_courses_are_altered(tmp_path):
    x = np.random.default_rng(0).random((1000, 20))
    np.savez(tmp_path / "binary20.npz", X=x, y=np.arange(1000) % 2)
    assert load_binary20(tmp_path).origin == "altered"
