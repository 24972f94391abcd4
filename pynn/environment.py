"""Owns the description of where a result was computed."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import numpy as np

import cnn_ext
from pynn._version import __version__

__all__ = ["describe"]

_OPTIONAL = ("safetensors", "Pillow", "tqdm", "matplotlib", "scikit-learn")


def describe() -> dict:
    """Versions, processor and threads as JSON values.

    `isa` is the instruction set in use, `isas` those that this build has and the processor runs, best first;
    `packages` has the optional ones that are installed.
    """
    return {
        "pynn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": cnn_ext.available_cpus(),
        "threads": cnn_ext.get_num_threads(),
        "isa": cnn_ext.isa,
        "isas": ", ".join(cnn_ext.supported_isas()),
        "openmp": cnn_ext.openmp_enabled(),
        "packages": {name: version for name in _OPTIONAL if (version := _version(name))},
    }


def _processor(cpuinfo: str = "/proc/cpuinfo") -> str:
    """The processor's model name where Linux tells it, else its architecture."""
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
