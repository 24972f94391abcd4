"""What every constructor of a layer checks: sizes, windows, rates, dtypes; refusals name layer and argument."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import numpy as np

from pynn.initializers import INITIALIZERS
from pynn.module import LayerTypeError, Module
from pynn.values import as_dtype, as_float, is_integer, is_number, shown

LARGEST = 2**30  # of a size
LARGEST_NUMBER = float(np.finfo(np.float32).max)


def size(layer: Module, name: str, value) -> int:
    """`value` as an int of at least 1."""
    if not is_integer(value):
        raise layer._refuse(f"'{name}' must be an int, got {shown(value)}", LayerTypeError)
    if not 1 <= value <= LARGEST:
        raise layer._refuse(f"'{name}' must be from 1 to 2**30, got {shown(value)}")
    return int(value)


def pair(layer: Module, name: str, value, minimum: int) -> tuple[int, int]:
    """`value`, an int or a pair of ints, as (vertical, horizontal), each at least `minimum`."""
    values = (value, value) if is_integer(value) else value
    if not isinstance(values, tuple | list) or len(values) != 2 or not all(map(is_integer, values)):
        raise layer._refuse(f"'{name}' must be an int or a pair of ints, got {shown(value)}", LayerTypeError)
    if not all(minimum <= v <= LARGEST for v in values):
        raise layer._refuse(f"'{name}' must be from {minimum} to 2**30, got {shown(value)}")
    return int(values[0]), int(values[1])


def affordable(layer: Module, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Refuses a weight that this machine has no memory for, before it is asked for: that could end the process."""
    size = math.prod(shape) * (dtype.itemsize + 8)  # it, and its values as they are drawn, in float64
    if size > (there := memory()):
        raise layer._refuse(
            f"its weight of shape {shape} would take {size / 2**30:,.0f} GiB to make, "
            f"of {there / 2**30:,.0f} GiB of memory: make it smaller"
        )


def memory(root: str = "/sys/fs/cgroup") -> float:
    """The bytes that this process may take at most, by machine and container; 1 TiB where that is not known."""
    limits = [2.0**40]
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max"
            limits.append(int(Path(root, name).read_text()))
    return min(limits)


def unpaired(values: tuple[int, int]) -> int | list[int]:
    """The pair as JSON: one int where both are equal."""
    return values[0] if values[0] == values[1] else list(values)


def number(layer: Module, name: str, value, fits, wanted: str) -> float:
    """`value` as a float that float32 holds, for which `fits(value)` holds; `wanted` says so in words."""
    if not is_number(value):
        raise layer._refuse(f"'{name}' must be a number, got {shown(value)}", LayerTypeError)
    real = as_float(value)
    if not (abs(real) <= LARGEST_NUMBER and fits(real)):
        raise layer._refuse(f"'{name}' must be {wanted}, got {shown(value)}")
    return real


def flag(layer: Module, name: str, value) -> bool:
    if not isinstance(value, bool):
        raise layer._refuse(f"'{name}' must be True or False, got {shown(value)}", LayerTypeError)
    return value


def initializer(layer: Module, name: str) -> str:
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise layer._refuse(f"'init' must be one of {', '.join(INITIALIZERS)}, got {shown(name)}")
    return name


def floating(layer: Module, dtype) -> np.dtype:
    """`dtype`, a type or its name, as float32 or float64."""
    real = as_dtype(dtype)
    if real is not None:
        return real
    raise layer._refuse(f"'dtype' must be float32 or float64, got {shown(dtype)}", LayerTypeError)


def generator(layer: Module, rng) -> np.random.Generator:
    """`rng`, or a new generator from fresh entropy where it is None."""
    if rng is None:
        return np.random.default_rng()
    if not isinstance(rng, np.random.Generator):
        problem = (
            f"'rng' must be a numpy.random.Generator or None, got {shown(rng)}: "
            "pass numpy.random.default_rng(seed)"
        )
        raise layer._refuse(problem, LayerTypeError)
    return rng


def window_output(layer: Module, image, kernel, stride, padding, dilation=(1, 1)) -> tuple[int, int]:
    """(OH, OW) of a sliding window: ⌊(S + 2P − D(K − 1) − 1) / stride⌋ + 1 per axis of an `image` (H, W)."""
    extents = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    padded = [s + 2 * p for s, p in zip(image, padding, strict=True)]
    if extents[0] > padded[0] or extents[1] > padded[1]:
        raise layer._refuse(
            f"expected an image no smaller than the {extents[0]}×{extents[1]} window, got {image[0]}×{image[1]}, "
            f"{padded[0]}×{padded[1]} with padding: use a smaller kernel_size, more padding, or fewer pools"
        )
    return (padded[0] - extents[0]) // stride[0] + 1, (padded[1] - extents[1]) // stride[1] + 1


def image_remedy(shape: tuple, channels: int | str, change: str) -> str:
    """What to do about an x of `shape` where (N, `channels`, H, W) was expected."""
    if len(shape) == 3:
        return "add the channel axis with x[:, None], or for one image the batch axis with x[None]"
    if len(shape) != 4:
        return "images have four axes"
    if shape[3] == channels:
        return "the channels come second, so x.transpose(0, 3, 1, 2)"
    return change
