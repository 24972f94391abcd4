"""Owns the benchmark of growth: time per sample of a training step against batch, image size, channels, threads.

    python benchmarks/growth.py [--seconds 0.5] [--out FILE]

The network is Conv 3×3 – BN – ReLU – Conv 3×3 – BN – ReLU – MaxPool – FC, with 32 channels on 16×16 images in
batches of 96 unless it is that which grows. `GFLOP/s` counts the convolutions' products, forward and backward.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

import pynn
from pynn.environment import describe
from pynn.files import check_writable, write_atomic

START = {"batch": 96, "size": 16, "channels": 32, "threads": 2}
GROWTH = {
    "batch": (1, 2, 4, 8, 12, 24, 48, 96, 192, 384),
    "size": (4, 8, 16, 32, 64),
    "channels": (4, 8, 16, 24, 32, 64, 128),
}


def seconds_per_step(batch: int, size: int, channels: int, threads: int, seconds: float) -> float:
    pynn.set_num_threads(threads)
    rng = np.random.default_rng(0)
    layers: list[pynn.Module] = []
    for before in (3, channels):
        layers += [
            pynn.Conv2d(before, channels, 3, padding=1, bias=False, rng=rng),
            pynn.BatchNorm2d(channels),
            pynn.ReLU(),
        ]
    features = channels * (size // 2) ** 2
    model = pynn.Sequential(*layers, pynn.MaxPool2d(2), pynn.Flatten(), pynn.Linear(features, 10, rng=rng))
    solver = pynn.Solver(model, pynn.CrossEntropyLoss(), pynn.Adam(model.parameters()), rng=rng)
    x = rng.standard_normal((batch, 3, size, size), np.float32)
    y = rng.integers(0, 10, batch)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 6:
        began = time.perf_counter()
        solver.train_step(x, y)
        times.append(time.perf_counter() - began)
    return float(np.median(times[2:]))


def flops(batch: int, size: int, channels: int) -> float:
    """Of both convolutions: the first has no input gradient."""
    pixels = 2.0 * batch * size**2 * 9 * channels
    return pixels * (2 * 3 + 3 * channels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    parser.add_argument("--out", help="JSON file")
    arguments = parser.parse_args()
    if arguments.out:
        check_writable(arguments.out)
    most = pynn.get_num_threads()
    START["threads"] = most
    rows = []
    print(f"{'what grows':10} {'to':>5} {'ms a step':>10} {'µs a sample':>12} {'GFLOP/s':>8}")
    for what, values in {**GROWTH, "threads": tuple(range(1, most + 1))}.items():
        for value in values:
            case = {**START, what: value}
            taken = seconds_per_step(**case, seconds=arguments.seconds)
            rate = flops(case["batch"], case["size"], case["channels"]) / taken / 1e9
            print(f"{what:10} {value:5} {1e3 * taken:10.3f} {1e6 * taken / case['batch']:12.2f} {rate:8.1f}")
            rows.append({"grows": what, **case, "ms": 1e3 * taken, "gflops": rate})
    if arguments.out:
        write_atomic(arguments.out, json.dumps({"environment": describe(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
