"""The engine against the layers in float64, on random networks; same bits on any number of threads.

    python tests/engine/campaign.py --cases 20000 --seed 0 --isas avx512,avx2,baseline --threads 1,2,3,4 --jobs 2

Each network is trained a step and run frozen, on every instruction set. Scores, gradients and running statistics
must be those of the same model in float64, whose layers compute them one by one. A difference is explained where
rounding alone can make it: where the float64 model, each of its layers' results off by a few float32 roundings,
moves as far (units at a kink, ties of a maximum, channels of next to no variance). Ends with 1 if a difference is
left, or bits differ between numbers of threads, or between AVX2 and AVX-512.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from random_networks import Case, network_case

import cnn_ext
import pynn
from pynn.engine import Trainer
from pynn.layers import BatchNorm1d, BatchNorm2d, Conv2d

TOLERANCE = 1e-5  # of the largest value of an array
ROUNDING = 2.0**-21  # by which results of layers are moved: a sum in float32 is off by one to a few of 2⁻²⁴
AMPLIFICATION = 4  # how much further than the float64 model moves the engine may be
TRIALS = 24
UNTOUCHED = 1.0  # gradients of what is not trained
LARGEST = 1e34  # values beyond may overflow on their way
SMALLEST = 1e-34  # differences below are lost in subnormal numbers
SHARD = 200  # networks that a process computes
EQUAL = {"avx2", "avx512"}  # instruction sets with the same bits

Arrays = dict[str, np.ndarray]


# -- what is computed -----------------------------------------------------------------------------------------


def seed_masks(model) -> None:
    """Dropout draws the same masks from here on as in every other model that was seeded."""
    generators = {id(layer.rng): layer.rng for _, layer in model.named_modules() if hasattr(layer, "rng")}
    for number, rng in enumerate(generators.values()):
        rng.bit_generator.state = np.random.default_rng(number).bit_generator.state


def of_the_engine(case: Case, trainer: Trainer, start: Arrays) -> Arrays:
    """What a training step gives, from the running statistics `start`."""
    model = trainer.model
    for path, array in model.named_buffers():
        array[...] = start[path]
    seed_masks(model)
    for (
        parameter
    ) in model.parameters():  # `backward` has to replace what is trained, and to leave the others alone
        parameter.grad[...] = np.nan if parameter.requires_grad else UNTOUCHED
    found = {"scores": trainer.forward(case.x).copy()}
    trainer.backward(case.dscores)
    trainer.accept()
    return found | state(model)


def of_the_layers(model, case: Case) -> Arrays:
    """The same by the layers of `model`, of float64, which is then used up; and the scores of inference."""
    seed_masks(model)
    inferred = model(case.x_inference.astype(np.float64))
    scores = model.forward(case.x.astype(np.float64), training=True)
    for parameter in model.parameters():
        parameter.grad[...] = 0 if parameter.requires_grad else UNTOUCHED
    model.backward(case.dscores.astype(np.float64), input_grad=False)
    return {"scores": scores, "frozen scores": inferred} | state(model)


def state(model) -> Arrays:
    gradients = {f"gradient of {path}": parameter.grad.copy() for path, parameter in model.named_parameters()}
    return gradients | {path: array.copy() for path, array in model.named_buffers()}


def shaken(model, rng, ahead: float, back: float):
    """A copy of the float64 `model` whose parameters and layers' results are off by about `ahead` of themselves,
    and gradients by `back`.

    So is the mean of each channel, as a coefficient that all its values share is rounded too. Zeros stay.
    """

    def off(array, size):
        if array is None or array.ndim < 2:
            return array
        each = array * (1 + size * rng.standard_normal(array.shape))
        typical = np.abs(array).mean(axis=(0, *range(2, array.ndim)), keepdims=True)
        return each + (array != 0) * typical * size * rng.standard_normal(typical.shape)

    def shake(layer):
        forward, backward = layer.forward, layer.backward

        def shaken_backward(dout, *, input_grad=True):
            kept, dx = layer._cache, off(backward(dout, input_grad=input_grad), back)
            if isinstance(layer, BatchNorm1d | BatchNorm2d) and dx is not None:  # the difference of terms as large
                scale = layer.weight.data / np.sqrt(kept[2][2] + layer.eps)
                dx += dout * scale.reshape(-1, *(1,) * (dx.ndim - 2)) * back * rng.standard_normal(dx.shape)
            return dx

        layer.forward = lambda x, *, training=False: off(forward(x, training=training), ahead)
        layer.backward = shaken_backward

    model = copy.deepcopy(model)
    for parameter in model.parameters():
        parameter.data *= 1 + ahead * rng.standard_normal(parameter.shape)
    for _, layer in model.named_modules():
        if not any(layer.children()):
            shake(layer)
    return model


# -- comparison -----------------------------------------------------------------------------------------------


def differences(actual: Arrays, expected: Arrays) -> dict[str, float]:
    """By how much each array is further from what is expected than the tolerance allows."""
    zero = 1e-12 * max(np.abs(array).max() for name, array in expected.items() if "frozen" not in name)
    found = {}
    for name, array in expected.items():
        distance, scale = np.abs(actual[name] - array).max(), np.abs(array).max()
        if not distance <= max(TOLERANCE * scale, SMALLEST) and not (
            scale < zero and distance <= TOLERANCE * 1e12 * zero
        ):
            found[name] = float(distance)
    return found


def unexplained(case: Case, model, actual: Arrays, expected: Arrays) -> list[str]:
    """The differences that the conditioning of the float64 `model` does not explain, in words; [] without."""
    found = differences(actual, expected)
    rng = np.random.default_rng(0)
    moved = dict.fromkeys(found, 0.0)
    for trial in range(TRIALS):
        if not found:
            return []
        size = ROUNDING * (1 if trial < TRIALS // 2 else 8)
        ahead = size * (trial % 2)  # equal samples are rounded alike: then there is noise on the way back alone
        other = Case(
            case.model,
            case.x * (1 + ahead * rng.standard_normal(case.x.shape)),
            case.dscores * (1 + size * rng.standard_normal(case.dscores.shape)),
            case.x_inference * (1 + ahead * rng.standard_normal(case.x_inference.shape)),
            case.title,
        )
        results = of_the_layers(shaken(model, rng, ahead, size), other)
        for name in list(found):
            moved[name] = max(moved[name], float(np.abs(results[name] - expected[name]).max()))
            if found[name] <= TOLERANCE * np.abs(expected[name]).max() + AMPLIFICATION * moved[name]:
                del found[name]
    return [
        f"{name} is off by {distance:.3g} of {np.abs(expected[name]).max():.3g}, by rounding {moved[name]:.2g}"
        for name, distance in found.items()
    ]


def digest(found: Arrays) -> str:
    sums = hashlib.blake2b(digest_size=16)
    for array in found.values():
        sums.update(np.ascontiguousarray(array).tobytes())
    return sums.hexdigest()


def check(case: Case, threads: list[int]) -> tuple[str, list[str], str]:
    """("equal", "explained", "overflow" or "wrong"; what is wrong, in words; digest of the results' bits)."""
    with np.errstate(all="ignore"):
        wide = case.model.astype(np.float64)
        expected = of_the_layers(copy.deepcopy(wide), case)
    start = {path: array.copy() for path, array in case.model.named_buffers()}
    problems: list[str] = []
    results: dict[str, Arrays] = {}
    frozen, trainer = pynn.freeze(case.model), Trainer(case.model)
    for n in threads:
        cnn_ext.set_num_threads(n)
        with np.errstate(all="ignore"):
            found = {"frozen scores": frozen(case.x_inference)} | of_the_engine(case, trainer, start)
        results.setdefault(digest(found), found)
    (bits, actual), *others = results.items()
    for _, other in others:
        names = [name for name in actual if actual[name].tobytes() != other[name].tobytes()]
        problems.append(f"other bits on another number of threads: {', '.join(names)}")
    if not max(np.abs(array).max() for array in expected.values()) < LARGEST:
        return "wrong" if problems else "overflow", problems, bits
    near = not differences(actual, expected)
    if not near:
        problems += unexplained(case, wide, actual, expected)
    problems += infinities(case)
    return "wrong" if problems else "equal" if near else "explained", problems, bits


def infinities(case: Case) -> list[str]:
    """What an infinite or missing number in one sample does that it does not do in the layers, in words.

    It stays in its sample, and where the layers' scores are finite, so are the engine's; there is a NaN where they
    have one. Convolutions of 3 × 3 taps may spread both over the tiles of Winograd's transforms: of networks with
    one it is asked only that other samples are as they were.
    """
    frozen, wide, which = pynn.freeze(case.model), case.model.astype(np.float64), len(case.x_inference) // 2
    others = np.arange(len(case.x_inference)) != which
    tiled = any(isinstance(each, Conv2d) and each.kernel_size == (3, 3) for _, each in case.model.named_modules())
    problems = []
    with np.errstate(all="ignore"):
        before, x = frozen(case.x_inference), case.x_inference.copy()
        value = (np.inf, -np.inf, np.nan)[x.size % 3]
        x[which].flat[x[which].size // 3] = value
        actual, expected = frozen(x), wide(x.astype(np.float64))
    if actual[others].tobytes() != before[others].tobytes():
        problems.append(f"{value} in one sample changes another")
    if not (tiled or np.max(np.abs(expected), initial=0, where=np.isfinite(expected)) > LARGEST):
        finite = np.isfinite(expected)
        if (np.isnan(actual) != np.isnan(expected)).any() or not np.isfinite(actual[finite]).all():
            problems.append(f"{value} in x gives other scores that are not finite, or NaN, than the layers do")
    return problems


# -- many of them ---------------------------------------------------------------------------------------------


def compute(seed: int, indices: range, threads: list[int]) -> Iterator[dict]:
    """A record for each network, before and after it is computed."""
    for index in indices:
        yield {"index": index}
        case = network_case(seed, index)
        try:
            outcome, problems, bits = check(case, threads)
        except Exception as error:
            outcome, problems, bits = "wrong", [f"{type(error).__name__}: {error}"], ""
        yield {"index": index, "outcome": outcome, "problems": problems, "bits": bits, "title": case.title}


def run_shard(seed: int, indices: range, isa: str, threads: list[int]) -> list[dict]:
    """The records of a process of its own on instruction set `isa`; one that dies is succeeded by another."""
    records: list[dict] = []
    while len(records) < len(indices):
        rest = indices[len(records) :]
        arguments = [f"--seed={seed}", f"--first={rest.start}", f"--cases={len(rest)}", "--records"]
        process = subprocess.Popen(
            [sys.executable, __file__, *arguments, f"--threads={','.join(map(str, threads))}"],
            env=os.environ | {"PYNN_ISA": isa},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        lines = [json.loads(line) for line in process.stdout]
        records += [record for record in lines if "outcome" in record]
        if process.wait() != 0:
            if not lines:
                raise SystemExit(f"campaign: no process could be started on {isa}")
            problem = f"the process ended with {process.returncode}"
            records.append(
                {"index": lines[-1]["index"], "outcome": "wrong", "problems": [problem], "bits": "", "title": ""}
            )
    return records


def run(seed: int, first: int, cases: int, isas: list[str], threads: list[int], jobs: int) -> int:
    """All networks on all instruction sets; prints what is found; the exit code."""
    began, done, outcomes, failures = time.monotonic(), 0, Counter[str](), 0
    bits: dict[int, dict[str, str]] = {}
    shards = [range(at, min(at + SHARD, first + cases)) for at in range(first, first + cases, SHARD)]

    def fail(index: int, isa: str, record: dict) -> None:
        for problem in record["problems"]:
            print(f"{record['title']}\n  {problem}")
        print(
            f"  python tests/engine/campaign.py --seed {seed} --first {index} --cases 1 --isas {isa}", flush=True
        )

    with ThreadPoolExecutor(jobs) as pool:
        tasks = [(shard, isa) for shard in shards for isa in isas]
        for (_, isa), records in zip(
            tasks, pool.map(lambda task: run_shard(seed, *task, threads), tasks), strict=True
        ):
            for record in records:
                done += 1
                outcomes[record["outcome"]] += 1
                bits.setdefault(record["index"], {})[isa] = record["bits"]
                alike = {sums for name, sums in bits[record["index"]].items() if name in EQUAL}
                if isa in EQUAL and len(alike) > 1:
                    record["problems"].append("other bits with AVX2 than with AVX-512")
                if record["problems"]:
                    failures += 1
                    fail(record["index"], isa, record)
            seconds = time.monotonic() - began
            total = cases * len(isas)
            print(f"{done} of {total}, {done / seconds:.1f} a second, {failures} failures", flush=True)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    print(f"{cases} networks (seed {seed}, from {first}) on {', '.join(isas)}, {threads} threads: {counts}")
    return int(failures > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="networks (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the series (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first network (%(default)s)")
    parser.add_argument(
        "--isas", default=",".join(cnn_ext.supported_isas()), help="instruction sets (%(default)s)"
    )
    parser.add_argument("--threads", default="1,2,3,4", help="numbers of threads, each compared (%(default)s)")
    parser.add_argument("--jobs", type=int, default=cnn_ext.available_cpus(), help="processes (%(default)s)")
    parser.add_argument("--records", action="store_true", help="compute here, and print a record a line")
    given = parser.parse_args()
    threads = [int(n) for n in given.threads.split(",")]
    if not cnn_ext.openmp_enabled():
        threads = [1]
    if given.records:
        for record in compute(given.seed, range(given.first, given.first + given.cases), threads):
            print(json.dumps(record), flush=True)
        return 0
    return run(given.seed, given.first, given.cases, given.isas.split(","), threads, given.jobs)


if __name__ == "__main__":
    sys.exit(main())
