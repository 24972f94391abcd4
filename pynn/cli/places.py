"""Owns that what a command writes does not land on what it reads, through a link, or within it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pynn.cli.errors import UsageError
from pynn.text import clean

__all__ = ["keep_apart"]

Identity = tuple[int, int]  # device and inode: what two names, and hard links too, have in common


def keep_apart(option: str, output: Path, inputs: dict[str, Path]) -> None:
    """Raises UsageError where the file `output`, given by `option`, is one of `inputs` or lies in one of them.

    inputs : a file or folder for each word that says what it is ("the data"). Symbolic links are followed on both
    sides, those within a folder too, and hard links are known.
    """
    target = Path(os.path.realpath(output))
    own, above = _identity(target), {_identity(folder) for folder in target.parents}
    for what, path in inputs.items():
        found = _identity(path)
        if target == Path(os.path.realpath(path)) or (own is not None and own == found):
            raise UsageError(f"{option} {clean(output)} is {what}, which it would replace: choose another file")
        for identity, place in _within(path, files=own is not None):
            if identity in above:
                raise UsageError(
                    f"{option} {clean(output)} lies in {what}, {clean(place)}, and would be read as one of them: "
                    "choose a place outside"
                )
            if own is not None and identity == own:
                raise UsageError(
                    f"{option} {clean(output)} is {clean(place)} of {what}, which it would replace: choose "
                    "another file"
                )


def _within(folder: Path, *, files: bool) -> Iterator[tuple[Identity, Path]]:
    """(identity, path) of a folder and of all folders below it, each once, and of all `files`."""
    seen: set[Identity] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        identity = _identity(place)
        if identity is None or identity in seen:
            continue
        seen.add(identity)
        try:
            entries = list(os.scandir(place))
        except OSError:  # a file, or a folder that reading will refuse
            continue
        yield identity, place
        waiting += [Path(entry.path) for entry in entries if entry.is_dir()]
        if files:
            for entry in entries:
                if (found := _identity(entry.path)) is not None:
                    yield found, Path(entry.path)


def _identity(path: str | os.PathLike) -> Identity | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
