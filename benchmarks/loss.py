"""Owns the benchmark of softmax with cross-entropy: verified against its twin in NumPy, then timed beside it.

    python benchmarks/loss.py [--seconds 0.3]

In a loop of its own, the best case of both: within a training step NumPy's many calls cost several times as much,
as their code has left the caches.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from kernels import call_times  # beside this script

import cnn_ext
from cnn_ext import reference
from pynn.environment import describe

SHAPES = [(100, 10), (256, 100), (500, 1000)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="of timing, each")
    seconds = parser.parse_args().seconds
    print(describe())
    rng = np.random.default_rng(0)
    for n, k in SHAPES:
        scores, labels = rng.standard_normal((n, k), np.float32), rng.integers(0, k, n)
        loss, dscores = cnn_ext.softmax_cross_entropy(scores, labels)
        expected_loss, expected = reference.softmax_cross_entropy(scores, labels)
        if abs(loss - expected_loss) > 1e-12 * expected_loss or np.abs(dscores - expected).max() > 1e-6 / n:
            raise SystemExit(f"({n}, {k}): not what the twin gives; nothing was timed")
        kernel, twin = (
            float(np.median(call_times(partial(op, scores, labels), seconds)))
            for op in (cnn_ext.softmax_cross_entropy, reference.softmax_cross_entropy)
        )
        print(
            f"({n}, {k}) float32, {cnn_ext.get_num_threads()} threads at most: {kernel * 1e6:.1f} µs, "
            f"NumPy {twin * 1e6:.1f} µs, ratio {twin / kernel:.1f}"
        )


if __name__ == "__main__":
    main()
