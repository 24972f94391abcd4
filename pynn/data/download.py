"""Owns downloads: mirrors in turn, a speed floor, resumption; a file appears whole and verified or not at all.

On urllib because no well-kept library gives mirrors, a minimum speed and resumption (pooch has none of the three).
"""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import http.client
import logging
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pynn.data.dataset import DataNotFound
from pynn.text import clean

if TYPE_CHECKING:
    from pynn.data.locate import RemoteFile

__all__ = ["Patience", "download"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Patience:
    """When a mirror is given up: `connect` s without an answer, or less than `speed` bytes/s over `window` s."""

    connect: float = 3.0
    speed: float = 250_000.0
    window: float = 5.0


PATIENCE = Patience()


class _Interrupted(Exception):
    """A mirror was slow or broke off: what came is good, and the rest may come from another one."""


class _Unusable(Exception):
    """A mirror has something else than the file."""


class _Unwritable(Exception):
    """The file cannot be kept: no other mirror helps."""


def download(file: RemoteFile, path: Path, patience: Patience = PATIENCE) -> None:
    """Puts `file` at `path` once its size and checksum are right.

    What has come so far is kept beside it as `.part` and resumed, by the next mirror or the next call. Mirrors
    that are slow or break off are passed over at first; when none is left, they are asked again, with a floor of
    1/25 of the speed.
    Raises DataNotFound with the reason for each mirror, or where the file cannot be kept, as on a full disk.
    """
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        if not part.is_file():
            raise OSError(errno.EINVAL, f"{part.name} is no regular file")
    except OSError as error:
        raise DataNotFound(f"{clean(path)} cannot be written: {error.strerror}") from error
    problems = {}
    mirrors = list(file.mirrors)
    for speed in (patience.speed, patience.speed / 25):
        interrupted = []
        for url in mirrors:
            logger.info("downloading %s", url)
            try:
                _fetch(url, file, part, Patience(patience.connect, speed, patience.window))
                with _keeping():
                    os.replace(part, path)
                return
            except _Unwritable as error:
                raise DataNotFound(f"{clean(path)} cannot be written: {error}") from error
            except _Interrupted as error:
                interrupted.append(url)
                problems[url] = str(error)
            except (_Unusable, OSError, http.client.HTTPException, ValueError) as error:
                problems[url] = getattr(error, "strerror", None) or str(error) or type(error).__name__
            logger.info("%s: %s", url, problems[url])
        mirrors = interrupted
    if part.is_file() and part.stat().st_size == 0:
        part.unlink()
    hosts: dict[str, list[str]] = {}
    for url, problem in problems.items():
        hosts.setdefault(clean(problem, 80), []).append(str(urlsplit(url).hostname))
    reasons = "; ".join(f"{', '.join(names)}: {problem}" for problem, names in hosts.items())
    raise DataNotFound(f"{file.name} could not be downloaded ({reasons})")


def _fetch(url: str, file: RemoteFile, part: Path, patience: Patience) -> None:
    """Completes `part` from `url` and verifies it; a part that fails is removed."""
    resumed = part.stat().st_size if part.is_file() else 0
    if resumed < file.size:
        _transfer(url, file, part, resumed, patience)
    algorithm, _, expected = file.checksum.partition(":")
    if _digest(part, algorithm) == expected:
        return
    part.unlink()
    if not resumed:
        raise _Unusable(f"its content is not the official file's ({algorithm.upper()} differs)")
    _fetch(url, file, part, patience)  # the part from before may be what was wrong: once more, from the start


def _transfer(url: str, file: RemoteFile, part: Path, offset: int, patience: Patience) -> None:
    """Appends to `part` the bytes from `offset` on, or all of them where the server ignores Range."""
    headers = {"User-Agent": "pynn", "Accept-Encoding": "identity"} | (
        {"Range": f"bytes={offset}-"} if offset else {}
    )
    with _open(urllib.request.Request(url, headers=headers), patience) as response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                raise _Unusable(f"it answered a request for the bytes from {offset} on with others")
        else:
            offset = 0
        length = response.headers.get("Content-Length")
        if length is not None and offset + int(length) != file.size:
            raise _Unusable(f"it has {offset + int(length):,} bytes, the official file {file.size:,}")
        with _keeping():
            out = part.open("ab" if offset else "wb", buffering=0)
        with out:
            size, mark, mark_time = offset, offset, time.monotonic()
            while size < file.size:
                try:
                    chunk = response.read1(1 << 16)
                except (OSError, http.client.HTTPException) as error:
                    raise _Interrupted(f"it broke off after {size:,} of {file.size:,} bytes: {error}") from error
                if not chunk:
                    raise _Interrupted(f"it broke off after {size:,} of {file.size:,} bytes")
                size += len(chunk)
                with _keeping():
                    while chunk:
                        chunk = chunk[out.write(chunk) :]
                if (elapsed := time.monotonic() - mark_time) >= patience.window:
                    if (speed := (size - mark) / elapsed) < patience.speed:
                        raise _Interrupted(f"it was slow ({speed / 1000:,.1f} kB/s)")
                    mark, mark_time = size, time.monotonic()


@contextmanager
def _keeping() -> Iterator[None]:
    """Turns an OSError of this machine's own files, which is not a mirror's fault, into _Unwritable."""
    try:
        yield
    except OSError as error:
        raise _Unwritable(error.strerror or str(error)) from error


def _open(request: urllib.request.Request, patience: Patience) -> http.client.HTTPResponse:
    """The response, or an OSError after `patience.connect` s.

    In a thread of its own, since a socket's timeout bounds neither the name look-up nor a host's many addresses.
    """
    answer: concurrent.futures.Future = concurrent.futures.Future()

    def connect() -> None:
        try:
            answer.set_result(urllib.request.urlopen(request, timeout=patience.window))
        except urllib.error.HTTPError as error:
            error.close()
            answer.set_exception(error)
        except urllib.error.URLError as error:  # a wrapper around what went wrong
            answer.set_exception(error.reason if isinstance(error.reason, OSError) else error)
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    concurrent.futures.wait([answer], patience.connect)
    if not answer.done():
        answer.add_done_callback(lambda late: late.exception() or late.result().close())
        raise TimeoutError(f"no answer within {patience.connect:g} s")
    return answer.result()


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
