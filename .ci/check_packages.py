"""Refuses an sdist that lacks a tracked source, and a wheel that is too large or holds more than it needs.

Usage: check_packages.py SDIST WHEEL
"""

import re
import sys
import tarfile
import zipfile

NEEDED = [  # regular expressions; each must match a file of the wheel, and each file must match one
    r"(cnn_ext|pynn)/([a-z0-9_]+/)*[a-z0-9_]+\.py",
    r"(cnn_ext|pynn)/py\.typed",
    r"cnn_ext/_[a-z0-9]+\.pyi",
    r"cnn_ext/_(baseline|avx2|avx512|cpu)\.[\w-]+\.(so|pyd)",
    r"pynn/data/embedded/[\w.-]+",
    r"pynn/report/page\.(html|css)",
    r"pynn_cnn-[\w.]+\.dist-info/.+",
]
LARGEST = 6e6  # bytes, unpacked
SOURCES = [
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "pyproject.toml",
    "setup.py",
    "cnn_ext/_baseline.pyx",
    "cnn_ext/kernels/all.pxi",
    "docs/derivations.md",
    "tests/test_packaging.py",
    "examples/quickstart.py",
]


def wrong_in_wheel(names):
    files = [name for name in names if not name.endswith("/")]
    yield from (f"{name} should not be there" for name in files if not any(re.fullmatch(n, name) for n in NEEDED))
    yield from (f"nothing matches {n}" for n in NEEDED if not any(re.fullmatch(n, name) for name in files))
    yield from (f"{name} is a test" for name in files if "/test" in name)


def wrong_in_sdist(names):
    files = {name.partition("/")[2] for name in names}
    yield from (f"{source} is missing" for source in SOURCES if source not in files)
    yield from (f"{name} is built" for name in files if re.search(r"\.(c|so|pyd|pyc)$", name))


def main(sdist, wheel):
    with tarfile.open(sdist) as archive:
        wrongs = [f"{sdist}: {wrong}" for wrong in wrong_in_sdist(archive.getnames())]
    with zipfile.ZipFile(wheel) as archive:
        wrongs += [f"{wheel}: {wrong}" for wrong in wrong_in_wheel(archive.namelist())]
        size = sum(info.file_size for info in archive.infolist())
        if size > LARGEST:
            wrongs.append(f"{wheel}: {size:,} bytes unpacked, more than {LARGEST:,.0f}")
        print(f"{len(archive.namelist())} files, {size / 1e6:.1f} MB unpacked: {wheel}")
    return "\n".join(wrongs) or None  # None: exit code 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
