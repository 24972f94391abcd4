"""Owns one measured process: it builds one peer's network, compares it with the reference, then times its steps.

    python benchmarks/networks_worker.py NETWORK MODE BATCH PEER [VARIANT] --folder FOLDER

prints one JSON line. Modes: `reference` (pynn: writes weights, losses and outputs into the folder, from which all
peers start), `export` (torch: writes the ONNX file), `train` and `infer` (time). A peer is a module
`networks_<peer>.py` with

    convert(job, x, y)            one batch in the form that the peer takes; not timed
    trainer(job, state, dropout)  a function (x, y) -> loss that makes one training step
    predictor(job, state)         a function x -> scores

`networks.py` runs the processes; nothing but NumPy and the peer is imported here.
"""

import argparse
import importlib
import itertools
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

POOL = 16  # batches that the steps go round: more than a cache holds, as in a training on real data
CHECKED_STEPS = 3
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One network: a sample's shape, the batch of a training step, and whether SGD trains it (else Adam)."""

    title: str
    shape: tuple[int, ...]
    batch: int = 100
    sgd: bool = False


CASES = {
    "mlp": Case("MLP 784-1000-10", (784,)),
    "cnn7": Case("CNN 7x7, FC 16", (1, 28, 28)),
    "cnn5": Case("CNN 5x5, FC 512", (1, 28, 28)),
    "cnn_bn": Case("CNN 7x7, BN, FC 100", (1, 28, 28)),
    "vgg": Case("VGG 8…64, BN", (3, 32, 32)),
    "airbench94": Case("airbench94", (3, 32, 32), batch=256, sgd=True),
}
DROPOUT = 0.5
ADAM_LR, SGD_LR, MOMENTUM = 1e-3, 1e-3, 0.9  # SGD at 1e-2 makes 1e-4 of a rounding error in three steps


def batches(network: str, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same POOL batches (x, y) in every process; a smaller first batch is the start of a larger one."""
    x = np.random.default_rng(0).standard_normal((POOL, size, *CASES[network].shape), dtype=np.float32)
    return list(zip(x, np.random.default_rng(1).integers(0, 10, (POOL, size)), strict=True))


def verify(job: argparse.Namespace, peer, reference: dict, pool: list) -> None:
    """Exits with a sentence unless the peer's first losses, or its scores, are the reference's."""
    state = weights(reference)
    if job.mode == "train":
        step, expected = peer.trainer(job, state, dropout=0.0), reference["losses"]
        got, scale = np.array([step(*batch) for batch in pool[:CHECKED_STEPS]]), np.abs(expected)
    else:
        got, expected = np.asarray(peer.predictor(job, state)(pool[0][0])), reference["outputs"][: job.batch]
        scale = np.abs(expected).max()
    if got.shape != expected.shape:
        sys.exit(f"mismatch: expected scores of shape {expected.shape}, got {got.shape}")
    if not (error := np.max(np.abs(got - expected) / scale)) <= TOLERANCE:
        what = f"the first losses, {got} for {expected}," if job.mode == "train" else "the scores"
        sys.exit(f"mismatch: {what} differ by {error:.1e} of the reference, more than {TOLERANCE:g}")


def weights(reference: dict) -> dict[str, np.ndarray]:
    """The starting parameters and buffers by path, as in pynn's `state_dict`."""
    return {name.removeprefix("state/"): reference[name] for name in reference if name.startswith("state/")}


def timed(step: Callable, pool: Iterator, seconds: float, at_least: int) -> tuple[list[float], Any]:
    """The seconds of each step, at least `at_least` steps and about `seconds` of them; the last step's result."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < end:
        arguments = next(pool)
        start = time.perf_counter()
        result = step(*arguments)
        times.append(time.perf_counter() - start)
    return times, result


def measure(job: argparse.Namespace, peer, state: dict, pool: list) -> dict:
    """Warms up, then times: {"ms": the median step, "steps": their number}."""
    if job.mode == "train":
        step, arguments = peer.trainer(job, state, dropout=DROPOUT), itertools.cycle(pool)
    else:
        step, arguments = peer.predictor(job, state), itertools.cycle([(x,) for x, _ in pool])
    timed(step, arguments, job.seconds / 4, at_least=2)
    times, result = timed(step, arguments, job.seconds, at_least=3)
    if job.mode == "train" and not math.isfinite(result):
        sys.exit(f"mismatch: the loss became {result} in the timed steps")
    return {"ms": 1e3 * float(np.median(times)), "steps": len(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description="times one network of one peer; see networks.py")
    parser.add_argument("network", choices=CASES)
    parser.add_argument("mode", choices=["reference", "export", "train", "infer"])
    parser.add_argument("batch", type=int)
    parser.add_argument("peer", choices=["pynn", "torch", "onnxruntime"])
    parser.add_argument("variant", nargs="?", default="", help="of torch: eager, channels_last or compile")
    parser.add_argument("--folder", type=Path, required=True, help="where the reference is")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--verify", action="store_true", help="compare with the reference before timing")
    job = parser.parse_args()

    peer = importlib.import_module(f"networks_{job.peer}")
    if job.mode == "reference":
        peer.write_reference(job, batches(job.network, job.batch), CHECKED_STEPS)
        return print("{}")
    with np.load(job.folder / f"{job.network}.npz") as file:
        reference = dict(file)
    pool = [peer.convert(job, x, y) for x, y in batches(job.network, job.batch)]
    if job.mode == "export":
        peer.export(job, weights(reference), pool[0][0])
        return print("{}")
    if job.verify:
        verify(job, peer, reference, pool)
    print(json.dumps(measure(job, peer, weights(reference), pool)))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # the reason once more, in one last line
        traceback.print_exc()
        sys.exit(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
