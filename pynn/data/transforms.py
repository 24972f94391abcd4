"""Owns what happens to batches before they reach a model: standardisation, and augmentations of image batches.

Augmentations are called as `augmentation(x, rng)` with x (N, C, H, W) of any numeric dtype; they return a new
array of the same shape and dtype, draw for each image from `rng` alone, and have no loop over the images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pynn.values import is_integer, is_number, shown

__all__ = ["Compose", "Flip", "Rotate", "Shift", "Standardize"]


class Standardize:
    """(x − mean) / std, per channel of images (N, C, H, W), per feature of (N, D).

    mean, std : (C,) or (D,) numbers
    dtype : "float32", or "float64" for models of that

    Computed in float64, and rounded last, where x has values that float32 rounds or the mean is above 64 std:
    times in seconds keep their digits. What float32 holds exactly, as bytes, is computed in float32.
    """

    def __init__(self, mean, std, *, dtype: str = "float32"):
        try:
            self.mean, self.std = (np.array(values, np.float64) for values in (mean, std))
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError("Standardize: expected mean and std that are numbers of float64") from error
        if dtype not in ("float32", "float64"):
            raise ValueError(f'Standardize: dtype must be "float32" or "float64", got {shown(dtype)}')
        self.dtype = dtype
        if self.mean.ndim != 1 or self.mean.shape != self.std.shape:
            raise ValueError(
                f"Standardize: expected mean and std of one shape (C,), got {self.mean.shape} and {self.std.shape}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all() and (self.std > 0).all()):
            raise ValueError("Standardize: expected finite mean, and finite std above 0")
        # float32 would round such means by more than 4e-6 of a standard deviation.
        self._wide = dtype == "float64" or bool((np.abs(self.mean) / 64 > self.std).any())

    @classmethod
    def from_data(cls, x: np.ndarray) -> Standardize:
        """The mean and the (biased) standard deviation of training data; where x is constant, std is 1."""
        x = _numbers("Standardize.from_data", x)
        if x.ndim not in (2, 4) or not x.size:
            raise ValueError(f"Standardize.from_data: expected x of shape (N, D) or (N, C, H, W), got {x.shape}")
        largest = max(abs(float(x.max())), abs(float(x.min())))
        if not largest < np.inf:
            raise ValueError("Standardize.from_data: expected x with finite mean, got NaN or infinite values")
        if largest > 1e150:  # whose squares overflow
            small = cls.from_data(x / largest)
            return cls(small.mean * largest, np.where((x == x[:1]).all(axis=0), 1, small.std * largest))
        axes = (0, *range(2, x.ndim))
        mean = x.mean(axis=axes, dtype=np.float64)
        # In pieces, because the deviations of a large uint8 set would take eight times its memory in float64.
        squares, rows = np.zeros_like(mean), max(1, 2**20 // x[0].size)
        for start in range(0, len(x), rows):
            deviation = x[start : start + rows] - _per_channel(mean, x.ndim)
            squares += np.square(deviation, out=deviation).sum(axis=axes)
        std = np.sqrt(squares / (x.size // len(mean)))
        std[(x.max(axis=axes) == x.min(axis=axes)) | (std == 0)] = 1
        return cls(mean, std)

    def config(self) -> dict:
        """The constructor's arguments as JSON values, exact to the bit."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist(), "dtype": self.dtype}

    @classmethod
    def from_config(cls, config: dict) -> Standardize:
        """What `config` gave; ValueError where it is none."""
        if not isinstance(config, dict) or not {"mean", "std"} <= config.keys() <= {"mean", "std", "dtype"}:
            raise ValueError(f"Standardize: expected mean, std and dtype, got {shown(config)}")
        return cls(**config)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x = _numbers("Standardize", x)
        if x.ndim not in (2, 4) or x.shape[1] != len(self.mean):
            n = len(self.mean)
            raise ValueError(f"Standardize: expected x of shape (N, {n}) or (N, {n}, H, W), got {x.shape}")
        dtype = np.float64 if self._wide or not np.can_cast(x.dtype, np.float32) else np.float32
        with np.errstate(over="ignore"):  # what is beyond float32 becomes infinite, which training refuses
            out = np.subtract(x, _per_channel(self.mean, x.ndim).astype(dtype), dtype=dtype)
            out /= _per_channel(self.std, x.ndim).astype(dtype)
            return out.astype(self.dtype, copy=False)

    def __repr__(self) -> str:
        dtype = "" if self.dtype == "float32" else f", dtype={self.dtype!r}"
        return f"Standardize(mean={self.mean.tolist()}, std={self.std.tolist()}{dtype})"


class Shift:
    """Moves each image by whole pixels, dy and dx uniform in −pixels … pixels.

    What comes in at the edge is 0 (`fill="zero"`) or the image mirrored about its edge pixels (`fill="reflect"`,
    which needs images larger than `pixels`).
    """

    def __init__(self, pixels: int, *, fill: str = "zero"):
        if not (is_integer(pixels) and 0 <= pixels <= 1 << 14):
            raise ValueError(f"Shift: pixels must be an int from 0 to {1 << 14}, got {shown(pixels)}")
        if not (isinstance(fill, str) and fill in ("zero", "reflect")):
            raise ValueError(f'Shift: fill must be "zero" or "reflect", got {shown(fill)}')
        self.pixels, self.fill = int(pixels), fill

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x, p = _images("Shift", x, rng), self.pixels
        n, _, height, width = x.shape
        if self.fill == "reflect" and min(height, width) <= p:
            raise ValueError(f"Shift: reflecting {p} pixels needs images larger than that, got {height}×{width}")
        padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), "reflect" if self.fill == "reflect" else "constant")
        windows = sliding_window_view(padded, (height, width), axis=(2, 3))
        dy, dx = rng.integers(0, 2 * p + 1, size=(2, n))
        return windows[np.arange(n), :, dy, dx]

    def __repr__(self) -> str:
        return f"Shift({self.pixels}, fill={self.fill!r})"


class Flip:
    """Mirrors each image left to right with probability `p`."""

    def __init__(self, p: float = 0.5):
        if not (is_number(p) and 0 <= p <= 1):
            raise ValueError(f"Flip: p must be from 0 to 1, got {shown(p)}")
        self.p = p

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = _images("Flip", x, rng)
        flipped = rng.random(len(x)) < self.p
        out = x.copy()
        out[flipped] = x[flipped, :, :, ::-1]
        return out

    def __repr__(self) -> str:
        return f"Flip({self.p})"


class Rotate:
    """Rotates each image about its centre by an angle uniform in −degrees … degrees, counter-clockwise.

    Bilinear: the value at a pixel is that at its origin in the unrotated image, interpolated between the four
    pixels around it; outside the image it is 0. Integer dtypes are rounded.
    """

    def __init__(self, degrees: float):
        if not (is_number(degrees) and 0 <= degrees <= 180):
            raise ValueError(f"Rotate: degrees must be from 0 to 180, got {shown(degrees)}")
        self.degrees = degrees

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = _images("Rotate", x, rng)
        return _rotate(x, np.deg2rad(rng.uniform(-self.degrees, self.degrees, size=len(x))))

    def __repr__(self) -> str:
        return f"Rotate({self.degrees})"


class Compose:
    """Applies augmentations in turn, to a copy, so that one of the user's own may work in place."""

    def __init__(self, *augmentations: Callable[[np.ndarray, np.random.Generator], np.ndarray]):
        for augmentation in augmentations:
            if not callable(augmentation) or isinstance(augmentation, type):
                raise TypeError(f"Compose: expected augmentations called as f(x, rng), got {shown(augmentation)}")
        self.augmentations = augmentations

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        x = np.array(x)
        for augmentation in self.augmentations:
            x = augmentation(x, rng)
        return x

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.augmentations))})"


def _rotate(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """`x` (N, C, H, W) rotated counter-clockwise by `angles` (N,) in radians."""
    n, channels, height, width = x.shape
    pixels, stride = height * width, width + 3
    real = np.float32 if x.dtype in (np.uint8, np.float32) else np.float64
    cos, sin = (f(angles).astype(real)[:, np.newaxis, np.newaxis] for f in (np.cos, np.sin))
    down = np.arange(height, dtype=real)[:, np.newaxis] - (height - 1) / 2
    right = np.arange(width, dtype=real) - (width - 1) / 2
    # The origin of each pixel, relative to the centre: turned clockwise, with rows counting downwards.
    rows = (cos * down + sin * right + (height - 1) / 2).reshape(n, 1, pixels)
    columns = (cos * right - sin * down + (width - 1) / 2).reshape(n, 1, pixels)
    # A border of zeros, one pixel before and two after, is where all origins outside the image are sent.
    rows, columns = np.clip(rows, -1, height) + 1, np.clip(columns, -1, width) + 1
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (1, 2))).reshape(n, channels, (height + 3) * stride)
    top, left = np.floor(rows), np.floor(columns)
    down, right = rows - top, columns - left
    corner = top.astype(np.intp) * stride + left.astype(np.intp)

    def pixel(offset: int) -> np.ndarray:
        return np.take_along_axis(padded, corner + offset, axis=2)

    upper = pixel(0) * (1 - right) + pixel(1) * right
    lower = pixel(stride) * (1 - right) + pixel(stride + 1) * right
    out = upper * (1 - down) + lower * down
    if x.dtype.kind in "iu":
        np.rint(out, out=out)
    return out.astype(x.dtype).reshape(x.shape)


def _per_channel(values: np.ndarray, ndim: int) -> np.ndarray:
    return values.reshape(-1, *(1,) * (ndim - 2))


def _numbers(name: str, x) -> np.ndarray:
    x = np.asarray(x)
    if x.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected an array of numbers, got dtype {x.dtype}")
    return x


def _images(name: str, x, rng) -> np.ndarray:
    x = _numbers(name, x)
    if x.ndim != 4:
        raise ValueError(f"{name}: expected images of shape (N, C, H, W), got {x.shape}")
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"{name}: expected rng to be a numpy.random.Generator, got {shown(rng)}")
    return x
