"""Owns where data sets are looked for: the folder given, PYNN_DATA, the user's cache, then a download."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pynn.data.dataset import DataError, DataNotFound
from pynn.text import clean

__all__ = ["RemoteFile", "cache_folder", "find"]

Found = TypeVar("Found")


@dataclass(frozen=True)
class RemoteFile:
    """A file to download: its size in bytes, its checksum "md5:…" or "sha256:…", and the URLs that have it."""

    name: str
    size: int
    checksum: str
    mirrors: tuple[str, ...]


def cache_folder() -> Path | None:
    """The user's cache folder for pynn: `$XDG_CACHE_HOME/pynn`, or where the platform keeps caches.

    None for a user without a home, of whom the system knows nothing, as in some containers.
    """
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "pynn"
    if local := os.environ.get("LOCALAPPDATA"):
        return Path(local) / "pynn" / "Cache"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / "Library" / "Caches" / "pynn" if sys.platform == "darwin" else home / ".cache" / "pynn"


def find(
    name: str,
    wanted: str,
    look: Callable[[Path], Found | None],
    data_dir: str | os.PathLike | None = None,
    *,
    remote: Sequence[RemoteFile] = (),
    folder: str = "",
    allow_download: bool = True,
) -> Found:
    """The first thing `look(place)` finds: in `data_dir` alone if given, else PYNN_DATA, the cache, a download.

    `wanted` says in words what is looked for; the `remote` files are downloaded into `folder` of the cache unless
    `allow_download` is False or the environment sets PYNN_OFFLINE=1. Raises DataNotFound naming every place looked
    at, and what went wrong with each mirror.
    """
    if data_dir is not None:
        if (found := _look(look, Path(data_dir))) is not None:
            return found
        raise DataNotFound(f"{name}: expected {wanted} in the data folder {clean(data_dir)}, which lacks it")
    cache = cache_folder()
    named = os.environ.get("PYNN_DATA")
    places = [place for place in (Path(named) if named else None, cache) if place is not None]
    for place in places:
        if (found := _look(look, place)) is not None:
            return found
    where = " or ".join(clean(place, 80) for place in places) or "PYNN_DATA (not set), and there is no home"
    missing = f"{name}: {wanted} not found in {where}"
    if cache is None:
        raise DataNotFound(f"{missing}: name the folder that holds it with PYNN_DATA or data_dir")
    if not remote:
        raise DataNotFound(
            f"{missing}, and it has no public mirror: name the folder that holds it with PYNN_DATA or data_dir"
        )
    if not allow_download or os.environ.get("PYNN_OFFLINE") == "1":
        reason = "PYNN_OFFLINE=1" if allow_download else "not asked for"
        raise DataNotFound(f"{missing}, and downloads are off ({reason})")
    from pynn.data.download import download  # a third of the time that `import pynn` would take

    for file in remote:
        target = cache / folder / file.name
        try:
            if not target.is_file():
                download(file, target)
        except DataNotFound as error:
            raise DataNotFound(f"{missing}, and {error}") from error
    if (found := _look(look, cache)) is None:
        raise DataNotFound(f"{missing}, nor in what was downloaded to {cache}")
    return found


def _look(look: Callable[[Path], Found | None], place: Path) -> Found | None:
    try:
        return look(place)
    except OSError as error:  # a folder that may not be read, a name too long
        raise DataError(f"{clean(place)}: the data folder cannot be read: {error.strerror}") from error
