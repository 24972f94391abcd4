"""Owns model files: safetensors whose header holds, as JSON, all it takes to rebuild the model; never a pickle.

A file has the arrays of `state_dict` under their paths, and one metadata entry "pynn":
`{"sha256": <of all the rest>, "format": 1, "kind": "model", "model": <config>, "metadata": <the caller's>}`.
Checkpoints are files of another kind in the same container (`pynn.checkpoint`).
"""

from __future__ import annotations

import json
import os

import numpy as np

from pynn.container import pack, require_safetensors, unpack
from pynn.files import open_regular, write_atomic
from pynn.module import Module, from_config
from pynn.text import clean

__all__ = [
    "ModelFileError",
    "load",
    "load_metadata",
    "read_tensors",
    "require_safetensors",
    "save",
    "write_tensors",
]

_FORMAT = 1


class ModelFileError(ValueError):
    """A file is not what was asked for: cut short, damaged, of another kind, or from elsewhere."""


def save(model: Module, path: str | os.PathLike, *, metadata: dict | None = None) -> None:
    """Writes `model` to `path`, whole or not at all.

    `metadata` is any JSON object, given back by `load_metadata`: classes, mean and std of the inputs, …

    Raises TypeError or ValueError where `metadata` is not a JSON object (text as keys, finite numbers), ValueError
    where a parameter or running statistic is NaN or infinite, WriteError (an OSError) where the file cannot be
    written.
    """
    if not isinstance(model, Module):
        raise TypeError(f"save: expected a model, got {type(model).__name__}: save(model, path)")
    if not isinstance(metadata, dict | None):
        raise TypeError(f"cannot write {clean(path)}: metadata must be a dict, got {type(metadata).__name__}")
    state = model.state_dict()
    if name := _first_nonfinite(state):
        raise ValueError(
            f"cannot write {clean(path)}: {name} has NaN or infinite values, so the model is of no use"
        )
    write_tensors(path, "model", state, {"model": model.to_config(), "metadata": metadata or {}})


def load(path: str | os.PathLike) -> Module:
    """The model in `path`, rebuilt from the file alone, with its dtype, parameters and running statistics.

    Random generators (of Dropout) are not part of a model file: they start from fresh entropy.

    Raises ModelFileError (a ValueError) where the file is not a whole model of this library or its weights are NaN
    or infinite, OSError where it cannot be read.
    """
    tensors, header = read_tensors(path, "model")
    try:
        model = from_config(header["model"])
        model.load_state_dict(tensors)
    except KeyError as error:
        raise ModelFileError(f"{clean(path)} describes no model: its header has no entry {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{clean(path)} describes no model that can be made: {clean(error, 200)}") from error
    if name := _first_nonfinite(tensors):
        raise ModelFileError(f"{clean(path)} has NaN or infinite values in {name}: the model is of no use")
    return model


def load_metadata(path: str | os.PathLike) -> dict:
    """The `metadata` that `save` was given; raises as `load` does."""
    metadata = read_tensors(path, "model")[1].get("metadata", {})
    if not isinstance(metadata, dict):
        raise ModelFileError(f"{clean(path)} has metadata that are no object but {clean(metadata, 40)}")
    return metadata


def write_tensors(path: str | os.PathLike, kind: str, tensors: dict[str, np.ndarray], header: dict) -> None:
    """Writes arrays by name and a JSON header as one safetensors file, atomically."""
    require_safetensors()
    try:
        _require_text_keys(header)
        text = json.dumps({"format": _FORMAT, "kind": kind, **header}, default=_json_value, allow_nan=False)
        data = pack(tensors, text)
    except (TypeError, ValueError, RecursionError) as error:
        sort = TypeError if isinstance(error, TypeError) else ValueError
        raise sort(f"cannot write {clean(path)}: the metadata must be JSON values: {clean(error)}") from error
    write_atomic(path, data)


def read_tensors(path: str | os.PathLike, kind: str) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays by name, header) of a file that `write_tensors` wrote with this `kind`."""
    name = clean(path)
    try:
        file = open_regular(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {name}: expected a {kind} written by pynn") from None
    with file:
        try:
            tensors, header = unpack(file)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(f"{name} is damaged or not a {kind} of pynn: {clean(error)}") from error
    if not isinstance(header, dict) or not {"format", "kind"} <= header.keys():
        raise ModelFileError(f"{name} was not written by pynn: its header has no entry that describes a {kind}")
    if header["format"] != _FORMAT:
        raise ModelFileError(
            f"{name} has format {clean(header['format'], 20)}, this version of pynn reads {_FORMAT}: "
            "use a newer version"
        )
    if header["kind"] != kind:
        raise ModelFileError(f"{name} is a {clean(header['kind'], 40)}, expected a {kind}")
    return tensors, header


def _first_nonfinite(arrays: dict[str, np.ndarray]) -> str | None:
    return next((name for name, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()), None)


def _require_text_keys(value) -> None:
    """TypeError for a key that JSON would turn into text, so that it came back as another one."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(
                    f"the key {clean(repr(key), 40)} is no text, write it as {clean(repr(str(key)), 40)}"
                )
            _require_text_keys(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_text_keys(item)


def _json_value(value):
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")
