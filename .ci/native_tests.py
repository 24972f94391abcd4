"""Compiles tests/kernels/native/headers.c and runs it.

Natively for each instruction set that this machine has, also under the address and undefined-behaviour
sanitizers, and for arm64 under emulation where the tools are installed (Debian: gcc-aarch64-linux-gnu,
libc6-dev-arm64-cross and qemu-user). AVX-512 is compiled everywhere, but run only where the processor has it:
qemu-user does not emulate it. Its tile sizes run on every AVX2 machine, where GCC makes two vectors of each.

Usage: native_tests.py, with no arguments; needs gcc.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from check_spills import COMPILERS, HEADERS, ROOT, setting

SOURCE = ROOT / "tests" / "kernels" / "native" / "headers.c"
WARNINGS = ["-Wall", "-Wextra", "-Werror"]
NEEDED = {  # flags of /proc/cpuinfo
    "_baseline": set(),
    "_avx2": {"avx2", "fma"},
    "_avx512": {"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"},
}
EMULATOR = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]


def processor_flags():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def build_and_run(name, compiler, flags, runner=(), run=True):
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(folder, "headers"))
        subprocess.run(
            [compiler, *flags, *WARNINGS, f"-I{HEADERS}", str(SOURCE), "-o", program, "-lm"], check=True
        )
        print(f"{name:<38}", end="", flush=True)
        if run:
            subprocess.run([*runner, program], check=True)
        else:
            print("compiled; this processor cannot run it")


def main():
    optimise, sanitize = setting("GCC_OPTIMISE"), setting("GCC_SANITIZE")
    x86, here = setting("GCC_VARIANTS")["x86_64"], processor_flags()
    for variant, flags in x86.items() if here else ():
        runs = NEEDED[variant] <= here
        build_and_run(f"x86_64 {variant}", "gcc", [*optimise, *flags], run=runs)
        if runs:
            build_and_run(f"x86_64 {variant}, sanitizers", "gcc", [*optimise, "-O1", *sanitize, *flags])
    if NEEDED["_avx2"] <= here:
        build_and_run(
            "x86_64 _avx512's sizes on AVX2",
            "gcc",
            [*optimise, "-O1", *x86["_avx2"], "-D__AVX512F__", "-DWITHOUT_PEAK", "-Wno-psabi"],
        )
    compiler = COMPILERS["aarch64"][0]
    if all(map(shutil.which, (compiler, EMULATOR[0]))):
        flags = setting("GCC_VARIANTS")["aarch64"]["_baseline"]
        build_and_run("aarch64 _baseline, emulated", compiler, [*optimise, *flags], EMULATOR)
    else:
        print(f"aarch64 skipped: no {compiler} or no {EMULATOR[0]}")


if __name__ == "__main__":
    sys.exit(main())
