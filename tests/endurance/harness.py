"""What the endurance scripts share: cases by seed, several processes, a summary, lines that repeat a failure."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context

__all__ = ["Outcome", "arguments", "forked", "run"]


@dataclass
class Outcome:
    """Of one case: what was counted on the way, and what was wrong, in sentences."""

    counts: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def arguments(doc: str, *, cases: int, kinds: tuple[str, ...]) -> argparse.Namespace:
    """The command line of a script: `--kind`, `--cases` of each kind, `--minutes`, `--seed`, `--jobs`."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--kind", choices=kinds, action="append", help="one of them, several times; default: all")
    parser.add_argument(
        "--cases", type=int, default=cases, metavar="N", help="of each kind (default: %(default)s)"
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="stop after this time, whatever is left")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the first case; the next has N + 1, …"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    given = parser.parse_args()
    given.kind = given.kind or list(kinds)
    return given


def run(case: Callable[[str, int], Outcome], given: argparse.Namespace) -> int:
    """Calls `case(kind, seed)` for all of them, in `--jobs` processes; prints what came of it; the exit code.

    A case that ends its process has failed, and so have, for all that is known, those that ran beside it.
    """
    began, script, failed = time.monotonic(), os.path.relpath(sys.argv[0]), 0
    counts: dict[str, Counter] = {kind: Counter() for kind in given.kind}
    todo = ((kind, seed) for seed in range(given.seed, given.seed + given.cases) for kind in given.kind)
    for kind, seed, outcome in _outcomes(case, todo, given.jobs, began, given.minutes):
        counts[kind] += outcome.counts + Counter(cases=1)
        failed += bool(outcome.failures)
        for failure in outcome.failures[:5]:
            print(f"FAILED {kind}: {failure}\n    python {script} --kind {kind} --cases 1 --seed {seed}")
        sys.stdout.flush()
    for kind, counted in counts.items():
        print(f"{kind}:", ", ".join(f"{n:,} {what}" for what, n in counted.items() if n))
    print(f"{failed or 'no'} failed, seed {given.seed}, {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if failed or not all(counts.values()) else 0


def _outcomes(case, todo: Iterator, jobs: int, began: float, minutes: float | None) -> Iterator[tuple]:
    """(kind, seed, Outcome) of each, as they come."""
    running: dict = {}
    pool = _pool(jobs)
    while True:
        in_time = minutes is None or time.monotonic() - began < 60 * minutes
        while in_time and len(running) < jobs and (each := next(todo, None)):
            running[pool.submit(case, *each)] = each
        if not running:
            break
        done = wait(running, return_when=FIRST_COMPLETED).done
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            done = set(running)
            pool.shutdown()
            pool = _pool(jobs)
        for future in done:
            if isinstance(future.exception(), BrokenProcessPool):
                yield *running.pop(future), Outcome(failures=["it ended the process, or one beside it did"])
            else:
                yield *running.pop(future), future.result()
    pool.shutdown()


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def forked(work: Callable[[], object], output: str | os.PathLike) -> int:
    """The process id of a copy of this process that does `work` and ends: 0, 1 after an exception, or its int.

    Cheaper than a new interpreter by the time of all imports. What it prints goes to the file `output`.
    """
    sys.stdout.flush()
    if child := os.fork():
        return child
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        code = work() or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
