"""Owns the benchmark of what it costs to have pynn: the time that `import pynn` adds to NumPy's, and disk space.

    python benchmarks/footprint.py [--wheel FILE] [--repeats 15] [--out FILE]

Imports are timed within fresh processes, `import numpy` and `import pynn` in turn, so that a slower minute of the
machine meets both; figures are medians, and what is added is the median of the pairs' differences. The size is
that of the wheel's files, unpacked, without NumPy.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter

from pynn.environment import describe
from pynn.files import check_writable, write_atomic

TIMED = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def import_ms(module: str, folder: str) -> float:
    """Of one fresh process, which works in `folder`, away from the sources."""
    command = [sys.executable, "-c", TIMED.format(module)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return 1e3 * float(done.stdout)


def import_times(repeats: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        import_ms("pynn", folder)  # writes byte code, and brings files to memory
        pairs = [(import_ms("numpy", folder), import_ms("pynn", folder)) for _ in range(repeats)]
    return {
        "numpy_ms": statistics.median(numpy for numpy, _ in pairs),
        "pynn_ms": statistics.median(pynn for _, pynn in pairs),
        "added_ms": statistics.median(pynn - numpy for numpy, pynn in pairs),
        "least_added_ms": min(pynn for _, pynn in pairs) - min(numpy for numpy, _ in pairs),
    }


def sizes(wheel: str) -> dict[str, int]:
    """Bytes of the wheel's files by what they are."""
    kinds: Counter[str] = Counter()
    with zipfile.ZipFile(wheel) as archive:
        for file in archive.infolist():
            compiled = file.filename.endswith((".so", ".pyd"))
            kind = file.filename.split(".")[0] if compiled else file.filename.split("/")[0]
            kinds["pynn_cnn.dist-info" if ".dist-info" in kind else kind] += file.file_size
    return dict(kinds.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", help="whose files are summed, as `pip wheel --no-deps .` makes it")
    parser.add_argument("--repeats", type=int, default=15, help="pairs of processes")
    parser.add_argument("--out", help="JSON file")
    arguments = parser.parse_args()
    if arguments.out:
        check_writable(arguments.out)
    result = {"environment": describe(), "import": import_times(arguments.repeats), "bytes": {}}
    print(f"{'import':28}{'ms':>10}")
    for name, ms in result["import"].items():
        print(f"{name.removesuffix('_ms').replace('_', ' '):28}{ms:10.1f}")
    if arguments.wheel:
        result["bytes"] = sizes(arguments.wheel)
        print(f"\n{'installed':28}{'MB':>10}")
        for name, size in [*result["bytes"].items(), ("in all", sum(result["bytes"].values()))]:
            print(f"{name:28}{size / 1e6:10.3f}")
    if arguments.out:
        write_atomic(arguments.out, json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
