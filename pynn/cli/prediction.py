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
from pynn.data import InputFormat, Standardize, image_files
from pynn.data.arrays import samples
from pynn.data.images import require_pillow
from pynn.data.npz import open_npz
from pynn.files import check_writable, write_atomic, write_somewhere
from pynn.io import ModelFileError, load, load_metadata
from pynn.losses import softmax
from pynn.module import Module
from pynn.text import clean

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
    model, classes, form, standardize = _trained(arguments.model)
    kind, batches = _inputs(arguments.input, form)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow([kind, "class", "probability"])
    for names, x in batches:
        scores = model(standardize(x))
        if wrong := np.flatnonzero(~np.isfinite(scores).all(axis=1)).tolist():
            raise ModelFileError(
                f"{clean(arguments.model)} gives no finite scores for {kind} {clean(names[wrong[0]])} of "
                f"{clean(arguments.input)}: "
                "the model file is damaged, or the sample is far from the training data"
            )
        probabilities = softmax(scores)
        best = probabilities.argmax(axis=1)
        for name, label, row in zip(names, best, probabilities, strict=True):
            writer.writerow([_cell(name), _cell(classes[label]), f"{row[label]:.4f}"])
    if arguments.out is None:
        put(table.getvalue())
        return
    place, error = write_somewhere(arguments.out, lambda path: write_atomic(path, table.getvalue()))
    if error is not None:
        raise UsageError(f"{error}; the predictions were put at {clean(place)}") from error
    put(f"The predictions are in {clean(place)}.\n")


def _trained(path: Path) -> tuple[Module, list[str], InputFormat, Standardize]:
    """The model, and what `train` kept with it; models of earlier versions lack the form of their input."""
    if path.is_dir() or path.suffix.lower() in (".npz", *TABLES):
        raise UsageError(f"{clean(path)} is no model file, which comes first: pynn predict MODEL INPUT")
    model, metadata = load(path), load_metadata(path)
    try:
        classes = [str(name) for name in metadata["classes"]]
        standardize = Standardize.from_config(metadata["standardize"])
        if "input_format" in metadata:
            form = InputFormat.from_config(metadata["input_format"])
        else:
            form = InputFormat.guessed(tuple(int(size) for size in metadata["input_shape"]), standardize)
        fits = model.output_shape(form.shape) == (len(classes),) and len(standardize.mean) == form.shape[0]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelFileError(
            f"{clean(path)} lacks what `pynn train` keeps with a model: train it by that"
        ) from error
    if not fits:
        raise ModelFileError(f"{clean(path)} has metadata of another model: train it again")
    return model, classes, form, standardize


def _inputs(path: Path, form: InputFormat) -> tuple[str, Iterator[tuple[Sequence, np.ndarray]]]:
    """("file" or "row", batches of (names, x)) of what is at `path`, in the form that the model takes."""
    if path.suffix.lower() == ".npz" and path.is_file():
        x = _array(path, form)
        rows = range(0, len(x), BATCH)
        return "row", ((range(at, min(at + BATCH, len(x))), x[at : at + BATCH]) for at in rows)
    if path.suffix.lower() in TABLES and path.is_file():
        require_npz(path, labels=False)
    files = image_files(path) if path.exists() else []
    if not files:
        raise UsageError(f"there are no data at {clean(path)}: give an .npz file, an image or a folder of images")
    require_pillow()
    starts = range(0, len(files), BATCH)
    return "file", (
        (files[at : at + BATCH], np.stack([form.image(file) for file in files[at : at + BATCH]])) for at in starts
    )


def _array(path: Path, form: InputFormat) -> np.ndarray:
    """The samples in an .npz file: its X, else its x_test, else its only array."""
    with open_npz(path) as archive:
        found: list[str] = [name for name in ("X", "x_test") if name in archive.names] or [*archive.names]
        if len(found) != 1 and "X" not in found:
            arrays = clean(", ".join(archive.names) or "nothing")
            raise UsageError(f"{clean(path)}: expected an array X, got {arrays}")
        x = samples(archive.read(found[0]), found[0], path)
    return form.array(x, found[0], path)


def _cell(value: object) -> str:
    """`value` as text in a cell that is only text: see above."""
    text = _SURROGATE.sub(lambda found: _escaped(ord(found[0])), str(value))
    formula = text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _NUMBER.fullmatch(text)
    return f"'{text}" if formula else text


def _escaped(surrogate: int) -> str:
    """A byte that was no UTF-8, as Python keeps it in a file name, or half a character, which UTF-8 has not."""
    return f"\\x{surrogate - 0xDC00:02x}" if 0xDC80 <= surrogate <= 0xDCFF else f"\\u{surrogate:04x}"
