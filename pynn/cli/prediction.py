"""Owns `pynn predict`: the classes of images or features, by a model file of `pynn train`, as CSV.

In the CSV, undecodable bytes of file names are written as `\\xff`, and a cell that a spreadsheet would take for a
formula (one that begins with = + - @, a tab or a line's end, and is no number) has an apostrophe before it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pynn.cli.errors import UsageError
from pynn.cli.formats import TABLES, require_npz
from pynn.cli.places import keep_apart
from pynn.cli.streams import is_read, put
from pynn.data import Standardize
from pynn.data.arrays import samples
from pynn.data.images import read_image, require_pillow
from pynn.data.npz import read_npz
from pynn.files import check_writable, write_atomic, write_somewhere
from pynn.io import ModelFileError, load, load_metadata
from pynn.module import Module
from pynn.text import shown

__all__ = ["predict"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
BATCH = 256  # images that `predict` holds in memory at a time


def predict(arguments) -> None:
    """Writes one CSV row for each sample: its file or row, the most probable class and its probability."""
    if arguments.out is not None:
        keep_apart("--out", arguments.out, {"the model": arguments.model, "the input": arguments.input})
        check_writable(arguments.out)
    elif not is_read():
        raise UsageError("standard output is closed: give --out CSV")
    model, classes, input_shape, standardize = _trained(arguments.model)
    kind, batches = _inputs(arguments.input, input_shape)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([kind, "class", "probability"])
    for names, x in batches:
        scores = model(standardize(x))
        if wrong := np.flatnonzero(~np.isfinite(scores).all(axis=1)).tolist():
            raise ModelFileError(
                f"{arguments.model} gives no finite scores for {kind} {names[wrong[0]]} of {arguments.input}: "
                "the model file is damaged, or the sample is far from the training data"
            )
        probabilities = _softmax(scores)
        best = probabilities.argmax(axis=1)
        for name, label, row in zip(names, best, probabilities, strict=True):
            writer.writerow([_cell(name), _cell(classes[label]), f"{row[label]:.4f}"])
    if arguments.out is None:
        put(table.getvalue())
        return
    place, error = write_somewhere(arguments.out, lambda path: write_atomic(path, table.getvalue()))
    if error is not None:
        raise UsageError(f"{error}; the predictions were put at {shown(place)}") from error
    put(f"The predictions are in {shown(place)}.\n")


def _trained(path: Path) -> tuple[Module, list[str], tuple[int, ...], Standardize]:
    """The model, and what `train` kept with it."""
    model, metadata = load(path), load_metadata(path)
    try:
        classes = [str(name) for name in metadata["classes"]]
        input_shape = tuple(int(size) for size in metadata["input_shape"])
        standardize = Standardize.from_config(metadata["standardize"])
        fits = model.output_shape(input_shape) == (len(classes),) and len(standardize.mean) == input_shape[0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path} lacks what `pynn train` keeps with a model: train it by that") from error
    if not fits:
        raise ModelFileError(f"{path} has metadata of another model: train it again")
    return model, classes, input_shape, standardize


def _inputs(path: Path, input_shape: tuple[int, ...]) -> tuple[str, Iterator[tuple[Sequence, np.ndarray]]]:
    """("file" or "row", batches of (names, x)) of what is at `path`."""
    if path.suffix.lower() == ".npz" and path.is_file():
        x = _array(path, input_shape)
        rows = range(0, len(x), BATCH)
        return "row", ((range(at, min(at + BATCH, len(x))), x[at : at + BATCH]) for at in rows)
    if path.suffix.lower() in TABLES and path.is_file():
        require_npz(path, labels=False)
    files = sorted(file for file in path.rglob("[!.]*") if file.is_file()) if path.is_dir() else [path]
    require_pillow()
    if not path.exists() or not files:
        raise UsageError(f"there are no data at {shown(path)}: give an .npz file, an image or a folder of images")
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise UsageError(
            f"the model takes samples of shape {input_shape}, which images are not: give an .npz file"
        )
    return "file", _image_batches(files, input_shape)


def _array(path: Path, input_shape: tuple[int, ...]) -> np.ndarray:
    """The samples in an .npz file: its X, else its x_test, else its only array."""
    arrays = read_npz(path)
    found = [name for name in arrays if name in ("X", "x_test")] or list(arrays)
    if len(found) != 1 and "X" not in found:
        raise UsageError(f"{path}: expected an array X, got {', '.join(arrays) or 'nothing'}")
    name = "X" if "X" in found else found[0]
    x = samples(arrays[name], name, path)
    if x.shape[1:] != input_shape:
        raise UsageError(f"{path}: the model takes samples of shape {input_shape}, {name} has {x.shape[1:]}")
    return x


def _image_batches(files: list[Path], input_shape: tuple[int, ...]) -> Iterator[tuple[Sequence, np.ndarray]]:
    """The images, resized to what the model takes."""
    channels, height, width = input_shape
    for at in range(0, len(files), BATCH):
        names = files[at : at + BATCH]
        yield names, np.stack([read_image(file, (height, width), grayscale=channels == 1) for file in names])


def _softmax(scores: np.ndarray) -> np.ndarray:
    """exp(sₖ) / Σ exp(sⱼ) for scores (N, K)."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def _cell(value: object) -> str:
    """`value` as text in a cell that is only text: see above."""
    text = _SURROGATE.sub(lambda found: _escaped(ord(found[0])), str(value))
    formula = text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def _escaped(surrogate: int) -> str:
    """A byte that was no UTF-8, as Python keeps it in a file name, or half a character, which UTF-8 has not."""
    return f"\\x{surrogate - 0xDC00:02x}" if 0xDC80 <= surrogate <= 0xDCFF else f"\\u{surrogate:04x}"
