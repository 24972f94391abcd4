"""The form of a model's samples: what is told from training data, kept as JSON, and done to what comes later."""

import json

import numpy as np
import pytest

from pynn.data import DataError, InputFormat, Standardize, load_image_folder, load_npz
from pynn.data.input_format import value_range

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (20, 1, 5, 4)).astype(np.uint8)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (BYTES, (0, 255)),
        (BYTES.astype(np.float32), (0, 255)),
        (BYTES / 255, (0, 1)),
        ((BYTES > 127).astype(np.uint8), (0, 1)),
        (BYTES / 127.5 - 1, (-1, 1)),
        (BYTES // 16, None),
        (BYTES * 2.0, None),
        ((BYTES - 127.0) / 70, None),
        (BYTES / 255 * 0.3, None),
        (np.zeros((2, 1, 3, 3)), None),
        (BYTES.reshape(20, 20) / 255, None),
    ],
    ids=[
        "bytes",
        "floats 0…255",
        "0…1",
        "0 and 1",
        "−1…1",
        "0…15",
        "0…510",
        "standardised",
        "dark",
        "black",
        "features",
    ],
)
def test_value_range(x, expected):
    assert value_range(x) == expected


def dataset(tmp_path, x):
    np.savez(tmp_path / "own.npz", X=x, y=np.arange(len(x)) % 2)
    return load_npz(tmp_path / "own.npz", val_fraction=0, test_fraction=0)


@pytest.mark.parametrize("x", [BYTES, BYTES / 255, BYTES / 127.5 - 1, BYTES // 16, BYTES.reshape(20, 20)])
def test_survives_json(tmp_path, x):
    form = InputFormat.of(dataset(tmp_path, x))
    assert InputFormat.from_config(json.loads(json.dumps(form.config()))) == form
    assert form.describe().isprintable()


@pytest.mark.parametrize(("x", "scale"), [(BYTES, None), (BYTES / 255, 0), (BYTES / 127.5 - 1, -1)])
def test_an_image_file_is_given_the_values_of_the_training_data(tmp_path, x, scale):
    """The case of a model trained on 0 … 1 that is asked about PNG files."""
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    data = dataset(tmp_path, x)
    image.fromarray(BYTES[3, 0]).save(tmp_path / "3.png")
    out = InputFormat.of(data).image(tmp_path / "3.png")
    np.testing.assert_allclose(out, data.x_train[3], atol=1e-6)
    assert out.dtype == data.x_train.dtype
    assert out.shape == (1, 5, 4)


def test_images_of_another_size_and_colour(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    rgba = np.zeros((10, 8, 4), np.uint8)
    image.fromarray(rgba).save(tmp_path / "clear.png")
    for channels in (1, 3):
        out = InputFormat((channels, 5, 4), (0.0, 1.0), (0.0, 1.0)).image(tmp_path / "clear.png")
        np.testing.assert_array_equal(out, np.ones((channels, 5, 4)))


def test_training_and_prediction_read_an_image_alike(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for k in range(3):
            image.fromarray(RNG.integers(0, 256, (9, 7, 4)).astype(np.uint8)).save(tmp_path / kind / f"{k}.png")
    data = load_image_folder(tmp_path, image_size=(5, 6), val_fraction=0, test_fraction=0)
    form = InputFormat.of(data)
    assert form.describe() == "5×6 pixels, colour, values 0 to 255, transparent parts on white"
    files = [tmp_path / kind / f"{k}.png" for kind in "ab" for k in range(3)]
    np.testing.assert_array_equal(np.stack([form.image(file) for file in files]), data.x_train)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (InputFormat((30,)), r"takes samples of shape \(30,\), which images are not: give an \.npz file"),
        (InputFormat((2, 5, 4), (0.0, 1.0), (0.0, 1.0)), "which images are not"),
        (InputFormat((1, 5, 4), None, (-2.5, 3.0)), r"values from -2\.5 to 3, which image files do not have"),
    ],
)
def test_images_that_no_model_of_this_form_can_be_given(tmp_path, form, message):
    with pytest.raises(DataError, match=message):
        form.image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("trained", "asked", "expected"),
    [
        (BYTES, BYTES[:3], BYTES[:3]),
        (BYTES, np.zeros((1, 1, 5, 4), np.uint8), np.zeros((1, 1, 5, 4))),
        (BYTES, BYTES[:3].astype(np.float32), BYTES[:3]),
        (BYTES / 255, BYTES[:3], BYTES[:3] / 255),
        (BYTES / 255, BYTES[:3] / 255, BYTES[:3] / 255),
        (BYTES / 255, (BYTES[:3] > 99).astype(np.uint8), BYTES[:3] > 99),
        (BYTES / 127.5 - 1, BYTES[:3], BYTES[:3] / 127.5 - 1),
        (BYTES // 16, BYTES[:3] // 16, BYTES[:3] // 16),
        ((BYTES - 127.0) / 70, (BYTES[:3] - 120.0) / 65, (BYTES[:3] - 120.0) / 65),
        (BYTES / 255, np.ones((1, 1, 5, 4)), np.ones((1, 1, 5, 4))),
    ],
)
def test_arrays_of_the_same_scale_are_taken_and_bytes_are_scaled(tmp_path, trained, asked, expected):
    np.testing.assert_allclose(
        InputFormat.of(dataset(tmp_path, trained)).array(asked, "X", "a"), expected, atol=1e-6
    )


@pytest.mark.parametrize(
    ("trained", "asked"),
    [
        (BYTES, BYTES / 255),
        (BYTES / 255, BYTES.astype(np.float32)),
        (BYTES / 127.5 - 1, BYTES / 255),
        (BYTES / 127.5 - 1, BYTES.astype(np.float32)),
        (BYTES // 16, BYTES),
        ((BYTES - 127.0) / 70, BYTES.astype(np.float32)),
    ],
)
def test_arrays_of_another_scale_are_refused(tmp_path, trained, asked):
    form = InputFormat.of(dataset(tmp_path, trained))
    with pytest.raises(DataError, match=r"a: X has values from .* but the model was trained on .* to that scale"):
        form.array(asked, "X", "a")


def test_arrays_of_another_shape_are_refused():
    with pytest.raises(DataError, match=r"takes samples of shape \(1, 5, 4\), X has \(1, 4, 5\)"):
        InputFormat((1, 5, 4)).array(BYTES.reshape(20, 1, 4, 5), "X", "a")


@pytest.mark.parametrize(
    "change",
    [
        None,
        [],
        3,
        "x",
        {},
        {"shape": None},
        {"shape": 5},
        {"shape": []},
        {"shape": [1, 2]},
        {"shape": [1, 0, 3]},
        {"shape": [1.0, 2, 3]},
        {"shape": [True, 2, 3]},
        {"shape": [10**400]},
        {"shape": ["1", 2, 3]},
        {"value_range": [0, 254]},
        {"value_range": 5},
        {"value_range": [0]},
        {"value_range": {}},
        {"value_range": [[0], 1]},
        {"seen": None},
        {"seen": []},
        {"seen": [1, 0]},
        {"seen": [0, float("nan")]},
        {"seen": [0, 10**400]},
        {"seen": ["a", "b"]},
        {"background": "black"},
        {"background": None},
        {"more": 1},
    ],
)
def test_what_is_no_form_is_refused(change):
    config = InputFormat((1, 5, 4), (0.0, 1.0), (0.0, 1.0)).config()
    config = config | change if isinstance(change, dict) and change else change
    with pytest.raises(ValueError, match=r"^InputFormat: ") as caught:
        InputFormat.from_config(config)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("x", "expected"),
    [(BYTES, (0, 255)), (BYTES / 255, (0, 1)), (BYTES / 127.5 - 1, None), ((BYTES - 127.0) / 70, None)],
)
def test_the_form_of_older_models_is_guessed(x, expected):
    assert InputFormat.guessed((1, 5, 4), Standardize.from_data(x)).value_range == expected
    assert InputFormat.guessed((20,), Standardize.from_data(x.reshape(20, 20))).value_range is None
