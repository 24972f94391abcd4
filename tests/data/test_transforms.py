"""Standardisation and augmentations against what they mean, one image and one pixel at a time."""

import json
import math

import numpy as np
import pytest

from pynn.data import Compose, Flip, Rotate, Shift, Standardize
from pynn.data.transforms import _rotate

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 3, 7, 5)).astype(np.uint8)
AUGMENTATIONS = [Shift(2), Shift(2, fill="reflect"), Flip(), Rotate(30), Compose(Shift(1), Flip(), Rotate(10))]


# -- standardisation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "axes", "dtype"),
    [
        (IMAGES, (0, 2, 3), np.float32),
        (IMAGES.astype(np.float64), (0, 2, 3), np.float64),
        (RNG.normal(5, 3, (50, 4)).astype(np.float32), 0, np.float32),
        (RNG.normal(1e6, 3, (50, 4)), 0, np.float64),
    ],
)
def test_standardize(x, axes, dtype):
    transform = Standardize(**Standardize.from_data(x).config() | {"dtype": np.dtype(dtype).name})
    mean, std = x.mean(axis=axes, dtype=np.float64), x.std(axis=axes, dtype=np.float64)
    np.testing.assert_allclose(transform.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(transform.std, std, rtol=1e-9)
    shape = (-1, *(1,) * (x.ndim - 2))
    out = transform(x)
    tolerance = 1e-5 if dtype == np.float32 else 1e-8
    np.testing.assert_allclose(out, (x - mean.reshape(shape)) / std.reshape(shape), rtol=tolerance, atol=tolerance)
    assert out.dtype == dtype
    assert out.shape == x.shape


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.uint64])
def test_large_offsets_keep_their_digits(dtype):
    """Times in seconds: centred before they are rounded to float32."""
    x = (np.arange(500) % 97 + (16_000_000 if dtype == np.float32 else 1_700_000_000)).astype(dtype)[:, np.newaxis]
    out = Standardize.from_data(x)(x)
    exact = (x - x[0]).astype(np.float64)
    np.testing.assert_allclose(out, (exact - exact.mean()) / exact.std(), rtol=1e-6, atol=1e-7)
    assert out.dtype == np.float32


@pytest.mark.parametrize("largest", [1e200, 1e300, 1.7e308])
def test_values_whose_squares_overflow(largest):
    x = np.array([[-largest], [0.0], [largest]])
    np.testing.assert_allclose(Standardize.from_data(x)(x)[:, 0], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-6)


@pytest.mark.parametrize("x", [IMAGES, IMAGES.astype(np.float32), IMAGES.astype(np.float64)])
def test_nothing_is_done_in_place(x):
    before = x.copy()
    before.flags.writeable = False

    def in_place(x, rng):
        x += 1
        return x

    rng = np.random.default_rng(0)
    augmentations = (
        Shift(0),
        Shift(1, fill="reflect"),
        Flip(0),
        Flip(1),
        Rotate(0),
        Rotate(30),
        Compose(),
        Compose(in_place),
    )
    for augment in augmentations:
        for array in (x, before):
            out = augment(array, rng)
            assert not np.shares_memory(out, array)
            np.testing.assert_array_equal(array, before)
    standardize = Standardize.from_data(before)
    assert not np.shares_memory(standardize(before), before)
    assert not np.shares_memory(Standardize(np.zeros(x.shape[1]), np.ones(x.shape[1]))(x), x)


def test_standardize_in_pieces_equals_at_once():
    x = RNG.integers(0, 256, (3000, 1, 20, 30)).astype(np.uint8)  # more than one piece
    np.testing.assert_allclose(Standardize.from_data(x).std, x.std(dtype=np.float64), rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-45, 3e38])
def test_constant_features_become_zero(value):
    x = np.column_stack([np.full(1001, value), np.arange(1001)]).astype(np.float32)
    transform = Standardize.from_data(x)
    assert transform.std[0] == 1
    np.testing.assert_allclose(transform(x)[:, 0], 0, atol=abs(value) * 1e-6)
    assert transform(x)[:, 1].std() == pytest.approx(1)


@pytest.mark.parametrize("n", [7, 11, 1001])
def test_constant_up_to_the_rounding_of_the_mean(n):
    x = np.column_stack([np.full(n, 0.7), np.full(n, 0.1), np.full(n, 1 / 3)])
    assert Standardize.from_data(x).std.tolist() == [1, 1, 1]


def test_a_standard_deviation_below_the_smallest_number():
    assert Standardize.from_data(np.array([[0.0], [5e-324]])).std.tolist() == [1]


def test_standardize_survives_json():
    transform = Standardize.from_data(IMAGES)
    twin = Standardize.from_config(json.loads(json.dumps(transform.config())))
    np.testing.assert_array_equal(twin(IMAGES), transform(IMAGES))
    assert repr(twin) == repr(transform)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Standardize([1.0], [1.0, 2.0]), r"one shape \(C,\), got \(1,\) and \(2,\)"),
        (lambda: Standardize(1.0, 2.0), r"one shape \(C,\)"),
        (lambda: Standardize([0.0], [0.0]), "finite std above 0"),
        (lambda: Standardize([math.nan], [1.0]), "finite mean"),
        (lambda: Standardize([0.0], [1.0])(IMAGES), r"\(N, 1\) or \(N, 1, H, W\), got \(12, 3, 7, 5\)"),
        (lambda: Standardize([0.0], [1.0])(IMAGES[0]), "expected x of shape"),
        (lambda: Standardize.from_data(IMAGES[:0]), r"got \(0, 3, 7, 5\)"),
        (lambda: Standardize.from_data(IMAGES[0]), r"got \(3, 7, 5\)"),
        (lambda: Standardize.from_data(np.array([[1.0], [math.inf]])), "finite mean"),
        (lambda: Shift(-1), "pixels must be an int from 0"),
        (lambda: Shift(1.5), "pixels must be an int"),
        (lambda: Shift(1, fill="wrap"), 'fill must be "zero" or "reflect", got \'wrap\''),
        (
            lambda: Shift(5, fill="reflect")(IMAGES, RNG),
            "reflecting 5 pixels needs images larger than that, got 7×5",
        ),
        (lambda: Flip(1.1), "p must be from 0 to 1"),
        (lambda: Rotate(-1), "degrees must be from 0 to 180"),
        (lambda: Rotate(math.nan), "degrees must be from 0 to 180"),
        (lambda: Flip()(IMAGES[0], RNG), r"Flip: expected images of shape \(N, C, H, W\), got \(3, 7, 5\)"),
        (lambda: Shift(1)(IMAGES[0], RNG), "Shift: expected images"),
        (lambda: Rotate(1)(IMAGES[0], RNG), "Rotate: expected images"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # the deviations of an infinite value
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# -- augmentations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", AUGMENTATIONS, ids=repr)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_dtype_and_shape_stay_and_the_seed_decides(augment, dtype):
    x = IMAGES.astype(dtype)
    x.flags.writeable = False
    before = x.copy()
    out, again, other = (augment(x, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (out.dtype, out.shape) == (x.dtype, x.shape)
    assert not np.shares_memory(out, x)
    assert not np.array_equal(out, x)
    np.testing.assert_array_equal(out, again)
    assert not np.array_equal(out, other)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("augment", AUGMENTATIONS, ids=repr)
def test_memory_order_and_batch_size_do_not_matter(augment):
    strided = np.moveaxis(np.ascontiguousarray(np.moveaxis(IMAGES, 1, 3)), 3, 1)
    outs = [augment(x, np.random.default_rng(1)) for x in (IMAGES, strided)]
    np.testing.assert_array_equal(*outs)
    assert augment(IMAGES[:1], RNG).shape == (1, 3, 7, 5)
    assert augment(IMAGES[:0], RNG).shape == (0, 3, 7, 5)


@pytest.mark.parametrize(("fill", "mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_shift_moves_each_image_as_drawn(fill, mode):
    out = Shift(2, fill=fill)(IMAGES, np.random.default_rng(3))
    seen = set()
    for image, moved in zip(IMAGES, out, strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode)
        fits = [
            (dy, dx)
            for dy in range(5)
            for dx in range(5)
            if np.array_equal(padded[:, dy : dy + 7, dx : dx + 5], moved)
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) > 6


def test_shift_draws_every_displacement_alike():
    x = np.zeros((20_000, 1, 3, 3), np.uint8)
    x[:, 0, 1, 1] = 1
    counts = Shift(1)(x, np.random.default_rng(0)).sum(axis=(0, 1), dtype=np.int64)
    np.testing.assert_allclose(counts / len(x), 1 / 9, atol=0.01)


def test_shift_by_no_pixel_is_the_same():
    np.testing.assert_array_equal(Shift(0)(IMAGES, RNG), IMAGES)


def test_flip_mirrors_whole_images():
    x = RNG.integers(0, 256, (1000, 2, 3, 5)).astype(np.uint8)
    out = Flip(0.3)(x, np.random.default_rng(0))
    flipped = (out == x[..., ::-1]).all(axis=(1, 2, 3))
    assert ((out == x).all(axis=(1, 2, 3)) ^ flipped).all()
    assert 0.25 < flipped.mean() < 0.35
    np.testing.assert_array_equal(Flip(1)(x, RNG), x[..., ::-1])
    np.testing.assert_array_equal(Flip(0)(x, RNG), x)


def rotate_slowly(image: np.ndarray, angle: float) -> np.ndarray:
    """(H, W), pixel by pixel: the value at p is the bilinear one at the point that the rotation brings to p."""
    height, width = image.shape
    cy, cx = (height - 1) / 2, (width - 1) / 2
    out = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            u, v = j - cx, cy - i  # to the right, upwards
            x = cx + math.cos(-angle) * u - math.sin(-angle) * v
            y = cy - (math.sin(-angle) * u + math.cos(-angle) * v)
            for a in (math.floor(y), math.floor(y) + 1):
                for b in (math.floor(x), math.floor(x) + 1):
                    if 0 <= a < height and 0 <= b < width:
                        out[i, j] += image[a, b] * (1 - abs(y - a)) * (1 - abs(x - b))
    return out


def test_rotate_equals_the_definition():
    x = RNG.normal(size=(6, 2, 7, 5))
    angles = np.array([0.3, -0.7, 1.2, 3.0, -3.1, 0.0])
    expected = [[rotate_slowly(plane, a) for plane in image] for image, a in zip(x, angles, strict=True)]
    np.testing.assert_allclose(_rotate(x, angles), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(_rotate(x.astype(np.float32), angles), expected, rtol=0, atol=1e-5)


def test_rotate_by_right_angles_is_exact_and_counter_clockwise():
    x = RNG.integers(0, 256, (3, 2, 6, 6)).astype(np.uint8)
    for turns in range(-2, 3):
        out = _rotate(x, np.full(3, turns * np.pi / 2))
        np.testing.assert_array_equal(out, np.rot90(x, turns, axes=(2, 3)))


def test_rotate_rounds_integers():
    x = RNG.integers(0, 256, (5, 1, 9, 8)).astype(np.uint8)
    angles = RNG.uniform(-3, 3, 5)
    np.testing.assert_allclose(_rotate(x, angles), _rotate(x.astype(np.float64), angles), atol=0.5001)


def test_rotate_draws_within_the_degrees():
    x = np.zeros((400, 1, 101, 101), np.uint8)
    x[:, 0, 50, 95:] = 255  # a mark on the right, 45 to 50 pixels from the centre
    out = Rotate(20)(x, np.random.default_rng(0))
    rows, columns = np.indices((101, 101)) - 50
    angle = np.degrees(np.arctan2(-rows, columns))
    seen = out[:, 0].max(axis=0) > 128
    assert angle[seen].max() == pytest.approx(20, abs=1.5)
    assert angle[seen].min() == pytest.approx(-20, abs=1.5)


def test_compose_applies_in_turn():
    first, second = Shift(2), Rotate(20)
    a, b = np.random.default_rng(4), np.random.default_rng(4)
    np.testing.assert_array_equal(Compose(first, second)(IMAGES, a), second(first(IMAGES, b), b))
    np.testing.assert_array_equal(Compose()(IMAGES, a), IMAGES)
