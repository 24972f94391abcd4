"""The worst rounding errors of every op against float64, beside PyTorch's on the same inputs, as a Markdown table.

    python benchmarks/accuracy.py [--draws 20] [--seed 0]

The cases are tests/accuracy_cases.py. Each library runs in a process of its own; without PyTorch its column is
empty.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def measured(library: str, draws: int, seed: int) -> dict[str, list[float]] | None:
    """The worst errors by case, from another process; None where the library is not installed."""
    command = [sys.executable, __file__, "--library", library, "--draws", str(draws), "--seed", str(seed)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode == NOT_INSTALLED:
        return None
    if result.returncode:
        raise SystemExit(f"accuracy: {library} failed:\n{result.stderr}")
    return json.loads(result.stdout)


def measure(library: str, draws: int, seed: int) -> int:
    import numpy as np

    torch = None
    if library == "torch":
        try:
            import torch
        except ImportError:
            return NOT_INSTALLED
    worst: dict[str, list[float]] = {}
    for number, case in enumerate(all_cases()):
        for draw in range(draws):
            errors = case.errors(np.random.default_rng((seed, number, draw)), torch)
            worst[case.name] = [max(pair) for pair in zip(errors, worst.get(case.name, errors), strict=True)]
    print(json.dumps(worst))
    return 0


def all_cases():
    sys.path.insert(0, str(ROOT / "tests"))
    from accuracy_cases import cases

    return cases()


def table(ours: dict, theirs: dict | None) -> list[str]:
    lines = ["| op | output | unit | pynn | PyTorch |", "|---|---|---|---:|---:|"]
    for case in all_cases():
        for i, output in enumerate(case.outputs):
            other = f"{theirs[case.name][i]:.2f}" if theirs else ""
            name = case.name if i == 0 else ""
            lines.append(f"| {name} | `{output}` | {case.unit} | {ours[case.name][i]:.2f} | {other} |")
    return lines


NOT_INSTALLED = 3

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20, help="of inputs for each case (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", choices=("pynn", "torch"), help="measure this one alone, print JSON")
    given = parser.parse_args()
    if given.library:
        sys.exit(measure(given.library, given.draws, given.seed))
    ours, theirs = (measured(library, given.draws, given.seed) for library in ("pynn", "torch"))
    print("\n".join(table(ours, theirs)))
