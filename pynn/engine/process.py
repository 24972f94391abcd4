"""Owns the knowledge of whether this process is still the one in which locks were made and threads began."""

import os

__all__ = ["number"]

number = (
    0  # of forks between the first process and this one: asked in every call, where a system call takes too long
)


def _forked() -> None:
    global number
    number += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
