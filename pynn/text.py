"""Owns how foreign text (file names, labels, what a file says) becomes one printable, short line of a message."""

from __future__ import annotations

import os

__all__ = ["clean"]


def clean(value: object, limit: int = 120) -> str:
    r"""`value` as one printable line of at most `limit` characters; what is left out of the middle becomes “…”.

    White space of any kind becomes one space. Control and format characters, lone surrogates and bytes that are no
    UTF-8, as in file names, are written as escapes (`\x1b`, `\xff`). `value` may be text, bytes, a path or
    anything else, of which `str(value)` is shown, or its type where that fails (an integer of too many digits).
    """
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes):
        value = value[: 4 * limit] + value[-4 * limit :] if len(value) > 8 * limit else value
        value = value.decode("utf-8", "backslashreplace")
    try:
        text = str(value)
    except ValueError:
        text = f"a {type(value).__name__} too long to show"
    if len(text) > 16 * limit:  # before each character is looked at
        text = text[: 8 * limit] + text[-8 * limit :]
    text = "".join(c if c.isprintable() else _escaped(c) for c in " ".join(text.split()))
    if len(text) <= limit:
        return text
    end = (limit - 1) // 3
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
