"""Owns model files: safetensors whose header holds, as JSON, all it takes to rebuild the model; never a pickle.

A file has the arrays of `state_dict` under their paths, and one metadata entry "pynn":
`{"format": 1, "kind": "model", "model": <config>, "metadata": <the caller's>}`. Checkpoints are files of another
kind in the same container (`pynn.checkpoint`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from pynn.files import write_atomic
from pynn.module import Module, from_config

__all__ = ["ModelFileError", "load", "load_metadata", "save"]

_FORMAT = 1


class ModelFileError(ValueError):
    """A file is not what was asked for: cut short, damaged, of another kind, or from elsewhere."""


def save(model: Module, path: str | os.PathLike, *, metadata: dict | None = None) -> None:
    """Writes `model` to `path`, whole or not at all.

    `metadata` is any JSON object, given back by `load_metadata`: classes, mean and std of the inputs, …

    Raises TypeError where `metadata` is not JSON, WriteError (an OSError) where the file cannot be written.
    """
    write_tensors(path, "model", model.state_dict(), {"model": model.to_config(), "metadata": metadata or {}})


def load(path: str | os.PathLike) -> Module:
    """The model in `path`, rebuilt from the file alone, with its dtype, parameters and running statistics.

    Random generators (of Dropout) are not part of a model file: they start from fresh entropy.

    Raises ModelFileError (a ValueError) where the file is not a whole model of this library, OSError where it
    cannot be read.
    """
    tensors, header = read_tensors(path, "model")
    try:
        model = from_config(header["model"])
        model.load_state_dict(tensors)
    except KeyError as error:
        raise ModelFileError(f"{path} describes no model: its header has no entry {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{path} describes no model that can be made: {error}") from error
    return model


def load_metadata(path: str | os.PathLike) -> dict:
    """The `metadata` that `save` was given; raises as `load` does."""
    return read_tensors(path, "model")[1].get("metadata", {})


def write_tensors(path: str | os.PathLike, kind: str, tensors: dict[str, np.ndarray], header: dict) -> None:
    """Writes arrays by name and a JSON header as one safetensors file, atomically."""
    serialize = require_safetensors().numpy.save
    try:
        text = json.dumps({"format": _FORMAT, "kind": kind, **header}, default=_json_value)
    except TypeError as error:
        raise TypeError(f"cannot write {path}: the metadata must be JSON values: {error}") from error
    # safetensors takes the memory as it lies, so arrays in any other order than C would come back scrambled.
    write_atomic(
        path, serialize({name: np.asarray(a, order="C") for name, a in tensors.items()}, metadata={"pynn": text})
    )


def read_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays by name, header) of a file that `write_tensors` wrote with this `kind`."""
    safe_open = require_safetensors().safe_open
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}: expected a {kind} written by pynn")
    with open(path, "rb"):
        pass  # safetensors calls a file that may not be read one that is not there
    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("pynn", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except OSError:
        raise
    except Exception as error:  # safetensors' own error, or what its dtypes and our JSON can raise
        raise ModelFileError(f"{path} is damaged or not a {kind} of pynn: {error}") from error
    if not isinstance(header, dict) or not {"format", "kind"} <= header.keys():
        raise ModelFileError(f"{path} was not written by pynn: its header has no entry that describes a {kind}")
    if header["format"] != _FORMAT:
        raise ModelFileError(
            f"{path} has format {header['format']}, this version of pynn reads {_FORMAT}: use a newer version"
        )
    if header["kind"] != kind:
        raise ModelFileError(f"{path} is a {header['kind']}, expected a {kind}")
    return tensors, header


def _json_value(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def require_safetensors():
    """The package, or an ImportError that says how to get it."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            'model files and checkpoints need the safetensors package: pip install "pynn-cnn[io]"'
        ) from error
    return safetensors
