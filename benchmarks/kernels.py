"""Owns the benchmark of single passes: each is verified, then timed, as a share of the peak beside it.

    python benchmarks/kernels.py [--threads 2] [--seconds 0.6] [--only vgg airbench first linear] [--out FILE]

The peak is what independent multiply-adds in registers reach on the same threads. As the processor may be shared,
a pass is timed in slices with the peak measured between them: each slice has its own share, and the median of the
shares is reported, beside the median time and the median peak. `nominal` counts the products of the formula, those
with zero padding too, as other libraries' figures do; they are not computed, so it can pass 100 %. `useful` counts
the products inside the images; Winograd's convolution computes fewer, so there it can as well.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np

import cnn_ext
from cnn_ext import blocked, reference
from cnn_ext.isa import kernels
from pynn.environment import describe
from pynn.files import check_writable, write_atomic

SLICES = 15  # of the time of a pass
TOLERANCE = 1e-5  # relative to the largest value, in float32, as the kernel tests


@dataclass(frozen=True)
class Shape:
    """A convolution of n images c × size × size, or with kernel None a fully-connected layer."""

    n: int
    c: int
    f: int
    size: int = 1
    kernel: int | None = None
    padding: int = 0

    @property
    def out(self) -> int:
        return 1 if self.kernel is None else self.size + 2 * self.padding - self.kernel + 1

    @property
    def flops(self) -> tuple[int, int]:
        """(useful, nominal) floating-point operations of one pass."""
        if self.kernel is None:
            return (2 * self.n * self.c * self.f,) * 2
        inside = sum(
            0 <= o - self.padding + k < self.size for o in range(self.out) for k in range(self.kernel)
        )  # of one axis
        channels = 2 * self.n * self.c * self.f
        return channels * inside**2, channels * (self.out * self.kernel) ** 2

    def __str__(self) -> str:
        if self.kernel is None:
            return f"linear {self.c}→{self.f}, batch {self.n}"
        return f"{self.c}→{self.f} {self.kernel}×{self.kernel} at {self.size}×{self.size}, batch {self.n}"


SHAPES = {
    "vgg": [
        Shape(100, 8, 16, 16, 3, 1),
        Shape(100, 16, 32, 8, 3, 1),
        Shape(100, 32, 32, 8, 3, 1),
        Shape(100, 32, 64, 4, 3, 1),
        Shape(100, 64, 64, 4, 3, 1),
        Shape(100, 64, 64, 2, 3, 1),
    ],
    "airbench": [
        Shape(256, 24, 64, 31, 3, 1),
        Shape(256, 64, 64, 15, 3, 1),
        Shape(256, 64, 256, 15, 3, 1),
        Shape(256, 256, 256, 7, 3, 1),
        Shape(256, 256, 256, 3, 3, 1),
    ],
    "first": [
        Shape(100, 1, 32, 28, 5),
        Shape(100, 1, 32, 28, 7),
        Shape(100, 3, 8, 32, 3, 1),
        Shape(256, 3, 24, 32, 2),
    ],
    "linear": [Shape(100, 784, 1000), Shape(100, 4608, 512)],
}


def new(count: int) -> np.ndarray:
    raw = np.zeros(4 * count + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * count].view(np.float32)


def blocks(shape: tuple[int, int, int, int], *, vector: bool) -> blocked.Blocks:
    lanes = blocked.lanes_for(shape[1])
    return blocked.Blocks(
        new(blocked.blocks_size(shape, lanes)), shape, lanes, shape[0] if vector else blocked.BATCH
    )


class Passes:
    """The three passes of a shape over random arrays."""

    def __init__(self, shape: Shape, first_layer: bool, rng: np.random.Generator):
        vector, kernel, p = shape.kernel is None, shape.kernel or 1, shape.padding
        self.x = rng.standard_normal((shape.n, shape.c, shape.size, shape.size), np.float32)
        self.dout = rng.standard_normal((shape.n, shape.f, shape.out, shape.out), np.float32)
        self.weight = rng.standard_normal((shape.f, shape.c, kernel, kernel), np.float32)
        self.window = {"stride": (1, 1), "padding": (p, p), "dilation": (1, 1)}
        if first_layer:
            self.x_at = blocked.Image(new(blocked.image_size(self.x.shape, (p, p))), self.x.shape, (p, p))
        else:
            self.x_at = blocks(self.x.shape, vector=vector)
        self.dout_at, self.out_at = (blocks(self.dout.shape, vector=vector) for _ in range(2))
        self.dx_at = None if first_layer else blocks(self.x.shape, vector=vector)
        blocked.pack(self.x, self.x_at)
        blocked.pack(self.dout, self.dout_at)
        if vector:  # in the fully-connected layer's own order, (in, out)
            stored, self.dweight = (
                np.ascontiguousarray(self.weight[:, :, 0, 0].T),
                np.zeros((shape.c, shape.f), np.float32),
            )
            weight, grad = (blocked.linear_weights(array, (shape.c, 1, 1)) for array in (stored, self.dweight))
        else:
            self.dweight = np.zeros_like(self.weight)
            weight, grad = (blocked.convolution_weights(array) for array in (self.weight, self.dweight))
        packs, gathers = blocked.convolution(
            self.x_at, weight, None, self.out_at, relu=False, new=new, **self.window
        )
        self.steps = {"forward": packs + gathers}
        if self.dx_at is not None:
            self.steps["input gradient"] = blocked.input_gradient(
                self.dout_at, weight, self.dx_at, new=new, **self.window
            )
        self.steps["weight gradient"] = [
            blocked.weight_gradient(self.x_at, self.dout_at, grad, new=new, **self.window)
        ]

    def run(self, name: str) -> None:
        for step in self.steps[name]:
            step(cnn_ext.get_num_threads())

    def verify(self) -> float:
        """The largest error of all passes, relative to the largest value, on the first images in float64."""
        some = slice(0, 13)
        x, dout, weight = (array.astype(np.float64) for array in (self.x, self.dout, self.weight))
        errors = []
        for name in self.steps:
            self.run(name)
        expected = reference.conv2d_forward(x[some], weight, **self.window)
        errors.append(_error(_unpacked(self.out_at)[some], expected))
        if self.dx_at is not None:
            dx, _, _ = cnn_ext.conv2d_backward(dout[some], x[some], weight, **self.window)
            errors.append(_error(_unpacked(self.dx_at)[some], dx))
        _, dweight, _ = cnn_ext.conv2d_backward(dout, x, weight, **self.window, input_grad=False)
        errors.append(_error(self.dweight, dweight if self.dweight.ndim == 4 else dweight[:, :, 0, 0].T))
        return max(errors)


def _unpacked(values: blocked.Blocks) -> np.ndarray:
    out = np.empty(values.shape, np.float32)
    blocked.unpack(values, out)
    return out


def _error(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@dataclass
class Timing:
    seconds: float  # a call, the median
    peak: float  # FLOP/s, the median
    calls_at_peak: float  # calls / s divided by the peak, the median of the slices


def call_times(call, seconds: float) -> list[float]:
    """The seconds of each call, for about `seconds` of them."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or not times:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return times


def time_slices(call, seconds: float) -> Timing:
    call()
    times: list[float] = []
    peaks, ratios = [peak()], []
    for _ in range(SLICES):
        here = call_times(call, seconds / SLICES)
        peaks.append(peak())
        ratios.append(2 / (float(np.median(here)) * (peaks[-2] + peaks[-1])))
        times += here
    return Timing(float(np.median(times)), float(np.median(peaks)), float(np.median(ratios)))


def peak() -> float:
    """FLOP/s of multiply-adds in registers on all threads: the median of three short rounds."""
    steps, threads = 100_000, cnn_ext.get_num_threads()
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        flops = kernels.peak(steps, threads)
        rates.append(flops / (time.perf_counter() - began))
    return float(np.median(rates))


def measure(shape: Shape, first_layer: bool, seconds: float) -> list[dict]:
    passes = Passes(shape, first_layer, np.random.default_rng(0))
    error = passes.verify()
    if error > TOLERANCE:
        raise SystemExit(f"{shape}: wrong by {error:.1e} of the largest value; nothing was timed")
    timings = {name: time_slices(lambda name=name: passes.run(name), seconds) for name in passes.steps}
    useful, nominal = shape.flops
    return [
        {
            "shape": str(shape),
            "pass": name,
            "ms": 1e3 * timing.seconds,
            "useful": useful * timing.calls_at_peak,
            "nominal": nominal * timing.calls_at_peak,
            "peak_gflops": timing.peak / 1e9,
            "error": error,
        }
        for name, timing in timings.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.6, help="for each pass")
    parser.add_argument("--only", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--out", help="JSON file")
    arguments = parser.parse_args()
    if arguments.out:
        check_writable(arguments.out)
    cnn_ext.set_num_threads(arguments.threads)
    print(f"{'shape':42} {'pass':16} {'ms':>9} {'useful':>7} {'nominal':>8} {'peak':>6}")
    rows = []
    for family in arguments.only:
        for shape in SHAPES[family]:
            for row in measure(shape, family == "first", arguments.seconds):
                print(
                    f"{row['shape']:42} {row['pass']:16} {row['ms']:9.3f} {row['useful']:7.1%} "
                    f"{row['nominal']:8.1%} {row['peak_gflops']:6.1f}"
                )
                rows.append(row)
    if arguments.out:
        write_atomic(arguments.out, json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
