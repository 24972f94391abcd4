"""Trains for hours, as users do, and measures whether memory stays flat.

    python tests/endurance/soak.py --minutes 120 --threads 1

One process trains a convolutional network with batch norm and dropout and a fully-connected one, which live as
long as the process: updates with random batch sizes, epochs with validation and a checkpoint file, predictions by
the solver and by frozen models. Beside them other solvers come and go, and one resumes what another began. A round
does all of that once, in random order.

What a solver holds depends on the batch sizes that it met last, for it keeps plans of a few: each sample therefore
follows the same sizes in the same order. Resident memory moves besides with what waits for the garbage collector,
and with free pages that the C library keeps (glibc). So what is judged is what is left after `gc.collect` and
`malloc_trim`: live or leaked objects, and fragmented memory. The size before them is printed too.

Single samples still jump by whole buffers, whose pages are in memory or not according to where the C library found
room. The samples after the warm-up (a tenth of the time) are therefore cut into ten windows of equal length, and
the means of the windows must lie within 1 % of the first. Exit code 1 where they do not.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import pynn

WARM_UP = 0.1  # of the time
WINDOWS = 10
TOLERANCE = 0.01
CLASSES = 10


def give_back() -> None:
    """Frees what nothing refers to, and has the C library give free pages back, where it can."""
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)


def resident() -> int:
    """Bytes of this process that are in memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmRSS")


def convolutional(rng):
    return pynn.models.cnn_bn((3, 16, 16), kernel_size=3, filters=12, hidden=40, n_classes=CLASSES, rng=rng)


def fully_connected(rng):
    return pynn.models.mlp(120, 64, CLASSES, rng=rng)


class Trainee:
    """A model in training, its data, and what is done with it."""

    def __init__(self, build, sample_shape, folder: Path, rng: np.random.Generator):
        self.build, self.rng = build, rng
        self.file = folder / f"{build.__name__}.checkpoint"
        self.x = rng.standard_normal((600, *sample_shape)).astype(np.float32)
        self.y = rng.integers(0, CLASSES, len(self.x))
        self.validation = self.x[:150], self.y[:150]
        self.solver = self.new_solver(100)

    def new_solver(self, batch_size: int) -> pynn.Solver:
        of_model, of_solver = self.rng.spawn(2)
        model = self.build(of_model)
        return pynn.Solver(
            model,
            pynn.CrossEntropyLoss(),
            pynn.Adam(model.parameters(), lr=1e-3),
            batch_size=batch_size,
            max_grad_norm=5.0,
            rng=of_solver,
            progress=False,
        )

    def updates(self) -> None:
        for size in self.rng.integers(2, 257, 10):
            some = self.rng.integers(0, len(self.x), size)
            self.solver.train_step(self.x[some], self.y[some])

    def epochs(self) -> None:
        self.solver.fit(
            self.x, self.y, epochs=2, validation_data=self.validation, patience=3, checkpoint=self.file
        )

    def predictions(self) -> None:
        frozen = pynn.freeze(self.solver.model)
        for size in self.rng.integers(1, 257, 5):
            frozen(self.x[:size])
        self.solver.evaluate(*self.validation)
        self.solver.predict(self.x)

    def other_solvers(self) -> None:
        """One begins a run, another resumes it; both are left to the interpreter."""
        size = int(self.rng.integers(20, 120))
        self.new_solver(size).fit(self.x, self.y, epochs=1, checkpoint=self.file)
        successor = self.new_solver(size)
        successor.resume(self.file)
        successor.fit(self.x, self.y, epochs=1)

    def settle(self) -> None:
        """Leaves the solver with plans of the same sizes each time: more than it keeps, met nowhere else."""
        for size in range(300, 320):
            self.solver.predict(self.x[:size])
            self.solver.train_step(self.x[:size], self.y[:size])


def rounds(folder: Path, seed: int, seconds: float):
    """Of each round until the time is over: seconds since the start, resident bytes, those after `give_back`."""
    rng = np.random.default_rng(seed)
    trainees = [
        Trainee(convolutional, (3, 16, 16), folder, rng),
        Trainee(fully_connected, (120,), folder, rng),
    ]
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        work = [
            action
            for each in trainees
            for action in (each.updates, each.epochs, each.predictions, each.other_solvers)
        ]
        for i in rng.permutation(len(work)):
            work[i]()
        for each in trainees:
            each.settle()
        as_it_is = resident()
        give_back()
        yield time.monotonic() - began, as_it_is, resident()


def window_means(times: list[float], sizes: list[int], seconds: float) -> list[float]:
    """The mean size in each of `WINDOWS` windows of time after the warm-up."""
    warm = WARM_UP * seconds
    width = (seconds - warm) / WINDOWS
    windows: list[list[int]] = [[] for _ in range(WINDOWS)]
    for at, size in zip(times, sizes, strict=True):
        if at >= warm:
            windows[min(int((at - warm) / width), WINDOWS - 1)].append(size)
    if not all(windows):
        raise SystemExit("soak: a window of time has no sample: give it more minutes")
    return [statistics.mean(window) for window in windows]


def spread(means: list[float]) -> float:
    """How far the means go from the first, as a fraction of it."""
    return max(abs(mean / means[0] - 1) for mean in means)


def mib(*sizes: float) -> list[str]:
    return [f"{size / 2**20:.2f}" for size in sizes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    pynn.set_num_threads(arguments.threads)

    seconds, times, sizes, held, shown = 60 * arguments.minutes, [], [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for at, size, still in rounds(Path(folder), arguments.seed, seconds):
            times.append(at)
            sizes.append(size)
            held.append(still)
            if at - shown >= seconds / 60:
                shown = at
                print(f"{at / 60:7.1f} min {len(times):6d} rounds", *mib(size, still), flush=True)
    minutes, python = times[-1] / 60, sys.version.split()[0]
    print(f"{len(times)} rounds in {minutes:.1f} minutes, seed {arguments.seed}, Python {python}")
    print("resident MiB, mean of each window:", *mib(*window_means(times, sizes, seconds)))
    means = window_means(times, held, seconds)
    print("held MiB, mean of each window:    ", *mib(*means))
    flat = spread(means) <= TOLERANCE
    print(f"farthest from the first: {spread(means):.2%}, {'flat' if flat else 'NOT flat'} within {TOLERANCE:.0%}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
