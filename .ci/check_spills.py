"""Refuses register tiles that keep their sums in memory.

Compiles the kernels' headers for each instruction set and counts, in the disassembly of every tile, what is
stored to and loaded from the stack.

Usage: check_spills.py, with no arguments; needs gcc and objdump, and uses aarch64-linux-gnu-gcc where
installed.

A tile that fits the registers has next to no such traffic; in one that does not, most products bring some
along. The criterion is vector loads and stores of the stack per vector multiplication, over all heights of a
tile: at most 2 %. SSE has no multiply-add and needs a register more: at most 25 %. Tiles that are made too high
on purpose show, before anything is judged, that the count sees it.
"""

import ast
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADERS = ROOT / "cnn_ext" / "kernels"
LIMITS = {("x86_64", "_baseline"): 0.25}  # of others: 0.02
COMPILERS = {"x86_64": ("gcc", "objdump"), "aarch64": ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-objdump")}

MULTIPLICATION = re.compile(r"\t(v?mul[ps][sd]|vfn?m(add|sub)\w+|fmla|fmul)\b")
STACK = {
    "x86_64": re.compile(r"%[xyz]mm\d.*\(%rsp|\(%rsp.*%[xyz]mm\d"),
    "aarch64": re.compile(
        r"\t(ldr|str|ldp|stp|ld1|st1)\t.*\b[qv]\d+.*\[(sp|x29)"
    ),  # not the d registers of callers
}


def setting(name):
    """A literal of setup.py."""
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise LookupError(f"setup.py has no {name}")


def tiles():
    """The names of the functions that hold tiles."""
    made = r"^PYNN_(?:GATHER_ROWS|GATHER_COPYING|OUTER_ROWS|VECTOR_BLOCKS|TILE)\((\w+),"
    names = [n for h in ("blocks.h", "tiles.h") for n in re.findall(made, (HEADERS / h).read_text("utf-8"), re.M)]
    if len(names) < 10:
        raise LookupError(f"only {len(names)} tiles found in the headers: has their notation changed?")
    return names


def traffic(machine, flags, headers):
    """(multiplications, vector loads and stores of the stack) of each tile, as compiled with `flags`."""
    compiler, objdump = COMPILERS[machine]
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder, "tiles.c"), Path(folder, "tiles.o")
        used = ", ".join(f"(any){name}" for name in tiles())
        includes = '#include "blocks.h"\n#include "tiles.h"\n'
        source.write_text(f"{includes}typedef void (*any)(void);\nany all[] = {{{used}}};\n", "utf-8")
        command = [compiler, *setting("GCC_OPTIMISE"), *flags, "-Wall", "-Wextra", "-Werror", f"-I{headers}"]
        subprocess.run([*command, "-c", str(source), "-o", str(binary)], check=True)
        listing = subprocess.run(
            [objdump, "-d", "--no-show-raw-insn", str(binary)], check=True, capture_output=True, text=True
        ).stdout
    counts = {}
    for name, body in re.findall(r"^[0-9a-f]+ <(\w+)>:\n(.*?)(?=^\n|\Z)", listing, re.M | re.S):
        if re.search(r"mov +%rsp,%rbp", body):  # else rbp is a register like any other
            body = body.replace("(%rbp", "(%rsp")
        lines = body.splitlines()
        counts[name] = (
            sum(bool(MULTIPLICATION.search(line)) for line in lines),
            sum(bool(STACK[machine].search(line)) for line in lines),
        )
    missing = [name for name in tiles() if counts.get(name, (0,))[0] == 0]
    if missing:
        raise LookupError(f"no multiplications seen in {', '.join(missing)} for {machine} {' '.join(flags)}")
    return {name: counts[name] for name in tiles()}


def too_high(folder):
    """A copy of the headers whose tiles of 16 lanes have twelve rows everywhere."""
    for path in HEADERS.glob("*.h"):
        text = re.sub(r"((?:GATHER|OUTER)_MOST_16\w*) = \d+", r"\1 = 12", path.read_text(encoding="utf-8"))
        Path(folder, path.name).write_text(text, encoding="utf-8")
    return folder


def spilled(counts, limit):
    return [name for name, (products, stack) in counts.items() if stack > limit * products]


def main():
    wrongs = []
    for machine, variants in setting("GCC_VARIANTS").items():
        if not all(map(shutil.which, COMPILERS[machine])):
            print(f"{machine:<8} skipped: no {' or no '.join(COMPILERS[machine])}")
            continue
        for variant, flags in variants.items():
            limit = LIMITS.get((machine, variant), 0.02)
            if variant != "_avx512":  # its registers hold twelve rows
                with tempfile.TemporaryDirectory() as folder:
                    seen = spilled(traffic(machine, flags, too_high(folder)), limit)
                if not any("gather_16" in name for name in seen) or not any("outer_16" in name for name in seen):
                    wrongs.append(
                        f"{machine} {variant}: tiles that cannot fit the registers were not seen to spill"
                    )
            counts = traffic(machine, flags, HEADERS)
            worst = max(counts, key=lambda name: counts[name][1] / counts[name][0])
            products, stack = counts[worst]
            print(f"{machine:<8}{variant:<10} at worst {stack:3} to {products:3} products in {worst}")
            for name in spilled(counts, limit):
                products, stack = counts[name]
                wrongs.append(f"{machine} {variant}: {name} uses the stack {stack} times for {products} products")
    return "\n".join(wrongs) or None  # None: exit code 0


if __name__ == "__main__":
    sys.exit(main())
