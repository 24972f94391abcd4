"""Owns which files and folders are the system's, not the user's: passed over in training and prediction alike."""

from __future__ import annotations

__all__ = ["is_junk"]

_SYSTEM = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "icon\r", "$recycle.bin", "@eadir"}


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden (.DS_Store, .git) or one that systems leave behind."""
    return name.startswith(".") or name.casefold() in _SYSTEM
