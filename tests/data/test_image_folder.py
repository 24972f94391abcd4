"""A folder of images per class."""

import builtins
import tracemalloc
import zlib

import numpy as np
import pytest

from pynn.data import DataError, data_size, load_image_folder

Image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")

RNG = np.random.default_rng(0)


def write(path, size=(5, 4), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = size if mode == "L" else (*size, 3)
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_classes_are_the_sub_folders(tmp_path):
    pixels = [write(tmp_path / kind / f"{k}.png") for kind in ("cat", "dog") for k in range(3)]
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "cat" / ".hidden").touch()
    data = load_image_folder(tmp_path, val_fraction=0, test_fraction=0)
    np.testing.assert_array_equal(data.x_train, np.moveaxis(pixels, 3, 1))
    assert data.y_train.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.classes == ("cat", "dog")
    assert (data.x_train.dtype, data.x_train.shape) == (np.uint8, (6, 3, 5, 4))
    assert (data.name, data.origin) == (tmp_path.name, "real")


def test_split_is_stratified_and_seeded(tmp_path):
    for kind in ("cat", "dog"):
        for k in range(10):
            write(tmp_path / kind / f"{k}.png")
    data, again, other = (
        load_image_folder(tmp_path, val_fraction=0.2, test_fraction=0.3, seed=s) for s in (1, 1, 2)
    )
    assert [np.bincount(y).tolist() for y in (data.y_train, data.y_val, data.y_test)] == [[5, 5], [2, 2], [3, 3]]
    np.testing.assert_array_equal(data.x_test, again.x_test)
    assert not np.array_equal(data.x_test, other.x_test)


def test_given_parts_are_respected(tmp_path):
    for part, n in (("train", 4), ("test", 2)):
        for kind in ("cat", "dog"):
            for k in range(n):
                write(tmp_path / part / kind / f"{k}.png")
    data = load_image_folder(tmp_path, val_fraction=0.25)
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [6, 2, 4]
    assert data.classes == ("cat", "dog")


def test_all_parts_must_have_one_size(tmp_path):
    for part, size in (("train", (5, 4)), ("test", (6, 4))):
        for kind in ("cat", "dog"):
            write(tmp_path / part / kind / "1.png", size)
    with pytest.raises(DataError, match=r"test/cat/1\.png: .*expected 5×4 pixels as in the first image, got 6×4"):
        load_image_folder(tmp_path, val_fraction=0)
    assert load_image_folder(tmp_path, image_size=(5, 4), val_fraction=0).x_test.shape == (2, 3, 5, 4)


@pytest.mark.parametrize("names", [("train", "valid", "test"), ("Training", "VALIDATION", "testing")])
def test_parts_have_other_names(tmp_path, names):
    for part, n in zip(names, (4, 3, 2), strict=True):
        for kind in ("cat", "dog"):
            for k in range(n):
                write(tmp_path / part / kind / f"{k}.png")
    data = load_image_folder(tmp_path)
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [8, 6, 4]
    assert data.describe() == (
        f"{tmp_path.name}: 8 training, 6 validation, 4 test samples of 3×5×4 in 2 classes: cat 4+3+2, dog 4+3+2"
    )


def test_a_training_part_alone(tmp_path):
    for kind in ("cat", "dog"):
        for k in range(10):
            write(tmp_path / "train" / kind / f"{k}.png")
    data = load_image_folder(tmp_path)
    assert [len(y) for y in (data.y_train, data.y_val, data.y_test)] == [16, 2, 2]


def test_what_systems_leave_behind_is_passed_over(tmp_path):
    for part in ("train", "test"):
        for kind in ("cat", "dog"):
            write(tmp_path / part / kind / "1.png")
            for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._1.png"):
                (tmp_path / part / kind / name).write_bytes(b"of the system")
                (tmp_path / part / name).write_bytes(b"of the system")
        for name in ("__MACOSX", ".git"):
            (tmp_path / name / part / "cat").mkdir(parents=True)
            (tmp_path / part / name).mkdir()
    data = load_image_folder(tmp_path, val_fraction=0)
    assert (data.classes, len(data.y_train), len(data.y_test)) == (("cat", "dog"), 2, 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a/1.png", "b/"], "b: the class folder is empty"),
        (["a/1.png", "b/.hidden"], "b: the class folder is empty"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/"], "test/b: the class folder is empty"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.png", "test/c/1.png"], "test part has the class c"),
        (["train/a/1.png", "train/b/1.png", "valid/A/1.png"], "'A' and 'a' differ by case or spaces alone"),
        (["a/1.png", "A/1.png", "b/1.png"], "'A' and 'a' differ by case or spaces alone"),
        (["caf\u00e9/1.png", "cafe\u0301/1.png"], "differ by case or spaces alone"),
        (["my cat/1.png", "my  cat/1.png"], "differ by case or spaces alone"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "val/ and valid/ are both the val part: join them"),
        (["train/a/1.png", "train/b/1.png", "extra/a/1.png"], "found extra beside them: move or remove it"),
        (["train/a/1.png", "train/b/1.png", "notes.txt/"], r"found notes\.txt beside them"),
        (["test/a/1.png", "test/b/1.png"], "expected train/ beside test/, found none"),
        (
            ["train/a/1.png", "train/2.png", "train/b/1.png", "test/a/1.png"],
            r"2\.png: expected images in a sub-folder",
        ),
        (["a/b/1.png", "c/1.png"], "a/b: expected image files in the class folder a, found a folder"),
    ],
)
def test_nothing_is_passed_over_in_silence(tmp_path, files, message):
    for name in files:
        if name.endswith("png"):
            write(tmp_path / name)
        else:
            (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=message) as caught:
        load_image_folder(tmp_path)
    assert len(str(caught.value)) < 300


def test_the_size_is_known_before_anything_is_decoded(tmp_path, monkeypatch):
    for kind in ("cat", "dog"):
        for k in range(5):
            write(tmp_path / kind / f"{k}.png", (50, 40))

    def decode(*args, **kwargs):
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    size = data_size(tmp_path)
    assert (size.samples, size.shape, size.dtype, size.nbytes) == (10, (3, 50, 40), np.uint8, 60_000)
    assert data_size(tmp_path, image_size=(8, 9), grayscale=True).shape == (1, 8, 9)


def test_memory_is_that_of_the_images(tmp_path):
    for kind in ("cat", "dog"):
        for k in range(20):
            write(tmp_path / kind / f"{k}.png", (400, 400))
    load_image_folder(tmp_path)  # modules that are imported once
    tracemalloc.start()
    data = load_image_folder(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2 * sum(x.nbytes for x in (data.x_train, data.x_val, data.x_test))


def test_train_may_be_a_class(tmp_path):
    for kind in ("train", "plane"):
        write(tmp_path / kind / "1.png")
    assert load_image_folder(tmp_path, val_fraction=0, test_fraction=0).classes == ("plane", "train")


def test_grayscale(tmp_path):
    pixels = [write(tmp_path / kind / "1.png", mode="L") for kind in "ab"]
    data = load_image_folder(tmp_path, grayscale=True, val_fraction=0, test_fraction=0)
    np.testing.assert_array_equal(data.x_train[:, 0], pixels)
    assert data.input_shape == (1, 5, 4)


@pytest.mark.parametrize(("image_size", "shape"), [(7, (7, 7)), ((3, 6), (3, 6))])
def test_image_size_resizes(tmp_path, image_size, shape):
    for kind, size in (("a", (5, 4)), ("b", (8, 9))):
        write(tmp_path / kind / "1.png", size)
    Image.fromarray(np.full((10, 20), 200, np.uint8)).save(tmp_path / "a" / "2.png")
    data = load_image_folder(tmp_path, image_size=image_size, val_fraction=0, test_fraction=0)
    assert data.x_train.shape == (3, 3, *shape)
    assert (data.x_train[1] == 200).all()


def test_exif_orientation_turns_the_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90° clockwise
    pixels = RNG.integers(0, 256, (5, 4)).astype(np.uint8)
    for kind in "ab":
        (tmp_path / kind).mkdir()
        Image.fromarray(pixels).save(tmp_path / kind / "1.png", exif=exif)
    data = load_image_folder(tmp_path, grayscale=True, val_fraction=0, test_fraction=0)
    np.testing.assert_array_equal(data.x_train[0, 0], np.rot90(pixels, -1))


@pytest.mark.parametrize("side", [10_000, 50_000])  # Pillow by itself only warns of the first
@pytest.mark.filterwarnings("ignore")
def test_a_header_that_claims_too_many_pixels(tmp_path, side):
    for kind in "ab":
        write(tmp_path / kind / "0.png")
    content = bytearray((tmp_path / "b" / "0.png").read_bytes())
    header = content[12:16] + side.to_bytes(4, "big") * 2 + content[24:29]
    content[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "b" / "0.png").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.png: not a readable image: .*exceeds limit"):
        load_image_folder(tmp_path, image_size=4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.write_bytes(b""), r"1\.png: not a readable image"),
        (lambda path: path.write_text("hello"), r"1\.png: not a readable image"),
        (
            lambda path: path.write_bytes((path.parent / "0.png").read_bytes()[:60]),
            r"1\.png: not a readable image",
        ),
        (
            lambda path: write(path, (6, 4)),
            r"1\.png: .*expected 5×4 pixels as in the first image, got 6×4: give image_size",
        ),
        (lambda path: Image.fromarray(np.zeros((5, 4), np.uint16)).save(path), "more than 8 bits"),
        (lambda path: path.with_suffix(".txt").write_text("notes"), r"1\.txt: .*it is none of PNG, JPEG"),
        (lambda path: path.symlink_to("missing"), r"1\.png: not a readable image: No such file"),
        (lambda path: path.mkdir(), r"1\.png: expected image files in the class folder b, found a folder"),
    ],
    ids=["zero bytes", "text", "cut off", "another size", "16 bit", "notes", "broken link", "folder"],
)
def test_wrong_files_are_named(tmp_path, make, message):
    for kind in "ab":
        write(tmp_path / kind / "0.png")
    make(tmp_path / "b" / "1.png")
    with pytest.raises(DataError, match=message) as caught:
        load_image_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_without_classes(tmp_path):
    with pytest.raises(DataError, match="missing: not a readable folder: No such file"):
        load_image_folder(tmp_path / "missing")
    with pytest.raises(DataError, match="expected a sub-folder of images for each class, found no image"):
        load_image_folder(tmp_path)
    write(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match="at least two classes, got 1"):
        load_image_folder(tmp_path)
    write(tmp_path / "1.png")
    with pytest.raises(DataError, match=r"1\.png: expected images in a sub-folder for each class"):
        load_image_folder(tmp_path)


@pytest.mark.parametrize("image_size", [0, -1, (3,), (3, 0), (3, 4.0), 10**6, 10**400, True, "8", 2.5, [3, 4, 5]])
def test_wrong_image_size(tmp_path, image_size):
    with pytest.raises(ValueError, match=r"image_size must be an int or \(H, W\)"):
        load_image_folder(tmp_path, image_size=image_size)


def test_without_pillow_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pillow(name, *args, **kwargs):
        if name.split(".")[0] == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pillow)
    with pytest.raises(ImportError, match=r'pip install "pynn-cnn\[images\]"'):
        load_image_folder(tmp_path)
