"""Builds the kernels of cnn_ext: the same source once per instruction set.

Environment switches, all optional:
  PYNN_OPENMP=0         build without OpenMP even where the compiler has it (kernels then run on one thread)
  PYNN_DEBUG_KERNELS=1  build with bounds checks in every typed loop (slow; the kernel tests run under it)
  PYNN_SANITIZE=1       build with the address and undefined-behaviour sanitizers (CONTRIBUTING.md: how to run it)
  PYNN_VARIANTS=…       build these instruction sets only, as "avx2,baseline"
"""

import os
import platform
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = os.environ.get("PYNN_DEBUG_KERNELS") == "1"
SANITIZE = os.environ.get("PYNN_SANITIZE") == "1"
MACHINE = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
MSVC = sys.platform == "win32"

# One module per instruction set; cnn_ext picks the best that the machine runs when it is imported.
# Literals, because .ci/check_spills.py and .ci/native_tests.py read the flags here.
GCC_VARIANTS = {
    "x86_64": {
        "_baseline": [],
        "_avx2": ["-mavx2", "-mfma"],
        "_avx512": [
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            "-mavx2",
            "-mfma",
            "-mprefer-vector-width=512",
        ],
    },
    # GCC would move loads up until the tiles of blocks.h no longer fit the registers.
    "aarch64": {"_baseline": ["-fno-schedule-insns"]},
}
MSVC_VARIANTS = {"x86_64": {"_baseline": [], "_avx2": ["/arch:AVX2"], "_avx512": ["/arch:AVX512"]}}
VARIANTS = (MSVC_VARIANTS if MSVC else GCC_VARIANTS).get(MACHINE, {"_baseline": []})
if wanted := os.environ.get("PYNN_VARIANTS"):
    VARIANTS = {f"_{name}": VARIANTS[f"_{name}"] for name in wanted.split(",")}

OPENMP_PROBE = """
#include <omp.h>
int main(void) { return omp_get_max_threads() > 0 ? 0 : 1; }
"""


class BuildKernels(build_ext):
    """build_ext that adds OpenMP only after it has seen the compiler accept it."""

    def finalize_options(self):
        super().finalize_options()
        self.force = True  # timestamps do not tell that a switch has changed
        if self.parallel is None:
            self.parallel = True  # the variants are compiled side by side

    def build_extensions(self):
        flags = ["/openmp"] if MSVC else ["-fopenmp"]
        if os.environ.get("PYNN_OPENMP") != "0" and self.compiles(OPENMP_PROBE, flags):
            for extension in self.extensions:
                extension.extra_compile_args += flags
                if not MSVC and extension.name != "cnn_ext._cpu":  # isa.py sets the scene before OpenMP is loaded
                    extension.extra_link_args = extension.extra_link_args + flags
        super().build_extensions()

    def compiles(self, source, flags):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "probe.c")
            path.write_text(source)
            try:
                objects = self.compiler.compile([str(path)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(
                    objects, str(Path(folder, "probe")), extra_postargs=[] if MSVC else flags
                )
            except Exception:  # distutils raises compiler-specific errors: any of them means "no"
                return False
        return True


# No -ffast-math: NaN and Inf must keep their meaning, and results must not depend on the link order.
# Neither debug information nor symbols: they would be most of the modules.
GCC_OPTIMISE = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
GCC_SANITIZE = [
    "-g1",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=undefined",
]
compile_args, link_args = ["/O2"] if MSVC else [*GCC_OPTIMISE], []
if sys.platform == "linux" and not SANITIZE:
    link_args += ["-Wl,--strip-all"]
if (DEBUG or SANITIZE) and not MSVC:
    compile_args += ["-O1"]
if SANITIZE:
    compile_args += GCC_SANITIZE
    link_args += GCC_SANITIZE


def extension(name, flags=()):
    return Extension(
        f"cnn_ext.{name}",
        [f"cnn_ext/{name}.pyx"],
        include_dirs=["cnn_ext/kernels"],
        extra_compile_args=[*compile_args, *flags],
        extra_link_args=link_args,
        depends=[
            f"cnn_ext/kernels/{name}.h"
            for name in ("blocks", "cpu", "lanes", "mathfun", "peak", "team", "tiles", "winograd")
        ],
    )


built = [f"-DPYNN_BUILT{name.upper()}" for name in VARIANTS]  # as PYNN_BUILT_AVX2
setup(
    ext_modules=cythonize(
        [extension("_cpu", built), *(extension(name, flags) for name, flags in VARIANTS.items())],
        include_path=["cnn_ext/kernels"],
        build_dir="build/cython-debug" if DEBUG else "build/cython",  # timestamps ignore directives
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "initializedcheck": DEBUG,
            "cdivision": True,
            "embedsignature": True,
            "auto_pickle": False,  # steps are bound to memory: what pickled them would be wrong, and large
            "freethreading_compatible": True,
        },
    ),
    cmdclass={"build_ext": BuildKernels},
)
