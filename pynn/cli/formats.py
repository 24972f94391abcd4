"""Owns what is said of files in formats that are not read: which are, and how to get there."""

from __future__ import annotations

import zipfile
from pathlib import Path

from pynn.cli.errors import UsageError
from pynn.text import clean

__all__ = ["TABLES", "require_npz"]

TABLES = {  # how NumPy reads them
    ".csv": "np.genfromtxt('data.csv', delimiter=',')",
    ".npy": "np.load('data.npy')",
    ".tsv": "np.genfromtxt('data.tsv')",
    ".txt": "np.loadtxt('data.txt')",
}


def require_npz(path: Path, *, labels: bool) -> None:
    """Raises UsageError for a file that is no .npz, saying what is read; labels : whether y is needed as well."""
    if path.suffix.lower() == ".npz" or zipfile.is_zipfile(path):
        return
    suffix = path.suffix.lower()
    arrays, columns = ("X and y", "X=a[:, :-1], y=a[:, -1]") if labels else ("X", "X=a")
    folder = "a folder with images by class" if labels else "images"
    text = f"{clean(path, 60)}: {suffix or 'such'} files are not read: give an .npz file ({arrays}) or {folder}"
    if suffix in TABLES:
        text += f"; in Python: a = {TABLES[suffix]}; np.savez('data.npz', {columns})"
    raise UsageError(text)
